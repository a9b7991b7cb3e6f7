"""The other ways to get the same patches: xbatcher, zarr-python, xarray with dask, tensorstore."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from patches_work import Array, Tally, Work, origins, windows
from volumes import CHUNK, DIMS, SHARD, VARIABLE

Deliver = Callable[[Path, Work, Array], Tally]
FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"
IN_FLIGHT = 4  # reads of tensorstore under way; with more it is slower and takes more memory


def batches(patches: Iterable[Array], work: Work) -> Iterator[Array]:
    """Put patches together as the work wants them."""
    if work.batch == 1:
        for patch in patches:
            yield np.ascontiguousarray(patch)[None]
        return
    stream = iter(patches)
    while batch := list(itertools.islice(stream, work.batch)):
        yield np.stack(batch)


def take(patches: Iterable[Array], work: Work) -> Tally:
    """Touch every patch, and hold none."""
    tally = Tally()
    for batch in batches(patches, work):
        tally.block(batch)
    return tally


def has_fused() -> bool:
    """Whether zarr-python has its faster pipeline."""
    import zarr.core.codec_pipeline

    return hasattr(zarr.core.codec_pipeline, FUSED.rpartition(".")[2])


def zarr_loop(path: Path, work: Work, numbers: Array, *, fused: bool) -> Tally:
    """Slice a zarr-python array in a loop."""
    import zarr

    with zarr.config.set({"codec_pipeline.path": FUSED}) if fused else nullcontext():
        array: Any = zarr.open_array(str(path), path=VARIABLE, mode="r")
        places = windows(array.shape, work, numbers)
        return take((np.asarray(array[window]) for window in places), work)


def open_xarray(path: Path, *, dask: bool) -> Any:
    """Open the volume with xarray's own engine."""
    import xarray as xr

    return xr.open_zarr(path, chunks={} if dask else None, consolidated=False)[VARIABLE]


def xarray_isel(path: Path, work: Work, numbers: Array, *, dask: bool) -> Tally:
    """Select and compute one patch after the other."""
    array = open_xarray(path, dask=dask)
    places = windows(array.shape, work, numbers)
    selected = (array.isel(dict(zip(DIMS, window, strict=True))) for window in places)
    return take((patch.compute().values for patch in selected), work)


def xbatcher_get(path: Path, work: Work, numbers: Array, *, dask: bool) -> Tally:
    """Let xbatcher's generator make the patches of a sweep."""
    import xbatcher

    array = open_xarray(path, dask=dask)
    generator = xbatcher.BatchGenerator(
        array,
        input_dims=dict.fromkeys(DIMS, work.size),
        input_overlap=dict.fromkeys(DIMS, work.size - work.stride),
    )
    if len(generator) != len(origins(array.shape, work)):
        raise RuntimeError(f"xbatcher finds {len(generator)} patches")
    return take((generator[number].values for number in numbers.tolist()), work)


def in_tiles(starts: Array) -> Array:
    """Return the order in which patches of one shard follow each other, and within it by chunk."""
    keys = np.concatenate([starts // SHARD, starts // CHUNK, starts], axis=1)
    return np.lexsort(keys.T[::-1])


def tensorstore_read(
    path: Path, work: Work, numbers: Array, *, megabytes: int, ordered: bool
) -> Tally:
    """Keep many reads of tensorstore under way, over a cache of decoded chunks."""
    import tensorstore as ts

    array = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(path / VARIABLE)},
            "recheck_cached_data": "open",
            "recheck_cached_metadata": "open",
            "context": {"cache_pool": {"total_bytes_limit": megabytes * 2**20}},
        }
    ).result()
    if ordered:
        numbers = numbers[in_tiles(origins(array.shape, work)[numbers])]

    def patches() -> Iterator[Array]:
        waiting: deque[Any] = deque()
        for window in windows(array.shape, work, numbers):
            waiting.append(array[window].read())
            if len(waiting) >= IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    return take(patches(), work)
