"""Parts of a remote file over HTTP Range, for several threads, over connections that drop (book chapter *Data*).

A part whose connection drops goes on where it stopped. A server that ignores Range, and so would send the whole file,
is found out by the status of its answer, before its body is read.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import requests

import noisyseg
from reproduction.data.download import RETRY

CHUNK = 1 << 16  # a dropped connection loses less than this; an attempt that brings less made no headway
LARGEST = 1 << 28  # more is never read at once: a directory that claims to be larger is damaged
LONGEST_PAUSE_S = 3600.0
TOLD_S = 4.0  # a shorter pause is nobody's concern


class RangeNotSupported(OSError):
    """The server would send the whole file; nothing of it was read."""


class AnotherFile(OSError):
    """The server has a file of another size than the one that was asked for."""


@dataclass(frozen=True)
class Manners:
    """How a server is treated. Zenodo allows guests 60 requests a minute and 2,000 an hour, and answers 429 to more.

    Parameters
    ----------
    workers
        Transfers at a time; each may hold a scan of several hundred megabytes in memory.
    attempts
        How often in a row a transfer may fail without headway; after the k-th time it waits ``pause_s * 2**k`` seconds,
        or as long as the server says.
    timeout_s
        Longest silence of the server.
    per_minute
        Requests a minute, all workers together; 0 for no limit.

    Raises
    ------
    ValueError
        If a number makes no sense; which.
    """

    workers: int = 4
    attempts: int = 8
    pause_s: float = 2.0
    timeout_s: float = 60.0
    per_minute: float = 33.0

    def __post_init__(self) -> None:
        if self.workers < 1 or self.attempts < 1:
            raise ValueError(f"workers is {self.workers} and attempts {self.attempts}; expected at least 1 of each")
        if self.pause_s < 0 or self.timeout_s <= 0 or self.per_minute < 0:
            raise ValueError(
                f"pause_s is {self.pause_s}, timeout_s {self.timeout_s}, per_minute {self.per_minute}; "
                "expected none below 0, and a timeout above it"
            )


class RemoteFile:
    """A file on a server that knows HTTP Range, for any number of threads.

    Parameters
    ----------
    url, manners
        Where it is, and how to ask.
    size
        Bytes it must have; None takes what the server says.
    on_bytes
        Called with the number of bytes of every block that comes.
    report
        Called with a line before every pause of `TOLD_S` seconds or more: what went wrong, and how long it waits.

    Raises
    ------
    RangeNotSupported
        From the first answer of a server that ignores Range.
    ConnectionError
        If the server refuses or is out of reach after all attempts.
    AnotherFile
        If the file has another size.
    """

    def __init__(
        self,
        url: str,
        size: int | None = None,
        manners: Manners | None = None,
        on_bytes: Callable[[int], object] = lambda n: None,
        report: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.url, self.manners, self.on_bytes, self.report = url, manners or Manners(), on_bytes, report
        self._size = size
        self._own = threading.local()
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()
        self._turn = self._quiet_until = 0.0
        self._stopped = threading.Event()

    @property
    def size(self) -> int:
        """Bytes of the whole file; asks the server if nobody has told."""
        if self._size is None:
            self.read(0, 1)
        assert self._size is not None
        return self._size

    def close(self) -> None:
        """Hang up; transfers under way and pauses end with an error, a silent server's after at most ``timeout_s``."""
        self._stopped.set()
        with self._lock:
            for session in self._sessions:
                session.close()

    def read(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` (exclusive), however often the connection drops."""
        if not 0 <= start <= stop or stop - start > LARGEST:
            raise OSError(f"{self.url}: bytes {start} to {stop} cannot be read at once")
        got, failures = bytearray(), 0
        while len(got) < stop - start:
            before = len(got)
            try:
                self._transfer(start + before, stop, got)
            except requests.RequestException as error:
                answer = error.response
                code = 0 if answer is None else answer.status_code
                if 400 <= code < 500 and code not in RETRY:
                    raise ConnectionError(f"{self.url}: the server answered {code}") from error
                failures = failures + 1 if len(got) - before < CHUNK else 1
                if failures >= self.manners.attempts:
                    raise ConnectionError(
                        f"{self.url}: {failures} attempts failed, the last with: {error}; run it again to go on"
                    ) from error
                why = f"{error} (attempt {failures} of {self.manners.attempts})"
                self._pause(self.manners.pause_s * 2 ** (failures - 1), answer, why)
        return bytes(got)

    def _transfer(self, start: int, stop: int, got: bytearray) -> None:
        self._wait_for_turn()
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        with self._session().get(self.url, headers=headers, stream=True, timeout=self.manners.timeout_s) as answer:
            answer.raise_for_status()
            said = answer.headers.get("Content-Range", "")
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", said)
            if answer.status_code == 206 and said.endswith("/*"):
                raise RangeNotSupported(
                    f"{self.url}: the server does not say how large the file is ({said}); download it yourself and give "
                    "the copy as the source"
                )
            if answer.status_code != 206 or not found:
                # Leaving the block hangs up: the body, which may be the whole file, is not read.
                raise RangeNotSupported(
                    f"{self.url}: the server ignores HTTP Range (status {answer.status_code}), so that parts of "
                    "the file cannot be read; download it yourself and give the copy as the source"
                )
            first, last, size = map(int, found.groups())
            if self._size is None:
                self._size = size
            if size != self._size:
                raise AnotherFile(f"{self.url} has {size} bytes; expected {self._size}: it is another file")
            if first != start or not first <= last < stop:
                raise ConnectionError(f"{self.url}: asked for bytes {start} to {stop - 1}, got {first} to {last}")
            for block in answer.iter_content(CHUNK):
                if self._stopped.is_set():
                    raise ConnectionError(f"{self.url}: stopped")
                block = block[: last + 1 - start]  # never more than asked for, whatever comes
                got += block
                start += len(block)
                self.on_bytes(len(block))
        if start <= last:
            raise requests.ConnectionError(f"the connection closed {last + 1 - start} bytes too early")

    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            session = requests.Session()
            # Hosts ask for a name; and bytes must come as they are stored, or ranges of them mean nothing.
            session.headers.update({"User-Agent": f"noisyseg/{noisyseg.__version__}", "Accept-Encoding": "identity"})
            self._own.session = session
            with self._lock:
                self._sessions.append(session)
        return self._own.session

    def _wait_for_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            mine = self._next_turn(now)
        while True:
            if self._stopped.wait(mine - now):
                raise ConnectionError(f"{self.url}: stopped")
            with self._lock:
                if self._quiet_until <= mine:
                    return
                # While this one waited for its turn, another was told that all have to wait.
                now = time.monotonic()
                mine = self._next_turn(now)

    def _next_turn(self, now: float) -> float:
        mine = max(now, self._turn, self._quiet_until)
        self._turn = mine + (60 / self.manners.per_minute if self.manners.per_minute else 0)
        return mine

    def _pause(self, pause_s: float, answer: requests.Response | None, why: str) -> None:
        headers = {} if answer is None else answer.headers
        if (after := _seconds(headers.get("Retry-After", ""))) is not None:
            pause_s = max(pause_s, after)
        elif answer is not None and answer.status_code == 429 and headers.get("X-RateLimit-Reset", "").isdigit():
            pause_s = max(pause_s, float(headers["X-RateLimit-Reset"]) - time.time())
        pause_s = min(pause_s, LONGEST_PAUSE_S)
        if pause_s >= TOLD_S:
            self.report(f"{why}: trying again in {pause_s:.0f} s")
        if answer is not None:  # the server is there and wants to be left alone: by all workers
            with self._lock:
                self._quiet_until = max(self._quiet_until, time.monotonic() + pause_s)
        if self._stopped.wait(pause_s):
            raise ConnectionError(f"{self.url}: stopped")


def _seconds(after: str) -> float | None:
    """Seconds that a ``Retry-After`` asks for, as a number or as a date; None if it is neither."""
    if after.isdigit():
        return float(after)
    try:
        return parsedate_to_datetime(after).timestamp() - time.time()
    except ValueError:
        return None
