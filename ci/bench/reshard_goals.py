"""What resharding is meant to reach, as ratios of what one run has measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patches_goals import Goal
from reshard_one import CLUSTER, CODECS, COPY, DASK, RECHUNKER, SERIAL, THREADS

Rows = dict[str, dict[str, Any]]
LIMIT = {"repack": 100, "rechunk": 256}  # MiB above the imports; 256 is the job's max_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Compares rows of one table."""

    where: str
    rows: Rows

    def faster(self, family: str, wanted: float, *, only: bool = False) -> Goal:
        """Compare with the fastest of the ways whose names begin so, or with the only one."""
        what = f"{self.where}: times as fast as {family}"
        able = {
            way: row["seconds"]
            for way, row in self.rows.items()
            if (way == family if only else way.startswith(family)) and "seconds" in row
        }
        best = min(able, key=lambda way: able[way]) if able else family
        return self._ratio(what, best, THREADS, wanted)

    def slower(self, way: str, wanted: float) -> Goal:
        """Bound the time of one of hfzarr's own ways, by its serial one."""
        return self._ratio(f"{self.where}: {way} over serial", way, SERIAL, wanted, at_most=True)

    def memory(self, wanted: float) -> Goal:
        """Bound the memory above the imports."""
        peak = self.rows.get(THREADS, {}).get("peak")
        what = f"{self.where}: MiB above the imports"
        return Goal(what=what, wanted=wanted, value=peak, at_most=True, numbers=THREADS)

    def share(self, limit: str, wanted: float) -> Goal:
        """Compare with what no tool can beat."""
        return self._ratio(f"{self.where}: share of the rate of {limit}", limit, THREADS, wanted)

    def _ratio(
        self, what: str, above: str, below: str, wanted: float, *, at_most: bool = False
    ) -> Goal:
        first, second = (self.rows.get(way, {}).get("seconds") for way in (above, below))
        if first is None or second is None:
            return Goal(what=what, wanted=wanted, at_most=at_most)
        numbers = f"{above}: {first:.2f} s, {below}: {second:.2f} s"
        value = first / second
        return Goal(what=what, wanted=wanted, value=value, at_most=at_most, numbers=numbers)


def judge(name: str, kind: str, rows: Rows) -> list[Goal]:
    """Return the goals of one table."""
    table = Judge(where=name, rows=rows)
    if kind == "transcode":
        return [
            table.share(CODECS, 0.9),
            table.faster("xarray", 2, only=True),
            table.faster("tensorstore", 1),
        ]
    if kind == "rechunk":
        return [
            table.memory(LIMIT[kind]),
            table.faster("tensorstore", 2.5),
            table.faster(RECHUNKER, 4),
            table.faster("p2p", 4),
        ]
    return [
        table.faster("xarray", 20, only=True),
        table.faster("tensorstore", 4 if name.endswith("a") else 8),
        table.faster(COPY, 1, only=True),
        table.memory(LIMIT[kind]),
        table.slower(DASK, 2),
        table.slower(CLUSTER, 2),
    ]
