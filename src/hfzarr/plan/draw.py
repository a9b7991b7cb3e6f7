"""Windows at drawn places: anywhere in an array, or where enough of it is foreground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError
from hfzarr.plan.axis import IntArray
from hfzarr.plan.mask import MASK_LIMIT, AxisCover, MaskGrid, cover
from hfzarr.plan.windows import WindowList

__all__ = [
    "Candidates",
    "candidates",
    "draw_in_mask",
    "draw_windows",
]

#: How many counts are held at once, beyond those of the mask itself.
_BLOCK = 2**20

_Bools = npt.NDArray[np.bool_]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """All places whose window has enough foreground, each with a number; none is held.

    Attributes
    ----------
    lengths
        Pixels of each axis.
    size
        Pixels of a window along each axis.
    runs
        Starts of windows along each axis.
    enough
        Whether a combination of runs qualifies, the runs of all axes but the last flattened into
        lines: shape (lines, runs of the last axis).
    inline
        Starts along the last axis that qualify in each line.
    ends
        Running number of places, up to the end of each line.
    """

    lengths: tuple[int, ...]
    size: tuple[int, ...]
    runs: tuple[AxisCover, ...]
    enough: _Bools
    inline: _Ints
    ends: _Ints

    def __len__(self) -> int:
        """Return the number of places."""
        return int(self.ends[-1])

    def starts(self, numbers: npt.ArrayLike) -> IntArray:
        """Return the first pixel of windows along each axis: shape (windows, axes).

        Each number from 0 up to the number of places is another place; their order means nothing.

        Raises
        ------
        IndexError
            A number is not one of a place.
        """
        wanted = np.asarray(numbers, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"wanted numbers of 0 to {len(self) - 1}")
        line = np.searchsorted(self.ends, wanted, side="right")
        before = np.concatenate([[0], self.ends])[line]
        lead, tail = np.divmod(wanted - before, self.inline[line])
        columns = [self._inline_starts(line, tail)]
        for runs in reversed(self.runs[:-1]):
            line, run = np.divmod(line, len(runs.start))
            lead, inside = np.divmod(lead, runs.count[run])
            columns.append(runs.start[run] + inside)
        return np.stack(columns[::-1], axis=1).astype(np.intp, copy=False)

    def _inline_starts(self, line: IntArray, tail: _Ints) -> _Ints:
        """Return the start along the last axis of the qualifying place ``tail`` of a line."""
        runs = self.runs[-1]
        starts = np.empty_like(tail)
        block = max(1, _BLOCK // len(runs.start))
        for low in range(0, len(tail), block):
            part = slice(low, low + block)
            reach = np.cumsum(self.enough[line[part]] * runs.count, axis=1)
            run = np.sum(reach <= tail[part, np.newaxis], axis=1)
            before = reach[np.arange(len(run)), run] - runs.count[run]
            starts[part] = runs.start[run] + tail[part] - before
        return starts


def draw_windows(
    n: int, lengths: Sequence[int], size: Sequence[int], *, rng: np.random.Generator
) -> WindowList:
    """Draw windows anywhere in an array, each place as likely as any other, with replacement.

    Parameters
    ----------
    n
        Number of windows. The first ones are the same whatever their number.
    lengths
        Pixels of each axis.
    size
        Pixels of a window along each axis.
    rng
        Where chance comes from.

    Raises
    ------
    TargetError
        ``n`` is not a positive integer, or a window does not fit into the array.

    Examples
    --------
    >>> windows = draw_windows(2, (100, 80), (32, 32), rng=np.random.default_rng(0))
    >>> windows.origins.tolist()
    [[58, 31], [35, 13]]
    """
    _check_number(n)
    places = _places(lengths, size)
    origins = rng.integers(0, places, size=(n, len(places)), dtype=np.int64)
    return WindowList(
        lengths=tuple(lengths), size=tuple(size), origins=origins.astype(np.intp, copy=False)
    )


def draw_in_mask(
    n: int,
    lengths: Sequence[int],
    size: Sequence[int],
    mask: MaskGrid,
    *,
    least: float,
    rng: np.random.Generator,
) -> WindowList:
    """Draw windows with enough foreground, each such place as likely, with replacement.

    Parameters
    ----------
    n
        Number of windows. The first ones are the same whatever their number.
    lengths
        Pixels of each axis.
    size
        Pixels of a window along each axis.
    mask
        Where the foreground is; `candidates` says how it is counted.
    least
        The part of a window that must be foreground, over 0 and up to 1.
    rng
        Where chance comes from.

    Raises
    ------
    TargetError
        As `candidates` does, or ``n`` is not a positive integer.

    Examples
    --------
    >>> from hfzarr.plan.mask import MaskAxis
    >>> mask = MaskGrid(foreground=np.arange(10) >= 6, axes=(MaskAxis(axis=0),))
    >>> windows = draw_in_mask(5, (10,), (4,), mask, least=0.5, rng=np.random.default_rng(0))
    >>> windows.origins[:, 0].tolist()
    [6, 5, 5, 4, 4]
    """
    _check_number(n)
    places = candidates(lengths, size, mask, least=least)
    numbers = rng.integers(0, len(places), size=n, dtype=np.int64)
    return WindowList(lengths=places.lengths, size=places.size, origins=places.starts(numbers))


def candidates(
    lengths: Sequence[int], size: Sequence[int], mask: MaskGrid, *, least: float
) -> Candidates:
    """Find all places in an array whose window has enough foreground.

    Counted are the mask pixels whose centres lie in the window, from half a pixel before the
    centre of its first pixel up to, but not including, half a pixel after that of its last. Where
    there is none along an axis, because the mask is coarser than the window, the mask pixel
    nearest to the window's centre stands for it. What the mask does not reach is background, as
    far as whole mask pixels fit into the array there.

    Memory is about 6 bytes for each mask pixel and for each place that windows are told apart by:
    every pixel for a mask of the array's resolution, fewer for a coarser one.

    Parameters
    ----------
    lengths
        Pixels of each axis.
    size
        Pixels of a window along each axis.
    mask
        Where the foreground is.
    least
        The part of a window that must be foreground, over 0 and up to 1.

    Raises
    ------
    TargetError
        ``least`` is out of range, a window does not fit into the array, no window has enough
        foreground, or there is too much to count.

    Examples
    --------
    >>> from hfzarr.plan.mask import MaskAxis
    >>> mask = MaskGrid(foreground=np.arange(10) >= 6, axes=(MaskAxis(axis=0),))
    >>> found = candidates((10,), (4,), mask, least=0.5)
    >>> len(found), found.starts(range(3))[:, 0].tolist()
    (3, [4, 5, 6])
    """
    if not 0 < least <= 1:
        raise TargetError(f"wanted a least foreground over 0 and up to 1, got {least}")
    places = _places(lengths, size)
    if math.prod(places) > np.iinfo(np.int64).max:
        raise TargetError(f"wanted fewer than 2**63 places for windows, got {math.prod(places)}")
    foreground, positions = mask.aligned(len(places))
    runs = tuple(
        cover(length, window, pixels, position)
        for length, window, pixels, position in zip(
            lengths, size, foreground.shape, positions, strict=True
        )
    )
    told_apart = math.prod(len(run.start) for run in runs)
    if told_apart > MASK_LIMIT:
        raise TargetError(
            f"wanted windows that a mask tells apart by up to {MASK_LIMIT} places, got "
            f"{told_apart}: give a coarser level of the mask"
        )
    enough, best = _enough(foreground, runs, least)
    inline = _rows_dot(enough, runs[-1].count)
    ends = np.cumsum(_products([run.count for run in runs[:-1]]) * inline)
    if ends[-1] == 0:
        raise TargetError(_too_little(tuple(size), least, best))
    return Candidates(
        lengths=tuple(lengths), size=tuple(size), runs=runs, enough=enough, inline=inline, ends=ends
    )


def _check_number(n: Any) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise TargetError(f"wanted a number of windows of at least 1, got {n!r}")


def _places(lengths: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    """Return in how many places a window fits along each axis."""
    if not lengths or len(lengths) != len(size):
        raise TargetError(f"wanted a size for each of {len(lengths)} axes, got {tuple(size)}")
    for axis, (length, window) in enumerate(zip(lengths, size, strict=True)):
        if not 1 <= window <= length:
            raise TargetError(
                f"wanted windows of 1 to {length} pixels along axis {axis}, got {window}: a drawn "
                "window lies inside the array, so choose a smaller size"
            )
    return tuple(length - window + 1 for length, window in zip(lengths, size, strict=True))


def _enough(foreground: _Bools, runs: Sequence[AxisCover], least: float) -> tuple[_Bools, float]:
    """Return which combinations of runs have enough foreground, and the largest part found."""
    counts: npt.NDArray[Any] = foreground
    most = 1  # no count of mask pixels exceeds it
    for axis, run in enumerate(runs[:-1]):
        most *= int((run.stop - run.first).max())
        counts = _sums(counts, run, axis, np.min_scalar_type(most))
    lead = _products([run.stop - run.first for run in runs[:-1]])
    last = runs[-1]
    widths = last.stop - last.first
    dtype = np.min_scalar_type(most * int(widths.max()))
    counts = counts.reshape(len(lead), foreground.shape[-1])
    enough = np.empty((len(lead), len(widths)), np.bool_)
    best = 0.0
    block = max(1, _BLOCK // max(counts.shape[1], len(widths)))
    for low in range(0, len(lead), block):
        part = slice(low, low + block)
        # A quotient of integers is rounded once, and rounding keeps the order: a window with a
        # third of foreground has at least 1/3, whatever float that is.
        parts = _sums(counts[part], last, 1, dtype) / (lead[part, np.newaxis] * widths)
        enough[part] = parts >= least
        best = max(best, float(parts.max()))
    return enough, best


def _sums(
    counts: npt.NDArray[Any], runs: AxisCover, axis: int, dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Sum counts along an axis over the mask pixels of each run.

    The data type must hold each sum. The running total may overflow it: the difference of two
    unsigned totals is right all the same, and small types are what saves memory here.
    """
    pixels = counts.shape[axis]
    shape = [n + (i == axis) for i, n in enumerate(counts.shape)]
    totals = np.zeros(shape, dtype)
    tail = tuple(slice(int(i == axis), None) for i in range(counts.ndim))
    np.cumsum(counts, axis=axis, dtype=dtype, out=totals[tail])
    sums = totals.take(np.clip(runs.stop, 0, pixels), axis=axis)
    sums -= totals.take(np.clip(runs.first, 0, pixels), axis=axis)
    return sums


def _products(factors: Sequence[_Ints]) -> _Ints:
    """Return the products of all combinations, the last factor's fastest."""
    products = _ints(1)
    for values in factors:
        products = np.multiply.outer(products, values).reshape(-1)
    return products


def _rows_dot(rows: _Bools, weights: _Ints) -> _Ints:
    """Return the sum of the weights where a row is True, without a wide copy of all rows."""
    block = max(1, _BLOCK // rows.shape[1])
    parts = [rows[low : low + block] @ weights for low in range(0, len(rows), block)]
    return np.concatenate(parts)


def _ints(value: int) -> _Ints:
    return np.array([value], np.int64)


def _too_little(size: tuple[int, ...], least: float, best: float) -> str:
    window = " × ".join(str(pixels) for pixels in size)
    wanted = f"wanted windows of {window} pixels with at least {least!r} of foreground"
    if best == 0:
        return f"{wanted}, but the mask has none where windows fit: check the mask"
    return f"{wanted}, got {best!r} at best: lower `least`, or choose smaller windows"
