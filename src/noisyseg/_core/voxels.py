"""The voxel model behind `noisyseg.GaussianDeformation`: weights of the marginal, and the deformation of one sample.

A label is constant on voxels and 0 outside the image. Along one axis, voxel i looks at the position i + 1/2 plus a
normal displacement of standard deviation s (all in voxels), and so at voxel j if the position lies in [j, j + 1).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from noisyseg._core.arrays import Array, is_tensor

SLAB = 1 << 16  # voxels whose field is computed at a time
TOGETHER = 4  # slabs deformed in one step: fewer steps, and their positions still fit the caches
DEVICE_SLAB = 1 << 24  # on an accelerator a slab has to hide the launches
PIECE = 1 << 18  # multiplications in one matrix product; OpenBLAS uses threads for more
NEGLIGIBLE = 1e-17  # weights below this change no float64 sum of probabilities


def voxel_weights(size: int, s: float) -> np.ndarray:
    """Compute the probabilities Phi((d + 1/2)/s) - Phi((d - 1/2)/s) of a displacement by d = 0, 1, ... < size voxels.

    Float64. They fall with d and end before they reach 1e-17; there is always one.
    """
    if s == 0:
        return np.ones(1)
    tails = [math.erfc((d + 0.5) / (s * math.sqrt(2))) / 2 for d in range(size)]  # P(displacement > d + 1/2)
    weights = [math.erf(0.5 / (s * math.sqrt(2)))]
    for nearer, farther in pairwise(tails):
        if nearer - farther < NEGLIGIBLE:
            break
        weights.append(nearer - farther)
    return np.array(weights)


def reached(size: int, weights: np.ndarray, inside: slice) -> slice:
    """Give the voxels of an axis that have some weight on the voxels `inside`."""
    reach = len(weights) - 1
    return slice(max(0, inside.start - reach), min(size, inside.stop + reach))


def weight_matrix(weights: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Give the matrix of the weights of some voxels of an axis (rows) on others (columns)."""
    distance = abs(np.arange(rows.start, rows.stop)[:, None] - np.arange(columns.start, columns.stop))
    return np.append(weights, 0.0)[np.minimum(distance, len(weights))]


def leaving(size: int, s: float) -> np.ndarray:
    """Compute, for every voxel j of an axis, the part of its weights that falls on places outside the image.

    The weights between i and j, summed over i < N, telescope to 1 - Phi(-(j + 1/2)/s) - Phi(-(N - j - 1/2)/s).
    """
    if s == 0:
        return np.zeros(size)
    tail = np.array([math.erfc((j + 0.5) / (s * math.sqrt(2))) / 2 for j in range(size)])
    return tail + tail[::-1]


def contract(z: Array, factors: Sequence[Array], rows: slice = slice(None)) -> Array:
    """Multiply `z` by the factors of every axis but the last, for some rows of the first axis.

    Parameters
    ----------
    z : array of shape (n, r_1, ..., r_d)
        White noise, possibly scaled.
    factors : sequence of d arrays of shape (N_k, r_k)
        Of the same kind, device and dtype as `z`.
    rows : slice
        Which rows of the first axis to compute; without meaning for d = 1.

    Returns
    -------
    array of shape (n, lines, r_d)
        The field along line ``i`` is the product of row ``i`` and the transposed last factor.
    """
    n, d = z.shape[0], len(factors)
    x = z
    batch = n
    for k in range(d - 1):
        factor = factors[k][rows] if k == 0 else factors[k]
        x = factor @ x.reshape(batch, factor.shape[1], -1)
        batch *= factor.shape[0]
    return x.reshape(n, -1, factors[-1].shape[1])


def bounding_box(label: Array) -> tuple[slice, ...] | None:
    """Find the smallest box that holds all of the label's foreground; None if there is none."""
    box: list[slice] = []
    shadow = label != 0
    for _ in range(label.ndim):
        occupied = shadow.reshape(shadow.shape[0], -1).any(1)
        inside = occupied.nonzero()
        inside = inside[0] if isinstance(inside, tuple) else inside[:, 0]
        if len(inside) == 0:
            return None
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
        shadow = shadow.any(0)
    return tuple(box)


