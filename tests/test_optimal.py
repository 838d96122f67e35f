import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from noisyseg import (
    _threshold,
    accuracy,
    accuracy_volume_bounds,
    dice,
    dice_threshold,
    dice_volume_bounds,
    optimal_accuracy,
    optimal_at_volume,
    optimal_dice,
)
from noisyseg.optimal import _at_least, regret

# Values with many ties among them, and values that are nobody's neighbour.
values = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False))
marginals = hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, max_side=5), elements=values)
tiny = hnp.arrays(np.float64, st.integers(1, 9), elements=values)


def listing_3(m):
    """Compute t as the paper's Listing 3 does.

    In more than float64: the rounding of its running sum grows with the number of equal voxels, to 8e-13 for the
    constant image below and to 7e-11 for one of 256^3 voxels.
    """
    psi = np.sort(m.astype(np.float64).reshape(-1))[::-1].astype(np.longdouble)
    return float((2 * np.cumsum(psi) / (psi.sum() + np.arange(1, psi.size + 1))).max() / 2)


def exact_threshold(m):
    """Compute t in rational numbers."""
    psi = sorted((Fraction(float(x)) for x in m.reshape(-1)), reverse=True)
    total, best, partial = sum(psi), Fraction(0), Fraction(0)
    for k, x in enumerate(psi, 1):
        partial += x
        best = max(best, partial / (k + total))
    return best


def all_masks(size):
    return [np.array(bits, dtype=bool) for bits in itertools.product([0, 1], repeat=size)]


def organ(size, n=3, softness=0.04):
    axes = np.meshgrid(*[(np.arange(size) + 0.5) / size - 0.45] * n, indexing="ij", sparse=True)
    return 1 / (1 + np.exp((np.sqrt(sum(x * x for x in axes)) - 0.25) / softness))


def test_hand_computed():
    m = np.array([1.0, 0.5, 0.5, 0.0])
    assert dice_threshold(m) == 0.4  # 1: 2/3, 1 and 2 or 3: 3/4, all three: 4/5
    assert optimal_dice(m).tolist() == [True, True, True, False]
    assert dice_threshold(np.array([0.3])) == pytest.approx(0.3 / 1.3, abs=1e-16)
    assert dice_threshold(np.full((2, 3), 0.25)) == 0.2
    assert optimal_accuracy(m).tolist() == [True, True, True, False]


@given(tiny)
@settings(max_examples=40, deadline=None)
def test_exhaustive_search_over_all_masks(m):
    masks = all_masks(m.size)
    best_dice = max(dice(s, m) for s in masks)
    assert 2 * dice_threshold(m) == pytest.approx(best_dice, abs=1e-14)
    assert dice(optimal_dice(m), m) == pytest.approx(best_dice, abs=1e-12)
    assert accuracy(optimal_accuracy(m), m) == pytest.approx(max(accuracy(s, m) for s in masks), abs=1e-14)
    for count in range(m.size + 1):
        s = optimal_at_volume(m, count / m.size)
        assert s.sum() == count
        rivals = [other for other in masks if other.sum() == count]
        assert dice(s, m) == pytest.approx(max(dice(other, m) for other in rivals), abs=1e-14)
        assert accuracy(s, m) == pytest.approx(max(accuracy(other, m) for other in rivals), abs=1e-14)


@pytest.mark.parametrize("shape", [(12,), (3, 4), (2, 3, 2), (1, 2, 3, 2)])
def test_exhaustive_search_over_twelve_voxels(shape):
    m = np.random.default_rng(12).random(shape) ** 3
    masks = (np.arange(1 << 12)[:, None] >> np.arange(12)) & 1
    scores = 2 * masks @ m.reshape(-1) / (masks.sum(axis=1) + m.sum())
    assert dice_threshold(m) == pytest.approx(scores.max() / 2, abs=1e-15)
    assert optimal_dice(m).reshape(-1).tolist() == masks[scores.argmax()].tolist()


