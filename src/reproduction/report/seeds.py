"""Rows and sentences on another training of the same network (chapter *The experiment*)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reproduction.report.experiment import ABSENT, PAIRS, cells
from reproduction.report.protocol import Protocol
from reproduction.report.verdicts import pick
from reproduction.runs.statistics import empty_trainings, seeds_of
from reproduction.runs.tables import Results
from reproduction.scoring.rules import METHODS
from reproduction.text import short

COMPARED = (PAIRS[0], PAIRS[2])
HEADER = ["organ", "a", "seeds", *METHODS, *(name.replace("-", " − ") for name in COMPARED)]
NOTHING = "No preset has been trained with more than one seed yet."


def with_seeds(results: Mapping[str, Results]) -> list[str]:
    """List the presets that were trained with several seeds."""
    return [preset for preset, result in results.items() if seeds_of(result.cases)]


def seed_rows(summary: pd.DataFrame, differences: pd.DataFrame) -> list[list[str]]:
    """Lay out means with their standard deviation over training seeds, for presets that have several."""
    rows = []
    if "seeds" not in summary:
        return rows
    for organ, a, group in cells(summary[summary["seeds"].notna()]):
        g = group.set_index("method")
        row = [organ, short(a, 2), f"{group['seeds'].iloc[0]:.0f}"]
        for method in METHODS:
            known = method in g.index
            row.append(_spread(g.loc[method], "dice_noisy", "dice_noisy_seed_sd") if known else ABSENT)
        found = [pick(differences, organ, a, name) for name in COMPARED]
        rows.append([*row, *(ABSENT if r is None else _spread(r, "mean", "seed_sd", "+") for r in found)])
    return rows


def _spread(row: Any, mean: str, deviation: str, sign: str = "") -> str:
    return f"{short(row[mean], 3, sign)} ± {short(row[deviation], 4)}"


def seed_sentences(result: Results) -> str:
    """Say how much another training would change: the spread over seeds against the interval over cases."""
    s: Any = result.summary[result.summary["method"].isin(list(METHODS))]
    if not seeds_of(result.cases):
        seed = Protocol.of_results(result).seeds[0]
        return f"one seed only ({seed}), so how much another training would change is not known."
    worst = s.loc[s["dice_noisy_seed_sd"].idxmax()]
    half = ((s["dice_noisy_hi"] - s["dice_noisy_lo"]) / 2).mean()
    text = (
        f"over {worst['seeds']:.0f} seeds the mean of a cell has a standard deviation of "
        f"{short(s['dice_noisy_seed_sd'].mean(), 4)} on average, {short(worst['dice_noisy_seed_sd'], 4)} at most "
        f"({worst['method']}, {worst['organ']}, a = {short(worst['a'], 2)}; so few seeds measure it roughly); half the "
        f"length of an interval over cases is {short(half, 4)} on average."
    )
    d: Any = result.differences
    pair = d[(d["score"] == "dice_noisy") & (d["difference"] == COMPARED[0])]
    if len(pair):
        text += (
            f" The difference CE(*) − CE(0), of two masks of one network, has {short(pair['seed_sd'].mean(), 4)} on "
            f"average, {short(pair['seed_sd'].max(), 4)} at most."
        )
    empty = empty_trainings(result.cases)
    return " ".join([text, *empty, "Intervals over cases do not say how often that happens."] if empty else [text])
