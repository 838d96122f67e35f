"""One case: the maps of all its classes, and one label map of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from noisyseg._core.arrays import check_unit
from noisyseg._core.files import atomic_file
from noisyseg.classes import TOLERANCE, nested_labels, optimal_labels
from noisyseg.maps.grids import stem
from noisyseg.maps.opening import Maps, open_maps
from noisyseg.maps.thresholding import (
    SURE,
    Row,
    Settings,
    check_new,
    clipped,
    file_ending,
    in_files,
    read_where,
    sums,
    voxel_mm3,
    write_voxels,
)

KINDS = ("exclusive", "nested")
LARGEST = 255  # of uint8


def label_case(path: Path, settings: Settings) -> list[Row]:
    """Write the label map of one file, and give a row of the report for each of its classes, which share the gap.

    The classes are in memory together. `Settings.labels` says how they lie: ``exclusive``, for `optimal_labels`, or
    ``nested``, for `nested_labels`, the largest first. Of exclusive maps that sum to 1 everywhere the first is the
    background, unless classes were chosen; a crop's surroundings, where all maps are 0, do not count. The value of a
    class is that of ``dataset.json``, or its number in the file, plus 1 where map 0 is a class.

    Raises
    ------
    ValueError, OSError
        As `noisyseg.maps.thresholding.threshold_case`.
    """
    maps = open_maps(path, settings.options)
    nested = settings.labels == "nested"
    if not maps.many:
        raise ValueError("--labels: there is one map, and one map makes a mask; leave --labels out")
    if maps.kind not in ("", settings.labels):
        found = "overlap without being nested: leave --labels out" if maps.kind == "regions" else f"are {maps.kind}"
        raise ValueError(f"--labels {settings.labels}: the classes of dataset.json {found}")
    where = None if settings.where is None else read_where(settings.where, maps)
    target = settings.out / f"{stem(path)}{file_ending(maps)}"
    check_new((target,), settings.overwrite)
    m, names, values = _read(maps, settings.clip), maps.classes, maps.values
    whole = not maps.kind and not settings.options.classes and _complete(m)
    if whole and nested:
        raise ValueError("--labels nested: the maps sum to 1 everywhere, so they are exclusive; use --labels exclusive")
    if whole:
        m, names, values = m[1:], names[1:], values[1:]
    values = tuple(value + (min(values) == 0) for value in values)
    if max(values) > LARGEST:
        raise ValueError(f"--labels: a class has the value {max(values)}, and a label map holds up to {LARGEST}")
    try:
        found = nested_labels(m, where=where) if nested else optimal_labels(m, background=None, where=where)
    except ValueError as error:
        raise ValueError(in_files(str(error)).removeprefix("m: ")) from None
    labels, gap = np.empty_like(m[0], found[0].dtype), float(found[1])
    labels[...] = found[0]  # in the layout of the maps, in which they are added up
    rows, soft_before = [], math.inf
    for k, (name, value) in enumerate(zip(names, values, strict=True)):
        mask = labels > k if nested else labels == k + 1
        x, mask = (m[k], mask) if where is None else (m[k][where], mask[where])
        soft, inside, ones, half = sums(x, mask)
        promised = settings.metric.score(inside, ones, soft)
        notes = ["no voxel has this label"] * (ones == 0)
        if promised > SURE and ones:
            notes.append("nearly all values are 0 or 1, as after training with a soft-Dice loss: do not believe it")
        if nested and soft > soft_before:
            notes.append("larger than the region before it: nested regions come the largest first")
        soft_before = soft
        numbers = {
            "threshold": promised / 2,
            "promised": promised,
            "voxels_at_half": half,
            "voxels_at_threshold": ones,
            "voxels_soft": soft,
            "voxel_mm3": voxel_mm3(maps),
            "changed": float((mask != (x >= 0.5)).mean()),
            "value": value,
            "gap": gap,
            "warnings": "; ".join(notes),
        }
        rows.append(Row(stem(path), name, target.name, settings.metric.name, **numbers))
    coded = np.array([0, *values], np.uint8)[labels]
    with atomic_file(target) as file:
        write_voxels(coded, target, file, maps)
    return rows


def _read(maps: Maps, clip: bool) -> np.ndarray:
    """Give the maps of all chosen classes, the classes first, each in the layout of the file."""
    m = np.empty(0)
    for k, (name, x) in enumerate(maps.each()):
        x = clipped(x) if clip else x
        try:
            check_unit("m", x)
        except ValueError as error:
            raise ValueError(f"class {name}: {in_files(str(error))}") from None
        if k == 0:
            turned = x.flags.f_contiguous
            m = np.empty((len(maps.classes), *(x.shape[::-1] if turned else x.shape)), np.result_type(x, np.float32))
            m = m.transpose(0, *range(m.ndim - 1, 0, -1)) if turned else m
        m[k] = x
    return m


def _complete(m: np.ndarray) -> bool:
    """Whether maps sum to 1 everywhere but where all of them are 0: then one of them is the background."""
    total = m.sum(axis=0)
    return bool(total.any() and ((abs(total - 1) < TOLERANCE) | (total == 0)).all())
