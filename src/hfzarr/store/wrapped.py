"""A store behind zarr-python's own interface: fsspec URLs, memory, icechunk, anyone's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hfzarr.errors import HfzarrError, ReadError, UnsupportedError
from hfzarr.store.source import ByteRange, Usage, copy_into

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest, Store
    from zarr.storage import FsspecStore

__all__ = ["ZarrSource", "forget_listings"]

T = TypeVar("T")

# How many requests are under way at once: enough to hide latency, few enough for a server.
_IN_FLIGHT = 64
# What file systems call a checksum of an object, and the time of its last change.
_CHECKSUMS = ("ETag", "etag", "Content-MD5", "Digest", "md5Hash", "content_md5", "blob_id")
_TIMES = ("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created")
# KeyError is how fsspec's zip, before 2025, says that an entry is absent.
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError, KeyError)


class ZarrSource:
    """Reads keys from a zarr store.

    Parameters
    ----------
    store
        The store; it is opened when first read.
    url
        Its name in messages.
    held
        Whether the store is the caller's, and may be bound to the caller's event loop.
    """

    def __init__(self, store: Store, url: str | None = None, *, held: bool = False) -> None:
        self.store = store
        self.held = held
        self._url = url if url is not None else str(store)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZarrSource) and bool(self.store == other.store)

    def __hash__(self) -> int:
        return hash((type(self), self._url))

    def __repr__(self) -> str:
        return f"ZarrSource({self._url!r})"

    @property
    def url(self) -> str:
        """Name of the store in messages."""
        return self._url

    @property
    def local(self) -> bool:
        """False: a read may wait for a network."""
        return False

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the object at ``key``, or a part of it."""
        return self._sync(self._get(key, byte_range))

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return the objects of many requests, all under way at once."""
        return self._sync(_gather([self._request(request) for request in requests]))

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many objects that may or may not be there, all requests under way at once."""
        return self._sync(_gather([self._probing(key) for key in keys]))

    def _probing(self, key: str) -> Callable[[], Awaitable[bytes | PermissionError | None]]:
        return lambda: self._probe(key)

    async def _probe(self, key: str) -> bytes | PermissionError | None:
        try:
            return await self._get(key, None)
        except ReadError as error:
            # Object stores answer 403 for what is absent where listing is not allowed.
            if isinstance(error.__cause__, PermissionError):
                return error.__cause__
            raise

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many objects in bytes, all requests under way at once.

        Raises
        ------
        UnsupportedError
            The store can tell a size only by reading.
        """
        return self._sync(_gather([self._sizing(key) for key in keys]))

    def _sizing(self, key: str) -> Callable[[], Awaitable[int | None]]:
        return lambda: self._size(key)

    async def _size(self, key: str) -> int | None:
        store = _telling_sizes(self.store)
        if store is None:
            raise UnsupportedError(
                f"store {self.url!r} ({type(self.store).__name__}) tells the size of {key!r} only "
                "by reading it"
            )
        try:
            await store._ensure_open()
            return await store.getsize(key)
        except _ABSENT:
            return None
        except Exception as error:
            raise ReadError(
                f"store {self.url!r}: cannot tell the size of {key!r}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return what the store tells of many objects, all requests under way at once.

        That is the checksum or the time of the last change where it is one of fsspec's, and the
        size; ``"?"`` where it can tell neither without reading.
        """
        return self._sync(self._stamps(keys))

    async def _stamps(self, keys: Sequence[str]) -> list[str | None]:
        forget_listings(self.store)
        return await _gather([self._stamping(key) for key in keys])

    def _stamping(self, key: str) -> Callable[[], Awaitable[str | None]]:
        return lambda: self._stamp(key)

    async def _stamp(self, key: str) -> str | None:
        inner = _fsspec_store(self.store)
        try:
            await self.store._ensure_open()
            if inner is not None:
                return _stamp_of(await inner.fs._info(_path_in(inner, key)))
            if _telling_sizes(self.store) is None:
                return "?" if await self.store.exists(key) else None
        except _ABSENT:
            return None
        except Exception as error:
            raise ReadError(
                f"store {self.url!r}: cannot look at {key!r}: {type(error).__name__}: {error}"
            ) from error
        size = await self._size(key)
        return None if size is None else str(size)

    def read_into(self, key: str, buffer: memoryview, byte_range: ByteRange = None) -> int | None:
        """Read the object at ``key``, or a part of it, to the beginning of a buffer."""
        return copy_into(key, self.get(key, byte_range), buffer)

    def _request(self, request: tuple[str, ByteRange]) -> Callable[[], Awaitable[bytes | None]]:
        return lambda: self._get(*request)

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`, without blocking the caller's event loop."""
        # The store's clients belong to zarr's own event loop, so that is where they are awaited.
        from zarr.core.sync import _get_loop

        future = asyncio.run_coroutine_threadsafe(self._get(key, byte_range), _get_loop())
        return await asyncio.wrap_future(future)

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names under ``prefix``."""
        return self._sync(self._list(prefix))

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names under many prefixes, all listings under way at once."""
        return self._sync(_gather([self._listing(prefix) for prefix in prefixes]))

    def _listing(self, prefix: str) -> Callable[[], Awaitable[list[str]]]:
        return lambda: self._list(prefix)

    def list_files(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix`` that are objects, not folders."""
        return self._sync(self._list_files(prefix.strip("/")))

    async def _list_files(self, prefix: str) -> list[str]:
        names = await self._list(prefix)
        inner = _fsspec_store(self.store)
        try:
            if inner is not None:
                entries = await inner.fs._ls(_path_in(inner, prefix), detail=True)
                files = {_name_of(entry) for entry in entries if entry["type"] == "file"}
                return [name for name in names if name in files]
            keys = [f"{prefix}/{name}" if prefix else name for name in names]
            found = await _gather([self._asking(key) for key in keys])
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._no_listing(prefix, f"{type(error).__name__}: {error}") from error
        return [name for name, there in zip(names, found, strict=True) if there]

    def _asking(self, key: str) -> Callable[[], Awaitable[bool]]:
        return lambda: self.store.exists(key)

    def usage(self, prefix: str) -> Usage | None:
        """None: a store behind zarr-python's interface tells it by one object at a time."""
        return None

    async def _get(self, key: str, byte_range: ByteRange) -> bytes | None:
        from zarr.core.buffer import default_buffer_prototype

        try:
            await self.store._ensure_open()
            buffer = await self.store.get(
                key, default_buffer_prototype(), byte_range=_byte_request(byte_range)
            )
        except HfzarrError:
            raise
        except _ABSENT:
            return None
        except Exception as error:
            raise ReadError(
                f"store {self.url!r}: cannot read {key!r}: {type(error).__name__}: {error}. Where "
                "it is a matter of login, give storage_options=, such as {'anon': True}."
            ) from error
        return None if buffer is None else buffer.to_bytes()

    async def _list(self, prefix: str) -> list[str]:
        if not self.store.supports_listing:
            raise self._no_listing(prefix, "it offers no listing")
        try:
            await self.store._ensure_open()
            names = [name async for name in self.store.list_dir(prefix)]
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._no_listing(prefix, f"{type(error).__name__}: {error}") from error
        return sorted({name.strip("/").rpartition("/")[2] for name in names if name.strip("/")})

    def _no_listing(self, prefix: str, why: str) -> UnsupportedError:
        return UnsupportedError(
            f"store {self.url!r}: the members of {prefix or '/'!r} cannot be listed ({why}). "
            "Consolidate its metadata, or name the array or image wanted with group=."
        )

    def _sync(self, work: Coroutine[Any, Any, T]) -> T:
        from zarr.core.sync import sync

        return sync(work)

    def close(self) -> None:
        """Leave the store open: it may be the caller's."""


def forget_listings(store: Store) -> None:
    """Let go of listings that fsspec keeps for good: others may have written since."""
    if (inner := _fsspec_store(store)) is not None:
        getattr(inner.fs, "sync_fs", inner.fs).invalidate_cache()


def _telling_sizes(store: Store) -> Store | None:
    """Return the store that tells sizes without reading, itself or what it wraps, if any does."""
    from zarr.abc.store import Store as Base
    from zarr.storage import MemoryStore, WrapperStore

    # What zarr-python gives to stores that have no such method reads the object.
    while type(store).getsize is Base.getsize and not isinstance(store, MemoryStore):
        if not isinstance(store, WrapperStore):
            return None
        store = store._store
    return store


def _fsspec_store(store: Store) -> FsspecStore | None:
    """Return the store, or the one that it wraps, if it is one of fsspec's."""
    from zarr.storage import FsspecStore, WrapperStore

    while isinstance(store, WrapperStore):
        store = store._store
    return store if isinstance(store, FsspecStore) else None


def _path_in(store: FsspecStore, key: str) -> str:
    root = store.path.rstrip("/")
    return (f"{root}/{key}" if root else key).rstrip("/")


def _name_of(entry: Mapping[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


def _stamp_of(info: Mapping[str, Any]) -> str | None:
    """Return what a file system says of an object as one text; None for a folder."""
    if info.get("type") == "directory":
        return None
    # A time as well as a checksum: it says since when that holds.
    known = (
        next((info[name] for name in names if info.get(name) is not None), None)
        for names in (_CHECKSUMS, _TIMES)
    )
    told = [one for one in known if one is not None]
    if info.get("size") is not None:
        told.append(info["size"])
    return "-".join(str(one).strip('"') for one in told) or "?"


def _byte_request(byte_range: ByteRange) -> ByteRequest | None:
    if byte_range is None:
        return None
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest

    start, stop = byte_range
    if stop is not None:
        return RangeByteRequest(start, stop)
    return SuffixByteRequest(-start) if start < 0 else OffsetByteRequest(start)


async def _gather(work: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    limit = asyncio.Semaphore(_IN_FLIGHT)

    async def one(make: Callable[[], Awaitable[T]]) -> T:
        async with limit:
            return await make()

    return list(await asyncio.gather(*(one(make) for make in work)))
