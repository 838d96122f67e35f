"""Downloads of whole files: a dropped or killed transfer goes on where it stopped, a checksum at the end."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tqdm import tqdm

from reproduction.data.http_range import RemoteFile, RequestLimits


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


def fetch(url: str, target: str | os.PathLike[str], checksum: str, limits: RequestLimits | None = None) -> Path:
    """Download ``url`` to ``target``, whose MD5 is ``checksum``, unless it exists.

    The bytes gather in ``<target>.part``; only a file with the right MD5 gets the name ``target``.

    Raises
    ------
    OSError
        If the server or the disk fails (see `RemoteFile`); the part stays for the next call.
    ValueError
        If ``target`` or the finished download has another checksum; the wrong download is removed.
    """
    target = Path(target)
    if target.is_file():
        if (found := md5(target)) != checksum:
            raise ValueError(f"{target} has MD5 {found}; expected {checksum}; delete it to fetch it again")
        return target
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    remote = RemoteFile(url, limits=limits or RequestLimits(per_minute=0))
    size, have = remote.size, part.stat().st_size if part.exists() else 0
    with (
        open(part, "ab") as file,
        tqdm(total=size, initial=have, unit="B", unit_scale=True, desc=part.name, leave=False, disable=None) as bar,
    ):
        for block in remote.blocks(have, size):
            file.write(block)
            bar.update(len(block))
    if (found := md5(part)) != checksum:
        part.unlink()
        raise ValueError(f"{url}: the download has MD5 {found}; expected {checksum}; it was removed, run it again")
    os.replace(part, target)
    return target
