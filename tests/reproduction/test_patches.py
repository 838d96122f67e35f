"""Tests of reproduction.data.patches: cutting by hand, and what cutting must keep."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from reproduction.data.patches import (
    PatchGrid,
    block_means,
    centre_in_box,
    centre_of_mass,
    halve,
    overlap_weights,
    tent_weights,
)


def test_centring_by_hand():
    volume = np.arange(1, 4).reshape(3, 1, 1)
    box = centre_in_box(volume, 5, fill=9)
    assert box.shape == (5, 5, 5) and box.dtype == volume.dtype
    assert box[:, 2, 2].tolist() == [9, 1, 2, 3, 9]
    assert (box == 9).sum() == 125 - 3
    # Where the two sides cannot be equal, one more voxel goes after.
    assert centre_in_box(volume, 4)[:, 1, 1].tolist() == [1, 2, 3, 0]
    assert centre_in_box(volume, 6)[:, 2, 2].tolist() == [0, 1, 2, 3, 0, 0]


def test_a_volume_as_large_as_the_box_stays_and_a_larger_one_is_refused():
    volume = np.random.default_rng(0).normal(size=(4, 4, 4))
    box = centre_in_box(volume, 4)
    assert np.array_equal(box, volume) and box is not volume
    with pytest.raises(ValueError, match=r"volume has shape \(4, 4, 4\); expected three axes of at most 3 voxels"):
        centre_in_box(volume, 3)
    with pytest.raises(ValueError, match=r"volume has shape \(4, 4\); expected three axes"):
        centre_in_box(volume[0], 8)


@given(shape=st.tuples(*[st.integers(1, 9)] * 3), side=st.integers(9, 12), fill=st.integers(-3, 3))
def test_centring_keeps_every_voxel_and_centres(shape, side, fill):
    volume = np.arange(10, 10 + np.prod(shape)).reshape(shape)
    box = centre_in_box(volume, side, fill)
    assert box[box >= 10].tolist() == volume.ravel().tolist()
    assert set(box[box < 10].tolist()) <= {fill}
    for axis, where in enumerate(np.nonzero(box >= 10)):
        before, after = where.min(), side - 1 - where.max()
        assert after - before in (0, 1), f"axis {axis}"


def test_block_means_by_hand():
    assert block_means(np.array([[1, 3, 0, 8], [5, 7, 0, 0]])).tolist() == [[4.0, 2.0]]
    assert block_means(np.arange(6), 3).tolist() == [1.0, 4.0]
    assert block_means(np.arange(6), 1).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"volume has shape \(2, 3\); expected multiples of factor = 2"):
        block_means(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="expected multiples of factor = 0"):
        block_means(np.zeros(4), 0)


def test_block_means_are_of_the_right_voxels_on_every_axis():
    image = np.random.default_rng(1).normal(size=(4, 6, 2))
    means = block_means(image)
    assert means.shape == (2, 3, 1)
    for i, j, k in np.ndindex(means.shape):
        block = image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2]
        assert means[i, j, k] == pytest.approx(block.mean(), abs=1e-15)


def test_block_means_are_summed_in_float64():
    # The mean of eight uint8 of 255 would wrap; of float16 it would overflow.
    assert block_means(np.full((2, 2, 2), 255, np.uint8)).item() == 255
    assert block_means(np.full((2, 2, 2), 6e4, np.float16)).item() == pytest.approx(6e4, rel=1e-3)


@given(n=st.integers(1, 4), seed=st.integers(0, 99))
def test_halving_an_image_keeps_its_mean(n, seed):
    image = np.random.default_rng(seed).normal(size=(2 * n, 4, 2))
    small, _ = halve(image, np.zeros(image.shape))
    assert small.dtype == np.float32
    assert small.mean(dtype=np.float64) == pytest.approx(image.mean(), abs=1e-6)


@pytest.mark.parametrize(("filled", "label"), [(0, 0), (3, 0), (4, 1), (5, 1), (8, 1)])
def test_halving_a_label_takes_the_majority_and_a_tie_counts(filled, label):
    block = np.zeros(8)
    block[:filled] = 1
    _, mask = halve(np.zeros((2, 2, 2)), np.random.default_rng(0).permutation(block).reshape(2, 2, 2))
    assert mask.dtype == np.uint8 and mask.item() == label


def test_halving_keeps_the_volume_of_blocks_and_a_symmetry():
    label = np.zeros((8, 8, 8))
    label[2:6, 2:6, 2:6] = 1
    _, mask = halve(label, label)
    assert mask.sum() * 8 == label.sum() == 64
    label[0, 0, 0] = 1  # one voxel of eight is lost
    _, mask = halve(label, label)
    assert mask.sum() == 8
    flipped = halve(label[::-1], label[::-1])[1]
    assert np.array_equal(flipped, mask[::-1])


# ---- resampling around a structure ----


def test_the_centre_of_mass_by_hand():
    mask = np.zeros((4, 3, 2), np.uint8)
    mask[1, 0, 1] = mask[2, 0, 1] = 7  # what is not 0 counts once
    assert centre_of_mass(mask).tolist() == [2.0, 0.5, 1.5]
    with pytest.raises(ValueError, match=r"mask of shape \(2, 2\) is empty"):
        centre_of_mass(np.zeros((2, 2)))


@given(seed=st.integers(0, 99))
def test_the_centre_of_mass_is_scipys_from_the_corner(seed):
    mask = np.random.default_rng(seed).random((5, 7, 3)) < 0.3
    mask[2, 3, 1] = True
    np.testing.assert_allclose(centre_of_mass(mask), np.array(scipy.ndimage.center_of_mass(mask)) + 0.5, atol=1e-12)


def test_tent_weights_by_hand():
    """1.5 to 3 mm: eighths, exactly; beyond the border the last voxel is repeated, outside there is nothing."""
    weights = tent_weights(6, 1.5, -4, 6, 3.0)
    assert weights[:2].tolist() == [[0] * 6] * 2, "centres at -4.5 and -1.5 mm"
    assert weights[2].tolist() == [0.5, 0.375, 0.125, 0, 0, 0]
    assert weights[3].tolist() == [0, 0.125, 0.375, 0.375, 0.125, 0]
    assert weights[4].tolist() == [0, 0, 0, 0.125, 0.375, 0.5]
    assert weights[5].tolist() == [0] * 6, "10.5 mm of 9"
    half = tent_weights(5, 1.5, -1, 4, 3.0)
    assert half[0].tolist() == [0.875, 0.125, 0, 0, 0], "a centre on the very border is inside"
    assert half[-1].tolist() == [0] * 5


def test_tent_weights_change_nothing_where_the_voxels_are_the_cells():
    assert tent_weights(4, 3.0, 0, 4, 3.0).tolist() == np.eye(4).tolist()
    assert tent_weights(4, 3.0, -1, 4, 3.0).tolist() == np.eye(4, k=-1).tolist()


@pytest.mark.parametrize(("voxels", "spacing"), [(32, 1.5), (48, 1.0), (60, 0.8), (24, 2.0)])
def test_tent_weights_are_those_of_an_antialiased_resize(voxels, spacing):
    """PyTorch's, inside; at the border it takes fewer voxels instead of repeating the last one."""
    cells = round(voxels * spacing / 3)
    image = np.random.default_rng(0).normal(size=(1, 1, voxels, voxels))
    weights = tent_weights(voxels, spacing, 0, cells, 3.0)
    ours = weights @ image[0, 0] @ weights.T
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image), size=(cells, cells), mode="bilinear", antialias=True, align_corners=False
    )
    np.testing.assert_allclose(ours[2:-2, 2:-2], theirs[0, 0, 2:-2, 2:-2].numpy(), atol=1e-12)


