import itertools
import math

import numpy as np
import pytest
import torch

from noisyseg import GaussianDeformation, gaussian_field
from noisyseg import _voxels as voxels

B = 0.15 / np.sqrt(2)


def organ(shape, low=0.1, high=0.55, dtype=np.uint8):
    label = np.zeros(shape, dtype=dtype)
    label[tuple(slice(int(low * n), max(int(low * n) + 1, int(high * n))) for n in shape)] = 1
    return label


def ball(size, n=3, radius=0.3, centre=0.5):
    axes = np.meshgrid(*[(np.arange(size) + 0.5) / size - centre] * n, indexing="ij", sparse=True)
    return sum(x * x for x in axes) < radius**2


def deformed(label, field):
    """Compute equation 18 voxel by voxel: the label at the voxel that holds w + X(w), 0 outside the image."""
    out = np.zeros_like(label)
    for i in np.ndindex(label.shape):
        j = [math.floor(ik + 0.5 + n * float(x[i])) for ik, n, x in zip(i, label.shape, field, strict=True)]
        if all(0 <= jk < n for jk, n in zip(j, label.shape, strict=True)):
            out[i] = label[tuple(j)]
    return out


def summed(label, a):
    """Compute Theorem 1 on voxels as it is written: a sum over all pairs of voxels."""

    def phi(x):
        return math.erfc(-x / math.sqrt(2)) / 2

    weights = []
    for ak, n in zip(a, label.shape, strict=True):
        s = ak * n
        weights.append([[phi((j + 0.5 - i) / s) - phi((j - 0.5 - i) / s) for j in range(n)] for i in range(n)])
    m = np.zeros(label.shape)
    for i in np.ndindex(m.shape):
        for j in zip(*label.nonzero(), strict=True):
            m[i] += math.prod(w[ik][jk] for w, ik, jk in zip(weights, i, j, strict=True))
    return m


@pytest.mark.parametrize("shape", [(40,), (14, 17), (9, 7, 11), (5, 4, 6, 5), (1, 9), (9, 1, 2)])
@pytest.mark.parametrize("a", [0.004, 0.03, 0.3])
def test_sample_is_the_deformation_of_the_field(shape, a):
    for seed, (low, high) in enumerate([(0.1, 0.55), (0, 1), (0, 0.4), (0.8, 1)]):
        label = organ(shape, low, high)
        expected = deformed(label, gaussian_field(shape, a, B, seed))
        np.testing.assert_array_equal(GaussianDeformation(a).sample(label, seed), expected)


def test_sample_in_many_slabs_and_with_lines_left_out(monkeypatch):
    label = ball(24, radius=0.12, centre=0.3)
    expected = deformed(label, gaussian_field(label.shape, 0.02, B, 3))
    assert 0 < expected.sum() < expected.size / 20
    for slab in (1, 700, 1 << 20):
        monkeypatch.setattr(voxels, "SLAB", slab)
        np.testing.assert_array_equal(GaussianDeformation(0.02).sample(label, 3), expected)


def test_hand_computed_marginal():
    """One voxel of the middle of three, displaced by a normal number of standard deviation one voxel."""
    m = GaussianDeformation(1 / 3).marginal(np.array([0, 1, 0]))
    phi_half, phi_three_halves = 0.6914624612740131, 0.9331927987311419  # tabulated values of Phi
    side = phi_three_halves - phi_half
    np.testing.assert_allclose(m, [side, 2 * phi_half - 1, side], rtol=0, atol=1e-15)
    loss = GaussianDeformation(1 / 3).volume_loss(np.array([0, 1, 0]))
    assert loss == pytest.approx(2 * (1 - phi_three_halves), abs=1e-15)


@pytest.mark.parametrize(
    ("shape", "a"),
    [
        ((12,), (0.1,)),
        ((7, 9), (0.05, 0.2)),
        ((5, 6, 4), (0.02, 0.1, 0.4)),
        ((3, 4, 3, 2), (0.1,) * 4),
        ((1, 5), (1.0, 0.1)),
    ],
)
def test_marginal_is_the_sum_of_theorem_1(shape, a, monkeypatch):
    monkeypatch.setattr("noisyseg.noise.ROWS", 3)
    for low, high in [(0, 0.5), (0.3, 0.8), (0, 1)]:
        label = organ(shape, low, high)
        np.testing.assert_allclose(GaussianDeformation(a).marginal(label), summed(label, a), rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(50,), (33, 40), (24, 20, 28), (7, 8, 6, 9)])
