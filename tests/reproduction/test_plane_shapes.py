"""Tests of reproduction.chapters.plane_shapes: the nine shapes of Figure 1 under growing noise."""

import numpy as np
import pytest

from noisyseg import GaussianDeformation, accuracy, dice_threshold, optimal_accuracy
from reproduction.chapters.plane_shapes import SHAPES, single_shapes, sweep
from reproduction.data.phantoms.scenes import figure1_shapes
from reproduction.data.shapes import measure


@pytest.mark.parametrize("size", [160, 500])
def test_the_shapes_together_are_the_picture(size):
    alone = single_shapes(size)
    assert tuple(alone) == SHAPES
    assert np.array_equal(sum(x.astype(int) for x in alone.values()), figure1_shapes(size))
    assert [measure(alone[name]).components for name in ("star", "ring", "thin cross", "three bars")] == [1, 1, 1, 3]
    assert measure(alone["ring"]).holes == measure(alone["square with a hole"]).holes == 1


def test_a_square_over_the_noise():
    label = np.zeros((60, 60), dtype=np.uint8)
    label[20:40, 20:40] = 1
    table = sweep(label, [0.02, 0.05])
    assert list(table["a"]) == [0.02, 0.05] and list(table["volume"]) == pytest.approx([1 / 9, 1 / 9])
    m = GaussianDeformation(0.025).marginal(np.pad(label, 30))
    assert table["threshold"][1] == dice_threshold(m)
    better = accuracy(optimal_accuracy(m), m) - accuracy(np.zeros(m.shape, bool), m)
    assert table["gain"][1] == pytest.approx(better * m.size / label.sum())
    assert table["grid"][1] < table["grid"][0] < 0.02


def test_what_leaves_the_frame_is_refused():
    with pytest.raises(ValueError, match=r"strengths: at a = 0\.4 a share .* leaves the frame"):
        sweep(np.ones((20, 20), dtype=np.uint8), [0.01, 0.4])
