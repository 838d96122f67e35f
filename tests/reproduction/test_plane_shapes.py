"""Tests of reproduction.chapters.plane_shapes: the nine shapes of Figure 1 under growing noise."""

import numpy as np
import pytest

from noisyseg import GaussianDeformation, accuracy, dice_threshold, optimal_accuracy
from reproduction.chapters.plane_shapes import SHAPES, falls, one_by_one, single_shapes, sweep, whole_picture
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


def test_what_never_rises_and_what_becomes_of_single_shapes():
    assert falls([3, 2, 2]) and not falls([3, 2, 2.5]) and falls([1])
    size, strengths = 100, [0.01, 0.04, 0.07, 0.1]
    alone = {name: one for name, one in single_shapes(size).items() if name in ("star", "ring")}
    single = {name: (measure(one, 1 / size), sweep(one, strengths)) for name, one in alone.items()}
    found = one_by_one(single)
    assert found["dice: a single piece without a hole, Q > .95, at the end"] == 2
    assert found["accuracy: empty at the end"] == 2
    assert found["accuracy: keeps its holes until it vanishes"] == "ring"
    label, table = single["ring"]
    said = whole_picture(label, table)
    assert said["dice: never more holes"] and said["accuracy: never more perimeter"]
    table = table.assign(dice_holes=[0, 1, 2, 3])
    assert not whole_picture(label, table)["dice: never more holes"]
