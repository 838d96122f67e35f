"""What is done, running, failed or missing in a preset, and how long is left (book chapter *Reproduce*)."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from reproduction.config import Preset, RunConfig, is_done
from reproduction.paths import is_locked, read_json


@dataclass(frozen=True)
class RunState:
    """State of one run: ``done``, ``running``, ``stopped`` (it goes on from its checkpoint), ``failed`` or ``missing``.

    ``epochs`` holds the seconds of every finished epoch, ``overhead_s`` what a run that is done took outside training:
    reading, noise, scores. ``detail`` is its scores, or why it failed.
    """

    config: RunConfig
    state: str
    epochs: list[float]
    detail: str = ""
    overhead_s: float = 0.0

    @property
    def epochs_left(self) -> int:
        """Epochs that are still to be trained."""
        return 0 if self.state == "done" else max(0, self.config.epochs - len(self.epochs))


def run_state(folder: Path, config: RunConfig, data_digest: str | None = None) -> RunState:
    """State of a run in its folder; a result of other data than those of the digest, if one is given, is none."""
    epochs = finished_epochs(folder)
    if is_done(folder, config, data_digest):
        metrics = read_json(folder / "metrics.json")
        scores = "  ".join(f"{method} {score:.4f}" for method, score in metrics["scores"].items())
        return RunState(config, "done", epochs, scores, max(0.0, metrics["wall_s"] - metrics["training_s"]))
    if not (folder / "checkpoint.pt").is_file():
        epochs = []  # it starts over
    if is_locked(folder / ".lock"):
        return RunState(config, "running", epochs)
    if (folder / "failure.txt").is_file():
        return RunState(config, "failed", epochs, (folder / "failure.txt").read_text().strip())
    return RunState(config, "stopped" if epochs else "missing", epochs)


def run_states(preset: Preset, runs: str | os.PathLike[str], data_digest: str | None = None) -> list[RunState]:
    """State of every run of a preset below ``runs/<preset>``; see :func:`run_state`."""
    home = Path(runs) / preset.name
    return [run_state(home / config.folder, config, data_digest) for config in preset.runs()]


def finished_epochs(folder: Path) -> list[float]:
    """Seconds of every finished epoch; half a line, from a process killed while writing, does not count."""
    path = folder / "progress.jsonl"
    seconds = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            seconds.append(float(json.loads(line)["seconds"]))
        except (ValueError, KeyError):
            break
    return seconds


def mean_overhead_s(states: Sequence[RunState]) -> float:
    """Seconds that finished runs took outside training, on average; 0 while there are none."""
    done = [s.overhead_s for s in states if s.state == "done"]
    return fmean(done) if done else 0.0


def seconds_left(states: Sequence[RunState]) -> list[float]:
    """Seconds that every run still takes, NaN where nothing is known yet.

    Epochs left times the run's own mean epoch, or that of all runs so far, plus the mean time outside training.
    """
    seen = [seconds for s in states for seconds in s.epochs]
    epoch_s, overhead_s = fmean(seen) if seen else math.nan, mean_overhead_s(states)
    return [
        0.0 if s.state == "done" else s.epochs_left * (fmean(s.epochs) if s.epochs else epoch_s) + overhead_s
        for s in states
    ]


def wall_seconds(seconds: Sequence[float], cores: int, threads: int) -> float:
    """Time in which ``cores`` cores do runs of ``threads`` threads that take ``seconds`` each.

    No plan is shorter than the cores' fair share, nor than the longest run.

    Examples
    --------
    >>> wall_seconds([30, 10, 20], cores=2, threads=1), wall_seconds([30, 10, 20], cores=8, threads=1)
    (30.0, 30)
    """
    return max(sum(seconds) / max(1, cores // threads), *seconds)


def wall_seconds_left(states: Sequence[RunState], cores: int) -> float:
    """Time in which ``cores`` cores do what is left, NaN where nothing is known yet."""
    return wall_seconds(seconds_left(states), cores, states[0].config.threads)


def report(preset: Preset, runs: str | os.PathLike[str], cores: int) -> str:
    """The text of the command ``status``: one line a run, then counts and the time left on ``cores`` cores."""
    states = run_states(preset, runs)
    lines = []
    for s, seconds in zip(states, seconds_left(states), strict=True):
        epoch, epochs = len(s.epochs), s.config.epochs
        bar = "#" * (20 if s.state == "done" else round(20 * epoch / epochs))
        note = f"{clock_text(seconds)} left" if s.state == "running" else s.detail
        lines.append(f"{s.state:8} [{bar:20}] {epoch:3d}/{epochs}  {s.config.name:40} {note}".rstrip())
    names = [s.state for s in states]
    counted = ", ".join(f"{names.count(name)} {name}" for name in ("done", "running", "stopped", "failed", "missing"))
    left = wall_seconds_left(states, cores)
    known = "unknown until the first epoch is done" if math.isnan(left) else clock_text(left)
    if left > 0:
        known += f", at about {time.strftime('%H:%M', time.localtime(time.time() + left))}"
    lines.append(f"{preset.name}: {counted}; time left on {cores} cores: {known}")
    return "\n".join(lines)


def progress_line(preset: Preset, runs: str | os.PathLike[str], cores: int, begun: float, left_s: float) -> str:
    """Time since ``begun``, and what is left of it, as ``[4 min, 12 min left]``.

    Until a run has finished an epoch, what is left follows from ``left_s``, which the plan expected at the beginning.
    """
    elapsed = time.time() - begun
    left = wall_seconds_left(run_states(preset, runs), cores)
    left = max(left_s - elapsed, 0.0) if math.isnan(left) else left  # NaN stays NaN
    return f"[{clock_text(elapsed)}, {'time left unknown' if math.isnan(left) else f'{clock_text(left)} left'}]"


def clock_text(seconds: float) -> str:
    """Seconds as a person reads them.

    Examples
    --------
    >>> clock_text(59), clock_text(3725)
    ('59 s', '1 h 02 min')
    """
    if math.isnan(seconds):
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
