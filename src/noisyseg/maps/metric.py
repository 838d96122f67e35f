"""The scores that a threshold can be best for, and the score of every threshold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from noisyseg._core.arrays import blocks

LEVELS = 500  # thresholds of a curve


class Metric(NamedTuple):
    """A score as TP / (TP + scale (alpha FP + beta FN)); alpha and beta are those that say its threshold."""

    name: str
    alpha: float
    beta: float
    scale: float

    def score(self, tp: float, ones: float, soft: float) -> float:
        """Give the score to expect of a mask of `ones` voxels, `tp` of them right, if `soft` are in the structure."""
        below = tp + self.scale * (self.alpha * (ones - tp) + self.beta * (soft - tp))
        return tp / below if below > 0 else 1.0


def metric(name: str, alpha: float | None = None, beta: float | None = None) -> Metric:
    """Give a score by name, or raise `ValueError` for parameters that it does not have or lacks.

    Examples
    --------
    >>> metric("f_beta", beta=2).score(tp=1.5, ones=2, soft=2)  # 5 TP / (ones + 4 soft)
    0.75
    """
    wanted = {"dice": (), "jaccard": (), "f_beta": ("beta",), "tversky": ("alpha", "beta")}[name]
    for parameter, value in (("alpha", alpha), ("beta", beta)):
        if (value is not None) != (parameter in wanted):
            raise ValueError(f"{parameter}: the score {name} {'needs' if parameter in wanted else 'does not have'} it")
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{parameter}: expected a positive finite number, got {value}")
    if name == "tversky":
        assert alpha is not None and beta is not None
        return Metric(name, alpha, beta, 1.0)
    square = 1.0 if beta is None else beta * beta
    return Metric(name, 1.0, square, 1.0 if name == "jaccard" else 1 / (1 + square))


def scores(m: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Give (thresholds, scores) of the masks ``m >= u``, for `LEVELS` values of u from 0 to 1."""
    counts, sums = np.zeros(LEVELS + 1), np.zeros(LEVELS + 1)
    for (x,) in blocks(m):
        bins = (x * LEVELS).astype(np.int64)
        counts += np.bincount(bins, minlength=LEVELS + 1)
        sums += np.bincount(bins, x, minlength=LEVELS + 1)
    ones, tp = (np.cumsum(part[::-1])[::-1] for part in (counts, sums))
    values = [metric.score(a, b, float(tp[0])) for a, b in zip(tp.tolist(), ones.tolist(), strict=True)]
    return np.arange(LEVELS + 1) / LEVELS, np.array(values)
