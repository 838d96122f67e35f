"""Figures of time: every training and every comparison has its mark."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from reproduction.figures.timing import plot_costs


def test_every_training_has_its_mark():
    runs = pd.DataFrame(
        {
            "preset": ["one", "one", "one", "two", "two"],
            "run": [f"aorta-a0.010-{loss}-fold0-unet" for loss in ("ce", "ce", "sd", "sd", "ce")],
            "busy_s": [30.0, 20.0, 40.0, 50.0, math.nan],
        }
    )
    (ax,) = plot_costs(runs).axes
    drawn = {(line.get_label(), *map(float, line.get_xdata())) for line in ax.lines if len(line.get_xdata())}
    assert {points[1:] for points in drawn} == {(20.0, 30.0), (40.0,), (50.0,)}
    assert {points[0] for points in drawn} >= {"cross-entropy", "soft-Dice"}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two"]
    assert all(abs(y - round(y)) < 0.5 for line in ax.lines for y in line.get_ydata()), "a mark is in its preset's row"


def test_marks_need_processor_seconds():
    runs = pd.DataFrame({"preset": ["one"], "run": ["aorta-a0.010-ce-fold0-unet"], "busy_s": [math.nan]})
    with pytest.raises(ValueError, match="runs: found no training with processor seconds"):
        plot_costs(runs)
    with pytest.raises(ValueError, match=r"runs: found columns \['preset', 'run'\]; expected also \['busy_s'\]"):
        plot_costs(runs[["preset", "run"]])
