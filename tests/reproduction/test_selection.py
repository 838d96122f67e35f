"""Tests of selection: measures by hand, the criteria, the order, and what is kept on disk."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reproduction.data.cases import in_order
from reproduction.data.totalsegmentator.selection import (
    Criteria,
    Structure,
    measure_structure,
    read_structure,
    select,
    write_structure,
)

ANY = Criteria(closed="", voxels=1, layers=1, inside=0.0)


def measured(mask: np.ndarray, spacing: float = 3.0, cells: int = 8) -> Structure:
    return measure_structure(mask, np.diag([spacing] * 3 + [1]), np.full(3, spacing), cells, 3.0)


def box(*ranges: tuple[int, int], shape: tuple[int, int, int] = (20, 20, 20)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def test_measures_by_hand():
    """A bar of 2 x 2 x 12 voxels of 3 mm in a patch of 8: eight of its twelve layers are inside."""
    found = measured(box((5, 7), (9, 11), (4, 16)))
    assert (found.voxels, found.inside, found.faces) == (48, 32, "")
    assert found.grid is not None and found.grid.corner == (2, 6, 6)
    assert found.label is not None and found.label.sum() == 32
    assert np.argwhere(found.label)[[0, -1]].tolist() == [[3, 3, 0], [4, 4, 7]]
    assert found.shape == (20, 20, 20) and found.spacing_mm == (3.0, 3.0, 3.0)
    assert found.affine == ((3, 0, 0, 0), (0, 3, 0, 0), (0, 0, 3, 0), (0, 0, 0, 1))


@pytest.mark.parametrize(
    ("ranges", "faces"),
    [
        (((0, 3), (5, 8), (5, 8)), "L"),
        (((17, 20), (5, 8), (5, 8)), "R"),
        (((5, 8), (0, 3), (5, 8)), "P"),
        (((5, 8), (17, 20), (5, 8)), "A"),
        (((5, 8), (5, 8), (0, 3)), "I"),
        (((5, 8), (5, 8), (17, 20)), "S"),
        (((5, 8), (5, 8), (0, 20)), "IS"),
        (((0, 20), (0, 20), (0, 20)), "LRPAIS"),
        (((1, 19), (1, 19), (1, 19)), ""),
    ],
)
def test_the_faces_that_are_touched(ranges, faces):
    assert measured(box(*ranges)).faces == faces


def test_an_empty_mask_and_coarse_voxels_have_no_patch():
    empty = measured(np.zeros((20, 20, 20)))
    assert (empty.voxels, empty.grid, empty.label) == (0, None, None) and empty.exclusion(ANY) == "empty"
    coarse = measured(box((5, 7), (5, 7), (5, 7)), spacing=3.1)
    assert coarse.label is None and coarse.exclusion(ANY) == "coarser than the patch (3.1x3.1x3.1 mm)"
    assert measured(box((5, 7), (5, 7), (5, 7)), spacing=3.002).exclusion(ANY) is None, (
        "a rounding error is no coarseness"
    )


@pytest.mark.parametrize(
    ("criteria", "reason"),
    [
        (Criteria("LRPAIS", 32, 8, 0.66), None),
        (Criteria("LRPAIS", 33, 8, 0.0), "too few voxels in the patch (32 of 33)"),
        (Criteria("LRPAIS", 32, 9, 0.0), "in too few layers of the patch (8 of 9)"),
        (Criteria("LRPAIS", 32, 8, 0.67), "too much outside the patch (32 of 48 voxels inside)"),
    ],
)
def test_the_criteria_by_hand(criteria, reason):
    assert measured(box((5, 7), (9, 11), (4, 16))).exclusion(criteria) == reason


def test_only_closed_faces_cut_off():
    tube = measured(box((5, 7), (9, 11), (0, 20)))
    assert tube.exclusion(Criteria("LRPA", 1, 1, 0.0)) is None
    assert tube.exclusion(Criteria("LRPAI", 1, 1, 0.0)) == "cut off by the volume's border (I)"
    assert tube.exclusion(Criteria("LRPAIS", 1, 1, 0.0)) == "cut off by the volume's border (IS)"


@pytest.mark.parametrize("wrong", [("X", 1, 1, 0.5), ("L", 0, 1, 0.5), ("L", 1, 1, 1.5), ("L", 1, 1, -0.1)])
def test_criteria_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="expected faces of LRPAIS, at least 1 voxel and a share of 0 to 1"):
        Criteria(*wrong)


@pytest.mark.parametrize("kind", ["some", "empty", "coarse"])
def test_measures_survive_the_disk_and_stay_small(tmp_path, kind):
    mask = np.random.default_rng(0).random((40, 30, 50)) < (0 if kind == "empty" else 0.4)
    known = measure_structure(mask, np.eye(4) * 1.1, np.full(3, 1.5 if kind != "coarse" else 9), 64, 3.0)
    path = write_structure(tmp_path / "a" / "s0001.json", known)
    again = read_structure(path)
    assert again is not None and path.stat().st_size < 10_000
    for field in ("shape", "affine", "spacing_mm", "voxels", "inside", "faces", "grid"):
        assert getattr(again, field) == getattr(known, field), field
    assert (again.label is None) == (kind != "some")
    if again.label is not None and known.label is not None:
        assert np.array_equal(again.label, known.label) and again.label.dtype == np.uint8


def test_damaged_measures_are_none(tmp_path):
    path = write_structure(tmp_path / "s0001.json", measured(box((5, 7), (9, 11), (4, 16))))
    whole = path.read_text()
    assert read_structure(tmp_path / "none.json") is None
    for damaged in (
        "",
        whole[:-40],
        whole.replace('"grid"', '"grit"'),
        whole.replace('"label": "e', '"label": "f'),
        "[]",
    ):
        path.write_text(damaged)
        assert read_structure(path) is None, damaged


def test_the_order_is_that_of_the_hashes_whatever_the_input():
    names = [f"s{k:04d}" for k in range(300)]
    order = in_order(reversed([*names, *names]))
    assert sorted(order) == names and order[:4] == ["s0106", "s0267", "s0023", "s0290"]
    assert [hashlib.sha256(name.encode()).hexdigest() for name in order] == sorted(
        hashlib.sha256(name.encode()).hexdigest() for name in names
    )
    assert abs(np.corrcoef(np.arange(300), [int(name[1:]) for name in order])[0, 1]) < 0.15, "no trend"


def test_the_first_that_pass_are_taken_and_all_others_have_a_reason():
    good, empty = measured(box((5, 7), (9, 11), (4, 16))), measured(np.zeros((9, 9, 9)))
    known = {"s0000": good, "s0001": good, "s0002": empty, "s0005": good, "s0007": good}
    unusable = {"s0003": "no mask aorta"}
    # The order by hash is s0003 s0005 s0007 s0000 s0001 s0002.
    chosen, left_out = select(known, unusable, ANY, 2)
    assert chosen == ["s0005", "s0007"]
    assert left_out == {
        "s0003": "no mask aorta",
        "s0000": "not needed: 2 come before it",
        "s0001": "not needed: 2 come before it",
        "s0002": "empty",
    }
    assert select(known, unusable, ANY, 9)[0] == ["s0005", "s0007", "s0000", "s0001"]
    # What was measured is of no use where the CT is damaged.
    chosen, left_out = select(known, {"s0005": "damaged CT"}, ANY, 2)
    assert chosen == ["s0007", "s0000"] and left_out["s0005"] == "damaged CT"


@given(passing=st.sets(st.integers(0, 40)), cases=st.integers(1, 30))
def test_fewer_cases_are_the_beginning_of_more(passing, cases):
    good = measured(box((5, 7), (9, 11), (4, 16)))
    subjects = {f"s{k:04d}" for k in range(41)}
    known = {f"s{k:04d}": good for k in passing}
    unusable = dict.fromkeys(subjects - set(known), "damaged")
    chosen, left_out = select(known, unusable, ANY, cases)
    assert select(known, unusable, ANY, 99)[0][:cases] == chosen and len(chosen) == min(cases, len(passing))
    assert set(chosen) | set(left_out) == subjects and not set(chosen) & set(left_out)
