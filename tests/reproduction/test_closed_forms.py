"""Tests of reproduction.chapters.closed_forms: simple bodies under Gaussian noise."""

import math

import numpy as np
import pytest

from noisyseg import GaussianDeformation
from reproduction.chapters.closed_forms import (
    ball,
    ball_loss,
    ball_marginal,
    block_marginal,
    centres,
    distances,
    first_slice_marginal,
    interval_marginal,
    look_up,
    volume_spread,
)


def test_centres_and_distances():
    assert np.array_equal(centres(4), [0.125, 0.375, 0.625, 0.875])
    assert np.allclose(distances(2, (0.25, 0.75), n=2), [[0.5, 0], [math.sqrt(0.5), 0.5]])
    assert distances(3).shape == (3, 3, 3) and distances(3)[1, 1, 1] == 0


def test_a_ball_has_its_volume_and_its_place():
    assert abs(ball(128, 0.3).mean() / (4 / 3 * math.pi * 0.3**3) - 1) < 2e-3
    assert abs(ball(256, 0.2, n=2).mean() / (math.pi * 0.2**2) - 1) < 2e-3
    disc = ball(64, 0.1, (0.25, 0.75), n=2)
    assert np.allclose(np.mean(np.nonzero(disc), axis=1) + 0.5, (16, 48), atol=0.5) and disc.dtype == np.uint8


def test_interval_is_exact_on_voxels():
    w = centres(32)
    m = GaussianDeformation(0.05).marginal((w > 0.25) & (w < 0.5))
    assert abs(m - interval_marginal(w, 0.25, 0.5, 0.05)).max() < 1e-14


def test_ball_marginal_is_the_limit_of_fine_voxels():
    r = distances(64)
    assert abs(GaussianDeformation(0.05).marginal(r < 0.3) - ball_marginal(r, 0.3, 0.05)).max() < 0.01
    assert ball_marginal(1e-6, 25.0, 1.0) == pytest.approx(1)
    assert abs(ball_marginal(0.3, 0.3, 0.001) - 0.5) < 0.01  # on the surface, weak noise


def test_ball_loss_by_its_limits():
    assert ball_loss(0.5, 0.2, 0.02) < 1e-100
    # a half-ball, weak noise: over the cut face of area A it loses A a / sqrt(2 pi)
    expected = math.pi * 0.2**2 * 0.001 / math.sqrt(2 * math.pi) / (2 / 3 * math.pi * 0.2**3)
    assert ball_loss(-0.2, 0.2, 0.001) == pytest.approx(expected, rel=1e-3)


def test_volume_spread_by_its_limits():
    """A stiff field moves a body as a whole; a rough one does so less than one that changes over a radius."""
    for n in (2, 3):
        assert volume_spread(n, 1.0, 1e3) < 2e-3
        assert volume_spread(n, 1.0, 0.05) < volume_spread(n, 1.0, 0.8)
        assert volume_spread(n, 2.0, 1.6) == pytest.approx(volume_spread(n, 1.0, 0.8) / 2)


@pytest.mark.parametrize("n", [2, 3])
def test_volume_spread_is_that_of_samples(n):
    size, radius, a, b = {2: 128, 3: 48}[n], 0.25, 0.015, 0.15
    label = ball(size, radius, n=n)
    draws = GaussianDeformation(a, b).sample(label, rng=1, size=300).reshape(300, -1).sum(axis=1)
    assert draws.std() / label.sum() / a == pytest.approx(volume_spread(n, radius, b), rel=0.2)


def test_a_block_under_even_noise_is_a_label_like_any():
    label = np.zeros((12, 12))
    label[2:9, 2:9] = 1
    m = GaussianDeformation(0.1).marginal(label)
    assert abs(block_marginal(2, 9, 1.2, np.ones((12, 12))) - m).max() < 1e-13
    assert block_marginal(2, 9, 1.2, np.full((12, 12), 0.5))[4, 4] > m[4, 4]


def test_first_slice_under_even_noise_is_that_of_the_marginal():
    label = (np.random.default_rng(0).random((10, 10, 10)) < 0.4).astype(np.uint8)
    m = GaussianDeformation(0.1).marginal(label)
    assert abs(first_slice_marginal(label, 1.0, np.ones(10)) - m[0]).max() < 1e-8
    label = np.zeros((10, 10, 10))
    label[:5, :5, :5] = 1
    rms = np.linspace(0.7, 1, 10)
    block = block_marginal(0, 5, 1.0, rms[:, None, None] * rms[:, None] * rms)
    assert abs(first_slice_marginal(label, 1.0, rms) - block[0]).max() < 1e-8


def test_look_up_by_hand():
    label = np.array([0, 0, 1, 1, 0, 0, 0, 1])
    still = np.zeros((1, 8))
    for shift, zero, continued in (
        (0.4, [0, 0, 1, 1, 0, 0, 0, 1], [0, 0, 1, 1, 0, 0, 0, 1]),
        (1.0, [0, 1, 1, 0, 0, 0, 1, 0], [0, 1, 1, 0, 0, 0, 1, 1]),
        (-2.0, [0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0]),
    ):
        found = look_up(label, still + shift)
        assert np.array_equal(found, [zero, continued])
