import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm

from noisyseg import cross_entropy, dice, dice_threshold, optimal_dice, regret, soft_dice
from noisyseg.calibration import check
from noisyseg.optimal import plug_in_bound
from reproduction.chapters.soft_maps import (
    mixed_loss_optimum,
    mixed_map,
    mixed_value,
    squared_dice_map,
    surface_distance,
    undo_mixed_loss,
    within_image,
)


def marginals(count, seed, low=1e-3):
    """Random marginals of 2 to 12 voxels within (0, 1), of many shapes."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.clip(rng.random(rng.integers(2, 13)) ** rng.uniform(0.3, 5), low, 1 - low), rng


def masks_made_from(c):
    """Every mask that is a function of c: one for each set of its values."""
    values = np.unique(c)
    for bits in itertools.product((False, True), repeat=len(values)):
        yield np.isin(c, values[list(bits)])


# ---------------------------------------------------------------- calibrated within the image


@pytest.mark.statement("thm-within")
def test_a_map_calibrated_within_the_image_keeps_its_promise():
    """In rational numbers: all masks made from c = E[m | c], on voxels of a few values."""
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(60):
        place = rng.integers(0, 4, 9)
        m = [Fraction(int(k), 12) for k in rng.integers(0, 13, 9)]
        if not any(m):
            continue
        groups = {int(k): [m[i] for i in np.flatnonzero(place == k)] for k in place}
        mean = {k: sum(x) / len(x) for k, x in groups.items()}
        c = [mean[int(k)] for k in place]
        v = sum(m)
        assert sum(c) == v

        def score(x, mask, v=v):
            return 2 * sum(y for y, s in zip(x, mask, strict=True) if s) / (sum(mask) + v)

        made = [s.astype(int).tolist() for s in masks_made_from(np.array(c, dtype=float))]
        assert all(score(m, s) == score(c, s) for s in made)
        t = dice_threshold(np.array(c, dtype=float))
        ours = optimal_dice(np.array(c, dtype=float)).astype(int).tolist()
        assert score(m, ours) == max(score(m, s) for s in made)
        assert float(score(m, ours)) == pytest.approx(2 * t, abs=1e-14)
        t_m = dice_threshold(np.array(m, dtype=float))
        assert t <= t_m + 1e-15
        below += t < t_m - 1e-9
    assert below > 30


@pytest.mark.statement("thm-within")
def test_within_image_is_calibrated_and_check_says_so():
    rng = np.random.default_rng(1)
    c = rng.integers(0, 5, (6, 6, 6)) / 5
    label = (rng.random(c.shape) < c**2).astype(int)
    r = within_image(c, label)
    assert np.allclose(within_image(r, label), r, rtol=0, atol=1e-15)
    row = check([r], [label]).images[0]
    assert row.error < 1e-12 and row.promised == pytest.approx(row.dice_t, abs=1e-12)
    assert check([c], [label]).images[0].error > 0.1


@pytest.mark.statement("prop-within-error")
def test_a_broken_promise_is_bounded_by_the_calibration_error():
    rng = np.random.default_rng(2)
    tight = 0.0
    for m, _ in marginals(600, 3):
        c = rng.integers(1, 5, m.size) / 5 if rng.random() < 0.5 else np.clip(m + rng.normal(0, 0.3, m.size), 0, 1)
        if not c.any():
            continue
        r, s = within_image(c, m), optimal_dice(c)
        error = abs(r - c).mean()
        broken = abs(dice(s, m) - 2 * dice_threshold(c))
        assert broken <= 2 * error / (s.mean() + m.mean()) + 1e-12
        assert abs(dice_threshold(r) - dice_threshold(c)) <= error / m.mean() + 1e-12
        best = max(dice(made, m) for made in masks_made_from(c)) if len(np.unique(c)) < 9 else 2 * dice_threshold(r)
        assert best == pytest.approx(2 * dice_threshold(r), abs=1e-12)
        assert best - dice(s, m) <= plug_in_bound(c, r) + 1e-12
        if error > 1e-6:
            tight = max(tight, broken * (s.mean() + m.mean()) / error)
    assert 1.5 < tight <= 2


# ---------------------------------------------------------------- cross-entropy and soft-Dice together


@pytest.mark.statement("thm-mixed-loss")
def test_the_map_of_the_mixed_loss_is_a_minimiser():
    """Against a general minimiser from several starts, in the logits."""
    for m, rng in marginals(20, 4):
        weight = 10 ** rng.uniform(-2, 1.5)
        found = mixed_loss_optimum(m, weight)

        def of_logits(z, m=m, weight=weight):
            entropy = np.mean(np.logaddexp(0, z) - m * z)
            return entropy + weight * (1 - 2 * np.mean(expit(z) * m) / np.mean(expit(z) + m))

        starts = (np.log(m / (1 - m)), rng.normal(size=m.size), 20 * (m - dice_threshold(m)))
        best = min(minimize(of_logits, z, method="BFGS", options={"gtol": 1e-9}).fun for z in starts)
        assert cross_entropy(found.c, m) + weight * soft_dice(found.c, m) <= best + 1e-12


@pytest.mark.statement("thm-mixed-loss")
def test_the_map_of_the_mixed_loss_crosses_the_marginal_at_half_its_soft_dice():
    for m, rng in marginals(150, 5):
        weight = 10 ** rng.uniform(-3, 2)
        c, mu, tau = found = mixed_loss_optimum(m, weight)
        v = m.mean()
        assert mu == pytest.approx(2 * weight / (c.mean() + v), rel=1e-9)
        assert tau == pytest.approx((1 - soft_dice(c, m)) / 2, abs=1e-9) and tau <= dice_threshold(m) + 1e-12
        # The derivative of the loss is 0 at every voxel.
        assert np.allclose((c - m) / (c * (1 - c)), mu * (m - tau), rtol=1e-7, atol=1e-7)
        order = np.argsort(m)
        assert (np.diff(c[order]) >= 0).all()
        assert ((c - m) * (m - tau) >= -1e-12).all()
        assert min(tau, 0.5) - 1e-12 <= found.half <= max(tau, 0.5)
        assert ((c >= 0.5) == (m >= found.half))[abs(m - found.half) > 1e-9].all()


@pytest.mark.statement("thm-mixed-loss")
def test_a_heavier_soft_dice_leads_to_the_dice_optimal_mask():
    for m, _ in marginals(40, 6):
        halves = [mixed_loss_optimum(m, weight).half for weight in (1e-6, 1, 1e3)]
        assert halves[0] == pytest.approx(0.5, abs=1e-4)
        assert halves[2] == pytest.approx(dice_threshold(m), abs=5e-3)
        assert regret(mixed_loss_optimum(m, 1e3).c >= 0.5, m) < 1e-2


@pytest.mark.statement("thm-mixed-loss")
def test_the_mixed_loss_can_be_undone():
    for m, rng in marginals(100, 7):
        weight = 10 ** rng.uniform(-3, 1.5)
        assert np.allclose(undo_mixed_loss(mixed_loss_optimum(m, weight).c, weight), m, rtol=0, atol=1e-9)


def test_the_two_directions_of_the_mixed_loss_are_inverse():
    c = np.linspace(0, 1, 2001)
    for mu, tau in itertools.product((1e-3, 1.0, 30.0, 1e3), (0.01, 0.2, 0.5)):
        m = mixed_value(c, mu, tau)
        assert (np.diff(m) > 0).all() and (m[0], m[-1]) == (0.0, 1.0)
        assert np.allclose(mixed_map(m, mu, tau), c, rtol=0, atol=1e-9)


# ---------------------------------------------------------------- squared Dice


@pytest.mark.statement("prop-squared-dice")
def test_squared_dice_scales_the_marginal():
    clipped = 0
    for m, rng in marginals(40, 8):
        c, S = squared_dice_map(m)
        v = m.mean()

        def value(c, m=m, v=v):
            return 2 * np.mean(c * m) / (np.mean(c * c) + v)

        assert value(c) == pytest.approx(S, abs=1e-12) and np.allclose(c, np.minimum(1, m / S), rtol=1e-12)
        starts = (m, rng.random(m.size), np.ones(m.size))
        bounds = [(0, 1)] * m.size
        best = max(-minimize(lambda c: -value(c), s, bounds=bounds, method="L-BFGS-B").fun for s in starts)
        assert S >= best - 1e-12
        t = dice_threshold(m)
        assert 2 * t <= S + 1e-12 and ((c >= 0.5) <= optimal_dice(m)).all()
        clipped += (c == 1).any()
        # On soft labels the marginal itself is best.
        soft = 2 * np.mean(c * m) / (np.mean(c * c) + np.mean(m * m))
        assert soft <= 1 + 1e-12
    assert clipped > 10


# ---------------------------------------------------------------- surfaces


@pytest.mark.statement("prop-surface")
def test_the_mean_surface_distance_of_a_shifted_boundary():
    for a, h in itertools.product((0.5, 1.0, 3.0), (0.0, 0.1, 1.0, 4.0)):
        expected = quad(lambda x, a=a, h=h: abs(x - h) * norm.pdf(x, scale=a), -12 * a, 12 * a, points=[h])[0]
        assert surface_distance(h, a) == pytest.approx(expected, abs=1e-7)
        assert surface_distance(-h, a) == pytest.approx(surface_distance(h, a), rel=1e-12)
        assert surface_distance(h, a) >= surface_distance(0.0, a)
    for h in (0.1, 0.01):
        added = surface_distance(h, 1.0) - surface_distance(0.0, 1.0)
        assert 0 <= h * h / math.sqrt(2 * math.pi) - added <= h**4 / (12 * math.sqrt(2 * math.pi))
