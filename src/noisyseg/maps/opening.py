"""Files of probability maps, opened: which classes they hold, where these lie, and the maps one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.orientations import apply_orientation

from noisyseg.maps.grids import ENDINGS, Grid, grid_of, load, stem
from noisyseg.maps.nnunet import Classes, nnunet_classes, nnunet_grid, uncropped
from noisyseg.maps.numpy_files import NNUNET_KEYS, Stored, key_of, open_npy, open_npz
from noisyseg.maps.pickles import read_properties


class Options(NamedTuple):
    """What a person has to say where a file does not: see ``noisyseg threshold --help``."""

    key: str | None = None
    axes: str | None = None
    classes: tuple[str, ...] = ()
    reference: Path | None = None
    any_affine: bool = False


DEFAULT = Options()


class Maps(NamedTuple):
    """An open file of maps.

    `classes` are the names of the chosen ones ("" for the only map of a file), and iterating gives (name, map) in the
    file's order. Maps are in the order (x, y, z) of `grid`; without a grid (None) in that of the file, of `shape`.
    `many` says whether the file holds more maps than one, chosen or not; `values` are those of the classes in a label
    map; `kind` is that of `noisyseg.maps.nnunet.Classes`.
    """

    path: Path
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    grid: Grid | None
    many: bool
    read: Callable[[], Iterator[np.ndarray]]
    values: tuple[int, ...]
    kind: str

    def each(self) -> Iterator[tuple[str, np.ndarray]]:
        """Give every chosen class with its map; only one is in memory at a time where the file allows it."""
        for name, m in zip(self.classes, self.read(), strict=True):
            _check_axes(m, self.many)
            yield name, m


def inputs(path: Path) -> list[Path]:
    """Give the files of maps that a path names: itself, or those in a folder, sorted.

    Where a folder has ``.npz`` or ``.npy`` files, its NIfTI files are no maps: nnU-Net puts its segmentations there.
    """
    if not path.is_dir():
        if not path.exists():
            raise ValueError(f"{path}: there is no such file or folder")
        if not path.name.endswith(ENDINGS):
            raise ValueError(f"{path}: expected a name that ends in {', '.join(ENDINGS)}, or a folder of such files")
        return [path]
    files = sorted(p for p in path.iterdir() if p.name.endswith(ENDINGS) and not p.name.startswith(".") and p.is_file())
    arrays = [p for p in files if p.suffix in (".npz", ".npy")]
    if not files:
        raise ValueError(f"{path}: no file there ends in {', '.join(ENDINGS)}")
    return arrays or files


def open_maps(path: Path, options: Options = DEFAULT) -> Maps:
    """Open a file of maps: NIfTI, ``.npy``, ``.npz``, or what nnU-Net saves with ``--save_probabilities``.

    Raises
    ------
    ValueError
        If the file is not what its name says, or does not say which axis is which: what to name is in the message.
    """
    if path.name.endswith((".nii", ".nii.gz")):
        return _open_nifti(path, options)
    if path.name.endswith(".npy"):
        return _open_arrays(path, open_npy(path), options)
    key = key_of(path, options.key)
    stored = open_npz(path, key)
    properties = path.with_suffix(".pkl")
    if options.axes is None and (properties.exists() or key in NNUNET_KEYS):
        return _open_nnunet(path, stored, properties, options)
    return _open_arrays(path, stored, options)


def _open_nifti(path: Path, options: Options) -> Maps:
    image = load(path)
    shape = tuple(image.shape)
    axes = options.axes or {2: "xy", 3: "xyz", 4: "xyzc", 5: "xyz1c"}.get(len(shape), "")
    if axes == "xyzc" and shape[3] == 1:
        axes = "xyz1"
    whole = Stored(shape, lambda axis, places: _from_image(image, axis, places))
    spatial = tuple(shape[k] for k in _layout(axes, shape)[1])
    return _maps(path, whole, axes, grid_of(image, spatial, options.any_affine), options)


def _from_image(image: Any, axis: int | None, places: Sequence[int]) -> Iterator[np.ndarray]:
    if axis is None:
        yield np.asanyarray(image.dataobj)  # a map of memory where the file is not packed
        return
    for k in places:
        yield np.asanyarray(image.dataobj[(slice(None),) * axis + (k,)])


def _open_arrays(path: Path, stored: Stored, options: Options) -> Maps:
    shape = stored.shape
    if options.reference is None:
        if options.axes is None and len(shape) not in (2, 3):
            raise ValueError(
                f"an array of shape {shape}: name its axes, as in --axes czyx (c for the classes), or its image with "
                "--reference"
            )
        axes = options.axes or "zyx"[-len(shape) :]
        return _maps(path, stored, axes, None, options)
    grid = reference_grid(path, options)
    fitting = [options.axes] if options.axes else _fitting(shape, grid.shape)
    if len(fitting) != 1:
        tries = ", ".join(fitting) or "no order of them"
        raise ValueError(f"axes of shape {shape} for an image of {grid.shape}: {tries} would fit; name one with --axes")
    return _maps(path, stored, fitting[0], grid, options)


def _fitting(shape: tuple[int, ...], image: tuple[int, ...]) -> list[str]:
    """Give the orders of axes in which an array has the shape of an image."""
    names = "xyz"[: len(image)]
    orders = {names: image, names[::-1]: image[::-1]}
    if len(shape) == len(image):
        return [axes for axes, wanted in orders.items() if wanted == shape]
    return [
        axes
        for order, wanted in orders.items()
        for axes, at in ((f"c{order}", 0), (f"{order}c", len(image)))
        if len(shape) == len(image) + 1 and shape[:at] + shape[at + 1 :] == wanted
    ]


def _open_nnunet(path: Path, stored: Stored, properties: Path, options: Options) -> Maps:
    """Open a file of nnU-Net's, version 1 or 2: (class, z, y, x), with the geometry in its ``.pkl``."""
    if len(stored.shape) != 4:
        raise ValueError(f"expected nnU-Net's axes (class, z, y, x), got an array of shape {stored.shape}")
    classes = nnunet_classes(path.parent / "dataset.json", stored.shape[0])
    found: dict[str, Any] = read_properties(properties) if properties.exists() else {}
    if not found and options.reference is None:
        raise ValueError(
            f"{properties.name} is missing, into which nnU-Net writes where the image lies. Put it beside the map, or "
            "name the image with --reference; with --axes czyx the masks are written without a place"
        )
    grid, turn = None, None
    whole = tuple(found.get("shape_before_cropping", stored.shape[1:]))  # in an order of nnU-Net's choice
    if sorted(whole) != sorted(stored.shape[1:]):
        raise ValueError(
            f"{properties.name} is that of an image with the sides {whole}, the map has {stored.shape[1:]}: they do "
            "not belong together"
        )
    if "crop_bbox" in found and found["crop_bbox"] is not None:
        stored = uncropped(stored, found)
    if options.reference is not None:
        grid = reference_grid(path, options)
    elif "sitk_stuff" in found or "nibabel_stuff" in found or "itk_origin" in found:
        grid, turn = nnunet_grid(found, stored.shape[:0:-1])
    return _maps(path, stored, "czyx", grid, options, classes, turn)


