"""What differences say in words, on tables whose verdict is known."""

from __future__ import annotations

import pandas as pd
import pytest

from reproduction.report.verdicts import (
    OVER_CONSTANT,
    answer,
    constant_sentence,
    front_page,
    headline,
    outcome,
    pick,
    recovered,
    tally,
    tally_sentence,
    verdict,
)
from small_results import DOWN, NONE, UP, difference, differences_of, results_of

MORE = (0.04, 0.03, 0.05)


@pytest.mark.parametrize(
    ("row", "words", "kind"),
    [
        (difference(0.012, 0.008, 0.016), "CE(*) beats CE(0) by .012 [.008, .016]", "better"),
        (difference(-0.012, -0.016, -0.008), "CE(*) is worse than CE(0) by .012 [.008, .016]", "worse"),
        (difference(0.002, -0.001, 0.005), "CE(*) and CE(0) cannot be told apart (+.002 [−.001, .005])", "undecided"),
        (difference(0.0, 0.0, 0.0), "CE(*) and CE(0) cannot be told apart (+.000 [.000, .000])", "undecided"),
        (difference(0.2, 0.1, 0.3, n=4), "CE(*) against CE(0): +.200, on 4 cases, too few to say", "undecided"),
        (difference(0.2, 0.1, 0.3, n=5), "CE(*) beats CE(0) by .200 [.100, .300]", "better"),
    ],
)
def test_one_difference_in_words(row, words, kind):
    assert verdict(row) == words
    assert outcome(row) == kind


def test_a_row_is_found_by_organ_strength_and_pair():
    table = differences_of(UP, None, DOWN, organs=("kidney", "aorta"))
    table = pd.concat([table.assign(score="dice_clean", mean=9.0), table])
    row = pick(table, "aorta", 0.03, "CE(*)-SD(0)")
    assert row is not None and (row["organ"], row["mean"]) == ("aorta", -0.02)
    assert pick(table, "aorta", 0.03, "SD(0)-CE(0)") is None, "soft-Dice was not trained"
    assert pick(table, "liver", 0.03, "CE(*)-CE(0)") is None


def test_settings_without_noise_are_not_counted():
    table = differences_of(UP, strengths=(0.0, 0.01, 0.02))
    table.loc[table["a"] == 0.02, ["mean", "lo", "hi"]] = NONE
    assert tally(table, "CE(*)-CE(0)") == {"better": 1, "worse": 0, "undecided": 1}
    assert tally_sentence(table, "CE(*)-CE(0)").startswith("Over all 2 noisy settings CE(*) is better than CE(0) in 1,")
    assert tally_sentence(table[table["a"] == 0.02], "CE(*)-CE(0)").startswith("Over the one noisy setting CE(*)")
    assert tally_sentence(table, "CE(*)-SD(0)") == ""


@pytest.mark.parametrize(
    ("differences", "first"),
    [
        (
            differences_of(UP, UP, NONE),
            "Yes: the Dice threshold lifts cross-entropy, and soft-Dice is ahead of it nowhere",
        ),
        (differences_of(UP, UP, UP), "Yes:"),
        (
            differences_of(UP, MORE, DOWN),
            "In part: the Dice threshold lifts cross-entropy, but soft-Dice stays ahead in 2 of 2",
        ),
        (differences_of(DOWN, UP, DOWN), "No: here the Dice threshold lowers the score of cross-entropy"),
        (differences_of(NONE, NONE, NONE), "Undecided: the two thresholds for cross-entropy cannot be told apart"),
        (differences_of(UP, UP, NONE, n=4), "Undecided: there are too few cases"),
        (differences_of(UP), "Half an answer: the Dice threshold lifts cross-entropy, and nothing was trained with"),
        (differences_of(NONE), "Undecided: the two thresholds"),
        (differences_of(None, UP), "No answer: nothing was trained with cross-entropy on noisy labels"),
        (differences_of(UP, UP, NONE, strengths=(0.0,)), "No answer:"),
        (pd.concat([differences_of(UP, strengths=(0.01,)), differences_of(DOWN)]), "Mixed: the Dice threshold lifts"),
    ],
)
def test_the_headline_follows_the_numbers(differences, first):
    assert headline(differences).startswith(first)


def test_the_largest_lead_of_soft_dice_is_said():
    table = differences_of(UP, MORE, DOWN)
    table.loc[(table["a"] == 0.02) & (table["difference"] == "CE(*)-SD(0)"), ["mean", "lo", "hi"]] = (
        -0.05,
        -0.06,
        -0.04,
    )
    assert headline(table).endswith("ahead in 2 of 2 noisy settings, by .050 at most.")


