"""All cases of an organ in two files that are mapped into memory (book chapter *Data*).

Beside the cases of a data set::

    <set>/packed/<organ>/images.npy     float32 (cases, x, y, z)
    <set>/packed/<organ>/labels.npy     uint8 (cases, bytes): labels, eight voxels a byte
    <set>/packed/<organ>/index.json     which case is in which row, shape, spacings; written last

The files are made from the cases by the process that first needs them, and may be deleted at any time. Nothing is
unpacked or copied when a run starts, and all processes of a machine share one copy, that of the operating system. What
is read is compared with the manifest, case by case, as it is with the case files themselves: a file that is damaged,
or of other data, is noticed and made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray

from reproduction.data.cases import Case, CaseSet
from reproduction.paths import atomic_file, read_json, remove_parts, write_json

FORMAT = 1


def pack_bits(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Eight voxels of a binary label a byte, in C order; the last byte is filled up with zeros.

    Examples
    --------
    >>> pack_bits(np.array([[1, 0, 0], [0, 0, 1]], dtype=np.uint8)).tolist()
    [132]
    """
    return np.packbits(label.reshape(-1))


def unpack_bits(row: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Undo :func:`pack_bits`.

    Examples
    --------
    >>> unpack_bits(np.array([132], dtype=np.uint8), (2, 3)).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    return np.unpackbits(row, count=int(np.prod(shape))).reshape(shape)


def load_packed(
    data_set: CaseSet, organ: str, ids: Iterable[str] | None = None, report: Callable[[str], None] = print
) -> list[Case]:
    """Give the cases that ``CaseSet.load`` gives, with images that are read-only views of a mapped file.

    Parameters
    ----------
    data_set, organ, ids
        As for ``CaseSet.load``: the data set, one of its organs, and ids of cases (all of the organ if None).
    report
        Called with a line where a packed file is damaged and therefore made anew, or cannot be written: the case files
        are then read instead.

    Raises
    ------
    ValueError
        If an id is not in the manifest, or a case file's content is not what the manifest states.

    Examples
    --------
    >>> import tempfile
    >>> from reproduction.data.phantoms.cases import prepare
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data_set = prepare(Path(folder, "set"), size=16, cases=5, seed=1, report=lambda line: None)
    ...     mapped, read = load_packed(data_set, "aorta"), data_set.load("aorta")
    ...     all((a.image == b.image).all() and (a.label == b.label).all() for a, b in zip(mapped, read))
    True
    """
    names = data_set.known(organ, ids)
    folder = data_set.folder / "packed" / organ
    try:
        return _read(folder, data_set, organ, names)
    except (FileNotFoundError, ValueError):
        pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            try:
                return _read(folder, data_set, organ, names)  # another process may have made it meanwhile
            except FileNotFoundError:
                pass
            except ValueError as error:
                report(f"{error}: packed again")
            remove_parts(folder)
            _write(folder, data_set, organ)
        return _read(folder, data_set, organ, names)
    except OSError as error:
        report(f"{folder} cannot be made ({error.strerror or error}): reading the case files instead")
        return data_set.load(organ, names)


def _read(folder: Path, data_set: CaseSet, organ: str, names: list[str]) -> list[Case]:
    """Open the files and check every case that is asked for; ``ValueError`` says what is wrong with them."""
    index = read_json(folder / "index.json")
    entries = data_set.entries(organ)
    try:
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']!r}; expected {FORMAT}")
        # Mapped files keep their content when another process renames new ones over them.
        images = np.load(folder / "images.npy", mmap_mode="r")
        bits = np.load(folder / "labels.npy", mmap_mode="r")
        if images.dtype != np.float32 or bits.dtype != np.uint8 or len(images) != len(bits):
            raise ValueError(f"images {images.dtype} {images.shape}, labels {bits.dtype} {bits.shape}")
        cases = []
        for name in names:
            row, spacing = index["cases"][name]
            image, label = np.asarray(images[row]), unpack_bits(bits[row], images.shape[1:])
            case = Case(name, image, label, np.array(spacing, dtype=np.float64))
            if case.digest() != entries[name]["sha256"]:
                raise ValueError(f"case {name} is not that of the manifest")
            cases.append(case)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        raise ValueError(f"{folder} is damaged or of other data ({error!r:.200})") from error
    return cases


def _write(folder: Path, data_set: CaseSet, organ: str) -> None:
    """Make the files from the case files, which are checked; no more than one case is in memory."""
    names = list(data_set.entries(organ))
    shape = data_set.load(organ, names[:1])[0].image.shape
    rows = {}
    size = -(-int(np.prod(shape)) // 8)
    with atomic_file(folder / "images.npy") as images, atomic_file(folder / "labels.npy") as labels:
        for file, kind, of in ((images, "<f4", shape), (labels, "|u1", (size,))):
            header = {"descr": kind, "fortran_order": False, "shape": (len(names), *of)}
            np.lib.format.write_array_header_1_0(file, header)
        for row, name in enumerate(names):
            (case,) = data_set.load(organ, [name])
            if case.image.shape != shape:
                raise ValueError(f"case {name}: shape {case.image.shape}; the first case has {shape}")
            images.write(np.ascontiguousarray(case.image, dtype="<f4").data)
            labels.write(pack_bits(case.label).data)
            rows[name] = [row, case.spacing_mm.tolist()]
    write_json(folder / "index.json", {"format": FORMAT, "cases": rows})
