"""Which cases a data set takes: measures of every structure, inclusion criteria, and an order by subject id.

The first ``cases`` subjects that meet the criteria are taken, in the order of the SHA-256 of their ids, so that
everybody who has the same data gets the same cases, and no trend along the numbering enters.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reproduction.data.cases import in_order
from reproduction.data.patches import PatchGrid
from reproduction.paths import read_json, write_json

FACES = "LRPAIS"  # of a volume in canonical axes: left, right, posterior, anterior, inferior, superior


@dataclass(frozen=True)
class Criteria:
    """When a structure is whole enough.

    Parameters
    ----------
    closed
        Faces of the scanned volume (of ``LRPAIS``) that the structure may not touch: there it would be cut off.
    voxels
        Least number of voxels of the patch's label.
    layers
        Least number of the patch's axial layers that hold some of it.
    inside
        Least share of the structure's volume that lies inside the patch.
    """

    closed: str
    voxels: int
    layers: int
    inside: float

    def __post_init__(self) -> None:
        if not set(self.closed) <= set(FACES) or self.voxels < 1 or not 0 <= self.inside <= 1:
            raise ValueError(f"{self}: expected faces of {FACES}, at least 1 voxel and a share of 0 to 1")


@dataclass(frozen=True)
class Structure:
    """Measures of one structure of one subject, and its label in the patch.

    ``shape``, ``affine`` (4, 4) and ``spacing_mm`` are those of the scanned volume in canonical axes, ``voxels`` counts
    its voxels, ``inside`` those whose centre lies in the patch; ``faces`` are the faces it touches. ``grid`` and
    ``label`` are None for an empty mask and for voxels larger than the patch's.
    """

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    spacing_mm: tuple[float, ...]
    voxels: int
    inside: int
    faces: str
    grid: PatchGrid | None
    label: NDArray[np.uint8] | None

    def exclusion(self, criteria: Criteria) -> str | None:
        """Say why the structure is not whole enough, the numbers in parentheses; None if it is."""
        if not self.voxels:
            return "empty"
        if self.label is None:
            return f"coarser than the patch ({'x'.join(f'{h:g}' for h in self.spacing_mm)} mm)"
        cut = "".join(face for face in criteria.closed if face in self.faces)
        if cut:
            return f"cut off by the volume's border ({cut})"
        found = int(self.label.sum())
        if found < criteria.voxels:
            return f"too few voxels in the patch ({found} of {criteria.voxels})"
        layers = int(np.count_nonzero(self.label.any(axis=(0, 1))))
        if layers < criteria.layers:
            return f"in too few layers of the patch ({layers} of {criteria.layers})"
        if self.inside < criteria.inside * self.voxels:
            return f"too much outside the patch ({self.inside} of {self.voxels} voxels inside)"
        return None


def measure_structure(
    mask: NDArray, affine: NDArray[np.float64], spacing_mm: NDArray[np.float64], cells: int, cell_mm: float
) -> Structure:
    """Measure a mask in canonical axes; its patch has ``cells``^3 cells around its centre of mass.

    Examples
    --------
    >>> mask = np.zeros((8, 8, 8), bool)
    >>> mask[2:6, 2:6, :4] = True
    >>> found = measure_structure(mask, np.eye(4), np.ones(3), cells=4, cell_mm=2.0)
    >>> found.voxels, found.inside, found.faces, int(found.label.sum())
    (64, 64, 'I', 8)
    """
    filled = np.asarray(mask) != 0
    ends = [np.take(filled, end, axis=axis).any() for axis in range(3) for end in (0, -1)]
    touched = "".join(face for face, end in zip(FACES, ends, strict=True) if end)
    voxels, inside, grid, label = int(np.count_nonzero(filled)), 0, None, None
    if voxels and spacing_mm.max() <= cell_mm * (1 + 1e-3):
        grid = PatchGrid.around(filled, spacing_mm.tolist(), cells, cell_mm)
        label = grid.label(filled)
        inside = int(np.count_nonzero(filled[grid.voxels(filled.shape)]))
    place = tuple(tuple(float(x) for x in row) for row in affine)
    return Structure(filled.shape, place, tuple(float(h) for h in spacing_mm), voxels, inside, touched, grid, label)


def write_structure(path: str | os.PathLike[str], structure: Structure) -> Path:
    """Store measures as JSON of a few kilobytes, atomically; the label as packed bits."""
    content = dataclasses.asdict(structure)
    if structure.label is not None:
        packed = zlib.compress(np.packbits(structure.label).tobytes(), 9)
        content["label"] = base64.b64encode(packed).decode("ascii")
    return write_json(path, content)


def read_structure(path: str | os.PathLike[str]) -> Structure | None:
    """Read what `write_structure` stored; None if there is no such file or it is damaged: then it is made again."""
    try:
        content: dict[str, Any] = read_json(path)
        grid, label = content["grid"], content["label"]
        if grid is not None:
            grid = PatchGrid(**{**grid, "corner": tuple(grid["corner"]), "spacing_mm": tuple(grid["spacing_mm"])})
            bits = np.frombuffer(zlib.decompress(base64.b64decode(label)), np.uint8)
            label = np.unpackbits(bits)[: grid.cells**3].reshape((grid.cells,) * 3)
        affine = tuple(tuple(row) for row in content["affine"])
        shape, spacing = tuple(content["shape"]), tuple(content["spacing_mm"])
        return Structure(shape, affine, spacing, content["voxels"], content["inside"], content["faces"], grid, label)
    except (FileNotFoundError, ValueError, KeyError, TypeError, zlib.error):
        return None


def select(
    structures: Mapping[str, Structure], unusable: Mapping[str, str], criteria: Criteria, cases: int
) -> tuple[list[str], dict[str, str]]:
    """Take the first ``cases`` subjects that meet the criteria.

    Parameters
    ----------
    structures
        Subject to the measures of its structure.
    unusable
        Subject to the reason why it cannot be taken, whatever was measured.
    criteria, cases
        What to take, and how many.

    Returns
    -------
    chosen : list of str
        Subjects in order; fewer than ``cases`` if no more meet them.
    left_out : dict of str to str
        Every other subject, and why.

    Examples
    --------
    >>> select({}, {"s0000": "no mask", "s0001": "no CT"}, Criteria("", 1, 1, 0), 1)
    ([], {'s0000': 'no mask', 's0001': 'no CT'})
    """
    chosen: list[str] = []
    left_out: dict[str, str] = {}
    for subject in in_order({*structures, *unusable}):
        reason = unusable[subject] if subject in unusable else structures[subject].exclusion(criteria)
        if reason is None and len(chosen) == cases:
            reason = f"not needed: {cases} come before it"
        if reason is None:
            chosen.append(subject)
        else:
            left_out[subject] = reason
    return chosen, left_out
