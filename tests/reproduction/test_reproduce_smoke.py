"""The whole line on real MRI: data script, runs, tables, book; once more; and after every kind of kill -9."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

import tiny
from reproduction.config import Preset
from reproduction.data.cases import CaseSet
from reproduction.report.results import stored_results
from reproduction.runs.run import execute
from reproduction.runs.tables import PARTS, gather, main_table, read_results, write_results
from reproduction.scoring.rules import CONSTANTS, METHODS, OTHER_RULES, RANK_SOLVERS, rankseg_version
from reproduction.text import interval
from tiny import WAIT_S, Line, all_below, below, wait_for

pytestmark = pytest.mark.slow


def stamps(folder: Path) -> dict[str, int]:
    """Times of everything that a run or the tables write."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# once, and once more


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, hippocampus_source: Path) -> Line:
    """The smoke preset, made by the one command, in folders with a blank in their names."""
    folder = tmp_path_factory.mktemp("my folder")
    line = Line(folder / "my data", folder / "my runs", "smoke", hippocampus_source)
    code, output = line.run("--no-book")
    assert code == 0, output
    (folder / "output.txt").write_text(output)
    return line


@pytest.fixture(scope="module")
def again(smoke: Line) -> tuple[str, set[str], Path]:
    """The same command once more, with the book: what it said, what it wrote below `runs`, and the built pages."""
    before = stamps(smoke.runs / "smoke")
    html = smoke.data.parent / "html"
    code, output = smoke.run("--html", str(html))
    assert code == 0, output
    after = stamps(smoke.runs / "smoke")
    return output, {name for name in after if before.get(name) != after[name]}, html


def test_from_data_script_to_tables(smoke):
    plan = Preset.load("smoke")
    assert len(CaseSet(smoke.data / "hippocampus").entries("hippocampus")) == 260
    folder = smoke.runs / "smoke"
    for config in plan.runs():
        metrics = json.loads((folder / config.folder / "metrics.json").read_text())
        assert metrics["config_hash"] == config.hash and (metrics["train_cases"], metrics["test_cases"]) == (8, 4)
        assert (folder / config.folder / "run.ipynb").is_file()
    tables = folder / "results" / "smoke"
    assert {path.name for path in tables.iterdir()} == {*(f"{part}.csv" for part in PARTS), "provenance.json"}
    # The tables show what the runs produced, case by case, under every rule.
    parts = [pd.read_csv(folder / c.folder / "cases.csv") for c in plan.runs()]
    key = ["case", "method"]
    made = pd.concat(parts).sort_values(key).reset_index(drop=True).round(6)
    shown = pd.read_csv(tables / "cases.csv").sort_values(key).reset_index(drop=True)
    shown = shown.drop(columns="person")  # both sides of one person are two cases
    pd.testing.assert_frame_equal(shown, made.loc[:, shown.columns], check_exact=False, atol=1e-6, rtol=0)
    without = set() if rankseg_version() else set(RANK_SOLVERS)
    assert (
        set(shown["method"]) == {*METHODS, *OTHER_RULES, *CONSTANTS} - without
        and len(shown) == 4 * shown["method"].nunique()
    )
    rules = json.loads((tables / "provenance.json").read_text())["other_rules"]
    assert rules == {"runs": 2, "rankseg": [rankseg_version() or "not installed"]}


def test_the_terminal_shows_what_a_person_wants(smoke):
    lines = (smoke.data.parent / "output.txt").read_text().splitlines()
    assert lines[0].startswith("smoke: 2 runs, 0 done; ")
    run = "hippocampus-a0.020-ce-fold0-unet: "
    for expected in ("hippocampus: 260 of 260 cases", f"{run}epoch 2/2", f"{run}done, "):
        assert any(line.startswith(expected) for line in lines), expected
    tables = smoke.runs / "smoke" / "results" / "smoke"
    (row,) = main_table(read_results(tables)).to_numpy().tolist()
    assert any(line.split()[-4:] == [f"{value:.4f}" for value in row] for line in lines)
    assert lines[-1] == f"tables: {tables}"
    for step in (
        r"data below ",
        r"tables$",
        r"smoke is complete$",
        r"run 2 of 2: hippocampus, a = 0\.02, (ce|sd), fold 0$",
    ):
        assert any(re.match(rf"\[[^]]+\] {step}", line) for line in lines), step
    chatter = (
        "Building DAG",
        "Select jobs",
        "Provided cores",
        "jobid",
        "rule ",
        "Error",
        "Warning",
        "Traceback",
        "host:",
        "Nothing to be done",
    )
    assert not [line for line in lines if any(word in line for word in chatter)]


def test_the_second_call_makes_nothing_anew(again):
    output, written, _ = again
    assert (
        "smoke: 2 runs, 2 done" in output
        and ": epoch" not in output
        and "] run " not in output
        and "] tables" not in output
    )
    assert not [name for name in written if ".snakemake" not in name and not name.endswith(".lock")]


