"""What several annotators drew, measured: agreement, optimal masks, the fitted noise model, and one annotator left out.

``python -m reproduction annotators`` writes the tables that the chapter {ref}`annotators` reads. Scores are means over
the annotators of one structure; volumes are in units of their mean.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from noisyseg import (
    GaussianDeformation,
    dice,
    dice_covariance,
    dice_threshold,
    expected_dice,
    expected_dice_optimum,
    marginal,
    optimal_dice,
)
from noisyseg.raters import rater_agreement
from reproduction.chapters.boundaries import displacements, strength
from reproduction.data.annotators import Structure, bubil_structures, kits23_structures
from reproduction.paths import atomic_write, project_root, read_json, write_json
from reproduction.provenance import provenance

SETS: dict[str, tuple[Callable[[Any], Iterator[Structure]], dict[str, str]]] = {
    "kits23": (
        kits23_structures,
        {
            "name": "KiTS23, three annotators",
            "url": "https://github.com/neheller/kits23",
            "licence": "CC BY-NC-SA 4.0",
            "citation": "Heller et al. 2023, arXiv:2307.01984",
        },
    ),
    "bubil": (
        bubil_structures,
        {
            "name": "BU-BIL, cells",
            "url": "https://www.cs.bu.edu/faculty/betke/BiomedicalImageSegmentation/",
            "licence": "BSD, 4 clauses",
            "citation": "Gurari et al., WACV 2015",
        },
    ),
}
FLAT = 1.5  # voxels longer than this along one axis than along another: no distances, as they would be of voxels
SAMPLES = 16  # labels drawn from the fitted model, for the spread of the volume
RULES = ("one", "model_one", "half", "majority", "staple", "simple", "best", "model_all")
BIN = 0.25  # of standardised displacements, in standard deviations


def staple(labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the consensus of STAPLE, probability at least 1/2, as SimpleITK computes it.

    Voxels that the same annotators hold are alike, so that the steps of the algorithm run over the patterns of holders
    with their numbers of voxels, not over voxels. The prior is the mean share of the foreground.

    Examples
    --------
    >>> staple(np.array([[[1, 1, 0]] * 3, [[1, 0, 0]] * 3, [[1, 1, 0]] * 3], dtype=bool)).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [1, 1, 0]]
    """
    code = sum(label.astype(np.int64) << k for k, label in enumerate(labels))
    held, kind, counts = np.unique(code, return_inverse=True, return_counts=True)
    drawn = (held[:, None] >> np.arange(len(labels)) & 1).astype(np.float64)
    prior = float(counts @ drawn.mean(axis=1)) / counts.sum()
    sensitivity = specificity = np.full(len(labels), 0.99999)
    for _ in range(10_000):
        yes = prior * np.where(drawn, sensitivity, 1 - sensitivity).prod(axis=1)
        no = (1 - prior) * np.where(drawn, 1 - specificity, specificity).prod(axis=1)
        w = np.divide(yes, yes + no, out=np.zeros_like(yes), where=yes + no > 0)
        before = sensitivity, specificity
        sensitivity = (counts * w) @ drawn / (counts @ w)
        specificity = (counts * (1 - w)) @ (1 - drawn) / (counts @ (1 - w))
        if max(abs(sensitivity - before[0]).max(), abs(specificity - before[1]).max()) < 1e-10:
            break
    return (w >= 0.5)[kind].reshape(labels.shape[1:])


def agreement_row(s: Structure) -> dict[str, Any]:
    """Measure agreement and the masks that stand for one structure.

    Examples
    --------
    >>> r = np.hypot(*(np.indices((61, 61)) - 30))
    >>> discs = Structure("x", "x", "discs", ("A", "B", "C"), np.stack([r < 18, r < 20, r < 22]), (1.0, 1.0))
    >>> row = agreement_row(discs)
    >>> row["kappa"] <= row["best_dice_m"] <= row["kappa"] ** 0.5, round(row["simple_dice"], 2)
    (True, 0.93)
    """
    m = marginal(s.labels)
    volumes = s.labels.reshape(len(s.labels), -1).sum(axis=1)
    pairs = [dice(x, y.astype(float)) for x, y in combinations(s.labels, 2)]
    kappa, count = rater_agreement(m), len(volumes)
    row: dict[str, Any] = {"name": s.name, "case": s.case, "group": s.group, "annotators": count}
    row |= {"volume": volumes.mean() * math.prod(s.spacing), "flat": max(s.spacing) > FLAT * min(s.spacing)}
    row |= {"volume_sd": volumes.std(ddof=1) / volumes.mean(), "volume_range": volumes.max() / volumes.min()}
    row |= {"pairs_dice": np.mean(pairs), "pairs_least": min(pairs), "kappa": kappa}
    row |= {"kappa_others": (count * kappa - 1) / (count - 1), "best_dice_m": 2 * dice_threshold(m)}
    masks = {"half": m >= 0.5, "simple": optimal_dice(m), "best": expected_dice_optimum(s.labels)}
    for rule, mask in masks.items():
        row[f"{rule}_dice"] = expected_dice(mask, s.labels)
        row[f"{rule}_volume"] = mask.sum() / volumes.mean()
    row["covariance"] = dice_covariance(masks["simple"], s.labels)
    row["bound"] = abs(volumes - volumes.mean()).mean() / (masks["simple"].sum() + volumes.mean()) / 2
    return row


