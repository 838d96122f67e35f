"""The grid: what Snakemake is asked to do, marks of finished runs, and what a failure leaves behind."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch
import yaml

import tiny
from reproduction.config import Preset
from reproduction.paths import write_json
from reproduction.runs import grid
from reproduction.runs.grid import _are_tables_of, failures, first_cause, mark_done, run_grid
from reproduction.runs.notebook import BatchError
from reproduction.runs.plan import Step


@pytest.fixture
def plan(tmp_path: Path) -> Preset:
    return tiny.make_preset(tmp_path / "tiny.yaml", None, **{**tiny.SMALL, "epochs": 2})


@pytest.fixture
def snakemake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for data script, Snakemake and tables: what they got; `code` and `log` of Snakemake."""
    seen: dict[str, Any] = {"code": 0, "log": ""}

    def run(home: Path, options: list[str], values: dict[str, Any]) -> int:
        seen.update(home=home, options=options, values=values)
        (home / "grid.log").write_text(seen["log"])
        return seen["code"]

    monkeypatch.setattr(grid, "_run_snakemake", run)
    monkeypatch.setattr(grid, "prepare_data", lambda preset, data, source, report: seen.update(source=source))
    monkeypatch.setattr("reproduction.runs.plan.time_step", lambda *_: Step(1.0, "float32", "cpu"))
    write = "reproduction.runs.model_tables.write_tables"
    monkeypatch.setattr(write, lambda preset, home, out: seen.update(tables=out))
    return seen


def test_what_the_steps_get(snakemake, tmp_path):
    odd = tmp_path / "my: data #1 'x' {y} $z"
    odd.mkdir()
    lines: list[str] = []
    tables = run_grid("smoke", odd, tmp_path / "my runs", source=str(odd), cores=3, report=lines.append)
    home = tmp_path / "my runs" / "smoke"
    assert tables == snakemake["tables"] == home / "results" / "smoke" and snakemake["source"] == str(odd)
    values = snakemake["values"]
    assert {name: values[name] for name in ("preset", "data", "slots", "cores")} == {
        **{"preset": "smoke", "data": str(odd), "slots": "", "cores": 3}
    }
    assert snakemake["home"] == home and snakemake["options"][-2:] == ["--cores", "3"]
    assert lines[0].startswith("smoke: 2 runs, 0 done; ")
    assert [line.split("] ")[1] for line in lines[2:]] == [f"data below {odd}", "tables", "smoke is complete"]


def test_values_reach_the_snakefile_as_they_are(tmp_path, monkeypatch):
    seen: list[list[str]] = []

    class Process:
        returncode = 0

        def __init__(self, command: list[str], **_: object) -> None:
            seen.append(command)

        def __enter__(self) -> Process:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(grid.subprocess, "Popen", Process)
    values = {"data": "my: data #1 'x' \"{y}\" $z & œ", "cores": 3}
    assert grid._run_snakemake(tmp_path, ["--cores", "3"], values) == 0
    (command,) = seen
    name, _, value = command[-1].partition("=")
    assert (
        name == "request" and re.fullmatch(r"[\w=-]+", value) and json.loads(base64.urlsafe_b64decode(value)) == values
    )
    assert command[command.index("--directory") + 1] == str(tmp_path)


def test_a_preset_file_is_named_by_its_absolute_path(snakemake, tmp_path, monkeypatch):
    tiny.make_preset(tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    run_grid("mine.yaml", dry_run=True, report=lambda line: None)
    assert "values" not in snakemake and not (tmp_path / "runs").exists()
    run_grid("mine.yaml", report=lambda line: None)
    assert snakemake["values"]["preset"] == str(tmp_path / "mine.yaml") and (tmp_path / "runs" / "mine").is_dir()


def test_a_failed_grid_ends_with_the_cause_and_where_it_is(snakemake, tmp_path):
    lines = ["Using profile", "Traceback (most recent call last):", '  File "x.py", line 3, in f', "    g()"]
    lines += ["PermissionError: [Errno 13] Permission denied: '/nowhere/.cache'", "", "During handling of the above:"]
    lines += [f"  line {k}" for k in range(100)] + ["RuntimeError: no cache"]
    snakemake.update(code=1, log="\n".join(lines))
    message = (
        r"^preset smoke did not finish: PermissionError: \[Errno 13\] Permission denied: '/nowhere/\.cache'; "
        r"everything that was said is in .*/smoke/grid\.log; the same command goes on from here$"
    )
    with pytest.raises(BatchError, match=message):
        run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)
    config = Preset.load("smoke").run(loss="sd")
    folder = tmp_path / "smoke" / config.folder
    folder.mkdir()
    (folder / "failure.txt").write_text("ValueError: bad\n")
    message = rf"1 of 2 runs failed, the first is {config.name}: ValueError: bad; everything that was said is in"
    with pytest.raises(BatchError, match=message):
        run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)


