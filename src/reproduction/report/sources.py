"""Where a number comes from: trainings, machine, time and versions, as the provenance of the tables has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reproduction.runs.tables import Results
from reproduction.text import duration

ITEMS = (
    "trainings",
    "time, all trainings added up",
    "longest training",
    "peak memory",
    "machine",
    "precision",
    "software",
    "noisyseg",
    "finished",
    "other rules",
)


def short_commits(commits: str) -> str:
    """The commits of a provenance, which are joined by blanks, in twelve digits each.

    Examples
    --------
    >>> short_commits("0123456789abcdef fedcba9876543210-dirty")
    '0123456789ab, fedcba987654 (modified)'
    """
    return ", ".join(commit[:12] + (" (modified)" if commit.endswith("-dirty") else "") for commit in commits.split())


def source_column(result: Results) -> list[str]:
    """Say for one preset what ``ITEMS`` ask."""
    p = result.provenance
    machine = p["machine"]
    runs: Any = pd.DataFrame(p["runs"])
    where = f"{machine['cpu']}, {machine['cores']} cores"
    where += f", {machine['gpu']}" if machine.get("gpu") else ""
    where += f" (one of {p['machines']} machines)" if p.get("machines", 1) > 1 else ""
    rules = p.get("other_rules")
    return [
        str(len(runs)),
        duration(runs["wall_s"].sum()),
        duration(runs["wall_s"].max()),
        f"{runs['peak_memory_mib'].max():.0f} MiB",
        where,
        ", ".join(sorted(set(runs["precision"]))),
        f"Python {machine['python']}, " + ", ".join(f"{name} {version}" for name, version in p["packages"].items()),
        f"{p['version']}, commit {short_commits(p['commit'])}",
        p["created"],
        f"{rules['runs']} trainings, rankseg {', '.join(rules['rankseg'])}" if rules else "not scored",
    ]


def source_rows(results: Mapping[str, Results]) -> list[list[str]]:
    """Lay out the provenance of presets: a row for each of ``ITEMS``, a column for each preset."""
    return [list(row) for row in zip(ITEMS, *map(source_column, results.values()), strict=True)] if results else []
