"""Optimal segmentations for Accuracy and Dice (equations 11, 12 and 15) and what others lose.

Every optimum is a set of the voxels with the largest marginal: what has to be found is its threshold.
"""

from __future__ import annotations

import math

from noisyseg._core.arrays import Array, blocks, check_array, check_same, check_unit_block, host_view
from noisyseg._core.levels import mask_at_least
from noisyseg._core.search import supremum
from noisyseg.metrics import soft_dice


def dice_threshold(m: Array) -> float:
    r"""Compute the threshold that makes a marginal a Dice-optimal segmentation (equation 15).

    .. math:: t_m = \frac12 \sup_s D_m(s),\qquad D_m(s) = \frac{2 \int s\,m}{|s|_1 + |m|_1}

    ``m >= t`` attains the supremum, for Dice and for soft-Dice (equations 12 and 16). With a network, `m` is its own
    output c, and ``c >= t`` is the method CE(*). Book: ``thm-dice``, ``def-methods`` and ``prop-newton`` in the chapter
    "Optimal segmentations"; under label noise t does not rise with the noise as long as nothing leaves the image,
    ``prop-monotone`` in the chapter "Optimal segmentations under noise".

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], any shape with at least one voxel, any real dtype.

    Returns
    -------
    float
        In (0, 1/2], exact up to a few roundings of float64 whatever the dtype of `m`. For a label it is 1/2; for an
        all-zero marginal too, because the empty mask then has Dice 1.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1].

    Notes
    -----
    The map ``u -> D_m(1{m >= u}) / 2`` is Newton's method on a convex decreasing function with root t (Dinkelbach's
    algorithm), so it rises to t in a few steps without sorting. A sample of the voxels says where to start, which makes
    one walk through a large image enough; the extra memory is a quarter of a large image at most.

    See Also
    --------
    noisyseg.optimal.threshold_window : Bounds on t that one walk gives.

    Examples
    --------
    >>> dice_threshold(np.array([1.0, 0.5, 0.5, 0.0]))  # all three: 2 * 2 / (3 + 2), halved
    0.4
    >>> dice_threshold(np.zeros(4))
    0.5
    """
    return supremum(check_array("m", m))


def optimal_accuracy(m: Array) -> Array:
    r"""Compute the largest Accuracy-optimal segmentation (equation 11).

    .. math:: s(w) = 1\{m(w) \ge 1/2\}

    Book: ``thm-ce-accuracy`` in the chapter "Optimal segmentations". As the cross-entropy is least at c = m, this is
    also what a network's output, trained to perfection with cross-entropy, gives with the threshold 1/2 (equation 13).

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], any shape with at least one voxel, any real dtype.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        Boolean mask of the kind, device and shape of `m`; ties, which are free, are foreground. Empty for an all-zero
        `m`.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1].

    Examples
    --------
    >>> optimal_accuracy(np.array([1.0, 0.5, 0.45, 0.0]))
    array([ True,  True, False, False])
    """
    m = check_array("m", m)
    check_unit_block("m", host_view(m), m.shape)
    return mask_at_least(m, 0.5)


def optimal_dice(m: Array) -> Array:
    r"""Compute the largest Dice-optimal segmentation (equations 12 and 16); it is optimal for soft-Dice as well.

    .. math:: s(w) = 1\{m(w) \ge t_m\}

    Book: ``thm-dice``, ``prop-level-sets`` and ``cor-cross-entropy`` in the chapter "Optimal segmentations".

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], or a network's probabilities; any shape with at least one voxel, any real dtype.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        Boolean mask of the kind, device and shape of `m`; equal values are treated equally. Empty for an all-zero `m`.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1].

    See Also
    --------
    dice_threshold : The threshold, and how it is found.

    Examples
    --------
    >>> optimal_dice(np.array([1.0, 0.5, 0.45, 0.0]))
    array([ True,  True,  True, False])
    """
    m = check_array("m", m)
    return mask_at_least(m, dice_threshold(m))


