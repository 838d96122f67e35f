"""Downloads that survive a dropped connection: HTTP Range, retries with back-off, a checksum at the end."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import requests
from tqdm import tqdm

CHUNK = 1 << 15  # what a dropped connection loses at most: a block that is not whole is not written
RETRY = (408, 429)  # of the 4xx these two say: later


def md5(path: str | os.PathLike[str]) -> str:
    """MD5 of a file as a hexadecimal string.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     empty = Path(folder, "empty")
    ...     empty.touch()
    ...     md5(empty)
    'd41d8cd98f00b204e9800998ecf8427e'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def fetch(
    url: str,
    target: str | os.PathLike[str],
    checksum: str,
    attempts: int = 5,
    pause_s: float = 1.0,
    timeout_s: float = 30,
) -> Path:
    """Download ``url`` to ``target`` unless it is there; go on where an earlier attempt stopped.

    The bytes gather in ``<target>.part``; only a file whose MD5 is ``checksum`` gets the name ``target``.

    Parameters
    ----------
    url, target, checksum
        What, where to, and its MD5.
    attempts
        Tries before giving up; after the k-th failure it waits ``pause_s * 2**k`` seconds.
    timeout_s
        Longest silence of the server.

    Raises
    ------
    ConnectionError
        If every attempt failed; the part stays for the next call.
    ValueError
        If ``target`` or the finished download has another checksum; the wrong download is removed, so that the next
        call starts anew.
    """
    target = Path(target)
    if target.is_file():
        if md5(target) != checksum:
            raise ValueError(f"{target} has MD5 {md5(target)}; expected {checksum}; delete it to fetch it again")
        return target
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    reason = "no attempt was made"
    for attempt in range(attempts):
        try:
            _transfer(url, part, timeout_s)
            break
        except requests.RequestException as error:
            reason = str(error)
            refused = getattr(error.response, "status_code", 0)
            if 400 <= refused < 500 and refused not in RETRY:
                raise ConnectionError(f"{url}: the server answered {refused}") from error
            if attempt + 1 < attempts:
                time.sleep(pause_s * 2**attempt)
    else:
        raise ConnectionError(f"{url}: {attempts} attempts failed, the last with: {reason}; run it again to go on")
    found = md5(part)
    if found != checksum:
        part.unlink()
        raise ValueError(f"{url}: the download has MD5 {found}; expected {checksum}; it was removed, run it again")
    os.replace(part, target)
    return target


def _transfer(url: str, part: Path, timeout_s: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    # Bytes as they are stored: of a stream that the server compresses, the rest could not be asked for.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=timeout_s) as answer:
        if answer.status_code == 416:  # nothing left to send: the part is whole (or wrong: the checksum tells)
            return
        answer.raise_for_status()
        # A server that ignores Range sends everything: start over rather than append to what is there.
        resumed = answer.status_code == 206
        have = have if resumed else 0
        total = have + int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.name, leave=False) as bar,
        ):
            for block in answer.iter_content(CHUNK):
                file.write(block)
                bar.update(len(block))
        if total is not None and part.stat().st_size < total:
            raise requests.ConnectionError(f"the connection closed after {part.stat().st_size} of {total} bytes")
