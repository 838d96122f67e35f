"""OpenKBP: sparse files by hand, the trap of blank surroundings, cutting, and both sources."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from range_server import serve
from reproduction.data.cases import CaseSet, read_case
from reproduction.data.http_range import RequestLimits
from reproduction.data.openkbp.patches import blank_slices, cut, displaced, make_openkbp
from reproduction.data.openkbp.patients import ORGANS, SHAPE, Patient, canonical, read_patient, read_sparse
from reproduction.data.openkbp.patients import read_spacing as spacing
from reproduction.data.openkbp.sources import Folder, Repository, open_source
from reproduction.data.patches import PatchGrid

QUICK = RequestLimits(attempts=3, pause_s=0, timeout_s=5, per_minute=0)


def sparse(volume: np.ndarray, mask: bool = False) -> bytes:
    index = np.flatnonzero(volume)
    values = ["" if mask else f"{volume.ravel()[k]:.1f}" for k in index]
    return (",data\n" + "".join(f"{k},{v}\n" for k, v in zip(index, values, strict=True))).encode()


def patient_files(shift: int = 0, blank: int = 0, wide: bool = False) -> dict[str, bytes]:
    """A body of 40 x 50 x 40 voxels of 4 mm, an organ of 7 x 8 x 20 in it; `blank` slices have no surroundings."""
    ct, organ = np.zeros(SHAPE), np.zeros(SHAPE, bool)
    ct[40:80, 40:90, 40:80] = 1024 + 40
    organ[50 + shift : 57 + shift + 9 * wide, 60:68, 50:70] = True
    ct[:, :, 50 : 50 + blank] = 0
    ct[organ] = 1024 + 80
    files = {"ct.csv": sparse(ct), "voxel_dimensions.csv": b"4.0\n4.0\n4.0\n"}
    return {**files, **{f"{name}.csv": sparse(organ, mask=True) for name in ORGANS.values()}}


def write(root: Path, patients: dict[str, dict[str, bytes]], packed: bool = False) -> Path:
    for number, (name, files) in enumerate(patients.items()):
        place = root / "provided-data" / ("train-pats", "validation-pats", "test-pats")[number % 3] / name
        place.mkdir(parents=True)
        for file, content in files.items():
            (place / f"{file}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    return root


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, bytes]]:
    return {f"pt_{k}": patient_files(shift=k) for k in (1, 2, 3, 10, 20)}


@pytest.mark.parametrize(
    ("content", "mask", "message"),
    [
        (b",data\n3,7.0\n5,9", False, "ends in the middle of a line"),
        (b"\x1f\x8b\x08broken", False, "no readable gzip file"),
        (gzip.compress(b",data\n" + b"3,7.0\n" * 99, mtime=0)[:30], False, "no readable gzip file"),
        (b"index,value\n3,7.0\n", False, "has the columns"),
        (b"\n", False, "no readable CSV file"),
        (
            b",data\n2097152,7.0\n",
            False,
            "1 of 1 indices are no whole numbers from 0 to 128^3 - 1, the first is 20971",
        ),
        (b",data\n-1,7.0\n", False, "the first is -1"),
        (b",data\n1.5,7.0\n", False, "the first is 1.5"),
        (b",data\n3,7.0\n3,8.0\n", False, "1 of 2 indices come more than once"),
        (b",data\n3,\n4,8.0\n", False, "1 of 2 values are no finite numbers"),
        (b",data\n3,inf\n", False, "1 of 1 values are no finite numbers"),
        (b",data\n3,\n4,8.0\n", True, "1 of 2 voxels of a mask have a value"),
    ],
)
def test_a_damaged_file_is_refused_by_name(content, mask, message):
    with pytest.raises(ValueError) as error:
        read_sparse(content, "pt_7/ct.csv", mask)
    assert str(error.value).startswith("pt_7/ct.csv") and message in str(error.value)


@pytest.mark.parametrize("content", [b"4.0\n4.0\n", b"4.0\n4.0\nthick\n", b"4.0\n4.0\n40\n", b"4.0\n4.0\n-2.5\n"])
def test_wrong_voxel_sizes_are_refused(content):
    with pytest.raises(ValueError, match=r"^size\.csv.*expected"):
        spacing(content, "size.csv")


def test_a_patient_lies_in_canonical_axes_in_hounsfield_units():
    """Anterior, right and superior come first in the files; last in canonical axes. Values are clipped before -1024."""
    ct, mask = np.zeros(SHAPE), np.zeros(SHAPE, bool)
    ct[0, 1, 2], ct[5, 6, 7], mask[0, 1, 2] = 5000, 24, True
    files = {"ct.csv": sparse(ct), "voxel_dimensions.csv": b"1\n2\n3\n", "SpinalCord.csv": sparse(mask, mask=True)}
    patient = read_patient("pt_1", files.get)
    assert patient.spacing_mm == (2.0, 1.0, 3.0) and list(patient.organs) == ["cord"]
    place = (127 - 1, 127 - 0, 127 - 2)  # right, front, head
    assert np.argwhere(patient.organs["cord"]).tolist() == [list(place)]
    assert patient.hu[place] == 4095 - 1024 and patient.hu[127 - 6, 127 - 5, 127 - 7] == -1000
    assert patient.filled.sum() == 2 and (patient.hu == -1024).sum() == 128**3 - 2
    assert canonical(ct)[place] == 5000


def test_blank_slices_by_hand():
    """A single voxel touches four others in the plane: three of four are too few, four of four enough."""
    mask, filled = np.zeros((5, 5, 3), bool), np.ones((5, 5, 3), bool)
    mask[2, 2, :2] = True
    assert blank_slices(mask, filled) == (0, 2)
    filled[1, 1, :] = filled[0, :, :] = False  # corners and what lies further away do not touch it
    assert blank_slices(mask, filled) == (0, 2)
    filled[1, 2, 0] = filled[2, 2, 1] = False  # the organ's own voxels do not count
    assert blank_slices(mask, filled) == (1, 2)


@pytest.mark.parametrize(
    ("organ", "change", "message"),
    [
        ("oesophagus", lambda f: f.pop("Esophagus.csv"), "not outlined"),
        ("oesophagus", lambda f: f.update({"Esophagus.csv": b",data\n"}), "the outline is empty"),
        ("oesophagus", lambda f: f.update({"Esophagus.csv": b",data\n1000000,\n"}), "the outline is in one slice only"),
        (
            "cord",
            lambda f: f.update(patient_files(wide=True)),
            "sections of 2048 mm2 on average",
        ),
        ("oesophagus", lambda f: f.update(patient_files(blank=3)), "blank around the organ in 3 of 20 slices"),
    ],
)
def test_why_an_organ_is_left_out(organ, change, message):
    files = patient_files()
    change(files)
    with pytest.raises(ValueError, match=message):
        cut(read_patient("pt_1", files.get), organ, 16, 8.0)


def test_patches_are_centred_or_displaced_but_never_cut():
    patient = read_patient("pt_1", patient_files(shift=5).get)
    centred = cut(patient, "cord", 32, 4.0)
    assert centred.label.sum() == 7 * 8 * 20 and centred.image[centred.label == 1].tolist() == [80.0] * 1120
    middle = np.argwhere(centred.label).mean(0) + 0.5
    assert np.abs(middle - 16).max() <= 0.5
    moved = {}
    for seed in range(60):
        case = cut(patient, "cord", 32, 4.0, shift=0.25, seed=seed)
        assert case.label.sum() == 1120
        moved[seed] = tuple(np.rint(np.argwhere(case.label).mean(0) + 0.5 - middle).astype(int))
    far = np.array(list(moved.values()))
    # a quarter of 32 is 8; along the body the 20 slices leave 6 on either side
    assert (far.min(0) >= [-8, -8, -6]).all() and (far.max(0) <= [8, 8, 6]).all()
    assert (far.min(0) <= [-7, -7, -5]).all() and (far.max(0) >= [7, 7, 5]).all()
    again = cut(patient, "cord", 32, 4.0, shift=0.25, seed=7)
    assert again.digest() == cut(patient, "cord", 32, 4.0, shift=0.25, seed=7).digest()
    other = Patient("pt_2", patient.hu, patient.filled, patient.organs, patient.spacing_mm)
    assert cut(other, "cord", 32, 4.0, shift=0.25, seed=7).digest() != again.digest()


def test_an_organ_longer_than_the_patch_keeps_what_the_centred_patch_holds():
    mask = np.zeros((40, 40, 40), bool)
    mask[18:22, 18:22, :] = True
    grid = PatchGrid.around(mask, (1.0, 1.0, 1.0), 20, 1.0)
    for seed in range(20):
        moved = displaced(grid, mask, 0.25, np.random.default_rng(seed))
        assert moved.corner[2] == grid.corner[2] and moved.label(mask).sum() == grid.label(mask).sum()


@pytest.mark.parametrize("packed", [False, True])
def test_a_set_from_a_folder(tmp_path, files, packed):
    source = open_source(tmp_path / "set", write(tmp_path / "copy", files, packed))
    assert open_source(tmp_path, tmp_path / "copy").patients == ["pt_1", "pt_2", "pt_3", "pt_10", "pt_20"]
    made = make_openkbp(tmp_path / "set", source, cells=16, cell_mm=8.0)
    folds = {organ: {name: entry["fold"] for name, entry in made.entries(organ).items()} for organ in ORGANS}
    assert folds["parotid"] == folds["cord"] == folds["oesophagus"]  # by patient
    assert sorted(folds["cord"].values()) == [0, 1, 2, 3, 4]
    assert made.manifest["source"]["left_out"] == {organ: {} for organ in ORGANS}
    with pytest.raises(ValueError, match="holds patches cut by"):
        make_openkbp(tmp_path / "set", source, cells=16, cell_mm=4.0)


def test_a_damaged_patient_is_named_and_read_again(tmp_path, files):
    broken = {**files, "pt_4": {**patient_files(), "ct.csv": b",data\n1,2"}, "pt_5": patient_files(blank=1)}
    root = write(tmp_path / "copy", broken)
    lines: list[str] = []
    made = make_openkbp(tmp_path / "set", Folder(root), cells=16, cell_mm=8.0, report=lines.append)
    assert lines == ["pt_4: skipped, ct.csv ends in the middle of a line: it is truncated; fetch it again"]
    out = made.manifest["source"]["left_out"]["cord"]
    assert out["pt_4"].startswith("damaged: ct.csv ends") and out["pt_5"] == "blank around the organ in 1 of 20 slices"
    # As after a kill: a patch is lost, one is damaged; the file is mended. The rest is not written again.
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").glob("*/pt_1.npz")}
    (tmp_path / "set" / "cord" / "pt_2.npz").unlink()
    (tmp_path / "set" / "cord" / "pt_3.npz").write_bytes(b"half")
    next(root.rglob("pt_4")).joinpath("ct.csv").write_bytes(patient_files()["ct.csv"])
    again = make_openkbp(tmp_path / "set", Folder(root), cells=16, cell_mm=8.0, report=lines.append)
    assert len(lines) == 1 and sorted(again.entries("cord")) == ["pt_1", "pt_10", "pt_2", "pt_20", "pt_3", "pt_4"]
    assert again.load("cord", ["pt_2", "pt_3"])[0].digest() == made.entries("cord")["pt_2"]["sha256"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def repository(root: Path) -> Path:
    """Add the list of files that GitHub would give."""
    tree = []
    for path in sorted(root.rglob("*.csv")):
        content = path.read_bytes()
        sha = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        tree.append({"path": path.relative_to(root).as_posix(), "type": "blob", "sha": sha})
    (root / "tree").write_text(json.dumps({"tree": [*tree, {"path": "provided-data", "type": "tree", "sha": "0"}]}))
    return root


def test_a_set_from_the_repository_over_a_bad_connection(tmp_path, files):
    folder = make_openkbp(tmp_path / "a", Folder(write(tmp_path / "copy", files)), cells=16, cell_mm=8.0)
    with serve(repository(tmp_path / "copy")) as server:
        server.plan = lambda number: {2: 503, 4: ("drop", 10), 7: "flip"}.get(number, "right")
        remote = Repository(tmp_path / "list", server.url, f"{server.url}/tree", patients=5, limits=QUICK)
        assert remote.patients == ["pt_1", "pt_2", "pt_3", "pt_10", "pt_20"] and remote.read("pt_1", "x.csv") is None
        made = make_openkbp(tmp_path / "b", remote, cells=16, cell_mm=8.0, workers=2)
        asked = len(server.ranges)
        assert made.digest == folder.digest and asked == 1 + 5 * 5 + 3
        # Nothing is asked for again.
        kept = Repository(tmp_path / "list", server.url, f"{server.url}/tree", patients=5, limits=QUICK)
        assert make_openkbp(tmp_path / "b", kept, cells=16, cell_mm=8.0).digest == made.digest
        assert len(server.ranges) == asked
        server.plan = lambda number: "flip"
        with pytest.raises(ConnectionError, match="is not the file of commit ce625e6"):
            kept.read("pt_2", "ct.csv")
        server.plan = lambda number: ("drop", 100)
        with pytest.raises(ConnectionError, match="attempts broke off"):
            kept.read("pt_2", "ct.csv")
        server.plan = lambda number: 404
        with pytest.raises(ConnectionError, match="404"):
            kept.read("pt_2", "ct.csv")
        with pytest.raises(ValueError, match="lists 5 patients; expected 340"):
            Repository(tmp_path / "list", server.url, f"{server.url}/tree")


def test_other_folders_and_lists_are_refused(tmp_path, files):
    few = write(tmp_path / "few", {name: files[name] for name in ("pt_1", "pt_2", "pt_3", "pt_10")})
    with pytest.raises(ValueError, match="the source has 4 usable patients; expected at least 5"):
        make_openkbp(tmp_path / "set", Folder(few), cells=16, cell_mm=8.0)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="has no folder train-pats/pt_N"):
        Folder(tmp_path / "nothing")
    (tmp_path / "list").write_text("<html>rate limit</html>")
    with pytest.raises(ValueError, match="is no list of files from GitHub"):
        Repository(tmp_path / "list")


def test_the_script_on_real_patients(root, shared_data, tmp_path):
    """The spinal cord lies behind the oesophagus and further up, the right parotid to the right of both and above."""
    source = shared_data / "openkbp" / "provided-data"
    some = tmp_path / "some" / "train-pats"
    some.mkdir(parents=True)
    for number in (100, 106, 108, 112, 119, 122, 126):
        (some / f"pt_{number}").symlink_to(source / "train-pats" / f"pt_{number}")
    command = [sys.executable, str(root / "data_scripts" / "openkbp.py"), "--source", str(tmp_path / "some")]
    done = subprocess.run([*command, "--out", str(tmp_path / "set")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = CaseSet(tmp_path / "set")
    assert f"SHA-256 {made.digest[:12]}" in done.stdout
    # This oesophagus lies as bright voxels on black.
    assert made.manifest["source"]["left_out"]["oesophagus"]["pt_108"].startswith("blank around the organ in ")
    name = "pt_100"
    case = read_case(tmp_path / "set" / "cord" / f"{name}.npz")
    assert case.image.shape == (48, 48, 48) and -1024 <= case.image.min() and case.image.max() > 300  # bone
    inside = case.image[case.label == 1]
    assert -100 < np.median(inside) < 200  # soft tissue
    read = read_patient(name, lambda file: open_source(tmp_path, source).read(name, file))
    middle = {organ: np.argwhere(mask).mean(0) for organ, mask in read.organs.items()}
    assert middle["cord"][1] < middle["oesophagus"][1] and middle["cord"][2] > middle["oesophagus"][2]
    assert middle["parotid"][0] > middle["cord"][0] + 10 and middle["parotid"][2] > middle["oesophagus"][2]


def test_images_that_say_blank_or_not_and_nothing_else(tmp_path, files):
    made = make_openkbp(tmp_path / "set", Folder(write(tmp_path / "copy", files)), "openkbp_blank", 72, 4.0)
    assert made.manifest["dataset"] == "openkbp_blank" and made.manifest["patch"]["blank_only"] is True
    (case,) = made.load("cord", ["pt_1"])
    assert set(np.unique(case.image)) == {0.0, 1.0} and case.image[case.label == 1].min() == 1.0
