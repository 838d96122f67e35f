"""Lean U-Net: published numbers of parameters, the same by hand, and what the forward pass must do."""

import itertools

import pytest
import torch
from torch import nn

from reproduction.config import Preset, RunConfig
from reproduction.network.lunet import DROPOUT, LUNet, layer_widths, make_network
from reproduction.network.unet import UNet


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def doubled(width: int, levels: int) -> list[int]:
    return [width << level for level in range(levels)]


def by_hand(widths: list[int], convolutions: int) -> int:
    """Weights, layer by layer: a convolution with bias, two numbers a channel for the normalisation."""

    def block(c_in: int, c: int) -> int:
        first, others = 27 * c_in * c + 3 * c, 27 * c * c + 3 * c
        return first + (convolutions - 1) * others

    total = block(1, widths[0])
    for fine, coarse in itertools.pairwise(widths):
        total += block(fine, coarse) + 8 * coarse * fine + fine + block(2 * fine, fine)
    return total + widths[0] + 1


@pytest.mark.parametrize(
    ("widths", "convolutions", "published"),
    [
        ([4] * 5, 2, 9_929),
        ([8] * 5, 2, 39_025),
        (doubled(4, 5), 2, 353_949),
        ([24] * 4, 3, 373_777),
        (doubled(24, 4), 3, 4_802_521),
    ],
)
def test_published_numbers_of_parameters(widths, convolutions, published):
    assert parameters(LUNet(widths, convolutions)) == published == by_hand(widths, convolutions)


@pytest.mark.parametrize(("widths", "convolutions"), [([1, 1], 1), ([3, 5, 2], 1), ([2, 4], 3), ([2, 2, 2, 2], 2)])
def test_parameters_by_hand(widths, convolutions):
    assert parameters(LUNet(widths, convolutions)) == by_hand(widths, convolutions)


def test_a_layer_is_convolution_relu_normalisation_dropout_and_the_last_has_no_dropout():
    network = LUNet([4, 8], 2)
    assert list(network.layers) == ["down0_0", "down0_1", "down1_0", "down1_1", "up0_0", "up0_1"]
    for name, layer in network.layers.items():
        kinds = [nn.Conv3d, nn.ReLU, nn.BatchNorm3d, nn.Identity if name == "up0_1" else nn.Dropout3d]
        assert [type(part) for part in layer] == kinds
    assert network.layers["down0_0"][3].p == DROPOUT == 0.005


@pytest.mark.parametrize("convolutions", [1, 2, 3])
@pytest.mark.parametrize("shape", [(8, 8, 8), (4, 16, 8)])
def test_an_image_becomes_logits_of_its_shape(convolutions, shape):
    network = LUNet([2, 3, 4], convolutions)
    assert network(torch.zeros(2, 1, *shape)).shape == (2, 1, *shape)


def test_every_weight_matters():
    network = LUNet([2, 3, 4], 2)
    network(torch.randn(2, 1, 8, 8, 8)).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None and (weight.grad != 0).any(), name


def test_two_halvings_see_far_and_a_case_does_not_see_another():
    torch.manual_seed(0)
    network = LUNet([4, 4, 4]).eval()
    image = torch.randn(2, 1, 32, 8, 8)
    other = image.clone()
    other[0, 0, 31] += 1
    one, two = network(image), network(other)
    assert (one[0, 0, 10] != two[0, 0, 10]).any(), "21 voxels away: only through the coarser levels"
    assert torch.equal(one[1], two[1])


def test_readers_are_all_that_read_a_layer():
    """Put NaN into one output channel: what becomes NaN first is what reads it."""
    network = LUNet([2, 3, 4, 5], 2)
    into = {f"layers.{name}.0.weight": layer[0].in_channels for name, layer in network.layers.items()}
    into |= {f"rises.{k}.weight": rise.in_channels for k, rise in enumerate(network.rises)}
    into["head.weight"] = network.head.in_channels
    read = {name: [False] * count for name, count in into.items()}
    for layer, count in network.channels.items():
        for name, axis, first in network.readers(layer):
            assert network.get_parameter(name).shape[axis] == into[name]
            read[name][first : first + count] = [True] * count
    unread = {name: [k for k, seen in enumerate(channels) if not seen] for name, channels in read.items()}
    # The image itself, and at the head of every block on the way up the channels that rise from below.
    expected = {"layers.down0_0.0.weight": [0]}
    expected |= {f"layers.up{level}_0.0.weight": list(range(network.widths[level])) for level in range(3)}
    assert {name: places for name, places in unread.items() if places} == expected


def test_a_pruned_shape():
    channels = layer_widths([4, 8], 2) | {"down1_0": 3, "up0_1": 1}
    network = LUNet([4, 8], 2, channels)
    assert network.channels == channels and network(torch.zeros(2, 1, 4, 4, 4)).shape == (2, 1, 4, 4, 4)
    assert parameters(network) < parameters(LUNet([4, 8], 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), r"widths is \[\]; expected at least two levels of at least one channel"),
        (([4],), r"widths is \[4\]; expected at least two levels"),
        (([4, 0],), r"widths is \[4, 0\]; expected at least two levels of at least one channel"),
        (([4, 4], 0), "convolutions is 0; expected at least 1 a block"),
        (([4, 4], 1, {"down0_0": 4}), "channels name the layers down0_0; expected down0_0, down1_0, up0_0"),
        (([4, 4], 1, {"down0_0": 4, "down1_0": 0, "up0_0": 4}), "layer down1_0 has 0 channels; expected 1 to 4"),
        (([4, 4], 1, {"down0_0": 5, "down1_0": 4, "up0_0": 4}), "layer down0_0 has 5 channels; expected 1 to 4"),
    ],
)
def test_networks_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        LUNet(*arguments)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (1, 1, 24, 32, 24),
            r"\(1, 1, 24, 32, 24\); expected .* axes that 16 divides: 5 levels halve the image 4 time",
        ),
        ((1, 2, 16, 16, 16), r"image has shape \(1, 2, 16, 16, 16\); expected \(batch, 1, x, y, z\)"),
        ((16, 16, 16), r"image has shape \(16, 16, 16\); expected"),
        ((1, 1, 16, 16, 16), r"\(1, 1, 16, 16, 16\); expected an axis of at least 32 voxels, or a larger batch"),
    ],
)
def test_images_that_do_not_fit(shape, message):
    with pytest.raises(ValueError, match=message):
        LUNet([2] * 5)(torch.zeros(shape))


def test_the_network_of_a_run():
    values = Preset.load("smoke").run(loss="sd").to_dict() | {"features": [2, 4, 8]}
    made = {model: make_network(RunConfig.from_dict(values | {"model": model})) for model in ("unet", "lunet3")}
    assert isinstance(made["unet"], UNet) and made["unet"].head.in_channels == 2
    assert isinstance(made["lunet3"], LUNet) and made["lunet3"].widths == (3, 3, 3)
    three = make_network(RunConfig.from_dict(values | {"model": "doubling", "convolutions": 3}))
    assert isinstance(three, LUNet) and three.widths == (2, 4, 8) and "up0_2" in three.channels
