"""The plan of a preset: what is counted, the arithmetic by hand, and that its hours come from a measured step."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import tiny
from reproduction.__main__ import main
from reproduction.config import Preset, RunConfig
from reproduction.data.cases import CaseSet, assign_folds
from reproduction.network.training import Trainer
from reproduction.runs import grid, plan, profiles
from reproduction.runs.plan import Plan, Step, make_plan, time_step, time_step_apart
from reproduction.runs.run import execute
from reproduction.runs.status import run_states


class Timer:
    """Stands in for the measurement: fixed seconds for each loss, and what it was asked for."""

    def __init__(self, device: str = "cpu", **seconds: float) -> None:
        self.seconds, self.device, self.asked = seconds, device, []

    def __call__(self, config: RunConfig, shape: Sequence[int], budget_s: float) -> Step:
        self.asked.append((config, tuple(shape), budget_s))
        return Step(self.seconds[config.loss], "float32", self.device)


def begin(folder: Path, epochs: int) -> None:
    """What a run leaves that was killed after so many epochs."""
    folder.mkdir(parents=True)
    records = [json.dumps({"epoch": k, "seconds": 100.0}) + "\n" for k in range(epochs)]
    (folder / "progress.jsonl").write_text("".join(records) + '{"epoch": 99, "sec')
    (folder / "checkpoint.pt").touch()


def finish(folder: Path, config: RunConfig, data: Path, wall_s: float, training_s: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"config_hash": config.hash, "scores": {}, "wall_s": wall_s, "training_s": training_s}
    metrics["data_digest"] = CaseSet(data / config.data_folder).digest
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def preset(tmp_path: Path) -> Preset:
    """Six runs of four epochs of three steps: eight training cases in batches of three."""
    return tiny.make_preset(tmp_path / "six.yaml", {"loss": ["ce", "sd"], "fold": [0, 1, 2]}, **tiny.SMALL)


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, hidden ones too: its time and its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def made(
    preset: Preset, data: Path, runs: Path, timer: Timer, cores: int | None = 1, slots: Sequence[str] = ()
) -> Plan:
    (name,) = {config.data_folder for config in preset.runs()}
    digest = CaseSet(data / name).digest if (data / name / "manifest.json").is_file() else None
    return make_plan(run_states(preset, runs, digest), data, cores, slots, timer)


# by hand


def test_every_model_has_a_step_of_its_own_and_a_criterion_none(data, tmp_path):
    changes = {**tiny.SMALL, "select": "last", "prune_from": 0, "prune_to": 2, "prune_channels": 1}
    models = ["doubling2", "lunet2", "doubling2-l2"]
    several = tiny.make_preset(tmp_path / "models.yaml", {"loss": ["sd"], "fold": [0], "model": models}, **changes)
    timer = Timer(sd=10.0)
    text, seconds, _ = made(several, data, tmp_path / "runs", timer)
    assert [config.model for config, *_ in timer.asked] == ["doubling2", "lunet2"]
    assert seconds == [120.0] * 3 and "10 s with sd doubling2, 10 s with sd lunet2, timed here" in text


def test_nothing_begun(preset, data, tmp_path):
    timer = Timer(ce=10.0, sd=20.0)
    text, seconds, _ = made(preset, data, tmp_path / "runs", timer, 2)
    assert seconds == [120.0] * 3 + [240.0] * 3
    # One measurement a loss, in its share of the time, on the patches of the data set and the run's batch.
    assert [(c.loss, shape, budget) for c, shape, budget in timer.asked] == [
        ("ce", (3, 16, 16, 16), plan.BUDGET_S / 2),
        ("sd", (3, 16, 16, 16), plan.BUDGET_S / 2),
    ]
    # 1080 s: 0.3 hours; 540 s on two cores; on 64 cores no plan is shorter than the longest run.
    assert text.splitlines() == [
        "plan: 6 runs: 0 done, 0 resumable, 6 missing",
        "steps: 72 to train; a run has 4 epochs of 3",
        "step: 10 s with ce, 20 s with sd, timed here on random data: 16 x 16 x 16 voxels, batch 3, float32, 1 core",
        "cost: 0.3 CPU hours; 9 min of wall time on 2 cores",
        "in it: training alone; not in it: data, tables and book",
    ]
    assert "cost: 0.3 CPU hours; 4 min of wall time on 64 cores" in made(preset, data, tmp_path, timer, 64).text
    assert not (tmp_path / "runs").exists()


def test_done_and_resumable_runs_by_hand(preset, data, tmp_path):
    configs, home = preset.runs(), tmp_path / "six"
    finish(home / configs[0].folder, configs[0], data, wall_s=45.0, training_s=40.0)
    finish(home / configs[3].folder, configs[3], data, wall_s=55.0, training_s=40.0)
    begin(home / configs[1].folder, 3)
    begin(home / configs[4].folder, 4)  # killed while it was scored
    begin(home / configs[5].folder, 2)
    (home / configs[5].folder / "checkpoint.pt").unlink()  # it starts over: its epochs are gone
    text, seconds, _ = made(preset, data, tmp_path, Timer(ce=10.0, sd=20.0))
    # Finished runs took 5 s and 15 s outside training: 10 s come to every run that is not done.
    assert seconds == [0.0, 30.0 + 10.0, 120.0 + 10.0, 0.0, 10.0, 240.0 + 10.0]
    lines = text.splitlines()
    assert lines[0] == "plan: 6 runs: 2 done, 2 resumable with 1 epochs left, 2 missing"
    assert lines[1] == "steps: 27 to train; a run has 4 epochs of 3"
    assert lines[3] == "cost: 0.119 CPU hours; 7 min of wall time on 1 core"
    assert lines[4] == "in it: 10 s a run outside training; not in it: data, tables and book"


def test_a_result_of_other_data_is_none(preset, data, tmp_path):
    first = preset.runs()[0]
    timer = Timer(ce=1.0, sd=1.0)
    execute(first, tmp_path / "six" / first.folder, data, report=lambda line: None)
    assert made(preset, data, tmp_path, timer).text.startswith("plan: 6 runs: 1 done, 0 resumable")
    tiny.make_data(tmp_path / "other", seed=1)
    assert made(preset, tmp_path / "other", tmp_path, timer).text.startswith("plan: 6 runs: 0 done, 1 resumable")
    # Without any data the configuration is all there is to go by.
    assert made(preset, tmp_path / "none", tmp_path, timer).text.startswith("plan: 6 runs: 1 done")


def test_a_result_of_another_configuration_is_none(preset, data, tmp_path):
    first, other, *_ = preset.runs()
    finish(tmp_path / "six" / first.folder, other, data, wall_s=1.0, training_s=1.0)
    assert made(preset, data, tmp_path, Timer(ce=1.0, sd=1.0)).text.startswith("plan: 6 runs: 0 done")


def test_only_what_is_left_is_timed(preset, data, tmp_path):
    def finish_all(loss: str) -> None:
        for config in preset.runs():
            if config.loss == loss:
                finish(tmp_path / "six" / config.folder, config, data, wall_s=2.0, training_s=1.0)

    finish_all("ce")
    timer = Timer(sd=2.0)
    made(preset, data, tmp_path, timer)
    assert [(c.loss, budget) for c, _, budget in timer.asked] == [("sd", plan.BUDGET_S)]
    # All trained but for the scores: no step is left to time, but time outside training is.
    for config in preset.runs():
        if config.loss == "sd":
            begin(tmp_path / "six" / config.folder, 4)
    text, seconds, _ = made(preset, data, tmp_path, Timer())
    assert sum(seconds) == 3.0
    assert text.splitlines()[:3] == [
        "plan: 6 runs: 3 done, 3 resumable with 0 epochs left, 0 missing",
        "steps: 0 to train; a run has 4 epochs of 3",
        "cost: less than 0.001 CPU hours; 3 s of wall time on 1 core",
    ]
    # All done: there is nothing to say.
    finish_all("sd")
    assert made(preset, data, tmp_path, Timer()).text == "plan: 6 runs: 6 done, 0 resumable, 0 missing"


def test_threads_gpu_and_machines_elsewhere(data, tmp_path):
    wide = tiny.make_preset(tmp_path / "wide.yaml", {"loss": ["ce"], "fold": [0, 1]}, **{**tiny.SMALL, "threads": 4})

    def text(cores: int | None, slots: Sequence[str] = (), device: str = "cpu") -> str:
        return made(wide, data, tmp_path, Timer(device, ce=300.0), cores, slots).text

    # Two runs of an hour, each on four cores: eight hours of a core; one after the other, or side by side.
    assert "cost: 8 CPU hours; 2 h 00 min of wall time on 7 cores" in text(7)
    assert "cost: 8 CPU hours; 1 h 00 min of wall time on 8 cores" in text(8)
    assert "batch 3, float32, 4 cores\n" in text(8)
    assert "cost: 8 CPU hours; the wall time depends on how many runs the cluster starts at a time" in text(None)
    # A GPU is one, however many threads the processor has.
    assert "batch 3, float32, cuda\n" in text(8, device="cuda")
    assert "cost: 2 GPU hours; 2 h 00 min of wall time on 1 GPU whose runs take turns" in text(8, device="cuda")
    # Two GPUs take a run each; of three, one has nothing to do.
    for slots in (["0-0", "1-0", "0-1"], ["0-0", "1-0", "2-0"]):
        count = len({slot[0] for slot in slots})
        expected = f"cost: 2 GPU hours; 1 h 00 min of wall time on {count} GPUs whose runs take turns"
        assert expected in text(8, slots, "cuda")
    # Where runs share the main memory, no more of them run than have a slot, whatever the cores.
    assert "cost: 8 CPU hours; 2 h 00 min of wall time on 4 cores" in text(64, ["cpu-0"])
    assert "cost: 8 CPU hours; 1 h 00 min of wall time on 8 cores" in text(64, ["cpu-0", "cpu-1"])


def test_limits_and_folds_of_unequal_size(tmp_path):
    cases = tiny.make_data(tmp_path / "data", cases=11)
    assert sorted(len(cases.split("hippocampus", fold)[0]) for fold in range(5)) == [8, 9, 9, 9, 9]
    grid_of_five = {"loss": ["ce"], "fold": [0, 1, 2, 3, 4]}
    preset = tiny.make_preset(tmp_path / "b.yaml", grid_of_five, **{**tiny.SMALL, "batch_size": 8})
    assert "a run has 4 epochs of 1 to 2\n" in made(preset, tmp_path / "data", tmp_path, Timer(ce=1.0)).text
    preset = tiny.make_preset(tmp_path / "a.yaml", grid_of_five, **{**tiny.SMALL, "batch_size": 3})
    assert "a run has 4 epochs of 3\n" in made(preset, tmp_path / "data", tmp_path, Timer(ce=1.0)).text
    # A limit on the training cases, and a batch that is larger than what is left.
    values = {**tiny.SMALL, "batch_size": 8, "train_cases": 5}
    preset = tiny.make_preset(tmp_path / "c.yaml", {"loss": ["ce"]}, **values)
    timer = Timer(ce=1.0)
    assert made(preset, tmp_path / "data", tmp_path, timer).seconds == [4.0] and timer.asked[0][1] == (5, 16, 16, 16)


@pytest.mark.parametrize("name", ["quick", "phantoms", "smoke", "hippocampus"])
def test_what_is_expected_is_what_there_will_be(name, tmp_path):
    """A plan without the data set is the plan with it: same patches, same training cases in every fold."""
    preset = Preset.load(name)
    timer = Timer(ce=1.0, sd=1.0)
    seconds = made(preset, tmp_path, tmp_path, timer).seconds
    assert {shape[1:] for _, shape, _ in timer.asked} == {(32, 32, 32)}
    cases = preset.values["phantom_cases"] or 260
    entries = {f"case-{k}": {"voxels": 1, "sha256": ""} for k in range(cases)}
    folds = assign_folds(entries)
    whole = CaseSet.__new__(CaseSet)
    whole.manifest = {"organs": {o: {n: {"fold": folds[n]} for n in entries} for o in preset.grid["organ"]}}
    for config, expected in zip(preset.runs(), seconds, strict=True):
        train, _ = whole.split(config.organ, config.fold)
        assert expected == config.epochs * math.ceil((config.train_cases or len(train)) / config.batch_size)


# the timed step


def step_seconds(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> list[Trainer]:
    """Let steps take so many seconds of a clock; the trainers that make them."""
    now, left, trainers = [0.0], list(seconds), []
    original = Trainer.run_epoch

    def run_epoch(trainer: Trainer) -> dict[str, float]:
        trainers.append(trainer)
        now[0] += left.pop(0)
        return original(trainer)

    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
    monkeypatch.setattr(plan.time, "perf_counter", lambda: now[0])
    return trainers


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([9.0, 5.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 4.0),  # two to warm up, then the median of seven
        ([40.0, 20.0, 10.0, 10.0, 10.0, 10.0], 10.0),  # 100 s are full
        ([45.0, 40.0], 40.0),  # the third would not fit: the second is the measure; then not even the second
        ([51.0], 51.0),
    ],
)
def test_the_median_after_warming_up_in_the_time_there_is(seconds, expected, monkeypatch):
    trainers = step_seconds(monkeypatch, *seconds)
    assert time_step(tiny.small_config(), (1, 8, 8, 8), 100.0) == Step(expected, "float32", "cpu")
    assert len(trainers) == len(seconds)


def test_a_gpu_is_started_before_it_is_timed(monkeypatch):
    """On a GPU the first two steps are never the measure, however long they take."""

    class Gpu:
        type = "cuda"

        def __str__(self) -> str:
            return "cuda"

    trainers = step_seconds(monkeypatch, 500.0, 40.0, 16.0)  # epochs of eight steps
    original = Trainer.__init__

    def on_cpu(self: Trainer, config, images, labels, device) -> None:
        original(self, config, images, labels, torch.device("cpu"))

    monkeypatch.setattr("reproduction.runs.run.choose_device", Gpu)
    monkeypatch.setattr(Trainer, "__init__", on_cpu)
    assert time_step(tiny.small_config(), (1, 8, 8, 8), 100.0) == Step(2.0, "float32", "cuda")
    assert {len(trainer.images) / trainer.config.batch_size for trainer in trainers} == {8}


def test_a_step_is_one_of_the_run(monkeypatch):
    """Network, loss, batch, patch, arithmetic and augmentation are the run's own; an epoch of it is one step."""
    trainers = step_seconds(monkeypatch, *[1.0] * 9)
    config = tiny.small_config(loss="sd", batch_size=3, precision="bfloat16", threads=1)
    batches: list[tuple[int, ...]] = []
    original = Trainer.logits
    monkeypatch.setattr(
        Trainer, "logits", lambda self, images: batches.append(tuple(images.shape)) or original(self, images)
    )
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert time_step(config, (3, 8, 16, 8), 100.0) == Step(1.0, "bfloat16", "cpu")
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers are left alone"
    assert {trainer.config for trainer in trainers} == {config}
    assert {len(trainer.images) for trainer in trainers} == {3} and batches == [(3, 1, 8, 16, 8)] * 9
    # Nothing of what an epoch does once is in a step.
    assert all(trainer.best_weights == {} for trainer in trainers)


