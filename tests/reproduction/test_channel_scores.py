"""The statements on normalised scores: by hand, by random search, and by drawing."""

import numpy as np
import pytest

from reproduction.chapters.channel_scores import (
    chosen_shares,
    drawn_shares,
    evenness,
    flattened,
    layer_of_the_lowest,
)
from reproduction.network.lunet import layer_widths
from reproduction.network.pruning import lowest, normalise_layers


@pytest.mark.statement("prop-layer-normalisation")
def test_normalised_scores_lose_their_scale_and_the_lowest_is_small_in_a_wide_layer():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        widths = rng.integers(1, 40, size=rng.integers(2, 7))
        scores = {
            f"layer{k}": rng.gamma(rng.uniform(0.2, 9), size=n) * rng.lognormal(0, 5) for k, n in enumerate(widths)
        }
        scaled = normalise_layers(scores)
        for name, s in scores.items():
            n, e = len(s), evenness(s)
            assert np.mean(scaled[name] ** 2) == pytest.approx(1 / n, rel=1e-12)  # whatever its scale
            assert scaled[name].min() == pytest.approx(e / np.sqrt(n), rel=1e-12) and 0 <= e <= 1 + 1e-12
        several = {name: s for name, s in scores.items() if len(s) > 1}
        if len(several) > 1:
            chosen, _ = lowest(normalise_layers(several))
            assert chosen == layer_of_the_lowest(several)
            widest = max(several, key=lambda name: len(several[name]))
            least = len(several[widest]) * (evenness(several[chosen]) / evenness(several[widest])) ** 2
            assert len(several[chosen]) >= least * (1 - 1e-9)


@pytest.mark.statement("prop-layer-normalisation")
def test_layers_of_equal_evenness_are_flattened():
    """Every layer has equal scores: a removal leaves them equal, so the widest goes on losing until all are alike."""
    widths = layer_widths([4, 8, 16], 2)
    scores = {name: np.full(n, 10.0 ** (k % 5)) for k, (name, n) in enumerate(widths.items())}
    for removed in range(1, sum(widths.values()) - len(widths)):
        name, channel = lowest(normalise_layers(scores))
        assert len(scores[name]) == max(map(len, scores.values()))
        scores[name] = np.delete(scores[name], channel)
        assert sorted(map(len, scores.values())) == sorted(flattened(list(widths.values()), removed))
    assert flattened([4, 4, 8, 8], 8) == [4, 4, 4, 4]


@pytest.mark.statement("prop-chosen-layer")
@pytest.mark.parametrize("kappa", [0.5, 1, 2])
@pytest.mark.parametrize("normalised", [True, False])
def test_wide_layers_are_chosen_as_often_as_the_limit_says(kappa, normalised):
    widths = [100, 200, 400]
    found = drawn_shares(widths, kappa, 6000, np.random.default_rng(1), normalised)
    expected = chosen_shares(widths, kappa, normalised)
    error = np.sqrt(expected * (1 - expected) / 6000)
    assert np.all(np.abs(found - expected) <= 4 * error + 0.02), (found, expected)


@pytest.mark.statement("prop-chosen-layer")
def test_even_scores_single_out_the_widest():
    assert chosen_shares([4, 8, 8, 16], 60)[3] > 0.999
    assert drawn_shares([40, 80, 160], 30, 500, np.random.default_rng(2))[2] > 0.99
    assert chosen_shares([3, 3], 1) == pytest.approx([0.5, 0.5])
    assert chosen_shares([1, 4], 2) == pytest.approx([1 / 17, 16 / 17])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evenness(np.array([])), r"scores have shape \(0,\); expected one axis of numbers from 0"),
        (lambda: evenness(np.array([0.0, 0.0])), "expected one axis of numbers from 0, one of them above"),
        (lambda: chosen_shares([0, 1], 1), r"widths are \[0, 1\] and kappa is 1; expected widths from 1"),
        (lambda: chosen_shares([1], 0), "kappa is 0; expected widths from 1 and a kappa above 0"),
        (lambda: flattened([2, 2], 3), "removals is 3; expected 0 to 2: every layer keeps a channel"),
    ],
)
def test_what_has_no_answer(call, message):
    with pytest.raises(ValueError, match=message):
        call()
