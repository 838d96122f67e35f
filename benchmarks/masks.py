"""From a network's map to a mask, side by side: `noisyseg`, 1/2, rankseg, MONAI's AsDiscrete and nnU-Net's export.

    python benchmarks/masks.py RUN... --data DATA [--repeats 3] [--store]

A RUN is the folder of a finished training with its checkpoint, runs/<preset>/<run>. Its maps of the test cases are made
again; every method turns the same maps into masks, which are scored with the cases' noisy labels and timed, in turns in
one process. What a method takes (tensors, a channel of the background) is made outside the timing. nnU-Net's part is
the rule of its export alone, without resampling, cropping and files; its environment is not this one, so it is left out
where ``nnunetv2`` is not installed. ``--store`` writes ``masks.csv`` and ``masks_provenance.json`` to
``results/benchmarks``; the book's chapter "Speed" shows them. Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import peers
from harness import Call, in_turns, write_table
from noisyseg import dice, optimal_dice
from reproduction.config import RunConfig
from reproduction.paths import project_root, read_json, write_json
from reproduction.provenance import provenance
from reproduction.runs.run import Run
from reproduction.scoring.inference import estimate

OURS = "noisyseg"
Way = Callable[[NDArray[np.float32]], Callable[[], Any]]  # a map to the call that makes its mask


def rankseg(**settings: Any) -> Way:
    """Give rankseg's way to a mask of one map, with its settings."""

    def way(c: NDArray[np.float32]) -> Callable[[], Any]:
        from rankseg import RankSEG

        ranker, tensor = RankSEG(metric="dice", output_mode="multilabel", **settings), torch.from_numpy(c)[None, None]
        return lambda: ranker.predict(tensor)[0, 0]

    return way


def monai(c: NDArray[np.float32]) -> Callable[[], Any]:
    """MONAI's transform, with the threshold of its examples."""
    from monai.transforms.post.array import AsDiscrete

    transform, tensor = AsDiscrete(threshold=0.5), torch.from_numpy(c)[None]
    return lambda: transform(tensor)[0]


def nnunet(c: NDArray[np.float32]) -> Callable[[], Any]:
    """Take nnU-Net's own step from probabilities of the background and of one structure to labels."""
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    manager, both = LabelManager({"background": 0, "structure": 1}, None), torch.from_numpy(np.stack([1 - c, c]))
    return lambda: manager.convert_probabilities_to_segmentation(both)


WAYS: dict[str, tuple[str, Way]] = {  # and the package that it needs
    OURS: ("noisyseg", lambda c: lambda: optimal_dice(c)),
    "1/2": ("numpy", lambda c: lambda: c >= 0.5),
    "rankseg RMA": ("rankseg", rankseg(pruning_prob=0.0, **peers.SOLVERS["rankseg RMA"])),
    "rankseg BA": ("rankseg", rankseg(pruning_prob=0.0, **peers.SOLVERS["rankseg BA"])),
    "rankseg, its defaults": ("rankseg", rankseg()),
    "MONAI AsDiscrete": ("monai", monai),
    "nnU-Net export": ("nnunetv2", nnunet),
}


def installed() -> dict[str, Way]:
    """Give the ways whose packages are here."""
    return {name: way for name, (package, way) in WAYS.items() if find_spec(package)}


def measure(
    c: NDArray[np.float32], label: NDArray[np.uint8], ways: Mapping[str, Way], repeats: int, limit_s: float
) -> dict[str, dict[str, float]]:
    """Give of every way the Dice of its mask with the label, its voxels, those that ours has otherwise, and its ms."""
    calls = {name: way(c) for name, way in ways.items()}
    masks = {name: np.asarray(call()).astype(bool) for name, call in calls.items()}
    times = in_turns({name: Call(call) for name, call in calls.items()}, repeats, limit_s)
    return {
        name: {
            "dice": float(dice(mask, label)),
            "voxels": int(mask.sum()),
            "other": int((mask != masks[OURS]).sum()),
            "ms": times[name].fastest,
        }
        for name, mask in masks.items()
    }


def summary(point: Mapping[str, Any], cases: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """A row for every way: means over the cases, and ours minus it with a 95 % interval over the cases."""
    rows = []
    for name in cases[0]:
        table = pd.DataFrame([case[name] for case in cases])
        less = np.array([case[OURS]["dice"] - case[name]["dice"] for case in cases])
        low, high = estimate(less).interval if less.any() else (0.0, 0.0)
        row = {**point, "method": name, "cases": len(cases), "dice": table.dice.mean(), "less": less.mean()}
        row |= {"less_lo": low, "less_hi": high, "empty": (table.voxels == 0).sum(), "same": (table.other == 0).sum()}
        rows.append({**row, "ms": table.ms.median(), "ms_most": table.ms.max()})
    return rows


def of_run(folder: Path, data: Path, repeats: int, limit_s: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure the test cases of a finished run; give its rows, and which run on which data it is."""
    config = RunConfig.from_dict(read_json(folder / "config.json"))
    with Run(config, folder, data) as run:
        if run.metrics is None:
            raise ValueError(f"{folder}: not finished, or made with other data than {data / config.data_folder}")
        run.load()
        maps, labels = run.predict(), run.noisy
        threads, ways = torch.get_num_threads(), installed()
        cases = [measure(c, label, ways, repeats, limit_s) for c, label in zip(maps, labels, strict=True)]
    for name, method in ((OURS, "CE(*)"), ("1/2", "CE(0)")):
        stored, found = run.metrics["scores"].get(method), float(np.mean([case[name]["dice"] for case in cases]))
        if stored is not None and abs(found - stored) > 1e-3:
            raise ValueError(f"{folder}: {method} has {found:.4f} here and {stored:.4f} in metrics.json: other maps")
    point = {"preset": folder.parent.name, "organ": config.organ, "a": config.a, "fold": config.fold}
    point |= {"loss": config.loss, "shape": " x ".join(map(str, maps.shape[1:]))}
    about = {"run": config.name, "config_hash": config.hash, "data_digest": run.data_set.digest, "threads": threads}
    about |= {"made_by": run.metrics["provenance"]["commit"]}
    return summary(point, cases), about


def versions() -> dict[str, str | None]:
    """Give the versions of the packages that are compared, None where one is not installed."""
    found: dict[str, str | None] = {}
    for package, _ in WAYS.values():
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def main(given: list[str] | None = None) -> int:
    """Measure, print and, if asked, store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--repeats", type=int, default=3, help="counted calls of each, for every case")
    parser.add_argument("--limit", type=float, default=1.0, help="seconds after which a call is not repeated")
    parser.add_argument("--store", action="store_true", help="write the table and its provenance")
    arguments = parser.parse_args(given)
    rows, runs = [], []
    for folder in arguments.runs:
        found, about = of_run(folder, arguments.data, arguments.repeats, arguments.limit)
        rows += found
        runs.append(about)
        print(pd.DataFrame(found).to_string(), flush=True)
    if arguments.store:
        folder = project_root() / "results" / "benchmarks"
        options = {"repeats": arguments.repeats, "limit": arguments.limit}
        about = {**provenance(), "peers": versions(), "options": options, "runs": runs}
        table = [{k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        write_table(folder / "masks.csv", table)  # after provenance: it changes the checkout
        write_json(folder / "masks_provenance.json", about)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
