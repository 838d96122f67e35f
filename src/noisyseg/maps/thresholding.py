"""One case: its maps, each with the best threshold for a score, their masks, and what to know about them."""

from __future__ import annotations

import math
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from noisyseg._core import refusals
from noisyseg._core.arrays import is_binary
from noisyseg._core.files import atomic_file, uninterrupted
from noisyseg._core.levels import mask_at_least
from noisyseg._core.walk import BLOCK, sum_of
from noisyseg.linear_fractional import tversky_threshold
from noisyseg.maps.figure import draw
from noisyseg.maps.grids import check_same_place, load, stem
from noisyseg.maps.metric import Metric
from noisyseg.maps.numpy_files import key_of, open_npy, open_npz
from noisyseg.maps.opening import Maps, Options, open_maps

SURE = 0.99  # a promised score above it is not believed: the values are nearly all 0 or 1
GROWTH = 1.25  # a mask so many times as large as the soft volume is no measure of volume


class Settings(NamedTuple):
    """How all cases of a command are treated."""

    out: Path
    metric: Metric = Metric("dice", 1.0, 1.0, 0.5)
    options: Options = Options()
    where: Path | None = None
    clip: bool = False
    figure: bool = False
    overwrite: bool = False


class Row(NamedTuple):
    """A line of the report. Volumes are in voxels; `changed` is the share of the voxels that count."""

    case: str
    label: str
    mask: str
    metric: str
    threshold: float
    promised: float
    voxels_at_half: int
    voxels_at_threshold: int
    voxels_soft: float
    voxel_mm3: float | None
    changed: float
    warnings: str


def threshold_case(path: Path, settings: Settings) -> list[Row]:
    """Write the masks of one file, all or none of them, and give a row of the report for each.

    Raises
    ------
    ValueError
        If a map is none, or a file does not fit: what was found, and what to do.
    OSError
        If a file cannot be read or written; a mask that exists is one, unless `overwrite` is set.
    """
    maps = open_maps(path, settings.options)
    where = None if settings.where is None else read_where(settings.where, maps)
    targets = {name: settings.out / mask_name(maps, name) for name in maps.classes}
    if len(set(targets.values())) < len(targets):
        raise ValueError(f"classes {', '.join(maps.classes)} give masks of one name; choose with --classes")
    pictures = {name: target.with_name(f"{stem(target)}.png") for name, target in targets.items() if settings.figure}
    for target in (*targets.values(), *pictures.values()):
        if target.exists() and not settings.overwrite:
            raise FileExistsError(f"{target} exists; replace it with --overwrite, or choose another --out")
    rows = []
    with ExitStack() as files:
        for name, m in maps.each():
            try:
                t, mask, row = _threshold(m, where, settings, maps.many)
            except ValueError as error:
                raise ValueError(f"{f'class {name}: ' if name else ''}{_in_files(str(error))}") from None
            target = targets[name]
            with uninterrupted():
                file = files.enter_context(atomic_file(target))
            if maps.grid:
                maps.grid.write(mask, file)
            elif target.suffix == ".npy":
                np.save(file, mask.view(np.uint8))
            else:
                np.savez_compressed(file, mask=mask.view(np.uint8))
            if settings.figure:
                with uninterrupted():
                    file = files.enter_context(atomic_file(pictures[name]))
                draw(file, m, t, mask, settings.metric, row["promised"])
            mm3 = maps.grid.voxel_mm3 if maps.grid else None
            rows.append(Row(stem(path), name, target.name, settings.metric.name, t, voxel_mm3=mm3, **row))
        with uninterrupted():
            files.close()
    return rows


