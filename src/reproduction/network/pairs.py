"""What a network sees: normalised images and noisy labels of the cases of a fold (book chapter *Data*)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisyseg.noise import GaussianDeformation
from reproduction.config import RunConfig
from reproduction.data.cases import Case, CaseSet


def normalise(images: Sequence[np.ndarray], config: RunConfig) -> Tensor:
    """Stack images (x, y, z) to (cases, 1, x, y, z) and bring intensities to the network's range, linearly.

    The result is (image - ``intensity_offset``) / ``intensity_scale``: nothing is cut off.
    """
    stack = np.stack(images, dtype=np.float32, casting="unsafe")
    stack -= np.float32(config.intensity_offset)
    stack /= np.float32(config.intensity_scale)
    return torch.from_numpy(stack)[:, None]


def noisy_label(case: Case, config: RunConfig) -> NDArray[np.uint8]:
    """The one noisy label of a case: the same for both losses, all folds and all trainings."""
    return GaussianDeformation(config.a, config.b).sample(case.label, rng=config.seed_of_case(case.id))


def training_pairs(config: RunConfig, data_set: CaseSet) -> tuple[Tensor, Tensor]:
    """Read the cases that a run is trained on: images and noisy labels, tensors (cases, 1, x, y, z).

    Raises
    ------
    ValueError
        If a case is damaged, or they differ in shape.
    """
    ids = _limit(data_set.split(config.organ, config.fold)[0], config.train_cases)
    images = labels = torch.empty(0)
    for k, name in enumerate(ids):  # one by one: nothing is in memory twice
        (case,) = data_set.load(config.organ, [name])
        if k == 0:
            images = torch.empty(len(ids), 1, *case.image.shape)
            labels = torch.empty(images.shape, dtype=torch.uint8)
        if case.image.shape != images.shape[2:]:
            raise ValueError(
                f"{config.organ} case {name} has shape {case.image.shape}, the first case {tuple(images.shape[2:])}; "
                "expected one shape for all"
            )
        images[k] = normalise([case.image], config)[0]
        labels[k, 0] = torch.from_numpy(noisy_label(case, config))
    return images, labels


def training_targets(config: RunConfig, data_set: CaseSet) -> Callable[[int, np.random.Generator], Tensor] | None:
    """Make the function that says what training case k is trained on; None where that is its one noisy label.

    With ``targets: fresh`` it is a noisy label of its own at every call, drawn from the generator; with ``marginal`` it
    is the exact marginal of the noise, which no finite number of labels would show.
    """
    if config.targets == "once":
        return None
    noise = GaussianDeformation(config.a, config.b)
    ids = _limit(data_set.split(config.organ, config.fold)[0], config.train_cases)
    labels = [data_set.load(config.organ, [name])[0].label for name in ids]
    if config.targets == "marginal":
        maps = [torch.from_numpy(noise.marginal(label).astype(np.float32))[None] for label in labels]
        return lambda k, rng: maps[k]
    return lambda k, rng: torch.from_numpy(noise.sample(labels[k], rng=rng))[None]


def load_test_cases(config: RunConfig, data_set: CaseSet) -> list[Case]:
    """Read the cases that a run is scored on."""
    return data_set.load(config.organ, _limit(data_set.split(config.organ, config.fold)[1], config.test_cases))


def _limit(ids: list[str], count: int) -> list[str]:
    return ids[:count] if count else ids
