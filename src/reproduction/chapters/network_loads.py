"""What a network costs before anything is measured: parameters, multiply-adds, memory of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from reproduction.network.lunet import LUNet
from reproduction.runs.gpus import kept_bytes


class Loads(NamedTuple):
    """Parameters; multiply-adds of one pass, and bytes that autograd keeps of it in float32, both for each voxel."""

    parameters: int
    multiply_adds: float
    kept_bytes: float


def loads(widths: Sequence[int], convolutions: int = 2, side: int = 64) -> Loads:
    """Count the loads of a :class:`reproduction.network.lunet.LUNet` for one image of ``side``^3, computing nothing.

    Examples
    --------
    >>> loads([4] * 5).parameters
    9929
    """
    with torch.device("meta"):
        network = LUNet(widths, convolutions)
        image = torch.zeros(1, 1, side, side, side)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image)
        kept = kept_bytes(network, image)
    parameters = sum(weight.numel() for weight in network.parameters())
    return Loads(parameters, counter.get_total_flops() / 2 / side**3, kept / side**3)


def limits(levels: int) -> tuple[float, float]:
    r"""Ratios, doubling widths over one width, of operations and of activations, if a level has c n^2 and c n of them.

    .. math:: \frac{\sum_\ell 4^\ell 8^{-\ell}}{\sum_\ell 8^{-\ell}}, \qquad
        \frac{\sum_\ell 2^\ell 8^{-\ell}}{\sum_\ell 8^{-\ell}}

    Examples
    --------
    >>> [round(ratio, 4) for ratio in limits(60)]
    [1.75, 1.1667]
    """
    down = [8.0**-level for level in range(levels)]
    operations = sum(4**level * share for level, share in enumerate(down)) / sum(down)
    return operations, sum(2**level * share for level, share in enumerate(down)) / sum(down)
