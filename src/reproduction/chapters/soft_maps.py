r"""What losses other than cross-entropy make of a map, and what a map is worth to its own image.

The formulas are derived in the chapter "Is the map a probability?". Volumes are fractions of the image; :math:`m` is
the marginal, v its volume, t its Dice threshold.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Values = NDArray[Any]  # float64


def within_image(c: NDArray, m: NDArray) -> Values:
    r"""Compute E[m | c]: at every voxel the mean of m over all voxels of the image that have its value of c.

    A map with ``within_image(c, m) == c`` is calibrated within the image. Book: ``thm-within``, ``prop-within-error``.

    Examples
    --------
    >>> within_image(np.array([0.3, 0.3, 0.9]), np.array([0.2, 0.6, 1.0]))
    array([0.4, 0.4, 1. ])
    """
    _, place, count = np.unique(c.ravel(), return_inverse=True, return_counts=True)
    return (np.bincount(place, m.ravel()) / count)[place].reshape(c.shape)


class MixedLoss(NamedTuple):
    """A stationary map of cross-entropy + weight soft-Dice, with the two numbers that describe it."""

    c: Values
    mu: float  # 2 weight / (|c| + v)
    tau: float  # half of the map's soft Dice

    @property
    def half(self) -> float:
        """The value of m at which c is 1/2."""
        return (2 + self.mu * self.tau) / (4 + self.mu)


def mixed_value(c: Values, mu: float, tau: float) -> Values:
    r"""Compute the marginal that belongs to a value of the map.

    .. math:: \psi(c) = \tau + \frac{c - \tau}{1 + \mu\,c\,(1 - c)}

    psi increases from 0 to 1. Book: ``thm-mixed-loss``.

    Examples
    --------
    >>> mixed_value(np.array([0.0, 0.4, 0.5, 1.0]), mu=8.0, tau=0.4).round(4)
    array([0.    , 0.4   , 0.4333, 1.    ])
    """
    return tau + (c - tau) / (1 + mu * c * (1 - c))


def mixed_map(m: Values, mu: float, tau: float) -> Values:
    """Compute the value of the map that belongs to a marginal: the inverse of `mixed_value`, a quadratic equation.

    Examples
    --------
    >>> mixed_map(np.array([0.0, 0.4, 13 / 30, 1.0]), mu=8.0, tau=0.4).round(4)
    array([0. , 0.4, 0.5, 1. ])
    """
    square = mu * (m - tau)  # square c^2 + linear c = m
    linear = 1 - square
    root = np.sqrt(np.maximum(linear**2 + 4 * square * m, 0))
    low = linear > 0
    return np.where(low, 2 * m / np.where(low, linear + root, 1), (root - linear) / np.where(low, 1, 2 * square))


def mixed_loss_optimum(m: NDArray, weight: float) -> MixedLoss:
    r"""Compute the map that minimises :math:`\mathrm{CE}_m(c) + \lambda\,\mathrm{SD}_m(c)`, lambda the weight.

    Of the stationary maps that are reached from c = m and from the Dice-optimal mask, the one with the smaller loss.
    Book: ``thm-mixed-loss``.

    Examples
    --------
    >>> m = np.array([0.9, 0.45, 0.2, 0.0])
    >>> found = mixed_loss_optimum(m, weight=1.0)
    >>> found.c.round(3), round(found.tau, 3), round(found.half, 3)
    (array([0.957, 0.511, 0.15 , 0.   ]), 0.354, 0.443)
    """
    m = np.asarray(m, dtype=np.float64)
    v = float(m.mean())
    found: list[tuple[float, MixedLoss]] = []
    for tau, total in ((float((m * m).mean()) / (2 * v), 2 * v), (0.5, 2 * v)):
        for _ in range(10_000):
            c = mixed_map(m, 2 * weight / total, tau)
            new = float(c.mean()) + v, float((c * m).mean()) / (float(c.mean()) + v)
            moved = abs(new[0] - total) / total + abs(new[1] - tau)
            total, tau = (new[0] + total) / 2, (new[1] + tau) / 2
            if moved < 1e-14:
                break
        c = mixed_map(m, 2 * weight / total, tau)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.where(m > 0, m * np.log(c), 0) - np.where(m < 1, (1 - m) * np.log1p(-c), 0)
        loss = float(entropy.mean()) + weight * (1 - 2 * tau)
        found.append((loss, MixedLoss(c, 2 * weight / total, tau)))
    return min(found, key=lambda pair: pair[0])[1]


def undo_mixed_loss(c: NDArray, weight: float) -> Values:
    r"""Compute the marginal from a map that minimises CE + weight SD, from the map and the weight alone.

    The two numbers of `mixed_value` are those with :math:`\mu = 2\lambda/(|c| + |\psi(c)|)` and
    :math:`\tau = \int c\,\psi(c) / (|c| + |\psi(c)|)`. Book: ``thm-mixed-loss``.

    Examples
    --------
    >>> m = np.array([0.9, 0.45, 0.2, 0.0])
    >>> undo_mixed_loss(mixed_loss_optimum(m, weight=1.0).c, weight=1.0).round(6)
    array([0.9 , 0.45, 0.2 , 0.  ])
    """
    c = np.asarray(c, dtype=np.float64)
    total, tau = 2 * float(c.mean()), 0.25
    for _ in range(10_000):
        m = mixed_value(c, 2 * weight / total, tau)
        new = float(c.mean() + m.mean()), float((c * m).mean() / (c.mean() + m.mean()))
        moved = abs(new[0] - total) / total + abs(new[1] - tau)
        total, tau = (new[0] + total) / 2, (new[1] + tau) / 2
        if moved < 1e-14:
            break
    return mixed_value(c, 2 * weight / total, tau)


def squared_dice_map(m: NDArray) -> tuple[Values, float]:
    r"""Compute the map that maximises the squared Dice of V-Net on hard labels of constant volume, and its value S.

    .. math:: S = \sup_c \frac{2 \int c\,m}{\int c^2 + v},\qquad c = \min(1,\ m / S)

    Book: ``prop-squared-dice``.

    Examples
    --------
    >>> c, S = squared_dice_map(np.array([0.9, 0.3, 0.1, 0.0]))
    >>> c.round(4), round(S, 4)
    (array([1.    , 0.3594, 0.1198, 0.    ]), 0.8347)
    """
    m = np.asarray(m, dtype=np.float64)
    S = 0.0
    while True:
        c = np.minimum(1.0, m / S) if S else (m > 0) * 1.0
        new = 2 * float((c * m).mean()) / float((c * c).mean() + m.mean())
        if new <= S:
            return c, S
        S = new


def surface_distance(h: float, a: float) -> float:
    r"""Compute the mean distance of a flat boundary from a parallel one, N(0, a^2) away from where it is expected.

    .. math:: \mathbb{E}|X - h| = a \sqrt{2/\pi}\, e^{-h^2/2a^2} + h\,(2 \Phi(h/a) - 1)

    h is the distance of the mask's boundary from the expected one. Book: ``prop-surface``.

    Examples
    --------
    >>> round(surface_distance(0.0, 1.0), 4), round(surface_distance(0.5, 1.0), 4)
    (0.7979, 0.8956)
    """
    return a * math.sqrt(2 / math.pi) * math.exp(-((h / a) ** 2) / 2) + h * float(2 * ndtr(h / a) - 1)
