"""The views of reproduction.figures.views: Figure 2 of the paper, from a case by hand and from real CTs."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest

from noisyseg import GaussianDeformation
from reproduction.data.cases import Case
from reproduction.data.totalsegmentator.patches import examples
from reproduction.figures.views import plot_cases, plot_noisy_labels


def case() -> Case:
    label = np.zeros((6, 8, 10), np.uint8)
    label[1:4, 2:4, 5:8] = 1  # centre of mass 2.5, 3, 6.5 from the corner: voxel 2, 3, 6
    image = np.arange(480, dtype=np.float32).reshape(label.shape)
    return Case("s0001", image, label, np.array([3.0, 3.0, 6.0]))


def test_each_view_shows_the_plane_through_the_centre_of_mass():
    one = case()
    figure = plot_cases({"kidney": one, "aorta": one})
    assert [ax.get_title() for ax in figure.axes] == ["axial", "coronal", "sagittal", "", "", ""]
    for row in (figure.axes[:3], figure.axes[3:]):
        axial, coronal, sagittal = (np.asarray(ax.images[0].get_array()) for ax in row)
        assert np.array_equal(axial, one.image[:, :, 6].T)
        assert np.array_equal(coronal, one.image[:, 3, :].T)
        assert np.array_equal(sagittal, one.image[2, :, :].T)
        assert all(ax.images[0].origin == "lower" and len(ax.collections) == 1 for ax in row)
        assert [ax.get_aspect() for ax in row] == [1, 2, 2]
        assert all(ax.images[0].get_clim() == (-160, 240) for ax in row)
    assert "kidney (s0001)" in figure.axes[0].get_ylabel() and "aorta (s0001)" in figure.axes[3].get_ylabel()


def test_the_outline_is_that_of_the_label():
    (path,) = plot_cases({"kidney": case()}).axes[0].collections[0].get_paths()
    assert path.get_extents().bounds == (0.5, 1.5, 3.0, 2.0)


def test_an_empty_label_is_refused():
    one = case()
    with pytest.raises(ValueError, match="is empty"):
        plot_cases({"kidney": Case("x", one.image, 0 * one.label, one.spacing_mm)})


def test_noisy_labels_around_the_label():
    """A row for each case, a column for each strength: the label and every sample that is in the slice are outlined."""
    one = case()
    figure = plot_noisy_labels({"kidney": one, "aorta": one}, [0.001, 0.05], 0.1, draws=3)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["a = 0.001", "a = 0.05", "", ""] and len(figure.axes) == 4
    for ax, a in zip(figure.axes, [0.001, 0.05] * 2, strict=True):
        assert np.array_equal(np.asarray(ax.images[0].get_array()), one.image[:, :, 6].T)
        *samples, label = ax.collections
        assert label.get_paths()[0].get_extents().bounds == (0.5, 1.5, 3.0, 2.0)
        drawn = [GaussianDeformation(a, 0.1).sample(one.label, rng=k)[..., 6] for k in range(3)]
        assert len(samples) == sum(map(np.any, drawn)) > 0
    tiny = figure.axes[0].collections[0].get_paths()[0].get_extents().bounds
    assert tiny == (0.5, 1.5, 3.0, 2.0), "next to no noise: the label itself"
    assert "aorta (s0001)" in figure.axes[2].get_ylabel()


def test_real_cases_at_hand(tmp_path, shared_data):
    """Two subjects: a kidney and an aorta, no oesophagus. The planes hold the structure and the body around it."""
    cases = examples(tmp_path / "none", shared_data / "totalsegmentator")
    assert {organ: case.id for organ, case in cases.items()} == {"kidney": "s0001", "aorta": "s0001"}
    figure = plot_cases(cases)
    assert len(figure.axes) == 6
    for ax in figure.axes:
        image = np.asarray(ax.images[0].get_array())
        assert len(ax.collections) == 1 and -100 < np.median(image[image > -1000]) < 100
    figure.savefig(tmp_path / "views.png")
    pixels = mpl.image.imread(tmp_path / "views.png")
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 100
