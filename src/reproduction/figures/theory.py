"""The figures of the book, each a function from arrays or result tables to a `matplotlib.figure.Figure`.

Nothing here computes a result, trains or reads a file: a changed colour never repeats an experiment. The figures are
built without `matplotlib.pyplot`, so drawing leaves no global state behind, and the same input gives the same pixels.

Tables are those of `tables` (``summary``, ``differences``, ``history``). Colours are fixed for each method and
taken from the palette of Okabe and Ito, which colour-blind readers can tell apart; markers differ as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisyseg.optimal import dice_threshold
from reproduction.figures import style
from reproduction.figures.style import COLOURS, MARKERS, METHODS
from reproduction.figures.style import figure_style as figure_style


@style.styled
def plot_noise_rows(
    means: np.ndarray, marginals: np.ndarray, accuracy: np.ndarray, dice: np.ndarray, a_values: Sequence[float]
) -> Figure:
    """Draw the grid of Figure 1 of the paper: noise strengths from left to right, four rows of images.

    Parameters
    ----------
    means, marginals, accuracy, dice : array_like, shape (K, H, W)
        The mean of a few samples, the exact marginal m, and the masks that are optimal for Accuracy and for Dice, one
        image for each of the K noise strengths; values in [0, 1].
    a_values : sequence of K floats
        The noise strengths a, as fractions of the image side.

    Returns
    -------
    Figure
        With 4 x K axes.

    Raises
    ------
    ValueError
        If an array is not three-dimensional, or its shape or the number of strengths does not match.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.eye(4)[None]
    >>> len(plot_noise_rows(image, image, image, image, [0.0]).axes)
    4
    """
    rows = {"mean of samples": means, "marginal $m$": marginals, "Accuracy-optimal": accuracy, "Dice-optimal": dice}
    arrays = [np.asarray(r, dtype=float) for r in rows.values()]
    for name, array in zip(("means", "marginals", "accuracy", "dice"), arrays, strict=True):
        if array.ndim != 3 or array.shape != arrays[0].shape or len(array) != len(a_values):
            raise ValueError(
                f"{name}: found shape {array.shape}; expected ({len(a_values)}, H, W), one image for each of the "
                f"{len(a_values)} a_values and the same shape as means, which is {arrays[0].shape}"
            )
    figure, axes = style.new_figure(1.35 * len(a_values) + 0.4, 5.7, 4, len(a_values))
    for k, a in enumerate(a_values):
        axes[0, k].set_title(f"$a = {a:.2f}$")
        for row, (name, array) in enumerate(zip(rows, arrays, strict=True)):
            ax = axes[row, k]
            ax.imshow(array[k], cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            if k == 0:
                ax.set_ylabel(name)
    return figure


@style.styled
def plot_dice_over_noise(
    summary: pd.DataFrame,
    score: str = "dice_noisy",
    ceiling: str | None = "ceiling",
    paper: pd.DataFrame | None = None,
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
    paper : DataFrame, optional
        Columns ``organ, a, method, dice``; the paper's values, drawn hollow in the panels of the same organ.
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
    >>> import pandas as pd
    >>> table = pd.DataFrame({"organ": "kidney", "a": [0.0, 0.01], "method": "CE(0)", "dice_noisy": [0.9, 0.8]})
    >>> table = table.assign(dice_noisy_lo=[0.85, 0.7], dice_noisy_hi=[0.95, 0.9])
    >>> plot_dice_over_noise(table, ceiling=None).axes[0].get_title()
    'kidney'
    """
    extra = [] if ceiling is None else [ceiling]
    table = style.need("summary", summary, ["organ", "a", "method", score, f"{score}_lo", f"{score}_hi", *extra])
    published = None if paper is None else style.need("paper", paper, ["organ", "a", "method", "dice"])

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
            if published is not None:
                p = published[(published["organ"] == organ) & (published["method"] == method)]
                style.hollow_points(ax, p["a"], p["dice"], *look, f"{method}, paper", size=7)

    return style.panels(table, draw, ylabel)


@style.styled
def plot_differences(differences: pd.DataFrame, score: str = "dice_noisy") -> Figure:
    """Draw the paired differences between methods with their 95 % intervals against a, one panel an organ.

    An interval that does not meet the line at zero is a difference that the cases support.

    Parameters
    ----------
    differences : DataFrame
        Columns ``organ, a, difference, score, mean, lo, hi``.
    score : str
        The score whose rows are drawn.

    Returns
    -------
    Figure
        With one axes an organ.

    Raises
    ------
    ValueError
        If a column is missing or no row has that score.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"organ": "aorta", "a": [0.01], "difference": "CE(*)-CE(0)", "score": "dice_noisy"})
    >>> table = table.assign(mean=0.02, lo=0.01, hi=0.03)
    >>> len(plot_differences(table).axes)
    1
    """
    table = style.need("differences", differences, ["organ", "a", "difference", "score", "mean", "lo", "hi"])
    scores = sorted(table["score"].unique())
    table = table[table["score"] == score]
    if table.empty:
        raise ValueError(f"score: found {score!r}; expected one of {scores}")

    def draw(ax: Axes, rows: Any, organ: str) -> None:
        ax.axhline(0, color="0.6", lw=1)
        spread = style.spacing(rows["a"]) * 0.12
        for k, (name, (marker, colour)) in enumerate(style.DIFFERENCES.items()):
            label = name.replace("-", f" {style.MINUS} ")
            style.points(ax, rows[rows["difference"] == name], (k - 1) * spread, marker, colour, label)

    return style.panels(table, draw, "difference in Dice")


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
    >>> import pandas as pd
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


