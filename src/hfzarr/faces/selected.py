"""Which chunks of a store a lazy variable, or boxes of it, would be read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xarray import Variable
from xarray.core import indexing

from hfzarr.faces.regions import LazyRegion, StoredRegion, View, view_of
from hfzarr.faces.variables import StoredArray
from hfzarr.plan.axis import IntArray
from hfzarr.plan.grid import plan_grid, plan_points
from hfzarr.run.job import Plan
from hfzarr.run.read import ArrayReader
from hfzarr.run.survey import plans_of_boxes

__all__ = ["BoxPlanner", "plan_of"]

#: Places along an axis of the stored array: an integer, or a place for each of the variable's.
_Places = list[Any]


def plan_of(variable: Variable) -> tuple[ArrayReader, list[Plan]] | None:
    """Return how a lazy variable would be read, or None if it is not read by hfzarr.

    Of an array whose chunks are uneven there is no plan.
    """
    data: Any = variable._data
    keys: list[indexing.ExplicitIndexer] = []
    while not isinstance(data, StoredArray):
        if isinstance(data, (indexing.LazilyIndexedArray, indexing.LazilyVectorizedIndexedArray)):
            keys.append(data.key)
        elif data.__class__.__module__.partition(".")[0] != "xarray":
            return None
        data = getattr(data, "array", None)
        if getattr(data, "shape", None) is None:
            return None
    reader, chunk = data.reader, data.reader.meta.inner_chunk
    if chunk is None or not variable.size:
        return reader, []
    shape = reader.meta.shape
    places: _Places = [np.arange(n, dtype=np.intp) for n in shape]
    for i, key in enumerate(reversed(keys)):
        if isinstance(key, indexing.VectorizedIndexer):
            if i + 1 < len(keys) or any(isinstance(part, slice) for part in key.tuple):
                return None
            points = _points(places, key.tuple)
            if points is not None:
                return reader, [plan_points(shape, chunk, points)]
            key = indexing.OuterIndexer(tuple(np.ravel(part) for part in key.tuple))
        _apply(places, key.tuple)
    return reader, [plan_grid(shape, chunk, [_compact(axis) for axis in places])]


def _apply(places: _Places, key: Sequence[Any]) -> None:
    """Index the axes that are left, each on its own."""
    left = [axis for axis, some in enumerate(places) if isinstance(some, np.ndarray)]
    for axis, part in zip(left, key, strict=True):
        chosen = places[axis][part]
        places[axis] = chosen if isinstance(chosen, np.ndarray) else int(chosen)


def _points(places: _Places, key: Sequence[Any]) -> list[Any] | None:
    """Return the places of single elements; None if they are those of an orthogonal selection."""
    arrays = [np.asarray(part) for part in key]
    varying = [[axis for axis, n in enumerate(part.shape) if n > 1] for part in arrays]
    along = [axes[0] for axes in varying if axes]
    if all(len(axes) < 2 for axes in varying) and len(set(along)) == len(along):
        return None
    left = iter(arrays)
    return [some[next(left)] if isinstance(some, np.ndarray) else some for some in places]


def _compact(places: Any) -> Any:
    """Return a slice in the place of evenly spaced, ascending places."""
    if not isinstance(places, np.ndarray) or len(places) < 2:
        return places
    step = int(places[1]) - int(places[0])
    if step < 1 or not (np.diff(places) == step).all():
        return places
    return slice(int(places[0]), int(places[-1]) + 1, step)


class BoxPlanner:
    """How boxes of a variable would be read, as its region reads them.

    Parameters
    ----------
    region
        The variable as an array of which boxes can be read.

    Attributes
    ----------
    reader
        Reads the stored array; None if hfzarr does not.
    """

    def __init__(self, region: StoredRegion | LazyRegion) -> None:
        self._region = region
        self._view: View | None = None
        if isinstance(region, StoredRegion):
            self._view = region.view
            self.reader: ArrayReader | None = region.view.reader
            return
        self._view = view_of(region.variable)
        found = None if self._view else plan_of(region.variable[:0])
        self.reader = self._view.reader if self._view else found[0] if found else None

    def plans(self, boxes: IntArray) -> list[Plan]:
        """Return how boxes that are read together would be read.

        Parameters
        ----------
        boxes
            Their pixels: shape (boxes, axes, 2).
        """
        reader = self.reader
        if reader is None or reader.meta.inner_chunk is None:
            return []
        rows = boxes.tolist()
        if isinstance(self._region, StoredRegion):
            within = self._region._in_store
            return plans_of_boxes(reader, [within(tuple(map(tuple, box))) for box in rows])
        if self._view is not None:
            shape, chunk = reader.meta.shape, reader.meta.inner_chunk
            return [plan_grid(shape, chunk, _within(self._view, box)) for box in rows]
        plans: list[Plan] = []
        for box in rows:
            found = plan_of(self._region.variable[tuple(slice(*side) for side in box)])
            plans += found[1] if found else []
        return plans


def _within(view: View, box: Sequence[Sequence[int]]) -> list[Any]:
    """Return the indexers of a box of a variable in the stored array."""
    selection: list[Any] = list(view.fixed)
    for axis, (start, stop) in zip(view.axes, box, strict=True):
        first, last = axis.start + start * axis.step, axis.start + (stop - 1) * axis.step
        selection[axis.source] = slice(first, last + 1, axis.step)
    return selection
