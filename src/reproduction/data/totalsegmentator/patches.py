"""TotalSegmentator: CT patches of right kidneys, aortas and oesophagi, cut while they are read.

First the masks of all subjects are measured, then the CTs of the selected ones are cut to patches of 64^3 cells of
3 mm, in Hounsfield units, with air where a patch leaves the scanned volume. Everything is written once, whole, and
found again after a kill at any point.

Source: Wasserthal et al. 2023, doi:10.1148/ryai.230024; CC BY 4.0.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from reproduction.data.cases import FOLDS, Case, CaseSet, in_order, read_case, write_manifest
from reproduction.data.http_range import RequestLimits
from reproduction.data.nifti import read_image
from reproduction.data.totalsegmentator.cutting import AIR_HU, CELL_MM, CELLS, Cutting, cut_case, read_mask
from reproduction.data.totalsegmentator.selection import Criteria
from reproduction.data.totalsegmentator.subjects import CT, Subjects
from reproduction.data.totalsegmentator.versions import Version, checked, open_source, version_of
from reproduction.paths import write_json

#: organ to the name of its class in the data set
ORGANS = {"kidney": "kidney_right", "aorta": "aorta", "oesophagus": "esophagus"}
CASES = 400  # an organ
#: A kidney must be whole. The two tubes leave most scans above or below: they may, if 60 mm of them are in the patch.
CRITERIA = {
    "kidney": Criteria(closed="LRPAIS", voxels=1000, layers=1, inside=0.95),
    "aorta": Criteria(closed="LRPA", voxels=750, layers=20, inside=0.0),
    "oesophagus": Criteria(closed="LRPA", voxels=200, layers=20, inside=0.0),
}


def make_totalsegmentator(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    version: str | Version | None = None,
    cases: int = CASES,
    partial: bool = False,
    criteria: Mapping[str, Criteria] = CRITERIA,
    workers: int = 4,
    limits: RequestLimits | None = None,
    report: Callable[[str], None] = print,
) -> CaseSet:
    """Read, select and cut into ``folder``; what is there already is not read again.

    Parameters
    ----------
    folder
        Where the patches go, such as ``data/totalsegmentator``: at most 1.6 GB for 3 x 400 cases, uncompressed.
        ``folder/selection`` keeps the small label patches of all subjects (about 15 MB).
    source
        None reads members of the archive at its public address; another http(s) address is a mirror. Otherwise a local
        archive (its MD5 is checked where it is known) or an extracted folder.
    version
        Key of `VERSIONS`; None takes the one that ``folder`` was begun with, or v2.0.1.
    cases
        Cases an organ.
    partial
        Take a source that has only some of the subjects, and fewer cases where no more pass.
    criteria
        Organ to its inclusion criteria.
    workers
        Subjects worked on at a time; each may hold a scan of several hundred megabytes in memory.
    limits
        How often a server is asked.
    report
        Called with lines of progress, and with every subject that is skipped.

    Returns
    -------
    CaseSet
        The finished set; a second call returns it at once.

    Raises
    ------
    ValueError
        If the source is another version, or fewer than ``cases`` structures meet their criteria.
    OSError
        If the network or the disk fails, or the server ignores Range. What was made so far stays.
    """
    folder = Path(folder)
    version = version_of(folder, version)
    if cases < FOLDS or workers < 1 or set(criteria) != set(ORGANS):
        raise ValueError(
            f"cases is {cases}, workers is {workers} and criteria are for {', '.join(criteria)}; "
            f"expected at least {FOLDS}, at least 1, and {', '.join(ORGANS)}"
        )
    patch = {
        "shape": [CELLS] * 3,
        "spacing_mm": [CELL_MM] * 3,
        "fill": AIR_HU,
        "cases": cases,
        "rules": {organ: dataclasses.asdict(criteria[organ]) for organ in ORGANS},
    }
    if (folder / "manifest.json").is_file():
        finished = CaseSet(folder)
        if finished.manifest["patch"] != patch or finished.manifest["source"].get("version") != version.name:
            was = {"version": finished.manifest["source"].get("version"), **finished.manifest["patch"]}
            raise ValueError(
                f"folder {folder} holds {was}; wanted {version.name} and {patch}: name another folder, or delete its "
                "manifest.json to have this one changed"
            )
        if not finished.missing() and (partial or not finished.manifest["source"].get("partial")):
            return finished

    def say(line: str) -> None:
        with tqdm.external_write_mode():  # not into the progress bar
            report(line)

    keep = folder / "selection"
    with closing(open_source(keep, source, version, ORGANS.values(), partial, limits, say)) as subjects:
        write_json(keep / "version.json", {"version": version.name})
        cutting = Cutting(folder, subjects, ORGANS, criteria, cases, workers, say)
        cutting.read_masks()
        cutting.read_cts(partial)
    about = {
        "name": "TotalSegmentator",
        "version": version.name,
        "url": version.url,
        "licence": "CC BY 4.0",
        "bytes": version.size,
        "md5": version.md5,
        "read_from": subjects.kind,
        "checked": checked(subjects.kind, version, partial),
        "subjects": len(cutting.subjects),
        "partial": len(cutting.subjects) != version.subjects,
        "left_out": cutting.left_out,
    }
    return write_manifest(folder, "totalsegmentator", cutting.entries, about, patch, FOLDS)


def examples(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    version: str | Version | None = None,
    limits: RequestLimits | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Case]:
    """One case of each organ, from whatever is at hand: what Figure 2 of the paper shows.

    Cases in ``folder`` come first (the first by name; the set need not be finished). An organ that has none is cut from
    ``source``, if one is given: the first subject in order in whose patch there is some of it, whole or not. A damaged
    one is reported, and the next is taken. ``folder`` is not written to.

    Raises
    ------
    ValueError
        If there is no case of any organ.
    OSError
        If ``source`` cannot be read.
    """
    folder = Path(folder)
    cases = {organ: read_case(paths[0]) for organ in ORGANS if (paths := sorted((folder / organ).glob("*.npz")))}
    missing = [organ for organ in ORGANS if organ not in cases]
    if source is not None and missing:
        known = version_of(folder, version)
        with (
            tempfile.TemporaryDirectory() as keep,
            closing(open_source(Path(keep), source, known, ORGANS.values(), partial=True, limits=limits)) as subjects,
        ):
            for organ in missing:
                if found := _example(subjects, organ, report):
                    cases[organ] = found
    if not cases:
        raise ValueError(
            f"{folder} holds no case of {', '.join(ORGANS)}" + ("" if source else ", and no source is given")
        )
    return {organ: cases[organ] for organ in ORGANS if organ in cases}


def _example(subjects: Subjects, organ: str, report: Callable[[str], None]) -> Case | None:
    """The first case of an organ in a source, whole or not."""
    for subject in in_order(subject for subject, part in subjects.sizes if part == CT):
        if (subject, ORGANS[organ]) not in subjects.sizes:
            continue
        try:
            structure = read_mask(subjects, subject, ORGANS[organ])
            if structure.label is not None and structure.label.any():
                return cut_case(subject, read_image(subjects.read((subject, CT))), structure)
        except ValueError as error:
            report(f"{subject}: skipped for {organ}, {error}")
    return None
