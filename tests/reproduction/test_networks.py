"""Figures of networks: what they show comes from the tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reproduction.figures.networks import plot_gains, plot_layers, plot_shares, plot_sizes


def models() -> pd.DataFrame:
    sizes = {"doubling2": 2000, "doubling4": 8000, "lunet4": 700, "doubling4-taylor": 900, "doubling4-l1": 950}
    rows = [
        {"organ": organ, "model": m, "parameters": n, "dice_noisy": 0.8} for organ in "xy" for m, n in sizes.items()
    ]
    return pd.DataFrame(rows).assign(dice_noisy_lo=0.79, dice_noisy_hi=0.82)


def paths() -> pd.DataFrame:
    rows = [
        {"organ": organ, "model": model, "fold": fold, "epoch": epoch, "parameters": n, "test_dice": 0.5 + 0.1 * epoch}
        for organ in "xy"
        for model in ("doubling4-taylor", "doubling4-l1")
        for fold in (0, 1)
        for epoch, n in enumerate((8000, 4000, 900, 900))
    ]
    return pd.DataFrame(rows)


def test_a_panel_an_organ_with_families_and_paths():
    figure = plot_sizes(models(), paths())
    assert [ax.get_title() for ax in figure.axes] == ["x", "y"]
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"U-Net", "Lean U-Net", "pruned, taylor", "pruned, others"}
    widths = [len(line.get_xdata()) for line in figure.axes[0].get_lines()]
    assert 2 in widths, "the widths of a family"
    assert widths.count(3) == 2, "an epoch that removed nothing is no point of a path"


def test_the_channels_that_are_left_are_written_down():
    figure = plot_layers({"taylor": [4.0, 2.5], "random_at_largest": [1.0, 8.0]}, ["down0_0", "down1_0"], [4, 8])
    assert [text.get_text() for text in figure.axes[0].texts] == ["4", "8", "4", "2.5", "1", "8"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
        "before pruning",
        "taylor",
        "random at largest",
    ]


def test_shares_as_computed_and_as_drawn():
    figure = plot_shares([4, 8], {"one": np.array([0.2, 0.8])}, {"one": np.array([0.25, 0.75])})
    line, dots = figure.axes[0].get_lines()
    assert line.get_ydata().tolist() == [0.2, 0.8] and dots.get_ydata().tolist() == [0.25, 0.75]


def test_gains_have_a_line_a_model():
    rows = [{"organ": "x", "a": a, "model": m, "mean": a} for a in (0.0, 0.01) for m in ("doubling8", "lunet4")]
    figure = plot_gains(pd.DataFrame(rows).assign(lo=-0.01, hi=0.02))
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"doubling8", "lunet4"}
    assert figure.axes[0].get_xticks() == pytest.approx([0.0, 0.01])
