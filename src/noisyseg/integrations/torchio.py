"""TorchIO's transforms: Gaussian label noise as an augmentation, and the best masks of probability maps.

Needs TorchIO 0.20 or later: ``pip install .[torchio]`` in a copy of the repository.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torchio import LabelMap, Subject
from torchio.transforms import IntensityTransform, LabelTransform
from torchio.transforms.augmentation import RandomTransform

from noisyseg.linear_fractional import optimal_tversky
from noisyseg.maps.metric import metric as named
from noisyseg.noise import GaussianDeformation


class LabelNoise(LabelTransform):
    """Deform label maps by the Gaussian field of a seed; see `RandomLabelNoise`, which draws the seed.

    Parameters
    ----------
    a, b, in_mm
        As in `RandomLabelNoise`.
    seed : dict of str to int
        The seed of every label map.
    **kwargs
        Those of every transform of TorchIO.
    """

    def __init__(self, a: Any, b: Any, in_mm: bool, seed: dict[str, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.a, self.b, self.in_mm, self.seed = a, b, in_mm, seed
        self.args_names = ["a", "b", "in_mm", "seed"]

    def apply_transform(self, subject: Subject) -> Subject:
        """Deform every label map of the subject; every number in a map moves with the same field."""
        for name, image in self.get_images_dict(subject).items():
            labels = image.data
            shape = tuple(labels.shape[1:])
            noise = GaussianDeformation(self.a, self.b)
            if self.in_mm:
                noise = GaussianDeformation.in_mm(self.a, self.b, image.spacing, shape)
            noisy = torch.zeros_like(labels)
            for channel, result in zip(labels, noisy, strict=True):
                for value in channel.unique():
                    if value != 0:
                        result[noise.sample(channel == value, rng=self.seed[name])] = value
            image.set_data(noisy)
        return subject


class RandomLabelNoise(RandomTransform, LabelTransform):
    r"""Deform label maps by Gaussian fields, the paper's label noise (`noisyseg.GaussianDeformation`).

    Images are left alone: the label no longer fits them, which is the noise. The numbers of a map, and its channels,
    move together; label maps of one subject move independently. The history of the subject repeats the noise.

    Parameters
    ----------
    a : float or three
        Standard deviation of a displacement, as a fraction of the image side, or in mm with `in_mm`.
    b : float or three
        Correlation length, in the same unit; the paper's fraction is ``0.15 / sqrt(2)``.
    in_mm : bool
        Whether `a` and `b` are in millimetres.
    **kwargs
        Those of every transform of TorchIO, such as ``p`` and ``include``.
    """

    def __init__(
        self,
        a: float | Sequence[float] = 0.02,
        b: float | Sequence[float] = 0.15 / math.sqrt(2),
        in_mm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        GaussianDeformation(a, b)  # refuses what makes no sense now, and not in the middle of a training
        self.a, self.b, self.in_mm = a, b, in_mm

    def apply_transform(self, subject: Subject) -> Subject:
        """Draw a seed for every label map and deform it."""
        seed = {name: int(torch.randint(2**31, (1,))) for name in self.get_images_dict(subject)}
        if not seed:
            return subject
        noise = LabelNoise(self.a, self.b, self.in_mm, seed, copy=False, include=self.include, exclude=self.exclude)
        return noise(subject)


class DiceThreshold(IntensityTransform):
    """Turn images of probabilities into label maps whose expected Dice, or another score, is largest.

    Every channel of every image has its own threshold. ``include`` names the images that are probability maps; what
    comes back in their place are label maps of 0 and 1 with the same affine.

    Parameters
    ----------
    metric : {"dice", "jaccard", "f_beta", "tversky"}
        The score.
    alpha, beta : float, optional
        Its parameters: `beta` of F_beta, both of Tversky.
    **kwargs
        Those of every transform of TorchIO.
    """

    def __init__(
        self, metric: str = "dice", alpha: float | None = None, beta: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        named(metric, alpha, beta)
        self.metric, self.alpha, self.beta = metric, alpha, beta
        self.args_names = ["metric", "alpha", "beta"]

    def apply_transform(self, subject: Subject) -> Subject:
        """Put a label map in the place of every image."""
        score = named(self.metric, self.alpha, self.beta)
        for name, image in self.get_images_dict(subject).items():
            mask = optimal_tversky(image.data, score.alpha, score.beta, axis=(1, 2, 3))
            subject.add_image(LabelMap(tensor=mask.to(torch.uint8), affine=image.affine), name)
        return subject
