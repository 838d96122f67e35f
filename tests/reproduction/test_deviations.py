"""Tests of reproduction.report.deviations: two values of the paper, subtracted by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from reproduction.config import Preset
from reproduction.report.deviations import (
    NOT_RUN,
    agreement,
    deviations,
    differing_rows,
    gains,
    is_papers,
    silent_rows,
    status,
    value_rows,
)
from reproduction.report.protocol import ITEMS, Protocol, protocol_table
from reproduction.report.results import stored_results
from reproduction.runs.tables import Results

PAPER = pd.DataFrame(
    [
        {"organ": organ, "a": a, "method": method, "dice": dice}
        for organ, a, values in (("kidney", 0.0, (0.96, 0.95, 0.97)), ("aorta", 0.03, (0.62, 0.65, 0.66)))
        for method, dice in zip(("CE(0)", "SD(0)", "CE(*)"), values, strict=True)
    ]
)


def results(
    preset: str = "paper", organ: str = "kidney", a: float = 0.0, **means: tuple[float, float, float]
) -> Results:
    """Tables of one cell: mean and interval by method, and the differences that go with them."""
    values = {"CE(0)": (0.95, 0.94, 0.97), "SD(0)": (0.90, 0.89, 0.91), "CE(*)": (0.97, 0.965, 0.98), **means}
    names = ("dice_noisy", "dice_noisy_lo", "dice_noisy_hi")
    summary = [{"organ": organ, "a": a, "method": m, **dict(zip(names, v, strict=True))} for m, v in values.items()]
    differences: list[dict[str, Any]] = []
    for first, second in (("CE(*)", "CE(0)"), ("SD(0)", "CE(0)"), ("CE(*)", "SD(0)"), ("CE(fold)", "CE(0)")):
        mean = values.get(first, (0.0,))[0] - values[second][0]
        row = {"organ": organ, "a": a, "difference": f"{first}-{second}", "mean": mean, "lo": mean - 0.01}
        differences += [{**row, "hi": mean + 0.01, "score": score} for score in ("dice_noisy", "dice_clean")]
    plan = Preset.load(preset)
    config = {**plan.values, "grid": {axis: list(points) for axis, points in plan.grid.items()}}
    cases = pd.DataFrame({"organ": organ, "case": [f"c{k}" for k in range(400)]})
    facts = {"config": config, "parameters": 1, "data_version": "v1"}
    return Results(cases, pd.DataFrame(summary), pd.DataFrame(differences), pd.DataFrame(), facts)


def test_without_any_run_every_value_needs_the_data():
    table = deviations(PAPER, {})
    assert len(table) == 6 and (table["preset"] == "paper").all() and (table["reason"] == NOT_RUN).all()
    assert table["ours"].isna().all() and table["inside"].isna().all()
    assert table["paper"].tolist() == PAPER["dice"].tolist()
    assert gains(PAPER, {}).empty and "mean" in gains(PAPER, {})


def test_a_run_of_the_papers_protocol():
    table = deviations(PAPER, {"paper": results()})
    kidney = table[table["organ"] == "kidney"].set_index("method")
    assert kidney["difference"].to_dict() == pytest.approx({"CE(0)": -0.01, "SD(0)": -0.05, "CE(*)": 0.0})
    assert kidney["inside"].to_dict() == {"CE(0)": True, "SD(0)": False, "CE(*)": True}
    assert kidney.loc["CE(0)", "reason"] == "the paper's protocol"
    assert kidney.loc["SD(0)", "reason"] == "the paper's protocol: other trainings"
    # The aorta was not in that run: said so, row by row.
    aorta = table[table["organ"] == "aorta"]
    assert len(aorta) == 3 and (aorta["reason"] == NOT_RUN).all()


def test_other_presets_come_after_and_give_their_reasons():
    other = results("quick", a=0.0)
    table = deviations(PAPER, {"quick": other})
    assert table["preset"].tolist() == ["paper", "quick"] * 3 + ["paper"] * 3
    quick = table[table["preset"] == "quick"]
    # 400 cases here, so D4, their number, is not among them.
    names = {"data", "patches", "folds run", "features a level", "epochs", "optimiser", "epoch evaluated"}
    assert set(quick["reason"]) == {", ".join(f"D{k}" for k, item in enumerate(ITEMS, 1) if item.name in names)}
    assert (table.loc[table["preset"] == "paper", "reason"] == NOT_RUN).all()
    both = deviations(PAPER, {"quick": other, "paper": results()})
    assert both["preset"].tolist()[:4] == ["paper", "quick", "paper", "quick"], "the paper's protocol comes first"


def test_organs_and_strengths_that_the_paper_lacks_are_no_rows():
    other = results(organ="hippocampus")
    assert set(deviations(PAPER, {"hippocampus": other})["preset"]) == {"paper"}
    assert gains(PAPER, {"hippocampus": other}).empty
    assert set(deviations(PAPER, {"mine": results(a=0.05)})["preset"]) == {"paper"}


def test_gains_are_differences_of_the_papers_means():
    table = gains(PAPER, {"mine": results()})
    assert table["difference"].tolist() == ["CE(*)-CE(0)", "SD(0)-CE(0)", "CE(*)-SD(0)"], (
        "the paper has no other methods"
    )
    assert table["paper"].tolist() == pytest.approx([0.01, -0.01, 0.02])
    assert table["mean"].tolist() == pytest.approx([0.02, -0.05, 0.07])
    assert table[["organ", "a", "preset"]].drop_duplicates().to_numpy().tolist() == [["kidney", 0.0, "mine"]]


def test_the_committed_results_beside_the_papers_table(root):
    paper = pd.read_csv(root / "results" / "paper" / "table1.csv")
    stored = {"phantoms": stored_results()["phantoms"]}
    table = deviations(paper, stored)
    assert len(table) == 72 and table.groupby("preset").size().to_dict() == {"paper": 36, "phantoms": 36}
    one = table[(table["preset"] == "phantoms") & (table["organ"] == "aorta") & (table["a"] == 0.03)].set_index(
        "method"
    )
    summary = stored["phantoms"].summary.set_index(["organ", "a", "method"])
    ours = summary.loc[("aorta", 0.03, "CE(*)"), "dice_noisy"]
    assert one.loc["CE(*)", "difference"] == pytest.approx(ours - 0.6560)
    assert math.isclose(gains(paper, stored)["paper"].iloc[0], 0.0004)


def protocols(**changed: Any) -> pd.DataFrame:
    """The items of the plan of the preset ``paper``, some of its numbers changed, and of ``quick``."""
    plan = Protocol.of_plan(Preset.load("paper"))
    return protocol_table(
        {"paper": Protocol({**plan.config, **changed}), "quick": Protocol.of_plan(Preset.load("quick"))}
    )


def test_items_that_differ_are_bold_and_have_their_reason():
    header, rows = differing_rows(protocols())
    assert header == ["", "item", "paper", "quick", "why"] and is_papers(protocols())
    data = next(row for row in rows if row[1] == "data")
    assert data[0] == "D1" and data[2:4] == ["CT, TotalSegmentator v1", "**phantoms, 100 an organ**"]
    organs = [row for row in rows if row[1] == "organs"]
    assert not organs, "the same organs are no deviation"


def test_a_changed_plan_of_the_paper_has_its_column():
    header, rows = differing_rows(protocols(epochs=50))
    assert header == ["", "item", "paper", "paper", "quick", "why"] and not is_papers(protocols(epochs=50))
    (epochs,) = [row for row in rows if row[1] == "epochs"]
    assert epochs[2:4] == ["100, batches of 1", "**50, batches of 1**"]
    assert next(row for row in rows if row[1] == "data")[3] == "CT, TotalSegmentator", "alike, so not bold"


def test_items_that_the_paper_does_not_print():
    header, rows = silent_rows(protocols())
    assert header == ["item", "paper", "preset paper", "preset quick", "note"]
    assert ["output starts", "not printed", "at random", "at the share of foreground"] in [row[:4] for row in rows]


def test_every_value_of_the_paper_is_a_row():
    mine = results("quick", a=0.0)
    header, rows = value_rows(deviations(PAPER, {"quick": mine}))
    assert header == ["organ", "a", "method", "paper", "preset paper", "preset quick", "reason"]
    assert len(rows) == 6
    # .95 [.94, .97] holds .96, .90 [.89, .91] does not hold .95.
    assert rows[0][:6] == ["kidney", ".00", "CE(0)", ".9600", NOT_RUN, ".950 [.940, .970], −.010"]
    assert rows[1][5] == ".900 [.890, .910], **−.050**" and rows[1][6].startswith("quick: D1, D3")
    assert rows[5][4:] == [NOT_RUN, "—", NOT_RUN], "that preset has no aorta"
    both = value_rows(deviations(PAPER, {"quick": mine, "paper": results()}))[1]
    assert both[1][4] == ".900 [.890, .910], **−.050**"
    assert both[1][6].startswith("paper: the paper's protocol: other trainings; quick: D1")
    assert value_rows(deviations(PAPER, {}))[0] == ["organ", "a", "method", "paper", "preset paper", "reason"]


def test_agreement_by_hand():
    mine = {"mine": results()}
    compared = gains(PAPER, mine)
    compared.loc[0, "lo"] = 0.009
    text = agreement("mine", deviations(PAPER, mine), compared)
    # Ours - paper: −.01, −.05, 0; of the three differences the paper has .01, −.01, .02 where we have .02, −.05, .07.
    assert text.startswith("2 of the paper's 3 values lie within our intervals; the largest difference is .050.")
    assert "Of 3 differences between methods the paper's lies within our interval in 1;" in text
    assert "of our 3 whose interval does not contain 0 the paper's has the same sign in 3." in text
    assert "a value differs from the paper's by .020, a difference between methods by .033, where" in text
    assert text.endswith(".013 large."), "without noise nobody is ahead"
    noisy = {"mine": results(organ="aorta", a=0.03)}
    text = agreement("mine", deviations(PAPER, noisy), gains(PAPER, noisy))
    assert text.endswith(
        "With noise CE(*) is ahead of SD(0) in 1 of 1 cells of the paper, and in ours with its whole interval in 1."
    )


def test_whether_the_papers_protocol_was_run():
    plans = {name: Protocol.of_plan(Preset.load(name)) for name in ("paper", "quick")}
    organs = ["kidney", "aorta"]
    assert "with its 120 trainings, was **not run: needs the data**" in status({}, plans, organs)
    mine = results("quick")
    assert status({"quick": mine}, plans, organs).endswith("in other presets: `quick` (phantoms, 100 an organ).")
    assert "other presets" not in status({"quick": results("quick", organ="liver")}, plans, organs)
    run = results()
    run.provenance["runs"] = [{}] * 7
    assert (
        status({"paper": run}, plans, organs) == "The preset `paper`, the paper's protocol, has been run: 7 trainings."
    )
