"""The order of an epoch: which windows come in which batch, for every reader."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from hfzarr.errors import TargetError
from hfzarr.plan.axis import IntArray
from hfzarr.plan.cells import Cells

__all__ = [
    "MAX_TOGETHER",
    "EpochOrder",
    "EpochSpec",
    "Share",
    "cells_that_fit",
    "pieces",
    "whole_number",
]

#: Windows that are permuted together at most: lists of them are to stay small beside pixels.
MAX_TOGETHER = 1 << 18
# Cells by which the others are judged.
_SAMPLES = 16
# The first word of a key says what is permuted with it.
_CELLS, _WINDOWS = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSpec:
    """How the windows of an epoch are divided over batches and ranks.

    Every rank gets the same number of batches.

    Attributes
    ----------
    windows
        Number of windows.
    batch_size
        Windows in a batch; no batch has more.
    shuffle
        Whether the order is drawn anew for each epoch. Otherwise windows come cell by cell.
    seed
        What the order depends on besides the epoch's number: an integer of at least 0.
    rank
        Number of this process among those that share an epoch.
    world_size
        Number of processes that share an epoch.
    drop_last
        Whether every batch is full and what is left over is left out. Otherwise every window
        comes once, and sizes of batches differ by at most one on a rank.

    Raises
    ------
    TargetError
        A number is out of its range, or there are too few windows.

    Examples
    --------
    >>> spec = EpochSpec(windows=11, batch_size=4, world_size=2)
    >>> spec.batches, [spec.share(worker=0).size(b) for b in range(2)], spec.left_out
    (2, [3, 3], 0)
    >>> spec = EpochSpec(windows=11, batch_size=4, world_size=2, drop_last=True)
    >>> spec.batches, spec.share(worker=0).size(0), spec.left_out
    (1, 4, 3)
    """

    windows: int
    batch_size: int
    shuffle: bool = True
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        lowest = {"windows": 1, "batch_size": 1, "world_size": 1, "rank": 0, "seed": 0}
        for name, least in lowest.items():
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.rank >= self.world_size:
            raise TargetError(
                f"wanted a rank below the world size of {self.world_size}, got {self.rank}: "
                "ranks count from 0"
            )
        fewest, most = self.windows // self.world_size, -(-self.windows // self.world_size)
        if not fewest:
            raise TargetError(
                f"there are {self.windows} windows for {self.world_size} ranks: take more "
                "windows or fewer ranks"
            )
        if self.drop_last and fewest < self.batch_size:
            raise TargetError(
                f"there are {fewest} windows for a rank, and no full batch of {self.batch_size}: "
                "take smaller batches, or drop_last=False"
            )
        if not self.drop_last and -(-most // self.batch_size) > fewest:
            raise TargetError(
                f"{self.windows} windows in batches of {self.batch_size} do not make equally many "
                f"on {self.world_size} ranks: leave the last ones out with drop_last=True"
            )

    @property
    def batches(self) -> int:
        """Batches of an epoch on each rank."""
        if self.drop_last:
            return self.windows // self.world_size // self.batch_size
        return -(-self.windows // self.world_size // self.batch_size)

    @property
    def left_out(self) -> int:
        """Windows that an epoch leaves out, over all ranks."""
        full = self.batches * self.batch_size * self.world_size
        return self.windows - full if self.drop_last else 0

    def share(self, *, worker: int = 0, workers: int = 1) -> Share:
        """Return what one of several workers of this rank makes: every ``workers``-th batch."""
        every, extra = divmod(self.windows, self.world_size)
        start = self.rank * every + min(self.rank, extra)
        count = every + (self.rank < extra)
        base, larger = divmod(count, self.batches)
        spare = 0
        if self.drop_last:
            base, larger = self.batch_size, 0
            spare = count - self.batches * base
        shares = [_dealt(self.batches, larger, k, workers) for k in range(worker + 1)]
        lengths = [batches * base + more for batches, more in shares]
        # What is left over is drawn from the windows of the first worker, who has a batch surely.
        lengths[0] += spare
        stop = start + sum(lengths)
        batches, more = shares[-1]
        return Share(start=stop - lengths[-1], stop=stop, batches=batches, base=base, larger=more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One reader's run of the epoch's order, and the batches that it becomes.

    Attributes
    ----------
    start
        Position of its first window in the epoch's order.
    stop
        Position after its last window, those left out included.
    batches
        Number of batches.
    base
        Windows in a batch.
    larger
        Leading batches that have one window more.
    """

    start: int
    stop: int
    batches: int
    base: int
    larger: int

    def size(self, batch: int) -> int:
        """Return how many windows a batch has."""
        return self.base + (batch < self.larger)

    def offset(self, batch: int) -> int:
        """Return how many windows come before a batch; of all batches, for the one after them."""
        return batch * self.base + min(batch, self.larger)


