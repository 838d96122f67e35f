"""Tests of subjects: names, and one data set read from a folder, a zip and a server."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from pathlib import Path

import pytest

from ct_subjects import CLASSES, TOP, as_folder, as_zip, ball_subjects
from range_server import serve
from reproduction.data.http_range import AnotherFile, RequestLimits
from reproduction.data.totalsegmentator import subjects as module
from reproduction.data.totalsegmentator.remote_zip import DamagedMember
from reproduction.data.totalsegmentator.subjects import CT, Folder, LocalZip, Remote, check_md5, key_of

FREE = RequestLimits(per_minute=0, attempts=2, pause_s=0.0)
FILES = ball_subjects(3)
KEYS = sorted((f"s{k:04d}", part) for k in range(3) for part in (CT, *CLASSES))
EVIL = {
    **{"../s0009/ct.nii.gz": b"evil", f"{TOP}/../s0009/ct.nii.gz": b"evil", "/s0009/ct.nii.gz": b"evil"},
    **{"a/b/s0009/ct.nii.gz": b"deep", f"{TOP}/s0009/segmentations/liver.nii.gz": b"no class of ours"},
    **{
        f"{TOP}/s0009/ct.nii.gz.bak": b"x",
        "..\\s0009\\ct.nii.gz": b"evil",
        f"{TOP}/s0009/segmentations/../ct.nii.gz": b"x",
    },
}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("s0001/ct.nii.gz", ("s0001", "ct")),
        ("any folder/s0001/ct.nii.gz", ("s0001", "ct")),
        ("x/s12345/segmentations/kidney_right.nii.gz", ("s12345", "kidney_right")),
        ("..a/s0001/ct.nii.gz", ("s0001", "ct")),
        *((name, None) for name in EVIL if "liver" not in name),
        *(
            (name, None)
            for name in ("./s0001/ct.nii.gz", "s0001/ct.nii", "x0001/ct.nii.gz", "s0001\n/ct.nii.gz", "meta.csv")
        ),
        ("s0001/segmentations/ct.nii.gz.nii.gz", None),
    ],
)
def test_names(name, key):
    assert key_of(name) == key


@pytest.fixture
def www(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NO_PROXY", "*")
    return as_zip(tmp_path / "www" / "x.zip", FILES, more=EVIL).parent


def contents(opened) -> dict:
    return {key: opened.read(key) for key in opened.sizes}


def test_folder_zip_and_server_hold_the_same(tmp_path, www):
    expected = {key_of(name): content for name, content in FILES.items()}
    assert sorted(expected) == KEYS
    for top in ("", TOP):
        folder = Folder(as_folder(tmp_path / f"f{top}", FILES, top), CLASSES)
        assert contents(folder) == expected
    local = LocalZip(www / "x.zip", CLASSES)
    assert contents(local) == expected
    local.close()
    with serve(www) as server:
        remote = Remote(f"{server.url}/x.zip", None, CLASSES, tmp_path / "listing.json", FREE)
        assert contents(remote) == expected and remote.sizes == local.sizes
        remote.close()
    assert [o.kind for o in (folder, local, remote)] == ["folder", "zip", "url"]
    assert list(folder.sizes) == list(local.sizes) == KEYS
    assert not (tmp_path / "s0009").exists() and not (www / "s0009").exists()


def test_only_the_wanted_classes_are_there(tmp_path, www):
    for opened in (
        Folder(as_folder(tmp_path / "f", FILES), ["aorta"]),
        LocalZip(www / "x.zip", ["aorta"]),
    ):
        assert {part for _, part in opened.sizes} == {"ct", "aorta"}


def test_the_directory_is_read_once(tmp_path, www):
    listing = tmp_path / "listing.json"
    size = (www / "x.zip").stat().st_size
    with serve(www) as server:
        url = f"{server.url}/x.zip"
        Remote(url, size, CLASSES, listing, FREE).close()
        before = len(server.ranges)
        again = Remote(url, size, CLASSES, listing, FREE)
        assert len(server.ranges) == before and list(again.sizes) == KEYS
        again.read(("s0001", "aorta"))
        assert len(server.ranges) == before + 1
        # Other classes, and another size, are another listing; evil names are in none.
        assert list(Remote(url, size, ["aorta"], listing, FREE).sizes) == [k for k in KEYS if k[1] in ("aorta", "ct")]
        assert "s0009" not in listing.read_text()
        with pytest.raises(AnotherFile, match=f"has {size} bytes; expected {size + 5}"):
            Remote(url, size + 5, CLASSES, listing, FREE)


def test_an_archive_that_changed_since_its_listing_is_noticed(tmp_path, www):
    with serve(www) as server:
        Remote(f"{server.url}/x.zip", None, CLASSES, tmp_path / "listing.json", FREE).close()
        as_zip(www / "x.zip", FILES)
        later = Remote(f"{server.url}/x.zip", None, CLASSES, tmp_path / "listing.json", FREE)
        with pytest.raises(AnotherFile, match=r"it is another file; .* delete .*listing\.json and start again$"):
            later.read(("s0001", CT))


@pytest.mark.parametrize("second", [f"{TOP}/s0001/ct.nii.gz", "other/s0001/ct.nii.gz"])
def test_a_file_that_is_there_twice_is_refused(tmp_path, www, second):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, about the name
        path = as_zip(www / "x.zip", FILES, more={second: b"which one?"})
    with pytest.raises(ValueError, match=rf"x.zip has s0001 ct twice: {TOP}/s0001/ct.nii.gz and {second}"):
        LocalZip(path, CLASSES)
    with serve(www) as server, pytest.raises(ValueError, match="has s0001 ct twice"):
        Remote(f"{server.url}/x.zip", None, CLASSES, tmp_path / "listing.json", FREE)
    with pytest.raises(ValueError, match=r"has s0000 ct twice: a/s0000/ct\.nii\.gz and b/s"):
        Folder(as_folder(as_folder(tmp_path / "f", FILES, "a"), FILES, "b"), CLASSES).close()


def test_a_damaged_member_of_a_local_zip_is_named(www):
    path = www / "x.zip"
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{TOP}/s0001/ct.nii.gz")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 200] ^= 0xFF
    path.write_bytes(content)
    opened = LocalZip(path, CLASSES)
    with pytest.raises(DamagedMember, match=rf"^{TOP}/s0001/ct.nii.gz is damaged \("):
        opened.read(("s0001", CT))
    assert opened.read(("s0002", CT)) == FILES["s0002/ct.nii.gz"]


@pytest.mark.parametrize("content", [b"", b"no zip" * 100])
def test_a_local_zip_that_is_none(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip is damaged or no zip \(.*\); download it again"):
        LocalZip(tmp_path / "x.zip", CLASSES)


def test_the_md5_of_a_whole_file_is_checked_once(tmp_path, monkeypatch):
    path, proof = tmp_path / "x.zip", tmp_path / "proof.json"
    path.write_bytes(b"abc")
    right = hashlib.md5(b"abc").hexdigest()
    with pytest.raises(ValueError, match=rf"x.zip has MD5 {right}; expected 00ff: damaged, or another version"):
        check_md5(path, "00ff", proof)
    assert not proof.exists()
    check_md5(path, right, proof)
    calls: list[Path] = []
    monkeypatch.setattr(module, "md5", lambda path: calls.append(path) or right)
    check_md5(path, right, proof)
    assert calls == []
    os.utime(path, ns=(0, 0))  # another time stamp: perhaps another content
    check_md5(path, right, proof)
    with pytest.raises(ValueError, match="expected 00ff"):
        check_md5(path, "00ff", proof)
    assert calls == [path, path]
