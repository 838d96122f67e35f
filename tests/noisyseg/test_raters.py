import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kinds import KINDS, needs_torch, torch

from noisyseg import raters
from noisyseg.expected import expected_dice, marginal
from noisyseg.metrics import dice
from noisyseg.noise import GaussianDeformation
from noisyseg.optimal import dice_threshold, optimal_dice
from noisyseg.raters import expected_dice_optimum, independent_dice, rater_agreement

seeds = st.integers(0, 2**32 - 1)
marginals = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1))


def every_mask(voxels):
    return (np.arange(2**voxels)[:, None] >> np.arange(voxels) & 1).astype(bool)


def means(labels):
    """The mean Dice of every mask over the labels, without the library."""
    masks = every_mask(labels.shape[1]).astype(float)
    both = masks.sum(axis=1)[:, None] + labels.sum(axis=1)
    return np.where(both > 0, 2 * (masks @ labels.T) / np.maximum(both, 1), 1.0).mean(axis=1)


def random_labels(rng, voxels, r):
    """Labels of very different volumes over a random density, some of them empty."""
    density = rng.random(voxels) ** rng.uniform(0.3, 3)
    labels = rng.random((r, voxels)) < density * rng.uniform(0.2, 3, (r, 1))
    labels[rng.random(r) < 0.1] = False
    return labels


def unequal_sizes(r, voxels):
    """One label of some voxels, and r - 1 of one of them."""
    labels = np.zeros((r, voxels), dtype=bool)
    labels[0], labels[1:, 0] = True, True
    return labels


@pytest.mark.statement("thm-expected-dice")
def test_hand_computed():
    """Of {1}, {1} and {1, ..., 5}: one voxel has (1 + 1 + 2/6) / 3, all have (1/3 + 1/3 + 1) / 3."""
    labels = unequal_sizes(3, 5)
    best = expected_dice_optimum(labels)
    assert best.tolist() == [True] + [False] * 4
    assert expected_dice(best, labels) == pytest.approx(7 / 9, abs=1e-15)
    assert optimal_dice(marginal(labels)).all()


@pytest.mark.statement("thm-expected-dice")
@pytest.mark.parametrize("r", [1, 2, 3, 5, 9, 17, 40])
def test_the_best_of_all_masks(r):
    rng = np.random.default_rng(r)
    for _ in range(60):
        labels = random_labels(rng, int(rng.integers(1, 11)), r)
        best = expected_dice_optimum(labels)
        assert expected_dice(best, labels) == pytest.approx(means(labels).max(), abs=1e-13)


def test_the_best_of_all_masks_of_16_voxels():
    rng = np.random.default_rng(16)
    for r in (2, 3, 4, 10):
        labels = random_labels(rng, 16, r)
        assert expected_dice(expected_dice_optimum(labels), labels) == pytest.approx(means(labels).max(), abs=1e-13)


@pytest.mark.statement("prop-volume-search")
def test_no_volume_is_missed(monkeypatch):
    """Against all volumes, one by one, where the search leaves most of them out; labels of 10 to 300 voxels."""
    tried = []
    search = raters._search

    def counted(patterns, counts, volumes):
        argsort = np.argsort
        monkeypatch.setattr(np, "argsort", lambda *args, **kwargs: tried.append(1) or argsort(*args, **kwargs))
        found = search(patterns, counts, volumes)
        monkeypatch.setattr(np, "argsort", argsort)
        return found

    monkeypatch.setattr(raters, "_search", counted)
    rng = np.random.default_rng(3)
    looked_at = 0
    for _ in range(40):
        labels = random_labels(rng, 600, int(rng.integers(2, 20)))
        volumes = labels.sum(axis=1)
        w = [(labels[volumes > 0] * (2 / (x + volumes[volumes > 0]))[:, None]).sum(axis=0) for x in range(1, 601)]
        each = [np.sort(one)[::-1][:x].sum() / len(labels) for x, one in enumerate(w, 1)]
        best = expected_dice_optimum(labels)
        assert expected_dice(best, labels) == pytest.approx(max(*each, (volumes == 0).mean()), abs=1e-13)
        looked_at += 600
    assert len(tried) < looked_at / 6


