"""The sums that all scores are made of, and the scores of overlap beside Dice: Jaccard, F_beta and Tversky."""

from __future__ import annotations

import math

from noisyseg._core.arrays import (
    Array,
    blocks,
    check_array,
    check_binary_block,
    check_same,
    check_unit_block,
    host_view,
    per_axis,
)


def sums(first: str, s: Array, m: Array, binary: bool) -> tuple[float, float, float, int]:
    """Give (sum of s m, sum of s, sum of m, number of voxels), checking both arrays in the same walk."""
    s, m = check_array(first, s), check_array("m", m)
    check_same(first, s, "m", m)
    shape, voxels = tuple(s.shape), math.prod(s.shape)
    both, ones, soft = [], [], []
    for s_block, m_block in blocks(host_view(s), host_view(m)):
        (check_binary_block if binary else check_unit_block)(first, s_block, shape)
        check_unit_block("m", m_block, shape)
        both.append(float((s_block * m_block).sum()))
        ones.append(float(s_block.sum()))
        soft.append(float(m_block.sum()))
    return math.fsum(both), math.fsum(ones), math.fsum(soft), voxels


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
    >>> import numpy as np
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
    >>> import numpy as np
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
    >>> import numpy as np
    >>> tversky(np.array([1, 1, 0, 0]), np.array([1.0, 0.5, 0.5, 0.0]), alpha=2, beta=1)  # 3/2 of 3/2 + 2/2 + 1/2
    0.5
    """
    (alpha,) = per_axis("alpha", alpha, 1, positive=True)
    (beta,) = per_axis("beta", beta, 1, positive=True)
    return _overlap(s, m, alpha, beta)
