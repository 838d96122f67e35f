"""Figures show what they are given, leave nothing global behind, and give the same pixels for the same input."""

from __future__ import annotations

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from noisyseg import dice, dice_threshold
from reproduction.figures.theory import (
    COLOURS,
    METHODS,
    figure_style,
    plot_dice_over_noise,
    plot_differences,
    plot_history,
    plot_noise_rows,
    plot_patch_views,
    plot_threshold_curve,
)


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


def history() -> pd.DataFrame:
    rows = [
        {"organ": "aorta", "a": a, "loss": loss, "fold": fold, "epoch": epoch, "train_dice": 0.1 * epoch + a}
        for a in (0.0, 0.02)
        for loss in ("ce", "sd")
        for fold in (0, 1)
        for epoch in (0, 1, 2)
    ]
    return pd.DataFrame(rows)


def figures() -> dict[str, Figure]:
    image = np.linspace(0, 1, 2 * 5 * 5).reshape(2, 5, 5)
    label = np.pad(np.ones((2, 2, 2)), 2)
    return {
        "noise": plot_noise_rows(image, image, image > 0.5, image > 0.3, [0.0, 0.02]),
        "dice": plot_dice_over_noise(summary()),
        "differences": plot_differences(differences()),
        "history": plot_history(history()),
        "views": plot_patch_views(label * 50, label, (1, 2, 3)),
        "threshold": plot_threshold_curve({"m": image}),
    }


def pixels(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw", dpi=50)
    return buffer.getvalue()


def test_figures_are_deterministic_and_leave_the_parameters_alone():
    before = dict(mpl.rcParams)
    first = {name: pixels(figure) for name, figure in figures().items()}
    second = {name: pixels(figure) for name, figure in figures().items()}
    assert first == second
    assert all(len(set(image)) > 10 for image in first.values())  # something was drawn
    assert dict(mpl.rcParams) == before


def test_a_user_style_does_not_change_a_figure():
    expected = pixels(plot_dice_over_noise(summary()))
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30}):
        assert pixels(plot_dice_over_noise(summary())) == expected


def test_pyplot_is_never_imported():
    draw = "import sys, reproduction.figures.theory as p; p.plot_threshold_curve({'m': [0.5]})"
    code = f"{draw}; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_style_ends_with_its_block_even_on_an_error():
    before = mpl.rcParams["axes.grid"]
    with pytest.raises(RuntimeError, match="inside"), figure_style():
        assert mpl.rcParams["axes.grid"] != before
        raise RuntimeError("inside")
    assert mpl.rcParams["axes.grid"] == before


def test_noise_rows_hold_the_arrays_in_order():
    arrays = [np.full((2, 3, 3), value) for value in (0.1, 0.2, 0.3, 0.4)]
    arrays[1][1] = 0.7
    figure = plot_noise_rows(*arrays, [0.0, 0.05])
    shown = np.array([ax.images[0].get_array()[0, 0] for ax in figure.axes]).reshape(4, 2)
    np.testing.assert_array_equal(shown, [[0.1, 0.1], [0.2, 0.7], [0.3, 0.3], [0.4, 0.4]])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["$a = 0.00$", "$a = 0.05$"]
    assert {ax.images[0].get_clim() for ax in figure.axes} == {(0.0, 1.0)}  # one grey scale for all


def lines_of(ax):
    return {container.get_label(): container.lines[0] for container in ax.containers}


def test_dice_over_noise_draws_the_table():
    figure = plot_dice_over_noise(summary())
    assert [ax.get_title() for ax in figure.axes] == ["kidney", "aorta"]
    lines = lines_of(figure.axes[1])
    assert list(lines) == list(METHODS)
    np.testing.assert_allclose(lines["CE(*)"].get_ydata(orig=False), [0.82, 0.72])
    assert {name: line.get_color() for name, line in lines.items()} == {name: COLOURS[name] for name in METHODS}
    assert len({line.get_marker() for line in lines.values()}) == 3  # told apart without colour, too
    bar = figure.axes[1].containers[2].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(bar[:, 1], [0.80, 0.85])
    np.testing.assert_allclose(figure.axes[1].get_xticks(), [0.0, 0.01])  # the strengths that were run, no others
    ceiling = next(line for line in figure.axes[0].lines if line.get_label() == "ceiling")
    np.testing.assert_allclose(ceiling.get_ydata(), [1.0, 0.99])


def test_papers_points_go_to_their_organ_only():
    paper = pd.DataFrame({"organ": ["aorta"] * 3, "a": 0.01, "method": list(METHODS), "dice": [0.1, 0.2, 0.3]})
    figure = plot_dice_over_noise(summary(), paper=paper)
    hollow = [[line for line in ax.lines if line.get_markerfacecolor() == "none"] for ax in figure.axes]
    assert [len(lines) for lines in hollow] == [0, 3]
    assert [line.get_ydata()[0] for line in hollow[1]] == [0.1, 0.2, 0.3]
    assert "CE(*), paper" in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(("organs", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (4, 2, 2), (5, 2, 3)])
