r"""A certain region and an uncertain one in K parts: which mask has the best expected Dice, and how large it is.

The label is a set of volume A together with the parts of another set, of volume r A, that are present; U is the share
of parts that are, p its mean. Any exchangeable dependence between the parts is admitted: all that counts is the
distribution of U, given by its values and their probabilities. The derivation is in the chapter "Volume bias".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom


def independent(parts: float, p: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the values of U and their probabilities for so many independent parts; for infinitely many, U = p.

    Examples
    --------
    >>> u, probability = independent(2, 0.25)
    >>> u.tolist(), probability.round(4).tolist()
    ([0.0, 0.5, 1.0], [0.5625, 0.375, 0.0625])
    """
    if not (parts == math.inf or (parts >= 1 and parts == int(parts))) or not 0 <= p <= 1:
        raise ValueError(
            f"parts and p: expected a whole number from 1 on (or inf) and p in [0, 1], got {parts} and {p}"
        )
    if parts == math.inf:
        return np.array([p]), np.ones(1)
    k = np.arange(int(parts) + 1)
    return k / parts, binom.pmf(k, int(parts), p)


def region_dice(taken: Any, r: float, u: NDArray, probability: NDArray) -> Any:
    r"""Compute the expected Dice of all of the certain region and a share of the uncertain one.

    .. math:: E[D_L(s)] = E\left[\frac{2\,(1 + r y U)}{2 + r y + r U}\right]

    with y the share that is taken, wherever it lies; a soft segmentation has the same score. It decreases first in y
    and increases then, so that 0 or 1 is best. Book: ``thm-regions``.

    Examples
    --------
    >>> u, probability = independent(1, 0.5)  # there or not: a toss, if half of the time
    >>> [round(float(region_dice(y, 1.0, u, probability)), 4) for y in (0, 0.5, 1)]
    [0.8333, 0.8286, 0.8333]
    """
    y = np.asarray(taken, dtype=np.float64)[..., None]
    return (2 * (1 + r * y * u) / (2 + r * y + r * u)) @ probability


def switch(r: float, parts: float = math.inf) -> float:
    r"""Find the probability of the uncertain region from which on it is taken in, for independent parts.

    1/2 for one part; it falls to :math:`p^* = 1 / (1 + \sqrt{1 + r})` for infinitely many, the Dice of the marginal.
    Book: ``thm-regions``.

    Examples
    --------
    >>> [round(switch(1.0, parts), 3) for parts in (1, 4, 16, 64, math.inf)]
    [0.5, 0.436, 0.42, 0.416, 0.414]
    """
    if not 0 < r < math.inf:
        raise ValueError(f"r: expected a positive finite ratio of volumes, got {r!r}")
    limit = 1 / (1 + math.sqrt(1 + r))
    if parts == math.inf:
        return limit

    def gain(p: float) -> float:
        u, probability = independent(parts, p)
        out, taken = region_dice([0, 1], r, u, probability)
        return float(taken - out)

    root: Any = brentq(gain, limit - 1e-9, 0.5 + 1e-9, xtol=1e-12)
    return float(root)


def volume_ratio(r: float, p: NDArray, parts: float = math.inf) -> NDArray[np.float64]:
    """Give the volume of the mask with the best expected Dice over the expected volume of the label, for each p.

    Examples
    --------
    >>> volume_ratio(1.0, np.array([0.45, 0.55]), parts=1).round(3).tolist()
    [0.69, 1.29]
    """
    p = np.asarray(p, dtype=np.float64)
    return np.where(p < switch(r, parts), 1.0, 1 + r) / (1 + r * p)
