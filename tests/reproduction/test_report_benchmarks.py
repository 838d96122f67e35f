"""The tables of the benchmarks chapter, from a few rows that can be judged by eye, and from what is stored."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from reproduction.report import benchmarks as bench


def row(ratio: float = 10.0, **values: Any) -> dict[str, Any]:
    """One comparison: ours 2 ms, the peer `ratio` times that, and a bar of 5 that is met."""
    known = {"work": "threshold", "side": 64, "device": "cpu", "input": "ball", "dtype": math.nan, "peer": "a sum"}
    known |= {"ms": 2.0, "peer_ms": 2.0 * ratio, "quantity": "peer / ours", "ratio": ratio, "sense": ">=", "bar": 5.0}
    return {**known, "met": ratio >= 5, "note": "", **values}


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=bench.COLUMNS)
    return table.assign(met=table["met"].astype("boolean"))


def test_the_worst_input_is_judged():
    table = frame(row(10.0), row(3.0, input="noisy"), row(7.0, input="uniform"))
    ((worst, group),) = bench.groups(table)
    assert (worst.input, len(group)) == ("noisy", 3)
    assert bench.bar_rows([(worst, group)]) == [
        ["threshold 64³: a sum", "≥ 5 × as fast", "3 to 10", "noisy", "**missed**"]
    ]
    assert bench.bar_counts([(worst, group)]) == (
        "bars met: 0 of 1; not judged: 0\n  missed: threshold, 64^3, a sum: 3 (≥ 5 × as fast), noisy"
    )


def test_where_small_is_good_the_largest_is_worst():
    slow = {"quantity": "ours / peer", "sense": "<=", "bar": 6.0}
    table = frame(row(2.0, **slow), row(4.0, **slow, input="noisy", dtype="float16", met=True))
    groups = list(bench.groups(table))
    assert bench.bar_rows(groups)[0][1:] == ["≤ 6 × its time", "2 to 4", "noisy, float16", "met"]


def test_a_peer_that_failed_is_the_worst():
    table = frame(row(10.0), row(math.nan, input="noisy", met=False))
    ((worst, _),) = bench.groups(table)
    assert worst.input == "noisy" and bench.judgement(worst) == "**missed**"


def test_works_sides_devices_and_peers_are_groups_of_their_own():
    table = frame(row(), row(side=8), row(device="cuda"), row(peer="another"), row(work="sample"))
    assert len(list(bench.groups(table))) == 5
    named = [cells[0] for cells in bench.bar_rows(bench.groups(table))]
    assert named[1:3] == ["threshold 8³: a sum", "threshold 64³, cuda: a sum"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "≥ 5 × as fast"),
        ({"bar": math.nan}, ""),
        ({"quantity": "error", "sense": "<=", "bar": 1e-12}, "≤ 1e-12"),
        ({"quantity": "extra / label in float32", "sense": "<=", "bar": 3}, "≤ 3 labels"),
        ({"quantity": "input and extra / input", "sense": "<=", "bar": 1.5}, "≤ 1.5 inputs"),
    ],
)
def test_a_bar_in_words(values, text):
    ((worst, _),) = bench.groups(frame(row(**values)))
    assert bench.bar_text(worst) == text


def test_a_bar_that_could_not_be_judged():
    ((worst, group),) = bench.groups(frame(row(met=pd.NA)))
    assert bench.judgement(worst) == "not judged"
    assert bench.bar_counts([(worst, group)]) == "bars met: 0 of 0; not judged: 1"


def test_times_and_ratios_with_notes():
    table = frame(
        row(note="half of it"), row(20.0, input="noisy", note="its mask loses 1e-3"), row(bar=math.nan, side=8)
    )
    assert bench.comparison_rows(table) == [
        ["a sum (half of it), 64³", "2", "20 to 40", "10 to 20", "≥ 5 × as fast", "met"],
        ["a sum, 8³", "2", "20", "10", "", ""],
    ]


def test_the_figure_turns_ratios_that_are_given_the_other_way():
    turned = {"quantity": "ours / peer", "sense": "<=", "bar": 4.0, "peer": "other"}
    table = bench.ratio_table(frame(row(10.0), row(20.0), row(math.nan), row(2.0, **turned, met=True)))
    assert table["name"].tolist() == ["threshold 64³: a sum", "threshold 64³: other"]
    assert table[["low", "high", "bar"]].to_numpy().tolist() == [[10, 20, 5], [0.5, 0.5, 0.25]]
    assert table["missed"].tolist() == [False, False]


def test_the_largest_image_map_by_map():
    table = frame(row(side=8), row(), row(20.0, input="noisy"), row(4.0, work="threshold and mask", met=False))
    header, rows = bench.pair_rows(table)
    assert header == ["64³: ours / peer, ms", "ball", "noisy", "bar", "verdict"]
    assert rows == [
        ["a sum", "2 / 20", "2 / 40", "≥ 5 × as fast", "met"],
        ["a sum: mask", "2 / 8", "", "≥ 5 × as fast", "**missed**"],
    ]
    two = bench.pair_rows(frame(row(dtype="float16"), row(dtype="float32")))[1]
    assert [cells[0] for cells in two] == ["a sum, float16", "a sum, float32"]
    assert bench.pair_rows(frame()) == (["ours / peer, ms", "bar", "verdict"], [])


def test_sizes_are_those_of_the_table_whatever_they_are():
    batch = {"side": 32, "input": "256 patches of 32^3"}
    turned = {"quantity": "ours / peer", "sense": "<=", "peer": "other"}
    table = frame(row(), row(20.0, input="noisy"), row(0.5, **turned), row(side=8, dtype="float16"), row(**batch))
    header, rows = bench.size_rows(table)
    assert header == ["", "ours, ms", "a sum", "other"]
    assert rows == [
        ["threshold 8³, float16", "2", "10", "–"],
        ["256 patches of 32³", "2", "10", "–"],
        ["threshold 64³", "2", "10 to 20", "2"],
    ]
    assert bench.size_rows(frame(row(work="100 classes of 64^3")))[1][0][0] == "100 classes of 64³"
    many = frame(
        row(work="thresholds of 256", side=32, input="first, float32"), row(work="small mask", input="ball, float16")
    )
    assert [cells[0] for cells in bench.size_rows(many)[1]] == [
        "thresholds of 256 images of 32³, float32",
        "mask 64³, float16",
    ]
    assert bench.size_rows(frame())[1] == []


def test_errors_by_implementation_and_precision():
    wrong = {"work": "error of t", "quantity": "error", "sense": "<=", "bar": 1e-12, "peer": "noisyseg"}
    table = frame(
        row(1e-17, **wrong, input="ball, float32", met=True),
        row(3e-17, **wrong, input="uniform, float32", met=True),
        row(1e-3, **{**wrong, "peer": "Listing 3", "bar": math.nan}, input="ball, float64", met=pd.NA),
    )
    assert bench.error_rows(table) == [
        ["noisyseg, float32", "3e-17", "≤ 1e-12", "met"],
        ["Listing 3, float64", "0.001", "", ""],
    ]
    table.loc[0, "met"] = False
    assert bench.error_rows(table)[0][3] == "**missed**", "one input that misses the bar is a missed bar"


def test_memory_with_its_note():
    more = {"extra_mib": 15.7, "traced_mib": math.nan}
    table = pd.DataFrame([row(0.2, sense="<=", bar=3, quantity="extra / label", note="VmHWM", met=True) | more])
    assert bench.memory_rows(table) == [["threshold 64³, a sum", "ball", "15.7", "–", "0.2", "≤ 3 labels", "met"]]
    assert bench.memory_rows(table.assign(note="psutil"))[0][0] == "threshold 64³, a sum (psutil)"


def test_without_stored_tables_the_page_says_so(tmp_path, monkeypatch):
    (tmp_path / "workflow" / "presets").mkdir(parents=True)
    monkeypatch.setenv("NOISYSEG_ROOT", str(tmp_path))
    empty = bench.read_benchmark("speed")
    assert empty.empty and list(bench.groups(empty)) == [] and bench.comparison_rows(empty) == []
    assert "speed_provenance.json` is missing" in bench.machine_facts()
    assert bench.not_measured("memory").startswith("*Not measured: `results/benchmarks/memory.csv` has no such rows.")


def test_the_stored_tables_fill_every_table():
    speed, memory, errors = (bench.read_benchmark(name) for name in ("speed", "memory", "errors"))
    judged = [group for table in (speed, memory, errors) for group in bench.groups(table[table.bar.notna()])]
    assert len(bench.bar_rows(judged)) == len(judged) > 20
    assert all(len(cells) == len(bench.COMPARISON_HEADER) for cells in bench.comparison_rows(speed))
    assert all(len(cells) == len(bench.MEMORY_HEADER) for cells in bench.memory_rows(memory))
    header, rows = bench.size_rows(speed[speed.work == "threshold"])
    assert len(rows) >= 3 and all(len(cells) == len(header) for cells in rows)
    assert "- **processor**: " in bench.machine_facts() and "- **settings**: " in bench.machine_facts()
