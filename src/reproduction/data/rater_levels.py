"""How many voxels how many people include: real marginals as small tables, without the outlines themselves.

The marginal of R delineations takes the values 0, 1/R, ..., 1. Its threshold, its optimal masks' volumes and all of
:mod:`reproduction.chapters.soft_dice` depend on the number of voxels at each value alone, not on where they lie; so
those numbers are all that is kept. Renal structures of KiTS23, drawn by three people (Heller et al. 2023,
arXiv:2307.01984; CC BY-NC-SA 4.0), and cells of BU-BIL, drawn by three to ten (person and tool; Gurari et al. 2015).
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.io import imread

from reproduction.data.nifti import read_label
from reproduction.paths import atomic_write, project_root, read_json, write_json
from reproduction.provenance import provenance

MOST = 10  # delineations of one structure
FEWEST = 3
INSIDE = [f"inside_{k}" for k in range(MOST + 1)]
ABOUT = [
    {"name": "KiTS23", "url": "https://github.com/neheller/kits23", "licence": "CC BY-NC-SA 4.0"},
    {"name": "BU-BIL", "citation": "Gurari et al. 2015, WACV", "licence": "BSD-style, 4 clauses"},
]


def levels(field: NDArray, bits: list[int]) -> list[int]:
    """Count the voxels that exactly 0, 1, ..., R people include; bit k of a voxel stands for delineation k.

    Examples
    --------
    >>> levels(np.array([[0, 1, 3], [2, 7, 7]]), [0, 1, 2])
    [1, 2, 1, 2]
    """
    inside = sum(((field >> bit) & 1).astype(np.int64) for bit in bits)
    return np.bincount(np.ravel(inside), minlength=len(bits) + 1).tolist()


def count_levels(kidneys: str | os.PathLike[str], cells: str | os.PathLike[str]) -> pd.DataFrame:
    """Count the levels of all structures of two folders that at least `FEWEST` delineations exist of.

    Parameters
    ----------
    kidneys
        Folder of ``<case>_<structure>_instance-<k>.nii.gz`` with a bit field of three annotators.
    cells
        Folder of 16-bit PNG files with a bit field, and ``annotations.csv`` with the columns ``file`` and ``bits``.

    Returns
    -------
    DataFrame
        ``data, structure, raters, inside_0, ..., inside_10``; a number of voxels is missing above ``raters``.

    Raises
    ------
    FileNotFoundError, ValueError
        If a folder holds no structure, or a file is missing or damaged; which.
    """
    rows: list[dict[str, Any]] = []

    def add(data: str, structure: str, field: NDArray, bits: list[int]) -> None:
        row = {"data": data, "structure": structure, "raters": len(bits)}
        rows.append({**row, **dict(zip(INSIDE, levels(field, bits), strict=False))})

    for path in sorted(Path(kidneys).glob("case_*_instance-*.nii.gz")):
        try:
            field, _ = read_label(path.read_bytes(), range(8), canonical=False)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        case, kind, instance = path.name.removesuffix(".nii.gz").rsplit("_", 2)
        add(f"KiTS23 {kind}", f"{case}_{kind}_{instance}", field, [0, 1, 2])
    if not rows:
        raise FileNotFoundError(f"no structures in {kidneys}: expected <case>_<structure>_instance-<k>.nii.gz")
    drawn = pd.read_csv(Path(cells) / "annotations.csv", dtype={"bits": str}).sort_values("file")
    for file, listed in zip(drawn["file"], drawn["bits"], strict=True):
        bits = [int(bit) for bit in listed.split()]
        if len(bits) >= FEWEST:
            add("BU-BIL cell", Path(file).stem, imread(Path(cells) / file).astype(np.int64), bits)
    if rows[-1]["data"].startswith("KiTS23"):
        raise FileNotFoundError(f"no cells in {cells}: annotations.csv names none with {FEWEST} delineations")
    table = pd.DataFrame(rows, columns=["data", "structure", "raters", *INSIDE])
    return table.astype(dict.fromkeys(INSIDE, "Int64"))


def store_levels(
    folder: str | os.PathLike[str], kidneys: str | os.PathLike[str], cells: str | os.PathLike[str]
) -> pd.DataFrame:
    """Write the table of :func:`count_levels` as ``levels.csv``, and ``provenance.json``, into ``folder``."""
    table = count_levels(kidneys, cells)
    content = table.to_csv(index=False)
    facts = provenance() | {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sources": ABOUT,
        "table_digest": hashlib.sha256(content.encode()).hexdigest(),
    }
    atomic_write(Path(folder) / "levels.csv", content)
    write_json(Path(folder) / "provenance.json", facts)
    return table


def read_levels() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the committed table and its provenance from ``results/rater_levels``.

    Examples
    --------
    >>> table, _ = read_levels()
    >>> sorted(table["data"].unique())
    ['BU-BIL cell', 'KiTS23 cyst', 'KiTS23 kidney', 'KiTS23 tumor']
    """
    folder = project_root() / "results" / "rater_levels"
    return pd.read_csv(folder / "levels.csv").astype(dict.fromkeys(INSIDE, "Int64")), read_json(
        folder / "provenance.json"
    )


def values_and_counts(row: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give the values of one structure's marginal, from 0 to 1, and the number of voxels at each.

    Examples
    --------
    >>> values_and_counts({"raters": 2, "inside_0": 5, "inside_1": 1, "inside_2": 3})
    (array([0. , 0.5, 1. ]), array([5, 1, 3]))
    """
    raters = int(row["raters"])
    counts = np.array([int(row[name]) for name in INSIDE[: raters + 1]])
    return np.arange(raters + 1) / raters, counts
