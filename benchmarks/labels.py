"""Label maps of several classes, side by side: argmax, a threshold for every class, rankseg and `noisyseg`.

    python benchmarks/labels.py --source ../shared/data [--cases 40]

The structures are real: both parts of the hippocampus (Medical Segmentation Decathlon), organs of head and neck
(OpenKBP) and the structures of a CT (TotalSegmentator). Their maps are the marginals that they have under Gaussian
noise of 2, 4 and 6 mm, and those with noise on every logit, as of a network. Every label map is scored by the mean over
the structures of its Dice with the maps that it was made from. The whole hippocampus and its posterior part are nested
regions: masks that are not nested are cut to the whole. Writes ``labels.csv`` and ``labels_provenance.json`` to
``results/benchmarks``, which the book's chapter "Several classes" shows. Needs ``rankseg``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import peers
from noisyseg import GaussianDeformation, optimal_dice, optimal_labels
from noisyseg.classes import nested_labels
from reproduction.data.nifti import read_label
from reproduction.data.openkbp.patients import ORGANS, SHAPE, canonical, read_spacing, read_sparse
from reproduction.data.openkbp.sources import Folder
from reproduction.paths import atomic_write, project_root, write_json
from reproduction.provenance import provenance

STRENGTHS_MM = (2.0, 4.0, 6.0)  # the paper's .01, .02 and .03 of 192 mm, nearly
LOGIT_NOISE = 1.0
Structures = tuple[str, NDArray[np.uint8], tuple[float, ...]]  # case, label map, voxel size in mm


def hippocampus(source: Path) -> Iterator[Structures]:
    for path in sorted((source / "msd" / "Task04_Hippocampus" / "labelsTr").glob("h*.nii.gz")):
        label, place = read_label(path.read_bytes(), (0, 1, 2))
        yield path.name, label, tuple(place.spacing_mm)


def head_and_neck(source: Path) -> Iterator[Structures]:
    folder = Folder(source / "openkbp")
    for name in folder.patients:
        a, b, c = read_spacing(folder.read(name, "voxel_dimensions.csv") or b"", "voxel_dimensions.csv")
        label = np.zeros(SHAPE, np.uint8)
        for k, file in enumerate(ORGANS.values(), start=1):
            if content := folder.read(name, f"{file}.csv"):
                index = read_sparse(content, f"{file}.csv", mask=True)[0]
                label.ravel()[index[label.ravel()[index] == 0]] = k  # where two overlap, the first one stays
        if len(np.unique(label)) > 2:  # one structure alone is no label map
            yield name, canonical(label), (b, a, c)


def whole_ct(source: Path) -> Iterator[Structures]:
    label, spacing = None, (0.0,)
    for k, path in enumerate(sorted((source / "totalsegmentator" / "s0001" / "segmentations").glob("*.nii.gz")), 1):
        mask, place = read_label(path.read_bytes())
        label = np.zeros(mask.shape, np.uint8) if label is None else label
        label[(mask > 0) & (label == 0)] = k
        spacing = tuple(place.spacing_mm)
    if label is None:
        raise FileNotFoundError(f"{source}: found no masks of totalsegmentator/s0001")
    yield "s0001", label, spacing


SETS: dict[str, Callable[[Path], Iterator[Structures]]] = {
    "hippocampus, 2 parts": hippocampus,
    "hippocampus, nested": hippocampus,
    "head and neck": head_and_neck,
    "one CT": whole_ct,
}


def make_maps(label: NDArray[np.uint8], spacing_mm: tuple[float, ...], a_mm: float) -> NDArray[np.float32]:
    """The marginals of the background, first, and of every structure that is there, in the box that they reach."""
    box = []
    for axis, h in enumerate(spacing_mm):
        places = np.flatnonzero(label.any(axis=tuple(k for k in range(3) if k != axis)))
        margin = int(np.ceil(5 * a_mm / h))
        box.append(slice(max(0, places[0] - margin), places[-1] + 1 + margin))
    label = label[tuple(box)]
    noise = GaussianDeformation.in_mm(a_mm, 20.0, spacing_mm, label.shape)
    maps = np.stack([noise.marginal((label == k).astype(np.uint8)) for k in np.unique(label[label > 0])])
    return np.concatenate([1 - maps.sum(axis=0, keepdims=True), maps]).clip(0, 1).astype(np.float32)


def like_a_network(m: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The same maps with noise on the logarithm of every one."""
    noisy = m * np.exp(LOGIT_NOISE * rng.standard_normal(m.shape, dtype=np.float32))
    return noisy / noisy.sum(axis=0)


def thresholds(m: NDArray) -> NDArray:
    """Every structure at its own threshold; where masks overlap, the most probable one."""
    chosen = np.where(np.stack([optimal_dice(x) for x in m[1:]]), m[1:], 0)
    return np.where(chosen.any(axis=0), chosen.argmax(axis=0) + 1, 0)


