"""The box "Run this yourself" at the end of every chapter, and the tables of the status page."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from statements import Generated

import noisyseg
from reproduction.report.chapter_times import read_costs
from reproduction.report.trust import chapter_lines, command_of, cost_of, table_lines

PREFIX = "notebooks/"


def box(chapter: str) -> nodes.admonition:
    """Make the box of one chapter: the command, and what it takes where that has been measured."""
    cost = read_costs().get(chapter)
    text = nodes.paragraph("", f"It takes {cost_of(cost)} (" if cost else "Its cost has not been measured (")
    link = {"refdomain": "std", "reftype": "doc", "reftarget": "/book/status", "refdoc": PREFIX + chapter}
    page = addnodes.pending_xref("", nodes.inline("", "machine and versions"), refexplicit=True, refwarn=True, **link)
    text += [page, nodes.Text("). "), nodes.literal("", "make lab"), nodes.Text(" opens all notebooks.")]
    command = nodes.literal_block(command_of(chapter), command_of(chapter), language="bash")
    return nodes.admonition("", nodes.title("", "Run this yourself"), command, text, classes=["note", "run-this"])


def add_box(app: Any, doctree: nodes.document) -> None:
    """Add the box to the end of a chapter."""
    name = app.env.docname
    if name.startswith(PREFIX):
        next(iter(doctree.findall(nodes.section))).append(box(name.removeprefix(PREFIX)))


class ChapterTimes(Generated):
    """A table of what executing each chapter takes."""

    classes = ("chapter-times",)

    def _lines(self) -> list[str]:
        return chapter_lines()


class StoredTables(Generated):
    """A table of the stored tables with the provenance of each."""

    classes = ("noisyseg-generated", "stored-tables")

    def _lines(self) -> list[str]:
        return table_lines()


def setup(app: Any) -> dict[str, bool]:
    """Connect to the build and register both directives."""
    app.add_directive("chapter-times", ChapterTimes)
    app.add_directive("stored-tables", StoredTables)
    app.connect("doctree-read", add_box)
    app.connect("config-inited", lambda _, config: config.myst_substitutions.update(version=noisyseg.__version__))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
