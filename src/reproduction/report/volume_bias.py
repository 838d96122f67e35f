r"""The bias of volumes that are measured with networks: of masks, and of the sum of the map (chapter *Volume bias*).

Everything is in units of the mean expected volume of the cell's labels. With x the volume that is measured and v the
expected volume of the noisy label, sum(m), of the same case:

- **bias**, mean(x - v) / mean(v);
- **slope**, of the least-squares line of x - v against v: negative where small volumes come out too large and large
  ones too small;
- **reverse**, of the line of v - x against x: 0 where the measured volume means what it says;
- **rms**, the root of mean((x - v)^2) / mean(v)^2;
- the same after a **recalibration**: a line from x to the volume of the noisy label, fitted on the other folds.

Means over training seeds are taken first. Intervals are those of :mod:`reproduction.scoring.inference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduction.report.experiment import ABSENT, cells
from reproduction.report.verdicts import listed
from reproduction.runs.statistics import mean_over
from reproduction.scoring.inference import Estimate
from reproduction.text import interval, percent, short

#: What is measured: the method whose rows have it, and the column.
MEASURES = {
    "CE(0)": ("CE(0)", "volume"),
    "CE(*)": ("CE(*)", "volume"),
    "SD(0)": ("SD(0)", "volume"),
    "CE soft": ("CE(0)", "soft_volume"),
    "SD soft": ("SD(0)", "soft_volume"),
    "CONST(0)": ("CONST(0)", "volume"),
}
HEADER = ["organ", "a", *MEASURES]
ENDS = ("", "_lo", "_hi")


def measured(cases: pd.DataFrame, name: str) -> pd.DataFrame | None:
    """Give one row a case: ``case, fold, x, v, label`` and ``person`` where there are any; None if it was not scored.

    ``x`` is the volume that is measured, ``v`` the expected volume of the label and ``label`` that of the label drawn.
    """
    method, column = MEASURES[name]
    rows: Any = cases[cases["method"] == method]
    if column not in rows or rows.empty or rows[column].isna().any():
        return None
    first = {"fold": "first", "volume_marginal": "mean", "volume_noisy": "mean", column: "mean"}
    first |= {"person": "first"} if "person" in rows else {}
    one = rows.groupby("case").agg(first).reset_index()
    return one.rename(columns={column: "x", "volume_marginal": "v", "volume_noisy": "label"})


def recalibrate(rows: pd.DataFrame) -> NDArray[np.float64] | None:
    """Give the volumes ``x`` of each fold on the line that the other folds have from ``x`` to ``label``.

    None where there is one fold, or the other folds measure one volume only.

    Examples
    --------
    >>> rows = pd.DataFrame({"fold": [0, 0, 1, 1], "x": [1.0, 2.0, 3.0, 5.0], "label": [3.0, 5.0, 7.0, 11.0]})
    >>> recalibrate(rows).round(6).tolist()  # label = 2 x + 1
    [3.0, 5.0, 7.0, 11.0]
    """
    found = np.full(len(rows), np.nan)
    for fold in rows["fold"].unique():
        held = (rows["fold"] == fold).to_numpy()
        x, label = (rows.loc[~held, name].to_numpy(dtype=np.float64) for name in ("x", "label"))
        if len(x) < 2 or np.ptp(x) == 0:
            return None
        slope, offset = np.polyfit(x - x.mean(), label, 1)
        found[held] = slope * (rows.loc[held, "x"].to_numpy(dtype=np.float64) - x.mean()) + offset
    return found


def bias_of(rows: pd.DataFrame, x: NDArray, v: NDArray) -> Estimate:
    """Estimate mean(x - v) / mean(v)."""
    r = float(np.mean(x - v) / np.mean(v))
    return Estimate(r, mean_over(rows, (x - v - r * v) / np.mean(v)).errors)


def slope_of(rows: pd.DataFrame, y: NDArray, v: NDArray) -> Estimate:
    r"""Estimate the slope of the least-squares line of y against v, with the errors of its linearisation.

    .. math:: \hat b = \frac{\sum (v_i - \bar v)(y_i - \bar y)}{\sum (v_i - \bar v)^2}, \qquad
        z_i = \frac{(v_i - \bar v)\,(y_i - \bar y - \hat b\,(v_i - \bar v))}{\frac1n \sum (v_j - \bar v)^2}

    The errors are those of the mean of z. For a perfect volume x = E[|L| | image] the slope of x against the volume of
    the label is Var x / Var |L|, at most 1, and that of the label against x is 1. Book: ``prop-regression``.
    """
    u, w = v - v.mean(), y - y.mean()
    spread = float(np.mean(u * u))
    if spread == 0:
        raise ValueError("v: expected cases of different volumes, got one volume")
    b = float(np.mean(u * w)) / spread
    return Estimate(b, mean_over(rows, u * (w - b * u) / spread).errors)


def bias_table(cases: pd.DataFrame) -> pd.DataFrame:
    """Compute bias, slope and rms of every measure for each organ and a, before and after the recalibration.

    Parameters
    ----------
    cases
        As in ``cases.csv``, of any preset; measures that were not scored have no rows.

    Returns
    -------
    DataFrame
        ``organ, a, measure, n``; ``bias``, ``slope``, ``reverse`` and the same with ``_after``, each with ``_lo`` and
        ``_hi``; ``rms`` and ``rms_after``. NaN where all x are equal or no recalibration could be made.
    """
    found = []
    for organ, a, cell in cells(cases):
        for name in MEASURES:
            rows = measured(cell, name)
            if rows is None:
                continue
            v = rows["v"].to_numpy(dtype=np.float64)
            row: dict[str, Any] = {"organ": organ, "a": a, "measure": name, "n": len(rows)}
            for end, x in (("", rows["x"].to_numpy(dtype=np.float64)), ("_after", recalibrate(rows))):
                if x is None:
                    continue
                results = {"bias": bias_of(rows, x, v), "slope": slope_of(rows, x - v, v)}
                if np.ptp(x) > 0 and name != "CONST(0)":  # a constant says nothing of the case
                    results["reverse"] = slope_of(rows, v - x, x)
                for quantity, result in results.items():
                    values = (result.mean, *result.interval)
                    row |= {f"{quantity}{end}{e}": value for e, value in zip(ENDS, values, strict=True)}
                row[f"rms{end}"] = float(np.sqrt(np.mean((x - v) ** 2)) / v.mean())
            found.append(row)
    quantities = [f"{q}{end}{e}" for q in ("bias", "slope", "reverse") for end in ("", "_after") for e in ENDS]
    return pd.DataFrame(found, columns=["organ", "a", "measure", "n", *quantities, "rms", "rms_after"])


def by_size(cases: pd.DataFrame, parts: int = 5) -> pd.DataFrame:
    """Compute mean(x - v) / mean(v) in equal parts of the cases, from the smallest expected volume to the largest.

    Returns
    -------
    DataFrame
        ``organ, a, measure, part, v`` (mean over that of all cases) ``, bias`` in units of the part's mean of v.
    """
    found = []
    for organ, a, cell in cells(cases):
        for name in MEASURES:
            rows = measured(cell, name)
            if rows is None or len(rows) < parts:
                continue
            rows = rows.sort_values("v")
            for part, chosen in enumerate(np.array_split(np.arange(len(rows)), parts), 1):
                some = rows.iloc[chosen]
                v = some["v"].mean()
                row = {"organ": organ, "a": a, "measure": name, "part": part, "v": v / rows["v"].mean()}
                found.append({**row, "bias": (some["x"].mean() - v) / v})
    return pd.DataFrame(found, columns=["organ", "a", "measure", "part", "v", "bias"])


def bias_rows(table: pd.DataFrame, quantity: str = "bias") -> list[list[str]]:
    """Lay out one quantity of :func:`bias_table` with its intervals, in percent (slopes as numbers): rows as HEADER."""
    rows = []
    for organ, a, cell in cells(table):
        by = cell.set_index("measure")
        row = [organ, short(a, 2)]
        for name in MEASURES:
            if name not in by.index or pd.isna(by.loc[name, quantity]):
                row.append(ABSENT)
                continue
            ends = tuple(float(by.loc[name, f"{quantity}{end}"]) for end in ENDS)
            shown = [percent(ends[0], 1, "+"), *(f"{100 * x:.1f}".replace("-", "−") for x in ends[1:])]
            text = (
                "{} [{}, {}]".format(*shown)
                if quantity.startswith("bias")
                else interval(ends[0], ends[1], ends[2], 2, "+")
            )
            row.append(f"**{text}**" if ends[1] > 0 or ends[2] < 0 else text)
        rows.append(row)
    return rows


def error_rows(table: pd.DataFrame) -> list[list[str]]:
    """Lay out the root mean square error before and after the recalibration, in percent of the mean volume."""
    rows = []
    for organ, a, cell in cells(table):
        by = cell.set_index("measure")
        row = [organ, short(a, 2)]
        for name in MEASURES:
            if name in by.index:
                after = by.loc[name, "rms_after"]
                row.append(f"{percent(by.loc[name, 'rms'])} → {ABSENT if pd.isna(after) else percent(after)}")
            else:
                row.append(ABSENT)
        rows.append(row)
    return rows


def _counts(rows: Any, quantity: str) -> tuple[int, int, int]:
    """Count the settings whose interval lies below 0 and above 0, and all of them."""
    rows = rows[rows[quantity].notna()]
    return int((rows[f"{quantity}_hi"] < 0).sum()), int((rows[f"{quantity}_lo"] > 0).sum()), len(rows)


def slope_verdict(table: pd.DataFrame, quantity: str = "slope") -> str:
    """Say for each measure in how many settings a slope is below 0, above 0, or neither."""
    said = []
    for name in MEASURES:
        below, above, of = _counts(table[table["measure"] == name], quantity)
        if of:
            said.append(f"{name} below 0 in {below} of {of}, above in {above}, undecided in {of - below - above}")
    return "; ".join(said) + "." if said else "nothing was scored."


def size_answer(table: pd.DataFrame) -> str:
    """Answer whether small volumes come out too large and large ones too small: shown, refuted or mixed."""
    rows: Any = table[~table["measure"].isin(["CONST(0)"])]
    below, above, of = _counts(rows, "slope")
    if not of:
        return "not measured."
    word = "shown" if below == of else "refuted" if above == of else "mixed"
    where = f"in {below} of {of} measures and settings, above in {above}"
    return f"{word}: the slope is below 0 with its whole interval {where}."


def shift_verdict(table: pd.DataFrame) -> str:
    """Say at the strongest noise of each organ on which side of 0 the measures lie, and what recalibration leaves."""
    if table.empty:
        return "not measured."
    strongest: Any = table[table["a"] == table.groupby("organ")["a"].transform("max")]
    said = []
    for name in MEASURES:
        below, above, of = _counts(strongest[strongest["measure"] == name], "bias")
        if of:
            said.append(f"{name} too small in {below} of {of}, too large in {above}")
    below, above, of = _counts(table, "bias_after")
    return (
        f"At the strongest noise of each organ, with the whole interval: {'; '.join(said)}. After recalibration the "
        f"interval of the bias contains 0 in {of - below - above} of {of} measures and settings."
    )


def least_error(table: pd.DataFrame, quantity: str = "rms_after") -> str:
    """Count for each measure the settings in which its error is the least."""
    rows: Any = table[table[quantity].notna()]
    if rows.empty:
        return "not measured."
    best = rows.loc[rows.groupby(["organ", "a"], sort=False)[quantity].idxmin(), "measure"].value_counts()
    return (
        listed(f"{name} in {best[name]}" for name in MEASURES if name in best.index) + f" of {int(best.sum())} settings"
    )


def bias_verdict(table: pd.DataFrame) -> str:
    """Say for the strongest noise of each organ what bias each measure has, and what recalibration leaves of it."""
    lines = []
    for organ in dict.fromkeys(table["organ"]):
        rows: Any = table[table["organ"] == organ]
        a = rows["a"].max()
        rows = rows[rows["a"] == a].set_index("measure")
        parts = [f"{name} {percent(rows.loc[name, 'bias'], 0, '+')}" for name in MEASURES if name in rows.index]
        line = f"- {organ}, a = {short(a, 2)}: {', '.join(parts)}"
        after = rows["bias_after"].abs().max() if "bias_after" in rows else np.nan
        lines.append(line + ("." if pd.isna(after) else f"; after recalibration {percent(after, 1)} at most."))
    return "\n".join(lines)


def without_soft(results: Mapping[str, Any]) -> str:
    """Name the presets whose runs have not scored the volume of the map; empty if all have."""
    lacking = [preset for preset, result in results.items() if "soft_volume" not in result.cases]
    if not lacking:
        return ""
    return f"The sum of the map was not scored yet in {listed(lacking)}; runs of this version score it."
