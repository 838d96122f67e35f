"""Optimal segmentations and Gaussian label noise for medical images.

The package computes segmentations that are optimal for Accuracy, Dice and their kin under label noise, draws such
noise, and knows its exact marginals. What all functions share, at more length on the book's reference page:

- NumPy arrays and torch tensors of any real dtype and shape are accepted; what comes back is of the same kind and on
  the same device. torch is not imported here.
- A marginal `m`, like a network's probability map, has values in [0, 1]; a mask or label `s` is 0 and 1 (bool, int or
  float). Scores and thresholds are float64, masks boolean; a mask is ``>=`` its threshold.
- Without `axis` the whole array is one image. `axis` names the axes of one image, as NumPy has it: for a batch of
  volumes ``(N, X, Y, Z)`` it is ``axis=(1, 2, 3)``. Thresholds and scores are then arrays over the other axes.
- `where`, booleans that broadcast against the array, says which voxels count. Outside, masks are False, and values are
  not looked at.
- Two empty masks have Dice 1. An all-zero marginal has the empty mask. Volumes are fractions of the image.
- What cannot be right, such as NaN or a value outside [0, 1], is a `ValueError` that says what to do.
"""

from noisyseg.classes import optimal_labels
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
from noisyseg.raters import expected_dice_optimum
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
    "expected_dice_optimum",
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
    "optimal_labels",
    "optimal_tversky",
    "regret",
    "soft_dice",
    "tversky",
    "tversky_threshold",
]
