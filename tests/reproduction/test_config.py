"""Tests of reproduction.config: every number counts, nothing unknown, missing or of the wrong kind gets through."""

import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from reproduction.config import (
    AXES,
    POINT,
    SEED_AXIS,
    Preset,
    RunConfig,
    required_fields,
)
from reproduction.keys import notebook_parameters
from reproduction.paths import read_json

VALUES: dict[str, Any] = {
    "organ": "kidney", "a": 0.01, "loss": "ce", "fold": 0, "model": "unet",
    "dataset": "phantoms", "phantom_size": 32, "phantom_cases": 10, "phantom_seed": 1, "train_cases": 0,
    "test_cases": 0,
    "intensity_offset": 0.0, "intensity_scale": 1.0, "b": 0.1, "noise_seed": 1, "features": (4, 8), "epochs": 2,
    "batch_size": 1, "learning_rate": 1e-3, "l2_weight": 1e-5, "select": "loss", "schedule": "cosine",
    "plateau_patience": 30, "plateau_factor": 0.2, "training_seed": 1, "precision": "float32", "channels_last": False,
    "prior_bias": False,
    "threads": 1, "augment_probability": 0.5, "shift": 0.1, "rotation_deg": 15.0, "smoothing_voxels": 1.0,
    "ceiling_samples": 10, "fast_layers": False, "own_seed": False, "convolutions": 2, "prune_from": 0, "prune_to": 0,
    "prune_channels": 0, "targets": "once", "finish_loss": "none", "finish_rate": 0.0, "finish_epochs": 0,
}  # fmt: skip

# Another good value of every field.
OTHER: dict[str, Any] = {
    "organ": "aorta", "loss": "sd", "model": "lunet", "dataset": "hippocampus", "features": (4, 9), "select": "dice",
    "schedule": "plateau", "precision": "auto", "channels_last": True, "prior_bias": True, "plateau_factor": 0.3,
    "augment_probability": 0.25, "fast_layers": True, "own_seed": True, "targets": "fresh",
}  # fmt: skip
MORE = {
    "finish_loss": ({}, {"finish_loss": "ce"}),
    "finish_rate": ({}, {"finish_rate": 2e-4}),
    "finish_epochs": ({}, {"finish_epochs": 2}),
}
# A network that is pruned.
PRUNED: dict[str, Any] = {
    **{"model": "doubling4-taylor", "select": "last", "epochs": 4},
    **{"prune_from": 1, "prune_to": 3, "prune_channels": 3},
}
FIELDS = list(RunConfig.model_fields)
FINISH: dict[str, Any] = {"finish_loss": "sd", "finish_rate": 1e-4, "finish_epochs": 1}  # the last epochs
MAY_LACK = ("fast_layers", "own_seed", "convolutions", "prune_from", "prune_to", "prune_channels", "targets", *FINISH)
INTEGERS = [name for name, field in RunConfig.model_fields.items() if field.annotation is int]
FLOATS = [name for name, field in RunConfig.model_fields.items() if field.annotation is float]


def config(**changes: Any) -> RunConfig:
    return RunConfig.from_dict({**VALUES, **changes})


def preset_text(**changes: Any) -> str:
    """YAML of a hand-made preset of 2 x 2 runs, with sections or keys replaced."""
    run = {name: value for name, value in VALUES.items() if name not in AXES}
    grid = {"organ": ["kidney"], "a": [0.0, 0.02], "loss": ["ce", "sd"], "fold": [0], "model": ["unet"]}
    content: dict[str, Any] = {"about": "a  test\n of presets", "grid": grid, "run": {**run, "features": [4, 8]}}
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (content[section] if section else content)[name] = value
    return yaml.safe_dump(content)


def load(folder: Path, text: str) -> Preset:
    (folder / "mine.yaml").write_text(text)
    return Preset.load(folder / "mine.yaml")


# ---- RunConfig ----


