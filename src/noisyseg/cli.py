"""The command ``noisyseg``: masks from files of probability maps, and whether these are probabilities."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import NamedTuple

import noisyseg
from noisyseg._core.files import atomic_file, check_target, uninterrupted
from noisyseg.calibration import Calibration
from noisyseg.maps.checking import check_arguments, check_files
from noisyseg.maps.grids import ENDINGS, stem
from noisyseg.maps.labelling import KINDS, label_case
from noisyseg.maps.metric import metric
from noisyseg.maps.opening import Options, inputs
from noisyseg.maps.thresholding import Row, Settings, threshold_case

INTERRUPTED = 130


class Command(NamedTuple):
    """A subcommand: what it is for, its arguments, and what it does; it gives the exit code."""

    about: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def threshold_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``noisyseg threshold``."""
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help=f"files that end in {', '.join(ENDINGS)}, or folders of such",
    )
    add("--out", required=True, type=Path, metavar="FOLDER", help="where the masks go; made if missing")
    add(
        "--metric",
        default="dice",
        choices=("dice", "jaccard", "f_beta", "tversky"),
        help="the score that shall be best",
    )
    add("--alpha", type=float, help="tversky: the cost of a false positive")
    add(
        "--beta",
        type=float,
        help="f_beta: so many times as much as precision does recall count; tversky: the cost of a miss",
    )
    add(
        "--mask", type=Path, metavar="ROI", help="the voxels that count: a file of 0 and 1, or a folder with one a case"
    )
    add(
        "--report",
        type=Path,
        metavar="CSV",
        help="a table with threshold, promised score, volumes, warnings of each mask",
    )
    add("--figure", action="store_true", help="a picture of each map next to its mask; needs matplotlib")
    add(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="cases side by side, each with the memory of one class (default 1)",
    )
    add("--calibration", type=Path, metavar="JSON", help="apply to every map what check --calibration has fitted")
    add(
        "--absent",
        metavar="P",
        help="decide first whether the structure is there: the probability that it is absent, or a CSV file with "
        "columns case and absent",
    )
    add(
        "--labels",
        choices=KINDS,
        help="one label map with the best mean Dice instead of a mask for each class: of exclusive classes, or of "
        "nested regions, the largest first; needs the memory of all classes",
    )
    add("--overwrite", action="store_true", help="replace files that exist")
    reading_arguments(parser)


def reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how files of maps are read."""
    add = parser.add_argument
    add(
        "--reference", type=Path, metavar="IMAGE", help="the image that the maps belong to, or a folder with one a case"
    )
    add("--key", metavar="NAME", help="the array of an .npz file, where it has several")
    add(
        "--axes",
        metavar="LETTERS",
        help="the axes of an array: x, y, z, c for classes, 1 for one of length 1; as in czyx",
    )
    add("--classes", metavar="LIST", help="names or numbers, as in 1-3,7 (default: all but a known background)")
    add("--clip", action="store_true", help="clip what rounding or interpolation left slightly outside [0, 1]")
    add("--any-affine", action="store_true", help="accept a missing affine, or one with axes not at right angles")


def threshold(arguments: argparse.Namespace) -> int:
    """Threshold all cases; what fails is named at the end."""
    given = arguments
    options = _options(given)
    score = metric(given.metric, given.alpha, given.beta)
    if given.absent is not None and given.metric != "dice":
        raise ValueError(f"--absent: expected --metric dice with it, got {given.metric}")
    if given.labels is not None:
        wrong = [f"--{name}" for name in ("absent", "calibration") if getattr(given, name) is not None]
        wrong += ["--figure"] * given.figure + [f"--metric {given.metric}"] * (given.metric != "dice")
        if wrong:
            raise ValueError(f"--labels: not with {', '.join(wrong)}")
    calibration = None if given.calibration is None else Calibration.load(given.calibration)
    how = (given.mask, given.clip, given.figure, given.overwrite, calibration, _absent(given.absent), given.labels)
    settings = Settings(given.out, score, options, *how)
    if given.jobs < 1:
        raise ValueError(f"--jobs: expected at least 1, got {given.jobs}")
    if given.figure and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--figure: matplotlib is missing; install it with pip install matplotlib")
    for name, path in (("--mask", given.mask), ("--reference", given.reference)):
        if path is not None and not path.exists():
            raise ValueError(f"{name}: there is no {path}")
    if given.out.exists() and not given.out.is_dir():
        raise ValueError(f"--out: expected a folder, {given.out} is a file")
    check_target("--report", given.report, given.overwrite)
    cases = [case for path in given.inputs for case in inputs(path)]
    _check_names(cases, given.out)
    rows: dict[Path, list[Row]] = {}
    failed: dict[Path, str] = {}
    start = time.monotonic()
    for case, result in _results(cases, settings, given.jobs):
        (failed if isinstance(result, str) else rows)[case] = result  # type: ignore[assignment]
        _progress(len(rows), len(failed), len(cases), start)
    _progress(len(rows), len(failed), len(cases), start, last=True)
    if given.report is not None:
        _write_report(given.report, [row for case in cases for row in rows.get(case, [])])
    noted = [(case, row) for case in cases for row in rows.get(case, []) if row.warnings]
    for case, row in noted if given.report is None else []:
        print(f"{case}{f' ({row.label})' if row.label else ''}: {row.warnings}", file=sys.stderr)
    for case in cases:
        if case in failed:
            print(f"error: {case}: {failed[case]}", file=sys.stderr)
    made = len(rows) if given.labels else sum(map(len, rows.values()))
    made = f"{made} {'label map' if given.labels else 'mask'}{'s' * (made != 1)}"
    said = [f"{len(rows)} of {len(cases)} case{'s' * (len(cases) != 1)} done", f"{made} in {given.out}"]
    said += [f"{len(noted)} with warnings" + f", see {given.report}" * (given.report is not None)] * bool(noted)
    print(*said, *[f"{len(failed)} failed"] * bool(failed), sep=", ")
    return int(bool(failed))


def _options(given: argparse.Namespace) -> Options:
    classes = tuple(given.classes.split(",")) if given.classes else ()
    return Options(given.key, given.axes, classes, given.reference, given.any_affine)


def _absent(given: str | None) -> float | dict[str, float] | None:
    """Read ``--absent``: a probability, or a table with one for each case."""
    if given is None:
        return None
    try:
        return float(given)
    except ValueError:
        pass
    if not Path(given).is_file():
        raise ValueError(f"--absent: expected a probability or a CSV file, got {given!r}, which is neither")
    with open(given, newline="") as file:
        table = csv.DictReader(file)
        try:
            return {row["case"]: float(row["absent"]) for row in table}
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"--absent: {given}: expected columns case and absent, numbers in the second, in line {table.line_num}"
            ) from None


def _check_names(cases: Sequence[Path], out: Path) -> None:
    """Raise `ValueError` before anything is written if masks would replace each other or a map."""
    seen: dict[str, Path] = {}
    for case in cases:
        name = stem(case)
        if case.resolve() in {other.resolve() for other in seen.values()}:
            raise ValueError(f"{case} is given twice")
        if name in seen:
            raise ValueError(f"{seen[name]} and {case} would have masks of one name; give them to two commands")
        if case.parent.resolve() == out.resolve():
            raise ValueError(f"--out: {out} holds {case.name}, a map; choose another folder")
        seen[name] = case


def _one(case: Path, settings: Settings) -> list[Row] | str:
    """Threshold a case; give its rows, or one line about what was wrong with it."""
    global _busy
    try:
        _busy = True
        return (threshold_case if settings.labels is None else label_case)(case, settings)
    except (ValueError, FileExistsError) as error:
        text = str(error)
    except MemoryError:
        text = "not enough memory for it; with fewer --jobs there is more for each"
    except Exception as error:  # damaged files raise nearly any kind: the others shall go on
        text = f"{type(error).__name__}: {error}"
    finally:
        _busy = False
        if _stopped:
            os._exit(INTERRUPTED)  # what was half written is gone; the pool would catch any exception and go on
    return " ".join(text.split())


def _results(cases: Sequence[Path], settings: Settings, jobs: int) -> Iterator[tuple[Path, list[Row] | str]]:
    if jobs == 1 or len(cases) == 1:
        yield from ((case, _one(case, settings)) for case in cases)
        return
    # Processes that share nothing: a fork would copy the threads of whoever called.
    pool = ProcessPoolExecutor(min(jobs, len(cases)), get_context("spawn"), _become_worker)
    try:
        futures = {pool.submit(_one, case, settings): case for case in cases}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        for worker in active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_busy = _stopped = False  # of a worker: whether it has a case in hand, and whether it was told to end


def _become_worker() -> None:
    """Leave Ctrl-C to the command, which then ends its workers; these remove what they have half written."""

    def stop(*_: object) -> None:
        global _stopped
        first, _stopped = not _stopped, True
        if not _busy:
            os._exit(INTERRUPTED)
        if first:
            sys.unraisablehook = lambda _: None  # a destructor swallows the exit: the case then goes on to its end
            sys.exit(INTERRUPTED)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)


def _progress(done: int, failed: int, cases: int, start: float, last: bool = False) -> None:
    """Keep one line of a terminal up to date."""
    if not sys.stderr.isatty():
        return
    seconds = (time.monotonic() - start) / max(1, done + failed) * (cases - done - failed)
    left = f", {int(seconds) // 60}:{int(seconds) % 60:02d} left"
    line = f"{done + failed}/{cases} cases" + f", {failed} failed" * bool(failed) + left
    print("\r\033[K" + line * (not last), end="", file=sys.stderr, flush=True)


def _write_report(path: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Row._fields)
    table.writerows(rows)
    with uninterrupted(), atomic_file(path) as file:
        file.write(text.getvalue().encode())


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    check_arguments(parser)
    reading_arguments(parser)


COMMANDS = {
    "threshold": Command("masks from probability maps, each with the best threshold", threshold_arguments, threshold),
    "check": Command(
        "whether maps are probabilities, from files of labels: use t, recalibrate first, or keep 1/2",
        _check_arguments,
        lambda given: check_files(given, _options(given)),
    ),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; give 0, 1 if something failed, 130 after Ctrl-C. Wrong arguments end the process with 2."""
    parser = argparse.ArgumentParser(prog="noisyseg", description="Which threshold? The book says why it works.")
    parser.add_argument("--version", action="version", version=noisyseg.__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.arguments(subparsers.add_parser(name, help=command.about, description=command.about))
    arguments = parser.parse_args(words)
    try:
        return COMMANDS[arguments.command].run(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: masks that are there are whole", file=sys.stderr)
        return INTERRUPTED
