import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kinds import KINDS, needs_torch, torch

from noisyseg._core.arrays import BLOCK
from noisyseg.expected import dice_covariance, expected_dice, marginal
from noisyseg.metrics import dice, f_beta, jaccard, soft_dice, tversky
from noisyseg.noise import GaussianDeformation
from noisyseg.optimal import optimal_dice

GOLDEN = 5 * math.sqrt(5) - 11  # the most by which the Dice of a marginal exceeds the expected Dice

# R labels of any density, empty and full ones among them, of one to four axes.
label_sets = st.integers(1, 8).flatmap(
    lambda r: hnp.array_shapes(max_dims=4, max_side=4).flatmap(
        lambda shape: hnp.arrays(bool, (r, *shape), elements=st.booleans(), fill=st.booleans())
    )
)
seeds = st.integers(0, 2**32 - 1)


def segmentations(shape, seed):
    """A mask, a soft segmentation, and the empty mask."""
    rng = np.random.default_rng(seed)
    return [rng.random(shape) < rng.random(), rng.random(shape) ** 2, np.zeros(shape)]


@pytest.mark.statement("def-marginal", "prop-covariance", "prop-weighted-mean")
def test_hand_computed():
    labels = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    s = np.array([1, 1, 0, 0])
    assert marginal(labels).tolist() == [1, 2 / 3, 1 / 3, 1 / 3]
    scores = [1, 2 / 3, 4 / 6]
    assert expected_dice(s, labels) == pytest.approx(sum(scores) / 3, abs=1e-15)
    d_m = 2 * (5 / 3) / (2 + 7 / 3)
    assert dice_covariance(s, labels) == pytest.approx(d_m - sum(scores) / 3, abs=1e-15)
    # Soft: overlaps 1.5, 1, 1.5 over volumes 1.5 + 2, 1 and 4.
    c = np.array([1, 0.5, 0, 0])
    mean = (2 * 1.5 / 3.5 + 2 * 1 / 2.5 + 2 * 1.5 / 5.5) / 3
    assert expected_dice(c, labels) == pytest.approx(mean, abs=1e-15)
    assert dice_covariance(c, labels) == pytest.approx(2 * (1 + 1 / 3) / (1.5 + 7 / 3) - mean, abs=1e-15)


@pytest.mark.statement("prop-covariance")
def test_empty_labels():
    nothing, everything = np.zeros((3, 2, 2)), np.ones((3, 2, 2))
    assert not marginal(nothing).any()
    for labels, s, mean in [
        (nothing, np.zeros((2, 2)), 1),
        (nothing, np.ones((2, 2)), 0),
        (everything, np.zeros((2, 2)), 0),
        (everything, np.ones((2, 2)), 1),
    ]:
        assert (expected_dice(s, labels), dice_covariance(s, labels)) == (mean, 0)
    one_of_four = np.array([[1, 1], [0, 0], [0, 0], [0, 0]])
    assert expected_dice(np.zeros(2), one_of_four) == 0.75  # right three times; D_m of the empty mask is 0
    assert dice_covariance(np.zeros(2), one_of_four) == -0.75


@pytest.mark.statement("prop-covariance", "prop-weighted-mean")
@given(label_sets, seeds)
@settings(max_examples=300, deadline=None)
def test_the_identity(labels, seed):
    m = marginal(labels)
    assert m == pytest.approx(labels.mean(axis=0), abs=1e-15)
    for s in segmentations(m.shape, seed):
        d_m = 1 - soft_dice(s, m)
        each = [1 - soft_dice(s, label.astype(float)) for label in labels]
        mean, gap = expected_dice(s, labels), dice_covariance(s, labels)
        assert mean == pytest.approx(np.mean(each), abs=1e-14)
        assert gap == pytest.approx(d_m - mean, abs=1e-14)
        volumes = labels.reshape(len(labels), -1).sum(axis=1)
        both = s.sum() + volumes.mean()
        if both > 0:
            covariance = np.cov(each, volumes, ddof=0)[0, 1] if len(labels) > 1 else 0.0
            assert gap == pytest.approx(covariance / both, abs=1e-14)
            w = (s.sum() + volumes) / both
            assert w.mean() == pytest.approx(1, abs=1e-14)
            assert d_m == pytest.approx(np.mean(w * each), abs=1e-14)
            assert min(each) - 1e-14 <= d_m <= max(each) + 1e-14
            assert w.min() * mean - 1e-14 <= d_m <= w.max() * mean + 1e-14


