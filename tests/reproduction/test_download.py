"""Tests of reproduction.data.download against a real HTTP server on loopback that drops, stalls, refuses and lies."""

import hashlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from reproduction.data.download import fetch, md5

DATA = np.random.default_rng(0).bytes(600_001)
MD5 = hashlib.md5(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA. ``plan`` says, request by request, what goes wrong; after its end everything is right."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = DATA
        self.plan: list[object] = []
        self.ranges: list[str | None] = []
        self.encodings: list[str | None] = []
        self.sent = 0
        self.awake = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/Task.tar"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the test."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        server.encodings.append(self.headers.get("Accept-Encoding"))
        step = server.plan.pop(0) if server.plan else "right"
        self.close_connection = True
        if isinstance(step, int):
            self.send_error(step)
            return
        if step == "silent":
            server.awake.wait(20)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and step != "no ranges" else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if step != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if isinstance(step, tuple):  # ("drop" or "stall", bytes)
            body = body[: step[1]]
        self.wfile.write(body)
        self.wfile.flush()
        server.sent += len(body)
        if isinstance(step, tuple) and step[0] == "stall":
            server.awake.wait(20)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.awake.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "downloads" / "Task.tar"


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """What the function would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("reproduction.data.download.time.sleep", slept.append)
    return slept


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_md5_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert md5(tmp_path / "x") == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321


def test_a_whole_download_and_no_second_one(server, target, pauses):
    assert fetch(server.url, target, MD5) == target
    assert target.read_bytes() == DATA and names(target) == ["Task.tar"]
    assert server.ranges == [None] and server.encodings == ["identity"] and pauses == []
    before = target.stat().st_mtime_ns
    assert fetch(server.url, target, MD5) == target
    assert len(server.ranges) == 1 and target.stat().st_mtime_ns == before


def test_a_dropped_connection_goes_on_where_it_stopped(server, target, pauses):
    server.plan = [("drop", 300_000)]
    fetch(server.url, target, MD5)
    assert target.read_bytes() == DATA and names(target) == ["Task.tar"]
    first, second = server.ranges
    assert first is None and second is not None
    assert 250_000 < int(second.removeprefix("bytes=").removesuffix("-")) <= 300_000
    assert server.sent < 1.1 * len(DATA), "next to nothing is sent twice"
    assert pauses == [1.0]


def test_every_attempt_gets_further_however_early_the_server_drops(server, target, pauses):
    """The real host drops transfers: short ones must add up too."""
    server.plan = [("drop", 130_000)] * 4
    fetch(server.url, target, MD5, pause_s=0.5)
    assert target.read_bytes() == DATA
    starts = [int((r or "bytes=0-")[6:-1]) for r in server.ranges]
    assert len(starts) == 5 and all(b - a > 90_000 for a, b in pairwise(starts))
    assert server.sent < 1.3 * len(DATA)
    assert pauses == [0.5, 1.0, 2.0, 4.0], "each pause is twice the one before"


def test_after_the_last_attempt_the_part_waits_for_the_next_call(server, target, pauses):
    server.plan = [("drop", 200_000), ("drop", 150_000)]
    with pytest.raises(
        ConnectionError, match=r"Task\.tar: 2 attempts failed, the last with: .*; run it again to go on"
    ):
        fetch(server.url, target, MD5, attempts=2)
    assert names(target) == ["Task.tar.part"] and len(pauses) == 1
    part = (target.parent / "Task.tar.part").read_bytes()
    assert len(part) > 250_000 and DATA.startswith(part)
    fetch(server.url, target, MD5)
    assert server.ranges[-1] == f"bytes={len(part)}-"
    assert target.read_bytes() == DATA and names(target) == ["Task.tar"]
    assert server.sent < 1.3 * len(DATA)


def test_a_server_that_ignores_range_sends_all_again(server, target, pauses):
    server.plan = [("drop", 300_000), "no ranges"]
    fetch(server.url, target, MD5)
    assert server.ranges[1] is not None
    assert target.read_bytes() == DATA and names(target) == ["Task.tar"]


def test_a_server_that_does_not_say_how_much_is_to_come(server, target, pauses):
    server.plan = ["no length"]
    fetch(server.url, target, MD5)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_refusal_ends_at_once(server, target, pauses, code):
    server.plan = [code]
    with pytest.raises(ConnectionError, match=rf"{server.url}: the server answered {code}$"):
        fetch(server.url, target, MD5)
    assert len(server.ranges) == 1 and pauses == [] and names(target) == []


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_an_answer_that_means_later_is_tried_again(server, target, pauses, code):
    server.plan = [code, code]
    fetch(server.url, target, MD5)
    assert target.read_bytes() == DATA and len(server.ranges) == 3 and pauses == [1.0, 2.0]


def test_a_server_that_only_fails(server, target, pauses):
    server.plan = [503] * 9
    with pytest.raises(ConnectionError, match="3 attempts failed, the last with: 503 Server Error"):
        fetch(server.url, target, MD5, attempts=3)
    assert len(server.ranges) == 3 and len(pauses) == 2 and names(target) == []


@pytest.mark.parametrize("step", ["silent", ("stall", 100_000)], ids=str)
def test_a_silent_server_is_given_up_and_tried_again(server, target, pauses, step):
    server.plan = [step]
    fetch(server.url, target, MD5, timeout_s=0.3)
    assert target.read_bytes() == DATA and len(server.ranges) == 2
    if step != "silent":
        assert server.ranges[1] is not None, "what came before the silence is kept"


def test_a_server_that_stays_silent(server, target, pauses):
    server.plan = ["silent"] * 2
    with pytest.raises(ConnectionError, match=r"2 attempts failed, the last with: .*[Tt]imed out"):
        fetch(server.url, target, MD5, attempts=2, timeout_s=0.2)


def test_no_server(target, pauses, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as closed:
        url = closed.url
    with pytest.raises(ConnectionError, match=r"2 attempts failed, the last with: .*refused"):
        fetch(url, target, MD5, attempts=2)
    assert names(target) == []


def test_a_wrong_download_is_removed(server, target, pauses):
    server.content = DATA[:-1] + bytes([DATA[-1] ^ 1])
    wrong = hashlib.md5(server.content).hexdigest()
    with pytest.raises(ValueError, match=f"the download has MD5 {wrong}; expected {MD5}; it was removed, run it again"):
        fetch(server.url, target, MD5)
    assert names(target) == []
    server.content = DATA
    assert fetch(server.url, target, MD5).read_bytes() == DATA


def test_a_part_that_is_whole_already(server, target, pauses):
    """Killed between the last byte and the renaming: the server has nothing to add (416)."""
    target.parent.mkdir()
    (target.parent / "Task.tar.part").write_bytes(DATA)
    fetch(server.url, target, MD5)
    assert server.ranges == [f"bytes={len(DATA)}-"] and server.sent == 0
    assert target.read_bytes() == DATA and names(target) == ["Task.tar"]


@pytest.mark.parametrize("part", [DATA + b"x", DATA[:100_000] + b"x"], ids=["too long", "wrong inside"])
def test_a_part_of_something_else_is_removed(server, target, pauses, part):
    target.parent.mkdir()
    (target.parent / "Task.tar.part").write_bytes(part)
    with pytest.raises(ValueError, match="it was removed, run it again"):
        fetch(server.url, target, MD5)
    assert names(target) == []
    assert fetch(server.url, target, MD5).read_bytes() == DATA


def test_an_existing_file_with_another_checksum_is_refused_and_kept(server, target, pauses):
    target.parent.mkdir()
    target.write_bytes(b"precious")
    with pytest.raises(ValueError, match=rf"Task\.tar has MD5 \w+; expected {MD5}; delete it to fetch it again"):
        fetch(server.url, target, MD5)
    assert target.read_bytes() == b"precious" and server.ranges == []


FULL_DISK = """
import resource, signal, sys
from reproduction.data.download import fetch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
fetch(*sys.argv[1:])
"""


def test_a_full_disk_keeps_the_part(server, target):
    command = [sys.executable, "-c", FULL_DISK, server.url, str(target), MD5]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and "OSError: [Errno 27] File too large" in failed.stderr
    assert names(target) == ["Task.tar.part"] and len(server.ranges) == 1, "a full disk is no reason to try again"
    part = (target.parent / "Task.tar.part").read_bytes()
    assert 0 < len(part) <= 200_000 and DATA.startswith(part)
    assert fetch(server.url, target, MD5).read_bytes() == DATA
    assert server.ranges[1] == f"bytes={len(part)}-"
