"""One case: its maps, each with the best threshold for a score, their masks, and what to know about them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from noisyseg._core import refusals
from noisyseg._core.arrays import is_binary
from noisyseg._core.files import atomic_file, uninterrupted
from noisyseg._core.levels import mask_at_least
from noisyseg._core.walk import BLOCK, sum_of
from noisyseg.calibration.fitting import Calibration
from noisyseg.calibration.presence import presence_threshold
from noisyseg.linear_fractional import tversky_threshold
from noisyseg.maps.figure import draw
from noisyseg.maps.grids import check_same_place, load, stem
from noisyseg.maps.metric import Metric
from noisyseg.maps.numpy_files import key_of, open_npy, open_npz
from noisyseg.maps.opening import Maps, Options, open_maps

SURE = 0.99  # a promised score above it is not believed: the values are nearly all 0 or 1
NO_MAP = "every voxel is 0 or 1: that is a mask or a label. Give the map of probabilities"
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
    calibration: Calibration | None = None  # applied to every map
    absent: float | dict[str, float] | None = None  # probability that there is nothing to find, of all or of each case
    labels: str | None = None  # exclusive or nested: one label map of all classes, see `noisyseg.maps.labelling`


class Row(NamedTuple):
    """A line of the report. Volumes are in voxels; `changed` is the share of the voxels that count.

    `value` is what the voxels of the mask have in its file; `gap`, of a label map, is what its mean Dice lacks at most.
    """

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
    value: int
    gap: float | None
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
    absent = _absent(settings, maps)
    targets = {name: settings.out / mask_name(maps, name) for name in maps.classes}
    if len(set(targets.values())) < len(targets):
        raise ValueError(f"classes {', '.join(maps.classes)} give masks of one name; choose with --classes")
    pictures = {name: target.with_name(f"{stem(target)}.png") for name, target in targets.items() if settings.figure}
    check_new((*targets.values(), *pictures.values()), settings.overwrite)
    rows = []
    with ExitStack() as files:
        for name, m in maps.each():
            try:
                t, mask, row = _threshold(m, where, settings, absent, maps.many)
            except ValueError as error:
                raise ValueError(f"{f'class {name}: ' if name else ''}{in_files(str(error))}") from None
            target = targets[name]
            with uninterrupted():
                file = files.enter_context(atomic_file(target))
            write_voxels(mask, target, file, maps)
            if settings.figure:
                with uninterrupted():
                    file = files.enter_context(atomic_file(pictures[name]))
                draw(file, m, min(t, 1.0), mask, settings.metric, row["promised"])
            same = {"voxel_mm3": voxel_mm3(maps), "value": 1, "gap": None}
            rows.append(Row(stem(path), name, target.name, settings.metric.name, t, **same, **row))
        with uninterrupted():
            files.close()
    return rows


def check_new(targets: Iterable[Path], overwrite: bool) -> None:
    """Raise `FileExistsError` if a file is there that would be replaced."""
    for target in targets:
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} exists; replace it with --overwrite, or choose another --out")


def write_voxels(voxels: np.ndarray, target: Path, file: Any, maps: Maps) -> None:
    """Write booleans or uint8 into an open file, where the maps lie."""
    if maps.grid:
        maps.grid.write(voxels, file)
    elif target.suffix == ".npy":
        np.save(file, voxels.view(np.uint8))
    else:
        np.savez_compressed(file, mask=voxels.view(np.uint8))


def voxel_mm3(maps: Maps) -> float | None:
    """Give the volume of a voxel, where it is known."""
    return maps.grid.voxel_mm3 if maps.grid else None


def _threshold(
    m: np.ndarray, where: np.ndarray | None, settings: Settings, absent: float | None, many: bool
) -> tuple[float, np.ndarray, dict[str, Any]]:
    """Give threshold, mask and numbers of a map."""
    m = clipped(m) if settings.clip else m
    if settings.calibration is not None:
        if not many and is_binary(m):
            raise ValueError(NO_MAP)
        m = settings.calibration(m)
    score = settings.metric
    if absent is None:
        t = tversky_threshold(m, score.alpha, score.beta, where=where)
    else:
        t = presence_threshold(m if where is None else m[where], absent)
    mask = mask_at_least(m, t)
    if where is not None:
        mask &= where
    counted = (m, mask) if where is None else (m[where], mask[where])
    soft, inside, ones, half = sums(*counted)
    if not many and inside == ones == soft > 0:
        raise ValueError(NO_MAP)
    promised = score.score(inside, ones, soft) if absent is None else absent if t == math.inf else 2 * t
    notes = []
    largest = 0.5 if half else float(counted[0].max())
    if largest == 0:
        notes.append("the map is 0 everywhere, and the mask empty")
    elif t == math.inf:
        notes.append("the structure is more likely absent than worth drawing: the mask is empty")
    elif half == 0 and absent is None:
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


def clipped(m: np.ndarray) -> np.ndarray:
    """Clip what rounding or interpolation left outside [0, 1]; what is farther away stays, and is refused later."""
    low, high = float(m.min()), float(m.max())
    off = (low < 0 or high > 1) and -refusals.OVERSHOOT <= low and high <= 1 + refusals.OVERSHOOT
    return m.clip(0, 1) if off else m


def sums(m: np.ndarray, mask: np.ndarray) -> tuple[float, float, int, int]:
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


def in_files(text: str) -> str:
    """Say what the library advises about arrays so that it holds for files."""
    for array, file in (
        ("m (", "the map ("),
        ("c (shape", "the map (shape"),
        ("use np.clip(c, 0, 1)", "clip it with --clip"),
        ("absent: ", "--absent: "),
        ("use np.clip(m, 0, 1)", "clip it with --clip"),
        ("or leave these voxels out where the function has `where`", "or leave these voxels out with --mask"),
        ("Mend the array", "Mend the file"),
        ("use optimal_dice or nested_labels", "use --labels nested, or leave --labels out"),
        ("choose one: m == k", "this is a file of labels: give the map of probabilities"),
    ):
        text = text.replace(array, file)
    return text


def mask_name(maps: Maps, name: str) -> str:
    """Give the name of the file of a mask: that of the map, with the class where several are written."""
    part = "_" + re.sub(r"[^\w.+-]", "-", name) if len(maps.classes) > 1 else ""
    return f"{stem(maps.path)}{part}{file_ending(maps)}"


def file_ending(maps: Maps) -> str:
    """Give the ending of the files that are written for a map."""
    return maps.grid.ending if maps.grid else maps.path.suffix


def read_where(path: Path, maps: Maps) -> np.ndarray:
    """Read the voxels that count from a file, or from that with the name of the case in a folder."""
    path, where = read_voxels("--mask", path, maps)
    if not is_binary(where):
        raise ValueError(
            f"--mask {path.name}: expected 0 and 1 alone, found {float(where.min()):g} to {float(where.max()):g}"
        )
    return where.astype(bool)


def read_voxels(what: str, path: Path, maps: Maps) -> tuple[Path, np.ndarray]:
    """Read an array with a value for each voxel of a map from a file, or from that of the case in a folder.

    The file is given back with it. `what` says in errors where the path was given.
    """
    if path.is_dir():
        found = [p for p in sorted(path.iterdir()) if stem(p) == stem(maps.path) and p.name != p.stem]
        if len(found) != 1:
            raise ValueError(f"{what}: expected one file for {stem(maps.path)} in {path}, found {len(found)}")
        path = found[0]
    if path.suffix in (".npy", ".npz"):
        stored = open_npy(path) if path.suffix == ".npy" else open_npz(path, key_of(path, None))
        (voxels,) = stored.slices(None, [0])
        if voxels.shape != maps.shape:
            raise ValueError(f"{what} {path.name}: expected the shape of the map, {maps.shape}, got {voxels.shape}")
        return path, voxels
    image = load(path)
    check_same_place(f"{what} {path.name}", image, maps.grid, maps.shape)
    return path, np.asanyarray(image.dataobj)


def _absent(settings: Settings, maps: Maps) -> float | None:
    """Give the probability that there is nothing to find in a case; None where that was not asked."""
    if settings.absent is None:
        return None
    if len(maps.classes) > 1:
        raise ValueError(f"--absent is about one structure, and there are {', '.join(maps.classes)}; use --classes")
    if not isinstance(settings.absent, dict):
        return settings.absent
    if stem(maps.path) not in settings.absent:
        raise ValueError(f"--absent: the table has no row for the case {stem(maps.path)}")
    return settings.absent[stem(maps.path)]
