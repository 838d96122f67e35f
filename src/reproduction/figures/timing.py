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
