"""Where an axis is cut into chunks, or into blocks of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError
from hfzarr.plan.axis import IntArray

__all__ = ["Cuts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """An axis cut into numbered intervals.

    Attributes
    ----------
    start
        The first pixel that matters.
    stop
        One past the last pixel that matters.
    step
        Length of every interval; 0 where `bounds` tells.
    origin
        Where interval 0 begins; before `start` where an array begins inside a chunk.
    bounds
        Where intervals of any length begin, and where the last one ends.

    Raises
    ------
    TargetError
        There is neither a step nor bounds.

    Examples
    --------
    >>> cuts = Cuts(stop=10, step=4, origin=-1)
    >>> cuts.count, [cuts.interval(k) for k in range(cuts.count)]
    (3, [(0, 3), (3, 7), (7, 10)])
    >>> cuts.numbers([0, 3, 9]).tolist()
    [0, 1, 2]
    """

    stop: int
    step: int = 0
    start: int = 0
    origin: int = 0
    bounds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.step < 1 and len(self.bounds) < 2:
            raise TargetError(f"wanted chunks of at least one pixel, got {self.step}")

    @classmethod
    def of(cls, chunks: Sequence[int]) -> Cuts:
        """Return the cuts of an axis whose chunks have the given lengths.

        Examples
        --------
        >>> Cuts.of((4, 4, 2)) == Cuts(stop=10, step=4)
        True
        >>> Cuts.of((4, 2, 4)).bounds
        (0, 4, 6, 10)
        """
        bounds = np.concatenate([[0], np.cumsum(chunks, dtype=np.intp)])
        stop = int(bounds[-1])
        even = len(set(chunks[:-1])) <= 1 and chunks[-1] <= chunks[0]
        if even and chunks[0] > 0:
            return cls(stop=stop, step=int(chunks[0]))
        return cls(stop=stop, bounds=tuple(bounds.tolist()))

    @property
    def count(self) -> int:
        """One more than the number of the last interval."""
        if self.bounds:
            return len(self.bounds) - 1
        return self.number(self.stop - 1) + 1 if self.stop > self.start else 0

    @property
    def largest(self) -> int:
        """Length of the longest interval."""
        if self.bounds:
            return int(np.diff(self.bounds).max())
        return min(self.step, self.stop - self.start)

    def number(self, pixel: int) -> int:
        """Return the interval in which a pixel lies."""
        if self.bounds:
            return int(np.searchsorted(self.bounds, pixel, side="right")) - 1
        return (pixel - self.origin) // self.step

    def numbers(self, pixels: npt.ArrayLike) -> IntArray:
        """Return the intervals in which pixels lie."""
        places = np.asarray(pixels, dtype=np.intp)
        if self.bounds:
            return np.searchsorted(self.bounds, places, side="right") - 1
        return (places - self.origin) // self.step

    def interval(self, number: int) -> tuple[int, int]:
        """Return where an interval begins and ends, no further than `start` and `stop`."""
        if self.bounds:
            return self.bounds[number], self.bounds[number + 1]
        first = self.origin + number * self.step
        return max(first, self.start), min(first + self.step, self.stop)

    def covered(self, first: int, stop: int) -> range:
        """Return the numbers of the intervals that some pixels touch.

        Parameters
        ----------
        first
            First pixel.
        stop
            One past the last pixel; parts outside the axis touch nothing.
        """
        first, stop = max(first, self.start), min(stop, self.stop)
        if first >= stop:
            return range(0)
        return range(self.number(first), self.number(stop - 1) + 1)

    def joined(self, chunks: range, per_block: int) -> Cuts:
        """Return some of the intervals, joined into blocks of ``per_block``.

        Examples
        --------
        >>> blocks = Cuts(stop=100, step=10).joined(range(3, 8), 2)
        >>> [blocks.interval(k) for k in range(blocks.count)]
        [(30, 50), (50, 70), (70, 80)]
        """
        start, stop = self.interval(chunks[0])[0], self.interval(chunks[-1])[1]
        if self.bounds:
            bounds = [self.bounds[k] for k in range(chunks.start, chunks.stop, per_block)]
            return Cuts(start=start, stop=stop, bounds=(*bounds, stop))
        origin = self.origin + chunks[0] * self.step
        return Cuts(start=start, stop=stop, step=per_block * self.step, origin=origin)