def test_one_page_shows_the_runs_numbers(smoke, again):
    output, _, html = again
    assert output.splitlines()[-1] == f"open {html / 'index.html'}" and (html / "index.html").is_file()
    rows = read_results(smoke.runs / "smoke" / "results" / "smoke").summary.set_index("method")

    def short(value: float) -> str:
        return f"{value:.3f}".removeprefix("0")

    def words(chapter: str) -> str:
        page = (html / "notebooks" / f"{chapter}.html").read_text()
        return " ".join(re.sub(r"<[^>]+>", " ", page).split())

    shown = words("your_run")
    for method in ("CE(0)", "SD(0)", "CE(*)"):
        ends = (float(rows.loc[method, f"dice_noisy{end}"]) for end in ("", "_lo", "_hi"))
        assert f"{interval(*ends)} stored" in shown
    assert "The preset smoke with 2 trainings" in shown and "stores no results of the preset smoke" in shown
    # The other pages go on showing what is stored.
    stored = stored_results()["hippocampus"].summary.iloc[0]
    assert f"{short(stored['dice_noisy'])} [" in words("experiment") and "smoke" not in words("experiment")


def test_a_run_that_was_deleted_is_made_anew_and_no_other(smoke):
    folder = smoke.runs / "smoke"
    gone, kept = (folder / config.folder for config in Preset.load("smoke").runs())
    before, outcome = stamps(kept), tiny.outcome(gone)
    tables = {part: (folder / "results" / "smoke" / f"{part}.csv").read_bytes() for part in ("cases", "summary")}
    shutil.rmtree(gone)
    code, output = smoke.run("--no-book")
    assert code == 0, output
    assert "smoke: 2 runs, 1 done" in output and tiny.outcome(gone) == outcome
    assert {name: time for name, time in stamps(kept).items() if name in before} == before
    for part, content in tables.items():
        assert (folder / "results" / "smoke" / f"{part}.csv").read_bytes() == content


# killed


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preset like smoke with enough epochs that there is a middle."""
    path = tmp_path_factory.mktemp("preset") / "middle.yaml"
    tiny.make_preset(path, epochs=24, train_cases=24, ceiling_samples=5, precision="float32")
    return path


@pytest.fixture(scope="module")
def reference(smoke: Line, middle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and runs of an uninterrupted run, made in this process, without papermill and Snakemake."""
    folder = tmp_path_factory.mktemp("reference")
    plan = Preset.load(middle)
    for config in plan.runs():
        execute(config, folder / config.folder, smoke.data, report=lambda line: None)
    write_results(gather(plan, folder), folder / "results")
    return folder


@pytest.fixture
def killed(smoke: Line, middle: Path, tmp_path: Path) -> Iterator[Line]:
    """Fresh runs of that preset; what is left of them in the end is killed."""
    line = Line(smoke.data, tmp_path / "runs", str(middle))
    yield line
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in argument for argument in process.info["cmdline"] or ()):
            with suppress(psutil.Error):
                process.kill()


def two_epochs_more(line: Line) -> Callable[[], bool]:
    """Tell whether the first run is two epochs further than now; not at its end, or the kill comes too late."""
    config = Preset.load(line.preset).run(loss="ce")
    path = line.runs / "middle" / config.folder / "progress.jsonl"

    def done() -> int:
        return path.read_text().count("\n") if path.is_file() else 0

    before = done()

    def check() -> bool:
        assert done() < config.epochs, "the run was too fast to be killed in its middle"
        return done() >= before + 2

    return check


def finish_and_compare(line: Line, reference: Path) -> str:
    """The same command again: numbers, tables and curves are those of the run that nobody disturbed."""
    code, output = line.run("--no-book")
    assert code == 0, output
    folder = line.runs / "middle"
    for config in Preset.load(line.preset).runs():
        assert tiny.outcome(folder / config.folder) == tiny.outcome(reference / config.folder)
        assert not (folder / config.folder / "failure.txt").exists()
    for part in PARTS:
        made, expected = folder / "results" / "middle" / f"{part}.csv", reference / "results" / f"{part}.csv"
        assert made.read_bytes() == expected.read_bytes(), part
    return output


def test_kill_everything_in_the_middle(killed, reference):
    process = killed.start("--no-book")
    wait_for(two_epochs_more(killed), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(WAIT_S)
    # And once more, only the command itself: it takes Snakemake along, so that two never work in one folder.
    process = killed.start("--no-book")
    # The killed run's kernel has a process group of its own and lives for another second: its epochs do not count.
    wait_for(lambda: all_below(process, "run"), process)
    wait_for(two_epochs_more(killed), process)
    snakemake = below(process, "snakemake")
    process.kill()
    process.wait(WAIT_S)
    snakemake.wait(WAIT_S)
    output = finish_and_compare(killed, reference)
    assert "smoke" not in output and "middle: 2 runs, " in output


def test_kill_single_processes_in_the_middle(killed, reference):
    # The process of one run: the other run is still made, and the command says that it is not done.
    process = killed.start("--no-book")
    wait_for(two_epochs_more(killed), process)
    below(process, "run").kill()
    assert process.wait(WAIT_S) == 1
    output = killed.shown()
    assert "failed: run -> hippocampus-a0.020-ce-fold0-unet" in output
    last = "reproduction: preset middle did not finish: failed: run -> hippocampus-a0.020-ce-fold0-unet"
    assert output.splitlines()[-1].startswith(last)
    assert "hippocampus-a0.020-sd-fold0-unet: done" in output
    # Snakemake: the run that it had started goes on without it; its successor waits for the run's lock.
    process = killed.start("--no-book")
    wait_for(two_epochs_more(killed), process)
    below(process, "snakemake").kill()
    assert process.wait(WAIT_S) == 1
    output = finish_and_compare(killed, reference)
    assert "hippocampus-a0.020-sd-fold0-unet: epoch" not in output  # it was done, and is not done again
