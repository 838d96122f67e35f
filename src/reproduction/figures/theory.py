"""The figure of thresholds in the chapter on optimal segmentations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from noisyseg.optimal import dice_threshold
from reproduction.figures.drawing import drawing
from reproduction.figures.palette import DICE, FAINT, HALF, LINES, SERIES


def plot_threshold_curve(marginals: Mapping[str, np.ndarray]) -> Figure:
    """Draw u -> D_m({m >= u}) for one or more marginals, with the Dice threshold t and the threshold 1/2 marked.

    The maximum of the curve is D*, reached at u = t = D*/2: t is where the curve meets the line u -> 2u.

    Parameters
    ----------
    marginals : mapping of str to array_like
        A marginal m with values in [0, 1] and a positive sum for each name of the legend.
    """
    grid = np.linspace(0.0, 1.0, 1001)
    with drawing(3.6) as (figure, ax):
        ax.plot(grid[:501], 2 * grid[:501], ":", color=FAINT, lw=1, label="$2u$")
        ax.axvline(0.5, color=HALF, lw=1, label="threshold 1/2")
        for (name, m), colour, line in zip(marginals.items(), SERIES, LINES, strict=False):
            values = np.sort(np.asarray(m, dtype=float), axis=None)
            first = np.searchsorted(values, grid)  # the voxels from here on have m >= u
            mass = np.append(values[::-1].cumsum()[::-1], 0.0)[first]
            ax.plot(grid, 2 * mass / (values.size - first + values.sum()), ls=line, color=colour, label=name)
            t = dice_threshold(np.asarray(m, dtype=float))
            ax.plot(t, 2 * t, "^", color=DICE, ms=8, zorder=3)
        ax.plot([], [], "^", color=DICE, ms=8, ls="", label="$t = D^*/2$")
        ax.set(xlabel="threshold u", ylabel=r"$D_m(\{m \geq u\})$", ylim=(0, 1.03), xlim=(0, 1))
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
