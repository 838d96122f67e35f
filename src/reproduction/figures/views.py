"""Figures of volumes: three orthogonal views through the centre of mass of a structure, and masks on a slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from noisyseg import GaussianDeformation
from reproduction.data.cases import Case
from reproduction.data.patches import centre_of_mass
from reproduction.figures.drawing import drawing, legend_below, picture
from reproduction.figures.palette import GREY_VALUES, NOISY, PAPER, TRUE_LABEL
from reproduction.figures.panels import METHOD_LOOKS
from reproduction.figures.showing import WIDTH
from reproduction.runs.examples import Example
from reproduction.text import short

SOFT_TISSUE_HU = (-160.0, 240.0)
#: view, axis that is cut, axis to the right, axis upwards, and what lies at the ends of the two
VIEWS = (
    ("axial", 2, 0, 1, "left – right", "back – front"),
    ("coronal", 1, 0, 2, "left – right", "feet – head"),
    ("sagittal", 0, 1, 2, "back – front", "feet – head"),
)


def plot_cases(cases: Mapping[str, Case]) -> Figure:
    """Draw Figure 2 of the paper: three views of each case through the centre of mass of its label, a row a case.

    The views are axial, coronal and sagittal, in the grey values of soft tissue (-160 to 240 Hounsfield units); the
    label is outlined.

    Parameters
    ----------
    cases : mapping of str to Case
        Name of the row to its case, in canonical axes.

    Raises
    ------
    ValueError
        If a label is empty.
    """
    with drawing(2.7 * len(cases) + 0.2, len(cases), 3, squeeze=False) as (figure, axes):
        for number, (row, (name, case)) in enumerate(zip(axes, cases.items(), strict=True)):
            middle = np.floor(centre_of_mass(case.label)).astype(int)  # the voxel that holds the centre
            for ax, (view, cut, right, up, across, along) in zip(row, VIEWS, strict=True):
                image, label = (np.take(volume, middle[cut], axis=cut).T for volume in (case.image, case.label))
                aspect = float(case.spacing_mm[up] / case.spacing_mm[right])
                picture(
                    ax, image, "" if number else view, *SOFT_TISSUE_HU, cmap=GREY_VALUES, origin="lower", aspect=aspect
                )
                if 0 < label.sum() < label.size:
                    ax.contour(label, [0.5], colors=TRUE_LABEL, linewidths=1.4)
                ax.set_xlabel(across, fontsize=8)
                ax.set_ylabel(along, fontsize=8)
            row[0].set_ylabel(f"{name} ({case.id})\n{VIEWS[0][5]}", fontsize=8)
    return figure


def plot_noisy_labels(cases: Mapping[str, Case], strengths: Sequence[float], b: float, draws: int) -> Figure:
    """Draw noisy labels on real organs: a row for each case, a column for each noise strength.

    Shown is the axial slice through the centre of mass of the label, which is outlined, with samples of the noise
    model; sample k has the seed k everywhere. Grey values as in `plot_cases`.

    Raises
    ------
    ValueError
        If a label is empty.
    """
    size = (len(cases), len(strengths))
    with drawing((WIDTH / size[1] + 0.2) * size[0] + 0.4, *size, squeeze=False) as (figure, axes):
        for row, (name, case) in zip(axes, cases.items(), strict=True):
            z = int(np.floor(centre_of_mass(case.label)[2]))
            for ax, a in zip(row, strengths, strict=True):
                title = f"a = {a:g}" if ax in axes[0] else ""
                picture(ax, case.image[..., z].T, title, *SOFT_TISSUE_HU, cmap=GREY_VALUES, origin="lower")
                noise = GaussianDeformation(a, b)
                for sample in (noise.sample(case.label, rng=k)[..., z] for k in range(draws)):
                    if 0 < sample.sum() < sample.size:
                        outline = ax.contour(sample.T, [0.5], colors=NOISY, linewidths=0.9)
                        outline.set(path_effects=[withStroke(linewidth=2.2, foreground=PAPER)])
                ax.contour(case.label[..., z].T, [0.5], colors=TRUE_LABEL, linewidths=1.4)
                seen = np.argwhere(case.label[..., z])
                middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
                half = np.ptp(seen, axis=0).max() / 2 + 0.2 * len(case.image)
                ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
            row[0].set_ylabel(f"{name} ({case.id})", fontsize=8)
        axes[0, 0].plot([], [], color=TRUE_LABEL, label="label")
        axes[0, 0].plot([], [], color=NOISY, linewidth=0.9, label="noisy labels")
        legend_below(figure, axes[0, 0], 2)
    return figure


def plot_examples(examples: Sequence[Example]) -> Figure:
    """Draw masks on slices: a column for every noise strength, a row for every reason to show a case.

    The noisy label is filled, the masks of the methods are outlined in their colours. Grey values go from the 1st to
    the 99th percentile of each slice, of which half a side or more is shown around label and masks.

    Raises
    ------
    ValueError
        If there is no example.
    """
    if not examples:
        raise ValueError("examples: found none to draw; expected at least one")
    rows = list(dict.fromkeys((e.choice.organ, e.choice.which) for e in examples))
    columns = sorted({e.choice.a for e in examples})
    height = min(3.0, WIDTH / len(columns) + 0.4) * len(rows) + 0.4
    with drawing(height, len(rows), len(columns), squeeze=False) as (figure, axes):
        for example in examples:
            choice = example.choice
            ax = axes[rows.index((choice.organ, choice.which)), columns.index(choice.a)]
            low, high = np.percentile(example.image, [1, 99])
            picture(
                ax, example.image.T, f"a = {choice.a:g}, {choice.case}", low, high, cmap=GREY_VALUES, origin="lower"
            )
            shade = np.ma.masked_equal(example.label.T, 0)
            ax.imshow(shade, cmap=ListedColormap([NOISY]), alpha=0.45, origin="lower")
            for name, mask in example.masks.items():
                if 0 < mask.sum() < mask.size:
                    ax.contour(mask.T, [0.5], colors=METHOD_LOOKS[name][1], linewidths=1.4)
            seen = np.argwhere(np.any([example.label, *example.masks.values()], axis=0))
            middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
            half = max(np.ptp(seen, axis=0).max() / 2 + 3, len(example.image) / 4)
            limits = zip(middle - half, middle + half, strict=True)
            ax.set(**dict(zip(("xlim", "ylim"), limits, strict=True)))
            ax.set_xlabel("  ".join(f"{name} {short(value, 2)}" for name, value in example.dice.items()), fontsize=7)
        for ax, (organ, which) in zip(axes[:, 0], rows, strict=True):
            ax.set_ylabel(f"{organ}, {which}", fontsize=8)
        axes[0, 0].fill_between([], [], color=NOISY, alpha=0.45, label="noisy label")
        for name in dict.fromkeys(name for example in examples for name in example.masks):
            axes[0, 0].plot([], [], color=METHOD_LOOKS[name][1], label=name)
        legend_below(figure, axes[0, 0], 4)
    return figure
