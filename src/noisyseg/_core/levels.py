"""Comparing values of any type with thresholds in float64, exactly and without a converted copy of them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from noisyseg._core.arrays import Array, is_tensor


def at_least(t: Any, dtype: np.dtype) -> Any:
    """Give the smallest numbers of the dtype that are at least t, so that comparing with them compares with t."""
    if isinstance(t, float):
        level = dtype.type(t)
        return level if float(level) >= t else np.nextafter(level, dtype.type(1))
    level = np.asarray(t, dtype=dtype.newbyteorder("="))
    return np.where(level.astype(np.float64) >= t, level, np.nextafter(level, np.ones_like(level)))


def mask_at_least(m: Array, t: Any) -> Array:
    """Give ``m >= t`` compared in float64; t is a number or an array that broadcasts against m."""
    if is_tensor(m):
        torch = sys.modules["torch"]
        m = m.detach()
        if not m.dtype.is_floating_point:
            return m >= t
        if m.dtype.itemsize < 2:
            m = m.float()
        if isinstance(t, float):
            level = torch.tensor(t, dtype=m.dtype)
            return m >= float(level if float(level) >= t else torch.nextafter(level, torch.ones_like(level)))
        t = torch.as_tensor(t, dtype=torch.float64, device=m.device)
        level = t.to(m.dtype)
        return m >= torch.where(level.double() >= t, level, torch.nextafter(level, torch.ones_like(level)))
    if m.dtype.kind != "f":
        return m >= t
    level = at_least(t, m.dtype)
    if m.dtype == np.float16 and m.dtype.isnative:  # its bits are compared faster; negative ones are below any level
        return m.view(np.int16) >= level.view(np.int16)
    return m >= level
