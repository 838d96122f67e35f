"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that becomes `path` when the block ends, and nothing at all if an exception ends it.

    The bytes go to a temporary name in the same folder, reach the disk, and are renamed over `path`. Missing parent
    folders are made. `OSError` names the file if the disk is full or the folder cannot be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_file(Path(folder, "x.bin")) as file:
    ...         _ = file.write(b"one"), file.write(b"two")
    ...     Path(folder, "x.bin").read_bytes()
    b'onetwo'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say which file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def check_target(name: str, path: Path | None, overwrite: bool) -> None:
    """Raise `ValueError`, before hours of work, if a file that an option names cannot be written in the end."""
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{name}: expected a file, {path} is a folder")
    if path.exists() and not overwrite:
        raise ValueError(f"{name}: {path} exists; replace it with --overwrite")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{name}: {path} cannot be written: {folder} is no folder that may be written")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and a request to end wait until the block has ended, so that what belongs together is done together.

    Python gives signals to the main thread; elsewhere nothing is to be done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(which, lambda number, _: waiting.append(number)) for which in signals]
    try:
        yield
    finally:
        for which, handler in zip(signals, before, strict=True):
            signal.signal(which, signal.SIG_DFL if handler is None else handler)
        if waiting:
            signal.raise_signal(waiting[0])
