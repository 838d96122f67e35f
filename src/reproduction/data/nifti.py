"""Images and labels from the bytes of a ``.nii.gz``, with their voxel size in millimetres: the reader of all data sets.

Every fault of a file is a ``ValueError`` that says what is wrong with it; the caller adds the file's name.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by NIfTI's code: unknown (millimetres in practice), metre, mm, micron
_ROUNDING = 1e-6  # 255 times the float32 next to 1/255 is 1.00000006


class Place(NamedTuple):
    """Where a volume lies: ``affine`` (4, 4) from voxels to millimetres, ``spacing_mm`` (3,) to 0.0001 mm."""

    affine: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]


def read_volume(content: bytes, canonical: bool = True) -> tuple[NDArray, Place]:
    """Voxels (x, y, z) and their place.

    Parameters
    ----------
    content
        Bytes of a ``.nii.gz``. Metres and microns are converted to millimetres.
    canonical
        Bring the axes to left to right, back to front, feet to head; False leaves them as they are stored.

    Raises
    ------
    ValueError
        If the bytes are no whole NIfTI volume of real numbers with three axes at right angles, or the header has two
        voxel sizes or does not say how the volume lies.

    Examples
    --------
    >>> image = nib.Nifti1Image(np.arange(2, dtype=np.int16).reshape(2, 1, 1), np.diag([-1.5, 1.5, 1.5, 1]))
    >>> voxels, place = read_volume(gzip.compress(image.to_bytes()))
    >>> voxels.ravel().tolist(), place.spacing_mm.tolist()
    ([1, 0], [1.5, 1.5, 1.5])
    """
    try:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
        to_mm = _check_header(image)
        if canonical:
            image = nib.as_closest_canonical(image)
        voxels = np.asanyarray(image.dataobj)
        affine = np.diag([to_mm, to_mm, to_mm, 1]) @ np.asarray(image.affine, dtype=np.float64)
    # gzip, zlib, NumPy and nibabel raise a dozen kinds for bytes that they did not expect, TypeError and KeyError too.
    except Exception as error:
        raise ValueError(f"no usable NIfTI volume: {' '.join(str(error).split())}") from error
    return voxels, Place(affine, np.round(voxel_sizes(affine), 4))


def _check_header(image: nib.Nifti1Image) -> float:
    """Millimetres in the unit of an image's affine; a ``ValueError`` if the header makes no sense."""
    header, dtype = image.header, np.dtype(image.get_data_dtype())
    if dtype.kind not in "iuf":
        raise ValueError(f"its voxels are {'RGB colours' if dtype.names else dtype}; expected whole or real numbers")
    if len(image.shape) != 3:
        raise ValueError(f"it has {len(image.shape)} axes, shape {image.shape}; expected three: store one volume alone")
    if not header["sform_code"] and not header["qform_code"]:
        raise ValueError("its header does not say how it lies (neither sform nor qform)")
    unit = int(header["xyzt_units"]) & 7
    if unit not in _MM:
        raise ValueError(f"its unit of length has the code {unit}; expected 1 (metre), 2 (mm) or 3 (micron)")
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise ValueError(f"its affine holds NaN or infinity: {affine[:3].tolist()}")
    sizes, zooms = voxel_sizes(affine) * _MM[unit], np.asarray(header.get_zooms(), np.float64) * _MM[unit]
    if not (sizes > 1e-3).all():
        raise ValueError(f"it has voxels of {sizes.tolist()} mm; expected three positive lengths")
    if not np.allclose(zooms, sizes, atol=1e-2):
        raise ValueError(f"its header has two voxel sizes, {zooms.tolist()} and {sizes.tolist()} mm")
    axes = affine[:3, :3] / voxel_sizes(affine)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise ValueError("its axes are not at right angles")
    return _MM[unit]


def read_label(
    content: bytes, values: Collection[int] = (0, 1), canonical: bool = True
) -> tuple[NDArray[np.uint8], Place]:
    """Read a label image; rounding by a slope in the header, up to 1e-6, is undone.

    Raises
    ------
    ValueError
        As :func:`read_volume`, or if a voxel has none of the ``values``.
    """
    voxels, place = read_volume(content, canonical)
    filled = voxels != 0
    found = voxels[filled].astype(np.float64)  # the foreground alone: it is small
    with np.errstate(invalid="ignore"):  # infinity
        whole = np.rint(found)
        odd = ~(np.abs(found - whole) <= _ROUNDING) | ~np.isin(whole, list(values))
    if odd.any():
        listed = ", ".join(f"{value:.10g}" for value in np.unique(found[odd])[:3])
        raise ValueError(f"a label with {odd.sum()} voxels of {listed}; expected {', '.join(map(str, values))}")
    label = np.zeros(voxels.shape, np.uint8)
    label[filled] = whole
    return label, place


def read_image(content: bytes) -> tuple[NDArray, Place]:
    """Read an image: finite, and not constant.

    Raises
    ------
    ValueError
        As :func:`read_volume`, or if there are NaN, infinity, or one value only.
    """
    voxels, place = read_volume(content)
    if missing := int(np.count_nonzero(~np.isfinite(voxels))):
        raise ValueError(f"an image with {missing} voxels of NaN or infinity")
    if not voxels.size or voxels.min() == voxels.max():
        raise ValueError(f"an image with one value only, shape {voxels.shape}")
    return voxels, place
