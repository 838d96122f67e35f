"""Names of networks: what the axis ``model`` of a grid may hold (book chapter *Lean U-Net*).

A name is a family, for ``lunet`` and ``doubling`` the width of the finest level, and for a network that is pruned while
it is trained, the criterion: ``unet``, ``lunet8``, ``doubling8-taylor``.

============  ====================================================================================================
``unet``      the paper's network (:class:`reproduction.network.unet.UNet`); its channels are ``features``
``lunet``     Lean U-Net: one width at every level
``doubling``  its conventional counterpart: the same blocks, and twice the width at every coarser level
============  ====================================================================================================

Both have as many levels as ``features`` has, and without a width ``features[0]``. A criterion says which channel is
removed next: the one with the lowest score (``l1``, ``l2`` and ``taylor`` divide the scores of a layer by their root
sum of squares, as STAMP does; with ``_raw`` they are compared as they are), or a random one: of all channels
(``random``), or of one layer (``random_at_taylor``: the layer that ``taylor`` would take, ``random_at_largest``: the
widest, ``random_at_random``: any).
"""

from __future__ import annotations

import re
from typing import NamedTuple

SCORES = ("l1", "l2", "taylor")
RAW = "_raw"
CRITERIA = (
    *SCORES,
    *(score + RAW for score in SCORES),
    *("random", "random_at_taylor", "random_at_largest", "random_at_random"),
)
_NAME = re.compile(rf"unet|(?P<family>lunet|doubling)(?P<width>[1-9]\d*)?(-(?P<criterion>{'|'.join(CRITERIA)}))?")
EXPECTED = "one of unet, lunet and doubling, the last two with a width (lunet8) and a criterion (doubling8-l2) or not"


class Model(NamedTuple):
    """A name taken apart: family, width of the finest level (0: ``features[0]``), criterion ("" for none)."""

    family: str
    width: int
    criterion: str

    def widths(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """Channels at every level, from the finest to the coarsest.

        Examples
        --------
        >>> parse("doubling4").widths((8, 16, 32)), parse("lunet").widths((8, 16, 32))
        ((4, 8, 16), (8, 8, 8))
        """
        if self.family == "unet":
            return features
        width = self.width or features[0]
        return tuple(width << level if self.family == "doubling" else width for level in range(len(features)))


def parse(name: str) -> Model:
    """Take a name apart.

    Raises
    ------
    ValueError
        If it is no network's name.

    Examples
    --------
    >>> parse("doubling8-taylor_raw")
    Model(family='doubling', width=8, criterion='taylor_raw')
    >>> parse("lunet0")
    Traceback (most recent call last):
    ValueError: model is 'lunet0'; expected one of unet, lunet and doubling, ...
    """
    found = _NAME.fullmatch(name)
    if not found:
        raise ValueError(f"model is {name!r}; expected {EXPECTED}")
    return Model(found["family"] or "unet", int(found["width"] or 0), found["criterion"] or "")
