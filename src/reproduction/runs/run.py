"""A run: its folder, its lock, resume, scores and provenance (book chapter *Reproduce*).

A run's folder ``runs/<preset>/<run>-<hash>/`` holds ``config.json``, ``run.ipynb`` (as executed), ``progress.jsonl``,
``checkpoint.pt``, ``cases.csv`` and, last of all, ``metrics.json``. A run that has ``metrics.json`` for the same data is
done; any other goes on from its checkpoint.

Runs of an earlier version have the paper's methods in ``cases.csv`` and the other rules in ``further.csv``, which is not
read: tables of such runs lack the other rules. Without its ``metrics.json`` a run is scored again, from its checkpoint.
"""

from __future__ import annotations

import io
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from reproduction.config import RunConfig
from reproduction.config import is_done as is_done
from reproduction.data.cases import Case, CaseSet
from reproduction.scoring.evaluation import score_cases
from reproduction.scoring.rules import METHODS
from noisyseg.noise import GaussianDeformation
from reproduction.paths import atomic_write, read_json, write_json
from reproduction.provenance import provenance
from reproduction.network.training import Trainer, normalise, reproducible


def choose_device() -> torch.device:
    """The GPU where there is one; ``NOISYSEG_DEVICE`` (``cpu``, ``cuda``, ``cuda:1``) overrides."""
    return torch.device(os.environ.get("NOISYSEG_DEVICE", "cuda" if torch.cuda.is_available() else "cpu"))


def execute(
    config: RunConfig,
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str] = "data",
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train and evaluate one run in ``folder``, or go on with it, and return its metrics.

    Parameters
    ----------
    config
        What to run.
    folder
        The run's folder; made if missing.
    data
        Folder that holds the data sets.
    report
        Called with a line of progress every epoch.

    Raises
    ------
    FileNotFoundError
        If the data set has not been made.
    ValueError
        If a file in the folder is damaged or belongs to another run.
    OSError
        If the disk is full. The last checkpoint is kept in every case.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The lock dies with its process, however that ends. A second process waits and then finds the run done.
    with locked(folder, config, report):
        data_set = CaseSet(Path(data) / config.data_folder)
        if is_done(folder, config, data_set.digest):
            return read_json(folder / "metrics.json")
        (folder / "failure.txt").unlink(missing_ok=True)
        try:
            with reproducible(config.threads):
                return _execute(config, folder, data_set, report)
        except Exception as error:
            with suppress(OSError):  # on a full disk the error itself matters more than its record
                atomic_write(folder / "failure.txt", f"{type(error).__name__}: {' '.join(str(error).split())}\n")
            raise


