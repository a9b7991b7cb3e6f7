"""Chunk and shard arithmetic: which chunks a selection touches, and where their parts go."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hfzarr.plan.axis import AxisPlan, Indexer, IntArray, checked, group_rows, plan_axis

__all__ = [
    "ByteRun",
    "ChunkPart",
    "ChunksPlan",
    "GridPlan",
    "PointsPlan",
    "merge_ranges",
    "plan_grid",
    "plan_points",
    "position_in_unit",
]

_ALL = slice(None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkPart:
    """One chunk's share of a result: ``result[out] = chunk[inside]``.

    Attributes
    ----------
    index
        Index of the chunk in the grid.
    inside
        NumPy index into the chunk.
    out
        NumPy index into the result, of the shape `GridPlan.shape` or `PointsPlan.shape`.
    whole
        Whether `inside` is the whole chunk, padding included, and ``result[out]`` a view.
    """

    index: tuple[int, ...]
    inside: tuple[slice | IntArray, ...]
    out: tuple[int | slice | IntArray, ...]
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridPlan:
    """An orthogonal selection over a grid of chunks, one plan for each axis.

    Iterating yields a `ChunkPart` for each chunk touched; the product of the axes is never held.

    Attributes
    ----------
    axes
        The plan of each axis.
    """

    axes: tuple[AxisPlan, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result, with length 1 where an integer selected."""
        return tuple(axis.count for axis in self.axes)

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Shape of the result, without the axes where an integer selected."""
        return tuple(axis.count for axis in self.axes if not axis.dropped)

    def __len__(self) -> int:
        """Return the number of chunks touched."""
        return math.prod(len(axis.parts) for axis in self.axes)

    def __iter__(self) -> Iterator[ChunkPart]:
        """Yield the chunks touched, the last axis fastest."""
        # One array among slices keeps its axis in place; two would be paired with each other.
        paired = sum(axis.has_arrays for axis in self.axes) > 1
        for parts in itertools.product(*(axis.parts for axis in self.axes)):
            whole = all([part.whole for part in parts])  # noqa: C419 (a hot loop)
            # What is whole has slices only, and must keep them: ``result[out]`` is a view then.
            join = _orthogonal if paired and not whole else tuple
            yield ChunkPart(
                index=tuple([part.chunk for part in parts]),
                inside=join([part.inside for part in parts]),
                out=join([part.out for part in parts]),
                whole=whole,
            )

    def units(self, per_unit: Sequence[int]) -> Iterator[tuple[tuple[int, ...], GridPlan]]:
        """Yield each unit of ``per_unit`` chunks that is touched, and the plan within it.

        Parameters
        ----------
        per_unit
            Chunks in a unit (a shard) along each axis.
        """
        grouped = [_by_unit(axis, n) for axis, n in zip(self.axes, per_unit, strict=True)]
        for combination in itertools.product(*grouped):
            index = tuple(unit for unit, _ in combination)
            yield index, GridPlan(axes=tuple(plan for _, plan in combination))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointsPlan:
    """A pointwise selection over a grid of chunks.

    Iterating yields a `ChunkPart` for each chunk touched, into a flat result.

    Attributes
    ----------
    result_shape
        The shape that the indexers broadcast to.
    chunks
        Index of each chunk touched: an integer array of shape (chunks, axes).
    ends
        Where each chunk's points start and stop in `inside`: shape (chunks, 2).
    inside
        The places of all points in their chunks, for each axis.
    positions
        The places of all points in the flat result.
    """

    result_shape: tuple[int, ...]
    chunks: IntArray
    ends: IntArray
    inside: tuple[IntArray, ...]
    positions: IntArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the flat result."""
        return (math.prod(self.result_shape),)

    def __len__(self) -> int:
        """Return the number of chunks touched."""
        return len(self.chunks)

    def __iter__(self) -> Iterator[ChunkPart]:
        """Yield the chunks touched."""
        for index, (start, stop) in zip(self.chunks.tolist(), self.ends.tolist(), strict=True):
            yield ChunkPart(
                index=tuple(index),
                inside=tuple(places[start:stop] for places in self.inside),
                out=(self.positions[start:stop],),
                whole=False,
            )

    def units(self, per_unit: Sequence[int]) -> Iterator[tuple[tuple[int, ...], PointsPlan]]:
        """Yield each unit of ``per_unit`` chunks that is touched, and the plan within it."""
        units = self.chunks // np.asarray(per_unit, dtype=np.intp)
        order, ends = group_rows(units)
        for start, stop in ends.tolist():
            rows = order[start:stop]
            plan = PointsPlan(
                result_shape=self.result_shape,
                chunks=self.chunks[rows],
                ends=self.ends[rows],
                inside=self.inside,
                positions=self.positions,
            )
            yield tuple(units[rows[0]].tolist()), plan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunksPlan:
    """Whole chunks of a grid, padding included, side by side along a first axis.

    Attributes
    ----------
    chunk
        Shape of a chunk.
    chunks
        Index of each chunk: an integer array of shape (chunks, axes).
    places
        Where each chunk lies along the first axis of the result.
    count
        Length of that axis.
    """

    chunk: tuple[int, ...]
    chunks: IntArray
    places: IntArray
    count: int

    @classmethod
    def of(cls, chunk: Sequence[int], chunks: Sequence[Sequence[int]]) -> ChunksPlan:
        """Plan chunks in the order in which they are given.

        Examples
        --------
        >>> plan = ChunksPlan.of((2, 2), [(0, 1), (3, 0)])
        >>> plan.shape, [part.index for part in plan]
        ((2, 2, 2), [(0, 1), (3, 0)])
        """
        indices = np.array(chunks, dtype=np.intp).reshape(len(chunks), len(chunk))
        places = np.arange(len(chunks), dtype=np.intp)
        return cls(chunk=tuple(chunk), chunks=indices, places=places, count=len(chunks))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: the chunks, and the axes of one."""
        return (self.count, *self.chunk)

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.shape

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self.chunks)

    def __iter__(self) -> Iterator[ChunkPart]:
        """Yield the chunks."""
        inside = tuple(slice(0, n, 1) for n in self.chunk)
        for index, place in zip(self.chunks.tolist(), self.places.tolist(), strict=True):
            yield ChunkPart(index=tuple(index), inside=inside, out=(place, *inside), whole=True)

    def units(self, per_unit: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ChunksPlan]]:
        """Yield each unit of ``per_unit`` chunks that is touched, and the chunks within it."""
        units = self.chunks // np.asarray(per_unit, dtype=np.intp)
        order, ends = group_rows(units)
        for start, stop in ends.tolist():
            rows = order[start:stop]
            plan = replace(self, chunks=self.chunks[rows], places=self.places[rows])
            yield tuple(units[rows[0]].tolist()), plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRun:
    """Ranges of one object that are read together.

    Attributes
    ----------
    start
        First byte.
    stop
        Byte after the last.
    members
        Positions, in the list that was merged, of the ranges inside.
    """

    start: int
    stop: int
    members: tuple[int, ...]


def plan_grid(
    shape: Sequence[int], chunk: Sequence[int], selection: Sequence[Indexer] = ()
) -> GridPlan:
    """Plan an orthogonal selection.

    Parameters
    ----------
    shape
        Shape of the array.
    chunk
        Shape of a chunk; it may exceed the array, and the last chunk of an axis may stick out.
    selection
        An indexer for each axis; axes without one are read whole.

    Raises
    ------
    IndexError
        An integer lies outside its axis, or an indexer is of an unknown kind.

    Examples
    --------
    >>> plan = plan_grid((5, 6), (2, 4), (slice(1, 4), slice(None, None, -1)))
    >>> plan.shape, len(plan)
    ((3, 6), 4)
    >>> next(iter(plan)).inside, next(iter(plan)).out
    ((slice(1, 2, 1), slice(0, 4, 1)), (slice(0, 1, 1), slice(5, 1, -1)))
    """
    if len(chunk) != len(shape) or len(selection) > len(shape):
        raise IndexError(
            f"wanted at most {len(shape)} indexers and chunks of {len(shape)} axes for an array "
            f"of shape {tuple(shape)}, got {len(selection)} indexers and chunks {tuple(chunk)}"
        )
    padded = [*selection, *[_ALL] * (len(shape) - len(selection))]
    return GridPlan(
        axes=tuple(
            plan_axis(length, size, indexer)
            for length, size, indexer in zip(shape, chunk, padded, strict=True)
        )
    )


def plan_points(
    shape: Sequence[int], chunk: Sequence[int], indexers: Sequence[npt.ArrayLike]
) -> PointsPlan:
    """Plan a pointwise selection.

    Parameters
    ----------
    shape
        Shape of the array, of at least one axis.
    chunk
        Shape of a chunk.
    indexers
        Integer arrays, one for each axis, that broadcast together.

    Raises
    ------
    IndexError
        An integer lies outside its axis, or there are not as many indexers as axes.

    Examples
    --------
    >>> plan = plan_points((4, 4), (2, 2), ([0, 3, 1], [0, 3, 0]))
    >>> [(part.index, part.out[0].tolist()) for part in plan]
    [((0, 0), [0, 2]), ((1, 1), [1])]
    """
    if len(indexers) != len(shape) or not shape:
        raise IndexError(f"wanted one indexer for each of {len(shape)} axes, got {len(indexers)}")
    arrays = np.broadcast_arrays(*[np.asarray(indexer) for indexer in indexers])
    flat = [checked(array.reshape(-1), length) for array, length in zip(arrays, shape, strict=True)]
    chunks = np.stack([places // size for places, size in zip(flat, chunk, strict=True)], axis=1)
    order, ends = group_rows(chunks)
    return PointsPlan(
        result_shape=arrays[0].shape,
        chunks=chunks[order[ends[:, 0]]],
        ends=ends,
        inside=tuple(places[order] % size for places, size in zip(flat, chunk, strict=True)),
        positions=order,
    )


def position_in_unit(index: Sequence[int], per_unit: Sequence[int]) -> int:
    """Return the place of a chunk in the list of its unit's chunks, the last axis fastest.

    Examples
    --------
    >>> position_in_unit((5, 2), (2, 4))
    6
    """
    position = 0
    for i, n in zip(index, per_unit, strict=True):
        position = position * n + i % n
    return position


def merge_ranges(ranges: Sequence[tuple[int, int]], *, gap: int, limit: int) -> Iterator[ByteRun]:
    """Join byte ranges of one object that lie near each other.

    Parameters
    ----------
    ranges
        ``(start, stop)`` of each, in any order.
    gap
        Bytes between two ranges that may be read in vain.
    limit
        Bytes that a run may have; a single range may exceed it.

    Examples
    --------
    >>> [(run.start, run.stop) for run in merge_ranges([(90, 99), (0, 9), (10, 19)],
    ...                                                gap=8, limit=100)]
    [(0, 19), (90, 99)]
    """
    members: list[int] = []
    start = stop = 0
    for position in sorted(range(len(ranges)), key=ranges.__getitem__):
        low, high = ranges[position]
        if members and (low - stop > gap or max(high, stop) - start > limit):
            yield ByteRun(start=start, stop=stop, members=tuple(members))
            members = []
        if not members:
            start, stop = low, high
        members.append(position)
        stop = max(stop, high)
    if members:
        yield ByteRun(start=start, stop=stop, members=tuple(members))


def _by_unit(axis: AxisPlan, n: int) -> list[tuple[int, AxisPlan]]:
    groups = itertools.groupby(axis.parts, lambda part: part.chunk // n)
    return [(unit, replace(axis, parts=tuple(parts))) for unit, parts in groups]


def _orthogonal(indexers: list[slice | IntArray]) -> tuple[slice | IntArray, ...]:
    """Return a NumPy index that selects along each axis on its own."""
    return np.ix_(*[_places(indexer) for indexer in indexers])


def _places(indexer: slice | IntArray) -> IntArray:
    if not isinstance(indexer, slice):
        return indexer
    stop = -1 if indexer.stop is None else indexer.stop
    return np.arange(indexer.start, stop, indexer.step, dtype=np.intp)
