"""Scores of one case under every thresholding rule, its ceiling, bootstrap intervals (book chapter *The experiment*).

The rules themselves are in ``reproduction.scoring.rules``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap

from noisyseg._core.arrays import check_array, check_unit_block
from noisyseg.metrics import dice
from noisyseg.noise import GaussianDeformation
from noisyseg.optimal import dice_threshold
from reproduction.scoring.rules import FURTHER, RANK_SOLVERS, THRESHOLDS, oracle_threshold, rank_mask
from reproduction.scoring.rules import METHODS as METHODS

DIFFERENCES = (("CE(*)", "CE(0)"), ("SD(0)", "CE(0)"), ("CE(*)", "SD(0)"))
FURTHER_DIFFERENCES = (
    ("CE(fold)", "CE(0)"),
    ("CE(*)", "CE(fold)"),
    ("SD(fold)", "SD(0)"),
    ("CE(fold)", "SD(fold)"),
    ("CE(rank)", "CE(*)"),
    ("CE(rank BA)", "CE(*)"),
    ("CE(oracle)", "CE(*)"),
)
SCORES = ("dice_noisy", "dice_clean", "dice_marginal")


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
    _check_map(probabilities, loss)
    rows = []
    for method, of_loss in METHODS.items():
        if of_loss == loss:
            threshold = THRESHOLDS[method](probabilities)
            rows.append(_row(method, threshold, _mask(probabilities, threshold), noisy, clean, marginal))
    return rows


def score_further(
    probabilities: NDArray, loss: str, threshold: float, noisy: NDArray, clean: NDArray, marginal: NDArray, rank: bool
) -> list[dict[str, Any]]:
    """Score the network's output on one case under the further rules of its loss, see ``reproduction.scoring.rules``.

    Parameters
    ----------
    probabilities, loss, noisy, clean, marginal
        As for :func:`score_case`.
    threshold
        The one that was chosen on the training folds (:func:`reproduction.scoring.rules.fold_threshold`).
    rank
        Whether to score ``rankseg`` too, which must then be installed.

    Returns
    -------
    list of dict
        Rows as those of :func:`score_case`. ``threshold`` of the methods of ``rankseg``, which have none, is the
        smallest value inside the mask (for an empty mask the float64 next above the largest value of the map).

    Raises
    ------
    ValueError
        As :func:`score_case`.

    Examples
    --------
    >>> c = np.array([[[0.9, 0.45, 0.1]]])
    >>> label = np.array([[[0, 1, 0]]])
    >>> rows = score_further(c, "ce", 0.2, label, label, label, rank=False)
    >>> [(row["method"], row["threshold"], row["volume"], round(row["dice_noisy"], 3)) for row in rows]
    [('CE(fold)', 0.2, 2, 0.667), ('CE(oracle)', 0.45, 2, 0.667)]
    """
    _check_map(probabilities, loss)
    rows = []
    for method, of_loss in FURTHER.items():
        if of_loss != loss or (method in RANK_SOLVERS and not rank):
            continue
        if method in RANK_SOLVERS:
            mask = rank_mask(probabilities, RANK_SOLVERS[method])
            lowest = probabilities[mask].min() if mask.any() else np.nextafter(np.float64(probabilities.max()), 2.0)
            rows.append(_row(method, float(lowest), mask, noisy, clean, marginal))
        else:
            u = oracle_threshold(probabilities, noisy) if method == "CE(oracle)" else threshold
            rows.append(_row(method, u, _mask(probabilities, u), noisy, clean, marginal))
    return rows


def _check_map(probabilities: NDArray, loss: str) -> None:
    if loss not in METHODS.values():
        raise ValueError(f"loss is {loss!r}; expected one of {', '.join(sorted(set(METHODS.values())))}")
    check_unit_block("probabilities", check_array("probabilities", probabilities), probabilities.shape)


def _mask(probabilities: NDArray, threshold: float) -> NDArray[np.bool_]:
    # A NumPy float64, not a Python float: the latter would be rounded to the map's float32 before comparing.
    return probabilities >= np.float64(threshold)


def _row(
    method: str, threshold: float, mask: NDArray, noisy: NDArray, clean: NDArray, marginal: NDArray
) -> dict[str, Any]:
    return {
        "method": method,
        "threshold": float(threshold),
        "volume": int(mask.sum()),
        "volume_noisy": int(noisy.sum()),
        "volume_clean": int(clean.sum()),
        "volume_marginal": float(marginal.sum(dtype=np.float64)),
        "dice_noisy": dice(mask, noisy),
        "dice_clean": dice(mask, clean),
        "dice_marginal": dice(mask, marginal),
    }


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
