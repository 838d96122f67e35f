"""One colour, one meaning: the colours of the book's figures by what they stand for, and its colour maps.

Colour-blind readers can tell the meanings apart, all contrast 3:1 with white at least, and where curves of several
meet in a figure, marks or lines differ as well, for print in grey. No figure names a colour of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

HALF = "#0072B2"  # blue: the threshold 1/2, Accuracy and its optimal masks, cross-entropy, CE(0)
DICE = "#009E73"  # green: the threshold t, Dice of the marginal and its optimal masks, CE(*)
SOFT_DICE = "#CC4A00"  # orange: networks and maps of soft-Dice, SD(0)
TRUE_LABEL = "#C08000"  # golden: the outline of the clean label l, what it is
YOURS = "#B8528F"  # pink: what is compared or chosen besides, such as the reader's own threshold
NOISY = "#5A3E8E"  # purple: noisy labels L, of people or sampled, and expected Dice with them
MARGINAL = "#000000"  # black: the marginal m and closed forms, in print the darkest
CEILING = "#444444"  # dark grey: the highest score that is possible, bounds
CONSTANT = "#8A8A8A"  # shapes that are the same for every image
FAINT = "#909090"  # lines that guide the eye: zero, diagonals, limits
PAPER = "#FFFFFF"

#: Of several things without a meaning in the whole book, such as noise strengths or data sets: with marks that differ.
SERIES = ("#7D1D3F", "#7E8A2E", "#8A4520", "#1F3B4D", "#8A6FA8", "#5C5C5C", "#3D6B80")  # wine, olive, brown, night, …
MARKS = "os^DvPX"
LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))

GREY_VALUES = "gray"  # images, and marginals on black
MASKS = "gray_r"  # masks and marginals on white
AMOUNTS = "viridis"
COUNTS = "viridis_r"
SIGNED = "RdBu_r"


def rgb(*colours: str) -> NDArray[np.uint8]:
    """Give colours as rows of 8-bit numbers: indexed with a label map, they paint it.

    Examples
    --------
    >>> rgb(PAPER, HALF).tolist()
    [[255, 255, 255], [0, 114, 178]]
    """
    return np.array([np.round(255 * np.array(to_rgb(colour))) for colour in colours], dtype=np.uint8)


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Give each of some names, seven at most, a mark and a colour of the series.

    Examples
    --------
    >>> looks(["a", "b"])["b"]
    ('s', '#7E8A2E')
    """
    return {name: (mark, colour) for name, mark, colour in zip(names, MARKS, SERIES, strict=False)}
