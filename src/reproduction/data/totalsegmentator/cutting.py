"""Cutting patches out of subjects while they are read: masks, selection, CTs, in parallel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reproduction.data.cases import FOLDS, Case, in_order, read_case, write_case
from reproduction.data.nifti import Place, read_image, read_label
from reproduction.data.totalsegmentator.selection import (
    Criteria,
    Structure,
    measure_structure,
    read_structure,
    select,
    write_structure,
)
from reproduction.data.totalsegmentator.subjects import CT, Subjects

#: cells a side of a patch, their size, Hounsfield units outside the scanned volume
CELLS, CELL_MM, AIR_HU = 64, 3.0, -1024.0


class Cutting:
    """The structures of all subjects, and the cases cut from them; `read_masks` first, then `read_cts`.

    Parameters
    ----------
    folder
        Where everything goes; it is found again after a kill.
    source
        The subjects' files.
    organs, criteria
        Organ to the name of its class, and to its inclusion criteria.
    cases, workers
        Cases an organ, and threads.
    report
        Called with lines of progress, and with every subject that is skipped.

    Attributes
    ----------
    left_out : dict
        Organ to subject to why it was not taken.
    entries : dict
        Organ to case to its entry in the manifest.
    """

    def __init__(
        self,
        folder: Path,
        source: Subjects,
        organs: Mapping[str, str],
        criteria: Mapping[str, Criteria],
        cases: int,
        workers: int,
        report: Callable[[str], None],
    ) -> None:
        self.folder, self.source, self.organs, self.criteria, self.cases = folder, source, organs, criteria, cases
        self.workers, self._report = workers, report
        self.subjects = in_order(subject for subject, _ in source.sizes)
        self.structures: dict[str, dict[str, Structure]] = {organ: {} for organ in organs}
        self.unusable: dict[str, dict[str, str]] = {organ: {} for organ in organs}  # subjects, and why
        self.left_out: dict[str, dict[str, str]] = {}
        self.entries: dict[str, dict[str, dict[str, Any]]] = {}

    def read_masks(self) -> None:
        """Measure every structure of every subject; what is on disk is not read again."""
        todo = []
        for subject in self.subjects:
            for organ, name in self.organs.items():
                if (subject, CT) not in self.source.sizes:
                    self.unusable[organ][subject] = "no CT"
                elif (subject, name) not in self.source.sizes:
                    self.unusable[organ][subject] = f"no mask {name}"
                elif (known := read_structure(self._structure_path(organ, subject))) is not None:
                    self.structures[organ][subject] = known
                else:
                    todo.append((organ, subject))
        for subject, why in sorted({item for unusable in self.unusable.values() for item in unusable.items()}):
            self._report(f"{subject}: skipped, {why}")
        self._report(f"{len(self.subjects)} subjects, {len(todo)} masks to read")
        self._parallel("masks", self._read_mask, todo)

    def _structure_path(self, organ: str, subject: str) -> Path:
        return self.folder / "selection" / organ / f"{subject}.json"

    def _read_mask(self, organ: str, subject: str) -> None:
        name = self.organs[organ]
        try:
            structure = read_mask(self.source, subject, name)
        except ValueError as error:
            self.unusable[organ][subject] = f"damaged mask {name} ({error})"  # not kept: it is read again next time
            self._report(f"{subject}: skipped for {organ}, {self.unusable[organ][subject]}")
        else:
            write_structure(self._structure_path(organ, subject), structure)
            self.structures[organ][subject] = structure

    def read_cts(self, partial: bool) -> None:
        """Cut the selected subjects; one whose CT turns out to be damaged makes place for the next in order."""
        while True:
            todo: dict[str, list[str]] = {}
            for organ, structures in self.structures.items():
                chosen, self.left_out[organ] = select(
                    structures, self.unusable[organ], self.criteria[organ], self.cases
                )
                self._check_number(organ, len(chosen), partial)
                self.entries[organ] = {}
                for subject in chosen:
                    entry = self._entry(organ, subject)
                    if entry is None:
                        todo.setdefault(subject, []).append(organ)
                    else:
                        self.entries[organ][subject] = entry
            if not todo:
                return
            total = sum(len(entries) for entries in self.entries.values()) + sum(map(len, todo.values()))
            most = total * CELLS**3 * 5 / 1e9
            self._report(f"{len(todo)} CTs to read for {total} cases, at most {most:.2f} GB on disk")
            self._parallel("CTs", self._read_ct, list(todo.items()))

    def _check_number(self, organ: str, passed: int, partial: bool) -> None:
        if passed >= self.cases or (partial and passed >= FOLDS):
            return
        reasons = Counter(why.split(" (")[0] for why in self.left_out[organ].values())
        listed = ", ".join(f"{n} {why}" for why, n in reasons.most_common())
        wanted = FOLDS if partial else self.cases
        raise ValueError(
            f"{organ}: {passed} of {len(self.subjects)} subjects meet the criteria ({listed}); wanted {wanted}"
            + ("" if partial or passed < FOLDS else f"; ask for fewer (--cases {passed}), no mask is read again")
        )

    def _entry(self, organ: str, subject: str) -> dict[str, Any] | None:
        """Entry of a case in the manifest, from its file; None if it has not been cut."""
        path = self.folder / organ / f"{subject}.npz"
        if not path.is_file():
            return None
        case, structure = read_case(path), self.structures[organ][subject]
        if structure.label is None or not np.array_equal(case.label, structure.label):
            raise ValueError(f"{path} has another label than {self._structure_path(organ, subject)}; delete both")
        return {
            **case.entry(),
            "scan_voxels": structure.voxels,
            "scan_inside": structure.inside,
            "scan_spacing_mm": list(structure.spacing_mm),
        }

    def _read_ct(self, subject: str, organs: list[str]) -> None:
        try:
            scan = read_image(self.source.read((subject, CT)))
            made = {organ: cut_case(subject, scan, self.structures[organ][subject]) for organ in organs}
        except ValueError as error:
            why = f"damaged CT ({error})"
            for unusable in self.unusable.values():
                unusable[subject] = why
            self._report(f"{subject}: skipped, {why}")
        else:
            for organ, case in made.items():
                write_case(self.folder / organ / f"{subject}.npz", case)

    def _parallel(self, things: str, work: Callable[..., None], tasks: list[tuple[Any, ...]]) -> None:
        with (
            ThreadPoolExecutor(self.workers) as pool,
            tqdm(total=len(tasks), desc=things, leave=False, disable=None) as bar,  # on a terminal only
        ):
            futures = [pool.submit(work, *task) for task in tasks]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.source.close()  # ends transfers and pauses; the pool waits for its threads
                raise


def read_mask(source: Subjects, subject: str, name: str) -> Structure:
    """Read the mask of one class of a subject, and measure the structure; a damaged one is a ``ValueError``."""
    mask, place = read_label(source.read((subject, name)))
    return measure_structure(mask, place.affine, place.spacing_mm, CELLS, CELL_MM)


def cut_case(subject: str, scan: tuple[NDArray, Place], structure: Structure) -> Case:
    """The case of a structure: its patch of the CT, in the grid that its mask has set.

    Raises
    ------
    ValueError
        If CT and mask have not the same shape and place.
    """
    volume, place = scan
    assert structure.grid is not None and structure.label is not None
    if volume.shape != structure.shape or not np.allclose(place.affine, structure.affine, atol=1e-2):
        raise ValueError(f"its shape {volume.shape} or place is not that of its mask {structure.shape}")
    return Case(subject, structure.grid.image(volume, AIR_HU), structure.label, np.full(3, CELL_MM))
