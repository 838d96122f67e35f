"""What the status page says: the cost of every chapter, and where every stored table comes from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from reproduction.paths import project_root, read_json
from reproduction.report.chapter_times import Cost, chapters, read_costs
from reproduction.report.results import book_results
from reproduction.report.sources import short_commits
from reproduction.text import duration

PACKAGES = ("numpy", "scipy", "torch", "pandas")  # those that numbers depend on most
#: The command that makes the tables of a folder below ``results``, or of one provenance in it; others are presets.
COMMANDS = {
    "benchmarks/speed": "make bench STORE=1",
    "benchmarks/accelerated": "python benchmarks/precision.py --name accelerated",
    "benchmarks/covariance": "python benchmarks/covariance.py",
    "benchmarks/labels": "python benchmarks/labels.py",
    "benchmarks/lean": "python benchmarks/lean.py --store",
    "benchmarks/masks": "python benchmarks/masks.py --data data --store runs/PRESET/RUN",
    "benchmarks/precision": "python benchmarks/precision.py",
    "chapters": "python -m reproduction times",
    "kits23": "python data_scripts/kits23.py",
    "lidc": "python data_scripts/lidc.py",
    "openkbp/noise": "python -m reproduction noise --preset openkbp",
    "rater_levels": "python data_scripts/rater_levels.py",
    "raters/kits23": "python -m reproduction annotators --set kits23",
    "raters/bubil": "python -m reproduction annotators --set bubil",
}
#: Tables of ``results/benchmarks`` that have no provenance of their own were made together with this one.
TOGETHER = "speed_provenance.json"
#: Made once, or copied: the file ``SOURCE.md`` of the folder says how.
BY_HAND = ("lidc/paper_code", "paper/table1")
#: Files below ``results`` that the figures and tables of a chapter are made from, where a cell does not name its own;
#: ``*`` is every preset that the chapters show.
SHOWN = {
    "annotators": ("raters/bubil/structures.csv", "raters/kits23/structures.csv"),
    "cost": ("*/provenance.json", "quick/provenance.json"),
    "deviations": ("paper/table1.csv", "*/summary.csv"),
    "experiment": ("*/summary.csv", "*/differences.csv"),
    "lidc": ("lidc/scans.csv", "lidc/nodules.csv"),
    "speed": ("benchmarks/speed.csv",),
    "volume_bias": ("*/cases.csv",),
}


def command_of(chapter: str) -> str:
    """Give the command that executes a chapter anew, in place."""
    return f".venv/bin/python -m reproduction notebooks notebooks/{chapter}.ipynb"


def cost_of(cost: Cost) -> str:
    """Say what executing a chapter takes.

    Examples
    --------
    >>> cost_of(Cost("volume", 8.6, 412.0))
    '9 s of processor time and 430 MB of memory'
    """
    return f"{duration(cost.processor_s)} of processor time and {round(cost.peak_mib * 1.048576, -1):.0f} MB of memory"


def chapter_lines() -> list[str]:
    """Lay out the cost of every chapter, and of all."""
    costs = read_costs()
    lines = ["| chapter | processor time | memory, MB |", "|---|--:|--:|"]
    for name in chapters():
        cost = costs.get(name)
        values = (duration(cost.processor_s), f"{round(cost.peak_mib * 1.048576, -1):.0f}") if cost else ("—", "—")
        lines.append(f"| {{doc}}`../notebooks/{name}` | {' | '.join(values)} |")
    total = sum(cost.processor_s for cost in costs.values())
    largest = max((cost.peak_mib for cost in costs.values()), default=0.0)
    return [*lines, f"| all | {duration(total)} | {round(largest * 1.048576, -1):.0f} |"]


def source_file(table: Path) -> Path:
    """Give the file that says where a stored table comes from; of a provenance it is the file itself.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    names = [table.name] if table.suffix == ".json" else [f"{table.stem}_provenance.json", "provenance.json"]
    names += [TOGETHER] if table.parent.name == "benchmarks" else []
    if f"{table.parent.name}/{table.stem}" in BY_HAND:
        names = ["SOURCE.md"]
    for name in names:
        if (table.parent / name).is_file():
            return table.parent / name
    raise FileNotFoundError(f"{table} has no provenance: expected {' or '.join(names)} in its folder")


