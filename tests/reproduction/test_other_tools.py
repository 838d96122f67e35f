"""Masks of other tools: the rows by hand, and where the stored ones come from."""

from __future__ import annotations

import json

import pandas as pd

from reproduction.report import other_tools


def test_rows_by_hand() -> None:
    common = {"organ": "kidney", "a": 0.02, "cases": 10, "empty": 3, "same": 4, "ms": 0.5}
    rows = [
        {**common, "method": "noisyseg", "dice": 0.7, "less": 0.0, "less_lo": 0.0, "less_hi": 0.0},
        {**common, "method": "1/2", "dice": 0.6, "less": 0.1, "less_lo": 0.05, "less_hi": 0.15},
    ]
    assert other_tools.mask_rows(pd.DataFrame(rows)) == [
        ["kidney, .02", "noisyseg", ".7000", "", "3 of 10", "", "0.5"],
        ["kidney, .02", "1/2", ".6000", "+.1000 [.0500, .1500]", "3 of 10", "4 of 10", "0.5"],
    ]


def test_without_a_table_there_are_no_rows(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(other_tools, "folder", lambda: tmp_path)
    assert other_tools.mask_rows(other_tools.masks()) == []


def test_the_origin_names_runs_and_versions(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(other_tools, "folder", lambda: tmp_path)
    run = {"run": "kidney-a0.020-ce-fold0-unet", "data_digest": "0123456789abcdef", "threads": 1}
    about = {
        "runs": [run], "peers": {"rankseg": "0.0.8", "nnunetv2": None}, "machine": {"cpu": "a processor"},
        "options": {"repeats": 3}, "commit": "f" * 40,
    }  # fmt: skip
    (tmp_path / "masks_provenance.json").write_text(json.dumps(about))
    said = other_tools.origin()
    for part in (run["run"], "01234567)", "rankseg 0.0.8, nnunetv2 not installed", "a processor, 1 thread", "fffffff"):
        assert part in said
