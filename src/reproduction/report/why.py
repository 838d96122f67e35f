"""Why soft-Dice stays ahead of CE(*): trainings in which one thing is other than in the grid.

Used in the chapter *The experiment*. The presets of ``workflow/presets/why`` extend one of the grids, and so share its
cases, noisy labels, folds, initial weights and augmentation. Scores are compared case by case with those of the grid's
first training seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reproduction.config import SEED_AXIS
from reproduction.paths import project_root
from reproduction.report.experiment import ABSENT
from reproduction.report.results import results_in
from reproduction.report.verdicts import BETWEEN
from reproduction.runs.statistics import mean_over
from reproduction.runs.tables import Results
from reproduction.scoring.inference import Estimate
from reproduction.scoring.rules import METHODS, MIXED_RULES
from reproduction.text import interval, short

BASES = {"oesophagus": "openkbp_oesophagus"}  # first word of a preset's name, and the grid that it extends
SOFT = "SD(0)"
ORACLES = "CE(oracle)-SD(oracle)"
HEADER = ["what is other", "a", "method", "mean Dice", "− SD(0) of the grid", "− the same method of the grid"]


def stored() -> dict[str, Results]:
    """Read the tables of all presets of ``workflow/presets/why`` that were run, by name."""
    return results_in(project_root() / "results" / "why")


def base_of(preset: str, grids: Mapping[str, Results]) -> Results | None:
    """Give the grid that a preset extends; None where it was not run."""
    return grids.get(BASES.get(preset.partition("_")[0], ""))


def first_seed(cases: Any) -> pd.DataFrame:
    """Select the scores of the first training seed; all where there is one only."""
    return cases[cases[SEED_AXIS] == cases[SEED_AXIS].min()] if SEED_AXIS in cases else cases


def paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> Estimate | None:
    """Estimate the mean difference in Dice of two methods in one setting, case by case; None without the second.

    Raises
    ------
    ValueError
        If they were not scored on the same cases.
    """
    if theirs.empty:
        return None
    a, b = (rows.set_index("case")["dice_noisy"].sort_index() for rows in (ours, theirs))
    if list(a.index) != list(b.index):
        raise ValueError(f"found {len(a)} cases and {len(b)}; expected the same cases, once each")
    return mean_over(ours, (a - b).to_numpy(dtype=float))


def rows(variants: Mapping[str, Results], grids: Mapping[str, Results]) -> list[list[str]]:
    """Lay out every method of every preset at every a, rows as ``HEADER``; bold where the interval leaves 0 out."""
    found = []
    for preset, result in variants.items():
        base: Any = base_of(preset, grids)
        before: Any = first_seed(base.cases) if base else result.cases[:0]
        cases: Any = result.cases[result.cases["method"].isin([*METHODS, *MIXED_RULES])]
        for (a, method), group in cases.groupby(["a", "method"], sort=False):
            there = before[before["a"] == a]
            differences = [paired(group, there[there["method"] == other]) for other in (SOFT, method)]
            mean = mean_over(group, group.sort_values("case")["dice_noisy"].to_numpy(dtype=float))
            texts = [interval(mean.mean, *mean.interval), *map(_cell, differences)]
            found.append([result.provenance["about"].rstrip("."), short(float(a), 2), str(method), *texts])
    return found


def summary(results: Mapping[str, Results], variants: Mapping[str, Results]) -> str:
    """Say in Markdown what the runs have settled: the threshold in hindsight, and which other training closes the gap.

    The calibrations have sentences of their own (`reproduction.report.calibration`).
    """
    said = []
    for preset, result in results.items():
        d: Any = result.differences
        best = d[(d["difference"] == ORACLES) & (d["score"] == "dice_noisy")]
        if best.empty:
            continue
        apart = best[(best["lo"] > 0) | (best["hi"] < 0)]
        behind = d[(d["difference"] == BETWEEN) & (d["score"] == "dice_noisy")]["mean"]
        said.append(
            f"*{preset}*: with the best threshold of every image in hindsight, CE(oracle) − SD(oracle) goes from "
            f"{short(best['mean'].min(), sign='+')} to {short(best['mean'].max(), sign='+')} over the noise strengths, "
            f"and its interval leaves 0 out in {len(apart)} of {len(best)} settings; CE(\\*) − SD(0) goes from "
            f"{short(behind.min(), sign='+')} to {short(behind.max(), sign='+')}."
        )
        if apart.empty and behind.min() < 0:
            said[-1] += (
                " No difference between the two is shown with that threshold, which is no proof that there is none: "
                "the intervals are in the table of other thresholds."
            )
    planned = len(list((project_root() / "workflow" / "presets" / "why").glob("*.yaml")))
    if len(variants) < planned:
        said.append(
            f"Open: {planned - len(variants)} of {planned} trainings that differ in one thing were not run yet."
        )
    return "\n\n".join(said)


def _cell(found: Estimate | None) -> str:
    if found is None:
        return ABSENT
    text = interval(found.mean, *found.interval, sign="+")
    return text if found.interval[0] <= 0 <= found.interval[1] else f"**{text}**"
