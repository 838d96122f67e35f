"""Tests of tables: from the scores of two cases to tables, by hand; from run folders to what is printed."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reproduction.config import Preset, RunConfig
from reproduction.paths import read_json, write_json
from reproduction.runs.tables import (
    LATER,
    QUANTITIES,
    Results,
    collect_cases,
    gather,
    main_table,
    paired_differences,
    read_results,
    summarise,
    write_results,
)
from reproduction.scoring.inference import estimate
from reproduction.scoring.rules import METHODS

COLUMNS = (
    "organ,a,fold,case,method,threshold,volume,volume_noisy,volume_clean,volume_marginal,"
    "dice_noisy,dice_clean,dice_marginal,surface_noisy,soft_volume,ceiling,ceiling_half,ceiling_mc,volume_ceiling"
).split(",")


def row(case: str, method: str, dice: float, volume: int = 4, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "organ": "kidney", "a": 0.02, "fold": 0, "case": case, "method": method, "threshold": 0.5, "volume": volume,
        "volume_noisy": 9, "volume_clean": 10, "volume_marginal": 8.0, "dice_noisy": dice, "dice_clean": dice + 0.1,
        "dice_marginal": dice - 0.1, "ceiling": 0.9, "ceiling_half": 0.89, "ceiling_mc": 0.91, "soft_volume": 12.0,
        "surface_noisy": 1.5, "volume_ceiling": 10,
    }  # fmt: skip
    return {**values, **changes}


def two_cases() -> pd.DataFrame:
    return pd.DataFrame(
        [
            row("x", "CE(0)", 0.50, volume=4),
            row("x", "CE(*)", 0.60, volume=8, threshold=0.4),
            row("x", "SD(0)", 0.57, volume=6),
            row("y", "CE(0)", 0.70, volume=2),
            row("y", "CE(*)", 0.74, volume=4, threshold=0.3),
            row("y", "SD(0)", 0.75, volume=10),
        ]
    )


# ---- summary and differences, by hand ----


def test_summary_of_two_cases():
    summary = summarise(two_cases())
    names = ["organ", "a", "method", "n"]
    names += [name + end for name in QUANTITIES for end in ("", "_lo", "_hi")]
    assert summary.columns.tolist() == names
    assert set(QUANTITIES) == {
        "dice_noisy", "dice_clean", "dice_marginal", "ceiling", "ceiling_half", "ceiling_mc", "volume_ratio",
        "threshold", "soft_ratio", "ceiling_ratio", "surface_noisy",
    }  # fmt: skip
    assert summary["method"].tolist() == ["CE(0)", "CE(*)", "SD(0)"] and summary["n"].tolist() == [2, 2, 2]
    np.testing.assert_allclose(summary["dice_noisy"], [0.60, 0.67, 0.66])
    np.testing.assert_allclose(summary["dice_clean"], [0.70, 0.77, 0.76])
    np.testing.assert_allclose(summary["dice_marginal"], [0.50, 0.57, 0.56])
    np.testing.assert_allclose(summary["threshold"], [0.50, 0.35, 0.50])
    # The mean of the ratios 4/8 and 2/8, and so on; not the ratio of the means.
    np.testing.assert_allclose(summary["volume_ratio"], [0.375, 0.75, 1.0])
    low, high = estimate([0.60, 0.74]).interval
    assert summary.loc[1, "dice_noisy_lo"] == low and summary.loc[1, "dice_noisy_hi"] == high
    assert summary.loc[0, ["ceiling", "ceiling_lo", "ceiling_hi"]].tolist() == [0.9] * 3


def test_groups_keep_their_order_and_do_not_mix():
    cases = two_cases()
    many = pd.concat(
        [
            cases.assign(organ=organ, a=a, dice_noisy=shift)
            for shift, (organ, a) in enumerate((("b", 0.02), ("a", 0.0), ("a", 0.01)))
        ]
    )
    summary = summarise(many)
    assert summary[["organ", "a"]].drop_duplicates().to_numpy().tolist() == [["b", 0.02], ["a", 0.0], ["a", 0.01]]
    assert summary["dice_noisy"].tolist() == [0.0] * 3 + [1.0] * 3 + [2.0] * 3
    assert len(paired_differences(many)) == 3 * 9


def test_paired_differences_of_two_cases():
    found = paired_differences(two_cases())
    assert found.columns.tolist() == [
        "organ",
        "a",
        "difference",
        "score",
        "n",
        "mean",
        "lo",
        "hi",
        "se_persons",
        "df_persons",
        "se_folds",
        "df_folds",
    ]
    table = found.pivot(index="difference", columns="score", values="mean")
    for score in ("dice_noisy", "dice_clean", "dice_marginal"):
        assert table.loc["CE(*)-CE(0)", score] == pytest.approx((0.10 + 0.04) / 2)
        assert table.loc["SD(0)-CE(0)", score] == pytest.approx((0.07 + 0.05) / 2)
        assert table.loc["CE(*)-SD(0)", score] == pytest.approx((0.03 - 0.01) / 2)
    assert found["n"].tolist() == [2] * 9
    first = found.iloc[0]
    assert (first["difference"], first["score"]) == ("CE(*)-CE(0)", "dice_noisy")
    assert (first["lo"], first["hi"]) == pytest.approx(estimate([0.10, 0.04]).interval, abs=1e-12)


def test_differences_are_paired_by_case_and_not_by_row():
    cases = two_cases()
    shuffled = cases.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(paired_differences(shuffled), paired_differences(cases), check_exact=False)
    # Cases that differ a lot, methods by a constant: a paired interval has no length.
    constant = pd.DataFrame(
        [row(f"c{k}", m, 0.1 * k + d) for k in range(6) for m, d in (("CE(0)", 0), ("CE(*)", 0.02), ("SD(0)", 0))]
    )
    first = paired_differences(constant).iloc[0]
    assert first["mean"] == pytest.approx(0.02) and first["hi"] - first["lo"] < 1e-12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(index=5), r"kidney, a = 0\.02: SD\(0\) and CE\(0\) were not scored on the same cases"),
        (lambda t: t.drop(index=1), r"kidney, a = 0\.02: CE\(\*\) and CE\(0\) were not scored on the same cases"),
        (
            lambda t: t.assign(case=["x", "x", "z", "y", "y", "y"]),
            r"SD\(0\) and CE\(0\) were not scored on the same cases",
        ),
        (lambda t: pd.concat([t, t.iloc[4:5]]), r"kidney, a = 0\.02: CE\(\*\) was scored twice on y"),
    ],
)
def test_methods_that_cannot_be_paired(change, message):
    with pytest.raises(ValueError, match=message):
        paired_differences(change(two_cases()))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        (
            {"dice_clean": [0.5, np.nan, 0.5, 0.5, 0.5, 0.5]},
            r"kidney, a = 0\.02, CE\(\*\), dice_clean: values have shape",
        ),
        ({"dice_noisy": [np.nan] * 6}, r"kidney, a = 0\.02, CE\(0\), dice_noisy: values have shape"),
        ({"volume_marginal": 0.0}, r"kidney, a = 0\.02, CE\(0\), volume_ratio: values have shape"),
        (
            {"ceiling_mc": [0.9, 0.9, 0.9, np.nan, 0.9, 0.9]},
            r"kidney, a = 0\.02, CE\(0\), ceiling_mc: values have shape",
        ),
    ],
)
def test_a_value_that_is_not_finite_is_found(changes, where):
    with pytest.raises(ValueError, match=where):
        summarise(two_cases().assign(**changes))


def test_runs_without_samples_have_no_ceiling_mc():
    summary = summarise(two_cases().assign(ceiling_mc=math.nan))
    assert summary[["ceiling_mc", "ceiling_mc_lo", "ceiling_mc_hi"]].isna().to_numpy().all()
    assert summary.drop(columns=["ceiling_mc", "ceiling_mc_lo", "ceiling_mc_hi"]).notna().to_numpy().all()


def test_main_table_is_the_papers_table_1():
    cases = pd.concat([two_cases().assign(a=a, ceiling=1 - a) for a in (0.0, 0.02)])
    results = Results(cases, summarise(cases), paired_differences(cases), pd.DataFrame(), {})
    table = main_table(results)
    assert table.columns.tolist() == ["CE(0)", "SD(0)", "CE(*)", "ceiling"]
    assert table.index.tolist() == [("kidney", 0.0), ("kidney", 0.02)]
    np.testing.assert_allclose(table.to_numpy(), [[0.60, 0.66, 0.67, 1.0], [0.60, 0.66, 0.67, 0.98]])
    np.testing.assert_allclose(main_table(results, "dice_clean")["CE(0)"], 0.70)


# ---- from run folders ----


def mine(grid: dict[str, Any], values: dict[str, Any]) -> Preset:
    lists = {axis: list(points) for axis, points in grid.items()}
    return Preset.model_validate({"name": "mine", "about": "a test", "grid": lists, "run": values})


@pytest.fixture
def preset(root) -> Preset:
    """Two organs, two losses, two folds, with the numbers of the smoke preset."""
    grid = {"organ": ("kidney", "aorta"), "a": (0.02,), "loss": ("ce", "sd"), "fold": (0, 1), "model": ("unet",)}
    return mine(grid, Preset.load(root / "workflow" / "presets" / "smoke.yaml").values)


def write_run(folder: Path, config: RunConfig, **changes: Any) -> Path:
    """What a finished run leaves behind: scores of two cases a fold, the later one first."""
    run = folder / config.folder
    run.mkdir(parents=True)
    methods = ("CE(*)", "CE(0)") if config.loss == "ce" else ("SD(0)",)
    cases = [f"{config.organ}-{2 * config.fold + k}" for k in (1, 0)]
    place = {"organ": config.organ, "a": config.a, "fold": config.fold}
    rows = [
        row(case, method, 0.5 + 0.01 * j + 0.001 * i, **place)
        for j, case in enumerate(cases)
        for i, method in enumerate(methods)
    ]
    pd.DataFrame(rows)[COLUMNS].to_csv(run / "cases.csv", index=False)
    epochs = [
        {"epoch": e, "train_loss": 0.5 / (e + 1), "train_dice": 0.1 * e, "lr": 1e-3, "seconds": 1.5} for e in range(2)
    ]
    (run / "progress.jsonl").write_text("".join(json.dumps(each) + "\n" for each in epochs))
    metrics = {
        "run": config.name, "config_hash": config.hash, "data_digest": "d" * 64, "best_epoch": 1, "parameters": 99,
        "precision": "float32", "device": "cpu", "training_s": 3.0, "wall_s": 4.0, "peak_memory_mib": 100.0,
        "finished": f"2026-01-0{1 + config.fold}T00:00:00+00:00",
        "provenance": {"version": "0.1.0", "commit": "abc", "machine": {"cpu": "x"}, "packages": {"numpy": "2"}},
    }  # fmt: skip
    write_json(run / "metrics.json", {**metrics, **changes})
    return run


def add_other_rules(run: Path, config: RunConfig, rankseg: str | None = "0.0.8") -> None:
    """The scores of the other rules, .1 above those of the run's first method; without rankseg its rows."""
    table = pd.read_csv(run / "cases.csv")
    methods = {"ce": ["CE(fold)", "CE(rank)", "CE(oracle)"], "sd": ["SD(fold)"]}[config.loss]
    parts = [
        table.drop_duplicates("case").assign(method=method, dice_noisy=lambda one: one["dice_noisy"] + 0.1)
        for method in methods
        if rankseg or "rank" not in method
    ]
    pd.concat([table, *parts]).to_csv(run / "cases.csv", index=False)
    rules = {"threshold": 0.4, "train_dice": 0.9, "rankseg": rankseg}
    write_json(run / "metrics.json", {**read_json(run / "metrics.json"), "rules": rules})


