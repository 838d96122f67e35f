"""The losses of the networks: cross-entropy and soft-Dice (paper, section 3.2; book chapter *The experiment*)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy of ``sigmoid(logits)``, mean over voxels and batch (Definition 1 with m = label).

    Book: ``prop-ce-balance``.

    Examples
    --------
    >>> round(float(cross_entropy_loss(torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2))), 4)
    0.6931
    """
    return functional.binary_cross_entropy_with_logits(logits, label)


def soft_dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Soft-Dice 1 - 2 sum(c l) / (sum c + sum l) with c = sigmoid(logits), image by image, mean over the batch.

    Definition 2 with m = label, without smoothing terms. Book: ``prop-ce-balance``.

    Examples
    --------
    >>> round(float(soft_dice_loss(torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2))), 4)
    0.3333
    """
    c = torch.sigmoid(logits).flatten(1)
    label = label.flatten(1)
    # The clamp only matters where every probability underflows to 0 and the label is empty.
    total = (c.sum(1) + label.sum(1)).clamp_min(torch.finfo(c.dtype).tiny)
    return (1 - 2 * (c * label).sum(1) / total).mean()


def both_losses(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy + soft-Dice, as nnU-Net trains (there without the background in soft-Dice, as here)."""
    return cross_entropy_loss(logits, label) + soft_dice_loss(logits, label)


LOSS_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": cross_entropy_loss,
    "sd": soft_dice_loss,
    "both": both_losses,
}


def dice_at_half(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice of {c >= 1/2} and label for every image of a batch; 1 where both are empty."""
    mask = (logits >= 0).flatten(1)
    label = labels.flatten(1) > 0.5
    total = mask.sum(1) + label.sum(1)
    both = (mask & label).sum(1)
    return torch.where(total > 0, 2 * both / total.clamp_min(1), 1.0)
