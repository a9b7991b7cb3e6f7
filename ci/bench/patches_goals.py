"""What hfzarr is meant to reach, as ratios of what one run has measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patches_one import DASK, EPOCH, LIMITS, PLANNER

Rows = dict[str, dict[str, Any]]
SORTED, SMALL_CACHE = "sorted", "128 MB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A ratio that is to be reached, or not to be exceeded."""

    what: str
    wanted: float
    value: float | None = None
    """None when the run lacks one of the two."""
    at_most: bool = False
    numbers: str = ""

    @property
    def met(self) -> bool:
        """Whether it is reached; a goal that was not measured is not missed."""
        if self.value is None:
            return True
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted

    def __str__(self) -> str:
        bound = f"wanted {'≤' if self.at_most else '≥'} {self.wanted:.2f}"
        if self.value is None:
            return f"not measured: {self.what}, {bound}"
        verdict = "met   " if self.met else "MISSED"
        return f"{verdict} {self.what}: {self.value:.2f}, {bound} ({self.numbers})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Compares hfzarr's way with the others of one table."""

    where: str
    rows: Rows
    own: str

    def than(
        self, family: str, wanted: float, *, of: str = "rate", without: str = "\0", more: str = ""
    ) -> Goal:
        """Compare the rate, or the peak memory, with the fastest of a family of ways."""
        at_most = of == "peak"
        what = f"{self.where}: {'memory' if at_most else 'rate'} over that of {family}'s best{more}"
        able = {
            way: row
            for way, row in self.rows.items()
            if way.startswith(family) and without not in way and "rate" in row
        }
        ours = self.rows.get(self.own, {}).get(of)
        if ours is None or not able:
            return Goal(what=what, wanted=wanted, at_most=at_most)
        name, best = max(able.items(), key=lambda item: item[1]["rate"])
        unit = " MB" if at_most else "/s"
        numbers = f"{ours:.0f}{unit}, {name}: {best[of]:.0f}{unit}"
        return Goal(
            what=what, wanted=wanted, value=ours / best[of], at_most=at_most, numbers=numbers
        )

    def of_limit(self, key: str, wanted: float) -> Goal:
        """Compare the rate with a limit."""
        what = f"{self.where}: rate over the limit of decoding once"
        what += " and copying" if key == "both rate" else ""
        ours, limit = self.rows.get(self.own, {}).get("rate"), self.rows[LIMITS].get(key)
        if ours is None or limit is None:
            return Goal(what=what, wanted=wanted)
        numbers = f"{ours:.0f}/s, limit: {limit:.0f}/s"
        return Goal(what=what, wanted=wanted, value=ours / limit, numbers=numbers)

    def dask(self, wanted: float) -> Goal:
        """Compare the time through dask with that of the planner alone."""
        what = f"{self.where}: what dask adds to the planner's time"
        plain, through = (self.rows.get(way, {}).get("seconds") for way in (PLANNER, DASK))
        if plain is None or through is None:
            return Goal(what=what, wanted=wanted, at_most=True)
        numbers = f"{through:.2f} s, planner: {plain:.2f} s"
        return Goal(
            what=what, wanted=wanted, value=through / plain - 1, at_most=True, numbers=numbers
        )


def judge(volume: str, kind: str, rows: Rows) -> list[Goal]:
    """Return the goals of one table."""
    table = Judge(where=f"{volume}, {kind}", rows=rows, own=EPOCH if kind == "epoch" else PLANNER)
    if kind == "epoch":
        return [table.of_limit("decode rate", 0.6)]
    asked = {"without": SORTED, "more": " in the order asked"}
    # The goal was set by caches of 512 MB and more: a smaller one takes less by being small.
    usual = {"of": "peak", "without": SMALL_CACHE}
    if kind == "strided":
        return [
            table.than("xbatcher", 20),
            table.than("tensorstore", 1),
            table.than("tensorstore", 1, **asked),
            table.than("tensorstore", 1 / 3, **usual),
            table.of_limit("both rate", 0.65),
            table.dask(0.2),
        ]
    return [
        table.than("zarr-python", 10),
        table.than("tensorstore", 1.2),
        table.than("tensorstore", 1.2, **asked),
        table.than("tensorstore", 1 / 4, **usual),
        table.of_limit("decode rate", 0.7),
        table.of_limit("both rate", 0.7),
        table.dask(0.2),
    ]
