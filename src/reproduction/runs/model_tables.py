"""Result tables of a preset that compares networks: several models in one grid (book chapter *Lean U-Net*).

``results/<preset>/`` then holds ``models.csv`` (means with intervals by organ, a, model and method, with parameters and
times), ``cases.csv`` (the paper's methods), ``differences.csv`` (between methods, model by model), ``paths.csv`` (of
networks that were pruned, a row for every epoch) and ``provenance.json``. There is no ``summary.csv``: the chapters on
the paper's experiment look for that, and have one model each.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reproduction.config import Preset
from reproduction.paths import atomic_write, read_json, write_json
from reproduction.runs.tables import Results, gather, main_table, read_results, write_results
from reproduction.scoring.rules import METHODS

PARTS = ("models", "cases", "differences", "paths")
PATH_COLUMNS = ("organ", "a", "model", "fold", "epoch", "parameters", "test_dice", "removed")
_CASES = (
    "organ",
    "a",
    "model",
    "fold",
    "training_seed",
    "case",
    "person",
    "method",
    "threshold",
    "dice_noisy",
    "ceiling",
)
_MEANS = ("dice_noisy", "dice_noisy_lo", "dice_noisy_hi", "ceiling")


@dataclass(frozen=True)
class ModelTables:
    """The tables of one preset with several models, as pandas frames, and their provenance."""

    models: pd.DataFrame
    cases: pd.DataFrame
    differences: pd.DataFrame
    paths: pd.DataFrame
    provenance: dict[str, Any]


def gather_models(preset: Preset, runs: str | os.PathLike[str]) -> ModelTables:
    """Collect the finished runs of a preset, model by model; parameters as in ``reproduction.runs.tables.gather``.

    Raises
    ------
    ValueError
        If a run is missing (which), or the runs saw different data.
    """
    home = Path(runs)
    frames: dict[str, list[pd.DataFrame]] = {part: [] for part in PARTS}
    facts: list[dict[str, Any]] = []
    for model in preset.grid["model"]:
        one = preset.model_copy(update={"grid": {**preset.grid, "model": (model,)}})
        found = gather(one, home)
        facts.append(found.provenance)
        metrics = [read_json(home / config.folder / "metrics.json") for config in one.runs()]
        means: Any = found.summary[found.summary["method"].isin(list(METHODS))]
        means = means[["organ", "a", "method", "n", *_MEANS]].assign(model=model)
        for name in ("parameters", "training_s", "cpu_s"):
            of_runs = pd.DataFrame([{"organ": c.organ, "a": c.a, name: m[name]} for c, m in _pairs(one, metrics)])
            means = means.merge(of_runs.groupby(["organ", "a"], as_index=False)[name].median(), on=["organ", "a"])
        frames["models"].append(means)
        cases: Any = found.cases[found.cases["method"].isin(list(METHODS))].assign(model=model)
        frames["cases"].append(cases[[name for name in _CASES if name in cases]])
        frames["differences"].append(found.differences.assign(model=model))
        frames["paths"] += [_path(config, home / config.folder) for config in one.runs() if config.network.criterion]
    digests = {part["data_digest"] for part in facts}
    if len(digests) > 1:
        raise ValueError(f"the runs of {preset.name} saw {len(digests)} different versions of the data")
    provenance = {
        **facts[0],
        "commit": " ".join(sorted({commit for part in facts for commit in part["commit"].split()})),
        "created": max(part["created"] for part in facts),
        "parameters": {model: part["parameters"] for model, part in zip(preset.grid["model"], facts, strict=True)},
        "config": {**preset.values, "grid": {axis: list(points) for axis, points in preset.grid.items()}},
        "runs": [run for part in facts for run in part["runs"]],
    }
    empty = pd.DataFrame(columns=list(PATH_COLUMNS))
    tables = {part: pd.concat(some, ignore_index=True) if some else empty for part, some in frames.items()}
    return ModelTables(**tables, provenance=provenance)


def _pairs(preset: Preset, metrics: list[dict[str, Any]]) -> Any:
    return zip(preset.runs(), metrics, strict=True)


def _path(config: Any, folder: Path) -> pd.DataFrame:
    """The epochs of one pruned run; ``removed`` names the layers that lost a channel, in order."""
    records = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    table: Any = pd.DataFrame(records)
    table["removed"] = [" ".join(layer for layer, _ in gone) for gone in table["removed"]]
    return table.assign(organ=config.organ, a=config.a, model=config.model, fold=config.fold)[list(PATH_COLUMNS)]


def write_models(tables: ModelTables, folder: str | os.PathLike[str]) -> Path:
    """Write the tables into ``folder``, each atomically; numbers with six decimals."""
    folder = Path(folder)
    for part in PARTS:
        buffer = io.StringIO()
        getattr(tables, part).to_csv(buffer, index=False, float_format="%.6f")
        atomic_write(folder / f"{part}.csv", buffer.getvalue())
    write_json(folder / "provenance.json", tables.provenance)
    return folder


def read_models(folder: str | os.PathLike[str]) -> ModelTables:
    """Read what ``write_models`` has written.

    Raises
    ------
    FileNotFoundError
        If one of the files is missing: the preset has not been run. The provenance is written last.
    """
    folder = Path(folder)
    frames = {part: pd.read_csv(folder / f"{part}.csv", keep_default_na=part != "paths") for part in PARTS}
    return ModelTables(**frames, provenance=read_json(folder / "provenance.json"))


def write_tables(preset: Preset, runs: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Collect a finished preset and write its tables, of one model or of several."""
    if len(preset.grid["model"]) > 1:
        return write_models(gather_models(preset, runs), folder)
    return write_results(gather(preset, runs), folder)


def overview(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the table that a command prints in the end: mean Dice by organ and a, of methods or of models."""
    if (Path(folder) / "models.csv").is_file():
        table: Any = read_models(folder).models
        wide = table.pivot(index=["organ", "a", "model"], columns="method", values="dice_noisy")
        sizes = table.drop_duplicates(["organ", "a", "model"]).set_index(["organ", "a", "model"])
        columns = [method for method in METHODS if method in wide]
        wide = wide.assign(parameters=sizes["parameters"].astype(int)).reindex(sizes.index)[[*columns, "parameters"]]
        wide.columns.name = None
        return wide
    results: Results = read_results(folder)
    return main_table(results)
