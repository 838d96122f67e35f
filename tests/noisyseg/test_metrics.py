import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kinds import KINDS, needs_torch, torch

from noisyseg._core.arrays import BLOCK
from noisyseg.metrics import accuracy, cross_entropy, dice, f_beta, jaccard, soft_dice, tversky

unit = hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, max_side=4), elements=st.floats(0, 1))
weight = st.floats(0.01, 100)


def f_two(s, m):
    return f_beta(s, m, 2.0)


def f_half(s, m):
    return f_beta(s, m, 0.5)


def tversky_3_7(s, m):
    return tversky(s, m, 0.3, 0.7)


RATIOS = [dice, jaccard, f_two, f_half, tversky_3_7]  # functions of TP, FP and FN
HARD = [accuracy, *RATIOS]
METRICS = [*HARD, soft_dice, cross_entropy]


@pytest.mark.statement("def-accuracy", "def-dice", "def-soft-dice", "def-cross-entropy", "prop-overlap")
def test_hand_computed():
    s = np.array([[1, 1], [0, 0]])
    m = np.array([[1.0, 0.5], [0.25, 0.0]])  # TP = 1.5, FP = 0.5, FN = 0.25
    assert accuracy(s, m) == (1 + 0.5 + 0.75 + 1) / 4
    assert dice(s, m) == 2 * 1.5 / (2 + 1.75)
    assert jaccard(s, m) == 1.5 / (1.5 + 0.5 + 0.25)
    assert f_beta(s, m, 2) == pytest.approx(5 * 1.5 / (2 + 4 * 1.75), abs=1e-15)
    assert f_beta(s, m, 0.5) == pytest.approx(1.25 * 1.5 / (2 + 0.25 * 1.75), abs=1e-15)
    assert tversky(s, m, 4, 2) == 1.5 / (1.5 + 4 * 0.5 + 2 * 0.25)
    assert soft_dice(m, s) == 1 - 2 * 1.5 / (1.75 + 2)
    c = np.array([0.5, 0.25])
    assert cross_entropy(c, np.array([1.0, 0.5])) == pytest.approx(
        -(math.log(0.5) + 0.5 * math.log(0.25) + 0.5 * math.log(0.75)) / 2, abs=1e-15
    )


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (2, 3, 2), (2, 1, 3, 2)])
def test_empty_and_full_masks(shape):
    empty, full = np.zeros(shape), np.ones(shape)
    for metric in HARD:
        found = [metric(s, m) for s in (empty, full) for m in (empty, full)]
        assert found == [1, 0, 0, 1], metric.__name__
    assert [soft_dice(c, m) for c in (empty, full) for m in (empty, full)] == [0, 1, 1, 0]
    assert [cross_entropy(c, m) for c in (empty, full) for m in (empty, full)] == [0, math.inf, math.inf, 0]


