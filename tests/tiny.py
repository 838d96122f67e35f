"""A data set, presets and child processes that are small enough for tests of whole runs."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from noisyseg import experiment, further
from noisyseg.config import AXES, Preset, RunConfig
from noisyseg.data.cases import Case, CaseSet, write_case, write_manifest
from noisyseg.training import Trainer

#: What differs between two runs of the same configuration, and nothing else.
TIMES = {"training_s", "wall_s", "cpu_s", "peak_memory_mib", "finished"}
SMALL: dict[str, Any] = {
    **{"train_cases": 0, "test_cases": 0, "features": [2, 4], "epochs": 4, "batch_size": 3, "ceiling_samples": 5},
    **{"precision": "float32"},
}


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
    return write_manifest(data / "hippocampus", "hippocampus", {"hippocampus": entries}, {}, {})


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
        "further": (folder / "further.csv").read_bytes(),
        "history": [{name: value for name, value in record.items() if name != "seconds"} for record in history],
    }


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
        killing(experiment, "score_run", lambda *_: True, before=True)
    elif where == "before further.json":
        killing(further, "write_json", lambda path, value: Path(path).name == "further.json", before=True)
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
