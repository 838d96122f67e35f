"""One progress bar for everything a data set reads: bytes, and how many things are done."""

from __future__ import annotations

import sys
import threading
from typing import TextIO

from tqdm import tqdm


class Progress:
    """A bar on a terminal (nowhere else), for several threads; a context manager.

    Parameters
    ----------
    file
        Where it is drawn; standard error by default.
    shown
        None draws it on a terminal only.

    Examples
    --------
    >>> with Progress(shown=False) as progress:
    ...     progress.stage("masks", 2_000, 2)
    ...     progress.bytes(1_500)
    ...     progress.done()
    ...     progress.text
    '1 of 2 masks'
    """

    def __init__(self, file: TextIO | None = None, shown: bool | None = None) -> None:
        disable = None if shown is None else not shown
        self._bar = tqdm(total=0, unit="B", unit_scale=True, file=file or sys.stderr, disable=disable, leave=False)
        self._lock = threading.Lock()
        self._things, self._done, self._all = "", 0, 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @property
    def text(self) -> str:
        """What the bar says besides bytes."""
        return f"{self._done} of {self._all} {self._things}"

    def stage(self, things: str, expected_bytes: int, count: int) -> None:
        """Begin to count ``things``; their bytes come on top of those so far."""
        with self._lock:
            self._things, self._done, self._all = things, 0, count
            self._bar.total = self._bar.n + expected_bytes
            self._bar.set_postfix_str(self.text)

    def bytes(self, count: int) -> None:
        """Count bytes that came."""
        with self._lock:
            self._bar.update(count)

    def done(self, count: int = 1) -> None:
        """Count things that are done."""
        with self._lock:
            self._done += count
            self._bar.set_postfix_str(self.text)
