"""The status page: every chapter and every stored table is on it, with what is known of them."""

from __future__ import annotations

import re

import pytest

from conftest import ROOT
from reproduction.paths import write_json
from reproduction.report import trust
from reproduction.report.chapter_times import Cost, chapters, read_costs
from reproduction.report.trust import anchor_of, chapter_lines, command_for, cost_of, source_file, table_lines

RESULTS = ROOT / "results"


def test_every_stored_table_names_where_it_comes_from():
    tables = list(RESULTS.rglob("*.csv"))
    text = "\n".join(table_lines())
    for table in tables:
        assert source_file(table).is_file()
        place = table.relative_to(RESULTS).as_posix()
        assert f'<a href="../results/{place}"><code>{table.stem}</code></a>' in text
        source = source_file(table)
        assert f'| <span id="{anchor_of(source)}"></span><a href="../results/{source.relative_to(RESULTS)}">' in text
    anchors = re.findall(r'<span id="([^"]*)">', text)
    assert len(set(anchors)) == len(anchors), "a row has an address of its own"
    rows = [line.split(" | ") for line in table_lines()[2:]]
    assert len(rows) == len({source_file(table) for table in tables}) and all(len(row) == 6 for row in rows)
    by_hand = [re.sub("<.*?>", "", row[1]) for row in rows if row[2] == "by hand"]
    assert by_hand == ["paper_code", "table1"]
    assert all("AMD" in row[4] or row[4] == "" for row in rows)


@pytest.mark.parametrize("source", sorted(RESULTS.rglob("*provenance.json")), ids=lambda p: str(p.relative_to(RESULTS)))
def test_the_commands_exist(source):
    command = command_for(source)
    first, *rest = command.split()
    if first == "make" and rest[0] == "reproduce":
        assert (ROOT / "workflow" / "presets" / f"{rest[1].partition('=')[2]}.yaml").is_file(), command
    elif rest[0] == "-m":
        assert rest[1] == "reproduction" and rest[2] in ("times", "annotators", "noise")
    elif first == "python":
        assert (ROOT / rest[0]).is_file(), command
    else:
        assert command == "make bench STORE=1"


def test_a_table_without_provenance_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"x.csv has no provenance: expected x_provenance.json or provenance.js"
    ):
        source_file(tmp_path / "x.csv")
    write_json(tmp_path / "provenance.json", {})
    assert source_file(tmp_path / "x.csv") == tmp_path / "provenance.json"
    write_json(tmp_path / "x_provenance.json", {})
    assert source_file(tmp_path / "x.csv") == tmp_path / "x_provenance.json"


def test_a_chapter_that_was_not_measured_has_a_row_all_the_same(monkeypatch):
    costs = {"volume": Cost("volume", 150.0, 500.0), "speed": Cost("speed", 3.0, 100.0)}
    monkeypatch.setattr(trust, "read_costs", lambda: costs)
    lines = chapter_lines()
    assert len(lines) == 3 + len(chapters())
    assert (
        "| {doc}`../notebooks/volume` | 2.5 min | 520 |" in lines and "| {doc}`../notebooks/errata` | — | — |" in lines
    )
    assert lines[-1] == "| all | 2.5 min | 520 |"


def test_the_stored_times_are_those_of_chapters():
    costs = read_costs()
    assert set(costs) <= set(chapters()) and len(costs) >= 15
    assert all(1 < cost.processor_s < 3600 and 50 < cost.peak_mib < 16000 for cost in costs.values())
    assert cost_of(costs["volume"]).endswith("MB of memory")
