import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinds import needs_torch, torch
from scipy.ndimage import gaussian_filter1d
from scipy.stats import norm, poisson

from noisyseg import gaussian_field
from noisyseg._core.voxels import contract
from noisyseg.fields import border_rms, covariance, kronecker_factor, smoothing_kernel

B = 0.15 / np.sqrt(2)


def centres(size):
    return (np.arange(size) + 0.5) / size


def matrix(size, b):
    """The covariance matrix of one axis, written out."""
    w = centres(size)
    return np.exp(-((w[:, None] - w) ** 2) / (2 * b**2))


def columns(shape, b):
    """One field for every unit vector z, through the code that draws fields: the columns of L1 x L2 x ..."""
    factors = [kronecker_factor(n, bk).astype(np.float32) for n, bk in zip(shape, b, strict=True)]
    ranks = [f.shape[1] for f in factors]
    units = np.eye(int(np.prod(ranks)), dtype=np.float32).reshape(-1, *ranks)
    return (contract(units, factors) @ factors[-1].T).reshape(len(units), -1).astype(np.float64)


def filter_matrix(size, b, mode):
    """White noise on the voxels to the field of Listing 2 along one axis, in units of a."""
    weight = (2 * np.pi) ** 0.25 * (b * size) ** 0.5
    return weight * gaussian_filter1d(np.eye(size), b * size / np.sqrt(2), axis=0, mode=mode)


@pytest.mark.statement("prop-truncation")
@pytest.mark.parametrize("size", [1, 2, 5, 24, 64, 127, 256])
@pytest.mark.parametrize("b", [1e-3, 0.02, B, 0.3, 5.0])
def test_factor(size, b):
    factor = kronecker_factor(size, b)
    np.testing.assert_allclose(factor @ factor.T, matrix(size, b), rtol=0, atol=2e-6)
    np.testing.assert_allclose((factor**2).sum(axis=1), 1, rtol=0, atol=1e-14)
    assert not factor.flags.writeable
    assert kronecker_factor(size, b) is factor


@pytest.mark.statement("prop-truncation")
@given(size=st.integers(1, 80), b=st.floats(0.01, 3), exponent=st.floats(1, 9))
def test_truncation_costs_at_most_twice_the_tolerance(size, b, exponent):
    """Also for two axes together, and the variance stays 1."""
    tol = 10**-exponent
    factor = kronecker_factor(size, b, tol)
    made, wanted = factor @ factor.T, matrix(size, b)
    assert abs(made - wanted).max() <= 2 * tol + 1e-13
    np.testing.assert_allclose(np.diag(made), 1, rtol=0, atol=1e-14)
    assert (
        abs(np.kron(made[:5, :5], made[-5:, -5:]) - np.kron(wanted[:5, :5], wanted[-5:, -5:])).max() <= 4 * tol + 1e-13
    )


def test_a_looser_tolerance_is_used():
    """At 1/100 the factor is thinner and its error is not 0: the tolerance does something."""
    ranks = [kronecker_factor(64, B, tol).shape[1] for tol in (1e-1, 1e-2, 1e-4, 1e-6, 1e-9)]
    assert ranks == sorted(set(ranks))
    factor = kronecker_factor(64, B, 1e-2)
    assert 1e-3 < abs(factor @ factor.T - matrix(64, B)).max() <= 2e-2


@pytest.mark.statement("prop-rank")
@pytest.mark.parametrize("b", [0.05, B, 0.3, 2.0])
@pytest.mark.parametrize("size", [16, 64, 200])
def test_rank_has_a_bound_from_the_poisson_distribution(size, b):
    kernel = matrix(size, b)
    x = centres(size) - 0.5
    r = np.arange(200)
    tail = poisson.sf(r - 1, 1 / (4 * b**2))  # P(at least r)
    # The features of the proof: rank r, what is left out positive semidefinite and at most the tail on the diagonal.
    powers = np.cumprod(np.concatenate([np.ones((size, 1)), x[:, None] / (b * np.sqrt(r[1:]))], axis=1), axis=1)
    features = np.exp(-(x[:, None] ** 2) / (2 * b**2)) * powers
    left = np.linalg.eigvalsh(kernel)[::-1]
    for k in range(1, min(size, 60)):
        rest = kernel - features[:, :k] @ features[:, :k].T
        assert np.diag(rest).max() <= tail[k] + 1e-12
        assert np.linalg.eigvalsh(rest).min() > -1e-12
        if k < size:
            assert left[k] <= size * tail[k] + 1e-12
    for tol in (1e-2, 1e-6):
        bound = 1 + int(np.argmax(size * tail <= 0.9 * tol))
        assert kronecker_factor(size, b, tol).shape[1] <= bound


