"""Masks that other tools make of the maps of trained networks: table and sentences (chapter *Speed and memory*)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reproduction.paths import read_json
from reproduction.report.benchmarks import folder, number
from reproduction.report.sources import short_commits
from reproduction.text import interval, short

NAME = "masks"
OURS = "noisyseg"
NOTHING = f"*Not measured: `benchmarks/masks.py` makes `results/benchmarks/{NAME}.csv`.*"
HEADER = ["organ, a", "method", "mean Dice", "noisyseg minus it", "empty masks", "the same mask", "ms a map"]


def masks() -> pd.DataFrame:
    """Read the stored table of ``benchmarks/masks.py``; empty where there is none."""
    path = folder() / f"{NAME}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def mask_rows(table: pd.DataFrame) -> list[list[str]]:
    """Lay out every method on every run's maps, rows as ``HEADER``; the interval is over the cases, at 95 %."""
    rows = []
    row: Any
    for row in table.itertuples(index=False):
        ours = row.method == OURS
        less = "" if ours else interval(row.less, row.less_lo, row.less_hi, 4, "+")
        counts = [f"{row.empty} of {row.cases}", "" if ours else f"{row.same} of {row.cases}"]
        rows.append([f"{row.organ}, {short(row.a, 2)}", row.method, short(row.dice, 4), less, *counts, number(row.ms)])
    return rows


def origin() -> str:
    """Say of which runs the maps are, and with which versions the masks were made."""
    about = read_json(folder() / f"{NAME}_provenance.json")
    runs = ", ".join(f"`{run['run']}` (data {run['data_digest'][:8]})" for run in about["runs"])
    peers = ", ".join(f"{name} {version or 'not installed'}" for name, version in about["peers"].items())
    threads = {run["threads"] for run in about["runs"]}
    return (
        f"Runs: {runs}. Packages: {peers}. {about['machine']['cpu']}, {'/'.join(map(str, sorted(threads)))} thread, "
        f"fastest of {about['options']['repeats']} calls for each map, median over the maps; commit "
        f"{short_commits(about['commit'])}."
    )
