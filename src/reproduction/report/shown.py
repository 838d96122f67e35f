"""Which results the book's chapters show (book chapter *The experiment*)."""

from __future__ import annotations

import os
from pathlib import Path

from reproduction.paths import project_root
from reproduction.runs.tables import Results, load_results

EXPECTED = ("hippocampus", "phantoms")  # these have their place on the pages even where they were not run


def _presets_in(folder: Path) -> list[str]:
    # Other tables (benchmarks, kidneys) have no summary; the paper's own Table 1 has none either.
    return sorted(path.parent.name for path in folder.glob("*/summary.csv"))


def shown_results() -> tuple[dict[str, Results], dict[str, str]]:
    """Results that the chapters show, and why the others are not among them.

    Those in ``$NOISYSEG_RESULTS``, which a reader has just made, are all shown. Of the stored ones, the largest first,
    a preset is left out where one that is shown already has one of its organs from the same kind of data: a small
    preset beside the large one would repeat it, with wider intervals.

    Returns
    -------
    shown : dict
        Preset to its tables (``reproduction.runs.tables.Results``); ``EXPECTED`` first, then by name.
    left_out : dict
        Preset to the preset that is shown in its place.

    Examples
    --------
    >>> shown, left_out = shown_results()
    >>> next(iter(shown)), left_out.get("quick")
    ('hippocampus', 'phantoms')
    """
    fresh = _presets_in(Path(os.environ["NOISYSEG_RESULTS"])) if "NOISYSEG_RESULTS" in os.environ else []
    stored = [preset for preset in _presets_in(project_root() / "results") if preset not in fresh]
    results = {preset: load_results(preset) for preset in (*fresh, *stored)}
    order = [*fresh, *sorted(stored, key=lambda preset: (-len(results[preset].provenance["runs"]), preset))]
    shown, left_out, owner = {}, {}, {}
    for preset in order:
        dataset = results[preset].provenance["config"]["dataset"]
        keys = [(dataset, organ) for organ in results[preset].summary["organ"].unique()]
        taken = next((owner[key] for key in keys if key in owner), None)
        if taken and preset not in fresh:
            left_out[preset] = taken
            continue
        shown[preset] = results[preset]
        for key in keys:
            owner.setdefault(key, preset)
    ranks = {preset: rank for rank, preset in enumerate(EXPECTED)}
    names = sorted(shown, key=lambda preset: (ranks.get(preset, len(ranks)), preset))
    return {preset: shown[preset] for preset in names}, left_out
