"""Cutting patches: centring a volume in a box, halving its resolution, and resampling around a structure.

:class:`PatchGrid` places cubic cells in a volume of any voxel size. What a cell gets is separable: a matrix an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def centre_in_box(volume: NDArray, side: int, fill: float = 0) -> NDArray:
    """Centre ``volume`` in a cube of ``side`` voxels, filled with ``fill`` around it.

    The same number of voxels goes before and after each axis; where that cannot be, one more goes after. A volume that
    does not fit raises a ``ValueError``: nothing is ever cut off.

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
    """Mean of every block of ``factor`` voxels along each axis, which must be a multiple of it.

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


def centre_of_mass(mask: ArrayLike) -> NDArray[np.float64]:
    """Mean place of the voxels of a mask, in voxels from the volume's corner: the middle of the first voxel is 1/2.

    Examples
    --------
    >>> centre_of_mass([[0, 0, 0], [0, 1, 1]])
    array([1.5, 2. ])
    """
    filled = np.asarray(mask) != 0
    total = int(np.count_nonzero(filled))
    if not total:
        raise ValueError(f"mask of shape {filled.shape} is empty: it has no centre of mass")
    centre = []
    for axis, n in enumerate(filled.shape):
        # Sums of whole numbers: exact, so that everybody rounds the patch to the same voxel.
        profile = np.count_nonzero(filled, axis=tuple(k for k in range(filled.ndim) if k != axis))
        centre.append(int(profile @ np.arange(n)) / total + 0.5)
    return np.array(centre)


def tent_weights(voxels: int, spacing_mm: float, corner: int, cells: int, cell_mm: float) -> NDArray[np.float64]:
    """Weights that resample an image along one axis without aliasing, shape (cells, voxels).

    The cell at x mm is the weighted mean of the voxels at x_j mm with weights max(0, 1 - |x - x_j| / w), where w is
    ``cell_mm``, or ``spacing_mm`` if that is larger. From 1.5 to 3 mm these are 1/8, 3/8, 3/8, 1/8: of a wave whose
    period is P mm there remains cos(1.5 pi / P)^3, nothing at the period of 3 mm, which would turn into a constant, and
    0.35 at 6 mm, the shortest wave that the cells can hold (the mean of two voxels would leave 0.71). From 3 to 3 mm
    nothing is changed; onto finer cells it interpolates linearly.

    Beyond the border the outermost voxel is repeated, as far as the tent of a cell reaches. A cell whose centre lies
    outside the volume has a row of zeros.

    Parameters
    ----------
    voxels, spacing_mm
        Number and size of the voxels.
    corner
        Voxel at whose lower side the cells begin; it may be negative.
    cells, cell_mm
        Number and size of the cells.

    Examples
    --------
    >>> tent_weights(5, 1.5, 1, 3, 3.0)
    array([[0.125, 0.375, 0.375, 0.125, 0.   ],
           [0.   , 0.   , 0.125, 0.375, 0.5  ],
           [0.   , 0.   , 0.   , 0.   , 0.   ]])
    """
    width = max(cell_mm, spacing_mm)
    middles = corner * spacing_mm + (np.arange(cells) + 0.5) * cell_mm
    beyond = int(width / spacing_mm) + 1
    index = np.arange(-beyond, voxels + beyond)
    weights = np.maximum(0.0, 1 - np.abs(middles[:, None] - (index + 0.5) * spacing_mm) / width)
    slack = 1e-6 * spacing_mm
    weights[(middles < -slack) | (middles > voxels * spacing_mm + slack)] = 0
    folded = weights[:, beyond : beyond + voxels].copy()
    folded[:, 0] += weights[:, :beyond].sum(axis=1)
    folded[:, -1] += weights[:, beyond + voxels :].sum(axis=1)
    total = folded.sum(axis=1, keepdims=True)
    return folded / np.where(total > 0, total, 1.0)


def overlap_weights(voxels: int, spacing_mm: float, corner: int, cells: int, cell_mm: float) -> NDArray[np.float64]:
    """Share of each cell that each voxel fills, along one axis, shape (cells, voxels); arguments as `tent_weights`.

    Examples
    --------
    >>> overlap_weights(4, 1.5, -1, 2, 3.0)
    array([[0.5, 0. , 0. , 0. ],
           [0. , 0.5, 0.5, 0. ]])
    """
    lower = corner * spacing_mm + np.arange(cells)[:, None] * cell_mm
    edges = np.arange(voxels) * spacing_mm
    common = np.minimum(lower + cell_mm, edges + spacing_mm) - np.maximum(lower, edges)
    return np.maximum(0.0, common) / cell_mm


def _apply(volume: NDArray, weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Multiply each axis by its matrix; voxels that no cell asks for are never converted."""
    used = [np.flatnonzero(w.any(axis=0)) for w in weights]
    box = tuple(slice(int(u[0]), int(u[-1]) + 1) if u.size else slice(0, 0) for u in used)
    out = volume[box].astype(np.float64)
    for axis, (w, inside) in enumerate(zip(weights, box, strict=True)):
        out = np.moveaxis(np.tensordot(w[:, inside], out, axes=(1, axis)), 0, axis)
    return out


