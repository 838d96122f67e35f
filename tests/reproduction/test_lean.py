"""What is said of networks, on tables made by hand: every number can be told beforehand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reproduction.models import parse
from reproduction.network.lunet import layer_widths
from reproduction.report import lean
from reproduction.runs.model_tables import PATH_COLUMNS, ModelTables

FEATURES = [4, 4, 4]
LEVELS = {"doubling4": 20_000, "doubling2": 5_000, "doubling1": 1_250, "lunet4": 2_500, "lunet1": 300}
CASES = [f"case{k:02d}" for k in range(40)]
FOLDS = [k % 5 for k in range(40)]


def tables(
    gains: dict[str, float], removed: str = "down2_0 down2_1 down2_0", a: tuple[float, ...] = (0.0,)
) -> ModelTables:
    """Models whose Dice is .8 plus a gain and what a case adds; pruned ones lose the same layers in every fold."""
    rng = np.random.default_rng(0)
    of_case = rng.normal(scale=0.05, size=len(CASES))
    rows, paths, means = [], [], []
    for model, gain in gains.items():
        own = rng.normal(scale=0.001, size=len(CASES))
        for strength in a:
            for method, more in {
                "SD(0)": 0.0,
                "CE(0)": -strength * (2 if model == "doubling4" else 3),
                "CE(*)": 0.0,
            }.items():
                dice = 0.8 + gain + more + of_case + own
                rows += [
                    {
                        "organ": "organ",
                        "a": strength,
                        "model": model,
                        "fold": f,
                        "case": c,
                        "method": method,
                        "dice_noisy": d,
                    }
                    for c, f, d in zip(CASES, FOLDS, dice, strict=True)
                ]
                means.append({"organ": "organ", "a": strength, "model": model, "method": method, "n": len(CASES)})
                means[-1] |= {"dice_noisy": dice.mean(), "dice_noisy_lo": dice.mean() - 0.01}
                means[-1] |= {"dice_noisy_hi": dice.mean() + 0.01, "parameters": LEVELS.get(model, 1_000)}
        if parse(model).criterion:
            layers = removed.split()
            for fold in range(5):
                path = zip(
                    range(3), (3000, 2000, 1000), (0.7, 0.75, 0.8), (*layers[:2], " ".join(layers[2:])), strict=True
                )
                paths += [("organ", 0.0, model, fold, epoch, size, dice, gone) for epoch, size, dice, gone in path]
    provenance = {"config": {"features": FEATURES}}
    frame = pd.DataFrame(paths, columns=list(PATH_COLUMNS))
    return ModelTables(pd.DataFrame(means), pd.DataFrame(rows), pd.DataFrame(), frame, provenance)


ALL = {
    **{"doubling4": 0.0, "doubling2": -0.02, "doubling1": -0.04, "lunet4": 0.0, "lunet1": -0.1},
    **{"doubling4-taylor": 0.0, "doubling4-random_at_taylor": 0.01, "doubling4-random_at_largest": -0.03},
}


def judgements(made: ModelTables) -> dict[str, str]:
    rows = lean.claim_rows(lean.check_abstract(made, ["lunet4"], "doubling4"))
    return {row[0]: row[-1] for row in rows}


def test_every_claim_is_judged_by_its_numbers():
    found = judgements(tables(ALL))
    assert found == {
        "pruning takes mainly from the layers with the most channels": "confirmed",
        "a random channel at the identified layer does as well or better": "confirmed",
        "a random channel at the largest layer does as well or better": "refuted",
        "pruning loses no accuracy": "confirmed",
        "Lean U-Net with over 30 times fewer parameters is comparable to the U-Net": "confirmed",
        "Lean U-Net is comparable to the pruned network": "confirmed",
        "lunet4 is better than a U-Net of its size": "confirmed",
        "without skip connections the bottleneck could not be narrow": "not testable here",
    }


def test_the_opposite_is_refuted_and_a_small_difference_is_not_decided():
    opposite = tables({**ALL, "lunet4": -0.2, "doubling4-taylor": -0.05}, removed="down0_0 down0_1 down0_0")
    found = judgements(opposite)
    assert found["pruning takes mainly from the layers with the most channels"] == "refuted"
    assert found["pruning loses no accuracy"] == "refuted"
    assert found["lunet4 is better than a U-Net of its size"] == "refuted"
    near = judgements(tables({**ALL, "lunet4": -0.005}))
    assert near["Lean U-Net with over 30 times fewer parameters is comparable to the U-Net"] == "undecided"


def test_a_model_that_was_not_run_leaves_its_claims_untested():
    part = {name: gain for name, gain in ALL.items() if name != "doubling4-random_at_taylor"}
    assert (
        judgements(tables(part))["a random channel at the identified layer does as well or better"]
        == "not testable here"
    )


def test_a_size_between_two_networks():
    made = tables(ALL)
    weights = lean.at_size(made, "lunet4")
    assert weights is not None and weights == pytest.approx({"doubling1": 0.5, "doubling2": 0.5})  # in the logarithm
    assert lean.at_size(made, "lunet1") is None and lean.at_size(made, "lunet9") is None
    found = lean.compared(made, "lunet4", weights)
    assert found is not None and found.mean == pytest.approx(0.03, abs=0.002)


def test_layers_that_lose_channels():
    made = tables(ALL, removed="down2_0 down2_1 down1_0")
    start = layer_widths([4, 8, 16], 2)
    assert lean.layers_of(made, "doubling4-taylor") == start
    counts = lean.layer_counts(made)["taylor"]
    expected = start | {"down2_0": 15, "down2_1": 15, "down1_0": 7}
    assert counts == pytest.approx(list(expected.values()))
    shares, chances = lean.shares_of_the_widest(made, "doubling4-taylor")
    assert shares == pytest.approx([2 / 3] * 5)
    # 32, 31 and 30 of 80, 79 and 78 channels are in the two layers of the coarsest level.
    assert chances == pytest.approx([np.mean([32 / 80, 31 / 79, 30 / 78])] * 5)
    # With 11 of 16 channels a layer is no longer one of the widest.
    again = tables(ALL, removed="down2_0 down2_0 down2_0 down2_0 down2_0 down2_0")
    assert lean.shares_of_the_widest(again, "doubling4-taylor")[0] == pytest.approx([5 / 6] * 5)


def test_times_as_ratios_to_the_first_network():
    rows = [
        {"work": work, "model": m, "parameters": 1000, "fastest_ms": ms, "peak_mib": 10 * ms}
        for work in ("training", "segmentation")
        for m, ms in (("doubling4", 500.0), ("lunet4", 250.0))
    ]
    found = lean.time_rows(pd.DataFrame(rows))
    assert found[1] == ["training", "lunet4", "1,000", "250", "0.50", "2,500", "0.50", ""]
    assert found[3][-1] == "8 s" and len(found[3]) == len(lean.TIME_HEADER)  # 64 tiles of .25 s on two cores


def test_rows_of_sizes_are_in_the_order_of_the_parameters():
    made = tables(ALL)
    one = ModelTables(made.models[made.models["method"] == "SD(0)"], made.cases, made.differences, made.paths, {})
    rows = lean.size_rows(one)
    assert rows[0][1] == "lunet1" and rows[-1][1:4] == ["doubling4", "20,000", "40"]
    assert all(len(row) == len(lean.SIZE_HEADER) for row in rows)


def test_gains_of_the_threshold():
    made = tables({"doubling4": 0.0, "lunet4": 0.0}, a=(0.0, 0.02))
    gains = lean.gain_table(made).set_index(["a", "model"])["mean"]
    assert gains.to_dict() == pytest.approx(
        {(0.0, "doubling4"): 0, (0.02, "doubling4"): 0.04, (0.0, "lunet4"): 0, (0.02, "lunet4"): 0.06}
    )
    text = lean.gain_sentences(made, "lunet4", "doubling4")
    assert "+.000 [.000, .000] at a = .00" in text and "+.020 [.020, .020] at a = .02" in text
    rows = lean.noise_rows(made)
    assert len(rows) == 4 and rows[-1][:3] == ["organ", ".02", "lunet4"] and rows[-1][-1].startswith("+.060")


def test_what_has_not_been_run_is_named():
    assert "make reproduce PRESET=lunet_ct" in lean.not_run("lunet_ct")
    assert lean.stored("no-such-preset") is None
