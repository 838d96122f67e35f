"""Other ways to threshold, from results that can be added up."""

from __future__ import annotations

import pandas as pd

from reproduction.report.other_rules import HEADER, difference_table, per_image, score_rows, sentences
from reproduction.report.results import pooled
from small_results import grown_results, small_results

GROWN = {"smoke": grown_results()}


def test_scores_and_why_some_are_missing():
    (row,) = score_rows(pooled(GROWN, "summary"), GROWN)
    assert HEADER == [
        "organ",
        "a",
        "CE(*)",
        "CE(fold)",
        "SD(fold)",
        "CE(rank)",
        "CE(rank BA)",
        "CE(oracle)",
        "SD(oracle)",
    ]
    assert [cell.split()[0] for cell in row[2:]] == [".635", ".665", ".575", "not", "not", ".835", "not"]
    assert row[5] == row[6] == "not installed"
    small = {"smoke": small_results()}
    assert score_rows(pooled(small, "summary"), small) == []


def test_differences_have_a_column_for_each_strength():
    header, rows = difference_table(pooled(GROWN, "differences"), GROWN)
    assert header == ["organ", "difference", "a = .02"]
    found = {row[1]: row[2] for row in rows}
    assert found["CE(*) − CE(fold)"] == "**−.030 [−.030, −.030]**"
    assert found["CE(oracle) − CE(*)"] == "**+.200 [.200, .200]**"
    assert found["CE(rank) − CE(*)"] == "not installed"
    other = pooled(GROWN, "differences").assign(organ="liver", a=0.03)
    header, rows = difference_table(pd.concat([pooled(GROWN, "differences"), other]), GROWN)
    assert header[2:] == ["a = .02", "a = .03"] and rows[0][3] == "—", "that organ has no such strength"
    small = {"smoke": small_results()}
    assert difference_table(pooled(small, "differences"), small)[1] == []


def test_the_rules_in_words():
    text = sentences(GROWN["smoke"])
    assert text.startswith(
        "Over the one noisy setting CE(fold) is better than CE(0) in 1, worse in 0 and undecided in 0; "
    )
    assert "the mean differences go from +.1300 to +.1300." in text
    assert "no threshold, not even one per image, could gain more than .200 on CE(*)." in text
    assert text.endswith("`rankseg` was not installed (extra `bench`), so its rows are missing.")
    assert sentences(small_results()) == "not scored under these rules."


def test_is_a_threshold_for_every_image_worth_while():
    text = per_image(pooled(GROWN, "differences"))
    assert "in 1 noisy setting: CE(*) is better in 0, worse in 1, and the mean differences go" in text
    assert text.endswith("from −.0300 to −.0300.")
    assert per_image(pooled({"smoke": small_results()}, "differences")) == ""
