import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kinds import KINDS, needs_torch, tensor, torch

import noisyseg.classes as classes
from noisyseg import dice, dice_threshold, optimal_dice, optimal_labels
from noisyseg.classes import nested_labels

values = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False))


def members(labels, count, nested=False):
    """Give the masks of the classes 1 to count of label maps, or those of nested regions, on a new second last axis."""
    k = np.arange(1, count + 1)[:, None]
    return labels[..., None, :] >= k if nested else labels[..., None, :] == k


def mean_dice(masks, m, w=None):
    """Give the weighted mean Dice, soft masks included."""
    below = masks.sum(axis=-1) + m.sum(axis=-1)
    scores = np.where(below > 0, 2 * (masks * m).sum(axis=-1) / np.where(below > 0, below, 1), 1.0)
    return scores.mean(axis=-1) if w is None else scores @ w / np.sum(w)


def every_map(count, voxels):
    return np.array(list(itertools.product(range(count + 1), repeat=voxels)))


def draw(rng, count, voxels, nested=False):
    """Draw maps of exclusive classes without their background, or of nested regions."""
    if nested:
        m = rng.random((count, voxels)) ** rng.choice([0.5, 1, 3])
        return np.cumprod(m, axis=0) if rng.random() < 0.5 else m
    return rng.dirichlet(np.full(count + 1, rng.choice([0.3, 1, 3])), voxels).T[:count]


def worth(labels, m, w=None, nested=False):
    """Give what every voxel is worth to every class, a row each, at the masks of a label map; the first row is none."""
    masks = members(labels, len(m), nested)
    y = masks.sum(axis=1) + m.sum(axis=1)
    g = ((m - ((masks * m).sum(axis=1) / y)[:, None]) / y[:, None]) * np.reshape(1.0 if w is None else w, (-1, 1))
    return np.vstack([np.zeros(m.shape[1]), np.cumsum(g, axis=0) if nested else g])


def discs(side=48, noise=0.0):
    """Make maps of three round structures that touch, one of them small, and their background, which comes first."""
    x, y = np.meshgrid(*[(np.arange(side) + 0.5) / side] * 2, indexing="ij")
    places = ((0.35, 0.3, 0.25), (0.65, 0.45, 0.15), (0.5, 0.72, 0.08))
    logits = [np.zeros((side, side)), *(30 * (r - np.hypot(x - a, y - b)) for a, b, r in places)]
    logits = np.array(logits) + noise * np.random.default_rng(0).normal(size=(4, side, side))
    return np.exp(logits) / np.exp(logits).sum(axis=0)


@pytest.mark.statement("def-label-map", "thm-labels", "cor-exclusive")
def test_hand_computed():
    """The voxel in the middle brings 6/7 instead of 4/5 to the class that gets it; both would like it."""
    m = np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
    labels, gap = optimal_labels(m, background=None)
    assert labels.tolist() == [1, 1, 2] and labels.dtype == np.uint8
    assert gap == pytest.approx(6 / 7 - (6 / 7 + 4 / 5) / 2, abs=1e-15)
    assert optimal_labels(m, background=None, weights=[1, 2])[0].tolist() == [1, 2, 2]


@pytest.mark.statement("cor-nested")
def test_nested_by_hand():
    """The separate masks are {0} and {0, 1}: the inner one is larger. Voxel 1 goes to both regions, or to none."""
    m = np.array([[1.0, 0.4, 0.0], [0.4, 0.4, 0.0]])
    assert [optimal_dice(x).tolist() for x in m] == [[True, False, False], [True, True, False]]
    labels, gap = nested_labels(m)
    with_it, without = 2 * 1.4 / 3.4 + 2 * 0.8 / 2.8, 2 * 1 / 2.4 + 2 * 0.4 / 1.8
    assert with_it > without and labels.tolist() == [2, 2, 0]
    assert gap == pytest.approx((2 / 2.4 - 2.8 / 3.4) / 2, abs=1e-15)