@pytest.mark.parametrize("a", [1e-4, 0.01, 0.03, 0.06, 0.5, 3.0])
def test_volume_is_kept_up_to_the_loss(shape, a):
    for low, high in [(0.3, 0.6), (0, 0.4), (0.7, 1), (0, 1)]:
        label = organ(shape, low, high)
        noise = GaussianDeformation(a)
        m = noise.marginal(label)
        assert m.dtype == np.float64
        assert m.min() >= 0 and m.max() <= 1
        assert abs(m.sum() - (label.sum() - noise.volume_loss(label))) <= 1e-10 * label.sum()
        assert 0 <= noise.volume_loss(label) <= label.sum()


def test_marginal_tends_to_theorem_1_in_the_continuum():
    """A half line, deformed: E[L](w) = Phi((1/2 - w)/a) - Phi(-w/a), up to the voxel size squared."""
    n, a = 2000, 0.05
    w = (np.arange(n) + 0.5) / n
    m = GaussianDeformation(a).marginal(w < 0.5)
    expected = [(math.erf((0.5 - x) / a / math.sqrt(2)) + math.erf(x / a / math.sqrt(2))) / 2 for x in w]
    np.testing.assert_allclose(m, expected, rtol=0, atol=1e-5)


def check_mean(label, a, b, seed, samples=20_000):
    noise = GaussianDeformation(a, b)
    rng = np.random.default_rng(seed)
    mean = np.zeros(label.shape)
    for _ in range(4):
        mean += noise.sample(label, rng, size=samples // 4).sum(axis=0)
    mean /= samples
    m = noise.marginal(label)
    error = np.sqrt(m * (1 - m) / samples)
    # Five standard errors; where fewer than a handful of samples are expected, as many as the Poisson law allows.
    assert (abs(mean - m) <= 5 * error + np.where(m * samples < 25, 8 / samples, 0)).all()
    corners = [m[i] for i in itertools.product((0, -1), repeat=m.ndim)]
    return m, corners


def test_mean_of_samples_in_two_dimensions():
    label = np.zeros((12, 10))
    label[:5, :4] = 1  # touches a corner and two sides
    label[8:, 7:9] = 1  # touches a side
    _, corners = check_mean(label, 0.08, 0.2, seed=1)
    assert sorted(corners)[-2] > 0.1  # two corners are really put to the test


def test_mean_of_samples_in_three_dimensions():
    label = np.zeros((6, 7, 5), dtype=bool)
    label[:3, 2:, 3:] = 1
    _, corners = check_mean(label, (0.1, 0.15, 0.2), 0.15, seed=2)
    assert max(corners) > 0.2


def test_mean_volume_of_samples():
    label = organ((40, 36), 0, 0.5)
    noise = GaussianDeformation(0.05)
    volumes = noise.sample(label, 7, size=4000).sum(axis=(1, 2), dtype=float)
    error = volumes.std() / math.sqrt(len(volumes))
    assert abs(volumes.mean() - (label.sum() - noise.volume_loss(label))) < 5 * error
    assert noise.volume_loss(label) > 20 * error


def test_same_seed_same_bits():
    label = ball(20)
    noise = GaussianDeformation(0.03)
    first = noise.sample(label, 4)
    np.testing.assert_array_equal(first, noise.sample(label, 4))
    np.testing.assert_array_equal(first, noise.sample(label, np.random.default_rng(4)))
    np.testing.assert_array_equal(first, noise.sample(label, np.int64(4)))
    np.testing.assert_array_equal(first, noise.sample(torch.from_numpy(label), 4).numpy())
    assert (noise.sample(label, 5) != first).any()
    assert (noise.sample(label) != noise.sample(label)).any()


def test_many_samples_are_successive_samples():
    label = ball(12)
    noise = GaussianDeformation(0.05)
    rng = np.random.default_rng(0)
    one_by_one = np.stack([noise.sample(label, rng) for _ in range(3)])
    np.testing.assert_array_equal(noise.sample(label, 0, size=3), one_by_one)
    assert noise.sample(label, 0, size=1).shape == (1, 12, 12, 12)
    assert noise.sample(label, 0, size=0).shape == (0, 12, 12, 12)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64, ">i2"])
