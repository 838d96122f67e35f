"""Masks to look at: which cases are chosen, which slice is cut, what is drawn, and the command on runs."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import tiny
from noisyseg import GaussianDeformation, dice
from reproduction.__main__ import main
from reproduction.data.cases import CaseSet
from reproduction.figures.panels import METHOD_LOOKS
from reproduction.figures.views import plot_examples
from reproduction.runs import run as experiment
from reproduction.runs.examples import DRAWS, MIDDLE, WORST, Choice, Example, choose, first_with_all, make_example


def test_the_lower_of_two_in_the_middle_and_the_worst_of_the_first_seed():
    row = {"organ": "aorta", "a": 0.01, "fold": 0, "method": "CE(*)"}
    cases = [
        {**row, "case": case, "dice_noisy": score, "fold": fold, "training_seed": seed}
        for seed, scores in ((2, (0.0, 0.9, 0.9, 0.9)), (1, (0.9, 0.2, 0.7, 0.4)))
        for fold, case, score in zip((0, 0, 1, 1), "wxyz", scores, strict=True)
    ]
    table = pd.DataFrame([*cases, {**cases[0], "method": "SD(0)", "training_seed": 1, "dice_noisy": 0.0}])
    assert choose(table) == [Choice("aorta", 0.01, MIDDLE, "z", 1), Choice("aorta", 0.01, WORST, "x", 0)]
    assert choose(table[:0]) == []


def example(which: str = MIDDLE) -> Example:
    label = np.zeros((5, 6, 4), np.uint8)
    label[1:3, 2:4, 1] = 1
    label[1:4, 2:4, 2] = 1  # six voxels: most
    image = np.arange(120, dtype=np.float32).reshape(label.shape)
    masks = {"CE(0)": np.zeros(label.shape, bool), "CE(*)": label.astype(bool), "SD(0)": np.roll(label, 1, 0) > 0}
    return make_example(Choice("aorta", 0.01, which, "c7", 0), image, label, masks)


def test_the_slice_with_most_of_the_label_and_dice_of_the_whole_volume():
    found = example()
    assert (
        found.slice == 2
        and found.label.sum() == 6
        and np.array_equal(found.image, np.arange(120).reshape(5, 6, 4)[..., 2])
    )
    assert found.dice == {"CE(0)": 0.0, "CE(*)": 1.0, "SD(0)": pytest.approx(2 * 6 / 20)}
    assert found.row()["case"] == "c7" and found.row()["slice"] == 2 and found.row()["CE(*)"] == 1.0


def test_each_mask_that_is_not_empty_is_outlined_in_its_colour():
    figure = plot_examples([example(), example(WORST)])
    assert [ax.get_ylabel() for ax in figure.axes] == ["aorta, in the middle", "aorta, worst"]
    for ax in figure.axes:
        outlines = [
            to_hex(c.get_edgecolor()[0]) for c in ax.collections if len(c.get_edgecolor()) and len(c.get_paths())
        ]
        assert [METHOD_LOOKS[name][1].lower() for name in ("CE(*)", "SD(0)")] == [o for o in outlines if o != "#e69f00"]
        assert ax.get_title() == "a = 0.01, c7" and ax.get_xlabel() == "CE(0) .00  CE(*) 1.00  SD(0) .60"
        assert ax.get_xlim() == (-2, 7) and ax.get_ylim() == (-2, 7)  # voxels 1 to 4 and 2 to 3, and 3 more around
        assert np.asarray(ax.images[0].get_array()).shape == (6, 5)
    with pytest.raises(ValueError, match="found none to draw"):
        plot_examples([])


def test_the_first_patient_with_every_organ_is_drawn(tmp_path, capsys):
    tiny.make_data(tmp_path / "data")
    preset = tiny.make_preset(tmp_path / "few.yaml", {"a": [0.0, 0.02], "fold": [0]}, **tiny.SMALL)
    data_set = CaseSet(tmp_path / "data" / preset.runs()[0].data_folder)
    (organ,) = data_set.manifest["organs"]
    found = first_with_all(data_set)
    assert list(found) == [organ] and found[organ].id == next(iter(data_set.entries(organ)))
    data_set.manifest["organs"]["liver"] = {"nobody": {}}
    with pytest.raises(ValueError, match=f"no case with every organ: {organ}, liver"):
        first_with_all(data_set)
    command = ["noise", "--preset", str(tmp_path / "few.yaml"), "--data", str(tmp_path / "data")]
    assert main([*command, "--out", str(tmp_path)]) == 0 and str(tmp_path / "noise.png") in capsys.readouterr().out
    assert matplotlib.image.imread(tmp_path / "noise.png").shape[1] == 1536
    table = pd.read_csv(tmp_path / "noise.csv")
    assert table["seed"].tolist() == list(range(DRAWS)) and set(table["a"]) == {0.02}
    (noisy,) = (GaussianDeformation(0.02, preset.runs()[0].b).sample(found[organ].label, rng=k) for k in (1,))
    assert table["dice"][1] == pytest.approx(dice(noisy, found[organ].label), abs=1e-6)
    assert "commit" in (tmp_path / "noise_provenance.json").read_text()


@pytest.mark.slow
def test_the_command_draws_the_runs_masks_with_the_runs_scores(tmp_path, capsys):
    tiny.make_data(tmp_path / "data")
    preset = tiny.make_preset(tmp_path / "few.yaml", {"a": [0.02], "fold": [0, 1]}, **tiny.SMALL)
    home = tmp_path / "runs" / "few"
    for config in preset.runs():
        experiment.execute(config, home / config.folder, tmp_path / "data", report=lambda line: None)
    command = ["examples", "--preset", str(tmp_path / "few.yaml"), "--runs", str(tmp_path / "runs")]
    assert main([*command, "--data", str(tmp_path / "data"), "--out", str(tmp_path)]) == 0
    assert str(tmp_path / "examples.png") in capsys.readouterr().out
    assert matplotlib.image.imread(tmp_path / "examples.png").shape[2] in (3, 4)
    table = pd.read_csv(tmp_path / "examples.csv")
    assert table["which"].tolist() == [MIDDLE, WORST]
    for _, row in table.iterrows():
        for config in preset.runs():
            if config.fold == row["fold"]:
                scored = pd.read_csv(home / config.folder / "cases.csv").set_index(["case", "method"])["dice_noisy"]
                for method in ("CE(0)", "CE(*)") if config.loss == "ce" else ("SD(0)",):
                    assert row[method] == pytest.approx(scored[row["case"], method], abs=1e-6)
