r"""What soft-Dice does to a soft segmentation: its masks at all thresholds, and descent of the logits.

An image is given by the value of m at each voxel or, since nothing here depends on where a voxel lies, by the values
that occur and how many voxels (``counts``) have each. Derivations are in the chapter "Soft-Dice".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisyseg import dice
from noisyseg.optimal import regret
from reproduction.chapters.random_marginals import every_mask

Floats = NDArray[np.float64]


def layers(c: NDArray, m: NDArray) -> tuple[Floats, Floats, Floats]:
    r"""Take a soft segmentation apart into the masks {c >= u}: (thresholds, weights, scores).

    .. math:: 1 - \mathrm{SD}_m(c) = \int_0^1 W_u\, D_m(\mathbf{1}_{c \ge u})\, du, \qquad
        W_u = \frac{|\{c \ge u\}| + v}{|c|_1 + v}

    A threshold is a value of c, from the largest down; its weight is the integral of W over the thresholds of the same
    mask. The empty mask, of the thresholds above the largest value, has score 0. Weights sum to 1. Book:
    ``prop-layers``.

    Examples
    --------
    >>> u, weights, scores = layers(np.array([1.0, 0.5, 0.0]), np.array([1.0, 0.5, 0.5]))
    >>> u.tolist(), weights.round(4).tolist(), scores.round(4).tolist()
    ([1.0, 0.5], [0.4286, 0.5714], [0.6667, 0.75])
    """
    c, m = np.ravel(c).astype(np.float64), np.ravel(m).astype(np.float64)
    if c.shape != m.shape or not len(c):
        raise ValueError(f"c and m: expected as many voxels, at least one, got {c.size} and {m.size}")
    u = np.unique(c[c > 0])[::-1]
    if not len(u) or u[0] < 1:
        u = np.concatenate([[1.0], u])  # its mask is empty
    v = m.sum()
    if v == 0:
        raise ValueError("m is 0 everywhere; expected something to segment")
    masks = c >= u[:, None]
    size = masks.sum(axis=1)
    return u, -np.diff(u, append=0) * (size + v) / (c.sum() + v), 2 * (masks @ m) / (size + v)


def descend(
    m: NDArray, logits: NDArray, times: Sequence[float], counts: NDArray | None = None, step: float = 0.1
) -> tuple[pd.DataFrame, Floats]:
    r"""Descend soft-Dice in the logits of every voxel, from given logits, and say at given times how far it has come.

    .. math:: \frac{d f}{d T} = \frac{2}{|c|_1 + v} \left(m - \tau\right) c\,(1-c), \qquad c = \sigma(f),
        \quad \tau = \tfrac12 (1 - \mathrm{SD}_m(c))

    the gradient per unit of volume, by the midpoint rule. Steps are such that no logit moves by more than about `step`;
    as the gradient shrinks like 1/T, they grow like T. Book: ``prop-flow``.

    Parameters
    ----------
    m, logits : arrays (n,)
        Marginal and where to start, finite. Equal voxels that start alike may be given once.
    times
        Increasing times, from 0 on, at which the state is recorded.
    counts : array (n,), optional
        How many voxels each entry stands for; one without it.

    Returns
    -------
    table : DataFrame
        ``time``; ``loss``, SD of c; ``volume`` of c and ``mask_volume`` of {c >= 1/2}, as shares of the image;
        ``mask_dice``, D_m of that mask.
    c : array (n,)
        At the last time.

    Examples
    --------
    >>> table, c = descend(np.array([1.0, 0.6, 0.1]), np.zeros(3), [0, 1000])
    >>> table.round(3).to_numpy().tolist()
    [[0.0, 0.469, 0.5, 1.0, 0.723], [1000.0, 0.136, 0.666, 0.667, 0.865]]
    """
    m, f = np.asarray(m, dtype=np.float64), np.array(logits, dtype=np.float64)
    counts = np.ones(m.shape) if counts is None else np.asarray(counts, dtype=np.float64)
    if not m.shape == f.shape == counts.shape or not np.isfinite(f).all() or (counts < 0).any():
        raise ValueError(
            f"m, logits and counts: expected one shape, finite logits and no negative count, got {m.shape}, {f.shape} "
            f"and {counts.shape}"
        )
    share = counts / counts.sum()
    v = float(share @ m)
    if v <= 0:
        raise ValueError("m is 0 everywhere; expected something to segment")
    if np.diff(times, prepend=0).min() < 0:
        raise ValueError(f"times: expected them to increase from 0 on, got {list(times)}")

    def speed(f: Floats) -> Floats:
        c = 1 / (1 + np.exp(-f))
        total = float(share @ c) + v
        return 2 / total * (m - float(share @ (c * m)) / total) * c * (1 - c)

    rows, s = [], 0.0
    for time in times:
        while s < time:
            slope = speed(f)
            h = min(step / float(abs(slope).max()), time - s)
            f = f + h * speed(f + h / 2 * slope)
            s = time if h == time - s else s + h
        c = 1 / (1 + np.exp(-f))
        mask = c >= 0.5
        ones, soft = float(share @ mask), float(share @ c)
        loss, dice = 1 - 2 * float(share @ (c * m)) / (soft + v), 2 * float(share @ (mask * m)) / (ones + v)
        rows.append({"time": time, "loss": loss, "volume": soft, "mask_volume": ones, "mask_dice": dice})
    return pd.DataFrame(rows), 1 / (1 + np.exp(-f))


def regret_against_labels(labels: NDArray) -> tuple[float, float]:
    """Compute what a mask that is best for single labels loses for their marginal, and the bound sd / v on it.

    Of all masks, the one with the largest mean Dice over the labels is taken; the empty mask and an empty label have
    Dice 1. Book: ``prop-population``, item 3.

    Parameters
    ----------
    labels : array (R, n) of 0 and 1
        Equally probable labels of one image, not all empty; the 2^n masks are tried one by one.

    Returns
    -------
    lost, bound
        Dice of the marginal, and standard deviation of the labels' volumes over their mean.

    Examples
    --------
    >>> tuple(round(x, 3) for x in regret_against_labels(np.array([[1, 0, 0], [1, 1, 1], [1, 1, 0]])))
    (0.0, 0.408)
    """
    masks = every_mask(labels.shape[1])
    scores = dice(*np.broadcast_arrays(masks[:, None], labels.astype(bool)), axis=-1)
    best = masks[scores.mean(axis=1).argmax()]
    volumes = labels.mean(axis=1)
    return float(regret(best, labels.mean(axis=0))), float(volumes.std() / volumes.mean())
