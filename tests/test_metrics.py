import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from noisyseg import accuracy, cross_entropy, dice, soft_dice
from noisyseg._checks import BLOCK

unit = hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, max_side=4), elements=st.floats(0, 1))
METRICS = [accuracy, dice, soft_dice, cross_entropy]


def test_hand_computed():
    s = np.array([[1, 1], [0, 0]])
    m = np.array([[1.0, 0.5], [0.25, 0.0]])
    assert accuracy(s, m) == (1 + 0.5 + 0.75 + 1) / 4
    assert dice(s, m) == 2 * 1.5 / (2 + 1.75)
    assert soft_dice(m, s) == 1 - 2 * 1.5 / (1.75 + 2)
    c = np.array([0.5, 0.25])
    assert cross_entropy(c, np.array([1.0, 0.5])) == pytest.approx(
        -(math.log(0.5) + 0.5 * math.log(0.25) + 0.5 * math.log(0.75)) / 2, abs=1e-15
    )


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (2, 3, 2), (2, 1, 3, 2)])
def test_empty_and_full_masks(shape):
    empty, full = np.zeros(shape), np.ones(shape)
    assert (dice(empty, empty), accuracy(empty, empty), soft_dice(empty, empty), cross_entropy(empty, empty)) == (
        1,
        1,
        0,
        0,
    )
    assert (dice(full, full), accuracy(full, full), soft_dice(full, full), cross_entropy(full, full)) == (1, 1, 0, 0)
    assert (dice(empty, full), accuracy(empty, full), soft_dice(empty, full), cross_entropy(empty, full)) == (
        0,
        0,
        1,
        math.inf,
    )
    assert (dice(full, empty), accuracy(full, empty), soft_dice(full, empty), cross_entropy(full, empty)) == (
        0,
        0,
        1,
        math.inf,
    )


def test_cross_entropy_is_infinite_only_where_it_must_be():
    assert cross_entropy(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0
    assert cross_entropy(np.array([0.0, 0.5]), np.array([0.0, 0.5])) == math.log(2) / 2
    assert cross_entropy(np.array([1.0, 0.5]), np.array([1.0, 0.5])) == math.log(2) / 2
    assert cross_entropy(np.array([0.0, 0.5]), np.array([1e-300, 0.5])) == math.inf
    assert cross_entropy(np.array([1.0, 0.5]), np.array([1 - 1e-16, 0.5])) == math.inf
    assert cross_entropy(np.array([5e-324]), np.array([1.0])) == pytest.approx(1074 * math.log(2))
    assert not math.copysign(1, cross_entropy(np.ones(3), np.ones(3))) < 0


@given(unit, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_properties(m, seed):
    rng = np.random.default_rng(seed)
    s = rng.random(m.shape) < 0.5
    c = rng.random(m.shape)
    assert 0 <= accuracy(s, m) <= 1
    assert 0 <= dice(s, m) <= 1
    assert soft_dice(s, m) == pytest.approx(1 - dice(s, m), abs=1e-15)
    assert cross_entropy(m, m) <= cross_entropy(c, m) + 1e-12
    shuffled = rng.permutation(m.size)
    for metric, x in [(accuracy, s), (dice, s), (soft_dice, c), (cross_entropy, c)]:
        moved = metric(x.reshape(-1)[shuffled], m.reshape(-1)[shuffled])
        assert moved == pytest.approx(metric(x, m), abs=1e-14, rel=1e-14)


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
@pytest.mark.parametrize("s_dtype", [bool, np.uint8, np.int64, np.float16, np.float32])
def test_float64_whatever_the_dtype(dtype, s_dtype):
    rng = np.random.default_rng(3)
    m = rng.random((3, BLOCK // 2 + 7)).astype(dtype)  # more than one block, with a rest
    s = (rng.random(m.shape) < 0.4).astype(s_dtype)
    c = np.clip(rng.random(m.shape), 0.01, 0.99).astype(dtype)
    m64, s64, c64 = (x.astype(np.float64) for x in (m, s, c))
    assert dice(s, m) == pytest.approx(2 * (s64 * m64).sum() / (s64.sum() + m64.sum()), abs=1e-13)
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
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_agrees_with_numpy(metric, dtype):
    rng = np.random.default_rng(5)
    m = torch.from_numpy(rng.random((5, 6, 7))).to(dtype).requires_grad_()
    s = torch.from_numpy(rng.random((5, 6, 7)) < 0.5).permute(2, 0, 1)
    m = m.permute(2, 0, 1)
    value = metric(s, m)
    assert type(value) is float
    assert value == metric(s.numpy(), m.detach().double().numpy())


@pytest.mark.parametrize("metric", METRICS)
def test_the_path_of_other_devices(metric, monkeypatch):
    """The code for accelerators, run on tensors in main memory, in several blocks."""
    rng = np.random.default_rng(6)
    m, s = torch.from_numpy(rng.random((9, 10))), torch.from_numpy(rng.random((9, 10)) < 0.5)
    c = m * 0.5 + 0.25
    first = s if metric in (accuracy, dice) else c
    expected = metric(first, m)
    monkeypatch.setattr("noisyseg.metrics.host_view", lambda x: x.detach())
    monkeypatch.setattr("noisyseg._checks.DEVICE_BLOCK", 32)
    assert metric(first, m) == pytest.approx(expected, abs=1e-15)
    with pytest.raises(ValueError, match=r"m \(shape \(9, 10\)\): expected values in \[0, 1\], found nan"):
        metric(first, torch.where(m == m[5, 5], torch.nan, m))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
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


@pytest.mark.parametrize("metric", [accuracy, dice])
def test_a_soft_segmentation_is_no_segmentation(metric):
    with pytest.raises(ValueError, match=r"s \(shape \(2,\)\): expected a binary array of 0 and 1, found 0.5"):
        metric(np.array([0.5, 1.0]), np.array([0.5, 1.0]))
