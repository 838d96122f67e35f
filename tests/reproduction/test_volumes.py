"""Figures of volume bias: the numbers that were given are the numbers that are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from figure_tables import drawn, legend
from reproduction.figures.volumes import VOLUME_LOOKS, plot_by_size, plot_regions, plot_volume_bias


def table() -> pd.DataFrame:
    rows = [
        {"organ": organ, "a": a, "measure": name, "bias": 0.1 * k + a, "bias_lo": 0.1 * k, "bias_hi": 0.1 * k + 0.2}
        for organ in ("kidney", "aorta")
        for a in (0.0, 0.02)
        for k, name in enumerate(("CE(0)", "SD(0)", "CE soft"))
    ]
    return pd.DataFrame(rows)


def test_bias_is_drawn_in_percent_with_its_interval():
    figure = plot_volume_bias(table())
    assert [ax.get_title() for ax in figure.axes] == ["kidney", "aorta"]
    shown = drawn(figure.axes[0])
    assert shown["SD(0)"][0] == pytest.approx([10, 12]) and shown["SD(0)"][1] == pytest.approx([10, 30] * 2)
    assert legend(figure) == ["CE(0)", "SD(0)", "CE soft"], "what was not scored is not drawn"


def test_parts_by_size():
    rows = pd.DataFrame({"organ": "kidney", "measure": "SD(0)", "v": [0.5, 1.0, 1.5], "bias": [0.3, 0.1, -0.1]})
    figure = plot_by_size(rows)
    assert drawn(figure.axes[0])["SD(0)"][0] == pytest.approx([30, 10, -10])
    assert figure.axes[0].get_xlabel() == "expected volume / mean"


def test_regions_break_where_they_jump():
    p = np.array([0.1, 0.2, 0.3, 0.4])
    ratio = np.array([0.9, 0.8, 1.5, 1.4])
    figure = plot_regions({"r": {"one part": (p, ratio)}}, {"B": (np.array([1, 2]), np.array([0.5, 0.4]), 0.3)})
    line = figure.axes[0].lines[0]
    assert np.isnan(np.asarray(line.get_ydata())[2]) and line.get_label() == "one part"
    assert drawn(figure.axes[1])["B"][0] == [0.5, 0.4]
    assert len({look for look in VOLUME_LOOKS.values()}) == len(VOLUME_LOOKS)