@dataclass(frozen=True)
class PatchGrid:
    """A cube of ``cells``^3 cells of ``cell_mm`` in a volume with voxels of ``spacing_mm``.

    It begins at the lower side of voxel ``corner`` (three whole numbers, possibly negative), so that cells of twice the
    voxel size hold whole voxels.

    Examples
    --------
    >>> mask = np.zeros((8, 8, 8))
    >>> mask[2:6, 2:6, 2:6] = 1
    >>> grid = PatchGrid.around(mask, (1.5, 1.5, 1.5), cells=4, cell_mm=3.0)
    >>> grid.corner, grid.label(mask).sum()
    ((0, 0, 0), np.uint64(8))
    """

    corner: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    cells: int
    cell_mm: float

    @classmethod
    def around(cls, mask: NDArray, spacing_mm: Sequence[float], cells: int, cell_mm: float) -> PatchGrid:
        """Centre the cube on the centre of mass of ``mask``, to the nearest voxel (halves to the even one)."""
        h = np.asarray(spacing_mm, dtype=np.float64)
        if mask.ndim != 3 or h.shape != (3,) or not ((h > 0) & (h < np.inf)).all():
            raise ValueError(
                f"mask has shape {mask.shape} and spacing_mm is {h.tolist()}; expected three axes, lengths above 0"
            )
        x, y, z = (int(c) for c in np.rint(centre_of_mass(mask) - cells * cell_mm / (2 * h)))
        return cls((x, y, z), (float(h[0]), float(h[1]), float(h[2])), cells, cell_mm)

    def image(self, volume: NDArray, fill: float) -> NDArray[np.float32]:
        """Resample an image (`tent_weights` along each axis); cells centred outside the volume get ``fill``.

        From 1.5 to 3 mm the weights are eighths, so whole numbers come out exactly, the same bits everywhere.
        """
        weights = self._weights(tent_weights, volume)
        x, y, z = (np.asarray(w.any(axis=1)) for w in weights)
        inside = x[:, None, None] & y[:, None] & z
        return np.where(inside, _apply(volume, weights), fill).astype(np.float32)

    def label(self, mask: NDArray) -> NDArray[np.uint8]:
        """Resample a label: 1 where at least half of the cell is filled, the rule of ``halve`` at any voxel size.

        A cell then says what most of it is, and a tie counts as filled. Outside the volume there is nothing.
        """
        filled = _apply(mask != 0, self._weights(overlap_weights, mask))
        return (filled >= 0.5 - 1e-9).astype(np.uint8)

    def voxels(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """Box of the voxels of a volume of ``shape`` whose centres lie in the cube."""
        side = self.cells * self.cell_mm
        box = []
        for n, h, corner in zip(shape, self.spacing_mm, self.corner, strict=True):
            first, end = max(corner, 0), corner + int(side / h + 0.5 + 1e-9)
            box.append(slice(min(first, n), max(min(end, n), 0)))
        return tuple(box)

    def _weights(self, kind, volume: NDArray) -> list[NDArray[np.float64]]:
        if volume.ndim != 3:
            raise ValueError(f"volume has shape {volume.shape}; expected three axes")
        places = zip(volume.shape, self.spacing_mm, self.corner, strict=True)
        return [kind(n, h, corner, self.cells, self.cell_mm) for n, h, corner in places]