def rankseg(m: NDArray) -> NDArray:
    """The multiclass mode of rankseg, with the background as one of its classes."""
    from rankseg import RankSEG

    ranker = RankSEG(metric="dice", output_mode="multiclass", solver="RMA", smooth=0.0, pruning_prob=0.0)
    return ranker.predict(torch.from_numpy(m)[None])[0].numpy()


def rankseg_void(m: NDArray) -> NDArray:
    """The same with the background as what is in none of its classes."""
    found = peers.rankseg_labels(m, "rankseg RMA")().numpy()
    return np.where(found == 255, 0, found + 1)


METHODS: dict[str, Callable[[NDArray], NDArray]] = {
    "argmax": lambda m: m.argmax(axis=0),
    "thresholds": thresholds,
    "rankseg": rankseg,
    "rankseg, no background": rankseg_void,
}


def mean_dice(masks: NDArray, m: NDArray) -> float:
    """The mean of the Dice of masks with their maps."""
    masks, m = masks.reshape(len(m), -1), m.reshape(len(m), -1).astype(np.float64)
    return float(np.mean(2 * (masks * m).sum(axis=1) / (masks.sum(axis=1) + m.sum(axis=1))))


def of_classes(labels: NDArray, m: NDArray) -> float:
    return mean_dice(np.stack([labels == k for k in range(1, len(m))]), m[1:])


def exclusive(m: NDArray) -> tuple[dict[str, float], float]:
    """The mean Dice of every method, ours first, and our gap."""
    labels, gap = optimal_labels(m)
    return {"noisyseg": of_classes(labels, m)} | {name: of_classes(run(m), m) for name, run in METHODS.items()}, gap


def nested(m: NDArray) -> tuple[dict[str, float], float]:
    """The same for all parts together and the last one of them."""
    m = np.stack([m[1:].sum(axis=0).clip(0, 1), m[-1]])
    labels, gap = nested_labels(m)
    half, best = m >= 0.5, np.stack([optimal_dice(x) for x in m])
    scores = {"noisyseg": mean_dice(np.stack([labels > 0, labels > 1]), m), "1/2": mean_dice(half, m)}
    scores["thresholds, cut"] = mean_dice(np.stack([best[0], best[0] & best[1]]), m)
    return scores, gap


WAYS = {"hippocampus, nested": nested}


def measure(data: str, cases: Iterator[Structures], seed: int) -> list[dict[str, object]]:
    """One row for every case, noise strength, kind of maps and method."""
    rows, rng = [], np.random.default_rng(seed)
    for case, label, spacing in cases:
        for a_mm in STRENGTHS_MM:
            m = make_maps(label, spacing, a_mm)
            for kind, maps in (("marginals", m), ("noisy", like_a_network(m, rng))):
                scores, gap = WAYS.get(data, exclusive)(maps)
                for name, score in scores.items():
                    rows.append({"case": case, "a_mm": a_mm, "maps": kind, "method": name, "dice": score})
                    rows[-1] |= {"structures": len(m) - 1, "gap": gap, "less": scores["noisyseg"] - score}
    return rows


def summary(data: str, rows: list[dict[str, object]]) -> pd.DataFrame:
    """A row for every noise strength, kind of maps and method: means over the cases, and the extremes."""
    groups = pd.DataFrame(rows).groupby(["a_mm", "maps", "method"], sort=False)
    table = groups.agg(
        cases=("case", "size"), structures=("structures", "mean"), dice=("dice", "mean"), less=("less", "mean"),
        less_min=("less", "min"), less_max=("less", "max"), gap=("gap", "mean"), gap_max=("gap", "max"),
    )  # fmt: skip
    table = table.reset_index()
    table.insert(0, "data", data)
    return table


def main() -> None:
    """Measure all sets and write the table."""
    parser = argparse.ArgumentParser(description="Label maps of several classes.")
    parser.add_argument("--source", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--cases", type=int, default=40, help="of every set, the first ones")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables = []
    for data, read in SETS.items():
        tables.append(summary(data, measure(data, islice(read(arguments.source), arguments.cases), arguments.seed)))
        print(tables[-1].to_string(), flush=True)
    folder = project_root() / "results" / "benchmarks"
    text = pd.concat(tables).to_csv(index=False, float_format="%.6f", lineterminator="\n")
    atomic_write(folder / "labels.csv", text)
    about = {
        "strengths_mm": STRENGTHS_MM,
        "logit_noise": LOGIT_NOISE,
        "seed": arguments.seed,
        "cases": arguments.cases,
        "peers": {"rankseg": version("rankseg")},
        **provenance(),
    }
    write_json(folder / "labels_provenance.json", about)


if __name__ == "__main__":
    main()
