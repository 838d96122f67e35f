"""The benchmarks' own logic on tiny inputs: what is timed, compared, judged and stored. No test depends on a speed."""

from __future__ import annotations

import ast
import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module, util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter1d

import noisyseg as ns
import tiny
from noisyseg.fields import covariance
from reproduction.runs.run import execute

MODULES = (
    "harness",
    "labels",
    "lean",
    "masks",
    "memory",
    "peers",
    "precision",
    "profiles",
    "run",
    "small",
    "steps",
    "works",
)


@pytest.fixture(scope="module")
def bench(root: Path) -> Iterator[SimpleNamespace]:
    """The modules of benchmarks/, which is a folder of scripts and not a package."""
    folder = str(root / "benchmarks")
    sys.path.insert(0, folder)
    try:
        yield SimpleNamespace(**{name: import_module(name) for name in MODULES})
    finally:
        sys.path.remove(folder)


class Clock:
    """A clock that only moves when a call says how long it takes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def takes(self, name: str, *seconds: float) -> Any:
        """A call that takes these seconds, one after the other; the last value goes on for ever."""
        left = list(seconds)

        def call() -> str:
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return name

        return call


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---- timing ---------------------------------------------------------------------------------------------------------


def test_calls_take_turns_and_the_first_one_warms_up(bench):
    clock, Call = Clock(), bench.harness.Call
    calls = {"a": Call(clock.takes("a", 0.9, 0.2, 0.4, 0.6)), "b": Call(clock.takes("b", 0.5, 0.3, 0.3, 0.9))}
    times = bench.harness.in_turns(calls, 3, 100.0, clock)
    assert "".join(clock.order) == "ababab" + "ab"
    assert times["a"].ms == pytest.approx([200, 400, 600]) and times["b"].ms == pytest.approx([300, 300, 900])
    assert (times["a"].median, times["b"].median) == pytest.approx((400, 300))
    assert (times["a"].fastest, times["b"].fastest) == pytest.approx((200, 300))


def test_a_slow_first_call_counts_and_the_limit_ends_the_turns(bench):
    clock, Call = Clock(), bench.harness.Call
    calls = {
        "slow": Call(clock.takes("slow", 9.0)),
        "wanted": Call(clock.takes("wanted", 9.0), least=3),
        "fast": Call(clock.takes("fast", 0.5)),
        "half": Call(clock.takes("half", 4.0), per=0.5),
    }
    times = bench.harness.in_turns(calls, 5, 8.0, clock)
    assert times["slow"].ms == pytest.approx([9000]) and clock.order.count("slow") == 1
    assert times["wanted"].ms == pytest.approx([9000] * 3) and clock.order.count("wanted") == 3
    assert times["fast"].ms == pytest.approx([500] * 5)
    assert times["half"].ms == pytest.approx([8000] * 2)  # half the work in 4 s


def test_a_brief_call_gets_an_uncounted_one_at_every_turn(bench):
    clock = Clock()
    calls = {"brief": bench.harness.Call(clock.takes("brief", 0.05, 0.07, 0.01, 0.08, 0.03))}
    assert bench.harness.in_turns(calls, 2, 10.0, clock)["brief"].ms == pytest.approx([10, 30])


def test_results_are_checked_once_and_failures_become_notes(bench):
    clock, Call = Clock(), bench.harness.Call
    seen = []

    def fails() -> None:
        raise MemoryError("too\nlarge")

    calls = {
        "checked": Call(clock.takes("x", 0.5), check=lambda result: seen.append(result) or "fine", note="on half"),
        "array": Call(lambda: np.zeros(3)),  # neither true nor false
        "fails": Call(fails),
        "absent": Call(None, note="p is not installed"),
    }
    times = bench.harness.in_turns(calls, 2, 10.0, clock)
    assert seen == ["x"] and times["checked"].note == "on half; fine"
    assert len(times["array"].ms) == 2
    assert times["fails"].note == "failed: MemoryError: too large" and times["fails"].ms == []
    assert times["absent"].note == "p is not installed" and math.isnan(times["absent"].median)


# ---- ratios and bars ------------------------------------------------------------------------------------------------


def compared(bench, bar=None, ours=(2.0, 4.0, 3.0), peer=(30.0, 60.0, 90.0), **notes) -> dict[str, Any]:
    times = {
        "o": bench.harness.Times(list(ours), notes.get("o", "")),
        "p": bench.harness.Times(list(peer), notes.get("p", "")),
    }
    task = bench.harness.Task("work", 8, {}, [bench.harness.Pair("ball", "o", "p", bar)])
    (row,) = bench.harness.compare(task, times)
    return row


@pytest.mark.parametrize(
    ("sense", "value", "ratio", "quantity", "met"),
    [
        (">=", 20, 20, "peer / ours", True),
        (">=", 20.5, 20, "peer / ours", False),
        ("<=", 0.05, 0.05, "ours / peer", True),
        ("<=", 0.04, 0.05, "ours / peer", False),
    ],
)
def test_ratio_of_medians_and_its_bar(bench, sense, value, ratio, quantity, met):
    row = compared(bench, bench.harness.Bar(sense, value))
    assert (row["ms"], row["peer_ms"], row["fastest_ms"], row["peer_fastest_ms"]) == (3, 60, 2, 30)
    assert row["ratio"] == pytest.approx(ratio) and row["quantity"] == quantity and row["met"] is met
    assert (row["sense"], row["bar"], row["calls"], row["peer_calls"]) == (sense, value, 3, 3)


def test_without_a_bar_nothing_is_judged(bench):
    row = compared(bench)
    assert row["ratio"] == 20 and row["bar"] is row["met"] is None and bench.harness.verdicts([row]) == []


@pytest.mark.parametrize("sense", [">=", "<="])
def test_a_missing_peer_is_not_judged_and_our_failure_is_a_miss(bench, sense):
    bar = bench.harness.Bar(sense, 20)
    row = compared(bench, bar, peer=(), p="p is not installed: make bench installs it")
    assert row["peer_ms"] is row["ratio"] is row["met"] is None
    line = bench.harness.verdict_line(row)
    assert line.startswith("not judged") and "make bench installs it" in line
    row = compared(bench, bar, ours=(), o="failed: MemoryError")
    assert row["met"] is False and row["ratio"] is None
    assert bench.harness.verdict_line(row).startswith("MISSED") and "failed" in row["note"]


def test_the_verdict_is_that_of_the_worst_input(bench):
    Bar, Times = bench.harness.Bar, bench.harness.Times

    def rows(sense: str, value: float, *milliseconds: float) -> list[dict[str, Any]]:
        names = [f"i{k}" for k in range(len(milliseconds))]
        times = {"p": Times([60.0])} | {n: Times([x] if x else []) for n, x in zip(names, milliseconds, strict=True)}
        pairs = [bench.harness.Pair(n, n, "p", Bar(sense, value)) for n in names]
        return bench.harness.compare(bench.harness.Task("w", 8, {}, pairs), times)

    (worst,) = bench.harness.verdicts(rows(">=", 20, 1, 3.1, 2))
    assert worst["input"] == "i1" and worst["met"] is False
    (worst,) = bench.harness.verdicts(rows("<=", 0.5, 1, 3, 2))
    assert worst["input"] == "i1" and worst["met"] is True
    (worst,) = bench.harness.verdicts(rows(">=", 20, 1, 0, 2))  # the one in the middle failed
    assert worst["input"] == "i1" and worst["met"] is False
    lines = bench.harness.summary_lines(rows(">=", 20, 1, 3, 2))
    assert len(lines) == 1 and "3 inputs" in lines[0] and "peer / ours 20 to 60" in lines[0]


def test_an_input_that_was_not_judged_does_not_hide_one_that_was(bench):
    judged, unjudged = (
        compared(bench, bench.harness.Bar(">=", 30)),
        compared(bench, bench.harness.Bar(">=", 30), peer=()),
    )
    for order in ([judged, unjudged], [unjudged, judged]):
        assert bench.harness.verdicts(order) == [judged]


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_tables_are_written_whole_or_not_at_all(bench, tmp_path, monkeypatch):
    rows = [{"work": "a, b", "ratio": 1 / 3, "met": True}, {"work": "c", "ratio": None, "met": None, "note": "new"}]
    path = bench.harness.write_table(tmp_path / "t.csv", rows)
    assert read_csv(path) == [
        {"work": "a, b", "ratio": "0.333333", "met": "True", "note": ""},
        {"work": "c", "ratio": "", "met": "", "note": "new"},
    ]
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        bench.harness.write_table(path, rows[:1])
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["t.csv"]


# ---- inputs and peers -----------------------------------------------------------------------------------------------


def test_labels_and_maps(bench):
    for name, volume in (("ball", 4 / 3 * np.pi * 0.2**3), ("large ball", 4 / 3 * np.pi * 0.45**3), ("whole image", 1)):
        label = bench.memory.make_label(32, name)
        assert label.shape == (32,) * 3 and label.dtype == np.uint8 and set(np.unique(label)) <= {0, 1}
        assert label.mean() == pytest.approx(volume, rel=0.03)
        assert all(np.array_equal(label, np.moveaxis(label, 0, k)) for k in (1, 2))
    for name in bench.works.MAPS:
        m = bench.works.make_map(16, name)
        assert m.dtype == np.float32 and m.shape == (16,) * 3 and 0 <= m.min() < m.max() <= 1
    smooth = bench.memory.make_map(32, "ball", "float16")
    assert smooth.dtype == np.float16 and (smooth >= 0.5).sum() == bench.memory.make_label(32, "ball").sum()


def test_look_up_is_the_model(bench):
    label = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    centres = [(np.arange(2) + 0.5) / 2, (np.arange(3) + 0.5) / 3]
    zero = np.zeros((2, 3))
    assert np.array_equal(bench.peers.look_up(label, centres, [zero, zero]), label)
    moved = bench.peers.look_up(label, centres, [zero, zero + 1 / 3])  # one voxel to the right; 0 outside
    assert np.array_equal(moved, [[2, 3, 0], [5, 6, 0]])
    label = bench.memory.make_label(16, "large ball")
    field = ns.gaussian_field(label.shape, 0.03, 0.1, rng=5).astype(float)
    centres = [(np.arange(16) + 0.5) / 16] * 3
    ours = ns.GaussianDeformation(0.03, 0.1).sample(label, rng=5)
    assert (bench.peers.look_up(label, centres, list(field)) != ours).mean() < 1e-3  # positions within rounding


def test_monai_is_asked_for_the_same_field(bench):
    sigma, magnitude = bench.peers.monai_settings(64, 0.02, 0.1)
    kernel = np.exp(-(np.arange(-40, 41) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    assert magnitude * np.sqrt(((kernel**2).sum()) ** 3 / 3) == pytest.approx(0.02 * 64, rel=1e-3)
    lag = round(0.1 * 64)
    correlation = (kernel[lag:] * kernel[:-lag]).sum() / (kernel**2).sum()
    assert correlation == pytest.approx(np.exp(-((lag / 6.4) ** 2) / 2), rel=1e-3)


def test_torchio_is_asked_for_the_same_field_as_closely_as_it_can(bench):
    points, largest = bench.peers.torchio_settings(64, 0.02, 0.15 / np.sqrt(2))
    h = 1 / (points - 3)  # cubic splines need three more control points than intervals
    spline = BSpline.basis_element(np.arange(5), extrapolate=False)
    x = np.linspace(0, 4, 4001)
    square = np.trapezoid(spline(x) ** 2, x)
    assert largest * np.sqrt(square**3 / 3) == pytest.approx(0.02 * 64, rel=1e-3)
    lag = 0.15 / np.sqrt(2) / h
    correlation = np.trapezoid(spline(x) * np.nan_to_num(spline(x - lag)), x) / square
    assert correlation == pytest.approx(np.exp(-0.5), abs=0.05)


def test_extended_precision_reference(bench):
    assert float(bench.works.exact_threshold(np.array([1, 0.5, 0.5, 0]))) == pytest.approx(0.4, abs=1e-18)
    m = np.random.default_rng(3).random(200)
    falling = sorted(map(Fraction, m.tolist()), reverse=True)
    total = sum(falling)
    exact = max(sum(falling[:k]) / (k + total) for k in range(1, 201))
    assert abs(Fraction(*bench.works.exact_threshold(m).as_integer_ratio()) - exact) < Fraction(1, 10**17)


def test_the_table_has_every_bar_of_its_works(bench, monkeypatch):
    """Which pairs carry which bar at full size; nothing is run, and small inputs stand in for the large ones."""
    make_label, make_map, make_classes = bench.works.make_label, bench.works.make_map, bench.works.make_classes
    monkeypatch.setattr(bench.works, "make_label", lambda side, name: make_label(8, name))
    monkeypatch.setattr(bench.works, "make_classes", lambda side, name: make_classes(8, name))
    monkeypatch.setattr(bench.works, "make_map", lambda side, name: make_map(8, name))
    monkeypatch.setattr(bench.peers, "find_spec", lambda name: None)
    bars: dict[tuple[str, int, str], set] = {}
    monkeypatch.setattr(bench.works, "training", lambda: bench.harness.Task("training step", 32, {}, []))
    monkeypatch.setattr(
        bench.steps, "pairs", lambda side: (torch.zeros(2, 1, 16, 16, 16), torch.zeros(2, 1, 16, 16, 16))
    )
    for name, make in bench.works.tasks([64, 128, 256]):
        task = make()
        if name == "training":
            continue
        assert task.pairs and name in bench.run.WORKS
        for pair in task.pairs:
            assert {pair.ours, pair.peer} <= task.calls.keys()
            if pair.bar:
                key = (pair.work or task.work, task.side, pair.name or pair.peer)
                bars.setdefault(key, set()).add((pair.bar.sense, pair.bar.value))
    for side, least in ((64, 50), (128, 50), (256, 100)):
        assert bars.pop(("sample", side, "Listing 2")) == {(">=", least)}
        for peer in ("MONAI", "TorchIO", "GSTools"):
            assert bars.pop(("sample", side, peer)) == {(">=", 20)}
        assert bars.pop((f"batch of {bench.works.BATCH}", side, "one at a time")) == {("<=", 1)}
    assert bars.pop(("marginal", 256, "scipy gaussian_filter")) == {(">=", 1)}
    assert bars.pop(("training step, paper's network", 64, "plain float32 PyTorch")) == {(">=", 4)}
    assert bars.pop(("threshold", 256, "one p.sum()")) == {("<=", 6)}
    assert bars.pop(("threshold", 256, "Listing 3 (float64)")) == {(">=", 10)}
    assert bars.pop(("label map of 20", 128, "rankseg RMA")) == {(">=", 1)}
    assert {key[:2] for key in bars} == {("threshold", 256), ("threshold and mask", 256)}
    assert all(peer.startswith("rankseg") for *_, peer in bars) and set(map(tuple, bars.values())) == {((">=", 1),)}
    limits = {
        (c["work"], c["side"]): bench.memory.bar_of(c)
        for c in bench.memory.plan([64, 256], 512)
        if c["who"] == "noisyseg"
    }
    assert limits.pop(("sample", 256)).value == 3 and limits.pop(("marginal", 256)) is None
    assert [(key, bar.sense, bar.value) for key, bar in limits.items()] == [
        (("threshold", 256), "<=", 1.5),
        (("threshold", 512), "<=", 1.5),
    ]


# ---- training -------------------------------------------------------------------------------------------------------


def tiny_step(bench, batch: int = 1):
    """The paper's settings for a network of two small levels."""
    config = bench.steps.configuration(batch, 1)
    return type(config).from_dict({**config.to_dict(), "features": [2, 4]})


