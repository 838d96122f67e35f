"""Figures of volumes: three orthogonal views through the centre of mass of a structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from reproduction.data.cases import Case
from reproduction.data.patches import centre_of_mass
from reproduction.figures import style

SOFT_TISSUE_HU = (-160.0, 240.0)
#: view, axis that is cut, axis to the right, axis upwards, and what lies at the ends of the two
VIEWS = (
    ("axial", 2, 0, 1, "left – right", "back – front"),
    ("coronal", 1, 0, 2, "left – right", "feet – head"),
    ("sagittal", 0, 1, 2, "back – front", "feet – head"),
)


@style.styled
def plot_patch_views(
    image: np.ndarray, label: np.ndarray, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0), title: str = ""
) -> Figure:
    """Draw the three orthogonal views of a volume through the centre of mass of its label, the label as an outline.

    Parameters
    ----------
    image : array_like, shape (x, y, z)
        Grey values; the window is the 1st to the 99th percentile.
    label : array_like, shape (x, y, z)
        Binary; an empty label is drawn through the middle of the volume, without an outline.
    spacing_mm : sequence of 3 floats
        Voxel size along the three axes, in mm; it sets the aspect.
    title : str
        Written above the views.

    Returns
    -------
    Figure
        With three axes: slices across z, y and x, the lower of the two remaining axes horizontal.

    Raises
    ------
    ValueError
        If the arrays are not volumes of the same shape, or spacing_mm is not three positive numbers.

    Examples
    --------
    >>> label = np.pad(np.ones((2, 2, 2)), 1)
    >>> len(plot_patch_views(label, label).axes)
    3
    """
    image, label = np.asarray(image, dtype=float), np.asarray(label)
    if image.ndim != 3 or image.shape != label.shape:
        raise ValueError(f"image and label: found shapes {image.shape} and {label.shape}; expected two equal (x, y, z)")
    sizes = np.asarray(spacing_mm, dtype=float)
    if sizes.shape != (3,) or not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise ValueError(f"spacing_mm: found {spacing_mm!r}; expected three positive numbers, in mm")
    inside = np.argwhere(label > 0)
    centre = np.rint(inside.mean(axis=0)).astype(int) if len(inside) else np.array(image.shape) // 2
    low, high = np.percentile(image, [1, 99])
    figure, axes = style.new_figure(8.4, 3.0, 1, 3)
    for ax, axis in zip(axes[0], (2, 1, 0), strict=True):
        columns, rows = (k for k in range(3) if k != axis)
        plane = np.moveaxis(image, axis, 0)[centre[axis]].T
        mask = np.moveaxis(label, axis, 0)[centre[axis]].T > 0
        aspect = float(sizes[rows] / sizes[columns])
        ax.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), origin="lower", aspect=aspect)
        if mask.any() and not mask.all():
            ax.contour(mask, [0.5], colors=style.YELLOW, linewidths=1.2)
        ax.set(xticks=[], yticks=[], xlabel="xyz"[columns], ylabel="xyz"[rows])
        ax.grid(False)
    if title:
        figure.suptitle(title)
    return figure


@style.styled
def plot_cases(cases: Mapping[str, Case], window: tuple[float, float] = SOFT_TISSUE_HU) -> Figure:
    """Draw Figure 2 of the paper: three views of each case through the centre of mass of its label, a row a case.

    The views are axial, coronal and sagittal, the label is outlined.

    Parameters
    ----------
    cases : mapping of str to Case
        Name of the row to its case, in canonical axes.
    window : pair of floats
        Grey values shown as black and white, Hounsfield units for CT.

    Returns
    -------
    Figure
        With three axes a case.

    Raises
    ------
    ValueError
        If there is no case, a label is empty, or the window is not increasing.

    Examples
    --------
    >>> label = np.pad(np.ones((2, 2, 2), np.uint8), 1)
    >>> case = Case("one", 100 * label.astype(np.float32), label, np.full(3, 3.0))
    >>> [ax.get_title() for ax in plot_cases({"kidney": case}).axes]
    ['axial', 'coronal', 'sagittal']
    """
    if not cases:
        raise ValueError("cases: found none; expected at least one")
    if not window[0] < window[1]:
        raise ValueError(f"window: found {window}; expected two increasing numbers")
    figure, axes = style.new_figure(7.2, 2.5 * len(cases) + 0.2, len(cases), 3)
    for number, (row, (name, case)) in enumerate(zip(axes, cases.items(), strict=True)):
        middle = np.floor(centre_of_mass(case.label)).astype(int)  # the voxel that holds the centre
        for ax, (view, cut, right, up, across, along) in zip(row, VIEWS, strict=True):
            image = np.take(case.image, middle[cut], axis=cut).T
            label = np.take(case.label, middle[cut], axis=cut).T
            aspect = float(case.spacing_mm[up] / case.spacing_mm[right])
            ax.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", aspect=aspect)
            if 0 < label.sum() < label.size:
                ax.contour(label, [0.5], colors=style.YELLOW, linewidths=1.0)
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(across, fontsize=8)
            ax.set_ylabel(along, fontsize=8)
            ax.grid(False)
            if number == 0:
                ax.set_title(view)
        row[0].set_ylabel(f"{name} ({case.id})\n{VIEWS[0][5]}", fontsize=8)
    return figure
