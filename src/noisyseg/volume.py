"""Volumes of optimal segmentations: sharp bounds, marginals that attain them, and the best mask of a given volume.

Volumes are fractions of the image. Everything here is derived in the book's chapter "Volume".
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from noisyseg._core.arrays import Array, blocks, check_array, check_unit, host_view, is_tensor
from noisyseg._core.images import Images, per_image
from noisyseg._core.search import supremum


def _fraction(name: str, value: Any) -> float:
    """Give `value` as a float in [0, 1], or raise `ValueError`."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a number in [0, 1], got {value!r}") from None
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a fraction of the image in [0, 1], got {value!r}")
    return value


def _whole(wanted: float) -> int | None:
    """Give the whole number that `wanted` is up to a relative error of 1e-9; None if it is not one."""
    count = round(wanted)
    return count if abs(wanted - count) <= 1e-9 * max(1, count) else None


def optimal_at_volume(m: Array, volume: Any, *, axis: Any = None, where: Any = None) -> Array:
    r"""Compute the segmentation of a given volume that is best for Accuracy and for Dice.

    .. math:: A_m(s) = 1 - x - v + 2 \int s\,m,\qquad D_m(s) = \frac{2 \int s\,m}{x + v},\qquad x = |s|_1,\ v = |m|_1

    At a fixed volume x both grow with :math:`\int s\,m`, so the voxels with the largest marginal are best for both. At
    x = v, where A = 1 - 2v + 2 int(s m) and D = int(s m) / v, the mask has the expected volume of the label and keeps
    at least (1 + v) / 2 of the largest Dice. Book: ``prop-fixed-volume``, ``prop-volume-price``.

    `volume` is a fraction in [0, 1] of the image, or of the voxels that count, and a whole number of voxels up to a
    relative error of 1e-9; with `axis` one number, or one an image. Of equal voxels at the edge of the mask, which are
    free, those that come first in C order (last axis fastest) are taken.

    Examples
    --------
    >>> optimal_at_volume(np.array([0.2, 0.7, 0.7, 0.9]), volume=0.5)
    array([False,  True, False,  True])
    """
    images = Images(axis, where, {"m": m})
    try:
        volumes = iter(np.broadcast_to(_numbers(volume), images.batch).ravel().tolist())
    except (TypeError, ValueError):
        many = f", or one for each of {images.batch} images" if images.batch else ""
        raise ValueError(f"volume: expected a number in [0, 1]{many}, got {volume!r}") from None
    return images.masks(lambda values: _largest(values, _fraction("volume", next(volumes))))


def _numbers(volume: Any) -> np.ndarray:
    return np.asarray(volume.detach().cpu() if is_tensor(volume) else volume, dtype=np.float64)


def _largest(m: Array, volume: float) -> Array:
    """Give the mask of the largest values of one image, of which there are `volume` times the voxels."""
    check_unit("m", m)
    voxels = math.prod(m.shape)
    wanted = volume * voxels
    count = _whole(wanted)
    if count is None:
        below = math.floor(wanted)
        raise ValueError(
            f"volume: expected a whole number of voxels, got {volume!r} of {voxels} voxels = {wanted!r}; "
            f"use {below}/{voxels} or {below + 1}/{voxels}"
        )
    if is_tensor(m):
        torch = sys.modules["torch"]
        flat = m.reshape(-1)
        flat = flat.float() if not flat.dtype.is_floating_point or flat.dtype.itemsize < 4 else flat
        order = torch.sort(flat, descending=True, stable=True).indices
        mask = torch.zeros(voxels, dtype=torch.bool, device=m.device)
        mask[order[:count]] = True
        return mask.reshape(m.shape)
    flat = m.reshape(-1)
    if count in (0, voxels):
        return np.full(m.shape, count > 0)
    level = np.partition(flat, voxels - count)[voxels - count]
    mask = flat > level
    ties = np.flatnonzero(flat == level)
    mask[ties[: count - np.count_nonzero(mask)]] = True
    return mask.reshape(m.shape)


