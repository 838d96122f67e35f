"""The patch format: one file a case, one manifest a data set, five folds by case id.

A data set is a folder::

    <set>/manifest.json                 what is in it, from where, digests, folds
    <set>/<organ>/<case>.npz            image float32 (x, y, z), label uint8 (x, y, z), spacing_mm float64 (3,)

Axes run left to right, posterior to anterior, inferior to superior (nibabel's canonical order). Folds follow from the
case ids alone, so that everybody who has the same cases has the same folds. The manifest is written last: a folder
with a manifest is complete.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reproduction.paths import atomic_write, read_json, write_json

FORMAT = 1
FOLDS = 5


@dataclass(frozen=True)
class Case:
    """One patch: ``image`` float32 and ``label`` uint8 of one shape (x, y, z), ``spacing_mm`` float64 (3,).

    Examples
    --------
    >>> Case("one", np.zeros((2, 2, 2), np.float32), np.ones((2, 2, 2), np.uint8), np.full(3, 2.0)).label.sum()
    np.uint64(8)
    """

    id: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    spacing_mm: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.image.shape != self.label.shape or self.image.ndim != 3:
            raise ValueError(
                f"case {self.id}: image has shape {self.image.shape} and label {self.label.shape}; "
                "expected one three-dimensional shape for both"
            )
        if self.image.dtype != np.float32 or self.label.dtype != np.uint8:
            raise ValueError(
                f"case {self.id}: image is {self.image.dtype} and label {self.label.dtype}; expected float32 and uint8"
            )
        if not np.isfinite(self.image).all():
            raise ValueError(
                f"case {self.id}: image holds {int((~np.isfinite(self.image)).sum())} NaN or infinite voxels"
            )
        if self.label.max(initial=0) > 1:
            raise ValueError(f"case {self.id}: label holds the value {self.label.max()}; expected 0 and 1 only")
        spacing = self.spacing_mm
        if spacing.shape != (3,) or spacing.dtype != np.float64 or not ((spacing > 0) & (spacing < np.inf)).all():
            raise ValueError(
                f"case {self.id}: spacing_mm is {spacing.tolist()} ({spacing.dtype}); "
                "expected three positive float64 lengths"
            )

    def digest(self) -> str:
        """SHA-256 of the arrays' shapes and values, whatever compressed the file."""
        sha = hashlib.sha256()
        for array in (self.image, self.label, self.spacing_mm):
            sha.update(f"{array.dtype.str}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).data.cast("B"))
        return sha.hexdigest()

    def entry(self) -> dict[str, Any]:
        """What the manifest says of the case."""
        return {"voxels": int(self.label.sum()), "sha256": self.digest()}


def write_case(path: str | os.PathLike[str], case: Case) -> Path:
    """Store a case as compressed NPZ, atomically.

    Examples
    --------
    >>> import tempfile
    >>> case = Case("one", np.zeros((2, 2, 2), np.float32), np.ones((2, 2, 2), np.uint8), np.full(3, 2.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_case(write_case(Path(folder, "one.npz"), case)).digest() == case.digest()
    True
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=case.image, label=case.label, spacing_mm=case.spacing_mm)
    return atomic_write(path, buffer.getvalue())


def read_case(path: str | os.PathLike[str]) -> Case:
    """Read a case that `write_case` stored; its id is the file's name. A damaged file raises a ``ValueError``."""
    path = Path(path)
    try:
        # From memory: of a damaged file np.load would leave the handle open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return Case(path.stem, file["image"], file["label"], file["spacing_mm"])
    except FileNotFoundError:
        raise
    # Every kind that a damaged byte brings out of zipfile and NumPy (RuntimeError: its flags say "encrypted").
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no readable case ({error}); delete it and run its data script again") from error


def in_order(ids: Iterable[str]) -> list[str]:
    """Ids in the order of their SHA-256, in which no trend along a numbering survives.

    Examples
    --------
    >>> in_order(["s0000", "s0001", "s0002", "s0003"])
    ['s0003', 's0000', 's0001', 's0002']
    """
    return sorted(set(ids), key=lambda name: (hashlib.sha256(name.encode()).hexdigest(), name))


def assign_folds(ids: Iterable[str], folds: int = FOLDS) -> dict[str, int]:
    """Fold of every case, from the ids alone: dealt out in turn, `in_order`.

    Fold sizes differ by at most one. The same ids, in any order, give the same folds on every machine.

    Examples
    --------
    >>> sorted(assign_folds(["a", "b", "c", "d", "e"]).values())
    [0, 1, 2, 3, 4]
    """
    names = list(ids)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"ids: {', '.join(twice[:3])} occurs more than once")
    if not 2 <= folds <= len(names):
        raise ValueError(f"folds is {folds} for {len(names)} cases; expected 2 to {len(names)}")
    return {name: rank % folds for rank, name in enumerate(in_order(names))}