@pytest.mark.statement("prop-covariance", "prop-overestimate")
@given(label_sets, seeds)
@settings(max_examples=300, deadline=None)
def test_the_bounds(labels, seed):
    volumes = labels.reshape(len(labels), -1).sum(axis=1)
    for s in segmentations(labels.shape[1:], seed):
        gap, both = dice_covariance(s, labels), s.sum() + volumes.mean()
        assert -1 < gap <= GOLDEN
        if both > 0:
            deviation = abs(volumes - volumes.mean()).mean() / (2 * both)
            assert abs(gap) <= deviation + 1e-14
            assert deviation <= volumes.std() / (2 * both) + 1e-14
            assert volumes.std() / (2 * both) <= volumes.std() / volumes.mean() / 2 + 1e-14 if volumes.any() else True


@pytest.mark.statement("prop-covariance")
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 12), seeds)
@settings(max_examples=60, deadline=None)
def test_a_constant_volume_makes_them_equal(voxels, r, volume, seed):
    rng = np.random.default_rng(seed)
    first = np.arange(voxels) < volume
    labels = np.stack([rng.permutation(first) for _ in range(r)])
    for s in segmentations((voxels,), seed):
        assert dice_covariance(s, labels) == 0
        assert expected_dice(s, labels) == pytest.approx(1 - soft_dice(s, marginal(labels)), abs=1e-14)


@pytest.mark.statement("prop-covariance")
@pytest.mark.parametrize("full", range(1, 8))
def test_the_bound_is_attained(full):
    """A label that is all there in a part p of the cases, else empty: the mean deviation is the difference."""
    labels = np.zeros((8, 5))
    labels[:full] = 1
    p = full / 8
    deviation, spread = 2 * p * (1 - p), math.sqrt(p * (1 - p))
    assert dice_covariance(np.ones(5), labels) == pytest.approx(deviation / (2 * (1 + p)), abs=1e-15)
    assert dice_covariance(np.zeros(5), labels) == pytest.approx(-deviation / (2 * p), abs=1e-15)
    assert (spread / 2 - dice_covariance(np.ones(5), labels) * (1 + p) < 1e-15) == (p == 0.5)


@pytest.mark.statement("prop-slope")
@given(label_sets, seeds)
@settings(max_examples=100, deadline=None)
def test_the_slope(labels, seed):
    """The difference is the least-squares slope of D_L(s) on |L|, times the variance of |L|, over |s| + v."""
    volumes = labels.reshape(len(labels), -1).sum(axis=1).astype(float)
    for s in segmentations(labels.shape[1:], seed):
        scores = np.array([1 - soft_dice(s, label.astype(float)) for label in labels])
        gap, both = dice_covariance(s, labels), s.sum() + volumes.mean()
        if volumes.std() == 0:
            assert gap == 0
            continue
        slope = np.polyfit(volumes, scores, 1)[0]
        assert gap == pytest.approx(slope * volumes.var() / both, abs=1e-13)
        levels = np.unique(volumes)
        means = np.array([scores[volumes == level].mean() for level in levels])  # E[D | volume]
        pairs = itertools.combinations(zip(levels, means, strict=True), 2)
        steepest = max(abs(float((y - x) / (v - u))) for (u, x), (v, y) in pairs)
        assert abs(gap) <= steepest * volumes.var() / both + 1e-14
        if (np.diff(means) >= 0).all():
            assert gap >= -1e-14
        if (np.diff(means) <= 0).all():
            assert gap <= 1e-14