@pytest.mark.statement("thm-expected-dice")
def test_a_pattern_may_be_taken_in_part():
    """Equal voxels, of which the best mask holds some: the first in C order."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        labels = np.repeat(rng.random((6, 3)) < 0.5, rng.integers(1, 5, 3), axis=1)
        best = expected_dice_optimum(labels)
        kinds = [tuple(column) for column in labels.T]
        parts = [kind for kind in set(kinds) if 0 < best[[k == kind for k in kinds]].mean() < 1]
        if parts:
            break
    assert len(parts) == 1
    chosen = best[[k == parts[0] for k in kinds]]
    assert (np.diff(chosen.astype(int)) <= 0).all()
    assert expected_dice(best, labels) == pytest.approx(means(labels).max(), abs=1e-14)


@pytest.mark.statement("thm-expected-dice")
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 8))),
    seeds,
)
@settings(max_examples=100, deadline=None)
def test_conventions(labels, seed):
    best = expected_dice_optimum(labels)
    assert (best.dtype, best.shape) == (np.dtype(bool), labels.shape[1:])
    assert not best[~labels.any(axis=0)].any()  # nobody's voxels
    if best.any():
        assert best[labels.all(axis=0)].all()  # everybody's voxels
    assert (expected_dice_optimum(labels[:1]) == labels[0]).all()
    order = np.random.default_rng(seed).permutation(len(labels))
    score = expected_dice(best, labels)
    assert expected_dice(expected_dice_optimum(labels[order]), labels) == pytest.approx(score, abs=1e-13)
    assert expected_dice(expected_dice_optimum(np.tile(labels, (5, 1))), labels) == pytest.approx(score, abs=1e-13)
    if labels.sum(axis=1).std() == 0:
        assert score == pytest.approx(expected_dice(optimal_dice(marginal(labels)), labels), abs=1e-13)


@pytest.mark.statement("prop-fractional-voxel")
def test_one_fractional_voxel():
    """{2} with probability .282 and {1, 3} with .718: a part of voxel 2 is better than all and nothing."""
    labels = np.array([[0, 1, 0]] * 282 + [[1, 0, 1]] * 718)
    best = means(labels).max()
    assert best == pytest.approx(0.718, abs=1e-15)
    assert expected_dice(np.array([1, 0.3, 1]), labels) == pytest.approx(0.282 * 0.6 / 3.3 + 0.718 * 4 / 4.3, abs=1e-14)
    assert expected_dice(np.array([1, 0.3, 1]), labels) > best + 1.1e-3
    rng = np.random.default_rng(11)
    for _ in range(40):  # two values that are not 0 or 1 can be moved against each other without loss
        labels = rng.random((4, 5)) < rng.random((4, 1))
        c = rng.random(5)
        i, j = rng.choice(5, 2, replace=False)
        up, down = min(1 - c[i], c[j]), min(c[i], 1 - c[j])
        ends = [c.copy(), c.copy()]
        ends[0][[i, j]] += np.array([up, -up])
        ends[1][[i, j]] += np.array([-down, down])
        scores = [expected_dice(np.clip(end, 0, 1), labels) for end in ends]
        assert max(scores) >= expected_dice(c, labels) - 1e-14


def test_empty_labels():
    assert not expected_dice_optimum(np.zeros((3, 4))).any()
    some = np.zeros((5, 4))
    some[:2, :2] = 1
    assert not expected_dice_optimum(some).any()  # right three times, against two
    some[2, :2] = 1
    assert expected_dice_optimum(some).tolist() == [True, True, False, False]


@pytest.mark.statement("prop-volume-search")
def test_a_tie_of_many_volumes_is_found_at_once():
    """Labels of one volume: D_m = 1/2 for every mask of the certain voxels and any others."""
    n = 90_000
    labels = np.zeros((4, n), dtype=bool)
    labels[:, : n // 9] = True
    for k in range(4):
        labels[k, n // 9 + k :: 4] = True
    best = expected_dice_optimum(labels)
    assert expected_dice(best, labels) == pytest.approx(2 * dice_threshold(marginal(labels)), abs=1e-14)


@pytest.mark.statement("prop-size-disagreement")
@pytest.mark.parametrize("voxels", [10, 100, 10_000])
@pytest.mark.parametrize("r", [3, 4, 10])
def test_raters_who_disagree_on_size(r, voxels):
    """The loss of the Dice of the marginal tends to (R - 2) / R."""
    labels = unequal_sizes(r, voxels)
    simple, best = optimal_dice(marginal(labels)), expected_dice_optimum(labels)
    loss = expected_dice(best, labels) - expected_dice(simple, labels)
    if voxels > r * r:
        assert simple.all()
        assert np.flatnonzero(best).tolist() == [0]
        assert loss == pytest.approx((r - 2) / r * (voxels - 1) / (voxels + 1), abs=1e-14)
    assert loss < (r - 2) / r


@pytest.mark.statement("prop-rater-agreement")
@given(marginals)
@settings(max_examples=200, deadline=None)
def test_agreement_bounds_the_best_dice(m):
    kappa, best = rater_agreement(m), 2 * dice_threshold(m)
    assert kappa - 1e-14 <= best <= math.sqrt(kappa) + 1e-14


@pytest.mark.statement("prop-rater-agreement")
def test_agreement_of_raters():
    """The pooled Dice of all pairs, with and without those of a rater and himself."""
    rng = np.random.default_rng(4)
    labels = rng.random((5, 7, 9)) < rng.random((7, 9))
    pairs = list(itertools.product(range(5), repeat=2))

    def pooled(pairs):
        both = sum((labels[j] & labels[k]).sum() for j, k in pairs)
        return 2 * both / sum(labels[j].sum() + labels[k].sum() for j, k in pairs)

    kappa = rater_agreement(marginal(labels))
    assert kappa == pytest.approx(pooled(pairs), abs=1e-15)
    others = pooled([(j, k) for j, k in pairs if j != k])
    assert (5 * kappa - 1) / 4 == pytest.approx(others, abs=1e-15)


@pytest.mark.statement("prop-rater-agreement")
def test_both_bounds_are_sharp():
    """Certain on v^2 and at the threshold elsewhere; and m on a part of volume v, the rest spread thinly."""
    for v in (0.1, 0.5, 0.9):
        m = np.full(10_000, v / (1 + v))
        m[: round(10_000 * v * v)] = 1
        assert 2 * dice_threshold(m) == pytest.approx(rater_agreement(m), abs=1e-12)
    for value in (0.2, 0.5, 0.9):
        m = np.full(1_000_000, 100 * (1 - value) / 999_900)
        m[:100] = value
        assert 2 * dice_threshold(m) == pytest.approx(math.sqrt(rater_agreement(m)), abs=1e-3)


def independent(m):
    """All labels of independent voxels and their probabilities."""
    labels = every_mask(len(m))
    return labels, np.where(labels, m, 1 - m).prod(axis=1)


@pytest.mark.statement("prop-independent")
@given(hnp.arrays(np.float64, 6, elements=st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_independent_voxels(m):
    """Against the sum over all labels; the best of all masks is a level set; the bound on the difference."""
    labels, p = independent(m)
    values = []
    for s in every_mask(6):
        both = s.sum() + labels.sum(axis=1)
        scores = np.where(both > 0, 2 * (labels & s).sum(axis=1) / np.maximum(both, 1), 1.0)
        values.append(float(p @ scores))
        assert independent_dice(s, m) == pytest.approx(values[-1], abs=1e-13)
        if s.sum() + m.sum() > 0:
            spread = math.sqrt((m * (1 - m)).sum()) / (2 * (s.sum() + m.sum()))
            assert abs(values[-1] - dice(s, m)) <= spread + 1e-13
            if m.any():
                assert spread <= (1 + 1e-12) / (2 * math.sqrt(m.sum()))  # 1 / (2 sqrt(N v))
    level_sets = [independent_dice(m >= u, m) for u in (*m, 2.0)]
    # Level sets, and those that take a part of equal voxels.
    firsts = [independent_dice(np.isin(np.arange(6), np.argsort(-m, kind="stable")[:x]), m) for x in range(7)]
    assert max(firsts) == pytest.approx(max(values), abs=1e-13)
    assert max(level_sets) <= max(firsts) + 1e-13


@pytest.mark.statement("prop-independent")
def test_independent_voxels_of_an_image():
    rng = np.random.default_rng(5)
    m = np.clip(1.3 * rng.random((12, 12)) - 0.1, 0, 1)
    s = optimal_dice(m)
    labels = rng.random((20_000, 12, 12)) < m
    scores = [dice(s, label.astype(float)) for label in labels[:4000]]
    error = float(np.std(scores)) / math.sqrt(4000)
    assert independent_dice(s, m) == pytest.approx(np.mean(scores), abs=4 * error)
    both = independent_dice(np.stack([s, ~s]), np.stack([m, m]), axis=(1, 2))
    assert both.tolist() == [independent_dice(s, m), independent_dice(~s, m)]
    with pytest.raises(ValueError, match=r"m: expected at most 20,000 voxels with 0 < m < 1, got 20,736; use dice"):
        independent_dice(np.ones((144, 144)), np.full((144, 144), 0.5))


def test_axis_and_where():
    rng = np.random.default_rng(6)
    labels = rng.random((4, 3, 6, 5)) < rng.random((4, 1, 1, 1))
    where = rng.random((3, 6, 5)) < 0.7
    best = expected_dice_optimum(labels, axis=(1, 2), where=where)
    for k in range(3):
        inside = labels[:, k][:, where[k]]
        assert (best[k][where[k]] == expected_dice_optimum(inside)).all()
        assert not best[k][~where[k]].any()


@needs_torch
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float32"])
def test_tensors(dtype):
    rng = np.random.default_rng(7)
    for r in (3, 20):
        labels = random_labels(rng, 60, r)
        given = torch.from_numpy(labels).to(getattr(torch, dtype))
        for stack in (given, list(given)):
            best = expected_dice_optimum(stack)
            assert isinstance(best, torch.Tensor)
            assert best.dtype is torch.bool
            assert (best.numpy() == expected_dice_optimum(labels)).all()
    m = torch.tensor([0.5, 0.25])
    assert rater_agreement(m) == rater_agreement(m.numpy())
    assert independent_dice(m >= 0.5, m) == independent_dice(m.numpy() >= 0.5, m.numpy())


@needs_torch
def test_the_path_of_other_devices(monkeypatch):
    labels = torch.from_numpy(random_labels(np.random.default_rng(8), 60, 5))
    expected = expected_dice_optimum(labels)
    m = marginal(labels)
    value = independent_dice(expected, m)
    monkeypatch.setattr("noisyseg._core.images.host_view", lambda x: x.detach())
    assert torch.equal(expected_dice_optimum(labels), expected)
    assert independent_dice(expected, m) == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([], "labels: expected at least one label, got none"),
        ([[0, 1], None], r"labels\[1\]: expected an array, got None; leave out annotators without a label"),
        ([np.zeros((2, 3)), np.zeros((3, 2))], r"one shape, got \(2, 3\) for labels\[0\] and \(3, 2\) for labels\[1\]"),
        ([[0.0, 1.0], [np.nan, 1.0]], r"labels\[1\] \(shape \(2,\)\): expected a binary array .*found nan"),
        ([[0.0, 0.5]], r"labels\[0\] \(shape \(2,\)\): expected a binary array of 0 and 1, found 0.5"),
        ([0.0, 1.0], r"labels: expected shape \(R, \*shape\), R labels of one shape, got \(2,\)"),
    ],
)
def test_bad_labels(kind, labels, found):
    given = [x if x is None else kind(np.array(x, dtype=np.float64)) for x in labels]
    for function in (expected_dice_optimum, marginal):
        with pytest.raises(ValueError, match=found if function is not marginal else found.split(r"\[")[0]):
            function(given)
    with pytest.raises(ValueError, match="labels: expected at least one label, got none"):
        expected_dice_optimum(kind(np.zeros((0, 3))))


@pytest.mark.slow
def test_fast_enough():
    """256^3 voxels with 3 raters in 5 s, 512^2 with 10 in .1 s, 200 samples of the noise model in 30 s."""
    from time import perf_counter

    def seconds(labels):
        times = []
        for _ in range(3):
            start = perf_counter()
            expected_dice_optimum(labels)
            times.append(perf_counter() - start)
        return min(times)

    rng = np.random.default_rng(9)
    volumes = np.empty((3, 256, 256, 256), dtype=bool)
    for k, volume in enumerate(volumes):
        volume[:] = rng.random(volume.shape, dtype=np.float32) < 0.2 * (k + 1)
    assert seconds(volumes) < 5
    del volumes
    assert seconds(rng.random((10, 512, 512)) < 0.5) < 0.1
    ball = (((np.indices((64, 64, 64)) - 32) ** 2).sum(axis=0) <= 20**2).astype(np.uint8)
    assert seconds(GaussianDeformation(0.03).sample(ball, rng=1, size=200)) < 30
