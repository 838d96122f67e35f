"""Where things lie: the one module that knows the project's folders, and the one that writes files atomically.

Everything that is written goes through :func:`atomic_write`, so that a full disk or a killed process leaves the
previous file in place. (A kill that nothing can catch may leave a hidden ``.<name>.*.part``, which nobody reads.)
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import filelock

from noisyseg._core.files import atomic_file


def project_root() -> Path:
    """Folder that holds ``workflow``, ``notebooks`` and ``results``.

    The variable ``NOISYSEG_ROOT`` wins; then the checkout that the package was imported from (an editable install);
    then the current folder and its parents.

    Raises
    ------
    FileNotFoundError
        If none of them holds ``workflow/presets``.

    Examples
    --------
    >>> (project_root() / "workflow" / "presets").is_dir()
    True
    """
    named = os.environ.get("NOISYSEG_ROOT")
    here = Path.cwd()
    candidates = [Path(named)] if named else [Path(__file__).resolve().parents[2], here, *here.parents]
    for folder in candidates:
        if (folder / "workflow" / "presets").is_dir():
            return folder
    raise FileNotFoundError(
        f"no project folder: looked for workflow/presets in {', '.join(map(str, candidates))}; "
        "run from a checkout of the project, or set NOISYSEG_ROOT to one"
    )


def use_own_kernel() -> None:
    """Let every notebook that this process and its children execute run on the interpreter that executes it.

    ``reproduction/jupyter`` has a kernel ``python3`` of that kind. In ``JUPYTER_PATH`` it comes before all others, such
    as one below the home folder that points to another Python, or to one that is gone.
    """
    own = str(Path(__file__).parent / "jupyter")
    paths = os.environ.get("JUPYTER_PATH", "").split(os.pathsep)
    os.environ["JUPYTER_PATH"] = os.pathsep.join([own, *(path for path in paths if path not in ("", own))])


def use_home(substitute: str | os.PathLike[str]) -> bool:
    """Let ``substitute`` be the home folder of this process and its children if the person's own cannot be written.

    Snakemake, Jupyter, IPython, matplotlib and torch keep caches in the home folder. Tell whether it was replaced.
    """
    home = os.path.expanduser("~")  # without HOME, from the password file; "~" itself if that has none
    if os.path.isabs(home) and os.path.isdir(home) and os.access(home, os.W_OK | os.X_OK):
        return False
    Path(substitute).mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(Path(substitute).resolve())
    return True


def atomic_write(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write ``content`` to ``path`` so that the file is either the old one or, whole, the new one.

    The bytes go to a temporary name in the same folder, reach the disk, and are renamed over ``path``. Missing
    parent folders are made. Text is written as UTF-8. What is too large for memory is written with `atomic_file`.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; ``path`` is then what it was before.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atomic_write(pathlib.Path(folder, "a", "b.txt"), "x").read_text()
    'x'
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Whether a process holds the lock file ``path``; a missing one is held by nobody.

    Examples
    --------
    >>> is_locked("no-such.lock")
    False
    """
    if not Path(path).exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0):
            return False
    except filelock.Timeout:
        return True


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write ``value`` as indented JSON, atomically; NaN and infinity are refused.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_json(write_json(pathlib.Path(folder, "x.json"), {"a": 0.01}))
    {'a': 0.01}
    """
    return atomic_write(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; a damaged one is named in the error.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is not JSON in UTF-8: the file, the line and the column.

    Examples
    --------
    >>> read_json("no-such-file.json")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'no-such-file.json'
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: byte {error.start} is no UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON (line {error.lineno}, column {error.colno}): {error.msg}"
        ) from error