def test_gather_puts_runs_together(tmp_path, preset):
    for config in reversed(preset.runs()):
        write_run(tmp_path, config)
    results = gather(preset, tmp_path)
    cases = results.cases
    assert cases.columns.tolist() == COLUMNS and len(cases) == 2 * 3 * 4
    # The organs as in the preset, then folds, cases and methods in the paper's order.
    assert cases["organ"].tolist() == ["kidney"] * 12 + ["aorta"] * 12
    assert cases["case"].tolist()[:12] == [f"kidney-{k}" for k in range(4) for _ in range(3)]
    assert cases["method"].tolist() == ["CE(0)", "SD(0)", "CE(*)"] * 8
    pd.testing.assert_frame_equal(results.summary, summarise(cases))
    pd.testing.assert_frame_equal(results.differences, paired_differences(cases))
    assert results.summary["n"].tolist() == [4] * 6
    assert results.history.columns.tolist() == ["organ", "a", "loss", "fold", "epoch", "train_loss", "train_dice", "lr"]
    assert len(results.history) == 8 * 2
    assert results.history.iloc[-1].tolist() == ["aorta", 0.02, "sd", 1, 1, 0.25, 0.1, 1e-3]


def test_provenance(tmp_path, preset):
    for config in preset.runs():
        other = config.loss == "sd"
        facts = {
            "version": "0.1.0",
            "commit": "def" if other else "abc",
            "machine": {"cpu": "x", "cores": 1 + other},
            "packages": {},
        }
        write_run(tmp_path, config, provenance=facts)
    facts = gather(preset, tmp_path).provenance
    assert facts["preset"] == "mine" and facts["version"] == "0.1.0" and facts["data_digest"] == "d" * 64
    assert facts["commit"] == "abc def" and facts["machines"] == 2, "no commit and no machine is hidden"
    assert facts["created"] == "2026-01-02T00:00:00+00:00", "the last run"
    assert [run["config_hash"] for run in facts["runs"]] == [config.hash for config in preset.runs()]
    assert all(run["wall_s"] == 4.0 and run["peak_memory_mib"] == 100.0 for run in facts["runs"])
    assert facts["config"]["grid"]["organ"] == ["kidney", "aorta"] and facts["config"]["b"] == preset.values["b"]
    json.dumps(facts, allow_nan=False)


