import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kinds import KINDS, both, needs_torch, torch

from noisyseg import accuracy, dice, dice_threshold, optimal_accuracy, optimal_dice
from noisyseg.linear_fractional import (
    f_beta_threshold,
    jaccard_threshold,
    linear_fractional_optimum,
    optimal_f_beta,
    optimal_jaccard,
    optimal_tversky,
    tversky_threshold,
)
from noisyseg.metrics import f_beta, jaccard, tversky

values = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False))
marginals = hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, max_side=4), elements=values)
positive = marginals.filter(lambda m: m.sum() > 1e-6)
costs = st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0])
SIXTEEN = (np.arange(1 << 16)[:, None] >> np.arange(16)) & 1  # every mask of sixteen voxels

# p and q of the metrics, as TP, FP, FN, TN
METRICS = {
    "Accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "weighted Accuracy": ((3, 0, 0, 1), (1, 1, 1, 1)),
    "Dice": ((2, 0, 0, 0), (2, 1, 1, 0)),
    "Jaccard": ((1, 0, 0, 0), (1, 1, 1, 0)),
    "F_1/2": ((5, 0, 0, 0), (5, 4, 1, 0)),
    "F_2": ((5, 0, 0, 0), (5, 1, 4, 0)),
    "Tversky .25 1": ((4, 0, 0, 0), (4, 1, 4, 0)),
    "Tversky 2 1/2": ((2, 0, 0, 0), (2, 4, 1, 0)),
    "smoothed Dice": ((9, 1, 1, 1), (9, 5, 5, 1)),
    "a loss of its own": ((3, -1, 0, 1), (4, 2, 3, 2)),
}
OPTIMA = {
    "Accuracy": (accuracy, lambda m: 0.5, optimal_accuracy),
    "Dice": (dice, dice_threshold, optimal_dice),
    "Jaccard": (jaccard, jaccard_threshold, optimal_jaccard),
    "F_1/2": (lambda s, m: f_beta(s, m, 0.5), lambda m: f_beta_threshold(m, 0.5), lambda m: optimal_f_beta(m, 0.5)),
    "F_2": (lambda s, m: f_beta(s, m, 2), lambda m: f_beta_threshold(m, 2), lambda m: optimal_f_beta(m, 2)),
    "Tversky .25 1": (
        lambda s, m: tversky(s, m, 0.25, 1),
        lambda m: tversky_threshold(m, 0.25, 1),
        lambda m: optimal_tversky(m, 0.25, 1),
    ),
    "Tversky 2 1/2": (
        lambda s, m: tversky(s, m, 2, 0.5),
        lambda m: tversky_threshold(m, 2, 0.5),
        lambda m: optimal_tversky(m, 2, 0.5),
    ),
}
EIGHTHS = {
    "one voxel": [3],
    "all one": [8] * 16,
    "a label": [8, 0, 8, 8, 0, 0],
    "constant": [3] * 16,
    "tie at 1/4 for Dice": [8, *[2] * 8, *[0] * 7],
    "tie at 1/2 for F_1/2": [8, 4, 4, 0, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0],  # 1/2 = (1/2) (1/4) (1 + 6/2)
    "tie at 1/8 for F_2": [8, *[1] * 6, *[0] * 9],  # 7/8 = (1/8) 4 (1 + 6/8)
    **{f"random {seed}": np.random.default_rng(seed).integers(0, 9, 16).tolist() for seed in range(8)},
}


def search(eighths, p, q):
    """Give the best value among all masks, and which masks attain it, in whole numbers."""
    masks = SIXTEEN[: 1 << len(eighths), : len(eighths)]
    m = np.array(eighths)
    confusion = np.array([masks @ m, masks @ (8 - m), (1 - masks) @ m, (1 - masks) @ (8 - m)])
    above, below = np.array(p) @ confusion, np.array(q) @ confusion
    assert (below > 0).all()
    k = (above / below).argmax()
    best = Fraction(int(above[k]), int(below[k]))
    left, right = above * best.denominator, below * best.numerator
    assert (left <= right).all()
    return best, left == right, masks


