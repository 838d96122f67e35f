"""Timing in turns, bars and stored tables. Knows nothing of what is measured: that stands in run.py."""

from __future__ import annotations

import csv
import io
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reproduction.paths import atomic_write

SLOW_S = 1.0  # a call that takes longer needs no call to warm up
BRIEF_S = 0.1  # a call that is shorter gets an uncounted one at every turn, so that what ran before does not matter

Row = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """What a ratio has to be: ``Bar(">=", 50)`` or ``Bar("<=", 6)``."""

    sense: str
    value: float

    def met(self, ratio: float) -> bool:
        return ratio >= self.value if self.sense == ">=" else ratio <= self.value


@dataclass(frozen=True)
class Call:
    """Something to be timed.

    `per` is the work done, in units of what it is compared with: 8 for a batch of eight samples, 1/64 for a
    sixty-fourth of an image. `least` calls are made however long they take; `check` turns the first result into a
    note, outside the timing. `run` is None for a package that is not there; `note` then says so.
    """

    run: Callable[[], Any] | None
    per: float = 1.0
    least: int = 1
    note: str = ""
    check: Callable[[Any], str] | None = None


@dataclass
class Times:
    """Milliseconds of every counted call, divided by its work, and a note."""

    ms: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.ms) if self.ms else math.nan

    @property
    def fastest(self) -> float:
        return min(self.ms, default=math.nan)


@dataclass(frozen=True)
class Pair:
    """Two calls to compare, on the same input. A bar with ``<=`` turns the ratio round: ours / peer.

    `name` is how the peer is called in the table, `work` what is done; without them the call's and the task's names.
    """

    input: str
    ours: str
    peer: str
    bar: Bar | None = None
    name: str = ""
    work: str = ""


@dataclass(frozen=True)
class Task:
    """Calls that are timed together, in turns, and the pairs of them that are compared."""

    work: str
    side: int
    calls: Mapping[str, Call]
    pairs: Sequence[Pair]
    device: str = "cpu"


def in_turns(
    calls: Mapping[str, Call], repeats: int, limit_s: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Times]:
    """Time all calls, one after the other, `repeats` rounds: what changes on the machine meanwhile hits them alike.

    A call drops out once it has taken `limit_s` seconds in all, but not before it was counted `least` times, at least
    once. One that raises an exception drops out with its message as the note.
    """
    times = {name: Times(note=call.note) for name, call in calls.items()}
    spent = dict.fromkeys(calls, 0.0)
    first = dict.fromkeys(calls, 0.0)

    def timed(name: str, counted: bool, keep: bool = False) -> Any:
        run = calls[name].run
        assert run is not None
        start = clock()
        result = run()
        if not keep:
            result = None  # freeing it belongs to the call
        seconds = clock() - start
        spent[name] += seconds
        if counted:
            times[name].ms.append(1e3 * seconds / calls[name].per)
        else:
            first[name] = first[name] or seconds
        return result

    alive = []
    for name, call in calls.items():
        if call.run is None:
            continue
        try:
            result = timed(name, counted=False, keep=True)
            if call.check is not None:
                times[name].note = "; ".join(filter(None, [call.note, call.check(result)]))
            del result
        except Exception as error:  # a peer's failure is a result too
            times[name].note = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        if first[name] > SLOW_S:
            times[name].ms.append(1e3 * first[name] / call.per)
        else:
            spent[name] = 0.0
        alive.append(name)
    for _ in range(repeats):
        for name in alive:
            count = len(times[name].ms)
            if count >= repeats or (count >= calls[name].least and spent[name] >= limit_s):
                continue
            if first[name] < BRIEF_S:
                timed(name, counted=False)
            timed(name, counted=True)
    return times


