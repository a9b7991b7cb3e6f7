"""A store in a folder of this machine."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hfzarr.errors import LimitError, ReadError
from hfzarr.model.document import check_document_size
from hfzarr.model.limits import check_object_size, get_limits
from hfzarr.model.report import shorten
from hfzarr.store.source import ByteRange, Usage, copy_into

__all__ = ["FolderSource"]

# Without O_NONBLOCK, opening a named pipe waits for somebody to write to it.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
# No file has a name with lone surrogates, which JSON can spell.
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError, UnicodeEncodeError)
# Where a byte goes that a buffer has no room for; nobody looks at it.
_SPILL = bytearray(1)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Reads keys as files below ``root``.

    Parameters
    ----------
    root
        The folder, as an absolute path.
    """

    root: str

    @property
    def url(self) -> str:
        """The folder."""
        return self.root

    @property
    def local(self) -> bool:
        """True: files of this machine."""
        return True

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the file at ``key``, or a part of it."""
        return self._get(key, byte_range, check_object_size)

    def _get(
        self, key: str, byte_range: ByteRange, check: Callable[[int, str], None]
    ) -> bytes | None:
        try:
            file = os.open(self._path(key), _READ)
            try:
                size = _regular(file)
                if byte_range is None:
                    check(size, f"store {self.root!r}: {shorten(key)}")
                    return _read(file, 0, size)
                start, stop = byte_range
                if start < 0:
                    start = max(size + start, 0)
                return _read(
                    file, start, max((size if stop is None else min(stop, size)) - start, 0)
                )
            finally:
                os.close(file)
        except _ABSENT:
            return None
        except OSError as error:
            raise self._unread("read", key, error) from error

    def _path(self, key: str) -> str:
        """Return the path of a key, which never leaves the folder by its own text."""
        if "\0" in key:
            raise FileNotFoundError(key)
        if ".." in key and ".." in key.split("/"):
            raise ReadError(f"store {self.root!r}: {shorten(key)} leads out of the store")
        path = f"{self.root}/{key}" if key else self.root
        if not get_limits().follow_links:
            self._check_links(key, path)
        return path

    def _check_links(self, key: str, path: str) -> None:
        root, real = os.path.realpath(self.root), os.path.realpath(path)
        if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
            raise LimitError(
                f"store {self.root!r}: {shorten(key)} is a link that leads out of the store, and "
                "such links are not followed. If the store is to be trusted, allow them with "
                "hfzarr.set_limits(follow_links=True)."
            )

    def _unread(self, verb: str, key: str, error: OSError) -> ReadError:
        why = error.strerror or str(error)
        return ReadError(f"store {self.root!r}: cannot {verb} {shorten(key)}: {why}")

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return many files: one after the other, as no wait is worth a thread here."""
        return [self.get(key, byte_range) for key, byte_range in requests]

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many files that may or may not be there."""
        return [self._get(key, None, check_document_size) for key in keys]

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many files in bytes."""
        return [self._size(key) for key in keys]

    def _size(self, key: str) -> int | None:
        found = self._stat(key)
        return None if found is None else found.st_size

    def _stat(self, key: str) -> os.stat_result | None:
        try:
            found = os.stat(self._path(key))
        except _ABSENT:
            return None
        except OSError as error:
            raise self._unread("look at", key, error) from error
        return found if stat.S_ISREG(found.st_mode) else None

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return size and time of the last change of many files."""
        return [self._stamp(key) for key in keys]

    def _stamp(self, key: str) -> str | None:
        found = self._stat(key)
        return None if found is None else f"{found.st_size}-{found.st_mtime_ns}"

    def read_into(self, key: str, buffer: memoryview, byte_range: ByteRange = None) -> int | None:
        """Read the file at ``key``, or a part of it, to the beginning of a buffer."""
        if not hasattr(os, "readv"):
            return copy_into(key, self.get(key, byte_range), buffer)
        try:
            file = os.open(self._path(key), _READ)
            try:
                # What is no file fills the buffer at most, and is not waited for.
                count = _read_into(file, buffer, byte_range)
            finally:
                os.close(file)
        except _ABSENT:
            return None
        except OSError as error:
            raise self._unread("read", key, error) from error
        if count > len(buffer):
            raise BufferError(f"{key!r} has more bytes than the {len(buffer)} there is room for")
        return count

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`."""
        return self.get(key, byte_range)

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names in the folder ``prefix``."""
        try:
            return sorted(os.listdir(self._path(prefix)))
        except _ABSENT:
            return []
        except OSError as error:
            raise self._unread("list", prefix, error) from error

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names in many folders."""
        return [self.list_dir(prefix) for prefix in prefixes]

    def list_files(self, prefix: str) -> list[str]:
        """Return the names of the files in the folder ``prefix``."""
        return sorted(entry.name for entry in self._entries(prefix) if entry.is_file())

    def usage(self, prefix: str) -> Usage:
        """Return how many files lie below the folder ``prefix``, and their bytes."""
        files = size = mark = 0
        seen: set[str] = set()
        waiting = [prefix]
        while waiting:
            for entry in self._entries(folder := waiting.pop()):
                if entry.is_file():
                    found = entry.stat()
                    files, size, mark = files + 1, size + found.st_size, mark + found.st_mtime_ns
                elif entry.is_dir() and _is_new(entry, seen):
                    waiting.append(f"{folder}/{entry.name}" if folder else entry.name)
        return Usage(files, size, mark)

    def _entries(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._path(prefix)) as entries:
                return list(entries)
        except _ABSENT:
            return []
        except OSError as error:
            raise self._unread("list", prefix, error) from error

    def close(self) -> None:
        """Nothing is held open."""


def _regular(file: int) -> int:
    """Return the size of a file, or raise for what is none: a pipe, or a device without end."""
    found = os.fstat(file)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file, but a device, pipe or socket")
    return found.st_size


def _read(file: int, start: int, count: int) -> bytes:
    if start:
        os.lseek(file, start, os.SEEK_SET)
    data = os.read(file, count)
    if len(data) == count or not data:
        return data
    # A read may be short before the end, on network file systems and beyond 2 GiB.
    parts = [data]
    left = count - len(data)
    while left and (more := os.read(file, left)):
        parts.append(more)
        left -= len(more)
    return b"".join(parts)


def _read_into(file: int, buffer: memoryview, byte_range: ByteRange) -> int:
    """Return how many bytes came; one more than the buffer has where they do not fit."""
    most = len(buffer) + 1
    if byte_range is not None:
        start, stop = byte_range
        if start < 0:
            start = max(os.fstat(file).st_size + start, 0)
        os.lseek(file, start, os.SEEK_SET)
        if stop is not None:
            most = min(most, stop - start)
    count = 0
    while count < most:
        # A read may be short before the end, on network file systems: only 0 says that it is.
        more = os.readv(file, _rest(buffer, count, most))
        if not more:
            break
        count += more
    return count


def _rest(buffer: memoryview, count: int, most: int) -> list[memoryview | bytearray]:
    if most > len(buffer):
        return [buffer[count:], _SPILL]
    return [buffer[count:most]]


def _is_new(entry: os.DirEntry[str], seen: set[str]) -> bool:
    """Whether a folder was not met before: a link may lead back to where it lies."""
    if not entry.is_symlink():
        return True
    real = os.path.realpath(entry.path)
    new = real not in seen and not f"{os.path.realpath(os.path.dirname(entry.path))}/".startswith(
        f"{real}/"
    )
    seen.add(real)
    return new
