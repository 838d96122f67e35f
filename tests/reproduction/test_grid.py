"""The grid: what Snakemake is asked to do, marks of finished runs, and what a failure leaves behind."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch
import yaml

import tiny
from reproduction.config import Preset
from reproduction.runs import grid
from reproduction.runs.gpus import Device
from reproduction.runs.grid import mark_done, run_grid
from reproduction.runs.notebook import BatchError
from reproduction.runs.step_time import Step, StepError, time_step_apart


@pytest.fixture
def plan(tmp_path: Path) -> Preset:
    return tiny.make_preset(tmp_path / "tiny.yaml", None, **{**tiny.SMALL, "epochs": 2})


@pytest.fixture
def snakemake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for Snakemake: keeps the command, and answers with the exit code in `code`."""
    seen: dict[str, Any] = {"code": 0}

    def run(command: list[str], root: Path) -> int:
        seen["command"] = command
        return seen["code"]

    monkeypatch.setattr(grid, "_run_snakemake", run)
    monkeypatch.setattr("reproduction.runs.plan.time_step", lambda *_: Step(1.0, 7, 2, "float32", "cpu"))
    return seen


def test_paths_reach_snakemake_as_they_are(snakemake, tmp_path):
    odd = tmp_path / "my: data #1 'x'"
    odd.mkdir()
    lines: list[str] = []
    tables = run_grid("smoke", odd, tmp_path / "my runs", source=str(odd), cores=3, report=lines.append)
    assert tables == tmp_path / "my runs" / "smoke" / "results" / "smoke"
    command = snakemake["command"]
    settings = dict(entry.split("=", 1) for entry in command[command.index("--config") + 1 :])
    # Snakemake reads every value as YAML.
    read = {name: yaml.load(value, Loader=yaml.loader.BaseLoader) for name, value in settings.items()}
    assert read == {"preset": "smoke", "data": str(odd), "source": str(odd)}
    assert command[command.index("--cores") + 1] == "3" and "--dry-run" not in command
    assert command[command.index("--directory") + 1] == str(tmp_path / "my runs" / "smoke")
    assert lines[0].startswith("smoke: 2 runs, 0 done; ") and lines[-1].startswith("smoke: complete after ")


def test_a_preset_file_is_named_by_its_absolute_path(snakemake, tmp_path, monkeypatch):
    tiny.make_preset(tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    run_grid("mine.yaml", dry_run=True, report=lambda line: None)
    assert "command" not in snakemake and not (tmp_path / "runs").exists()
    run_grid("mine.yaml", report=lambda line: None)
    assert f'preset="{tmp_path / "mine.yaml"}"' in snakemake["command"] and "--dry-run" not in snakemake["command"]
    assert (tmp_path / "runs" / "mine").is_dir()


def test_a_failed_grid_names_the_first_failure(snakemake, tmp_path):
    snakemake["code"] = 1
    with pytest.raises(
        BatchError, match=r"^preset smoke did not finish: see the lines above; the same command goes on"
    ):
        run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)
    config = Preset.load("smoke").run(loss="sd")
    folder = tmp_path / "smoke" / config.folder
    folder.mkdir()
    (folder / "failure.txt").write_text("ValueError: bad\n")
    message = rf"1 of 2 runs failed, the first is {config.name}: ValueError: bad; the same command goes on from here$"
    with pytest.raises(BatchError, match=message):
        run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)


def test_a_mark_is_as_old_as_the_result_and_never_without_one(plan, tmp_path):
    """Snakemake may delete marks; it goes by their times."""
    done, other, *_ = plan.runs()
    for config in (done, other):
        (tmp_path / config.folder).mkdir()
    metrics = tmp_path / done.folder / "metrics.json"
    metrics.write_text(json.dumps({"config_hash": done.hash, "data_digest": ""}))
    os.utime(metrics, ns=(10**18, 10**18))
    (tmp_path / other.folder / ".done").touch()  # its result was deleted, to have it made again
    mark_done(plan, tmp_path, tmp_path)
    mark = tmp_path / done.folder / ".done"
    assert mark.stat().st_mtime_ns == 10**18 and not (tmp_path / other.folder / ".done").exists()
    # A mark that is there was made by Snakemake, or is from before: its time stays.
    os.utime(mark, ns=(2 * 10**18, 2 * 10**18))
    mark_done(plan, tmp_path, tmp_path)
    assert mark.stat().st_mtime_ns == 2 * 10**18 and metrics.stat().st_mtime_ns == 10**18


