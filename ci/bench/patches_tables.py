"""Rounds of measurements become one row each, and rows become tables."""

from __future__ import annotations

import statistics
from typing import Any

from patches_one import LIMITS
from patches_work import Work, subset
from volumes import Volume

Row = dict[str, Any]
TIMES = ("seconds", "cpu", "decode", "copy", "decode cpu", "copy cpu")
HEAD = (
    f"{'patches/s':>10}{'seconds':>9}{'fastest':>9}{'CPU s':>9}{'peak MB':>9}{'ours is':>10}  load"
)


def summary(rounds: list[Row], *, best: bool) -> Row:
    """Return each number's median over the rounds; with ``best``, the smallest times instead."""
    broken = next((r for r in rounds if "failed" in r), None)
    if broken is not None:
        return {"failed": broken["failed"]}
    found: Row = {}
    for key in rounds[0]:
        values = [r[key] for r in rounds]
        if best and (key in TIMES or key.endswith("rate")):
            found[key] = min(values) if key in TIMES else max(values)
        else:
            found[key] = statistics.median(values)
    if "seconds" in found:
        found["fastest"] = min(r["seconds"] for r in rounds)
    return found


def table(volume: Volume, work: Work, found: dict[str, Row]) -> str:
    """Return one table as text."""
    patches = len(subset(volume.shape, work, 1.0))
    ours = next((r for way, r in found.items() if way.startswith("hfzarr")), {})
    lines = [f"{volume.name}, {work}: {patches} patches", f"  {'':28}{HEAD}"]
    lines += [f"  {way:28}{_row(r, patches, ours)}" for way, r in found.items() if way != LIMITS]
    limit = found[LIMITS]
    if "failed" in limit:
        return "\n".join([*lines, f"  limits failed: {limit['failed']}"])
    both = [limit["decode"] + limit["copy"], limit["decode cpu"] + limit["copy cpu"]]
    for name, seconds, cpu, rate in (
        ("limit: decode once", limit["decode"], limit["decode cpu"], limit["decode rate"]),
        ("limit: decode once + copy", *both, limit["both rate"]),
    ):
        times = f"{rate:10.0f}{seconds:9.2f}{'':9}{cpu:9.2f}"
        lines.append(f"  {name:28}{times}{'':9}{_ratios(ours, rate, cpu)}")
    return "\n".join(lines)


def _row(row: Row, patches: int, ours: Row) -> str:
    if "failed" in row:
        return f"failed: {row['failed']}"
    times = f"{row['rate']:10.0f}{row['seconds']:9.2f}{row['fastest']:9.2f}{row['cpu']:9.2f}"
    rest = f"{row['peak']:9.0f}{_ratios(ours, row['rate'], row['cpu'])}{row['load']:6.1f}"
    part = f"  {row['delivered']:.0f} patches, scaled" if row["delivered"] < patches else ""
    return times + rest + part


def _ratios(ours: Row, rate: float, cpu: float) -> str:
    """Return how many times as fast hfzarr is, and as sparing of the processor."""
    if "rate" not in ours:
        return f"{'–':>10}{'–':>10}"
    return f"{ours['rate'] / rate:8.2f} ×{cpu / ours['cpu']:8.2f} ×"
