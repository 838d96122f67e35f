"""Tests of noise_cache: the labels that would be drawn, and never those of other data, noise or code."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest

import tiny
from reproduction.data.cases import CaseSet
from reproduction.runs import noise_cache
from reproduction.runs.noise_cache import cache_key, noisy_label, noisy_labels

ORGAN = "hippocampus"
CONFIG = tiny.small_config()


@pytest.fixture
def data_set(tmp_path: Path) -> CaseSet:
    return tiny.make_data(tmp_path, cases=6, side=9)


def never(line: str) -> None:
    pytest.fail(f"nothing to report, but: {line}")


def files(data_set: CaseSet) -> list[Path]:
    return sorted(path for path in (data_set.folder / "noise").iterdir() if path.suffix == ".npz")


def drawn(config, cases):
    return np.stack([noisy_label(case, config) for case in cases])


@pytest.mark.parametrize("a", [0.0, 0.02, 0.03])
def test_the_labels_are_those_that_would_be_drawn(data_set, a, monkeypatch):
    config = tiny.small_config(a=a)
    cases = data_set.load(ORGAN)
    expected = drawn(config, cases)
    made = noisy_labels(config, data_set, cases, never)
    monkeypatch.setattr(noise_cache, "noisy_label", lambda *_: pytest.fail("drawn again"))
    read = noisy_labels(config, data_set, cases, never)
    some = noisy_labels(config, data_set, [cases[4], cases[1]], never)
    for found in (made, read):
        assert found.dtype == np.uint8 and found.shape == (6, 9, 9, 9) and (found == expected).all()
    assert (some == expected[[4, 1]]).all()
    assert (expected != np.stack([case.label for case in cases])).any() == (a > 0)
    (path,) = files(data_set)
    assert path.name.startswith(f"{ORGAN}-a{a:.3f}-") and path.stat().st_size < 6 * 92 + 1000  # 729 voxels: 92 bytes


def test_losses_folds_and_seeds_of_training_share_one_file(data_set):
    cases = data_set.load(ORGAN)
    for changes in ({}, {"loss": "sd"}, {"fold": 3}, {"training_seed": 2}, {"epochs": 9, "learning_rate": 0.1}):
        noisy_labels(tiny.small_config(**changes), data_set, cases, never)
    assert len(files(data_set)) == 1


@pytest.mark.parametrize("changes", [{"a": 0.03}, {"b": 0.2}, {"noise_seed": 2}])
def test_what_the_noise_depends_on_has_a_file_of_its_own(data_set, changes):
    cases = data_set.load(ORGAN)
    other = tiny.small_config(**changes)
    assert cache_key(other, data_set) != cache_key(CONFIG, data_set)
    found = [noisy_labels(config, data_set, cases, never) for config in (CONFIG, other)]
    assert (found[0] != found[1]).any() and len(files(data_set)) == 2
    assert (found[1] == drawn(other, cases)).all()


def test_other_data_other_code_and_another_numpy_have_other_keys(tmp_path, monkeypatch):
    first, second = (tiny.make_data(tmp_path / name, cases=6, side=9, seed=k) for k, name in enumerate("ab"))
    keys = {cache_key(CONFIG, first), cache_key(CONFIG, second)}
    with monkeypatch.context() as patch:
        patch.setattr(noise_cache, "_code_digest", lambda: "other")
        keys.add(cache_key(CONFIG, first))
    monkeypatch.setattr(np, "__version__", "9.9")
    assert len(keys | {cache_key(CONFIG, first)}) == 4


def test_another_rule_for_the_seeds_has_another_key(data_set, monkeypatch):
    before = cache_key(CONFIG, data_set)
    monkeypatch.setattr(type(CONFIG), "seed_of_case", lambda self, case: 7)
    assert cache_key(CONFIG, data_set) != before


def test_what_a_killed_process_left_is_removed(data_set):
    cases = data_set.load(ORGAN)
    noisy_labels(CONFIG, data_set, cases, never)
    (made,) = files(data_set)
    made.unlink()
    mine, other = (made.with_name(f".{name}.abc12345.part") for name in (made.name, "aorta-a0.020-0123456789ab.npz"))
    mine.touch()
    other.touch()  # of another file, which another process may be writing
    noisy_labels(CONFIG, data_set, cases, never)
    assert made.exists() and other.exists() and not mine.exists()


def test_the_code_counts_byte_by_byte(tmp_path, monkeypatch):
    before = noise_cache._code_digest()
    path = tmp_path / "noise.py"
    content = Path(noise_cache.noise.__file__ or "").read_bytes()
    noise_cache._code_digest.cache_clear()
    try:
        monkeypatch.setattr(noise_cache.noise, "__file__", str(path))
        path.write_bytes(content)
        assert noise_cache._code_digest() == before
        noise_cache._code_digest.cache_clear()
        path.write_bytes(content + b"#")
        assert noise_cache._code_digest() != before
    finally:
        noise_cache._code_digest.cache_clear()


def test_any_damaged_byte_is_noticed_or_harmless_and_repaired(data_set):
    cases = data_set.load(ORGAN)
    expected = noisy_labels(CONFIG, data_set, cases, never)
    (path,) = files(data_set)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [good[:n] for n in (0, 20, len(good) // 2, len(good) - 1)] + [b"no archive"]
    damaged += [good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :] for k in rng.integers(0, len(good), 60)]
    noticed = 0
    for bad in damaged:
        path.write_bytes(bad)
        lines: list[str] = []
        assert (noisy_labels(CONFIG, data_set, cases, lines.append) == expected).all()
        assert len(lines) <= 1 and all(str(path) in line and line.endswith("drawn again") for line in lines)
        assert not lines or path.read_bytes() == good
        noticed += len(lines)
    assert noticed > 50


def test_a_file_of_other_labels_under_the_right_name_is_not_taken(data_set):
    cases = data_set.load(ORGAN)
    expected = noisy_labels(CONFIG, data_set, cases, never)
    other = tiny.small_config(a=0.03)
    noisy_labels(other, data_set, cases, never)
    name = {config.a: f"{ORGAN}-a{config.a:.3f}-{cache_key(config, data_set)[:12]}.npz" for config in (CONFIG, other)}
    folder = data_set.folder / "noise"
    shutil.copy(folder / name[other.a], folder / name[CONFIG.a])
    lines: list[str] = []
    assert (noisy_labels(CONFIG, data_set, cases, lines.append) == expected).all()
    assert len(lines) == 1 and "holds labels of other data, noise or code" in lines[0]
    assert (noisy_labels(CONFIG, data_set, cases, never) == expected).all()


def test_where_nothing_can_be_written_the_labels_are_drawn(data_set, monkeypatch):
    cases = data_set.load(ORGAN)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    lines: list[str] = []
    assert (noisy_labels(CONFIG, data_set, cases, lines.append) == drawn(CONFIG, cases)).all()
    assert lines[-1].endswith("cannot be made (No space left on device): drawing the labels of this run alone")
    assert files(data_set) == []


def test_no_cases_are_refused(data_set):
    with pytest.raises(ValueError, match="cases is empty; expected at least one case"):
        noisy_labels(CONFIG, data_set, [], never)


def draw_in_child(folder: str, results: multiprocessing.Queue) -> None:
    lines: list[str] = []
    data_set = CaseSet(folder)
    labels = noisy_labels(CONFIG, data_set, data_set.load(ORGAN), lines.append)
    results.put((labels.tobytes(), lines))


def test_processes_that_come_together_draw_once_and_agree(data_set):
    found = tiny.in_processes(draw_in_child, str(data_set.folder))
    assert found == [(drawn(CONFIG, data_set.load(ORGAN)).tobytes(), [])] * 3
    assert len(files(data_set)) == 1