def test_the_fields_above_are_the_fields():
    assert set(VALUES) == set(FIELDS)
    assert INTEGERS and FLOATS


def test_names():
    run = config(a=0.02, fold=3)
    assert run.name == "kidney-a0.020-ce-fold3-unet"
    assert re.fullmatch("[0-9a-f]{12}", run.hash)
    assert run.folder == f"{run.name}-{run.hash}"
    assert run.data_folder == "phantoms-32-10-1"
    assert config(dataset="hippocampus").data_folder == "hippocampus"


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_changes_the_hash(field):
    if field in FINISH:  # they come together
        base, other = ({"epochs": 9, "select": "last", "schedule": "cosine", **FINISH, **more} for more in MORE[field])
        assert config(**base).hash != config(**other).hash
        return
    value = OTHER[field] if field in OTHER else VALUES[field] + 1
    assert value != VALUES[field]
    changed = config(**{field: value})
    assert changed.hash != config().hash and changed.folder != config().folder


def test_hash_is_a_function_of_the_values():
    assert config().hash == config().hash
    assert RunConfig.from_dict(dict(reversed(VALUES.items()))).hash == config().hash, "the order of keys is no value"
    assert RunConfig.from_dict(config().to_dict()) == config()
    # By hand: 12 digits of the SHA-256 of this configuration as sorted JSON. Finished runs are found by it.
    # Some fields came later and count only where they are on.
    earlier = {name: value for name, value in VALUES.items() if name not in ("prior_bias", *MAY_LACK)}
    text = json.dumps({**earlier, "features": [4, 8]}, sort_keys=True)
    assert config().hash == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_a_pruned_network_has_a_plan():
    run = config(**PRUNED)
    assert run.name == "kidney-a0.010-ce-fold0-doubling4-taylor"
    assert run.network == ("doubling", 4, "taylor") and run.network.widths(run.features) == (4, 8)
    with pytest.raises(ValueError, match="prune_channels is 0; expected at least 1"):
        config(**{name: value for name, value in PRUNED.items() if name != "prune_channels"})


def test_a_configuration_from_before_fast_layers_is_read():
    earlier = {name: value for name, value in config().to_dict().items() if name not in MAY_LACK}
    assert RunConfig.from_dict(earlier) == config() and required_fields() == [*earlier]


@pytest.mark.parametrize(
    "field", [name for name in FLOATS if name not in ("plateau_factor", "augment_probability", *FINISH)]
)
def test_an_integer_and_its_float_are_one_value(field):
    assert config(**{field: 1}).hash == config(**{field: 1.0}).hash
    assert type(getattr(config(**{field: 1}), field)) is float


def test_all_zeros_are_one_value():
    assert config(a=0).folder == config(a=0.0).folder == config(a=-0.0).folder
    assert config(a=0).name == "kidney-a0.000-ce-fold0-unet"
    assert config(a=0).seed_of_case("x") == config(a=-0.0).seed_of_case("x")


def test_round_trip_through_json_and_yaml(tmp_path):
    run = config()
    assert run.to_dict()["features"] == [4, 8]
    assert RunConfig.from_dict(yaml.safe_load(yaml.safe_dump(run.to_dict()))) == run


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        config().fold = 1  # type: ignore[misc]


@pytest.mark.parametrize("field", [name for name in FIELDS if name not in MAY_LACK])
def test_missing_field(field):
    with pytest.raises(ValueError, match=f"^configuration lacks '{field}'$"):
        RunConfig.from_dict({name: value for name, value in VALUES.items() if name != field})


def test_the_last_epoch_needs_a_schedule_that_ends():
    assert config(select="last", schedule="cosine").select == "last"
    with pytest.raises(ValueError, match=r"^schedule is 'plateau'; expected cosine, as select is last"):
        config(select="last", schedule="plateau")


