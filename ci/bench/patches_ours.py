"""hfzarr's own ways: its planner alone, through dask, and the stream of shuffled batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from patches_work import SEED, Array, Tally, Work, checksum
from volumes import DIMS, VARIABLE

MEMORY = "256 MiB"  # the default of patches, said here so that tables can be compared


def open_ours(path: Path) -> Any:
    """Open the volume with hfzarr's engine."""
    import xarray as xr

    return xr.open_dataset(path, engine="hfzarr", consolidated=False)


def lazy_patches(path: Path, work: Work) -> Any:
    """Return the patches as a lazy Dataset."""
    dataset, size = open_ours(path), dict.fromkeys(DIMS, work.size)
    if work.kind == "random":
        return dataset.hfzarr.random_patches(work.count, size, seed=SEED, max_memory=MEMORY)
    return dataset.hfzarr.patches(size, stride=work.stride, max_memory=MEMORY)


def ours_planner(path: Path, work: Work, numbers: Array) -> Tally:
    """Take the blocks that the planner yields, without dask; all patches, whatever is asked."""
    tally = Tally()
    for block in lazy_patches(path, work).hfzarr.stream(to="numpy"):
        tally.block(block[VARIABLE])
    return tally


def ours_dask(path: Path, work: Work, numbers: Array) -> Tally:
    """Touch every block where it is made, on dask's threads; all patches."""
    patches = lazy_patches(path, work)[VARIABLE].data

    def touch(block: Array) -> Array:
        if not block.flags.c_contiguous:
            raise RuntimeError("a block of patches is not contiguous")
        return np.array([len(block), checksum(block)], np.int64).reshape(2, 1, 1, 1)

    # Axes are kept: to drop some, dask would first copy each block.
    chunks = ((2,) * patches.numblocks[0], (1,), (1,), (1,))
    touched = patches.map_blocks(touch, dtype=np.int64, chunks=chunks, meta=np.empty(0, np.int64))
    counts = touched.compute(scheduler="threads").reshape(-1, 2)
    tally = Tally()
    tally.patches, tally.total = (int(n) for n in counts.sum(axis=0))
    return tally


def ours_batches(path: Path, work: Work, numbers: Array) -> Tally:
    """Take an epoch of shuffled batches; all patches."""
    tally = Tally()
    batches = open_ours(path).hfzarr.batches(
        work.batch,
        size=dict.fromkeys(DIMS, work.size),
        stride=work.stride,
        seed=SEED,
        max_memory=MEMORY,
    )
    for batch in batches:
        tally.block(batch[VARIABLE])
    return tally