def test_waves_that_the_cells_cannot_hold_are_taken_away():
    """Every second voxel of a wave with a period of 3 mm is a constant: that is what aliasing means."""
    x = (np.arange(64) + 0.5) * 1.5
    weights = tent_weights(64, 1.5, 0, 32, 3.0)[2:-2]

    def left(period_mm: float) -> float:
        return float(np.abs(weights @ np.exp(2j * np.pi * x / period_mm)).max())

    assert left(3.0) == pytest.approx(0, abs=1e-12)
    for period in (4.0, 5.0, 6.0, 12.0, 50.0):
        assert left(period) == pytest.approx(np.cos(1.5 * np.pi / period) ** 3, abs=1e-12)
    assert left(6.0) == pytest.approx(0.354, abs=1e-3) and left(4.0) < 0.06


@given(
    spacing=st.floats(0.5, 5), corner=st.integers(-9, 9), voxels=st.integers(3, 30), cell=st.sampled_from([2.0, 3.0])
)
def test_tent_weights_are_means_and_keep_straight_lines(spacing, corner, voxels, cell):
    weights = tent_weights(voxels, spacing, corner, 12, cell)
    total = weights.sum(axis=1)
    middles = corner * spacing + (np.arange(12) + 0.5) * cell
    assume(min(np.abs(middles).min(), np.abs(middles - voxels * spacing).min()) > 1e-5)  # the border: by hand, above
    inside = (middles >= 0) & (middles <= voxels * spacing)
    assert np.all(weights >= 0) and np.allclose(total[inside], 1) and np.all(total[~inside] == 0)
    # Voxels that divide the cell in equal parts are symmetric around its centre: a straight line is kept there.
    if spacing * 2 == cell:
        far = (middles >= cell) & (middles <= voxels * spacing - cell)
        assert np.allclose((weights @ ((np.arange(voxels) + 0.5) * spacing))[far], middles[far])