@pytest.mark.parametrize(
    ("name", "meant"), [("epoch", "epochs"), ("learning-rate", "learning_rate"), ("Loss", "loss"), ("Organ", "organ")]
)
def test_unknown_field_with_what_was_meant(name, meant):
    with pytest.raises(ValueError, match=f"^configuration has the unknown key '{name}'; did you mean '{meant}'"):
        config(**{name: 1})


def test_unknown_field_like_no_other_lists_the_known():
    with pytest.raises(ValueError, match="unknown key 'zzzzz'; known are organ, a, loss, fold"):
        config(zzzzz=1)


@pytest.mark.parametrize("field", INTEGERS)
@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1]], ids=repr)
def test_integers_are_integers(field, value):
    with pytest.raises(ValueError, match=f"^{field} is {re.escape(repr(value))}; expected an integer$"):
        config(**{field: value})


@pytest.mark.parametrize("field", FLOATS)
@pytest.mark.parametrize("value", [True, "0.1", None, float("nan"), float("inf"), -float("inf"), 10**400], ids=type)
def test_floats_are_finite_numbers(field, value):
    with pytest.raises(ValueError, match=f"^{field} is .*; expected a finite number"):
        config(**{field: value})


def test_a_number_that_yaml_takes_for_text_is_explained():
    assert yaml.safe_load("1e-5") == "1e-5"
    with pytest.raises(ValueError, match=r"l2_weight is '1e-5'; expected a finite number \(YAML .* write 1\.0e-5\)"):
        config(l2_weight="1e-5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels_last": 1}, "channels_last is 1; expected true or false"),
        ({"channels_last": "yes"}, "channels_last is 'yes'; expected true or false"),
        ({"loss": "dice"}, "loss is 'dice'; expected one of ce, sd, both"),
        ({"loss": None}, "loss is None; expected one of ce, sd, both"),
        ({"model": "vnet"}, "model is 'vnet'; expected one of unet, lunet and doubling"),
        ({"model": "lunet0"}, "model is 'lunet0'; expected one of unet, lunet and doubling, the last two with a width"),
        ({"model": "unet8"}, "model is 'unet8'; expected one of unet"),
        ({"model": "doubling8-l3"}, "model is 'doubling8-l3'; expected one of unet"),
        ({"convolutions": 0}, "convolutions is 0; expected a number above 0"),
        ({**PRUNED, "prune_channels": 0}, "prune_channels is 0; expected at least 1, as the model is pruned"),
        ({**PRUNED, "prune_to": 1}, "prune_channels is 3; expected prune_from < prune_to < epochs; they are"),
        (
            {**PRUNED, "prune_to": 4},
            "prune_channels is 3; expected prune_from < prune_to < epochs; they are prune_from 1, prune_to",
        ),
        ({**PRUNED, "select": "loss"}, "prune_channels is 3; expected select: last with it"),
        ({"targets": "often"}, "targets is 'often'; expected one of once, fresh, marginal"),
        ({"finish_loss": "sd"}, "finish_epochs is 0; expected finish_loss, finish_rate and finish_epochs to be set"),
        ({"finish_epochs": 1}, "finish_epochs is 1; expected finish_loss, finish_rate and finish_epochs to be set"),
        ({**FINISH, "select": "loss"}, "finish_epochs is 1; expected less than epochs, .* and select: last"),
        (
            {**FINISH, "select": "last", "schedule": "cosine", "epochs": 1},
            "finish_epochs is 1; expected less than epochs",
        ),
        ({"dataset": "mnist"}, "dataset is 'mnist'; expected one of hippocampus, phantoms"),
        ({"schedule": "step"}, "schedule is 'step'; expected one of plateau, cosine"),
        ({"select": "best"}, "select is 'best'; expected one of dice, loss"),
        ({"precision": "float16"}, "precision is 'float16'; expected one of auto, float32, bfloat16"),
        ({"features": [8]}, r"features is \[8\]; expected a list of at least two positive integers"),
        ({"features": []}, r"features is \[\]; expected a list"),
        ({"features": [8, 0]}, r"features is \[8, 0\]; expected a list"),
        ({"features": [8, 16.0]}, r"features is \[8, 16.0\]; expected a list"),
        ({"features": [True, 2]}, r"features is \[True, 2\]; expected a list"),
        ({"features": 8}, "features is 8; expected a list"),
        ({"features": "88"}, "features is '88'; expected a list"),
        ({"a": -0.01}, "a is -0.01; expected at least 0"),
        ({"b": 0}, "b is 0; expected a number above 0"),
        ({"fold": -1}, "fold is -1; expected at least 0"),
        ({"epochs": 0}, "epochs is 0; expected a number above 0"),
        ({"batch_size": 0}, "batch_size is 0; expected a number above 0"),
        ({"threads": 0}, "threads is 0; expected a number above 0"),
        ({"learning_rate": 0}, "learning_rate is 0; expected a number above 0"),
        ({"intensity_scale": -1}, "intensity_scale is -1; expected a number above 0"),
        ({"plateau_factor": 1}, "plateau_factor is 1; expected a number below 1"),
        ({"plateau_factor": 0}, "plateau_factor is 0; expected a number above 0"),
        ({"augment_probability": 1.5}, "augment_probability is 1.5; expected at most 1"),
        ({"augment_probability": -0.5}, "augment_probability is -0.5; expected at least 0"),
        ({"phantom_size": -3}, "phantom_size is -3; expected at least 0"),
        ({"ceiling_samples": -1}, "ceiling_samples is -1; expected at least 0"),
        ({"organ": ""}, "organ is ''; expected letters, digits and underscores"),
        ({"organ": "../x"}, "organ is '../x'; expected letters, digits and underscores"),
        ({"organ": 7}, "organ is 7; expected text"),
    ],
)
def test_bad_values(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        config(**changes)


# ---- seeds of the noisy labels ----


def test_seed_of_a_case_by_hand():
    text = b"phantoms-32-10-1/kidney/kidney-00001/a=0.01/b=0.1/1"
    assert config().seed_of_case("kidney-00001") == int(hashlib.sha256(text).hexdigest()[:16], 16)


def test_both_losses_all_folds_and_all_training_numbers_see_one_noisy_label():
    seed = config().seed_of_case("x")
    data_and_noise = {"organ", "a", "b", "dataset", "phantom_size", "phantom_cases", "phantom_seed", "noise_seed"}
    for field in set(FIELDS) - data_and_noise - set(FINISH):
        value = OTHER[field] if field in OTHER else VALUES[field] + 1
        assert config(**{field: value}).seed_of_case("x") == seed, field


def test_seeds_of_cases_levels_organs_and_data_differ():
    runs = [config(**change) for change in ({}, {"a": 0.02}, {"b": 0.2}, {"organ": "aorta"}, {"noise_seed": 2})]
    runs += [config(phantom_seed=2), config(phantom_size=64), config(phantom_cases=11), config(dataset="hippocampus")]
    seeds = [run.seed_of_case(f"case-{k}") for run in runs for k in range(300)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**64 for seed in seeds)


# ---- presets ----


def test_a_preset_by_hand(tmp_path):
    preset = load(tmp_path, preset_text())
    assert preset.name == "mine" and preset.about == "a test of presets"
    points = [(run.organ, run.a, run.loss, run.fold, run.model) for run in preset.runs()]
    assert points == [("kidney", a, loss, 0, "unet") for a in (0.0, 0.02) for loss in ("ce", "sd")]
    assert preset.run(a=0.02, loss="sd") == preset.runs()[3] == config(a=0.02, loss="sd")
    assert preset.run(a=0, loss="ce", fold=0) == preset.runs()[0], "an integer is found on a grid of floats"


def test_all_presets_of_the_project_load(root):
    files = sorted((root / "workflow" / "presets").glob("*.yaml"))
    assert {"smoke", "quick", "hippocampus"} <= {file.stem for file in files}
    for file in files:
        preset = Preset.load(file.stem)
        runs = preset.runs()
        assert preset == Preset.load(file) and preset.about
        assert len({run.folder for run in runs}) == len(runs) > 0
        if len(preset.grid["model"]) == 1 and file.stem != "openkbp_blank":  # a control has one loss
            assert {run.loss for run in runs} == {"ce", "sd"}, "a table compares the two losses"


def test_the_grids_that_the_project_promises():
    runs = Preset.load("hippocampus").runs()
    assert len(runs) == 120 and {run.dataset for run in runs} == {"hippocampus"}
    assert {run.training_seed for run in runs} == {1, 2, 3}
    assert {run.a for run in runs} == {0.0, 0.01, 0.02, 0.03} and {run.fold for run in runs} == {0, 1, 2, 3, 4}
    compared = {"lunet": (18, 90), "lunet_ct": (8, 40), "lunet_noise": (2, 80)}
    for name, counts in compared.items():
        preset = Preset.load(name)
        assert (len(preset.grid["model"]), len(preset.runs())) == counts
    runs = Preset.load("quick").runs()
    assert len(runs) == 24 and {run.organ for run in runs} == {"kidney", "aorta", "oesophagus"}
    assert {run.a for run in runs} == {0.0, 0.01, 0.02, 0.03}
    for run in (*runs, *Preset.load("hippocampus").runs()):
        assert run.b == pytest.approx(0.15 / 2**0.5, rel=1e-15)


# ---- training seeds, the axis that a grid may have ----


def seeds_text(*seeds: Any) -> str:
    """The hand-made preset with the training seeds as an axis of the grid."""
    content = yaml.safe_load(preset_text(grid__training_seed=list(seeds)))
    del content["run"]["training_seed"]
    return yaml.safe_dump(content)


def test_several_seeds_by_hand(tmp_path):
    preset = load(tmp_path, seeds_text(1, 5))
    assert preset.seeds == (1, 5) and len(preset.runs()) == 8
    assert preset.runs()[:2] == [config(a=0.0), config(a=0.0, training_seed=5)]
    first, second = preset.runs()[:2]
    assert (first.name, second.name) == ("kidney-a0.000-ce-fold0-unet", "kidney-a0.000-ce-fold0-unet-seed5")
    assert first.folder == f"kidney-a0.000-ce-fold0-unet-{first.hash}"
    assert second.folder == f"kidney-a0.000-ce-fold0-unet-{second.hash}", "told apart by the hash alone"
    assert preset.run(a=0, loss="ce", training_seed=5) == second


def test_a_seed_is_named_or_there_is_one_only(tmp_path):
    preset = load(tmp_path, seeds_text(1, 5))
    with pytest.raises(ValueError, match=r"^training_seed is missing; preset mine has 1, 5$"):
        preset.run(a=0, loss="ce")
    with pytest.raises(ValueError, match=r"^training_seed is 2; preset mine has 1, 5$"):
        preset.run(a=0, loss="ce", training_seed=2)
    single = load(tmp_path, preset_text())
    assert single.seeds == (1,)
    assert single.run(a=0, loss="ce") == single.run(a=0, loss="ce", training_seed=1)
    with pytest.raises(ValueError, match=r"^training_seed is 2; preset mine has 1$"):
        single.run(a=0, loss="ce", training_seed=2)


def test_an_axis_of_one_seed_is_the_preset_without_the_axis(tmp_path):
    """Whether the seed is in the grid or in `run`, its runs are the same, in the same folders."""
    without = load(tmp_path, preset_text()).runs()
    assert load(tmp_path, seeds_text(1)).runs() == without
    more = load(tmp_path, seeds_text(1, 2, 3)).runs()
    assert [run for run in more if run.training_seed == 1] == without
    assert {run.folder for run in without} < {run.folder for run in more}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (preset_text(grid__training_seed=[1, 2]), "training_seed is in grid and in run; expected it in one of them"),
        (seeds_text(1, 1), r"grid: training_seed is \[1, 1\]; expected a list without repeats"),
        (seeds_text(), r"grid: training_seed is \[\]; expected a list without repeats"),
        (seeds_text(-1), "training_seed is -1; expected at least 0"),
        (seeds_text(1.5), "training_seed is 1.5; expected an integer"),
    ],
)
def test_bad_seeds(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"preset mine\.yaml.*{message}"):
        load(tmp_path, text)