def fit_row(s: Structure) -> tuple[dict[str, float], pd.DataFrame]:
    """Fit the noise model to one structure; give the parameters, and the correlation and the displacements found.

    Where voxels are flat, only `a_dice`, from the agreement, is known.
    """
    if max(s.spacing) > FLAT * min(s.spacing):
        return {"a_dice": strength(s.labels, s.labels.mean(axis=0) >= 0.5, s.spacing)}, pd.DataFrame()
    found = displacements(s.labels, s.spacing)
    count = len(s.labels)
    z = found.values * math.sqrt(count / (count - 1)) / found.a
    label = np.pad(found.reference, [(math.ceil(3 * found.a / h),) * 2 for h in s.spacing])
    m = GaussianDeformation.in_mm(found.a, found.a, s.spacing, label.shape).marginal(label)
    row = {"a_dice": strength(s.labels, found.reference, s.spacing), "a": found.a, "b": found.b()}
    row |= {"kappa_model": rater_agreement(m), "kurtosis": float((z**4).mean() / (z**2).mean() ** 2)}
    row |= {"offset_share": float(found.offsets.var(ddof=1)) / found.a**2}
    row |= {"far": float((abs(z) > 3).mean()), "p95": float(np.quantile(abs(z), 0.95) / abs(z).mean())}
    radius = (3 * found.reference.sum() / 4 / math.pi) ** (1 / 3) if s.labels.ndim == 4 else None
    radius = radius or math.sqrt(found.reference.sum() / math.pi)
    distance, correlation, weight = found.correlation()
    radius *= math.prod(s.spacing) ** (1 / len(s.spacing))
    near = pd.DataFrame({"x": np.round(distance / radius / BIN) * BIN, "value": correlation * weight, "weight": weight})
    counts = pd.Series(np.clip(np.round(z.ravel() / BIN) * BIN, -6, 6)).value_counts(normalize=True)
    spread = pd.DataFrame({"x": counts.index, "value": counts.to_numpy(), "weight": 1.0})
    near["value"], near["weight"] = near["value"] / weight.sum(), near["weight"] / weight.sum()
    return row, pd.concat([near.assign(kind="correlation"), spread.assign(kind="displacement")]).assign(group=s.group)


def model_row(s: Structure, a: float, b: float) -> dict[str, float]:
    """Predict the spread of the volume from labels drawn around what at least half of the annotators hold."""
    label = np.pad(s.labels.mean(axis=0) >= 0.5, [(math.ceil(4 * a / h),) * 2 for h in s.spacing])
    noise = GaussianDeformation.in_mm(a, b, s.spacing, label.shape)
    volumes = np.array([noise.sample(label, rng=seed).sum() for seed in range(SAMPLES)])
    return {"volume_sd_model": float(volumes.std(ddof=1) / volumes.mean())}


