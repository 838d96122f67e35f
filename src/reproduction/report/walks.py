"""How often the search for a threshold goes through the image (chapter *Speed and memory*)."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import noisyseg as ns
from noisyseg._core import search


def make_maps(side: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Make the maps of the benchmarks: marginals of two balls, one as a network might give it, uniform noise."""
    square = ((np.arange(side) + 0.5) / side - 0.5) ** 2
    distance = np.sqrt(square[:, None, None] + square[:, None] + square)
    noise = ns.GaussianDeformation(0.02)
    small, large = (noise.marginal(distance < radius) for radius in (0.2, 0.45))
    noisy = 1 / (1 + np.exp(-(8 * (small - 0.4) + rng.standard_normal(small.shape))))
    maps = {"ball": small, "large ball": large, "noisy": noisy, "uniform": rng.random(small.shape)}
    return {name: m.astype(np.float32) for name, m in maps.items()}


def count_walks(m: NDArray[np.float32]) -> tuple[int, float]:
    """Count the walks through an image that :func:`noisyseg.dice_threshold` needs.

    Returns
    -------
    walks : int
        How many there were.
    share : float
        Share of the voxels that lie in the window of the first.

    Examples
    --------
    >>> count_walks(make_maps(96, np.random.default_rng(0))["ball"])[0]
    1
    """
    shares: list[float] = []
    original = search.walk

    def counted(values, low, high, *others):
        shares.append(float(np.mean((values >= low) & (values < high))))
        return original(values, low, high, *others)

    with patch.object(search, "walk", counted):
        ns.dice_threshold(m)
    return len(shares), shares[0]