def shown_tables(chapter: str, named: Sequence[str] | None = None) -> list[Path]:
    """List the stored files that a figure or a table is made from: those that its cell names, or its chapter's.

    Raises
    ------
    FileNotFoundError
        If a file that is named without ``*`` does not exist.

    Examples
    --------
    >>> [path.name for path in shown_tables("speed")], shown_tables("volume")
    (['speed.csv'], [])
    """
    results = project_root() / "results"
    found: list[Path] = []
    for pattern in SHOWN.get(chapter, ()) if named is None else named:
        if "*" in pattern:
            found += [results / preset / pattern.removeprefix("*/") for preset in _presets()]
        elif (results / pattern).is_file():
            found.append(results / pattern)
        else:
            raise FileNotFoundError(f"a figure or table is said to be made from {pattern}, which is not in {results}")
    return [path for path in sorted(found) if path.is_file()]


@cache
def _presets() -> tuple[str, ...]:
    return tuple(book_results()[0])


def anchor_of(source: Path) -> str:
    """Name the row of the status page that says how the tables of a provenance were made.

    Examples
    --------
    >>> anchor_of(project_root() / "results/benchmarks/lean_provenance.json")
    'made-benchmarks-lean'
    >>> anchor_of(project_root() / "results/raters/bubil/provenance.json")
    'made-raters-bubil'
    """
    folder = source.parent.relative_to(project_root() / "results").parts
    name = source.stem.removesuffix("provenance").rstrip("_") if source.suffix == ".json" else "by-hand"
    return "-".join(["made", *folder, *filter(None, [name])]).replace("_", "-")


def command_for(source: Path) -> str:
    """Give the command that makes the tables of a provenance, "" where there is none.

    Examples
    --------
    >>> command_for(Path("results/quick/provenance.json")), command_for(Path("results/benchmarks/lean_provenance.json"))
    ('make reproduce PRESET=quick', 'python benchmarks/lean.py --store')
    """
    if source.suffix != ".json":
        return ""
    parts = source.parent.parts
    folder = "/".join(parts[parts.index("results") + 1 :])
    name = source.stem.removesuffix("provenance").rstrip("_")
    return COMMANDS.get(f"{folder}/{name}" if name else folder, f"make reproduce PRESET={folder}")


def table_lines() -> list[str]:
    """Lay out all stored tables: those with one provenance in one row."""
    results = project_root() / "results"
    together: dict[Path, list[Path]] = {}
    for table in sorted(results.rglob("*.csv")):
        together.setdefault(source_file(table), []).append(table)
    lines = ["| folder | tables | made by | when, version, commit | machine | packages |", "|---|---|---|---|---|---|"]
    for source, tables in together.items():
        folder = source.parent.relative_to(results).as_posix()
        command = command_for(source)
        facts = read_json(source) if command else {}
        head = f'<span id="{anchor_of(source)}"></span>{_file(source, folder)}'
        files = ", ".join(_file(table, table.stem) for table in tables)
        cells = [head, files, f"`{command}`" if command else "by hand", *_facts(facts)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _file(path: Path, words: str) -> str:
    """Link a file of ``results`` as the built book has it."""
    return f'<a href="../results/{path.relative_to(project_root() / "results").as_posix()}"><code>{words}</code></a>'


def _facts(facts: dict[str, Any]) -> list[str]:
    """Say when, with what code, where and with which packages a table was made."""
    if not facts:
        return ["see `SOURCE.md`", "", ""]
    when = [str(facts["created"])[:10]] if "created" in facts else []
    code = ", ".join([*when, str(facts["version"]), f"`{short_commits(facts['commit'])}`"])
    machine = facts["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores{', ' + machine['gpu'] if machine.get('gpu') else ''}"
    packages = {"Python": machine["python"], **{name: facts["packages"][name] for name in PACKAGES}}
    return [code, where, ", ".join(f"{name} {version}" for name, version in packages.items())]
