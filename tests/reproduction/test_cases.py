"""Tests of cases: the patch format, the folds and the manifest, and what happens when one is damaged."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproduction.data.cases import Case, CaseSet, assign_folds, read_case, write_case, write_manifest


def make_case(name: str = "one", seed: int = 0, side: int = 4) -> Case:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(side, side, side)).astype(np.float32)
    return Case(name, image, (image > 0).astype(np.uint8), np.array([1.0, 2.0, 3.0]))


def make_set(folder: Path, count: int = 6) -> CaseSet:
    entries = {}
    for k in range(count):
        case = make_case(f"case-{k}", k)
        write_case(folder / "organ" / f"case-{k}.npz", case)
        entries[f"case-{k}"] = {"voxels": int(case.label.sum()), "sha256": case.digest()}
    return write_manifest(folder, "tiny", {"organ": entries}, {"name": "made"}, {"shape": [4, 4, 4]}, folds=3)


# ---- Case ----

ZERO = np.zeros((2, 2, 2), np.float32)
MASK = np.ones((2, 2, 2), np.uint8)
SIDE_MM = np.full(3, 2.0)


@pytest.mark.parametrize(
    ("image", "label", "spacing", "message"),
    [
        (ZERO[:1], MASK, SIDE_MM, r"case x: image has shape \(1, 2, 2\) and label \(2, 2, 2\); expected one three-dim"),
        (ZERO[0], MASK[0], SIDE_MM, r"case x: image has shape \(2, 2\) and label \(2, 2\); expected one three-dim"),
        (ZERO.astype(float), MASK, SIDE_MM, "case x: image is float64 and label uint8; expected float32 and uint8"),
        (ZERO, MASK.astype(bool), SIDE_MM, "case x: image is float32 and label bool; expected float32 and uint8"),
        (ZERO + np.nan, MASK, SIDE_MM, "case x: image holds 8 NaN or infinite voxels"),
        (ZERO + np.inf, MASK, SIDE_MM, "case x: image holds 8 NaN or infinite voxels"),
        (ZERO, 3 * MASK, SIDE_MM, "case x: label holds the value 3; expected 0 and 1 only"),
        (ZERO, MASK, SIDE_MM[:2], r"case x: spacing_mm is \[2.0, 2.0\] \(float64\); expected three positive"),
        (ZERO, MASK, np.array([2.0, 0.0, 2.0]), r"case x: spacing_mm is \[2.0, 0.0, 2.0\] .*; expected three positive"),
        (ZERO, MASK, np.array([2.0, np.nan, 2.0]), "case x: spacing_mm is .*nan"),
        (ZERO, MASK, np.array([2.0, np.inf, 2.0]), "case x: spacing_mm is .*inf"),
        (
            ZERO,
            MASK,
            SIDE_MM.astype(np.float32),
            r"case x: spacing_mm is .* \(float32\); expected three positive float64",
        ),
    ],
)
def test_what_is_no_case(image, label, spacing, message):
    with pytest.raises(ValueError, match=message):
        Case("x", image, label, spacing)


def test_round_trip_and_digest(tmp_path):
    case = make_case()
    read = read_case(write_case(tmp_path / "organ" / "one.npz", case))
    assert read.id == "one" and read.digest() == case.digest()
    for name in ("image", "label", "spacing_mm"):
        written, back = getattr(case, name), getattr(read, name)
        assert back.dtype == written.dtype and np.array_equal(back, written)
    assert [path.name for path in (tmp_path / "organ").iterdir()] == ["one.npz"]


def test_digest_is_of_shapes_and_values_whatever_their_order_in_memory():
    case = make_case()
    assert Case("other", np.asfortranarray(case.image), case.label, case.spacing_mm).digest() == case.digest()
    image = case.image.copy()
    image[1, 2, 3] = np.nextafter(image[1, 2, 3], np.float32(9))
    label = case.label.copy()
    label[0, 0, 0] ^= 1
    others = [
        Case("one", image, case.label, case.spacing_mm),
        Case("one", case.image, label, case.spacing_mm),
        Case("one", case.image, case.label, case.spacing_mm[::-1]),
        Case("one", case.image.reshape(2, 8, 4), case.label.reshape(2, 8, 4), case.spacing_mm),
    ]
    assert len({other.digest() for other in (case, *others)}) == 5


def test_a_missing_case_is_not_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        read_case(tmp_path / "none.npz")


def is_refused(path: Path, content: bytes, whole: Case) -> bool:
    """Whether a file with this content is refused with the one message; True as well if the damage changed nothing."""
    path.write_bytes(content)
    try:
        return read_case(path).digest() == whole.digest()
    except ValueError as error:
        assert str(error).startswith(f"{path} is no readable case (")
        assert str(error).endswith("; delete it and run its data script again")
        return True


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    case = make_case(side=2)
    whole = write_case(tmp_path / "one.npz", case).read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.npz is no readable case"):
            read_case(tmp_path / "cut.npz")


def test_a_file_with_any_damaged_byte_is_refused_or_harmless(tmp_path):
    case = make_case(side=2)
    whole = write_case(tmp_path / "one.npz", case).read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= (0x01, 0x80, 0xFF)[place % 3]
        assert is_refused(tmp_path / "damaged.npz", bytes(damaged), case), place


def test_files_that_are_no_case(tmp_path):
    np.save(tmp_path / "array.npy", ZERO)
    np.savez(tmp_path / "half.npz", image=ZERO, label=MASK)
    np.savez(tmp_path / "objects.npz", image=np.array([{"a": 1}]), label=MASK, spacing_mm=SIDE_MM)
    np.savez(tmp_path / "wrong.npz", image=ZERO + np.nan, label=MASK, spacing_mm=SIDE_MM)
    (tmp_path / "text.npz").write_text("no zip")
    for name, message in {
        "array.npy": "context manager",
        "half.npz": "spacing_mm",
        "objects.npz": "allow_pickle=False",
        "wrong.npz": "8 NaN or infinite voxels",
        "text.npz": "",
    }.items():
        with pytest.raises(ValueError, match=rf"{name} is no readable case \(.*{message}"):
            read_case(tmp_path / name)


# ---- folds ----


@settings(max_examples=40)
@given(st.sets(st.text(min_size=1, max_size=8), min_size=5, max_size=20), st.randoms(), st.integers(2, 5))
def test_folds_are_balanced_and_do_not_depend_on_the_order(ids, random, folds):
    given_order = sorted(ids)
    random.shuffle(given_order)
    fold_of = assign_folds(given_order, folds)
    assert fold_of == assign_folds(sorted(ids), folds)
    sizes = Counter(fold_of.values())
    assert set(fold_of) == ids and set(sizes) == set(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_folds_by_hand():
    """Sorted by SHA-256 and dealt out in turn, whoever reads this can do it with sha256sum."""
    ids = [f"case-{k}" for k in range(7)]
    order = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert assign_folds(ids, 3) == {name: rank % 3 for rank, name in enumerate(order)}
    assert assign_folds(["a", "b", "c"], 3) == {"c": 0, "b": 1, "a": 2}  # 2e7d..., 3e23..., ca97...


@pytest.mark.parametrize(
    ("ids", "folds", "message"),
    [
        (["a", "b", "a", "c", "c"], 2, "ids: a, c occurs more than once"),
        (["a", "b"], 3, "folds is 3 for 2 cases; expected 2 to 2"),
        (["a", "b"], 1, "folds is 1 for 2 cases; expected 2 to 2"),
        ([], 5, "folds is 5 for 0 cases"),
    ],
)
def test_folds_that_cannot_be(ids, folds, message):
    with pytest.raises(ValueError, match=message):
        assign_folds(ids, folds)


# ---- the set ----


def test_a_set_splits_loads_and_verifies(tmp_path):
    cases = make_set(tmp_path)
    ids = [f"case-{k}" for k in range(6)]
    assert list(cases.entries("organ")) == ids
    tests = []
    for fold in range(3):
        train, test = cases.split("organ", fold)
        assert sorted(train + test) == ids and len(test) == 2
        assert {assign_folds(ids, 3)[name] for name in test} == {fold}
        tests += test
    assert sorted(tests) == ids, "every case is tested once"
    loaded = cases.load("organ", ["case-3", "case-1"])
    assert [case.id for case in loaded] == ["case-3", "case-1"]
    assert np.array_equal(loaded[0].image, make_case("case-3", 3).image)
    assert [case.id for case in cases.load("organ")] == ids
    assert cases.load("organ", []) == []
    assert cases.missing() == []


def test_the_digest_is_of_all_cases(tmp_path):
    cases = make_set(tmp_path)
    entries = cases.entries("organ")
    text = "".join(f"organ/case-{k}:{make_case(f'case-{k}', k).digest()}\n" for k in range(6))
    assert cases.digest == hashlib.sha256(text.encode()).hexdigest()
    changed = {**entries, "case-2": {"voxels": 1, "sha256": "0" * 64}}
    assert write_manifest(tmp_path / "b", "tiny", {"organ": changed}, {}, {}, 3).digest != cases.digest


def test_an_unchanged_manifest_is_left_untouched(tmp_path):
    make_set(tmp_path)
    path = tmp_path / "manifest.json"
    before = path.stat()
    make_set(tmp_path)
    after = path.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    make_set(tmp_path, count=7)
    assert path.stat().st_ino != before.st_ino and len(CaseSet(tmp_path).entries("organ")) == 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.entries("liver"), r"organ is 'liver'; .* has organ$"),
        (lambda s: s.load("liver"), "organ is 'liver'"),
        (lambda s: s.load("organ", ["case-1", "nobody"]), "ids: .* has no organ case 'nobody'"),
        (lambda s: s.split("organ", 3), r"fold is 3; .* has \[0, 1, 2\]"),
        (lambda s: s.split("organ", -1), r"fold is -1; .* has \[0, 1, 2\]"),
    ],
)
def test_asking_for_what_is_not_there(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(make_set(tmp_path))


def test_a_file_that_holds_another_case_is_refused(tmp_path):
    cases = make_set(tmp_path)
    write_case(tmp_path / "organ" / "case-2.npz", make_case("case-2", seed=77))
    assert len(cases.load("organ", ["case-1", "case-3"])) == 2
    with pytest.raises(ValueError, match=r"case-2\.npz is not the case of the manifest .*; delete it and run the data"):
        cases.load("organ")


def test_a_deleted_file_is_named(tmp_path):
    cases = make_set(tmp_path)
    (tmp_path / "organ" / "case-4.npz").unlink()
    assert cases.missing() == [tmp_path / "organ" / "case-4.npz"]
    with pytest.raises(FileNotFoundError, match=r"case-4\.npz"):
        cases.load("organ")


def test_a_folder_without_manifest_is_incomplete(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"manifest\.json does not exist: the data set is not there yet or incompl"
    ):
        CaseSet(tmp_path)


def without(manifest: dict[str, Any], *keys: str) -> dict[str, Any]:
    part = manifest
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    return manifest


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: {**m, "format": 99}, r"manifest\.json has format 99; this version reads format 1"),
        (lambda m: without(m, "format"), r"manifest\.json has format None; this version reads format 1"),
        (lambda m: [m], r"manifest\.json is no manifest: it holds list; expected a mapping"),
        (
            lambda m: without(m, "digest"),
            r"manifest\.json is no manifest: entries are missing; delete it and run the data",
        ),
        (lambda m: without(m, "organs"), "entries are missing"),
        (lambda m: without(m, "patch"), "entries are missing"),
        (lambda m: {**m, "organs": []}, "entries are missing"),
        (lambda m: {**m, "organs": {"organ": ["case-1"]}}, "entries are missing"),
        (lambda m: without(m, "organs", "organ", "case-1", "sha256"), "entries are missing"),
        (lambda m: without(m, "organs", "organ", "case-1", "fold"), "entries are missing"),
        (lambda m: {**m, "organs": {"organ": {"case-1": {"fold": "0", "sha256": ""}}}}, "entries are missing"),
    ],
)
def test_a_manifest_with_the_wrong_content(tmp_path, damage, message):
    manifest = make_set(tmp_path).manifest
    (tmp_path / "manifest.json").write_text(json.dumps(damage(manifest)))
    with pytest.raises(ValueError, match=message):
        CaseSet(tmp_path)


def test_a_manifest_cut_off_anywhere(tmp_path):
    make_set(tmp_path)
    whole = (tmp_path / "manifest.json").read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        (tmp_path / "manifest.json").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"manifest\.json is not valid JSON"):
            CaseSet(tmp_path)
