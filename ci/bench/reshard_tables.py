"""Rows of measurements become a table."""

from __future__ import annotations

from typing import Any

from reshard_one import THREADS
from reshard_stores import Job

Row = dict[str, Any]
TIMES = f"{'seconds':>9}{'fastest':>9}{'CPU s':>8}"
HEAD = f"{TIMES}{'peak MB':>9}{'ours is':>10}{'by CPU':>10}{'load':>6}"


def table(name: str, job: Job, found: dict[str, Row]) -> str:
    """Return one table as text."""
    ours = found.get(THREADS, {})
    lines = [f"{name}: {job}", f"  {'':26}{HEAD}"]
    return "\n".join([*lines, *(f"  {way:26}{_row(row, ours)}" for way, row in found.items())])


def _row(row: Row, ours: Row) -> str:
    if "failed" in row:
        return f"failed: {row['failed']}"
    ratios = (
        f"{row[key] / ours[key]:8.2f} ×" if ours.get(key) else f"{'–':>10}"
        for key in ("seconds", "cpu")
    )
    peak = f"{row['peak']:9.0f}" if "peak" in row else f"{'–':>9}"
    times = f"{row['seconds']:9.3f}{row['fastest']:9.3f}{row['cpu']:8.2f}"
    return f"{times}{peak}{''.join(ratios)}{row['load']:6.1f}"
