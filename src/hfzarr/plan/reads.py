"""The tasks of a patch plan: reads, each of some blocks, and gathers, each of a group's patches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hfzarr.plan.axis import IntArray
from hfzarr.plan.cuts import Cuts
from hfzarr.plan.patches import Group, PatchPlan, Sampled, Track
from hfzarr.plan.windows import WindowGrid

__all__ = ["Box", "Gather", "Read", "Task", "chunks_under", "tasks"]

#: Pixels of an array: a start and a stop for each axis.
Box = tuple[tuple[int, int], ...]
Block = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Fetch and decode some blocks of one array.

    Attributes
    ----------
    array
        Number of the array.
    number
        Number of the read among those of its array.
    boxes
        The pixels of each block.
    """

    array: int
    number: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gather:
    """Cut the patches of a group out of blocks.

    Attributes
    ----------
    array
        Number of the array.
    group
        The group.
    reads
        Numbers of the reads whose blocks are needed; none where the array is there already.
    blocks
        Which blocks those are, in the order in which the reads return them.
    cuts
        How each axis is cut into blocks.
    """

    array: int
    group: Group
    reads: tuple[int, ...]
    blocks: tuple[Block, ...]
    cuts: tuple[Cuts, ...]


Task = Read | Gather


def tasks(plan: PatchPlan) -> Iterator[Task]:
    """Yield the tasks of a plan in an order in which they can be carried out one by one.

    Each read comes before the gathers that need it, and as late as can be.
    """
    schedules: list[_Held | _Dense | _Sparse] = []
    numbering = [itertools.count() for _ in plan.arrays]
    tile = -1
    for group in plan.groups():
        if group.tile != tile:
            tile = group.tile
            schedules = [_schedule(plan, i, group, numbering[i]) for i in range(len(plan.arrays))]
        for number, schedule in enumerate(schedules):
            yield from schedule.tasks(number, group)


def chunks_under(tracks: Sequence[Track], starts: Sequence[IntArray], *, grid: bool) -> IntArray:
    """Return the chunks that windows touch, each once: shape (chunks, axes).

    They come in the order of the axes that windows follow, the last one fastest but for the axes
    that patches hold whole.

    Parameters
    ----------
    tracks
        The array's axes.
    starts
        Where windows start along each axis, as `PatchPlan.starts` gives them.
    grid
        Whether the windows are all combinations of the starts.
    """
    spans = [_chunk_spans(track, some) for track, some in zip(tracks, starts, strict=True)]
    if grid:
        axes = [np.unique(np.concatenate(_listed(*span))) for span in spans]
        chunks = np.stack([a.reshape(-1) for a in np.meshgrid(*axes, indexing="ij")], axis=1)
        return chunks[_sweep_order(tracks, chunks)]
    count = max((len(some) for some in starts), default=1)
    rows: list[IntArray] = []
    widths = [range(int((last - first).max(initial=-1)) + 1) for first, last in spans]
    for offsets in itertools.product(*widths):
        places = [first + k for (first, _), k in zip(spans, offsets, strict=True)]
        inside = np.ones(count, bool)
        for place, (_, last) in zip(places, spans, strict=True):
            inside &= place <= last
        full = [np.broadcast_to(place, count)[inside] for place in places]
        rows.append(np.stack(full, axis=1) if full else np.zeros((1, 0), np.intp))
    chunks = np.unique(np.concatenate(rows), axis=0) if rows else np.zeros((0, len(spans)), np.intp)
    return chunks[_sweep_order(tracks, chunks)]


class _Held:
    """An array whose chunks are there already."""

    def __init__(self, plan: PatchPlan, array: Sampled) -> None:
        self._plan = plan
        self._tracks = array.tracks
        self._grid = _is_grid(plan)

    def tasks(self, number: int, group: Group) -> Iterator[Task]:
        starts = self._plan.starts(number, group)
        chunks = chunks_under(self._tracks, starts, grid=self._grid)
        yield Gather(
            array=number,
            group=group,
            reads=(),
            blocks=tuple(map(tuple, chunks.tolist())),
            cuts=tuple(track.cuts for track in self._tracks),
        )


class _Dense:
    """A tile all of whose chunks are needed: blocks of several chunks, one to a read."""

    def __init__(
        self, plan: PatchPlan, array: Sampled, covered: Sequence[range], numbers: Iterator[int]
    ) -> None:
        self._plan = plan
        self._tracks = array.tracks
        self._numbers = numbers
        self._known: dict[Block, int] = {}
        per_block = _block_shape(array, covered, plan.read_bytes)
        self._cuts = tuple(
            track.cuts.joined(chunks, n)
            for track, chunks, n in zip(array.tracks, covered, per_block, strict=True)
        )

    def tasks(self, number: int, group: Group) -> Iterator[Task]:
        starts = self._plan.starts(number, group)
        needed = [
            cuts.covered(int(some.min()), int(some.max()) + track.size)
            for cuts, some, track in zip(self._cuts, starts, self._tracks, strict=True)
        ]
        blocks = tuple(itertools.product(*needed))
        for block in blocks:
            if block not in self._known:
                self._known[block] = next(self._numbers)
                box = tuple(cuts.interval(k) for cuts, k in zip(self._cuts, block, strict=True))
                yield Read(array=number, number=self._known[block], boxes=(box,))
        reads = tuple(self._known[block] for block in blocks)
        yield Gather(array=number, group=group, reads=reads, blocks=blocks, cuts=self._cuts)


