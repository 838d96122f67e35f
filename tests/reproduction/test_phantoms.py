"""Tests of scenes: the 2-D shapes by hand, the 3-D patches against anatomy and against themselves."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from reproduction.data.phantoms.canvas import Canvas, block_mean, ct_noise, plane_waves, random_waves
from reproduction.data.phantoms.scenes import ORGANS, Phantom, ct_phantom, figure1_shapes

SEEDS = range(30)
TUBES = ("aorta", "oesophagus")


@pytest.fixture(scope="module")
def coarse() -> dict[str, list[Phantom]]:
    """Thirty patients an organ at 6 mm."""
    return {organ: [ct_phantom(organ, s, 32, 6.0) for s in SEEDS] for organ in ORGANS}


@pytest.fixture(scope="module")
def fine() -> dict[str, list[Phantom]]:
    """The first eight of them at 3 mm."""
    return {organ: [ct_phantom(organ, s) for s in range(8)] for organ in ORGANS}


def millilitres(phantom: Phantom) -> float:
    return float(phantom.label.sum()) * phantom.spacing_mm**3 / 1000


def section_mm2(phantom: Phantom) -> float:
    """Mean area of the axial sections."""
    return float(phantom.label.sum(axis=(0, 1)).mean()) * phantom.spacing_mm**2


# ---- building blocks, by hand ----


def test_canvas_puts_voxel_centres_around_its_centre():
    x, y, z = Canvas((10, 0, -10), 8.0, 4).axes
    assert x.tolist() == [7, 9, 11, 13]
    assert y.tolist() == [-3, -1, 1, 3]
    assert z.tolist() == [-13, -11, -9, -7]


def test_shapes_have_their_volumes():
    canvas = Canvas((0, 0, 0), 100.0, 100)  # 1 mm
    count = lambda region: int(region.mask.sum())  # noqa: E731
    assert count(canvas.box((-10, -5, 0), (10, 5, 30))) == 20 * 10 * 30
    ellipsoid = canvas.ellipsoid((3, -4, 5), (30, 20, 12))
    assert count(ellipsoid) == pytest.approx(4 / 3 * np.pi * 30 * 20 * 12, rel=0.01)
    capsule = canvas.capsule((-20, -10, -5), (20, 10, 5), 9)
    length = np.hypot(np.hypot(40, 20), 10)
    assert count(capsule) == pytest.approx(np.pi * 81 * length + 4 / 3 * np.pi * 729, rel=0.01)
    tube = canvas.tube(0.2 * canvas.heights, 0.0, 15.0, 10.0, (-20, 20), angle=0.3)
    assert count(tube) == pytest.approx(np.pi * 150 * 40, rel=0.01)
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    bent, _ = canvas.bean((0, 0, 0), frame, (14, 11, 30), 0.006)
    assert count(bent) == pytest.approx(4 / 3 * np.pi * 14 * 11 * 30, rel=0.01)


def test_paint_touches_the_region_alone():
    canvas = Canvas((0, 0, 0), 10.0, 10, fill_hu=-1000)
    canvas.paint(canvas.box((0, 0, 0), (2, 2, 2)), 40)
    assert (canvas.hu == 40).sum() == 8
    assert (canvas.hu[5:7, 5:7, 5:7] == 40).all()
    assert (canvas.hu == -1000).sum() == 992


def test_shape_outside_the_field_of_view_is_empty():
    canvas = Canvas((0, 0, 0), 10.0, 10)
    canvas.paint(canvas.ellipsoid((50, 0, 0), (5, 5, 5)), 40)
    canvas.paint(canvas.capsule((50, 50, 50), (60, 60, 60), 2), 40)
    assert (canvas.hu == -1000).all()


def test_block_mean_by_hand():
    volume = np.arange(6**3, dtype=np.float32).reshape(6, 6, 6)
    for factor in (2, 3):
        n = 6 // factor
        expected = volume.reshape(n, factor, n, factor, n, factor).mean(axis=(1, 3, 5))
        np.testing.assert_allclose(block_mean(volume, factor), expected, rtol=1e-6)


def test_plane_waves_are_voxel_means_of_cosines():
    rng = np.random.default_rng(3)
    vectors, phases = random_waves(rng, 5, (20.0, 60.0))
    fine = (np.arange(96) - 47.5) / 4  # 24 mm at 0.25 mm
    r = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"), axis=-1)
    direct = np.sqrt(2 / 5) * np.cos(r @ vectors.T + phases).sum(axis=-1)
    expected = block_mean(direct.astype(np.float32), 16)  # voxels of 4 mm
    centres = [((np.arange(6) - 2.5) * 4).astype(np.float32)] * 3
    np.testing.assert_allclose(plane_waves(centres, 4.0, vectors, phases), expected, atol=2e-3)


def test_noise_has_its_standard_deviation_and_no_mean_in_any_slice():
    noise = ct_noise(np.random.default_rng(0), 48, 15.0)
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(15.0, rel=0.02)
    assert np.abs(noise.mean(axis=(0, 1))).max() < 1e-3
    # neighbours in the plane go together, pixels three apart do not: a ramp takes away at distance what it gives nearby
    near, far = ((noise[:-k] * noise[k:]).mean() / noise.var() for k in (1, 3))
    assert near > 0.2
    assert far < 0.05


# ---- figure 1 ----


def test_shapes_by_hand():
    shapes = figure1_shapes(400)
    assert shapes.shape == (400, 400)
    assert shapes.dtype == bool
    at = lambda r, c: bool(shapes[int(r * 400), int(c * 400)])  # noqa: E731
    assert not at(0.2, 0.2)  # hole of the square
    assert at(0.12, 0.12)
    assert at(0.21, 0.5)  # heart of the star
    assert at(0.10, 0.5)  # its upper tip
    assert not at(0.32, 0.5)  # between its two lower tips
    assert not at(0.2, 0.8)
    assert at(0.2, 0.9)  # ring
    assert at(0.4, 0.13)
    assert at(0.58, 0.28)
    assert not at(0.45, 0.25)  # L
    assert at(0.4, 0.5)
    assert at(0.5, 0.6)
    assert not at(0.45, 0.45)  # cross
    assert not at(0.42, 0.8)
    assert at(0.55, 0.8)  # slit and rest of the disc
    assert at(0.8, 0.42)
    assert not at(0.8, 0.56)  # crescent


def test_shapes_have_the_area_of_their_formulas():
    size = 2000
    square, ring = 0.22**2 - 0.09**2, np.pi * (0.12**2 - 0.08**2)
    star = 10 * 0.5 * 0.135 * 0.052 * np.sin(np.pi / 5)
    cross = 2 * 0.24 * 0.025 - 0.025**2
    shapes = figure1_shapes(size)
    third = [slice(0, 700), slice(700, 1300), slice(1300, 2000)]
    # the cells of the first row, and the middle one
    for rows, columns, area in ((0, 0, square), (0, 1, star), (0, 2, ring), (1, 1, cross)):
        assert shapes[third[rows], third[columns]].sum() / size**2 == pytest.approx(area, rel=0.01)


def test_shapes_do_not_depend_on_the_resolution():
    areas = [figure1_shapes(n).mean() for n in (256, 1024)]
    assert areas[0] == pytest.approx(areas[1], rel=0.02)
    # 3 x 256 has a pixel centre at every pixel centre of 256
    np.testing.assert_array_equal(figure1_shapes(256), figure1_shapes(768)[1::3, 1::3])


def test_shapes_are_nine_bodies_and_three_holes_well_inside():
    shapes = figure1_shapes(512)
    _, bodies = ndimage.label(shapes)
    assert bodies == 11  # nine, the bars being three
    _, background = ndimage.label(~shapes)
    assert background == 3  # outside, the square's hole and the ring's
    margin = int(0.06 * 512)
    inner = shapes[margin:-margin, margin:-margin]
    assert shapes.sum() == inner.sum()


# ---- CT ----


@pytest.mark.parametrize("organ", ORGANS)
def test_phantom_is_what_the_docstring_says(organ, fine):
    phantom = fine[organ][0]
    assert phantom.image.shape == phantom.label.shape == (64, 64, 64)
    assert phantom.image.dtype == np.float32
    assert phantom.label.dtype == np.uint8
    assert phantom.spacing_mm == 3.0
    assert set(np.unique(phantom.label)) == {0, 1}
    assert phantom.image.min() >= -1024
    assert phantom.image.max() <= 3071
    with pytest.raises(dataclasses.FrozenInstanceError):
        phantom.spacing_mm = 1.0


@pytest.mark.parametrize("organ", ORGANS)
def test_same_seed_same_bits(organ, coarse):
    again = ct_phantom(organ, np.int64(4), np.int32(32), np.float32(6))
    assert again.image.tobytes() == coarse[organ][4].image.tobytes()
    assert again.label.tobytes() == coarse[organ][4].label.tobytes()


def test_bits_do_not_depend_on_the_number_of_threads():
    code = (
        "import hashlib; from reproduction.data.phantoms.scenes import ORGANS, ct_phantom; "
        "made = [ct_phantom(o, 3, 32, 6.0) for o in "
        "ORGANS]; print(hashlib.sha256(b''.join(p.image.tobytes() + p.label.tobytes() for p in made)).hexdigest())"
    )
    digests = set()
    for threads in ("1", "2"):
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **limits}, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("organ", ORGANS)
def test_no_two_seeds_alike(organ, coarse):
    assert len({p.image.tobytes() for p in coarse[organ]}) == len(SEEDS)
    assert len({p.label.tobytes() for p in coarse[organ]}) == len(SEEDS)


def test_organs_of_one_seed_are_different_patients(coarse):
    labels = {coarse[organ][0].label.tobytes() for organ in ORGANS}
    assert len(labels) == 3


def test_kidney_volumes_are_those_of_adults(coarse):
    volumes = [millilitres(p) for p in coarse["kidney"]]
    assert min(volumes) > 85
    assert max(volumes) < 260
    assert 135 < np.mean(volumes) < 180
    assert np.std(volumes) > 15


def test_kidney_lengths_are_those_of_adults(fine):
    for phantom in fine["kidney"]:
        points = np.argwhere(phantom.label) * phantom.spacing_mm
        # the longest extent along the principal axis, and one voxel
        axis = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
        extent = np.ptp(points @ axis) + phantom.spacing_mm
        assert 85 < extent < 135
        assert abs(axis[2]) > 0.85  # it stands nearly upright


def test_aortic_diameters_are_those_of_adults(fine):
    diameters = [2 * np.sqrt(section_mm2(p) / np.pi) for p in fine["aorta"]]
    assert min(diameters) > 17
    assert max(diameters) < 30
    assert 21 < np.mean(diameters) < 26


def test_oesophageal_sections_are_those_of_adults(fine):
    areas = [section_mm2(p) for p in fine["oesophagus"]]
    assert min(areas) > 140
    assert max(areas) < 340
    assert 180 < np.mean(areas) < 270


@pytest.mark.parametrize("organ", ORGANS)
def test_label_is_one_piece(organ, coarse, fine):
    for phantom in coarse[organ] + fine[organ]:
        assert ndimage.label(phantom.label)[1] == 1


@pytest.mark.parametrize("organ", TUBES)
def test_tubes_cross_the_patch(organ, coarse):
    for phantom in coarse[organ]:
        assert phantom.label.any(axis=(0, 1)).all()
        sides = phantom.label.copy()
        sides[1:-1, 1:-1] = 0
        assert not sides.any()


def test_kidney_lies_inside_the_patch(coarse):
    for phantom in coarse["kidney"]:
        assert phantom.label[1:-1, 1:-1, 1:-1].sum() == phantom.label.sum()


@pytest.mark.parametrize("organ", ORGANS)
def test_patch_is_centred_on_the_organ(organ, coarse, fine):
    offsets = []
    for phantom in coarse[organ] + fine[organ]:
        middle = (phantom.label.shape[0] - 1) / 2
        offset = np.array(ndimage.center_of_mass(phantom.label)) - middle
        # a tube's centre of mass within a patch follows its taper in z; x and y are centred
        along = offset[: 2 if organ in TUBES else 3]
        assert np.abs(along).max() < 1
        offsets.append(along * phantom.spacing_mm)
    # it is anywhere in the central 3 mm, not always in the middle of it
    assert np.std(offsets) > 0.5


@pytest.mark.parametrize("organ", ORGANS)
def test_coarse_and_fine_show_the_same_scene(organ, coarse, fine):
    for low, high in zip(coarse[organ], fine[organ], strict=False):
        assert millilitres(low) == pytest.approx(millilitres(high), rel=0.12)
        halved = block_mean(high.label.astype(np.float32), 2)
        overlap = 2 * (halved * low.label).sum() / (halved.sum() + low.label.sum())
        assert overlap > 0.75
        image = block_mean(high.image, 2)
        assert np.corrcoef(image.ravel(), low.image.ravel())[0, 1] > 0.97


def test_organ_has_its_hounsfield_units(coarse):
    limits = {"kidney": (20, 230), "aorta": (30, 360), "oesophagus": (0, 65)}
    for organ, (low, high) in limits.items():
        for phantom in coarse[organ]:
            core = ndimage.binary_erosion(phantom.label) if organ != "oesophagus" else phantom.label == 1
            assert low < np.median(phantom.image[core]) < high


def test_contrast_phases_differ_between_patients(coarse):
    means = [p.image[p.label == 1].mean() for p in coarse["aorta"]]
    assert min(means) < 50
    assert max(means) > 150


@pytest.mark.parametrize("organ", ORGANS)
def test_neighbours_look_alike_and_different(organ, coarse):
    """An intensity window cannot find the organ, yet fat borders it."""
    for phantom in coarse[organ][:10]:
        inside = phantom.label == 1
        low, high = np.percentile(phantom.image[inside], [15, 85])
        window = (phantom.image >= low) & (phantom.image <= high)
        assert 2 * (window & inside).sum() / (window.sum() + inside.sum()) < 0.75
        shell = ndimage.binary_dilation(inside, iterations=2) & ~inside
        assert phantom.image[shell].mean() < phantom.image[inside].mean() - 15


def test_axes_of_the_abdomen_are_ras(fine):
    above, below = [], []
    for phantom in fine["kidney"]:
        image = phantom.image
        assert (image[:20] > 250).sum() > 200  # the spine is to the left of a right kidney
        assert np.argwhere(image < -950)[:, 1].mean() < 31.5  # behind the back there is air
        soft = (image > 20) & (image < 140)
        above.append(soft[32:, 32:, 44:].mean())
        below.append(soft[32:, 32:, :20].mean())
    assert np.mean(above) > np.mean(below) + 0.2  # the liver above, fat and bowel below


@pytest.mark.parametrize("organ", TUBES)
def test_axes_of_the_chest_are_ras(organ, coarse):
    without_contrast = 0
    for phantom in coarse[organ]:
        bone = phantom.image[10:22] > 200  # near the middle of the body
        if bone[:, 21:].mean() < 0.02:
            without_contrast += 1
            assert bone[:, :16].mean() > 0.03  # the spine is behind
        lung = phantom.image < -600
        if organ == "aorta":
            assert lung[..., 22:].mean() > lung[..., :10].mean() + 0.05  # above the diaphragm
    assert without_contrast >= 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"organ": "spleen"}, "organ must be one of kidney, aorta, oesophagus; got 'spleen'"),
        ({"organ": None}, "organ must be one of"),
        ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
        ({"seed": 1.0}, "seed must be a whole number of at least 0; got 1.0"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"size": 15}, "size must be a whole number of at least 16; got 15"),
        ({"size": 32.0}, "size must be a whole number"),
        ({"spacing_mm": 0}, "spacing_mm must be a finite, positive number of mm; got 0"),
        ({"spacing_mm": -3.0}, "spacing_mm must be a finite, positive"),
        ({"spacing_mm": float("nan")}, "spacing_mm must be a finite, positive"),
        ({"spacing_mm": float("inf")}, "spacing_mm must be a finite, positive"),
        ({"spacing_mm": "3"}, "spacing_mm must be a number of mm; got '3'"),
        ({"spacing_mm": (3, 3, 3)}, "spacing_mm must be a number of mm"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ct_phantom(**{"organ": "kidney", "seed": 0, **arguments})


@pytest.mark.parametrize("size", [15, -1, 20.0, True, None])
def test_bad_sizes_of_the_shapes_are_refused(size):
    with pytest.raises(ValueError, match="size must be a whole number of at least 16"):
        figure1_shapes(size)


@pytest.mark.parametrize(("size", "spacing_mm"), [(16, 12.0), (17, 3.0), (48, 4.0), (64, 6.0), (16, 0.5)])
def test_other_fields_of_view(size, spacing_mm):
    for organ in ORGANS:
        phantom = ct_phantom(organ, 1, size, spacing_mm)
        assert phantom.image.shape == (size,) * 3
        assert np.isfinite(phantom.image).all()
        assert phantom.label.any()
