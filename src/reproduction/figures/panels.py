"""What the figures of result tables share: the looks of methods and differences, a panel an organ, points with bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.figures.drawing import drawing, legend
from reproduction.figures.palette import CEILING, CONSTANT, DICE, HALF, NOISY, SOFT_DICE, YOURS

MINUS = "\N{MINUS SIGN}"
#: Marker and colour. The methods themselves are defined in ``reproduction.scoring``, as are the pairs of differences.
METHOD_LOOKS = {"CE(0)": ("o", HALF), "SD(0)": ("s", SOFT_DICE), "CE(*)": ("^", DICE)}
CONSTANT_LOOKS = {"CONST(0)": ("v", CONSTANT), "CONST(*)": ("x", CONSTANT)}
LOSSES = {"ce": ("cross-entropy", HALF), "sd": ("soft-Dice", SOFT_DICE)}
DIFFERENCE_LOOKS = {"CE(*)-CE(0)": ("^", DICE), "SD(0)-CE(0)": ("s", SOFT_DICE), "CE(*)-SD(0)": ("D", YOURS)}
OTHER_LOOKS = {
    "CE(*)-CE(0)": ("^", DICE),
    "CE(fold)-CE(0)": ("o", HALF),
    "CE(*)-CE(fold)": ("D", YOURS),
    "CE(rank)-CE(*)": ("X", NOISY),
    "SD(fold)-SD(0)": ("s", SOFT_DICE),
    "CE(oracle)-CE(*)": ("v", CEILING),
}


def panels(table: Any, draw: Callable[[Axes, Any], None], ylabel: str, x: str = "a") -> Figure:
    """Draw the rows of every organ into a panel of their own, with one legend; `x` is the column along the abscissa.

    Raises
    ------
    ValueError
        If there is no row.
    """
    if table.empty:
        raise ValueError("table: found no row to draw; expected at least one")
    organs = list(dict.fromkeys(table["organ"]))
    columns = 2 if len(organs) == 4 else min(len(organs), 3)
    rows = -(-len(organs) // columns)
    with drawing(2.7 * rows + 0.3, rows, columns, squeeze=False) as (figure, axes):
        for ax in axes.flat[len(organs) :]:
            ax.remove()
        for k, (organ, ax) in enumerate(zip(organs, axes.flat, strict=False)):
            draw(ax, table[table["organ"] == organ])
            ax.set(title=organ)
            if x == "a":
                ax.set_xticks(np.unique(table["a"]))
            elif x == "epoch":
                ax.xaxis.get_major_locator().set_params(integer=True)
            if k + columns >= len(organs):
                ax.set_xlabel("noise strength a" if x == "a" else x)
            if k % columns == 0:
                ax.set_ylabel(ylabel)
        legend(figure, figure.axes, "outside right center")
    return figure


def points(
    ax: Axes,
    rows: Any,
    shift: float,
    look: tuple[str, str],
    label: str,
    score: str | None = None,
    *,
    above: Any = 0.0,
    line: str = "",
    hollow: bool = False,
) -> None:
    """Draw a mean with its interval at every a, moved aside by `shift`; nothing where there are no rows.

    The columns are ``mean, lo, hi`` or, for a score, ``<score>, <score>_lo, <score>_hi``. `above` is taken off the
    mean, as a number or one for each row in the order of the table; `line` is the style of the line between them.
    """
    mid, lo, hi = ("mean", "lo", "hi") if score is None else (score, f"{score}_lo", f"{score}_hi")
    if not len(rows):
        return
    rows = rows.assign(_y=rows[mid] - above).sort_values("a")
    # Rounding may not make the length of a bar negative.
    lengths = np.maximum([rows[mid] - rows[lo], rows[hi] - rows[mid]], 0.0)
    marker, colour = look
    how: dict[str, Any] = {"marker": marker, "ls": line} if line else {"fmt": marker}
    face = "none" if hollow else colour
    x = np.asarray(rows["a"]) + shift
    ax.errorbar(x, rows["_y"], lengths, ms=5, mfc=face, color=colour, capsize=2, label=label, **how)


def hollow_points(ax: Axes, a: Any, values: Any, look: tuple[str, str], label: str, size: int) -> None:
    """Draw values without an interval as hollow marks; nothing where there are none."""
    marker, colour = look
    if len(a):
        ax.plot(a, values, marker, mfc="none", ms=size, color=colour, label=label)


def spacing(a: Any) -> float:
    """Return the smallest distance between two noise strengths, or a small one where there is a single strength."""
    steps = np.diff(np.unique(a))
    return float(steps.min()) if len(steps) else 0.01


def difference_label(name: str) -> str:
    """Write the name of a difference, such as ``CE(*)-CE(0)``, with a minus sign."""
    return name.replace("-", f" {MINUS} ")
