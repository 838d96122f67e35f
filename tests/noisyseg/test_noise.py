import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KINDS, both, needs_torch, torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.special import ive, ndtr

from noisyseg import GaussianDeformation, dice_threshold, gaussian_field
from noisyseg._core import voxels
from noisyseg.fields import kronecker_factor

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


@pytest.mark.statement("def-deformation")
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


@pytest.mark.statement("thm-marginal", "thm-volume-loss", "prop-voxels", "prop-voxel-volume")
def test_hand_computed_marginal():
    """One voxel of the middle of three, displaced by a normal number of standard deviation one voxel."""
    m = GaussianDeformation(1 / 3).marginal(np.array([0, 1, 0]))
    phi_half, phi_three_halves = 0.6914624612740131, 0.9331927987311419  # tabulated values of Phi
    side = phi_three_halves - phi_half
    np.testing.assert_allclose(m, [side, 2 * phi_half - 1, side], rtol=0, atol=1e-15)
    loss = GaussianDeformation(1 / 3).volume_loss(np.array([0, 1, 0]))
    assert loss == pytest.approx(2 * (1 - phi_three_halves), abs=1e-15)


@pytest.mark.statement("thm-marginal", "prop-voxels")
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


@pytest.mark.statement("thm-volume-loss", "prop-voxel-volume")
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


@pytest.mark.statement("thm-marginal", "prop-continuum")
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


@pytest.mark.statement("def-deformation", "thm-marginal", "prop-voxels")
def test_mean_of_samples_in_two_dimensions():
    label = np.zeros((12, 10))
    label[:5, :4] = 1  # touches a corner and two sides
    label[8:, 7:9] = 1  # touches a side
    _, corners = check_mean(label, 0.08, 0.2, seed=1)
    assert sorted(corners)[-2] > 0.1  # two corners are really put to the test


@pytest.mark.statement("def-deformation", "thm-marginal", "prop-voxels")
def test_mean_of_samples_in_three_dimensions():
    label = np.zeros((6, 7, 5), dtype=bool)
    label[:3, 2:, 3:] = 1
    _, corners = check_mean(label, (0.1, 0.15, 0.2), 0.15, seed=2)
    assert max(corners) > 0.2


@pytest.mark.statement("thm-volume-loss", "prop-voxel-volume")
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
    for x in both(label):
        np.testing.assert_array_equal(first, np.asarray(noise.sample(x, 4)))
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


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32"])
@needs_torch
def test_torch_agrees_with_numpy(dtype):
    dtype = getattr(torch, dtype)
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
@needs_torch
def test_the_path_of_other_devices(shape, monkeypatch):
    """The code for accelerators, run on tensors in main memory, slab by slab."""
    label = organ(shape)
    noise = GaussianDeformation(0.05)
    expected = noise.sample(label, 3, size=2), noise.marginal(label), noise.volume_loss(label)
    empty = torch.zeros(shape)
    monkeypatch.setattr("noisyseg.noise.host_view", lambda x: x)
    monkeypatch.setattr("noisyseg._core.arrays.host_view", lambda x: x)
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


@pytest.mark.statement("thm-marginal")
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
@pytest.mark.parametrize("kind", KINDS)
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


# ---- the statements of the chapter "Label noise" ---------------------------------------------------------------------


SEEDS = st.integers(0, 2**32 - 1)


def coins(shape, seed, p):
    return np.random.default_rng(seed).random(shape) < p


@st.composite
def noisy_labels(draw, largest=5, axes=(1, 4), strengths=(0.0, 0.02, 0.1, 0.4, 2.0)):
    """A random label of one to four axes, in a random layout, empty and full ones too, and a strength for each axis."""
    shape = draw(st.lists(st.integers(1, largest), min_size=axes[0], max_size=axes[1]))
    bits = coins(shape, draw(SEEDS), draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])))
    label = bits.transpose(draw(st.permutations(range(len(shape)))))
    a = tuple(draw(st.sampled_from(strengths)) for _ in shape)
    return label.astype(draw(st.sampled_from([bool, np.uint8, np.int32, np.float32]))), a


