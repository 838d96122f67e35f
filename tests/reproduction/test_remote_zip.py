"""Tests of remote_zip: one request a member, its checksum, and archives that are damaged or huge."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from range_server import Bad, nginx, serve
from reproduction.data.http_range import RangeNotSupported, RemoteFile, RequestLimits
from reproduction.data.totalsegmentator.remote_zip import (
    DamagedMember,
    Member,
    list_members,
    read_member,
    unpack,
)

FREE = RequestLimits(per_minute=0, attempts=3, pause_s=0.0)
RANDOM = np.random.default_rng(0).bytes(150_000)
FILES = {"a/one.txt": b"one" * 1000, "a/empty": b"", "b/two.bin": RANDOM, "b/stored": b"stored" * 99}


def write_zip(path: Path, files: dict[str, bytes] = FILES, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("a")
        for name, content in files.items():
            archive.writestr(name, content, zipfile.ZIP_STORED if name.endswith("stored") else zipfile.ZIP_DEFLATED)
        archive.comment = comment
    return path


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Bad]:
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "www").mkdir()
    write_zip(tmp_path / "www" / "x.zip")
    with serve(tmp_path / "www") as server:
        yield server


class RemoteZip:
    """Members of a remote zip by their names."""

    def __init__(self, file: RemoteFile, members: Iterable[Member]) -> None:
        self.file, self.members = file, {member.name: member for member in members}

    def read(self, name: str) -> bytes:
        return read_member(self.file, self.members[name])


def open_zip(server: Bad) -> RemoteZip:
    file = RemoteFile(f"{server.url}/x.zip", limits=FREE)
    return RemoteZip(file, list_members(file))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


def test_every_member_from_nginx_with_one_request_each(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "www").mkdir()
    path = write_zip(tmp_path / "www" / "x.zip")
    with nginx(tmp_path / "www", tmp_path / "nginx") as server:
        file = RemoteFile(f"{server.url}/x.zip", limits=FREE)
        archive = RemoteZip(file, list_members(file))
        assert list(archive.members) == list(FILES), "folders are not listed"
        listing = len(server.requests())
        for name, content in FILES.items():
            assert archive.read(name) == content
        file.close()
    rows = server.requests()
    assert listing <= 5 and len(rows) == listing + len(FILES)
    assert {status for status, _, _ in rows} == {206}
    assert sum(sent for _, _, sent in rows[listing:]) <= path.stat().st_size, "nothing twice"
    assert sum(sent for _, _, sent in rows[:listing]) < 2000, "the directory, not the archive"


def test_what_the_directory_says_agrees_with_zipfile(server):
    archive = open_zip(server)
    with zipfile.ZipFile(server.folder / "x.zip") as reference:
        for info in reference.infolist():
            if not info.is_dir():
                member = archive.members[info.filename]
                assert (member.offset, member.packed, member.size) == (
                    info.header_offset,
                    info.compress_size,
                    info.file_size,
                )
                assert (member.crc, member.method, member.flags) == (info.CRC, info.compress_type, info.flag_bits)
        offsets = [m.offset for m in archive.members.values()]
        assert [m.stop for m in archive.members.values()] == [*offsets[1:], reference.start_dir]


def test_only_wanted_members_are_listed_and_a_comment_does_no_harm(server):
    write_zip(server.folder / "x.zip", comment=b"hello" * 500)
    file = RemoteFile(f"{server.url}/x.zip", limits=FREE)
    (member,) = list_members(file, lambda name: name.startswith("b/two"))
    assert RemoteZip(file, [member]).read("b/two.bin") == RANDOM


def test_a_kept_listing_needs_no_directory(server):
    members = open_zip(server).members.values()
    before = len(server.ranges)
    kept = [Member(*entry) for entry in [list(member) for member in members]]  # as JSON gives them back
    assert RemoteZip(RemoteFile(f"{server.url}/x.zip", limits=FREE), kept).read("b/two.bin") == RANDOM
    assert len(server.ranges) == before + 1


def test_a_dropped_connection_costs_the_rest_of_the_member_only(server):
    archive = open_zip(server)
    before, server.plan = server.sent, [("drop", 100_000)]
    assert archive.read("b/two.bin") == RANDOM
    assert server.sent - before < len(RANDOM) + (1 << 16) + 200


def test_a_bit_that_turned_over_on_the_way_is_transferred_again(server):
    archive = open_zip(server)
    before = len(server.ranges)
    server.plan = ["flip"]
    assert archive.read("b/stored") == FILES["b/stored"]
    assert len(server.ranges) == before + 2 and server.ranges[-1] == server.ranges[-2]


@pytest.mark.parametrize("name", ["b/two.bin", "b/stored"])
def test_a_damaged_member_is_named_after_two_transfers_and_the_others_are_there(server, name):
    member = open_zip(server).members[name]
    flip(server.folder / "x.zip", member.stop - 5)
    archive = open_zip(server)
    before = len(server.ranges)
    with pytest.raises(DamagedMember, match=rf"^{name} is damaged \("):
        archive.read(name)
    assert len(server.ranges) == before + 2
    assert archive.read("a/one.txt") == FILES["a/one.txt"]


def test_a_wrong_checksum_in_the_directory(server):
    archive = open_zip(server)
    member = archive.members["a/one.txt"]
    archive.members["a/one.txt"] = member._replace(crc=member.crc ^ 1)
    with pytest.raises(DamagedMember, match="Bad CRC-32"):
        archive.read("a/one.txt")


def test_members_that_lie_about_their_size(server):
    """One that unpacks to more is stopped where it should end."""
    archive = open_zip(server)
    member = archive.members["a/one.txt"]
    for size in (member.size - 1, 0):
        archive.members["a/one.txt"] = member._replace(size=size)
        with pytest.raises(DamagedMember, match=r"a/one.txt is damaged"):
            archive.read("a/one.txt")
    archive.members["a/one.txt"] = member._replace(packed=1 << 40)
    with pytest.raises(DamagedMember, match=r"a/one.txt has 1099511627776 packed bytes"):
        archive.read("a/one.txt")


def test_a_member_that_is_not_at_its_place(server):
    archive = open_zip(server)
    first, second = archive.members["a/one.txt"], archive.members["b/stored"]
    for offset in (first.offset + 1, second.offset):  # no header; another member's
        wrong = first._replace(offset=offset, stop=second.stop + 100)
        with pytest.raises(DamagedMember, match=r"^a/one.txt is damaged \("):
            RemoteZip(archive.file, [wrong]).read("a/one.txt")
    with pytest.raises(DamagedMember, match=r"^a/one.txt is damaged"):
        unpack(first, b"PK")


def test_encrypted_and_strangely_packed_members(server):
    archive = open_zip(server)
    member = archive.members["a/one.txt"]
    for change in ({"flags": member.flags | 1}, {"method": 99}):
        archive.members["a/one.txt"] = member._replace(**change)
        with pytest.raises(DamagedMember, match=r"a/one.txt is damaged \("):
            archive.read("a/one.txt")


def test_a_long_extra_field_is_read_to_its_end(server):
    """Local headers may be longer than the directory says."""
    info = zipfile.ZipInfo("a/one.txt")
    info.extra = struct.pack("<HH", 0x9999, 60_000) + bytes(60_000)
    with zipfile.ZipFile(server.folder / "x.zip", "w") as archive:
        archive.writestr(info, RANDOM)
    remote = open_zip(server)
    before = len(server.ranges)
    assert remote.read("a/one.txt") == RANDOM and len(server.ranges) == before + 1


@pytest.mark.parametrize("name", ["a/Gefäß", "a/été", "a/日本"])
def test_names_beyond_ascii(server, name):
    write_zip(server.folder / "x.zip", {name: RANDOM})
    assert open_zip(server).read(name) == RANDOM


def test_names_of_old_zips(server):
    """Without the flag for UTF-8 a name is in code page 437: 0x82 is é."""
    path = write_zip(server.folder / "x.zip", {"a/xy": RANDOM})
    path.write_bytes(path.read_bytes().replace(b"a/xy", b"a/\x82t"))
    assert open_zip(server).read("a/ét") == RANDOM


def test_sizes_after_the_data(server):
    """A zip that was written to a pipe has its sizes behind the members (data descriptors)."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.content = b""

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:  # type: ignore[override]
            self.content += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
        for name, content in FILES.items():
            archive.writestr(name, content)
    (server.folder / "x.zip").write_bytes(pipe.content)
    remote = open_zip(server)
    assert all(member.flags & 8 for member in remote.members.values())
    assert {name: remote.read(name) for name in FILES} == FILES


