"""Where bytes are written: one small interface over folders and zarr stores."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from hfzarr.errors import WriteError
from hfzarr.store.source import Source

__all__ = [
    "WORK",
    "Bytes",
    "Sink",
    "SinkFile",
    "as_views",
    "check_key",
    "ended_error",
    "write_error",
]

#: Folder in a target that a run under way keeps its files in; gone when the run is done.
WORK = ".hfzarr-reshard"

Bytes = bytes | bytearray | memoryview

_AGAIN = "and start the same run again: it does only what is missing"
_REMEDIES = {
    errno.ENOSPC: f"Free some space there {_AGAIN}.",
    errno.EDQUOT: f"Free some of the quota {_AGAIN}.",
    errno.EFBIG: "No file may be so large there (file system, or ulimit -f): ask for less a shard.",
    errno.EACCES: "Get the right to write there, or choose another target.",
    errno.EPERM: "Get the right to write there, or choose another target.",
    errno.EROFS: "Nothing can be written there: choose another target.",
}


@runtime_checkable
class SinkFile(Protocol):
    """An object that is being written, used as ``with sink.create(key) as file:``.

    It is there, whole, once the block was left without an exception. Left with one, nothing is.
    """

    @property
    def size(self) -> int:
        """Bytes written so far."""

    def write(self, data: Bytes | Sequence[Bytes]) -> None:
        """Add bytes, or the bytes of many buffers one after the other.

        The buffers can be used again as soon as this returns.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Sink(Protocol):
    """A writable tree of keys.

    Implementations pickle to what is needed to open them again, and never to a handle. Whatever
    cannot be written raises ``WriteError``.
    """

    @property
    def url(self) -> str:
        """Name of the store in messages; never with a secret in it."""

    @property
    def local(self) -> bool:
        """Whether a write is a matter of this machine, without a network."""

    def create(self, key: str) -> SinkFile:
        """Return a new object that is to lie at ``key``, where it replaces what is there."""

    def put(self, key: str, data: Bytes) -> None:
        """Write a small object, whole or not at all."""

    def append(self, key: str, data: Bytes) -> bool:
        """Add to the object at ``key``; False, with nothing done, where no object can grow.

        A process that is killed meanwhile, or a full disk, may leave a part of ``data`` there.
        """

    def session(self, name: str) -> Sink:
        """Return the same sink for one run, which is told apart from others by a name.

        What it writes comes to nothing, with ``WriteError``, once ``tmp`` in the folder `WORK` was
        deleted: tasks of a run that is gone must not write into the target of the next.
        """

    def delete(self, prefix: str) -> None:
        """Delete the object at ``prefix`` and everything below it; what is absent is fine.

        ``""`` empties the store, but for the folder `WORK`.
        """

    def source(self) -> Source:
        """Return the same place, for reading."""

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out until the block is left, where that can be told.

        Raises
        ------
        WriteError
            Another run is in there.
        """


def as_views(data: Bytes | Sequence[Bytes]) -> list[memoryview]:
    """Return buffers as flat views of bytes, without those that are empty."""
    parts = [data] if isinstance(data, (bytes, bytearray, memoryview)) else data
    views = [memoryview(part) for part in parts]
    return [view.cast("B") for view in views if view.nbytes]


def check_key(key: str) -> str:
    """Return a key that names an object inside the store.

    Raises
    ------
    WriteError
        It leads out of the store, or names nothing in it.
    """
    parts = key.replace("\\", "/").split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in key:
        raise WriteError(
            f"the key {key!r} names no object inside a store, so nothing is written there; a key "
            "is a relative path without empty parts, '.' and '..'"
        )
    return key


def ended_error(url: str, key: str) -> WriteError:
    """Return the error of a task whose run is over."""
    return WriteError(
        f"store {url!r}: {key!r} was not written: the run that it belongs to is over, was begun "
        "anew by another process, or its target was deleted. Start it again if it is still wanted."
    )


def write_error(url: str, key: str, error: Exception, doing: str = "write") -> WriteError:
    """Return what went wrong at a key as an error of our own, with what to do about it."""
    if isinstance(error, WriteError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    remedy = _REMEDIES.get(number or 0, "")
    what = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return WriteError(f"store {url!r}: cannot {doing} {key!r}: {what}. {remedy}".rstrip())
