"""The Gold Atlas: nine structures of the male pelvis, each outlined by up to five experts in 19 patients.

It is given out on request, so nothing of it was measured here. A reader who has access gets the table that the NeurIPS
paper's experiment has for it, by the rules of that paper's public code: the marginal of a structure is the mean of the
masks of those who outlined it.

Source: Nyholm et al. 2018, Medical Physics 45; https://doi.org/10.5281/zenodo.583096.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from reproduction.data.structure_sets import CLASS, StructureSet, image_grid, read_dicom, read_structure_set
from reproduction.data.volume_ratios import count_votes, volume_ratios
from reproduction.paths import atomic_write, write_json
from reproduction.provenance import provenance

REGIONS = (
    "Urinary bladder",
    "Rectum",
    "Anal canal",
    "Penile bulb",
    "Neurovascular bundles",
    "Femoral head_R",
    "Femoral head_L",
    "Prostate",
    "Seminal vesicles",
)
USERS = 5
#: by patient, how the name of the structure set ends that the paper's code reads
PATIENTS = {
    "1_01_P": "1370.70822",
    "1_02_P": "3200.43424",
    "1_03_P": "4000.57421",
    "1_04_P": "6600.33771",
    "1_05_P": "7400.55867",
    "1_06_P": "8800.86717",
    "1_07_P": "9900.60476",
    "1_08_P": "1090.61415",
    "2_03_P": "1520.76456",
    "2_04_P": "7100.87740",
    "2_05_P": "1400.50461",
    "2_06_P": "9100.40107",
    "2_09_P": "1420.63875",
    "2_10_P": "2000.22800",
    "2_11_P": "1470.10702",
    "3_01_P": "1210.25812",
    "3_02_P": "1320.22835",
    "3_03_P": "2700.32818",
    "3_04_P": "3000.17263",
}
ABOUT = {
    "name": "Gold Atlas, male pelvis",
    "url": "https://doi.org/10.5281/zenodo.583096",
    "licence": "on request, for academic use",
    "citation": "Nyholm et al. 2018, Medical Physics 45",
}
_NAME = re.compile(rf"(.+?) *\(User *([1-{USERS}])\)")
Files = dict[str, Callable[[], Any]]  # name of a file -> its DICOM header


def outlines(structures: StructureSet) -> dict[str, dict[int, str]]:
    """Find who outlined which of the nine regions: region -> user -> name of the structure.

    Examples
    --------
    >>> outlines(StructureSet({"Rectum (User2)": (), "Rectum": (), "Skin (User1)": ()}, frozenset()))
    {'Rectum': {2: 'Rectum (User2)'}}
    """
    found: dict[str, dict[int, str]] = {}
    for name in structures.curves:
        if (match := _NAME.fullmatch(name)) and match[1] in REGIONS:
            found.setdefault(match[1], {})[int(match[2])] = name
    return found


@contextmanager
def _files(source: Path, patient: str) -> Iterator[Files]:
    """Open the DICOM files of a patient: ``<patient>.zip``, as downloaded, or an unpacked folder."""
    folder = source / patient
    if folder.is_dir():
        paths = sorted(path for path in folder.rglob("*.dcm"))
        yield {path.name: lambda path=path: read_dicom(path.read_bytes()) for path in paths}
        return
    archives = [path for path in (source / f"{patient}.zip", source / f"{patient} (1).zip") if path.is_file()]
    if not archives:
        raise FileNotFoundError(f"{source} has no {patient}.zip and no folder {patient}; request it at {ABOUT['url']}")
    try:
        with zipfile.ZipFile(archives[0]) as archive:
            members = sorted(name for name in archive.namelist() if name.lower().endswith(".dcm"))
            yield {name.rpartition("/")[2]: lambda name=name: read_dicom(archive.read(name)) for name in members}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archives[0]} is a damaged archive ({error}); fetch it again") from error


def _structures(patient: str, headers: dict[str, Any]) -> tuple[str, StructureSet]:
    """Choose the structure set with outlines of users; of several the one that the paper's code reads."""
    found = {}
    for name, data in headers.items():
        if data.get("SOPClassUID") == CLASS:
            structures = read_structure_set(data)
            if outlines(structures):
                found[name] = structures
    chosen = [name for name in found if Path(name).stem.endswith(PATIENTS.get(patient, "?"))] or list(found)
    if len(chosen) != 1:
        raise ValueError(
            f"{len(found)} structure sets have outlines named '<region> (User<k>)', {', '.join(found) or 'none'}; "
            f"expected one, or one whose name ends in {PATIENTS.get(patient)}"
        )
    return chosen[0], found[chosen[0]]


