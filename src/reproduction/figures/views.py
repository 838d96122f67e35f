"""Figures of volumes: three orthogonal views through the centre of mass of a structure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from reproduction.data.cases import Case
from reproduction.data.patches import centre_of_mass
from reproduction.figures.drawing import drawing, picture
from reproduction.figures.palette import GREY_VALUES, TRUE_LABEL

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
