"""Which results the chapters show."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from reproduction.report.results import (
    EXPECTED,
    book_results,
    missing,
    notes,
    pooled,
    results_in,
    run_results,
    select,
    stored_results,
)
from reproduction.runs.tables import Results, write_results
from small_results import grown_results, small_results

ROOT = Path(__file__).resolve().parents[2]
SMALL = small_results()


def made(dataset: str, organs: list[str], runs: int) -> Results:
    """Tables of a preset with these organs and this number of trainings."""
    frames = {}
    for part in ("cases", "summary", "differences", "history"):
        frames[part] = pd.concat([getattr(SMALL, part).assign(organ=organ) for organ in organs])
    config = {**SMALL.provenance["config"], "dataset": dataset}
    facts = {**SMALL.provenance, "config": config, "runs": SMALL.provenance["runs"][:1] * runs}
    return replace(SMALL, **frames, provenance=facts)


@pytest.fixture
def root(tmp_path, monkeypatch):
    root = tmp_path / "root"
    shutil.copytree(ROOT / "workflow" / "presets", root / "workflow" / "presets")
    monkeypatch.setenv("NOISYSEG_ROOT", str(root))
    monkeypatch.delenv("NOISYSEG_RESULTS", raising=False)
    return root


def test_nothing_was_run(root):
    (root / "results" / "benchmarks").mkdir(parents=True)
    assert book_results() == ({}, {}) and run_results() == {}
    assert missing({}, {}) == list(EXPECTED)
    assert "- **phantoms**: not run yet; `make reproduce PRESET=phantoms` runs it." in notes({}, {})


def test_of_two_with_an_organ_in_common_the_larger_is_shown(root):
    write_results(made("phantoms", ["kidney", "aorta"], 24), root / "results" / "quick")
    write_results(made("phantoms", ["aorta", "oesophagus"], 120), root / "results" / "phantoms")
    write_results(made("hippocampus", ["hippocampus"], 40), root / "results" / "hippocampus")
    chosen, left_out = book_results()
    assert list(chosen) == ["hippocampus", "phantoms"] and left_out == {"quick": "phantoms"}
    assert len(chosen["phantoms"].provenance["runs"]) == 120
    assert missing(chosen, left_out) == ["openkbp_oesophagus"]
    assert notes(chosen, left_out).endswith("\n- quick: left out, because phantoms has the same organs.")


def test_other_data_are_another_thing_whatever_the_organs(root):
    write_results(made("phantoms", ["kidney"], 24), root / "results" / "phantoms")
    write_results(made("totalsegmentator", ["kidney"], 120), root / "results" / "paper")
    chosen, left_out = book_results()
    assert list(chosen) == ["phantoms", "paper"] and left_out == {}
    assert missing(chosen, left_out) == ["openkbp_oesophagus", "hippocampus"]


def test_what_a_reader_has_just_run_does_not_replace_what_is_stored(root, tmp_path, monkeypatch):
    write_results(made("phantoms", ["kidney"], 120), root / "results" / "phantoms")
    write_results(made("phantoms", ["kidney"], 7), tmp_path / "fresh" / "phantoms")
    write_results(made("phantoms", ["kidney"], 1), tmp_path / "fresh" / "mine")
    monkeypatch.setenv("NOISYSEG_RESULTS", str(tmp_path / "fresh"))
    chosen, left_out = book_results()
    assert list(chosen) == ["phantoms"] and left_out == {}
    assert len(chosen["phantoms"].provenance["runs"]) == 120
    fresh = run_results()
    assert {preset: len(result.provenance["runs"]) for preset, result in fresh.items()} == {"mine": 1, "phantoms": 7}


def test_tables_survive_writing_and_reading(tmp_path):
    write_results(SMALL, tmp_path / "smoke")
    read = results_in(tmp_path)["smoke"]
    pd.testing.assert_frame_equal(read.cases, SMALL.cases, check_dtype=False)
    assert read.provenance == SMALL.provenance
    (tmp_path / "smoke" / "history.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"history\.csv"):
        results_in(tmp_path)


def test_the_stored_results_have_what_the_chapters_expect():
    assert set(EXPECTED) <= set(stored_results())


def test_tables_of_several_presets_in_one():
    table = pooled({"one": SMALL, "two": SMALL}, "summary")
    assert table["preset"].unique().tolist() == ["one", "two"]
    assert table["organ"].unique().tolist() == ["hippocampus", "hippocampus (two)"]
    none = replace(SMALL, differences=pd.DataFrame())
    assert pooled({"one": none}, "differences").empty and "organ" in pooled({"one": none}, "differences")
    assert pooled({}, "cases").empty


def test_an_organ_is_called_by_what_was_segmented():
    phantom, moved = made("phantoms", ["aorta"], 1), made("openkbp_offcentre", ["cord"], 1)
    both = {"phantoms": phantom, "moved": moved}
    assert pooled(both, "cases")["organ"].unique().tolist() == ["aorta phantom", "cord, off-centre"]
    assert list(select(both, "phantoms")) == ["phantoms"] and select(both, "hippocampus") == {}


def test_what_shows_blank_or_not_is_no_result(root):
    write_results(made("openkbp_blank", ["cord"], 9), root / "results" / "openkbp_blank")
    assert book_results() == ({}, {})


def test_every_training_has_its_line_in_the_history():
    assert set(pooled({"one": SMALL}, "history")["fold"]) == {0}
    assert set(pooled({"two": grown_results()}, "history")["fold"]) == {"0/1", "0/4"}
    mixed = pooled({"one": SMALL, "two": grown_results()}, "history")
    assert len(mixed.groupby(["organ", "a", "loss", "fold"])) == 6
