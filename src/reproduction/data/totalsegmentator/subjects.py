"""Where subjects are read from: a remote zip, a local zip or an extracted folder, all alike.

Layout: ``sNNNN/ct.nii.gz`` and ``sNNNN/segmentations/<class>.nii.gz``, at the top or below one folder. Names are
compared and never used as paths, and nothing is extracted: a name with ``..`` in it matches nothing.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from reproduction.data.download import md5
from reproduction.data.http_range import AnotherFile, RemoteFile, RequestLimits
from reproduction.data.totalsegmentator.remote_zip import ZIP_DAMAGE, DamagedMember, Member, list_members, read_member
from reproduction.paths import read_json, write_json

CT = "ct"
_NAME = re.compile(r"(?:(?!\.\.?/)[^/\\]+/)?(s\d+)/(ct|segmentations/(\w+))\.nii\.gz")

Key = tuple[str, str]
"""A file of the data set: subject, and ``ct`` or the name of a class."""


class Subjects(Protocol):
    """Files of subjects: ``sizes`` in bytes as they are stored, and their contents, in any number of threads."""

    kind: str
    sizes: dict[Key, int]

    def read(self, key: Key) -> bytes:
        """Content of a file, checked if there is something to check it against (`DamagedMember`)."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


def key_of(name: str) -> Key | None:
    """Which file of the data set a name is, or None.

    Examples
    --------
    >>> key_of("Totalsegmentator_dataset_v201/s0011/segmentations/aorta.nii.gz")
    ('s0011', 'aorta')
    >>> key_of("../s0011/ct.nii.gz")
    """
    found = _NAME.fullmatch(name)
    return (found[1], found[3] or CT) if found else None


def _by_key(names: Iterable[str], parts: Iterable[str], where: str) -> dict[Key, str]:
    """Names of the wanted files; twice the same is refused, for nobody could say which one is meant."""
    wanted, found = {*parts, CT}, {}
    for name in names:
        key = key_of(name)
        if key is None or key[1] not in wanted:
            continue
        if key in found:
            raise ValueError(f"{where} has {key[0]} {key[1]} twice: {found[key]} and {name}")
        found[key] = name
    return dict(sorted(found.items()))


class Folder:
    """An extracted copy: the folder that holds the subjects, or the one above it."""

    kind = "folder"

    def __init__(self, path: Path, parts: Iterable[str]) -> None:
        files = {
            file.relative_to(path).as_posix(): file
            for pattern in ("s*/", "*/s*/")
            for folder in sorted(path.glob(pattern))
            for file in (folder / "ct.nii.gz", *(folder / "segmentations" / f"{part}.nii.gz" for part in parts))
            if file.is_file()
        }
        self._files = {key: files[name] for key, name in _by_key(files, parts, str(path)).items()}
        self.sizes = {key: file.stat().st_size for key, file in self._files.items()}

    def read(self, key: Key) -> bytes:
        """Bytes of the file; the checksum in its gzip tells damage later."""
        return self._files[key].read_bytes()

    def close(self) -> None:
        """Nothing is open."""


class LocalZip:
    """A downloaded archive."""

    kind = "zip"

    def __init__(self, path: Path, parts: Iterable[str]) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except ZIP_DAMAGE as error:
            raise ValueError(f"{path} is damaged or no zip ({error}); download it again") from error
        self._names = _by_key(self._zip.namelist(), parts, str(path))
        self.sizes = {key: self._zip.getinfo(name).compress_size for key, name in self._names.items()}

    def read(self, key: Key) -> bytes:
        """Content of the member, checked against its CRC-32."""
        name = self._names[key]
        try:
            return self._zip.read(name)
        except ZIP_DAMAGE as error:
            raise DamagedMember(f"{name} is damaged ({error})") from error
        except ValueError as error:
            if self._zip.fp is None:  # closed by the thread that stops all others: no fault of the file
                raise OSError(f"{name}: not read, the archive was closed") from error
            raise

    def close(self) -> None:
        """Close the file."""
        self._zip.close()


class Remote:
    """The archive on its server; ``listing`` keeps what its directory says, which is therefore read once."""

    kind = "url"

    def __init__(
        self,
        url: str,
        size: int | None,
        parts: Iterable[str],
        listing: Path,
        limits: RequestLimits | None = None,
        report: Callable[[str], object] = lambda line: None,
    ) -> None:
        parts = sorted(parts)
        kept = read_json(listing) if listing.is_file() else {}
        known = (kept.get("url"), kept.get("parts")) == (url, parts) and size in (None, kept.get("size"))
        self._listing = listing
        # The size of the archive that the offsets belong to: every answer of the server is checked against it.
        self._file = RemoteFile(url, kept["size"] if known else size, limits, report)
        if known:
            members = [Member(*entry) for entry in kept["members"]]
        else:
            wanted = {*parts, CT}
            members = list_members(self._file, lambda name: (key_of(name) or ("", ""))[1] in wanted)
            write_json(listing, {"url": url, "size": self._file.size, "parts": parts, "members": members})
        by_name = {member.name: member for member in members}
        names = _by_key([member.name for member in members], parts, url)
        self._members = {key: by_name[name] for key, name in names.items()}
        self.sizes = {key: member.packed for key, member in self._members.items()}

    def read(self, key: Key) -> bytes:
        """Transfer the member; see `read_member`."""
        try:
            return read_member(self._file, self._members[key])
        except AnotherFile as error:
            raise AnotherFile(f"{error}; if it is the right one, delete {self._listing} and start again") from error

    def close(self) -> None:
        """Hang up."""
        self._file.close()


def check_md5(path: Path, checksum: str, proof: Path) -> None:
    """Compare a whole file with its MD5, once: ``proof`` remembers the file that was right.

    Raises
    ------
    ValueError
        If it is another file, or damaged.
    """
    stat = path.stat()
    facts = {"name": path.name, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "md5": checksum}
    if proof.is_file() and read_json(proof) == facts:
        return
    found = md5(path)
    if found != checksum:
        raise ValueError(f"{path} has MD5 {found}; expected {checksum}: damaged, or another version; download it again")
    write_json(proof, facts)


def is_url(source: str | os.PathLike[str]) -> bool:
    """Whether a source is an address rather than a path.

    Examples
    --------
    >>> is_url("https://example.org/data.zip"), is_url("data.zip")
    (True, False)
    """
    return str(source).startswith(("http://", "https://"))
