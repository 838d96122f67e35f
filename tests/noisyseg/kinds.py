"""Arrays and tensors, for tests of both: where torch is not installed, what needs it is skipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

try:
    import torch as _torch
except ImportError:
    _torch = None

torch: Any = _torch
needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")


def tensor(x: Any) -> Any:
    """Give an array as a tensor that shares its memory."""
    return torch.from_numpy(np.asarray(x))


def both(x: np.ndarray) -> list[Any]:
    """Give an array, and the same as a tensor where torch is installed."""
    return [x] if torch is None else [x, tensor(x)]


KINDS = [pytest.param(np.asarray, id="array"), pytest.param(tensor, id="tensor", marks=needs_torch)]
