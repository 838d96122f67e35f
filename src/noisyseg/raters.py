"""R delineations of one image: the mask with the largest mean Dice, and what agreement and independence imply.

`noisyseg.optimal` maximises the Dice of the marginal. Where the volume of the label varies, the mean Dice over the
labels is another objective with another optimum. Its mask need not be a set of the largest marginal.
"""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from typing import Any

import numpy as np

from noisyseg._core.arrays import Array, blocks, check_binary, check_unit, is_tensor
from noisyseg._core.images import Images, per_image
from noisyseg.expected import named_labels
from noisyseg.metrics import Scores

#: A volume is looked at only if it can improve the mean Dice by more than this part.
TOLERANCE = 1e-13
FIRST = 33  # volumes that the search begins with
CODED = 16  # labels whose patterns are counted in a table of 2**R entries
ROWS = 1 << 14  # patterns converted to float64 at a time
EXACT = 20_000  # uncertain voxels up to which independent voxels are treated exactly, in time of their square


def expected_dice_optimum(labels: Array, *, axis: Any = None, where: Any = None) -> Array:
    r"""Compute the mask with the largest mean Dice over finitely many labels, such as those of R annotators.

    .. math:: \max_s \frac1R \sum_{k=1}^R D_{L_k}(s) = \max_x \max_{|s| = x} \int s\,w_x,\qquad
        w_x = \frac1R \sum_{k=1}^R \frac{2 L_k}{x + |L_k|}

    Among masks of x voxels those with the largest :math:`w_x` are best, so only x is searched. Most volumes are ruled
    out by a bound, and the rest are tried; the mean Dice of the result is the largest one up to a relative 1e-13.
    Voxels that all labels hold are in the mask, voxels that none holds are not. Where the marginal is all that is
    known, or all labels have one volume, it is `noisyseg.optimal_dice`. Book: ``thm-expected-dice``,
    ``prop-volume-search``, ``prop-size-disagreement``.

    Parameters
    ----------
    labels : array or tensor of shape (R, *shape), or a sequence of R of them
        Delineations of one image or samples of a noise model, with equal weights; R is at least 1. An empty label is a
        statement too: the empty mask has Dice 1 with it. Leave annotators out who did not look at the image.
    axis, where
        As in every function, about a single label.

    Returns
    -------
    array or tensor of bool, of shape ``labels.shape[1:]``
        Voxels of the same labels are equally good; if not all of them fit, those that come first in C order are taken.
        The empty mask if no other is better, so for empty labels. One label is its own optimum.

    Examples
    --------
    Two of three annotators draw one voxel and the third draws five, which the Dice of the marginal prefers:

    >>> from noisyseg import marginal, optimal_dice
    >>> labels = np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    >>> expected_dice_optimum(labels), optimal_dice(marginal(labels))
    (array([ True, False, False, False, False]), array([ True,  True,  True,  True,  True]))
    """
    return Images(axis, where, named_labels(labels)).masks(_optimum)


def _optimum(*labels: Array) -> Array:
    """Compute the optimal mask of one image."""
    for k, label in enumerate(labels):
        check_binary(f"labels[{k}]", label)
    first = labels[0]
    masks = [np.asarray(label.cpu() if is_tensor(label) else label) != 0 for label in labels]
    patterns, counts, kind = _patterns(masks)
    chosen = np.zeros(len(counts), dtype=np.int64)  # voxels taken of every pattern
    volumes = counts @ patterns
    if volumes.any():
        drawn = volumes > 0
        x, best, order = _search(patterns[:, drawn], counts, volumes[drawn])
        if best > np.count_nonzero(~drawn):
            before = np.cumsum(counts[order]) - counts[order]
            chosen[order] = np.clip(x - before, 0, counts[order])
    mask = (chosen == counts)[kind] & (counts > 0)[kind]
    for part in np.flatnonzero((chosen > 0) & (chosen < counts)):
        mask[np.flatnonzero(kind == part)[: chosen[part]]] = True
    mask = mask.reshape(first.shape)
    return sys.modules["torch"].from_numpy(mask).to(first.device) if is_tensor(first) else mask


