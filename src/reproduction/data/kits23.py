"""KiTS23: real kidneys, measured under noise.

KiTS23 holds contrast-enhanced CT scans of patients with a renal tumour; three annotators outlined each structure
independently. Here the outline of one annotator is the clean label of one kidney. The noise is the same in all
directions of space, in millimetres. Only measures of the masks are kept, never the data.

The thirteen patients of `CASES` are those with slices of at most 1 mm among 105 even-numbered cases: flat voxels would
distort the surfaces.

Source: Heller et al. 2023, arXiv:2307.01984; https://github.com/neheller/kits23; CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from noisyseg._core.voxels import bounding_box
from noisyseg.noise import GaussianDeformation
from reproduction.data.nifti import read_label
from reproduction.data.shapes import optimal_shapes
from reproduction.paths import atomic_write, project_root, read_json, write_json
from reproduction.provenance import provenance

#: the patients of the committed table
CASES = tuple(f"case_{n:05d}" for n in (2, 14, 42, 78, 98, 102, 114, 116, 120, 140, 142, 160, 188))
#: standard deviations of a displacement; .01 of the paper's patches of 192 mm are 1.92 mm
A_MM = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0)
B_MM = 20.0  # .15/sqrt(2) of 192 mm; no number here depends on it
#: background around a kidney, in standard deviations of the noise: less than a millionth of it leaves the image
MARGIN = 5.0
THICKEST_MM = 1.0

ABOUT = {
    "name": "KiTS23, kidneys",
    "url": "https://github.com/neheller/kits23",
    "licence": "CC BY-NC-SA 4.0",
    "citation": "Heller et al. 2023, arXiv:2307.01984",
}
_CROPPED = re.compile(r"(case_\d{5}_kidney_instance-\d+)\.nii\.gz")
_WHOLE = re.compile(r"(kidney_instance-\d+)_annotation-([123])\.nii\.gz")
_UNITS = {"volume": "_mm3", "surface": "_mm2"}  # by the last word of a quantity


@dataclass(frozen=True)
class Kidney:
    """One annotator's outline of one kidney, such as ``case_00002_kidney_instance-1``.

    ``label`` (slices, rows, columns) is cropped to the outline; ``spacing_mm`` is the size of a voxel along its axes.
    """

    name: str
    label: NDArray[np.bool_]
    spacing_mm: tuple[float, ...]

    def digest(self) -> str:
        """SHA-256 of shape, spacing (to a nanometre) and voxels: the same for both layouts of the data."""
        facts = json.dumps([list(self.label.shape), [round(h, 6) for h in self.spacing_mm]])
        return hashlib.sha256(facts.encode() + np.packbits(self.label).tobytes()).hexdigest()


def _files(source: Path, annotator: int) -> dict[str, tuple[Path, int]]:
    """Find the files of one annotator: name of the kidney -> (path, bit of the annotator, or -1 for all)."""
    found: dict[str, tuple[Path, int]] = {}
    for path in source.glob("case_*_kidney_instance-*.nii.gz"):
        if match := _CROPPED.fullmatch(path.name):
            found[match[1]] = (path, annotator - 1)
    folder = source / "dataset" if (source / "dataset").is_dir() else source
    for path in folder.glob("case_*/instances/kidney_instance-*_annotation-*.nii.gz"):
        match = _WHOLE.fullmatch(path.name)
        if match and int(match[2]) == annotator:
            found.setdefault(f"{path.parents[1].name}_{match[1]}", (path, -1))
    return dict(sorted(found.items()))


def read_kidney(name: str, path: str | os.PathLike[str], bit: int = -1) -> Kidney:
    """Read one outline from a NIfTI file: bit ``bit`` of a bit field (annotator bit + 1), or -1 for a label of 0 and 1.

    Raises
    ------
    ValueError
        If the file is damaged or no such volume, or the outline is empty; the file is named.

    Examples
    --------
    >>> import tempfile, pathlib, nibabel as nib
    >>> voxels = np.zeros((4, 5, 6), np.uint8)
    >>> voxels[1:3, 2:4, 1:5] = 1  # annotator 1
    >>> voxels[1:3, 2:4, 1:4] |= 2  # annotator 2
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "kidney.nii.gz")
    ...     nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 0.5, 0.5, 1.0])), path)
    ...     kidney = read_kidney("kidney", path, bit=1)
    >>> kidney.label.shape, kidney.spacing_mm
    ((2, 2, 3), (1.0, 0.5, 0.5))
    """
    try:
        values, place = read_label(Path(path).read_bytes(), range(2) if bit < 0 else range(8), canonical=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    mask = values >> max(bit, 0) & 1 == 1
    box = bounding_box(mask)
    if box is None:
        raise ValueError(f"{path}: the outline{f' of annotator {bit + 1}' if bit >= 0 else ''} is empty")
    return Kidney(name, np.ascontiguousarray(mask[box]), tuple(voxel_sizes(place.affine).tolist()))


def kidneys(
    source: str | os.PathLike[str], annotator: int = 1, cases: Sequence[str] | None = CASES
) -> Iterator[Kidney]:
    """Read the kidneys of some patients, in the order of their names.

    Parameters
    ----------
    source
        Folder of ``<case>_kidney_instance-<k>.nii.gz`` with a bit field of the annotators, or a checkout of the KiTS23
        repository (or its ``dataset`` folder).
    annotator
        1, 2 or 3.
    cases
        Which patients; None takes all with slices of at most `THICKEST_MM`.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no kidney, or none of a wanted case; if `annotator` is not 1, 2 or 3 or a file is damaged.
    """
    if annotator not in (1, 2, 3):
        raise ValueError(f"annotator: expected 1, 2 or 3, got {annotator!r}")
    files = _files(Path(source), annotator)
    if not files:
        raise FileNotFoundError(
            f"no kidneys in {source}: expected <case>_kidney_instance-<k>.nii.gz, or a checkout of {ABOUT['url']} with "
            "dataset/case_*/instances/kidney_instance-<k>_annotation-<n>.nii.gz"
        )
    found = {name[: len("case_00000")] for name in files}
    missing = [case for case in cases or () if case not in found]
    if missing:
        raise FileNotFoundError(
            f"{source} has no kidney of {missing[0]} ({len(missing)} of {len(cases or ())} missing)"
        )
    for name, (path, bit) in files.items():
        if cases is not None and name[: len("case_00000")] not in cases:
            continue
        kidney = read_kidney(name, path, bit)
        if cases is not None or max(kidney.spacing_mm) <= THICKEST_MM + 1e-3:
            yield kidney


def kidney_rows(kidney: Kidney, a_mm: Sequence[float] = A_MM) -> list[dict[str, Any]]:
    """Measure one kidney under noise of several strengths (standard deviations along each axis of space, in mm).

    Returns
    -------
    list of dict
        For each strength ``kidney, slice_mm, row_mm, column_mm, a_mm, lost`` (the part of the volume that the noise
        moves out of the image) and what `optimal_shapes` measures; volumes in mm^3, surfaces in mm^2.

    Examples
    --------
    >>> ball = ((np.indices((21, 21, 21)) - 10) ** 2).sum(axis=0) <= 100
    >>> rows = kidney_rows(Kidney("ball", ball, (1.0, 1.0, 1.0)), a_mm=(0.0, 2.0))
    >>> [round(row["threshold"], 2) for row in rows]
    [0.5, 0.38]
    """
    rows = []
    for a in a_mm:
        around = [(math.ceil(MARGIN * a / h) + 1,) * 2 for h in kidney.spacing_mm]
        label = np.pad(kidney.label, around)
        noise = GaussianDeformation.in_mm(a, B_MM, kidney.spacing_mm, label.shape)
        row: dict[str, Any] = {"kidney": kidney.name}
        row |= zip(("slice_mm", "row_mm", "column_mm"), kidney.spacing_mm, strict=True)
        row |= {"a_mm": a, "lost": noise.volume_loss(label) / int(np.count_nonzero(label))}
        for key, value in optimal_shapes(label, noise, kidney.spacing_mm).items():
            row[key + _UNITS.get(key.rpartition("_")[2], "")] = value
        rows.append(row)
    return rows


def measure_kidneys(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str],
    annotator: int = 1,
    cases: Sequence[str] | None = CASES,
    a_mm: Sequence[float] = A_MM,
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Measure the kidneys of a local copy and write ``shapes.csv`` and ``provenance.json`` into ``folder``.

    Parameters
    ----------
    folder
        Where the two files go, such as ``results/kits23``.
    source, annotator, cases
        As of `kidneys`.
    a_mm
        Standard deviations of the noise.
    report
        Called with lines of progress.

    Returns
    -------
    DataFrame
        A row for each kidney and strength; eight digits are written.
    """
    rows: list[dict[str, Any]] = []
    digests: dict[str, str] = {}
    for kidney in kidneys(source, annotator, cases):
        rows += kidney_rows(kidney, a_mm)
        digests[kidney.name] = kidney.digest()
        report(f"{kidney.name}: {'x'.join(map(str, kidney.label.shape))} voxels")
    if not rows:
        raise ValueError(f"{source}: no kidney has slices of at most {THICKEST_MM} mm")
    table = pd.DataFrame(rows)
    facts = provenance()
    facts["packages"]["scikit-image"] = version("scikit-image")
    listing = "".join(f"{name} {digest}\n" for name, digest in digests.items())
    facts |= {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": {**ABOUT, "annotator": annotator},
        "rule": {"margin_sd": MARGIN, "b_mm": B_MM, "a_mm": list(a_mm)},
        "data_digest": hashlib.sha256(listing.encode()).hexdigest(),
        "labels": digests,
    }
    atomic_write(Path(folder) / "shapes.csv", table.to_csv(index=False, float_format="%.8g"))
    write_json(Path(folder) / "provenance.json", facts)
    return table


def load_shapes() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the committed table and its provenance from ``results/kits23``.

    Examples
    --------
    >>> table, facts = load_shapes()
    >>> len(table) == len(facts["labels"]) * len(facts["rule"]["a_mm"])
    True
    """
    folder = project_root() / "results" / "kits23"
    if not (folder / "provenance.json").is_file():
        raise FileNotFoundError(f"no measures of kidneys in {folder}; data_scripts/kits23.py makes them")
    return pd.read_csv(folder / "shapes.csv"), read_json(folder / "provenance.json")
