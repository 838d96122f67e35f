"""Tests of reproduction.figures.palette: colours that all readers can tell apart, and no others anywhere."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import CSS4_COLORS, to_rgb

from conftest import ROOT
from noisyseg.maps.figure import STYLES
from reproduction.figures import palette
from reproduction.figures.networks import CRITERION_LOOKS, FAMILY_LOOKS
from reproduction.figures.panels import CONSTANT_LOOKS, DIFFERENCE_LOOKS, METHOD_LOOKS, OTHER_LOOKS
from reproduction.figures.volumes import VOLUME_LOOKS

MEANINGS = {name: value for name, value in vars(palette).items() if name.isupper() and str(value).startswith("#")}
INKS = {name: value for name, value in MEANINGS.items() if name != "PAPER"}
ARGUMENTS = {"c", "color", "colors", "cmap", "mfc", "mec", "fc", "ec", "ecolor", "edgecolor", "facecolor", "edgecolors"}
PLOTS = {"plot", "semilogx", "semilogy", "loglog", "errorbar"}
MARKS_AND_LINES = r"[-.:,ov^<>1-4sp*hH+xXDdP8|_]*"
# Machado, Oliveira and Fernandes (2009): what dichromats see, in linear RGB.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour: str) -> np.ndarray:
    value = np.array(to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast_with_white(colour: str) -> float:
    return 1.05 / (float(linear(colour) @ np.array([0.2126, 0.7152, 0.0722])) + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* of linear RGB: a distance of 2 is just seen."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    x, y, z = np.cbrt(xyz / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def raw_colours(code: str) -> Iterator[str]:
    """Every colour and colour map that code names by itself."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch("#([0-9a-fA-F]{3}){1,2}|tab:.*", node.value) or node.value in CSS4_COLORS:
                yield node.value
        if isinstance(node, ast.Call):
            named = [(word.arg, word.value) for word in node.keywords]
            formats = [word.value for word in node.keywords if word.arg == "fmt"]
            if isinstance(node.func, ast.Attribute) and node.func.attr in PLOTS:
                formats += node.args
        elif isinstance(node, ast.Dict):
            named, formats = (
                [(getattr(key, "value", None), value) for key, value in zip(node.keys, node.values, strict=True)],
                [],
            )
        else:
            continue
        for name, value in named:
            if name in ARGUMENTS:
                found = [part.value for part in ast.walk(value) if isinstance(part, ast.Constant)]
                yield from (str(text) for text in found if isinstance(text, str) and text not in {"none", *ARGUMENTS})
        for value in formats:
            text = value.value if isinstance(value, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(f"{MARKS_AND_LINES}[bgrcmykw]{MARKS_AND_LINES}", text):
                yield text


def test_the_search_finds_raw_colours():
    code = """
ax.plot(x, y, "k--")
ax.plot(x, y, "o--", color="0.6", label="black sheep")
draw(style={"mec": "red" if x else "none"}, cmap="jet")
look = ("^", "#0072B2", "tab:blue")
"""
    assert sorted(raw_colours(code)) == ["#0072B2", "0.6", "jet", "k--", "red", "red", "tab:blue"]
    assert not list(raw_colours('ax.plot(x, y, "s-.", color=DICE, mfc="none"); print("0.6")'))


def test_no_figure_names_a_colour_of_its_own():
    sources = {str(path): path.read_text() for path in (ROOT / "src" / "reproduction").rglob("*.py")}
    del sources[str(ROOT / "src/reproduction/figures/palette.py")]
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        for cell in cells:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                sources[f"{path}: {cell['id']}"] = "\n".join(line for line in lines if not line.startswith(("%", "!")))
    assert not {name: found for name, code in sources.items() if (found := list(raw_colours(code)))}


def test_the_library_and_the_page_to_try_have_the_colours_of_the_book():
    assert [colour for colour, _ in STYLES] == [palette.HALF, palette.DICE, palette.YOURS]
    css = (ROOT / "book/_static/explorer.css").read_text()
    light = dict(re.findall(r"--ex-(\w+): (#\w+);", css.split("}")[0]))
    of_page = {"half": palette.HALF, "dice": palette.DICE, "yours": palette.YOURS, "best": palette.NOISY}
    of_page |= {"first": palette.SERIES[1], "second": palette.SERIES[3]}
    assert {name: light[name].upper() for name in of_page} == of_page


@pytest.mark.parametrize("colour", [*INKS.values(), *palette.SERIES])
def test_every_colour_can_be_seen_on_paper(colour):
    assert contrast_with_white(colour) >= 3


@pytest.mark.parametrize("sight", SIGHT)
def test_everybody_can_tell_the_meanings_apart(sight):
    """Colours that differ less than this in somebody's sight have lines or marks of their own."""
    chosen = [palette.HALF, palette.DICE, palette.SOFT_DICE, palette.NOISY, palette.YOURS, palette.MARGINAL]
    seen = [lab(np.array(SIGHT[sight]) @ linear(colour)) for colour in chosen]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 10


def test_one_colour_has_one_meaning():
    assert len(set(MEANINGS.values()) | set(palette.SERIES)) == len(MEANINGS) + len(palette.SERIES)
    assert len(palette.SERIES) == len(palette.MARKS) == len(palette.LINES)
    assert METHOD_LOOKS["CE(0)"][1] == palette.HALF and METHOD_LOOKS["CE(*)"][1] == palette.DICE
    assert METHOD_LOOKS["SD(0)"][1] == palette.SOFT_DICE


@pytest.mark.parametrize(
    "together",
    [METHOD_LOOKS | CONSTANT_LOOKS, DIFFERENCE_LOOKS, OTHER_LOOKS, VOLUME_LOOKS, CRITERION_LOOKS],
)
def test_what_is_drawn_together_has_marks_that_differ_in_grey_print(together):
    marks = [mark for mark, _ in together.values()]
    assert len(set(marks)) == len(marks)


def test_families_of_networks_have_marks_and_colours_that_differ():
    (_, first, one), (_, second, other) = FAMILY_LOOKS.values()
    assert first != second and one != other


def test_label_maps_are_painted():
    paints = palette.rgb(palette.PAPER, palette.HALF, palette.DICE)
    assert paints[np.array([[0, 2]])].tolist() == [[[255, 255, 255], [0, 158, 115]]]
