"""Lean U-Net and its conventional counterpart (Hassler et al.; book chapter *Lean U-Net*)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reproduction.config import RunConfig
from reproduction.network.unet import UNet

DROPOUT = 0.005  # of whole channels


class LUNet(nn.Module):
    """3-D U-Net of Lean U-Net's blocks: image (batch, 1, x, y, z) to logits of the same shape.

    A layer is a 3^3 convolution with bias, ReLU, batch normalisation, and dropout of channels, which the last layer
    lacks. A block is ``convolutions`` layers. Max-pooling halves the image between levels, a transposed 2^3 convolution
    doubles it again; what it gives and the finer level's block, in this order, are the input of the next block. A 1^3
    convolution ends it. Layers are ``down<level>_<number>`` and ``up<level>_<number>``, level 0 the finest.

    Parameters
    ----------
    widths
        Channels at every level, from the input's resolution to the bottleneck: one number for Lean U-Net, doubling for
        its counterpart. Published are "small", five levels with two convolutions, and "large", four with three.
    convolutions
        Layers a block.
    channels
        Channels of every layer, where they are not those of its level: a pruned network.

    Raises
    ------
    ValueError
        If there are fewer than two levels, a level or layer without channels, no convolution, or (when called) an axis
        of the image that cannot be halved so often, or a bottleneck of one voxel in training: it has no variance.

    Examples
    --------
    >>> parameters = lambda network: sum(weight.numel() for weight in network.parameters())
    >>> parameters(LUNet([4] * 5)), parameters(LUNet([4, 8, 16, 32, 64]))
    (9929, 353949)
    >>> LUNet([4] * 5)(torch.zeros(2, 1, 16, 16, 16)).shape
    torch.Size([2, 1, 16, 16, 16])
    """

    def __init__(self, widths: Sequence[int], convolutions: int = 2, channels: Mapping[str, int] | None = None) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths is {list(widths)}; expected at least two levels of at least one channel")
        if convolutions < 1:
            raise ValueError(f"convolutions is {convolutions}; expected at least 1 a block")
        self.widths, self.convolutions = tuple(widths), convolutions
        full = layer_widths(widths, convolutions)
        self.channels = dict(full if channels is None else channels)
        if list(self.channels) != list(full):
            raise ValueError(f"channels name the layers {', '.join(self.channels)}; expected {', '.join(full)}")
        for name, count in self.channels.items():
            if not 1 <= count <= full[name]:
                raise ValueError(f"layer {name} has {count} channels; expected 1 to {full[name]}")
        self.layers = nn.ModuleDict()
        last = f"up0_{convolutions - 1}"
        for name, count in self.channels.items():
            dropout = nn.Identity() if name == last else nn.Dropout3d(DROPOUT)
            conv = nn.Conv3d(self._channels_into(name), count, kernel_size=3, padding=1)
            self.layers[name] = nn.Sequential(conv, nn.ReLU(), nn.BatchNorm3d(count), dropout)
        self.rises = nn.ModuleList(
            nn.ConvTranspose3d(self.channels[self._below(level)], width, kernel_size=2, stride=2)
            for level, width in enumerate(self.widths[:-1])
        )
        self.head = nn.Conv3d(self.channels[last], 1, kernel_size=1)

    def layer(self, name: str) -> tuple[nn.Conv3d, nn.BatchNorm3d]:
        """Convolution and normalisation of a layer."""
        conv, _, norm, _ = cast(nn.Sequential, self.layers[name])
        return cast(nn.Conv3d, conv), cast(nn.BatchNorm3d, norm)

    def _end(self, side: str, level: int) -> str:
        return f"{side}{level}_{self.convolutions - 1}"

    def _below(self, level: int) -> str:
        """Layer whose output rises to a level."""
        return self._end("down" if level + 2 == len(self.widths) else "up", level + 1)

    def _channels_into(self, name: str) -> int:
        block, _, number = name.partition("_")
        if int(number):
            return self.channels[f"{block}_{int(number) - 1}"]
        level = int(block.lstrip("downup"))
        if block.startswith("up"):
            return self.widths[level] + self.channels[self._end("down", level)]
        return self.channels[self._end("down", level - 1)] if level else 1

    def readers(self, name: str) -> list[tuple[str, int, int]]:
        """Weights that read the channels of a layer: (name of the weight, its axis, place of the first channel).

        The last layer of a block on the way down has two, the next level and, behind the channels that rise to it, the
        block of the same level on the way up.
        """
        block, _, number = name.partition("_")
        level, coarsest = int(block.lstrip("downup")), len(self.widths) - 1
        if int(number) + 1 < self.convolutions:
            return [(f"layers.{block}_{int(number) + 1}.0.weight", 1, 0)]
        if block.startswith("down") and level < coarsest:
            skip = (f"layers.up{level}_0.0.weight", 1, self.widths[level])
            return [(f"layers.down{level + 1}_0.0.weight", 1, 0), skip]
        return [(f"rises.{level - 1}.weight", 0, 0)] if level else [("head.weight", 1, 0)]

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the soft segmentation."""
        levels = len(self.widths)
        factor = 2 ** (levels - 1)
        if image.ndim != 5 or image.shape[1] != 1 or any(n % factor for n in image.shape[2:]):
            raise ValueError(
                f"image has shape {tuple(image.shape)}; expected (batch, 1, x, y, z) with axes that {factor} divides: "
                f"{levels} levels halve the image {levels - 1} times"
            )
        if self.training and image.numel() <= factor**3:
            raise ValueError(
                f"image has shape {tuple(image.shape)}; expected an axis of at least {2 * factor} voxels, or a larger "
                "batch: the bottleneck would be a single voxel"
            )
        x, skips = image, []
        for level in range(levels):
            x = self._block(f"down{level}", functional.max_pool3d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(levels - 1)):
            x = self._block(f"up{level}", torch.cat([self.rises[level](x), skips[level]], dim=1))
        return self.head(x)

    def _block(self, block: str, x: Tensor) -> Tensor:
        for number in range(self.convolutions):
            x = self.layers[f"{block}_{number}"](x)
        return x


def layer_widths(widths: Sequence[int], convolutions: int) -> dict[str, int]:
    """Channels of every layer of a network that has not been pruned, in the order of computation.

    Examples
    --------
    >>> layer_widths([2, 4], 2)
    {'down0_0': 2, 'down0_1': 2, 'down1_0': 4, 'down1_1': 4, 'up0_0': 2, 'up0_1': 2}
    """
    blocks = [(f"down{level}", width) for level, width in enumerate(widths)]
    blocks += [(f"up{level}", width) for level, width in reversed(list(enumerate(widths[:-1])))]
    return {f"{block}_{number}": width for block, width in blocks for number in range(convolutions)}


def make_network(config: RunConfig, channels: Mapping[str, int] | None = None) -> UNet | LUNet:
    """Build the network of a run with its random weights; ``channels`` are those of one that has been pruned."""
    widths = config.network.widths(config.features)
    if config.network.family == "unet":
        return UNet(widths, fast=config.fast_layers)
    return LUNet(widths, config.convolutions, channels)
