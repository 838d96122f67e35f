"""Let docstrings stay readable in a terminal: a volume ``|m|`` or ``size``^3 is meant as it stands, not as markup.

The label of a statement in double backticks, such as ``thm-dice``, becomes a link to the statement.
"""

from __future__ import annotations

import re
from typing import Any

from reproduction.report.statements import LABEL

STATEMENT = re.compile(rf"``({LABEL.pattern})``")
CODE = re.compile(r"(``.*?``|:\w+:`.*?`|`.*?`)")


def escape(line: str) -> str:
    """Escape what reStructuredText would take for a substitution or an unfinished literal; link statements."""
    line = STATEMENT.sub(r":prf:ref:`\1`", line)
    parts = CODE.split(line)
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    for k in range(1, len(parts), 2):  # a literal must not run into the word behind it
        if parts[k].startswith("``") and re.match(r"[\w^]", parts[k + 1]):
            parts[k] += "\\ "
    return "".join(parts)


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape the lines of one docstring in place; formulas and examples are left alone."""
    formula = -1  # indentation of the math directive that we are in, or -1
    for k, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith(".. math::"):
            formula = indent
        elif line.strip() and formula >= 0 and indent <= formula:
            formula = -1
        if formula < 0 and not line.lstrip().startswith((">>>", "...")):
            lines[k] = escape(line)


def setup(app: Any) -> dict[str, bool]:
    """Connect to autodoc."""
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
