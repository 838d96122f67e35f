"""Tests of structures that several people drew: both layouts of both sets, measures, the command, the tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from skimage.io import imsave

from noisyseg import GaussianDeformation
from reproduction.__main__ import main
from reproduction.chapters.annotators import (
    RULES,
    agreement_row,
    fit_row,
    left_out_row,
    load_annotators,
    measure_annotators,
    staple,
)
from reproduction.data.annotators import Structure, bubil_structures, kits23_structures, structure


def disc(radius, side=64, centre=(32, 32)):
    return np.hypot(*(np.indices((side, side)) - np.reshape(centre, (2, 1, 1)))) < radius


def save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.uint8), np.diag([1.0, 0.8, 0.8, 1.0])), path)


@pytest.fixture
def kits(tmp_path: Path) -> tuple[Path, Path]:
    """A kidney and a tumour of two patients, in both layouts; the files of one cropped, the others' whole."""
    small, whole = tmp_path / "small", tmp_path / "whole"
    grid = np.indices((20, 24, 24))
    for case, what, centre, radius in (("case_00002", "kidney", 10, 7), ("case_00014", "tumor", 9, 5)):
        drawn = [((grid - centre) ** 2).sum(axis=0) < (radius + k) ** 2 / 1.3 for k in range(3)]
        save(small / f"{case}_{what}_instance-1.nii.gz", sum(x << k for k, x in enumerate(drawn)))
        for k, x in enumerate(drawn):
            name = f"{what}_instance-1_annotation-{k + 1}.nii.gz"
            save(whole / "dataset" / case / "instances" / name, np.pad(x, [(5, 9), (2, 30), (11, 4)]))
    return small, whole


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Path, Path]:
    """Two images, the second of one drawn by one person under another name of the file, in both layouts."""
    small, whole = tmp_path / "bits", tmp_path / "ExpertsAnnotations"
    small.mkdir()
    who = ("Person1_Amira", "Person2_ImageJ", "Person3_Amira")
    drawn = {"P01": [disc(12), disc(13), disc(14)], "P02": [disc(9), disc(10), disc(0)]}
    lines = ["file,set,annotations,annotators,bits,image_rows,image_columns,first_row,first_column"]
    for image, drawings in drawn.items():
        for name, drawing in zip(who, drawings, strict=True):
            path = whole / "2A" / name / f"{'Seg' if name == who[2] else 'seg'}_{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            imsave(path, drawing.astype(np.uint8) * 255, check_contrast=False)
        parts = [(f"set2A_{image}.png", (0, 1), (10, 12)), (f"set2A_Seg_{image}.png", (2,), (14, 11))]
        for file, bits, (row, column) in parts:
            cut = sum(drawings[k][row:, column:].astype(np.uint16) << k for k in bits)
            imsave(small / file, cut, check_contrast=False)
            names = " ".join(who[k] for k in bits)
            lines.append(f"{file},2A,{len(bits)},{names},{' '.join(map(str, bits))},64,64,{row},{column}")
    (small / "annotations.csv").write_text("\n".join(lines) + "\n")
    return small, whole


def same(one: list[Structure], other: list[Structure]) -> None:
    assert [s.name for s in one] == [s.name for s in other]
    assert [s.digest() for s in one] == [s.digest() for s in other]
    assert [s.left_out for s in one] == [s.left_out for s in other]


def test_both_layouts_of_kits23(kits):
    small, whole = (list(kits23_structures(folder)) for folder in kits)
    same(small, whole)
    assert [(s.case, s.group) for s in small] == [("case_00002", "kidney"), ("case_00014", "tumor")]
    assert small[0].annotators == ("1", "2", "3") and small[0].spacing == pytest.approx((1.0, 0.8, 0.8))
    assert (np.diff(small[0].labels.sum(axis=(1, 2, 3))) > 0).all()


def test_both_layouts_of_bubil(cells):
    small, whole = (list(bubil_structures(folder)) for folder in cells)
    same(small, whole)
    assert [s.name for s in small] == ["2A_P01", "2A_P02"]
    assert small[0].annotators == ("Person1_Amira", "Person2_ImageJ", "Person3_Amira")
    assert (small[1].annotators, small[1].left_out) == (("Person1_Amira", "Person2_ImageJ"), ("Person3_Amira",))
    assert small[0].labels.sum(axis=(1, 2)).tolist() == [disc(r).sum() for r in (12, 13, 14)]


def test_bad_sources(kits, cells, tmp_path):
    for read in (kits23_structures, bubil_structures):
        with pytest.raises(FileNotFoundError, match="expected"):
            list(read(tmp_path / "nowhere"))
    lost = kits[1] / "dataset" / "case_00014" / "instances" / "tumor_instance-1_annotation-2.nii.gz"
    lost.unlink()
    with pytest.raises(
        ValueError, match="case_00014_tumor_instance-1: expected annotations 1, 2 and 3, found none of 2"
    ):
        list(kits23_structures(kits[1]))
    lost.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"tumor_instance-1_annotation-2\.nii\.gz"):
        list(kits23_structures(kits[1]))
    imsave(cells[1] / "2A" / "Person1_Amira" / "seg_P01.png", np.ones((5, 6), np.uint8), check_contrast=False)
    with pytest.raises(ValueError, match=r"2A_P01: expected drawings of one shape, got .*\(5, 6\)"):
        list(bubil_structures(cells[1]))
    imsave(cells[1] / "2A" / "Person1_Amira" / "Seg_P01.png", np.ones((5, 6), np.uint8), check_contrast=False)
    with pytest.raises(ValueError, match="2A_P01: two drawings of Person1_Amira"):
        list(bubil_structures(cells[1]))
    with pytest.raises(ValueError, match="x: the drawings of all annotators are empty: A, B"):
        structure("x", "x", "x", {"A": np.zeros((3, 3), bool), "B": np.zeros((3, 3), bool)}, (1.0, 1.0))