def test_dtype_and_layout_are_kept(dtype):
    plain = organ((10, 12, 9), dtype=dtype)
    strided = np.zeros((20, 12, 27), dtype=dtype)
    strided[::2, ::-1, ::3] = plain
    noise = GaussianDeformation(0.04)
    expected = noise.sample(plain.astype(np.uint8), 2)
    for label in (plain, np.asfortranarray(plain), strided[::2, ::-1, ::3]):
        before = label.copy()
        sample = noise.sample(label, 2)
        assert sample.dtype == plain.dtype
        np.testing.assert_array_equal(sample, expected)
        np.testing.assert_array_equal(noise.marginal(label), noise.marginal(plain.astype(np.uint8)))
        assert noise.volume_loss(label) == noise.volume_loss(plain.astype(np.uint8))
        np.testing.assert_array_equal(label, before)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32])
def test_torch_agrees_with_numpy(dtype):
    label = torch.from_numpy(organ((9, 10, 12))).to(dtype).permute(1, 2, 0)
    noise = GaussianDeformation(0.05)
    sample = noise.sample(label, 3)
    assert sample.dtype == dtype and sample.shape == label.shape
    np.testing.assert_array_equal(sample.numpy(), noise.sample(label.numpy(), 3))
    m = noise.marginal(label)
    assert m.dtype == torch.float64
    np.testing.assert_array_equal(m.numpy(), noise.marginal(label.numpy()))
    assert noise.volume_loss(label) == noise.volume_loss(label.numpy())
    draws = [noise.sample(label, torch.Generator().manual_seed(1), size=2) for _ in range(2)]
    assert torch.equal(*draws) and (draws[0][0] != draws[0][1]).any()
    np.testing.assert_array_equal(
        noise.sample(label.numpy(), torch.Generator().manual_seed(1), size=2), draws[0].numpy()
    )


@pytest.mark.parametrize("shape", [(30,), (12, 15), (10, 8, 9), (4, 5, 6, 3)])
def test_the_path_of_other_devices(shape, monkeypatch):
    """The code for accelerators, run on tensors in main memory, slab by slab."""
    label = organ(shape)
    noise = GaussianDeformation(0.05)
    expected = noise.sample(label, 3, size=2), noise.marginal(label), noise.volume_loss(label)
    empty = torch.zeros(shape)
    monkeypatch.setattr("noisyseg.noise.host_view", lambda x: x)
    monkeypatch.setattr("noisyseg._checks.host_view", lambda x: x)
    monkeypatch.setattr(voxels, "DEVICE_SLAB", 100)
    tensor = torch.from_numpy(label)
    np.testing.assert_array_equal(noise.sample(tensor, 3, size=2).numpy(), expected[0])
    np.testing.assert_allclose(noise.marginal(tensor).numpy(), expected[1], rtol=0, atol=1e-15)
    assert noise.volume_loss(tensor) == pytest.approx(expected[2], abs=1e-13)
    assert not noise.sample(empty).any() and not noise.marginal(empty).any() and noise.volume_loss(empty) == 0
    assert torch.equal(GaussianDeformation(0).sample(tensor, size=1)[0], tensor)
    with pytest.raises(ValueError, match=r"label \(shape .*found 2.0"):
        noise.sample(tensor * 2)


def test_no_noise_gives_the_label():
    label = ball(9)
    still = GaussianDeformation(0)
    sample = still.sample(label, 0)
    np.testing.assert_array_equal(sample, label)
    assert not np.shares_memory(sample, label)
    np.testing.assert_array_equal(still.sample(label, size=2), np.stack([label, label]))
    np.testing.assert_array_equal(still.marginal(label), label.astype(np.float64))
    assert still.volume_loss(label) == 0


