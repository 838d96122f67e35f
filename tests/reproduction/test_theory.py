"""Figures of the chapters on theory: they show the arrays that they are given."""

from __future__ import annotations

import numpy as np
import pytest

from noisyseg import dice, dice_threshold
from reproduction.figures.theory import plot_threshold_curve


def test_threshold_curve_is_the_dice_of_the_masks():
    m = np.random.default_rng(0).random(200) ** 3
    ax = plot_threshold_curve({"m": m}).axes[0]
    curve = next(line for line in ax.lines if line.get_label() == "m")
    for u, value in zip(*curve.get_data(), strict=True):
        assert value == pytest.approx(dice(m >= u, m), abs=1e-12)
    mark = next(line for line in ax.lines if line.get_marker() == "^" and len(line.get_xdata()))
    t = dice_threshold(m)
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (t, 2 * t)
    assert curve.get_ydata().max() <= 2 * t + 1e-12
