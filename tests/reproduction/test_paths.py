"""Tests of paths: a file is the old one or, whole, the new one, on a full disk and in a killed process too."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noisyseg._core.files import atomic_file
from reproduction.paths import atomic_write, project_root, read_json, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_bytes_and_utf8_text_and_makes_parents(tmp_path):
    assert atomic_write(tmp_path / "a" / "b" / "x", b"\x00\xff").read_bytes() == b"\x00\xff"
    assert atomic_write(tmp_path / "y", "σ ≤ œ").read_bytes() == "σ ≤ œ".encode()
    assert names(tmp_path / "a" / "b") == ["x"]
    atomic_write(tmp_path / "y", "")
    assert (tmp_path / "y").read_bytes() == b""


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "x"
    with atomic_file(path) as file:
        file.write(b"o")
        assert not path.exists()  # not before the block has ended
        file.write(b"ld")
    assert path.read_bytes() == b"old"
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b"new")
        raise KeyError
    assert path.read_bytes() == b"old" and names(tmp_path) == ["x"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        path = atomic_write(tmp_path / "x", "new")
    finally:
        assert os.umask(before) == mask, "atomic_write left another umask behind"
    assert path.stat().st_mode & 0o777 == mode


def test_a_reader_that_has_the_old_file_open_keeps_it(tmp_path):
    path = atomic_write(tmp_path / "x", "old")
    with path.open() as old:
        atomic_write(path, "new")
        assert old.read() == "old"
    assert path.read_text() == "new"


FULL_DISK = """
import resource, signal, sys
from reproduction.paths import atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails, as on a full disk, instead of killing the process
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
atomic_write(sys.argv[1], b"n" * int(sys.argv[2]))
"""


def write_with_limit(path: Path, size: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FULL_DISK, str(path), str(size)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = atomic_write(tmp_path / "x", "old")
    failed = write_with_limit(path, 5000)
    assert failed.returncode == 1 and f"OSError: [Errno 27] File too large: '{path}'" in failed.stderr
    assert path.read_text() == "old" and names(tmp_path) == ["x"]
    failed = write_with_limit(tmp_path / "never", 5000)
    assert failed.returncode == 1 and names(tmp_path) == ["x"]
    assert write_with_limit(path, 1000).returncode == 0
    assert path.read_bytes() == b"n" * 1000 and names(tmp_path) == ["x"]


@pytest.mark.parametrize("step", ["os.fsync", "os.chmod", "os.replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_a_failure_at_any_step_keeps_the_old_file(tmp_path, monkeypatch, step, error):
    path = atomic_write(tmp_path / "x", "old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(step, fail)
    with pytest.raises(type(error)):
        atomic_write(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["x"]


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    """Whenever the kill comes, the file holds one of the two contents from end to end."""
    path = atomic_write(tmp_path / "x", b"0" * 300_000)
    script = (
        "import itertools, sys\n"
        "from reproduction.paths import atomic_write\n"
        "print('ready', flush=True)\n"
        "for k in itertools.count(): atomic_write(sys.argv[1], b'01'[k % 2:k % 2 + 1] * 300_000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    content = path.read_bytes()
    assert len(content) == 300_000 and set(content) in ({ord("0")}, {ord("1")})
    assert all(name == "x" or (name.startswith(".x.") and name.endswith(".part")) for name in names(tmp_path))


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    atomic_write(tmp_path / "file", "x")
    with pytest.raises(OSError, match="file"):
        atomic_write(tmp_path / "file" / "below", "y")


def test_json_round_trip(tmp_path):
    value = {"a": 0.01, "features": [8, 16], "name": "œsophage", "none": None, "deep": {"x": True}}
    assert read_json(write_json(tmp_path / "x.json", value)) == value
    assert (tmp_path / "x.json").read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_json_and_keeps_the_old_file(tmp_path, number):
    path = write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": number})
    assert read_json(path) == {"a": 1} and names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }', r"x\.json is not valid JSON \(line 2, column 7\): Expecting value"),
        (b"", r"x\.json is not valid JSON \(line 1, column 1\)"),
        (b'{"a": 1', r"x\.json is not valid JSON \(line 1, column 8\)"),
        (b'{"a": "\xff\xfe"}', r"x\.json is not valid JSON: byte 7 is no UTF-8 text"),
    ],
)
def test_damaged_json_is_named(tmp_path, content, message):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "x.json")


def test_project_root(tmp_path, monkeypatch, root):
    monkeypatch.delenv("NOISYSEG_ROOT", raising=False)
    assert project_root() == root, "the checkout that the package was imported from"
    (tmp_path / "workflow" / "presets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert project_root() == root, "the checkout wins over the current folder"
    monkeypatch.setenv("NOISYSEG_ROOT", str(tmp_path))
    assert project_root() == tmp_path, "the variable wins over all"
    monkeypatch.setenv("NOISYSEG_ROOT", str(tmp_path / "none"))
    with pytest.raises(
        FileNotFoundError, match=r"workflow/presets in .*none; run from a checkout .* set NOISYSEG_ROOT"
    ):
        project_root()


def test_project_root_of_an_installed_package_is_found_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("NOISYSEG_ROOT", raising=False)
    monkeypatch.setattr("reproduction.paths.__file__", str(tmp_path / "lib" / "a" / "b" / "paths.py"))
    (tmp_path / "checkout" / "workflow" / "presets").mkdir(parents=True)
    (tmp_path / "checkout" / "book" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkout" / "book" / "deep")
    assert project_root() == tmp_path / "checkout"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no project folder"):
        project_root()
