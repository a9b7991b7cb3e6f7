"""Comparisons as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from report_rows import Comparison, Row

HEAD = (
    "| work | beside | hfzarr is | seconds | peak MB | requests | MB read |\n"
    "|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Suites that are shown together, as one section with a picture."""

    title: str
    suites: tuple[str, ...]

    @property
    def picture(self) -> str:
        """The file of its picture."""
        return f"benchmarks-{self.suites[0]}.svg"

    def of(self, found: Sequence[Comparison]) -> list[Comparison]:
        """Return the comparisons of its suites."""
        return [one for one in found if one.name.partition("/")[0] in self.suites]


AREAS = (
    Area(title="Opening and reading", suites=("open", "read")),
    Area(title="Patches", suites=("patches",)),
    Area(title="Resharding, tables of stores", suites=("reshard", "tables")),
    Area(title="The Hub, S3, a web server", suites=("hub", "hub-patches", "objects")),
)


def short(number: float | None) -> str:
    """Return three digits, or all of the whole ones."""
    if number is None:
        return "–"
    digits = 0 if number >= 100 else 1 if number >= 10 else 2 if number >= 1 else 3
    return f"{number:,.{digits}f}"


def whole(number: float | None) -> str:
    """Return a number without a fraction."""
    return "–" if number is None else f"{number:,.0f}"


def megabytes(number: float | None) -> str:
    """Return bytes as MB."""
    return "–" if number is None else f"{number / 1e6:.2f}"


def times(ratio: float | None) -> str:
    """Return a ratio to two digits."""
    if ratio is None or ratio == float("inf"):
        return "–" if ratio is None else "∞"
    digits = 0 if ratio >= 9.95 else 1 if ratio >= 1 else 2
    return f"{ratio:.{digits}f} ×"


def line(one: Comparison, row: Row, what: str) -> str:
    """Return one line of the table."""
    if row.failed:
        return f"| {what} | {row.way} | failed: {row.failed.replace('|', '/')} | | | | |"
    cells = [
        what,
        f"`{row.way}`" if row.way.startswith("cp ") else row.way,
        times(one.ratio(row)),
        f"{short(one.ours.seconds)}, {short(row.seconds)}",
    ]
    for measure, told in (("peak", whole), ("requests", whole), ("bytes", megabytes)):
        own, other = getattr(one.ours, measure), getattr(row, measure)
        cells.append("" if other is None else f"{told(own)}, {told(other)}")
    return "| " + " | ".join(cells) + " |"


def table(comparisons: Sequence[Comparison], *, every: bool = False) -> str:
    """Return a table: beside each peer's fastest way, or beside all ways and limits.

    Numbers come in pairs: hfzarr's, then the other's.
    """
    lines = [HEAD]
    for one in comparisons:
        what = one.what
        if one.ours.failed:
            lines.append(f"| {what} | | failed: {one.ours.failed.replace('|', '/')} | | | | |")
            continue
        limits = tuple(row for row in one.others if row.way.startswith("limit"))
        for row in one.others if every else one.rivals or limits:
            lines.append(line(one, row, what))
            what = ""
    return "\n".join(lines)


def pages(record: dict[str, Any], found: Sequence[Comparison], beside: str) -> str:
    """Return the results as the docs show them.

    Parameters
    ----------
    record
        What ``results.json`` holds: where and how they were measured.
    found
        The comparisons.
    beside
        Where the pictures lie, seen from the page; ends with a slash.
    """
    told = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    size = "" if record["size"] == "full" else "The sizes are **small**: a sign of life, no more. "
    rounds = "one round" if record["rounds"] == 1 else f"medians of {record['rounds']} rounds"
    lines = [
        f"{size}Measured on {record['machine']}, in {rounds}; load {record['load']}.",
        f"{told}.",
        "",
        "Beside each peer's fastest way; above 1 × hfzarr is faster, below the other. Numbers in",
        "pairs are hfzarr's, then the other's. Peak memory is what was held above the imports.",
    ]
    for area in AREAS:
        if mine := area.of(found):
            picture = f"![{area.title}: hfzarr beside others]({beside}{area.picture})"
            lines += ["", f"### {area.title}", "", picture, "", table(mine)]
    return "\n".join(lines)
