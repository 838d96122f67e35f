"""Fetch the hippocampi of the Medical Segmentation Decathlon and cut them to patches.

    python data_scripts/hippocampus.py [--out data/hippocampus] [--source DIR_OR_TAR]

Without ``--source`` it downloads 27 MB (MD5 checked, an interrupted transfer goes on). Run it again at any time: cases
that are there are kept. Everything it does is in reproduction.data.hippocampus.
"""

import argparse

from reproduction.data.hippocampus import make_hippocampus
from reproduction.data.scripts import run_script


def main() -> None:
    """Parse the command line and make the data set."""
    parser = argparse.ArgumentParser(description="Fetch and cut Task04_Hippocampus.")
    parser.add_argument("--out", default="data/hippocampus", help="folder of the patches (%(default)s)")
    parser.add_argument("--source", help="local Task04_Hippocampus (folder or tar) instead of the download")
    arguments = parser.parse_args()
    made = make_hippocampus(arguments.out, arguments.source)
    print(f"{made.folder}: {len(made.entries('hippocampus'))} cases, SHA-256 {made.digest[:12]}")


if __name__ == "__main__":
    run_script(main)