def test_hand_computed():
    m = np.array([1.0, 0.5, 0.5, 0.0])
    assert jaccard_threshold(m) == 0.4  # all three voxels: J = 2/3
    assert f_beta_threshold(m, 2) == pytest.approx(2 / 11, abs=1e-16)  # all three: 2 / (3 + 4 * 2)
    assert f_beta_threshold(m, 0.5) == pytest.approx(2 / 3, abs=1e-16)  # the first alone: 1 / (1 + 2/4)
    assert optimal_f_beta(m, 0.5).tolist() == [True, False, False, False]
    assert tversky_threshold(m, 4, 1) == f_beta_threshold(m, 0.5)
    assert optimal_tversky(m, 0.25, 1).tolist() == optimal_f_beta(m, 2).tolist() == [True, True, True, False]
    assert linear_fractional_optimum(m, (3, 0, 0, 1), (1, 1, 1, 1)) == (1.75, 0.25)  # (3 * 2 + 1) / 4
    best, t = linear_fractional_optimum(
        m, (2.5, 0.5, 0.5, 0.5), (2.5, 1.5, 1.5, 0.5)
    )  # Dice with 1/2 added above, below
    assert best == pytest.approx((2 * 2 + 2) / (2 + 3 + 2), abs=1e-15) and t == pytest.approx(best / 2, abs=1e-15)


@pytest.mark.statement("def-linear-fractional", "thm-linear-fractional")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", EIGHTHS)
def test_the_optima_among_all_masks_are_those_of_the_theorem(name, metric):
    """Whole numbers: the best value, and the whole set of the masks that attain it, ties included."""
    eighths = EIGHTHS[name]
    p, q = METRICS[metric]
    best, optimal, masks = search(eighths, p, q)
    a = [[x[0] - x[1] - x[2] + x[3], x[1] - x[3]] for x in (p, q)]  # a_1, a_2 and b_1, b_2
    t = (best * a[1][1] - a[0][1]) / (a[0][0] - best * a[1][0])
    above, below = (np.array([relation(Fraction(x, 8)) for x in eighths]) for relation in (t.__lt__, t.__gt__))
    np.testing.assert_array_equal(optimal, masks[:, above].all(axis=1) & ~masks[:, below].any(axis=1))

    m = (np.array(eighths) / 8).reshape({16: (2, 2, 2, 2), 6: (2, 3), 1: (1,)}[len(eighths)])
    value, threshold = linear_fractional_optimum(m, p, q)
    assert value == pytest.approx(float(best), abs=1e-14) and threshold == pytest.approx(float(t), abs=1e-14)
    if metric in OPTIMA:
        score, rule, mask = OPTIMA[metric]
        assert rule(m) == pytest.approx(float(t), abs=1e-15)
        np.testing.assert_array_equal(mask(m).ravel(), ~below)
        np.testing.assert_array_equal(mask(m).ravel(), masks[optimal].max(axis=0))
        assert score(mask(m), m) == pytest.approx(float(best), abs=1e-14)


@pytest.mark.parametrize(
    ("name", "metric", "t", "ties"),
    [
        ("tie at 1/4 for Dice", "Jaccard", 1 / 4, 8),
        ("tie at 1/2 for F_1/2", "Tversky 2 1/2", 1 / 2, 6),
        ("tie at 1/8 for F_2", "F_2", 1 / 8, 6),
        ("tie at 1/8 for F_2", "Tversky .25 1", 1 / 8, 6),
    ],
)
def test_the_cases_above_hold_real_ties(name, metric, t, ties):
    m = np.array(EIGHTHS[name]) / 8
    score, rule, mask = OPTIMA[metric]
    assert rule(m) == t and np.count_nonzero(m == t) == ties
    assert score(mask(m), m) == pytest.approx(score(m > t, m), abs=1e-15)


@pytest.mark.statement("thm-linear-fractional")
@pytest.mark.parametrize("metric", METRICS)
def test_no_soft_segmentation_does_better(metric):
    p, q = map(np.array, METRICS[metric])
    rng = np.random.default_rng(1)
    for _ in range(30):
        m, c = rng.random((2, 50)) ** rng.choice([0.2, 1, 5], (2, 1))
        best, t = linear_fractional_optimum(m, p, q)
        for x in (c, np.where(rng.random(50) < 0.9, m > t, c)):
            confusion = [x @ m, x @ (1 - m), (1 - x) @ m, (1 - x) @ (1 - m)]
            assert p @ confusion / (q @ confusion) <= best + 1e-14


