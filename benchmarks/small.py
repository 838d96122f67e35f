"""Small images and many of them: thresholds from 8^3 to 64^3 in three precisions, and of every image of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import peers
from harness import Bar, Call, Pair, Task
from noisyseg import dice, dice_threshold, optimal_dice
from works import make_map, peer

SIDES = (8, 16, 32, 64)
MAPS = ("ball", "noisy", "uniform")
DTYPES = ("float16", "float32", "float64")
SCREENED = "rankseg RMA, screened"
PEERS: dict[str, Callable[[NDArray], float]] = {
    "plain Newton": peers.plain_newton,
    "sorting": peers.by_sorting,
}


def thresholds(side: int, dtype: str) -> Task:
    """T of one small map, against a dozen lines of NumPy, sorting and rankseg; its mask and the score of that."""
    calls: dict[str, Call] = {}
    pairs = []
    for name in MAPS:
        m = make_map(side, name).astype(dtype)
        s, case = optimal_dice(m), f"{name}, {dtype}"
        calls[f"t, {case}"] = Call(lambda m=m: dice_threshold(m))
        calls[f"mask, {case}"] = Call(lambda m=m: optimal_dice(m))
        calls[f"dice, {case}"] = Call(lambda m=m, s=s: dice(s, m))
        for who, run in PEERS.items():
            calls[f"{who}, {case}"] = Call(lambda m=m, run=run: run(m))
            bar = Bar(">=", 1) if side >= 32 else None  # below, the interpreter's overhead decides
            pairs.append(Pair(case, f"t, {case}", f"{who}, {case}", bar, who))
        pairs.append(Pair(case, f"dice, {case}", f"plain Newton, {case}", None, "plain Newton", "small dice"))
        if dtype != "float16":
            calls[f"rankseg, {case}"] = peer("rankseg", lambda m=m: peers.rankseg(m, SCREENED))
            pairs.append(Pair(case, f"mask, {case}", f"rankseg, {case}", Bar(">=", 1), SCREENED, "small mask"))
    return Task("small threshold", side, calls, pairs)


def batch(side: int, count: int, layout: str, dtype: str) -> Task:
    """T of every image of an array, against a loop over the images with ours and with the peers."""
    m = make_map(side, "noisy").astype(dtype)
    images = np.stack([np.roll(m, k, axis=0) for k in range(count)], axis=-1 if layout == "last" else 0)
    axis = (0, 1, 2) if layout == "last" else (1, 2, 3)
    each = list(np.moveaxis(images, -1, 0) if layout == "last" else images)
    calls = {
        "axis": Call(lambda: dice_threshold(images, axis=axis)),
        "masks": Call(lambda: optimal_dice(images, axis=axis)),
        "a loop": Call(lambda: [dice_threshold(x) for x in each]),
    }
    pairs = [Pair(f"{layout}, {dtype}", "axis", "a loop", Bar(">=", 0.9))]  # as fast, up to what timing can tell
    for who, run in PEERS.items():
        calls[who] = Call(lambda run=run: [run(x) for x in each])
        pairs.append(Pair(f"{layout}, {dtype}", "axis", who, Bar(">=", 1)))
    if layout == "first" and dtype == "float32":
        calls[SCREENED] = peer("rankseg", lambda: peers.rankseg_batch(images, SCREENED))
        pairs.append(Pair(f"{layout}, {dtype}", "masks", SCREENED, Bar(">=", 1), work=f"masks of {count}"))
    return Task(f"thresholds of {count}", side, calls, pairs)


def tasks(sides: tuple[int, ...] = SIDES, quick: bool = False) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Give what is timed, with the name that ``--only`` takes; with `quick` the smallest of each alone."""
    for side in sides[:1] if quick else sides:
        for dtype in DTYPES:
            yield "small", lambda side=side, dtype=dtype: thresholds(side, dtype)
    cases = [(32, 256, "first"), (64, 100, "first"), (64, 100, "last")]
    for side, count, layout in [(8, 4, "first"), (8, 4, "last")] if quick else cases:
        for dtype in DTYPES:
            yield "many", lambda c=(side, count, layout, dtype): batch(*c)