@given(marginals)
@settings(max_examples=150, deadline=None)
def test_window_volumes_and_permutations(m):
    t = dice_threshold(m)
    v = m.mean()
    s_dice, s_accuracy = optimal_dice(m), optimal_accuracy(m)
    assert max(v / (1 + v), dice(s_accuracy, m) / 2) - 1e-15 <= t <= 0.5
    assert t == pytest.approx(float(exact_threshold(m)) if m.any() else 0.5, abs=1e-15)
    assert not (s_accuracy & ~s_dice).any()
    for s, (low, high) in [(s_dice, dice_volume_bounds(v)), (s_accuracy, accuracy_volume_bounds(v))]:
        assert low - 1e-12 <= s.mean() <= high + 1e-12
    moved = np.random.default_rng(0).permutation(m.size)
    assert dice_threshold(m.reshape(-1)[moved]) == pytest.approx(t, abs=1e-15)
    np.testing.assert_array_equal(optimal_dice(m.reshape(-1)[moved]), s_dice.reshape(-1)[moved])
    assert regret(s_dice, m) < 1e-14
    assert 0 <= regret(s_accuracy, m) <= 1


LARGE = {
    "organ": lambda r: organ(64),
    "network": lambda r: np.clip(organ(64, softness=0.1) + r.normal(scale=0.05, size=(64,) * 3), 0, 1),
    "uniform": lambda r: r.random((500, 500)),
    "low": lambda r: r.random(300_000) * 0.02,
    "tiny values": lambda r: r.random(100_000) * 1e-30,
    "one voxel": lambda r: np.eye(1, 300_000, 777),
    "one faint voxel": lambda r: np.eye(1, 300_000, 777) * 0.3,
    "constant": lambda r: np.full(200_000, 0.3),
    "all one": lambda r: np.ones((300, 300)),
    "few levels": lambda r: r.integers(0, 6, size=(80, 80, 80)) / 5,
    "tie at t": lambda r: np.where(np.arange(400_000) < 36_000, 1.0, 0.3 / 1.3),
    "unlike its sample": lambda r: np.where(np.arange(400_000) % 20 == 0, 1.0, r.random(400_000) ** 20),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", LARGE)
def test_large_images_agree_with_listing_3(name, dtype):
    m = LARGE[name](np.random.default_rng(8)).astype(dtype)
    expected = listing_3(m) if m.any() else 0.5
    assert abs(dice_threshold(m) - expected) <= 1e-12
    assert dice(optimal_dice(m), m) == pytest.approx(2 * expected, abs=1e-12)
    assert dice_threshold(torch.from_numpy(m)) == dice_threshold(m)
    np.testing.assert_array_equal(optimal_dice(torch.from_numpy(m)).numpy(), optimal_dice(m))


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("guess", [(0.05, 0.06), (0.49, 0.5), (0.25, 0.25), (0.0, 0.75)])
def test_a_wrong_guess_costs_time_only(name, guess, monkeypatch):
    m = LARGE[name](np.random.default_rng(9))
    expected = listing_3(m)
    monkeypatch.setattr(_threshold, "_guess", lambda m, weight: guess)
    assert abs(dice_threshold(m) - expected) <= 1e-12


def test_shared_between_threads_bit_by_bit(monkeypatch):
    m = np.random.default_rng(2).random((30, 100, 101)).astype(np.float32)
    alone = dice_threshold(m)
    monkeypatch.setattr(_threshold, "SHARE", 1 << 14)
    assert dice_threshold(m) == alone
    assert dice_threshold(np.asfortranarray(m)) == pytest.approx(alone, abs=1e-15)


def test_one_walk_is_enough_for_a_good_guess(monkeypatch):
    walks = []
    tail = _threshold._tail
    monkeypatch.setattr(_threshold, "_tail", lambda *a: walks.append(1) or tail(*a))
    dice_threshold(LARGE["network"](np.random.default_rng(1)))
    assert len(walks) == 1


@pytest.mark.parametrize("name", LARGE)
def test_the_path_of_other_devices(name, monkeypatch):
    """The code for accelerators, run on tensors in main memory, in several blocks."""
    m = LARGE[name](np.random.default_rng(10))
    expected = dice_threshold(m)
    monkeypatch.setattr(_threshold, "host_view", lambda x: x)
    monkeypatch.setattr(_threshold, "DEVICE_BLOCK", 50_000)
    assert dice_threshold(torch.from_numpy(m)) == pytest.approx(expected, abs=1e-14)
    assert dice_threshold(torch.zeros(3, 4)) == 0.5
    with pytest.raises(ValueError, match=r"m \(shape \(2,\)\): expected values in \[0, 1\], found nan"):
        dice_threshold(torch.tensor([0.5, torch.nan]))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float16, np.float32, np.float64])
