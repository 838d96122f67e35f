"""What nnU-Net writes next to its probabilities: names of the maps, where the image lies, the box it was cut to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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


def nnunet_classes(path: Path, count: int) -> tuple[tuple[str, ...], bool]:
    """Give the names of nnU-Net's maps, from its ``dataset.json``, and whether the first one is the background.

    Exclusive labels are in the order of their numbers, regions in that of the file. Without the file, which version 1
    and TotalSegmentator do not write, the maps are numbered from 0.
    """
    if not path.exists():
        return tuple(map(str, range(count))), False
    try:
        labels: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["labels"]
        if all(name.isdigit() for name in labels):  # version 1: number to name
            labels = {name: int(number) for number, name in labels.items()}
        labels.pop("ignore", None)
        regions = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
        numbers = {name: min(value) if isinstance(value, list) else int(value) for name, value in labels.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path.name}: expected nnU-Net's labels, got {error!r}") from None
    if regions:
        names = tuple(name for name, value in labels.items() if value not in (0, [0]))
    else:
        names = tuple(sorted(numbers, key=numbers.__getitem__))
    if len(names) != count:
        raise ValueError(
            f"{path.name} names {len(names)} maps ({', '.join(names)}), the file has {count}: they do not belong "
            f"together. Without {path.name} the maps are numbered"
        )
    return names, not regions
