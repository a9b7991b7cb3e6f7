"""A store of the Hugging Face Hub, as the engine reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from zarr.core.sync import sync

from hfzarr.model.document import check_document_size
from hfzarr.model.limits import check_object_size
from hfzarr.store.hub.store import HubStore, awaited
from hfzarr.store.location import Location
from hfzarr.store.options import StorageOptions
from hfzarr.store.ranges import fetch_merged
from hfzarr.store.source import ByteRange, Usage, copy_into

__all__ = ["HubSource", "hub_source"]

T = TypeVar("T")


def hub_source(location: Location) -> HubSource:
    """Return the source at a location of the Hub; nothing is read yet.

    Parameters
    ----------
    location
        Its URL begins with ``hf://``.

    Raises
    ------
    TargetError
        The URL or an option is none of the Hub's.
    MissingDependencyError
        A package is not installed.
    """
    options = StorageOptions.of(location.storage_options)
    return HubSource(HubStore(location.url, options), location.shown)


class HubSource:
    """Reads keys of a store on the Hub.

    It has no use for `ZarrSource`, which can only ask a store for one key after the other: a
    `HubStore` knows sizes, marks and folders from its listing, and near parts of one object are
    fetched as one.

    Parameters
    ----------
    store
        The store.
    url
        Its name in messages; by default with the commit, if that is known already.
    """

    def __init__(self, store: HubStore, url: str | None = None) -> None:
        self.store = store
        self._url = url if url is not None else store.place.url

    def __reduce__(self) -> tuple[type[HubSource], tuple[HubStore, str]]:
        return type(self), (self.store, self._url)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HubSource) and self.store == other.store

    def __hash__(self) -> int:
        return hash((type(self), self.store))

    def __repr__(self) -> str:
        return f"HubSource({self._url!r})"

    @property
    def url(self) -> str:
        """Name of the store in messages."""
        return self._url

    @property
    def local(self) -> bool:
        """False: a read waits for a network."""
        return False

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the object at ``key``, or a part of it."""
        return _sync(self._get(key, byte_range))

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return the objects of many requests, near parts of one object as one request."""
        return _sync(self._get_many(requests))

    async def _get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        return await fetch_merged(requests, self._get)

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many objects that may or may not be there; what is refused is an error here.

        The Hub says of what is absent that it is, so that a refusal is never such an answer.
        """
        return _sync(self._probe(keys))

    async def _probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        get = partial(self.store.reader.get, check=check_document_size)
        return list(await fetch_merged([(key, None) for key in keys], get))

    def _get(self, key: str, byte_range: ByteRange) -> Coroutine[Any, Any, bytes | None]:
        return self.store.reader.get(key, byte_range, check_object_size)

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many objects in bytes."""
        found = _sync(self.store.reader.index.entries(keys))
        return [None if entry is None else entry.size for entry in found]

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return for each of many objects the checksum that the Hub lists, and the size."""
        return _sync(self._stamps(keys))

    async def _stamps(self, keys: Sequence[str]) -> list[str | None]:
        self.store.reader.forget()
        found = await self.store.reader.index.entries(keys)
        return [None if entry is None else entry.mark for entry in found]

    def read_into(self, key: str, buffer: memoryview, byte_range: ByteRange = None) -> int | None:
        """Read the object at ``key``, or a part of it, to the beginning of a buffer."""
        return copy_into(key, self.get(key, byte_range), buffer)

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`, without blocking the event loop."""
        return await awaited(self._get(key, byte_range))

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        return _sync(self.store.reader.index.names(prefix.strip("/")))

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names under many prefixes, all listings under way at once."""
        return _sync(self._list_many(prefixes))

    async def _list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        names = self.store.reader.index.names
        return list(await asyncio.gather(*[names(prefix.strip("/")) for prefix in prefixes]))

    def list_files(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix`` that are objects, not folders."""
        base = prefix.strip("/")
        names = self.list_dir(base)
        found = self.sizes([f"{base}/{name}" if base else name for name in names])
        return [name for name, size in zip(names, found, strict=True) if size is not None]

    def usage(self, prefix: str) -> Usage | None:
        """Return what lies below ``prefix``; None where that takes many requests."""
        return _sync(self.store.reader.index.listing()).usage(prefix.strip("/"))

    def close(self) -> None:
        """Keep the connections: they are those of all stores, and close by themselves."""


def _sync(work: Coroutine[Any, Any, T]) -> T:
    return sync(work)
