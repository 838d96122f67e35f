"""Structures that several people drew: renal structures of KiTS23 (three annotators) and cells of BU-BIL (up to ten).

Two layouts of each are read: a folder of cropped files in which bit k of a voxel is the drawing of annotator k + 1, and
the data set's own, one file for each annotator. Only measures of the drawings are kept, never the data.

Sources: Heller et al. 2023, arXiv:2307.01984, CC BY-NC-SA 4.0; Gurari et al., WACV 2015, BSD licence with 4 clauses,
"This product includes software developed by Boston University".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from skimage.io import imread

from noisyseg._core.voxels import bounding_box
from reproduction.data.nifti import read_label

KITS = re.compile(r"(case_\d{5})_(kidney|tumor|cyst)_instance-\d+\.nii\.gz")
KITS_WHOLE = re.compile(r"((kidney|tumor|cyst)_instance-\d+)_annotation-([123])\.nii\.gz")
MARGIN = 3  # voxels of background around the union of the drawings; measures do not depend on it, STAPLE does


@dataclass(frozen=True)
class Structure:
    """One structure as its annotators drew it; ``labels``, of shape ``(R, *shape)``, are cropped to their union.

    ``case`` is the patient or image, ``group`` what is compared: kidney, tumor, cyst, or cells of one set. `spacing` is
    in millimetres for CT and 1 for pixels. `left_out` are annotators who have a file without a single voxel.
    """

    name: str
    case: str
    group: str
    annotators: tuple[str, ...]
    labels: NDArray[np.bool_]
    spacing: tuple[float, ...]
    left_out: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 of annotators, shape, spacing (to a nanometre) and voxels: the same for both layouts of the data."""
        facts = json.dumps([self.annotators, list(self.labels.shape), [round(h, 6) for h in self.spacing]])
        return hashlib.sha256(facts.encode() + np.packbits(self.labels).tobytes()).hexdigest()