@pytest.mark.statement("prop-slope")
@given(label_sets)
@settings(max_examples=60, deadline=None)
def test_a_segmentation_that_holds_all_labels_overestimates(labels):
    """Then Dice is 2 |L| / (|s| + |L|), which rises with the volume."""
    assert dice_covariance(labels.any(axis=0), labels) >= 0


@pytest.mark.statement("prop-overestimate")
def test_the_largest_overestimate():
    """Ratios of Fibonacci numbers come close to the golden section, and the difference to 5 sqrt(5) - 11."""
    labels, s = np.zeros((89, 89)), np.zeros(89)
    labels[:34] = 1  # probability 34/89
    s[:55] = 1
    gap = dice_covariance(s, labels)
    assert GOLDEN - 1e-7 < gap < GOLDEN
    for volume, probability in [(54, 34), (56, 34), (55, 33), (55, 35), (89, 34)]:
        labels[:], s[:] = 0, 0
        labels[:probability], s[:volume] = 1, 1
        assert dice_covariance(s, labels) < gap


@pytest.mark.statement("prop-overestimate")
def test_an_underestimate_may_be_nearly_one():
    """Mostly the label is s, rarely a much larger one elsewhere that takes all the weight."""
    labels = np.zeros((50, 3000))
    labels[:49, 0] = 1
    labels[49, 1:] = 1
    s = np.zeros(3000)
    s[0] = 1
    assert expected_dice(s, labels) == pytest.approx(0.98)
    assert dice_covariance(s, labels) < -0.94


