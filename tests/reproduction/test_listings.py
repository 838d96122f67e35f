import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ndtr

from noisyseg import GaussianDeformation, dice_threshold, gaussian_field, optimal_dice
from noisyseg.fields import border_rms
from reproduction.data.phantoms.scenes import ct_phantom
from reproduction.listings import B, listing_1, listing_2, listing_2_field, listing_2_warp, listing_3


class Impulse(np.random.Generator):
    """A generator whose every array of noise is one unit impulse: the field is then a column of its linear map."""

    def __init__(self, place):
        super().__init__(np.random.PCG64(0))
        self.place = place

    def standard_normal(self, size=None, *args, **kwargs):
        noise = np.zeros(size)
        noise[self.place] = 1.0
        return noise


def columns(shape, a, b):
    """The matrix of each component of the field, voxels times white noise, without Monte Carlo."""
    fields = [listing_2_field(shape, a, Impulse(place), b) for place in np.ndindex(*shape)]
    return np.stack([f.reshape(len(shape), -1) for f in fields], axis=-1)


def axis_rms(size, b):
    s = b * size / np.sqrt(2)
    rows = scipy.ndimage.gaussian_filter1d(np.eye(size), s, axis=0, mode="constant")
    return np.sqrt(2 * np.sqrt(np.pi) * s * (rows**2).sum(axis=1))


# Listing 1


def test_listing_1_by_hand():
    """Standard deviation of 1/2 voxel, cut off after 2 voxels: the weights are 1, e^-2, e^-8 over their sum."""
    weights = np.exp([0.0, -2.0, -8.0])
    weights /= weights[0] + 2 * weights[1] + 2 * weights[2]
    m = listing_1(np.array([0, 0, 1, 0, 0]), a=0.1)
    np.testing.assert_allclose(m, weights[[2, 1, 0, 1, 2]], rtol=1e-14)
    m = listing_1(np.array([1, 0, 0, 0, 0]), a=0.1)  # what passes the border is lost
    np.testing.assert_allclose(m, [*weights, 0, 0], rtol=1e-14)
    m = listing_1(np.array([0, 0, 1, 0, 0]), a=0.1, truncate=2.0)
    np.testing.assert_allclose(m[[1, 2]], np.array([math.exp(-2), 1]) / (1 + 2 * math.exp(-2)), rtol=1e-14)
    assert m[0] == m[4] == 0


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_listing_1_does_not_depend_on_the_dtype(dtype):
    label = np.zeros((20, 30), dtype=dtype)
    label[4:9, 10:25] = 1
    m = listing_1(label, a=(0.05, 0.02))
    expected = scipy.ndimage.gaussian_filter(label.astype(float), (1.0, 0.6), mode="constant")
    assert m.dtype == np.float64 and np.array_equal(m, expected)
    if dtype in (bool, np.uint8, np.int64):  # as printed, the type of the label is kept: nothing between 0 and 1
        printed = scipy.ndimage.gaussian_filter(label, (1.0, 0.6), mode="constant")
        assert printed.dtype == dtype and not ((printed > 0) & (printed < 1)).any()
        assert ((m > 0.1) & (m < 0.9)).sum() > 50


@pytest.mark.parametrize(("a", "low", "high"), [(0.01, 0.05, 0.065), (0.02, 0.015, 0.02), (0.03, 0.007, 0.01)])
def test_sampled_gaussian_is_off_by_as_much_as_the_book_says(a, low, high):
    label = ct_phantom("oesophagus", seed=0).label
    assert low < abs(listing_1(label, a) - GaussianDeformation(a).marginal(label)).max() < high


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_listing_1_at_zero_noise_and_on_any_label(label):
    assert np.array_equal(listing_1(label, 0), label)
    m = listing_1(label, 0.1)
    assert m.min() >= 0 and m.max() <= 1 + 1e-12 and m.sum() <= label.sum() * (1 + 1e-12)


# Listing 2: the field