def test_panels_are_laid_out_and_none_is_left_empty(organs, rows, columns):
    table = pd.concat([summary().query("organ == 'aorta'").assign(organ=f"organ {k}") for k in range(organs)])
    figure = plot_dice_over_noise(table)
    assert [ax.get_title() for ax in figure.axes] == [f"organ {k}" for k in range(organs)]
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (rows, columns)
    assert len(figure.legends[0].get_texts()) == 4


def test_differences_take_the_rows_of_one_score():
    table = differences()
    table.loc[table["score"] == "dice_clean", "mean"] = 9.0
    lines = lines_of(plot_differences(table).axes[0])
    assert len(lines) == 3
    assert max(line.get_ydata(orig=False).max() for line in lines.values()) == pytest.approx(0.02)
    with pytest.raises(ValueError, match=r"score: found 'nothing'; expected one of \['dice_clean', 'dice_noisy'\]"):
        plot_differences(table, "nothing")


def test_history_draws_every_run_and_names_each_loss_once():
    figure = plot_history(history())
    assert len(figure.axes[0].lines) == 8
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cross-entropy", "soft-Dice"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.00", "0.02"]
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())


def test_views_pass_through_the_centre_of_mass():
    label = np.zeros((6, 8, 10))
    label[4, 5:7, 1:4] = 1  # centre (4, 5.5, 2)
    image = np.arange(label.size, dtype=float).reshape(label.shape)
    figure = plot_patch_views(image, label, spacing_mm=(1.0, 2.0, 4.0))
    axial, coronal, sagittal = (ax.images[0] for ax in figure.axes)
    np.testing.assert_array_equal(axial.get_array(), image[:, :, 2].T)
    np.testing.assert_array_equal(coronal.get_array(), image[:, 6, :].T)
    np.testing.assert_array_equal(sagittal.get_array(), image[4, :, :].T)
    assert [ax.get_aspect() for ax in figure.axes] == [2.0, 4.0, 2.0]  # mm along the vertical over the horizontal
    assert [ax.get_xlabel() + ax.get_ylabel() for ax in figure.axes] == ["xy", "xz", "yz"]
    assert all(len(ax.collections) == 1 for ax in figure.axes)  # the outline


def test_an_empty_label_is_shown_through_the_middle_without_an_outline():
    image = np.arange(27.0).reshape(3, 3, 3)
    figure = plot_patch_views(image, np.zeros((3, 3, 3)))
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), image[:, :, 1].T)
    assert not any(ax.collections for ax in figure.axes)


def test_threshold_curve_is_the_dice_of_the_masks():
    m = np.random.default_rng(0).random(200) ** 3
    ax = plot_threshold_curve({"m": m}).axes[0]
    curve = next(line for line in ax.lines if line.get_label() == "m")
    for u, value in zip(*curve.get_data(), strict=True):
        assert value == pytest.approx(dice(m >= u, m), abs=1e-12)
    mark = next(line for line in ax.lines if line.get_marker() == "^" and len(line.get_xdata()))
    t = dice_threshold(m)
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (t, 2 * t)
    assert curve.get_ydata().max() <= 2 * t + 1e-12


CUBE = np.zeros((2, 2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_noise_rows(*[CUBE] * 4, [0.1]), r"means: found shape \(2, 2, 2\); expected \(1, H, W\)"),
        (lambda: plot_noise_rows(CUBE, *[np.zeros((2, 2, 4))] * 3, [0, 0.1]), r"marginals: .*\(2, 2, 4\)"),
        (lambda: plot_dice_over_noise(summary().drop(columns="a")), r"summary: found columns .* also \['a'\]"),
        (lambda: plot_dice_over_noise(summary().iloc[:0]), "summary: found an empty table"),
        (lambda: plot_dice_over_noise(summary(), paper=summary()), r"paper: .* \['dice'\]"),
        (lambda: plot_history(history().drop(columns="epoch")), "history: found columns"),
        (lambda: plot_patch_views(CUBE, np.zeros((2, 2, 3))), r"shapes \(2, 2, 2\) and \(2, 2, 3\)"),
        (lambda: plot_patch_views(CUBE, CUBE, (1, 0, 1)), r"spacing_mm: found \(1, 0, 1\)"),
        (lambda: plot_threshold_curve({}), "marginals: found none"),
        (lambda: plot_threshold_curve({"zero": np.zeros(3)}), r"marginals\['zero'\]: found no positive value"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
