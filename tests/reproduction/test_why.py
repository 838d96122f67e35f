"""Trainings in which one thing is other, against the grid, from numbers that can be added up."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import yaml

from conftest import ROOT
from reproduction.config import Preset
from reproduction.report.why import BASES, HEADER, first_seed, paired, rows, summary
from reproduction.runs.tables import Results
from small_results import small_results

FOLDER = ROOT / "workflow" / "presets" / "why"


def grid() -> Results:
    """Scores of two seeds: the first has .5 and CE(*) .6, give or take the case; the second is not looked at."""
    small = small_results()
    cases = pd.concat(
        [small.cases.assign(training_seed=s, dice_noisy=small.cases["dice_noisy"] + s - 1) for s in (1, 2)]
    )
    return replace(small, cases=cases)


def variant(gain: float) -> Results:
    small = small_results()
    return replace(small, cases=small.cases.assign(dice_noisy=small.cases["dice_noisy"] + gain))


def test_every_method_against_soft_dice_and_against_itself():
    found = rows({"oesophagus_long": variant(0.04)}, {"openkbp_oesophagus": grid()})
    assert len(HEADER) == len(found[0]) == 6 and [row[1:3] for row in found] == [
        [".02", "CE(0)"], [".02", "SD(0)"], [".02", "CE(*)"],
    ]  # fmt: skip
    assert found[0][3].startswith(".565 [") and found[2][3].startswith(".665 [")
    assert found[0][4:] == ["**+.040 [.040, .040]**"] * 2
    assert found[2][4:] == ["**+.140 [.140, .140]**", "**+.040 [.040, .040]**"]


def test_without_the_grid_there_is_nothing_to_compare_with():
    found = rows({"oesophagus_long": variant(0.0), "liver_long": variant(0.0)}, {})
    assert len(found) == 6 and all(row[4:] == ["—", "—"] for row in found)


def test_an_interval_with_zero_is_not_bold():
    found = rows({"oesophagus_low": variant(0.0)}, {"openkbp_oesophagus": grid()})
    assert found[0][4] == "+.000 [.000, .000]"


def test_other_cases_are_refused():
    cases = first_seed(grid().cases)
    with pytest.raises(ValueError, match="found 18 cases and 15; expected the same cases"):
        paired(cases, cases[cases["case"] != "case_0"])


def test_what_was_settled_is_said_and_what_was_not():
    row = {
        "a": 0.02,
        "score": "dice_noisy",
        "difference": "CE(oracle)-SD(oracle)",
        "mean": -0.002,
        "lo": -0.01,
        "hi": 0.01,
    }
    gap = {**row, "difference": "CE(*)-SD(0)", "mean": -0.03, "lo": -0.05, "hi": -0.01}
    alike = replace(small_results(), differences=pd.DataFrame([row, {**row, "a": 0.03, "mean": 0.001}, gap]))
    apart = replace(alike, differences=pd.DataFrame([{**row, "hi": -0.001}, gap]))
    planned = len(list(FOLDER.glob("*.yaml")))
    first, second, last = summary({"mine": alike, "other": apart, "old": small_results()}, {"x": alike}).split("\n\n")
    assert first.startswith("*mine*: with the best threshold of every image in hindsight, CE(oracle) − SD(oracle) goes")
    assert (
        "from −.002 to +.001" in first and "leaves 0 out in 0 of 2 settings; CE(\\*) − SD(0) goes from −.030" in first
    )
    assert "no proof that there is none" in first and "no proof" not in second and "in 1 of 1" in second
    assert last == f"Open: {planned - 1} of {planned} trainings that differ in one thing were not run yet."
    assert summary({}, dict.fromkeys(range(planned))) == ""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_differs_from_its_grid_in_one_thing(path):
    made, base = Preset.load(path), Preset.load(BASES[path.stem.partition("_")[0]])
    assert yaml.safe_load(path.read_text())["extends"] == base.name
    assert made.grid["organ"] == base.grid["organ"] and made.grid["fold"] == base.grid["fold"]
    assert made.seeds == base.seeds[:1] and set(made.grid["a"]) <= set(base.grid["a"])
    changed = {name for name, value in made.values.items() if base.values.get(name) != value}
    if "finish_loss" in changed:
        assert changed == {"finish_loss", "finish_rate", "finish_epochs", "epochs"}
        assert made.values["epochs"] - made.values["finish_epochs"] == base.values["epochs"]
    else:
        assert len(changed) + (made.grid["loss"] == ("both",)) == 1
