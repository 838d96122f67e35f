"""``noisyseg check``, and its calibrations and decisions in ``noisyseg threshold``."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from test_calibration import LABELS, MARGINALS
from test_maps import EXCLUSIVE, ITK, SHAPE, M, nnunet, save

from noisyseg import dice_threshold, optimal_dice
from noisyseg.calibration import Calibration, check, fit, optimal_dice_or_empty
from noisyseg.calibration.fitting import logit, sigmoid
from noisyseg.cli import main

SHIFTED = [sigmoid(4 * logit(m) + 6) for m in MARGINALS]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Maps that are too sure of themselves, and their labels."""
    maps, labels = tmp_path / "maps", tmp_path / "labels"
    for folder in (maps, labels):
        folder.mkdir()
    for k in range(24):
        save(maps / f"case_{k:02d}.nii.gz", SHIFTED[k])
        save(labels / f"case_{k:02d}.nii.gz", LABELS[k].astype(np.uint8))
    return maps, labels


def run(*words: object) -> int:
    return main([str(word) for word in words])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words) == 1
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("error: ") and output.out == ""
    return line


def test_a_folder_is_checked_and_recalibrated(folders, tmp_path, capsys):
    maps, labels = folders
    table, stored = tmp_path / "check.csv", tmp_path / "beta.json"
    assert run("check", maps, labels, "--report", table, "--calibration", stored) == 0
    shown = capsys.readouterr().out
    expected = check(SHIFTED, LABELS, [f"case_{k:02d}" for k in range(24)])
    assert expected.verdict == "recalibrate" and shown.startswith(expected.text()) and "24 images" in shown
    assert table.read_text() == expected.csv()
    calibration = Calibration.load(stored)
    fitted = fit(SHIFTED, LABELS, "beta")  # files have another order of axes in memory, so sums round otherwise
    assert calibration.parameters == pytest.approx(fitted.parameters, rel=1e-9) and calibration.images == 24
    out = tmp_path / "out"
    assert run("threshold", maps, "--out", out, "--calibration", stored, "--report", tmp_path / "t.csv") == 0
    for k in (0, 7):
        mask = np.asanyarray(nib.load(out / f"case_{k:02d}.nii.gz").dataobj)
        assert np.array_equal(mask, optimal_dice(calibration(SHIFTED[k])))
        assert not np.array_equal(mask, optimal_dice(SHIFTED[k]))
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert float(rows[0]["threshold"]) == dice_threshold(calibration(SHIFTED[0]))


