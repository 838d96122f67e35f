"""Optimal thresholds for Jaccard, F_beta, Tversky and other quotients of linear functions of the confusion.

Book: ``thm-linear-fractional``. The threshold of F_beta is the supremum of
int(s m) / (|s| + beta^2 |m|), which is found as fast as that of Dice; Jaccard has the masks of Dice, and Tversky those
of one F_beta. Where beta is 0 or infinite, the limit of the masks is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from noisyseg._core.arrays import Array, blocks, check_unit, per_axis
from noisyseg._core.images import mask_per_image, per_image
from noisyseg._core.search import supremum
from noisyseg.metrics import Scores


def _supremum(m: Array, weight: float) -> float:
    """Compute sup_s int(s m) / (|s| + weight |m|) of one image for weights from 0 to infinity, both included."""
    if 0 < weight < math.inf:
        return supremum(m, weight)
    check_unit("m", m)
    if weight == 0:
        return float(m.max()) or 1.0  # the largest precision; an empty mask is right where m is all zero
    return 0.0  # the limit of the masks is m > 0


def _threshold(m: Array, weight: float, axis: Any, where: Any) -> Scores:
    return per_image(lambda x: _supremum(x, weight), axis, where, m=m)


def _mask(m: Array, weight: float, axis: Any, where: Any) -> Array:
    return mask_per_image(lambda x: _supremum(x, weight), axis, where, m)


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


def f_beta_threshold(m: Array, beta: float, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the threshold that makes a marginal an F_beta-optimal segmentation.

    .. math:: t_\beta = \frac{\sup_s F_{\beta,m}(s)}{1 + \beta^2},\qquad
        F_{\beta,m}(s) = \frac{(1 + \beta^2) \int s\,m}{|s|_1 + \beta^2 |m|_1}

    `beta` says how many times as much recall counts as precision, at least 0 and finite; 1 is Dice. t falls as beta
    grows. It is in (0, 1/(1 + beta^2)], with the upper end for a label and for an all-zero marginal, and exact up to
    ``1 + 1/beta**2`` times a few roundings of float64. For beta = 0, where F_beta is the precision, it is the largest
    value of `m` (1 if that is 0). Book: ``thm-linear-fractional``, ``cor-f-beta``.

    Examples
    --------
    >>> m = np.array([1.0, 0.5, 0.5, 0.0])
    >>> f_beta_threshold(m, beta=1), round(f_beta_threshold(m, beta=2), 4)  # all three: 2 / (3 + 2), 2 / (3 + 4 * 2)
    (0.4, 0.1818)
    """
    return _threshold(m, _squared(beta), axis, where)


def optimal_f_beta(m: Array, beta: float, *, axis: Any = None, where: Any = None) -> Array:
    r"""Compute the largest F_beta-optimal segmentation.

    .. math:: s(w) = 1\{m(w) \ge t_\beta\},\qquad t_\beta = \sup_s F_{\beta,m}(s) / (1 + \beta^2)

    `beta` as in `f_beta_threshold`; the mask grows with it. For beta = 0, the precision, the voxels with the largest
    marginal are best. Book: ``thm-linear-fractional``, ``cor-f-beta``.

    Examples
    --------
    >>> m = np.array([1.0, 0.6, 0.3, 0.1])
    >>> for beta in (0.5, 1, 2):
    ...     print(optimal_f_beta(m, beta))
    [ True False False False]
    [ True  True False False]
    [ True  True  True False]
    """
    return _mask(m, _squared(beta), axis, where)


