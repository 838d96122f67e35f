"""The profile `slurm` on a real SLURM: runs go by sbatch, a cancelled one is taken up again, a failed one is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml

import slurm_here
import tiny
from conftest import ROOT
from reproduction.config import Preset
from slurm_here import SCRIPT, jobs, require_slurm
from tiny import WAIT_S, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with slurm_here.slurm(tmp_path_factory.mktemp("slurm")) as folder:
        yield folder


def make_profile(folder: Path, retries: int) -> Path:
    """The profile `slurm`, but jobs ask for less memory."""
    settings = yaml.safe_load((ROOT / "workflow" / "profiles" / "slurm" / "config.yaml").read_text())
    assert settings["executor"] == "slurm" and settings["retries"] >= 1
    settings["retries"] = retries
    settings["set-resources"]["run"]["mem_mb"] = "1000 * attempt"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


@contextmanager
def reproduce(folder: Path, preset: str | Path, *more: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m reproduction grid --no-book` with data, runs and its output below `folder`; clean up."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "reproduction", "grid", "--no-book", "--preset", str(preset)]
    command += ["--data", str(folder / "data"), "--runs", str(folder / "runs"), *map(str, more)]
    with open(folder / "terminal.txt", "w") as terminal:
        process = subprocess.Popen(command, stdout=terminal, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for other in psutil.process_iter(["cmdline"]):
            if any(str(folder) in argument for argument in other.info["cmdline"] or ()):
                with suppress(psutil.Error):
                    other.kill()


def test_the_smoke_preset_through_sbatch(slurm, tmp_path, hippocampus_source):
    folder = tmp_path / "my folder"  # a path with a blank must reach the job, too
    profile = make_profile(tmp_path / "profile", retries=0)
    before = jobs()
    with reproduce(folder, "smoke", "--source", hippocampus_source, "--profile", profile) as process:
        assert process.wait(WAIT_S) == 0, (folder / "terminal.txt").read_text()
    shown = (folder / "terminal.txt").read_text()
    assert re.search(r"^\[.* left\] 2 of 3 steps done$", shown, re.MULTILINE)
    preset = Preset.load("smoke")
    controller = (slurm / "slurmctld.log").read_text()
    for config in preset.runs():
        ((job, state),) = [job for job in jobs(f"rule_run_wildcards_{config.folder}") if job not in before]
        assert state == "COMPLETED" and f"_job_complete: JobId={job} WEXITSTATUS 0" in controller
        log = folder / "runs" / "smoke" / "slurm_logs" / "rule_run" / config.folder / f"{job}.log"
        assert f"{config.name}: done, mean test Dice" in log.read_text()
    assert len(jobs()) == len(before) + 2  # data and tables are the command's own work
    tiny.assert_as_alone(preset, folder / "data", folder / "runs" / "smoke", tmp_path / "reference")


def test_a_cancelled_job_is_sent_again_and_goes_on(slurm, tmp_path):
    tiny.make_data(tmp_path / "data")
    preset = tiny.make_preset(tmp_path / "two.yaml", {"a": [0.01]}, **{**tiny.SMALL, "epochs": 200})
    config, other = preset.runs()
    folder = tmp_path / "runs" / "two" / config.folder
    progress = folder / "progress.jsonl"
    with reproduce(tmp_path, tmp_path / "two.yaml", "--profile", make_profile(tmp_path / "profile", 2)) as process:
        wait_for(lambda: progress.is_file() and progress.read_text().count("\n") >= 2, process)
        ((job, state),) = jobs(f"rule_run_wildcards_{config.folder}")
        assert state == "RUNNING"
        subprocess.run(["scancel", job], check=True)
        assert process.wait(WAIT_S) == 0, (tmp_path / "terminal.txt").read_text()
    for run, states in ((config, ["CANCELLED", "COMPLETED"]), (other, ["COMPLETED"])):
        assert [state for _, state in jobs(f"rule_run_wildcards_{run.folder}")] == states
    shown = (tmp_path / "terminal.txt").read_text()
    assert f"failed: run -> {config.folder}" in shown and f"/slurm_logs/rule_run/{config.folder}/{job}.log" in shown
    cells = nbformat.read(folder / "run.ipynb", as_version=4).cells
    said = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    assert f"{config.name}: resumed after epoch " in said and f"{config.name}: epoch 1/200" not in said
    tiny.assert_as_alone(preset, tmp_path / "data", tmp_path / "runs" / "two", tmp_path / "reference")


def test_a_failed_job_is_named_with_its_log_and_its_reason(slurm, tmp_path):
    tiny.make_data(tmp_path / "data")
    preset = tiny.make_preset(tmp_path / "one.yaml", {"loss": ["ce"], "a": [0.03]}, **tiny.SMALL)
    (config,) = preset.runs()
    folder = tmp_path / "runs" / "one" / config.folder
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"damaged" * 20)
    with reproduce(tmp_path, tmp_path / "one.yaml", "--profile", make_profile(tmp_path / "profile", 0)) as process:
        assert process.wait(WAIT_S) == 1
    *_, (job, state) = jobs(f"rule_run_wildcards_{config.folder}")
    log = tmp_path / "runs" / "one" / "slurm_logs" / "rule_run" / config.folder / f"{job}.log"
    lines = (tmp_path / "terminal.txt").read_text().splitlines()
    assert state == "FAILED" and f"  log: {log}" in lines
    assert "checkpoint.pt is damaged or truncated" in log.read_text()
    reason = (
        "preset one did not finish: 1 of 1 runs failed, the first is hippocampus-a0.030-ce-fold0-unet: ValueError: "
    )
    assert lines[-1].startswith(f"reproduction: {reason}") and "is damaged or truncated" in lines[-1]
    assert not [line for line in lines if "Traceback" in line or "sbatch call" in line or "--wrap" in line]


def test_the_script_says_what_is_wrong(tmp_path):
    def run(*arguments: str) -> str:
        done = subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1
        return done.stderr

    assert "expected: start FOLDER, or stop FOLDER" in run("begin", "x")
    assert "no folder" in run("stop", str(tmp_path / "none"))
    require_slurm()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "slurm.conf").touch()
    assert "stop that one first" in run("start", str(tmp_path / "old"))
    assert "too long for a socket" in run("start", str(tmp_path / ("x" * 80)))
    assert "no folder with blanks" in run("start", str(tmp_path / "a b"))
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == ["slurm.conf"]


def test_a_slurm_that_does_not_come_up_leaves_nothing_running(tmp_path, monkeypatch):
    require_slurm()
    # A slurmd that ends at once: the daemons before it must not stay.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "slurmd").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "bin" / "slurmd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    done = subprocess.run([SCRIPT, "start", tmp_path / "s"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1] == "slurm_on_this_machine: did not come up; the logs are above"
    for name in ("munged", "slurmctld"):
        file = tmp_path / "s" / f"{name}.pid"
        assert not (file.is_file() and slurm_here.alive(int(file.read_text()), name))
        assert str(tmp_path / "s") not in " ".join(
            " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])
        )
