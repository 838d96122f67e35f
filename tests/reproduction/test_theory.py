"""Figures of the chapters on theory: they show the arrays that they are given."""

from __future__ import annotations

import numpy as np
import pytest

from noisyseg import dice, dice_threshold
from reproduction.figures.theory import plot_noise_rows, plot_threshold_curve


def test_noise_rows_hold_the_arrays_in_order():
    arrays = [np.full((2, 3, 3), value) for value in (0.1, 0.2, 0.3, 0.4)]
    arrays[1][1] = 0.7
    figure = plot_noise_rows(*arrays, [0.0, 0.05])
    shown = np.array([ax.images[0].get_array()[0, 0] for ax in figure.axes]).reshape(4, 2)
    np.testing.assert_array_equal(shown, [[0.1, 0.1], [0.2, 0.7], [0.3, 0.3], [0.4, 0.4]])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["$a = 0.00$", "$a = 0.05$"]
    assert {ax.images[0].get_clim() for ax in figure.axes} == {(0.0, 1.0)}  # one grey scale for all


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


CUBE = np.zeros((2, 2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_noise_rows(*[CUBE] * 4, [0.1]), r"means: found shape \(2, 2, 2\); expected \(1, H, W\)"),
        (lambda: plot_noise_rows(CUBE, *[np.zeros((2, 2, 4))] * 3, [0, 0.1]), r"marginals: .*\(2, 2, 4\)"),
        (lambda: plot_threshold_curve({}), "marginals: found none"),
        (lambda: plot_threshold_curve({"zero": np.zeros(3)}), r"marginals\['zero'\]: found no positive value"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
