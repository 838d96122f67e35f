"""Tests of reproduction.data.volume_ratios: by hand, against all masks, and the bounds of R raters."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import noisyseg as ns
from reproduction.data.volume_ratios import count_votes, paper_ratios, volume_ratios

VOTES = st.integers(2, 6).flatmap(
    lambda raters: st.tuples(st.just(raters), st.lists(st.integers(0, 40), min_size=raters, max_size=raters))
)


def exact(votes: list[int], raters: int, u: Fraction | None = None) -> tuple[Fraction, Fraction]:
    """Give t and the volume of {m >= u} over v in whole numbers; u = t where none is given."""
    mass = sum(k * n for k, n in enumerate(votes, 1))
    above = [(sum(votes[k:]), sum(j * n for j, n in enumerate(votes, 1) if j > k)) for k in range(len(votes))]
    t = max(Fraction(inside, raters * voxels + mass) for voxels, inside in above if voxels)
    level = t if u is None else u
    return t, Fraction(raters * sum(n for k, n in enumerate(votes, 1) if k >= raters * level), mass)


def test_by_hand():
    """Two voxels with one vote of two, three with both: v = 4, t = max(3/7, 4/9)."""
    found = volume_ratios([2, 3], raters=2)
    assert found["expected"] == pytest.approx(4) and found["union"] == 5
    assert found["threshold"] == pytest.approx(4 / 9)
    assert (found["accuracy_ratio"], found["strict_accuracy_ratio"], found["dice_ratio"]) == pytest.approx(
        (5 / 4, 3 / 4, 5 / 4)
    )
    assert found["accuracy_dice"] == pytest.approx(8 / 9)


def test_raters_who_drew_nothing_count():
    assert volume_ratios([10], raters=1)["dice_ratio"] == 1
    assert volume_ratios([10], raters=4)["dice_ratio"] == 4
    assert volume_ratios([10, 0, 0, 0], raters=4) == volume_ratios([10], raters=4)


def test_nothing_drawn():
    for votes in ([], [0, 0]):
        found = volume_ratios(votes, raters=4)
        assert found["expected"] == found["union"] == 0
        assert {found[k] for k in found if k.endswith(("ratio", "dice"))} == {1.0}
        assert paper_ratios(votes, raters=4) == (1, 1)


def test_what_is_refused():
    with pytest.raises(ValueError, match="votes: 7 voxels have more than 4 votes, of 4 raters"):
        volume_ratios([1, 2, 3, 4, 5, 2], raters=4)
    with pytest.raises(ValueError, match=r"votes: expected numbers of voxels, got \[1, -2\]"):
        volume_ratios([1, -2], raters=2)


@given(VOTES)
def test_against_whole_numbers(case):
    raters, votes = case
    assume(any(votes))
    found = volume_ratios(votes, raters)
    t, dice = exact(votes, raters)
    _, accuracy = exact(votes, raters, Fraction(1, 2))
    assert found["threshold"] == pytest.approx(float(t), rel=1e-12)
    assert found["dice_ratio"] == pytest.approx(float(dice), rel=1e-12)
    assert found["accuracy_ratio"] == pytest.approx(float(accuracy), rel=1e-12)
    assert paper_ratios(votes, raters) == pytest.approx((float(accuracy), float(dice)), rel=1e-12)


def test_votes_of_masks_that_overlap_and_of_one_far_away():
    square = np.argwhere(np.ones((3, 3, 1)))
    assert count_votes([]) == [] and count_votes([square[:0]]) == []
    assert count_votes([square, square[:0], square + 500]) == [18]
    assert count_votes([square, square - [1, 1, 0], square + 500]) == [19, 4]
    assert count_votes([square] * 3) == [0, 0, 9]


def test_votes_are_all_that_counts():
    """The same from outlines: votes of drawn masks, volumes of the masks that the library finds."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        labels = rng.random((4, 6, 6)) < rng.random()
        m = labels.mean(axis=0)
        votes = count_votes([np.argwhere(label[None]) for label in labels])
        if not votes:
            continue
        found = volume_ratios(votes, 4)
        assert found["accuracy_ratio"] == pytest.approx(ns.optimal_accuracy(m).sum() / m.sum())
        assert found["dice_ratio"] == pytest.approx(ns.optimal_dice(m).sum() / m.sum())
        assert found["accuracy_dice"] == pytest.approx(ns.dice(ns.optimal_accuracy(m), m))


def test_more_votes_than_raters_as_in_the_papers_code():
    """Five of four: m = 5/4 on two voxels, 1/2 on four; v = 4.5; t = max(2.5/6.5, 4.5/10.5)."""
    assert paper_ratios([0, 4, 0, 0, 2], raters=4) == pytest.approx((6 / 4.5, 6 / 4.5))
    assert paper_ratios([30, 0, 0, 0, 2], raters=4) == pytest.approx((2 / 10, 32 / 10))  # t = 10/42 < 1/4


