"""What every page needs: text and tables as Markdown or HTML, a figure or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from reproduction.figures.showing import as_html
from reproduction.text import table

NOT_RUN = "No preset has been run yet."
NO_FIGURE = "No figure: no preset has been run yet."


def markdown(text: str) -> Markdown:
    """Show text as Markdown; the star of CE(*) is a star, and no emphasis."""
    return Markdown(text.replace("(*)", r"(\*)"))


def table_or(nothing: str, header: Sequence[object], rows: Iterable[Sequence[object]], left: int = 1) -> Markdown:
    """Show rows of ready-made text as a table whose first ``left`` columns are names, or ``nothing`` without rows."""
    rows = list(rows)
    return table(header, rows, left) if rows else markdown(nothing)


def html_table(header: Sequence[object], rows: Iterable[Sequence[object]], caption: str) -> HTML:
    """Lay out the same as HTML, which other pages of the book can show."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    head = f"<caption>{caption}</caption><thead><tr>{head}</tr></thead>"
    return HTML(f'<table class="results">{head}<tbody>{body}</tbody></table>')


def figure_or(
    nothing: str, plot: Callable[..., Figure], data: pd.DataFrame, *more: Any, **options: Any
) -> Figure | Markdown:
    """Draw ``plot(data, *more, **options)``, or say ``nothing`` if ``data`` has no row."""
    return plot(data, *more, **options) if len(data) else markdown(nothing)


def html_figure(drawn: Figure | Markdown, alt: str) -> HTML:
    """Embed a figure, with its description in words, so that other pages of the book can show it."""
    if not isinstance(drawn, Figure):
        return HTML(f"<p>{NOT_RUN}</p>")
    return HTML(as_html(drawn, alt))
