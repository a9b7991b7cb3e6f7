"""Seconds and memory of a call, in this process and others; the standard library is enough."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def memory(field: str) -> float:
    """Return MiB of this process, ``VmRSS`` now or ``VmHWM`` at most."""
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**10


def start() -> tuple[float, float]:
    """Let the high-water mark start again, and return MiB held and seconds worked until now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS"), _worked()


def stop() -> tuple[float, float]:
    """Return the most MiB that were held since the start, and seconds worked until now."""
    return memory("VmHWM"), _worked()


def _worked() -> float:
    """Return seconds of all threads, and of commands that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure(call: Callable[[], object], client: Any = None) -> dict[str, float]:
    """Return what a call takes, here and in the processes of a cluster together."""
    os.sync()
    before = _everywhere(start, client)
    began = time.perf_counter()
    call()
    seconds = time.perf_counter() - began
    after = _everywhere(stop, client)
    return {
        "seconds": seconds,
        "cpu": after[1] - before[1],
        "peak": after[0] - before[0],
        "load": os.getloadavg()[0],
    }


def _everywhere(call: Callable[[], tuple[float, float]], client: Any) -> list[float]:
    found = [call()]
    if client is not None:
        found += client.run(call).values()
    return [sum(column) for column in zip(*found, strict=True)]