@pytest.mark.parametrize("batch", [1, 2])
def test_both_sides_of_the_step_train_the_same_network(bench, batch):
    config = tiny_step(bench, batch)
    assert config.fast_layers and config.channels_last and config.precision == "auto"
    images, labels = bench.steps.pairs(16)
    assert images.shape == labels.shape == (2, 1, 16, 16, 16) and 0 < labels.float().mean() < 0.5
    exact = type(config).from_dict({**config.to_dict(), "precision": "float32", "channels_last": False})
    plain = [bench.steps.plain(config, images, labels)() for _ in range(2)]
    assert plain[0] == plain[1]
    # In the same arithmetic nothing is left but the order of additions.
    run, other = bench.steps.ours(exact, images, labels), bench.steps.plain(config, images, labels)
    for _ in range(3):
        assert run() == pytest.approx(other(), rel=1e-4)
    assert bench.steps.ours(config, images, labels)() == pytest.approx(plain[0], rel=0.02)


def test_the_peer_of_the_step_is_plain_pytorch(bench, monkeypatch):
    seen = []
    original = torch.nn.functional.binary_cross_entropy_with_logits

    def loss(logits, label):
        seen.append((logits.dtype, logits.is_contiguous(), torch.is_autocast_enabled("cpu"), torch.get_num_threads()))
        return original(logits, label)

    monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", loss)
    before = torch.get_num_threads()
    config = type(tiny_step(bench)).from_dict({**tiny_step(bench).to_dict(), "threads": before + 1})
    bench.steps.plain(config, *bench.steps.pairs(16))()
    assert seen == [(torch.float32, True, False, before + 1)] * 2 and torch.get_num_threads() == before