@pytest.mark.statement("thm-linear-fractional")
@given(positive, costs, costs)
def test_only_the_quotient_of_the_costs_counts_for_tversky(m, alpha, beta):
    if alpha == beta == 0:
        return
    t, s = tversky_threshold(m, alpha, beta), optimal_tversky(m, alpha, beta)
    assert tversky_threshold(m, alpha / 4, beta / 4) == t
    if alpha > 0:
        assert f_beta_threshold(m, math.sqrt(beta / alpha)) == pytest.approx(t, abs=1e-13)
        if beta > 0:
            best = tversky(s, m, alpha, beta)
            assert t == pytest.approx(alpha * best / (1 - (1 - alpha - beta) * best), abs=1e-13)
            np.testing.assert_array_equal(s, m >= t)
            value, threshold = linear_fractional_optimum(m, (1, 0, 0, 0), (1, alpha, beta, 0))
            assert value == pytest.approx(best, abs=1e-13) and threshold == pytest.approx(t, abs=1e-12)
    if alpha == beta:
        assert t == dice_threshold(m) == jaccard_threshold(m)
        np.testing.assert_array_equal(s, optimal_dice(m))
        np.testing.assert_array_equal(s, optimal_jaccard(m))
        assert jaccard(s, m) == pytest.approx(t / (1 - t), abs=1e-14)


@pytest.mark.statement("cor-f-beta")
@given(positive, st.lists(st.floats(1 / 8, 8), min_size=2, max_size=5))
def test_thresholds_fall_and_masks_grow_with_beta(m, betas):
    v, before, inside = m.mean(), math.inf, np.zeros(m.shape, bool)
    for beta in sorted(betas):
        t, s = f_beta_threshold(m, beta), optimal_f_beta(m, beta)
        weight = beta * beta
        assert v / (1 + weight * v) - 1e-14 <= t <= min(1 / (1 + weight), m.max()) + 1e-14
        assert t <= before + 1e-14 and not (inside & ~s & (abs(m - t) > 1e-13)).any()
        assert np.maximum(m - t, 0).mean() == pytest.approx(weight * t * v, abs=1e-13)
        assert f_beta(s, m, beta) == pytest.approx((1 + weight) * t, abs=1e-13)
        before, inside = t, s


@pytest.mark.statement("cor-f-beta")
@given(positive, st.sampled_from([0.25, 0.5, 1.0]))
def test_a_fainter_image_asks_for_precision(m, beta):
    """F_beta of m and Dice of beta^2 m have the same optima; powers of two, so that nothing is rounded."""
    assert dice_threshold(beta**2 * m) == pytest.approx(beta**2 * f_beta_threshold(m, beta), abs=1e-15)
    near = abs(m - f_beta_threshold(m, beta)) > 1e-14
    np.testing.assert_array_equal(optimal_dice(beta**2 * m)[near], optimal_f_beta(m, beta)[near])


@pytest.mark.statement("cor-f-beta", "thm-linear-fractional")
def test_the_limits():
    m = np.array([[0.7, 0.2], [0.7, 0.0]])
    for beta, alphas in ((0, (1, 0)), (1e-200, (1, 1e-300))):
        assert f_beta_threshold(m, beta) == tversky_threshold(m, *alphas) == pytest.approx(0.7, abs=1e-15)
        assert (
            optimal_f_beta(m, beta).tolist() == optimal_tversky(m, *alphas).tolist() == [[True, False], [True, False]]
        )
    for few in (1e-2, 1e-4):
        assert optimal_f_beta(m, few).tolist() == [[True, False], [True, False]]
        assert optimal_tversky(m, few**2, 1).tolist() == optimal_f_beta(m, 1 / few).tolist() == (m > 0).tolist()
    assert tversky_threshold(m, 0, 3) == 0 and optimal_tversky(m, 0, 3).tolist() == (m > 0).tolist()
    assert linear_fractional_optimum(m, (1, 0, 0, 0), (1, 0, 3, 0)) == (1, 0)
    empty = np.zeros((2, 2))
    for beta in (0, 0.5, 1, 4):
        assert f_beta_threshold(empty, beta) == 1 / (1 + beta**2)
        assert not optimal_f_beta(empty, beta).any()
    for alpha, beta in ((0, 1), (1, 0), (1, 3), (0.5, 0.5)):
        assert tversky_threshold(empty, alpha, beta) == alpha / (alpha + beta)
        assert not optimal_tversky(empty, alpha, beta).any()
    assert jaccard_threshold(empty) == 0.5 and not optimal_jaccard(empty).any()
    for p, q in METRICS.values():
        best, t = linear_fractional_optimum(empty, p, q)
        assert best == (1 if p[3] == q[3] else p[3] / q[3]) and t > 0  # the empty mask