def leaves(shape, a):
    """Probability that a displacement leads from the centre of a voxel out of the image, for every voxel."""
    stays = np.ones(shape)
    for k, (n, ak) in enumerate(zip(shape, a, strict=True)):
        inside = [ndtr((n - j - 0.5) / (ak * n)) - ndtr(-(j + 0.5) / (ak * n)) if ak else 1.0 for j in range(n)]
        stays *= np.reshape(inside, [n if axis == k else 1 for axis in range(len(shape))])
    return 1 - stays


def half_space(n, c):
    """Label {w < c} on n voxels, by voxel centres, and Theorem 1 at these: nothing lies beyond 0."""
    w = (np.arange(n) + 0.5) / n
    return w < c, lambda a: ndtr((c - w) / a) - ndtr(-w / a)


def ball_marginal(r, radius, a):
    """Theorem 1 for a ball in three dimensions, at the distance r > 0 from its centre."""
    phi = np.exp(-(((radius - r) / a) ** 2) / 2) - np.exp(-(((radius + r) / a) ** 2) / 2)
    return ndtr((radius - r) / a) - ndtr(-(radius + r) / a) - a / r * phi / math.sqrt(2 * math.pi)


@pytest.mark.statement("prop-voxels", "thm-marginal")
@settings(max_examples=40)
@given(noisy_labels(largest=4))
def test_marginal_is_the_sum_over_all_pairs(case):
    label, a = case
    tiny = [max(ak, 1e-3) for ak in a]  # the sum divides by a; at 1e-3 of five voxels a displacement stays in its voxel
    m = GaussianDeformation(a).marginal(label)
    np.testing.assert_allclose(m, summed(label, tiny), rtol=0, atol=1e-14)
    assert m.min() >= 0 and m.max() <= 1


@pytest.mark.statement("prop-voxel-volume", "thm-volume-loss")
@given(noisy_labels())
def test_volume_loss_is_the_probability_of_leaving(case):
    label, a = case
    noise = GaussianDeformation(a)
    loss = noise.volume_loss(label)
    assert loss == pytest.approx((leaves(label.shape, a) * label).sum(), abs=1e-13)
    assert noise.marginal(label).sum() == pytest.approx(label.sum(dtype=float) - loss, abs=1e-12)
    stronger = GaussianDeformation(tuple(1.5 * ak for ak in a)).volume_loss(label)
    assert stronger >= loss - 1e-13


@pytest.mark.statement("prop-marginal-properties")
@given(noisy_labels(), SEEDS)
def test_marginal_is_additive_and_monotone(case, seed):
    label, a = case
    noise = GaussianDeformation(a)
    part = label * coins(label.shape, seed, 0.5)
    whole, some, rest = (noise.marginal(x.astype(label.dtype)) for x in (label, part, label * (part == 0)))
    np.testing.assert_allclose(some + rest, whole, rtol=0, atol=1e-14)
    assert (some <= whole + 1e-15).all()
    loss = [noise.volume_loss(x.astype(label.dtype)) for x in (label, part, label * (part == 0))]
    assert loss[0] == pytest.approx(loss[1] + loss[2], abs=1e-12)
    assert loss[1] <= loss[0] + 1e-13


@pytest.mark.statement("prop-marginal-properties")
@given(noisy_labels(), SEEDS)
def test_marginals_are_not_farther_apart_than_the_labels(case, seed):
    label, a = case
    other = (label != 0) ^ coins(label.shape, seed, 0.3)
    noise = GaussianDeformation(a)
    apart = abs(noise.marginal(label) - noise.marginal(other)).sum()
    assert apart <= ((label != 0) ^ other).sum() + 1e-12


@pytest.mark.statement("prop-marginal-properties")
@given(noisy_labels(), st.data())
def test_marginal_turns_and_flips_with_the_label(case, data):
    label, a = case
    order = data.draw(st.permutations(range(label.ndim)))
    flipped = data.draw(st.lists(st.integers(0, label.ndim - 1), unique=True))
    m = GaussianDeformation(a).marginal(label)
    other = GaussianDeformation(tuple(a[k] for k in order))
    moved = np.flip(label.transpose(order), flipped)
    np.testing.assert_allclose(other.marginal(moved), np.flip(m.transpose(order), flipped), rtol=0, atol=1e-14)
    assert other.volume_loss(moved) == pytest.approx(GaussianDeformation(a).volume_loss(label), abs=1e-13)