def test_the_shares_of_a_step_are_all_of_it(bench, monkeypatch):
    small = tiny_step(bench)
    monkeypatch.setattr(bench.steps, "configuration", lambda batch, threads: small)
    rows = list(bench.steps.step_rows(16))
    works = dict.fromkeys(row["work"] for row in rows)
    assert list(works) == ["training step, ours", "training step, plain float32 PyTorch"]
    for work in works:
        found = {row["stage"]: row["share"] for row in rows if row["work"] == work}
        assert list(found) == [*(stage for stage, _ in bench.steps.STAGES), bench.steps.REST]
        assert sum(found.values()) == pytest.approx(1, abs=0.001) and all(share > 0 for share in found.values())


def event(*names: str) -> Any:
    """A profiler's event, called by the one that is named next, and so on."""
    inner = None
    for name in reversed(names):
        inner = SimpleNamespace(name=name, cpu_parent=inner)
    return inner


@pytest.mark.parametrize(
    ("names", "stage"),
    [
        (["aten::mm", "aten::matmul", "augmentation"], "augmentation"),
        (["aten::mul_", "Optimizer.step#Adam.step"], "optimiser"),
        (["aten::copy_", "aten::convolution_backward", "ConvolutionBackward0"], "convolutions, backward"),
        (["aten::slow_conv3d_forward", "aten::_convolution", "aten::conv3d"], "convolutions, forward"),
        (["aten::native_batch_norm", "aten::instance_norm"], "normalisation"),
        (["aten::threshold_backward", "ReluBackward0"], "ReLU"),
        (["aten::copy_", "aten::to"], "copies, casts, sums and everything else"),
    ],
)
def test_stages_of_operations(bench, names, stage):
    assert bench.steps.stage_of(event(*names)) == stage


