"""Printed chapters in one document: their links, page numbers and bookmarks."""

from __future__ import annotations

import io

import pytest

from bookmarks import entries
from reproduction.report.binding import Chapter, bind

pypdf = pytest.importorskip("pypdf", reason="no pypdf: `make test` installs it, with all that requirements.lock names")
A4 = (595, 842)  # points


def document(*texts: str) -> bytes:
    writer = pypdf.PdfWriter()
    for _ in texts:
        writer.add_blank_page(*A4)
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()


def linked(uris: list[str], names: dict[str, int], pages: int = 2) -> bytes:
    """A document with links on its first page, and named places."""
    from pypdf.annotations import Link

    writer = pypdf.PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(*A4)
    for uri in uris:
        writer.add_annotation(0, Link(rect=(0, 0, 9, 9), url=uri))
    for name, page in names.items():
        writer.add_named_destination(name, page)
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()


def test_bound_chapters_link_to_each_other(tmp_path):
    files = [tmp_path / "a.html", tmp_path / "b.html"]
    elsewhere = [(tmp_path / "sources.html").as_uri(), "https://example.org/x"]
    one = linked([f"{files[1].as_uri()}#there", f"{files[1].as_uri()}#nowhere", *elsewhere], {"there": 1})
    two = linked([], {"there": 1})
    chapters = [
        Chapter("", files[0], "A", [], 0, one),
        Chapter("I  Part", files[1], "B", [("there", "Section")], 2, two),
    ]
    book = pypdf.PdfReader(io.BytesIO(bind(document("title"), chapters, "T", "N")))
    assert len(book.pages) == 5 and book.page_labels == ["i", "1", "2", "3", "4"]
    targets, uris = [], []
    for reference in book.pages[1]["/Annots"]:
        link = reference.get_object()
        if "/Dest" in link:
            targets.append(book.get_page_number(link["/Dest"][0].get_object()))
        else:
            uris.append(link["/A"]["/URI"])
    assert targets == [4, 3] and uris == ["https://example.org/x"]  # the id of that chapter, else its first page
    marks = [(depth, item.title, book.get_destination_page_number(item)) for depth, item in entries(book.outline)]
    assert marks == [(0, "A", 1), (0, "I  Part", 3), (1, "B", 3), (2, "Section", 4)]
    assert book.metadata.title == "T" and book.metadata.author == "N"
