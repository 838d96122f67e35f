"""What `axis` and `where` mean: the images that an array is made of, and the voxels of them that count."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from noisyseg._core.arrays import Array, check_array, check_same, host_view, is_tensor, like
from noisyseg._core.levels import mask_at_least

SMALL = 1 << 20  # voxels of an image that may be copied, where it is scattered over memory
TOGETHER = 16  # such images copied at a time: float32 values that are neighbours share a line of the cache
INDEXED = 1 << 22  # voxels of an image from which chosen ones are taken by their places, which is faster but needs them


def image_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Give the axes of one image as sorted non-negative ints; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    try:
        given = tuple(operator.index(k) for k in (axis if isinstance(axis, tuple | list) else (axis,)))
    except TypeError:
        raise ValueError(f"axis: expected an int or a tuple of ints, the axes of one image, got {axis!r}") from None
    if not given or any(isinstance(k, bool) for k in (axis if isinstance(axis, tuple | list) else (axis,))):
        raise ValueError(f"axis: expected at least one axis of one image, as ints, got {axis!r}")
    if not all(-ndim <= k < ndim for k in given):
        raise ValueError(f"axis: expected axes from {-ndim} to {ndim - 1} for an array of {ndim} axes, got {axis!r}")
    axes = tuple(sorted(k % ndim for k in given))
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis: expected different axes, got {axis!r} for an array of {ndim} axes, which repeats one")
    return axes


def voxels_that_count(where: Array, m: Array) -> Array:
    """Give `where` in the kind and on the device of m, broadcast to its shape."""
    shape = tuple(m.shape)
    if isinstance(where, np.ma.MaskedArray):
        raise ValueError("where: expected a plain array, got a numpy.ma.MaskedArray; use where.filled(False)")
    where = where if is_tensor(where) else np.asarray(where)
    if "bool" not in str(where.dtype):
        raise ValueError(f"where: expected booleans, True for the voxels that count, got dtype {where.dtype}")
    try:
        fits = np.broadcast_shapes(tuple(where.shape), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"where: expected a shape that broadcasts to {shape}, got {tuple(where.shape)}")
    if is_tensor(m):
        where = where if is_tensor(where) else sys.modules["torch"].from_numpy(np.array(where))
        return where.to(m.device).broadcast_to(shape)
    return np.broadcast_to(np.asarray(where.cpu()) if is_tensor(where) else where, shape)


class Images:
    """The images of some arrays of one shape.

    `axes` are those of one image and `batch` the shape of the others. `views` are the arrays in main memory where that
    costs no copy, and `where` the voxels that count, or None.
    """

    def __init__(self, axis: Any, where: Any, arrays: dict[str, Array]) -> None:
        names = list(arrays)
        checked = [check_array(name, x) for name, x in arrays.items()]
        for name, x in zip(names[1:], checked[1:], strict=True):
            check_same(names[0], checked[0], name, x)
        self.like = checked[0]
        self.views = [host_view(x) for x in checked]
        first = self.views[0]
        self.shape = tuple(first.shape)
        self.axes = image_axes(axis, len(self.shape))
        self.others = tuple(k for k in range(len(self.shape)) if k not in self.axes)
        self.batch = tuple(self.shape[k] for k in self.others)
        self.where = None if where is None else voxels_that_count(where, first)

    def moved(self, x: Array) -> Array:
        """Give a view of x with the axes of the image last."""
        order = (*self.others, *self.axes)
        return x.permute(order) if is_tensor(x) else x.transpose(order)

    def each(self) -> Iterator[tuple[Array, ...]]:
        """Give the values of every image, of every array, in C order of the batch: the voxels that count alone."""
        if self.where is None and not self.batch:
            yield tuple(self.views)
            return
        walks = [self._each_of(x) for x in self.views]
        if self.where is None:
            yield from zip(*walks, strict=True)
            return
        choices = self._choices()
        for index, chosen, *images in zip(np.ndindex(*self.batch), choices, *walks, strict=True):
            places = chosen.dtype == np.intp
            if not (len(chosen) if places else bool(chosen.any())):
                at = f" in image {index} of {self.batch}" if self.batch else f" of {math.prod(self.shape)}"
                raise ValueError(f"where: expected at least one voxel that counts in every image, found none{at}")
            yield tuple(x.reshape(-1).take(chosen) if places else x[chosen] for x in images)

    def _each_of(self, x: Array) -> Iterator[Array]:
        moved = self.moved(x)
        size = math.prod(moved.shape[len(self.batch) :])
        for prefix in np.ndindex(*self.batch[:-1]):
            rest = moved[prefix] if self.batch else moved[None]
            if is_tensor(x) or size > SMALL or rest[0].flags.forc:
                yield from rest
                continue
            for start in range(0, len(rest), TOGETHER):
                part = rest[start : start + TOGETHER]
                copy = np.empty(part.shape, part.dtype)
                for row in range(part.shape[1]):  # in tiles that fit the caches
                    copy[:, row] = part[:, row]
                yield from copy

    def _choices(self) -> Iterator[Array]:
        """Give the voxels that count in every image, as places in its C order where that is faster."""
        assert self.where is not None
        moved = self.moved(self.where)
        batch = len(self.batch)
        by_place = not is_tensor(moved) and math.prod(moved.shape[batch:]) <= INDEXED
        same = not is_tensor(moved) and not any(moved.strides[:batch])  # broadcast: one choice for all images
        chosen = None
        for index in np.ndindex(*self.batch):
            if chosen is None or not same:
                chosen = np.flatnonzero(moved[index]) if by_place else moved[index]
            yield chosen

    def back(self, values: list[float]) -> Any:
        """Give one number an image: a float for a single image, else float64 of the kind and device of the arrays."""
        if not self.batch:
            return values[0]
        found = np.array(values, dtype=np.float64).reshape(self.batch)
        return sys.modules["torch"].as_tensor(found, device=self.like.device) if is_tensor(self.like) else found

    def map(self, run: Callable[..., Any]) -> Any:
        """Apply a function of the values of one image, which gives a float or a tuple of floats, to every image."""
        found = [self._named(run, values, i) for i, values in zip(np.ndindex(*self.batch), self.each(), strict=True)]
        if isinstance(found[0], tuple):
            return tuple(self.back(list(part)) for part in zip(*found, strict=True))
        return self.back(found)

    def fill(self, out: Array, run: Callable[..., tuple[Array, float]]) -> Any:
        """Write what a function gives for the voxels of an image into `out`, for every image; give its numbers too."""
        moved = self.moved(out)
        where = None if self.where is None else self.moved(self.where)
        numbers = []
        for index, values in zip(np.ndindex(*self.batch), self.each(), strict=True):
            found, number = self._named(run, values, index)
            numbers.append(number)
            if where is None:
                moved[index] = found.reshape(values[0].shape)
            else:
                moved[index][where[index]] = found
        return self.back(numbers)

    def masks(self, run: Callable[..., Array]) -> Array:
        """Apply a function of the values of one image, which gives a mask of them, to every image."""
        view = self.views[0]
        tensor = is_tensor(view)
        mask = view.new_zeros(self.shape, dtype=sys.modules["torch"].bool) if tensor else np.zeros(self.shape, bool)
        self.fill(mask, lambda *values: (run(*values), 0.0))
        return mask if tensor else like(mask, self.like)

    def _named(self, run: Callable[..., Any], values: tuple[Array, ...], index: tuple[int, ...]) -> Any:
        """Apply a function to an image; what it refuses is said with the index of the image."""
        try:
            return run(*values)
        except ValueError as error:
            if not self.batch:
                raise
            raise ValueError(f"{error} [image {index} of {self.batch}]") from None

    def spread(self, values: Any) -> Any:
        """Give numbers of the images with axes of length 1 for those of an image, to broadcast against the arrays."""
        if not self.batch:
            return values
        return values.reshape([n if k in self.others else 1 for k, n in enumerate(self.shape)])

    def within(self, mask: Array) -> Array:
        """Clear a new mask outside the voxels that count, in place."""
        if self.where is not None:
            view = mask if is_tensor(self.where) else host_view(mask)
            view &= self.where
        return mask


def per_image(run: Callable[..., Any], axis: Any, where: Any, **arrays: Array) -> Any:
    """Apply a function of the values of one image to every image; it gives a float, or a tuple of floats.

    What comes back is a float (or a tuple of floats) for a single image, else float64 arrays over the images.
    """
    if axis is None and where is None:  # one image: no time for more than it needs
        if len(arrays) == 1:
            ((name, x),) = arrays.items()
            return run(host_view(check_array(name, x)))
        (first, *others), (x, *more) = arrays, [check_array(name, x) for name, x in arrays.items()]
        for name, y in zip(others, more, strict=True):
            check_same(first, x, name, y)
        return run(host_view(x), *map(host_view, more))
    return Images(axis, where, arrays).map(run)


def mask_per_image(threshold: Callable[[Array], float], axis: Any, where: Any, m: Array) -> Array:
    """Give ``m >= t`` with the threshold t of every image, ``m > 0`` where it is 0; False outside `where`."""
    if axis is None and where is None:
        m = check_array("m", m)
        t = threshold(host_view(m))
        return mask_at_least(m, t) if t > 0 else m > 0
    images = Images(axis, where, {"m": m})
    t = images.spread(images.map(threshold))
    positive = t > 0 if isinstance(t, float) else bool((t > 0).all())
    return images.within(mask_at_least(images.like, t) if positive else images.like > 0)
