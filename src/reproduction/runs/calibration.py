"""Does recalibration close the gap to soft-Dice? Finished runs scored again, with calibrated maps.

Calibrations are fitted on the maps of a run's training cases, and, as a control, on one half of its test cases to be
scored on the other. ``results/<preset>/calibration.csv`` has a row for each run and calibration, and
``reliability.csv`` the bins of all maps of a setting together (book chapter *Is the map a probability?*).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisyseg.calibration import KINDS, Calibration, check
from noisyseg.calibration.fitting import fit_tallies, tally
from reproduction.config import POINT, Preset
from reproduction.paths import atomic_write
from reproduction.runs.run import Run
from reproduction.scoring.evaluation import CHUNK

NONE = "none"
TRAIN, TEST = "training cases", "other half of the test cases"
COUNTS = ("voxels", "soft_volume", "foreground")
COLUMNS = ("dice_half", "dice_t", "promised", "bias", "error")


def reliability(run: Run, maps: Sequence[NDArray]) -> list[dict[str, Any]]:
    """Count, in every bin of the maps' values, voxels, the sum of the maps, and foreground of the noisy labels."""
    bins = check(maps, run.noisy).bins.T.tolist()
    point = {axis: getattr(run.config, axis) for axis in POINT}
    return [{**point, "bin": k, **dict(zip(COUNTS, row, strict=True))} for k, row in enumerate(bins)]


def score_maps(maps: Sequence[NDArray], labels: Sequence[NDArray]) -> list[dict[str, float]]:
    """Score maps against their noisy labels: Dice at 1/2 and at t, 2 t, bias of the soft volume, error within.

    The last two are NaN where the label is empty; see :class:`noisyseg.calibration.Report`.

    Examples
    --------
    >>> [row] = score_maps([np.array([0.75, 0.75, 0.75, 0.75])], [np.array([1, 1, 1, 0])])
    >>> {name: round(value, 3) for name, value in row.items()}
    {'dice_half': 0.857, 'dice_t': 0.857, 'promised': 0.857, 'bias': 0.0, 'error': 0.0}
    """
    rows = check(maps, labels).images
    return [{name: float(getattr(row, name)) for name in COLUMNS} for row in rows]


def score_calibrations(run: Run, maps: Sequence[NDArray]) -> list[dict[str, Any]]:
    """Score the maps of the test cases of a finished run that was loaded: as they are, and after each calibration.

    Returns
    -------
    list of dict
        The run's point of the grid, ``calibration`` (``none`` or its kind), ``fitted_on``, ``cases``, and the means of
        `score_maps` over the test cases.
    """
    trainer, labels = run.trainer, run.noisy
    counted = []
    for start in range(0, len(trainer.images), CHUNK):
        some = slice(start, start + CHUNK)
        made = trainer.probabilities(trainer.images[some]).numpy()
        counted += [tally(c, label) for c, label in zip(made, trainer.labels[some, 0].numpy(), strict=True)]
    middle = len(maps) // 2
    halves = (slice(0, middle), slice(middle, None))  # whoever has two cases in a row is in one of them
    point = {axis: getattr(run.config, axis) for axis in POINT}

    def row(kind: str, fitted_on: str, scored: list[dict[str, float]]) -> dict[str, Any]:
        means = pd.DataFrame(scored).mean()  # without the NaN of empty labels
        return {**point, "calibration": kind, "fitted_on": fitted_on, "cases": len(scored), **means.to_dict()}

    def after(calibration: Calibration, some: slice) -> list[dict[str, float]]:
        return score_maps([calibration(c) for c in maps[some]], labels[some])

    rows = [row(NONE, "", score_maps(maps, labels))]
    for kind in KINDS:
        rows.append(row(kind, TRAIN, after(fit_tallies(counted, kind), slice(None))))
        if middle:
            tallies = [tally(c, label) for c, label in zip(maps, labels, strict=True)]
            fits = [fit_tallies(tallies[half], kind) for half in halves]
            rows.append(row(kind, TEST, after(fits[1], halves[0]) + after(fits[0], halves[1])))
    return rows


def collect_calibrations(
    preset: Preset,
    runs: str | os.PathLike[str],
    data: str | os.PathLike[str],
    report: Callable[[str], None] = print,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score every run of a preset again, one after the other: table of calibrations, table of reliability.

    The second has the runs of every organ, a and loss together: ``organ, a, loss, bin`` and `COUNTS`.

    Parameters
    ----------
    preset
        The grid.
    runs
        Folder of the preset's runs, ``runs/<preset>``, with their checkpoints.
    data
        Folder of the data sets.
    report
        Called with a line for each run.

    Raises
    ------
    ValueError
        If a run is not finished; which.
    """
    rows, bins = [], []
    for config in preset.runs():
        folder = Path(runs) / config.folder
        if not (folder / "metrics.json").is_file():
            raise ValueError(
                f"{config.name} is not finished: expected {folder / 'metrics.json'}; "
                f"`make reproduce PRESET={preset.name}` goes on with it"
            )
        with Run(config, folder, data, report) as run:
            if run.metrics is None:
                raise ValueError(f"{config.name} was made with other data or another configuration than {preset.name}")
            run.load()
            maps = list(run.predict())
            rows += score_calibrations(run, maps)
            bins += reliability(run, maps)
        report(f"{config.name}: calibrated")
    pooled: Any = pd.DataFrame(bins).groupby(["organ", "a", "loss", "bin"], sort=False)[list(COUNTS)].sum()
    return pd.DataFrame(rows), pooled.reset_index()


def write_calibrations(table: pd.DataFrame, bins: pd.DataFrame, folder: str | os.PathLike[str]) -> Path:
    """Write ``calibration.csv`` and ``reliability.csv`` into a folder, atomically, with six decimals."""
    for name, rows in (("reliability", bins), ("calibration", table)):
        path = atomic_write(Path(folder) / f"{name}.csv", rows.to_csv(index=False, float_format="%.6f"))
    return path


def read_calibrations(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Read what `write_calibrations` wrote."""
    table = pd.read_csv(Path(folder) / "calibration.csv", keep_default_na=False)
    return table.assign(**{name: pd.to_numeric(table[name]) for name in COLUMNS})


def over_folds(table: pd.DataFrame) -> pd.DataFrame:
    """Average over the training seeds, so that every fold has one row an organ, a, loss and calibration."""
    keys = ["organ", "a", "loss", "calibration", "fitted_on", "fold"]
    means: Any = table.groupby(keys, sort=False)[list(COLUMNS)].mean()
    return means.reset_index()


def gap(table: pd.DataFrame, kind: str, fitted_on: str = TRAIN, score: str = "dice_t") -> dict[Any, NDArray]:
    """Give CE after a calibration minus SD(0), fold by fold, for every (organ, a) that has both losses."""
    folds: Any = over_folds(table).assign(a=lambda d: d["a"].round(6))
    chosen = folds[(folds["calibration"] == kind) & ((folds["fitted_on"] == fitted_on) | (kind == NONE))]
    ce = chosen[chosen["loss"] == "ce"].set_index(["organ", "a", "fold"])[score]
    sd = folds[(folds["loss"] == "sd") & (folds["calibration"] == NONE)].set_index(["organ", "a", "fold"])["dice_half"]
    found = (ce - sd).dropna()
    return {key: np.asarray(group) for key, group in found.groupby(level=["organ", "a"], sort=False)}
