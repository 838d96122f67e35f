"""Parts of a remote file over HTTP Range, for several threads, over connections that drop.

A part whose connection drops goes on where it stopped. When to try again, and after how long, is urllib3's ``Retry``.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

import requests
from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.util import Retry

import noisyseg

CHUNK = 1 << 16  # a dropped connection loses less than this; an attempt that brings less counts as failed
LARGEST = 1 << 28  # more is never read at once: a directory that claims to be larger is damaged
LONGEST_PAUSE_S = 3600.0
REPORTED_PAUSE_S = 4.0  # shorter ones are not worth a line
LATER = (408, 429, 500, 502, 503, 504)  # statuses that are tried again
# Hosts ask for a name; and bytes must come as they are stored, or ranges of them mean nothing.
_HEADERS = {"User-Agent": f"noisyseg/{noisyseg.__version__}", "Accept-Encoding": "identity"}


class RangeNotSupported(OSError):
    """The server would send the whole file; nothing of it was read."""


class AnotherFile(OSError):
    """The server has a file of another size than the one that was asked for."""


@dataclass(frozen=True)
class RequestLimits:
    """How often a server is asked. Zenodo allows guests 60 requests a minute and 2,000 an hour.

    Parameters
    ----------
    attempts
        How often in a row a transfer may fail without getting further.
    pause_s
        The k-th failure in a row waits ``pause_s * 2**(k - 1)`` seconds, the first one not at all; or as long as the
        server says.
    timeout_s
        Longest silence of the server.
    per_minute
        Requests a minute, all threads together; 0 for no limit.
    """

    attempts: int = 8
    pause_s: float = 2.0
    timeout_s: float = 60.0
    per_minute: float = 33.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.pause_s < 0 or self.timeout_s <= 0 or self.per_minute < 0:
            raise ValueError(f"{self}: expected at least 1 attempt, a positive timeout and nothing below 0")

    def retry(self) -> Retry:
        """Attempts and pauses of one transfer."""
        return Retry(self.attempts - 1, backoff_factor=self.pause_s, status_forcelist=LATER)


class RemoteFile:
    """A file on a server that knows HTTP Range, for any number of threads.

    Parameters
    ----------
    url, limits
        Where it is, and how often to ask.
    size
        Bytes it must have; None takes what the server says.
    report
        Called with a line before every pause of `REPORTED_PAUSE_S` seconds or more.

    Raises
    ------
    RangeNotSupported
        From the first answer of a server that ignores Range, before its body is read.
    ConnectionError
        If the server refuses or is out of reach after all attempts.
    AnotherFile
        If the file has another size.
    """

    def __init__(
        self,
        url: str,
        size: int | None = None,
        limits: RequestLimits | None = None,
        report: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.url, self.limits, self.report, self._size = url, limits or RequestLimits(), report, size
        self._turns = threading.Lock()  # held by the thread whose turn is next
        self._next_turn = self._quiet_until = 0.0
        self._stopped = threading.Event()

    @property
    def size(self) -> int:
        """Bytes of the whole file; asks the server if they are not known."""
        if self._size is None:
            self.read(0, 1)
        assert self._size is not None
        return self._size

    def close(self) -> None:
        """End transfers and pauses with an error; at a silent server after at most ``timeout_s``."""
        self._stopped.set()

    def read(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` (exclusive), however often the connection drops."""
        if not 0 <= start <= stop or stop - start > LARGEST:
            raise OSError(f"{self.url}: bytes {start} to {stop} cannot be read at once")
        content = bytearray()
        for block in self.blocks(start, stop):
            content += block
        return bytes(content)

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield bytes ``start`` to ``stop`` (exclusive) as they come."""
        retry = self.limits.retry()
        while start < stop:
            before = start
            try:
                for block in self._request(start, stop):
                    start += len(block)
                    yield block
            except requests.RequestException as error:
                retry = self._pause(self.limits.retry() if start - before >= CHUNK else retry, error)

    def _request(self, start: int, stop: int) -> Iterator[bytes]:
        self._wait_for_turn()
        headers = {**_HEADERS, "Range": f"bytes={start}-{stop - 1}"}
        with requests.get(self.url, headers=headers, stream=True, timeout=self.limits.timeout_s) as answer:
            answer.raise_for_status()
            stated = answer.headers.get("Content-Range", "")
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", stated)
            if answer.status_code != 206 or not found:
                # Leaving the block hangs up: the body, which may be the whole file, is not read.
                raise RangeNotSupported(
                    f"{self.url}: the server ignores HTTP Range (status {answer.status_code}, Content-Range "
                    f"{stated!r}); download the file yourself and give the copy as the source"
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
                start += len(block)
                yield block
        if start <= last:
            raise requests.ConnectionError(f"the connection closed {last + 1 - start} bytes too early")

    def _wait_for_turn(self) -> None:
        with self._turns:
            while (left := max(self._next_turn, self._quiet_until) - monotonic()) > 0 or self._stopped.is_set():
                if self._stopped.wait(left):
                    raise ConnectionError(f"{self.url}: stopped")
            self._next_turn = monotonic() + (60 / self.limits.per_minute if self.limits.per_minute else 0)

    def _pause(self, retry: Retry, error: requests.RequestException) -> Retry:
        """Count a failure and keep all threads from asking for a while: the server may want to be left alone."""
        answer = None if error.response is None else error.response.raw
        if answer is not None and not retry.is_retry("GET", answer.status):
            raise ConnectionError(f"{self.url}: the server answered {answer.status}") from error
        try:
            retry = retry.increment("GET", self.url, error=error)
        except MaxRetryError:
            raise ConnectionError(
                f"{self.url}: {self.limits.attempts} attempts failed, the last with: {error}; run it again to go on"
            ) from error
        pause_s = retry.get_backoff_time()
        if answer is not None:
            try:
                pause_s = max(pause_s, retry.get_retry_after(answer) or 0)
            except InvalidHeader:
                pass  # neither a number nor a date
        pause_s = min(pause_s, LONGEST_PAUSE_S)
        if pause_s >= REPORTED_PAUSE_S:
            failed = f"(attempt {len(retry.history)} of {self.limits.attempts})"
            self.report(f"{error} {failed}: trying again in {pause_s:.0f} s")
        self._quiet_until = max(self._quiet_until, monotonic() + pause_s)
        return retry
