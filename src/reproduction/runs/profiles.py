"""Profiles: where the runs of a preset run (book chapter *Reproduce*). A profile is a folder with a ``config.yaml`` of
Snakemake's command line options; what Snakemake has to be told beyond that is worked out here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reproduction.config import Preset
from reproduction.runs.gpus import CPU, devices, estimate_mib, kept_slots, make_slots
from reproduction.paths import project_root


def default_profile() -> str:
    """Name of the profile where none is asked for: ``gpus`` where torch sees a GPU that runs may use, else ``local``.

    Under ``local`` every core would start a run, and all of them on the first GPU, whether they fit or not.

    Examples
    --------
    >>> default_profile() in ("gpus", "local")
    True
    """
    import torch  # loaded late: `noisyseg --help` must not wait for it

    return "gpus" if os.environ.get("NOISYSEG_DEVICE", "cuda") != CPU and torch.cuda.is_available() else "local"


@dataclass(frozen=True)
class Room:
    """What a profile tells Snakemake beyond itself: options, values of ``--config``, and a ``line`` for the person.

    ``slots`` are the devices on which there is room for a run, each as often as runs fit; empty where runs share none.
    """

    options: list[str]
    values: dict[str, Any]
    line: str = ""
    slots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """A Snakemake profile.

    Parameters
    ----------
    folder
        Folder that holds ``config.yaml``.
    settings
        What is in it.

    Examples
    --------
    >>> Profile.find("slurm").executor, Profile.find("gpus").shares_gpus
    ('slurm', True)
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
    def executor(self) -> str:
        """What starts the runs: ``local``, or the name of a plugin of Snakemake's."""
        return str(self.settings.get("executor", "local"))

    @property
    def shares_gpus(self) -> bool:
        """Whether runs take shares of GPUs: ``default-resources`` then has ``gpu_mib``."""
        defaults = self.settings.get("default-resources") or []
        return any(str(entry).split("=")[0] == "gpu_mib" for entry in defaults)

    def check(self) -> None:
        """Say what is missing before anything starts.

        Raises
        ------
        ValueError
            If the executor's plugin is not installed, or this machine sends no jobs to SLURM.
        """
        name = self.executor
        if name not in ("local", "dryrun", "touch"):
            module = f"snakemake_executor_plugin_{name.replace('-', '_')}"
            if importlib.util.find_spec(module) is None:
                raise ValueError(
                    f"profile {self.folder.name} needs Snakemake's executor {name}, which is not installed: "
                    f".venv/bin/python -m pip install snakemake-executor-plugin-{name}"
                )
        if name == "slurm" and not shutil.which("sbatch"):
            raise ValueError(
                f"profile {self.folder.name} sends jobs with sbatch, which is not on this machine: start the command "
                "on a login node of the cluster; workflow/slurm_on_this_machine makes a SLURM of this machine alone"
            )

    def need_mib(self, preset: Preset) -> int:
        """Memory of a run on its device, in MiB: what the profile's ``set-resources`` says, else the largest estimate.

        Raises
        ------
        ValueError
            If the profile says something else than a positive whole number.
        """
        said = ((self.settings.get("set-resources") or {}).get("run") or {}).get("gpu_mib")
        if said is None:
            # An estimate takes a moment: one for every kind of run.
            kinds = {(c.features, c.batch_size, c.dataset, c.phantom_size, c.phantom_cases): c for c in preset.runs()}
            return max(estimate_mib(config) for config in kinds.values())
        if type(said) is not int or said < 1:
            raise ValueError(
                f"profile {self.folder / 'config.yaml'}: gpu_mib of run is {said!r}; expected a whole number of MiB"
            )
        return said

    def options(self, preset: Preset, home: Path, cores: int | None) -> Room:
        """What Snakemake is told beyond the profile, and where there is room for runs.

        Parameters
        ----------
        preset
            What is to be run.
        home
            Folder of the preset's runs.
        cores
            Limit that the person has set.

        Raises
        ------
        NoRoomError
            If runs share GPUs, and there is none, or none with room.
        """
        local = self.executor == "local"
        # A scheduler has as many cores as it has: they are limited only where the person says so.
        options = ["--cores", str(cores or os.cpu_count() or 1)] if cores or local else []
        if self.executor == "slurm":
            logs = self.settings.get("slurm-logdir", home / "slurm_logs")
            options += [] if "slurm-logdir" in self.settings else ["--slurm-logdir", str(logs)]
            return Room(options, {}, f"every run is a job of SLURM; its log is {logs}/rule_run/<run>/<job>.log")
        if not (local and self.shares_gpus):
            return Room(options, {})
        need = self.need_mib(preset)
        slots = kept_slots(home / ".slots")
        if slots:
            line = (
                f"runs of an earlier call still hold some of the {len(slots)} slots of {need} MiB, which are used again"
            )
        else:
            free = devices()
            slots = make_slots(free, need)
            rooms = ", ".join(f"{slots.count(d.name)} on {'' if d.name == CPU else 'GPU '}{d.name}" for d in free)
            line = f"a run takes about {need} MiB: room for {rooms}, and {options[1]} cores"
        options += ["--resources", f"gpu_mib={need * len(slots)}"]
        return Room(options, {"gpu_mib": need, "slots": ",".join(slots)}, line, tuple(slots))
