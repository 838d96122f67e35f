"""The chest of the CT phantoms: descending aorta and oesophagus with lungs, heart, airways, spine, upper abdomen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reproduction.data.phantoms.body import FAT, LUNG, Body, Curve, at, normal, through, wander
from reproduction.data.phantoms.canvas import Canvas, Mask

Centre = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]


class ChestTube:
    """The descending aorta or the oesophagus, in a chest that ends at the diaphragm somewhere in the field of view."""

    def __init__(self, rng: np.random.Generator, organ: str, field_mm: float) -> None:
        """Draw level, size and course."""
        self.organ, self.field_mm = organ, field_mm
        self.hiatus = float(rng.uniform(-55, 35) if organ == "aorta" else rng.uniform(-106, -84))
        self.reach = normal(rng, 138, 8)
        right, front = normal(rng, 0, 3), normal(rng, 0, 2)
        radius = normal(rng, 12.0, 1.3)
        bend_x, bend_y = wander(rng, 2.5), wander(rng, 1.5)
        self.radius = self.along([(-1.0, radius * 0.85), (0.0, radius * 0.97), (1.0, radius * 1.05)])
        gap = radius + 15.5
        knots = [(-0.8, -10 + right), (0, -12 + right), (0.5, -22 + right), (1, -27 + right)]
        self._aorta_x = self.along(knots, bend_x)
        knots = [(-0.8, gap + 5), (0, gap + 1), (0.5, gap - 9 + front), (1, gap - 13 + front)]
        self._aorta_y = self.along(knots, bend_y)
        wide, flat = normal(rng, 10.2, 0.9), normal(rng, 7.2, 0.7)
        pulse = wander(rng, 0.06)
        self.wide = lambda z: wide * (1 + pulse(z))
        self.flat = lambda z: flat * (1 - pulse(z))
        side = normal(rng, 0, 2)
        bend_x, bend_y = wander(rng, 1.6), wander(rng, 1.0)
        knots = [(-0.2, -24), (0, -14 + side), (0.3, -3 + side), (0.7, -1 + side), (1, -4 + side), (1.4, -5)]
        self._x = self.along(knots, bend_x)
        knots = [(-0.2, 66), (0, 2 * radius + 27), (0.3, 32), (0.7, 26.5), (1, 25.5), (1.4, 24.5)]
        self._y = self.along(knots, bend_y)
        self.plane_mm = float(rng.uniform(0.5, 2.0))  # fat between the oesophagus and the aorta

    def height(self, t: float) -> float:
        """Height in mm: the hiatus is at t = 0, the carina at t = 1."""
        return self.hiatus + t * self.reach

    def along(self, knots: list[tuple[float, float]], deviation: Curve | None = None) -> Curve:
        """A smooth curve through (t, value)."""
        return through(knots, self.hiatus, self.reach, deviation)

    def aorta(self, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre (x, y) of the aorta at heights z."""
        return self._aorta_x(z), self._aorta_y(z)

    def gullet(self, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre (x, y) of the oesophagus at heights z, pushed aside where the aorta is in its way."""
        ax, ay = self.aorta(z)
        dx, dy = self._x(z) - ax, self._y(z) - ay
        distance = np.hypot(dx, dy)
        dx, dy = dx / distance, dy / distance
        needed = self.radius(z) + np.hypot(self.wide(z) * dx, self.flat(z) * dy) + self.plane_mm
        distance = np.maximum(distance, needed)
        return ax + distance * dx, ay + distance * dy

    def centroid(self) -> NDArray[np.float64]:
        """Centre of mass in mm of the part inside the field of view, centred at height 0."""
        z = np.linspace(-self.field_mm / 2, self.field_mm / 2, 257)
        if self.organ == "aorta":
            area, (x, y) = self.radius(z) ** 2, self.aorta(z)
        else:
            area, (x, y) = self.wide(z) * self.flat(z), self.gullet(z)
        return np.array([(area * x).sum(), (area * y).sum(), (area * z).sum()]) / area.sum()

    def paint(self, canvas: Canvas, rng: np.random.Generator) -> Mask:
        """Paint the chest and the organ; return the mask of the organ on the whole grid."""
        body = Body(canvas, rng, LUNG)
        hu = body.hu
        _chest(body, self)
        z = canvas.heights
        aorta = canvas.tube(*self.aorta(z), self.radius(z), self.radius(z), (-np.inf, self.height(1.22)))
        gullet = canvas.tube(*self.gullet(z), self.wide(z), self.flat(z), (self.height(-0.16), np.inf))
        canvas.paint(gullet, hu["oesophagus"])
        for z in self.hiatus + self.reach * rng.uniform(-0.1, 1.5, 3):  # pockets of air in a lumen that is else closed
            x, y = point(self.gullet, z)
            centre = (x + float(rng.uniform(-2, 2)), y + 0.8, float(z))
            pocket = canvas.ellipsoid(centre, rng.uniform((1.8, 1.4, 6), (4.5, 2.8, 20)))
            canvas.paint(pocket, -700.0, over=hu["oesophagus"])
        canvas.paint(aorta, hu["artery"])
        for _ in range(int(rng.integers(0, 9))):  # calcified plaques of the wall
            z, turn = float(rng.uniform(-100, 100)), float(rng.uniform(0, 2 * np.pi))
            (x, y), wall = point(self.aorta, z), at(self.radius, z) - 1
            plaque = canvas.ellipsoid((x + wall * np.cos(turn), y + wall * np.sin(turn), z), rng.uniform(1.2, 3.2, 3))
            canvas.paint(plaque, 550.0, over=hu["artery"])
        return canvas.whole(aorta) if self.organ == "aorta" else canvas.whole(gullet) & ~canvas.whole(aorta)


def point(centre: Centre, z: float) -> tuple[float, float]:
    """A centre line at one height."""
    (x,), (y,) = centre(np.array([z]))
    return float(x), float(y)


def _chest(body: Body, tube: ChestTube) -> None:
    """Lungs with vessels, mediastinum, heart, airways, great vessels; below the diaphragm liver, spleen and stomach."""
    canvas, rng, hu = body.canvas, body.rng, body.hu
    height = tube.height
    # lung vessels, from the hila outwards
    for k in range(120):
        side = 1 if k % 2 else -1
        start = np.array([side * 45.0, 32.0, height(0.75)]) + rng.normal(0, (14, 16, 24))
        way = np.array([side * abs(rng.normal(0, 40)), rng.normal(-8, 42), rng.normal(0, 48)])
        length = float(rng.uniform(0.0, 1.0))
        canvas.paint(
            canvas.capsule(start + length * way, start + (length + 0.5) * way, float(rng.uniform(1.0, 3.0))),
            hu["vein"] - 30,
        )
    # mediastinal fat, then what lies in it
    half_width = tube.along([(0, 34), (0.4, 30), (1, 34), (1.4, 38)])(canvas.heights)
    canvas.paint(canvas.tube(-3.0, 42.0, half_width, 66.0), -85.0)
    heart_z = height(normal(rng, 0.33, 0.04))
    bumps = (0.04, *rng.uniform(0, 2 * np.pi, 3))
    canvas.paint(canvas.ellipsoid((-22, 84, heart_z), (68, 44, 58), bumps), -80.0)
    canvas.paint(canvas.ellipsoid((-22, 85, heart_z), (63, 40, 54), bumps), hu["myocardium"])
    for centre, semi, tissue in (
        ((18, 84, heart_z + 6), (26, 26, 38), "vein"),  # right atrium
        ((-12, 106, heart_z - 8), (36, 15, 34), "vein"),  # right ventricle
        ((-46, 78, heart_z - 6), (24, 21, 34), "heart"),  # left ventricle
    ):
        canvas.paint(canvas.ellipsoid(centre, semi), hu[tissue])
    atrium_y = normal(rng, 57, 2)
    canvas.paint(canvas.ellipsoid((-2, atrium_y, height(0.62)), (35, 21, 28), bumps), hu["heart"])
    for side in (-1, 1):
        for rise in (-0.1, 0.1):
            canvas.paint(
                canvas.capsule((side * 28, 54, height(0.62)), (side * 58, 36, height(0.62 + rise)), 5.5), hu["heart"]
            )
    trunk, ascending, top = (-22, 62, height(0.92)), (18, 74, height(1.15)), (-12, 55, height(1.26))
    for start, end, radius, tissue in (
        ((-20, 80, height(0.7)), trunk, 13, "vein"),  # pulmonary trunk and arteries
        (trunk, (44, 44, height(0.84)), 10, "vein"),
        (trunk, (-52, 34, height(0.9)), 9, "vein"),
        ((6, 84, height(0.6)), ascending, 15, "artery"),  # ascending aorta, arch and what leaves it
        (ascending, top, 14, "artery"),
        (top, (*point(tube.aorta, height(1.2)), height(1.15)), 12.5, "artery"),
        ((14, 60, height(1.2)), (14 * 1.3, 60, height(2.2)), 6, "artery"),
        ((-6, 52, height(1.2)), (-6 * 1.3, 52, height(2.2)), 4, "artery"),
        ((-22, 38, height(1.2)), (-22 * 1.3, 38, height(2.2)), 5, "artery"),
        ((28, 66, height(0.6)), (24, 66, height(2)), 9, "vein"),  # superior vena cava
    ):
        canvas.paint(canvas.capsule(start, end, radius), hu[tissue])
    _below(body, tube)
    body.spine(normal(rng, 18, 1.2), normal(rng, 15, 0.8), normal(rng, 28, 2))
    body.ribs(tube.hiatus - 80)
    canvas.paint(canvas.capsule((9, 19, height(-0.3)), (8, 18, height(1.1)), 3.5), hu["vein"])  # azygos
    # airways: wall, then air
    x, y = point(tube.gullet, height(1.05))
    front, middle = y + at(tube.flat, height(1.05)), x + normal(rng, 5, 1.5)
    for extra, value in ((1.5, 45.0), (0.0, -980.0)):
        carina = (middle, front + 10, height(1.02))
        canvas.paint(canvas.capsule(carina, (middle, front + 8.5, height(3)), 8.5 + extra), value)
        for side, drop, r in ((1, 0.8, 7.0), (-1, 0.78, 6.0)):
            canvas.paint(canvas.capsule(carina, (side * 46, front + 4, height(drop)), r + extra), value)


def _below(body: Body, tube: ChestTube) -> None:
    """The domes of the diaphragm and what they cover, the crura beside the aorta."""
    canvas, rng, hu, zd = body.canvas, body.rng, body.hu, tube.hiatus
    cavity = body.squared_depth() <= 1
    floor = canvas.box((-np.inf, -np.inf, -np.inf), (np.inf, np.inf, zd - 62))
    canvas.paint(floor.within(cavity), FAT)
    for x, semi in ((70, (82, 88, normal(rng, 106, 8))), (-68, (80, 86, normal(rng, 94, 8)))):
        for shrink, value in ((0, hu["muscle"]), (3, FAT)):
            dome = canvas.ellipsoid((x, 58, zd - 70), [s - shrink for s in semi])
            canvas.paint(dome.within(cavity), value)
    canvas.paint(canvas.tube(-3.0, 40.0, 30, 34, (-np.inf, zd - 4)), FAT)
    liver = canvas.ellipsoid((70, 62, zd - 70), (78, 80, 101), (0.03, *rng.uniform(0, 2 * np.pi, 3)))
    canvas.paint(liver.within(cavity), hu["liver"])
    left = canvas.ellipsoid((10, 88, zd - 30), (62, 34, 46), (0.04, *rng.uniform(0, 2 * np.pi, 3)))
    canvas.paint(left, hu["liver"])
    body.liver_vessels(8, (40, 20, zd - 120), (120, 100, zd + 10), 20)
    canvas.paint(canvas.capsule((26, 44, zd - 220), (26, 50, zd + 30), 11), hu["vein"])  # inferior vena cava
    stomach = canvas.ellipsoid((-58, 66, zd - 30), (38, 40, 44), (0.08, *rng.uniform(0, 2 * np.pi, 3)))
    level = float(rng.uniform(60, 90))
    canvas.paint(stomach, float(rng.uniform(5, 40)))
    canvas.paint(stomach & (stomach.grid[1] > level), -950.0)
    spleen = canvas.ellipsoid((-104, 14, zd - 45), (26, 42, 52), (0.05, *rng.uniform(0, 2 * np.pi, 3)))
    canvas.paint(spleen, hu["spleen"])
    for side, drop in ((-1, 95), (1, 105)):
        frame = np.array([[side * 0.9, -0.42, 0.12], [0.42 * side, 0.9, 0.1], [-side * 0.2, -0.15, 0.97]])
        frame = np.linalg.qr(frame.T)[0].T
        kidney, _ = canvas.bean((side * 62.0, -4.0, zd - drop), frame, (28, 24, 54), 0.0)
        canvas.paint(kidney, hu["cortex"])
    for _ in range(4):
        x, y, z = rng.uniform(-1, 1, 3)
        body.bowel((40 * x, 84 + 10 * y, zd - 130 + 30 * z), 13)
    x, y = tube.aorta(canvas.heights)
    for side in (-1, 1):
        apart = tube.along([(-0.9, side * 26), (0, side * 15), (0.12, side * 6)])(canvas.heights)
        crus = canvas.tube(x * 0.6 + apart, y - 4, 4.5, 11, (zd - 110, zd + 8))
        canvas.paint(crus, hu["muscle"])
    psoas = tube.along([(-1.2, 18), (-0.35, 4)])(canvas.heights)
    for side in (-1, 1):
        canvas.paint(canvas.tube(side * 32, -6, psoas, psoas, (-np.inf, zd - 45)), hu["muscle"])
    for drop, size in ((24, 4.0), (38, 4.0)):
        x, y = point(tube.aorta, zd - drop)
        canvas.paint(canvas.capsule((x, y, zd - drop), (x, y + 34, zd - drop - 16), size), hu["artery"])
