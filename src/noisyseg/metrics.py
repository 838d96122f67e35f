"""Scores and losses of a segmentation against a soft label (Definitions 1 to 4), and Jaccard, F_beta and Tversky.

Integrals are over the unit cube, whose measure is 1, so every sum over voxels becomes a mean. Sums are accumulated in
float64, block by block, whatever the dtype and the kind of the arrays. What `s`, `m`, `axis` and `where` may be and
what is refused is the same everywhere: the package's docstring and the reference page say it.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from noisyseg._core.arrays import Array, blocks, check_unit, is_tensor, per_axis
from noisyseg._core.images import per_image
from noisyseg._core.sums import sums

Scores = Any  # a float for one image, a float64 array over the images with `axis`


def accuracy(s: Array, m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the Accuracy of a segmentation against a soft label (Definition 3).

    .. math:: A_m(s) = \int_\Omega s\,m + (1-s)(1-m)\,d\lambda = 1 - |s| - |m| + 2 \int_\Omega s\,m\,d\lambda

    It is the part of the domain that is expected to be labelled correctly, and affine in `m`: for a random label L with
    marginal m the expected Accuracy E[A_L(s)] is A_m(s). Book: ``def-accuracy``, ``prop-affine``,
    ``prop-first-properties``.

    Examples
    --------
    >>> accuracy(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.25, 0.0]))
    0.8125
    """

    def run(s: Array, m: Array) -> float:
        both, ones, soft, voxels = sums("s", s, m, binary=True)
        return math.fsum((voxels, -ones, -soft, 2 * both)) / voxels

    return per_image(run, axis, where, s=s, m=m)


def dice(s: Array, m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the Dice coefficient of a segmentation with a soft label (Definition 4).

    .. math:: D_m(s) = \frac{2 \int_\Omega s\,m\,d\lambda}{|s|_1 + |m|_1}

    Two empty masks have Dice 1; an empty mask against anything else has Dice 0. For a random label L with marginal m
    this is not the expected Dice E[D_L(s)] but a mean of the scores in which large labels count for more;
    `noisyseg.dice_covariance` is the difference. Book: ``def-dice``, ``prop-first-properties``, ``prop-weighted-mean``.

    Examples
    --------
    >>> dice(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.5, 0.0]))
    0.75
    >>> masks = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])  # of two images
    >>> dice(masks, np.array([[1.0, 0.5, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0]]), axis=1)
    array([0.75, 1.  ])
    """

    def run(s: Array, m: Array) -> float:
        both, ones, soft, _ = sums("s", s, m, binary=True)
        return 2 * both / (ones + soft) if ones + soft > 0 else 1.0

    return per_image(run, axis, where, s=s, m=m)


def soft_dice(c: Array, m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the soft-Dice loss of a soft segmentation against a soft label (Definition 2).

    .. math:: \mathrm{SD}_m(c) = 1 - \frac{2 \int_\Omega c\,m\,d\lambda}{|c|_1 + |m|_1}

    `c` has values in [0, 1]; for a binary `c` it is ``1 - dice(c, m)``. Two empty masks have loss 0. No gradient flows
    through the result. Book: ``def-soft-dice``, ``prop-first-properties``, ``prop-score-volume``, ``prop-logits``.

    Examples
    --------
    >>> soft_dice(np.array([1.0, 0.5, 0.0, 0.0]), np.array([1.0, 0.5, 0.0, 0.0]))
    0.16666666666666663
    """

    def run(c: Array, m: Array) -> float:
        both, ones, soft, _ = sums("c", c, m, binary=False)
        return 1 - 2 * both / (ones + soft) if ones + soft > 0 else 0.0

    return per_image(run, axis, where, c=c, m=m)


