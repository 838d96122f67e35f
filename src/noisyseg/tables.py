"""Result tables: from the runs' folders to the few CSV files that the book prints (book chapter *The experiment*).

``results/<preset>/`` holds ``cases.csv`` (a row for every test case and method), ``summary.csv`` (means with
intervals), ``differences.csv`` (paired differences with intervals), ``history.csv`` (training curves) and
``provenance.json``.
"""

from __future__ import annotations

import io
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from noisyseg.config import Preset, RunConfig
from noisyseg.evaluate import DIFFERENCES, METHODS, SCORES, bootstrap_interval
from noisyseg.experiment import is_done
from noisyseg.paths import atomic_write, project_root, read_json, write_json

QUANTITIES = (*SCORES, "ceiling", "ceiling_mc", "volume_ratio", "threshold")
PARTS = ("cases", "summary", "differences", "history")


@dataclass(frozen=True)
class Results:
    """The tables of one preset, as pandas frames, and their provenance."""

    cases: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    history: pd.DataFrame
    provenance: dict[str, Any]


def summarise(cases: pd.DataFrame) -> pd.DataFrame:
    """Mean over cases, with 95 % bootstrap interval, of every quantity for each organ, a and method.

    ``volume_ratio`` is the volume of the mask over the expected volume of the label, sum(m). Runs without samples for
    the ceiling (``ceiling_samples: 0``) have no ``ceiling_mc``: it stays NaN.

    Raises
    ------
    ValueError
        If a value is not finite; where.

    Examples
    --------
    >>> row = {"organ": "o", "a": 0.0, "case": "x", "method": "CE(0)", "threshold": 0.5}
    >>> row |= {"volume": 2, "volume_marginal": 4.0}
    >>> row |= dict.fromkeys(("dice_noisy", "dice_clean", "dice_marginal", "ceiling", "ceiling_mc"), 1.0)
    >>> summarise(pd.DataFrame([row])).loc[0, ["n", "dice_noisy", "volume_ratio"]].tolist()
    [1.0, 1.0, 0.5]
    """
    cases = cases.assign(volume_ratio=cases["volume"] / cases["volume_marginal"])
    rows = []
    for key, group in cases.groupby(["organ", "a", "method"], sort=False):
        organ, a, method = cast(tuple[str, float, str], key)
        row: dict[str, Any] = {"organ": organ, "a": a, "method": method, "n": len(group)}
        for name in QUANTITIES:
            interval = (math.nan,) * 3
            values = group[name].to_numpy(dtype=np.float64)
            if name != "ceiling_mc" or not np.isnan(values).all():
                try:
                    interval = bootstrap_interval(values)
                except ValueError as error:
                    raise ValueError(f"{organ}, a = {a}, {method}, {name}: {error}") from error
            row[name], row[f"{name}_lo"], row[f"{name}_hi"] = interval
        rows.append(row)
    return pd.DataFrame(rows)


def paired_differences(cases: pd.DataFrame) -> pd.DataFrame:
    """Mean paired difference over cases, with 95 % bootstrap interval, for each organ, a, pair of methods and score.

    Raises
    ------
    ValueError
        If the two methods of a pair were not scored on the same cases, or a case was scored twice.
    """
    rows = []
    for key, group in cases.groupby(["organ", "a"], sort=False):
        organ, a = cast(tuple[str, float], key)
        twice = group.loc[group.duplicated(["case", "method"]), ["method", "case"]].to_numpy()
        if len(twice):
            raise ValueError(f"{organ}, a = {a}: {twice[0][0]} was scored twice on {twice[0][1]}")
        for first, second in DIFFERENCES:
            for score in SCORES:
                wide = group.pivot(index="case", columns="method", values=score)
                if first not in wide or second not in wide or wide[[first, second]].isna().to_numpy().any():
                    raise ValueError(f"{organ}, a = {a}: {first} and {second} were not scored on the same cases")
                mean, low, high = bootstrap_interval(wide[first] - wide[second])
                name = f"{first}-{second}"
                rows.append({"organ": organ, "a": a, "difference": name, "score": score, "n": len(wide)})
                rows[-1].update(mean=mean, lo=low, hi=high)
    return pd.DataFrame(rows)


def _history(config: RunConfig, folder: Path) -> pd.DataFrame:
    records = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    table = pd.DataFrame(records, columns=["epoch", "train_loss", "train_dice", "lr"])
    for position, axis in enumerate(("organ", "a", "loss", "fold")):
        table.insert(position, axis, getattr(config, axis))
    return table


