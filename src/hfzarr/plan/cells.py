"""Windows divided by the cell, a box of pixels, in which they start."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError
from hfzarr.plan.axis import IntArray, group_rows
from hfzarr.plan.windows import AxisWindows, WindowGrid, Windows

__all__ = ["AxisCells", "Cells", "GridCells", "ListCells", "cells_of", "digest_of"]


class Cells(Protocol):
    """Numbered cells, none of them empty, and the windows that start in each."""

    def __len__(self) -> int: ...

    def sizes(self, cells: npt.ArrayLike) -> IntArray:
        """Return how many windows start in each of some cells."""

    def members(self, cell: int, start: int = 0, stop: int | None = None) -> IntArray:
        """Return the numbers of windows that start in a cell, ascending: all, or some of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisCells:
    """Cells along one axis, numbered without those in which no window starts.

    Attributes
    ----------
    windows
        The windows along the axis.
    cell
        Pixels of a cell.

    Examples
    --------
    >>> cells = AxisCells(windows=AxisWindows(length=10, size=2, stride=2), cell=4)
    >>> cells.count, cells.firsts([0, 1, 2, 3]).tolist()
    (3, [0, 2, 4, 5])
    """

    windows: AxisWindows
    cell: int

    @property
    def count(self) -> int:
        """Number of cells in which a window starts."""
        windows = self.windows
        last = windows.count - 1
        if windows.stride <= self.cell:
            return windows.start(last) // self.cell + 1
        # Every stride leads into another cell; only a window moved back may share one.
        if last and windows.start(last) // self.cell == windows.start(last - 1) // self.cell:
            return last
        return last + 1

    def firsts(self, cells: npt.ArrayLike) -> IntArray:
        """Return the first window of each cell; of the cell after the last, the window after."""
        numbers = np.asarray(cells, dtype=np.intp)
        if self.windows.stride <= self.cell:
            first = -(-numbers * self.cell // self.windows.stride)
        else:
            first = numbers
        return np.where(numbers < self.count, first, self.windows.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridCells:
    """The cells of a regular grid of windows, by arithmetic along each axis.

    Cells are numbered with the last axis fastest.

    Attributes
    ----------
    windows
        The windows, numbered with the last axis fastest.
    axes
        The cells along each axis.
    """

    windows: WindowGrid
    axes: tuple[AxisCells, ...]

    def __len__(self) -> int:
        """Return the number of cells."""
        return math.prod(axis.count for axis in self.axes)

    def sizes(self, cells: npt.ArrayLike) -> IntArray:
        """Return how many windows start in each of some cells."""
        rest = np.asarray(cells, dtype=np.intp)
        sizes = np.ones(rest.shape, np.intp)
        for axis in reversed(self.axes):
            rest, place = np.divmod(rest, axis.count)
            sizes *= axis.firsts(place + 1) - axis.firsts(place)
        return sizes

    def members(self, cell: int, start: int = 0, stop: int | None = None) -> IntArray:
        """Return the numbers of windows that start in a cell, ascending: all, or some of them."""
        # Of a range, a cell of any size is cut without being listed.
        chosen = range(int(self.sizes(cell)))[start:stop]
        rest = np.arange(chosen.start, chosen.stop, dtype=np.intp)
        numbers, unit = np.zeros(len(rest), np.intp), 1
        for axis in reversed(self.axes):
            cell, place = divmod(cell, axis.count)
            first, after = axis.firsts([place, place + 1]).tolist()
            rest, along = np.divmod(rest, after - first)
            numbers += (first + along) * unit
            unit *= axis.windows.count
        return numbers


class ListCells:
    """The cells of windows at places of their own, by sorting.

    Parameters
    ----------
    windows
        The windows.
    cell
        Pixels of a cell along each axis.
    """

    def __init__(self, windows: Windows, cell: Sequence[int]) -> None:
        starts = windows.starts(np.arange(len(windows)))
        self._order, self._ends = group_rows(starts // np.asarray(cell, dtype=np.intp))

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self._ends)

    def sizes(self, cells: npt.ArrayLike) -> IntArray:
        """Return how many windows start in each of some cells."""
        first, stop = self._ends[np.asarray(cells, dtype=np.intp)].T
        sizes: IntArray = stop - first
        return sizes

    def members(self, cell: int, start: int = 0, stop: int | None = None) -> IntArray:
        """Return the numbers of windows that start in a cell, ascending: all, or some of them."""
        first, after = self._ends[cell].tolist()
        return self._order[first:after][start:stop]


def cells_of(windows: Windows, cell: Sequence[int]) -> Cells:
    """Divide windows by the cell in which they start.

    Parameters
    ----------
    windows
        The windows.
    cell
        Pixels of a cell along each axis, such as a shard's.

    Raises
    ------
    TargetError
        There is not one number of at least 1 for each axis.

    Examples
    --------
    >>> axis = AxisWindows(length=6, size=2, stride=2)
    >>> cells = cells_of(WindowGrid(axes=(axis, axis)), (4, 4))
    >>> [cells.members(k).tolist() for k in range(len(cells))]
    [[0, 1, 3, 4], [2, 5], [6, 7], [8]]
    """
    if len(cell) != len(windows.size) or min(cell, default=1) < 1:
        raise TargetError(
            f"wanted a cell of at least one pixel along each of {len(windows.size)} axes, got "
            f"{tuple(cell)}"
        )
    # A grid numbered by tiles is one whose numbers do not follow from its axes alone.
    if isinstance(windows, WindowGrid) and _is_c_order(windows):
        axes = tuple(AxisCells(windows=w, cell=n) for w, n in zip(windows.axes, cell, strict=True))
        return GridCells(windows=windows, axes=axes)
    return ListCells(windows, cell)


def digest_of(windows: Windows, cell: Sequence[int]) -> str:
    """Return a short text that differs where windows or cells do."""
    told: list[Any] = [windows.lengths, windows.size, list(cell)]
    if isinstance(windows, WindowGrid):
        told += [windows.tile, [(axis.stride, axis.edge) for axis in windows.axes]]
    else:
        starts = windows.starts(np.arange(len(windows)))
        told.append(hashlib.sha256(starts.astype("<i8").tobytes()).hexdigest())
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _is_c_order(windows: WindowGrid) -> bool:
    return all(tile >= n for tile, n in zip(windows.tile, windows.counts, strict=True))
