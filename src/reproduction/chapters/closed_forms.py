r"""Simple bodies under Gaussian noise: marginals, lost volumes and spreads of the volume in closed form.

A body is drawn by its voxel centres. Lengths are fractions of the image side unless a docstring says voxels. The
derivations are in the chapters "Label noise" and "Errata"; :math:`\Phi` is the standard normal distribution function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ive, ndtr


def centres(size: int) -> np.ndarray:
    """Return the places of the voxel centres along an axis of `size` voxels."""
    return (np.arange(size) + 0.5) / size


def distances(size: int, centre: float | Sequence[float] = 0.5, n: int = 3) -> np.ndarray:
    """Return the distance of every voxel centre of an image with n sides of `size` voxels from a point."""
    at = np.broadcast_to(np.asarray(centre, dtype=float), (n,))
    axes = np.meshgrid(*[centres(size)] * n, indexing="ij", sparse=True)
    return np.sqrt(sum((x - c) ** 2 for x, c in zip(axes, at, strict=True)))


def ball(size: int, radius: float, centre: float | Sequence[float] = 0.5, n: int = 3) -> np.ndarray:
    """Draw a ball on an image with n sides of `size` voxels, a disc where n is 2.

    Examples
    --------
    >>> ball(4, 0.3, n=2).astype(int)
    array([[0, 0, 0, 0],
           [0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    return (distances(size, centre, n) < radius).astype(np.uint8)


def interval_marginal(w: Any, low: float, high: float, a: Any) -> Any:
    r"""Return the marginal at w of the interval from low to high: :math:`\Phi((high-w)/a) - \Phi((low-w)/a)`.

    That of a box is the product over its axes.
    """
    return ndtr((high - w) / a) - ndtr((low - w) / a)


def ball_marginal(r: Any, radius: float, a: float) -> Any:
    """Return the marginal of a ball in three dimensions at the distance r > 0 from its centre."""
    tail = np.exp(-(((radius - r) / a) ** 2) / 2) - np.exp(-(((radius + r) / a) ** 2) / 2)
    return ndtr((radius - r) / a) - ndtr(-(radius + r) / a) - a / r * tail / math.sqrt(2 * math.pi)


def ball_loss(gap: float, radius: float, a: float) -> float:
    """Return the share of its volume within the image that a ball loses over one face.

    `gap` is the distance of the ball from the face, negative where the face cuts the ball off.
    """
    x = np.linspace(max(gap, 0.0), gap + 2 * radius, 20_001)
    area = math.pi * np.maximum(radius**2 - (x - gap - radius) ** 2, 0)
    return float(np.trapezoid(area * ndtr(-x / a), x) / np.trapezoid(area, x))


def volume_spread(n: int, radius: float, b: Any) -> Any:
    r"""Return the limit for weak noise of :math:`sd\|L\| / (a \|l\|)`, for a disc (n = 2) or a ball (n = 3).

    It depends on the correlation length b, and is in 1 over the unit of the radius.
    """
    k = (radius / b) ** 2
    if n == 2:
        return 2 / radius * np.sqrt(ive(1, k))
    return 3 / radius * np.sqrt(((k - 1) + (k + 1) * np.exp(-2 * k)) / (2 * k * k))


def block_marginal(low: float, high: float, sigma: float, rms: np.ndarray) -> np.ndarray:
    """Return the marginal of the block of voxels ``low, …, high - 1`` along every axis, displaced unevenly.

    The standard deviation of a voxel's displacement is `sigma`, in voxels, times its entry in `rms`, which has the
    shape of the image.
    """
    m = np.ones(rms.shape)
    for i in np.indices(rms.shape):
        m = m * interval_marginal(i, low - 0.5, high - 0.5, sigma * rms)
    return m


def first_slice_marginal(label: np.ndarray, sigma: float, rms: np.ndarray) -> np.ndarray:
    """Return the marginal at the voxels ``(0, :, :)`` of a label with three equal sides, displaced unevenly.

    The standard deviation of a displacement is `sigma`, in voxels, times an entry of `rms`, shape (N,), for each of the
    three axes. Slices that lie farther away than six times `sigma` do not count.
    """
    size = len(rms)
    own = sigma * rms[0] * (rms[:, None] * rms).reshape(-1)  # a standard deviation for each voxel of the slice
    edges = np.arange(size + 1) - 0.5
    places = [np.zeros(size**2), *(x.reshape(-1) for x in np.indices((size, size)))]
    weights = [np.diff(ndtr((edges - place[:, None]) / own[:, None])) for place in places]
    depth = min(size, math.ceil(6 * sigma + 0.5))
    m = np.einsum("vx,zyx->vzy", weights[2], label[:depth].astype(float))
    m = np.einsum("vy,vzy->vz", weights[1], m)
    return np.einsum("vz,vz->v", weights[0][:, :depth], m).reshape(size, size)


def look_up(label: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Deform a label by displacements in voxels, shape ``(n, *label.shape)``, and say twice what lies beyond the image.

    Both results have the value of the voxel that holds the displaced centre; beyond the image the first is 0, and the
    second that of the nearest voxel.
    """
    index = [np.floor(i + 0.5 + x).astype(int) for i, x in zip(np.indices(label.shape), field, strict=True)]
    inside = np.all([(i >= 0) & (i < n) for i, n in zip(index, label.shape, strict=True)], axis=0)
    continued = label[tuple(np.clip(i, 0, n - 1) for i, n in zip(index, label.shape, strict=True))]
    return continued * inside, continued
