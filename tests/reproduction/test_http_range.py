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
from reproduction.data.totalsegmentator import http_range
from reproduction.data.totalsegmentator.http_range import AnotherFile, Manners, RangeNotSupported, RemoteFile

DATA = np.random.default_rng(0).bytes(700_001)
FREE = Manners(per_minute=0)


class Pauses:
    """In place of the event that pauses wait on: remembers them and does not wait."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.stopped = False

    def wait(self, seconds: float) -> bool:
        if seconds > 0:
            self.waited.append(seconds)
        return self.stopped

    def is_set(self) -> bool:
        return self.stopped

    def set(self) -> None:
        self.stopped = True


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


def remote(server: Bad, manners: Manners = FREE, **more) -> tuple[RemoteFile, list[float]]:
    file = RemoteFile(f"{server.url}/x", manners=manners, **more)
    pauses = Pauses()
    file._stopped = pauses  # type: ignore[assignment]
    return file, pauses.waited


def test_parts_size_and_bytes_counted_from_nginx(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    counted: list[int] = []
    with nginx(folder, tmp_path / "nginx") as server:
        file = RemoteFile(f"{server.url}/x", manners=FREE, on_bytes=counted.append)
        assert file.read(5, 12) == DATA[5:12] and file.size == len(DATA)
        assert file.read(len(DATA) - 3, len(DATA)) == DATA[-3:] and file.read(9, 9) == b""
        assert file.read(0, len(DATA)) == DATA
        assert sum(counted) == 7 + 3 + len(DATA)
        file.close()
    assert [row[:2] for row in server.requests()] == [(206, 5), (206, len(DATA) - 3), (206, 0)]
    assert sum(row[2] for row in server.requests()) == 7 + 3 + len(DATA)


def test_threads_share_a_file(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with nginx(folder, tmp_path / "nginx") as server, ThreadPoolExecutor(8) as pool:
        file = RemoteFile(f"{server.url}/x", size=len(DATA), manners=FREE)
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
        with pytest.raises(RangeNotSupported, match=r"ignores HTTP Range \(status 200\).*download it yourself"):
            remote.read(10, 20)
        for _ in range(100):  # the line is written when nginx notices that nobody listens
            if server.requests():
                break
            time.sleep(0.02)
    ((status, _, sent),) = server.requests()
    assert status == 200 and sent < 50_000_000


def test_a_server_of_ours_that_ignores_range(server):
    with open(server.folder / "x", "wb") as file:
        file.truncate(500_000_000)
    server.plan = ["whole"]
    file, pauses = remote(server)
    with pytest.raises(RangeNotSupported):
        file.read(0, 1)
    time.sleep(0.1)
    assert len(server.ranges) == 1 and pauses == [] and server.sent < 50_000_000


def test_a_dropped_connection_goes_on_where_it_stopped(server):
    server.plan = [("drop", 300_000)]
    counted: list[int] = []
    file, pauses = remote(server, on_bytes=counted.append)
    assert file.read(1000, 600_000) == DATA[1000:600_000]
    (first, second) = server.ranges
    assert first == (1000, 600_000) and second[1] == 600_000
    assert 301_000 - http_range.CHUNK < second[0] <= 301_000
    assert sum(counted) == 599_000 and pauses == [2.0]


def test_headway_renews_the_attempts(server):
    """The real host drops long transfers: any number of times, as long as each gets further."""
    server.plan = [("drop", 100_000)] * 9
    file, pauses = remote(server, Manners(per_minute=0, attempts=3))
    assert file.read(0, 700_000) == DATA[:700_000]
    assert len(server.ranges) > 5 and set(pauses) == {2.0}


def test_without_headway_the_pauses_double_and_it_ends(server):
    server.plan = [("drop", 1000)] * 9
    file, pauses = remote(server, Manners(per_minute=0, attempts=4, pause_s=0.5))
    with pytest.raises(ConnectionError, match=r"/x: 4 attempts failed, the last with: .*; run it again to go on"):
        file.read(0, 700_000)
    assert pauses == [0.5, 1.0, 2.0] and len(server.ranges) == 4


def test_a_long_pause_is_told_beforehand(server):
    """Without a network all attempts take minutes: a person must see why nothing happens."""
    server.plan = [503] * 3
    told: list[str] = []
    file, _ = remote(server, Manners(per_minute=0, attempts=3, pause_s=2.5), report=told.append)
    with pytest.raises(ConnectionError, match="3 attempts failed"):
        file.read(0, 10)
    assert len(told) == 1, "the first pause of 2.5 s is not worth a line, and after the last attempt there is none"
    assert re.fullmatch(r"503 .* for url: .*/x \(attempt 2 of 3\): trying again in 5 s", told[0])


@pytest.mark.parametrize("code", [400, 403, 404, 410, 416])
def test_a_refusal_ends_at_once(server, code):
    server.plan = [code]
    file, pauses = remote(server)
    with pytest.raises(ConnectionError, match=rf"the server answered {code}$"):
        file.read(0, 10)
    assert len(server.ranges) == 1 and pauses == []


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503])
def test_an_answer_that_means_later_is_tried_again(server, code):
    server.plan = [code, code]
    file, pauses = remote(server)
    assert file.read(0, 10) == DATA[:10]
    # The pause, and what it takes away from everybody's next turn.
    assert [round(p) for p in pauses if p >= 1.5][::2] == [2, 4]


def test_the_servers_own_pause_is_kept(server):
    soon = str(int(time.time()) + 1000)
    server.plan = [("status", 429, {"Retry-After": "77"}), ("status", 429, {"X-RateLimit-Reset": soon})]
    server.plan += [("status", 503, {"Retry-After": "99999"})]
    file, pauses = remote(server)
    assert file.read(0, 10) == DATA[:10]
    first, second, third = pauses[0], *[p for p in pauses if p > 900][::2][:2]
    assert first == 77 and 990 < second <= 1000 and third == http_range.LONGEST_PAUSE_S


def test_a_pause_until_a_date_is_kept(server):
    then = formatdate(time.time() + 300, usegmt=True)
    server.plan = [("status", 429, {"Retry-After": then}), ("status", 429, {"Retry-After": "soon"})]
    file, pauses = remote(server)
    assert file.read(0, 10) == DATA[:10]
    assert 298 < pauses[0] <= 300 and len([p for p in pauses if round(p) == 4]) == 1, "what is no time is not kept"


def test_a_worker_that_has_its_turn_waits_too_when_another_is_sent_away(server):
    """Four turns are given out; before the last three begin, the first is told that all have to wait a second."""
    server.plan = [("status", 429, {"Retry-After": "1"})]
    file = RemoteFile(f"{server.url}/x", manners=Manners(per_minute=240, pause_s=0.01))
    began: list[float] = []
    original = file._session
    file._session = lambda: began.append(time.monotonic()) or original()  # type: ignore[method-assign]
    with ThreadPoolExecutor(4) as pool:
        assert all(part == DATA[:10] for part in pool.map(lambda k: file.read(0, 10), range(4)))
    first, *rest = sorted(began)
    # Of the turns at 0.25, 0.5 and 0.75 s at most the one that was already under way is taken.
    assert len(rest) == 4 and sum(start - first < 1.0 for start in rest) <= 1


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"attempts": 0}, {"pause_s": -1.0}, {"timeout_s": 0.0}, {"per_minute": -1.0}]
)
def test_manners_that_make_no_sense(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name}( is)? {value}"):
        Manners(**wrong)


@pytest.mark.parametrize(
    ("said", "message"),
    [("bytes 5-4/100", "asked for bytes 5 to 9, got 5 to 4"), ("bytes 5-9/*", r"does not say how large the file is")],
)
def test_a_range_that_is_none(server, said, message):
    server.plan = [("status", 206, {"Content-Range": said})]
    file, pauses = remote(server)
    with pytest.raises(OSError, match=message):
        file.read(5, 10)
    assert pauses == [] and len(server.ranges) == 1


def test_one_worker_is_sent_away_and_all_wait(server):
    server.plan = [("status", 429, {"Retry-After": "50"})]
    file, pauses = remote(server)
    file.read(0, 10)
    file.read(0, 10)
    assert len(pauses) == 3 and all(49 < p <= 50 for p in pauses), "its own pause, its next turn, the other's turn"


def test_requests_keep_their_distance(server):
    file, pauses = remote(server, Manners(per_minute=30))
    for _ in range(4):
        file.read(0, 10)
    assert [round(p) for p in pauses] == [2, 4, 6], "nobody waits here: turns are two seconds apart"


def test_what_the_server_is_told(server):
    file, _ = remote(server)
    file.read(0, 10)
    assert server.agents == [f"noisyseg/{noisyseg.__version__}"]


@pytest.mark.parametrize("known", [True, False])
def test_another_file_at_the_address(server, known):
    file, pauses = remote(server, size=len(DATA) + 1 if known else None)
    if not known:
        file.read(0, 10)
        (server.folder / "x").write_bytes(DATA + b"y")
    with pytest.raises(AnotherFile, match=r"/x has 70000\d bytes; expected 70000\d: it is another file"):
        file.read(0, 10)
    assert pauses == []


def test_more_than_asked_for_is_not_taken_and_another_part_is_refused(server):
    server.plan = ["more"]
    file, _ = remote(server)
    assert file.read(3, 50) == DATA[3:50]
    server.plan = ["elsewhere"]
    with pytest.raises(ConnectionError, match="asked for bytes 3 to 49, got 4 to 50"):
        file.read(3, 50)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (7, 5), (0, http_range.LARGEST + 1)])
def test_what_cannot_be_read_is_not_asked_for(server, start, stop):
    file, _ = remote(server)
    with pytest.raises(OSError, match="cannot be read at once"):
        file.read(start, stop)
    assert server.ranges == []


def test_closing_ends_transfers_and_pauses(server):
    file = RemoteFile(f"{server.url}/x", manners=FREE)
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
        RemoteFile(f"{url}/x", manners=Manners(attempts=2, pause_s=0.01, per_minute=0)).read(0, 1)


def test_missing_nginx_skips_here_and_fails_in_ci(monkeypatch):
    monkeypatch.setattr(range_server.shutil, "which", lambda *args, **more: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no nginx"):
        range_server.nginx_command()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no nginx"):
        range_server.nginx_command()