def threshold_window(m: Array) -> tuple[float, float]:
    r"""Compute the window that holds the Dice threshold, in one walk through the image.

    .. math:: \max\left(\frac{v}{1 + v},\ \frac12 D_m(1\{m \ge 1/2\})\right) \le t_m \le \frac12,\qquad v = |m|_1

    Voxels above the window are in every optimal mask and voxels below it in none, so only those within have to be
    looked at to find t. Book: ``thm-window`` in the chapter "Optimal segmentations".

    Parameters
    ----------
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1], any shape with at least one voxel, any real dtype.

    Returns
    -------
    (lo, hi) : pair of floats
        ``0 < lo <= hi = 1/2``, each end within a few roundings of float64. Both are 1/2 for a label and for an all-zero
        marginal.

    Raises
    ------
    ValueError
        If `m` is empty or has a NaN or a value outside [0, 1].

    Examples
    --------
    >>> lo, hi = threshold_window(np.array([1.0, 0.5, 0.5, 0.0]))  # v / (1 + v) = 1/3; at 1/2: 2 * 2 / (3 + 2), halved
    >>> lo, hi
    (0.4, 0.5)
    """
    m = check_array("m", m)
    soft, above, count = [], [], 0
    for (block,) in blocks(host_view(m)):
        check_unit_block("m", block, m.shape)
        chosen = block >= 0.5
        soft.append(float(block.sum()))
        above.append(float((block * chosen).sum()))
        count += int(chosen.sum())
    total = math.fsum(soft)
    if total == 0.0:
        return 0.5, 0.5
    return min(max(total / (math.prod(m.shape) + total), math.fsum(above) / (count + total)), 0.5), 0.5


def regret(c: Array, m: Array) -> float:
    r"""Compute how much Dice a segmentation, hard or soft, loses against the best one.

    .. math:: \sup_s D_m(s) - (1 - \mathrm{SD}_m(c)) = \frac{2}{|c|_1 + v} \int_\Omega |m - t_m|
        \left((1 - c)\,1\{m > t_m\} + c\,1\{m < t_m\}\right) d\lambda

    For a mask s this is the Dice of the optimum minus that of s. Book: ``prop-regret`` and ``prop-asymptotic`` in the
    chapter "Optimal segmentations".

    Parameters
    ----------
    c : numpy.ndarray or torch.Tensor
        Segmentation with values in [0, 1], any shape with at least one voxel; a mask of 0 and 1 (bool, int or float),
        or soft.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1]; of the kind, device and shape of `c`.

    Returns
    -------
    float
        In [0, 1]; a difference below 0, which only rounding can cause, is returned as 0. For an all-zero `m` the empty
        mask has regret 0 and everything else 1.

    Raises
    ------
    ValueError
        If either has a NaN or a value outside [0, 1], or kinds, devices or shapes differ or are empty.

    Examples
    --------
    >>> m = np.array([1.0, 0.5, 0.45, 0.0])
    >>> round(regret(optimal_accuracy(m), m), 4), regret(optimal_dice(m), m)
    (0.0284, 0.0)
    >>> round(regret(m, m), 4)  # a perfect output of cross-entropy, before it is thresholded
    0.043
    """
    return max(0.0, 2 * dice_threshold(m) - 1 + soft_dice(c, m))


def plug_in_bound(p: Array, m: Array) -> float:
    r"""Compute how much Dice can be lost by thresholding an estimate of the marginal instead of the marginal.

    .. math:: \sup_s D_m(s) - D_m(s_p) \le \frac{4\,|m - p|_1}{|m|_1}

    for every `s_p` that is Dice-optimal for the estimate `p`, such as ``optimal_dice(p)``. Book: ``prop-plug-in`` and
    ``cor-cross-entropy`` in the chapter "Optimal segmentations".

    Parameters
    ----------
    p : numpy.ndarray or torch.Tensor
        Estimate with values in [0, 1], such as a network's probabilities; any shape with at least one voxel.
    m : numpy.ndarray or torch.Tensor
        Marginal with values in [0, 1]; of the kind, device and shape of `p`.

    Returns
    -------
    float
        In [0, 1]: nobody loses more than 1, so neither does the bound. 0 if both are all zero, 1 if only `m` is.

    Raises
    ------
    ValueError
        If either has a NaN or a value outside [0, 1], or kinds, devices or shapes differ or are empty.

    Examples
    --------
    >>> m = np.array([1.0, 1.0, 0.5, 0.0])
    >>> p = np.array([1.0, 0.9, 0.4, 0.0])
    >>> round(plug_in_bound(p, m), 4), regret(optimal_dice(p), m)  # 4 * 0.2 / 2.5
    (0.32, 0.0)
    """
    p, m = check_array("p", p), check_array("m", m)
    check_same("p", p, "m", m)
    away, soft = [], []
    for p_block, m_block in blocks(host_view(p), host_view(m)):
        check_unit_block("p", p_block, p.shape)
        check_unit_block("m", m_block, m.shape)
        away.append(float(abs(m_block - p_block).sum()))
        soft.append(float(m_block.sum()))
    lost, total = 4 * math.fsum(away), math.fsum(soft)
    return lost / total if lost < total else float(lost > 0)
