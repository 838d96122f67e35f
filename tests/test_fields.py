import itertools

import numpy as np
import pytest
import torch

from noisyseg import gaussian_field
from noisyseg.fields import contract, kronecker_factor

B = 0.15 / np.sqrt(2)


def covariance(size, b):
    w = (np.arange(size) + 0.5) / size
    return np.exp(-((w[:, None] - w) ** 2) / (2 * b**2))


@pytest.mark.parametrize("size", [1, 2, 5, 24, 64, 127, 256])
@pytest.mark.parametrize("b", [1e-3, 0.02, B, 0.3, 5.0])
def test_factor(size, b):
    factor = kronecker_factor(size, b)
    np.testing.assert_allclose(factor @ factor.T, covariance(size, b), rtol=0, atol=2e-6)
    np.testing.assert_allclose((factor**2).sum(axis=1), 1, rtol=0, atol=1e-14)
    assert not factor.flags.writeable
    assert kronecker_factor(size, b) is factor


def test_factor_at_the_papers_b_is_thin_at_any_resolution():
    assert [kronecker_factor(size, B).shape[1] for size in (64, 256, 1024)] == [19, 20, 20]


@pytest.mark.parametrize(
    ("shape", "b"),
    [((40,), (B,)), ((16, 16), (B, B)), ((14, 9), (0.1, 0.3)), ((8, 7, 9), (B, 0.2, 0.05)), ((4, 3, 5, 4), (B,) * 4)],
)
def test_covariance_is_exact_everywhere(shape, b):
    """L L^T against K of equation 8 for every pair of voxels, borders and corners included, without Monte Carlo."""
    factors = [kronecker_factor(n, bk).astype(np.float32) for n, bk in zip(shape, b, strict=True)]
    ranks = [f.shape[1] for f in factors]
    # One field for every unit vector z, through the code that draws fields: the columns of L.
    units = np.eye(int(np.prod(ranks)), dtype=np.float32).reshape(-1, *ranks)
    columns = (contract(units, factors) @ factors[-1].T).reshape(len(units), -1).astype(np.float64)
    centres = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij"), axis=-1).reshape(
        -1, len(shape)
    )
    difference = (centres[:, None] - centres[None]) / np.array(b)
    expected = np.exp(-(difference**2).sum(axis=-1) / 2)
    np.testing.assert_allclose(columns.T @ columns, expected, rtol=0, atol=1e-5)


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
