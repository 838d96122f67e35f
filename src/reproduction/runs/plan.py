"""What a preset will cost, beforehand: runs to do, hours from a training step timed here (book chapter *Reproduce*).

Nothing in the estimate is a constant of some other machine: see :func:`reproduction.runs.step_time.time_step`. Planning writes
nothing.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reproduction.config import Preset, RunConfig, is_done
from reproduction.data.totalsegmentator import cutting
from reproduction.data.cases import CaseSet
from reproduction.runs.gpus import case_count, patch_side
from reproduction.runs.status import beside_training, clock_text, finished_epochs, wall_seconds
from reproduction.runs.step_time import Step, time_step

BUDGET_S = 16.0  # for all timed steps of a plan together


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan: its state (``done``, ``resumable`` or ``missing``), and what is left of it."""

    config: RunConfig
    state: str
    epochs_left: int
    train_cases: int

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch; its last batch counts as a full one."""
        return math.ceil(self.train_cases / self.config.batch_size)

    @property
    def steps_left(self) -> int:
        """Training steps to go."""
        return self.epochs_left * self.steps_per_epoch


@dataclass(frozen=True)
class Plan:
    """All runs of a preset, the timed step of each loss that still has runs to do, and what the estimate rests on.

    ``shape`` is the patch's (x, y, z) in voxels, ``beside_s`` the mean time that finished runs took beside training
    (NaN without any), ``absent`` the folders of data sets that are not there yet.
    """

    preset: Preset
    runs: tuple[PlannedRun, ...]
    steps: dict[str, Step]
    shape: tuple[int, ...]
    beside_s: float
    absent: tuple[Path, ...]

    def seconds(self) -> list[float]:
        """Seconds that every run still takes, 0 for those that are done."""
        beside = 0.0 if math.isnan(self.beside_s) else self.beside_s
        return [
            0.0
            if run.state == "done"
            else beside + (run.steps_left * self.steps[run.config.loss].seconds if run.steps_left else 0.0)
            for run in self.runs
        ]


def _expected(config: RunConfig) -> tuple[tuple[int, ...], int]:
    """Patch shape and cases an organ of a data set that has not been made."""
    return (patch_side(config),) * 3, case_count(config)


def make_plan(
    preset: Preset,
    data: str | os.PathLike[str] = "data",
    runs: str | os.PathLike[str] = "runs",
    timer: Callable[[RunConfig, Sequence[int], float], Step] | None = None,
) -> Plan:
    """Plan a preset: what is done, what can go on, what is missing, and the time of a training step.

    Parameters
    ----------
    preset
        The grid.
    data, runs
        Where data sets and runs live. Nothing is written there.
    timer
        Replaces :func:`reproduction.runs.step_time.time_step`. It is called once for every loss that has runs to do.

    Raises
    ------
    FileNotFoundError, ValueError
        If a data set that is there is damaged, or lacks an organ or a fold of the preset.
    """
    timer = timer or time_step
    home = Path(runs) / preset.name
    sets: dict[str, CaseSet | None] = {}
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    planned: list[PlannedRun] = []
    beside: list[float] = []
    for config in preset.runs():
        where = Path(data) / config.data_folder
        if config.data_folder not in sets:
            sets[config.data_folder] = CaseSet(where) if (where / "manifest.json").is_file() else None
        there = sets[config.data_folder]
        if there is None:
            shape, cases = _expected(config)
            train = cases - len(range(config.fold, cases, cutting.FOLDS))
        else:
            ids, _ = there.split(config.organ, config.fold)
            train, key = len(ids), (config.data_folder, config.organ)
            shape = shapes.get(key) or there.load(config.organ, ids[:1])[0].image.shape
        shapes[config.data_folder, config.organ] = shape
        train = min(train, config.train_cases or train)
        folder = home / config.folder
        state, left = "missing", config.epochs
        if is_done(folder, config, there.digest if there else None):
            state, left = "done", 0
            beside.append(beside_training(folder))
        elif (folder / "checkpoint.pt").is_file():
            state, left = "resumable", max(0, config.epochs - len(finished_epochs(folder)))
        planned.append(PlannedRun(config, state, left, train))
    # The first run of each loss that has something left to do is what its step is timed for.
    todo = {run.config.loss: run for run in reversed(planned) if run.steps_left}
    steps = {}
    for loss in sorted(todo):
        config = todo[loss].config
        batch = (min(config.batch_size, todo[loss].train_cases), *shapes[config.data_folder, config.organ])
        steps[loss] = timer(config, batch, BUDGET_S / len(todo))
    absent = tuple(Path(data) / name for name, there in sets.items() if there is None)
    first = next(iter(shapes.values()))
    return Plan(preset, tuple(planned), steps, first, statistics.fmean(beside) if beside else math.nan, absent)


def _number(value: float) -> str:
    """Three digits, and never an exponent.

    Examples
    --------
    >>> _number(0.01234), _number(1234.5), _number(0.00001)
    ('0.0123', '1,234', 'less than 0.001')
    """
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 or value == 0 else "less than 0.001"


def describe(plan: Plan, cores: int | None, slots: Sequence[str] = ()) -> str:
    """The text of a plan: runs, steps, a step's time, cost on ``cores`` cores, what is not in it, and missing data.

    ``cores`` is None where the runs are started elsewhere, by a scheduler. ``slots`` are the devices on
    which there is room for a run (:func:`reproduction.runs.gpus.make_slots`), where runs share some.
    """
    states = [run.state for run in plan.runs]
    resumable = states.count("resumable")
    epochs = sum(run.epochs_left for run in plan.runs if run.state == "resumable")
    left = f" with {epochs:,} {'epoch' if epochs == 1 else 'epochs'} left" if resumable else ""
    lines = [
        f"plan: {len(states)} runs: {states.count('done')} done, {resumable} resumable{left}, "
        f"{states.count('missing')} missing"
    ]
    if len(states) > states.count("done"):
        lines += _cost(plan, cores, slots)
    some = plan.runs[0].config
    for folder in plan.absent:
        shape, cases = _expected(some)
        script = f"python data_scripts/{some.dataset}.py --out {folder}"
        if some.dataset == "phantoms":
            script += f" --size {some.phantom_size} --cases {some.phantom_cases} --seed {some.phantom_seed}"
        lines.append(
            f"data: {folder} is missing; planned for {cases} cases an organ of {' x '.join(map(str, shape))} voxels. "
            f"They are made before the first run; by themselves with: {script}"
        )
    return "\n".join(lines)


def _cost(plan: Plan, cores: int | None, slots: Sequence[str]) -> list[str]:
    """The lines on what is left: none of it is done yet."""
    some = plan.runs[0].config
    per_epoch = sorted({run.steps_per_epoch for run in plan.runs})
    span = f"{per_epoch[0]:,}" + (f" to {per_epoch[-1]:,}" if per_epoch[1:] else "")
    lines = [f"steps: {sum(run.steps_left for run in plan.runs):,} to train; a run has {some.epochs} epochs of {span}"]
    gpu = False
    if plan.steps:
        step = next(iter(plan.steps.values()))
        gpu = not step.device.startswith("cpu")
        times = ", ".join(
            f"{_number(step.seconds)} s with {loss} (median of {step.timed}, after {step.warm_up} to warm up)"
            for loss, step in plan.steps.items()
        )
        threads = f"{some.threads} {'core' if some.threads == 1 else 'cores'}"
        lines.append(
            f"step: {times}, on random data: {' x '.join(map(str, plan.shape))} voxels, batch {some.batch_size}, "
            f"{step.precision}, {step.device if gpu else threads}"
        )
    seconds = plan.seconds()
    hours = sum(seconds) / 3600 * (1 if gpu else some.threads)
    beside = "" if math.isnan(plan.beside_s) else f", with {clock_text(plan.beside_s)} a run beside training"
    if cores is None:
        wall = "the wall time depends on how many runs the profile starts at a time"
    elif gpu:
        gpus = max(1, len(set(slots)))
        shared = f"{gpus} GPUs" if gpus > 1 else "one GPU"
        wall = f"{clock_text(wall_seconds(seconds, gpus, 1))} of wall time on {shared} whose runs take turns"
    else:
        used = min(cores, len(slots) * some.threads) if slots else cores
        wall = f"{clock_text(wall_seconds(seconds, used, some.threads))} of wall time on {used} cores"
    omitted = [
        *(["the time of a run beside training (no run has finished here)"] if not beside else []),
        "making the data, tables and book",
        *(["what runs on one GPU at the same time gain"] if gpu else ["what runs side by side cost each other"]),
        *(["machines that are not like this one"] if cores is None else []),
    ]
    lines.append(f"cost: {_number(hours)} {'GPU' if gpu else 'CPU'} hours{beside}; {wall}")
    lines.append(f"not in it: {', '.join(omitted[:-1])}, and {omitted[-1]}")
    return lines
