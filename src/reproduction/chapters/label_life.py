"""The life of a label: one case at every station from the outline on an image to a row of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import noisyseg as ns
from reproduction.chapters.logistic import train_on_phantoms
from reproduction.data.phantoms.scenes import ct_phantom
from reproduction.figures.drawing import drawing, picture
from reproduction.figures.palette import (
    CEILING,
    DICE,
    GREY_VALUES,
    HALF,
    MASKS,
    NOISY,
    PAPER,
    SOFT_DICE,
    TRUE_LABEL,
    rgb,
)
from reproduction.figures.views import SOFT_TISSUE_HU

STATIONS = ("outline", "label $l$", "displacement $X$", "noisy label $L$", "marginal $m$")
STATIONS += ("map of CE", "map of soft-Dice", "thresholds", "masks", "Dice with $L$")


@dataclass(frozen=True)
class Life:
    """The coronal slice of a case at each station, what it scores, and the mean scores of all cases like it."""

    image: NDArray
    label: NDArray
    displacement: NDArray
    noisy: NDArray
    marginal: NDArray
    ce: NDArray
    sd: NDArray
    masks: dict[str, NDArray]
    scores: dict[str, tuple[float, float]]


def follow_label(organ: str = "kidney", a: float = 0.06, cases: int = 24) -> Life:
    """Follow the label of the last of some phantoms, which no network was trained with.

    The networks are those of :func:`~reproduction.chapters.logistic.train_on_phantoms`, trained with half of the
    cases. Scores are Dice with the noisy label: of this case, and the mean over the other half.
    """
    ce, sd, labels, marginals = train_on_phantoms(organ, a, cases)
    phantom = ct_phantom(organ, cases - 1, 24, spacing_mm=8.0)
    shape, middle = phantom.label.shape, int(phantom.label.sum(axis=(0, 2)).argmax())
    masks = {"CE(0)": ce >= 0.5, "CE(*)": ns.optimal_dice(ce, axis=1), "SD(0)": sd >= 0.5}
    found = {name: ns.dice(mask, labels, axis=1)[cases // 2 :] for name, mask in masks.items()}

    def cut(volume: NDArray) -> NDArray:
        return volume.reshape(shape)[:, middle].T

    return Life(
        image=cut(phantom.image),
        label=cut(phantom.label),
        displacement=ns.gaussian_field(shape, a, ns.GaussianDeformation(a).b, rng=cases - 1)[:, :, middle],
        noisy=cut(labels[-1]),
        marginal=cut(marginals[-1]),
        ce=cut(ce[-1]),
        sd=cut(sd[-1]),
        masks={name: cut(mask[-1]) for name, mask in masks.items()},
        scores={name: (float(scores[-1]), float(scores.mean())) for name, scores in found.items()},
    )


def plot_life(life: Life) -> Figure:
    """Draw the stations in their order, two rows of five."""
    with drawing(4.0, 2, 5) as (figure, grid):
        figure.get_layout_engine().set(wspace=0.15)
        axes = grid.ravel()
        shades = {"origin": "lower", "cmap": GREY_VALUES}
        images = (life.image, life.label, life.label, life.noisy, life.marginal, life.ce, life.sd, life.ce)
        for k, (ax, image) in enumerate(zip(axes, images, strict=False)):
            low, high = SOFT_TISSUE_HU if k == 0 else (0, 1)
            picture(ax, image, "", low, high, **{**shades, "cmap": MASKS} if k in (1, 2, 3) else shades)
        both = life.masks["CE(0)"].astype(int) + life.masks["CE(*)"]
        picture(axes[8], rgb(PAPER, DICE, HALF)[both], origin="lower")
        for k, mask, colour, line in (
            (0, life.label, TRUE_LABEL, "-"),
            (3, life.label, TRUE_LABEL, "-"),
            (4, life.label, TRUE_LABEL, "-"),
            (7, life.masks["CE(0)"], HALF, "-"),
            (7, life.masks["CE(*)"], DICE, "--"),
            (8, life.masks["SD(0)"], SOFT_DICE, "-"),
        ):
            axes[k].contour(mask, [0.5], colors=colour, linestyles=line, linewidths=1.6)
        x, z = np.meshgrid(*(np.arange(0, n, 2) for n in life.label.T.shape), indexing="ij")
        step = life.displacement[:, ::2, ::2] * len(life.label)  # in voxels
        axes[2].quiver(x, z, step[0], step[2], color=NOISY, angles="xy", scale_units="xy", scale=1, width=0.008)
        axes[9].set(aspect="equal")
        axes[9].axis("off")
        for k, (ax, name) in enumerate(zip(axes, STATIONS, strict=True)):
            ax.set_title(f"{k + 1}  {name}")
            ax.spines[:].set_visible(True)
            if k not in (4, 5, 9):
                arrow = {"arrowstyle": "->", "color": CEILING}
                ax.annotate("", (1.2, 0.5), (1.03, 0.5), xycoords="axes fraction", arrowprops=arrow)
        rows = {"": ("this", "mean"), **{name: tuple(f"{x:.3f}" for x in two) for name, two in life.scores.items()}}
        for y, (name, cells) in enumerate(rows.items()):
            for place, text in zip((0.0, 0.62, 1.0), (name, *cells), strict=True):
                axes[9].text(place, 0.8 - 0.2 * y, text, transform=axes[9].transAxes, ha="right" if place else "left")
    return figure
