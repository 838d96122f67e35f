"""Tests of reproduction.chapters.regions: all masks, all labels, and any dependence between the parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyseg import dice_threshold, expected_dice
from noisyseg.volume import optimal_volumes
from reproduction.chapters.random_marginals import every_mask
from reproduction.chapters.regions import independent, region_dice, switch, volume_ratio


@pytest.mark.statement("thm-regions")
@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("present", [1, 2, 3])
def test_all_masks_against_all_labels(parts, present):
    """Two certain voxels, four uncertain ones (r = 2) with p = present / 4, and one that no label has."""
    p, states = present / 4, every_mask(parts)
    times = (present**states * (4 - present) ** (~states)).prod(axis=1)  # of 4 ** parts equally likely labels
    every = states.repeat(times, axis=0).repeat(4 // parts, axis=1)
    labels = np.hstack([np.ones((len(every), 2)), every, np.zeros((len(every), 1))])
    assert len(labels) == 4**parts
    masks = every_mask(7)
    scores = np.array([expected_dice(s, labels) for s in masks])
    best = masks[scores > scores.max() - 1e-12]
    border = switch(2, parts)
    assert abs(p - border) > 1e-6 or parts == 1
    nothing, everything = [1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]
    expected = [nothing] * (p <= border + 1e-9) + [everything] * (p >= border - 1e-9)
    assert best.astype(int).tolist() == expected
    for y in range(5):
        s = np.array([1, 1, *[1] * y, *[0] * (4 - y), 0])
        assert expected_dice(s, labels) == pytest.approx(region_dice(y / 4, 2, *independent(parts, p)), abs=1e-13)
    soft = np.array([1, 1, 0.5, 0.25, 0.25, 0, 0])
    assert expected_dice(soft, labels) == pytest.approx(region_dice(0.25, 2, *independent(parts, p)), abs=1e-13)


@pytest.mark.statement("thm-regions")
@given(st.integers(0, 9999), st.floats(0.05, 50))
@settings(max_examples=200)
def test_any_dependence_decides_between_all_and_nothing(seed, r):
    rng = np.random.default_rng(seed)
    u = np.sort(rng.random(rng.integers(1, 6)))
    u[rng.random(u.size) < 0.3] = rng.integers(0, 2)
    weights = rng.dirichlet(np.ones(u.size))
    p, scores = float(u @ weights), region_dice(np.linspace(0, 1, 201), r, u, weights)
    assert scores.max() <= max(scores[0], scores[-1]) + 1e-13
    steps = np.diff(scores)
    assert not ((steps[:-1] > 1e-13) & (steps[1:] < -1e-13)).any(), "it falls, and then it rises"
    gain = 2 * (1 + r * u) / (2 + r + r * u) - 2 / (2 + r * u)
    assert scores[-1] - scores[0] == pytest.approx(gain @ weights, abs=1e-13)
    if p >= 0.5:
        assert scores[-1] >= scores[0] - 1e-13
    if p < switch(r) - 1e-12:
        assert scores[0] > scores[-1]


@pytest.mark.statement("thm-regions")
@pytest.mark.parametrize("r", [0.1, 1.0, 4.0, 15.0, 200.0])
def test_the_switch_falls_from_one_half_to_that_of_the_marginal(r):
    found = [switch(r, parts) for parts in (1, 2, 3, 5, 20, 400, math.inf)]
    assert found[0] == pytest.approx(0.5, abs=1e-10) and (np.diff(found) < 0).all()
    assert found[-1] == 1 / (1 + math.sqrt(1 + r)) and found[-2] - found[-1] < 0.01
    m = np.repeat([1.0, found[-1] * 1.001], [1000, round(1000 * r)])
    assert dice_threshold(m) < m.min(), "just above the switch the Dice of the marginal takes it in"


def test_the_volume_is_that_of_the_best_mask():
    p = np.array([0.2, 0.3, 0.4, 0.45, 0.6])
    for r in (1, 4):
        for each, ratio in zip(p, volume_ratio(r, p), strict=True):
            found = optimal_volumes(np.repeat([1.0, each], [10, 10 * r]))
            assert ratio == pytest.approx(found.dice[0] / found.expected)
    assert volume_ratio(4, np.array([0.4]), 1)[0] < 1 < volume_ratio(4, np.array([0.4]), 4)[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: independent(0, 0.5), "a whole number from 1 on"),
        (lambda: independent(1.5, 0.5), "a whole number from 1 on"),
        (lambda: independent(2, 1.5), r"p in \[0, 1\]"),
        (lambda: switch(0), "r: expected a positive finite ratio"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