# ---- precision ------------------------------------------------------------------------------------------------------


def scored(organ, case, dice, precision, seed=1):
    row = {"organ": organ, "fold": 0, "seed": seed, "case": case, "method": "CE(*)", "precision": precision}
    return {**row, "dice_noisy": dice, "seconds": 2.0 if precision == "bfloat16" else 10.0}


def test_paired_differences_by_hand(bench):
    rows = []
    for organ, cases, off in (("aorta", (0.5, 0.6, 0.7), 0.1), ("kidney", (0.8, 0.9, 1.0), 0.01)):
        for k, dice in enumerate(cases):
            rows.append(scored(organ, f"c{k}", dice, "bfloat16"))
            rows.append(scored(organ, f"c{k}", dice - off * (1 + k), "float32"))
    found = {row["organ"]: row for row in bench.precision.paired(bench.precision.pd.DataFrame(rows))}
    assert list(found) == ["aorta", "kidney", "all"]
    aorta, both = found["aorta"], found["all"]
    assert (aorta["cases"], both["cases"]) == (3, 6)
    assert aorta["dice_bfloat16"] == pytest.approx(0.6) and aorta["dice_float32"] == pytest.approx(0.4)
    assert aorta["difference"] == pytest.approx(0.2) and both["difference"] == pytest.approx(0.11)
    assert aorta["low"] <= 0.2 <= aorta["high"] and aorta["told_apart"] is True
    assert (aorta["training_s_bfloat16"], aorta["training_s_float32"]) == (2, 10)
    # One pair of trainings has no interval; the two of both organs differ by .2 and .02: t is 12.7062, sem is .09.
    assert math.isnan(aorta["seeds_rms"]) and aorta["pair_rms"] == pytest.approx(0.2)
    assert aorta["trainings"] == 1 and math.isnan(aorta["trainings_low"]) and aorta["trainings_told_apart"] is None
    assert (both["trainings"], both["trainings_told_apart"]) == (2, False)
    assert both["trainings_low"] == pytest.approx(0.11 - 12.7062 * 0.09, abs=1e-5)
    assert both["trainings_high"] == pytest.approx(0.11 + 12.7062 * 0.09, abs=1e-5)
    with pytest.raises(ValueError, match=r"aorta, CE\(\*\): the precisions were not tested on the same cases"):
        bench.precision.paired(bench.precision.pd.DataFrame([*rows[:-1], {**rows[5], "case": "c9"}]))


def test_a_case_of_several_seeds_counts_once_and_every_seed_is_a_pair_of_trainings(bench):
    gains = {("x", 1): 0.10, ("x", 2): 0.00, ("y", 1): 0.06, ("y", 2): 0.04}
    rows = [scored("aorta", case, 0.5 + gain, "bfloat16", seed) for (case, seed), gain in gains.items()]
    rows += [scored("aorta", case, 0.5, "float32", seed) for case, seed in gains]
    again = [{**row, "dice_noisy": row["dice_noisy"] + 0.04 * (row["seed"] == 2)} for row in rows]
    shifted = bench.precision.paired(bench.precision.pd.DataFrame(again))[0]
    row = bench.precision.paired(bench.precision.pd.DataFrame(rows))[0]
    assert (row["cases"], row["trainings"]) == (2, 2) and row["difference"] == pytest.approx(0.05)
    # Both cases gain .05 in the mean over seeds, so cases do not differ; the seeds gain .08 and .02.
    assert (row["low"], row["high"]) == pytest.approx((0.05, 0.05)) and row["told_apart"] is True
    assert row["trainings_low"] == pytest.approx(0.05 - 12.7062 * 0.03, abs=1e-5)
    # The pairs differ by .08 and .02. Both seeds have .5 in float32; then .5 and .54, which are .04 apart.
    assert row["pair_rms"] == shifted["pair_rms"] == pytest.approx(math.sqrt((0.08**2 + 0.02**2) / 2))
    assert row["seeds_rms"] == pytest.approx(0.0) and shifted["seeds_rms"] == pytest.approx(0.04)
    assert row["trainings_told_apart"] is False
    with pytest.raises(ValueError, match="not tested on the same cases"):
        bench.precision.paired(bench.precision.pd.DataFrame([*rows[:3], *rows[4:7]]))


def test_precision_runs_differ_in_the_precision_alone(bench):
    arguments = bench.precision.read_arguments(["--organs", "aorta", "--batch", "3"])
    runs = bench.precision.configurations(arguments)
    assert [key[1:] for key in runs] == [
        (loss, 0, 1, precision) for loss in ("ce", "sd") for precision in ("bfloat16", "float32")
    ]
    for key, config in runs.items():
        other = runs[*key[:4], "float32"].to_dict()
        assert {**config.to_dict(), "precision": "float32"} == other and config.batch_size == 3


