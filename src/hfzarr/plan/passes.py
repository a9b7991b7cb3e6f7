"""One pass over a patch plan, by arithmetic: what its tasks read, in which order, and hold."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hfzarr.plan.axis import IntArray
from hfzarr.plan.patches import Group, PatchPlan
from hfzarr.plan.tasks import Gather, tasks
from hfzarr.plan.tracks import Track
from hfzarr.plan.windows import WindowGrid, WindowList

__all__ = [
    "Needs",
    "Pass",
    "chunk_boxes",
    "chunks_touched",
    "needs_of",
    "peak_bytes",
    "shortened",
    "simulate",
]

#: A plan with more groups, or more windows times chunks, is looked at in part.
_MOST_GROUPS = 60_000
_MOST_ROWS = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Needs:
    """The blocks that the tasks of one array need.

    Attributes
    ----------
    stops
        Where in `blocks` each group's blocks start, and where the last one's end.
    blocks
        Numbers of the blocks that each group needs, group by group, in the order of reading.
        Blocks of different tiles have different numbers.
    boxes
        The pixels of each block: shape ``(blocks, axes, 2)``.
    uses
        How many groups need each block.
    """

    stops: IntArray
    blocks: IntArray
    boxes: IntArray
    uses: IntArray

    @classmethod
    def of(cls, stops: IntArray, blocks: IntArray, boxes: IntArray) -> Needs:
        """Return the needs of all groups."""
        uses = np.bincount(blocks, minlength=len(boxes))
        return cls(stops=stops, blocks=blocks, boxes=boxes, uses=uses)

    def only(self, groups: IntArray) -> Needs:
        """Return the needs of some groups; blocks still wait for the others."""
        parts = [self.blocks[self.stops[g] : self.stops[g + 1]] for g in groups.tolist()]
        stops = np.cumsum([0, *map(len, parts)], dtype=np.intp)
        return replace(self, stops=stops, blocks=np.concatenate([self.blocks[:0], *parts]))

    @property
    def pixels(self) -> IntArray:
        """Pixels of each block."""
        found: IntArray = (self.boxes[:, :, 1] - self.boxes[:, :, 0]).prod(axis=1)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """What one pass reads of an array.

    Attributes
    ----------
    stops
        Where in `blocks` each read's blocks start, and where the last one's end.
    blocks
        Numbers of the blocks that are read, in order.
    first, last
        For each of them, the group that reads it, and the last one for which it stays in memory.
    nbytes
        Bytes of each of them, decoded.
    """

    stops: IntArray
    blocks: IntArray
    first: IntArray
    last: IntArray
    nbytes: IntArray


def needs_of(plan: PatchPlan) -> list[Needs]:
    """Return the blocks that the tasks of a plan need, for each of its arrays.

    It tells the same as `hfzarr.plan.tasks.tasks`, in numbers.
    """
    if isinstance(plan.windows, WindowGrid):
        listed = [_Listed() for _ in plan.arrays]
        for task in tasks(plan):
            listed[task.array].add(task)
        return [
            one.needs(len(array.tracks)) for one, array in zip(listed, plan.arrays, strict=True)
        ]
    groups = list(plan.groups())
    return [_list_needs(plan, plan.windows, i, groups) for i in range(len(plan.arrays))]


def chunks_touched(
    tracks: Sequence[Track], starts: Sequence[IntArray], count: int
) -> tuple[IntArray, IntArray]:
    """Return which chunks windows at places of their own touch.

    Parameters
    ----------
    tracks
        The array's axes.
    starts
        Where each window starts along each axis; one start for an axis that is held whole.
    count
        Number of windows.

    Returns
    -------
    rows, numbers
        A window's row and a chunk that it touches, in pairs. `chunk_boxes` tells where one
        lies; ascending, numbers are in the order in which windows come to need chunks.
    """
    rows, numbers = [], []
    spans = [_spans(track, some) for track, some in zip(tracks, starts, strict=True)]
    strides = _strides(tracks)
    widths = [range(int((last - first).max(initial=-1)) + 1) for first, last in spans]
    every = np.arange(count, dtype=np.intp)
    for offsets in itertools.product(*widths):
        inside = np.ones(count, bool)
        number = np.zeros(count, np.intp)
        for (first, last), k, stride in zip(spans, offsets, strides, strict=True):
            inside &= first + k <= last
            number += (first + k) * stride
        rows.append(every[inside])
        numbers.append(number[inside])
    if not rows:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    return np.concatenate(rows), np.concatenate(numbers)


def chunk_places(tracks: Sequence[Track], numbers: IntArray) -> IntArray:
    """Return the place of each numbered chunk along each axis: shape (chunks, axes)."""
    places = [
        numbers // stride % max(track.cuts.count, 1)
        for track, stride in zip(tracks, _strides(tracks), strict=True)
    ]
    return np.stack(places, axis=1) if places else np.zeros((len(numbers), 0), np.intp)


def chunk_boxes(tracks: Sequence[Track], numbers: IntArray) -> IntArray:
    """Return the pixels of each numbered chunk: shape (chunks, axes, 2)."""
    places = chunk_places(tracks, numbers)
    boxes = np.zeros((*places.shape, 2), np.intp)
    for axis, track in enumerate(tracks):
        some, inverse = np.unique(places[:, axis], return_inverse=True)
        sides = [track.cuts.interval(int(k)) for k in some]
        boxes[:, axis] = np.array(sides, np.intp).reshape(-1, 2)[inverse.reshape(-1)]
    return boxes


def simulate(needs: Needs, *, itemsize: int, limit: int, per_read: int) -> Pass:
    """Return what a pass reads whose tasks share blocks, as `hfzarr.run.share` lets them.

    Parameters
    ----------
    needs
        The blocks that tasks need; the tasks come one after the other.
    itemsize
        Bytes of a pixel.
    limit
        Bytes of blocks that may wait for other tasks.
    per_read
        Bytes to read at once.
    """
    shared = _Shared(needs, itemsize, limit, per_read)
    flat, stops = needs.blocks.tolist(), needs.stops.tolist()
    for group, (start, stop) in enumerate(itertools.pairwise(stops)):
        shared.take(group, flat[start:stop])
    return shared.result(len(stops) - 2)


def peak_bytes(passes: Sequence[Pass], results: IntArray, *, threads: int) -> int:
    """Return about the bytes that a pass holds at most, and no less.

    Parameters
    ----------
    passes
        What is read of each array.
    results
        Bytes of the patches of each group.
    threads
        Tasks that are carried out at the same time.
    """
    ahead = threads + 1
    live = np.zeros(len(results) + 1, np.intp)
    for one in passes:
        # While the group at the front is not done, others may have begun, but so many only.
        np.add.at(live, np.maximum(one.first - threads, 0), one.nbytes)
        np.add.at(live, one.last + 1, -one.nbytes)
    blocks = np.cumsum(live)[:-1]
    # Besides what is under way: the group that is in use.
    ends = np.concatenate([[0], np.cumsum(results)])
    numbers = np.arange(len(results))
    waiting = ends[np.minimum(numbers + ahead, len(results))] - ends[np.maximum(numbers - 1, 0)]
    return int((blocks + waiting).max(initial=0))


def shortened(plan: PatchPlan) -> tuple[PatchPlan, float]:
    """Return a plan, or one of a part of its windows, and how many times that part is the whole.

    Grids lose tiles, and then windows along the axis that they are swept along. Lists lose whole
    tiles where they have several, evenly spaced; otherwise windows at the end.
    """
    n = len(plan.windows)
    if not n:
        return plan, 1.0
    if isinstance(plan.windows, WindowGrid):
        first = next(plan.groups())
        most = (first.stop - first.first) * _MOST_GROUPS
        part = replace(plan, windows=_smaller(plan.windows, most))
    else:
        rows = sum(math.prod(track.most_chunks for track in a.tracks) for a in plan.arrays)
        part = _fewer(plan, plan.windows, max(1, _MOST_ROWS // max(rows, 1)))
    return part, n / len(part.windows)


def _smaller(grid: WindowGrid, most: int) -> WindowGrid:
    counts = list(grid.counts)
    sweep = next((axis for axis, n in enumerate(counts) if n > 1), 0)
    while math.prod(counts) > most and max(counts) > 1:
        tiles = [n / tile for n, tile in zip(counts, grid.tile, strict=True)]
        # What waits in memory depends on how wide a tile is, not on how long.
        axis = sweep if counts[sweep] > 1 else counts.index(max(counts))
        if max(tiles) > 1:
            axis = tiles.index(max(tiles))
        counts[axis] = -(-counts[axis] // 2)
    axes = tuple(
        axis
        if n == axis.count
        else replace(axis, length=axis.size + (n - 1) * axis.stride, edge="drop")
        for axis, n in zip(grid.axes, counts, strict=True)
    )
    return replace(grid, axes=axes)


def _fewer(plan: PatchPlan, windows: WindowList, most: int) -> PatchPlan:
    if len(windows) <= most:
        return plan
    ends = [0, *plan.tile_stops]
    tiles = [slice(a, b) for a, b in itertools.pairwise(ends)]
    count = max(1, most * len(tiles) // len(windows))
    chosen = [tiles[i] for i in np.linspace(0, len(tiles) - 1, count).astype(int)]
    if len(chosen) == 1:
        chosen = [slice(chosen[0].start, min(chosen[0].stop, chosen[0].start + most))]
    origins = np.concatenate([windows.origins[part] for part in chosen])
    stops = np.cumsum([part.stop - part.start for part in chosen])
    return replace(
        plan, windows=replace(windows, origins=origins), tile_stops=tuple(stops.tolist())
    )


class _Listed:
    """The tasks of one array, listed."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, ...], int] = {}
        self._boxes: list[tuple[tuple[int, int], ...]] = []
        self._blocks: list[int] = []
        self._stops = [0]

    def add(self, task: Gather) -> None:
        for block in task.blocks:
            key = (task.group.tile, *block)
            number = self._numbers.get(key)
            if number is None:
                number = self._numbers[key] = len(self._boxes)
                sides = zip(task.cuts, block, strict=True)
                self._boxes.append(tuple([cuts.interval(k) for cuts, k in sides]))
            self._blocks.append(number)
        self._stops.append(len(self._blocks))

    def needs(self, axes: int) -> Needs:
        return Needs.of(
            stops=np.array(self._stops, np.intp),
            blocks=np.array(self._blocks, np.intp),
            boxes=np.array(self._boxes, np.intp).reshape(len(self._boxes), axes, 2),
        )