def test_other_rules_are_rows_like_the_others(tmp_path, preset):
    for config in preset.runs():
        add_other_rules(write_run(tmp_path, config), config)
    results = gather(preset, tmp_path)
    assert results.cases.columns.tolist() == COLUMNS
    seven = ["CE(0)", "SD(0)", "CE(*)", "CE(fold)", "SD(fold)", "CE(rank)", "CE(oracle)"]
    assert results.cases["method"].tolist() == seven * 8
    assert results.summary["method"].tolist() == seven * 2
    assert results.provenance["other_rules"] == {"runs": 8, "rankseg": ["0.0.8"]}
    assert "CE(oracle)-CE(*)" in set(results.differences["difference"])
    table = main_table(results)
    assert table.columns.tolist() == ["CE(0)", "SD(0)", "CE(*)", "ceiling"]


def test_without_rankseg_its_rows_are_left_out_and_the_provenance_says_so(tmp_path, preset):
    for config in preset.runs():
        add_other_rules(write_run(tmp_path, config), config, rankseg=None)
    results = gather(preset, tmp_path)
    assert set(results.cases["method"]) == {"CE(0)", "SD(0)", "CE(*)", "CE(fold)", "SD(fold)", "CE(oracle)"}
    assert results.provenance["other_rules"]["rankseg"] == ["not installed"]


