"""torch for the library's tests; where it is not installed, tests that use it are skipped and all others run.

The wheel needs NumPy and nibabel alone, and is tested so (``tests/test_wheel.py``).
"""

from __future__ import annotations

import os
from typing import Any

import pytest

try:
    import torch
except ModuleNotFoundError:

    class Absent:
        """Stands for torch and what is in it where a test module is imported (``torch.float32`` as a parameter)."""

        def __getattr__(self, name: str) -> Any:
            return self() if not name.startswith("__") else object.__getattribute__(self, name)

        def __call__(self, *_arguments: object, **_options: object) -> Absent:
            if "PYTEST_CURRENT_TEST" in os.environ:  # which pytest sets while a test runs
                pytest.skip("torch is not installed")
            return self

        __array__ = __call__

    torch: Any = Absent()

__all__ = ["torch"]
