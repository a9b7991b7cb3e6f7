"""Windows laid back over the array they were cut from: which of them make up each block of it.

Positions are pixels. Windows are half-open: one of size n that starts at s holds s to s + n - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hfzarr.plan.axis import IntArray
from hfzarr.plan.windows import WindowList

__all__ = [
    "Mosaic",
    "block_lengths",
    "cut",
    "forms_grid",
    "hann",
    "nearest_spans",
    "uncovered",
]

#: Above this many cells, pixels that no window reaches are not counted.
_MAX_CELLS = 2**22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mosaic:
    """An array in blocks, and windows over it that come in parts.

    Attributes
    ----------
    windows
        The windows, in the order in which the parts hold them.
    blocks
        Length of each block along each axis.
    parts
        Number of windows in each part.

    Examples
    --------
    >>> windows = WindowList(lengths=(6,), size=(3,), origins=np.array([[0], [1], [3]]))
    >>> Mosaic(windows=windows, blocks=((2, 4),), parts=(1, 2)).feeds()
    {(0,): [0, 1], (1,): [0, 1]}
    """

    windows: WindowList
    blocks: tuple[tuple[int, ...], ...]
    parts: tuple[int, ...]

    @property
    def edges(self) -> tuple[IntArray, ...]:
        """First pixel of each block along each axis, and the end of the axis."""
        return tuple(np.cumsum([0, *lengths]) for lengths in self.blocks)

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First window of each part, and one past its last."""
        stops = np.cumsum(self.parts).tolist()
        return list(zip([0, *stops[:-1]], stops, strict=True))

    def feeds(self) -> dict[tuple[int, ...], list[int]]:
        """Return the parts with a window that overlaps a block, ascending, by the block's place.

        Blocks that no window reaches are left out.
        """
        first, last = self._reach()
        feeds: dict[tuple[int, ...], list[int]] = {}
        for part, (begin, end) in enumerate(self.bounds):
            for place in _places(first[begin:end], last[begin:end]):
                feeds.setdefault(place, []).append(part)
        return feeds

    def _reach(self) -> tuple[IntArray, IntArray]:
        """Return the first and the last block of each window: shapes (windows, axes)."""
        windows, first, last = self.windows, [], []
        for axis, edges in enumerate(self.edges):
            start = windows.origins[:, axis]
            stop = np.minimum(start + windows.size[axis], windows.lengths[axis])
            # The last edge that is not beyond: blocks of length 0 share an edge with the next.
            first.append(np.searchsorted(edges, np.maximum(start, 0), side="right") - 1)
            last.append(np.searchsorted(edges, stop, side="left") - 1)
        return np.stack(first, axis=1), np.stack(last, axis=1)


def _places(first: IntArray, last: IntArray) -> list[tuple[int, ...]]:
    """Return the places that lie in any of the boxes, in the order of C."""
    if not len(first):
        return []
    origin = first.min(axis=0)
    shape = tuple((last.max(axis=0) - origin + 1).tolist())
    # Many windows lie in the same blocks: each such box is painted once.
    low = np.ravel_multi_index(tuple((first - origin).T), shape)
    high = np.ravel_multi_index(tuple((last - origin).T), shape)
    _, once = np.unique(low * math.prod(shape) + high, return_index=True)
    touched = np.zeros(shape, dtype=bool)
    boxes = zip((first - origin)[once].tolist(), (last - origin + 1)[once].tolist(), strict=True)
    for lows, highs in boxes:
        touched[tuple(map(slice, lows, highs))] = True
    return [tuple(place) for place in (np.argwhere(touched) + origin).tolist()]


