"""Tests of reproduction.data.packed: the same cases as from the case files, whatever happens to the packed ones."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import tiny
from reproduction.data import packed
from reproduction.data.cases import Case, CaseSet, write_case, write_manifest
from reproduction.data.packed import load_packed, pack_bits, unpack_bits

ORGAN = "hippocampus"


@pytest.fixture
def data_set(tmp_path: Path) -> CaseSet:
    return tiny.make_data(tmp_path, cases=6, side=5)  # 125 voxels: the last byte of a label is not full


def folder_of(data_set: CaseSet) -> Path:
    return data_set.folder / "packed" / ORGAN


def never(line: str) -> None:
    pytest.fail(f"nothing to report, but: {line}")


def assert_same(found: list[Case], expected: list[Case]) -> None:
    assert [case.id for case in found] == [case.id for case in expected] and expected
    for mine, other in zip(found, expected, strict=True):
        for name in ("image", "label", "spacing_mm"):
            one, two = getattr(mine, name), getattr(other, name)
            assert one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


# bits


def test_bits_by_hand():
    # 1000 0000 1 and seven zeros to fill up
    assert pack_bits(np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=np.uint8)).tolist() == [128, 128]


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 1)))
def test_bits_come_back(label):
    row = pack_bits(label)
    assert len(row) == -(-label.size // 8)
    back = unpack_bits(row, label.shape)
    assert back.dtype == np.uint8 and (back == label).all()


# what is read


def test_the_cases_are_those_of_the_case_files(data_set):
    expected = data_set.load(ORGAN)
    assert_same(load_packed(data_set, ORGAN, report=never), expected)  # made
    assert_same(load_packed(data_set, ORGAN, report=never), expected)  # read
    some = ["case-4", "case-1"]
    assert_same(load_packed(data_set, ORGAN, some, never), data_set.load(ORGAN, some))
    names = {path.name for path in folder_of(data_set).iterdir()}
    assert names == {"images.npy", "labels.npy", "index.json", ".lock"}
    assert np.load(folder_of(data_set) / "images.npy").shape == (6, 5, 5, 5)
    assert np.load(folder_of(data_set) / "labels.npy").shape == (6, 16)


def test_the_case_files_are_read_once(data_set, monkeypatch):
    load_packed(data_set, ORGAN, report=never)
    before = {path.name: path.stat().st_mtime_ns for path in folder_of(data_set).iterdir() if path.name != ".lock"}
    monkeypatch.setattr(CaseSet, "load", lambda *_: pytest.fail("read again"))
    load_packed(CaseSet(data_set.folder), ORGAN, report=never)
    after = {path.name: path.stat().st_mtime_ns for path in folder_of(data_set).iterdir() if path.name != ".lock"}
    assert before == after


def test_images_are_views_of_the_file_and_cannot_be_written(data_set):
    load_packed(data_set, ORGAN, report=never)
    case = load_packed(data_set, ORGAN, ["case-2"], never)[0]
    base = case.image
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap) and Path(base.filename or "").name == "images.npy"
    with pytest.raises(ValueError, match="read-only"):
        case.image[0, 0, 0] = 1


def test_a_case_in_use_outlives_the_files(data_set):
    (expected,) = data_set.load(ORGAN, ["case-3"])
    load_packed(data_set, ORGAN, report=never)
    (case,) = load_packed(data_set, ORGAN, ["case-3"], never)
    packed._write(folder_of(data_set), data_set, ORGAN)  # another process renames new files over the mapped ones
    shutil.rmtree(data_set.folder)
    assert_same([case], [expected])


def test_an_unknown_case_is_refused(data_set):
    with pytest.raises(ValueError, match="has no hippocampus case 'case-9'"):
        load_packed(data_set, ORGAN, ["case-9"], never)
    with pytest.raises(ValueError, match="organ is 'liver'"):
        load_packed(data_set, "liver", report=never)


# damage


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "an image": lambda f: flip(f / "images.npy", 700),
    "a label": lambda f: flip(f / "labels.npy", 133),
    "the header": lambda f: flip(f / "images.npy", 3),
    "cut off": lambda f: os.truncate(f / "images.npy", 900),
    "empty": lambda f: (f / "labels.npy").write_bytes(b""),
    "no JSON": lambda f: (f / "index.json").write_text("{"),
    "another format": lambda f: (f / "index.json").write_text('{"format": 2, "cases": {}}'),
    "no mapping": lambda f: (f / "index.json").write_text("[1]"),
    "a case is missing": lambda f: (f / "index.json").write_text('{"format": 1, "cases": {}}'),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_noticed_said_in_one_line_and_repaired(data_set, what):
    expected = data_set.load(ORGAN)
    load_packed(data_set, ORGAN, report=never)
    good = {path.name: path.read_bytes() for path in folder_of(data_set).iterdir()}
    DAMAGE[what](folder_of(data_set))
    lines: list[str] = []
    assert_same(load_packed(data_set, ORGAN, report=lines.append), expected)
    assert len(lines) == 1 and "\n" not in lines[0] and lines[0].endswith(": packed again")
    assert str(folder_of(data_set)) in lines[0]
    assert {path.name: path.read_bytes() for path in folder_of(data_set).iterdir()} == good


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "index.json"])
def test_a_file_that_is_gone_is_made_without_a_word(data_set, name):
    expected = load_packed(data_set, ORGAN, report=never)
    (folder_of(data_set) / name).unlink()
    assert_same(load_packed(data_set, ORGAN, report=never), expected)


def test_what_a_killed_process_left_is_removed(data_set):
    folder = folder_of(data_set)
    folder.mkdir(parents=True)
    for name in (".images.npy.abc12345.part", ".labels.npy.abc12345.part"):
        (folder / name).write_bytes(b"half")
    assert_same(load_packed(data_set, ORGAN, report=never), data_set.load(ORGAN))
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "images.npy", "index.json", "labels.npy"]


def test_files_of_other_data_are_not_taken(tmp_path):
    first, second = (tiny.make_data(tmp_path / name, cases=6, side=5, seed=k) for k, name in enumerate("ab"))
    load_packed(first, ORGAN, report=never)
    shutil.copytree(first.folder / "packed", second.folder / "packed")
    lines: list[str] = []
    assert_same(load_packed(second, ORGAN, report=lines.append), second.load(ORGAN))
    assert len(lines) == 1 and "not that of the manifest" in lines[0]


def test_rows_that_are_exchanged_are_noticed(data_set):
    load_packed(data_set, ORGAN, report=never)
    path = folder_of(data_set) / "index.json"
    index = json.loads(path.read_text())
    rows = index["cases"]
    rows["case-0"], rows["case-1"] = rows["case-1"], rows["case-0"]
    path.write_text(json.dumps(index))
    lines: list[str] = []
    assert_same(load_packed(data_set, ORGAN, report=lines.append), data_set.load(ORGAN))
    assert len(lines) == 1


def test_a_damaged_case_file_is_never_packed(data_set):
    path = data_set.folder / ORGAN / "case-3.npz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"case-3\.npz is no readable case"):
        load_packed(data_set, ORGAN, report=never)
    assert [path.name for path in folder_of(data_set).iterdir()] == [".lock"]  # no half of a file is left


def test_shapes_that_differ_are_refused(tmp_path):
    entries = {}
    for k, side in enumerate((4, 4, 5, 4, 4)):
        volume = np.zeros((side,) * 3, np.float32)
        case = Case(f"case-{k}", volume, volume.astype(np.uint8), np.full(3, 1.0))
        write_case(tmp_path / ORGAN / f"{case.id}.npz", case)
        entries[case.id] = {"voxels": 0, "sha256": case.digest()}
    data_set = write_manifest(tmp_path, "tiny", {ORGAN: entries}, {}, {})
    with pytest.raises(ValueError, match=r"case case-2: shape \(5, 5, 5\); the first case has \(4, 4, 4\)"):
        load_packed(data_set, ORGAN, report=never)


def test_where_nothing_can_be_written_the_case_files_are_read(data_set, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    lines: list[str] = []
    assert_same(load_packed(data_set, ORGAN, ["case-1"], lines.append), data_set.load(ORGAN, ["case-1"]))
    (line,) = lines
    assert "cannot be made (No space left on device): reading the case files instead" in line
    assert [path.name for path in folder_of(data_set).iterdir()] == [".lock"]


# several processes


def load_in_child(folder: str, results: multiprocessing.Queue) -> None:
    lines: list[str] = []
    cases = load_packed(CaseSet(folder), ORGAN, report=lines.append)
    results.put(([case.digest() for case in cases], lines))


def test_processes_that_come_together_make_the_files_once_and_agree(data_set):
    found = tiny.in_processes(load_in_child, str(data_set.folder))
    expected = [case.digest() for case in data_set.load(ORGAN)]
    assert found == [(expected, [])] * 3
