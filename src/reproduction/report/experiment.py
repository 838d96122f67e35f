"""Rows and sentences of the chapter *The experiment*: scores, differences, the gap to the ceiling, volumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from reproduction.report.verdicts import BETWEEN, THRESHOLDS, Row, outcome, pick
from reproduction.runs.statistics import failed_trainings, mean_over, paired_differences, without_empty_trainings
from reproduction.runs.tables import Results
from reproduction.scoring.rules import CONSTANTS, METHODS
from reproduction.scoring.scores import DIFFERENCES
from reproduction.text import interval, short

ABSENT = "—"
Cell = tuple[str, float, str]  # organ, a, method
PAIRS = tuple(f"{first}-{second}" for first, second in DIFFERENCES)
SHOWN = (*CONSTANTS, *METHODS)
SCORE_HEADER = ["organ", "a", *SHOWN, "ceiling"]
DIFFERENCE_HEADER = ["organ", "a", "cases", *(" − ".join(pair) for pair in DIFFERENCES)]
SECOND_LOOK_HEADER = ["organ", "a", "difference", "all trainings", "without those that failed"]
BRIEF = ("CE(0)", "SD(0)", "CE(*)")
BRIEF_HEADER = ["organ", "a", *BRIEF, "ceiling", "CE(*) − CE(0)", "CE(*) − SD(0)"]
#: Columns of the summary that say what else a mask is worth, and their names.
QUALITIES = {
    "dice_clean": "Dice, clean label",
    "surface_noisy": "surface distance, mm",
    "volume_ratio": "volume / expected volume",
}
QUALITY_HEADER = ["organ", "a", "", *BRIEF, "perfect network"]
GAP_HEADER = ["organ", "a", "ceiling", "from samples", *(f"gap of {method}" for method in METHODS)]


def cells(table: Any) -> Iterator[tuple[str, float, Any]]:
    """Go through the settings of a table: organ, noise strength a, and the rows of both."""
    for key, group in table.groupby(["organ", "a"], sort=False):
        organ, a = key if isinstance(key, tuple) else (key, 0.0)
        yield str(organ), float(a), group


def score_cell(row: Any, score: str = "dice_noisy") -> str:
    """Show the mean of a score with its interval."""
    return interval(*(row[f"{score}{end}"] for end in ("", "_lo", "_hi")))


def score_rows(summary: pd.DataFrame, below: Mapping[Cell, str] | None = None, bold: bool = False) -> list[list[str]]:
    """Lay out the mean Dice of the constant shapes and every method, and the ceiling: rows as ``SCORE_HEADER``.

    Parameters
    ----------
    summary
        Columns ``organ, a, method, dice_noisy, dice_noisy_lo, dice_noisy_hi, ceiling``. A method that was not scored
        has no value.
    below
        What stands below a value, by organ, a (six decimals) and method; a setting that only it has gets a row, too.
    bold
        Whether the best method is bold; a constant shape is none.
    """
    below = below or {}
    ours: dict[Any, Any] = {(organ, round(a, 6)): group.set_index("method") for organ, a, group in cells(summary)}
    rows = []
    for organ, a in dict.fromkeys([*ours, *((organ, a) for organ, a, _ in below)]):
        group = ours.get((organ, a), pd.DataFrame())
        texts = {method: score_cell(group.loc[method]) for method in SHOWN if method in group.index}
        if texts and bold:
            best = group.loc[[method for method in texts if method in METHODS], "dice_noisy"].idxmax()
            texts[best] = f"<b>{texts[best]}</b>"
        row = [organ, short(a, 2)]
        for method in SHOWN:
            second = below.get((organ, a, method))
            lines = [texts.get(method), f"<small>{second}</small>" if second else None]
            row.append("<br>".join(line for line in lines if line))
        rows.append([*row, short(group["ceiling"].iloc[0]) if texts else ""])
    return rows


def main_rows(summary: pd.DataFrame, paper: pd.DataFrame) -> list[list[str]]:
    """Lay out our means with the paper's Table 1 (columns ``organ, a, method, dice``) below; the best of ours is bold.

    Organs of the paper that are not among ours have no row.
    """
    records: Any = paper[paper["organ"].isin(summary["organ"])].itertuples()
    published = {(r.organ, round(float(r.a), 6), r.method): f"paper {short(float(r.dice), 4)}" for r in records}
    return score_rows(summary, published, bold=True)


def brief_rows(summary: pd.DataFrame, differences: pd.DataFrame) -> list[list[str]]:
    """Lay out means and differences at the strongest noise of each organ, as ``BRIEF_HEADER``; bold where decided."""
    rows = []
    for organ in summary["organ"].unique():
        of_organ: Any = summary[summary["organ"] == organ]
        a = of_organ["a"].max()
        s = of_organ[of_organ["a"] == a].set_index("method")
        row = [organ, short(a, 2), *(short(s.loc[m, "dice_noisy"]) if m in s.index else ABSENT for m in BRIEF)]
        row.append(short(s["ceiling"].iloc[0]))
        for name in (THRESHOLDS, BETWEEN):
            found = pick(differences, organ, a, name)
            row.append(
                ABSENT if found is None else difference_cell(found).replace("**", "<b>", 1).replace("**", "</b>")
            )
        rows.append(row)
    return rows


def quality_rows(summary: pd.DataFrame) -> list[list[str]]:
    """Lay out what else a mask is judged by, at the weakest and the strongest noise: rows as ``QUALITY_HEADER``.

    Dice against the clean label, the mean distance between the surfaces of mask and noisy label, and the volume over
    the expected volume of the label, with that of the optimal mask of a perfect network, {m >= t}, where it was scored.
    """
    rows = []
    for organ, a, group in cells(summary):
        strengths = summary.loc[summary["organ"] == organ, "a"]
        if a not in (strengths.min(), strengths.max()):
            continue
        s = group.set_index("method")
        for column, name in QUALITIES.items():
            if column in s and s[column].notna().any():
                known = [m for m in BRIEF if m in s.index and not pd.isna(s.loc[m, column])]
                values = [score_cell(s.loc[m], column) if m in known else ABSENT for m in BRIEF]
                best = column == "volume_ratio" and "ceiling_ratio" in s and not pd.isna(s.iloc[0]["ceiling_ratio"])
                last = score_cell(s.iloc[0], "ceiling_ratio") if best else ABSENT
                rows.append([organ, short(a, 2), name, *values, last])
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


def second_look_rows(result: Results) -> list[list[str]]:
    """Lay out the differences of settings in which a training failed, with it and without: ``SECOND_LOOK_HEADER``."""
    failed = failed_trainings(result.cases)
    again = paired_differences(without_empty_trainings(result.cases)) if len(failed) else result.differences
    rows = []
    for organ, a in dict.fromkeys(zip(failed["organ"], failed["a"], strict=True)):
        for name in PAIRS:
            found = [pick(table, organ, a, name) for table in (result.differences, again)]
            texts = [ABSENT if row is None else difference_cell(row) for row in found]
            rows.append([organ, short(a, 2), " − ".join(name.split("-")), *texts])
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
            gap: Any = (r["ceiling"] - r["dice_noisy"]).groupby(r["case"]).mean()  # over training seeds
            found = mean_over(r, gap.to_numpy()) if len(gap) else None
            row.append(ABSENT if found is None else interval(found.mean, *found.interval))
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
