r"""The search behind `noisyseg.dice_threshold`: sup_s int(s m) / (|s| + w |m|) without sorting, copy and rounding.

Write S(t) and C(t) for the sum and the number of the voxels with m >= t, V for w times the sum of m (w = 1 for Dice,
beta^2 for F_beta), and f(t) = S / (C + V), half the Dice of the mask m >= t. The function phi(t) = S(t) - t (C(t) + V)
is convex and decreasing, and its root is the wanted t*. f(t) is Newton's step: it never passes t*, and it is t* once it
no longer rises. No harm in rounding: as phi(t) >= (t* - t) V, a t with f(t) = (1 + e) t has
t* - t <= e t (C(t) + V) / V <= e / w, because t (C(t) + V) <= S <= V / w. The supremum is the same over soft s, so that
s = m gives a level to begin with, int m^2 / (int m + V), which is closer to t* than f(0) where m is sparse.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from noisyseg._core.arrays import BLOCK, DEVICE_BLOCK, PATTERNS, Array, check_unit, check_unit_block, is_tensor
from noisyseg._core.levels import at_least
from noisyseg._core.walk import SHARED, checked_blocks, sum_of, walk

SMALL = 1 << 19  # voxels of an image that is searched as a whole: up to 80^3
TINY = 1 << 10  # voxels of one for which a second sum costs more than a step
FEW = 1 << 12  # values that are converted to float64, and picked however many of them are wanted
SAMPLE = 1 << 12  # voxels of a larger one that are looked at to guess t*; four times as many where they cost little


def supremum(view: Array, weight: float = 1.0) -> float:
    """Compute sup_s int(s m) / (|s| + weight |m|) for an array or a device tensor, refusing values outside [0, 1].

    1 / (1 + weight) for an all-zero array: the empty mask is then perfect. `weight` is positive.
    """
    if is_tensor(view):
        return _on_device(view, weight)
    if view.dtype.kind != "f":  # a label: its own mask is perfect, also when it is empty
        check_unit("m", view)
        return 1 / (1 + weight)
    if view.dtype.itemsize > 8:
        view = view.astype(np.float64)
    if view.size <= SMALL >> 2 * (view.dtype.itemsize == 2):
        return _shrinking(view, weight)
    if view.dtype.itemsize == 2:
        return _by_histogram(view, weight)
    return _by_window(view, weight)


def _shrinking(m: np.ndarray, weight: float) -> float:
    """Search a small image by Newton's steps from below, each among the voxels that the last one left."""
    x = m.ravel(order="K")
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    pattern, one = PATTERNS[x.dtype]
    if np.maximum.reduce(x.view(pattern)) > one:
        check_unit_block("m", m, m.shape)
        x = abs(x)  # what is left is -0.0
    if x.size <= FEW or x.dtype == np.float16:  # else float32 is converted while it is added up
        x = x.astype(np.float64, copy=False)
    count = x.size
    total = _sum(x) if count > 2 * BLOCK else float(np.add.reduce(x, dtype=np.float64))
    top = 1 / (1 + weight)
    if total == 0.0:
        return top
    soft = weight * total
    t = total / (count + soft)
    if count > TINY:
        t = max(t, 0.99 * _squares(x) / (total + soft))
        if 8 * total <= t * count:  # an eighth of the voxels at most are above t
            x = x[x >= t].astype(np.float64, copy=False)
            count = x.size
            t = max(t, sum_of(x) / (count + soft))
    while x.size > FEW:
        chosen = x >= (t if x.dtype == np.float64 else at_least(t, x.dtype))
        left = int(np.count_nonzero(chosen))
        if left == count:  # no voxel is lost any more
            return _settled(t, m, top)
        count = left
        if 4 * count <= x.size:
            x = x.compress(chosen).astype(np.float64, copy=False)
            added = sum_of(x)
        else:  # many are left: adding 0 for the others costs less than picking these; a block needs no new memory
            parts = (slice(k, k + BLOCK) for k in range(0, x.size, BLOCK))
            added = sum(sum_of(np.multiply(chosen[part], x[part])) for part in parts)
        step = added / (count + soft)
        if step <= t:
            return _settled(t, m, top)
        t = step
    while (x := x.compress(x >= t)).size < count:
        count = x.size
        step = float(np.add.reduce(x)) / (count + soft)
        if step <= t:
            break
        t = step
    return _settled(t, m, top)


