"""Make CT-like phantoms of kidney, aorta and oesophagus from a seed: no network, no download.

    python data_scripts/phantoms.py --size 32 --cases 75 --seed 1 [--out data/phantoms-32-75-1]

Run it again at any time: phantoms that are there are kept. Everything it does is in reproduction.data.phantoms.cases.
"""

import argparse

from reproduction.data.phantoms.cases import folder_name, make_phantoms
from reproduction.data.scripts import run_script


def main() -> None:
    """Parse the command line and make the data set."""
    parser = argparse.ArgumentParser(description="Make a set of phantoms.")
    parser.add_argument("--size", type=int, default=64, help="voxels per side of the 192 mm patch (%(default)s)")
    parser.add_argument("--cases", type=int, default=400, help="phantoms per organ (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the set (%(default)s)")
    parser.add_argument("--out", help="folder of the patches (data/phantoms-SIZE-CASES-SEED)")
    arguments = parser.parse_args()
    numbers = (arguments.size, arguments.cases, arguments.seed)
    made = make_phantoms(arguments.out or f"data/{folder_name(*numbers)}", *numbers)
    print(f"{made.folder}: {', '.join(made.manifest['organs'])}, SHA-256 {made.digest[:12]}")


if __name__ == "__main__":
    run_script(main)
