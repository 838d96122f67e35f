"""Means, intervals and paired differences over cases, and their spread over training seeds.

Intervals are those of :mod:`reproduction.scoring.inference`: cases of one person, and all cases of a fold, are taken
together. Where cells were trained with several seeds, the scores of a case are averaged over the seeds first. What
another seed would have given is also said: the standard deviation over seeds of the cell's mean (``<x>_seed_sd``, with
the number of ``seeds``; tables of a single seed lack these columns). Book chapter *The experiment*.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduction.config import SEED_AXIS
from reproduction.scoring.inference import Estimate, estimate
from reproduction.scoring.rules import CONSTANTS
from reproduction.scoring.scores import DIFFERENCES, OTHER_DIFFERENCES, SCORES
from reproduction.text import interval, short

ERRORS = ("se_persons", "df_persons", "se_folds", "df_folds")
QUANTITIES = (
    *SCORES,
    "ceiling",
    "ceiling_half",
    "ceiling_mc",
    "volume_ratio",
    "soft_ratio",
    "ceiling_ratio",
    "threshold",
    "surface_noisy",
)
PARTIAL = ("surface_noisy",)  # NaN for an empty mask, and for a rule whose surfaces are not measured


def seeds_of(cases: pd.DataFrame) -> list[int]:
    """Training seeds of a table of cases; empty where it does not tell them, because there is one only.

    Examples
    --------
    >>> seeds_of(pd.DataFrame({"case": ["x", "y"]})), seeds_of(pd.DataFrame({"training_seed": [2, 1, 2]}))
    ([], [1, 2])
    """
    return sorted(cases[SEED_AXIS].unique().tolist()) if SEED_AXIS in cases else []


def mean_over(rows: pd.DataFrame, values: NDArray[np.float64]) -> Estimate:
    """Estimate the mean of ``values``, one a case in the order of the cases' names; ``rows`` say person and fold."""
    one = rows.drop_duplicates("case").sort_values("case")
    return estimate(values, one["person" if "person" in one else "case"].to_numpy(), one["fold"].to_numpy())


def _by_seed(rows: pd.DataFrame, name: str, seeds: list[int], where: str) -> NDArray[np.float64]:
    """Values (cases, seeds) of one column of one cell and method, by name of the case; each must have all seeds."""
    rows = rows.sort_values(["case", SEED_AXIS] if len(seeds) > 1 else "case")
    if len(seeds) > 1:
        twice = rows.loc[rows.duplicated(["case", SEED_AXIS]), ["case", SEED_AXIS]].to_numpy()
        if len(twice):
            raise ValueError(f"{where}: {twice[0][0]} was scored twice with seed {twice[0][1]}")
        if len(rows) != len(seeds) * rows["case"].nunique():
            raise ValueError(f"{where}: not every case was scored with every training seed of {seeds}")
    return rows[name].to_numpy(dtype=np.float64).reshape(-1, max(len(seeds), 1))


def _seed_sd(values: NDArray[np.float64]) -> float:
    """Standard deviation, over seeds, of the mean over the cases that have a value; NaN without any."""
    return float(np.std(np.nanmean(values, axis=0), ddof=1)) if len(values) else math.nan


