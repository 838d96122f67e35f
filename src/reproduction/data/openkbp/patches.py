"""OpenKBP: which organs can be used, and their patches, centred or not (book chapter *Data*).

**The trap.** The CT is blank outside the body and, in many patients, outside the treated slab, but organs stay filled
there: the label could be read off the image. An organ is used only if, in every slice that holds it, at least `FILLED`
of the voxels that touch it in the plane are not blank (`blank_slices`). Nothing is cut away from an organ: blanking the
slices that fail would itself mark where the label ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, generate_binary_structure
from tqdm import tqdm

from reproduction.data.cases import FOLDS, Case, CaseSet, read_case, write_case, write_manifest
from reproduction.data.openkbp.patients import AIR_HU, ORGANS, Patient, read_patient
from reproduction.data.openkbp.sources import COMMIT, URL, Folder, Repository, open_source
from reproduction.data.patches import PatchGrid
from reproduction.paths import read_json, write_json

FILLED = 0.8  # share of the voxels around an organ in a slice that must not be blank
CELLS, CELL_MM = 48, 4.0
SHIFT = 0.25  # of the patch's side: the largest displacement of the set that is off centre
#: Data set to what is special about it: displaced patches; or images that say blank or not, and nothing else.
SETS: dict[str, dict[str, Any]] = {
    "openkbp": {"shift": 0.0, "blank_only": False},
    "openkbp_offcentre": {"shift": SHIFT, "blank_only": False},
    "openkbp_blank": {"shift": 0.0, "blank_only": True},
}
SEED = 1  # of the displacements
LARGEST_MM2 = {"cord": 1000.0}  # mean section that an outline may have: two of the cords take in half of the neck


def blank_slices(mask: NDArray[np.bool_], filled: NDArray[np.bool_]) -> tuple[int, int]:
    """Count the slices (along the last axis) in which an organ shows by being filled, and those that hold it.

    These are the slices in which less than `FILLED` of the voxels that share a side with the organ in the plane are
    filled.

    Examples
    --------
    >>> mask, filled = np.zeros((2, 9, 9, 4), bool)
    >>> mask[4, 4, :], filled[:, :, 1:], filled[4, 4, :] = True, True, True
    >>> blank_slices(mask, filled)
    (1, 4)
    """
    held = np.flatnonzero(mask.any((0, 1)))
    organ = mask[:, :, held]
    ring = np.asarray(binary_dilation(organ, generate_binary_structure(2, 1)[:, :, None]), dtype=bool) & ~organ
    share = (ring & filled[:, :, held]).sum((0, 1)) / np.maximum(ring.sum((0, 1)), 1)
    return int((share < FILLED).sum()), len(held)


def displaced(grid: PatchGrid, mask: NDArray[np.bool_], shift: float, rng: np.random.Generator) -> PatchGrid:
    """Move a centred patch by whole voxels along each axis, at most ``shift`` of its side.

    The displacement is drawn evenly from those at which no voxel of the organ that lies in the centred patch leaves it.
    """
    corner = []
    for axis, (first, h) in enumerate(zip(grid.corner, grid.spacing_mm, strict=True)):
        side = int(grid.cells * grid.cell_mm / h + 1e-9)  # whole voxels in the patch
        held = np.flatnonzero(mask.any(tuple(k for k in range(3) if k != axis)))
        inside = held[(held >= first) & (held < first + side)]
        reach = int(shift * side)
        low = max(first - reach, int(inside[-1]) + 1 - side)
        high = min(first + reach, int(inside[0]))
        corner.append(int(rng.integers(min(low, first), max(high, first) + 1)))
    return PatchGrid((corner[0], corner[1], corner[2]), grid.spacing_mm, grid.cells, grid.cell_mm)


def cut(
    patient: Patient,
    organ: str,
    cells: int,
    cell_mm: float,
    shift: float = 0.0,
    blank_only: bool = False,
    seed: int = SEED,
) -> Case:
    """Cut the patch of one organ: ``cells``^3 cells of ``cell_mm``, centred on its centre of mass or displaced.

    Parameters
    ----------
    patient, organ
        What to cut.
    cells, cell_mm
        Number and size of the cells.
    shift
        Largest displacement, see `displaced`; 0 for none.
    blank_only
        The image is 1 where the CT is filled and 0 where it is blank: what a network makes of that shows whether the
        label can still be read off it.
    seed
        Seed of the displacement, together with the patient's id.

    Raises
    ------
    ValueError
        If the organ is missing, empty, in a single slice, larger than it can be (`LARGEST_MM2`), among blank voxels
        (`blank_slices`), or too small for the cells: why the case is left out.
    """
    if organ not in patient.organs:
        raise ValueError("not outlined")
    mask = patient.organs[organ]
    if not mask.any():
        raise ValueError("the outline is empty")
    blank, held = blank_slices(mask, patient.filled)
    if held < 2:
        raise ValueError("the outline is in one slice only")
    section_mm2 = mask.sum() * patient.spacing_mm[0] * patient.spacing_mm[1] / held
    if section_mm2 > LARGEST_MM2.get(organ, np.inf):
        raise ValueError(f"sections of {section_mm2:.0f} mm2 on average: the outline is not of this organ")
    if blank:
        raise ValueError(f"blank around the organ in {blank} of {held} slices")
    grid = PatchGrid.around(mask, patient.spacing_mm, cells, cell_mm)
    if shift:
        grid = displaced(grid, mask, shift, np.random.default_rng([seed, *patient.id.encode()]))
    label = grid.label(mask)
    if not label.any():
        raise ValueError(f"nothing is left of the organ on cells of {cell_mm:g} mm")
    volume, fill = (patient.filled.astype(np.float32), 0.0) if blank_only else (patient.hu, AIR_HU)
    return Case(patient.id, grid.image(volume, fill), label, np.full(3, cell_mm))


def make_openkbp(
    folder: str | os.PathLike[str],
    source: Folder | Repository | str | os.PathLike[str] | None = None,
    dataset: str = "openkbp",
    cells: int = CELLS,
    cell_mm: float = CELL_MM,
    workers: int = 4,
    report: Callable[[str], None] = print,
) -> CaseSet:
    """Read all patients of a source and cut the three organs into ``folder``; patients that are done are kept.

    Parameters
    ----------
    folder
        Where the patches go, such as ``data/openkbp``.
    source
        A local copy of the repository or of its ``provided-data``; None reads the public repository.
    dataset
        Which of the `SETS`.
    cells, cell_mm
        See `cut`.
    workers
        Patients worked on at a time.
    report
        Called with a line for every patient that is skipped.

    Returns
    -------
    CaseSet
        The finished set; a second call returns it at once. Its manifest says, organ by organ, which patient was left
        out and why. Folds are by patient, the same for all organs.

    Raises
    ------
    ValueError
        If ``folder`` holds a set that was cut in another way, or the source has fewer than five usable patients.
    OSError
        If the network or the disk fails. What was made so far stays.
    """
    folder = Path(folder)
    rule: dict[str, Any] = {"shape": [cells] * 3, "spacing_mm": [cell_mm] * 3, "fill": AIR_HU, "filled": FILLED}
    rule |= {"largest_section_mm2": LARGEST_MM2, **SETS[dataset], "seed": SEED}
    if (folder / "manifest.json").is_file():
        finished = CaseSet(folder)
        reasons = [why for organ in finished.manifest["source"]["left_out"].values() for why in organ.values()]
        damaged = any(why.startswith("damaged") for why in reasons)
        if finished.manifest["patch"] == rule and not finished.missing() and not damaged:
            return finished
    if not isinstance(source, Folder | Repository):
        source = open_source(folder, source)
    about = {
        **{"name": "OpenKBP", "url": URL, "commit": COMMIT, "licence": "MIT", "read_from": source.kind},
        **{"citation": "Babier et al. 2021, Medical Physics 48", "patients": len(source.patients)},
    }
    made = folder / "patients" / "rule.json"
    if made.is_file() and read_json(made) != rule:
        raise ValueError(f"{folder} holds patches cut by {read_json(made)}; wanted {rule}: name another folder")
    write_json(made, rule)

    def one(patient: str) -> dict[str, Any]:
        record = folder / "patients" / f"{patient}.json"
        if record.is_file():
            known = read_json(record)
            if all(_is_there(folder / organ / f"{patient}.npz", entry) for organ, entry in known.items()):
                return known
        found: dict[str, Any] = {}
        try:
            read = read_patient(patient, lambda file: source.read(patient, file))
        except ValueError as error:
            with tqdm.external_write_mode():  # not into the progress bar
                report(f"{patient}: skipped, {error}")
            found = dict.fromkeys(ORGANS, f"damaged: {error}")
        else:
            for organ in ORGANS:
                try:
                    case = cut(read, organ, cells, cell_mm, **SETS[dataset])
                except ValueError as error:
                    found[organ] = str(error)
                else:
                    write_case(folder / organ / f"{patient}.npz", case)
                    found[organ] = case.entry()
            write_json(record, found)  # a damaged patient has none: it is read again
        return found

    with ThreadPoolExecutor(workers) as pool:
        turns = pool.map(one, source.patients)
        try:
            found = list(tqdm(turns, total=len(source.patients), desc=folder.name, unit="patient", disable=None))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    records = dict(zip(source.patients, found, strict=True))
    entries: dict[str, dict[str, Any]] = {organ: {} for organ in ORGANS}
    left_out: dict[str, dict[str, str]] = {organ: {} for organ in ORGANS}
    for patient, record in sorted(records.items()):
        for organ, entry in record.items():
            (left_out if isinstance(entry, str) else entries)[organ][patient] = entry
    usable = {patient for organ in entries.values() for patient in organ}
    if len(usable) < FOLDS:
        raise ValueError(f"the source has {len(usable)} usable patients; expected at least {FOLDS}, one for each fold")
    return write_manifest(folder, dataset, entries, {**about, "left_out": left_out}, rule, person=str)


def _is_there(path: Path, entry: dict[str, Any] | str) -> bool:
    """Whether the file of a case that was made is what it was; an organ that was left out has none."""
    if isinstance(entry, str):
        return True
    try:
        return read_case(path).digest() == entry["sha256"]
    except (OSError, ValueError):
        return False
