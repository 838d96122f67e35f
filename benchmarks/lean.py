"""Time and memory of Lean U-Net against the U-Net of its blocks: a training step, and a segmentation.

    python benchmarks/lean.py [--repeats 7] [--limit 60] [--models doubling4 lunet4 lunet8] [--store]

A step is one image of 48^3, as in the preset ``lunet_ct``; a segmentation is one tile of 128 x 128 x 80 voxels,
sixty-four of which cover a CT of 512 x 512 x 300. Both run on one thread, in turns in one process, and processor time
is counted, which others on the machine disturb less than the clock on the wall; tiles are independent, so two cores
take half as long. Memory is what a process of its own needs on top of its imports, its network and its image.
``--store`` writes ``results/benchmarks/lean.csv``, which the chapter *Lean U-Net* shows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import torch

from harness import Call, in_turns, write_table
from reproduction.config import Preset, RunConfig
from reproduction.network.training import Trainer, reproducible
from reproduction.paths import project_root, write_json
from reproduction.provenance import provenance

PATCH, TILE = (48, 48, 48), (128, 128, 80)
TILES = 4 * 4 * 4  # a CT of 512 x 512 x 300 voxels, padded to 320 slices
SHAPES = {"training": PATCH, "segmentation": TILE}


def work(model: str, kind: str) -> tuple[Callable[[], Any], int]:
    """Give a call that does a training step or segments a tile, and the parameters of its network."""
    values = Preset.load("lunet_ct").run(model="lunet4", fold=0).to_dict()
    plan = {"model": model, "batch_size": 1, "threads": 1}
    config = RunConfig.from_dict({**values, **plan})
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(1, 1, *SHAPES[kind])).astype(np.float32))
    labels = torch.from_numpy((rng.random(images.shape) < 0.1).astype(np.uint8))
    trainer = Trainer(config, images, labels, torch.device("cpu"))
    trainer.best_merit = np.inf  # weights are copied once an epoch, not once a step

    def run() -> Any:
        with reproducible(config.threads):
            return trainer.run_epoch() if kind == "training" else trainer.probabilities(images)

    return run, sum(weight.numel() for weight in trainer.model.parameters())


def peak_mib(model: str, kind: str) -> float:
    """Memory that the work takes in a process of its own."""
    command = [sys.executable, __file__, "--peak", model, kind]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(model: str, kind: str) -> None:
    """Do the work once in this process, and print by how many MiB its memory grew meanwhile."""
    run, _ = work(model, kind)
    process = psutil.Process()
    before, seen, over = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.001):
            seen.append(process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    over.set()
    watcher.join()
    print(max(seen) / 2**20)


def main(given: list[str] | None = None) -> int:
    """Measure, print and, if asked, store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["doubling4", "lunet4", "lunet8"])
    parser.add_argument("--repeats", type=int, default=7, help="counted calls of each")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a call is not repeated")
    parser.add_argument("--peak", nargs=2, metavar=("MODEL", "WORK"), help=argparse.SUPPRESS)
    parser.add_argument("--store", action="store_true", help="write the table and its provenance")
    arguments = parser.parse_args(given)
    if arguments.peak:
        print_peak(*arguments.peak)
        return 0
    rows = []
    for kind, shape in SHAPES.items():
        made = {model: work(model, kind) for model in arguments.models}
        calls = {model: Call(run) for model, (run, _) in made.items()}
        times = in_turns(calls, arguments.repeats, arguments.limit, clock=time.process_time)
        for model, (_, parameters) in made.items():
            found = times[model]
            row = {"work": kind, "model": model, "parameters": parameters, "shape": " x ".join(map(str, shape))}
            row |= {"fastest_ms": round(found.fastest, 2), "median_ms": round(found.median, 2)}
            rows.append(
                {**row, "calls": len(found.ms), "peak_mib": round(peak_mib(model, kind), 1), "note": found.note}
            )
            print(rows[-1], flush=True)
    if arguments.store:
        folder = project_root() / "results" / "benchmarks"
        options = {"repeats": arguments.repeats, "limit": arguments.limit}
        about = {**provenance(), "options": options, "tiles": TILES, "clock": "process_time"}
        write_table(folder / "lean.csv", rows)  # after provenance: it changes the checkout
        write_json(folder / "lean_provenance.json", about)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
