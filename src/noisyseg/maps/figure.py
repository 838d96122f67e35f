"""A picture of one map: a slice, the outlines of two masks, and the score of every threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noisyseg.maps.metric import Metric, scores

#: Of the outlines in turn: at 1/2, at the best threshold, at another; colour-blind readers can tell them apart.
STYLES = (("#0072B2", "dashed"), ("#009E73", "solid"), ("#B8528F", "dotted"))


def plane(mask: np.ndarray, axis: int = -1) -> int:
    """Give the slice across an axis in which a mask is largest."""
    axis %= mask.ndim
    return int(mask.sum(axis=tuple(k for k in range(mask.ndim) if k != axis)).argmax())


def panels(figure: Any, m: np.ndarray, metric: Metric, levels: Sequence[tuple[float, str]], axis: int, k: int) -> None:
    """Draw slice `k` across an axis of a map, with the outlines of some thresholds, and the scores of all thresholds.

    `figure` is one of matplotlib, without axes; `levels` are thresholds and what the legend says about them.
    """
    left, right = figure.subplots(1, 2)
    image = np.asarray(np.take(m, k, axis=axis) if m.ndim > 2 else m, dtype=np.float64).T[::-1]
    shade = left.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(shade, ax=left, label="probability", shrink=0.8)
    left.set(xticks=[], yticks=[], title=f"slice {k} across axis {axis}" if m.ndim > 2 else "map")
    right.plot(*scores(m, metric), color="#444444")
    right.set(xlabel="threshold", ylabel=f"expected {metric.name}", xlim=(0, 1), ylim=(0, 1))
    for (level, label), (colour, style) in zip(levels, STYLES, strict=False):
        right.axvline(level, color=colour, linestyle=style, label=label)
        if min(image.shape) > 1 and image.min() < level <= image.max():
            left.contour(image >= level, levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.2)
    right.legend(framealpha=0.9, edgecolor="none")


def draw(file: Any, m: np.ndarray, t: float, mask: np.ndarray, metric: Metric, promised: float) -> None:
    """Write the picture of a map, through the slice where its mask is largest, as PNG into an open file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    levels = [(0.5, "1/2"), (t, f"t = {t:.3f}, where it is {promised:.3f}")]
    panels(figure, m, metric, levels, m.ndim - 1, plane(mask) if m.ndim > 2 else 0)
    figure.savefig(file, format="png", metadata={"Software": None})
