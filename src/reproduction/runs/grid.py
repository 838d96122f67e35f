"""The grid: all runs of a preset by Snakemake, and what comes before and after them (book chapter *Reproduce*)."""

from __future__ import annotations

import base64
import ctypes
import functools
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import filelock

from reproduction.config import Preset, is_done
from reproduction.paths import project_root, read_json
from reproduction.runs.gpus import NoDeviceError
from reproduction.runs.notebook import BatchError, data_digest, prepare_data
from reproduction.runs.profiles import Profile, default_profile
from reproduction.runs.status import clock_text, run_states


def failures(preset: Preset, runs: str | os.PathLike[str], data_digest: str | None = None) -> list[str]:
    """One line for every run of the preset whose last attempt failed."""
    states = run_states(preset, runs, data_digest)
    return [f"{s.config.name}: {s.detail}" for s in states if s.state == "failed"]


def mark_done(preset: Preset, home: Path, data_digest: str | None) -> int:
    """Renew the marks ``<run>/.done``, by which Snakemake knows the runs that have a result; how many there are.

    A mark is as old as the result.
    """
    count = 0
    for config in preset.runs():
        mark, result = home / config.folder / ".done", home / config.folder / "metrics.json"
        if not is_done(result.parent, config, data_digest):
            mark.unlink(missing_ok=True)
            continue
        count += 1
        if not mark.exists():
            mark.touch()
            os.utime(mark, ns=(result.stat().st_atime_ns, result.stat().st_mtime_ns))
    return count


def first_cause(log: Path) -> str:
    """The first line of a log that names an error, or else the last one that says anything."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    for line, following in itertools.pairwise([*lines, ""]):
        if re.match(r"(reproduction|failed): |[\w.]*(Error|Exception)\b", line):
            return f"{line} {following if line.endswith(':') else ''}".strip().removeprefix("reproduction: ")
    return lines[-1] if lines else "Snakemake said nothing"


def _die_with_parent() -> None:
    """On Linux, in the child: Snakemake must not outlive the process whose lock keeps a second one away."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _run_snakemake(home: Path, options: Sequence[str], values: Mapping[str, Any]) -> int:
    """Run Snakemake in ``home``; what it and the runs say goes to ``grid.log``, and from there to the terminal.

    A file and no pipe: runs that outlive this process go on writing.
    """
    root, log = project_root(), home / "grid.log"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "workflow" / "Snakefile")]
    # Snakemake and the shells of a cluster read values each in their own way: of this one they find nothing to read.
    request = base64.urlsafe_b64encode(json.dumps(values).encode()).decode()
    command += ["--directory", str(home), *options, "--config", f"request={request}"]
    environment = {**os.environ, "NOISYSEG_ROOT": str(root)}
    log.unlink(missing_ok=True)
    with (
        open(log, "ab") as sink,
        open(log, encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            command, env=environment, stdout=sink, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
        ) as process,
    ):
        try:
            while process.poll() is None:
                print(said.read(), end="", file=sys.stderr, flush=True)
                time.sleep(0.1)
        except KeyboardInterrupt:
            # The terminal has sent the signal to all of them: let Snakemake stop its jobs before we go.
            with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                process.wait(timeout=30)
            process.kill()
            raise
        finally:
            print(said.read(), end="", file=sys.stderr, flush=True)
        return process.returncode