def test_two_at_once_are_refused(snakemake, tmp_path):
    (tmp_path / "smoke").mkdir()
    with filelock.FileLock(tmp_path / "smoke" / ".lock"):
        with pytest.raises(BatchError, match=r"another process works on preset smoke in .*; wait for it or stop it"):
            run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)
    assert "command" not in snakemake
    run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)
    assert "command" in snakemake


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"preset_name": "smok"}, ValueError, r"preset is 'smok'; there are .*smoke"),
        ({"profile": "slrm"}, ValueError, r"profile is 'slrm'; there are .*local"),
        ({"source": "nowhere"}, FileNotFoundError, r"source nowhere does not exist"),
        ({"data": "a{b}"}, ValueError, r"data is '.*a\{b\}'; Snakemake takes no path with braces"),
    ],
)
def test_bad_input_is_refused_before_snakemake_starts(snakemake, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        run_grid(**{"preset_name": "smoke", "runs": tmp_path / "runs", **arguments})
    assert "command" not in snakemake and not (tmp_path / "runs").exists()


def test_every_profile_refuses_what_would_lose_work(root):
    for path in (root / "workflow" / "profiles").glob("*/config.yaml"):
        profile = yaml.safe_load(path.read_text())
        # By time stamps, never by code: another version of the package must not throw away finished runs.
        # By the set of inputs: a preset that goes back to older runs must get their tables back, too.
        assert set(profile["rerun-triggers"]) == {"mtime", "input"} and profile["rerun-incomplete"] is True, path
        assert profile["keep-going"] is True, path


def test_a_step_of_a_gpu_is_timed_in_a_process_of_its_own_on_the_device_of_the_first_slot(monkeypatch):
    monkeypatch.setattr("reproduction.runs.run.choose_device", lambda: torch.device("cpu"))
    assert grid._timer(["cpu", "cpu"]) is None
    monkeypatch.setattr("reproduction.runs.run.choose_device", lambda: torch.device("cuda", 0))
    timer = grid._timer(["3", "1"])
    assert isinstance(timer, partial) and timer.func is time_step_apart
    assert timer.keywords == {"environment": {"NOISYSEG_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": "3"}}
    assert isinstance(plain := grid._timer([]), partial) and plain.keywords == {"environment": {}}


def test_a_step_that_cannot_be_timed_stops_a_plan_and_no_run(snakemake, tmp_path, monkeypatch):
    def fail(*_: object) -> Step:
        raise StepError("no training step could be timed: out of memory")

    monkeypatch.setattr("reproduction.runs.plan.time_step", fail)
    with pytest.raises(BatchError, match=r"^no training step could be timed: out of memory$"):
        run_grid("smoke", tmp_path, tmp_path / "runs", dry_run=True, report=lambda line: None)
    lines: list[str] = []
    run_grid("smoke", tmp_path, tmp_path / "runs", report=lines.append)
    assert lines[1] == "plan: none, no training step could be timed: out of memory; the runs start all the same"
    assert "command" in snakemake


def test_the_slots_that_runs_start_with_are_written_down(snakemake, tmp_path, monkeypatch):
    monkeypatch.setattr("reproduction.runs.profiles.devices", lambda: [Device("cpu", 9000)])
    monkeypatch.setattr("reproduction.runs.profiles.estimate_mib", lambda config: 4000)
    monkeypatch.setenv("NOISYSEG_DEVICE", "cpu")
    run_grid("smoke", tmp_path, tmp_path / "runs", profile="gpus", report=lambda line: None)
    assert json.loads((tmp_path / "runs" / "smoke" / ".slots" / "slots.json").read_text()) == {"slots": ["cpu", "cpu"]}
