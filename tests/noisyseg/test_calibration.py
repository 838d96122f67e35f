import csv
import itertools
import json
import math

import numpy as np
import pytest
from kinds import KINDS as ARRAYS
from scipy.optimize import isotonic_regression, minimize

from noisyseg import GaussianDeformation, dice, dice_threshold, optimal_dice
from noisyseg.calibration import KINDS, Calibration, check, fit, optimal_dice_or_empty
from noisyseg.calibration.fitting import EDGE, LEVELS, fit_tallies, level, logit, sigmoid, tally

# ---------------------------------------------------------------- counting and fitting


def sample(rng, voxels, right):
    """A map with all sorts of values, and a label whose voxels are foreground with the probability right(map)."""
    c = sigmoid(rng.normal(-1, 2, voxels))
    return c, (rng.random(voxels) < right(c)).astype(np.uint8)


def test_a_map_is_counted_by_hand():
    counts = tally(np.array([[0.25, 0.25, 0.75], [0.0, 1.0, 1.0]]), np.array([[1, 0, 1], [0, 1, 0]]))
    used = np.flatnonzero(counts[0])
    assert used.tolist() == sorted({*level(np.array([0.0, 0.25, 0.75, 1.0])).tolist()})
    assert counts[:, used].tolist() == [[1, 2, 1, 2], [0, 0.5, 0.75, 2], [0, 1, 1, 1]]
    assert level(np.array([0.0, 1.0])).tolist() == [0, LEVELS - 1]