@pytest.mark.statement("prop-marginal-properties")
@given(noisy_labels(largest=4, axes=(1, 3)), st.data())
def test_marginal_moves_with_the_label(case, data):
    """In an image that is larger by ``room`` voxels on each side, and nothing outside the image is ever seen."""
    label, a = case
    room = 3
    shift = tuple(data.draw(st.integers(-room, room)) for _ in label.shape)
    larger = tuple(n + 2 * room for n in label.shape)
    same = tuple(ak * n / m for ak, n, m in zip(a, label.shape, larger, strict=True))  # as many voxels as before
    image = np.zeros(larger, label.dtype)
    inside = tuple(slice(room + d, room + d + n) for d, n in zip(shift, label.shape, strict=True))
    image[inside] = label
    m = GaussianDeformation(same).marginal(image)[inside]
    np.testing.assert_allclose(m, GaussianDeformation(a).marginal(label), rtol=0, atol=1e-15)


@pytest.mark.statement("prop-marginal-properties")
@given(noisy_labels(strengths=(0.02, 0.1, 0.4, 2.0)))
def test_marginal_changes_slowly(case):
    """From a voxel to the next by at most 1 / (s sqrt(2 pi)), s the strength in voxels."""
    label, a = case
    m = GaussianDeformation(a).marginal(label)
    for k, (n, ak) in enumerate(zip(label.shape, a, strict=True)):
        steps = abs(np.diff(m, axis=k))
        assert steps.max(initial=0) <= 1 / (ak * n * math.sqrt(2 * math.pi)) + 1e-14
    steep = GaussianDeformation(0.1).marginal(np.arange(100) >= 50)  # the bound is sharp for weak slopes
    assert np.diff(steep).max() == pytest.approx(1 / (10 * math.sqrt(2 * math.pi)), rel=1e-2)


@pytest.mark.statement("prop-unique")
def test_no_value_is_taken_on_more_than_single_points_of_a_line():
    """A normal density smooths away sign changes, so a line meets a value at most twice for every run of the label."""
    rng = np.random.default_rng(6)
    parts, runs_of = 200, lambda line: int((np.diff(line, prepend=0) == 1).sum())
    levels = (0.5, *rng.uniform(0.02, 0.98, size=5))
    for _ in range(20):
        label = (rng.random((9, 4)) < 0.5).astype(np.uint8)
        label[0, 0] = 1
        m = GaussianDeformation((rng.uniform(0.05, 0.12), 0)).marginal(np.repeat(label, parts, axis=0))
        for u in (*levels, dice_threshold(m)):
            for line, of in zip(m.T, label.T, strict=True):
                assert np.sum(abs(line - u) < 1e-9) <= 2 * runs_of(of)
                assert np.sum(np.diff(line >= u)) <= 2 * runs_of(of)
    tie = (label + np.roll(label, 1, axis=0)) / 2  # two outlines without noise: 1/2 has a volume
    assert np.sum(np.repeat(tie, parts, axis=0) == 0.5) >= parts


@pytest.mark.statement("prop-unique")
def test_both_optima_are_unique_in_the_continuum_and_on_voxels_but_for_single_strengths():
    label = np.zeros((9, 9), dtype=bool)
    label[2:4, 2:7] = label[5, 5] = True
    widths = (1e-2, 1e-3, 1e-4)
    m = GaussianDeformation(0.08).marginal(np.kron(label, np.ones((80, 80), bool)))
    for u in (0.5, dice_threshold(m)):
        shares = [np.mean(abs(m - u) < width) for width in widths]
        assert shares[0] < 0.02 and shares[1] < shares[0] / 5 and shares[2] < shares[1] / 5
    one = np.zeros(401, dtype=bool)
    one[200] = True
    sigma = 0.5 / 0.6744897501960817  # 1 / (2 Phi^-1(3/4)): a tie for Accuracy
    assert GaussianDeformation(sigma / 401).marginal(one)[200] == pytest.approx(0.5, abs=1e-12)
    assert set(np.unique(GaussianDeformation(0).marginal(label))) == {0.0, 1.0}  # and t = 1/2: no tie


