"""Does recalibration close the gap to soft-Dice? Table, figure and sentences of the chapter on calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from noisyseg.calibration import KINDS
from reproduction.figures.drawing import BLUE, GREEN, GREY, ORANGE, PINK, drawing, legend_below
from reproduction.figures.panels import LOSSES
from reproduction.paths import project_root
from reproduction.runs.calibration import NONE, TEST, gap, over_folds, read_calibrations
from reproduction.scoring.inference import estimate
from reproduction.text import interval, percent, short

LOOKS = {NONE: (GREY, "o"), "temperature": (BLUE, "s"), "beta": (ORANGE, "^"), "isotonic": (GREEN, "D")}
HEADER = ["organ", "a", "CE(0) − SD(0)", "CE(*) − SD(0)", *(f"after {kind}" for kind in KINDS), "fitted on test cases"]
PROMISE_HEADER = ["organ", "a", "loss", "promised", "Dice at t", "bias of the volume", "error within"]
NOTHING = (
    "No preset has been scored with calibrated maps yet. `python -m reproduction calibration --preset NAME` makes the "
    "table of a preset whose runs are finished."
)


def stored_calibrations(root: Path | None = None) -> dict[str, pd.DataFrame]:
    """Read ``results/<preset>/calibration.csv`` of every preset that has one."""
    paths = sorted(((root or project_root()) / "results").glob("*/calibration.csv"))
    return {path.parent.name: read_calibrations(path.parent) for path in paths}


def stored_reliability(root: Path | None = None) -> dict[str, pd.DataFrame]:
    """Read ``results/<preset>/reliability.csv`` of every preset that has one."""
    paths = sorted(((root or project_root()) / "results").glob("*/reliability.csv"))
    return {path.parent.name: pd.read_csv(path) for path in paths}


def plot_reliability(table: pd.DataFrame, organ: str) -> Figure:
    """Draw the share of foreground over the mean value of the map, bin by bin: a panel a loss, a line a noise strength.

    All test cases of an organ count together. Bins without a voxel have no mark.
    """
    chosen: Any = table[(table["organ"] == organ) & (table["voxels"] > 0)]
    losses, strengths = list(chosen["loss"].unique()), sorted(chosen["a"].unique())
    with drawing(3.3 * len(losses) + 0.4, 3.6, 1, len(losses), squeeze=False, sharey=True) as (figure, axes):
        for ax, loss in zip(axes[0], losses, strict=True):
            ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="calibrated")
            for k, a in enumerate(strengths):
                rows = chosen[(chosen["loss"] == loss) & (chosen["a"] == a)]
                shade = colormaps["viridis"](0.85 * k / max(len(strengths) - 1, 1))
                x, y = (rows[name] / rows["voxels"] for name in ("soft_volume", "foreground"))
                ax.plot(x, y, color=shade, marker="osD^v"[k % 5], markersize=4, linewidth=1.2, label=f"a = {a:g}")
            ax.set(title=LOSSES[loss][0], xlabel="value of the map", aspect="equal", xlim=(0, 1), ylim=(0, 1))
        axes[0][0].set_ylabel("share of foreground")
        legend_below(figure, axes[0], 5)
    return figure


def _cell(values: object) -> str:
    found = estimate(values)  # type: ignore[arg-type]
    return interval(found.mean, *found.interval, sign="+")


def gap_rows(table: pd.DataFrame) -> list[list[str]]:
    """Lay out the differences from SD(0) with 95 % intervals over the folds, rows as ``HEADER``."""
    columns = [gap(table, NONE, score="dice_half"), gap(table, NONE), *(gap(table, kind) for kind in KINDS)]
    columns.append(gap(table, "beta", TEST))
    return [
        [organ, short(a, 2), *(_cell(column[organ, a]) if (organ, a) in column else "—" for column in columns)]
        for organ, a in columns[0]
    ]


def promise_rows(table: pd.DataFrame) -> list[list[str]]:
    """Lay out what the maps promise and what they keep, without a calibration, rows as ``PROMISE_HEADER``."""
    folds = over_folds(table)
    rows = []
    for key, group in folds[folds["calibration"] == NONE].groupby(["organ", "a", "loss"], sort=False):
        organ, a, loss = key if isinstance(key, tuple) else (key, 0.0, "")
        means = group[["promised", "dice_t", "bias", "error"]].mean()
        rows.append([str(organ), short(float(a), 2), str(loss), *(short(float(x)) for x in means)])
    return rows


def sentences(preset: str, table: pd.DataFrame) -> str:
    """Say for one preset whether the gap of CE(*) to SD(0) is closed by a calibration."""
    before = gap(table, NONE)
    if not before:
        return f"*{preset}*: without runs of both losses there is no gap to close."
    open_gaps = {key: x.mean() for key, x in before.items() if estimate(x).interval[1] < 0}
    if not open_gaps:
        return f"*{preset}*: CE(\\*) is behind SD(0) in none of {len(before)} settings, so there is no gap to close."
    said = [f"*{preset}*: CE(\\*) is behind SD(0) in {len(open_gaps)} of {len(before)} settings."]
    for kind in KINDS:
        after = gap(table, kind)
        closed = sum(1 - after[key].mean() / mean for key, mean in open_gaps.items()) / len(open_gaps)
        left = sum(estimate(after[key]).interval[1] < 0 for key in open_gaps)
        share = percent(closed, 0)
        said.append(f"After {kind} calibration {share} of the gap is closed on average, and {left} stay behind.")
    return " ".join(said)


def plot_gaps(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw CE(*) − SD(0) before and after each calibration over a: one panel an organ, bars are 95 % intervals."""
    panels = [(f"{organ} ({preset})", organ, t) for preset, t in tables.items() for organ in t["organ"].unique()]
    with drawing(3.2 * len(panels) + 1, 3.4, 1, len(panels), squeeze=False, sharey=True) as (figure, axes):
        for ax, (title, organ, table) in zip(axes[0], panels, strict=True):
            for k, (kind, (colour, marker)) in enumerate(LOOKS.items()):
                found = {a: estimate(x) for (name, a), x in gap(table, kind).items() if name == organ}
                x = [a + 0.0006 * (k - 1.5) for a in found]
                y = [e.mean for e in found.values()]
                half = [e.interval[1] - e.mean for e in found.values()]
                name = "CE(*)" if kind == NONE else f"after {kind}"
                ax.errorbar(x, y, half, color=colour, marker=marker, markersize=4, linestyle="none", label=name)
            ax.axhline(0, color=PINK, linewidth=1)
            ax.set(title=title, xlabel="noise strength $a$")
        axes[0][0].set_ylabel("difference from SD(0), Dice")
        legend_below(figure, axes[0], 4)
    return figure
