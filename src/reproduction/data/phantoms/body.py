"""What the scenes of the CT phantoms share: tissues, curves along z, and a body with its trunk, ribs, spine and bowel.

Coordinates are (x, y, z) in mm, x to the patient's right, y to the front, z to the head; the origin of x and y is the
centre of the vertebral bodies. Every painter draws its random numbers in an order that depends on nothing else, so one
seed is one scene however finely it is sampled. What is painted later covers what was painted before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from reproduction.data.phantoms.canvas import Canvas, Point

AIR, LUNG, FAT = -1000.0, -860.0, -100.0
Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

# HU before contrast, in the arterial and in the portal venous phase; the references are in scenes.py
_PHASES: dict[str, tuple[float, float, float]] = {
    "artery": (42, 270, 155), "vein": (40, 90, 150), "heart": (42, 200, 145), "myocardium": (45, 95, 105),
    "liver": (56, 68, 108), "spleen": (48, 120, 122), "cortex": (33, 165, 190), "medulla": (30, 75, 165),
    "muscle": (52, 58, 62), "gut": (38, 62, 75), "oesophagus": (36, 44, 50), "pancreas": (40, 95, 85),
}  # fmt: skip


def tissues(rng: np.random.Generator) -> dict[str, float]:
    """Draw a contrast phase and one patient's HU for each tissue."""
    phase = int(rng.choice(3, p=[0.25, 0.25, 0.5]))
    spread = float(rng.normal(1.0, 0.12))
    hu = {}
    for name, values in _PHASES.items():
        # contrast enhancement scales with dose and body size, what is there without contrast varies little
        hu[name] = values[0] + (values[phase] - values[0]) * spread + float(rng.normal(0, 2.5))
    hu["bone"] = float(np.clip(rng.normal(165, 35), 90, 250))
    return hu


def normal(rng: np.random.Generator, mean: float, sd: float) -> float:
    """Draw from a normal distribution cut off at two standard deviations, so that no patient is absurd."""
    return mean + sd * float(np.clip(rng.standard_normal(), -2, 2))


def wander(rng: np.random.Generator, amplitude_mm: float) -> Curve:
    """Draw a slow random deviation along z (wavelengths 120 to 300 mm)."""
    length = rng.uniform(120, 300, 2)
    phase = rng.uniform(0, 2 * np.pi, 2)
    size = amplitude_mm * rng.uniform(0.4, 1.0, 2)
    return lambda z: (size[:, None] * np.sin(2 * np.pi * z / length[:, None] + phase[:, None])).sum(axis=0)


def through(knots: list[tuple[float, float]], z0: float, scale: float, deviation: Curve | None = None) -> Curve:
    """A smooth curve through (t, value) with t = (z - z0) / scale, constant beyond the ends."""
    t, value = np.array(knots, float).T
    curve = PchipInterpolator(t, value)

    def at(z: NDArray[np.float64]) -> NDArray[np.float64]:
        base = curve(np.clip((z - z0) / scale, t[0], t[-1]))
        return base if deviation is None else base + deviation(z)

    return at


def at(curve: Curve, z: float) -> float:
    """A curve at one height."""
    return float(curve(np.array([z]))[0])


