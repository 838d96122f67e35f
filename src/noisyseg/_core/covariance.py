"""Formulas of the chapter "Gaussian fields": the covariance, the kernel that makes it, and its loss at borders."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noisyseg._core.arrays import per_axis


def covariance(x: Any, y: Any, a: float, b: Any) -> np.ndarray:
    r"""Compute the covariance of one component of the field at two places (equation 8).

    .. math:: k_{a,b}(x, y) = a^2 \exp\left(-\sum_j \frac{(x_j - y_j)^2}{2 b_j^2}\right)

    Book: ``def-gaussian-field`` in the chapter "Gaussian fields".

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

    Raises
    ------
    ValueError
        If `x` and `y` do not broadcast, `a` is negative, `b` is not positive or either has the wrong number of entries.

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
    :math:`a (2 \pi b^2)^{n/4} p_{b^2/2}`. Book: ``thm-white-noise`` in the chapter "Gaussian fields".

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

    Raises
    ------
    ValueError
        If `a` is negative, `b` is not positive or either has the wrong number of entries.

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

    That is 0.71 and 1.41 at a face; `gaussian_field` has 1 everywhere. Book: ``prop-border`` and ``prop-padding`` in
    the chapter "Gaussian fields".

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

    Raises
    ------
    ValueError
        If `w` has a NaN or a value outside [0, 1], `b` is not positive, or `padding` is neither of the two.

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
