"""What nnU-Net writes next to its probabilities: names of the maps, where the image lies, the box it was cut to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.orientations import aff2axcodes, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from noisyseg.maps.grids import Grid, grid_at
from noisyseg.maps.numpy_files import Stored


def nnunet_grid(found: dict[str, Any], shape: tuple[int, ...]) -> tuple[Grid | None, Any]:
    """Give the grid of nnU-Net's properties, and how its array is turned into it (None: not at all)."""
    try:
        if "nibabel_stuff" in found:
            stuff = found["nibabel_stuff"]
            affine = np.asarray(stuff.get("reoriented_affine", stuff["original_affine"]), dtype=np.float64)
            codes = aff2axcodes(stuff["original_affine"])
        else:
            stuff = found.get("sitk_stuff") or {name.removeprefix("itk_"): found[name] for name in found}
            if len(stuff["spacing"]) != 3:
                return None, None
            affine = np.eye(4)
            affine[:3, :3] = np.reshape(stuff["direction"], (3, 3)) * np.asarray(stuff["spacing"])
            affine[:3, 3] = stuff["origin"]
            affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK counts to the left and back, NIfTI the other way
            codes = tuple(stuff.get("original_orientation", "")) or aff2axcodes(affine)
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
        if np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
            return grid_at(affine, shape), None
        turned = [shape[int(np.flatnonzero(turn[:, 0] == k)[0])] for k in range(3)]
        return grid_at(affine @ inv_ornt_aff(turn, shape), tuple(turned)), turn
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"its .pkl has no geometry that nnU-Net writes ({error!r}); use --reference") from None


def uncropped(stored: Stored, found: dict[str, Any]) -> Stored:
    """Put the maps of nnU-Net 1, which are cropped, back into their image, where they are 0."""
    try:
        full = tuple(int(n) for n in found["original_size_of_raw_data"])
        starts = [int(low) for low, _ in found["crop_bbox"]]
        box = tuple(slice(low, low + n) for low, n in zip(starts, stored.shape[1:], strict=True))
        if len(full) != 3 or any(cut.start < 0 or cut.stop > n for cut, n in zip(box, full, strict=True)):
            raise ValueError("the box is outside the image")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its .pkl has no crop_bbox that fits the map of shape {stored.shape}: {error}") from None

    def run(axis: int | None, places: Sequence[int]) -> Iterator[np.ndarray]:
        for part in stored.slices(axis, places):
            whole = np.zeros(full, part.dtype)
            whole[box] = part
            yield whole

    return Stored((stored.shape[0], *full), run)


class Classes(NamedTuple):
    """What ``dataset.json`` says about the maps of a file: names, values in a label map, and what kind they are of.

    `kind` is ``exclusive`` (the first map then is the background), ``nested`` (regions, each within the one before it),
    ``regions`` (others), or empty without the file.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    kind: str


def nnunet_classes(path: Path, count: int) -> Classes:
    """Read nnU-Net's ``dataset.json``.

    Exclusive labels are in the order of their numbers, regions in that of the file; a region's value is that of
    ``regions_class_order``. Without the file, which version 1 and TotalSegmentator do not write, the maps are numbered
    from 0.
    """
    if not path.exists():
        return Classes(tuple(map(str, range(count))), tuple(range(count)), "")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        labels = content["labels"]
        if all(name.isdigit() for name in labels):  # version 1: number to name
            labels = {name: int(number) for number, name in labels.items()}
        labels.pop("ignore", None)
        regions = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
        numbers = {name: min(value) if isinstance(value, list) else int(value) for name, value in labels.items()}
        kind = "exclusive"
        if regions:
            names = tuple(name for name, value in labels.items() if value not in (0, [0]))
            values = tuple(int(value) for value in content.get("regions_class_order") or range(1, len(names) + 1))
            sets = [set(np.atleast_1d(labels[name]).tolist()) for name in names]
            kind = "nested" if all(inner <= outer for outer, inner in pairwise(sets)) else "regions"
        else:
            names = tuple(sorted(numbers, key=numbers.__getitem__))
            values = tuple(numbers[name] for name in names)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path.name}: expected nnU-Net's labels, got {error!r}") from None
    if len(names) != count or len(values) != count:
        raise ValueError(
            f"{path.name} names {len(names)} maps ({', '.join(names)}), the file has {count}: they do not belong "
            f"together. Without {path.name} the maps are numbered"
        )
    return Classes(names, values, kind)