def left_out_row(s: Structure, a: float) -> dict[str, float]:
    """Score on each annotator the masks that are made from the others; give the mean for every rule of `RULES`.

    `a` is the strength of the noise, fitted to other cases. Rules: one drawing of the others, on average; the optimum
    of the model around one of them; at least and more than half of the others; STAPLE; the optimum of the Dice of their
    marginal; that of their mean Dice; the optimum of the model around all of them.
    """
    around = [(math.ceil(3 * a / h),) * 2 for h in s.spacing]
    labels = np.pad(s.labels, [(0, 0), *around])
    noise = GaussianDeformation.in_mm(a, 1.0, s.spacing, labels.shape[1:])
    models = np.stack([noise.marginal(label) for label in labels])
    single = [optimal_dice(model) for model in models]
    rows = []
    for k, target in enumerate(labels.astype(float)):
        others = [j for j in range(len(labels)) if j != k]
        rest = labels[others]
        m = marginal(rest)
        masks = {"half": m >= 0.5, "majority": m > 0.5, "staple": np.pad(staple(s.labels[others]), around)}
        masks |= {"simple": optimal_dice(m), "best": expected_dice_optimum(rest)}
        masks["model_all"] = optimal_dice(models[others].mean(axis=0))
        row = {rule: dice(mask, target) for rule, mask in masks.items()}
        row["one"] = float(np.mean([dice(labels[j], target) for j in others]))
        row["model_one"] = float(np.mean([dice(single[j], target) for j in others]))
        rows.append(row)
    return {f"left_{rule}": float(np.mean([row[rule] for row in rows])) for rule in RULES}


def measure_annotators(
    name: str,
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Measure a data set of `SETS` and write ``structures.csv``, ``profiles.csv`` and ``provenance.json``.

    The strength of the noise that is used for a structure is the median of `a_dice` over the other cases of its group,
    and the correlation length the median of b over its group.
    """
    if name not in SETS:
        raise ValueError(f"set: expected one of {', '.join(SETS)}, got {name!r}")
    read, about = SETS[name]
    found = list(read(source))
    rows, profiles = [], []
    for k, s in enumerate(found):
        fit, profile = fit_row(s)
        rows.append(agreement_row(s) | fit)
        profiles.append(profile)
        report(f"{s.name}: {len(s.annotators)} annotators, fitted ({k + 1} of {len(found)})")
    table: Any = pd.DataFrame(rows)
    b: Any = table.groupby("group")["b"].median() if "b" in table else pd.Series(dtype=float)
    for k, s in enumerate(found):
        others = table[(table["group"] == s.group) & (table["case"] != s.case)]["a_dice"]
        a = float(others.median()) if len(others) else float(rows[k]["a_dice"])
        if np.isfinite(b.get(s.group, np.nan)):
            rows[k] |= model_row(s, float(rows[k]["a_dice"]), float(b[s.group]))
        rows[k] |= left_out_row(s, a)
        report(f"{s.name}: left out ({k + 1} of {len(found)})")
    table = pd.DataFrame(rows)
    digests = {s.name: s.digest() for s in found}
    listing = "".join(f"{key} {digest}\n" for key, digest in digests.items())
    facts = provenance()
    facts["packages"] |= {name: version(name) for name in ("scikit-image", "scipy")}
    facts |= {"created": datetime.now(UTC).isoformat(timespec="seconds"), "source": about}
    facts |= {"rule": {"flat": FLAT, "samples": SAMPLES}, "structures": len(found)}
    facts |= {"left_out": {s.name: list(s.left_out) for s in found if s.left_out}}
    facts["data_digest"] = hashlib.sha256(listing.encode()).hexdigest()
    atomic_write(Path(folder) / "structures.csv", table.to_csv(index=False, float_format="%.6g"))
    atomic_write(Path(folder) / "profiles.csv", _pooled(profiles).to_csv(index=False, float_format="%.6g"))
    write_json(Path(folder) / "provenance.json", facts)
    return table


def _pooled(profiles: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average profiles over the structures of a group: correlations by weight, shares of displacements plainly."""
    every: Any = pd.concat([profile for profile in profiles if len(profile)])
    sums: Any = every.groupby(["group", "kind", "x"], as_index=False)[["value", "weight"]].sum()
    shares = sums["kind"] == "displacement"
    total = sums.groupby(["group", "kind"])["value"].transform("sum")
    sums["value"] = np.where(shares, sums["value"] / total, sums["value"] / sums["weight"])
    return sums[["group", "kind", "x", "value"]]


def load_annotators() -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Read the committed structures and profiles of all sets, and their provenance, from ``results/raters``.

    Examples
    --------
    >>> table, profiles, facts = load_annotators()
    >>> len(table) == sum(each["structures"] for each in facts.values())
    True
    """
    folder = project_root() / "results" / "raters"
    made = [name for name in SETS if (folder / name / "provenance.json").is_file()]
    if not made:
        raise FileNotFoundError(f"no measures of annotators in {folder}; python -m reproduction annotators makes them")
    tables, profiles = (
        pd.concat([pd.read_csv(folder / name / file).assign(set=name) for name in made], ignore_index=True)
        for file in ("structures.csv", "profiles.csv")
    )
    return tables, profiles, {name: read_json(folder / name / "provenance.json") for name in made}
