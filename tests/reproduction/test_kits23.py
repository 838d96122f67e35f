"""Tests of reproduction.data.kits23: both layouts, damaged sources, the script, and the table of the real kidneys."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from reproduction.data import kits23
from reproduction.data.kits23 import CASES, Kidney, kidney_rows, kidneys, load_shapes, measure_kidneys, read_kidney
from reproduction.data.shapes import measure
from reproduction.paths import read_json

SPACING = np.array([1.0, 0.8, 0.8])
KEYS = ["volume_mm3", "threshold", "overlap", "accuracy_volume_ratio", "dice_volume_ratio", "dice_surface_mm2"]


def ellipsoid(radii_mm: tuple[float, ...], spacing: np.ndarray = SPACING, around: int = 3) -> np.ndarray:
    sides = [2 * round(r / h) + 2 * around for r, h in zip(radii_mm, spacing, strict=True)]
    w = np.indices(sides).astype(float)
    inside = sum(((w[k] - (n - 1) / 2) * spacing[k] / radii_mm[k]) ** 2 for k, n in enumerate(sides))
    return np.asarray(inside <= 1)


def save(path: Path, voxels: np.ndarray, spacing: np.ndarray = SPACING) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.zeros((4, 4))  # slices along z, as in KiTS23
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *-spacing, 1.0
    nib.save(nib.Nifti1Image(voxels.astype(np.uint8), affine), path)


@pytest.fixture
def layouts(tmp_path: Path) -> tuple[Path, Path]:
    """Two patients with one and two kidneys, three annotators, in both layouts."""
    small, whole = tmp_path / "small", tmp_path / "whole"
    for case, instance, radii in (
        ("case_00002", 1, (9, 6, 6)),
        ("case_00002", 2, (8, 7, 5)),
        ("case_00014", 1, (7,) * 3),
    ):
        outlines = [ellipsoid(tuple(r + k for r in radii), around=3 - k) for k in range(3)]
        shape = np.max([o.shape for o in outlines], axis=0)
        outlines = [np.pad(o, [(0, n - m) for n, m in zip(shape, o.shape, strict=True)]) for o in outlines]
        save(small / f"{case}_kidney_instance-{instance}.nii.gz", sum(o << k for k, o in enumerate(outlines)))
        for k, outline in enumerate(outlines):
            name = f"kidney_instance-{instance}_annotation-{k + 1}.nii.gz"
            save(whole / "dataset" / case / "instances" / name, np.pad(outline, [(5, 9), (2, 30), (11, 4)]))
        save(small / f"{case}_tumor_instance-1.nii.gz", outlines[0])
    return small, whole


def script(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "data_scripts" / "kits23.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---- reading ----


@pytest.mark.parametrize("annotator", [1, 2, 3])
def test_both_layouts_hold_the_same_kidneys(layouts, annotator):
    small, whole = (list(kidneys(source, annotator, cases=None)) for source in layouts)
    assert [k.name for k in small] == [
        "case_00002_kidney_instance-1",
        "case_00002_kidney_instance-2",
        "case_00014_kidney_instance-1",
    ]
    for one, two in zip(small, whole, strict=True):
        assert one.name == two.name
        assert one.digest() == two.digest()
        assert one.spacing_mm == pytest.approx(tuple(SPACING))
        assert (one.label == two.label).all()
    expected = ellipsoid(tuple(r + annotator - 1 for r in (9, 6, 6)))
    box = [slice(w.min(), w.max() + 1) for w in np.nonzero(expected)]
    assert (small[0].label == expected[tuple(box)]).all()
    assert [k.name for k in kidneys(layouts[1] / "dataset", annotator, ["case_00014"])] == [small[2].name]


def test_thick_slices_are_left_out_where_no_cases_are_named(layouts):
    save(layouts[0] / "case_00016_kidney_instance-1.nii.gz", ellipsoid((9, 9, 9)), np.array([1.25, 0.8, 0.8]))
    assert len(list(kidneys(layouts[0], cases=None))) == 3
    assert len(list(kidneys(layouts[0], cases=["case_00016"]))) == 1


def test_damaged_and_missing_files_are_named(layouts, tmp_path):
    path = layouts[0] / "case_00014_kidney_instance-1.nii.gz"
    good = path.read_bytes()
    for bad in (good[: len(good) // 2], b"", b"no gzip at all" * 30):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=f"{path.name}: no usable NIfTI volume: "):
            read_kidney("x", path, 0)
    save(path, np.full((2, 2, 2), 8))
    with pytest.raises(ValueError, match=f"{path.name}: a label with 8 voxels of 8; expected 0, 1, 2, 3, 4, 5, 6, 7"):
        read_kidney("x", path, 0)
    save(path, np.full((2, 2, 2), 2))
    with pytest.raises(ValueError, match=f"{path.name}: a label with 8 voxels of 2; expected 0, 1"):
        read_kidney("x", path)
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])), np.eye(4))
    nib.save(image, tmp_path / "rgb.nii.gz")
    with pytest.raises(ValueError, match=r"rgb.nii.gz: no usable NIfTI volume: its voxels are RGB colours"):
        read_kidney("x", tmp_path / "rgb.nii.gz")
    with pytest.raises(ValueError, match=f"{path.name}: the outline of annotator 1 is empty"):
        read_kidney("x", path, 0)
    with pytest.raises(FileNotFoundError, match=r"has no kidney of case_00042 \(11 of 13 missing\)"):
        list(kidneys(layouts[0]))
    with pytest.raises(FileNotFoundError, match=r"no kidneys in .*nowhere"):
        list(kidneys(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="annotator: expected 1, 2 or 3, got 4"):
        list(kidneys(layouts[0], 4))


def test_outlines_in_microns_are_the_same(tmp_path):
    voxels = ellipsoid((9, 6, 6)).astype(np.uint8)
    save(tmp_path / "mm.nii.gz", voxels)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *-1000 * SPACING, 1.0
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "micron.nii.gz")
    mm, micron = (read_kidney("x", tmp_path / f"{unit}.nii.gz") for unit in ("mm", "micron"))
    assert micron.digest() == mm.digest()


# ---- measuring ----


def test_rows_by_hand_without_noise():
    kidney = Kidney("box", np.ones((3, 4, 5), bool), (2.0, 1.0, 1.0))
    (row,) = kidney_rows(kidney, [0.0])
    assert (row["kidney"], row["slice_mm"], row["row_mm"], row["column_mm"]) == ("box", 2.0, 1.0, 1.0)
    assert (row["a_mm"], row["lost"], row["volume_mm3"], row["expected_volume_mm3"]) == (0, 0, 120, 120)
    assert (row["threshold"], row["overlap"], row["dice_dice"], row["accuracy_volume_ratio"]) == (0.5, 1, 1, 1)
    surface = measure(kidney.label, (2.0, 1.0, 1.0)).surface
    assert row["accuracy_surface_mm2"] == row["dice_surface_mm2"] == surface
    assert not [key for key in row if key.endswith(("surface", "volume"))]


def test_millimetres_mean_the_same_on_other_voxels():
    """One ellipsoid on three grids: what counts is its shape in space, not the voxels."""
    found = []
    for spacing in ((1.0, 1.0, 1.0), (0.5, 1.0, 0.8), (0.8, 0.5, 0.6)):
        label = ellipsoid((20.0, 12.0, 12.0), np.array(spacing))
        found += [[row[key] for key in KEYS[:5]] for row in kidney_rows(Kidney("e", label, spacing), [4.0])]
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=0.02)


def test_hardly_anything_leaves_the_image():
    kidney = Kidney("box", np.ones((12, 20, 20), bool), tuple(SPACING))
    rows = kidney_rows(kidney, [0.5, 3.0, 12.0])
    assert all(0 < row["lost"] < 1e-6 for row in rows)


# ---- the whole line ----


def test_prepare_writes_the_same_table_from_both_layouts(layouts, tmp_path):
    lines: list[str] = []
    for k, source in enumerate(layouts):
        measure_kidneys(tmp_path / f"out{k}", source, cases=None, a_mm=(0.0, 3.0), report=lines.append)
    assert lines[:3] == lines[3:] and lines[0].startswith("case_00002_kidney_instance-1: 1")
    first, second = ((tmp_path / f"out{k}" / "shapes.csv").read_bytes() for k in range(2))
    assert first == second
    facts = read_json(tmp_path / "out0" / "provenance.json")
    assert facts["data_digest"] == read_json(tmp_path / "out1" / "provenance.json")["data_digest"]
    assert facts["source"]["licence"] == "CC BY-NC-SA 4.0" and facts["source"]["annotator"] == 1
    assert {"numpy", "scikit-image"} <= set(facts["packages"]) and facts["rule"]["a_mm"] == [0.0, 3.0]
    assert len(pd.read_csv(tmp_path / "out0" / "shapes.csv")) == 6
    assert str(tmp_path) not in (tmp_path / "out0" / "provenance.json").read_text()


def test_the_script_says_in_one_line_what_is_wrong(root, layouts, tmp_path):
    done = script(root, "--source", layouts[0], "--out", tmp_path / "out")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("kits23.py: ") and "has no kidney of case_00042" in line
    assert not (tmp_path / "out").exists()
    done = script(root, "--help")
    assert done.returncode == 0 and "https://github.com/neheller/kits23" in done.stdout


def test_without_the_table_the_script_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(kits23, "project_root", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"results/kits23; data_scripts/kits23.py makes them"):
        load_shapes()


# ---- the committed table ----


def test_the_committed_table_is_whole():
    table, facts = load_shapes()
    assert len(table) == 26 * 7 and table["kidney"].nunique() == 26
    assert sorted(facts["labels"]) == sorted(table["kidney"].unique())
    assert {name[:10] for name in facts["labels"]} == set(CASES)
    listing = "".join(f"{name} {digest}\n" for name, digest in facts["labels"].items())
    assert hashlib.sha256(listing.encode()).hexdigest() == facts["data_digest"]
    assert (table["slice_mm"] <= 1.0).all() and (table["lost"] < 1e-6).all()
    assert (table.groupby("kidney")["a_mm"].apply(list).map(tuple) == kits23.A_MM).all()


def test_the_committed_table_is_that_of_the_real_kidneys(shared_data):
    table, facts = load_shapes()
    source = shared_data / "kits23_raters"
    for name in ("case_00188_kidney_instance-1", "case_00002_kidney_instance-2"):
        kidney = read_kidney(name, source / f"{name}.nii.gz", bit=0)
        assert kidney.digest() == facts["labels"][name]
        rows = pd.DataFrame(kidney_rows(kidney, (0.0, 4.0, 12.0))).set_index("a_mm")
        committed = table[table["kidney"] == name].set_index("a_mm").loc[rows.index]
        assert list(rows.columns) == list(committed.columns)
        numbers = rows.columns.drop("kidney")
        np.testing.assert_allclose(committed[numbers], rows[numbers].astype(float), rtol=1e-6)


def test_the_committed_table_saw_the_data_that_are_there(shared_data):
    facts = load_shapes()[1]
    found = {k.name: k.digest() for k in kidneys(shared_data / "kits23_raters", cases=CASES[:3])}
    assert len(found) == 6
    assert found == {name: facts["labels"][name] for name in found}
