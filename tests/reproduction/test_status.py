"""What `python -m reproduction status` says of runs that are really there, and the arithmetic of the time left."""

from __future__ import annotations

import json
import math
from pathlib import Path

import filelock
import pytest

import tiny
from reproduction.__main__ import main
from reproduction.config import Preset
from reproduction.runs.run import execute
from reproduction.runs.status import progress_line, report, run_states, seconds_left

EPOCHS = 4


def progress(folder: Path, *seconds: float, rest: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"epoch": k, "seconds": s}) + "\n" for k, s in enumerate(seconds)]
    (folder / "progress.jsonl").write_text("".join(lines) + rest)
    (folder / "checkpoint.pt").touch()


@pytest.fixture
def plan(tmp_path: Path) -> Preset:
    """Five runs of four epochs, none of them begun."""
    return tiny.make_preset(tmp_path / "five.yaml", {"loss": ["ce"], "fold": [0, 1, 2, 3, 4]}, **tiny.SMALL)


def test_nothing_begun(plan, tmp_path):
    states = run_states(plan, tmp_path)
    assert [s.state for s in states] == ["missing"] * 5
    assert all(map(math.isnan, seconds_left(states)))
    assert report(plan, tmp_path, 2).splitlines()[-1] == (
        "five: 0 done, 0 running, 0 stopped, 0 failed, 5 missing; "
        "time left on 2 cores: unknown until the first epoch is done"
    )


def test_every_state_for_real(plan, data, tmp_path):
    done, running, stopped, failed, _ = (tmp_path / "five" / config.folder for config in plan.runs())
    execute(plan.runs()[0], done, data, report=lambda line: None)
    progress(running, 2.0)
    progress(stopped, 1.0, 1.5, rest='{"epoch": 2, "seco')  # killed while it wrote
    progress(failed, 1.0)
    (failed / "failure.txt").write_text("ValueError: something is wrong\n")
    # Records of an earlier attempt do not count while a process is at work.
    (running / "failure.txt").write_text("ValueError: from the last time\n")
    with filelock.FileLock(running / ".lock"):
        states = run_states(plan, tmp_path)
        text = report(plan, tmp_path, 1).splitlines()
    assert [(s.state, len(s.epochs)) for s in states] == [
        *[("done", 4), ("running", 1), ("stopped", 2), ("failed", 1), ("missing", 0)]
    ]
    assert [line.split()[0] for line in text[:5]] == ["done", "running", "stopped", "failed", "missing"]
    assert "1 done, 1 running, 1 stopped, 1 failed, 1 missing" in text[5]
    scores = json.loads((done / "metrics.json").read_text())["scores"]
    assert text[0].endswith("  ".join(f"{method} {score:.4f}" for method, score in scores.items()))
    assert "[#####               ]   1/4" in text[1] and text[1].endswith(" left")
    assert text[3].endswith("ValueError: something is wrong")
    # The lock is gone with its process: what ran has stopped.
    (running / "failure.txt").unlink()
    assert run_states(plan, tmp_path)[1].state == "stopped"


def test_time_left_by_hand(plan, tmp_path):
    first, second, third, *_ = (tmp_path / "five" / config.folder for config in plan.runs())
    progress(first, 10.0, 10.0, 10.0, 10.0)
    metrics = {"config_hash": plan.runs()[0].hash, "data_digest": "", "scores": {}, "training_s": 40.0, "wall_s": 45.0}
    (first / "metrics.json").write_text(json.dumps(metrics))
    progress(second, 20.0, 40.0)
    progress(third, 12.0)
    # Mean epoch of all: (40 + 60 + 12) / 7 = 16 s; beside training 5 s a run.
    left = [0, 2 * 30 + 5, 3 * 12 + 5, 4 * 16 + 5, 4 * 16 + 5]
    assert seconds_left(run_states(plan, tmp_path)) == pytest.approx(left)
    # One core does it in the sum, 244 s; four not faster than the longest run, 69 s.
    assert "time left on 1 cores: 4 min, at about" in report(plan, tmp_path, 1)
    assert "time left on 3 cores: 81 s, at about" in report(plan, tmp_path, 3)
    assert "time left on 4 cores: 69 s, at about" in report(plan, tmp_path, 4)
    assert "time left on 64 cores: 69 s, at about" in report(plan, tmp_path, 64)


