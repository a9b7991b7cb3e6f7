"""A store in a bucket or on a web server, read by obstore, and by fsspec what obstore cannot."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from email.utils import format_datetime
from typing import Any, TypeVar

from hfzarr.errors import HfzarrError, ReadError
from hfzarr.model.document import check_document_size
from hfzarr.model.limits import SizeCheck, check_object_size
from hfzarr.model.report import shorten
from hfzarr.store.location import Location, hide_secrets
from hfzarr.store.objects.client import ObjectClient, client_of, is_served_here
from hfzarr.store.objects.options import ObjectPlace, fsspec_defaults, object_place
from hfzarr.store.objects.trouble import Trouble, Unfit
from hfzarr.store.options import StorageOptions
from hfzarr.store.ranges import fetch_merged
from hfzarr.store.remote import reaching
from hfzarr.store.source import ByteRange, Usage, copy_into
from hfzarr.store.wrapped import ZarrSource, _stamp_of

__all__ = ["ObjectSource", "object_source"]

T = TypeVar("T")


def object_source(location: Location) -> ObjectSource | None:
    """Return the source at a URL; nothing of the store is read yet.

    None where obstore is not installed, or what the options say of the store cannot be said to
    obstore exactly: then fsspec reads it.

    Parameters
    ----------
    location
        Of any URL.
    """
    if not is_served_here():
        return None
    options = StorageOptions.of(location.storage_options)
    source = ObjectSource(location.url, options)
    return source if source.is_served else None


class ObjectSource:
    """Reads keys of a store in a bucket or on a web server.

    Objects are read by obstore. Listings come from fsspec, which lists web pages too; so does
    everything in a process that was forked from one that read by obstore, as obstore does
    not work there. Near parts of one object are fetched as one.

    Parameters
    ----------
    url
        Where the store lies; it may hold a password.
    options
        For fsspec, by reference. In another process those that are secret are not known, and
        what is configured there stands for them.
    """

    def __init__(self, url: str, options: StorageOptions) -> None:
        # A password in a URL is a secret like any other.
        self._url = hide_secrets(url)
        self._secret = StorageOptions.of({_URL: url} if url != self._url else None)
        self._options = options
        self._lock = threading.Lock()
        self._opened: tuple[ObjectPlace, ObjectClient] | None = None
        self._fallback: ZarrSource | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._url, self._options, self._secret)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectSource) and (self._url, self._options, self._secret) == (
            other._url,
            other._options,
            other._secret,
        )

    def __hash__(self) -> int:
        return hash((type(self), self._url))

    def __repr__(self) -> str:
        return f"ObjectSource({self.url!r})"

    @property
    def url(self) -> str:
        """Name of the store in messages."""
        return self._url

    @property
    def local(self) -> bool:
        """False: a read waits for a network."""
        return False

    @property
    def is_served(self) -> bool:
        """Whether obstore can read the store, in this process."""
        return self._client() is not None

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the object at ``key``, or a part of it."""
        return _sync(self._get(key, byte_range))

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return the objects of many requests, near parts of one object as one request."""
        return _sync(fetch_merged(requests, self._get))

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many objects that may or may not be there, all requests under way at once."""
        return _sync(self._probe_all(keys))

    async def _probe_all(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        return list(await asyncio.gather(*[self._probe(key) for key in keys]))

    async def _probe(self, key: str) -> bytes | PermissionError | None:
        try:
            return await self._get(key, None, check_document_size)
        except ReadError as error:
            # Object stores answer 403 for what is absent where listing is not allowed.
            if isinstance(error.__cause__, PermissionError):
                return error.__cause__
            raise

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many objects in bytes, all requests under way at once."""
        return _sync(self._sizes(keys))

    async def _sizes(self, keys: Sequence[str]) -> list[int | None]:
        return list(await asyncio.gather(*[self._size(key) for key in keys]))

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return the checksum or the time of the last change of many objects, and the size."""
        return _sync(self._stamps(keys))

    async def _stamps(self, keys: Sequence[str]) -> list[str | None]:
        return list(await asyncio.gather(*[self._stamp(key) for key in keys]))

    def read_into(self, key: str, buffer: memoryview, byte_range: ByteRange = None) -> int | None:
        """Read the object at ``key``, or a part of it, to the beginning of a buffer."""
        return copy_into(key, self.get(key, byte_range), buffer)

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`, without blocking the caller's event loop."""
        from zarr.core.sync import _get_loop

        future = asyncio.run_coroutine_threadsafe(self._get(key, byte_range), _get_loop())
        return await asyncio.wrap_future(future)

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        return self._by_fsspec.list_dir(prefix)

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names under many prefixes, all listings under way at once."""
        return self._by_fsspec.list_many(prefixes)

    def list_files(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix`` that are objects, not folders."""
        return self._by_fsspec.list_files(prefix)

    def usage(self, prefix: str) -> Usage | None:
        """None: telling takes a request for every thousand objects."""
        return None

    def close(self) -> None:
        """Keep the connections: they are those of all stores there."""

    # How

    @property
    def _full_url(self) -> str:
        return str(self._secret.resolve().get(_URL, self._url))

    @property
    def _by_fsspec(self) -> ZarrSource:
        with self._lock:
            if self._fallback is None:
                from zarr.storage import FsspecStore

                url, options = self._full_url, self._options.resolve()
                with reaching(url, self.url):
                    store = FsspecStore.from_url(url, storage_options=options, read_only=True)
                self._fallback = ZarrSource(store, self.url)
            return self._fallback

    def _client(self) -> tuple[ObjectPlace, ObjectClient] | None:
        """Return what reads objects here; None in a process where that is fsspec."""
        if not is_served_here():
            return None
        if self._opened is None:
            url = self._full_url
            known = fsspec_defaults(url, self._options.resolve())
            place = None if known is None else object_place(url, known)
            if place is None:
                # Elsewhere something else may be configured.
                return None
            self._opened = place, client_of(place)
        return self._opened

    def _reader(self, key: str) -> tuple[str, ObjectClient] | None:
        """Return an object's full name and who reads it; None where that is fsspec."""
        opened = self._client()
        # fsspec takes what is spelled like a part of a URL for one.
        if opened is None or (opened[0].kind == "http" and not _HTTP_SPECIAL.isdisjoint(key)):
            return None
        prefix = opened[0].prefix
        return (f"{prefix}/{key}" if prefix else key), opened[1]

    async def _get(
        self, key: str, byte_range: ByteRange, check: SizeCheck = check_object_size
    ) -> bytes | None:
        reader = self._reader(key)
        if reader is not None:
            with contextlib.suppress(Unfit), self._explained(key):
                name = f"store {self.url!r}: {shorten(key)}"
                return await reader[1].get(reader[0], byte_range, lambda size: check(size, name))
        other = await asyncio.to_thread(self._ready)
        return _checked(await other._get(key, byte_range), byte_range, self, key)

    async def _size(self, key: str) -> int | None:
        reader = self._reader(key)
        if reader is not None:
            with contextlib.suppress(Unfit), self._explained(key):
                found = await reader[1].head(reader[0])
                return None if found is None else int(found["size"])
        return await (await asyncio.to_thread(self._ready))._size(key)

    async def _stamp(self, key: str) -> str | None:
        reader = self._reader(key)
        if reader is not None:
            with contextlib.suppress(Unfit), self._explained(key):
                found = await reader[1].head(reader[0])
                return None if found is None else _stamp_of(self._told(found))
        return (await (await asyncio.to_thread(self._ready))._stamps([key]))[0]

    def _told(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is known of an object in the words of fsspec, which others may have asked."""
        kind = None if self._opened is None else self._opened[0].kind
        when = found["last_modified"]
        # Google tells another checksum in the protocol that gcsfs speaks.
        if kind == "gs" or when.timestamp() == 0:
            raise Unfit("what fsspec tells is not known")
        told = {"ETag": found["e_tag"], "size": found["size"]}
        if kind == "http":
            return {**told, "Last-Modified": format_datetime(when, usegmt=True)}
        return {**told, "LastModified": when}

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except Trouble as trouble:
            raise self._error(key, trouble) from _cause(trouble)

    def _ready(self) -> ZarrSource:
        return self._by_fsspec

    def _error(self, key: str, trouble: Trouble) -> HfzarrError:
        remedy = "Try again later, and check the URL."
        if trouble.denied:
            remedy = "Log in, or give storage_options=, such as {'anon': True}."
        if trouble.denied and self._options.lost:
            remedy = (
                "The secret storage_options were given in another process and do not travel: "
                "configure a login here, or name variables, such as {'key': 'env:LAB_KEY'}."
            )
        return ReadError(f"store {self.url!r}: cannot read {key!r}: {trouble}. {remedy}")


_HTTP_SPECIAL = frozenset("%?#\\")
_URL = "url"


def _cause(trouble: Trouble) -> PermissionError | None:
    return PermissionError(str(trouble)) if trouble.denied else None


def _checked(
    data: bytes | None, byte_range: ByteRange, source: ObjectSource, key: str
) -> bytes | None:
    """Return what fsspec read; raise if it is more than was asked for."""
    if data is None or byte_range is None:
        return data
    start, stop = byte_range
    most = -start if start < 0 else None if stop is None else stop - start
    if most is not None and len(data) > most:
        raise ReadError(
            f"store {source.url!r}: cannot read {key!r}: {most} bytes of it were asked for, and "
            f"{len(data)} came: the server sends no parts of objects. Copy the store to one that "
            "knows range requests."
        )
    return data


def _again(url: str, options: StorageOptions, secret: StorageOptions) -> ObjectSource:
    return ObjectSource(str(secret.resolve().get(_URL, url)), options)


def _sync(work: Coroutine[Any, Any, T]) -> T:
    from zarr.core.sync import sync

    return sync(work)
