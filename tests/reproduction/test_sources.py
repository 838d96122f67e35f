"""Where numbers come from."""

from __future__ import annotations

from dataclasses import replace

from reproduction.report.sources import ITEMS, short_commits, source_rows
from reproduction.text import duration
from small_results import grown_results, small_results


def test_the_provenance_of_two_presets():
    rows = source_rows({"one": small_results(), "two": grown_results()})
    assert [row[0] for row in rows] == list(ITEMS) and all(len(row) == 3 for row in rows)
    one = {row[0]: row[1] for row in rows}
    assert one["trainings"] == "2" and one["time, all trainings added up"] == "60 s"
    assert one["longest training"] == "30 s" and one["peak memory"] == "512 MiB"
    assert one["machine"] == "a processor, 2 cores" and one["software"] == "Python 3.11, numpy 2"
    assert one["noisyseg"] == "0, commit 000000000000" and one["other rules"] == "not scored"
    assert rows[-1][2] == "4 trainings, rankseg not installed"
    assert source_rows({}) == []


def test_a_gpu_and_several_machines_are_named():
    small = small_results()
    facts = {**small.provenance, "machines": 3, "machine": {**small.provenance["machine"], "gpu": "A GPU"}}
    rows = dict(source_rows({"one": replace(small, provenance=facts)}))
    assert rows["machine"] == "a processor, 2 cores, A GPU (one of 3 machines)"


def test_commits_and_durations():
    assert short_commits("0" * 40) == "000000000000"
    assert duration(3599) == "60.0 min" and duration(3600) == "1.0 h"
