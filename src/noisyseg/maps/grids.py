"""Where the voxels of an image lie: read from a NIfTI header, and written with every mask."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError

ENDINGS = (".nii.gz", ".nii", ".npz", ".npy")


def stem(path: Path) -> str:
    """Give the name of a file without its ending, ``.nii.gz`` being one: all of the name that says which case it is.

    Examples
    --------
    >>> stem(Path("patient.7.nii.gz"))
    'patient.7'
    """
    return next(path.name.removesuffix(ending) for ending in (*ENDINGS, "") if path.name.endswith(ending))


class Grid(NamedTuple):
    """The header of an image (affine, its codes, spacing and units) and the ending of the files that get it."""

    header: Any
    ending: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The voxels along x, y and z."""
        return tuple(self.header.get_data_shape())

    @property
    def voxel_mm3(self) -> float:
        """The volume of a voxel."""
        return float(abs(np.linalg.det(self.header.get_best_affine()[:3, :3])))

    def write(self, mask: np.ndarray, file: Any) -> None:
        """Write a boolean mask as uint8 into an open file with this header; the same mask gives the same bytes."""
        kind = nib.Nifti2Image if isinstance(self.header, nib.Nifti2Header) else nib.Nifti1Image
        image = kind(mask.view(np.uint8), None, self.header)
        if self.ending == ".nii":
            image.to_stream(file)
        else:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                image.to_stream(packed)


def load(path: Path) -> Any:
    """Open a NIfTI file, whose voxels are read when they are wanted; it stays open, so that each is unpacked once."""
    try:
        image: Any = nib.load(path, keep_file_open=True)
    except ImageFileError as error:
        raise ValueError(f"expected a NIfTI file: {error}") from None
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(f"expected a NIfTI file in one part, .nii or .nii.gz, got {type(image).__name__}")
    dtype = np.dtype(image.get_data_dtype())
    if dtype.kind not in "iuf":
        raise ValueError(f"expected real numbers, got voxels of type {dtype}")
    return image


def grid_of(image: Any, shape: tuple[int, ...], any_affine: bool) -> Grid:
    """Give the grid of an image, of which `shape` is the spatial part, or raise `ValueError` if it makes no sense."""
    header = image.header.copy()
    if not any_affine:
        check_affine(header)
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header.extensions.clear()
    header.set_intent("none")
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    return Grid(header, ".nii" if Path(image.get_filename()).name.endswith(".nii") else ".nii.gz")


def grid_at(affine: np.ndarray, shape: tuple[int, ...]) -> Grid:
    """Give the grid of an image of which the affine is all that is known."""
    header = nib.Nifti1Image(np.empty(shape, np.uint8), affine).header
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header.set_xyzt_units("mm")
    check_affine(header)
    return Grid(header, ".nii.gz")


def check_affine(header: Any) -> None:
    """Raise `ValueError` unless a header says how the volume lies, with axes at right angles."""
    advice = "Mend the header, or accept it as it is with --any-affine: voxels are thresholded all the same"
    if not header["sform_code"] and not header["qform_code"]:
        raise ValueError(f"the header has no affine (sform and qform codes are 0). {advice}")
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    if not np.isfinite(affine).all() or not (voxel_sizes(affine) > 0).all():
        raise ValueError(f"the affine holds NaN, infinity or a voxel of size 0: {affine[:3].tolist()}. {advice}")
    axes = affine[:3, :3] / voxel_sizes(affine)
    cosine = float(abs(axes.T @ axes - np.eye(3)).max())
    if cosine > 1e-3:
        raise ValueError(f"the affine's axes are not at right angles (largest cosine {cosine:.3g}). {advice}")


def check_same_place(name: str, image: Any, grid: Grid | None, shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless an image has the shape and, to a hundredth of a voxel, the place of a map."""
    if tuple(image.shape) != shape:
        raise ValueError(f"{name}: expected the shape of the map, {shape}, got {tuple(image.shape)}")
    if grid is not None:
        ours = grid.header.get_best_affine()
        away = float(abs(np.linalg.solve(ours, image.affine) - np.eye(4)).max())
        if away > 0.01 and np.isfinite(away):
            raise ValueError(
                f"{name}: it has the shape of the map and lies elsewhere (affines differ by {away:.3g} voxels)"
            )
