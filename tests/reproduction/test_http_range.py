"""Tests of http_range against nginx and against a server that drops, refuses, lies and ignores Range."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

import noisyseg
import range_server
from range_server import Bad, nginx, serve
from reproduction.data import http_range
from reproduction.data.http_range import AnotherFile, RangeNotSupported, RemoteFile, RequestLimits

DATA = np.random.default_rng(0).bytes(700_001)
FREE = RequestLimits(per_minute=0)


class Clock:
    """A clock that moves when somebody waits, which costs no time; in place of the event that ends pauses, too."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waited: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waited.append(round(seconds, 6))
        self.now += seconds
        return False

    def is_set(self) -> bool:
        return False


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "x").write_bytes(DATA)
    return tmp_path / "www"


@pytest.fixture
def server(folder, monkeypatch) -> Iterator[Bad]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serve(folder) as server:
        yield server


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(http_range, "monotonic", clock)
    return clock


def remote(server: Bad, clock: Clock, limits: RequestLimits = FREE, **more) -> tuple[RemoteFile, list[float]]:
    file = RemoteFile(f"{server.url}/x", limits=limits, **more)
    file._stopped = clock  # type: ignore[assignment]
    return file, clock.waited


def test_parts_size_and_bytes_counted_from_nginx(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with nginx(folder, tmp_path / "nginx") as server:
        file = RemoteFile(f"{server.url}/x", limits=FREE)
        assert file.read(5, 12) == DATA[5:12] and file.size == len(DATA)
        assert file.read(len(DATA) - 3, len(DATA)) == DATA[-3:] and file.read(9, 9) == b""
        assert file.read(0, len(DATA)) == DATA
        file.close()
    assert [row[:2] for row in server.requests()] == [(206, 5), (206, len(DATA) - 3), (206, 0)]
    assert sum(row[2] for row in server.requests()) == 7 + 3 + len(DATA)


def test_threads_share_a_file(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with nginx(folder, tmp_path / "nginx") as server, ThreadPoolExecutor(8) as pool:
        file = RemoteFile(f"{server.url}/x", size=len(DATA), limits=FREE)
        starts = range(0, 600_000, 10_000)
        assert list(pool.map(lambda k: file.read(k, k + 99_999), starts)) == [DATA[k : k + 99_999] for k in starts]
        file.close()


@pytest.mark.parametrize("known", [True, False])
def test_nginx_that_ignores_range_is_found_out_before_its_body(tmp_path, monkeypatch, known):
    """2 GB of holes: what is in the sockets' buffers when we hang up is far less."""
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "www").mkdir()
    with open(tmp_path / "www" / "large", "wb") as file:
        file.truncate(2_000_000_000)
    with nginx(tmp_path / "www", tmp_path / "nginx") as server:
        remote = RemoteFile(f"{server.url_without_ranges}/large", 2_000_000_000 if known else None, FREE)
        with pytest.raises(RangeNotSupported, match=r"ignores HTTP Range \(status 200, .*download the file yourself"):
            remote.read(10, 20)
        for _ in range(100):  # the line is written when nginx notices that nobody listens
            if server.requests():
                break
            time.sleep(0.02)
    ((status, _, sent),) = server.requests()
    assert status == 200 and sent < 50_000_000


def test_a_server_of_ours_that_ignores_range(server, clock):
    with open(server.folder / "x", "wb") as file:
        file.truncate(500_000_000)
    server.plan = ["whole"]
    file, pauses = remote(server, clock)
    with pytest.raises(RangeNotSupported):
        file.read(0, 1)
    time.sleep(0.1)
    assert len(server.ranges) == 1 and pauses == [] and server.sent < 50_000_000


def test_a_dropped_connection_goes_on_where_it_stopped(server, clock):
    server.plan = [("drop", 300_000)]
    file, pauses = remote(server, clock)
    assert file.read(1000, 600_000) == DATA[1000:600_000]
    (first, second) = server.ranges
    assert first == (1000, 600_000) and second[1] == 600_000
    assert 301_000 - http_range.CHUNK < second[0] <= 301_000
    assert pauses == [], "the first time it goes on at once"


def test_headway_renews_the_attempts(server, clock):
    """The real host drops long transfers: any number of times, as long as each gets further."""
    server.plan = [("drop", 100_000)] * 9
    file, pauses = remote(server, clock, RequestLimits(per_minute=0, attempts=3))
    assert file.read(0, 700_000) == DATA[:700_000]
    assert len(server.ranges) > 5 and pauses == []


def test_without_headway_the_pauses_double_and_it_ends(server, clock):
    server.plan = [("drop", 1000)] * 9
    file, pauses = remote(server, clock, RequestLimits(per_minute=0, attempts=4, pause_s=0.5))
    with pytest.raises(ConnectionError, match=r"/x: 4 attempts failed, the last with: .*; run it again to go on"):
        file.read(0, 700_000)
    assert pauses == [1.0, 2.0] and len(server.ranges) == 4


def test_a_long_pause_is_reported_beforehand(server, clock):
    """Without a network all attempts take minutes: a person must see why nothing happens."""
    server.plan = [503] * 4
    lines: list[str] = []
    file, _ = remote(server, clock, RequestLimits(per_minute=0, attempts=4, pause_s=1.5), report=lines.append)
    with pytest.raises(ConnectionError, match="4 attempts failed"):
        file.read(0, 10)
    assert len(lines) == 1, "the pause of 3 s is not worth a line, and after the last attempt there is none"
    assert re.fullmatch(r"503 .* for url: .*/x \(attempt 3 of 4\): trying again in 6 s", lines[0])


@pytest.mark.parametrize("code", [400, 403, 404, 410, 416])
def test_a_refusal_ends_at_once(server, clock, code):
    server.plan = [code]
    file, pauses = remote(server, clock)
    with pytest.raises(ConnectionError, match=rf"the server answered {code}$"):
        file.read(0, 10)
    assert len(server.ranges) == 1 and pauses == []


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503])
def test_an_answer_that_means_later_is_tried_again(server, clock, code):
    server.plan = [code, code]
    file, pauses = remote(server, clock)
    assert file.read(0, 10) == DATA[:10] and pauses == [4.0]


