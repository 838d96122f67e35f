"""Figures that compare our values with the paper's, from result tables to a `matplotlib.figure.Figure`."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.figures import style
from reproduction.figures.style import COLOURS, DIFFERENCE_LOOKS, MARKERS, MINUS
from reproduction.scoring.rules import METHODS


@style.styled
def plot_deviations(table: pd.DataFrame) -> Figure:
    """Draw ours - paper for every value of the paper's Table 1 that we have, with our interval; one panel an organ.

    Presets have fillings of their own: the first is full, others are hollow.

    Parameters
    ----------
    table : DataFrame
        From :func:`reproduction.report.deviations.deviations`; rows without a value of ours are left out.

    Returns
    -------
    Figure
        With one axes an organ.

    Raises
    ------
    ValueError
        If a column is missing, or no row has a value of ours.

    Examples
    --------
    >>> row = {"organ": "aorta", "a": 0.0, "method": "CE(0)", "paper": 0.95, "preset": "quick", "difference": 0.01}
    >>> len(plot_deviations(pd.DataFrame([row | {"ours": 0.96, "lo": 0.95, "hi": 0.97}])).axes)
    1
    """
    columns = ["organ", "a", "method", "paper", "preset", "ours", "lo", "hi", "difference"]
    known = style.need("table", table, columns)
    known = known[known["ours"].notna()]
    if known.empty:
        raise ValueError("table: found no row with a value of ours")
    presets = list(dict.fromkeys(known["preset"]))

    def draw(ax: Axes, rows: Any, organ: str) -> None:
        ax.axhline(0, color="0.6", lw=1)
        step = style.spacing(rows["a"]) * 0.2 / len(presets)
        for j, preset in enumerate(presets):
            for k, method in enumerate(METHODS):
                r = rows[(rows["preset"] == preset) & (rows["method"] == method)]
                r = r.assign(mean=r["difference"], lo=r["lo"] - r["paper"], hi=r["hi"] - r["paper"])
                label = f"{method}, {preset}" if len(presets) > 1 else method
                place = (j * len(METHODS) + k - (len(presets) * len(METHODS) - 1) / 2) * step
                style.points(ax, r, place, MARKERS[method], COLOURS[method], label, hollow=j > 0)

    return style.panels(known, draw, f"ours {MINUS} paper, Dice")


@style.styled
def plot_gains(table: pd.DataFrame) -> Figure:
    """Draw the differences between methods: the paper's, hollow and without interval, beside ours; one panel an organ.

    Parameters
    ----------
    table : DataFrame
        From :func:`reproduction.report.deviations.gains`, of one preset.

    Returns
    -------
    Figure
        With one axes an organ.

    Raises
    ------
    ValueError
        If the table is empty, lacks a column or holds several presets.

    Examples
    --------
    >>> row = {"organ": "aorta", "a": 0.0, "difference": "CE(*)-CE(0)", "paper": 0.01, "preset": "quick"}
    >>> len(plot_gains(pd.DataFrame([row | {"mean": 0.02, "lo": 0.01, "hi": 0.03}])).axes)
    1
    """
    columns = ["organ", "a", "difference", "paper", "preset", "mean", "lo", "hi"]
    known = style.need("table", table, columns)
    presets = sorted(set(known["preset"]))
    if len(presets) > 1:
        raise ValueError(f"table: found the presets {', '.join(presets)}; expected the rows of one")

    def draw(ax: Axes, rows: Any, organ: str) -> None:
        ax.axhline(0, color="0.6", lw=1)
        step = style.spacing(rows["a"]) * 0.16
        for k, (name, look) in enumerate(DIFFERENCE_LOOKS.items()):
            r, label = rows[rows["difference"] == name].sort_values("a"), style.difference_label(name)
            style.points(ax, r, (k - 1) * step, *look, label)
            style.hollow_points(ax, r["a"] + (k - 0.7) * step, r["paper"], *look, f"{label}, paper", size=6)

    return style.panels(known, draw, "difference in Dice")