@given(spacing=st.floats(0.5, 5), corner=st.integers(-9, 9), voxels=st.integers(1, 30))
def test_overlaps_share_each_voxel_out(spacing, corner, voxels):
    weights = overlap_weights(voxels, spacing, corner, 12, 3.0)
    lower = corner * spacing
    edges = np.arange(voxels) * spacing
    common = np.clip(np.minimum(edges + spacing, lower + 36) - np.maximum(edges, lower), 0, None)
    np.testing.assert_allclose(weights.sum(axis=0) * 3, common, atol=1e-9)
    assert np.all(weights >= 0) and np.all(weights.sum(axis=1) <= 1 + 1e-9)


def test_a_label_is_cut_by_the_rule_of_halve():
    rng = np.random.default_rng(0)
    mask = rng.random((8, 12, 10)) < 0.5
    grid = PatchGrid((0, 2, -2), (1.5, 1.5, 1.5), 4, 3.0)
    box = np.zeros((8, 8, 8))
    box[:, :, 2:] = mask[:, 2:10, :6]
    assert np.array_equal(grid.label(mask), halve(box, box)[1])
    whole = PatchGrid((0, 0, 0), (3.0, 3.0, 3.0), 4, 3.0)
    assert np.array_equal(whole.label(mask[:4, :4, :4]), mask[:4, :4, :4])


def test_an_image_is_cut_by_hand():
    """A ramp of whole numbers: exact in the middle, air where a cell's centre is outside."""
    x = np.arange(8)
    volume = (4 * x[:, None, None] + np.zeros((8, 8, 8))).astype(np.int16)
    image = PatchGrid((-4, 0, 2), (1.5, 1.5, 1.5), 4, 3.0).image(volume, fill=-1024)
    assert image.dtype == np.float32 and image.shape == (4, 4, 4)
    assert image[:, 0, 0].tolist() == [-1024, -1024, 0.125 * 8 + 0.375 * 4, 10.0]
    assert np.all(image[2:, :, 3] == -1024) and np.all(image[3, :, :3] == 10)
    assert np.count_nonzero(image != -1024) == 2 * 4 * 3


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (3.0, 3.0, 3.0), (0.8, 1.2, 2.5), (1.0, 1.5, 3.0)])
def test_a_ball_keeps_its_volume_and_its_place_at_any_voxel_size(spacing):
    h = np.array(spacing)
    shape = np.ceil(90 / h).astype(int)
    place = np.moveaxis((np.indices(shape) + 0.5).T * h, (0, 1, 2), (2, 1, 0))  # mm, (x, y, z, 3)
    ball = ((place - 43.0) ** 2).sum(-1) <= 30.0**2
    grid = PatchGrid.around(ball, spacing, 64, 3.0)
    label = grid.label(ball)
    assert label.sum() * 27 == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.03), "ties count: a few per cent"
    assert np.all(np.abs(centre_of_mass(label) - 32) <= 0.5 * h / 3 + 0.05), "to half a voxel of the scan"
    image = grid.image(np.where(ball, 100, 0).astype(np.int16), fill=-1024)
    inside = image > -1024
    # Along each axis the cells whose centres are in the volume, and they are all there is.
    for axis in range(3):
        middles = grid.corner[axis] * h[axis] + (np.arange(64) + 0.5) * 3
        within = (middles >= 0) & (middles <= shape[axis] * h[axis] + 1e-9)
        assert np.array_equal(inside.any(axis=tuple(k for k in range(3) if k != axis)), within)
    assert np.array_equal(image >= 50, label > 0) or np.mean((image >= 50) != (label > 0)) < 0.002


