"""Speed and memory, side by side with the paper's listings and other packages, in one process: ``make bench``.

    python benchmarks/run.py [--sides 64 128 256] [--repeats 9] [--limit 6] [--quick] [--only WORK ...] [--store]

Calls that are compared are timed in turns; medians are compared, as ratios. Every bar is printed with the worst case of
all its inputs. Every package runs as installed, with its own default number of threads. ``--store`` writes the tables
and where they come from to ``results/benchmarks``; the book's chapter "Speed" shows them. ``--only WORK --add``
measures these works alone and puts their rows in the place of the stored ones; the provenance names them apart.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import chain
from pathlib import Path

import torch

import memory
import peers
import small
from harness import Row, compare, in_turns, renew_table, summary_lines, verdict_line, verdicts, write_table
from profiles import profile_rows
from reproduction.paths import project_root, read_json, write_json
from reproduction.provenance import provenance
from steps import SIDE, step_rows
from works import BATCH, errors, tasks

TIMED = ("sample", "small-b", "batch", "marginal", "threshold", "labels", "training", "step", "device", "small", "many")
WORKS = (*TIMED, "errors", "memory", "profile")
OPTIONS = ("sides", "small", "large", "repeats", "limit", "whole")
PROVENANCE = "speed_provenance.json"


def read_arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed and memory, side by side in one process.")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256], help="sides of the images, in voxels")
    parser.add_argument("--small", type=int, nargs="+", default=list(small.SIDES), help="sides of the small images")
    parser.add_argument("--large", type=int, default=512, help="side of the largest map in the memory table")
    parser.add_argument("--repeats", type=int, default=9, help="counted calls of everything that is fast enough")
    parser.add_argument("--limit", type=float, default=6.0, help="seconds after which a call is not repeated")
    parser.add_argument("--whole", action="store_true", help="let GSTools deform whole images (minutes a sample)")
    parser.add_argument("--quick", action="store_true", help="16^3, one repeat: does everything run?")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), help="these works alone")
    parser.add_argument("--device", help="also run on this torch device (default: cuda where there is one)")
    parser.add_argument("--store", action="store_true", help="write the tables and their provenance")
    parser.add_argument("--add", action="store_true", help="with --only: renew the stored rows of these works alone")
    parser.add_argument("--out", type=Path, help="folder to store in (default: results/benchmarks)")
    arguments = parser.parse_args(given)
    if arguments.add and (arguments.store or set(arguments.only) == set(WORKS)):
        parser.error("--add goes with --only and without --store: it renews a part of what is stored")
    if (arguments.store or arguments.add) and arguments.out is None:
        if arguments.quick or (arguments.store and set(arguments.only) != set(WORKS)):
            parser.error("--quick and --only measure a part: name a folder for it with --out, or use --only with --add")
        arguments.out = project_root() / "results" / "benchmarks"
    if arguments.add and not (arguments.out / PROVENANCE).is_file():
        parser.error(f"--add: {arguments.out / PROVENANCE} does not exist, so there is nothing to add to")
    if arguments.quick:
        arguments.sides, arguments.large, arguments.repeats, arguments.limit = [16], 24, 1, 1.0
    if min(arguments.sides + arguments.small) < 4 or arguments.repeats < 1:
        parser.error("expected sides of at least 4 voxels and at least one repeat")
    arguments.sides = sorted(set(arguments.sides))
    if arguments.device is None and torch.cuda.is_available():
        arguments.device = "cuda"
    return arguments


def about(arguments: argparse.Namespace, seconds: float) -> Row:
    """Give the machine, the threads, the versions and the options that the tables come from."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        **provenance(),
        "peers": peers.versions(),
        "threads": {
            "cores available": available,
            "torch": torch.get_num_threads(),
            **{name: os.environ[name] for name in names if name in os.environ},
        },
        "device": arguments.device,
        "options": {
            name: getattr(arguments, name) for name in ("sides", "small", "large", "repeats", "limit", "whole")
        },
        "gstools_points": peers.GSTOOLS_POINTS,
        "batch": BATCH,
        "seconds": round(seconds, 1),
    }


def print_row(row: Row) -> None:
    """Print one error or one peak of memory."""
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3g}"
    case = " ".join(filter(None, [row["input"], row.get("dtype")]))
    line = f"{row['work']} {row['side']}^3".ljust(28) + f" {case:20} {row['peer']:22} {row['quantity']} {ratio}"
    print(f"        {line}  {row['note']}".rstrip(), flush=True)


def main(given: list[str] | None = None) -> int:
    """Measure, print, judge and, if asked, store."""
    arguments = read_arguments(given)
    started = time.perf_counter()
    speed: list[Row] = []
    every = tasks(arguments.sides, arguments.whole, arguments.device, arguments.quick)
    for name, make in chain(every, small.tasks(tuple(arguments.small), arguments.quick)):
        if name in arguments.only:
            task = make()
            rows = compare(task, in_turns(task.calls, arguments.repeats, arguments.limit))
            speed += rows
            for line in summary_lines(rows):
                print(f"{time.perf_counter() - started:5.0f} s  {line}", flush=True)
    wrong: list[Row] = []
    if "errors" in arguments.only:
        for row in errors(arguments.sides[-1]):
            wrong.append(row)
            print_row(row)
    used: list[Row] = []
    if "memory" in arguments.only:
        cases = memory.plan(arguments.sides, arguments.large)
        for case in cases[:1] if arguments.quick else cases:
            used.append(memory.in_process(case))
            print_row(used[-1])
    parts = list(profile_rows(arguments.sides[-1])) if "profile" in arguments.only else []
    if "step" in arguments.only:
        parts += step_rows(32 if arguments.quick else SIDE)
    print("\nBars, each with the worst of its inputs:")
    for row in verdicts([*speed, *wrong, *used]):
        print(verdict_line(row))
    absent = [said for said in map(peers.missing, peers.PACKAGES) if said]
    print("\n".join(absent or ["All peers are installed."]))
    seconds = time.perf_counter() - started
    print(f"{len(speed)} comparisons in {seconds:.0f} s on {os.cpu_count()} cores")
    if arguments.store or arguments.add:
        facts, path = about(arguments, seconds), arguments.out / PROVENANCE  # before our own tables change the checkout
        for name, table in (("speed", speed), ("memory", used), ("errors", wrong), ("profile", parts)):
            if table:
                (renew_table if arguments.add else write_table)(arguments.out / f"{name}.csv", table)
        if arguments.add:
            stored = read_json(path)
            facts = {**stored, "added": {**stored.get("added", {}), **dict.fromkeys(arguments.only, facts)}}
        write_json(path, facts)
        print(f"stored in {arguments.out}")
    return 0


if __name__ == "__main__":
    if not torch.cuda.is_available():
        memory.limit_memory()
    sys.exit(main())
