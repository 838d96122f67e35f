"""Figures of the chapter on the experiment, from result tables to a `matplotlib.figure.Figure`: one panel an organ.

Tables are those of ``reproduction.runs.tables``; one without a row to draw is a ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.figures.palette import CEILING, DICE, FAINT
from reproduction.figures.panels import (
    CONSTANT_LOOKS,
    DIFFERENCE_LOOKS,
    LOSSES,
    METHOD_LOOKS,
    MINUS,
    difference_label,
    hollow_points,
    panels,
    points,
    spacing,
)


def plot_dice_over_noise(
    summary: pd.DataFrame,
    score: str = "dice_noisy",
    ceiling: str | None = "ceiling",
    compared: pd.DataFrame | None = None,
    compared_name: str = "paper",
    ylabel: str = "mean Dice",
    reference: float | None = None,
) -> Figure:
    """Draw Figure 3 of the paper: mean Dice, or another summary column, against the noise strength a.

    Each method is a line with its 95 % interval as a bar; the ceiling, which no method can pass on average, is dashed,
    and constant shapes, which do not look at the image, are dotted; they are drawn with the ceiling or not at all.

    Parameters
    ----------
    summary : DataFrame
        Columns ``organ, a, method``, ``<score>, <score>_lo, <score>_hi`` and the ceiling's.
    score : str
        The column on the vertical axis; ``threshold`` and ``volume_ratio`` do as well.
    ceiling : str or None
        The column of the ceiling, or None to draw none.
    compared : DataFrame, optional
        Columns ``organ, a, method, dice``; other values, drawn hollow in the panels of the same organ.
    compared_name : str
        Where these values come from, for the legend.
    ylabel : str
        What the vertical axis says.
    reference : float, optional
        Draws a thin horizontal line, such as 1 for a ratio.
    """

    def draw(ax: Axes, rows: Any) -> None:
        if reference is not None:
            ax.axhline(reference, color=FAINT, lw=1)
        if ceiling is not None:
            top = rows.groupby("a")[ceiling].mean()
            ax.plot(top.index, top, "--", color=CEILING, label="ceiling")
        for method, look in CONSTANT_LOOKS.items() if ceiling is not None else ():
            points(ax, rows[rows["method"] == method], 0.0, look, method, score, line=":")
        shift = spacing(rows["a"]) * 0.06  # side by side, so that no bar hides another
        for k, (method, look) in enumerate(METHOD_LOOKS.items()):
            points(ax, rows[rows["method"] == method], (k - 1) * shift, look, method, score, line="-")
            if compared is not None:
                other = compared[compared["organ"].isin(rows["organ"]) & (compared["method"] == method)]
                hollow_points(ax, other["a"], other["dice"], look, f"{method}, {compared_name}", size=7)

    return panels(summary, draw, ylabel)


def plot_differences(differences: pd.DataFrame, pairs: Mapping[str, tuple[str, str]] = DIFFERENCE_LOOKS) -> Figure:
    """Draw the paired differences in Dice between methods with their 95 % intervals against a.

    An interval that does not meet the line at zero is a difference that the cases support.

    Parameters
    ----------
    differences : DataFrame
        Columns ``organ, a, difference, score, mean, lo, hi``.
    pairs : mapping
        Name of a difference to its marker and colour: ``DIFFERENCE_LOOKS`` between the paper's methods, or
        ``OTHER_LOOKS``, those of other ways to threshold the same maps. Names that the table lacks are not drawn.
    """
    apart = min(0.12, 0.6 / len(pairs))

    def draw(ax: Axes, rows: Any) -> None:
        ax.axhline(0, color=FAINT, lw=1)
        step = spacing(rows["a"]) * apart
        for k, (name, look) in enumerate(pairs.items()):
            place = (k - (len(pairs) - 1) / 2) * step
            points(ax, rows[rows["difference"] == name], place, look, difference_label(name))

    drawn = (differences["score"] == "dice_noisy") & differences["difference"].isin(list(pairs))
    return panels(differences[drawn], draw, "difference in Dice")


def plot_pairs(cases: pd.DataFrame, first: str = "CE(*)", second: str = "SD(0)") -> Figure:
    """Draw the Dice of one method against that of another, a mark a case, at the strongest noise of each organ.

    Above the diagonal the first method is better. Scores are means over training seeds.

    Parameters
    ----------
    cases : DataFrame
        Columns ``organ, a, case, method, dice_noisy``.
    first, second : str
        Methods on the vertical and on the horizontal axis.
    """
    known: Any = cases[cases["method"].isin([first, second])]
    known = known[known["a"] == known.groupby("organ")["a"].transform("max")]
    wide = known.pivot_table(index=["organ", "a", "case"], columns="method", values="dice_noisy").dropna().reset_index()

    def draw(ax: Axes, rows: Any) -> None:
        ends = (0.0, max(rows[first].max(), rows[second].max()) * 1.04)
        ax.plot(ends, ends, color=FAINT, lw=1)
        ax.plot(rows[second], rows[first], "o", ms=3, color=DICE, alpha=0.6, mec="none", label="a case")
        ax.set(xlim=ends, ylim=ends, aspect="equal")
        ax.text(0.04, 0.96, f"a = {rows['a'].iloc[0]:.2f}", transform=ax.transAxes, va="top", fontsize=9)

    return panels(wide, draw, f"Dice of {first}", x=f"Dice of {second}")


def plot_seeds(cases: pd.DataFrame, summary: pd.DataFrame, score: str = "dice_noisy") -> Figure:
    """Draw the mean of every training seed, hollow, beside the mean over the seeds with its interval over cases.

    Where the hollow marks of a method lie closer together than its bar is long, another training matters less than
    other cases would. All is drawn as its distance from the mean of CE(0) at the same organ and a: the methods are
    compared.

    Parameters
    ----------
    cases : DataFrame
        Columns ``organ, a, method, <score>`` and, with several seeds, ``training_seed``.
    summary : DataFrame
        Columns ``organ, a, method, <score>, <score>_lo, <score>_hi``.
    score : str
        What is drawn.
    """
    single: Any = cases if "training_seed" in cases else cases.assign(training_seed=0)
    means = single.groupby(["organ", "a", "method", "training_seed"], as_index=False)[score].mean()

    def draw(ax: Axes, rows: Any) -> None:
        zero = rows[rows["method"] == "CE(0)"].set_index("a")[score]
        step = spacing(rows["a"]) * 0.22
        for k, (method, look) in enumerate(METHOD_LOOKS.items()):
            r = rows[rows["method"] == method]
            points(ax, r, (k - 1) * step, look, method, score, above=zero.reindex(r["a"]).to_numpy())
            runs = means[means["organ"].isin(rows["organ"]) & (means["method"] == method)]
            gains = runs[score] - zero.reindex(runs["a"]).to_numpy()
            hollow_points(ax, runs["a"] + (k - 0.65) * step, gains, look, f"{method}, one seed", size=4)

    known = summary[summary["method"].isin(list(METHOD_LOOKS))]
    return panels(known, draw, f"Dice {MINUS} mean of CE(0)")


def plot_history(history: pd.DataFrame) -> Figure:
    """Draw the training Dice of every run against the epoch, a thin line a run, losses by colour.

    The columns are ``organ, a, loss, fold, epoch, train_dice``.
    """

    def draw(ax: Axes, rows: Any) -> None:
        for (_, loss, _), run in rows.groupby(["a", "loss", "fold"]):
            run = run.sort_values("epoch")
            name, colour = LOSSES[str(loss)]
            ax.plot(run["epoch"], run["train_dice"], color=colour, lw=0.9, alpha=0.6, label=name)
        last = rows[rows["epoch"] == rows["epoch"].max()].groupby("a")["train_dice"].mean()
        for a, value in last.items():
            ax.annotate(
                f"{a:.2f}",
                (rows["epoch"].max(), value),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
                color=CEILING,
                annotation_clip=False,
            )

    return panels(history, draw, "training Dice", x="epoch")
