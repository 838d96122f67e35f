"""Measure structures that several people drew: the tables behind the book's chapter "Annotators".

    python data_scripts/annotators.py --set kits23 --source DIR [--out results/raters/kits23]
    python data_scripts/annotators.py --set bubil --source DIR [--out results/raters/bubil]

It downloads nothing. The drawings of KiTS23 (CC BY-NC-SA 4.0) are part of its repository; get them, without the
scans, by

    git clone --depth 1 https://github.com/neheller/kits23

The cells of BU-BIL (BSD licence with 4 clauses) are at
https://www.cs.bu.edu/faculty/betke/BiomedicalImageSegmentation/; give the folder that holds the annotations,
<set>/<person>_<tool>/seg_<image>.png. Folders of cropped bit fields do as well. Run it again at any time: the tables
are replaced as a whole. Everything it does is in reproduction.chapters.annotators.
"""

import argparse

from reproduction.chapters.annotators import SETS, measure_annotators
from reproduction.data.scripts import run_script


def main() -> None:
    """Parse the command line and make the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", required=True, choices=list(SETS), help="which data set")
    parser.add_argument("--source", required=True, help="local copy of the drawings, in either layout")
    parser.add_argument("--out", help="folder of the tables (results/raters/<set>)")
    arguments = parser.parse_args()
    folder = arguments.out or f"results/raters/{arguments.set}"
    table = measure_annotators(arguments.set, arguments.source, folder)
    print(f"{folder}: {len(table)} structures of {table['case'].nunique()} cases")


if __name__ == "__main__":
    run_script(main)
