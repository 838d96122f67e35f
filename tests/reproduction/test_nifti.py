"""Tests of reproduction.data.nifti: axes, voxel sizes and damage."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from reproduction.data.nifti import read_ct, read_mask, read_volume

RAMP = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def nifti(voxels: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    image = nib.Nifti1Image(voxels, np.diag([1.5, 1.5, 1.5, 1]) if affine is None else affine)
    return gzip.compress(image.to_bytes(), 1, mtime=0)


def with_header(place: int, *values: float) -> bytes:
    """RAMP with other numbers in its header: srow_x is at byte 280, srow_y at 296, pixdim at 76."""
    content = bytearray(gzip.decompress(nifti(RAMP)))
    struct.pack_into(f"<{len(values)}f", content, place, *values)
    return gzip.compress(content)


UNPLACED = bytearray(gzip.decompress(nifti(RAMP)))
struct.pack_into("<2h", UNPLACED, 252, 0, 0)  # qform_code, sform_code


def test_every_storage_order_is_brought_to_canonical_axes():
    for axis in range(3):
        affine = np.diag([1.5, 2.0, 3.0, 1.0])
        affine[axis, axis] *= -1
        affine[axis, 3] = -affine[axis, axis] * (RAMP.shape[axis] - 1)
        voxels, place = read_volume(nifti(np.flip(RAMP, axis), affine))
        assert np.array_equal(voxels, RAMP) and place.spacing_mm.tolist() == [1.5, 2.0, 3.0]
        assert np.allclose(place.affine, np.diag([1.5, 2.0, 3.0, 1.0]))
    swapped = np.array([[0, 0, 3.0, 0], [2.0, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1]])
    voxels, place = read_volume(nifti(RAMP, swapped))
    assert np.array_equal(voxels, RAMP.transpose(2, 0, 1)) and place.spacing_mm.tolist() == [3.0, 2.0, 1.5]


def test_a_slightly_turned_scan_is_taken_with_its_own_axes():
    turn = np.deg2rad(5)
    affine = np.eye(4)
    affine[:2, :2] = 1.5 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    voxels, place = read_volume(nifti(RAMP, affine))
    assert np.array_equal(voxels, RAMP) and place.spacing_mm.tolist() == [1.5, 1.5, 1.0]


def test_scaled_values():
    image = nib.Nifti1Image(RAMP.astype(np.float32) * 0.5 - 7, np.eye(4))
    image.set_data_dtype(np.int16)
    voxels, _ = read_ct(gzip.compress(image.to_bytes()))
    np.testing.assert_allclose(voxels, RAMP * 0.5 - 7, atol=1e-3)


WHOLE = nifti(RAMP)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"text", WHOLE[:-9], WHOLE[: len(WHOLE) // 2], WHOLE[:-6] + b"abcdef", gzip.decompress(WHOLE)),
        *(gzip.compress(b""), gzip.compress(b"no volume"), gzip.compress(gzip.decompress(WHOLE)[:360])),
    ],
    ids=["empty", "text", "cut", "half", "checksum", "not gzip", "nothing", "no header", "header alone"],
)
def test_damaged_files(content):
    with pytest.raises(ValueError, match=r"^no usable NIfTI volume: ") as caught:
        read_volume(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nifti(RAMP[0]), r"shape \(3, 4\) and voxels of"),
        (nifti(RAMP[..., None]), r"shape \(2, 3, 4, 1\) and voxels of"),
        (with_header(296, 0, 0, 0, 0), "and voxels of"),
        (gzip.compress(UNPLACED), "does not say how it lies"),
        (with_header(280, 1.5, 0.1, 0, 0), "axes are not at right angles"),
        (with_header(76, 1, 3, 3, 3), r"two voxel sizes, \[3.0, 3.0, 3.0\] and \[1.5, 1.5, 1.5\] mm"),
        (with_header(280, 1.5, 0, 0, np.nan), "and voxels of"),
    ],
    ids=["two axes", "four axes", "flat", "unplaced", "sheared", "two sizes", "nan"],
)
def test_volumes_that_lie_nowhere(content, message):
    with pytest.raises(ValueError, match=f"^no usable NIfTI volume: .*({message})"):
        read_volume(content)


def test_masks():
    mask, _ = read_mask(nifti((RAMP > 9).astype(np.uint8)))
    assert mask.dtype == bool and np.array_equal(mask, RAMP > 9)
    assert not read_mask(nifti(np.zeros((2, 2, 2), np.float32)))[0].any()
    for wrong in (RAMP, (RAMP > 9) * 0.5, np.where(RAMP > 9, np.nan, 0)):
        with pytest.raises(ValueError, match=r"a mask with the value .*; expected 0 and 1"):
            read_mask(nifti(np.asarray(wrong, np.float32)))


@pytest.mark.parametrize("wrong", [np.where(RAMP > 9, np.nan, 1), np.where(RAMP > 9, np.inf, 1), 0 * RAMP + 7])
def test_cts_without_an_image(wrong):
    with pytest.raises(ValueError, match=r"a CT with (NaN, infinity or no numbers|one value only)"):
        read_ct(nifti(np.asarray(wrong, np.float32)))


def test_colours_are_no_ct():
    with pytest.raises(ValueError, match=r"no numbers|no usable NIfTI"):
        read_ct(nifti(np.zeros((2, 2, 2), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))))


def test_real_files(shared_data):
    """s0001 has voxels of 3 mm; s0002 of 1.5 mm, stored from right to left and front to back."""
    folder = shared_data / "totalsegmentator"
    voxels, place = read_ct((folder / "s0001" / "ct.nii.gz").read_bytes())
    assert voxels.shape == (122, 101, 30) and place.spacing_mm.tolist() == [3, 3, 3]
    path = folder / "s0002" / "ct.nii.gz"
    voxels, place = read_ct(path.read_bytes())
    assert place.spacing_mm.tolist() == [1.5, 1.5, 1.5] and np.all(np.diag(place.affine) > 0)
    assert np.array_equal(voxels, np.asarray(nib.load(path).dataobj)[::-1, ::-1])  # type: ignore[attr-defined]