@contextmanager
def locked(folder: Path, config: RunConfig, report: Callable[[str], None]) -> Iterator[None]:
    """Hold a run's folder for this process; wait, and say so, while another one has it."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        report(f"{config.name}: waiting for another process that works on it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _limit(ids: list[str], count: int) -> list[str]:
    return ids[:count] if count else ids


def noisy_label(case: Case, config: RunConfig) -> NDArray[np.uint8]:
    """The one noisy label of a case: the same for both losses, all folds and all trainings."""
    return GaussianDeformation(config.a, config.b).sample(case.label, rng=config.seed_of_case(case.id))


def build_trainer(config: RunConfig, data_set: CaseSet) -> Trainer:
    """Make the untrained trainer of a run with its training pairs: normalised images and noisy labels."""
    ids = _limit(data_set.split(config.organ, config.fold)[0], config.train_cases)
    images = labels = torch.empty(0)
    for k, name in enumerate(ids):  # one by one: nothing is in memory twice
        (case,) = data_set.load(config.organ, [name])
        if k == 0:
            images = torch.empty(len(ids), 1, *case.image.shape)
            labels = torch.empty(images.shape, dtype=torch.uint8)
        if case.image.shape != images.shape[2:]:
            raise ValueError(
                f"{config.organ} case {name} has shape {case.image.shape}, the first case {tuple(images.shape[2:])}; "
                "expected one shape for all"
            )
        images[k] = normalise([case.image], config)[0]
        labels[k, 0] = torch.from_numpy(noisy_label(case, config))
    return Trainer(config, images, labels, choose_device())


def load_test_cases(config: RunConfig, data_set: CaseSet) -> list[Case]:
    """Read the cases that a run is scored on."""
    _, test_ids = data_set.split(config.organ, config.fold)
    return data_set.load(config.organ, _limit(test_ids, config.test_cases))


def _execute(config: RunConfig, folder: Path, data_set: CaseSet, report: Callable[[str], None]) -> dict[str, Any]:
    started, worked = time.perf_counter(), time.process_time()
    write_json(folder / "config.json", config.to_dict())
    trainer, test = build_trainer(config, data_set), load_test_cases(config, data_set)
    facts = {"data_digest": data_set.digest}
    checkpoint, progress = folder / "checkpoint.pt", folder / "progress.jsonl"
    if checkpoint.is_file():
        trainer.load(checkpoint, **facts)
        report(f"{config.name}: resumed after epoch {trainer.epoch} of {config.epochs}")
    # A resumed run also has the time of its earlier processes, up to the last epoch that each of them finished.
    spent = trainer.history[-1] if trainer.history else {}
    started -= spent.get("wall_s", 0.0)
    worked -= spent.get("cpu_s", 0.0)
    # A killed process may have left a line too few, or half of one: the file follows the checkpoint.
    atomic_write(progress, "".join(json.dumps(record) + "\n" for record in trainer.history))
    while trainer.epoch < config.epochs:
        begun = time.perf_counter()
        record = trainer.run_epoch()
        # In the trainer's history, hence in the checkpoint. The last two count from the run's first beginning.
        record["seconds"] = round(time.perf_counter() - begun, 3)
        record |= {"wall_s": round(time.perf_counter() - started, 3), "cpu_s": round(time.process_time() - worked, 3)}
        trainer.save(checkpoint, **facts)
        with open(progress, "a") as file:
            file.write(json.dumps(record) + "\n")
        left = _training_s(trainer) / trainer.epoch * (config.epochs - trainer.epoch)
        report(
            f"{config.name}: epoch {trainer.epoch}/{config.epochs}  loss {record['train_loss']:.4f}  "
            f"train Dice {record['train_dice']:.3f}  {left:.0f} s left"
        )
    noisy = [noisy_label(case, config) for case in test]
    maps = trainer.probabilities(normalise([case.image for case in test], config)).numpy()
    rows, rules = score_cases(config, trainer, test, noisy, list(maps))
    buffer = io.StringIO()
    pd.DataFrame(rows).to_csv(buffer, index=False)
    atomic_write(folder / "cases.csv", buffer.getvalue())
    metrics = {
        "run": config.name,
        "config_hash": config.hash,
        "data_digest": data_set.digest,
        "data_version": data_set.manifest.get("source", {}).get("version"),
        "scores": _means(rows),
        "rules": rules,
        "best_epoch": trainer.best_epoch,
        "train_cases": len(trainer.images),
        "test_cases": len(test),
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "precision": str(trainer.dtype).removeprefix("torch."),
        "device": str(trainer.device),
        "training_s": round(_training_s(trainer), 3),
        # Of all processes that worked on the run: what others on the machine do is in wall_s, not in cpu_s.
        "wall_s": round(time.perf_counter() - started, 3),
        "cpu_s": round(time.process_time() - worked, 3),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "gpu_memory_mib": _gpu_memory_mib(trainer.device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "provenance": provenance(),
    }
    write_json(folder / "metrics.json", metrics)
    scores = "  ".join(f"{method} {score:.4f}" for method, score in metrics["scores"].items())
    report(f"{config.name}: done, mean test Dice  {scores}")
    return metrics


def _gpu_memory_mib(device: torch.device) -> float | None:
    """The most that torch held of a GPU's memory in this process, without the context; None on the processor."""
    return round(torch.cuda.max_memory_reserved(device) / 2**20, 1) if device.type == "cuda" else None


def _training_s(trainer: Trainer) -> float:
    return sum(record["seconds"] for record in trainer.history)


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean Dice against the noisy labels of the paper's methods."""
    scores = {method: [row["dice_noisy"] for row in rows if row["method"] == method] for method in METHODS}
    return {method: round(float(np.mean(values)), 6) for method, values in scores.items() if values}
