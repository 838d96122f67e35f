"""Where OpenKBP's files come from: a folder, or the public repository at a pinned commit.

About 1,700 files of the repository are fetched, each by itself, and compared with the SHA-1 that git has for them. They
are not kept: what has been cut is not fetched again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter

from reproduction.data.http_range import RequestLimits
from reproduction.paths import atomic_write

COMMIT = "ce625e62f3b04203f22bd9d1634f3e8fb0245e46"
URL = "https://github.com/ababier/open-kbp"
FILES_URL = f"https://raw.githubusercontent.com/ababier/open-kbp/{COMMIT}"
TREE_URL = f"https://api.github.com/repos/ababier/open-kbp/git/trees/{COMMIT}?recursive=1"
PATIENTS = 340
ROOT = "provided-data"
PARTS = ("train-pats", "validation-pats", "test-pats")


def _number(patient: str) -> tuple[int, str]:
    digits = patient.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1, patient)


class Folder:
    """A local copy of the repository, or of its folder ``provided-data``; each file plain or gzipped."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        root = path / ROOT if (path / ROOT).is_dir() else path
        places = [place for part in PARTS for place in (root / part).glob("pt_*") if place.is_dir()]
        if not places:
            raise FileNotFoundError(f"source {path} has no folder {PARTS[0]}/pt_N, also not below {ROOT}")
        self._places = {place.name: place for place in places}
        if len(self._places) < len(places):
            raise ValueError(f"source {path}: {len(places)} folders have {len(self._places)} names; expected one each")
        self.patients = sorted(self._places, key=_number)

    def read(self, patient: str, file: str) -> bytes | None:
        """Content of a file such as ``ct.csv``, as it is stored; None where a patient has none of that name."""
        for path in (self._places[patient] / file, self._places[patient] / f"{file}.gz"):
            if path.is_file():
                return path.read_bytes()
        return None


class Repository:
    """The public repository, file by file; ``listing`` keeps git's list of its files, with sizes and SHA-1."""

    kind = "repository"

    def __init__(
        self,
        listing: Path,
        files_url: str = FILES_URL,
        tree_url: str = TREE_URL,
        patients: int = PATIENTS,
        limits: RequestLimits | None = None,
    ) -> None:
        self._url, self._limits, self._local = files_url, limits or RequestLimits(per_minute=0), threading.local()
        if not listing.is_file():
            atomic_write(listing, self._get(tree_url))
        try:
            tree = json.loads(listing.read_bytes())
            files = {entry["path"]: entry["sha"] for entry in tree["tree"] if entry["type"] == "blob"}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{listing} is no list of files from GitHub ({error!r}); delete it") from error
        self._files: dict[str, dict[str, tuple[str, str]]] = {}
        for path, sha in files.items():
            root, _, rest = path.partition("/")
            parts = rest.split("/")
            if root == ROOT and len(parts) == 3 and parts[0] in PARTS:
                self._files.setdefault(parts[1], {})[parts[2]] = (path, sha)
        self.patients = sorted(self._files, key=_number)
        if len(self.patients) != patients or tree.get("truncated"):
            raise ValueError(f"{listing} lists {len(self.patients)} patients; expected {patients}; delete it")

    def read(self, patient: str, file: str) -> bytes | None:
        """Content of a file such as ``ct.csv``; None where a patient has none of that name.

        Raises
        ------
        ConnectionError
            If the server refuses or is out of reach after all attempts, or what it sends is not the file that git
            knows.
        """
        if file not in self._files[patient]:
            return None
        path, sha = self._files[patient][file]
        for _ in range(self._limits.attempts):
            content = self._get(f"{self._url}/{path}")
            if hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == sha:
                return content
        raise ConnectionError(f"{self._url}/{path}: what comes is not the file of commit {COMMIT[:7]} (another SHA-1)")

    def _get(self, url: str) -> bytes:
        if not hasattr(self._local, "session"):  # one for each thread: they are not made to be shared
            self._local.session = requests.Session()
            for scheme in ("https://", "http://"):
                self._local.session.mount(scheme, HTTPAdapter(max_retries=self._limits.retry()))
        failed = None
        for _ in range(self._limits.attempts):
            try:
                answer = self._local.session.get(url, timeout=self._limits.timeout_s)
                answer.raise_for_status()
                return answer.content
            except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
                failed = error  # the connection broke within the body: the adapter does not see that
            except requests.RequestException as error:
                raise ConnectionError(f"{url}: {error}; run it again to go on") from error
        raise ConnectionError(f"{url}: {self._limits.attempts} attempts broke off, the last with: {failed}")


def open_source(folder: str | os.PathLike[str], source: str | os.PathLike[str] | None) -> Folder | Repository:
    """Open a local copy, or the public repository if ``source`` is None (its list of files is kept in ``folder``)."""
    return Folder(Path(source)) if source is not None else Repository(Path(folder) / "patients" / "files.json")
