"""Optimal segmentations and Gaussian label noise for medical images.

The package computes segmentations that are optimal for Accuracy, Dice and their kin under label noise, draws such
noise, and knows its exact marginals. NumPy arrays and torch tensors are both accepted; torch is not imported here.
"""

from noisyseg.expected import dice_covariance, expected_dice, marginal
from noisyseg.fields import gaussian_field
from noisyseg.linear_fractional import (
    f_beta_threshold,
    jaccard_threshold,
    optimal_f_beta,
    optimal_jaccard,
    optimal_tversky,
    tversky_threshold,
)
from noisyseg.metrics import accuracy, cross_entropy, dice, f_beta, jaccard, soft_dice, tversky
from noisyseg.noise import GaussianDeformation
from noisyseg.optimal import dice_threshold, optimal_accuracy, optimal_dice, regret
from noisyseg.volume import accuracy_volume_bounds, dice_volume_bounds, optimal_at_volume

__version__ = "0.2.0"

__all__ = [
    "GaussianDeformation",
    "accuracy",
    "accuracy_volume_bounds",
    "cross_entropy",
    "dice",
    "dice_covariance",
    "dice_threshold",
    "dice_volume_bounds",
    "expected_dice",
    "f_beta",
    "f_beta_threshold",
    "gaussian_field",
    "jaccard",
    "jaccard_threshold",
    "marginal",
    "optimal_accuracy",
    "optimal_at_volume",
    "optimal_dice",
    "optimal_f_beta",
    "optimal_jaccard",
    "optimal_tversky",
    "regret",
    "soft_dice",
    "tversky",
    "tversky_threshold",
]
