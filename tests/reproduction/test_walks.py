"""How often the search goes through an image."""

from __future__ import annotations

import numpy as np

from noisyseg import dice_threshold
from noisyseg._core import search
from reproduction.report.walks import count_walks, make_maps


def test_every_walk_is_counted_and_nothing_is_left_changed():
    original = search.walk
    maps = make_maps(96, np.random.default_rng(0))
    assert list(maps) == ["ball", "large ball", "noisy", "uniform"]
    for m in maps.values():
        walks, share = count_walks(m)
        assert walks >= 1 and 0 <= share < 0.05, "the window is narrow"
    assert search.walk is original
    assert 0 < dice_threshold(maps["ball"]) < 0.5