def test_runs_that_take_several_threads_share_the_cores(tmp_path):
    plan = tiny.make_preset(tmp_path / "wide.yaml", {"loss": ["ce"], "fold": [0, 1]}, **tiny.SMALL, threads=4)
    for config in plan.runs():
        progress(tmp_path / "wide" / config.folder, 10.0)
    assert "time left on 4 cores: 60 s" in report(plan, tmp_path, 4)
    assert "time left on 8 cores: 30 s" in report(plan, tmp_path, 8)
    assert "time left on 1 cores: 60 s" in report(plan, tmp_path, 1)


def test_a_result_of_another_configuration_does_not_count(plan, tmp_path):
    folder = tmp_path / "five" / plan.runs()[0].folder
    progress(folder)
    metrics = {"config_hash": "0" * 12, "data_digest": "", "scores": {}, "training_s": 1.0, "wall_s": 1.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert run_states(plan, tmp_path)[0].state == "missing"


def test_without_its_checkpoint_a_run_starts_over(plan, tmp_path):
    folder = tmp_path / "five" / plan.runs()[0].folder
    progress(folder, 1.0, 2.0)
    assert (run_states(plan, tmp_path)[0].state, run_states(plan, tmp_path)[0].epochs_left) == ("stopped", 2)
    (folder / "checkpoint.pt").unlink()
    assert (run_states(plan, tmp_path)[0].state, run_states(plan, tmp_path)[0].epochs_left) == ("missing", 4)


def test_all_done_leaves_no_time(tmp_path, data):
    plan = tiny.make_preset(tmp_path / "one.yaml", {"loss": ["ce"]}, **tiny.SMALL)
    (config,) = plan.runs()
    execute(config, tmp_path / "one" / config.folder, data, report=lambda line: None)
    assert report(plan, tmp_path, 2).splitlines()[-1] == (
        "one: 1 done, 0 running, 0 stopped, 0 failed, 0 missing; time left on 2 cores: 0 s"
    )


def test_looking_does_not_change_anything(plan, tmp_path):
    folder = tmp_path / "five" / plan.runs()[0].folder
    progress(folder, 1.0)
    (folder / ".lock").touch()
    before = sorted(path.name for path in folder.iterdir())
    assert run_states(plan, tmp_path)[0].state == "stopped"
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not (tmp_path / "five" / plan.runs()[1].folder).exists()
    filelock.FileLock(folder / ".lock", timeout=0).acquire()  # status holds it no longer


def test_the_command(plan, tmp_path, capsys):
    progress(tmp_path / "five" / plan.runs()[0].folder, 1.0)
    assert main(["status", "--preset", str(tmp_path / "five.yaml"), "--runs", str(tmp_path), "--cores", "1"]) == 0
    assert "1 stopped, 0 failed, 4 missing; time left on 1 cores: 19 s" in capsys.readouterr().out
    assert main(["status", "--preset", "hipocampus"]) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("reproduction: preset is 'hipocampus'; there are hippocampus")
    assert len(output.err.splitlines()) == 1


def test_the_time_since_the_start_and_the_time_left(plan, tmp_path, monkeypatch):
    monkeypatch.setattr("reproduction.runs.status.time.time", lambda: 1000.0)
    # Until an epoch is done, what is left follows from the plan; without one nothing is known.
    assert progress_line(plan, tmp_path, 1, 970.0, 100.0) == "[30 s, 70 s left]"
    assert progress_line(plan, tmp_path, 1, 800.0, 100.0) == "[3 min, 0 s left]"
    assert progress_line(plan, tmp_path, 1, 970.0, math.nan) == "[30 s, time left unknown]"
    # Then it is what `status` says: 19 epochs of 1 s on one core.
    progress(tmp_path / "five" / plan.runs()[0].folder, 1.0)
    assert progress_line(plan, tmp_path, 1, 970.0, 100.0) == "[30 s, 19 s left]"
