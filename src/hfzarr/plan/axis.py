"""One axis of a selection: an indexer becomes the parts of the chunks that it touches."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from hfzarr.model.limits import check_chunk_count

__all__ = [
    "AxisPart",
    "AxisPlan",
    "AxisRun",
    "Indexer",
    "IntArray",
    "checked",
    "group_rows",
    "normalize",
    "plan_axis",
]

IntArray = npt.NDArray[np.intp]
#: What selects along one axis: an integer (drops the axis), a slice, or a 1-D integer array.
Indexer = SupportsIndex | slice | npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRun:
    """A slice with its ends made plain: ``count`` places from ``start``, ``step`` apart.

    Attributes
    ----------
    start
        The lowest place.
    step
        Distance between places, positive.
    count
        Number of places.
    backwards
        Whether the result lists the highest place first.
    """

    start: int
    step: int
    count: int
    backwards: bool = False

    @property
    def ascending(self) -> slice:
        """The places as a slice with a positive step."""
        stop = self.start + (self.count - 1) * self.step + 1 if self.count else self.start
        return slice(self.start, stop, self.step)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisPart:
    """What one chunk gives along one axis.

    Attributes
    ----------
    chunk
        Number of the chunk along the axis.
    inside
        The places in the chunk, counted from its start.
    out
        The places in the result, in the same order.
    whole
        Whether `inside` is all of the chunk, padding included, and both are slices.
    """

    chunk: int
    inside: slice | IntArray
    out: slice | IntArray
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisPlan:
    """The parts that fill one axis of the result.

    Attributes
    ----------
    count
        Length of the result along the axis.
    parts
        One for each chunk touched, by ascending `AxisPart.chunk`.
    dropped
        Whether an integer selected here, so that the result does not have the axis.
    """

    count: int
    parts: tuple[AxisPart, ...]
    dropped: bool = False

    @property
    def has_arrays(self) -> bool:
        """Whether a part is not made of slices alone."""
        return any(
            not (isinstance(part.inside, slice) and isinstance(part.out, slice))
            for part in self.parts
        )


def plan_axis(length: int, chunk: int, indexer: Indexer) -> AxisPlan:
    """Plan an axis of ``length`` elements that is cut into chunks of ``chunk``.

    Raises
    ------
    IndexError
        An integer lies outside the axis, or the chunks have no length.

    Examples
    --------
    >>> [(part.chunk, part.inside, part.out) for part in plan_axis(9, 4, slice(3, 6)).parts]
    [(0, slice(3, 4, 1), slice(0, 1, 1)), (1, slice(0, 2, 1), slice(1, 3, 1))]
    """
    if chunk < 1:
        raise IndexError(f"wanted chunks of at least one element, got {chunk}")
    places = normalize(indexer, length)
    if isinstance(places, AxisRun):
        dropped = not isinstance(indexer, slice)
        return AxisPlan(count=places.count, parts=tuple(_run_parts(places, chunk)), dropped=dropped)
    return AxisPlan(count=len(places), parts=tuple(_array_parts(places, chunk)))


def normalize(indexer: Indexer, length: int) -> AxisRun | IntArray:
    """Bring an indexer of an axis into one of two plain forms.

    Parameters
    ----------
    indexer
        An integer, a slice or a 1-D integer array; negative integers count from the end.
    length
        Length of the axis.

    Raises
    ------
    IndexError
        An integer lies outside the axis, or the indexer is of another kind.

    Examples
    --------
    >>> normalize(slice(None, None, -3), 8)
    AxisRun(start=1, step=3, count=3, backwards=True)
    >>> normalize(-1, 8).start
    7
    """
    if isinstance(indexer, slice):
        places = range(length)[indexer]
        backwards = places.step < 0
        low = places[::-1] if backwards else places
        count = len(low)
        return AxisRun(start=low.start, step=low.step, count=count, backwards=backwards)
    array = np.asarray(indexer)
    if array.ndim == 0:
        start = operator.index(checked(array.reshape(1), length)[0])
        return AxisRun(start=start, step=1, count=1)
    if array.ndim != 1:
        raise IndexError(f"wanted an integer, a slice or a 1-D array, got {array.ndim} dimensions")
    return checked(array, length)


def group_rows(rows: IntArray) -> tuple[IntArray, IntArray]:
    """Return the stable order that sorts rows, and where each group of equal ones starts and stops.

    Examples
    --------
    >>> order, ends = group_rows(np.array([[1], [0], [1]]))
    >>> order.tolist(), ends.tolist()
    ([1, 0, 2], [[0, 1], [1, 3]])
    """
    n = len(rows)
    order = np.lexsort(rows.T[::-1]).astype(np.intp, copy=False)
    arranged = rows[order]
    changes = np.any(arranged[1:] != arranged[:-1], axis=1)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1]).astype(np.intp)[:n]
    stops = np.append(starts[1:], n) if n else starts
    return order, np.stack([starts, stops], axis=1)


def checked(indices: npt.NDArray[Any], length: int) -> IntArray:
    """Return 1-D integers with negative ones counted from the end.

    Raises
    ------
    IndexError
        One lies outside an axis of ``length`` elements, or they are not integers.

    Examples
    --------
    >>> checked(np.array([0, -1]), 5)
    array([0, 4])
    """
    if indices.dtype.kind not in "iu" and indices.size:
        raise IndexError(f"wanted integers to index with, got {indices.dtype}")
    low, high = (int(indices.min()), int(indices.max())) if indices.size else (0, -1)
    if low < -length or high >= length:
        raise IndexError(f"index {low if low < -length else high} lies outside 0…{length - 1}")
    places = indices.astype(np.intp)
    if low < 0:
        places[places < 0] += length
    return places


def _run_parts(run: AxisRun, chunk: int) -> Iterator[AxisPart]:
    last = run.start + max(run.count - 1, 0) * run.step
    check_chunk_count(min(run.count, last // chunk - run.start // chunk + 1))
    done = 0
    while done < run.count:
        number, first = divmod(run.start + done * run.step, chunk)
        n = min(run.count - done, (chunk - 1 - first) // run.step + 1)
        inside = slice(first, first + (n - 1) * run.step + 1, run.step)
        out = slice(done, done + n, 1)
        if run.backwards:
            after = run.count - 1 - done - n
            # A stop of -1 would mean the last element.
            out = slice(run.count - 1 - done, after if after >= 0 else None, -1)
        whole = n == chunk and run.step == 1
        yield AxisPart(chunk=number, inside=inside, out=out, whole=whole)
        done += n


def _array_parts(places: IntArray, chunk: int) -> Iterator[AxisPart]:
    numbers = places // chunk
    order, ends = group_rows(numbers[:, np.newaxis])
    for start, stop in ends.tolist():
        positions = order[start:stop]
        number = int(numbers[positions[0]])
        inside, out = _compact(places[positions] - number * chunk), _compact(positions)
        slices = isinstance(inside, slice) and isinstance(out, slice)
        whole = slices and inside == slice(0, chunk, 1)
        yield AxisPart(chunk=number, inside=inside, out=out, whole=whole)


def _compact(values: IntArray) -> slice | IntArray:
    """Return a slice in the place of evenly spaced, ascending values."""
    first, n = int(values[0]), len(values)
    step = int(values[1]) - first if n > 1 else 1
    if step < 1 or not np.array_equal(values, np.arange(first, first + n * step, step)):
        return values
    return slice(first, first + (n - 1) * step + 1, step)
