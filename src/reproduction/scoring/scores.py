"""Scores of one case under every thresholding rule, and its ceiling (book chapter *The experiment*).

The rules themselves are in ``reproduction.scoring.rules``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisyseg._core.arrays import check_array, check_unit_block
from noisyseg.metrics import dice
from noisyseg.noise import GaussianDeformation
from noisyseg.optimal import dice_threshold
from reproduction.scoring.rules import METHODS, MIXED_RULES, OTHER_RULES, RANK_SOLVERS, oracle_threshold, rank_mask

# Pairs of methods that are compared case by case.
DIFFERENCES = (("CE(*)", "CE(0)"), ("SD(0)", "CE(0)"), ("CE(*)", "SD(0)"))
OTHER_DIFFERENCES = (
    ("CE(fold)", "CE(0)"),
    ("CE(*)", "CE(fold)"),
    ("SD(fold)", "SD(0)"),
    ("CE(fold)", "SD(fold)"),
    ("CE(rank)", "CE(*)"),
    ("CE(rank BA)", "CE(*)"),
    ("CE(oracle)", "CE(*)"),
    ("SD(oracle)", "SD(0)"),
    ("CE(oracle)", "SD(oracle)"),
    ("CE(*)", "CONST(*)"),
    ("SD(0)", "CONST(*)"),
    ("CONST(*)", "CONST(0)"),
)
SCORES = ("dice_noisy", "dice_clean", "dice_marginal")


def score_case(
    probabilities: NDArray,
    loss: str,
    noisy: NDArray,
    clean: NDArray,
    marginal: NDArray,
    fold_threshold: float,
    rankseg: bool,
) -> list[dict[str, Any]]:
    """Score the network's output on one case under every rule of its loss, see :mod:`reproduction.scoring.rules`.

    Parameters
    ----------
    probabilities : array (x, y, z)
        The soft segmentation c in [0, 1].
    loss
        ``ce``, ``sd`` or ``both``: what the network was trained with.
    noisy, clean : arrays (x, y, z) of 0 and 1
        The case's noisy label, and the label before the noise.
    marginal : array (x, y, z)
        Exact marginal m of the noise model for ``clean``.
    fold_threshold
        Chosen on the training cases (:func:`reproduction.scoring.rules.fold_threshold`).
    rankseg
        Whether to score the rules that need the package ``rankseg``.

    Returns
    -------
    list of dict
        ``method``, ``threshold``, volumes in voxels (``volume`` of the mask, ``soft_volume`` = sum of c, the same for
        all rules of a map, ``volume_noisy``, ``volume_clean``, ``volume_marginal`` = sum of m), and the mask's Dice:
        ``dice_noisy`` and ``dice_clean`` against the two labels, ``dice_marginal`` = D_m (Definition 4). Empty masks
        have Dice 1 with an empty label and 0 with any other.
        ``rankseg`` has no threshold: that of its rows is the smallest value inside the mask (for an empty mask the
        float64 next above the largest value of the map).

    Raises
    ------
    ValueError
        If the loss is unknown, ``probabilities`` holds NaN or a value outside [0, 1], or shapes differ.

    Examples
    --------
    >>> c = np.array([[[0.9, 0.45, 0.1]]])
    >>> label = np.array([[[1, 1, 0]]])
    >>> for row in score_case(c, "ce", label, label, label, fold_threshold=0.05, rankseg=False):
    ...     print(row["method"], row["volume"], round(row["dice_noisy"], 3))
    CE(0) 1 0.667
    CE(*) 2 1.0
    CE(fold) 3 0.8
    CE(oracle) 2 1.0
    """
    rules = {**METHODS, **OTHER_RULES, **MIXED_RULES}
    if loss not in rules.values():
        raise ValueError(f"loss is {loss!r}; expected one of {', '.join(sorted(set(rules.values())))}")
    c = check_array("probabilities", probabilities)
    check_unit_block("probabilities", c, c.shape)
    rows = []
    for method, of_loss in rules.items():
        if of_loss != loss or (method in RANK_SOLVERS and not rankseg):
            continue
        if method in RANK_SOLVERS:
            mask = rank_mask(c, RANK_SOLVERS[method])
            threshold = c[mask].min() if mask.any() else np.nextafter(np.float64(c.max()), 2.0)
        else:
            threshold = _threshold(method, c, noisy, fold_threshold)
            # A NumPy float64, not a Python float: the latter would be rounded to the map's float32 before comparing.
            mask = c >= np.float64(threshold)
        rows.append(score_mask(method, mask, threshold, c, noisy, clean, marginal))
    return rows


def score_mask(
    method: str, mask: NDArray, threshold: float, c: NDArray, noisy: NDArray, clean: NDArray, marginal: NDArray
) -> dict[str, Any]:
    """Give the row of one mask, made of the map c: what `score_case` says of each."""
    return {
        "method": method,
        "threshold": float(threshold),
        "volume": int(mask.sum()),
        "soft_volume": float(c.sum(dtype=np.float64)),
        "volume_noisy": int(noisy.sum()),
        "volume_clean": int(clean.sum()),
        "volume_marginal": float(marginal.sum(dtype=np.float64)),
        "dice_noisy": dice(mask, noisy),
        "dice_clean": dice(mask, clean),
        "dice_marginal": dice(mask, marginal),
    }


def _threshold(method: str, c: NDArray, noisy: NDArray, fold_threshold: float) -> float:
    if method in ("CE(*)", "CE+SD(*)"):
        return dice_threshold(c)
    if method in ("CE(oracle)", "SD(oracle)"):
        return oracle_threshold(c, noisy)
    return fold_threshold if method in OTHER_RULES else 0.5


def ceiling(label: NDArray, marginal: NDArray, noise: GaussianDeformation, seed: int, samples: int) -> dict[str, float]:
    """How high Dice can be on average for one case, when the noise is independent of the image.

    ``marginal`` is m, that of ``noise`` for ``label``.

    ``ceiling`` is sup_s D_m(s) = 2 t, in closed form (Theorem 1). ``ceiling_mc`` is the mean of D_L(s) over ``samples``
    noisy labels L for the s that attains it (NaN without samples): the two differ by the covariance term of the
    identity E[D_L(s)] = D_m(s) - Cov(D_L(s), |L|) / (|s| + v) and by sampling error. ``ceiling_half`` is D_m of the
    mask m >= 1/2: what a perfect network reaches at that threshold. ``volume_ceiling`` is the number of voxels of the
    mask that attains the ceiling. Book: ``prop-ceiling`` in the chapter "Optimal segmentations under noise".

    Examples
    --------
    >>> label = np.ones((4, 4, 4), np.uint8)
    >>> ceiling(label, label, GaussianDeformation(0.0), seed=1, samples=2)
    {'ceiling': 1.0, 'ceiling_half': 1.0, 'ceiling_mc': 1.0, 'volume_ceiling': 64}
    """
    threshold = dice_threshold(marginal)
    mask = marginal >= threshold
    # a = 0 has one label only, the clean one.
    draws = noise.sample(label, rng=seed, size=samples) if np.any(noise.a) else np.asarray(label)[None]
    mean = float(np.mean([dice(mask, draw) for draw in draws])) if len(draws) else math.nan
    half = dice(marginal >= 0.5, marginal)
    return {"ceiling": 2 * threshold, "ceiling_half": half, "ceiling_mc": mean, "volume_ceiling": int(mask.sum())}
