"""Images with a known segmentation: the 2-D shapes of Figure 1 and CT-like 3-D patches of three organs.

Sizes and Hounsfield units (HU) are those of adults in the literature; where no source is named a value is approximate.

Kidney
    Length 110 mm (SD 8 before truncation; Glodny et al., BMC Urology 2009: right kidney 108.5 +- 12.2 mm on CT of 1040
    adults; Emamian et al., AJR 1993: median 109 mm on the right), width about .53 and thickness about .455 of the
    length. Volumes come out at 155 ml on average, 85 to 250: sonography gives a median of 134 ml on the right (Emamian
    1993), MRI more, 154 +- 33 ml in women and 202 +- 36 ml in men (Cheong et al., CJASN 2007), since the ellipsoid
    formula of sonography underestimates.
Aorta
    Diameter 24 mm (SD 2.6; Hager et al., J Thorac Cardiovasc Surg 2002: 24.3 +- 3.5 mm at the diaphragm on CT; Wolak
    et al., JACC Cardiovasc Imaging 2008: descending aorta 24 +- 3 mm), a little less below the diaphragm.
Oesophagus
    Outer axes about 20 mm by 14 mm: two walls of about 5 mm when contracted (Xia et al., Eur J Radiol 2009) and a
    lumen that is closed or holds a little air. It touches the trachea and the left atrium, as it does in most
    patients (Samuelsson and Tylen, Acta Radiol Diagn 1985).
HU
    Before contrast: kidney 33, blood 42, liver 56, muscle 52, fat -100, lung -860, air -1000 (approximate; Schneider
    et al., Phys Med Biol 1996; Prokop and Galanski, Spiral and Multislice CT of the Body, 2003). Arterial and portal
    venous phase: aorta about 270 and 155, liver 68 and 108, renal cortex 165 and 190 (approximate; Bae, Radiology
    2010). Trabecular bone 165 (SD 35; Jang et al., Radiology 2019: from 226 +- 44 below 30 years of age to 89 +- 38
    above 90).
Noise
    Correlated as filtered back projection makes it (Riederer et al., Phys Med Biol 1978; Kijewski and Judy, Phys Med
    Biol 1987).
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from reproduction.data.phantoms.abdomen import Kidney
from reproduction.data.phantoms.canvas import Canvas, block_mean, ct_noise, plane_waves, random_waves
from reproduction.data.phantoms.chest import ChestTube

#: organs that :func:`ct_phantom` knows; the position is part of the seed
ORGANS = ("kidney", "aorta", "oesophagus")


@dataclass(frozen=True)
class Phantom:
    """A CT-like patch and its true segmentation.

    Attributes
    ----------
    image : ndarray of float32, shape (size, size, size)
        Hounsfield units. Axes are RAS+, the canonical order of nibabel: x from the patient's left to right, y from
        back to front, z from feet to head.
    label : ndarray of uint8, same shape
        1 in the organ, 0 elsewhere.
    spacing_mm : float
        Side of a voxel in mm, the same along each axis.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    spacing_mm: float


def ct_phantom(organ: str, seed: int, size: int = 64, spacing_mm: float = 3.0) -> Phantom:
    """Make a CT-like patch of ``size``^3 voxels around one organ of a random patient.

    A scene of implicit shapes in mm (the organ, its neighbours, the body around them) is sampled at 3^3 points a voxel.
    Their means give the image its partial volumes and the label, 1 where the organ fills at least half of the voxel.
    Then come a point spread of 1.6 mm standard deviation, texture (wavelengths of 9 to 40 mm), slow drifts and noise of
    10 to 20 HU standard deviation, whatever the voxel.

    The patch is centred on the centre of mass of the structure, which lies anywhere in the central 3 mm. The aorta
    and the oesophagus cross the whole patch: they are centred in x and y, and level in z. The kidney's sinus is not
    part of its label, the lumen of the oesophagus is.

    Parameters
    ----------
    organ : str
        ``"kidney"`` (the right one), ``"aorta"`` (descending) or ``"oesophagus"``.
    seed : int
        Not negative. The patient, together with the organ: ``numpy.random.default_rng([seed, organ's index])``. The
        scene does not depend on ``size`` and ``spacing_mm`` as long as their product, the field of view, is the same.
    size : int, default 64
        Voxels along each side, at least 16.
    spacing_mm : float, default 3.0
        Side of a voxel in mm. The default field of view is 192 mm, and so it is with ``size=32, spacing_mm=6.0``.

    Returns
    -------
    Phantom
        Image in Hounsfield units, label and voxel size. Same arguments on the same machine give the same bits.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Examples
    --------
    >>> phantom = ct_phantom("kidney", seed=0, size=32, spacing_mm=6.0)
    >>> phantom.image.shape, phantom.image.dtype.name, phantom.label.dtype.name
    ((32, 32, 32), 'float32', 'uint8')
    >>> bool(90 < phantom.label.sum() * phantom.spacing_mm**3 / 1000 < 260)  # ml
    True
    """
    if organ not in ORGANS:
        raise ValueError(f"organ must be one of {', '.join(ORGANS)}; got {organ!r}")
    seed, size = _whole(seed, "seed", 0), _whole(size, "size", 16)
    if isinstance(spacing_mm, bool) or not isinstance(spacing_mm, (int, float, np.integer, np.floating)):
        raise ValueError(f"spacing_mm must be a number of mm; got {spacing_mm!r}")
    spacing = float(spacing_mm)
    if not (math.isfinite(spacing) and spacing > 0):
        raise ValueError(f"spacing_mm must be a finite, positive number of mm; got {spacing_mm!r}")

    rng = np.random.default_rng([seed, ORGANS.index(organ)])
    field = size * spacing
    scene = Kidney(rng) if organ == "kidney" else ChestTube(rng, organ, field)
    # a scan's voxels do not know where the organ is: its centre lies anywhere within the central one
    centre = scene.centroid() + rng.uniform(-1.5, 1.5, 3)
    canvas = Canvas([float(c) for c in centre], field, 3 * size)
    mask = scene.paint(canvas, rng)
    # an odd number of samples a voxel: no label voxel is exactly half full
    image, share = block_mean(canvas.hu, 3), block_mean(mask.astype(np.float32), 3)
    image = gaussian_filter(image, 1.6 / spacing, mode="nearest", truncate=3.0)
    centres = [a.reshape(size, -1).mean(axis=1) for a in canvas.axes]
    texture = plane_waves(centres, spacing, *random_waves(rng, 48, (9.0, 40.0))) * np.float32(rng.uniform(4, 7))
    texture += plane_waves(centres, spacing, *random_waves(rng, 12, (120.0, 400.0))) * np.float32(rng.uniform(3, 6))
    image += texture * np.clip((image + 1000) / 900, 0.1, 1)  # thin tissue, little texture
    image += ct_noise(rng, size, float(rng.uniform(10, 20)))
    # scanners store 12 bits, from -1024 up
    return Phantom(np.clip(image, -1024, 3071).astype(np.float32), (share >= 0.5).astype(np.uint8), spacing)


