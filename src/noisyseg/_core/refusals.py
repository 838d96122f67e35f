"""What a refused array is told about: how many voxels are wrong, the range that was found, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ROUNDING = 1e-5  # what sums and means in float16 to float64 may be off by
OVERSHOOT = 0.2  # what interpolation of values in [0, 1] may be off by


@dataclass
class Survey:
    """What one walk through an array finds."""

    voxels: int = 0
    nan: int = 0
    infinite: int = 0
    outside: int = 0  # finite, and outside [0, 1]
    between: int = 0  # strictly between 0 and 1
    whole: bool = True  # every finite value is a whole number
    low: float = math.inf
    high: float = -math.inf
    infinity: float = math.inf
    example: float = math.nan  # the first finite value that is neither 0 nor 1
    apart: float = 0.0  # the largest distance of a finite value from 0 and 1

    @classmethod
    def of(cls, blocks: Iterable[Any]) -> Survey:
        """Look at all blocks, which are one-dimensional float64 arrays or tensors."""
        found = cls()
        for block in blocks:
            numbers = block[block == block]
            finite = numbers[abs(numbers) < math.inf]
            found.voxels += len(block)
            found.nan += len(block) - len(numbers)
            found.infinite += len(numbers) - len(finite)
            if len(numbers) > len(finite):
                found.infinity = float(numbers[abs(numbers) == math.inf][0])
            if len(finite):
                found.low, found.high = min(found.low, float(finite.min())), max(found.high, float(finite.max()))
                found.outside += int(((finite < 0) | (finite > 1)).sum())
                found.between += int(((finite > 0) & (finite < 1)).sum())
                found.whole &= bool((finite.round() == finite).all())
                others = finite[(finite != 0) & (finite != 1)]
                if len(others):
                    found.example = float(others[0]) if math.isnan(found.example) else found.example
                    nearer = (others > 0.5) * 1.0  # 0 or 1
                    found.apart = max(found.apart, float(abs(others - nearer).max()))
        return found

    @property
    def range(self) -> str:
        """The range of the finite values."""
        low, high = (f"{x:.6g}" for x in (self.low, self.high))
        if {low, high} & {"0", "1"}:  # so that a rounding beyond 0 or 1 is seen
            low, high = (f"{x:.9g}" for x in (self.low, self.high))
        return f"from {low} to {high}"

    def not_finite(self) -> str | None:
        """Say how many values are NaN or infinite, and where such values come from; None if there are none."""
        if not self.nan + self.infinite:
            return None
        first = "nan" if self.nan else f"{self.infinity}"
        both = f" ({self.nan} NaN, {self.infinite} infinite)" if self.nan and self.infinite else ""
        return (
            f"found {first} in {self.nan + self.infinite} of {self.voxels} voxels{both}. Such values come from a "
            "division by zero, an overflow in float16, or resampling beyond the image. Mend the array, or leave these "
            "voxels out where the function has `where`"
        )


def outside_unit(name: str, shape: Any, blocks: Iterable[Any]) -> str:
    """Write the message for an array whose values are not all in [0, 1]."""
    found = Survey.of(blocks)
    start = f"{name} (shape {tuple(shape)}): expected values in [0, 1], "
    if text := found.not_finite():
        return start + text
    worst = found.low if -found.low >= found.high - 1 else found.high
    return (
        f"{start}found {worst!r} ({found.outside} of {found.voxels} voxels are outside, all values are {found.range}). "
        + _advice(name, found)
    )


def _advice(name: str, found: Survey) -> str:
    """Say what values outside [0, 1] most likely are, and what to do."""
    off = max(-found.low, found.high - 1)
    if off <= ROUNDING:
        return f"That is rounding: use np.clip({name}, 0, 1)"
    if off <= OVERSHOOT:
        return f"Interpolation overshoots like that: use np.clip({name}, 0, 1), or resample linearly"
    if found.low < -OVERSHOOT:
        if found.high <= 0:
            return (
                "If these are log-probabilities, use np.exp; if logits, apply a sigmoid or a softmax over the classes"
            )
        return "These look like logits: apply a sigmoid or a softmax over the classes"
    if found.high <= 100 + OVERSHOOT:
        classes = f"; if they are numbers of classes, choose one: {name} == k" if found.whole else ""
        return f"If these are percentages, divide by 100{classes}"
    if found.high <= 255:
        return "These look like 8-bit values: divide by 255"
    if found.high <= 65535 and found.whole:
        return "These look like 16-bit values: divide by 65535"
    return "Scale them to probabilities"


def not_binary(name: str, shape: Any, blocks: Iterable[Any]) -> str:
    """Write the message for an array that should hold 0 and 1 only."""
    found = Survey.of(blocks)
    start = f"{name} (shape {tuple(shape)}): expected a binary array of 0 and 1, "
    if text := found.not_finite():
        return start + text
    if found.apart <= ROUNDING:
        advice = f"That is rounding: use {name} > 0.5"
    elif not found.outside:
        advice = f"If this is a probability map, choose a threshold, as in {name} >= 0.5; if a resampled label, too"
    elif found.whole and found.low >= 0:
        advice = (
            f"If these are numbers of classes, choose one: {name} == k; if {found.high:g} stands for 1, use {name} > 0"
        )
    else:
        advice = f"If these are logits, choose a threshold: {name} > 0"
    neither = f"{found.outside + found.between} of {found.voxels} voxels are neither, all values are {found.range}"
    return f"{start}found {found.example!r} ({neither}). {advice}"


def masked(name: str) -> str:
    """Write the message for a masked array."""
    return (
        f"{name}: expected a plain array, got a numpy.ma.MaskedArray, whose mask would be lost. Pass {name}.data and "
        f"where=~np.ma.getmaskarray({name}), or {name}.filled(0) if masked voxels are background"
    )
