"""The stored benchmarks: which bars are met, and the tables of the chapter *Speed and memory*.

A row of a table is one comparison: a work, an image side, an input, a peer. Rows that differ in the input only are one
group, and its worst row is the one that is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from reproduction.paths import project_root, read_json
from reproduction.report.sources import short_commits

COLUMNS = (
    "work side device input dtype peer ms peer_ms fastest_ms peer_fastest_ms quantity ratio sense bar met note".split()
)
BAR_HEADER = ["work and peer", "bar", "all inputs", "worst input", "verdict"]
COMPARISON_HEADER = ["against", "ours, ms", "peer, ms", "ratio", "bar", "verdict"]
MEMORY_HEADER = ["work", "input", "extra, MiB", "traced, MiB", "ratio", "bar", "verdict"]
UNKNOWN = "–"
UNITS = {"peer / ours": " × as fast", "ours / peer": " × its time", "error": ""}
Group = tuple[Any, pd.DataFrame]  # the row that comes off worst, and all rows


def folder() -> Path:
    """Folder of the stored benchmarks."""
    return project_root() / "results" / "benchmarks"


def not_measured(name: str) -> str:
    """Say that a table lacks some rows, and the command that makes them."""
    return f"*Not measured: `results/benchmarks/{name}.csv` has no such rows. `make bench STORE=1` makes them.*"


def read_benchmark(name: str) -> pd.DataFrame:
    """Read a stored table; an empty one where there is none. Columns that it lacks are NaN, ``device`` is cpu."""
    path = folder() / f"{name}.csv"
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS)
    kinds: Any = {"met": "boolean"} | dict.fromkeys(("note", "sense", "dtype", "device"), object)
    frame: Any = pd.read_csv(path, dtype=kinds)
    frame = frame.reindex(columns=list(dict.fromkeys([*COLUMNS, *frame])))
    return frame.assign(note=frame.note.astype(object).fillna(""), device=frame.device.astype(object).fillna("cpu"))


def number(x: Any) -> str:
    """Format three digits, without an exponent for what a person would write out.

    Examples
    --------
    >>> number(1234.5), number(0.0123), number(0.00002), number(float("nan"))
    ('1,234', '0.0123', '2e-05', '–')
    """
    if pd.isna(x):
        return UNKNOWN
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}" if abs(x) >= 1e-3 or x == 0 else f"{x:.0e}"


def span(values: Iterable[Any]) -> str:
    """Format the range of some numbers, a dash where there are none.

    Examples
    --------
    >>> span([3.0, 1.0, float("nan")]), span([2.0, 2.0]), span([])
    ('1 to 3', '2', '–')
    """
    known = [x for x in values if not pd.isna(x)]
    low, high = (number(f(known)) if known else UNKNOWN for f in (min, max))
    return low if low == high else f"{low} to {high}"


def judgement(row: Any) -> str:
    """Word for a bar that is met, missed or could not be judged; empty where there is no bar."""
    if pd.isna(row.bar):
        return ""
    return "not judged" if pd.isna(row.met) else "met" if row.met else "**missed**"


def bar_text(row: Any) -> str:
    """Write a bar as text, such as "≥ 50 × as fast"; empty where there is none."""
    unit = UNITS.get(row.quantity, " labels" if "label" in str(row.quantity) else " inputs")
    return "" if pd.isna(row.bar) else f"{'≥' if row.sense == '>=' else '≤'} {number(row.bar)}{unit}"


def case_name(row: Any) -> str:
    """Name an input, with its precision if the table has it."""
    return f"{row.input}, {row.dtype}" if isinstance(row.dtype, str) else str(row.input)


def groups(frame: pd.DataFrame) -> Iterator[Group]:
    """Go through the rows of one work, side, device and peer: the one that comes off worst, and all of them."""
    for _, rows in frame.groupby(["work", "side", "device", "peer"], sort=False):
        table: Any = rows
        known, failed = table[table.ratio.notna()], table[table.ratio.isna() & table.met.eq(False)]
        worst = failed.iloc[0] if len(failed) else table.iloc[0]
        if len(known) and not len(failed):
            worst = known.loc[known.ratio.idxmax() if (known.sense == "<=").any() else known.ratio.idxmin()]
        # A plain name for each cell: `dtype` of a pandas row is something else.
        yield next(worst.to_frame().T.itertuples(index=False)), table


def bar_rows(judged: Iterable[Group]) -> list[list[str]]:
    """Lay out every bar: what was asked, the range over all inputs, the worst input, and the verdict."""
    rows = []
    for worst, group in judged:
        where = f"{worst.work} {worst.side}³" + ("" if worst.device == "cpu" else f", {worst.device}")
        against = "memory" if "extra" in worst.quantity else "" if worst.peer == "noisyseg" else worst.peer
        named = ": ".join(filter(None, [where, against]))
        rows.append([named, bar_text(worst), span(group["ratio"]), case_name(worst), judgement(worst)])
    return rows


def bar_counts(judged: Iterable[Group]) -> str:
    """Count the bars that are met, and list those that are missed, as lines of plain text."""
    worst = [row for row, _ in judged]
    known = [row for row in worst if not pd.isna(row.met)]
    lines = [f"bars met: {sum(bool(row.met) for row in known)} of {len(known)}; not judged: {len(worst) - len(known)}"]
    for row in known:
        if not row.met:
            asked = f"{number(row.ratio)} ({bar_text(row)})"
            lines.append(f"  missed: {row.work}, {row.side}^3, {row.peer}: {asked}, {row.input}")
    return "\n".join(lines)


def ratio_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Reduce comparisons to how many times faster ours is, for :func:`reproduction.figures.timing.plot_ratios`."""
    rows = []
    known: Any = frame[frame["ratio"].notna()]
    for worst, group in groups(known):
        turned = worst.quantity == "ours / peer"
        faster = 1 / group["ratio"] if turned else group["ratio"]
        bar = 1 / worst.bar if turned and not pd.isna(worst.bar) else worst.bar
        missed = not pd.isna(worst.met) and not worst.met
        name = f"{worst.work} {worst.side}³: {worst.peer}"
        rows.append([name, worst.work, faster.min(), faster.max(), bar, missed])
    return pd.DataFrame(rows, columns=["name", "work", "low", "high", "bar", "missed"])


