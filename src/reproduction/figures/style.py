"""What the figures of tables share: colours, parameters, panels with one legend, points, and the checks of tables.

Colours and markers are fixed for each method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

P = ParamSpec("P")
MINUS = "\N{MINUS SIGN}"
# The palette of Okabe and Ito, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
GREY = "#444444"
#: The methods themselves are defined in ``reproduction.scoring``, as are the pairs of the differences.
COLOURS = {"CE(0)": BLUE, "SD(0)": ORANGE, "CE(*)": GREEN, "ceiling": GREY}
MARKERS = {"CE(0)": "o", "SD(0)": "s", "CE(*)": "^"}
LOSSES = {"ce": ("cross-entropy", BLUE), "sd": ("soft-Dice", ORANGE)}
DIFFERENCE_LOOKS = {"CE(*)-CE(0)": ("^", GREEN), "SD(0)-CE(0)": ("s", ORANGE), "CE(*)-SD(0)": ("D", PINK)}
OTHER_LOOKS = {
    "CE(*)-CE(0)": ("^", GREEN),
    "CE(fold)-CE(0)": ("o", BLUE),
    "CE(*)-CE(fold)": ("D", PINK),
    "CE(rank)-CE(*)": ("X", YELLOW),
    "SD(fold)-SD(0)": ("s", ORANGE),
    "CE(oracle)-CE(*)": ("v", GREY),
}
_RC: Any = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "image.interpolation": "nearest",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Set the book's matplotlib parameters inside a ``with`` block and put the old ones back afterwards.

    Examples
    --------
    >>> import matplotlib as mpl
    >>> before = mpl.rcParams["font.size"]
    >>> with figure_style():
    ...     inside = mpl.rcParams["axes.spines.top"]
    >>> inside, mpl.rcParams["font.size"] == before
    (False, True)
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw in the book's style, down to what matplotlib otherwise leaves to the first rendering."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with figure_style():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # makes the ticks here, not in the style of whoever saves the figure
            return figure

    return wrapper


def new_figure(width: float, height: float, rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Return a figure that no global registry knows, and its axes as a rows x columns array."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.tick_params(labelsize=9)  # a size by name is looked up when drawing, in the parameters of that moment
    return figure, axes


def panels(table: Any, draw: Callable[[Axes, Any, str], None], ylabel: str, x: str = "a") -> Figure:
    """Draw one panel an organ, with one legend for the figure; `x` ("a" or "epoch") is on the horizontal axis."""
    organs = list(dict.fromkeys(table["organ"]))
    columns = 2 if len(organs) == 4 else min(len(organs), 3)
    rows = -(-len(organs) // columns)
    figure, axes = new_figure(max(2.9 * columns, 4.2) + 1.7, 2.9 * rows + 0.2, rows, columns)
    entries: dict[str, Any] = {}
    for k, ax in enumerate(axes.flat):
        if k >= len(organs):
            ax.remove()
            continue
        draw(ax, table[table["organ"] == organs[k]], organs[k])
        ax.set(title=organs[k])
        if x == "a":
            ax.set_xticks(np.unique(table["a"]))
        else:
            ax.xaxis.get_major_locator().set_params(integer=True)
        if k + columns >= len(organs):
            ax.set_xlabel("noise strength a" if x == "a" else x)
        if k % columns == 0:
            ax.set_ylabel(ylabel)
        entries.update(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside right center")
    return figure


def points(
    ax: Axes,
    rows: Any,
    shift: float,
    marker: str,
    colour: str,
    label: str,
    score: str | None = None,
    *,
    above: Any = 0.0,
    line: bool = False,
    hollow: bool = False,
) -> None:
    """Draw a mean with its interval at every a, moved aside by `shift`; nothing where there are no rows.

    The columns are ``mean, lo, hi`` or, for a score, ``<score>, <score>_lo, <score>_hi``. `above` is taken off the
    mean, as a number or one for each row in the order of the table.
    """
    mid, lo, hi = ("mean", "lo", "hi") if score is None else (score, f"{score}_lo", f"{score}_hi")
    if not len(rows):
        return
    rows = rows.assign(_y=rows[mid] - above).sort_values("a")
    # Rounding may not make the length of a bar negative.
    lengths = np.maximum([rows[mid] - rows[lo], rows[hi] - rows[mid]], 0.0)
    look: dict[str, Any] = {"marker": marker} if line else {"fmt": marker}
    face = "none" if hollow else colour
    x = np.asarray(rows["a"]) + shift
    ax.errorbar(x, rows["_y"], lengths, ms=5, mfc=face, color=colour, capsize=2, label=label, **look)


def hollow_points(ax: Axes, a: Any, values: Any, marker: str, colour: str, label: str, size: int) -> None:
    """Draw values without an interval as hollow marks; nothing where there are none."""
    if len(a):
        ax.plot(a, values, marker, mfc="none", ms=size, color=colour, label=label)


def spacing(a: Any) -> float:
    """Return the smallest distance between two noise strengths, or a small one where there is a single strength."""
    steps = np.diff(np.unique(a))
    return float(steps.min()) if len(steps) else 0.01


def difference_label(name: str) -> str:
    """Write the name of a difference, such as ``CE(*)-CE(0)``, with a minus sign."""
    return name.replace("-", f" {MINUS} ")


def need(name: str, table: pd.DataFrame, columns: Sequence[str]) -> Any:
    """Return the table, or refuse it where it is empty or lacks a column."""
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise ValueError(f"{name}: found columns {list(table.columns)}; expected also {missing}")
    if table.empty:
        raise ValueError(f"{name}: found an empty table; expected at least one row")
    return table
