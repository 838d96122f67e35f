"""Gaussian fields with squared-exponential covariance (equation 8, Theorem 3).

On a grid the covariance of equation 8 is a Kronecker product of one-dimensional covariance matrices, so a field
is ``X = a (L_1 x ... x L_n) z`` with ``L_k L_k^T = K_k`` and white noise ``z``. It has no border error, and at the
paper's ``b`` the factors have about 20 columns at any resolution. `covariance`, `smoothing_kernel` and `border_rms` are
the formulas that the book proves; drawing a field needs none of them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from noisyseg._core.arrays import Array, is_tensor, per_axis
from noisyseg._core.voxels import contract

# Largest error of one factor, as a part of the variance; n axes together err by at most 2 n times as much.
TOLERANCE = 1e-6


@lru_cache(maxsize=64)
def kronecker_factor(size: int, b: float, tol: float = TOLERANCE) -> np.ndarray:
    r"""Compute a thin factor of the one-dimensional squared-exponential covariance matrix.

    .. math:: L L^T \approx K,\qquad K_{ij} = \exp\left(-\frac{(w_i - w_j)^2}{2 b^2}\right),\quad w_i = (i+1/2)/N

    Parameters
    ----------
    size : int
        Number of voxels :math:`N` along the axis.
    b : float
        Correlation length as a fraction of the image side.
    tol : float
        Largest part of a voxel's variance that the truncation may leave out before the rows are rescaled.

    Returns
    -------
    numpy.ndarray
        :math:`L`, shape ``(size, r)``, float64, read-only and cached. Every row has norm 1, so the variance is
        exact; every entry of :math:`L L^T` differs from :math:`K` by at most ``2 * tol``.

    Notes
    -----
    Pivoted Cholesky stops when no voxel has more than a tenth of `tol` of its variance left; a singular value
    decomposition then removes the columns that are not needed. The cost is ``size * r**2``; the matrix K itself is
    never formed. What is left out is positive semidefinite, so its largest entry is on the diagonal, where it is known.
    The number of columns hardly depends on `size`: it is at most 1 more than the least r for which ``size`` times the
    probability that a Poisson variable of mean ``1 / (4 b**2)`` reaches r is at most ``0.9 * tol``. Book:
    ``prop-truncation`` and ``prop-rank``.

    Examples
    --------
    >>> L = kronecker_factor(64, 0.1)
    >>> w = (np.arange(64) + 0.5) / 64
    >>> K = np.exp(-((w[:, None] - w) ** 2) / (2 * 0.1**2))
    >>> bool(abs(L @ L.T - K).max() < 2e-6)
    True
    """
    w = (np.arange(size) + 0.5) / size
    left = np.ones(size)
    columns: list[np.ndarray] = []
    while left.max() > tol / 10 and len(columns) < size:
        pivot = int(left.argmax())
        column = np.exp(-((w - w[pivot]) ** 2) / (2 * b * b))
        for previous in columns:
            column -= previous[pivot] * previous
        column /= np.sqrt(left[pivot])
        left -= column * column
        columns.append(column)
    u, s, _ = np.linalg.svd(np.stack(columns, axis=1), full_matrices=False)
    u *= s
    kept = np.cumsum(u * u, axis=1)
    rank = 1 + int(np.searchsorted(kept.min(axis=0), 1 - tol))
    factor = u[:, :rank]
    factor /= np.linalg.norm(factor, axis=1, keepdims=True)
    # The decomposition leaves the signs open; fixed here so that a seed means the same with every LAPACK.
    peak = np.take_along_axis(factor, abs(factor).argmax(axis=0)[None], axis=0)
    factor = np.ascontiguousarray(factor * np.where(peak < 0, -1.0, 1.0))
    factor.flags.writeable = False
    return factor


def white_noise(n: int, ranks: Sequence[int], rng: Any = None) -> Array:
    """Draw independent standard normal numbers, shape ``(n, *ranks)``, float32.

    A `torch.Generator` gives a tensor on its device; a `numpy.random.Generator`, an int seed or None a NumPy array.
    """
    shape = (n, *ranks)
    generator = as_generator(rng)
    if isinstance(generator, np.random.Generator):
        return generator.standard_normal(shape, dtype=np.float32)
    return sys.modules["torch"].randn(shape, generator=generator, device=generator.device)


def as_generator(rng: Any) -> Any:
    """Give the generator `rng` itself, or a NumPy generator for an int seed or None, or raise `ValueError`."""
    torch = sys.modules.get("torch")
    if isinstance(rng, np.random.Generator) or (torch is not None and isinstance(rng, torch.Generator)):
        return rng
    if rng is None or (isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0):
        return np.random.default_rng(rng)
    raise ValueError(
        f"rng: expected a numpy.random.Generator, a torch.Generator, a non-negative int seed or None, got {rng!r}"
    )


def check_shape(shape: Any) -> tuple[int, ...]:
    """Give `shape` as a tuple of positive ints, or raise `ValueError`."""
    try:
        sizes = tuple(shape) if not isinstance(shape, int | np.integer) else (shape,)
        sizes = tuple(int(s) if int(s) == s else -1 for s in sizes)
    except (TypeError, ValueError):
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ValueError(f"shape: expected one positive number of voxels per axis, got {shape!r}")
    return sizes


def gaussian_field(shape: Sequence[int], a: Any, b: Any, rng: Any = None) -> Array:
    r"""Draw a vector field of independent centred Gaussian fields (equations 8 and 17, Theorem 3).

    .. math:: \mathrm{Cov}(X_k(w), X_k(w')) = a_k^2 \exp\left(-\sum_j \frac{(w_j - w'_j)^2}{2 b_j^2}\right)

    at the voxel centres :math:`w_j = (i_j + 1/2)/N_j`, borders and corners included. Neighbouring displacements differ
    by ``a / b`` of their distance (root mean square). Book: ``def-gaussian-field``, ``prop-increments`` and
    ``thm-kronecker``.

    Parameters
    ----------
    shape : sequence of int
        Voxels per axis, any number ``n >= 1`` of axes, not necessarily equal.
    a : float or one per axis
        Standard deviation of the displacement along each axis, as a fraction of the image side. 0 gives a zero field.
    b : float or one per axis
        Correlation length along each axis, as a fraction of the image side. Positive.
    rng : numpy.random.Generator, torch.Generator, int or None
        Source of the noise. The same int seed gives the same bits on the same machine; None a new field each time.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        Shape ``(n, *shape)``, float32, in units of the image side. A tensor on the generator's device if `rng` is a
        `torch.Generator`, else a NumPy array.

    Notes
    -----
    The covariance differs from the formula by at most ``2e-6 * n`` of the variance; the variance itself is exact up to
    the rounding of float32. A very small `b` makes the factors square, and the draw as large as the field.

    Examples
    --------
    >>> field = gaussian_field((32, 24), a=0.02, b=0.1, rng=0)
    >>> field.shape, field.dtype
    ((2, 32, 24), dtype('float32'))
    >>> bool((field == gaussian_field((32, 24), a=0.02, b=0.1, rng=0)).all())
    True
    """
    sizes = check_shape(shape)
    n = len(sizes)
    a_axis = per_axis("a", a, n)
    b_axis = per_axis("b", b, n, positive=True)
    exact = [kronecker_factor(size, bk) for size, bk in zip(sizes, b_axis, strict=True)]
    z = white_noise(n, [f.shape[1] for f in exact], rng)
    scale = np.asarray(a_axis, dtype=np.float32).reshape((n,) + (1,) * n)
    factors: list[Array] = [f.astype(np.float32) for f in exact]
    if is_tensor(z):
        torch = sys.modules["torch"]
        factors = [torch.from_numpy(f).to(z.device) for f in factors]
        scale = torch.from_numpy(scale).to(z.device)
    lines = contract(z * scale, factors)
    return (lines @ factors[-1].T).reshape((n, *sizes))


def covariance(x: Any, y: Any, a: float, b: Any) -> np.ndarray:
    r"""Compute the covariance of one component of the field at two places (equation 8).

    .. math:: k_{a,b}(x, y) = a^2 \exp\left(-\sum_j \frac{(x_j - y_j)^2}{2 b_j^2}\right)

    Book: ``def-gaussian-field``.

    Parameters
    ----------
    x, y : array_like of shape (..., n)
        Places in units of the image side, coordinates along the last axis. The other axes broadcast.
    a : float
        Standard deviation of the component.
    b : float or one per axis
        Correlation length. Positive.

    Returns
    -------
    numpy.ndarray
        Float64, the broadcast shape without the last axis.

    Examples
    --------
    >>> covariance([0.1, 0.2], [0.4, 0.6], a=2.0, b=0.5).round(6)  # 4 exp(-1/2)
    np.float64(2.426123)
    """
    difference = np.asarray(x, dtype=np.float64) - np.asarray(y, dtype=np.float64)
    (a,) = per_axis("a", a, 1)
    lengths = np.array(per_axis("b", b, difference.shape[-1], positive=True))
    return a**2 * np.exp(-((difference / lengths) ** 2).sum(axis=-1) / 2)


def smoothing_kernel(x: Any, a: float, b: Any) -> np.ndarray:
    r"""Compute the kernel that turns white noise into the field (Theorem 3).

    .. math:: f(x) = a \prod_j (2 \pi b_j^2)^{1/4}\, p_{b_j^2/2}(x_j),\qquad \int f(x - u) f(y - u)\, du = k_{a,b}(x, y)

    with :math:`p_{\sigma^2}` the normal density of variance :math:`\sigma^2`; for one b it is
    :math:`a (2 \pi b^2)^{n/4} p_{b^2/2}`. Book: ``thm-white-noise``.

    Parameters
    ----------
    x : array_like of shape (..., n)
        Places in units of the image side, coordinates along the last axis.
    a : float
        Standard deviation of the field.
    b : float or one per axis
        Correlation length of the field. Positive; the kernel's own standard deviation is ``b / sqrt(2)``.

    Returns
    -------
    numpy.ndarray
        Float64, the shape of `x` without the last axis.

    Examples
    --------
    >>> u = np.linspace(-3, 3, 601)[:, None]
    >>> round(float((smoothing_kernel(u, 1.0, 0.5) * smoothing_kernel(0.5 - u, 1.0, 0.5)).sum() * 0.01), 6)
    0.606531
    >>> round(float(covariance([0.0], [0.5], 1.0, 0.5)), 6)
    0.606531
    """
    places = np.asarray(x, dtype=np.float64)
    (a,) = per_axis("a", a, 1)
    lengths = np.array(per_axis("b", b, places.shape[-1], positive=True))
    return a * np.prod((math.pi * lengths**2 / 2) ** -0.25 * np.exp(-((places / lengths) ** 2)), axis=-1)


def border_rms(w: Any, b: float, padding: str = "zeros") -> np.ndarray:
    r"""Compute how a field made by filtering noise on the image alone is off near the faces.

    Such a filter has to invent the noise beyond the faces. Root mean square of the field at `w`, in units of the
    wanted `a`, along one axis; over several axes the factors multiply. With zeros, and with the noise reflected:

    .. math:: \left(\Phi\left(\frac{2 w}{b}\right) - \Phi\left(\frac{2 (w - 1)}{b}\right)\right)^{1/2},\qquad
        \left(\sum_{k \in \mathbb{Z}} e^{-2 k^2/b^2} + e^{-2 (w - k)^2/b^2}\right)^{1/2}

    That is 0.71 and 1.41 at a face; `gaussian_field` has 1 everywhere. Book: ``prop-border`` and ``prop-padding``.

    Parameters
    ----------
    w : array_like
        Places along the axis, in [0, 1].
    b : float
        Correlation length as a fraction of the image side. Positive.
    padding : {"zeros", "reflect"}
        What the filter takes the noise for beyond the faces.

    Returns
    -------
    numpy.ndarray
        Float64, of the shape of `w`. In the limit of small voxels; at voxel centres SciPy's filters, with
        ``mode="constant"`` and ``"reflect"``, are within 0.6 % of it where `b` is two voxels or more.

    Examples
    --------
    >>> border_rms([0.0, 0.05, 0.5], b=0.1).round(3)
    array([0.707, 0.917, 1.   ])
    >>> float(border_rms(0.0, b=0.1, padding="reflect").round(3))
    1.414
    """
    places = np.asarray(w, dtype=np.float64)
    wrong = places[~((places >= 0) & (places <= 1))]
    if wrong.size:
        raise ValueError(f"w: expected places in [0, 1], found {float(wrong[0])!r}")
    (b,) = per_axis("b", b, 1, positive=True)
    if padding == "zeros":
        erf = np.vectorize(math.erf, otypes=[np.float64])
        variance = (erf(math.sqrt(2) * places / b) + erf(math.sqrt(2) * (1 - places) / b)) / 2
    elif padding == "reflect":
        images = range(-math.ceil(7 * b) - 1, math.ceil(7 * b) + 3)  # what is left out is below e^-98
        variance = np.sum([np.exp(-2 * (k / b) ** 2) + np.exp(-2 * ((places - k) / b) ** 2) for k in images], axis=0)
    else:
        raise ValueError(f"padding: expected 'zeros' or 'reflect', got {padding!r}")
    return np.sqrt(variance)
