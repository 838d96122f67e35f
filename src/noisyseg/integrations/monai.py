"""MONAI's post-processing: the best threshold where `monai.transforms.AsDiscrete` has a fixed one.

Needs MONAI 1.4 or later: ``pip install .[monai]`` in a copy of the repository.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform, Transform
from monai.utils.enums import TransformBackends
from monai.utils.type_conversion import convert_to_dst_type, convert_to_tensor

from noisyseg.linear_fractional import optimal_tversky
from noisyseg.maps.metric import metric as named


class DiceThreshold(Transform):
    """Threshold probability maps so that the expected Dice, or another score, is largest.

    An image is (channel, spatial axes), with `batch` (batch, channel, spatial axes), an array or tensor of
    probabilities, as after ``Activations(sigmoid=True)`` or ``Activations(softmax=True)``. Every channel of every image
    has its own threshold, and the channels are independent: masks of exclusive classes may overlap. What comes back has
    the shape, kind, device and metadata of the image, with values 0 and 1. Logits are refused.

    Parameters
    ----------
    metric : {"dice", "jaccard", "f_beta", "tversky"}
        The score.
    alpha, beta : float, optional
        Its parameters: `beta` of F_beta, both of Tversky.
    batch : bool
        Whether the first axis is a batch.
    dtype : torch.dtype
        Of the mask; float as in ``AsDiscrete``.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]  # noqa: RUF012  # as MONAI declares it

    def __init__(
        self,
        metric: str = "dice",
        alpha: float | None = None,
        beta: float | None = None,
        batch: bool = False,
        dtype: Any = torch.float,
    ) -> None:
        self.metric = named(metric, alpha, beta)
        self.batch = batch
        self.dtype = dtype

    def __call__(self, img: Any) -> Any:
        """Give the masks of one image, or of a batch of them."""
        m = convert_to_tensor(img, track_meta=False)
        axis = tuple(range(1 + self.batch, m.ndim))
        if not axis:
            batch = "batch, " * self.batch
            raise ValueError(f"img: expected ({batch}channel, spatial axes), got shape {tuple(m.shape)}")
        mask = optimal_tversky(m, self.metric.alpha, self.metric.beta, axis=axis)
        return convert_to_dst_type(mask, img, dtype=self.dtype)[0]


class DiceThresholdd(MapTransform):
    """Apply `DiceThreshold` to the items of a dictionary.

    Parameters
    ----------
    keys : str or sequence of str
        The items that are probability maps.
    allow_missing_keys : bool
        Whether a key may be missing.
    **parameters
        Those of `DiceThreshold`.
    """

    backend = DiceThreshold.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **parameters: Any) -> None:
        super().__init__(keys, allow_missing_keys)
        self.threshold = DiceThreshold(**parameters)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the dictionary with masks in place of the maps."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.threshold(d[key])
        return d
