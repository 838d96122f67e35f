"""What chapters share that draw a figure in a cell: axes in the book's style, images, densities, one legend below.

The figures of tables are functions of their own, in :mod:`reproduction.figures.theory` and its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from reproduction.figures.style import BLUE, GREEN, GREY, ORANGE, PINK, SKY, YELLOW, figure_style

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PINK", "SKY", "YELLOW", "density", "drawing", "legend_below", "picture"]


@contextmanager
def drawing(width: float, height: float, rows: int = 1, columns: int = 1, **settings: Any) -> Iterator[tuple[Any, Any]]:
    """Open a figure and its axes in the book's style; at the end of the block it is laid out.

    Parameters
    ----------
    width, height : float
        Of the figure, in inches.
    rows, columns : int
        Of the axes.
    **settings
        As for `matplotlib.figure.Figure.subplots`: ``sharex``, ``width_ratios`` and others.

    Yields
    ------
    Figure, and Axes or array of Axes
        No global registry knows the figure: a cell shows it by ending with its name.

    Examples
    --------
    >>> with drawing(4, 2, 1, 2) as (figure, (left, right)):
    ...     lines = left.plot([0, 1], [1, 0])
    >>> len(figure.axes)
    2
    """
    with figure_style():
        figure = Figure(figsize=(width, height))
        yield figure, figure.subplots(rows, columns, **settings)
        figure.draw_without_rendering()  # ticks are made here, not in the style of whoever shows the figure


def picture(ax: Axes, image: Any, title: str = "", vmin: float = 0, vmax: float = 1, **settings: Any) -> AxesImage:
    """Draw an image without ticks and grid; the settings are those of `matplotlib.axes.Axes.imshow`."""
    drawn = ax.imshow(image, vmin=vmin, vmax=vmax, **settings)
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(False)
    return drawn


def density(
    ax: Axes, x: Any, y: Any, cells: int, extent: tuple[tuple[float, float], tuple[float, float]], most: float
) -> QuadMesh:
    """Draw the number of points in every cell of a square grid, on a logarithmic scale; empty cells stay white.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    x, y : array_like
        The points. One on the edge between two cells counts in the lower of them.
    cells : int
        Cells along each axis.
    extent : pair of pairs
        The ranges of x and of y; points outside are left out.
    most : float
        The number at the dark end of the scale.

    Returns
    -------
    QuadMesh
        For a colour bar.
    """
    x, y = (np.asarray(values) * (1 - 1e-12) for values in (x, y))
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=(cells, cells), range=extent)
    shade = np.where(counts > 0, counts, np.nan).T
    return ax.pcolormesh(x_edges, y_edges, shade, norm=LogNorm(1, most), cmap="viridis_r", rasterized=True)


def legend_below(figure: Figure, axes: Axes | Iterable[Axes] | np.ndarray, columns: int) -> None:
    """Put one legend below all axes, with every label of the given ones once."""
    entries: dict[str, Any] = {}
    chosen: Sequence[Axes] = list(np.ravel(np.array(axes, dtype=object)))
    for ax in chosen:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)