def test_a_run_that_fails_with_new_data_is_named_though_its_old_result_is_there(tmp_path):
    config, other = Preset.load("smoke").runs()
    for folder in (tmp_path / "smoke" / config.folder, tmp_path / "smoke" / other.folder):
        folder.mkdir(parents=True)
    metrics = {"config_hash": config.hash, "data_digest": "old", "scores": {}, "wall_s": 2.0, "training_s": 1.0}
    write_json(tmp_path / "smoke" / config.folder / "metrics.json", metrics)
    (tmp_path / "smoke" / config.folder / "failure.txt").write_text("ValueError: bad\n")
    assert failures(Preset.load("smoke"), tmp_path, "new") == [f"{config.name}: ValueError: bad"]
    assert failures(Preset.load("smoke"), tmp_path, "old") == []


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("", "Snakemake said nothing"),
        ("one\n\ntwo\n\n", "two"),
        ("a: epoch 1\nreproduction: unexpected KeyError: 'x'\nfailed: run\n", "unexpected KeyError: 'x'"),
        ("  WorkflowError:\nFailed to open x\n", "WorkflowError: Failed to open x"),
        (
            "WildcardError in rule run in file Snakefile, line 3:\nmore\n",
            "WildcardError in rule run in file Snakefile, line 3: more",
        ),
        ("failed: run -> a/.done\nlast\n", "failed: run -> a/.done"),
    ],
)
def test_the_first_cause_in_a_log(log, cause, tmp_path):
    (tmp_path / "x.log").write_text(log)
    assert first_cause(tmp_path / "x.log") == cause


def test_tables_are_made_again_where_runs_or_the_preset_changed(plan, tmp_path):
    hashes = [config.hash for config in plan.runs()]
    for config in plan.runs():
        (tmp_path / config.folder).mkdir()
        (tmp_path / config.folder / "metrics.json").touch()
    assert not _are_tables_of(plan, tmp_path, tmp_path / "t")
    path = write_json(tmp_path / "t" / "provenance.json", {"runs": [{"config_hash": name} for name in hashes]})
    assert _are_tables_of(plan, tmp_path, tmp_path / "t")
    write_json(path, {"runs": [{"config_hash": name} for name in [*hashes, "0" * 12]]})
    assert not _are_tables_of(plan, tmp_path, tmp_path / "t")
    write_json(path, {"runs": [{"config_hash": name} for name in hashes]})
    os.utime(path, ns=(10**18, 10**18))
    assert not _are_tables_of(plan, tmp_path, tmp_path / "t")


def test_a_mark_is_as_old_as_the_result_and_never_without_one(plan, tmp_path):
    """Snakemake may delete marks; it goes by their times."""
    done, other, *_ = plan.runs()
    for config in (done, other):
        (tmp_path / config.folder).mkdir()
    metrics = tmp_path / done.folder / "metrics.json"
    metrics.write_text(json.dumps({"config_hash": done.hash, "data_digest": ""}))
    os.utime(metrics, ns=(10**18, 10**18))
    (tmp_path / other.folder / ".done").touch()  # its result was deleted, to have it made again
    mark_done(plan, tmp_path, None)
    mark = tmp_path / done.folder / ".done"
    assert mark.stat().st_mtime_ns == 10**18 and not (tmp_path / other.folder / ".done").exists()
    # A mark that is there was made by Snakemake, or is from before: its time stays.
    os.utime(mark, ns=(2 * 10**18, 2 * 10**18))
    mark_done(plan, tmp_path, None)
    assert mark.stat().st_mtime_ns == 2 * 10**18 and metrics.stat().st_mtime_ns == 10**18


