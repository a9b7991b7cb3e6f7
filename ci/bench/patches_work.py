"""What is asked of every way: which patches, and how a consumer touches them."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Consume = Callable[[Array], None]
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Patches to deliver, in any order unless it is an epoch.

    Examples
    --------
    >>> work = Work(kind="strided", size=4, stride=2)
    >>> origins((8, 4, 6), work).tolist()
    [[0, 0, 0], [0, 0, 2], [2, 0, 0], [2, 0, 2], [4, 0, 0], [4, 0, 2]]
    """

    kind: str
    """``strided``: all patches of a sweep. ``random``: drawn ones. ``epoch``: those of a sweep,
    shuffled, in batches."""
    size: int
    """Pixels of a patch along each axis."""
    stride: int = 0
    """Pixels from patch to patch; 0 when drawn."""
    count: int = 0
    """Patches to draw."""
    batch: int = 1
    """Patches delivered together."""

    def __str__(self) -> str:
        what = f"patches of {self.size}³"
        if self.kind == "random":
            return f"random: {self.count} {what}, drawn anywhere"
        if self.kind == "epoch":
            return f"epoch: {what} at stride {self.stride}, shuffled, in batches of {self.batch}"
        return f"strided: {what} at stride {self.stride}"


@functools.lru_cache(maxsize=4)
def origins(shape: tuple[int, ...], work: Work) -> Array:
    """Return the first pixel of each patch, shape (patches, axes), in the order of C if swept."""
    if work.kind == "random":
        rng = np.random.default_rng(SEED)
        return rng.integers(0, [n - work.size + 1 for n in shape], (work.count, len(shape)))
    axes = [range(0, n - work.size + 1, work.stride) for n in shape]
    return np.array(list(itertools.product(*axes)))


def shuffled(count: int) -> Array:
    """Return patch numbers in the order of a shuffled epoch."""
    return np.random.default_rng(SEED).permutation(count)


def subset(shape: tuple[int, ...], work: Work, part: float) -> Array:
    """Return the numbers of the patches that a way delivers, in the order asked for.

    A slow way delivers only a part: a run from the middle of the sweep (so that it has neighbours,
    as a whole sweep has), or the first of the drawn or shuffled ones.
    """
    total = len(origins(shape, work))
    numbers = shuffled(total) if work.kind == "epoch" else np.arange(total)
    count = min(total, max(1, round(total * part)))
    if work.kind == "epoch":
        count = min(total, -(-count // work.batch) * work.batch)
    first = (total - count) // 2 if work.kind == "strided" else 0
    return numbers[first : first + count]


def windows(shape: tuple[int, ...], work: Work, numbers: Array) -> list[tuple[slice, ...]]:
    """Return the patches as slices."""
    starts = origins(shape, work)[numbers].tolist()
    return [tuple(slice(i, i + work.size) for i in start) for start in starts]


def checksum(block: Array) -> int:
    """Return a sum over rows of one face and two corners of each patch: shape (patches, z, y, x).

    It is the same for any order and any grouping of patches.
    """
    # Every fourth row: a whole face has a pixel in nearly every cache line of a patch.
    face = int(block[:, :, ::4, 0].sum(dtype=np.uint64))
    corners = 3 * int(block[:, -1, -1, -1].sum(dtype=np.uint64))
    return face + corners + 5 * int(block[:, 0, -1, 1].sum(dtype=np.uint64))


class Tally:
    """A consumer that touches patches, and holds none."""

    def __init__(self) -> None:
        self.patches = 0
        self.total = 0

    def block(self, block: Array) -> None:
        """Take patches: shape (patches, z, y, x)."""
        if not block.flags.c_contiguous:
            raise RuntimeError("a block of patches is not contiguous")
        self.patches += len(block)
        self.total += checksum(block)

    def patch(self, patch: Array) -> None:
        """Take one patch."""
        self.block(patch[None])

    def add(self, others: Sequence[Tally]) -> Tally:
        """Take what other consumers, one for each thread, have counted."""
        for other in others:
            self.patches += other.patches
            self.total += other.total
        return self


def timed(call: Callable[[], object]) -> Array:
    """Return the seconds that a call takes, by the clock and as work of all threads."""
    clock, work = time.perf_counter(), time.process_time()
    call()
    return np.array([time.perf_counter() - clock, time.process_time() - work])
