"""Cutting patches out of subjects while they are read: masks, selection, CTs, in parallel (book chapter *Data*)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reproduction.data.cases import Case, read_case, write_case
from reproduction.data.nifti import Place, read_image, read_label
from reproduction.data.totalsegmentator.selection import Facts, Rule, examine, in_order, read_facts, select, write_facts
from reproduction.data.totalsegmentator.subjects import CT, Subjects

#: cells a side of a patch, their size, Hounsfield units outside the scanned volume
CELLS, CELL_MM, AIR_HU = 64, 3.0, -1024.0
FOLDS = 5


class Cutting:
    """What is known of every structure of every subject, and what was cut; `read_masks` first, then `read_cts`.

    Parameters
    ----------
    folder
        Where everything goes; it is found again after a kill.
    source
        The subjects' files.
    organs, rules
        Organ to the name of its class, and to its rule.
    cases
        Cases an organ.
    workers
        Threads.
    report
        Called with lines of progress, and with every subject that is skipped.

    Attributes
    ----------
    left_out : dict
        Organ to subject to why it was not taken.
    entries : dict
        Organ to case to what the manifest says of it.
    """

    def __init__(
        self,
        folder: Path,
        source: Subjects,
        organs: Mapping[str, str],
        rules: Mapping[str, Rule],
        cases: int,
        workers: int,
        report: Callable[[str], None],
    ) -> None:
        self.folder, self.source, self.organs, self.rules, self.cases = folder, source, organs, rules, cases
        self.workers, self._report = workers, report
        self.subjects = in_order(subject for subject, _ in source.sizes)
        self.facts: dict[str, dict[str, Facts | str]] = {organ: {} for organ in organs}
        self.damaged: dict[str, str] = {}  # subjects whose CT cannot be used
        self.left_out: dict[str, dict[str, str]] = {}
        self.entries: dict[str, dict[str, dict[str, Any]]] = {}

    def read_masks(self) -> None:
        """Know the facts of every structure of every subject, from disk or from its mask."""
        todo, lacking = [], set()
        for subject in self.subjects:
            for organ, name in self.organs.items():
                if (subject, CT) not in self.source.sizes:
                    self.facts[organ][subject] = "no CT"
                    lacking.add((subject, "no CT"))
                elif (subject, name) not in self.source.sizes:
                    self.facts[organ][subject] = f"no mask {name}"
                    lacking.add((subject, f"no mask {name}"))
                elif (known := read_facts(self._facts_path(organ, subject))) is not None:
                    self.facts[organ][subject] = known
                else:
                    todo.append((organ, subject))
        for subject, why in sorted(lacking):
            self._report(f"{subject}: skipped, {why}")
        self._report(f"{len(self.subjects)} subjects, {len(todo)} masks to read")
        self._parallel("masks", self._read_mask, todo)

    def _facts_path(self, organ: str, subject: str) -> Path:
        return self.folder / "selection" / organ / f"{subject}.json"

    def _read_mask(self, organ: str, subject: str) -> None:
        name = self.organs[organ]
        try:
            mask, place = read_label(self.source.read((subject, name)))
        except ValueError as error:
            self.facts[organ][subject] = f"damaged mask {name} ({error})"  # not kept: it is read again next time
            self._report(f"{subject}: skipped for {organ}, {self.facts[organ][subject]}")
        else:
            facts = examine(mask, place.affine, place.spacing_mm, CELLS, CELL_MM)
            write_facts(self._facts_path(organ, subject), facts)
            self.facts[organ][subject] = facts

    def read_cts(self, partial: bool) -> None:
        """Cut the selected subjects; one whose CT turns out to be damaged makes place for the next in order."""
        while True:
            todo: dict[str, list[str]] = {}
            for organ, facts in self.facts.items():
                known = {subject: self.damaged.get(subject, fact) for subject, fact in facts.items()}
                chosen, self.left_out[organ] = select(known, self.rules[organ], self.cases)
                self._check_number(organ, len(chosen), partial)
                self.entries[organ] = {}
                for subject in chosen:
                    entry = self._entry_of_file(organ, subject)
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
            f"{organ}: {passed} of {len(self.subjects)} subjects pass the rule ({listed}); wanted {wanted}"
            + ("" if partial or passed < FOLDS else f"; ask for fewer (--cases {passed}), no mask is read again")
        )

    def _entry(self, organ: str, case: Case) -> dict[str, Any]:
        facts = self.facts[organ][case.id]
        assert isinstance(facts, Facts)
        return {
            **{"voxels": int(case.label.sum()), "sha256": case.digest()},
            **{"scan_voxels": facts.voxels, "scan_inside": facts.inside, "scan_spacing_mm": list(facts.spacing_mm)},
        }

    def _entry_of_file(self, organ: str, subject: str) -> dict[str, Any] | None:
        path = self.folder / organ / f"{subject}.npz"
        if not path.is_file():
            return None
        case, facts = read_case(path), self.facts[organ][subject]
        assert isinstance(facts, Facts)
        if facts.label is None or not np.array_equal(case.label, facts.label):
            raise ValueError(f"{path} has another label than {self._facts_path(organ, subject)}; delete both")
        return self._entry(organ, case)

    def _read_ct(self, subject: str, organs: list[str]) -> None:
        try:
            scan = read_image(self.source.read((subject, CT)))
            made = {}
            for organ in organs:
                facts = self.facts[organ][subject]
                assert isinstance(facts, Facts)
                made[organ] = cut_case(subject, scan, facts)
        except ValueError as error:
            self.damaged[subject] = f"damaged CT ({error})"
            self._report(f"{subject}: skipped, {self.damaged[subject]}")
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


def cut_case(subject: str, scan: tuple[NDArray, Place], facts: Facts) -> Case:
    """The case of a structure: its patch of the CT, in the grid that its mask has set.

    Raises
    ------
    ValueError
        If CT and mask have not the same shape and place.
    """
    volume, place = scan
    assert facts.grid is not None and facts.label is not None
    if volume.shape != facts.shape or not np.allclose(place.affine, facts.affine, atol=1e-2):
        raise ValueError(f"its shape {volume.shape} or place is not that of its mask {facts.shape}")
    return Case(subject, facts.grid.image(volume, AIR_HU), facts.label, np.full(3, CELL_MM))
