"""Tests of reproduction.chapters.label_life: the stations belong together."""

from __future__ import annotations

import numpy as np
import pytest

from reproduction.chapters.label_life import STATIONS, Life, follow_label, plot_life


@pytest.fixture(scope="module")
def life() -> Life:
    return follow_label(cases=8)


def test_the_noisy_label_is_the_label_where_the_displacement_points(life):
    """Of the slice: labels are read a few voxels off it, too, so that not all of it can be found in the slice."""
    n = len(life.label)
    x, z = np.indices((n, n))
    moved = [np.rint(place + n * life.displacement[k]).astype(int) for k, place in ((0, x), (2, z))]
    across = np.rint(n * life.displacement[1]) == 0  # read from the slice itself
    inside = np.all([(place >= 0) & (place < n) for place in moved], axis=0)
    read = np.where(inside, life.label.T[tuple(place.clip(0, n - 1) for place in moved)], 0)
    assert across.sum() > 100 and read[across].any()
    assert (read == life.noisy.T)[across].mean() > 0.99


def test_masks_are_those_of_the_maps(life):
    assert (life.masks["CE(0)"] == (life.ce >= 0.5)).all() and (life.masks["SD(0)"] == (life.sd >= 0.5)).all()
    assert (life.masks["CE(*)"] >= life.masks["CE(0)"]).all(), "t is 1/2 at most"
    assert all(0 < x < 1 for scores in life.scores.values() for x in scores)
    assert np.abs(life.marginal - life.label).max() > 0.2 and life.marginal.max() <= 1


def test_every_station_has_its_panel(life):
    figure = plot_life(life)
    assert [ax.get_title() for ax in figure.axes] == [f"{k}  {name}" for k, name in enumerate(STATIONS, start=1)]
    written = [text.get_text() for text in figure.axes[-1].texts]
    assert f"{life.scores['CE(*)'][0]:.3f}" in written
