"""The whole line of patches on real CTs: from nginx, a zip and a folder, damaged and killed."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ct_subjects import CLASSES, TOP, as_folder, as_zip, ball_subjects, nifti, real_subjects
from range_server import nginx, serve
from reproduction.config import Preset
from reproduction.data.cases import CaseSet, in_order, read_case
from reproduction.data.download import md5
from reproduction.data.http_range import RangeNotSupported, RequestLimits
from reproduction.data.totalsegmentator.patches import CASES, CRITERIA, ORGANS, examples, make_totalsegmentator
from reproduction.data.totalsegmentator.versions import VERSIONS, Version
from reproduction.runs.notebook import prepare_data

FREE = RequestLimits(per_minute=0, attempts=3, pause_s=0.0)
SUBJECTS = [f"s{k:04d}" for k in range(1, 10)]
EVIL = {"../s0011/ct.nii.gz": b"evil", f"{TOP}/../../s0012/ct.nii.gz": b"evil"}


@pytest.fixture(scope="module")
def files(shared_data) -> dict[str, bytes]:
    return real_subjects(shared_data)


@pytest.fixture(scope="module")
def www(tmp_path_factory, files) -> Path:
    """A folder with the archive, as published: below one folder, with classes that nobody asks for, and evil names."""
    liver = {f"{TOP}/{subject}/segmentations/liver.nii.gz": os.urandom(500_000) for subject in SUBJECTS}
    return as_zip(tmp_path_factory.mktemp("www") / "x.zip", files, more=liver | EVIL).parent


@pytest.fixture(scope="module")
def version(www) -> Version:
    path = www / "x.zip"
    return Version("v2.0.1", "http://127.0.0.1:9/x.zip", path.stat().st_size, md5(path), len(SUBJECTS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, www, version) -> CaseSet:
    """The set, from the local archive."""
    return make(tmp_path_factory.mktemp("whole"), www / "x.zip", version)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, Version, CaseSet]:
    """An archive of nine small subjects that all pass, as a file in a folder of its own; its version; its set."""
    path = as_zip(tmp_path_factory.mktemp("small") / "x.zip", ball_subjects(9), more=EVIL)
    version = Version("v2.0.1", "http://127.0.0.1:9/x.zip", path.stat().st_size, md5(path), 9)
    return path, version, make(tmp_path_factory.mktemp("small_whole"), path, version)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def make(folder: Path, source: str | Path | None, version: Version, **more) -> CaseSet:
    quiet = {"workers": 2, "limits": FREE, "report": lambda line: None}
    return make_totalsegmentator(folder, source, version, cases=5, **(quiet | more))


def without_route(made: CaseSet) -> dict:
    return {**made.manifest, "source": {**made.manifest["source"], "read_from": "", "url": "", "checked": ""}}


# ---- what is published ----


def test_the_patches_fit_in_two_gigabytes(whole):
    """Real scans at full size: what all files of a case take, and what is kept of a subject that is not taken."""
    cases = sum(len(whole.entries(organ)) for organ in ORGANS)
    size = {
        name: sum(path.stat().st_size for path in whole.folder.rglob(name)) for name in ("*.npz", "s*.json", "*.json")
    }
    assert size["*.npz"] / cases < 64**3 * (4 + 1), "float32 and uint8, not even compressed"
    kept = 3 * CASES * size["*.npz"] / cases + 3 * 1228 * size["s*.json"] / (3 * len(SUBJECTS))
    assert kept + size["*.json"] < 2e9


def test_the_book_states_the_versions_and_the_rules_as_they_are(root):
    text = (root / "book" / "data.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    for organ, rule in CRITERIA.items():
        assert f"`{ORGANS[organ]}`" in rows[organ] and f"at least {rule.voxels:,} (" in rows[organ]
        assert ("nowhere" if rule.closed == "LRPAIS" else "below and above") in rows[organ]
        assert (f"at least {rule.layers} (" in rows[organ]) == (rule.layers > 1)
        assert (f"at least {rule.inside:.0%}".replace("%", " %") in rows[organ]) == (rule.inside > 0)
    for version in VERSIONS.values():
        assert f"{version.subjects:,} and" in rows["subjects, classes"] and f"`{version.name}`" in text
    assert f"{VERSIONS['v2.0.1'].size:,}" in rows["bytes"] and f"`{VERSIONS['v2.0.1'].md5}`" in rows["MD5"]
    assert f"the first {CASES} are taken" in text and f"-{1024} HU" in text


# ---- the set ----


def test_the_selection_and_why_the_others_are_left_out(whole):
    order = in_order(SUBJECTS)
    left_out = whole.manifest["source"]["left_out"]
    # The two real subjects: one kidney is cut by the lowest slice, one absent; both lack the oesophagus.
    assert left_out["kidney"]["s0001"] == "cut off by the volume's border (I)"
    assert left_out["kidney"]["s0002"] == left_out["oesophagus"]["s0001"] == left_out["oesophagus"]["s0002"] == "empty"
    kidneys = [subject for subject in order if subject not in ("s0001", "s0002")]
    assert sorted(whole.entries("kidney")) == sorted(whole.entries("oesophagus")) == sorted(kidneys[:5])
    assert sorted(whole.entries("aorta")) == sorted(order[:5])
    for organ in ORGANS:
        assert set(left_out[organ]) == set(SUBJECTS) - set(whole.entries(organ))
        assert sorted(entry["fold"] for entry in whole.entries(organ).values()) == [0, 1, 2, 3, 4]
        others = {subject for subject, why in left_out[organ].items() if why == "not needed: 5 come before it"}
        assert others == {s for s in left_out[organ] if organ == "aorta" or s not in ("s0001", "s0002")}


def test_the_manifest_says_how_it_came_about(whole, version):
    source, patch = whole.manifest["source"], whole.manifest["patch"]
    assert source["version"] == "v2.0.1" and source["md5"] == version.md5 and source["bytes"] == version.size
    assert source["checked"] == "md5" and source["partial"] is False
    assert source["licence"] == "CC BY 4.0" and source["subjects"] == 9 and source["read_from"] == "zip"
    assert patch["shape"] == [64, 64, 64] and patch["spacing_mm"] == [3, 3, 3] and patch["fill"] == -1024
    assert patch["rules"]["kidney"] == {"closed": "LRPAIS", "voxels": 1000, "layers": 1, "inside": 0.95}
    for organ in ORGANS:
        for name, entry in whole.entries(organ).items():
            (case,) = whole.load(organ, [name])
            assert entry["voxels"] == case.label.sum() >= CRITERIA[organ].voxels
            assert entry["scan_spacing_mm"] == [3, 3, 3] and entry["scan_inside"] <= entry["scan_voxels"]


def test_nothing_else_is_kept(whole):
    files = sorted(str(path.relative_to(whole.folder)) for path in whole.folder.rglob("*") if path.is_file())
    cases = [f"{organ}/{name}.npz" for organ in ORGANS for name in whole.entries(organ)]
    facts = [f"selection/{organ}/{subject}.json" for organ in ORGANS for subject in SUBJECTS]
    assert files == sorted([*cases, *facts, "manifest.json", "selection/version.json", "selection/md5.json"])
    assert sum(path.stat().st_size for path in (whole.folder / "selection").rglob("*.json")) < 27 * 5000


def test_a_real_scan_of_3_mm_is_its_patch(whole, files, tmp_path):
    """Voxels that are the cells: the patch is the scan, cut where it ends, with air around it."""
    (organ, name) = next((o, n) for o in ORGANS for n in whole.entries(o) if n not in ("s0001", "s0002"))
    (case,) = whole.load(organ, [name])
    path = as_folder(tmp_path, {name: files[f"{name}/ct.nii.gz"]}) / name
    path = path.rename(tmp_path / "ct.nii.gz")
    scan = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    known = np.unique(scan)
    assert np.isin(case.image, [*known, -1024]).all()
    inside = np.argwhere(case.image > -1023)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    block = case.image[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    found = [
        corner
        for corner in np.argwhere(scan == block[0, 0, 0])
        if all(c + n <= s for c, n, s in zip(corner, block.shape, scan.shape, strict=True))
        and np.array_equal(scan[tuple(slice(c, c + n) for c, n in zip(corner, block.shape, strict=True))], block)
    ]
    assert len(found) == 1, "in one place of the scan"


def test_a_real_scan_of_1_5_mm_is_halved(tmp_path, shared_data):
    """s0002, read here and not by the code that cut it: stored from right to left, its aorta is halved by majority."""
    case = examples(tmp_path, as_folder(tmp_path / "s", real_subjects(shared_data, 0)))["aorta"]
    assert case.id == "s0001"
    folder = tmp_path / "two"
    for part in ("ct", *(f"segmentations/{name}" for name in CLASSES)):
        content = (shared_data / "totalsegmentator" / "s0002" / f"{part}.nii.gz").read_bytes()
        as_folder(folder, {f"s0002/{part}.nii.gz": content})
    case = examples(tmp_path / "none", folder)["aorta"]
    mask = np.asarray(nib.load(folder / "s0002/segmentations/aorta.nii.gz").dataobj)[::-1, ::-1]  # type: ignore[attr-defined]
    scan = np.asarray(nib.load(folder / "s0002/ct.nii.gz").dataobj)[::-1, ::-1]  # type: ignore[attr-defined]
    corner = np.rint(np.argwhere(mask).mean(axis=0) + 0.5 - 64).astype(int)
    padded = [np.pad(v, 150, constant_values=c) for v, c in ((mask, 0), (scan, -1024))]
    mask, scan = (v[tuple(slice(150 + c, 278 + c) for c in corner)].astype(float) for v in padded)
    blocks = mask.reshape(64, 2, 64, 2, 64, 2).mean(axis=(1, 3, 5))
    assert np.array_equal(case.label, blocks >= 0.5) and case.label.sum() > 5000
    means = scan.reshape(64, 2, 64, 2, 64, 2).mean(axis=(1, 3, 5))
    middle = (slice(16, 48),) * 3  # far from the scan's border
    eighths = np.zeros((32, 128))  # cell 16 + k is the mean of the voxels 31 + 2k to 34 + 2k, weighted 1, 3, 3, 1
    for k in range(32):
        eighths[k, 31 + 2 * k : 35 + 2 * k] = np.array([1, 3, 3, 1]) / 8
    by_hand = np.einsum("ai,bj,ck,ijk->abc", eighths, eighths, eighths, scan, optimize=True)
    assert np.array_equal(case.image[middle], by_hand.astype(np.float32))
    assert np.corrcoef(case.image[middle].ravel(), means[middle].ravel())[0, 1] > 0.97


def test_a_second_call_reads_nothing(whole, version):
    stamps = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*") if path.is_file()}
    again = make(whole.folder, "/nowhere", version)
    assert again.manifest == whole.manifest
    assert {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*") if path.is_file()} == stamps


def test_other_wishes_for_a_finished_folder_are_refused(whole, version):
    for change in ({"cases": 6}, {"criteria": {**CRITERIA, "aorta": replace(CRITERIA["aorta"], voxels=7)}}):
        with pytest.raises(
            ValueError, match=r"holds \{'version': 'v2.0.1', .*\}; wanted v2.0.1 and .*name another folder"
        ):
            make_totalsegmentator(whole.folder, "/nowhere", version, **{"cases": 5, **change})
    with pytest.raises(ValueError, match=r"was begun with v2.0.1; wanted v1: name another folder"):
        make_totalsegmentator(whole.folder, "/nowhere", "v1")
    with pytest.raises(ValueError, match=r"cases is 4, workers is 4 and criteria are for .*; expected at least 5"):
        make_totalsegmentator(whole.folder, "/nowhere", version, cases=4)


def test_a_case_that_was_deleted_is_made_again_from_its_ct_alone(tmp_path, small):
    path, version, whole = small
    make(tmp_path / "a", path, version)
    lost = tmp_path / "a" / "aorta" / f"{next(iter(whole.entries('aorta')))}.npz"
    lost.unlink()
    with zipfile.ZipFile(path) as archive:
        directory = archive.start_dir
    with serve(path.parent) as server:
        made = make(tmp_path / "a", f"{server.url}/x.zip", version, workers=1)
    assert made.manifest["organs"] == whole.manifest["organs"] and lost.is_file()
    assert len([start for start, _ in server.ranges if start < directory]) == 1


# ---- where it comes from ----


def test_nginx_zip_and_folder_give_the_same_set_and_little_is_transferred(tmp_path, www, version, whole, files):
    with nginx(www, tmp_path / "nginx") as server:
        remote = make(tmp_path / "a", None, replace(version, url=f"{server.url}/x.zip"))
        assert remote.manifest["source"]["read_from"] == "url"
        lines = server.requests()
    folder = make(tmp_path / "b", as_folder(tmp_path / "s", files, TOP), version)
    assert without_route(remote) == without_route(folder) == without_route(whole)
    chosen = {name for organ in ORGANS for name in whole.entries(organ)}
    masks = sum(len(content) for name, content in files.items() if "/segmentations/" in name)
    cts = sum(len(files[f"{name}/ct.nii.gz"]) for name in chosen)
    sent = sum(row[2] for row in lines)
    assert {row[0] for row in lines} == {206} and len(lines) <= 27 + len(chosen) + 5
    assert sent < 1.05 * (masks + cts) + 20_000 and sent < 0.8 * version.size
    assert max(Counter(row[1] for row in lines).values()) == 1, "nothing twice"


def test_names_that_climb_out_are_harmless(tmp_path, small):
    path, version, _ = small
    inner = tmp_path / "a" / "b"
    before = set(tmp_path.parent.rglob("*"))
    make(inner, path, version)
    new = {path for path in set(tmp_path.parent.rglob("*")) - before if path.is_file()}
    assert new and all(inner in path.parents for path in new)
    assert "s0011" not in (inner / "manifest.json").read_text()


def test_a_server_that_ignores_range_never_sends_the_archive(tmp_path, small):
    path, version, _ = small
    with nginx(path.parent, tmp_path / "nginx") as server:
        with pytest.raises(RangeNotSupported, match="download the file yourself"):
            make(tmp_path / "a", f"{server.url_without_ranges}/x.zip", version)
    with serve(path.parent) as server:
        server.plan = lambda number: "whole" if number > 12 else "right"  # in the middle of it
        with pytest.raises(RangeNotSupported):
            make(tmp_path / "a", f"{server.url}/x.zip", version)
    assert not (tmp_path / "a" / "manifest.json").exists()


def test_a_server_that_drops_every_second_transfer(tmp_path, small):
    path, version, whole = small
    with serve(path.parent) as server:
        server.plan = lambda number: ("drop", 3_000) if number % 2 else "right"
        made = make(tmp_path / "a", f"{server.url}/x.zip", version, workers=1)
    assert without_route(made) == without_route(whole)


def test_a_server_that_goes_away_ends_it_and_the_next_call_goes_on(tmp_path, small):
    path, version, whole = small
    with serve(path.parent) as server:
        server.plan = lambda number: 503 if number > 15 else "right"
        with pytest.raises(ConnectionError, match=r"3 attempts failed, the last with: 503 .*; run it again to go on"):
            make(tmp_path / "a", f"{server.url}/x.zip", version)
        first, server.plan = list(server.ranges), []
        made = make(tmp_path / "a", f"{server.url}/x.zip", version)
    assert without_route(made) == without_route(whole)
    again = Counter(server.ranges[len(first) :])
    assert not set(first[:13]) & set(again), "what was whole is not transferred again"


def test_a_part_of_the_data_set_is_taken_for_what_it_is(tmp_path, small):
    _, version, whole = small
    part = as_folder(tmp_path / "s", ball_subjects(6))
    with pytest.raises(ValueError, match="found 6 subjects"):
        make(tmp_path / "a", part, version)
    made = make(tmp_path / "a", part, version, partial=True)
    assert made.manifest["source"]["subjects"] == 6 and made.digest != whole.digest
    assert made.manifest["source"]["partial"] is True and made.manifest["source"]["checked"] == "nothing"
    # Asked for again it is there; asked for whole it is not, and the missing subjects are read.
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "a", tmp_path / "gone", version)
    assert make(tmp_path / "a", tmp_path / "gone", version, partial=True).digest == made.digest
    now = make(tmp_path / "a", as_folder(tmp_path / "all", ball_subjects(version.subjects)), version)
    assert now.digest == whole.digest and now.manifest["source"]["partial"] is False


def test_a_wrong_mirror_leaves_nothing_behind_that_stops_the_right_one(tmp_path, small):
    path, version, whole = small
    unknown = replace(version, size=None)  # as v1: only the number of subjects tells
    (tmp_path / "www").mkdir()
    as_zip(tmp_path / "www" / "part.zip", ball_subjects(6))
    shutil.copy(path, tmp_path / "www" / "x.zip")
    with serve(tmp_path / "www") as server:
        with pytest.raises(ValueError, match="found 6 subjects"):
            make(tmp_path / "a", f"{server.url}/part.zip", unknown)
        assert make(tmp_path / "a", f"{server.url}/x.zip", unknown).digest == whole.digest


def test_the_figure_passes_over_damage_and_leaves_the_folder_alone(tmp_path, small):
    _, version, _ = small
    files = ball_subjects(6)
    first, second, *_ = in_order({name.split("/")[0] for name in files})
    mask = f"{first}/segmentations/kidney_right.nii.gz"
    scan = f"{second}/ct.nii.gz"
    other = nib.Nifti1Image(np.zeros((10, 40, 50), np.int16), np.diag([1.0, 1.0, 5.0, 1.0]))
    other.dataobj[0, 0, 0] = 1
    bad = as_folder(tmp_path / "s", {**files, mask: files[mask][:-9], scan: gzip.compress(other.to_bytes())})
    lines: list[str] = []
    found = examples(tmp_path / "out", bad, version, report=lines.append)
    assert list(found) == list(ORGANS) and found["kidney"].id not in (first, second)
    assert lines[0].startswith(f"{first}: skipped for kidney, no usable NIfTI volume")
    assert lines[1].startswith(f"{second}: skipped for kidney, its shape (10, 40, 50) or place is not that of its mask")
    assert not (tmp_path / "out").exists()


def test_damage_in_the_archive_is_reported_with_its_subject(tmp_path, small):
    """A CT and a mask with a wrong CRC: from the server as from the local archive."""
    original, version, whole = small
    broken, maskless = in_order(whole.entries("kidney"))[:2]
    path = tmp_path / "www" / "x.zip"
    path.parent.mkdir()
    content = bytearray(original.read_bytes())
    with zipfile.ZipFile(original) as archive:
        for name in (f"{broken}/ct", f"{maskless}/segmentations/aorta"):
            content[archive.getinfo(f"{TOP}/{name}.nii.gz").header_offset + 150] ^= 0xFF
    path.write_bytes(content)
    sets = []
    with serve(path.parent) as server:
        for folder, source in (("a", f"{server.url}/x.zip"), ("b", path)):
            lines: list[str] = []
            sets.append(make(tmp_path / folder, source, replace(version, md5=md5(path)), report=lines.append))
            skipped = sorted(line for line in lines if "skipped" in line)
            assert len(skipped) == 2 and any(line.startswith(f"{broken}: skipped, damaged CT") for line in skipped)
            assert any(line.startswith(f"{maskless}: skipped for aorta, damaged mask aorta") for line in skipped)
    for made in sets:
        assert made.digest == sets[0].digest and all(len(made.entries(organ)) == 5 for organ in ORGANS)
        assert not any(broken in made.entries(organ) for organ in ORGANS) and maskless not in made.entries("aorta")
        assert maskless in made.entries("kidney")
        assert made.manifest["source"]["left_out"]["kidney"][broken].startswith("damaged CT")


# ---- killed ----

KILLED = """
import sys
from reproduction.data.http_range import RequestLimits
from reproduction.data.totalsegmentator.patches import make_totalsegmentator
from reproduction.data.totalsegmentator.versions import Version
folder, url, size, md5 = sys.argv[1:]
version = Version("v2.0.1", url, int(size), md5, 9)
limits = RequestLimits(per_minute=0, pause_s=0.01)
make_totalsegmentator(folder, None, version, cases=5, workers=1, limits=limits, report=lambda line: None)
"""


@pytest.mark.slow
def test_kill_9_again_and_again_and_nothing_is_transferred_twice(tmp_path, small):
    """Killed in the middle of a transfer, or as soon as a transfer ended: while it is unpacked, cut or written."""
    path, version, whole = small
    half = iter([1, 4, 9, 20, 30, 36])  # requests that are cut in the middle, counted over all calls
    whole_ones = iter([6, 14, 25, 33])  # requests after whose last byte it is killed
    cut, after = next(half), next(whole_ones)
    time_to_kill, interrupted = threading.Event(), 0
    with serve(path.parent) as server:

        def plan(number: int):
            nonlocal cut, after
            if number == cut:
                cut = next(half, -1)

                def hang(request) -> str:
                    time_to_kill.set()
                    server.awake.wait(20)
                    return "right"

                return hang
            if number == after:
                after = next(whole_ones, -1)
                threading.Timer(0.005, time_to_kill.set).start()
            return "right"

        server.plan = plan
        for _ in range(11):
            server.awake.clear()
            command = [sys.executable, "-c", KILLED, str(tmp_path / "a"), f"{server.url}/x.zip"]
            command += [str(version.size), str(version.md5)]
            with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
                while process.poll() is None:
                    if time_to_kill.wait(0.01):
                        process.send_signal(signal.SIGKILL)
                        process.wait()
                        interrupted += 1
                server.awake.set()
                time_to_kill.clear()
                assert process.returncode in (0, -9), process.stderr and process.stderr.read().decode()
                for case in tmp_path.rglob("*.npz"):
                    read_case(case)  # never half a case
                if process.returncode == 0:
                    break
                assert not (tmp_path / "a" / "manifest.json").exists()
    assert process.returncode == 0 and interrupted == 10
    made = CaseSet(tmp_path / "a")
    assert made.manifest["organs"] == whole.manifest["organs"] and made.digest == whole.digest
    twice = sum(count - 1 for count in Counter(server.ranges).values())
    assert twice <= interrupted + 5, "one transfer under way at each kill; the directory takes five requests"
    kept = [path for path in (tmp_path / "a").rglob("*") if path.is_file() and not path.name.endswith(".part")]
    assert len(kept) == 15 + 27 + 3


# ---- the script, the preset, the figure ----


def script(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "data_scripts" / "totalsegmentator.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script(root, tmp_path, files, whole):
    source = as_folder(tmp_path / "s", files)
    done = script(root, "--out", tmp_path / "a", "--source", source, "--cases", 5)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "totalsegmentator.py: source" in done.stderr and "found 9 subjects" in done.stderr
    assert not (tmp_path / "a").exists(), "a folder is of a version once a source of that version was found"
    done = script(root, "--out", tmp_path / "a", "--source", source, "--cases", 5, "--partial", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert f"a: 5 kidney, 5 aorta, 5 oesophagus, SHA-256 {whole.digest[:12]}" in done.stdout and done.stderr == ""
    done = script(root, "--out", tmp_path / "a", "--figure", tmp_path / "views.png")
    assert done.returncode == 0 and "views.png: kidney s000" in done.stdout
    assert (tmp_path / "views.png").read_bytes().startswith(b"\x89PNG")
    done = script(root, "--out", tmp_path / "none", "--figure", tmp_path / "x.png")
    assert done.returncode == 1 and "none holds no case of kidney, aorta, oesophagus" in done.stderr
    assert not (tmp_path / "none").exists()
    assert "--source" in script(root, "--help").stdout


def test_a_mask_of_colours_costs_the_script_one_subject(root, tmp_path):
    files = ball_subjects(6)
    colours = np.zeros((32, 32, 32), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    files["s0002/segmentations/aorta.nii.gz"] = nifti(colours, np.diag([3.0, 3, 3, 1]))
    source = as_folder(tmp_path / "s", files)
    done = script(root, "--out", tmp_path / "a", "--source", source, "--cases", 6, "--partial")
    assert done.returncode == 0, done.stderr
    why = (
        "s0002, damaged mask aorta (no usable NIfTI volume: its voxels are RGB colours; expected whole or real numbers)"
    )
    assert done.stdout.splitlines()[-2].startswith(f"{tmp_path / 'a'}: 6 kidney, 5 aorta, 6 oesophagus, SHA-256")
    assert done.stdout.splitlines()[-1] == f"skipped for aorta: {why}"
    assert f"s0002, {CaseSet(tmp_path / 'a').manifest['source']['left_out']['aorta']['s0002']}" == why


def test_the_preset_of_the_paper_finds_it(tmp_path, whole):
    preset = Preset.load("paper")
    (tmp_path / "data").mkdir()
    os.symlink(whole.folder, tmp_path / "data" / "totalsegmentator")
    lines: list[str] = []
    found = prepare_data(preset, tmp_path / "data", None, lines.append)
    counts = ", ".join(f"{len(whole.entries(organ))} {organ}" for organ in ORGANS)
    assert lines == [f"{tmp_path / 'data' / 'totalsegmentator'} holds {counts}; the preset paper means 400 of each"]
    assert found.digest == whole.digest and set(preset.grid["organ"]) == set(found.manifest["organs"])
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        prepare_data(preset, tmp_path / "other", str(tmp_path / "nowhere"))


def test_examples_come_from_the_folder_first(tmp_path, whole, shared_data):
    found = examples(whole.folder, shared_data / "totalsegmentator")
    assert list(found) == list(ORGANS)
    assert all(found[organ].id == sorted(whole.entries(organ))[0] for organ in ORGANS)
    (tmp_path / "a" / "kidney").mkdir(parents=True)
    os.link(whole.folder / "kidney" / f"{found['kidney'].id}.npz", tmp_path / "a" / "kidney" / "s0003.npz")
    mixed = examples(tmp_path / "a", shared_data / "totalsegmentator")
    assert {organ: case.id for organ, case in mixed.items()} == {"kidney": "s0003", "aorta": "s0001"}
    with pytest.raises(ValueError, match=r"none holds no case of kidney, aorta, oesophagus, and no source is given"):
        examples(tmp_path / "none")


def test_the_manifest_is_plain_json(whole):
    assert json.loads((whole.folder / "manifest.json").read_text()) == whole.manifest
