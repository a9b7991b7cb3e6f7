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
        sides = [
            {k: cuts.interval(k) for k in set(column)}
            for cuts, column in zip(self.cuts, zip(*self.blocks, strict=True), strict=False)
        ]
        return tuple(
            tuple([side[k] for side, k in zip(sides, block, strict=True)]) for block in self.blocks
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
    first, last = (
        np.stack([np.broadcast_to(side, count) for side in sides], axis=1)
        for sides in zip(*spans, strict=True)
    )
    order = _axes_in_sweep_order(tracks)
    return _distinct(first[:, order], last[:, order])[:, np.argsort(order)]


def _distinct(first: IntArray, last: IntArray) -> IntArray:
    """Return all rows of integers between a first and a last one, each once and in order."""
    if not len(first):
        return first
    low = first.min(axis=0)
    extent = np.maximum(last.max(axis=0) - low + 1, 1)
    widths = np.maximum((last - first).max(axis=0) + 1, 1)
    offsets = np.indices(widths.tolist()).reshape(len(widths), -1).T
    inside = (offsets[np.newaxis] <= (last - first)[:, np.newaxis]).all(axis=2)
    weights = np.append(np.cumprod(extent[:0:-1])[::-1], 1)
    keys = ((first - low) @ weights)[:, np.newaxis] + offsets @ weights
    rows: IntArray = np.stack(np.unravel_index(np.unique(keys[inside]), extent), axis=1)
    rows += low
    return rows


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
    axes = _axes_in_sweep_order(tracks)
    if not axes or not len(chunks):
        return np.arange(len(chunks))
    return np.lexsort(chunks[:, axes].T[::-1])


def _axes_in_sweep_order(tracks: Sequence[Track]) -> list[int]:
    """Return the axes in the order of the windows', and then those that patches hold whole."""
    followed = sorted((t.window, i) for i, t in enumerate(tracks) if t.window is not None)
    return [i for _, i in followed] + [i for i, t in enumerate(tracks) if t.window is None]


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
