"""Medical Segmentation Decathlon, task 4: 260 MR volumes of the hippocampus.

1 mm isotropic, at most 43 x 59 x 47 voxels, label 1 anterior and 2 posterior. Here the two labels are merged, the
intensities of each volume brought to mean 0 and standard deviation 1 (scanner units differ by a factor of ten
thousand), the volume centred in a 64^3 box and halved to 32^3 at 2 mm. Outside the volume the image is 0, its mean.

Source: Simpson et al. 2019, arXiv:1902.09063; CC BY-SA 4.0.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from reproduction.data.cases import Case, CaseSet, read_case, write_case, write_manifest
from reproduction.data.download import fetch
from reproduction.data.nifti import Place, read_image, read_label
from reproduction.data.patches import centre_in_box, halve

URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar"
MD5 = "9d24dba78a72977dbd1d2e110310f31b"
CASES = 260
SIDE = 64
ORGAN = "hippocampus"


def person(name: str) -> str:
    """Give the person that a case is of; a name that does not end in a number is a person of its own.

    Examples
    --------
    >>> person("hippocampus_003"), person("hippocampus_004"), person("hippocampus_005")
    ('person_002', 'person_002', 'person_003')
    """
    number = name.rpartition("_")[2]
    return f"person_{(int(number) + 1) // 2:03d}" if number.isdigit() else name


def _members_of_folder(source: Path) -> dict[str, Callable[[], bytes]]:
    folder = source / "Task04_Hippocampus" if (source / "Task04_Hippocampus").is_dir() else source
    files = sorted((*folder.glob("imagesTr/*.nii.gz"), *folder.glob("labelsTr/*.nii.gz")))
    return {f"{file.parent.name}/{file.name}": file.read_bytes for file in files if not file.name.startswith("._")}


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file")
    return file.read()


def _members_of_tar(archive: tarfile.TarFile) -> dict[str, Callable[[], bytes]]:
    members = {}
    for member in archive:
        folder, _, name = member.name.rpartition("/")
        place = folder.split("/")
        # macOS leaves ._ twins in the archive; names are only compared, never used as paths.
        usual = member.isfile() and name.endswith(".nii.gz") and not name.startswith("._") and ".." not in place
        if usual and place[-1] in ("imagesTr", "labelsTr"):
            members[f"{place[-1]}/{name}"] = lambda member=member: _read_member(archive, member)
    return members


def patch(name: str, image: NDArray, label: NDArray, affine: NDArray, label_affine: NDArray) -> Case:
    """Make the 32^3 patch of one case.

    Parameters
    ----------
    name
        Case id.
    image, label
        MR intensities, and labels, both (x, y, z); what is not 0 belongs to the hippocampus.
    affine, label_affine
        Voxel to millimetre, of both, (4, 4).

    Raises
    ------
    ValueError
        If image and label differ in shape or place, the volume is larger than the box, voxels are not 1 mm, or the
        label is empty.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(size=(36, 50, 35))
    >>> label = np.zeros((36, 50, 35), np.uint8)
    >>> label[10:20, 11:31, 10:20] = 2
    >>> case = patch("one", image, label, np.eye(4), np.eye(4))
    >>> case.image.shape, int(case.label.sum()) * 8
    ((32, 32, 32), 2000)
    """
    if image.shape != label.shape or not np.allclose(affine, label_affine, atol=1e-3):
        raise ValueError(
            f"case {name}: the label does not match its image: shapes {label.shape} and {image.shape}, "
            f"affines {label_affine[:3].tolist()} and {affine[:3].tolist()}"
        )
    if image.ndim != 3 or max(image.shape) > SIDE:
        raise ValueError(f"case {name}: shape {image.shape}; expected three axes of at most {SIDE} voxels")
    spacing = voxel_sizes(affine)
    if not np.allclose(spacing, 1.0, atol=1e-3):
        raise ValueError(f"case {name}: voxels of {spacing.tolist()} mm; expected 1 mm")
    if not label.any():
        raise ValueError(f"case {name}: the label is empty")
    values = image.astype(np.float64)
    values = (values - values.mean()) / values.std()
    merged = (label > 0).astype(np.uint8)
    small, mask = halve(centre_in_box(values, SIDE), centre_in_box(merged, SIDE))
    return Case(name, small, mask, 2 * np.ones(3))


def _pairs(members: dict[str, Callable[[], bytes]], expected: int, where: str) -> Iterator[tuple[str, str, str]]:
    images = {name.split("/")[1] for name in members if name.startswith("imagesTr/")}
    labels = {name.split("/")[1] for name in members if name.startswith("labelsTr/")}
    if images != labels:
        odd = sorted(images ^ labels)
        raise ValueError(f"{where}: {len(odd)} cases have an image or a label only, the first is {odd[0]}")
    if len(images) != expected:
        raise ValueError(
            f"{where}: found {len(images)} labelled cases below imagesTr and labelsTr; expected {expected}"
        )
    for name in sorted(images):
        yield name.removesuffix(".nii.gz"), f"imagesTr/{name}", f"labelsTr/{name}"


def make_hippocampus(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    expected: int = CASES,
    report: Callable[[str], None] = print,
) -> CaseSet:
    """Fetch, check and cut the data set into ``folder``; cases that are there already are kept.

    Parameters
    ----------
    folder
        Where the patches go, such as ``data/hippocampus``.
    source
        ``None`` downloads the archive (27 MB, MD5 checked, an interrupted transfer goes on). Otherwise a local
        ``Task04_Hippocampus.tar``, or a folder that is or holds ``Task04_Hippocampus``.
    expected
        How many labelled cases there must be.
    report
        Called with lines of progress.

    Returns
    -------
    CaseSet
        The finished set; a second call returns it at once.

    Raises
    ------
    ValueError, OSError
        For a damaged archive or case (its name), or when the network or the disk fails. What was made so far stays.
    """
    folder = Path(folder)
    rule = {"box_voxels": SIDE, "box_spacing_mm": 1.0, "shape": [SIDE // 2] * 3, "spacing_mm": [2.0] * 3, "fill": 0.0}
    rule["folds_by"] = "person"
    if (folder / "manifest.json").is_file():
        finished = CaseSet(folder)
        complete = len(finished.entries(ORGAN)) == expected and not finished.missing()
        if complete and finished.manifest["patch"] == rule:
            return finished
        if complete:  # of an earlier version, which dealt the cases to the folds one by one
            entries = {name: {k: v for k, v in e.items() if k != "fold"} for name, e in finished.entries(ORGAN).items()}
            return write_manifest(folder, ORGAN, {ORGAN: entries}, finished.manifest["source"], rule, person=person)
    path = Path(source) if source is not None else fetch(URL, folder.parent / "downloads" / URL.split("/")[-1], MD5)
    if path.is_dir():
        entries = _cut(folder, _members_of_folder(path), expected, str(path), report)
    elif path.is_file():
        try:
            with tarfile.open(path) as archive:
                entries = _cut(folder, _members_of_tar(archive), expected, str(path), report)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            reason = " ".join(str(error).split())  # tarfile uses several lines
            raise ValueError(f"{path} is damaged or no tar ({reason}); delete it and fetch it again") from error
    else:
        raise FileNotFoundError(f"source {path} does not exist; expected a folder with Task04_Hippocampus, or its tar")
    about = {
        "name": "Medical Segmentation Decathlon, Task04_Hippocampus",
        "url": URL,
        "md5": MD5,
        "licence": "CC BY-SA 4.0",
    }
    return write_manifest(folder, ORGAN, {ORGAN: entries}, about, rule, person=person)


def _read(
    reader: Callable[[bytes], tuple[NDArray, Place]], name: str, members: dict[str, Callable[[], bytes]]
) -> tuple[NDArray, Place]:
    content = members[name]()
    try:
        return reader(content)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; fetch it again") from error


def _cut(
    folder: Path, members: dict[str, Callable[[], bytes]], expected: int, where: str, report: Callable[[str], None]
) -> dict[str, dict[str, object]]:
    entries: dict[str, dict[str, object]] = {}
    for number, (name, image_name, label_name) in enumerate(_pairs(members, expected, where), 1):
        target = folder / ORGAN / f"{name}.npz"
        if target.is_file():
            case = read_case(target)
        else:
            image, place = _read(read_image, image_name, members)
            label, label_place = _read(partial(read_label, values=(0, 1, 2)), label_name, members)
            case = patch(name, image, label, place.affine, label_place.affine)
            write_case(target, case)
        entries[name] = case.entry()
        if number % 50 == 0 or number == expected:
            report(f"{ORGAN}: {number} of {expected} cases")
    return entries
