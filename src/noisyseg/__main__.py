"""``python -m noisyseg`` is the command ``noisyseg``."""

import sys

from noisyseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
