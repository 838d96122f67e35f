"""Tests of augment: shifts and rotations by hand, one random map for image and label, reproducible draws."""

import math

import numpy as np
import pytest
import torch

from reproduction.network.augment import augment, random_affine, smooth

SIDE = 8


class Scripted(np.random.Generator):
    """A generator that returns what the test says, in the order in which the code draws."""

    def __init__(
        self, chosen: float, axis: tuple[float, ...], angle_deg: float, shift: tuple[float, ...], sigma: float
    ):
        super().__init__(np.random.PCG64(0))
        self.answers = {"random": [chosen], "normal": [np.array(axis)], "uniform": [angle_deg, np.array(shift), sigma]}
        self.bounds: list[tuple[float, float]] = []

    def random(self, *args, **kwargs):
        return self.answers["random"].pop(0)

    def normal(self, *args, **kwargs):
        return self.answers["normal"].pop(0)

    def uniform(self, low=0.0, high=1.0, size=None):  # type: ignore[override]
        self.bounds.append((low, high))
        return self.answers["uniform"].pop(0)


def moved(image: torch.Tensor, axis=(0.0, 0.0, 1.0), angle_deg=0.0, shift=(0.0, 0.0, 0.0), sigma=0.0):
    rng = Scripted(0.0, axis, angle_deg, shift, sigma)
    return augment(image, (image > 0.5).float(), rng, 1.0, 0.5, 180.0, 2.0)


def blob() -> torch.Tensor:
    """A rod of three voxels and a bright one beside its end: no symmetry hides a wrong axis or direction."""
    image = torch.zeros(1, SIDE, SIDE, SIDE)
    image[0, 2:5, 3, 4] = 1
    image[0, 4, 4, 4] = 2
    return image


def voxels(label: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(place) for place in label[0].nonzero().tolist()}


BLOB = {(2, 3, 4), (3, 3, 4), (4, 3, 4), (4, 4, 4)}


def test_probability_zero_is_the_identity():
    image, label = torch.randn(1, 4, 4, 4), torch.ones(1, 4, 4, 4)
    for seed in range(20):
        same_image, same_label = augment(image, label, np.random.default_rng(seed), 0.0, 0.3, 90.0, 2.0)
        assert same_image is image and same_label is label


def test_probability_one_always_and_one_half_half_of_the_time():
    image = torch.randn(1, 4, 4, 4)
    rng = np.random.default_rng(0)
    assert all(augment(image, image, rng, 1.0, 0.3, 90.0, 2.0)[0] is not image for _ in range(50))
    kept = sum(augment(image, image, rng, 0.5, 0.3, 90.0, 2.0)[0] is image for _ in range(400))
    assert abs(kept - 200) < 5 * 10, "five standard deviations"


def test_no_shift_no_rotation_no_smoothing_is_the_identity_up_to_rounding():
    image = torch.randn(1, SIDE, SIDE, SIDE)
    label = (image > 0.5).float()
    new_image, new_label = augment(image, label, np.random.default_rng(0), 1.0, 0.0, 0.0, 0.0)
    torch.testing.assert_close(new_image, image, rtol=0, atol=1e-5)
    assert torch.equal(new_label, label)


@pytest.mark.parametrize("direction", [0, 1, 2])
@pytest.mark.parametrize("steps", [-2, -1, 1, 2])
def test_a_shift_moves_image_and_label_by_whole_voxels(direction, steps):
    """The map says where a voxel looks: a shift of +k/N shows what was k voxels further on. Its x is the last axis."""
    shift = [0.0, 0.0, 0.0]
    shift[2 - direction] = steps / SIDE
    image, label = moved(blob(), shift=tuple(shift))
    expected = {tuple(c - steps * (axis == direction) for axis, c in enumerate(place)) for place in BLOB}
    assert voxels(label) == expected, "the label"
    reference = torch.zeros(1, SIDE, SIDE, SIDE)
    for place in expected:
        reference[0][place] = 2 if place == max(expected) else 1
    torch.testing.assert_close(image, reference, rtol=0, atol=1e-5)


