"""Fetch the planning CTs of OpenKBP and cut oesophagus, spinal cord and right parotid to patches.

    python data_scripts/openkbp.py                    # from the public repository, file by file (about 1,700 files)
    python data_scripts/openkbp.py --source DIR       # from a local copy, its files plain or gzipped
    python data_scripts/openkbp.py --set openkbp_offcentre  # the organ anywhere in the patch
    python data_scripts/openkbp.py --set openkbp_blank      # images that say where the CT is blank, and nothing else
    python data_scripts/openkbp.py --figure views.png # draws three views of one case of each organ

Nothing but the patches is stored. Run it again at any time, also after a kill: patients that are done are not read
again. Everything it does is in reproduction.data.openkbp.
"""

import argparse

from reproduction.data.openkbp.patches import SETS, make_openkbp
from reproduction.data.scripts import run_script


def main() -> None:
    """Parse the command line and make the data set, or the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--set", choices=SETS, default="openkbp", help="which data set (%(default)s)")
    add("--out", help="folder of the patches (data/<set>)")
    add("--source", help="local copy of the repository, or of its provided-data, instead of the public address")
    add("--workers", type=int, default=4, help="patients worked on at a time (%(default)s)")
    add("--figure", metavar="FILE", help="draw one case of each organ into this file")
    arguments = parser.parse_args()
    out = arguments.out or f"data/{arguments.set}"
    made = make_openkbp(out, arguments.source, arguments.set, workers=arguments.workers)
    if arguments.figure:
        from reproduction.figures.views import plot_cases

        cases = {organ: made.load(organ, list(made.entries(organ))[:1])[0] for organ in made.manifest["organs"]}
        plot_cases(cases).savefig(arguments.figure)
    numbers = ", ".join(f"{len(made.entries(organ))} {organ}" for organ in made.manifest["organs"])
    print(f"{made.folder}: {numbers}, SHA-256 {made.digest[:12]}")
    for organ, reasons in made.manifest["source"]["left_out"].items():
        print(f"left out, {organ}: {len(reasons)} patients; the reasons are in {made.folder}/manifest.json")


if __name__ == "__main__":
    run_script(main)
