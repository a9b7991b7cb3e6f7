"""A file of the target under way: a shard with its index, or a single chunk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from hfzarr.errors import WriteError
from hfzarr.model.codecs import ShardIndex
from hfzarr.run.encode import absent_entries, encode_index
from hfzarr.store.sink import Sink, SinkFile

__all__ = ["MORE", "ShardFile"]

#: The position of what goes on with the chunk that was written last.
MORE = -1

Bytes = bytes | memoryview


class ShardFile:
    """Writes encoded chunks end to end, and the index after them.

    The file is made when its first chunk comes: one without chunks is never there. It appears
    whole, or not at all, when the stack is left.

    Parameters
    ----------
    sink
        The target.
    key
        Key of the file.
    sharding
        How the index is encoded; None for a file that holds one chunk.
    stack
        What closes the file.
    """

    def __init__(self, sink: Sink, key: str, sharding: ShardIndex | None, stack: ExitStack) -> None:
        if sharding is not None and sharding.location != "end":
            raise WriteError(f"{key}: wanted the index at the end of a shard, not at its start")
        self.key = key
        self.chunks = 0
        self._sink = sink
        self._sharding = sharding
        self._stack = stack
        self._file: SinkFile | None = None
        self._entries: npt.NDArray[np.uint64] | None = None
        self._size = 0
        self._last = MORE
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes written so far; 0 while there is no file."""
        return self._size

    def extend(self, positions: Sequence[int], parts: Sequence[Bytes]) -> None:
        """Write encoded chunks, given their positions in the shard, the last axis fastest.

        Parts at `MORE` go on with the chunk before them; they come by themselves.
        """
        if not parts:
            return
        sizes = np.fromiter((len(part) for part in parts), np.uint64, len(parts))
        with self._lock:
            file = self._opened()
            ends = np.cumsum(sizes, dtype=np.uint64) + np.uint64(self._size)
            if positions[0] == MORE:
                self._lengthen(sizes.sum())
            else:
                self._note(positions, ends - sizes, sizes)
            file.write(parts)
            self._size = int(ends[-1])

    def _note(
        self,
        positions: Sequence[int],
        starts: npt.NDArray[np.uint64],
        sizes: npt.NDArray[np.uint64],
    ) -> None:
        self.chunks += len(positions)
        self._last = positions[-1]
        if self._entries is not None:
            where = np.asarray(positions, np.intp)
            self._entries[where, 0] = starts
            self._entries[where, 1] = sizes

    def _lengthen(self, size: np.uint64) -> None:
        if self._entries is not None:
            self._entries[self._last, 1] += size

    def finish(self) -> None:
        """Write the index. To be called once all chunks are there."""
        if self._file is not None and self._sharding is not None and self._entries is not None:
            index = encode_index(self._sharding, self._entries)
            self._file.write(index)
            self._size += len(index)

    def _opened(self) -> SinkFile:
        if self._file is None:
            self._file = self._stack.enter_context(self._sink.create(self.key))
            if self._sharding is not None:
                self._entries = absent_entries(self._sharding)
        return self._file
