"""Networks trained twice, with two ways to compute: do their scores differ? (chapter *Speed and memory*)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reproduction.paths import read_json
from reproduction.report.benchmarks import folder

TRAININGS = ["trainings", "trainings_low", "trainings_high", "trainings_told_apart"]
LOSSES = {"ce": "cross-entropy", "sd": "soft-Dice"}


def read_twins(name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a stored comparison and what was asked for; both are empty where it was not made.

    Columns of intervals over pairs of trainings are NaN where there was one pair.
    """
    paths = folder() / f"{name}.csv", folder() / f"{name}_provenance.json"
    if not all(path.is_file() for path in paths):
        return pd.DataFrame(columns=["organ", *TRAININGS]), {}
    frame = pd.read_csv(paths[0])
    return frame.reindex(columns=list(dict.fromkeys([*frame, *TRAININGS]))), read_json(paths[1])["options"]


def over_pairs(row: Any) -> str:
    """Write the interval over pairs of trainings."""
    return f"{row.trainings_low:+.4f} to {row.trainings_high:+.4f}, {row.trainings:.0f} pairs"


def twin_rows(pairs: pd.DataFrame) -> list[list[str]]:
    """Lay out both means, their difference with its interval over cases, and that over pairs of trainings."""
    rows = []
    for row in pairs.itertuples():
        one: Any = row
        means = (f"{x:.4f}" for x in (one.dice_bfloat16, one.dice_float32))
        difference = f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
        repeated = over_pairs(one) if one.trainings > 1 else "–"
        rows.append([f"{one.organ}, {one.method}", str(one.cases), *means, difference, repeated])
    return rows


def twin_lines(pairs: pd.DataFrame, made: dict[str, Any]) -> str:
    """Say which networks were compared and which differences their intervals support, as lines of plain text."""
    if not made:
        return "not measured"
    table: Any = pairs
    losses = " and ".join(LOSSES[loss] for loss in made["losses"])
    images = "one image" if made["batch"] == 1 else f"{made['batch']} images"
    times = len(made.get("seeds", [1]))
    often = "trained twice" if times == 1 else f"trained twice with each of {times} seeds"
    lines = [f"{often}: {', '.join(made['organs'])} at a = {made['a']}, {losses}, {images} at a time"]
    apart = table[table.told_apart.astype(bool)]
    lines.append(f"intervals over cases that exclude 0: {len(apart)} of {len(table)}")
    for row in apart.itertuples():
        lines.append(f"  {row.organ}, {row.method}: {row.difference:+.4f} ({row.low:+.4f} to {row.high:+.4f})")
    repeated, ends = table[table.trainings > 1], ["low", "high"]
    if len(repeated):
        table, ends = repeated, ["trainings_low", "trainings_high"]
        apart = table[table.trainings_told_apart.astype(bool)]
        lines.append(f"intervals over pairs of trainings that exclude 0: {len(apart)} of {len(table)}")
        lines += [
            f"  {row.organ}, {row.method}: {row.difference:+.4f} ({over_pairs(row)})" for row in apart.itertuples()
        ]
    together = table[table.organ == "all"]
    if len(repeated):
        for row in together.itertuples():
            lines.append(f"{row.method}: a pair is {row.pair_rms:.4f} apart, two seeds in float32 {row.seeds_rms:.4f}")
    most = together[ends].abs().to_numpy().max()
    return "\n".join([*lines, f"for all organs together they exclude a difference above {most:.3f}"])
