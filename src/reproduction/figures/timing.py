"""Figures of time: what trainings took, and how our functions compare with others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction.figures.drawing import drawing
from reproduction.figures.palette import CEILING, FAINT, MARGINAL, SERIES
from reproduction.figures.panels import LOSSES


def plot_costs(runs: pd.DataFrame) -> Figure:
    """Draw one mark a training: its processor seconds, a row for each preset, a colour for each loss.

    Parameters
    ----------
    runs : DataFrame
        Columns ``preset, run, busy_s`` as of :func:`reproduction.report.costs.cost_of_runs`; all have processor
        seconds.
    """
    table: Any = runs
    presets = list(dict.fromkeys(table["preset"]))
    with drawing(1.1 + 0.7 * len(presets)) as (figure, ax):
        for offset, (loss, (name, colour)) in zip((0.17, -0.17), LOSSES.items(), strict=True):
            for row, preset in enumerate(presets):
                mine = table[(table["preset"] == preset) & table["run"].str.contains(f"-{loss}-fold")]
                seconds = np.sort(mine["busy_s"].to_numpy(dtype=float))
                # Spread over a little height, so that equal trainings can be told apart.
                spread = np.linspace(-0.1, 0.1, len(seconds))[np.argsort(np.arange(len(seconds)) * 7 % 11)]
                label = None if row else name
                ax.plot(seconds, spread - row + offset, "o", ms=4, mec="none", alpha=0.5, color=colour, label=label)
        ax.set_yticks([-row for row in range(len(presets))], presets)
        ax.set(xlabel="processor seconds a training", ylim=(-len(presets) + 0.5, 0.5))
        ax.set_xlim(0, 1.05 * float(table["busy_s"].max()))
        figure.legend(loc="outside right center")
    return figure


def plot_ratios(ratios: pd.DataFrame) -> Figure:
    """Draw how many times faster ours is than each peer, from the worst to the best input, on a logarithmic axis.

    Parameters
    ----------
    ratios : DataFrame
        Columns ``name, work, low, high, bar, missed``: one line for each row, a colour for each work; ``bar`` may be
        NaN.
    """
    colours = {work: SERIES[k % len(SERIES)] for k, work in enumerate(dict.fromkeys(ratios["work"]))}
    with drawing(0.24 * len(ratios) + 1.2) as (figure, ax):
        for y, row in enumerate(ratios.to_dict("records")):
            colour, missed = colours[row["work"]], row["missed"]
            ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=2)
            ax.plot(row["low"], y, marker="X" if missed else "o", color=colour, ms=8 if missed else 5, ls="")
            if not pd.isna(row["bar"]):
                ax.plot([row["bar"]] * 2, [y - 0.4, y + 0.4], color=MARGINAL, lw=1.6)
        ax.set_yticks(range(len(ratios)), list(ratios["name"]))
        ax.set_ylim(len(ratios) - 0.5, -0.5)
        ax.set_xscale("log")
        ax.axvline(1, color=FAINT, lw=0.8)
        ax.set_xlabel("times faster than the peer (1: as fast)")
        ax.plot([], [], "o-", color=CEILING, label="worst input, line up to the best")
        ax.plot([], [], "X", color=CEILING, ms=8, label="worst input misses the bar")
        ax.plot([], [], "|", color=MARGINAL, ms=10, mew=1.6, label="bar")
        figure.legend(loc="outside upper center", ncols=3)
    return figure
