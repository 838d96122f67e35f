r"""Intervals and tests for means over cases, in which cases of one person, and of one fold, are not independent.

Both sides of one person are alike, and all cases of a fold are segmented by the same trainings. A mean over cases
therefore varies by more than n independent cases would. Two cluster-robust standard errors say by how much: with
:math:`z_g = \frac{1}{n} \sum_{i \in g} (x_i - \bar x)` for each of the G groups,

.. math:: \mathrm{SE}^2 = \frac{G}{G - 1} \sum_g z_g^2, \qquad \bar x \pm t_{G-1} \, \mathrm{SE}.

Once the groups are the persons, once the folds: the latter carries cases, training sets, and the chance in five
trainings (or their means over several seeds). Of the two, the wider interval and the larger p are taken. Folds share
training cases, which no formula for cross-validation can account for (Bengio and Grandvalet 2004).

Source: Cameron and Miller 2015, A practitioner's guide to cluster-robust inference (the correction G / (G - 1) and
t with G - 1 degrees of freedom); two one-sided tests: Schuirmann 1987; Holm 1979. Book chapter *The experiment*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard errors: ``errors`` holds (SE, degrees of freedom) for each way to group the cases."""

    mean: float
    errors: tuple[tuple[float, int], ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The wider of the intervals at the level of 95 %; the mean itself where nothing varies."""
        half = max(_t(df) * error if error else 0.0 for error, df in self.errors)
        return self.mean - half, self.mean + half

    def p(self, null: float = 0.0) -> float:
        """Two-sided p-value of the mean being ``null``; 1 where there is one group only."""
        return min(1.0, max(2 * _tail(abs(self.mean - null), error, df) for error, df in self.errors))

    def p_above(self, null: float = 0.0) -> float:
        """One-sided p-value: small where the mean is above ``null``. With -margin it is a test of non-inferiority."""
        return max(_tail(self.mean - null, error, df) for error, df in self.errors)

    def p_below(self, null: float = 0.0) -> float:
        """One-sided p-value: small where the mean is below ``null``."""
        return max(_tail(null - self.mean, error, df) for error, df in self.errors)

    def p_alike(self, margin: float) -> float:
        """p-value of the mean being at least ``margin`` away from 0: small where the two are equivalent."""
        return max(self.p_above(-margin), self.p_below(margin))


def _t(df: int) -> float:
    from scipy.stats import t  # a third of a second, and no run needs it

    return float(t.ppf((1 + LEVEL) / 2, df))


def _tail(distance: float, error: float, df: int) -> float:
    """P(T >= distance / error); where nothing varies, 0 or 1, as the distance is positive or not; of one group, 1."""
    from scipy.stats import t

    if df < 1 or error == 0:
        return 0.0 if df > 0 and distance > 0 else 1.0
    return float(t.sf(distance / error, df))


def estimate(values: ArrayLike, *groups: Sequence[object] | NDArray) -> Estimate:
    """Estimate the mean of ``values``, one a case, with the standard error of each way to group the cases.

    Parameters
    ----------
    values : array (cases,)
        One finite number a case; of several trainings of a case, their mean.
    groups : sequences (cases,)
        What the case belongs to: its person, its fold. Without any, every case is a group. Where all cases belong to
        one (a single fold was run), that grouping says nothing, and the others count.

    Raises
    ------
    ValueError
        If there is no value, one is not finite, or a grouping has another length.

    Examples
    --------
    >>> found = estimate([0.1, 0.2, 0.3, 0.4], ["x", "x", "y", "z"])
    >>> round(found.mean, 3), [round(bound, 3) for bound in found.interval]
    (0.25, [-0.086, 0.586])
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"values have shape {x.shape}; expected one axis of at least one finite number")
    mean = float(x.mean())
    errors = []
    for labels in groups or (range(len(x)),):
        if len(labels) != len(x):
            raise ValueError(f"groups name {len(labels)} cases; expected {len(x)}, one for each value")
        _, group = np.unique(np.asarray(labels), return_inverse=True)
        count = int(group.max()) + 1
        parts = np.bincount(group, weights=x - mean) / len(x)
        spread = 0.0 if np.ptp(x) <= 1e-12 * np.abs(x).max() else float(parts @ parts)  # rounding is no spread
        errors.append((float(np.sqrt(spread * count / max(count - 1, 1))), count - 1))
    return Estimate(mean, tuple(error for error in errors if error[1] > 0) or ((0.0, 0),))


def ratio(above: ArrayLike, below: ArrayLike, *groups: Sequence[object] | NDArray) -> Estimate:
    r"""Estimate mean(above) / mean(below), by the delta method.

    The standard errors are those of the mean of :math:`(a_i - r b_i) / \bar b` with r the ratio.

    Raises
    ------
    ValueError
        As :func:`estimate`; and if the interval of the denominator contains 0: the ratio then has no meaning.

    Examples
    --------
    >>> found = ratio([0.4, 0.6, 0.5, 0.5], [0.9, 1.1, 1.0, 1.0])
    >>> round(found.mean, 3), [round(bound, 3) for bound in found.interval]
    (0.5, [0.435, 0.565])
    """
    a, b = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    denominator = estimate(b, *groups)
    low, high = denominator.interval
    if low <= 0 <= high:
        raise ValueError(f"the denominator is {denominator.mean:.3g} [{low:.3g}, {high:.3g}]: it may be 0")
    r = float(a.mean()) / denominator.mean
    return Estimate(r, estimate((a - r * b) / denominator.mean, *groups).errors)


def slopes(values: ArrayLike, at: ArrayLike) -> NDArray[np.float64]:
    """Least-squares slope of each case's values over ``at``: a trend is what :func:`estimate` makes of them.

    Parameters
    ----------
    values : array (cases, levels)
    at : array (levels,)
        At least two different numbers, such as the noise strengths.

    Examples
    --------
    >>> slopes([[0.0, 1.0, 2.0], [1.0, 1.0, 4.0]], [0.0, 0.01, 0.02]).round(9).tolist()
    [100.0, 150.0]
    """
    x = np.asarray(at, dtype=np.float64)
    centred = x - x.mean()
    if not np.any(centred):
        raise ValueError(f"at is {x.tolist()}; expected at least two different numbers")
    return np.asarray(values, dtype=np.float64) @ centred / (centred @ centred)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values for being several, by Holm's step-down procedure: none is below its own.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted
