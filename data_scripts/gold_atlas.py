"""Measure the nine structures of the Gold Atlas, for a reader who has access to it.

    python data_scripts/gold_atlas.py --source DIR [--out results/gold_atlas]

It downloads nothing. Request access at https://doi.org/10.5281/zenodo.583096 (version 1), download the archives of the
19 patients, 1_01_P.zip to 3_04_P.zip, and give their folder as --source; they need not be unpacked. Everything it does
is in reproduction.data.gold_atlas.
"""

import argparse

from reproduction.data.gold_atlas import PATIENTS, measure_gold_atlas, summary
from reproduction.data.scripts import run_script


def main() -> None:
    """Parse the command line, make the table and print the paper's four numbers for each region."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="folder with the archives, or with them unpacked")
    parser.add_argument("--patients", nargs="+", default=list(PATIENTS), metavar="ID", help="only these (all 19)")
    parser.add_argument("--out", default="results/gold_atlas", help="folder of the table (%(default)s)")
    arguments = parser.parse_args()
    table = measure_gold_atlas(arguments.out, arguments.source, tuple(arguments.patients))
    print(summary(table).round(3).to_string())


if __name__ == "__main__":
    run_script(main)