@pytest.mark.statement("prop-continuum", "prop-voxels")
@given(noisy_labels(largest=3, axes=(1, 3)), st.sampled_from([3, 5]))
def test_finer_voxels_change_nothing_at_the_old_centres(case, parts):
    """The label is the same function, split into an odd number of parts a voxel: the old centres are new ones."""
    label, a = case
    fine = label
    for axis in range(label.ndim):
        fine = np.repeat(fine, parts, axis=axis)
    centres = (slice(parts // 2, None, parts),) * label.ndim
    noise = GaussianDeformation(a)
    np.testing.assert_allclose(noise.marginal(fine)[centres], noise.marginal(label), rtol=0, atol=1e-14)


@pytest.mark.statement("prop-continuum", "thm-marginal")
@pytest.mark.parametrize("n", [10, 64, 501])
@pytest.mark.parametrize("a", [0.01, 0.1])
def test_error_of_a_half_space_is_within_the_bound(n, a):
    """The face is off by half a voxel at most: 1 / (2 sqrt(2 pi) s), s = a N; on a voxel's border it is not off."""
    for c in (0.3, 1 / 3, 0.7071):
        label, exact = half_space(n, c)
        error = abs(GaussianDeformation(a).marginal(label) - exact(a)).max()
        assert error <= 0.5 / math.sqrt(2 * math.pi) / (a * n) + 1e-15
        aligned = round(c * n) / n
        label, exact = half_space(n, aligned)
        np.testing.assert_allclose(GaussianDeformation(a).marginal(label), exact(a), rtol=0, atol=1e-14)


@pytest.mark.statement("prop-continuum", "thm-marginal")
def test_a_ball_tends_to_its_closed_form():
    a, radius = 0.08, 0.3
    errors = []
    for n in (8, 16, 32, 64):
        label = ball(n, radius=radius)
        axes = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5] * 3, indexing="ij", sparse=True)
        exact = ball_marginal(np.sqrt(sum(x * x for x in axes)), radius, a)
        difference = abs(GaussianDeformation(a).marginal(label) - exact).max()
        # what the label on voxels differs from the ball lies within half a diagonal of the sphere
        shell = 4 / 3 * math.pi * ((radius + 3**0.5 / 2 / n) ** 3 - max(radius - 3**0.5 / 2 / n, 0) ** 3)
        assert difference <= shell / (2 * math.pi) ** 1.5 / a**3
        errors.append(difference)
    assert errors[-1] < 0.01 < 0.03 < errors[0]


@pytest.mark.statement("prop-sampled-gaussian")
@pytest.mark.parametrize("s", [0.3, 0.64, 1.28, 1.92, 5.0])
def test_a_sampled_gaussian_is_narrower_by_a_twelfth(s):
    size = 201
    d = np.arange(size) - size // 2
    point = np.zeros(size, np.uint8)
    point[size // 2] = 1
    w = GaussianDeformation(s / size).marginal(point)
    g = gaussian_filter1d(point.astype(float), s, mode="constant", truncate=size / 3 / s)
    n = np.arange(1, 40)
    q = np.exp(-2 * math.pi**2 * s**2 * n**2)
    exact = s * s + 1 / 12 + 2 * ((-1.0) ** n * q * (2 * s * s + 1 / (2 * math.pi**2 * n**2))).sum()
    sampled = s * s * (1 - 4 * math.pi**2 * s * s * (2 * n**2 * q).sum() / (1 + 2 * q.sum()))
    assert (w * d**2).sum() == pytest.approx(exact, rel=1e-12)
    assert (g * d**2).sum() == pytest.approx(sampled, rel=1e-10)


@pytest.mark.statement("prop-sampled-gaussian")
def test_error_of_a_sampled_gaussian_at_a_face():
    """x phi(x) / (24 s^2) to leading order, at most phi(1) / (24 s^2), a standard deviation from the face."""
    for s in (1.92, 4.0, 8.0, 16.0):
        label = np.arange(400) >= 200
        m = GaussianDeformation(s / 400).marginal(label)
        g = gaussian_filter1d(label.astype(float), s, mode="constant", truncate=8)
        x = (np.arange(400) - 199.5) / s
        leading = x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi) / (24 * s * s)
        near = abs(x) < 6
        assert abs((g - m - leading)[near]).max() < 0.01 / s**4
        assert abs(g - m)[near].max() == pytest.approx(0.2419707 / 24 / s**2, rel=0.1 if s < 4 else 0.02)
    cube = organ((64, 64, 64), 0.375, 0.625)
    off = abs(gaussian_filter(cube.astype(float), 0.64, mode="constant") - GaussianDeformation(0.01).marginal(cube))
    assert 0.04 < off.max() < 0.06  # at the strength 0.01 of the paper on 64 voxels