@pytest.mark.statement("thm-labels", "cor-exclusive", "cor-nested")
@pytest.mark.parametrize(
    ("count", "voxels", "nested", "most", "mean"),
    [(1, 8, False, 1e-14, 1e-15), (2, 7, False, 3e-3, 1e-4), (3, 5, False, 0.03, 1e-3), (3, 5, True, 0.03, 1e-3)],
)
def test_against_all_label_maps(count, voxels, nested, most, mean):
    """No label map exceeds the bound, and what is found is the best of all, or nearly so on these few voxels."""
    masks = members(every_map(count, voxels), count, nested)
    rng, lost = np.random.default_rng(count), []
    for _ in range(150):
        m, w = draw(rng, count, voxels, nested), rng.dirichlet(np.full(count, 5.0))
        labels, gap = nested_labels(m, weights=w) if nested else optimal_labels(m, background=None, weights=w)
        reached, best = mean_dice(members(labels, count, nested), m, w), mean_dice(masks, m, w).max()
        assert reached + gap == pytest.approx(2 * np.dot(w, [dice_threshold(x) for x in m]), abs=1e-13)
        assert reached - 1e-13 <= best <= reached + gap + 1e-13
        lost.append(best - reached)
    assert max(lost) <= most and np.mean(lost) <= mean