def _list_needs(
    plan: PatchPlan, windows: WindowList, number: int, groups: Sequence[Group]
) -> Needs:
    tracks = plan.arrays[number].tracks
    whole = np.zeros(1, np.intp)
    starts = [whole if t.window is None else t.starts(windows.origins[:, t.window]) for t in tracks]
    rows, numbers = chunks_touched(tracks, starts, len(windows))
    sizes = np.array([group.stop - group.first for group in groups], np.intp)
    tiles = np.array([group.tile for group in groups], np.intp)
    group_of = np.repeat(np.arange(len(groups)), sizes)
    total = math.prod(max(track.cuts.count, 1) for track in tracks)
    # Sorted by group, and then by chunk.
    pairs = np.unique(group_of[rows] * total + numbers)
    of_group, chunk = np.divmod(pairs, total)
    keys, blocks = np.unique(tiles[of_group] * total + chunk, return_inverse=True)
    return Needs.of(
        stops=np.searchsorted(of_group, np.arange(len(groups) + 1)),
        blocks=blocks.reshape(-1),
        boxes=chunk_boxes(tracks, keys % total),
    )


def _spans(track: Track, starts: IntArray) -> tuple[IntArray, IntArray]:
    """Return the first and the last chunk under each window; outside the axis there is none."""
    cuts = track.cuts
    low = np.clip(starts, cuts.start, None)
    high = np.clip(starts + track.size, None, cuts.stop) - 1
    first = cuts.numbers(low)
    return first, np.where(high < low, first - 1, cuts.numbers(high))