class EpochOrder:
    """All windows in the order in which an epoch reads their cells.

    Parameters
    ----------
    cells
        The windows by cell.
    seed, epoch
        What the order depends on.
    shuffle
        Whether cells and windows are permuted.

    Examples
    --------
    >>> from hfzarr.plan.cells import cells_of
    >>> from hfzarr.plan.windows import AxisWindows, WindowGrid
    >>> grid = WindowGrid(axes=(AxisWindows(length=6, size=1, stride=1),))
    >>> order = EpochOrder(cells_of(grid, (2,)), seed=0, epoch=0, shuffle=True)
    >>> order.numbers(0, 6).tolist(), order.drawn(0, 6).tolist()
    ([2, 3, 0, 1, 4, 5], [4, 3, 1, 2, 5, 0])
    """

    def __init__(self, cells: Cells, *, seed: int, epoch: int, shuffle: bool) -> None:
        self._cells = cells
        self._key = (seed, epoch)
        self._shuffle = shuffle
        n = len(cells)
        self._order = _permutation(n, _CELLS, *self._key) if shuffle else np.arange(n)
        self._ends = np.concatenate([[0], np.cumsum(cells.sizes(self._order))])

    def numbers(self, start: int, stop: int) -> IntArray:
        """Return the windows at some positions, cell by cell."""
        first, last = self._cell_at(start), self._cell_at(stop - 1)
        parts = []
        for place in range(first, last + 1):
            low, high = self._ends[place : place + 2].tolist()
            cell = int(self._order[place])
            parts.append(self._cells.members(cell, max(start - low, 0), min(stop, high) - low))
        return np.concatenate(parts)

    def drawn(self, start: int, stop: int) -> IntArray:
        """Return the windows at some positions, permuted if the epoch is."""
        numbers = self.numbers(start, stop)
        if not self._shuffle:
            return numbers
        return numbers[_permutation(len(numbers), _WINDOWS, *self._key, start)]

    def runs(self, start: int, stop: int, *, cells: int, at: int) -> Iterator[tuple[int, int]]:
        """Yield the positions of so many cells after one another.

        Parameters
        ----------
        start, stop
            Positions that are divided; the first run begins at the first.
        cells
            Cells in a run.
        at
            Runs that stop before this position are left out.
        """
        first = self._cell_at(start)
        skipped = (self._cell_at(at) - first) // cells
        for cell in range(first + skipped * cells, len(self._order), cells):
            low = max(int(self._ends[cell]), start)
            high = min(int(self._ends[min(cell + cells, len(self._order))]), stop)
            if low >= high:
                return
            yield low, high

    def middle(self, start: int, stop: int) -> int:
        """Return a position at which to halve a run, between two cells if it has several."""
        half = (start + stop) // 2
        cell = self._cell_at(half)
        edges = [int(self._ends[cell]), int(self._ends[cell + 1])]
        inside = [edge for edge in edges if start < edge < stop]
        return min(inside, key=lambda edge: abs(edge - half), default=half)

    def _cell_at(self, position: int) -> int:
        return int(np.searchsorted(self._ends, position, side="right")) - 1


