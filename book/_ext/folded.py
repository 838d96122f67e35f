"""What a page folds: proofs, and the code behind its figures and tables.

Both are `<details>` of HTML, which open by keyboard and without a script. Browsers open them for a word that is
searched for in the page and for an address that leads inside.
"""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes

OPENING = "Proof. "  # what sphinx-proof puts before the first word; here it is the summary


class folded(nodes.General, nodes.Element):
    """A box that is closed at first, with the words in ``summary`` to open it."""


def visit_folded(self: Any, node: folded) -> None:
    """Open the box, and write its summary."""
    self.body.append(self.starttag(node, "details"))
    self.body.append(f"<summary>{escape(node['summary'])}</summary>\n")


def depart_folded(self: Any, node: folded) -> None:
    """Close the box."""
    self.body.append("</details>\n")


def fold_proofs(app: Any, doctree: nodes.document, docname: str) -> None:
    """Fold every proof of a page, and give it an id of its own, where sphinx-proof gives all of them the same."""
    proofs = [node for node in doctree.findall(nodes.admonition) if node["ids"] == ["proof"]]
    for number, node in enumerate(proofs, start=1):
        first = next(iter(node.findall(nodes.Text)))
        if not first.astext().startswith(OPENING.strip()):
            raise ValueError(f"{docname}: proof {number} starts with {first.astext()[:40]!r}, expected {OPENING!r}")
        first.parent.replace(first, nodes.Text(first.astext().removeprefix(OPENING.strip()).lstrip()))
        box = folded("", *node.children, ids=[f"proof-{number}"], classes=["proof", "of-a-statement"], summary="Proof")
        node["ids"] = []  # which the box would take over
        node.replace_self(box)
    for node in doctree.findall(nodes.section):
        if node["ids"] == ["proof-content"]:  # of a statement: all have this one
            node["ids"] = []


def setup(app: Any) -> dict[str, bool]:
    """Register the box and connect to the build."""
    app.add_node(folded, html=(visit_folded, depart_folded))
    app.connect("doctree-resolved", fold_proofs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
