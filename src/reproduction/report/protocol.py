"""What the paper does and what we do, item by item, and why (book chapters *The experiment* and *Deviations*)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reproduction.config import SEED_AXIS, Preset
from reproduction.data.cases import FOLDS
from reproduction.runs.tables import Results


@dataclass(frozen=True)
class Protocol:
    """The numbers of a preset that a reader compares: from its results, or from its plan where it was not run.

    ``config`` has the grid in ``config["grid"]``; ``tested`` (organ to number of test cases), ``parameters`` (of one
    network) and ``data_version`` (of TotalSegmentator, "not recorded" where the tables lack it) are None where nothing
    was run.
    """

    config: dict[str, Any]
    tested: dict[str, int] | None = None
    parameters: int | None = None
    data_version: str | None = None

    @classmethod
    def of_results(cls, results: Results) -> Protocol:
        """From tables: the configuration that was run."""
        groups = results.cases.groupby("organ", sort=False)["case"]
        tested = {str(organ): len(set(cases)) for organ, cases in groups}
        facts = results.provenance
        return cls(facts["config"], tested, facts["parameters"], facts.get("data_version") or "not recorded")

    @classmethod
    def of_plan(cls, preset: Preset) -> Protocol:
        """From a plan: what would be run."""
        return cls({**preset.values, "grid": {axis: list(points) for axis, points in preset.grid.items()}})

    @property
    def seeds(self) -> list[int]:
        """Training seeds of every cell."""
        return list(self.config["grid"].get(SEED_AXIS) or [self.config[SEED_AXIS]])

    def runs(self) -> int:
        """Number of trainings in the whole grid."""
        return math.prod(len(points) for points in self.config["grid"].values())

    def trainings(self) -> str:
        """Number of trainings in words, with how many of them differ in more than the seed."""
        seeds, runs = len(self.seeds), self.runs()
        return f"{runs} ({runs // seeds} × {seeds} seeds)" if seeds > 1 else str(runs)


@dataclass(frozen=True)
class Item:
    """One line of a protocol: what the paper prints, what we do, whether that is the same (None: it is not printed)."""

    name: str
    paper: str
    ours: Callable[[Protocol], str]
    same: Callable[[Protocol], bool] | None
    reason: str | Callable[[Protocol], str]

    def why(self, protocols: Mapping[str, Protocol]) -> str:
        """Give the reason of those who do otherwise; by name where their reasons differ."""
        if isinstance(self.reason, str):
            return self.reason
        others = {name: self.reason(p) for name, p in protocols.items() if not (self.same and self.same(p))}
        groups = {reason: [name for name in others if others[name] == reason] for reason in others.values()}
        if len(groups) < 2:
            return next(iter(groups), "")
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in groups.items())


def _data(p: Protocol) -> str:
    c = p.config
    known = {"hippocampus": "real MRI, hippocampus", "phantoms": f"phantoms, {c['phantom_cases']} an organ"}
    known |= dict.fromkeys(("openkbp", "openkbp_offcentre"), "CT, OpenKBP") | {"openkbp_blank": "blank or not, OpenKBP"}
    version = f" {p.data_version}" if p.data_version else ""
    return known.get(c["dataset"]) or str(c["dataset"]).replace("totalsegmentator", f"CT, TotalSegmentator{version}")


def _why_these_data(p: Protocol) -> str:
    reasons = {
        "phantoms": "nothing to fetch, and the clean label is known",
        "hippocampus": "real, and 27 MB to fetch",
        "totalsegmentator": "v2.0.1 has corrected labels",
    }
    return reasons.get(
        p.config["dataset"], "real CT under a free licence, fetched file by file; TotalSegmentator is 23.6 GB"
    )


def _patch(p: Protocol) -> tuple[int, float]:
    """Cells a side of a patch, and their size in mm."""
    dataset, size = str(p.config["dataset"]), p.config["phantom_size"]
    if dataset == "phantoms":
        return size, 192 / size
    return {"hippocampus": (32, 2.0), "totalsegmentator": (64, 3.0)}.get(dataset, (48, 4.0))


def _patches(p: Protocol) -> str:
    cells, mm = _patch(p)
    return f"{cells}³ at {mm:g} mm"


def _why_these_patches(p: Protocol) -> str:
    reasons = {
        "phantoms": "an eighth of the voxels: faster",
        "hippocampus": "the volumes are cut to the hippocampus, about 35 × 50 × 36 mm",
    }
    return reasons.get(p.config["dataset"], "the scans have about 4 mm a voxel in the plane; fewer voxels: faster")


def _centring(p: Protocol) -> str:
    return "anywhere in the patch" if p.config["dataset"] == "openkbp_offcentre" else CENTRED


def _noise_length(p: Protocol) -> str:
    cells, mm = _patch(p)
    return f"{0.01 * cells * mm:g} mm, {0.01 * cells:g} voxels"


def _steps(p: Protocol) -> str:
    """Training cases of a fold, and steps of a training; of what was not run, what the config says."""
    c = p.config
    counts = list((p.tested or {}).values()) or [c["phantom_cases"] or 400 * (c["dataset"] == "totalsegmentator")]
    if not all(counts):
        return "not run yet"
    folds = 1 if p.tested and len(c["grid"]["fold"]) < FOLDS else FOLDS  # of one fold the other four were the training
    train = [c["train_cases"] or round(n * (FOLDS - 1) / folds) for n in counts]
    steps = [c["epochs"] * math.ceil(n / c["batch_size"]) for n in train]
    ends = [f"{n:,}" for n in dict.fromkeys((min(train), max(train)))]
    more = [f"{n:,}" for n in dict.fromkeys((min(steps), max(steps)))]
    return f"{' to '.join(ends)} cases, {' to '.join(more)} steps"


def _tested(p: Protocol) -> str:
    return "not run yet" if p.tested is None else ", ".join(f"{n} {organ}" for organ, n in p.tested.items())


def _schedule(p: Protocol) -> str:
    c = p.config
    wait = f"divided by {1 / c['plateau_factor']:g} after {c['plateau_patience']} epochs without improvement"
    return f"Adam {c['learning_rate']:g}, {'cosine to 0' if c['schedule'] == 'cosine' else wait}"


def _augmentation(p: Protocol) -> str:
    c = p.config
    return (
        f"p = {c['augment_probability']:g}: shift ≤ {c['shift']:g} of the side, rotation ≤ {c['rotation_deg']:g}°, "
        f"smoothing ≤ {c['smoothing_voxels']:g} voxel"
    )


def _text_is(paper: str, ours: Callable[[Protocol], str]) -> Callable[[Protocol], bool]:
    return lambda p: ours(p) == paper


CENTRED = "the organ's centre of mass"
ORGANS = ("kidney", "aorta", "oesophagus")
ADAM = "Adam 0.0001, divided by 5 after 30 epochs without improvement"
ARITHMETIC = {"auto": "bfloat16 or float32, as the machine has it"}
SELECT = {"loss": "lowest training loss", "dice": "highest training Dice", "last": "the last"}
#: The protocol of the paper's section 5, item by item. The place in this list is the item's number on the page.
ITEMS = (
    Item(
        "data",
        "CT, TotalSegmentator v1",
        _data,
        lambda p: p.config["dataset"] == "totalsegmentator" and p.data_version in (None, "v1"),
        _why_these_data,
    ),
    Item(
        "organs",
        "right kidney, aorta, oesophagus",
        lambda p: ", ".join(p.config["grid"]["organ"]),
        lambda p: sorted(p.config["grid"]["organ"]) == sorted(ORGANS),
        "those that the data show",
    ),
    Item("patches", "64³ at 3 mm", _patches, _text_is("64³ at 3 mm", _patches), _why_these_patches),
    Item(
        "centre of the patch",
        CENTRED,
        _centring,
        _text_is(CENTRED, _centring),
        "in centred patches a constant shape, which never sees the image, is no bad guess",
    ),
    Item(
        "label of a cell",
        "not printed",
        lambda p: "organ where at least half of the cell is",
        None,
        "cells are larger than voxels; images are averaged over the cell",
    ),
    Item(
        "test cases",
        "400 an organ",
        _tested,
        lambda p: p.tested is None or set(p.tested.values()) == {400},
        "as many as there are, or as the time allows; intervals are wider with fewer",
    ),
    Item(
        "noise strengths a",
        "0.00, 0.01, 0.02, 0.03",
        lambda p: ", ".join(f"{a:.2f}" for a in p.config["grid"]["a"]),
        lambda p: sorted(p.config["grid"]["a"]) == [0, 0.01, 0.02, 0.03],
        "fewer for a quick run",
    ),
    Item(
        "smoothness b",
        "0.106 (captions; 0.212 in Listing 2)",
        lambda p: f"{p.config['b']:.3f}",
        lambda p: abs(p.config["b"] - 0.15 / math.sqrt(2)) < 1e-12,
        "another noise was asked for",
    ),
    Item(
        "a = .01 is",
        "1.92 mm, 0.64 voxels",
        _noise_length,
        None,
        "a is a fraction of the patch's side, so this follows from the patches",
    ),
    Item(
        "noise sampler",
        "Listing 2, which does not run as printed",
        lambda p: "stationary up to the border, exact look-up of voxels",
        None,
        "the printed one is weaker near the border, and interpolates",
    ),
    Item(
        "folds run",
        "5",
        lambda p: str(len(p.config["grid"]["fold"])),
        lambda p: len(p.config["grid"]["fold"]) == 5,
        "one fold has a fifth of the cases and takes a fifth of the time",
    ),
    Item(
        "features a level",
        "16-32-64-128-256",
        lambda p: "-".join(map(str, p.config["features"])),
        lambda p: list(p.config["features"]) == [16, 32, 64, 128, 256],
        "smaller patches bear fewer levels, and fewer features train faster",
    ),
    Item(
        "parameters",
        "not printed",
        lambda p: "not run yet" if p.parameters is None else f"{p.parameters:,}",
        None,
        "they follow from the features",
    ),
    Item(
        "epochs",
        "100, batches of 1",
        lambda p: f"{p.config['epochs']}, batches of {p.config['batch_size']}",
        lambda p: (p.config["epochs"], p.config["batch_size"]) == (100, 1),
        "fewer steps, to finish on a desktop computer",
    ),
    Item(
        "training of a fold",
        "320 cases, 32,000 steps",
        _steps,
        None,
        "this follows from cases, epochs and batches; after fewer steps networks are further from their loss's minimum",
    ),
    Item(
        "optimiser",
        ADAM,
        _schedule,
        _text_is(ADAM, _schedule),
        "a larger rate that falls to 0 suits fewer steps; tuned, one for both losses (the comments of the presets say "
        "how, where it was recorded)",
    ),
    Item(
        "weight of l2",
        "1e-05",
        lambda p: f"{p.config['l2_weight']:.0e}",
        lambda p: p.config["l2_weight"] == 1e-5,
        "another weight was asked for",
    ),
    Item("augmentation", "p = 0.5: shift, rotation, smoothing", _augmentation, None, "the ranges are ours"),
    Item(
        "epoch evaluated",
        "highest metric on the training data",
        lambda p: SELECT[p.config["select"]],
        lambda p: p.config["select"] == "dice",
        "the paper's metric is a running mean over the epoch's augmented pairs, and under strong noise the masks of "
        "cross-entropy at 1/2 are too small, and their Dice a poor guide",
    ),
    Item(
        "output starts",
        "not printed",
        lambda p: "at the share of foreground" if p.config["prior_bias"] else "at random",
        None,
        "at the share of foreground, cross-entropy need not first find out that most is background",
    ),
    Item(
        "arithmetic",
        "not printed",
        lambda p: ARITHMETIC.get(p.config["precision"]) or str(p.config["precision"]),
        None,
        "bfloat16 where the processor has instructions for it; weights, losses and optimiser are float32",
    ),
    Item(
        "training seeds",
        "not printed",
        lambda p: ", ".join(map(str, p.seeds)),
        None,
        "several show the spread between trainings",
    ),
)


def protocol_table(protocols: Mapping[str, Protocol]) -> pd.DataFrame:
    """Set protocols beside the paper's, one row an item.

    Parameters
    ----------
    protocols
        Preset to protocol.

    Returns
    -------
    DataFrame
        ``code`` (D1, D2, … in the order of ``ITEMS``), ``item``, ``published``, one column a preset, ``reason``
        and ``differs``: the presets that do otherwise than the paper, None where the paper does not print it.

    Examples
    --------
    >>> table = protocol_table({"paper": Protocol.of_plan(Preset.load("paper"))})
    >>> table.loc[0, ["code", "item", "published", "differs"]].tolist()
    ['D1', 'data', 'CT, TotalSegmentator v1', ()]
    """
    rows = []
    for number, item in enumerate(ITEMS, start=1):
        differs = None
        if item.same is not None:
            differs = tuple(name for name, protocol in protocols.items() if not item.same(protocol))
        row = {"code": f"D{number}", "item": item.name, "published": item.paper}
        row |= {name: item.ours(protocol) for name, protocol in protocols.items()}
        rows.append({**row, "reason": item.why(protocols), "differs": differs})
    return pd.DataFrame(rows)


def codes(protocol: Protocol) -> list[str]:
    """Numbers (D1, D2, …) of the items in which a protocol is not the paper's.

    Examples
    --------
    >>> codes(Protocol.of_plan(Preset.load("paper")))
    []
    """
    numbered = enumerate(ITEMS, start=1)
    return [f"D{number}" for number, item in numbered if item.same is not None and not item.same(protocol)]