def reference_grid(path: Path, options: Options) -> Grid:
    """Give the grid of the image that a map belongs to: the file, or in a folder that with the name of the case."""
    reference = options.reference
    assert reference is not None
    if reference.is_dir():
        names = [f"{stem(path)}{part}{ending}" for part in ("", "_0000") for ending in ENDINGS[:2]]
        found = [reference / name for name in names if (reference / name).exists()]
        if not found:
            raise ValueError(f"--reference: {reference} has none of {', '.join(names)}")
        reference = found[0]
    image = load(reference)
    return grid_of(image, tuple(image.shape[:3]), options.any_affine)


def _layout(axes: str, shape: tuple[int, ...]) -> tuple[int | None, tuple[int, ...]]:
    """Give the axis of the classes and the axes x, y, z of an array whose axes are named; 1 names one of length 1."""
    spatial = sorted(set(axes) - set("c1"))
    fits = len(axes) == len(shape) and "".join(spatial) in ("xy", "xyz") and len(set(axes)) == len(axes)
    if not fits or any(n != 1 for name, n in zip(axes, shape, strict=True) if name == "1"):
        raise ValueError(
            f"--axes: expected a letter for each axis of shape {shape}, of x, y, z, c for the classes and 1 for one of "
            f"length 1, as in czyx; got {axes!r}"
        )
    return (axes.index("c") if "c" in axes else None), tuple(axes.index(name) for name in spatial)


