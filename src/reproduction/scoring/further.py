"""Further rules on the maps of a trained run: chosen on the training folds, ``rankseg``, the oracle of each image.

They need the maps of the training cases as well, which a run does not keep; its ``checkpoint.pt`` has the network that
makes all of them again, bit for bit on the same machine. A run's folder therefore gets two small files more:
``further.csv`` with the columns of ``cases.csv``, and last, ``further.json`` (see :func:`score_further_run`). Runs made
before there were such rules do not have them. Book chapter *The experiment*.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from noisyseg.noise import GaussianDeformation
from reproduction.config import RunConfig
from reproduction.data.cases import Case
from reproduction.network.training import Trainer, normalise
from reproduction.paths import atomic_write, read_json, write_json
from reproduction.scoring.rules import GRID, dice_over_grid, fold_threshold, rankseg_version
from reproduction.scoring.scores import score_case, score_further

CHUNK = 16  # maps in memory at a time
ROUNDING = 1e-12  # of a table that was written and read
TOLERANCE = 1e-3  # mean over cases, in Dice, that maps made again may be off on another machine


def fold_curve(trainer: Trainer) -> NDArray[np.float64]:
    """Mean Dice over the training cases at every threshold of the grid, each case against its own noisy label.

    The images are as they are, without augmentation; the weights are those that are evaluated on the test cases.
    """
    total = np.zeros(len(GRID))
    for c, label in zip(_maps(trainer, trainer.images), trainer.labels[:, 0].numpy(), strict=True):
        total += dice_over_grid(c, label)
    return total / len(trainer.images)


def _maps(trainer: Trainer, images: Tensor) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(images), CHUNK):
        yield from trainer.probabilities(images[start : start + CHUNK]).numpy()


def score_further_run(
    config: RunConfig, trainer: Trainer, test: Sequence[Case], noisy: Sequence[NDArray], scored: pd.DataFrame
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Score the test cases of a trained run under the further rules.

    Parameters
    ----------
    config, trainer
        The run, trained.
    test, noisy
        Test cases and their noisy labels.
    scored
        The run's ``cases.csv``: the ceilings are taken from it, and its scores are compared with those of the maps as
        they are made here.

    Returns
    -------
    rows
        As in ``cases.csv``, for the methods of ``reproduction.scoring.rules.FURTHER`` that belong to the run's loss.
    facts
        ``threshold`` (the one chosen on the training cases) and its ``train_dice``, ``rankseg`` (version, or None where
        it is not installed and its rows are left out) and ``apart``, the largest difference in Dice between a score of
        ``scored`` and the same score here: 0 on the machine that trained.

    Raises
    ------
    ValueError
        If ``scored`` has other cases, or its scores are further than .001 from those here in the mean: the maps are not
        those that were scored.
    """
    curve = fold_curve(trainer)
    threshold = fold_threshold(curve)
    rankseg = rankseg_version()
    noise = GaussianDeformation(config.a, config.b)
    stored = scored.set_index(["case", "method"])
    rows, apart = [], []
    images = normalise([case.image for case in test], config)
    for case, label, c in zip(test, noisy, _maps(trainer, images), strict=True):
        marginal = noise.marginal(case.label)
        for row in score_case(c, config.loss, label, case.label, marginal):
            key = (case.id, row["method"])
            if key not in stored.index:
                raise ValueError(f"{config.name}: cases.csv has no score of {row['method']} on {case.id}")
            off = abs(row["dice_noisy"] - stored.loc[key, "dice_noisy"])
            apart.append(off if off > ROUNDING else 0.0)
        known = scored[scored["case"] == case.id].iloc[0]
        bound = {name: float(known[name]) for name in ("ceiling", "ceiling_mc")}
        point = {"organ": config.organ, "a": config.a, "fold": config.fold, "case": case.id}
        for row in score_further(c, config.loss, threshold, label, case.label, marginal, rank=rankseg is not None):
            rows.append({**point, **row, **bound})
    if np.mean(apart) > TOLERANCE:
        raise ValueError(
            f"{config.name}: the maps made here are not those that were scored: their Dice is {np.mean(apart):.4f} "
            "off on average; use the machine that trained the run, or train it again here"
        )
    facts = {
        "threshold": threshold,
        "train_dice": round(float(curve.max()), 6),
        "rankseg": rankseg,
        "apart": float(np.max(apart)),
    }
    return rows, facts


def write_further(
    folder: Path, config: RunConfig, data_digest: str, rows: list[dict[str, Any]], facts: dict[str, Any]
) -> None:
    """Write ``further.csv`` and, last, ``further.json`` into a run's folder, each atomically."""
    (folder / "further.json").unlink(missing_ok=True)  # the table must never have the facts of another one beside it
    buffer = io.StringIO()
    pd.DataFrame(rows).to_csv(buffer, index=False)
    atomic_write(folder / "further.csv", buffer.getvalue())
    write_json(folder / "further.json", {"config_hash": config.hash, "data_digest": data_digest, **facts})


def read_further(folder: Path, config: RunConfig, data_digest: str) -> dict[str, Any] | None:
    """Give the facts of a run's further scores; None where there are none for this configuration and this data."""
    path = folder / "further.json"
    facts = read_json(path) if path.is_file() else None
    if facts is None or (facts["config_hash"], facts["data_digest"]) != (config.hash, data_digest):
        return None
    return facts