@pytest.mark.statement("cor-smoothing")
@given(positive, st.floats(1e-4, 10))
def test_smoothing_raises_the_threshold_of_dice(m, e):
    best, t = linear_fractional_optimum(m, (2 + e, e, e, e), (2 + e, 1 + e, 1 + e, e))
    v, s = m.mean(), m >= t
    assert t == pytest.approx(best / 2, abs=1e-13)
    assert best == pytest.approx((2 * (s * m).mean() + e) / (s.mean() + v + e), abs=1e-13)
    assert dice_threshold(m) - 1e-13 <= t <= 0.5 + 1e-13
    more = linear_fractional_optimum(m, (2 + 2 * e, 2 * e, 2 * e, 2 * e), (2 + 2 * e, 1 + 2 * e, 1 + 2 * e, 2 * e))[1]
    assert t <= more + 1e-13
    assert np.maximum(m - t, 0).mean() == pytest.approx(t * v - e * (0.5 - t), abs=1e-12)
    empty = e / (2 * (v + e))  # half the metric of the empty mask
    assert t >= empty - 1e-13
    if m.max() < empty - 1e-9:
        assert t == pytest.approx(empty, abs=1e-13) and not s.any()


@pytest.mark.parametrize("beta", [0, 1e-3, 0.3, 1, 7, 1e3, 1e200])
def test_one_voxel_and_all_one(beta):
    label = np.array([1.0, 1.0, 0.0])
    assert optimal_f_beta(label, beta).tolist() == [True, True, False]
    assert f_beta_threshold(label, beta) == pytest.approx(1 / (1 + beta * beta), rel=1e-15)
    assert optimal_f_beta(np.full(1, 0.3), beta).all() and optimal_f_beta(np.ones((2, 2)), beta).all()
    assert f_beta_threshold(np.full(1, 0.3), beta) == pytest.approx(0.3 / (1 + 0.3 * beta * beta), rel=1e-15)


@pytest.mark.parametrize("size", [50, 300_000])
@pytest.mark.parametrize("beta", [0.05, 0.5, 1, 3, 30])
def test_f_beta_against_sorting(size, beta):
    m = np.random.default_rng(size).random(size) ** 4
    psi = np.sort(m)[::-1].astype(np.longdouble)
    expected = float((np.cumsum(psi) / (np.arange(1, size + 1) + np.longdouble(beta) ** 2 * psi.sum())).max())
    assert f_beta_threshold(m, beta) == pytest.approx(expected, rel=1e-15 * (1 + beta**-2), abs=0)
    assert all(tversky_threshold(x, 1, beta**2) == f_beta_threshold(m, beta) for x in both(m))


RULES = [
    jaccard_threshold,
    optimal_jaccard,
    lambda m: f_beta_threshold(m, 2),
    lambda m: optimal_f_beta(m, 2),
    lambda m: optimal_f_beta(m, 0),
    lambda m: tversky_threshold(m, 0.3, 0.7),
    lambda m: optimal_tversky(m, 0.3, 0.7),
    lambda m: optimal_tversky(m, 0, 0.7),
    lambda m: linear_fractional_optimum(m, *METRICS["smoothed Dice"]),
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("rule", RULES)
def test_kind_layout_and_order_do_not_matter(rule, dtype):
    m = (np.random.default_rng(3).random((10, 12, 14)) ** 2).astype(dtype)
    views = [lambda x: x, lambda x: x.transpose(2, 0, 1) if isinstance(x, np.ndarray) else x.permute(2, 0, 1)]
    views += [lambda x: x[::2, 3:, 1:12:3]]
    for view in views:
        exact = np.ascontiguousarray(view(m)).astype(np.float64)
        expected = rule(exact)
        images = [view(x) for x in ([m] if dtype == ">f4" else both(m))]
        for x in images:
            found = rule(x)
            if isinstance(expected, np.ndarray):
                assert type(found) is type(x) and str(found.dtype).endswith("bool")
                np.testing.assert_array_equal(np.asarray(found), expected)
            else:
                assert found == pytest.approx(expected, abs=1e-15)
    flat = m.astype(np.float64).ravel()
    order = np.random.default_rng(0).permutation(flat.size)
    moved, expected = rule(flat[order]), rule(flat)
    if isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(moved, expected[order])
    else:
        assert moved == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16])
