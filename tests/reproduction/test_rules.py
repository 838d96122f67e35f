"""Tests of rules: rules on three voxels by hand, against every mask by brute force, and rankseg."""

from __future__ import annotations

import builtins
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from noisyseg import dice, dice_threshold
from reproduction.scoring.rules import (
    GRID,
    METHODS,
    OTHER_RULES,
    RANK_SOLVERS,
    dice_over_grid,
    fold_threshold,
    oracle_threshold,
    rank_mask,
    rankseg_version,
)
from reproduction.scoring.scores import score_case

needs_rankseg = pytest.mark.skipif(rankseg_version() is None, reason="rankseg is not installed (extra `bench`)")


def line(*values: float) -> np.ndarray:
    return np.array(values)[None, None]


# maps on a coarse scale, so that equal values and empty labels occur
LEVELS = [np.float32(k / 20) for k in range(0, 21, 4)]
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
maps = hnp.arrays(np.float32, SHAPES, elements=st.sampled_from(LEVELS))


@st.composite
def pairs(draw):
    c = draw(maps)
    return c, draw(hnp.arrays(np.uint8, c.shape, elements=st.integers(0, 1)))


def test_names_are_those_of_the_tables():
    assert METHODS == {"CE(0)": "ce", "SD(0)": "sd", "CE(*)": "ce"}
    assert OTHER_RULES == {
        "CE(fold)": "ce",
        "SD(fold)": "sd",
        "CE(rank)": "ce",
        "CE(rank BA)": "ce",
        "CE(oracle)": "ce",
        "SD(oracle)": "sd",
    }
    assert set(RANK_SOLVERS) < set(OTHER_RULES)


def test_the_grid_is_what_the_docstring_says():
    assert len(GRID) == 999 and GRID[[0, 499, 998]].tolist() == [0.001, 0.5, 0.999]


# ---- one threshold for a fold ----


def test_three_voxels_on_the_grid():
    """c = .9, .45, .1 and the first two are labelled: Dice 2*2/(3+2) up to .1, 1 up to .45, 2/3 up to .9, then 0."""
    curve = dice_over_grid(line(0.9, 0.45, 0.1), line(1, 1, 0))
    expected = np.select([GRID <= 0.1, GRID <= 0.45, GRID <= 0.9], [0.8, 1.0, 2 / 3], 0.0)
    np.testing.assert_allclose(curve, expected, rtol=0, atol=1e-15)
    assert fold_threshold(curve) == 0.275, "the middle of .101, …, .450 (the lower of two)"


def test_an_empty_label_wants_an_empty_mask():
    curve = dice_over_grid(line(0.3, 0.2), line(0, 0))
    assert curve[GRID <= 0.3].max() == 0.0 and (curve[GRID > 0.3] == 1.0).all()


def test_the_map_is_compared_in_float64():
    """float32 .3 lies above .3, and float32 .7 below .7: a comparison in float32 would call both equal."""
    c = line(0.3, 0.7).astype(np.float32)
    assert float(c[0, 0, 0]) > 0.3 and float(c[0, 0, 1]) < 0.7
    curve = dice_over_grid(c, line(1, 1))
    assert curve[299] == 1.0 and curve[300] == 2 / 3, "in at .300, out at .301"
    assert curve[698] == 2 / 3 and curve[699] == 0.0, "in at .699, out at .700"


@settings(max_examples=60)
@given(pairs())
def test_every_point_of_the_curve_is_the_dice_of_that_mask(pair):
    c, label = pair
    curve = dice_over_grid(c, label)
    for k in range(0, 999, 37):
        assert curve[k] == pytest.approx(dice(c >= np.float64(GRID[k]), label), abs=1e-15)


def test_the_fold_threshold_is_best_for_the_mean_not_for_each_case():
    """Case 1 has Dice 1 from .2 to .8 and 1/2 below; case 2 has 1 from .2 to .4, 0 above: both are best up to .4."""
    first, second = line(0.8, 0.2, 0.2), line(0.4, 0.2, 0.1)
    label = line(1, 0, 0)
    curves = [dice_over_grid(c, label) for c in (first, second)]
    u = fold_threshold(np.mean(curves, axis=0))
    assert u == 0.3, "the middle of .201, …, .400 (the lower of two)"


@pytest.mark.parametrize(
    ("best", "chosen"), [([7], 7), ([7, 8], 7), ([7, 8, 9], 8), ([7, 8, 9, 400], 8), ([7, 400, 401], 400), ([998], 998)]
)
def test_ties_go_to_the_middle_one(best, chosen):
    curve = np.full(999, 0.2)
    curve[best] = 0.7
    assert fold_threshold(curve) == GRID[chosen]


