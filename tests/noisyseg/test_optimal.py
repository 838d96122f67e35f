import itertools
import math
import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kinds import KINDS, both, needs_torch, torch

from noisyseg import (
    accuracy,
    accuracy_volume_bounds,
    cross_entropy,
    dice,
    dice_threshold,
    dice_volume_bounds,
    optimal_accuracy,
    optimal_at_volume,
    optimal_dice,
    soft_dice,
)
from noisyseg._core import search as _threshold
from noisyseg._core import walk as _walk
from noisyseg._core.levels import mask_at_least
from noisyseg.optimal import plug_in_bound, regret, threshold_window

# Values with many ties among them, and values that are nobody's neighbour.
values = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False))
marginals = hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, max_side=5), elements=values)
tiny = hnp.arrays(np.float64, st.integers(1, 9), elements=values)
positive = marginals.filter(lambda m: m.sum() > 1e-6)
SIXTEEN = (np.arange(1 << 16)[:, None] >> np.arange(16)) & 1  # every mask of sixteen voxels


def pair(m, seed):
    """Give a soft segmentation of the shape of m: anything between noise and m itself."""
    rng = np.random.default_rng(seed)
    return np.clip(m + rng.normal(scale=rng.choice([0.01, 0.2, 2.0]), size=m.shape), 0, 1)


def listing_3(m):
    """Compute t as the paper's Listing 3 does.

    In more than float64: the rounding of its running sum grows with the number of equal voxels, to 8e-13 for the
    constant image below and to 7e-11 for one of 256^3 voxels.
    """
    psi = np.sort(m.astype(np.float64).reshape(-1))[::-1].astype(np.longdouble)
    return float((2 * np.cumsum(psi) / (psi.sum() + np.arange(1, psi.size + 1))).max() / 2)


def exact_threshold(m):
    """Compute t in rational numbers."""
    psi = sorted((Fraction(float(x)) for x in m.reshape(-1)), reverse=True)
    total, best, partial = sum(psi), Fraction(0), Fraction(0)
    for k, x in enumerate(psi, 1):
        partial += x
        best = max(best, partial / (k + total))
    return best


def all_masks(size):
    return [np.array(bits, dtype=bool) for bits in itertools.product([0, 1], repeat=size)]


def organ(size, n=3, softness=0.04):
    axes = np.meshgrid(*[(np.arange(size) + 0.5) / size - 0.45] * n, indexing="ij", sparse=True)
    return 1 / (1 + np.exp((np.sqrt(sum(x * x for x in axes)) - 0.25) / softness))


@pytest.mark.statement("thm-ce-accuracy", "thm-dice", "def-methods")
def test_hand_computed():
    m = np.array([1.0, 0.5, 0.5, 0.0])
    assert dice_threshold(m) == 0.4  # 1: 2/3, 1 and 2 or 3: 3/4, all three: 4/5
    assert optimal_dice(m).tolist() == [True, True, True, False]
    assert dice_threshold(np.array([0.3])) == pytest.approx(0.3 / 1.3, abs=1e-16)
    assert dice_threshold(np.full((2, 3), 0.25)) == 0.2
    assert optimal_accuracy(m).tolist() == [True, True, True, False]


@pytest.mark.statement("thm-ce-accuracy", "thm-dice", "prop-fixed-volume")
@given(tiny)
@settings(max_examples=40, deadline=None)
def test_exhaustive_search_over_all_masks(m):
    masks = all_masks(m.size)
    best_dice = max(dice(s, m) for s in masks)
    assert 2 * dice_threshold(m) == pytest.approx(best_dice, abs=1e-14)
    assert dice(optimal_dice(m), m) == pytest.approx(best_dice, abs=1e-12)
    assert accuracy(optimal_accuracy(m), m) == pytest.approx(max(accuracy(s, m) for s in masks), abs=1e-14)
    for count in range(m.size + 1):
        s = optimal_at_volume(m, count / m.size)
        assert s.sum() == count
        rivals = [other for other in masks if other.sum() == count]
        assert dice(s, m) == pytest.approx(max(dice(other, m) for other in rivals), abs=1e-14)
        assert accuracy(s, m) == pytest.approx(max(accuracy(other, m) for other in rivals), abs=1e-14)


