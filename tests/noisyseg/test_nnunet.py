"""What nnU-Net really writes, made by its own export (tests/nnunet/README.md)."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from noisyseg import dice_threshold
from noisyseg.cli import main
from noisyseg.maps.opening import Options, open_maps

FOLDER = Path(__file__).resolve().parents[1] / "nnunet"
KINDS = sorted(path.parent.name for path in FOLDER.glob("*/case.npz"))


def test_every_reader_and_both_versions_are_here() -> None:
    assert KINDS == ["exclusive", "regions", "reoriented", "reoriented_itk", "version_1"]


@pytest.mark.parametrize("kind", KINDS)
def test_maps_lie_where_nnunets_own_segmentation_does(kind: str) -> None:
    """From the maps that we read its rule gives the segmentation that it wrote, voxel by voxel, in the same place."""
    maps = open_maps(FOLDER / kind / "case.npz", Options(classes=("0-1",) if kind == "regions" else ("0-2",)))
    own = nib.load(FOLDER / kind / "case.nii.gz")
    read = np.stack([m for _, m in maps.each()])
    if kind == "regions":
        expected = np.where(read[1] > 0.5, 2, np.where(read[0] > 0.5, 1, 0))
    else:
        expected = np.where(read.any(axis=0), read.argmax(axis=0), 0)
    assert np.array_equal(np.asanyarray(own.dataobj), expected) and len(np.unique(expected)) == 3
    assert maps.grid is not None and np.allclose(maps.grid.header.get_best_affine(), own.affine, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_nnunets_folder(kind: str, tmp_path: Path) -> None:
    assert main(["threshold", str(FOLDER / kind), "--out", str(tmp_path), "--report", str(tmp_path / "r.csv")]) == 0
    names = {"regions": ("whole", "core"), "version_1": ("0", "1", "2")}.get(kind, ("kidney", "tumour"))
    assert {path.name for path in tmp_path.glob("*.nii.gz")} == {f"case_{name}.nii.gz" for name in names}
    own = nib.load(FOLDER / kind / "case.nii.gz")
    for name, m in open_maps(FOLDER / kind / "case.npz").each():
        mask = nib.load(tmp_path / f"case_{name}.nii.gz")
        assert np.array_equal(np.asanyarray(mask.dataobj), m >= dice_threshold(m))
        assert mask.get_data_dtype() == np.uint8 and np.allclose(mask.affine, own.affine, atol=1e-5)
        assert np.allclose(mask.header.get_zooms(), own.header.get_zooms(), atol=1e-5)


def test_totalsegmentator_saves_the_map_alone(tmp_path: Path) -> None:
    """Its ``--save_probabilities`` copies nnU-Net's two files, under another name and without ``dataset.json``."""
    for ending in (".npz", ".pkl"):
        (tmp_path / f"probabilities{ending}").write_bytes((FOLDER / "exclusive" / f"case{ending}").read_bytes())
    assert (
        main(["threshold", str(tmp_path / "probabilities.npz"), "--classes", "1,2", "--out", str(tmp_path / "out")])
        == 0
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"probabilities_1.nii.gz", "probabilities_2.nii.gz"}