def test_a_process_of_its_own_gives_the_same_answer(monkeypatch):
    monkeypatch.setenv("NOISYSEG_DEVICE", "cpu")
    step = time_step_apart(tiny.small_config(precision="float32"), (1, 8, 8, 8), 60.0)
    assert step[1:] == ("float32", "cpu") and 0 < step.seconds < 10
    with pytest.raises(ValueError, match=r"image has shape \(1, 1, 9, 9, 9\); expected .* axes that 2 divides"):
        time_step_apart(tiny.small_config(), (1, 9, 9, 9), 60.0)


# without the data


def test_the_paper_without_its_data(tmp_path, monkeypatch, capsys):
    """120 runs are planned beforehand, at the paper's size, and the data's command is named."""
    timer = Timer(ce=0.5, sd=1.0)
    monkeypatch.setattr(plan, "time_step", timer)
    monkeypatch.chdir(tmp_path)
    assert main(["grid", "--preset", "paper", "--dry-run", "--cores", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("paper: 120 runs, 0 done; ")
    assert lines[1] == "plan: 120 runs: 0 done, 0 resumable, 120 missing"
    assert lines[2] == "steps: 3,840,000 to train; a run has 100 epochs of 320"
    assert "64 x 64 x 64 voxels, batch 1" in lines[3]
    # 60 runs of 32000 steps of 0.5 s and as many of 1 s: 2.88 million seconds.
    assert lines[4] == "cost: 800 CPU hours; 100 h 00 min of wall time on 8 cores"
    assert lines[-1] == (
        "data: data/totalsegmentator is missing and made first, 400 cases an organ of 64 x 64 x 64 voxels; "
        "alone with: python data_scripts/totalsegmentator.py --out data/totalsegmentator"
    )
    assert [shape for _, shape, _ in timer.asked] == [(1, 64, 64, 64)] * 2
    assert timer.asked[0][0].features == (16, 32, 64, 128, 256)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("hippocampus", "data_scripts/hippocampus.py --out {}/hippocampus"),
        ("quick", "data_scripts/phantoms.py --out {}/phantoms-32-100-1 --size 32 --cases 100 --seed 1"),
    ],
)
def test_the_command_of_missing_data_is_one_that_the_script_takes(name, command, tmp_path, root):
    text = made(Preset.load(name), tmp_path, tmp_path, Timer(ce=1.0, sd=1.0)).text
    expected = command.format(tmp_path)
    assert text.endswith(f"with: python {expected}")
    script, *options = expected.split()
    source = (root / script).read_text()
    assert all(f'"{option}"' in source for option in options if option.startswith("--"))