def test_a_label_is_its_own_optimum(kind, dtype):
    label = kind((np.arange(24).reshape(2, 3, 4) % 5 == 0).astype(dtype))
    for rule in RULES:
        found = rule(label)
        if not isinstance(found, float | tuple):
            assert bool((found == (label != 0)).all())
    assert linear_fractional_optimum(label, *METRICS["Jaccard"]) == (1.0, 0.5)


@needs_torch
def test_gradients_and_bfloat16():
    m = torch.rand(30, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16).requires_grad_()
    exact = m.detach().double().numpy()
    for beta in (0, 0.5, 2):
        assert f_beta_threshold(m, beta) == pytest.approx(f_beta_threshold(exact, beta), abs=1e-15)
        assert optimal_f_beta(m, beta).tolist() == optimal_f_beta(exact, beta).tolist()
    best, t = linear_fractional_optimum(m, *METRICS["F_2"])
    assert (best, t) == pytest.approx(linear_fractional_optimum(exact, *METRICS["F_2"]), abs=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("m", "found"),
    [([0.5, np.nan], "found nan"), ([1.5, 0.5], "found 1.5"), ([], r"empty array of shape \(0,\)")],
)
def test_bad_marginals(kind, rule, m, found):
    with pytest.raises(ValueError, match=rf"^m.*{found}"):
        rule(kind(np.array(m)))


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, "one", [1, 2], None])
def test_bad_parameters(wrong):
    m = np.array([0.2, 0.7])
    for rule in (f_beta_threshold, optimal_f_beta):
        with pytest.raises(ValueError, match=r"^beta: expected"):
            rule(m, wrong)
    for rule in (tversky_threshold, optimal_tversky):
        with pytest.raises(ValueError, match=r"^alpha: expected"):
            rule(m, wrong, 1)
        with pytest.raises(ValueError, match=r"^beta: expected"):
            rule(m, 1, wrong)
        with pytest.raises(ValueError, match=r"^alpha and beta: .* got 0 and 0"):
            rule(m, 0, 0)
    for numbers in (wrong, (1, 2, 3), (1, 0, 0, math.nan), ((1,), (2,), (3,), (4,)), (1, 0, 0, 0, 0)):
        with pytest.raises(ValueError, match=r"^numerator: expected four finite numbers"):
            linear_fractional_optimum(m, numbers, (1, 1, 1, 1))
        with pytest.raises(ValueError, match=r"^denominator: expected four finite numbers"):
            linear_fractional_optimum(m, (1, 0, 0, 0), numbers)


@pytest.mark.statement("thm-linear-fractional")
def test_metrics_that_the_theorem_does_not_cover():
    m = np.array([0.2, 0.7])
    for q in ((1, 1, 0, 0), (1, -1, 1, 0), (0, 0, 0, 0)):  # the precision, and others that can be divided by zero
        with pytest.raises(ValueError, match=r"^denominator: expected a positive one for every segmentation"):
            linear_fractional_optimum(m, (1, 0, 0, 0), q)
    with pytest.raises(ValueError, match="expected a metric that grows with TP"):
        linear_fractional_optimum(m, (0, 1, 1, 0), (1, 1, 1, 1))  # the error, to be made as large as possible
    with pytest.raises(ValueError, match="expected a metric that grows with TP"):
        linear_fractional_optimum(m, (1, 1, 1, 1), (1, 1, 1, 1))  # a constant
