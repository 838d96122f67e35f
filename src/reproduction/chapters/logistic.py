"""Logistic regression on a few features of each voxel, trained with cross-entropy or with soft-Dice.

The smallest network there is: no hidden layer, one last bias, and a minimum of cross-entropy that is found to the last
digit. Used in the chapter "Volume bias", where larger networks only show the same less sharply.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from scipy.special import expit

from noisyseg import GaussianDeformation
from reproduction.data.phantoms.scenes import ct_phantom

Floats = NDArray[np.float64]
SMOOTHING = (0.0, 1.0, 2.0)  # voxels


def features(image: NDArray) -> Floats:
    """Give the features of every voxel: a constant, place and its square along each axis, grey values and squares.

    The grey values are those of the image and of two smoothed copies, in units of its standard deviation.

    Examples
    --------
    >>> features(np.arange(64.0).reshape(4, 4, 4)).shape
    (64, 13)
    """
    grey = (image - image.mean()) / max(float(image.std()), 1e-12)
    place = [2 * x / max(n - 1, 1) - 1 for x, n in zip(np.indices(image.shape), image.shape, strict=True)]
    smooth = [gaussian_filter(grey, sigma) if sigma else grey for sigma in SMOOTHING]
    columns = [np.ones(image.shape), *place, *(x * x for x in place), *smooth, *(x * x for x in smooth)]
    return np.stack([np.ravel(column) for column in columns], axis=1).astype(np.float64)


def loss_and_gradient(weights: Floats, x: Floats, labels: Floats, loss: str) -> tuple[float, Floats]:
    """Compute the mean loss over cases and its gradient: ``ce``, cross-entropy per voxel, or ``sd``, soft-Dice.

    Parameters
    ----------
    weights : array (features,)
    x : array (cases, voxels, features)
    labels : array (cases, voxels) of 0 and 1
        Not empty for ``sd``.
    loss
        ``ce`` or ``sd``.

    Returns
    -------
    value, gradient
        For ``ce`` the entry of the constant feature is the mean of c minus that of the labels, ``prop-ce-balance``.

    Examples
    --------
    >>> x, labels = np.ones((1, 4, 1)), np.array([[1.0, 0.0, 0.0, 0.0]])
    >>> value, slope = loss_and_gradient(np.zeros(1), x, labels, "ce")
    >>> round(value, 4), slope.tolist()  # c = 1/2 where the labels have 1/4 on average
    (0.6931, [0.25])
    """
    f = x @ weights
    c = expit(f)
    if loss == "ce":
        value = float((np.logaddexp(0, f) - labels * f).mean())
        slope = (c - labels) / labels.size
    else:
        total = (c.sum(axis=1) + labels.sum(axis=1))[:, None]
        half = (c * labels).sum(axis=1)[:, None] / total
        value = float(1 - 2 * half.mean())
        slope = -2 / total * (labels - half) * c * (1 - c) / len(labels)
    return value, slope.reshape(-1) @ x.reshape(-1, x.shape[2])


def fit(x: Floats, labels: Floats, loss: str, start: Floats | None = None) -> Floats:
    """Find the weights that minimise the loss, from 0 or from other weights, by L-BFGS.

    Cross-entropy is convex in the weights; soft-Dice is not, and starts best from those of cross-entropy.

    Raises
    ------
    ValueError
        If the loss is another, or the shapes do not fit.
    """
    if loss not in ("ce", "sd") or x.ndim != 3 or labels.shape != x.shape[:2]:
        raise ValueError(
            f"expected loss ce or sd, x (cases, voxels, features) and labels (cases, voxels), got {loss!r}, {x.shape} "
            f"and {labels.shape}"
        )
    flat = x.reshape(-1, x.shape[2])
    # In features that are not correlated the minimum is found in a tenth of the steps.
    root = np.linalg.cholesky(flat.T @ flat / len(flat)).T
    white = np.linalg.solve(root.T, flat.T).T.reshape(x.shape)
    first = np.zeros(x.shape[2]) if start is None else root @ start
    options = {"maxiter": 500, "ftol": 1e-13, "gtol": 1e-8}
    found = minimize(loss_and_gradient, first, (white, labels, loss), jac=True, method="L-BFGS-B", options=options)
    return np.linalg.solve(root, found.x)


def train_on_phantoms(organ: str, a: float, cases: int = 48) -> tuple[Floats, Floats, Floats, Floats]:
    """Train with each loss on the noisy labels of the first half of CT phantoms of 24^3 voxels, 8 mm wide.

    The labels are those of :class:`~noisyseg.GaussianDeformation` with strength `a`, drawn with the case as the seed.

    Returns
    -------
    ce, sd, labels, marginals : arrays (cases, voxels)
        Maps of cross-entropy and of soft-Dice, for all cases, the labels and their exact marginals.
    """
    noise, x, labels, marginals = GaussianDeformation(a), [], [], []
    for case in range(cases):
        phantom = ct_phantom(organ, case, 24, spacing_mm=8.0)
        x.append(features(phantom.image))
        labels.append(noise.sample(phantom.label, rng=case).ravel())
        marginals.append(noise.marginal(phantom.label).ravel())
    x, labels, half = np.array(x), np.array(labels, dtype=np.float64), cases // 2
    ce = fit(x[:half], labels[:half], "ce")
    sd = fit(x[:half], labels[:half], "sd", start=ce)
    return expit(x @ ce), expit(x @ sd), labels, np.array(marginals)
