"""Finished runs under further thresholding rules, without training (book chapter *Reproduce*)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from reproduction.config import Preset, RunConfig
from reproduction.data.cases import Case, CaseSet
from reproduction.runs.run import is_done, locked, noisy_label, prepare
from reproduction.provenance import provenance
from reproduction.scoring.further import lacks_rankseg, read_further, score_further_run, write_further
from reproduction.paths import read_json
from reproduction.scoring.rules import rankseg_version
from reproduction.network.training import reproducible


class _Cases:
    """Cases of one organ of one data set, read once for all runs that need them."""

    def __init__(self) -> None:
        self.key: tuple[str, str] | None = None
        self.cases: dict[str, Case] = {}

    def loader(self, data_set: CaseSet) -> Callable[[str, list[str]], list[Case]]:
        def load(organ: str, ids: list[str]) -> list[Case]:
            if self.key != (data_set.digest, organ):
                self.key, self.cases = (data_set.digest, organ), {}
            for case in data_set.load(organ, [name for name in ids if name not in self.cases]):
                self.cases[case.id] = case
            return [self.cases[name] for name in ids]

        return load


def rescore_run(
    config: RunConfig,
    folder: Path,
    data_set: CaseSet,
    load: Callable[[str, list[str]], list[Case]] | None = None,
) -> dict[str, Any]:
    """Score one finished run under the further rules, from its checkpoint; ``metrics.json`` and ``cases.csv`` stay.

    Parameters
    ----------
    config, folder
        The run and its folder, which has ``metrics.json``.
    data_set
        The data that the run saw.
    load
        See :func:`reproduction.runs.run.prepare`.

    Returns
    -------
    dict
        What ``further.json`` then holds, see :func:`reproduction.scoring.further.score_further_run`.

    Raises
    ------
    ValueError
        If the run saw other data, its checkpoint is missing or damaged, or does not give the maps that were scored.
    """
    metrics = read_json(folder / "metrics.json")
    if metrics["data_digest"] != data_set.digest:
        raise ValueError(f"{config.name}: the run saw other data than those in {data_set.folder}")
    if not (folder / "checkpoint.pt").is_file():
        raise ValueError(f"{config.name}: it has no checkpoint.pt, so its maps cannot be made again")
    with reproducible(config.threads):
        trainer, test = prepare(config, data_set, load)
        trainer.dtype = getattr(torch, metrics["precision"])  # the arithmetic that trained, wherever this is
        try:
            trainer.load(folder / "checkpoint.pt", data_digest=data_set.digest)
        except ValueError as error:
            raise ValueError(f"{config.name}: its maps cannot be made again: {error}") from error
        noisy = [noisy_label(case, config) for case in test]
        scored = pd.read_csv(folder / "cases.csv")
        rows, facts = score_further_run(config, trainer, test, noisy, scored)
    facts = {**facts, "provenance": provenance()}
    write_further(folder, config, data_set.digest, rows, facts)
    return facts


def rescore(
    preset: Preset,
    data: str | os.PathLike[str] = "data",
    runs: str | os.PathLike[str] = "runs",
    again: bool = False,
    report: Callable[[str], None] = print,
) -> int:
    """Score all finished runs of a preset under the further rules; return how many were scored now.

    A run that has its further scores is left as it is, unless ``again``, or unless they were made without ``rankseg``
    and it is installed now. Runs that are not finished are counted and left alone.

    Raises
    ------
    ValueError
        If no run of the preset is finished; or, after the others have been scored, if one could not be: which, why.
    FileNotFoundError
        If the data set is not there.
    """
    home = Path(runs) / preset.name
    cases = _Cases()
    finished = [config for config in preset.runs() if is_done(home / config.folder, config)]
    if not finished:
        raise ValueError(f"no run of {preset.name} is finished in {home}")
    made, failed = 0, []
    for config in finished:
        folder, begun = home / config.folder, time.perf_counter()
        data_set = CaseSet(Path(data) / config.data_folder)
        try:
            with locked(folder, config, report):
                known = read_further(folder, config, data_set.digest)
                if known and not again and not (lacks_rankseg(known, config) and rankseg_version()):
                    continue
                facts = rescore_run(config, folder, data_set, cases.loader(data_set))
        except ValueError as error:
            failed.append(str(error))
            report(str(error))
            continue
        made += 1
        same = "stored scores met exactly" if facts["apart"] == 0 else f"stored scores met to {facts['apart']:.1e}"
        report(
            f"{config.name}: threshold {facts['threshold']:.3f} on its training cases, {same}, "
            f"rankseg {facts['rankseg'] or 'not installed'}, {time.perf_counter() - begun:.1f} s"
        )
    total = len(preset.runs())
    report(
        f"{preset.name}: {made} runs scored, {len(finished) - made - len(failed)} had been, {total - len(finished)} "
        "not finished"
    )
    if failed:
        raise ValueError(f"{len(failed)} of {len(finished)} runs could not be scored, the first is {failed[0]}")
    return made
