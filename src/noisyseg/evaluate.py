"""Thresholding rules, scores of one case, bootstrap intervals (paper, section 5; book chapter *The experiment*)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap

from noisyseg._checks import check_array, check_unit_block
from noisyseg.metrics import dice
from noisyseg.noise import GaussianDeformation
from noisyseg.optimal import dice_threshold

METHODS = {"CE(0)": "ce", "SD(0)": "sd", "CE(*)": "ce"}
DIFFERENCES = (("CE(*)", "CE(0)"), ("SD(0)", "CE(0)"), ("CE(*)", "SD(0)"))
SCORES = ("dice_noisy", "dice_clean", "dice_marginal")
THRESHOLDS: dict[str, Callable[[NDArray], float]] = {
    "CE(0)": lambda c: 0.5,
    "SD(0)": lambda c: 0.5,
    "CE(*)": dice_threshold,
}


def score_case(
    probabilities: NDArray, loss: str, noisy: NDArray, clean: NDArray, marginal: NDArray
) -> list[dict[str, Any]]:
    """Score the network's output on one case under every rule that belongs to its loss.

    Parameters
    ----------
    probabilities : array (x, y, z)
        The soft segmentation c in [0, 1].
    loss
        ``ce`` (rules CE(0): c >= 1/2 and CE(*): c >= sup_s D_c(s)/2) or ``sd`` (rule SD(0): c >= 1/2).
    noisy, clean : arrays (x, y, z) of 0 and 1
        The case's noisy label, and the label before the noise.
    marginal : array (x, y, z)
        Exact marginal m of the noise model for ``clean``.

    Returns
    -------
    list of dict
        ``method``, ``threshold``, volumes in voxels (``volume`` of the mask, ``volume_noisy``, ``volume_clean``,
        ``volume_marginal`` = sum of m), and the mask's Dice: ``dice_noisy`` and ``dice_clean`` against the two labels,
        ``dice_marginal`` = D_m (Definition 4). Empty masks have Dice 1 with an empty label and 0 with any other.

    Raises
    ------
    ValueError
        If the loss is unknown, ``probabilities`` holds NaN or a value outside [0, 1], or shapes differ.

    Examples
    --------
    >>> c = np.array([[[0.9, 0.45, 0.1]]])
    >>> label = np.array([[[1, 1, 0]]])
    >>> [(row["method"], row["volume"], row["dice_noisy"]) for row in score_case(c, "ce", label, label, label)]
    [('CE(0)', 1, 0.6666666666666666), ('CE(*)', 2, 1.0)]
    """
    if loss not in METHODS.values():
        raise ValueError(f"loss is {loss!r}; expected one of {', '.join(sorted(set(METHODS.values())))}")
    check_unit_block("probabilities", check_array("probabilities", probabilities), probabilities.shape)
    volumes = {
        "volume_noisy": int(noisy.sum()),
        "volume_clean": int(clean.sum()),
        "volume_marginal": float(marginal.sum(dtype=np.float64)),
    }
    rows = []
    for method, of_loss in METHODS.items():
        if of_loss != loss:
            continue
        # A NumPy float64, not a Python float: the latter would be rounded to the map's float32 before comparing.
        threshold = np.float64(THRESHOLDS[method](probabilities))
        mask = probabilities >= threshold
        scores = {
            "dice_noisy": dice(mask, noisy),
            "dice_clean": dice(mask, clean),
            "dice_marginal": dice(mask, marginal),
        }
        rows.append({"method": method, "threshold": float(threshold), "volume": int(mask.sum()), **volumes, **scores})
    return rows


def ceiling(label: NDArray, noise: GaussianDeformation, seed: int, samples: int) -> dict[str, float]:
    """How high Dice can be on average for one case, when the noise is independent of the image.

    ``ceiling`` is sup_s D_m(s) = 2 t, in closed form (Theorem 1). ``ceiling_mc`` is the mean of D_L(s) over ``samples``
    noisy labels L for the s that attains it (NaN without samples): the two differ by the covariance term of the
    identity E[D_L(s)] = D_m(s) - Cov(D_L(s), |L|) / (|s| + v) and by sampling error. Book: ``prop-ceiling`` in the
    chapter "Optimal segmentations under noise".

    Examples
    --------
    >>> ceiling(np.ones((4, 4, 4), np.uint8), GaussianDeformation(0.0), seed=1, samples=2)
    {'ceiling': 1.0, 'ceiling_mc': 1.0}
    """
    marginal = noise.marginal(label)
    threshold = dice_threshold(marginal)
    mask = marginal >= threshold
    # a = 0 has one label only, the clean one.
    draws = noise.sample(label, rng=seed, size=samples) if np.any(noise.a) else np.asarray(label)[None]
    mean = float(np.mean([dice(mask, draw) for draw in draws])) if len(draws) else math.nan
    return {"ceiling": 2 * threshold, "ceiling_mc": mean}


def bootstrap_interval(values: ArrayLike, seed: int = 0, resamples: int = 10_000) -> tuple[float, float, float]:
    """Mean, and its 95 % bootstrap interval (bias-corrected and accelerated) over cases.

    Parameters
    ----------
    values : array (cases,)
        One number a case.
    seed, resamples
        Of the bootstrap; the same seed gives the same interval.

    Returns
    -------
    mean, low, high
        Where all values are equal (up to rounding), or there is one only, the interval is the value itself.

    Raises
    ------
    ValueError
        If there is no value, or one is not finite.

    Notes
    -----
    Efron 1987, Better bootstrap confidence intervals; :func:`scipy.stats.bootstrap`.

    Examples
    --------
    >>> mean, low, high = bootstrap_interval([0.1, 0.2, 0.3, 0.4])
    >>> low < mean < high
    True
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values have shape {values.shape}; expected one axis of at least one finite number")
    mean = float(values.mean())
    # Of a spread that is rounding only, the skewness that the correction needs would be 0/0.
    if np.ptp(values) <= 1e-12 * np.abs(values).max() + 1e-100:
        return mean, mean, mean
    result = bootstrap(
        (values,), np.mean, n_resamples=resamples, method="BCa", batch=500, rng=np.random.default_rng(seed)
    )
    low, high = result.confidence_interval
    return mean, float(low), float(high)
