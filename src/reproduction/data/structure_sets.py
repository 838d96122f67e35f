"""Structure sets of radiotherapy (DICOM RTSTRUCT): closed curves in millimetres, as voxels of their images.

Every fault of a file is a ``ValueError`` that says what is wrong with it; the caller adds the file's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from skimage.draw import polygon2mask

CLASS = "1.2.840.10008.5.1.4.1.1.481.3"  # RT Structure Set Storage
_SHIFT = 0.01  # how far, in voxels, slices may be from equal steps, and points of a curve from one slice


@dataclass(frozen=True)
class Curve:
    """A closed curve: ``points`` (n, 3) in millimetres; of kind ``xor`` it cuts out what an earlier curve includes."""

    points: NDArray[np.float64]
    xor: bool = False


@dataclass(frozen=True)
class StructureSet:
    """The curves of each structure by its name, and the UIDs of the images that it refers to."""

    curves: dict[str, tuple[Curve, ...]]
    images: frozenset[str]


@dataclass(frozen=True)
class ImageGrid:
    """Voxels of a series of slices: ``shape`` (slices, rows, columns), ``affine`` (4, 4) from their indices to mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def voxels(self, curves: Sequence[Curve]) -> NDArray[np.int64]:
        """Slices, rows and columns, (n, 3), of the voxels whose centres lie in the curves.

        A curve belongs to the nearest slice. Curves of one slice are united, but for those of kind ``xor``.

        Raises
        ------
        ValueError
            If a curve leaves the images or is in no slice.
        """
        mask = np.zeros(self.shape, dtype=bool)
        for curve in curves:
            homogeneous = np.column_stack([curve.points, np.ones(len(curve.points))])
            places = np.linalg.solve(self.affine, homogeneous.T)[:3].T
            depth = places[:, 0]
            number = round(float(depth.mean()))
            if np.ptp(depth) > _SHIFT or not 0 <= number < self.shape[0]:
                raise ValueError(
                    f"a curve runs through slices {depth.min():.2f} to {depth.max():.2f}; expected one of "
                    f"0 to {self.shape[0] - 1}"
                )
            if places[:, 1:].min() < -0.5 or (places[:, 1:].max(axis=0) > np.array(self.shape[1:]) - 0.5).any():
                raise ValueError(
                    f"a curve in slice {number} leaves the images of {self.shape[1]} x {self.shape[2]} pixels"
                )
            inside = polygon2mask(self.shape[1:], places[:, 1:])
            mask[number] = mask[number] ^ inside if curve.xor else mask[number] | inside
        return np.argwhere(mask)


def read_dicom(content: bytes | BinaryIO) -> Any:
    """Read a DICOM file without its pixels.

    Raises
    ------
    ValueError
        If it is none, or damaged.
    """
    try:
        file = BytesIO(content) if isinstance(content, bytes) else content
        return pydicom.dcmread(file, stop_before_pixels=True)
    # pydicom raises many kinds for bytes that it did not expect.
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no readable DICOM file: {' '.join(str(error).split())}") from error


def read_structure_set(data: Any) -> StructureSet:
    """Read the structures of an RTSTRUCT; one without a curve is left out, as if nobody had drawn it.

    Raises
    ------
    ValueError
        If it is no RTSTRUCT, a structure's name occurs twice, or a curve is open or has fewer than three points.
    """
    if data.get("SOPClassUID") != CLASS:
        raise ValueError(f"no structure set: its class is {data.get('SOPClassUID', 'not given')}")
    names = {int(roi.ROINumber): str(roi.ROIName).strip() for roi in data.get("StructureSetROISequence", [])}
    if twice := sorted({name for name in names.values() if list(names.values()).count(name) > 1}):
        raise ValueError(f"{len(twice)} names of structures occur more than once, the first is {twice[0]!r}")
    found = {}
    for roi in data.get("ROIContourSequence", []):
        name = names.get(int(roi.ReferencedROINumber))
        if name is None:
            raise ValueError(f"curves are of structure {roi.ReferencedROINumber}, which has no name")
        curves = tuple(_curve(name, contour) for contour in roi.get("ContourSequence", []))
        if curves:
            found[name] = curves
    return StructureSet(found, frozenset(_image_uids(data)))


def _curve(name: str, contour: Any) -> Curve:
    kind = str(contour.get("ContourGeometricType", "")).upper().replace("_", "")
    if kind not in ("CLOSEDPLANAR", "CLOSEDPLANARXOR"):
        raise ValueError(f"{name}: a curve is {contour.get('ContourGeometricType')}; expected CLOSED_PLANAR")
    values = np.asarray(contour.get("ContourData") or [], dtype=np.float64)
    if values.size < 9 or values.size % 3 or not np.isfinite(values).all():
        raise ValueError(
            f"{name}: a curve has {values.size} coordinates; expected three finite ones for 3 or more points"
        )
    return Curve(values.reshape(-1, 3), kind.endswith("XOR"))


def _image_uids(data: Any) -> list[str]:
    return [
        str(image.ReferencedSOPInstanceUID)
        for frame in data.get("ReferencedFrameOfReferenceSequence", [])
        for study in frame.get("RTReferencedStudySequence", [])
        for series in study.get("RTReferencedSeriesSequence", [])
        for image in series.get("ContourImageSequence", [])
    ]


def image_grid(images: Sequence[Any]) -> ImageGrid:
    """Make the grid of a series of slices, in the order of their places.

    Raises
    ------
    ValueError
        If there are fewer than two, they differ in size or direction, or are not equally spaced.
    """
    if len(images) < 2:
        raise ValueError(f"{len(images)} images; expected at least two slices")
    try:
        size = {(int(d.Rows), int(d.Columns)) for d in images}
        spacing = {tuple(map(float, d.PixelSpacing)) for d in images}
        turn = np.array([d.ImageOrientationPatient for d in images], dtype=np.float64)
        corner = np.array([d.ImagePositionPatient for d in images], dtype=np.float64)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"an image does not say how it lies: {error}") from error
    if len(size) > 1 or len(spacing) > 1 or np.ptp(turn, axis=0).max() > 1e-4:
        raise ValueError(f"images of {len(size)} sizes and {len(spacing)} pixel spacings; expected one series")
    along_row, along_column = turn[0, :3], turn[0, 3:]
    corner = corner[np.argsort(corner @ np.cross(along_row, along_column))]
    steps = np.diff(corner, axis=0)
    step = steps.mean(axis=0)
    if np.linalg.norm(step) < 1e-3 or np.linalg.norm(steps - step, axis=1).max() > _SHIFT * np.linalg.norm(step):
        lengths = np.linalg.norm(steps, axis=1)
        raise ValueError(f"slices are {lengths.min():.3f} to {lengths.max():.3f} mm apart; expected equal steps")
    ((rows, columns),), ((down, right),) = size, spacing
    affine = np.eye(4)
    affine[:3] = np.column_stack([step, along_column * down, along_row * right, corner[0]])
    return ImageGrid((len(images), rows, columns), affine)
