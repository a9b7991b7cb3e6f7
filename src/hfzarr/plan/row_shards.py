"""Where a table of columns is cut into row shards: between chunks, and within a memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hfzarr.errors import TargetError

__all__ = ["Column", "RowPlan", "plan_rows"]

#: Decoded bytes that a row shard may have; more only where a single row has more.
MOST_BYTES = 256 * 2**20
#: Decoded bytes worth a row shard of its own, and row shards worth having for workers to share.
GOOD_BYTES = 32 * 2**20
GOOD_COUNT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """An array as a column.

    Attributes
    ----------
    name
        Name of the column: the array's path below the group.
    value
        Data type of the single values, as Arrow and `datasets` call it.
    cell
        Shape of one cell: that of the array without axis 0.
    row_bytes
        Bytes of one row in memory; an estimate for text.
    chunk
        Rows of an inner chunk; 0 where chunks are uneven.
    file
        Rows of a file: a shard, or a chunk.
    """

    name: str
    value: str
    cell: tuple[int, ...]
    row_bytes: int
    chunk: int
    file: int

    @property
    def is_fixed(self) -> bool:
        """Whether cells are lists of one length in Arrow; those of 2 to 5 axes are not.

        `datasets` has types of its own for these (``Array2D`` to ``Array5D``), kept as lists of
        any length.
        """
        return not 2 <= len(self.cell) <= 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPlan:
    """Where a table is cut into row shards.

    Attributes
    ----------
    columns
        The columns.
    length
        Rows of the table.
    shard_rows
        Rows of each row shard but the last.

    Examples
    --------
    >>> a = Column(name="a", value="uint8", cell=(), row_bytes=1, chunk=4, file=4)
    >>> plan = RowPlan(columns=(a,), length=10, shard_rows=8)
    >>> plan.bounds
    [(0, 8), (8, 10)]
    >>> plan.decodes(a), replace(plan, shard_rows=5).decodes(a)
    (3, 4)
    """

    columns: tuple[Column, ...]
    length: int
    shard_rows: int

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First row of each row shard, and one past its last."""
        starts = range(0, self.length, self.shard_rows)
        return [(start, min(start + self.shard_rows, self.length)) for start in starts]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory."""
        return sum(column.row_bytes for column in self.columns)

    @property
    def shard_bytes(self) -> int:
        """Bytes of one row shard in memory."""
        return self.row_bytes * min(self.shard_rows, self.length)

    def decodes(self, column: Column) -> int:
        """Return how often chunks of a column are decoded, counted along axis 0.

        Each once, and once more for every cut that falls inside a chunk.
        """
        if not self.length:
            return 0
        inside = -(-self.length // self.shard_rows) - 1
        if column.chunk:
            inside -= (self.length - 1) // math.lcm(self.shard_rows, column.chunk)
        return -(-self.length // (column.chunk or self.length)) + inside

    @property
    def cost(self) -> float:
        """Bytes decoded in one pass, in units of what the chunks hold; 1 where each is once.

        Columns with uneven chunks are left out, as nothing tells where theirs are cut.
        """
        known = [c for c in self.columns if c.chunk and c.row_bytes]
        once = sum(-(-self.length // c.chunk) * c.chunk * c.row_bytes for c in known)
        return sum(self.decodes(c) * c.chunk * c.row_bytes for c in known) / once if once else 1.0


def plan_rows(columns: Sequence[Column], length: int, rows: int | None = None) -> RowPlan:
    """Say where a table is cut into row shards.

    Every cut falls between files of every column where that needs no more than 256 MiB for a row
    shard, else between chunks. Where even that needs more, as with chunks that hold all rows, row
    shards have at most 256 MiB and chunks are decoded several times: `RowPlan.cost` tells how
    often, and of the cuts that were tried, the cheapest are taken.

    Parameters
    ----------
    columns
        The columns.
    length
        Rows of the table.
    rows
        Rows of a row shard, if the caller knows better.

    Raises
    ------
    TargetError
        `rows` is no whole number above 0.

    Examples
    --------
    >>> a = Column(name="a", value="uint8", cell=(), row_bytes=2**20, chunk=6, file=6)
    >>> b = Column(name="b", value="uint8", cell=(), row_bytes=1, chunk=4, file=4)
    >>> plan = plan_rows([a, b], 1000)
    >>> plan.shard_rows, plan.cost
    (24, 1.0)
    """
    plan = RowPlan(columns=tuple(columns), length=length, shard_rows=max(length, 1))
    if rows is not None:
        if isinstance(rows, bool) or not isinstance(rows, (int, np.integer)) or rows < 1:
            raise TargetError(f"rows= is a number of rows, at least 1, not {rows!r}")
        return replace(plan, shard_rows=int(rows))
    most = max(MOST_BYTES // max(plan.row_bytes, 1), 1)
    chunks = [column.chunk for column in columns if column.chunk]
    for unit in (math.lcm(*[column.file or 1 for column in columns]), math.lcm(*chunks)):
        if min(unit, length) <= most:
            return replace(plan, shard_rows=_grown(unit, plan))
    tried = [replace(plan, shard_rows=rows) for rows in _candidates(columns, most)]
    return min(tried, key=lambda one: (one.cost, -one.shard_rows))


def _grown(unit: int, plan: RowPlan) -> int:
    """Return as many units as are worth a row shard."""
    units = -(-plan.length // unit)
    by_size = GOOD_BYTES // max(unit * plan.row_bytes, 1)
    return unit * max(min(by_size, units // GOOD_COUNT), 1)


def _candidates(columns: Sequence[Column], most: int) -> set[int]:
    """Return numbers of rows that fit the memory, and some of the columns' chunks."""
    heavy = sorted((c for c in columns if c.chunk), key=lambda c: -c.row_bytes)
    common = 1
    for column in heavy:
        both = math.lcm(common, column.chunk)
        common = both if both <= most else common
    grains = {common, *(column.chunk for column in heavy)}
    return {most, *(most // grain * grain for grain in grains if grain <= most)}
