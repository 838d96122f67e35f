"""Tests of reproduction.data.structure_sets on files that these tests write: places, kinds of curves, faults."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_files import slices, stored, structure_set
from reproduction.data.structure_sets import Curve, image_grid, read_dicom, read_structure_set

TURNED = (0.0, 0.0, -1.0, 0.6, 0.8, 0.0)  # rows run downwards, columns aslant


def circle(images, k: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    """A circle in slice ``k`` around ``centre`` (rows and columns, may be fractions); the radius is in mm."""
    images = sorted(images, key=lambda d: np.dot(d.ImagePositionPatient, np.cross(*np.split(turn(images), 2))))
    along_row, along_column = np.split(turn(images), 2)
    down, right = images[0].PixelSpacing
    middle = np.array(images[k].ImagePositionPatient) + centre[0] * down * along_column + centre[1] * right * along_row
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)[:, None]
    return middle + radius * (np.cos(angle) * along_row + np.sin(angle) * along_column)


def turn(images) -> np.ndarray:
    return np.array(images[0].ImageOrientationPatient, float)


def disc(images, k: int, centre: tuple[float, float], radius: float) -> set[tuple[int, int, int]]:
    """The voxels whose centres lie within the circle, by hand."""
    rows, columns = images[0].Rows, images[0].Columns
    down, right = map(float, images[0].PixelSpacing)
    i, j = np.indices((rows, columns))
    inside = ((i - centre[0]) * down) ** 2 + ((j - centre[1]) * right) ** 2 < radius**2
    return {(k, *place) for place in np.argwhere(inside).tolist()}


def read(images, structures):
    """Through the bytes of files, as from a disk."""
    grid = image_grid([read_dicom(stored(image)) for image in images])
    found = read_structure_set(read_dicom(stored(structure_set(images, structures))))
    return {name: set(map(tuple, grid.voxels(curves).tolist())) for name, curves in found.curves.items()}


@pytest.mark.parametrize("turned", [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), TURNED])
def test_circles_are_where_they_were_drawn(turned):
    images = slices(turn=turned)
    places = {"one": (0, (11.3, 9.2), 7.1), "two": (4, (8.6, 10.7), 4.3)}
    found = read(images, {name: [(circle(images, *place), "CLOSED_PLANAR")] for name, place in places.items()})
    assert found == {name: disc(images, *place) for name, place in places.items()}


def test_curves_of_a_slice_are_united_or_cut_out():
    images = slices()
    large, small, far = ((2, (11.3, 9.2), 8.1), (2, (11.3, 9.2), 4.1), (2, (4.4, 3.3), 3.2))
    curves = {
        "united": [(circle(images, *c), "CLOSED_PLANAR") for c in (large, small, far)],
        "ring": [(circle(images, *c), "CLOSEDPLANAR_XOR") for c in (large, small)],
        "both slices": [(circle(images, k, (11.3, 9.2), 4.1), "CLOSED_PLANAR") for k in (2, 3)],
        "nothing": [],
    }
    found = read(images, curves)
    assert found["united"] == disc(images, *large) | disc(images, *far)
    assert found["ring"] == disc(images, *large) - disc(images, *small)
    assert {k for k, _, _ in found["both slices"]} == {2, 3}
    assert "nothing" not in found


def test_a_curve_between_slices_belongs_to_the_nearest():
    images = slices(step=2.5)
    lifted = circle(images, 2, (11.3, 9.2), 4.1) + np.array([0, 0, 1.0])
    assert read(images, {"a": [(lifted, "CLOSED_PLANAR")]})["a"] == disc(images, 2, (11.3, 9.2), 4.1)


def test_curves_that_leave_the_images():
    images = slices()
    grid = image_grid(images)
    good = circle(images, 2, (11.3, 9.2), 4.1)
    aslant = good + np.linspace(0, 3, len(good))[:, None] * [0, 0, 1]
    for points, said in (
        (good + np.array([0, 0, 50]), r"a curve runs through slices 22.00 to 22.00; expected one of 0 to 5"),
        (aslant, r"a curve runs through slices 2.00 to 3.20; expected one of 0 to 5"),
        (good + np.array([-30, 0, 0]), "a curve in slice 2 leaves the images of 24 x 20 pixels"),
    ):
        with pytest.raises(ValueError, match=said):
            grid.voxels([Curve(points)])


def test_series_that_make_no_grid():
    images = slices()
    with pytest.raises(ValueError, match="1 images; expected at least two slices"):
        image_grid(images[:1])
    with pytest.raises(ValueError, match=r"slices are 2.500 to 5.000 mm apart; expected equal steps"):
        image_grid([*images[:2], *images[3:]])
    with pytest.raises(ValueError, match=r"slices are 0.000 to 2.500 mm apart"):
        image_grid([*images, images[0]])
    with pytest.raises(ValueError, match="images of 2 sizes and 1 pixel spacings; expected one series"):
        image_grid([*images, *slices((6, 10, 10))])
    del images[0].ImagePositionPatient
    with pytest.raises(ValueError, match=r"an image does not say how it lies: .*ImagePositionPatient"):
        image_grid(images)


def test_structure_sets_with_faults():
    images = slices()
    points = circle(images, 2, (11.3, 9.2), 4.1)
    with pytest.raises(ValueError, match=r"no structure set: its class is 1\.2\.840"):
        read_structure_set(images[0])
    for curves, said in (
        ([(points, "OPEN_PLANAR")], "Rectum: a curve is OPEN_PLANAR; expected CLOSED_PLANAR"),
        ([(points[:2], "CLOSED_PLANAR")], "Rectum: a curve has 6 coordinates; expected three finite ones"),
        ([(points.ravel()[:-1], "CLOSED_PLANAR")], "Rectum: a curve has 599 coordinates"),
    ):
        with pytest.raises(ValueError, match=said):
            read_structure_set(structure_set(images, {"Rectum": curves}))
    data = structure_set(images, {"Rectum": [], "Prostate": []})
    data.StructureSetROISequence[1].ROIName = "Rectum "
    with pytest.raises(ValueError, match="1 names of structures occur more than once, the first is 'Rectum'"):
        read_structure_set(data)
    data = structure_set(images, {"Rectum": [(points, "CLOSED_PLANAR")]})
    data.ROIContourSequence[0].ReferencedROINumber = 7
    with pytest.raises(ValueError, match="curves are of structure 7, which has no name"):
        read_structure_set(data)


@pytest.mark.parametrize("content", [b"", b"no DICOM" * 100, bytes(500)], ids=["empty", "text", "zeros"])
def test_what_is_no_dicom(content):
    with pytest.raises(ValueError, match="no readable DICOM file: "):
        read_dicom(content)
