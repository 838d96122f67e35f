"""The abdomen of the CT phantoms: a right kidney with liver, bowel, great vessels, muscles and spine around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reproduction.data.phantoms.body import FAT, LUNG, Body, normal, through
from reproduction.data.phantoms.canvas import Canvas, Mask, Region


class Kidney:
    """A right kidney: a bent ellipsoid minus its sinus. Drawn first, since the patch is centred on it."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw size, position and tilt."""
        length = normal(rng, 110, 8)
        self.semi = (length * normal(rng, 0.53, 0.02) / 2, length * normal(rng, 0.455, 0.02) / 2, length / 2)
        self.bend = normal(rng, 0.0026, 0.0006)
        self.centre = (normal(rng, 66, 5), normal(rng, -8, 5), 0.0)
        turn, lean, tip = (np.radians(normal(rng, *a)) for a in ((30, 10), (14, 4), (12, 4)))
        w = np.array([-np.sin(lean), -np.sin(tip), 1.0])
        w /= np.linalg.norm(w)
        u = np.array([np.cos(turn), -np.sin(turn), 0.0])  # away from the hilum, which faces inwards and forwards
        u -= (u @ w) * w
        u /= np.linalg.norm(u)
        self.frame = np.stack([u, np.cross(w, u), w])
        self.sinus = (normal(rng, 0.52, 0.05), normal(rng, 0.38, 0.05), normal(rng, 0.36, 0.04))
        self.phases = [float(p) for p in rng.uniform(0, 2 * np.pi, 3)]

    def hilum(self, inwards: float) -> tuple[float, float, float]:
        """A point on the axis of the hilum, `inwards` mm from the centre."""
        p = np.array(self.centre) - self.frame[0] * inwards
        return float(p[0]), float(p[1]), float(p[2])

    def regions(self, canvas: Canvas) -> tuple[Region, Region, Mask, Mask]:
        """The parenchyma, the sinus, and within their block the masks of cortex and of the deep medulla."""
        whole, (u, v, w) = canvas.bean(self.centre, self.frame, self.semi, self.bend)
        # shallow lobes, so that no two kidneys have the same outline
        depth = u**2 + v**2 + w**2
        depth += np.float32(0.07) * np.sin(6 * w + self.phases[1]) * np.sin(4 * v + 2 * u + self.phases[2])
        whole = whole & (depth <= 1)
        # the sinus widens outwards, so that its lips are blunt
        flare = np.float32(0.5) * np.maximum(-u - np.float32(0.6), 0)
        deep, high, long = self.sinus
        hollow = (np.maximum(u + 0.78, 0) / deep) ** 2 + (v / (high + flare)) ** 2 + (w / (long + flare)) ** 2 <= 1
        columns = np.cos(11 * w + self.phases[0]) > 0.75  # cortex reaches in between the pyramids
        return whole & ~hollow, whole & hollow, (depth > 0.58) | columns, depth <= 0.5

    def centroid(self) -> NDArray[np.float64]:
        """Centre of mass of the parenchyma in mm, from a 2 mm grid."""
        local = Canvas(self.centre, 160.0, 80)
        parenchyma, *_ = self.regions(local)
        count = float(parenchyma.mask.sum())
        return np.array([float((g * parenchyma.mask).sum()) / count for g in parenchyma.grid])

    def paint(self, canvas: Canvas, rng: np.random.Generator) -> Mask:
        """Paint the abdomen and then the kidney; return the mask of the kidney on the whole grid."""
        body = Body(canvas, rng, FAT)
        hu = body.hu
        _upper_abdomen(body)
        margin = normal(rng, 9, 3)
        capsule, _ = canvas.bean(self.centre, self.frame, tuple(s + margin for s in self.semi), self.bend)
        canvas.paint(capsule, FAT)
        body.ribs(normal(rng, -5, 12))
        body.spine(normal(rng, 23, 1.5), normal(rng, 17, 1), normal(rng, 37, 2))
        psoas = through([(-1, 21), (0, 14), (1, 5)], 0, 90)(canvas.heights)
        for side in (-1, 1):
            canvas.paint(canvas.tube(side * (36 - 0.05 * canvas.heights), -8, psoas, psoas), hu["muscle"])
            canvas.paint(canvas.tube(side * 62, -44, 19, 9, (-np.inf, 50.0), angle=side * -0.4), hu["muscle"])
        aorta, cava = (-12.0, 32.0), (19.0, 30.0)
        canvas.paint(canvas.tube(aorta[0], aorta[1], 10.5, 10.5), hu["artery"])
        canvas.paint(canvas.tube(cava[0], cava[1], 12.5, 9.5, angle=0.2), hu["vein"])
        gate, inside = self.hilum(self.semi[0] + 6), self.hilum(0.35 * self.semi[0])
        canvas.paint(canvas.capsule((-2.0, 26.0, 4.0), (40.0, 14.0, 2.0), 2.8), hu["artery"])
        parenchyma, sinus, cortex, deep = self.regions(canvas)
        canvas.paint(sinus, FAT)
        canvas.paint(canvas.capsule((cava[0] + 8, cava[1], gate[2] + 4), gate, 5.0), hu["vein"])
        canvas.paint(canvas.capsule(gate, inside, 4.5), hu["vein"])
        pelvis = self.hilum(0.7 * self.semi[0])
        canvas.paint(canvas.capsule((pelvis[0], pelvis[1], pelvis[2] - 9), self.hilum(0.45 * self.semi[0]), 4.0), 8.0)
        canvas.paint(canvas.capsule((pelvis[0], pelvis[1], pelvis[2] - 9), (34.0, 12.0, -100.0), 2.5), 10.0)
        canvas.paint(parenchyma, hu["medulla"])
        canvas.paint(parenchyma & ~deep, 0.5 * (hu["medulla"] + hu["cortex"]))
        canvas.paint(parenchyma & cortex, hu["cortex"])
        return canvas.whole(parenchyma)


