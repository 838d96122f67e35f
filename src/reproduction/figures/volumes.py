"""Figures of the chapter on volume bias, from the tables of ``reproduction.report.volume_bias``: one panel an organ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reproduction.figures.drawing import drawing, legend_below
from reproduction.figures.palette import CONSTANT, DICE, FAINT, HALF, LINES, MARKS, SERIES, SOFT_DICE
from reproduction.figures.panels import METHOD_LOOKS, panels, points, spacing

#: Marker and colour of each measure.
VOLUME_LOOKS = {**METHOD_LOOKS, "CE soft": ("D", HALF), "SD soft": ("X", SOFT_DICE), "CONST(0)": ("v", CONSTANT)}


def plot_volume_bias(table: pd.DataFrame) -> Figure:
    """Draw the bias of every measure with its interval against a, in percent of the expected volume.

    Columns ``organ, a, measure, bias, bias_lo, bias_hi``.
    """
    scaled = table.assign(**{name: 100 * table[name] for name in ("bias", "bias_lo", "bias_hi")})

    def draw(ax: Axes, rows: Any) -> None:
        ax.axhline(0, color=FAINT, lw=1)
        step = spacing(rows["a"]) * 0.05
        for k, (name, look) in enumerate(VOLUME_LOOKS.items()):
            points(ax, rows[rows["measure"] == name], (k - 2) * step, look, name, "bias", line=_line(name))

    return panels(scaled, draw, "volume bias, %")


def plot_by_size(table: pd.DataFrame) -> Figure:
    """Draw the bias in parts of the cases against the mean expected volume of the part.

    Columns ``organ, measure, v, bias``, of one a for each organ.
    """

    def draw(ax: Axes, rows: Any) -> None:
        ax.axhline(0, color=FAINT, lw=1)
        for name, (marker, colour) in VOLUME_LOOKS.items():
            some = rows[rows["measure"] == name]
            if len(some):
                ax.plot(some["v"], 100 * some["bias"], _line(name), marker=marker, ms=5, color=colour, label=name)

    figure = panels(table, draw, "volume bias, %", x="v")
    for ax in figure.axes:
        ax.xaxis.set_major_locator(MaxNLocator(5))
        if ax.get_xlabel():
            ax.set_xlabel("expected volume / mean")
    return figure


def _line(measure: str) -> str:
    """Give the line of a measure: sums of maps have another than masks, whose colours they share."""
    return ":" if measure.endswith("soft") else "-"


def plot_regions(
    ratios: Mapping[str, Mapping[str, tuple[NDArray, NDArray]]],
    switches: Mapping[str, tuple[NDArray, NDArray, float]],
) -> Figure:
    """Draw the volume of the best mask against the probability of the uncertain region, and where it switches.

    Parameters
    ----------
    ratios
        Title of a panel to the curves in it: name of a curve to (p, volume over expected volume).
    switches
        Name of a curve to (number of parts, switch, limit): the last panel.
    """
    with drawing(3.3, 1, len(ratios) + 1) as (figure, axes):
        for ax, (title, curves) in zip(axes, ratios.items(), strict=False):
            for (name, (p, ratio)), colour, style in zip(
                curves.items(), (*SERIES[:3], DICE), (*LINES[1:4], "-"), strict=False
            ):
                jump = int(np.argmax(np.diff(ratio))) + 1
                ax.plot(np.insert(p, jump, np.nan), np.insert(ratio, jump, np.nan), ls=style, color=colour, label=name)
                ax.plot([p[jump]] * 2, ratio[[jump - 1, jump]], ":", color=colour, lw=1)
            ax.axhline(1, color=FAINT, lw=1)
            ax.set(title=title, xlabel="probability $p$", xlim=(0, 1))
        axes[0].set_ylabel("volume / expected volume")
        last = axes[-1]
        for (name, (parts, found, limit)), marker, colour in zip(switches.items(), MARKS, SERIES[3:], strict=False):
            last.plot(parts, found, marker=marker, ms=4, color=colour, label=name)
            last.axhline(limit, color=colour, lw=0.8, ls=":")
        last.axhline(0.5, color=FAINT, lw=1)
        last.set(
            xscale="log",
            xlabel="number of parts $K$",
            ylabel="switch $p_K$",
            title="where it is taken in",
            ylim=(0.15, 0.7),
        )
        last.legend(loc="upper right")
        legend_below(figure, axes[0], len(next(iter(ratios.values()))))
    return figure
