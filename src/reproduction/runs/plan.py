"""What a preset will cost, beforehand: runs to do, hours from a training step timed here (book chapter *Reproduce*).

Nothing in the estimate is a constant of some other machine. Planning writes nothing.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from reproduction.config import Preset, RunConfig, is_done
from reproduction.data.cases import CaseSet
from reproduction.data.totalsegmentator.cutting import FOLDS
from reproduction.runs.gpus import case_count, patch_side
from reproduction.runs.status import clock_text, finished_epochs, overhead_s, wall_seconds

BUDGET_S = 16.0  # for all timed steps of a plan together
WARM_UP, STEPS = 2, 7
QUEUED = 8  # steps that a GPU is given at a time: it is waited for once an epoch, not once a step


class Step(NamedTuple):
    """A training step: its time, its arithmetic, and the device."""

    seconds: float
    precision: str
    device: str


def time_step(config: RunConfig, shape: Sequence[int], budget_s: float) -> Step:
    """Time training steps of a run on random data: augmentation, network, loss, gradients and optimiser.

    The median of seven after two to warm up, or of fewer within ``budget_s`` seconds: at least one, and on a GPU not
    the first. ``shape`` is that of a batch, (cases, x, y, z).
    """
    import numpy as np
    import torch

    from reproduction.network.training import Trainer, reproducible
    from reproduction.runs.run import choose_device

    device = choose_device()
    queued, least = (QUEUED, WARM_UP + 1) if device.type == "cuda" else (1, 1)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(queued * shape[0], 1, *shape[1:])).astype(np.float32))
    labels = torch.from_numpy((rng.random(images.shape) < 0.1).astype(np.uint8))
    config = config.model_copy(update={"batch_size": shape[0]})
    taken: list[float] = []
    # The caller's random numbers are not disturbed.
    with reproducible(config.threads), torch.random.fork_rng(devices=[]):
        trainer = Trainer(config, images, labels, device)
        trainer.best_merit = math.inf  # weights are copied once an epoch, not once a step
        while len(taken) < least or (len(taken) < WARM_UP + STEPS and sum(taken) + taken[-1] <= budget_s / queued):
            begun = time.perf_counter()
            trainer.run_epoch()  # over one batch; ends only when the device has ended
            taken.append((time.perf_counter() - begun) / queued)
    precision = str(trainer.dtype).removeprefix("torch.")
    return Step(statistics.median(taken[WARM_UP:] or taken[-1:]), precision, str(device))


def time_step_apart(config: RunConfig, shape: Sequence[int], budget_s: float) -> Step:
    """:func:`time_step` in a process that ends, so that the GPU's memory is free again for the runs."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(time_step, config, shape, budget_s).result()


class Plan(NamedTuple):
    """The text for the person, and the seconds that every run still takes, 0 for those that are done."""

    text: str
    seconds: list[float]


