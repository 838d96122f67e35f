r"""Iterative removal of channels, as STAMP does it, from a network that is trained (book chapter *Lean U-Net*).

After an epoch the channels of all 3^3 convolutions have scores, from what the epoch's batches gave; the one with the
lowest score is removed, with every weight that wrote or read it and that weight's state in the optimiser; the next
epochs recover. For channel i of a layer with activations z (the convolution's output, before ReLU) and loss F, summed
over the batches of an epoch,

.. math::

    \mathrm{L1}: \operatorname{mean}_n \|z_{n,i}\|_1, \qquad \mathrm{L2}: \operatorname{mean}_n \|z_{n,i}\|_2,
    \qquad \mathrm{Taylor}: \Bigl| \sum \operatorname{mean}_{n,x} z_{n,i}(x)\,
    \frac{\partial F}{\partial z_{n,i}(x)} \Bigr| .

Source: Dinsdale et al. 2022 and their public code, with these differences: scores come from the training epoch itself
and not from a pass of its own; Adam's moments and the running statistics of the channels that stay are kept; its
targeted dropout is left out. Transposed convolutions keep their channels, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reproduction.config import RunConfig
from reproduction.models import RAW, SCORES
from reproduction.network.lunet import LUNet, layer_widths

Scores = dict[str, NDArray[np.float64]]
Removal = tuple[str, int]  # layer, channel


def normalise_layers(scores: Mapping[str, NDArray[np.float64]]) -> Scores:
    """Divide the scores of every layer by their root sum of squares; a layer of zeros stays.

    Examples
    --------
    >>> normalise_layers({"down0_0": np.array([3.0, 4.0]), "down1_0": np.array([2.0])})
    {'down0_0': array([0.6, 0.8]), 'down1_0': array([1.])}
    """
    return {name: s / (float(np.sqrt(s @ s)) or 1.0) for name, s in scores.items()}


def lowest(scores: Mapping[str, NDArray[np.float64]]) -> Removal:
    """Layer and channel with the lowest score, among layers of at least two channels; the first of equal ones.

    Examples
    --------
    >>> lowest({"down0_0": np.array([0.1]), "down1_0": np.array([0.7, 0.2, 0.2])})
    ('down1_0', 1)
    """
    candidates = {name: s for name, s in scores.items() if len(s) > 1}
    name = min(candidates, key=lambda name: float(candidates[name].min()))
    return name, int(candidates[name].argmin())


def choose(
    criterion: str, scores: Mapping[str, NDArray[np.float64]], channels: Mapping[str, int], rng: np.random.Generator
) -> Removal:
    """Choose the next channel to go: layer and channel.

    Parameters
    ----------
    criterion
        One of ``reproduction.models.CRITERIA``.
    scores
        A score for every channel of every layer, before any normalisation; criteria without scores need none.
    channels
        Number of channels of every layer.
    rng
        Source of what is random.

    Raises
    ------
    ValueError
        If no layer has two channels.

    Examples
    --------
    >>> scores = {"down0_0": np.array([1.0, 2.0]), "down1_0": np.array([20.0, 30.0, 40.0, 50.0])}
    >>> channels, rng = {"down0_0": 2, "down1_0": 4}, np.random.default_rng(0)
    >>> choose("l2", scores, channels, rng), choose("l2_raw", scores, channels, rng)
    (('down1_0', 0), ('down0_0', 0))
    """
    open_layers = {name: count for name, count in channels.items() if count > 1}
    if not open_layers:
        raise ValueError("every layer has 1 channel; none can be removed")
    if criterion in SCORES:
        return lowest(normalise_layers(scores))
    if criterion.removesuffix(RAW) in SCORES:
        return lowest(scores)
    if criterion == "random":
        return lowest({name: rng.random(count) for name, count in channels.items()})
    if criterion == "random_at_taylor":
        name = lowest(normalise_layers(scores))[0]
    elif criterion == "random_at_largest":
        widest = max(open_layers.values())
        name = str(rng.choice([name for name, count in open_layers.items() if count == widest]))
    else:
        name = str(rng.choice(list(open_layers)))
    return name, int(rng.integers(channels[name]))


def _without(values: Tensor, axis: int, index: int) -> Tensor:
    kept = torch.cat(
        [values.narrow(axis, 0, index), values.narrow(axis, index + 1, values.shape[axis] - index - 1)], axis
    )
    return kept.contiguous(memory_format=_layout(values))


def _layout(values: Tensor) -> torch.memory_format:
    five = values.ndim == 5 and not values.is_contiguous()
    return torch.channels_last_3d if five else torch.contiguous_format


def remove(network: LUNet, layer: str, channel: int, optimiser: torch.optim.Optimizer | None = None) -> None:
    """Remove one channel of a layer: the weights that write it, those that read it, and their state in the optimiser.

    The network then computes what it did with the channel's output, after batch normalisation, set to 0.

    Raises
    ------
    ValueError
        If there is no such layer or channel, or it is the last one.

    Examples
    --------
    >>> network = LUNet([2, 4])
    >>> remove(network, "down1_1", 3)
    >>> network.channels["down1_1"], tuple(network.rises[0].weight.shape)
    (3, (3, 2, 2, 2, 2))
    """
    count = network.channels.get(layer)
    if count is None:
        raise ValueError(f"layer is {layer!r}; the network has {', '.join(network.channels)}")
    if not 0 <= channel < count:
        raise ValueError(f"channel is {channel}; layer {layer} has channels 0 to {count - 1}")
    if count == 1:
        raise ValueError(f"layer {layer} has 1 channel left; it cannot be removed")
    own = ("0.weight", "0.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var")
    places = [(f"layers.{layer}.{name}", 0, channel) for name in own]
    places += [(name, axis, first + channel) for name, axis, first in network.readers(layer)]
    for name, axis, index in places:
        module = network.get_submodule(name.rpartition(".")[0])
        tensor = getattr(module, name.rpartition(".")[2])
        shorter = _without(tensor.detach(), axis, index)
        if not isinstance(tensor, nn.Parameter):
            setattr(module, name.rpartition(".")[2], shorter)
            continue
        state: dict[str, Any] = optimiser.state.get(tensor, {}) if optimiser else {}
        for key, value in state.items():
            if torch.is_tensor(value) and value.shape == tensor.shape:
                state[key] = _without(value, axis, index)
        tensor.data, tensor.grad = shorter, None
    network.channels[layer] = count - 1
    conv, norm = network.layer(layer)
    conv.out_channels = norm.num_features = count - 1
    for name, _, _ in network.readers(layer):
        reader: Any = network.get_submodule(name.rpartition(".")[0])
        reader.in_channels -= 1


class Pruner:
    """Removes channels from the network of a run, after the epochs that its configuration names.

    Parameters
    ----------
    config
        A run whose model has a criterion.

    Raises
    ------
    ValueError
        If more channels are to go than can: every layer keeps one.

    Examples
    --------
    >>> from reproduction.config import Preset
    >>> plan = {"model": "doubling4-l2", "select": "last", "epochs": 9, "prune_from": 1, "prune_to": 8}
    >>> smoke = Preset.load("smoke").run(loss="sd").to_dict()
    >>> Pruner(RunConfig.from_dict({**smoke, **plan, "prune_channels": 5}))
    Traceback (most recent call last):
    ValueError: prune_channels 5 after each of 7 epochs removes 35 channels; doubling4-l2 with 2 levels has ...
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        model = config.network
        self.criterion = model.criterion
        self._kind = {"random_at_taylor": "taylor"}.get(model.criterion, model.criterion.removesuffix(RAW))
        widths = layer_widths(model.widths(config.features), config.convolutions)
        epochs, most = config.prune_to - config.prune_from, sum(widths.values()) - len(widths)
        if config.prune_channels * epochs > most:
            raise ValueError(
                f"prune_channels {config.prune_channels} after each of {epochs} epochs removes "
                f"{config.prune_channels * epochs} channels; {config.model} with {len(config.features)} levels has "
                f"{sum(widths.values())} in {len(widths)} layers, and each keeps one: at most {most} can go"
            )
        self._sums: dict[str, Tensor] = {}

    def is_due(self, epoch: int) -> bool:
        """Whether channels are removed after an epoch."""
        return self.config.prune_from <= epoch < self.config.prune_to

    @contextmanager
    def scoring(self, network: LUNet, epoch: int) -> Iterator[None]:
        """Gather the scores of all batches that pass the network inside, if the epoch ends with a removal."""
        self._sums = {}
        if not self.is_due(epoch) or self._kind not in SCORES:
            yield
            return
        hooks = [network.layer(name)[0].register_forward_hook(self._gather(name)) for name in network.channels]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _gather(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def add(score: Tensor) -> None:
            self._sums[name] = self._sums.get(name, torch.zeros_like(score)) + score

        def hook(module: nn.Module, inputs: Any, z: Tensor) -> None:
            if self._kind == "taylor":
                z.register_hook(lambda slope: add((z.detach().float() * slope.float()).mean(dim=(0, 2, 3, 4))))
                return
            with torch.no_grad():
                norms = torch.linalg.vector_norm(
                    z, ord=1 if self._kind == "l1" else 2, dim=(2, 3, 4), dtype=torch.float32
                )
                add(norms.mean(dim=0))

        return hook

    def prune(self, network: LUNet, optimiser: torch.optim.Optimizer, epoch: int) -> list[Removal]:
        """Remove the channels that are due after an epoch, one by one; return which, numbered as each was found.

        After a removal the scores of its layer that are left are normalised anew.
        """
        if not self.is_due(epoch):
            return []
        scores = {name: np.abs(self._sums[name].cpu().numpy().astype(np.float64)) for name in self._sums}
        rng = np.random.default_rng([*self.config.training_stream, epoch, 1])
        removed = []
        for _ in range(self.config.prune_channels):
            layer, channel = choose(self.criterion, scores, network.channels, rng)
            remove(network, layer, channel, optimiser)
            if scores:
                scores[layer] = np.delete(scores[layer], channel)
            removed.append((layer, channel))
        return removed
