"""Variables of a Dataset as arrays of which boxes can be read, cut as their stores cut them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from xarray import Variable
from xarray.core import indexing

from hfzarr.faces.variables import StoredArray
from hfzarr.plan.cuts import Cuts
from hfzarr.plan.tasks import Box
from hfzarr.run.pool import for_each
from hfzarr.run.read import ArrayReader

if TYPE_CHECKING:
    import dask.array as da

__all__ = [
    "DaskRegion",
    "HeldRegion",
    "LazyRegion",
    "StoredRegion",
    "View",
    "cuts_of",
    "region_of",
    "view_of",
]

AnyArray = npt.NDArray[Any]
# What a variable without chunks that anyone knows of is read by, in pixels along each axis.
_UNKNOWN_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Axis:
    """Where an axis of a variable lies in the stored array."""

    source: int
    start: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """A variable that shows a stored array, or a box of it.

    Attributes
    ----------
    reader
        Reads the array.
    fixed
        Along each axis of the array, the index that was chosen, or None.
    axes
        Along each axis of the variable, where it lies in the array.
    plain
        Whether the variable's values are the array's, undecoded.
    """

    reader: ArrayReader
    fixed: tuple[int | None, ...]
    axes: tuple[Axis, ...]
    plain: bool


@dataclass(frozen=True, slots=True, eq=False)
class HeldRegion:
    """An array in memory."""

    array: AnyArray

    def read_boxes(self, boxes: Sequence[Box]) -> list[AnyArray]:
        """Return views of the array."""
        return [self.array[_slices(box)] for box in boxes]


@dataclass(frozen=True, slots=True, eq=False)
class DaskRegion:
    """A dask array, computed box by box."""

    array: da.Array

    def read_boxes(self, boxes: Sequence[Box]) -> list[AnyArray]:
        """Compute all boxes at once."""
        import dask

        found: tuple[Any, ...] = dask.compute(  # type: ignore[no-untyped-call, attr-defined]
            *[self.array[_slices(box)] for box in boxes]
        )
        return [np.asarray(one) for one in found]


@dataclass(frozen=True, slots=True, eq=False)
class LazyRegion:
    """A variable that xarray reads, whatever it decodes on the way."""

    variable: Variable

    def read_boxes(self, boxes: Sequence[Box]) -> list[AnyArray]:
        """Read all boxes, on threads."""
        found: list[AnyArray] = [np.empty(0)] * len(boxes)

        def read(i: int) -> None:
            found[i] = np.asarray(self.variable[_slices(boxes[i])].values)

        for_each(read, range(len(boxes)), width=len(boxes))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class StoredRegion:
    """An undecoded array of a store, or a box of it, read without xarray in between."""

    view: View

    def read_boxes(self, boxes: Sequence[Box]) -> list[AnyArray]:
        """Read all boxes at once where each lies in one chunk."""
        view = self.view
        keep = tuple(slice(None) if index is None else 0 for index in view.fixed)
        found = view.reader.read_boxes([self._in_store(box) for box in boxes])
        return [array[keep] for array in found]

    def _in_store(self, box: Box) -> Box:
        sides = [(0, 0) if i is None else (i, i + 1) for i in self.view.fixed]
        for axis, (start, stop) in zip(self.view.axes, box, strict=True):
            sides[axis.source] = (axis.start + start, axis.start + stop)
        return tuple(sides)


def region_of(variable: Variable) -> HeldRegion | DaskRegion | LazyRegion | StoredRegion:
    """Return a variable as an array of which boxes can be read."""
    data: Any = variable._data
    if isinstance(data, np.ndarray):
        return HeldRegion(data)
    if is_dask(data):
        return DaskRegion(data)
    view = view_of(variable)
    if view is not None and view.plain and all(axis.step == 1 for axis in view.axes):
        return StoredRegion(view)
    # Without attributes, so that a task pickles small.
    return LazyRegion(Variable(variable.dims, data, fastpath=True))


def is_dask(data: Any) -> bool:
    """Return whether data is a dask array, without importing dask."""
    return hasattr(data, "dask") and hasattr(data, "__dask_graph__")


def cuts_of(variable: Variable) -> tuple[Cuts, ...]:
    """Return how a variable is cut along each axis: as dask, or its store, cuts it."""
    data: Any = variable._data
    if is_dask(data):
        return tuple(Cuts.of(chunks) for chunks in data.chunks)
    if isinstance(data, np.ndarray):
        return tuple(Cuts(stop=n, step=max(n, 1)) for n in variable.shape)
    view = view_of(variable)
    chunk = None if view is None else view.reader.meta.inner_chunk
    if view is not None and chunk is not None:
        return tuple(
            _shifted(length, chunk[axis.source], axis)
            for length, axis in zip(variable.shape, view.axes, strict=True)
        )
    preferred = variable.encoding.get("preferred_chunks", {})
    return tuple(
        Cuts(stop=n, step=_first(preferred.get(dim), n))
        for dim, n in zip(variable.dims, variable.shape, strict=True)
    )


def _first(chunk: Any, length: int) -> int:
    """Return a preferred chunk length, which may be a number or the lengths of all chunks."""
    if isinstance(chunk, tuple):
        chunk = chunk[0] if chunk else None
    return max(1, min(int(chunk or _UNKNOWN_CHUNK), max(length, 1)))


def _shifted(length: int, chunk: int, axis: Axis) -> Cuts:
    if axis.step == 1:
        return Cuts(stop=length, step=max(chunk, 1), origin=-(axis.start % max(chunk, 1)))
    # Every n-th pixel: the chunks have that many fewer, and their borders may lie in between.
    return Cuts(stop=length, step=max(1, chunk // abs(axis.step)))


def view_of(variable: Variable) -> View | None:
    """Return what a variable shows of a stored array, or None if it is anything else."""
    plain, data = True, variable._data
    keys: list[tuple[Any, ...]] = []
    while not isinstance(data, StoredArray):
        if isinstance(data, indexing.LazilyIndexedArray):
            keys.append(data.key.tuple)
        elif not isinstance(data, (indexing.MemoryCachedArray, indexing.CopyOnWriteArray)):
            plain = False
            if data.__class__.__module__.partition(".")[0] != "xarray":
                return None
        inner = getattr(data, "array", None)
        if inner is None or getattr(inner, "shape", None) is None:
            return None
        if not isinstance(data, indexing.LazilyIndexedArray) and inner.shape != data.shape:
            return None
        data = inner
    axes: list[Axis] = [Axis(i, 0, 1) for i in range(len(data.shape))]
    fixed: list[int | None] = [None] * len(data.shape)
    lengths = list(data.shape)
    for key in reversed(keys):
        found = _indexed(key, axes, fixed, lengths)
        if found is None:
            return None
        axes, lengths = found
    if tuple(lengths) != tuple(variable.shape):
        return None
    return View(reader=data.reader, fixed=tuple(fixed), axes=tuple(axes), plain=plain)


def _indexed(
    key: tuple[Any, ...], axes: list[Axis], fixed: list[int | None], lengths: list[int]
) -> tuple[list[Axis], list[int]] | None:
    """Return the axes and their lengths after one more index; None if it takes no slices."""
    kept, counts = [], []
    if len(key) != len(axes):
        return None
    for part, axis, length in zip(key, axes, lengths, strict=True):
        if isinstance(part, (int, np.integer)):
            fixed[axis.source] = axis.start + int(part) * axis.step
        elif isinstance(part, slice):
            places = range(length)[part]
            if places.step < 1:
                return None
            start = axis.start + (places.start if len(places) else 0) * axis.step
            kept.append(Axis(axis.source, start, axis.step * places.step))
            counts.append(len(places))
        else:
            return None
    return kept, counts


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)
