"""Printed chapters bound into one PDF: page numbers, bookmarks, and links that lead to a place in the document."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

TOP = 842.0  # of a page of A4, in points


class Chapter(NamedTuple):
    """A page of the book that has been printed."""

    part: str  # caption of its part, "" for the first page
    file: Path
    title: str
    sections: list[tuple[str, str]]  # id and title
    start: int  # pages of the chapters before it
    pdf: bytes


class Place(NamedTuple):
    """A point of the document."""

    page: int
    left: float
    top: float


def bind(front: bytes, chapters: list[Chapter], title: str, author: str) -> bytes:
    """Put the front matter and all chapters into one document.

    A link to the file of a chapter leads to its pages, and to the place of the id where it names one. A link to any
    other file is dropped. Bookmarks have three levels: parts, chapters, sections.
    """
    from pypdf import PdfReader, PdfWriter
    from pypdf.constants import PageLabelStyle
    from pypdf.generic import NameObject, TextStringObject

    writer = PdfWriter()
    first: list[int] = []  # of every document: its first page,
    places: list[dict[str, Place]] = []  # and where its ids are
    for pdf in (front, *(chapter.pdf for chapter in chapters)):
        reader = PdfReader(io.BytesIO(pdf))
        first.append(len(writer.pages))
        places.append(dict(_places(reader, first[-1])))
        writer.append(reader, import_outline=False)
    for key in ("/Names", "/Dests"):  # chapters have names in common: links lead to places instead
        writer.root_object.pop(key, None)
    ends = [*first[1:], len(writer.pages)]
    files = {c.file.as_uri(): (Place(first[k], 0, TOP), places[k]) for k, c in enumerate(chapters, start=1)}
    for own, begin, end in zip(places, first, ends, strict=True):
        for page in writer.pages[begin:end]:
            _redirect(writer, page, own, files)
    _add_bookmarks(writer, chapters, first[1:], places[1:])
    writer.set_page_label(0, first[1] - 1, style=PageLabelStyle.LOWERCASE_ROMAN)
    writer.set_page_label(first[1], ends[-1] - 1, style=PageLabelStyle.DECIMAL, start=1)
    writer.page_mode = "/UseOutlines"
    writer.root_object[NameObject("/Lang")] = TextStringObject("en")
    writer.add_metadata({"/Title": title, "/Author": author})
    writer.compress_identical_objects()
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()


def _id(name: Any) -> str:
    return unquote(str(name).removeprefix("/"))


def _places(reader: Any, first: int) -> Iterator[tuple[str, Place]]:
    """Go through the ids of one document that something links to."""
    for name, found in reader.named_destinations.items():
        page = reader.get_destination_page_number(found)
        if page is not None:
            yield _id(name), Place(first + page, float(found.left or 0), float(found.top or TOP))


def _redirect(writer: Any, page: Any, own: dict[str, Place], files: dict[str, tuple[Place, dict[str, Place]]]) -> None:
    """Let the links of a page lead to places of the document; drop those that lead to files outside it."""
    from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject

    kept = ArrayObject()
    for reference in page.get("/Annots", []):
        link = reference.get_object()
        uri = str(link.get("/A", {}).get("/URI", ""))
        file, _, fragment = uri.partition("#")
        place = None
        if "/Dest" in link:
            place = own.get(_id(link["/Dest"]))
        elif file in files:
            start, ids = files[file]
            place = ids.get(unquote(fragment), start)
        elif not uri.startswith("file:"):
            kept.append(reference)
        if place is not None:
            link.pop("/A", None)
            point = [NameObject("/XYZ"), FloatObject(place.left), FloatObject(place.top), NullObject()]
            link[NameObject("/Dest")] = ArrayObject([writer.pages[place.page].indirect_reference, *point])
            kept.append(reference)
    if "/Annots" in page:
        page[NameObject("/Annots")] = kept


def _add_bookmarks(writer: Any, chapters: list[Chapter], first: list[int], places: list[dict[str, Place]]) -> None:
    from pypdf.generic import Fit

    part, above = "", None
    for chapter, start, ids in zip(chapters, first, places, strict=True):
        if chapter.part != part:
            part = chapter.part
            above = writer.add_outline_item(title=part, page_number=start)
        entry = writer.add_outline_item(title=chapter.title, page_number=start, parent=above, is_open=False)
        for label, title in chapter.sections:
            place = ids.get(label, Place(start, 0, TOP))
            fit = Fit.xyz(place.left, place.top)
            writer.add_outline_item(title=title, page_number=place.page, parent=entry, fit=fit)
