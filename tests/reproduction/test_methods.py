"""Figures that compare the methods: the numbers that were given are the numbers that are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from figure_tables import differences, drawn, history, legend, other_differences, seeds, summary
from reproduction.figures.methods import plot_dice_over_noise, plot_differences, plot_history, plot_pairs, plot_seeds
from reproduction.figures.panels import METHOD_LOOKS, OTHER_LOOKS
from reproduction.scoring.rules import METHODS


def lines_of(ax):
    return {container.get_label(): container.lines[0] for container in ax.containers}


def test_dice_over_noise_draws_the_table():
    figure = plot_dice_over_noise(summary())
    assert [ax.get_title() for ax in figure.axes] == ["kidney", "aorta"]
    lines = lines_of(figure.axes[1])
    assert list(lines) == list(METHODS)
    np.testing.assert_allclose(lines["CE(*)"].get_ydata(orig=False), [0.82, 0.72])
    assert [line.get_color() for line in lines.values()] == [METHOD_LOOKS[name][1] for name in METHODS]
    assert len({line.get_marker() for line in lines.values()}) == 3  # told apart without colour, too
    bar = figure.axes[1].containers[2].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(bar[:, 1], [0.80, 0.85])
    np.testing.assert_allclose(figure.axes[1].get_xticks(), [0.0, 0.01])  # the strengths that were run, no others
    ceiling = next(line for line in figure.axes[0].lines if line.get_label() == "ceiling")
    np.testing.assert_allclose(ceiling.get_ydata(), [1.0, 0.99])


def test_papers_points_go_to_their_organ_only():
    paper = pd.DataFrame({"organ": ["aorta"] * 3, "a": 0.01, "method": list(METHODS), "dice": [0.1, 0.2, 0.3]})
    figure = plot_dice_over_noise(summary(), compared=paper)
    hollow = [[line for line in ax.lines if line.get_markerfacecolor() == "none"] for ax in figure.axes]
    assert [len(lines) for lines in hollow] == [0, 3]
    assert [line.get_ydata()[0] for line in hollow[1]] == [0.1, 0.2, 0.3]
    assert "CE(*), paper" in legend(figure)
    assert "CE(*), stored" in legend(plot_dice_over_noise(summary(), compared=paper, compared_name="stored"))


def test_a_method_that_was_not_scored_is_not_drawn():
    table = summary()
    figure = plot_dice_over_noise(table[table["method"] != "SD(0)"])
    assert list(lines_of(figure.axes[0])) == ["CE(0)", "CE(*)"]
    assert "SD(0)" not in legend(figure)


def test_differences_take_the_rows_of_one_score():
    table = differences()
    table.loc[table["score"] == "dice_clean", "mean"] = 9.0
    lines = lines_of(plot_differences(table).axes[0])
    assert len(lines) == 3
    assert max(line.get_ydata(orig=False).max() for line in lines.values()) == pytest.approx(0.02)


def test_other_differences_by_organ():
    figure = plot_differences(other_differences(), pairs=OTHER_LOOKS)
    assert [ax.get_title() for ax in figure.axes] == ["kidney", "aorta"]
    shown = drawn(figure.axes[1])
    assert list(shown) == [name.replace("-", " − ") for name in OTHER_LOOKS]
    assert shown["CE(fold) − CE(0)"][0] == pytest.approx([0.01, 0.01])
    assert shown["CE(fold) − CE(0)"][1] == pytest.approx([-0.01, 0.05] * 2)


def test_what_was_not_scored_is_left_out():
    table = other_differences()
    few = plot_differences(table[~table["difference"].str.contains("rank|oracle|fold")], pairs=OTHER_LOOKS)
    assert legend(few) == ["CE(*) − CE(0)"]


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


def test_a_mark_for_every_case_at_the_strongest_noise():
    cases, _ = seeds()
    figure = plot_pairs(cases.assign(case=["low", "high"] * (len(cases) // 2)))
    x, y = figure.axes[0].lines[1].get_data()
    # Means over the two trainings: .605 -+ .2 with soft-Dice, .705 -+ .2 with the threshold; at a = .02 alone.
    assert sorted(x) == pytest.approx([0.405, 0.805]) and sorted(y) == pytest.approx([0.505, 0.905])
    assert figure.axes[0].texts[0].get_text() == "a = 0.02"
    assert figure.axes[0].get_xlabel() == "Dice of SD(0)" and figure.axes[0].get_ylabel() == "Dice of CE(*)"
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()


def test_history_draws_every_run_and_names_each_loss_once():
    figure = plot_history(history())
    assert len(figure.axes[0].lines) == 8
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cross-entropy", "soft-Dice"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.00", "0.02"]
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())
