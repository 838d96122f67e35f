"""Networks trained twice: rows and sentences from pairs that can be judged by eye."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reproduction.report.twins import read_twins, twin_lines, twin_rows

MADE = {"losses": ["ce", "sd"], "batch": 1, "organs": ["aorta"], "a": 0.02}


def pair(organ: str, difference: float, trainings: float = math.nan, **values: Any) -> dict[str, Any]:
    """Two networks, the interval over cases .01 to each side, that over pairs .02."""
    row = {"organ": organ, "method": "CE(0)", "cases": 20, "dice_bfloat16": 0.5 + difference, "dice_float32": 0.5}
    row |= {"difference": difference, "low": difference - 0.01, "high": difference + 0.01}
    row |= {
        "told_apart": abs(difference) > 0.01,
        "trainings": trainings,
        "trainings_told_apart": abs(difference) > 0.02,
    }
    row |= {"trainings_low": difference - 0.02, "trainings_high": difference + 0.02}
    return row | {"pair_rms": 0.003, "seeds_rms": 0.004} | values


def test_rows():
    rows = twin_rows(pd.DataFrame([pair("aorta", 0.015), pair("all", 0.005, 3)]))
    assert rows[0] == ["aorta, CE(0)", "20", "0.5150", "0.5000", "+0.0150 (+0.0050 to +0.0250)", "–"]
    assert rows[1][-1] == "-0.0150 to +0.0250, 3 pairs"


def test_one_pair_in_words():
    assert twin_lines(pd.DataFrame([pair("aorta", 0.015), pair("all", 0.005)]), MADE).splitlines() == [
        "trained twice: aorta at a = 0.02, cross-entropy and soft-Dice, one image at a time",
        "intervals over cases that exclude 0: 1 of 2",
        "  aorta, CE(0): +0.0150 (+0.0050 to +0.0250)",
        "for all organs together they exclude a difference above 0.015",
    ]


def test_one_training_has_no_interval_over_trainings():
    one = twin_lines(pd.DataFrame([pair("aorta", 0.015, 1), pair("all", 0.005, 1)]), MADE)
    assert one == twin_lines(pd.DataFrame([pair("aorta", 0.015), pair("all", 0.005)]), MADE)


def test_several_pairs_in_words():
    table = pd.DataFrame([pair("aorta", 0.025, 3), pair("all", 0.005, 9)])
    lines = twin_lines(table, {**MADE, "seeds": [1, 2, 3], "batch": 2}).splitlines()
    assert lines[0].startswith("trained twice with each of 3 seeds: aorta at a = 0.02,")
    assert lines[0].endswith("2 images at a time")
    assert lines[3:] == [
        "intervals over pairs of trainings that exclude 0: 1 of 2",
        "  aorta, CE(0): +0.0250 (+0.0050 to +0.0450, 3 pairs)",
        "CE(0): a pair is 0.0030 apart, two seeds in float32 0.0040",
        "for all organs together they exclude a difference above 0.025",
    ]


def test_what_was_not_made(tmp_path, monkeypatch):
    (tmp_path / "workflow" / "presets").mkdir(parents=True)
    monkeypatch.setenv("NOISYSEG_ROOT", str(tmp_path))
    pairs, made = read_twins("precision")
    assert twin_rows(pairs) == [] and twin_lines(pairs, made) == "not measured"


def test_what_is_stored():
    for name in ("precision", "accelerated"):
        pairs, made = read_twins(name)
        assert len(twin_rows(pairs)) == len(pairs) > 5
        assert twin_lines(pairs, made).startswith("trained twice")