def test_a_rule_that_some_runs_of_a_cell_lack_is_left_out_of_that_cell(tmp_path, preset):
    for config in preset.runs():
        run = write_run(tmp_path, config)
        if config.organ == "kidney" and config.loss == "ce" and config.fold == 1:
            add_other_rules(run, config, rankseg=None)
        elif config.organ == "kidney" or config.loss == "ce":
            add_other_rules(run, config)
    results = gather(preset, tmp_path)
    methods = results.cases.groupby("organ")["method"].unique().map(set)
    assert methods["kidney"] == {"CE(0)", "SD(0)", "CE(*)", "CE(fold)", "SD(fold)", "CE(oracle)"}
    assert methods["aorta"] == {"CE(0)", "SD(0)", "CE(*)", "CE(fold)", "CE(rank)", "CE(oracle)"}
    assert results.provenance["other_rules"]["rankseg"] == ["0.0.8", "not installed"]


@pytest.mark.parametrize("all_have_them", [True, False])
def test_columns_that_came_later_are_there_if_all_runs_have_them(tmp_path, preset, all_have_them):
    configs = preset.runs()
    for config in configs:
        run = write_run(tmp_path, config)
        if not all_have_them and config == configs[-1]:
            pd.read_csv(run / "cases.csv").drop(columns=list(LATER)).to_csv(run / "cases.csv", index=False)
    cases = collect_cases(preset, configs, tmp_path)
    assert (set(LATER) & set(cases)) == (set(LATER) if all_have_them else set())
    assert not cases.isna().to_numpy().any()


