"""What the stored runs cost: time, memory, and what energy depends on (book chapter *What it costs*)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction.config import Preset
from reproduction.figures import style
from reproduction.runs.tables import Results


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
    >>> from reproduction.runs.tables import load_results
    >>> cost_of_runs(load_results("quick")).loc[0, ["run", "device"]].tolist()
    ['kidney-a0.000-ce-fold0-unet', 'cpu']
    """
    config = results.provenance["config"]
    rows = []
    for run in results.provenance["runs"]:
        # Runs from before wall_s counted all processes of a resumed run: it may lack what training_s has.
        share = run["training_s"] / run["wall_s"]
        cases = run.get("train_cases", math.nan)
        rows.append(
            {
                "run": run["run"],
                "steps": config["epochs"] * _steps(cases, config["batch_size"]),
                "busy_s": run.get("cpu_s", math.nan),
                "wall_s": run["wall_s"],
                "share": share if share <= 1 else math.nan,
                "memory_mib": run["peak_memory_mib"],
                "precision": run["precision"],
                "device": run["device"],
            }
        )
    return pd.DataFrame(rows)


def _steps(cases: float, batch_size: int) -> float:
    return cases if math.isnan(cases) else math.ceil(cases / batch_size)


def cost_table(results: Mapping[str, Results]) -> pd.DataFrame:
    """One row a preset: sums, medians and extremes of :func:`cost_of_runs`.

    ``core_hours`` is the sum of the processor seconds of all trainings in hours. With P watts for each busy core, its
    share of memory, power supply and cooling included, the trainings took ``core_hours`` times P watt hours. It is NaN
    where a training has no processor seconds. ``run_s`` and ``step_ms`` are medians over the trainings that have them,
    ``recorded`` of all.

    Examples
    --------
    >>> from reproduction.runs.tables import load_results
    >>> list(cost_table({"quick": load_results("quick")})["trainings"])
    [24]
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


def projected_hours(preset: Preset, step_s: float, train_cases: Mapping[str, int]) -> float:
    r"""Hours that the steps of a whole preset take, one after the other, if each takes ``step_s`` seconds.

    .. math:: \frac{s}{3600} \sum_{\text{runs}} \text{epochs} \cdot \lceil \text{cases} / \text{batch} \rceil

    Evaluation, start and noise are not in it.

    Parameters
    ----------
    preset
        The plan.
    step_s
        Seconds a step, as measured.
    train_cases
        Number of training cases of a fold, for each organ.

    Raises
    ------
    ValueError
        If ``step_s`` is not a positive number, or an organ of the preset has no number of cases.

    Examples
    --------
    >>> preset = Preset.load("paper")
    >>> round(projected_hours(preset, 0.1, dict.fromkeys(preset.grid["organ"], 320)), 1)  # 120 runs of 32,000 steps
    106.7
    """
    if not (math.isfinite(step_s) and step_s > 0):
        raise ValueError(f"step_s is {step_s}; expected the seconds of a step, above 0")
    missing = sorted(set(preset.grid["organ"]) - set(train_cases))
    if missing:
        raise ValueError(f"train_cases lacks {', '.join(missing)}; expected a number for each organ of {preset.name}")
    steps = sum(run.epochs * _steps(train_cases[run.organ], run.batch_size) for run in preset.runs())
    return steps * step_s / 3600


@style.styled
def plot_costs(runs: pd.DataFrame) -> Figure:
    """Draw one mark a training: its processor seconds, a row for each preset, a colour for each loss.

    Parameters
    ----------
    runs : DataFrame
        Columns ``preset, run, busy_s`` as of :func:`cost_of_runs`; trainings without processor seconds are not drawn.

    Returns
    -------
    Figure
        With one axes.

    Raises
    ------
    ValueError
        If a column is missing, or no training has processor seconds.

    Examples
    --------
    >>> table = pd.DataFrame({"preset": "mine", "run": ["aorta-a0.000-ce-fold0-unet"], "busy_s": [20.0]})
    >>> plot_costs(table).axes[0].get_xlabel()
    'processor seconds a training'
    """
    table: Any = style.need("runs", runs, ["preset", "run", "busy_s"])
    table = table[table["busy_s"].notna()]
    if table.empty:
        raise ValueError("runs: found no training with processor seconds")
    presets = list(dict.fromkeys(table["preset"]))
    figure, axes = style.new_figure(7.5, 1.1 + 0.7 * len(presets), 1, 1)
    ax = axes[0, 0]
    for offset, (loss, (name, colour)) in zip((0.17, -0.17), style.LOSSES.items(), strict=True):
        for row, preset in enumerate(presets):
            mine = table[(table["preset"] == preset) & table["run"].str.contains(f"-{loss}-fold")]
            seconds = np.sort(mine["busy_s"].to_numpy(dtype=float))
            # Spread over a little height, so that equal trainings can be told apart.
            height = -row + offset + np.linspace(-0.1, 0.1, len(seconds))[np.argsort(np.arange(len(seconds)) * 7 % 11)]
            ax.plot(seconds, height, "o", ms=4, mec="none", alpha=0.5, color=colour, label=None if row else name)
    ax.set_yticks([-row for row in range(len(presets))], presets)
    ax.set(xlabel="processor seconds a training", ylim=(-len(presets) + 0.5, 0.5))
    ax.set_xlim(0, 1.05 * float(table["busy_s"].max()))
    figure.legend(loc="outside right center")
    return figure