@pytest.mark.parametrize(
    "curve", [np.zeros(998), np.full(999, np.nan), np.zeros((999, 1)), 0.5], ids=lambda c: str(np.shape(c))
)
def test_curves_that_are_none(curve):
    with pytest.raises(ValueError, match=r"mean_dice has shape .*; expected \(999,\), finite numbers"):
        fold_threshold(curve)


# ---- the oracle ----


def test_the_oracle_by_hand():
    # .9 alone: 2/3; .9 and .45: 2/4; all three: 4/5.
    assert oracle_threshold(line(0.9, 0.45, 0.1), line(1, 0, 1)) == 0.1
    assert oracle_threshold(line(0.9, 0.45, 0.1), line(1, 0, 0)) == 0.9
    # Nothing in common: every mask has Dice 0, the lowest threshold is told.
    assert oracle_threshold(line(0.9, 0.0), line(0, 1)) == 0.0
    # Equal values go in together: .9 alone has 2/3, with all four voxels of .5 it is 4/7; with one of them it were 1.
    assert oracle_threshold(line(0.9, 0.5, 0.5, 0.5, 0.5), line(1, 0, 0, 0, 1)) == 0.9
    assert oracle_threshold(line(0.9, 0.5, 0.5, 0.5, 0.5), line(1, 1, 0, 0, 0)) == 0.9


def test_of_exact_ties_the_oracle_tells_the_lowest():
    # {.8}: 2/(1+2) = 2/3; {.8, .6, .4, .2}: 4/(4+2) = 2/3; between them 2/4 and 2/5.
    assert oracle_threshold(line(0.8, 0.6, 0.4, 0.2), line(1, 0, 0, 1)) == 0.2


def test_the_oracle_of_an_empty_label_is_the_empty_mask():
    for top in (0.0, 0.3, 1.0):
        c = line(top, 0.0).astype(np.float32)
        u = oracle_threshold(c, line(0, 0))
        assert math.isfinite(u) and not (c >= np.float64(u)).any() and u - float(c.max()) < 1e-15


@settings(max_examples=100)
@given(pairs())
def test_no_threshold_is_better_than_the_oracle(pair):
    c, label = pair
    best = dice(c >= np.float64(oracle_threshold(c, label)), label)
    tried = [dice(c >= np.float64(u), label) for u in [*np.unique(c), 2.0]]
    assert best == max(tried)
    assert best >= dice_over_grid(c, label).max()


@settings(max_examples=40)
@given(pairs(), st.floats(0, 1))
def test_the_oracle_row_bounds_all_rows_of_its_case(pair, u):
    c, label = pair
    rows = score_case(c, "ce", label, label, label.astype(float), u, rankseg=False)
    best = {row["method"]: row["dice_noisy"] for row in rows}
    assert list(best) == ["CE(0)", "CE(*)", "CE(fold)", "CE(oracle)"]
    assert max(best.values()) == best["CE(oracle)"]


# ---- rows ----


def test_rows_of_the_other_rules_by_hand():
    c, noisy, clean, m = line(0.9, 0.45, 0.1), line(0, 1, 1), line(1, 1, 0), line(0.5, 1.0, 0.25)
    rows = {row["method"]: row for row in score_case(c, "ce", noisy, clean, m, 0.46, rankseg=False)}
    assert rows["CE(fold)"] == {
        "method": "CE(fold)", "threshold": 0.46, "volume": 1, "soft_volume": pytest.approx(1.45), "volume_noisy": 2,
        "volume_clean": 2, "volume_marginal": 1.75, "dice_noisy": 0.0, "dice_clean": 2 / 3,
        "dice_marginal": 2 * 0.5 / 2.75,
    }  # fmt: skip
    assert (rows["CE(oracle)"]["threshold"], rows["CE(oracle)"]["dice_noisy"]) == (0.1, 0.8), "its own noisy label"
    rows = score_case(c, "sd", noisy, clean, m, 0.46, rankseg=True)
    assert [(row["method"], row["volume"]) for row in rows] == [
        ("SD(0)", 1),
        ("SD(fold)", 1),
        ("SD(oracle)", 3),
    ]


def test_every_rule_has_the_same_columns():
    c, label = line(0.9, 0.2), line(1, 0)
    rows = score_case(c, "ce", label, label, label, 0.5, rankseg=rankseg_version() is not None)
    assert len({tuple(row) for row in rows}) == 1


# ---- rankseg ----


