"""The book as a PDF, printed by Debian's Chromium: whole, in order, with its fonts, nothing cut off."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from bookmarks import entries
from conftest import ROOT, lacking
from reproduction.report.chapter_times import chapters, listed_pages

pypdf = pytest.importorskip("pypdf", reason="no pypdf: `make test` installs it, with all that requirements.lock names")

A4 = (595, 842)  # points


@pytest.fixture(scope="module")
def book(html: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The PDF of the built book."""
    if shutil.which("chromium") is None:
        lacking("no browser: the book is printed by Debian's package chromium")
    from reproduction.report.pdf import build_pdf

    return pypdf.PdfReader(build_pdf(tmp_path_factory.mktemp("pdf") / "book.pdf", html))


@pytest.mark.slow
def test_the_bookmarks_are_the_parts_and_chapters_in_order(book, html):
    marks = list(entries(book.outline))
    parts = list(dict.fromkeys(part for part, _ in listed_pages() if part))
    assert [item.title for depth, item in marks if depth == 0][1:] == parts
    pages = [book.get_destination_page_number(item) for _, item in marks]
    assert pages == sorted(pages) and pages[0] >= 2
    first = next(k for k, (_, item) in enumerate(marks) if item.title == parts[0])
    chapters = [item.title for depth, item in marks[first:] if depth == 1]
    assert len(chapters) == len(listed_pages()) - 1
    for (_, name), title in zip(listed_pages()[1:], chapters, strict=True):
        assert f">{title}<" in (html / f"{name}.html").read_text(), name


@pytest.mark.slow
def test_pages_are_numbered_through_and_none_is_empty(book):
    texts = [page.extract_text() for page in book.pages]
    front = next(k for k, label in enumerate(book.page_labels) if label == "1")
    assert 150 < len(texts) < 600 and 2 <= front <= 5
    assert book.page_labels[front:] == [str(k + 1) for k in range(len(texts) - front)]
    for k, text in enumerate(texts[front:], start=1):
        assert str(k) in text.split(), f"page {k} has no number"
    bare = [k + 1 for k, (page, text) in enumerate(zip(book.pages, texts, strict=True)) if is_empty(page, text)]
    assert not bare


def is_empty(page: Any, text: str) -> bool:
    pictures = page["/Resources"].get("/XObject", {})
    return len(text.split()) < 20 and not pictures


def letters(text: str) -> str:
    """A text without blanks and hyphens, which depend on where its lines end."""
    return re.sub(r"[\s\xad‐-]", "", text)


@pytest.mark.slow
def test_all_proofs_are_printed(book):
    """Pages fold them: of each proof, the first words in a row that are plain text are looked for."""
    printed = letters("".join(page.extract_text() for page in book.pages))
    found = []
    for chapter in chapters():
        cells = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text())["cells"]
        for proof in re.findall(r":::+\{prf:proof\}\n(.*?)\n:::", "\n".join("".join(c["source"]) for c in cells), re.S):
            if words := re.search(r"[A-Za-z]+(?: [a-z]+){4,}", proof):
                found.append((chapter, words[0]))
    assert len(found) > 70
    assert not [(chapter, words) for chapter, words in found if letters(words) not in printed]


@pytest.mark.slow
def test_every_page_is_a4(book):
    sizes = {(round(float(page.mediabox.width)), round(float(page.mediabox.height))) for page in book.pages}
    assert all(abs(w - A4[0]) <= 1 and abs(h - A4[1]) <= 1 for w, h in sizes)


def embedded(font: Any) -> bool:
    if font["/Subtype"] == "/Type3":
        return True  # drawn, not named
    if font["/Subtype"] == "/Type0":
        return all(embedded(child.get_object()) for child in font["/DescendantFonts"])
    return any(key in font.get("/FontDescriptor", {}) for key in ("/FontFile", "/FontFile2", "/FontFile3"))


@pytest.mark.slow
def test_all_fonts_are_embedded(book):
    fonts = [f.get_object() for page in book.pages for f in page["/Resources"].get("/Font", {}).values()]
    assert len(fonts) > 1000
    assert not {str(font.get("/BaseFont")) for font in fonts if not embedded(font)}


@pytest.mark.slow
def test_links_lead_into_the_document_or_to_the_web(book):
    leaves = {page.indirect_reference.idnum for page in book.pages}
    inside = outside = 0
    for page in book.pages:
        for reference in page.get("/Annots", []):
            link = reference.get_object()
            if "/Dest" in link:
                inside += 1
                assert link["/Dest"][0].idnum in leaves
            else:
                outside += 1
                assert str(link["/A"]["/URI"]).startswith(("http://", "https://", "mailto:"))
    assert inside > 1000 and outside > 20


# Everything that a printed line can lose, at the width of the paper.
OVERFULL = """(width) => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const right = (e) => Math.round(e.getBoundingClientRect().right);
  const name = (e) => `${e.tagName} ${right(e)} ${e.textContent.trim().slice(0, 40)}`;
  const scrolls = (e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX)
    && e.scrollWidth > e.clientWidth + 1;
  const outside = (e) => e.getBoundingClientRect().width && right(e) > width + 1;
  return {
    page: document.documentElement.scrollWidth,
    wide: all("article *").filter((e) => !e.closest("mjx-container > *, svg") && outside(e)).map(name),
    bars: all("article *").filter(scrolls).map(name),
    buttons: all("button:not(.enlarge), .headerlink").filter((e) => e.offsetWidth).map(name),
  };
}"""


@pytest.mark.slow
def test_nothing_is_wider_than_the_paper(html):
    """No table, formula, picture or line of code on any page; nothing to scroll or to press."""
    program = shutil.which("chromium")
    if program is None:
        lacking("no browser: the book is printed by Debian's package chromium")
    from playwright.sync_api import sync_playwright

    from reproduction.report.pdf import WIDTH, opened, prepared

    found = {}
    with sync_playwright() as playwright, opened(playwright, program) as page:
        for _, name in listed_pages():
            prepared(page, html / f"{name}.html", [])
            seen = page.evaluate(OVERFULL, WIDTH)
            if seen["page"] > WIDTH or seen["wide"] or seen["bars"] or seen["buttons"]:
                found[name] = seen
    assert not found


# ---- without a browser ----------------------------------------------------------------------------------------------


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    from reproduction.report import pdf
    from reproduction.runs.notebook import BatchError

    with pytest.raises(FileNotFoundError, match=r"lacks book/index.html; build the book first: make book"):
        pdf.build_pdf(tmp_path / "x.pdf", tmp_path)
    for _, name in listed_pages():
        (tmp_path / f"{name}.html").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.html").write_text("<h1>x</h1>")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BatchError, match="apt install chromium"):
        pdf.build_pdf(tmp_path / "x.pdf", tmp_path)
    assert not (tmp_path / "x.pdf").exists()


def test_running_titles_are_quoted():
    from reproduction.report.pdf import running

    assert 'content: "a \\"b\\" \\\\c"' in running('a "b" \\c', "", 4) and "counter-reset: page 4;" in running(
        "", "", 4
    )


def test_only_referenced_ids_are_marked(tmp_path):
    from reproduction.report.pdf import wanted_ids

    (tmp_path / "a.html").write_text('<a href="b.html#x">x</a><a href="b.html">b</a><a href="https://x.org/b.html#y">')
    (tmp_path / "b.html").write_text('<a href="#own">own</a><a href="a.html#w&amp;z">z</a>')
    assert wanted_ids(tmp_path, ["a", "b"]) == {tmp_path / "a.html": ["w&z"], tmp_path / "b.html": ["x", "own"]}