def _threshold(
    m: np.ndarray, where: np.ndarray | None, settings: Settings, many: bool
) -> tuple[float, np.ndarray, dict[str, Any]]:
    """Give threshold, mask and numbers of a map."""
    if settings.clip:
        low, high = float(m.min()), float(m.max())
        if -refusals.OVERSHOOT <= low and high <= 1 + refusals.OVERSHOOT and (low < 0 or high > 1):
            m = m.clip(0, 1)
    score = settings.metric
    t = tversky_threshold(m, score.alpha, score.beta, where=where)
    mask = mask_at_least(m, t)
    if where is not None:
        mask &= where
    counted = (m, mask) if where is None else (m[where], mask[where])
    soft, inside, ones, half = _sums(*counted)
    if not many and inside == ones == soft > 0:
        raise ValueError("every voxel is 0 or 1: that is a mask or a label. Give the map of probabilities")
    promised = score.score(inside, ones, soft)
    notes = []
    largest = 0.5 if half else float(counted[0].max())
    if largest == 0:
        notes.append("the map is 0 everywhere, and the mask empty")
    elif half == 0:
        notes.append(
            f"no voxel reaches 1/2 (the largest is {largest:.3g}), and the threshold never gives an empty mask: decide "
            "first whether the structure is there"
        )
    if largest > 0 and promised > SURE:
        notes.append(
            "nearly all values are 0 or 1, as after training with a soft-Dice loss: do not believe the promised score"
        )
    if 2 * ones > counted[0].size:
        notes.append("the mask is more than half of the image: is this the background?")
    elif ones > GROWTH * soft:
        notes.append(
            f"the mask is {ones / soft:.2g} times as large as the soft volume: measure volumes with the latter"
        )
    numbers = {
        "promised": promised,
        "voxels_at_half": half,
        "voxels_at_threshold": ones,
        "voxels_soft": soft,
        "changed": abs(ones - half) / counted[0].size,
        "warnings": "; ".join(notes),
    }
    return t, mask, numbers


def _sums(m: np.ndarray, mask: np.ndarray) -> tuple[float, float, int, int]:
    """Give the sum of a map, that within its mask, the voxels of the mask and those of at least 1/2."""
    soft, inside, ones, half = [], [], 0, 0
    flat, chosen = m.ravel(order="K"), mask.ravel(order="K")
    for start in range(0, flat.size, BLOCK):
        x, s = flat[start : start + BLOCK], chosen[start : start + BLOCK]
        soft.append(sum_of(x))
        count = int(np.count_nonzero(s))
        ones += count
        if count:
            inside.append(sum_of(x[s]) if count < s.size else soft[-1])
        half += int(np.count_nonzero(x >= 0.5))
    return math.fsum(soft), math.fsum(inside), ones, half


def _in_files(text: str) -> str:
    """Say what the library advises about arrays so that it holds for files."""
    for array, file in (
        ("m (", "the map ("),
        ("use np.clip(m, 0, 1)", "clip it with --clip"),
        ("or leave these voxels out where the function has `where`", "or leave these voxels out with --mask"),
        ("Mend the array", "Mend the file"),
        ("choose one: m == k", "this is a file of labels: give the map of probabilities"),
    ):
        text = text.replace(array, file)
    return text


def mask_name(maps: Maps, name: str) -> str:
    """Give the name of the file of a mask: that of the map, with the class where several are written."""
    ending = maps.grid.ending if maps.grid else maps.path.suffix
    part = "_" + re.sub(r"[^\w.+-]", "-", name) if len(maps.classes) > 1 else ""
    return f"{stem(maps.path)}{part}{ending}"


def read_where(path: Path, maps: Maps) -> np.ndarray:
    """Read the voxels that count from a file, or from that with the name of the case in a folder."""
    if path.is_dir():
        found = [p for p in sorted(path.iterdir()) if stem(p) == stem(maps.path) and p.name != p.stem]
        if len(found) != 1:
            raise ValueError(f"--mask: expected one file for {stem(maps.path)} in {path}, found {len(found)}")
        path = found[0]
    if path.suffix in (".npy", ".npz"):
        stored = open_npy(path) if path.suffix == ".npy" else open_npz(path, key_of(path, None))
        (where,) = stored.slices(None, [0])
        if where.shape != maps.shape:
            raise ValueError(f"--mask {path.name}: expected the shape of the map, {maps.shape}, got {where.shape}")
    else:
        image = load(path)
        check_same_place(f"--mask {path.name}", image, maps.grid, maps.shape)
        where = np.asanyarray(image.dataobj)
    if not is_binary(where):
        raise ValueError(
            f"--mask {path.name}: expected 0 and 1 alone, found {float(where.min()):g} to {float(where.max()):g}"
        )
    return where.astype(bool)
