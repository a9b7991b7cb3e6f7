"""How many pixels windows cover, each counted once, and how many chunks they touch one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from hfzarr.plan.axis import IntArray
from hfzarr.plan.tracks import Sampled, Track
from hfzarr.plan.windows import WindowGrid, Windows

__all__ = ["chunks_covered", "chunks_one_by_one", "pixels_covered"]

#: Up to so many pixels, and pixels of windows, are painted to be counted.
_PAINTED = 1 << 24
_PAINTS = 1 << 26
#: Otherwise so many of them are drawn.
_DRAWN = 4096


def pixels_covered(
    array: Sampled, windows: Windows, numbers: IntArray | None = None
) -> tuple[int, bool]:
    """Return how many pixels of an array windows cover, and whether that was counted.

    Parameters
    ----------
    array
        The array.
    windows
        The windows.
    numbers
        Which of them; without it, all.

    Returns
    -------
    pixels, exact
        Where there are too many to count, the pixels are estimated from some thousands of them.
    """
    tracks = [track for track in array.tracks if track.window is not None]
    whole = math.prod(t.size for t in array.tracks if t.window is None)
    if isinstance(windows, WindowGrid) and numbers is None:
        sides = [_union(track, track.starts(_along(windows, track.window))) for track in tracks]
        return whole * math.prod(sides), True
    starts = windows.starts(np.arange(len(windows)) if numbers is None else numbers)
    low = np.stack([t.starts(starts[:, t.window]) for t in tracks], axis=1)
    pixels, exact = _covered(tracks, low)
    return whole * pixels, exact


def chunks_one_by_one(array: Sampled, windows: Windows, numbers: IntArray | None = None) -> int:
    """Return how many chunks reading window by window would decode, shared ones again and again."""
    if isinstance(windows, WindowGrid) and numbers is None:
        widths = {
            track.window: _widths(track, track.starts(_along(windows, track.window)))
            for track in array.tracks
            if track.window is not None
        }
        followed = [
            int(widths[axis].sum()) if axis in widths else n
            for axis, n in enumerate(windows.counts)
        ]
        total = math.prod(followed)
    else:
        starts = windows.starts(np.arange(len(windows)) if numbers is None else numbers)
        product = np.ones(len(starts), np.intp)
        for track in array.tracks:
            if track.window is not None:
                product *= _widths(track, track.starts(starts[:, track.window]))
        total = int(product.sum())
    return total * math.prod(t.cuts.count for t in array.tracks if t.window is None)


def chunks_covered(array: Sampled, windows: WindowGrid) -> int:
    """Return how many chunks of an array all windows of a grid touch, each counted once."""
    total = 1
    for track in array.tracks:
        starts = np.zeros(1, np.intp)
        if track.window is not None:
            starts = track.starts(_along(windows, track.window))
        low = np.clip(starts, track.cuts.start, None)
        high = np.clip(starts + track.size, None, track.cuts.stop)
        inside = low < high
        total *= _merged(track.cuts.numbers(low[inside]), track.cuts.numbers(high[inside] - 1) + 1)
    return total


def _along(windows: WindowGrid, axis: int | None) -> IntArray:
    one = windows.axes[axis or 0]
    return one.starts(np.arange(one.count))


def _widths(track: Track, starts: IntArray) -> IntArray:
    """Return how many chunks each window touches along an axis."""
    low = np.clip(starts, track.cuts.start, None)
    high = np.clip(starts + track.size, None, track.cuts.stop) - 1
    width = track.cuts.numbers(high) - track.cuts.numbers(low) + 1
    return np.where(high < low, 0, width)


def _union(track: Track, starts: IntArray) -> int:
    """Return how many pixels of an axis windows cover."""
    low = np.clip(starts, track.cuts.start, track.cuts.stop)
    high = np.clip(starts + track.size, track.cuts.start, track.cuts.stop)
    return _merged(low, high)


def _merged(low: IntArray, high: IntArray) -> int:
    """Return the length of the union of intervals that begin and end in the same order."""
    low, high = np.sort(low), np.sort(high)
    before = np.concatenate([low[:1], high[:-1]])
    return int(np.maximum(high - np.maximum(low, before), 0).sum())


def _covered(tracks: Sequence[Track], starts: IntArray) -> tuple[int, bool]:
    if len(tracks) == 1:
        return _union(tracks[0], starts[:, 0]), True
    size = np.array([track.size for track in tracks], np.intp)
    limits = np.array([[t.cuts.start, t.cuts.stop] for t in tracks], np.intp)
    low = np.clip(starts, limits[:, 0], limits[:, 1])
    high = np.clip(starts + size, limits[:, 0], limits[:, 1])
    volumes = (high - low).prod(axis=1)
    if not volumes.any():
        return 0, True
    corner = low.min(axis=0)
    extent = high.max(axis=0) - corner
    if math.prod(extent.tolist()) <= _PAINTED and int(volumes.sum()) <= _PAINTS:
        canvas = np.zeros(extent, bool)
        for a, b in zip((low - corner).tolist(), (high - corner).tolist(), strict=True):
            canvas[tuple(map(slice, a, b))] = True
        return int(np.count_nonzero(canvas)), True
    return _estimated(starts, size, low, high, volumes), False


def _estimated(
    starts: IntArray, size: IntArray, low: IntArray, high: IntArray, volumes: IntArray
) -> int:
    """Estimate a union: a pixel that several windows cover counts as a part for each of them."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(starts), _DRAWN)
    rows = rows[volumes[rows] > 0]
    points = rng.integers(low[rows], high[rows])
    # Windows over a point start in its cell of one window's size, or in one before it.
    base = starts.min(axis=0)
    cells = (starts - base) // size
    shape = cells.max(axis=0) + 2
    order = np.lexsort(cells.T[::-1])
    keys = _linear(cells[order] + 1, shape)
    at = (points - base) // size + 1
    counts = np.zeros(len(points), np.intp)
    for back in itertools.product((0, 1), repeat=len(size)):
        wanted = _linear(at - np.array(back, np.intp), shape)
        first, stop = np.searchsorted(keys, wanted), np.searchsorted(keys, wanted, side="right")
        rows_of = np.repeat(np.arange(len(points)), stop - first)
        ends = np.cumsum(stop - first)
        nth = np.arange(len(rows_of)) + np.repeat(
            first - np.concatenate([[0], ends[:-1]]), stop - first
        )
        near, point = starts[order[nth]], points[rows_of]
        over = ((near <= point) & (point < near + size)).all(axis=1)
        counts += np.bincount(rows_of[over], minlength=len(points))
    parts = float((volumes[rows] / counts).sum())
    return round(parts / _DRAWN * len(starts))


def _linear(cells: IntArray, shape: IntArray) -> IntArray:
    number = np.zeros(len(cells), np.intp)
    for axis, n in enumerate(shape.tolist()):
        number = number * (n + 1) + np.clip(cells[:, axis], 0, n)
    return number
