"""Figures that compare our values with the paper's, from the tables that ``reproduction.report.deviations`` makes."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.figures.palette import FAINT
from reproduction.figures.panels import (
    DIFFERENCE_LOOKS,
    METHOD_LOOKS,
    MINUS,
    difference_label,
    hollow_points,
    panels,
    points,
    spacing,
)


def plot_deviations(table: pd.DataFrame) -> Figure:
    """Draw ours - paper for every value of the paper's Table 1 that we have, with our interval; one panel an organ.

    Presets have fillings of their own: the first is full, others are hollow.

    Parameters
    ----------
    table : DataFrame
        From :func:`reproduction.report.deviations.deviations`; rows without a value of ours are left out.
    """
    known = table[table["ours"].notna()]
    presets = list(dict.fromkeys(known["preset"]))

    def draw(ax: Axes, rows: Any) -> None:
        ax.axhline(0, color=FAINT, lw=1)
        step = spacing(rows["a"]) * 0.2 / len(presets)
        for j, preset in enumerate(presets):
            for k, (method, look) in enumerate(METHOD_LOOKS.items()):
                r = rows[(rows["preset"] == preset) & (rows["method"] == method)]
                r = r.assign(mean=r["difference"], lo=r["lo"] - r["paper"], hi=r["hi"] - r["paper"])
                label = f"{method}, {preset}" if len(presets) > 1 else method
                place = (j * len(METHOD_LOOKS) + k - (len(presets) * len(METHOD_LOOKS) - 1) / 2) * step
                points(ax, r, place, look, label, hollow=j > 0)

    return panels(known, draw, f"ours {MINUS} paper, Dice")


def plot_gains(table: pd.DataFrame) -> Figure:
    """Draw the differences between methods: the paper's, hollow and without interval, beside ours; one panel an organ.

    Parameters
    ----------
    table : DataFrame
        From :func:`reproduction.report.deviations.gains`, of one preset.
    """

    def draw(ax: Axes, rows: Any) -> None:
        ax.axhline(0, color=FAINT, lw=1)
        step = spacing(rows["a"]) * 0.16
        for k, (name, look) in enumerate(DIFFERENCE_LOOKS.items()):
            r, label = rows[rows["difference"] == name].sort_values("a"), difference_label(name)
            points(ax, r, (k - 1) * step, look, label)
            hollow_points(ax, r["a"] + (k - 0.7) * step, r["paper"], look, f"{label}, paper", size=6)

    return panels(table, draw, "difference in Dice")
