"""kill -9 at random times: of the training process, papermill, Snakemake, the command, and of all of them at once.

The same command is started until the grid is finished. Its tables must be those of a grid that nobody disturbed, bit
for bit, and nothing may be computed twice but the epoch that a kill interrupted.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import tiny
from reproduction.config import Preset
from reproduction.data.phantoms import cases as phantom_set
from reproduction.runs.run import execute
from reproduction.runs.tables import PARTS, gather, write_results
from tiny import TIMES, WAIT_S, Line, all_below

pytestmark = pytest.mark.slow

SEEDS = (1, 3)  # of the kills: their order and their moments
TARGETS = {"kernel": 3, "papermill": 2, "snakemake": 2, "reproduce": 2, "everything": 1}  # kills of each seed
PAUSE_S = 0.2  # added to every epoch, without work, so that there are moments within one
EPOCHS = 5

# IPython runs this in every kernel before the notebook: a line for every epoch that begins, with the process's number.
# Lines are only ever added, so that they also tell of epochs whose process was killed.
HOOK = """
def _log_epochs():
    import os, time
    from reproduction.runs import run as experiment
    from reproduction.network.training import Trainer

    def add(what, run):
        with open(os.environ["NOISYSEG_TEST_LOG"], "a") as file:
            file.write(f"{os.getpid()} {run} {what}\\n")

    run_epoch, score, write_json = Trainer.run_epoch, experiment.Run.score, experiment.write_json

    def logged_epoch(trainer):
        add(trainer.epoch, trainer.config.name)
        time.sleep(float(os.environ["NOISYSEG_TEST_PAUSE_S"]))
        return run_epoch(trainer)

    def logged_scores(run):
        if run.metrics is None:
            add("scores", run.config.name)
        return score(run)

    def logged_json(path, value):
        if path.name == "metrics.json":
            add("metrics", value["run"])
        return write_json(path, value)

    Trainer.run_epoch, experiment.Run.score, experiment.write_json = logged_epoch, logged_scores, logged_json

_log_epochs()
del _log_epochs
"""


@dataclass
class Grid:
    """One grid that is killed again and again."""

    line: Line
    log: Path
    plan: Preset
    written: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.line.runs / self.plan.name

    def events(self) -> list[tuple[int, str, str]]:
        """What the kernels have begun so far: process, run, and the epoch, `scores` or `metrics`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(int(pid), run, what) for pid, run, what in (line.split() for line in lines)]

    def finished_runs(self) -> int:
        """Runs that have a result; one that is there must stay the file that it is."""
        for config in self.plan.runs():
            with suppress(FileNotFoundError):
                path = self.home / config.folder / "metrics.json"
                stamp = (path.stat().st_ino, path.read_bytes())
                assert self.written.setdefault(config.name, stamp) == stamp, f"{config.name} was written twice"
        return len(self.written)


@dataclass
class Kill:
    """What is killed, and when: so many events after the last one, or in a late stage, and a while later."""

    target: str
    moment: str
    events: int
    later_s: float


def draw_kills(seed: int) -> list[Kill]:
    """What is killed in the grids of a seed, in a random order, at random moments."""
    rng = random.Random(seed)
    targets = [target for target, count in TARGETS.items() for _ in range(count)]
    rng.shuffle(targets)
    kills = []
    for target in targets:
        # A late kill falls into the tables, when there are no more runs to be killed.
        late = ("late",) if target in ("reproduce", "everything") else ()
        moment = rng.choice(("start", "epoch", *late))
        later_s = rng.uniform(0, {"start": 2.0, "epoch": 2 * PAUSE_S, "late": 2.0}[moment])
        kills.append(Kill(target, moment, rng.randint(1, 3), round(later_s, 3)))
    return kills


def victims(process: subprocess.Popen[bytes], target: str) -> list[psutil.Process]:
    """The processes to kill, if they are there now."""
    with suppress(psutil.Error):
        command = psutil.Process(process.pid)
        papermill = all_below(process, "run")[-1:]
        if target == "reproduce":
            return [command]
        if target == "snakemake":
            return all_below(process, "snakemake")[:1]
        if target == "papermill":
            return papermill
        if target == "kernel":
            return [child for run in papermill for child in run.children() if "ipykernel_launcher" in child.cmdline()]
        # As when the power fails; the kernel has a process group of its own.
        return [command, *command.children(recursive=True)]
    return []


def kill(found: list[psutil.Process]) -> bool:
    """Kill -9; tell whether any of them was still there."""
    struck = False
    for victim in found:
        with suppress(psutil.Error):
            victim.kill()
            struck = True
    return struck


def attempt(grid: Grid, kills: list[Kill], story: list[str]) -> int:
    """Start the command once and kill in it what is to be killed; return its exit code. Kills made are taken off."""
    process = grid.line.start("--no-book")
    begun, base = time.monotonic(), len(grid.events())
    struck = []
    while process.poll() is None:
        assert time.monotonic() - begun < WAIT_S, "the command does not end"
        time.sleep(0.1)  # to look for processes is work
        done = grid.finished_runs()
        # The command goes on after a run was killed, and ends after any other kill.
        if not kills or not {*struck} <= {"kernel", "papermill"}:
            continue
        following, events = kills[0], len(grid.events())
        due = {"start": True, "epoch": events >= base + following.events, "late": done == len(grid.plan.runs())}
        if due[following.moment] and victims(process, following.target):
            time.sleep(following.later_s)
            if kill(victims(process, following.target)):
                struck.append(kills.pop(0).target)
                base = len(grid.events())
                story.append(f"{time.monotonic() - begun:.1f} s: {following}, {done} runs were done, {base} events")
    code = process.wait(WAIT_S)
    story.append(f"{time.monotonic() - begun:.1f} s: exit code {code}")
    # The grid is finished if nobody disturbed it this time. (It may also be in spite of a kill.)
    assert struck or code == 0, f"exit code {code} without a kill"
    return code


