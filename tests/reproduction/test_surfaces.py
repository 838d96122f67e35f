"""Distances between surfaces: by hand, and against all pairs of voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reproduction.scoring.surfaces import surface_distance


def box(*sides: tuple[int, int], shape=(9, 8, 7)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def test_a_cube_in_a_larger_one_by_hand():
    """A single voxel, and the 26 around it: 6 are 1 voxel away, 12 sqrt(2), 8 sqrt(3); from the voxel it is 1."""
    point, cube = box((3, 4), (3, 4), (3, 4)), box((2, 5), (2, 5), (2, 5))
    expected = (6 + 12 * math.sqrt(2) + 8 * math.sqrt(3) + 1) / 27
    assert surface_distance(point, cube, (1, 1, 1)) == pytest.approx(expected)
    assert surface_distance(cube, point, (2, 2, 2)) == pytest.approx(2 * expected)


def test_a_shift_along_an_axis_with_long_voxels():
    first, second = box((2, 3), (2, 3), (1, 3)), box((2, 3), (2, 3), (2, 4))
    assert surface_distance(first, second, (1, 1, 5)) == pytest.approx((5 + 0 + 0 + 5) / 4)


def test_against_all_pairs():
    rng = np.random.default_rng(4)
    spacing = np.array([1.0, 2.0, 0.5])
    for _ in range(20):
        masks = [rng.random((5, 6, 4)) < 0.4 for _ in range(2)]
        surfaces = []
        for mask in masks:
            padded = np.pad(mask, 1)
            inner = np.ones(mask.shape, bool)
            for axis in range(3):
                for step in (-1, 1):
                    inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
            surfaces.append(np.argwhere(mask & ~inner) * spacing)
        apart = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=-1)
        expected = (apart.min(1).sum() + apart.min(0).sum()) / sum(map(len, surfaces))
        assert surface_distance(*masks, spacing) == pytest.approx(expected)


def test_empty_masks_and_other_shapes():
    mask, none = box((1, 3), (1, 3), (1, 3)), np.zeros((9, 8, 7), bool)
    assert surface_distance(mask, mask, (1, 1, 1)) == 0 == surface_distance(none, none, (1, 1, 1))
    assert math.isnan(surface_distance(mask, none, (1, 1, 1))) and math.isnan(surface_distance(none, mask, (1, 1, 1)))
    with pytest.raises(ValueError, match=r"first has shape \(9, 8, 7\) and second \(9, 8\)"):
        surface_distance(mask, mask[..., 0], (1, 1, 1))
