"""Phantoms as a data set: seeded CT-like scenes of three organs, written once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reproduction.data.cases import FOLDS, Case, CaseSet, read_case, write_case, write_manifest
from reproduction.data.phantoms.scenes import ORGANS, ct_phantom

FIELD_OF_VIEW_MM = 192.0


def folder_name(size: int, cases: int, seed: int) -> str:
    """Name of the folder of a phantom set; different parameters never share one.

    Examples
    --------
    >>> folder_name(32, 50, 1)
    'phantoms-32-50-1'
    """
    return f"phantoms-{size}-{cases}-{seed}"


def make_phantoms(
    folder: str | os.PathLike[str], size: int, cases: int, seed: int, report: Callable[[str], None] = print
) -> CaseSet:
    """Make ``cases`` phantoms of each organ at ``size``^3 voxels over 192 mm; those that are there are kept.

    Case ``k`` of an organ is ``ct_phantom(organ, 100000 * seed + k, size)``.

    Raises
    ------
    ValueError
        If a number is out of range, or ``folder`` holds a phantom set with other parameters.
    """
    if size < 16 or not FOLDS <= cases < 100000 or seed < 0:
        raise ValueError(
            f"size is {size}, cases is {cases} and seed {seed}; "
            f"expected at least 16 voxels, {FOLDS} to 99999 cases and a seed of at least 0"
        )
    rule = {"shape": [size] * 3, "spacing_mm": [FIELD_OF_VIEW_MM / size] * 3, "cases": cases, "seed": seed}
    if (Path(folder) / "manifest.json").is_file():
        finished = CaseSet(folder)
        if finished.manifest["patch"] != rule:
            raise ValueError(f"folder {folder} holds phantoms made with {finished.manifest['patch']}; wanted {rule}")
        if not finished.missing():
            return finished
    entries: dict[str, dict[str, dict[str, object]]] = {}
    for organ in ORGANS:
        entries[organ] = {}
        for k in range(cases):
            name = f"{organ}-{k:05d}"
            target = Path(folder) / organ / f"{name}.npz"
            if target.is_file():
                case = read_case(target)
                if case.image.shape != (size,) * 3:
                    raise ValueError(
                        f"{target} has shape {case.image.shape}; wanted {size} voxels a side; delete {folder}"
                    )
            else:
                made = ct_phantom(organ, 100000 * seed + k, size=size, spacing_mm=FIELD_OF_VIEW_MM / size)
                case = Case(name, made.image, made.label, np.full(3, made.spacing_mm))
                write_case(target, case)
            entries[organ][name] = case.entry()
        report(f"phantoms: {cases} of {organ}")
    about = {"name": "noisyseg phantoms", "licence": "CC0", "organs": list(ORGANS)}
    return write_manifest(folder, "phantoms", entries, about, rule)
