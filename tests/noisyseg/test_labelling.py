"""One label map of all classes of a file: values, place, gap, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from test_cli import names, refused, run
from test_maps import AFFINE, EXCLUSIVE, ITK, SHAPE, M, P, nnunet, save
from test_nnunet import FOLDER

from noisyseg import dice, optimal_labels
from noisyseg.classes import nested_labels
from noisyseg.maps.labelling import label_case
from noisyseg.maps.opening import Options, open_maps
from noisyseg.maps.thresholding import Settings

RNG = np.random.default_rng(1)
FOUR = RNG.dirichlet(np.full(4, 0.3), SHAPE).astype(np.float32)  # a softmax with the classes last
NEST = np.stack([M, 0.6 * M, 0.2 * M])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def read(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_exclusive_classes_make_one_label_map(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "x.nii.gz", FOUR)
    assert run(path, "--out", out, "--labels", "exclusive", "--report", tmp_path / "r.csv") == 0
    assert names(out) == ["x.nii.gz"] and "1 of 1 case done, 1 label map in" in capsys.readouterr().out
    labels, gap = optimal_labels(FOUR, class_axis=3)
    image = nib.load(out / "x.nii.gz")
    assert np.array_equal(read(out / "x.nii.gz"), labels) and set(np.unique(labels)) == {0, 1, 2, 3}
    assert image.get_data_dtype() == np.uint8 and np.array_equal(image.affine, AFFINE)
    rows = table(tmp_path / "r.csv")
    assert [(row["label"], row["value"], row["mask"]) for row in rows] == [(k, k, "x.nii.gz") for k in "123"]
    for k, row in enumerate(rows, 1):
        assert float(row["gap"]) == gap > 0 and row["warnings"] == ""
        assert float(row["promised"]) == pytest.approx(dice(labels == k, FOUR[..., k]), rel=1e-12)
        assert int(row["voxels_at_threshold"]) == (labels == k).sum()
        assert float(row["changed"]) == pytest.approx(((labels == k) != (FOUR[..., k] >= 0.5)).mean())


def test_a_mask_has_the_value_1_and_no_gap(tmp_path: Path, out: Path) -> None:
    assert run(save(tmp_path / "x.nii", M), "--out", out, "--report", tmp_path / "r.csv") == 0
    (row,) = table(tmp_path / "r.csv")
    assert (row["value"], row["gap"]) == ("1", "")


def test_nested_regions_make_one_label_map(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, NEST)
    assert run(path, "--out", out, "--labels", "nested", "--axes", "cxyz", "--report", tmp_path / "r.csv") == 0
    labels, gap = nested_labels(NEST)
    found = np.load(out / "x.npy")
    assert found.dtype == np.uint8 and np.array_equal(found, labels)
    for k, row in enumerate(table(tmp_path / "r.csv")):
        assert float(row["gap"]) == gap and int(row["value"]) == k + 1
        assert float(row["promised"]) == pytest.approx(dice(labels > k, NEST[k]), rel=1e-12)


def test_regions_that_come_the_smallest_first_are_named(tmp_path: Path, out: Path) -> None:
    np.savez(tmp_path / "x.npz", NEST[::-1])
    options = ("--labels", "nested", "--axes", "cxyz", "--report", tmp_path / "r.csv")
    assert run(tmp_path / "x.npz", "--out", out, *options) == 0
    assert [bool(row["warnings"]) for row in table(tmp_path / "r.csv")] == [False, True, True]
    assert "mask" in np.load(out / "x.npz")


@pytest.mark.parametrize("kind", ["exclusive", "reoriented", "version_1", "regions"])
def test_label_maps_of_nnunets_folder(kind: str, out: Path, tmp_path: Path) -> None:
    """The values are those of its own segmentation, in the same place; nowhere is a class that it rules out."""
    how = "nested" if kind == "regions" else "exclusive"
    assert run(FOLDER / kind, "--out", out, "--labels", how, "--report", tmp_path / "r.csv") == 0
    own, image = nib.load(FOLDER / kind / "case.nii.gz"), nib.load(out / "case.nii.gz")
    assert names(out) == ["case.nii.gz"] and np.allclose(image.affine, own.affine, atol=1e-5)
    m = np.stack([x for _, x in open_maps(FOLDER / kind / "case.npz").each()])
    m = m[1:] if kind == "version_1" else m  # it has no dataset.json, which would name the background
    labels, _ = nested_labels(m) if how == "nested" else optimal_labels(m, background=None)
    found = read(out / "case.nii.gz")
    assert np.array_equal(found, labels) and {row["value"] for row in table(tmp_path / "r.csv")} == {"1", "2"}
    mine, theirs = found[np.asanyarray(own.dataobj) > 0], read(FOLDER / kind / "case.nii.gz")
    assert (mine == theirs[theirs > 0]).mean() > 0.9


def test_regions_have_the_values_of_nnunet(tmp_path: Path, out: Path) -> None:
    np.savez(tmp_path / "x.npz", probabilities=NEST.transpose(0, 3, 2, 1))
    content = {"labels": {"background": 0, "a": [1, 2, 3], "b": [2, 3], "c": 3}, "regions_class_order": [2, 9, 4]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    save(tmp_path / "image.nii.gz", M)
    options = ("--labels", "nested", "--reference", tmp_path / "image.nii.gz")
    assert run(tmp_path / "x.npz", "--out", out, *options) == 0
    assert np.array_equal(read(out / "x.nii.gz"), np.array([0, 2, 9, 4])[nested_labels(NEST)[0]])


def test_chosen_classes_keep_their_numbers(tmp_path: Path, out: Path) -> None:
    path = save(tmp_path / "x.nii", FOUR)
    assert run(path, "--out", out, "--labels", "exclusive", "--classes", "1,3") == 0
    labels, _ = optimal_labels(FOUR[..., [1, 3]], class_axis=3, background=None)
    assert np.array_equal(read(out / "x.nii"), np.array([0, 1, 3])[labels])


def test_without_a_map_of_the_background_every_map_is_a_class(tmp_path: Path, out: Path) -> None:
    path = save(tmp_path / "x.nii", FOUR[..., 1:])
    assert run(path, "--out", out, "--labels", "exclusive") == 0
    assert np.array_equal(read(out / "x.nii"), optimal_labels(FOUR[..., 1:], class_axis=3, background=None)[0])


@pytest.mark.parametrize("layout", ["C", "F"])
def test_the_layout_of_the_file_changes_no_number(tmp_path: Path, out: Path, layout: str) -> None:
    m, roi = np.moveaxis(FOUR, -1, 0), RNG.random(SHAPE) < 0.7
    np.save(tmp_path / "x.npy", np.asarray(m, order=layout))
    np.save(tmp_path / "roi.npy", roi.astype(np.uint8))
    words = ("--labels", "exclusive", "--axes", "cxyz", "--mask", tmp_path / "roi.npy", "--report", tmp_path / "r.csv")
    assert run(tmp_path / "x.npy", "--out", out, *words) == 0
    labels, gap = optimal_labels(m, where=roi)
    assert np.array_equal(np.load(out / "x.npy"), labels)
    for k, row in enumerate(table(tmp_path / "r.csv"), 1):
        assert float(row["promised"]) == pytest.approx(dice(labels[roi] == k, m[k][roi])) and float(row["gap"]) == gap


def test_a_class_without_a_voxel_and_values_that_are_clipped(tmp_path: Path) -> None:
    m = np.moveaxis(FOUR, -1, 0).copy()
    m[2] += m[3]
    m[3] = -1e-7
    np.save(tmp_path / "x.npy", m)
    settings = Settings(tmp_path / "out", options=Options(axes="cxyz"), labels="exclusive", clip=True)
    assert [row.warnings for row in label_case(tmp_path / "x.npy", settings)] == ["", "", "no voxel has this label"]


def test_jobs_and_files_that_exist(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [save(tmp_path / f"{k}.nii", FOUR) for k in range(2)]
    assert run(*paths, "--out", out, "--labels", "exclusive", "--jobs", 2) == 0
    assert names(out) == ["0.nii", "1.nii"]
    before = (out / "0.nii").read_bytes()
    assert run(paths[0], "--out", out, "--labels", "exclusive") == 1
    assert "0.nii exists; replace it with --overwrite" in capsys.readouterr().err
    assert (out / "0.nii").read_bytes() == before


def test_classes_that_are_of_another_kind(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logits = save(tmp_path / "logits.nii", 8 * FOUR - 4)
    assert "class 0: the map (shape" in refused(capsys, out, logits, "--labels", "exclusive")
    both = save(tmp_path / "both.nii", np.stack([M**0.2, M**0.3], axis=-1))
    line = refused(capsys, out, both, "--labels", "exclusive")
    assert "use --labels nested, or leave --labels out" in line and "optimal_dice" not in line
    softmax = save(tmp_path / "softmax.nii", FOUR)
    assert "so they are exclusive; use --labels exclusive" in refused(capsys, out, softmax, "--labels", "nested")
    assert "there is one map" in refused(capsys, out, save(tmp_path / "m.nii", M), "--labels", "nested")
    maps = tmp_path / "maps"
    maps.mkdir()
    nnunet(maps / "x.npz", {"sitk_stuff": ITK}, EXCLUSIVE)
    assert "the classes of dataset.json are exclusive" in refused(capsys, out, maps, "--labels", "nested")
    nnunet(maps / "x.npz", {"sitk_stuff": ITK}, {"a": [1, 2], "b": [2, 3], "c": 3})
    assert "overlap without being nested" in refused(capsys, out, maps, "--labels", "nested")
    np.save(tmp_path / "many.npy", 0.003 * RNG.random((2, 2, 257)))
    line = refused(capsys, out, tmp_path / "many.npy", "--labels", "exclusive", "--axes", "xyc")
    assert "has the value 257, and a label map holds up to 255" in line


@pytest.mark.parametrize(
    "words", [["--metric", "jaccard"], ["--absent", "0.2"], ["--figure"], ["--calibration", "none.json"]]
)
def test_options_that_are_about_single_masks(tmp_path: Path, out: Path, capsys, words: list[str]) -> None:
    line = refused(capsys, out, save(tmp_path / "x.nii", P.transpose(1, 2, 3, 0)), "--labels", "exclusive", *words)
    assert line.startswith(f"error: --labels: not with {words[0]}")