def cross_entropy(c: Array, m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the cross-entropy of a soft segmentation against a soft label (Definition 1), in nats per voxel.

    .. math:: \mathrm{CE}_m(c) = -\int_\Omega m \log c + (1-m) \log(1-c)\,d\lambda,\qquad 0 \log 0 = 0

    `c` has values in [0, 1]. It is infinite where `c` rules out what `m` allows (0 where m > 0, or 1 where m < 1),
    least where `c` equals `m` (equation 9), and 0 for two empty masks. It is affine in `m`: for a random label L with
    marginal m the expected cross-entropy is CE_m(c). No gradient flows through the result. Book: ``def-cross-entropy``,
    ``prop-first-properties``, ``prop-affine``, ``prop-logits``.

    Examples
    --------
    >>> round(cross_entropy(np.array([0.5, 0.0, 1.0]), np.array([0.5, 0.0, 1.0])), 6)  # log(2) / 3
    0.231049
    >>> cross_entropy(np.array([0.0, 0.0]), np.array([0.5, 0.0]))
    inf
    """

    def run(c: Array, m: Array) -> float:
        check_unit("c", c)
        check_unit("m", m)
        xp = sys.modules["torch"] if is_tensor(c) else np
        parts = []
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 log 0 is looked after below
            for c_block, m_block in blocks(c, m):
                zero = xp.zeros_like(m_block)
                inside = xp.where(m_block > 0, m_block * xp.log(c_block), zero)
                outside = xp.where(m_block < 1, (1 - m_block) * xp.log1p(-c_block), zero)
                parts.append(-float((inside + outside).sum()))
        return math.fsum(parts) / math.prod(c.shape) + 0.0  # -0.0 becomes 0.0

    return per_image(run, axis, where, c=c, m=m)


def _overlap(
    s: Array, m: Array, false_positives: float, false_negatives: float, axis: Any = None, where: Any = None
) -> Scores:
    """Give TP / (TP + false_positives FP + false_negatives FN); no rounding lifts it above 1."""

    def run(s: Array, m: Array) -> float:
        both, ones, soft, _ = sums("s", s, m, binary=True)
        if ones + soft == 0:
            return 1.0
        cost = false_positives * (ones - both) + false_negatives * (soft - both)
        return both / (both + cost) if both > 0 else 0.0

    return per_image(run, axis, where, s=s, m=m)


def jaccard(s: Array, m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the Jaccard index, intersection over union, of a segmentation with a soft label.

    .. math:: J_m(s) = \frac{\int_\Omega s\,m\,d\lambda}{|s|_1 + |m|_1 - \int_\Omega s\,m\,d\lambda} = \frac{D}{2 - D}

    with D the Dice of the same two. Two empty masks have Jaccard 1; an empty mask against anything else has 0. Book:
    ``prop-overlap``, ``prop-quotient``, ``def-linear-fractional``, ``thm-linear-fractional``.

    Examples
    --------
    >>> jaccard(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.5, 0.0]))  # 3/2 of 5/2
    0.6
    """
    return _overlap(s, m, 1.0, 1.0, axis, where)


def f_beta(s: Array, m: Array, beta: float, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the F-score of a segmentation with a soft label, in which recall counts beta times as much as precision.

    .. math:: F_{\beta,m}(s) = \frac{(1 + \beta^2) \int_\Omega s\,m\,d\lambda}{|s|_1 + \beta^2\,|m|_1}

    `beta` is positive. At 1 it is Dice; below 1 a false positive costs more than a false negative, above 1 less. Two
    empty masks have score 1; an empty mask against anything else has 0. It is `tversky` with alpha = 1 / (1 + beta^2)
    and its beta = 1 - alpha. Book: ``prop-overlap``, ``prop-quotient``, ``def-linear-fractional``,
    ``thm-linear-fractional``.

    Examples
    --------
    >>> f_beta(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.5, 0.0]), beta=2)  # 5 (3/2) / (2 + 4 * 2)
    0.75
    >>> f_beta(np.array([1, 0]), np.array([1.0, 1.0]), beta=2)  # precision 1, recall 1/2: 5 * 1 / (1 + 4 * 2)
    0.5555555555555556
    """
    (beta,) = per_axis("beta", beta, 1, positive=True)
    alpha = 1 / (1 + beta * beta)
    return _overlap(s, m, alpha, 1 - alpha, axis, where)


def tversky(s: Array, m: Array, alpha: float, beta: float, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the Tversky index of a segmentation with a soft label.

    .. math:: T_{\alpha,\beta,m}(s) = \frac{TP}{TP + \alpha\,FP + \beta\,FN}

    with :math:`TP = \int_\Omega s\,m\,d\lambda`, :math:`FP = |s|_1 - TP` and :math:`FN = |m|_1 - TP`. `alpha` and
    `beta` are positive; 1/2 and 1/2 give Dice, 1 and 1 Jaccard. Two empty masks have index 1; an empty mask against
    anything else has 0. Book: ``prop-overlap``, ``prop-quotient``, ``def-linear-fractional``,
    ``thm-linear-fractional``.

    Examples
    --------
    >>> tversky(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.5, 0.0]), alpha=2, beta=1)  # 3/2 of 3/2 + 2/2 + 1/2
    0.5
    """
    (alpha,) = per_axis("alpha", alpha, 1, positive=True)
    (beta,) = per_axis("beta", beta, 1, positive=True)
    return _overlap(s, m, alpha, beta, axis, where)