def test_every_committed_result_is_of_a_run_that_its_preset_still_has(root):
    """The hashes in results/ are those of today's presets: finished runs and committed tables stay valid."""
    checked = 0
    for path in sorted((root / "results").glob("*/provenance.json")):
        facts = read_json(path)
        if "runs" not in facts:
            continue  # tables of something else than runs
        runs = {run.hash: run.name for run in Preset.load(facts["preset"]).runs()}
        for run in facts["runs"]:
            assert runs.get(run["config_hash"]) == run["run"], f"{path.parent.name}: {run['run']}"
        checked += len(facts["runs"])
    assert checked >= 64


@pytest.mark.parametrize(
    ("preset", "first", "last", "all_folders", "all_seeds"),
    [
        ("hippocampus", "b805f358cc27", "8fe3724e8993", "c6020091e1754433", "341497baa900d018"),
        ("quick", "268b794590d3", "dbf0c1f92350", "5dba1c92e72f7746", "0fa97d410b3c5d23"),
        ("phantoms", "dadd9e2801b3", "b39348867ce7", "97c1331736c48b7a", "4adc4acabbfee3ca"),
        ("paper", "25faa81fcedb", "597364ce6a5d", "f75b142371955e8d", "a36f41989267e6fe"),
        ("smoke", "f0b47df37019", "cced4ab8046e", "5d88597e84104f32", "78f14ef9611abc39"),
    ],
)
def test_no_change_of_the_code_renames_a_run(preset, first, last, all_folders, all_seeds):
    """By value, from before configurations were pydantic models: folders of runs, and seeds of their noisy labels."""
    runs = Preset.load(preset).runs()

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    assert (runs[0].hash, runs[-1].hash) == (first, last)
    assert digest("\n".join(run.folder for run in runs)) == all_folders
    assert digest(repr([run.seed_of_case("x") for run in runs])) == all_seeds


