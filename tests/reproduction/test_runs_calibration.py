"""Runs scored again with calibrated maps: by hand, through the command, and as the chapter shows them."""

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
from reproduction.report import calibration as page
from reproduction.runs import run as experiment
from reproduction.runs.calibration import (
    COLUMNS,
    NONE,
    TEST,
    TRAIN,
    collect_calibrations,
    gap,
    read_calibrations,
    score_calibrations,
    write_calibrations,
)
from reproduction.scoring.inference import estimate

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
    table = pd.DataFrame(score_calibrations(run))
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


def made_up() -> pd.DataFrame:
    """Two settings of two folds, to be added up by hand: CE(*) is .10 and .02 behind, beta closes half of the first."""
    rows = []
    for a, behind in ((0.0, 0.1), (0.01, -0.02)):
        for fold in (0, 1, 2):
            point = {"organ": "kidney", "a": a, "fold": fold, "model": "unet", "training_seed": 1, "cases": 4}
            rest = {"promised": 0.8, "bias": 0.1, "error": 0.2}
            base = 0.7 + 0.01 * fold
            rows.append({**point, "loss": "sd", "calibration": NONE, "fitted_on": "", "dice_half": base, "dice_t": 0.1})
            for kind in (NONE, *KINDS):
                gain = behind / 2 if kind == "beta" else 0.0
                for on in [""] if kind == NONE else [TRAIN, TEST]:
                    scores = {"dice_half": 0.5, "dice_t": base - behind + gain, **rest}
                    rows.append({**point, "loss": "ce", "calibration": kind, "fitted_on": on, **scores})
    table = pd.DataFrame(rows)
    return table.assign(**{name: table[name].fillna(0.0) for name in COLUMNS})


def test_gaps_and_sentences_by_hand(tmp_path):
    table = made_up()
    write_calibrations(table, tmp_path / "results" / "some")
    found = page.stored_calibrations(tmp_path)
    assert list(found) == ["some"]
    assert gap(found["some"], "beta")["kidney", 0.0] == pytest.approx([-0.05] * 3)
    assert estimate(gap(found["some"], NONE)["kidney", 0.01]).mean == pytest.approx(0.02)
    rows = page.gap_rows(found["some"])
    assert [row[:2] for row in rows] == [["kidney", ".00"], ["kidney", ".01"]]
    assert rows[0][3].startswith("−.100") and rows[0][5].startswith("−.050") and len(rows[0]) == len(page.HEADER)
    said = page.sentences("some", found["some"])
    assert "behind SD(0) in 1 of 2 settings" in said
    assert "After beta calibration 50 % of the gap is closed on average, and 1 stay behind" in said
    assert "After isotonic calibration 0 %" in said.replace("−0 %", "0 %")
    assert "no gap to close" in page.sentences("some", table[table["loss"] == "ce"])
    assert "no gap to close" in page.sentences("some", table[table["a"] > 0])
    assert len(page.promise_rows(table)) == 4 and len(page.promise_rows(table)[0]) == len(page.PROMISE_HEADER)
    figure = page.plot_gaps(found)
    assert len(figure.axes) == 1 and "kidney" in figure.axes[0].get_title()