def _upper_abdomen(body: Body) -> None:
    """Lung base, liver with vessels, gallbladder, duodenum and pancreas, colon and small bowel."""
    canvas, rng, hu = body.canvas, body.rng, body.hu
    cavity = body.squared_depth(1) <= 1
    for k in range(5):
        x, y, z = rng.uniform(-1, 1, 3)
        body.bowel((-5 + 45 * x, 72 + 14 * y, -90 + 36 * k + 10 * z), float(rng.uniform(10, 15)))
    bumps = (0.05, *rng.uniform(0, 2 * np.pi, 3))
    liver_z = normal(rng, 82, 12)
    liver = canvas.ellipsoid((normal(rng, 86, 6), normal(rng, 42, 6), liver_z), (normal(rng, 90, 5), 84, 96), bumps)
    canvas.paint(liver.within(cavity), hu["liver"])
    body.liver_vessels(14, (50, 0, 25), (140, 80, 110), 22)
    canvas.paint(canvas.ellipsoid((58, normal(rng, 78, 5), liver_z - 82), (15, 14, 26)), 8.0)
    body.bowel((34, 50, rng.uniform(-15, 15)), 13)
    canvas.paint(canvas.ellipsoid((12, 56, float(rng.uniform(-5, 20))), (26, 13, 22), (0.1, 0, 1, 2)), hu["pancreas"])
    body.bowel(rng.uniform((70, 30, -75), (105, 55, -45)), float(rng.uniform(18, 25)))
    body.bowel((rng.uniform(95, 110), rng.uniform(5, 25), -95), float(rng.uniform(17, 23)))
    # the lung behind and beside the liver, a wedge that thins out downwards and forwards
    recess = canvas.box((-np.inf,) * 3, (np.inf,) * 3)
    edge = recess.grid[2] - (normal(rng, 45, 14) + np.float32(0.5) * (recess.grid[1] + 70))
    thick = np.clip(edge * np.float32(0.35 / body.half_y), -1, np.float32(22 / body.half_y))
    canvas.paint(recess & cavity & (np.sqrt(body.squared_depth()) > 1 - thick), LUNG)