@pytest.mark.statement("cor-crossing", "thm-volume-loss")
def test_a_label_that_crosses_the_image_loses_a_fixed_part():
    n = 400
    for a in (0.01, 0.02, 0.03):
        tube = np.zeros((12, n), bool)
        tube[5:7] = True
        part = GaussianDeformation((0, a)).volume_loss(tube) / tube.sum()
        on_voxels = 2 * sum(ndtr(-(j + 0.5) / (a * n)) for j in range(n)) / n
        assert part == pytest.approx(on_voxels, rel=1e-12)
        assert part == pytest.approx(a * math.sqrt(2 / math.pi), rel=0.01)  # the sum over centres tends to the integral
        oblique = np.array([[3 <= i - 0.01 * j < 5 for j in range(n)] for i in range(12)])
        assert GaussianDeformation((0, a)).volume_loss(oblique) == pytest.approx(part * oblique.sum(), rel=1e-2)
        assert GaussianDeformation((0.2, a)).volume_loss(tube) > 1.01 * part * tube.sum()


@pytest.mark.statement("prop-volume-spread")
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("b", [0.05, B, 0.5])
def test_spread_of_the_volume_of_a_disc_and_a_ball(n, b):
    """Closed forms of the double integral over the circle and the sphere, against samples."""
    radius, size = 0.3, 400
    voxels_per_side, a = (200, 0.01) if n == 2 else (64, 0.015)  # about a voxel or more: voxels would hide less
    label = ball(voxels_per_side, n, radius)
    k = (radius / b) ** 2
    if n == 2:
        part = 2 * a / radius * math.sqrt(ive(1, k))
    else:
        spherical = ((k - 1) + (k + 1) * math.exp(-2 * k)) / (2 * k * k)  # exp(-k) (k cosh k - sinh k) / k^2
        part = 3 * a / radius * math.sqrt(spherical)
    volumes = GaussianDeformation(a, b).sample(label, 11, size=size).reshape(size, -1).sum(axis=1)
    # five standard errors of a standard deviation, and some for voxels and higher powers of a
    assert volumes.std() / label.sum() == pytest.approx(part, rel=5 / math.sqrt(2 * size) + 0.05)


@pytest.mark.parametrize("shape", [(5, 4, 6, 3), (7, 6)])
@needs_torch
def test_torch_agrees_with_numpy_on_every_layout(shape):
    """Permuted, sliced and expanded tensors, against contiguous arrays."""
    label = torch.from_numpy(organ(tuple(2 * n for n in shape)))
    noise = GaussianDeformation(0.07)
    views = [label.permute(*reversed(range(len(shape)))), label[(slice(None, None, 2),) * len(shape)]]
    views.append(label[:1].expand(3, *label.shape[1:]))
    for view in views:
        plain = np.ascontiguousarray(view.numpy())
        np.testing.assert_array_equal(noise.marginal(view).numpy(), noise.marginal(plain))
        np.testing.assert_array_equal(noise.sample(view, 3).numpy(), noise.sample(plain, 3))
        assert noise.volume_loss(view) == noise.volume_loss(plain)


# ---- millimetres -----------------------------------------------------------------------------------------------------


