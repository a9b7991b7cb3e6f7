"""What no reader can beat: decoding each touched chunk once, and copying the patches out."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numcodecs
import numpy as np
from patches_work import Array, Tally, Work, origins, timed, windows
from volumes import VARIABLE

THREADS = os.cpu_count() or 1
NOTHING = 2**64 - 1  # offset of a chunk that a shard does not hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Layout of the array, read from its ``zarr.json``: sharded, zstd, index at the end."""

    root: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: tuple[int, ...]
    shard: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> Grid:
        """Read the layout of the array in a volume."""
        meta = json.loads((path / VARIABLE / "zarr.json").read_text())
        return cls(
            root=path / VARIABLE / "c",
            shape=tuple(meta["shape"]),
            dtype=np.dtype(meta["data_type"]),
            chunk=tuple(meta["codecs"][0]["configuration"]["chunk_shape"]),
            shard=tuple(meta["chunk_grid"]["configuration"]["chunk_shape"]),
        )

    @property
    def inner(self) -> tuple[int, ...]:
        """Chunks of a shard along each axis."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunk) * self.dtype.itemsize


def touched(grid: Grid, starts: Array, size: int) -> Array:
    """Return the chunks that windows touch: shape (chunks, axes)."""
    counts = [-(-n // c) for n, c in zip(grid.shape, grid.chunk, strict=True)]
    hit = np.zeros(counts, bool)
    first = starts // grid.chunk
    last = (starts + size - 1) // grid.chunk
    for low, high in np.unique(np.concatenate([first, last], axis=1), axis=0).reshape(
        -1, 2, len(counts)
    ):
        hit[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = True
    return np.argwhere(hit)


def by_shard(grid: Grid, chunks: Array) -> list[tuple[Path, Array]]:
    """Group chunks by the shard that holds them."""
    shards, which = np.unique(chunks // grid.inner, axis=0, return_inverse=True)
    which = which.reshape(-1)
    return [
        (grid.root.joinpath(*map(str, shard)), chunks[which == i])
        for i, shard in enumerate(shards.tolist())
    ]


def decode_shard(grid: Grid, path: Path, chunks: Array, target: Array | None) -> None:
    """Decode chunks of one shard, into the target or else into a scratch that is thrown away."""
    codec, scratch = numcodecs.Zstd(), np.empty(grid.chunk, grid.dtype)
    with path.open("rb", buffering=0) as handle:
        entries = math.prod(grid.inner)
        handle.seek(-(16 * entries + 4), os.SEEK_END)
        index = np.frombuffer(handle.read(16 * entries), "<u8").reshape(*grid.inner, 2)
        for chunk in chunks.tolist():
            offset, count = (
                int(n) for n in index[tuple(i % k for i, k in zip(chunk, grid.inner, strict=True))]
            )
            if offset == NOTHING:
                scratch[...] = 0
            else:
                codec.decode(os.pread(handle.fileno(), count, offset), out=scratch)
            if target is not None:
                place = tuple(
                    slice(i * c, min(i * c + c, n))
                    for i, c, n in zip(chunk, grid.chunk, grid.shape, strict=True)
                )
                target[place] = scratch[tuple(slice(0, p.stop - p.start) for p in place)]


def decode_all(grid: Grid, chunks: Array, target: Array | None = None) -> None:
    """Decode chunks on all cores, shard by shard."""
    shards = by_shard(grid, chunks)
    # Halves keep all cores busy to the end.
    halves = [(path, half) for path, part in shards for half in np.array_split(part, 2)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda item: decode_shard(grid, *item, target), halves))


def copy_all(volume: Array, work: Work, numbers: Array) -> Tally:
    """Copy patches out of memory on all cores, and touch them."""

    def copy(part: Array) -> Tally:
        tally = Tally()
        block = np.empty((1, *(work.size,) * volume.ndim), volume.dtype)
        for window in windows(volume.shape, work, part):
            block[0] = volume[window]
            tally.block(block)
        return tally

    with ThreadPoolExecutor(THREADS) as pool:
        return Tally().add(list(pool.map(copy, np.array_split(numbers, THREADS))))


def load(path: Path) -> Array:
    """Return the whole array."""
    grid = Grid.of(path)
    volume = np.empty(grid.shape, grid.dtype)
    counts = [-(-n // c) for n, c in zip(grid.shape, grid.chunk, strict=True)]
    decode_all(grid, np.argwhere(np.ones(counts, bool)), volume)
    return volume


def limits(path: Path, work: Work) -> dict[str, float]:
    """Return the seconds that decoding and copying take, each on all cores, and of all threads."""
    grid = Grid.of(path)
    volume = load(path)
    starts = origins(grid.shape, work)
    numbers = np.arange(len(starts))
    decode, decode_cpu = timed(lambda: decode_all(grid, touched(grid, starts, work.size)))
    copy, copy_cpu = timed(lambda: copy_all(volume, work, numbers))
    return {
        "decode": float(decode),
        "copy": float(copy),
        "decode cpu": float(decode_cpu),
        "copy cpu": float(copy_cpu),
    }
