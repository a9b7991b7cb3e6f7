"""A store in a folder of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from hfzarr.errors import ReadError
from hfzarr.store.source import ByteRange, Usage, copy_into

__all__ = ["FolderSource"]

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
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
        path = f"{self.root}/{key}" if key else self.root
        try:
            # buffering=0: one read call for the whole file, without a copy in between.
            with open(path, "rb", buffering=0) as file:
                if byte_range is None:
                    return file.read()
                start, stop = byte_range
                if start < 0:
                    start = max(os.fstat(file.fileno()).st_size + start, 0)
                file.seek(start)
                return file.read() if stop is None else file.read(stop - start)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            raise ReadError(f"store {self.root!r}: cannot read {key!r}: {error}") from error

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return many files: one after the other, as no wait is worth a thread here."""
        return [self.get(key, byte_range) for key, byte_range in requests]

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many files that may or may not be there."""
        return [self.get(key) for key in keys]

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many files in bytes."""
        return [self._size(key) for key in keys]

    def _size(self, key: str) -> int | None:
        found = self._stat(key)
        return None if found is None else found.st_size

    def _stat(self, key: str) -> os.stat_result | None:
        try:
            found = os.stat(f"{self.root}/{key}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ReadError(f"store {self.root!r}: cannot look at {key!r}: {error}") from error
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
            file = os.open(f"{self.root}/{key}", _READ)
            try:
                count = _read_into(file, buffer, byte_range)
            finally:
                os.close(file)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            raise ReadError(f"store {self.root!r}: cannot read {key!r}: {error}") from error
        if count > len(buffer):
            raise BufferError(f"{key!r} has more bytes than the {len(buffer)} there is room for")
        return count

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`."""
        return self.get(key, byte_range)

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names in the folder ``prefix``."""
        try:
            return sorted(os.listdir(f"{self.root}/{prefix}" if prefix else self.root))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ReadError(f"store {self.root!r}: cannot list {prefix!r}: {error}") from error

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
            with os.scandir(f"{self.root}/{prefix}" if prefix else self.root) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ReadError(f"store {self.root!r}: cannot list {prefix!r}: {error}") from error

    def close(self) -> None:
        """Nothing is held open."""


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