def comparison_rows(frame: pd.DataFrame) -> list[list[str]]:
    """Lay out milliseconds of both and their ratio, a row for every side and peer."""
    rows = []
    for worst, group in groups(frame):
        notes = "; ".join(dict.fromkeys(n for n in group["note"] if n and "mask loses" not in n))
        peer = f"{worst.peer} ({notes})" if notes else worst.peer
        times = (span(group[column]) for column in ("ms", "peer_ms", "ratio"))
        rows.append([f"{peer}, {worst.side}³", *times, bar_text(worst), judgement(worst)])
    return rows


def pair_rows(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Lay out the largest image of a work: a row for each peer, a column for each input with "ours / peer" in ms."""
    largest: Any = frame[frame["side"] == frame["side"].max()]
    names, rows = list(dict.fromkeys(largest["input"])), []
    for _, group in largest.groupby(["peer", "work", "dtype"], sort=False, dropna=False):
        row = next(groups(group))[0]
        pairs = {one["input"]: f"{number(one['ms'])} / {number(one['peer_ms'])}" for one in group.to_dict("records")}
        what = f"{row.peer}: mask" if "mask" in row.work else str(row.peer)
        what += f", {row.dtype}" if isinstance(row.dtype, str) else ""
        rows.append([what, *(pairs.get(name, "") for name in names), bar_text(row), judgement(row)])
    side = f"{largest['side'].max()}³: " if len(largest) else ""
    return [f"{side}ours / peer, ms", *names, "bar", "verdict"], rows


def size_rows(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Lay out all sizes, precisions and batches: our time, and how many times as fast as each peer.

    A row is a work with its side, and with its precision or number of images where the table has them; the ranges are
    over the inputs.
    """
    table: Any = frame.assign(size=[_size(row) for row in frame.itertuples()])
    peers = list(dict.fromkeys(table["peer"]))
    rows = []
    for (_, size), group in table.groupby(["side", "size"], sort=False):
        turned = group["quantity"] == "ours / peer"
        group = group.assign(faster=group["ratio"].where(~turned, 1 / group["ratio"]))
        spans = [span(group.loc[group["peer"] == peer, "faster"]) for peer in peers]
        rows.append((group["side"].iloc[0], [size, span(group["ms"]), *spans]))
    rows.sort(key=lambda row: row[0])
    return ["", "ours, ms", *peers], [cells for _, cells in rows]


def _size(row: Any) -> str:
    kinds = [row.dtype, str(row.input).rsplit(", ", 1)[-1]]
    kind = next((f", {name}" for name in kinds if isinstance(name, str) and name.startswith("float")), "")
    for text in (row.work, row.input):
        if re.search(r"\d+ (patches|classes)", str(text)):
            return f"{str(text).replace('^3', '³')}{kind}"
    several = " images of" if re.search(r" of \d+$", row.work) else ""  # thresholds of 256
    return f"{row.work.removeprefix('small ')}{several} {row.side}³{kind}"


def error_rows(errors: pd.DataFrame) -> list[list[str]]:
    """Lay out the largest error of the threshold, a row for every implementation and precision of the map."""
    table: Any = errors.assign(kind=[str(name).rsplit(", ", 1)[-1] for name in errors["input"]])
    rows = []
    for (who, kind), group in table.groupby(["peer", "kind"], sort=False):
        worst = next(groups(group))[0]._replace(met=group.met.all())
        rows.append([f"{who}, {kind}", number(group.ratio.max()), bar_text(worst), judgement(worst)])
    return rows


def memory_rows(memory: pd.DataFrame) -> list[list[str]]:
    """Lay out the memory of every call."""
    rows, calls = [], memory.itertuples()
    row: Any
    for row in calls:
        note = f" ({row.note})" if row.note not in ("", "VmHWM") else ""
        what = f"{row.work} {row.side}³, {row.peer}{note}"
        numbers = (number(x) for x in (row.extra_mib, row.traced_mib, row.ratio))
        rows.append([what, case_name(row), *numbers, bar_text(row), judgement(row)])
    return rows


def machine_facts() -> str:
    """List in Markdown on what machine, with what versions and how long the benchmarks were measured."""
    path = folder() / "speed_provenance.json"
    if not path.is_file():
        return f"*Not measured: `results/benchmarks/{path.name}` is missing. `make bench STORE=1` makes it.*"
    about = read_json(path)
    machine, threads, options = about["machine"], about["threads"], about["options"]
    cores = threads.pop("cores available")
    packages = {**about["packages"], **{k: v or "not installed" for k, v in about["peers"].items()}}
    gpu = f"torch device {about['device']}" if about["device"] else "none; the torch path is tested on the processor"
    calls = (
        f"{options['repeats']} counted calls, at most {options['limit']:g} s for each, {about['seconds']:.0f} s in all"
    )
    facts = {
        "processor": f"{machine['cpu']}, {cores} cores available",
        "accelerator": gpu,
        "system": f"{machine['system']}, Python {machine['python']}",
        "threads": ", ".join(f"{k} {v}" for k, v in threads.items()),
        "packages": ", ".join(f"{k} {v}" for k, v in packages.items()),
        "noisyseg": f"{about['version']}, commit {short_commits(about['commit'])}",
        "settings": calls,
    }
    for part, later in about.get("added", {}).items():
        where = f"on {later['machine']['cpu']}, noisyseg {later['version']}, commit {short_commits(later['commit'])}"
        facts[f"`--only {part}`"] = f"measured apart from the rest, {where}, {later['seconds']:.0f} s"
    return "\n".join(f"- **{what}**: {fact}" for what, fact in facts.items())
