"""The shape of a mask in numbers: volume, perimeter or surface, components, holes, and how like a ball it is.

A mask is the union of its closed voxels: voxels that share a face, an edge or a corner are connected, and background
through faces only. With this pair components, holes and cavities add up to the Euler number. Every mask is measured
with a margin of background, so a mask that touches the border of its image is closed there. The measurements are
scikit-image's. Arguments that are not as described raise a ``ValueError``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import euler_number, label, marching_cubes, mesh_surface_area, perimeter_crofton

from noisyseg._core.arrays import Array, check_label, per_axis
from noisyseg._core.voxels import bounding_box
from noisyseg.metrics import dice
from noisyseg.noise import GaussianDeformation
from noisyseg.optimal import dice_threshold, optimal_accuracy, optimal_dice


@dataclass(frozen=True)
class Shape:
    """What `measure` finds; lengths are in the unit of its ``spacing``.

    Attributes
    ----------
    volume : float
        Area in 2-D.
    surface : float
        Perimeter in 2-D; borders of holes are included.
    components : int
        Connected parts.
    holes : int
        In 2-D the bounded parts of the background. In 3-D the tunnels (handles), as a ring has one.
    cavities : int
        The bounded parts of the background in 3-D; 0 in 2-D.
    ball_likeness : float
        1 for a ball, less for everything else; NaN for an empty mask.
    """

    volume: float
    surface: float
    components: int
    holes: int
    cavities: int
    ball_likeness: float


def _voxels(mask: Array, spacing: Any) -> tuple[NDArray[np.bool_], tuple[float, ...]]:
    """Give the mask, cropped to its foreground with a margin of one background voxel, and its spacing per axis."""
    view = np.asarray(check_label("mask", mask)) != 0
    if view.ndim not in (2, 3):
        raise ValueError(f"mask: expected an image of two or three axes, got shape {view.shape}")
    sizes = per_axis("spacing", spacing, view.ndim, positive=True)
    box = bounding_box(view)
    return np.pad(view[box] if box is not None else np.zeros((1,) * view.ndim, bool), 1), sizes


def _parts(voxels: NDArray[np.bool_], connectivity: int) -> int:
    numbered: Any = label(voxels, connectivity=connectivity)
    return int(numbered.max())


def _topology(voxels: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Give components, holes (tunnels in 3-D) and cavities: Euler number = components - holes + cavities."""
    n = voxels.ndim
    components = _parts(voxels, n)
    bounded = _parts(~voxels, 1) - 1  # the margin belongs to the unbounded part
    if n == 2:
        return components, bounded, 0
    return components, components + bounded - int(euler_number(voxels, connectivity=n)), bounded


def _surface(voxels: NDArray[np.bool_], spacing: tuple[float, ...]) -> float:
    """Give the perimeter by Crofton's formula in four directions, or the area of the mesh of marching cubes."""
    if not voxels.any():
        return 0.0
    if voxels.ndim == 2:
        if not math.isclose(*spacing, rel_tol=1e-6):
            raise ValueError(f"spacing: expected square pixels for a perimeter, got {spacing}")
        return float(perimeter_crofton(voxels, directions=4)) * spacing[0]
    vertices, faces, _, _ = marching_cubes(voxels.astype(np.float32), 0.5, spacing=spacing)
    return float(mesh_surface_area(vertices, faces))