def test_runs_of_an_earlier_version_have_the_papers_methods(tmp_path, preset):
    for config in preset.runs():
        (write_run(tmp_path, config) / "further.csv").write_text("not read")
    results = gather(preset, tmp_path)
    assert set(results.cases["method"]) == {"CE(0)", "SD(0)", "CE(*)"} and "other_rules" not in results.provenance


@pytest.fixture
def seeds(preset) -> Preset:
    """The same grid, trained with two seeds."""
    values = {name: value for name, value in preset.values.items() if name != "training_seed"}
    return mine({**preset.grid, "training_seed": (1, 4)}, values)


def test_gather_over_seeds(tmp_path, preset, seeds):
    for config in seeds.runs():
        run = write_run(tmp_path, config)
        table = pd.read_csv(run / "cases.csv")
        table.assign(dice_noisy=table["dice_noisy"] + 0.04 * (config.training_seed == 4)).to_csv(
            run / "cases.csv", index=False
        )
        add_other_rules(run, config)
    results = gather(seeds, tmp_path)
    assert results.cases.columns.tolist() == [*COLUMNS[:3], "training_seed", *COLUMNS[3:]]
    assert len(results.cases) == 2 * 8 * 7 and results.cases["training_seed"].tolist() == [1, 4] * 56
    assert results.summary["n"].tolist() == [4] * 14 and results.summary["seeds"].tolist() == [2] * 14
    np.testing.assert_allclose(results.summary["dice_noisy_seed_sd"], 0.04 / math.sqrt(2))
    assert results.history.columns.tolist()[:5] == ["organ", "a", "loss", "fold", "training_seed"]
    assert len(results.history) == 16 * 2
    names = [run["run"] for run in results.provenance["runs"]]
    assert names[:2] == ["kidney-a0.020-ce-fold0-unet", "kidney-a0.020-ce-fold0-unet-seed4"]
    assert results.provenance["config"]["grid"]["training_seed"] == [1, 4]
    # The runs of seed 1 alone are those of the preset without the axis, in the same folders.
    alone = gather(preset, tmp_path)
    part = results.cases.query("training_seed == 1").drop(columns="training_seed").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.cases, part)
    assert "seeds" not in alone.summary and "training_seed" not in alone.history


def test_tables_over_seeds_survive_the_round_trip(tmp_path, project, seeds):
    for config in seeds.runs():
        write_run(tmp_path / "runs", config)
    results = gather(seeds, tmp_path / "runs")
    folder = write_results(results, project / "results" / "mine")
    back = read_results(project / "results" / "mine")
    for part in ("cases", "summary", "differences", "history"):
        pd.testing.assert_frame_equal(getattr(back, part), getattr(results, part), check_exact=False, atol=5e-7, rtol=0)
    assert (folder / "cases.csv").read_text().splitlines()[1].startswith("kidney,0.020000,0,1,kidney-0,CE(0),")
    with pytest.raises(ValueError, match=r"1 of 16 runs of mine are missing, the first is .*-fold0-unet-seed4"):
        (tmp_path / "runs" / seeds.runs()[1].folder / "metrics.json").unlink()
        gather(seeds, tmp_path / "runs")


def test_a_cell_collects_its_own_runs(tmp_path, seeds):
    for config in seeds.runs():
        write_run(tmp_path, config)
    cell = [config for config in seeds.runs() if config.organ == "aorta"]
    pd.testing.assert_frame_equal(
        collect_cases(seeds, cell, tmp_path),
        gather(seeds, tmp_path).cases.query("organ == 'aorta'").reset_index(drop=True),
    )


