"""nnU-Net's ``.pkl`` of an image's properties, read without running anything that the file asks for."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

# What NumPy pickles arrays and numbers with, and nothing else: none of it runs code of the file's choosing.
_ARRAY, _NUMBER = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]


def _of_bytes(content: bytes, dtype: Any, shape: Any, order: str, axes: Any = None) -> np.ndarray:
    """Build an array from its bytes, as pickles of protocol 5 ask for."""
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C")
    return array if axes is None else array.transpose(axes)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _ARRAY for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _NUMBER for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _of_bytes for core in ("core", "_core")},
}


class _Properties(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ValueError(
                f"it asks for {module}.{name}, and properties of an image are numbers, lists and arrays alone; nothing "
                "was run. Do not open this file elsewhere; name the image with --reference"
            ) from None


def read_properties(path: Path) -> dict[str, Any]:
    """Read the properties of an image: numbers, text, lists, dictionaries and arrays.

    A file that asks for anything else is refused with a `ValueError`; so is one that is damaged or holds no dictionary.
    """
    try:
        with open(path, "rb") as file:
            properties = _Properties(file).load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises nearly any kind
        raise ValueError(f"{path.name}: {' '.join(str(error).split()) or type(error).__name__}") from error
    if not isinstance(properties, dict):
        raise ValueError(f"{path.name}: expected a dictionary of properties, got {type(properties).__name__}")
    return properties
