"""The packages that ours is compared with, each set up to do the same work with the least overhead it allows.

Nothing is imported before it is used: a package that is not installed is reported, and the others still run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

PACKAGES = {
    "MONAI": "monai",
    "TorchIO": "torchio",
    "GSTools": "gstools",
    "rankseg": "rankseg",
}
BESIDE = ("simpleitk", "gstools-cython")  # what does the work in TorchIO and GSTools
# rankseg's ways to a Dice-optimal mask of one probability map. Pruning is off: with its default of .5 the mask is empty
# where no probability exceeds 1/2.
SOLVERS: dict[str, dict[str, Any]] = {
    "rankseg RMA": {"solver": "RMA"},
    "rankseg RMA, screened": {"solver": "RMA", "safe_screening": True},
    "rankseg BA": {"solver": "BA"},
    "rankseg BA+TRNA": {"solver": "BA+TRNA"},
}
GSTOOLS_POINTS = 1 << 16  # what GSTools evaluates in a few seconds; its cost is proportional to their number


def missing(package: str) -> str:
    """Say that a package is not installed, or give an empty string."""
    return "" if find_spec(PACKAGES[package]) else f"{package} is not installed: make bench installs it"


def versions() -> dict[str, str | None]:
    """Give the version of every peer, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in (*PACKAGES.values(), *BESIDE):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def monai_settings(side: int, a: float, b: float) -> tuple[float, float]:
    """Give the filter's standard deviation in voxels and the magnitude that make `a` and `b` of uniform noise.

    Filtered noise has the correlation length sqrt(2) sigma and, in three dimensions, 1 / (8 pi^(3/2) sigma^3) times its
    variance, which is 1/3.
    """
    sigma = b * side / np.sqrt(2)
    return float(sigma), float(a * side * np.sqrt(3 * 8 * np.pi**1.5 * sigma**3))


def monai(label: NDArray, a: float, b: float, device: str = "cpu") -> Callable[[], Any]:
    """Rand3DElastic with nearest-voxel look-up and 0 outside.

    The displacement has standard deviation `a` and correlation length `b` away from the border. (MONAI cuts the filter
    off at 3 standard deviations and does not correct the border.)
    """
    from monai.transforms.spatial.array import Rand3DElastic

    sigma, magnitude = monai_settings(label.shape[0], a, b)
    transform = Rand3DElastic((sigma, sigma), (magnitude, magnitude), prob=1.0, mode="nearest", padding_mode="zeros")
    transform.set_random_state(0)
    image = torch.from_numpy(label.astype(np.float32))[None].to(device)
    return lambda: transform(image)


def torchio_settings(side: int, a: float, b: float) -> tuple[int, float]:
    """Give the number of control points and the largest displacement in voxels that come closest to `b` and `a`.

    Cubic B-splines with knots h apart have a correlation length of about h sqrt(2/3), and 151/315 an axis times the
    variance of their uniform coefficients, which is a third of the square of the largest one.
    """
    points = max(round(float(np.sqrt(2 / 3) / b)), 1) + 3
    return points, float(a * side * np.sqrt(3) * (315 / 151) ** 1.5)


def torchio(label: NDArray, a: float, b: float) -> Callable[[], Any]:
    """RandomElasticDeformation of a LabelMap, nearest-voxel look-up, no border locked."""
    import torchio as tio

    points, largest = torchio_settings(label.shape[0], a, b)
    transform = tio.transforms.RandomElasticDeformation(
        points, largest, locked_borders=0, label_interpolation="nearest"
    )
    subject = tio.Subject(label=tio.LabelMap(tensor=torch.from_numpy(label)[None]))

    def call() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that displacements this large may fold the image
            return transform(subject)

    return call


