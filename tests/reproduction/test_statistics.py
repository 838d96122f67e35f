"""Tests of statistics: several training seeds and other rules, added up by hand; single seeds are in
test_tables.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproduction.runs.statistics import QUANTITIES, empty_trainings, paired_differences, seeds_of, summarise
from reproduction.scoring.inference import estimate
from reproduction.scoring.rules import CONSTANTS, METHODS, OTHER_RULES
from reproduction.scoring.scores import OTHER_DIFFERENCES

MAIN = ("CE(0)", "SD(0)", "CE(*)")


def row(case: str, method: str, dice: float, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "organ": "kidney", "a": 0.02, "fold": 0, "case": case, "method": method, "threshold": 0.5, "volume": 4,
        "volume_noisy": 9, "volume_clean": 10, "volume_marginal": 8.0, "dice_noisy": dice, "dice_clean": dice + 0.1,
        "dice_marginal": dice - 0.1, "ceiling": 0.9, "ceiling_half": 0.89, "ceiling_mc": 0.91, "soft_volume": 12.0,
        "surface_noisy": 1.5, "volume_ceiling": 10,
    }  # fmt: skip
    return {**values, **changes}


def two_seeds() -> pd.DataFrame:
    """Two cases, two trainings; CE(*) gains .10 and .20 with the first, .00 and .04 with the second."""
    dice = {
        "CE(0)": {("x", 1): 0.50, ("x", 2): 0.60, ("y", 1): 0.70, ("y", 2): 0.76},
        "SD(0)": {("x", 1): 0.50, ("x", 2): 0.60, ("y", 1): 0.70, ("y", 2): 0.76},
        "CE(*)": {("x", 1): 0.60, ("x", 2): 0.60, ("y", 1): 0.90, ("y", 2): 0.80},
    }
    return pd.DataFrame(
        [row(c, m, value, training_seed=s) for m, values in dice.items() for (c, s), value in values.items()]
    )


# ---- seeds, by hand ----


def test_a_case_counts_once_with_its_mean_over_the_seeds():
    summary = summarise(two_seeds()).set_index("method")
    assert summary["n"].tolist() == [2, 2, 2] and summary["seeds"].tolist() == [2, 2, 2]
    assert summary.loc["CE(0)", "dice_noisy"] == pytest.approx((0.55 + 0.73) / 2)
    mean = estimate([(0.50 + 0.60) / 2, (0.70 + 0.76) / 2])
    expected = (mean.mean, *mean.interval)
    assert summary.loc["CE(0)", ["dice_noisy", "dice_noisy_lo", "dice_noisy_hi"]].tolist() == list(expected)
    # Means of the two trainings: .60 and .68. With n - 1 their standard deviation is .08 / sqrt(2).
    assert summary.loc["CE(0)", "dice_noisy_seed_sd"] == pytest.approx(0.08 / math.sqrt(2))
    assert summary.loc["CE(*)", "dice_noisy_seed_sd"] == pytest.approx(0.05 / math.sqrt(2))
    assert summary.loc["CE(0)", "ceiling_seed_sd"] == 0.0


def test_the_columns_of_several_seeds_come_beside_those_of_one():
    several, one = summarise(two_seeds()), summarise(two_seeds().query("training_seed == 2"))
    assert one.columns.tolist() == ["organ", "a", "method", "n"] + [
        name + end for name in QUANTITIES for end in ("", "_lo", "_hi")
    ]
    added = ["seeds", *(f"{name}_seed_sd" for name in QUANTITIES)]
    assert [name for name in several if name not in one] == added
    plain = summarise(two_seeds().query("training_seed == 2").drop(columns="training_seed"))
    pd.testing.assert_frame_equal(one, plain)
    assert "seed_sd" not in paired_differences(two_seeds().query("training_seed == 2"))


def test_differences_pair_the_networks_of_one_seed():
    found = paired_differences(two_seeds()).query("score == 'dice_noisy'").set_index("difference")
    gain = found.loc["CE(*)-CE(0)"]
    assert gain["mean"] == pytest.approx((0.10 + 0.00 + 0.20 + 0.04) / 4) and (gain["n"], gain["seeds"]) == (2, 2)
    assert (gain["lo"], gain["hi"]) == pytest.approx(estimate([0.05, 0.12]).interval, abs=1e-12)
    assert gain["seed_sd"] == pytest.approx((0.15 - 0.02) / math.sqrt(2)), "the mean gains are .15 and .02"
    # Alike with each seed: no spread, although each method's own spread is .08 / sqrt(2).
    assert found.loc["SD(0)-CE(0)", "seed_sd"] == 0.0


def test_the_order_of_rows_does_not_matter():
    cases = two_seeds()
    shuffled = cases.sample(frac=1, random_state=5)
    first = cases.drop_duplicates("method")["method"]
    expected = summarise(cases).set_index("method").loc[first]
    found = summarise(shuffled).set_index("method").loc[first]
    pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(paired_differences(shuffled), paired_differences(cases))


@settings(max_examples=6)
@given(st.sampled_from([2, 4]), st.integers(2, 5), st.integers(0, 2**32 - 1))  # their mean is exact
def test_copies_of_one_training_change_no_mean_and_no_interval(seeds, count, seed):
    rng = np.random.default_rng(seed)
    one = pd.DataFrame([row(f"c{k}", m, v) for k in range(count) for m, v in zip(MAIN, rng.random(3), strict=True)])
    many = pd.concat([one.assign(training_seed=s) for s in range(seeds)])
    for make in (summarise, paired_differences):
        single, several = make(one), make(many)
        extra = [name for name in several if name not in single]
        pd.testing.assert_frame_equal(several.drop(columns=extra), single, rtol=1e-9)
        spread = several[[name for name in extra if name != "seeds"]].to_numpy()
        assert (np.nan_to_num(spread) <= 1e-15).all() and (several["seeds"] == seeds).all()


@settings(max_examples=8)
@given(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_a_shift_of_a_whole_training_is_seen_in_the_spread_and_not_in_the_interval(first, second):
    base = two_seeds().assign(dice_noisy=lambda t: np.where(t["case"] == "x", 0.4, 0.6))
    shifted = base.assign(dice_noisy=base["dice_noisy"] + np.where(base["training_seed"] == 1, first, second))
    cell = summarise(shifted).iloc[0]
    assert cell["dice_noisy_seed_sd"] == pytest.approx(abs(first - second) / math.sqrt(2), abs=1e-12)
    assert cell["dice_noisy_hi"] - cell["dice_noisy_lo"] == pytest.approx(0.2 * 12.7062, rel=1e-5)  # t of one degree


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(index=1), r"kidney, a = 0\.02, CE\(0\): not every case was scored with every training seed"),
        (lambda t: pd.concat([t, t.iloc[[3]]]), r"kidney, a = 0\.02, CE\(0\): y was scored twice with seed 2"),
        (
            lambda t: t.assign(dice_clean=t["dice_clean"].where(t.index != 6)),
            r"kidney, a = 0\.02, SD\(0\), dice_clean: values have shape",
        ),
    ],
)
def test_incomplete_seeds_have_no_summary(change, message):
    with pytest.raises(ValueError, match=message):
        summarise(change(two_seeds()))


def test_incomplete_seeds_cannot_be_paired():
    cases = two_seeds()
    with pytest.raises(ValueError, match=r"CE\(\*\) and CE\(0\) were not scored on the same cases"):
        paired_differences(cases.drop(index=1))
    with pytest.raises(ValueError, match=r"not every case was scored with every training seed of \[1, 2\]"):
        paired_differences(cases.query("case != 'y' or training_seed != 2"))
    with pytest.raises(ValueError, match=r"CE\(0\) was scored twice on y"):
        paired_differences(pd.concat([cases, cases.iloc[[3]]]))


def test_seeds_of_a_table():
    assert seeds_of(two_seeds()) == [1, 2]
    assert seeds_of(two_seeds().drop(columns="training_seed")) == []


# ---- other rules ----


def with_other_rules() -> pd.DataFrame:
    """One training; CE(fold) .01 above CE(*), CE(rank) equal to it, CE(oracle) .05 above; SD(fold) .02 above SD(0)."""
    above = {"CE(0)": 0.0, "SD(0)": 0.03, "CE(*)": 0.02, "CE(fold)": 0.03, "SD(fold)": 0.05, "CE(rank)": 0.02}
    above |= {"CE(rank BA)": 0.02, "CE(oracle)": 0.07}
    return pd.DataFrame([row(c, m, d + gain) for c, d in (("x", 0.5), ("y", 0.8)) for m, gain in above.items()])


def test_other_rules_are_summarised_and_compared():
    cases = with_other_rules()
    assert summarise(cases)["method"].tolist() == list(dict.fromkeys(cases["method"]))
    found = paired_differences(cases).query("score == 'dice_noisy'").set_index("difference")["mean"]
    expected = {
        "CE(*)-CE(0)": 0.02, "SD(0)-CE(0)": 0.03, "CE(*)-SD(0)": -0.01,
        "CE(fold)-CE(0)": 0.03, "CE(*)-CE(fold)": -0.01, "SD(fold)-SD(0)": 0.02, "CE(fold)-SD(fold)": -0.02,
        "CE(rank)-CE(*)": 0.0, "CE(rank BA)-CE(*)": 0.0, "CE(oracle)-CE(*)": 0.05,
    }  # fmt: skip
    assert found.to_dict() == pytest.approx(expected, abs=1e-12)
    assert list(found.index) == list(expected)


def test_the_pairs_are_of_known_methods():
    assert {method for pair in OTHER_DIFFERENCES for method in pair} <= {*METHODS, *OTHER_RULES, *CONSTANTS}
    assert {method for pair in OTHER_DIFFERENCES for method in pair} >= set(OTHER_RULES), "none is left uncompared"


def test_pairs_with_a_method_that_was_not_scored_are_left_out():
    cases = with_other_rules().query("method not in ('CE(rank)', 'CE(rank BA)')")
    names = set(paired_differences(cases)["difference"])
    assert not [name for name in names if "rank" in name] and "CE(oracle)-CE(*)" in names
    only = with_other_rules()[with_other_rules()["method"].isin(MAIN)]
    assert set(paired_differences(only)["difference"]) == {"CE(*)-CE(0)", "SD(0)-CE(0)", "CE(*)-SD(0)"}


def test_another_rule_on_some_of_the_cases_is_refused():
    cases = with_other_rules().query("method != 'CE(oracle)' or case != 'y'")
    with pytest.raises(ValueError, match=r"CE\(oracle\) and CE\(\*\) were not scored on the same cases"):
        paired_differences(cases)


# ---- trainings whose masks are empty ----


def test_trainings_whose_masks_are_all_empty_are_said_with_the_mean_of_the_others():
    """Two seeds and two folds; with seed 2, fold 0 gives no voxel in both of its cases."""
    dice = {("w", 0, 1): 0.5, ("x", 0, 1): 0.7, ("w", 0, 2): 0.0, ("x", 0, 2): 0.0, ("y", 1, 1): 0.6, ("y", 1, 2): 0.8}
    cell = [
        row(case, "CE(0)", value, fold=fold, training_seed=seed, volume=0 if value == 0 else 5)
        for (case, fold, seed), value in dice.items()
    ]
    full = [{**one, "method": "CE(*)", "volume": 7, "dice_noisy": one["dice_noisy"] or 0.25} for one in cell]
    expected = "Kidney, a = .02, CE(0): in 1 of 4 trainings (seed 2, fold 0: 2 cases) every mask is empty"
    (sentence,) = empty_trainings(pd.DataFrame([*full, *cell]))
    # w and x keep their first training; y has .6 and .8, and counts once.
    found = estimate([0.5, 0.7, 0.7], ["w", "x", "y"], [0, 0, 1])
    mean, (low, high) = found.mean, found.interval
    assert sentence.startswith(expected + "; the mean of the others is ")
    end = f"{mean:.3f} [{low:.3f}, {high:.3f}], and CE(*), the same maps at the Dice threshold, has 0.250 there."
    assert sentence.endswith(end.replace("0.", "."))
    assert empty_trainings(pd.DataFrame(full)) == [] and empty_trainings(pd.DataFrame()) == []


def test_a_constant_shape_that_is_empty_is_no_training():
    assert empty_trainings(pd.DataFrame([row("x", "CONST(0)", 0.0, volume=0)])) == []


def test_one_mask_with_a_voxel_makes_a_training_no_empty_one():
    pair = [row("x", "CE(0)", 0.0, volume=0), row("y", "CE(0)", 0.0, volume=1)]
    assert empty_trainings(pd.DataFrame(pair)) == []
    (sentence,) = empty_trainings(pd.DataFrame(pair).assign(volume=0))
    assert sentence.endswith("(fold 0: 2 cases) every mask is empty; there is no other.")
