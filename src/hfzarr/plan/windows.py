"""Windows of one size over an array: how many there are, and where each begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError
from hfzarr.plan.axis import IntArray

__all__ = ["AxisWindows", "Edge", "WindowGrid", "WindowList", "Windows"]

#: What becomes of the pixels that whole strides do not reach.
Edge = Literal["drop", "shift", "pad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisWindows:
    """Windows along one axis, evenly spaced.

    Attributes
    ----------
    length
        Pixels of the axis.
    size
        Pixels of a window.
    stride
        Pixels from the start of one window to the start of the next.
    edge
        ``"drop"`` leaves out the pixels that whole strides do not reach, ``"shift"`` moves a last
        window back until it ends with the axis, ``"pad"`` lets it stick out.

    Raises
    ------
    TargetError
        A number is below 1, or the axis is shorter than a window that may not stick out.

    Examples
    --------
    >>> windows = AxisWindows(length=10, size=4, stride=3, edge="shift")
    >>> windows.starts(range(windows.count)).tolist()
    [0, 3, 6]
    >>> AxisWindows(length=11, size=4, stride=3, edge="shift").starts([0, 1, 2, 3]).tolist()
    [0, 3, 6, 7]
    >>> AxisWindows(length=11, size=4, stride=3, edge="drop").left_out
    1
    """

    length: int
    size: int
    stride: int
    edge: Edge = "drop"

    def __post_init__(self) -> None:
        if self.edge not in ("drop", "shift", "pad"):
            raise TargetError(f"edge is 'drop', 'shift' or 'pad', not {self.edge!r}")
        for name in ("length", "size", "stride"):
            if getattr(self, name) < 1:
                raise TargetError(f"wanted a {name} of at least 1 pixel, got {getattr(self, name)}")
        if self.size > self.length and self.edge != "pad":
            raise TargetError(
                f"windows of {self.size} pixels do not fit into {self.length}: make them smaller, "
                "or let them stick out with edge='pad'"
            )

    @property
    def count(self) -> int:
        """Number of windows.

        With length n, size s and stride t: ``(n - s) // t + 1`` for ``"drop"``, and
        ``ceil((n - s) / t) + 1``, at least 1, for the others; but a padded window starts in the
        array, so there are no more than ``ceil(n / t)`` of them.
        """
        beyond = self.length - self.size
        if self.edge == "drop":
            return beyond // self.stride + 1
        count = max(0, -(-beyond // self.stride)) + 1
        return min(count, -(-self.length // self.stride)) if self.edge == "pad" else count

    @property
    def left_out(self) -> int:
        """Pixels at the end that no window reaches."""
        return max(0, self.length - self.stop)

    @property
    def padding(self) -> int:
        """Pixels by which the last window sticks out."""
        return max(0, self.stop - self.length)

    @property
    def stop(self) -> int:
        """One past the last pixel of the last window; it may lie beyond the axis."""
        return self.start(self.count - 1) + self.size

    def start(self, number: int) -> int:
        """Return the first pixel of a window."""
        first = number * self.stride
        return min(first, self.length - self.size) if self.edge == "shift" else first

    def starts(self, numbers: npt.ArrayLike) -> IntArray:
        """Return the first pixel of many windows."""
        first = np.asarray(numbers, dtype=np.intp) * self.stride
        return np.minimum(first, self.length - self.size) if self.edge == "shift" else first


@runtime_checkable
class Windows(Protocol):
    """Numbered windows of one size over an array: an index becomes a place."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Pixels of each axis."""

    @property
    def size(self) -> tuple[int, ...]:
        """Pixels of a window along each axis."""

    def __len__(self) -> int:
        """Return the number of windows."""

    def starts(self, numbers: npt.ArrayLike) -> IntArray:
        """Return the first pixel of windows along each axis: shape (windows, axes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGrid:
    """All windows of a regular grid; none is held.

    Windows are numbered tile by tile, and within a tile with the last axis fastest. With one tile,
    that is the order of C.

    Attributes
    ----------
    axes
        The windows along each axis.
    tile
        Windows in a tile along each axis. What is read for a tile can be held in memory.

    Examples
    --------
    >>> axis = AxisWindows(length=6, size=2, stride=2)
    >>> grid = WindowGrid(axes=(axis, axis), tile=(3, 2))
    >>> len(grid), grid.starts([0, 1, 2, 6, 7]).tolist()
    (9, [[0, 0], [0, 2], [2, 0], [0, 4], [2, 4]])
    """

    axes: tuple[AxisWindows, ...]
    tile: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.tile:
            object.__setattr__(self, "tile", self.counts)
        if len(self.tile) != len(self.axes) or min(self.tile, default=1) < 1:
            raise TargetError(
                f"wanted a tile of at least one window along each of {len(self.axes)} axes, got "
                f"{self.tile}"
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Windows along each axis."""
        return tuple(axis.count for axis in self.axes)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Pixels of each axis."""
        return tuple(axis.length for axis in self.axes)

    @property
    def size(self) -> tuple[int, ...]:
        """Pixels of a window along each axis."""
        return tuple(axis.size for axis in self.axes)

    def __len__(self) -> int:
        """Return the number of windows."""
        return math.prod(self.counts)

    def places(self, numbers: npt.ArrayLike) -> IntArray:
        """Return each window's place in the grid: shape (windows, axes).

        Raises
        ------
        IndexError
            A number is not one of a window.
        """
        rest = np.array(numbers, dtype=np.intp).reshape(-1)
        if rest.size and (rest.min() < 0 or rest.max() >= len(self)):
            raise IndexError(f"wanted window numbers of 0 to {len(self) - 1}")
        counts = self.counts
        corners, heights = [], []
        before: IntArray | int = 1
        for axis, (tile, count) in enumerate(zip(self.tile, counts, strict=True)):
            unit = before * tile * math.prod(counts[axis + 1 :])
            number = rest // unit
            rest = rest - number * unit
            corners.append(number * tile)
            heights.append(np.minimum(tile, count - number * tile))
            before = before * heights[-1]
        places = np.empty((len(rest), len(counts)), np.intp)
        for axis in reversed(range(len(counts))):
            rest, inside = np.divmod(rest, heights[axis])
            places[:, axis] = corners[axis] + inside
        return places

    def starts(self, numbers: npt.ArrayLike) -> IntArray:
        """Return the first pixel of windows along each axis: shape (windows, axes)."""
        places = self.places(numbers)
        columns = [axis.starts(places[:, i]) for i, axis in enumerate(self.axes)]
        return np.stack(columns, axis=1) if columns else places


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowList:
    """Windows at places of their own, such as drawn ones.

    Attributes
    ----------
    lengths
        Pixels of each axis.
    size
        Pixels of a window along each axis.
    origins
        First pixel of each window along each axis: shape (windows, axes).

    Raises
    ------
    TargetError
        The origins are not of that shape.
    """

    lengths: tuple[int, ...]
    size: tuple[int, ...]
    origins: IntArray

    def __post_init__(self) -> None:
        if self.origins.ndim != 2 or self.origins.shape[1] != len(self.size):
            raise TargetError(
                f"wanted origins of shape (windows, {len(self.size)}), got {self.origins.shape}"
            )

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.origins)

    def starts(self, numbers: npt.ArrayLike) -> IntArray:
        """Return the first pixel of windows along each axis: shape (windows, axes)."""
        return self.origins[np.asarray(numbers, dtype=np.intp).reshape(-1)]
