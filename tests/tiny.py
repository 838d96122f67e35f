"""A data set, presets and child processes that are small enough for tests of whole runs."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from reproduction.config import AXES, Preset, RunConfig
from reproduction.data.cases import Case, CaseSet, write_case, write_manifest
from reproduction.network.training import Trainer
from reproduction.runs import run as experiment
from reproduction.runs.tables import PARTS, gather, write_results

#: What differs between two runs of the same configuration, and nothing else.
TIMES = {"training_s", "wall_s", "cpu_s", "peak_memory_mib", "finished"}
CLOCKS = {"seconds", "wall_s", "cpu_s"}  # of an epoch
SMALL: dict[str, Any] = {
    **{"train_cases": 0, "test_cases": 0, "features": [2, 4], "epochs": 4, "batch_size": 3, "ceiling_samples": 5},
    **{"precision": "float32"},
}
WAIT_S = 900  # for a loaded machine; nothing here measures time


def make_data(data: Path, cases: int = 10, side: int = 16, seed: int = 0) -> CaseSet:
    """Balls of several sizes on a noisy ground, as the data set `hippocampus` below `data`."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"))
    entries = {}
    for k in range(cases):
        centre = rng.uniform(0.4 * side, 0.6 * side, size=3)[:, None, None, None]
        label = (((place - centre) ** 2).sum(0) <= rng.uniform(3, 5) ** 2).astype(np.uint8)
        image = (label + 0.3 * rng.normal(size=label.shape)).astype(np.float32)
        case = Case(f"case-{k}", image, label, np.full(3, 2.0))
        write_case(data / "hippocampus" / "hippocampus" / f"{case.id}.npz", case)
        entries[case.id] = {"voxels": int(label.sum()), "sha256": case.digest()}
    return write_manifest(data / "hippocampus", "hippocampus", {"hippocampus": entries}, {}, {"shape": [side] * 3})


def in_processes(target: Callable[..., None], *args: Any, count: int = 3) -> list[Any]:
    """Call ``target(*args, queue)`` in several new processes at once; what they put into the queue, one a process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=target, args=(*args, queue)) for _ in range(count)]
    for child in children:
        child.start()
    found = [queue.get(timeout=WAIT_S) for _ in children]
    for child in children:
        child.join(WAIT_S)
    assert {child.exitcode for child in children} == {0}
    return found


def make_preset(path: Path, grid: dict[str, list[Any]] | None = None, base: str = "smoke", **changes: Any) -> Preset:
    """Write a YAML preset that differs from `base` in `changes`, and load it."""
    plan = Preset.load(base)
    axes = {axis: list(points) for axis, points in plan.grid.items()} | (grid or {})
    values = {name: value for name, value in {**plan.values, **changes}.items() if name not in axes}
    content = {"about": "a preset of the tests", "grid": axes, "run": values}
    path.write_text(yaml.safe_dump(content))
    return Preset.load(path)


def small_config(**changes: Any) -> RunConfig:
    plan = Preset.load("smoke")
    point = plan.run(loss="ce").to_dict()
    assert set(AXES) < set(point)
    return RunConfig.from_dict({**point, **SMALL, **changes})


def outcome(folder: Path) -> dict[str, Any]:
    """Everything a run leaves but times: metrics, scores byte by byte, and the training curve."""
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["provenance"].pop("commit")  # somebody may commit while the tests run
    history = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return {
        "metrics": {name: value for name, value in metrics.items() if name not in TIMES},
        "cases": (folder / "cases.csv").read_bytes(),
        "history": [{name: value for name, value in record.items() if name not in CLOCKS} for record in history],
    }


# The whole command, its processes, and waiting for them.


@dataclass
class Line:
    """The folders of one user's `python -m reproduction grid`."""

    data: Path
    runs: Path
    preset: str
    source: Path | None = None

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """Start the command in a process group of its own, as a terminal does."""
        command = [sys.executable, "-m", "reproduction", "grid", "--preset", self.preset, "--cores", "1"]
        command += ["--data", str(self.data), "--runs", str(self.runs), *more]
        command += ["--source", str(self.source)] if self.source else []
        self.runs.mkdir(exist_ok=True)
        with open(self.runs / "terminal.txt", "w") as terminal:
            return subprocess.Popen(command, stdout=terminal, stderr=subprocess.STDOUT, start_new_session=True)

    def shown(self) -> str:
        """What the terminal shows of the last start."""
        return (self.runs / "terminal.txt").read_text()

    def run(self, *more: str) -> tuple[int, str]:
        """Run the command to its end: exit code, and what the terminal showed."""
        code = self.start(*more).wait(WAIT_S)
        return code, self.shown()