EIGHTHS = {
    "one voxel": [3],
    "all zero": [0] * 16,
    "all one": [8] * 16,
    "a label": [8, 0, 8, 8, 0, 0],
    "constant": [3] * 16,
    "tie at t = 1/4": [8, *[2] * 8, *[0] * 7],  # 1 = 2 t + 8 t^2
    "tie at t = 1/4 among others": [1, 2, 2, 0, 8, 2, 2, 1, 1, 4, 2, 2, 2, 2, 1, 0],
    "tie at t = 3/8": [8, 8, 8, 3, 3, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    "tie at 1/2": [8, 8, 4, 4, 4, 3, 2, 1, 0, 0, 5, 7, 4, 1, 0, 2],
    **{f"random {seed}": np.random.default_rng(seed).integers(0, 9, 16).tolist() for seed in range(12)},
}


@pytest.mark.statement("thm-ce-accuracy", "thm-dice", "prop-level-sets")
@pytest.mark.parametrize("name", EIGHTHS)
def test_the_optima_among_all_masks_are_those_of_the_theorems(name):
    """In whole numbers, so that ties are ties: the best value and the whole set of the masks that attain it."""
    eighths = np.array(EIGHTHS[name])
    masks = SIXTEEN[: 1 << eighths.size, : eighths.size]
    both, size, soft = masks @ eighths, 8 * masks.sum(axis=1), eighths.sum()
    m = (eighths / 8).reshape({16: (2, 2, 2, 2), 6: (2, 3), 1: (1,)}[eighths.size])

    gain = 2 * both - size  # 8 N (A_m(s) - 1 + v)
    assert accuracy(optimal_accuracy(m), m) == pytest.approx(1 - m.mean() + gain.max() / 8 / m.size, abs=1e-15)
    sure, possible = masks[:, eighths > 4].all(axis=1), ~masks[:, eighths < 4].any(axis=1)
    np.testing.assert_array_equal(gain == gain.max(), sure & possible)
    np.testing.assert_array_equal(optimal_accuracy(m).ravel(), masks[gain == gain.max()].max(axis=0))

    if soft == 0:  # the empty mask alone has Dice 1
        assert dice_threshold(m) == 0.5 and not optimal_dice(m).any()
        return
    k = (both / (size + soft)).argmax()
    t = Fraction(int(both[k]), int(size[k] + soft))
    assert (both * t.denominator <= (size + soft) * t.numerator).all()
    optimal = both * t.denominator == (size + soft) * t.numerator
    above, below = (np.array([relation(Fraction(int(x), 8)) for x in eighths]) for relation in (t.__lt__, t.__gt__))
    np.testing.assert_array_equal(optimal, masks[:, above].all(axis=1) & ~masks[:, below].any(axis=1))
    assert dice_threshold(m) == float(t)
    np.testing.assert_array_equal(optimal_dice(m).ravel(), masks[optimal].max(axis=0))  # the largest of them
    np.testing.assert_array_equal(optimal_dice(m).ravel(), ~below)
    assert optimal.sum() == 2 ** (~above & ~below).sum()


@pytest.mark.parametrize(
    ("name", "t", "ties"),
    [("tie at t = 1/4", 0.25, 8), ("tie at t = 1/4 among others", 0.25, 8), ("tie at t = 3/8", 0.375, 4)],
)
def test_the_cases_above_hold_real_ties(name, t, ties):
    m = np.array(EIGHTHS[name]) / 8
    assert dice_threshold(m) == t and np.count_nonzero(m == t) == ties
    assert dice(m > t, m) == dice(m >= t, m) == 2 * t


@pytest.mark.statement("thm-dice")
@pytest.mark.parametrize("name", [name for name in EIGHTHS if name != "all zero"])
def test_soft_dice_is_best_at_a_mask_and_anything_on_its_ties(name):
    """Soft-Dice is a quotient of affine functions of c, so its extremes are at vertices: the masks."""
    m = np.array(EIGHTHS[name]) / 8
    masks = SIXTEEN[: 1 << m.size, : m.size]
    best, t = (2 * masks @ m / (masks.sum(axis=1) + m.sum())).max(), dice_threshold(m)
    rng = np.random.default_rng(0)
    for _ in range(50):
        c = rng.random(m.size) ** rng.choice([0.1, 1, 10])
        inside = np.where(m == t, c, m > t)
        assert 1 - soft_dice(c, m) <= best + 1e-15
        assert 1 - soft_dice(inside, m) == pytest.approx(best, abs=1e-15)
        wrong = inside.copy()
        wrong[rng.integers(m.size)] = rng.random()
        off = abs(wrong - inside) * abs(m - t)
        assert (1 - soft_dice(wrong, m) < best - 1e-15) == (off.sum() > 1e-14)


@pytest.mark.statement("thm-dice", "prop-level-sets")
@pytest.mark.parametrize("shape", [(16,), (4, 4), (2, 4, 2), (2, 2, 2, 2)])
def test_exhaustive_search_over_sixteen_voxels(shape):
    m = np.random.default_rng(12).random(shape) ** 3
    scores = 2 * SIXTEEN @ m.reshape(-1) / (SIXTEEN.sum(axis=1) + m.sum())
    assert dice_threshold(m) == pytest.approx(scores.max() / 2, abs=1e-15)
    assert optimal_dice(m).reshape(-1).tolist() == SIXTEEN[scores.argmax()].tolist()
    for count in range(1, 17):  # of the masks of one volume that with the largest values is best
        best = scores[SIXTEEN.sum(axis=1) == count].max()
        assert 2 * np.sort(m.reshape(-1))[-count:].sum() / (count + m.sum()) == pytest.approx(best, abs=1e-15)


@pytest.mark.statement("thm-ce-accuracy")
@given(marginals, st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_cross_entropy_is_least_at_the_marginal(m, seed):
    """And by at least twice the squared distance in L1 (Pinsker)."""
    c = pair(m, seed)
    assert cross_entropy(c, m) >= cross_entropy(m, m) + 2 * abs(c - m).mean() ** 2 - 1e-12


@pytest.mark.statement("prop-level-sets")
@given(positive)
@settings(max_examples=100, deadline=None)
def test_dice_rises_and_then_falls_along_the_sorted_voxels(m):
    psi = np.sort(m.reshape(-1))[::-1].astype(np.longdouble)
    k = np.arange(1, psi.size + 1)
    half = np.cumsum(psi) / (k + psi.sum())
    t = dice_threshold(m)
    assert float(half.max()) == pytest.approx(t, abs=1e-15)
    first, last = (m > t + 1e-14).sum(), (m >= t - 1e-14).sum()
    assert (np.diff(half[: max(first, 1)]) > 0).all()
    assert (np.diff(half[max(last - 1, 0) :]) < 0).all()
    np.testing.assert_allclose(half[max(first - 1, 0) : last].astype(float), t, atol=1e-13)


@pytest.mark.statement("thm-dice")
@given(positive)
@settings(max_examples=100, deadline=None)
def test_the_threshold_solves_the_fixed_point_equation(m):
    t = dice_threshold(m)
    assert np.maximum(m - t, 0).mean() == pytest.approx(t * m.mean(), abs=1e-14)


@pytest.mark.statement("thm-window", "thm-dice-volume", "thm-accuracy-volume")
@given(marginals)
@settings(max_examples=150, deadline=None)
def test_window_volumes_and_permutations(m):
    t = dice_threshold(m)
    v = m.mean()
    s_dice, s_accuracy = optimal_dice(m), optimal_accuracy(m)
    assert max(v / (1 + v), dice(s_accuracy, m) / 2) - 1e-15 <= t <= 0.5
    assert t == pytest.approx(float(exact_threshold(m)) if m.any() else 0.5, abs=1e-15)
    assert not (s_accuracy & ~s_dice).any()
    for s, (low, high) in [(s_dice, dice_volume_bounds(v)), (s_accuracy, accuracy_volume_bounds(v))]:
        assert low - 1e-12 <= s.mean() <= high + 1e-12
    window = threshold_window(m)
    if m.any():
        assert window == (pytest.approx(max(v / (1 + v), dice(s_accuracy, m) / 2), abs=1e-15), 0.5)
    assert window[0] <= t + 1e-15 and window[1] == 0.5
    assert s_dice[m > 0.5].all() and not s_dice[m < window[0] - 1e-15].any()
    moved = np.random.default_rng(0).permutation(m.size)
    assert dice_threshold(m.reshape(-1)[moved]) == pytest.approx(t, abs=1e-15)
    np.testing.assert_array_equal(optimal_dice(m.reshape(-1)[moved]), s_dice.reshape(-1)[moved])
    assert regret(s_dice, m) < 1e-14
    assert 0 <= regret(s_accuracy, m) <= 1


@given(marginals, st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_only_the_distribution_of_the_values_matters(m, times):
    """Finer voxels of the same values change nothing."""
    finer = m
    for axis in range(m.ndim):
        finer = finer.repeat(times, axis)
    assert dice_threshold(finer) == pytest.approx(dice_threshold(m), abs=1e-15)
    assert threshold_window(finer) == pytest.approx(threshold_window(m), abs=1e-15)
    c = pair(m, times)
    for axis in range(m.ndim):
        c = c.repeat(times, axis)
    assert regret(c, finer) == pytest.approx(regret(pair(m, times), m), abs=1e-14)
    assert plug_in_bound(c, finer) == pytest.approx(plug_in_bound(pair(m, times), m), abs=1e-14)


def test_both_ends_of_the_window_are_attained():
    for v in (0.125, 0.5, 0.75):  # a constant image: all of it is best
        m = np.full((4, 4), v)
        low = v / (1 + v) if v < 0.5 else 0.5 * dice(np.ones((4, 4)), m)
        assert threshold_window(m) == (pytest.approx(low, abs=1e-16), 0.5)
        assert dice_threshold(m) == pytest.approx(low, abs=1e-16)
    label = np.array([1.0, 0.0, 1.0])
    assert threshold_window(label) == (0.5, 0.5) == (dice_threshold(label), 0.5)
    assert threshold_window(np.zeros(3)) == (0.5, 0.5)


@pytest.mark.statement("prop-newton")
@given(positive, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@settings(max_examples=100, deadline=None)
def test_newton_rises_to_the_threshold(m, u):
    """In whole numbers of 2^-20: every statement about the iteration, without rounding."""
    values = sorted((Fraction(round(float(x) * 2**20), 2**20) for x in m.reshape(-1)), reverse=True)
    v = sum(values)
    assume(v > 0)
    t = max(sum(values[:k]) / (k + v) for k in range(1, len(values) + 1))
    assert dice_threshold(np.array(values, dtype=float)) == pytest.approx(float(t), abs=1e-15)

    def mask(u):
        above = [x for x in values if x >= u]
        return sum(above), len(above) + v

    def phi(u):
        return mask(u)[0] - u * mask(u)[1]

    u, steps = Fraction(u), []
    start = phi(u) * mask(u)[1]
    while u != t:
        above, weight = mask(u)
        step = above / weight  # half the Dice of the mask m >= u
        assert step == u - phi(u) / -weight  # Newton's step, with the slope to the left of u
        assert step <= t and (step > u if u < t else step < u)
        if steps or u < t:
            assert mask(step) == mask(u) or (mask(step)[1] < weight)
            assert phi(step) * weight + mask(step)[1] * phi(u) <= phi(u) * weight
            assert (t - u) * mask(t)[1] ** 2 <= start / 4 ** len(steps)
        else:
            start = 4 * phi(step) * mask(step)[1]  # the first step came from above
        steps.append(step)
        u = step
    assert len(steps) <= len({x for x in values if x < t}) + 2
    for grid in range(20):  # convex and decreasing
        a, b = Fraction(grid, 20), Fraction(grid + 1, 20)
        assert phi(a) > phi(b) and 2 * phi((a + b) / 2) <= phi(a) + phi(b)
        assert phi(a) == sum(max(x - a, 0) for x in values) - a * v
        if 0 < a < t:
            error = mask(a)[0] / mask(a)[1] / a - 1
            assert 0 <= t - a <= error


@pytest.mark.statement("prop-regret")
@given(positive, st.integers(0, 99), st.sampled_from([0.05, 0.3, 0.5, 0.9]))
@settings(max_examples=150, deadline=None)
def test_regret_identity_and_calibration(m, seed, alpha):
    v, t = m.mean(), dice_threshold(m)
    c = pair(m, seed)
    s = c >= alpha
    for x in (c, s):
        integral = (abs(m - t) * np.where(m > t, 1 - x, np.where(m < t, x, 0.0))).mean()
        assert regret(x, m) == pytest.approx(2 * integral / (x.mean() + v), abs=1e-14)
    assert regret(s, m) == pytest.approx(2 * t - dice(s, m), abs=1e-14)
    factor = max(1 / alpha, 1 / (1 - alpha)) * (c.mean() + v) / (s.mean() + v)
    assert regret(s, m) <= factor * regret(c, m) + 1e-13
    assert regret(s, m) <= max(1 / alpha, 1 / (1 - alpha)) * (1 + v) / v * regret(c, m) + 1e-13


@pytest.mark.statement("prop-newton")
def test_the_error_after_rounding_is_absolute():
    """A threshold that is accepted to a relative error e of the quotient is off by e/weight at most, but not by e t."""
    v, eta = Fraction(1, 1000), Fraction(1, 10**6)
    core = v * v * (1 + eta)  # all but a tie between this core of ones and the whole image
    u = (v - core) / (1 - core)
    e, t = v / (1 + v) / u - 1, core / (core + v)
    assert 0 < t - u <= e and (t - u) / u > 900 * e
    rng = np.random.default_rng(3)
    for weight in (0.04, 0.5, 3.0):
        for _ in range(50):
            m = rng.random(40) ** rng.uniform(0.3, 5)
            t, total = _threshold.supremum(m, weight), weight * m.sum()
            for u in m[m < t]:
                e = m[m >= u].sum() / ((m >= u).sum() + total) / u - 1
                assert 0 <= t - u <= e / weight + 1e-15


@pytest.mark.statement("prop-wrong-threshold")
@given(positive, st.floats(0.01, 1))
@settings(max_examples=100, deadline=None)
def test_what_a_wrong_threshold_loses(m, u):
    s, t = m >= u, dice_threshold(m)
    between = abs(m - t) * ((m >= min(t, u)) & (m < max(t, u)))
    lost = 2 * between.mean() / (s.mean() + m.mean())
    assert regret(s, m) == pytest.approx(lost, abs=1e-14)
    assert lost <= 2 * abs(u - t) * (between > 0).mean() / (s.mean() + m.mean()) + 1e-14


@pytest.mark.statement("prop-wrong-threshold")
def test_the_loss_is_quadratic_where_the_values_have_a_density():
    m = (np.arange(200_000) + 0.5) / 200_000  # of density 1: t^2 = 3 t - 1
    t = (3 - math.sqrt(5)) / 2
    assert dice_threshold(m) == pytest.approx(t, abs=1e-9)
    for u in (0.1, 0.3, 0.37, 0.4, 0.5, 0.8):
        assert regret(m >= u, m) == pytest.approx((u - t) ** 2 / (1.5 - u), abs=1e-5)


@pytest.mark.statement("prop-threshold-error")
@given(positive, st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_the_threshold_of_an_estimate_is_not_far_off(m, seed):
    c = pair(m, seed)
    assume(c.any())
    t = {"m": exact_threshold(m), "c": exact_threshold(c)}
    x, threshold = (m, t["m"]) if t["m"] >= t["c"] else (c, t["c"])
    exact = [[Fraction(float(value)) for value in y.reshape(-1)] for y in (m, c, x)]
    away = sum(abs(a - b) for a, b in zip(*exact[:2], strict=True))
    size = sum(exact[2]) + sum(value >= threshold for value in exact[2])
    assert abs(t["m"] - t["c"]) <= away * (1 - min(t.values())) / size


@pytest.mark.statement("prop-threshold-error")
def test_the_error_of_the_threshold_is_attained():
    m = np.array([1.0, 1.0, 0.0])
    for factor in (0.9, 0.5, 0.1):
        c = factor * m
        low = dice_threshold(c)
        assert 0.5 - low == pytest.approx(abs(m - c).sum() * (1 - low) / (2 + 2), abs=1e-15)


def ratio_of_losses(m, p, smallest):
    """Compute what is lost by the best mask for p over |m - p| / (|m| + min(|s*|, |s_p|)), in fractions."""
    masks = all_masks(len(m))[1:]

    def score(s, x):
        return 2 * sum(y for y, taken in zip(x, s, strict=True) if taken) / (int(s.sum()) + sum(x))

    best = {name: max(score(s, x) for s in masks) for name, x in (("m", m), ("p", p))}
    found = {name: [s for s in masks if score(s, x) == best[name]] for name, x in (("m", m), ("p", p))}
    pick = min if smallest else max
    worst = min(found["p"], key=lambda s: score(s, m))
    both = min(int(worst.sum()), pick(int(s.sum()) for s in found["m"]))
    return (best["m"] - score(worst, m)) * (sum(m) + both) / sum(abs(x - y) for x, y in zip(m, p, strict=True))


@pytest.mark.statement("prop-plug-in")
@pytest.mark.parametrize("smallest", [True, False])
def test_the_sharper_bound_in_fractions(smallest):
    rng, largest = np.random.default_rng(5), Fraction(0)
    for _ in range(400):
        m, p = ([Fraction(int(x), 8) for x in row] for row in rng.integers(0, 9, (2, 5)))
        if sum(m) and sum(p) and m != p:
            largest = max(largest, ratio_of_losses(m, p, smallest))
    assert 1 < largest <= 2


@pytest.mark.statement("prop-plug-in")
def test_the_constant_two_cannot_be_improved():
    """A core, a small part that is taken to be doubtful, and a thin halo of total probability w that is known."""
    ratios = {}
    for w in (1, 4, 16, 64):
        core, part, halo = 2000, 1, 400_000
        low = 1 / (2 + w) - 1e-4
        m = np.repeat([1.0, 1.0, w * core / halo], [core, part, halo])
        p = np.repeat([1.0, low, w * core / halo], [core, part, halo])
        if w * core / halo < low:
            assert optimal_dice(p).sum() == core
            ratios[w] = regret(optimal_dice(p), m) / plug_in_bound(p, m)
            assert ratios[w] == pytest.approx((1 + w) / (2 + w), rel=2e-3)
    assert len(ratios) >= 2 and max(ratios.values()) > 0.8


@pytest.mark.statement("prop-plug-in")
def test_the_expected_loss_with_few_raters():
    """All ways to draw R of six labels, in which the voxels depend on each other."""
    labels = np.array(
        [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]]
    )
    m = labels.mean(axis=0)
    lost = {}
    for raters in (1, 2, 3):
        means = [labels[list(k)].mean(axis=0) for k in itertools.product(range(6), repeat=raters)]
        lost[raters] = np.mean([regret(optimal_dice(p), m) for p in means])
        assert 0 < lost[raters] <= 2 / m.mean() * np.sqrt(m * (1 - m) / raters).mean()
    assert lost[3] < lost[1]


@pytest.mark.statement("prop-plug-in", "cor-cross-entropy")
@given(positive, st.integers(0, 99), st.integers(0, 30))
@settings(max_examples=150, deadline=None)
def test_an_estimate_loses_no_more_than_the_bound(m, seed, background):
    p = pair(m, seed)
    bound = plug_in_bound(p, m)
    assert bound == pytest.approx(min(1, 2 * abs(m - p).sum() / m.sum()), abs=1e-12)
    assert regret(optimal_dice(p), m) <= bound + 1e-14
    smaller = p > dice_threshold(p)  # the smallest of the masks that are best for p
    assert not smaller.any() or regret(smaller, m) <= bound + 1e-12
    for x, y in ((p, m), (np.pad(p, background), np.pad(m, background))):
        v, excess = y.mean(), max(cross_entropy(x, y) - cross_entropy(y, y), 0)
        for factor in (0.5, 2 * (v + x.mean())):
            if math.isfinite(excess):
                assert bound <= 2 / v * math.sqrt(factor * excess) + 1e-6 / v


@pytest.mark.statement("cor-cross-entropy")
def test_the_second_bound_ignores_the_background_and_the_first_does_not():
    m, c = np.array([0.9, 0.6, 0.2]), np.array([0.7, 0.6, 0.3])
    bounds = []
    for background in (0, 100, 10_000):
        x, y = np.pad(c, (0, background)), np.pad(m, (0, background))
        excess = cross_entropy(x, y) - cross_entropy(y, y)
        bounds.append([2 / y.mean() * math.sqrt(factor * excess) for factor in (0.5, 2 * (y.mean() + x.mean()))])
    first, second = np.transpose(bounds)
    assert second == pytest.approx(second[0], rel=1e-6) and second[0] >= regret(optimal_dice(c), m)
    assert first[0] < second[0] < first[1] < first[2] / 5


def test_the_plug_in_bound_by_hand():
    m = np.array([[1.0, 0.5], [0.5, 0.0]])
    assert plug_in_bound(m, m) == 0.0
    assert plug_in_bound(np.array([[1.0, 0.5], [0.5, 0.25]]), m) == 0.25
    assert plug_in_bound(1 - m, m) == 1.0  # never more than a loss can be
    assert plug_in_bound(np.zeros(3), np.zeros(3)) == 0.0
    assert plug_in_bound(np.ones(3), np.zeros(3)) == 1.0


def sigmoid(f):
    return 1 / (1 + np.exp(-np.asarray(f, dtype=float)))


@pytest.mark.statement("prop-logits")
def test_soft_dice_has_no_stationary_logits():
    rng = np.random.default_rng(9)
    for k in range(200):
        m, f = rng.random(6) ** rng.uniform(0.2, 4), rng.normal(scale=3, size=6)
        if k % 4 == 0:
            m[:] = m[0]  # a constant marginal has none either
        c = sigmoid(f)
        tau = (1 - soft_dice(c, m)) / 2
        slope = -2 / (c.mean() + m.mean()) * (m - tau) * c * (1 - c) / m.size
        steps = 1e-5 * np.eye(6)
        measured = [(soft_dice(sigmoid(f + d), m) - soft_dice(sigmoid(f - d), m)) / 2e-5 for d in steps]
        np.testing.assert_allclose(measured, slope, atol=1e-8)
        assert m.max() > tau and slope[m.argmax()] < 0  # raising the largest value always helps


@pytest.mark.statement("prop-logits")
def test_soft_dice_is_quasi_linear_in_the_output_and_cross_entropy_convex_in_the_logits():
    rng = np.random.default_rng(10)
    for _ in range(200):
        m, (c, d), (f, g) = rng.random(5), rng.random((2, 5)), rng.normal(scale=4, size=(2, 5))
        steps = np.diff([soft_dice((1 - x) * c + x * d, m) for x in np.linspace(0, 1, 9)])
        assert (steps <= 1e-15).all() or (steps >= -1e-15).all()
        ends = [cross_entropy(sigmoid(x), m) for x in (f, g, (f + g) / 2)]
        assert ends[2] <= (ends[0] + ends[1]) / 2 + 1e-12


@pytest.mark.statement("prop-logits")
@pytest.mark.parametrize(
    ("m", "f", "g"),
    [
        ([0.9, 0.4, 0.0], [5, -20, -20], [-20, 5, -20]),  # two voxels with m > 0
        ([0.7, 0.0, 0.0], [math.log(1.7e-4), 20, -20], [math.log(0.7e-4), -20, -20]),  # one alone
    ],
)
def test_soft_dice_is_not_quasi_convex_in_the_logits(m, f, g):
    f, g, m = np.array(f), np.array(g), np.array(m)
    scores = [1 - soft_dice(sigmoid(x), m) for x in (f, g, (f + g) / 2)]
    assert scores[2] < 0.95 * min(scores[:2])


@pytest.mark.statement("prop-asymptotic")
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.95])
def test_thresholding_a_sequence_that_approaches_the_least_soft_dice(alpha):
    rng = np.random.default_rng(4)
    m = organ(24, softness=0.1)
    t, direction = dice_threshold(m), rng.random(m.shape)
    losses, regrets = [], []
    for k in range(1, 13):
        c = np.clip((m > t) + (direction - 0.5) * 4 / 2**k, 0, 1)  # far from the optimum, then towards it
        losses.append(regret(c, m))
        regrets.append(regret(c >= alpha, m))
    assert losses[0] > 0.1 and losses[-1] < 1e-3 and regrets[-1] < 1e-12
    bound = max(1 / alpha, 1 / (1 - alpha)) * (1 + m.mean()) / m.mean()
    assert all(r <= bound * loss for r, loss in zip(regrets, losses, strict=True))
    # No fixed threshold, no promise: with alpha_k = 1/k everything below it stays in.
    soft = [np.where(m > t, 1.0, 1 / k) for k in (10, 1000)]
    assert regret(soft[1], m) < 0.01 < regret(soft[0], m)
    assert regret(soft[1] >= 1 / 1000, m) == regret(np.ones(m.shape), m) > 0.1


LARGE = {
    "organ": lambda r: organ(64),
    "network": lambda r: np.clip(organ(64, softness=0.1) + r.normal(scale=0.05, size=(64,) * 3), 0, 1),
    "uniform": lambda r: r.random((500, 500)),
    "low": lambda r: r.random(300_000) * 0.02,
    "tiny values": lambda r: r.random(100_000) * 1e-30,
    "one voxel": lambda r: np.eye(1, 300_000, 777),
    "one faint voxel": lambda r: np.eye(1, 300_000, 777) * 0.3,
    "constant": lambda r: np.full(200_000, 0.3),
    "all one": lambda r: np.ones((300, 300)),
    "few levels": lambda r: r.integers(0, 6, size=(80, 80, 80)) / 5,
    "tie at t": lambda r: np.where(np.arange(400_000) < 36_000, 1.0, 0.3 / 1.3),
    "unlike its sample": lambda r: np.where(np.arange(400_000) % 20 == 0, 1.0, r.random(400_000) ** 20),
}


@pytest.fixture
def as_large(monkeypatch):
    """Treat every image as one that is too large to copy."""
    monkeypatch.setattr(_threshold, "SMALL", 0)


@pytest.mark.parametrize("small", [0, 1 << 30])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", LARGE)
def test_large_images_agree_with_listing_3(name, dtype, small, monkeypatch):
    monkeypatch.setattr(_threshold, "SMALL", small)
    m = LARGE[name](np.random.default_rng(8)).astype(dtype)
    expected = listing_3(m) if m.any() else 0.5
    assert abs(dice_threshold(m) - expected) <= 1e-12
    assert dice(optimal_dice(m), m) == pytest.approx(2 * expected, abs=1e-12)
    for x in both(m)[1:]:
        assert dice_threshold(x) == dice_threshold(m)
        np.testing.assert_array_equal(optimal_dice(x).numpy(), optimal_dice(m))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1000, 1025, 4096, 4097, 9000, 70_000])
