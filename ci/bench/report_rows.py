"""What the benchmarks measured, in one form: comparisons, and in each a row for every way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

OURS, LIMIT = "hfzarr", "limit"
MEASURES = ("seconds", "peak", "requests", "bytes")
# How the name of a way begins, and who is at work; the first that fits counts.
PEERS = {
    "xarray": "xarray", "open_mfdataset": "xarray", "concat": "xarray", "p2p": "dask",
    "zarr-python, fsspec": "fsspec", "fsspec": "fsspec", "zarr-python, obstore": "obstore",
    "obstore": "obstore", "zarr-python": "zarr-python", "tensorstore": "tensorstore",
    "xbatcher": "xbatcher", "rechunker": "rechunker", "cp -r": "cp",
}  # fmt: skip


class UnknownWayError(Exception):
    """A way was measured of which no one knows whose it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one way took: medians of its rounds."""

    way: str
    seconds: float | None = None
    peak: float | None = None
    """MiB above what was held before."""
    requests: float | None = None
    bytes: float | None = None
    """Bytes that a server sent."""
    failed: str = ""
    """Why there is no number."""

    @property
    def peer(self) -> str:
        """Whose way it is; empty for a limit and for hfzarr's own."""
        if self.way.startswith((OURS, LIMIT)):
            return ""
        for begins, peer in PEERS.items():
            if self.way.startswith(begins):
                return peer
        raise UnknownWayError(f"whose way is {self.way!r}? Add it to PEERS in report_rows.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One work, and all ways in which it was done."""

    name: str
    """Suite and job, with slashes between."""
    what: str
    """The work, as a reader of the table wants it told."""
    ours: Row
    others: tuple[Row, ...]

    def ratio(self, row: Row, measure: str = "seconds") -> float | None:
        """Return how many times as much as hfzarr a way takes; None without both numbers."""
        own, other = getattr(self.ours, measure), getattr(row, measure)
        if own is None or other is None:
            return None
        if own <= 0:
            return math.inf if other > 0 else 1.0
        return float(other / own)

    def family(self, begins: str, *, only: bool = False) -> tuple[Row, ...]:
        """Return the ways whose names begin so, or the one that has that name."""
        return tuple(
            row
            for row in self.others
            if (row.way == begins if only else row.way.startswith(begins))
        )

    def best(self, rows: Sequence[Row], measure: str = "seconds") -> Row | None:
        """Return the row that took the least, or None if none has that number."""
        able = [row for row in rows if getattr(row, measure) is not None]
        return min(able, key=lambda row: getattr(row, measure)) if able else None

    @property
    def rivals(self) -> tuple[Row, ...]:
        """The fastest way of each peer, the one next to hfzarr first."""
        peers = {row.peer for row in self.others} - {""}
        found = [self.best([r for r in self.others if r.peer == peer]) for peer in peers]
        able = [row for row in found if row is not None]
        return tuple(sorted(able, key=lambda row: row.seconds or 0.0))

    def as_json(self) -> dict[str, Any]:
        """Return all numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Comparison:
        """Return what `as_json` wrote."""
        others = tuple(Row(**row) for row in told["others"])
        return cls(**{**told, "ours": Row(**told["ours"]), "others": others})
