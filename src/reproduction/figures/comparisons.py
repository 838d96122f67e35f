"""Figures that compare: our values with the paper's, ways to threshold with each other, one training with the next.

As in ``theory``, each is a function from result tables to a `matplotlib.figure.Figure`; nothing is computed.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.figures import style
from reproduction.figures.style import COLOURS, MARKERS, METHODS, MINUS

# What a way to threshold gains or loses: colour-blind safe, and a marker each.
FURTHER = {
    "CE(*)-CE(0)": ("^", "#009E73"),
    "CE(fold)-CE(0)": ("o", "#0072B2"),
    "CE(*)-CE(fold)": ("D", "#CC79A7"),
    "CE(rank)-CE(*)": ("X", "#E69F00"),
    "SD(fold)-SD(0)": ("s", "#D55E00"),
    "CE(oracle)-CE(*)": ("v", "#444444"),
}


@style.styled
def plot_further(differences: pd.DataFrame, score: str = "dice_noisy") -> Figure:
    """Draw what other ways to threshold the same maps gain, with 95 % intervals, against a; one panel an organ.

    Parameters
    ----------
    differences : DataFrame
        Columns ``organ, a, difference, score, mean, lo, hi``. Of the differences ``FURTHER``, those are drawn that
        are there.
    score : str
        The score whose rows are drawn.

    Returns
    -------
    Figure
        With one axes an organ.

    Raises
    ------
    ValueError
        If a column is missing, or no row has that score and one of those differences.

    Examples
    --------
    >>> table = pd.DataFrame({"organ": "aorta", "a": [0.01], "difference": "CE(fold)-CE(0)", "score": "dice_noisy"})
    >>> len(plot_further(table.assign(mean=0.02, lo=0.01, hi=0.03)).axes)
    1
    """
    table = style.need("differences", differences, ["organ", "a", "difference", "score", "mean", "lo", "hi"])
    table = table[(table["score"] == score) & table["difference"].isin(list(FURTHER))]
    if table.empty:
        raise ValueError(f"differences: found no row with score {score!r} and one of {', '.join(FURTHER)}")

    def draw(ax: Axes, rows: Any, organ: str) -> None:
        ax.axhline(0, color="0.6", lw=1)
        step = style.spacing(rows["a"]) * 0.1
        for k, (name, (marker, colour)) in enumerate(FURTHER.items()):
            style.points(ax, rows[rows["difference"] == name], (k - 2.5) * step, marker, colour, _shown(name))

    return style.panels(table, draw, "difference in Dice")


@style.styled
def plot_seeds(cases: pd.DataFrame, summary: pd.DataFrame, score: str = "dice_noisy") -> Figure:
    """Draw the mean of every training seed, hollow, beside the mean over the seeds with its interval over cases.

    Where the hollow marks of a method lie closer together than its bar is long, another training matters less than
    other cases would.

    Parameters
    ----------
    cases : DataFrame
        Columns ``organ, a, method, <score>`` and, with several seeds, ``training_seed``.
    summary : DataFrame
        Columns ``organ, a, method, <score>, <score>_lo, <score>_hi``.
    score : str
        What is drawn, as its distance from the mean of CE(0) at the same organ and a: the methods are compared.

    Returns
    -------
    Figure
        With one axes an organ.

    Raises
    ------
    ValueError
        If a table is empty or lacks a column.

    Examples
    --------
    >>> cases = pd.DataFrame({"organ": "aorta", "a": 0.0, "method": "CE(0)", "training_seed": [1, 2]})
    >>> summary = cases[:1].assign(dice_noisy=0.5, dice_noisy_lo=0.4, dice_noisy_hi=0.6)
    >>> len(plot_seeds(cases.assign(dice_noisy=[0.45, 0.55]), summary).axes)
    1
    """
    style.need("cases", cases, ["organ", "a", "method", score])
    table = style.need("summary", summary, ["organ", "a", "method", score, f"{score}_lo", f"{score}_hi"])
    table = table[table["method"].isin(METHODS)]
    single: Any = cases if "training_seed" in cases else cases.assign(training_seed=0)
    means = single.groupby(["organ", "a", "method", "training_seed"], as_index=False)[score].mean()

    def draw(ax: Axes, rows: Any, organ: str) -> None:
        zero = rows[rows["method"] == METHODS[0]].set_index("a")[score]
        step = style.spacing(rows["a"]) * 0.22
        for k, method in enumerate(METHODS):
            r, look = rows[rows["method"] == method], (MARKERS[method], COLOURS[method])
            style.points(ax, r, (k - 1) * step, *look, method, score, above=zero.reindex(r["a"]).to_numpy())
            runs = means[(means["organ"] == organ) & (means["method"] == method)]
            gains = runs[score] - zero.reindex(runs["a"]).to_numpy()
            style.hollow_points(ax, runs["a"] + (k - 0.65) * step, gains, *look, f"{method}, one seed", size=4)

    return style.panels(table, draw, f"Dice {MINUS} mean of CE(0)")


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
        for k, (name, (marker, colour)) in enumerate(style.DIFFERENCES.items()):
            r = rows[rows["difference"] == name].sort_values("a")
            style.points(ax, r, (k - 1) * step, marker, colour, _shown(name))
            label = f"{_shown(name)}, paper"
            style.hollow_points(ax, r["a"] + (k - 0.7) * step, r["paper"], marker, colour, label, size=6)

    return style.panels(known, draw, "difference in Dice")


def _shown(difference: str) -> str:
    """Write the name of a difference with a minus sign."""
    return difference.replace("-", f" {MINUS} ")
