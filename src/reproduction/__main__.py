"""The command ``python -m reproduction``. Errors end in one line on standard error and exit code 1."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import noisyseg

if TYPE_CHECKING:
    from reproduction.config import Preset


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reproduction", description="The experiment of this repository: its data, runs, tables and book."
    )
    parser.add_argument("--version", action="version", version=f"noisyseg {noisyseg.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def add(name: str, text: str, *, preset: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        if preset:
            command.add_argument(
                "--preset", default="quick", help="name of a preset or path of a .yaml file (%(default)s)"
            )
        return command

    def folders(command: argparse.ArgumentParser, *names: str) -> None:
        for name in names:
            command.add_argument(f"--{name}", default=name, help=f"folder of the {name} (%(default)s)")

    reproduce = add(
        "grid", "make reproduce: data, missing runs, tables and book of a preset; goes on where it was stopped"
    )
    folders(reproduce, "data", "runs")
    reproduce.add_argument("--source", help="local copy of the data set, instead of downloading it")
    reproduce.add_argument("--cores", type=int, help="cores to use (all)")
    reproduce.add_argument(
        "--profile", help="where it runs: a folder below workflow/profiles, or its path (gpus with a GPU, else local)"
    )
    reproduce.add_argument("--dry-run", action="store_true", help="only show the plan: runs, hours from a timed step")
    reproduce.add_argument("--no-book", action="store_true", help="stop after the tables")
    reproduce.add_argument("--html", default="_build/html", help="where the book is built (%(default)s)")

    data = add("data", "make the data sets that a preset needs")
    folders(data, "data")
    data.add_argument("--source", help="local copy of the data set, instead of downloading it")

    run = add("run", "one training run, through its notebook")
    folders(run, "data", "runs")
    cell = add("cell", "the notebook of one organ and noise level")
    folders(cell, "runs")
    for command in (run, cell):
        command.add_argument("--organ")
        command.add_argument("--a", type=float)
    run.add_argument("--loss", choices=("ce", "sd"))
    run.add_argument("--fold", type=int)
    run.add_argument("--model")
    run.add_argument("--slots", default="", help="take one of these slots, and wait for it: see profile gpus")
    run.add_argument("--training-seed", type=int, help="where the preset has several")

    status = add("status", "what is done, running, failed or missing, and how long is left")
    folders(status, "runs")
    status.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores to plan for (%(default)s)")

    tables = add("tables", "collect the finished runs of a preset into tables")
    folders(tables, "runs")
    tables.add_argument("--out", help="folder of the tables (results/<preset>)")

    calibration = add("calibration", "score the finished runs of a preset again, with calibrated maps")
    folders(calibration, "data", "runs")
    calibration.add_argument("--out", help="folder of the table (results/<preset>)")

    examples = add("examples", "draw masks of the finished runs: of every setting the case in the middle and the worst")
    folders(examples, "data", "runs")
    examples.add_argument("--out", help="folder of the picture (results/<preset>)")

    noise = add("noise", "draw noisy labels on a patient of the preset's data set")
    folders(noise, "data")
    noise.add_argument("--out", help="folder of the picture (results/<preset>)")

    annotators = add("annotators", "measure a data set that several people drew: results/raters", preset=False)
    annotators.add_argument("--set", required=True, choices=("kits23", "bubil"), help="which data set")
    annotators.add_argument("--source", required=True, help="local copy of its drawings")
    annotators.add_argument("--out", help="folder of the tables (results/raters/<set>)")

    notebooks = add("notebooks", "execute chapters anew, in place", preset=False)
    notebooks.add_argument("files", nargs="*", metavar="FILE", help="notebooks (all of notebooks/)")

    times = add("times", "measure what executing the chapters takes: results/chapters", preset=False)
    times.add_argument("chapters", nargs="*", metavar="CHAPTER", help="names of chapters (all of the book)")

    book = add("book", "build the book", preset=False)
    book.add_argument("--results", help="tables of a run: the page Your run then shows them")
    book.add_argument("--html", default="_build/html", help="where the book is built (%(default)s)")

    pdf = add("pdf", "print the built book into one PDF", preset=False)
    pdf.add_argument("--html", default="_build/html", help="where the book has been built (%(default)s)")
    pdf.add_argument("--out", default="_build/noisyseg.pdf", help="the file to write (%(default)s)")
    return parser


def _point(arguments: argparse.Namespace, axes: tuple[str, ...]) -> dict[str, object]:
    return {axis: getattr(arguments, axis) for axis in axes if getattr(arguments, axis) is not None}


def _dispatch(arguments: argparse.Namespace) -> None:
    # Imports wait until they are needed: `--help` must not load torch.
    from reproduction.config import POINT, Preset
    from reproduction.paths import atomic_write, use_home, use_own_kernel

    use_own_kernel()
    if not getattr(arguments, "dry_run", False):
        home = Path(getattr(arguments, "runs", "_build")) / ".home"
        if use_home(home):
            print(f"the home folder cannot be written: caches go to {home}", file=sys.stderr)
    if arguments.command == "notebooks":
        from reproduction.runs.notebook import execute_chapters

        execute_chapters(arguments.files)
        return
    if arguments.command == "book":
        from reproduction.report.book import build_book

        print(f"open {build_book(arguments.html, arguments.results)}")
        return
    if arguments.command == "pdf":
        from reproduction.report.pdf import build_pdf

        print(f"open {build_pdf(arguments.out, arguments.html)}")
        return
    if arguments.command == "times":
        from reproduction.report.chapter_times import write_costs

        print(write_costs(arguments.chapters))
        return
    if arguments.command == "annotators":
        from reproduction.chapters.annotators import measure_annotators

        folder = arguments.out or Path("results") / "raters" / arguments.set
        measure_annotators(arguments.set, arguments.source, folder)
        print(folder)
        return
    if getattr(arguments, "cores", None) is not None and arguments.cores < 1:
        raise ValueError(f"--cores is {arguments.cores}; expected at least 1")
    preset = Preset.load(arguments.preset)
    if arguments.command == "grid":
        _reproduce(arguments, preset)
    elif arguments.command == "data":
        from reproduction.runs.notebook import prepare_data

        made = prepare_data(preset, arguments.data, arguments.source)
        cases = sum(len(entries) for entries in made.manifest["organs"].values())
        print(f"{made.folder}: {cases} cases, SHA-256 {made.digest[:12]}")
    elif arguments.command == "run":
        from reproduction.runs.gpus import take_slot
        from reproduction.runs.notebook import run_notebook

        config = preset.run(**_point(arguments, POINT))
        slots = arguments.slots.split(",") if arguments.slots else []
        with take_slot(slots, Path(arguments.runs) / preset.name / ".slots"):
            folder = run_notebook(arguments.preset, config, preset.name, arguments.data, arguments.runs)
        print(folder)
    elif arguments.command == "cell":
        from reproduction.runs.notebook import execute_notebook

        # The other axes do not matter here: any run of the cell has its organ and a.
        some = {axis: points[0] for axis, points in preset.grid.items() if axis not in ("organ", "a")}
        config = preset.run(**some, **_point(arguments, ("organ", "a")))
        target = Path(arguments.runs) / preset.name / "cells" / f"{config.organ}-a{config.a:.3f}.ipynb"
        parameters = {"preset": arguments.preset, "organ": config.organ, "a": config.a, "runs": arguments.runs}
        execute_notebook("cell", target, parameters)
        print(target)
    elif arguments.command == "status":
        from reproduction.runs.status import report

        print(report(preset, arguments.runs, arguments.cores))
    elif arguments.command == "tables":
        from reproduction.runs.model_tables import write_tables

        home = Path(arguments.runs) / preset.name
        print(write_tables(preset, home, arguments.out or Path("results") / preset.name))
    elif arguments.command == "calibration":
        from reproduction.runs.calibration import collect_calibrations, write_calibrations

        tables = collect_calibrations(preset, Path(arguments.runs) / preset.name, arguments.data)
        print(write_calibrations(*tables, arguments.out or Path("results") / preset.name))
    elif arguments.command == "noise":
        from reproduction.data.cases import CaseSet
        from reproduction.figures.showing import as_png
        from reproduction.figures.views import plot_noisy_labels
        from reproduction.runs.examples import DRAWS, first_with_all, noisy_rows, write_noisy_rows

        config = preset.runs()[0]
        cases = first_with_all(CaseSet(Path(arguments.data) / config.data_folder))
        setting = [a for a in preset.grid["a"] if a > 0], config.b, DRAWS
        out = Path(arguments.out or Path("results") / preset.name)
        print(atomic_write(out / "noise.png", as_png(plot_noisy_labels(cases, *setting))))
        write_noisy_rows(noisy_rows(cases, *setting), out)
    elif arguments.command == "examples":
        from reproduction.figures.showing import as_png
        from reproduction.figures.views import plot_examples
        from reproduction.runs.examples import collect_examples, write_examples

        out = Path(arguments.out or Path("results") / preset.name)
        examples = collect_examples(preset, Path(arguments.runs) / preset.name, arguments.data)
        print(atomic_write(out / "examples.png", as_png(plot_examples(examples))))
        write_examples(examples, out)


def _reproduce(arguments: argparse.Namespace, preset: Preset) -> None:
    from reproduction.runs.grid import run_grid

    folder = run_grid(
        arguments.preset,
        arguments.data,
        arguments.runs,
        arguments.source,
        arguments.cores,
        arguments.profile,
        arguments.dry_run,
    )
    if arguments.dry_run:
        return
    from reproduction.runs.model_tables import overview

    table = overview(folder).to_string(float_format=lambda value: f"{value:.4f}")
    last = f"\nMean test Dice against the noisy labels, and its ceiling\n\n{table}\n\ntables: {folder}"
    if not arguments.no_book:
        from reproduction.report.book import build_book

        last += f"\nopen {build_book(arguments.html, folder.parent)}"
    print(last)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code. ``NOISYSEG_TRACEBACK=1`` shows where an error came from.

    Examples
    --------
    >>> main(["status", "--preset", "hipocampus"])
    1
    """
    try:
        # Lines appear as they are made, also in a log, where other processes write between them.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        try:
            _dispatch(_parser().parse_args(argv))
        finally:
            sys.stdout.flush()  # a closed pipe is noticed here, not when Python ends
    except KeyboardInterrupt:
        print("reproduction: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("NOISYSEG_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        if not text or not isinstance(error, (ValueError, OSError, RuntimeError, ArithmeticError)):
            kind = f"unexpected {type(error).__name__}"
            text = f"{kind}: {text}" if text else kind
            text += " (NOISYSEG_TRACEBACK=1 shows where)"
        print(f"reproduction: {text}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