def pieces(
    order: EpochOrder,
    share: Share,
    *,
    first: int,
    cells: int,
    weigh: Callable[[IntArray], int],
    limit: int,
) -> Iterator[IntArray]:
    """Yield the shuffle windows of a share: windows that are held together, in order of use.

    Parameters
    ----------
    order
        The order of the epoch.
    share
        Which part of it is read.
    first
        Number of the first batch that is made.
    cells
        Cells in a shuffle window. One that weighs too much is halved until it does not.
    weigh
        Returns the bytes that are held for some windows.
    limit
        Bytes that may be held for a shuffle window.

    Raises
    ------
    TargetError
        One window weighs more than the limit.
    """
    begin = share.start + share.offset(first)
    end = share.start + share.offset(share.batches)
    if begin >= end:
        return
    wanted = range(begin, end)
    for run in order.runs(share.start, share.stop, cells=cells, at=begin):
        for start, stop in _fitting(order, range(*run), wanted, weigh, limit):
            yield order.drawn(start, stop)[max(begin - start, 0) : end - start]


def _fitting(
    order: EpochOrder,
    run: range,
    wanted: range,
    weigh: Callable[[IntArray], int],
    limit: int,
) -> Iterator[tuple[int, int]]:
    """Halve a run until its parts weigh little enough; yield those with a wanted position."""
    start, stop = run.start, run.stop
    # Where it is halved must not depend on what is wanted, or a resumed epoch would differ.
    if stop <= wanted.start or wanted.stop <= start:
        return
    small = stop - start <= MAX_TOGETHER
    weight = weigh(order.numbers(start, stop)) if small else limit + 1
    if weight <= limit:
        yield start, stop
    elif stop - start == 1:
        raise _too_heavy(weight, limit)
    else:
        middle = order.middle(start, stop)
        yield from _fitting(order, range(start, middle), wanted, weigh, limit)
        yield from _fitting(order, range(middle, stop), wanted, weigh, limit)


def cells_that_fit(cells: Cells, *, weigh: Callable[[IntArray], int], limit: int) -> int:
    """Return how many cells make a shuffle window, judged by some of them and by the fullest.

    Parameters
    ----------
    cells
        The windows by cell.
    weigh
        Returns the bytes that are held for some windows.
    limit
        Bytes that may be held for a shuffle window.

    Raises
    ------
    TargetError
        One window weighs more than the limit.

    Examples
    --------
    >>> from hfzarr.plan.cells import cells_of
    >>> from hfzarr.plan.windows import AxisWindows, WindowGrid
    >>> grid = WindowGrid(axes=(AxisWindows(length=60, size=1, stride=1),))
    >>> cells_that_fit(cells_of(grid, (5,)), weigh=len, limit=16)
    3
    """
    n = len(cells)
    sizes = cells.sizes(np.arange(n))
    some = np.unique(np.linspace(0, n - 1, _SAMPLES).astype(np.intp)).tolist()
    chosen = {*some, int(sizes.argmax())}
    members = [cells.members(cell, 0, MAX_TOGETHER) for cell in chosen]
    single = max(weigh(numbers[:1]) for numbers in members)
    if single > limit:
        raise _too_heavy(single, limit)
    heaviest = max(weigh(numbers) for numbers in members)
    light = limit // heaviest if heaviest else n
    return max(1, min(n, light, MAX_TOGETHER // int(sizes.max())))


def _too_heavy(weight: int, limit: int) -> TargetError:
    return TargetError(
        f"the chunks under one window have {weight} bytes, and {limit} may be held at a time: "
        "raise max_memory, or take smaller windows or batches"
    )


def _dealt(batches: int, larger: int, worker: int, workers: int) -> tuple[int, int]:
    """Return how many batches one worker is dealt, and how many of them are larger."""
    return -(-max(batches - worker, 0) // workers), -(-max(larger - worker, 0) // workers)


def _permutation(n: int, kind: int, seed: int, epoch: int, place: int = 0) -> IntArray:
    # The seed comes last, as it may have any number of 32-bit words.
    words = [kind, epoch, place & 0xFFFFFFFF, place >> 32, seed]
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
    return generator.permutation(n).astype(np.intp, copy=False)


def whole_number(name: str, value: SupportsIndex | Any, least: int) -> int:
    """Return an option as an integer.

    Raises
    ------
    TargetError
        It is none, or below the least that it may be.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise TargetError(f"wanted {name} to be an integer of at least {least}, got {value!r}")
    return number