def summarise(cases: pd.DataFrame) -> pd.DataFrame:
    """Mean over cases, with 95 % interval, of every quantity for each organ, a and method.

    ``volume_ratio`` is the volume of the mask over the expected volume of the label, sum(m), ``soft_ratio`` that of the
    network's map, ``ceiling_ratio`` that of the mask that attains the ceiling. ``ceiling_mc`` (NaN in runs without
    samples) and ``surface_noisy`` (NaN for an empty mask) are means over the cases that have them. Columns that older
    runs lack stay out. With several training seeds (a column
    ``training_seed``) a case counts once, with its mean over the seeds, and there are the columns ``seeds`` and, for
    each quantity, ``<x>_seed_sd``: the standard deviation (n - 1) over the seeds of the cell's mean.

    Raises
    ------
    ValueError
        If a value is not finite, or a case lacks one of several seeds; where.

    Examples
    --------
    >>> row = {"organ": "o", "a": 0.0, "fold": 0, "case": "x", "method": "CE(0)", "threshold": 0.5}
    >>> row |= {"volume": 2, "volume_marginal": 4.0}
    >>> row |= dict.fromkeys(("dice_noisy", "dice_clean", "dice_marginal", "ceiling", "ceiling_mc"), 1.0)
    >>> summarise(pd.DataFrame([row])).loc[0, ["n", "dice_noisy", "volume_ratio"]].tolist()
    [1.0, 1.0, 0.5]
    >>> twice = [row | {"training_seed": 1}, row | {"training_seed": 2, "dice_noisy": 0.8}]
    >>> summarise(pd.DataFrame(twice)).loc[0, ["n", "seeds", "dice_noisy", "dice_noisy_seed_sd"]].round(4).tolist()
    [1.0, 2.0, 0.9, 0.1414]
    """
    cases = cases.assign(volume_ratio=cases["volume"] / cases["volume_marginal"])
    for volume, share in (("soft_volume", "soft_ratio"), ("volume_ceiling", "ceiling_ratio")):
        if volume in cases:
            cases[share] = cases[volume] / cases["volume_marginal"]
    seeds = seeds_of(cases)
    rows = []
    for key, group in cases.groupby(["organ", "a", "method"], sort=False):
        organ, a, method = cast(tuple[str, float, str], key)
        where = f"{organ}, a = {a}, {method}"
        row: dict[str, Any] = {"organ": organ, "a": a, "method": method}
        for name in QUANTITIES:
            if name not in cases:
                continue
            values = _by_seed(group, name, seeds, where)
            row["n"] = len(values)
            row |= {"seeds": len(seeds)} if len(seeds) > 1 else {}
            part: Any = group
            if name in PARTIAL or (name == "ceiling_mc" and np.isnan(values).all()):
                known = ~np.isnan(values).all(axis=1)  # a case counts with the seeds that have it
                named = np.array(sorted(set(group["case"])))[known]
                part, values = group[group["case"].isin(list(named))], values[known]
            found = (math.nan,) * 3
            if len(values):
                try:
                    mean = mean_over(part, np.nanmean(values, axis=1) if name in PARTIAL else values.mean(axis=1))
                except ValueError as error:
                    raise ValueError(f"{where}, {name}: {error}") from error
                found = (mean.mean, *mean.interval)
            row[name], row[f"{name}_lo"], row[f"{name}_hi"] = found
            row |= {f"{name}_seed_sd": _seed_sd(values)} if len(seeds) > 1 else {}
        rows.append(row)
    return pd.DataFrame(rows)


def paired_differences(cases: pd.DataFrame) -> pd.DataFrame:
    """Mean paired difference over cases, with 95 % interval, for each organ, a, pair of methods and score.

    ``ERRORS`` are the standard errors and their degrees of freedom (NaN for the folds where one was run), from which
    ``estimate_of`` makes the estimate again, with its tests.

    The pairs are ``DIFFERENCES`` and ``OTHER_DIFFERENCES`` (:mod:`reproduction.scoring.scores`) of which both methods
    were scored: a preset may have one loss, and a run may lack ``rankseg``. With several training seeds, networks of
    one seed are paired, the differences of a case are averaged over the seeds, and there are the columns ``seeds`` and
    ``seed_sd``: the standard deviation (n - 1) over the seeds of the mean difference.

    Raises
    ------
    ValueError
        If the two methods of a pair were not scored on the same cases, or a case was scored twice.
    """
    seeds = seeds_of(cases)
    index = ["case", SEED_AXIS] if len(seeds) > 1 else ["case"]
    rows = []
    for key, group in cases.groupby(["organ", "a"], sort=False):
        organ, a = cast(tuple[str, float], key)
        where = f"{organ}, a = {a}"
        twice = group.loc[group.duplicated([*index, "method"]), ["method", "case"]].to_numpy()
        if len(twice):
            raise ValueError(f"{where}: {twice[0][0]} was scored twice on {twice[0][1]}")
        ordered, methods = group.sort_values(index), set(group["method"])
        pairs = [pair for pair in (*DIFFERENCES, *OTHER_DIFFERENCES) if methods.issuperset(pair)]
        for first, second in pairs:
            both = [ordered.loc[ordered["method"] == method] for method in (first, second)]
            same = both[0][index].to_numpy().tolist() == both[1][index].to_numpy().tolist()
            if not same or any(part[list(SCORES)].isna().to_numpy().any() for part in both):
                raise ValueError(f"{where}: {first} and {second} were not scored on the same cases")
            for score in SCORES:
                left, right = (_by_seed(part, score, seeds, where) for part in both)
                gains = left - right
                found = mean_over(both[0], gains.mean(axis=1))
                low, high = found.interval
                name = f"{first}-{second}"
                rows.append({"organ": organ, "a": a, "difference": name, "score": score, "n": len(gains)})
                rows[-1].update(mean=found.mean, lo=low, hi=high)
                errors = (*found.errors, (math.nan, math.nan))[:2]
                rows[-1].update(zip(ERRORS, itertools.chain(*errors), strict=True))
                rows[-1].update({"seeds": len(seeds), "seed_sd": _seed_sd(gains)} if len(seeds) > 1 else {})
    # The columns are also there where there is no pair.
    columns = ["organ", "a", "difference", "score", "n", "mean", "lo", "hi", *ERRORS]
    return pd.DataFrame(rows, columns=[*columns, "seeds", "seed_sd"] if len(seeds) > 1 else columns)


