"""Cut the patches of the paper's experiment out of the TotalSegmentator CT data set.

    python data_scripts/totalsegmentator.py                            # reads single members of the archive over HTTP
    python data_scripts/totalsegmentator.py --source ARCHIVE_OR_FOLDER # takes a local copy
    python data_scripts/totalsegmentator.py --figure views.png         # draws three views of one case of each organ

Nothing but the patches is stored: less than 2 GB. Run it again at any time, also after a kill: what is there is not
read again. Everything it does is in reproduction.data.totalsegmentator.patches.
"""

import argparse

from reproduction.data.scripts import run_script
from reproduction.data.totalsegmentator.patches import CASES, examples, make_totalsegmentator
from reproduction.data.totalsegmentator.versions import DEFAULT, VERSIONS


def main() -> None:
    """Parse the command line and make the data set, or the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", default="data/totalsegmentator", help="folder of the patches (%(default)s)")
    add("--version", choices=VERSIONS, help=f"version of the data set (that of the folder, or {DEFAULT})")
    add("--source", help="local archive, extracted folder or mirror, instead of the public address")
    add("--cases", type=int, default=CASES, help="cases an organ (%(default)s)")
    add("--partial", action="store_true", help="the source has only some of the subjects: take what passes")
    add("--workers", type=int, default=4, help="subjects worked on at a time (%(default)s)")
    add("--figure", metavar="FILE", help="only draw the cases at hand, from --out or --source, into this file")
    arguments = parser.parse_args()
    if arguments.figure:
        from reproduction.figures.views import plot_cases

        cases = examples(arguments.out, arguments.source, arguments.version)
        plot_cases(cases).savefig(arguments.figure)
        print(f"{arguments.figure}: {', '.join(f'{organ} {case.id}' for organ, case in cases.items())}")
        return
    made = make_totalsegmentator(
        arguments.out,
        arguments.source,
        arguments.version,
        arguments.cases,
        arguments.partial,
        workers=arguments.workers,
    )
    numbers = ", ".join(f"{len(made.entries(organ))} {organ}" for organ in made.manifest["organs"])
    print(f"{made.folder}: {numbers}, SHA-256 {made.digest[:12]}")
    for organ, reasons in made.manifest["source"]["left_out"].items():
        damaged = [f"{subject}, {why}" for subject, why in reasons.items() if why.startswith("damaged")]
        if damaged:
            print(f"skipped for {organ}: {'; '.join(damaged)}")


if __name__ == "__main__":
    run_script(main)