def test_hashes_of_the_runs_that_were_finished_first():
    """By value: a run of hippocampus, made with another seed and no axis."""
    run = Preset.load("hippocampus").run(a=0.01, loss="ce", fold=1, training_seed=2)
    assert run.folder == "hippocampus-a0.010-ce-fold1-unet-5548f3801c3b"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, r"preset mine\.yaml has the unknown key 'extra'; known are about, grid, run"),
        ({"about": 3}, r"preset mine\.yaml: about is 3; expected text"),
        ({"grid": [1]}, r"preset mine\.yaml: grid is \[1\]; expected a mapping"),
        ({"run": None}, r"preset mine\.yaml: run is None; expected a mapping"),
        ({"grid__organs": ["kidney"]}, r"preset mine\.yaml: grid has the unknown key 'organs'; did you mean 'organ'"),
        ({"grid__epochs": [1, 2]}, r"preset mine\.yaml: grid has the unknown key 'epochs'; known are organ, a, loss"),
        ({"run__epoch": 3}, r"preset mine\.yaml: run has the unknown key 'epoch'; did you mean 'epochs'"),
        ({"run__fold": 1}, r"preset mine\.yaml: run has the unknown key 'fold'"),
        ({"grid__a": []}, r"preset mine\.yaml: grid: a is \[\]; expected a list without repeats"),
        ({"grid__a": [0.0201, 0.0202]}, r"two runs would be called .*-a0\.020-.*; values of a must differ in three"),
        ({"grid__a": 0.1}, r"preset mine\.yaml: grid: a is 0\.1; expected a list without repeats"),
        ({"grid__a": [0.01, 0.02, 0.01]}, r"grid: a is \[0\.01, 0\.02, 0\.01\]; expected a list without repeats"),
        ({"grid__a": [0, 0.0]}, r"grid: a is \[0, 0\.0\]; expected a list without repeats"),
        ({"grid__loss": ["ce", "ce"]}, r"grid: loss is \['ce', 'ce'\]; expected a list without repeats"),
        ({"grid__a": ["much"]}, r"preset mine\.yaml: a is 'much'; expected a finite number"),
        ({"grid__a": [[0.1]]}, r"preset mine\.yaml: a is \[0\.1\]; expected a finite number"),
        ({"grid__loss": ["ce", "dice"]}, r"preset mine\.yaml: loss is 'dice'; expected one of ce, sd, both"),
        ({"grid__fold": [True]}, r"preset mine\.yaml: fold is True; expected an integer"),
        ({"run__epochs": True}, r"preset mine\.yaml: epochs is True; expected an integer"),
        ({"run__learning_rate": "1e-3"}, r"preset mine\.yaml: learning_rate is '1e-3'; .* write 1\.0e-5"),
    ],
)
def test_bad_presets(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, preset_text(**changes))


