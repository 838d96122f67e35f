"""Directives that show what `statements` finds: the table of statements, and the tests behind it."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from reproduction.report.statements import Check, checks, statements


def words(check: Check) -> str:
    """Give the name of a test as words, which a narrow column can wrap."""
    return f"{check.module.removeprefix('test_')}: {check.name.removeprefix('test_')}".replace("_", " ")


def short(role: str, name: str) -> str:
    """Give the last part of a full name, of a method the last two."""
    return ".".join(name.split(".")[-2 if role == "meth" else -1 :])


class Generated(SphinxDirective):
    """Shows lines of Markdown that are made when the page is read."""

    classes = ("noisyseg-generated", "statement-table")

    def _lines(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the lines."""
        holder = nodes.container(classes=[*self.classes])
        self.state.nested_parse(StringList(self._lines(), source=self.env.docname), self.content_offset, holder)
        return [holder]


class StatementTable(Generated):
    """A table with a row for every statement of the book."""

    def _lines(self) -> list[str]:
        checked = checks()
        rows = ["| statement | section | function | test |", "|---|---|---|---|"]
        for s in statements():
            functions = "<br>".join(f"{{py:{role}}}`{short(role, name)} <{name}>`" for role, name in s.functions)
            tests = "<br>".join(f"{{ref}}`{words(c)} <{c.anchor}>`" for c in checked if s.label in c.labels)
            rows.append(f"| {{prf:ref}}`{s.label}`: {s.title} | {{ref}}`{s.section}` | {functions} | {tests} |")
        return rows


class StatementTests(Generated):
    """The source of every test that checks a statement, with links back."""

    def _lines(self) -> list[str]:
        lines: list[str] = []
        for check in checks():
            labels = ", ".join(f"{{prf:ref}}`{label}`" for label in check.labels)
            lines += [f"({check.anchor})=", "", f"**{check.module}.{check.name}** checks {labels}.", ""]
            lines += ["```python", *check.source.splitlines(), "```", ""]
        return lines


def setup(app: Any) -> dict[str, bool]:
    """Register both directives."""
    app.add_directive("statement-table", StatementTable)
    app.add_directive("statement-tests", StatementTests)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
