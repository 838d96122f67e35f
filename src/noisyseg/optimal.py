"""Optimal segmentations for Accuracy and Dice (equations 11, 12 and 15) and what others lose.

Every optimum is a set of the voxels with the largest marginal: what has to be found is its threshold. Without `axis`
the whole array is one image and has one threshold.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noisyseg._core.arrays import Array, blocks, check_unit
from noisyseg._core.images import mask_per_image, per_image
from noisyseg._core.search import supremum
from noisyseg.metrics import Scores, soft_dice


def dice_threshold(m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the threshold that makes a marginal a Dice-optimal segmentation (equation 15).

    .. math:: t_m = \frac12 \sup_s D_m(s),\qquad D_m(s) = \frac{2 \int s\,m}{|s|_1 + |m|_1}

    ``m >= t`` attains the supremum, for Dice and for soft-Dice (equations 12 and 16). With a network, `m` is its own
    output c, and ``c >= t`` is the method CE(*). t is in (0, 1/2], exact up to a few roundings of float64 whatever the
    dtype; it is 1/2 for a label, and for an all-zero marginal too, whose empty mask has Dice 1. Book: ``thm-dice``,
    ``def-methods``; ``prop-monotone`` says how t changes with the noise, ``prop-score-volume`` how large the masks are,
    ``prop-batch`` what one threshold for several images does, and ``prop-threshold-error`` how far t is off if `m` is.

    The map ``u -> D_m(1{m >= u}) / 2`` is Newton's method on a convex decreasing function with root t (Dinkelbach's
    algorithm), so it rises to t in a few steps without sorting, ``prop-newton``. For a large image a sample of the
    voxels says where to start, which makes one walk enough; the extra memory is a quarter of such an image at most.

    Examples
    --------
    >>> dice_threshold(np.array([1.0, 0.5, 0.5, 0.0]))  # all three: 2 * 2 / (3 + 2), halved
    0.4
    >>> dice_threshold(np.array([[1.0, 0.5, 0.5, 0.0], [0.25, 0.0, 0.0, 0.0]]), axis=1)  # two images
    array([0.4, 0.2])
    >>> dice_threshold(np.array([1.0, 0.5, 0.5, np.nan]), where=np.array([True, True, True, False]))
    0.4
    """
    return per_image(supremum, axis, where, m=m)


def _half(m: Array) -> float:
    check_unit("m", m)
    return 0.5


def optimal_accuracy(m: Array, *, axis: Any = None, where: Any = None) -> Array:
    r"""Compute the largest Accuracy-optimal segmentation (equation 11).

    .. math:: s(w) = 1\{m(w) \ge 1/2\}

    As the cross-entropy is least at c = m, this is also what a network's output, trained to perfection with
    cross-entropy, gives with the threshold 1/2 (equation 13). Ties, which are free, are foreground. Book:
    ``thm-ce-accuracy``.

    Examples
    --------
    >>> optimal_accuracy(np.array([1.0, 0.5, 0.45, 0.0]))
    array([ True,  True, False, False])
    """
    return mask_per_image(_half, axis, where, m)


def optimal_dice(m: Array, *, axis: Any = None, where: Any = None) -> Array:
    r"""Compute the largest Dice-optimal segmentation (equations 12 and 16); it is optimal for soft-Dice as well.

    .. math:: s(w) = 1\{m(w) \ge t_m\}

    with t_m the `dice_threshold` of the image. Equal values are treated equally. Book: ``thm-dice``,
    ``prop-level-sets``, ``cor-cross-entropy``.

    Examples
    --------
    >>> optimal_dice(np.array([1.0, 0.5, 0.45, 0.0]))
    array([ True,  True,  True, False])
    """
    return mask_per_image(supremum, axis, where, m)


