"""Statements of the book, the functions that are their code and the tests that check them: found, not listed by hand.

A definition, theorem or proposition is a ``prf`` directive with a label in a chapter below ``notebooks/``. It names its
functions as ``{py:func}`` (or ``class``, ``meth``); their docstrings name its label, and tests carry
``@pytest.mark.statement("label")``. ``python -m reproduction.report.statements`` prints the table and fails where a
link is missing.
"""

from __future__ import annotations

import ast
import json
import pydoc
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from reproduction.paths import project_root

KINDS = ("definition", "theorem", "proposition", "lemma", "corollary")
LABEL = re.compile(r"(?:def|thm|prop|lem|cor)-[a-z0-9-]+")
OPENING = re.compile(r"^(?P<fence>:{3,}|`{3,})\{prf:(?P<kind>\w+)\}[ \t]*(?P<title>.*)$")
FUNCTION = re.compile(r"\{py:(func|class|meth)\}`~?([\w.]+)`")


@dataclass(frozen=True)
class Statement:
    """A numbered statement: its label, kind and title, the page and the section it stands in, and its functions.

    `functions` are pairs of a role (``func``, ``class`` or ``meth``) and a full name.
    """

    label: str
    kind: str
    title: str
    page: str
    section: str
    functions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Check:
    """A test that checks statements: its module and name, the labels of its mark, and its source."""

    module: str
    name: str
    labels: tuple[str, ...]
    source: str

    @property
    def anchor(self) -> str:
        """Where the book shows it."""
        return f"check-{self.module}-{self.name}".replace("_", "-")


def pages(root: Path) -> list[str]:
    """List the pages of the book in the order of its table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    parts = toc.get("parts") or [toc]
    return [toc["root"], *(chapter["file"] for part in parts for chapter in part["chapters"])]


def statements_in(page: str, texts: Iterable[str]) -> list[Statement]:
    """Read the statements out of the Markdown texts of one page.

    Examples
    --------
    >>> text = '''(volumes)=
    ... # Volumes
    ... :::{prf:theorem} Bounds
    ... :label: thm-bounds
    ... In code: {py:func}`noisyseg.dice_volume_bounds`.
    ... :::'''
    >>> statements_in("notebooks/volume", [text])[0].functions
    (('func', 'noisyseg.dice_volume_bounds'),)
    """
    found, section, anchor = [], "", ""
    for text in texts:
        lines = iter(text.splitlines())
        for line in lines:
            if match := re.fullmatch(r"\(([\w-]+)\)=", line.strip()):
                anchor = match[1]
            elif re.match(r"#{1,6} ", line):
                section, anchor = anchor or section, ""
            elif (match := OPENING.match(line)) and match["kind"] in KINDS:
                body = []
                for inner in lines:
                    if inner.strip() == match["fence"]:
                        break
                    body.append(inner)
                labels = [m[1] for inner in body if (m := re.match(r":label: *(\S+)", inner))]
                if len(labels) != 1:
                    raise ValueError(f"{page}: expected one :label: in {line!r}, found {labels}")
                functions = dict.fromkeys(FUNCTION.findall("\n".join(body)))
                title = match["title"].strip()
                found.append(Statement(labels[0], match["kind"], title, page, section, tuple(functions)))
    return found


def statements(root: Path | None = None) -> list[Statement]:
    """Read all statements of the book, in its order."""
    root = root or project_root()
    found = []
    for page in pages(root):
        notebook = root / f"{page}.ipynb"
        if notebook.is_file():
            cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
            found += statements_in(page, ("".join(c["source"]) for c in cells if c["cell_type"] == "markdown"))
        else:
            found += statements_in(page, [(root / f"{page}.md").read_text(encoding="utf-8")])
    return found


def _marked(node: ast.expr) -> tuple[str, ...]:
    """Give the labels of a decorator ``pytest.mark.statement(...)``, none for another decorator."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.statement":
        return tuple(str(ast.literal_eval(argument)) for argument in node.args)
    return ()


def checks(root: Path | None = None) -> list[Check]:
    """Read all tests that are marked as the check of a statement, by module and in the order of each file."""
    found = []
    for path in sorted(((root or project_root()) / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                labels = tuple(label for decorator in node.decorator_list for label in _marked(decorator))
                if labels:
                    start = min(d.lineno for d in node.decorator_list)
                    found.append(Check(path.stem, node.name, labels, "\n".join(lines[start - 1 : node.end_lineno])))
    return found


def problems(stated: Iterable[Statement], checked: Iterable[Check]) -> list[str]:
    """List every missing link: a statement without function or test, a function or test that does not name it back."""
    stated, checked = list(stated), list(checked)
    known = [s.label for s in stated]
    found = [
        f"{label} is the label of {known.count(label)} statements"
        for label in sorted(set(known))
        if known.count(label) > 1
    ]
    named = {label for check in checked for label in check.labels}
    for s in stated:
        if not LABEL.fullmatch(s.label):
            found.append(f"{s.page}: the label {s.label} does not begin with def-, thm-, prop-, lem- or cor-")
        if not s.functions:
            found.append(f"{s.page}: {s.label} names no function")
        for _, name in s.functions:
            code = pydoc.locate(name)
            if code is None:
                found.append(f"{s.page}: {s.label} names {name}, which is no function, class or method")
            elif f"``{s.label}``" not in (code.__doc__ or ""):
                found.append(f"the docstring of {name} does not name {s.label}, which names it")
        if s.label not in named:
            found.append(f"{s.page}: no test is marked with {s.label}")
    for check in checked:
        unknown = [label for label in check.labels if label not in known]
        found += [f"{check.module}.{check.name} is marked with {label}, which is no statement" for label in unknown]
    return found


def main() -> int:
    """Print every statement with its functions and tests; 1 where a link is missing, else 0."""
    stated, checked = statements(), checks()
    for s in stated:
        print(f"{s.label}  ({s.kind}: {s.title}; {s.page})")
        print("    code: " + ", ".join(name for _, name in s.functions))
        print("    test: " + ", ".join(f"{c.module}.{c.name}" for c in checked if s.label in c.labels))
    missing = problems(stated, checked)
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
