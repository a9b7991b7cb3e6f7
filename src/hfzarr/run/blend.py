"""One block of an array, put together from the patches that overlap it."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hfzarr.plan.axis import IntArray
from hfzarr.plan.stitch import hann, nearest_spans

__all__ = ["Blend", "Block", "Recipe", "assemble"]

#: What a pixel becomes that several patches cover.
Blend = Literal["crop", "mean", "hann"]
Array = npt.NDArray[Any]

#: Values of a patch that are averaged at once, so that they stay in the processor's cache.
_SLAB = 2**16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recipe:
    """How blocks are made, the same for all of them.

    Attributes
    ----------
    blend
        What a pixel becomes that several patches cover.
    size
        Pixels of a window along each axis.
    axes
        Which axes of a block the windows lie along.
    patch_axis
        Which axis of a part numbers its patches. Without it, a part has a block's axes.
    dtype
        Of parts and blocks.
    fill
        What pixels become that no patch covers.
    grid
        Whether the windows are all combinations of some starts along each axis, each once.
    """

    blend: Blend
    size: tuple[int, ...]
    axes: tuple[int, ...]
    patch_axis: int
    dtype: np.dtype[Any]
    fill: Any
    grid: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A block of the array.

    Attributes
    ----------
    recipe
        How it is made.
    corner
        Its first pixel, along the windows' axes.
    shape
        Its lengths, along all axes.
    """

    recipe: Recipe
    corner: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def sides(self) -> tuple[int, ...]:
        """Its lengths along the windows' axes."""
        return tuple(self.shape[axis] for axis in self.recipe.axes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Patches:
    """The patches that overlap a block, by their starts; those of equal starts by position.

    ``values`` yields them with the windows' axes last. Their starts are relative to the block.
    """

    parts: Sequence[Array]
    part: IntArray
    row: IntArray
    starts: IntArray

    def __len__(self) -> int:
        return len(self.starts)

    def values(self) -> Iterator[Array]:
        for part, row in zip(self.part.tolist(), self.row.tolist(), strict=True):
            yield self.parts[part][row]

    def take(self, which: npt.NDArray[Any]) -> _Patches:
        return _Patches(
            parts=self.parts, part=self.part[which], row=self.row[which], starts=self.starts[which]
        )


def assemble(block: Block, parts: Sequence[Array], starts: Sequence[IntArray]) -> Array:
    """Return a block.

    Parameters
    ----------
    block
        The block.
    parts
        The patches that overlap it, several in each part, and maybe others.
    starts
        First pixel of each patch in each part, along the windows' axes: shapes (patches, axes).
    """
    recipe = block.recipe
    patches = _overlapping(block, parts, starts)
    result = np.full(block.shape, recipe.fill, dtype=recipe.dtype)
    view = _windows_last(result, recipe.axes)
    _crop(view, patches, recipe.size)
    if recipe.blend != "crop" and len(patches) > 1:
        with np.errstate(invalid="ignore", over="ignore"):
            _average(view, patches, recipe)
    return result


def _windows_last(array: Array, axes: Sequence[int]) -> Array:
    return np.moveaxis(array, axes, range(-len(axes), 0))


def _overlapping(block: Block, parts: Sequence[Array], starts: Sequence[IntArray]) -> _Patches:
    counts = [len(some) for some in starts]
    corner = np.asarray(block.corner, dtype=np.intp)
    local = [np.asarray(some, dtype=np.intp) - corner for some in starts]
    patches = _Patches(
        parts=[_patch_first(np.asarray(part), block.recipe) for part in parts],
        part=np.repeat(np.arange(len(counts)), counts),
        row=np.concatenate([np.arange(n) for n in [0, *counts]]),
        starts=np.concatenate([np.empty((0, len(corner)), np.intp), *local]),
    )
    ends = patches.starts + np.asarray(block.recipe.size)
    inside = ((patches.starts < np.asarray(block.sides)) & (ends > 0)).all(axis=1)
    patches = patches.take(np.flatnonzero(inside))
    # The order of the sums, too: it must not depend on how the patches are numbered or chunked.
    return patches.take(np.lexsort(patches.starts.T[::-1]))


def _patch_first(part: Array, recipe: Recipe) -> Array:
    """Return a view of a part with the patches first and the windows' axes last."""
    axes = [axis + (axis >= recipe.patch_axis) for axis in recipe.axes]
    before = sum(axis < recipe.patch_axis for axis in axes)
    return np.moveaxis(_windows_last(part, axes), recipe.patch_axis - before, 0)


def _crop(view: Array, patches: _Patches, size: tuple[int, ...]) -> None:
    """Give each pixel the value of the patch whose centre is the nearest of those that cover it."""
    repeated = (patches.starts[1:] == patches.starts[:-1]).all(axis=1)
    patches = patches.take(np.flatnonzero(np.append([True], ~repeated)[: len(patches)]))
    axes = [np.unique(starts, return_inverse=True) for starts in patches.starts.T]
    if math.prod(len(distinct) for distinct, _ in axes) != len(patches):
        _crop_anywhere(view, patches, size)
        return
    # Distances add up over the axes, so in a grid each axis is cut by itself.
    first, stop = np.empty_like(patches.starts), np.empty_like(patches.starts)
    for axis, (distinct, place) in enumerate(axes):
        low, high = nearest_spans(distinct, size[axis])
        first[:, axis], stop[:, axis] = low[place.reshape(-1)], high[place.reshape(-1)]
    for out, inside, values in _regions(patches, first, stop, view.shape[-len(size) :]):
        view[out] = values[inside]


def _crop_anywhere(view: Array, patches: _Patches, size: tuple[int, ...]) -> None:
    distance = _distance(size)
    nearest = np.full(view.shape[-len(size) :], np.iinfo(distance.dtype).max, distance.dtype)
    for out, inside, values in _regions(patches, *_whole(patches, size), nearest.shape):
        nearer = distance[inside] < nearest[out]
        np.copyto(nearest[out], distance[inside], where=nearer)
        np.copyto(view[out], values[inside], where=nearer)


def _whole(patches: _Patches, size: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    return patches.starts, patches.starts + np.asarray(size)


def _regions(
    patches: _Patches, first: IntArray, stop: IntArray, sides: tuple[int, ...]
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...], Array]]:
    """Yield where in the block and where in the patch a box of each patch lies, and the patch."""
    low, high = np.maximum(first, 0), np.minimum(stop, np.asarray(sides))
    boxes = (low, high, low - patches.starts, high - patches.starts)
    rows = zip(*(box.tolist() for box in boxes), patches.values(), strict=True)
    for low_, high_, inner_low, inner_high, values in rows:
        if all(a < b for a, b in zip(low_, high_, strict=True)):
            yield (..., *map(slice, low_, high_)), (..., *map(slice, inner_low, inner_high)), values


