"""What a radiologist drew, as voxels, and which annotations are of one nodule: both as pylidc 0.2.3 has it.

Equal to its ``Annotation.boolean_mask``, ``utils.consensus`` and ``Scan.cluster_annotations``, which is tested on masks
that pylidc made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

RATERS = 4  #: radiologists who read each scan; the database does not say who of them drew an annotation
_SHRINK, _LEAST = 0.9, 0.1  # pylidc's tolerance when a group is too large: by how much it falls, and how far


@dataclass(frozen=True)
class Contour:
    """A closed curve in one slice: ``points`` (n, 2), row and column of the pixels that it runs through.

    Its inside belongs to the nodule (``inclusion``) or is cut out of it; its own pixels never belong to the nodule.
    """

    inclusion: bool
    slice: int
    points: NDArray[np.int64]

    def inside(self) -> NDArray[np.bool_]:
        """Mask of the pixels inside, over the rows and columns of the curve; what matplotlib says of its own pixels."""
        low = self.points.min(axis=0)
        shape = np.ptp(self.points, axis=0) + 1
        pixels = low + np.indices(shape).reshape(2, -1).T
        curve = np.vstack([self.points, self.points[:1]])
        return Polygon(curve, closed=True).contains_points(pixels).reshape(shape)


@dataclass(frozen=True)
class Annotation:
    """All contours that one radiologist drew around one nodule, in the order of the database."""

    id: int
    contours: tuple[Contour, ...]

    def points(self) -> NDArray[np.int64]:
        """Rows, columns and slices of the pixels on the contours, (n, 3)."""
        return np.vstack([np.column_stack([c.points, np.full(len(c.points), c.slice)]) for c in self.contours])

    def voxels(self) -> NDArray[np.int64]:
        """Rows, columns and slices of the voxels of the nodule, (n, 3), in C order.

        Inclusions come first, one after the other: each adds its inside and then takes its curve away, also where an
        earlier one had covered it. Exclusions then take away their inside and their curve.

        Examples
        --------
        >>> diamond = np.array([[0, 2], [1, 1], [2, 0], [3, 1], [4, 2], [3, 3], [2, 4], [1, 3]])
        >>> Annotation(1, (Contour(True, 7, diamond),)).voxels().tolist()
        [[1, 2, 7], [2, 1, 7], [2, 2, 7], [2, 3, 7], [3, 2, 7]]
        """
        every = self.points()
        low = every.min(axis=0)
        mask = np.zeros(np.ptp(every, axis=0) + 1, dtype=bool)
        for contour in sorted(self.contours, key=lambda c: not c.inclusion):
            inside = contour.inside()
            corner = contour.points.min(axis=0) - low[:2]
            place = tuple(slice(k, k + n) for k, n in zip(corner, inside.shape, strict=True))
            layer = mask[:, :, contour.slice - low[2]]
            if contour.inclusion:
                layer[place] |= inside
            else:
                layer[place] &= ~inside
            layer[tuple((contour.points - low[:2]).T)] = False
        return np.argwhere(mask) + low

    def digest(self) -> str:
        """SHA-256 of the voxels, as little-endian 32-bit whole numbers."""
        return hashlib.sha256(self.voxels().astype("<i4").tobytes()).hexdigest()


def group_nodules(annotations: Sequence[Annotation], slice_mm: float) -> list[list[Annotation]]:
    """Group annotations of one scan that are of the same nodule.

    Two annotations are of one nodule if the distance of two points of their contours, in steps of pixels and slices, is
    at most ``slice_mm``; so are those that others connect. While a group has more than four, the tolerance falls by a
    tenth, down to 0.1; nodules that touch stay together then. This is the default of pylidc, which compares a distance
    in steps with a thickness in millimetres.
    """
    if not annotations:
        return []
    points = [a.points() for a in annotations]
    distance = np.full((len(points),) * 2, np.inf)
    for i, k in combinations(range(len(points)), 2):
        gap = np.maximum(points[i].min(axis=0) - points[k].max(axis=0), points[k].min(axis=0) - points[i].max(axis=0))
        if gap.max() <= slice_mm:  # the boxes are near enough
            distance[i, k] = distance[k, i] = cdist(points[i], points[k]).min()
    tolerance = slice_mm
    while True:
        count, group = connected_components(distance <= tolerance, directed=False)
        tolerance *= _SHRINK
        if np.bincount(group).max() <= RATERS or tolerance < _LEAST:
            break
    return [[a for a, g in zip(annotations, group, strict=True) if g == number] for number in range(count)]
