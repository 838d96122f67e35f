"""Cutting patches: centring a volume in a box and halving its resolution (book chapter *Data*)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def centre_in_box(volume: NDArray, side: int, fill: float = 0) -> NDArray:
    """Centre ``volume`` in a cube of ``side`` voxels, filled with ``fill`` around it.

    The same number of voxels goes before and after each axis; where that cannot be, one more goes after.

    Parameters
    ----------
    volume : array (x, y, z)
    side : voxels of the cube's edge
    fill : value outside the volume

    Raises
    ------
    ValueError
        If the volume does not fit: nothing is ever cut off.

    Examples
    --------
    >>> centre_in_box(np.ones((1, 2, 1)), 2)[:, :, 0]
    array([[1., 1.],
           [0., 0.]])
    """
    if volume.ndim != 3 or max(volume.shape) > side:
        raise ValueError(f"volume has shape {volume.shape}; expected three axes of at most {side} voxels")
    box = np.full((side,) * 3, fill, dtype=volume.dtype)
    start = [(side - n) // 2 for n in volume.shape]
    box[tuple(slice(s, s + n) for s, n in zip(start, volume.shape, strict=True))] = volume
    return box


def block_means(volume: NDArray, factor: int = 2) -> NDArray[np.float64]:
    """Mean of every block of ``factor`` voxels along each axis: the resolution divided by ``factor``.

    Raises
    ------
    ValueError
        If an axis is not a multiple of ``factor``.

    Examples
    --------
    >>> block_means(np.array([0.0, 1.0, 2.0, 4.0]))
    array([0.5, 3. ])
    """
    if factor < 1 or any(n % factor for n in volume.shape):
        raise ValueError(f"volume has shape {volume.shape}; expected multiples of factor = {factor}")
    shape = [size for n in volume.shape for size in (n // factor, factor)]
    return volume.reshape(shape).mean(axis=tuple(range(1, len(shape), 2)), dtype=np.float64)


def halve(image: NDArray, label: NDArray) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Half the resolution: block means of the image, block majority (at least half) of the label.

    Examples
    --------
    >>> image, label = halve(np.ones((2, 2, 2)), np.array([[[1, 1], [1, 1]], [[0, 0], [0, 0]]]))
    >>> float(image[0, 0, 0]), int(label[0, 0, 0])
    (1.0, 1)
    """
    return block_means(image).astype(np.float32), (block_means(label) >= 0.5).astype(np.uint8)