def test_small_images_agree_with_sorting_for_every_weight(size, dtype):
    """The first level is a bound from below: of sparse, soft, faint and all but equal values, just above it or not."""
    rng = np.random.default_rng(size)
    near = np.where(np.arange(size) < size // 30, rng.uniform(0.4, 0.43, size), 0.0)
    faint = np.where(np.arange(size) < size // 30, 3e-23 if dtype != np.float16 else 3e-7, 0.0)
    for m in (near, faint, rng.random(size), rng.random(size) ** 30, np.full(size, 0.3), rng.random(size) < 0.02):
        m = m.astype(dtype)
        falling = np.sort(m)[::-1].astype(np.longdouble)
        for weight in (1e-6, 0.25, 1.0, 9.0):
            expected = (np.cumsum(falling) / (np.arange(1, size + 1) + weight * falling.sum())).max()
            assert _threshold.supremum(m, weight) == pytest.approx(float(expected), rel=1e-13 / min(weight, 1))


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("guess", [(0.05, 0.06), (0.49, 0.5), (0.25, 0.25), (0.0, 0.75)])
def test_a_wrong_guess_costs_time_only(name, guess, as_large, monkeypatch):
    m = LARGE[name](np.random.default_rng(9))
    expected = listing_3(m)
    monkeypatch.setattr(_threshold, "_guess", lambda m, weight: guess)
    assert abs(dice_threshold(m) - expected) <= 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LARGE)
def test_shared_between_threads_bit_by_bit(name, dtype, as_large, monkeypatch):
    m = LARGE[name](np.random.default_rng(2)).astype(dtype)
    monkeypatch.setattr(_walk, "BLOCK", 1 << 14)
    monkeypatch.setattr(_walk, "CHUNK", 1 << 17)
    monkeypatch.setattr(_walk, "SHARED", m.size + 1)
    low, high = _threshold._guess(m, 1.0)
    alone, (*numbers, window) = dice_threshold(m), _walk.walk(m, low, high, m.size)
    monkeypatch.setattr(_walk, "SHARED", 1)
    for cores in (2, 3, 8):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert dice_threshold(m) == alone
        *shared, values = _walk.walk(m, low, high, 8 * m.size)
        assert shared == numbers
        np.testing.assert_array_equal(np.sort(values), np.sort(window))
    assert dice_threshold(np.asfortranarray(m)) == pytest.approx(alone, abs=1e-15)


@pytest.mark.parametrize("value", [np.nan, -0.25, 1.5, -np.inf])
def test_a_wrong_value_is_found_by_whichever_thread(value, monkeypatch):
    monkeypatch.setattr(_walk, "CHUNK", _walk.BLOCK)
    monkeypatch.setattr(_walk, "SHARED", 1)
    for place in (0, 700_000, 999_999):
        m = np.random.default_rng(3).random(1_000_000).astype(np.float32)
        m[place] = value
        with pytest.raises(ValueError, match=rf"m \(shape \(1000000,\)\): expected values in .*, found {value}"):
            dice_threshold(m)
    m[-1] = -0.0  # is zero, though its bits are larger than those of 1
    without = m.copy()
    without[-1] = 0.0
    assert dice_threshold(m) == dice_threshold(without)


def test_one_walk_is_enough_for_a_good_guess(as_large, monkeypatch):
    walks = []
    monkeypatch.setattr(_threshold, "walk", lambda *a: walks.append(1) or _walk.walk(*a))
    dice_threshold(LARGE["network"](np.random.default_rng(1)))
    assert len(walks) == 1


@pytest.mark.parametrize("name", LARGE)
@needs_torch
def test_the_path_of_other_devices(name, monkeypatch):
    """The code for accelerators, run on tensors in main memory, in several blocks."""
    m = LARGE[name](np.random.default_rng(10))
    expected = dice_threshold(m)
    monkeypatch.setattr("noisyseg._core.images.host_view", lambda x: x)
    monkeypatch.setattr(_threshold, "DEVICE_BLOCK", 50_000)
    assert dice_threshold(torch.from_numpy(m)) == pytest.approx(expected, abs=1e-14)
    assert dice_threshold(torch.zeros(3, 4)) == 0.5
    with pytest.raises(ValueError, match=r"m \(shape \(2,\)\): expected values in \[0, 1\], found nan"):
        dice_threshold(torch.tensor([0.5, torch.nan]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float16, np.float32, np.float64])
def test_labels_and_empty_marginals(kind, dtype):
    label = kind((np.arange(24).reshape(2, 3, 4) % 5 == 0).astype(dtype))
    for m in (
        label,
        label * 0 if dtype is not bool else label & False,
        label | True if dtype is bool else label * 0 + 1,
    ):
        assert dice_threshold(m) == 0.5
        for s in (optimal_dice(m), optimal_accuracy(m)):
            assert type(s) is type(m) and str(s.dtype).endswith("bool")
            assert bool((s == (m != 0)).all())
    assert regret(kind(np.zeros(4)), kind(np.zeros(4))) == 0
    assert regret(kind(np.eye(4)), kind(np.zeros((4, 4)))) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_window_regret_and_bound_of_every_kind_and_layout(kind, dtype):
    rng = np.random.default_rng(6)
    m, c = (rng.random((2, 20, 30)) ** np.array([3, 1]).reshape(2, 1, 1)).astype(dtype)
    for view in (lambda x: x, lambda x: x.T, lambda x: x[::2, 3:28:5]):
        x, y = view(kind(m)), view(kind(c))
        exact_x, exact_y = (np.ascontiguousarray(view(z)).astype(np.float64) for z in (m, c))
        v, both = exact_x.mean(), exact_x.mean() + exact_y.mean()
        low = max(v / (1 + v), dice(exact_x >= 0.5, exact_x) / 2)
        assert threshold_window(x) == (pytest.approx(low, abs=1e-15), 0.5)
        assert regret(y, x) == pytest.approx(2 * (listing_3(exact_x) - (exact_x * exact_y).mean() / both), abs=1e-14)
        assert plug_in_bound(y, x) == pytest.approx(min(1, 2 * abs(exact_x - exact_y).mean() / v), abs=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_masks_compare_in_float64(dtype):
    """A voxel just below 0.4 is below it in its own dtype too, where 0.4 itself cannot be written."""
    m = np.array([1.0, 0.5, 0.5, 0.0], dtype=dtype)
    assert dice_threshold(m) == 0.4
    near = np.array([np.nextafter(dtype(0.4), dtype(0)), dtype(0.4), np.nextafter(dtype(0.4), dtype(1))], dtype=dtype)
    for x in both(near):
        np.testing.assert_array_equal(np.asarray(mask_at_least(x, 0.4)), near.astype(np.float64) >= 0.4)
    levels = np.array([[0.4], [0.3], [0.5]])  # of three images
    expected = near.astype(np.float64) >= levels
    for x, t in zip(both(near), both(levels), strict=True):
        np.testing.assert_array_equal(np.asarray(mask_at_least(x, t)), expected)


@needs_torch
def test_bfloat16_and_gradients():
    m = torch.rand(40, 50, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16).requires_grad_()
    t = dice_threshold(m)
    assert abs(t - listing_3(m.detach().double().numpy())) < 1e-12
    assert torch.equal(optimal_dice(m), m.detach().double() >= t)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4", ">f2"])
def test_layout_and_byte_order_do_not_matter(dtype):
    m = np.random.default_rng(3).random((50, 60, 70)).astype(dtype)
    parts = m[::2, ::-1, 5:60:3]
    for x in (m, m.T, np.asfortranarray(m), parts, parts.transpose(1, 0, 2)):
        assert abs(dice_threshold(x) - listing_3(x)) <= 1e-14
        np.testing.assert_array_equal(optimal_dice(x), np.ascontiguousarray(x).astype(np.float64) >= dice_threshold(x))


def test_exact_values_give_an_exact_threshold():
    """Sums of few bits are exact, whatever level the window ends at: 3 of 3 + 4 * 3 voxels for F_2."""
    m = np.array([1.0, 0, 1, 1, 0, 0])
    for weight in (0.25, 1.0, 2.0, 4.0, 9.0):
        assert _threshold.supremum(m, weight) == 1 / (1 + weight)
        assert _threshold.supremum(np.tile(m, 50_000), weight) == 1 / (1 + weight)


def test_negative_zero_is_zero():
    for dtype in (np.float16, np.float32, np.float64):
        assert dice_threshold(np.array([1.0, 0.5, 0.5, -0.0], dtype=dtype)) == 0.4
        assert not optimal_dice(np.array([-0.0, -0.0], dtype=dtype)).any()


@pytest.mark.parametrize("value", [5e-324, 1e-310, 1e-200, 1e-17])
def test_the_smallest_numbers_are_not_lost(value):
    for m in (np.array([value, 0.0, value, value]), np.full(1000, value), np.eye(1, 1000) * value):
        assert 0 < dice_threshold(m) <= m.max()
        np.testing.assert_array_equal(optimal_dice(m), m > 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("m", "found"),
    [
        ([0.5, np.nan], "found nan"),
        ([np.inf, 0.5], "found inf"),
        ([0.5, -np.inf], "found -inf"),
        ([0.5, -0.25], "found -0.25"),
        ([1.5, 0.5], "found 1.5"),
        ([], r"m: expected at least one voxel, got an empty array of shape \(0,\)"),
    ],
)
def test_bad_marginals(kind, dtype, m, found):
    m = kind(np.array(m, dtype=dtype))
    rules = [dice_threshold, optimal_dice, optimal_accuracy, threshold_window, lambda x: optimal_at_volume(x, 0.5)]
    if len(m):
        rules += [lambda x: regret(x > 2, x), lambda x: plug_in_bound(x > 2, x)]
    for rule in rules:
        with pytest.raises(ValueError, match=found) as error:
            rule(m)
        assert str(error.value).startswith("m")