@pytest.mark.parametrize("section", ["about", "grid", "run"])
def test_preset_without_a_section(tmp_path, section):
    content = yaml.safe_load(preset_text())
    del content[section]
    with pytest.raises(ValueError, match=rf"preset mine\.yaml lacks '{section}'"):
        load(tmp_path, yaml.safe_dump(content))


@pytest.mark.parametrize("section", ["grid", "run"])
def test_preset_without_a_key(tmp_path, section):
    assert set(POINT) - set(AXES) == {SEED_AXIS}
    for key in yaml.safe_load(preset_text())[section].keys() - set(MAY_LACK):
        content = yaml.safe_load(preset_text())
        del content[section][key]
        with pytest.raises(ValueError, match=rf"preset mine\.yaml: {section} lacks '{key}'"):
            load(tmp_path, yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("about: [", r"preset .*mine\.yaml is not valid YAML: while parsing .* line 1, column 9"),
        ("about: x\ngrid:\n\t- 1\n", r"mine\.yaml is not valid YAML: .*line 3"),
        ("", r"mine\.yaml holds NoneType; expected a mapping"),
        ("- 1\n- 2\n", r"mine\.yaml holds list; expected a mapping"),
        (
            "about: !!python/object/apply:os.getcwd []\n",
            r"mine\.yaml is not valid YAML: .*could not determine a constructor",
        ),
        ("about: a\nabout: b\n", r"mine\.yaml is not valid YAML: the key 'about' occurs twice"),
    ],
)
def test_bad_yaml(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value), "one line"


