"""Tests of rescore: finished runs, those of earlier versions too, get further scores without training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import filelock
import pandas as pd
import pytest
import torch

import tiny
from reproduction.config import Preset
from reproduction.data.cases import CaseSet
from reproduction.network.training import Trainer
from reproduction.paths import read_json, write_json
from reproduction.runs.rescore import rescore, rescore_run
from reproduction.runs.run import execute
from reproduction.runs.tables import gather
from reproduction.scoring.rules import rankseg_version

RANK = {"CE(rank)", "CE(rank BA)"} if rankseg_version() else set()


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    """Two losses, two seeds: four runs."""
    path = tmp_path_factory.mktemp("preset") / "mine.yaml"
    changes = {name: value for name, value in tiny.SMALL.items() if name != "features"}
    return tiny.make_preset(path, {"training_seed": [1, 2]}, features=[2, 4], **{**changes, "epochs": 2})


@pytest.fixture(scope="module")
def made(plan: Preset, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs, as today's version finishes them."""
    folder = tmp_path_factory.mktemp("runs")
    for config in plan.runs():
        execute(config, folder / "mine" / config.folder, data, report=lambda line: None)
    return folder


@pytest.fixture
def old(made: Path, tmp_path: Path) -> Path:
    """The same runs as an earlier version left them: without further scores, and named without their seed."""
    runs = shutil.copytree(made, tmp_path / "runs")
    for folder in (runs / "mine").iterdir():
        (folder / "further.csv").unlink()
        (folder / "further.json").unlink()
        metrics = read_json(folder / "metrics.json")
        write_json(folder / "metrics.json", {**metrics, "run": metrics["run"].removesuffix("-seed2")})
    return runs


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    monkeypatch.setattr(Trainer, "run_epoch", lambda self: pytest.fail("trained"))


def test_rescored_is_what_the_run_itself_would_have_written(plan, data, made, old):
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file() and path.name != ".lock"}
    lines: list[str] = []
    assert rescore(plan, data, old, report=lines.append) == 4
    for config in plan.runs():
        run, reference = old / "mine" / config.folder, made / "mine" / config.folder
        assert (run / "further.csv").read_bytes() == (reference / "further.csv").read_bytes()
        facts = read_json(run / "further.json")
        assert facts["apart"] == 0.0 and facts["provenance"]["packages"]["torch"] == torch.__version__
    after = {path: path.read_bytes() for path in before}
    assert after == before, "nothing else is touched: the run stays as it was"
    assert [line.split(":")[0] for line in lines] == [*(config.name for config in plan.runs()), "mine"]
    assert "stored scores met exactly" in lines[0] and lines[-1] == "mine: 4 runs scored, 0 had been, 0 not finished"


