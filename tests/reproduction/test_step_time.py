"""The measured training step: what is timed, what counts, and that it ends in time."""

from __future__ import annotations

import pytest
import torch

import tiny
from reproduction.network.training import Trainer
from reproduction.runs import step_time
from reproduction.runs.step_time import STEPS, WARM_UP, Step, StepError, time_step, time_step_apart


class Clock:
    """A clock that moves by what the next step is said to take, whenever a step is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
        self.now, self.left, self.trainers = 0.0, list(seconds), []
        original = Trainer.run_epoch

        def run_epoch(trainer: Trainer) -> dict[str, float]:
            self.trainers.append(trainer)
            self.now += self.left.pop(0)
            return original(trainer)

        monkeypatch.setattr(Trainer, "run_epoch", run_epoch)

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        # Two to warm up, then the median of seven.
        ([9.0, 5.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 70.0, 0.0], Step(4.0, 7, 2, "float32", "cpu")),
        # 100 s are full after 40 + 20 + 10 + 10 + 10 + 10.
        ([40.0, 20.0, 10.0, 10.0, 10.0, 10.0, 10.0], Step(10.0, 4, 2, "float32", "cpu")),
        # The third would not fit: the second is the measure; then not even the second.
        ([45.0, 40.0, 1.0], Step(40.0, 1, 1, "float32", "cpu")),
        ([51.0, 1.0], Step(51.0, 1, 0, "float32", "cpu")),
    ],
)
def test_the_median_after_warming_up_in_the_time_there_is(seconds, expected, monkeypatch):
    clock = Clock(monkeypatch, *seconds)
    budget = 200.0 if len(seconds) > 9 else 100.0
    assert time_step(tiny.small_config(), (1, 8, 8, 8), budget, clock) == expected
    assert len(clock.trainers) == expected.timed + expected.warm_up


def test_a_step_is_one_of_the_run(monkeypatch):
    """Network, loss, batch, patch, arithmetic and augmentation are the run's own; an epoch of it is one step."""
    clock = Clock(monkeypatch, *[1.0] * (WARM_UP + STEPS))
    config = tiny.small_config(loss="sd", batch_size=3, precision="bfloat16", threads=1)
    batches: list[tuple[int, ...]] = []
    original = Trainer.logits
    monkeypatch.setattr(
        Trainer, "logits", lambda self, images: batches.append(tuple(images.shape)) or original(self, images)
    )
    step = time_step(config, (3, 8, 16, 8), clock=clock)
    assert (step.seconds, step.precision, step.device) == (1.0, "bfloat16", "cpu")
    assert {trainer.config for trainer in clock.trainers} == {config}
    assert {len(trainer.images) for trainer in clock.trainers} == {3}
    assert batches == [(3, 1, 8, 16, 8)] * (WARM_UP + STEPS)
    # Nothing of what an epoch does once is in a step.
    assert all(trainer.best_weights == {} for trainer in clock.trainers)


def test_a_gpu_is_started_before_it_is_timed(monkeypatch):
    """On a GPU the first step is never the measure, however long it takes."""

    class Gpu:
        type = "cuda"

        def __str__(self) -> str:
            return "cuda"

    # Epochs of eight steps, as a GPU is waited for only at the end of one.
    clock = Clock(monkeypatch, 500.0, 40.0, 16.0, 0.0)
    original = Trainer.__init__

    def on_cpu(self: Trainer, config, images, labels, device) -> None:
        original(self, config, images, labels, torch.device("cpu"))

    monkeypatch.setattr(step_time, "choose_device", Gpu)
    monkeypatch.setattr(Trainer, "__init__", on_cpu)
    assert time_step(tiny.small_config(), (1, 8, 8, 8), 100.0, clock) == Step(2.0, 1, 2, "float32", "cuda")
    assert {len(trainer.images) / trainer.config.batch_size for trainer in clock.trainers} == {8}


def test_a_process_of_its_own_gives_the_same_answer_and_is_told_its_device():
    step = time_step_apart(tiny.small_config(precision="float32"), (1, 8, 8, 8), 60.0, {"NOISYSEG_DEVICE": "cpu"})
    assert (step.timed, step.warm_up, step.precision, step.device) == (STEPS, WARM_UP, "float32", "cpu")
    assert 0 < step.seconds < 10
    with pytest.raises(StepError, match=r"^no training step could be timed: .*nonsense"):
        time_step_apart(tiny.small_config(), (1, 8, 8, 8), 60.0, {"NOISYSEG_DEVICE": "nonsense"})


def test_a_patch_that_the_network_does_not_take_is_refused():
    with pytest.raises(ValueError, match=r"image has shape \(1, 1, 9, 9, 9\); expected .* axes that 2 divides"):
        time_step(tiny.small_config(), (1, 9, 9, 9))


def test_the_callers_settings_and_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    time_step(tiny.small_config(), (1, 8, 8, 8))
    assert torch.equal(torch.rand(3), expected)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
