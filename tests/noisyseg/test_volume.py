import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kinds import KINDS, both, torch

from noisyseg import (
    accuracy,
    accuracy_volume_bounds,
    dice,
    dice_threshold,
    dice_volume_bounds,
    optimal_accuracy,
    optimal_at_volume,
    optimal_dice,
    soft_dice,
)
from noisyseg.volume import accuracy_extremal, dice_extremal, optimal_volumes

HALF = Fraction(1, 2)


def exact_volumes(m):
    """Give v and the volumes (smallest, largest) of both optima of a list of Fractions, in rational arithmetic."""
    psi = sorted(m, reverse=True)
    total, n = sum(psi), len(psi)
    best = max(sum(psi[:k]) / (k + total) for k in range(1, n + 1))

    def volumes(u):
        return Fraction(sum(x > u for x in psi), n), Fraction(sum(x >= u for x in psi), n)

    return total / n, volumes(HALF), volumes(best)


def bounds(v):
    """Write the four bounds down once more, for rational numbers."""
    return (max(0, 2 * v - 1), min(1, 2 * v)), (v * v, 1)


def all_marginals(voxels, q):
    """Give every marginal on some voxels with values 0, 1/q, ..., 1 but the zero one; order does not matter."""
    for levels in itertools.combinations_with_replacement(range(q, -1, -1), voxels):
        if any(levels):
            yield [Fraction(level, q) for level in levels]


# ---------------------------------------------------------------- random marginals, in whole numbers

VOXELS = LEVELS = 4096  # values are k / LEVELS on VOXELS voxels