def test_plain_runs_have_the_layers_and_the_layout_of_torch_as_well(bench, root):
    """The paper's network as the preset `paper` trains it, beside plain PyTorch, as in the table of steps."""
    preset = str(root / "benchmarks" / "paper_network.yaml")
    runs = bench.precision.configurations(
        bench.precision.read_arguments(["--preset", preset, "--plain", "--batch", "1", "--organs", "kidney"])
    )
    paper = bench.precision.Preset.load("paper").run(organ="kidney", a=0.02, loss="ce", fold=0).to_dict()
    for key, config in runs.items():
        values = config.to_dict()
        plain = {"precision": "float32", "fast_layers": False, "channels_last": False}
        assert {**values, **plain} == runs[*key[:4], "float32"].to_dict()
        if key[4] == "bfloat16":
            same = ("features", "fast_layers", "channels_last", "batch_size")
            assert [values[name] for name in same] == [paper[name] for name in same] and config.phantom_size == 64


def test_the_precision_table_from_trained_networks(bench, tmp_path):
    preset = tiny.make_preset(tmp_path / "tiny.yaml", **{**tiny.SMALL, "epochs": 2, "precision": "auto"})
    assert preset.runs()
    tiny.make_data(tmp_path / "data")
    options = ["--preset", str(tmp_path / "tiny.yaml"), "--organs", "hippocampus", "--losses", "ce"]
    options += ["--seeds", "1", "2"]
    folders = [f"--{name}={tmp_path / name}" for name in ("data", "runs", "out")]
    for _ in range(2):  # the second time from what is kept
        assert bench.precision.main([*options, *folders]) == 0
    rows = read_csv(tmp_path / "out" / "precision.csv")
    assert [(row["organ"], row["method"]) for row in rows] == [
        (organ, method) for organ in ("hippocampus", "all") for method in ("CE(0)", "CE(*)")
    ]
    assert all(
        row["cases"] == "2" and float(row["low"]) <= float(row["difference"]) <= float(row["high"]) for row in rows
    )
    about = json.loads((tmp_path / "out" / "precision_provenance.json").read_text())
    assert (
        about["options"]["batch"] == 2
        and about["options"]["preset"] == "tiny"
        and len(about["data_digest"]) == 64
        and "commit" in about
    )
    assert len(list((tmp_path / "runs").iterdir())) == 4 and about["options"]["seeds"] == [1, 2]
    assert all(row["trainings"] == "2" for row in rows)


# ---- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no record that can be reset")
def test_extra_memory_is_what_the_call_takes(bench, monkeypatch):
    size = 64 << 20

    def make_call(case):
        return lambda: np.ones(size, dtype=np.uint8)[:1].copy(), size

    monkeypatch.setattr(bench.memory, "make_call", make_call)
    hidden = np.ones(3 * size, dtype=np.uint8)  # an earlier peak, which must not count
    del hidden
    found = bench.memory.measure({"work": "sample", "who": "noisyseg", "side": 256, "input": "ball"})
    assert found["method"] == "VmHWM" and found["reference"] == size
    assert size <= found["extra"] + (1 << 20) < size + (8 << 20)
    assert size <= found["traced"] < size + (1 << 20)


def test_memory_rows_by_hand(bench):
    mib = 1 << 20
    case = {"work": "threshold", "who": "noisyseg", "side": 256, "input": "ball", "dtype": "float32"}
    row = bench.memory.row_of(case, {"extra": 16 * mib, "traced": 12 * mib, "reference": 64 * mib, "method": "VmHWM"})
    assert (row["ratio"], row["met"], row["extra_mib"], row["traced_mib"], row["reference_mib"]) == (
        1.25,
        True,
        16,
        12,
        64,
    )
    sample = {"work": "sample", "who": "noisyseg", "side": 256, "input": "ball"}
    row = bench.memory.row_of(sample, {"extra": 256 * mib, "traced": None, "reference": 64 * mib, "method": "VmHWM"})
    assert (row["ratio"], row["met"], row["traced_mib"]) == (4, False, None)
    row = bench.memory.row_of(sample, {"note": "failed: MemoryError"})
    assert row["ratio"] is None and row["met"] is False and row["note"] == "failed: MemoryError"
    assert bench.memory.row_of({**sample, "who": "MONAI"}, {"note": "failed"})["met"] is None


def test_a_case_that_fails_in_its_process_is_reported(bench):
    row = bench.memory.in_process({"work": "sample", "who": "no such package", "side": 8, "input": "ball"})
    assert row["ratio"] is None and row["note"] == "failed: KeyError: 'no such package'"


# ---- the whole ------------------------------------------------------------------------------------------------------


def test_every_stage_of_the_profile_is_a_function_that_runs(bench):
    table = list(bench.profiles.profile_rows(84))  # a threshold that takes a walk
    for work, stages in bench.profiles.STAGES.items():
        found = {row["stage"]: row["share"] for row in table if row["work"] == work}
        assert list(found) == [*stages.values(), "everything else"] and sum(found.values()) == pytest.approx(
            1, abs=0.01
        )
        assert all(share > 0 for stage, share in found.items() if "cached" not in stage)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_peers_of_small_images_find_the_same_threshold(bench, dtype):
    for name in bench.small.MAPS:
        m = bench.works.make_map(8, name).astype(dtype)
        for run in bench.small.PEERS.values():
            assert run(m) == pytest.approx(ns.dice_threshold(m), abs=1e-14)
    assert bench.peers.plain_newton(np.zeros(4, dtype)) == 0.5
    with pytest.raises(ValueError):
        bench.peers.plain_newton(np.array([0.5, np.nan], dtype))


def test_small_images_and_batches_run(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bench.peers, "find_spec", lambda name: None)
    assert bench.run.main(["--quick", "--only", "small", "many", "--store", "--out", str(tmp_path)]) == 0
    rows = read_csv(tmp_path / "speed.csv")
    works = {"small threshold", "small mask", "small dice", "thresholds of 4", "masks of 4"}
    assert {row["work"] for row in rows} == works and {row["side"] for row in rows} == {"8"}
    timed = {row["peer"] for row in rows if row["ratio"]}
    assert timed == {"plain Newton", "sorting", "a loop"}
    assert not [row["note"] for row in rows if "failed" in row["note"]]
    names = {name for name, _ in bench.small.tasks()}
    assert names == {"small", "many"} and names <= set(bench.run.WORKS)


