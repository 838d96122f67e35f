"""Subjects in the layout of TotalSegmentator for tests: made from two real ones by flips and air, or from balls."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np

CLASSES = ("kidney_right", "aorta", "esophagus")
TOP = "Totalsegmentator_dataset_v201"


def nifti(voxels: np.ndarray, affine: np.ndarray) -> bytes:
    return gzip.compress(nib.Nifti1Image(voxels, affine).to_bytes(), 1, mtime=0)


def real_subjects(shared_data: Path, mirrored: int = 7) -> dict[str, bytes]:
    """Name to content: the two real subjects as they are, s0003 to s0009 from flips of the first one.

    The flipped ones get four layers of air at either end, so that their kidney is whole, and the vena cava stands in
    for the oesophagus, which both real scans lack.
    """
    source = shared_data / "totalsegmentator"
    files = {}
    for subject in ("s0001", "s0002"):
        for part in ("ct", *(f"segmentations/{name}" for name in CLASSES)):
            files[f"{subject}/{part}.nii.gz"] = (source / subject / f"{part}.nii.gz").read_bytes()
    scan = nib.load(source / "s0001" / "ct.nii.gz")
    names = dict(zip(CLASSES, ("kidney_right", "aorta", "inferior_vena_cava"), strict=True))
    volumes = {"ct": np.asarray(scan.dataobj)}  # type: ignore[attr-defined]
    for name, stored in names.items():
        path = source / "s0001" / "segmentations" / f"{stored}.nii.gz"
        volumes[f"segmentations/{name}"] = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    for k in range(1, mirrored + 1):
        axes = [axis for axis in range(3) if k >> axis & 1]
        for part, volume in volumes.items():
            padded = np.pad(volume, ((0, 0), (0, 0), (4, 4)), constant_values=-1024 if part == "ct" else 0)
            files[f"s{k + 2:04d}/{part}.nii.gz"] = nifti(np.flip(padded, axes), scan.affine)  # type: ignore[attr-defined]
    return files


def ball_subjects(count: int = 7, side: int = 32) -> dict[str, bytes]:
    """Small subjects s0000, s0001, ... with a ball as a kidney and two tubes from feet to head, voxels of 3 mm."""
    files = {}
    for k in range(count):
        rng = np.random.default_rng(k)
        x, y, z = np.indices((side, side, side))
        kidney = (x - 8) ** 2 + (y - side // 2) ** 2 + (z - 11) ** 2 <= (side / 8 + 3 + 0.1 * k) ** 2
        aorta = (x - side + 7) ** 2 + (y - 8) ** 2 <= 10 + k
        oesophagus = (x - side + 6) ** 2 + (y - side + 6) ** 2 <= 4
        ct = rng.integers(-200, 200, size=kidney.shape).astype(np.int16)
        affine = np.diag([3.0, 3, 3, 1])
        files[f"s{k:04d}/ct.nii.gz"] = nifti(ct, affine)
        for name, mask in zip(CLASSES, (kidney, aorta, oesophagus), strict=True):
            files[f"s{k:04d}/segmentations/{name}.nii.gz"] = nifti(mask.astype(np.uint8), affine)
    return files


def as_folder(root: Path, files: dict[str, bytes], top: str = "") -> Path:
    for name, content in files.items():
        path = root / top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def as_zip(path: Path, files: dict[str, bytes], top: str = f"{TOP}/", more: dict[str, bytes] | None = None) -> Path:
    """The archive: subjects below one folder, with a table, and with what nobody asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(f"{top}meta.csv", "image_id;age\ns0001;50\n")
        for name, content in sorted(files.items()):
            archive.writestr(f"{top}{name}", content)
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return path
