"""Large files written around the system's cache.

A shard is written once and not read again by its writer. Taking it through the cache costs the
kernel a fresh page for each 4 KiB, which is more work than all else that copying does, and pushes
out what is read next.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Callable, Sequence

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Stage", "open_direct"]

_DIRECT = getattr(os, "O_DIRECT", 0)
# A multiple of every block size; disks are at full speed with it where some files are under way.
_STAGE = 512 * 2**10
_KEPT = 32
# File systems that know no such writes, or want other sizes, say so with one of these.
_REFUSED = frozenset([errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP])

#: Writes buffers to a file, and takes from the list what is written.
WriteAll = Callable[[int, list[memoryview]], int]

_spare: list[mmap.mmap] = []


def open_direct(path: str, flags: int, open_file: Callable[[str, int], int]) -> tuple[int, bool]:
    """Open a file for writes around the cache, or plainly where there are none.

    Returns
    -------
    tuple
        The file, and whether it is written around the cache.
    """
    if _DIRECT and fcntl is not None:
        try:
            return open_file(path, flags | _DIRECT), True
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
        with contextlib.suppress(FileNotFoundError):
            # Some file systems make the file before they refuse.
            os.unlink(path)
    return open_file(path, flags), False


def _aligned() -> mmap.mmap:
    # Private, or a forked process would write into the same memory.
    return mmap.mmap(-1, _STAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Stage:
    """Collects bytes in memory that is aligned as such writes want it.

    Parameters
    ----------
    file
        The file, opened by `open_direct`.
    write_all
        Writes buffers.
    """

    def __init__(self, file: int, write_all: WriteAll) -> None:
        self._file = file
        self._write_all = write_all
        self._memory = _spare.pop() if _spare else _aligned()
        self._used = 0
        self._plain = False

    def add(self, views: Sequence[memoryview]) -> int:
        """Add the bytes of many buffers; return how many."""
        with memoryview(self._memory) as stage:
            for view in views:
                start = 0
                while start < view.nbytes:
                    count = min(view.nbytes - start, _STAGE - self._used)
                    stage[self._used : self._used + count] = view[start : start + count]
                    start, self._used = start + count, self._used + count
                    if self._used == _STAGE:
                        self._flush()
        return sum(view.nbytes for view in views)

    def finish(self) -> None:
        """Write what is left, which need not be whole blocks and so goes through the cache."""
        if self._used:
            self._go_plain()
            self._flush()

    def close(self) -> None:
        """Give the memory back."""
        if len(_spare) < _KEPT:
            _spare.append(self._memory)

    def _flush(self) -> None:
        with memoryview(self._memory) as stage, stage[: self._used] as left:
            views = [left]
            try:
                self._write_all(self._file, views)
            except OSError as error:
                if self._plain or error.errno not in _REFUSED:
                    raise
                # Or the disk took a part of it that is no whole block, and what is left is none.
                self._go_plain()
                self._write_all(self._file, views)
            for view in views:
                view.release()
        self._used = 0

    def _go_plain(self) -> None:
        if not self._plain:
            flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags & ~_DIRECT)
            self._plain = True
