"""One way to reshard, timed in a process of its own, with the most memory that it took."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from patches_peers import has_fused
from reshard_limits import Go, codecs_only, write_only
from reshard_meter import measure
from reshard_ours import ours
from reshard_peers import (
    Task,
    copy_files,
    p2p_copy,
    tensorstore_ahead,
    tensorstore_copy,
    tensorstore_shards,
    tensorstore_whole,
    xarray_copy,
    zarr_loop,
)
from reshard_stores import JOBS

WORKERS = 2
REPACK, CHANGED, RECHUNK = ("repack",), ("transcode", "rechunk"), ("rechunk",)
ALL = (*REPACK, *CHANGED)
THREADS, SERIAL, DASK, CLUSTER = (f"hfzarr {n}" for n in ("threads", "serial", "dask", "cluster"))
CODECS, COPY, RECHUNKER = "limit: decode + encode", "cp -r", "rechunker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to reshard."""

    make: Callable[[Task], Go]
    """Returns what is timed."""
    kinds: tuple[str, ...] = ALL
    """Jobs that it can do."""
    needs: str = "zarr"
    """Module that must be installed."""
    cluster: bool = False
    """Whether it wants a cluster of two processes."""
    fused: bool = False
    """Whether it wants zarr-python's faster pipeline."""
    layout: str = "sharded"
    """What it must have written, for `reshard_stores.check`; empty for a limit."""

    @property
    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        for module in (self.needs, *(["distributed"] if self.cluster else [])):
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed"
        return "the installed zarr does not have it" if self.fused and not has_fused() else ""


def way(call: Callable[..., None], kinds: tuple[str, ...], needs: str, **options: Any) -> Way:
    """Return a way that is timed from its first line to its last."""
    fields = {key: options.pop(key) for key in ("cluster", "layout") if key in options}

    def make(task: Task) -> Go:
        return functools.partial(call, task, **options)

    return Way(make=make, kinds=kinds, needs=needs, fused=options.get("fused", False), **fields)


def _elsewhere(task: Task) -> Go:
    raise RuntimeError("rechunker runs in a process of its own Python")


WAYS: dict[str, Way] = {
    THREADS: way(ours, ALL, "hfzarr"),
    f"{THREADS}, verified": way(ours, ALL, "hfzarr", verify="sample"),
    SERIAL: way(ours, ALL, "hfzarr", client="serial"),
    DASK: way(ours, ALL, "hfzarr", client="dask"),
    CLUSTER: way(ours, ALL, "hfzarr", cluster=True),
    "xarray": way(xarray_copy, ALL, "dask"),
    "xarray, fused": way(xarray_copy, ALL, "dask", fused=True),
    "xarray, by source chunk": way(xarray_copy, ALL, "dask", by="source"),
    "xarray, cluster": way(xarray_copy, REPACK, "dask", cluster=True),
    "p2p, by source chunk": way(p2p_copy, RECHUNK, "dask", cluster=True, by="source"),
    "p2p, by slab": way(p2p_copy, RECHUNK, "dask", cluster=True, by="slab"),
    "zarr-python": way(zarr_loop, ALL, "zarr", threads=1),
    "zarr-python 2, fused": way(zarr_loop, ALL, "zarr", threads=2, fused=True),
    "tensorstore 2 threads": way(tensorstore_shards, ALL, "tensorstore", threads=2),
    "tensorstore 4 ahead": way(tensorstore_ahead, ALL, "tensorstore", ahead=4),
    "tensorstore whole": way(tensorstore_whole, ALL, "tensorstore"),
    "tensorstore copy": way(tensorstore_copy, ALL, "tensorstore", transaction=False),
    "tensorstore copy at once": way(tensorstore_copy, ALL, "tensorstore", transaction=True),
    RECHUNKER: Way(make=_elsewhere, kinds=RECHUNK, layout="chunks"),
    COPY: way(copy_files, REPACK, "zarr", layout="copy"),
    "cp -r, 2 processes": way(copy_files, REPACK, "zarr", layout="copy", processes=2),
    "limit: write": Way(make=functools.partial(write_only, sync=False), kinds=REPACK, layout=""),
    "limit: write, fsync": Way(
        make=functools.partial(write_only, sync=True), kinds=REPACK, layout=""
    ),
    CODECS: Way(make=codecs_only, kinds=CHANGED, layout=""),
}


@contextlib.contextmanager
def session(wanted: bool, folder: Path) -> Iterator[Any]:
    """Yield a client of a cluster of two processes, or None."""
    if not wanted:
        yield None
        return
    import distributed

    # memory_limit=0: a worker that is paused, or spills, would be measured for that.
    with (
        distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
            local_directory=str(folder),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def run(name: str, warm: Task, task: Task) -> dict[str, float]:
    """Do the job, after a tiny one of its kind, which does all the imports."""
    chosen = WAYS[name]
    with session(chosen.cluster, task.target.parent) as client:
        chosen.make(replace(warm, client=client))()
        return measure(chosen.make(replace(task, client=client)), client)


def one(request: dict[str, Any]) -> dict[str, Any]:
    """Answer one request of the process that compares."""
    job, folder = JOBS[request["job"]], Path(request["folder"])
    tasks = [
        Task(
            job=job.at(size),
            source=Path(request[f"{use} source"]),
            target=folder / f"{use}.zarr",
        )
        for use, size in (("warm", "tiny"), ("task", request["size"]))
    ]
    return run(request["way"], *tasks)
