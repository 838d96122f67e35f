"""Fetch the hippocampi of the Medical Segmentation Decathlon and cut them to patches.

    python data_scripts/hippocampus.py [--out data/hippocampus] [--source DIR_OR_TAR]

Without ``--source`` it downloads 27 MB (MD5 checked, an interrupted transfer goes on). Run it again at any time: cases
that are there are kept. Everything it does is in reproduction.data.hippocampus.
"""

import argparse
import sys

from reproduction.data.hippocampus import make_hippocampus


def main() -> int:
    """Parse the command line and make the data set."""
    parser = argparse.ArgumentParser(description="Fetch and cut Task04_Hippocampus.")
    parser.add_argument("--out", default="data/hippocampus", help="folder of the patches (%(default)s)")
    parser.add_argument("--source", help="local Task04_Hippocampus (folder or tar) instead of the download")
    arguments = parser.parse_args()
    try:
        made = make_hippocampus(arguments.out, arguments.source)
    except (ValueError, OSError) as error:
        print(f"hippocampus.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"{made.folder}: {len(made.entries('hippocampus'))} cases, SHA-256 {made.digest[:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