def test_an_archive_beyond_four_gigabytes(tmp_path, monkeypatch):
    """As the real one: 64-bit offsets. The gap is a hole in the file, and is not transferred."""
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "www").mkdir()
    with open(tmp_path / "www" / "x.zip", "wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/near", b"near")
            file.seek(5_000_000_000)
            archive.start_dir = file.tell()
            archive.writestr("a/far", RANDOM)
    with nginx(tmp_path / "www", tmp_path / "nginx") as server:
        remote = RemoteFile(f"{server.url}/x.zip", limits=FREE)
        far = RemoteZip(remote, list_members(remote))
        assert far.members["a/far"].offset >= 5_000_000_000
        assert far.read("a/far") == RANDOM and far.read("a/near") == b"near"
        remote.close()
    assert sum(row[2] for row in server.requests()) < len(RANDOM) + 70_000


@pytest.mark.parametrize(
    "content",
    [b"", b"no zip", b"<html>404</html>" * 10_000, bytes(300_000) + b"PK\x05\x06" + b"\xff" * 18],
    ids=["empty", "text", "html", "nonsense"],
)
def test_what_is_no_zip(server, content):
    (server.folder / "x.zip").write_bytes(content)
    with pytest.raises((ValueError, ConnectionError), match=r"x\.zip(: the server answered 416| is no zip)"):
        open_zip(server)
    assert server.sent < 200_000


def test_an_archive_without_members(server):
    (server.folder / "x.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    assert open_zip(server).members == {}


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (["whole"], RangeNotSupported, "ignores HTTP Range"),
        (["right", "whole"], RangeNotSupported, "ignores HTTP Range"),
        (["right", "right", 404], ConnectionError, "the server answered 404"),
        ([("drop", 0)] * 9, ConnectionError, "3 attempts failed"),
    ],
    ids=str,
)
def test_a_server_that_fails_is_not_taken_for_a_file_that_is_no_zip(server, plan, error, message):
    """To zipfile, an OSError at the end of a file means that it is no zip."""
    server.plan = plan
    with pytest.raises(error, match=message):
        open_zip(server)


def test_a_truncated_archive(server):
    path = server.folder / "x.zip"
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) - 30, len(whole) // 2, 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"x\.zip is no zip, or its directory is damaged"):
            open_zip(server)


def test_a_directory_of_nonsense_is_not_transferred(server):
    """Its end says that the directory is all of 500 MB: no more than a bound is ever read at once."""
    path = server.folder / "x.zip"
    with open(path, "wb") as file:
        file.truncate(600_000_000)
        file.seek(0, 2)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 500_000_000, 100_000_000, 0))
    with pytest.raises(OSError, match="cannot be read at once"):
        open_zip(server)
    assert server.sent < 1000