def test_levels_are_fine_and_in_order():
    c = np.linspace(0, 1, 100_001)
    k = level(c)
    assert (np.diff(k) >= 0).all()
    inner = c[(c > 1e-6) & (c < 1 - 1e-6)]
    assert len(np.unique(level(sigmoid(np.linspace(-16.1, 16.1, 100_000))))) >= LEVELS - 3
    for low, high in itertools.pairwise(inner[:: len(inner) // 50]):
        if level(np.array([low]))[0] == level(np.array([high]))[0]:
            assert logit(high) - logit(low) < 0.016


def cross_entropy_of(q, label):
    return -float(np.mean(label * np.log(q) + (1 - label) * np.log1p(-q)))


def test_a_temperature_is_found_again():
    c, label = sample(np.random.default_rng(0), 400_000, lambda c: sigmoid(logit(c) / 2.5))
    found = fit([c], [label], "temperature")
    assert found.parameters["T"] == pytest.approx(2.5, rel=0.02) and found.images == 1


@pytest.mark.parametrize("kind", ["temperature", "beta"])
def test_a_fit_has_the_least_cross_entropy(kind):
    """Against a general minimiser that sees the voxels themselves, not the levels."""
    rng = np.random.default_rng(1)
    c, label = sample(rng, 20_000, lambda c: sigmoid(1.6 * np.log(c) - 0.4 * np.log1p(-c) - 0.5))
    features = np.stack([logit(c)] if kind == "temperature" else [np.log(c), -np.log1p(-c), np.ones_like(c)], 1)

    def loss(w):
        z = features @ w
        return float(np.mean(np.logaddexp(0, z) - label * z))

    best = minimize(loss, np.ones(features.shape[1]), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    found = cross_entropy_of(fit([c], [label], kind)(c), label)
    assert best.fun <= found + 1e-9
    assert found == pytest.approx(best.fun, abs=2e-6)  # what the levels cost


def test_isotonic_is_scipys_and_is_calibrated_on_what_it_was_fitted_on():
    rng = np.random.default_rng(2)
    c, label = sample(rng, 30_000, lambda c: c**2)
    calibration = fit([c[:10_000], c[10_000:]], [label[:10_000], label[10_000:]], "isotonic")
    count, _, truth = tally(c, label)
    used = count > 0
    expected = isotonic_regression(truth[used] / count[used], weights=count[used]).x
    q = calibration(c)
    assert np.allclose(q, np.asarray(expected)[(np.cumsum(used) - 1)[level(c)]], rtol=0, atol=1e-12)
    for value in np.unique(q):
        assert label[q == value].mean() == pytest.approx(value, abs=1e-12)


def test_an_exponent_that_would_be_negative_is_left_out():
    """Where the map says .5 to .99 the label does not follow it: b would be below 0, and the function would fall."""
    c = np.repeat([0.01, 0.1, 0.5, 0.9, 0.99], 1000)
    label = np.concatenate([np.arange(1000) < n for n in (10, 100, 700, 650, 600)])
    found = fit([c], [label], "beta")
    assert found.parameters["b"] == 0.0 < found.parameters["a"]
    assert (np.diff(found(np.linspace(0, 1, 1001))) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_that_is_a_label_is_left_as_it_is(kind):
    label = np.arange(200) % 7 == 0
    c = label.astype(np.float32)
    assert np.allclose(fit([c], [label], kind)(c), c, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_fitted_is_increasing_and_keeps_all_masks_possible(kind):
    rng = np.random.default_rng(3)
    c, label = sample(rng, 5000, lambda c: sigmoid(logit(c) / 2 - 0.5))
    q = fit([c], [label], kind)(np.sort(c))
    assert (np.diff(q) >= 0).all()


@pytest.mark.statement("prop-increasing")
@pytest.mark.parametrize("kind", KINDS)
def test_recalibrated_masks_are_masks_of_the_map_at_another_threshold(kind):
    rng = np.random.default_rng(4)
    c, label = sample(rng, 3000, lambda c: sigmoid(logit(c) / 2 - 0.5))
    calibration = fit([c], [label], kind)
    mask = optimal_dice(calibration(c))
    u = c[mask].min()
    assert (mask == (c >= u)).all() and u != dice_threshold(c)
    best = max(dice(c >= v, label) for v in np.unique(c))
    assert dice(mask, label) <= best


@pytest.mark.statement("prop-pooled")
def test_a_fit_with_an_intercept_is_right_in_volume_over_all_images_and_not_in_each():
    rng = np.random.default_rng(5)
    pairs = [sample(rng, 4000, lambda c, f=f: c**f) for f in (0.5, 1.0, 3.0)]
    maps, labels = zip(*pairs, strict=True)
    for kind in ("beta", "isotonic"):
        q = [fit(maps, labels, kind)(c) for c in maps]
        assert sum(x.sum() for x in q) == pytest.approx(sum(label.sum() for label in labels), rel=2e-3)
        assert max(abs(x.sum() / label.sum() - 1) for x, label in zip(q, labels, strict=True)) > 0.2


@pytest.mark.parametrize("as_kind", ARRAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_shapes_and_types(as_kind, kind):
    rng = np.random.default_rng(6)
    c, label = (x.reshape(10, 20, 5) for x in sample(rng, 1000, lambda c: np.sqrt(c)))
    calibration = fit([as_kind(c)], [as_kind(label)], kind)
    assert calibration == fit([c], [label], kind)
    for dtype, result in ((np.float64, np.float64), (np.float32, np.float32), (np.float16, np.float32)):
        x = np.asfortranarray(c.astype(dtype))
        q = calibration(as_kind(x))
        assert type(q) is type(as_kind(x)) and q.shape == x.shape and str(q.dtype).endswith(np.dtype(result).name)
        assert np.allclose(np.asarray(q), calibration(x.astype(np.float64)), rtol=1e-6, atol=1e-7)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(tmp_path, kind):
    c, label = sample(np.random.default_rng(7), 2000, np.sqrt)
    calibration = fit([c], [label], kind)
    path = calibration.save(tmp_path / "calibration.json")
    assert Calibration.load(path) == calibration
    assert (Calibration.load(path)(c) == calibration(c)).all()
    with pytest.raises(FileExistsError, match=r"calibration\.json"):
        calibration.save(path)
    calibration.save(path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]


GOOD = {"format": "noisyseg calibration 1", "kind": "temperature", "parameters": {"T": 2.0}, "images": 3}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps({**GOOD, "format": "other"}),
        json.dumps({**GOOD, "kind": "platt"}),
        json.dumps({**GOOD, "more": 1}),
        json.dumps({**GOOD, "parameters": {}}),
        json.dumps({**GOOD, "parameters": {"T": 0}}),
        json.dumps({**GOOD, "parameters": {"T": "x"}}),
        json.dumps({**GOOD, "parameters": {"T": math.nan}}),
        json.dumps({**GOOD, "kind": "beta", "parameters": {"a": -1, "b": 1, "c": 0}}),
        json.dumps({**GOOD, "kind": "isotonic", "parameters": {"start": [0, 5], "value": [0.5, 0.4]}}),
        json.dumps({**GOOD, "kind": "isotonic", "parameters": {"start": [0, 5000], "value": [0.4, 0.5]}}),
        json.dumps({**GOOD, "kind": "isotonic", "parameters": {"start": [0, 5], "value": [0.4, 1.5]}}),
        json.dumps({**GOOD, "kind": "isotonic", "parameters": {"start": [], "value": []}}),
        b"\xff\xfe",
    ],
)
def test_another_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"c\.json: expected a calibration"):
        Calibration.load(path)


def test_a_saved_file_reads_as_it_says(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(GOOD))
    assert Calibration.load(path) == Calibration("temperature", {"T": 2.0}, 3)


# ---------------------------------------------------------------- what is refused

MAP, LABEL = np.array([0.2, 0.7, 0.4]), np.array([0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([MAP], [LABEL], "platt"), "kind: expected one of temperature, beta, isotonic"),
        (([], [], "beta"), "maps: expected at least one map"),
        (([MAP * 9 - 4], [LABEL], "beta"), r"map 0 .*look like logits"),
        (([MAP], [LABEL + 1], "beta"), r"label 0 .*binary"),
        (([MAP], [LABEL[:2]], "beta"), "map 0 and label 0: expected the same shape"),
        (([MAP], [LABEL * 0], "beta"), "labels: expected foreground and background.*found background alone"),
        (([MAP], [LABEL * 0 + 1], "isotonic"), "found foreground alone"),
        (([np.repeat([0.1, 0.9], 50)], [np.arange(100) < 50], "temperature"), "1 - c"),
        (([np.repeat([0.1, 0.9], 50)], [np.arange(100) < 50], "beta"), "1 - c"),
    ],
)
def test_fits_that_cannot_be_right_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(*arguments)


def test_values_that_are_no_probabilities_are_refused():
    with pytest.raises(ValueError, match="divide by 100"):
        Calibration("temperature", {"T": 1.0})(np.array([0.0, 70.0]))


# ---------------------------------------------------------------- check


def test_a_report_by_hand():
    """Six voxels: a map that is right in 3 of 4 voxels at .75 and in none of two at 0."""
    c = np.array([0.75, 0.75, 0.75, 0.75, 0.0, 0.0])
    labels = [np.array([1, 1, 1, 0, 0, 0]), np.array([1, 0, 0, 0, 0, 1]), np.zeros(6, np.uint8)]
    report = check([c] * 3, labels, ["a", "b", "c"])
    first, second, third = report.images
    assert (first.image, first.voxels, first.volume, first.soft_volume) == ("a", 6, 3, 3.0)
    t = 3 / 7
    assert (first.t, first.promised, first.dice_t, first.dice_half) == (t, 2 * t, 6 / 7, 6 / 7)
    assert (first.bias, first.error, first.certain) == (0.0, 0.0, 0.0)
    # The map has 3 where the label has 1, and 0 where it has 1.
    assert (second.bias, second.error, second.dice_t) == (0.5, 1.5, 1 / 3)
    assert third.volume == 0 and math.isnan(third.bias) and third.dice_t == 0.0
    assert report.verdict == "too few images" and "1 of 3 labels are empty" in report.warnings[0]
    rows = list(csv.DictReader(report.csv().splitlines()))
    assert [row["image"] for row in rows] == ["a", "b", "c"] and float(rows[0]["promised"]) == pytest.approx(6 / 7)
    text = report.text()
    assert "3 images" in text and "0.7 to 0.8" in text and text.endswith(report.sentence + "\n")
    assert f"{12:12}{0.75:8.3f}{4 / 12:12.3f}" in text


@pytest.mark.parametrize("as_kind", ARRAYS)
def test_a_report_is_the_same_for_all_kinds(as_kind):
    rng = np.random.default_rng(8)
    pairs = [sample(rng, 500, lambda c: c) for _ in range(6)]
    expected = check([c for c, _ in pairs], [label for _, label in pairs])
    found = check((as_kind(c) for c, _ in pairs), (as_kind(label) for _, label in pairs))
    assert found.images == expected.images and (found.bins == expected.bins).all()


@pytest.mark.parametrize(
    ("maps", "labels", "names", "message"),
    [
        ([], [], None, "maps: expected at least one"),
        ([MAP, MAP], [LABEL], None, "labels: expected as many"),
        ([MAP], [LABEL, LABEL], None, "maps: expected as many"),
        ([MAP], [LABEL], [], "names: expected as many"),
        ([MAP], [LABEL, LABEL], ["x", "y"], "maps: expected as many"),
        ([MAP, MAP * 100], [LABEL, LABEL], ["x", "y"], r"map y .*percentages"),
        ([MAP], [MAP], ["x"], r"label x .*binary"),
        ([MAP], [LABEL[:2]], ["x"], "map x and label x: expected the same shape"),
        ([MAP * np.nan], [LABEL], ["x"], r"map x .*nan"),
        ([LABEL[:0]], [LABEL[:0]], ["x"], "map x: expected at least one voxel"),
    ],
)
def test_bad_input_is_named(maps, labels, names, message):
    with pytest.raises(ValueError, match=message):
        check(maps, labels, names)


def noisy_cases(count, a=0.06, side=20):
    """Ellipsoids under strong noise: their exact marginals, and a label of each."""
    rng = np.random.default_rng(9)
    noise = GaussianDeformation(a)
    place = np.stack(np.meshgrid(*[(np.arange(side) + 0.5) / side] * 3, indexing="ij"))
    for _ in range(count):
        axes = rng.uniform(0.1, 0.2, 3)[:, None, None, None]
        label = ((((place - 0.5) / axes) ** 2).sum(axis=0) <= 1).astype(np.uint8)
        yield noise.marginal(label), noise.sample(label, rng=rng)


CASES = list(noisy_cases(24))
MARGINALS, LABELS = ([pair[k] for pair in CASES] for k in (0, 1))


@pytest.mark.parametrize(
    ("truth", "distort", "verdict"),
    [
        ("calibrated", lambda m: m, "use t"),
        ("too sure", lambda m: sigmoid(4 * logit(m) + 6), "recalibrate"),
        ("too large by far", lambda m: m**0.2, "recalibrate"),
        ("too small by far", lambda m: m**4, "recalibrate"),
        # What soft-Dice makes of a map: nearly a mask, and the right one at 1/2. Nothing can be gained.
        ("soft-Dice", lambda m: sigmoid(200 * (m - dice_threshold(m))), "keep 1/2"),
    ],
)
def test_the_verdict_is_right_where_the_truth_is_known(truth, distort, verdict):
    report = check([distort(m) for m in MARGINALS], LABELS)
    assert report.verdict == verdict, report.text()
    assert report.sentence.split()[0].lower() == verdict.split()[0]


def test_the_verdict_on_labels_that_the_map_knows_is_harmless():
    """Maps that are labels: t and 1/2 give the same masks, and the promise is kept."""
    assert check([label.astype(float) for label in LABELS], LABELS).verdict == "use t"


def test_a_map_of_something_else_is_no_case_for_a_verdict():
    with pytest.raises(ValueError, match="is it of another class, or 1 - c"):
        check([1 - m for m in MARGINALS], LABELS)


def test_recalibration_is_judged_on_images_that_it_was_not_fitted_on():
    maps = [sigmoid(4 * logit(m) + 6) for m in MARGINALS]
    report = check(maps, LABELS)
    for k in (0, 1, 2, 23):
        other = slice(1 - k % 2, None, 2)
        calibration = fit(maps[other], LABELS[other], "beta")
        value = dice(optimal_dice(calibration(maps[k])), LABELS[k])
        assert report.images[k].dice_recalibrated == pytest.approx(value, abs=2e-3)  # what the levels cost
    assert fit_tallies([tally(*pair) for pair in zip(maps, LABELS, strict=True)]) == fit(maps, LABELS)


# ---------------------------------------------------------------- absent structures


def expected_dice_of(mask, labels, weights):
    return sum(w * dice(mask, label) for w, label in zip(weights, labels, strict=True))


@pytest.mark.statement("thm-absent")
def test_with_absent_structures_no_mask_is_better():
    """All masks of six voxels, labels of one volume or empty: the expected Dice of ours is the largest."""
    rng = np.random.default_rng(10)
    masks = [np.array(bits) for bits in itertools.product((0, 1), repeat=6)]
    empty, more, lost = 0, 0, 0.0
    for _ in range(150):
        volume = rng.integers(1, 6)
        labels = [s for s in masks if s.sum() == volume]
        p = rng.random()
        weights = [*(p * rng.dirichlet(np.full(len(labels), rng.choice([0.1, 1, 10])))), 1 - p]
        labels.append(np.zeros(6, int))
        m = np.clip(np.einsum("k,kv->v", weights, labels), 0, 1)
        best = max(expected_dice_of(s, labels, weights) for s in masks)
        s = optimal_dice_or_empty(m, absent=1 - p)
        assert expected_dice_of(s, labels, weights) == pytest.approx(best, abs=1e-12)
        lost = max(lost, best - expected_dice_of(optimal_dice(m), labels, weights))
        empty += not s.any()
        more += s.sum() > optimal_dice(m).sum()
        assert p > 0.5 or not s.any()
    assert 50 < empty < 140 and more > 3
    assert lost > 0.7, "without the decision nearly everything can be lost"


@pytest.mark.statement("prop-never-empty")
def test_the_dice_optimal_mask_is_never_empty():
    rng = np.random.default_rng(11)
    for scale in (1.0, 1e-3, 1e-9):
        m = scale * rng.random(1000) ** 5
        assert optimal_dice(m).any() and dice_threshold(m) < m.max()
    assert optimal_dice(np.full((8, 8), 1e-6)).all(), "a constant map gives the whole image"
    background = sigmoid(rng.normal(-10, 1.5, (24, 24, 24)))  # a patch without the organ
    assert 0 < optimal_dice(background).sum() < 400 and dice_threshold(background) < 0.02


@pytest.mark.parametrize("as_kind", ARRAYS)
def test_images_of_a_batch_are_decided_one_by_one(as_kind):
    m = np.array([[0.6, 0.6, 0.3, 0.0], [0.3, 0.3, 0.15, 0.0], [0.0, 0.0, 0.0, 0.0], [0.6, 0.6, 0.3, 0.0]])
    found = optimal_dice_or_empty(as_kind(m), as_kind(np.array([0.4, 0.6, 0.4, 0.0])), axis=1)
    assert np.asarray(found).tolist() == [[1, 1, 1, 0], [0] * 4, [0] * 4, [1, 1, 0, 0]]
    assert type(found) is type(as_kind(m))
    where = np.array([True, True, False, True])
    assert np.asarray(optimal_dice_or_empty(as_kind(m), 0.4, axis=1, where=as_kind(where))).sum() == 4


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        (-0.1, "absent: expected a probability"),
        (1.5, "absent: expected a probability"),
        (math.nan, "absent: expected a probability"),
        (0.5, "absent: 0.5 contradicts the map, whose largest value 0.7"),
        (np.array([0.1, 0.2]), "absent: expected one probability"),
    ],
)
def test_what_absent_may_not_be(absent, message):
    with pytest.raises(ValueError, match=message):
        optimal_dice_or_empty(np.array([0.7, 0.1]), absent)


def test_values_at_the_ends_count_as_near_them():
    calibration = Calibration("temperature", {"T": 1.0})
    assert calibration(np.array([0.0, 1.0])).tolist() == pytest.approx([EDGE, 1 - EDGE], rel=1e-9)
