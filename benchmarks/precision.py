r"""Test Dice of networks trained in bfloat16 and in float32: the same runs, case by case, with intervals.

    python benchmarks/precision.py [--organs aorta oesophagus] [--folds 0] [--seeds 1] [--a 0.02] [--batch 2]
    python benchmarks/precision.py --preset benchmarks/paper_network.yaml --plain --batch 1 --name accelerated \
        --organs kidney aorta oesophagus --seeds 1 2 3

Trains every run of preset `phantoms` that is asked for in both precisions, from the same first weights, on the same
noisy labels in the same order, and writes to ``results/benchmarks``: ``precision.csv`` (a row for every organ, method
and all together: mean test Dice, mean difference of the paired cases with its bootstrap interval, seconds of a
training) and ``precision_provenance.json``; the book's chapter "Speed" shows them. The runs are kept below
``runs/precision`` and not run again; a run that was stopped goes on. With one image at a time torch takes a slow path
for float32 (8 minutes a run), hence the two.

Two trainings that differ in a rounding error drift apart, and an interval over cases does not know that. So there is a
second interval, over pairs of trainings (Student's t of their mean differences); it needs several seeds, folds or
organs. A case that several seeds were tested on counts once, with its mean. How far pairs drift apart stands beside
how far two trainings in float32 with different seeds do.

The second call compares all that makes a step of the paper's network fast (bfloat16, fast layers, memory layout) with
plain PyTorch: with ``--plain`` the runs in float32 have torch's own layers and layout. Both want the data set of their
preset (``python -m reproduction data --preset ...``).
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from harness import Row, write_table
from reproduction.config import Preset, RunConfig
from reproduction.paths import project_root, write_json
from reproduction.provenance import provenance
from reproduction.runs.run import execute
from reproduction.scoring.rules import METHODS

PRECISIONS = ("bfloat16", "float32")
EVERY = "all"


def read_arguments(given: list[str] | None) -> argparse.Namespace:
    root = project_root()
    parser = argparse.ArgumentParser(description="Test Dice of networks trained in bfloat16 and in float32.")
    parser.add_argument("--preset", default="phantoms", help="name or path of the preset (default: phantoms)")
    parser.add_argument("--organs", nargs="+", default=["aorta", "oesophagus"])
    parser.add_argument("--losses", nargs="+", default=["ce", "sd"])
    parser.add_argument("--folds", nargs="+", type=int, default=[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="of the trainings")
    parser.add_argument("--a", type=float, default=0.02, help="strength of the noise")
    parser.add_argument("--batch", type=int, default=2, help="images at a time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="float32 with torch's own layers and memory layout")
    parser.add_argument("--name", default="precision", help="name of the table (default: precision)")
    parser.add_argument("--epochs", type=int, help="fewer than the preset's, to try this out")
    parser.add_argument("--data", type=Path, default=root / "data")
    parser.add_argument("--runs", type=Path, default=root / "runs" / "precision")
    parser.add_argument("--out", type=Path, default=root / "results" / "benchmarks")
    return parser.parse_args(given)


def configurations(arguments: argparse.Namespace) -> dict[tuple[str, str, int, int, str], RunConfig]:
    """Give the runs by organ, loss, fold, seed and precision."""
    preset = Preset.load(arguments.preset)
    changes: dict[str, Any] = {"batch_size": arguments.batch, "threads": arguments.threads}
    if arguments.epochs:
        changes["epochs"] = arguments.epochs
    found = {}
    axes = (arguments.organs, arguments.losses, arguments.folds, arguments.seeds)
    for organ, loss, fold, seed in itertools.product(*axes):
        values = preset.run(organ=organ, a=arguments.a, loss=loss, fold=fold, model="unet").to_dict()
        values["training_seed"] = seed
        for precision in PRECISIONS:
            plain = {"fast_layers": False, "channels_last": False}
            layers = plain if arguments.plain and precision == "float32" else {}
            config = RunConfig.from_dict({**values, **changes, **layers, "precision": precision})
            found[organ, loss, fold, seed, precision] = config
    return found


def over_cases(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Give the 95 % bootstrap interval (bias-corrected and accelerated) of a mean over cases, as the networks are."""
    if np.ptp(gains) <= 1e-12 * np.abs(gains).max():  # of rounding alone there is no skewness
        return float(gains.mean()), float(gains.mean())
    sampled = stats.bootstrap(
        (gains,), np.mean, n_resamples=10_000, method="BCa", batch=500, rng=np.random.default_rng(0)
    )
    low, high = sampled.confidence_interval
    return float(low), float(high)


