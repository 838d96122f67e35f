"""A real SLURM of one node for tests: Debian's slurmctld, slurmd and munged, by ``slurm_on_this_machine``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from conftest import ROOT, lacking

SCRIPT = ROOT / "tests" / "slurm_on_this_machine"
DAEMONS = ("munged", "slurmctld", "slurmd")


def require_slurm() -> None:
    """Skip the test where SLURM cannot be started, and say what to install; fail it in CI, which must install it."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in (*DAEMONS, "sbatch", "squeue", "scancel") if not shutil.which(name, path=path)]
    if missing:
        lacking(f"no {', '.join(missing)}: these tests use the real SLURM (Debian: apt-get install slurm-wlm munge)")
    if shlex.quote(sys.executable) != sys.executable:
        pytest.skip("Snakemake sends no jobs from a folder with a blank in its name, and the command says so")
    if os.geteuid() != 0:
        lacking("these tests start slurmd, which takes root")


def alive(pid: int, name: str) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name() == name and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def slurm(home: Path, cpus: int = 4) -> Iterator[Path]:
    """Run a SLURM as long as the block lasts, also for commands of this process; give the folder of its files.

    The node claims ``cpus`` processors, however many this machine has: jobs of tests are small.
    """
    require_slurm()
    home.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CPUS": str(cpus), "PYTHON": sys.executable}
    for attempt in range(3):  # somebody may take a port between the asking and the using
        folder = home / str(attempt)
        started = subprocess.run(
            [SCRIPT, "start", folder], capture_output=True, text=True, env=environment, check=False
        )
        if started.returncode == 0:
            break
    else:
        pytest.fail(f"SLURM does not start: {started.stderr}")
    pids = {name: int((folder / f"{name}.pid").read_text()) for name in DAEMONS}
    before = dict(os.environ)
    try:
        for name, value in re.findall(r"(\w+)=(\S+)", started.stdout):
            os.environ[name] = os.path.expandvars(value)
        assert all(alive(pid, name) for name, pid in pids.items())
        yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)
        subprocess.run([SCRIPT, "stop", folder], check=True)
    assert not [name for name, pid in pids.items() if alive(pid, name)]


def jobs(comment: str = "") -> list[tuple[str, str]]:
    """Number and state of the jobs whose comment begins so, ended ones included, oldest first."""
    command = ["squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%k"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.strip().split("|", 2) for line in listed]
    return [(number, state) for number, state, said in rows if said.startswith(comment)]
