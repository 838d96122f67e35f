"""Tables of a preset with several models: from small runs to files, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tiny
from noisyseg.metrics import dice
from reproduction.__main__ import main
from reproduction.config import Preset
from reproduction.runs.model_tables import PARTS, PATH_COLUMNS, ModelTables, gather_models, overview, read_models
from reproduction.runs.run import Run, execute
from reproduction.runs.tables import collect_cases, gather

CHANGES = {
    **tiny.SMALL,
    **{"features": [2, 4], "epochs": 3, "select": "last", "prune_from": 0, "prune_to": 2, "prune_channels": 2},
}
GRID = {"loss": ["ce", "sd"], "fold": [0, 1], "model": ["doubling2", "lunet2", "doubling2-l2"]}


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Preset, Path]:
    """A preset of three models, and the folder of its runs."""
    folder = tmp_path_factory.mktemp("models")
    preset = tiny.make_preset(folder / "three.yaml", GRID, **CHANGES)
    for config in preset.runs():
        execute(config, folder / "runs" / preset.name / config.folder, data, report=lambda line: None)
    return preset, folder / "runs"


@pytest.fixture(scope="module")
def tables(done: tuple[Preset, Path]) -> ModelTables:
    preset, runs = done
    return gather_models(preset, runs / preset.name)


def test_every_model_has_the_means_of_its_own_runs(done, tables):
    preset, runs = done
    assert tables.models["model"].drop_duplicates().tolist() == list(preset.grid["model"])
    for model in preset.grid["model"]:
        configs = [config for config in preset.runs() if config.model == model]
        own = collect_cases(preset, configs, runs / preset.name)
        rows = tables.models[tables.models["model"] == model].set_index("method")
        assert set(rows.index) == {"CE(0)", "SD(0)", "CE(*)"}
        for method in rows.index:
            expected = own.loc[own["method"] == method, "dice_noisy"].mean()
            assert rows.loc[method, "dice_noisy"] == pytest.approx(expected, abs=2e-6)
        stored = [json.loads((runs / preset.name / c.folder / "metrics.json").read_text()) for c in configs]
        assert rows["parameters"].unique().tolist() == [np.median([m["parameters"] for m in stored])]
        assert rows["cpu_s"].iloc[0] == pytest.approx(np.median([m["cpu_s"] for m in stored]))
    sizes = tables.models.drop_duplicates("model").set_index("model")["parameters"]
    assert sizes["lunet2"] < sizes["doubling2"] and sizes["doubling2-l2"] < sizes["doubling2"]


def test_cases_have_the_papers_methods_and_one_row_each(tables):
    keys = ["model", "case", "method"]
    assert not tables.cases.duplicated(keys).any() and set(tables.cases["method"]) == {"CE(0)", "SD(0)", "CE(*)"}
    assert len(tables.cases) == 3 * 4 * 3  # models, cases of two folds of ten, methods


def test_paths_are_of_the_pruned_model_alone(done, tables):
    preset, runs = done
    assert list(tables.paths) == list(PATH_COLUMNS)
    assert set(tables.paths["model"]) == {"doubling2-l2"} and len(tables.paths) == 2 * 2 * 3  # losses, folds, epochs
    for _, path in tables.paths.groupby(np.repeat(np.arange(4), 3)):
        assert path["parameters"].is_monotonic_decreasing and path["parameters"].iloc[0] > path["parameters"].iloc[2]
        assert [len(gone.split()) for gone in path["removed"]] == [2, 2, 0]
    configs = [config for config in preset.runs() if config.network.criterion]
    metrics = json.loads((runs / preset.name / configs[0].folder / "metrics.json").read_text())
    assert tables.paths["parameters"].iloc[2] == metrics["parameters"]


def test_the_test_dice_of_the_last_epoch_is_the_runs_score(done, data):
    preset, runs = done
    (config, *_) = [c for c in preset.runs() if c.network.criterion and c.loss == "sd"]
    with Run(config, runs / preset.name / config.folder, data, report=lambda line: None) as run:
        assert run.metrics is not None
        run.load()
        maps = run.predict()
        expected = np.mean([dice(c >= 0.5, label) for c, label in zip(maps, run.noisy, strict=True)])
    assert run.trainer.history[-1]["test_dice"] == pytest.approx(expected, abs=1e-6)
    assert run.metrics["scores"]["SD(0)"] == pytest.approx(expected, abs=1e-6)


def test_the_command_writes_them_and_what_is_read_is_what_was_gathered(done, tables, tmp_path, capsys):
    preset, runs = done
    arguments = ["--preset", str(runs.parent / "three.yaml"), "--runs", str(runs), "--out", str(tmp_path / "three")]
    assert main(["tables", *arguments]) == 0
    capsys.readouterr()
    assert sorted(path.name for path in (tmp_path / "three").iterdir()) == sorted(
        [*(f"{part}.csv" for part in PARTS), "provenance.json"]
    )
    found = read_models(tmp_path / "three")
    for part in PARTS:
        pd.testing.assert_frame_equal(
            getattr(found, part), getattr(tables, part), check_dtype=False, rtol=0, atol=1e-6, check_exact=False
        )
    assert found.provenance["runs"] and len(found.provenance["runs"]) == len(preset.runs())
    assert set(found.provenance["parameters"]) == set(preset.grid["model"])
    shown = overview(tmp_path / "three")
    assert list(shown.columns) == ["CE(0)", "SD(0)", "CE(*)", "parameters"] and len(shown) == 3


def test_a_table_of_one_model_refuses_several(done):
    preset, runs = done
    with pytest.raises(ValueError, match=r"have 3 models, .* among them; expected one"):
        gather(preset, runs / preset.name)


def test_a_missing_run_is_named(done, tmp_path):
    preset, _ = done
    with pytest.raises(ValueError, match=r"of three are missing, the first is hippocampus-a0[.]020-ce-fold0-doubling2"):
        gather_models(preset, tmp_path)
