"""The grid: all runs of a preset by Snakemake, and what is said beforehand (book chapter *Reproduce*)."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from reproduction.runs.notebook import BatchError, data_digest
from reproduction.config import Preset, RunConfig, is_done
from reproduction.runs.gpus import NoRoomError, keep_slots
from reproduction.paths import project_root
from reproduction.runs.profiles import Profile, Room, default_profile

if TYPE_CHECKING:
    from reproduction.runs.step_time import Step


def failures(preset: Preset, runs: str | os.PathLike[str]) -> list[str]:
    """One line for every run of the preset whose last attempt failed."""
    lines = []
    for config in preset.runs():
        path = Path(runs) / preset.name / config.folder / "failure.txt"
        if path.is_file():
            lines.append(f"{config.name}: {path.read_text().strip()}")
    return lines


def mark_done(preset: Preset, home: Path, data: str | os.PathLike[str]) -> None:
    """Renew the marks ``<run>/.done``, by which Snakemake knows the runs below ``home`` that have a result.

    A mark is as old as the result: what has been made from it is not made again.
    """
    digests = {config.data_folder: data_digest(data, config) for config in preset.runs()}
    for config in preset.runs():
        mark, result = home / config.folder / ".done", home / config.folder / "metrics.json"
        if not is_done(result.parent, config, digests[config.data_folder]):
            mark.unlink(missing_ok=True)
        elif not mark.exists():
            mark.touch()
            os.utime(mark, ns=(result.stat().st_atime_ns, result.stat().st_mtime_ns))


def _die_with_parent() -> None:
    """On Linux, in the child: Snakemake must not outlive the process whose lock keeps a second one away."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _run_snakemake(command: list[str], root: Path) -> int:
    environment = {**os.environ, "NOISYSEG_ROOT": str(root)}
    with subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal has sent the signal to all of them: let Snakemake stop its jobs before we go.
            with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                process.wait(timeout=30)
            process.kill()
            raise


def _timer(slots: Sequence[str]) -> Callable[[RunConfig, Sequence[int], float], Step] | None:
    """What times a plan's step: on a GPU a process of its own, on the device of the first slot; else None."""
    from reproduction.runs.run import choose_device
    from reproduction.runs.step_time import time_step_apart

    if choose_device().type != "cuda":
        return None
    shown = {"NOISYSEG_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": slots[0]} if slots else {}
    return partial(time_step_apart, environment=shown)


def run_grid(
    preset_name: str,
    data: str | os.PathLike[str] = "data",
    runs: str | os.PathLike[str] = "runs",
    source: str | None = None,
    cores: int | None = None,
    profile: str | None = None,
    dry_run: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Bring a preset to its result tables: data, missing runs, cells, tables; return the tables' folder.

    Parameters
    ----------
    preset_name
        Name of a preset or path of a YAML file.
    data, runs
        Where data sets and runs live.
    source
        Local copy of the data set, see its data script.
    cores
        Cores to use (all by default); a run takes as many as its preset's ``threads``.
    profile
        Folder below ``workflow/profiles``, or the path of one, see :class:`reproduction.runs.profiles.Profile`; None:
        :func:`reproduction.runs.profiles.default_profile`.
    dry_run
        Only report the plan (:mod:`reproduction.runs.plan`): nothing is started, and nothing written.

    Raises
    ------
    BatchError
        If a second process works on the same preset, or a step failed; finished runs and checkpoints stay.
    ValueError, FileNotFoundError
        If there is no such profile or source, ``data`` is no path that Snakemake can take, or the profile needs a
        program or a plugin that is not installed.
    NoRoomError
        If runs share GPUs, and there is none, or none with room.
    """
    preset = Preset.load(preset_name)
    root = project_root()
    place = Profile.find(default_profile() if profile is None else profile)
    if set("{}") & set(str(Path(data).resolve())):
        raise ValueError(f"data is {str(Path(data).resolve())!r}; Snakemake takes no path with braces")
    preset_argument = str(Path(preset_name).resolve()) if Path(preset_name).suffix in (".yaml", ".yml") else preset_name
    if source is not None and not Path(source).exists():
        raise FileNotFoundError(f"source {source} does not exist; expected a local copy of the data set")
    settings = {"preset": preset_argument, "data": str(Path(data).resolve())}
    if source:
        settings["source"] = str(Path(source).resolve())
    home = (Path(runs) / preset.name).resolve()

    def say_plan(slots: Sequence[str]) -> None:
        done = sum(is_done(home / config.folder, config, data_digest(data, config)) for config in preset.runs())
        report(f"{preset.name}: {len(preset.runs())} runs, {done} done; {preset.about}")
        # The plan times a step, so torch is loaded: only now, when all arguments are good.
        from reproduction.runs import plan
        from reproduction.runs.step_time import StepError

        there = None if place.executor != "local" else cores or os.cpu_count() or 1
        try:
            report(plan.describe(plan.make_plan(preset, data, runs, _timer(slots)), there, slots))
        except StepError as error:
            if dry_run:
                raise BatchError(str(error)) from error
            report(f"plan: none, {error}; the runs start all the same")

    if dry_run:
        try:
            room = place.options(preset, home, cores)
        except NoRoomError as error:
            room = Room([], {}, f"the runs would not start: {error}")
        say_plan(room.slots)
        if room.line:
            report(f"{preset.name}: {room.line}")
        return home / "results" / preset.name
    place.check()
    room = place.options(preset, home, cores)
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "workflow" / "Snakefile")]
    command += ["--directory", str(home), "--workflow-profile", str(place.folder), *room.options]
    settings |= room.values
    # Snakemake reads values as YAML: quoted, so that a path stays the string that it is.
    command += ["--config", *(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in settings.items())]
    try:
        with filelock.FileLock(home / ".lock", timeout=0):
            begun = time.perf_counter()
            say_plan(room.slots)
            if room.line:
                report(f"{preset.name}: {room.line}")
            mark_done(preset, home, data)
            if room.slots:
                keep_slots(room.slots, home / ".slots")
            code = _run_snakemake(command, root)
    except filelock.Timeout as error:
        raise BatchError(f"another process works on preset {preset.name} in {home}; wait for it or stop it") from error
    if code:
        lines = failures(preset, runs)
        reason = (
            f"{len(lines)} of {len(preset.runs())} runs failed, the first is {lines[0]}"
            if lines
            else "see the lines above"
        )
        raise BatchError(f"preset {preset.name} did not finish: {reason}; the same command goes on from here")
    report(f"{preset.name}: complete after {time.perf_counter() - begun:.0f} s")
    return home / "results" / preset.name
