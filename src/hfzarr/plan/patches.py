"""Patches of several arrays under the same windows: what to read, in which order, for whom."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hfzarr.plan.axis import IntArray
from hfzarr.plan.tiles import tile_of, waiting_bytes
from hfzarr.plan.tracks import Sampled
from hfzarr.plan.windows import AxisWindows, WindowGrid, WindowList

__all__ = ["Group", "PatchPlan", "plan_patches"]

#: Shares of the memory that a plan may use: chunks that wait for other windows that need them, if
#: groups come in order; what may wait if they do not quite; one block of chunks; the patches of one
#: task. The rest is for tasks under way. dask takes 9 of 100 groups after the 90th, as text sorts.
_FRONT_SHARE = 0.4
_SHARED_SHARE = 0.7
_BLOCK_SHARE = 1 / 32
_GROUP_SHARE = 1 / 16
#: Of a group's windows that share few chunks, the chunks.
_TOUCHED_SHARE = 1 / 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Consecutive windows whose patches one task makes.

    Attributes
    ----------
    number
        Its place among the groups.
    tile
        Number of the tile that it lies in: groups of one tile share what is read.
    first, stop
        The windows' numbers.
    places
        For a grid, the box of the grid that these windows fill: a range for each axis.
    """

    number: int
    tile: int
    first: int
    stop: int
    places: tuple[range, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchPlan:
    """Which windows there are, which arrays they are cut from, and in which groups.

    Attributes
    ----------
    windows
        The windows, in the order in which they are best read.
    arrays
        The arrays.
    max_bytes
        Memory that carrying out the plan may take, as far as one window allows.
    waiting
        For each array, about the bytes of its chunks that wait for other groups.
    tile_stops
        For a list of windows: one past the last window of each tile.
    """

    windows: WindowGrid | WindowList
    arrays: tuple[Sampled, ...]
    max_bytes: int
    waiting: tuple[float, ...]
    tile_stops: tuple[int, ...] = ()

    @property
    def patch_bytes(self) -> int:
        """Bytes of one patch of all arrays."""
        return sum(array.patch_bytes for array in self.arrays)

    @property
    def block_bytes(self) -> int:
        """Decoded bytes that a block of chunks should have."""
        return max(1, int(self.max_bytes * _BLOCK_SHARE))

    @property
    def shared_bytes(self) -> tuple[int, ...]:
        """For each array, decoded bytes that may wait for other groups that need them."""
        total = sum(self.waiting) or 1
        return tuple(int(self.max_bytes * _SHARED_SHARE * part / total) for part in self.waiting)

    def fits(self, counts: Sequence[int]) -> bool:
        """Return whether one task may make a box of so many windows along each axis.

        For a list of windows, `counts` is one number.
        """
        n = math.prod(counts)
        if n * self.patch_bytes > self.max_bytes * _GROUP_SHARE:
            return False
        touched = sum(array.touched_bytes(self.windows, counts) for array in self.arrays)
        return touched <= self.max_bytes * _TOUCHED_SHARE

    def groups(self) -> Iterator[Group]:
        """Yield all groups, in the order of the windows."""
        windows = self.windows
        runs = (
            _grid_runs(windows, self.fits)
            if isinstance(windows, WindowGrid)
            else _list_runs(self.tile_stops, self.fits)
        )
        for number, (tile, first, stop, places) in enumerate(runs):
            yield Group(number=number, tile=tile, first=first, stop=stop, places=places)

    def starts(self, array: int, group: Group) -> tuple[IntArray, ...]:
        """Return where the group's windows start, for each axis of an array.

        For a grid: along each axis, a window for each of `Group.places`. For a list: each window.
        An axis that patches hold whole has one start.
        """
        tracks = self.arrays[array].tracks
        whole = np.zeros(1, np.intp)
        if isinstance(self.windows, WindowGrid):
            axes = self.windows.axes
            return tuple(
                whole
                if t.window is None
                else t.starts(axes[t.window].starts(group.places[t.window]))
                for t in tracks
            )
        origins = self.windows.origins[group.first : group.stop]
        return tuple(whole if t.window is None else t.starts(origins[:, t.window]) for t in tracks)


def plan_patches(
    windows: WindowGrid | WindowList, arrays: Sequence[Sampled], *, max_bytes: int
) -> PatchPlan:
    """Plan patches so that each chunk is decoded once, within a bound of memory.

    A chunk that several windows share waits in memory until the last of them is cut. Windows are
    taken layer by layer along the first axis, so what waits is a layer of chunks. Where a layer of
    the whole array would be too much, windows are renumbered tile by tile, each tile as wide as
    memory allows and as long as the first axis; only chunks on the borders of tiles are then
    decoded twice.

    Parameters
    ----------
    windows
        A grid, or a list in any order.
    arrays
        What patches are cut from.
    max_bytes
        Memory that may be used, in bytes.
    """
    if isinstance(windows, WindowGrid):
        grid = replace(windows, tile=tile_of(windows, arrays, max_bytes * _FRONT_SHARE))
        return PatchPlan(
            windows=grid,
            arrays=tuple(arrays),
            max_bytes=max_bytes,
            waiting=waiting_bytes(grid, arrays, grid.tile),
        )
    return _plan_list(windows, tuple(arrays), max_bytes)


# Groups of a grid


def _grid_runs(
    grid: WindowGrid, fits: Callable[[Sequence[int]], bool]
) -> Iterator[tuple[int, int, int, tuple[range, ...]]]:
    """Yield groups of windows that fit, each a box of the grid and a run of numbers."""
    tiles = [
        [range(first, min(first + n, count)) for first in range(0, count, n)]
        for n, count in zip(grid.tile, grid.counts, strict=True)
    ]
    first = 0
    for number, tile in enumerate(itertools.product(*tiles)):
        for box in _boxes(tile, fits):
            stop = first + math.prod(len(places) for places in box)
            yield number, first, stop, box
            first = stop


def _boxes(
    tile: Sequence[range], fits: Callable[[Sequence[int]], bool]
) -> Iterator[tuple[range, ...]]:
    """Cut a box into boxes that fit and follow each other in the order of C."""
    size = [1] * len(tile)
    for axis in reversed(range(len(tile))):

        def too_long(n: int, axis: int = axis) -> bool:
            return not fits([*size[:axis], n, *size[axis + 1 :]])

        lengths = range(1, len(tile[axis]) + 1)
        room = max(bisect.bisect_left(lengths, True, key=too_long), 1)
        # As even as can be: 19 at up to 10 are 10 and 9.
        pieces = -(-len(tile[axis]) // room)
        size[axis] = -(-len(tile[axis]) // pieces)
        if pieces > 1:
            break
    cut = [
        [places[i : i + n] for i in range(0, len(places), n)]
        for places, n in zip(tile, size, strict=True)
    ]
    yield from itertools.product(*cut)


# Lists of windows


def _list_runs(
    stops: Sequence[int], fits: Callable[[Sequence[int]], bool]
) -> Iterator[tuple[int, int, int, tuple[range, ...]]]:
    """Yield groups of windows of one tile that fit."""
    most = range(1, (stops[-1] if stops else 0) + 1)
    limit = max(bisect.bisect_left(most, True, key=lambda n: not fits([n])), 1)
    first = 0
    for tile, stop in enumerate(stops):
        pieces = -(-(stop - first) // limit)
        size = -(-(stop - first) // max(pieces, 1))
        for start in range(first, stop, max(size, 1)):
            yield tile, start, min(start + size, stop), ()
        first = stop


def _plan_list(windows: WindowList, arrays: tuple[Sampled, ...], max_bytes: int) -> PatchPlan:
    origins = windows.origins
    lead = max(arrays, key=lambda array: 0 if array.held else array.patch_bytes)
    chunks = _first_chunks(lead, origins)
    cells = np.zeros(len(origins), np.intp)
    if _most_bytes(arrays, len(origins)) > max_bytes * _FRONT_SHARE:
        cells = _cells(windows, arrays, max_bytes * _FRONT_SHARE)
    order = np.lexsort((*origins.T[::-1], *chunks.T[::-1], cells))
    cells = cells[order]
    changes = np.flatnonzero(cells[1:] != cells[:-1]) + 1
    stops = (*changes.tolist(), len(origins)) if len(origins) else ()
    return PatchPlan(
        windows=replace(windows, origins=origins[order]),
        arrays=arrays,
        max_bytes=max_bytes,
        waiting=tuple(0.0 if a.held else a.touched_bytes(windows, [len(origins)]) for a in arrays),
        tile_stops=tuple(stops),
    )


def _first_chunks(array: Sampled, origins: IntArray) -> IntArray:
    """Return the chunk in which each window starts: shape (windows, axes of the windows)."""
    chunks = np.zeros(origins.shape, np.intp)
    for track in array.tracks:
        if track.window is not None:
            starts = track.starts(origins[:, track.window])
            inside = np.clip(starts, track.cuts.start, track.cuts.stop - 1)
            chunks[:, track.window] = track.cuts.numbers(inside)
    return chunks


def _most_bytes(arrays: Sequence[Sampled], count: int) -> int:
    """Return no less than the bytes of the chunks that ``count`` windows can touch."""
    total = 0
    for array in arrays:
        if array.held:
            continue
        whole = math.prod(track.cuts.stop for track in array.tracks)
        touched = math.prod(
            min(track.cuts.stop, track.most_chunks * track.cuts.largest) for track in array.tracks
        )
        total += array.itemsize * min(whole, count * touched)
    return total


def _cells(windows: WindowList, arrays: Sequence[Sampled], limit: float) -> IntArray:
    """Return the number of the tile in which each window starts."""
    # The tile that a grid of windows at every pixel would get serves drawn ones as well.
    axes = tuple(
        AxisWindows(length=length, size=size, stride=1, edge="pad")
        for length, size in zip(windows.lengths, windows.size, strict=True)
    )
    grid = WindowGrid(axes=axes)
    tile = tile_of(grid, arrays, limit)
    width = [n * axis.stride for n, axis in zip(tile, axes, strict=True)]
    cells = np.zeros(len(windows), np.intp)
    for axis, (n, length) in enumerate(zip(width, windows.lengths, strict=True)):
        cells = cells * -(-length // n) + windows.origins[:, axis] // n
    return cells