def structure(
    name: str, case: str, group: str, drawings: dict[str, NDArray[np.bool_]], spacing: tuple[float, ...]
) -> Structure:
    """Put drawings on one grid together; empty ones are left out.

    Raises
    ------
    ValueError
        If the drawings have different shapes, or if all are empty.

    Examples
    --------
    >>> drawn = np.zeros((9, 9), bool)
    >>> drawn[4, 3:6] = True
    >>> cell = structure("cell", "cell", "cells", {"A": drawn, "B": drawn.T, "C": ~drawn & drawn}, (1.0, 1.0))
    >>> cell.annotators, cell.left_out, cell.labels.shape
    (('A', 'B'), ('C',), (2, 9, 9))
    """
    shapes = {who: drawing.shape for who, drawing in drawings.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{name}: expected drawings of one shape, got {shapes}")
    drawn = tuple(who for who, drawing in sorted(drawings.items()) if drawing.any())
    if not drawn:
        raise ValueError(f"{name}: the drawings of all annotators are empty: {', '.join(sorted(drawings))}")
    labels = np.stack([drawings[who] for who in drawn])
    box = bounding_box(labels.any(axis=0))
    assert box is not None
    cut = np.pad(labels[(slice(None), *box)], [(0, 0)] + [(MARGIN, MARGIN)] * (labels.ndim - 1))
    return Structure(name, case, group, drawn, cut, spacing, tuple(sorted(set(drawings) - set(drawn))))


def kits23_structures(source: str | os.PathLike[str]) -> Iterator[Structure]:
    """Read kidneys, tumours and cysts with their three annotators, in the order of their names.

    `source` is a folder of ``<case>_<structure>_instance-<k>.nii.gz`` with bit fields, or a checkout of the KiTS23
    repository (or its ``dataset`` folder).

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no structure; if a file is damaged or an annotator's is missing.
    """
    folder = Path(source)
    cropped = {path.name[:-7]: path for path in folder.glob("case_*.nii.gz") if KITS.fullmatch(path.name)}
    whole: dict[str, dict[str, Path]] = {}
    base = folder / "dataset" if (folder / "dataset").is_dir() else folder
    for path in base.glob("case_*/instances/*_annotation-*.nii.gz"):
        if match := KITS_WHOLE.fullmatch(path.name):
            whole.setdefault(f"{path.parents[1].name}_{match[1]}", {})[match[3]] = path
    if not cropped and not whole:
        raise FileNotFoundError(
            f"no structures in {source}: expected <case>_<structure>_instance-<k>.nii.gz, or a checkout of KiTS23 with "
            "dataset/case_*/instances/<structure>_instance-<k>_annotation-<n>.nii.gz"
        )
    for name in sorted({*cropped, *whole}):
        case, group = name[: len("case_00000")], name[len("case_00000_") :].split("_")[0]
        if name in cropped:
            values, spacing = _volume(cropped[name], 8)
            drawings = {str(k + 1): values >> k & 1 == 1 for k in range(3)}
        else:
            if missing := {"1", "2", "3"} - set(whole[name]):
                raise ValueError(f"{name}: expected annotations 1, 2 and 3, found none of {', '.join(sorted(missing))}")
            read = {who: _volume(path, 2) for who, path in whole[name].items()}
            drawings, spacing = {who: values == 1 for who, (values, _) in read.items()}, read["1"][1]
        yield structure(name, case, group, drawings, spacing)


def _volume(path: Path, values: int) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
    try:
        voxels, place = read_label(path.read_bytes(), range(values), canonical=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return voxels, tuple(voxel_sizes(place.affine).tolist())


def bubil_structures(source: str | os.PathLike[str]) -> Iterator[Structure]:
    """Read the cells of BU-BIL that at least two drew, in the order of sets and images.

    `source` is a folder with ``annotations.csv`` and one 16-bit PNG of bit fields for each image, or the annotations of
    the data set, ``<set>/<person>_<tool>/seg_<image>.png``, where anything but 0 is the cell. An image whose file names
    differ in ``seg_`` between annotators, as those of Person3_Amira in set 2A do, is one image.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no drawings; if those of an image differ in size.
    """
    folder = Path(source)
    files: dict[tuple[str, str], dict[str, Callable[[], NDArray[np.bool_]]]] = {}
    if (folder / "annotations.csv").is_file():
        for row in pd.read_csv(folder / "annotations.csv", dtype=str).to_dict("records"):
            image = str(row["file"]).removesuffix(".png").partition("_")[2]
            for who, bit in zip(row["annotators"].split(), row["bits"].split(), strict=True):
                _add(files, row["set"], image, who, partial(_whole_image, folder, row, int(bit)))
    else:
        for path in sorted(folder.glob("**/*.png")):
            if re.match("seg_", path.name, re.IGNORECASE):
                _add(files, path.parts[-3], path.stem, path.parent.name, partial(_drawing, path))
    if not files:
        raise FileNotFoundError(f"no drawings in {source}: expected annotations.csv or <set>/<person>_<tool>/seg_*.png")
    for (group, image), readers in sorted(files.items()):
        drawn = {who: read() for who, read in readers.items()}
        found = structure(f"{group}_{image}", f"{group}_{image}", f"cells {group}", drawn, (1.0, 1.0))
        if len(found.annotators) > 1:
            yield found


def _drawing(path: Path) -> NDArray[np.bool_]:
    return np.asarray(imread(path)) != 0


def _whole_image(folder: Path, row: dict, bit: int) -> NDArray[np.bool_]:
    """Put one drawing of a cropped file back to its place in the image."""
    values = np.asarray(imread(folder / row["file"]))
    whole = np.zeros((int(row["image_rows"]), int(row["image_columns"])), dtype=bool)
    place = (int(row["first_row"]), int(row["first_column"]))
    whole[tuple(slice(first, first + n) for first, n in zip(place, values.shape, strict=True))] = values >> bit & 1
    return whole


def _add(files: dict, group: str, image: str, who: str, read: Callable[[], NDArray[np.bool_]]) -> None:
    image = re.sub("^seg_", "", image, flags=re.IGNORECASE)
    known = files.setdefault((group, image), {})
    if who in known:
        raise ValueError(f"{group}_{image}: two drawings of {who}; give the folder of one copy of the data set")
    known[who] = read