def test_a_structure_and_its_mirror_image_have_mirrored_patches():
    rng = np.random.default_rng(1)
    volume = rng.integers(-1000, 1000, size=(20, 24, 30)).astype(np.int16)
    mask = np.zeros(volume.shape, bool)
    mask[4:12, 6:16, 8:20] = True  # an even number of voxels: no rounding to an even voxel
    grid = PatchGrid.around(mask, (1.5, 1.5, 1.5), 16, 3.0)
    mirrored = PatchGrid.around(mask[::-1], (1.5, 1.5, 1.5), 16, 3.0)
    assert np.array_equal(mirrored.image(volume[::-1], -1024), grid.image(volume, -1024)[::-1])
    assert np.array_equal(mirrored.label(mask[::-1]), grid.label(mask)[::-1])


def test_only_the_voxels_of_the_patch_are_converted():
    """A scan of gigabytes must not become four times as many bytes of float64."""
    converted: list[tuple[int, ...]] = []

    class Watched(np.ndarray):
        def astype(self, *args, **more):
            converted.append(self.shape)
            return np.asarray(self).astype(*args, **more)

    volume = np.zeros((200, 150, 100), np.int16).view(Watched)
    PatchGrid((100, 50, 20), (1.5, 1.5, 1.5), 4, 3.0).image(volume, -1024)
    assert converted == [(10, 10, 10)]


def test_a_patch_that_misses_the_volume():
    grid = PatchGrid((50, 0, 0), (1.5, 1.5, 1.5), 2, 3.0)
    assert np.all(grid.image(np.ones((8, 8, 8)), -7) == -7) and not grid.label(np.ones((8, 8, 8))).any()


@given(
    corner=st.tuples(*[st.integers(-9, 9)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 1.5, 3.0])] * 3),
)
def test_the_voxels_whose_centres_lie_in_the_cube(corner, spacing):
    grid = PatchGrid(corner, spacing, 4, 3.0)
    box = grid.voxels((11, 6, 8))
    for part, n, first, h in zip(box, (11, 6, 8), corner, spacing, strict=True):
        middles = (np.arange(n) + 0.5) * h
        within = (middles > first * h - 1e-6) & (middles < first * h + 12 + 1e-6)
        assert np.arange(n)[part].tolist() == np.flatnonzero(within).tolist()


@pytest.mark.parametrize(
    ("mask", "spacing", "message"),
    [
        (
            np.ones((3, 3)),
            (1, 1, 1),
            r"mask has shape \(3, 3\) and spacing_mm is \[1.0, 1.0, 1.0\]; expected three axes",
        ),
        (np.ones((3, 3, 3)), (1, 0, 1), "expected three axes, lengths above 0"),
        (np.ones((3, 3, 3)), (1, np.inf, 1), "expected three axes, lengths above 0"),
        (np.zeros((3, 3, 3)), (1, 1, 1), "is empty"),
    ],
)
def test_grids_that_cannot_be(mask, spacing, message):
    with pytest.raises(ValueError, match=message):
        PatchGrid.around(mask, spacing, 4, 3.0)


def test_a_grid_wants_three_axes():
    with pytest.raises(ValueError, match=r"volume has shape \(3, 3\); expected three axes"):
        PatchGrid((0, 0, 0), (1.0, 1.0, 1.0), 4, 3.0).image(np.ones((3, 3)), 0)
