"""Tests of evaluation: a network whose maps are known by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import tiny
from noisyseg.noise import GaussianDeformation
from reproduction.data.cases import Case
from reproduction.network.training import Trainer
from reproduction.scoring.evaluation import fold_curve, score_cases
from reproduction.scoring.rules import CONSTANTS, GRID, fold_threshold, rankseg_version

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
    maps = [pile(0.9, 0.5, 0.1), pile(0.3, 0.2, 0.1)]
    test = cases(*maps, labels=[pile(1, 0, 0), pile(1, 1, 0)])
    rows, facts = score_cases(CONFIG, model, test, [pile(1, 1, 0), pile(1, 0, 0)], maps)
    assert facts == {"threshold": 0.4, "train_dice": 1.0, "rankseg": rankseg_version()}
    table = pd.DataFrame(rows).set_index(["case", "method"])
    assert [row["method"] for row in rows] == [
        "CE(0)",
        "CE(*)",
        "CE(fold)",
        *RANK,
        "CE(oracle)",
        "CONST(0)",
        "CONST(*)",
    ] * 2
    first, second = table.loc["case-0"], table.loc["case-1"]
    assert first["soft_volume"].tolist() == pytest.approx([1.5] * (len(first) - 2) + [2.0] * 2), (
        "of q for constant shapes"
    )
    assert first.loc["CE(fold)", ["threshold", "volume", "dice_noisy", "dice_clean"]].tolist() == [0.4, 2, 1.0, 2 / 3]
    assert second.loc["CE(fold)", ["volume", "dice_noisy"]].tolist() == [0, 0.0], "the fold's, whatever the image"
    assert second.loc["CE(oracle)", ["threshold", "dice_noisy"]].tolist() == pytest.approx([0.3, 1.0])
    assert (table["ceiling"] == 1.0).all() and (table["ceiling_mc"] == 1.0).all(), "a = 0"
    assert (table["organ"] == "hippocampus").all() and (table["fold"] == 0).all() and (table["a"] == 0.0).all()
    # Voxels of 2 mm: the mask .9, .5 is the noisy label; .3, .2 at t = .24 has its first voxel; CE(0) has none there.
    assert first.loc[["CE(0)", "CE(*)"], "surface_noisy"].tolist() == [0.0, 0.0]
    assert np.isnan(second.loc["CE(0)", "surface_noisy"]) and second.loc["CE(*)", "surface_noisy"] == pytest.approx(
        2 / 3
    )
    assert np.isnan(first.loc["CE(fold)", "surface_noisy"]) and not np.isnan(first.loc["CONST(0)", "surface_noisy"])


def test_the_constant_shapes_are_made_of_the_training_labels_alone():
    """q = 1/3, 1/3, 1/3, 0: none is 1/2; the best has the three, D = 2 * 1 / (3 + 1) and t = 1/4."""
    labels = [pile(1, 0, 0, 0), pile(0, 1, 0, 0), pile(0, 0, 1, 0)]
    model = trainer([(pile(0.9, 0.9, 0.9, 0.9), label) for label in labels])
    q_half = {"threshold": 0.5, "volume": 0, "dice_noisy": 0.0}
    q_star = {"threshold": 0.25, "volume": 3, "dice_noisy": 1.0}
    maps = [pile(0, 0, 0, 0), pile(1, 0, 1, 1)]
    rows, _ = score_cases(CONFIG, model, cases(*maps, labels=[pile(1, 1, 1, 0)] * 2), [pile(1, 1, 1, 0)] * 2, maps)
    for row in rows:
        if row["method"] in CONSTANTS:
            expected = q_half if row["method"] == "CONST(0)" else q_star
            assert {name: row[name] for name in expected} == pytest.approx(expected)
    sd = tiny.small_config(a=0.0, loss="sd")
    rows, _ = score_cases(
        sd, trainer([(maps[0], labels[0])], sd), cases(maps[1], labels=[labels[0]]), labels[:1], maps[1:]
    )
    assert not {row["method"] for row in rows} & set(CONSTANTS), "once for the two losses"


def test_soft_dice_has_a_threshold_of_the_fold_too():
    config = tiny.small_config(a=0.0, loss="sd")
    model = trainer([(pile(0.99, 0.6, 0.0), pile(1, 0, 0))], config)
    maps = [pile(0.9, 0.7, 0.1)]
    rows, facts = score_cases(config, model, cases(*maps, labels=[pile(1, 0, 0)]), [pile(1, 0, 0)], maps)
    assert facts["threshold"] == 0.795, "the middle of .601, …, .990 (the lower of two)"
    assert [(row["method"], row["dice_noisy"]) for row in rows] == [
        ("SD(0)", 2 / 3),
        ("SD(fold)", 1.0),
        ("SD(oracle)", 1.0),
    ]


def test_without_rankseg_its_rows_are_absent(monkeypatch):
    monkeypatch.setattr("reproduction.scoring.evaluation.rankseg_version", lambda: None)
    maps = [pile(0.9, 0.5, 0.1)]
    model = trainer([(pile(0.8, 0.6, 0.2), pile(1, 1, 0))])
    rows, facts = score_cases(CONFIG, model, cases(*maps, labels=[pile(1, 0, 0)]), [pile(1, 1, 0)], maps)
    assert [row["method"] for row in rows] == ["CE(0)", "CE(*)", "CE(fold)", "CE(oracle)", *CONSTANTS]
    assert facts["rankseg"] is None


def test_label_and_marginal_of_a_case_are_made_once(monkeypatch):
    made: list[str] = []

    def count(name: str) -> None:
        original = getattr(GaussianDeformation, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            made.append(name)
            return original(*arguments, **named)

        monkeypatch.setattr(GaussianDeformation, name, counted)

    count("marginal")
    count("sample")
    config = tiny.small_config(a=0.02)
    maps = [np.full((8, 8, 8), 0.3, np.float32)] * 2
    label = np.pad(np.ones((4, 4, 4)), 2)
    model = trainer([(maps[0], label)], config)
    score_cases(config, model, cases(*maps, labels=[label] * 2), [label] * 2, maps)
    assert made == ["marginal", "sample"] * 2, "sample: those of the ceiling, all at once"
    assert model.sizes == [1], "the map of the training case; those of the test cases are given"
