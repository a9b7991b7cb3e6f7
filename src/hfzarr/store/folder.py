"""A store in a folder of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from hfzarr.errors import ReadError
from hfzarr.store.source import ByteRange

__all__ = ["FolderSource"]


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
        try:
            found = os.stat(f"{self.root}/{key}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ReadError(f"store {self.root!r}: cannot look at {key!r}: {error}") from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None

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

    def close(self) -> None:
        """Nothing is held open."""
