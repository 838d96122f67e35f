"""Which result tables the chapters show: those of the repository, and on one page those of the reader's own runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from reproduction.config import SEED_AXIS
from reproduction.paths import project_root
from reproduction.runs.tables import Results, read_results

EXPECTED = (
    "openkbp_oesophagus",
    "hippocampus",
    "phantoms",
)  # these have their place on the pages even where they were not run
ORDER = ("openkbp_oesophagus", "openkbp", "hippocampus", "openkbp_offcentre", "phantoms")
#: How an organ is called on the pages, by data set: an organ of a phantom is none, and not all patches are centred.
NAMES = {"phantoms": "{} phantom", "openkbp_offcentre": "{}, off-centre"}
CONTROLS = ("openkbp_blank",)  # images that show blank or not and nothing else: the data chapter has them
VARIABLE = "NOISYSEG_RESULTS"  # the folder of tables that a command has just made
COLUMNS = "preset organ a method case difference score n mean lo hi dice_noisy ceiling ceiling_mc".split()


def results_in(folder: str | os.PathLike[str]) -> dict[str, Results]:
    """Read every preset's tables in ``<folder>/<preset>``, by name."""
    # Other tables (benchmarks, kidneys) have no summary; the paper's own Table 1 has none either.
    found = sorted(path.parent for path in Path(folder).glob("*/summary.csv"))
    return {path.name: read_results(path) for path in found}


def stored_results() -> dict[str, Results]:
    """Tables that are part of the repository, by preset."""
    return results_in(project_root() / "results")


def run_results() -> dict[str, Results]:
    """Read what the reader has just made: ``$NOISYSEG_RESULTS`` holds the tables of one preset or of several.

    Without that variable nothing was made.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return {}
    folder = Path(named)
    return {folder.name: read_results(folder)} if (folder / "summary.csv").is_file() else results_in(folder)


def book_results() -> tuple[dict[str, Results], dict[str, str]]:
    """Select the stored results that the chapters show, and say why the others are not among them.

    The presets with the most trainings come first. A preset is left out if an earlier one has one of its organs from
    the same kind of data: a small preset would repeat the large one, with wider intervals. `CONTROLS` are no results.

    Returns
    -------
    chosen : dict
        Preset to its tables, in ``ORDER``; others last, by name.
    left_out : dict
        Preset to the preset that is shown in its place.

    Examples
    --------
    >>> chosen, left_out = book_results()
    >>> list(chosen)
    ['openkbp_oesophagus', 'hippocampus', 'phantoms']
    """
    stored = stored_results()
    results = {preset: result for preset, result in stored.items() if dataset_of(result) not in CONTROLS}
    chosen, left_out, owner = {}, {}, {}
    for preset in sorted(results, key=lambda preset: (-len(results[preset].provenance["runs"]), preset)):
        dataset = dataset_of(results[preset])
        keys = [(dataset, organ) for organ in results[preset].summary["organ"].unique()]
        if taken := next((owner[key] for key in keys if key in owner), None):
            left_out[preset] = taken
        else:
            chosen[preset] = results[preset]
            owner |= dict.fromkeys(keys, preset)
    ranks = {preset: rank for rank, preset in enumerate(ORDER)}
    names = sorted(chosen, key=lambda preset: (ranks.get(preset, len(ranks)), preset))
    return {preset: chosen[preset] for preset in names}, left_out


def dataset_of(result: Results) -> str:
    """Name the data set that the runs of a preset had."""
    return str(result.provenance.get("config", {}).get("dataset", ""))


def select(results: Mapping[str, Results], *datasets: str) -> dict[str, Results]:
    """Select the results on some data sets.

    Examples
    --------
    >>> list(select(book_results()[0], "phantoms"))
    ['phantoms']
    """
    return {preset: result for preset, result in results.items() if dataset_of(result) in datasets}


def missing(chosen: Mapping[str, Results], left_out: Mapping[str, str]) -> list[str]:
    """List the expected presets that were not run."""
    return [preset for preset in EXPECTED if preset not in chosen and preset not in left_out]


def notes(chosen: Mapping[str, Results], left_out: Mapping[str, str]) -> str:
    """List in Markdown what a page shows, and what it does not show and why."""
    lines = [f"- **{preset}**: {result.provenance['about']}" for preset, result in chosen.items()]
    lines += [f"- **{preset}**: {not_run(preset)}" for preset in missing(chosen, left_out)]
    lines += [f"- {preset}: left out, because {other} has the same organs." for preset, other in left_out.items()]
    return "On this page:\n\n" + "\n".join(lines)


def not_run(preset: str) -> str:
    """Say that a preset was not run, and the command that runs it."""
    return f"not run yet; `make reproduce PRESET={preset}` runs it."


def pooled(results: Mapping[str, Results], part: str) -> pd.DataFrame:
    """Put one table of all presets together, with a column ``preset``.

    Organs are named as ``NAMES`` says; one that two presets share is named with its preset from the second one on. In
    ``history``, ``fold`` names the training seed too where there are several, so that it tells the trainings apart.
    """
    frames, seen = [], set()
    for preset, result in results.items():
        frame = getattr(result, part).copy()
        if "organ" not in frame:  # a table without rows has no columns either
            continue
        name = NAMES.get(dataset_of(result), "{}")
        frame["organ"] = [name.format(organ) for organ in frame["organ"]]
        shared = {organ: f"{organ} ({preset})" for organ in set(frame["organ"]) & seen}
        seen |= set(frame["organ"])
        if part == "history" and SEED_AXIS in frame:
            frame["fold"] = frame["fold"].astype(str) + "/" + frame[SEED_AXIS].astype(str)
        frames.append(frame.replace({"organ": shared}).assign(preset=preset))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)
