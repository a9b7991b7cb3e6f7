"""A plan of a whole store's rewriting, as a value that prints."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hfzarr.model.visible import visible
from hfzarr.plan.html import sheet
from hfzarr.plan.routes import ArrayPlan

__all__ = ["Bundle", "ReshardPlan", "Resharded", "Span", "bundles", "in_units"]

# A bundle of tasks is worth scheduling if it moves this much.
_BUNDLE_BYTES = 16 * 2**20
_MOST_IN_BUNDLE = 4096
# Rows of a table that is still read.
_SHOWN = 50
_COLUMNS = (
    "array",
    "shape",
    "dtype",
    "route",
    "inner chunk",
    "shard",
    "files before",
    "after",
    "bytes",
    "tasks",
    "passes",
    "reads",
    "peak",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Consecutive tasks of one pass over one array.

    Attributes
    ----------
    array
        Number of the array in the plan.
    step
        Number of the pass.
    start, stop
        Numbers of the tasks.
    """

    array: int
    step: int
    start: int
    stop: int


#: Spans that one executor's task carries out, one after the other.
Bundle = tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReshardPlan:
    """What rewriting a store will do. Made by `hfzarr.plan_reshard`; prints as a table.

    Attributes
    ----------
    source, target
        Names of the stores.
    arrays
        How each array is rewritten.
    width
        Tasks that run at once in one process.
    max_memory
        Bytes that they may hold together.
    documents
        Groups and arrays whose metadata is written.
    extra_files
        Files beside the arrays that are copied as they are.
    found_files
        Files that the source has now, by counting; None where that is not known.
    found_bytes
        Bytes of those; None where that is not known.
    notes
        What a user should know before it runs.
    """

    source: str
    target: str
    arrays: tuple[ArrayPlan, ...]
    width: int
    max_memory: int
    documents: int = 0
    extra_files: int = 0
    found_files: int | None = None
    found_bytes: int | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def files_before(self) -> int:
        """Files of the source: those found, else as many as there would be if none is absent."""
        if self.found_files is not None:
            return self.found_files
        return sum(one.spec.files_before for one in self.arrays) + self.documents

    @property
    def files_after(self) -> int:
        """Files of the target, if no shard is empty."""
        files = sum(one.spec.files_after for one in self.arrays)
        return files + self.documents + self.extra_files

    @property
    def nbytes(self) -> int:
        """Decoded bytes of all arrays."""
        return sum(one.spec.nbytes for one in self.arrays)

    @property
    def tasks(self) -> int:
        """Tasks of all arrays and passes."""
        return sum(one.tasks for one in self.arrays)

    @property
    def passes(self) -> int:
        """Passes that the array with the most of them needs."""
        return max((len(one.passes) for one in self.arrays), default=0)

    @property
    def peak_bytes(self) -> int:
        """What the tasks of one process hold together, at most."""
        each = [[one.peak_bytes] * min(one.tasks, self.width) for one in self.arrays]
        return sum(sorted(itertools.chain.from_iterable(each))[-self.width :])

    @property
    def scratch_bytes(self) -> int:
        """Bytes of intermediates on the target's disk while it runs, at most."""
        return sum(one.scratch_bytes for one in self.arrays)

    def __str__(self) -> str:
        return "\n".join([self._title(), "", *_aligned(self._rows()), "", *self._closing()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return sheet(self._title(), self._rows(), self._closing())

    def _title(self) -> str:
        return f"Reshard {self.source} to {self.target} (Zarr v3)"

    def _rows(self) -> list[list[str]]:
        return [list(_COLUMNS), *[_row(one) for one in self.arrays[:_SHOWN]]]

    def _closing(self) -> list[str]:
        more = len(self.arrays) - _SHOWN
        exactly = "" if self.found_files is not None else "up to "
        stored = "" if self.found_bytes is None else f" of {in_units(self.found_bytes)}"
        lines = [
            f"files: {exactly}{self.files_before:,}{stored} before, "
            f"up to {self.files_after:,} after; {in_units(self.nbytes)} decoded",
            f"tasks: {self.tasks:,}, {self.width} at once in a process; "
            f"memory: up to {in_units(self.peak_bytes)} of {in_units(self.max_memory)}",
        ]
        if more > 0:
            lines.insert(0, f"and {_counted(more, 'array')} more, which .arrays holds")
        if self.scratch_bytes:
            lines.append(f"intermediate on disk: up to {in_units(self.scratch_bytes)}")
        if self.extra_files:
            lines.append(f"files beside the arrays, copied as they are: {self.extra_files:,}")
        return [*lines, *[f"note: {note}" for note in self.notes]]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Resharded:
    """What a run did. Returned by `hfzarr.reshard`.

    Attributes
    ----------
    plan
        What was to be done.
    files
        Files of the target now.
    bytes_stored
        Bytes of those.
    chunks
        Inner chunks that hold more than the fill value.
    tasks
        Tasks that this run did; those that an earlier run had done are not among them.
    verified
        What was compared, in words.
    seconds
        How long it took.
    """

    plan: ReshardPlan
    files: int
    bytes_stored: int
    chunks: int
    tasks: int
    verified: str
    seconds: float

    def __str__(self) -> str:
        before = self.plan.files_before
        stored = self.plan.found_bytes
        size = "" if stored is None else f" ({in_units(stored)})"
        again = self.plan.tasks - self.tasks
        resumed = f", {again:,} done before" if again else ""
        return (
            f"{self.plan.target}: {_counted(before, 'file')}{size} became {self.files:,} "
            f"({in_units(self.bytes_stored)}) in {self.seconds:.1f} s; "
            f"{_counted(self.tasks, 'task')}{resumed}; verified: {self.verified}"
        )

    __repr__ = __str__


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _row(one: ArrayPlan) -> list[str]:
    spec = one.spec
    return [
        visible(spec.path) or "/",
        _sides(spec.shape),
        spec.dtype,
        one.route,
        _sides(spec.inner),
        _sides(spec.unit) if spec.sharded else "none",
        f"{spec.files_before:,}",
        f"{spec.files_after:,}",
        in_units(spec.nbytes),
        f"{one.tasks:,}",
        str(len(one.passes)),
        f"{one.rereads:.2f}",
        in_units(one.peak_bytes),
    ]


def _sides(lengths: Sequence[int]) -> str:
    return " × ".join(str(n) for n in lengths) or "scalar"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = 4
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def in_units(nbytes: float) -> str:
    """Return a number of bytes as text.

    Examples
    --------
    >>> in_units(999), in_units(3 * 2**20)
    ('999 B', '3.0 MiB')
    """
    value, unit = float(nbytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def bundles(plan: ReshardPlan, step: int) -> Iterator[Bundle]:
    """Yield the tasks of one pass over every array that has it, in bundles worth scheduling.

    Shards of some megabytes are a bundle each; many small ones share one.
    """
    total = sum(one.spec.nbytes for one in plan.arrays if len(one.passes) > step)
    enough = min(_BUNDLE_BYTES, total // (4 * plan.width) + 1)
    spans: list[Span] = []
    size = 0
    for array, one in enumerate(plan.arrays):
        if len(one.passes) <= step:
            continue
        count = one.passes[step].tasks
        each = max(one.spec.nbytes // count, 1)
        start = 0
        while start < count:
            fitting = min(-(-(enough - size) // each), count - start, _MOST_IN_BUNDLE)
            spans.append(Span(array=array, step=step, start=start, stop=start + fitting))
            size += fitting * each
            start += fitting
            if size >= enough or len(spans) >= _MOST_IN_BUNDLE:
                yield tuple(spans)
                spans, size = [], 0
    if spans:
        yield tuple(spans)
