"""Expected scores over finitely many labels: their marginal, the mean Dice, and its distance from the marginal's Dice.

Labels L_1, ..., L_R are several delineations of one image or samples of a noise model, with equal weights; s is fixed.
They are an array of shape ``(R, *s.shape)``, or a sequence of R arrays; `axis` and `where` are about s, that is, about
every single label.
Everything is exact for that distribution: for samples, the only error left is that of having sampled.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from noisyseg._core.arrays import (
    Array,
    blocks,
    check_array,
    check_binary,
    check_label,
    check_same,
    check_unit,
    host_view,
    is_tensor,
    like,
)
from noisyseg._core.images import per_image
from noisyseg.metrics import Scores


def marginal(labels: Array) -> Array:
    r"""Compute the marginal of finitely many labels, the part of them that holds each voxel.

    .. math:: m(w) = \frac1R \sum_{k=1}^R L_k(w)

    Float64, of shape ``labels.shape[1:]``; all zero if all labels are empty. Counts are summed label by label: the
    extra memory is that of the result, whatever R is. Where the label is deformed by Gaussian fields the marginal is
    known exactly: `noisyseg.GaussianDeformation.marginal`. Book: ``def-marginal``.

    Examples
    --------
    >>> marginal(np.array([[1, 1, 0, 0], [1, 0, 0, 0]]))
    array([1. , 0.5, 0. , 0. ])
    """
    labels = check_label("labels", _stacked(labels))
    view = host_view(labels)
    if is_tensor(view):
        total = view.new_zeros(tuple(view.shape[1:]), dtype=sys.modules["torch"].float64)
    else:
        total = np.zeros(view.shape[1:])
    for label in view:
        total += label
    total /= len(view)
    return total if is_tensor(total) else like(total, labels)


def expected_dice(s: Array, labels: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute the mean Dice of one segmentation over finitely many labels.

    .. math:: E[D_L(s)] = \frac1R \sum_{k=1}^R D_{L_k}(s),\qquad D_L(s) = \frac{2 \int_\Omega s\,L}{|s|_1 + |L|_1}

    A soft `s` with values in [0, 1] is scored by the same formula, which is one minus its soft-Dice loss. Dice is 1 for
    an empty `s` against an empty label. `noisyseg.dice` of `s` and the `marginal` of the same labels is another number:
    see `dice_covariance`. Book: ``prop-weighted-mean``, ``prop-covariance``, ``prop-overestimate``,
    ``prop-population``, ``prop-fractional-voxel``.

    Examples
    --------
    >>> expected_dice(np.array([1, 1, 0, 0]), np.array([[1, 1, 0, 0], [0, 0, 0, 0]]))
    0.5
    >>> expected_dice(np.array([0, 0, 0, 0]), np.array([[1, 1, 0, 0], [0, 0, 0, 0]]))
    0.5
    """

    def mean(s: Array, *labels: Array) -> float:
        scores, _, _ = _scores(s, labels)
        return math.fsum(scores) / len(scores)

    return per_image(mean, axis, where, **_stack(s, labels))