@pytest.mark.statement("prop-spacing")
def test_hand_computed_millimetres():
    """The image is 80 mm, 80 mm and 100 mm long."""
    noise = GaussianDeformation.in_mm(a_mm=4, b_mm=20, spacing_mm=(0.8, 0.8, 5), shape=(100, 100, 20))
    assert noise == GaussianDeformation((0.05, 0.05, 0.04), (0.25, 0.25, 0.2))
    assert GaussianDeformation.in_mm((4, 0, 1), (20, 10, 5), 2, (10, 20, 5)) == GaussianDeformation(
        (0.2, 0, 0.1), (1, 0.25, 0.5)
    )
    assert GaussianDeformation.in_mm(1, 2, 0.5, 40) == GaussianDeformation(0.05, 0.1)
    assert GaussianDeformation.in_mm(0, 2, 0.5, np.zeros((3, 4)).shape) == GaussianDeformation((0, 0), (4 / 3, 1))
    cube = GaussianDeformation.in_mm(3.84, 0.15 / math.sqrt(2) * 192, 3.0, (64, 64, 64))  # the paper's patches
    assert cube.a == pytest.approx((0.02,) * 3) and cube.b == pytest.approx((B,) * 3)


@pytest.mark.statement("prop-spacing")
def test_one_step_of_five_millimetres():
    """Slices of 5 mm: a displacement of 5 mm stays in its slice with the probability of half a standard deviation."""
    slices, lines = np.zeros((5, 7), np.uint8), np.zeros((5, 7), np.uint8)
    slices[2], lines[:, 3] = 1, 1
    noise = GaussianDeformation.in_mm(5, 50, (5, 1), (5, 7))
    along = noise.marginal(slices)[2, 3] / (1 - 2 * ndtr(-3.5 / 5))  # of what stays in the image across
    assert along == pytest.approx(ndtr(0.5) - ndtr(-0.5), rel=1e-12)
    across = noise.marginal(lines)[2, 3] / (1 - 2 * ndtr(-2.5))
    assert across == pytest.approx(ndtr(0.1) - ndtr(-0.1), rel=1e-12)


@pytest.mark.statement("prop-spacing")
@given(
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0.5, 0.8, 1.0, 3.0, 5.0])), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.5, 4.0]),
    st.sampled_from([2.0, 15.0]),
)
def test_noise_is_the_same_along_each_axis_of_space(grid, a_mm, b_mm):
    shape, spacing = zip(*grid, strict=True)
    noise = GaussianDeformation.in_mm(a_mm, b_mm, spacing, shape)
    a, b = (np.atleast_1d(x) for x in (noise.a, noise.b))
    sides = np.array(shape) * spacing
    np.testing.assert_allclose(a * sides, a_mm, rtol=1e-14)
    for n, h, bk in zip(shape, spacing, b, strict=True):
        factor = kronecker_factor(n, float(bk))
        distance = h * (np.arange(n)[:, None] - np.arange(n))
        np.testing.assert_allclose(factor @ factor.T, np.exp(-(distance**2) / (2 * b_mm**2)), rtol=0, atol=3e-6)
    finer = GaussianDeformation.in_mm(a_mm, b_mm, [h / 3 for h in spacing], [3 * n for n in shape])
    np.testing.assert_allclose(finer.a, noise.a, rtol=1e-14)
    np.testing.assert_allclose(finer.b, noise.b, rtol=1e-14)


