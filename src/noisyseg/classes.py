r"""One label map from the maps of several classes: exclusive ones, such as those of a softmax, or nested regions.

Every class has a Dice of its own, and what is maximised is their weighted mean. Where masks may not overlap as they
like, the classes compete: a voxel is worth ``w_k (m_k - t_k) / (|s_k| + |m_k|)`` to class k, with t_k half of the Dice
of its mask, and it gets the label that is worth most. Book: ``thm-labels``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from noisyseg._core.arrays import DEVICE_BLOCK, Array, blocks, check_array, check_unit, is_tensor, like
from noisyseg._core.images import Images, image_axes
from noisyseg._core.levels import mask_at_least
from noisyseg._core.search import supremum
from noisyseg.metrics import Scores

TOLERANCE = 0.01  # of a sum over the classes: bfloat16 and 8 bits round by as much
BLOCK = 1 << 14  # voxels whose classes are compared at a time: few enough for the caches
STEPS = 60  # label maps that are tried at most
GAIN = 1e-9  # of the mean Dice: the last step is the first that brings less
SHARES = np.concatenate([2.0 ** -np.arange(40, 6, -1), np.arange(1, 65) / 64])  # of the way to the next label map
LEAST = -1e-300  # what a voxel in no class is worth: a class to which it is worth 0 is preferred


def optimal_labels(
    m: Array,
    *,
    background: int | None = 0,
    weights: Sequence[float] | None = None,
    pooled: bool = False,
    class_axis: int = 0,
    axis: Any = None,
    where: Any = None,
) -> tuple[Array, Scores]:
    r"""Compute (labels, gap): a label map of exclusive classes with the largest mean Dice, and what it lacks at most.

    .. math:: \mathrm{label} = \arg\max_k \frac{w_k\,(m_k - t_k)}{|s_k|_1 + |m_k|_1},\qquad t_k = \tfrac12 D_{m_k}(s_k)

    and the background where all of these are negative. Every optimum has this form. It depends on its own masks s_k, so
    it is found in steps, none of which lowers the mean Dice; they may end in a local optimum. `gap` is the mean of the
    best Dice that every class has alone, minus the mean Dice of the labels: no label map is better by more than that.
    Book: ``def-label-map``, ``thm-labels``, ``cor-exclusive``, ``prop-labels-grid``, ``prop-labels-ascent``,
    ``prop-pooled-labels``.

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor of shape (K, *shape)
        Probabilities of classes of which every voxel has exactly one, as from a softmax. Their sum is 1, up to 0.01.
    background : int or None
        The class that is not scored; it is the label of the voxels in no other class. None where `m` has no such map:
        sums below 1 are then allowed, label 0 is no class, and label k + 1 is class k.
    weights : sequence of floats, optional
        Of the Dice of the classes, without the background; equal by default. A class of weight 0 gets no voxel. Give
        it to structures that are known to be absent: only an all-zero map has the empty mask for its optimum, with
        Dice 1.
    pooled : bool
        Maximise the generalised Dice, one quotient of weighted sums over the classes. It has an exact solution.
    class_axis : int
        The axis of `m` that holds the classes.
    axis : int or tuple of ints, optional
        The axes of `m` that are those of one image. By default all but that of the classes.
    where
        Booleans that broadcast against the labels. Outside, the label is the background's.

    Returns
    -------
    labels : numpy.ndarray or torch.Tensor, uint8 (int32 where a label is above 255)
        Of the shape of `m` without the axis of the classes.
    gap : float, or float64 array over the images
        In [0, 1].

    Examples
    --------
    >>> m = np.array([[0.1, 0.5, 0.0, 0.8, 0.6], [0.9, 0.4, 0.4, 0.2, 0.0], [0.0, 0.1, 0.6, 0.0, 0.4]])
    >>> m.argmax(axis=0)
    array([1, 0, 2, 0, 0])
    >>> labels, gap = optimal_labels(m)
    >>> labels
    array([1, 1, 2, 0, 2], dtype=uint8)
    """
    maps = _maps(m, class_axis)
    scored = _scored(background, len(maps))
    weight = _weights(weights, len(scored))
    codes = [0, *(k + 1 for k in scored)] if background is None else [background % len(maps), *scored]

    def run(values: Sequence[Array], codes: Array) -> tuple[Array, float]:
        _check_sum(values, background)
        return _ascend([values[k] for k in scored], weight, codes, False, pooled)

    return _each_image(run, maps, codes, class_axis, axis, where)


def nested_labels(
    m: Array, *, weights: Sequence[float] | None = None, class_axis: int = 0, axis: Any = None, where: Any = None
) -> tuple[Array, Scores]:
    r"""Compute (labels, gap) for nested regions, the largest first: whole tumour, its core, the enhancing part.

    .. math:: \mathrm{label} = \arg\max_d \sum_{k \le d} \frac{w_k\,(m_k - t_k)}{|s_k|_1 + |m_k|_1},
        \qquad t_k = \tfrac12 D_{m_k}(s_k)

    The label is the number of regions that the voxel is in: the mask of region k, counted from 0, is ``labels > k``,
    and lies in that of the region before. `m` has a map of every region, as from sigmoids, not of what lies between
    two regions; the maps need not be nested themselves. All else is as in `optimal_labels`. Book:
    ``def-label-map``, ``thm-labels``, ``cor-nested``, ``prop-labels-ascent``.

    Examples
    --------
    >>> m = np.array([[1.0, 0.9, 0.4, 0.1], [0.1, 0.3, 0.35, 0.0]])
    >>> labels, gap = nested_labels(m)
    >>> labels
    array([1, 2, 2, 0], dtype=uint8)
    """
    maps = _maps(m, class_axis)
    weight = _weights(weights, len(maps))
    codes = list(range(len(maps) + 1))
    return _each_image(lambda x, codes: _ascend(x, weight, codes, True, False), maps, codes, class_axis, axis, where)


def _maps(m: Array, class_axis: int) -> Array:
    """Give `m` with the classes first."""
    m = check_array("m", m)
    if m.ndim < 2:
        raise ValueError(f"m: expected maps of K classes, shape (K, *shape), got shape {tuple(m.shape)}")
    if type(class_axis) is not int or not -m.ndim <= class_axis < m.ndim:
        wanted = f"an int from {-m.ndim} to {m.ndim - 1} for m of shape {tuple(m.shape)}"
        raise ValueError(f"class_axis: expected {wanted}, got {class_axis!r}")
    return m.detach().movedim(class_axis, 0) if is_tensor(m) else np.moveaxis(m, class_axis, 0)


def _scored(background: int | None, count: int) -> list[int]:
    """Give the classes that have a Dice."""
    if background is None:
        return list(range(count))
    if type(background) is not int or not -count <= background < count:
        raise ValueError(f"background: expected None or an int from {-count} to {count - 1}, got {background!r}")
    if count == 1:
        raise ValueError("m: expected the background and at least one class, got one map; use background=None")
    return [k for k in range(count) if k != background % count]


def _weights(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """Give weights that sum to 1."""
    try:
        w = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        w = np.empty(0)
    if w.shape != (count,) or not np.isfinite(w).all() or w.min() < 0 or w.max() == 0:
        wanted = f"{count} finite numbers of at least 0, not all 0, one for every class but the background"
        raise ValueError(f"weights: expected {wanted}, got {weights!r}")
    w = w / w.max()
    return w / w.sum()


def _check_sum(maps: Sequence[Array], background: int | None) -> None:
    """Raise `ValueError` unless the classes are exclusive."""
    total = maps[0].float().clone() if is_tensor(maps[0]) else maps[0].astype(np.float32)
    for x in maps[1:]:
        total += x
    low, high = float(total.min()), float(total.max())
    if high > 1 + TOLERANCE or (background is not None and low < 1 - TOLERANCE):
        wanted = "at most 1" if background is None else "1"
        more = "" if background is None else "; for maps without one of the background, use background=None"
        raise ValueError(
            f"m: expected exclusive classes, whose probabilities sum to {wanted} in every voxel, found sums from "
            f"{low:.4g} to {high:.4g}. For logits, apply a softmax over the classes; for sigmoids of structures that "
            f"may overlap, use optimal_dice or nested_labels{more}"
        )


def _each_image(
    run: Callable[..., tuple[Array, float]], maps: Array, codes: Sequence[int], class_axis: int, axis: Any, where: Any
) -> tuple[Array, Scores]:
    """Apply a function of the maps of one image and an array of the labels to every image."""
    if axis is not None:
        place, axes = class_axis % maps.ndim, image_axes(axis, maps.ndim)
        if place in axes:
            raise ValueError(f"axis: expected the axes of one image without class_axis, {place}, got {axis!r}")
        axis = tuple(k - (k > place) for k in axes)
    images = Images(axis, where, {f"m[{k}]": x for k, x in enumerate(maps)})
    view, small = images.views[0], max(codes) < 256
    if is_tensor(view):
        torch = sys.modules["torch"]
        table = torch.tensor(codes, dtype=torch.uint8 if small else torch.int32, device=view.device)
    else:
        table = np.array(codes, dtype=np.uint8 if small else np.int32)
    labels = table[:1].repeat(math.prod(images.shape)).reshape(images.shape)

    def one(*values: Array) -> tuple[Array, float]:
        for k, x in enumerate(values):
            check_unit(f"m[{k}]", x)
        return run([x.reshape(-1) for x in values], table)

    gap = images.fill(labels, one)
    return (labels if is_tensor(view) else like(labels, images.like)), gap


def _ascend(
    maps: Sequence[Array], weights: np.ndarray, codes: Array, nested: bool, pooled: bool
) -> tuple[Array, float]:
    """Find the labels of one image, and the gap.

    What is kept of a label map, or of a mixture of several, is the volume of every class and the sum of its map there,
    in voxels. A step goes towards the label map that gains most to first order, as far as is best (Frank and Wolfe).
    """
    soft = np.array([sum(float(block.sum()) for (block,) in blocks(x)) for x in maps])
    half = np.array([supremum(x) for x in maps])
    labels = codes[:1].repeat(len(maps[0]))
    live = [k for k, both in enumerate(zip(soft, weights, strict=True)) if min(both) > 0]
    if not live:
        return labels, 0.0
    bound = 2 * float(weights @ half) - float(weights @ (soft == 0))  # an absent class has Dice 1 without a voxel
    maps, soft, half, w = [maps[k] for k in live], soft[live], half[live], weights[live]
    size = np.array([float(mask_at_least(x, t).sum()) for x, t in zip(maps, half.tolist(), strict=True)])
    inside, floor, best, best_labels = half * (size + soft), np.full(len(live), np.inf), -1.0, (slice(0), labels[:0])
    places: Any = slice(0)
    rows: Sequence[Array] = maps

    def score(inside: np.ndarray, size: np.ndarray) -> Any:
        return 2 * (inside @ w) / ((size + soft) @ w) if pooled else 2 * (inside / (size + soft)) @ w

    for step in range(STEPS):
        half = np.full(len(live), score(inside, size) / 2) if pooled else inside / (size + soft)
        if (half < floor).any():
            floor = half / 2
            places, rows = _candidates(maps, floor)
        label, new_inside, new_size = _most_worth(rows, half, w if pooled else w / (size + soft), nested)
        if score(new_inside, new_size) > best:
            best, best_labels = score(new_inside, new_size), (places, label)
        if step == 0:  # the masks of the separate optima, which may overlap, are left here
            inside, size = new_inside, new_size
            continue
        all_inside = inside + np.outer(SHARES, new_inside - inside)
        all_size = size + np.outer(SHARES, new_size - size)
        scores = score(all_inside, all_size)
        k = int(scores.argmax())
        if scores[k] < score(inside, size) + GAIN:
            break
        inside, size = all_inside[k], all_size[k]
    places, label = best_labels
    labels[places] = codes[[0, *(k + 1 for k in live)]][label if not is_tensor(label) else label.long()]
    return labels, 0.0 if pooled else max(0.0, bound - float(best))


def _candidates(maps: Sequence[Array], floor: np.ndarray) -> tuple[Any, Sequence[Array]]:
    """Give the voxels where a map reaches its floor, and the values of every map there.

    The floors are halves of the thresholds: a voxel that is below all thresholds is in no class.
    """
    chosen = maps[0] >= float(floor[0])
    for x, u in zip(maps[1:], floor[1:].tolist(), strict=True):
        chosen |= x >= u
    if 2 * int(chosen.sum()) > len(chosen):  # not worth a copy
        return slice(None), maps
    places = chosen.nonzero()[:, 0] if is_tensor(chosen) else np.flatnonzero(chosen)
    return places, [x[places] for x in maps]


def _most_worth(
    rows: Sequence[Array], half: np.ndarray, factor: np.ndarray, nested: bool
) -> tuple[Array, np.ndarray, np.ndarray]:
    """Give the label of every voxel that is worth most, 0 for none, and of every class the sum of its map and its size.

    A voxel is worth ``factor[k] * (rows[k] - half[k])`` to class k; in nested regions, it is that of all up to k.
    """
    tensor, count = is_tensor(rows[0]), len(rows)
    xp: Any = sys.modules["torch"] if tensor else np
    labels, inside, size = [], np.zeros(count), np.zeros(count)
    width = max(1, DEVICE_BLOCK // count) if tensor else BLOCK
    kind, device = xp.uint8 if count < 256 else xp.int32, rows[0].device
    numbers = xp.arange(1, count + 1, dtype=kind, device=device)
    for start in range(0, len(rows[0]), width):
        part = xp.stack([x[start : start + width] for x in rows])
        part = part.double() if tensor else part.astype(np.float64)
        label = xp.zeros_like(part[0], dtype=kind)
        best, worth = xp.full_like(part[0], LEAST), xp.zeros_like(part[0])
        for k, (x, t, f) in enumerate(zip(part, half.tolist(), factor.tolist(), strict=True)):
            worth = (x - t) * f + (worth if nested else 0.0)
            label = xp.maximum(label, (worth >= best if nested else worth > best) * numbers[k])  # k only rises
            xp.maximum(best, worth, out=best)
        labels.append(label)
        if tensor or nested:
            for k, x in enumerate(part):
                member = label > k if nested else label == k + 1
                inside[k] += float((x * member).sum())
                size[k] += float(member.sum())
        else:
            chosen = part[label.astype(np.intp) - 1, np.arange(len(label))]
            inside += np.bincount(label, chosen, count + 1)[1:]
            size += np.bincount(label, minlength=count + 1)[1:]
    return xp.concatenate(labels), inside, size