def _sum(x: np.ndarray) -> float:
    """Give int m of many voxels; of float64, sums of short rows are as exact as `sum_of` and found faster."""
    if x.dtype != np.float64:
        return sum_of(x)
    rows = x[: x.size // TINY * TINY].reshape(-1, TINY)
    return float(np.einsum("ij->i", rows).sum()) + sum_of(x[rows.size :])


def _squares(x: np.ndarray) -> float:
    """Give int m^2 or less, up to 1 %, by products so short that BLAS needs neither a thread nor many digits."""
    if x.size <= FEW:
        return float(np.vdot(x, x))
    rows = x[: x.size // FEW * FEW].reshape(-1, FEW)
    return sum(np.vecdot(rows, rows).tolist())


def _by_histogram(m: np.ndarray, weight: float) -> float:
    """Search float16 by counting its 15,361 values in [0, 1]; every sum is exact in float64."""
    levels = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float64)
    counts = np.zeros(levels.size, dtype=np.int64)
    for values, top in checked_blocks(m):
        counts[: top + 1] += np.bincount(values.view(np.uint16), minlength=top + 1)
    below = np.cumsum(counts[::-1])
    sums = np.cumsum((counts * levels)[::-1])
    top = 1 / (1 + weight)
    return min(top, float((sums / (below + weight * sums[-1])).max())) if sums[-1] > 0 else top


@lru_cache(maxsize=2)
def _places(count: int) -> np.ndarray:
    """Give the places of a sample, one at random in each of `count` equal parts: even, and in step with no axis."""
    return (np.arange(count) + np.random.default_rng(0).random(count)) / count


def _guess(m: np.ndarray, weight: float) -> tuple[float, float]:
    """Guess a window that holds t*, from a sample of the voxels: its own threshold and four standard errors."""
    limit = _short(1.5 / (1 + weight))  # t* is below it
    index = (_places(SAMPLE if m.size < SHARED else 4 * SAMPLE) * m.size).astype(np.int64)
    x = m.ravel(order="K").take(index) if m.flags.forc else m.flat[index]
    x = np.sort(x[(x >= 0) & (x <= 1)])[::-1].astype(np.float64)  # wrong values are reported by the walk
    total = weight * x.sum()
    if not total > 0:
        return 0.25, 0.25
    k = np.arange(1, x.size + 1)
    t = float((np.cumsum(x) / (k + total)).max())
    chosen = x >= t
    error = (x * chosen - t * (chosen + weight * x)).std() * math.sqrt(x.size) / (chosen.sum() + total)
    return max(t - 4 * error, t / 2), min(_short(t + 4 * error), limit)


def _short(x: float) -> float:
    """Round up to 12 significant bits: multiples of such a number are exact, and with them sums of raised values."""
    mantissa, exponent = math.frexp(x)
    return math.ldexp(math.ceil(mantissa * 4096) / 4096, exponent)


def _by_window(m: np.ndarray, weight: float) -> float:
    """Search float32 and float64: one walk with a guessed window, then Newton's steps within it."""
    low, high = _guess(m, weight)
    total, above, count, window = walk(m, low, high, max(m.size // 4, 4 * SAMPLE))
    top = 1 / (1 + weight)
    if total == 0.0:
        return top
    soft = weight * total
    t = above / (count + soft)
    if window is not None:
        best, t, attained = t, low, False
        while low <= t <= high:
            window = window[window.searchsorted(at_least(t, window.dtype)) :]  # t only rises
            step = (above + float(window.sum(dtype=np.float64))) / (count + window.size + soft)
            if step == t or (step < t and attained):
                return _settled(t, m, top)
            t, attained = step, True
        t = max(t, best)
    while True:  # the guess was wrong: go on from the best value found, a walk for every step
        _, above, count, _ = walk(m, t, t, 0, total)
        step = above / (count + soft)
        if step <= t:
            return _settled(t, m, top)
        t = step


def _settled(t: float, m: Array, top: float) -> float:
    """Keep the rounding of t from passing what t* cannot pass: 1/(1+w), the largest value where it is tiny, and 0."""
    return max(min(t, top, float(m.max()) if t < 1e-12 else top), 5e-324)


def _on_device(m: Array, weight: float) -> float:
    """Search a tensor on an accelerator: Newton's steps from the lower end of the window, in blocks."""
    flat = m.reshape(-1)
    blocks = [flat[start : start + DEVICE_BLOCK] for start in range(0, flat.numel(), DEVICE_BLOCK)]
    for block in blocks:
        check_unit_block("m", block, m.shape)
    total = math.fsum(float(block.double().sum()) for block in blocks)
    top = 1 / (1 + weight)
    if total == 0.0:
        return top
    soft = weight * total
    t = total / (flat.numel() + soft)
    level = top
    while True:
        sums, count = [], 0
        for block in blocks:
            x = block.double()
            chosen = x >= level
            count += int(chosen.sum())
            sums.append(float((x * chosen).sum()))
        step = math.fsum(sums) / (count + soft)
        if step <= t and level == t:
            return _settled(t, flat, top)
        level = t = max(t, step)
