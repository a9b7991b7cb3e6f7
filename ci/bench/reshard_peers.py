"""The other ways to reshard: xarray, zarr-python, tensorstore, dask's p2p, and ``cp -r``."""

from __future__ import annotations

import math
import subprocess
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from patches_peers import FUSED
from reshard_stores import DIMS, VARIABLE, Job, Window

SLAB = 2**24  # pixels of a dask chunk that p2p starts from: 32 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A job on this machine's files."""

    job: Job
    source: Path
    target: Path
    client: Any = None
    """Client of a ``distributed`` cluster, where the way wants one."""


def pipeline(*, fused: bool) -> AbstractContextManager[object]:
    """Have zarr-python use its faster pipeline, or not."""
    return zarr.config.set({"codec_pipeline.path": FUSED}) if fused else nullcontext()


def named(shape: tuple[int, ...]) -> dict[str, int]:
    """Return sizes by the names of the axes."""
    return dict(zip(DIMS, shape, strict=True))


def xarray_copy(task: Task, *, fused: bool = False, by: str = "shard") -> None:
    """Open with one dask chunk for each shard, or ``by`` source chunk or slab, and write.

    Nothing is decoded as CF, or xarray would read integers with a fill value as floats.
    """
    import xarray as xr

    job = task.job
    first = {"shard": named(job.shard), "source": {}, "slab": named(slab(job))}[by]
    encoding = {"shards": job.shard, "chunks": job.inner, "compressors": [job.codec.of_v3]}
    with pipeline(fused=fused):
        found = xr.open_zarr(task.source, chunks=first, consolidated=False, decode_cf=False)
        found = found.chunk(named(job.shard)).drop_encoding()
        found.to_zarr(task.target, zarr_format=3, encoding={VARIABLE: encoding}, consolidated=False)


def slab(job: Job) -> tuple[int, ...]:
    """Return whole planes of source chunks, as many as `SLAB` allows."""
    height, *plane = job.source.chunk[0], *job.source.shape[1:]
    return (height * max(1, SLAB // (height * math.prod(plane))), *plane)


def p2p_copy(task: Task, *, by: str) -> None:
    """Let the workers of a cluster exchange parts of chunks over their disks."""
    import dask

    with dask.config.set({"array.rechunk.method": "p2p"}):
        xarray_copy(task, by=by)


def zarr_loop(task: Task, *, threads: int, fused: bool = False) -> None:
    """Assign a slice of one zarr-python array to another, shard by shard."""
    job = task.job
    with pipeline(fused=fused):
        source: Any = zarr.open_array(str(task.source), path=VARIABLE, mode="r")
        group = zarr.create_group(str(task.target), zarr_format=3)
        target = group.create_array(
            VARIABLE,
            shape=source.shape,
            dtype=source.dtype,
            chunks=job.inner,
            shards=job.shard,
            compressors=job.codec.of_v3,
            dimension_names=DIMS,
        )

        def copy(window: Window) -> None:
            target[window] = source[window]

        each(copy, job.windows, threads)


def each(call: Callable[[Window], None], windows: list[Window], threads: int) -> None:
    """Call for each window, on threads if there are to be several."""
    if threads == 1:
        for window in windows:
            call(window)
        return
    with ThreadPoolExecutor(threads) as pool:
        deque(pool.map(call, windows), maxlen=0)


def tensorstore_pair(task: Task) -> tuple[Any, Any]:
    """Open the source, and create the target, without a cache."""
    import tensorstore as ts

    job = task.job
    driver = "zarr3" if job.source.zarr_format == 3 else "zarr"
    kvstore = {"driver": "file", "path": str(task.source / VARIABLE)}
    source = ts.open({"driver": driver, "kvstore": kvstore}).result()
    layout = {"name": "regular", "configuration": {"chunk_shape": list(job.shard)}}
    inner = {
        "chunk_shape": list(job.inner),
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, job.codec.document],
        "index_codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
    }
    metadata = {
        "shape": list(job.source.shape),
        "data_type": "uint16",
        "chunk_grid": layout,
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
        "dimension_names": list(DIMS),
    }
    kvstore = {"driver": "file", "path": str(task.target / VARIABLE)}
    target = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}
    return source, ts.open(target, create=True).result()


def tensorstore_shards(task: Task, *, threads: int) -> None:
    """Read a shard's pixels and write them, on threads of Python."""
    source, target = tensorstore_pair(task)

    def copy(window: Window) -> None:
        target[window].write(source[window].read().result()).result()

    each(copy, task.job.windows, threads)


def tensorstore_ahead(task: Task, *, ahead: int) -> None:
    """Read and write shards from one thread, a few of each under way."""
    source, target = tensorstore_pair(task)
    reads: deque[tuple[Window, Any]] = deque()
    writes: deque[Any] = deque()

    def write() -> None:
        window, read = reads.popleft()
        writes.append(
            target[window].write(read.result(), can_reference_source_data_indefinitely=True)
        )
        if len(writes) > ahead:
            writes.popleft().result()

    for window in task.job.windows:
        reads.append((window, source[window].read()))
        if len(reads) > ahead:
            write()
    while reads:
        write()
    for pending in writes:
        pending.result()


def tensorstore_whole(task: Task) -> None:
    """Read all pixels, then write them, and leave the order to tensorstore."""
    source, target = tensorstore_pair(task)
    target.write(source.read().result(), can_reference_source_data_indefinitely=True).result()


def tensorstore_copy(task: Task, *, transaction: bool) -> None:
    """Copy one array onto the other, and leave all to tensorstore; or commit it all at the end."""
    import tensorstore as ts

    source, target = tensorstore_pair(task)
    if not transaction:
        target.write(source).result()
        return
    with ts.Transaction() as together:
        target.with_transaction(together).write(source).result()


def copy_files(task: Task, *, processes: int = 1) -> None:
    """Copy the source's files as they are."""
    if processes == 1:
        subprocess.run(["cp", "-r", task.source, task.target], check=True)
        return
    task.target.mkdir()
    # Folders first: two processes that make the same one at the same time fail.
    script = """
        find . -type d -print0 | (cd "$0" && xargs -0 mkdir -p)
        find . -type f -print0 | xargs -0 -P "$1" -n 512 cp --parents -t "$0"
    """
    command = ["sh", "-ec", script, str(task.target), str(processes)]
    subprocess.run(command, cwd=task.source, check=True)
