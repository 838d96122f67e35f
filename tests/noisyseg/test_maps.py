"""Files of probability maps: which axis is which, where the voxels lie, and masks that lie there too."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from noisyseg import dice, dice_threshold, f_beta, f_beta_threshold, jaccard, optimal_dice, tversky, tversky_threshold
from noisyseg.maps.grids import grid_at
from noisyseg.maps.metric import metric
from noisyseg.maps.nnunet import nnunet_classes
from noisyseg.maps.opening import Options, inputs, open_maps
from noisyseg.maps.pickles import read_properties
from noisyseg.maps.thresholding import Row, Settings, threshold_case

SHAPE = (7, 6, 5)
AFFINE = np.array([[-1.5, 0, 0, 30], [0, 0, 3, -20], [0, -2, 0, 7], [0, 0, 0, 1.0]])  # axes flipped and exchanged
M = (np.random.default_rng(0).random(SHAPE) ** 3).astype(np.float32)
P = np.stack([1 - M, 0.7 * M, 0.3 * M])  # exclusive classes, the first is the background


def save(path: Path, array: np.ndarray, affine: Any = AFFINE, **header: Any) -> Path:
    image = nib.Nifti1Image(array, affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def only(path: Path, **options: Any) -> np.ndarray:
    ((_, m),) = open_maps(path, Options(**options)).each()
    return m


def threshold(path: Path, out: Path, **settings: Any) -> list[Row]:
    return threshold_case(path, Settings(out, **settings))


# ---- NIfTI ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_mask_lies_where_its_map_does(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"case.1{ending}", M, sform_code=4, qform_code=1, xyzt_units=2, descrip=b"by a scanner")
    (row,) = threshold(path, tmp_path / "out")
    mask, given = nib.load(tmp_path / "out" / f"case.1{ending}"), nib.load(path)
    assert row.mask == f"case.1{ending}" and mask.get_data_dtype() == np.uint8
    assert np.array_equal(np.asanyarray(mask.dataobj), optimal_dice(M))
    assert np.array_equal(mask.affine, given.affine)
    for field in ("sform_code", "qform_code", "pixdim", "xyzt_units", "srow_x", "quatern_b", "qoffset_x"):
        assert np.array_equal(mask.header[field], given.header[field]), field
    assert row.threshold == dice_threshold(M) and row.promised == pytest.approx(2 * row.threshold)
    assert row.voxel_mm3 == pytest.approx(9)
    assert [p.name for p in (tmp_path / "out").iterdir()] == [row.mask]


def test_the_numbers_of_the_report(tmp_path: Path) -> None:
    m = np.array([1.0, 0.5, 0.5, 0.25, 0.25, 0.0]).reshape(6, 1, 1)
    (row,) = threshold(save(tmp_path / "x.nii", m), tmp_path / "out")
    assert (row.voxels_at_half, row.voxels_at_threshold, row.voxels_soft) == (3, 3, 2.5)
    assert row.threshold == 2 / 5.5 and row.promised == pytest.approx(4 / 5.5) and row.changed == 0
    (row,) = threshold(save(tmp_path / "y.nii", m), tmp_path / "out", metric=metric("f_beta", beta=3))
    assert (row.voxels_at_threshold, row.changed, row.threshold) == (5, pytest.approx(2 / 6), 2.5 / (5 + 9 * 2.5))


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii.gz", M)
    for out in ("a", "b"):
        threshold(path, tmp_path / out)
    assert (tmp_path / "a" / "x.nii.gz").read_bytes() == (tmp_path / "b" / "x.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("name", "parameters", "level", "score"),
    [
        ("dice", {}, dice_threshold, dice),
        ("jaccard", {}, dice_threshold, jaccard),
        ("f_beta", {"beta": 2.0}, f_beta_threshold, f_beta),
        ("tversky", {"alpha": 0.3, "beta": 1.2}, tversky_threshold, tversky),
    ],
)
def test_every_score_has_its_threshold_and_its_promise(tmp_path: Path, name, parameters, level, score) -> None:
    (row,) = threshold(save(tmp_path / "x.nii", M), tmp_path / "out", metric=metric(name, **parameters))
    mask = np.asanyarray(nib.load(tmp_path / "out" / "x.nii").dataobj)
    assert row.metric == name and row.threshold == level(M, **parameters)
    assert np.array_equal(mask, row.threshold <= M.astype(np.float64))
    assert row.promised == pytest.approx(score(mask, M, **parameters), rel=1e-12)


@pytest.mark.parametrize(
    "parameters", [{"name": "dice", "beta": 1}, {"name": "f_beta"}, {"name": "tversky", "beta": 1}]
)
def test_parameters_that_a_score_does_not_have_or_lacks(parameters: dict) -> None:
    with pytest.raises(ValueError, match=r"(alpha|beta): the score \w+ (needs|does not have) it"):
        metric(**parameters)


@pytest.mark.parametrize(("dtype", "slope"), [(np.int16, 1 / 1000), (np.uint8, 1 / 255), (">f4", None), ("f8", None)])
def test_every_type_of_voxel(tmp_path: Path, dtype: Any, slope: float | None) -> None:
    array = np.rint(M / slope).astype(dtype) if slope else M.astype(dtype)
    content = bytearray(nib.Nifti1Image(array, AFFINE, nib.Nifti1Header(endianness=">")).to_bytes())
    if slope:
        content[112:120] = np.array([slope, 0], ">f4").tobytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(content))
    assert np.allclose(only(tmp_path / "x.nii.gz"), M, atol=(slope or 0) + 1e-7)
    threshold(tmp_path / "x.nii.gz", tmp_path / "out")


@pytest.mark.parametrize("axes", ["xyzc", "cxyz", "zyxc", "xycz"])
def test_the_axes_of_a_nifti_of_classes(tmp_path: Path, axes: str) -> None:
    stored = P.transpose(["cxyz".index(letter) for letter in axes])
    path = save(tmp_path / "x.nii.gz", stored)
    maps = open_maps(path, Options(axes=None if axes == "xyzc" else axes, any_affine=axes != "xyzc"))
    assert maps.classes == ("0", "1", "2") and maps.many
    for (_, m), expected in zip(maps.each(), P, strict=True):
        assert np.array_equal(m, expected)


def test_vectors_of_itk_and_trailing_axes(tmp_path: Path) -> None:
    vectors = save(tmp_path / "x.nii", P.transpose(1, 2, 3, 0)[:, :, :, None])  # (x, y, z, 1, c)
    assert [np.array_equal(m, p) for (_, m), p in zip(open_maps(vectors).each(), P, strict=True)] == [True] * 3
    assert np.array_equal(only(save(tmp_path / "y.nii", M[..., None])), M)
    assert np.array_equal(only(save(tmp_path / "z.nii", M[:, :, 0])), M[:, :, 0])


def test_classes_are_chosen_by_number_and_range(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii.gz", P.transpose(1, 2, 3, 0))
    rows = threshold(path, tmp_path / "out", options=Options(classes=("1-2",)))
    assert [row.mask for row in rows] == ["x_1.nii.gz", "x_2.nii.gz"]
    (row,) = threshold(path, tmp_path / "one", options=Options(classes=("2",)))
    assert (row.mask, row.label) == ("x.nii.gz", "2") and row.threshold == dice_threshold(P[2])
    with pytest.raises(ValueError, match="there is no '3'; expected names or numbers of 0, 1, 2"):
        open_maps(path, Options(classes=("3",)))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".npz", ".npy"])
def test_many_classes_are_never_in_memory_at_once(tmp_path: Path, ending: str) -> None:
    classes = 40
    maps = np.random.default_rng(0).random((classes, 32, 32, 32), dtype=np.float32)
    path = tmp_path / f"x{ending}"
    if "nii" in ending:
        save(path, maps.transpose(1, 2, 3, 0))
    elif ending == ".npz":
        np.savez_compressed(path, maps)
    else:
        np.save(path, maps)
    options = Options(axes=None if "nii" in ending else "czyx")
    list(open_maps(path, options).each())  # whatever is loaded once
    tracemalloc.start()
    for (_, m), expected in zip(open_maps(path, options).each(), maps, strict=True):
        assert m.shape == expected.shape
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < maps.nbytes / 4


# ---- NumPy's files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["xyz", "zyx", "cxyz", "xyzc", "czyx", "zyxc"])
def test_the_order_of_an_array_is_found_with_its_image(tmp_path: Path, axes: str) -> None:
    image = save(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.int16))
    full = P if "c" in axes else P[1]
    np.save(tmp_path / "x.npy", full.transpose([("cxyz" if "c" in axes else "xyz").index(k) for k in axes]))
    maps = open_maps(tmp_path / "x.npy", Options(reference=image))
    for (_, m), expected in zip(maps.each(), np.atleast_1d(full) if "c" in axes else [full], strict=True):
        assert np.array_equal(m, expected)
    (row, *_) = threshold(tmp_path / "x.npy", tmp_path / "out", options=Options(reference=image))
    mask = nib.load(tmp_path / "out" / row.mask)
    assert np.array_equal(mask.affine, AFFINE) and mask.shape == SHAPE


def test_an_order_that_is_not_clear_has_to_be_named(tmp_path: Path) -> None:
    cube = M[:5, :5, :5]
    image = save(tmp_path / "image.nii.gz", np.zeros((5, 5, 5), np.int16))
    np.save(tmp_path / "x.npy", cube)
    with pytest.raises(ValueError, match="xyz, zyx would fit; name one with --axes"):
        open_maps(tmp_path / "x.npy", Options(reference=image))
    assert np.array_equal(only(tmp_path / "x.npy", reference=image, axes="zyx"), cube.T)
    np.save(tmp_path / "y.npy", M[:4])
    with pytest.raises(ValueError, match="no order of them would fit"):
        open_maps(tmp_path / "y.npy", Options(reference=image))
    with pytest.raises(ValueError, match="name the axes with --axes, or another image"):
        open_maps(tmp_path / "y.npy", Options(reference=image, axes="xyz"))


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_without_a_place_give_arrays(tmp_path: Path, order: Any) -> None:
    np.savez(tmp_path / "x.npz", other=np.zeros(3), map=np.asarray(P.transpose(0, 3, 2, 1), order=order))
    with pytest.raises(ValueError, match="expected one array, found other, map; name one with --key"):
        open_maps(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="there is no array 'maps'"):
        open_maps(tmp_path / "x.npz", Options(key="maps"))
    with pytest.raises(ValueError, match="name its axes, as in --axes czyx"):
        open_maps(tmp_path / "x.npz", Options(key="map"))
    rows = threshold(tmp_path / "x.npz", tmp_path / "out", options=Options(key="map", axes="czyx"))
    assert [row.mask for row in rows] == ["x_0.npz", "x_1.npz", "x_2.npz"] and rows[0].voxel_mm3 is None
    with np.load(tmp_path / "out" / "x_1.npz") as arrays:
        assert arrays["mask"].dtype == np.uint8 and np.array_equal(arrays["mask"].T, optimal_dice(P[1]))
    np.save(tmp_path / "y.npy", M)
    (row,) = threshold(tmp_path / "y.npy", tmp_path / "out")
    assert np.array_equal(np.load(tmp_path / "out" / row.mask), optimal_dice(M))


@pytest.mark.parametrize("axes", ["xyzx", "xy", "xyzq", "xyc", "xy1", "zyxc1"])
def test_axes_that_make_no_sense(tmp_path: Path, axes: str) -> None:
    np.save(tmp_path / "x.npy", M)
    with pytest.raises(ValueError, match="--axes: expected a letter for each axis of shape") as error:
        open_maps(tmp_path / "x.npy", Options(axes=axes)) if axes != "xyc" else open_maps(
            save(tmp_path / "x.nii", P), Options(axes=axes)
        )
    assert repr(axes) in str(error.value)


def test_an_axis_of_classes_is_recognised_by_its_sums(tmp_path: Path) -> None:
    """A softmax sums to 1 over its classes; no axis of an image does."""
    for path in (save(tmp_path / "x.nii.gz", P), save(tmp_path / "y.nii", P[:, :, :, 0])):
        with pytest.raises(ValueError, match=r"the values along axis 0 of the map, .* sum to 1: .* --axes cxyz"):
            list(open_maps(path).each())


def test_what_is_in_a_folder(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii", ".hidden.nii", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in inputs(tmp_path)] == ["a.nii", "b.nii.gz"]
    (tmp_path / "a.npz").touch()
    assert [path.name for path in inputs(tmp_path)] == ["a.npz"], "nnU-Net puts its segmentations next to its maps"
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("empty", "no file there ends in"),
        ("none", "no such file"),
        ("notes.txt", "expected a name"),
    ):
        with pytest.raises(ValueError, match=message):
            inputs(tmp_path / path)


# ---- voxels that count, warnings ------------------------------------------------------------------------------------


def test_voxels_that_do_not_count(tmp_path: Path) -> None:
    where = np.zeros(SHAPE, np.uint8)
    where[2:5] = 1
    roi = save(tmp_path / "roi.nii.gz", where)
    broken = M.copy()
    broken[where == 0] = np.nan  # what is outside is not looked at
    (row,) = threshold(save(tmp_path / "x.nii.gz", broken), tmp_path / "out", where=roi)
    mask = np.asanyarray(nib.load(tmp_path / "out" / "x.nii.gz").dataobj)
    assert np.array_equal(mask, optimal_dice(M, where=where == 1)) and row.voxels_soft == pytest.approx(M[2:5].sum())
    (tmp_path / "rois").mkdir()
    save(tmp_path / "rois" / "x.nii", where)
    assert threshold(tmp_path / "x.nii.gz", tmp_path / "again", where=tmp_path / "rois") == [row]
    np.save(tmp_path / "roi.npy", where == 1)
    assert threshold(tmp_path / "x.nii.gz", tmp_path / "array", where=tmp_path / "roi.npy") == [row]


@pytest.mark.parametrize(
    ("m", "warning"),
    [
        (0 * M, "0 everywhere"),
        (0.4 * M, "no voxel reaches 1/2 .* decide first whether the structure is there"),
        (np.where(M > 0.5, 0.999, 0.0), "do not believe the promised score"),
        (0.5 + M / 2, "is this the background"),
        (0.3 + 0.0 * M, "is this the background"),
        (np.where(np.arange(7)[:, None, None] < 2, 0.3, 0.01) + 0 * M, "3.* times as large as the soft volume"),
    ],
)
def test_what_a_person_should_know(tmp_path: Path, m: np.ndarray, warning: str) -> None:
    (row,) = threshold(save(tmp_path / "x.nii", m.astype(np.float32)), tmp_path / "out")
    assert re.search(warning, row.warnings), row.warnings


def test_nothing_to_warn_of(tmp_path: Path) -> None:
    m = np.zeros((40, 40, 4), np.float32)
    m[5:20, 5:20], m[20:22, 5:20], m[22:24, 5:20] = 0.98, 0.6, 0.2
    (row,) = threshold(save(tmp_path / "x.nii", m), tmp_path / "out")
    assert row.warnings == ""


# ---- nnU-Net --------------------------------------------------------------------------------------------------------


def nnunet(
    path: Path, properties: dict[str, Any] | None, labels: dict | None = None, key: str = "probabilities"
) -> Path:
    """What nnU-Net saves of a case: the classes P, as it stores them."""
    np.savez_compressed(path, **{key: P.transpose(0, 3, 2, 1)})
    if properties is not None:
        path.with_suffix(".pkl").write_bytes(pickle.dumps(properties))
    if labels is not None:
        (path.parent / "dataset.json").write_text(json.dumps({"labels": labels}))
    return path


#: Of an image with AFFINE, as SimpleITK says it: left and back are positive.
ITK = {"spacing": (1.5, 2.0, 3.0), "origin": (-30.0, 20.0, 7.0), "direction": (1.0, 0, 0, 0, 0, -1.0, 0, -1.0, 0)}
EXCLUSIVE = {"background": 0, "tumour": 2, "kidney": 1}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


@pytest.mark.parametrize(
    "properties",
    [
        {"sitk_stuff": ITK, "spacing": [3.0, 2.0, 1.5]},
        {"nibabel_stuff": {"original_affine": AFFINE}, "spacing": [np.float64(3), np.float32(2), 1.5]},
        {f"itk_{name}": value for name, value in ITK.items()},
    ],
    ids=["SimpleITK", "nibabel", "version 1"],
)
def test_the_geometry_of_nnunet(tmp_path: Path, properties: dict) -> None:
    key = "softmax" if "itk_origin" in properties else "probabilities"
    path = nnunet(tmp_path / "case_7.npz", properties, EXCLUSIVE, key)
    rows = threshold(path, tmp_path / "out")
    assert [row.mask for row in rows] == ["case_7_kidney.nii.gz", "case_7_tumour.nii.gz"]
    for row, expected in zip(rows, P[1:], strict=True):
        mask = nib.load(tmp_path / "out" / row.mask)
        assert np.allclose(mask.affine, AFFINE) and (mask.header["sform_code"], mask.header["qform_code"]) == (1, 1)
        assert np.array_equal(np.asanyarray(mask.dataobj), optimal_dice(expected))


def test_images_that_nnunet_turned_are_turned_back(tmp_path: Path) -> None:
    """Its readers `…WithReorient` bring images to RAS; masks are in the order of the image as it was."""
    image = nib.Nifti1Image(M, AFFINE)
    turned = nib.as_closest_canonical(image)
    maps = np.stack([1 - np.asanyarray(turned.dataobj), np.asanyarray(turned.dataobj)])
    np.savez_compressed(tmp_path / "x.npz", probabilities=maps.transpose(0, 3, 2, 1))
    lps = np.diag([-1.0, -1.0, 1.0]) @ turned.affine[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    for properties in (
        {"nibabel_stuff": {"original_affine": AFFINE, "reoriented_affine": turned.affine}},
        {
            "sitk_stuff": {
                "spacing": tuple(spacing),
                "origin": tuple(lps[:, 3]),
                "direction": tuple((lps[:, :3] / spacing).ravel()),
                "original_orientation": "".join(nib.aff2axcodes(AFFINE)),
            }
        },
    ):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(properties))
        maps = open_maps(tmp_path / "x.npz", Options(classes=("1",)))
        ((_, m),) = maps.each()
        assert maps.grid is not None and np.allclose(maps.grid.header.get_best_affine(), AFFINE)
        assert np.array_equal(m, M) and maps.shape == SHAPE


def test_maps_that_nnunet_1_cropped_are_put_back(tmp_path: Path) -> None:
    """The box's end may be wrong by rounding; its start and the map's size count."""
    properties = {f"itk_{name}": value for name, value in ITK.items()}
    properties |= {"original_size_of_raw_data": np.array([9, 8, 7]), "crop_bbox": [[2, 7], [1, 99], [0, 7]]}
    maps = open_maps(nnunet(tmp_path / "x.npz", properties, key="softmax"), Options(classes=("1",)))
    ((_, m),) = maps.each()
    expected = np.zeros((7, 8, 9), np.float32)
    expected[:, 1:7, 2:7] = P[1]
    assert np.array_equal(m, expected) and maps.shape == (7, 8, 9)
    properties["crop_bbox"] = [[5, 10], [1, 7], [0, 7]]
    with pytest.raises(ValueError, match="no crop_bbox that fits"):
        open_maps(nnunet(tmp_path / "x.npz", properties, key="softmax"))


def test_the_names_of_nnunet(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    for labels, names, background in (
        (EXCLUSIVE, ("background", "kidney", "tumour"), True),
        ({**EXCLUSIVE, "ignore": 3}, ("background", "kidney", "tumour"), True),
        ({"0": "background", "2": "tumour", "1": "kidney"}, ("background", "kidney", "tumour"), True),
        (REGIONS, ("whole", "core", "enhancing"), False),
    ):
        path.write_text(json.dumps({"labels": labels}))
        assert nnunet_classes(path, 3) == (names, background)
        with pytest.raises(ValueError, match=r"dataset\.json names 3 maps \(.*\), the file has 4"):
            nnunet_classes(path, 4)
    assert nnunet_classes(tmp_path / "none.json", 2) == (("0", "1"), False)
    for text in ("{", "[]", '{"labels": {"a": "b", "c": [["d"]]}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="expected nnU-Net's labels"):
            nnunet_classes(path, 2)


def test_without_its_pkl_nnunets_map_needs_its_image(tmp_path: Path) -> None:
    path = nnunet(tmp_path / "x.npz", None)
    with pytest.raises(ValueError, match=r"x\.pkl is missing, .* name the image with --reference"):
        open_maps(path)
    images = tmp_path / "images"
    images.mkdir()
    with pytest.raises(ValueError, match=r"--reference: .* has none of x\.nii\.gz, .*x_0000\.nii"):
        open_maps(path, Options(reference=images))
    save(images / "x_0000.nii.gz", np.zeros(SHAPE, np.int16))
    maps = open_maps(path, Options(reference=images))
    assert maps.grid is not None and np.array_equal(maps.grid.header.get_best_affine(), AFFINE)
    assert all(np.array_equal(m, expected) for (_, m), expected in zip(maps.each(), P, strict=True))
    assert open_maps(path, Options(axes="czyx")).grid is None
    save(images / "x_0000.nii.gz", np.zeros((5, 6, 7), np.int16))
    with pytest.raises(ValueError, match=r"its image \(5, 6, 7\)"):
        open_maps(path, Options(reference=images))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_properties_are_read_as_numpy_pickles_them(tmp_path: Path, protocol: int) -> None:
    properties = {
        "a": np.eye(4),
        "f": np.eye(3, 2, order="F").T,
        "b": OrderedDict(c=np.float32(2)),
        "d": [(1, "x", None)],
    }
    path = tmp_path / "x.pkl"
    with path.open("wb") as file:
        pickle.dump(properties, file, protocol=protocol)
    try:
        found = read_properties(path)
    except ValueError as error:
        assert protocol == 2 and "_codecs.encode" in str(error)  # no nnU-Net writes protocol 2
        return
    assert np.array_equal(found["a"], np.eye(4)) and np.array_equal(found["f"], np.eye(3, 2).T)
    assert found["b"] == {"c": 2} and found["d"] == [(1, "x", None)]


class Attack:
    def __init__(self, call: Any, *words: Any) -> None:
        self.call, self.words = call, words

    def __reduce__(self) -> Any:
        return self.call, self.words


@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_that_is_an_attack_runs_nothing(tmp_path: Path, nested: bool) -> None:
    run = tmp_path / "run"
    for call, word in ((os.system, f"touch {run}"), (exec, f"import os; os.mkdir({str(run)!r})")):
        attack = Attack(call, word)
        content = {"sitk_stuff": {**ITK, "x": attack}} if nested else attack
        pickle.loads(pickle.dumps(content))
        assert run.exists(), "the trap is one"
        run.unlink() if run.is_file() else run.rmdir()
        path = nnunet(tmp_path / "x.npz", None)
        path.with_suffix(".pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=r"x\.pkl: it asks for (posix\.system|builtins\.exec), .* nothing was run"):
            open_maps(path)
        assert not run.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04}", b"nothing", pickle.dumps([1]), pickle.dumps({"sitk_stuff": 1})])
def test_a_damaged_pickle(tmp_path: Path, content: bytes) -> None:
    path = nnunet(tmp_path / "x.npz", None)
    path.with_suffix(".pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"\.pkl"):
        open_maps(path)


def test_a_grid_of_an_affine_has_both_forms() -> None:
    buffer = io.BytesIO()
    grid_at(AFFINE, SHAPE).write(M > 0.5, buffer)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(buffer.getvalue()))
    assert np.allclose(image.get_sform(), AFFINE) and np.allclose(image.get_qform(), AFFINE)
    assert image.header.get_xyzt_units()[0] == "mm"
