"""Tiles: windows that share what is read for them, as many as memory allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hfzarr.plan.tracks import Sampled, Track
from hfzarr.plan.windows import WindowGrid

__all__ = ["tile_of", "waiting_bytes"]


def tile_of(grid: WindowGrid, arrays: Sequence[Sampled], limit: float) -> tuple[int, ...]:
    """Return the widest tile whose layer of waiting chunks stays within a limit."""
    parts = [1] * len(grid.axes)
    tile = list(grid.counts)
    sweep = _sweep(tile)
    while sum(_front_bytes(grid, array, tile) for array in arrays) > limit:
        extents = [
            (axis.size + (n - 1) * axis.stride if n > 1 and k != sweep else 0, k)
            for k, (axis, n) in enumerate(zip(grid.axes, tile, strict=True))
        ]
        extent, widest = max(extents)
        if not extent:
            break
        before = tile[widest]
        while tile[widest] == before:
            parts[widest] += 1
            axis = grid.axes[widest]
            tile[widest] = _part(axis.count, parts[widest], axis.stride, _chunk(arrays, widest))
    return tuple(tile)


def _part(count: int, parts: int, stride: int, chunk: int) -> int:
    """Return the windows in one of several parts, so that whole chunks lie under them if it can."""
    part = -(-count // parts)
    per_chunk = chunk // math.gcd(stride, chunk)
    whole = -(-part // per_chunk) * per_chunk
    # Parts that are much longer for it would be no parts.
    return min(whole, count) if whole <= 1.5 * part else part


def _chunk(arrays: Sequence[Sampled], window: int) -> int:
    """Return the longest chunk along an axis of the windows."""
    chunks = [
        round(track.cuts.largest / track.ratio)
        for array in arrays
        if not array.held
        for track in array.tracks
        if track.window == window
    ]
    return max(chunks, default=1) or 1


def waiting_bytes(
    grid: WindowGrid, arrays: Sequence[Sampled], tile: Sequence[int]
) -> tuple[float, ...]:
    """Return about the bytes of each array's chunks that wait while a tile is swept."""
    return tuple(
        0.0 if array.held else _front_bytes(grid, array, tile) + 4 * array.chunk_bytes
        for array in arrays
    )


def _sweep(counts: Sequence[int]) -> int:
    """Return the axis along which layers follow each other: the first with several windows."""
    return next((axis for axis, n in enumerate(counts) if n > 1), 0)


def _front_bytes(grid: WindowGrid, array: Sampled, tile: Sequence[int]) -> float:
    """Return the bytes of the chunks that wait while a tile is swept axis by axis.

    Along the first axis on which windows share chunks, a layer of them waits, as wide as the tile
    along the axes that follow and as one window along those before. Along an axis that the array
    does not have, windows share all of it.
    """
    if array.held:
        return 0.0
    followed = {track.window: track for track in array.tracks if track.window is not None}
    whole = [track.cuts.stop for track in array.tracks if track.window is None]
    waiting = False
    pixels = float(array.itemsize * math.prod(whole))
    for window, n in enumerate(tile):
        track = followed.get(window)
        if track is None:
            waiting = waiting or n > 1
            continue
        chunk = max(track.cuts.largest, 1)
        stride = track.ratio * grid.axes[window].stride
        if waiting:
            extent = track.size + stride * (n - 1)
            pixels *= min(extent + chunk, track.cuts.stop)
        elif n == 1 or _apart(track, stride):
            pixels *= min(track.most_chunks * chunk, track.cuts.stop)
        else:
            # All chunks that a window may touch, but for the layer that is being read.
            waiting = True
            pixels *= chunk * max((track.size + chunk - 2) // chunk, 1)
    return pixels * waiting


def _apart(track: Track, stride: float) -> bool:
    """Return whether windows begin with a chunk, and end before the next one begins."""
    cuts = track.cuts
    return not cuts.bounds and track.size <= stride and stride % cuts.step == cuts.origin == 0