@pytest.mark.parametrize(
    ("shape", "a", "b"),
    [((160,), (0.03,), 0.03), ((36, 48), (0.02, 0.05), 0.06), ((13, 15, 14), (0.02, 0.03, 0.1), 0.1)],
)
def test_field_has_the_covariance_of_equation_8_in_the_middle(shape, a, b):
    """By unit impulses, so without Monte Carlo; along every axis its own length, also where the sides differ."""
    middle = np.ravel_multi_index([n // 2 for n in shape], shape)
    near = np.indices(shape).reshape(len(shape), -1)
    distance = (near - near[:, [middle]]) / np.array(shape)[:, None]
    inside = (abs(distance) <= 0.1).all(axis=0)
    expected = np.exp(-(distance**2).sum(axis=0) / (2 * b**2))
    for component, (matrix, ak, size) in enumerate(zip(columns(shape, a, b), a, shape, strict=True)):
        covariance = matrix @ matrix[middle] / (ak * size) ** 2
        np.testing.assert_allclose(covariance[inside], expected[inside], rtol=0, atol=2e-3, err_msg=str(component))


def test_field_is_one_weight_per_component_on_a_shape_where_the_printed_one_broadcasts():
    """On (64, 64, 3) the printed vector acts on the slices: component 2 is moved (64/3)^(5/2) times too far in two."""
    size = np.array([64, 64, 3])
    weight = size * (size**2) ** (3 / 4)
    assert np.isclose(weight[0] / weight[2], (64 / 3) ** 2.5) and 2000 < weight[0] / weight[2] < 2200
    for shape in ((64, 64, 64), (64, 64)):
        with pytest.raises(ValueError, match="broadcast"):
            np.ones(len(shape)) * np.ones(shape)
    field = listing_2_field((12, 12, 3), (0.1, 0.1, 0.0), rng=0)
    assert field.shape == (3, 12, 12, 3) and field[0].any() and not field[2].any()


@pytest.mark.statement("prop-border")
@pytest.mark.parametrize(
    ("size", "b", "face", "corner"), [(64, B, 0.75, 0.42), (256, B, 0.72, 0.37), (64, 2 * B, 0.73, 0.39)]
)
def test_field_shrinks_at_the_border(size, b, face, corner):
    rms = axis_rms(size, b)
    assert round(float(rms[0]), 2) == face and round(float(rms[0] ** 3), 2) == corner
    if b == B:
        assert abs(rms[size // 2] - 1) < 1e-4
    centres = (np.arange(size) + 0.5) / size
    np.testing.assert_allclose(rms, border_rms(centres, b), rtol=0, atol=2e-3)  # the continuum's formula
    assert np.isclose(border_rms(0.0, b), np.sqrt(0.5), atol=1e-4)


def test_field_itself_shrinks_by_the_product_of_its_axes():
    shape, a, b = (20, 24), 0.1, 0.12
    for matrix, size in zip(columns(shape, a, b), shape, strict=True):
        rms = np.sqrt((matrix**2).sum(axis=1)).reshape(shape) / (a * size)
        np.testing.assert_allclose(rms, axis_rms(20, b)[:, None] * axis_rms(24, b), rtol=1e-12)


def test_theorem_1_fails_near_the_border_as_predicted():
    """A block in the corner, deformed exactly with the listing's field: smaller displacements, another marginal."""
    a, size, samples = 0.03, 32, 3000
    label = np.zeros((size, size))
    label[:20, :20] = 1
    sigma = a * size * axis_rms(size, B)[:, None] * axis_rms(size, B)
    predicted = np.ones_like(sigma)
    for i in np.indices(label.shape):
        predicted *= ndtr((19.5 - i) / sigma) - ndtr((-0.5 - i) / sigma)
    rng, mean = np.random.default_rng(0), np.zeros_like(label)
    for _ in range(samples):
        index = np.floor(np.indices(label.shape) + 0.5 + listing_2_field(label.shape, a, rng)).astype(int)
        inside = ((index >= 0) & (index < size)).all(axis=0)
        mean += label[tuple(index.clip(0, size - 1))] * inside / samples
    often = (predicted > 0.02) & (predicted < 0.98)
    error = np.sqrt(predicted * (1 - predicted) / samples)
    assert (abs(mean - predicted) < 5 * error)[often].all()
    exact = GaussianDeformation(a).marginal(label)
    assert mean[0, 0] - exact[0, 0] > 8 * error[0, 0]
    assert 0.1 < (predicted - exact)[0, 0] < 0.2 and abs(predicted - exact)[10:, 10:].max() < 1e-2


def test_field_seeds_and_generators():
    field = listing_2_field((8, 9), 0.02, rng=3)
    assert field.shape == (2, 8, 9) and field.dtype == np.float64
    assert np.array_equal(field, listing_2_field((8, 9), 0.02, np.random.default_rng(3)))
    assert np.allclose(2 * field, listing_2_field((8, 9), 0.04, rng=3))
    assert not np.array_equal(field, listing_2_field((8, 9), 0.02, rng=3, b=0.15 * math.sqrt(2)))
    assert np.isclose(B, 0.15 / math.sqrt(2))
    assert not listing_2_field((8,), 0, rng=0).any()


# Listing 2: the deformation


def test_warp_by_hand():
    label = np.array([0, 0, 1, 1, 0, 0, 0, 1])
    still = np.zeros((1, 8))
    assert np.array_equal(listing_2_warp(label, still), label)
    assert np.array_equal(listing_2_warp(label, still + 1), [0, 1, 1, 0, 0, 0, 1, 1])  # the last one is continued
    assert np.array_equal(listing_2_warp(label, still - 1), [0, 0, 0, 1, 1, 0, 0, 0])
    moved = np.arange(8) + 1 < 8
    assert np.array_equal(listing_2_warp(label, still + 1) * moved, [0, 1, 1, 0, 0, 0, 1, 0])  # equation 18: 0 outside


@pytest.mark.parametrize(
    ("pattern", "width"), [([1], 1.15), ([1, 1], 1.95), ([1, 1, 1], 3.01), ([1, 0, 1], 2.16), ([1, 1, 0, 1, 1], 3.75)]
)
def test_spline_changes_the_width_of_thin_things(pattern, width):
    line = np.zeros(41, dtype=np.uint8)
    line[18 : 18 + len(pattern)] = pattern
    places = (np.arange(1000) + 0.5) / 1000 - 0.5
    found = sum(listing_2_warp(line, np.full((1, 41), x)).sum() for x in places) / 1000
    assert abs(found - width) < 0.01


def test_warp_changes_what_the_book_says():
    """The same field: interpolation changes some per cent, the continuation only an organ at the border."""
    for organ, low, high in (("kidney", 0.02, 0.06), ("oesophagus", 0.04, 0.10)):
        label = ct_phantom(organ, seed=0).label
        field = 64.0 * gaussian_field(label.shape, 0.02, B, rng=1)
        index = np.floor(np.indices(label.shape) + 0.5 + field).astype(int)
        inside = ((index >= 0) & (index < 64)).all(axis=0)
        continued = label[tuple(index.clip(0, 63))]
        assert low < (listing_2_warp(label, field) != continued).sum() / label.sum() < high
        assert np.array_equal(continued * inside, GaussianDeformation(0.02, B).sample(label, rng=1))
        assert (continued * inside != continued).any() == (organ == "oesophagus")


def test_integer_labels_as_printed_round_and_boolean_ones_are_cut_off():
    """What SciPy does with the label's type, which the listing leaves open: our reading converts to float64."""
    label = np.array([0, 0, 1, 1, 1, 0, 0])
    place, still = np.arange(7)[None] + 0.25, np.full((1, 7), 0.25)
    for dtype, volume in ((np.uint8, 3), (np.int64, 3), (np.float32, 3), (bool, 2)):
        printed = np.round(scipy.ndimage.map_coordinates(label.astype(dtype), place, mode="nearest"))
        assert printed.sum() == volume
        assert listing_2_warp(label.astype(dtype), still).sum() == 3


def test_listing_2_is_the_field_and_the_warp():
    label = np.zeros((24, 20, 16), dtype=np.uint8)
    label[6:15, 5:15, 4:12] = 1
    noisy = listing_2(label, 0.03, rng=5)
    assert noisy.dtype == np.float64 and set(np.unique(noisy)) <= {0.0, 1.0}
    assert np.array_equal(noisy, listing_2_warp(label, listing_2_field(label.shape, 0.03, rng=5)))
    assert (noisy != label).any() and np.array_equal(listing_2(label, 0, rng=5), label)
    assert not listing_2(np.zeros((5, 5)), 0.1, rng=0).any()


# Listing 3


def test_listing_3_by_hand_and_by_all_masks():
    assert listing_3(np.array([1.0, 0.5, 0.5, 0.0])) == 0.4
    rng = np.random.default_rng(0)
    masks = np.array(list(itertools.product([0, 1], repeat=10)))[1:]
    for _ in range(20):
        m = rng.integers(0, 5, 10) / 4
        m[0] = 1.0
        best = (masks @ m / (masks.sum(axis=1) + m.sum())).max()
        assert abs(listing_3(m) - best) < 1e-15
        assert abs(listing_3(m.reshape(2, 5)) - dice_threshold(m)) < 1e-15


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1, width=32)))
def test_listing_3_in_float64_is_the_threshold_of_small_images(m):
    if m.sum() > 1e-6:
        assert abs(listing_3(m) - dice_threshold(m)) < 1e-13


def test_listing_3_of_nothing_is_everything():
    m = np.zeros((3, 4))
    assert listing_3(m) == 0 and (m >= listing_3(m)).all() and not optimal_dice(m).any()


def test_rounding_of_listing_3_grows_in_float32_only():
    """The map is constant, so t = p / (1 + p) is known; the sum of the listing is made in the type of the map."""
    errors = {}
    for size, dtype in itertools.product((32, 64, 128), (np.float32, np.float64)):
        m = np.full((size,) * 3, 0.1, dtype=dtype)
        p = float(m[0, 0, 0])
        assert abs(dice_threshold(m) - p / (1 + p)) < 1e-15
        errors[size, dtype] = abs(listing_3(m) - p / (1 + p))
    single = [errors[size, np.float32] for size in (32, 64, 128)]
    assert 1e-5 < single[0] < 1e-4 < single[1] < 1e-3 < single[2] < 3e-3
    assert 1e-13 < errors[128, np.float64] < 1e-11


def test_rounding_of_listing_3_may_empty_the_mask():
    """256^3 voxels of 0.1 in float32: the best mask is the whole image, the listing's threshold is above all of it."""
    m = np.full(256**3, np.float32(0.1))
    t = listing_3(m)
    assert 0.01 < t - dice_threshold(m) < 0.02
    assert not (m >= t).any() and optimal_dice(m).all()


def test_listing_3_overflows_in_float16():
    m = np.full(70_000, 0.999, dtype=np.float16)
    with np.errstate(over="ignore", invalid="ignore"):
        assert not abs(listing_3(m) - dice_threshold(m)) < 0.1
    assert abs(dice_threshold(m) - 0.5) < 1e-3
