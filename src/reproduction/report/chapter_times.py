"""What it takes to execute each chapter anew: processor time and memory, measured and kept in a table."""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import yaml

from reproduction.paths import atomic_write, project_root, write_json
from reproduction.provenance import provenance
from reproduction.runs.notebook import BatchError

FOLDER = "results/chapters"
TABLE = "times.csv"


class Cost(NamedTuple):
    """What executing one chapter took."""

    chapter: str
    processor_s: float
    peak_mib: float


def listed_pages(root: Path | None = None) -> list[tuple[str, str]]:
    """Give the caption of its part and the name of every page of the book, in order; the first page has no part.

    Examples
    --------
    >>> listed_pages()[0]
    ('', 'book/index')
    """
    toc = yaml.safe_load(((root or project_root()) / "_toc.yml").read_text(encoding="utf-8"))
    pages = [(part["caption"], chapter["file"]) for part in toc["parts"] for chapter in part["chapters"]]
    return [("", toc["root"]), *((" ".join(caption.split()), name) for caption, name in pages)]


def chapters() -> list[str]:
    """Give the names of the chapters that are notebooks, in the order of the book."""
    return [name.removeprefix("notebooks/") for _, name in listed_pages() if name.startswith("notebooks/")]


def measure(notebook: str | os.PathLike[str]) -> Cost:
    """Execute a copy of a notebook; processor seconds and the largest memory of a process in it.

    Raises
    ------
    BatchError
        If a cell raises.
    """
    path = Path(notebook)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--log-level=ERROR"]
        command += ["--output-dir", folder, str(path)]
        # The usage of one child with all that it has waited for, such as the kernel: subprocess does not give it.
        pid = os.posix_spawn(sys.executable, command, {**os.environ, "OMP_NUM_THREADS": "1"})
        _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise BatchError(f"{path} was not executed; the reason is above")
    return Cost(path.stem, round(usage.ru_utime + usage.ru_stime, 1), round(usage.ru_maxrss / 1024, 0))


def read_costs(folder: str | os.PathLike[str] | None = None) -> dict[str, Cost]:
    """Read the table by chapter; empty where nothing has been measured."""
    path = Path(folder or project_root() / FOLDER) / TABLE
    if not path.is_file():
        return {}
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    costs = [Cost(row["chapter"], float(row["processor_s"]), float(row["peak_mib"])) for row in rows]
    return {cost.chapter: cost for cost in costs}


def write_costs(names: Sequence[str] = (), folder: str | os.PathLike[str] | None = None) -> Path:
    """Measure chapters, all of the book without any, and renew their rows of the table; say which one comes.

    The provenance beside the table is that of the last measurement, with its date.

    Raises
    ------
    ValueError
        If a name is none of a chapter.
    BatchError
        If a chapter cannot be executed; the table is then what it was.
    """
    known = chapters()
    for name in names:
        if name not in known:
            raise ValueError(f"chapter {name!r} is not in _toc.yml; expected one of {', '.join(known)}")
    out = Path(folder or project_root() / FOLDER)
    facts = {**provenance(), "created": datetime.now(UTC).isoformat(timespec="seconds")}
    costs = read_costs(out)
    for name in names or known:
        print(f"measuring {name}", flush=True)
        costs[name] = measure(project_root() / "notebooks" / f"{name}.ipynb")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(Cost._fields)
    writer.writerows(costs[name] for name in known if name in costs)
    write_json(out / "provenance.json", facts)
    return atomic_write(out / TABLE, buffer.getvalue())
