"""Tests of reproduction.chapters.delineations: best masks volume by volume, and masks of independent voxels."""

import itertools

import numpy as np
import pytest

from noisyseg import expected_dice, expected_dice_optimum
from noisyseg.raters import independent_dice
from reproduction.chapters.delineations import (
    best_by_volume,
    chord_bound,
    independent_scores,
    simple_rule_loss,
    sums_by_volume,
    unequal_sizes,
)

MASKS = np.array(list(itertools.product([False, True], repeat=7)))


def drawn(seed):
    """Labels of seven voxels, none of them empty."""
    rng = np.random.default_rng(seed)
    labels = rng.random((5, 7)) < rng.random((5, 1))
    labels[:, 0] |= ~labels.any(axis=1)
    return labels


@pytest.mark.statement("prop-volume-search", "thm-expected-dice")
@pytest.mark.parametrize("seed", range(30))
def test_the_bound_is_one(seed):
    """Against all masks: the best of each volume is that of the sums, and the bound is above it everywhere."""
    labels = drawn(seed)
    scores, sizes = np.array([expected_dice(s, labels) for s in MASKS]), MASKS.sum(axis=1)
    best = best_by_volume(labels)
    assert best == pytest.approx([scores[sizes == x].max() for x in range(1, 8)], abs=1e-14)
    for points in ([1, 7], [1, 4, 7], list(range(1, 8))):
        bound = chord_bound(labels, points)
        assert (bound >= best - 1e-14).all()
        assert bound[np.array(points) - 1] == pytest.approx(best[np.array(points) - 1], abs=1e-14)
    assert expected_dice(expected_dice_optimum(labels), labels) == pytest.approx(best.max(), abs=1e-13)


@pytest.mark.statement("prop-volume-search")
def test_the_bound_is_exact_where_all_volumes_are_equal():
    rng = np.random.default_rng(1)
    labels = np.array([rng.permutation(np.arange(40) < 12) for _ in range(6)])
    assert chord_bound(labels, [1, 40]) == pytest.approx(best_by_volume(labels), abs=1e-14)
    labels[0, np.flatnonzero(~labels[0])[:9]] = True
    assert chord_bound(labels, [1, 40]).max() > best_by_volume(labels).max() + 1e-3


def test_sums_of_a_volume():
    assert sums_by_volume(unequal_sizes(2, 3), 1) == pytest.approx([0, 0.75, 1, 1.25], abs=1e-15)
    assert simple_rule_loss(unequal_sizes(3, 5)) == pytest.approx(7 / 9 - 5 / 9, abs=1e-15)


@pytest.mark.statement("prop-independent")
def test_the_best_mask_of_independent_voxels_takes_the_largest_values():
    rng = np.random.default_rng(2)
    for _ in range(10):
        m = rng.random(7)
        assert independent_scores(m).max() == pytest.approx(max(independent_dice(s, m) for s in MASKS), abs=1e-14)
