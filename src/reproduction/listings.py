r"""The supplement's three listings as we read them, made to run, for the book and the benchmarks to compare with.

Listing 1 stands for `noisyseg.GaussianDeformation.marginal`, Listing 2 for `noisyseg.gaussian_field` and
`noisyseg.GaussianDeformation.sample`, Listing 3 for `noisyseg.dice_threshold`, which are exact; the chapter "Errata"
measures the differences. The algorithms are the paper's, the code is our own. Under "Deviations" each docstring says
what is printed and what is done here so that it runs.

A label is a NumPy array of 0 and 1 in any dtype and shape; the noise strength `a` and the correlation length `b` are
fractions of the image side, one number or one for each axis. As in the paper, nothing is checked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.ndimage

B = 0.15 / math.sqrt(2)  # the captions' correlation length; the listing prints 0.15 * sqrt(2)


def listing_1(label: np.ndarray, a: Any, *, truncate: float = 4.0) -> np.ndarray:
    r"""Compute the marginal of a noisy label by a Gaussian filter sampled at voxel distances.

    .. math:: m_i = \sum_j l_j \prod_k g_k(i_k - j_k),\qquad
        g_k(d) = \frac{e^{-d^2 / (2 s_k^2)}}{\sum_{|d'| \le r_k} e^{-d'^2 / (2 s_k^2)}},\quad s_k = a_k N_k

    for :math:`|d| \le r_k`, the integer nearest to `truncate` times :math:`s_k`.

    Parameters
    ----------
    label : numpy.ndarray
        The label l.
    a : float or one per axis
        Noise strength.
    truncate : float
        Where SciPy cuts the filter off, in standard deviations; the listing leaves it at SciPy's 4.

    Returns
    -------
    numpy.ndarray
        Float64, of the label's shape, in [0, 1] up to rounding. All zero for an empty label.

    Notes
    -----
    Deviations. (1) The printed function has the argument ``l`` and filters a name ``m`` that it does not define; here
    the argument is filtered. (2) SciPy's filter returns the dtype of its input and would cut the marginal of an integer
    label off to 0 and 1; here the label is made float64 first.

    Examples
    --------
    >>> label = np.array([0, 0, 1, 0, 0])
    >>> listing_1(label, a=0.1).round(4)
    array([0.0003, 0.1065, 0.7866, 0.1065, 0.0003])
    """
    sigma = np.asarray(a) * label.shape
    return scipy.ndimage.gaussian_filter(label.astype(np.float64), sigma, mode="constant", truncate=truncate)


def listing_2_field(shape: Sequence[int], a: Any, rng: Any = None, b: Any = B) -> np.ndarray:
    r"""Draw the displacements of Listing 2: white noise on the voxels, filtered as in Theorem 3.

    .. math:: X_k = a_k N_k\, (2 \pi)^{n/4} \prod_j (b_j N_j)^{1/2}\; G * z_k

    with G SciPy's Gaussian filter of standard deviation :math:`b_j N_j / \sqrt 2` along axis j and the noise 0 outside
    the image.

    Parameters
    ----------
    shape : sequence of int
        Voxels per axis, any number n of axes.
    a, b : float or one per axis
        Noise strength and correlation length.
    rng : numpy.random.Generator, int or None
        Source of the noise. The listing uses NumPy's global state.

    Returns
    -------
    numpy.ndarray
        Shape ``(n, *shape)``, float64, in voxels.

    Notes
    -----
    Deviations. (1) The paper takes the dimension from an undefined name ``m``; here it is that of `shape`. (2) The
    paper multiplies every component by the vector of all n weights, which in general cannot be broadcast; here
    component k has the weight k. (3) The paper filters component k with the same ``b_k N_k / sqrt(2)`` along every
    axis, and its weight contains ``b_k N_k`` alone; here axis j has its own standard deviation. On images with equal
    sides, all that the paper uses, that is the same. (4) The paper prints ``b = 0.15 * sqrt(2)``; the default here is
    the ``0.15 / sqrt(2)`` of its captions.

    Examples
    --------
    >>> field = listing_2_field((32, 32), a=0.02, rng=0)
    >>> field.shape, field.dtype
    ((2, 32, 32), dtype('float64'))
    """
    sizes = np.array(shape)
    n = len(sizes)
    sigma, length = np.asarray(a) * sizes, np.asarray(b) * sizes
    generator = np.random.default_rng(rng)
    unit = (2 * np.pi) ** (n / 4) * np.prod(length) ** 0.5
    field = np.empty((n, *sizes))
    for k in range(n):
        noise = generator.standard_normal(tuple(sizes))
        field[k] = sigma[k] * unit * scipy.ndimage.gaussian_filter(noise, length / np.sqrt(2), mode="constant")
    return field


def listing_2_warp(label: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Deform a label as Listing 2 does: cubic spline interpolation, continued beyond the image, then rounding.

    In the model (equation 18) a voxel takes the value of the voxel it is moved to, and 0 outside the image.

    Parameters
    ----------
    label : numpy.ndarray
        The label l.
    field : numpy.ndarray
        Displacements in voxels, shape ``(n, *label.shape)``.

    Returns
    -------
    numpy.ndarray
        The noisy label, float64, of the label's shape. A value is neither 0 nor 1 only where the spline passes 3/2 or
        -1/2.

    Notes
    -----
    Deviation. SciPy's interpolation returns the dtype of its input; here the label is made float64 first, so that only
    ``round`` rounds. As printed: a spline of order 3 (SciPy's default), ``mode="nearest"``.

    Examples
    --------
    >>> label = np.array([0, 1, 1, 0, 1])
    >>> listing_2_warp(label, np.full((1, 5), 0.9))  # the last voxel looks beyond the image, and finds the label there
    array([1., 1., 0., 1., 1.])
    """
    position = np.indices(label.shape) + field
    return np.round(scipy.ndimage.map_coordinates(label.astype(np.float64), position, order=3, mode="nearest"))