@pytest.mark.statement("thm-labels")
@pytest.mark.parametrize("nested", [False, True])
def test_the_change_of_the_mean_dice(nested):
    """Exactly, for soft masks too; and to first order where a small part of a voxel changes its label."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        m, w = draw(rng, 3, 6, nested), rng.dirichlet(np.ones(3))
        before, after = (members(rng.integers(0, 4, 6), 3, nested) * 1.0 for _ in range(2))
        y, y_after = (s.sum(axis=1) + m.sum(axis=1) for s in (before, after))
        half = (before * m).sum(axis=1) / y
        change = 2 * ((after - before) * (m - half[:, None])).sum(axis=1) / y_after
        assert mean_dice(after, m, w) - mean_dice(before, m, w) == pytest.approx(w @ change, abs=1e-14)
        slope = 2 * w @ (((after - before) * (m - half[:, None])).sum(axis=1) / y)
        small = mean_dice(before + 1e-6 * (after - before), m, w) - mean_dice(before, m, w)
        assert small == pytest.approx(1e-6 * slope, abs=1e-10)


@pytest.mark.statement("thm-labels", "cor-exclusive", "cor-nested")
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_every_voxel_has_the_label_that_is_worth_most(nested, noise):
    """At what is found, with its own masks; voxels that are worth as much to two labels aside."""
    m = discs(noise=noise)[1:].reshape(3, -1)
    m, w = (np.cumsum(m[::-1], axis=0)[::-1].clip(0, 1) if nested else m), np.array([0.2, 0.3, 0.5])
    labels, _ = nested_labels(m, weights=w) if nested else optimal_labels(m, background=None, weights=w)
    g = worth(labels, m, w, nested)
    lacking = g.max(axis=0) - g[labels, np.arange(len(labels))]
    assert (lacking > 1e-5 * g.max()).sum() == 0 and len(np.unique(labels)) == 4
    others = (labels + 1) % 4
    assert (g.max(axis=0) - g[others, np.arange(len(labels))] > 1e-5 * g.max()).mean() > 0.9  # the test can fail


@pytest.mark.statement("thm-labels")
def test_the_bound_is_attained_where_the_separate_optima_do_not_overlap():
    m = np.array([[0.9, 0.6, 0.1, 0.0, 0.0], [0.0, 0.0, 0.1, 0.5, 0.8]])
    labels, gap = optimal_labels(m, background=None)
    assert gap == 0.0
    for k, x in enumerate(m):
        np.testing.assert_array_equal(labels == k + 1, optimal_dice(x))
    inner = np.array([[0.9, 0.9, 0.4, 0.1], [0.8, 0.7, 0.1, 0.0]])  # larger, and its threshold is the lower one
    assert dice_threshold(inner[0]) >= dice_threshold(inner[1]) - 0.1
    labels, gap = nested_labels(inner)
    assert gap == pytest.approx(0, abs=1e-15)
    for k, x in enumerate(inner):
        np.testing.assert_array_equal(labels > k, optimal_dice(x))


@pytest.mark.statement("prop-labels-grid")
@pytest.mark.parametrize("nested", [False, True])
def test_finer_voxels_gain_little(nested):
    rng, gained = np.random.default_rng(5), []
    coarse, fine = (members(every_map(2, n), 2, nested) for n in (3, 9))
    for _ in range(60):
        m = draw(rng, 2, 3, nested)
        low, high = mean_dice(coarse, m).max(), mean_dice(fine, m.repeat(3, axis=1)).max()
        assert low - 1e-14 <= high <= low + 2 * (2 if nested else 1) / m.sum(axis=1).min()
        gained.append(high - low)
    assert max(gained) > 1e-3  # some voxels are better divided


@pytest.mark.statement("prop-labels-ascent")
@pytest.mark.parametrize("nested", [False, True])
def test_the_mean_dice_never_falls(nested, monkeypatch):
    """The steps once more, with the soft masks themselves."""
    asked = []
    most_worth = classes._most_worth
    monkeypatch.setattr(classes, "_most_worth", lambda *a: asked.append(a[1:3]) or most_worth(*a))
    rng, rose = np.random.default_rng(8), 0
    for _ in range(40):
        m = draw(rng, 3, 40, nested)
        asked.clear()
        labels, _ = nested_labels(m) if nested else optimal_labels(m, background=None)
        found, path, c = [], [], None
        for half, factor in asked:
            g = (m - half[:, None]) * factor[:, None]
            g = np.vstack([np.zeros(40), np.cumsum(g, axis=0) if nested else g])
            step = members(g.argmax(axis=0), 3, nested) * 1.0
            found.append(mean_dice(step, m))
            if c is not None:
                y = c.sum(axis=1) + m.sum(axis=1)
                np.testing.assert_allclose((c * m).sum(axis=1) / y, half, atol=1e-12)
                np.testing.assert_allclose(1 / 3 / y, factor, atol=1e-12)
                assert ((step - c) * (m - half[:, None]) * factor[:, None]).sum() >= -1e-12
                mixed = c + classes.SHARES[:, None, None] * (step - c)
                scores = mean_dice(mixed, m)
                if scores.max() < path[-1] + classes.GAIN:
                    break
                step = mixed[scores.argmax()]
            c = step
            path.append(mean_dice(c, m))
        assert (np.diff(path) > 0).all()
        assert mean_dice(members(labels, 3, nested), m) == pytest.approx(max(found), abs=1e-12)
        rose += len(path) > 1
    assert rose > 10


@pytest.mark.statement("prop-pooled-labels")
def test_the_generalised_dice_is_exact():
    """Against all label maps, in rational numbers."""
    rng, maps = np.random.default_rng(9), every_map(2, 5)
    for _ in range(40):
        eighths, w = rng.multinomial(8, np.ones(3) / 3, 5).T[:2], rng.integers(1, 5, 2)
        if not eighths.any(axis=1).all():
            continue
        best = Fraction(0)
        for labels in maps:
            both = sum(int(w[k]) * int(eighths[k][labels == k + 1].sum()) for k in range(2))
            below = sum(int(w[k]) * (8 * int((labels == k + 1).sum()) + int(eighths[k].sum())) for k in range(2))
            best = max(best, Fraction(2 * both, below))
        labels, gap = optimal_labels(eighths / 8, background=None, weights=w.tolist(), pooled=True)
        masks = members(labels, 2)
        found = 2 * (w @ (masks * eighths).sum(axis=1)) / (w @ (8 * masks.sum(axis=1) + eighths.sum(axis=1)))
        assert found == pytest.approx(float(best), abs=1e-14) and gap == 0.0
        g = w[:, None] * (eighths / 8 - float(best) / 2)
        assert (np.vstack([np.zeros(5), g])[labels, np.arange(5)] >= g.max(axis=0).clip(0) - 1e-12).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(m=hnp.arrays(np.float64, st.integers(1, 30), elements=values))
def test_one_class_has_the_mask_of_its_threshold(m, dtype):
    m = m.astype(dtype)
    for labels, gap in (optimal_labels(m[None], background=None), nested_labels(m[None])):
        np.testing.assert_array_equal(labels, optimal_dice(m))
        assert gap <= 1e-15
    np.testing.assert_array_equal(nested_labels(np.stack([m, m]))[0], 2 * optimal_dice(m))


@pytest.mark.parametrize("seed", range(5))
def test_never_worse_than_the_usual_ways(seed):
    m = discs(noise=seed)
    labels, gap = optimal_labels(m)
    separate = np.where(optimal_dice(m[1:], axis=(1, 2)), m[1:], 0)
    rivals = [m.argmax(axis=0), np.where(separate.any(axis=0), separate.argmax(axis=0) + 1, 0)]
    ours, *theirs = (np.mean([dice(x == k, m[k]) for k in (1, 2, 3)]) for x in (labels, *rivals))
    assert ours >= max(theirs) and 0 <= gap < 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_kinds_axes_and_background(kind, dtype):
    one, other = discs(noise=1).astype(dtype), discs(noise=2).astype(dtype)
    labels, gap = optimal_labels(kind(one))
    assert type(labels) is type(kind(one)) and str(labels.dtype).endswith("uint8") and isinstance(gap, float)
    expected, gap_there = optimal_labels(one.astype(np.float64))
    np.testing.assert_array_equal(np.asarray(labels), expected)
    assert gap == pytest.approx(gap_there, abs=1e-6)
    last = np.moveaxis(one, 0, -1)
    np.testing.assert_array_equal(np.asarray(optimal_labels(kind(last), class_axis=-1)[0]), expected)
    turned = optimal_labels(kind(one[[1, 2, 3, 0]]), background=-1)[0]
    np.testing.assert_array_equal(np.asarray(turned), np.array([3, 0, 1, 2])[expected])
    both = kind(np.stack([one, other]))  # (N, K, X, Y)
    labels, gap = optimal_labels(both, class_axis=1, axis=(2, 3))
    assert tuple(labels.shape) == (2, 48, 48) and tuple(gap.shape) == (2,)
    for x, found, lost in zip((one, other), labels, gap, strict=True):
        alone = optimal_labels(kind(x))
        np.testing.assert_array_equal(np.asarray(found), np.asarray(alone[0]))
        assert float(lost) == alone[1]


@pytest.mark.parametrize("kind", KINDS)
def test_only_voxels_that_count(kind):
    m = discs(noise=1)
    where = np.zeros((48, 48), bool)
    where[5:40, 3:44] = True
    inside = m[:, 5:40, 3:44].copy()
    m[:, ~where] = np.nan
    labels, gap = optimal_labels(kind(m), where=where)
    expected, gap_inside = optimal_labels(inside)
    np.testing.assert_array_equal(np.asarray(labels)[5:40, 3:44], expected)
    assert not np.asarray(labels)[~where].any() and gap == pytest.approx(gap_inside, abs=1e-12)
    labels, _ = nested_labels(kind(m[1:]), where=where)
    assert np.asarray(labels).any() and not np.asarray(labels)[~where].any()


def test_weights_and_absent_classes():
    m = discs(noise=1)[1:]
    labels, _ = optimal_labels(m, background=None)
    for w in ([1, 1, 1], [7e-300] * 3, np.full(3, 1e300)):
        np.testing.assert_array_equal(optimal_labels(m, background=None, weights=w)[0], labels)
    without, gap_without = optimal_labels(m[:2], background=None)
    for x, w in ((m, [1, 1, 0]), (np.stack([*m[:2], 0 * m[2]]), None)):
        found, lost = optimal_labels(x, background=None, weights=w)
        np.testing.assert_array_equal(found, without)
        assert lost == pytest.approx(gap_without * (1 if w else 2 / 3), abs=1e-14)
    empty = np.array([np.ones((4, 4)), np.zeros((4, 4))])
    assert not optimal_labels(empty)[0].any() and optimal_labels(empty)[1] == 0.0
    assert nested_labels(empty * 0)[1] == 0.0
    faint = np.array([1 - 1e-6 * np.ones(9), 1e-6 * np.ones(9)])  # not all zero: never an empty mask
    assert optimal_labels(faint)[0].all()


def test_labels_and_many_classes():
    truth = np.random.default_rng(0).integers(0, 300, 2000)
    one_hot = truth == np.arange(300)[:, None]
    for m in (one_hot, one_hot.astype(np.uint8), one_hot.astype(np.float32)):
        labels, gap = optimal_labels(m)
        assert labels.dtype == np.int32 and gap == pytest.approx(0, abs=1e-14)
        np.testing.assert_array_equal(labels, truth)


def test_voxels_that_are_left_out_are_in_no_class(monkeypatch):
    """The same labels without leaving any out; and thresholds that fall below half of those of the classes alone."""
    crowded = np.array([[0.5] * 20 + [0.0] * 300, [0.45] * 20 + [0.02] * 300])
    unequal = {
        "weights": [1, 1e-3]
    }  # the second class gets what the first one leaves: thin voxels, far below its own t
    assert 0.02 < dice_threshold(crowded[1]) / 2
    labels, _ = optimal_labels(crowded, background=None, **unequal)
    np.testing.assert_array_equal(labels, [1] * 20 + [2] * 300)
    many = np.random.default_rng(2).dirichlet(np.full(9, 0.3), 500).T[:8]
    for m, options in ((crowded, unequal), (discs(noise=1)[1:].reshape(3, -1), {}), (many, {})):
        for way in (lambda m, **w: optimal_labels(m, background=None, **w), nested_labels):
            labels, gap = way(m, **options)
            with monkeypatch.context() as patch:
                patch.setattr(classes, "_candidates", lambda maps, floor: (slice(None), maps))
                np.testing.assert_array_equal(way(m, **options)[0], labels)
                assert way(m, **options)[1] == pytest.approx(gap, abs=1e-14)


@needs_torch
def test_the_path_of_other_devices(monkeypatch):
    """The code for accelerators, run on tensors in main memory, in several blocks."""
    m = discs(noise=1)
    expected = optimal_labels(m), nested_labels(m[1:]), optimal_labels(m, pooled=True)
    monkeypatch.setattr("noisyseg._core.images.host_view", lambda x: x)
    monkeypatch.setattr(classes, "DEVICE_BLOCK", 1000)
    x = tensor(m).requires_grad_()
    for (labels, gap), (there, lost) in zip(
        expected, (optimal_labels(x), nested_labels(x[1:]), optimal_labels(x, pooled=True)), strict=True
    ):
        assert there.dtype == torch.uint8 and lost == pytest.approx(gap, abs=1e-14)
        np.testing.assert_array_equal(there, labels)
    batch = torch.stack([x, x.flip(1)])
    assert optimal_labels(batch, class_axis=1, axis=(2, 3))[1].shape == (2,)


GOOD = discs(8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("m", "options", "message"),
    [
        (np.zeros(4), {}, r"m: expected maps of K classes, shape \(K, \*shape\), got shape \(4,\)"),
        (GOOD[:1], {}, "m: expected the background and at least one class, got one map; use background=None"),
        (GOOD[1:], {}, r"m: expected exclusive classes, whose .* sum to 1 in every voxel, found sums from .*=None"),
        (GOOD + 0.1 * (GOOD < 0.5), {}, "For logits, apply a softmax over the classes; for sigmoids .* nested_labels"),
        (np.sqrt(GOOD), {"background": None}, "sum to at most 1 in every voxel, found sums from"),
        (GOOD * np.array([1, np.nan, 1, 1]).reshape(4, 1, 1), {}, r"m\[1\] \(shape .*\): expected values in \[0, 1\]"),
        (GOOD * 100, {}, r"m\[0\] .* divide by 100"),
        (GOOD, {"background": 4}, "background: expected None or an int from -4 to 3, got 4"),
        (GOOD, {"background": True}, "background: expected None or an int"),
        (GOOD, {"class_axis": 3}, r"class_axis: expected an int from -3 to 2 for m of shape \(4, 8, 8\), got 3"),
        (GOOD, {"axis": (0, 1)}, r"axis: expected the axes of one image without class_axis, 0, got \(0, 1\)"),
        (GOOD, {"weights": [1, 1, 1, 1]}, "weights: expected 3 finite numbers of at least 0, not all 0, one for every"),
        (GOOD, {"weights": [0, 0, 0]}, "weights: expected 3"),
        (GOOD, {"weights": [1, -1, 1]}, "weights: expected 3"),
        (GOOD, {"weights": "abc"}, "weights: expected 3"),
        (GOOD, {"where": np.zeros((8, 8), bool)}, "where: expected at least one voxel that counts"),
        (np.stack([GOOD, 2 * GOOD], 1), {"axis": (2, 3)}, r"m\[0\].* \[image \(1,\) of \(2,\)\]"),
    ],
)
def test_refusals(kind, m, options, message):
    with pytest.raises(ValueError, match=message):
        optimal_labels(kind(m), **options)
    if "sum" not in message and "softmax" not in message and "background" not in message and "weights" not in message:
        with pytest.raises(ValueError, match=message):
            nested_labels(kind(m), **options)
