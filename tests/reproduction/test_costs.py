"""Cost of stored runs, by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from reproduction.config import Preset
from reproduction.report.costs import (
    cost_of_runs,
    cost_rows,
    cost_table,
    energy_rows,
    projection_rows,
)
from reproduction.report.results import stored_results
from reproduction.runs.tables import Results


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


@pytest.mark.parametrize("preset", ["hippocampus", "phantoms"])
def test_stored_results_have_plausible_costs(preset):
    stored = stored_results()[preset]
    runs = cost_of_runs(stored)
    assert len(runs) == len(stored.provenance["runs"])
    assert (runs["wall_s"] > 1).all() and (runs["memory_mib"] > 100).all()
    assert runs["share"].dropna().between(0.2, 1).all()


def test_rows_of_the_page():
    table = cost_table({"mine": results({}, {"cpu_s": 18.0}), "old": results({"cpu_s": None})})
    rows = {row[0]: row[1:] for row in cost_rows(table)}
    assert rows["trainings"] == ["2", "1"] and rows["parameters of the network"] == ["1,234", "1,234"]
    assert rows["processor time, s a training"] == ["27 (18 to 36)", "not recorded"]
    assert rows["processor time, ms a step"] == ["3,000.0 (2,000.0 to 4,000.0)", "not recorded"]
    assert rows["processor time of all, core hours"] == ["0.01", "not recorded"]
    assert rows["part of it in the training loop"] == ["75 %", "75 %"]
    assert rows["machine"] == ["Processor, 2 cores"] * 2 and rows["arithmetic"] == ["bfloat16"] * 2


def test_energy_is_watts_times_core_hours():
    table = cost_table({"mine": results({"cpu_s": 7200.0}), "old": results({"cpu_s": None})})
    assert energy_rows(table, (5, 10)) == [
        ["5 W a core", "10 Wh", "not recorded"],
        ["10 W a core", "20 Wh", "not recorded"],
    ]


def test_rows_of_a_projection():
    plan = Preset.load("paper")
    timed = pd.DataFrame([{"input": "2 threads, batch of 1", "ms": 100.0, "peer": "plain", "peer_ms": 300.0}])
    rows = projection_rows(plan, timed, 120 * 32_000)
    # 106.7 hours at .1 s.
    assert rows == [
        ["2 threads", "as the preset `paper` does it", "100", "0.9", "4.4"],
        ["2 threads", "plain", "300", "2.7", "13.3"],
    ]