def test_cross_entropy_is_infinite_only_where_it_must_be():
    assert cross_entropy(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0
    assert cross_entropy(np.array([0.0, 0.5]), np.array([0.0, 0.5])) == math.log(2) / 2
    assert cross_entropy(np.array([1.0, 0.5]), np.array([1.0, 0.5])) == math.log(2) / 2
    assert cross_entropy(np.array([0.0, 0.5]), np.array([1e-300, 0.5])) == math.inf
    assert cross_entropy(np.array([1.0, 0.5]), np.array([1 - 1e-16, 0.5])) == math.inf
    assert cross_entropy(np.array([5e-324]), np.array([1.0])) == pytest.approx(1074 * math.log(2))
    assert not math.copysign(1, cross_entropy(np.ones(3), np.ones(3))) < 0


@pytest.mark.statement("prop-first-properties")
@given(unit, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_properties(m, seed):
    rng = np.random.default_rng(seed)
    s = rng.random(m.shape) < 0.5
    c = rng.random(m.shape)
    for metric in HARD:
        assert 0 <= metric(s, m) <= 1
        assert metric(s, s) == 1
    assert accuracy(s, m) == pytest.approx(1 - abs(s - m).mean(), abs=1e-14)
    assert soft_dice(s, m) == pytest.approx(1 - dice(s, m), abs=1e-15)
    assert 0 <= soft_dice(c, m) <= 1
    assert 0 <= cross_entropy(m, m) <= cross_entropy(c, m) + 1e-12
    shuffled = rng.permutation(m.size)
    for metric in METRICS:
        x = s if metric in HARD else c
        moved = metric(x.reshape(-1)[shuffled], m.reshape(-1)[shuffled])
        assert moved == pytest.approx(metric(x, m), abs=1e-14, rel=1e-14)


@pytest.mark.statement("prop-first-properties")
def test_a_perfect_score_needs_a_mask_and_the_same_one():
    """Accuracy and Dice are 1 for s = m alone: over all masks of four voxels, against masks and soft labels."""
    masks = [np.array(o) for o in itertools.product([0, 1], repeat=4)]
    soft = [np.array([1, 1, 1 - 1e-9, 0.0]), np.array([0, 0, 1e-9, 1.0]), np.full(4, 0.5)]
    for metric in HARD:
        assert all((metric(s, m) == 1) == np.array_equal(s, m) for s in masks for m in [*masks, *soft])
    for c in (np.array([1, 0.999, 0, 0]), np.array([0.5, 0.5, 0, 0])):  # c = m is not enough
        assert soft_dice(c, c) == pytest.approx(1 - (c * c).sum() / c.sum(), abs=1e-15) and soft_dice(c, c) > 0


@pytest.mark.statement("prop-first-properties")
@given(unit, st.integers(0, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_background(m, zeros, seed):
    """Voxels that are 0 in both change no overlap; they dilute the errors of Accuracy and cross-entropy."""
    rng = np.random.default_rng(seed)
    m = m.reshape(-1)
    s, c = rng.random(m.size) < 0.5, rng.uniform(0.01, 0.99, m.size)
    bigger = [np.pad(x, (0, zeros)) for x in (s, c, m)]
    part = m.size / (m.size + zeros)
    for metric in RATIOS:
        assert metric(bigger[0], bigger[2]) == pytest.approx(metric(s, m), abs=1e-14)
    assert soft_dice(bigger[1], bigger[2]) == pytest.approx(soft_dice(c, m), abs=1e-14)
    assert 1 - accuracy(bigger[0], bigger[2]) == pytest.approx(part * (1 - accuracy(s, m)), abs=1e-14)
    assert cross_entropy(bigger[1], bigger[2]) == pytest.approx(part * cross_entropy(c, m), rel=1e-13)


@pytest.mark.statement("prop-overlap")
@given(unit, st.integers(0, 2**32 - 1), weight, weight, weight)
@settings(max_examples=100, deadline=None)
def test_relations_between_overlap_scores(m, seed, alpha, beta, factor):
    s = np.random.default_rng(seed).random(m.shape) < 0.5
    d = dice(s, m)
    assert jaccard(s, m) == pytest.approx(d / (2 - d), abs=1e-14)
    assert d == pytest.approx(2 * jaccard(s, m) / (1 + jaccard(s, m)), abs=1e-14)
    assert tversky(s, m, 0.5, 0.5) == pytest.approx(d, abs=1e-14)
    assert f_beta(s, m, 1) == pytest.approx(d, abs=1e-14)
    assert tversky(s, m, 1, 1) == jaccard(s, m)
    assert tversky(s, m, 1 / (1 + beta**2), beta**2 / (1 + beta**2)) == pytest.approx(f_beta(s, m, beta), abs=1e-13)
    both, ones, soft = (s * m).sum(), s.sum(), m.sum()
    if ones + soft > 0:
        assert f_beta(s, m, beta) == pytest.approx((1 + beta**2) * both / (ones + beta**2 * soft), abs=1e-13)
        cost = alpha * (ones - both) + beta * (soft - both)
        assert both == 0 or tversky(s, m, alpha, beta) == pytest.approx(both / (both + cost), abs=1e-13)
    # The scores of a label are exchanged with those of the mask: precision against recall.
    if set(np.unique(m)) <= {0.0, 1.0}:
        assert tversky(s, m, alpha, beta) == pytest.approx(tversky(m, s.astype(float), beta, alpha), abs=1e-14)
    # Costlier mistakes never raise the score.
    assert tversky(s, m, alpha * (1 + factor), beta) <= tversky(s, m, alpha, beta)
    assert tversky(s, m, alpha, beta * (1 + factor)) <= tversky(s, m, alpha, beta)


def test_extreme_weights():
    s, m = np.array([1, 1, 0]), np.array([1.0, 0.0, 1.0])  # precision and recall 1/2
    for beta in (1e-200, 1e-8, 1e8, 1e200):
        assert f_beta(s, m, beta) == pytest.approx(0.5)
    s, m = np.array([1, 1, 0, 0]), np.array([1.0, 0.0, 0.0, 0.0])  # precision 1/2, recall 1
    assert f_beta(s, m, 1e-200) == pytest.approx(0.5)
    assert f_beta(s, m, 1e200) == pytest.approx(1)
    assert f_beta(s, np.zeros(4), 1e200) == 0  # not 0/0
    assert tversky(s, m, 1e300, 1) == pytest.approx(1e-300)
    assert tversky(s, m, 5e-324, 5e-324) == 1


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "one", [1.0, 2.0]])
def test_weights_must_be_positive(value):
    s, m = np.array([1, 0]), np.array([0.5, 0.5])
    with pytest.raises(ValueError, match="beta: expected"):
        f_beta(s, m, value)
    with pytest.raises(ValueError, match="beta: expected"):
        tversky(s, m, 1.0, value)
    with pytest.raises(ValueError, match="alpha: expected"):
        tversky(s, m, value, 1.0)


@pytest.mark.statement("prop-affine")
def test_accuracy_and_cross_entropy_are_expected_scores():
    """E[A_L(s)] = A_m(s) and E[CE_L(c)] = CE_m(c), over every outcome of three independent voxels (section 3.2)."""
    m = np.array([0.2, 0.5, 0.9])
    s, c = np.array([0, 1, 1]), np.array([0.3, 0.6, 0.8])
    outcomes = [np.array(o) for o in itertools.product([0, 1], repeat=3)]
    weights = [np.prod(np.where(o == 1, m, 1 - m)) for o in outcomes]
    assert sum(w * accuracy(s, o) for w, o in zip(weights, outcomes, strict=True)) == pytest.approx(
        accuracy(s, m), abs=1e-15
    )
    assert sum(w * cross_entropy(c, o) for w, o in zip(weights, outcomes, strict=True)) == pytest.approx(
        cross_entropy(c, m), abs=1e-15
    )


@pytest.mark.statement("prop-affine")
@given(hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_affine_whatever_the_labels(labels, seed):
    """The same over arbitrary finite sets of labels, with any dependence between voxels and unequal weights."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(len(labels)))
    m = np.clip(np.tensordot(p, labels, 1), 0, 1)
    s, c = rng.random(m.shape) < 0.5, rng.uniform(0.01, 0.99, m.shape)
    assert np.dot(p, [accuracy(s, label) for label in labels]) == pytest.approx(accuracy(s, m), abs=1e-14)
    assert np.dot(p, [cross_entropy(c, label) for label in labels]) == pytest.approx(cross_entropy(c, m), rel=1e-12)
    # A certain c that some label contradicts: infinite on both sides.
    certain = labels[0].astype(float)
    exact = np.stack([np.where(labels[0], 1.0, 0.0) if (label == labels[0]).all() else label for label in labels])
    mean = np.mean([cross_entropy(certain, label) for label in exact])
    assert mean == cross_entropy(certain, exact.mean(axis=0))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
@pytest.mark.parametrize("s_dtype", [bool, np.uint8, np.int64, np.float16, np.float32])
def test_float64_whatever_the_dtype(dtype, s_dtype):
    rng = np.random.default_rng(3)
    m = rng.random((3, BLOCK // 2 + 7)).astype(dtype)  # more than one block, with a rest
    s = (rng.random(m.shape) < 0.4).astype(s_dtype)
    c = np.clip(rng.random(m.shape), 0.01, 0.99).astype(dtype)
    m64, s64, c64 = (x.astype(np.float64) for x in (m, s, c))
    assert dice(s, m) == pytest.approx(2 * (s64 * m64).sum() / (s64.sum() + m64.sum()), abs=1e-13)
    assert jaccard(s, m) == pytest.approx((s64 * m64).sum() / np.maximum(s64, m64).sum(), abs=1e-13)
    assert f_beta(s, m, 3) == pytest.approx(10 * (s64 * m64).sum() / (s64.sum() + 9 * m64.sum()), abs=1e-13)
    assert accuracy(s, m) == pytest.approx((s64 * m64 + (1 - s64) * (1 - m64)).mean(), abs=1e-13)
    assert soft_dice(c, m) == pytest.approx(1 - 2 * (c64 * m64).sum() / (c64.sum() + m64.sum()), abs=1e-13)
    entropy = -(m64 * np.log(c64) + (1 - m64) * np.log1p(-c64)).mean()
    assert cross_entropy(c, m) == pytest.approx(entropy, abs=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_layout_does_not_matter(metric):
    rng = np.random.default_rng(4)
    m = rng.random((6, 7, 8)).astype(np.float32)
    s = (rng.random(m.shape) < 0.5).astype(np.float32)
    parts = np.s_[::2, ::-1, 1::3]
    expected = metric(np.ascontiguousarray(s[parts]), np.ascontiguousarray(m[parts]))
    assert metric(s[parts], m[parts]) == pytest.approx(expected, abs=1e-15)
    assert metric(np.asfortranarray(s[parts]), m[parts]) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@needs_torch
def test_torch_agrees_with_numpy(metric, dtype):
    rng = np.random.default_rng(5)
    m = torch.from_numpy(rng.random((5, 6, 7))).to(getattr(torch, dtype)).requires_grad_()
    s = torch.from_numpy(rng.random((5, 6, 7)) < 0.5).permute(2, 0, 1)
    m = m.permute(2, 0, 1)
    value = metric(s, m)
    assert type(value) is float
    assert value == metric(s.numpy(), m.detach().double().numpy())


@pytest.mark.parametrize("metric", METRICS)
@needs_torch
def test_the_path_of_other_devices(metric, monkeypatch):
    """The code for accelerators, run on tensors in main memory, in several blocks."""
    rng = np.random.default_rng(6)
    m, s = torch.from_numpy(rng.random((9, 10))), torch.from_numpy(rng.random((9, 10)) < 0.5)
    c = m * 0.5 + 0.25
    first = s if metric in HARD else c
    expected = metric(first, m)
    monkeypatch.setattr("noisyseg._core.images.host_view", lambda x: x.detach())
    monkeypatch.setattr("noisyseg._core.arrays.DEVICE_BLOCK", 32)
    assert metric(first, m) == pytest.approx(expected, abs=1e-15)
    with pytest.raises(ValueError, match=r"m \(shape \(9, 10\)\): expected values in \[0, 1\], found nan"):
        metric(first, torch.where(m == m[5, 5], torch.nan, m))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("s", "m", "found"),
    [
        ([0.0, 1.0], [0.5, np.nan], r"m \(shape \(2,\)\): expected values in \[0, 1\], found nan"),
        ([0.0, 1.0], [0.5, np.inf], r"m \(shape \(2,\)\): expected values in \[0, 1\], found inf"),
        ([0.0, 1.0], [-0.25, 1.0], r"m \(shape \(2,\)\): expected values in \[0, 1\], found -0.25"),
        ([0.0, 1.0], [0.5, 1.25], r"m \(shape \(2,\)\): expected values in \[0, 1\], found 1.25"),
        ([0.0, 2.0], [0.5, 0.5], r"[sc] \(shape \(2,\)\): expected .*found 2.0"),
        ([0.0, np.nan], [0.5, 0.5], r"[sc] \(shape \(2,\)\): expected .*found nan"),
        ([0.0, 1.0, 1.0], [0.5, 0.5], r"[sc] and m: expected the same shape, got \(3,\) and \(2,\)"),
        ([], [], r"[sc]: expected at least one voxel, got an empty array of shape \(0,\)"),
    ],
)
def test_bad_input(metric, kind, s, m, found):
    with pytest.raises(ValueError, match=found):
        metric(kind(np.array(s)), kind(np.array(m)))


@pytest.mark.parametrize("metric", HARD)
def test_a_soft_segmentation_is_no_segmentation(metric):
    with pytest.raises(ValueError, match=r"s \(shape \(2,\)\): expected a binary array of 0 and 1, found 0.5"):
        metric(np.array([0.5, 1.0]), np.array([0.5, 1.0]))
