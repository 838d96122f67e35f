"""What a reader has run, compared with what is stored: every sentence from tables that differ by a known amount."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from reproduction.report.experiment import SCORE_HEADER
from reproduction.report.your_run import (
    agreement,
    changed_numbers,
    counterpart,
    latest,
    opening,
    pairs,
    stored_points,
    your_rows,
)
from reproduction.runs.tables import Results
from small_results import one_loss_results, small_results

STORED = small_results()


def moved(by: float, method: str = "CE(*)", base: Results = STORED) -> Results:
    """Results in which one method has another mean; every mean has an interval of .02 to each side."""
    summary = base.summary.assign(dice_noisy_lo=base.summary["dice_noisy"] - 0.02)
    summary["dice_noisy_hi"] = summary["dice_noisy"] + 0.02
    columns = ["dice_noisy", "dice_noisy_lo", "dice_noisy_hi"]
    summary.loc[summary["method"] == method, columns] += by
    return replace(base, summary=summary)


def with_facts(base: Results = STORED, **facts: Any) -> Results:
    config = {**base.provenance["config"], **facts.pop("config", {})}
    return replace(base, provenance={**base.provenance, "config": config, **facts})


@pytest.mark.parametrize(
    ("yours", "sentence"),
    [
        (STORED, "**Your 3 means are the stored ones**, to all six decimals of the tables."),
        (moved(4e-7), "**Your 3 means are the stored ones**, to all six decimals of the tables."),
        (
            moved(-0.01),
            "**Your run agrees with the stored results**: all 3 stored means lie in your 95 % intervals. "
            "The largest difference is −.0100 (CE(*), hippocampus, a = .02).",
        ),
        (
            moved(0.03, "SD(0)"),
            "**Your run agrees with the stored results in part**: 2 of 3 stored means lie in your 95 % intervals. "
            "The largest difference is +.0300 (SD(0), hippocampus, a = .02).",
        ),
    ],
)
def test_agreement(yours, sentence):
    assert agreement(yours, STORED) == sentence


def test_a_preset_that_was_changed_is_said():
    yours = with_facts(config={"epochs": 3, "of_another_version": 1})
    text = agreement(yours, STORED)
    assert text.startswith("The preset is not the one whose results are stored") and "epochs (yours 3, stored " in text
    assert "of_another_version" not in text and changed_numbers(STORED, STORED) == ""
    grid = {**STORED.provenance["config"]["grid"], "a": [0.5]}
    assert changed_numbers(with_facts(config={"grid": grid}), STORED) == "a (yours [0.5], stored [0.02])"


def test_nothing_in_common():
    other = replace(STORED, summary=STORED.summary.assign(a=0.5))
    assert agreement(other, STORED) == "The stored results have no organ and noise strength in common with yours."


def test_only_what_both_have_is_matched():
    table = pairs(one_loss_results(), STORED)
    assert table["method"].tolist() == ["CE(0)", "CE(*)"] and table["inside"].all()
    shifted = replace(STORED, summary=STORED.summary.assign(a=STORED.summary["a"] + 1e-9))
    assert len(pairs(shifted, STORED)) == 3, "strengths are those of the tables, with six decimals"


def test_rows_have_the_stored_means_below_yours():
    (row,) = your_rows(moved(0.03, "SD(0)"), STORED)
    assert len(row) == len(SCORE_HEADER) and row[:2] == ["hippocampus", ".02"] and row[-1] == ".800"
    assert row[4] == ".525 [.505, .545]<br><small>stored .525, +.000</small>"
    assert row[5] == ".555 [.535, .575]<br><small>stored .525, <b>+.030</b></small>"
    assert your_rows(moved(0.0), None)[0][4] == ".525 [.505, .545]"
    assert your_rows(one_loss_results(), STORED)[0][5] == "", "soft-Dice was not trained"


def test_the_preset_to_compare_with():
    large = with_facts(runs=STORED.provenance["runs"] * 5)
    assert counterpart("smoke", STORED, {"smoke": STORED, "hippocampus": large}) == "smoke"
    assert counterpart("mine", STORED, {"smoke": STORED, "hippocampus": large}) == "hippocampus"
    elsewhere = with_facts(config={"dataset": "phantoms"})
    other_organ = replace(STORED, summary=STORED.summary.assign(organ="liver"))
    assert counterpart("mine", STORED, {"phantoms": elsewhere, "liver": other_organ}) is None


def test_the_opening_without_a_run_says_how_to_make_one():
    text = opening({}, {"smoke": STORED})
    assert text.count(". ") == 1 and "`make reproduce` (or `make reproduce PRESET=hippocampus`) makes a run" in text


def test_the_opening_of_a_run():
    first, second = opening({"smoke": moved(-0.01)}, {"smoke": STORED}).split("\n\n")
    assert first.startswith("The preset **smoke** with 2 trainings: ")
    assert second.startswith("**Your run agrees with the stored results**")
    large = {"hippocampus": with_facts(runs=STORED.provenance["runs"] * 5)}
    assert "The stored ones below are those of `hippocampus`: the same kind of data" in opening({"mine": STORED}, large)
    assert "so there are none to compare with" in opening({"mine": STORED}, {})


def test_of_several_runs_the_youngest_is_shown():
    runs = {"old": with_facts(created="2026-01-01"), "new": with_facts(created="2026-02-01")}
    assert latest(runs) == "new" and latest({}) is None
    assert "The same folder has tables of `old`;" in opening(runs, {})


def test_points_of_the_figure():
    points = stored_points(STORED)
    assert points is not None and points["dice"].tolist() == STORED.summary["dice_noisy"].tolist()
    assert stored_points(None) is None
    assert isinstance(points, pd.DataFrame)