def listing_2(label: np.ndarray, a: Any, rng: Any = None, b: Any = B) -> np.ndarray:
    """Draw a noisy label as Listing 2 does: `listing_2_warp` with the displacements of `listing_2_field`.

    Parameters, result and deviations are those of the two functions.

    Examples
    --------
    >>> label = np.zeros((32, 32), dtype=np.uint8)
    >>> label[10:22, 8:20] = 1
    >>> noisy = listing_2(label, a=0.03, rng=1)
    >>> noisy.shape, noisy.dtype
    ((32, 32), dtype('float64'))
    """
    return listing_2_warp(label, listing_2_field(label.shape, a, rng, b))


def listing_3(m: np.ndarray) -> float:
    r"""Compute the Dice-optimal threshold: sort all voxels, take the best of all prefixes.

    .. math:: t = \frac12 \max_k \frac{2 \sum_{i \le k} m_{(i)}}{k + \sum_i m_i},\qquad m_{(1)} \ge m_{(2)} \ge \dots

    Parameters
    ----------
    m : numpy.ndarray
        Marginal with values in [0, 1], any shape with at least one voxel. The running sum has its dtype, as in the
        paper; in float16 it overflows above 65504, of which NumPy warns.

    Returns
    -------
    float
        The threshold t. For an all-zero marginal it is 0, as in the paper, so that ``m >= t`` is the whole image; the
        optimum is empty.

    Notes
    -----
    Deviation: the printed function returns ``m >= t`` as floats.

    Examples
    --------
    >>> listing_3(np.array([1.0, 0.5, 0.5, 0.0]))
    0.4
    """
    falling = np.flip(np.sort(m, axis=None))
    scores = 2 * np.cumsum(falling) / (np.sum(m) + np.arange(1, falling.size + 1))
    return float(np.max(scores) / 2)