def measure_patient(source: str | os.PathLike[str], patient: str) -> tuple[list[dict[str, Any]], str]:
    """Measure the optimal masks of all regions of one patient.

    Returns
    -------
    rows : list of dict
        For each region that somebody outlined: ``patient, region, users``, how many did, ``votes_1`` to ``votes_5``,
        the voxels in exactly so many outlines, and what `volume_ratios` measures with ``users`` raters.
    name : str
        Of the structure set.

    Raises
    ------
    FileNotFoundError, ValueError
        If the patient is missing, or a file is damaged or not as expected.
    """
    rows = []
    try:
        with _files(Path(source), patient) as files:
            headers = {}
            for name, read in files.items():
                try:
                    headers[name] = read()
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
            name, structures = _structures(patient, headers)
            images = [data for data in headers.values() if str(data.get("SOPInstanceUID")) in structures.images]
            if len(images) != len(structures.images):
                raise ValueError(f"{name} refers to {len(structures.images)} images; {len(images)} of them are there")
            grid = image_grid(images)
            for region, users in sorted(outlines(structures).items(), key=lambda item: REGIONS.index(item[0])):
                try:
                    votes = count_votes([grid.voxels(structures.curves[users[user]]) for user in sorted(users)])
                except ValueError as error:
                    raise ValueError(f"{name}, {region}: {error}") from error
                row: dict[str, Any] = {"patient": patient, "region": region, "users": len(users)}
                row |= {f"votes_{k}": n for k, n in enumerate([*votes, *[0] * (USERS - len(votes))], 1)}
                rows.append(row | volume_ratios(votes, len(users)))
    except ValueError as error:
        raise ValueError(f"patient {patient}: {error}") from error
    return rows, name


def measure_gold_atlas(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str],
    patients: tuple[str, ...] = tuple(PATIENTS),
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Measure all patients and write ``regions.csv`` and ``provenance.json`` into ``folder``.

    Parameters
    ----------
    folder
        Where the two files go.
    source
        Folder with ``<patient>.zip`` as downloaded, or an unpacked folder, for every patient.
    patients
        All must be there; the first that is missing is named before anything is read.
    report
        Called with a line for each patient, with the regions that nobody outlined.
    """
    for patient in patients:
        with _files(Path(source), patient):
            pass
    rows, sets = [], {}
    for patient in patients:
        found, sets[patient] = measure_patient(source, patient)
        rows += found
        missing = [region for region in REGIONS if region not in {row["region"] for row in found}]
        report(f"{patient}: {len(found)} regions" + (f"; nobody outlined {', '.join(missing)}" if missing else ""))
    table = pd.DataFrame(rows)
    content = table.to_csv(index=False, float_format="%.8g")
    facts = provenance()
    facts["packages"]["pydicom"] = version("pydicom")
    facts |= {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": ABOUT,
        "structure_sets": sets,
        "table_digest": hashlib.sha256(content.encode()).hexdigest(),
    }
    atomic_write(Path(folder) / "regions.csv", content)
    write_json(Path(folder) / "provenance.json", facts)
    return table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Give mean, standard deviation, minimum and maximum of both ratios, region by region, as the paper reports them.

    The standard deviation is that of the patients at hand.
    """

    def sd(ratio: Any) -> float:
        return float(ratio.std(ddof=0))

    ratios: Any = table.groupby("region", sort=False)[["accuracy_ratio", "dice_ratio"]]
    return ratios.agg(["mean", sd, "min", "max"])