def wait_for(what: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    begun = time.monotonic()
    while not what():
        assert process.poll() is None, f"it ended early with exit code {process.returncode}"
        assert time.monotonic() - begun < WAIT_S
        time.sleep(0.02)


def all_below(process: subprocess.Popen[bytes], part: str) -> list[psutil.Process]:
    """The processes below `process` whose command line has `part` as an argument, outer ones first."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it may end while we look
            found += [child] if part in child.cmdline() else []
    return found


def below(process: subprocess.Popen[bytes], part: str) -> psutil.Process:
    """The innermost of them."""
    found = all_below(process, part)
    assert found, f"no process below {process.args} has {part!r}"
    return found[-1]


def assert_as_alone(preset: Preset, data: Path, home: Path, reference: Path) -> None:
    """Check that runs and tables below `home` are, byte by byte, those made one by one in this process.

    That is without Snakemake, papermill and whatever the runs ran on; `reference` gets what is made here.
    """
    for config in preset.runs():
        experiment.execute(config, reference / config.folder, data, report=lambda line: None)
        assert outcome(home / config.folder) == outcome(reference / config.folder)
    write_results(gather(preset, reference), reference / "results")
    for part in PARTS:
        made, expected = home / "results" / preset.name / f"{part}.csv", reference / "results" / f"{part}.csv"
        assert made.read_bytes() == expected.read_bytes(), part


# What a child process does. It starts from a fork server, so this module is all that it needs.


def run_and_die(folder: str, data: str, values: dict[str, Any], where: str) -> None:
    """Execute a run and SIGKILL the own process at `where`, in or after the second epoch."""

    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killing(owner: Any, name: str, when: Any, before: bool) -> None:
        original = getattr(owner, name)

        def patched(*arguments: Any, **named: Any) -> Any:
            if before and when(*arguments):
                die()
            result = original(*arguments, **named)
            if when(*arguments):
                die()
            return result

        setattr(owner, name, patched)

    if where == "in the epoch":
        killing(Trainer, "_batch", lambda self, indices, rng: self.epoch == 1 and len(indices) < 3, before=True)
    elif where == "before the checkpoint":
        killing(Trainer, "save", lambda self, path: self.epoch == 2, before=True)
    elif where == "after the checkpoint":
        killing(Trainer, "save", lambda self, path: self.epoch == 2, before=False)
    elif where == "before the scores":
        killing(experiment, "score_cases", lambda *_: True, before=True)
    elif where == "before metrics.json":
        killing(experiment, "write_json", lambda path, value: Path(path).name == "metrics.json", before=True)
    else:
        raise ValueError(where)
    experiment.execute(RunConfig.from_dict(values), folder, data)


def run_on_full_disk(folder: str, data: str, values: dict[str, Any]) -> None:
    """Execute a run whose files may have no more than 2000 bytes from the third epoch on."""
    original = Trainer.run_epoch

    def run_epoch(self: Trainer) -> dict[str, float]:
        if self.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        return original(self)

    Trainer.run_epoch = run_epoch  # type: ignore[method-assign]
    try:
        experiment.execute(RunConfig.from_dict(values), folder, data)
    except OSError as error:
        Path(folder, "seen.txt").write_text(str(error))


def run_slowly(folder: str, data: str, values: dict[str, Any]) -> None:
    """Execute a run that waits in the first epoch until a file `go` is there."""
    original = Trainer.run_epoch

    def run_epoch(self: Trainer) -> dict[str, float]:
        Path(folder, "training").touch()
        while not Path(folder, "go").exists():
            time.sleep(0.01)
        return original(self)

    Trainer.run_epoch = run_epoch  # type: ignore[method-assign]
    experiment.execute(RunConfig.from_dict(values), folder, data)
