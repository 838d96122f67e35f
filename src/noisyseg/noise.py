"""Label noise by Gaussian field deformations (the paper's section 4.2; Theorems 1 and 2), exact on voxels.

The label is constant on voxels, evaluated at displaced voxel centres and 0 outside the image. Sampling, marginal and
volume loss all belong to this one model, so they agree with each other up to rounding. The book's chapter "Label
noise" has the proofs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from noisyseg._core.arrays import Array, check_label, host_view, is_tensor, like, per_axis
from noisyseg._core.voxels import Warp, bounding_box, leaving, reached, voxel_weights, weight_matrix
from noisyseg.fields import as_generator, check_shape, kronecker_factor, white_noise

ROWS = 32  # rows of the first axis that the marginal computes at a time


@dataclass(frozen=True)
class GaussianDeformation:
    r"""Random deformation of a label by Gaussian fields (equation 18).

    .. math:: L(w) = l(w + X(w)) \text{ where } w + X(w) \in \Omega,\ 0 \text{ elsewhere}

    with independent centred Gaussian fields :math:`X_k` of standard deviation `a` and correlation length `b`
    (equation 8). The label is constant on voxels and evaluated at voxel centres. Book: ``def-deformation``.

    Parameters
    ----------
    a : float or one per axis
        Strength of the noise as a fraction of the image side; the paper uses 0, .01, .02, .03. At 0 nothing moves.
    b : float or one per axis
        Smoothness of the noise as a fraction of the image side, ``0.15 / sqrt(2)`` in the paper.

    See Also
    --------
    GaussianDeformation.in_mm : the same with `a` and `b` in millimetres.

    Examples
    --------
    >>> label = np.zeros((32, 32), dtype=np.uint8)
    >>> label[10:22, 8:20] = 1
    >>> noise = GaussianDeformation(a=0.03)
    >>> noisy = noise.sample(label, rng=1)
    >>> noisy.shape, noisy.dtype
    ((32, 32), dtype('uint8'))
    >>> m = noise.marginal(label)
    >>> bool(abs(m.sum() - (label.sum() - noise.volume_loss(label))) < 1e-10)
    True
    """

    a: float | Sequence[float]
    b: float | Sequence[float] = 0.15 / math.sqrt(2)

    def __post_init__(self) -> None:
        """Check both parameters and store them as a float or a tuple of floats."""
        for name, positive in (("a", False), ("b", True)):
            value = per_axis(name, getattr(self, name), positive=positive)
            object.__setattr__(self, name, value[0] if len(value) == 1 else value)

    @classmethod
    def in_mm(cls, a_mm: Any, b_mm: Any, spacing_mm: Any, shape: Sequence[int]) -> Self:
        r"""Make the deformation whose strength and smoothness are given in millimetres.

        .. math:: a_k = \frac{a_\mathrm{mm}}{N_k h_k},\qquad b_k = \frac{b_\mathrm{mm}}{N_k h_k}

        for an image of :math:`N_k` voxels of :math:`h_k` mm along axis k. With single numbers `a_mm` and `b_mm` the
        noise is the same in all directions of space, whatever the voxels: a displacement has the standard deviation
        `a_mm` along each axis, and displacements at points x and y of space have the correlation
        ``exp(-|x - y|**2 / (2 * b_mm**2))``. Book: ``prop-spacing``.

        Parameters
        ----------
        a_mm : float or one per axis
            Standard deviation of a displacement, in mm. At 0 nothing moves.
        b_mm : float or one per axis
            Correlation length, in mm. Positive.
        spacing_mm : float or one per axis
            Size of a voxel along each axis, from centre to centre, in mm. Positive.
        shape : sequence of int
            Voxels per axis, those of the labels that will be deformed.

        Returns
        -------
        GaussianDeformation
            With one `a` and one `b` per axis. It means these millimetres for labels of that shape and spacing alone.

        Examples
        --------
        A shift by one standard deviation of 4 mm is 5 voxels in plane and 0.8 slices across:

        >>> label = np.zeros((100, 100, 20), dtype=np.uint8)
        >>> noise = GaussianDeformation.in_mm(a_mm=4, b_mm=20, spacing_mm=(0.8, 0.8, 5), shape=label.shape)
        >>> noise
        GaussianDeformation(a=(0.05, 0.05, 0.04), b=(0.25, 0.25, 0.2))
        """
        sizes = check_shape(shape)
        n = len(sizes)
        spacing = per_axis("spacing_mm", spacing_mm, n, positive=True)
        sides = [size * h for size, h in zip(sizes, spacing, strict=True)]
        a = per_axis("a_mm", a_mm, n)
        b = per_axis("b_mm", b_mm, n, positive=True)
        return cls(
            a=tuple(ak / side for ak, side in zip(a, sides, strict=True)),
            b=tuple(bk / side for bk, side in zip(b, sides, strict=True)),
        )

    def _voxel_sigma(self, label: Array) -> list[float]:
        a = per_axis("a", self.a, label.ndim)
        return [ak * size for ak, size in zip(a, label.shape, strict=True)]

    def sample(self, label: Array, rng: Any = None, size: int | None = None) -> Array:
        r"""Draw noisy labels (equation 18).

        Voxel i of the sample is the label's voxel that holds the position ``w_i + X(w_i)``, and 0 where that position
        is outside the image. X is `gaussian_field` with the same `a`, `b` and `rng`. Book: ``def-deformation``.

        Parameters
        ----------
        rng : numpy.random.Generator, torch.Generator, int or None
            Source of the noise. The same int seed gives the same bits on the same machine, and the same noise for
            arrays and tensors; None gives new noise each time.
        size : int, optional
            How many samples; they are those of as many successive calls with the same generator.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            Of the kind, device and dtype of `label`, shape ``label.shape`` or ``(size, *label.shape)``. An empty label
            gives empty samples.

        Notes
        -----
        The image is deformed slab by slab: the field never exists as a whole. Positions are computed in float32, with
        an error of about 1e-7 of the image side. Lines of voxels from which no displacement of this sample can reach
        the label (by the Cauchy-Schwarz inequality) are skipped, which changes no voxel.

        The mean volume of the samples is ``label.sum() - volume_loss(label)``, whatever `b`. Their spread depends on
        `b`: for weak noise the standard deviation is proportional to `a`, with a factor that is a double integral over
        the surface of the label. Book: ``prop-volume-spread``.

        Examples
        --------
        >>> label = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
        >>> GaussianDeformation(a=0.1).sample(label, rng=0, size=5).shape
        (5, 3, 4)
        >>> bool((GaussianDeformation(a=0).sample(label) == label).all())
        True
        """
        label = check_label("label", label)
        sigma = self._voxel_sigma(label)
        b = per_axis("b", self.b, label.ndim, positive=True)
        if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 0):
            raise ValueError(f"size: expected a non-negative int or None, got {size!r}")
        rng = as_generator(rng)
        view = host_view(label)
        shape = (1 if size is None else int(size), *label.shape)
        samples = view.new_zeros(shape) if is_tensor(view) else np.zeros(shape, dtype=view.dtype)
        box = bounding_box(view)
        if not any(sigma):
            samples[:] = view
        elif box is not None:
            factors = [kronecker_factor(n, bk) for n, bk in zip(label.shape, b, strict=True)]
            warp = Warp(view, box, sigma, factors)
            for sample in samples:
                warp(white_noise(label.ndim, warp.ranks, rng), sample)
        if size is None:
            samples = samples[0]
        return samples if is_tensor(samples) else like(samples, label)

    def marginal(self, label: Array) -> Array:
        r"""Compute the marginal E[L], the expected noisy label, exactly on voxels (Theorem 1).

        .. math:: m_i = \sum_j l_j \prod_k \left[\Phi\left(\frac{j_k - i_k + 1/2}{\sigma_k}\right)
            - \Phi\left(\frac{j_k - i_k - 1/2}{\sigma_k}\right)\right],\qquad \sigma_k = a_k N_k

        with :math:`\Phi` the normal distribution function and the label 0 outside the image. It does not depend on `b`.
        Book: ``thm-marginal`` and ``prop-voxels``.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            Float64, of the kind, device and shape of `label`, in [0, 1]. All zero for an empty label.

        Notes
        -----
        The marginal is linear in the label, does not fall where the label grows, and moves, turns and flips with it
        (book: ``prop-marginal-properties``). It is the formula of Theorem 1 at the voxel centres, for the label that is
        constant on voxels, and so tends to that of a label that is none as the voxels shrink (``prop-continuum``). A
        Gaussian that is sampled at the voxel centres instead is narrower, by a variance of 1/12 voxel squared, which
        matters where a standard deviation is about a voxel (``prop-sampled-gaussian``). The best Dice and Accuracy do
        not rise with `a` as long as nothing leaves the image (``prop-monotone``). In the continuum no value is taken on
        a set of positive volume, so the best masks are unique (``prop-unique``).

        One-dimensional weights below 1e-17 are left out, so places that far from the label get 0. A sum that rounding
        puts above 1 (by some 1e-16) is set to 1.

        Examples
        --------
        >>> label = np.array([0, 0, 1, 0, 0])
        >>> GaussianDeformation(a=0.1).marginal(label).round(4)
        array([0.0013, 0.1573, 0.6827, 0.1573, 0.0013])
        """
        label = check_label("label", label)
        sigma = self._voxel_sigma(label)
        view = host_view(label)
        tensor = is_tensor(view)
        shape = tuple(view.shape)
        if tensor:
            m = view.new_zeros(shape, dtype=sys.modules["torch"].float64)
        else:
            m = np.zeros(shape, dtype=np.float64)
        box = bounding_box(view)
        if box is None:
            return m if tensor else like(m, label)
        weights = [voxel_weights(n, s) for n, s in zip(shape, sigma, strict=True)]
        reach = [reached(n, p, inside) for n, p, inside in zip(shape, weights, box, strict=True)]

        def matrix(k: int, rows: slice, columns: slice) -> Array:
            w = weight_matrix(weights[k], rows, columns)
            return sys.modules["torch"].from_numpy(w).to(m.device) if tensor else w

        others = [matrix(k, reach[k], box[k]) for k in range(1, len(shape))]
        for start in range(reach[0].start, reach[0].stop, ROWS):
            rows = slice(start, min(start + ROWS, reach[0].stop))
            near = reached(shape[0], weights[0], rows)
            near = slice(max(near.start, box[0].start), min(near.stop, box[0].stop))
            x = view[(near, *box[1:])]
            x = x.double() if tensor else x.astype(np.float64)
            size = x.shape[1:]
            x = (matrix(0, rows, near) @ x.reshape(x.shape[0], -1)).reshape(-1, *size)
            if others:
                x = x @ others[-1].T
            for k in range(len(shape) - 2, 0, -1):
                before, after = x.shape[:k], x.shape[k + 1 :]
                x = (others[k - 1] @ x.reshape(*before, x.shape[k], -1)).reshape(*before, -1, *after)
            m[(rows, *reach[1:])] = x.clip(max=1.0)
        return m if tensor else like(m, label)

    def volume_loss(self, label: Array) -> float:
        r"""Compute the volume that the noise moves out of the image, in voxels (Theorem 2).

        .. math:: \xi = \sum_j l_j \left(1 - \prod_k (1 - e_k(j_k))\right),\qquad
            e_k(j) = \Phi\left(-\frac{j + 1/2}{\sigma_k}\right)
            + \Phi\left(-\frac{N_k - j - 1/2}{\sigma_k}\right)

        so that the expected volume of a sample is ``label.sum() - volume_loss(label)``. Every voxel of the label counts
        with the probability that a displacement leads from its centre out of the image. Book: ``thm-volume-loss`` and
        ``prop-voxel-volume``; ``cor-crossing`` for labels that run through the image.

        Returns
        -------
        float
            In voxels, at least 0; 0 for an empty label and for a = 0.

        Examples
        --------
        >>> round(GaussianDeformation(a=0.1).volume_loss(np.array([1, 0, 0, 0, 0])), 4)
        0.1587
        """
        label = check_label("label", label)
        sigma = self._voxel_sigma(label)
        view = host_view(label)
        box = bounding_box(view)
        if box is None:
            return 0.0
        x = view[box].double() if is_tensor(view) else view[box].astype(np.float64)
        # 1 - (1-e_1)(1-e_2)... = e_1 + (1-e_1) (e_2 + (1-e_2) (...)): all terms positive, nothing cancels.
        loss = 0.0
        for n, s, inside in zip(view.shape, sigma, box, strict=True):
            e: Array = leaving(n, s)[inside]
            if is_tensor(x):
                e = sys.modules["torch"].from_numpy(e).to(x.device)
            flat = x.reshape(len(e), -1)
            loss += float(e @ flat.sum(1))
            x = ((1 - e) @ flat).reshape(x.shape[1:])
        return loss
