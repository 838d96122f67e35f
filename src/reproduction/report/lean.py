"""What the chapter *Lean U-Net* says of its tables: rows, layers, and the abstract's claims tested one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reproduction.models import parse
from reproduction.network.lunet import layer_widths
from reproduction.paths import project_root
from reproduction.report.claims import MARGIN, Claim, adjusted
from reproduction.runs.model_tables import ModelTables, read_models
from reproduction.runs.statistics import mean_over
from reproduction.scoring.inference import Estimate, estimate
from reproduction.text import interval, short

SIZES = ("lunet", "lunet_ct")
NOISE = "lunet_noise"
SIZE_HEADER = ["organ", "model", "parameters", "cases", "Dice"]
NOISE_HEADER = ["organ", "a", "model", "CE(0)", "SD(0)", "CE(*)", "CE(*) − CE(0)"]
TIME_HEADER = ["work", "model", "parameters", "ms", "time, ratio", "MiB", "memory, ratio", "a CT, 2 cores"]
TILES = 64  # of a segmentation in `benchmarks/lean.py`, for such a CT
NEARLY = 0.75  # of the widest layer's channels: the layers of one level stay together while they lose channels
CLAIM_HEADER = ["claim of the abstract", "data", "numbers", "judgement"]
#: What is said of a claim, by the judgement of `reproduction.report.claims.Claim`.
JUDGEMENTS = {
    **{"agrees": "confirmed", "does not agree": "refuted"},
    **{"undecided": "undecided", "not tested": "not testable here"},
}
Pair = tuple[str, str]


def stored(preset: str) -> ModelTables | None:
    """Read a preset's tables; None while it has not been run."""
    folder = project_root() / "results" / preset
    return read_models(folder) if (folder / "provenance.json").is_file() else None


def not_run(preset: str) -> str:
    """Say in Markdown that a preset was not run, and the command that runs it."""
    return f"**Not run yet.** `make reproduce PRESET={preset}` runs it; its tables then go to `results/{preset}`."


def size_rows(tables: ModelTables) -> list[list[str]]:
    """Lay out Dice and size of every model, the smallest first: rows as ``SIZE_HEADER``."""
    table: Any = tables.models
    rows = []
    for _, row in table.sort_values(["organ", "parameters"], kind="stable").iterrows():
        dice = interval(row["dice_noisy"], row["dice_noisy_lo"], row["dice_noisy_hi"])
        rows.append([row["organ"], row["model"], f"{row['parameters']:,.0f}", f"{row['n']}", dice])
    return rows


def layers_of(tables: ModelTables, model: str) -> dict[str, int]:
    """Channels of every layer of a model before it is pruned."""
    config = tables.provenance["config"]
    widths = parse(model).widths(tuple(config["features"]))
    return layer_widths(widths, config.get("convolutions", 2))


def layer_counts(tables: ModelTables) -> dict[str, list[float]]:
    """Criterion to the channels that every layer has in the end, means over the folds."""
    counts = {}
    for model, path in tables.paths.groupby("model", sort=False):
        start = layers_of(tables, str(model))
        removed: Any = " ".join(path["removed"]).split()
        folds = path["fold"].nunique()
        counts[parse(str(model)).criterion] = [n - removed.count(layer) / folds for layer, n in start.items()]
    return counts


def shares_of_the_widest(tables: ModelTables, model: str) -> tuple[list[float], list[float]]:
    """Share of removals, fold by fold, that took from a layer with nearly as many channels as the widest then had.

    Nearly is at least `NEARLY`. Second, what the share would have been with random channels: the share of all channels
    that were in such layers.
    """
    path: Any = tables.paths[tables.paths["model"] == model]
    shares, chances = [], []
    for _, rows in path.groupby("fold"):
        left, hits, chance = layers_of(tables, model), [], []
        for layer in " ".join(rows.sort_values("epoch")["removed"]).split():
            wide = {name: count for name, count in left.items() if count >= NEARLY * max(left.values())}
            hits.append(layer in wide)
            chance.append(sum(wide.values()) / sum(left.values()))
            left[layer] -= 1
        shares.append(float(np.mean(hits)))
        chances.append(float(np.mean(chance)))
    return shares, chances


