"""Figures of the chapter *Lean U-Net*, from the tables of ``reproduction.runs.model_tables``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from reproduction.figures.drawing import drawing, legend, picture
from reproduction.figures.palette import AMOUNTS, CONSTANT, FAINT, MARGINAL, PAPER, SERIES, looks
from reproduction.figures.panels import points, spacing

FAMILY_LOOKS = {"doubling": ("U-Net", "o", SERIES[0]), "lunet": ("Lean U-Net", "s", SERIES[1])}
#: Criteria with a colour of their own; the others are drawn grey.
CRITERION_LOOKS = {
    **{"taylor": ("^", SERIES[2]), "random_at_taylor": ("v", SERIES[3]), "random_at_largest": ("D", SERIES[4])},
    **{"random_at_random": ("X", SERIES[5])},
}


def plot_sizes(models: pd.DataFrame, paths: pd.DataFrame, score: str = "dice_noisy") -> Figure:
    """Draw Dice against the number of parameters: U-Nets, Lean U-Nets, and networks along their pruning.

    A line through the widths of a family with 95 % intervals; a thin line for the epochs of a criterion, mean over the
    folds, with its last network as a mark. One panel an organ.

    Parameters
    ----------
    models : DataFrame
        Columns ``organ, model, parameters, <score>, <score>_lo, <score>_hi``: one row a model.
    paths : DataFrame
        Columns ``organ, model, fold, epoch, parameters, test_dice``.
    """
    organs = list(dict.fromkeys(models["organ"]))
    with drawing(3.6, 1, len(organs), squeeze=False) as (figure, axes):
        for ax, organ in zip(axes.flat, organs, strict=True):
            rows: Any = models[models["organ"] == organ]
            for family, (label, marker, colour) in FAMILY_LOOKS.items():
                own = rows[rows["model"].str.fullmatch(rf"{family}\d*")].sort_values("parameters")
                _bars(ax, own, score, colour, label, f"{marker}-")
            for model in rows.loc[rows["model"].str.contains("-"), "model"]:
                criterion = model.partition("-")[2]
                marker, colour = CRITERION_LOOKS.get(criterion, (".", CONSTANT))
                label = f"pruned, {criterion.replace('_', ' ')}" if criterion in CRITERION_LOOKS else "pruned, others"
                path: Any = paths[(paths["organ"] == organ) & (paths["model"] == model)]
                means = path.groupby("epoch")[["parameters", "test_dice"]].mean()
                thinner = means[means["parameters"].diff().fillna(-1) < 0]
                ax.plot(thinner["parameters"], thinner["test_dice"], color=colour, lw=0.7, alpha=0.7)
                _bars(ax, rows[rows["model"] == model], score, colour, label, marker)
            ax.set(xscale="log", xlabel="parameters", title=organ)
            low = rows[f"{score}_lo"].min()
            ax.set_ylim(low - 0.25 * (1 - low), None)
            ax.xaxis.set_minor_formatter(NullFormatter())
        axes.flat[0].set_ylabel("mean test Dice")
        legend(figure, axes, "outside right center")
    return figure


def _bars(ax: Axes, rows: Any, score: str, colour: str, label: str, form: str) -> None:
    if len(rows):
        lengths = np.maximum([rows[score] - rows[f"{score}_lo"], rows[f"{score}_hi"] - rows[score]], 0.0)
        ax.errorbar(rows["parameters"], rows[score], lengths, fmt=form, ms=5, color=colour, capsize=2, label=label)


def plot_layers(counts: Mapping[str, Sequence[float]], layers: Sequence[str], start: Sequence[int]) -> Figure:
    """Draw where the channels go: for every criterion and layer the share that is left, and how many channels.

    Parameters
    ----------
    counts : mapping
        Criterion to the channels that are left in every layer, means over the folds.
    layers, start : sequences
        Names of the layers in the order of computation, and their channels before pruning: the first row.
    """
    rows = {"before pruning": [float(count) for count in start], **{k: list(v) for k, v in counts.items()}}
    table = np.array(list(rows.values()))
    with drawing(0.32 * len(rows) + 1.4) as (figure, ax):
        shade = picture(ax, table / np.asarray(start, dtype=float), cmap=AMOUNTS, aspect="auto")
        for y, row in enumerate(table):
            for x, value in enumerate(row):
                ink = MARGINAL if value / start[x] > 0.55 else PAPER
                ax.text(x, y, f"{value:.3g}", ha="center", va="center", color=ink, fontsize=8)
        ax.set_xticks(range(len(layers)), layers, rotation=60, ha="right", fontsize=8)
        ax.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
        bar = figure.colorbar(shade, ax=ax, pad=0.01)
        bar.set_label("share of channels left")
    return figure


def plot_shares(widths: Sequence[int], lines: Mapping[str, Any], dots: Mapping[str, Any]) -> Figure:
    """Draw the probability that a layer is chosen against its width, as computed (lines) and as drawn (marks).

    Parameters
    ----------
    widths : sequence
        Channels of the layers.
    lines, dots : mappings
        Label to the probabilities of the layers, from the formula and from draws; the same labels.
    """
    marked = looks(lines)
    with drawing(3.4) as (figure, ax):
        for name, shares in lines.items():
            mark, colour = marked[name]
            ax.plot(widths, shares, "-", color=colour, label=name)
            ax.plot(widths, dots[name], mark, color=colour, ms=5)
        ax.set(xscale="log", xlabel="channels of the layer", ylabel="probability to lose the next")
        ax.set_xticks(list(widths), [str(n) for n in widths])
        ax.xaxis.set_minor_formatter(NullFormatter())
        legend(figure, ax, "outside right center")
    return figure


def plot_gains(gains: pd.DataFrame) -> Figure:
    """Draw what a threshold gains against the noise, for several models: means of CE(*) − CE(0) with intervals.

    Parameters
    ----------
    gains : DataFrame
        Columns ``organ, a, model, mean, lo, hi``.
    """
    organs = list(dict.fromkeys(gains["organ"]))
    with drawing(3.0, 1, len(organs), squeeze=False) as (figure, axes):
        for ax, organ in zip(axes.flat, organs, strict=True):
            rows: Any = gains[gains["organ"] == organ]
            ax.axhline(0, color=FAINT, lw=1)
            models = list(dict.fromkeys(rows["model"]))
            for k, model in enumerate(models):
                family = "lunet" if model.startswith("lunet") else "doubling"
                _, marker, colour = FAMILY_LOOKS[family]
                shift = (k - (len(models) - 1) / 2) * 0.08 * spacing(rows["a"])
                points(ax, rows[rows["model"] == model], shift, (marker, colour), model, line="-")
            ax.set(title=organ, xlabel="noise strength a", ylabel="CE(*) \N{MINUS SIGN} CE(0) in Dice")
            ax.set_xticks(np.unique(rows["a"]))
        legend(figure, axes, "outside right center")
    return figure
