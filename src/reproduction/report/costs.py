"""What the stored runs cost: time, memory, and what energy depends on (chapter *Time, memory and energy*)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from reproduction.config import Preset
from reproduction.runs.tables import Results

UNKNOWN = "not recorded"
#: Name, column, digits and unit of a row; without a unit the column is a median that has its extremes.
ROWS = (
    ("trainings", "trainings", 0, ""),
    ("parameters of the network", "parameters", 0, ""),
    ("processor time, s a training", "run_s", 0, None),
    ("processor time, ms a step", "step_ms", 1, None),
    ("processor time of all, core hours", "core_hours", 2, ""),
    ("by the clock, all trainings added up, h", "clock_hours", 2, ""),
    ("part of it in the training loop", "share", 0, " %"),
    ("largest memory, MiB", "memory_mib", 0, ""),
)


def cost_of_runs(results: Results) -> pd.DataFrame:
    """One row a training: what its provenance says of its cost.

    Returns
    -------
    DataFrame
        ``run``; ``steps`` of the optimiser; ``busy_s``, processor seconds of its process from the first case read to
        the last score written, without the start of Python; ``wall_s``, the same by the clock, whatever else the
        machine did; ``share``, of ``wall_s`` that was training; ``memory_mib``, the largest resident memory;
        ``precision`` and ``device``. ``busy_s`` and ``steps`` are NaN for runs from before they were recorded.

    Examples
    --------
    >>> from reproduction.report.results import stored_results
    >>> cost_of_runs(stored_results()["phantoms"]).loc[0, ["run", "device"]].tolist()
    ['kidney-a0.000-ce-fold0-unet', 'cpu']
    """
    config = results.provenance["config"]
    rows = []
    for run in results.provenance["runs"]:
        # Runs from before wall_s counted all processes of a resumed run: it may lack what training_s has.
        share = run["training_s"] / run["wall_s"]
        steps = np.ceil(run.get("train_cases", math.nan) / config["batch_size"])
        rows.append(
            {
                "run": run["run"],
                "steps": config["epochs"] * steps,
                "busy_s": run.get("cpu_s", math.nan),
                "wall_s": run["wall_s"],
                "share": share if share <= 1 else math.nan,
                "memory_mib": run["peak_memory_mib"],
                "precision": run["precision"],
                "device": run["device"],
            }
        )
    return pd.DataFrame(rows)


def cost_table(results: Mapping[str, Results]) -> pd.DataFrame:
    """One row a preset: sums, medians and extremes of :func:`cost_of_runs`.

    ``core_hours`` is the sum of the processor seconds of all trainings in hours. With P watts for each busy core, its
    share of memory, power supply and cooling included, the trainings took ``core_hours`` times P watt hours. It is NaN
    where a training has no processor seconds. ``run_s`` and ``step_ms`` are medians over the trainings that have them,
    ``recorded`` of all.

    Examples
    --------
    >>> from reproduction.report.results import stored_results
    >>> cost_table(stored_results()).set_index("preset").loc["phantoms", "trainings"]
    np.int64(120)
    """
    rows = []
    for preset, result in results.items():
        runs: Any = cost_of_runs(result)
        facts = result.provenance
        row: dict[str, Any] = {"preset": preset, "trainings": len(runs), "parameters": facts["parameters"]}
        row["recorded"] = int(runs["busy_s"].notna().sum())
        row["core_hours"] = runs["busy_s"].sum(skipna=False) / 3600
        row["clock_hours"] = runs["wall_s"].sum() / 3600
        for name, values in (("run_s", runs["busy_s"]), ("step_ms", 1000 * runs["busy_s"] / runs["steps"])):
            row[name], row[f"{name}_min"], row[f"{name}_max"] = values.median(), values.min(), values.max()
        row["share"] = runs["share"].median()
        row["memory_mib"] = runs["memory_mib"].max()
        row["precision"] = ", ".join(sorted(set(runs["precision"])))
        machine = facts["machine"]
        on_gpu = any(str(device).startswith("cuda") for device in runs["device"])
        row["device"] = machine["gpu"] if on_gpu else f"{machine['cpu']}, {machine['cores']} cores"
        rows.append(row)
    return pd.DataFrame(rows)


def number(x: float, digits: int = 0, unit: str = "") -> str:
    """Format a number with its unit; NaN is what was not recorded.

    Examples
    --------
    >>> number(1234.5, 1, " s"), number(math.nan)
    ('1,234.5 s', 'not recorded')
    """
    return UNKNOWN if math.isnan(x) else f"{x:,.{digits}f}{unit}"


def cost_rows(costs: pd.DataFrame) -> list[list[str]]:
    """Lay out :func:`cost_table`: a column for each preset; medians have their extremes in brackets."""
    presets: list[Any] = costs.to_dict("records")
    rows = []
    for name, column, digits, unit in ROWS:
        rows.append([name, *(_cell(row, column, digits, unit) for row in presets)])
    for name, column in (("arithmetic", "precision"), ("machine", "device")):
        rows.append([name, *(row[column] for row in presets)])
    return rows


def _cell(row: Mapping[str, Any], column: str, digits: int, unit: str | None) -> str:
    if unit is None:
        ends = [number(row[f"{column}{end}"], digits) for end in ("", "_min", "_max")]
        return UNKNOWN if ends[0] == UNKNOWN else "{} ({} to {})".format(*ends)
    return number(100 * row[column] if unit == " %" else row[column], digits, unit)


def energy_rows(costs: pd.DataFrame, watts: Iterable[float] = (5, 10, 20)) -> list[list[str]]:
    """Lay out the energy of all trainings of each preset, for watts that a busy core may take."""
    return [[f"{p} W a core", *(number(p * hours, 0, " Wh") for hours in costs["core_hours"])] for p in watts]


def projection_rows(plan: Preset, timed: pd.DataFrame, steps: int) -> list[list[str]]:
    """Lay out what a preset would take, one training after the other, by the steps of a benchmark.

    Parameters
    ----------
    plan
        The preset.
    timed
        Rows of ``results/benchmarks/speed.csv``: ``input`` ("1 thread, batch of 1"), ``ms``, ``peer``, ``peer_ms``.
    steps
        Of all trainings of the preset together.
    """
    rows = []
    for row in timed.to_dict("records"):
        for name, ms in ((f"as the preset `{plan.name}` does it", row["ms"]), (row["peer"], row["peer_ms"])):
            hours = steps * ms / 3_600_000
            each = number(hours / len(plan.runs()), 1)
            rows.append([row["input"].split(",")[0], name, number(ms), each, number(hours / 24, 1)])
    return rows
