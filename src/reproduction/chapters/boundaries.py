"""How far the outlines of several annotators lie apart, and the noise model fitted to that by moments.

Under the model every annotator moves the points of one outline by Gaussian fields. Along the normal n(p) of the outline
the displacement at p has the variance a^2, and at two points p and q of one annotator the covariance
``a^2 exp(-|p - q|^2 / (2 b^2)) n(p) . n(q)``. The outline is not known; that of
at least half of the annotators stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.optimize import brentq, minimize_scalar
from scipy.spatial import KDTree

from noisyseg import GaussianDeformation
from noisyseg.raters import rater_agreement

REACH = 2  # voxels around a point from which its normal is taken
POINTS = 600  # of an outline, drawn if it has more; pairs of them are compared
BINS = 24  # of the distance between two points, up to half the largest distance


@dataclass(frozen=True)
class Displacements:
    """Displacements of R outlines at P points of a reference: ``values`` (R, P), with mean 0 over the annotators.

    ``reference`` is the mask of at least half of the annotators. Lengths are in the unit of the spacing; positive is
    outwards.
    """

    reference: NDArray[np.bool_]
    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def a(self) -> float:
        """Standard deviation of a displacement, from the variance over annotators, averaged over points."""
        return math.sqrt(float(self.values.var(axis=0, ddof=1).mean()))

    @property
    def offsets(self) -> NDArray[np.float64]:
        """Mean displacement of every annotator."""
        return self.values.mean(axis=1)

    def correlation(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Estimate the correlation of displacements over the distance of two points.

        Give the mean distance of each bin, the estimate ``exp(-r^2 / (2 b^2))`` without assuming that form, and its
        weight; bins without a pair are left out.
        """
        r = len(self.values)
        covariance = self.values.T @ self.values / (r - 1)
        cosines = self.normals @ self.normals.T
        distance = np.linalg.norm(self.points[:, None] - self.points[None], axis=2)
        upper = np.triu_indices(len(self.points), 1)
        covariance, cosines, distance = covariance[upper], cosines[upper], distance[upper]
        edges = np.linspace(0, distance.max() / 2, BINS + 1)
        place = np.digitize(distance, edges) - 1
        weight, product, mean = (
            np.bincount(place, x, BINS + 1)[:BINS] for x in (cosines**2, cosines * covariance, cosines**2 * distance)
        )
        some = weight > 0
        return mean[some] / weight[some], product[some] / weight[some] / self.a**2, weight[some]

    def b(self) -> float:
        """Correlation length, by least squares from `correlation`; at most 20 times the largest distance, a shift."""
        distance, found, weight = self.correlation()
        longest = 20 * float(distance.max())

        def misfit(log_b: float) -> float:
            return float((weight * (found - np.exp(-((distance / math.exp(log_b)) ** 2) / 2)) ** 2).sum())

        fit = minimize_scalar(misfit, bounds=(math.log(distance.min() / 4), math.log(longest)), method="bounded")
        return math.exp(fit.x)


def signed_distances(mask: NDArray[np.bool_], at: NDArray[np.intp], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Return the distance of some voxels' centres to the faces of a mask, negative inside; exact where faces are flat.

    Examples
    --------
    >>> mask = np.array([False, False, True, True, True, False])
    >>> signed_distances(mask, np.arange(5)[:, None], [2.0]).tolist()
    [3.0, 1.0, -1.0, -3.0, -1.0]
    """
    half = math.prod(spacing) ** (1 / len(spacing)) / 2
    found = np.empty(len(at))
    within = mask[tuple(at.T)]
    for inside, voxels in ((False, mask), (True, ~mask)):
        edge = voxels & ~np.asarray(binary_erosion(voxels, border_value=1), dtype=bool)
        tree = KDTree(np.argwhere(edge) * np.asarray(spacing))
        chosen = within == inside
        found[chosen] = tree.query(at[chosen] * np.asarray(spacing))[0] - half
    return np.where(within, -found, found)


def displacements(labels: NDArray[np.bool_], spacing: Sequence[float], seed: int = 0) -> Displacements:
    """Measure the displacements of R drawings of one structure, which are cropped with background around them.

    Examples
    --------
    Discs of radius 20 and 22 pixels lie 1 pixel on both sides of their mean:

    >>> r = np.hypot(*(np.indices((61, 61)) - 30))
    >>> found = displacements(np.stack([r < 20, r < 22]), (1.0, 1.0))
    >>> found.offsets.round(1).tolist()
    [-1.0, 1.0]
    >>> round(found.a, 1)
    1.4
    """
    m = labels.mean(axis=0)
    reference = m >= 0.5
    edge = np.argwhere(reference & ~np.asarray(binary_erosion(reference), dtype=bool))
    if len(edge) > POINTS:
        edge = edge[np.sort(np.random.default_rng(seed).choice(len(edge), POINTS, replace=False))]
    steps = np.indices((2 * REACH + 1,) * m.ndim).reshape(m.ndim, -1).T - REACH
    around = np.pad(m, REACH)[tuple((edge[:, None] + steps + REACH).transpose(2, 0, 1))]
    normals = -(around @ (steps * np.asarray(spacing, dtype=np.float64)))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    phi = np.stack([signed_distances(label, edge, spacing) for label in labels])
    values = phi.mean(axis=0) - phi  # an outline farther out has the smaller signed distance
    return Displacements(reference, edge * np.asarray(spacing, dtype=np.float64), normals, values)


def strength(labels: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """Find the a at which two labels of the model around `reference` agree as the annotators do, in pooled Dice.

    Examples
    --------
    >>> disc = np.hypot(*(np.indices((80, 80)) - 40)) < 20
    >>> drawn = GaussianDeformation(0.025, 0.2).sample(disc, rng=1, size=200)
    >>> round(strength(drawn, disc, (1.0, 1.0)), 1)  # .025 of 80 pixels
    2.0
    """
    r = len(labels)
    wanted = (r * rater_agreement(labels.mean(axis=0)) - 1) / (r - 1)

    def excess(a: float) -> float:
        label = np.pad(reference, [(math.ceil(3 * a / h),) * 2 for h in spacing])
        noise = GaussianDeformation.in_mm(a, 1.0, spacing, label.shape)  # the marginal does not depend on b
        return rater_agreement(noise.marginal(label)) - wanted

    high = float(min(spacing)) / 2
    while excess(high) > 0:
        high *= 2
    low = high / 2 if high > min(spacing) / 2 else 0.02 * high
    if excess(low) <= 0:
        return low
    found: Any = brentq(excess, low, high, rtol=np.float64(0.01), xtol=0.01 * low)
    return float(found)
