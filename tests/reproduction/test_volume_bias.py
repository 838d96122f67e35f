"""Tests of reproduction.report.volume_bias, from volumes that can be added up and from known distributions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reproduction.report import volume_bias as report
from reproduction.report.volume_bias import bias_table, by_size, measured, recalibrate, slope_of


def cases_of(x, v, label=None, method="CE(0)", a=0.02, folds=5, **more) -> pd.DataFrame:
    v = np.asarray(v, dtype=float)
    rows = {"organ": "kidney", "a": a, "fold": np.arange(len(v)) % folds, "method": method, "volume": x}
    rows |= {"case": [f"case_{k:03d}" for k in range(len(v))], "volume_marginal": v}
    return pd.DataFrame({**rows, "volume_noisy": v if label is None else label, **more})


def test_bias_and_slope_by_hand():
    """V = 10, 20, 30 measured as 15, 20, 25: no bias on average, and the error falls by 1/2 a unit of volume."""
    row = bias_table(cases_of([15, 20, 25], [10, 20, 30], folds=3)).loc[0]
    assert (row["measure"], row["n"]) == ("CE(0)", 3)
    assert row["bias"] == pytest.approx(0) and row["slope"] == pytest.approx(-0.5)
    assert row["reverse"] == pytest.approx(1.0), "the label moves by two where the measure moves by one"
    assert row["rms"] == pytest.approx(np.sqrt(50 / 3) / 20)
    assert row["bias_after"] == pytest.approx(0) and row["rms_after"] == pytest.approx(0), "a line repairs a line"
    row = bias_table(cases_of([11, 22, 33], [10, 20, 30], folds=3)).loc[0]
    assert row["bias"] == pytest.approx(0.1) == pytest.approx(row["slope"])


def test_seeds_are_averaged_first_and_persons_kept_together():
    one, other = (cases_of([15 + d, 20 + d, 25 + d], [10, 20, 30]) for d in (-2, 4))
    both = pd.concat([one.assign(training_seed=1), other.assign(training_seed=2)]).assign(person="x")
    rows = measured(both, "CE(0)")
    assert rows is not None and rows["x"].tolist() == [16, 21, 26] and rows["person"].tolist() == ["x"] * 3
    assert bias_table(both).loc[0, "bias"] == pytest.approx(1 / 20)


def test_soft_volumes_are_measured_where_they_were_scored():
    old = cases_of([15, 20, 25], [10, 20, 30])
    assert bias_table(old)["measure"].tolist() == ["CE(0)"]
    new = pd.concat([old, old.assign(method="SD(0)")]).assign(soft_volume=[11.0, 21.0, 31.0] * 2)
    table = bias_table(new).set_index("measure")
    assert list(table.index) == ["CE(0)", "SD(0)", "CE soft", "SD soft"]
    assert table.loc["CE soft", "bias"] == pytest.approx(1 / 20) and table.loc["CE soft", "slope"] == pytest.approx(0)
    mixed = pd.concat([old, new.assign(organ="aorta")])
    assert bias_table(mixed).groupby("organ")["measure"].apply(list)["kidney"] == ["CE(0)"]

    class Result:
        def __init__(self, cases: pd.DataFrame) -> None:
            self.cases = cases

    text = report.without_soft({"old": Result(old), "new": Result(new)})
    assert text.startswith("The sum of the map was not scored yet in old;")
    assert report.without_soft({"new": Result(new)}) == ""


def test_recalibration_uses_the_other_folds_alone():
    rows = pd.DataFrame({"fold": [0, 0, 1, 1], "x": [1.0, 2.0, 1.0, 2.0], "label": [10.0, 20.0, 1.0, 2.0]})
    found = recalibrate(rows)
    assert found is not None and found.tolist() == pytest.approx([1, 2, 10, 20])
    assert recalibrate(rows[rows["fold"] == 0]) is None, "one fold has no others"
    assert recalibrate(rows.assign(x=3.0)) is None, "one volume has no line"
    table = bias_table(cases_of([0, 0, 0, 0], [1, 2, 3, 4]))
    assert np.isnan(table.loc[0, "bias_after"]) and np.isnan(table.loc[0, "reverse"]) and table.loc[0, "slope"] == -1


@pytest.mark.statement("prop-regression")
def test_a_perfect_volume_shrinks():
    """|L| = X + noise: X against |L| has the slope Var X / Var |L|, |L| against X the slope 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(100, 10, 20_000)
    label = x + rng.normal(0, 5, x.size)
    rows = cases_of(x, x, folds=20_000)
    there, back = slope_of(rows, x, label), slope_of(rows, label, x)
    assert there.mean == pytest.approx(np.cov(x, label)[0, 1] / np.var(label, ddof=1), rel=1e-12)
    assert there.interval[0] < 100 / 125 < there.interval[1] < 1
    assert back.interval[0] < 1 < back.interval[1]
    with pytest.raises(ValueError, match="different volumes"):
        slope_of(rows, x, np.ones(x.size))