def measure(mask: Array, spacing: float | Sequence[float] = 1.0) -> Shape:
    r"""Measure a mask: volume, surface, components, holes, cavities, and how like a ball it is.

    The ball-likeness of volume V and surface S is the isoperimetric quotient in 2-D and the sphericity in 3-D, the
    surface of a ball of the same volume over the surface of the mask:

    .. math:: Q = \frac{4 \pi V}{S^2} \quad (n = 2),\qquad
        \psi = \frac{\pi^{1/3} (6 V)^{2/3}}{S} \quad (n = 3)

    Both are at most 1 for a set with a smooth boundary, and 1 for a disc or a ball alone (``prop-ball``).

    An empty mask has no volume, no surface and no component, and its ball-likeness is NaN.

    Parameters
    ----------
    mask
        0 and 1 of any dtype, two or three axes, at least one voxel.
    spacing
        Size of a voxel, one number or one per axis; square pixels in 2-D.

    Notes
    -----
    In 2-D the perimeter is Crofton's formula with four directions: right up to 2 % for discs from a radius of 20 pixels
    on, 5 to 7 % too small for a square along the axes. In 3-D the surface is the mesh of marching cubes through the
    half-way points between voxel centres. On cubic voxels it is 8 to 10 % too large for a ball of any radius, whose
    sphericity so is .91 to .92, and 6 % too small for a cube of ten voxels; on slices seven times as thick as the
    pixels are wide it is 22 % too large for a ball. Compare masks on the same grid.

    Examples
    --------
    A square of 3 x 3 pixels of 2 mm with a hole in the middle, and a single pixel that touches its corner:

    >>> mask = np.zeros((6, 6), dtype=bool)
    >>> mask[1:4, 1:4] = True
    >>> mask[2, 2], mask[4, 4] = False, True
    >>> shape = measure(mask, spacing=2.0)
    >>> shape.volume, shape.components, shape.holes
    (36.0, 1, 1)
    """
    voxels, sizes = _voxels(mask, spacing)
    volume = int(np.count_nonzero(voxels)) * math.prod(sizes)
    surface = _surface(voxels, sizes)
    ball = math.nan
    if surface > 0:
        ball = 4 * math.pi * volume / surface**2
        if voxels.ndim == 3:
            ball = math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface
    return Shape(volume, surface, *_topology(voxels), ball)


def optimal_shapes(label: Array, noise: GaussianDeformation, spacing: float | Sequence[float] = 1.0) -> dict[str, Any]:
    r"""Measure the Accuracy-optimal and the Dice-optimal mask of a noisy label, and compare them.

    With m the label's marginal, v its volume and t its Dice threshold, the masks are :math:`s_A = \{m \ge 1/2\}` and
    :math:`s_D = \{m \ge t\}` (book: ``prop-hull``).

    Parameters
    ----------
    label
        The clean label: 0 and 1, two or three axes, some foreground. Leave room for the noise around it.
    noise
        Only its strength `a` matters here.
    spacing
        As for `measure`.

    Returns
    -------
    dict
        One row of a table: ``volume`` of the label; ``expected_volume``, v; ``threshold``, t; ``overlap``, the Dice of
        the two masks with each other (1 if both are empty); then, for each of ``accuracy`` and ``dice``,
        ``<mask>_dice``, its Dice with m, ``<mask>_volume_ratio``, its volume over v, and ``<mask>_surface``,
        ``<mask>_components``, ``<mask>_holes``, ``<mask>_cavities`` and ``<mask>_ball_likeness`` as in `Shape`.

    Examples
    --------
    A bar of 4 pixels vanishes under noise of 3 pixels, for Accuracy:

    >>> label = np.zeros((40, 40), dtype=bool)
    >>> label[18:22, 10:30] = True
    >>> row = optimal_shapes(label, GaussianDeformation(a=3 / 40))
    >>> row["accuracy_components"], row["dice_components"], row["dice_volume_ratio"] > 1
    (0, 1, True)
    """
    before = measure(label, spacing)
    if before.volume == 0:
        raise ValueError(f"label (shape {tuple(label.shape)}): expected some foreground, found none")
    m = noise.marginal(label)
    voxel = math.prod(per_axis("spacing", spacing, m.ndim, positive=True))
    expected = float(m.sum()) * voxel
    masks = {"accuracy": optimal_accuracy(m), "dice": optimal_dice(m)}
    row: dict[str, Any] = {
        "volume": before.volume,
        "expected_volume": expected,
        "threshold": dice_threshold(m),
        "overlap": dice(masks["accuracy"], masks["dice"]),
    }
    for name, mask in masks.items():
        shape = measure(mask, spacing)
        row[f"{name}_dice"] = dice(mask, m)
        row[f"{name}_volume_ratio"] = shape.volume / expected
        for quantity in ("surface", "components", "holes", "cavities", "ball_likeness"):
            row[f"{name}_{quantity}"] = getattr(shape, quantity)
    return row


