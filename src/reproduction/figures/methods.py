"""Figures of the chapter on the experiment, from result tables to a `matplotlib.figure.Figure`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.figures import style
from reproduction.figures.style import COLOURS, DIFFERENCE_LOOKS, MARKERS, MINUS
from reproduction.scoring.rules import METHODS


@style.styled
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

    One panel an organ. Each method is a line with its 95 % interval as a bar; the ceiling, which no method can pass on
    average, is dashed.

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

    Returns
    -------
    Figure
        With one axes an organ, in the order of the table.

    Raises
    ------
    ValueError
        If a table is empty or lacks a column.

    Examples
    --------
    >>> table = pd.DataFrame({"organ": "kidney", "a": [0.0, 0.01], "method": "CE(0)", "dice_noisy": [0.9, 0.8]})
    >>> table = table.assign(dice_noisy_lo=[0.85, 0.7], dice_noisy_hi=[0.95, 0.9])
    >>> plot_dice_over_noise(table, ceiling=None).axes[0].get_title()
    'kidney'
    """
    extra = [] if ceiling is None else [ceiling]
    table = style.need("summary", summary, ["organ", "a", "method", score, f"{score}_lo", f"{score}_hi", *extra])
    others = None if compared is None else style.need("compared", compared, ["organ", "a", "method", "dice"])

    def draw(ax: Axes, rows: Any, organ: str) -> None:
        if reference is not None:
            ax.axhline(reference, color="0.6", lw=1)
        if ceiling is not None:
            top = rows.groupby("a")[ceiling].mean()
            ax.plot(top.index, top, "--", color=COLOURS["ceiling"], label="ceiling")
        shift = style.spacing(rows["a"]) * 0.06  # side by side, so that no bar hides another
        for k, method in enumerate(METHODS):
            r, look = rows[rows["method"] == method], (MARKERS[method], COLOURS[method])
            style.points(ax, r, (k - 1) * shift, *look, method, score, line=True)
            if others is not None:
                o = others[(others["organ"] == organ) & (others["method"] == method)]
                style.hollow_points(ax, o["a"], o["dice"], *look, f"{method}, {compared_name}", size=7)

    return style.panels(table, draw, ylabel)


@style.styled
def plot_differences(
    differences: pd.DataFrame, score: str = "dice_noisy", pairs: Mapping[str, tuple[str, str]] = DIFFERENCE_LOOKS
) -> Figure:
    """Draw the paired differences between methods with their 95 % intervals against a, one panel an organ.

    An interval that does not meet the line at zero is a difference that the cases support.

    Parameters
    ----------
    differences : DataFrame
        Columns ``organ, a, difference, score, mean, lo, hi``.
    score : str
        The score whose rows are drawn.
    pairs : mapping
        Name of a difference to its marker and colour: ``DIFFERENCE_LOOKS`` between the paper's methods, or
        ``OTHER_LOOKS``, those of other ways to threshold the same maps. Names that the table lacks are not drawn.

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
    >>> table = pd.DataFrame({"organ": "aorta", "a": [0.01], "difference": "CE(*)-CE(0)", "score": "dice_noisy"})
    >>> table = table.assign(mean=0.02, lo=0.01, hi=0.03)
    >>> len(plot_differences(table).axes)
    1
    """
    table = style.need("differences", differences, ["organ", "a", "difference", "score", "mean", "lo", "hi"])
    table = table[(table["score"] == score) & table["difference"].isin(list(pairs))]
    if table.empty:
        raise ValueError(f"differences: found no row with score {score!r} and one of {', '.join(pairs)}")
    apart = min(0.12, 0.6 / len(pairs))

    def draw(ax: Axes, rows: Any, organ: str) -> None:
        ax.axhline(0, color="0.6", lw=1)
        step = style.spacing(rows["a"]) * apart
        for k, (name, look) in enumerate(pairs.items()):
            place = (k - (len(pairs) - 1) / 2) * step
            style.points(ax, rows[rows["difference"] == name], place, *look, style.difference_label(name))

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
        zero = rows[rows["method"] == "CE(0)"].set_index("a")[score]
        step = style.spacing(rows["a"]) * 0.22
        for k, method in enumerate(METHODS):
            r, look = rows[rows["method"] == method], (MARKERS[method], COLOURS[method])
            style.points(ax, r, (k - 1) * step, *look, method, score, above=zero.reindex(r["a"]).to_numpy())
            runs = means[(means["organ"] == organ) & (means["method"] == method)]
            gains = runs[score] - zero.reindex(runs["a"]).to_numpy()
            style.hollow_points(ax, runs["a"] + (k - 0.65) * step, gains, *look, f"{method}, one seed", size=4)

    return style.panels(table, draw, f"Dice {MINUS} mean of CE(0)")


@style.styled
def plot_history(history: pd.DataFrame) -> Figure:
    """Draw the training Dice of every run against the epoch: organs from left to right, losses by colour.

    Parameters
    ----------
    history : DataFrame
        Columns ``organ, a, loss, fold, epoch, train_dice``; one thin line a run.

    Returns
    -------
    Figure
        With one axes an organ.

    Raises
    ------
    ValueError
        If the table is empty or lacks a column.

    Examples
    --------
    >>> table = pd.DataFrame({"organ": "aorta", "a": 0.01, "loss": "ce", "fold": 0, "epoch": [1, 2]})
    >>> table = table.assign(train_dice=[0.5, 0.6])
    >>> plot_history(table).axes[0].get_xlabel()
    'epoch'
    """
    table = style.need("history", history, ["organ", "a", "loss", "fold", "epoch", "train_dice"])

    def draw(ax: Axes, rows: Any, organ: str) -> None:
        named: set[str] = set()
        for (_, loss, _), run in rows.groupby(["a", "loss", "fold"]):
            run, loss = run.sort_values("epoch"), str(loss)
            name, colour = style.LOSSES.get(loss, (loss, "0.5"))
            label = None if loss in named else name
            ax.plot(run["epoch"], run["train_dice"], color=colour, lw=0.9, alpha=0.6, label=label)
            named.add(loss)
        last = rows[rows["epoch"] == rows["epoch"].max()].groupby("a")["train_dice"].mean()
        for a, value in last.items():
            ax.annotate(
                f"{a:.2f}",
                (rows["epoch"].max(), value),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
                color="0.3",
                annotation_clip=False,
            )

    return style.panels(table, draw, "training Dice", x="epoch")
