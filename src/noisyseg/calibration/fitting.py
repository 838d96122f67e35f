r"""Calibrations: increasing functions of a map's values, fitted on maps whose labels are known.

A fit needs to know of a map how many voxels have which value, and how many of these are foreground. So a map is counted
once, on `LEVELS` levels of its logit, and is not kept: a fit on any number of images needs the memory of one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyseg._core.arrays import (
    Array,
    blocks,
    check_array,
    check_binary,
    check_same,
    check_unit,
    host_view,
    is_tensor,
    like,
)
from noisyseg._core.files import atomic_file

KINDS = ("temperature", "beta", "isotonic")
EDGE = 1e-7  # values closer to 0 or 1 count as that close: float32 has none between 1 - 6e-8 and 1
LIMIT = math.log((1 - EDGE) / EDGE)
LEVELS = 2048
FORMAT = "noisyseg calibration 1"


def logit(c: np.ndarray) -> np.ndarray:
    """Give the logit of values in [0, 1], those closer than `EDGE` to an end as if they were that close."""
    c = np.clip(c, EDGE, 1 - EDGE)
    return np.log(c) - np.log1p(-c)


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Give 1 / (1 + exp(-z)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -z))


def level(c: np.ndarray) -> np.ndarray:
    """Give the number, from 0 to `LEVELS` - 1, of the level that a value is on."""
    return np.minimum((logit(c) + LIMIT) * (LEVELS / (2 * LIMIT)), LEVELS - 1).astype(np.intp)


def host(x: Array) -> np.ndarray:
    """Give an array, or a tensor of any device, as a NumPy array."""
    view = host_view(x)
    return view.cpu().numpy() if is_tensor(view) else view


def tally(c: Array, label: Array, name: str = "") -> np.ndarray:
    """Count a map: for every level its voxels, the sum of their values, and how many are foreground, (3, LEVELS).

    Errors are about "map" and "label", followed by `name`.
    """
    of_map, of_label = (" ".join((word, name)).strip() for word in ("map", "label"))
    c, label = check_array(of_map, c), check_array(of_label, label)
    check_same(of_map, c, of_label, label)
    c, label = host(c), host(label)
    check_unit(of_map, c)
    check_binary(of_label, label)
    counts = np.zeros((3, LEVELS))
    for values, truth in blocks(c, label):
        k = level(values)
        for row, weights in zip(counts, (None, values, truth), strict=True):
            row += np.bincount(k, weights, LEVELS)
    return counts


@dataclass(frozen=True)
class Calibration:
    r"""An increasing function of the values of a map, to be applied before the map is thresholded at its t.

    ===============  ==============================  =====================================================
    kind             parameters                      value
    ===============  ==============================  =====================================================
    ``temperature``  ``T`` > 0                       sigmoid(logit(c) / T)
    ``beta``         ``a``, ``b`` >= 0, and ``c``    sigmoid(a log c - b log(1 - c) + c)
    ``isotonic``     ``start`` and ``value``, lists  that of the last step that begins at or below c
    ===============  ==============================  =====================================================

    As it is increasing, it makes no other masks possible: it changes which threshold of the map is taken. `images` is
    the number of images that it was fitted on. Book: ``prop-increasing``.

    Examples
    --------
    >>> sharp = Calibration("temperature", {"T": 2.0})
    >>> sharp(np.array([0.0, 0.2, 0.5, 0.8, 1.0])).round(3)
    array([0.   , 0.333, 0.5  , 0.667, 1.   ])
    """

    kind: str
    parameters: dict[str, Any]
    images: int = 0

    def __post_init__(self) -> None:
        p = self.parameters
        try:
            numbers = np.concatenate([np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in p.values()])
            right = bool(np.isfinite(numbers).all()) and {
                "temperature": lambda T: T > 0,
                "beta": lambda a, b, c: min(a, b) >= 0 < max(a, b),
                "isotonic": lambda start, value: (
                    start[0] == 0
                    and len(start) == len(value)
                    and all(type(k) is int and k < LEVELS for k in start)
                    and bool((np.diff(start) > 0).all() and (np.diff(value) >= 0).all())
                    and 0 <= value[0] <= value[-1] <= 1
                ),
            }[self.kind](**p)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError):
            right = False
        if not right:
            raise ValueError(
                f"calibration: expected one of {', '.join(KINDS)} with its parameters, an increasing function; got "
                f"{self.kind!r} with {p!r:.200}"
            )

    def _values(self, c: np.ndarray) -> np.ndarray:
        if self.kind == "isotonic":
            steps = np.searchsorted(self.parameters["start"], level(c), side="right") - 1
            return np.asarray(self.parameters["value"], dtype=np.float64)[steps]
        inner = np.clip(c, EDGE, 1 - EDGE)
        if self.kind == "temperature":
            z = logit(c) / self.parameters["T"]
        else:
            a, b, shift = (self.parameters[name] for name in "abc")
            z = a * np.log(inner) - b * np.log1p(-inner) + shift
        return sigmoid(z)

    def __call__(self, c: Array) -> Array:
        """Apply it to a map of any shape; the result is of the same kind and device, float64 for float64, else float32.

        Values closer than 1e-7 to 0 or 1 are taken as that close.
        """
        c = check_array("c", c)
        view = host(c)
        check_unit("c", view)
        found = np.empty(view.shape, dtype=np.float64 if view.dtype == np.float64 else np.float32)
        flat, out = view.reshape(-1), found.reshape(-1)
        for start in range(0, flat.size, 1 << 16):
            part = slice(start, start + (1 << 16))
            out[part] = self._values(flat[part].astype(np.float64))
        return like(found, c).to(c.device) if is_tensor(c) else found

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write it as JSON; a file that is there stays, with a `FileExistsError`, unless `overwrite` is true."""
        path = Path(path)
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path}: there is such a file already; name another one, or overwrite it")
        with atomic_file(path) as file:
            file.write((json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False) + "\n").encode())
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read what `save` wrote; anything else is a `ValueError` that names the file."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            if found.pop("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT!r}")
            return cls(**found)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected a calibration that noisyseg saved as JSON; {error}") from None


