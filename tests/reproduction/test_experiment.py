"""The rows and sentences of the experiment chapter, from six cases that can be added up."""

from __future__ import annotations

import itertools

import pandas as pd

from reproduction.report.experiment import (
    BRIEF_HEADER,
    DIFFERENCE_HEADER,
    GAP_HEADER,
    QUALITY_HEADER,
    SCORE_HEADER,
    brief_rows,
    difference_rows,
    gap_rows,
    gap_sentences,
    main_rows,
    quality_rows,
    second_look_rows,
    volume_sentences,
)
from reproduction.runs.statistics import failed_trainings, paired_differences, summarise
from reproduction.runs.tables import Results
from small_results import DOWN, NONE, UP, differences_of, small_results

SMALL = small_results()
PAPER = pd.DataFrame([{"organ": "kidney", "a": 0.03, "method": "CE(*)", "dice": 0.7055}])


def test_our_means_with_the_papers_below_and_the_best_bold():
    published = pd.concat([PAPER, *(PAPER.assign(organ="hippocampus", a=a) for a in (0.02, 0.03))])
    ours, paper = main_rows(SMALL.summary, published)
    assert SCORE_HEADER == ["organ", "a", "CONST(0)", "CONST(*)", "CE(0)", "SD(0)", "CE(*)", "ceiling"]
    assert ours[:4] == ["hippocampus", ".02", "", ""] and ours[7] == ".800"
    assert ours[4].startswith(".525 [") and ours[6].startswith("<b>.625 [")
    assert ours[6].endswith("]</b><br><small>paper .7055</small>") and "<b>" not in ours[4] + ours[5]
    assert paper == ["hippocampus", ".03", "", "", "", "", "<small>paper .7055</small>", ""]


def test_a_constant_shape_has_its_place_and_is_never_the_best():
    best = SMALL.summary[SMALL.summary["method"] == "CE(*)"].assign(method="CONST(*)", dice_noisy=0.9)
    (row,) = main_rows(pd.concat([SMALL.summary, best]), PAPER[:0])
    assert row[2] == "" and row[3].startswith(".900 [") and row[6].startswith("<b>.625 [")


def test_a_method_that_was_not_scored_leaves_its_place_empty():
    (row,) = main_rows(SMALL.summary[SMALL.summary["method"] != "SD(0)"], PAPER[:0])
    assert row[5] == "" and row[6].startswith("<b>.625")
    assert main_rows(pd.DataFrame(columns=SMALL.summary.columns), PAPER[:0]) == []


def test_differences_are_bold_where_they_are_decided():
    assert DIFFERENCE_HEADER == ["organ", "a", "cases", "CE(*) − CE(0)", "SD(0) − CE(0)", "CE(*) − SD(0)"]
    assert difference_rows(differences_of(UP, NONE, DOWN, strengths=(0.03,))) == [
        ["kidney", ".03", "50", "**+.020 [.010, .030]**", "+.000 [−.010, .010]", "**−.020 [−.030, −.010]**"]
    ]
    assert difference_rows(differences_of(None, UP, strengths=(0.01,)))[0][3:] == ["—", "**+.020 [.010, .030]**", "—"]


def test_the_gap_to_the_ceiling_by_hand():
    (row,) = gap_rows(SMALL.cases)
    assert len(row) == len(GAP_HEADER) and row[:4] == ["hippocampus", ".02", ".800", ".790"]
    # .8 minus the mean of .5, .51, …, .55; and of .6, .61, …, .65
    assert [text.split()[0] for text in row[4:]] == [".275", ".275", ".175"]
    assert gap_rows(SMALL.cases[SMALL.cases["method"] != "SD(0)"])[0][5] == "—"


def test_the_gap_in_words():
    text = gap_sentences(SMALL.cases, SMALL.summary)
    assert text == (
        "At a = .02 on the hippocampus, the ceiling is .800; the best method there, CE(*), reaches .625, 78 % of it. "
        "The two versions of the ceiling differ by .010 at most."
    )
    unsampled = SMALL.summary.assign(ceiling_mc=float("nan"))
    assert gap_sentences(SMALL.cases, unsampled).endswith("78 % of it.")
    assert gap_sentences(SMALL.cases[:0], SMALL.summary[:0]) == ""


def test_thresholds_and_volumes_in_words():
    assert volume_sentences(SMALL.summary) == (
        "- hippocampus, a = .02: mean threshold of CE(*) .500 [.500, .500]; volume over expected volume CE(0) 1.00, "
        "SD(0) 1.00, CE(*) 1.00."
    )
    soft = SMALL.summary[SMALL.summary["method"] == "SD(0)"]
    assert volume_sentences(soft) == "- hippocampus, a = .02: volume over expected volume SD(0) 1.00."


def test_a_failed_training_is_left_out_of_the_second_look():
    rows = []
    for seed, fold in itertools.product((1, 2), range(2)):
        failed = (seed, fold) == (2, 0)
        for k in range(5):
            for method, value in (("CE(0)", 0.0 if failed else 0.5), ("CE(*)", 0.6 + 0.001 * k), ("SD(0)", 0.6)):
                row = {"organ": "o", "a": 0.03, "training_seed": seed, "fold": fold, "case": f"case_{5 * fold + k}"}
                score = {f"dice_{part}": value for part in ("noisy", "clean", "marginal")}
                rows.append({**row, "method": method, "volume": 0 if failed and method == "CE(0)" else 9, **score})
    cases = pd.DataFrame(rows)
    assert failed_trainings(cases).to_numpy().tolist() == [["o", 0.03, 2, 0]]
    differences = paired_differences(cases)
    table = second_look_rows(Results(cases, cases, differences, cases, {}))
    assert [row[2] for row in table] == ["CE(*) − CE(0)", "SD(0) − CE(0)", "CE(*) − SD(0)"]
    assert table[0][3].startswith("+.227 [") and table[0][4].strip("*").startswith("+.102 [")  # .102 + 1/4 of .5
    sound = cases[(cases["training_seed"] == 1)]
    assert second_look_rows(Results(sound, sound, paired_differences(sound), sound, {})) == []


def test_a_row_an_organ_for_the_first_page():
    (row,) = brief_rows(SMALL.summary, SMALL.differences)
    assert BRIEF_HEADER[:6] == ["organ", "a", "CE(0)", "SD(0)", "CE(*)", "ceiling"]
    assert row[:6] == ["hippocampus", ".02", ".525", ".525", ".625", ".800"]
    assert row[6:] == ["<b>+.100 [.100, .100]</b>"] * 2
    (row,) = brief_rows(SMALL.summary[SMALL.summary["method"] == "CE(0)"], SMALL.differences[:0])
    assert row[3:5] == ["—", "—"] and row[6:] == ["—", "—"]


def test_other_measures_have_a_row_each_where_they_were_taken():
    cases = SMALL.cases.assign(surface_noisy=1.5, volume_ceiling=120)
    assert [row[2] for row in quality_rows(SMALL.summary)] == ["Dice, clean label", "volume / expected volume"]
    clean, surface, volume = quality_rows(summarise(cases))
    assert len(QUALITY_HEADER) == len(volume) == 7
    assert clean[3] == ".525 [.505, .545]" and surface[2:4] == ["surface distance, mm", "1.500 [1.500, 1.500]"]
    assert volume[3:] == ["1.000 [1.000, 1.000]"] * 3 + ["1.200 [1.200, 1.200]"]
    assert clean[6] == surface[6] == "—"
    older = SMALL.summary.assign(ceiling_ratio=float("nan"))  # in one table with newer runs, which have the column
    assert quality_rows(older)[-1][6] == "—"