def test_the_servers_own_pause_is_kept(server, clock):
    server.plan = [("status", code, {"Retry-After": after}) for code, after in ((429, "77"), (503, "99999"))]
    file, pauses = remote(server, clock)
    assert file.read(0, 10) == DATA[:10] and pauses == [77.0, http_range.LONGEST_PAUSE_S]


def test_a_pause_until_a_date_is_kept(server, clock):
    then = formatdate(time.time() + 300, usegmt=True)
    server.plan = [("status", 429, {"Retry-After": then}), ("status", 429, {"Retry-After": "soon"})]
    file, pauses = remote(server, clock)
    assert file.read(0, 10) == DATA[:10]
    assert 298 < pauses[0] <= 300 and pauses[1] == 4.0, "what is no time is not kept"


def test_a_worker_that_has_its_turn_waits_too_when_another_is_sent_away(server, monkeypatch):
    """Four turns are given out; before the last three begin, the first is told that all have to wait a second."""
    server.plan = [("status", 429, {"Retry-After": "1"})]
    file = RemoteFile(f"{server.url}/x", limits=RequestLimits(per_minute=240, pause_s=0.01))
    began: list[float] = []
    get = http_range.requests.get
    monkeypatch.setattr(
        http_range.requests, "get", lambda *a, **more: began.append(time.monotonic()) or get(*a, **more)
    )
    with ThreadPoolExecutor(4) as pool:
        assert all(part == DATA[:10] for part in pool.map(lambda k: file.read(0, 10), range(4)))
    first, *rest = sorted(began)
    # Of the turns at 0.25, 0.5 and 0.75 s at most the one that was already under way is taken.
    assert len(rest) == 4 and sum(start - first < 1.0 for start in rest) <= 1


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"pause_s": -1.0}, {"timeout_s": 0.0}, {"per_minute": -1.0}])
def test_limits_that_make_no_sense(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name}={value}.*expected at least 1 attempt, a positive timeout"):
        RequestLimits(**wrong)


@pytest.mark.parametrize(
    ("said", "message"),
    [("bytes 5-4/100", "asked for bytes 5 to 9, got 5 to 4"), ("bytes 5-9/*", r"Content-Range 'bytes 5-9/\*'")],
)
def test_a_range_that_is_none(server, clock, said, message):
    server.plan = [("status", 206, {"Content-Range": said})]
    file, pauses = remote(server, clock)
    with pytest.raises(OSError, match=message):
        file.read(5, 10)
    assert pauses == [] and len(server.ranges) == 1


def test_a_pause_is_for_everybody(server, clock):
    server.plan = [("status", 429, {"Retry-After": "50"})]
    file, pauses = remote(server, clock)
    file.read(0, 10)
    file.read(0, 10)
    assert pauses == [50.0]


def test_requests_keep_their_distance(server, clock):
    file, pauses = remote(server, clock, RequestLimits(per_minute=30))
    for _ in range(4):
        file.read(0, 10)
    assert pauses == [2.0, 2.0, 2.0], "turns are two seconds apart"


def test_what_the_server_is_told(server, clock):
    file, _ = remote(server, clock)
    file.read(0, 10)
    assert server.agents == [f"noisyseg/{noisyseg.__version__}"]


@pytest.mark.parametrize("known", [True, False])
def test_another_file_at_the_address(server, clock, known):
    file, pauses = remote(server, clock, size=len(DATA) + 1 if known else None)
    if not known:
        file.read(0, 10)
        (server.folder / "x").write_bytes(DATA + b"y")
    with pytest.raises(AnotherFile, match=r"/x has 70000\d bytes; expected 70000\d: it is another file"):
        file.read(0, 10)
    assert pauses == []


def test_more_than_asked_for_is_not_taken_and_another_part_is_refused(server, clock):
    server.plan = ["more"]
    file, _ = remote(server, clock)
    assert file.read(3, 50) == DATA[3:50]
    server.plan = ["elsewhere"]
    with pytest.raises(ConnectionError, match="asked for bytes 3 to 49, got 4 to 50"):
        file.read(3, 50)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (7, 5), (0, http_range.LARGEST + 1)])
def test_what_cannot_be_read_is_not_asked_for(server, clock, start, stop):
    file, _ = remote(server, clock)
    with pytest.raises(OSError, match="cannot be read at once"):
        file.read(start, stop)
    assert server.ranges == []


def test_closing_ends_transfers_and_pauses(server):
    file = RemoteFile(f"{server.url}/x", limits=FREE)
    server.plan = [lambda request: file.close() or "right"]
    with pytest.raises(ConnectionError, match="stopped"):
        file.read(0, 700_000)
    with pytest.raises(ConnectionError, match="stopped"):
        file.read(0, 10)


def test_no_server(folder, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with serve(folder) as closed:
        url = closed.url
    with pytest.raises(ConnectionError, match=r"2 attempts failed, the last with: .*refused"):
        RemoteFile(f"{url}/x", limits=RequestLimits(attempts=2, pause_s=0.01, per_minute=0)).read(0, 1)


def test_missing_nginx_skips_here_and_fails_in_ci(monkeypatch):
    monkeypatch.setattr(range_server.shutil, "which", lambda *args, **more: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no nginx"):
        range_server.nginx_command()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no nginx"):
        range_server.nginx_command()