@pytest.mark.statement("prop-spacing")
def test_marginal_of_thick_slices_is_that_of_the_fine_isotropic_image():
    """A ball in slices of 5 mm, and the same voxels cut into cubes of 1 mm: the same numbers at the same places."""
    spacing, shape, radius = (1.0, 1.0, 5.0), (41, 43, 9), 14.0
    at = np.meshgrid(*[h * (np.arange(n) - (n - 1) / 2) for n, h in zip(shape, spacing, strict=True)], indexing="ij")
    distance = np.sqrt(sum(x * x for x in at))
    coarse = distance < radius
    fine = np.repeat(coarse, 5, axis=2)
    m = GaussianDeformation.in_mm(3.0, 20.0, spacing, shape).marginal(coarse)
    isotropic = GaussianDeformation.in_mm(3.0, 20.0, 1.0, fine.shape).marginal(fine)
    np.testing.assert_allclose(isotropic[:, :, 2::5], m, rtol=0, atol=1e-14)
    # a ball that is sampled every millimetre is the round one nearly: its marginal depends on the distance alone
    at = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in fine.shape], indexing="ij", sparse=True)
    away = np.sqrt(sum(x * x for x in at))
    round_ball = GaussianDeformation.in_mm(3.0, 20.0, 1.0, fine.shape).marginal(away < radius)
    exact = ball_marginal(np.maximum(away, 1e-6), radius, 3.0)
    assert abs(round_ball - exact).max() < 0.02 and abs(round_ball - exact).mean() < 0.001
    # and that of the thick slices follows it as well as slices of 5 mm can tell where the ball ends
    off = abs(m - exact[:, :, 2::5]).mean()
    assert off < 0.005
    wrong = GaussianDeformation(3.0 / 41).marginal(coarse)  # one fraction of each side is no isotropic noise here
    assert abs(wrong - m).max() > 0.02 and abs(wrong - exact[:, :, 2::5]).mean() > 1.5 * off


@pytest.mark.statement("prop-spacing", "def-deformation")
def test_samples_in_millimetres_move_as_far_along_each_axis():
    """Root mean square of the displacements behind the samples, in mm."""
    shape, spacing = (40, 20, 8), np.array([0.8, 2.0, 5.0])
    noise = GaussianDeformation.in_mm(3.0, 4.0, spacing, shape)
    rng = np.random.default_rng(5)
    fields = [gaussian_field(shape, noise.a, noise.b, rng) for _ in range(100)]
    moved = np.sqrt(np.mean(np.square(fields, dtype=np.float64), axis=(0, 2, 3, 4)))
    np.testing.assert_allclose(moved * shape * spacing, 3.0, rtol=0.05)
    label = organ(shape, 0.25, 0.75)
    np.testing.assert_array_equal(noise.sample(label, 1), deformed(label, gaussian_field(shape, noise.a, noise.b, 1)))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"a_mm": -1}, "a_mm: expected finite non-negative numbers, got -1.0"),
        ({"a_mm": (1, 2)}, "a_mm: expected one number or one for each of the 3 axes, got 2"),
        ({"a_mm": "4 mm"}, "a_mm: expected a number or one number per axis, got '4 mm'"),
        ({"b_mm": 0}, "b_mm: expected finite positive numbers, got 0.0"),
        ({"b_mm": (1, 2, 3, 4)}, "b_mm: expected one number or one for each of the 3 axes, got 4"),
        ({"b_mm": np.nan}, "b_mm: .* got nan"),
        ({"spacing_mm": (0.8, 0.8)}, "spacing_mm: expected one number or one for each of the 3 axes, got 2"),
        ({"spacing_mm": (0.8, 0.8, 5, 1)}, "spacing_mm: .* the 3 axes, got 4"),
        ({"spacing_mm": (0.8, 0.8, 0)}, "spacing_mm: expected finite positive numbers, got 0.0"),
        ({"spacing_mm": (0.8, 0.8, -5)}, "spacing_mm: .* got -5.0"),
        ({"spacing_mm": np.inf}, "spacing_mm: .* got inf"),
        ({"spacing_mm": ()}, "spacing_mm: expected a positive number or one per axis, got none"),
        ({"shape": (10, 0, 4)}, r"shape: expected one positive number of voxels per axis, got \(10, 0, 4\)"),
        ({"shape": (10, 2.5, 4)}, "shape: .* got"),
        ({"shape": None}, "shape: .* got None"),
    ],
)
def test_bad_millimetres(arguments, found):
    good = {"a_mm": 4, "b_mm": 20, "spacing_mm": (0.8, 0.8, 5), "shape": (10, 10, 4)}
    GaussianDeformation.in_mm(**good)
    with pytest.raises(ValueError, match=found):
        GaussianDeformation.in_mm(**{**good, **arguments})


def test_millimetres_of_another_image():
    noise = GaussianDeformation.in_mm(4, 20, (0.8, 0.8, 5), (10, 10, 4))
    with pytest.raises(ValueError, match="a: expected one number or one for each of the 2 axes, got 3"):
        noise.marginal(np.ones((10, 10)))
