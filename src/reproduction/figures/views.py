"""Figure 2 of the paper: three views through the centre of mass of a structure, one row an organ."""

from __future__ import annotations

from collections.abc import Mapping

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
def plot_cases(cases: Mapping[str, Case], window: tuple[float, float] = SOFT_TISSUE_HU) -> Figure:
    """Draw the axial, coronal and sagittal view of each case through its label's centre of mass, the label outlined.

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
                ax.contour(label, [0.5], colors="#E69F00", linewidths=1.0)
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(across, fontsize=8)
            ax.set_ylabel(along, fontsize=8)
            ax.grid(False)
            if number == 0:
                ax.set_title(view)
        row[0].set_ylabel(f"{name} ({case.id})\n{VIEWS[0][5]}", fontsize=8)
    return figure