def compared(tables: ModelTables, first: str, second: str | Mapping[str, float]) -> Estimate | None:
    """Estimate the difference in Dice of two models, case by case, first minus second; None if one was not run.

    ``second`` may be a mean of several models, given by their weights.
    """
    weights = {second: 1.0} if isinstance(second, str) else second
    rows: Any = tables.cases[tables.cases["method"] == "SD(0)"]
    if not {first, *weights} <= set(rows["model"]):
        return None
    wide = rows.pivot_table(index="case", columns="model", values="dice_noisy")
    other = sum(weight * wide[model] for model, weight in weights.items())
    return mean_over(rows[rows["model"] == first], (wide[first] - other).to_numpy())


def at_size(tables: ModelTables, model: str) -> dict[str, float] | None:
    """Weights of the two U-Nets between which a model lies in parameters, linear in their logarithm; None outside."""
    sizes: Any = tables.models.drop_duplicates("model").set_index("model")["parameters"]
    conventional = sizes[sizes.index.str.fullmatch(r"doubling\d+")].sort_values()
    if model not in sizes.index:
        return None
    smaller, larger = conventional[conventional <= sizes[model]], conventional[conventional > sizes[model]]
    if not len(smaller) or not len(larger):
        return None
    low, high = smaller.index[-1], larger.index[0]
    place = float(np.log(sizes[model] / sizes[low]) / np.log(sizes[high] / sizes[low]))
    return {low: 1 - place, high: place}


def _alike_or_better(organ: str, statement: str, found: Estimate | None, what: str) -> Claim:
    if found is None:
        return Claim(organ, statement, f"{what}: not run")
    numbers = f"{what}: {interval(found.mean, *found.interval, sign='+')}"
    return Claim(organ, statement, numbers, found.p_above(-MARGIN), found.p_below(-MARGIN))


def check_abstract(tables: ModelTables, lean: Sequence[str], whole: str, pruned: str = "doubling4") -> list[Claim]:
    """Test the claims of Lean U-Net's abstract on one preset, without adjustment for their number.

    Parameters
    ----------
    tables
        The preset's tables; soft-Dice at the threshold 1/2 is compared, as published.
    lean
        Lean U-Nets to compare with U-Nets of their size.
    whole
        A U-Net with more than thirty times the parameters of ``lean[0]``.
    pruned
        The U-Net that was pruned.
    """
    organ = str(tables.models["organ"].iloc[0])
    best = f"{pruned}-taylor"
    claims = [_mainly_the_widest(tables, organ, best)]
    for where, model in (("identified", "random_at_taylor"), ("largest", "random_at_largest")):
        text = f"a random channel at the {where} layer does as well or better"
        claims.append(_alike_or_better(organ, text, compared(tables, f"{pruned}-{model}", best), f"{model} − taylor"))
    text = "pruning loses no accuracy"
    claims.append(_alike_or_better(organ, text, compared(tables, best, pruned), f"taylor − {pruned}"))
    text = "Lean U-Net with over 30 times fewer parameters is comparable to the U-Net"
    claims.append(_alike_or_better(organ, text, compared(tables, lean[0], whole), f"{lean[0]} − {whole}"))
    text = "Lean U-Net is comparable to the pruned network"
    claims.append(_alike_or_better(organ, text, compared(tables, lean[0], best), f"{lean[0]} − {best}"))
    for model in lean:
        weights = at_size(tables, model)
        text = f"{model} is better than a U-Net of its size"
        found = compared(tables, model, weights) if weights else None
        if found is None or not weights:
            claims.append(Claim(organ, text, "no U-Net on both sides of its size"))
            continue
        numbers = f"{interval(found.mean, *found.interval, sign='+')}, between {' and '.join(weights)}"
        claims.append(Claim(organ, text, numbers, found.p_above(), found.p_below()))
    text = "without skip connections the bottleneck could not be narrow"
    return [*claims, Claim(organ, text, "needs an encoder–decoder without skip connections, which was not trained")]


