"""A training step of the paper's network at 64^3, ours and as anybody would write it, and where its time goes.

The peer is plain PyTorch: the same network of torch's own layers, float32, no autocast, no other memory layout,
`torch.optim.Adam` with its defaults. Both sides get the same images, the same first weights, the same augmentation with
the same draws and the same number of threads, and report the loss of their first epoch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from harness import Bar, Call, Pair, Row, Task
from reproduction.config import Preset, RunConfig
from reproduction.data.phantoms.scenes import ct_phantom
from reproduction.network.augment import augment
from reproduction.network.losses import cross_entropy_loss
from reproduction.network.pairs import normalise
from reproduction.network.training import Trainer, reproducible
from reproduction.network.unet import UNet

SIDE, CASES = 64, 2
PLAIN = "plain float32 PyTorch"
AUGMENTATION = "augmentation"
# What the operations of a step are for, by the first of these that is part of an operation's name, or of the name of
# one that called it.
STAGES = (
    (AUGMENTATION, (AUGMENTATION,)),
    ("optimiser", ("Optimizer.",)),
    ("convolutions, backward", ("convolution_backward", "ConvolutionBackward", "AddmmBackward")),
    ("convolutions, forward", ("aten::conv", "aten::linear", "aten::mkldnn_conv")),
    ("normalisation", ("batch_norm", "instance_norm", "BatchNorm")),
    ("ReLU", ("relu", "threshold_backward", "ReluBackward")),
    ("loss", ("binary_cross_entropy", "BinaryCrossEntropy")),
)
REST = "copies, casts, sums and everything else"


def configuration(batch: int, threads: int) -> RunConfig:
    """Give the paper's network and training, with cross-entropy, for some number of images at a time and threads."""
    values = Preset.load("paper").run(organ="kidney", a=0.02, loss="ce", fold=0).to_dict()
    return RunConfig.from_dict({**values, "batch_size": batch, "threads": threads})


def pairs(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the images and labels: phantoms of the kidney."""
    made = [ct_phantom("kidney", k, size=side, spacing_mm=192 / side) for k in range(CASES)]
    labels = torch.from_numpy(np.stack([phantom.label for phantom in made]))[:, None]
    return normalise([phantom.image for phantom in made], configuration(1, 1)), labels


def ours(config: RunConfig, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], float]:
    """Give a call that trains for one epoch and returns its loss."""
    trainer = Trainer(config, images, labels, torch.device("cpu"))
    batch = trainer._batch

    def marked(*arguments: Any) -> Any:
        with record_function(AUGMENTATION):
            return batch(*arguments)

    trainer._batch = marked

    def run() -> float:
        with reproducible(config.threads):
            return trainer.run_epoch()["train_loss"]

    return run


def plain(config: RunConfig, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], float]:
    """Give the same in plain PyTorch."""
    torch.manual_seed(config.training_seed)
    model = UNet(config.features)  # torch's own layers
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.l2_weight)
    numbers = (config.augment_probability, config.shift, config.rotation_deg, config.smoothing_voxels)
    epochs = iter(range(1 << 30))

    def run() -> float:
        rng = np.random.default_rng([config.training_seed, next(epochs)])
        order = rng.permutation(len(images))
        total = 0.0
        with threads(config.threads):
            for start in range(0, len(order), config.batch_size):
                with record_function(AUGMENTATION):
                    chosen = order[start : start + config.batch_size].tolist()
                    some = [augment(images[i], labels[i].float(), rng, *numbers) for i in chosen]
                    x, y = (torch.stack(part) for part in zip(*some, strict=True))
                optimiser.zero_grad()
                loss = cross_entropy_loss(model(x), y)
                loss.backward()
                optimiser.step()
                total += loss.item() * len(chosen)
        return total / len(order)

    return run


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch this number of threads inside, and nothing else."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def training_step(side: int = SIDE) -> Task:
    """Compare a step on one thread and on two, with one image at a time and with two.

    With one image, torch takes its slow path for some of the float32 convolutions; with two it takes oneDNN for all.
    """
    images, labels = pairs(side)
    calls: dict[str, Call] = {}
    compared = []
    for batch in (1, 2):
        for count in sorted({1, min(2, os.cpu_count() or 1)}):
            config = configuration(batch, count)
            name = f"{count} thread{'s' * (count > 1)}, batch of {batch}"
            for who, make in (("ours", ours), (PLAIN, plain)):
                run = make(config, images, labels)
                first = {"check": lambda loss: f"loss {loss:.4f}"}
                calls[f"{who}, {name}"] = Call(run, per=len(images), **first)
            bar = Bar(">=", 4) if side == SIDE else None
            compared.append(Pair(name, f"ours, {name}", f"{PLAIN}, {name}", bar, PLAIN))
    return Task("training step, paper's network", side, calls, compared)


def step_rows(side: int = SIDE) -> Iterator[Row]:
    """Give the shares of the stages of a step on one thread with one image, ours and plain."""
    images, labels = pairs(side)
    config = configuration(1, 1)
    for who, make in (("ours", ours), (PLAIN, plain)):
        run = make(config, images, labels)
        run()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            run()
        spent = dict.fromkeys([*(stage for stage, _ in STAGES), REST], 0.0)
        for event in seen.events():
            spent[stage_of(event)] += event.self_cpu_time_total
        total = sum(spent.values())
        for stage, share in spent.items():
            yield {"work": f"training step, {who}", "stage": stage, "share": round(share / total, 4), "side": side}


def stage_of(event: Any) -> str:
    """Give the stage that a profiler's event belongs to: the first one that its name or a caller's name tells."""
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    for stage, parts in STAGES:
        if any(part in name for name in names for part in parts):
            return stage
    return REST
