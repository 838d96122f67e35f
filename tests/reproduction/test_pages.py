"""Tables and figures as the pages show them, and what they say without any."""

from __future__ import annotations

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from reproduction.report.pages import NO_FIGURE, NOT_RUN, figure_or, html_figure, html_table, markdown, table_or


def drawing(data: pd.DataFrame, title: str = "", scale: int = 1) -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.suptitle(f"{title}{scale * len(data)}")
    return figure


def test_the_star_is_a_star():
    assert markdown("CE(*) and *emphasis*").data == r"CE(\*) and *emphasis*"


def test_a_table_or_the_reason_why_there_is_none():
    assert table_or(NOT_RUN, ["a", "b"], iter([["x", "1"]])).data == "| a | b |\n| --- | ---: |\n| x | 1 |"
    assert table_or("CE(*) was not run.", ["a"], []).data == r"CE(\*) was not run."


def test_a_figure_or_the_reason_why_there_is_none():
    data = pd.DataFrame({"a": [1, 2]})
    drawn = figure_or(NO_FIGURE, drawing, data, "rows: ", scale=3)
    assert isinstance(drawn, Figure) and drawn.get_suptitle() == "rows: 6"
    none = figure_or(NO_FIGURE, drawing, data[:0], "rows: ")
    assert isinstance(none, Markdown) and none.data == NO_FIGURE


def test_html_for_other_pages():
    html = html_table(["a", "b"], [["x", "<b>1</b>"]], "Numbers").data
    assert html == (
        '<table class="results"><caption>Numbers</caption><thead><tr><th scope="col">a</th><th scope="col">b</th></tr>'
        "</thead><tbody><tr><td>x</td><td><b>1</b></td></tr></tbody></table>"
    )
    image = html_figure(drawing(pd.DataFrame()), "In words.").data
    assert image.startswith('<img alt="In words." width="96" src="data:image/svg+xml;base64,')
    assert html_figure(markdown("none"), "").data == f"<p>{NOT_RUN}</p>"