def nearest_spans(starts: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Return where along an axis each window's centre is the nearest of those that cover a pixel.

    Parameters
    ----------
    starts
        First pixel of each window, ascending, all different.
    size
        Pixels of a window.

    Returns
    -------
    first, stop
        The span of each window; spans do not overlap, and together they are all that the windows
        cover. Midway between two centres, the lower window has the pixel.

    Examples
    --------
    >>> first, stop = nearest_spans(np.array([0, 3, 4]), 4)
    >>> first.tolist(), stop.tolist()
    ([0, 4, 6], [4, 6, 8])
    """
    # Pixel x is as near to the lower centre if 2x <= lower + upper + size - 1.
    cuts = (starts[:-1] + starts[1:] + size - 1) // 2 + 1
    first, stop = starts.copy(), starts + size
    first[1:] = np.maximum(first[1:], cuts)
    stop[:-1] = np.minimum(stop[:-1], cuts)
    return first, stop


def hann(size: int) -> npt.NDArray[np.float64]:
    """Return the Hann window, sampled at the middle of each pixel.

    Pixel i of n has the weight ``(1 - cos(2 pi (i + 1/2) / n)) / 2``: the periodic Hann window
    of Harris, *On the use of windows for harmonic analysis with the discrete Fourier transform*
    (1978), moved by half a pixel. So it is symmetric and nowhere zero, and windows half their
    size apart still add up to 1. Pielawski and Wählby, *Introducing Hann windows for reducing
    edge-effects in patch-based image segmentation* (2020), blend patches with Hann windows.

    Examples
    --------
    >>> hann(4).round(3).tolist()
    [0.146, 0.854, 0.854, 0.146]
    """
    return 0.5 * (1.0 - np.cos(2.0 * np.pi * (np.arange(size) + 0.5) / size))


def forms_grid(windows: WindowList) -> bool:
    """Return whether the windows are all combinations of some starts along each axis, each once."""
    places, count = [], 1
    for starts in windows.origins.T:
        distinct, place = np.unique(starts, return_inverse=True)
        places.append(place.reshape(-1))
        count *= len(distinct)
    if count != len(windows):
        return False
    counts = tuple(int(place.max()) + 1 for place in places)
    return len(np.unique(np.ravel_multi_index(tuple(places), counts))) == count


def uncovered(windows: WindowList) -> int | None:
    """Return how many pixels no window reaches, or None where counting them takes too long.

    Examples
    --------
    >>> uncovered(WindowList(lengths=(4, 5), size=(2, 2), origins=np.array([[0, 0], [2, 3]])))
    12
    """
    lengths = windows.lengths
    if forms_grid(windows):
        sides = zip(windows.origins.T, windows.size, lengths, strict=True)
        return math.prod(lengths) - math.prod(_covered(*side) for side in sides)
    first = np.maximum(windows.origins, 0)
    stop = np.minimum(windows.origins + np.asarray(windows.size), np.asarray(lengths))
    edges = [
        np.unique(np.concatenate([[0, length], first[:, axis], stop[:, axis]]))
        for axis, length in enumerate(lengths)
    ]
    if math.prod(map(len, edges)) > _MAX_CELLS:
        return None
    empty = (_depth(edges, first, stop) == 0).astype(np.int64)
    for marks in reversed(edges):
        empty = empty @ np.append(np.diff(marks), 0)
    return int(empty)


def _covered(starts: IntArray, size: int, length: int) -> int:
    """Return how many pixels of an axis lie in a window."""
    distinct = np.unique(starts)
    stop = np.minimum(np.append(distinct[1:], length), np.minimum(distinct + size, length))
    return int((stop - np.maximum(distinct, 0)).clip(min=0).sum())


def _depth(edges: Sequence[IntArray], first: IntArray, stop: IntArray) -> IntArray:
    """Return how many boxes cover each cell between the edges; the last one along an axis is void.

    The boxes' corners are marked with alternating signs: summed along every axis, they give the
    boxes.
    """
    marks = np.zeros([len(marks) for marks in edges], dtype=np.intp)
    low = [np.searchsorted(found, first[:, axis]) for axis, found in enumerate(edges)]
    high = [np.searchsorted(found, stop[:, axis]) for axis, found in enumerate(edges)]
    for corner in np.ndindex(*[2] * len(edges)):
        place = tuple(high[a] if end else low[a] for a, end in enumerate(corner))
        np.add.at(marks, place, (-1) ** sum(corner))
    for axis in range(len(edges)):
        marks = marks.cumsum(axis=axis)
    return marks


def cut(length: int, step: int) -> tuple[int, ...]:
    """Return the lengths of an axis's blocks, all ``step`` but the last.

    Examples
    --------
    >>> cut(10, 4), cut(0, 4)
    ((4, 4, 2), (0,))
    """
    whole, rest = divmod(length, step)
    return (step,) * whole + ((rest,) if rest or not whole else ())


def block_lengths(
    lengths: Sequence[int],
    known: Sequence[int | tuple[int, ...] | None],
    *,
    pixels: int,
    limit: int,
) -> tuple[tuple[int, ...], ...]:
    """Return the lengths of all blocks along each axis.

    Parameters
    ----------
    lengths
        Pixels of each axis.
    known
        For each axis the length of a block, or those of all its blocks, or None for any.
    pixels
        About how many a block should have, if there is a choice.
    limit
        Above this number, blocks of known length are joined to whole multiples of it; not if an
        axis has all its blocks given.

    Examples
    --------
    >>> block_lengths((10, 6), (4, None), pixels=12, limit=100)
    ((4, 4, 2), (3, 3))
    """
    held = math.prod(max(n) if isinstance(n, tuple) else n or 1 for n in known)
    open_axes = [axis for axis, n in enumerate(known) if n is None]
    sides = _near_cube([lengths[axis] for axis in open_axes], pixels // held)
    chosen = dict(zip(open_axes, sides, strict=True))
    steps = [chosen[axis] if n is None else n for axis, n in enumerate(known)]
    plain = [n for n in steps if not isinstance(n, tuple)]
    if len(plain) == len(steps):
        steps = list(_joined(lengths, plain, limit))
    return tuple(
        n if isinstance(n, tuple) else cut(length, n)
        for n, length in zip(steps, lengths, strict=True)
    )


def _joined(lengths: Sequence[int], steps: Sequence[int], limit: int) -> list[int]:
    """Return whole multiples of the steps that cut the axes into no more than ``limit`` blocks."""
    joined = list(steps)
    while True:
        counts = [-(-n // step) for n, step in zip(lengths, joined, strict=True)]
        if math.prod(counts) <= max(limit, 1):
            return joined
        # Along the axis where blocks are shortest, so that they become cubes.
        axis = min((a for a, n in enumerate(counts) if n > 1), key=lambda a: joined[a])
        joined[axis] *= 2


def _near_cube(lengths: Sequence[int], pixels: int) -> list[int]:
    """Return the sides of a block of about that many pixels, as equal as the axes allow."""
    sides = [0] * len(lengths)
    left, axes = max(pixels, 1), len(lengths)
    for axis in sorted(range(axes), key=lambda a: lengths[a]):
        sides[axis] = max(1, min(lengths[axis], round(left ** (1 / axes))))
        left, axes = max(1, left // sides[axis]), axes - 1
    return sides
