"""Tests of reproduction.data.nifti: axes, units, voxel sizes, label values and damage."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from reproduction.data.nifti import read_image, read_label, read_volume

RAMP = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def nifti(voxels: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    image = nib.Nifti1Image(voxels, np.diag([1.5, 1.5, 1.5, 1]) if affine is None else affine)
    return gzip.compress(image.to_bytes(), 1, mtime=0)


def with_header(place: int, *values: float) -> bytes:
    """RAMP with other numbers in its header: srow_x is at byte 280, srow_y at 296, pixdim at 76."""
    content = bytearray(gzip.decompress(nifti(RAMP)))
    struct.pack_into(f"<{len(values)}f", content, place, *values)
    return gzip.compress(content, mtime=0)


def with_unit(code: int) -> bytes:
    content = bytearray(gzip.decompress(nifti(RAMP)))
    content[123] = code  # xyzt_units
    return gzip.compress(content, mtime=0)


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
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
    voxels, _ = read_image(gzip.compress(image.to_bytes()))
    np.testing.assert_allclose(voxels, RAMP * 0.5 - 7, atol=1e-3)


WHOLE = nifti(RAMP)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"text", WHOLE[:-9], WHOLE[: len(WHOLE) // 2], WHOLE[:-6] + b"abcdef", gzip.decompress(WHOLE)),
        *(
            gzip.compress(b"", mtime=0),
            gzip.compress(b"no volume", mtime=0),
            gzip.compress(gzip.decompress(WHOLE)[:360], mtime=0),
        ),
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
        (nifti(RAMP[0]), r"it has 2 axes, shape \(3, 4\); expected three"),
        (nifti(RAMP[..., None]), r"it has 4 axes, shape \(2, 3, 4, 1\); expected three: store one volume alone"),
        (with_header(296, 0, 0, 0, 0), r"it has voxels of \[1.5, 0.0, 1.5\] mm; expected three positive"),
        (gzip.compress(UNPLACED, mtime=0), "does not say how it lies"),
        (with_header(280, 1.5, 0.1, 0, 0), "axes are not at right angles"),
        (with_header(76, 1, 3, 3, 3), r"two voxel sizes, \[3.0, 3.0, 3.0\] and \[1.5, 1.5, 1.5\] mm"),
        (with_header(280, 1.5, 0, 0, np.nan), r"its affine holds NaN or infinity: \[\[1.5, 0.0, 0.0, nan\]"),
        (with_unit(5), r"its unit of length has the code 5; expected 1 \(metre\), 2 \(mm\) or 3 \(micron\)"),
        (nifti(RAMP.astype(np.complex64)), "its voxels are complex64; expected whole or real numbers"),
        (nifti(np.zeros((2, 2, 2), RGB)), "its voxels are RGB colours; expected"),
        (nifti(np.zeros((2, 2, 2), np.dtype([*RGB.descr, ("A", "u1")]))), "its voxels are RGB colours; expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_volumes_that_lie_nowhere(content, message):
    with pytest.raises(ValueError, match=f"^no usable NIfTI volume: .*({message})"):
        read_volume(content)


@pytest.mark.parametrize(("code", "mm"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (8 + 1, 1000), (16 + 2, 1)])
def test_units_of_length(code, mm):
    """Beyond the lowest three bits there is the unit of time."""
    affine = np.diag([1.5 / mm, 1.5 / mm, 1.5 / mm, 1])
    affine[:3, 3] = 7 / mm
    content = bytearray(gzip.decompress(nifti(RAMP, affine)))
    content[123] = code
    voxels, place = read_volume(gzip.compress(content))
    assert np.array_equal(voxels, RAMP) and place.spacing_mm.tolist() == [1.5] * 3
    np.testing.assert_allclose(place.affine, [[1.5, 0, 0, 7], [0, 1.5, 0, 7], [0, 0, 1.5, 7], [0, 0, 0, 1]], rtol=1e-6)


def test_axes_as_they_are_stored():
    affine = np.array([[0, 0, -3.0, 0], [2.0, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1]])
    voxels, place = read_volume(nifti(RAMP, affine), canonical=False)
    assert np.array_equal(voxels, RAMP) and place.spacing_mm.tolist() == [2.0, 1.5, 3.0]


def with_slope(voxels: np.ndarray, slope: float) -> bytes:
    content = bytearray(gzip.decompress(nifti(voxels)))
    struct.pack_into("<2f", content, 112, slope, 0)  # scl_slope, scl_inter
    return gzip.compress(content, mtime=0)


def test_labels():
    label, _ = read_label(nifti((RAMP > 9).astype(np.uint8)))
    assert label.dtype == np.uint8 and np.array_equal(label, RAMP > 9)
    assert not read_label(nifti(np.zeros((2, 2, 2), np.float32)))[0].any()
    assert np.array_equal(read_label(nifti(RAMP % 3), values=(0, 1, 2))[0], RAMP % 3)


def test_a_label_with_a_slope():
    """255 times the float32 next to 1/255 is 1.0000000591."""
    content = with_slope(255 * (RAMP > 9).astype(np.uint8), 1 / 255)
    assert read_volume(content)[0].max() == pytest.approx(1.0000000591, abs=1e-10) != 1
    assert np.array_equal(read_label(content)[0], RAMP > 9)
    assert np.array_equal(read_label(nifti(np.where(RAMP > 9, 1, 1e-7)))[0], RAMP > 9)
    with pytest.raises(ValueError, match=r"^a label with 14 voxels of 1.0000\d+; expected 0, 1$"):
        read_label(with_slope(255 * (RAMP > 9).astype(np.uint8), 1.00001 / 255))


@pytest.mark.parametrize(
    ("voxels", "listed"),
    [
        (RAMP, "22 voxels of 2, 3, 4"),
        (np.where(RAMP > 9, 0.5, 0), "14 voxels of 0.5"),
        (np.where(RAMP > 9, np.nan, 0), "14 voxels of nan"),
        (np.where(RAMP > 9, np.inf, 0), "14 voxels of inf"),
        (np.where(RAMP > 9, -128, 0).astype(np.int8), "14 voxels of -128"),
        (np.where(RAMP > 9, 255, 0).astype(np.uint8), "14 voxels of 255"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_other_labels_are_refused_with_their_values(voxels, listed):
    with pytest.raises(ValueError, match=f"^a label with {listed}; expected 0, 1$"):
        read_label(nifti(np.asarray(voxels)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.where(RAMP > 9, np.nan, 1), "14 voxels of NaN or infinity"),
        (np.where(RAMP > 9, np.inf, 1), "14 voxels of NaN or infinity"),
        (0 * RAMP + 7, "one value only"),
    ],
    ids=["nan", "inf", "constant"],
)
def test_volumes_that_are_no_image(wrong, message):
    with pytest.raises(ValueError, match=f"^an image with {message}"):
        read_image(nifti(np.asarray(wrong, np.float32)))


def test_real_files(shared_data):
    """s0001 has voxels of 3 mm; s0002 of 1.5 mm, stored from right to left and front to back."""
    folder = shared_data / "totalsegmentator"
    voxels, place = read_image((folder / "s0001" / "ct.nii.gz").read_bytes())
    assert voxels.shape == (122, 101, 30) and place.spacing_mm.tolist() == [3, 3, 3]
    path = folder / "s0002" / "ct.nii.gz"
    voxels, place = read_image(path.read_bytes())
    assert place.spacing_mm.tolist() == [1.5, 1.5, 1.5] and np.all(np.diag(place.affine) > 0)
    assert np.array_equal(voxels, np.asarray(nib.load(path).dataobj)[::-1, ::-1])  # type: ignore[attr-defined]
