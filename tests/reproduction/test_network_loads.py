"""Loads of networks: one convolution by hand, and ratios of the published shapes."""

import pytest

from reproduction.chapters.network_loads import limits, loads


def test_multiply_adds_by_hand():
    """Two levels, one convolution a block: 27 c_in c_out for each output voxel, 8 voxels to one below."""
    fine = 27 * 1 * 2 + 27 * 4 * 2 + 2 * 1  # down0_0, up0_0 (2 that rise, 2 that skip), head
    coarse = 27 * 2 * 3 + 3 * 2 * 8  # down1_0 and the transposed convolution, for each coarse voxel
    found = loads([2, 3], 1, side=8)
    assert found.multiply_adds == pytest.approx(fine + coarse / 8)


def test_thirty_five_times_the_parameters_are_less_than_twice_the_operations():
    whole, lean = loads([4 << level for level in range(5)]), loads([4] * 5)
    assert whole.parameters / lean.parameters == pytest.approx(35.65, abs=0.01)
    operations, activations = limits(5)
    assert 1 < whole.multiply_adds / lean.multiply_adds < operations < 1.75
    assert 1 < whole.kept_bytes / lean.kept_bytes < 1.25 and activations < 7 / 6


def test_the_size_of_the_image_does_not_matter():
    assert loads([2, 4, 8], side=16).multiply_adds == pytest.approx(loads([2, 4, 8], side=32).multiply_adds)