def estimate_of(row: Mapping[str, Any]) -> Estimate:
    """Make the estimate of a row of :func:`paired_differences` again.

    Examples
    --------
    >>> row = {"mean": 0.01, "se_persons": 0.002, "df_persons": 99, "se_folds": math.nan, "df_folds": math.nan}
    >>> estimate_of(row).errors
    ((0.002, 99),)
    """
    errors = [(float(row[f"se_{group}"]), row[f"df_{group}"]) for group in ("persons", "folds")]
    return Estimate(float(row["mean"]), tuple((error, int(df)) for error, df in errors if not math.isnan(error)))


def failed_trainings(cases: pd.DataFrame) -> Any:
    """Find the trainings of which every mask at 1/2 is empty: a table of their organ, a, seed (if several) and fold."""
    axes = ["organ", "a", *([SEED_AXIS] if SEED_AXIS in cases else []), "fold"]
    at_half: Any = cases[cases["method"].isin(["CE(0)", "SD(0)"])]
    most: Any = at_half.groupby([*axes, "method"])["volume"].max().reset_index()
    return most.loc[most["volume"] == 0, axes].drop_duplicates()


def without_empty_trainings(cases: pd.DataFrame) -> pd.DataFrame:
    """Leave out the cases of failed trainings under all methods, and average the others over their seeds.

    A training counts by organ, a, seed and fold, whichever loss failed: methods are compared on the same cases. This
    table is for a second look; no training is left out of the first.
    """
    failed = failed_trainings(cases)
    kept: Any = cases[~cases.set_index(list(failed.columns)).index.isin(pd.MultiIndex.from_frame(failed))]
    same = [name for name in ("organ", "a", "method", "fold", "case", "person") if name in cases]
    return kept.drop(columns=[SEED_AXIS], errors="ignore").groupby(same, sort=False).mean().reset_index()


def empty_trainings(cases: pd.DataFrame) -> list[str]:
    """Say of which trainings every mask is empty, and what the mean Dice of the other trainings of the cell is.

    Where a network trained with cross-entropy nowhere gives more than 1/2, its masks at 1/2 have no voxel and the Dice
    with any label that is not empty is 0. One such training moves the mean of its cell by far more than any interval
    over cases tells, so it is said wherever that mean is shown. Constant shapes are no trainings.

    Parameters
    ----------
    cases
        As in ``cases.csv``: at least ``organ, a, fold, case, method, volume, dice_noisy``, and ``training_seed`` where
        there are several.

    Returns
    -------
    list of str
        One sentence for each organ, a and method that has such a training, with what CE(*) makes of the same maps;
        empty where none has, or there are no cases.

    Examples
    --------
    >>> row = {"organ": "aorta", "a": 0.03, "case": "x", "method": "CE(0)", "fold": 0, "volume": 0, "dice_noisy": 0.0}
    >>> other = {**row, "case": "y", "fold": 1, "volume": 5, "dice_noisy": 0.5}
    >>> for part in empty_trainings(pd.DataFrame([row, other]))[0].split("; "):
    ...     print(part)
    Aorta, a = .03, CE(0): in 1 of 2 trainings (fold 0: 1 case) every mask is empty
    the mean of the others is .500 [.500, .500].
    """
    if cases.empty:
        return []
    axes = [SEED_AXIS, "fold"] if SEED_AXIS in cases else ["fold"]
    sentences = []
    trained: Any = cases[~cases["method"].isin(CONSTANTS)]
    for key, cell in trained.groupby(["organ", "a", "method"], sort=False):
        organ, a, method = cast(tuple[str, float, str], key)
        trainings: Any = cell.groupby(axes)["volume"].agg(["max", "size"])
        empty = trainings[trainings["max"] == 0]
        if not len(empty):
            continue
        names = {SEED_AXIS: "seed", "fold": "fold"}
        named = []
        for index, size in zip(empty.index, empty["size"], strict=True):
            points = index if isinstance(index, tuple) else (index,)
            training = ", ".join(f"{names[axis]} {point}" for axis, point in zip(axes, points, strict=True))
            named.append(f"{training}: {size} case" + ("s" if size > 1 else ""))
        others: Any = cell[~cell.set_index(axes).index.isin(empty.index)]
        rest = "there is no other"
        if len(others):
            mean = mean_over(others, others.groupby("case")["dice_noisy"].mean().to_numpy())
            rest = f"the mean of the others is {interval(mean.mean, *mean.interval)}"
        same: Any = cases[(cases["organ"] == organ) & (cases["a"] == a) & (cases["method"] == "CE(*)")]
        same = same[same.set_index(axes).index.isin(empty.index)]
        if method == "CE(0)" and len(same):
            rest += f", and CE(*), the same maps at the Dice threshold, has {short(same['dice_noisy'].mean())} there"
        where = f"{organ.capitalize()}, a = {short(a, 2)}, {method}"
        which = f"in {len(empty)} of {len(trainings)} trainings ({'; '.join(named)})"
        sentences.append(f"{where}: {which} every mask is empty; {rest}.")
    return sentences
