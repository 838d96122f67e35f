"""Volumes of optimal segmentations: sharp bounds, marginals that attain them, and the best mask of a given volume.

Volumes are fractions of the image. Everything here is derived in the book's chapter "Volume".
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from noisyseg._core.arrays import Array, check_array, check_unit_block, host_view, is_tensor
from noisyseg._core.extremal import OptimalVolumes as OptimalVolumes
from noisyseg._core.extremal import accuracy_extremal as accuracy_extremal
from noisyseg._core.extremal import dice_extremal as dice_extremal
from noisyseg._core.extremal import fraction, whole
from noisyseg._core.extremal import optimal_volumes as optimal_volumes


def optimal_at_volume(m: Array, volume: float) -> Array:
    r"""Compute the segmentation of a given volume that is best for Accuracy and for Dice.

    .. math:: A_m(s) = 1 - x - v + 2 \int s\,m,\qquad D_m(s) = \frac{2 \int s\,m}{x + v},\qquad x = |s|_1,\ v = |m|_1

    At a fixed volume x both grow with :math:`\int s\,m`, so the voxels with the largest marginal are best for both. At
    x = v, where A = 1 - 2v + 2 int(s m) and D = int(s m) / v, the mask has the expected volume of the label and keeps
    at least (1 + v) / 2 of the largest Dice. Book: ``prop-fixed-volume`` and ``prop-volume-price`` in the chapter
    "Volume".

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], any shape with at least one voxel, any real dtype.
    volume : float
        Fraction of the image to fill, in [0, 1]; a whole number of voxels up to a relative error of 1e-9.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        Boolean mask of the kind, device and shape of `m`, with exactly that volume; empty for volume 0. Of equal voxels
        at the edge of the mask, which are free, those that come first in C order (last axis fastest) are taken.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1], or `volume` is not in [0, 1] or not a whole number of
        voxels.

    Examples
    --------
    >>> optimal_at_volume(np.array([0.2, 0.7, 0.7, 0.9]), volume=0.5)
    array([False,  True, False,  True])
    """
    m = check_array("m", m)
    check_unit_block("m", host_view(m), m.shape)
    voxels = math.prod(m.shape)
    wanted = fraction("volume", volume) * voxels
    count = whole(wanted)
    if count is None:
        below = math.floor(wanted)
        raise ValueError(
            f"volume: expected a whole number of voxels, got {float(volume)!r} of {voxels} voxels = {wanted!r}; "
            f"use {below}/{voxels} or {below + 1}/{voxels}"
        )
    if is_tensor(m):
        torch = sys.modules["torch"]
        flat = m.detach().reshape(-1)
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
    check_unit_block("v", host_view(x), x.shape)
    if is_tensor(x):
        host = x.detach().double().cpu().numpy()
        back = sys.modules["torch"].from_numpy
        return back(low(host)).to(x.device), back(high(host)).to(x.device)
    x = x.astype(np.float64)
    if np.ndim(v) == 0:
        return float(low(x)[0]), float(high(x)[0])
    return low(x), high(x)


def accuracy_volume_bounds(v: Any) -> tuple[Any, Any]:
    r"""Compute the sharp bounds on the volume of Accuracy-optimal segmentations.

    .. math:: \max(0, 2v - 1) \le |s|_1 \le \min(1, 2v),\qquad v = |m|_1

    Book: ``thm-accuracy-volume`` in the chapter "Volume"; with a background that no label reaches, as in the notes of
    `dice_volume_bounds`, ``cor-volume-support``.

    Parameters
    ----------
    v : float, numpy.ndarray or torch.Tensor
        Expected volume of the label as a fraction of the image, in [0, 1].

    Returns
    -------
    (lo, hi) : pair of floats, or of float64 arrays of the kind and shape of `v`
        Volumes as fractions of the image. Every optimum, ties included, lies within, and every volume within is that of
        an optimum: see `accuracy_extremal`. Both are 0 for v = 0 and 1 for v = 1.

    Raises
    ------
    ValueError
        If `v` is empty or has a NaN or a value outside [0, 1].

    Examples
    --------
    >>> accuracy_volume_bounds(0.75)
    (0.5, 1.0)
    """
    return _bounds(v, lambda x: np.maximum(0.0, 2 * x - 1), lambda x: np.minimum(1.0, 2 * x))


def dice_volume_bounds(v: Any) -> tuple[Any, Any]:
    r"""Compute the sharp bounds on the volume of Dice-optimal and soft-Dice-optimal segmentations.

    .. math:: v^2 \le |s|_1 \le 1,\qquad v = |m|_1 > 0

    For v = 0 the empty mask is the only optimum and both bounds are 0. Book: ``thm-dice-volume`` in the chapter
    "Volume".

    Parameters
    ----------
    v : float, numpy.ndarray or torch.Tensor
        Expected volume of the label as a fraction of the image, in [0, 1].

    Returns
    -------
    (lo, hi) : pair of floats, or of float64 arrays of the kind and shape of `v`
        Volumes as fractions of the image. Every optimum, ties included, lies within, and every volume within is that of
        an optimum: see `dice_extremal`.

    Raises
    ------
    ValueError
        If `v` is empty or has a NaN or a value outside [0, 1].

    Notes
    -----
    A background that no label reaches widens the bounds and leaves the masks alone. With sigma the volume of the part
    where m > 0, ``sigma * lo(v / sigma)`` and ``sigma * hi(v / sigma)`` are the sharp bounds, here and for Accuracy.
    Book: ``cor-volume-support``.

    Examples
    --------
    >>> dice_volume_bounds(0.5)
    (0.25, 1.0)
    >>> sigma = 0.625  # the same marginal, known to be 0 on three eighths of the image
    >>> tuple(sigma * x for x in dice_volume_bounds(0.5 / sigma))
    (0.4, 0.625)
    """
    return _bounds(v, lambda x: x * x, lambda x: np.where(x > 0, 1.0, 0.0))
