r"""How large the two optimal masks of a few raters are, relative to the volume that the raters drew on average.

Given are votes: how many voxels lie in the outlines of exactly 1, 2, … of the R raters. The volumes and thresholds of
the optimal masks depend on nothing else, because the marginal is m = k/R on a voxel with k votes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import noisyseg as ns
from noisyseg.volume import optimal_volumes


def count_votes(masks: Sequence[NDArray[np.integer]]) -> list[int]:
    """Count the voxels that lie in exactly 1, 2, 3, … of the masks, each given by the indices (n, 3) of its voxels.

    No voxel stands in a mask twice. Without a voxel the list is empty.

    Examples
    --------
    >>> count_votes([np.array([[5, 5, 0], [5, 6, 0]]), np.array([[5, 6, 0], [5, 7, 0], [9, 9, 9]])])
    [3, 1]
    """
    voxels = np.concatenate([np.empty((0, 3), np.int64), *masks])
    if not len(voxels):
        return []
    shape = np.ptp(voxels, axis=0) + 1
    places = np.ravel_multi_index(tuple((voxels - voxels.min(axis=0)).T), tuple(shape))
    return np.bincount(np.unique(places, return_counts=True)[1])[1:].tolist()


def volume_ratios(votes: Sequence[int], raters: int) -> dict[str, float]:
    r"""Measure the optimal masks of R raters.

    With m = k/R, v its volume and t its Dice threshold, the masks are :math:`s_A = \{m \ge 1/2\}` and
    :math:`s_D = \{m \ge t\}`. Book: ``prop-raters-volume``,
    ``prop-four-raters``.

    Parameters
    ----------
    votes
        Voxels with exactly 1, 2, … votes; no more numbers than raters.
    raters
        R; those who drew nothing count.

    Returns
    -------
    dict
        ``expected``, v in voxels; ``union``, the voxels with a vote; ``threshold``, t; ``accuracy_ratio``,
        :math:`\|s_A\| / v`; ``strict_accuracy_ratio``, the same without the voxels at 1/2, which are free;
        ``dice_ratio``, :math:`\|s_D\| / v`; ``accuracy_dice``, :math:`D_m(s_A)`. Without a vote ``expected`` and
        ``union`` are 0, both masks are empty as the label is, and all ratios count as 1.

    Raises
    ------
    ValueError
        If a number is negative, or a voxel has more votes than there are raters.

    Examples
    --------
    One of four raters sees a nodule of ten voxels:

    >>> ratios = volume_ratios([10], raters=4)
    >>> ratios["threshold"], ratios["accuracy_ratio"], ratios["dice_ratio"]
    (0.2, 0.0, 4.0)
    """
    counts = np.asarray(votes, dtype=np.int64)
    if (counts < 0).any():
        raise ValueError(f"votes: expected numbers of voxels, got {list(votes)}")
    if counts[raters:].any():
        raise ValueError(f"votes: {counts[raters:].sum()} voxels have more than {raters} votes, of {raters} raters")
    union = int(counts.sum())
    if not union:
        ratios = dict.fromkeys(("accuracy_ratio", "strict_accuracy_ratio", "dice_ratio", "accuracy_dice"), 1.0)
        return {"expected": 0.0, "union": 0, "threshold": 0.5, **ratios}
    m = np.repeat(np.arange(1, len(counts) + 1) / raters, counts)
    volumes = optimal_volumes(m)
    return {
        "expected": volumes.expected * union,
        "union": union,
        "threshold": ns.dice_threshold(m),
        "accuracy_ratio": volumes.accuracy[1] / volumes.expected,
        "strict_accuracy_ratio": volumes.accuracy[0] / volumes.expected,
        "dice_ratio": volumes.dice[1] / volumes.expected,
        "accuracy_dice": ns.dice(ns.optimal_accuracy(m), m),
    }


def paper_ratios(votes: Sequence[int], raters: int) -> tuple[float, float]:
    r"""Compute the two ratios as the public code of the NeurIPS paper does: :math:`\|s_A\|/\|m\|, \|s_D\|/\|m\|`.

    The same as in `volume_ratios`, but m = k/R may exceed 1, where more than R annotations overlap. Without a vote both
    ratios are 1.

    Examples
    --------
    >>> paper_ratios([0, 4, 0, 0, 2], raters=4)  # 4 voxels at 1/2, 2 voxels at 5/4
    (1.3333333333333333, 1.3333333333333333)
    """
    counts = np.asarray(votes, dtype=np.int64)[::-1]
    if not counts.any():
        return 1.0, 1.0
    levels = np.arange(len(counts), 0, -1) / raters
    voxels, mass = np.cumsum(counts), np.cumsum(levels * counts)
    t = np.max(mass / (voxels + mass[-1]))
    accuracy, dice = (float(counts[levels >= u].sum() / mass[-1]) for u in (0.5, t))
    return accuracy, dice