def test_intervals_cover():
    """Of 100 samples of 40 cases, about 95 % of the intervals of bias and slope hold the true values."""
    rng, held = np.random.default_rng(1), np.zeros(2)
    for _ in range(100):
        v = rng.uniform(50, 150, 40)
        x = 20 + 0.7 * v + rng.normal(0, 10, 40)
        row = bias_table(cases_of(x, v, folds=40)).loc[0]
        held += [
            row["bias_lo"] < -0.1 < row["bias_hi"],
            row["slope_lo"] < -0.3 < row["slope_hi"],
        ]
    assert (held > 88).all() and (held < 100).all()


def test_fifths_of_the_cases():
    v = np.arange(1.0, 11.0)
    table = by_size(cases_of(v + 1, v))
    assert table["part"].tolist() == [1, 2, 3, 4, 5]
    assert table["bias"].tolist() == pytest.approx([1 / 1.5, 1 / 3.5, 1 / 5.5, 1 / 7.5, 1 / 9.5])
    assert table["v"].iloc[0] == pytest.approx(1.5 / 5.5)
    assert by_size(cases_of([1], [1])).empty


def test_rows_and_words():
    v = np.linspace(50, 150, 20)
    rng = np.random.default_rng(0)
    cases = pd.concat(
        [
            cases_of(0.5 * v + rng.normal(0, 1, 20), v),
            cases_of(40 + v + rng.normal(0, 1, 20), v, method="SD(0)"),
            cases_of(40 + v + rng.normal(0, 2, 20), v, method="CE(*)"),
        ]
    )
    table = bias_table(cases)
    (row,) = report.bias_rows(table)
    assert row[:2] == ["kidney", ".02"] and row[2].startswith("**−50.") and row[4].startswith("**+40.")
    assert row[5:] == ["—"] * 3
    assert report.bias_rows(table, "slope")[0][2].startswith("**−.5")
    assert report.error_rows(table)[0][5] == "—" and " → " in report.error_rows(table)[0][2]
    shift = report.shift_verdict(table)
    assert "CE(0) too small in 1 of 1, too large in 0; CE(*) too small in 0 of 1, too large in 1" in shift
    assert report.size_answer(table).startswith("mixed: the slope is below 0 with its whole interval in 1 of 3")
    assert report.size_answer(table[table["measure"] == "CE(0)"]).startswith("shown")
    assert "CE(0) below 0 in 1 of 1, above in 0, undecided in 0" in report.slope_verdict(table)
    assert report.bias_verdict(table).startswith("- kidney, a = .02: CE(0) −50 %, CE(*) +4")
    assert report.least_error(table.assign(rms=[0.3, 0.1, 0.2]), "rms") == "CE(*) in 1 of 1 settings"


def test_nothing_was_run():
    none = bias_table(pd.DataFrame(columns=["organ", "a", "method", "case"]))
    assert none.empty and report.bias_rows(none) == [] and report.error_rows(none) == []
    assert report.shift_verdict(none) == report.size_answer(none) == report.least_error(none) == "not measured."
    assert report.slope_verdict(none) == "nothing was scored." and report.bias_verdict(none) == ""
