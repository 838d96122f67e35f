"""Tests of reproduction.data.gold_atlas on archives that these tests write, in the layout of the data set."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dicom_files import slices, stored, structure_set
from reproduction.data.gold_atlas import PATIENTS, REGIONS, measure_gold_atlas, measure_patient, summary
from reproduction.data.volume_ratios import volume_ratios
from reproduction.paths import read_json

SHAPE, FIRST, LAST = (4, 40, 40), "1_01_P", "3_03_P"
PREFIX = "RS1.2.752.243.1.1.20170427154035429."


def square(side: int, k: int = 1, images=None) -> tuple[np.ndarray, str]:
    """A square of side x side pixels around pixel (20, 20), its edges half-way between pixels; side is odd."""
    corner = np.array(next(d for d in images if d.ImagePositionPatient[2] == 40 + 2.5 * k).ImagePositionPatient)
    half = side / 2
    places = np.array([[-half, -half], [-half, half], [half, half], [half, -half]]) + 20
    down, right = images[0].PixelSpacing
    return corner + np.column_stack([places[:, 1] * right, places[:, 0] * down, np.zeros(4)]), "CLOSED_PLANAR"


def patient(structures: dict[str, list[int]], name: str = PREFIX + "1370.70822") -> dict[str, bytes]:
    """The files of a patient: images, others that are not referred to, a structure set of squares by their sides."""
    images = slices(SHAPE)
    files = {f"MR{k}.dcm": stored(image) for k, image in enumerate(images)}
    files |= {f"CT{k}.dcm": stored(image) for k, image in enumerate(slices((3, 8, 8)))}
    curves = {key: [square(side, 1 + k, images) for k, side in enumerate(sides)] for key, sides in structures.items()}
    return files | {f"{name}.dcm": stored(structure_set(images, curves))}


def write(folder: Path, files: dict[str, bytes], name: str = FIRST) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        for file, content in files.items():
            archive.writestr(f"{name.removesuffix(' (1)')}/{file}", content)
    return folder


FIVE = {f"Rectum (User{k})": [side] for k, side in enumerate((5, 5, 7, 7, 9), 1)}
ALL = {f"{region} (User{k})": [3 + 2 * k, 5] for region in REGIONS for k in (1, 3)}


def test_the_nine_regions_by_name(tmp_path):
    source = write(tmp_path / "atlas", patient(ALL | {"Skin (User1)": [9], "Rectum": [9], "Prostate (User9)": [3]}))
    rows, name = measure_patient(source, FIRST)
    assert [row["region"] for row in rows] == list(REGIONS) and name == f"{PREFIX}1370.70822.dcm"
    assert {row["users"] for row in rows} == {2}
    assert {(row["votes_1"], row["votes_2"], row["votes_3"]) for row in rows} == {(81 - 25, 25 + 25, 0)}


def test_the_marginal_is_the_mean_of_those_who_outlined_it(tmp_path):
    structures = FIVE | {"Prostate (User4)": [5], "Prostate (User2)": []}
    rows, _ = measure_patient(write(tmp_path / "atlas", patient(structures)), FIRST)
    rectum, prostate = rows
    votes = [81 - 49, 0, 49 - 25, 0, 25]
    assert [rectum[f"votes_{k}"] for k in range(1, 6)] == votes and rectum["users"] == 5
    assert {key: rectum[key] for key in volume_ratios(votes, 5)} == volume_ratios(votes, 5)
    assert (prostate["region"], prostate["users"], prostate["expected"]) == ("Prostate", 1, 25)
    assert prostate["accuracy_ratio"] == prostate["dice_ratio"] == 1


def test_of_several_structure_sets_the_papers_is_taken(tmp_path):
    files = patient(FIVE) | {"RS9.9.dcm": patient({"Rectum (User1)": [3]}, "RS9.9")["RS9.9.dcm"]}
    rows, name = measure_patient(write(tmp_path / "atlas", files), FIRST)
    assert rows[0]["users"] == 5 and name.endswith("1370.70822.dcm")
    files["RS8.8.dcm"] = files.pop(name)
    with pytest.raises(
        ValueError, match=r"patient 1_01_P: 2 structure sets have outlines named .* RS8\.8\.dcm, RS9\.9"
    ):
        measure_patient(write(tmp_path / "atlas", files), FIRST)
    del files["RS9.9.dcm"]
    assert measure_patient(write(tmp_path / "atlas", files), FIRST)[1] == "RS8.8.dcm"


def test_archives_and_folders_and_the_name_that_was_downloaded(tmp_path):
    source = write(tmp_path / "atlas", patient(FIVE), f"{LAST} (1)")
    rows, _ = measure_patient(source, LAST)
    with zipfile.ZipFile(source / f"{LAST} (1).zip") as archive:
        archive.extractall(source)
    (source / f"{LAST} (1).zip").unlink()
    assert measure_patient(source, LAST)[0] == rows and rows[0]["patient"] == LAST


def test_what_is_missing_or_damaged_is_named(tmp_path):
    good = patient(FIVE)
    name = f"{PREFIX}1370.70822.dcm"
    with pytest.raises(FileNotFoundError, match=r"atlas has no 1_01_P.zip and no folder 1_01_P; request it at https"):
        measure_patient(tmp_path / "atlas", FIRST)
    for files, said in (
        ({k: v for k, v in good.items() if k != "MR1.dcm"}, rf"{name} refers to 4 images; 3 of them are there"),
        ({k: v for k, v in good.items() if k != name}, r"0 structure sets have outlines named .*, none; expected one"),
        (patient({"Rectum": [5]}), r"0 structure sets have outlines named '<region> \(User<k>\)'"),
        (good | {"MR2.dcm": b"no image" * 99}, r"MR2.dcm: no readable DICOM file"),
        (good | {name: good[name][: len(good[name]) // 2]}, r"patient 1_01_P: "),
        (patient({"Rectum (User1)": [55]}), rf"{name}, Rectum: a curve in slice 1 leaves the images of 40 x 40 pixels"),
    ):
        with pytest.raises(ValueError, match=f"patient 1_01_P: {said}".replace("patient 1_01_P: patient", "patient")):
            measure_patient(write(tmp_path / "atlas", files), FIRST)
    path = tmp_path / "atlas" / f"{FIRST}.zip"
    for content in (path.read_bytes()[:-200], path.read_bytes().replace(b"CLOSED_PLANAR", b"CLOSED_PLAYER")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"1_01_P.zip is a damaged archive \(.*\); fetch it again"):
            measure_patient(tmp_path / "atlas", FIRST)
        write(tmp_path / "atlas", good)


def test_the_whole_table(tmp_path):
    source = write(tmp_path / "atlas", patient(ALL))
    shutil.copy(source / f"{FIRST}.zip", source / f"{LAST}.zip")
    write(source, patient(FIVE), "1_02_P")
    lines: list[str] = []
    table = measure_gold_atlas(tmp_path / "out", source, (FIRST, "1_02_P", LAST), lines.append)
    assert lines[0] == "1_01_P: 9 regions" and "1_02_P: 1 regions; nobody outlined Urinary bladder, Anal" in lines[1]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "regions.csv"), table, check_dtype=False)
    facts = read_json(tmp_path / "out" / "provenance.json")
    assert list(facts["structure_sets"]) == [FIRST, "1_02_P", LAST] and "pydicom" in facts["packages"]
    found = summary(table)
    assert list(found.index)[:2] == list(REGIONS[:2])
    ratios = table[table["region"] == "Rectum"]["dice_ratio"]
    row = found.loc["Rectum", "dice_ratio"]
    assert row.tolist() == pytest.approx([ratios.mean(), ratios.std(ddof=0), ratios.min(), ratios.max()])


def test_all_patients_must_be_there_before_anything_is_read(tmp_path):
    write(tmp_path / "atlas", patient(FIVE))
    with pytest.raises(FileNotFoundError, match=r"has no 1_02_P\.zip"):
        measure_gold_atlas(tmp_path / "out", tmp_path / "atlas", report=lambda line: pytest.fail(line))
    assert not (tmp_path / "out").exists() and len(PATIENTS) == 19


def test_the_script(root, tmp_path):
    source = write(tmp_path / "atlas", patient(ALL))

    def script(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(root / "data_scripts" / "gold_atlas.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = script("--source", source, "--out", tmp_path / "out")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("gold_atlas.py: ") and "has no 1_02_P.zip" in line
    done = script("--source", source, "--out", tmp_path / "out", "--patients", FIRST)
    assert done.returncode == 0 and all(region in done.stdout for region in REGIONS), done.stderr
    assert (tmp_path / "out" / "regions.csv").is_file()
