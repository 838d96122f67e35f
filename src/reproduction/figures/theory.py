"""Figures of the chapters on theory, from arrays to a `matplotlib.figure.Figure`.

No figure of the book trains or reads a file: a changed colour never repeats an experiment. All are built without
`matplotlib.pyplot`, so drawing leaves no global state behind, and the same input gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from noisyseg.optimal import dice_threshold
from reproduction.figures import style
from reproduction.figures.style import COLOURS, MARKERS


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