def compare(task: Task, times: Mapping[str, Times]) -> list[Row]:
    """Make one row of every pair: medians, the fastest calls, the ratio of the medians and whether the bar is met.

    Where one side could not be measured, its numbers, the ratio and ``met`` are None and the note says why. If that
    side is ours, a bar counts as missed.
    """
    rows = []
    for pair in task.pairs:
        ours, peer = times[pair.ours], times[pair.peer]
        turned = pair.bar is not None and pair.bar.sense == "<="
        ratio = ours.median / peer.median if turned else peer.median / ours.median
        known, worst = not math.isnan(ratio), math.inf if turned else -math.inf
        notes = [f"ours: {ours.note}" if ours.note else "", peer.note]
        rows.append(
            {
                "work": pair.work or task.work,
                "side": task.side,
                "device": task.device,
                "input": pair.input,
                "peer": pair.name or pair.peer,
                "ms": _number(ours.median),
                "peer_ms": _number(peer.median),
                "fastest_ms": _number(ours.fastest),
                "peer_fastest_ms": _number(peer.fastest),
                "calls": len(ours.ms),
                "peer_calls": len(peer.ms),
                "quantity": "ours / peer" if turned else "peer / ours",
                "ratio": _number(ratio),
                **judged(pair.bar, ratio if known else worst if not ours.ms else None),
                "note": "; ".join(filter(None, notes)),
            }
        )
    return rows


def judged(bar: Bar | None, ratio: float | None) -> Row:
    """Give the columns ``sense``, ``bar`` and ``met`` of a row."""
    met = None if bar is None or ratio is None else bar.met(ratio)
    return {"sense": bar.sense if bar else None, "bar": bar.value if bar else None, "met": met}


def verdicts(rows: Iterable[Row]) -> list[Row]:
    """Keep, of the rows that have a bar, the worst input of every work, side, device and peer, in the order met.

    A row that could not be judged (``met`` is None) stands for its group only if no row of the group could be.
    """
    worst: dict[tuple, Row] = {}
    for row in rows:
        if row["bar"] is None:
            continue
        key = (row["work"], row["side"], row.get("device"), row["peer"])
        if key not in worst or _badness(row) > _badness(worst[key]):
            worst[key] = row
    return list(worst.values())


def _badness(row: Row) -> float:
    if row["met"] is None:
        return -math.inf
    if row["ratio"] is None:
        return math.inf
    return row["ratio"] if row["sense"] == "<=" else -row["ratio"]


def verdict_line(row: Row) -> str:
    """Say in one line what was asked and whether it is met."""
    state = {True: "met", False: "MISSED", None: "not judged"}[row["met"]]
    where = f"{row['work']} {row['side']}^3" + (f" on {row['device']}" if row.get("device", "cpu") != "cpu" else "")
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3g}"
    note = f" [{row['note']}]" if row["note"] and row["met"] is None else ""
    asked = f"{row['quantity']} {ratio} ({row['sense']} {row['bar']:g})"
    return f"{state:10} {where:28} {row['peer']:24} {asked}, worst for {row['input']}{note}"


def summary_lines(rows: Iterable[Row]) -> list[str]:
    """Say in one line for every work, side, device and peer: how long both take and the range of the ratios."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["work"], row["side"], row["device"], row["peer"]), []).append(row)
    lines = []
    for (work, side, device, peer), group in groups.items():
        where = f"{work} {side}^3" + (f" on {device}" if device != "cpu" else "")
        notes = "; ".join(dict.fromkeys(row["note"] for row in group if row["note"]))
        spans = [_span([row[name] for row in group]) for name in ("ms", "peer_ms", "ratio")]
        text = f"ours {spans[0]} ms, theirs {spans[1]} ms, {group[0]['quantity']} {spans[2]}"
        case = group[0]["input"] if len(group) == 1 else f"{len(group)} inputs"
        lines.append(f"{where:28} {case:16} {peer:22} {text}  {notes}".rstrip())
    return lines


def _span(values: Sequence[float | None]) -> str:
    known = [x for x in values if x is not None]
    low, high = (f"{x:.3g}" for x in (min(known), max(known))) if known else ("-", "-")
    return low if low == high else f"{low} to {high}"


def table_text(rows: Sequence[Row]) -> str:
    """Write rows as CSV; floats get six digits, None an empty field."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return out.getvalue()


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Store rows as CSV, atomically."""
    return atomic_write(path, table_text(rows))


def renew_table(path: Path, rows: Sequence[Row]) -> Path:
    """Store rows in place of those of the same works that the file has; all others stay as they are."""
    works = {row["work"] for row in rows}
    kept: list[Row] = []
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            kept = [dict(row) for row in csv.DictReader(file)]
    place = next((k for k, row in enumerate(kept) if row["work"] in works), len(kept))
    before, after = ([row for row in part if row["work"] not in works] for part in (kept[:place], kept[place:]))
    return write_table(path, [*before, *rows, *after])


def _number(x: float) -> float | None:
    return None if math.isnan(x) else x
