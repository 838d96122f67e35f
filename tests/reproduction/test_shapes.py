"""Tests of reproduction.data.shapes, and of what the chapter "Optimal segmentations under noise" states and proves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import noisyseg as ns
from noisyseg.optimal import regret
from reproduction.data.phantoms.scenes import figure1_shapes
from reproduction.data.shapes import dice_floor, low_noise_dice, measure, optimal_shapes, threshold_grid_error
from reproduction.scoring.scores import ceiling


def masks(*sides: int):
    return hnp.arrays(bool, st.sampled_from([sides, tuple(reversed(sides))]), elements=st.booleans())


def framed(label: np.ndarray, sigma: float, room: float = 8.0) -> tuple[np.ndarray, ns.GaussianDeformation]:
    """Put `room` standard deviations of background around a label; sigma is in voxels."""
    wide = np.pad(label, math.ceil(room * sigma))
    return wide, ns.GaussianDeformation([sigma / n for n in wide.shape])


def ball(n: int, radius: float, side: int) -> np.ndarray:
    return ((np.indices((side,) * n) - (side - 1) / 2) ** 2).sum(axis=0) <= radius**2


# ---- measures, by hand ----


def test_square_with_a_hole_and_a_pixel_at_its_corner():
    mask = np.zeros((6, 6), bool)
    mask[1:4, 1:4] = True
    mask[2, 2], mask[4, 4] = False, True
    shape = measure(mask, 2.0)
    assert (shape.volume, shape.components, shape.holes, shape.cavities) == (36.0, 1, 1, 0)
    mask[4, 4], mask[5, 5] = False, True  # no longer touches
    assert measure(mask).components == 2
    mask[1, 1] = False  # the hole leaks over an edge of closed pixels, not at all over a corner
    assert measure(mask).holes == 1
    mask[1, 2] = False
    assert measure(mask).holes == 0


def test_rings_and_shells():
    block = np.ones((5, 5, 5), bool)
    ring, shell, tube = block.copy(), block.copy(), block.copy()
    ring[:, 2, 2] = False
    shell[2, 2, 2] = False
    tube[:, 2, 2] = tube[2, :, 2] = False  # two crossing channels: a surface with three handles
    found = [measure(x) for x in (block, ring, shell, tube)]
    assert [(s.components, s.holes, s.cavities) for s in found] == [(1, 0, 0), (1, 1, 0), (1, 0, 1), (1, 3, 0)]


@pytest.mark.parametrize("side", [1, 2, 10])
def test_surface_of_a_cube_is_that_of_its_bevelled_mesh(side):
    # faces between outer voxel centres, twelve bevelled edges, eight cut corners
    expected = 6 * (side - 1) ** 2 + 12 * (side - 1) / math.sqrt(2) + math.sqrt(3)
    shape = measure(np.ones((side,) * 3), spacing=0.5)
    assert shape.surface == pytest.approx(expected * 0.25, rel=1e-5)
    assert shape.volume == (side / 2) ** 3
    psi = math.pi ** (1 / 3) * (6 * shape.volume) ** (2 / 3) / shape.surface
    assert shape.ball_likeness == pytest.approx(psi)


def test_surface_counts_each_axis_in_its_spacing():
    shape = measure(np.ones((1, 40, 40)), spacing=(5.0, 1.0, 1.0))
    # a plate between the planes half-way to the next slices, with bevelled rims
    assert shape.surface == pytest.approx(2 * 39**2 + 4 * 39 * math.sqrt(5**2 + 1), rel=5e-3)
    assert shape.volume == 5 * 1600


def test_balls_and_discs_are_nearly_one_and_nothing_else_is():
    assert measure(ball(2, 60, 131)).ball_likeness == pytest.approx(1, abs=0.03)
    assert measure(ball(2, 60, 131), 0.1).surface == pytest.approx(2 * math.pi * 6, rel=0.02)
    for radius in (6, 12, 24):
        assert 0.90 < measure(ball(3, radius, 2 * radius + 5)).ball_likeness < 0.93  # as the docstring says
    two = np.concatenate([ball(2, 60, 131)] * 2)
    assert measure(two).ball_likeness == pytest.approx(measure(two[:131]).ball_likeness / 2)
    bar = np.ones((4, 100))
    assert measure(bar).ball_likeness < 0.2


def test_flat_voxels_are_as_bad_as_the_docstring_says():
    z, y, x = np.indices((13, 75, 75))
    flat = (((z - 6) * 5.0) ** 2 + ((y - 37) * 0.7) ** 2 + ((x - 37) * 0.7) ** 2) <= 25**2
    assert measure(flat, (5.0, 0.7, 0.7)).surface / (4 * math.pi * 625) == pytest.approx(1.22, abs=0.015)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5)])
def test_empty_and_full_masks(shape):
    empty = measure(np.zeros(shape))
    assert (empty.volume, empty.surface, empty.components, empty.holes, empty.cavities) == (0, 0, 0, 0, 0)
    assert math.isnan(empty.ball_likeness)
    full, inside = measure(np.ones(shape)), measure(np.pad(np.ones(shape), 3))
    assert full == inside  # what touches the border is closed there
    assert (full.components, full.holes, full.cavities) == (1, 0, 0)


def closed_euler(mask: np.ndarray) -> int:
    """Euler number of the union of closed voxels: vertices minus edges plus faces minus cubes."""
    total = 0
    for kind in itertools.product((0, 1), repeat=mask.ndim):  # 1: the cell extends along the axis
        cells = np.zeros([2 * n + 1 for n in mask.shape], bool)
        for index in np.argwhere(mask):
            cells[tuple(slice(2 * i, 2 * i + 3) for i in index)] = True
        total += (-1) ** sum(kind) * int(cells[tuple(slice(k, None, 2) for k in kind)].sum())
    return total


@given(masks(5, 7) | masks(3, 4, 5))
@settings(max_examples=150)
def test_numbers_add_up_to_the_euler_number_of_closed_voxels(mask):
    shape = measure(mask)
    assert shape.components - shape.holes + shape.cavities == closed_euler(mask)
    assert min(shape.components, shape.holes, shape.cavities) >= 0
    assert shape.components > 0 or not mask.any()


@given(masks(6, 9) | masks(4, 5, 6))
@settings(max_examples=60)
def test_measures_do_not_depend_on_the_position_and_scale_with_the_spacing(mask):
    first = measure(mask, 1.0)
    moved = measure(np.pad(np.flip(mask), [(2, 5)] * mask.ndim), 3.0)
    n = mask.ndim
    assert moved.volume == pytest.approx(first.volume * 3**n)
    assert moved.surface == pytest.approx(first.surface * 3 ** (n - 1), rel=1e-4)
    assert (moved.components, moved.holes, moved.cavities) == (first.components, first.holes, first.cavities)
    assert moved.ball_likeness == pytest.approx(first.ball_likeness, rel=1e-4, nan_ok=True)


def test_tensors_and_dtypes_give_the_same():
    mask = figure1_shapes(100)
    expected = measure(mask)
    noise = ns.GaussianDeformation(0.02)
    for other in (mask.astype(np.float16), mask.T.copy().T, torch.from_numpy(mask), torch.from_numpy(mask).float()):
        assert measure(other) == expected
        assert optimal_shapes(other, noise) == optimal_shapes(mask, noise)
        assert threshold_grid_error(other, noise) == threshold_grid_error(mask, noise)
        assert dice_floor(other, noise) == dice_floor(mask, noise)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure(np.ones(4)), "mask: expected an image of two or three axes, got shape \\(4,\\)"),
        (lambda: measure(np.full((2, 2), 0.5)), "mask .*expected a binary array of 0 and 1, found 0.5"),
        (lambda: measure(np.ones((2, 0))), "mask: expected at least one voxel"),
        (lambda: measure(np.ones((2, 2)), (1.0, 2.0)), "spacing: expected square pixels for a perimeter"),
        (lambda: measure(np.ones((2, 2)), 0.0), "spacing: expected finite positive numbers, got 0.0"),
        (lambda: measure(np.ones((2, 2)), (1, 1, 1)), "spacing: expected one number or one for each of the 2 axes"),
        (lambda: optimal_shapes(np.zeros((2, 2)), ns.GaussianDeformation(0.1)), "label .*expected some foreground"),
        (lambda: threshold_grid_error(np.zeros(3), ns.GaussianDeformation(0.1)), "label .*expected some foreground"),
        (lambda: dice_floor(np.zeros(3), ns.GaussianDeformation(0.1)), "label .*expected some foreground"),
        (lambda: low_noise_dice(0, 1, 0.1), "volume: expected finite positive"),
        (lambda: low_noise_dice(1, -1, 0.1), "surface: expected finite non-negative"),
        (lambda: low_noise_dice(1, 1, math.nan), "a: expected finite non-negative"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_row_says_what_the_core_functions_say():
    label, noise = framed(figure1_shapes(100), 3.0)
    row, m = optimal_shapes(label, noise, 0.5), noise.marginal(label)
    s_a, s_d = ns.optimal_accuracy(m), ns.optimal_dice(m)
    assert row["volume"] == label.sum() / 4
    assert row["expected_volume"] == pytest.approx(m.sum() / 4)
    assert row["threshold"] == ns.dice_threshold(m)
    assert row["overlap"] == pytest.approx(2 * (s_a & s_d).sum() / (s_a.sum() + s_d.sum()))
    for name, mask in (("accuracy", s_a), ("dice", s_d)):
        assert row[f"{name}_dice"] == ns.dice(mask, m)
        assert row[f"{name}_volume_ratio"] == pytest.approx(mask.sum() / m.sum())
        found = measure(mask, 0.5)
        assert (row[f"{name}_surface"], row[f"{name}_holes"]) == (found.surface, found.holes)
        assert (row[f"{name}_components"], row[f"{name}_cavities"]) == (found.components, found.cavities)
        assert row[f"{name}_ball_likeness"] == found.ball_likeness
    still = optimal_shapes(label, ns.GaussianDeformation(0))
    assert (still["threshold"], still["overlap"], still["dice_volume_ratio"]) == (0.5, 1.0, 1.0)
    assert still["accuracy_surface"] == still["dice_surface"] == measure(label).surface


# ---- statements of the chapter ----

small = masks(5, 8) | masks(3, 4, 4)


@pytest.mark.statement("prop-monotone", "lem-grid")
@given(small.filter(np.any), st.floats(0.6, 3.0), st.floats(1.0, 2.0))
@settings(max_examples=60)
def test_threshold_and_accuracy_do_not_rise_with_noise(label, sigma, factor):
    wide, strong = framed(label, sigma * factor, room=7)
    weak = ns.GaussianDeformation([a / factor for a in strong.a])
    first, second = weak.marginal(wide), strong.marginal(wide)
    slack = threshold_grid_error(wide, weak) + threshold_grid_error(wide, strong)
    assert ns.dice_threshold(second) <= ns.dice_threshold(first) + slack
    assert ns.dice_threshold(first) <= 0.5
    gain = [np.maximum(m - 0.5, 0).sum() / label.sum() for m in (first, second)]  # sup A = 1 - v + 2 v gain
    assert gain[1] <= gain[0] + slack


@pytest.mark.statement("prop-convex-order")
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=100)
def test_means_of_probabilities_have_lower_best_scores(seed, swaps):
    rng = np.random.default_rng(seed)
    m = rng.random(30) ** rng.uniform(0.3, 4)
    kernel = np.mean([rng.permutation(np.eye(30)) for _ in range(swaps)], axis=0)  # rows and columns sum to 1
    parts = rng.integers(0, 5, size=30)
    for less in (kernel @ m, np.array([m[parts == part].mean() for part in parts])):
        assert all(np.maximum(less - u, 0).sum() <= np.maximum(m - u, 0).sum() + 1e-12 for u in np.unique([*m, *less]))
        assert ns.dice_threshold(less) <= ns.dice_threshold(m) + 1e-12
        for beta in (0.2, 1.0, 3.0):
            assert ns.f_beta_threshold(less, beta) <= ns.f_beta_threshold(m, beta) + 1e-12


@pytest.mark.statement("prop-convex-order")
def test_without_the_order_some_f_beta_is_higher():
    first, second = np.array([0.7, 0.15, 0.15]), np.array([0.6, 0.4, 0.0])  # neither is a mean of the other
    signs = {beta: ns.f_beta_threshold(first, beta) - ns.f_beta_threshold(second, beta) for beta in (0.3, 3.0)}
    h = {u: [np.maximum(m - u, 0).sum() for m in (first, second)] for u in (0.65, 0.2)}
    assert h[0.65][0] > h[0.65][1] and h[0.2][0] < h[0.2][1]
    assert signs[0.3] > 0 > signs[3.0]


@pytest.mark.statement("prop-monotone")
def test_threshold_falls_strictly_on_a_fine_grid_and_may_rise_where_volume_leaves():
    n, half, layer = 600, 20, 4  # a block in the middle, and grains along the border
    label = np.zeros((n, n), bool)
    label[:layer], label[-layer:], label[:, :layer], label[:, -layer:] = True, True, True, True
    grains = np.zeros_like(label)
    grains[::2, ::2] = True
    label &= grains
    label[n // 2 - half : n // 2 + half, n // 2 - half : n // 2 + half] = True
    one, two = (ns.dice_threshold(ns.GaussianDeformation(s / n).marginal(label)) for s in (1, 2))
    assert two - one > 0.003
    wide = np.pad(label, 60)
    one, two = (ns.dice_threshold(ns.GaussianDeformation(s / 720).marginal(wide)) for s in (1, 2))
    assert one - two > 0.005
    shapes = np.pad(figure1_shapes(200), 100)
    t = [ns.dice_threshold(ns.GaussianDeformation(a / 2).marginal(shapes)) for a in np.arange(0, 0.1, 0.005)]
    assert (np.diff(t) < 0).all()


@pytest.mark.statement("lem-grid")
@given(masks(4, 5).filter(np.any), st.floats(0.4, 2.0))
@settings(max_examples=30)
def test_grid_error_bounds_what_refinement_changes(label, sigma):
    coarse, noise = framed(label, sigma, room=7)
    fine = np.kron(coarse, np.ones((6, 6), bool))
    bound, rest = threshold_grid_error(coarse, noise), threshold_grid_error(fine, noise)
    difference = abs(ns.dice_threshold(noise.marginal(coarse)) - ns.dice_threshold(noise.marginal(fine)))
    assert difference <= bound + rest
    assert rest == pytest.approx(bound / 36) or bound == 0.5


@pytest.mark.statement("lem-grid")
def test_grid_error_by_hand():
    label = np.zeros((10, 20), bool)
    label[4:6, 5:9] = True  # 8 faces across the first axis, 4 across the second
    expected = math.sqrt(2 / math.pi) / 8 * (8 / (8 * 2) + 4 / (8 * 3))
    assert threshold_grid_error(label, ns.GaussianDeformation((0.2, 0.15))) == pytest.approx(expected)
    assert threshold_grid_error(label, ns.GaussianDeformation((0.2, 0))) < expected
    assert threshold_grid_error(label, ns.GaussianDeformation(0)) == 0
    assert threshold_grid_error(label, ns.GaussianDeformation(1e-4)) == 0.5
    assert threshold_grid_error(np.ones((3, 3)), ns.GaussianDeformation(0.5)) > 0  # the border has faces too


@pytest.mark.statement("prop-hull")
@given(small.filter(np.any), st.floats(0.3, 4.0), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_accuracy_mask_lies_in_the_hull_and_in_the_dice_mask(label, sigma, seed):
    wide, noise = framed(label, sigma, room=7)
    m = noise.marginal(wide)
    s_a, s_d = ns.optimal_accuracy(m), ns.optimal_dice(m)
    assert not (s_a & ~s_d).any()
    assert s_d.any()
    corners = np.concatenate([np.argwhere(wide) + shift for shift in itertools.product((-0.5, 0.5), repeat=wide.ndim)])
    directions = np.random.default_rng(seed).normal(size=(20, wide.ndim))
    if s_a.any():  # every half-space that holds the label holds the mask
        assert ((np.argwhere(s_a) @ directions.T).max(axis=0) < (corners @ directions.T).max(axis=0)).all()
    width = min(np.ptp(np.argwhere(label), axis=0) + 1)
    assert m.max() <= math.erf(width / (2 * math.sqrt(2) * sigma)) + 1e-12
    assert m.max() <= label.sum() / (2 * math.pi * sigma**2) ** (label.ndim / 2) + 1e-12
    if width < 1.3489 * sigma or 2 * label.sum() < (2 * math.pi * sigma**2) ** (label.ndim / 2):
        assert not s_a.any()


@pytest.mark.statement("prop-hull")
def test_bar_vanishes_at_the_width_that_the_proposition_says():
    label = np.zeros((121, 801), bool)
    label[50:71] = True
    strength = {True: 0.0, False: math.inf}
    for sigma in np.arange(15.0, 16.3, 0.05):
        m = ns.GaussianDeformation((sigma / 121, 0)).marginal(label)
        strength[True] = max(strength[True], sigma) if ns.optimal_accuracy(m).any() else strength[True]
        strength[False] = min(strength[False], sigma) if not ns.optimal_accuracy(m).any() else strength[False]
    assert strength[True] < strength[False] == pytest.approx(21 / 1.3489795, abs=0.06)


@pytest.mark.statement("prop-ball")
@given(small.filter(np.any), st.floats(0.5, 6.0), st.floats(0.001, 0.999))
@settings(max_examples=60)
def test_level_sets_lie_between_two_balls(label, sigma, part):
    wide, noise = framed(label, sigma, room=5)
    m = noise.marginal(wide)
    peak = label.sum() / (2 * math.pi * sigma**2) ** (label.ndim / 2)
    level = peak * part
    radius = sigma * math.sqrt(2 * math.log(peak / level))
    around = np.sqrt(sum(n**2 for n in label.shape)) / 2  # radius of the label
    distance = np.sqrt(sum((x - (n - 1) / 2) ** 2 for x, n in zip(np.indices(wide.shape), wide.shape, strict=True)))
    assert (m[distance <= radius - around - 1e-9] >= level * (1 - 1e-9)).all()
    assert (m[distance > radius + around + 1e-9] < level * (1 + 1e-9)).all()


@pytest.mark.statement("prop-ball")
def test_dice_mask_becomes_a_ball_whose_radius_is_known():
    for n, side, unit, sigma, tolerance in ((1, 30_001, 2.0, 3000.0, 0.01), (2, 801, math.pi, 100.0, 0.02)):
        label = np.zeros((side,) * n, bool)
        label[(slice(side // 2 - 1, side // 2 + 2),) * n] = True  # a cube of 3
        m = ns.GaussianDeformation(sigma / side).marginal(label)
        expected = ((n + 2) * sigma**2 * 3**n / unit) ** (1 / (n + 2))
        mask = ns.optimal_dice(m)
        assert (mask.sum() / unit) ** (1 / n) == pytest.approx(expected, rel=tolerance)
    bars = np.zeros((801, 801), bool)
    bars[398:403, 390] = bars[398:403, 410] = bars[400, 390:411] = True  # an H
    m = ns.GaussianDeformation(100 / 801).marginal(bars)
    assert measure(bars).ball_likeness < 0.4
    assert measure(ns.optimal_dice(m)).ball_likeness > 0.95
    assert not ns.optimal_accuracy(m).any()


@pytest.mark.statement("prop-low-noise")
@pytest.mark.parametrize(("outer", "inner", "pieces"), [(0.2, 0.0, 1), (0.3, 0.15, 1), (0.1, 0.0, 2)])
def test_weak_noise_moves_the_masks_as_derived(outer, inner, pieces):
    n = 1600
    w = (np.arange(n) + 0.5) / n
    label = np.zeros((n, n), bool)
    for c in (0.5,) if pieces == 1 else (0.25, 0.75):
        distance = np.hypot(w[:, None] - c, w - c)
        label |= (distance <= outer) & (distance >= inner)
    area = label.mean()
    perimeter = pieces * 2 * math.pi * (outer + inner)
    euler = pieces * (1 if inner == 0 else 0)
    remainder = []
    for a in (0.01, 0.02):
        m = ns.GaussianDeformation(a).marginal(label)
        s_a, s_d = ns.optimal_accuracy(m), ns.optimal_dice(m)
        unit = math.pi * a**2
        slack = 0.15 if a == 0.01 else 0.05  # of counting pixels
        assert (s_a.mean() - area) / unit == pytest.approx(-euler, abs=slack)
        assert (s_d.mean() - area) / unit == pytest.approx(perimeter**2 / (2 * math.pi * area) - euler, abs=2 * slack)
        best = 2 * ns.dice_threshold(m)
        remainder.append(abs(best - low_noise_dice(area, perimeter, a)))
        assert remainder[-1] < 0.3 * (1 - best) ** 2
        assert 1 - ns.dice(s_a, s_d) == pytest.approx(math.pi / 2 * (1 - best) ** 2, rel=0.25, abs=2e-4)
        assert regret(s_a, m) == pytest.approx(math.pi / 4 * (1 - best) ** 3, rel=0.25, abs=1e-5)
    assert 4.5 < remainder[1] / remainder[0] or remainder[1] < 3e-4  # of third order, not of second


@pytest.mark.statement("prop-floor")
@given(small.filter(np.any), st.lists(st.floats(0.0, 1.5), min_size=3, max_size=3))
@settings(max_examples=150)
def test_floor_holds_for_every_label_and_strength_at_the_border_too(label, strengths):
    noise = ns.GaussianDeformation(strengths[: label.ndim])
    m = noise.marginal(label)
    clean = ns.dice(label, m)
    assert dice_floor(label, noise) <= clean + 1e-12
    assert clean <= 2 * ns.dice_threshold(m) + 1e-12


@pytest.mark.statement("prop-floor")
def test_floor_is_sharp_for_weak_noise_and_holds_for_a_disc_of_any_noise():
    wide = np.zeros(4001, dtype=bool)
    wide[1000:3000] = True
    for sigma in (2.0, 5.0, 20.0):  # two faces, 2,000 voxels: the loss is the bound
        noise = ns.GaussianDeformation(sigma / 4001)
        assert 1 - ns.dice(wide, noise.marginal(wide)) == pytest.approx(1 - dice_floor(wide, noise), rel=0.03)
    disc = ball(2, 60, 601)
    for sigma in (2.0, 10.0, 30.0, 60.0):
        m = ns.GaussianDeformation(sigma / 601).marginal(disc)
        bound = low_noise_dice(math.pi * 60**2, 2 * math.pi * 60, sigma)
        assert bound <= 2 * ns.dice_threshold(m) + 0.002  # of counting pixels
        assert dice_floor(disc, ns.GaussianDeformation(sigma / 601)) < bound  # the faces of a disc are 4/pi too many


@pytest.mark.statement("prop-ceiling")
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.1), st.floats(0.0, 1.0))
@settings(max_examples=15)
def test_no_mask_passes_the_ceiling_over_finitely_many_labels(seed, a, part):
    label = figure1_shapes(32)
    draws = ns.GaussianDeformation(a).sample(label, rng=seed, size=30)
    m = draws.mean(axis=0, dtype=np.float64)  # the 30 draws as the whole distribution: no sampling error
    volumes = draws.mean(axis=(1, 2))
    for s in (label, ns.optimal_dice(m), ns.optimal_accuracy(m), np.random.default_rng(seed).random(m.shape) < part):
        scores = np.array([ns.dice(s, draw) for draw in draws])
        both = s.mean() + m.mean()
        covariance = np.cov(scores, volumes, ddof=0)[0, 1]
        assert scores.mean() <= 2 * ns.dice_threshold(m) - covariance / both + 1e-12
        assert scores.mean() <= 2 * ns.dice_threshold(m) + volumes.std() / (2 * both) + 1e-12


@pytest.mark.statement("prop-ceiling")
def test_ceiling_is_reached_by_the_dice_mask_and_by_neither_label_nor_accuracy_mask():
    label, noise = figure1_shapes(64).astype(np.uint8), ns.GaussianDeformation(0.04)
    m = noise.marginal(label)
    bound = ceiling(label, m, noise, seed=3, samples=400)
    assert bound["ceiling"] == 2 * ns.dice_threshold(m)
    assert bound["ceiling_mc"] == pytest.approx(bound["ceiling"], abs=0.01)
    draws = noise.sample(label, rng=3, size=400)
    for s in (label, ns.optimal_accuracy(m)):
        assert np.mean([ns.dice(s, draw) for draw in draws]) < bound["ceiling_mc"] - 0.03
