"""The random fields of other tools, as ``benchmarks/covariance.py`` has measured them: rows, values, one figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction.figures.drawing import drawing, legend_below
from reproduction.figures.palette import MARGINAL, SERIES
from reproduction.paths import project_root, read_json

_PEERS = {"MONAI": "monai", "TorchIO": "torchio", "TorchIO, locked borders": "torchio", "GSTools": "gstools"}
_LOOKS = {  # colour, marker, line, size of the marker
    "noisyseg": (SERIES[1], "^", "-", 4),
    "Listing 2": (SERIES[0], "o", "-", 7),  # wider, since MONAI lies on top of it
    "MONAI": (SERIES[2], "s", "--", 4),
    "TorchIO": (SERIES[3], "D", "-", 4),
    "TorchIO, locked borders": (SERIES[3], "x", ":", 4),
    "GSTools": (SERIES[4], "v", "--", 4),
}


def load() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the stored measurements and their provenance.

    The measurements have the columns ``method, quantity, place, distance, value, standard_error``: distances as
    fractions of the image side, standard deviations in units of a, covariances in units of a^2.
    """
    folder = project_root() / "results" / "benchmarks"
    return pd.read_csv(folder / "covariance.csv"), read_json(folder / "covariance_provenance.json")


def settings_in_words(about: dict[str, Any]) -> list[str]:
    """Return one line a method: its version, the number of fields drawn, and its settings."""
    lines = []
    for name, settings in about["settings"].items():
        values = ", ".join(f"`{key} = {value:.4g}`" for key, value in settings.items())
        version = f" {about['peers'][_PEERS[name]]}" if name in _PEERS else ""
        lines.append(f"{name}{version}, {about['draws'][name]:,} draws: {values}")
    return lines


def select(measured: pd.DataFrame, method: str, quantity: str, *places: str) -> Any:
    """Return the rows of one method and quantity, at these places or at all.

    Raises
    ------
    ValueError
        If no row is like that.
    """
    found: Any = measured[(measured["method"] == method) & (measured["quantity"] == quantity)]
    found = found[found["place"].isin(places)] if places else found
    if found.empty:
        raise ValueError(f"measured: found no row with method {method!r}, quantity {quantity!r} and place {places}")
    return found


def with_error(value: float, standard_error: float, sign: str = "") -> str:
    """Format a value with its standard error, rounded up, in units of the third decimal.

    Examples
    --------
    >>> with_error(0.99387, 0.0038), with_error(-0.5, 0.001, "+")
    ('0.994 (4)', '-0.500 (1)')
    """
    return f"{value:{sign}.3f} ({math.ceil(1000 * standard_error)})"


def first_value(measured: pd.DataFrame, method: str, quantity: str, place: str) -> str:
    """Return the first value at a place, with its error."""
    row = select(measured, method, quantity, place).iloc[0]
    return with_error(row["value"], row["standard_error"])


def largest_deviation(measured: pd.DataFrame, method: str, place: str, model: Callable[[Any], Any]) -> str:
    """Return the largest deviation of the covariance from the model, a function of the distance, with its error."""
    rows = select(measured, method, "covariance", place)
    deviation = rows["value"] - model(rows["distance"])
    worst = deviation.abs().idxmax()
    return with_error(deviation[worst], rows["standard_error"][worst], "+")


def deviation_in_errors(
    measured: pd.DataFrame, method: str, quantity: str, places: Sequence[str], model: Callable[[Any], Any]
) -> float:
    """Return the largest distance of the values at some places from a function of the distance, in standard errors."""
    rows = select(measured, method, quantity, *places)
    return float((abs(rows["value"] - model(rows["distance"])) / rows["standard_error"]).max())


def plot_tools(measured: pd.DataFrame, model: Callable[[Any], Any]) -> Figure:
    """Draw what was measured, with two standard errors on each side, and the covariance that the model has.

    From left to right: the standard deviation across an axis, and the covariance from a face and in the middle. `model`
    is the covariance as a function of the distance, in units of a^2.
    """
    panels = {
        "across an axis": ("sd", "line", "distance from a face (image sides)"),
        "inward from the first voxel": ("covariance", "inward from a face", "distance (image sides)"),
        "in the middle": ("covariance", "middle", "distance (image sides)"),
    }
    r = np.linspace(0, 0.5, 200)
    with drawing(3.6, 1, 3) as (figure, axes):
        for ax, (title, (quantity, place, distance)) in zip(axes, panels.items(), strict=True):
            for name, (colour, marker, line, size) in _LOOKS.items():
                rows = select(measured, name, quantity, place)
                look: dict[str, Any] = {"color": colour, "marker": marker, "ls": line, "ms": size, "mfc": "none"}
                bars = 2 * rows["standard_error"]
                ax.errorbar(rows["distance"], rows["value"], bars, lw=1, elinewidth=0.8, label=name, **look)
            ax.plot(r, np.ones_like(r) if quantity == "sd" else model(r), color=MARGINAL, lw=1, label="model")
            ax.set(title=title, xlabel=distance, ylim=(0.35 if quantity == "sd" else -0.1, 1.12))
        axes[0].set_ylabel("standard deviation / $a$")
        axes[1].set_ylabel("covariance / $a^2$")
        legend_below(figure, axes[0], 4)
    return figure
