"""Count how many voxels how many people include, for real structures drawn by several people.

    python data_scripts/rater_levels.py --kidneys DIR --cells DIR [--out results/rater_levels]

It downloads nothing. DIR of the kidneys holds files <case>_<structure>_instance-<k>.nii.gz, in which bit k of a voxel
stands for annotator k + 1 (KiTS23, https://github.com/neheller/kits23, CC BY-NC-SA 4.0); DIR of the cells holds 16-bit
PNG files of the same kind and annotations.csv, whose columns file and bits say which bits a file uses (BU-BIL, Gurari
et al. 2015). Run it again at any time: the table is replaced as a whole. Everything it does is in
reproduction.data.rater_levels.
"""

import argparse

from reproduction.data.rater_levels import store_levels
from reproduction.data.scripts import run_script


def main() -> None:
    """Parse the command line and make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kidneys", required=True, help="folder of the renal structures")
    parser.add_argument("--cells", required=True, help="folder of the cells")
    parser.add_argument("--out", default="results/rater_levels", help="folder of the table (%(default)s)")
    arguments = parser.parse_args()
    table = store_levels(arguments.out, arguments.kidneys, arguments.cells)
    for data, group in table.groupby("data"):
        print(f"{arguments.out}: {data}, {len(group)} structures")


if __name__ == "__main__":
    run_script(main)
