"""Input checks and block-wise access shared by the core modules.

Every check raises a `ValueError` that names the argument, what was found and what is expected. NumPy arrays
and torch tensors are both served; torch is never imported here, only looked up among the loaded modules.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from noisyseg._core import refusals

# Elements per block: small enough for the second-level cache in float64, large enough to hide Python's overhead.
BLOCK = 1 << 15
DEVICE_BLOCK = 1 << 24  # on an accelerator a block has to hide a kernel launch instead

Array = Any  # numpy.ndarray or torch.Tensor


def is_tensor(x: object) -> bool:
    """Whether `x` is a torch tensor, without importing torch."""
    if type(x) is np.ndarray:  # the most frequent case, and the fastest to tell
        return False
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def host_view(x: Array) -> Array:
    """Give `x` as a NumPy array where that costs no copy of a device tensor, else `x` itself.

    Tensors in main memory share their memory with the result (bfloat16 and other types unknown to NumPy are
    converted); tensors on an accelerator are returned as they are, detached.
    """
    if not is_tensor(x):
        return x
    x = x.detach()
    if x.device.type != "cpu":
        return x
    try:
        return x.numpy()
    except TypeError:
        return x.float().numpy()  # exact: every such type is narrower than float32


def like(result: np.ndarray, x: Array) -> Array:
    """Give the NumPy array `result` back in the kind of `x` (for tensors in main memory: without a copy)."""
    return sys.modules["torch"].from_numpy(result) if is_tensor(x) else result


def check_array(name: str, x: Array) -> Array:
    """Give `x` as a real array or tensor with at least one axis and one element, or raise `ValueError`."""
    if type(x) is np.ndarray and x.ndim and x.size and x.dtype.kind in "biuf":
        return x
    if is_tensor(x):
        real = not sys.modules["torch"].is_complex(x)
        dtype = x.dtype
    else:
        if isinstance(x, np.ma.MaskedArray):
            raise ValueError(refusals.masked(name))
        try:
            x = np.asarray(x)
        except ValueError as error:
            raise ValueError(f"{name}: expected an array of numbers, could not read one: {error}") from None
        real = x.dtype.kind in "biuf"
        dtype = x.dtype
    if not real:
        raise ValueError(f"{name}: expected an array of booleans or real numbers, got dtype {dtype}")
    if x.ndim == 0:
        raise ValueError(f"{name}: expected an array with at least one axis, got a single number of shape ()")
    if math.prod(x.shape) == 0:
        raise ValueError(f"{name}: expected at least one voxel, got an empty array of shape {tuple(x.shape)}")
    return x


def check_same(name_x: str, x: Array, name_y: str, y: Array) -> None:
    """Raise `ValueError` unless `x` and `y` have the same kind, device and shape."""
    if is_tensor(x) != is_tensor(y):
        raise ValueError(
            f"{name_x} and {name_y}: expected two NumPy arrays or two torch tensors, "
            f"got {type(x).__name__} and {type(y).__name__}"
        )
    if is_tensor(x) and x.device != y.device:
        raise ValueError(f"{name_x} and {name_y}: expected the same device, got {x.device} and {y.device}")
    if tuple(x.shape) != tuple(y.shape):
        raise ValueError(f"{name_x} and {name_y}: expected the same shape, got {tuple(x.shape)} and {tuple(y.shape)}")


def blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Walk through arrays of one shape together, as one-dimensional float64 blocks.

    At most one block of each array is ever converted, so the extra memory does not grow with the image. The
    blocks may share memory with the arrays or with each other's successors: read them, do not keep or change them.
    """
    if is_tensor(arrays[0]):
        flat = [x.reshape(-1) for x in arrays]
        for start in range(0, flat[0].numel(), DEVICE_BLOCK):
            yield tuple(x[start : start + DEVICE_BLOCK].double() for x in flat)
        return
    c_order = all([x.flags.c_contiguous for x in arrays])
    if c_order or all([x.flags.f_contiguous for x in arrays]):  # the iterator's blocks below, without its overhead
        flat = [x.ravel(order="C" if c_order else "F") for x in arrays]
        for start in range(0, flat[0].size, BLOCK):
            yield tuple(x[start : start + BLOCK].astype(np.float64, copy=False) for x in flat)
        return
    iterator = np.nditer(
        list(arrays),
        flags=["external_loop", "buffered"],
        op_dtypes=[np.dtype(np.float64)] * len(arrays),
        casting="same_kind",
        order="K",
        buffersize=BLOCK,
    )
    for item in iterator:
        yield item if isinstance(item, tuple) else (item,)


