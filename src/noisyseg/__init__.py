"""Optimal segmentations and Gaussian label noise for medical images.

The package computes segmentations that are optimal for Accuracy and Dice under label noise, draws such noise, and
knows its exact marginals. NumPy arrays and torch tensors are both accepted; torch is not imported here.
"""

from .fields import gaussian_field
from .metrics import accuracy, cross_entropy, dice, soft_dice
from .noise import GaussianDeformation
from .optimal import dice_threshold, optimal_accuracy, optimal_dice
from .volume import accuracy_volume_bounds, dice_volume_bounds, optimal_at_volume

__version__ = "0.1.0"

__all__ = [
    "GaussianDeformation",
    "accuracy",
    "accuracy_volume_bounds",
    "cross_entropy",
    "dice",
    "dice_threshold",
    "dice_volume_bounds",
    "gaussian_field",
    "optimal_accuracy",
    "optimal_at_volume",
    "optimal_dice",
    "soft_dice",
]
