"""Ways to turn one probability map into a mask: the paper's three, and what else is done with the same map.

===============  ======  ====================================================================================
method           output  mask
===============  ======  ====================================================================================
``CE(0)``        ce      c >= 1/2
``SD(0)``        sd      c >= 1/2
``CE(*)``        ce      c >= sup_s D_c(s) / 2, from the map itself (:func:`noisyseg.dice_threshold`)
``CE(fold)``     ce      c >= u, one u for all images of a fold: the best on the fold's training data
``SD(fold)``     sd      the same for the network that was trained with soft-Dice
``CE(rank)``     ce      what the package ``rankseg`` makes of c with its solver RMA
``CE(rank BA)``  ce      the same with its slower solver BA
``CE(oracle)``   ce      c >= u with the u that is best for this case's own noisy label: an upper limit for every
                         threshold, chosen image by image or not; no method, because it looks at the answer
``SD(oracle)``   sd      the same for the network that was trained with soft-Dice
``CE+SD(0)``     both    c >= 1/2
``CE+SD(*)``     both    c >= sup_s D_c(s) / 2, as if the map were the marginal
``CONST(0)``     none    q >= 1/2, where q is the mean noisy label of the training cases: a constant shape, which
                         does not look at the image
``CONST(*)``     none    q >= sup_s D_q(s) / 2
===============  ======  ====================================================================================

``rankseg`` is optional (extras ``test`` and ``bench``): without it its two rows are left out. Book chapter *The
experiment*.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray

from noisyseg._core.arrays import check_array, check_binary_block, check_same, check_unit_block

# Each with the loss of its network: the paper's three methods, and what else is done with the same maps.
METHODS = {"CE(0)": "ce", "SD(0)": "sd", "CE(*)": "ce"}
OTHER_RULES = {
    "CE(fold)": "ce",
    "SD(fold)": "sd",
    "CE(rank)": "ce",
    "CE(rank BA)": "ce",
    "CE(oracle)": "ce",
    "SD(oracle)": "sd",
}
MIXED_RULES = {"CE+SD(0)": "both", "CE+SD(*)": "both"}  # of a network trained with the sum of the two losses
CONSTANTS = ("CONST(0)", "CONST(*)")  # scored once for the two losses, with the runs of cross-entropy
RANK_SOLVERS = {"CE(rank)": "RMA", "CE(rank BA)": "BA"}
GRID = np.arange(1, 1000) / 1000  # where one threshold for all images is looked for


def dice_over_grid(c: NDArray, label: NDArray) -> NDArray[np.float64]:
    r"""Dice of the mask {c >= u} against a label, for every threshold u of the grid .001, .002, …, .999.

    .. math:: D_\ell(\mathbf{1}_{c \ge u}) = \frac{2\,|\{c \ge u\} \cap \ell|}{|\{c \ge u\}| + |\ell|}

    All masks are counted in one pass over the voxels.

    Parameters
    ----------
    c : array (x, y, z)
        Soft segmentation with values in [0, 1]; compared with the grid in float64, whatever its own dtype.
    label : array (x, y, z) of 0 and 1

    Returns
    -------
    array (999,), float64
        Two empty masks have Dice 1.

    Raises
    ------
    ValueError
        If ``c`` holds NaN or a value outside [0, 1], ``label`` is not binary, or the shapes differ.

    Examples
    --------
    >>> curve = dice_over_grid(np.array([0.9, 0.45, 0.1]), np.array([1, 1, 0]))
    >>> [round(float(curve[k]), 3) for k in (49, 299, 499, 949)]  # u = .05, .3, .5, .95
    [0.8, 1.0, 0.667, 0.0]
    """
    c, label = _checked(c, label)
    above = c >= GRID[0]  # background mostly is not, and need not be sorted in
    place = np.searchsorted(GRID, c[above].astype(np.float64), side="right")  # how many u are at or below c
    volume, both = (
        np.cumsum(np.bincount(where, minlength=len(GRID) + 1)[:0:-1])[::-1] for where in (place, place[label[above]])
    )
    total = volume + np.count_nonzero(label)
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def fold_threshold(mean_dice: NDArray) -> float:
    """Choose the threshold of the grid with the largest mean Dice; of exact ties, the middle one (the lower of two).

    Parameters
    ----------
    mean_dice : array (999,)
        Mean of :func:`dice_over_grid` over the training cases, each against its own noisy label.

    Raises
    ------
    ValueError
        If there is not one finite number for each threshold of the grid.

    Examples
    --------
    >>> fold_threshold(np.minimum(GRID, 0.3))  # .300, .301, …, .999 are tied
    0.649
    """
    mean_dice = np.asarray(mean_dice, dtype=np.float64)
    if mean_dice.shape != GRID.shape or not np.isfinite(mean_dice).all():
        raise ValueError(f"mean_dice has shape {mean_dice.shape}; expected {GRID.shape}, finite numbers")
    best = np.flatnonzero(mean_dice == mean_dice.max())
    return float(GRID[best[(len(best) - 1) // 2]])


def oracle_threshold(c: NDArray, label: NDArray) -> float:
    """Find the threshold u whose mask {c >= u} has the largest Dice against ``label``; of exact ties, the lowest u.

    All masks that a threshold can make are tried: one for each value that occurs in ``c``, and the empty mask.

    Parameters
    ----------
    c : array (x, y, z)
        Soft segmentation with values in [0, 1].
    label : array (x, y, z) of 0 and 1
        With an empty label the empty mask is best: the threshold then is the float64 next above the largest value.

    Raises
    ------
    ValueError
        If ``c`` holds NaN or a value outside [0, 1], ``label`` is not binary, or the shapes differ.

    Examples
    --------
    >>> oracle_threshold(np.array([0.9, 0.45, 0.1]), np.array([0, 1, 0]))
    0.45
    """
    c, label = _checked(c, label)
    if not label.any():
        return float(np.nextafter(np.float64(c.max()), 2.0))
    order = np.argsort(c, axis=None, kind="stable")[::-1]
    values = c.ravel()[order]
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)  # equal values go in together
    both = np.cumsum(label.ravel()[order])[last]
    score = 2 * both / (last + 1 + np.count_nonzero(label))
    return float(values[last[len(last) - 1 - np.argmax(score[::-1])]])


def rankseg_version() -> str | None:
    """Version of the optional package ``rankseg``, or None where it is not installed."""
    try:
        return version("rankseg")
    except PackageNotFoundError:
        return None


def rank_mask(c: NDArray, solver: str = "RMA") -> NDArray[np.bool_]:
    """Make the mask that ``rankseg`` gives for Dice: the voxels with the largest c, as many as its solver says.

    Both solvers take the voxels for independent coin tosses and approximate the expected Dice: RMA (reciprocal moment
    approximation) by one number, which makes it the paper's Listing 3 but for a 1 in the denominator, BA (blind
    approximation) by the whole distribution of the label's volume, up to a refined normal approximation. ``rankseg``
    has no exact solver. Its ``pruning_prob`` is set to 0: at the default of .5 every map that stays below one half
    would get an empty mask. It works on float64 here, so that no rounding of sums chooses the mask.

    Parameters
    ----------
    c : array (x, y, z)
        Soft segmentation with values in [0, 1].
    solver
        ``RMA`` or ``BA``.

    Returns
    -------
    array (x, y, z), bool
        Empty where c is zero everywhere. Of voxels with equal c some may be in and others out.

    Raises
    ------
    ModuleNotFoundError
        If ``rankseg`` is not installed (``pip install rankseg``).
    ValueError
        If the solver is another, or ``c`` holds NaN or a value outside [0, 1].
    """
    import torch
    from rankseg import RankSEG  # an extra: only who asks for this needs it

    if solver not in RANK_SOLVERS.values():
        raise ValueError(f"solver is {solver!r}; expected one of {', '.join(RANK_SOLVERS.values())}")
    c = check_array("c", c)
    check_unit_block("c", c, c.shape)
    settings = {"metric": "dice", "smooth": 0.0, "output_mode": "multilabel", "pruning_prob": 0.0}
    ranker = RankSEG(solver=solver, **settings)
    return ranker.predict(torch.from_numpy(c.astype(np.float64))[None, None])[0, 0].numpy()


def _checked(c: NDArray, label: NDArray) -> tuple[NDArray, NDArray[np.bool_]]:
    c, label = check_array("c", c), check_array("label", label)
    check_same("c", c, "label", label)
    check_unit_block("c", c, c.shape)
    check_binary_block("label", label, label.shape)
    return c, label.astype(bool)
