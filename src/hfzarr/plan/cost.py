"""What reading would cost: requests, chunks, bytes, tasks and memory, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hfzarr.plan.html import sheet

__all__ = ["Cost", "Kind", "VariableCost"]

#: Where a variable's pixels lie: in a store that hfzarr reads, in one that others read, in a dask
#: graph, or in memory.
Kind = Literal["store", "other", "dask", "memory"]

_SUMS = (
    "requests",
    "chunks",
    "chunk_decodes",
    "shards",
    "bytes_fetched",
    "bytes_stored",
    "bytes_decoded",
    "bytes_one_by_one",
    "bytes_delivered",
    "bytes_distinct",
    "tasks",
)
_RATIOS = ("amplification", "naive_amplification", "reuse")
_COLUMNS = (
    ("requests", "requests"),
    ("chunks", "chunks"),
    ("chunk_decodes", "decodes"),
    ("shards", "shards"),
    ("bytes_fetched", "fetched"),
    ("bytes_stored", "stored"),
    ("bytes_decoded", "decoded"),
    ("bytes_delivered", "delivered"),
    ("amplification", "decoded/delivered"),
    ("reuse", "delivered/distinct"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """The numbers that a variable and a whole have in common."""

    requests: int = 0
    chunks: int = 0
    chunk_decodes: int = 0
    shards: int = 0
    bytes_fetched: int = 0
    bytes_stored: int = 0
    bytes_decoded: int = 0
    bytes_one_by_one: int = 0
    bytes_delivered: int = 0
    bytes_distinct: int = 0
    tasks: int = 0

    @property
    def amplification(self) -> float:
        """``bytes_decoded / bytes_delivered``: below 1 where windows share what is decoded."""
        return _ratio(self.bytes_decoded, self.bytes_delivered)

    @property
    def naive_amplification(self) -> float:
        """``bytes_one_by_one / bytes_delivered``: what reading window by window would have."""
        return _ratio(self.bytes_one_by_one, self.bytes_delivered)

    @property
    def reuse(self) -> float:
        """``bytes_delivered / bytes_distinct``: how often a pixel is delivered, on average."""
        return _ratio(self.bytes_delivered, self.bytes_distinct)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableCost(_Numbers):
    """What reading one variable would cost, for one pass (or epoch).

    Attributes
    ----------
    name
        The variable.
    kind
        ``"store"``: read by hfzarr from a store. ``"other"``: lazy, but read by another library,
        or in a way that is not known; it has no requests here. ``"dask"``: computed by dask, whose
        blocks are its chunks. ``"memory"``: there already; nothing is read.
    requests
        Requests to the store: chunk files, indexes of shards, and merged byte ranges of shards.
        Indexes are kept, so each is asked for once as far as room for them allows.
    chunks
        Inner chunks that are touched, each counted once, absent ones too.
    chunk_decodes
        How often chunks are decoded; one on the border of two tiles, or shuffle windows, twice.
        Chunks that the store does not have are filled in the place of being decoded.
    shards
        Shards that are touched.
    bytes_fetched
        Bytes that the requests bring: indexes, gaps between ranges and repeats included.
    bytes_stored
        Encoded bytes of the chunks that are touched, each counted once; absent ones have none.
    bytes_decoded
        Bytes of the chunks as they are decoded: whole, padding included.
    bytes_one_by_one
        Bytes that reading window by window would decode, sharing nothing.
    bytes_delivered
        Bytes of the result.
    bytes_distinct
        Bytes of the pixels asked for, each counted once, in the data type of the result.
    tasks
        Tasks that cut patches, one for each group; for dask, those of its graph besides.
    estimates
        Which of these numbers are estimates, as only some chunks or windows were looked at.
    """

    name: str
    kind: Kind = "store"
    estimates: tuple[str, ...] = ()

    @property
    def estimated(self) -> bool:
        """Whether some numbers are estimates."""
        return bool(self.estimates)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers and ratios as plain values."""
        named = ("name", "kind", *_SUMS, *_RATIOS)
        found = {name: getattr(self, name) for name in named}
        return found | {"estimates": list(self.estimates)}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Cost:
    """What reading would cost, told by arithmetic. Made by ``ds.hfzarr.explain(...)``.

    Prints as a table. Every number of `VariableCost` is here too, as the sum over the variables,
    and so are the ratios ``amplification``, ``naive_amplification`` and ``reuse``.

    Attributes
    ----------
    what
        What is read, in words.
    variables
        The cost of each variable.
    groups
        Groups of patches that are made one by one; for batches, shuffle windows.
    peak_memory
        Bytes that are held at most, about: decoded chunks that wait or are in use, and the patches
        under way on this machine's threads, if each group is let go when it was used. For batches,
        the bound that they keep; for a selection, the result and the chunks in decoding.
    left_out
        Pixels at the end of dimensions that no window reaches, by dimension.
    notes
        What else is to be known, such as where an estimate comes from.

    Examples
    --------
    >>> one = VariableCost(name="image", chunks=4, chunk_decodes=4, bytes_decoded=400,
    ...                    bytes_delivered=200)
    >>> cost = Cost(what="a selection", variables=(one,), peak_memory=600)
    >>> cost.chunks, cost.amplification, cost.estimated
    (4, 2.0, False)
    """

    what: str
    variables: tuple[VariableCost, ...]
    groups: int = 0
    peak_memory: int = 0
    left_out: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> VariableCost:
        """The sum over all variables."""
        sums = {name: sum(getattr(one, name) for one in self.variables) for name in _SUMS}
        estimates = dict.fromkeys(name for one in self.variables for name in one.estimates)
        kind = self.variables[0].kind if len(self.variables) == 1 else "store"
        return VariableCost(name="total", kind=kind, estimates=tuple(estimates), **sums)

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is not a field: the sums and their ratios.
        if name in _SUMS or name in _RATIOS:
            return getattr(self.total, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *_SUMS, *_RATIOS]

    @property
    def estimated(self) -> bool:
        """Whether some numbers are estimates."""
        return any(one.estimated for one in self.variables)

    def __getitem__(self, name: str) -> VariableCost:
        """Return the cost of a variable.

        Raises
        ------
        KeyError
            There is no such variable.
        """
        for one in self.variables:
            if one.name == name:
                return one
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, good for JSON."""
        return {
            "what": self.what,
            "variables": [one.to_dict() for one in self.variables],
            "total": self.total.to_dict(),
            "groups": self.groups,
            "peak_memory": self.peak_memory,
            "left_out": dict(self.left_out),
            "estimated": self.estimated,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        head, *rows = self._rows()
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [self.what]
        for row in (head, *rows):
            first, *others = zip(row, widths, strict=True)
            cells = [first[0].ljust(first[1]), *[text.rjust(n) for text, n in others]]
            lines.append("  " + "  ".join(cells).rstrip())
        return "\n".join([*lines, *self._remarks()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return sheet(self.what, self._rows(), self._remarks())

    def _rows(self) -> list[list[str]]:
        listed = [*self.variables, *([self.total] if len(self.variables) != 1 else [])]
        return [["variable", *[title for _, title in _COLUMNS]], *[_row(one) for one in listed]]

    def _remarks(self) -> list[str]:
        told = []
        if self.groups:
            told.append(f"{self.total.tasks:,} tasks, {self.groups:,} groups")
        told.append(f"peak memory {_bytes(self.peak_memory)}")
        if self.total.bytes_one_by_one:
            told.append(f"window by window, decoded/delivered {self.naive_amplification:.3g}")
        if self.left_out:
            told.append("left out " + ", ".join(f"{dim}: {n} px" for dim, n in self.left_out))
        lines = ["; ".join(told)]
        if self.estimated:
            lines.append("~ estimated")
        return [*lines, *self.notes]


def _row(one: VariableCost) -> list[str]:
    row = [one.name]
    for name, _ in _COLUMNS:
        value = getattr(one, name)
        text = (
            f"{value:.3g}"
            if name in _RATIOS
            else _bytes(value)
            if name.startswith("bytes")
            else f"{value:,}"
        )
        row.append("~" + text if name in one.estimates else text)
    return row


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if n < 1000 or unit == "TiB":
            break
        n /= 1024
    return f"{n:.0f} {unit}" if unit == "B" else f"{n:.3g} {unit}"