@pytest.mark.statement("prop-expected-optimum")
@given(hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
@settings(max_examples=60, deadline=None)
def test_the_best_mask_of_the_marginal_and_the_best_on_average(labels):
    """Exhaustive over all masks: what the optimum of D_m loses in expected Dice is within the bound."""
    m = marginal(labels)
    mine = optimal_dice(m)
    masks = [np.array(x) for x in itertools.product([False, True], repeat=m.size)]
    means = [expected_dice(x, labels) for x in masks]
    best = masks[int(np.argmax(means))]
    loss = max(means) - expected_dice(mine, labels)
    assert -1e-14 <= loss <= dice_covariance(mine, labels) - dice_covariance(best, labels) + 1e-13
    volumes = labels.sum(axis=1)
    if volumes.any():
        deviation = abs(volumes - volumes.mean()).mean()
        bound = sum(deviation / (2 * (x.sum() + volumes.mean())) for x in (mine, best))
        assert loss <= bound + 1e-13
        assert bound <= deviation / volumes.mean() + 1e-13
    if volumes.std() == 0:
        assert loss == pytest.approx(0, abs=1e-14)


@pytest.mark.statement("prop-quotient", "prop-overlap")
@given(label_sets, seeds, st.floats(0.1, 10), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None)
def test_the_same_for_every_overlap_score(labels, seed, alpha, beta):
    """T_m(s) - E[T_L(s)] = Cov(T_L(s), G_L) / G_m with G the denominator TP + alpha FP + beta FN."""
    rng = np.random.default_rng(seed)
    s, m = rng.random(labels.shape[1:]) < 0.5, marginal(labels)
    scores = [tversky(s, label, alpha, beta) for label in labels.astype(float)]
    both = (labels & s).reshape(len(labels), -1).sum(axis=1)
    parts = both + alpha * (s.sum() - both) + beta * (labels.reshape(len(labels), -1).sum(axis=1) - both)
    if parts.any() and len(labels) > 1:
        gap = np.cov(scores, parts, ddof=0)[0, 1] / parts.mean()
        assert tversky(s, m, alpha, beta) - np.mean(scores) == pytest.approx(gap, abs=1e-12)
    # Jensen: the mean Jaccard is at least the Jaccard of the mean Dice.
    mean = expected_dice(s, labels)
    assert np.mean([jaccard(s, label) for label in labels.astype(float)]) >= mean / (2 - mean) - 1e-14
    f = [f_beta(s, label, beta) for label in labels.astype(float)]
    volumes = labels.reshape(len(labels), -1).sum(axis=1)
    if s.sum() + volumes.sum() > 0 and len(labels) > 1:
        gap = beta**2 * np.cov(f, volumes, ddof=0)[0, 1] / (s.sum() + beta**2 * volumes.mean())
        assert f_beta(s, m, beta) - np.mean(f) == pytest.approx(gap, abs=1e-12)


@pytest.mark.statement("prop-covariance")
def test_small_differences_keep_their_digits():
    """Volumes of 10^6 voxels that differ by one: the difference of two scores would be rounding noise."""
    n = 10**6
    labels = np.ones((2, n), dtype=bool)
    labels[1, -1] = False
    s = np.ones(n, dtype=bool)
    # Dice 1 and 1 - 1/(2n - 1); covariance of two pairs: half the product of the half differences.
    expected = (1 / (2 * n - 1)) * 1 / 4 / (n + n - 0.5)
    assert dice_covariance(s, labels) == pytest.approx(expected, rel=1e-9)


@pytest.mark.statement("prop-covariance", "prop-weighted-mean")
def test_an_estimate_with_less_noise():
    """D_m minus the covariance over a few samples scatters around E[D_L] much less than the mean over them."""
    label = np.zeros((32, 32), dtype=np.uint8)
    label[8:24, 10:22] = 1
    noise = GaussianDeformation(0.03)
    samples, m = noise.sample(label, rng=7, size=1000), noise.marginal(label)
    s = optimal_dice(m)
    batches = samples.reshape(20, 50, 32, 32)
    plain = [expected_dice(s, batch) for batch in batches]
    better = [dice(s, m) - dice_covariance(s, batch) for batch in batches]
    assert np.std(better) < np.std(plain) / 4
    assert np.mean(better) == pytest.approx(np.mean(plain), abs=4 * float(np.std(plain)) / math.sqrt(20))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
@pytest.mark.parametrize("l_dtype", [bool, np.uint8, np.int64, np.float16, np.float32, ">f8"])
def test_float64_whatever_the_dtype(dtype, l_dtype):
    rng = np.random.default_rng(8)
    labels = (rng.random((3, 2, BLOCK // 2 + 5)) < rng.random((3, 1, 1))).astype(l_dtype)
    c = rng.random(labels.shape[1:]).astype(dtype)
    c64, l64 = c.astype(np.float64), labels.astype(np.float64)
    scores = 2 * (c64 * l64).sum(axis=(1, 2)) / (c64.sum() + l64.sum(axis=(1, 2)))
    m = marginal(labels)
    assert m.dtype == np.float64
    assert (m == l64.sum(axis=0) / 3).all()
    assert expected_dice(c, labels) == pytest.approx(scores.mean(), abs=1e-13)
    assert dice_covariance(c, labels) == pytest.approx(1 - soft_dice(c64, m) - scores.mean(), abs=1e-13)


def test_layout_does_not_matter():
    rng = np.random.default_rng(9)
    labels = rng.random((6, 7, 8, 9)) < 0.3
    s = rng.random((7, 8, 9)).astype(np.float32)
    part = np.s_[::2, ::-1, 1::3]
    for view, soft in [
        (labels[::-2][(slice(None), *part)], s[part]),
        (labels.transpose(0, 3, 1, 2), s.transpose(2, 0, 1)),
    ]:
        flat_view, flat_soft = np.ascontiguousarray(view), np.ascontiguousarray(soft)
        assert (marginal(view) == marginal(flat_view)).all()
        for function in (expected_dice, dice_covariance):
            assert function(soft, view) == pytest.approx(function(flat_soft, flat_view), abs=1e-15)
            assert function(np.asfortranarray(soft), view) == pytest.approx(function(flat_soft, flat_view), abs=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("l_dtype", ["bool", "uint8", "int64", "float16", "bfloat16"])
@needs_torch
def test_torch_agrees_with_numpy(dtype, l_dtype):
    rng = np.random.default_rng(10)
    labels = torch.from_numpy(rng.random((4, 5, 6, 7)) < 0.4).to(getattr(torch, l_dtype)).permute(0, 2, 3, 1)
    c = torch.from_numpy(rng.random((6, 7, 5))).to(getattr(torch, dtype)).requires_grad_()
    as_numpy = labels.to(torch.uint8).numpy()
    m = marginal(labels)
    assert isinstance(m, torch.Tensor)
    assert (m.dtype, tuple(m.shape)) == (torch.float64, (6, 7, 5))
    assert np.array_equal(m.numpy(), marginal(as_numpy))
    for function in (expected_dice, dice_covariance):
        value = function(c, labels)
        assert type(value) is float
        assert value == pytest.approx(function(c.detach().double().numpy(), as_numpy), abs=1e-15)


@needs_torch
def test_the_path_of_other_devices(monkeypatch):
    """The code for accelerators, run on tensors in main memory, in several blocks."""
    rng = np.random.default_rng(11)
    labels, s = torch.from_numpy(rng.random((3, 9, 10)) < 0.4), torch.from_numpy(rng.random((9, 10)))
    expected = marginal(labels), expected_dice(s, labels), dice_covariance(s, labels)
    monkeypatch.setattr("noisyseg._core.images.host_view", lambda x: x.detach())
    monkeypatch.setattr("noisyseg._core.arrays.DEVICE_BLOCK", 32)
    assert torch.equal(marginal(labels), expected[0])
    assert expected_dice(s, labels) == pytest.approx(expected[1], abs=1e-15)
    assert dice_covariance(s, labels) == pytest.approx(expected[2], abs=1e-15)
    with pytest.raises(
        ValueError, match=r"labels\[0\] \(shape \(9, 10\)\): expected a binary array of 0 and 1, found 0.5"
    ):
        expected_dice(s, labels * 0.5)


@pytest.mark.parametrize("function", [expected_dice, dice_covariance])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("s", "labels", "found"),
    [
        ([0.0, np.nan], [[1.0, 0.0]], r"s \(shape \(2,\)\): expected values in \[0, 1\], found nan"),
        ([0.0, 1.5], [[1.0, 0.0]], r"s \(shape \(2,\)\): expected values in \[0, 1\], found 1.5"),
        ([0.0, 1.0], [[1.0, 0.0], [0.0, 0.5]], r"labels\[1\] \(shape \(2,\)\): expected a binary array .*found 0.5"),
        ([0.0, 1.0], [[1.0, np.nan]], r"labels\[0\] \(shape \(2,\)\): expected a binary array .*found nan"),
        ([0.0, 1.0], [1.0, 0.0], r"labels: expected shape \(R, \*s.shape\), here \(R, 2\), got \(2,\)"),
        ([[0.0, 1.0]], [[1.0, 0.0]], r"labels: expected shape \(R, \*s.shape\), here \(R, 1, 2\), got \(1, 2\)"),
        ([0.0, 1.0], [[1.0, 0.0, 0.0]], r"labels: expected shape \(R, \*s.shape\), here \(R, 2\), got \(1, 3\)"),
        ([], [[1.0]], r"s: expected at least one voxel, got an empty array of shape \(0,\)"),
    ],
)
def test_bad_input(function, kind, s, labels, found):
    with pytest.raises(ValueError, match=found):
        function(kind(np.array(s)), kind(np.array(labels)))


def test_bad_labels_and_kinds():
    with pytest.raises(ValueError, match="labels: expected at least one label, got none"):
        expected_dice(np.zeros(2), np.zeros((0, 2)))
    if torch is not None:
        with pytest.raises(ValueError, match=r"s and labels: expected two NumPy arrays or two torch tensors"):
            expected_dice(np.zeros(2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"labels: expected shape \(R, \*shape\), R labels of one shape, got \(2,\)"):
        marginal(np.zeros(2))
    with pytest.raises(ValueError, match=r"labels \(shape \(1, 2\)\): expected a binary array of 0 and 1, found 0.25"):
        marginal(np.array([[0.25, 1.0]]))
    with pytest.raises(ValueError, match="labels: expected at least one label, got none"):
        marginal(np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"labels: expected at least one voxel, got an empty array of shape \(2, 0\)"):
        marginal(np.zeros((2, 0)))
