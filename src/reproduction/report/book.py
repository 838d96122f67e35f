"""Building the book from a copy of its sources, with the page *Your run* filled if there are results of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import filelock

from reproduction.paths import project_root
from reproduction.report.results import VARIABLE
from reproduction.runs.notebook import BatchError

SOURCES = ("_config.yml", "_toc.yml", "book", "notebooks")
OF_THE_RUN = ("your_run.ipynb",)  # the chapters that show what was just run; all others show the stored results


def build_book(html: str | os.PathLike[str] = "_build/html", results: str | os.PathLike[str] | None = None) -> Path:
    """Build the book with warnings as errors and return its first page.

    Parameters
    ----------
    html
        Where the pages go; an earlier build there is replaced once the new one is complete, anything else is not.
    results
        Folder of the tables that were just made, of one preset or of several. If given, the chapters ``OF_THE_RUN``
        are executed with it, in the copy: the tree and its stored outputs stay as they are.

    Raises
    ------
    BatchError
        If a notebook or the build fails (the build's own last lines), or another process builds there.
    FileExistsError, FileNotFoundError
        If ``html`` holds something that is no built book, or ``results`` is no folder.
    """
    root = project_root()
    html = Path(html).resolve()
    if html.exists() and not (_is_build(html) or (html.is_dir() and not any(html.iterdir()))):
        raise FileExistsError(
            f"html is {html}, which is no earlier build of the book; it is left alone, name another folder"
        )
    if results is not None and not Path(results).is_dir():
        raise FileNotFoundError(f"results is {results}; expected a folder of result tables")
    html.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(html.parent / f".{html.name}.lock", timeout=0):
            return _build(root, html, html.parent / f".{html.name}.noisyseg-build", results)
    except filelock.Timeout as error:
        raise BatchError(f"another process builds the book in {html}; wait for it or stop it") from error


def _is_build(html: Path) -> bool:
    return (html / "index.html").is_file() and (html / "objects.inv").is_file()


def _build(root: Path, html: Path, work: Path, results: str | os.PathLike[str] | None) -> Path:
    # What a killed build left is of no use: its name is ours alone.
    shutil.rmtree(work, ignore_errors=True)
    stage = work / "source"
    stage.mkdir(parents=True)
    for name in SOURCES:
        if (root / name).is_dir():
            shutil.copytree(root / name, stage / name, ignore=shutil.ignore_patterns("templates", ".ipynb_checkpoints"))
        else:
            shutil.copy2(root / name, stage / name)
    environment = {**os.environ, "NOISYSEG_ROOT": str(root)}
    environment.pop(VARIABLE, None)
    started = time.monotonic()
    if results is not None:
        environment[VARIABLE] = str(Path(results).resolve())
        for name in OF_THE_RUN:
            _execute(stage / "notebooks" / name, environment, root)
    print("book: building the pages, about half a minute", flush=True)
    # -W makes warnings errors, -n lists every unresolved reference.
    # `-c`, because `-m jupyter_book.cli.main` does nothing, and this Python's scripts may not be on the path.
    run = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*run, "build", str(stage), "-W", "-n", "--keep-going", "-q"]
    _call([*command, "--path-output", str(work)], environment, root, "book")
    if not _is_build(work / "_build" / "html"):
        raise BatchError(f"the book's build ended well but left no pages in {work}")
    if html.exists():
        shutil.rmtree(html)
    os.replace(work / "_build" / "html", html)
    shutil.rmtree(work)
    print(f"book: done in {time.monotonic() - started:.0f} s", flush=True)
    return html / "index.html"


def _execute(notebook: Path, environment: dict[str, str], folder: Path) -> None:
    print(f"book: executing {notebook.name} with your results", flush=True)
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace"]
    _call([*command, "--log-level=ERROR", str(notebook)], environment, folder, f"notebook {notebook.name}")


def _call(command: list[str], environment: dict[str, str], folder: Path, what: str) -> None:
    done = subprocess.run(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-40:])
        print(last, file=sys.stderr)
        raise BatchError(f"{what} failed with exit code {done.returncode}; its output is above")
