"""Optimal thresholds for Jaccard, F_beta, Tversky and other quotients of linear functions of the confusion.

Book: ``thm-linear-fractional`` in the chapter "Optimal segmentations". The threshold of F_beta is the supremum of
int(s m) / (|s| + beta^2 |m|), which is found as fast as that of Dice; Jaccard has the masks of Dice, and Tversky those
of one F_beta. Where beta is 0 or infinite, the limit of the masks is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from noisyseg._core.arrays import Array, blocks, check_array, check_unit_block, host_view, per_axis
from noisyseg._core.levels import mask_at_least
from noisyseg._core.search import supremum


def _threshold(m: Array, weight: float) -> float:
    """Compute sup_s int(s m) / (|s| + weight |m|) for weights from 0 to infinity, both included."""
    m = check_array("m", m)
    if 0 < weight < math.inf:
        return supremum(m, weight)
    view = host_view(m)
    check_unit_block("m", view, m.shape)
    if weight == 0:
        return float(view.max()) or 1.0  # the largest precision; an empty mask is right where m is all zero
    return 0.0


def _mask(m: Array, weight: float) -> Array:
    m = check_array("m", m)
    t = _threshold(m, weight)
    return mask_at_least(m, t) if t > 0 else m > 0  # at an infinite weight the limit of the masks


def _squared(beta: float) -> float:
    (beta,) = per_axis("beta", beta, 1)
    return beta * beta


def _ratio(alpha: float, beta: float) -> float:
    (alpha,), (beta,) = per_axis("alpha", alpha, 1), per_axis("beta", beta, 1)
    if alpha == beta == 0:
        raise ValueError("alpha and beta: expected at least one positive number, got 0 and 0, where every mask is best")
    return beta / alpha if alpha > 0 else math.inf


def _four(name: str, value: Sequence[float]) -> tuple[float, ...]:
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (4,) or not np.isfinite(numbers).all():
        raise ValueError(f"{name}: expected four finite numbers, for TP, FP, FN and TN, got {value!r}")
    return tuple(numbers.tolist())


def f_beta_threshold(m: Array, beta: float) -> float:
    r"""Compute the threshold that makes a marginal an F_beta-optimal segmentation.

    .. math:: t_\beta = \frac{\sup_s F_{\beta,m}(s)}{1 + \beta^2},\qquad
        F_{\beta,m}(s) = \frac{(1 + \beta^2) \int s\,m}{|s|_1 + \beta^2 |m|_1}

    Book: ``thm-linear-fractional`` and ``cor-f-beta`` in the chapter "Optimal segmentations". It falls as beta grows.

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a network's probabilities; any shape with at least one voxel, any real dtype.
    beta : float
        How many times as much recall counts as precision, at least 0 and finite. 1 is Dice.

    Returns
    -------
    float
        In (0, 1/(1 + beta^2)]: the upper end for a label and for an all-zero marginal. For beta = 0, where F_beta is
        the precision, the largest value of `m` (1 if that is 0). It is exact up to ``1 + 1/beta**2`` times a few
        roundings of float64, whatever the dtype of `m`.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1], or `beta` is negative or not finite.

    Examples
    --------
    >>> m = np.array([1.0, 0.5, 0.5, 0.0])
    >>> f_beta_threshold(m, beta=1), round(f_beta_threshold(m, beta=2), 4)  # all three: 2 / (3 + 2), 2 / (3 + 4 * 2)
    (0.4, 0.1818)
    """
    return _threshold(m, _squared(beta))


def optimal_f_beta(m: Array, beta: float) -> Array:
    r"""Compute the largest F_beta-optimal segmentation.

    .. math:: s(w) = 1\{m(w) \ge t_\beta\},\qquad t_\beta = \sup_s F_{\beta,m}(s) / (1 + \beta^2)

    Book: ``thm-linear-fractional`` and ``cor-f-beta`` in the chapter "Optimal segmentations". It grows with beta.

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a network's probabilities; any shape with at least one voxel, any real dtype.
    beta : float
        How many times as much recall counts as precision, at least 0 and finite. 1 is Dice; 0 is the precision, for
        which the voxels with the largest marginal are best.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        Boolean mask of the kind, device and shape of `m`; equal values are treated equally. Empty for an all-zero `m`.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1], or `beta` is negative or not finite.

    Examples
    --------
    >>> m = np.array([1.0, 0.6, 0.3, 0.1])
    >>> for beta in (0.5, 1, 2):
    ...     print(optimal_f_beta(m, beta))
    [ True False False False]
    [ True  True False False]
    [ True  True  True False]
    """
    return _mask(m, _squared(beta))


def jaccard_threshold(m: Array) -> float:
    r"""Compute the threshold that makes a marginal a Jaccard-optimal segmentation, which is that of Dice.

    .. math:: t = \frac{J^*}{1 + J^*} = \frac{D^*}{2},\qquad J^* = \sup_s J_m(s) = \frac{t}{1 - t}

    Book: ``thm-linear-fractional`` in the chapter "Optimal segmentations". J = D / (2 - D) increases with Dice.

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], any shape with at least one voxel, any real dtype.

    Returns
    -------
    float
        In (0, 1/2], the number that `noisyseg.dice_threshold` gives.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1].

    Examples
    --------
    >>> t = jaccard_threshold(np.array([1.0, 0.5, 0.5, 0.0]))
    >>> t, round(t / (1 - t), 4)  # J* = 2 / 3: an intersection of 2 in a union of 3
    (0.4, 0.6667)
    """
    return _threshold(m, 1.0)


def optimal_jaccard(m: Array) -> Array:
    r"""Compute the largest Jaccard-optimal segmentation, which is the Dice-optimal one.

    .. math:: s(w) = 1\{m(w) \ge t\},\qquad t = \frac{J^*}{1 + J^*} = \frac{D^*}{2}

    Book: ``thm-linear-fractional`` in the chapter "Optimal segmentations".

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

    Examples
    --------
    >>> optimal_jaccard(np.array([1.0, 0.5, 0.45, 0.0]))
    array([ True,  True,  True, False])
    """
    return _mask(m, 1.0)


def tversky_threshold(m: Array, alpha: float, beta: float) -> float:
    r"""Compute the threshold that makes a marginal a Tversky-optimal segmentation.

    .. math:: t = \frac{\alpha\,T^*}{1 - (1 - \alpha - \beta)\,T^*},\qquad
        T^* = \sup_s \frac{TP}{TP + \alpha\,FP + \beta\,FN} = \frac{t}{\alpha + (1 - \alpha - \beta)\,t}

    Only the quotient counts: it is the threshold of F_beta with beta^2 = ``beta / alpha``. Book:
    ``thm-linear-fractional`` in the chapter "Optimal segmentations".

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a network's probabilities; any shape with at least one voxel, any real dtype.
    alpha, beta : float
        Costs of a false positive and of a false negative, at least 0 and finite, not both 0.

    Returns
    -------
    float
        In [0, alpha / (alpha + beta)]; for alpha = beta that of Dice. For beta = 0 the largest value of `m` (1 if that
        is 0), for alpha = 0 it is 0.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1], `alpha` or `beta` is negative or not finite, or both
        are 0.

    Examples
    --------
    >>> m = np.array([1.0, 0.5, 0.5, 0.0])
    >>> tversky_threshold(m, alpha=0.3, beta=0.3), round(tversky_threshold(m, alpha=0.25, beta=1.0), 4)
    (0.4, 0.1818)
    """
    return _threshold(m, _ratio(alpha, beta))


def optimal_tversky(m: Array, alpha: float, beta: float) -> Array:
    r"""Compute a Tversky-optimal segmentation, the largest one for positive alpha and beta.

    .. math:: s(w) = 1\{m(w) \ge t\},\qquad t = \frac{\alpha\,T^*}{1 - (1 - \alpha - \beta)\,T^*}

    Book: ``thm-linear-fractional`` in the chapter "Optimal segmentations".

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a network's probabilities; any shape with at least one voxel, any real dtype.
    alpha, beta : float
        Costs of a false positive and of a false negative, at least 0 and finite, not both 0. For beta = 0 the voxels
        with the largest marginal are best. For alpha = 0, where false positives cost nothing, all voxels with ``m > 0``
        are given: the limit of the masks as alpha falls to 0, and the smallest of the optima.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        Boolean mask of the kind, device and shape of `m`; equal values are treated equally. Empty for an all-zero `m`.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1], `alpha` or `beta` is negative or not finite, or both
        are 0.

    Examples
    --------
    >>> m = np.array([1.0, 0.6, 0.3, 0.1, 0.0])
    >>> for alpha, beta in [(1, 0), (1, 1), (1, 4), (0, 1)]:
    ...     print(optimal_tversky(m, alpha, beta))
    [ True False False False False]
    [ True  True False False False]
    [ True  True  True False False]
    [ True  True  True  True False]
    """
    return _mask(m, _ratio(alpha, beta))


def linear_fractional_optimum(
    m: Array, numerator: Sequence[float], denominator: Sequence[float]
) -> tuple[float, float]:
    r"""Compute the largest value of any linear-fractional metric, and the threshold of the mask that attains it.

    .. math:: M_m(s) = \frac{p_1 TP + p_2 FP + p_3 FN + p_4 TN}{q_1 TP + q_2 FP + q_3 FN + q_4 TN}

    with the expected volumes :math:`TP = \int s\,m`, :math:`FP = \int s\,(1-m)`, :math:`FN = \int (1-s)\,m` and
    :math:`TN = \int (1-s)(1-m)`, which sum to 1. Found by Newton's method on :math:`\sup_s` (numerator - u denominator)
    as a function of u (Dinkelbach's algorithm). Book: ``def-linear-fractional``, ``thm-linear-fractional`` and
    ``cor-smoothing`` in the chapter "Optimal segmentations".

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], any shape with at least one voxel, any real dtype.
    numerator, denominator : sequence of four floats
        p and q. Dice is ``(2, 0, 0, 0)`` over ``(2, 1, 1, 0)`` and Accuracy ``(1, 0, 0, 1)`` over ``(1, 1, 1, 1)``.
        Adding e to all eight numbers smooths a metric by the constant e, as many Dice losses do.

    Returns
    -------
    (best, threshold) : pair of floats
        The mask ``m >= threshold`` attains `best`, sup_s M_m(s). For an all-zero `m` a metric that is 0/0 for the empty
        mask, such as Dice, is 1 there.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1], `numerator` or `denominator` are not four finite
        numbers, the denominator is not positive for every segmentation, or the metric does not grow with TP at fixed
        volume where it is best, so that its optima are no sets ``m >= threshold``.

    Examples
    --------
    >>> m = np.array([1.0, 0.5, 0.5, 0.0])
    >>> linear_fractional_optimum(m, (2, 0, 0, 0), (2, 1, 1, 0))
    (0.8, 0.4)
    >>> linear_fractional_optimum(m, (1, 0, 0, 1), (1, 1, 1, 1))
    (0.75, 0.5)
    """
    m, p, q = check_array("m", m), _four("numerator", numerator), _four("denominator", denominator)
    view, voxels = host_view(m), math.prod(m.shape)
    slope_p, slope_q = (x[0] - x[1] - x[2] + x[3] for x in (p, q))  # the factors of int(s m)
    offset_p, offset_q = (x[1] - x[3] for x in (p, q))  # and of |s|
    soft, least = [], []
    for (x,) in blocks(view):
        check_unit_block("m", x, m.shape)
        soft.append(float(x.sum()))
        outside = q[2] * x + q[3] * (1 - x)
        least.append(float((outside + (slope_q * x + offset_q).clip(max=0)).sum()))
    total = math.fsum(soft)

    def newton(slope: float, offset: float) -> float:
        """Give the metric of the mask slope m + offset >= 0."""
        both, ones = [], 0
        for (x,) in blocks(view):
            chosen = slope * x + offset >= 0
            both.append(float((x * chosen).sum()))
            ones += int(chosen.sum())
        tp = math.fsum(both)
        confusion = (tp, ones - tp, total - tp, voxels - ones - total + tp)
        above, below = (sum(f * x for f, x in zip(factors, confusion, strict=True)) for factors in (p, q))
        return above / below

    if total == p[3] == q[3] == 0 and p[1] <= q[1]:
        u = 1.0  # the empty mask is right
    elif not math.fsum(least) > 0:
        raise ValueError(f"denominator: expected a positive one for every segmentation of this m, got {q}")
    else:
        u, step = -math.inf, newton(1.0, -0.5)
        while step > u:
            u, step = step, newton(slope_p - step * slope_q, offset_p - step * offset_q)
    slope = slope_p - u * slope_q
    if not slope > 0:
        raise ValueError(
            f"numerator and denominator: expected a metric that grows with TP at fixed volume, got {p} over {q}, which "
            f"at its largest value {u!r} does not"
        )
    return u, (u * offset_q - offset_p) / slope
