"""Metrics and losses for soft labels (Definitions 1 to 4), and Jaccard, F_beta and Tversky beside them.

Integrals are over the unit cube, whose measure is 1, so every sum over voxels becomes a mean. All sums are
accumulated in float64, block by block, whatever the dtype and the kind of the arrays.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from noisyseg._core.arrays import (
    Array,
    blocks,
    check_array,
    check_same,
    check_unit_block,
    host_view,
    is_tensor,
    per_axis,
)
from noisyseg._core.sums import sums


def accuracy(s: Array, m: Array) -> float:
    r"""Compute the Accuracy of a segmentation against a soft label (Definition 3).

    .. math:: A_m(s) = \int_\Omega s\,m + (1-s)(1-m)\,d\lambda = 1 - |s| - |m| + 2 \int_\Omega s\,m\,d\lambda

    Parameters
    ----------
    s : numpy.ndarray or torch.Tensor
        Segmentation of 0 and 1 (bool, int or float), any shape with at least one voxel.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a label; of the kind, device and shape of `s`.

    Returns
    -------
    float
        In [0, 1], the part of the domain that is expected to be labelled correctly. Two empty masks have Accuracy 1.

    Raises
    ------
    ValueError
        If `s` is not binary, `m` has a NaN or a value outside [0, 1], or kinds, devices or shapes differ or are empty.

    Notes
    -----
    It is affine in `m`, so for a random label L with marginal m the expected Accuracy E[A_L(s)] is A_m(s), always.

    Book: ``def-accuracy``, ``prop-affine`` and ``prop-first-properties`` in the chapter "Losses and metrics".

    Examples
    --------
    >>> accuracy(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.25, 0.0]))
    0.8125
    """
    both, ones, soft, voxels = sums("s", s, m, binary=True)
    return math.fsum((voxels, -ones, -soft, 2 * both)) / voxels


def dice(s: Array, m: Array) -> float:
    r"""Compute the Dice coefficient of a segmentation with a soft label (Definition 4).

    .. math:: D_m(s) = \frac{2 \int_\Omega s\,m\,d\lambda}{|s|_1 + |m|_1}

    Parameters
    ----------
    s : numpy.ndarray or torch.Tensor
        Segmentation of 0 and 1 (bool, int or float), any shape with at least one voxel.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a label; of the kind, device and shape of `s`.

    Returns
    -------
    float
        In [0, 1]. Two empty masks have Dice 1; an empty mask against anything else has Dice 0.

    Raises
    ------
    ValueError
        If `s` is not binary, `m` has a NaN or a value outside [0, 1], or kinds, devices or shapes differ or are empty.

    Notes
    -----
    For a random label L with marginal m this is not the expected Dice E[D_L(s)]: it is a mean of the scores D_L(s) in
    which large labels count for more. `noisyseg.dice_covariance` is the difference.

    Book: ``def-dice``, ``prop-first-properties`` and ``prop-weighted-mean`` in the chapter "Losses and metrics".

    Examples
    --------
    >>> dice(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.5, 0.0]))
    0.75
    """
    both, ones, soft, _ = sums("s", s, m, binary=True)
    return 2 * both / (ones + soft) if ones + soft > 0 else 1.0


def soft_dice(c: Array, m: Array) -> float:
    r"""Compute the soft-Dice loss of a soft segmentation against a soft label (Definition 2).

    .. math:: \mathrm{SD}_m(c) = 1 - \frac{2 \int_\Omega c\,m\,d\lambda}{|c|_1 + |m|_1}

    Parameters
    ----------
    c : numpy.ndarray or torch.Tensor
        Soft segmentation with values in [0, 1], any shape with at least one voxel.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a label; of the kind, device and shape of `c`.

    Returns
    -------
    float
        The loss, in [0, 1]; for a binary `c` it is ``1 - dice(c, m)``. Two empty masks have loss 0. A plain number,
        through which no gradient flows.

    Raises
    ------
    ValueError
        If either has a NaN or a value outside [0, 1], or kinds, devices or shapes differ or are empty.

    Notes
    -----
    Book: ``def-soft-dice`` and ``prop-first-properties`` in the chapter "Losses and metrics".

    Examples
    --------
    >>> soft_dice(np.array([1.0, 0.5, 0.0, 0.0]), np.array([1.0, 0.5, 0.0, 0.0]))
    0.16666666666666663
    """
    both, ones, soft, _ = sums("c", c, m, binary=False)
    return 1 - 2 * both / (ones + soft) if ones + soft > 0 else 0.0


def cross_entropy(c: Array, m: Array) -> float:
    r"""Compute the cross-entropy of a soft segmentation against a soft label (Definition 1).

    .. math:: \mathrm{CE}_m(c) = -\int_\Omega m \log c + (1-m) \log(1-c)\,d\lambda

    with :math:`0 \log 0 = 0`. It is least where `c` equals `m` (equation 9).

    Parameters
    ----------
    c : numpy.ndarray or torch.Tensor
        Soft segmentation with values in [0, 1], any shape with at least one voxel.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a label; of the kind, device and shape of `c`.

    Returns
    -------
    float
        In nats per voxel, at least 0; infinite where `c` rules out what `m` allows (0 where `m` > 0, or 1 where
        `m` < 1). Two empty masks have cross-entropy 0. A plain number, through which no gradient flows.

    Raises
    ------
    ValueError
        If either has a NaN or a value outside [0, 1], or kinds, devices or shapes differ or are empty.

    Notes
    -----
    It is affine in `m`, so for a random label L with marginal m the expected cross-entropy E[CE_L(c)] is CE_m(c).

    Book: ``def-cross-entropy``, ``prop-first-properties`` and ``prop-affine`` in the chapter "Losses and metrics".

    Examples
    --------
    >>> round(cross_entropy(np.array([0.5, 0.0, 1.0]), np.array([0.5, 0.0, 1.0])), 6)  # log(2) / 3
    0.231049
    >>> cross_entropy(np.array([0.0, 0.0]), np.array([0.5, 0.0]))
    inf
    """
    c, m = check_array("c", c), check_array("m", m)
    check_same("c", c, "m", m)
    c_host, m_host = host_view(c), host_view(m)
    xp = sys.modules["torch"] if is_tensor(c_host) else np
    parts = []
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 log 0 is looked after below
        for c_block, m_block in blocks(c_host, m_host):
            check_unit_block("c", c_block, c.shape)
            check_unit_block("m", m_block, c.shape)
            zero = xp.zeros_like(m_block)
            inside = xp.where(m_block > 0, m_block * xp.log(c_block), zero)
            outside = xp.where(m_block < 1, (1 - m_block) * xp.log1p(-c_block), zero)
            parts.append(-float((inside + outside).sum()))
    return math.fsum(parts) / math.prod(c.shape) + 0.0  # -0.0 becomes 0.0


def _overlap(s: Array, m: Array, false_positives: float, false_negatives: float) -> float:
    """Give TP / (TP + false_positives FP + false_negatives FN); no rounding lifts it above 1."""
    both, ones, soft, _ = sums("s", s, m, binary=True)
    if ones + soft == 0:
        return 1.0
    cost = false_positives * (ones - both) + false_negatives * (soft - both)
    return both / (both + cost) if both > 0 else 0.0


def jaccard(s: Array, m: Array) -> float:
    r"""Compute the Jaccard index, intersection over union, of a segmentation with a soft label.

    .. math:: J_m(s) = \frac{\int_\Omega s\,m\,d\lambda}{|s|_1 + |m|_1 - \int_\Omega s\,m\,d\lambda}

    Parameters
    ----------
    s : numpy.ndarray or torch.Tensor
        Segmentation of 0 and 1 (bool, int or float), any shape with at least one voxel.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a label; of the kind, device and shape of `s`.

    Returns
    -------
    float
        In [0, 1]. Two empty masks have Jaccard 1; an empty mask against anything else has Jaccard 0.

    Raises
    ------
    ValueError
        If `s` is not binary, `m` has a NaN or a value outside [0, 1], or kinds, devices or shapes differ or are empty.

    Notes
    -----
    With D the Dice of the same `s` and `m`, J = D / (2 - D).

    Book: ``prop-overlap`` and ``prop-quotient`` in the chapter "Losses and metrics"; ``def-linear-fractional`` and
    ``thm-linear-fractional`` in the chapter "Optimal segmentations".

    Examples
    --------
    >>> jaccard(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.5, 0.0]))  # 3/2 of 5/2
    0.6
    """
    return _overlap(s, m, 1.0, 1.0)


def f_beta(s: Array, m: Array, beta: float) -> float:
    r"""Compute the F-score of a segmentation with a soft label, in which recall counts beta times as much as precision.

    .. math:: F_{\beta,m}(s) = \frac{(1 + \beta^2) \int_\Omega s\,m\,d\lambda}{|s|_1 + \beta^2\,|m|_1}

    Parameters
    ----------
    s : numpy.ndarray or torch.Tensor
        Segmentation of 0 and 1 (bool, int or float), any shape with at least one voxel.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a label; of the kind, device and shape of `s`.
    beta : float
        Positive. At 1 it is Dice; below 1 a false positive costs more than a false negative, above 1 less.

    Returns
    -------
    float
        In [0, 1]. Two empty masks have score 1; an empty mask against anything else has score 0.

    Raises
    ------
    ValueError
        If `s` is not binary, `m` has a NaN or a value outside [0, 1], kinds, devices or shapes differ or are empty, or
        `beta` is not positive and finite.

    Notes
    -----
    Computed as `tversky` with alpha = 1 / (1 + beta^2) and its beta = 1 - alpha, which is the same number.

    Book: ``prop-overlap`` and ``prop-quotient`` in the chapter "Losses and metrics"; ``def-linear-fractional`` and
    ``thm-linear-fractional`` in the chapter "Optimal segmentations".

    Examples
    --------
    >>> f_beta(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.5, 0.0]), beta=2)  # 5 (3/2) / (2 + 4 * 2)
    0.75
    >>> f_beta(np.array([1, 0]), np.array([1.0, 1.0]), beta=2)  # precision 1, recall 1/2: 5 * 1 / (1 + 4 * 2)
    0.5555555555555556
    """
    (beta,) = per_axis("beta", beta, 1, positive=True)
    alpha = 1 / (1 + beta * beta)
    return _overlap(s, m, alpha, 1 - alpha)


def tversky(s: Array, m: Array, alpha: float, beta: float) -> float:
    r"""Compute the Tversky index of a segmentation with a soft label.

    .. math:: T_{\alpha,\beta,m}(s) = \frac{TP}{TP + \alpha\,FP + \beta\,FN}

    with :math:`TP = \int_\Omega s\,m\,d\lambda`, :math:`FP = |s|_1 - TP` and :math:`FN = |m|_1 - TP`.

    Parameters
    ----------
    s : numpy.ndarray or torch.Tensor
        Segmentation of 0 and 1 (bool, int or float), any shape with at least one voxel.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a label; of the kind, device and shape of `s`.
    alpha, beta : float
        Costs of a false positive and of a false negative, both positive. 1/2 and 1/2 give Dice, 1 and 1 Jaccard.

    Returns
    -------
    float
        In [0, 1]. Two empty masks have index 1; an empty mask against anything else has index 0.

    Raises
    ------
    ValueError
        If `s` is not binary, `m` has a NaN or a value outside [0, 1], kinds, devices or shapes differ or are empty, or
        `alpha` or `beta` is not positive and finite.

    Notes
    -----
    Book: ``prop-overlap`` and ``prop-quotient`` in the chapter "Losses and metrics"; ``def-linear-fractional`` and
    ``thm-linear-fractional`` in the chapter "Optimal segmentations".

    Examples
    --------
    >>> tversky(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.5, 0.0]), alpha=2, beta=1)  # 3/2 of 3/2 + 2/2 + 1/2
    0.5
    """
    (alpha,) = per_axis("alpha", alpha, 1, positive=True)
    (beta,) = per_axis("beta", beta, 1, positive=True)
    return _overlap(s, m, alpha, beta)
