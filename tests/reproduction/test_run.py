"""A run's folder: what is in it, and that no end of a process changes what it holds in the end."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import torch

import noisyseg
import tiny
from reproduction.config import is_done
from reproduction.data.cases import CaseSet
from reproduction.network.pairs import noisy_label
from reproduction.network.training import Trainer
from reproduction.provenance import provenance
from reproduction.runs.run import Run, choose_device, execute
from reproduction.scoring.rules import CONSTANTS, METHODS, OTHER_RULES, RANK_SOLVERS, rankseg_version

CONFIG = tiny.small_config()
WAIT_S = 120  # for a loaded machine; nothing here measures time


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("reference")
    execute(CONFIG, folder, data, report=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def children() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reproduction.runs.run"])  # torch is imported once
    return context


def in_child(children, what, folder: Path, data: Path, *more: object) -> int:
    process = children.Process(target=what, args=(str(folder), str(data), CONFIG.to_dict(), *more), daemon=True)
    process.start()
    process.join(WAIT_S)
    assert process.exitcode is not None
    return process.exitcode


def silent(line: str) -> None:
    """Report nothing."""


# what a run leaves


def test_the_folder_holds_what_the_design_says(reference, data):
    names = {path.name for path in reference.iterdir()}
    assert names == {".lock", "config.json", "progress.jsonl", "checkpoint.pt", "cases.csv", "metrics.json"}
    assert json.loads((reference / "config.json").read_text()) == CONFIG.to_dict()
    times = {name: (reference / name).stat().st_mtime_ns for name in names - {".lock"}}
    assert max(times, key=lambda name: times[name]) == "metrics.json"


def test_the_metrics_say_where_they_come_from(reference, data):
    metrics = json.loads((reference / "metrics.json").read_text())
    assert metrics["run"] == CONFIG.name and metrics["config_hash"] == CONFIG.hash
    assert metrics["data_digest"] == CaseSet(data / "hippocampus").digest
    assert (metrics["train_cases"], metrics["test_cases"]) == (8, 2)
    assert metrics["precision"] == "float32" and metrics["wall_s"] > 0 and metrics["peak_memory_mib"] > 0
    found = metrics["provenance"]
    assert found["version"] == noisyseg.__version__ and found["packages"]["torch"].startswith("2.")
    assert found["commit"] == provenance()["commit"] and found["machine"]["cores"] == os.cpu_count()
    table = pd.read_csv(reference / "cases.csv")
    for method, score in metrics["scores"].items():
        assert score == pytest.approx(table.loc[table["method"] == method, "dice_noisy"].mean(), abs=1e-6)


def test_the_scores_are_those_of_the_stored_network(reference, data):
    """Every number of cases.csv again, from the checkpoint and the public functions."""
    cases = CaseSet(data / "hippocampus")
    train, test = (cases.load("hippocampus", ids) for ids in cases.split("hippocampus", 0))
    assert len(train) == 8 and len(test) == 2 and not {c.id for c in train} & {c.id for c in test}
    labels = torch.from_numpy(np.stack([noisy_label(case, CONFIG) for case in train]))[:, None]
    images = torch.from_numpy(np.stack([case.image for case in train]))[:, None]
    trainer = Trainer(CONFIG, images, labels, torch.device("cpu"))
    trainer.load(reference / "checkpoint.pt", data_digest=cases.digest)
    table = pd.read_csv(reference / "cases.csv").set_index(["case", "method"])
    methods = [name for name, loss in {**METHODS, **OTHER_RULES}.items() if loss == "ce"]
    methods = [*(name for name in methods if rankseg_version() or name not in RANK_SOLVERS), *CONSTANTS]
    assert list(table.index) == [(case.id, method) for case in test for method in methods]
    for case in test:
        c = trainer.probabilities(torch.from_numpy(case.image)[None, None])[0].numpy()
        noisy, marginal = noisy_label(case, CONFIG), noisyseg.GaussianDeformation(0.02, CONFIG.b).marginal(case.label)
        for method, threshold in (("CE(0)", 0.5), ("CE(*)", noisyseg.dice_threshold(c))):
            mask, row = c >= np.float64(threshold), table.loc[(case.id, method)]
            expected = {
                **{"threshold": threshold, "volume": mask.sum(), "volume_noisy": noisy.sum()},
                **{"volume_clean": case.label.sum(), "volume_marginal": marginal.sum()},
                "soft_volume": c.sum(dtype=np.float64),
                **{"dice_noisy": noisyseg.dice(mask, noisy), "dice_clean": noisyseg.dice(mask, case.label)},
                **{"dice_marginal": noisyseg.dice(mask, marginal), "ceiling": 2 * noisyseg.dice_threshold(marginal)},
            }
            assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_the_scores_of_the_other_rules_are_those_of_the_stored_network(reference, data):
    """Threshold of the fold and oracle again, by brute force: each threshold of the grid on each training map."""
    cases = CaseSet(data / "hippocampus")
    train, test = (cases.load("hippocampus", ids) for ids in cases.split("hippocampus", 0))
    labels = [noisy_label(case, CONFIG) for case in train]
    images = torch.from_numpy(np.stack([case.image for case in train]))[:, None]
    trainer = Trainer(CONFIG, images, torch.from_numpy(np.stack(labels))[:, None], torch.device("cpu"))
    trainer.load(reference / "checkpoint.pt", data_digest=cases.digest)
    maps = trainer.probabilities(images).numpy()
    grid = np.arange(1, 1000) / 1000
    means = [np.mean([noisyseg.dice(c >= u, label) for c, label in zip(maps, labels, strict=True)]) for u in grid]
    best = grid[np.array(means) >= max(means) - 1e-12]
    facts = json.loads((reference / "metrics.json").read_text())["rules"]
    assert facts["rankseg"] == rankseg_version()
    assert facts["threshold"] in best and facts["train_dice"] == pytest.approx(max(means), abs=1e-6)
    table = pd.read_csv(reference / "cases.csv").set_index(["case", "method"])
    for case in test:
        c, noisy = trainer.probabilities(torch.from_numpy(case.image)[None, None])[0].numpy(), noisy_label(case, CONFIG)
        row = table.loc[(case.id, "CE(fold)")]
        mask = c >= np.float64(facts["threshold"])
        assert (row["volume"], row["dice_noisy"]) == (mask.sum(), pytest.approx(noisyseg.dice(mask, noisy)))
        assert row["ceiling"] == pytest.approx(table.loc[(case.id, "CE(0)"), "ceiling"])
        oracle = max(noisyseg.dice(c >= np.float64(u), noisy) for u in np.unique(c))
        assert table.loc[(case.id, "CE(oracle)"), "dice_noisy"] == pytest.approx(oracle, abs=1e-12)


def test_progress_is_the_history(reference):
    lines = [json.loads(line) for line in (reference / "progress.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    assert all(set(line) == {"epoch", "train_loss", "train_dice", "lr", *tiny.CLOCKS} for line in lines)
    assert sum(line["seconds"] for line in lines) == pytest.approx(
        json.loads((reference / "metrics.json").read_text())["training_s"], abs=1e-3
    )


def test_a_person_can_watch(data, tmp_path):
    lines: list[str] = []
    execute(tiny.small_config(epochs=2), tmp_path, data, report=lines.append)
    name = CONFIG.name
    assert [line.split("  ")[0] for line in lines] == [
        f"{name}: epoch 1/2",
        f"{name}: epoch 2/2",
        f"{name}: done, mean test Dice",
    ]
    assert lines[0].endswith(" s left") and "CE(0) 0." in lines[2] and "CE(*) 0." in lines[2]


# done, and not done


def test_a_finished_run_is_not_run_again(reference, data, tmp_path, monkeypatch):
    folder = shutil.copytree(reference, tmp_path / "run")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(Trainer, "run_epoch", lambda self: pytest.fail("trained again"))
    metrics = execute(CONFIG, folder, data, report=silent)
    assert metrics == json.loads((reference / "metrics.json").read_text())
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_steps_of_a_finished_run_show_what_is_stored(reference, data, tmp_path, monkeypatch):
    folder = shutil.copytree(reference, tmp_path / "run")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    monkeypatch.setattr(Trainer, "run_epoch", lambda self: pytest.fail("trained again"))
    with Run(CONFIG, folder, data, silent) as run:
        run.load()
        assert run.trained and len(run.trainer.history) == 4
        table = run.score()
        assert run.finish() == json.loads((reference / "metrics.json").read_text())
        maps = run.predict()
    for case, c in zip(run.cases, maps, strict=True):
        volume = table.loc[(table["case"] == case.id) & (table["method"] == "CE(0)"), "volume"].item()
        assert np.count_nonzero(c >= 0.5) == volume
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    # Its network is gone: there is nothing to show, and it is not trained again without a word.
    (folder / "checkpoint.pt").unlink()
    with Run(CONFIG, folder, data, silent) as run, pytest.raises(FileNotFoundError, match=r"checkpoint\.pt"):
        run.load()


def test_a_step_can_be_taken_again_in_one_process(data, tmp_path):
    """A notebook's cell may be executed twice; the second run object does not wait for the first."""
    lines: list[str] = []
    first, second = (Run(CONFIG, tmp_path, data, lines.append).open() for _ in range(2))
    with pytest.raises(filelock.Timeout):
        filelock.FileLock(tmp_path / ".lock", timeout=0).acquire()
    second.close()
    first.close()
    with filelock.FileLock(tmp_path / ".lock", timeout=0):
        assert lines == []