@style.styled
def plot_patch_views(
    image: np.ndarray, label: np.ndarray, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0), title: str = ""
) -> Figure:
    """Draw the three orthogonal views of a volume through the centre of mass of its label, the label as an outline.

    Parameters
    ----------
    image : array_like, shape (x, y, z)
        Grey values; the window is the 1st to the 99th percentile.
    label : array_like, shape (x, y, z)
        Binary; an empty label is drawn through the middle of the volume, without an outline.
    spacing_mm : sequence of 3 floats
        Voxel size along the three axes, in mm; it sets the aspect.
    title : str
        Written above the views.

    Returns
    -------
    Figure
        With three axes: slices across z, y and x, the lower of the two remaining axes horizontal.

    Raises
    ------
    ValueError
        If the arrays are not volumes of the same shape, or spacing_mm is not three positive numbers.

    Examples
    --------
    >>> import numpy as np
    >>> label = np.pad(np.ones((2, 2, 2)), 1)
    >>> len(plot_patch_views(label, label).axes)
    3
    """
    image, label = np.asarray(image, dtype=float), np.asarray(label)
    if image.ndim != 3 or image.shape != label.shape:
        raise ValueError(f"image and label: found shapes {image.shape} and {label.shape}; expected two equal (x, y, z)")
    sizes = np.asarray(spacing_mm, dtype=float)
    if sizes.shape != (3,) or not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise ValueError(f"spacing_mm: found {spacing_mm!r}; expected three positive numbers, in mm")
    inside = np.argwhere(label > 0)
    centre = np.rint(inside.mean(axis=0)).astype(int) if len(inside) else np.array(image.shape) // 2
    low, high = np.percentile(image, [1, 99])
    figure, axes = style.new_figure(8.4, 3.0, 1, 3)
    for ax, axis in zip(axes[0], (2, 1, 0), strict=True):
        columns, rows = (k for k in range(3) if k != axis)
        plane = np.moveaxis(image, axis, 0)[centre[axis]].T
        mask = np.moveaxis(label, axis, 0)[centre[axis]].T > 0
        aspect = float(sizes[rows] / sizes[columns])
        ax.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), origin="lower", aspect=aspect)
        if mask.any() and not mask.all():
            ax.contour(mask, [0.5], colors="#E69F00", linewidths=1.2)
        ax.set(xticks=[], yticks=[], xlabel="xyz"[columns], ylabel="xyz"[rows])
        ax.grid(False)
    if title:
        figure.suptitle(title)
    return figure


@style.styled
def plot_threshold_curve(marginals: Mapping[str, np.ndarray]) -> Figure:
    """Draw u -> D_m({m >= u}) for one or more marginals, with the Dice threshold t and the threshold 1/2 marked.

    The maximum of the curve is D*, reached at u = t = D*/2: t is where the curve meets the line u -> 2u.

    Parameters
    ----------
    marginals : mapping of str to array_like
        A marginal m with values in [0, 1] and a positive sum for each name of the legend.

    Returns
    -------
    Figure
        With one axes.

    Raises
    ------
    ValueError
        If there is no marginal, or one has no positive value.

    Examples
    --------
    >>> plot_threshold_curve({"m": [0.2, 0.9]}).axes[0].get_xlabel()
    'threshold u'
    """
    if not marginals:
        raise ValueError("marginals: found none; expected at least one named marginal")
    grid = np.linspace(0.0, 1.0, 1001)
    figure, axes = style.new_figure(6.4, 3.6, 1, 1)
    ax = axes[0, 0]
    ax.plot(grid[:501], 2 * grid[:501], ":", color="0.5", lw=1, label="$2u$")
    ax.axvline(0.5, color=COLOURS["CE(0)"], lw=1, label="threshold 1/2")
    shades = mpl.colormaps["viridis"](np.linspace(0.1, 0.85, len(marginals)))
    for (name, m), colour in zip(marginals.items(), shades, strict=True):
        values = np.sort(np.asarray(m, dtype=float).ravel())
        if not values.size or values[-1] <= 0:
            raise ValueError(f"marginals[{name!r}]: found no positive value; expected a positive sum")
        first = np.searchsorted(values, grid)  # the voxels from here on have m >= u
        mass = np.append(values[::-1].cumsum()[::-1], 0.0)[first]
        ax.plot(grid, 2 * mass / (values.size - first + values.sum()), color=colour, label=name)
        t = dice_threshold(np.asarray(m, dtype=float))
        ax.plot(t, 2 * t, MARKERS["CE(*)"], color=COLOURS["CE(*)"], ms=8, zorder=3)
    ax.plot([], [], MARKERS["CE(*)"], color=COLOURS["CE(*)"], ms=8, ls="", label="$t = D^*/2$")
    ax.set(xlabel="threshold u", ylabel=r"$D_m(\{m \geq u\})$", ylim=(0, 1.03), xlim=(0, 1))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
