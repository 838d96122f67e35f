"""The paper's statements, tested on tables whose judgement is known."""

from __future__ import annotations

import pandas as pd
import pytest

from reproduction.report.claims import Claim, adjusted, agreement, check_claims, pattern, trend
from small_results import DOWN, NONE, UP, cases_of, differences_of

SOFT = "SD(0) is alike or better than CE(0)"
INSTEAD = "CE(*) is alike or better than SD(0)"
THRESHOLD = "CE(*) beats CE(0) at a = .03"
GROWTH = "the gain of CE(*) over CE(0) grows with the noise"
ALIKE = "without noise the three methods are alike"
SLIGHTLY = (-0.004, -0.0046, -0.0034)  # behind, but by less than the margin
WIDE = (-0.004, -0.010, 0.002)
NARROW = (0.0, -0.001, 0.001)


def judged(table: pd.DataFrame, cases: pd.DataFrame | None = None) -> dict[str, str]:
    cases = cases_of(0.01, 0.02) if cases is None else cases
    return {claim.statement: claim.judgement for claim in check_claims(table, cases)}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (differences_of(UP, UP, NARROW), {SOFT: "agrees", INSTEAD: "agrees", THRESHOLD: "agrees"}),
        (differences_of(DOWN, DOWN, DOWN), dict.fromkeys((SOFT, INSTEAD, THRESHOLD), "does not agree")),
        (differences_of(UP, UP, SLIGHTLY), {INSTEAD: "agrees"}),
        (differences_of(UP, UP, WIDE), {INSTEAD: "undecided"}),
        (differences_of(NONE, NONE, NONE), dict.fromkeys((SOFT, INSTEAD, THRESHOLD), "undecided")),
        (differences_of(UP), {SOFT: "not tested", INSTEAD: "not tested", THRESHOLD: "agrees"}),
        (differences_of(None, UP), {SOFT: "agrees", INSTEAD: "not tested", THRESHOLD: "not tested"}),
    ],
)
def test_statements_are_judged_by_the_numbers(table, expected):
    found = judged(table)
    assert {statement: found[statement] for statement in expected} == expected


def test_one_setting_behind_is_enough():
    table = differences_of(UP, UP, UP)
    table.loc[table["a"] == 0.02] = differences_of(UP, UP, DOWN, strengths=(0.02,)).to_numpy()
    assert judged(table)[INSTEAD] == "does not agree"


def test_without_noise():
    strengths = (0.0, 0.02, 0.03)
    cases = cases_of(0.0, 0.01, 0.02, strengths=strengths)
    assert judged(differences_of(NARROW, NARROW, NARROW, strengths=strengths), cases)[ALIKE] == "agrees"
    assert judged(differences_of(UP, NARROW, NARROW, strengths=strengths), cases)[ALIKE] == "does not agree"
    assert judged(differences_of(NONE, NARROW, NARROW, strengths=strengths), cases)[ALIKE] == "undecided"
    assert judged(differences_of(NARROW, strengths=strengths), cases)[ALIKE] == "not tested"
    assert ALIKE not in judged(differences_of(NARROW, NARROW, NARROW))


def test_the_gain_grows_falls_or_stays():
    table = differences_of(UP, UP, NARROW)
    assert judged(table)[GROWTH] == "agrees"
    assert judged(table, cases_of(0.02, 0.01))[GROWTH] == "does not agree"
    assert judged(table, cases_of(0.01, 0.01))[GROWTH] == "undecided"
    one = (0.03,)
    assert GROWTH not in judged(differences_of(UP, UP, NARROW, strengths=one), cases_of(0.01, strengths=one))


def test_the_trend_is_the_mean_slope_over_the_noisy_settings():
    cases = cases_of(0.5, 0.01, 0.02, 0.04, strengths=(0.0, 0.01, 0.02, 0.03))
    assert trend(cases, "kidney", "CE(*)", "CE(0)").mean == pytest.approx(1.5)  # of .01, .02, .04 at .01, .02, .03
    with pytest.raises(ValueError, match="kidney: not every case was scored at every noise strength"):
        trend(cases.drop(index=cases.index[-1]), "kidney", "CE(*)", "CE(0)")


def test_p_values_are_adjusted_over_all_organs():
    claims = [Claim("one", "x", "", p, 1 - p) for p in (0.01, 0.04, 0.03)] + [Claim("two", "y", "")]
    found = adjusted(claims)
    assert [claim.p_for for claim in found] == pytest.approx([0.03, 0.06, 0.06, None])
    assert [claim.judgement for claim in found] == ["agrees", "undecided", "undecided", "not tested"]
    borderline = (0.02, -0.0001, 0.0401)  # p is a little above .05 two-sided, below .03 one-sided
    alone = differences_of(borderline, strengths=(0.03,))
    many = differences_of(borderline, strengths=(0.03,), organs=("kidney", "liver", "aorta"))
    assert judged(alone)[THRESHOLD] == "agrees"
    assert judged(many)[THRESHOLD] == "undecided"


def test_too_few_cases_are_not_tested():
    claims = check_claims(differences_of(UP, UP, NONE, n=4), cases_of(0.01, 0.02))
    assert claims == [Claim("kidney", "all of them", "4 cases are too few")]


def test_agreement_counts():
    claims = [Claim("o", "one", "", 0.01, 1.0), Claim("o", "two", "", 0.2, 1.0), Claim("o", "three", "")]
    text = agreement(claims)
    assert text.startswith(
        "Statements: 3, of which “agrees” 1, “undecided” 1, “not tested” 1. Alike means within ±.005"
    )
    assert agreement([]).startswith("Statements: 0. ")


def test_how_often_a_method_is_ahead_in_the_paper_and_in_ours():
    values = {"CE(0)": 0.5, "SD(0)": 0.6, "CE(*)": 0.7}
    paper = pd.DataFrame(
        [{"organ": "kidney", "a": a, "method": m, "dice": d} for a in (0.0, 0.03) for m, d in values.items()]
    )
    text = pattern(paper, differences_of(UP, NONE, DOWN))  # threshold, soft-Dice, between
    assert text.startswith("SD(0) is ahead of CE(0) in 1 of the paper's 1 cells with noise; in ours the interval")
    parts = text.split(". ")
    assert parts[0].endswith("of the difference is above 0 in 0 of 2 and below in 0")
    assert parts[1].startswith("CE(*) is ahead of CE(0) in 1") and parts[1].endswith("above 0 in 2 of 2 and below in 0")
    assert parts[2].startswith("CE(*) is ahead of SD(0) in 1") and parts[2].endswith("above 0 in 0 of 2 and below in 2")
    assert pattern(paper, differences_of(UP).iloc[:0]) == ""