def test_a_number_given_twice_is_refused_however_deep(tmp_path):
    text = preset_text().replace("  epochs: 2\n", "  epochs: 2\n  epochs: 3\n")
    assert text.count("epochs:") == 3
    with pytest.raises(ValueError, match="the key 'epochs' occurs twice"):
        load(tmp_path, text)


def test_a_preset_that_is_no_text(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"about: \xff\xfe\n")
    with pytest.raises(ValueError, match=r"mine\.yaml is not valid YAML: 'utf-8' codec can't decode"):
        Preset.load(tmp_path / "mine.yaml")


def test_presets_that_do_not_exist(tmp_path):
    with pytest.raises(ValueError, match=r"preset is 'qick'; there are .*hippocampus.*quick.*smoke.*\.yaml file"):
        Preset.load("qick")
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        Preset.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"loss": "ce"}, r"a is missing; preset mine has 0\.0, 0\.02"),
        ({"a": 0.0}, "loss is missing; preset mine has ce, sd"),
        ({"a": 0.01, "loss": "ce"}, r"a is 0\.01; preset mine has 0\.0, 0\.02"),
        ({"a": 0.0, "loss": "ce", "fold": 1}, "fold is 1; preset mine has 0"),
        ({"a": 0.0, "loss": "ce", "fold": False}, "fold is False; expected an integer"),
        ({"a": 0.0, "loss": "ce", "organ": "liver"}, "organ is 'liver'; preset mine has kidney"),
        ({"a": 0.0, "loss": "ce", "epochs": 3}, "run has the unknown key 'epochs'; known are organ, a, loss"),
        ({"a": 0.0, "loss": "ce", "folds": 0}, "run has the unknown key 'folds'; did you mean 'fold'"),
    ],
)
def test_points_off_the_grid(tmp_path, point, message):
    preset = load(tmp_path, preset_text())
    with pytest.raises(ValueError, match=f"^{message}"):
        preset.run(**point)


