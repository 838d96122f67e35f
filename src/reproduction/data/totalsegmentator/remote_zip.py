"""Single members of a remote zip: one request a member, checked against its CRC-32, in any number of threads.

The directory of the archive is read once; what it says of a member can be kept. The package remotezip reads the
directory again in every process (TotalSegmentator's has more than a hundred thousand entries), serves one thread, and
loses a member whose connection drops.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

from reproduction.data.http_range import LARGEST, RemoteFile

_LOCAL_HEADER = 30  # bytes, without name and extra field
_LONGEST_EXTRA = 0xFFFF
_UTF_8 = 0x800  # flag: the name is UTF-8
#: what zipfile raises for a damaged member or directory
ZIP_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error, zlib.error)


class DamagedMember(ValueError):
    """A member is not what the directory of its archive says: its name, and what is wrong."""


class Member(NamedTuple):
    """What a zip's directory says of one member; its bytes lie between ``offset`` and ``stop``."""

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
        self._file, self._size, self._place = file, file.size, 0
        self.failure: OSError | None = None  # zipfile takes every OSError for "no zip"

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        if self._place < 0:
            raise OSError("negative place in a file")
        return self._place

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._place + size, self._size)
        try:
            data = self._file.read(self._place, max(stop, self._place))
        except OSError as error:
            self.failure = error
            raise
        self._place += len(data)
        return data


def list_members(file: RemoteFile, wanted: Callable[[str], bool] = lambda name: True) -> list[Member]:
    """Read the directory of a zip (and nothing else); ``wanted`` says which names to list.

    Raises
    ------
    ValueError
        If the file is no zip or its directory is damaged.
    OSError
        If the server fails; see `RemoteFile`.
    """
    directory = _Directory(file)
    try:
        with zipfile.ZipFile(directory) as archive:  # type: ignore[arg-type]
            infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
            ends = [*(info.header_offset for info in infos), archive.start_dir][1:]
    except ZIP_DAMAGE as error:
        if directory.failure:
            raise directory.failure from None
        raise ValueError(f"{file.url} is no zip, or its directory is damaged ({error})") from error
    members = []
    for i, end in zip(infos, ends, strict=True):
        if not i.is_dir() and wanted(i.filename):
            # The next member may be far away; the member itself ends here at the latest.
            last = i.header_offset + _LOCAL_HEADER + len(i.filename.encode()) + _LONGEST_EXTRA + i.compress_size
            numbers = (i.compress_size, i.file_size, i.CRC, i.compress_type, i.flag_bits)
            members.append(Member(i.filename, i.header_offset, min(end, last), *numbers))
    return members


def unpack(member: Member, raw: bytes) -> bytes:
    """Content of a member from the bytes at its offset: zipfile reads them as an archive of this one member.

    Raises
    ------
    DamagedMember
        If the bytes are not those of the member.
    """
    try:
        name = member.name.encode("utf-8" if member.flags & _UTF_8 else "cp437")
        numbers = (member.flags, member.method, 0, 0, member.crc, member.packed, member.size, len(name))
        entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, *numbers, 0, 0, 0, 0, 0, 0) + name
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), len(raw), 0)
        with zipfile.ZipFile(io.BytesIO(raw + entry + end)) as archive:
            return archive.read(member.name)
    except ZIP_DAMAGE as error:
        raise DamagedMember(f"{member.name} is damaged ({error})") from error


def read_member(file: RemoteFile, member: Member) -> bytes:
    """Transfer one member and check it; a damaged one is transferred once more.

    Raises
    ------
    DamagedMember
        If it is damaged both times.
    OSError
        If the server fails; see `RemoteFile`.
    """
    if max(member.packed, member.stop - member.offset) >= LARGEST:
        raise DamagedMember(f"{member.name} has {member.packed} packed bytes; expected less than {LARGEST}")
    try:
        return unpack(member, file.read(member.offset, member.stop))
    except DamagedMember:
        return unpack(member, file.read(member.offset, member.stop))