def discs(*radii):
    return Structure("x", "x", "discs", tuple("ABCDE"[: len(radii)]), np.stack([disc(r) for r in radii]), (1.0, 1.0))


def test_agreement_of_nested_discs():
    row = agreement_row(discs(10, 12, 30))
    areas = [disc(r).sum() for r in (10, 12, 30)]
    pairs = [2 * areas[0] / (areas[0] + other) for other in areas[1:]] + [2 * areas[1] / (areas[1] + areas[2])]
    assert row["pairs_dice"] == pytest.approx(np.mean(pairs)) and row["pairs_least"] == pytest.approx(min(pairs))
    assert row["volume_range"] == pytest.approx(areas[2] / areas[0])
    assert row["simple_volume"] > 2 * row["best_volume"], "one draws far more than the others"
    assert row["best_dice"] > row["simple_dice"] + 0.2
    assert row["best_dice"] == pytest.approx(row["half_dice"])
    assert abs(row["covariance"]) <= row["bound"]
    assert row["kappa_others"] <= row["kappa"] <= row["best_dice_m"] <= row["kappa"] ** 0.5


def test_one_left_out():
    row = left_out_row(discs(10, 10, 10, 20), a=0.5)
    alike, far = 1.0, 2 * disc(10).sum() / (disc(10).sum() + disc(20).sum())
    assert row["left_majority"] == row["left_staple"] == row["left_best"] == pytest.approx((3 * alike + far) / 4)
    assert row["left_one"] == pytest.approx((3 * (2 * alike + far) / 3 + far) / 4)
    assert set(row) == {f"left_{rule}" for rule in RULES}


def test_staple_is_that_of_simpleitk():
    """On drawings of very different annotators, one of them at random."""
    import SimpleITK as sitk

    rng = np.random.default_rng(0)
    for r in (2, 3, 5, 9):
        noise = GaussianDeformation(0.03)
        labels = np.stack([*noise.sample(disc(14), rng=r, size=r - 1), rng.random((64, 64)) < 0.3])
        images = [sitk.GetImageFromArray(label.astype(np.uint8)) for label in labels]
        theirs = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0)) >= 0.5
        assert (staple(labels) != theirs).sum() <= 2


def test_the_model_fits_its_own_labels():
    label = np.pad(disc(20), 16)
    noise = GaussianDeformation.in_mm(1.5, 10.0, 1.0, label.shape)
    row, profile = fit_row(
        Structure("x", "x", "discs", tuple("ABCDEF"), noise.sample(label, rng=3, size=6), (1.0, 1.0))
    )
    assert row["a"] == pytest.approx(1.5, rel=0.3) and row["a_dice"] == pytest.approx(1.5, rel=0.3)
    assert 2 < row["kurtosis"] < 4.5
    assert profile.query("kind == 'displacement'")["value"].sum() == pytest.approx(1)
    flat = Structure("x", "x", "discs", tuple("ABC"), np.stack([disc(r) for r in (9, 10, 11)]), (1.0, 5.0))
    assert set(fit_row(flat)[0]) == {"a_dice"}


def test_the_command_and_the_script(root, cells, tmp_path, capsys):
    made = tmp_path / "made"
    assert main(["annotators", "--set", "bubil", "--source", str(cells[0]), "--out", str(made)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(made)
    table = pd.read_csv(made / "structures.csv")
    assert list(table["name"]) == ["2A_P01", "2A_P02"]
    assert table[[f"left_{rule}" for rule in RULES]].notna().all(axis=None)
    before = (made / "structures.csv").read_bytes()
    command = [sys.executable, str(root / "data_scripts" / "annotators.py"), "--set", "bubil"]
    done = subprocess.run([*command, "--source", cells[1], "--out", made], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (made / "structures.csv").read_bytes() == before, "both layouts give the same table"
    assert done.stdout.splitlines()[-1] == f"{made}: 2 structures of 2 cases"
    with pytest.raises(ValueError, match="set: expected one of kits23, bubil, got 'lidc'"):
        measure_annotators("lidc", cells[0], made)


def test_the_stored_table_is_that_of_the_data(shared_data):
    """The first and the smallest structures of both sets, measured again."""
    table, profiles, facts = load_annotators()
    assert {"kits23", "bubil"} == set(facts) and set(profiles["kind"]) == {"correlation", "displacement"}
    stored = table.set_index("name")
    for read, folder, name in (
        (kits23_structures, "kits23_raters", "case_00002_cyst_instance-1"),
        (bubil_structures, "bubil_raters", "1_B01"),
    ):
        found = next(read(shared_data / folder))
        assert found.name == name
        row = agreement_row(found)
        assert {key: row[key] for key in row if key not in ("name", "case", "group")} == pytest.approx(
            {key: stored.loc[name, key] for key in row if key not in ("name", "case", "group")}, rel=1e-4, abs=1e-6
        )