def make_plan(
    preset: Preset,
    data: str | os.PathLike[str],
    runs: str | os.PathLike[str],
    cores: int | None = None,
    slots: Sequence[str] = (),
    timer: Callable[[RunConfig, Sequence[int], float], Step] | None = None,
) -> Plan:
    """Plan a preset: what is done, what can go on, what is missing, and what that costs.

    Parameters
    ----------
    preset, data, runs
        The grid, and where data sets and runs live.
    cores
        Cores for the runs; None where a scheduler starts them.
    slots
        See :func:`reproduction.runs.gpus.make_slots`.
    timer
        Replaces :func:`time_step`; called once for every loss that has runs to do.

    Raises
    ------
    FileNotFoundError, ValueError
        If a data set that is there is damaged, or lacks an organ or a fold of the preset.
    """
    some, *_ = configs = preset.runs()
    sets = {c.data_folder: Path(data) / c.data_folder for c in configs}
    made = {name: CaseSet(path) for name, path in sets.items() if (path / "manifest.json").is_file()}
    shapes: dict[str, tuple[int, ...]] = {}
    states, epochs_left, epoch_steps, overheads, batches = [], [], [], [], {}
    for config in configs:
        cases = made.get(config.data_folder)
        if cases is None:
            shape = (patch_side(config),) * 3
            train = case_count(config) - len(range(config.fold, case_count(config), FOLDS))
        else:
            ids, _ = cases.split(config.organ, config.fold)
            shape = shapes.get(config.organ) or cases.load(config.organ, ids[:1])[0].image.shape
            train = len(ids)
        shapes[config.organ] = shape
        train = min(train, config.train_cases or train)
        folder = Path(runs) / preset.name / config.folder
        state, left = "missing", config.epochs
        if is_done(folder, config, cases.digest if cases else None):
            state, left = "done", 0
            overheads.append(overhead_s(folder))
        elif (folder / "checkpoint.pt").is_file():
            state, left = "resumable", max(0, config.epochs - len(finished_epochs(folder)))
        states.append(state)
        epochs_left.append(left)
        epoch_steps.append(math.ceil(train / config.batch_size))
        if left:  # the first run of each loss is what its step is timed for
            batches.setdefault(config.loss, (config, (min(config.batch_size, train), *shape)))
    timer = timer or time_step
    step = {loss: timer(c, shape, BUDGET_S / len(batches)) for loss, (c, shape) in sorted(batches.items())}
    overhead = statistics.fmean(overheads) if overheads else 0.0
    seconds = [
        0.0 if state == "done" else overhead + (left * steps * step[config.loss].seconds if left else 0.0)
        for config, state, left, steps in zip(configs, states, epochs_left, epoch_steps, strict=True)
    ]
    resumable = [left for state, left in zip(states, epochs_left, strict=True) if state == "resumable"]
    lines = [
        f"plan: {len(states)} runs: {states.count('done')} done, {len(resumable)} resumable"
        f"{f' with {sum(resumable):,} epochs left' if resumable else ''}, {states.count('missing')} missing"
    ]
    if states.count("done") < len(states):
        steps = sum(left * steps for left, steps in zip(epochs_left, epoch_steps, strict=True))
        span = " to ".join(f"{count:,}" for count in sorted({min(epoch_steps), max(epoch_steps)}))
        lines.append(f"steps: {steps:,} to train; a run has {some.epochs} epochs of {span}")
        lines += _cost(some, step, shapes[some.organ], seconds, cores, slots)
        outside = f"in it: {clock_text(overhead)} a run outside training" if overheads else "in it: training alone"
        lines.append(f"{outside}; not in it: data, tables and book")
    lines += [_missing(some, path) for name, path in sets.items() if name not in made]
    return Plan("\n".join(lines), seconds)


def _cost(
    some: RunConfig,
    step: dict[str, Step],
    shape: Sequence[int],
    seconds: Sequence[float],
    cores: int | None,
    slots: Sequence[str],
) -> list[str]:
    lines, on_gpu = [], False
    for loss, timed in list(step.items())[:1]:
        on_gpu = not timed.device.startswith("cpu")
        times = ", ".join(f"{_number(timed.seconds)} s with {loss}" for loss, timed in step.items())
        batch = f"{' x '.join(map(str, shape))} voxels, batch {some.batch_size}, {timed.precision}"
        where = timed.device if on_gpu else _count(some.threads, "core")
        lines.append(f"step: {times}, timed here on random data: {batch}, {where}")
    hours = f"{_number(sum(seconds) / 3600 * (1 if on_gpu else some.threads))} {'GPU' if on_gpu else 'CPU'} hours"
    if cores is None:
        return [*lines, f"cost: {hours}; the wall time depends on how many runs the cluster starts at a time"]
    if on_gpu:
        devices = len({slot.rpartition("-")[0] for slot in slots}) or 1
        wall, where = wall_seconds(seconds, devices, 1), f"{_count(devices, 'GPU')} whose runs take turns"
    else:
        cores = min(cores, len(slots) * some.threads) if slots else cores
        wall, where = wall_seconds(seconds, cores, some.threads), _count(cores, "core")
    return [*lines, f"cost: {hours}; {clock_text(wall)} of wall time on {where}"]


def _missing(some: RunConfig, folder: Path) -> str:
    """The line on a data set that has not been made."""
    script = f"python data_scripts/{some.dataset.partition('_')[0]}.py --out {folder}"
    if some.dataset.startswith("openkbp"):
        script += f" --set {some.dataset}"
    if some.dataset == "phantoms":
        script += f" --size {some.phantom_size} --cases {some.phantom_cases} --seed {some.phantom_seed}"
    size = f"{case_count(some)} cases an organ of {' x '.join([str(patch_side(some))] * 3)} voxels"
    return f"data: {folder} is missing and made first, {size}; alone with: {script}"


def _count(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


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
