"""OpenKBP's files: sparse CSV in, one patient's CT and organs out (book chapter *Data*).

340 patients with planning CTs of head and neck, 128^3 voxels each, in the repository ``ababier/open-kbp`` (Babier et
al., Medical Physics 48, 2021; MIT): ``provided-data/{train,validation,test}-pats/pt_N/*.csv``. ``ct.csv`` lists the
voxels that are not blank, as flat index in C order and value; a mask has indices alone; ``voxel_dimensions.csv`` has
three lengths in mm. Hounsfield units are the value, clipped to 0..4095, minus 1024.

Axis 0 runs from anterior to posterior, axis 1 from the patient's right to the left, axis 2 from superior to inferior:
read off pictures, as the files do not say. `canonical` turns them.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ORGANS = {"parotid": "RightParotid", "cord": "SpinalCord", "oesophagus": "Esophagus"}
SHAPE = (128, 128, 128)
AIR_HU = -1024.0


def _text(content: bytes, name: str) -> bytes:
    """Unpack a file that may be gzipped, and look whether it ends where a line ends."""
    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is no readable gzip file ({error}); fetch it again") from error
    if not text.endswith(b"\n"):
        raise ValueError(f"{name} ends in the middle of a line: it is truncated; fetch it again")
    return text


def read_sparse(content: bytes, name: str, mask: bool = False) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    r"""Flat indices and values of one sparse CSV file, plain or gzipped; a mask has no values: they are 1.

    Raises
    ------
    ValueError
        If the file is truncated or has another layout, an index lies outside 128^3 or comes twice, or a value is
        missing or not finite; ``name`` and what was found.

    Examples
    --------
    >>> read_sparse(b",data\n3,7.0\n5,9.5\n", "ct.csv")
    (array([3, 5]), array([7. , 9.5]))
    >>> read_sparse(b",data\n3,\n5,\n", "SpinalCord.csv", mask=True)
    (array([3, 5]), array([1., 1.]))
    """
    text = _text(content, name)
    try:
        table = pd.read_csv(io.BytesIO(text))
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{name} is no readable CSV file ({error}); fetch it again") from error
    if table.shape[1] != 2 or table.columns[1] != "data":
        raise ValueError(f"{name} has the columns {list(table.columns)}; expected an index and 'data'")
    index = np.asarray(pd.to_numeric(table.iloc[:, 0], errors="coerce"), dtype=np.float64)
    voxels = int(np.prod(SHAPE))
    wrong = ~((index >= 0) & (index < voxels) & (index == np.floor(index)))
    if wrong.any():
        raise ValueError(
            f"{name}: {int(wrong.sum())} of {len(index)} indices are no whole numbers from 0 to 128^3 - 1, "
            f"the first is {table.iloc[int(np.argmax(wrong)), 0]}"
        )
    if repeats := len(index) - len(np.unique(index)):
        raise ValueError(f"{name}: {repeats} of {len(index)} indices come more than once")
    if mask:
        if given := int(table.iloc[:, 1].notna().sum()):
            raise ValueError(f"{name}: {given} of {len(index)} voxels of a mask have a value; expected none")
        return index.astype(np.int64), np.ones(len(index))
    values = np.asarray(pd.to_numeric(table.iloc[:, 1], errors="coerce"), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {int((~np.isfinite(values)).sum())} of {len(values)} values are no finite numbers")
    return index.astype(np.int64), values


def read_spacing(content: bytes, name: str) -> tuple[float, float, float]:
    r"""Voxel size in mm along the three axes of the files.

    Raises
    ------
    ValueError
        If there are not three lengths between 0.2 and 20 mm.

    Examples
    --------
    >>> read_spacing(b"3.906\n3.906\n2.5\n", "voxel_dimensions.csv")
    (3.906, 3.906, 2.5)
    """
    words = _text(content, name).decode(errors="replace").split()
    try:
        a, b, c = (float(word) for word in words)
    except ValueError as error:
        raise ValueError(f"{name} holds {' '.join(words)[:60]!r}; expected three lengths, one a line") from error
    if not all(0.2 <= length <= 20 for length in (a, b, c)):
        raise ValueError(f"{name}: voxels of {a} x {b} x {c} mm; expected lengths between 0.2 and 20 mm")
    return a, b, c


def canonical(volume: NDArray) -> NDArray:
    """Turn the axes of the files to left-right, posterior-anterior, inferior-superior (nibabel's canonical order)."""
    return volume.transpose(1, 0, 2)[::-1, ::-1, ::-1]


@dataclass(frozen=True)
class Patient:
    """One patient in canonical axes: ``hu`` float32, ``filled`` (not blank) and ``organs`` bool, ``spacing_mm``."""

    id: str
    hu: NDArray[np.float32]
    filled: NDArray[np.bool_]
    organs: dict[str, NDArray[np.bool_]]
    spacing_mm: tuple[float, float, float]


def read_patient(name: str, read: Callable[[str], bytes | None]) -> Patient:
    """Read a patient.

    Parameters
    ----------
    name
        Its id, ``pt_N``.
    read
        Gives the content of one of its files (such as ``ct.csv``), None where there is none.

    Raises
    ------
    ValueError
        If the CT or the voxel size is missing, or a file is damaged.
    """
    needed = {file: read(file) for file in ("ct.csv", "voxel_dimensions.csv")}
    for file, content in needed.items():
        if content is None:
            raise ValueError(f"there is no {file}")
    index, values = read_sparse(needed["ct.csv"] or b"", "ct.csv")
    a, b, c = read_spacing(needed["voxel_dimensions.csv"] or b"", "voxel_dimensions.csv")
    hu, filled = np.full(SHAPE, AIR_HU, np.float32), np.zeros(SHAPE, bool)
    hu.ravel()[index] = np.clip(values, 0, 4095) - 1024
    filled.ravel()[index] = values > 0
    organs = {}
    for organ, file in ORGANS.items():
        content = read(f"{file}.csv")
        if content is not None:
            mask = np.zeros(SHAPE, bool)
            mask.ravel()[read_sparse(content, f"{file}.csv", mask=True)[0]] = True
            organs[organ] = canonical(mask)
    return Patient(name, canonical(hu), canonical(filled), organs, (b, a, c))
