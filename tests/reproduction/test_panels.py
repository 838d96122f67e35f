"""What all figures share: they leave nothing global behind, and give the same pixels for the same input."""

from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from figure_tables import (
    compared,
    deviating,
    differences,
    history,
    other_differences,
    pixels,
    seeds,
    summary,
)
from reproduction.data.cases import Case
from reproduction.figures import panels
from reproduction.figures.methods import plot_dice_over_noise, plot_differences, plot_history, plot_seeds
from reproduction.figures.paper import plot_deviations, plot_gains
from reproduction.figures.theory import plot_threshold_curve
from reproduction.figures.views import plot_cases
from reproduction.scoring.rules import METHODS
from reproduction.scoring.scores import DIFFERENCES, OTHER_DIFFERENCES


def figures() -> dict[str, Figure]:
    image = np.linspace(0, 1, 2 * 5 * 5).reshape(2, 5, 5)
    label = np.pad(np.ones((2, 2, 2), np.uint8), 2)
    return {
        "threshold": plot_threshold_curve({"m": image}),
        "dice": plot_dice_over_noise(summary()),
        "differences": plot_differences(differences()),
        "other": plot_differences(other_differences(), pairs=panels.OTHER_LOOKS),
        "seeds": plot_seeds(*seeds()),
        "history": plot_history(history()),
        "deviations": plot_deviations(deviating()),
        "gains": plot_gains(compared()),
        "views": plot_cases({"one": Case("one", label * np.float32(50), label, np.array([1.0, 2.0, 3.0]))}),
    }


def test_figures_are_deterministic_and_leave_the_parameters_alone():
    before = dict(mpl.rcParams)
    first = {name: pixels(figure) for name, figure in figures().items()}
    second = {name: pixels(figure) for name, figure in figures().items()}
    assert first == second
    assert all(len(set(image)) > 10 for image in first.values())  # something was drawn
    assert dict(mpl.rcParams) == before


def test_every_method_and_difference_has_its_look():
    """The names are those that the scores have: a method without a colour would be drawn by nobody."""
    assert list(panels.METHOD_LOOKS) == list(METHODS)
    assert list(panels.DIFFERENCE_LOOKS) == [f"{first}-{second}" for first, second in DIFFERENCES]
    scored = {f"{first}-{second}" for first, second in (*DIFFERENCES, *OTHER_DIFFERENCES)}
    assert set(panels.OTHER_LOOKS) <= scored
    for looks in (panels.DIFFERENCE_LOOKS, panels.OTHER_LOOKS):
        assert len(set(looks.values())) == len(looks), "two differences look the same"


def test_the_label_of_a_difference_has_a_minus_sign():
    assert panels.difference_label("CE(rank BA)-CE(*)") == "CE(rank BA) − CE(*)"


def test_a_table_without_rows_is_refused():
    with pytest.raises(ValueError, match="table: found no row to draw"):
        plot_dice_over_noise(summary()[:0])
    with pytest.raises(ValueError, match="table: found no row to draw"):
        plot_differences(differences(), pairs={"CE(rank)-CE(*)": ("X", "black")})


def test_the_spacing_of_strengths():
    assert panels.spacing([0.03, 0.0, 0.02]) == pytest.approx(0.01)
    assert panels.spacing([0.02, 0.02]) == 0.01


def test_a_user_style_does_not_change_a_figure():
    expected = pixels(plot_dice_over_noise(summary()))
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30}):
        assert pixels(plot_dice_over_noise(summary())) == expected


def test_pyplot_is_never_imported():
    draw = "import sys, reproduction.figures.theory as p; p.plot_threshold_curve({'m': [0.5]})"
    code = f"import reproduction.figures.methods, reproduction.figures.views; {draw}"
    code += "; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("organs", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (4, 2, 2), (5, 2, 3)])
def test_panels_are_laid_out_and_none_is_left_empty(organs, rows, columns):
    table = pd.concat([summary().query("organ == 'aorta'").assign(organ=f"organ {k}") for k in range(organs)])
    figure = plot_dice_over_noise(table)
    assert [ax.get_title() for ax in figure.axes] == [f"organ {k}" for k in range(organs)]
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (rows, columns)
    assert len(figure.legends[0].get_texts()) == 4