def random_marginals(rng, rows, j=16):
    """Draw levels and the number of voxels at each, both of shape (about 6 * rows, j) and of whole numbers."""

    def cut(left, parts):  # `left` voxels in random parts
        edges = np.sort(np.floor(rng.random((rows, parts - 1)) * (left + 1)), axis=1)
        return np.diff(edges, prepend=0, append=left)

    def near(level, ones, zeros, spread):  # some voxels at 1, some at 0, the rest around a level
        noise = rng.integers(-spread, spread + 1, (rows, j - 2)) + rng.integers(-spread - 1, spread + 2, (rows, 1))
        ones, zeros = (np.floor(x * VOXELS)[:, None] for x in (ones, zeros))
        levels = np.clip(np.rint(level * LEVELS)[:, None] + noise, 0, LEVELS)
        levels = np.hstack([np.full((rows, 1), LEVELS), levels, np.zeros((rows, 1))])
        return levels, np.hstack([ones, cut(VOXELS - ones - zeros, j - 2), zeros])

    everything = np.full((rows, 1), VOXELS)
    v, w = rng.random((2, rows))
    powers = rng.random((rows, j)) ** rng.uniform(0.1, 6, (rows, 1))
    two = np.where(np.arange(j) % 2, powers[:, :1], powers[:, 1:2])
    # A (1 - 2 p) = p^2 B: whether the part B of probability p is taken in makes no difference for Dice.
    p, a, b = np.array([(2, 1, 48), (4, 1, 8), (6, 9, 16), (7, 49, 32)])[rng.integers(0, 4, rows)].T
    k = 1 + rng.integers(0, VOXELS // (a + b))
    tied = np.zeros((2, rows, j))
    tied[0, :, 0], tied[0, :, 1] = LEVELS, p * (LEVELS // 16)
    tied[1, :, 0], tied[1, :, 1], tied[1, :, 2] = k * a, k * b, VOXELS - k * (a + b)
    families = [
        (np.rint(powers * LEVELS), cut(everything, j)),
        (np.rint(two * LEVELS), cut(everything, j)),
        (rng.integers(0, 5, (rows, j)) * (LEVELS // 4), cut(everything, j)),  # ties at 1/2
        near(v / (1 + v), v * v, 0 * v, 1),
        near(np.full(rows, 0.5), np.maximum(0, 2 * w - 1), np.maximum(0, 1 - 2 * w), 1),
        tied,
    ]
    levels, counts = (np.concatenate(x).astype(np.int64) for x in zip(*families, strict=True))
    kept = (levels * counts).sum(axis=1) > 0
    return levels[kept], counts[kept]


def whole_volumes(levels, counts, factor_a=1.0, factor_d=1.0):
    """Give (T, small_a, large_a, small_d, large_d), whole numbers: v and the smallest and largest optima of every row.

    Exact although the scores S / (K q + T) are divided in float64: two that differ do so by 1 / (K q + T)^2 >= 2^-50 at
    least, and equal ones are rounded equally. Factors other than 1 make the thresholds wrong.
    """
    order = np.argsort(-levels, axis=1, kind="stable")
    a, n = np.take_along_axis(levels, order, 1), np.take_along_axis(counts, order, 1)
    k, s = np.cumsum(n, axis=1), np.cumsum(n * a, axis=1)
    total = s[:, -1:]
    best = (s / (k * LEVELS + total)).argmax(axis=1)[:, None]
    above, below = LEVELS * np.take_along_axis(s, best, 1), np.take_along_axis(k, best, 1) * LEVELS + total
    out = [(n * (a > 0.5 * factor_a * LEVELS)).sum(axis=1), (n * (a >= 0.5 * factor_a * LEVELS)).sum(axis=1)]
    above = above if factor_d == 1.0 else above * factor_d
    out += [(n * (a * below > above)).sum(axis=1), (n * (a * below >= above)).sum(axis=1)]
    return total[:, 0], *out


def outside(total, small_a, large_a, small_d, large_d):
    """Count, in whole numbers, the draws that break a bound or the order: (Accuracy, Dice, order)."""
    t, n, q = total, VOXELS, LEVELS  # v = t / (q n)
    low_a, high_a = np.maximum(0, 2 * t - q * n), np.minimum(q * n, 2 * t)
    wrong_a = (small_a * q < low_a) | (large_a * q > high_a)
    wrong_d = (small_d * n * q * q < t * t) | (large_d > n)
    return int(wrong_a.sum()), int(wrong_d.sum()), int((large_a > small_d).sum())


@pytest.fixture(scope="module")
def drawn():
    levels, counts = random_marginals(np.random.default_rng(2022), 1700)
    assert len(levels) >= 10_000 and (counts.sum(axis=1) == VOXELS).all() and counts.min() >= 0
    return levels, counts


@pytest.mark.statement("thm-accuracy-volume", "thm-dice-volume", "thm-volume-order")
def test_no_draw_leaves_the_region(drawn):
    volumes = whole_volumes(*drawn)
    assert outside(*volumes) == (0, 0, 0)
    total, small_a, large_a, small_d, large_d = volumes
    # The draws are no easy ones: ties of both kinds, and every volume from nearly nothing to the image.
    assert (small_a < large_a).sum() > 500 and (small_d < large_d).sum() > 500
    v = total / (VOXELS * LEVELS)
    for k in range(10):
        here = (v > k / 10) & (v <= (k + 1) / 10)
        (low_a, high_a), (low_d, high_d) = accuracy_volume_bounds(v[here]), dice_volume_bounds(v[here])
        assert (small_a[here] / VOXELS - low_a).min() < 0.01 and (high_a - large_a[here] / VOXELS).min() < 0.01
        assert (small_d[here] / VOXELS - low_d).min() < 0.01 and (high_d - large_d[here] / VOXELS).min() < 0.01


@pytest.mark.parametrize(
    ("factor_a", "factor_d", "broken"),
    [(0.99, 1.0, 0), (1.01, 1.0, 0), (1.0, 1.01, 1), (1.0, 1.2, 2), (0.8, 1.0, 2)],
)
def test_wrong_thresholds_leave_the_region(drawn, factor_a, factor_d, broken):
    """The test above can fail: an Accuracy threshold off by 1 per cent, or a Dice threshold too high, is noticed."""
    assert outside(*whole_volumes(*drawn, factor_a, factor_d))[broken] > 0


def test_draws_agree_with_the_public_functions_and_with_rational_arithmetic(drawn):
    levels, counts = (x[::101] for x in drawn)
    results = np.column_stack(whole_volumes(levels, counts))
    for row, (level, count) in enumerate(zip(levels, counts, strict=True)):
        total, small_a, large_a, small_d, large_d = (int(x) for x in results[row])
        m = np.repeat(level / LEVELS, count)
        got = optimal_volumes(m.reshape(64, 64))
        assert got.expected == total / (VOXELS * LEVELS)
        assert got.accuracy == (small_a / VOXELS, large_a / VOXELS)
        assert got.dice == (small_d / VOXELS, large_d / VOXELS)
        if row % 10 == 0:
            voxels = [Fraction(int(x), LEVELS) for x in np.repeat(level, count)]
            groups = sorted(set(voxels), reverse=True)
            mass = {x: voxels.count(x) for x in groups}
            sums = itertools.accumulate(mass[x] * x for x in groups)
            sizes = itertools.accumulate(mass[x] for x in groups)
            t = max(s / (k + sum(voxels)) for s, k in zip(sums, sizes, strict=True))
            assert sum(mass[x] for x in groups if x > t) == small_d
            assert sum(mass[x] for x in groups if x >= t) == large_d
            assert dice_threshold(m) == pytest.approx(float(t), abs=1e-15)


# ---------------------------------------------------------------- every marginal of a small image


@pytest.mark.statement("thm-accuracy-volume", "thm-dice-volume", "thm-volume-order", "cor-volume-grid")
@pytest.mark.parametrize(("voxels", "q"), [(4, 12), (9, 4), (3, 20)])
def test_bounds_and_who_attains_them_over_all_marginals(voxels, q):
    """Rational arithmetic. The extremal marginals, and no others, attain the ends that need a tie."""
    attained = {"accuracy 2v": set(), "accuracy 2v - 1": set(), "dice v^2": set()}
    for m in all_marginals(voxels, q):
        v, (small_a, large_a), (small_d, large_d) = exact_volumes(m)
        (low_a, high_a), (low_d, high_d) = bounds(v)
        assert low_a <= small_a <= large_a <= high_a
        assert low_d <= small_d <= large_d <= high_d
        assert large_a <= small_d
        if large_a == 2 * v < 1:
            attained["accuracy 2v"].add(tuple(m))
        if small_a == 2 * v - 1 > 0 and v < 1:
            attained["accuracy 2v - 1"].add(tuple(m))
        if small_d == v * v < 1:
            attained["dice v^2"].add(tuple(m))
        # The other ends: nothing, or everything.
        assert (small_a == 0) == (max(m) <= HALF)
        assert (large_a == 1) == (min(m) >= HALF)
        assert (large_d == 1) == (min(m) >= v / (1 + v))
    one, zero = Fraction(1), Fraction(0)
    assert attained["accuracy 2v"] == {(HALF,) * k + (zero,) * (voxels - k) for k in range(1, voxels)}
    assert attained["accuracy 2v - 1"] == {(one,) * k + (HALF,) * (voxels - k) for k in range(1, voxels)}
    roots = [k for k in range(1, voxels) if math.isqrt(k * voxels) ** 2 == k * voxels]
    expected = {
        (one,) * k + (Fraction(math.isqrt(k * voxels), voxels + math.isqrt(k * voxels)),) * (voxels - k) for k in roots
    }
    assert attained["dice v^2"] == {m for m in expected if q % m[-1].denominator == 0}
    assert voxels == 3 or len(attained["dice v^2"]) == 1


@pytest.mark.statement("cor-volume-grid", "thm-accuracy-volume", "thm-dice-volume")
@pytest.mark.parametrize("voxels", [1, 2, 5, 9])
def test_every_volume_between_the_bounds_is_that_of_an_optimum(voxels):
    """Two levels, and no tie, do it in the inside: the sharp bounds on a grid are the nearest volumes it has."""
    for v in [Fraction(k, 24) for k in range(1, 24)]:
        (low_a, high_a), (low_d, _) = bounds(v)
        for x in (Fraction(k, voxels) for k in range(voxels + 1)):
            rest = 1 - x

            def two_levels(inside, x=x, rest=rest, v=v):
                outer = [(v - x * inside) / rest] * int(rest * voxels) if rest else []
                m = [inside] * int(x * voxels) + outer
                assert all(0 <= y <= 1 for y in m) and sum(m) == v * voxels
                return m

            if low_d < x <= 1:
                m = two_levels(min(Fraction(1), v / x))
                assert exact_volumes(m)[2] == (x, x)
            if low_a < x < high_a:
                lo = max(HALF, (v - rest * HALF) / x)  # the level inside: above 1/2, and so that the other is below
                hi = min(Fraction(1), v / x)
                m = two_levels((lo + hi) / 2 if lo < hi else hi)
                assert exact_volumes(m)[1] == (x, x)


def test_wrong_dice_threshold_breaks_the_lower_bound():
    m = dice_extremal(0.5, 64) + np.repeat([0.0, 1e-6], [16, 48])
    t, low = dice_threshold(m), dice_volume_bounds(m.mean())[0]
    assert optimal_dice(m).mean() == 1.0 and (m >= t).all()
    assert (m >= 1.001 * t).mean() < low


# ---------------------------------------------------------------- extremal marginals


@pytest.mark.statement("thm-accuracy-volume")
def test_accuracy_extremal_by_hand():
    assert accuracy_extremal(0.25, 4).tolist() == [0.5, 0.5, 0.0, 0.0]
    assert accuracy_extremal(0.5, 3).tolist() == [0.5, 0.5, 0.5]
    assert accuracy_extremal(0.75, (2, 2)).tolist() == [[1.0, 1.0], [0.5, 0.5]]
    assert accuracy_extremal(0, 2).tolist() == [0.0, 0.0]
    assert accuracy_extremal(1, 2).tolist() == [1.0, 1.0]


@pytest.mark.statement("thm-accuracy-volume", "cor-volume-grid")
@pytest.mark.parametrize("voxels", [1, 2, 7, 10, 64])
def test_accuracy_extremals_attain_both_ends(voxels):
    for k in range(2 * voxels + 1):
        v = k / (2 * voxels)
        m = accuracy_extremal(v, voxels)
        assert m.mean() == pytest.approx(v, abs=1e-15)
        exact = Fraction(k, 2 * voxels)
        (low, high), _ = bounds(exact)
        assert (Fraction(int((m > 0.5).sum()), voxels), Fraction(int((m >= 0.5).sum()), voxels)) == (low, high)
        assert optimal_volumes(m).accuracy == (float(low), float(high))
        part = m > 0.5
        while not (part == (m >= 0.5)).all():  # one tie after the other: all of them are optima
            assert accuracy(part, m) == pytest.approx(accuracy(optimal_accuracy(m), m), abs=1e-15)
            part[np.argmax((m == 0.5) & ~part)] = True


@pytest.mark.statement("thm-dice-volume")
def test_dice_extremal_by_hand():
    assert dice_extremal(1 / 3, 9).tolist() == [1.0] + [0.25] * 8
    assert dice_extremal(0.6, (5, 5)).reshape(-1).tolist() == [1.0] * 9 + [0.375] * 16
    assert dice_extremal(0, 2).tolist() == [0.0, 0.0]
    assert dice_extremal(1, 2).tolist() == [1.0, 1.0]
    # At these volumes the tie is exact in float64: both masks have the same Dice, and so has every mask between.
    for v, voxels in [(1 / 3, 9), (0.6, 25), (1 / 7, 49), (3 / 5, 100)]:
        m = dice_extremal(v, voxels)
        exact_v, _, exact_d = exact_volumes([Fraction(x) for x in m])
        assert exact_v == Fraction(v).limit_denominator(100) and exact_d == (exact_v**2, 1)


@pytest.mark.statement("thm-dice-volume", "cor-volume-grid")
@pytest.mark.parametrize("voxels", [1, 2, 7, 25, 64])
def test_dice_extremals_attain_both_ends(voxels):
    for k in range(1, voxels + 1):
        v = math.sqrt(k / voxels)
        m = dice_extremal(v, voxels)
        assert m.mean() == pytest.approx(v, abs=1e-15) and (m == 1).sum() == k
        assert dice_threshold(m) == pytest.approx(v / (1 + v), abs=1e-15)
        assert optimal_volumes(m).dice == (k / voxels, 1.0)
        assert k / voxels == pytest.approx(dice_volume_bounds(v)[0], abs=1e-15)
        for x in range(k, voxels + 1):
            assert dice(np.arange(voxels) < x, m) == pytest.approx(2 * v / (1 + v), abs=1e-14)
        c = np.where(m == 1, 1.0, 0.3)  # soft optima have every volume between, not only whole voxels
        assert soft_dice(c, m) == pytest.approx(1 - 2 * v / (1 + v), abs=1e-14)


@pytest.mark.parametrize(
    ("extremal", "v", "voxels", "found"),
    [
        (
            accuracy_extremal,
            0.3,
            4,
            r"v: expected 2 \* v \* voxels to be a whole number, "
            r"got 2 \* 0.3 \* 4 = 2.4; use 2/8 or 3/8",
        ),
        (
            dice_extremal,
            0.3,
            10,
            r"v: expected v\*\*2 \* voxels to be a whole number, "
            r"got 0.3\*\*2 \* 10 = 0.89\d*; use sqrt\(0/10\) or sqrt\(1/10\)",
        ),
        (dice_extremal, 0.5, 10, r"use sqrt\(2/10\) or sqrt\(3/10\)"),
        (accuracy_extremal, 1.5, 4, r"v: expected a fraction of the image in \[0, 1\], got 1.5"),
        (dice_extremal, np.nan, 4, r"v: expected a fraction of the image in \[0, 1\], got nan"),
        (dice_extremal, "much", 4, r"v: expected a number in \[0, 1\], got 'much'"),
        (accuracy_extremal, 0.5, 0, r"voxels: expected at least one voxel, got 0"),
        (dice_extremal, 0.5, (4, 0), r"voxels: expected at least one voxel, got \(4, 0\)"),
        (dice_extremal, 0.5, (), r"voxels: expected at least one voxel, got \(\)"),
        (dice_extremal, 0.5, 4.0, r"voxels: expected a number of voxels or a shape, got 4.0"),
        (accuracy_extremal, 0.5, "ab", r"voxels: expected a number of voxels or a shape, got 'ab'"),
    ],
)
def test_extremals_refuse(extremal, v, voxels, found):
    with pytest.raises(ValueError, match=found):
        extremal(v, voxels)


# ---------------------------------------------------------------- real arrays through the public functions

values = st.one_of(st.sampled_from([0.0, 0.125, 0.25, 1 / 3, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False))
marginals = hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, max_side=5), elements=values)


@pytest.mark.statement("thm-accuracy-volume", "thm-dice-volume", "thm-volume-order", "cor-volume-support")
@given(marginals, st.sampled_from([np.float16, np.float32, np.float64]), st.booleans())
@example(np.array([1.0, 1 / 3, 1 / 3, 1 / 3]), np.float64, False)
@example(np.full((2, 2), 0.5), np.float16, True)
@example(np.zeros(3), np.float32, False)
@settings(max_examples=200)
def test_properties_of_real_arrays(m, dtype, tensor):
    m = m.astype(dtype)
    x = both(m)[-1] if tensor else m
    exact = m.astype(np.float64)
    v, t = exact.mean(), dice_threshold(x)
    s_a, s_d = (np.asarray(s) for s in (optimal_accuracy(x), optimal_dice(x)))
    found = optimal_volumes(x)
    assert found.expected == pytest.approx(v, abs=1e-15)
    assert found.accuracy[0] <= s_a.mean() == found.accuracy[1] <= found.dice[0] <= s_d.mean() <= found.dice[1]
    assert not (s_a & ~s_d).any()  # one mask lies within the other, not only its volume
    sigma = (m > 0).mean()
    for part in {1.0, sigma} - {0.0}:
        share = min(v / part, 1.0)
        for (small, large), limits in zip(found[1:], (accuracy_volume_bounds, dice_volume_bounds), strict=True):
            low, high = limits(share)
            assert part * low - 1e-11 <= small <= large <= part * high + 1e-11
    # A soft-Dice optimum is free on the ties.
    ties = abs(exact - t) <= 1e-12 * t
    c = np.where(ties, np.random.default_rng(m.size).random(m.shape), exact > t)
    if v > 0:
        assert soft_dice(c, exact) == pytest.approx(1 - 2 * t, abs=1e-11)
        assert v * v - 1e-11 <= c.mean() and (s_a <= c + 1e-12).all()


@given(marginals)
@settings(max_examples=100)
def test_optimal_volumes_count_in_rational_arithmetic(m):
    """With tolerance 0 ties are those of float64; with the default those that rounding may have broken as well."""
    if m.any():
        v, exact_a, exact_d = exact_volumes([Fraction(x) for x in m.reshape(-1).tolist()])
        found = optimal_volumes(m)
        assert found.expected == pytest.approx(float(v), abs=1e-15)
        assert found.accuracy == tuple(float(x) for x in exact_a) or (abs(m - 0.5) < 1e-12)[m != 0.5].any()
        assert found.dice[0] <= float(exact_d[0]) <= float(exact_d[1]) <= found.dice[1]
    strict = optimal_volumes(m, tolerance=0.0)
    assert strict.dice[1] == optimal_dice(m).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16, np.float32, np.float64])
def test_optimal_volumes_of_labels_and_of_nothing(kind, dtype):
    label = np.zeros((4, 5), dtype=dtype)
    assert optimal_volumes(kind(label)) == (0.0, (0.0, 0.0), (0.0, 0.0))
    label[1:3, 2:] = 1
    assert optimal_volumes(kind(label)) == (0.3, (0.3, 0.3), (0.3, 0.3))
    assert optimal_volumes(kind(label[::2].copy())) == (0.3, (0.3, 0.3), (0.3, 0.3))


def test_optimal_volumes_in_several_blocks():
    m = np.random.default_rng(4).random((90, 40, 50)).astype(np.float32)
    t = dice_threshold(m)
    for x in (m[::-1, :, ::2].repeat(2, axis=2), *both(m)):
        y = np.asarray(x).astype(np.float64)
        t = dice_threshold(x)
        expected = (y.mean(), ((y > 0.5).mean(), (y >= 0.5).mean()), ((y > t).mean(), (y >= t).mean()))
        found = optimal_volumes(x)
        assert found.expected == pytest.approx(expected[0], abs=1e-14)
        assert found[1:] == expected[1:]


@pytest.mark.parametrize("tolerance", [-1e-9, 1.0, np.nan, "none", None])
def test_bad_tolerance(tolerance):
    with pytest.raises(ValueError, match=r"tolerance: expected a number in \[0, 1\), got"):
        optimal_volumes(np.full(4, 0.5), tolerance)


def test_tolerance_makes_ties():
    assert optimal_volumes(dice_extremal(1 / 3, 9), tolerance=0).dice == (1 / 9, 1.0)
    assert optimal_volumes(accuracy_extremal(0.25, 4), tolerance=0).accuracy == (0.0, 0.5)
    m = dice_extremal(math.sqrt(0.5), 20)
    assert optimal_volumes(m).dice == (0.5, 1.0)
    assert optimal_volumes(m - np.where(m < 1, 1e-6, 0)).dice == (0.5, 0.5)
    assert optimal_volumes(m + np.where(m < 1, 1e-6, 0)).dice == (1.0, 1.0)
    assert optimal_volumes(m + np.where(m < 1, 1e-6, 0), tolerance=1e-5).dice == (0.5, 1.0)


@pytest.mark.parametrize("m", [[0.5, np.nan], [1.5, 0.5], [], 0.5])
def test_optimal_volumes_refuse(m):
    with pytest.raises(ValueError, match=r"^m"):
        optimal_volumes(np.array(m))


@pytest.mark.statement("thm-volume-order")
def test_every_pair_of_volumes_in_that_order_occurs():
    n = 10
    for small, large in itertools.combinations_with_replacement(range(n + 1), 2):
        if large:
            m = [Fraction(1)] * small + [Fraction(499, 1000)] * (large - small) + [Fraction(0)] * (n - large)
            _, volumes_a, volumes_d = exact_volumes(m)
            assert (volumes_a, volumes_d) == ((Fraction(small, n),) * 2, (Fraction(large, n),) * 2)


@pytest.mark.statement("cor-volume-support")
@given(marginals, st.integers(1, 200))
@settings(max_examples=60)
def test_a_background_changes_no_mask(m, background):
    padded = np.concatenate([m.reshape(-1), np.zeros(background)])
    assert dice_threshold(padded) == pytest.approx(dice_threshold(m), abs=1e-15)
    found, before = optimal_volumes(padded), optimal_volumes(m)
    for after, first in zip(found[1:], before[1:], strict=True):
        np.testing.assert_allclose(np.multiply(after, padded.size), np.multiply(first, m.size), atol=1e-9)


@pytest.mark.statement("cor-volume-support")
@given(marginals, st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_bounds_with_a_tail(m, share):
    """For every level up to t, and better the higher the level is."""
    assume(m.sum() > 1e-3)
    v, t, found = m.mean(), dice_threshold(m), optimal_volumes(m)
    lows = []
    for level in (share * t, t):
        sigma, tail = np.mean(m >= level), np.mean(m * (m < level))
        lows.append(v * (v - tail) / (sigma + tail))
        assert lows[-1] - 1e-12 <= found.dice[0] <= found.dice[1] <= sigma + 1e-12
        assert 2 * (v - tail) - sigma - 1e-12 <= found.accuracy[0]
        assert found.accuracy[1] <= min(sigma, 2 * (v - tail)) + 1e-12
    assert lows[0] <= lows[1] + 1e-12


@pytest.mark.statement("cor-volume-support")
def test_a_tail_that_is_cut_off_and_forgotten_breaks_the_bound():
    m = np.repeat([1.0, 1e-3, 0.0], [10, 4000, 90])
    v, sigma, tail = m.sum(), 10, 4
    low, _ = np.multiply(optimal_volumes(m).dice, m.size)
    assert v * (v - tail) / (sigma + tail) == pytest.approx(10) == pytest.approx(low)
    assert v**2 / sigma > 19 > low


@pytest.mark.statement("prop-two-regions")
@pytest.mark.parametrize("root", [2, 3, 4])
def test_two_regions_switch_where_the_proposition_says(root):
    """With 1 + r = root^2 everything is rational: p* = 1 / (1 + root)."""
    r = root**2 - 1
    star = Fraction(1, 1 + root)
    for p, volumes in [
        (star, (1, 1 + r)),
        (star - Fraction(1, 999), (1, 1)),
        (star + Fraction(1, 999), (1 + r, 1 + r)),
    ]:
        m = [Fraction(1)] + [p] * r + [Fraction(0)] * 5
        v, volumes_a, volumes_d = exact_volumes(m)
        assert tuple(x * len(m) for x in volumes_d) == volumes
        assert tuple(x * len(m) for x in volumes_a) == (1, 1)
        assert v * len(m) == 1 + p * r
        if p == star:
            assert (volumes_d[0] / v, volumes_d[1] / v) == (Fraction(1, root), root)
        m = np.array([float(x) for x in m])
        assert np.multiply(optimal_volumes(m).dice, m.size) == pytest.approx(volumes, abs=1e-12)


# ---------------------------------------------------------------- a prescribed volume


@pytest.mark.statement("prop-fixed-volume")
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
@settings(max_examples=60)
def test_at_a_fixed_volume_both_metrics_have_the_same_optima(levels, data):
    """Exhaustive, in rational arithmetic: the best masks are those between {m > u} and {m >= u}, for both metrics."""
    m = [Fraction(x, 4) for x in levels]
    n, total = len(m), sum(m)
    count = data.draw(st.integers(1, n))
    masks = [s for s in itertools.product([0, 1], repeat=n) if sum(s) == count]

    def inside(s):
        return sum(x for x, chosen in zip(m, s, strict=True) if chosen)

    score_a = {s: Fraction(n - count) / n - total / n + 2 * inside(s) / n for s in masks}
    score_d = {s: 2 * inside(s) / (count + total) for s in masks}
    best_a = {s for s in masks if score_a[s] == max(score_a.values())}
    best_d = {s for s in masks if score_d[s] == max(score_d.values())}
    u = sorted(m, reverse=True)[count - 1]
    between = {s for s in masks if all((x >= u if chosen else x <= u) for x, chosen in zip(m, s, strict=True))}
    assert best_a == best_d == between
    x = np.array(m, dtype=float)
    found = optimal_at_volume(x, count / n)
    assert tuple(found.astype(int).tolist()) in between
    if count == total:  # |s| = v
        assert all(score_d[s] == inside(s) / total for s in masks)
        assert all(score_a[s] == 1 - 2 * total / n * (1 - score_d[s]) for s in masks)
    assert accuracy(found, x) == pytest.approx(float(max(score_a.values())), abs=1e-15)
    assert dice(found, x) == pytest.approx(float(max(score_d.values())), abs=1e-15)


@pytest.mark.statement("prop-volume-price")
@pytest.mark.parametrize(("voxels", "q"), [(4, 12), (9, 4)])
def test_the_expected_volume_costs_at_most_what_a_constant_marginal_pays(voxels, q):
    paid = set()
    for m in all_marginals(voxels, q):
        total = sum(m)
        if total.denominator == 1:
            best = max(2 * sum(m[:k]) / (k + total) for k in range(1, voxels + 1))
            kept = sum(m[: int(total)]) / total / best
            assert kept >= (1 + total / voxels) / 2
            if kept == (1 + total / voxels) / 2:
                paid.add(tuple(m))
    assert paid == {(Fraction(k, voxels),) * voxels for k in range(1, voxels + 1) if q * k % voxels == 0}


@pytest.mark.statement("prop-fixed-volume")
def test_volumes_tie_in_c_order():
    m = np.array([[0.5, 0.7], [0.7, 0.7]])
    for x in (*both(m), *both(m.astype(np.float16))):
        assert optimal_at_volume(x, 0.5).tolist() == [[False, True], [True, False]]
        assert optimal_at_volume(x, 0).tolist() == [[False, False], [False, False]]
        assert optimal_at_volume(x, 1).tolist() == [[True, True], [True, True]]
    assert optimal_at_volume(m.T, 0.25).tolist() == [[False, True], [False, False]]
    assert optimal_at_volume(np.array([0, 1, 1]), 1 / 3).tolist() == [False, True, False]


@pytest.mark.statement("prop-fixed-volume")
def test_both_optima_coincide_at_the_volume_of_the_marginal():
    """At |s| = v: A_m(s) = 1 - 2v + 2 int(s m) and D_m(s) = int(s m) / v (theory of the NeurIPS 2022 paper)."""
    m = np.random.default_rng(5).random(200)
    m[-1] = np.ceil(m[:-1].sum()) - m[:-1].sum()
    v = m.mean()
    s = optimal_at_volume(m, v)
    inside = (s * m).mean()
    assert accuracy(s, m) == pytest.approx(1 - 2 * v + 2 * inside, abs=1e-14)
    assert dice(s, m) == pytest.approx(inside / v, abs=1e-14)


@pytest.mark.statement("thm-accuracy-volume", "thm-dice-volume")
def test_bounds_are_sharp():
    assert accuracy_volume_bounds(0.75) == (0.5, 1.0)
    assert accuracy_volume_bounds(0.25) == (0.0, 0.5)
    assert dice_volume_bounds(0.5) == (0.25, 1.0)
    assert dice_volume_bounds(0) == (0.0, 0.0) == accuracy_volume_bounds(0)
    assert dice_volume_bounds(1) == (1.0, 1.0) == accuracy_volume_bounds(np.float32(1))
    # Lower end: m = 1 on v^2 = 1/4 and v / (1 + v) = 1/3 elsewhere; without the tie the optimum is that quarter.
    m = np.array([1.0, 1 / 3, 1 / 3, 1 / 3])
    assert m.mean() == pytest.approx(0.5)
    assert dice_threshold(m) == pytest.approx(1 / 3, abs=1e-16)
    assert dice(m == 1, m) == pytest.approx(2 * dice_threshold(m), abs=1e-15)
    assert optimal_dice(m - [0, 1e-9, 1e-9, 1e-9]).tolist() == [True, False, False, False]
    assert optimal_dice(np.full(5, 0.01)).all()  # upper end
    assert optimal_accuracy(np.array([1.0, 1.0, 0.5 - 1e-9, 0.5 - 1e-9])).mean() == 0.5  # v = .75: 2v - 1
    assert optimal_accuracy(np.array([0.5, 0.0])).mean() == 0.5  # v = .25: 2v


@pytest.mark.parametrize("bounds", [accuracy_volume_bounds, dice_volume_bounds])
def test_bounds_take_arrays(bounds):
    v = np.linspace(0, 1, 6).reshape(2, 3)
    low, high = bounds(v)
    assert low.shape == high.shape == (2, 3)
    for got, x in zip(zip(low.flat, high.flat, strict=True), v.flat, strict=True):
        assert got == bounds(float(x))
    for x in both(v.astype(np.float32))[1:]:
        low_t, high_t = bounds(x)
        assert low_t.dtype == torch.float64
        np.testing.assert_allclose(low_t.numpy(), low, atol=1e-7)
        np.testing.assert_allclose(high_t.numpy(), high, atol=1e-7)
    for bad, found in [(-0.1, "-0.1"), (1.5, "1.5"), (float("nan"), "nan"), (np.array([0.5, 2.0]), "2.0")]:
        with pytest.raises(ValueError, match=rf"v.*expected .*\[0, 1\].* {found}"):
            bounds(bad)
    with pytest.raises(ValueError, match=r"v: expected at least one voxel"):
        bounds(np.zeros(0))


@pytest.mark.parametrize(
    ("volume", "found"),
    [
        (0.3, r"volume: expected a whole number of voxels, got 0.3 of 4 voxels = 1.2; use 1/4 or 2/4"),
        (-0.25, r"volume: expected a fraction of the image in \[0, 1\], got -0.25"),
        (2, r"volume: expected a fraction of the image in \[0, 1\], got 2.0"),
        (np.nan, r"volume: expected a fraction of the image in \[0, 1\], got nan"),
        ("half", r"volume: expected a number in \[0, 1\], got 'half'"),
    ],
)
def test_bad_volumes(volume, found):
    with pytest.raises(ValueError, match=found):
        optimal_at_volume(np.full(4, 0.5), volume)
