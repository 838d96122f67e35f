"""Tests of the chapter "Soft-Dice": layers, calibration, volumes from scores, descent, smoothing, and single labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from noisyseg import (
    dice,
    dice_covariance,
    dice_threshold,
    expected_dice,
    marginal,
    optimal_dice,
    soft_dice,
)
from noisyseg.linear_fractional import linear_fractional_optimum
from noisyseg.optimal import regret
from reproduction.chapters.random_marginals import every_mask
from reproduction.chapters.soft_dice import descend, layers, regret_against_labels

EIGHTHS = st.integers(0, 8).map(lambda k: k / 8)
PAIRS = (
    st.integers(1, 9)
    .flatmap(
        lambda n: st.tuples(hnp.arrays(np.float64, n, elements=EIGHTHS), hnp.arrays(np.float64, n, elements=EIGHTHS))
    )
    .filter(lambda pair: pair[1].any())
)
MASKS = every_mask(6).astype(float)


# ---- layers ----


@pytest.mark.statement("prop-layers")
@given(PAIRS)
@settings(max_examples=200)
def test_a_soft_segmentation_is_a_mixture_of_its_masks(pair):
    c, m = pair
    u, weights, scores = layers(c, m)
    assert (np.diff(u) < 0).all() and u[0] == 1.0 and (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-13)
    assert weights @ scores == pytest.approx(1 - soft_dice(c, m), abs=1e-13)
    for threshold, score in zip(u, scores, strict=True):
        assert score == pytest.approx(dice(c >= threshold, m), abs=1e-14)
    assert scores.max() >= 1 - soft_dice(c, m) - 1e-14
    best, delta = 2 * dice_threshold(m), regret(c, m)
    for k in (1.5, 2, 4):
        assert weights[best - scores > k * delta + 1e-12].sum() <= 1 / k + 1e-12
    assert (delta < 1e-14) == (weights[best - scores > 1e-13].sum() == 0)


def test_layers_refuse_what_has_no_score():
    with pytest.raises(ValueError, match="expected as many voxels, at least one, got 2 and 3"):
        layers(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="m is 0 everywhere"):
        layers(np.ones(2), np.zeros(2))


# ---- calibration and volumes ----


@pytest.mark.statement("prop-calibration")
@pytest.mark.parametrize("alpha", [0.05, 0.25, 0.5, 0.6, 0.95])
def test_the_calibration_bound_is_attained(alpha):
    """For alpha up to 1/2 by false positives at alpha; above it, in the limit, by misses just below alpha."""
    m = np.array([1.0, 0.875, 0.625, 0.25, 0.125, 0.0])
    t, v, kappa = dice_threshold(m), m.mean(), max(1 / alpha, 1 / (1 - alpha))
    assert 0.25 < t < 0.625
    wrong, value = (0.25, alpha) if alpha <= 0.5 else (0.625, alpha - 1e-10)
    c = np.where(m == wrong, value, m > t)
    s = c >= alpha
    bound = kappa * (c.mean() + v) / (s.mean() + v) * regret(c, m)
    assert regret(s, m) > 0.01 and regret(s, m) == pytest.approx(bound, rel=1e-8)


@pytest.mark.statement("prop-calibration", "prop-score-volume")
@given(PAIRS, st.sampled_from([0.1, 0.5, 0.8]))
@settings(max_examples=200)
def test_what_a_score_says_of_mask_and_volume(pair, alpha):
    c, m = pair
    q, v, kappa = 1 - soft_dice(c, m), m.mean(), max(1 / alpha, 1 / (1 - alpha))
    if q == 0:
        return
    assert regret(c >= alpha, m) <= 2 * kappa * (2 * dice_threshold(m) / q - 1) + 1e-12
    ratio = c.mean() / v
    assert q / (2 - q) * (1 - 1e-12) <= ratio <= (2 - q) / q * (1 + 1e-12)
    assert (not (c * (1 - m)).any()) == (abs(ratio - q / (2 - q)) < 1e-9)
    assert (not ((1 - c) * m).any()) == (abs(ratio - (2 - q) / q) < 1e-9)


@pytest.mark.statement("prop-score-volume")
@pytest.mark.parametrize("t", [0.05, 0.2, 0.4, 0.5])
def test_optimal_masks_attain_the_bounds_of_their_threshold(t):
    p = t / (1 - t)
    large = np.repeat([p, 0.0], [100, 37])
    assert dice_threshold(large) == pytest.approx(t)
    assert optimal_dice(large).mean() / large.mean() == pytest.approx((1 - t) / t)
    beta = t / 4
    small = np.repeat([1.0, beta, 0.0], [1000, round(1000 * (1 / t - 2) / beta), 5])
    assert dice_threshold(small) == pytest.approx(t, rel=1e-4)
    assert optimal_dice(small).mean() / small.mean() == pytest.approx(t / (1 - t), rel=1e-3)


@pytest.mark.statement("prop-near-optimal")
@given(PAIRS, st.sampled_from([0.01, 0.1, 0.3]))
@settings(max_examples=200)
def test_a_small_regret_leaves_little_room(pair, eta):
    c, m = pair
    t, v = dice_threshold(m), m.mean()
    tie = abs(m - t) < 1e-12
    nearest = np.where(tie, c, m > t)
    assert soft_dice(nearest, m) == pytest.approx(1 - 2 * t, abs=1e-13)
    near = ((abs(m - t) <= eta) & ~tie).mean()
    assert abs(c - nearest).mean() <= near + (c.mean() + v) * regret(c, m) / (2 * eta) + 1e-12


def test_the_volume_goes_with_the_root_of_the_regret():
    m = (np.arange(20_000) + 0.5) / 20_000
    t = dice_threshold(m)
    found = [(regret(m >= t + eta, m), eta) for eta in (0.1, 0.01)]
    assert found[0][0] / found[1][0] == pytest.approx(100, rel=0.15)


# ---- descent ----


@pytest.mark.statement("prop-flow")
@given(
    hnp.arrays(np.float64, st.integers(1, 6), elements=st.integers(0, 5).map(lambda k: k / 5)).filter(np.any),
    st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_descent_ends_at_the_best_mask_at_its_rate(m, seed):
    logits = 2 * np.random.default_rng(seed).normal(size=m.size)
    t = dice_threshold(m)
    times = [0.0, 1.0, 100.0, 1e5, 1e8]
    table, c = descend(m, logits, times)
    delta = table["loss"] - (1 - 2 * t)
    assert (np.diff(table["loss"]) <= 1e-12).all() and (delta > -1e-12).all()
    apart = abs(m - t) > 1e-12
    assert abs(c - (m > t))[apart].max(initial=0) < 1e-4
    assert 1e8 * delta.iloc[-1] == pytest.approx(apart.mean(), abs=0.03)
    bound = 2 * (table["volume"] + m.mean()) / (table["mask_volume"] + m.mean()) * delta
    assert (2 * t - table["mask_dice"] <= bound + 1e-12).all()


def test_a_step_of_descent_follows_the_gradient_of_the_loss():
    m, f = np.array([1.0, 0.7, 0.3, 0.0]), np.array([0.5, -0.3, 0.2, 1.0])

    def loss(f):
        return soft_dice(1 / (1 + np.exp(-f)), m)

    h = 1e-6
    slopes = [(loss(f + h * e) - loss(f - h * e)) / (2 * h) * 4 for e in np.eye(4)]  # per unit of volume
    time = 1e-5
    _, c = descend(m, f, [time])
    assert (np.log(c / (1 - c)) - f) / time == pytest.approx(-np.array(slopes), rel=1e-3)


def test_equal_voxels_may_be_given_once():
    table, _ = descend(np.array([1.0, 0.4, 0.0]), np.array([0.0, 0.1, 0.2]), [0, 3, 30], counts=np.array([2, 3, 5]))
    m, f = np.repeat([1.0, 0.4, 0.0], [2, 3, 5]), np.repeat([0.0, 0.1, 0.2], [2, 3, 5])
    whole, c = descend(m, f, [0, 3, 30])
    assert table.to_numpy() == pytest.approx(whole.to_numpy(), abs=1e-12)
    assert whole["loss"].iloc[-1] == pytest.approx(soft_dice(c, m)) and whole["volume"].iloc[-1] == pytest.approx(
        c.mean()
    )
    assert whole["mask_dice"].iloc[-1] == pytest.approx(dice(c >= 0.5, m))


@pytest.mark.parametrize(
    ("m", "logits", "times", "counts", "message"),
    [
        ([0.0, 0.0], [0, 0], [1], None, "m is 0 everywhere"),
        ([1.0, 0.0], [0, np.inf], [1], None, "finite logits"),
        ([1.0, 0.0], [0], [1], None, "one shape"),
        ([1.0, 0.0], [0, 0], [1], [1, -1], "no negative count"),
        ([1.0, 0.0], [0, 0], [2, 1], None, "times: expected them to increase"),
    ],
)
def test_descent_refuses(m, logits, times, counts, message):
    with pytest.raises(ValueError, match=message):
        descend(np.array(m), np.array(logits, float), times, None if counts is None else np.array(counts))


# ---- smoothing ----


def smoothed(m, above, below):
    return linear_fractional_optimum(m, (2 + above, above, above, above), (2 + below, 1 + below, 1 + below, below))


@pytest.mark.statement("prop-smoothing-parts")
@given(PAIRS, EIGHTHS, EIGHTHS)
@settings(max_examples=100)
def test_a_constant_above_raises_the_threshold_and_one_below_lowers_it(pair, first, second):
    _, m = pair
    v, t = m.mean(), dice_threshold(m)
    above, below = sorted((first, second))
    best, tau = smoothed(m, above, below)
    assert best == pytest.approx(2 * tau, abs=1e-13)
    assert np.maximum(m - tau, 0).mean() == pytest.approx(tau * (v + below) - above / 2, abs=1e-13)
    masks = every_mask(m.size)
    scores = (2 * (masks * m).mean(axis=1) + above) / (masks.mean(axis=1) + v + below)
    assert max(scores) == pytest.approx(best, abs=1e-13)
    both = [smoothed(m, e, e)[1] for e in (0, 0.01, 0.1, 1, 100)]
    assert both[0] == pytest.approx(t, abs=1e-13) and (np.diff(both) >= -1e-13).all()
    assert 0.5 - both[-1] <= v / 200 + 1e-13
    lower = [smoothed(m, 0, e)[1] for e in (0, 0.01, 0.1, 1, 100)]
    assert (np.diff(lower) < 0).all() and lower[-1] <= v / (v + 100)


# ---- what a network minimises ----


@pytest.mark.statement("prop-population")
@given(st.integers(0, 999))
@settings(max_examples=60)
def test_the_risk_of_single_labels(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random((4, 6)) < rng.random(6)).astype(float)
    labels[0, 0] = 1
    m = marginal(labels)
    risks = np.array([1 - expected_dice(c, labels) for c in MASKS])
    chosen = MASKS[risks.argmin()]
    spread = labels.mean(axis=1).std() / m.mean()
    assert regret(chosen, m) <= spread + 1e-12
    assert regret_against_labels(labels) == pytest.approx((regret(chosen, m), spread), abs=1e-12)
    for c in (chosen, rng.random(6)):
        assert 1 - expected_dice(c, labels) == pytest.approx(soft_dice(c, m) + dice_covariance(c, labels), abs=1e-13)
        pooled = 1 - 2 * (c * labels).sum() / (4 * c.sum() + labels.sum())
        assert pooled == pytest.approx(soft_dice(c, m), abs=1e-14)
    same = np.sort(labels, axis=1)[:, ::-1] * 0
    for row in same:  # one volume: the two losses are one
        row[rng.permutation(6)[:3]] = 1
    c = rng.random(6)
    assert 1 - expected_dice(c, same) == pytest.approx(soft_dice(c, marginal(same)), abs=1e-13)


@pytest.mark.statement("prop-population")
@pytest.mark.parametrize(("present", "empty"), [(1, True), (4, True), (5, False), (8, False)])
def test_absence_counts_for_the_empty_mask_alone(present, empty):
    """Present in so many of ten, always the same set: e = 0, so nothing is best if q >= 1/2 (at 5 it is a tie)."""
    labels = np.zeros((10, 6))
    labels[:present, :3] = 1
    q = 1 - present / 10
    risks = np.array([1 - expected_dice(c, labels) for c in MASKS])
    for c, risk in zip(MASKS[1:], risks[1:], strict=True):
        assert risk == pytest.approx(q + (1 - q) * (1 - expected_dice(c, labels[:present])))
    assert risks[0] == pytest.approx(1 - q)
    if present != 5:
        assert (risks.argmin() == 0) == empty
    assert 1 - expected_dice(1e-9 * labels[0], labels) > 0.999


@pytest.mark.statement("prop-batch")
@given(st.integers(0, 999))
@settings(max_examples=60)
def test_a_batch_has_one_threshold_between_those_of_its_images(seed):
    rng = np.random.default_rng(seed)
    batch = rng.random((3, 5)) ** rng.uniform(0.2, 5, (3, 1)) * rng.uniform(0, 1, (3, 1))
    batch[2] *= rng.random() < 0.7  # at times an image without the structure
    own, pooled = dice_threshold(batch[batch.any(axis=1)], axis=1), dice_threshold(batch)
    assert own.min() - 1e-15 <= pooled <= own.max() + 1e-15
    masks = batch >= pooled
    best = 1 - 2 * pooled
    assert 1 - 2 * (masks * batch).sum() / (masks.sum() + batch.sum()) == pytest.approx(best, abs=1e-14)
    other = batch >= np.append(own, 0.5)[:3, None]
    assert 1 - 2 * (other * batch).sum() / (other.sum() + batch.sum()) >= best - 1e-14
    for m in batch[batch.any(axis=1)]:
        s, t = m >= pooled, dice_threshold(m)
        between = (m >= min(pooled, t)) & (m < max(pooled, t))
        lost = 2 * (abs(m - t) * between).sum() / (s.sum() + m.sum())
        assert regret(s, m) == pytest.approx(lost, abs=1e-13)
