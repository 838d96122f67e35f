"""Tests of reproduction.report.deviations: two values of the paper, subtracted by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from reproduction.config import Preset
from reproduction.report.deviations import NOT_RUN, deviations, gains
from reproduction.report.protocol import ITEMS
from reproduction.runs.tables import Results, load_results

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
    assert table["difference"].tolist() == ["CE(*)-CE(0)", "SD(0)-CE(0)", "CE(*)-SD(0)"], "no further methods there"
    assert table["paper"].tolist() == pytest.approx([0.01, -0.01, 0.02])
    assert table["mean"].tolist() == pytest.approx([0.02, -0.05, 0.07])
    assert table[["organ", "a", "preset"]].drop_duplicates().to_numpy().tolist() == [["kidney", 0.0, "mine"]]


def test_the_committed_results_beside_the_papers_table(root):
    paper = pd.read_csv(root / "results" / "paper" / "table1.csv")
    table = deviations(paper, {"quick": load_results("quick")})
    assert len(table) == 72 and table.groupby("preset").size().to_dict() == {"paper": 36, "quick": 36}
    one = table[(table["preset"] == "quick") & (table["organ"] == "aorta") & (table["a"] == 0.03)].set_index("method")
    summary = load_results("quick").summary.set_index(["organ", "a", "method"])
    ours = summary.loc[("aorta", 0.03, "CE(*)"), "dice_noisy"]
    assert one.loc["CE(*)", "difference"] == pytest.approx(ours - 0.6560)
    assert math.isclose(gains(paper, {"quick": load_results("quick")})["paper"].iloc[0], 0.0004)
