"""Tests of reproduction.figures.drawing: what chapters share that draw a figure in a cell."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from reproduction.figures.drawing import density, drawing, legend_below, picture
from reproduction.figures.showing import WIDTH


def test_a_drawing_has_the_style_of_the_book_and_leaves_none_of_it():
    before = mpl.rcParams["axes.spines.top"], plt.get_fignums()
    with drawing(3, 2, 3, sharex=True) as (figure, axes):
        assert not mpl.rcParams["axes.spines.top"]
    assert axes.shape == (2, 3) and tuple(figure.get_size_inches()) == (WIDTH, 3)
    assert not any(ax.spines["top"].get_visible() for ax in axes.flat)
    assert (mpl.rcParams["axes.spines.top"], plt.get_fignums()) == before


def test_a_drawing_that_fails_leaves_no_style():
    before = mpl.rcParams["axes.spines.top"]
    with pytest.raises(ZeroDivisionError), drawing(3):
        _ = 1 / 0
    assert mpl.rcParams["axes.spines.top"] == before


def test_a_picture_has_no_ticks_and_the_full_range():
    with drawing(2) as (_, ax):
        image = picture(ax, np.full((2, 2), 0.5), "half", cmap="gray")
    assert image.get_clim() == (0, 1) and image.get_cmap().name == "gray"
    assert not len(ax.get_xticks()) and not len(ax.get_yticks()) and ax.get_title() == "half"


def test_a_density_counts_points_and_edges_belong_to_the_cell_below():
    with drawing(2) as (_, ax):
        mesh = density(ax, [0.1, 0.2, 0.5, 1.0, 3.0], [0.1, 0.2, 0.75, 0.5, 0.5], 2, ((0, 1), (0, 1)), 10)
    found = mesh.get_array()
    assert found[0, 0] == 2 and found[1, 0] == 1 and found[0, 1] == 1  # rows are y; the last point is outside
    assert np.ma.is_masked(found[1, 1]) or np.isnan(found[1, 1])
    assert (mesh.norm.vmin, mesh.norm.vmax) == (1, 10)


def test_one_legend_with_every_label_once():
    with drawing(2, 1, 2) as (figure, (left, right)):
        left.plot([0, 1], "red", label="m")
        left.plot([1, 0], label="t")
        right.plot([0, 1], "blue", label="m")
        right.plot([1, 1], label="v")
        legend_below(figure, [left, right], 3)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["m", "t", "v"]
    assert mpl.colors.same_color(legend.legend_handles[0].get_color(), "red")
    with drawing(2) as (figure, ax):
        ax.plot([0, 1], label="m")
        legend_below(figure, ax, 1)
    assert len(figure.legends[0].get_texts()) == 1