def test_one_case_and_one_class_of_nnunets(tmp_path, capsys):
    truth = (np.indices(SHAPE).sum(axis=0) % 3).astype(np.uint8)
    nnunet(tmp_path / "case.npz", {"sitk_stuff": ITK}, EXCLUSIVE)
    assert run("threshold", tmp_path / "case.npz", "--out", tmp_path / "place", "--classes", "tumour") == 0
    place = nib.load(tmp_path / "place" / "case.nii.gz")
    nib.save(nib.Nifti1Image(truth, place.affine), tmp_path / "label.nii.gz")
    words = ("check", tmp_path / "case.npz", tmp_path / "label.nii.gz", "--label", 2)
    capsys.readouterr()
    assert "choose with --classes one of" in refused(capsys, *words)
    assert run(*words, "--classes", "tumour") == 0
    shown = capsys.readouterr().out
    assert "1 image\n" in shown and "nan" not in shown and "Too few images for a verdict" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps, labels: save(maps / "case_03.nii.gz", 100 * MARGINALS[3]), r"map case_03 .*divide by 100"),
        (lambda maps, labels: save(maps / "case_03.nii.gz", logit(MARGINALS[3])), r"map case_03 .*logits"),
        (
            lambda maps, labels: save(maps / "case_03.nii.gz", np.full((20,) * 3, np.nan)),
            r"map case_03 .*Mend the file",
        ),
        (lambda maps, labels: save(maps / "case_03.nii.gz", 1.01 * SHIFTED[3]), r"map case_03 .*clip it with --clip"),
        (lambda maps, labels: save(labels / "case_03.nii.gz", 2 * LABELS[3]), r"label case_03 .*--label"),
        (
            lambda maps, labels: save(labels / "case_03.nii.gz", LABELS[3][:-1]),
            "case_03.nii.gz: expected the shape",
        ),
        (lambda maps, labels: (labels / "case_03.nii.gz").unlink(), "LABELS: expected one file for case_03"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_written(folders, tmp_path, capsys, change, message):
    change(*folders)
    table = tmp_path / "check.csv"
    line = refused(capsys, "check", *folders, "--report", table, "--calibration", tmp_path / "c.json")
    assert re.search(message, line), line
    assert not table.exists() and not (tmp_path / "c.json").exists()


def test_what_overshoots_is_clipped_if_asked(folders, capsys):
    save(folders[0] / "case_03.nii.gz", 1.01 * SHIFTED[3])
    assert run("check", *folders, "--clip") == 0


def test_files_that_exist_stay(folders, tmp_path, capsys):
    table = tmp_path / "check.csv"
    table.write_text("mine")
    assert "--report" in refused(capsys, "check", *folders, "--report", table) and table.read_text() == "mine"
    assert "--calibration" in refused(capsys, "check", *folders, "--calibration", table)
    assert run("check", *folders, "--report", table, "--overwrite") == 0 and table.read_text() != "mine"


def test_several_maps_need_a_folder_of_labels(folders, capsys):
    maps, labels = folders
    assert "LABELS: expected a folder" in refused(capsys, "check", maps, labels / "case_00.nii.gz")


# ---- threshold: calibrations and decisions


def test_presence_is_decided_first(tmp_path, capsys):
    maps = tmp_path / "maps"
    maps.mkdir()
    m = MARGINALS[0] / 2
    for name in ("a", "b", "c"):
        save(maps / f"{name}.nii", m)
    (tmp_path / "absent.csv").write_text("case,absent\na,0.45\nb,0.1\nc,0\n")
    report = tmp_path / "r.csv"
    words = ("threshold", maps, "--out", tmp_path / "out", "--report", report)
    assert run(*words, "--absent", tmp_path / "absent.csv") == 0
    masks = [np.asanyarray(nib.load(tmp_path / "out" / f"{name}.nii").dataobj) for name in "abc"]
    for mask, absent in zip(masks, (0.45, 0.1, 0.0), strict=True):
        assert np.array_equal(mask, optimal_dice_or_empty(m, absent))
    assert not masks[0].any() and masks[1].any() and np.array_equal(masks[2], optimal_dice(m))
    first, second, _ = csv.DictReader(report.read_text().splitlines())
    assert (first["threshold"], first["promised"]) == ("inf", "0.45") and "absent" in first["warnings"]
    assert float(second["promised"]) == 2 * float(second["threshold"])
    assert run(*words, "--absent", 0.45, "--overwrite") == 0
    assert not np.asanyarray(nib.load(tmp_path / "out" / "b.nii").dataobj).any()


def test_the_picture_of_an_absent_structure(tmp_path):
    pytest.importorskip("matplotlib")
    save(tmp_path / "a.nii", MARGINALS[0] / 2)
    assert run("threshold", tmp_path / "a.nii", "--out", tmp_path / "out", "--absent", 0.45, "--figure") == 0
    assert (tmp_path / "out" / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--absent", "maybe"], "--absent: expected a probability or a CSV file"),
        (["--absent", "1.5"], "--absent: expected a probability in"),
        (["--absent", "0.99"], "--absent: 0.99 contradicts the map"),
        (["--absent", "0.5", "--metric", "jaccard"], "--absent: expected --metric dice"),
        (["--absent", "TABLE"], "--absent: the table has no row for the case x"),
        (["--absent", "BAD"], "expected columns case and absent"),
        (["--calibration", "BAD"], "expected a calibration"),
        (["--calibration", "none.json"], "none.json"),
    ],
)
def test_wrong_words_are_refused(tmp_path, capsys, words, message):
    (tmp_path / "TABLE").write_text("case,absent\ny,0.1\n")
    (tmp_path / "BAD").write_text("case;absent\ny;0.1\n")
    path = save(tmp_path / "x.nii", M)
    given = [tmp_path / word if word in ("TABLE", "BAD") else word for word in words]
    assert run("threshold", path, "--out", tmp_path / "out", *given) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_label_is_no_map_with_a_calibration_either(tmp_path, capsys):
    stored = Calibration("temperature", {"T": 2.0}).save(tmp_path / "c.json")
    path = save(tmp_path / "x.nii", (M > 0.5).astype(np.uint8))
    assert run("threshold", path, "--out", tmp_path / "out", "--calibration", stored) == 1
    assert "every voxel is 0 or 1" in capsys.readouterr().err
