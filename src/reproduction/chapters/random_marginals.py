"""Random marginals and noisy labels on which the chapters try their statements.

The marginals are in whole numbers, so that a bound can be checked without rounding: an image has `VOXELS` voxels with
values k / `VOXELS`, given by its levels k and the number of voxels at each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

import noisyseg as ns

VOXELS = 4096  # of an image, and steps of a value from 0 to 1


def every_mask(voxels: int) -> np.ndarray:
    """Return all masks of an image of so many voxels, one a row.

    Examples
    --------
    >>> every_mask(2).astype(int).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    return (np.arange(1 << voxels)[:, None] >> np.arange(voxels)) & 1 == 1


def draw_marginals(rng: np.random.Generator, rows: int, levels: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Draw marginals of eight kinds, among them those at the bounds of the volume and those with ties.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the draws.
    rows : int
        Marginals of each kind.
    levels : int
        Levels of one marginal.

    Returns
    -------
    levels, counts : numpy.ndarray of int, shape (up to 8 * rows, levels)
        In random order. No marginal is 0 everywhere.
    """
    v, w, place = rng.random((3, rows))
    whole = np.full((rows, 1), VOXELS)
    powers = rng.random((rows, levels)) ** rng.uniform(0.1, 6, (rows, 1))
    x_dice = v**2 + place * (1 - v**2)
    x_accuracy = np.maximum(0, 2 * v - 1) + place * (np.minimum(1, 2 * v) - np.maximum(0, 2 * v - 1))
    low, high = np.maximum(0.5, (v - (1 - x_accuracy) / 2) / x_accuracy), np.minimum(1, v / x_accuracy)
    radius, softness, height = rng.random((rows, 1)), 0.5 * rng.random((rows, 1)) + 0.01, rng.random((rows, 1))
    smooth = np.sqrt(height) / (1 + np.exp((np.arange(levels) / levels - radius) / softness))
    tied = _tied_for_dice(rng, rows, levels)
    kinds = [
        (np.rint(powers * VOXELS), _parts(rng, whole, levels)),
        _two_levels(v, x_dice, np.minimum(1, v / x_dice), levels),
        _two_levels(v, x_accuracy, (low + high) / 2, levels),
        (rng.integers(0, 5, (rows, levels)) * (VOXELS // 4), _parts(rng, whole, levels)),
        (np.rint(smooth * VOXELS), _parts(rng, whole, levels)),
        _near(rng, v / (1 + v), v**2, 0 * v, levels),
        _near(rng, np.full(rows, 0.5), np.maximum(0, 2 * w - 1), np.maximum(0, 1 - 2 * w), levels),
        tied,
    ]
    level, count = (np.concatenate(x).astype(np.int64) for x in zip(*kinds, strict=True))
    mixed = rng.permutation(len(level))
    mixed = mixed[(level * count).sum(axis=1)[mixed] > 0]
    return level[mixed], count[mixed]


def _parts(rng: np.random.Generator, voxels: np.ndarray, parts: int) -> np.ndarray:
    """Cut so many voxels, one number a row, into random parts."""
    edges = np.sort(np.floor(rng.random((len(voxels), parts - 1)) * (voxels + 1)), axis=1)
    return np.diff(edges, prepend=0, append=voxels)


def _near(
    rng: np.random.Generator, level: np.ndarray, ones: np.ndarray, zeros: np.ndarray, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw some voxels at 1, some at 0 (as shares of the image) and the rest within a few steps of a level."""
    rows = len(level)
    ones, zeros = (np.floor(x * VOXELS)[:, None] for x in (ones, zeros))
    steps = rng.integers(-1, 2, (rows, levels - 2)) + rng.integers(-2, 3, (rows, 1))
    values = np.clip(np.rint(level * VOXELS)[:, None] + steps, 0, VOXELS)
    values = np.hstack([np.full((rows, 1), VOXELS), values, np.zeros((rows, 1))])
    return values, np.hstack([ones, _parts(rng, VOXELS - ones - zeros, levels - 2), zeros])


def _two_levels(v: np.ndarray, x: np.ndarray, high: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Make marginals of mean v with two levels, of which `high` has the volume x."""
    low = (v - x * high) / np.maximum(1 - x, 1 / VOXELS)
    values, counts = np.zeros((2, len(v), levels))
    values[:, 0], values[:, 1] = np.rint(VOXELS * high), np.rint(VOXELS * np.clip(low, 0, 1))
    counts[:, 0], counts[:, 1] = np.rint(VOXELS * x), VOXELS - np.rint(VOXELS * x)
    return values, counts


def _tied_for_dice(rng: np.random.Generator, rows: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw A voxels at 1 and B at p with A (1 - 2 p) = p^2 B: with and without the part B the Dice is the same."""
    p = rng.integers(1, 32, rows)  # in 64ths
    a, b = np.array([p**2, 64 * (64 - 2 * p)]) // np.gcd(p**2, 64 * (64 - 2 * p))
    k = 1 + rng.integers(0, VOXELS // (a + b))
    values, counts = np.zeros((2, rows, levels))
    values[:, 0], values[:, 1] = VOXELS, p * (VOXELS // 64)
    counts[:, 0], counts[:, 1], counts[:, 2] = k * a, k * b, VOXELS - k * (a + b)
    return values, counts


def exact_optima(levels: np.ndarray, counts: np.ndarray, factor: float = 1) -> tuple[np.ndarray, ...]:
    """Return the expected volume and the volumes of the optimal masks, by sorting and adding up whole numbers.

    Parameters
    ----------
    levels, counts : numpy.ndarray of int
        From `draw_marginals`.
    factor : float
        What the Dice threshold is multiplied with: 1, or another to see that a check notices.

    Returns
    -------
    expected : numpy.ndarray of int
        Sum of the levels of all voxels, ``VOXELS**2`` times v.
    least_accuracy, most_accuracy, least_dice, most_dice : numpy.ndarray of int
        Voxels of the smallest and of the largest optimal mask, for Accuracy and for Dice.
    """
    order = np.argsort(-levels, axis=1)
    a, n = np.take_along_axis(levels, order, 1), np.take_along_axis(counts, order, 1)
    k, s = np.cumsum(n, axis=1), np.cumsum(n * a, axis=1)
    total = s[:, -1:]
    best = (s / (k * VOXELS + total)).argmax(axis=1)[:, None]
    t = factor * VOXELS * np.take_along_axis(s, best, 1)  # m > t where level * below > t
    below = np.take_along_axis(k, best, 1) * VOXELS + total
    masks = (2 * a > VOXELS, 2 * a >= VOXELS, a * below > t, a * below >= t)
    return total[:, 0], *((n * mask).sum(axis=1) for mask in masks)


@dataclass(frozen=True)
class SampledDice:
    """The Dice of the optimal mask s with each of many noisy labels L; from `sample_dice`."""

    marginal_dice: float  #: Dice of s with the exact marginal
    scores: np.ndarray  #: Dice of s with every label
    volumes: np.ndarray  #: of the labels, as fractions of the image
    volume: float  #: of s
    difference: float  #: Dice of s with the mean of the labels, less the mean of the scores

    @property
    def both(self) -> float:
        """Volume of s plus the mean volume of the labels."""
        return self.volume + float(self.volumes.mean())

    @property
    def difference_error(self) -> float:
        """Standard error of the difference."""
        parts = (self.scores - self.scores.mean()) * (self.volumes - self.volumes.mean()) / self.both
        return float(parts.std(ddof=1)) / math.sqrt(len(parts))

    @property
    def mean_bound(self) -> float:
        """Bound of the difference by the mean deviation of the volume."""
        return float(abs(self.volumes - self.volumes.mean()).mean()) / (2 * self.both)

    @property
    def sd_bound(self) -> float:
        """Bound of the difference by the standard deviation of the volume."""
        return float(self.volumes.std()) / (2 * self.both)

    @property
    def relative_sd(self) -> float:
        """Standard deviation of the volume over its mean."""
        return float(self.volumes.std() / self.volumes.mean())


def sample_dice(label: np.ndarray, noise: ns.GaussianDeformation, rng: int, size: int) -> SampledDice:
    """Compare the Dice-optimal mask of a noisy label with `size` samples."""
    samples, m = noise.sample(label, rng=rng, size=size), noise.marginal(label)
    s = ns.optimal_dice(m)
    scores = np.array([ns.dice(s, x) for x in samples])
    volumes = samples.reshape(size, -1).mean(axis=1)
    return SampledDice(ns.dice(s, m), scores, volumes, float(s.mean()), ns.dice_covariance(s, samples))
