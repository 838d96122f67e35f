"""One walk through a large marginal: its sum, and the sum, the number and the values of the voxels at some level.

Nothing is copied but a block at a time. Sums are exact up to a few roundings of float64, and no bit of a result depends
on the number of threads: `fsum` does not depend on the order of what it sums.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from noisyseg._core.arrays import PATTERNS, check_unit_block
from noisyseg._core.levels import at_least

BLOCK = 1 << 18  # voxels per block: few enough for the caches, many enough to hide the interpreter
CHUNK = 8 * BLOCK  # voxels that one thread sums at a time while others look at blocks
SHARED = 1 << 22  # voxels of an image that is worth more than one thread


def native_blocks(m: np.ndarray) -> Iterator[Any]:
    """Walk through an array of any layout in contiguous one-dimensional blocks of native byte order."""
    native = m.dtype.newbyteorder("=")
    if m.flags.forc and m.dtype == native:
        flat = m.ravel(order="K")
        for start in range(0, flat.size, BLOCK):
            yield flat[start : start + BLOCK]
    else:
        yield from np.nditer(
            m, flags=["external_loop", "buffered"], op_dtypes=[native], casting="equiv", order="K", buffersize=BLOCK
        )


def checked_blocks(m: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Give (values, largest bit pattern) of every block, or raise `ValueError` for a NaN or a value outside [0, 1]."""
    pattern, one = PATTERNS[m.dtype.newbyteorder("=")]
    for values in native_blocks(m):
        top = int(values.view(pattern).max())
        if top > one:
            check_unit_block("m", values, m.shape, m)
            values = abs(values)  # what is left is -0.0
            top = int(values.view(pattern).max())
        yield values, top


def sum_of(values: np.ndarray) -> float:
    """Sum a block in float64; einsum converts float32 faster than `sum` does, and such sums are all but exact."""
    return float(np.add.reduce(values) if values.dtype == np.float64 else np.einsum("i->", values, dtype=np.float64))


def _sums(values: np.ndarray) -> list[float]:
    """Sum every block of a chunk, with the bits of `sum_of`, in one step."""
    head = values.size - values.size % BLOCK
    rows = values[:head].reshape(-1, BLOCK)
    sums = rows.sum(axis=1) if values.dtype == np.float64 else np.einsum("ij->i", rows, dtype=np.float64)
    return sums.tolist() + ([sum_of(values[head:])] if head < values.size else [])


class _Tail:
    """S, C and the window of the blocks that one thread looks at, and the buffers that it needs for that."""

    def __init__(self, m: np.ndarray, low: float, high: float, limit: int) -> None:
        self.low, self.high, self.limit = at_least(low, m.dtype), at_least(high, m.dtype), limit
        self.pattern, _ = PATTERNS[m.dtype.newbyteorder("=")]
        self.size = min(BLOCK, m.size)
        self.above, self.inside = np.empty(self.size, bool), np.empty(self.size, bool)
        self.sums: list[float] = []
        self.window = [np.empty(0, m.dtype.newbyteorder("="))]
        self.count = self.kept = 0
        self.team = [self]  # all who share the room for the window

    @cached_property
    def level(self) -> np.ndarray:
        """`high` in a whole array: numpy's maximum of two arrays is faster than that of an array and a number."""
        return np.full(self.size, self.high.view(self.pattern))

    @cached_property
    def raised(self) -> np.ndarray:
        """Room for the bits of max(m, high)."""
        return np.empty(self.size, self.pattern)

    def add(self, blocks: Iterable[np.ndarray]) -> _Tail:
        """Look at some blocks."""
        for values in blocks:
            self._add(values)
        return self

    def _add(self, values: np.ndarray) -> None:
        n = values.size
        above, inside = self.above[:n], self.inside[:n]
        within = int(np.count_nonzero(np.greater_equal(values, self.low, out=inside)))
        if within == 0:
            return
        found = int(np.count_nonzero(np.greater_equal(values, self.high, out=above)))
        self.count += found
        if found == n:
            self.sums.append(sum_of(values))
        elif found > n // 8:  # S = sum of max(m, high), less `high` for every voxel below: faster than picking them
            raised = np.maximum(values.view(self.pattern), self.level[:n], out=self.raised[:n])
            self.sums.append(sum_of(raised.view(values.dtype)) - float(self.high) * (n - found))
        elif found:
            self.sums.append(sum_of(values[np.flatnonzero(above)]))
        self.kept += within - found
        if within > found and sum(tail.kept for tail in self.team) <= self.limit:
            self.window.append(values[np.flatnonzero(np.greater(inside, above, out=inside))])


def _alone(m: np.ndarray, tail: _Tail, with_total: bool) -> list[float]:
    """Sum the blocks and look at them in turn; give the sums."""
    totals = []
    for values, top in checked_blocks(m):
        if top and with_total:
            totals.append(sum_of(values))
        if top:
            tail.add([values])
    return totals


def _together(flat: np.ndarray, tails: list[_Tail]) -> list[float] | None:
    """Do the same with a thread for every tail; None where a value is not in [0, 1] or is -0.0.

    One thread begins with checks and sums, in long steps during which it leaves the interpreter to the others, who
    begin with the blocks; each goes on with what is left. Threads that all take short steps wait for each other more
    than they gain.
    """
    pattern, one = PATTERNS[flat.dtype]
    # `next` of one iterator: every piece goes to one thread.
    chunks, blocks = iter(range(0, flat.size, CHUNK)), iter(range(0, flat.size, BLOCK))
    totals: list[float] = []
    wrong: list[int] = []

    def check_and_sum() -> None:
        for start in chunks:
            values = flat[start : start + CHUNK]
            if int(values.view(pattern).max()) > one:
                wrong.append(start)
            if wrong:
                return
            totals.extend(_sums(values))

    def work(tail: _Tail, sums_first: bool) -> None:
        if sums_first:
            check_and_sum()
        tail.add(flat[start : start + BLOCK] for start in blocks if not wrong)
        check_and_sum()

    with ThreadPoolExecutor(len(tails) - 1) as pool:
        others = [pool.submit(work, tail, False) for tail in tails[1:]]
        work(tails[0], True)
        for other in others:
            other.result()
    return None if wrong else totals


def walk(
    m: np.ndarray, low: float, high: float, limit: int, total: float | None = None
) -> tuple[float, float, int, np.ndarray | None]:
    """Give V (unless given as `total`), S(high), C(high) and the values in [low, high), None if they are over `limit`.

    The values are sorted, so that nothing depends on who found them. `ValueError` for a NaN or a value outside [0, 1].
    """
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
    native = m.flags.forc and m.dtype == m.dtype.newbyteorder("=")
    tails = [_Tail(m, low, high, limit)]
    totals = None
    if workers > 1 and native and m.size >= SHARED and total is None:
        tails = [_Tail(m, low, high, limit) for _ in range(workers)]
        for tail in tails:
            tail.team = tails
        totals = _together(m.ravel(order="K"), tails)
        if totals is None:
            tails = [_Tail(m, low, high, limit)]
    if totals is None:
        totals = _alone(m, tails[0], total is None)
    few = [part for tail in tails for part in tail.window]
    return (
        math.fsum(totals) if total is None else total,
        math.fsum(s for tail in tails for s in tail.sums),
        sum(tail.count for tail in tails),
        np.sort(np.concatenate(few)) if sum(tail.kept for tail in tails) <= limit else None,
    )