def test_a_damaged_data_set_is_named(preset, tmp_path):
    (tmp_path / "hippocampus").mkdir()
    (tmp_path / "hippocampus" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is not valid JSON"):
        made(preset, tmp_path, tmp_path, Timer())


# the whole line


def test_the_hours_come_from_a_measured_step(preset, data, tmp_path, monkeypatch, capsys):
    """Every training step takes so many seconds of the clock: the printed hours follow, with nothing else changed."""

    def hours(seconds: float) -> float:
        arguments = ["--preset", str(tmp_path / "six.yaml"), "--data", str(data), "--runs", str(tmp_path / "runs")]
        with monkeypatch.context() as patch:
            step_seconds(patch, *[seconds] * 18)
            assert main(["grid", "--dry-run", *arguments]) == 0
        (found,) = re.findall(r"cost: ([\d.,]+) CPU hours", capsys.readouterr().out)
        return float(found.replace(",", ""))

    # 72 steps.
    assert [hours(seconds) for seconds in (1.0, 50.0, 200.0)] == [0.02, 1.0, 4.0]


def test_a_dry_run_starts_and_writes_nothing(preset, data, tmp_path, monkeypatch, capsys):
    configs, runs = preset.runs(), tmp_path / "runs"
    execute(configs[0], runs / "six" / configs[0].folder, data, report=lambda line: None)
    stopped = runs / "six" / configs[1].folder

    def die(line: str) -> None:
        if "epoch 3/4" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(configs[1], stopped, data, report=die)
    before = everything(tmp_path)
    monkeypatch.setattr(grid, "_run_snakemake", lambda *_: pytest.fail("Snakemake was started"))
    monkeypatch.chdir(tmp_path)
    arguments = ["--preset", str(tmp_path / "six.yaml"), "--data", str(data), "--runs", str(runs)]
    assert main(["grid", "--dry-run", *arguments, "--cores", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "six: 6 runs, 1 done; a preset of the tests"
    assert lines[1] == "plan: 6 runs: 1 done, 1 resumable with 1 epochs left, 4 missing"
    assert lines[2] == f"steps: {1 * 3 + 4 * 12} to train; a run has 4 epochs of 3"
    assert re.fullmatch(r"step: \S+ s with ce, \S+ s with sd, timed here .* batch 3, float32, 1 core", lines[3])
    assert everything(tmp_path) == before


def test_the_plan_is_the_first_thing_that_is_said(preset, data, tmp_path, monkeypatch):
    said: list[str] = []

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "time_step", Timer(ce=1.0, sd=1.0))
    monkeypatch.setattr(grid, "_run_snakemake", stop)
    with pytest.raises(KeyboardInterrupt):
        grid.run_grid(str(tmp_path / "six.yaml"), data, tmp_path / "runs", cores=2, report=said.append)
    assert said[1].startswith("plan: 6 runs: 0 done, 0 resumable, 6 missing\nsteps: 72 to train")
    assert "cost: 0.02 CPU hours; 36 s of wall time on 2 cores" in said[1] and len(said) == 2


def test_a_dry_run_says_how_many_runs_share_which_gpu(preset, data, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "time_step", Timer("cuda", ce=300.0, sd=300.0))
    monkeypatch.setattr(profiles, "free_memory", lambda: {"0": 5000, "1": 3500, "2": 10})
    monkeypatch.setattr(profiles, "estimate_mib", lambda config: 1600)
    arguments = {"data": data, "runs": tmp_path / "runs", "cores": 4, "profile": "gpus", "dry_run": True}

    def said() -> list[str]:
        lines: list[str] = []
        grid.run_grid(str(tmp_path / "six.yaml"), report=lines.append, **arguments)
        return lines

    _, text, line = said()
    # 6 runs of 12 steps of 300 s are 6 hours; the third GPU has no room.
    assert "cost: 6 GPU hours; 3 h 00 min of wall time on 2 GPUs whose runs take turns" in text
    assert line == "six: a run takes about 1600 MiB, so that 3 on GPU 0, 2 on GPU 1, 0 on GPU 2 run at the same time"
    # Where no run would start, the plan is made all the same, and says so.
    monkeypatch.setattr(profiles, "free_memory", lambda: {"0": 1000})
    _, text, line = said()
    assert "of wall time on 1 GPU whose runs take turns" in text
    assert line.startswith("six: the runs would not start: a run takes 1600 MiB and fits nowhere: 0 has 1000 MiB free;")
    assert not (tmp_path / "runs").exists()


def test_make_has_a_dry_run(root):
    recipe = (root / "Makefile").read_text().split("reproduce: $(STAMP)")[1].split("\n\n")[0]
    assert "$(if $(DRY_RUN),--dry-run)" in recipe
