"""What the threshold 1/2 costs a perfect network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reproduction.config import Preset
from reproduction.report.perfect_network import COLUMNS, cost_of_half, cost_rows, gains_beyond, threshold_costs
from small_results import DOWN, UP, differences_of, small_results


def test_the_cost_by_hand():
    assert cost_of_half(np.array([1.0, 0.0])) == 0
    # Both voxels: 2 * .8 / (2 + .8); at 1/2 the mask is empty and has Dice 0.
    assert cost_of_half(np.array([0.4, 0.4])) == pytest.approx(1.6 / 2.8)


def test_only_phantoms_have_rows():
    assert threshold_costs([small_results()]).empty
    assert list(threshold_costs([]).columns) == list(COLUMNS)
    assert cost_rows(threshold_costs([])) == [] and gains_beyond(threshold_costs([])) == ""


@pytest.mark.parametrize("measured", [UP, DOWN])
def test_a_preset_of_phantoms(measured):
    plan = Preset.load("quick")
    config = {**plan.values, "phantom_size": 16, "grid": {}}
    cases = pd.DataFrame({"organ": "kidney", "case": ["kidney-0001", "kidney-0002"] * 2, "a": [0.0, 0.0, 0.03, 0.03]})
    differences = differences_of(measured, strengths=(0.0, 0.03))
    result = replace(small_results(), cases=cases, differences=differences, provenance={"config": config})
    costs = threshold_costs([result])
    assert costs["a"].tolist() == [0.0, 0.03] and costs["mean"].tolist() == [measured[0]] * 2
    assert costs.loc[0, "cost"] == pytest.approx(0) and 0 <= costs.loc[1, "cost"] <= costs.loc[1, "most"]
    assert cost_rows(costs)[0][:3] == ["kidney", ".00", ".000"]
    # Without noise nothing is lost at 1/2, so any gain whose interval lies above 0 is beyond it.
    assert ("kidney at a = .00" in gains_beyond(costs)) == (measured is UP)


def test_only_gains_of_twice_the_cost_are_beyond():
    rows = [["kidney", 0.01, 0.01, 0.02, 0.05, 0.041, 0.06], ["kidney", 0.02, 0.01, 0.02, 0.05, 0.039, 0.06]]
    text = gains_beyond(pd.DataFrame(rows, columns=list(COLUMNS)))
    assert "for kidney at a = .01: there" in text