@pytest.mark.statement("prop-rank")
def test_factor_at_the_papers_b_is_thin_at_any_resolution():
    assert [kronecker_factor(size, B).shape[1] for size in (64, 256, 1024)] == [19, 20, 20]


@pytest.mark.statement("def-gaussian-field", "thm-kronecker")
@pytest.mark.parametrize(
    ("shape", "b"),
    [((40,), (B,)), ((16, 16), (B, B)), ((14, 9), (0.1, 0.3)), ((8, 7, 9), (B, 0.2, 0.05)), ((4, 3, 5, 4), (B,) * 4)],
)
def test_covariance_is_exact_everywhere(shape, b):
    """L L^T against K of equation 8 for every pair of voxels, borders and corners included, without Monte Carlo."""
    made = columns(shape, b)
    places = np.stack(np.meshgrid(*[centres(n) for n in shape], indexing="ij"), axis=-1).reshape(-1, len(shape))
    difference = (places[:, None] - places[None]) / np.array(b)
    expected = np.exp(-(difference**2).sum(axis=-1) / 2)
    np.testing.assert_allclose(made.T @ made, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(covariance(places[:, None], places, 1.0, b), expected, rtol=1e-12)


@pytest.mark.statement("prop-increments")
def test_increments():
    """Variance of a difference of two displacements: 2 a^2 (1 - exp(-r^2 / 2 b^2)), at most (a r / b)^2."""
    made = columns((64,), (B,))
    for steps in (1, 2, 10, 50):
        variance = ((made[:, steps:] - made[:, :-steps]) ** 2).sum(axis=0)
        r = steps / 64
        np.testing.assert_allclose(variance, 2 * (1 - np.exp(-((r / B) ** 2) / 2)), rtol=0, atol=5e-6)
        assert (variance <= (r / B) ** 2 + 1e-6).all()
    neighbours = np.sqrt(((made[:, 1:] - made[:, :-1]) ** 2).sum(axis=0)) * 64
    np.testing.assert_allclose(neighbours, 1 / B, rtol=0.01)  # a / b, with a = 1


@pytest.mark.statement("def-gaussian-field")
def test_components_are_independent_and_scaled():
    """Statistics over 2,000 draws: variance a_k^2 in middle and corners, no correlation between components."""
    a = (0.01, 0.04)
    rng = np.random.default_rng(0)
    draws = np.stack([gaussian_field((6, 8), a, 0.1, rng) for _ in range(2000)])
    for where in itertools.product((0, 3, -1), (0, 4, -1)):
        x = draws[(slice(None), slice(None), *where)]
        np.testing.assert_allclose(x.std(axis=0), a, rtol=0.08)
        assert abs(np.corrcoef(x.T)[0, 1]) < 0.12
        assert (abs(x.mean(axis=0)) < 5 * np.array(a) / np.sqrt(2000)).all()


@pytest.mark.parametrize("shape", [7, (7,), (5, 6), (3, 4, 5), (2, 3, 4, 5), (1,), (1, 8)])
def test_shapes(shape):
    sizes = (shape,) if isinstance(shape, int) else shape
    field = gaussian_field(shape, 0.02, B, 0)
    assert field.shape == (len(sizes), *sizes)
    assert field.dtype == np.float32
    assert np.isfinite(field).all() and (field != 0).all()


def test_same_seed_same_bits():
    first = gaussian_field((9, 10, 11), 0.02, B, 5)
    np.testing.assert_array_equal(first, gaussian_field((9, 10, 11), 0.02, B, 5))
    np.testing.assert_array_equal(first, gaussian_field((9, 10, 11), 0.02, B, np.random.default_rng(5)))
    assert (first != gaussian_field((9, 10, 11), 0.02, B, 6)).any()
    assert (gaussian_field((9,), 0.02, B) != gaussian_field((9,), 0.02, B)).any()
    generator = np.random.default_rng(5)
    gaussian_field((4,), 0.02, B, generator)
    assert (gaussian_field((9, 10, 11), 0.02, B, generator) != first).any()


@needs_torch
def test_torch_generator_gives_a_tensor():
    draws = [gaussian_field((9, 10), (0.02, 0.0), B, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert isinstance(draws[0], torch.Tensor)
    assert draws[0].shape == (2, 9, 10) and draws[0].dtype == torch.float32
    assert torch.equal(*draws)
    assert draws[0][0].std() > 0 and (draws[0][1] == 0).all()


def test_a_scales_and_zero_is_still():
    unit = gaussian_field((12, 13), 1.0, B, 1)
    np.testing.assert_allclose(gaussian_field((12, 13), (0.5, 0.0), B, 1)[0], unit[0] / 2, rtol=1e-6)
    assert (gaussian_field((12, 13), 0.0, B, 1) == 0).all()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (((), 0.1, 0.1), r"shape: expected one positive number of voxels per axis, got \(\)"),
        (((4, 0), 0.1, 0.1), r"shape: .* got \(4, 0\)"),
        (((4, 2.5), 0.1, 0.1), r"shape: .* got \(4, 2.5\)"),
        ((("x",), 0.1, 0.1), r"shape: "),
        (((4, 4), -0.1, 0.1), r"a: expected finite non-negative numbers, got -0.1"),
        (((4, 4), (0.1, 0.1, 0.1), 0.1), r"a: expected one number or one for each of the 2 axes, got 3"),
        (((4, 4), 0.1, 0), r"b: expected finite positive numbers, got 0.0"),
        (((4, 4), 0.1, np.nan), r"b: .* got nan"),
        (((4, 4), 0.1, 0.1, -1), r"rng: expected a numpy.random.Generator, .* got -1"),
        (((4, 4), 0.1, 0.1, "seed"), r"rng: .* got 'seed'"),
        (((4, 4), 0.1, 0.1, True), r"rng: .* got True"),
    ],
)
def test_bad_input(arguments, found):
    with pytest.raises(ValueError, match=found):
        gaussian_field(*arguments)


@pytest.mark.statement("def-gaussian-field")
def test_covariance_by_hand():
    assert covariance([0.3, 0.4], [0.3, 0.4], 2.0, 0.1) == 4.0
    assert covariance([0.0], [0.2], 1.0, 0.1) == pytest.approx(np.exp(-2))
    assert covariance([0.0, 0.0], [0.2, 0.3], 0.5, (0.2, 0.1)) == pytest.approx(0.25 * np.exp(-0.5 - 4.5))
    assert covariance(np.zeros((4, 1, 3)), np.ones((5, 3)), 0.0, 1.0).shape == (4, 5)
    with pytest.raises(ValueError, match="b: expected one number or one for each of the 2 axes, got 3"):
        covariance([0.0, 0.0], [0.0, 0.0], 1.0, (0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match=r"a: expected finite non-negative numbers, got -1.0"):
        covariance([0.0], [0.0], -1, 0.1)


@pytest.mark.statement("thm-white-noise")
def test_smoothing_kernel_by_hand():
    """The paper's constant: a (2 pi b^2)^(n/4) times a normal density of variance b^2 / 2."""
    a, b = 0.02, 0.1
    for n in (1, 2, 3):
        x = np.full(n, 0.07)
        density = norm.pdf(0.07, scale=b / np.sqrt(2)) ** n
        assert smoothing_kernel(x, a, b) == pytest.approx(a * (2 * np.pi * b**2) ** (n / 4) * density, rel=1e-13)
    with pytest.raises(ValueError, match=r"b: expected finite positive numbers, got 0.0"):
        smoothing_kernel([0.0], a, 0)
    with pytest.raises(ValueError, match="a: expected one number or one for each of the 1 axes, got 2"):
        smoothing_kernel([0.0, 0.0], (a, a), b)


@pytest.mark.statement("thm-white-noise")
@pytest.mark.parametrize("b", [(B,), (0.1, 0.3), (B, B, B), (0.2, 0.1, 0.15)])
def test_smoothing_kernel_times_itself_is_the_covariance(b):
    """Integrals of f(x - u) f(y - u) over all of space by the trapezoidal rule, which is exact to rounding here."""
    rng = np.random.default_rng(len(b))
    x, y = rng.random((2, len(b))) * 0.3
    steps = [np.arange(-24, 25) * bk / 3.5 for bk in b]
    u = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1)
    cell = np.prod([step[1] - step[0] for step in steps])
    integral = (smoothing_kernel(x - u, 0.7, b) * smoothing_kernel(y - u, 0.7, b)).sum() * cell
    assert integral == pytest.approx(covariance(x, y, 0.7, b), rel=1e-7)


@pytest.mark.statement("prop-border", "prop-padding")
def test_border_rms_by_hand():
    assert border_rms(0.0, 0.1) == pytest.approx(np.sqrt(1 / 2))
    assert border_rms([0.0, 1.0], 0.1, "reflect") == pytest.approx(np.sqrt(2))
    assert border_rms(0.05, 0.1) == pytest.approx(np.sqrt(norm.cdf(1)))
    assert border_rms(0.05, 0.1, "reflect") == pytest.approx(np.sqrt(1 + np.exp(-0.5)))
    assert border_rms(0.5, 0.1) == border_rms(0.5, 0.1, "reflect") == 1.0
    np.testing.assert_allclose(border_rms([[0.1, 0.2]], 0.2), border_rms([[0.9, 0.8]], 0.2), rtol=1e-14)
    assert border_rms([], 0.1).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (([0.2, 1.1], 0.1), r"w: expected places in \[0, 1\], found 1.1"),
        ((np.nan, 0.1), r"w: expected places in \[0, 1\], found nan"),
        ((0.5, 0.0), "b: expected finite positive numbers, got 0.0"),
        ((0.5, 0.1, "nearest"), "padding: expected 'zeros' or 'reflect', got 'nearest'"),
    ],
)
def test_border_rms_bad_input(arguments, found):
    with pytest.raises(ValueError, match=found):
        border_rms(*arguments)


