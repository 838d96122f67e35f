"""Distance between the surfaces of two masks in mm (book chapter *The experiment*)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt


def surface_distance(first: NDArray, second: NDArray, spacing_mm: ArrayLike) -> float:
    r"""Mean distance between the surfaces of two masks, in mm.

    .. math:: \frac{\sum_{x \in A} d(x, B) + \sum_{x \in B} d(x, A)}{|A| + |B|}

    The surface A of a mask holds its voxels that share a side with a voxel outside it, or with the image's border; d is
    the distance between the voxels' middles.

    Parameters
    ----------
    first, second : arrays (x, y, z) of 0 and 1
    spacing_mm : array (3,)
        Size of a voxel.

    Returns
    -------
    float
        NaN where one mask is empty: there is no distance to nothing. Two empty masks have distance 0.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> bar = np.zeros((1, 1, 6), bool)
    >>> bar[..., 1:3] = True
    >>> surface_distance(bar, np.roll(bar, 1, axis=-1), (2.0, 2.0, 2.0))  # 2, 0 and 0, 2
    1.0
    """
    masks = [np.asarray(mask).astype(bool) for mask in (first, second)]
    if masks[0].shape != masks[1].shape:
        raise ValueError(f"first has shape {masks[0].shape} and second {masks[1].shape}; expected one shape")
    if not all(mask.any() for mask in masks):
        return math.nan if masks[0].any() or masks[1].any() else 0.0
    # Only what holds the masks: the distances inside do not depend on the rest.
    held = [np.flatnonzero((masks[0] | masks[1]).any(tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    box = tuple(slice(int(place[0]), int(place[-1]) + 1) for place in held)
    surfaces = [mask[box] & ~np.asarray(binary_erosion(mask[box]), dtype=bool) for mask in masks]
    spacing = tuple(float(h) for h in np.asarray(spacing_mm))
    far = [np.asarray(distance_transform_edt(~surface, sampling=spacing)) for surface in surfaces]
    total = far[1][surfaces[0]].sum() + far[0][surfaces[1]].sum()
    return float(total / (surfaces[0].sum() + surfaces[1].sum()))