def gather(preset: Preset, runs: str | os.PathLike[str]) -> Results:
    """Collect the finished runs of a whole preset into tables.

    Parameters
    ----------
    preset
        The grid.
    runs
        Folder of the preset's runs, ``runs/<preset>``.

    Raises
    ------
    ValueError
        If a run is missing (which), or the runs saw different data.
    """
    folder = Path(runs)
    configs = preset.runs()
    missing = [config.name for config in configs if not is_done(folder / config.folder, config)]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(configs)} runs of {preset.name} are missing, the first is {missing[0]}; "
            f"`make reproduce PRESET={preset.name}` goes on with them"
        )
    cases = pd.concat([pd.read_csv(folder / c.folder / "cases.csv") for c in configs], ignore_index=True)
    order = {method: rank for rank, method in enumerate(METHODS)}
    organs = {organ: rank for rank, organ in enumerate(preset.grid["organ"])}
    cases = cases.sort_values(
        ["organ", "a", "fold", "case", "method"],
        key=lambda column: (
            column.map({"organ": organs, "method": order}[column.name])
            if column.name in ("organ", "method")
            else column
        ),
        ignore_index=True,
    )
    metrics = [read_json(folder / config.folder / "metrics.json") for config in configs]
    digests = {m["data_digest"] for m in metrics}
    if len(digests) > 1:
        raise ValueError(f"the runs of {preset.name} saw {len(digests)} different versions of the data")
    history = pd.concat([_history(c, folder / c.folder) for c in configs], ignore_index=True)
    kept = ("run", "config_hash", "best_epoch", "training_s", "wall_s", "peak_memory_mib", "precision", "device")
    commits = sorted({m["provenance"]["commit"] for m in metrics})
    machines = [m["provenance"]["machine"] for m in metrics]
    facts = {
        "preset": preset.name,
        "about": preset.about,
        "version": metrics[0]["provenance"]["version"],
        "commit": " ".join(commits),
        "created": max(m["finished"] for m in metrics),
        "data_digest": digests.pop(),
        "machine": machines[0],
        "machines": len({json.dumps(machine, sort_keys=True) for machine in machines}),
        "packages": metrics[0]["provenance"]["packages"],
        "parameters": metrics[0]["parameters"],
        "config": {**preset.values, "grid": {axis: list(points) for axis, points in preset.grid.items()}},
        "runs": [{name: m[name] for name in (*kept, "finished")} for m in metrics],
    }
    return Results(cases, summarise(cases), paired_differences(cases), history, facts)


def write_results(results: Results, folder: str | os.PathLike[str]) -> Path:
    """Write the tables into ``folder``, each atomically; numbers with six decimals (history: six digits)."""
    folder = Path(folder)
    for part in PARTS:
        buffer = io.StringIO()
        getattr(results, part).to_csv(buffer, index=False, float_format="%.6g" if part == "history" else "%.6f")
        atomic_write(folder / f"{part}.csv", buffer.getvalue())
    write_json(folder / "provenance.json", results.provenance)
    return folder


def load_results(preset: str) -> Results:
    """Read the tables of a preset: from ``$NOISYSEG_RESULTS/<preset>`` if it is there, else ``results/<preset>``.

    Raises
    ------
    FileNotFoundError
        If neither is there: the preset has not been run.

    Examples
    --------
    >>> sorted(load_results("hippocampus").summary["a"].unique().tolist())
    [0.0, 0.01, 0.02, 0.03]
    """
    candidates = [project_root() / "results" / preset]
    if "NOISYSEG_RESULTS" in os.environ:
        candidates.insert(0, Path(os.environ["NOISYSEG_RESULTS"]) / preset)
    for folder in candidates:
        if (folder / "provenance.json").is_file():
            frames = {part: pd.read_csv(folder / f"{part}.csv") for part in PARTS}
            return Results(**frames, provenance=read_json(folder / "provenance.json"))
    looked = " and ".join(map(str, candidates))
    raise FileNotFoundError(f"preset {preset} has no results in {looked}; `make reproduce PRESET={preset}` makes them")


def main_table(results: Results, score: str = "dice_noisy") -> pd.DataFrame:
    """The paper's Table 1 from our runs: organ and a by method, means over all test cases, with the ceiling.

    Examples
    --------
    >>> list(main_table(load_results("hippocampus")).columns)
    ['CE(0)', 'SD(0)', 'CE(*)', 'ceiling']
    """
    wide = results.summary.pivot(index=["organ", "a"], columns="method", values=score)
    top = results.summary.drop_duplicates(["organ", "a"]).set_index(["organ", "a"])
    table = wide.assign(ceiling=top["ceiling"]).reindex(index=top.index, columns=[*METHODS, "ceiling"])
    table.columns.name = None
    return table