# The unsigned type of a float's bits, and the bits of 1. Non-negative floats are ordered as their bits are, and NaN and
# negative numbers have larger bits than 1: one integer maximum checks an array.
PATTERNS = {
    np.dtype(np.float16): (np.dtype(np.uint16), 0x3C00),
    np.dtype(np.float32): (np.dtype(np.uint32), 0x3F800000),
    np.dtype(np.float64): (np.dtype(np.uint64), 0x3FF0000000000000),
}


def check_unit(name: str, x: Array) -> None:
    """Raise `ValueError` if an array holds a NaN or a value outside [0, 1]; it says how many and what to do."""
    if not is_tensor(x):
        if x.dtype.kind == "b":
            return
        if x.dtype in PATTERNS and x.flags.forc:
            pattern, one = PATTERNS[x.dtype]
            if np.maximum.reduce(x.ravel(order="K").view(pattern)) <= one:
                return
    check_unit_block(name, x, x.shape)


def check_unit_block(name: str, block: Array, shape: Sequence[int], whole: Array | None = None) -> None:
    """Raise `ValueError` if a block of array `name` holds a NaN or a value outside [0, 1].

    The message is about `whole`, if that is given, and otherwise about the block.
    """
    low, high = float(block.min()), float(block.max())  # either is NaN where the block holds one
    if not (low >= 0.0 and high <= 1.0):
        whole = host_view(block if whole is None else whole)
        raise ValueError(refusals.outside_unit(name, shape, (x for (x,) in blocks(whole))))


def is_binary(block: Array) -> bool:
    """Whether a block holds 0 and 1 only."""
    if not is_tensor(block):
        if block.dtype.kind == "b":
            return True
        return np.count_nonzero(block) == np.count_nonzero(block == 1)
    return not bool(((block != 0) & (block != 1)).any())


def check_binary_block(name: str, block: Array, shape: Sequence[int], whole: Array | None = None) -> None:
    """Raise `ValueError` if a block of array `name` holds anything but 0 and 1; `whole` as in `check_unit_block`."""
    if not is_binary(block):
        whole = host_view(block if whole is None else whole)
        raise ValueError(refusals.not_binary(name, shape, (x for (x,) in blocks(whole))))


def check_binary(name: str, x: Array) -> None:
    """Raise `ValueError` if an array holds anything but 0 and 1; it says how many and what to do."""
    if is_tensor(x):
        if x.dtype is sys.modules["torch"].bool:
            return
    elif x.dtype.kind == "b" or (x.dtype.kind in "iu" and x.min() >= 0 and x.max() <= 1):
        return
    for (block,) in blocks(x):
        check_binary_block(name, block, x.shape, x)


def check_label(name: str, label: Array) -> Array:
    """Give `label` as an array, or raise `ValueError` unless it is non-empty and holds 0 and 1 only."""
    label = check_array(name, label)
    check_binary(name, host_view(label))
    return label


def per_axis(name: str, value: Any, n: int | None = None, *, positive: bool = False) -> tuple[float, ...]:
    """Give `value`, a number or one number per axis, as a tuple of finite floats.

    With `n` the tuple has exactly `n` entries. Negative numbers are refused, with `positive` zero as well.
    """
    try:
        array = np.atleast_1d(np.asarray(value, dtype=np.float64))
        if array.ndim > 1:
            raise ValueError("more than one axis")
        numbers = tuple(array.tolist())
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a number or one number per axis, got {value!r}") from None
    wanted = "positive" if positive else "non-negative"
    if not numbers:
        raise ValueError(f"{name}: expected a {wanted} number or one per axis, got none")
    for v in numbers:
        if not math.isfinite(v) or v < 0 or (positive and v == 0):
            raise ValueError(f"{name}: expected finite {wanted} numbers, got {v!r}")
    if n is not None:
        if len(numbers) == 1:
            numbers *= n
        if len(numbers) != n:
            raise ValueError(f"{name}: expected one number or one for each of the {n} axes, got {len(numbers)}")
    return numbers
