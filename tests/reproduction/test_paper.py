"""Figures that compare our values with the paper's."""

from __future__ import annotations

import numpy as np
import pytest

from figure_tables import compared, deviating, drawn
from reproduction.figures.paper import plot_deviations, plot_gains
from reproduction.scoring.rules import METHODS


def test_deviations_are_ours_minus_the_papers():
    figure = plot_deviations(deviating())
    shown = drawn(figure.axes[0])
    assert shown["SD(0), paper"][0] == pytest.approx([0.011]) and shown["SD(0), paper"][1] == pytest.approx(
        [-0.009, 0.041]
    )
    assert shown["CE(*), quick"][0] == pytest.approx([0.052])
    one = deviating().query("preset == 'quick'")
    assert list(drawn(plot_deviations(one).axes[0])) == list(METHODS), "one preset needs no name"


def test_values_that_were_not_run_are_left_out():
    table = deviating()
    table.loc[table["preset"] == "paper", ["ours", "lo", "hi", "difference"]] = np.nan
    assert list(drawn(plot_deviations(table).axes[0])) == list(METHODS)
    with pytest.raises(ValueError, match="table: found no row to draw"):
        plot_deviations(table[table["preset"] == "paper"])


def test_gains_beside_the_papers():
    shown = drawn(plot_gains(compared()).axes[0])
    assert shown["SD(0) − CE(0)"][0] == pytest.approx([0.01]) and shown["SD(0) − CE(0)"][1] == pytest.approx(
        [0.0, 0.03]
    )
    assert shown["SD(0) − CE(0), paper"][0] == pytest.approx([-0.02])