def jaccard_threshold(m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the threshold that makes a marginal a Jaccard-optimal segmentation: that of `noisyseg.dice_threshold`.

    .. math:: t = \frac{J^*}{1 + J^*} = \frac{D^*}{2},\qquad J^* = \sup_s J_m(s) = \frac{t}{1 - t}

    J = D / (2 - D) increases with Dice, so both have the same optima. Book: ``thm-linear-fractional``.

    Examples
    --------
    >>> t = jaccard_threshold(np.array([1.0, 0.5, 0.5, 0.0]))
    >>> t, round(t / (1 - t), 4)  # J* = 2 / 3: an intersection of 2 in a union of 3
    (0.4, 0.6667)
    """
    return _threshold(m, 1.0, axis, where)


def optimal_jaccard(m: Array, *, axis: Any = None, where: Any = None) -> Array:
    r"""Compute the largest Jaccard-optimal segmentation: that of `noisyseg.optimal_dice`.

    .. math:: s(w) = 1\{m(w) \ge t\},\qquad t = \frac{J^*}{1 + J^*} = \frac{D^*}{2}

    Book: ``thm-linear-fractional``.

    Examples
    --------
    >>> optimal_jaccard(np.array([1.0, 0.5, 0.45, 0.0]))
    array([ True,  True,  True, False])
    """
    return _mask(m, 1.0, axis, where)


def tversky_threshold(m: Array, alpha: float, beta: float, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the threshold that makes a marginal a Tversky-optimal segmentation.

    .. math:: t = \frac{\alpha\,T^*}{1 - (1 - \alpha - \beta)\,T^*},\qquad
        T^* = \sup_s \frac{TP}{TP + \alpha\,FP + \beta\,FN} = \frac{t}{\alpha + (1 - \alpha - \beta)\,t}

    `alpha` and `beta` are the costs of a false positive and of a false negative, at least 0 and finite, not both 0.
    Only their quotient counts: t is the threshold of F_beta with beta^2 = ``beta / alpha``, for alpha = beta that of
    Dice, and in [0, alpha / (alpha + beta)]. For beta = 0 it is the largest value of `m` (1 if that is 0), for alpha
    = 0 it is 0. Book: ``thm-linear-fractional``.

    Examples
    --------
    >>> m = np.array([1.0, 0.5, 0.5, 0.0])
    >>> tversky_threshold(m, alpha=0.3, beta=0.3), round(tversky_threshold(m, alpha=0.25, beta=1.0), 4)
    (0.4, 0.1818)
    """
    return _threshold(m, _ratio(alpha, beta), axis, where)


def optimal_tversky(m: Array, alpha: float, beta: float, *, axis: Any = None, where: Any = None) -> Array:
    r"""Compute a Tversky-optimal segmentation, the largest one for positive alpha and beta.

    .. math:: s(w) = 1\{m(w) \ge t\},\qquad t = \frac{\alpha\,T^*}{1 - (1 - \alpha - \beta)\,T^*}

    `alpha` and `beta` as in `tversky_threshold`. For beta = 0 the voxels with the largest marginal are best. For
    alpha = 0, where false positives cost nothing, all voxels with ``m > 0`` are given: the limit of the masks as alpha
    falls to 0, and the smallest of the optima. Book: ``thm-linear-fractional``.

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
    return _mask(m, _ratio(alpha, beta), axis, where)


def linear_fractional_optimum(
    m: Array, numerator: Sequence[float], denominator: Sequence[float], *, axis: Any = None, where: Any = None
) -> tuple[Scores, Scores]:
    r"""Compute (best, threshold): the largest value of any linear-fractional metric, and the mask that attains it.

    .. math:: M_m(s) = \frac{p_1 TP + p_2 FP + p_3 FN + p_4 TN}{q_1 TP + q_2 FP + q_3 FN + q_4 TN}

    with the expected volumes :math:`TP = \int s\,m`, :math:`FP = \int s\,(1-m)`, :math:`FN = \int (1-s)\,m` and
    :math:`TN = \int (1-s)(1-m)`, which sum to 1. The mask ``m >= threshold`` attains `best`, sup_s M_m(s). For an
    all-zero `m` a metric that is 0/0 for the empty mask, such as Dice, is 1 there. Found by Newton's method on
    :math:`\sup_s` (numerator - u denominator) as a function of u (Dinkelbach's algorithm). Book:
    ``def-linear-fractional``, ``thm-linear-fractional``, ``cor-smoothing``, ``prop-smoothing-parts``.

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal.
    numerator, denominator : sequence of four floats
        p and q. Dice is ``(2, 0, 0, 0)`` over ``(2, 1, 1, 0)`` and Accuracy ``(1, 0, 0, 1)`` over ``(1, 1, 1, 1)``.
        Adding e to all eight numbers smooths a metric by the constant e, as many Dice losses do.
    axis, where
        As in every function.

    Raises
    ------
    ValueError
        If the denominator is not positive for every segmentation, or the metric does not grow with TP at fixed volume
        where it is best, so that its optima are no sets ``m >= threshold``.

    Examples
    --------
    >>> m = np.array([1.0, 0.5, 0.5, 0.0])
    >>> linear_fractional_optimum(m, (2, 0, 0, 0), (2, 1, 1, 0))
    (0.8, 0.4)
    >>> linear_fractional_optimum(m, (1, 0, 0, 1), (1, 1, 1, 1))
    (0.75, 0.5)
    """
    p, q = _four("numerator", numerator), _four("denominator", denominator)
    return per_image(lambda x: _optimum(x, p, q), axis, where, m=m)


def _optimum(m: Array, p: tuple[float, ...], q: tuple[float, ...]) -> tuple[float, float]:
    """Compute what `linear_fractional_optimum` gives for one image."""
    check_unit("m", m)
    voxels = math.prod(m.shape)
    slope_p, slope_q = (x[0] - x[1] - x[2] + x[3] for x in (p, q))  # the factors of int(s m)
    offset_p, offset_q = (x[1] - x[3] for x in (p, q))  # and of |s|
    soft, least = [], []
    for (x,) in blocks(m):
        soft.append(float(x.sum()))
        outside = q[2] * x + q[3] * (1 - x)
        least.append(float((outside + (slope_q * x + offset_q).clip(max=0)).sum()))
    total = math.fsum(soft)

    def newton(slope: float, offset: float) -> float:
        """Give the metric of the mask slope m + offset >= 0."""
        both, ones = [], 0
        for (x,) in blocks(m):
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