def _maps(
    path: Path,
    stored: Stored,
    axes: str,
    grid: Grid | None,
    options: Options,
    classes: Classes | None = None,
    turn: Any = None,
) -> Maps:
    axis, order = _layout(axes, stored.shape)
    count = 1 if axis is None else stored.shape[axis]
    spatial = tuple(stored.shape[k] for k in (order if grid else sorted(order)))
    if grid is not None and turn is None and spatial != grid.shape:
        raise ValueError(
            f"the map has {spatial} voxels along x, y, z (axes {axes} of an array of shape {stored.shape}), its image "
            f"{grid.shape}: name the axes with --axes, or another image with --reference"
        )
    numbers = tuple(range(count))
    names, values, kind = classes or (tuple(map(str, numbers)) if axis is not None else ("",), numbers, "")
    chosen = _chosen(names, options.classes) if options.classes else range(int(kind == "exclusive"), count)
    left = [k for k in range(len(axes)) if k != axis]  # of a slice
    squeeze = tuple(left.index(k) for k in left if axes[k] == "1")
    kept = [k for k in left if axes[k] != "1"]
    permute = tuple(kept.index(k) for k in order) if grid else tuple(range(len(kept)))

    def read() -> Iterator[np.ndarray]:
        for part in stored.slices(axis, chosen):
            m = np.asarray(part).squeeze(squeeze).transpose(permute)
            m = m if turn is None else apply_orientation(m, turn)
            if m.dtype.itemsize > 8:
                m = m.astype(np.float64)
            yield m if m.flags.forc and m.dtype.isnative else m.astype(m.dtype.newbyteorder("="), order="K")

    shape = grid.shape if grid else spatial
    chosen_values = tuple(values[k] for k in chosen)
    return Maps(path, tuple(names[k] for k in chosen), shape, grid, count > 1, read, chosen_values, kind)


def _chosen(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Give the places of classes named by name, by number, or by a range of numbers as in 1-3."""
    places = set()
    for word in wanted:
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        if word in names:
            places.add(names.index(word))
        elif span and int(span[2] or span[1]) < len(names):
            places |= set(range(int(span[1]), int(span[2] or span[1]) + 1))
        elif names == ("",):
            raise ValueError("--classes: the file has one map, and no classes to choose from; leave --classes out")
        else:
            raise ValueError(f"--classes: there is no {word!r}; expected names or numbers of {', '.join(names)}")
    return sorted(places)


def _check_axes(m: np.ndarray, many: bool) -> None:
    """Raise `ValueError` if the values along an axis sum to 1 wherever one looks: then that axis is the classes."""
    for axis in range(m.ndim):
        step = [max(1, n // 16) for n in m.shape]
        lines = m[tuple(slice(None) if k == axis else slice(None, None, step[k]) for k in range(m.ndim))]
        if m.shape[axis] > 1 and abs(lines.sum(axis=axis, dtype=np.float64) - 1).max() < 0.01:
            named = "is the axis of the classes" if not many else "is the axis of the classes, and not the one taken"
            raise ValueError(
                f"the values along axis {axis} of the map, of shape {m.shape}, sum to 1: probably that {named}. Name "
                "the axes of the file, as in --axes cxyz"
            )
