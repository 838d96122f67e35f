"""Tests of the published versions of TotalSegmentator, and of sources that are another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ct_subjects import CLASSES, as_folder, as_zip, ball_subjects
from range_server import serve
from reproduction.data.download import md5
from reproduction.data.http_range import AnotherFile, RequestLimits
from reproduction.data.totalsegmentator.versions import VERSIONS, Version, checked, open_source, version_of
from reproduction.paths import write_json

FREE = RequestLimits(per_minute=0, attempts=3, pause_s=0.0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return as_zip(tmp_path_factory.mktemp("www") / "x.zip", ball_subjects(2, 16))


@pytest.fixture
def version(archive, monkeypatch) -> Version:
    monkeypatch.setenv("NO_PROXY", "*")
    return Version("v2.0.1", "http://127.0.0.1:9/x.zip", archive.stat().st_size, md5(archive), 2)


def opened(keep: Path, source: str | Path | None, version: Version, partial: bool = False) -> tuple[str, list[str]]:
    """Kind and subjects of a source."""
    subjects = open_source(keep, source, version, CLASSES, partial, FREE, lambda line: None)
    subjects.close()
    return subjects.kind, sorted({subject for subject, _ in subjects.sizes})


def test_the_published_versions():
    new, old = VERSIONS["v2.0.1"], VERSIONS["v1"]
    assert (new.size, new.md5, new.subjects) == (23_581_218_285, "fe250e5718e0a3b5df4c4ea9d58a62fe", 1228)
    assert (old.size, old.md5, old.subjects) == (None, "f0fbb3f91d9d99f2169863545f577b30", 1204)
    assert "10047292" in new.url and "6802614" in old.url


def test_a_folder_keeps_the_version_that_it_was_begun_with(tmp_path, version):
    assert version_of(tmp_path, None).name == "v2.0.1" and version_of(tmp_path, "v1").name == "v1"
    assert version_of(tmp_path, version) is version
    with pytest.raises(ValueError, match=r"version is 'v3'; there are v2.0.1, v1"):
        version_of(tmp_path, "v3")
    write_json(tmp_path / "selection" / "version.json", {"version": "v1"})
    assert version_of(tmp_path, None).name == "v1"
    with pytest.raises(ValueError, match=r"was begun with v1; wanted v2.0.1: name another folder"):
        version_of(tmp_path, "v2.0.1")


def test_every_kind_of_source(tmp_path, archive, version):
    folder = as_folder(tmp_path / "s", ball_subjects(2, 16))
    subjects = ["s0000", "s0001"]
    assert opened(tmp_path / "k", archive, version) == ("zip", subjects)
    assert opened(tmp_path / "k", folder, version) == ("folder", subjects)
    with serve(archive.parent) as server:
        assert opened(tmp_path / "k", None, replace(version, url=f"{server.url}/x.zip")) == ("url", subjects)
        assert opened(tmp_path / "k", f"{server.url}/x.zip", version) == ("url", subjects)
    assert [checked(kind, version, False) for kind in ("zip", "url", "folder")] == ["md5", "size", "number of subjects"]
    unknown = replace(version, md5=None, size=None)
    assert {checked(kind, unknown, False) for kind in ("zip", "url", "folder")} == {"number of subjects"}
    assert checked("zip", version, True) == "nothing"


@pytest.mark.parametrize("more", [-1, 1])
def test_another_archive_at_the_address(tmp_path, archive, version, more):
    wrong = replace(version, size=version.size + more)
    with serve(archive.parent) as server, pytest.raises(AnotherFile, match="it is another file"):
        opened(tmp_path, f"{server.url}/x.zip", wrong)
    assert len(server.ranges) == 1


def test_a_local_archive_with_another_md5(tmp_path, archive, version):
    wrong = replace(version, md5="0123")
    with pytest.raises(ValueError, match=rf"x.zip has MD5 {version.md5}; expected 0123: damaged, or another version"):
        opened(tmp_path, archive, wrong)
    assert opened(tmp_path, archive, wrong, partial=True)[0] == "zip", "a part of it has another"


def test_sources_that_are_none(tmp_path, version):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; expected the archive, a folder of sNNNN"):
        opened(tmp_path / "k", tmp_path / "nowhere", version)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: found 0 subjects \(sNNNN/ct.nii.gz\); v2.0.1 has 2$"):
        opened(tmp_path / "k", tmp_path / "empty", version)
    one = as_folder(tmp_path / "one", ball_subjects(1, 16))
    with pytest.raises(ValueError, match=r"found 1 subjects .*; v2.0.1 has 2; to take a part .* \(--partial\)"):
        opened(tmp_path / "k", one, version)
    assert opened(tmp_path / "k", one, version, partial=True) == ("folder", ["s0000"])
