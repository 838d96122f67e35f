"""The published versions of TotalSegmentator, and where one is read from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from reproduction.data.http_range import RequestLimits
from reproduction.data.totalsegmentator.subjects import Folder, LocalZip, Remote, Subjects, check_md5, is_url
from reproduction.paths import read_json


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


VERSIONS = {
    "v2.0.1": Version(
        "v2.0.1",
        "https://zenodo.org/records/10047292/files/Totalsegmentator_dataset_v201.zip",
        23_581_218_285,
        "fe250e5718e0a3b5df4c4ea9d58a62fe",
        1228,
    ),
    "v1": Version(
        "v1",
        "https://zenodo.org/records/6802614/files/Totalsegmentator_dataset.zip",
        None,
        "f0fbb3f91d9d99f2169863545f577b30",
        1204,
    ),
}
DEFAULT = "v2.0.1"


def version_of(folder: Path, version: str | Version | None) -> Version:
    """Version of a folder, by default the one that it was begun with: one folder never mixes two."""
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


def checked(kind: str, version: Version, partial: bool) -> str:
    """What was known of the whole source beforehand and agreed with it, for the manifest."""
    if partial:
        return "nothing"
    whole = {"zip": version.md5 and "md5", "url": version.size and "size"}
    return whole.get(kind) or "number of subjects"


def open_source(
    keep: Path,
    source: str | os.PathLike[str] | None,
    version: Version,
    classes: Iterable[str],
    partial: bool = False,
    limits: RequestLimits | None = None,
    report: Callable[[str], None] = print,
) -> Subjects:
    """Open where the subjects come from, and check that it is the version; ``keep`` remembers what was checked.

    Raises
    ------
    FileNotFoundError, ValueError
        If a local source is not there, or is not this version.
    """
    if source is None or is_url(source):
        url = version.url if source is None else str(source)
        size = None if partial else version.size
        opened: Subjects = Remote(url, size, classes, keep / "listing.json", limits, report)
    elif (path := Path(source)).is_dir():
        opened = Folder(path, classes)
    elif not path.exists():
        raise FileNotFoundError(
            f"source {source} does not exist; expected the archive, a folder of sNNNN/ct.nii.gz, or an http(s) address"
        )
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
