"""Tests of reproduction.figures.comparisons: the numbers that were given are the numbers that are drawn."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.figures.comparisons import FURTHER, plot_deviations, plot_further, plot_gains, plot_seeds
from reproduction.scoring.scores import DIFFERENCES, OTHER_DIFFERENCES

METHODS = ("CE(0)", "SD(0)", "CE(*)")


def differences() -> pd.DataFrame:
    rows = [
        {"organ": organ, "a": a, "difference": name, "score": score, "mean": 0.01 * k, "lo": -0.01, "hi": 0.05}
        for organ in ("kidney", "aorta")
        for a in (0.0, 0.02)
        for k, name in enumerate(FURTHER)
        for score in ("dice_noisy", "dice_clean")
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
        {"organ": "kidney", "a": 0.01, "difference": f"{first}-{second}", "paper": -0.02, "preset": "quick"}
        | {"mean": 0.01 * k, "lo": 0.01 * k - 0.01, "hi": 0.01 * k + 0.02}
        for k, (first, second) in enumerate(DIFFERENCES)
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


def test_further_differences_by_organ():
    figure = plot_further(differences())
    assert [ax.get_title() for ax in figure.axes] == ["kidney", "aorta"]
    shown = drawn(figure.axes[1])
    assert list(shown) == [name.replace("-", " − ") for name in FURTHER]
    assert shown["CE(fold) − CE(0)"][0] == pytest.approx([0.01, 0.01])
    assert shown["CE(fold) − CE(0)"][1] == pytest.approx([-0.01, 0.05] * 2)
    assert set(FURTHER) <= {f"{first}-{second}" for first, second in (*DIFFERENCES, *OTHER_DIFFERENCES)}


def test_what_was_not_scored_is_left_out():
    table = differences()
    few = plot_further(table[~table["difference"].str.contains("rank|oracle|fold")])
    assert legend(few) == ["CE(*) − CE(0)"]
    with pytest.raises(ValueError, match="differences: found no row with score 'dice' and one of"):
        plot_further(table, "dice")
    with pytest.raises(ValueError, match="differences: found columns"):
        plot_further(table.drop(columns="lo"))


def test_every_training_is_a_hollow_mark():
    cases, summary = seeds()
    figure = plot_seeds(cases, summary)
    shown = drawn(figure.axes[0])
    assert set(shown) == {*METHODS, *(f"{method}, one seed" for method in METHODS)}
    assert shown["CE(*)"][0] == pytest.approx([0.2, 0.2]) and shown["CE(*)"][1] == pytest.approx([0.15, 0.27] * 2)
    assert sorted(shown["CE(*), one seed"][0]) == pytest.approx([0.195, 0.195, 0.205, 0.205])
    assert sorted(shown["CE(0), one seed"][0]) == pytest.approx([-0.005, -0.005, 0.005, 0.005])
    hollow = [line for line in figure.axes[0].lines if "one seed" in str(line.get_label())]
    assert all(line.get_markerfacecolor() == "none" for line in hollow)


def test_one_training_without_the_column():
    cases, summary = seeds(1)
    shown = drawn(plot_seeds(cases.drop(columns="training_seed"), summary).axes[0])
    assert shown["SD(0), one seed"][0] == pytest.approx([0.1, 0.1]) == shown["SD(0)"][0]
    with pytest.raises(ValueError, match="cases: found columns"):
        plot_seeds(cases.drop(columns="a"), summary)


def test_deviations_are_ours_minus_the_papers():
    figure = plot_deviations(deviating())
    shown = drawn(figure.axes[0])
    assert shown["SD(0), paper"][0] == pytest.approx([0.011]) and shown["SD(0), paper"][1] == pytest.approx(
        [-0.009, 0.041]
    )
    assert shown["CE(*), quick"][0] == pytest.approx([0.052])
    one = deviating().query("preset == 'quick'")
    assert list(drawn(plot_deviations(one).axes[0])) == list(METHODS), "one preset needs no name"


def test_values_that_were_not_run_are_left_out():
    table = deviating()
    table.loc[table["preset"] == "paper", ["ours", "lo", "hi", "difference"]] = np.nan
    assert list(drawn(plot_deviations(table).axes[0])) == list(METHODS)
    with pytest.raises(ValueError, match="table: found no row with a value of ours"):
        plot_deviations(table[table["preset"] == "paper"])


def test_gains_beside_the_papers():
    shown = drawn(plot_gains(compared()).axes[0])
    assert shown["SD(0) − CE(0)"][0] == pytest.approx([0.01]) and shown["SD(0) − CE(0)"][1] == pytest.approx(
        [0.0, 0.03]
    )
    assert shown["SD(0) − CE(0), paper"][0] == pytest.approx([-0.02])
    two = pd.concat([compared(), compared().assign(preset="mine")])
    with pytest.raises(ValueError, match="table: found the presets mine, quick; expected the rows of one"):
        plot_gains(two)
    with pytest.raises(ValueError, match="table: found an empty table"):
        plot_gains(compared()[:0])


def test_figures_are_deterministic_and_leave_the_parameters_alone():
    def pixels() -> list[bytes]:
        figures = [
            plot_further(differences()),
            plot_seeds(*seeds()),
            plot_deviations(deviating()),
            plot_gains(compared()),
        ]
        images = []
        for figure in figures:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="raw", dpi=50)
            images.append(buffer.getvalue())
        return images

    before = dict(mpl.rcParams)
    first = pixels()
    assert first == pixels() and all(len(set(image)) > 10 for image in first)
    assert dict(mpl.rcParams) == before