def test_missing_runs_are_named(tmp_path, preset):
    with pytest.raises(
        ValueError, match=r"^8 of 8 runs of mine are missing, the first is kidney-a0\.020-ce-fold0-unet; "
    ):
        gather(preset, tmp_path / "none")
    configs = preset.runs()
    for config in configs[:5]:
        write_run(tmp_path, config)
    message = (
        r"^3 of 8 runs of mine are missing, the first is aorta-a0\.020-ce-fold1-unet; "
        r"`make reproduce PRESET=mine` goes on with them$"
    )
    with pytest.raises(ValueError, match=message):
        gather(preset, tmp_path)
    for config in configs[5:]:
        write_run(tmp_path, config)
    (tmp_path / configs[2].folder / "metrics.json").unlink()  # killed before its last file
    with pytest.raises(ValueError, match=r"1 of 8 runs of mine are missing, the first is kidney-a0\.020-sd-fold0-unet"):
        gather(preset, tmp_path)


def test_a_run_of_another_configuration_does_not_count(tmp_path, preset):
    for config in preset.runs():
        write_run(tmp_path, config)
    path = tmp_path / preset.runs()[4].folder / "metrics.json"
    write_json(path, {**read_json(path), "config_hash": "0" * 12})
    with pytest.raises(ValueError, match=r"1 of 8 runs of mine are missing, the first is aorta-a0\.020-ce-fold0-unet"):
        gather(preset, tmp_path)


def test_runs_on_different_data_are_not_mixed(tmp_path, preset):
    for k, config in enumerate(preset.runs()):
        write_run(tmp_path, config, data_digest="e" * 64 if k == 3 else "d" * 64)
    with pytest.raises(ValueError, match="the runs of mine saw 2 different versions of the data"):
        gather(preset, tmp_path)


def test_a_damaged_run_is_named(tmp_path, preset):
    runs = [write_run(tmp_path, config) for config in preset.runs()]
    (runs[6] / "metrics.json").write_text('{"run": ')
    with pytest.raises(ValueError, match=rf"{runs[6].name}/metrics\.json is not valid JSON"):
        gather(preset, tmp_path)


# ---- writing and reading ----


@pytest.fixture
def results(tmp_path, preset) -> Results:
    for config in preset.runs():
        write_run(tmp_path / "runs", config)
    return gather(preset, tmp_path / "runs")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """An empty project, without results."""
    (tmp_path / "project" / "workflow" / "presets").mkdir(parents=True)
    monkeypatch.setenv("NOISYSEG_ROOT", str(tmp_path / "project"))
    return tmp_path / "project"


