"""Figures of time: every training and every comparison has its mark."""

from __future__ import annotations

import math

import pandas as pd

from reproduction.figures.palette import MARGINAL
from reproduction.figures.timing import plot_costs, plot_ratios


def test_every_training_has_its_mark():
    runs = pd.DataFrame(
        {
            "preset": ["one", "one", "one", "two", "two"],
            "run": [f"aorta-a0.010-{loss}-fold0-unet" for loss in ("ce", "ce", "sd", "sd", "ce")],
            "busy_s": [30.0, 20.0, 40.0, 50.0, 60.0],
        }
    )
    (ax,) = plot_costs(runs).axes
    drawn = {(line.get_label(), *map(float, line.get_xdata())) for line in ax.lines if len(line.get_xdata())}
    assert {points[1:] for points in drawn} == {(20.0, 30.0), (40.0,), (50.0,), (60.0,)}
    assert {points[0] for points in drawn} >= {"cross-entropy", "soft-Dice"}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two"]
    assert all(abs(y - round(y)) < 0.5 for line in ax.lines for y in line.get_ydata()), "a mark is in its preset's row"


def ratios() -> pd.DataFrame:
    columns = ["name", "work", "low", "high", "bar", "missed"]
    rows = [["sum", "threshold", 0.5, 2.0, 0.25, False], ["peer", "threshold", 3.0, 9.0, 4.0, True]]
    return pd.DataFrame([*rows, ["listing", "sample", 50.0, 60.0, math.nan, False]], columns=columns)


def test_every_comparison_has_its_line_and_its_bar():
    (ax,) = plot_ratios(ratios()).axes
    spans = [tuple(map(float, line.get_xdata())) for line in ax.lines if len(line.get_xdata()) == 2]
    assert spans[:3] == [(0.5, 2.0), (0.25, 0.25), (3.0, 9.0)] and (50.0, 60.0) in spans
    assert [label.get_text() for label in ax.get_yticklabels()] == ["sum", "peer", "listing"]
    crosses = [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "X" and len(line.get_xdata())]
    assert crosses == [3.0], "only the worst input that misses its bar is a cross"
    colours = [line.get_color() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_color() != MARGINAL]
    assert colours[0] == colours[1] != colours[2], "a colour is a work"
