"""Writing to a folder of this machine: each file whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from hfzarr.errors import WriteError
from hfzarr.store.direct import Stage, open_direct
from hfzarr.store.folder import FolderSource
from hfzarr.store.sink import WORK, Bytes, as_views, check_key, ended_error, write_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["FolderSink"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
# As many buffers as one call takes; at least 16 by POSIX, 1024 on Linux and macOS.
_IOV_MAX = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in getattr(os, "sysconf_names", {}) else 16
# File systems that know no locks say so with one of these.
_NO_LOCKS = frozenset([errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL])
_TRIES = 100


@dataclass(frozen=True, slots=True)
class FolderSink:
    """Writes keys as files below ``root``, which is made with the first of them.

    A file grows under a temporary name in `WORK`, and is renamed when it is whole and on disk.

    Parameters
    ----------
    root
        The folder, as an absolute path.
    sync
        Whether a file is on disk, not only in the system's cache, before it gets its name. Without,
        a machine that loses power may keep a name and lose its bytes; a killed process does not.
    run
        Name of the run that writes; see `session`.
    direct
        Whether large files go around the system's cache, where the file system knows how.
    """

    root: str
    sync: bool = True
    run: str = ""
    direct: bool = True

    @property
    def url(self) -> str:
        """The folder."""
        return self.root

    @property
    def local(self) -> bool:
        """True: files of this machine."""
        return True

    def create(self, key: str) -> FolderFile:
        """Return a new file, which gets its name when it is whole."""
        return FolderFile(self, check_key(key), direct=self.direct)

    def put(self, key: str, data: Bytes) -> None:
        """Write a file, whole or not at all."""
        with FolderFile(self, check_key(key), direct=False) as file:
            file.write(data)

    def append(self, key: str, data: Bytes) -> bool:
        """Add to a file, with one call of the system where the disk has room for all."""
        path = self._path(key)
        if self.run and not os.path.isdir(self.temporary):
            raise ended_error(self.root, key)
        try:
            file = _open_in(path, _APPEND)
            try:
                _write_all(file, as_views(data))
            finally:
                os.close(file)
        except OSError as error:
            raise write_error(self.root, key, error) from error
        return True

    @property
    def temporary(self) -> str:
        """Where files lie that are not whole yet."""
        return f"{self.root}/{WORK}/tmp" + (f"/{self.run}" if self.run else "")

    def session(self, name: str) -> FolderSink:
        """Return the same folder for one run, whose temporary files lie by themselves."""
        own = replace(self, run=name)
        try:
            os.makedirs(own.temporary, exist_ok=True)
        except OSError as error:
            raise write_error(self.root, f"{WORK}/tmp/{name}", error) from error
        return own

    def delete(self, prefix: str) -> None:
        """Delete a file, or a folder and everything in it."""
        if not prefix:
            for name in FolderSource(self.root).list_dir(""):
                if name != WORK:
                    self.delete(name)
            return
        path = self._path(prefix)
        try:
            _remove(path)
        except OSError as error:
            raise write_error(self.root, prefix, error, "delete") from error

    def source(self) -> FolderSource:
        """Return the same folder, for reading."""
        return FolderSource(self.root)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out of the folder; the system lets go when the process ends.

        A process that was forked meanwhile shares the lock, and holds it until it ends as well.
        """
        return _locked(self.root)

    def _path(self, key: str) -> str:
        return f"{self.root}/{check_key(key)}"


class FolderFile:
    """A file that gets its name when it is whole."""

    def __init__(self, sink: FolderSink, key: str, *, direct: bool) -> None:
        self._sink = sink
        self._direct = direct
        self._stage: Stage | None = None
        self._key = key
        self._temporary = f"{sink.temporary}/{uuid.uuid4().hex}"
        self._file = -1
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: Bytes | Sequence[Bytes]) -> None:
        """Add bytes, or the bytes of many buffers, with few calls of the system."""
        views = as_views(data)
        try:
            if self._stage is None:
                self._size += _write_all(self._file, views)
            else:
                self._size += self._stage.add(views)
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        # Only who begins a run makes its folder: one that is gone says that the run is over.
        open_file = _open if self._sink.run else _open_in
        try:
            if not self._direct:
                self._file = open_file(self._temporary, _NEW)
                return self
            self._file, direct = open_direct(self._temporary, _NEW, open_file)
        except OSError as error:
            raise self._failed(error) from error
        self._stage = Stage(self._file, _write_all) if direct else None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._drop()
            return
        try:
            self._keep()
        except OSError as failure:
            self._drop()
            raise self._failed(failure) from failure
        except BaseException:
            self._drop()
            raise

    def _keep(self) -> None:
        if self._stage is not None:
            self._stage.finish()
        if self._sink.sync:
            os.fsync(self._file)
        # Some file systems say only now that the disk is full.
        self._close()
        path = f"{self._sink.root}/{self._key}"
        try:
            os.replace(self._temporary, path)
        except FileNotFoundError:
            if not os.path.lexists(self._temporary):
                raise
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(self._temporary, path)

    def _close(self) -> None:
        if self._stage is not None:
            self._stage.close()
            self._stage = None
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _drop(self) -> None:
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)

    def _failed(self, error: OSError) -> WriteError:
        if self._sink.run and not os.path.isdir(self._sink.temporary):
            return ended_error(self._sink.root, self._key)
        return write_error(self._sink.root, self._key, error)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags, 0o666)


def _open_in(path: str, flags: int) -> int:
    """Open a file, and make its folder if that is missing."""
    try:
        return _open(path, flags)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return _open(path, flags)


def _write_all(file: int, views: list[memoryview]) -> int:
    """Write buffers one after the other, which uses up the list; return how many bytes they had.

    One call may write fewer bytes than it was given.
    """
    size = first = 0
    while first < len(views):
        if hasattr(os, "writev"):
            count = os.writev(file, views[first : first + _IOV_MAX])
        else:
            count = os.write(file, views[first])
        size += count
        while first < len(views) and count >= views[first].nbytes:
            count -= views[first].nbytes
            first += 1
        if count:
            views[first] = views[first][count:]
    return size


def _remove(path: str) -> None:
    """Remove a file or a tree; others may remove the same, or add to it, meanwhile."""
    for left in reversed(range(_TRIES)):
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
            return
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
            if not left:
                raise
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not left:
                raise


@contextlib.contextmanager
def _locked(root: str) -> Iterator[None]:
    try:
        file = _take_lock(root)
    except OSError as error:
        raise write_error(root, f"{WORK}/lock", error) from error
    try:
        yield
    finally:
        os.close(file)


def _take_lock(root: str) -> int:
    path = f"{root}/{WORK}/lock"
    while True:
        file = _open_in(path, os.O_RDWR | os.O_CREAT)
        try:
            _flock(file, root)
            if _is_at(file, path):
                _sign(file)
                return file
        except BaseException:
            os.close(file)
            raise
        # A run that ended just now took the file away, with the lock that was gained on it.
        os.close(file)


def _sign(file: int) -> None:
    """Say who holds the lock, for the message that others get; a full disk is no matter here."""
    with contextlib.suppress(OSError):
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _flock(file: int, root: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(file, 200).decode("utf-8", "replace") or "another process"
        raise WriteError(
            f"store {root!r}: another run writes to it ({holder}). Wait until it is done, or stop "
            "it, and start again."
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is_at(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
