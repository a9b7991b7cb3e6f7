"""Decoded blocks are shared by the tasks that need them."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import numpy.typing as npt

from hfzarr.plan.tasks import Box

__all__ = ["Region", "SharedBlocks"]

AnyArray = npt.NDArray[Any]
Key = tuple[int, ...]


class Region(Protocol):
    """An array of which boxes can be read, from many threads at once."""

    def read_boxes(self, boxes: Sequence[Box]) -> list[AnyArray]:
        """Return the pixels of each box."""


class _Entry:
    """A block that is being read, or waits for those that also need it."""

    __slots__ = ("future", "left", "nbytes")

    def __init__(self, uses: int) -> None:
        self.future: Future[AnyArray] = Future()
        self.left = uses
        self.nbytes = 0


class SharedBlocks:
    """Reads each block once for all tasks of a process, and keeps it no longer than they need it.

    A block goes when it was asked for as often as it said it would be, or when blocks exceed the
    limit and nobody has asked for it for longest; a task that then still needs it reads it again.
    When all tasks have come, or one comes a second time, a pass is over, and what it left goes:
    counts are wrong after a pass that was not finished. Pickles without its blocks.

    Parameters
    ----------
    region
        Where blocks are read.
    limit
        Bytes that may wait.
    per_read
        Bytes to read at once.
    tasks
        How many tasks a pass has; 0 if that is not known.
    """

    def __init__(self, region: Region, limit: int, per_read: int, tasks: int = 0) -> None:
        self.region = region
        self.limit = limit
        self.per_read = per_read
        self.tasks = tasks
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._size = 0
        self._tasks: set[int] = set()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[SharedBlocks], tuple[Region, int, int, int]]:
        return SharedBlocks, (self.region, self.limit, self.per_read, self.tasks)

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks that wait."""
        return self._size

    def take(
        self,
        keys: Sequence[Key],
        boxes: Sequence[Box],
        uses: Sequence[int],
        *,
        itemsize: int,
        task: int,
    ) -> list[AnyArray]:
        """Return blocks, reading those that nobody has read or is reading.

        Parameters
        ----------
        keys
            What tells blocks apart.
        boxes
            The pixels of each.
        uses
            How often each will be asked for in all, this time included.
        itemsize
            Bytes of a pixel.
        task
            Who asks; once in a pass.

        Raises
        ------
        ReadError
            A chunk could not be fetched or decoded, here or by the task that was to share it.
        """
        entries, mine = self._claim(keys, uses, task)
        try:
            for batch in _batches(mine, boxes, self.per_read, itemsize):
                found = self.region.read_boxes([boxes[i] for i in batch])
                for i, block in zip(batch, found, strict=True):
                    self._arrived(entries[i], block)
        except BaseException as error:
            self._failed([(keys[i], entries[i]) for i in mine], error)
            raise
        # No task waits before it has read what is its own to read, so none waits forever.
        blocks = [entry.future.result() for entry in entries]
        self._used(keys, entries)
        return blocks

    def _claim(
        self, keys: Sequence[Key], uses: Sequence[int], task: int
    ) -> tuple[list[_Entry], list[int]]:
        """Return the entry of each block, and which of them this task has to read."""
        entries, mine = [], []
        with self._lock:
            if task in self._tasks:
                self._end_pass()
            self._tasks.add(task)
            for i, (key, n) in enumerate(zip(keys, uses, strict=True)):
                entry = self._entries.get(key)
                if entry is None:
                    entry = _Entry(n)
                    mine.append(i)
                    if n > 1:
                        self._entries[key] = entry
                else:
                    self._entries.move_to_end(key)
                entries.append(entry)
        return entries, mine

    def _arrived(self, entry: _Entry, block: AnyArray) -> None:
        entry.nbytes = block.nbytes if entry.left > 1 else 0
        entry.future.set_result(block)
        with self._lock:
            self._size += entry.nbytes

    def _failed(self, claimed: Sequence[tuple[Key, _Entry]], error: BaseException) -> None:
        with self._lock:
            for key, entry in claimed:
                if not entry.future.done():
                    if self._entries.get(key) is entry:
                        del self._entries[key]
                    entry.future.set_exception(error)

    def _used(self, keys: Sequence[Key], entries: Sequence[_Entry]) -> None:
        with self._lock:
            for key, entry in zip(keys, entries, strict=True):
                entry.left -= 1
                if entry.left == 0 and self._entries.get(key) is entry:
                    self._drop(key)
            if len(self._tasks) == self.tasks:
                self._end_pass()
            for key in list(self._entries) if self._size > self.limit else []:
                if self._size <= self.limit:
                    break
                if self._entries[key].future.done():
                    self._drop(key)

    def _end_pass(self) -> None:
        for key in [key for key, entry in self._entries.items() if entry.future.done()]:
            self._drop(key)
        self._tasks.clear()

    def _drop(self, key: Key) -> None:
        self._size -= self._entries.pop(key).nbytes


def _batches(
    mine: Sequence[int], boxes: Sequence[Box], limit: int, itemsize: int
) -> list[list[int]]:
    """Cut what is to be read into batches of up to ``limit`` bytes, or of one block."""
    batches: list[list[int]] = []
    size = 0
    for i in mine:
        nbytes = itemsize * math.prod(stop - start for start, stop in boxes[i])
        if not batches or size + nbytes > limit:
            batches.append([])
            size = 0
        batches[-1].append(i)
        size += nbytes
    return batches
