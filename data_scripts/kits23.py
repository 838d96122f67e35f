"""Measure real kidneys under noise: the table behind the book's chapter "Optimal segmentations under noise".

    python data_scripts/kits23.py --source DIR [--annotator 1] [--out results/kits23]

It downloads nothing. The outlines (CC BY-NC-SA 4.0) are part of the KiTS23 repository; get them, without the scans, by

    git clone --depth 1 https://github.com/neheller/kits23

and give that folder as --source. A folder of files <case>_kidney_instance-<k>.nii.gz, in which bit k of a voxel stands
for annotator k + 1, does as well. Run it again at any time: the table is replaced as a whole. Everything it does is in
reproduction.data.kits23.
"""

import argparse

from reproduction.data.kits23 import measure_kidneys
from reproduction.data.scripts import run_script


def main() -> None:
    """Parse the command line and make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="local copy of the outlines, in either layout")
    parser.add_argument("--annotator", type=int, default=1, help="whose outline is the label, 1 to 3 (%(default)s)")
    parser.add_argument("--out", default="results/kits23", help="folder of the table (%(default)s)")
    arguments = parser.parse_args()
    table = measure_kidneys(arguments.out, arguments.source, arguments.annotator)
    print(f"{arguments.out}: {table['kidney'].nunique()} kidneys, {table['a_mm'].nunique()} strengths of noise")


if __name__ == "__main__":
    run_script(main)