def over_trainings(differences: list[float]) -> tuple[float, float]:
    """95 % interval of the mean of differences, one for each pair of trainings; NaN for fewer than two."""
    if len(differences) < 2:
        return np.nan, np.nan
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    mean = float(np.mean(differences))
    return mean - half, mean + half


def paired(cases: pd.DataFrame) -> list[Row]:
    """Compare the precisions: columns organ, fold, seed, case, method, precision, dice_noisy, seconds in; rows out.

    Every case counts once, with its mean over the seeds; the last rows are of all organs together. ``told_apart`` and
    ``trainings_told_apart`` say of the two intervals whether they do not hold 0; the latter is empty for one pair.
    ``pair_rms`` is the root mean square of the differences of pairs; ``seeds_rms`` that to expect between two trainings
    in float32 that differ in the seed, sqrt(2) times the standard deviation over seeds, NaN for a single seed.
    """
    rows: list[Row] = []
    for organ in [*dict.fromkeys(cases["organ"]), EVERY]:
        some = cases if organ == EVERY else cases[cases["organ"] == organ]
        for method in dict.fromkeys(some["method"]):
            chosen = some[some["method"] == method]
            index = ["organ", "fold", "seed", "case"]
            scores = chosen.pivot(index=index, columns="precision", values="dice_noisy")
            by_case = scores.groupby(["organ", "fold", "case"])
            if scores.isna().any(axis=None) or by_case.size().nunique() > 1:
                raise ValueError(f"{organ}, {method}: the precisions were not tested on the same cases")
            gains = scores["bfloat16"] - scores["float32"]
            by_case_gain = gains.groupby(["organ", "fold", "case"]).mean().to_numpy()
            mean, (low, high) = float(by_case_gain.mean()), over_cases(by_case_gain)
            pairs = gains.groupby(["organ", "fold", "seed"]).mean().tolist()
            least, most = over_trainings(pairs)
            plain = scores["float32"].groupby(["organ", "fold", "seed"]).mean()
            variance = plain.groupby(["organ", "fold"]).var(ddof=1).mean()
            seconds = chosen.groupby("precision")["seconds"].mean()
            rows.append(
                {
                    "organ": organ,
                    "method": method,
                    "cases": len(by_case),
                    **{f"dice_{name}": float(scores[name].mean()) for name in PRECISIONS},
                    **{"difference": mean, "low": low, "high": high, "told_apart": not low <= 0 <= high},
                    **{"trainings": len(pairs), "trainings_low": least, "trainings_high": most},
                    "trainings_told_apart": not least <= 0 <= most if len(pairs) > 1 else None,
                    **{"pair_rms": float(np.sqrt(np.square(pairs).mean())), "seeds_rms": float(np.sqrt(2 * variance))},
                    **{f"training_s_{name}": float(seconds[name]) for name in PRECISIONS},
                }
            )
    return rows


def main(given: list[str] | None = None) -> int:
    """Train what is not trained yet, compare, print and store."""
    arguments = read_arguments(given)
    tables, digests, cpu_s = [], set(), 0.0
    for (*_, seed, precision), config in configurations(arguments).items():
        folder = arguments.runs / config.folder
        metrics = execute(config, folder, arguments.data)
        digests.add(metrics["data_digest"])
        cpu_s += metrics["cpu_s"]
        table = pd.read_csv(folder / "cases.csv")
        table = table[table["method"].isin(METHODS)]  # the paper's, without the other rules of the same map
        tables.append(table.assign(seed=seed, precision=precision, seconds=metrics["training_s"]))
    rows = paired(pd.concat(tables, ignore_index=True))
    for row in rows:
        print(
            f"{row['organ']:12} {row['method']:6} {row['cases']:4} cases  bfloat16 {row['dice_bfloat16']:.4f}  "
            f"float32 {row['dice_float32']:.4f}  difference {row['difference']:+.4f} "
            f"({row['low']:+.4f} to {row['high']:+.4f}; over {row['trainings']} pairs of trainings "
            f"{row['trainings_low']:+.4f} to {row['trainings_high']:+.4f})"
        )
    (digest,) = digests
    asked = ("organs", "losses", "folds", "seeds", "a", "batch", "threads", "epochs", "plain")
    options = {name: getattr(arguments, name) for name in asked}
    options["preset"] = Preset.load(arguments.preset).name
    about = {**provenance(), "data_digest": digest, "options": options, "cpu_s": round(cpu_s, 1)}
    write_table(arguments.out / f"{arguments.name}.csv", rows)  # after provenance: it changes the checkout
    write_json(arguments.out / f"{arguments.name}_provenance.json", about)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
