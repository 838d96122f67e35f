"""Tests of further: one threshold from the training maps of a network whose maps are known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import tiny
from noisyseg.noise import GaussianDeformation
from reproduction.data.cases import Case
from reproduction.network.training import Trainer
from reproduction.paths import read_json
from reproduction.scoring.further import fold_curve, read_further, score_further_run, write_further
from reproduction.scoring.rules import GRID, fold_threshold, rankseg_version
from reproduction.scoring.scores import score_case

CONFIG = tiny.small_config(a=0.0)
RANK = ["CE(rank)", "CE(rank BA)"] if rankseg_version() else []


class Identity(Trainer):
    """A trainer whose network gives its image back as the map; it counts how many maps are made at a time."""

    def __post_init__(self) -> None:
        self.sizes: list[int] = []

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        return images[:, 0].float()


def pile(*values: Any) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None, None]


def trainer(pairs: list[tuple[np.ndarray, np.ndarray]], config=CONFIG) -> Identity:
    images = torch.from_numpy(np.stack([c for c, _ in pairs]))[:, None]
    labels = torch.from_numpy(np.stack([label for _, label in pairs]).astype(np.uint8))[:, None]
    return Identity(config, images, labels, torch.device("cpu"))


def cases(*maps: np.ndarray, labels: list[np.ndarray]) -> list[Case]:
    pairs = zip(maps, labels, strict=True)
    return [
        Case(f"case-{k}", c.astype(np.float32), label.astype(np.uint8), np.full(3, 2.0))
        for k, (c, label) in enumerate(pairs)
    ]


def scored(test: list[Case], noisy: list[np.ndarray], config=CONFIG) -> pd.DataFrame:
    """What cases.csv holds of them."""
    noise = GaussianDeformation(config.a, config.b)
    rows = []
    for case, label in zip(test, noisy, strict=True):
        for row in score_case(case.image, config.loss, label, case.label, noise.marginal(case.label)):
            rows.append({"case": case.id, **row, "ceiling": 0.75, "ceiling_mc": 0.5})
    return pd.DataFrame(rows)


# ---- the curve ----


def test_the_mean_over_training_cases_against_their_own_labels():
    """Case 1 is best up to .8, case 2 up to .4 (above it its mask is empty): the mean is 1 from .201 to .400."""
    pairs = [(pile(0.8, 0.2, 0.2), pile(1, 0, 0)), (pile(0.4, 0.2, 0.1), pile(1, 0, 0))]
    curve = fold_curve(trainer(pairs))
    assert curve.shape == GRID.shape
    assert curve[[200, 399, 400, 799]] == pytest.approx([1, 1, 0.5, 0.5])
    assert curve[0] == pytest.approx(0.5), "all three voxels: 2/(3 + 1)"
    assert fold_threshold(curve) == 0.3


def test_few_maps_are_in_memory_at_a_time():
    model = trainer([(pile(0.8, 0.2), pile(1, 0))] * 37)
    assert fold_curve(model).max() == 1.0
    assert sum(model.sizes) == 37 and max(model.sizes) <= 16


# ---- rows and facts ----


def test_a_run_by_hand():
    model = trainer([(pile(0.8, 0.6, 0.2), pile(1, 1, 0))])
    test = cases(pile(0.9, 0.5, 0.1), pile(0.3, 0.2, 0.1), labels=[pile(1, 0, 0), pile(1, 1, 0)])
    noisy = [pile(1, 1, 0), pile(1, 0, 0)]
    rows, facts = score_further_run(CONFIG, model, test, noisy, scored(test, noisy))
    assert facts == {"threshold": 0.4, "train_dice": 1.0, "rankseg": rankseg_version(), "apart": 0.0}
    table = pd.DataFrame(rows).set_index(["case", "method"])
    assert [row["method"] for row in rows] == ["CE(fold)", *RANK, "CE(oracle)"] * 2
    first, second = table.loc["case-0"], table.loc["case-1"]
    assert first.loc["CE(fold)", ["threshold", "volume", "dice_noisy", "dice_clean"]].tolist() == [0.4, 2, 1.0, 2 / 3]
    assert second.loc["CE(fold)", ["volume", "dice_noisy"]].tolist() == [0, 0.0], "the fold's, whatever the image"
    assert second.loc["CE(oracle)", ["threshold", "dice_noisy"]].tolist() == pytest.approx([0.3, 1.0])
    assert (table["ceiling"] == 0.75).all() and (table["ceiling_mc"] == 0.5).all(), "taken from cases.csv"
    assert (table["organ"] == "hippocampus").all() and (table["fold"] == 0).all() and (table["a"] == 0.0).all()


def test_soft_dice_has_one_further_rule():
    config = tiny.small_config(a=0.0, loss="sd")
    model = trainer([(pile(0.99, 0.6, 0.0), pile(1, 0, 0))], config)
    test = cases(pile(0.9, 0.7, 0.1), labels=[pile(1, 0, 0)])
    noisy = [pile(1, 0, 0)]
    rows, facts = score_further_run(config, model, test, noisy, scored(test, noisy, config))
    assert facts["threshold"] == 0.795, "the middle of .601, …, .990 (the lower of two)"
    assert [(row["method"], row["dice_noisy"]) for row in rows] == [("SD(fold)", 1.0)]


def test_without_rankseg_its_rows_are_absent(monkeypatch):
    monkeypatch.setattr("reproduction.scoring.further.rankseg_version", lambda: None)
    test = cases(pile(0.9, 0.5, 0.1), labels=[pile(1, 0, 0)])
    model = trainer([(pile(0.8, 0.6, 0.2), pile(1, 1, 0))])
    rows, facts = score_further_run(CONFIG, model, test, [pile(1, 1, 0)], scored(test, [pile(1, 1, 0)]))
    assert [row["method"] for row in rows] == ["CE(fold)", "CE(oracle)"] and facts["rankseg"] is None


def test_maps_that_are_not_those_that_were_scored_are_refused():
    test = cases(pile(0.9, 0.5, 0.1), pile(0.9, 0.5, 0.1), labels=[pile(1, 0, 0)] * 2)
    noisy, model = [pile(1, 1, 0)] * 2, trainer([(pile(0.8, 0.6, 0.2), pile(1, 1, 0))])
    good = scored(test, noisy)
    near = good.assign(dice_noisy=good["dice_noisy"] + [0.002, 0, 0, 0])
    assert score_further_run(CONFIG, model, test, noisy, near)[1]["apart"] == pytest.approx(0.002)
    far = good.assign(dice_noisy=good["dice_noisy"] + [0.02, 0, 0, 0])
    message = r"^hippocampus-a0\.000-ce-fold0-unet: the maps made here are not those that were scored: .* 0\.0050 off"
    with pytest.raises(ValueError, match=message):
        score_further_run(CONFIG, model, test, noisy, far)
    with pytest.raises(ValueError, match=r"cases\.csv has no score of CE\(0\) on case-1"):
        score_further_run(CONFIG, model, test, noisy, good[good["case"] == "case-0"])


# ---- files ----


FACTS = {"threshold": 0.4, "train_dice": 0.9, "rankseg": "0.0.8", "apart": 0.0}


def test_files_say_whose_they_are(tmp_path):
    assert read_further(tmp_path, CONFIG, "d" * 64) is None
    write_further(tmp_path, CONFIG, "d" * 64, [{"case": "x", "dice_noisy": 1 / 3}], FACTS)
    assert {path.name for path in tmp_path.iterdir()} == {"further.csv", "further.json"}
    assert read_further(tmp_path, CONFIG, "d" * 64) == {"config_hash": CONFIG.hash, "data_digest": "d" * 64, **FACTS}
    assert read_further(tmp_path, CONFIG, "e" * 64) is None
    assert read_further(tmp_path, tiny.small_config(a=0.01), "d" * 64) is None
    assert (tmp_path / "further.csv").read_text() == "case,dice_noisy\nx,0.3333333333333333\n"


def test_a_table_without_its_facts_does_not_count(tmp_path, monkeypatch):
    """Killed between the two files, also where there had been older ones: nothing mixed is ever read."""
    write_further(tmp_path, CONFIG, "d" * 64, [{"case": "x"}], FACTS)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reproduction.scoring.further.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        write_further(tmp_path, CONFIG, "d" * 64, [{"case": "y"}], FACTS)
    assert "y" in (tmp_path / "further.csv").read_text()
    assert read_further(tmp_path, CONFIG, "d" * 64) is None


def test_damaged_facts_are_named(tmp_path):
    (tmp_path / "further.json").write_text("{")
    with pytest.raises(ValueError, match=r"further\.json is not valid JSON"):
        read_further(tmp_path, CONFIG, "d" * 64)


def test_of_a_real_run_the_files_are_there_and_fit(tmp_path):
    """What `execute` leaves, from the checkpoint's own maps: more is in test_run.py."""
    from reproduction.runs.run import execute

    config = tiny.small_config(epochs=1)
    tiny.make_data(tmp_path / "data")
    metrics = execute(config, tmp_path / "run", tmp_path / "data", report=lambda line: None)
    facts = read_json(Path(tmp_path, "run", "further.json"))
    assert read_further(tmp_path / "run", config, metrics["data_digest"]) == facts
    assert facts["apart"] == 0.0 and facts["threshold"] in GRID
    table = pd.read_csv(tmp_path / "run" / "further.csv")
    assert list(table) == list(pd.read_csv(tmp_path / "run" / "cases.csv"))
    assert set(table.loc[table["method"] == "CE(fold)", "threshold"]) == {facts["threshold"]}
