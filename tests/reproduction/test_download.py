"""Tests of reproduction.data.download against a real HTTP server on loopback that drops, stalls, refuses and lies."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from range_server import Bad, serve
from reproduction.data.download import fetch, md5
from reproduction.data.http_range import CHUNK, RangeNotSupported, RequestLimits

DATA = np.random.default_rng(0).bytes(600_001)
MD5 = hashlib.md5(DATA).hexdigest()
QUICK = RequestLimits(attempts=3, pause_s=0.0, per_minute=0)


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Bad]:
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "Task.tar").write_bytes(DATA)
    with serve(tmp_path / "www") as server:
        yield server


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "downloads" / "Task.tar"


def get(server: Bad, target: Path, limits: RequestLimits = QUICK) -> Path:
    return fetch(f"{server.url}/Task.tar", target, MD5, limits)


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_md5_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert md5(tmp_path / "x") == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321


def test_a_whole_download_and_no_second_one(server, target):
    assert get(server, target) == target
    assert target.read_bytes() == DATA and names(target) == ["Task.tar"]
    assert server.ranges == [(0, 1), (0, len(DATA))], "its size, and its bytes"
    before = target.stat().st_mtime_ns
    assert get(server, target) == target
    assert len(server.ranges) == 2 and target.stat().st_mtime_ns == before


def test_dropped_connections_go_on_where_they_stopped(server, target):
    """The real host drops transfers: more often than there are attempts, if each gets further."""
    server.plan = ["right", *[("drop", 130_000)] * 4]
    get(server, target)
    assert target.read_bytes() == DATA and names(target) == ["Task.tar"]
    starts = [start for start, _ in server.ranges[1:]]
    assert starts == sorted(set(starts)) and len(starts) == 5
    assert server.sent < len(DATA) + 5 * CHUNK


def test_after_the_last_attempt_the_part_waits_for_the_next_call(server, target):
    server.plan = ["right", ("drop", 200_000), 503, 503, 503]
    with pytest.raises(ConnectionError, match=r"Task\.tar: 3 attempts failed, the last with: 503 .*; run it again"):
        get(server, target)
    assert names(target) == ["Task.tar.part"]
    part = (target.parent / "Task.tar.part").read_bytes()
    assert len(part) > 130_000 and DATA.startswith(part)
    server.plan = []
    get(server, target)
    assert server.ranges[-1] == (len(part), len(DATA))
    assert target.read_bytes() == DATA and names(target) == ["Task.tar"]


def test_a_server_that_ignores_range_is_refused(server, target):
    server.plan = ["whole"]
    with pytest.raises(RangeNotSupported, match="download the file yourself and give the copy as the source"):
        get(server, target)
    assert names(target) == []


@pytest.mark.parametrize("code", [401, 404])
def test_a_refusal_ends_at_once(server, target, code):
    server.plan = [code]
    with pytest.raises(ConnectionError, match=rf"Task\.tar: the server answered {code}$"):
        get(server, target)
    assert len(server.ranges) == 1 and names(target) == []


def test_a_silent_server_is_given_up_and_tried_again(server, target):
    server.plan = ["right", lambda request: server.awake.wait(20) and "right"]
    get(server, target, RequestLimits(pause_s=0.0, timeout_s=0.3, per_minute=0))
    assert target.read_bytes() == DATA and len(server.ranges) == 3


def test_a_wrong_download_is_removed(server, target):
    path = server.folder / "Task.tar"
    path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"has MD5 {md5(path)}; expected {MD5}; it was removed, run it again"):
        get(server, target)
    assert names(target) == []
    path.write_bytes(DATA)
    assert get(server, target).read_bytes() == DATA


def test_a_part_that_is_whole_already(server, target):
    """Killed between the last byte and the renaming."""
    target.parent.mkdir()
    (target.parent / "Task.tar.part").write_bytes(DATA)
    get(server, target)
    assert server.ranges == [(0, 1)] and target.read_bytes() == DATA and names(target) == ["Task.tar"]


@pytest.mark.parametrize("part", [DATA + b"x", DATA[:100_000] + b"x"], ids=["too long", "wrong inside"])
def test_a_part_of_something_else_is_removed(server, target, part):
    target.parent.mkdir()
    (target.parent / "Task.tar.part").write_bytes(part)
    with pytest.raises(ValueError, match="it was removed, run it again"):
        get(server, target)
    assert names(target) == []
    assert get(server, target).read_bytes() == DATA


def test_an_existing_file_with_another_checksum_is_refused_and_kept(server, target):
    target.parent.mkdir()
    target.write_bytes(b"precious")
    with pytest.raises(ValueError, match=rf"Task\.tar has MD5 \w+; expected {MD5}; delete it to fetch it again"):
        get(server, target)
    assert target.read_bytes() == b"precious" and server.ranges == []


FULL_DISK = """
import resource, signal, sys
from reproduction.data.download import fetch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
fetch(*sys.argv[1:])
"""


def test_a_full_disk_keeps_the_part(server, target):
    command = [sys.executable, "-c", FULL_DISK, f"{server.url}/Task.tar", str(target), MD5]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and "OSError: [Errno 27] File too large" in failed.stderr
    assert names(target) == ["Task.tar.part"] and len(server.ranges) == 2, "a full disk is no reason to try again"
    part = (target.parent / "Task.tar.part").read_bytes()
    assert 0 < len(part) <= 200_000 and DATA.startswith(part)
    assert get(server, target).read_bytes() == DATA
    assert server.ranges[-1] == (len(part), len(DATA))
