"""Tests of scores: thresholding rules on a few voxels, ceilings in closed form, bootstrap intervals."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from noisyseg import GaussianDeformation, dice
from reproduction.scoring.scores import ceiling, score_case


def line(*values: float) -> np.ndarray:
    return np.array(values)[None, None]


def score(c: np.ndarray, loss: str, noisy, clean=None, marginal=None) -> dict[str, dict[str, Any]]:
    noisy = np.asarray(noisy)
    clean = noisy if clean is None else clean
    marginal = clean.astype(float) if marginal is None else marginal
    rows = score_case(c, loss, noisy, clean, marginal, fold_threshold=0.46, rankseg=False)
    return {row["method"]: row for row in rows}


# ---- score_case, by hand ----


def test_three_voxels():
    """c = .9, .45, .1: sup D_c = 2 (.9 + .45) / (2 + 1.45), so t = .3913 and CE(*) takes two voxels, CE(0) one."""
    rows = score(line(0.9, 0.45, 0.1), "ce", line(1, 1, 0), line(1, 0, 1), line(1.0, 0.5, 0.25))
    assert list(rows) == ["CE(0)", "CE(*)", "CE(fold)", "CE(oracle)"]
    assert rows["CE(0)"] == {
        "method": "CE(0)", "threshold": 0.5, "volume": 1, "soft_volume": pytest.approx(1.45), "volume_noisy": 2,
        "volume_clean": 2, "volume_marginal": 1.75, "dice_noisy": 2 / 3, "dice_clean": 2 / 3,
        "dice_marginal": 2 * 1 / (1 + 1.75),
    }  # fmt: skip
    star = rows["CE(*)"]
    assert star["threshold"] == pytest.approx(1.35 / 3.45, abs=1e-15)
    assert (star["volume"], star["dice_noisy"], star["dice_clean"]) == (2, 1.0, 0.5)
    assert star["dice_marginal"] == 2 * 1.5 / (2 + 1.75)


def test_soft_dice_has_no_threshold_of_its_own():
    rows = score(line(0.9, 0.5, 0.49), "sd", line(1, 1, 1))
    assert list(rows) == ["SD(0)", "SD(fold)", "SD(oracle)"]
    assert rows["SD(0)"]["threshold"] == 0.5 and rows["SD(0)"]["volume"] == 2, "a mask is >= its threshold"
    assert rows["SD(0)"]["dice_noisy"] == 0.8


def test_a_map_that_never_reaches_one_half():
    """Under strong noise CE(0) is empty: Dice 0. CE(*) is not."""
    rows = score(line(0.4, 0.3, 0.0), "ce", line(1, 1, 0))
    assert rows["CE(0)"]["volume"] == 0 and rows["CE(0)"]["dice_noisy"] == rows["CE(0)"]["dice_marginal"] == 0.0
    assert rows["CE(*)"]["threshold"] == pytest.approx(0.7 / 2.7) and rows["CE(*)"]["dice_noisy"] == 1.0


def test_empty_masks_and_empty_labels():
    empty, full = line(0, 0, 0), line(1, 1, 0)
    silent = score(line(0.0, 0.0, 0.0), "ce", empty, full, line(0.5, 0.5, 0.0))
    for method, row in silent.items():
        assert row["volume"] == 0 and row["threshold"] == {"CE(fold)": 0.46, "CE(oracle)": 5e-324}.get(method, 0.5)
        assert row["dice_noisy"] == 1.0, "two empty masks agree"
        assert row["dice_clean"] == row["dice_marginal"] == 0.0
    row = score(line(0.9, 0.2, 0.1), "sd", empty, full)["SD(0)"]
    assert row["volume_noisy"] == 0 and row["dice_noisy"] == 0.0 and row["dice_clean"] == 2 / 3


def test_a_binary_map_is_scored_alike_by_all_rules():
    label = line(1, 0, 1)
    rows = {**score(label.astype(float), "ce", label), **score(label.astype(float), "sd", label)}
    assert {name: (row["volume"], row["dice_noisy"]) for name, row in rows.items()} == {
        "CE(0)": (2, 1.0), "CE(*)": (2, 1.0), "CE(fold)": (2, 1.0), "CE(oracle)": (2, 1.0),
        "SD(0)": (2, 1.0), "SD(fold)": (2, 1.0), "SD(oracle)": (2, 1.0),
    }  # fmt: skip


@settings(max_examples=40)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=6))
def test_no_mask_of_the_map_has_a_larger_dice_than_the_one_of_ce_star(levels):
    c = np.array(levels)[None, None] / 20
    assume(c.any())
    rows = score(c, "ce", (c > 0.3).astype(np.uint8), marginal=c)
    best = max(dice(np.array(s, bool)[None, None], c) for s in product((0, 1), repeat=c.size))
    assert rows["CE(*)"]["dice_marginal"] == pytest.approx(best, abs=1e-12)
    assert rows["CE(*)"]["threshold"] == pytest.approx(best / 2, abs=1e-12)
    assert rows["CE(0)"]["dice_marginal"] <= best + 1e-12


def test_the_threshold_is_not_rounded_to_the_maps_float32():
    """n ones and one v = sqrt(n^2 + n) - n: t = n / (2 n + v) = v, a tie. Rounded down to float32, v is below t and
    stays out, although t rounds to the same float32."""
    tried = 0
    for n in range(1, 8):
        v = np.float32(math.sqrt(n * n + n) - n)
        t = n / (2 * n + float(v))
        if float(v) < t and np.float32(t) == v:
            c = line(*[1.0] * n, float(v)).astype(np.float32)
            star = score(c, "ce", np.ones(c.shape, np.uint8))["CE(*)"]
            assert star["threshold"] == pytest.approx(t, abs=1e-15) and star["volume"] == n
            tried += 1
    assert tried


def test_labels_of_any_integer_kind():
    for dtype in (np.uint8, bool, np.int64):
        row = score(np.full((4, 8, 10), 0.9), "sd", np.ones((4, 8, 10), dtype))["SD(0)"]
        assert row["volume_noisy"] == 320, "no overflow in uint8"


@pytest.mark.parametrize(
    ("c", "loss", "noisy", "message"),
    [
        (line(0.5, 0.5), "dice", line(1, 0), "loss is 'dice'; expected one of both, ce, sd"),
        (
            line(0.5, np.nan),
            "sd",
            line(1, 0),
            r"probabilities \(shape \(1, 1, 2\)\): expected values in \[0, 1\], found nan",
        ),
        (line(0.5, 1.5), "sd", line(1, 0), r"probabilities .* found 1\.5"),
        (line(-0.5, 0.5), "ce", line(1, 0), r"probabilities .* found -0\.5"),
        (line(0.5, 0.5), "sd", line(1, 2), "found 2"),
        (line(0.5, 0.5), "sd", line(1, 0, 0), "same shape"),
        (np.zeros((0, 2, 2)), "sd", np.zeros((0, 2, 2), int), "probabilities: expected at least one voxel"),
    ],
)
def test_bad_maps(c, loss, noisy, message):
    with pytest.raises(ValueError, match=message):
        score(c, loss, noisy, noisy)


# ---- ceiling ----


def bound(label: np.ndarray, noise: GaussianDeformation, seed: int, samples: int) -> dict[str, float]:
    return ceiling(label, noise.marginal(label), noise, seed, samples)


def bar() -> tuple[np.ndarray, np.ndarray]:
    """A label that varies along one axis of 16 voxels, moved along that axis only; and its marginal by hand."""
    label = np.zeros((16, 2, 2), np.uint8)
    label[6:10] = 1
    edges = (np.arange(16)[:, None] + 0.5 - np.array([6, 10])) / (0.1 * 16)
    return label, norm.cdf(edges[:, 0]) - norm.cdf(edges[:, 1])


def test_the_ceiling_of_a_bar_by_hand():
    label, m = bar()
    # The best mask takes the voxels nearest to the middle, 2 k of them: no other candidates by symmetry.
    best = max(2 * m[8 - k : 8 + k].sum() / (2 * k + m.sum()) for k in range(1, 9))
    found = bound(label, GaussianDeformation((0.1, 0.0, 0.0)), seed=0, samples=3)
    assert found["ceiling"] == pytest.approx(best, abs=1e-12)
    k = found["volume_ceiling"] // 8  # of four voxels each, on two sides
    assert 2 * m[8 - k : 8 + k].sum() / (2 * k + m.sum()) == pytest.approx(best, abs=1e-12)
    assert 0.6 < best < 0.8, "the noise costs a lot here"


PERFECT = {"ceiling": 1.0, "ceiling_half": 1.0, "ceiling_mc": 1.0}  # and the volume of the label


def test_without_noise_the_ceiling_is_one():
    label = bar()[0]
    whole = {**PERFECT, "volume_ceiling": label.sum()}
    assert bound(label, GaussianDeformation(0.0), seed=0, samples=5) == whole
    assert bound(label, GaussianDeformation(0.0), seed=0, samples=0) == whole


def test_an_empty_label_is_met_by_the_empty_mask():
    assert bound(np.zeros((4, 4, 4), np.uint8), GaussianDeformation(0.1), 0, 3) == {**PERFECT, "volume_ceiling": 0}


def test_without_samples_there_is_no_estimate():
    found = bound(bar()[0], GaussianDeformation(0.1), seed=0, samples=0)
    assert math.isnan(found["ceiling_mc"]) and 0 < found["ceiling"] < 1


def test_the_ceiling_is_reproducible_and_falls_with_the_noise():
    label = bar()[0]
    values = [bound(label, GaussianDeformation(a), seed=4, samples=8) for a in (0.01, 0.02, 0.05, 0.05)]
    assert values[2] == values[3]
    assert 1 > values[0]["ceiling"] > values[1]["ceiling"] > values[2]["ceiling"]
    assert bound(label, GaussianDeformation(0.05), seed=5, samples=8)["ceiling_mc"] != values[3]["ceiling_mc"]


def test_ceiling_and_its_estimate_differ_by_the_covariance_term():
    """E[D_L(s)] = D_m(s) - Cov(D_L(s), |L|) / (|s| + v): exact with the moments of the samples themselves, and within
    five standard errors with the exact marginal."""
    count = 1000
    label = np.zeros((16, 16, 1), np.uint8)
    label[6:9, 6:9] = 1
    noise = GaussianDeformation((0.08, 0.08, 0.0))
    found = bound(label, noise, seed=3, samples=count)
    m = noise.marginal(label)
    s = m >= found["ceiling"] / 2
    assert dice(s, m) == pytest.approx(found["ceiling"], abs=1e-12), "the supremum is attained"
    draws = noise.sample(label, rng=3, size=count).reshape(count, -1).astype(float)
    volumes = draws.sum(axis=1)
    scores = 2 * draws @ s.ravel() / (s.sum() + volumes)
    assert found["ceiling_mc"] == pytest.approx(scores.mean(), abs=1e-12), "the mean over the samples of this seed"
    covariance = np.mean((scores - scores.mean()) * (volumes - volumes.mean()))
    sampled = dice(s, draws.mean(axis=0).reshape(s.shape)) - covariance / (s.sum() + volumes.mean())
    assert found["ceiling_mc"] == pytest.approx(sampled, abs=1e-12)
    assert covariance / (s.sum() + volumes.mean()) > 0.01, "the term matters here"
    terms = scores - found["ceiling"] + (scores - scores.mean()) * (volumes - volumes.mean()) / (s.sum() + m.sum())
    assert abs(terms.mean()) < 5 * terms.std() / math.sqrt(count)