class CaseSet:
    """A data set on disk, opened by the ``manifest.json`` in its folder.

    Without a manifest (the data script has not run, or was stopped) it raises ``FileNotFoundError``, with a damaged one
    ``ValueError``.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: the data set is not there yet or incomplete; run its script in data_scripts/"
            )
        self.manifest: dict[str, Any] = read_json(path)
        if not isinstance(self.manifest, dict):
            raise ValueError(f"{path} is no manifest: it holds {type(self.manifest).__name__}; expected a mapping")
        if self.manifest.get("format") != FORMAT:
            raise ValueError(f"{path} has format {self.manifest.get('format')!r}; this version reads format {FORMAT}")
        try:
            complete = isinstance(self.manifest["digest"], str) and isinstance(self.manifest["patch"], dict)
            for entries in self.manifest["organs"].values():
                complete &= all(type(e["fold"]) is int and isinstance(e["sha256"], str) for e in entries.values())
        except (KeyError, TypeError, AttributeError):
            complete = False
        if not complete:
            raise ValueError(f"{path} is no manifest: entries are missing; delete it and run the data script again")

    @property
    def digest(self) -> str:
        """SHA-256 over all cases, as the manifest states it."""
        return self.manifest["digest"]

    def entries(self, organ: str) -> dict[str, dict[str, Any]]:
        """Case id to its manifest entry (``fold``, ``voxels``, ``sha256``), in order of id."""
        organs = self.manifest["organs"]
        if organ not in organs:
            raise ValueError(f"organ is {organ!r}; {self.folder} has {', '.join(organs)}")
        return organs[organ]

    def missing(self) -> list[Path]:
        """Files of the manifest that are not there: somebody deleted them since."""
        paths = (self.folder / organ / f"{name}.npz" for organ, es in self.manifest["organs"].items() for name in es)
        return [path for path in paths if not path.is_file()]

    def known(self, organ: str, ids: Iterable[str] | None = None) -> list[str]:
        """``ids`` as a list (all of the organ, in order, if None); a ``ValueError`` names one that is not there."""
        entries = self.entries(organ)
        ids = list(entries if ids is None else ids)
        unknown = [name for name in ids if name not in entries]
        if unknown:
            raise ValueError(f"ids: {self.folder} has no {organ} case {unknown[0]!r}")
        return ids

    def load(self, organ: str, ids: Iterable[str] | None = None) -> list[Case]:
        """Read cases (all of the organ in order of id, if ``ids`` is None) and compare them with the manifest."""
        entries = self.entries(organ)
        cases = []
        for name in self.known(organ, ids):
            path = self.folder / organ / f"{name}.npz"
            case = read_case(path)
            if case.digest() != entries[name]["sha256"]:
                raise ValueError(
                    f"{path} is not the case of the manifest (its SHA-256 differs); "
                    "delete it and run the data script again"
                )
            cases.append(case)
        return cases

    def split(self, organ: str, fold: int) -> tuple[list[str], list[str]]:
        """Ids for training and for testing when ``fold`` is held out."""
        entries = self.entries(organ)
        folds = sorted({entry["fold"] for entry in entries.values()})
        if fold not in folds:
            raise ValueError(f"fold is {fold}; {self.folder} has {folds}")
        train = [name for name, entry in entries.items() if entry["fold"] != fold]
        test = [name for name, entry in entries.items() if entry["fold"] == fold]
        return train, test


def write_manifest(
    folder: str | os.PathLike[str],
    dataset: str,
    cases: dict[str, dict[str, dict[str, Any]]],
    source: dict[str, Any],
    patch: dict[str, Any],
    folds: int = FOLDS,
    person: Callable[[str], str] | None = None,
) -> CaseSet:
    """Write the manifest of a finished data set and open it; a file that would not change is left untouched.

    Parameters
    ----------
    folder, dataset
        Where the set is, and its name.
    cases
        Organ to case id to entry; every entry has ``voxels`` and ``sha256`` and may hold more.
    source, patch
        Where the data come from, and how patches were cut.
    folds
        See `assign_folds`.
    person
        Gives the person that a case is of. Folds are then dealt out person by person, one fold for all of a person's
        cases, of whatever organ. None takes every case by itself, organ by organ.
    """
    persons = None if person is None else {person(name) for entries in cases.values() for name in entries}
    fold_of_person = {} if persons is None else assign_folds(persons, folds)
    organs: dict[str, dict[str, dict[str, Any]]] = {}
    for organ, entries in cases.items():
        fold_of = (
            assign_folds(entries, folds) if person is None else {name: fold_of_person[person(name)] for name in entries}
        )
        organs[organ] = {name: {"fold": fold_of[name], **entries[name]} for name in sorted(entries)}
    # Folds that do not follow from the cases' own names are part of what a run was made from.
    text = "".join(
        f"{organ}/{name}:{e['sha256']}" + ("\n" if person is None else f" {person(name)}\n")
        for organ, es in organs.items()
        for name, e in es.items()
    )
    manifest = {
        "format": FORMAT,
        "dataset": dataset,
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "folds": folds,
        "source": source,
        "patch": patch,
        "organs": organs,
    }
    path = Path(folder) / "manifest.json"
    # An unchanged manifest keeps its time stamp: Snakemake would otherwise see new data and train again.
    if not (path.is_file() and read_json(path) == manifest):
        write_json(path, manifest)
    return CaseSet(folder)
