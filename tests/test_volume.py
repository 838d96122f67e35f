import numpy as np
import pytest
import torch

from noisyseg import (
    accuracy,
    accuracy_volume_bounds,
    dice,
    dice_threshold,
    dice_volume_bounds,
    optimal_accuracy,
    optimal_at_volume,
    optimal_dice,
)


def test_volumes_tie_in_c_order():
    m = np.array([[0.5, 0.7], [0.7, 0.7]])
    for x in (m, torch.from_numpy(m), m.astype(np.float16), torch.from_numpy(m).half()):
        assert optimal_at_volume(x, 0.5).tolist() == [[False, True], [True, False]]
        assert optimal_at_volume(x, 0).tolist() == [[False, False], [False, False]]
        assert optimal_at_volume(x, 1).tolist() == [[True, True], [True, True]]
    assert optimal_at_volume(m.T, 0.25).tolist() == [[False, True], [False, False]]
    assert optimal_at_volume(np.array([0, 1, 1]), 1 / 3).tolist() == [False, True, False]


def test_both_optima_coincide_at_the_volume_of_the_marginal():
    """At |s| = v: A_m(s) = 1 - 2v + 2 int(s m) and D_m(s) = int(s m) / v (theory of the NeurIPS 2022 paper)."""
    m = np.random.default_rng(5).random(200)
    m[-1] = np.ceil(m[:-1].sum()) - m[:-1].sum()
    v = m.mean()
    s = optimal_at_volume(m, v)
    inside = (s * m).mean()
    assert accuracy(s, m) == pytest.approx(1 - 2 * v + 2 * inside, abs=1e-14)
    assert dice(s, m) == pytest.approx(inside / v, abs=1e-14)


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
    low_t, high_t = bounds(torch.from_numpy(v).float())
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
