"""What is done, running, failed or missing in a preset, and how long is left (book chapter *Reproduce*)."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reproduction.config import Preset, RunConfig, is_done
from reproduction.paths import is_locked, read_json


@dataclass(frozen=True)
class RunState:
    """State of one run: ``done``, ``running``, ``stopped`` (has a checkpoint), ``failed`` or ``missing``.

    ``seconds_left`` is NaN where nothing is known yet.
    """

    config: RunConfig
    state: str
    epoch: int
    seconds_left: float
    detail: str


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


def overhead_s(folder: Path) -> float:
    """Seconds that a finished run took outside training: reading, noise, scores."""
    metrics = read_json(folder / "metrics.json")
    return max(0.0, metrics["wall_s"] - metrics["training_s"])


def wall_seconds(seconds: Sequence[float], cores: int, threads: int) -> float:
    """Time in which ``cores`` cores do runs of ``threads`` threads that take ``seconds`` each.

    No plan is shorter than the cores' fair share, nor than the longest run.

    Examples
    --------
    >>> wall_seconds([30, 10, 20], cores=2, threads=1), wall_seconds([30, 10, 20], cores=8, threads=1)
    (30.0, 30)
    """
    return max(sum(seconds) / max(1, cores // threads), *seconds)


def run_states(preset: Preset, runs: str | os.PathLike[str]) -> list[RunState]:
    """State of every run of a preset below ``runs/<preset>``.

    Time left: epochs left times the run's own mean epoch, or that of all runs so far, plus the mean time that finished
    runs took outside training.
    """
    home = Path(runs) / preset.name
    seen: list[float] = []
    overheads: list[float] = []
    facts = []
    for config in preset.runs():
        folder = home / config.folder
        epochs = finished_epochs(folder)
        seen += epochs
        state, detail = "missing", ""
        if is_done(folder, config):
            overheads.append(overhead_s(folder))
            state = "done"
            scores = read_json(folder / "metrics.json")["scores"]
            detail = "  ".join(f"{method} {score:.4f}" for method, score in scores.items())
        elif is_locked(folder / ".lock"):
            state = "running"
        elif (folder / "failure.txt").is_file():
            state, detail = "failed", (folder / "failure.txt").read_text().strip()
        elif epochs:
            state = "stopped"
        facts.append((config, state, epochs, detail))
    epoch_s = sum(seen) / len(seen) if seen else math.nan
    overhead = sum(overheads) / len(overheads) if overheads else 0.0
    states = []
    for config, state, epochs, detail in facts:
        own = sum(epochs) / len(epochs) if epochs else epoch_s
        left = 0.0 if state == "done" else own * (config.epochs - len(epochs)) + overhead
        states.append(RunState(config, state, len(epochs), left, detail))
    return states


def report(preset: Preset, runs: str | os.PathLike[str], cores: int) -> str:
    """The text of the command ``status``: one line a run, then counts and the time left on ``cores`` cores."""
    states = run_states(preset, runs)
    lines = []
    for s in states:
        bar = "#" * round(20 * s.epoch / s.config.epochs) if s.state != "done" else "#" * 20
        note = s.detail or (f"{clock_text(s.seconds_left)} left" if s.state == "running" else "")
        lines.append(f"{s.state:8} [{bar:20}] {s.epoch:3d}/{s.config.epochs}  {s.config.name:40} {note}".rstrip())
    counts = {
        name: sum(s.state == name for s in states) for name in ("done", "running", "stopped", "failed", "missing")
    }
    left = wall_seconds([s.seconds_left for s in states], cores, max(s.config.threads for s in states))
    known = "unknown until the first epoch is done" if math.isnan(left) else clock_text(left)
    finish = (
        ""
        if math.isnan(left) or not left
        else f", at about {time.strftime('%H:%M', time.localtime(time.time() + left))}"
    )
    counted = ", ".join(f"{count} {name}" for name, count in counts.items())
    lines.append(f"{preset.name}: {counted}; time left on {cores} cores: {known}{finish}")
    return "\n".join(lines)


def progress_line(preset: Preset, runs: str | os.PathLike[str], cores: int, begun: float, left_s: float) -> str:
    """Time since ``begun``, and what is left of it, as ``[4 min, 12 min left]``.

    Until a run has finished an epoch, what is left follows from ``left_s``, which the plan expected at the beginning.
    """
    elapsed = time.time() - begun
    states = run_states(preset, runs)
    left = wall_seconds([s.seconds_left for s in states], cores, max(s.config.threads for s in states))
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
