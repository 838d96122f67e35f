"""The page that says where each item of the paper is: complete, and every label and function on it exists."""

from __future__ import annotations

import json
import pydoc
import re
from pathlib import Path

import numpy as np
import pytest

from noisyseg import soft_dice
from reproduction.paths import project_root
from reproduction.report.statements import FUNCTION, pages

VERDICTS = {"defined", "proved", "corrected", "misprint", "bounded", "repeated with deviations"}
EQUATIONS, SUPPLEMENT = 22, 31  # numbered equations of the paper and of its supplement
REFERENCE = re.compile(r"\{(?:prf:ref|ref|eq)\}`(?:[^`<]*<)?([\w-]+)>?`")


def rows(text: str) -> list[list[str]]:
    """Read the cells of all tables of the page, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| item")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def numbers(words: str) -> set[int]:
    """Expand "1, 2" and "1 to 10"."""
    found = {int(n) for n in re.findall(r"\d+", words)}
    return found | {n for low, high in re.findall(r"(\d+) to (\d+)", words) for n in range(int(low), int(high))}


def labels(root: Path) -> set[str]:
    """Find every label of the book: of statements, equations, sections and figures."""
    found: set[str] = set()
    for page in pages(root):
        notebook = root / f"{page}.ipynb"
        if notebook.is_file():
            cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
            captions = (cell["metadata"].get("mystnb", {}).get("figure", {}) for cell in cells)
            found |= {caption["name"] for caption in captions if "name" in caption}
        else:
            text = (root / f"{page}.md").read_text(encoding="utf-8")
        for pattern in (r"^:label: *(\S+)", r"^\$\$ \(([\w-]+)\)", r"^\(([\w-]+)\)=\s*$"):
            found |= set(re.findall(pattern, text, re.M))
    return found


@pytest.fixture(scope="module")
def table() -> list[list[str]]:
    return rows((project_root() / "book" / "concordance.md").read_text(encoding="utf-8"))


def test_every_numbered_item_of_the_paper_has_a_row(table):
    main = [row[0] for row in table if not row[0].startswith(("Supplement", "Listing"))]
    of_supplement = [row[0] for row in table if row[0].startswith("Supplement")]
    pattern = re.compile(r"[Ee]quations? ([\d, ]+(?:to \d+)?)")
    assert set().union(*(numbers(words) for item in main for words in pattern.findall(item))) == set(
        range(1, EQUATIONS + 1)
    )
    assert set().union(*(numbers(words) for item in of_supplement for words in pattern.findall(item))) == set(
        range(1, SUPPLEMENT + 1)
    )
    items = " ".join(row[0] for row in table)
    for kind, count in (("Definition", 4), ("Theorem", 3), ("Figure", 3), ("Table", 1), ("Listing", 3)):
        assert {int(n) for n in re.findall(rf"{kind} (\d+)", items)} == set(range(1, count + 1)), kind


def test_every_label_exists_and_every_function_is_one(table):
    known = labels(project_root())
    for item, _, place, code, verdict in table:
        assert set(REFERENCE.findall(place)) and set(REFERENCE.findall(place)) <= known, item
        assert place.count("{") == len(REFERENCE.findall(place)), item
        assert FUNCTION.findall(code), item
        for _, name in FUNCTION.findall(code):
            assert callable(pydoc.locate(name)), name
        assert verdict in VERDICTS, item


def test_misprints_and_corrections_are_on_the_page_of_errata(table):
    cells = json.loads((project_root() / "notebooks" / "errata.ipynb").read_text(encoding="utf-8"))["cells"]
    errata = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for item, _, place, _, verdict in table:
        if verdict in ("misprint", "corrected"):
            words = [item.split(",")[0], *REFERENCE.findall(place)]
            assert any(word in errata for word in words), item


@pytest.mark.parametrize(("words", "found"), [("6, 7", {6, 7}), ("3 to 5", {3, 4, 5}), ("22", {22})])
def test_ranges_of_numbers(words, found):
    assert numbers(words) == found


def test_soft_dice_is_not_quasi_convex_in_the_logits():
    ends = [np.array([12.0, -14.0]), np.array([-14.0, 12.0])]
    scores = [soft_dice(1 / (1 + np.exp(-f)), np.ones(2)) for f in (*ends, sum(ends) / 2)]
    q = 1 / (1 + np.e)
    assert scores[:2] == pytest.approx([1 / 3, 1 / 3], abs=1e-5)
    assert scores[2] == pytest.approx(1 - 2 * q / (1 + q)) and scores[2] > max(scores[:2])