def test_half_a_voxel_is_interpolated():
    image, _ = moved(blob(), shift=(0.0, 0.0, 0.5 / SIDE))
    np.testing.assert_allclose(image[0, :, 3, 4], [0, 0.5, 1, 1, 0.5, 0, 0, 0], atol=1e-5)


def test_outside_the_label_is_empty_and_the_image_goes_on():
    image = torch.zeros(1, SIDE, SIDE, SIDE)
    image[0, 0] = 3  # at the border
    image[0, 1] = 1
    new_image, new_label = moved(image, shift=(0.0, 0.0, -2 / SIDE))
    np.testing.assert_allclose(new_image[0, :5, 0, 0], [3, 3, 3, 1, 0], atol=1e-5)
    assert new_label[0, :, 0, 0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("axis", "place"),
    [
        # A quarter turn about x, the last array axis, turns the first two array axes, and so on. With u = c - 3.5 the
        # content at (u0, u1) comes to (-u1, u0) or (u1, -u0).
        ((1.0, 0.0, 0.0), lambda i, j, k: (7 - j, i, k)),
        ((0.0, 1.0, 0.0), lambda i, j, k: (k, j, 7 - i)),
        ((0.0, 0.0, 1.0), lambda i, j, k: (i, 7 - k, j)),
    ],
    ids=["x", "y", "z"],
)
def test_a_quarter_turn(axis, place):
    image, label = moved(blob(), axis=axis, angle_deg=90.0)
    assert voxels(label) == {place(*each) for each in BLOB}
    assert image[0][place(4, 4, 4)] == pytest.approx(2, abs=1e-4)
    assert image.sum() == pytest.approx(5, abs=1e-3)
    back, label = moved(image, axis=axis, angle_deg=-90.0)
    torch.testing.assert_close(back, blob(), rtol=0, atol=1e-3)
    assert voxels(label) == BLOB


def test_the_length_of_the_axis_does_not_matter():
    one, _ = moved(blob(), axis=(1.0, 2.0, -2.0), angle_deg=40.0)
    two, _ = moved(blob(), axis=(0.5, 1.0, -1.0), angle_deg=40.0)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


def test_image_and_label_move_together():
    """A smooth ball and its mask: after any map the mask is still where the ball is bright."""
    x = torch.arange(16) - 7.5
    radius2 = (x[:, None, None] - 2) ** 2 + (x[None, :, None] + 1) ** 2 + x[None, None, :] ** 2
    image = (-radius2 / 18).exp()[None]
    level = math.exp(-16 / 18)
    for seed in range(10):
        new_image, new_label = augment(image, (image >= level).float(), np.random.default_rng(seed), 1, 0.1, 30, 0)
        centres = [mask[0].nonzero().double().mean(dim=0) for mask in (new_image >= level, new_label)]
        assert float((centres[0] - centres[1]).norm()) < 0.5 and 250 < new_label.sum() < 310


# ---- the random map ----


