"""The tasks of a patch plan: one for each group of patches and array."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hfzarr.plan.axis import IntArray
from hfzarr.plan.cuts import Cuts
from hfzarr.plan.patches import Group, PatchPlan
from hfzarr.plan.tracks import Sampled, Track
from hfzarr.plan.windows import WindowGrid

__all__ = ["Block", "Box", "Gather", "chunks_under", "tasks"]

#: Pixels of an array: a start and a stop for each axis.
Box = tuple[tuple[int, int], ...]
#: A block's place in the grid of blocks.
Block = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gather:
    """Cut the patches of a group out of the blocks under them.

    Attributes
    ----------
    array
        Number of the array.
    group
        The group.
    cuts
        How each axis is cut into blocks; a block is one chunk or several.
    blocks
        Which blocks are needed, none twice.
    uses
        For each block, how many groups need it.
    """

    array: int
    group: Group
    cuts: tuple[Cuts, ...]
    blocks: tuple[Block, ...]
    uses: tuple[int, ...]

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The pixels of each block."""
        return tuple(
            tuple(cuts.interval(k) for cuts, k in zip(self.cuts, block, strict=True))
            for block in self.blocks
        )


def tasks(plan: PatchPlan) -> Iterator[Gather]:
    """Yield the tasks of a plan: for each group, one for each array.

    Groups of one tile share blocks, those of different tiles do not.
    """
    for _, groups in itertools.groupby(plan.groups(), lambda group: group.tile):
        tile = list(groups)
        arrays = [_tile_tasks(plan, number, tile) for number in range(len(plan.arrays))]
        for of_group in zip(*arrays, strict=True):
            yield from of_group


def _tile_tasks(plan: PatchPlan, number: int, groups: Sequence[Group]) -> list[Gather]:
    """Return the tasks of one tile and array."""
    array = plan.arrays[number]
    grid = plan.windows if isinstance(plan.windows, WindowGrid) else None
    covered = None if array.held or grid is None else _covered(grid, array, groups[0])
    cuts = tuple(track.cuts for track in array.tracks)
    if covered is not None:
        per_block = _block_shape(array, covered, plan.block_bytes)
        cuts = tuple(
            one.joined(chunks, n) for one, chunks, n in zip(cuts, covered, per_block, strict=True)
        )
    needed: list[tuple[Block, ...]] = []
    for group in groups:
        starts = plan.starts(number, group)
        if covered is not None:
            needed.append(_blocks_under(array.tracks, cuts, starts))
        else:
            chunks = chunks_under(array.tracks, starts, grid=grid is not None)
            needed.append(tuple(map(tuple, chunks.tolist())))
    uses = Counter(itertools.chain.from_iterable(needed))
    return [
        Gather(
            array=number,
            group=group,
            cuts=cuts,
            blocks=blocks,
            uses=tuple(uses[block] for block in blocks),
        )
        for group, blocks in zip(groups, needed, strict=True)
    ]


def _blocks_under(
    tracks: Sequence[Track], cuts: Sequence[Cuts], starts: Sequence[IntArray]
) -> tuple[Block, ...]:
    """Return the blocks that windows side by side touch."""
    axes = [
        axis.covered(int(some.min()), int(some.max()) + track.size)
        for axis, some, track in zip(cuts, starts, tracks, strict=True)
    ]
    return tuple(itertools.product(*axes))


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
