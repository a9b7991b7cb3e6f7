"""Which shape a shard has: near a size in bytes, whole inner chunks, few enough files."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = [
    "SHARD_BYTES",
    "FileLimits",
    "auto_shard",
    "chunk_counts",
    "covering",
    "divisors",
    "files_in",
]

#: Decoded bytes that an automatic shard comes near to.
SHARD_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """How many files a store may have.

    Attributes
    ----------
    per_folder
        Files and folders in one folder; the Hugging Face Hub refuses more than 10,000.
    per_store
        Files in all; the Hub advises to stay below 100,000 in a repository.
    """

    per_folder: int = 10_000
    per_store: int = 100_000


def chunk_counts(shape: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    """Return how many chunks there are along each axis.

    Examples
    --------
    >>> chunk_counts((100, 10), (64, 64))
    (2, 1)
    """
    return tuple(-(-length // size) for length, size in zip(shape, chunk, strict=True))


def covering(shape: Sequence[int], inner: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest box of whole inner chunks that holds an array.

    Examples
    --------
    >>> covering((100, 10), (64, 64))
    (128, 64)
    """
    counts = chunk_counts(shape, inner)
    return tuple(max(n, 1) * size for n, size in zip(counts, inner, strict=True))


@functools.lru_cache(maxsize=1024)
def divisors(number: int) -> tuple[int, ...]:
    """Return the numbers that divide another, in ascending order.

    Examples
    --------
    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return tuple(sorted({*small, *(number // n for n in small)}))


def files_in(counts: Sequence[int], separator: str) -> int:
    """Return how many files or folders lie in the fullest folder of an array.

    Parameters
    ----------
    counts
        Files along each axis.
    separator
        What their keys are put together with; ``"/"`` makes a folder for each axis.

    Examples
    --------
    >>> files_in((30, 20, 10), "/"), files_in((30, 20, 10), ".")
    (30, 6000)
    """
    return max(counts, default=1) if separator == "/" else math.prod(counts)


def auto_shard(
    shape: Sequence[int],
    inner: Sequence[int],
    itemsize: int,
    *,
    target_bytes: int = SHARD_BYTES,
    separator: str = "/",
    last: Collection[int] = (),
    limits: FileLimits | None = None,
) -> tuple[int, ...]:
    """Choose the shape of a shard.

    It is a whole multiple of the inner chunk along each axis, even where it sticks out of the
    array. The axis along which it is shortest in pixels is doubled until the next step would
    exceed ``target_bytes``; then shards are made even, so that the last of an axis is not a
    sliver. Where that leaves too many files, shards grow beyond the target.

    Parameters
    ----------
    shape
        Shape of the array.
    inner
        Shape of what is encoded as one.
    itemsize
        Bytes of an element.
    target_bytes
        Decoded bytes of a shard, which are not exceeded unless one inner chunk has more.
    separator
        What the keys of files are put together with.
    last
        Axes that grow when no other can: time and channels, which are looked at one by one.
    limits
        How many files there may be.

    Examples
    --------
    >>> auto_shard((3, 2160, 5120), (1, 256, 256), 2, target_bytes=2**24, last=[0])
    (1, 1280, 2560)
    >>> auto_shard((100,), (64,), 8)
    (128,)
    """
    limits = limits or FileLimits()
    target = target_bytes
    while True:
        shard = _grown(shape, inner, itemsize, target, last)
        counts = chunk_counts(shape, shard)
        full = all(n <= 1 for n in counts)
        fits = files_in(counts, separator) <= limits.per_folder
        if full or (fits and math.prod(counts) <= limits.per_store):
            return shard
        target *= 2


def _grown(
    shape: Sequence[int],
    inner: Sequence[int],
    itemsize: int,
    target: int,
    last: Collection[int],
) -> tuple[int, ...]:
    chunks = chunk_counts(shape, inner)
    counts = [1] * len(chunks)

    def nbytes(some: Sequence[int]) -> int:
        sides = [min(n * c, length) for n, c, length in zip(some, inner, shape, strict=True)]
        return math.prod(sides) * itemsize

    while True:
        growing = sorted(
            (axis for axis, n in enumerate(counts) if n < chunks[axis]),
            key=lambda axis: (axis in last, counts[axis] * inner[axis], -axis),
        )
        if growing and growing[0] not in last:
            growing = [axis for axis in growing if axis not in last]
        for axis in growing:
            doubled = list(counts)
            doubled[axis] = min(2 * counts[axis], chunks[axis])
            if nbytes(doubled) <= target:
                counts = doubled
                break
        else:
            break
    return tuple(
        # As many shards, but of one size: 5 chunks in shards of 4 become shards of 3.
        -(-total // -(-total // n)) * size if total else size
        for total, n, size in zip(chunks, counts, inner, strict=True)
    )
