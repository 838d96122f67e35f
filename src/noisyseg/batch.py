"""Batch: papermill for one notebook, Snakemake for the grid (book chapter *Reproduce*)."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import psutil

from noisyseg.config import POINT, Preset, RunConfig, is_done
from noisyseg.data import hippocampus, phantom_set, totalsegmentator
from noisyseg.data.cases import CaseSet
from noisyseg.gpus import NoRoomError, case_count, keep_slots
from noisyseg.paths import atomic_write, project_root
from noisyseg.profiles import Profile, Room, default_profile

if TYPE_CHECKING:
    from noisyseg.step_time import Step


class BatchError(RuntimeError):
    """A step of a batch failed; the message is for the person who started it."""


def prepare_data(
    preset: Preset, data: str | os.PathLike[str], source: str | None, report: Callable[[str], None] = print
) -> list[CaseSet]:
    """Make the data sets that a preset needs, below ``data``; finished ones are opened.

    A set with fewer cases than the preset means, made so by a person, is taken; ``report`` is told.
    """
    sets = {}
    for config in preset.runs():
        if config.data_folder in sets:
            continue
        folder = Path(data) / config.data_folder
        if config.dataset == "totalsegmentator":
            # A finished folder is taken as it is, whichever version of the data set it was cut from.
            there = CaseSet(folder) if (folder / "manifest.json").is_file() else None
            whole = there is not None and not there.missing()
            made = there if there is not None and whole else totalsegmentator.prepare(folder, source)
            counts = {organ: len(made.entries(organ)) for organ in made.manifest["organs"]}
            if min(counts.values()) < case_count(config):
                listed = ", ".join(f"{count} {organ}" for organ, count in counts.items())
                report(f"{folder} holds {listed}; the preset {preset.name} means {case_count(config)} of each")
            sets[config.data_folder] = made
        elif config.dataset == "hippocampus":
            sets[config.data_folder] = hippocampus.prepare(folder, source)
        else:
            numbers = (config.phantom_size, config.phantom_cases, config.phantom_seed)
            sets[config.data_folder] = phantom_set.prepare(folder, *numbers)
    return list(sets.values())


def execute_notebook(template: str, target: str | os.PathLike[str], parameters: dict[str, Any]) -> None:
    """Execute ``notebooks/templates/<template>.ipynb`` with papermill, in a kernel of its own, as ``target``.

    What the notebook prints appears on standard error as it comes. ``target`` is the record: it is there, with the
    error in it, also when a cell fails.

    Raises
    ------
    BatchError
        If a parameter is unknown, a cell raises (its error in one line, and where the notebook is), or the kernel dies.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    path = project_root() / "notebooks" / "templates" / f"{template}.ipynb"
    known = papermill.inspect_notebook(str(path))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise BatchError(f"{template}.ipynb has no parameter {unknown[0]!r}; it has {', '.join(known)}")
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    for part in Path(target).parent.glob(f"{Path(target).stem}.*.part.ipynb"):  # of processes that were killed
        pid = part.name.split(".")[-3]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            part.unlink(missing_ok=True)
    temporary = Path(target).with_suffix(f".{os.getpid()}.part.ipynb")
    where = f"notebook: {Path(target).resolve()}"
    try:
        with warnings.catch_warnings():
            # nbformat's and jupyter_client's own deprecations are no business of the person at the terminal.
            warnings.simplefilter("ignore")
            papermill.execute_notebook(
                str(path),
                str(temporary),
                parameters,
                kernel_name="python3",
                progress_bar=False,
                stdout_file=sys.stderr,
                cwd=str(Path.cwd()),
                extra_arguments=["--log-level=CRITICAL"],
            )
    except PapermillExecutionError as error:
        raise BatchError(f"{error.ename}: {' '.join(str(error.evalue).split())} ({where})") from error
    except DeadKernelError as error:
        raise BatchError(f"the process of {template}.ipynb died: killed, or out of memory ({where})") from error
    finally:
        if temporary.exists():
            os.replace(temporary, target)


def _digest(data: str | os.PathLike[str], config: RunConfig) -> str | None:
    """Digest of a run's data set, None where it has not been made."""
    folder = Path(data) / config.data_folder
    return CaseSet(folder).digest if (folder / "manifest.json").is_file() else None


def run_notebook(preset: str, config: RunConfig, name: str, data: str, runs: str) -> Path:
    """Execute one training run through its notebook; return the run's folder."""
    folder = Path(runs) / name / config.folder
    if is_done(folder, config, _digest(data, config)):
        return folder  # its notebook is the record of the training, and a second one would be empty
    point = {axis: getattr(config, axis) for axis in POINT}
    folder.mkdir(parents=True, exist_ok=True)
    # The kernel inherits these: runs side by side do not fight for cores, and sums are added up in one order.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(config.threads)
    try:
        execute_notebook("training_run", folder / "run.ipynb", {"preset": preset, **point, "data": data, "runs": runs})
    except (BatchError, OSError) as error:
        # Also failures outside execute(), such as a kernel that died, are then seen by `noisyseg status`.
        with suppress(OSError):  # on a full disk the error itself matters more than its record
            atomic_write(folder / "failure.txt", f"{' '.join(str(error).split())}\n")
        raise
    return folder


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
    digests = {config.data_folder: _digest(data, config) for config in preset.runs()}
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
    from noisyseg.experiment import choose_device
    from noisyseg.step_time import time_step_apart

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
        Folder below ``workflow/profiles``, or the path of one, see :class:`noisyseg.profiles.Profile`; None:
        :func:`noisyseg.profiles.default_profile`.
    dry_run
        Only report the plan (:mod:`noisyseg.plan`): nothing is started, and nothing written.

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
        done = sum(is_done(home / config.folder, config, _digest(data, config)) for config in preset.runs())
        report(f"{preset.name}: {len(preset.runs())} runs, {done} done; {preset.about}")
        # The plan times a step, so torch is loaded: only now, when all arguments are good.
        from noisyseg import plan
        from noisyseg.step_time import StepError

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