@pytest.mark.parametrize(
    ("differences", "sentence"),
    [
        (
            differences_of(UP, UP, NONE),
            "Of the gain of soft-Dice the threshold alone gives 100 and 100 % at a = .02 and .03.",
        ),
        (
            differences_of(UP, MORE, DOWN),
            "Of the gain of soft-Dice the threshold alone gives 50 and 50 % at a = .02 and .03.",
        ),
        (
            differences_of(DOWN, UP, DOWN),
            "Of the gain of soft-Dice the threshold alone gives −100 and −100 % at a = .02 and .03.",
        ),
        (differences_of(UP, NONE, UP), "At a = .02 and .03 soft-Dice has no gain over CE(0) that the cases support."),
        (differences_of(UP), ""),
    ],
)
def test_the_share_that_the_threshold_alone_gives(differences, sentence):
    assert recovered(differences, "kidney") == sentence


def test_both_kinds_of_settings_have_their_sentence():
    table = pd.concat(
        [differences_of(UP, MORE, DOWN, strengths=(0.03,)), differences_of(UP, NONE, UP, strengths=(0.01,))]
    )
    assert recovered(table, "kidney") == (
        "Of the gain of soft-Dice the threshold alone gives 50 % at a = .03. "
        "At a = .01 soft-Dice has no gain over CE(0) that the cases support."
    )


def test_the_answer_of_one_organ():
    assert answer(results_of(differences_of(UP, UP, NONE))) == (
        "**Yes: the Dice threshold lifts cross-entropy, and soft-Dice is ahead of it nowhere.** "
        "At a = .03 on the kidney, CE(*) beats CE(0) by .020 [.010, .030], and CE(*) and SD(0) cannot be told apart "
        "(+.000 [−.010, .010]). Of the gain of soft-Dice the threshold alone gives 100 and 100 % at a = .02 and .03. "
        "Over all 2 noisy settings CE(*) is better than CE(0) in 2, worse in 0 and undecided in 0. "
        "Over all 2 noisy settings CE(*) is better than SD(0) in 0, worse in 0 and undecided in 2."
    )


def test_the_answer_names_every_organ_and_only_what_was_scored():
    text = answer(results_of(differences_of(UP, organs=("kidney", "aorta"))))
    assert "on the kidney, CE(*) beats CE(0) by .020 [.010, .030]. At a = .03 on the aorta" in text
    assert "SD(0)" not in text and "gain of soft-Dice" not in text
    assert answer(results_of(differences_of(None, UP))).endswith("on noisy labels.**")


def test_the_answer_ends_with_empty_trainings():
    row = {"organ": "kidney", "a": 0.03, "case": "x", "method": "CE(0)", "fold": 0, "volume": 0, "dice_noisy": 0.0}
    cases = pd.DataFrame([row, {**row, "case": "y", "fold": 1, "volume": 5, "dice_noisy": 0.5}])
    assert "Kidney, a = .03, CE(0): in 1 of 2 trainings (fold 0: 1 case) every mask is empty" in answer(
        results_of(differences_of(UP, UP, NONE), cases)
    )


def test_a_network_that_is_no_better_than_a_constant_shape_is_named():
    rows = [
        {"organ": organ, "a": a, "difference": name, "score": "dice_noisy", "n": 9, "lo": lo, "hi": 0.2}
        for organ, a, los in (
            ("aorta", 0.0, (0.1, 0.1)),
            ("aorta", 0.02, (-0.1, 0.0)),
            ("aorta", 0.03, (-0.1, -0.1)),
            ("kidney", 0.03, (-0.1, 0.1)),
        )
        for name, lo in zip(OVER_CONSTANT, los, strict=True)
    ]
    table = pd.DataFrame(rows)
    said = "neither CE(*) nor SD(0) is shown to be better than CONST(*), a constant shape that never sees the image."
    assert constant_sentence(table) == f"At a = .02 and .03 on the aorta {said}"
    assert constant_sentence(table[table["a"] == 0.0]) == constant_sentence(table[:1]) == ""
    full = pd.concat([differences_of(UP, UP, NONE), table])
    assert constant_sentence(full) in answer(results_of(full))
    assert constant_sentence(full) in front_page({"mine": results_of(full)})


def test_the_front_page_has_a_sentence_for_each_preset():
    row = {"organ": "kidney", "a": 0.03, "case": "x", "method": "CE(0)", "fold": 0, "volume": 0, "dice_noisy": 0.0}
    cases = pd.DataFrame([row, {**row, "case": "y", "fold": 1, "volume": 5}])
    yes, no = results_of(differences_of(UP, UP, NONE), cases), results_of(differences_of(DOWN, UP, NONE), cases[1:])
    first, second = front_page({"hippocampus": yes, "mine": no}).split("</p>")[:2]
    assert first.startswith(
        f"<p>On the hippocampus in MRI: <b>{headline(yes.differences)}</b> Kidney, a = .03, CE(0): in 1"
    )
    assert second == f"<p>mine: <b>{headline(no.differences)}</b>"
    assert front_page({}) == "<p>No preset has been run yet.</p>"
