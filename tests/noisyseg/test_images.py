"""`axis` and `where`: every function, applied to many images, or to the voxels that count."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KINDS, both, needs_torch, torch

import noisyseg as ns
from noisyseg import optimal, volume
from noisyseg._core import images
from noisyseg.linear_fractional import linear_fractional_optimum

#: Functions of a marginal that give a number (or a tuple of numbers) an image.
THRESHOLDS = {
    "dice_threshold": ns.dice_threshold,
    "jaccard_threshold": ns.jaccard_threshold,
    "f_beta_threshold": lambda m, **o: ns.f_beta_threshold(m, 2, **o),
    "precision": lambda m, **o: ns.f_beta_threshold(m, 0, **o),
    "tversky_threshold": lambda m, **o: ns.tversky_threshold(m, 0.3, 0.7, **o),
    "recall": lambda m, **o: ns.tversky_threshold(m, 0, 1, **o),
    "threshold_window": optimal.threshold_window,
    "linear_fractional_optimum": lambda m, **o: linear_fractional_optimum(m, (2, 0, 0, 0), (2, 1, 1, 0), **o),
    "optimal_volumes": lambda m, **o: (lambda v: (v.expected, *v.accuracy, *v.dice))(volume.optimal_volumes(m, **o)),
}
#: Functions of a marginal that give a mask.
MASKS = {
    "optimal_accuracy": ns.optimal_accuracy,
    "optimal_dice": ns.optimal_dice,
    "optimal_jaccard": ns.optimal_jaccard,
    "optimal_f_beta": lambda m, **o: ns.optimal_f_beta(m, 2, **o),
    "optimal_tversky": lambda m, **o: ns.optimal_tversky(m, 0.3, 0.7, **o),
    "all that is possible": lambda m, **o: ns.optimal_tversky(m, 0, 1, **o),
    "nothing at volume 0": lambda m, **o: ns.optimal_at_volume(m, 0.0, **o),
}
#: Functions of a mask and a marginal.
SCORES = {
    "accuracy": ns.accuracy,
    "dice": ns.dice,
    "jaccard": ns.jaccard,
    "f_beta": lambda s, m, **o: ns.f_beta(s, m, 2, **o),
    "tversky": lambda s, m, **o: ns.tversky(s, m, 0.3, 0.7, **o),
    "soft_dice": ns.soft_dice,
    "cross_entropy": ns.cross_entropy,
    "regret": ns.regret,
    "plug_in_bound": optimal.plug_in_bound,
    "expected_dice": lambda s, m, **o: ns.expected_dice(s, stack(m), **o),
    "dice_covariance": lambda s, m, **o: ns.dice_covariance(s, stack(m), **o),
}


def stack(m):
    """Make two labels of a marginal; what is not finite in it is not binary in them."""
    with np.errstate(invalid="ignore"):
        labels = [(m > u) * 1.0 + (m - m) for u in (0.3, 0.6)]
    return np.stack(labels) if isinstance(m, np.ndarray) else torch.stack(labels)


FUNCTIONS = (
    [(name, f, 1) for name, f in THRESHOLDS.items()]
    + [(name, f, 1) for name, f in MASKS.items()]
    + [(name, f, 2) for name, f in SCORES.items()]
)
ids = [name for name, _, _ in FUNCTIONS]


def inputs(shape, seed, count, dtype=np.float64):
    """Give a marginal, or a mask and a marginal."""
    rng = np.random.default_rng(seed)
    m = (rng.random(shape) ** rng.integers(1, 6)).astype(dtype)
    return [m] if count == 1 else [rng.random(shape) < 0.4, m]


def same(found, expected):
    for x, y in zip(*(z if isinstance(z, tuple) else (z,) for z in (found, expected)), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-14, atol=1e-15)


def test_two_maps_are_two_images():
    """As one image they have one threshold, and the fainter loses its mask."""
    m = np.array([[1.0, 0.9, 0.0, 0.0], [0.35, 0.2, 0.0, 0.0]])
    assert ns.dice_threshold(m) == pytest.approx(1.9 / 4.45)
    t = ns.dice_threshold(m, axis=1)
    assert t.tolist() == [ns.dice_threshold(m[0]), ns.dice_threshold(m[1])] and t.dtype == np.float64
    assert not ns.optimal_dice(m)[1].any()
    assert ns.optimal_dice(m, axis=1).tolist() == [[True, True, False, False], [True, False, False, False]]
    masks = ns.optimal_dice(m, axis=-1)
    assert ns.dice(masks, m, axis=1) == pytest.approx(2 * t)
    assert type(ns.dice_threshold(m, axis=(0, 1))) is float


@pytest.mark.parametrize(("name", "function", "count"), FUNCTIONS, ids=ids)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [1, -1, (0,), (2, 1), (0, -1), (-1, -2, -3), (0, 1, 2)])
def test_axis_is_a_loop_over_the_images(name, function, count, kind, axis):
    arrays = inputs((3, 4, 5), 1, count, np.float32)
    given_, axes = [kind(x) for x in arrays], sorted(k % 3 for k in np.atleast_1d(axis))
    found = function(*given_, axis=axis)
    others = [k for k in range(3) if k not in axes]
    for index in itertools.product(*(range((3, 4, 5)[k]) for k in others)):
        at: list = [slice(None)] * 3
        for k, i in zip(others, index, strict=True):
            at[k] = i
        expected = function(*(x[tuple(at)] for x in arrays))
        if name in MASKS:
            assert type(found) is type(given_[0]) and tuple(found.shape) == (3, 4, 5)
            np.testing.assert_array_equal(np.asarray(found[tuple(at)]), expected)
        else:
            parts = found if isinstance(found, tuple) else (found,)
            if others:
                assert all(type(x) is type(given_[0]) and str(x.dtype).endswith("float64") for x in parts)
            else:
                assert all(type(x) is float for x in parts)
            same(tuple(np.asarray(x)[index] for x in parts), expected)


@pytest.mark.parametrize(("name", "function", "count"), FUNCTIONS, ids=ids)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.1, 0.5, 0.9, 1.0]), dtype=st.sampled_from("efd"))
@settings(max_examples=15)
def test_where_is_the_function_of_the_voxels_that_count(name, function, count, seed, share, dtype):
    """Whatever stands elsewhere: it is not even looked at."""
    arrays = inputs((4, 3, 5), seed, count, dtype)
    where = np.random.default_rng(seed).random((4, 3, 5)) < share
    where[1, 2, 3] = True
    expected = function(*(x[where] for x in arrays))
    for x in arrays:
        if x.dtype.kind == "f":
            x[~where] = np.random.default_rng(seed).choice([np.nan, np.inf, -1.94, 255])
    for kind in both(np.zeros(1)):
        as_given = arrays if isinstance(kind, np.ndarray) else [torch.from_numpy(x) for x in arrays]
        found = function(*as_given, where=where)
        if name in MASKS:
            np.testing.assert_array_equal(np.asarray(found)[where], np.asarray(expected))
            assert not np.asarray(found)[~where].any()
        else:
            same(found, expected)


@pytest.mark.parametrize(("name", "function", "count"), FUNCTIONS, ids=ids)
@pytest.mark.parametrize("shape", [(2, 4, 5), (4, 5), (2, 1, 5), (1, 4, 5)])
def test_axis_and_where_together(name, function, count, shape):
    arrays = inputs((2, 4, 5), 7, count, np.float32)
    where = np.random.default_rng(3).random(shape) < 0.5
    where[..., 0] = True
    everywhere = np.broadcast_to(where, (2, 4, 5))
    arrays[-1][~everywhere] = np.nan
    for layout in (lambda x: x, np.asfortranarray, lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0)):
        given_ = [layout(x) for x in arrays]
        found = function(*given_, axis=(1, 2), where=where)
        for k in range(2):
            expected = function(*(x[k][everywhere[k]] for x in arrays))
            if name in MASKS:
                np.testing.assert_array_equal(found[k][everywhere[k]], expected)
                assert not found[k][~everywhere[k]].any()
            else:
                same(tuple(x[k] for x in found) if isinstance(found, tuple) else found[k], expected)


@pytest.mark.parametrize("together", [1, 3, 16])
@pytest.mark.parametrize("small", [0, 1 << 20])
def test_the_last_axis_may_be_that_of_the_classes(together, small, monkeypatch):
    monkeypatch.setattr(images, "TOGETHER", together)
    monkeypatch.setattr(images, "SMALL", small)
    m = np.random.default_rng(0).random((2, 6, 7, 5)).astype(np.float32) ** 4
    t = ns.dice_threshold(m, axis=(1, 2))
    expected = [[ns.dice_threshold(m[b, ..., k]) for k in range(5)] for b in range(2)]
    np.testing.assert_allclose(t, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(ns.optimal_dice(m, axis=(1, 2)), m >= t[:, None, None, :])


def test_chosen_by_place_or_by_mask(monkeypatch):
    m, where = inputs((4, 5), 2, 1)[0], np.random.default_rng(5).random((4, 5)) < 0.5
    expected = ns.dice_threshold(m, where=where)
    monkeypatch.setattr(images, "INDEXED", 0)
    assert ns.dice_threshold(m, where=where) == expected == ns.dice_threshold(m[where])
    with pytest.raises(ValueError, match="where: expected at least one voxel"):
        ns.dice_threshold(m, where=np.zeros((4, 5), bool))


def test_volumes_of_many_images():
    m = np.array([[0.2, 0.7, 0.7, 0.9], [0.1, 0.2, 0.3, 0.4]])
    assert ns.optimal_at_volume(m, 0.5, axis=1).tolist() == [[False, True, False, True], [False, False, True, True]]
    for volumes in both(np.array([0.25, 1.0])):
        mask = ns.optimal_at_volume(m, volumes, axis=1)
        assert mask.tolist() == [[False, False, False, True], [True] * 4]
    where = np.array([True, True, True, False])
    mask = ns.optimal_at_volume(m, 1 / 3, axis=1, where=where)  # of the three that count
    assert mask.tolist() == [[False, True, False, False], [False, False, True, False]]
    with pytest.raises(ValueError, match=r"volume: expected a number in .*, or one for each of \(2,\) images"):
        ns.optimal_at_volume(m, [0.25, 0.5, 1], axis=1)


@pytest.mark.parametrize(
    ("axis", "found"),
    [
        (2, r"axis: expected axes from -2 to 1 for an array of 2 axes, got 2"),
        ((0, -3), r"axis: expected axes from -2 to 1 for an array of 2 axes, got \(0, -3\)"),
        ((0, 0), r"axis: expected different axes, got \(0, 0\)"),
        ((1, -1), r"axis: expected different axes, got \(1, -1\)"),
        ((), r"axis: expected at least one axis of one image"),
        (True, r"axis: expected at least one axis of one image, as ints, got True"),
        (0.5, r"axis: expected an int or a tuple of ints, the axes of one image, got 0.5"),
        ("x", r"axis: expected an int or a tuple of ints, the axes of one image, got 'x'"),
    ],
)
def test_bad_axes(axis, found):
    for name, function, count in FUNCTIONS:
        with pytest.raises(ValueError, match=found):
            function(*inputs((2, 3), 0, count), axis=axis)
            pytest.fail(name)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (np.zeros((2, 3), bool), r"where: expected at least one voxel that counts in every image, found none of 6"),
        (np.ones((2, 3)), r"where: expected booleans, True for the voxels that count, got dtype float64"),
        (np.ones((3, 2), bool), r"where: expected a shape that broadcasts to \(2, 3\), got \(3, 2\)"),
        (np.ones((4, 2, 3), bool), r"where: expected a shape that broadcasts to \(2, 3\), got \(4, 2, 3\)"),
        (np.ma.masked_array(np.ones(3, bool), [0, 1, 0]), r"where: expected a plain array, got a numpy.ma.MaskedArray"),
    ],
)
def test_bad_where(where, found):
    for name, function, count in FUNCTIONS:
        with pytest.raises(ValueError, match=found):
            function(*inputs((2, 3), 0, count), where=where)
            pytest.fail(name)


def test_the_image_is_named():
    m = np.full((2, 3, 4), 0.5)
    m[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"m \(shape \(4,\)\): .* found nan .* \[image \(1, 2\) of \(2, 3\)\]"):
        ns.dice_threshold(m, axis=-1)
    with pytest.raises(ValueError, match=r"volume: .* whole number .* \[image \(0,\) of \(2,\)\]"):
        ns.optimal_at_volume(np.zeros((2, 3)), 0.5, axis=1)
    where = np.ones((2, 3, 4), bool)
    where[1, 2] = False
    with pytest.raises(ValueError, match=r"every image, found none in image \(1, 2\) of \(2, 3\)"):
        ns.dice_threshold(m, axis=-1, where=where)


@needs_torch
def test_tensors_and_their_where():
    m = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    where = torch.rand(4, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    t = ns.dice_threshold(m, axis=(1, 2), where=where)
    assert t.dtype == torch.float64 and t.shape == (3,)
    expected = [ns.dice_threshold(x[where]) for x in m]
    assert t.tolist() == expected
    assert torch.equal(ns.optimal_dice(m, axis=(1, 2), where=where), (m.double() >= t[:, None, None]) & where)
    as_arrays = ns.dice_threshold(m.detach().numpy(), axis=(1, 2), where=where)
    assert as_arrays.tolist() == expected
    half = m.detach().bfloat16()
    assert torch.equal(ns.optimal_dice(half, axis=0), half.double() >= ns.dice_threshold(half, axis=0))


@needs_torch
@pytest.mark.parametrize(("name", "function", "count"), FUNCTIONS, ids=ids)
def test_the_path_of_other_devices(name, function, count, monkeypatch):
    """The code for accelerators, run on tensors in main memory."""
    arrays = inputs((3, 4, 5), 4, count)
    where = np.random.default_rng(3).random((4, 5)) < 0.5
    expected = function(*arrays, axis=(1, 2), where=where)
    arrays[-1][:, ~where] = np.nan
    monkeypatch.setattr("noisyseg._core.images.host_view", lambda x: x.detach())
    found = function(*(torch.from_numpy(x) for x in arrays), axis=(1, 2), where=where)
    same(found, expected)
