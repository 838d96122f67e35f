"""The paper's statements, judged on tables whose judgement is known."""

from __future__ import annotations

import pandas as pd
import pytest

from reproduction.report.claims import Claim, agreement, check_claims
from small_results import DOWN, NONE, UP, differences_of

SOFT = "SD(0) is alike or better than CE(0)"
INSTEAD = "where SD(0) beats CE(0), CE(*) is alike or better than SD(0)"
THRESHOLD = "CE(*) beats CE(0) at a = .03"
GROWTH = "the gain of CE(*) over CE(0) grows with the noise"
ALIKE = "without noise the three methods are alike"
SLIGHTLY = (-0.004, -0.006, -0.002)


def judged(table: pd.DataFrame) -> dict[str, str]:
    return {claim.statement: claim.judgement for claim in check_claims(table, "kidney")}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (differences_of(UP, UP, NONE), {SOFT: "agrees", INSTEAD: "agrees", THRESHOLD: "agrees"}),
        (
            differences_of(DOWN, DOWN, DOWN),
            {SOFT: "does not agree", INSTEAD: "not tested", THRESHOLD: "does not agree"},
        ),
        (differences_of(UP, UP, DOWN), {INSTEAD: "does not agree"}),
        (differences_of(UP, UP, SLIGHTLY), {INSTEAD: "agrees"}),  # alike: below .01
        (differences_of(UP, SLIGHTLY, UP), {SOFT: "agrees", INSTEAD: "not tested"}),
        (differences_of(NONE, NONE, NONE), {SOFT: "agrees", THRESHOLD: "undecided", GROWTH: "undecided"}),
        (differences_of(UP), {SOFT: "not tested", INSTEAD: "not tested", THRESHOLD: "agrees"}),
        (differences_of(None, UP), {SOFT: "agrees", INSTEAD: "not tested", THRESHOLD: "not tested"}),
    ],
)
def test_statements_are_judged_by_the_numbers(table, expected):
    found = judged(table)
    assert {statement: found[statement] for statement in expected} == expected


def test_without_noise():
    assert judged(differences_of(NONE, NONE, NONE, strengths=(0.0, 0.03)))[ALIKE] == "agrees"
    assert judged(differences_of(UP, NONE, NONE, strengths=(0.0, 0.03)))[ALIKE] == "does not agree"
    assert judged(differences_of(NONE, strengths=(0.0, 0.03)))[ALIKE] == "not tested"
    assert ALIKE not in judged(differences_of(NONE, NONE, NONE))


def test_the_gain_grows_or_falls():
    table = differences_of(UP, UP, NONE, strengths=(0.01, 0.02, 0.03))
    assert judged(table)[GROWTH] == "does not agree", "equal gains do not grow"
    table.loc[(table["a"] == 0.03) & (table["difference"] == "CE(*)-CE(0)"), "mean"] = 0.025
    assert judged(table)[GROWTH] == "agrees"
    assert check_claims(table, "kidney")[-1].evidence == "+.0200 at a = .01, +.0250 at a = .03"
    assert GROWTH not in judged(differences_of(UP, UP, NONE, strengths=(0.03,)))


def test_too_few_cases_are_one_undecided_row():
    assert check_claims(differences_of(UP, UP, NONE, n=4), "kidney") == [
        Claim("all of them", "undecided", "4 cases are too few")
    ]


def test_agreement_counts_and_says_where_it_is_cheap():
    table = differences_of(UP, UP, NONE, organs=("kidney", "aorta"))
    table.loc[(table["organ"] == "aorta") & (table["difference"] == "SD(0)-CE(0)"), ["mean", "lo"]] = 0.004
    claims = [Claim("one", "agrees", ""), Claim("two", "undecided", ""), Claim("three", "agrees", "")]
    text = agreement(claims, table)
    assert text.startswith("Statements checked: 3, of which “agrees” 2, “undecided” 1. Methods count as alike if")
    assert "in 2 of the 4 noisy settings in which soft-Dice gains over CE(0), the whole gain is smaller" in text
    assert agreement([], differences_of(UP)) == "Statements checked: 0."