def _mainly_the_widest(tables: ModelTables, organ: str, model: str) -> Claim:
    text = "pruning takes mainly from the layers with the most channels"
    shares, chances = shares_of_the_widest(tables, model)
    if len(shares) < 2:
        return Claim(organ, text, f"{model}: {len(shares)} folds")
    found = estimate(shares)
    numbers = f"{interval(found.mean, *found.interval)} of removals; random channels: {short(float(np.mean(chances)))}"
    return Claim(organ, text, numbers, found.p_above(0.5), found.p_below(0.5))


def claim_rows(claims: Sequence[Claim]) -> list[list[str]]:
    """Lay out claims, adjusted for their number: rows as ``CLAIM_HEADER``."""
    return [[c.statement, c.organ, c.evidence, JUDGEMENTS[c.judgement]] for c in adjusted(claims)]


def gain_table(tables: ModelTables) -> pd.DataFrame:
    """CE(*) − CE(0) of every model and noise strength: columns ``organ, a, model, mean, lo, hi``."""
    rows = []
    for key, group in tables.cases.groupby(["organ", "a", "model"], sort=False):
        organ, a, model = key if isinstance(key, tuple) else (key, 0.0, "")
        found = mean_over(group, _gains(group).to_numpy())
        low, high = found.interval
        rows.append({"organ": organ, "a": a, "model": model, "mean": found.mean, "lo": low, "hi": high})
    return pd.DataFrame(rows, columns=["organ", "a", "model", "mean", "lo", "hi"])


def _gains(rows: Any) -> Any:
    wide = rows.pivot_table(index="case", columns="method", values="dice_noisy")
    return wide["CE(*)"] - wide["CE(0)"]


def noise_rows(tables: ModelTables) -> list[list[str]]:
    """Lay out the methods of every model and noise strength: rows as ``NOISE_HEADER``."""
    gains = gain_table(tables).set_index(["organ", "a", "model"])
    rows = []
    for key, group in tables.models.groupby(["organ", "a", "model"], sort=False):
        organ, a, model = key if isinstance(key, tuple) else (key, 0.0, "")
        one: Any = group.set_index("method")
        texts = [
            interval(*(one.loc[method, f"dice_noisy{end}"] for end in ("", "_lo", "_hi")))
            for method in ("CE(0)", "SD(0)", "CE(*)")
        ]
        gain: Any = gains.loc[(organ, a, model)]
        rows.append(
            [organ, short(float(a), 2), model, *texts, interval(gain["mean"], gain["lo"], gain["hi"], sign="+")]
        )
    return sorted(rows, key=lambda row: (row[0], row[1]))


def gain_sentences(tables: ModelTables, lean: str, whole: str) -> str:
    """Say, noise strength by noise strength, how the gain of the threshold differs between two models."""
    parts = []
    for a, rows in tables.cases.groupby("a"):
        group: Any = rows
        gains = {model: _gains(own) for model, own in group.groupby("model")}
        found = mean_over(group[group["model"] == lean], (gains[lean] - gains[whole]).to_numpy())
        parts.append(f"{interval(found.mean, *found.interval, sign='+')} at a = {short(float(str(a)), 2)}")
    return f"The gain of {lean} minus that of {whole}, case by case, is {', '.join(parts)}."


def time_rows(measured: pd.DataFrame) -> list[list[str]]:
    """Lay out `results/benchmarks/lean.csv`: rows as ``TIME_HEADER``; ratios are to the first model of each work."""
    rows = []
    for kind, group in measured.groupby("work", sort=False):
        first: Any = group.iloc[0]
        for row in group.to_dict("records"):
            ms, mib = row["fastest_ms"], row["peak_mib"]
            ratios = [f"{value / first[name]:.2f}" for name, value in (("fastest_ms", ms), ("peak_mib", mib))]
            whole = f"{TILES * ms / 2000:.0f} s" if kind == "segmentation" else ""
            rows.append(
                [kind, row["model"], f"{row['parameters']:,}", f"{ms:,.0f}", ratios[0], f"{mib:,.0f}", ratios[1], whole]
            )
    return rows
