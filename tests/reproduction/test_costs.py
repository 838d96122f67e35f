"""Cost of stored runs, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from reproduction.config import Preset
from reproduction.report.costs import cost_of_runs, cost_table, plot_costs, projected_hours
from reproduction.runs.tables import Results, load_results


def results(*runs: dict, epochs: int = 3, batch_size: int = 4, gpu: str | None = None) -> Results:
    """Tables whose provenance has these runs."""
    known = {"run": "one", "training_s": 30.0, "wall_s": 40.0, "cpu_s": 36.0, "train_cases": 9}
    known |= {"peak_memory_mib": 500.0, "precision": "bfloat16", "device": "cpu"}
    made = [{k: v for k, v in {**known, **run}.items() if v is not None} for run in runs]
    facts = {
        "config": {"epochs": epochs, "batch_size": batch_size},
        "runs": made,
        "parameters": 1234,
        "machine": {"cpu": "Processor", "cores": 2, "gpu": gpu},
    }
    none = pd.DataFrame()
    return Results(none, none, none, none, facts)


def test_a_training_by_hand():
    row = cost_of_runs(results({})).iloc[0]
    # 9 cases in batches of 4 are 3 steps an epoch, and there are 3 epochs.
    assert row["steps"] == 9 and row["busy_s"] == 36 and row["wall_s"] == 40
    assert row["share"] == 0.75 and row["memory_mib"] == 500
    assert row["precision"] == "bfloat16" and row["device"] == "cpu"


def test_a_resumed_training_has_no_share():
    # The clock of the last process, 10 s, is shorter than the training of all of them.
    table = cost_of_runs(results({"wall_s": 10.0}, {}))
    assert math.isnan(table.loc[0, "share"]) and table.loc[1, "share"] == 0.75


def test_sums_medians_and_extremes_by_hand():
    runs = [{"cpu_s": 36.0, "peak_memory_mib": 500.0}, {"cpu_s": 18.0}, {"cpu_s": 54.0, "precision": "float32"}]
    row = cost_table({"mine": results(*runs)}).iloc[0]
    assert row["trainings"] == 3 and row["parameters"] == 1234
    assert row["core_hours"] == pytest.approx(108 / 3600) and row["clock_hours"] == pytest.approx(120 / 3600)
    assert [row["run_s_min"], row["run_s"], row["run_s_max"]] == [18, 36, 54]
    assert [row["step_ms_min"], row["step_ms"], row["step_ms_max"]] == [2000, 4000, 6000]
    assert row["memory_mib"] == 500 and row["precision"] == "bfloat16, float32"
    assert row["device"] == "Processor, 2 cores"


def test_one_training_without_processor_seconds_leaves_the_sum_unknown():
    row = cost_table({"mine": results({}, {"cpu_s": None})}).iloc[0]
    assert math.isnan(row["core_hours"]) and row["recorded"] == 1
    assert row["run_s"] == 36 and row["step_ms_max"] == 4000
    assert row["clock_hours"] == pytest.approx(80 / 3600)


def test_nothing_recorded_is_nothing_known():
    row = cost_table({"mine": results({"cpu_s": None})}).iloc[0]
    assert row["recorded"] == 0 and all(math.isnan(row[name]) for name in ("core_hours", "run_s", "step_ms_min"))


def test_a_gpu_is_named_where_runs_used_it():
    assert cost_table({"mine": results({"device": "cuda:0"}, gpu="A GPU")})["device"].tolist() == ["A GPU"]
    assert cost_table({"mine": results({}, gpu="A GPU")})["device"].tolist() == ["Processor, 2 cores"]


@pytest.mark.parametrize("preset", ["hippocampus", "quick"])
def test_stored_results_have_plausible_costs(preset):
    runs = cost_of_runs(load_results(preset))
    assert len(runs) == len(load_results(preset).provenance["runs"])
    assert (runs["wall_s"] > 1).all() and (runs["memory_mib"] > 100).all()
    assert runs["share"].dropna().between(0.2, 1).all()


def test_projection_by_hand():
    preset = Preset.load("quick")
    cases = {"kidney": 80, "aorta": 40, "oesophagus": 20}
    # Eight trainings an organ of 15 epochs each, one case a step.
    steps = 8 * 15 * (80 + 40 + 20)
    assert projected_hours(preset, 0.5, cases) == pytest.approx(steps * 0.5 / 3600)
    assert projected_hours(preset, 1.0, cases) == pytest.approx(2 * projected_hours(preset, 0.5, cases))
    batches = replace(preset, values={**preset.values, "batch_size": 16})
    assert projected_hours(batches, 0.5, cases) == pytest.approx(8 * 15 * (5 + 3 + 2) * 0.5 / 3600)


@pytest.mark.parametrize("step_s", [0.0, -1.0, math.nan, math.inf])
def test_a_projection_needs_a_step(step_s):
    with pytest.raises(ValueError, match=r"step_s is .*; expected the seconds of a step, above 0"):
        projected_hours(Preset.load("quick"), step_s, {"kidney": 1, "aorta": 1, "oesophagus": 1})


def test_a_projection_needs_the_cases_of_every_organ():
    with pytest.raises(ValueError, match=r"train_cases lacks aorta, oesophagus; expected a number for each organ"):
        projected_hours(Preset.load("quick"), 1.0, {"kidney": 1})


def test_every_training_has_its_mark():
    runs = pd.DataFrame(
        {
            "preset": ["one", "one", "one", "two", "two"],
            "run": [f"aorta-a0.010-{loss}-fold0-unet" for loss in ("ce", "ce", "sd", "sd", "ce")],
            "busy_s": [30.0, 20.0, 40.0, 50.0, math.nan],
        }
    )
    (ax,) = plot_costs(runs).axes
    drawn = {(line.get_label(), *map(float, line.get_xdata())) for line in ax.lines if len(line.get_xdata())}
    assert {points[1:] for points in drawn} == {(20.0, 30.0), (40.0,), (50.0,)}
    assert {points[0] for points in drawn} >= {"cross-entropy", "soft-Dice"}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two"]
    assert all(abs(y - round(y)) < 0.5 for line in ax.lines for y in line.get_ydata()), "a mark is in its preset's row"


def test_marks_need_processor_seconds():
    runs = pd.DataFrame({"preset": ["one"], "run": ["aorta-a0.010-ce-fold0-unet"], "busy_s": [math.nan]})
    with pytest.raises(ValueError, match="runs: found no training with processor seconds"):
        plot_costs(runs)
    with pytest.raises(ValueError, match=r"runs: found columns \['preset', 'run'\]; expected also \['busy_s'\]"):
        plot_costs(runs[["preset", "run"]])