@pytest.mark.statement("prop-raters-volume")
@given(VOTES)
def test_volumes_of_raters_lie_within_their_bounds(case):
    raters, votes = case
    assume(any(votes))
    found = volume_ratios(votes, raters)
    slack = 1 + 1e-12
    assert 1 <= found["union"] / found["expected"] * slack and found["union"] <= raters * found["expected"] * slack
    most = 2 * raters / (raters + 1) if raters % 2 else 2
    assert 0 <= found["strict_accuracy_ratio"] <= found["accuracy_ratio"] <= most * slack
    assert found["accuracy_ratio"] <= found["dice_ratio"]
    assert 1 / (raters - 1) <= found["dice_ratio"] * slack and found["dice_ratio"] <= raters * slack


@pytest.mark.statement("prop-raters-volume")
@pytest.mark.parametrize("raters", range(2, 8))
def test_bounds_of_raters_are_attained(raters):
    """One vote everywhere; and all votes on one voxel, one vote on R (R - 2), where the second part is a tie."""
    assert volume_ratios([7], raters)["dice_ratio"] == pytest.approx(raters)
    half = [0] * ((raters + 1) // 2 - 1) + [7]
    assert volume_ratios(half, raters)["accuracy_ratio"] == pytest.approx(2 * raters / (raters + raters % 2))
    core = [raters * (raters - 2), *[0] * (raters - 2), 1]
    m = np.repeat(np.arange(1, raters + 1) / raters, core)
    assert ns.dice(m == 1, m) == pytest.approx(2 * ns.dice_threshold(m)) and (m == 1).sum() / m.sum() == pytest.approx(
        1 / (raters - 1)
    )
    # A few voxels less break the tie, so that the optimum is unique, and as near to the bound as one likes.
    few = max(0, 10_000 * raters * (raters - 2) - 100)
    near = volume_ratios([few, *[0] * (raters - 2), 10_000], raters)["dice_ratio"]
    assert near == pytest.approx(1 / (raters - 1), rel=0.02)


@pytest.mark.statement("prop-raters-volume")
@given(VOTES)
def test_the_union_is_optimal_where_it_is_large(case):
    raters, votes = case
    assume(any(votes))
    mass, union = sum(k * n for k, n in enumerate(votes, 1)), sum(votes)
    t, dice = exact(votes, raters)
    assert (t <= Fraction(1, raters)) == (raters * union >= (raters - 1) * mass)
    if t <= Fraction(1, raters):
        assert dice == Fraction(raters * union, mass)


@pytest.mark.statement("prop-four-raters")
@given(st.lists(st.integers(0, 60), min_size=4, max_size=4))
def test_four_raters_leave_two_masks(votes):
    assume(any(votes))
    mass, union = sum(k * n for k, n in enumerate(votes, 1)), sum(votes)
    t, y = exact(votes, 4)
    _, x = exact(votes, 4, Fraction(1, 2))
    found = volume_ratios(votes, 4)
    assert (found["accuracy_ratio"], found["dice_ratio"]) == pytest.approx((float(x), float(y)), rel=1e-12)
    if 4 * union < 3 * mass:
        assert 2 * t > Fraction(1, 2) and Fraction(1, 3) < x == y <= 2
    else:
        assert 2 * t <= Fraction(1, 2) and y == Fraction(4 * union, mass)
        assert 3 <= y <= 4 and (4 - y) / 3 <= x <= 4 - y


@pytest.mark.statement("prop-four-raters")
def test_every_pair_of_four_raters_occurs():
    """The corners of the triangle and its edges, and both ends of the diagonal."""
    for x, y, votes in (
        (0, 4, [1, 0, 0, 0]),
        (1, 3, [2, 1, 0, 0]),
        (Fraction(1, 3), 3, [8, 0, 0, 1]),
        (Fraction(1, 2), Fraction(7, 2), [6, 1, 0, 0]),
        (Fraction(1, 6), Fraction(7, 2), [20, 0, 0, 1]),
        (2, 2, [0, 1, 0, 0]),
        (1, 1, [0, 0, 0, 1]),
    ):
        assert exact(votes, 4)[1] == y and exact(votes, 4, Fraction(1, 2))[1] == x
        found = volume_ratios(votes, 4)
        assert (found["accuracy_ratio"], found["dice_ratio"]) == pytest.approx((float(x), float(y)))
    assert volume_ratios([7999, 0, 0, 1000], 4)["dice_ratio"] == pytest.approx(1 / 3, rel=1e-3)