def _are_tables_of(preset: Preset, home: Path, tables: Path) -> bool:
    """Whether ``tables`` are those of the finished runs below ``home``."""
    path = tables / "provenance.json"
    if not path.is_file():
        return False
    if path.stat().st_mtime_ns < max((home / c.folder / "metrics.json").stat().st_mtime_ns for c in preset.runs()):
        return False
    return sorted(run["config_hash"] for run in read_json(path)["runs"]) == sorted(c.hash for c in preset.runs())


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
    """Bring a preset to its result tables: data, missing runs, tables; return the tables' folder.

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
        If there is no such profile or source, or the profile needs a program that is not installed.
    NoDeviceError
        If runs share GPUs, and there is none, or none with room.
    """
    preset = Preset.load(preset_name)
    place = Profile.find(default_profile() if profile is None else profile)
    if source is not None and not Path(source).exists():
        raise FileNotFoundError(f"source {source} does not exist; expected a local copy of the data set")
    home = (Path(runs) / preset.name).resolve()
    tables = home / "results" / preset.name
    used = cores or os.cpu_count() or 1
    if not dry_run:
        place.check()
    try:
        slots, sharing = place.slots(preset, home)
    except NoDeviceError as error:
        if not dry_run:
            raise
        slots, sharing = [], f"the runs would not start: {error}"
    plan = functools.partial(_report_plan, preset, data, runs, used if place.is_local else None, slots, sharing, report)
    if dry_run:
        plan()
        return tables
    home.mkdir(parents=True, exist_ok=True)
    begun = time.time()

    def step(text: str) -> None:
        report(f"[{clock_text(time.time() - begun)}] {text}")

    try:
        with filelock.FileLock(home / ".lock", timeout=0):
            left_s = plan(needed=False)
            if _data_digest(preset, data) is None:
                step(f"data below {data}")
                prepare_data(preset, data, source, report)
            if mark_done(preset, home, _data_digest(preset, data)) < len(preset.runs()):
                # YAML files are named by their absolute path: Snakemake works in `home`.
                is_file = Path(preset_name).suffix in (".yaml", ".yml")
                values = {
                    "preset": str(Path(preset_name).resolve()) if is_file else preset_name,
                    "data": str(Path(data).resolve()),
                    "begun": begun,
                    "left_s": left_s,
                    "cores": used,
                    "jobs_elsewhere": int(not place.is_local),
                    "slots": ",".join(slots),
                }
                options = place.options(home, cores)
                options += ["--resources", f"slot={len(slots)}"] if slots else []
                if _run_snakemake(home, options, values):
                    raise _not_finished(preset, home, _data_digest(preset, data))
            if not _are_tables_of(preset, home, tables):
                step("tables")
                from reproduction.runs.model_tables import write_tables  # pandas and SciPy: only when needed

                write_tables(preset, home, tables)
    except filelock.Timeout as error:
        raise BatchError(f"another process works on preset {preset.name} in {home}; wait for it or stop it") from error
    step(f"{preset.name} is complete")
    return tables


def _data_digest(preset: Preset, data: str | os.PathLike[str]) -> str | None:
    return data_digest(data, preset.runs()[0])  # all runs of a preset have one data set


def _report_plan(
    preset: Preset,
    data: str | os.PathLike[str],
    runs: str | os.PathLike[str],
    cores: int | None,
    slots: Sequence[str],
    sharing: str,
    report: Callable[[str], None],
    needed: bool = True,
) -> float:
    """Say what is done, and what the rest costs; return the seconds of wall time that are expected, NaN if unknown.

    A training step that cannot be timed is an error only where the plan is ``needed``.
    """
    # The plan times a step, so torch is loaded: only now, when all arguments are good.
    from reproduction.runs.plan import make_plan, time_step, time_step_apart
    from reproduction.runs.run import choose_device

    states = run_states(preset, runs, _data_digest(preset, data))
    done = sum(s.state == "done" for s in states)
    report(f"{preset.name}: {len(states)} runs, {done} done; {preset.about}")
    timer = time_step_apart if choose_device().type == "cuda" else time_step
    wall_s = math.nan
    try:
        plan = make_plan(states, data, cores, slots, timer)
        report(plan.text)
        wall_s = plan.wall_s
    except RuntimeError as error:
        if needed:
            raise
        report(f"plan: none, no training step could be timed ({error}); the runs start all the same")
    if sharing:
        report(f"{preset.name}: {sharing}")
    return wall_s


def _not_finished(preset: Preset, home: Path, data_digest: str | None) -> BatchError:
    log, lines = home / "grid.log", failures(preset, home.parent, data_digest)
    reason = f"{len(lines)} of {len(preset.runs())} runs failed, the first is {lines[0]}" if lines else first_cause(log)
    return BatchError(
        f"preset {preset.name} did not finish: {reason}; everything that was said is in {log}; "
        "the same command goes on from here"
    )