@pytest.mark.statement("prop-border", "prop-padding")
@pytest.mark.parametrize("b", [0.03, B, 0.4, 1.5])
@pytest.mark.parametrize("w", [0.0, 0.02, 0.1, 0.45, 0.97])
def test_border_rms_is_the_integral_over_the_image(b, w):
    """Both formulas against numerical integrals of the squared kernel, with both faces and all reflections."""
    u = (np.arange(40_000) + 0.5) / 40_000
    kernel = smoothing_kernel(w - u[:, None], 1.0, b)
    assert border_rms(w, b) == pytest.approx(np.sqrt((kernel**2).mean()), rel=1e-6)
    images = [image for k in range(-12, 13) for image in (2 * k + u, 2 * k - u)]
    folded = sum(smoothing_kernel(w - image[:, None], 1.0, b) for image in images)
    assert border_rms(w, b, "reflect") == pytest.approx(np.sqrt((folded**2).mean()), rel=1e-6)


@pytest.mark.statement("prop-border", "prop-padding")
@pytest.mark.parametrize(("size", "b"), [(20, 0.1), (64, B), (64, 0.05), (256, B), (20, 0.5)])
def test_border_rms_against_scipys_filters(size, b):
    for padding, mode in (("zeros", "constant"), ("reflect", "reflect")):
        rms = np.sqrt((filter_matrix(size, b, mode) ** 2).sum(axis=1))
        np.testing.assert_allclose(rms, border_rms(centres(size), b, padding), rtol=6e-3)


