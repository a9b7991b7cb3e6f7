"""What no tool can beat: decoding and encoding in memory, and writing the source's bytes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import zarr
from reshard_peers import Task
from reshard_stores import VARIABLE

THREADS = os.cpu_count() or 1
Go = Callable[[], None]


def chunk_files(task: Task) -> list[Path]:
    """Return the files of the source that hold pixels, in the order of their names."""
    keep = (task.source / VARIABLE).rglob("*")
    return sorted(path for path in keep if path.is_file() and path.name[0].isdigit())


def codecs_only(task: Task) -> Go:
    """Decode every source chunk and encode every inner chunk, all in memory, on all cores."""
    encoded = [path.read_bytes() for path in chunk_files(task)]
    pixels = inner_chunks(task)
    job = task.job

    def decode(share: Iterable[bytes]) -> None:
        codec, out = job.source.codec.in_memory, np.empty(job.source.chunk, "<u2")
        for chunk in share:
            codec.decode(chunk, out=out)

    def encode(share: Iterable[np.ndarray]) -> None:
        codec = job.codec.in_memory
        for chunk in share:
            codec.encode(chunk)

    def go() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(decode, shares(encoded)))
            list(pool.map(encode, shares(pixels)))

    return go


def shares(items: Sequence[object]) -> list[Sequence[object]]:
    """Return small shares of neighbours, so that all cores are busy to the end."""
    size = max(1, len(items) // (16 * THREADS))
    return [items[i : i + size] for i in range(0, len(items), size)]


def inner_chunks(task: Task) -> np.ndarray:
    """Return the pixels of the inner chunks that are whole: shape (chunks, *inner)."""
    array = zarr.open_array(str(task.source), path=VARIABLE, mode="r")
    whole = np.asarray(array[...])
    inner = task.job.inner
    counts = [n // c for n, c in zip(whole.shape, inner, strict=True)]
    whole = whole[tuple(slice(0, k * c) for k, c in zip(counts, inner, strict=True))]
    split = whole.reshape([n for pair in zip(counts, inner, strict=True) for n in pair])
    axes = range(split.ndim)
    return split.transpose([*axes[::2], *axes[1::2]]).reshape(-1, *inner)


def write_only(task: Task, *, sync: bool) -> Go:
    """Write the source's bytes, from memory, into as many files as there are to be shards."""
    files = chunk_files(task)
    size = -(-len(files) // task.job.shards)
    held = [b"".join(path.read_bytes() for path in group) for group in batched(files, size)]

    def write(number: int) -> None:
        with (task.target / str(number)).open("wb", buffering=0) as handle:
            handle.write(held[number])
            if sync:
                os.fsync(handle.fileno())

    def go() -> None:
        task.target.mkdir()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(write, range(len(held))))

    return go


def batched(files: Iterable[Path], size: int) -> Iterable[list[Path]]:
    """Yield groups of files."""
    stream = iter(files)
    while group := list(itertools.islice(stream, size)):
        yield group
