"""Comparing with a threshold: float64 numbers against values of any type."""

from __future__ import annotations

import sys

import numpy as np

from noisyseg._core.arrays import Array, is_tensor


def at_least(t: float, dtype: np.dtype) -> np.ndarray:
    """Give the smallest number of the dtype that is at least t, so that comparing with it compares with t."""
    level = np.asarray(t, dtype=dtype.newbyteorder("="))
    return level if float(level) >= t else np.nextafter(level, np.ones_like(level))


def mask_at_least(m: Array, t: float) -> Array:
    """Give ``m >= t`` compared in float64, computed in the dtype of `m` without a converted copy of it."""
    if is_tensor(m):
        torch = sys.modules["torch"]
        if not m.dtype.is_floating_point:
            return m >= t
        m = m.detach()
        if m.dtype.itemsize < 2:
            m = m.float()
        level = torch.tensor(t, dtype=m.dtype, device=m.device)
        if float(level) < t:
            level = torch.nextafter(level, torch.ones_like(level))
        return m >= level
    if m.dtype.kind != "f":
        return m >= t
    level = m.dtype.type(t)  # a number between two neighbours of the dtype acts as the upper one
    return m >= (np.nextafter(level, m.dtype.type(1)) if float(level) < t else level)