def _patterns(masks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group the voxels by the labels that hold them.

    Give patterns (K, R) of 0 and 1, the number of voxels of each, and the pattern of every voxel in C order.
    """
    if len(masks) <= CODED:
        code = np.zeros(masks[0].shape, np.uint8 if len(masks) <= 8 else np.uint16)
        for k, mask in enumerate(masks):
            code |= mask.astype(code.dtype) << code.dtype.type(k)
        kind = code.reshape(-1)
        counts = np.bincount(kind, minlength=1 << len(masks))
        patterns = np.arange(len(counts))[:, None] >> np.arange(len(masks)) & 1
        return patterns.astype(np.uint8), counts, kind
    union = np.logical_or.reduce(masks).reshape(-1)
    packed = np.ascontiguousarray(np.packbits([mask.reshape(-1)[union] for mask in masks], axis=0).T)
    rows = packed.view(f"V{packed.shape[1]}").reshape(-1)
    found, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    bits = found.view(np.uint8).reshape(len(found), packed.shape[1])
    patterns = np.zeros((len(found) + 1, len(masks)), np.uint8)  # the first is that of no label
    patterns[1:] = np.unpackbits(bits, axis=1, count=len(masks))
    kind = np.zeros(union.size, np.int64)
    kind[union] = inverse + 1
    return patterns, np.concatenate([[union.size - len(inverse)], counts]), kind


def _search(patterns: np.ndarray, counts: np.ndarray, volumes: np.ndarray) -> tuple[int, float, np.ndarray]:
    """Give (x, the sum of the Dice scores, the patterns by falling w_x) at the best positive volume x, in voxels."""
    largest = int(volumes.max())

    def ranked(y: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """Give y, the order of w_y, and its sum over the first voxels of that order, times y + the largest volume."""
        factors = 2 * (y + largest) / (y + volumes)
        parts = [patterns[k : k + ROWS].astype(np.float64) @ factors for k in range(0, len(patterns), ROWS)]
        w = np.concatenate(parts)
        order = np.argsort(-w, kind="stable")
        ends, sums = np.cumsum(counts[order]), np.cumsum((counts * w)[order])
        return y, order, np.append(0, ends), np.append(0.0, sums)

    def value(at: tuple[int, np.ndarray, np.ndarray, np.ndarray]) -> float:
        y, _, ends, sums = at
        return float(np.interp(y, ends, sums)) / (y + largest)

    held = patterns.sum(axis=1, dtype=np.int64)
    low, high = max(1, int(counts[held == len(volumes)].sum())), int(counts[held > 0].sum())
    points = [ranked(int(y)) for y in np.unique(np.linspace(low, high, FIRST).astype(np.int64))]
    best = max(points, key=value)
    stack = list(pairwise(points))
    while stack:
        left, right = stack.pop()
        start, end = left[0], right[0]
        x = np.arange(start + 1, end)
        if not x.size:
            continue
        # (x + largest) / (x + V) is convex in x: between two volumes it is at most the chord.
        bound = (end - x) * np.interp(x, *left[2:]) + (x - start) * np.interp(x, *right[2:])
        bound /= (end - start) * (x + largest)
        possible = x[bound > value(best) * (1 + TOLERANCE)]
        if possible.size:
            inner = sorted({int(possible[0]), int(x[np.argmax(bound)]), int(possible[-1])})
            tried = [ranked(y) for y in inner]
            best = max([best, *tried], key=value)
            stack += pairwise(tried)
    return best[0], value(best), best[1]


def rater_agreement(m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the pooled Dice of two independent raters, which bounds the best Dice from both sides.

    .. math:: \kappa = \frac{\int m^2}{\int m} = \frac{E\left[2 \int L L'\right]}{E\left[|L| + |L'|\right]},\qquad
        \kappa \le \sup_s D_m(s) \le \sqrt\kappa

    with L and L' independent labels of marginal `m`. For the `noisyseg.marginal` of R labels the two raters may be the
    same; over pairs of different ones it is ``(R * kappa - 1) / (R - 1)``. 1 for a label and for an all-zero `m`. Book:
    ``prop-rater-agreement``.

    Examples
    --------
    >>> from noisyseg import dice_threshold
    >>> m = np.array([1.0, 0.5, 0.5, 0.0])
    >>> rater_agreement(m), 2 * dice_threshold(m), round(rater_agreement(m) ** 0.5, 4)
    (0.75, 0.8, 0.866)
    """

    def run(m: Array) -> float:
        check_unit("m", m)
        sums = [(float((block * block).sum()), float(block.sum())) for (block,) in blocks(m)]
        squares, total = (math.fsum(part) for part in zip(*sums, strict=True))
        return squares / total if total > 0 else 1.0

    return per_image(run, axis, where, m=m)


def independent_dice(s: Array, m: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the expected Dice of a mask if the voxels of the label are independent, exactly.

    .. math:: E[D_L(s)] = \sum_{a, b} P(A = a)\,P(B = b)\,\frac{2 a}{|s| + a + b}

    with A and B the numbers of labelled voxels inside and outside `s`, which are Poisson binomial. Among masks of one
    volume those with the largest marginal are best, so an optimum is ``m >= u`` up to ties; u is close to
    `noisyseg.dice_threshold`, since :math:`|E[D_L(s)] - D_m(s)| \le \sqrt{\sum_i m_i (1 - m_i)} / (2 (|s| + |m|))` with
    volumes in voxels. At most 20,000 voxels may be uncertain, 0 < m < 1; the time grows with their square. Book:
    ``prop-independent``.

    Examples
    --------
    >>> s, m = np.array([1, 0]), np.array([0.5, 0.5])
    >>> round(independent_dice(s, m), 4)  # labels {1}, {1, 2}, and two with Dice 0: (1 + 2/3) / 4
    0.4167
    """

    def run(s: Array, m: Array) -> float:
        check_binary("s", s)
        check_unit("m", m)
        pairs = [(np.asarray(x.cpu() if is_tensor(x) else x) for x in pair) for pair in blocks(s, m)]
        mask, p = (np.concatenate(part) for part in zip(*pairs, strict=True))
        uncertain = (p > 0) & (p < 1)
        if (many := np.count_nonzero(uncertain)) > EXACT:
            raise ValueError(
                f"m: expected at most {EXACT:,} voxels with 0 < m < 1, got {many:,}; use dice(s, m), which is within "
                "sqrt(sum(m * (1 - m))) / (2 * (s.sum() + m.sum())) of the exact value"
            )
        x = np.count_nonzero(mask)
        inside, outside = (_poisson_binomial(p[uncertain & (mask == side)]) for side in (1, 0))
        if x == 0:
            return float(outside[0]) if not (p == 1).any() else 0.0
        a = np.arange(len(inside)) + np.count_nonzero((p == 1) & (mask == 1))
        b = np.arange(len(outside)) + np.count_nonzero((p == 1) & (mask == 0))
        return math.fsum(float(q) * 2 * k * float(outside @ (1 / (x + k + b))) for k, q in zip(a, inside, strict=True))

    return per_image(run, axis, where, s=s, m=m)


def _poisson_binomial(p: np.ndarray) -> np.ndarray:
    """Give the distribution of the number of successes in independent trials; all terms are positive."""
    mass = np.ones(1)
    for q in p:
        mass = np.append(mass, 0.0) * (1 - q) + np.append(0.0, mass) * q
    return mass
