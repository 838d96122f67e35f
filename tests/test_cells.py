"""What the book's build makes of notebooks: folded proofs, captions of tables, code out of the way, numbers traced."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from conftest import ROOT
from reproduction.report.chapter_times import chapters
from reproduction.report.trust import SHOWN, shown_tables

CHAPTERS = chapters()
OWN = "your_run"  # shows what its reader has just run
#: Functions that read what is stored in ``results``.
READERS = set(
    "book_results load load_annotators load_lidc load_shapes masks read_benchmark read_csv read_json read_levels "
    "read_bytes read_twins stored stored_calibrations stored_reliability stored_results".split()
)
TABLE = re.compile(r"^\| -{3}", re.MULTILINE)
CAPTION = re.compile(
    r'<caption><div><span class="caption-number">Table (\d+) </span><span class="caption-text">(.*?)</span><a'
)


def cells(chapter: str) -> list[dict]:
    return json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text())["cells"]


def code_cells(chapter: str) -> list[dict]:
    return [cell for cell in cells(chapter) if cell["cell_type"] == "code"]


def tables_of(cell: dict) -> int:
    return sum(
        len(TABLE.findall("".join(output.get("data", {}).get("text/markdown", "")))) for output in cell["outputs"]
    )


def page(html: Path, chapter: str) -> str:
    return (html / "notebooks" / f"{chapter}.html").read_text()


# ---- proofs ---------------------------------------------------------------------------------------------------------


def test_every_proof_is_folded_and_nothing_else_but_the_code(html):
    total = 0
    for chapter in CHAPTERS:
        text = page(html, chapter)
        written = sum("".join(cell["source"]).count("{prf:proof}") for cell in cells(chapter))
        boxes = re.findall(r'<details class="([^"]*)" id="([^"]*)">\s*<summary>(.*?)</summary>', text)
        proofs = [(name, words) for classes, name, words in boxes if "of-a-statement" in classes]
        assert proofs == [(f"proof-{k + 1}", "Proof") for k in range(written)], chapter
        assert text.count("<details") == written + ('id="page-code"' in text), chapter
        assert not re.search(r"<p>Proof\b", text), "the summary says it"
        total += written
    assert total > 80


# ---- captions of tables ---------------------------------------------------------------------------------------------


def test_every_table_of_a_cell_has_a_caption_and_a_number_in_the_order_of_the_book(html):
    numbers = []
    for chapter in CHAPTERS:
        found = CAPTION.findall(page(html, chapter))
        numbers += [int(number) for number, _ in found]
        assert len(found) == sum(map(tables_of, code_cells(chapter))), chapter
        assert all(len(re.sub(r"<.*?>", "", text)) > 40 for _, text in found), chapter
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 80


def test_a_caption_stands_where_a_table_can_be():
    """A cell may have nothing to show yet, but one with a caption is a cell that makes a table."""
    for chapter in CHAPTERS:
        for cell in code_cells(chapter):
            if "table" in cell["metadata"].get("mystnb", {}):
                assert re.search(r"table", "".join(cell["source"])), (chapter, cell["id"])


# ---- plumbing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_chapter_begins_with_its_imports(chapter):
    first = code_cells(chapter)[0]
    assert {"hide-input", "remove-input"} & set(first["metadata"].get("tags", [])), "imports fill the first screen"


def test_hidden_code_is_in_one_box_and_linked_to_what_it_makes(html):
    for chapter in CHAPTERS:
        text = page(html, chapter)
        assert "Show code cell source" not in text, chapter
        hidden = [cell for cell in code_cells(chapter) if "hide-input" in cell["metadata"].get("tags", [])]
        names = [f"code-{cell['execution_count']}" for cell in hidden]
        assert re.findall(r'<p class="cell-source" id="(code-\d+)">', text) == names, chapter
        there, back = re.findall(r'href="#code-(\d+)"', text), re.findall(r'href="#cell-(\d+)"', text)
        assert there == back, chapter
        assert set(back) == set(re.findall(r'id="cell-(\d+)"', text)), chapter


# ---- sources of numbers ---------------------------------------------------------------------------------------------


def target_names(statement: ast.stmt) -> set[str]:
    """The names that an assignment gives a value to."""
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    return {n.id for target in targets if target for n in ast.walk(target) if isinstance(n, ast.Name)}


def filled_names(nodes: list[ast.AST]) -> set[str]:
    """The names of lists and dictionaries that a statement puts something into."""
    holders = [n.value for n in nodes if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)]
    holders += [n.value for n in nodes if isinstance(n, ast.Attribute) and n.attr == "append"]
    return {holder.id for holder in holders if isinstance(holder, ast.Name)}


def made_from_results(chapter: str) -> set[str]:
    """The cells whose last line uses what a reader of results has read: names are followed from cell to cell."""
    known: set[str] = set()
    found = set()
    for cell in code_cells(chapter):
        reads = False
        code = "".join("\n" if line.startswith("%") else line for line in cell["source"])
        for statement in ast.parse(code).body:
            nodes = list(ast.walk(statement))
            called = {getattr(n.func, "id", getattr(n.func, "attr", "")) for n in nodes if isinstance(n, ast.Call)}
            loaded = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            assigned = target_names(statement) if isinstance(statement, ast.Assign | ast.AugAssign) else set()
            within = bound - assigned  # of loops in the statement: they have there what they are given there
            reads = bool(called & READERS or (loaded - within) & known)
            bound = {statement.name} if isinstance(statement, ast.FunctionDef) else bound
            known = known | bound | filled_names(nodes) if reads else known - bound
        if reads:
            found.add(cell["id"])
    return found


def shows(cell: dict) -> bool:
    """Whether a cell has a table, or a figure with a caption; it may have nothing to show yet."""
    drawn = any(kind.startswith("image/") for output in cell["outputs"] for kind in output.get("data", {}))
    return bool(tables_of(cell) or (drawn and "figure" in cell["metadata"].get("mystnb", {})))


def with_sources(chapter: str) -> set[str]:
    """The cells with a figure or a table that names stored files."""
    return {
        cell["id"]
        for cell in code_cells(chapter)
        if shows(cell) and shown_tables(chapter, cell["metadata"].get("mystnb", {}).get("sources"))
    }


@pytest.mark.parametrize("chapter", [name for name in CHAPTERS if name != OWN])
def test_figures_and_tables_name_the_stored_files_that_they_are_made_from(chapter):
    shown = {cell["id"] for cell in code_cells(chapter) if shows(cell)}
    assert with_sources(chapter) == made_from_results(chapter) & shown


def test_most_of_the_experiment_names_its_files():
    shown = {c["id"] for c in code_cells("experiment") if tables_of(c)}
    assert shown & made_from_results("experiment") <= with_sources("experiment")


def test_following_names_finds_and_forgets(monkeypatch):
    """A name that gets another value is forgotten; a list that is filled from results is not."""
    lines = ["x = load()", "rows = []\nfor y in x:\n    rows.append(y)\nrows", "x = 1\nx", "rows = [0]\nrows"]
    made = [{"cell_type": "code", "id": str(k), "source": line.splitlines(True)} for k, line in enumerate(lines)]
    monkeypatch.setitem(globals(), "code_cells", lambda chapter: made)
    assert made_from_results("") == {"0", "1"}


def test_pages_link_their_files_which_are_in_the_book(html):
    for chapter in CHAPTERS:
        text = page(html, chapter)
        assert text.count(">Data: <a ") == len(with_sources(chapter)), chapter
        for cell in code_cells(chapter):
            if cell["id"] in with_sources(chapter):
                for file in shown_tables(chapter, cell["metadata"].get("mystnb", {}).get("sources")):
                    assert f'href="../{file.relative_to(ROOT).as_posix()}"' in text, (chapter, file)
    assert "Data: <a " in (html / "book" / "index.html").read_text(), "the first page has a table and a figure"
    stored = [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    assert all((html / path.relative_to(ROOT)).read_bytes() == path.read_bytes() for path in stored)


def test_a_chapter_with_files_of_its_own_is_one_of_the_book():
    assert set(SHOWN) <= set(CHAPTERS)
    with pytest.raises(FileNotFoundError, match=r"made from speed/none.csv, which is not in"):
        shown_tables("volume", ["speed/none.csv"])
    assert shown_tables("volume") == [] and len(shown_tables("experiment")) >= 4
