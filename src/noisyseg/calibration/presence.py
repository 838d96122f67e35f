"""Structures that may be absent: CE(*) never gives an empty mask, so whether there is anything is decided first."""

from __future__ import annotations

from typing import Any

import numpy as np

from noisyseg._core.arrays import Array, check_unit, is_tensor
from noisyseg._core.images import Images
from noisyseg._core.levels import mask_at_least
from noisyseg._core.search import supremum

ROUNDING = 1e-5


def optimal_dice_or_empty(m: Array, absent: Any, *, axis: Any = None, where: Any = None) -> Array:
    r"""Compute the mask of the largest expected Dice for a structure that is absent with a known probability.

    .. math:: s = \begin{cases} \emptyset, & 1 - p > 2\tau, \\ \{m \ge \tau\}, & \text{otherwise,} \end{cases}
        \qquad \tau = \sup_s \frac{\int s\,m}{|s|_1 + |m|_1 / p},\qquad p = 1 - \texttt{absent}

    The label is empty with probability 1 - p, and two empty masks have Dice 1. It is exact where the volume of the
    label is known given that the structure is there. At `absent` = 0 it is `noisyseg.optimal_dice`; above 1/2 the mask
    is always empty. Book: ``prop-never-empty``, ``thm-absent``.

    The map alone does not know p: it may be anything between the largest value of m and 1. p comes from a classifier
    of the image, or from the volume, as p = (expected volume of the map) / (mean volume where the structure is there).

    Parameters
    ----------
    m
        The marginal, absent structures counted in: m is p times the marginal given that the structure is there.
    absent
        Probability in [0, 1] that there is nothing to find; with `axis` one number, or one an image. A `ValueError`
        says where the map contradicts it, m > p.

    Examples
    --------
    >>> m = np.array([0.6, 0.6, 0.3, 0.0])
    >>> optimal_dice_or_empty(m, absent=0.0).astype(int)  # as optimal_dice: t is 1.2 / (2 + 1.5)
    array([1, 1, 0, 0])
    >>> optimal_dice_or_empty(m, absent=0.4).astype(int)  # if it is there, it is .6 / .6, .6 / .6, .3 / .6
    array([1, 1, 1, 0])
    >>> optimal_dice_or_empty(m / 2, absent=0.6).astype(int)
    array([0, 0, 0, 0])
    """
    images = Images(axis, where, {"m": m})
    given = np.asarray(absent.detach().cpu() if is_tensor(absent) else absent, dtype=np.float64)
    try:
        each = iter(np.broadcast_to(given, images.batch).ravel().tolist())
    except ValueError:
        many = f" or one for each of {images.batch} images" if images.batch else ""
        raise ValueError(f"absent: expected one probability{many}, got {absent!r}") from None

    def run(values: Array) -> Array:
        q = next(each)
        if not 0 <= q <= 1:
            raise ValueError(f"absent: expected a probability in [0, 1], got {q!r}")
        check_unit("m", values)
        most = float(values.max())
        if most > 1 - q + ROUNDING:
            raise ValueError(
                f"absent: {q!r} contradicts the map, whose largest value {most:.4g} says that the structure is there "
                f"with at least that probability; use at most {1 - most:.4g}, or calibrate the map"
            )
        if most == 0 or q == 1:
            return values > 1
        tau = supremum(values, 1 / (1 - q))
        return values > 1 if q > 2 * tau else mask_at_least(values, tau)

    return images.masks(run)
