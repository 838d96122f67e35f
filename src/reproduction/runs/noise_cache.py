"""Noisy labels, drawn once for all runs that share them (book chapter *Data*).

The noisy label of a case depends on data set, organ, case, ``a``, ``b`` and ``noise_seed`` alone: both losses, all
folds and all trainings of a cell have the same ones. They are kept beside the data, one file for an organ and a noise
level::

    <set>/noise/<organ>-a<a>-<key>.npz      key    SHA-256 of all that the labels depend on, as text
                                            bits   uint8 (cases, bytes): all labels of the organ, eight voxels a byte

A file that is damaged (its CRC says so) or was made of other data or by other code is drawn anew. The files may be
deleted at any time.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray

from noisyseg import fields, noise
from noisyseg._core import arrays as _checks
from noisyseg._core import voxels as _voxels
from reproduction.config import RunConfig
from reproduction.data.cases import Case, CaseSet
from reproduction.data.packed import load_packed, pack_bits, unpack_bits
from noisyseg.noise import GaussianDeformation
from reproduction.paths import atomic_write, remove_parts

DRAWN_BY = (noise, fields, _voxels, _checks)  # the code that a noisy label comes from


def noisy_label(case: Case, config: RunConfig) -> NDArray[np.uint8]:
    """The one noisy label of a case, uint8; the same for both losses, for training and for evaluation."""
    return GaussianDeformation(config.a, config.b).sample(case.label, rng=config.seed_of_case(case.id))


def noisy_labels(
    config: RunConfig, data_set: CaseSet, cases: list[Case], report: Callable[[str], None] = print
) -> NDArray[np.uint8]:
    """Noisy labels of some cases, (cases, x, y, z) uint8: what ``noisy_label`` gives, from the file if it is there.

    Parameters
    ----------
    config, data_set
        The run and its data. Where the file is missing, the labels of all cases of the organ are drawn.
    cases
        Cases of the run's organ, of one shape.
    report
        Called with a line where the file is damaged and therefore made anew, or cannot be written.
    """
    if not cases:
        raise ValueError("cases is empty; expected at least one case")
    key = cache_key(config, data_set)
    path = data_set.folder / "noise" / f"{config.organ}-a{config.a:.3f}-{key[:12]}.npz"
    rows = {name: row for row, name in enumerate(data_set.entries(config.organ))}
    try:
        bits = _read(path, key, len(rows))
    except (FileNotFoundError, ValueError):
        bits = _make(path, key, config, data_set, report)
    if bits is None:
        return np.stack([noisy_label(case, config) for case in cases])
    return np.stack([unpack_bits(bits[rows[case.id]], case.label.shape) for case in cases])


def cache_key(config: RunConfig, data_set: CaseSet) -> str:
    """SHA-256 of all that the noisy labels of an organ depend on: data, noise, seeds, the code and NumPy's version."""
    entries = data_set.entries(config.organ)
    depends = {
        "set": config.data_folder,
        "organ": config.organ,
        "cases": {name: [entry["sha256"], config.seed_of_case(name)] for name, entry in entries.items()},
        **{"a": config.a, "b": config.b},
        "code": _code_digest(),
        "numpy": np.__version__,
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


@functools.cache
def _code_digest() -> str:
    """SHA-256 of the modules that draw: labels of another version of them are never taken for those of this one."""
    sha = hashlib.sha256()
    for module in DRAWN_BY:
        assert module.__file__ is not None
        sha.update(Path(module.__file__).read_bytes())
    return sha.hexdigest()


def _read(path: Path, key: str, count: int) -> NDArray[np.uint8]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            found, bits = str(file["key"]), file["bits"]
    except FileNotFoundError:
        raise
    # Every kind that a damaged byte brings out of zipfile and NumPy, as for the case files.
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error!r:.200})") from error
    if found != key or bits.dtype != np.uint8 or len(bits) != count:
        raise ValueError(f"{path} holds labels of other data, noise or code")
    return bits


def _make(
    path: Path, key: str, config: RunConfig, data_set: CaseSet, report: Callable[[str], None]
) -> NDArray[np.uint8] | None:
    """Draw and store the labels of all cases; None where the file cannot be written."""
    count = len(data_set.entries(config.organ))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f".{path.stem}.lock")):
            try:
                return _read(path, key, count)  # another process may have made it meanwhile
            except FileNotFoundError:
                pass
            except ValueError as error:
                report(f"{error}: drawn again")
            remove_parts(path.parent, path.name)
            cases = load_packed(data_set, config.organ, report=report)
            bits = np.stack([pack_bits(noisy_label(case, config)) for case in cases])
            buffer = io.BytesIO()
            np.savez(buffer, key=np.array(key), bits=bits)
            atomic_write(path, buffer.getvalue())
            return bits
    except OSError as error:
        report(f"{path} cannot be made ({error.strerror or error}): drawing the labels of this run alone")
        return None