def test_a_random_map_is_rigid_and_within_its_bounds():
    rng = np.random.default_rng(0)
    angles, shifts, axes = [], [], []
    for _ in range(1000):
        theta = random_affine(rng, 0.1, 15.0).double().numpy()
        rotation, offset = theta[:, :3], theta[:, 3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-6)
        angles.append(math.degrees(math.acos(min(1.0, (np.trace(rotation) - 1) / 2))))
        skew = np.array(
            [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
        )
        axes.append(skew / np.linalg.norm(skew))
        shifts.append(offset / 2)  # in sides
    assert max(angles) <= 15.001 and np.mean(angles) == pytest.approx(7.5, abs=0.5)
    assert np.abs(shifts).max() <= 0.1 and np.std(shifts, axis=0) == pytest.approx(0.1 / 3**0.5, rel=0.08)
    # Uniform on the sphere: no preferred direction, every coordinate with variance 1/3.
    assert np.abs(np.mean(axes, axis=0)).max() < 5 * (1 / 3 / 1000) ** 0.5
    assert np.var(axes, axis=0) == pytest.approx(1 / 3, abs=0.05)


def test_the_bounds_are_those_that_were_asked_for():
    rng = Scripted(0.0, (1.0, 0.0, 0.0), 0.0, (0.0, 0.0, 0.0), 0.0)
    augment(blob(), blob(), rng, 0.5, 0.2, 30.0, 1.5)
    assert rng.bounds == [(-30.0, 30.0), (-0.2, 0.2), (0, 1.5)]


# ---- randomness ----


def test_the_same_generator_gives_the_same_bits():
    image = torch.randn(1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    label = (image > 0).float()
    one, two, other = (augment(image, label, np.random.default_rng(s), 1.0, 0.1, 15.0, 1.0) for s in (5, 5, 6))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])


def test_the_number_of_draws_does_not_depend_on_whether_it_is_applied():
    """So the maps of later pairs are the same at any probability."""
    states = []
    for probability in (0.0, 0.5, 1.0):
        rng = np.random.default_rng(11)
        for _ in range(5):
            augment(blob(), blob(), rng, probability, 0.1, 15.0, 1.0)
        states.append(rng.bit_generator.state)
    assert states[0] == states[1] == states[2]


def test_the_inputs_are_left_alone():
    image, label = blob(), (blob() > 0.5).float()
    augment(image, label, np.random.default_rng(0), 1.0, 0.3, 90.0, 2.0)
    assert torch.equal(image, blob()) and torch.equal(label, (blob() > 0.5).float())


# ---- smoothing ----


@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0])
def test_smoothing_keeps_a_constant(sigma):
    image = torch.full((1, 5, 6, 7), -3.25)
    torch.testing.assert_close(smooth(image, sigma), image, rtol=1e-6, atol=0)


def test_no_smoothing_returns_the_image():
    image = torch.randn(1, 4, 4, 4)
    assert smooth(image, 0.0) is image
    torch.testing.assert_close(smooth(image, 1e-3), image)


def test_smoothing_of_a_point_by_hand():
    image = torch.zeros(1, 1, 1, 31, dtype=torch.float64)
    image[..., 15] = 1
    result = smooth(image, 2.0)[0, 0, 0].numpy()
    place = np.arange(31) - 15
    weights = np.exp(-(place**2) / 8)
    np.testing.assert_allclose(result[5:26], (weights / weights.sum())[5:26], atol=1e-8)
    assert (result * place**2).sum() == pytest.approx(4, rel=1e-3), "the variance is sigma squared"


def test_smoothing_is_the_same_along_each_axis_and_leaves_the_label():
    image = torch.randn(1, 6, 6, 6, dtype=torch.float64)
    for order in ((0, 2, 1, 3), (0, 3, 2, 1), (0, 1, 3, 2)):
        torch.testing.assert_close(smooth(image.permute(order), 1.2), smooth(image, 1.2).permute(order))
    before, label = moved(blob())
    after, same = moved(blob(), sigma=1.0)
    assert torch.equal(label, same) and not torch.equal(before, after)
    torch.testing.assert_close(after, smooth(before, 1.0))


@pytest.mark.parametrize(
    ("image", "label"),
    [((1, 8, 8, 8), (1, 4, 4, 4)), ((8, 8, 8), (8, 8, 8)), ((2, 8, 8, 8), (2, 8, 8, 8)), ((1, 8, 8, 8), (8, 8, 8))],
)
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_shapes_that_do_not_fit(image, label, probability):
    with pytest.raises(ValueError, match=r"image has shape \(.*\) and label \(.*\); expected \(1, x, y, z\) for both"):
        augment(torch.zeros(image), torch.zeros(label), np.random.default_rng(0), probability, 0.1, 15.0, 1.0)