@pytest.mark.statement("prop-border")
def test_covariance_of_a_field_filtered_with_zeros():
    """The kernel times the rms squared in the middle of the pair, and half of it for a pair at a face."""
    w = centres(200)
    made = filter_matrix(200, B, "constant")
    middle = (w[:, None] + w) / 2
    np.testing.assert_allclose(made @ made.T, matrix(200, B) * border_rms(middle, B) ** 2, rtol=0, atol=1e-3)


@pytest.mark.statement("prop-padding")
@pytest.mark.parametrize("b", [B, 0.3, 0.5])
def test_periodic_noise_adds_up_the_kernel_over_its_periods(b):
    made, w = filter_matrix(64, b, "wrap"), centres(64)
    wanted = sum(np.exp(-((w[:, None] - w + k) ** 2) / (2 * b**2)) for k in range(-9, 10))
    np.testing.assert_allclose(made @ made.T, wanted, atol=2e-3)
    assert (np.diag(made @ made.T) > 1.1).all() == (b == 0.5)  # sum of exp(-k^2 / 2 b^2): 1.27, but 1.008 at .3


@pytest.mark.statement("prop-padding")
def test_padding_with_the_nearest_voxel_grows_with_the_resolution():
    rms = []
    for size in (64, 256, 1024):
        w = centres(size)
        made = np.sqrt((filter_matrix(size, B, "nearest") ** 2).sum(axis=1))
        outside = norm.cdf(-np.sqrt(2) * w / B)
        assert (made**2 >= np.sqrt(2 * np.pi) * B * size * outside**2 * 0.99 - 1e-6).all()
        rms.append(made[0])
    assert rms[0] > 2 and rms[1] > 1.7 * rms[0] and rms[2] > 1.7 * rms[1]
