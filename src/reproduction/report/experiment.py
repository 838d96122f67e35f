"""Rows and sentences of the chapter *The experiment*: scores, differences, the gap to the ceiling, volumes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reproduction.report.verdicts import Row, outcome, pick
from reproduction.scoring.rules import METHODS
from reproduction.scoring.scores import DIFFERENCES, bootstrap_interval
from reproduction.text import interval, short

ABSENT = "—"
PAIRS = tuple(f"{first}-{second}" for first, second in DIFFERENCES)
MAIN_HEADER = ["organ", "a", *METHODS, "ceiling"]
DIFFERENCE_HEADER = ["organ", "a", "cases", *(" − ".join(pair) for pair in DIFFERENCES)]
GAP_HEADER = ["organ", "a", "ceiling", "from samples", *(f"gap of {method}" for method in METHODS)]


def cells(table: Any) -> Iterator[tuple[str, float, Any]]:
    """Go through the settings of a table: organ, noise strength a, and the rows of both."""
    for key, group in table.groupby(["organ", "a"], sort=False):
        organ, a = key if isinstance(key, tuple) else (key, 0.0)
        yield str(organ), float(a), group


def score_cell(row: Any, score: str = "dice_noisy") -> str:
    """Show the mean of a score with its interval."""
    return interval(*(row[f"{score}{end}"] for end in ("", "_lo", "_hi")))


def main_rows(summary: pd.DataFrame, paper: pd.DataFrame) -> list[list[str]]:
    """Lay out the paper's Table 1: our mean with its interval, the paper's value below it, and the ceiling.

    Parameters
    ----------
    summary
        Columns ``organ, a, method, dice_noisy, dice_noisy_lo, dice_noisy_hi, ceiling``.
    paper
        Columns ``organ, a, method, dice``; settings that only the paper has get a row, too.

    Returns
    -------
    list of rows
        As ``MAIN_HEADER``. The best of our methods is bold; a method that was not scored has no value of ours.
    """
    records: Any = paper.itertuples()
    published = {(r.organ, round(float(r.a), 4), r.method): short(float(r.dice), 4) for r in records}
    ours: dict[Any, Any] = {(organ, round(a, 4)): group.set_index("method") for organ, a, group in cells(summary)}
    rows = []
    for organ, a in dict.fromkeys([*ours, *((organ, a) for organ, a, _ in published)]):
        group = ours.get((organ, a), pd.DataFrame())
        scored = [method for method in METHODS if method in group.index]
        best = group.loc[scored, "dice_noisy"].idxmax() if scored else None
        row = [organ, short(a, 2)]
        for method in METHODS:
            lines = []
            if method in scored:
                text = score_cell(group.loc[method])
                lines.append(f"<b>{text}</b>" if method == best else text)
            if (organ, a, method) in published:
                lines.append(f"<small>paper {published[organ, a, method]}</small>")
            row.append("<br>".join(lines))
        rows.append([*row, short(group["ceiling"].iloc[0]) if scored else ""])
    return rows


def difference_rows(differences: pd.DataFrame) -> list[list[str]]:
    """Lay out the paired differences of the paper's methods; bold where the interval does not contain 0."""
    rows = []
    for organ in differences["organ"].unique():
        for a in sorted(differences.loc[differences["organ"] == organ, "a"].unique()):
            found = [pick(differences, organ, a, name) for name in PAIRS]
            cases = [str(row["n"]) for row in found if row is not None]
            if cases:
                texts = [ABSENT if row is None else difference_cell(row) for row in found]
                rows.append([organ, short(a, 2), cases[0], *texts])
    return rows


def difference_cell(row: Row, digits: int = 3) -> str:
    """Show a difference with its interval, bold where that does not contain 0."""
    text = interval(row["mean"], row["lo"], row["hi"], digits, "+")
    return f"**{text}**" if outcome(row) != "undecided" else text


def gap_rows(cases: pd.DataFrame) -> list[list[str]]:
    """Lay out what each method lacks to the ceiling of the same case, with intervals over cases."""
    rows = []
    for organ, a, group in cells(cases[cases["method"].isin(list(METHODS))]):
        one = group[group["method"] == group["method"].iloc[0]]
        row = [organ, short(a, 2), short(one["ceiling"].mean()), short(one["ceiling_mc"].mean())]
        for method in METHODS:
            r = group[group["method"] == method]
            gap: Any = (r["ceiling"] - r["dice_noisy"]).groupby(r["case"], sort=False).mean()  # over training seeds
            row.append(interval(*bootstrap_interval(gap)) if len(gap) else ABSENT)
        rows.append(row)
    return rows


def gap_sentences(cases: pd.DataFrame, summary: pd.DataFrame) -> str:
    """Say how near the best method comes to the ceiling at the strongest noise of each organ."""
    sentences = []
    known: Any = cases[cases["method"].isin(list(METHODS))]
    for organ in known["organ"].unique():
        rows = known[known["organ"] == organ]
        a = rows["a"].max()
        means: Any = rows[rows["a"] == a].groupby("method")[["dice_noisy", "ceiling"]].mean()
        best = means["dice_noisy"].idxmax()
        share = means.loc[best, "dice_noisy"] / means.loc[best, "ceiling"]
        sentences.append(
            f"At a = {short(a, 2)} on the {organ}, the ceiling is {short(means.loc[best, 'ceiling'])}; the best method "
            f"there, {best}, reaches {short(means.loc[best, 'dice_noisy'])}, {100 * share:.0f} % of it."
        )
    if sentences:
        apart: Any = (summary["ceiling"] - summary["ceiling_mc"]).abs().max()
        if not pd.isna(apart):  # a run without samples has one version only
            sentences.append(f"The two versions of the ceiling differ by {short(apart)} at most.")
    return " ".join(sentences)


def volume_sentences(summary: pd.DataFrame) -> str:
    """List the thresholds of CE(*) and the volumes of all methods at the strongest noise of each organ."""
    lines = []
    for organ in summary["organ"].unique():
        rows: Any = summary[summary["organ"] == organ]
        a = rows["a"].max()
        rows = rows[rows["a"] == a].set_index("method")
        ratios = ", ".join(f"{m} {rows.loc[m, 'volume_ratio']:.2f}" for m in METHODS if m in rows.index)
        line = f"- {organ}, a = {short(a, 2)}: "
        if "CE(*)" in rows.index:
            line += f"mean threshold of CE(*) {score_cell(rows.loc['CE(*)'], 'threshold')}; "
        lines.append(f"{line}volume over expected volume {ratios}.")
    return "\n".join(lines)
