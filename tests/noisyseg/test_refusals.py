"""What a refused array is told: how many voxels, which range, and what to do."""

import numpy as np
import pytest
from kinds import KINDS, needs_torch, torch

import noisyseg as ns
from noisyseg._core.arrays import check_unit_block


def message(function, *arrays):
    with pytest.raises(ValueError) as caught:
        function(*arrays)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("values", "found", "advice"),
    [
        # a mean of five folds in float32
        (np.array([0.2, 1.0000001192092896, 0.5], np.float32), "found 1.0000001", "rounding: use np.clip(m, 0, 1)"),
        (np.array([0.2, -1e-9, 0.5]), "found -1e-09 (1 of 3 voxels are outside", "rounding: use np.clip(m, 0, 1)"),
        # a map that was resampled
        (np.array([-0.0028, 0.5, 1.01, 1.0]), "(2 of 4 voxels are outside", "Interpolation overshoots"),
        # logits
        (
            np.array([-1.94, 0.5, 2.3]),
            "found -1.94 (2 of 3 voxels are outside, all values are from -1.94 to 2.3)",
            "sigm",
        ),
        (np.array([-7.5, -0.001, -2.0]), "from -7.5 to -0.001", "log-probabilities, use np.exp; if logits, apply a"),
        # percent, classes, 8 bits, 16 bits
        (np.array([0.0, 37.5, 99.0]), "found 99.0 (2 of 3", "percentages, divide by 100"),
        (np.array([0, 3, 2], np.uint8), "found 3.0 (2 of 3", "if they are numbers of classes, choose one: m == k"),
        (np.array([0, 128, 255], np.uint8), "found 255.0 (2 of 3", "8-bit values: divide by 255"),
        (np.array([0, 128, 65000], np.int32), "found 65000.0", "16-bit values: divide by 65535"),
        (np.array([0, 1e6]), "found 1000000.0", "Scale them to probabilities"),
        # not finite
        (np.array([np.nan, 0.5, np.nan, 7.0]), "found nan in 2 of 4 voxels", "leave these voxels out where"),
        (np.array([-np.inf, 0.5, np.nan]), "found nan in 2 of 3 voxels (1 NaN, 1 infinite)", "division by zero"),
        (np.array([-np.inf, 0.5, 1.0]), "found -inf in 1 of 3 voxels", "overflow in float16"),
    ],
)
def test_values_outside_the_unit_interval(kind, values, found, advice):
    for function in (ns.dice_threshold, ns.optimal_dice, lambda m: ns.dice(np.asarray(m) > 2, np.asarray(m))):
        text = message(function, kind(values))
        assert text.startswith(f"m (shape ({len(values)},)): expected values in [0, 1], found ")
        assert found in text and advice in text


def test_the_whole_image_is_counted_whatever_its_size_and_layout(monkeypatch):
    monkeypatch.setattr("noisyseg._core.search.SMALL", 0)
    m = np.zeros((100, 90, 80), np.float32)
    m[::2] = -0.5
    m[1, 1, 1] = 3
    for x in (m, m.T, m.astype(np.float16), m.astype(">f4"), m.astype(np.float64)[:, ::-1]):
        text = message(ns.dice_threshold, x)
        assert "(360001 of 720000 voxels are outside, all values are from -0.5 to 3). These look like logits" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("values", "found", "advice"),
    [
        (np.array([0.0, 0.4, 1.0]), "found 0.4 (1 of 3 voxels are neither", "choose a threshold, as in s >= 0.5"),
        (np.array([0.0, 1.0000001]), "found 1.0000001", "That is rounding: use s > 0.5"),
        (np.array([0, 2, 1], np.uint8), "found 2.0 (1 of 3", "choose one: s == k; if 2 stands for 1, use s > 0"),
        (np.array([0, 255], np.uint8), "found 255.0 (1 of 2", "if 255 stands for 1, use s > 0"),
        (np.array([-1.94, 2.3]), "found -1.94 (2 of 2 voxels are neither, all values are from -1.94", "s > 0"),
        (np.array([0.0, np.nan]), "found nan in 1 of 2 voxels", "Mend the array"),
    ],
)
def test_masks_that_are_none(kind, values, found, advice):
    m = kind(np.full(len(values), 0.5))
    for function in (ns.accuracy, ns.dice, ns.jaccard, lambda s, m: ns.f_beta(s, m, 2)):
        text = message(function, kind(values), m)
        assert text.startswith(f"s (shape ({len(values)},)): expected a binary array of 0 and 1, found ")
        assert found in text and advice in text
    assert "choose" in message(ns.GaussianDeformation(0.1).sample, kind(np.array([0, 2])))


def test_masked_arrays_are_refused():
    m = np.ma.masked_array([0.5, 0.25, 7.0], [False, False, True])
    text = message(ns.dice_threshold, m)
    assert text.startswith("m: expected a plain array, got a numpy.ma.MaskedArray, whose mask would be lost")
    assert "where=~np.ma.getmaskarray(m)" in text
    assert ns.dice_threshold(m.data, where=~np.ma.getmaskarray(m)) == ns.dice_threshold(m.data[:2])
    for call in (
        lambda: ns.dice([1, 0, 1], m),
        lambda: ns.dice(m, [0.5, 0.5, 0.5]),
        lambda: ns.optimal_at_volume(m, 1 / 3),
        lambda: ns.expected_dice([1, 0, 0], np.ma.ones((2, 3))),
        lambda: ns.marginal(np.ma.ones((2, 3))),
        lambda: ns.GaussianDeformation(0.1).marginal(np.ma.ones(3)),
    ):
        with pytest.raises(ValueError, match=r"MaskedArray"):
            call()


def test_a_block_alone_is_counted_where_nothing_else_is_known():
    with pytest.raises(ValueError, match=r"c \(shape \(5, 2\)\): .* found 7.0 \(1 of 2 voxels"):
        check_unit_block("c", np.array([0.5, 7.0]), (5, 2))


@needs_torch
def test_values_on_another_device_are_counted_too(monkeypatch):
    monkeypatch.setattr("noisyseg._core.images.host_view", lambda x: x.detach())
    text = message(ns.dice_threshold, torch.tensor([0.5, -1.94, 2.3]))
    assert "(2 of 3 voxels are outside, all values are from -1.94 to 2.3). These look like logits: apply a sigm" in text
