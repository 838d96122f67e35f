"""The command: what it writes, and that bad input gives one clear line and nothing half-written."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from test_maps import AFFINE, EXCLUSIVE, ITK, SHAPE, Attack, M, P, nnunet, save

import noisyseg
from noisyseg import optimal_dice
from noisyseg._core import files
from noisyseg.cli import COMMANDS, main
from noisyseg.maps.metric import metric, scores


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def run(*words: object) -> int:
    return main(["threshold", *map(str, words)])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def refused(capsys: pytest.CaptureFixture[str], out: Path, *words: object) -> str:
    """The one line of a command that must fail and write nothing."""
    assert run(*words, "--out", out) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and names(out) == []
    return line


# ---- what it does ---------------------------------------------------------------------------------------------------


def test_a_folder_becomes_masks_and_a_report(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    save(maps / "a.nii.gz", M)
    save(maps / "b.nii", P.transpose(1, 2, 3, 0))
    assert run(maps, "--out", out, "--report", tmp_path / "report.csv") == 0
    assert names(out) == ["a.nii.gz", "b_0.nii", "b_1.nii", "b_2.nii"]
    assert "2 of 2 cases done, 4 masks" in capsys.readouterr().out
    with open(tmp_path / "report.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["label"], row["mask"]) for row in rows][:2] == [
        ("a", "", "a.nii.gz"),
        ("b", "0", "b_0.nii"),
    ]
    mask = np.asanyarray(nib.load(out / "a.nii.gz").dataobj)
    assert np.array_equal(mask, optimal_dice(M)) and int(rows[0]["voxels_at_threshold"]) == mask.sum()
    assert float(rows[0]["threshold"]) == noisyseg.dice_threshold(M)


def test_it_goes_on_after_an_error_and_names_it(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = save(tmp_path / "good.nii", M), save(tmp_path / "bad.nii", 100 * M)
    (tmp_path / "cut.nii.gz").write_bytes(
        save(tmp_path / "whole.nii.gz", np.tile(M, (9, 9, 9)) ** 2).read_bytes()[:2000]
    )
    for jobs in (1, 3):
        words = (bad, tmp_path / "cut.nii.gz", good, "--out", out, "--jobs", jobs, "--overwrite")
        assert run(*words, "--report", tmp_path / "r.csv") == 1
        output = capsys.readouterr()
        first, second = output.err.splitlines()
        assert first.startswith(f"error: {bad}: the map (shape") and "divide by 100" in first
        assert second.startswith(f"error: {tmp_path / 'cut.nii.gz'}: EOFError")
        assert "1 of 3 cases done, 1 mask in" in output.out and "2 failed" in output.out
        assert names(out) == ["good.nii"] and len((tmp_path / "r.csv").read_text().splitlines()) == 2


def test_jobs_side_by_side_write_the_same(tmp_path: Path) -> None:
    cases = [save(tmp_path / f"{k}.nii.gz", M ** (k + 1)) for k in range(4)]
    for jobs in ("1", "2"):
        assert run(*cases, "--out", tmp_path / jobs, "--jobs", jobs, "--report", tmp_path / f"{jobs}.csv") == 0
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    for case in cases:
        assert (tmp_path / "1" / case.name).read_bytes() == (tmp_path / "2" / case.name).read_bytes()


def test_options_reach_the_case(tmp_path: Path, out: Path) -> None:
    roi = save(tmp_path / "roi.nii", np.ones(SHAPE, np.uint8))
    path = save(tmp_path / "x.nii", M)
    assert run(path, "--out", out, "--metric", "tversky", "--alpha", 0.2, "--beta", 0.9, "--mask", roi) == 0
    expected = noisyseg.optimal_tversky(M, 0.2, 0.9)
    assert np.array_equal(np.asanyarray(nib.load(out / "x.nii").dataobj), expected)


def test_nnunets_folder(tmp_path: Path, out: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    for name in ("case_1", "case_2"):
        nnunet(maps / f"{name}.npz", {"sitk_stuff": ITK}, EXCLUSIVE)
        save(maps / f"{name}.nii.gz", np.zeros(SHAPE, np.uint8))  # its own segmentation
    assert run(maps, "--out", out, "--classes", "tumour") == 0
    assert names(out) == ["case_1.nii.gz", "case_2.nii.gz"]
    assert np.array_equal(np.asanyarray(nib.load(out / "case_1.nii.gz").dataobj), optimal_dice(P[2]))


def test_a_figure_shows_the_map(tmp_path: Path, out: Path) -> None:
    pytest.importorskip("matplotlib")
    path = save(tmp_path / "x.nii.gz", M)
    assert run(path, "--out", out, "--figure") == 0
    assert names(out) == ["x.nii.gz", "x.png"] and (out / "x.png").read_bytes().startswith(b"\x89PNG")
    assert (
        run(save(tmp_path / "flat.nii", M[:, :, 0]), save(tmp_path / "empty.nii", 0 * M), "--out", out, "--figure") == 0
    )


def test_scores_over_thresholds() -> None:
    levels, values = scores(M, metric("dice"))
    for k in (0, 100, 250, 400):
        assert values[k] == pytest.approx(noisyseg.dice(levels[k] <= M, M))
    assert levels[values.argmax()] == pytest.approx(noisyseg.dice_threshold(M), abs=0.02)


def test_without_matplotlib_a_figure_is_refused_at_once(tmp_path, out, capsys, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install matplotlib" in refused(capsys, out, save(tmp_path / "x.nii", M), "--figure")


def test_the_command_as_a_person_types_it(tmp_path: Path, out: Path) -> None:
    path = save(tmp_path / "x.nii", M)
    words = [sys.executable, "-W", "error", "-m", "noisyseg"]
    done = subprocess.run([*words, "threshold", path, "--out", out], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and names(out) == ["x.nii"]
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == noisyseg.__version__
    done = subprocess.run([*words, "treshold"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "invalid choice" in done.stderr


# ---- bad input: a clear line, and nothing written -------------------------------------------------------------------

BAD = {
    "logits": (10 * M - 5, "look like logits: apply a sigmoid"),
    "percent": (100 * M, "If these are percentages, divide by 100"),
    "8-bit": ((255 * M).astype(np.uint8), "look like 8-bit values: divide by 255"),
    "nan": (np.where(M > 0.9, np.nan, M), "NaN|nan .* Mend the file, or leave these voxels out with --mask"),
    "infinity": (np.where(M > 0.9, np.inf, M), "inf"),
    "rounding": (M * 1.000001 / M.max(), "That is rounding: clip it with --clip"),
    "overshoot": (M * 1.1 / M.max(), "Interpolation overshoots like that: clip it with --clip"),
    "label": ((3 * M).round().astype(np.uint8), "this is a file of labels: give the map of probabilities"),
    "mask": ((M > 0.5).astype(np.float32), "every voxel is 0 or 1: that is a mask or a label"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_probability(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    array, message = BAD[name]
    path = save(tmp_path / "x.nii.gz", array.astype(np.float32) if array.dtype == np.float64 else array)
    line = refused(capsys, out, path)
    assert line.startswith(f"error: {path}: ")
    assert re.search(message, line), line
    if name in ("rounding", "overshoot"):
        assert run(path, "--out", out, "--clip") == 0 and names(out) == ["x.nii.gz"]
    elif name not in ("label", "mask"):
        refused(capsys, out, path, "--clip")


def test_one_bad_class_leaves_no_mask_of_the_others(tmp_path, out, capsys) -> None:
    path = save(tmp_path / "x.nii.gz", np.stack([M, M, M - 1], axis=-1))
    assert "class 2: the map (shape" in refused(capsys, out, path)


@pytest.mark.parametrize("ending", [".nii", ".npy"])
def test_a_region_of_another_shape_or_place(tmp_path, out, capsys, ending) -> None:
    path = save(tmp_path / "x.nii", M)
    small = np.ones((6, 7, 5), np.uint8)
    roi = tmp_path / f"roi{ending}"
    np.save(roi, small) if ending == ".npy" else save(roi, small)
    message = f"--mask roi{ending}: expected the shape of the map, (7, 6, 5), got (6, 7, 5)"
    assert message in refused(capsys, out, path, "--mask", roi)


def test_a_region_that_lies_elsewhere_or_is_none(tmp_path, out, capsys) -> None:
    path = save(tmp_path / "x.nii", M)
    away = AFFINE.copy()
    away[0, 3] += 6
    roi = save(tmp_path / "roi.nii", np.ones(SHAPE, np.uint8), away)
    assert "--mask roi.nii: it has the shape of the map and lies elsewhere" in refused(capsys, out, path, "--mask", roi)
    save(tmp_path / "roi.nii", np.full(SHAPE, 2, np.uint8))
    assert "expected 0 and 1 alone, found 2 to 2" in refused(capsys, out, path, "--mask", roi)
    save(tmp_path / "roi.nii", np.zeros(SHAPE, np.uint8))
    assert "at least one voxel that counts" in refused(capsys, out, path, "--mask", roi)
    (tmp_path / "rois").mkdir()
    assert "--mask: expected one file for x in" in refused(capsys, out, path, "--mask", tmp_path / "rois")
    assert "--mask: there is no" in refused(capsys, out, path, "--mask", tmp_path / "none.nii")


def test_affines_that_are_missing_or_oblique(tmp_path, out, capsys) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.8
    missing = save(tmp_path / "missing.nii", M, None)
    oblique = save(tmp_path / "oblique.nii", M, sheared)
    assert "has no affine (sform and qform codes are 0)" in refused(capsys, out, missing)
    assert "axes are not at right angles (largest cosine 0.371)" in refused(capsys, out, oblique)
    assert run(missing, oblique, "--out", out, "--any-affine") == 0
    assert np.allclose(nib.load(out / "oblique.nii").affine, sheared)
    assert nib.load(out / "missing.nii").header["sform_code"] == 0


def test_files_that_are_none(tmp_path, out, capsys) -> None:
    for name in ("x.nii.gz", "x.nii", "x.npz", "x.npy"):
        (tmp_path / name).write_bytes(b"no such thing" * 50)
        assert f"error: {tmp_path / name}: " in refused(capsys, out, tmp_path / name)
    np.savez(tmp_path / "objects.npz", np.array([Attack(print, 1)], dtype=object))
    assert "holds Python objects, which are not read" in refused(capsys, out, tmp_path / "objects.npz")
    np.save(tmp_path / "objects.npy", np.array([Attack(print, 1)], dtype=object))
    assert "can't be memory-mapped: Python objects" in refused(capsys, out, tmp_path / "objects.npy")
    rgb = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "expected real numbers" in refused(capsys, out, save(tmp_path / "rgb.nii", rgb))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (M.astype(complex), "expected real numbers, got an array of complex128"),
        (np.full(SHAPE, "a"), "expected real numbers, got an array of <U1"),
        (np.zeros((0, 3, 3)), "expected voxels, got an array of shape (0, 3, 3), which is empty"),
    ],
)
def test_arrays_of_something_else(tmp_path, out, capsys, array, said) -> None:
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "y.npz", array)
    assert said in refused(capsys, out, tmp_path / "x.npy") and said in refused(capsys, out, tmp_path / "y.npz")


def test_one_map_has_no_classes_to_choose(tmp_path, out, capsys) -> None:
    assert "the file has one map" in refused(capsys, out, save(tmp_path / "x.nii", M), "--classes", "1")


def test_what_cannot_be_written_is_said_before_the_work(tmp_path, out, capsys, monkeypatch) -> None:
    path, file, labels = save(tmp_path / "x.nii", M), tmp_path / "file", save(tmp_path / "l.nii", np.uint8(M > 0.3))
    file.touch()
    assert f"--report: expected a file, {tmp_path} is a folder" in refused(capsys, out, path, "--report", tmp_path)
    assert f"{file} is no folder" in refused(capsys, out, path, "--report", file / "r.csv")
    assert run(path, "--out", file) == 1 and "--out: expected a folder" in capsys.readouterr().err
    for option in ("--report", "--calibration"):
        assert main(["check", str(path), str(labels), option, str(tmp_path), "--overwrite"]) == 1
        captured = capsys.readouterr()
        assert f"{option}: expected a file" in captured.err and captured.out == ""
    monkeypatch.setattr(files.os, "access", lambda *_: False)  # root may write anywhere
    assert "may be written" in refused(capsys, out, path, "--report", tmp_path / "new" / "r.csv")


def test_a_member_that_is_cut_short(tmp_path, out, capsys) -> None:
    content = io.BytesIO()
    np.save(content, P)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("map.npy", content.getvalue()[:-50])
    assert "the file ends before the array does" in refused(capsys, out, tmp_path / "x.npz", "--axes", "cxyz")


def test_what_exists_is_not_replaced(tmp_path, out, capsys) -> None:
    path = save(tmp_path / "x.nii", M)
    out.mkdir()
    (out / "x.nii").write_text("precious")
    assert run(path, "--out", out) == 1
    assert "x.nii exists; replace it with --overwrite" in capsys.readouterr().err
    assert (out / "x.nii").read_text() == "precious"
    assert run(path, "--out", out, "--overwrite") == 0 and nib.load(out / "x.nii").shape == SHAPE
    (tmp_path / "r.csv").write_text("precious")
    assert run(path, "--out", tmp_path / "new", "--report", tmp_path / "r.csv") == 1
    assert (tmp_path / "r.csv").read_text() == "precious" and names(tmp_path / "new") == []


def test_masks_that_would_replace_each_other_or_a_map(tmp_path, out, capsys) -> None:
    first, second = save(tmp_path / "x.nii", M), save(tmp_path / "x.nii.gz", M)
    assert "would have masks of one name" in refused(capsys, out, first, second)
    assert "is given twice" in refused(capsys, out, first, tmp_path / "." / "x.nii")
    assert run(first, "--out", tmp_path, "--overwrite") == 1
    assert "holds x.nii, a map; choose another folder" in capsys.readouterr().err
    (tmp_path / "maps").mkdir()
    nnunet(tmp_path / "maps" / "x.npz", {"sitk_stuff": ITK}, {"background": 0, "a/b": 1, "a:b": 2})
    assert "give masks of one name" in refused(capsys, out, tmp_path / "maps")


@pytest.mark.parametrize("words", [["--jobs", 0], ["--metric", "f_beta"], ["--beta", 2], ["--classes", "liver"]])
def test_options_that_make_no_sense(tmp_path, out, capsys, words) -> None:
    line = refused(capsys, out, save(tmp_path / "x.nii", P.transpose(1, 2, 3, 0)), *words)
    assert words[0].replace("--metric", "--beta").strip("-") in line


def test_an_output_that_cannot_be_written(tmp_path, out, capsys, monkeypatch) -> None:
    path = save(tmp_path / "x.nii", M)
    (tmp_path / "file").touch()
    assert run(path, "--out", tmp_path / "file" / "below") == 1
    assert "NotADirectoryError" in capsys.readouterr().err

    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(
            13, "Permission denied", str(out)
        )  # root may write anywhere, so a real one proves nothing

    monkeypatch.setattr(files.tempfile, "mkstemp", read_only)
    assert f"Permission denied: '{out}'" in refused(capsys, out, path)


LIMITED = """
import resource, signal, sys
from noisyseg.cli import COMMANDS, main
from noisyseg.maps.metric import metric, scores
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails, as on a full disk, instead of killing the process
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path, out: Path) -> None:
    path = save(tmp_path / "x.nii", np.stack([M, M], axis=-1)[:5])
    big = save(tmp_path / "y.nii", np.tile(M, (4, 4, 4)))
    command = [sys.executable, "-c", LIMITED, "threshold", path, big, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"File too large: '{out / 'y.nii'}'" in done.stderr
    assert names(out) == ["x_0.nii", "x_1.nii"]


def heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_whole_masks_alone(tmp_path: Path, out: Path, jobs: int) -> None:
    classes = np.broadcast_to(np.tile(M, (12, 12, 12))[..., None], (84, 72, 60, 12))
    cases = [save(tmp_path / f"{k}.nii.gz", classes) for k in range(2)]
    cases += [tmp_path / f"{k}.nii.gz" for k in range(2, 40)]
    for k in range(2, 40):
        os.link(cases[k % 2], cases[k])
    command = [sys.executable, "-m", "noisyseg", "threshold", *map(str, cases), "--out", str(out), "--jobs", str(jobs)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    # A shell in the background has its children ignore the signal, the tests and theirs too.
    with subprocess.Popen(command, **pipes, text=True, preexec_fn=heed_ctrl_c) as process:
        while len([name for name in names(out) if not name.endswith(".part")]) < 12:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.strip() == "interrupted: masks that are there are whole"
    written = names(out)
    assert not [name for name in written if name.endswith(".part")] and len(written) % 12 == 0 and len(written) < 240
    assert {nib.load(out / name).shape for name in written} == {(84, 72, 60)}


def test_a_worker_that_is_told_to_end_ends_whoever_catches_what(tmp_path: Path) -> None:
    """The pool of processes catches every exception of a case, also SystemExit, and would wait for the next case."""
    code = """
import time
import noisyseg.cli as cli
from noisyseg._core.files import atomic_file

def case(path, settings):
    with atomic_file(path):
        print("ready", flush=True)
        time.sleep(60)

cli.threshold_case = case
cli._become_worker()
try:
    cli._one(PATH, cli.Settings(PATH.parent))
except BaseException:
    print("caught", flush=True)
time.sleep(60)
"""
    code = code.replace("PATH", f"__import__('pathlib').Path({str(tmp_path / 'x.nii')!r})")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.terminate()
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and out == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["README.md", "book/files.md"])
def test_the_commands_of_the_texts_are_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    for verb, command in list(COMMANDS.items()):
        monkeypatch.setitem(COMMANDS, verb, command._replace(run=lambda arguments: given.append(arguments) or 0))
    text = (Path(__file__).resolve().parents[2] / name).read_text(encoding="utf-8")
    lines = re.findall(r"^noisyseg (\w+ .*)$", text, re.MULTILINE)
    assert lines and all(main(line.split()) == 0 for line in lines) and len(given) == len(lines)
    if name.startswith("book"):
        options = {word for line in text.splitlines() for word in re.findall(r"`(--[\w-]+)", line)}
        known = set()
        for command in COMMANDS.values():
            known |= command.arguments(parser := argparse.ArgumentParser()) or set(parser._option_string_actions)
        assert known - options <= {"-h", "--help", "--out", "--metric", "--alpha", "--beta", "--mask", "--report"}
        assert options - known <= {"--save_probabilities", "--save_npz", "--fast"}


# ---- the documented commands, run as they stand ---------------------------------------------------------------------


def documented(text: str) -> list[tuple[str, list[str]]]:
    """The commands of each section, by its heading."""
    sections = re.split(r"(?m)^## ", text)
    found = [(part.split("\n")[0], re.findall(r"^noisyseg (.*)$", part, re.MULTILINE)) for part in sections]
    return [(heading, lines) for heading, lines in found if lines]


def lay_out(folder: Path, heading: str) -> None:
    """The files that the commands of a section are about, in a folder with a blank in its path."""
    for name in ("maps", "new_maps", "regions", "labels"):
        (folder / name).mkdir(parents=True)
    for k in range(6):
        save(folder / "maps" / f"case {k}.nii.gz", M ** (1 + k / 10))
        save(folder / "new_maps" / f"new {k}.nii.gz", M ** (1 + k / 10))
        save(folder / "labels" / f"case {k}.nii.gz", (M > 0.4 + k / 100).astype(np.uint8))
    if "label map" in heading:
        shutil.rmtree(folder / "maps")
        (folder / "maps").mkdir()
        save(folder / "maps" / "case 1.nii.gz", P.transpose(1, 2, 3, 0))
        save(folder / "regions" / "case 1.nii.gz", np.stack([M, M / 2], axis=-1))
    if "nnU-Net" in heading or "TotalSegmentator" in heading:
        shutil.rmtree(folder / "maps")
        (folder / "maps").mkdir()
        labels = EXCLUSIVE if "nnU-Net" in heading else None
        four = np.concatenate([P, 0 * P[:1]]) if labels is None else P
        np.savez_compressed(folder / "maps" / "ct.npz", probabilities=four.transpose(0, 3, 2, 1))
        (folder / "maps" / "ct.pkl").write_bytes(pickle.dumps({"sitk_stuff": ITK}))
        if labels:
            (folder / "maps" / "dataset.json").write_text(json.dumps({"labels": labels}))


@pytest.mark.parametrize("name", ["README.md", "book/files.md"])
def test_the_commands_of_the_texts_work_one_after_the_other(name: str, tmp_path: Path, monkeypatch, capsys) -> None:
    sections = documented((Path(__file__).resolve().parents[2] / name).read_text(encoding="utf-8"))
    assert len(sections) == (1 if name == "README.md" else 5)
    for k, (heading, lines) in enumerate(sections):
        folder = tmp_path / f"section {k}"
        lay_out(folder, heading)
        monkeypatch.chdir(folder)
        for line in lines:
            assert main(shlex.split(line)) == 0, (heading, line, capsys.readouterr().err)
