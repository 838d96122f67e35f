"""A run: its folder, its lock, resume, scores and provenance (book chapter *Reproduce*).

A run's folder ``runs/<preset>/<run>-<hash>/`` holds ``config.json``, ``run.ipynb`` (as executed), ``progress.jsonl``,
``checkpoint.pt``, ``cases.csv`` and, last of all, ``metrics.json``. A run that has ``metrics.json`` for the same data
is done; any other goes on from its checkpoint.

Runs of an earlier version have the paper's methods in ``cases.csv`` and the other rules in ``further.csv``, which is
not read: tables of such runs lack the other rules. Without ``metrics.json`` a run is scored again, from its checkpoint.
"""

from __future__ import annotations

import functools
import io
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import filelock
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from noisyseg.metrics import dice
from reproduction.config import RunConfig, is_done
from reproduction.data.cases import Case, CaseSet
from reproduction.network.pairs import load_test_cases, noisy_label, normalise, training_pairs, training_targets
from reproduction.network.training import Trainer, reproducible
from reproduction.paths import atomic_write, read_json, write_json
from reproduction.provenance import provenance
from reproduction.scoring.evaluation import score_cases
from reproduction.scoring.rules import METHODS, MIXED_RULES

T = TypeVar("T")


def choose_device() -> torch.device:
    """The GPU where there is one; ``NOISYSEG_DEVICE`` (``cpu``, ``cuda``, ``cuda:1``) overrides."""
    return torch.device(os.environ.get("NOISYSEG_DEVICE", "cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def locked(folder: Path, config: RunConfig, report: Callable[[str], None]) -> Iterator[None]:
    """Hold a run's folder for this process; wait, and say so, while another one has it."""
    lock = filelock.FileLock(folder / ".lock", is_singleton=True)  # a notebook's cell may be executed again
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        report(f"{config.name}: waiting for another process that works on it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _recorded(step: Callable[[Run], T]) -> Callable[[Run], T]:
    """Record in ``failure.txt`` what goes wrong in a step of a run."""

    @functools.wraps(step)
    def recorded(run: Run) -> T:
        try:
            return step(run)
        except Exception as error:
            with suppress(OSError):  # on a full disk the error itself matters more than its record
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}\n"
                atomic_write(run.folder / "failure.txt", reason)
            raise

    return recorded


class Run:
    """One training run in its folder, step by step: what :func:`execute` and the training notebook do.

    The steps are ``open``, ``load``, ``train_epoch`` and ``save`` until ``trained``, ``predict``, ``score``, ``finish``
    and ``close``. Of a run that is finished they give what is stored: nothing is trained or written again. An exception
    in a step is recorded in ``failure.txt``.

    Parameters
    ----------
    config
        What to run.
    folder
        The run's folder; made if missing.
    data
        Folder that holds the data sets.
    report
        Called with a line for the person who waits.

    Attributes
    ----------
    metrics
        What ``metrics.json`` holds; None until the run is finished.
    trainer
        The network and its training pairs, from ``load`` on.
    cases
        The test cases, from ``load`` on.
    noisy
        Their noisy labels, in the same order.
    maps
        What the network makes of the test cases, array (cases, x, y, z), from ``predict`` on.
    """

    trainer: Trainer
    cases: list[Case]
    noisy: list[NDArray[np.uint8]]
    maps: NDArray[np.float32]

    def __init__(
        self,
        config: RunConfig,
        folder: str | os.PathLike[str],
        data: str | os.PathLike[str] = "data",
        report: Callable[[str], None] = print,
    ) -> None:
        self.config = config
        self.folder = Path(folder)
        self.data = Path(data)
        self.report = report
        self.metrics: dict[str, Any] | None = None
        self._held = ExitStack()
        self._rules: dict[str, Any] = {}
        self._scores = pd.DataFrame()

    def __enter__(self) -> Run:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @_recorded
    def open(self) -> Run:
        """Take the folder, waiting for another process that has it, and look whether the run is finished.

        Raises
        ------
        FileNotFoundError
            If the data set has not been made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            # The lock dies with its process, however that ends. A second process waits and then finds the run done.
            held.enter_context(locked(self.folder, self.config, self.report))
            self.data_set = CaseSet(self.data / self.config.data_folder)
            if is_done(self.folder, self.config, self.data_set.digest):
                self.metrics = read_json(self.folder / "metrics.json")
            else:
                (self.folder / "failure.txt").unlink(missing_ok=True)
            held.enter_context(reproducible(self.config.threads))
            self._held = held.pop_all()
        return self

    def close(self) -> None:
        """Let go of the folder."""
        self._held.close()

    @_recorded
    def load(self) -> None:
        """Read the cases, draw their noisy labels, build the network, and go back to the last finished epoch.

        Raises
        ------
        ValueError
            If a file in the folder or a case is damaged, or the checkpoint belongs to another run.
        """
        self._started, self._worked = time.perf_counter(), time.process_time()
        if self.metrics is None:
            write_json(self.folder / "config.json", self.config.to_dict())
        pairs = training_pairs(self.config, self.data_set)
        targets = training_targets(self.config, self.data_set)
        self.trainer = Trainer(self.config, *pairs, choose_device(), targets)
        self.cases = load_test_cases(self.config, self.data_set)
        self.noisy = [noisy_label(case, self.config) for case in self.cases]
        if self._checkpoint.is_file() or self.metrics is not None:
            self.trainer.load(self._checkpoint, data_digest=self.data_set.digest)
        if self.metrics is not None:
            return
        if self.trainer.epoch:
            self.report(f"{self.config.name}: resumed after epoch {self.trainer.epoch} of {self.config.epochs}")
        # A resumed run also has the time of its earlier processes, up to the last epoch that each of them finished.
        spent = self.trainer.history[-1] if self.trainer.history else {}
        self._started -= spent.get("wall_s", 0.0)
        self._worked -= spent.get("cpu_s", 0.0)
        # A killed process may have left a line too few, or half of one: the file follows the checkpoint.
        lines = "".join(json.dumps(record) + "\n" for record in self.trainer.history)
        atomic_write(self.folder / "progress.jsonl", lines)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def trained(self) -> bool:
        """Whether all epochs are done."""
        return self.trainer.epoch >= self.config.epochs

    @_recorded
    def train_epoch(self) -> dict[str, Any]:
        """Train for one epoch; return its record: loss, Dice, learning rate, and the times so far.

        Of a network that is pruned it also has ``test_dice``, the mean over the test cases at 1/2: every epoch leaves a
        network of another size.
        """
        begun = time.perf_counter()
        record = self.trainer.run_epoch()
        # In the trainer's history, hence in the checkpoint. The last two count from the run's first beginning.
        record["seconds"] = round(time.perf_counter() - begun, 3)
        if self.config.network.criterion:
            masks = self.predict() >= 0.5
            scores = [dice(mask, label) for mask, label in zip(masks, self.noisy, strict=True)]
            record["test_dice"] = round(float(np.mean(scores)), 6)
        record |= self._clocks()
        return record

    @_recorded
    def save(self) -> None:
        """Replace the checkpoint, and add the epoch to ``progress.jsonl``."""
        self.trainer.save(self._checkpoint, data_digest=self.data_set.digest)
        with open(self.folder / "progress.jsonl", "a") as file:
            file.write(json.dumps(self.trainer.history[-1]) + "\n")

    def progress(self) -> str:
        """Say in a line how far the training is."""
        epoch, epochs, record = self.trainer.epoch, self.config.epochs, self.trainer.history[-1]
        left = _training_s(self.trainer) / epoch * (epochs - epoch)
        return (
            f"{self.config.name}: epoch {epoch}/{epochs}  loss {record['train_loss']:.4f}  "
            f"train Dice {record['train_dice']:.3f}  {left:.0f} s left"
        )

    @_recorded
    def predict(self) -> NDArray[np.float32]:
        """Make the maps of the test cases, with the weights of the epoch that ``config.select`` chose."""
        images = normalise([case.image for case in self.cases], self.config)
        self.maps = self.trainer.probabilities(images).numpy()
        return self.maps

    @_recorded
    def score(self) -> pd.DataFrame:
        """Score the maps under every rule and write ``cases.csv``: a row for every case and rule."""
        if self.metrics is not None:
            return pd.read_csv(self.folder / "cases.csv")
        rows, self._rules = score_cases(self.config, self.trainer, self.cases, self.noisy, list(self.maps))
        self._scores = pd.DataFrame(rows)
        buffer = io.StringIO()
        self._scores.to_csv(buffer, index=False)
        atomic_write(self.folder / "cases.csv", buffer.getvalue())
        return self._scores

    @_recorded
    def finish(self) -> dict[str, Any]:
        """Write ``metrics.json``, by which the run is done, and return what it holds."""
        if self.metrics is None:
            self.metrics = self._result()
            write_json(self.folder / "metrics.json", self.metrics)
            scores = "  ".join(f"{method} {score:.4f}" for method, score in self.metrics["scores"].items())
            self.report(f"{self.config.name}: done, mean test Dice  {scores}")
        return self.metrics

    def _result(self) -> dict[str, Any]:
        trainer = self.trainer
        table: Any = self._scores
        scores = {
            method: table.loc[table["method"] == method, "dice_noisy"].to_numpy() for method in (*METHODS, *MIXED_RULES)
        }
        return {
            "run": self.config.name,
            "config_hash": self.config.hash,
            "data_digest": self.data_set.digest,
            "data_version": self.data_set.manifest.get("source", {}).get("version"),
            "scores": {method: round(float(np.mean(values)), 6) for method, values in scores.items() if len(values)},
            "rules": self._rules,
            "best_epoch": trainer.best_epoch,
            "train_cases": len(trainer.images),
            "test_cases": len(self.cases),
            "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
            "precision": str(trainer.dtype).removeprefix("torch."),
            "device": str(trainer.device),
            "training_s": round(_training_s(trainer), 3),
            # Of all processes that worked on the run: what others on the machine do is in wall_s, not in cpu_s.
            **self._clocks(),
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "gpu_memory_mib": _gpu_memory_mib(trainer.device),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "provenance": provenance(),
        }

    def _clocks(self) -> dict[str, float]:
        return {
            "wall_s": round(time.perf_counter() - self._started, 3),
            "cpu_s": round(time.process_time() - self._worked, 3),
        }


def execute(
    config: RunConfig,
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str] = "data",
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train and evaluate one run in ``folder``, or go on with it, and return its metrics.

    The parameters are those of :class:`Run`.

    Raises
    ------
    FileNotFoundError
        If the data set has not been made.
    ValueError
        If a file in the folder is damaged or belongs to another run.
    OSError
        If the disk is full. The last checkpoint is kept in every case.
    """
    with Run(config, folder, data, report) as run:
        if run.metrics is None:
            run.load()
            while not run.trained:
                run.train_epoch()
                run.save()
                report(run.progress())
            run.predict()
            run.score()
        return run.finish()


def _gpu_memory_mib(device: torch.device) -> float | None:
    """The most that torch held of a GPU's memory in this process, without the context; None on the processor."""
    return round(torch.cuda.max_memory_reserved(device) / 2**20, 1) if device.type == "cuda" else None


def _training_s(trainer: Trainer) -> float:
    return sum(record["seconds"] for record in trainer.history)
