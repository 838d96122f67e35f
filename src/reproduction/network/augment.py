"""Augmentation of a training pair: shift, rotation, Gaussian smoothing of random strength (paper, section 5.3).

Everything random comes from one generator that the caller seeds, so that an epoch can be repeated bit for bit.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def random_affine(rng: np.random.Generator, shift: float, rotation_deg: float) -> Tensor:
    """Random rigid map as the (3, 4) matrix that :func:`torch.nn.functional.affine_grid` takes.

    The axis of rotation is uniform on the sphere, the angle uniform in +-``rotation_deg``, the shift of each axis
    uniform in +-``shift`` (a fraction of the image's side).

    Examples
    --------
    >>> random_affine(np.random.default_rng(0), shift=0.0, rotation_deg=0.0)
    tensor([[1., 0., 0., 0.],
            [0., 1., 0., 0.],
            [0., 0., 1., 0.]])
    """
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    angle = math.radians(rng.uniform(-rotation_deg, rotation_deg))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    # affine_grid measures in half sides: the image spans -1 to 1.
    offset = 2 * rng.uniform(-shift, shift, size=3)
    return torch.from_numpy(np.column_stack([rotation, offset]).astype(np.float32))


def smooth(image: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing by ``sigma`` voxels along the last three axes; weights are renormalised at the border.

    A constant image stays what it is. ``sigma = 0`` returns the image.

    Examples
    --------
    >>> bool(torch.allclose(smooth(torch.ones(1, 4, 4, 4), 1.5), torch.ones(1, 4, 4, 4)))
    True
    """
    if sigma == 0:
        return image
    for axis in (-3, -2, -1):
        place = torch.arange(image.shape[axis], dtype=image.dtype, device=image.device)
        weights = torch.exp(-0.5 * ((place[:, None] - place[None, :]) / sigma) ** 2)
        weights = weights / weights.sum(dim=1, keepdim=True)
        image = torch.movedim(torch.movedim(image, axis, -1) @ weights.T, -1, axis)
    return image


def augment(
    image: Tensor,
    label: Tensor,
    rng: np.random.Generator,
    probability: float,
    shift: float,
    rotation_deg: float,
    smoothing_voxels: float,
) -> tuple[Tensor, Tensor]:
    """With ``probability``, move image and label by one random rigid map and smooth the image.

    Parameters
    ----------
    image, label : tensors (1, x, y, z), float32
        The image is interpolated linearly and continued at its border; the label takes the nearest voxel and is 0
        outside.
    rng
        Source of all randomness; the same number of draws is made whether or not the pair is augmented.
    probability
        Chance that the pair is augmented at all.
    shift, rotation_deg
        See :func:`random_affine`.
    smoothing_voxels
        Largest standard deviation of the smoothing; the one used is uniform in 0 to this.

    Raises
    ------
    ValueError
        If image and label differ in shape, or do not have one channel and three axes.

    Examples
    --------
    >>> image = torch.rand(1, 8, 8, 8)
    >>> moved, _ = augment(image, (image > 0.5).float(), np.random.default_rng(0), 0.0, 0.1, 10, 1)
    >>> moved is image
    True
    """
    if image.shape != label.shape or image.ndim != 4 or image.shape[0] != 1:
        raise ValueError(
            f"image has shape {tuple(image.shape)} and label {tuple(label.shape)}; expected (1, x, y, z) for both"
        )
    chosen = rng.random() < probability
    theta = random_affine(rng, shift, rotation_deg).to(image.device)
    sigma = rng.uniform(0, smoothing_voxels)
    if not chosen:
        return image, label
    grid = functional.affine_grid(theta[None], [1, 1, *image.shape[1:]], align_corners=False)
    moved = functional.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    mask = functional.grid_sample(label[None], grid, mode="nearest", padding_mode="zeros", align_corners=False)[0]
    return smooth(moved, sigma), mask