def _strides(tracks: Sequence[Track]) -> list[int]:
    """Return what a step along each axis adds to a chunk's number."""
    followed = sorted((t.window, i) for i, t in enumerate(tracks) if t.window is not None)
    order = [i for _, i in followed] + [i for i, t in enumerate(tracks) if t.window is None]
    strides, size = [0] * len(tracks), 1
    for axis in reversed(order):
        strides[axis] = size
        size *= max(tracks[axis].cuts.count, 1)
    return strides


class _Shared:
    """Blocks by number, in the place of `hfzarr.run.share.SharedBlocks`."""

    def __init__(self, needs: Needs, itemsize: int, limit: int, per_read: int) -> None:
        self._sizes = (needs.pixels * itemsize).tolist()
        self._uses = needs.uses.tolist()
        self._limit = limit
        self._per_read = per_read
        self._left: OrderedDict[int, int] = OrderedDict()
        self._size = 0
        self._read_of: dict[int, int] = {}
        self._blocks: list[int] = []
        self._stops = [0]
        self._first: list[int] = []
        self._last: list[int] = []

    def take(self, group: int, blocks: Sequence[int]) -> None:
        left, uses = self._left, self._uses
        mine = []
        for block in blocks:
            if block in left:
                left.move_to_end(block)
            else:
                mine.append(block)
                if uses[block] > 1:
                    left[block] = uses[block]
        self._read(group, mine)
        for block in blocks:
            if block in left:
                left[block] -= 1
                if not left[block]:
                    self._drop(group, block)
        while self._size > self._limit and left:
            self._drop(group, next(iter(left)))

    def _read(self, group: int, mine: Sequence[int]) -> None:
        size = 0
        for i, block in enumerate(mine):
            nbytes = self._sizes[block]
            if i == 0 or size + nbytes > self._per_read:
                self._stops.append(len(self._blocks))
                size = 0
            size += nbytes
            if self._uses[block] > 1:
                self._read_of[block] = len(self._blocks)
                self._size += nbytes
            self._blocks.append(block)
            self._first.append(group)
            self._last.append(group)
            self._stops[-1] = len(self._blocks)

    def _drop(self, group: int, block: int) -> None:
        del self._left[block]
        self._size -= self._sizes[block]
        self._last[self._read_of[block]] = group

    def result(self, end: int) -> Pass:
        for block in list(self._left):
            self._drop(end, block)
        blocks = np.array(self._blocks, np.intp)
        return Pass(
            stops=np.array(self._stops, np.intp),
            blocks=blocks,
            first=np.array(self._first, np.intp),
            last=np.array(self._last, np.intp),
            nbytes=np.array(self._sizes, np.intp)[blocks],
        )
