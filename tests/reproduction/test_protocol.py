"""Tests of protocol: every item against the paper's section 5, and what each preset does otherwise."""

from __future__ import annotations

import dataclasses

import pytest

from reproduction.config import Preset
from reproduction.report.protocol import ITEMS, Protocol, codes, protocol_table
from reproduction.report.results import stored_results


def plan(name: str) -> Protocol:
    return Protocol.of_plan(Preset.load(name))


def changed(base: Protocol, grid: dict | None = None, **values) -> Protocol:
    config = {**base.config, **values, "grid": {**base.config["grid"], **(grid or {})}}
    return dataclasses.replace(base, config=config)


def named(name: str) -> str:
    return next(f"D{number}" for number, item in enumerate(ITEMS, 1) if item.name == name)


def test_the_preset_paper_is_the_papers_protocol():
    protocol = plan("paper")
    assert codes(protocol) == []
    assert protocol.runs() == 120 and protocol.seeds == [1]
    shown = {item.name: (item.paper, item.ours(protocol)) for item in ITEMS}
    for name in (
        "patches",
        "noise strengths a",
        "folds run",
        "features a level",
        "epochs",
        "optimiser",
    ):
        assert shown[name][0] == shown[name][1], name
    assert shown["weight of l2"] == ("1e-05", "1e-05")
    assert shown["smoothness b"] == ("0.106 (captions; 0.212 in Listing 2)", "0.106")


@pytest.mark.parametrize(
    ("name", "grid", "values"),
    [
        ("data", {}, {"dataset": "phantoms", "phantom_size": 64}),
        ("organs", {"organ": ["kidney", "aorta"]}, {}),
        ("noise strengths a", {"a": [0.0, 0.01]}, {}),
        ("smoothness b", {}, {"b": 0.2}),
        ("folds run", {"fold": [0, 1, 2, 3]}, {}),
        ("features a level", {}, {"features": [16, 32, 64, 128]}),
        ("epochs", {}, {"epochs": 99}),
        ("epochs", {}, {"batch_size": 2}),
        ("optimiser", {}, {"learning_rate": 1e-3}),
        ("optimiser", {}, {"schedule": "cosine"}),
        ("optimiser", {}, {"plateau_patience": 10}),
        ("optimiser", {}, {"plateau_factor": 0.5}),
        ("weight of l2", {}, {"l2_weight": 0.0}),
        ("epoch evaluated", {}, {"select": "loss"}),
        ("epoch evaluated", {}, {"select": "last"}),
    ],
)
def test_one_change_is_one_item(name, grid, values):
    assert codes(changed(plan("paper"), grid, **values)) == [named(name)]


def test_what_follows_from_other_items():
    table = protocol_table({"paper": plan("paper"), "phantoms": Protocol.of_results(stored_results()["phantoms"])})
    table = table.set_index("item")
    for name, ours in (("training of a fold", "80 cases, 1,600 steps"), ("a = .01 is", "1.92 mm, 0.32 voxels")):
        assert table.loc[name, "paper"] == table.loc[name, "published"] and table.loc[name, "phantoms"] == ours
    quick = Protocol.of_results(stored_results()["quick"])  # one fold, whose 20 cases were not trained on
    assert (
        protocol_table({"quick": quick}).set_index("item").loc["training of a fold", "quick"] == "80 cases, 320 steps"
    )
    assert table.loc["centre of the patch", "differs"] == ()
    assert codes(plan("openkbp_offcentre")).count(named("centre of the patch")) == 1


def test_reasons_differ_where_what_is_done_differs():
    names = ("hippocampus", "phantoms", "quick", "paper")
    why = protocol_table({name: plan(name) for name in names}).set_index("item").loc["data", "reason"]
    assert (
        why == "hippocampus: real, and 27 MB to fetch; phantoms, quick: nothing to fetch, and the clean label is known"
    )
    alone = protocol_table({name: plan(name) for name in ("phantoms", "paper")}).set_index("item")
    assert alone.loc["data", "reason"] == "nothing to fetch, and the clean label is known"
    assert protocol_table({"paper": plan("paper")}).set_index("item").loc["data", "reason"] == ""


def test_the_number_of_cases_counts_once_there_are_results():
    base = plan("paper")
    full = {"kidney": 400, "aorta": 400, "oesophagus": 400}
    assert codes(dataclasses.replace(base, tested=full)) == []
    assert codes(dataclasses.replace(base, tested={**full, "aorta": 399})) == [named("test cases")]


def test_the_paper_used_version_1_of_its_data():
    base = plan("paper")
    assert codes(dataclasses.replace(base, data_version="v1")) == []
    for version in ("v2.0.1", "not recorded"):
        other = dataclasses.replace(base, data_version=version)
        assert codes(other) == [named("data")]
        assert protocol_table({"mine": other}).loc[0, "mine"] == f"CT, TotalSegmentator {version}"


def test_what_the_paper_does_not_print_is_no_deviation():
    base = plan("paper")
    silent = changed(base, {"training_seed": [1, 2]}, prior_bias=True, rotation_deg=90.0, shift=0.5)
    assert codes(silent) == [] and silent.seeds == [1, 2]
    table = protocol_table({"mine": silent}).set_index("item")
    assert table.loc["training seeds", "mine"] == "1, 2" and table.loc["training seeds", "differs"] is None
    assert set(table.index[table["differs"].isna()]) == {
        "label of a cell",
        "a = .01 is",
        "training of a fold",
        "parameters",
        "augmentation",
        "output starts",
        "noise sampler",
        "arithmetic",
        "training seeds",
    }


def test_the_order_of_organs_and_strengths_is_no_deviation():
    assert (
        codes(changed(plan("paper"), {"organ": ["aorta", "oesophagus", "kidney"], "a": [0.03, 0.0, 0.01, 0.02]})) == []
    )


def test_results_say_what_was_run():
    results = stored_results()["phantoms"]
    protocol = Protocol.of_results(results)
    assert protocol.tested == {"kidney": 100, "aorta": 100, "oesophagus": 100} and protocol.parameters == 107625
    assert protocol.runs() == len(results.provenance["runs"]) == 120
    table = protocol_table({"phantoms": protocol, "paper": plan("paper")}).set_index("item")
    assert table.loc["patches", ["published", "phantoms", "paper"]].tolist() == [
        "64³ at 3 mm",
        "32³ at 6 mm",
        "64³ at 3 mm",
    ]
    assert table.loc["test cases", "phantoms"] == "100 kidney, 100 aorta, 100 oesophagus"
    assert table.loc["test cases", "paper"] == "not run yet"
    assert table.loc["data", "differs"] == ("phantoms",) and table.loc["organs", "differs"] == ()
    assert table["code"].tolist() == [f"D{k}" for k in range(1, len(ITEMS) + 1)]
    assert all(len(reason) > 5 for reason in table["reason"])


def test_plan_and_results_of_one_preset_agree():
    """What was planned was run, but for the counts that only results have."""
    table = protocol_table({"plan": plan("phantoms"), "run": Protocol.of_results(stored_results()["phantoms"])})
    table = table[~table["item"].isin(["test cases", "parameters"])]
    assert table["plan"].tolist() == table["run"].tolist()


def test_several_seeds_are_several_trainings():
    protocol = plan("hippocampus")
    assert protocol.seeds == [1, 2, 3] and protocol.runs() == 120
