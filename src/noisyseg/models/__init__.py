"""Networks (book chapter *The experiment*)."""

from noisyseg.models.unet import UNet

__all__ = ["UNet"]
