"""Which layer loses a channel when every layer's scores are divided by their root sum of squares (*Lean U-Net*)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def evenness(scores: NDArray[np.float64]) -> float:
    r"""Lowest score of a layer over the root mean square of its scores: 1 where all are equal, 0 where one is 0.

    .. math:: e = \min_i s_i \Big/ \sqrt{\tfrac1n \sum_i s_i^2}

    After normalisation the lowest score is :math:`e/\sqrt n`. Book: ``prop-layer-normalisation``.

    Examples
    --------
    >>> evenness(np.array([3.0, 3.0, 3.0])), round(evenness(np.array([1.0, 7.0])), 3)
    (1.0, 0.2)
    """
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 1 or not len(s) or not np.all(s >= 0) or not s.any():
        raise ValueError(f"scores have shape {s.shape}; expected one axis of numbers from 0, one of them above")
    return float(s.min() / np.sqrt(np.mean(s * s)))


def layer_of_the_lowest(scores: Mapping[str, NDArray[np.float64]]) -> str:
    """Layer that loses a channel, from widths and evenness alone: the largest n / e^2.

    It is the layer of :func:`reproduction.network.pruning.lowest` after
    :func:`reproduction.network.pruning.normalise_layers`. Book: ``prop-layer-normalisation``.

    Examples
    --------
    >>> layer_of_the_lowest({"fine": np.array([1.0, 7.0]), "coarse": np.full(40, 2.0)})
    'fine'
    """
    return min(scores, key=lambda name: evenness(scores[name]) / np.sqrt(len(scores[name])))


def chosen_shares(widths: Sequence[int], kappa: float, normalised: bool = True) -> NDArray[np.float64]:
    r"""Limit of the probabilities with which layers lose the next channel, if all scores are draws of one kind.

    .. math:: \frac{n_\ell^{1 + \kappa/2}}{\sum_k n_k^{1 + \kappa/2}}, \qquad
        \text{and without normalisation } \frac{n_\ell}{\sum_k n_k}

    where :math:`P(S \le x) \sim c\,x^\kappa` for small x. Book: ``prop-chosen-layer``.

    Examples
    --------
    >>> chosen_shares([4, 16], 1).round(3), chosen_shares([4, 16], 1, normalised=False)
    (array([0.111, 0.889]), array([0.2, 0.8]))
    """
    n = np.asarray(widths, dtype=np.float64)
    if n.ndim != 1 or not len(n) or not np.all(n >= 1) or not kappa > 0:
        raise ValueError(f"widths are {list(widths)} and kappa is {kappa}; expected widths from 1 and a kappa above 0")
    weights = n ** (1 + kappa / 2) if normalised else n
    return weights / weights.sum()


def drawn_shares(
    widths: Sequence[int], kappa: float, draws: int, rng: np.random.Generator, normalised: bool = True
) -> NDArray[np.float64]:
    """Share of draws in which each layer has the lowest score; scores are Weibull with exponent ``kappa``.

    Examples
    --------
    >>> float(drawn_shares([1, 1], 1, 1000, np.random.default_rng(0)).sum())
    1.0
    """
    lowest = np.empty((len(widths), draws))
    for row, n in zip(lowest, widths, strict=True):
        scores = rng.weibull(kappa, size=(draws, n))
        row[:] = scores.min(axis=1)
        if normalised:
            row /= np.sqrt((scores * scores).sum(axis=1))
    return np.bincount(lowest.argmin(axis=0), minlength=len(widths)) / draws


def flattened(widths: Sequence[int], removals: int) -> list[int]:
    """Widths after so many removals, each from the widest layer (the first of equals), which keeps one channel.

    It is what normalisation does to layers of equal evenness. Book: ``prop-layer-normalisation``.

    Examples
    --------
    >>> flattened([4, 8, 16], 14)
    [4, 5, 5]
    """
    left = list(widths)
    if not 0 <= removals <= sum(left) - len(left):
        raise ValueError(f"removals is {removals}; expected 0 to {sum(left) - len(left)}: every layer keeps a channel")
    for _ in range(removals):
        left[left.index(max(left))] -= 1
    return left
