"""Tests of noisyseg.data.patches: cutting by hand, and what cutting must keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisyseg.data.patches import block_means, centre_in_box, halve


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
