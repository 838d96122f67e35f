"""Building blocks of the CT phantoms: a canvas in millimetres, implicit shapes, texture and noise.

A `Canvas` holds one field of view sampled on a grid. A shape is asked for in millimetres and comes back as a
`Region`: the sub-block of the grid that can contain it and a boolean mask of that block, so that a small structure
costs little however large the grid is. All coordinates are (x, y, z) in RAS+ order: x grows to the patient's right,
y to the front, z to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Volume = NDArray[np.float32]
Block = tuple[slice, slice, slice]
#: one number an axis, in mm
Point = Sequence[float] | NDArray[np.float64]
#: a number, or one for each of the canvas's heights
AlongZ = float | NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """A boolean mask of one block of the grid: where the block lies in the whole, its mask, its open grid in mm."""

    block: Block
    mask: Mask
    grid: Sequence[Volume]

    def __and__(self, mask: Mask) -> Region:
        """Restrict the region to `mask`, an array that broadcasts against the block."""
        return Region(self.block, self.mask & mask, self.grid)

    def within(self, columns: Mask) -> Region:
        """Restrict the region to some columns of the canvas: a mask (n, n, 1) of the whole of it."""
        return self & columns[self.block[:2]]


class Canvas:
    """A cubic field of view in mm, sampled at `size` voxel centres an axis; `hu` starts as air."""

    def __init__(self, centre_mm: Point, field_mm: float, size: int, fill_hu: float = -1000.0) -> None:
        """Lay the grid around `centre_mm` (x, y, z)."""
        step = field_mm / size
        offsets = (np.arange(size) + 0.5) * step - field_mm / 2
        self.axes = [(float(c) + offsets).astype(np.float32) for c in centre_mm]
        self.heights = self.axes[2].astype(float)  # what curves along z are functions of
        self.grid = _open_grid(self.axes)
        self.hu: Volume = np.full((size, size, size), fill_hu, np.float32)

    def block(self, low_mm: Point, high_mm: Point) -> tuple[Block, Sequence[Volume]]:
        """Return the block of the grid between two corners, and its open grid."""
        cuts = [
            slice(*np.searchsorted(a, np.asarray((lo, hi), np.float32)).tolist())
            for a, lo, hi in zip(self.axes, low_mm, high_mm, strict=True)
        ]
        return (cuts[0], cuts[1], cuts[2]), _open_grid([a[c] for a, c in zip(self.axes, cuts, strict=True)])

    def _around(self, centre_mm: Point, reach_mm: Point) -> tuple[Block, Sequence[Volume], list[Volume]]:
        """Return the block around a point, its open grid, and that counted from the point, still float32."""
        centre, reach = np.asarray(centre_mm, float), np.asarray(reach_mm)
        block, grid = self.block(centre - reach, centre + reach)
        return block, grid, [axis - c for axis, c in zip(grid, centre.tolist(), strict=True)]

    def paint(self, region: Region, hu: float, over: float | None = None) -> None:
        """Set the voxels of a region to `hu`; only those that are `over` now, if that is given."""
        view = self.hu[region.block]
        view[region.mask if over is None else region.mask & (view == np.float32(over))] = hu

    def whole(self, region: Region) -> Mask:
        """The mask of a region on the whole grid."""
        mask = np.zeros(self.hu.shape, bool)
        mask[region.block] = region.mask
        return mask

    def ellipsoid(self, centre_mm: Point, semi_mm: Point, bumps: Sequence[float] = (0.0, 0.0, 0.0, 0.0)) -> Region:
        """Points with sum_k (d_k / semi_k)^2 <= 1, axes along the grid's.

        `bumps` = (amplitude, phase x, phase y, phase z) moulds the surface with waves.
        """
        amplitude, *phases = (float(v) for v in bumps)
        semi = np.asarray(semi_mm, float)
        block, grid, distances = self._around(centre_mm, semi * (1 + 2 * abs(amplitude)))
        q = []
        for d, s, p in zip(distances, semi.tolist(), phases, strict=True):
            u = d / s
            q.append(u**2 + amplitude * np.sin(np.float32(4.5) * u + p))
        # every term is a function of one coordinate: only the last sum costs a pass over the block
        return Region(block, (q[0] + q[1]) + q[2] <= 1, grid)

    def bean(
        self, centre_mm: Point, frame: NDArray[np.float64], semi_mm: Point, bend: float = 0.0
    ) -> tuple[Region, list[Volume]]:
        """An ellipsoid with axes along the rows (u, v, w) of `frame`, its poles bent by -`bend` w^2 along u.

        Returned with the local coordinates (u + bend w^2, v, w) over the semi-axes, whose squares add up to 1 on the
        surface. The bending is a shear, so the volume is that of the ellipsoid.
        """
        semi = np.asarray(semi_mm, float)
        reach = np.sqrt((frame**2 * semi[:, None] ** 2).sum(axis=0)) + bend * semi[2] ** 2
        block, grid, d = self._around(centre_mm, reach)
        u, v, w = ((float(r[0]) * d[0] + float(r[1]) * d[1]) + float(r[2]) * d[2] for r in frame)
        local = [
            c.astype(np.float32) for c in ((u + bend * w**2) / float(semi[0]), v / float(semi[1]), w / float(semi[2]))
        ]
        return Region(block, local[0] ** 2 + local[1] ** 2 + local[2] ** 2 <= 1, grid), local

    def box(self, low_mm: Point, high_mm: Point) -> Region:
        """Everything between two corners."""
        block, grid = self.block(low_mm, high_mm)
        return Region(block, np.ones([g.size for g in grid], bool), grid)

    def tube(
        self,
        x_mm: AlongZ,
        y_mm: AlongZ,
        rx_mm: AlongZ,
        ry_mm: AlongZ,
        z_mm: tuple[float, float] = (-np.inf, np.inf),
        angle: float = 0.0,
    ) -> Region:
        """Ellipses with semi-axes (rx, ry), turned by `angle` (radians), stacked along z between `z_mm`."""
        cx, cy, rx, ry = (np.broadcast_to(f, self.heights.shape) for f in (x_mm, y_mm, rx_mm, ry_mm))
        r = float(np.maximum(rx, ry).max())
        block, grid = self.block((cx.min() - r, cy.min() - r, z_mm[0]), (cx.max() + r, cy.max() + r, z_mm[1]))
        x, y, _ = grid
        cx, cy, rx, ry = (f[block[2]].astype(np.float32) for f in (cx, cy, rx, ry))
        u, v = x - cx, y - cy
        if angle:
            c, s = float(np.cos(angle)), float(np.sin(angle))
            u, v = c * u + s * v, c * v - s * u
        return Region(block, (u / rx) ** 2 + (v / ry) ** 2 <= 1, grid)

    def capsule(self, start_mm: Point, end_mm: Point, radius_mm: float) -> Region:
        """Points at most `radius_mm` from the segment between two points."""
        p, q = np.asarray(start_mm, float), np.asarray(end_mm, float)
        block, grid = self.block(np.minimum(p, q) - radius_mm, np.maximum(p, q) + radius_mm)
        d = [axis - float(start) for axis, start in zip(grid, p, strict=True)]
        line = [float(e) for e in q - p]
        t = (d[0] * line[0] + d[1] * line[1] + d[2] * line[2]) / max(sum(e * e for e in line), 1e-9)
        t = np.clip(t, 0, 1)
        squared = (d[0] - t * line[0]) ** 2 + (d[1] - t * line[1]) ** 2 + (d[2] - t * line[2]) ** 2
        return Region(block, squared <= radius_mm**2, grid)


def _open_grid(axes: Sequence[Volume]) -> Sequence[Volume]:
    """Coordinates x (n,1,1), y (1,n,1), z (1,1,n), in mm."""
    return np.meshgrid(*axes, indexing="ij", sparse=True)


def block_mean(volume: Volume, factor: int) -> Volume:
    """Mean over blocks of `factor`^3 voxels."""
    for axis in range(3):
        parts = [volume[(slice(None),) * axis + (slice(k, None, factor),)] for k in range(factor)]
        volume = sum(parts[1:], start=parts[0])
    return volume * np.float32(1 / factor**3)


def plane_waves(
    axes: Sequence[Volume], spacing_mm: float, wave_vectors: NDArray[np.float64], phases: NDArray[np.float64]
) -> Volume:
    """Return the means over voxels of sqrt(2/K) sum_k cos(w_k . r + p_k): a smooth random field of unit variance.

    `wave_vectors` is (K, 3) in radians per mm, `axes` the voxel centres. The mean of a wave over a voxel is its value
    at the centre times one sinc an axis, so waves that a coarse grid cannot show fade instead of aliasing. A plane
    wave is a product of one factor an axis, so the sum is one matrix product instead of K passes over the volume.
    """
    fade = np.sinc(wave_vectors * spacing_mm / (2 * np.pi)).prod(axis=1) * np.sqrt(2 / len(phases))
    ex, ey, ez = (np.exp(1j * np.outer(a.astype(float), w)) for a, w in zip(axes, wave_vectors.T, strict=True))
    ey = ey * (fade * np.exp(1j * phases))
    plane = (ex[:, None, :] * ey[None, :, :]).reshape(-1, len(phases)).astype(np.complex64)
    ez = ez.astype(np.complex64)
    left = np.concatenate([plane.real, -plane.imag], axis=1)
    right = np.concatenate([ez.real, ez.imag], axis=1)
    # einsum, not @: BLAS rounds differently when it has more threads, and a seed must give the same bits
    total = np.einsum("pk,zk->pz", left, right)
    return total.reshape(len(axes[0]), len(axes[1]), len(axes[2]))


def random_waves(
    rng: np.random.Generator, count: int, wavelengths_mm: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw wave vectors of random direction, with wavelengths in a range, and phases for `plane_waves`."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    lengths = rng.uniform(*wavelengths_mm, size=(count, 1))
    return 2 * np.pi * direction / lengths, rng.uniform(0, 2 * np.pi, count)


def ct_noise(rng: np.random.Generator, size: int, sd_hu: float) -> Volume:
    """Noise of standard deviation `sd_hu` with the spectrum of filtered back projection, f exp(-(f/f0)^2) in the plane.

    The ramp of the reconstruction removes the lowest frequencies, so that neighbours are correlated but no slice is
    brighter than the next; f0 is a quarter of a cycle a voxel. Along z the noise is averaged over neighbouring slices.
    """
    white = rng.standard_normal((size, size, size), dtype=np.float32)
    fx, fy = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    radial = np.hypot(fx, fy)
    gain = np.sqrt(radial) * np.exp(-0.5 * (radial / 0.25) ** 2)
    full = np.hypot(fx, np.fft.fftfreq(size)[None, :])
    gain /= np.sqrt((full * np.exp(-((full / 0.25) ** 2))).mean())
    spectrum = np.asarray(scipy.fft.rfft2(white, axes=(0, 1)))
    noise = np.asarray(scipy.fft.irfft2(spectrum * gain[:, :, None].astype(np.float32), s=(size, size), axes=(0, 1)))
    noise = noise + 0.5 * (np.roll(noise, 1, axis=2) + np.roll(noise, -1, axis=2))
    return (noise * np.float32(sd_hu / np.sqrt(1.5))).astype(np.float32)
