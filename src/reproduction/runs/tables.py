"""Result tables: from the runs' folders to the few CSV files that the book prints (book chapter *The experiment*).

``results/<preset>/`` holds ``cases.csv`` (a row for every test case and method), ``summary.csv`` (means with
intervals), ``differences.csv`` (paired differences with intervals), ``history.csv`` (training curves) and
``provenance.json``. Tables may lack the methods and columns that came later (other rules, several seeds).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reproduction.config import SEED_AXIS, Preset, RunConfig, is_done
from reproduction.data import hippocampus
from reproduction.paths import atomic_write, read_json, write_json
from reproduction.runs.statistics import QUANTITIES as QUANTITIES
from reproduction.runs.statistics import paired_differences as paired_differences
from reproduction.runs.statistics import summarise as summarise
from reproduction.scoring.rules import CONSTANTS, METHODS, MIXED_RULES, OTHER_RULES

PARTS = ("cases", "summary", "differences", "history")

ALL_METHODS = (*METHODS, *OTHER_RULES, *MIXED_RULES, *CONSTANTS)
LATER = ("ceiling_half", "soft_volume", "surface_noisy", "volume_ceiling")  # columns that earlier runs lack


@dataclass(frozen=True)
class Results:
    """The tables of one preset, as pandas frames, and their provenance."""

    cases: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    history: pd.DataFrame
    provenance: dict[str, Any]


def collect_cases(preset: Preset, configs: Sequence[RunConfig], runs: str | os.PathLike[str]) -> pd.DataFrame:
    """Put the scores of finished runs together, sorted by organ, a, fold, case, method and seed.

    A method is in the table for every organ and a whose runs all have it (runs may lack the package ``rankseg``), and
    so is each column of ``LATER``. There is a column ``training_seed`` where the preset has more than one, and
    ``person`` where a person may have two cases.

    Parameters
    ----------
    preset
        The grid that the runs belong to.
    configs
        Its runs, or those of one cell of the table.
    runs
        Folder of the preset's runs, ``runs/<preset>``.

    Raises
    ------
    FileNotFoundError
        If a run has no scores.
    ValueError
        If the runs are of several models: a table has one.
    """
    folder = Path(runs)
    if models := sorted({config.model for config in configs})[1:]:
        raise ValueError(
            f"the runs of {preset.name} have {len(models) + 1} models, {', '.join(models)} among them; "
            "expected one: see reproduction.runs.model_tables"
        )
    tables = [pd.read_csv(folder / config.folder / "cases.csv") for config in configs]
    # A method that some runs of a cell lack would be compared on other cases than the rest: it is left out.
    complete: dict[tuple[str, float, str], set[str]] = {}
    for config, table in zip(configs, tables, strict=True):
        cell = (config.organ, config.a, config.loss)
        complete[cell] = complete.get(cell, set(ALL_METHODS)) & set(table["method"])
    parts = []
    for config, table in zip(configs, tables, strict=True):
        part = table[table["method"].isin(list(complete[config.organ, config.a, config.loss]))]
        if len(preset.seeds) > 1:
            part.insert(list(part.columns).index("fold") + 1, SEED_AXIS, config.training_seed)
        parts.append(part)
    ranks = {
        "organ": {organ: rank for rank, organ in enumerate(preset.grid["organ"])},
        "method": {method: rank for rank, method in enumerate(ALL_METHODS)},
    }

    def key(column: pd.Series) -> pd.Series:
        return column.map(ranks[str(column.name)]) if column.name in ranks else column

    cases = pd.concat(parts, ignore_index=True)
    common = set.intersection(*(set(table.columns) for table in tables))
    cases = cases.drop(columns=[name for name in LATER if name in cases and name not in common])
    if configs[0].dataset == "hippocampus":
        person = cases["case"].map(hippocampus.person)
        if person.tolist() != cases["case"].tolist():
            cases.insert(list(cases.columns).index("case") + 1, "person", person)
    order = ["organ", "a", "fold", "case", "method", *([SEED_AXIS] if SEED_AXIS in cases else [])]
    return cases.sort_values(order, key=key, ignore_index=True)


def _history(config: RunConfig, folder: Path, axes: tuple[str, ...]) -> pd.DataFrame:
    records = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    table = pd.DataFrame(records, columns=["epoch", "train_loss", "train_dice", "lr"])
    for position, axis in enumerate(axes):
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
    metrics = [read_json(folder / config.folder / "metrics.json") for config in configs]
    digests = {m["data_digest"] for m in metrics}
    if len(digests) > 1:
        raise ValueError(f"the runs of {preset.name} saw {len(digests)} different versions of the data")
    cases = collect_cases(preset, configs, folder).round(
        6
    )  # as they are written: the means can be made from them again
    axes = ("organ", "a", "loss", "fold", *([SEED_AXIS] if len(preset.seeds) > 1 else []))
    history = pd.concat([_history(c, folder / c.folder, axes) for c in configs], ignore_index=True)
    kept = (
        "config_hash",
        "train_cases",
        "test_cases",
        "best_epoch",
        "training_s",
        "wall_s",
        "cpu_s",
        "peak_memory_mib",
        "gpu_memory_mib",
        "precision",
        "device",
    )
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
        "data_version": metrics[0].get("data_version"),
        "config": {**preset.values, "grid": {axis: list(points) for axis, points in preset.grid.items()}},
        # Runs from before there were several seeds do not have theirs in their name.
        "runs": [
            {"run": c.name, **{name: m[name] for name in (*kept, "finished") if name in m}}  # cpu_s came later
            for c, m in zip(configs, metrics, strict=True)
        ],
    }
    rules = [m["rules"] for m in metrics if "rules" in m]  # runs of an earlier version have none
    if rules:
        facts["other_rules"] = {
            "runs": len(rules),
            "rankseg": sorted({chosen["rankseg"] or "not installed" for chosen in rules}),
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


def read_results(folder: str | os.PathLike[str]) -> Results:
    """Read the tables in a folder that ``write_results`` has written.

    Raises
    ------
    FileNotFoundError
        If one of the files is missing: the preset has not been run. The provenance is written last.

    Examples
    --------
    >>> from reproduction.paths import project_root
    >>> sorted(read_results(project_root() / "results" / "hippocampus").summary["a"].unique().tolist())
    [0.0, 0.01, 0.02, 0.03]
    """
    folder = Path(folder)
    frames = {part: pd.read_csv(folder / f"{part}.csv") for part in PARTS}
    provenance = read_json(folder / "provenance.json")
    if "further" in provenance:  # the name that it has in tables of an earlier version
        provenance["other_rules"] = provenance.pop("further")
    return Results(**frames, provenance=provenance)


def main_table(results: Results, score: str = "dice_noisy") -> pd.DataFrame:
    """The paper's Table 1 from our runs: organ and a by method, means over all test cases, with the ceiling.

    Examples
    --------
    >>> from reproduction.paths import project_root
    >>> list(main_table(read_results(project_root() / "results" / "hippocampus")).columns)
    ['CE(0)', 'SD(0)', 'CE(*)', 'ceiling']
    """
    wide = results.summary.pivot(index=["organ", "a"], columns="method", values=score)
    top = results.summary.drop_duplicates(["organ", "a"]).set_index(["organ", "a"])
    columns = [method for method in METHODS if method in wide]  # a preset may have one loss
    table = wide.assign(ceiling=top["ceiling"]).reindex(index=top.index, columns=[*columns, "ceiling"])
    table.columns.name = None
    return table