def test_labels_and_empty_marginals(kind, dtype):
    label = kind((np.arange(24).reshape(2, 3, 4) % 5 == 0).astype(dtype))
    for m in (
        label,
        label * 0 if dtype is not bool else label & False,
        label | True if dtype is bool else label * 0 + 1,
    ):
        assert dice_threshold(m) == 0.5
        for s in (optimal_dice(m), optimal_accuracy(m)):
            assert type(s) is type(m) and str(s.dtype).endswith("bool")
            assert bool((s == (m != 0)).all())
    assert regret(kind(np.zeros(4)), kind(np.zeros(4))) == 0
    assert regret(kind(np.eye(4)), kind(np.zeros((4, 4)))) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_masks_compare_in_float64(dtype):
    """A voxel just below 0.4 is below it in its own dtype too, where 0.4 itself cannot be written."""
    m = np.array([1.0, 0.5, 0.5, 0.0], dtype=dtype)
    assert dice_threshold(m) == 0.4
    near = np.array([np.nextafter(dtype(0.4), dtype(0)), dtype(0.4), np.nextafter(dtype(0.4), dtype(1))], dtype=dtype)
    for x in (near, torch.from_numpy(near)):
        np.testing.assert_array_equal(np.asarray(_at_least(x, 0.4)), near.astype(np.float64) >= 0.4)


def test_bfloat16_and_gradients():
    m = torch.rand(40, 50, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16).requires_grad_()
    t = dice_threshold(m)
    assert abs(t - listing_3(m.detach().double().numpy())) < 1e-12
    assert torch.equal(optimal_dice(m), m.detach().double() >= t)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4", ">f2"])
def test_layout_and_byte_order_do_not_matter(dtype):
    m = np.random.default_rng(3).random((50, 60, 70)).astype(dtype)
    parts = m[::2, ::-1, 5:60:3]
    for x in (m, m.T, np.asfortranarray(m), parts, parts.transpose(1, 0, 2)):
        assert abs(dice_threshold(x) - listing_3(x)) <= 1e-14
        np.testing.assert_array_equal(optimal_dice(x), np.ascontiguousarray(x).astype(np.float64) >= dice_threshold(x))


def test_negative_zero_is_zero():
    for dtype in (np.float16, np.float32, np.float64):
        assert dice_threshold(np.array([1.0, 0.5, 0.5, -0.0], dtype=dtype)) == 0.4
        assert not optimal_dice(np.array([-0.0, -0.0], dtype=dtype)).any()


@pytest.mark.parametrize("value", [5e-324, 1e-310, 1e-200, 1e-17])
def test_the_smallest_numbers_are_not_lost(value):
    for m in (np.array([value, 0.0, value, value]), np.full(1000, value), np.eye(1, 1000) * value):
        assert 0 < dice_threshold(m) <= m.max()
        np.testing.assert_array_equal(optimal_dice(m), m > 0)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("m", "found"),
    [
        ([0.5, np.nan], "found nan"),
        ([np.inf, 0.5], "found inf"),
        ([0.5, -np.inf], "found -inf"),
        ([0.5, -0.25], "found -0.25"),
        ([1.5, 0.5], "found 1.5"),
        ([], r"m: expected at least one voxel, got an empty array of shape \(0,\)"),
    ],
)
def test_bad_marginals(kind, dtype, m, found):
    m = kind(np.array(m, dtype=dtype))
    rules = [dice_threshold, optimal_dice, optimal_accuracy, lambda x: optimal_at_volume(x, 0.5)]
    for rule in rules:
        with pytest.raises(ValueError, match=found) as error:
            rule(m)
        assert str(error.value).startswith("m")
