"""The 3-D U-Net of the paper (section 5.2; book chapter *The experiment*)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Norm(nn.InstanceNorm3d):
    """Instance normalisation that leaves images in the layout they have.

    torch brings them to channels of x, y and z without gaps, and back. The statistics of an instance are those of a
    batch of one, and batch normalisation reads every layout.
    """

    def forward(self, input: Tensor) -> Tensor:
        options: dict[str, Any] = {"running_mean": None, "running_var": None, "training": True, "eps": self.eps}
        images = [functional.batch_norm(x, weight=self.weight, bias=self.bias, **options) for x in input.split(1)]
        return images[0] if len(images) == 1 else torch.cat(images)


class _Up(nn.ConvTranspose3d):
    """Transposed 2^3 convolution of stride 2 as one matrix product: no two of its outputs share a voxel."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        n, _, x, y, z = input.shape
        weights = self.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)  # (2, 2, 2, out) by in
        assert self.bias is not None
        blocks = functional.linear(input.permute(0, 2, 3, 4, 1), weights, self.bias.repeat(8))
        blocks = blocks.reshape(n, x, y, z, 2, 2, 2, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return blocks.reshape(n, 2 * x, 2 * y, 2 * z, -1).permute(0, 4, 1, 2, 3)


def _block(channels_in: int, channels_out: int, fast: bool) -> nn.Sequential:
    """Two 3^3 convolutions, each with instance normalisation and ReLU.

    The convolutions have no bias: the normalisation that follows would subtract it again.
    """
    norm = _Norm if fast else nn.InstanceNorm3d
    layers: list[nn.Module] = []
    for first in (channels_in, channels_out):
        layers += [
            nn.Conv3d(first, channels_out, kernel_size=3, padding=1, bias=False),
            norm(channels_out, affine=True),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """3-D U-Net: image (batch, 1, x, y, z) to logits of the same shape; sigmoid of a logit is the soft segmentation c.

    Blocks of two 3^3 convolutions with instance normalisation and ReLU; 2^3 convolutions of stride 2 on the way down,
    transposed ones on the way up, skip connections by concatenation, a 1^3 convolution at the end.

    Parameters
    ----------
    features
        Channels at every level, from the input's resolution to the bottleneck. The paper has 16, 32, 64, 128, 256.
    fast
        Compute normalisation and transposed convolutions without copies between memory layouts: the same weights and
        the same function, in other roundings. Pays where images are in ``torch.channels_last_3d``.

    Raises
    ------
    ValueError
        If there are fewer than two levels, a level without channels, or (when called) an axis of the image that the
        ``len(features) - 1`` halvings do not divide, or that they leave a single voxel of: it has no variance to
        normalise by.

    Examples
    --------
    >>> model = UNet((2, 4))
    >>> model(torch.zeros(1, 1, 8, 8, 8)).shape
    torch.Size([1, 1, 8, 8, 8])
    >>> sum(weight.numel() for weight in UNet((16, 32, 64, 128, 256)).parameters())
    7170065
    """

    def __init__(self, features: Sequence[int], fast: bool = False) -> None:
        super().__init__()
        if len(features) < 2 or min(features) < 1:
            raise ValueError(f"features is {list(features)}; expected at least two levels of at least one channel")
        pairs = list(itertools.pairwise(features))
        self.factor = 2 ** len(pairs)
        self.encoders = nn.ModuleList(
            _block(c_in, c, fast) for c_in, c in zip((1, *features[1:]), features, strict=True)
        )
        self.downs = nn.ModuleList(nn.Conv3d(fine, coarse, kernel_size=2, stride=2) for fine, coarse in pairs)
        up = _Up if fast else nn.ConvTranspose3d
        self.ups = nn.ModuleList(up(coarse, fine, kernel_size=2, stride=2) for fine, coarse in pairs)
        self.decoders = nn.ModuleList(_block(2 * fine, fine, fast) for fine, _ in pairs)
        self.head = nn.Conv3d(features[0], 1, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the soft segmentation."""
        if image.ndim != 5 or image.shape[1] != 1 or any(n % self.factor for n in image.shape[2:]):
            raise ValueError(
                f"image has shape {tuple(image.shape)}; "
                f"expected (batch, 1, x, y, z) with axes that {self.factor} divides"
            )
        if math.prod(image.shape[2:]) <= self.factor**3:
            raise ValueError(
                f"image has shape {tuple(image.shape)}; expected an axis of at least {2 * self.factor} voxels: "
                "the bottleneck would be a single voxel"
            )
        skips = []
        x = self.encoders[0](image)
        for down, encoder in zip(self.downs, self.encoders[1:], strict=True):
            skips.append(x)
            x = encoder(down(x))
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            x = decoder(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)
