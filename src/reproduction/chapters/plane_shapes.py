"""The shapes of Figure 1 under growing noise: the picture cut into its nine shapes, and a table over the strengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from noisyseg import GaussianDeformation
from reproduction.data.phantoms.scenes import figure1_shapes
from reproduction.data.shapes import Shape, optimal_shapes, threshold_grid_error

SHAPES = ("square with a hole", "star", "ring", "L", "thin cross", "slit disc", "three bars", "crescent", "comb")
# Between these rows and columns, as fractions of the side, no shape is cut.
_ROWS, _COLUMNS = (0, 0.345, 0.66, 1), (0, 0.33, 0.66, 1)


def single_shapes(size: int) -> dict[str, np.ndarray]:
    """Return the nine shapes of `figure1_shapes`, each alone at its place in a picture of that size."""
    picture = figure1_shapes(size)
    alone = {}
    for k, name in enumerate(SHAPES):
        box = tuple(
            slice(int(cuts[i] * size), int(cuts[i + 1] * size)) for cuts, i in ((_ROWS, k // 3), (_COLUMNS, k % 3))
        )
        alone[name] = np.zeros_like(picture)
        alone[name][box] = picture[box]
    return alone


def sweep(label: np.ndarray, strengths: Sequence[float]) -> pd.DataFrame:
    """Measure the optimal masks of a plane label over the noise strength, in a frame that no volume leaves.

    Returns
    -------
    DataFrame
        One row a strength: ``a``, as a fraction of the side of the label, the columns of `optimal_shapes` with that
        side as unit, ``gain``, the best Accuracy over that of an empty mask as a share of the volume, and ``grid``, the
        bound of `threshold_grid_error`.

    Raises
    ------
    ValueError
        If more than a millionth of the volume leaves the frame, which is twice as wide as the label.
    """
    side = label.shape[0]
    frame = np.pad(label, side // 2)
    rows = []
    for a in strengths:
        noise = GaussianDeformation(a / 2)  # in units of the frame
        lost = noise.volume_loss(frame) / frame.sum()
        if lost >= 1e-6:
            raise ValueError(
                f"strengths: at a = {a:g} a share {lost:.1e} of the volume leaves the frame; expected < 1e-6"
            )
        above = np.maximum(noise.marginal(frame) - 0.5, 0)
        row = optimal_shapes(frame, noise, spacing=1 / side)
        row |= {"gain": 2 * above.sum() / frame.sum(), "grid": threshold_grid_error(frame, noise)}
        rows.append({"a": a, **row})
    return pd.DataFrame(rows)


def falls(values: Iterable[float]) -> bool:
    """Say whether a sequence never rises."""
    return bool((np.diff(list(values)) <= 0).all())


def whole_picture(clean: Shape, whole: pd.DataFrame) -> dict[str, bool]:
    """Say which measures of the optimal masks of a picture never rise with the noise.

    `clean` measures the label and `whole` is its `sweep`; the keys are sentences.
    """
    found = {}
    for mask in ("accuracy", "dice"):
        for key, name in (("components", "components"), ("holes", "holes"), ("surface", "perimeter")):
            found[f"{mask}: never more {name}"] = falls([getattr(clean, key), *whole[f"{mask}_{key}"]])
    return found


def one_by_one(single: Mapping[str, tuple[Shape, pd.DataFrame]]) -> dict[str, int | str]:
    """Count what happens to the optimal masks of single shapes, each with its measures and its `sweep`."""
    end: Any = pd.DataFrame([data.iloc[-1] for _, data in single.values()])
    discs = (end["dice_components"] == 1) & (end["dice_holes"] == 0) & (end["dice_ball_likeness"] > 0.95)
    alive: dict[str, Any] = {name: data[data["accuracy_components"] > 0] for name, (_, data) in single.items()}
    q: dict[str, Any] = {name: data["accuracy_ball_likeness"] for name, data in alive.items()}
    return {
        "dice: a single piece without a hole, Q > .95, at the end": int(discs.sum()),
        "dice: steps in which Q falls by more than .03": int(
            sum((np.diff(data["dice_ball_likeness"]) < -0.03).sum() for _, data in single.values())
        ),
        "accuracy: empty at the end": int((end["accuracy_components"] == 0).sum()),
        "accuracy: rounder than the label when it vanishes": sum(
            q[name].iloc[-1] > before.ball_likeness + 0.05 for name, (before, _) in single.items()
        ),
        "accuracy: less round at the end than before": ", ".join(k for k in q if q[k].iloc[-1] < q[k].max() - 0.1),
        "accuracy: keeps its holes until it vanishes": ", ".join(
            name
            for name, (before, _) in single.items()
            if before.holes and (alive[name]["accuracy_holes"] == before.holes).all()
        ),
    }
