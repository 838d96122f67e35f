"""``noisyseg check``: files of maps compared with files of labels, and a calibration fitted on them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from noisyseg._core.files import atomic_file, check_target, uninterrupted
from noisyseg.calibration import KINDS, check, fit
from noisyseg.maps.grids import stem
from noisyseg.maps.opening import Maps, Options, inputs, open_maps
from noisyseg.maps.thresholding import clipped, read_voxels


def check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``noisyseg check``; those that say how a file is read are those of ``threshold``."""
    add = parser.add_argument
    add("maps", type=Path, metavar="MAPS", help="a file of maps, or a folder of such, not of the training")
    add("labels", type=Path, metavar="LABELS", help="the label, or a folder with one of the name of each case")
    add("--label", type=int, metavar="N", help="the structure's number in the labels (default: they are 0 and 1)")
    add("--report", type=Path, metavar="CSV", help="a table with a row for each case")
    add("--calibration", type=Path, metavar="JSON", help="fit a calibration on these cases and write it, for threshold")
    add("--kind", default="beta", choices=KINDS, help="of the calibration (default beta)")
    add("--overwrite", action="store_true", help="replace files that exist")


def check_files(given: argparse.Namespace, options: Options) -> int:
    """Compare the maps with the labels, print the report, and write what was asked for."""
    paths = inputs(given.maps)
    if len(paths) > 1 and not given.labels.is_dir():
        raise ValueError(f"LABELS: expected a folder with a label for each of {len(paths)} maps, got {given.labels}")
    check_target("--report", given.report, given.overwrite)
    check_target("--calibration", given.calibration, given.overwrite)

    def each(read: Callable[[Maps], np.ndarray]) -> Iterator[np.ndarray]:
        for path in paths:
            try:
                yield read(_open(path, options))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None

    def label(maps: Maps) -> np.ndarray:
        _, found = read_voxels("LABELS", given.labels, maps)
        return found if given.label is None else found == given.label

    def read(maps: Maps) -> np.ndarray:
        ((_, m),) = maps.each()
        return clipped(m) if given.clip else m

    try:
        report = check(each(read), each(label), [stem(path) for path in paths])
    except ValueError as error:
        raise ValueError(_in_files(str(error))) from None
    if given.report is not None:
        with uninterrupted(), atomic_file(given.report) as file:
            file.write(report.csv().encode())
    print(report.text(), end="")
    if given.calibration is not None:
        fitted = fit(each(read), each(label), given.kind)
        fitted.save(given.calibration, overwrite=given.overwrite)
        print(f"{given.calibration}: {given.kind} calibration of {fitted.images} images")
    return 0


def _open(path: Path, options: Options) -> Maps:
    maps = open_maps(path, options)
    if len(maps.classes) > 1:
        raise ValueError(f"check looks at one structure; choose with --classes one of {', '.join(maps.classes)}")
    return maps


def _in_files(text: str) -> str:
    """Say what the library advises about arrays so that it holds for files."""
    text = re.sub(r"use np\.clip\(map .*?, 0, 1\)", "clip it with --clip", text)
    text = re.sub(r"choose one: label .* == k", "choose one with --label", text)
    text = re.sub(r"choose one: map .* == k", "this is a file of labels: give the map of probabilities", text)
    return re.sub(r"Mend the array, or leave .*", "Mend the file", text)