@needs_rankseg
@pytest.mark.parametrize("solver", RANK_SOLVERS.values())
def test_rankseg_finds_the_volume_of_a_large_certain_object(solver):
    """A cube of probability .9 in a haze of .2: the haze is below half of the best Dice, and stays out."""
    c = np.full((12, 12, 12), 0.2, np.float32)
    c[2:10, 2:10, 2:10] = 0.9
    assert 0.2 < dice_threshold(c) < 0.9
    mask = rank_mask(c, solver)
    assert mask.dtype == bool and mask.shape == c.shape
    np.testing.assert_array_equal(mask, c > 0.5)


@needs_rankseg
@pytest.mark.parametrize("solver", RANK_SOLVERS.values())
def test_rankseg_is_asked_not_to_prune(solver):
    """Its default returns an empty mask where no voxel is above one half: the regime of strong noise."""
    c = np.zeros((8, 8, 8), np.float32)
    c[2:6, 2:6, 2:6] = 0.4
    assert rank_mask(c, solver).sum() == 64
    row = next(r for r in score_case(c, "ce", c > 0, c > 0, c > 0, 0.5, rankseg=True) if r["method"] == "CE(rank)")
    assert row["threshold"] == pytest.approx(0.4) and row["dice_noisy"] == 1.0


@needs_rankseg
def test_the_mask_of_rankseg_is_that_of_ce_star_up_to_a_few_voxels():
    """RMA has one more in the denominator, BA a distribution: on thousands of voxels both must all but agree."""
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 24)] * 3, indexing="ij"))
    distance = np.sqrt((place**2).sum(0))
    for top in (1.0, 0.6, 0.3):
        c = (top / (1 + np.exp((distance - 0.5) * 12))).astype(np.float32)
        ours = c >= np.float64(dice_threshold(c))
        for solver in RANK_SOLVERS.values():
            assert np.count_nonzero(rank_mask(c, solver) != ours) <= 0.03 * ours.sum()


@needs_rankseg
@pytest.mark.parametrize("solver", RANK_SOLVERS.values())
def test_a_map_of_zeros_has_an_empty_mask(solver):
    c = np.zeros((3, 3, 3), np.float32)
    assert not rank_mask(c, solver).any()
    row = next(r for r in score_case(c, "ce", c > 0, c > 0, c > 0, 0.5, rankseg=True) if r["method"] == "CE(rank)")
    assert row["volume"] == 0 and 0 < row["threshold"] < 1e-300


@needs_rankseg
def test_rankseg_checks_its_map():
    with pytest.raises(ValueError, match=r"solver is 'TRNA'; expected one of RMA, BA"):
        rank_mask(line(0.5), "TRNA")
    with pytest.raises(ValueError, match=r"c .* found 1\.5"):
        rank_mask(line(0.5, 1.5))


def test_without_rankseg_its_rows_are_absent_and_nothing_imports_it(monkeypatch):
    real = builtins.__import__

    def refuse(name, *more):
        if name.partition(".")[0] == "rankseg":
            raise ModuleNotFoundError("No module named 'rankseg'", name="rankseg")
        return real(name, *more)

    for name in [name for name in sys.modules if name.partition(".")[0] == "rankseg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    c, label = line(0.9, 0.2), line(1, 0)
    rows = score_case(c, "ce", label, label, label, 0.5, rankseg=False)
    assert [row["method"] for row in rows] == ["CE(0)", "CE(*)", "CE(fold)", "CE(oracle)"]
    with pytest.raises(ModuleNotFoundError, match="rankseg"):
        rank_mask(c)


def test_the_version_of_what_is_not_there(monkeypatch):
    def missing(name: str) -> str:
        raise __import__("importlib.metadata").metadata.PackageNotFoundError(name)

    monkeypatch.setattr("reproduction.scoring.rules.version", missing)
    assert rankseg_version() is None


# ---- what is refused ----


@pytest.mark.parametrize("rule", [dice_over_grid, oracle_threshold])
@pytest.mark.parametrize(
    ("c", "label", "message"),
    [
        (line(0.5, np.nan), line(1, 0), r"c \(shape \(1, 1, 2\)\): expected values in \[0, 1\], found nan"),
        (line(0.5, 1.5), line(1, 0), r"c .* found 1\.5"),
        (line(0.5, 0.5), line(1, 2), r"label .* found 2"),
        (line(0.5, 0.5), line(1, 0, 0), r"c and label: expected the same shape, got \(1, 1, 2\) and \(1, 1, 3\)"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "c: expected at least one voxel"),
    ],
)
def test_bad_input(rule, c, label, message):
    with pytest.raises(ValueError, match=message):
        rule(c, label)