@functools.lru_cache(maxsize=8)
def _distance(size: tuple[int, ...]) -> Array:
    """Return the squared distance of each pixel from the window's centre, in half pixels."""
    dtype = np.int32 if sum(n * n for n in size) < 2**31 else np.int64
    axes = np.ix_(*(np.arange(1 - n, n, 2, dtype=dtype) ** 2 for n in size))
    return np.asarray(sum(axes[1:], axes[0]))


@functools.lru_cache(maxsize=8)
def _window(size: tuple[int, ...]) -> Array:
    return functools.reduce(np.multiply, np.ix_(*map(hann, size)))


def _average(view: Array, patches: _Patches, recipe: Recipe) -> None:
    """Move each pixel from the cropped value to the mean, slab by slab.

    All patches are summed into one slab before the next, so that it stays in the processor's
    cache, and only a slab needs float64.
    """
    sides = view.shape[-len(recipe.size) :]
    row = math.prod(view.shape[: -len(sides)]) * math.prod(recipe.size[1:])
    step = max(1, _SLAB // max(1, row))
    for low in range(0, sides[0], step):
        slab: tuple[Any, ...] = (..., slice(low, low + step), *[slice(None)] * (len(sides) - 1))
        starts = patches.starts - np.asarray([low] + [0] * (len(sides) - 1))
        inside = (starts[:, 0] < step) & (starts[:, 0] + recipe.size[0] > 0)
        _average_slab(view[slab], replace(patches, starts=starts).take(inside), recipe)


def _average_slab(view: Array, patches: _Patches, recipe: Recipe) -> None:
    """Move each pixel from the cropped value to the mean.

    Only differences from the cropped value are summed: where all patches agree, nothing is added
    and the value stays what it is, to the last bit.
    """
    origin, sides = view, view.shape[-len(recipe.size) :]
    if view.dtype.kind in "fc" and not np.isfinite(view).all():
        # A difference from infinity says nothing about the others.
        origin = np.where(np.isfinite(view), view, 0)
    window = _window(recipe.size) if recipe.blend == "hann" else None
    sums = np.zeros_like(view, dtype=np.result_type(view.dtype, np.float64))
    for out, inside, values in _regions(patches, *_whole(patches, recipe.size), sides):
        change = _difference(values[inside], origin[out], sums.dtype)
        if window is not None:
            change *= window[inside]
        sums[out] += change
    _move(view, origin, sums, _weights(patches, recipe, sides))


def _weights(patches: _Patches, recipe: Recipe, sides: tuple[int, ...]) -> Array:
    """Return the sum of the weights at each pixel."""
    weights = [hann(n) if recipe.blend == "hann" else np.ones(n) for n in recipe.size]
    if recipe.grid:
        along = zip(patches.starts.T, weights, sides, strict=True)
        total = functools.reduce(np.multiply, np.ix_(*(_axis_weights(*axis) for axis in along)))
    else:
        window = functools.reduce(np.multiply, np.ix_(*weights))
        total = np.zeros(sides)
        for out, inside, _ in _regions(patches, *_whole(patches, recipe.size), sides):
            total[out] += window[inside]
    return total


def _axis_weights(starts: IntArray, weights: Array, length: int) -> Array:
    total = np.zeros(length)
    for start in np.unique(starts).tolist():
        low, high = max(start, 0), min(start + len(weights), length)
        total[low:high] += weights[low - start : high - start]
    return total


def _difference(values: Array, base: Array, dtype: np.dtype[Any]) -> Array:
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        # Neither float64 nor int64 holds every difference of two int64, but uint64 its size.
        larger = values > base
        below, above = np.where(larger, base, values), np.where(larger, values, base)
        size = (above.astype(np.uint64) - below.astype(np.uint64)).astype(dtype)
        return np.where(larger, size, -size)
    return np.subtract(values, base, dtype=dtype)


def _move(view: Array, origin: Array, sums: Array, total: Array) -> None:
    changed = sums != 0  # Nowhere that no patch covers, so 0 / 0 is never used.
    if not changed.any():
        return
    mean = sums / total
    if view.dtype.kind in "iu" and view.dtype.itemsize == 8:
        moved = _add_rounded(origin, mean)
    else:
        mean += origin
        moved = np.rint(mean) if view.dtype.kind in "iu" else mean
        # A NaN stays the NaN it is.
        changed &= view == view
    np.copyto(view, moved, where=changed, casting="unsafe")


def _add_rounded(values: Array, change: Array) -> Array:
    """Return 64-bit integers plus floats, rounded to the nearest integer, halves to the even."""
    whole = np.floor(change)
    rest = change - whole
    size = np.minimum(np.abs(whole), np.nextafter(2.0**64, 0)).astype(np.uint64)
    result = values.astype(np.uint64)
    result = np.where(whole < 0, result - size, result + size)
    result += ((rest > 0.5) | ((rest == 0.5) & (result % 2 == 1))).astype(np.uint64)
    return result.astype(values.dtype)
