"""Covariance of random displacement fields, side by side: the package, Listing 2, MONAI, TorchIO and GSTools.

    python benchmarks/covariance.py [--draws 3000] [--seed 0]

Draws fields on 24^3 voxels with every method, tuned to the same standard deviation ``a`` in the middle of the image and
to the same correlation length ``b`` as closely as its parameters allow, and estimates standard deviation, covariance,
correlation of the components and kurtosis with jackknife standard errors. Writes to ``results/benchmarks``:
``covariance.csv`` (columns ``method, quantity, place, distance, value, standard_error``; distances as fractions of the
image side, standard deviations in units of a, covariances in units of a^2) and ``covariance_provenance.json``; the
book's chapter "Gaussian fields" shows them. Needs the extra ``bench``: ``pip install -e .[bench]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch

from noisyseg import gaussian_field
from reproduction.listings import listing_2_field
from reproduction.paths import atomic_write, project_root, write_json
from reproduction.provenance import provenance

A, B = 0.02, 0.15 / np.sqrt(2)
N = 24
MIDDLE = slice(N // 2 - 1, N // 2 + 2)  # three voxels: one period of TorchIO's control points
BATCHES = 50
ENDS = (0, N - 1)

Sampler = Iterator[np.ndarray]  # fields of shape (3, N, N, N), displacements as fractions of the image side


def package(seed: int) -> Sampler:
    rng = np.random.default_rng(seed)
    while True:
        yield gaussian_field((N,) * 3, A, B, rng)


def listing_2(seed: int) -> Sampler:
    rng = np.random.default_rng(seed)
    while True:
        yield listing_2_field((N,) * 3, A, rng, B) / N


def monai_settings() -> tuple[float, float]:
    """The standard deviation of the filter and the magnitude, in voxels, that give ``b`` and ``a``.

    MONAI integrates the Gaussian over voxels, which adds 1/12 to its variance, and smooths uniform noise, of variance
    1/3.
    """
    from monai.networks.layers.convutils import gaussian_1d

    sigma = np.sqrt((B * N) ** 2 / 2 - 1 / 12)
    kernel = gaussian_1d(torch.tensor(sigma), truncated=3.0).double().numpy()
    return float(sigma), float(A * N * np.sqrt(3) / (kernel**2).sum() ** 1.5)


def monai(seed: int) -> Sampler:
    from monai.transforms.spatial.array import Rand3DElastic
    from monai.transforms.utils import create_grid

    sigma, magnitude = monai_settings()
    transform = Rand3DElastic((sigma, sigma), (magnitude, magnitude), prob=1.0)
    transform.set_random_state(seed)
    transform.resampler = lambda img, grid, **_: grid  # the grid that it would look the image up at
    image = torch.zeros(1, N, N, N)
    identity = create_grid((N,) * 3, backend="torch")
    while True:
        yield ((transform(image) - identity)[:3] / N).numpy()


def torchio_settings() -> tuple[int, float]:
    """The number of control points and the largest displacement, in voxels, that come closest to ``b`` and ``a``.

    Cubic B-splines with knots h apart have on average the correlation of their autocorrelation, the B-spline of degree
    7, of variance 2/3 h^2: b is h sqrt(2/3). Its peak, 151/315 an axis, scales the variance 1/3 of the uniform noise.
    """
    intervals = round(float(np.sqrt(2 / 3) / B))
    return intervals + 3, float(A * N * np.sqrt(3) * (315 / 151) ** 1.5)


def torchio(seed: int, locked_borders: int = 0) -> Sampler:
    import SimpleITK as sitk
    from torchio.transforms.augmentation.spatial.random_elastic_deformation import (
        ElasticDeformation,
        RandomElasticDeformation,
    )

    points, largest = torchio_settings()
    transform = RandomElasticDeformation(points, largest, locked_borders=locked_borders)
    image = sitk.GetImageFromArray(np.zeros((N,) * 3, dtype=np.float32))
    frame = (image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    torch.manual_seed(seed)  # TorchIO draws from torch's global generator
    while True:
        control = transform.get_params(
            transform.num_control_points, transform.max_displacement, transform.num_locked_borders
        )
        spline = ElasticDeformation(control, transform.max_displacement).get_bspline_transform(image)
        field = sitk.TransformToDisplacementField(spline, sitk.sitkVectorFloat64, *frame)
        yield sitk.GetArrayFromImage(field).T / N  # (z, y, x, component) to (component, x, y, z)


def gstools(seed: int) -> Sampler:
    import gstools as gs
    from gstools.random import MasterRNG

    # The default rescale makes len_scale the integral scale; with 1 the correlation is exp(-(r / len_scale)^2).
    srf = gs.SRF(gs.Gaussian(dim=3, var=A**2, len_scale=np.sqrt(2) * B, rescale=1.0))
    next_seed = MasterRNG(seed)
    # Mesh-free: only the voxels that are looked at are made.
    wanted = np.zeros((N,) * 3, dtype=bool)
    wanted[:, MIDDLE, MIDDLE] = wanted[np.ix_(ENDS, range(N), range(N)[MIDDLE])] = True
    wanted[np.ix_(ENDS, ENDS, ENDS)] = True
    points = (np.argwhere(wanted).T + 0.5) / N
    field = np.full((3, N, N, N), np.nan)
    while True:
        for component in field:
            component[wanted] = srf(points, seed=next_seed())
        yield field


METHODS: dict[str, tuple[Callable[[int], Sampler], float]] = {  # and the share of the draws that its speed allows
    "noisyseg": (package, 1.0),
    "Listing 2": (listing_2, 1.0),
    "MONAI": (monai, 1.0),
    "TorchIO": (torchio, 1.0),
    "TorchIO, locked borders": (lambda seed: torchio(seed, 2), 1.0),
    "GSTools": (gstools, 0.1),
}


def moments(x: np.ndarray) -> dict[str, np.ndarray]:
    """What one field, in units of a, adds to the sums."""
    line = x[:, :, MIDDLE, MIDDLE].reshape(3, N, -1)
    face = x[:, ENDS][:, :, :, MIDDLE]
    corner = x[np.ix_(range(3), ENDS, ENDS, ENDS)]
    edge = x[np.ix_(range(3), ENDS, ENDS, range(N)[MIDDLE])]
    middle = x[:, MIDDLE, MIDDLE, MIDDLE].reshape(3, -1)
    return {
        "line": np.einsum("cil,cjl->ij", line, line) / line[:, 0].size,
        "face": np.einsum("ceil,cejl->ij", face, face) / face[:, :, 0].size,
        "corner": (corner**2).mean(),
        "edge": (edge**2).mean(),
        "components": middle @ middle.T / middle.shape[1],
        "square": (middle**2).mean(axis=0),
        "fourth": (middle**4).mean(axis=0),
    }


def mirrored(m: np.ndarray, i: int, j: int) -> float:
    """Mean of an entry and of the one that the mirrored axis has in its place."""
    return float(m[i, j] + m[N - 1 - i, N - 1 - j]) / 2


def estimates(mean: dict[str, np.ndarray]) -> list[tuple[str, str, float, float]]:
    """Quantity, place, distance and value of everything that is reported."""
    line, face, half = mean["line"], mean["face"], N // 2
    rows = [("sd", "line", (i + 0.5) / N, mirrored(line, i, i) ** 0.5) for i in range(half)]
    rows += [("sd", place, 0.5 / N, float(mean[place]) ** 0.5) for place in ("edge", "corner")]
    rows += [("sd", "middle", 0.5, float(np.diag(line)[MIDDLE].mean()) ** 0.5)]
    for r in range(half + 1):
        i = (N - r) // 2  # so that the pair has its middle in the middle of the axis
        rows.append(("covariance", "middle", r / N, mirrored(line, i, i + r)))
        rows.append(("covariance", "inward from a face", r / N, mirrored(line, 0, r)))
        rows.append(("covariance", "along a face", r / N, mirrored(face, i, i + r)))
    both = mean["components"] / np.sqrt(np.outer(*[np.diag(mean["components"])] * 2))
    rows += [("correlation of components", f"{i + 1}-{j + 1}", 0.0, both[i, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    rows.append(("excess kurtosis", "middle", 0.0, float((mean["fourth"] / mean["square"] ** 2).mean()) - 3))
    return rows


def measure(sampler: Sampler, draws: int) -> list[tuple[str, str, float, float, float]]:
    """Draw and estimate, with the standard errors of a jackknife over batches of draws."""
    batches = []
    for _ in range(BATCHES):
        sums: dict[str, Any] = {}
        for _ in range(draws // BATCHES):
            for name, value in moments(next(sampler) / A).items():
                sums[name] = sums.get(name, 0.0) + value
        batches.append({name: value * (BATCHES / draws) for name, value in sums.items()})
    total = {name: np.sum([batch[name] for batch in batches], axis=0) for name in batches[0]}
    rows = estimates({name: value / BATCHES for name, value in total.items()})
    without = [
        [row[3] for row in estimates({name: (total[name] - batch[name]) / (BATCHES - 1) for name in total})]
        for batch in batches
    ]
    errors = np.sqrt((BATCHES - 1) * np.var(without, axis=0))
    return [(*row, float(error)) for row, error in zip(rows, errors, strict=True)]


def main() -> None:
    """Measure all methods and write the table."""
    parser = argparse.ArgumentParser(description="Covariance of random displacement fields.")
    parser.add_argument("--draws", type=int, default=3000, help="fields a method; a multiple of 500")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.draws < 500 or arguments.draws % 500:
        parser.error(f"--draws: expected a positive multiple of 500, got {arguments.draws}")
    torch.set_num_threads(1)
    table, counts, seconds = [], {}, {}
    for name, (sampler, share) in METHODS.items():
        counts[name] = int(arguments.draws * share)
        start = time.process_time()
        rows = measure(sampler(arguments.seed), counts[name])
        seconds[name] = round(time.process_time() - start, 1)
        table += [(name, *row) for row in rows]
        print(f"{name:26} {counts[name]:6} draws  {seconds[name]:6} s of processor time", flush=True)
    columns = ["method", "quantity", "place", "distance", "value", "standard_error"]
    folder = project_root() / "results" / "benchmarks"
    text = pd.DataFrame(table, columns=columns).to_csv(index=False, float_format="%.6f", lineterminator="\n")
    atomic_write(folder / "covariance.csv", text)
    sigma, magnitude = monai_settings()
    points, largest = torchio_settings()
    settings = {
        "noisyseg": {"a": A, "b": B},
        "Listing 2": {"a": A, "b": B},
        "MONAI": {"sigma": sigma, "magnitude": magnitude},
        "TorchIO": {"num_control_points": points, "max_displacement": largest, "locked_borders": 0},
        "TorchIO, locked borders": {"num_control_points": points, "max_displacement": largest, "locked_borders": 2},
        "GSTools": {"var": A**2, "len_scale": np.sqrt(2) * B, "rescale": 1.0, "mode_no": 1000},
    }
    about = {
        "shape": [N] * 3,
        "a": A,
        "b": B,
        "seed": arguments.seed,
        "draws": counts,
        "processor_s": seconds,
        "settings": settings,
        "peers": {name: version(name) for name in ("monai", "torchio", "gstools", "simpleitk")},
        **provenance(),
    }
    write_json(folder / "covariance_provenance.json", about)


if __name__ == "__main__":
    main()
