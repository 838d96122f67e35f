"""What a preset will cost, beforehand: runs to do, hours from a training step timed here (book chapter *Reproduce*).

Nothing in the estimate is a constant of some other machine. Planning writes nothing.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from reproduction.config import RunConfig
from reproduction.data.cases import FOLDS, CaseSet
from reproduction.runs.gpus import device_of, expected_patches
from reproduction.runs.status import RunState, clock_text, mean_overhead_s, wall_seconds

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
    """The text for the person, the seconds that every run still takes, and the wall time, NaN where it is unknown."""

    text: str
    seconds: list[float]
    wall_s: float


def make_plan(
    states: Sequence[RunState],
    data: str | os.PathLike[str],
    cores: int | None,
    slots: Sequence[str],
    timer: Callable[[RunConfig, Sequence[int], float], Step],
) -> Plan:
    """Plan the runs of a preset: what is done, what can go on, what is missing, and what that costs.

    ``cores`` is None where a scheduler starts the runs; ``timer``, :func:`time_step` or :func:`time_step_apart`, is
    called once for every loss and model that has epochs left; networks that are pruned count as they begin.

    Raises
    ------
    FileNotFoundError, ValueError
        If a data set that is there is damaged, or lacks an organ or a fold of the preset.
    """
    some = states[0].config  # all runs of a preset have one data set, one size of batch, one number of epochs
    folder = Path(data) / some.data_folder
    cases = CaseSet(folder) if (folder / "manifest.json").is_file() else None
    counts = [_training_cases(s.config, cases) for s in states]
    epoch_steps = [math.ceil(count / some.batch_size) for count in counts]
    steps_left = [s.epochs_left * steps for s, steps in zip(states, epoch_steps, strict=True)]
    timed: dict[str, tuple[RunConfig, int]] = {}  # the first run of each loss and model that has epochs left
    several = len({s.config.model for s in states}) > 1
    for s, count in zip(states, counts, strict=True):
        if s.epochs_left:
            timed.setdefault(_kind(s.config, several), (s.config, min(some.batch_size, count)))
    shape = cases.manifest["patch"]["shape"] if cases else [expected_patches(some)[1]] * 3
    step = {kind: timer(c, (n, *shape), BUDGET_S / len(timed)) for kind, (c, n) in sorted(timed.items())}
    overhead_s = mean_overhead_s(states)
    seconds = [0.0 if s.state == "done" else overhead_s for s in states]
    for k, (s, steps) in enumerate(zip(states, steps_left, strict=True)):
        if steps:
            seconds[k] += steps * step[_kind(s.config, several)].seconds
    on_gpu = any(not timing.device.startswith("cpu") for timing in step.values())
    wall_s, wall = _wall(some, seconds, cores, slots, on_gpu)
    done = sum(s.state == "done" for s in states)
    resumable = [s.epochs_left for s in states if s.epochs and s.state != "done"]
    lines = [
        f"plan: {len(states)} runs: {done} done, {len(resumable)} resumable"
        f"{f' with {sum(resumable):,} epochs left' if resumable else ''}, {len(states) - done - len(resumable)} missing"
    ]
    if done < len(states):
        span = " to ".join(f"{count:,}" for count in sorted({min(epoch_steps), max(epoch_steps)}))
        lines.append(f"steps: {sum(steps_left):,} to train; a run has {some.epochs} epochs of {span}")
        lines += [_step_line(some, shape, step, on_gpu)] if step else []
        hours = _number(sum(seconds) / 3600 * (1 if on_gpu else some.threads))
        lines.append(f"cost: {hours} {'GPU' if on_gpu else 'CPU'} hours; {wall}")
        outside = f"in it: {clock_text(overhead_s)} a run outside training" if done else "in it: training alone"
        lines.append(f"{outside}; not in it: data, tables and book")
    if cases is None:
        lines.append(_missing(some, folder))
    return Plan("\n".join(lines), seconds, wall_s)


def _kind(config: RunConfig, several: bool) -> str:
    """What a step's time depends on: the loss, and where there are several, the model; not what is removed later."""
    return f"{config.loss} {config.model.partition('-')[0]}" if several else config.loss


def _training_cases(config: RunConfig, cases: CaseSet | None) -> int:
    """Cases that a run trains on, in a data set that need not have been made."""
    if cases is None:
        all_cases, _ = expected_patches(config)
        count = all_cases - len(range(config.fold, all_cases, FOLDS))
    else:
        count = len(cases.split(config.organ, config.fold)[0])
    return min(count, config.train_cases or count)


def _step_line(some: RunConfig, shape: Sequence[int], step: Mapping[str, Step], on_gpu: bool) -> str:
    times = ", ".join(f"{_number(timing.seconds)} s with {kind}" for kind, timing in step.items())
    *_, (_, precision, device) = step.values()
    batch = f"{' x '.join(map(str, shape))} voxels, batch {some.batch_size}, {precision}"
    return f"step: {times}, timed here on random data: {batch}, {device if on_gpu else _count(some.threads, 'core')}"


def _wall(
    some: RunConfig, seconds: Sequence[float], cores: int | None, slots: Sequence[str], on_gpu: bool
) -> tuple[float, str]:
    """Wall time of all runs, and the words for it."""
    if cores is None:
        return math.nan, "the wall time depends on how many runs the cluster starts at a time"
    if on_gpu:
        devices = len({device_of(slot) for slot in slots}) or 1
        wall_s, where = wall_seconds(seconds, devices, 1), f"{_count(devices, 'GPU')} whose runs take turns"
    else:
        cores = min(cores, len(slots) * some.threads) if slots else cores
        wall_s, where = wall_seconds(seconds, cores, some.threads), _count(cores, "core")
    return wall_s, f"{clock_text(wall_s)} of wall time on {where}"


def _missing(some: RunConfig, folder: Path) -> str:
    """The line on a data set that has not been made."""
    script = f"python data_scripts/{some.dataset.partition('_')[0]}.py --out {folder}"
    if some.dataset.startswith("openkbp"):
        script += f" --set {some.dataset}"
    if some.dataset == "phantoms":
        script += f" --size {some.phantom_size} --cases {some.phantom_cases} --seed {some.phantom_seed}"
    cases, side = expected_patches(some)
    size = f"{cases} cases an organ of {side} x {side} x {side} voxels"
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