class _Sparse:
    """A tile with gaps: a block is a chunk, and a group reads those that none before it needed."""

    def __init__(self, plan: PatchPlan, array: Sampled, numbers: Iterator[int]) -> None:
        self._plan = plan
        self._tracks = array.tracks
        self._numbers = numbers
        self._grid = _is_grid(plan)
        self._cuts = tuple(track.cuts for track in array.tracks)
        chunk_bytes = array.itemsize * math.prod(cuts.largest for cuts in self._cuts)
        self._per_read = max(1, plan.read_bytes // max(chunk_bytes, 1))
        self._read_of: dict[Block, int] = {}
        self._blocks_of: dict[int, tuple[Block, ...]] = {}

    def tasks(self, number: int, group: Group) -> Iterator[Task]:
        starts = self._plan.starts(number, group)
        chunks = chunks_under(self._tracks, starts, grid=self._grid)
        needed: list[Block] = list(map(tuple, chunks.tolist()))
        new = [block for block in needed if block not in self._read_of]
        for first in range(0, len(new), self._per_read):
            yield self._read(number, tuple(new[first : first + self._per_read]))
        reads = tuple(dict.fromkeys(self._read_of[block] for block in needed))
        blocks = tuple(itertools.chain.from_iterable(self._blocks_of[read] for read in reads))
        yield Gather(array=number, group=group, reads=reads, blocks=blocks, cuts=self._cuts)

    def _read(self, array: int, blocks: tuple[Block, ...]) -> Read:
        number = next(self._numbers)
        self._blocks_of[number] = blocks
        self._read_of.update(dict.fromkeys(blocks, number))
        boxes = tuple(
            tuple(cuts.interval(k) for cuts, k in zip(self._cuts, block, strict=True))
            for block in blocks
        )
        return Read(array=array, number=number, boxes=boxes)


def _schedule(
    plan: PatchPlan, number: int, first: Group, numbers: Iterator[int]
) -> _Held | _Dense | _Sparse:
    array = plan.arrays[number]
    if array.held:
        return _Held(plan, array)
    grid = plan.windows if isinstance(plan.windows, WindowGrid) else None
    covered = _covered(grid, array, first) if grid else None
    if covered is None:
        return _Sparse(plan, array, numbers)
    return _Dense(plan, array, covered, numbers)


def _is_grid(plan: PatchPlan) -> bool:
    return isinstance(plan.windows, WindowGrid)


def _covered(grid: WindowGrid, array: Sampled, first: Group) -> list[range] | None:
    """Return the chunks under a tile along each axis; None if some between them are not."""
    tile = [
        range(places.start, min(places.start + n, count))
        for places, n, count in zip(first.places, grid.tile, grid.counts, strict=True)
    ]
    covered = []
    for track in array.tracks:
        places = np.zeros(1, np.intp)
        if track.window is not None:
            places = track.starts(grid.axes[track.window].starts(tile[track.window]))
        touched = np.unique(np.concatenate(_listed(*_chunk_spans(track, places))))
        if not len(touched) or touched[-1] - touched[0] + 1 != len(touched):
            return None
        covered.append(range(int(touched[0]), int(touched[-1]) + 1))
    return covered


def _chunk_spans(track: Track, starts: IntArray) -> tuple[IntArray, IntArray]:
    """Return the first and the last chunk under each window; outside the axis there is none."""
    cuts = track.cuts
    low = np.clip(starts, cuts.start, None)
    high = np.clip(starts + track.size, None, cuts.stop) - 1
    first, last = cuts.numbers(low), cuts.numbers(high)
    return first, np.where(high < low, first - 1, last)


def _listed(first: IntArray, last: IntArray) -> list[IntArray]:
    """Return all chunks of all spans, with repetitions."""
    width = int((last - first).max(initial=-1)) + 1
    empty: list[IntArray] = [np.zeros(0, np.intp)]
    return empty + [(first + k)[first + k <= last] for k in range(width)]


def _sweep_order(tracks: Sequence[Track], chunks: IntArray) -> IntArray:
    """Return the order in which windows come to need chunks."""
    followed = [(t.window, i) for i, t in enumerate(tracks) if t.window is not None]
    axes = [i for _, i in sorted(followed)] + [i for i, t in enumerate(tracks) if t.window is None]
    if not axes or not len(chunks):
        return np.arange(len(chunks))
    return np.lexsort(chunks[:, axes].T[::-1])


def _block_shape(array: Sampled, covered: Sequence[range], limit: int) -> list[int]:
    """Return how many chunks to join along each axis, for a block of up to ``limit`` bytes.

    The last axis first, as windows follow it fastest; then those that every patch needs whole;
    then the others, from the last one.
    """
    tracks = array.tracks
    followed = sorted((t.window, i) for i, t in enumerate(tracks) if t.window is not None)
    order = [i for _, i in followed][::-1]
    order[1:1] = [i for i, track in enumerate(tracks) if track.window is None]
    shape = [1] * len(tracks)
    size = array.itemsize * math.prod(track.cuts.largest for track in tracks)
    for axis in order:
        room = max(limit // max(size, 1), 1)
        pieces = -(-len(covered[axis]) // room)
        shape[axis] = -(-len(covered[axis]) // pieces)
        size *= shape[axis]
        if pieces > 1:
            break
    return shape
