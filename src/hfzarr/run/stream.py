"""Windows in a given order become batches of patches: held, cut out, and let go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hfzarr.plan.axis import IntArray
from hfzarr.plan.windows import Windows
from hfzarr.run.ahead import Ahead

__all__ = ["Held", "PatchSource", "stream"]

Arrays = dict[str, npt.NDArray[Any]]


class Held(Protocol):
    """Decoded chunks under some windows."""

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""

    def take(self, numbers: IntArray) -> Arrays:
        """Return copies of the patches of some of the windows: shape ``(windows, *patch)``."""


class PatchSource(Protocol):
    """Where patches come from. It pickles small, and many threads may use it."""

    @property
    def windows(self) -> Windows:
        """The windows."""

    @property
    def names(self) -> tuple[str, ...]:
        """The variables."""

    @property
    def patch_bytes(self) -> int:
        """Bytes of one patch, over all variables."""

    def held_bytes(self, numbers: IntArray) -> int:
        """Return the bytes that holding some windows takes, without reading."""

    def hold(self, numbers: IntArray) -> Held:
        """Fetch and decode the chunks under some windows, each once."""


def stream(
    source: PatchSource, pieces: Iterator[IntArray], sizes: Iterable[int], *, ahead: bool
) -> Iterator[tuple[IntArray, Arrays]]:
    """Yield batches: the numbers of their windows, and their patches by variable.

    Parameters
    ----------
    source
        Where patches come from.
    pieces
        Windows that are held together, in order of use.
    sizes
        Windows in each batch; no more in all than there are in the pieces.
    ahead
        Whether the next piece is fetched, on a thread, while the present one is used. Two are
        held then, otherwise one.
    """
    held = ((numbers, source.hold(np.sort(numbers))) for numbers in pieces)
    if not ahead:
        yield from _batches(held, sizes)
        return
    with closing(Ahead(held, alive=2)) as fetched:
        yield from _batches(fetched, sizes)


def _batches(
    pieces: Iterator[tuple[IntArray, Held]], sizes: Iterable[int]
) -> Iterator[tuple[IntArray, Arrays]]:
    left = np.empty(0, np.intp)
    held: Held | None = None
    for size in sizes:
        batch = _Batch(size)
        while batch.missing:
            if held is None:
                left, held = next(pieces)
            now, left = np.split(left, [batch.missing])
            batch.add(now, held)
            if not left.size:
                # Let go before the next is asked for, or there would be one more than is allowed.
                held = None
        yield batch.pop()


class _Batch:
    """A batch that is being filled."""

    def __init__(self, size: int) -> None:
        self.missing = size
        self._numbers = np.empty(size, np.intp)
        self._arrays: Arrays = {}

    def add(self, numbers: IntArray, held: Held) -> None:
        """Add the patches of some windows."""
        done = len(self._numbers) - self.missing
        part = held.take(numbers)
        if len(numbers) == len(self._numbers):
            self._arrays = part
        else:
            for name, patches in part.items():
                if name not in self._arrays:
                    shape = (len(self._numbers), *patches.shape[1:])
                    self._arrays[name] = np.empty(shape, patches.dtype)
                self._arrays[name][done : done + len(numbers)] = patches
        self._numbers[done : done + len(numbers)] = numbers
        self.missing -= len(numbers)

    def pop(self) -> tuple[IntArray, Arrays]:
        """Return the batch and forget it."""
        numbers, arrays = self._numbers, self._arrays
        self._arrays = {}
        return numbers, arrays