def test_no_noise_along_one_axis():
    label = organ((10, 11))
    noise = GaussianDeformation((0, 0.1))
    np.testing.assert_array_equal(noise.sample(label, 0).any(axis=1), label.any(axis=1))
    m = noise.marginal(label)
    np.testing.assert_array_equal(m.any(axis=1), label.any(axis=1))
    assert m.sum() == pytest.approx(label.sum() - noise.volume_loss(label), abs=1e-12)


@pytest.mark.parametrize("shape", [(1,), (6,), (4, 5), (3, 4, 5)])
def test_empty_full_and_single_voxel_labels(shape):
    noise = GaussianDeformation(0.2)
    empty, full = np.zeros(shape), np.ones(shape)
    assert not noise.sample(empty, 0).any() and not noise.marginal(empty).any() and noise.volume_loss(empty) == 0
    m = noise.marginal(full)
    assert m.sum() == pytest.approx(full.sum() - noise.volume_loss(full), rel=1e-12)
    np.testing.assert_allclose(m, np.flip(m), atol=1e-15)
    one = np.zeros(shape)
    one.flat[0] = 1
    assert noise.marginal(one).sum() == pytest.approx(1 - noise.volume_loss(one), rel=1e-12)


def test_marginal_does_not_depend_on_b():
    label = ball(10)
    np.testing.assert_array_equal(
        GaussianDeformation(0.1, 0.01).marginal(label), GaussianDeformation(0.1, 5).marginal(label)
    )


def test_frozen_and_comparable():
    assert GaussianDeformation(0.02).b == 0.15 / math.sqrt(2)
    assert GaussianDeformation([0.02, 0.01]) == GaussianDeformation((0.02, 0.01))
    assert hash(GaussianDeformation(np.array([0.02, 0.01]))) == hash(GaussianDeformation((0.02, 0.01)))
    with pytest.raises(AttributeError):
        GaussianDeformation(0.02).a = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        (-0.01, B, "a: expected finite non-negative numbers, got -0.01"),
        ((0.1, -0.2), B, "a: .* got -0.2"),
        (np.nan, B, "a: .* got nan"),
        (0.1, 0, "b: expected finite positive numbers, got 0.0"),
        (0.1, -1, "b: .* got -1.0"),
        (0.1, np.inf, "b: .* got inf"),
        ("much", B, "a: expected a number or one number per axis, got 'much'"),
    ],
)
def test_bad_parameters(a, b, found):
    with pytest.raises(ValueError, match=found):
        GaussianDeformation(a, b)


@pytest.mark.parametrize("method", ["sample", "marginal", "volume_loss"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize(
    ("label", "found"),
    [
        ([[0.0, 0.5]], r"label \(shape \(1, 2\)\): expected a binary array of 0 and 1, found 0.5"),
        ([[0, 2]], r"label \(shape \(1, 2\)\): .* found 2.0"),
        ([[0, -1]], r"label \(shape \(1, 2\)\): .* found -1.0"),
        ([[1.0, np.nan]], r"label \(shape \(1, 2\)\): .* found nan"),
        ([[]], r"label: expected at least one voxel, got an empty array of shape \(1, 0\)"),
        ([0, 1, 0], r"a: expected one number or one for each of the 1 axes, got 2"),
    ],
)
def test_bad_labels(method, kind, label, found):
    with pytest.raises(ValueError, match=found):
        getattr(GaussianDeformation((0.1, 0.1)), method)(kind(np.array(label)))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"size": -1}, "size: expected a non-negative int or None, got -1"),
        ({"size": 2.0}, "size: expected a non-negative int or None, got 2.0"),
        ({"size": True}, "size: .* got True"),
        ({"rng": "seed"}, "rng: expected a numpy.random.Generator, a torch.Generator, .* got 'seed'"),
        ({"rng": -3}, "rng: .* got -3"),
    ],
)
def test_bad_arguments_of_sample(arguments, found):
    for label in (ball(4), ball(4) & False):
        with pytest.raises(ValueError, match=found):
            GaussianDeformation(0.1).sample(label, **arguments)
    with pytest.raises(ValueError, match="b: expected one number or one for each of the 3 axes, got 2"):
        GaussianDeformation(0.1, (0.1, 0.1)).sample(ball(4))
