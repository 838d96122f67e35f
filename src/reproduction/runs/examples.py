"""Masks to look at: of every noise strength the case in the middle and the worst one, from the runs' checkpoints.

``results/<preset>/examples.png`` shows them and ``examples.csv`` says which they are (book chapter *The experiment*).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisyseg import GaussianDeformation, dice, optimal_dice
from reproduction.config import SEED_AXIS, Preset
from reproduction.data.cases import Case, CaseSet
from reproduction.paths import atomic_write, write_json
from reproduction.provenance import provenance
from reproduction.runs.run import Run
from reproduction.runs.tables import collect_cases

MIDDLE, WORST = "in the middle", "worst"
DRAWS = 5  # noisy labels of an organ in a picture
METHOD = "CE(*)"  # by its Dice the cases are chosen


@dataclass(frozen=True)
class Choice:
    """A case of a setting, why it is shown, and who scored it."""

    organ: str
    a: float
    which: str
    case: str
    fold: int


@dataclass(frozen=True)
class Example:
    """The axial slice of a case that has most of the noisy label: image, label, and the masks of the methods."""

    choice: Choice
    slice: int
    image: NDArray[np.float32]  # (x, y)
    label: NDArray[np.bool_]
    masks: dict[str, NDArray[np.bool_]]
    dice: dict[str, float]  # of the whole volume, against the noisy label

    def row(self) -> dict[str, Any]:
        """Give what identifies the example, and its scores."""
        return {**asdict(self.choice), "slice": self.slice, **self.dice}


def choose(cases: pd.DataFrame) -> list[Choice]:
    """Choose two cases of every organ and noise strength by the Dice of CE(*): the one in the middle and the worst.

    Of an even number it is the lower of the two in the middle. Of several training seeds the first counts.

    Examples
    --------
    >>> row = {"organ": "aorta", "a": 0.01, "method": "CE(*)", "fold": 0}
    >>> found = choose(pd.DataFrame([{**row, "case": str(k), "dice_noisy": k / 9} for k in (3, 1, 5)]))
    >>> [(choice.which, choice.case) for choice in found]
    [('in the middle', '3'), ('worst', '1')]
    """
    scored: Any = cases[cases["method"] == METHOD]
    if SEED_AXIS in scored:
        scored = scored[scored[SEED_AXIS] == scored[SEED_AXIS].min()]
    choices = []
    for (organ, a), group in scored.groupby(["organ", "a"], sort=False):
        ranked = group.sort_values(["dice_noisy", "case"])
        for which, place in ((MIDDLE, (len(ranked) - 1) // 2), (WORST, 0)):
            row = ranked.iloc[place]
            choices.append(Choice(str(organ), float(a), which, str(row["case"]), int(row["fold"])))
    return choices


def first_with_all(data_set: CaseSet) -> dict[str, Case]:
    """Read the first patient who has every organ of a data set: organ to case.

    Raises
    ------
    ValueError
        If nobody has every organ.
    """
    organs = list(data_set.manifest["organs"])
    ids = [name for name in data_set.entries(organs[0]) if all(name in data_set.entries(organ) for organ in organs)]
    if not ids:
        raise ValueError(f"{data_set.folder} has no case with every organ: {', '.join(organs)}")
    return {organ: data_set.load(organ, ids[:1])[0] for organ in organs}


def noisy_rows(cases: Mapping[str, Case], strengths: Sequence[float], b: float, draws: int) -> pd.DataFrame:
    """Score samples of the noise against the label they come from: ``organ, case, a, seed, dice``.

    Sample k has the seed k everywhere, as in :func:`reproduction.figures.views.plot_noisy_labels`.
    """
    return pd.DataFrame(
        [
            {"organ": organ, "case": case.id, "a": a, "seed": k}
            | {"dice": dice(GaussianDeformation(a, b).sample(case.label, rng=k), case.label)}
            for organ, case in cases.items()
            for a in strengths
            for k in range(draws)
        ]
    )


def make_example(choice: Choice, image: NDArray, noisy: NDArray, masks: Mapping[str, NDArray]) -> Example:
    """Cut the axial slice that has most of the noisy label, the first of several."""
    label = noisy.astype(bool)
    best = int(np.argmax(label.sum(axis=(0, 1))))
    return Example(
        choice,
        best,
        np.asarray(image[..., best], dtype=np.float32),
        label[..., best],
        {name: mask[..., best] for name, mask in masks.items()},
        {name: dice(mask, label) for name, mask in masks.items()},
    )


def collect_examples(
    preset: Preset,
    runs: str | os.PathLike[str],
    data: str | os.PathLike[str],
    report: Callable[[str], None] = print,
) -> list[Example]:
    """Make the masks of the chosen cases from the checkpoints of a preset's runs, which have to be finished.

    Parameters
    ----------
    preset
        The grid; of a key with several values that is no organ, strength, loss, fold or seed, the first.
    runs
        Folder of the preset's runs, ``runs/<preset>``.
    data
        Folder of the data sets.
    report
        Called with a line for each case.
    """
    examples = []
    for choice in choose(collect_cases(preset, preset.runs(), runs)):
        masks: dict[str, NDArray] = {}
        image = noisy = np.empty(0)
        for loss in preset.grid["loss"]:
            axes = {axis: points[0] for axis, points in preset.grid.items()}
            config = preset.run(**axes | {"organ": choice.organ, "a": choice.a, "loss": loss, "fold": choice.fold})
            with Run(config, Path(runs) / config.folder, data, report) as run:
                run.load()
                place = [case.id for case in run.cases].index(choice.case)
                c, image, noisy = run.predict()[place], run.cases[place].image, run.noisy[place]
            masks |= {"CE(0)": c >= 0.5, METHOD: optimal_dice(c)} if loss == "ce" else {"SD(0)": c >= 0.5}
        examples.append(make_example(choice, image, noisy, masks))
        report(f"{choice.organ}, a = {choice.a}: {choice.case} is {choice.which}")
    return examples


def write_examples(examples: Sequence[Example], folder: str | os.PathLike[str]) -> Path:
    """Write ``examples.csv`` into a folder: which cases and slices are shown, and what they score."""
    table = pd.DataFrame([example.row() for example in examples])
    return atomic_write(Path(folder) / "examples.csv", table.to_csv(index=False, float_format="%.6f"))


def write_noisy_rows(table: pd.DataFrame, folder: str | os.PathLike[str]) -> Path:
    """Write ``noise.csv`` into a folder, with its provenance in ``noise_provenance.json``."""
    facts = {**provenance(), "created": datetime.now(UTC).isoformat(timespec="seconds")}
    write_json(Path(folder) / "noise_provenance.json", facts)
    return atomic_write(Path(folder) / "noise.csv", table.to_csv(index=False, float_format="%.6f"))
