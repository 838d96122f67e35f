"""Arrays in ``.npy`` and ``.npz`` files, read one class at a time wherever the file allows it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PIECE = 1 << 20  # bytes that are unpacked at a time

#: What nnU-Net calls its only array: version 2, version 1.
NNUNET_KEYS = ("probabilities", "softmax")


class Stored(NamedTuple):
    """An array in a file: its shape, and what gives the slices of one axis at ascending places (None: all of it)."""

    shape: tuple[int, ...]
    slices: Callable[[int | None, Sequence[int]], Iterator[np.ndarray]]


def _slices(array: Any) -> Callable[[int | None, Sequence[int]], Iterator[np.ndarray]]:
    def run(axis: int | None, places: Sequence[int]) -> Iterator[np.ndarray]:
        if axis is None:
            yield array
        else:
            yield from (array[(slice(None),) * axis + (k,)] for k in places)

    return run


def open_npy(path: Path) -> Stored:
    """Open an ``.npy`` file as a map of memory; objects, which would be unpickled, are refused."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    _check(array.dtype, array.shape)

    def run(axis: int | None, places: Sequence[int]) -> Iterator[np.ndarray]:
        for k in [0] if axis is None else places:  # a map of memory for each, so that what was read is given back
            yield from _slices(np.load(path, mmap_mode="r", allow_pickle=False))(axis, [k])

    return Stored(array.shape, run)


def _check(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless an array holds real numbers."""
    if dtype.kind not in "biuf":
        raise ValueError(f"expected real numbers, got an array of {dtype}")
    if 0 in shape:
        raise ValueError(f"expected voxels, got an array of shape {shape}, which is empty")


def key_of(path: Path, key: str | None) -> str:
    """Give the name of the array in an ``.npz`` file that holds the map: `key`, the only one, or nnU-Net's."""
    with zipfile.ZipFile(path) as archive:
        found = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    if key is None:
        known = found if len(found) == 1 else [name for name in NNUNET_KEYS if name in found]
        if len(known) != 1:
            raise ValueError(f"expected one array, found {', '.join(found) or 'none'}; name one with --key")
        return known[0]
    if key not in found:
        raise ValueError(f"--key: there is no array {key!r}, found {', '.join(found) or 'none'}")
    return key


def open_npz(path: Path, key: str) -> Stored:
    """Open an array of an ``.npz`` file; in C order its first axis is unpacked slice by slice, else as a whole."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        shape, fortran, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError(f"array {key!r} holds Python objects, which are not read; store numbers")
    _check(dtype, shape)

    def run(axis: int | None, places: Sequence[int]) -> Iterator[np.ndarray]:
        if axis != 0 or fortran or len(shape) == 1:
            with np.load(path, allow_pickle=False) as arrays:
                yield from _slices(arrays[key])(axis, places)
            return
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            _header(file)
            for k in range(max(places, default=-1) + 1):
                part = np.empty(shape[1:] if k in places else 0, dtype)
                _fill(file, part, dtype.itemsize * int(np.prod(shape[1:])))
                if k in places:
                    yield part

    return Stored(shape, run)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _fill(file: Any, array: np.ndarray, count: int) -> None:
    """Read `count` bytes into an array, or past them where it is empty."""
    view = array.reshape(-1).view(np.uint8)
    for start in range(0, count, PIECE):
        piece = file.read(min(PIECE, count - start))
        if len(piece) < min(PIECE, count - start):
            raise EOFError("the file ends before the array does")
        if array.size:
            view[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
