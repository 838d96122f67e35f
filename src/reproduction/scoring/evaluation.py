"""From a trained network to the scores of its test cases, under every rule (book chapter *The experiment*)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisyseg.noise import GaussianDeformation
from noisyseg.optimal import dice_threshold
from reproduction.config import RunConfig
from reproduction.data.cases import Case
from reproduction.network.training import Trainer
from reproduction.scoring.rules import (
    CONSTANTS,
    GRID,
    METHODS,
    MIXED_RULES,
    dice_over_grid,
    fold_threshold,
    rankseg_version,
)
from reproduction.scoring.scores import ceiling, score_case, score_mask
from reproduction.scoring.surfaces import surface_distance

CHUNK = 16  # maps in memory at a time


def fold_curve(trainer: Trainer) -> NDArray[np.float64]:
    """Mean Dice over the training cases at every threshold of the grid, each case against its own noisy label.

    The images are as they are, without augmentation; the weights are those that are evaluated on the test cases.
    """
    total = np.zeros(len(GRID))
    for start in range(0, len(trainer.images), CHUNK):
        some = slice(start, start + CHUNK)
        maps, labels = trainer.probabilities(trainer.images[some]), trainer.labels[some, 0]
        for c, label in zip(maps.numpy(), labels.numpy(), strict=True):
            total += dice_over_grid(c, label)
    return total / len(trainer.images)


def score_cases(
    config: RunConfig, trainer: Trainer, cases: Sequence[Case], noisy: Sequence[NDArray], maps: Sequence[NDArray]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Score the test cases of a trained run under every rule of its loss.

    Parameters
    ----------
    config, trainer
        The run, trained. The threshold of the fold is chosen on the trainer's own cases.
    cases, noisy, maps
        Test cases, their noisy labels, and what the network makes of them.

    Returns
    -------
    rows
        A row for every case and rule: the columns of ``cases.csv``, see
        :func:`reproduction.scoring.scores.score_case` and :func:`reproduction.scoring.scores.ceiling`, and
        ``surface_noisy``, the mean distance in mm of the mask's surface from the noisy label's (NaN for an empty mask,
        and for other rules than the paper's).
    facts
        ``threshold`` (the one chosen on the training cases) and its ``train_dice``, and ``rankseg``: its version, or
        None where it is not installed and its rows are left out.
    """
    curve = fold_curve(trainer)
    facts = {
        "threshold": fold_threshold(curve),
        "train_dice": round(float(curve.max()), 6),
        "rankseg": rankseg_version(),
    }
    noise = GaussianDeformation(config.a, config.b)
    q = trainer.labels[:, 0].numpy().mean(axis=0, dtype=np.float64)
    constant = constant_masks(q) if config.loss == "ce" else {}
    rows = []
    for case, label, c in zip(cases, noisy, maps, strict=True):
        marginal = noise.marginal(case.label)
        bound = ceiling(case.label, marginal, noise, config.seed_of_case(case.id) ^ 1, config.ceiling_samples)
        point = {"organ": config.organ, "a": config.a, "fold": config.fold, "case": case.id}
        scored = score_case(
            c, config.loss, label, case.label, marginal, facts["threshold"], rankseg=facts["rankseg"] is not None
        )
        scored += [score_mask(name, s, t, q, label, case.label, marginal) for name, (s, t) in constant.items()]
        masks = {
            row["method"]: c >= np.float64(row["threshold"])
            for row in scored
            if row["method"] in {**METHODS, **MIXED_RULES}
        }
        masks |= {name: s for name, (s, _) in constant.items()}
        for row in scored:  # the other rules' masks lie between these: their surfaces are not measured
            s = masks.get(row["method"])
            row["surface_noisy"] = math.nan if s is None else surface_distance(s, label, case.spacing_mm)
        rows += [{**point, **row, **bound} for row in scored]
    return rows, facts


def constant_masks(q: NDArray) -> dict[str, tuple[NDArray[np.bool_], float]]:
    r"""Give the two masks that do not look at the image, with their thresholds: `CONSTANTS`.

    .. math:: q = \frac{1}{N} \sum_i L_i

    over the noisy labels of the training cases. ``CONST(0)`` is {q >= 1/2}, ``CONST(*)`` is {q >= sup_s D_q(s) / 2}.
    Whatever a network scores above them it owes to the image; below them, it has learnt less than where the organ lies.

    Parameters
    ----------
    q : array (x, y, z)
        Mean noisy label of the training cases.

    Examples
    --------
    >>> masks = constant_masks(np.array([1.0, 1 / 3, 0.0]))
    >>> {name: mask.tolist() for name, (mask, _) in masks.items()}
    {'CONST(0)': [True, False, False], 'CONST(*)': [True, False, False]}
    """
    return {name: (q >= t, t) for name, t in zip(CONSTANTS, (0.5, dice_threshold(q)), strict=True)}
