"""Single members of a remote zip: what is asked for is transferred, once, and nothing else (book chapter *Data*).

One request a member, checked against its CRC-32, in any number of threads. The directory of the archive is read once;
what it says of a member can be kept.

Why not the package remotezip: each of its objects reads the whole directory anew (TotalSegmentator's has more than a
hundred thousand entries) and serves one thread, and a connection that drops loses the member. It is made for fetching a
few members by hand.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from reproduction.data.totalsegmentator.http_range import LARGEST, RemoteFile

T = TypeVar("T")


class DamagedMember(ValueError):
    """A member is not what the directory of its archive says: its name, and what is wrong."""


class Member(NamedTuple):
    """What a zip's directory says of one member; ``stop`` is where the next one begins."""

    name: str
    offset: int
    stop: int
    packed: int
    size: int
    crc: int
    method: int
    flags: int


class _Directory:
    """As much of a file object as zipfile needs to read an archive's directory."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._place = file, 0
        self.failure: OSError | None = None  # zipfile takes every OSError for "no zip"

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._ask(lambda: self._file.size))[whence]
        if self._place < 0:
            raise OSError("negative place in a file")
        return self._place

    def read(self, size: int = -1) -> bytes:
        whole = self._ask(lambda: self._file.size)
        stop = whole if size < 0 else min(self._place + size, whole)
        data = self._ask(lambda: self._file.read(self._place, max(stop, self._place)))
        self._place += len(data)
        return data

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except OSError as error:
            self.failure = error
            raise

    def close(self) -> None:
        """The file outlives its directory."""


def list_members(file: RemoteFile, wanted: Callable[[str], bool] = lambda name: True) -> list[Member]:
    """Read the directory of a zip (and nothing else); ``wanted`` says which names to list.

    Raises
    ------
    ValueError
        If the file is no zip or its directory is damaged.
    OSError
        If the server fails or ignores Range; see :class:`~reproduction.data.totalsegmentator.http_range.RemoteFile`.
    """
    directory = _Directory(file)
    try:
        with zipfile.ZipFile(directory) as archive:  # type: ignore[arg-type]
            infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
            ends = [*(info.header_offset for info in infos), archive.start_dir][1:]
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, struct.error) as error:
        if directory.failure:
            raise directory.failure from None
        raise ValueError(f"{file.url} is no zip, or its directory is damaged ({error})") from error
    return [
        Member(i.filename, i.header_offset, end, i.compress_size, i.file_size, i.CRC, i.compress_type, i.flag_bits)
        for i, end in zip(infos, ends, strict=True)
        if not i.is_dir() and wanted(i.filename)
    ]


_LOCAL = struct.Struct("<4s5H3I2H")


def data_begin(member: Member, raw: bytes) -> int:
    """Where a member's packed bytes begin, by its local header: the first of the bytes at its offset.

    Raises
    ------
    DamagedMember
        If there is no such header, or it is another member's.
    """
    begin = _LOCAL.size
    if len(raw) >= begin:
        signature, *_, name_length, extra_length = _LOCAL.unpack_from(raw)
        name = raw[begin : begin + name_length].decode("utf-8", "replace")
        begin += name_length + extra_length
        if signature == b"PK\x03\x04" and name == member.name and member.offset + begin + member.packed <= member.stop:
            return begin
    raise DamagedMember(f"{member.name} is damaged: it is not at its place in the archive")


def unpack(member: Member, raw: bytes) -> bytes:
    """Content of a member from the bytes at its offset, checked against its CRC-32.

    Raises
    ------
    DamagedMember
        If the bytes are not those of the member.
    """
    begin = data_begin(member, raw)
    if member.flags & 1 or member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DamagedMember(f"{member.name} is encrypted, or packed by method {member.method}; expected 0 or 8")
    data = raw[begin : begin + member.packed]
    try:
        # One byte more than promised is enough to know that it is wrong.
        content = zlib.decompressobj(-15).decompress(data, member.size + 1) if member.method else data
    except zlib.error as error:
        raise DamagedMember(f"{member.name} is damaged ({error})") from error
    if len(content) != member.size or zlib.crc32(content) != member.crc:
        raise DamagedMember(f"{member.name} is damaged (its CRC-32 is not that of the archive's directory)")
    return content


class RemoteZip:
    """Members of a remote zip.

    Parameters
    ----------
    file
        The archive.
    members
        From ``list_members``, now or earlier.
    """

    def __init__(self, file: RemoteFile, members: Iterable[Member]) -> None:
        self.file = file
        self.members = {member.name: member for member in members}

    def read(self, name: str) -> bytes:
        """Transfer one member and check it; a damaged one is transferred once more.

        Raises
        ------
        DamagedMember
            If it is damaged both times.
        OSError
            If the server fails; see :class:`~reproduction.data.totalsegmentator.http_range.RemoteFile`.
        """
        member = self.members[name]
        if member.packed >= LARGEST:
            raise DamagedMember(f"{name} has {member.packed} packed bytes; expected less than {LARGEST}")
        # The header repeats the name; how long its extra field is, only it knows: seldom more than this.
        guess = member.offset + _LOCAL.size + len(member.name.encode()) + 64 + member.packed
        try:
            return self._read(member, min(member.stop, guess))
        except DamagedMember:
            return self._read(member, min(member.stop, guess))

    def _read(self, member: Member, stop: int) -> bytes:
        raw = self.file.read(member.offset, stop)
        end = member.offset + data_begin(member, raw) + member.packed
        return unpack(member, raw + self.file.read(stop, end) if end > stop else raw)
