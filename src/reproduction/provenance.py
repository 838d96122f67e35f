"""Where a result comes from: version, commit, packages and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from typing import Any

import noisyseg
from reproduction.paths import project_root

PACKAGES = ("numpy", "scipy", "torch", "pandas", "papermill", "nibabel")


def provenance() -> dict[str, Any]:
    """Version, commit, packages and machine that a result comes from.

    ``commit`` ends in ``-dirty`` where the checkout holds uncommitted changes, and is ``unknown`` without git.

    Examples
    --------
    >>> sorted(provenance())
    ['commit', 'machine', 'packages', 'version']
    """
    import torch  # takes seconds: only here

    commit = "unknown"
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, cwd=project_root(), capture_output=True, text=True, check=True)
        commit = answer.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    machine = {
        "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    packages = {name: version(name) for name in PACKAGES}
    return {"version": noisyseg.__version__, "commit": commit, "machine": machine, "packages": packages}
