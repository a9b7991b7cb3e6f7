"""The ratios that README and the docs claim, and whether a run keeps them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report_rows import MEASURES, Comparison

CLAIMS = Path(__file__).with_name("claims.toml")
TOLERATED = 0.5


class BadClaimError(Exception):
    """A claim of ``claims.toml`` that cannot be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A ratio that is claimed: the other's median over hfzarr's."""

    name: str
    case: str
    """Name of the comparison."""
    beside: str
    """How the other's ways begin; the best of them counts."""
    ratio: float
    says: str
    """The words in which README or the docs claim it."""
    measure: str = "seconds"
    only: bool = False
    """Whether the one way of that name is meant, and no better one that begins so."""
    small: float | None = None
    """What a small run reaches, where fixed costs make it another ratio than ``ratio``."""
    tolerated: float = TOLERATED
    """The share of the ratio below which it is missed by a wide margin."""

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise BadClaimError(f"{self.name}: {self.measure!r} is none of {MEASURES}")
        if not (0 < self.tolerated <= 1 and self.ratio > 0):
            raise BadClaimError(f"{self.name}: ratio and tolerated must be above 0, and {self}")

    @property
    def suite(self) -> str:
        """Who measures it."""
        return self.case.partition("/")[0]

    @property
    def job(self) -> str:
        """Which of the suite's jobs it is about."""
        return self.case.rpartition("/")[2]

    def floor(self, size: str) -> float:
        """Return the ratio that a run of this size must reach."""
        expected = self.small if size == "small" and self.small is not None else self.ratio
        return self.tolerated * expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A claim, and what was measured of it."""

    claim: Claim
    floor: float
    value: float | None = None
    """None if it was not measured."""
    why: str = ""
    """Whom it is compared with, or why there is no value."""
    repeated: bool = False
    """Whether this is the second try."""

    @property
    def missed(self) -> bool:
        """Whether the ratio falls short by a wide margin; so does one that was not measured."""
        return self.value is None or self.value < self.floor

    def as_json(self) -> dict[str, Any]:
        """Return it for a file; an infinite ratio is null there."""
        value = self.value if self.value is not None and math.isfinite(self.value) else None
        return {
            "name": self.claim.name, "case": self.claim.case, "beside": self.claim.beside,
            "measure": self.claim.measure, "claimed": self.claim.ratio, "floor": self.floor,
            "measured": value, "missed": self.missed, "repeated": self.repeated, "why": self.why,
        }  # fmt: skip

    def __str__(self) -> str:
        found = "not measured" if self.value is None else f"{self.value:.2f} ×"
        word = "MISSED" if self.missed else "kept  "
        again = ", at the second try" if self.repeated else ""
        return (
            f"{word} {self.claim.name}: {found} ({self.why}{again}); "
            f"claimed {self.claim.ratio:g} ×, at least {self.floor:.2g} × here"
        )


def read_claims(path: Path = CLAIMS) -> tuple[Claim, ...]:
    """Return the claims of a file."""
    with path.open("rb") as file:
        found = tomllib.load(file)
    try:
        return tuple(Claim(name=name, **fields) for name, fields in found.items())
    except TypeError as error:
        raise BadClaimError(f"{path.name}: {error}") from error


def judge(
    claim: Claim, comparisons: Iterable[Comparison], *, size: str, repeated: bool = False
) -> Verdict:
    """Return what was measured of a claim."""

    def verdict(value: float | None, why: str) -> Verdict:
        floor = claim.floor(size)
        return Verdict(claim=claim, floor=floor, value=value, why=why, repeated=repeated)

    found = next((one for one in comparisons if one.name == claim.case), None)
    if found is None:
        return verdict(None, f"no run of {claim.case}")
    rows = found.family(claim.beside, only=claim.only)
    best = found.best(rows, claim.measure)
    if found.ours.failed:
        return verdict(None, f"hfzarr failed: {found.ours.failed}")
    if best is None:
        reason = next((row.failed for row in rows if row.failed), "it was not run")
        return verdict(None, f"nothing of {claim.beside}: {reason}")
    return verdict(found.ratio(best, claim.measure), f"{claim.measure} beside {best.way}")