def test_tables_before_and_after(plan, data, old):
    """Runs of an earlier version give the tables that they gave; once scored, the further methods are in them."""
    before = gather(plan, old / "mine")
    assert set(before.cases["method"]) == {"CE(0)", "SD(0)", "CE(*)"} and "further" not in before.provenance
    rescore(plan, data, old, report=lambda line: None)
    after = gather(plan, old / "mine")
    assert set(after.cases["method"]) == {"CE(0)", "SD(0)", "CE(*)", "CE(fold)", "SD(fold)", "CE(oracle)"} | RANK
    main = after.cases[after.cases["method"].isin(before.cases["method"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(main, before.cases)
    assert after.provenance["further"]["runs"] == 4 and after.provenance["further"]["apart"] == 0.0
    names = [run["run"] for run in after.provenance["runs"]]
    assert len(set(names)) == 4 and sum(name.endswith("-seed2") for name in names) == 2
    # The oracle is at least as good as every threshold on every case.
    wide = after.cases[after.cases["training_seed"] == 2].pivot(index="case", columns="method", values="dice_noisy")
    assert (wide["CE(oracle)"] >= wide[["CE(0)", "CE(*)", "CE(fold)"]].max(axis=1)).all()


def test_what_has_been_scored_stays(plan, data, old):
    rescore(plan, data, old, report=lambda line: None)
    stamps = {path: path.stat().st_mtime_ns for path in old.rglob("further.*")}
    lines: list[str] = []
    assert rescore(plan, data, old, report=lines.append) == 0
    assert lines == ["mine: 0 runs scored, 4 had been, 0 not finished"]
    assert {path: path.stat().st_mtime_ns for path in old.rglob("further.*")} == stamps
    assert rescore(plan, data, old, again=True, report=lambda line: None) == 4
    # A finished run whose facts are gone, or that are of other data, is scored anew; the others are left.
    first = old / "mine" / plan.runs()[0].folder
    write_json(first / "further.json", {**read_json(first / "further.json"), "data_digest": "0" * 64})
    assert rescore(plan, data, old, report=lambda line: None) == 1


def test_rankseg_that_came_later_is_made_up_for(plan, data, old, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("reproduction.scoring.further.rankseg_version", lambda: None)
        patched.setattr("reproduction.runs.rescore.rankseg_version", lambda: None)
        lines: list[str] = []
        rescore(plan, data, old, report=lines.append)
        assert "rankseg not installed" in lines[0]
        results = gather(plan, old / "mine")
        assert not [method for method in results.cases["method"].unique() if "rank" in method]
        assert results.provenance["further"]["rankseg"] == ["not installed"]
        assert rescore(plan, data, old, report=lambda line: None) == 0, "still not there: nothing to do"
    monkeypatch.setattr("reproduction.runs.rescore.rankseg_version", lambda: "0.0.8")
    assert rescore(plan, data, old, report=lambda line: None) == 2, "the runs with cross-entropy, no others"


def test_only_finished_runs_are_scored(plan, data, old):
    for config in plan.runs()[1:]:
        (old / "mine" / config.folder / "metrics.json").unlink()
    lines: list[str] = []
    assert rescore(plan, data, old, report=lines.append) == 1
    assert lines[-1] == "mine: 1 runs scored, 0 had been, 3 not finished"
    (old / "mine" / plan.runs()[0].folder / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"^no run of mine is finished in \S+/mine$"):
        rescore(plan, data, old)


def test_runs_that_cannot_be_scored_are_named_and_the_others_are_scored(plan, data, old):
    first, second, third, fourth = [old / "mine" / config.folder for config in plan.runs()]
    (first / "checkpoint.pt").unlink()
    (second / "checkpoint.pt").write_bytes((second / "checkpoint.pt").read_bytes()[:-9])
    # Scores that the network in the checkpoint does not have.
    table = pd.read_csv(third / "cases.csv")
    table.assign(dice_noisy=table["dice_noisy"] + 0.1).to_csv(third / "cases.csv", index=False)
    lines: list[str] = []
    with pytest.raises(
        ValueError, match=r"^3 of 4 runs could not be scored, the first is \S+: it has no checkpoint\.pt"
    ):
        rescore(plan, data, old, report=lines.append)
    assert [line for line in lines if "checkpoint.pt is damaged or truncated" in line]
    assert [line for line in lines if "the maps made here are not those that were scored" in line]
    assert (fourth / "further.json").is_file()
    assert not any((folder / "further.json").exists() for folder in (first, second, third))


def test_a_checkpoint_of_another_run_is_refused(plan, data, old):
    first, second = [old / "mine" / config.folder for config in plan.runs()[:2]]
    shutil.copy(second / "checkpoint.pt", first / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"its maps cannot be made again: .* belongs to another run"):
        rescore_run(plan.runs()[0], first, CaseSet(data / "hippocampus"))


def test_other_data_are_refused(plan, old, tmp_path):
    tiny.make_data(tmp_path / "other", seed=3)
    with pytest.raises(ValueError, match=r"4 of 4 .* the run saw other data than those in \S+/other/hippocampus"):
        rescore(plan, tmp_path / "other", old, report=lambda line: None)
    with pytest.raises(FileNotFoundError, match=r"manifest\.json does not exist"):
        rescore(plan, tmp_path / "nowhere", old)


def test_the_arithmetic_is_that_of_the_run_and_not_of_this_machine(plan, data, old, monkeypatch):
    """With `precision: auto` another processor would choose another one: the run says which it was."""
    folder = old / "mine" / plan.runs()[0].folder
    monkeypatch.setattr("reproduction.network.training.resolve_precision", lambda precision, device: torch.bfloat16)
    facts = rescore_run(plan.runs()[0], folder, CaseSet(data / "hippocampus"))
    assert facts["apart"] == 0.0 and json.loads((folder / "metrics.json").read_text())["precision"] == "float32"


def test_a_run_that_another_process_holds_is_waited_for(plan, data, old, monkeypatch):
    config = plan.runs()[0]
    lock = filelock.FileLock(old / "mine" / config.folder / ".lock")
    lock.acquire()
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        lock.release()

    rescore(plan, data, old, report=report)
    assert lines[0] == f"{config.name}: waiting for another process that works on it"
    assert (old / "mine" / config.folder / "further.json").is_file()
