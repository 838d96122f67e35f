"""Tests of reproduction.network.unet: the paper's architecture counted by hand, and what the forward pass must do."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from reproduction.network.unet import UNet

PAPER = (16, 32, 64, 128, 256)


def parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def by_hand(features: tuple[int, ...]) -> int:
    """Weights of the network that section 5.2 describes, layer by layer."""

    def block(c_in: int, c: int) -> int:
        convolutions = 27 * c_in * c + 27 * c * c  # no bias: the normalisation would subtract it
        norms = 2 * (c + c)  # two of them, scale and shift a channel
        return convolutions + norms

    total = block(1, features[0])
    for fine, coarse in pairwise(features):
        total += 8 * fine * coarse + coarse  # 2^3 convolution of stride 2, down
        total += block(coarse, coarse)
        total += 8 * coarse * fine + fine  # 2^3 transposed convolution, up
        total += block(2 * fine, fine)  # after concatenation with the skip connection
    return total + features[0] + 1  # 1^3 convolution


def test_parameters_of_the_papers_network():
    assert by_hand(PAPER) == 7_170_065
    assert parameters(UNet(PAPER)) == 7_170_065


@pytest.mark.parametrize("features", [(1, 1), (2, 4), (4, 8), (8, 16, 32), (8, 16, 32, 64), (5, 3, 7)])
def test_parameters_by_hand(features):
    assert parameters(UNet(features)) == by_hand(features)


def test_the_layers_are_the_papers():
    model = UNet(PAPER)
    kinds = [type(layer).__name__ for layer in model.modules()]
    assert kinds.count("Conv3d") == 2 * 9 + 4 + 1, "nine blocks of two, four down, the head"
    assert kinds.count("ConvTranspose3d") == 4
    assert kinds.count("InstanceNorm3d") == kinds.count("ReLU") == 2 * 9
    for layer in model.modules():
        if isinstance(layer, nn.ConvTranspose3d) or (isinstance(layer, nn.Conv3d) and layer.kernel_size == (2, 2, 2)):
            assert layer.kernel_size == layer.stride == (2, 2, 2) and layer.padding == (0, 0, 0)
        elif isinstance(layer, nn.Conv3d) and layer.kernel_size == (3, 3, 3):
            assert layer.stride == (1, 1, 1) and layer.padding == (1, 1, 1)


def test_resolution_at_every_level():
    """Blocks see 16, 8 and 4 voxels on the way down and 8 and 16 on the way up."""
    model = UNet((2, 3, 4))
    seen: list[tuple[int, ...]] = []
    for layer in (*model.encoders, *reversed(model.decoders)):
        layer.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    model(torch.randn(1, 1, 16, 16, 16))
    assert seen == [(1, c, n, n, n) for c, n in ((2, 16), (3, 8), (4, 4), (3, 8), (2, 16))]


@pytest.mark.parametrize("shape", [(1, 1, 8, 8, 8), (3, 1, 4, 8, 12), (2, 1, 8, 4, 4)])
def test_logits_have_the_shape_of_the_image(shape):
    torch.manual_seed(0)
    logits = UNet((2, 4, 6))(torch.randn(shape))
    assert logits.shape == shape and bool(logits.isfinite().all())
    assert bool((logits.flatten(1).std(dim=1) > 0).all())


def test_cases_of_a_batch_do_not_see_each_other():
    torch.manual_seed(0)
    model = UNet((2, 4))
    batch = torch.randn(3, 1, 4, 4, 4)
    together = model(batch)
    for k in range(3):
        torch.testing.assert_close(model(batch[k : k + 1]), together[k : k + 1], rtol=0, atol=1e-5)


def test_the_scale_of_the_image_does_not_matter():
    """Instance normalisation follows the first convolution, which has no bias."""
    torch.manual_seed(0)
    model = UNet((2, 4))
    image = 10 * torch.randn(1, 1, 4, 4, 4)  # so large that the normalisation's epsilon is none
    torch.testing.assert_close(model(1e3 * image), model(image), rtol=0, atol=1e-3)


@pytest.mark.parametrize("features", [(2, 4), (2, 4, 8)])
def test_every_weight_and_the_whole_image_matter(features):
    torch.manual_seed(0)
    model = UNet(features)
    image = torch.randn(1, 1, 8, 8, 8, requires_grad=True)
    (model(image) * torch.randn(1, 1, 8, 8, 8)).sum().backward()
    assert image.grad is not None and bool((image.grad != 0).all())
    for name, weight in model.named_parameters():
        assert weight.grad is not None and bool((weight.grad != 0).any()), name


def test_skip_connections_carry_detail_that_the_bottleneck_has_lost():
    torch.manual_seed(0)
    model = UNet((2, 4))
    for down in model.downs:
        nn.init.zeros_(down.get_parameter("weight"))  # nothing comes down any more
    one, two = torch.randn(1, 1, 8, 8, 8), torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert float((model(one) - model(two)).abs().max()) > 0.1


def test_the_same_seed_gives_the_same_bits():
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = UNet((2, 4, 8))
        results.append(model(torch.linspace(-1, 1, 512).reshape(1, 1, 8, 8, 8)))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_fast_layers_are_the_same_function_of_the_same_weights(batch, layout):
    torch.manual_seed(0)
    plain = UNet((2, 4, 6)).double()
    for weight in plain.parameters():  # scales, shifts and biases too: at first they are 1 and 0
        nn.init.normal_(weight, std=0.5)
    fast = UNet((2, 4, 6), fast=True).double()
    fast.load_state_dict(plain.state_dict())
    image, toward = torch.randn(2, batch, 1, 8, 12, 8, dtype=torch.float64)
    found = []
    for model in (plain, fast):
        x = image.clone().to(memory_format=layout).requires_grad_()
        logits = model.to(memory_format=layout)(x)
        (logits * toward).sum().backward()
        found.append([logits, x.grad, *(weight.grad for weight in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_fast_layers_make_no_copy_of_the_layout():
    x = torch.randn(1, 4, 4, 6, 8).to(memory_format=torch.channels_last_3d)
    fast = UNet((4, 8), fast=True)
    for layer, given in ((fast.encoders[0][1], x), (fast.ups[0], torch.cat([x, x], dim=1))):
        assert layer(given).is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("features", [(), (8,), (8, 0), (-1, 4), (0, 0)])
def test_networks_that_cannot_be(features):
    message = rf"features is \[{', '.join(map(str, features))}\]; expected at least two levels of at least one channel"
    with pytest.raises(ValueError, match=message):
        UNet(features)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 8, 8), r"image has shape \(1, 1, 8, 8\); expected \(batch, 1, x, y, z\) with axes that 4 divides"),
        ((1, 2, 8, 8, 8), r"image has shape \(1, 2, 8, 8, 8\); expected \(batch, 1, x, y, z\)"),
        ((8, 8, 8), r"image has shape \(8, 8, 8\); expected"),
        ((1, 1, 8, 6, 8), r"image has shape \(1, 1, 8, 6, 8\); expected .* that 4 divides"),
        ((1, 1, 8, 8, 2), r"image has shape \(1, 1, 8, 8, 2\); expected .* that 4 divides"),
        ((1, 1, 4, 4, 4), r"image has shape \(1, 1, 4, 4, 4\); expected an axis of at least 8 voxels"),
    ],
)
def test_images_that_do_not_fit(shape, message):
    with pytest.raises(ValueError, match=message):
        UNet((2, 4, 8))(torch.zeros(shape))
