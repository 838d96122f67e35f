"""TotalSegmentator: CT patches of right kidneys, aortas and oesophagi, cut while they are read (book chapter *Data*).

First the masks of all subjects are read and judged (:mod:`reproduction.data.totalsegmentator.selection`), then the CTs of the selected
subjects; of each there remain its patches of 64^3 cells of 3 mm, in Hounsfield units, with air where a patch leaves the
scanned volume. Everything is written once, whole, and found again after a kill at any point.

Source: Wasserthal et al. 2023, doi:10.1148/ryai.230024; CC BY 4.0.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from reproduction.data.cases import Case, CaseSet, read_case, write_manifest
from reproduction.data.http_range import RequestLimits
from reproduction.data.nifti import read_image, read_label
from reproduction.data.totalsegmentator.cutting import AIR_HU, CELL_MM, CELLS, FOLDS, Cutting, cut_case
from reproduction.data.totalsegmentator.selection import Rule, examine, in_order
from reproduction.data.totalsegmentator.subjects import CT, Folder, LocalZip, Remote, Subjects, check_md5, is_url
from reproduction.paths import read_json, write_json

#: organ to the name of its class in the data set
ORGANS = {"kidney": "kidney_right", "aorta": "aorta", "oesophagus": "esophagus"}
CASES = 400  # an organ
#: A kidney must be whole. The two tubes leave most scans above or below: they may, if 60 mm of them are in the patch.
RULES = {
    "kidney": Rule(closed="LRPAIS", voxels=1000, layers=1, inside=0.95),
    "aorta": Rule(closed="LRPA", voxels=750, layers=20, inside=0.0),
    "oesophagus": Rule(closed="LRPA", voxels=200, layers=20, inside=0.0),
}


@dataclass(frozen=True)
class Version:
    """One published archive; ``size`` is None where it is not known here.

    The MD5 of v1 is the one that issue 24 of wasserth/TotalSegmentator found to be that of its Zenodo record.
    """

    name: str
    url: str
    size: int | None
    md5: str | None
    subjects: int


V1_MD5 = "f0fbb3f91d9d99f2169863545f577b30"
VERSIONS = {
    "v2.0.1": Version(
        "v2.0.1",
        "https://zenodo.org/records/10047292/files/Totalsegmentator_dataset_v201.zip",
        23_581_218_285,
        "fe250e5718e0a3b5df4c4ea9d58a62fe",
        1228,
    ),
    "v1": Version("v1", "https://zenodo.org/records/6802614/files/Totalsegmentator_dataset.zip", None, V1_MD5, 1204),
}
DEFAULT = "v2.0.1"


def _begin(folder: Path, version: str | Version | None) -> Version:
    """Version of a folder: one folder never mixes two."""
    note = folder / "selection" / "version.json"
    begun: str | None = read_json(note)["version"] if note.is_file() else None
    wanted = version or begun or DEFAULT
    if isinstance(wanted, str):
        if wanted not in VERSIONS:
            raise ValueError(f"version is {wanted!r}; there are {', '.join(VERSIONS)}")
        wanted = VERSIONS[wanted]
    if begun not in (None, wanted.name):
        raise ValueError(f"folder {folder} was begun with {begun}; wanted {wanted.name}: name another folder")
    return wanted


def _check_source(source: str | os.PathLike[str] | None) -> None:
    if source is not None and not is_url(source) and not Path(source).exists():
        raise FileNotFoundError(
            f"source {source} does not exist; expected the archive, a folder of sNNNN/ct.nii.gz, or an http(s) address"
        )


def _checked(kind: str, version: Version, partial: bool) -> str:
    """What was known of the whole source beforehand and agreed; every member that was read has its own CRC-32."""
    if partial:
        return "nothing"
    whole = {"zip": version.md5 and "md5", "url": version.size and "size"}
    return whole.get(kind) or "number of subjects"


def open_source(
    folder: Path,
    source: str | os.PathLike[str] | None,
    version: Version,
    partial: bool = False,
    limits: RequestLimits | None = None,
    report: Callable[[str], None] = print,
) -> Subjects:
    """Open where the subjects come from, and check that it is the version; arguments as :func:`prepare`.

    Raises
    ------
    FileNotFoundError, ValueError
        If a local source is not there, or is not this version.
    """
    keep, classes = folder / "selection", list(ORGANS.values())
    _check_source(source)
    if source is None or is_url(source):
        url = version.url if source is None else str(source)
        size = None if partial else version.size

        opened: Subjects = Remote(url, size, classes, keep / "listing.json", limits, report)
    elif (path := Path(source)).is_dir():
        opened = Folder(path, classes)
    else:
        if version.md5 and not partial:
            report(f"checking the MD5 of {path}")
            check_md5(path, version.md5, keep / "md5.json")
        opened = LocalZip(path, classes)
    found = len({subject for subject, _ in opened.sizes})
    if not found or (found != version.subjects and not partial):
        opened.close()
        raise ValueError(
            f"source {source or version.url}: found {found} subjects (sNNNN/ct.nii.gz); {version.name} has "
            f"{version.subjects}" + ("" if not found else "; to take a part of it for what it is, say so (--partial)")
        )
    return opened


def prepare(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    version: str | Version | None = None,
    cases: int = CASES,
    partial: bool = False,
    rules: Mapping[str, Rule] = RULES,
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
    rules
        Organ to its rule.
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
        If the source is another version, or fewer than ``cases`` structures pass their rule.
    OSError
        If the network or the disk fails, or the server ignores Range. What was made so far stays.
    """
    folder = Path(folder)
    version = _begin(folder, version)
    if cases < FOLDS or workers < 1 or set(rules) != set(ORGANS):
        raise ValueError(
            f"cases is {cases}, workers is {workers} and rules are for {', '.join(rules)}; "
            f"expected at least {FOLDS}, at least 1, and {', '.join(ORGANS)}"
        )
    patch = {
        **{"shape": [CELLS] * 3, "spacing_mm": [CELL_MM] * 3, "fill": AIR_HU, "cases": cases},
        "rules": {organ: dataclasses.asdict(rules[organ]) for organ in ORGANS},
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
    _check_source(source)
    write_json(folder / "selection" / "version.json", {"version": version.name})

    def say(line: str) -> None:
        with tqdm.external_write_mode():  # not into the progress bar
            report(line)

    subjects = open_source(folder, source, version, partial, limits, say)
    try:
        cutting = Cutting(folder, subjects, ORGANS, rules, cases, workers, say)
        cutting.read_masks()
        cutting.read_cts(partial)
    finally:
        subjects.close()
    about = {
        **{"name": "TotalSegmentator", "version": version.name, "url": version.url, "licence": "CC BY 4.0"},
        **{"bytes": version.size, "md5": version.md5, "read_from": subjects.kind},
        "checked": _checked(subjects.kind, version, partial),
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
    folder, cases = Path(folder), {}
    for organ in ORGANS:
        there = sorted((folder / organ).glob("*.npz"))
        if there:
            cases[organ] = read_case(there[0])
    if source is not None and len(cases) < len(ORGANS):
        with tempfile.TemporaryDirectory() as keep:
            subjects = open_source(Path(keep), source, _begin(folder, version), partial=True, limits=limits)
            try:
                for organ in ORGANS:
                    if organ not in cases and (found := _example(subjects, organ, report)) is not None:
                        cases[organ] = found
            finally:
                subjects.close()
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
            mask, place = read_label(subjects.read((subject, ORGANS[organ])))
            facts = examine(mask, place.affine, place.spacing_mm, CELLS, CELL_MM)
            if facts.grid is not None and facts.label is not None and facts.label.any():
                return cut_case(subject, read_image(subjects.read((subject, CT))), facts)
        except ValueError as error:
            report(f"{subject}: skipped for {organ}, {error}")
    return None
