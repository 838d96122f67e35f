"""Profiles: where the runs of a preset run (book chapter *Reproduce*).

A profile is a folder with a ``config.yaml`` of Snakemake's command line options. Where its runs take slots, what a run
needs and which devices have room is found out here.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reproduction.config import Preset
from reproduction.paths import project_root
from reproduction.runs.gpus import CPU, device_of, estimate_mib, free_memory, make_slots


def default_profile() -> str:
    """Profile where none is asked for: ``gpus`` where torch sees a GPU that runs may use, else ``local``."""
    import torch  # loaded late: `--help` must not wait for it

    return "gpus" if os.environ.get("NOISYSEG_DEVICE", "cuda") != CPU and torch.cuda.is_available() else "local"


@dataclass(frozen=True)
class Profile:
    """A Snakemake profile: the folder that holds ``config.yaml``, and what is in it.

    Examples
    --------
    >>> Profile.find("slurm").is_local, Profile.find("gpus").is_local
    (False, True)
    """

    folder: Path
    settings: dict[str, Any]

    @classmethod
    def find(cls, profile: str) -> Profile:
        """Read a profile by name (``workflow/profiles/<name>``) or by the path of a folder, which has a ``/`` in it.

        Raises
        ------
        ValueError
            If there is no such profile, or its ``config.yaml`` is no mapping.
        """
        profiles = project_root() / "workflow" / "profiles"
        folder = Path(profile).resolve() if "/" in profile else profiles / profile
        path = folder / "config.yaml"
        if not profile or not path.is_file():
            names = ", ".join(sorted(file.parent.name for file in profiles.glob("*/config.yaml")))
            raise ValueError(
                f"profile is {profile!r}; there are {names} (or give the path of a folder with a config.yaml)"
            )
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"profile {path} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(settings, dict):
            raise ValueError(f"profile {path} holds {type(settings).__name__}; expected a mapping")
        return cls(folder, settings)

    @property
    def is_local(self) -> bool:
        """Whether runs are processes of this machine."""
        return self.settings.get("executor", "local") == "local"

    def check(self) -> None:
        """Refuse what cannot send jobs before anything starts; Snakemake says the rest itself."""
        if not self.is_local and shlex.quote(sys.executable) != sys.executable:
            raise ValueError(
                f"profile {self.folder.name}: Snakemake sends jobs with the path of Python as it stands, and a shell "
                f"would take {sys.executable} apart: use a folder without blanks and signs in its name"
            )
        if self.settings.get("executor") == "slurm" and not shutil.which("sbatch"):
            raise ValueError(
                f"profile {self.folder.name} sends jobs with sbatch, which is not on this machine: "
                "start the command on a login node of the cluster"
            )

    def options(self, home: Path, cores: int | None) -> list[str]:
        """Options of Snakemake's command for runs below ``home``; ``cores`` is the limit that the person has set."""
        options = ["--workflow-profile", str(self.folder)]
        # A scheduler has as many cores as it has: they are limited only where the person says so.
        options += ["--cores", str(cores or os.cpu_count() or 1)] if cores or self.is_local else []
        if self.settings.get("executor") == "slurm" and "slurm-logdir" not in self.settings:
            options += ["--slurm-logdir", str(home / "slurm_logs")]
        return options

    def slots(self, preset: Preset, home: Path) -> tuple[list[str], str]:
        """Slots for the runs of a preset below ``home``, and a line on them; none where runs take none.

        Raises
        ------
        NoDeviceError
            If there is no GPU, or none on which a run fits.
        ValueError
            If the profile's ``gpu_mib`` of a run is no positive whole number.
        """
        of_a_run = (self.settings.get("set-resources") or {}).get("run") or {}
        if "slot" not in of_a_run:
            return [], ""
        need = of_a_run.get("gpu_mib")
        if need is None:
            need = estimate_mib(preset.runs()[0])  # all runs of a preset have one network and one data set
        elif type(need) is not int or need < 1:
            path = self.folder / "config.yaml"
            raise ValueError(f"profile {path}: gpu_mib of run is {need!r}; expected a whole number of MiB")
        free = free_memory()
        slots = make_slots(free, need, home / ".slots")
        names = [device_of(slot) for slot in slots]
        listed = ", ".join(f"{names.count(name)} on {'' if name == CPU else 'GPU '}{name}" for name in free)
        return slots, f"a run takes about {need} MiB, so that {listed} run at the same time"
