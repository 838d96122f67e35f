"""Tests of reproduction.data.phantoms.cases: what is in a set, and that it can be interrupted and called again."""

from pathlib import Path

import numpy as np
import pytest

from reproduction.data.cases import CaseSet, write_case
from reproduction.data.phantoms import cases as phantom_set
from reproduction.data.phantoms.cases import folder_name, make_phantoms
from reproduction.data.phantoms.scenes import ORGANS, ct_phantom

SIZE, CASES, SEED = 16, 5, 3


def quiet(line: str) -> None:
    """Report to nobody."""


def make(folder: Path, size: int = SIZE, cases: int = CASES, seed: int = SEED) -> CaseSet:
    return make_phantoms(folder, size, cases, seed, quiet)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> CaseSet:
    return make(tmp_path_factory.mktemp("set") / "whole")


def test_what_is_in_a_set(whole):
    assert list(whole.manifest["organs"]) == list(ORGANS)
    assert whole.manifest["patch"] == {"shape": [16] * 3, "spacing_mm": [12.0] * 3, "cases": 5, "seed": 3}
    for organ in ORGANS:
        assert list(whole.entries(organ)) == [f"{organ}-{k:05d}" for k in range(CASES)]
        for k, case in enumerate(whole.load(organ)):
            phantom = ct_phantom(organ, 300_000 + k, size=16, spacing_mm=12.0)
            assert np.array_equal(case.image, phantom.image) and np.array_equal(case.label, phantom.label)
            assert case.spacing_mm.tolist() == [12.0] * 3
        assert sorted(entry["fold"] for entry in whole.entries(organ).values()) == [0, 1, 2, 3, 4]


def test_no_two_cases_are_alike_within_or_between_sets(whole, tmp_path):
    other = make(tmp_path / "b", seed=SEED + 1)
    digests = [
        entry["sha256"] for cases in (whole, other) for organ in ORGANS for entry in cases.entries(organ).values()
    ]
    assert len(set(digests)) == len(digests) == 2 * 3 * CASES
    assert other.digest != whole.digest


def test_names_of_sets_differ():
    numbers = [(32, 50, 1), (3, 250, 1), (32, 5, 1), (32, 50, 11), (64, 50, 1)]
    assert len({folder_name(*each) for each in numbers}) == len(numbers)


def test_a_second_call_writes_nothing(whole, tmp_path):
    first = make(tmp_path)
    before = stamps(tmp_path)
    assert first.manifest == whole.manifest, "the same bits in another folder"
    assert make(tmp_path).manifest == first.manifest and stamps(tmp_path) == before


@pytest.mark.parametrize("done", [0, 1, 7])
def test_an_interrupted_preparation_goes_on(whole, tmp_path, monkeypatch, done):
    written: list[Path] = []

    def write(path, case):
        if len(written) == done:
            raise KeyboardInterrupt
        written.append(write_case(path, case))

    with monkeypatch.context() as patched:
        patched.setattr(phantom_set, "write_case", write)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path)
    before = stamps(tmp_path)
    assert len(before) == done
    made: list[tuple[str, int]] = []
    monkeypatch.setattr(phantom_set, "ct_phantom", lambda o, s, **k: made.append((o, s)) or ct_phantom(o, s, **k))
    assert make(tmp_path).digest == whole.digest
    after = stamps(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(made) == 3 * CASES - done, "what is there is not made again"


def test_a_deleted_case_is_made_again(whole, tmp_path):
    make(tmp_path)
    before = stamps(tmp_path)
    (tmp_path / "aorta" / "aorta-00002.npz").unlink()
    assert make(tmp_path).digest == whole.digest
    after = stamps(tmp_path)
    assert {name for name in before if after[name] != before[name]} == {"aorta/aorta-00002.npz"}


@pytest.mark.parametrize("change", [{"size": 18}, {"cases": 6}, {"seed": 4}], ids=str)
def test_a_folder_with_another_set_is_refused_and_kept(tmp_path, change):
    make(tmp_path)
    before = stamps(tmp_path)
    with pytest.raises(ValueError, match=r"^folder .* holds phantoms made with \{.*'cases': 5.*\}; wanted \{.*\}"):
        make(tmp_path, **change)
    assert stamps(tmp_path) == before


def test_an_unfinished_folder_of_another_size_is_refused(tmp_path):
    make(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(
        ValueError, match=r"kidney-00000\.npz has shape \(16, 16, 16\); wanted 18 voxels a side; delete"
    ):
        make(tmp_path, size=18)


def test_a_damaged_case_is_named(tmp_path):
    make(tmp_path)
    (tmp_path / "manifest.json").unlink()
    path = tmp_path / "kidney" / "kidney-00001.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        ValueError, match=r"kidney-00001\.npz is no readable case .*; delete it and run its data script"
    ):
        make(tmp_path)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 5, 1), "size is 0, cases is 5 and seed 1; expected at least 16 voxels"),
        ((15, 5, 1), "size is 15, .*; expected at least 16 voxels"),
        ((16, 4, 1), "cases is 4 .*; expected .* 5 to 99999 cases"),
        ((16, 100000, 1), "cases is 100000 .*; expected .* 5 to 99999 cases"),
        ((16, 5, -1), "seed -1; expected .* a seed of at least 0"),
    ],
)
def test_numbers_out_of_range(tmp_path, numbers, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "a", *numbers)
    assert not (tmp_path / "a").exists()