def dice_covariance(s: Array, labels: Array, *, axis: Any = None, where: Any = None) -> Scores:
    r"""Compute by how much the Dice with the marginal exceeds the mean Dice over finitely many labels.

    .. math:: D_m(s) - E[D_L(s)] = \frac{\mathrm{Cov}(D_L(s), |L|_1)}{|s|_1 + |m|_1}

    with m the marginal of the labels and Cov their population covariance (divided by R); `s` as in `expected_dice`. It
    is in (-1, 5 sqrt(5) - 11], about .180 at most; in absolute value at most the mean of ``abs(|L| - |m|)`` over
    ``2 (|s| + |m|)``; and 0 for a single label, for labels of one volume, and where `s` and all labels are empty.

    It is computed as a covariance, not as a difference of two scores, so that small values keep their digits. Where m
    is known exactly, ``dice(s, m) - dice_covariance(s, samples)`` estimates E[D_L(s)] with a much smaller error than
    the mean over the samples, as long as the volume of the samples varies little. Book: ``prop-covariance``,
    ``prop-slope``, ``prop-overestimate``, ``prop-expected-optimum``, ``prop-population``.

    Examples
    --------
    >>> s, labels = np.array([1, 1, 0, 0]), np.array([[1, 1, 0, 0], [0, 0, 0, 0]])
    >>> dice_covariance(s, labels)  # Dice 2/3 with the marginal, 1/2 on average
    0.16666666666666666
    """

    def covariance(s: Array, *labels: Array) -> float:
        scores, volumes, ones = _scores(s, labels)
        mean = math.fsum(volumes) / len(volumes)
        if ones + mean == 0:
            return 0.0
        parts = [score * (volume - mean) for score, volume in zip(scores, volumes, strict=True)]
        return math.fsum(parts) / len(parts) / (ones + mean)

    return per_image(covariance, axis, where, **_stack(s, labels))


def _stacked(labels: Any, shape: tuple[int, ...] | None = None) -> Array:
    """Give R labels as one array or tensor, those of a sequence stacked; each has `shape`, if that is given."""
    if isinstance(labels, list | tuple) and labels:
        missing = [k for k, label in enumerate(labels) if label is None]
        if missing:
            raise ValueError(f"labels[{missing[0]}]: expected an array, got None; leave out annotators without a label")
        shapes = [tuple(label.shape) if is_tensor(label) else np.shape(label) for label in labels]
        for k, shape in enumerate(shapes):
            if shape != shapes[0]:
                raise ValueError(
                    f"labels: expected one shape, got {shapes[0]} for labels[0] and {shape} for labels[{k}]; bring all "
                    "labels of an image to one grid, and give images of unequal size in separate calls"
                )
        if all(is_tensor(label) for label in labels):
            labels = sys.modules["torch"].stack(list(labels))
    if math.prod(np.shape(labels)[:1]) == 0:
        raise ValueError("labels: expected at least one label, got none")
    labels = check_array("labels", labels)
    if shape is not None and tuple(labels.shape[1:]) != shape:
        expected = ", ".join(map(str, ("R", *shape)))
        raise ValueError(f"labels: expected shape (R, *s.shape), here ({expected}), got {tuple(labels.shape)}")
    if labels.ndim < 2:
        raise ValueError(f"labels: expected shape (R, *shape), R labels of one shape, got {tuple(labels.shape)}")
    return labels


def named_labels(labels: Any) -> dict[str, Array]:
    """Give R labels of one shape, an array or a sequence, by the names under which errors mention them."""
    return {f"labels[{k}]": label for k, label in enumerate(_stacked(labels))}


def _stack(s: Array, labels: Any) -> dict[str, Array]:
    """Give s and every label by name, or raise `ValueError` if they do not fit together."""
    s = check_array("s", s)
    labels = _stacked(labels, tuple(s.shape))
    check_same("s", s, "labels", labels[0])
    return {"s": s, **named_labels(labels)}


def _scores(s: Array, labels: tuple[Array, ...]) -> tuple[list[float], list[float], float]:
    """Give the Dice of s with every label, the volumes of the labels and that of s, in voxels, for one image."""
    check_unit("s", s)
    ones = math.fsum(float(block.sum()) for (block,) in blocks(s))
    scores, volumes = [], []
    for k, label in enumerate(labels):
        check_binary(f"labels[{k}]", label)
        both, volume = [], []
        for s_block, l_block in blocks(s, label):
            both.append(float((s_block * l_block).sum()))
            volume.append(float(l_block.sum()))
        volumes.append(math.fsum(volume))
        scores.append(2 * math.fsum(both) / (ones + volumes[-1]) if ones + volumes[-1] > 0 else 1.0)
    return scores, volumes, ones
