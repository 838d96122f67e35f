"""Results that a person can add up: tables of differences whose verdict is known, and whole tables of six cases."""

from __future__ import annotations

import math

import pandas as pd
from scipy.stats import t

from reproduction.config import Preset
from reproduction.runs.tables import Results, paired_differences, summarise

UP, DOWN, NONE = (0.02, 0.01, 0.03), (-0.02, -0.03, -0.01), (0.0, -0.01, 0.01)


def difference(mean, lo, hi, name="CE(*)-CE(0)", n=50, organ="kidney", a=0.03):
    """One row of a table of differences, with the standard error over persons that its interval comes from."""
    row = {"organ": organ, "a": a, "difference": name, "score": "dice_noisy", "n": n, "mean": mean, "lo": lo, "hi": hi}
    row |= {"se_persons": (hi - mean) / t.ppf(0.975, n - 1), "df_persons": n - 1}
    return row | {"se_folds": math.nan, "df_folds": math.nan}


def differences_of(threshold=None, soft=None, between=None, n=50, organs=("kidney",), strengths=(0.02, 0.03)):
    """Differences between the paper's methods, alike in every setting; a pair that is None was not scored."""
    pairs = {"CE(*)-CE(0)": threshold, "SD(0)-CE(0)": soft, "CE(*)-SD(0)": between}
    scored = {name: ends for name, ends in pairs.items() if ends is not None}
    return pd.DataFrame(
        [difference(*ends, name, n, organ, a) for organ in organs for a in strengths for name, ends in scored.items()]
    )


def cases_of(*gains, organ="kidney", strengths=(0.02, 0.03)):
    """Twenty cases of five folds, on which CE(*) is ahead of CE(0) by these gains, give or take a thousandth."""
    rows = []
    for step, (a, gain) in enumerate(zip(strengths, gains, strict=True)):
        for k in range(20):
            for method, value in (("CE(0)", 0.5), ("CE(*)", 0.5 + gain + 0.001 * (-1) ** (k + step))):
                row = {"organ": organ, "a": a, "fold": k % 5, "case": f"case_{k:02d}", "method": method}
                rows.append({**row, "dice_noisy": value, "volume": 10})
    return pd.DataFrame(rows)


def results_of(differences: pd.DataFrame, cases: pd.DataFrame | None = None) -> Results:
    """Results with these differences, and without cases."""
    none = pd.DataFrame()
    return Results(none if cases is None else cases, none, differences, none, {})


def small_results() -> Results:
    """Results of the smoke preset that can be added up by hand: two methods at .5, CE(*) at .6, on six cases."""
    preset = Preset.load("smoke")
    score = {"CE(0)": 0.5, "SD(0)": 0.5, "CE(*)": 0.6}
    rows = []
    for k in range(6):
        for method, value in score.items():
            row = {"organ": "hippocampus", "a": 0.02, "fold": 0, "case": f"case_{k}", "method": method}
            row |= {"threshold": 0.5, "ceiling": 0.8, "ceiling_mc": 0.79}
            row |= {f"volume{part}": 100 for part in ("", "_noisy", "_clean", "_marginal")}
            row |= {f"dice_{part}": value + 0.01 * k for part in ("noisy", "clean", "marginal")}
            rows.append(row)
    cases = pd.DataFrame(rows)
    epochs = [{"loss": loss, "epoch": epoch} for loss in ("ce", "sd") for epoch in (0, 1)]
    history = pd.DataFrame(epochs).assign(organ="hippocampus", a=0.02, fold=0, train_loss=1.0, train_dice=0.1, lr=1.0)
    facts = {"preset": "smoke", "about": preset.about, "version": "0", "commit": "0" * 40, "created": "2026-01-01"}
    facts |= {"machine": {"cpu": "a processor", "cores": 2, "python": "3.11", "gpu": None}, "packages": {"numpy": "2"}}
    facts |= {"parameters": 1234, "config": {**preset.values, "grid": {k: list(v) for k, v in preset.grid.items()}}}
    run = {"wall_s": 30.0, "peak_memory_mib": 512.0, "precision": "float32"}
    facts |= {"runs": [{"run": loss, **run} for loss in ("ce", "sd")]}
    return Results(cases, summarise(cases), paired_differences(cases), history, facts)


def grown_results() -> Results:
    """The same with two seeds (the second .02 higher) and the other rules but rankseg's, also added up by hand."""
    small = small_results()
    gain = {"CE(0)": 0.0, "SD(0)": 0.0, "CE(*)": 0.0}
    parts = [small.cases]
    for method, base, more in (("CE(fold)", "CE(*)", 0.03), ("SD(fold)", "SD(0)", 0.04), ("CE(oracle)", "CE(*)", 0.2)):
        rows = small.cases[small.cases["method"] == base]
        parts.append(rows.assign(method=method, dice_noisy=rows["dice_noisy"] + more))
        gain[method] = more
    one = pd.concat(parts, ignore_index=True)
    cases = pd.concat([one.assign(training_seed=1), one.assign(training_seed=4, dice_noisy=one["dice_noisy"] + 0.02)])
    history = pd.concat([small.history.assign(training_seed=seed) for seed in (1, 4)])
    config = {name: value for name, value in small.provenance["config"].items() if name != "training_seed"}
    config["grid"] = {**config["grid"], "training_seed": [1, 4]}
    rules = {"runs": 4, "rankseg": ["not installed"]}
    facts = {**small.provenance, "config": config, "other_rules": rules}
    return Results(cases, summarise(cases), paired_differences(cases), history, facts)


def one_loss_results() -> Results:
    """The same with cross-entropy alone: no SD(0), and no difference that needs it."""
    small = small_results()
    frames = (frame[frame["method"] != "SD(0)"] for frame in (small.cases, small.summary))
    differences = small.differences[small.differences["difference"] == "CE(*)-CE(0)"]
    history = small.history[small.history["loss"] == "ce"]
    return Results(*frames, differences, history, small.provenance)
