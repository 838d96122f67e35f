"""Small tables that the tests of figures draw, and what they read out of a drawn figure."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.figures.panels import DIFFERENCE_LOOKS, OTHER_LOOKS
from reproduction.scoring.rules import METHODS


def summary() -> pd.DataFrame:
    rows = []
    for organ, top in (("kidney", 0.9), ("aorta", 0.8)):
        for a in (0.0, 0.01):
            for k, method in enumerate(METHODS):
                x = top - 10 * a + 0.01 * k
                rows.append({"organ": organ, "a": a, "method": method, "dice_noisy": x, "ceiling": top + 0.1 - a})
                rows[-1] |= {"dice_noisy_lo": x - 0.02, "dice_noisy_hi": x + 0.03}
    return pd.DataFrame(rows)


def differences() -> pd.DataFrame:
    names = ("CE(*)-CE(0)", "SD(0)-CE(0)", "CE(*)-SD(0)")
    rows = [
        {"organ": "aorta", "a": a, "difference": name, "score": score, "mean": 0.01 * k, "lo": 0.0, "hi": 0.05}
        for a in (0.0, 0.02)
        for k, name in enumerate(names)
        for score in ("dice_noisy", "dice_clean")
    ]
    return pd.DataFrame(rows)


def other_differences() -> pd.DataFrame:
    rows = [
        {"organ": organ, "a": a, "difference": name, "score": score, "mean": 0.01 * k, "lo": -0.01, "hi": 0.05}
        for organ in ("kidney", "aorta")
        for a in (0.0, 0.02)
        for k, name in enumerate(OTHER_LOOKS)
        for score in ("dice_noisy", "dice_clean")
    ]
    return pd.DataFrame(rows)


def history() -> pd.DataFrame:
    rows = [
        {"organ": "aorta", "a": a, "loss": loss, "fold": fold, "epoch": epoch, "train_dice": 0.1 * epoch + a}
        for a in (0.0, 0.02)
        for loss in ("ce", "sd")
        for fold in (0, 1)
        for epoch in (0, 1, 2)
    ]
    return pd.DataFrame(rows)


def seeds(count: int = 2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """CE(0) has .5, the others .1 and .2 more; training s is .01 s off; CE(fold) is there and must not be drawn."""
    cases, summary = [], []
    for a in (0.0, 0.02):
        for k, method in enumerate((*METHODS, "CE(fold)")):
            for s in range(count):
                cases += [
                    {
                        "organ": "aorta",
                        "a": a,
                        "method": method,
                        "training_seed": s,
                        "dice_noisy": 0.5 + 0.1 * k + 0.01 * s + d,
                    }
                    for d in (-0.2, 0.2)
                ]
            mean = 0.5 + 0.1 * k + 0.01 * (count - 1) / 2
            ends = {"dice_noisy": mean, "dice_noisy_lo": mean - 0.05, "dice_noisy_hi": mean + 0.07}
            summary.append({"organ": "aorta", "a": a, "method": method, **ends})
    return pd.DataFrame(cases), pd.DataFrame(summary)


def deviating() -> pd.DataFrame:
    rows = []
    for preset, shift in (("paper", 0.01), ("quick", 0.05)):
        for k, method in enumerate(METHODS):
            row = {"organ": "kidney", "a": 0.01, "method": method, "paper": 0.8, "preset": preset}
            ours = 0.8 + shift + 0.001 * k
            rows.append({**row, "ours": ours, "lo": ours - 0.02, "hi": ours + 0.03, "difference": ours - 0.8})
    return pd.DataFrame(rows)


def compared() -> pd.DataFrame:
    rows = [
        {"organ": "kidney", "a": 0.01, "difference": name, "paper": -0.02, "preset": "quick"}
        | {"mean": 0.01 * k, "lo": 0.01 * k - 0.01, "hi": 0.01 * k + 0.02}
        for k, name in enumerate(DIFFERENCE_LOOKS)
    ]
    return pd.DataFrame(rows)


def drawn(ax: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Label to the heights of its marks, and to the ends of its bars from bottom to top."""
    found = {}
    for container in ax.containers:
        line, _, bars = container.lines
        ends = [float(y) for segment in bars[0].get_segments() for y in segment[:, 1]]
        found[str(container.get_label())] = ([float(y) for y in line.get_ydata()], ends)
    for line in ax.lines:
        if not str(line.get_label()).startswith("_"):
            found[str(line.get_label())] = ([float(y) for y in np.asarray(line.get_ydata())], [])
    return found


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def pixels(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw", dpi=50)
    return buffer.getvalue()