def test_round_trip(project, results):
    folder = write_results(results, project / "results" / "mine")
    assert sorted(path.name for path in folder.iterdir()) == [
        "cases.csv", "differences.csv", "history.csv", "provenance.json", "summary.csv",
    ]  # fmt: skip
    back = read_results(project / "results" / "mine")
    assert back.provenance == results.provenance
    for part in ("cases", "summary", "differences", "history"):
        pd.testing.assert_frame_equal(getattr(back, part), getattr(results, part), check_exact=False, atol=5e-7, rtol=0)
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_results(back, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content, "a second trip changes nothing"


def test_tables_are_readable_text(project, results):
    folder = write_results(results, project / "results" / "mine")
    lines = (folder / "cases.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1] == (
        "kidney,0.020000,0,kidney-0,CE(0),0.500000,4,9,10,8.000000,0.511000,0.611000,0.411000,1.500000,"
        "12.000000,0.900000,0.890000,0.910000,10"
    )
    assert (
        (folder / "summary.csv")
        .read_text()
        .splitlines()[0]
        .startswith("organ,a,method,n,dice_noisy,dice_noisy_lo,dice_noisy_hi,dice_clean,")
    )
    assert (folder / "differences.csv").read_text().splitlines()[0] == (
        "organ,a,difference,score,n,mean,lo,hi,se_persons,df_persons,se_folds,df_folds"
    )
    assert (folder / "history.csv").read_text().splitlines()[1] == "kidney,0.02,ce,0,0,0.5,0,0.001"


@pytest.mark.parametrize("name", ["hippocampus", "quick"])
def test_committed_tables_load_and_are_what_their_cases_say(root, name):
    """Also tables from before there were other rules and several seeds: nothing in them is required to be new."""
    stored = read_results(root / "results" / name)
    assert set(stored.cases.columns) >= set(COLUMNS) - {"soft_volume", "surface_noisy", "volume_ceiling"}
    for made, part in ((summarise(stored.cases), "summary"), (paired_differences(stored.cases), "differences")):
        # cases.csv has six decimals: an interval made from it again is off by as much.
        pd.testing.assert_frame_equal(made, getattr(stored, part), check_exact=False, atol=1e-5, rtol=0)
    assert main_table(stored).notna().to_numpy().all()


def test_an_unknown_ceiling_survives_the_round_trip(project, results):
    cases = results.cases.assign(ceiling_mc=math.nan)
    changed = Results(cases, summarise(cases), results.differences, results.history, results.provenance)
    write_results(changed, project / "results" / "mine")
    assert read_results(project / "results" / "mine").summary["ceiling_mc"].isna().tolist() == [True] * 6


def test_half_written_results_do_not_count(project, results, monkeypatch):
    """The provenance is written last: without it the tables may be of two runs."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("reproduction.runs.tables.write_json", fail)
        with pytest.raises(OSError, match="No space left"):
            write_results(results, project / "results" / "mine")
    assert (project / "results" / "mine" / "cases.csv").is_file()
    with pytest.raises(FileNotFoundError, match=r"mine/provenance\.json"):
        read_results(project / "results" / "mine")


def test_damaged_provenance_is_named(project, results):
    folder = write_results(results, project / "results" / "mine")
    (folder / "provenance.json").write_text("{")
    with pytest.raises(ValueError, match=r"mine/provenance\.json is not valid JSON"):
        read_results(project / "results" / "mine")


# ---- presets with one loss ----


@pytest.mark.parametrize(
    ("loss", "methods", "differences"),
    [
        (
            "ce",
            ["CE(0)", "CE(*)", "CE(fold)", "CE(rank)", "CE(oracle)"],
            ["CE(*)-CE(0)", "CE(fold)-CE(0)", "CE(*)-CE(fold)", "CE(rank)-CE(*)", "CE(oracle)-CE(*)"],
        ),
        ("sd", ["SD(0)", "SD(fold)"], ["SD(fold)-SD(0)"]),
    ],
)
def test_a_preset_with_one_loss_has_the_tables_of_its_methods(tmp_path, project, preset, loss, methods, differences):
    one = mine({**preset.grid, "loss": (loss,)}, preset.values)
    for config in one.runs():
        add_other_rules(write_run(tmp_path / "runs", config), config)
    results = gather(one, tmp_path / "runs")
    write_results(results, project / "results" / "mine")
    back = read_results(project / "results" / "mine")
    assert back.summary["method"].tolist() == methods * 2
    assert back.differences["difference"].drop_duplicates().tolist() == differences
    assert main_table(back).columns.tolist() == [method for method in methods if method in METHODS] + ["ceiling"]
    assert main_table(back).notna().to_numpy().all()


def test_a_preset_with_one_method_has_no_differences_and_loads(tmp_path, project, preset):
    """Runs of an earlier version with soft-Dice alone: there is nothing to compare."""
    one = mine({**preset.grid, "loss": ("sd",)}, preset.values)
    for config in one.runs():
        write_run(tmp_path / "runs", config)
    write_results(gather(one, tmp_path / "runs"), project / "results" / "mine")
    back = read_results(project / "results" / "mine")
    assert back.differences.empty and list(back.differences)[:4] == ["organ", "a", "difference", "score"]


def test_surfaces_are_averaged_where_there_is_one():
    """Of an empty mask there is no distance: its case does not count, and a method without any has no mean."""
    cases = two_cases()
    cases.loc[cases["method"] == "CE(0)", "surface_noisy"] = [np.nan, 2.5]
    cases.loc[cases["method"] == "SD(0)", "surface_noisy"] = np.nan
    summary = summarise(cases).set_index("method")
    assert summary["surface_noisy"].tolist() == pytest.approx([2.5, 1.5, np.nan], nan_ok=True)
    assert summary["n"].tolist() == [2, 2, 2] and summary["soft_ratio"].tolist() == [1.5] * 3
    older = cases.drop(columns=["soft_volume", "surface_noisy"])
    assert not {"soft_ratio", "surface_noisy"} & set(summarise(older))