def fit(maps: Iterable[Array], labels: Iterable[Array], kind: str = "beta") -> Calibration:
    """Fit a calibration on maps that the network was not trained on, one after the other.

    Each voxel of each image counts the same. ``temperature`` and ``beta`` minimise the cross-entropy, with one number
    and with three; ``isotonic`` is the increasing function that is closest in mean square, and needs more images. Fit
    on held-out maps: on those that a network was trained on it is too sure of itself. Book: ``prop-pooled``.

    Parameters
    ----------
    maps : iterable of arrays in [0, 1]
        They may be read one by one; none is kept.
    labels : iterable of arrays of 0 and 1
        In the same order.
    kind
        ``temperature``, ``beta`` or ``isotonic``.

    Examples
    --------
    >>> c = np.repeat([0.1, 0.5, 0.9], 100)  # is right in 30, 50 and 70 of 100 voxels
    >>> label = np.concatenate([np.arange(100) < n for n in (30, 50, 70)])
    >>> fit([c], [label], "temperature")(np.array([0.1, 0.5, 0.9])).round(3)
    array([0.3, 0.5, 0.7])
    """
    return fit_tallies([tally(c, label, f"{k}") for k, (c, label) in enumerate(zip(maps, labels, strict=True))], kind)


def fit_tallies(tallies: Sequence[np.ndarray], kind: str = "beta") -> Calibration:
    """Fit a calibration on maps that were counted by `tally`."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if not len(tallies):
        raise ValueError("maps: expected at least one map to fit a calibration on, got none")
    total = np.sum(tallies, axis=0)
    used = np.flatnonzero(total[0])
    count, soft, truth = total[:, used]
    if not 0 < truth.sum() < count.sum():
        found = "background" if truth.sum() == 0 else "foreground"
        raise ValueError(f"labels: expected foreground and background to fit a calibration, found {found} alone")
    values = soft / count
    inner = np.clip(values, EDGE, 1 - EDGE)
    below = "; the map falls where the label rises: is it of another class, or 1 - c?"
    if kind == "temperature":
        (slope,) = _logistic(logit(values)[:, None], count, truth, np.ones(1))
        if slope <= 0:
            raise ValueError(f"maps: expected a positive slope of the logit, got {slope:.3g}{below}")
        return Calibration(kind, {"T": float(1 / slope)}, len(tallies))
    if kind == "beta":
        columns = {"a": np.log(inner), "b": -np.log1p(-inner), "c": np.ones(len(inner))}
        while True:  # Kull et al.: an exponent that comes out negative is left out
            names = list(columns)
            start = np.array([1.0] * (len(names) - 1) + [0.0])
            w = dict(zip(names, _logistic(np.stack(list(columns.values()), 1), count, truth, start), strict=True))
            least = min((name for name in names if name != "c"), key=lambda name: w[name])
            if w[least] >= 0:
                return Calibration(kind, {name: float(w.get(name, 0.0)) for name in "abc"}, len(tallies))
            if len(columns) == 2:
                raise ValueError(f"maps: expected exponents a, b of at least 0, got {w[least]:.3g}{below}")
            del columns[least]
    starts, steps = _isotonic(count, truth)
    begin = [0, *(int(used[k]) for k in starts[1:])]
    return Calibration(kind, {"start": begin, "value": steps.tolist()}, len(tallies))


def _logistic(features: np.ndarray, count: np.ndarray, truth: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Minimise the cross-entropy of sigmoid(features w) by Newton's method with halved steps, from w on."""

    def loss(w: np.ndarray) -> float:
        z = features @ w
        return float(count @ np.logaddexp(0.0, z) - truth @ z)

    best = loss(w)
    for _ in range(200):
        q = sigmoid(features @ w)
        gradient = features.T @ (truth - count * q)
        if np.abs(gradient).max() <= 1e-9 * count.sum():
            break
        curvature = (features * (count * q * (1 - q))[:, None]).T @ features
        step = np.linalg.lstsq(curvature, gradient, rcond=1e-14)[0]
        for _ in range(40):
            if (found := loss(w + step)) < best:
                break
            step = step / 2
        else:
            break
        w, best = w + step, found
    return w


def _isotonic(count: np.ndarray, truth: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Pool adjacent violators: the places where a step begins, and the foreground's share on each step, rising."""
    steps: list[list[float]] = []  # place, voxels, foreground
    for k, (n, y) in enumerate(zip(count.tolist(), truth.tolist(), strict=True)):
        steps.append([k, n, y])
        while len(steps) > 1 and steps[-2][2] * steps[-1][1] >= steps[-1][2] * steps[-2][1]:
            _, n, y = steps.pop()
            steps[-1][1:] = [steps[-1][1] + n, steps[-1][2] + y]
    return [int(place) for place, _, _ in steps], np.array([y / n for _, n, y in steps])