def test_without_peers_everything_else_is_measured(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench.peers, "find_spec", lambda name: None)
    works = ["sample", "small-b", "batch", "marginal", "threshold", "errors", "profile"]
    assert bench.run.main(["--quick", "--only", *works, "--store", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for package in ("MONAI", "TorchIO", "GSTools", "rankseg"):
        assert f"\n{package} is not installed: make bench installs it" in said
    rows = read_csv(tmp_path / "speed.csv")
    missing = [row for row in rows if row["peer"] in ("MONAI", "TorchIO", "GSTools") or "rankseg" in row["peer"]]
    assert missing and all(row["peer_ms"] == row["ratio"] == row["met"] == "" for row in missing)
    assert all("is not installed" in row["note"] and float(row["ms"]) > 0 for row in missing)
    assert {row["peer"] for row in rows if row["ratio"]} == {
        *("Listing 1", "Listing 2", "one at a time", "scipy gaussian_filter", "one p.sum()"),
        *("Listing 3 (float64)", "Listing 3 (float32)"),
    }
    for row in rows:
        if row["ratio"]:
            ours, peer = float(row["ms"]), float(row["peer_ms"])
            turned = row["quantity"] == "ours / peer"
            assert float(row["ratio"]) == pytest.approx(ours / peer if turned else peer / ours, rel=1e-4)
    errors = [row for row in read_csv(tmp_path / "errors.csv") if row["peer"] == "noisyseg"]
    assert len(errors) == 12 and all(row["met"] == "True" and float(row["ratio"]) < 1e-14 for row in errors)
    about = json.loads((tmp_path / "speed_provenance.json").read_text())
    assert {"version", "commit", "machine", "packages", "peers", "threads", "options"} <= about.keys()
    assert about["options"]["sides"] == [16] and about["peers"].keys() >= {"monai", "torchio", "gstools", "rankseg"}


def test_quick_runs_as_a_script(root, tmp_path):
    command = [sys.executable, str(root / "benchmarks" / "run.py"), "--quick", "--store", "--out", str(tmp_path)]
    options = ["--only", "sample", "threshold", "device", "memory", "--device", "cpu"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Bars, each with the worst of its inputs:" in done.stdout and f"stored in {tmp_path}" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"speed.csv", "memory.csv", "speed_provenance.json"}
    (memory,) = read_csv(tmp_path / "memory.csv")
    assert memory["work"] == "sample" and float(memory["reference_mib"]) == 4 * 16**3 / 2**20
    rows = read_csv(tmp_path / "speed.csv")
    listing = [row for row in rows if row["peer"] == "Listing 2"]
    assert len(listing) == 9 and all(float(row["ratio"]) > 0 and row["met"] == "" for row in listing)
    assert not [row["note"] for row in rows if "failed" in row["note"]]


def test_make_bench_installs_the_peers_without_moving_what_is_locked(root):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-n", "-B", "bench", "STORE=1", "BENCH=--sides 64"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    *_, install, stamp, run = done.stdout.splitlines()
    assert "-c requirements.lock" in install and install.endswith("'.[bench]'")
    assert stamp.startswith("touch ") and run.endswith("benchmarks/run.py --store --sides 64")


def test_rows_are_renewed_in_their_place(bench, tmp_path):
    path = tmp_path / "t.csv"
    write, renew = bench.harness.write_table, bench.harness.renew_table
    write(path, [{"work": w, "ratio": 0.1 + 0.2, "met": None} for w in ("a", "b", "b", "c")])
    before = read_csv(path)
    renew(path, [{"work": "b", "ratio": 7.0, "met": True, "note": "new"}])
    after = read_csv(path)
    assert [row["work"] for row in after] == ["a", "b", "c"] and after[1]["ratio"] == "7" and after[1]["note"] == "new"
    assert [{**before[k], "note": ""} for k in (0, 3)] == [after[0], after[2]]
    renew(path, [{"work": "d", "ratio": 1.0}])
    assert [row["work"] for row in read_csv(path)] == ["a", "b", "c", "d"]
    renew(tmp_path / "new.csv", [{"work": "d", "ratio": 1.0}])
    assert read_csv(tmp_path / "new.csv") == [{"work": "d", "ratio": "1"}]


def test_a_part_is_added_to_what_is_stored_and_named_apart(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench.run, "project_root", lambda: tmp_path)
    out = tmp_path / "results" / "benchmarks"
    with pytest.raises(SystemExit):
        bench.run.main(["--only", "errors", "--add"])
    assert "does not exist, so there is nothing to add to" in capsys.readouterr().err
    first = {"commit": "earlier", "seconds": 1.0}
    bench.run.write_json(out / "speed_provenance.json", first)
    bench.harness.write_table(out / "speed.csv", [{"work": "sample", "ms": 1.0}])
    quick = ["--quick", "--sides", "16", "--out", str(out)]
    assert bench.run.main(["--only", "errors", "--add", *quick]) == 0
    assert bench.run.main(["--only", "marginal", "--add", *quick]) == 0
    about = json.loads((out / "speed_provenance.json").read_text())
    assert {name: about[name] for name in first} == first and list(about["added"]) == ["errors", "marginal"]
    assert {"commit", "machine", "threads", "options", "seconds"} <= about["added"]["errors"].keys()
    works = [row["work"] for row in read_csv(out / "speed.csv")]
    assert works[0] == "sample" and set(works[1:]) == {"marginal"} and (out / "errors.csv").is_file()
    for wrong in (["--add"], ["--only", "errors", "--add", "--store"], ["--only", "errors", "--add", "--quick"]):
        with pytest.raises(SystemExit):
            bench.run.main(wrong)
    capsys.readouterr()


def test_a_part_is_not_stored_as_the_whole(bench, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(bench.run, "project_root", lambda: tmp_path)
    monkeypatch.setattr(bench.run, "tasks", lambda *_: [])
    for part in (["--quick"], ["--only", "errors"]):
        with pytest.raises(SystemExit) as stopped:
            bench.run.main([*part, "--store"])
        assert stopped.value.code == 2 and "--out" in capsys.readouterr().err
    for wrong in (["--sides", "2"], ["--repeats", "0"]):
        with pytest.raises(SystemExit):
            bench.run.main(wrong)
    capsys.readouterr()


# ---- label maps of several classes ----------------------------------------------------------------------------------


def test_label_maps_side_by_side(bench):
    """Two blocks that touch: every method is scored with its own labels, and the table has the differences to ours."""
    label = np.zeros((12, 12, 12), np.uint8)
    label[3:6, 3:9, 3:9], label[6:9, 3:9, 3:9] = 1, 3
    m = bench.labels.make_maps(label, (2.0, 2.0, 2.0), 4.0)
    assert m.shape[0] == 3 and m.dtype == np.float32 and abs(m.sum(axis=0) - 1).max() < 1e-6
    for data, names in (
        ("head and neck", set(bench.labels.METHODS)),
        ("hippocampus, nested", {"1/2", "thresholds, cut"}),
    ):
        rows = bench.labels.measure(data, iter([("a", label, (2.0, 2.0, 2.0))] * 2), 0)
        assert {row["method"] for row in rows} == names | {"noisyseg"} and len(rows) == 12 * (len(names) + 1)
        assert all(row["less"] > -1e-6 and 0 <= row["gap"] < 0.05 for row in rows)
        assert max(row["less"] for row in rows) > 0.05  # the usual way on strong noise
        table = bench.labels.summary(data, rows)
        assert (
            len(table) == 6 * (len(names) + 1) and set(table.cases) == {2} and (table.less_min <= table.less_max).all()
        )
    labels, gap = ns.optimal_labels(m)
    assert bench.labels.exclusive(m)[1] == gap
    assert bench.labels.of_classes(labels, m) == pytest.approx(np.mean([ns.dice(labels == k, m[k]) for k in (1, 2)]))


def test_the_committed_label_maps(root):
    """No way to a label map is better than ours on any case, and none can be by more than the gap."""
    table = pd.read_csv(root / "results" / "benchmarks" / "labels.csv")
    assert (table.less_min > -1e-4).all() and (table.gap_max < 0.01).all()
    assert set(table.data) == {"hippocampus, 2 parts", "hippocampus, nested", "head and neck", "one CT"}
    assert (table[table.method == "argmax"].less > 0.003).all()


# ---- masks of trained networks' maps --------------------------------------------------------------------------------


def test_masks_side_by_side(bench, monkeypatch, tmp_path, capsys):
    """A map that stays below 1/2: a fixed threshold has nothing, t and rankseg without pruning have the block."""
    c, label = np.full((6, 6, 6), 0.01, np.float32), np.zeros((6, 6, 6), np.uint8)
    c[1:4, 1:4, 1:4], label[1:4, 1:4, 1:4] = 0.4, 1
    ways = bench.masks.installed()
    assert {"noisyseg", "1/2", "rankseg RMA", "rankseg BA", "rankseg, its defaults"} <= set(ways)
    found = bench.masks.measure(c, label, ways, 1, 1.0)
    for name, row in found.items():
        best = name in ("noisyseg", "rankseg RMA", "rankseg BA")
        assert (row["dice"], row["voxels"], row["other"]) == ((1.0, 27, 0) if best else (0.0, 0, 27)) and row["ms"] > 0
    point = {"organ": "x", "a": 0.02}
    table = pd.DataFrame(bench.masks.summary(point, [found, found])).set_index("method")
    assert table.loc["1/2", ["dice", "less", "empty", "same"]].tolist() == [0, 1, 2, 0]
    assert table.loc["noisyseg", ["dice", "less", "less_lo", "less_hi", "empty", "same"]].tolist() == [1, 0, 0, 0, 0, 2]
    assert table.loc["rankseg RMA", "same"] == 2 and set(table.cases) == {2}


def test_the_maps_of_a_finished_run_are_made_again(bench, tmp_path, monkeypatch, capsys):
    data, config = tmp_path / "data", tiny.small_config(epochs=2)
    tiny.make_data(data)
    folder = tmp_path / "runs" / "few" / config.folder
    metrics = execute(config, folder, data, report=lambda line: None)
    monkeypatch.setattr(bench.masks, "project_root", lambda: tmp_path)
    assert bench.masks.main([str(folder), "--data", str(data), "--repeats", "1", "--store"]) == 0
    table = pd.read_csv(tmp_path / "results" / "benchmarks" / "masks.csv").set_index("method")
    assert table.dice["noisyseg"] == pytest.approx(metrics["scores"]["CE(*)"], abs=1e-5)
    assert table.dice["1/2"] == pytest.approx(metrics["scores"]["CE(0)"], abs=1e-5)
    assert set(table.preset) == {"few"} and set(table["shape"]) == {"16 x 16 x 16"}
    about = json.loads((tmp_path / "results" / "benchmarks" / "masks_provenance.json").read_text(encoding="utf-8"))
    assert [(run["run"], run["config_hash"]) for run in about["runs"]] == [(config.name, config.hash)]
    metrics["scores"]["CE(*)"] += 0.1
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with pytest.raises(ValueError, match=r"CE\(\*\) has .* other maps"):
        bench.masks.main([str(folder), "--data", str(data)])
    (folder / "metrics.json").unlink()
    with pytest.raises(ValueError, match="not finished"):
        bench.masks.main([str(folder), "--data", str(data)])


def test_the_committed_masks(root):
    """Ours and rankseg's solvers are alike, a fixed threshold is worse on noisy labels, and its three makers agree."""
    table = pd.read_csv(root / "results" / "benchmarks" / "masks.csv").set_index(["organ", "a", "method"])
    about = json.loads((root / "results" / "benchmarks" / "masks_provenance.json").read_text(encoding="utf-8"))
    assert not about["commit"].endswith("dirty") and None not in about["peers"].values()
    assert len(about["runs"]) * len(table.index.unique("method")) == len(table) == 28
    for (organ, a), group in table.groupby(level=["organ", "a"]):
        rows = group.droplevel(["organ", "a"])
        assert rows.loc[["rankseg RMA", "rankseg BA"], "less"].abs().max() < 0.001, organ
        assert rows.loc["1/2", "dice"] == rows.loc["MONAI AsDiscrete", "dice"]
        assert rows.loc["1/2", "dice"] == pytest.approx(rows.loc["nnU-Net export", "dice"], abs=0.001)
        assert rows.loc["1/2", "less"] > 0 and (a == 0 or rows.loc["1/2", "less_lo"] > 0)
        assert rows.loc["noisyseg", "empty"] == 0 and rows.loc["rankseg RMA", "ms"] > 10 * rows.loc["noisyseg", "ms"]


# ---- Lean U-Net ----


def test_time_and_memory_of_networks_are_measured(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench.lean, "SHAPES", {"training": (48, 48, 48), "segmentation": (16, 16, 16)})
    monkeypatch.setattr(bench.lean, "peak_mib", lambda model, kind: 7.0)
    assert bench.lean.main(["--models", "lunet1", "--repeats", "1"]) == 0
    rows = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["work"], row["shape"], row["calls"]) for row in rows] == [
        ("training", "48 x 48 x 48", 1),
        ("segmentation", "16 x 16 x 16", 1),
    ]
    assert all(row["fastest_ms"] > 0 and row["peak_mib"] == 7.0 and row["parameters"] < 1000 for row in rows)


def test_the_committed_times_of_networks(root):
    """Thirty-five times fewer parameters, but no more than 7/4 of the time, as the chapter derives."""
    table = pd.read_csv(root / "results" / "benchmarks" / "lean.csv").set_index(["work", "model"])
    for work in ("training", "segmentation"):
        whole, lean = table.loc[(work, "doubling4")], table.loc[(work, "lunet4")]
        assert whole.parameters / lean.parameters > 35 and 1 < whole.fastest_ms / lean.fastest_ms < 1.75


# ---- the covariance of fields, as measured ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(root):
    """The committed table of `benchmarks/covariance.py`, and what it was made with."""
    folder = root / "results" / "benchmarks"
    about = json.loads((folder / "covariance_provenance.json").read_text(encoding="utf-8"))
    return pd.read_csv(folder / "covariance.csv"), about


def z_scores(table, method, quantity, expected, place=None):
    """Distance from `expected`, a function of the distance, in standard errors; every row is found."""
    rows = table[(table.method == method) & (table.quantity == quantity)]
    rows = rows if place is None else rows[rows.place == place]
    assert len(rows) and (rows.standard_error > 0).all()
    return abs(rows.value - expected(rows.distance.to_numpy())) / rows.standard_error


PLACES = ("middle", "inward from a face", "along a face")


@pytest.mark.statement("thm-kronecker")
@pytest.mark.parametrize("method", ["noisyseg", "GSTools"])
def test_measured_covariance_is_that_of_the_model(measured, method):
    table, about = measured

    def kernel(r):
        return covariance(np.zeros((1, 1)), r[:, None], 1.0, about["b"])

    for place in PLACES:
        assert z_scores(table, method, "covariance", kernel, place).max() < 4
    assert z_scores(table, method, "sd", np.ones_like).max() < 4
    assert z_scores(table, method, "correlation of components", np.zeros_like).max() < 4
    assert z_scores(table, method, "excess kurtosis", np.zeros_like).max() < 4


@pytest.mark.statement("prop-border")
@pytest.mark.parametrize("method", ["Listing 2", "MONAI"])
def test_measured_covariance_of_filtered_noise(measured, method):
    """The profile of the zero-padded filter, in the table's own standard errors; and far from the model's."""
    table, about = measured
    (size, *_), b = about["shape"], about["b"]
    weight = (2 * np.pi) ** 0.25 * (b * size) ** 0.5
    made = weight * gaussian_filter1d(np.eye(size), b * size / np.sqrt(2), axis=0, mode="constant")
    profile = np.sqrt(np.diag(made @ made.T))

    def rms(d):
        return profile[np.rint(d * size - 0.5).astype(int)]

    assert z_scores(table, method, "sd", rms, "line").max() < 4
    assert z_scores(table, method, "sd", np.ones_like, "line").max() > 20
    for power, place in ((2, "edge"), (3, "corner")):
        assert z_scores(table, method, "sd", lambda d, p=power: rms(d) ** p, place).max() < 4
    assert z_scores(table, method, "covariance", lambda r: np.exp(-((r / b) ** 2) / 2), "middle").max() < 4
    assert z_scores(table, method, "covariance", lambda r: np.exp(-((r / b) ** 2) / 2), "along a face").max() > 20


def test_measured_tails_of_spline_fields(measured):
    """Few uniform control points make a displacement: tails lighter than normal; locked borders stand nearly still."""
    table, _ = measured
    rows = table[table.quantity == "excess kurtosis"].set_index("method")
    assert (rows.value + 5 * rows.standard_error < 0).to_dict() == {m: m.startswith("TorchIO") for m in rows.index}
    corner = table[(table.quantity == "sd") & (table.place == "corner")].set_index("method").value
    assert corner["TorchIO, locked borders"] < 0.3 < 0.9 < corner["TorchIO"]


def test_measured_rows_of_the_package_come_from_this_code(measured, root):
    """The script, run again with the stored seed and number of draws, gives the rows of the table."""
    table, about = measured
    spec = util.spec_from_file_location("covariance_benchmark", root / "benchmarks" / "covariance.py")
    assert spec is not None and spec.loader is not None
    script = util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert about["shape"] == [script.N] * 3 and (about["a"], about["b"]) == (script.A, script.B)
    assert set(about["draws"]) == set(table.method) == set(script.METHODS)
    rows = script.measure(script.package(about["seed"]), about["draws"]["noisyseg"])
    stored = table[table.method == "noisyseg"]
    assert [row[:2] for row in rows] == list(zip(stored.quantity, stored.place, strict=True))
    for position, column in ((2, "distance"), (3, "value"), (4, "standard_error")):
        np.testing.assert_allclose([row[position] for row in rows], stored[column], rtol=0, atol=2e-6)
