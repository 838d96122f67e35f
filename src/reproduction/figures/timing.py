"""Figures of time: what trainings took, and how our functions compare with others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction.figures import style


@style.styled
def plot_costs(runs: pd.DataFrame) -> Figure:
    """Draw one mark a training: its processor seconds, a row for each preset, a colour for each loss.

    Parameters
    ----------
    runs : DataFrame
        Columns ``preset, run, busy_s`` as of :func:`reproduction.report.costs.cost_of_runs`; trainings without
        processor seconds are not drawn.

    Returns
    -------
    Figure
        With one axes.

    Raises
    ------
    ValueError
        If a column is missing, or no training has processor seconds.

    Examples
    --------
    >>> table = pd.DataFrame({"preset": "mine", "run": ["aorta-a0.000-ce-fold0-unet"], "busy_s": [20.0]})
    >>> plot_costs(table).axes[0].get_xlabel()
    'processor seconds a training'
    """
    table: Any = style.need("runs", runs, ["preset", "run", "busy_s"])
    table = table[table["busy_s"].notna()]
    if table.empty:
        raise ValueError("runs: found no training with processor seconds")
    presets = list(dict.fromkeys(table["preset"]))
    figure, axes = style.new_figure(7.5, 1.1 + 0.7 * len(presets), 1, 1)
    ax = axes[0, 0]
    for offset, (loss, (name, colour)) in zip((0.17, -0.17), style.LOSSES.items(), strict=True):
        for row, preset in enumerate(presets):
            mine = table[(table["preset"] == preset) & table["run"].str.contains(f"-{loss}-fold")]
            seconds = np.sort(mine["busy_s"].to_numpy(dtype=float))
            # Spread over a little height, so that equal trainings can be told apart.
            height = -row + offset + np.linspace(-0.1, 0.1, len(seconds))[np.argsort(np.arange(len(seconds)) * 7 % 11)]
            ax.plot(seconds, height, "o", ms=4, mec="none", alpha=0.5, color=colour, label=None if row else name)
    ax.set_yticks([-row for row in range(len(presets))], presets)
    ax.set(xlabel="processor seconds a training", ylim=(-len(presets) + 0.5, 0.5))
    ax.set_xlim(0, 1.05 * float(table["busy_s"].max()))
    figure.legend(loc="outside right center")
    return figure


@style.styled
def plot_ratios(ratios: pd.DataFrame) -> Figure:
    """Draw how many times faster ours is than each peer, from the worst to the best input, on a logarithmic axis.

    Parameters
    ----------
    ratios : DataFrame
        Columns ``name, work, low, high, bar, missed``: one line for each row, a colour for each work; ``bar`` may be
        NaN.

    Returns
    -------
    Figure
        With one axes.

    Raises
    ------
    ValueError
        If the table is empty or lacks a column.

    Examples
    --------
    >>> row = {
    ...     "name": "threshold 64³: a sum",
    ...     "work": "threshold",
    ...     "low": 0.5,
    ...     "high": 2.0,
    ...     "bar": 0.2,
    ...     "missed": False,
    ... }
    >>> plot_ratios(pd.DataFrame([row])).axes[0].get_xscale()
    'log'
    """
    table: Any = style.need("ratios", ratios, ["name", "work", "low", "high", "bar", "missed"])
    figure, axes = style.new_figure(7.5, 0.24 * len(table) + 1.2, 1, 1)
    ax = axes[0, 0]
    palette = (style.BLUE, style.ORANGE, style.GREEN, style.PINK, style.GREY)
    colours = {work: palette[k % len(palette)] for k, work in enumerate(dict.fromkeys(table["work"]))}
    for y, row in enumerate(table.to_dict("records")):
        colour = colours[row["work"]]
        ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=2)
        ax.plot(row["low"], y, marker="X" if row["missed"] else "o", color=colour, ms=8 if row["missed"] else 5, ls="")
        if not pd.isna(row["bar"]):
            ax.plot([row["bar"]] * 2, [y - 0.4, y + 0.4], color="black", lw=1.6)
    ax.set_yticks(range(len(table)), list(table["name"]))
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xscale("log")
    ax.axvline(1, color="grey", lw=0.8)
    ax.set_xlabel("times faster than the peer (1: as fast)")
    ax.plot([], [], "o-", color=style.GREY, label="worst input, line up to the best")
    ax.plot([], [], "X", color=style.GREY, ms=8, label="worst input misses the bar")
    ax.plot([], [], "|", color="black", ms=10, mew=1.6, label="bar")
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    return figure
