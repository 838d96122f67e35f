"""Intervals and tests by hand, against SciPy, and how often they hold what is true."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reproduction.scoring.inference import Estimate, estimate, holm, ratio, slopes


def test_without_groups_it_is_the_t_interval_of_the_textbook():
    values = np.random.default_rng(1).beta(5, 2, size=30)
    found = estimate(values)
    reference = stats.ttest_1samp(values, 0.6)
    assert found.mean == pytest.approx(values.mean()) and found.errors[0][1] == 29
    assert found.interval == pytest.approx(tuple(reference.confidence_interval(0.95)), abs=1e-12)
    assert found.p(0.6) == pytest.approx(reference.pvalue, abs=1e-12)


def test_two_groups_by_hand():
    """Means .2 and .5 of groups of 1 and 2: z = -.2 / 3, .2 / 3; SE^2 = 2 (.04 + .04) / 9, one degree of freedom."""
    found = estimate([0.2, 0.4, 0.6], ["x", "y", "y"])
    error = math.sqrt(2 * 2 * 0.04 / 9)
    assert found.errors == ((pytest.approx(error), 1),)
    half = stats.t.ppf(0.975, 1) * error
    assert found.interval == pytest.approx((0.4 - half, 0.4 + half))


def test_equal_groups_give_the_t_interval_of_their_means():
    values = np.random.default_rng(2).normal(size=(5, 7))
    found = estimate(values.ravel(), np.repeat(range(5), 7))
    reference = stats.ttest_1samp(values.mean(axis=1), 0)
    assert found.interval == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.p() == pytest.approx(reference.pvalue)


def test_of_two_groupings_the_wider_interval_and_the_larger_p_count():
    values = np.random.default_rng(3).normal(0.3, 1, size=40)
    persons, folds = np.repeat(range(20), 2), np.tile(range(5), 8)
    both, one, other = (estimate(values, *groups) for groups in ((persons, folds), (persons,), (folds,)))
    assert both.errors == (*one.errors, *other.errors)
    assert both.interval in (one.interval, other.interval)
    assert np.diff(both.interval) == max(np.diff(one.interval), np.diff(other.interval))
    assert both.p() == max(one.p(), other.p()) and both.p_alike(0.5) == max(one.p_alike(0.5), other.p_alike(0.5))


def test_a_single_fold_says_nothing_and_the_persons_count():
    values = [0.1, 0.4, 0.3]
    assert estimate(values, ["x", "y", "z"], [0, 0, 0]) == estimate(values)


def test_two_one_sided_tests_by_hand():
    """Mean .001, SE .002, 100 degrees of freedom: the nearer margin is .004 away, two standard errors."""
    found = Estimate(0.001, ((0.002, 100),))
    assert found.p_alike(0.005) == pytest.approx(stats.t.sf(2, 100)) and found.p_alike(0.001) == pytest.approx(0.5)
    assert Estimate(-0.001, found.errors).p_alike(0.005) == found.p_alike(0.005)
    assert found.p_alike(0.0005) > 0.5, "outside the margin nothing is equivalent"
    assert found.p_above(-0.003) == pytest.approx(stats.t.sf(2, 100)) == found.p_below(0.005)
    assert found.p_above() + found.p_below() == pytest.approx(1) and found.p() == pytest.approx(2 * found.p_above())


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3], [0.0] * 7, [0.1 + 0.2, 0.3], [1.0] * 6 + [np.nextafter(1, 0)]])
def test_equal_values_have_an_interval_of_no_length(values):
    found = estimate(values)
    assert found.interval == (found.mean, found.mean) and found.mean == pytest.approx(values[0])
    sure = len(values) > 1
    assert found.p(0.7) == (0.0 if sure else 1.0) and found.p(found.mean) == 1.0
    assert found.p_alike(2.0) == (0.0 if sure else 1.0), "one case proves nothing"


@settings(max_examples=50)
@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=12), st.floats(0.1, 10), st.floats(-2, 2))
def test_the_interval_follows_scale_shift_and_mirror(numbers, scale, shift):
    values = np.array(numbers) / 1000
    groups = np.arange(len(values)) % 3
    plain, moved = estimate(values, groups), estimate(scale * values + shift, groups)
    np.testing.assert_allclose(moved.interval, scale * np.array(plain.interval) + shift, atol=1e-9)
    mirrored = estimate(-values, groups)
    np.testing.assert_allclose(mirrored.interval, -np.array(plain.interval)[::-1], atol=1e-12)


def test_intervals_hold_the_truth_where_folds_and_persons_vary():
    """Five folds with a chance of their own, pairs of cases of one person: 95 % hold, where single cases give 60 %."""
    rng = np.random.default_rng(0)
    person, fold = np.repeat(range(50), 2), np.repeat(range(5), 20)
    hits = np.zeros(2)
    for _ in range(1000):
        values = 0.5 * rng.normal(size=5)[fold] + rng.normal(size=50)[person] + rng.normal(size=100)
        for k, found in enumerate((estimate(values, person, fold), estimate(values))):
            hits[k] += found.interval[0] <= 0 <= found.interval[1]
    assert 930 <= hits[0] <= 975 and hits[1] < 750


def test_a_ratio_is_fiellers_for_a_sure_denominator():
    """With a constant denominator the ratio is a mean, and so is its interval."""
    above = np.array([0.3, 0.5, 0.4, 0.8])
    found, mean = ratio(above, [2.0] * 4), estimate(above / 2)
    assert found.mean == pytest.approx(mean.mean) and found.interval == pytest.approx(mean.interval)


def test_the_ratio_holds_the_truth():
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(500):
        below = rng.normal(1, 0.5, size=60)
        low, high = ratio(0.7 * below + rng.normal(0, 0.3, size=60), below).interval
        hits += low <= 0.7 <= high
    assert 460 <= hits <= 492


def test_a_ratio_to_what_may_be_nothing_is_refused():
    with pytest.raises(ValueError, match=r"the denominator is 0\.05 \[-.*it may be 0"):
        ratio([0.1, 0.2, 0.3, 0.4], [-0.1, 0.2, -0.1, 0.2])


def test_slopes_are_those_of_least_squares():
    levels, values = np.array([0.01, 0.02, 0.03]), np.random.default_rng(5).normal(size=(4, 3))
    expected = [np.polyfit(levels, row, 1)[0] for row in values]
    np.testing.assert_allclose(slopes(values, levels), expected, rtol=1e-10)
    with pytest.raises(ValueError, match="at least two different numbers"):
        slopes(values, [0.01, 0.01, 0.01])


def test_holm_by_hand():
    """Sorted .01, .02, .03, .5 times 4, 3, 2, 1 are .04, .06, .06, .5."""
    assert holm([0.5, 0.02, 0.01, 0.03]).tolist() == pytest.approx([0.5, 0.06, 0.04, 0.06])
    assert holm([0.4, 0.9]).tolist() == pytest.approx([0.8, 0.9]) and holm([]).tolist() == []


@pytest.mark.parametrize("values", [[], [0.1, np.nan], [np.inf, 0.0], [[0.1, 0.2]], 0.5], ids=repr)
def test_values_that_have_no_mean(values):
    with pytest.raises(ValueError, match=r"values have shape \(.*\); expected one axis of at least one finite number"):
        estimate(values)


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match="groups name 2 cases; expected 3"):
        estimate([1.0, 2.0, 3.0], [0, 1])
