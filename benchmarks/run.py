"""Speed, side by side in one process: the paper's listings, made to run, against the package.

    python benchmarks/run.py [--sides 64 128] [--repeats 7] [--json FILE]

Prints medians and ratios. The listings are the supplement's with their errata mended (``l`` for ``m``, one weight per
axis), otherwise as printed: covariance near borders and interpolation are not those of the model.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray

from noisyseg import GaussianDeformation, dice_threshold
from noisyseg.config import Preset
from noisyseg.experiment import provenance
from noisyseg.paths import write_json
from noisyseg.training import Trainer, reproducible

A, B = 0.02, 0.15 / np.sqrt(2)


def listing_1(label: NDArray, a: float) -> NDArray:
    """Marginal by a sampled, truncated Gaussian (supplement, Listing 1)."""
    return scipy.ndimage.gaussian_filter(label.astype(float), a * np.array(label.shape), mode="constant")


def listing_2(label: NDArray, a: float, rng: np.random.Generator) -> NDArray:
    """Noisy sample by filtered white noise (supplement, Listing 2)."""
    shape = np.array(label.shape)
    sigma, length = a * shape, B * shape
    weight = sigma * (2 * np.pi) ** (label.ndim / 4) * np.prod(length) ** 0.5
    field = [
        w * scipy.ndimage.gaussian_filter(rng.normal(size=label.shape), length / np.sqrt(2), mode="constant")
        for w in weight
    ]
    grid = np.meshgrid(*[range(n) for n in label.shape], indexing="ij")
    moved = scipy.ndimage.map_coordinates(label.astype(float), np.array(grid) + np.array(field), mode="nearest")
    return np.round(moved)


def listing_3(m: NDArray) -> float:
    """Threshold by sorting all voxels (supplement, Listing 3)."""
    psi = np.flip(np.sort(m.flatten()))
    return float(np.max(2 * np.cumsum(psi) / (np.sum(m) + np.arange(1, len(psi) + 1))) / 2)


def median_ms(function: Callable[[], Any], repeats: int) -> float:
    """Median wall time in milliseconds, after one call that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def step_ms(precision: str, repeats: int) -> float:
    """Median time of an epoch of the ``hippocampus`` preset's network over four 32^3 cases, by case."""
    config = Preset.load("hippocampus").run(a=0.02, loss="ce", fold=0)
    config = type(config).from_dict({**config.to_dict(), "precision": precision})
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(4, 1, 32, 32, 32)).astype(np.float32))
    with reproducible(config.threads):
        trainer = Trainer(config, images, (images > 1).to(torch.uint8), torch.device("cpu"))
        return median_ms(trainer.run_epoch, repeats) / len(images)


def main() -> None:
    """Run and print the benchmarks."""
    parser = argparse.ArgumentParser(description="Speed, side by side in one process.")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", help="also write the rows, with machine and versions, to this file")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def compare(work: str, peer: str, theirs: float, ours: float) -> None:
        rows.append({"work": work, "peer": peer, "peer_ms": round(theirs, 3), "ms": round(ours, 3)})
        print(f"{work:28} {peer:24} {theirs:10.2f} ms   ours {ours:9.2f} ms   ratio {theirs / ours:7.1f}", flush=True)

    rng = np.random.default_rng(0)
    noise = GaussianDeformation(A)
    for side in arguments.sides:
        grid = np.indices((side,) * 3) - side / 2
        label = ((grid**2).sum(axis=0) < (0.2 * side) ** 2).astype(np.uint8)
        repeats = arguments.repeats
        ours = median_ms(lambda label=label: noise.sample(label, rng), repeats)
        theirs = median_ms(lambda label=label: listing_2(label, A, rng), repeats)
        compare(f"one noisy label {side}^3", "Listing 2", theirs, ours)
        ours = median_ms(lambda label=label: noise.marginal(label), repeats)
        theirs = median_ms(lambda label=label: listing_1(label, A), repeats)
        compare(f"marginal {side}^3", "Listing 1", theirs, ours)
        m = noise.marginal(label)
        small = m.astype(np.float32)
        ours = median_ms(lambda m=small: dice_threshold(m), repeats)
        theirs = median_ms(lambda m=m: listing_3(m), repeats)
        compare(f"threshold t {side}^3", "Listing 3 (float64)", theirs, ours)
        compare(f"threshold t {side}^3", "one p.sum()", median_ms(lambda m=small: m.sum(), repeats), ours)
    compare("training step 32^3", "float32", step_ms("float32", 3), step_ms("auto", 3))
    if arguments.json:
        write_json(arguments.json, {"rows": rows, **provenance()})


if __name__ == "__main__":
    main()
