"""Rows and sentences on other ways to threshold the same maps (chapter *The experiment*)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reproduction.report.experiment import ABSENT, cells, difference_cell, score_cell
from reproduction.report.verdicts import noisy, tally, tally_sentence
from reproduction.runs.tables import Results
from reproduction.scoring.rules import OTHER_RULES, RANK_SOLVERS
from reproduction.scoring.scores import OTHER_DIFFERENCES
from reproduction.text import short

HEADER = ["organ", "a", "CE(*)", *OTHER_RULES]
NOTHING = "No preset has been scored under these rules yet."


def absent(result: Results, method: str) -> str:
    """Say why a method is not in the tables of a preset."""
    scored = "other_rules" in result.provenance
    return "not installed" if scored and method in RANK_SOLVERS else "not scored"


def score_rows(summary: pd.DataFrame, results: Mapping[str, Results]) -> list[list[str]]:
    """Lay out the scores of CE(*) and of the other rules, for organs that have any of these.

    Parameters
    ----------
    summary
        Of all presets, with the column ``preset`` (:func:`reproduction.report.results.pooled`).
    results
        Preset to its tables.
    """
    table: Any = summary
    scored = table[table["method"].isin(list(OTHER_RULES))]["organ"].unique()
    rows = []
    for organ, a, group in cells(table[table["organ"].isin(scored)]):
        s, result = group.set_index("method"), results[group["preset"].iloc[0]]
        values = [score_cell(s.loc[m]) if m in s.index else absent(result, m) for m in ("CE(*)", *OTHER_RULES)]
        rows.append([organ, short(a, 2), *values])
    return rows


def difference_table(differences: pd.DataFrame, results: Mapping[str, Results]) -> tuple[list[str], list[list[str]]]:
    """Lay out the paired differences of the other rules: header and rows, a column for each noise strength."""
    d: Any = differences[differences["score"] == "dice_noisy"]
    names = {f"{first}-{second}": (first, second) for first, second in OTHER_DIFFERENCES}
    scored = d[d["difference"].isin(list(names))]["organ"].unique()
    d = d[d["organ"].isin(scored)]
    strengths = sorted(d["a"].unique())
    rows = []
    for organ, group in d.groupby("organ", sort=False):
        result = results[group["preset"].iloc[0]]
        for name, (first, second) in names.items():
            g = group[group["difference"] == name].set_index("a")
            row = [str(organ), f"{first} − {second}"]
            for a in strengths:
                if a in g.index:
                    digits = 4 if first in RANK_SOLVERS else 3  # those differences are small
                    row.append(difference_cell(g.loc[a], digits))
                else:
                    row.append(absent(result, first) if a in set(group["a"]) else ABSENT)
            rows.append(row)
    return ["organ", "difference", *(f"a = {short(a, 2)}" for a in strengths)], rows


def sentences(result: Results) -> str:
    """Say what the other ways to threshold show for one preset."""
    d = result.differences
    said = []
    for name in ("CE(fold)-CE(0)", "CE(*)-CE(fold)", "SD(fold)-SD(0)", "CE(fold)-SD(fold)"):
        means = noisy(d, name)["mean"]
        if len(means):
            ends = f"{short(means.min(), 4, '+')} to {short(means.max(), 4, '+')}"
            said.append(f"{tally_sentence(d, name)}; the mean differences go from {ends}.")
    ranked = {method: noisy(d, f"{method}-CE(*)")["mean"].abs().max() for method in RANK_SOLVERS}
    ranked = {method: apart for method, apart in ranked.items() if not pd.isna(apart)}
    said += [
        f"The means of {method} and CE(*) differ by {short(apart, 4)} at most." for method, apart in ranked.items()
    ]
    left = noisy(d, "CE(oracle)-CE(*)")["mean"]
    if len(left):
        most = short(left.max())
        said.append(f"In the mean no threshold, not even one per image, could gain more than {most} on CE(*).")
    if not said:
        return "not scored under these rules."
    if not ranked:
        said.append("`rankseg` was not installed (extra `bench`), so its rows are missing.")
    return " ".join(said)


def per_image(differences: pd.DataFrame) -> str:
    """Say what a threshold of its own gains every image over one for all images of a fold; empty if not scored."""
    table = noisy(differences, "CE(*)-CE(fold)")
    if not len(table):
        return ""
    counts, settings = tally(differences, "CE(*)-CE(fold)"), f"{len(table)} noisy setting{'s' * (len(table) > 1)}"
    return (
        "Is it worthwhile to compute the threshold image by image? One threshold for all images, chosen on the "
        f"training folds, was compared with it in {settings}: CE(*) is better in {counts['better']}, worse in "
        f"{counts['worse']}, and the mean differences go from {short(table['mean'].min(), 4, '+')} to "
        f"{short(table['mean'].max(), 4, '+')}."
    )
