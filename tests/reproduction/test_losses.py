"""Losses by hand, against the package's metrics, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch

import noisyseg
from reproduction.network.losses import LOSS_FUNCTIONS, cross_entropy_loss, soft_dice_loss


def logits_of(*probabilities: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.logit(torch.tensor(probabilities, dtype=dtype)).reshape(1, 1, 1, 1, -1)


def test_losses_of_two_voxels_by_hand():
    label = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 1, 2)
    logits = logits_of(0.8, 0.4)
    # cross-entropy: -(log .8 + log .6) / 2; soft-Dice: 1 - 2 * .8 / (1.2 + 1)
    assert float(cross_entropy_loss(logits, label)) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2, abs=1e-14)
    assert float(soft_dice_loss(logits, label)) == pytest.approx(1 - 1.6 / 2.2, abs=1e-14)


def test_soft_dice_is_taken_image_by_image():
    logits = torch.cat([logits_of(0.5, 0.5), logits_of(0.9, 0.1)])
    labels = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64).reshape(2, 1, 1, 1, 2)
    assert float(soft_dice_loss(logits, labels)) == pytest.approx((1 / 3 + 0.1) / 2, abs=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_losses_agree_with_the_metrics_of_the_package(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(1, 1, 4, 5, 6, generator=generator, dtype=torch.float64)
    label = (torch.rand(1, 1, 4, 5, 6, generator=generator) > 0.7).double()
    c = torch.sigmoid(logits)
    assert float(soft_dice_loss(logits, label)) == pytest.approx(float(noisyseg.soft_dice(c, label)), abs=1e-12)
    assert float(cross_entropy_loss(logits, label)) == pytest.approx(float(noisyseg.cross_entropy(c, label)), abs=1e-12)


def test_the_sum_of_both_losses():
    label = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 1, 2)
    expected = -(math.log(0.8) + math.log(0.6)) / 2 + 1 - 1.6 / 2.2
    assert float(LOSS_FUNCTIONS["both"](logits_of(0.8, 0.4), label)) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("loss", [soft_dice_loss, cross_entropy_loss])
def test_gradients_are_those_of_finite_differences(loss):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1, 2, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = (torch.rand(2, 1, 2, 3, 2, generator=generator) > 0.5).double()
    assert torch.autograd.gradcheck(loss, (logits, labels))


def test_soft_dice_of_an_empty_label_is_finite():
    logits = torch.full((1, 1, 2, 2, 2), -200.0, requires_grad=True)  # sigmoid underflows to 0 in float32
    loss = soft_dice_loss(logits, torch.zeros(1, 1, 2, 2, 2))
    loss.backward()
    assert math.isfinite(float(loss.detach())) and logits.grad is not None and bool(torch.isfinite(logits.grad).all())
