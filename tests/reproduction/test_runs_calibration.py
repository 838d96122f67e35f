"""Runs scored again with calibrated maps: by hand, and through the command."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import tiny
from noisyseg import dice, optimal_dice
from noisyseg.calibration import KINDS, fit
from reproduction.__main__ import main
from reproduction.data.cases import CaseSet
from reproduction.network.pairs import load_test_cases
from reproduction.runs import run as experiment
from reproduction.runs.calibration import (
    COLUMNS,
    COUNTS,
    NONE,
    TEST,
    TRAIN,
    collect_calibrations,
    read_calibrations,
    reliability,
    score_calibrations,
)

CONFIG = tiny.small_config(a=0.0)


def stand_in(rng: np.random.Generator, train: int = 20, test: int = 6) -> Any:
    """A run whose network gives its image back: maps that are too sure, the labels of the calibrated ones."""
    c = rng.random((train + test, 6, 6, 6)) ** 3
    labels = (rng.random(c.shape) < c).astype(np.uint8)
    sure = (1 / (1 + ((1 - c) / c) ** 3)).astype(np.float32)
    trainer = SimpleNamespace(
        images=torch.from_numpy(sure[:train])[:, None],
        labels=torch.from_numpy(labels[:train])[:, None],
        probabilities=lambda images: images[:, 0],
    )
    return SimpleNamespace(
        config=CONFIG, trainer=trainer, noisy=list(labels[train:]), predict=lambda: sure[train:], cases=None
    )


def test_a_run_is_scored_as_by_hand():
    run = stand_in(np.random.default_rng(0))
    table = pd.DataFrame(score_calibrations(run, list(run.predict())))
    assert table["calibration"].tolist() == [NONE, *(kind for kind in KINDS for _ in range(2))]
    assert table["fitted_on"].tolist() == ["", *[TRAIN, TEST] * 3]
    assert set(table["cases"]) == {6} and set(table["organ"]) == {CONFIG.organ}
    maps, labels = run.predict(), run.noisy
    first = table.iloc[0]
    assert first["dice_half"] == pytest.approx(np.mean([dice(c >= 0.5, x) for c, x in zip(maps, labels, strict=True)]))
    beta = fit(run.trainer.images[:, 0].numpy(), run.trainer.labels[:, 0].numpy(), "beta")
    expected = np.mean([dice(optimal_dice(beta(c)), x) for c, x in zip(maps, labels, strict=True)])
    rows = table.set_index(["calibration", "fitted_on"])
    assert rows.loc[("beta", TRAIN), "dice_t"] == pytest.approx(expected, abs=1e-12)
    halves = [fit(maps[part], labels[part], "isotonic") for part in (slice(3, None), slice(0, 3))]
    scored = [dice(optimal_dice(halves[k // 3](c)), x) for k, (c, x) in enumerate(zip(maps, labels, strict=True))]
    assert rows.loc[("isotonic", TEST), "dice_t"] == pytest.approx(np.mean(scored), abs=1e-12)
    assert rows.loc[("temperature", TRAIN), "dice_t"] > first["dice_t"], "the maps were too sure of themselves"
    assert rows.loc[("temperature", TRAIN), "error"] < first["error"]


def test_bins_of_the_maps_by_hand():
    c = np.array([0.0005, 0.25, 0.25, 0.95, 0.97, 1.0])
    run: Any = SimpleNamespace(config=CONFIG, noisy=[np.array([0, 1, 0, 1, 1, 0])])
    found = pd.DataFrame(reliability(run, [c])).query("voxels > 0")
    assert found["voxels"].tolist() == [1, 2, 2, 1] and found["foreground"].tolist() == [0, 1, 2, 0]
    assert found["soft_volume"].tolist() == pytest.approx([0.0005, 0.5, 1.92, 1.0], abs=1e-3)
    assert found["bin"].is_monotonic_increasing and set(found["organ"]) == {CONFIG.organ}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    tiny.make_data(folder / "data")
    grid = {"a": [0.0], "fold": [0, 1]}
    preset = tiny.make_preset(folder / "few.yaml", grid, **tiny.SMALL)
    for config in preset.runs():
        experiment.execute(config, folder / "runs" / "few" / config.folder, folder / "data", report=lambda line: None)
    return folder, preset


@pytest.mark.slow
def test_the_command_writes_a_table_and_changes_no_run(finished, capsys, tmp_path):
    folder, preset = finished
    before = {path: path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()}
    command = ["calibration", "--preset", str(folder / "few.yaml"), "--runs", str(folder / "runs")]
    assert main([*command, "--data", str(folder / "data"), "--out", str(tmp_path)]) == 0
    assert str(tmp_path / "calibration.csv") in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()} == before
    bins = pd.read_csv(tmp_path / "reliability.csv")
    assert len(bins) == 15 * 2 and list(bins.columns) == ["organ", "a", "loss", "bin", *COUNTS]
    voxels = sum(
        case.label.size
        for config in preset.runs()
        for case in load_test_cases(config, CaseSet(folder / "data" / config.data_folder))
    )
    assert bins["voxels"].sum() == voxels
    table = read_calibrations(tmp_path)
    assert len(table) == 7 * len(preset.runs()) and not table[list(COLUMNS)].isna().any().any()
    # The maps as they are have the scores of the run itself.
    for config in preset.runs():
        cases = pd.read_csv(folder / "runs" / "few" / config.folder / "cases.csv").groupby("method")["dice_noisy"]
        rows = table[(table["loss"] == config.loss) & (table["fold"] == config.fold) & (table["calibration"] == NONE)]
        half = "CE(0)" if config.loss == "ce" else "SD(0)"
        assert rows["dice_half"].item() == pytest.approx(cases.mean()[half], abs=1e-6)
        if config.loss == "ce":
            assert rows["dice_t"].item() == pytest.approx(cases.mean()["CE(*)"], abs=1e-6)


@pytest.mark.slow
def test_a_run_that_is_not_finished_is_named(finished, tmp_path):
    folder, preset = finished
    with pytest.raises(ValueError, match=rf"{preset.runs()[0].name} is not finished.*metrics\.json"):
        collect_calibrations(preset, tmp_path, folder / "data")