def test_two_at_once_are_refused(snakemake, tmp_path):
    (tmp_path / "smoke").mkdir()
    with filelock.FileLock(tmp_path / "smoke" / ".lock"):
        with pytest.raises(BatchError, match=r"another process works on preset smoke in .*; wait for it or stop it"):
            run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)
    assert "values" not in snakemake
    run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)
    assert "values" in snakemake


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"preset_name": "smok"}, ValueError, r"preset is 'smok'; there are .*smoke"),
        ({"profile": "slrm"}, ValueError, r"profile is 'slrm'; there are .*local"),
        ({"source": "nowhere"}, FileNotFoundError, r"source nowhere does not exist"),
    ],
)
def test_bad_input_is_refused_before_snakemake_starts(snakemake, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        run_grid(**{"preset_name": "smoke", "runs": tmp_path / "runs", **arguments})
    assert "values" not in snakemake and not (tmp_path / "runs").exists()


def test_every_profile_refuses_what_would_lose_work(root):
    for path in (root / "workflow" / "profiles").glob("*/config.yaml"):
        profile = yaml.safe_load(path.read_text())
        # By time stamps, never by code: another version of the package must not throw away finished runs.
        # By the set of inputs: a preset that goes back to older runs must get their tables back, too.
        assert set(profile["rerun-triggers"]) == {"mtime", "input"} and profile["rerun-incomplete"] is True, path
        assert profile["keep-going"] is True, path


def test_a_step_of_a_gpu_is_timed_in_a_process_of_its_own(snakemake, tmp_path, monkeypatch):
    monkeypatch.setattr("reproduction.runs.run.choose_device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr("reproduction.runs.plan.time_step_apart", lambda *_: Step(3600.0, "bfloat16", "cuda"))
    lines: list[str] = []
    run_grid("smoke", tmp_path, tmp_path / "runs", profile="local", dry_run=True, report=lines.append)
    assert "cost: 8 GPU hours; " in lines[1]
    # The progress begins with the wall time of the plan: one GPU, however many cores there are.
    run_grid("smoke", tmp_path, tmp_path / "runs", cores=8, profile="local", report=lambda line: None)
    assert snakemake["values"]["left_s"] == 8 * 3600


def test_a_step_that_cannot_be_timed_stops_a_plan_and_no_run(snakemake, tmp_path, monkeypatch):
    def fail(*_: object) -> Step:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("reproduction.runs.plan.time_step", fail)
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        run_grid("smoke", tmp_path, tmp_path / "runs", dry_run=True, report=lambda line: None)
    lines: list[str] = []
    run_grid("smoke", tmp_path, tmp_path / "runs", report=lines.append)
    assert lines[1] == "plan: none, no training step could be timed (out of memory); the runs start all the same"
    assert "values" in snakemake


def test_slots_reach_snakemake(snakemake, tmp_path, monkeypatch):
    monkeypatch.setattr("reproduction.runs.profiles.free_memory", lambda: {"cpu": 9000})
    monkeypatch.setattr("reproduction.runs.profiles.estimate_mib", lambda config: 4000)
    monkeypatch.setenv("NOISYSEG_DEVICE", "cpu")
    run_grid("smoke", tmp_path, tmp_path / "runs", profile="gpus", report=lambda line: None)
    assert snakemake["values"]["slots"] == "cpu-0,cpu-1" and snakemake["options"][-2:] == ["--resources", "slot=2"]


# the whole command on names that a shell, Snakemake or papermill would read as something else


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my preset", "R&D", "it's $HOME; touch {oops} `touch oops` #1"])
def test_names_of_presets_and_folders_are_names(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    tiny.make_data(folder / "data")
    preset = tiny.make_preset(folder / f"{name}.yaml", {"loss": ["ce", "sd"]}, **{**tiny.SMALL, "epochs": 1})
    line = tiny.Line(folder / "data", folder / "runs", str(folder / f"{name}.yaml"))
    code, output = line.run("--no-book")
    assert code == 0, output
    assert (folder / "runs" / name / "results" / name / "provenance.json").is_file()
    assert sorted(path.name for path in folder.iterdir()) == sorted(["data", "runs", f"{name}.yaml"])
    assert not list(tmp_path.rglob("oops")) and not list((folder / "runs" / name).glob("*oops*"))
    # Every run is announced with its place in the grid, the time since the start and the time left.
    for k in (1, 2):
        assert re.search(
            rf"^\[\d+ s, \d+ s left\] run {k} of 2: hippocampus, a = 0\.02, (ce|sd), fold 0$", output, re.M
        )
    assert len(preset.runs()) == 2


@pytest.mark.slow
def test_a_home_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    """Snakemake, Jupyter, IPython and matplotlib want a home folder. Not even root writes below a file."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    tiny.make_data(tmp_path / "data")
    tiny.make_preset(tmp_path / "t.yaml", **{**tiny.SMALL, "epochs": 1})
    line = tiny.Line(tmp_path / "data", tmp_path / "runs", str(tmp_path / "t.yaml"))
    code, output = line.run("--no-book")
    assert code == 0, output
    assert f"the home folder cannot be written: caches go to {tmp_path / 'runs' / '.home'}" in output


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["Snakemake", "a run"])
def test_the_last_line_has_the_cause(broken, tmp_path, monkeypatch):
    tiny.make_data(tmp_path / "data")
    preset = tiny.make_preset(tmp_path / "t.yaml", {"loss": ["ce"]}, **{**tiny.SMALL, "epochs": 1})
    (config,) = preset.runs()
    line = tiny.Line(tmp_path / "data", tmp_path / "runs", str(tmp_path / "t.yaml"))
    if broken == "Snakemake":
        (tmp_path / "cache").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        cause = rf"NotADirectoryError: .*'{re.escape(str(tmp_path / 'cache'))}"
    else:
        (tmp_path / "runs" / "t" / config.folder).mkdir(parents=True)
        (tmp_path / "runs" / "t" / config.folder / "checkpoint.pt").write_bytes(b"damaged" * 20)
        cause = rf"1 of 1 runs failed, the first is {config.name}: ValueError: .*checkpoint\.pt is damaged or truncated"
    code, output = line.run("--no-book")
    assert code == 1
    assert re.match(rf"reproduction: preset t did not finish: {cause}.*grid\.log; the same", output.splitlines()[-1])
