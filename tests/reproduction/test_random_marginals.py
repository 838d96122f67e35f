"""Tests of reproduction.chapters.random_marginals: what the chapters draw, in whole numbers and as samples."""

import numpy as np
import pytest

import noisyseg as ns
from noisyseg.volume import optimal_volumes
from reproduction.chapters.random_marginals import VOXELS, draw_marginals, every_mask, exact_optima, sample_dice


def test_every_mask_is_there_once():
    masks = every_mask(5)
    assert masks.shape == (32, 5) and masks.dtype == bool
    assert len(np.unique(masks, axis=0)) == 32 and not masks[0].any() and masks[-1].all()


def test_drawn_marginals_are_images_of_whole_numbers():
    levels, counts = draw_marginals(np.random.default_rng(1), 300)
    assert 2300 < len(levels) <= 2400 and levels.shape == counts.shape == (len(levels), 16)
    assert levels.dtype == counts.dtype == np.int64
    assert (counts.sum(axis=1) == VOXELS).all() and counts.min() >= 0
    assert levels.min() == 0 and levels.max() == VOXELS and ((levels * counts).sum(axis=1) > 0).all()
    again = draw_marginals(np.random.default_rng(1), 300)
    assert np.array_equal(levels, again[0]) and np.array_equal(counts, again[1])


def test_optima_by_hand():
    """Half of the image at 1 and a quarter at 1/4: v = 9/16, best Dice 2 (1/2) / (1/2 + 9/16) = 16/17, t = 8/17."""
    q = VOXELS // 4
    levels, counts = np.array([[0, VOXELS, q]]), np.array([[q, 2 * q, q]])
    expected, *found = exact_optima(levels, counts)
    assert expected == VOXELS * (2 * q) + q * q
    assert [int(x[0]) for x in found] == [2 * q] * 4
    _, *found = exact_optima(levels, counts, factor=0.5)  # 4/17 < 1/4: the quarter is taken in
    assert [int(x[0]) for x in found] == [2 * q, 2 * q, 3 * q, 3 * q]


def test_ties_for_accuracy_and_for_dice():
    q = VOXELS // 4
    _, *found = exact_optima(np.array([[VOXELS, VOXELS // 2, 0]]), np.array([[0, q, 3 * q]]))
    assert [int(x[0]) for x in found] == [0, q, q, q]
    # 9 voxels at 1 and 16 at 3/8: 9 (1 - 2 * 3/8) = (3/8)^2 * 16
    _, *found = exact_optima(np.array([[VOXELS, VOXELS // 8 * 3, 0]]), np.array([[9, 16, VOXELS - 25]]))
    assert [int(x[0]) for x in found][2:] == [9, 25]


def test_optima_are_those_of_the_library():
    levels, counts = draw_marginals(np.random.default_rng(2), 25)
    expected, *optima = exact_optima(levels, counts)
    for i in range(len(levels)):
        found = optimal_volumes(np.repeat(levels[i] / VOXELS, counts[i]))
        assert found.expected == expected[i] / VOXELS**2
        assert (*found.accuracy, *found.dice) == tuple(x[i] / VOXELS for x in optima)


def test_draws_reach_ties_and_bounds():
    levels, counts = draw_marginals(np.random.default_rng(3), 400)
    expected, least_a, most_a, least_d, most_d = exact_optima(levels, counts)
    assert (least_a < most_a).sum() > 300 and (least_d < most_d).sum() > 300
    _, high = ns.accuracy_volume_bounds(expected / VOXELS**2)
    low, _ = ns.dice_volume_bounds(expected / VOXELS**2)
    assert abs(high - most_a / VOXELS).min() < 1e-3 and abs(least_d / VOXELS - low).min() < 1e-3


def test_sampled_dice():
    label = np.zeros((24, 24), dtype=np.uint8)
    label[8:16, 6:18] = 1
    noise = ns.GaussianDeformation(0.06)
    found = sample_dice(label, noise, rng=3, size=500)
    s, labels = ns.optimal_dice(noise.marginal(label)), noise.sample(label, rng=3, size=500)
    assert found.marginal_dice == ns.dice(s, noise.marginal(label)) and found.volume == s.mean()
    assert np.array_equal(found.volumes, labels.mean(axis=(1, 2))) and found.scores[7] == ns.dice(s, labels[7])
    assert ns.dice(s, ns.marginal(labels)) - found.scores.mean() == pytest.approx(found.difference, abs=1e-13)
    assert 0 < found.difference < found.mean_bound < found.sd_bound
    assert found.sd_bound * 2 * found.both == pytest.approx(found.relative_sd * found.volumes.mean(), rel=2e-3)
    batches = [sample_dice(label, noise, rng=k, size=500).difference for k in range(12)]
    assert np.std(batches) == pytest.approx(found.difference_error, rel=0.6)