def gstools(label: NDArray, a: float, b: float, whole: bool = False) -> tuple[Callable[[], Any], float]:
    """Three fields of the randomisation method (1,000 modes, the default) and the look-up.

    Gives the call and the part of the image that it deforms: rows of the first axis in the middle, as many as make
    `GSTOOLS_POINTS` voxels, or all of them.
    """
    import gstools as gs

    side = label.shape[0]
    rows = side if whole else min(side, max(1, GSTOOLS_POINTS // side**2))
    part = slice((side - rows) // 2, (side - rows) // 2 + rows)
    centres = (np.arange(side) + 0.5) / side
    # With the default rescale len_scale would be the integral scale; with 1 the correlation is exp(-(r / len_scale)^2).
    srf = gs.SRF(gs.Gaussian(dim=3, var=a * a, len_scale=np.sqrt(2) * b, rescale=1.0))
    seeds = iter(range(1 << 30))

    def call() -> NDArray:
        field = [srf.structured([centres[part], centres, centres], seed=next(seeds), store=False) for _ in range(3)]
        return look_up(label, [centres[part], centres, centres], field)

    return call, rows / side


def look_up(label: NDArray, centres: list[NDArray], field: list[NDArray]) -> NDArray:
    """Give the label's voxel that every displaced centre lies in, 0 outside the image, in plain NumPy."""
    inside = np.ones(field[0].shape, dtype=bool)
    index = []
    for k, (x, n) in enumerate(zip(field, label.shape, strict=True)):
        position = np.floor((x + centres[k].reshape([-1 if j == k else 1 for j in range(len(field))])) * n).astype(int)
        inside &= (position >= 0) & (position < n)
        index.append(np.clip(position, 0, n - 1))
    return np.where(inside, label[tuple(index)], 0).astype(label.dtype)


def rankseg(m: Any, solver: str) -> Callable[[], Any]:
    """Dice-optimal mask of one map; the call returns it as a tensor of the map's shape."""
    from rankseg import RankSEG

    tensor = torch.as_tensor(m)[None, None]
    ranker = RankSEG(metric="dice", smooth=0.0, output_mode="multilabel", pruning_prob=0.0, **SOLVERS[solver])
    return lambda: ranker.predict(tensor)[0, 0]


def rankseg_batch(m: Any, solver: str) -> Callable[[], Any]:
    """Dice-optimal masks of many maps, the first axis of the array; the call returns them in that shape."""
    from rankseg import RankSEG

    tensor = torch.as_tensor(m)[:, None]
    ranker = RankSEG(metric="dice", smooth=0.0, output_mode="multilabel", pruning_prob=0.0, **SOLVERS[solver])
    return lambda: ranker.predict(tensor)[:, 0]


def rankseg_labels(m: Any, solver: str) -> Callable[[], Any]:
    """Label map of exclusive classes, the background first; a voxel that no other class selects is 255."""
    from rankseg import RankSEG

    tensor = torch.as_tensor(m[1:])[None]
    policy: dict[str, Any] = {"unassigned_policy": "void", "void_index": 255}
    settings = {"metric": "dice", "smooth": 0.0, "output_mode": "multiclass", "pruning_prob": 0.0}
    ranker = RankSEG(**settings, **policy, **SOLVERS[solver])
    return lambda: ranker.predict(tensor)[0]


def plain_newton(m: NDArray) -> float:
    """Find t with a dozen lines of NumPy: Newton's steps, each among the voxels that the last one left."""
    if not (m.min() >= 0 and m.max() <= 1):
        raise ValueError("expected values in [0, 1]")
    x = m.ravel()
    total = float(x.sum(dtype=np.float64))
    if total == 0:
        return 0.5
    t, step = 0.0, total / (x.size + total)
    while step > t:
        t = step
        x = x[x >= t]
        step = float(x.sum(dtype=np.float64)) / (x.size + total)
    return t


def by_sorting(m: NDArray) -> float:
    """Find t by its definition: sort, add up, take the best."""
    falling = np.sort(m, axis=None)[::-1]
    sums = np.cumsum(falling, dtype=np.float64)
    return float((sums / (np.arange(1, falling.size + 1) + sums[-1])).max())
