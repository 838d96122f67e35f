"""The spread over training seeds, from two seeds that are .02 apart."""

from __future__ import annotations

from reproduction.report.results import pooled
from reproduction.report.seeds import HEADER, seed_rows, seed_sentences, with_seeds
from small_results import grown_results, small_results


def test_rows_of_presets_with_several_seeds():
    results = {"one": small_results(), "two": grown_results()}
    assert with_seeds(results) == ["two"]
    assert HEADER == ["organ", "a", "seeds", "CE(0)", "SD(0)", "CE(*)", "CE(*) − CE(0)", "CE(*) − SD(0)"]
    # The means of the two trainings are .02 apart: a standard deviation of .02 / sqrt(2), whatever the method.
    (row,) = seed_rows(pooled({"two": results["two"]}, "summary"), pooled({"two": results["two"]}, "differences"))
    spread = [".535 ± .0141", ".535 ± .0141", ".635 ± .0141"]
    assert row == ["hippocampus", ".02", "2", *spread, "+.100 ± .0000", "+.100 ± .0000"]
    mixed = pooled(results, "summary")
    assert [row[0] for row in seed_rows(mixed, pooled(results, "differences"))] == ["hippocampus (two)"]
    assert seed_rows(pooled({"one": results["one"]}, "summary"), pooled(results, "differences")) == []


def test_the_spread_in_words():
    assert seed_sentences(small_results()) == (
        "one seed only (1), so how much another training would change is not known."
    )
    text = seed_sentences(grown_results())
    assert text.startswith(
        "over 2 seeds the mean of a cell has a standard deviation of .0141 on average, .0141 at most"
    )
    assert text.endswith("of two masks of one network, has .0000 on average, .0000 at most.")


def test_empty_trainings_are_said():
    results = grown_results()
    empty = (results.cases["method"] == "CE(0)") & (results.cases["training_seed"] == 4)
    results.cases.loc[empty, "volume"] = 0
    text = seed_sentences(results)
    assert "in 1 of 2 trainings (seed 4, fold 0: 6 cases) every mask is empty" in text
    assert text.endswith("Intervals over cases do not say how often that happens.")