def _bounds(v: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """Apply two functions to a volume or an array of them, with the checks that every bound needs."""
    if isinstance(v, int | float):
        if not 0 <= v <= 1:
            raise ValueError(f"v: expected a volume as a fraction of the image in [0, 1], got {v!r}")
        x = np.float64(v)
        return float(low(x)), float(high(x))
    x = check_array("v", v if is_tensor(v) or np.ndim(v) else np.atleast_1d(v))
    check_unit("v", host_view(x))
    if is_tensor(x):
        host = x.detach().double().cpu().numpy()
        back = sys.modules["torch"].from_numpy
        return back(low(host)).to(x.device), back(high(host)).to(x.device)
    x = x.astype(np.float64)
    if np.ndim(v) == 0:
        return float(low(x)[0]), float(high(x)[0])
    return low(x), high(x)


def accuracy_volume_bounds(v: Any) -> tuple[Any, Any]:
    r"""Compute the sharp bounds (lo, hi) on the volume of Accuracy-optimal segmentations.

    .. math:: \max(0, 2v - 1) \le |s|_1 \le \min(1, 2v),\qquad v = |m|_1

    `v` is the expected volume of the label, a number or an array of them; volumes are fractions of the image. Every
    optimum, ties included, lies within, and every volume within is that of an optimum: see `accuracy_extremal`. Both
    are 0 for v = 0 and 1 for v = 1. Book: ``thm-accuracy-volume``; with a background that no label reaches, as in
    `dice_volume_bounds`, ``cor-volume-support``.

    Examples
    --------
    >>> accuracy_volume_bounds(0.75)
    (0.5, 1.0)
    """
    return _bounds(v, lambda x: np.maximum(0.0, 2 * x - 1), lambda x: np.minimum(1.0, 2 * x))


def dice_volume_bounds(v: Any) -> tuple[Any, Any]:
    r"""Compute the sharp bounds (lo, hi) on the volume of Dice-optimal and soft-Dice-optimal segmentations.

    .. math:: v^2 \le |s|_1 \le 1,\qquad v = |m|_1 > 0

    `v` as in `accuracy_volume_bounds`. Every optimum, ties included, lies within, and every volume within is that of an
    optimum: see `dice_extremal`. For v = 0 the empty mask is the only optimum and both bounds are 0. Book:
    ``thm-dice-volume``.

    A background that no label reaches widens the bounds and leaves the masks alone. With sigma the volume of the part
    where m > 0, ``sigma * lo(v / sigma)`` and ``sigma * hi(v / sigma)`` are the sharp bounds, here and for Accuracy,
    ``cor-volume-support``.

    Examples
    --------
    >>> dice_volume_bounds(0.5)
    (0.25, 1.0)
    >>> sigma = 0.625  # the same marginal, known to be 0 on three eighths of the image
    >>> tuple(sigma * x for x in dice_volume_bounds(0.5 / sigma))
    (0.4, 0.625)
    """
    return _bounds(v, lambda x: x * x, lambda x: np.where(x > 0, 1.0, 0.0))


def _image(voxels: int | Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Give shape and size of an image from its number of voxels or its shape, or raise `ValueError`."""
    try:
        shape = tuple(operator.index(n) for n in (voxels if np.ndim(voxels) else [voxels]))  # type: ignore[union-attr]
    except (TypeError, ValueError):
        raise ValueError(f"voxels: expected a number of voxels or a shape, got {voxels!r}") from None
    if not shape or min(shape) < 1:
        raise ValueError(f"voxels: expected at least one voxel, got {voxels!r}")
    return shape, math.prod(shape)


def accuracy_extremal(v: float, voxels: int | Sequence[int]) -> np.ndarray:
    r"""Build the marginal whose Accuracy-optimal masks attain both bounds of `accuracy_volume_bounds`.

    .. math::
        m = \tfrac12 \text{ on volume } 2v,\ 0 \text{ elsewhere} \quad (v \le \tfrac12), \qquad
        m = 1 \text{ on volume } 2v - 1,\ \tfrac12 \text{ elsewhere} \quad (v \ge \tfrac12)

    The voxels at 1/2 are free: without them the mask has the smallest volume, with them the largest, with a part of
    them any whole number of voxels between. `voxels` is their number N or the shape of the image. On N voxels some
    marginal attains both bounds exactly if and only if 2 v N is a whole number (up to a relative error of 1e-9); other
    `v` are refused, and the nearest possible ones named. Float64, larger values first in C order; all values are exact,
    so float64 sees the ties. Book: ``thm-accuracy-volume``, ``cor-volume-grid``.

    Examples
    --------
    >>> accuracy_extremal(0.25, 4)
    array([0.5, 0.5, 0. , 0. ])
    >>> accuracy_extremal(0.75, (2, 2))
    array([[1. , 1. ],
           [0.5, 0.5]])
    """
    v = _fraction("v", v)
    shape, size = _image(voxels)
    count = _whole(2 * v * size)
    if count is None:
        below = math.floor(2 * v * size)
        raise ValueError(
            f"v: expected 2 * v * voxels to be a whole number, got 2 * {v!r} * {size} = {2 * v * size!r}; "
            f"use {below}/{2 * size} or {below + 1}/{2 * size}"
        )
    m = np.full(size, 0.5)
    if count <= size:
        m[count:] = 0.0
    else:
        m[: count - size] = 1.0
    return m.reshape(shape)


def dice_extremal(v: float, voxels: int | Sequence[int]) -> np.ndarray:
    r"""Build the marginal whose Dice-optimal masks attain both bounds of `dice_volume_bounds`.

    .. math:: m = 1 \text{ on volume } v^2,\qquad m = \frac{v}{1+v} = t_m \text{ elsewhere}

    The voxels elsewhere are free: without them the mask has volume v^2, with them 1, with a part of them any whole
    number of voxels between. `voxels` as in `accuracy_extremal`. On N voxels some marginal attains the lower bound
    exactly if and only if v^2 N is a whole number k, v = sqrt(k/N) (up to a relative error of 1e-9); other `v` are
    refused. Float64, larger values first in C order. v / (1 + v) is rounded to float64, so rounding may break the tie
    unless it is a binary fraction as at v = 1/3; `optimal_volumes` sees the tie all the same. Book:
    ``thm-dice-volume``, ``cor-volume-grid``.

    Examples
    --------
    >>> dice_extremal(1 / 3, (3, 3))
    array([[1.  , 0.25, 0.25],
           [0.25, 0.25, 0.25],
           [0.25, 0.25, 0.25]])
    """
    v = _fraction("v", v)
    shape, size = _image(voxels)
    count = _whole(v * v * size)
    if count is None:
        below = math.floor(v * v * size)
        raise ValueError(
            f"v: expected v**2 * voxels to be a whole number, got {v!r}**2 * {size} = {v * v * size!r}; "
            f"use sqrt({below}/{size}) or sqrt({below + 1}/{size})"
        )
    root = math.sqrt(count)
    m = np.full(size, root / (math.sqrt(size) + root))
    m[:count] = 1.0
    return m.reshape(shape)


class OptimalVolumes(NamedTuple):
    """What `optimal_volumes` gives: the mean of m, and the volumes of the (smallest, largest) optimal masks."""

    expected: Any
    accuracy: tuple[Any, Any]
    dice: tuple[Any, Any]


def optimal_volumes(m: Array, tolerance: float = 1e-12, *, axis: Any = None, where: Any = None) -> OptimalVolumes:
    r"""Compute the volumes of the optimal masks of a marginal, and the expected volume of the label.

    .. math::
        |\{m > \tfrac12\}| \le |s_A|_1 \le |\{m \ge \tfrac12\}| \le |\{m > t_m\}| \le |s_D|_1 \le |\{m \ge t_m\}|

    for every pair of optima: voxels at a threshold are free. A voxel counts as a tie if it differs from the threshold
    by at most `tolerance`, in [0, 1), times the threshold, so that rounding breaks no tie. Such voxels taken wrongly
    cost at most about ``2 * tolerance`` in either metric. For an all-zero `m` every volume is 0. Book:
    ``thm-volume-order``; a certain and an uncertain region, as in the example, are worked out in ``prop-two-regions``.

    Examples
    --------
    A fifth of the image is certain, the rest has one probability: Dice leaves it out at 0.3 and takes it in at 0.4.

    >>> optimal_volumes(np.array([1.0, 0.3, 0.3, 0.3, 0.3]))
    OptimalVolumes(expected=0.44, accuracy=(0.2, 0.2), dice=(0.2, 0.2))
    >>> optimal_volumes(np.array([1.0, 0.4, 0.4, 0.4, 0.4]))
    OptimalVolumes(expected=0.52, accuracy=(0.2, 0.2), dice=(1.0, 1.0))
    """
    if not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        raise ValueError(f"tolerance: expected a number in [0, 1), got {tolerance!r}")

    def run(m: Array) -> tuple[float, ...]:
        levels = [u * f for u in (0.5, supremum(m)) for f in (1 + tolerance, 1 - tolerance)]
        soft, counts = [], [0, 0, 0, 0]
        for (block,) in blocks(m):
            soft.append(float(block.sum()))
            for k, level in enumerate(levels):
                counts[k] += int((block >= level if k % 2 else block > level).sum())
        voxels = math.prod(m.shape)
        return (math.fsum(soft) / voxels, *(count / voxels for count in counts))

    expected, few_a, many_a, few_d, many_d = per_image(run, axis, where, m=m)
    return OptimalVolumes(expected, (few_a, many_a), (few_d, many_d))
