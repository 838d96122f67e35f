"""Tests of reproduction.chapters.boundaries: distances of outlines and the noise model fitted to them."""

import numpy as np
import pytest

from noisyseg import GaussianDeformation, dice
from reproduction.chapters.boundaries import displacements, signed_distances, strength


def ball(radius, side, n, spacing=1.0):
    w = (np.indices((side,) * n) - (side - 1) / 2) * spacing
    return np.sqrt((w**2).sum(axis=0)) < radius


@pytest.mark.parametrize(("n", "spacing"), [(2, (1.0, 1.0)), (2, (0.5, 0.5)), (3, (1.0, 0.9, 0.9))])
def test_distances_of_a_ball(n, spacing):
    side = 61
    w = [(np.arange(side) - 30) * h for h in spacing]
    r = np.sqrt(sum(x**2 for x in np.meshgrid(*w, indexing="ij")))
    near = np.argwhere(abs(r - 12) < 6)
    phi = signed_distances(r < 12, near, spacing)
    r = r[tuple(near.T)]
    assert ((phi < 0) == (r < 12)).all()
    assert abs(phi - (r - 12)).mean() < 0.4 * max(spacing)


def test_offsets_of_concentric_discs():
    """Radii 18, 20, 22: offsets -2, 0, 2, no more; a is their standard deviation, and all points move together."""
    found = displacements(np.stack([ball(r, 61, 2) for r in (18, 20, 22)]), (1.0, 1.0))
    assert found.offsets == pytest.approx([-2, 0, 2], abs=0.15)
    assert found.values.sum(axis=0) == pytest.approx(0, abs=1e-12)
    assert found.a == pytest.approx(2, abs=0.15)
    assert dice(found.reference, ball(20, 61, 2).astype(float)) > 0.99
    outwards = found.points / np.array([1.0, 1.0]) - 30
    assert ((outwards * found.normals).sum(axis=1) > 0.9 * np.linalg.norm(outwards, axis=1)).all()


@pytest.mark.parametrize("b", [6.0, 12.0])
def test_the_parameters_of_the_model_come_back(b):
    """Many labels of the model around a disc: a and b within a sixth, by distances as by agreement."""
    label = ball(40, 128, 2)
    noise = GaussianDeformation.in_mm(2.0, b, 1.0, label.shape)
    found = [displacements(noise.sample(label, rng=seed, size=8), (1.0, 1.0)) for seed in range(12)]
    assert np.mean([each.a for each in found]) == pytest.approx(2.0, rel=0.15)
    assert np.median([each.b() for each in found]) == pytest.approx(b, rel=0.2)
    assert strength(noise.sample(label, rng=1, size=300), label, (1.0, 1.0)) == pytest.approx(2.0, rel=0.05)


def test_a_shift_is_a_long_correlation():
    label = ball(20, 81, 2)
    shifted = np.stack([np.roll(label, shift, axis=(0, 1)) for shift in ((-2, 1), (0, 0), (2, -1), (1, 3), (-1, -3))])
    found = displacements(shifted, (1.0, 1.0))
    assert found.b() > 60  # three radii
    assert abs(found.offsets).max() < 0.3
