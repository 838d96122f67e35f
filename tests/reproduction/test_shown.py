"""Which results the chapters show."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reproduction.report.shown import shown_results
from reproduction.runs.tables import Results, load_results, write_results

ROOT = Path(__file__).resolve().parents[2]
QUICK = load_results("quick")


def made(dataset: str, organs: list[str], runs: int) -> Results:
    """Tables of a preset with these organs: those of another one, renamed."""
    names = dict(zip(("kidney", "aorta", "oesophagus"), organs, strict=False))
    frames = {}
    for part in ("cases", "summary", "differences", "history"):
        frame = getattr(QUICK, part)
        frames[part] = frame[frame["organ"].isin(names)].replace({"organ": names})
    config = {**QUICK.provenance["config"], "dataset": dataset}
    facts = {**QUICK.provenance, "config": config, "runs": QUICK.provenance["runs"][:1] * runs}
    return replace(QUICK, **frames, provenance=facts)


@pytest.fixture
def root(tmp_path, monkeypatch):
    root = tmp_path / "root"
    shutil.copytree(ROOT / "workflow" / "presets", root / "workflow" / "presets")
    monkeypatch.setenv("NOISYSEG_ROOT", str(root))
    monkeypatch.delenv("NOISYSEG_RESULTS", raising=False)
    return root


def test_nothing_was_run(root):
    (root / "results" / "benchmarks").mkdir(parents=True)
    assert shown_results() == ({}, {})


def test_of_two_stored_ones_with_an_organ_in_common_the_larger_is_shown(root):
    write_results(made("phantoms", ["kidney", "aorta"], 24), root / "results" / "quick")
    write_results(made("phantoms", ["aorta", "oesophagus"], 120), root / "results" / "phantoms")
    write_results(made("hippocampus", ["hippocampus"], 40), root / "results" / "hippocampus")
    shown, left_out = shown_results()
    assert list(shown) == ["hippocampus", "phantoms"] and left_out == {"quick": "phantoms"}
    assert len(shown["phantoms"].provenance["runs"]) == 120


def test_other_data_are_another_thing_whatever_the_organs(root):
    write_results(made("phantoms", ["kidney"], 24), root / "results" / "phantoms")
    write_results(made("totalsegmentator", ["kidney"], 120), root / "results" / "paper")
    shown, left_out = shown_results()
    assert list(shown) == ["phantoms", "paper"] and left_out == {}


def test_what_was_just_run_is_shown_in_the_place_of_what_is_stored(root, tmp_path, monkeypatch):
    write_results(made("phantoms", ["kidney"], 120), root / "results" / "phantoms")
    write_results(made("hippocampus", ["hippocampus"], 40), root / "results" / "hippocampus")
    write_results(made("phantoms", ["kidney"], 2), tmp_path / "fresh" / "quick")
    write_results(made("phantoms", ["kidney"], 1), tmp_path / "fresh" / "mine")
    monkeypatch.setenv("NOISYSEG_RESULTS", str(tmp_path / "fresh"))
    shown, left_out = shown_results()
    assert list(shown) == ["hippocampus", "mine", "quick"] and left_out == {"phantoms": "mine"}


def test_a_preset_that_was_just_run_again_is_read_from_there(root, tmp_path, monkeypatch):
    write_results(made("phantoms", ["kidney"], 120), root / "results" / "phantoms")
    write_results(made("phantoms", ["aorta"], 7), tmp_path / "fresh" / "phantoms")
    monkeypatch.setenv("NOISYSEG_RESULTS", str(tmp_path / "fresh"))
    shown, left_out = shown_results()
    assert list(shown) == ["phantoms"] and left_out == {}
    assert len(shown["phantoms"].provenance["runs"]) == 7