# ---- a preset that says what is other than in another one ----


def test_a_preset_extends_another(tmp_path):
    base = Preset.load("openkbp_oesophagus")
    text = "about: b\nextends: openkbp_oesophagus\ngrid: {a: [0.02], loss: [both]}\nrun: {epochs: 100}\n"
    made = load(tmp_path, text)
    assert made.name == "mine" and made.about == "b"
    assert made.grid == {**base.grid, "a": (0.02,), "loss": ("both",)} and list(made.grid) == list(base.grid)
    assert made.values == {**base.values, "epochs": 100}
    same = load(tmp_path, "about: b\nextends: openkbp_oesophagus\n")
    assert [run.hash for run in same.runs()] == [run.hash for run in base.runs()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: nothing", r"preset mine\.yaml extends 'nothing': preset is 'nothing'; there are .*hippocampus"),
        ("extends: quick\nabout: a\nrun: 3", r"preset mine\.yaml: run is 3; expected a mapping"),
        ("extends: quick\nabout: a\nrun: {epoch: 3}", r"run has the unknown key 'epoch'; did you mean 'epochs'"),
        ("extends: quick", r"preset mine\.yaml lacks 'about'"),
        ("extends: quick\nabout: a\nruns: {}", r"unknown key 'runs'; did you mean 'run'"),
    ],
)
def test_what_is_wrong_with_an_extension(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, text)


# ---- names ----


def test_notebook_parameters_refuse_what_the_template_does_not_know():
    interactive = {
        "In": [],
        "Out": {},
        "get_ipython": None,
        "exit": None,
        "quit": None,
        "open": None,
        "_ih": [],
        "__x": 0,
    }
    given = {**interactive, "notebook_parameters": notebook_parameters, "a": 0.01, "fold": 2}
    assert notebook_parameters(given, ("a", "fold")) == {"a": 0.01, "fold": 2}
    with pytest.raises(ValueError, match="notebook has the unknown key 'flod'; did you mean 'fold'"):
        notebook_parameters({**given, "flod": 1}, ("a", "fold"))
    with pytest.raises(ValueError, match="notebook lacks 'loss'"):
        notebook_parameters(given, ("a", "fold", "loss"))


def test_names_from_before_the_first_cell_are_no_parameters():
    """As a user's IPython startup file makes them; a cell that gives such a name another value is looked at again."""
    shell = SimpleNamespace(user_ns_hidden={"np": np, "flod": 1, "a": 7.0})
    given = {"get_ipython": lambda: shell, "np": np, "flod": 1, "a": 0.01}
    assert notebook_parameters(given, ("a",)) == {"a": 0.01}
    with pytest.raises(ValueError, match="notebook has the unknown key 'flod'"):
        notebook_parameters({**given, "flod": 2}, ("a",))
