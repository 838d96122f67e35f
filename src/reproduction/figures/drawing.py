"""What figures share: the book's style, images, densities, one legend for several axes.

No figure trains or reads a file: a changed colour never repeats an experiment. None uses `matplotlib.pyplot`, so
drawing leaves no global state behind, and the same input gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from reproduction.figures.palette import COUNTS
from reproduction.figures.showing import LETTERS, WIDTH, BookFigure, book_style


@contextmanager
def drawing(height: float, rows: int = 1, columns: int = 1, **settings: Any) -> Iterator[tuple[Any, Any]]:
    """Open a figure so many inches high and its axes in the book's style; at the end of the block it is laid out.

    All figures have one width, and so letters of one size on a page. The settings are those of
    `matplotlib.figure.Figure.subplots`. No global registry knows the figure: a cell shows it by ending with its name.

    Examples
    --------
    >>> with drawing(2, 1, 2) as (figure, (left, right)):
    ...     lines = left.plot([0, 1], [1, 0])
    >>> len(figure.axes)
    2
    """
    with book_style():
        figure = BookFigure(figsize=(WIDTH, height))
        axes = figure.subplots(rows, columns, **settings)
        for ax in figure.axes:
            ax.tick_params(labelsize=LETTERS - 1)  # of ticks, too, that are made when the figure is drawn again
        yield figure, axes
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
    """Draw the number of points in every cell of a square grid over `extent`, on a logarithmic scale up to `most`.

    Empty cells stay white. A point on the edge between two cells counts in the lower of them; points outside are left
    out. What is returned is for a colour bar.
    """
    x, y = (np.asarray(values) * (1 - 1e-12) for values in (x, y))
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=(cells, cells), range=extent)
    shade = np.where(counts > 0, counts, np.nan).T
    return ax.pcolormesh(x_edges, y_edges, shade, norm=LogNorm(1, most), cmap=COUNTS, rasterized=True)


def legend(figure: Figure, axes: Axes | Iterable[Axes] | np.ndarray, loc: Any, columns: int = 1) -> None:
    """Put one legend at an outside `loc`, with every label of the given axes once."""
    entries: dict[str, Any] = {}
    chosen: list[Axes] = list(np.ravel(np.array(axes, dtype=object)))
    for ax in chosen:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    figure.legend(list(entries.values()), list(entries), loc=loc, ncols=columns)


def legend_below(figure: Figure, axes: Axes | Iterable[Axes] | np.ndarray, columns: int) -> None:
    """Put one legend below all axes."""
    legend(figure, axes, "outside lower center", columns)
