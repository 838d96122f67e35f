"""Shares of the way to the ceiling and of the gain, on ten cases that can be added up."""

from __future__ import annotations

import pandas as pd
import pytest

from reproduction.report.shares import GAIN_HEADER, WAY_HEADER, by_case, gain_rows, gains_beyond, way_rows

SCORES = {"CE(0)": 0.3, "SD(0)": 0.55, "CE(*)": 0.5, "CONST(0)": 0.1, "CONST(*)": 0.4}


def cases_of(ceiling_half=0.75, **changes) -> pd.DataFrame:
    """Ten cases of five folds at a = .02, their ceiling .8; each is a little easier than the one before."""
    scores = {**SCORES, **changes}
    rows = []
    for k in range(10):
        more = 0.001 * k
        point = {"organ": "cord", "a": 0.02, "fold": k % 5, "case": f"c{k}"}
        point |= {"ceiling": 0.8 + more, "ceiling_half": ceiling_half + more}
        rows += [{**point, "method": method, "dice_noisy": score + more} for method, score in scores.items()]
    return pd.DataFrame(rows)


def test_scores_side_by_side():
    table = by_case(cases_of())
    assert table.loc["c1", ["CE(0)", "ceiling", "ceiling_half", "person", "fold"]].tolist() == [
        pytest.approx(0.301),
        pytest.approx(0.801),
        pytest.approx(0.751),
        "c1",
        1,
    ]
    twice = pd.concat([cases_of().assign(training_seed=1), cases_of(**{"CE(0)": 0.4}).assign(training_seed=2)])
    assert by_case(twice)["CE(0)"].tolist() == pytest.approx([0.35 + 0.001 * k for k in range(10)])
    assert by_case(cases_of().assign(person="one"))["person"].unique().tolist() == ["one"]


def test_the_way_from_constant_to_ceiling():
    assert WAY_HEADER == ["organ", "a", "CE(0)", "SD(0)", "CE(*)"]
    assert way_rows(cases_of()) == [["cord", ".02", "−25 [−25, −25]", "38 [38, 38]", "25 [25, 25]"]]
    cases = cases_of()
    assert way_rows(cases[cases["method"] != "CONST(*)"]) == []
    assert way_rows(cases[cases["method"] != "SD(0)"])[0][3] == "—"
    # Where the constant is as good as any mask on average there is no way to go.
    level = cases.assign(ceiling=cases["ceiling"].where(cases["case"] < "c5", 0.0))
    assert way_rows(level)[0][2:] == ["—"] * 3


def test_the_gain_and_its_parts():
    assert len(GAIN_HEADER) == len(gain_rows(cases_of())[0])
    assert gain_rows(cases_of()) == [
        ["cord", ".02", ".200 [.200, .200]", "80 [80, 80]", ".0500 [.0500, .0500]", "25 [25, 25]"]
    ]
    older = cases_of().drop(columns="ceiling_half")
    assert gain_rows(older)[0][4:] == ["—", "—"] and gains_beyond(older) == ""
    cases = cases_of()
    assert gain_rows(cases[cases["method"] != "SD(0)"])[0][3] == "—"
    assert gain_rows(cases[cases["method"] != "CE(0)"]) == []


def test_a_gain_that_is_more_than_the_papers_mechanism():
    assert gains_beyond(cases_of()).startswith(
        "The gain of CE(*) over CE(0) is larger than what the threshold 1/2 costs"
    )
    assert "on the cord at a = .02: there" in gains_beyond(cases_of())
    assert gains_beyond(cases_of(ceiling_half=0.6)) == "", "as much is not more"
    assert gains_beyond(cases_of(ceiling_half=0.5)) == ""
