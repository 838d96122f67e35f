"""DICOM files that tests write: slices of a series, and a structure set with curves on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from reproduction.data.structure_sets import CLASS

Curves = Iterable[tuple[np.ndarray, str]]  # points in mm, and the kind of the curve


def stored(data: Dataset) -> bytes:
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def slices(
    shape: tuple[int, int, int] = (6, 24, 20),
    spacing: tuple[float, float] = (1.5, 1.2),
    step: float = 2.5,
    corner: Sequence[float] = (-30.0, -12.0, 40.0),
    turn: Sequence[float] = (1, 0, 0, 0, 1, 0),
) -> list[Dataset]:
    """Headers and pixels of a series, from the last slice to the first, as archives have them in any order."""
    normal = np.cross(turn[:3], turn[3:])
    found = []
    for k in range(shape[0])[::-1]:
        data = Dataset()
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[f"{shape}{turn}{k}"])
        data.Rows, data.Columns = shape[1:]
        data.PixelSpacing = list(spacing)
        data.ImageOrientationPatient = list(map(float, turn))
        data.ImagePositionPatient = [round(float(x), 6) for x in np.asarray(corner) + k * step * normal]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.PixelData = bytes(2 * shape[1] * shape[2])
        found.append(data)
    return found


def structure_set(images: Sequence[Dataset], structures: dict[str, Curves]) -> Dataset:
    """Make a structure set that refers to the images; a structure may have no curve."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CLASS, generate_uid(entropy_srcs=["structures", *structures])
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.ContourImageSequence = []
    for image in images:
        reference = Dataset()
        reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
        series.ContourImageSequence.append(reference)
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    data.ReferencedFrameOfReferenceSequence = [frame]
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    for number, (name, curves) in enumerate(structures.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber = number
        for points, kind in curves:
            contour = Dataset()
            contour.ContourGeometricType = kind
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{x:.4f}" for x in np.ravel(points)]
            drawn.ContourSequence = [*drawn.get("ContourSequence", []), contour]
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(drawn)
    return data
