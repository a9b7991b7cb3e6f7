"""Patches are cut out of decoded blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from hfzarr.plan.axis import IntArray
from hfzarr.plan.cuts import Cuts
from hfzarr.plan.tracks import Track

__all__ = ["Blocks", "Layout", "gather_grid", "gather_list"]

AnyArray = npt.NDArray[Any]
#: Decoded blocks by their place in the grid of blocks.
Blocks = Mapping[tuple[int, ...], AnyArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """What patches of one array look like, and how its blocks lie.

    Attributes
    ----------
    tracks
        The array's axes.
    cuts
        How each axis is cut into blocks.
    dtype
        Data type of the patches.
    pad
        What lies outside the array.
    """

    tracks: tuple[Track, ...]
    cuts: tuple[Cuts, ...]
    dtype: np.dtype[Any]
    pad: Any

    @property
    def size(self) -> tuple[int, ...]:
        """Shape of one patch."""
        return tuple(track.size for track in self.tracks)

    def sticks_out(self, starts: Sequence[IntArray]) -> bool:
        """Return whether a window has pixels outside the array."""
        return any(
            len(some) > 0 and (some.min() < 0 or some.max() + track.size > track.cuts.stop)
            for some, track in zip(starts, self.tracks, strict=True)
        )


def gather_grid(
    layout: Layout, starts: Sequence[IntArray], counts: Sequence[int], blocks: Blocks
) -> AnyArray:
    """Cut the patches of all combinations of starts.

    Parameters
    ----------
    layout
        The array.
    starts
        Along each axis of the array, where its windows start.
    counts
        Number of windows along each axis of the windows.
    blocks
        All blocks that a window touches.

    Returns
    -------
    numpy.ndarray
        Patches in the order of C, of the shape ``(windows, *patch)``.
    """
    out = np.empty((*counts, *layout.size), layout.dtype)
    if layout.sticks_out(starts):
        out[...] = layout.pad
    # NumPy has no strided views of its own strings.
    apart = layout.dtype.kind == "T"
    pieces = [
        list(_pieces(track, cuts, some, apart))
        for track, cuts, some in zip(layout.tracks, layout.cuts, starts, strict=True)
    ]
    for combination in itertools.product(*pieces):
        _copy(layout, combination, blocks, out, len(counts))
    return out.reshape(math.prod(counts), *layout.size)


def gather_list(layout: Layout, starts: Sequence[IntArray], count: int, blocks: Blocks) -> AnyArray:
    """Cut the patches of windows at places of their own.

    Parameters
    ----------
    layout
        The array.
    starts
        Along each axis of the array, where each window starts; one start for all of them along an
        axis that patches hold whole.
    count
        Number of windows.
    blocks
        All blocks that a window touches.

    Returns
    -------
    numpy.ndarray
        Patches in the order of the windows, of the shape ``(windows, *patch)``.
    """
    out = np.empty((count, *layout.size), layout.dtype)
    if layout.sticks_out(starts):
        out[...] = layout.pad
    cut: list[dict[int, list[_Part]]] = [{} for _ in layout.tracks]
    rows = zip(*(np.broadcast_to(some, count).tolist() for some in starts), strict=True)
    for patch, row in zip(out, rows, strict=False):
        axes = []
        for axis, start in enumerate(row):
            parts = cut[axis].get(start)
            if parts is None:
                parts = list(_parts(layout.cuts[axis], start, layout.tracks[axis].size))
                cut[axis][start] = parts
            axes.append(parts)
        for combination in itertools.product(*axes):
            key = tuple([part[0] for part in combination])
            into = tuple([part[1] for part in combination])
            patch[into] = blocks[key][tuple([part[2] for part in combination])]
    return out


#: A block's number, the pixels of the patch that it has, and those pixels in the block.
_Part = tuple[int, slice, slice]


def _parts(cuts: Cuts, start: int, size: int) -> Iterator[_Part]:
    """Yield the blocks under one window along an axis."""
    for number in cuts.covered(start, start + size):
        low, high = cuts.interval(number)
        first, stop = max(low, start), min(high, start + size)
        yield number, slice(first - start, stop - start), slice(first - low, stop - low)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Evenly spaced windows along an axis that have the same pixels of themselves in one block."""

    block: int
    inside: slice
    """The pixels in the block of the first window."""
    patch: slice
    """The same pixels in the patch."""
    windows: slice
    """Which of the windows."""
    step: int
    """Pixels from one window to the next."""


def _pieces(track: Track, cuts: Cuts, starts: IntArray, apart: bool) -> Iterator[_Piece]:
    """Yield what each block gives to the windows along one axis, or to each window apart."""
    for first, n, step in _even_runs(starts, apart):
        begin = int(starts[first])
        for number in cuts.covered(begin, begin + (n - 1) * step + track.size):
            low, high = cuts.interval(number)
            # Windows that lie wholly in the block are copied together.
            whole_from = max(0, -(-(low - begin) // step))
            whole_to = min(n, (high - track.size - begin) // step + 1)
            touched_from = max(0, (low - begin - track.size) // step + 1)
            touched_to = min(n, -(-(high - begin) // step))
            if whole_from < whole_to:
                at = begin + whole_from * step
                yield _Piece(
                    block=number,
                    inside=slice(at - low, at - low + track.size),
                    patch=slice(0, track.size),
                    windows=slice(first + whole_from, first + whole_to),
                    step=step,
                )
            for i in range(touched_from, touched_to):
                if whole_from <= i < whole_to:
                    continue
                at = begin + i * step
                inside = slice(max(low, at) - low, min(high, at + track.size) - low)
                patch = slice(inside.start + low - at, inside.stop + low - at)
                yield _Piece(number, inside, patch, slice(first + i, first + i + 1), step)


def _even_runs(starts: IntArray, apart: bool) -> Iterator[tuple[int, int, int]]:
    """Cut ascending starts into evenly spaced runs: first place, number and step of each."""
    values = starts.tolist()
    if apart:
        yield from ((i, 1, 1) for i in range(len(values)))
        return
    first = 0
    while first < len(values):
        stop = first + 1
        step = values[stop] - values[first] if stop < len(values) else 1
        while step > 0 and stop < len(values) and values[stop] - values[stop - 1] == step:
            stop += 1
        yield first, stop - first, max(step, 1)
        first = stop


def _copy(
    layout: Layout,
    pieces: Sequence[_Piece],
    blocks: Blocks,
    out: AnyArray,
    lead: int,
) -> None:
    """Copy one block's share in the patches of evenly spaced windows along each axis."""
    block = blocks[tuple([piece.block for piece in pieces])]
    view = block[tuple([piece.inside for piece in pieces])]
    windows = [slice(None)] * lead
    shape, strides = [1] * lead, [0] * lead
    for axis, (piece, track) in enumerate(zip(pieces, layout.tracks, strict=True)):
        if track.window is not None:
            windows[track.window] = piece.windows
            shape[track.window] = piece.windows.stop - piece.windows.start
            strides[track.window] = piece.step * block.strides[axis]
    target = out[(*windows, *[piece.patch for piece in pieces])]
    if math.prod(shape) > 1:
        view = as_strided(view, (*shape, *view.shape), (*strides, *view.strides))
    target[...] = view
