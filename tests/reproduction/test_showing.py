"""Tests of reproduction.figures.showing: SVG or PNG, of one width, the same bytes each time, pixels as they are."""

from __future__ import annotations

import base64
import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from conftest import ROOT
from reproduction.figures.drawing import drawing, picture
from reproduction.figures.palette import GREY_VALUES
from reproduction.figures.showing import PNG, SVG, WIDTH, BookFigure, as_html, encoded

#: Chapters whose figures other programs draw.
ELSEWHERE = ("explore",)


def line_chart() -> BookFigure:
    with drawing(2.5) as (figure, ax):
        ax.plot(np.linspace(0, 1, 200) ** 2, label="square")
        ax.set(xlabel="voxels", ylabel="$D_m$")
        ax.legend()
    return figure


def grey_values(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size)) / 255


def image_chart(size: int) -> BookFigure:
    with drawing(3) as (figure, ax):
        picture(ax, grey_values(size), "an image", cmap=GREY_VALUES)
    return figure


def test_a_line_chart_is_small_and_sharp_and_needs_no_font():
    mime, content = encoded(line_chart())
    assert mime == SVG and len(content) < 40_000
    root = ElementTree.fromstring(content)
    assert root.get("width") == f"{72 * WIDTH:g}pt" and root.find(".//{*}text") is None
    assert b"<!--" not in content and not re.search(rb' d="[^"]*\.\d{3}', content)


def test_the_same_figure_gives_the_same_bytes_on_another_day():
    first, again = (encoded(line_chart())[1] for _ in range(2))
    assert first == again
    assert b"<dc:date>" not in first and b"<dc:title>" not in first


def test_an_image_keeps_its_own_pixels_and_grey_values():
    mime, content = encoded(image_chart(16))
    assert mime == SVG
    stored = [
        imread(io.BytesIO(base64.b64decode(found)))
        for found in re.findall(rb'data:image/png;base64,([^"]*)"', content.replace(b"\n", b""))
    ]
    (image,) = (x for x in stored if x.shape[:2] == (16, 16))
    assert np.abs(np.sort(image[..., 0], axis=None) - np.sort(grey_values(16), axis=None)).max() < 1 / 255
    assert b"image-rendering:" in content


def test_what_would_be_a_large_svg_is_a_picture_of_two_pixels_for_one():
    with drawing(3) as (figure, ax):
        ax.plot(*np.random.default_rng(0).normal(size=(2, 20_000)), ".")
    mime, content = encoded(figure)
    assert mime == PNG
    assert imread(io.BytesIO(content)).shape[1] == 2 * 96 * WIDTH


def test_a_figure_is_as_high_as_what_is_on_it_and_white_behind():
    with drawing(6) as (figure, ax):
        ax.set_position((0.1, 0.4, 0.8, 0.2))
    figure.set_layout_engine("none")
    _, content = encoded(figure)
    (height,) = re.findall(rb'<svg[^>]* height="([\d.]+)pt"', content)
    assert float(height) < 0.4 * 72 * 6
    assert b"fill: #ffffff" in content, "letters are read on it in the dark too"


def test_a_cell_shows_a_figure_once_in_its_stored_form(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append((data, how)))
    line_chart()._ipython_display_()
    with drawing(3) as (dots, ax):
        ax.plot(*np.random.default_rng(0).normal(size=(2, 20_000)), ".")
    dots._ipython_display_()
    (svg, _), (png, how) = shown
    assert svg[SVG].startswith("<?xml") and PNG not in svg and svg["text/plain"] == "Figure(768x240)"
    assert base64.b64decode(png[PNG]).startswith(b"\x89PNG") and how["metadata"] == {PNG: {"width": 768}}


def test_an_element_for_other_pages():
    element = as_html(line_chart(), "In words.")
    assert element.startswith('<img alt="In words." width="768" src="data:image/svg+xml;base64,')


@pytest.mark.parametrize(
    "chapter", [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.stem not in ELSEWHERE], ids=str
)
def test_all_figures_of_a_chapter_have_one_width(chapter):
    for cell in json.loads(chapter.read_text())["cells"]:
        assert "InlineBackend" not in "".join(cell["source"]), "a figure shows itself"
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            assert not {SVG, PNG} <= data.keys()
            if SVG in data:
                assert f'width="{72 * WIDTH:g}pt"' in "".join(data[SVG])[:600], cell["id"]
            if PNG in data:
                assert output["metadata"] == {PNG: {"width": 96 * WIDTH}}, cell["id"]
