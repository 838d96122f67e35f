"""What a page shows of a notebook's cells: captions of tables, where their numbers are stored, and the code at its end.

A cell says in its metadata, as for a figure: ``"mystnb": {"table": {"caption": "…"}}``, a list of captions where it
shows several tables, and ``"mystnb": {"sources": ["hippocampus/summary.csv"]}`` where the stored tables are not those
that its chapter shows in general (`reproduction.report.trust.SHOWN`). The code of a cell with the tag ``hide-input`` is
not at its place but in one box at the end of the page.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.core import publish_doctree
from folded import folded
from myst_parser.docutils_ import Parser
from sphinx.util.docutils import SphinxDirective

from reproduction.paths import project_root
from reproduction.report.trust import anchor_of, shown_tables, source_file

PREFIX = "notebooks/"
PARSING = {"myst_enable_extensions": ["dollarmath"], "report_level": 2, "halt_level": 2}


def is_cell(node: nodes.Node) -> bool:
    """Say whether a node is a code cell."""
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def words(caption: str) -> list[nodes.Node]:
    """Parse a caption, one paragraph of Markdown with formulas; the star of CE(*) is a star."""
    parsed = publish_doctree(caption.replace("(*)", r"(\*)"), parser=Parser(), settings_overrides=PARSING)
    (paragraph,) = parsed.children
    return paragraph.children


def caption_tables(cell: nodes.Element, captions: str | list[str], name: str) -> None:
    """Give every table of a cell its caption, which Sphinx numbers; a table that was not made needs none.

    Where there are several tables to a caption, as one for each preset, each has it.
    """
    captions = [captions] if isinstance(captions, str) else captions
    tables = list(cell.findall(nodes.table))
    if not captions or not tables:
        return
    each, rest = divmod(len(tables), len(captions))
    if rest:
        raise ValueError(f"{name} shows {len(tables)} tables and has {len(captions)} captions, expected one for each")
    for number, table in enumerate(tables):
        table["ids"].append(f"table-{cell['exec_count']}" + (f"-{number + 1}" if number else ""))
        table.insert(0, nodes.title("", "", *words(captions[number // each])))


def link(text: str, uri: str, *classes: str) -> nodes.reference:
    """Link within the built pages."""
    return nodes.reference("", text, refuri=uri, internal=True, classes=list(classes))


def data_links(files: Iterable[Path]) -> list[nodes.Node]:
    """Link stored tables, each folder to what the status page says of its making."""
    results, found, last = project_root() / "results", [], None
    for file in files:
        source = source_file(file)
        if source != last:
            found += [nodes.Text("; " if last else "Data: ")]
            found += [link(file.parent.relative_to(results).as_posix(), f"../book/status.html#{anchor_of(source)}")]
        found += [nodes.Text(" " if source != last else ", ")]
        found += [link(file.name, f"../results/{file.relative_to(results).as_posix()}")]
        last = source
    return found


def note(parts: list[nodes.Node]) -> nodes.paragraph:
    """Put links into one line of small print."""
    return nodes.paragraph("", "", *parts, classes=["cell-source"])


def shows(output: nodes.Element) -> bool:
    """Say whether the output of a cell is more than numbers that are kept for the prose."""
    kinds = [kind for node in output.findall(nodes.container) if (kind := node.get("mime_type"))]
    printed = any(isinstance(child, nodes.literal_block) for child in output.children)
    return printed or not all(kind.startswith("application/papermill.record") for kind in kinds)


def work_up(app: Any, doctree: nodes.document) -> None:
    """Complete what the cells of a chapter show, and gather their hidden code."""
    if not app.env.docname.startswith(PREFIX):
        return
    chapter = app.env.docname.removeprefix(PREFIX)
    code: list[nodes.Node] = []
    for cell in list(doctree.findall(is_cell)):
        number, options = cell["exec_count"], cell["cell_metadata"].get("mystnb", {})
        inputs = [part for part in cell.children if part.get("nb_element") == "cell_code_source"]
        outputs = [part for part in cell.children if part.get("nb_element") == "cell_code_output"]
        caption_tables(cell, options.get("table", {}).get("caption", []), f"{chapter}, cell [{number}],")
        parts: list[nodes.Node] = []
        if any(cell.findall(lambda node: isinstance(node, (nodes.figure, nodes.table)))):
            parts = data_links(shown_tables(chapter, options.get("sources")))
        if inputs and cell.get("hide_mode") == "input":
            del cell["hide_mode"]
            cell.remove(inputs[0])
            title = nodes.paragraph("", f"Cell [{number}]", classes=["cell-source"], ids=[f"code-{number}"])
            if any(map(shows, outputs)):
                cell["ids"].append(f"cell-{number}")
                title += [nodes.Text(": "), link("what it shows", f"#cell-{number}")]
                parts.append(link("Code", f"#code-{number}", "code-link"))
            else:
                cell.clear()
            code += [title, inputs[0]]
        elif parts and not inputs:
            parts.append(link("Notebook", f"../_sources/{PREFIX}{chapter}.ipynb", "code-link"))
        if parts:
            cell += note(parts)
        elif not cell.children:
            cell.parent.remove(cell)
    if code:
        box = folded("", *code, ids=["page-code"], classes=["hide", "page-code"], summary="Code of figures and tables")
        next(iter(doctree.findall(nodes.section))).append(box)


class DataOf(SphinxDirective):
    """The line that says where numbers of a page of prose are stored."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Link the files that the lines name."""
        return [note(data_links(shown_tables("", list(self.content))))]


def copy_results(app: Any, error: Exception | None) -> None:
    """Copy the stored tables into the book, where they have the addresses that they have in the repository."""
    if error is None and app.builder.name == "html":
        shutil.copytree(project_root() / "results", Path(app.outdir) / "results", dirs_exist_ok=True)


def setup(app: Any) -> dict[str, bool]:
    """Connect to the build."""
    app.add_directive("data-of", DataOf)
    app.connect("doctree-read", work_up)
    app.connect("build-finished", copy_results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
