"""Best masks of R delineations volume by volume, without the shortcuts of the library, and masks of independent voxels.

Labels are ``(R, N)`` arrays of 0 and 1, each with at least one voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from noisyseg import expected_dice, expected_dice_optimum, marginal, optimal_dice
from noisyseg.raters import independent_dice


def sums_by_volume(labels: np.ndarray, y: float) -> np.ndarray:
    """Return the largest sum of w_y over x voxels, for x = 0, ..., N.

    Examples
    --------
    >>> sums_by_volume(np.array([[1, 1, 0], [1, 0, 0]]), 2).round(3)
    array([0.   , 0.583, 0.833, 0.833])
    """
    w = (labels * (2 / (y + labels.sum(axis=1)))[:, None]).mean(axis=0)
    return np.append(0.0, np.cumsum(np.sort(w)[::-1]))


def best_by_volume(labels: np.ndarray) -> np.ndarray:
    """Return the largest mean Dice of a mask of x voxels, for x = 1, ..., N.

    Examples
    --------
    >>> best_by_volume(np.array([[1, 1, 0], [1, 0, 0]])).round(3)
    array([0.833, 0.833, 0.65 ])
    """
    return np.array([sums_by_volume(labels, x)[x] for x in range(1, labels.shape[1] + 1)])


def chord_bound(labels: np.ndarray, points: Sequence[int]) -> np.ndarray:
    """Return the bound of ``prop-volume-search`` for x = 1, ..., N from the sums at some volumes, among them 1 and N.

    Examples
    --------
    >>> labels = np.array([[1, 1, 0], [1, 0, 0]])
    >>> bool((chord_bound(labels, [1, 3]) >= best_by_volume(labels) - 1e-15).all())
    True
    """
    largest = labels.sum(axis=1).max()
    bound = np.zeros(labels.shape[1] + 1)
    for start, end in pairwise(points):
        x = np.arange(start, end + 1)
        left, right = ((y + largest) * sums_by_volume(labels, y)[x] for y in (start, end))
        bound[x] = ((end - x) * left + (x - start) * right) / ((end - start) * (x + largest))
    return bound[1:]


def independent_scores(m: np.ndarray) -> np.ndarray:
    """Return the expected Dice, if voxels are independent, of the x voxels with the largest m, for x = 0, ..., N.

    Examples
    --------
    >>> independent_scores(np.array([0.5, 1.0])).round(3)
    array([0.   , 0.833, 0.833])
    """
    order = np.argsort(-m, kind="stable")
    masks = np.zeros((m.size + 1, m.size), dtype=bool)
    for x in range(1, m.size + 1):
        masks[x, order[:x]] = True
    return np.array([independent_dice(mask, m) for mask in masks])


def simple_rule_loss(labels: np.ndarray) -> float:
    """Return what the optimum of the Dice of the marginal loses in mean Dice.

    Examples
    --------
    >>> round(simple_rule_loss(np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])), 4)
    0.2222
    """
    best, simple = expected_dice_optimum(labels), optimal_dice(marginal(labels))
    return expected_dice(best, labels) - expected_dice(simple, labels)


def unequal_sizes(r: int, ratio: int) -> np.ndarray:
    """Return r labels: one holds `ratio` voxels, the others one of them.

    Examples
    --------
    >>> unequal_sizes(2, 3).astype(int).tolist()
    [[1, 1, 1], [1, 0, 0]]
    """
    labels = np.zeros((r, ratio), dtype=bool)
    labels[0], labels[:, 0] = True, True
    return labels