def provenance(tables: Path) -> dict[str, Any]:
    """What provenance.json says, less times."""
    facts = json.loads((tables / "provenance.json").read_text())
    del facts["created"], facts["commit"]  # somebody may commit while the tests run
    facts["runs"] = [{name: value for name, value in run.items() if name not in TIMES} for run in facts["runs"]]
    return facts


def check_nothing_was_done_twice(grid: Grid, kills: int) -> None:
    """Go through the epochs of every run in the order in which they began."""
    events = grid.events()
    again = 0
    for config in grid.plan.runs():
        reached, process = -1, None
        for pid, run, what in events:
            if run != config.name or not what.isdecimal():
                continue
            epoch = int(what)
            if pid == process:
                assert epoch == reached + 1, f"{run}: epoch {epoch} after {reached} in one process"
            else:
                # The last process was killed in epoch `reached`, or after it.
                assert epoch in (reached, reached + 1), f"{run}: another process took up epoch {epoch} after {reached}"
                again += epoch == reached
            reached, process = epoch, pid
        assert reached == EPOCHS - 1
        # What comes after training may be interrupted, too; a run with a result is not begun again.
        last = [what for _, run, what in events if run == config.name][-1]
        assert last == "metrics", f"{config.name}: {last} after its result"
    assert again <= kills, f"{again} epochs were computed again after {kills} kills"
    epochs = sum(what.isdecimal() for _, _, what in events)
    assert epochs == EPOCHS * len(grid.plan.runs()) + again


def check_outcome(grid: Grid, reference: Path) -> None:
    """Numbers, tables and provenance are those of the grid that nobody disturbed."""
    for config in grid.plan.runs():
        assert tiny.outcome(grid.home / config.folder) == tiny.outcome(reference / config.folder)
    tables = grid.home / "results" / grid.plan.name
    assert sorted(path.name for path in tables.iterdir()) == sorted(path.name for path in (reference / "t").iterdir())
    for part in PARTS:
        assert (tables / f"{part}.csv").read_bytes() == (reference / "t" / f"{part}.csv").read_bytes(), part
    assert provenance(tables) == provenance(reference / "t")


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on five phantoms."""
    path = tmp_path_factory.mktemp("preset") / "grid.yaml"
    changes = {**tiny.SMALL, "dataset": "phantoms", "phantom_size": 16, "phantom_cases": 5, "phantom_seed": 1}
    changes |= {"intensity_scale": 200.0, "epochs": EPOCHS, "batch_size": 2}
    tiny.make_preset(path, {"organ": ["kidney"]}, **changes)
    return path


@pytest.fixture(scope="module")
def reference(preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs and tables that nobody disturbed, made in this process, without papermill and Snakemake."""
    folder = tmp_path_factory.mktemp("reference")
    plan = Preset.load(preset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISYSEG_DEVICE", "cpu")
        phantom_set.make_phantoms(folder / "data" / plan.runs()[0].data_folder, 16, 5, 1, report=lambda line: None)
        for config in plan.runs():
            execute(config, folder / config.folder, folder / "data", report=lambda line: None)
        write_results(gather(plan, folder), folder / "t")
    yield folder


@pytest.fixture
def fresh(preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Grid]]:
    """Make another grid that has not been begun; what is left of all of them in the end is killed."""
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-log.py").write_text(HOOK)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))  # kernels are known by it, below
    monkeypatch.setenv("NOISYSEG_TEST_PAUSE_S", str(PAUSE_S))
    monkeypatch.setenv("NOISYSEG_DEVICE", "cpu")
    made: list[Grid] = []

    def make() -> Grid:
        folder = tmp_path / f"grid{len(made)}"
        folder.mkdir()
        monkeypatch.setenv("NOISYSEG_TEST_LOG", str(folder / "log.txt"))
        made.append(Grid(Line(folder / "data", folder / "runs", str(preset)), folder / "log.txt", Preset.load(preset)))
        return made[-1]

    yield make
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in argument for argument in process.info["cmdline"] or ()):
            with suppress(psutil.Error):
                process.kill()


@pytest.mark.parametrize("seed", SEEDS)
def test_tables_after_kills_are_those_of_a_grid_that_nobody_disturbed(seed, fresh, reference):
    kills = draw_kills(seed)
    story = [f"seed {seed}"]
    grid = None
    try:
        while kills:
            grid, before = fresh(), len(kills)
            story.append("a new grid")
            while attempt(grid, kills, story):
                pass
            grid.finished_runs()
            check_outcome(grid, reference)
            check_nothing_was_done_twice(grid, before - len(kills))
    except AssertionError as error:
        shown = grid.line.shown() if grid else ""
        raise AssertionError("\n".join([str(error), *story, f"still to come: {kills}", shown])) from error


def test_there_are_enough_kills():
    kills = [kill for seed in SEEDS for kill in draw_kills(seed)]
    assert len(kills) >= 20 and {kill.moment for kill in kills} == {"start", "epoch", "late"}
    assert {kill.target for kill in kills} == {"kernel", "papermill", "snakemake", "reproduce", "everything"}
    assert [draw_kills(seed) for seed in SEEDS] == [draw_kills(seed) for seed in SEEDS]
    assert os.environ.get("NOISYSEG_TEST_LOG") is None, "the hook belongs to these tests alone"
