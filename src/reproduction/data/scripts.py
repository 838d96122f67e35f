"""How a data script ends: one line for every error, for the person at the terminal."""

import sys
from collections.abc import Callable
from pathlib import Path


def run_script(main: Callable[[], None]) -> None:
    """Call ``main``; an error is one line and exit code 1, Ctrl-C one line and 130. A script may be run again."""
    name = Path(sys.argv[0]).name
    try:
        main()
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        sys.exit(f"{name}: {' '.join(str(error).split())}")