def threshold_window(m: Array, *, axis: Any = None, where: Any = None) -> tuple[Scores, Scores]:
    r"""Compute the window (lo, hi) that holds the Dice threshold, in one walk through the image.

    .. math:: \max\left(\frac{v}{1 + v},\ \frac12 D_m(1\{m \ge 1/2\})\right) \le t_m \le \frac12,\qquad v = |m|_1

    Voxels above the window are in every optimal mask and voxels below it in none. ``0 < lo <= hi = 1/2``, each end
    within a few roundings of float64; both are 1/2 for a label and for an all-zero marginal. Book: ``thm-window``.

    Examples
    --------
    >>> lo, hi = threshold_window(np.array([1.0, 0.5, 0.5, 0.0]))  # v / (1 + v) = 1/3; at 1/2: 2 * 2 / (3 + 2), halved
    >>> lo, hi
    (0.4, 0.5)
    """
    return per_image(_window, axis, where, m=m)


def _window(m: Array) -> tuple[float, float]:
    check_unit("m", m)
    soft, above, count = [], [], 0
    for (block,) in blocks(m):
        chosen = block >= 0.5
        soft.append(float(block.sum()))
        above.append(float((block * chosen).sum()))
        count += int(chosen.sum())
    total = math.fsum(soft)
    if total == 0.0:
        return 0.5, 0.5
    return min(max(total / (math.prod(m.shape) + total), math.fsum(above) / (count + total)), 0.5), 0.5


def regret(c: Array, m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute how much Dice a segmentation, hard or soft, loses against the best one.

    .. math:: \sup_s D_m(s) - (1 - \mathrm{SD}_m(c)) = \frac{2}{|c|_1 + v} \int_\Omega |m - t_m|
        \left((1 - c)\,1\{m > t_m\} + c\,1\{m < t_m\}\right) d\lambda

    `c` has values in [0, 1]; for a mask this is the Dice of the optimum minus that of the mask. In [0, 1]: a difference
    below 0, which only rounding can cause, is returned as 0. For an all-zero `m` the empty mask has regret 0 and
    everything else 1. Book: ``prop-regret``, ``prop-wrong-threshold``, ``prop-asymptotic``, ``prop-calibration``,
    ``prop-near-optimal``.

    Examples
    --------
    >>> m = np.array([1.0, 0.5, 0.45, 0.0])
    >>> round(regret(optimal_accuracy(m), m), 4), regret(optimal_dice(m), m)
    (0.0284, 0.0)
    >>> round(regret(m, m), 4)  # a perfect output of cross-entropy, before it is thresholded
    0.043
    """
    lost = 2 * dice_threshold(m, axis=axis, where=where) - 1 + soft_dice(c, m, axis=axis, where=where)
    if isinstance(lost, float):
        return max(0.0, lost)
    return np.maximum(lost, 0.0) if isinstance(lost, np.ndarray) else lost.clip(min=0)


def plug_in_bound(c: Array, m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute how much Dice can be lost by thresholding an estimate of the marginal instead of the marginal.

    .. math:: \sup_s D_m(s) - D_m(s_c) \le \frac{2\,|m - c|_1}{|m|_1}

    for every `s_c` that is Dice-optimal for the estimate `c` (values in [0, 1]), such as ``optimal_dice(c)``; the 2
    cannot be improved. In [0, 1]: nobody loses more than 1, so neither does the bound. 0 if both are all zero, 1 if
    only `m` is. Book: ``prop-plug-in``, ``cor-cross-entropy``.

    Examples
    --------
    >>> m = np.array([1.0, 1.0, 0.5, 0.0])
    >>> c = np.array([1.0, 0.9, 0.4, 0.0])
    >>> round(plug_in_bound(c, m), 4), regret(optimal_dice(c), m)  # 2 * 0.2 / 2.5
    (0.16, 0.0)
    """

    def run(c: Array, m: Array) -> float:
        check_unit("c", c)
        check_unit("m", m)
        away, soft = [], []
        for c_block, m_block in blocks(c, m):
            away.append(float(abs(m_block - c_block).sum()))
            soft.append(float(m_block.sum()))
        lost, total = 2 * math.fsum(away), math.fsum(soft)
        return lost / total if lost < total else float(lost > 0)

    return per_image(run, axis, where, c=c, m=m)