def _product(lines: np.ndarray, last: np.ndarray, out: np.ndarray) -> None:
    """Multiply two matrices in pieces that BLAS does not share between threads.

    They are too small to gain by it, and lose much where another library's threads still hold the other cores.
    """
    (count, rank), width = lines.shape, last.shape[1]
    step = max(1, PIECE // (rank * width))
    head = count - count % step
    np.matmul(lines[:head].reshape(-1, step, rank), last, out=out[:head].reshape(-1, step, width))
    if head < count:
        np.matmul(lines[head:], last, out=out[head:])


class Warp:
    """Deform one label by many fields: everything that does not depend on the noise is prepared once.

    Only the label's bounding box is kept, with a margin of one empty voxel. Positions are clipped into that margin,
    where the label is 0 like everywhere outside the box, so clipping changes nothing and every look-up is valid.
    """

    def __init__(
        self, label: Array, box: Sequence[slice], sigma: Sequence[float], factors: Sequence[np.ndarray]
    ) -> None:
        self.shape = tuple(label.shape)
        self.ranks = [f.shape[1] for f in factors]
        self.factors: list[Array] = [f.astype(np.float32) for f in factors]
        self.inner = [inside.stop - inside.start for inside in box]
        sizes = [n + 2 for n in self.inner]
        self.strides = [math.prod(sizes[k + 1 :]) for k in range(len(sizes))]
        self.index_type = np.int32 if math.prod(sizes) < 2**31 else np.int64
        # Position of every voxel centre along its own axis, counted from the corner of the margin.
        self.centres: list[Array] = [
            (np.arange(n) - inside.start + 1.5).astype(np.float32) for n, inside in zip(self.shape, box, strict=True)
        ]
        self.scale: Array = np.asarray(sigma, dtype=np.float32).reshape(-1, *[1] * len(self.shape))
        if is_tensor(label):
            torch = sys.modules["torch"]
            self.factors = [torch.from_numpy(f).to(label.device) for f in self.factors]
            self.centres = [torch.from_numpy(c).to(label.device) for c in self.centres]
            self.scale = torch.from_numpy(self.scale).to(label.device)
            table = label.new_zeros(sizes)
        else:
            table = np.zeros(sizes, dtype=label.dtype)
        table[(slice(1, -1),) * len(sizes)] = label[tuple(box)]
        self.table = table.reshape(-1)
        self.starts: dict[int, list[Array]] = {}  # of every slab, kept for the next sample

    def __call__(self, z: Array, sample: Array) -> None:
        """Write the label deformed by the field of the white noise `z` into `sample`, which holds zeros."""
        tensor = is_tensor(sample)
        if tensor:
            torch = sys.modules["torch"]
            z = (z if is_tensor(z) else torch.from_numpy(z)).to(sample.device)
        elif is_tensor(z):
            z = z.cpu().numpy()
        z = z * self.scale
        width = self.shape[-1]
        lines_per_row = math.prod(self.shape[1:-1])
        count = 1 if len(self.shape) == 1 else self.shape[0]
        step = max(1, (DEVICE_SLAB if tensor else SLAB) // (lines_per_row * width))
        stride = step if tensor else step * TOGETHER
        for start in range(0, count, stride):
            rows = slice(start, min(start + stride, count))
            # In parts of one size, whatever is deformed together: another size would round otherwise.
            parts = [slice(k, min(k + step, count)) for k in range(rows.start, rows.stop, step)]
            pieces = [contract(z, self.factors, part) for part in parts]
            lines = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
            if start not in self.starts:
                self.starts[start] = self._line_starts(rows)
            starts = self.starts[start]
            out = sample.reshape(-1, width)[rows.start * lines_per_row : rows.stop * lines_per_row]
            if tensor:
                self._deform_tensor(lines, starts, out)
            else:
                self._deform(lines, starts, out)

    def _line_starts(self, rows: slice) -> list[Array]:
        """Give the centre of every line of some rows, along all axes but the last, each of shape (lines,)."""
        d = len(self.shape) - 1
        grid = [self.centres[k][rows] if k == 0 else self.centres[k] for k in range(d)]
        sizes = [len(g) for g in grid]
        shaped = [g.reshape([-1 if j == k else 1 for j in range(d)]) for k, g in enumerate(grid)]
        if is_tensor(self.table):
            return [g.expand(sizes).reshape(-1) for g in shaped]
        return [np.broadcast_to(g, sizes).reshape(-1) for g in shaped]

    def _deform(self, lines: np.ndarray, starts: Sequence[np.ndarray], out: np.ndarray) -> None:
        # The rows of the last factor have norm 1: the norm of a line's coefficients bounds its displacements.
        bounds = np.sqrt(np.einsum("klr,klr->kl", lines, lines)) * np.float32(1.0001) + np.float32(0.01)
        active = np.ones(lines.shape[1], dtype=bool)
        for bound, centre, n in zip(bounds, starts, self.inner, strict=False):
            active &= (centre + bound > 1) & (centre - bound < n + 1)
        chosen = np.flatnonzero(active)
        if len(chosen) == 0:
            return
        reach = bounds[-1][chosen].max()
        near = np.flatnonzero((self.centres[-1] + reach > 1) & (self.centres[-1] - reach < self.inner[-1] + 1))
        if len(near) == 0:
            return
        columns = slice(int(near[0]), int(near[-1]) + 1)
        everything = 4 * len(chosen) >= 3 * lines.shape[1]  # picking lines costs more than a few in vain
        if not everything:
            lines = lines[:, chosen]
            starts = [centre[chosen] for centre in starts]
        last = self.factors[-1][columns].T
        position = np.empty((lines.shape[1], last.shape[1]), dtype=np.float32)
        voxel = np.empty(position.shape, dtype=self.index_type)
        index = np.empty(position.shape, dtype=self.index_type)
        for k, n in enumerate(self.inner):
            _product(lines[k], last, position)
            position += starts[k][:, None] if k < len(starts) else self.centres[-1][columns]
            np.clip(position, 0, np.float32(n + 1.5), out=position)
            np.copyto(voxel, position, casting="unsafe")  # positions are not negative: truncation is floor
            if k == 0:
                np.multiply(voxel, self.strides[k], out=index)
            else:
                if self.strides[k] != 1:
                    voxel *= self.strides[k]
                index += voxel
        if everything:
            out[:, columns] = np.take(self.table, index)
        else:
            out[chosen, columns] = np.take(self.table, index)

    def _deform_tensor(self, lines: Array, starts: Sequence[Array], out: Array) -> None:
        index = None
        for k, n in enumerate(self.inner):
            position = lines[k] @ self.factors[-1].T
            position += starts[k][:, None] if k < len(starts) else self.centres[-1]
            voxel = position.clamp_(0, n + 1.5).long().mul_(self.strides[k])
            index = voxel if index is None else index.add_(voxel)
        out.copy_(self.table[index])
