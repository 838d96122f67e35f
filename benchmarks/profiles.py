"""Where the time goes: shares of the stages of one call, by the interpreter's own profiler."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from harness import Row
from memory import make_label
from noisyseg import GaussianDeformation, dice_threshold
from reproduction.listings import listing_2

# Functions of which none calls another one of the same list, with what they do.
STAGES = {
    "sample": {
        "check_label": "check that the label is binary",
        "bounding_box": "find the box that holds it",
        "kronecker_factor": "factors (cached)",
        "white_noise": "white noise",
        "contract": "factors of all axes but the last",
        "_deform": "factor of the last axis, positions, look-up",
    },
    "threshold": {
        "_guess": "guess a window from a sample of the voxels",
        "walk": "one walk through the image",
    },
    "Listing 2": {
        "gaussian_filter": "filter the white noise",
        "map_coordinates": "cubic interpolation",
        "indices": "grid",
    },
}


def shares(work: str, call: Callable[[], Any]) -> Iterator[Row]:
    """Give the share of the time of every stage of a call; what is left comes last."""
    call()
    profiler = cProfile.Profile()
    profiler.runcall(call)
    stats: Any = pstats.Stats(profiler)
    left = 1.0
    for name, stage in STAGES[work].items():
        spent = sum(entry[3] for (_, _, function), entry in stats.stats.items() if function == name)
        share = spent / stats.total_tt
        left -= share
        yield {"work": work, "stage": stage, "share": round(share, 4)}
    yield {"work": work, "stage": "everything else", "share": round(max(left, 0.0), 4)}


def profile_rows(side: int) -> Iterator[Row]:
    """Profile a sample and Listing 2 for the large ball and a threshold for its marginal, all at a = .02."""
    label, noise = make_label(side, "large ball"), GaussianDeformation(0.02)
    smaller = min(side, 128)  # Listing 2 takes seconds in a large image, and its shares are much the same
    few = make_label(smaller, "large ball")
    rng = np.random.default_rng(0)
    m = noise.marginal(label).astype(np.float32)
    calls: list[tuple[str, int, Callable[[], Any]]] = [
        ("sample", side, lambda: noise.sample(label, rng)),
        ("threshold", side, lambda: dice_threshold(m)),
        ("Listing 2", smaller, lambda: listing_2(few, 0.02, rng)),
    ]
    for work, size, call in calls:
        for row in shares(work, call):
            yield {**row, "side": size}
