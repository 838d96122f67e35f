"""The time of a training step on this machine, measured (book chapter *Reproduce*)."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reproduction.config import RunConfig
from reproduction.runs.run import choose_device
from reproduction.network.training import Trainer, reproducible


class StepError(RuntimeError):
    """No training step could be timed; the message says why."""


WARM_UP, STEPS = 2, 7
QUEUED = 8  # steps that a GPU is given at a time: it is waited for once an epoch, not once a step


@dataclass(frozen=True)
class Step:
    """A training step's ``seconds``: the median of ``timed`` steps after ``warm_up`` others.

    On a GPU, ``timed`` and ``warm_up`` count groups of ``QUEUED`` steps.
    """

    seconds: float
    timed: int
    warm_up: int
    precision: str
    device: str


def time_step(
    config: RunConfig,
    shape: Sequence[int],
    budget_s: float = 16.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Step:
    """Time training steps of a run on random data: augmentation, network, loss, gradients and optimiser.

    Parameters
    ----------
    config
        The run: network, loss, precision, threads.
    shape
        Shape of a step's batch, (cases, x, y, z).
    budget_s
        No step is begun that would end later than this if it took as long as the one before. Where that leaves a single
        step, it is the measure; but not on a GPU, where the first one also starts the device.
    clock
        Tells the time in seconds.

    Raises
    ------
    ValueError
        If the network does not take patches of that shape.

    Examples
    --------
    >>> from reproduction.config import Preset
    >>> config = Preset.load("smoke").run(loss="ce")
    >>> ticks = iter(range(100))  # a clock that goes on by one second whenever it is looked at
    >>> time_step(config, (1, 8, 8, 8), clock=lambda: float(next(ticks))).seconds
    1.0
    """
    device = choose_device()
    queued = QUEUED if device.type == "cuda" else 1
    rng = np.random.default_rng(0)
    cases, *side = shape
    images = torch.from_numpy(rng.normal(size=(queued * cases, 1, *side)).astype(np.float32))
    labels = torch.from_numpy((rng.random(images.shape) < 0.1).astype(np.uint8))
    config = dataclasses.replace(config, batch_size=cases)
    taken: list[float] = []
    # The caller's random numbers are not disturbed. An epoch over one batch is a step, and ends only when it has.
    with reproducible(config.threads), torch.random.fork_rng(devices=[]):
        trainer = Trainer(config, images, labels, device)
        trainer.best_merit = math.inf  # weights are copied once an epoch, not once a step
        left_s = budget_s
        least = WARM_UP + 1 if device.type == "cuda" else 1
        while len(taken) < least or (len(taken) < WARM_UP + STEPS and taken[-1] * queued <= left_s):
            begun = clock()
            trainer.run_epoch()
            spent = clock() - begun
            taken.append(spent / queued)
            left_s -= spent
        precision = str(trainer.dtype).removeprefix("torch.")
        del trainer
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the runs need it
    warm_up = min(WARM_UP, len(taken) - 1)
    timed = taken[warm_up:]
    return Step(statistics.median(timed), len(timed), warm_up, precision, str(device))


def time_step_apart(
    config: RunConfig, shape: Sequence[int], budget_s: float = 16.0, environment: Mapping[str, str] | None = None
) -> Step:
    """The same in a process of its own: a GPU's memory is free again afterwards, and may be another one than ours.

    Parameters
    ----------
    config, shape, budget_s
        As for :func:`time_step`.
    environment
        What the process finds changed in its environment, such as ``CUDA_VISIBLE_DEVICES``.

    Raises
    ------
    StepError
        If the process fails; with its last line.
    """
    question = json.dumps({"config": config.to_dict(), "shape": list(shape), "budget_s": budget_s})
    command = [sys.executable, "-m", "reproduction.runs.step_time"]
    environment = {**os.environ, **(environment or {})}
    answer = subprocess.run(command, input=question, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
        raise StepError(f"no training step could be timed: {reason}")
    return Step(**json.loads(answer.stdout.splitlines()[-1]))


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    step = time_step(RunConfig.from_dict(asked["config"]), asked["shape"], asked["budget_s"])
    print(json.dumps(dataclasses.asdict(step)))
