"""What a reader has just run, compared with the stored results of the same preset (page *Your run*)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reproduction.report.experiment import score_rows
from reproduction.runs.tables import Results
from reproduction.scoring.rules import METHODS
from reproduction.text import short

ROUNDING = 1e-6  # tables have six decimals
NO_RUN = (
    "The book that you are reading was built without a run of yours, so there is nothing to show here yet. "
    "`make reproduce` (or `make reproduce PRESET=hippocampus`) makes a run, and then builds the book with this page "
    "filled."
)


def latest(runs: Mapping[str, Results]) -> str | None:
    """Name the preset whose last training is the youngest; None without any run."""
    return max(runs, key=lambda preset: runs[preset].provenance["created"], default=None)


def counterpart(preset: str, yours: Results, stored: Mapping[str, Results]) -> str | None:
    """Name the stored preset to compare with: the same, or one with the same data and organs; None if there is none."""
    if preset in stored:
        return preset
    organs, dataset = set(yours.summary["organ"]), yours.provenance["config"]["dataset"]
    alike = [
        name
        for name, result in stored.items()
        if result.provenance["config"]["dataset"] == dataset and organs & set(result.summary["organ"])
    ]
    return max(alike, key=lambda name: len(stored[name].provenance["runs"]), default=None)


def opening(runs: Mapping[str, Results], stored: Mapping[str, Results]) -> str:
    """Say in Markdown what the page shows, and how to make a run where there is none."""
    preset = latest(runs)
    if preset is None:
        return NO_RUN
    yours, name = runs[preset], counterpart(preset, runs[preset], stored)
    text = f"The preset **{preset}** with {len(yours.provenance['runs'])} trainings: {yours.provenance['about']}"
    others = ", ".join(f"`{other}`" for other in runs if other != preset)
    if others:
        text += f" The same folder has tables of {others}; `python -m reproduction book --results FOLDER` shows those."
    if name is None:
        said = (
            f"The repository stores no results on the data of the preset `{preset}`, so there are none to compare with."
        )
    elif name != preset:
        said = (
            f"The repository stores no results of the preset `{preset}`. The stored ones below are those of `{name}`: "
            "the same kind of data, but other numbers, so they need not agree with yours."
        )
    else:
        said = agreement(yours, stored[name])
    return f"{text}\n\n{said}"


def changed_numbers(yours: Results, stored: Results) -> str:
    """List the numbers of a preset that have changed since its results were stored; empty if none has.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from reproduction.report.results import stored_results
    >>> stored = stored_results()["phantoms"]
    >>> facts = {**stored.provenance, "config": {**stored.provenance["config"], "epochs": 3}}
    >>> changed_numbers(replace(stored, provenance=facts), stored)
    'epochs (yours 3, stored 20)'
    """
    mine, theirs = ({**c, **c["grid"], "grid": None} for c in (r.provenance["config"] for r in (yours, stored)))
    # A name that one of them lacks is another version's, and no number that somebody has changed.
    names = [name for name in mine if name in theirs and mine[name] != theirs[name]]
    return ", ".join(f"{name} (yours {mine[name]}, stored {theirs[name]})" for name in names)


def pairs(yours: Results, stored: Results) -> pd.DataFrame:
    """Match the means of both by organ, a and method.

    Returns
    -------
    DataFrame
        ``organ, a, method, mean, lo, hi`` of yours, ``stored``, their ``difference`` (yours − stored), and ``inside``:
        whether the stored mean lies in your 95 % interval.
    """
    keys, ends = ["organ", "a", "method"], ["dice_noisy", "dice_noisy_lo", "dice_noisy_hi"]
    known: Any = yours.summary[yours.summary["method"].isin(list(METHODS))]
    table: Any = known[[*keys, *ends]].rename(columns=dict(zip(ends, ("mean", "lo", "hi"), strict=True)))
    other: Any = stored.summary[[*keys, "dice_noisy"]]
    other = other.rename(columns={"dice_noisy": "stored"})
    # The strengths are printed with six decimals in one of the tables.
    table, other = (part.assign(a=part["a"].round(6)) for part in (table, other))
    table = table.merge(other, on=keys)
    inside = (table["lo"] - ROUNDING <= table["stored"]) & (table["stored"] <= table["hi"] + ROUNDING)
    return table.assign(difference=table["mean"] - table["stored"], inside=inside)


def agreement(yours: Results, stored: Results) -> str:
    """Say whether your means agree with the stored ones of the same preset: whether these lie in your intervals."""
    if changed := changed_numbers(yours, stored):
        return f"The preset is not the one whose results are stored, so these need not agree with yours: {changed}."
    table: Any = pairs(yours, stored)
    if table.empty:
        return "The stored results have no organ and noise strength in common with yours."
    if np.allclose(table["difference"], 0, rtol=0, atol=ROUNDING):
        return f"**Your {len(table)} means are the stored ones**, to all six decimals of the tables."
    worst = table.loc[table["difference"].abs().idxmax()]
    where = f"{worst['method']}, {worst['organ']}, a = {short(worst['a'], 2)}"
    largest = f"The largest difference is {short(worst['difference'], 4, '+')} ({where})."
    inside = int(table["inside"].sum())
    if inside == len(table):
        said = f"**Your run agrees with the stored results**: all {inside} stored means lie in your 95 % intervals."
    else:
        said = (
            f"**Your run agrees with the stored results in part**: {inside} of {len(table)} stored means lie in your "
            "95 % intervals."
        )
    return f"{said} {largest}"


def your_rows(yours: Results, stored: Results | None) -> list[list[str]]:
    """Lay out your means with their intervals and, below them, the stored mean and your distance from it.

    A distance is bold where the stored mean lies outside your interval.
    """
    below = {}
    for pair in [] if stored is None else pairs(yours, stored).to_dict("records"):
        distance = short(pair["difference"], 3, "+")
        distance = distance if pair["inside"] else f"<b>{distance}</b>"
        below[pair["organ"], pair["a"], pair["method"]] = f"stored {short(pair['stored'])}, {distance}"
    return score_rows(yours.summary, below)


def stored_points(stored: Results | None) -> pd.DataFrame | None:
    """Give the stored means as points of :func:`reproduction.figures.methods.plot_dice_over_noise`."""
    return None if stored is None else stored.summary.rename(columns={"dice_noisy": "dice"})
