"""CTs and masks from the bytes of a ``.nii.gz``, in canonical axes, with their voxel size checked."""

from __future__ import annotations

import gzip
import zlib
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import OrientationError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

# What gzip and nibabel raise for bytes that are no whole NIfTI.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    zlib.error,
    ImageFileError,
    WrapStructError,
    HeaderDataError,
    OrientationError,
)


class Place(NamedTuple):
    """Where a volume lies: ``affine`` (4, 4) from voxels to millimetres, ``spacing_mm`` (3,)."""

    affine: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]


def read_volume(content: bytes) -> tuple[NDArray, Place]:
    """Voxels (x, y, z) in canonical axes (left to right, back to front, feet to head) and their place.

    The voxel size is that of the affine, to a ten-thousandth of a millimetre.

    Raises
    ------
    ValueError
        If the bytes are no whole NIfTI volume with three axes at right angles, or its header has two voxel sizes or does not
        say how the volume lies.

    Examples
    --------
    >>> image = nib.Nifti1Image(np.arange(2, dtype=np.int16).reshape(2, 1, 1), np.diag([-1.5, 1.5, 1.5, 1]))
    >>> voxels, place = read_volume(gzip.compress(image.to_bytes()))
    >>> voxels.ravel().tolist(), place.spacing_mm.tolist()
    ([1, 0], [1.5, 1.5, 1.5])
    """
    try:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
        if not image.header["sform_code"] and not image.header["qform_code"]:
            raise ValueError("its header does not say how it lies (neither sform nor qform)")
        affine = np.asarray(image.affine, dtype=np.float64)
        zooms = np.asarray(image.header.get_zooms(), dtype=np.float64)
        sizes = voxel_sizes(affine)
        if len(image.shape) != 3 or not np.isfinite(affine).all() or not (sizes > 1e-3).all():
            raise ValueError(
                f"shape {image.shape} and voxels of {sizes.tolist()} mm; expected three axes of some length"
            )
        if not np.allclose(zooms, sizes, atol=1e-2):
            raise ValueError(f"the header has two voxel sizes, {zooms.tolist()} and {sizes.tolist()} mm")
        axes = affine[:3, :3] / sizes
        if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
            raise ValueError("its axes are not at right angles")
        canonical = nib.as_closest_canonical(image)
        assert isinstance(canonical, nib.Nifti1Image) and canonical.affine is not None
        voxels = np.asanyarray(canonical.dataobj)
    except _DAMAGE as error:
        raise ValueError(f"no usable NIfTI volume: {' '.join(str(error).split())}") from error
    place = np.asarray(canonical.affine, dtype=np.float64)
    return voxels, Place(place, np.round(voxel_sizes(place), 4))


def read_mask(content: bytes) -> tuple[NDArray[np.bool_], Place]:
    """Read a mask of 0 and 1.

    Raises
    ------
    ValueError
        As :func:`read_volume`, or if there are other values.
    """
    voxels, place = read_volume(content)
    filled = voxels != 0
    if (voxels[filled] != 1).any():
        raise ValueError(f"a mask with the value {voxels[filled].max()}; expected 0 and 1")
    return filled, place


def read_ct(content: bytes) -> tuple[NDArray, Place]:
    """Read a CT in Hounsfield units.

    Raises
    ------
    ValueError
        As :func:`read_volume`, or if there are NaN, infinity, or one value only.
    """
    voxels, place = read_volume(content)
    if voxels.dtype.kind not in "iuf" or not np.isfinite(voxels).all():
        raise ValueError("a CT with NaN, infinity or no numbers")
    if not voxels.size or voxels.min() == voxels.max():
        raise ValueError("a CT with one value only")
    return voxels, place
