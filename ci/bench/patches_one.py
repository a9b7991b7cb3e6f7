"""One way to get patches, timed in a process of its own, with the most memory that it took."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from patches_limits import Grid, limits, load
from patches_ours import ours_batches, ours_dask, ours_planner
from patches_peers import (
    Deliver,
    has_fused,
    tensorstore_read,
    xarray_isel,
    xbatcher_get,
    zarr_loop,
)
from patches_work import Tally, Work, checksum, subset, timed, windows

PLANNER, DASK, EPOCH = "hfzarr planner", "hfzarr dask", "hfzarr batches"
LIMITS, REFERENCE = "limits", "reference"
SWEPT, ALL = ("strided", "epoch"), ("strided", "random", "epoch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to get patches."""

    deliver: Deliver
    part: float = 1.0
    """Share of the patches that it delivers; 1 unless it is slow."""
    kinds: tuple[str, ...] = ALL
    """Works that it can do."""
    needs: str = "numpy"
    """Module that must be installed."""
    usable: Callable[[], bool] = lambda: True
    """Whether what is installed is new enough."""

    @property
    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        if importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        return "" if self.usable() else f"the installed {self.needs} does not have it"


def tensorstore_way(megabytes: int, *, ordered: bool) -> Way:
    """Return a way of tensorstore."""
    deliver = functools.partial(tensorstore_read, megabytes=megabytes, ordered=ordered)
    # An epoch in the order of chunks is not shuffled.
    kinds = ("strided", "random") if ordered else ALL
    return Way(deliver=deliver, kinds=kinds, needs="tensorstore")


def peer(function: Callable[..., Any], part: float, needs: str, **options: Any) -> Way:
    """Return a slow way."""
    kinds = SWEPT if needs == "xbatcher" else ALL  # it knows no drawn places
    usable = has_fused if options.get("fused") else lambda: True
    deliver = functools.partial(function, **options)
    return Way(deliver=deliver, part=part, kinds=kinds, needs=needs, usable=usable)


WAYS: dict[str, Way] = {
    PLANNER: Way(deliver=ours_planner, kinds=("strided", "random")),
    DASK: Way(deliver=ours_dask, kinds=("strided", "random")),
    EPOCH: Way(deliver=ours_batches, kinds=("epoch",)),
    "tensorstore 512 MB": tensorstore_way(512, ordered=False),
    "tensorstore 1.5 GB": tensorstore_way(1536, ordered=False),
    "tensorstore 128 MB, sorted": tensorstore_way(128, ordered=True),
    "tensorstore 512 MB, sorted": tensorstore_way(512, ordered=True),
    "tensorstore 1.5 GB, sorted": tensorstore_way(1536, ordered=True),
    "xbatcher": peer(xbatcher_get, 0.05, "xbatcher", dask=False),
    "xbatcher, dask": peer(xbatcher_get, 0.02, "xbatcher", dask=True),
    "zarr-python": peer(zarr_loop, 0.05, "zarr", fused=False),
    "zarr-python, fused": peer(zarr_loop, 0.05, "zarr", fused=True),
    "xarray isel, dask": peer(xarray_isel, 0.02, "dask", dask=True),
}


def memory(field: str) -> float:
    """Return MB of this process, ``VmRSS`` now or ``VmHWM`` at most."""
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**10


def forget_peak() -> None:
    """Let the high-water mark start again from what is held now, where the system can do so.

    ``ru_maxrss`` would be no use: it starts from what the process that started this one held.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def run(path: Path, warm: Path, work: Work, name: str, *, part: float) -> dict[str, Any]:
    """Deliver the patches of a volume, after those of a tiny one, which do all the imports.

    The seconds of a way that delivers a part are scaled to all patches, without what it takes to
    open the volume.
    """
    way, shape = WAYS[name], Grid.of(path).shape
    first = replace(work, count=min(work.count, 8))
    way.deliver(warm, first, subset(Grid.of(warm).shape, first, 1.0))
    numbers = subset(shape, work, part)
    total = len(subset(shape, work, 1.0))
    setup = np.zeros(2)
    if len(numbers) < total:
        setup = timed(lambda: way.deliver(path, work, numbers[:0]))
    forget_peak()
    before = memory("VmRSS")
    tally = Tally()
    seconds = timed(lambda: tally.add([way.deliver(path, work, numbers)]))
    peak = memory("VmHWM") - before
    if tally.patches != len(numbers):
        raise RuntimeError(f"{name} delivered {tally.patches} of {len(numbers)} patches")
    whole, cpu = (setup + (seconds - setup) * total / len(numbers)).tolist()
    return {
        "seconds": whole,
        "cpu": cpu,
        "rate": total / whole,
        "peak": peak,
        "delivered": tally.patches,
        "checksum": tally.total,
        "load": os.getloadavg()[0],
    }


def reference(path: Path, work: Work) -> dict[str, Any]:
    """Return the checksum of every patch, cut from the array in memory with plain slices."""
    volume = load(path)
    every = windows(volume.shape, work, np.arange(len(subset(volume.shape, work, 1.0))))
    return {"checksums": [checksum(volume[window][None]) for window in every]}


def run_limits(path: Path, work: Work) -> dict[str, Any]:
    """Return the limits as seconds and patches/s."""
    found = limits(path, work)
    patches = len(subset(Grid.of(path).shape, work, 1.0))
    both = found["decode"] + found["copy"]
    return {**found, "decode rate": patches / found["decode"], "both rate": patches / both}


def one(request: dict[str, Any]) -> dict[str, Any]:
    """Answer one request of the process that compares."""
    path, work, name = Path(request["path"]), Work(**request["work"]), request["way"]
    if name == REFERENCE:
        return reference(path, work)
    if name == LIMITS:
        return run_limits(path, work)
    return run(path, Path(request["warm"]), work, name, part=request["part"])