class Body:
    """A patient in the making: the canvas, the random numbers, and this patient's HU of each tissue."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator, inside: float) -> None:
        """Skin, subcutaneous fat and the muscular wall around what is `inside`."""
        self.canvas, self.rng, self.hu = canvas, rng, tissues(rng)
        half_x, half_y = normal(rng, 168, 10), normal(rng, 116, 6)
        self.centre_y = half_y - normal(rng, 84, 4)
        fat, wall = normal(rng, 17, 4), normal(rng, 13, 2)
        self.half_x, self.half_y = half_x - fat - wall, half_y - fat - wall  # of the ellipse inside the wall
        x, y, _ = canvas.grid
        plane = np.full(np.broadcast_shapes(x.shape, y.shape), AIR, np.float32)
        for shrink, value in ((0.0, 20.0), (2.0, FAT), (fat, self.hu["muscle"]), (fat + wall, inside)):
            plane[(x / (half_x - shrink)) ** 2 + ((y - self.centre_y) / (half_y - shrink)) ** 2 <= 1] = value
        canvas.hu[...] = plane

    def squared_depth(self, shrink: float = 0.0) -> NDArray:
        """Columns (n, n, 1) of the canvas: 0 on the axis of the trunk, 1 `shrink` mm inside the wall."""
        x, y, _ = self.canvas.grid
        return (x / (self.half_x - shrink)) ** 2 + ((y - self.centre_y) / (self.half_y - shrink)) ** 2

    def ribs(self, lowest_mm: float) -> None:
        """Ribs in the wall, above `lowest_mm` at the back, falling from the spine forwards: rims around marrow."""
        start, drop = float(self.rng.uniform(0, 30)), float(self.rng.uniform(48, 62))
        x, y, z = self.canvas.grid
        angle = np.arctan2(np.abs(x), self.centre_y - y)  # 0 at the spine, pi at the breastbone
        depth = np.sqrt(self.squared_depth())
        ring = (depth > 1.015) & (depth < 1.10) & (angle > 0.42) & (angle < 2.3)
        i, j = np.nonzero(ring[:, :, 0])
        height = z[0] + drop * angle[i, j]
        phase = np.mod(height - start, np.float32(30.0))
        bone = (phase < 10) & (height > lowest_mm)
        marrow = (phase > 2) & (phase < 8) & bone & ((depth > 1.035) & (depth < 1.08))[i, j]
        column = self.canvas.hu[i, j]
        column[bone] = 480.0
        column[marrow] = 170.0
        self.canvas.hu[i, j] = column

    def spine(self, hx: float, hy: float, pitch: float) -> None:
        """Vertebral bodies with cortex and discs, canal, arches, spinous and transverse processes, back muscles."""
        canvas, hu = self.canvas, self.hu
        start, disc = float(self.rng.uniform(0, pitch)), 0.2 * pitch
        canvas.paint(canvas.tube(0.0, -hy - 34, hx + 46, 36), FAT, over=LUNG)  # no lung behind the spine
        for side in (-1, 1):
            canvas.paint(canvas.tube(side * (hx + 13), -hy - 32, 28, 20, angle=side * 0.15), hu["muscle"])
        body = canvas.tube(0.0, 0.0, hx, hy)
        body = body & (body.grid[1] > -0.85 * hy)
        x, y, z = body.grid
        level = np.mod(z - start, np.float32(pitch))
        plate = np.minimum(np.abs(level - disc), np.float32(pitch) - level) < 1.4
        rim = (x / (hx - 1.8)) ** 2 + (y / (hy - 1.8)) ** 2 > 1
        canvas.paint(body, hu["bone"])
        canvas.paint(body & (rim | plate | (y < -0.85 * hy + 1.8)), 420.0)
        canvas.paint(body & (level < disc), 85.0)
        back = -hy - 8
        arch = canvas.tube(0.0, back, 16, 13)
        bony = np.mod(arch.grid[2] - start, np.float32(pitch)) > 0.35 * pitch
        arch = arch & (arch.grid[1] < -0.8 * hy)
        canvas.paint(arch, hu["muscle"])
        canvas.paint(arch & bony, 330.0)
        for half_width, low, high in ((3.5, back - 42, back - 10), (hx + 16, back - 7, back + 3)):
            process = canvas.box((-half_width, low, -np.inf), (half_width, high, np.inf))
            phase = np.mod(process.grid[2] - start, np.float32(pitch))
            canvas.paint(process & ((phase > 0.4 * pitch) & (phase < 0.75 * pitch)), 280.0)
        canvas.paint(canvas.tube(0.0, back, 11, 8.5), 22.0)
        canvas.paint(canvas.tube(0.0, back, 6, 5), 38.0)

    def bowel(self, centre: Point, radius: float) -> None:
        """A loop of three bends: wall, fluid or faeces, and now and then gas on top (the patient lies on the back)."""
        canvas, rng = self.canvas, self.rng
        points = np.array(centre) + rng.uniform(-1, 1, (4, 3)) * radius * np.array([1.6, 0.6, 1.8])
        content, gas = float(rng.uniform(0, 45)), bool(rng.random() < 0.45)
        level = float(rng.uniform(-0.3, 0.5)) * radius + float(centre[1])
        for shrink, value in ((0.0, self.hu["gut"]), (2.5, content)):
            for p, q in itertools.pairwise(points):
                region = canvas.capsule(p, q, radius - shrink)
                canvas.paint(region, value)
                if gas and shrink:
                    canvas.paint(region & (region.grid[1] > level), -920.0)

    def liver_vessels(self, count: int, low: Point, high: Point, reach: float) -> None:
        """Short straight veins that begin between two corners, seen where they lie in the liver."""
        for _ in range(count):
            start, way = self.rng.uniform(low, high), self.rng.normal(0, reach, 3)
            vessel = self.canvas.capsule(start, start + way, float(self.rng.uniform(1.5, 3.5)))
            self.canvas.paint(vessel, self.hu["vein"], over=self.hu["liver"])