def figure1_shapes(size: int = 256) -> NDArray[np.bool_]:
    """Draw nine shapes with corners, thin parts and holes, after Figure 1 of the paper, whose own are not published.

    A square with a hole, a star, a ring; an L, a cross of thin bars, a disc with a slit; three bars of widths .04, .02
    and .01, a crescent and a comb. They are sets in the unit square, evaluated at the voxel centres ((i+1/2)/size,
    (j+1/2)/size), with a margin of at least .06 to the border, twice the strongest noise of the experiments.

    Parameters
    ----------
    size : int, default 256
        Pixels along each side, at least 16. Below about 100 the thinnest bar falls between the pixels.

    Returns
    -------
    ndarray of bool, shape (size, size)
        Row ``i`` is the first coordinate, downwards as ``imshow`` draws it, column ``j`` the second.

    Examples
    --------
    >>> shapes = figure1_shapes(200)
    >>> shapes.shape, shapes.dtype.name
    ((200, 200), 'bool')
    >>> bool(shapes[40, 40]), bool(shapes[40, 22])  # the hole of the square, and its frame
    (False, True)
    """
    size = _whole(size, "size", 16)
    line = (np.arange(size) + 0.5) / size
    row, column = line[:, None], line[None, :]

    def disc(r: float, c: float, radius: float) -> NDArray[np.bool_]:
        return (row - r) ** 2 + (column - c) ** 2 <= radius**2

    def box(r: float, c: float, height: float, width: float) -> NDArray[np.bool_]:
        return (np.abs(row - r) <= height / 2) & (np.abs(column - c) <= width / 2)

    square = box(0.2, 0.2, 0.22, 0.22) & ~box(0.2, 0.2, 0.09, 0.09)
    turns = np.pi * np.arange(10) / 5
    radii = np.where(np.arange(10) % 2 == 0, 0.135, 0.052)
    star = _polygon(row, column, 0.21 - radii * np.cos(turns), 0.5 + radii * np.sin(turns))
    ring = disc(0.2, 0.8, 0.12) & ~disc(0.2, 0.8, 0.08)
    ell = box(0.5, 0.13, 0.24, 0.08) | box(0.58, 0.2, 0.08, 0.22)
    cross = box(0.5, 0.5, 0.24, 0.025) | box(0.5, 0.5, 0.025, 0.24)
    slit = disc(0.5, 0.8, 0.12) & ~box(0.44, 0.8, 0.13, 0.03)
    bars = box(0.8, 0.12, 0.24, 0.04) | box(0.8, 0.2, 0.24, 0.02) | box(0.8, 0.27, 0.24, 0.01)
    crescent = disc(0.8, 0.5, 0.12) & ~disc(0.8, 0.555, 0.1)
    comb = box(0.9, 0.8, 0.04, 0.24)
    for k in range(4):
        comb |= box(0.8, 0.695 + 0.07 * k, 0.24, 0.03)
    return square | star | ring | ell | cross | slit | bars | crescent | comb


def _polygon(
    row: NDArray[np.float64], column: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Points inside a polygon: a ray from the point crosses its edges an odd number of times."""
    inside = np.zeros(np.broadcast_shapes(row.shape, column.shape), bool)
    for r0, c0, r1, c1 in zip(rows, columns, np.roll(rows, -1), np.roll(columns, -1), strict=True):
        if r0 != r1:  # an edge along the ray crosses nothing
            inside ^= ((r0 > row) != (r1 > row)) & (column < c0 + (row - r0) * (c1 - c0) / (r1 - r0))
    return inside


def _whole(value: object, name: str, least: int) -> int:
    """Return `value` as an int, or say what is wrong with it."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}")
    return number
