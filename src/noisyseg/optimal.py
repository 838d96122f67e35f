"""Optimal segmentations for Accuracy and Dice (equations 11, 12 and 15) and what others lose."""

from __future__ import annotations

import sys

import numpy as np

from ._checks import Array, check_array, check_unit_block, host_view, is_tensor
from ._threshold import supremum
from .metrics import dice


def dice_threshold(m: Array) -> float:
    r"""Compute the threshold that makes a marginal a Dice-optimal segmentation (equation 15).

    .. math:: t_m = \frac12 \sup_s D_m(s),\qquad D_m(s) = \frac{2 \int s\,m}{|s|_1 + |m|_1}

    The book proves in the chapter "Optimal segmentations" that ``m >= t`` attains the supremum, for Dice and for
    soft-Dice (equations 12 and 16). With a network, `m` is its own output c.

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], any shape with at least one voxel, any real dtype.

    Returns
    -------
    float
        In (0, 1/2], exact up to a few roundings of float64 whatever the dtype of `m`. For a label it is 1/2; for an
        all-zero marginal too, because the empty mask then has Dice 1.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1].

    Notes
    -----
    With v the mean of m, t lies in the window from ``max(v / (1 + v), D_m(1{m >= 1/2}) / 2)`` to 1/2. The map
    ``t -> D_m(1{m >= t}) / 2`` is Newton's method on a convex decreasing function with root t (Dinkelbach's algorithm),
    so it rises to t in a few steps without sorting. A sample of the voxels says where to start, which makes one walk
    through a large image enough; the extra memory is a quarter of a large image at most.

    Examples
    --------
    >>> dice_threshold(np.array([1.0, 0.5, 0.5, 0.0]))  # all three: 2 * 2 / (3 + 2), halved
    0.4
    >>> dice_threshold(np.zeros(4))
    0.5
    """
    return supremum(check_array("m", m))


def _at_least(m: Array, t: float) -> Array:
    """Give ``m >= t`` compared in float64, computed in the dtype of `m` without a converted copy of it."""
    if is_tensor(m):
        torch = sys.modules["torch"]
        if not m.dtype.is_floating_point:
            return m >= t
        m = m.detach()
        if m.dtype.itemsize < 2:
            m = m.float()
        level = torch.tensor(t, dtype=m.dtype, device=m.device)
        if float(level) < t:
            level = torch.nextafter(level, torch.ones_like(level))
        return m >= level
    if m.dtype.kind != "f":
        return m >= t
    level = m.dtype.type(t)  # a number between two neighbours of the dtype acts as the upper one
    return m >= (np.nextafter(level, m.dtype.type(1)) if float(level) < t else level)


def optimal_accuracy(m: Array) -> Array:
    r"""Compute the largest Accuracy-optimal segmentation (equation 11).

    .. math:: s(w) = 1\{m(w) \ge 1/2\}

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], any shape with at least one voxel, any real dtype.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        Boolean mask of the kind, device and shape of `m`; ties, which are free, are foreground. Empty for an all-zero
        `m`.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1].

    Examples
    --------
    >>> optimal_accuracy(np.array([1.0, 0.5, 0.45, 0.0]))
    array([ True,  True, False, False])
    """
    m = check_array("m", m)
    check_unit_block("m", host_view(m), m.shape)
    return _at_least(m, 0.5)


def optimal_dice(m: Array) -> Array:
    r"""Compute the largest Dice-optimal segmentation (equations 12 and 16); it is optimal for soft-Dice as well.

    .. math:: s(w) = 1\{m(w) \ge t_m\}

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a network's probabilities; any shape with at least one voxel, any real dtype.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        Boolean mask of the kind, device and shape of `m`; equal values are treated equally. Empty for an all-zero `m`.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1].

    See Also
    --------
    dice_threshold : The threshold, and how it is found.

    Examples
    --------
    >>> optimal_dice(np.array([1.0, 0.5, 0.45, 0.0]))
    array([ True,  True,  True, False])
    """
    m = check_array("m", m)
    return _at_least(m, dice_threshold(m))


def regret(s: Array, m: Array) -> float:
    r"""Compute how much Dice a segmentation loses against the best one.

    .. math:: \sup_{s'} D_m(s') - D_m(s) = 2 t_m - D_m(s)

    Parameters
    ----------
    s : numpy.ndarray or torch.Tensor
        Segmentation of 0 and 1 (bool, int or float), any shape with at least one voxel.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1]; of the kind, device and shape of `s`.

    Returns
    -------
    float
        In [0, 1]; a difference below 0, which only rounding can cause, is returned as 0. For an all-zero `m` the empty
        mask has regret 0 and every other mask 1.

    Raises
    ------
    ValueError
        If `s` is not binary, `m` has a NaN or a value outside [0, 1], or kinds, devices or shapes differ or are empty.

    Examples
    --------
    >>> m = np.array([1.0, 0.5, 0.45, 0.0])
    >>> round(regret(optimal_accuracy(m), m), 4), regret(optimal_dice(m), m)
    (0.0284, 0.0)
    """
    return max(0.0, 2 * dice_threshold(m) - dice(s, m))
