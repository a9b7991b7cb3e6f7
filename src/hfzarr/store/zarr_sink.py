"""Writing to a store behind zarr-python's own interface: object stores, memory, anyone's."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hfzarr.store.sink import WORK, Bytes, as_views, check_key, ended_error, write_error
from hfzarr.store.wrapped import ZarrSource, forget_listings

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["ZarrSink"]


class ZarrSink:
    """Writes keys to a zarr store, each object with one request.

    An object is held in memory until it is whole; while it is sent, zarr-python holds it twice.

    Parameters
    ----------
    store
        The store; it is opened when first written to.
    url
        Its name in messages.
    held
        Whether the store is the caller's, and may be bound to the caller's event loop.
    run
        Name of the run that writes; see `session`.
    """

    def __init__(
        self, store: Store, url: str | None = None, *, held: bool = False, run: str = ""
    ) -> None:
        self.store = store
        self.held = held
        self.run = run
        self._url = url if url is not None else str(store)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZarrSink) and bool(self.store == other.store)

    def __hash__(self) -> int:
        return hash((type(self), self._url))

    def __repr__(self) -> str:
        return f"ZarrSink({self._url!r})"

    @property
    def url(self) -> str:
        """Name of the store in messages."""
        return self._url

    @property
    def local(self) -> bool:
        """False: a write may wait for a network."""
        return False

    def create(self, key: str) -> ZarrFile:
        """Return a new object, which is sent when it is whole."""
        return ZarrFile(self, check_key(key))

    def put(self, key: str, data: Bytes) -> None:
        """Write an object with one request."""
        if self.run and self.source().stamps([self._mark]) == [None]:
            raise ended_error(self._url, key)
        self._do(self._set(check_key(key), data), key, "write")

    def append(self, key: str, data: Bytes) -> bool:
        """Return False: objects do not grow."""
        return False

    @property
    def _mark(self) -> str:
        return f"{WORK}/tmp/{self.run}"

    def session(self, name: str) -> ZarrSink:
        """Return the same store for one run, which ends when an object of that name is gone."""
        own = ZarrSink(self.store, self._url, held=self.held, run=name)
        self.put(own._mark, b"a run is under way")
        return own

    def delete(self, prefix: str) -> None:
        """Delete the object at ``prefix`` and all below it."""
        if not prefix:
            for name in self.source().list_dir(""):
                if name != WORK:
                    self.delete(name)
            return
        self._do(self._delete(check_key(prefix)), prefix, "delete")

    def source(self) -> ZarrSource:
        """Return the same store, for reading."""
        # Other processes may have written what was listed before.
        forget_listings(self.store)
        return ZarrSource(self.store, self._url, held=self.held)

    def lock(self) -> AbstractContextManager[None]:
        """Lock nothing: object stores have no locks."""
        return contextlib.nullcontext()

    async def _set(self, key: str, data: Bytes) -> None:
        from zarr.core.buffer import default_buffer_prototype

        await self.store._ensure_open()
        await self.store.set(key, default_buffer_prototype().buffer.from_bytes(data))

    async def _delete(self, prefix: str) -> None:
        await self.store._ensure_open()
        await self.store.delete_dir(prefix)
        await self.store.delete(prefix)

    def _do(self, work: Coroutine[Any, Any, None], key: str, doing: str) -> None:
        from zarr.core.sync import sync

        try:
            sync(work)
        except Exception as error:
            raise write_error(self._url, key, error, doing) from error


class ZarrFile:
    """An object that is sent when it is whole."""

    def __init__(self, sink: ZarrSink, key: str) -> None:
        self._sink = sink
        self._key = key
        self._data = bytearray()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return len(self._data)

    def write(self, data: Bytes | Sequence[Bytes]) -> None:
        """Add a copy of bytes, or of the bytes of many buffers."""
        for view in as_views(data):
            self._data += view

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._sink.put(self._key, self._data)