def low_noise_dice(volume: float, surface: float, a: float) -> float:
    r"""Estimate the best Dice under weak noise from the volume and the surface of the clean label alone.

    .. math:: D^* = 1 - \frac{a\,S}{\sqrt{2 \pi}\,V} + O(a^3)

    Half of D* is the threshold t. The boundary must be smooth, and `a` small against the radii of its curvature and
    the thickness of the label (book: ``prop-low-noise``).

    Without the remainder it is a lower bound of D* for every `a` and every set with that perimeter (``prop-floor``),
    negative where `a` is large. The surface that `measure` finds on voxels is an estimate; `dice_floor` needs none.

    Parameters
    ----------
    volume, surface
        Of the label, as of `measure`: positive, and non-negative.
    a
        Standard deviation of a displacement, in the same unit of length.

    Examples
    --------
    A ball of radius 25 mm, displaced by 2 mm:

    >>> round(low_noise_dice(volume=4 / 3 * np.pi * 25**3, surface=4 * np.pi * 25**2, a=2.0), 3)
    0.904
    """
    (volume,) = per_axis("volume", volume, 1, positive=True)
    (surface,) = per_axis("surface", surface, 1)
    (a,) = per_axis("a", a, 1)
    return 1 - a * surface / (math.sqrt(2 * math.pi) * volume)


def _mask_and_volume(label: Array) -> tuple[NDArray[np.bool_], int]:
    mask = np.asarray(check_label("label", label)) != 0
    volume = int(np.count_nonzero(mask))
    if volume == 0:
        raise ValueError(f"label (shape {mask.shape}): expected some foreground, found none")
    return mask, volume


def _faces(mask: NDArray[np.bool_], axis: int) -> int:
    """Count the voxel faces across an axis between label and background; beyond the image is background."""
    edges = [(1, 1) if k == axis else (0, 0) for k in range(mask.ndim)]
    return int(np.count_nonzero(np.diff(np.pad(mask, edges), axis=axis)))


def dice_floor(label: Array, noise: GaussianDeformation) -> float:
    r"""Bound the best Dice under noise from below by the voxel faces of the clean label.

    .. math:: D^* \ge D_m(l) \ge 1 - \frac{1}{\sqrt{2 \pi}\,V} \sum_k \sigma_k F_k,\qquad \sigma_k = a_k N_k

    with V the voxels of the label and :math:`F_k` its faces across axis k, those at the border of the image included
    (book: ``prop-floor``). It holds for every noise and where volume leaves the image, and may be negative.

    Examples
    --------
    >>> label = np.zeros((100, 100), dtype=bool)
    >>> label[30:70, 30:70] = True
    >>> round(dice_floor(label, GaussianDeformation(a=0.02)), 3)
    0.92
    """
    mask, volume = _mask_and_volume(label)
    strengths = per_axis("a", noise.a, mask.ndim)
    total = sum(ak * size * _faces(mask, k) for k, (ak, size) in enumerate(zip(strengths, mask.shape, strict=True)))
    return 1 - total / (math.sqrt(2 * math.pi) * volume)


def threshold_grid_error(label: Array, noise: GaussianDeformation) -> float:
    r"""Bound how far the threshold on voxels is from the threshold of the same label in continuous space.

    .. math:: |t_\mathrm{voxels} - t| \le \min\left(\frac12,\;
        \frac{1}{V} \sqrt{\frac{2}{\pi}} \sum_k \frac{F_k}{8\,\sigma_k}\right),\qquad \sigma_k = a_k N_k

    with V the voxels of the label and :math:`F_k` its faces across axis k, where nothing leaves the image (book:
    ``lem-grid``). The label has any shape and some foreground. An axis with a = 0 adds nothing: along it the marginal
    is constant on voxels.

    Examples
    --------
    >>> label = np.zeros((100, 100), dtype=bool)
    >>> label[30:70, 30:70] = True
    >>> round(threshold_grid_error(label, GaussianDeformation(a=0.05)), 6)
    0.001995
    """
    mask, volume = _mask_and_volume(label)
    total = 0.0
    for k, (ak, size) in enumerate(zip(per_axis("a", noise.a, mask.ndim), mask.shape, strict=True)):
        if ak > 0:
            total += _faces(mask, k) / (8 * ak * size)
    return min(0.5, math.sqrt(2 / math.pi) * total / volume)
