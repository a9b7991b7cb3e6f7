"""Stores of the Hugging Face Hub, as zarr-python sees them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.sync import _get_loop

from hfzarr.errors import TargetError
from hfzarr.store.hub.client import Login
from hfzarr.store.hub.paths import HubPlace, parse_hub_url
from hfzarr.store.hub.reader import HubReader
from hfzarr.store.options import StorageOptions
from hfzarr.store.source import ByteRange

__all__ = ["HubStore", "awaited"]

T = TypeVar("T")


class HubStore(Store):
    """A read-only zarr store on the Hugging Face Hub.

    The revision is pinned to a commit when the store is first read, so that what is read belongs
    together whatever is pushed meanwhile. Buckets have no commits: an object that is replaced
    while it is read is an error.

    A store may be used from many threads, from any event loop and in forked processes. It pickles
    to its URL with the commit, and its options without secrets: in another process, the login
    there serves.

    Parameters
    ----------
    url
        Such as ``hf://datasets/namespace/name@revision/path/to/store.zarr``.
    storage_options
        ``token`` (text, or False for nobody), ``endpoint``, ``revision``. What is left out is
        what huggingface_hub has: ``HF_TOKEN`` or a saved login, ``HF_ENDPOINT``.
    read_only
        True: stores are written by other means.

    Raises
    ------
    TargetError
        The URL or an option is none of the Hub's, or the store was to be written to.

    Examples
    --------
    >>> HubStore("hf://datasets/ada/cells/a.zarr", storage_options={"token": "hf_secret"})
    HubStore('hf://datasets/ada/cells/a.zarr')
    """

    supports_writes = False
    supports_deletes = False
    supports_partial_writes = False
    supports_listing = True

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | StorageOptions | None = None,
        *,
        read_only: bool = True,
    ) -> None:
        if not read_only:
            raise TargetError(
                f"{url!r} was to be opened for writing, and a HubStore is read-only: the Hub takes "
                "commits, not single objects. Write to a folder, and upload that."
            )
        revision, options = _cut_revision(StorageOptions.of(storage_options))
        self._begin(parse_hub_url(url, revision), Login(options))

    def _begin(self, place: HubPlace, login: Login) -> None:
        super().__init__(read_only=True)
        self._login = login
        self.reader = HubReader(place, login)

    def __reduce__(self) -> tuple[Any, tuple[type[HubStore], str, StorageOptions]]:
        return _again, (type(self), self.place.url, self._login.options)

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and isinstance(other, HubStore)
            and self.place == other.place
            and self._login.options == other._login.options
        )

    def __hash__(self) -> int:
        return hash((type(self), self.place.kind, self.place.repo, self.place.path))

    def __repr__(self) -> str:
        return f"HubStore({self.place.url!r})"

    __str__ = __repr__

    @property
    def place(self) -> HubPlace:
        """Where the store lies; with its commit, once it was read."""
        return self.reader.place

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the object at ``key``, or a part of it; None where there is none."""
        data = await awaited(self.reader.get(key, _as_range(byte_range)))
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return parts of many objects, all requests under way at once."""
        work = [self.get(key, prototype, wanted) for key, wanted in key_ranges]
        return list(await asyncio.gather(*work))

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        """Yield many objects, all requests under way at once."""
        requests = list(requests)
        found = await asyncio.gather(*[self.get(*request) for request in requests])
        for request, value in zip(requests, found, strict=True):
            yield request[0], value

    async def exists(self, key: str) -> bool:
        """Whether there is an object at ``key``."""
        return await awaited(self.reader.exists(key))

    async def getsize(self, key: str) -> int:
        """Return the size of an object in bytes.

        Raises
        ------
        FileNotFoundError
            There is no such object.
        """
        (entry,) = await awaited(self.reader.index.entries([key]))
        if entry is None:
            raise FileNotFoundError(key)
        return entry.size

    async def is_empty(self, prefix: str) -> bool:
        """Whether nothing lies below ``prefix``."""
        return not await awaited(self.reader.index.names(prefix.strip("/")))

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield all keys that begin with ``prefix``."""
        for key in await awaited(self.reader.index.keys(prefix)):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly under ``prefix``."""
        for name in await awaited(self.reader.index.names(prefix.strip("/"))):
            yield name

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: the store is read-only."""
        self._check_writable()

    async def set_partial_values(self, key_start_values: Iterable[tuple[str, int, Any]]) -> None:
        """Refuse: the store is read-only. The method is abstract in zarr-python until 3.1.2."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse: the store is read-only."""
        self._check_writable()


# What was learned of commits, for the copies of a store that tasks bring to this process.
_readers: OrderedDict[tuple[HubPlace, StorageOptions, str], HubReader] = OrderedDict()
_MOST_READERS = 64
_lock = threading.Lock()


def _again(cls: type[HubStore], url: str, options: StorageOptions) -> HubStore:
    """Return a store from its pickle; all copies of one share what they learn of its commit."""
    store = cls.__new__(cls)
    store._begin(parse_hub_url(url), Login(options, checked=False))
    try:
        name = (store.place, options, store._login.endpoint)
    except (TargetError, ImportError):
        # A variable of the environment or a package is missing: the first request will tell.
        return store
    if store.place.pinned:
        with _lock:
            store.reader = _readers.setdefault(name, store.reader)
            _readers.move_to_end(name)
            if len(_readers) > _MOST_READERS:
                _readers.popitem(last=False)
    return store


async def awaited(work: Coroutine[Any, Any, T]) -> T:
    """Await on zarr's event loop, where the connections are, from whichever loop this is."""
    home = _get_loop()
    if asyncio.get_running_loop() is home:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, home))


def _cut_revision(options: StorageOptions) -> tuple[str | None, StorageOptions]:
    """Return the revision among options, and the others: a URL with its commit holds it better."""
    plain = json.loads(options.plain)
    revision = plain.pop("revision", None)
    return revision, StorageOptions(plain=json.dumps(plain, sort_keys=True), kept=options.kept)


def _as_range(request: ByteRequest | None) -> ByteRange:
    if request is None:
        return None
    if isinstance(request, RangeByteRequest):
        return request.start, request.end
    if isinstance(request, OffsetByteRequest):
        return request.offset, None
    if isinstance(request, SuffixByteRequest):
        # The last 0 bytes are none, while a start of 0 would be all of them.
        return (-request.suffix, None) if request.suffix else (0, 0)
    raise TypeError(
        f"Unexpected byte_range, got {request!r}; wanted one of zarr.abc.store, or None"
    )
