"""A picture of one map: a slice, the outlines of two masks, and the score of every threshold."""

from __future__ import annotations

from typing import Any

import numpy as np

from noisyseg.maps.metric import Metric, scores

HALF, BEST = "#E69F00", "#0072B2"  # which colour-blind readers can tell apart


def plane(mask: np.ndarray, axis: int = -1) -> int:
    """Give the slice across an axis in which a mask is largest."""
    axis %= mask.ndim
    return int(mask.sum(axis=tuple(k for k in range(mask.ndim) if k != axis)).argmax())


def panels(figure: Any, m: np.ndarray, t: float, metric: Metric, where: tuple[int, int], promised: float) -> None:
    """Draw the slice (axis, place) of a map with both outlines, and its scores, into a figure of matplotlib."""
    left, right = figure.subplots(1, 2)
    image = np.take(m, where[1], axis=where[0]) if m.ndim > 2 else m
    image = np.asarray(image, dtype=np.float64).T[::-1]
    shade = left.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(shade, ax=left, label="probability", shrink=0.8)
    for level, colour, style in ((0.5, HALF, "dashed"), (t, BEST, "solid")):
        if min(image.shape) > 1 and image.min() < level <= image.max():
            left.contour(image >= level, levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.2)
    left.set(xticks=[], yticks=[], title=f"slice {where[1]} across axis {where[0]}" if m.ndim > 2 else "map")
    right.plot(*scores(m, metric), color="#444444")
    for level, colour, style, name in ((0.5, HALF, "dashed", "1/2"), (t, BEST, "solid", f"t = {t:.3f}")):
        right.axvline(level, color=colour, linestyle=style, label=name)
    right.set(
        xlabel="threshold", ylabel=f"expected {metric.name}", xlim=(0, 1), ylim=(0, 1), title=f"at t: {promised:.3f}"
    )
    right.legend(frameon=False)


def draw(file: Any, m: np.ndarray, t: float, mask: np.ndarray, metric: Metric, promised: float) -> None:
    """Write the picture of a map, through the slice where its mask is largest, as PNG into an open file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    panels(figure, m, t, metric, (m.ndim - 1, plane(mask) if m.ndim > 2 else 0), promised)
    figure.savefig(file, format="png", metadata={"Software": None})