def test_a_result_of_other_data_or_numbers_does_not_count(reference, data, tmp_path):
    digest = json.loads((reference / "metrics.json").read_text())["data_digest"]
    assert is_done(reference, CONFIG) and is_done(reference, CONFIG, digest)
    assert not is_done(reference, CONFIG, "0" * 64)
    assert not is_done(reference, tiny.small_config(epochs=5))
    assert not is_done(tmp_path, CONFIG)
    # Other data are noticed even where a result is there: nothing of the old run is used, or silently replaced.
    folder = shutil.copytree(reference, tmp_path / "run")
    tiny.make_data(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to another run.*delete it to start over"):
        execute(CONFIG, folder, tmp_path / "other", report=silent)
    (folder / "checkpoint.pt").unlink()
    metrics = execute(CONFIG, folder, tmp_path / "other", report=silent)
    assert metrics["data_digest"] != digest and metrics["best_epoch"] >= 0
    assert tiny.outcome(folder)["cases"] != tiny.outcome(reference)["cases"]


def test_damaged_files_are_named(reference, data, tmp_path):
    folder = shutil.copytree(reference, tmp_path / "run")
    (folder / "metrics.json").write_text('{"config_hash": ')
    with pytest.raises(ValueError, match=r"metrics\.json is not valid JSON"):
        execute(CONFIG, folder, data, report=silent)
    (folder / "metrics.json").unlink()
    content = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged or truncated"):
        execute(CONFIG, folder, data, report=silent)
    assert (folder / "failure.txt").read_text().startswith("ValueError: ")
    # Putting it right is enough: the next call succeeds, and takes the record of the failure away.
    (folder / "checkpoint.pt").write_bytes(content)
    execute(CONFIG, folder, data, report=silent)
    assert not (folder / "failure.txt").exists()
    assert tiny.outcome(folder) == tiny.outcome(reference)


def test_a_failure_is_one_line_and_the_next_success_removes_it(data, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("two\n  lines")

    with monkeypatch.context() as patch:
        patch.setattr("reproduction.runs.run.score_cases", broken)
        with pytest.raises(RuntimeError, match="two"):
            execute(CONFIG, tmp_path, data, report=silent)
    assert (tmp_path / "failure.txt").read_text() == "RuntimeError: two lines\n"
    assert not (tmp_path / "metrics.json").exists() and (tmp_path / "checkpoint.pt").exists()
    execute(CONFIG, tmp_path, data, report=silent)
    assert not (tmp_path / "failure.txt").exists() and (tmp_path / "metrics.json").exists()


def test_missing_data_and_a_damaged_case_are_named(data, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json does not exist.*data_scripts"):
        execute(CONFIG, tmp_path / "run", tmp_path / "nowhere", report=silent)
    assert (tmp_path / "run" / "failure.txt").read_text().startswith("FileNotFoundError: ")
    broken = shutil.copytree(data, tmp_path / "data")
    path = broken / "hippocampus" / "hippocampus" / "case-3.npz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"case-3\.npz is no readable case"):
        execute(CONFIG, tmp_path / "run", broken, report=silent)
    assert "case-3.npz" in (tmp_path / "run" / "failure.txt").read_text()


def test_the_device_can_be_chosen(monkeypatch):
    monkeypatch.setenv("NOISYSEG_DEVICE", "cpu")
    assert choose_device() == torch.device("cpu")


# killed, and gone on with


@pytest.mark.parametrize(
    ("where", "epochs"),
    [
        ("in the epoch", 1),
        ("before the checkpoint", 1),
        ("after the checkpoint", 2),
        ("before the scores", 4),
        ("before metrics.json", 4),
    ],
)
def test_a_killed_run_ends_with_the_same_numbers(children, reference, data, tmp_path, where, epochs):
    assert in_child(children, tiny.run_and_die, tmp_path, data, where) == -9
    assert not (tmp_path / "metrics.json").exists()
    lines: list[str] = []
    execute(CONFIG, tmp_path, data, report=lines.append)
    assert f"{CONFIG.name}: resumed after epoch {epochs} of 4" in lines
    assert sum(": epoch " in line for line in lines) == 4 - epochs
    assert tiny.outcome(tmp_path) == tiny.outcome(reference)
    # The clocks go on where the killed process had left them.
    curve = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for clock in ("wall_s", "cpu_s"):
        seen = [record[clock] for record in curve] + [metrics[clock]]
        assert seen == sorted(seen) and seen[0] > 0
    assert metrics["wall_s"] >= metrics["training_s"]


def test_half_a_line_of_progress_is_replaced(children, reference, data, tmp_path):
    assert in_child(children, tiny.run_and_die, tmp_path, data, "before the scores") == -9
    progress = tmp_path / "progress.jsonl"
    for content in (progress.read_bytes()[:-20], b"", progress.read_bytes() + b'{"epoch": 4, "tr'):
        progress.write_bytes(content)
        (tmp_path / "metrics.json").unlink(missing_ok=True)
        execute(CONFIG, tmp_path, data, report=silent)
        assert tiny.outcome(tmp_path) == tiny.outcome(reference)


def test_a_full_disk_loses_nothing(children, reference, data, tmp_path):
    assert in_child(children, tiny.run_on_full_disk, tmp_path, data) == 0
    assert "[Errno 27]" in (tmp_path / "seen.txt").read_text()
    assert "OSError" in (tmp_path / "failure.txt").read_text()
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))
    lines: list[str] = []
    execute(CONFIG, tmp_path, data, report=lines.append)
    assert lines[0] == f"{CONFIG.name}: resumed after epoch 2 of 4"
    assert not (tmp_path / "failure.txt").exists()
    assert tiny.outcome(tmp_path) == tiny.outcome(reference)


def test_a_second_process_waits_and_trains_nothing(children, reference, data, tmp_path, monkeypatch):
    process = children.Process(target=tiny.run_slowly, args=(str(tmp_path), str(data), CONFIG.to_dict()), daemon=True)
    process.start()
    while not (tmp_path / "training").exists():
        assert process.is_alive()
        time.sleep(0.05)
    with pytest.raises(filelock.Timeout):
        filelock.FileLock(tmp_path / ".lock", timeout=0).acquire()
    monkeypatch.setattr(Trainer, "run_epoch", lambda self: pytest.fail("trained again"))
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        (tmp_path / "go").touch()  # only now may the first one train

    metrics = execute(CONFIG, tmp_path, data, report=report)
    process.join(WAIT_S)
    assert lines == [f"{CONFIG.name}: waiting for another process that works on it"]
    assert process.exitcode == 0 and metrics["config_hash"] == CONFIG.hash
    assert tiny.outcome(tmp_path) == tiny.outcome(reference)
