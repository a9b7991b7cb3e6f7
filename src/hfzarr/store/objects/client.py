"""Objects of a bucket or a web server, read by obstore: whole or in exact parts, or an error."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from hfzarr.errors import HfzarrError
from hfzarr.store.objects.login import signing
from hfzarr.store.objects.options import Keys, Login, ObjectPlace
from hfzarr.store.objects.region import region_of
from hfzarr.store.objects.trouble import Trouble, Unfit, trouble_of
from hfzarr.store.options import StorageOptions
from hfzarr.store.ranges import cut
from hfzarr.store.source import ByteRange

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["ObjectClient", "client_of", "is_served_here"]

T = TypeVar("T")

# How many requests are under way at once, of all stores: enough to hide latency.
_IN_FLIGHT = 64
# Waits before an answer that is no good is asked for again, s. What a server refuses for a while
# obstore itself asks for again.
_DELAYS = (0.05, 0.25, 1.0)
_RETRIES = 6
_PATIENCE = 120.0
_CONNECT = "20s"
# By itself obstore gives up after 30 s, even where bytes keep coming.
_WHOLE_REQUEST = "600s"
_SILENCE = "60s"
# A server that knows no ranges sends all of an object: more is not taken for a part of it.
_MOST_IN_VAIN = 64 * 2**20
_MOST_CLIENTS = 64
# Older ones can neither be told of certificates nor of an endpoint against the environment.
_LEAST = (0, 11)
_IN_THE_CLEAR = (None, "", "identity", "aws-chunked")

# obstore's threads do not live on in a forked process, where it would wait for them for ever.
_HOME = os.getpid()
_INHERITED = "obstore" in sys.modules and multiprocessing.parent_process() is not None


def is_served_here() -> bool:
    """Whether obstore is installed, and works in this process."""
    return os.getpid() == _HOME and not _INHERITED and _is_installed()


@functools.cache
def _is_installed() -> bool:
    try:
        import obstore.store
    except ImportError:
        return False
    return tuple(int(part) for part in obstore.__version__.split(".")[:2]) >= _LEAST


class ObjectClient:
    """Reads objects of one bucket or server, for all stores there.

    It makes what it needs at the first request: who asks may have to be found out by a request.

    Parameters
    ----------
    place
        Which bucket or server; its prefix does not matter.
    """

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place
        self._store: ObjectStore | None = None
        self._region: str | None = None
        self._lock = threading.Lock()

    async def get(
        self, key: str, byte_range: ByteRange = None, check: Callable[[int], None] | None = None
    ) -> bytes | None:
        """Return an object, or a part of it; None where there is none.

        ``check`` is told how large an object is before all of it is read.

        Raises
        ------
        LimitError
            ``check`` found it too large.
        Trouble
            It cannot be read; it says why, and holds no secret.
        Unfit
            obstore cannot read this object; fsspec may.
        """
        if byte_range is not None and byte_range[0] == byte_range[1]:
            return None if await self.head(key) is None else b""
        return await self._tried(lambda store: self._get(store, key, byte_range, check))

    async def head(self, key: str) -> Mapping[str, Any] | None:
        """Return ``size``, ``e_tag`` and ``last_modified`` of an object; None where there is none.

        Raises as `get` does. What the server does not tell is None, but for the time: 1970.
        """
        return await self._tried(lambda store: self._head(store, key))

    async def _tried(self, ask: Callable[[ObjectStore], Awaitable[T]]) -> T | None:
        attempt = 0
        while True:
            store = self._store
            try:
                if store is None:
                    store = await asyncio.to_thread(self._made)
                async with _limit():
                    return await ask(store)
            except FileNotFoundError:
                return None
            except (HfzarrError, Unfit):
                raise
            except Exception as error:
                trouble = trouble_of(error)
            if trouble.elsewhere and await asyncio.to_thread(self._learn_region, store):
                continue
            if not trouble.passing or attempt == len(_DELAYS):
                raise trouble
            await asyncio.sleep(_DELAYS[attempt])
            attempt += 1

    async def _get(
        self,
        store: ObjectStore,
        key: str,
        byte_range: ByteRange,
        check: Callable[[int], None] | None,
    ) -> bytes:
        import obstore

        try:
            found = await obstore.get_async(store, key, options=_options(byte_range))
        except (FileNotFoundError, Unfit):
            raise
        except Exception as error:
            trouble = trouble_of(error)
            if trouble.beyond_the_end:
                return b""
            if not trouble.whole:
                raise
            return cut(await self._whole(store, key), byte_range)
        self._check_encoding(key, found.attributes)
        start, stop = found.range
        if check is not None and byte_range is None:
            check(stop - start)
        data = (await found.bytes_async()).to_bytes()
        if len(data) != stop - start:
            raise Trouble(
                f"the server announced bytes {start} to {stop} and sent {len(data)} bytes",
                passing=True,
            )
        return data

    async def _whole(self, store: ObjectStore, key: str) -> bytes:
        """Return all of an object, of which the server would not send a part."""
        import obstore

        found = await obstore.get_async(store, key)
        size = found.meta["size"]
        if size > _MOST_IN_VAIN:
            raise Trouble(
                f"the server answers a request for a part of it with all {size} bytes. Copy the "
                "store to a server that knows range requests"
            )
        self._check_encoding(key, found.attributes)
        data = (await found.bytes_async()).to_bytes()
        if len(data) != size:
            raise Trouble(f"it has {size} bytes, and {len(data)} came", passing=True)
        return data

    async def _head(self, store: ObjectStore, key: str) -> Mapping[str, Any]:
        import obstore

        return await obstore.head_async(store, key)

    def _check_encoding(self, key: str, attributes: Mapping[Any, Any]) -> None:
        # A web client undoes it; one of S3 and its like returns what is stored.
        if self._place.kind == "http" and attributes.get("Content-Encoding") not in _IN_THE_CLEAR:
            raise Unfit(f"{key!r} is sent in another encoding")

    def _made(self) -> ObjectStore:
        with self._lock:
            if self._store is None:
                self._store = _store_of(self._place, self._region)
            return self._store

    def _learn_region(self, store: ObjectStore | None) -> bool:
        """Find out where a bucket of AWS is; return whether that is elsewhere than was thought."""
        place = self._place
        if place.kind != "s3" or "endpoint" in place.config:
            return False
        with self._lock:
            if self._store is not store:
                # Somebody else asked meanwhile.
                return True
            found = region_of(place.root, asked=str(place.config["region"]))
            if found is None or found == (self._region or place.config["region"]):
                return False
            self._region, self._store = found, None
            return True


def _options(byte_range: ByteRange) -> Any:
    if byte_range is None:
        return None
    start, stop = byte_range
    if stop is not None:
        return {"range": (start, stop)}
    return {"range": {"suffix": -start} if start < 0 else {"offset": start}}


def _store_of(place: ObjectPlace, region: str | None) -> ObjectStore:
    from datetime import timedelta

    from obstore.store import GCSStore, HTTPStore, S3Store

    how: dict[str, Any] = {
        "client_options": {
            "connect_timeout": _CONNECT,
            "timeout": _WHOLE_REQUEST,
            "read_timeout": _SILENCE,
            **place.client,
        },
        "retry_config": {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_PATIENCE)},
    }
    if place.authorities is not None:
        with open(place.authorities, "rb") as file:
            how["client_options"]["root_certificate"] = file.read()
    if place.kind == "http":
        return HTTPStore.from_url(place.root, **how)
    told = {**place.config, **signing(place), **how}
    if region is not None:
        told["region"] = region
    return S3Store(place.root, **told) if place.kind == "s3" else GCSStore(place.root, **told)


# Those that were used last: a table of stores may name many, in a few buckets.
_clients: OrderedDict[tuple[str, str, StorageOptions], ObjectClient] = OrderedDict()
_lock = threading.Lock()


def client_of(place: ObjectPlace) -> ObjectClient:
    """Return the client of a bucket or server: one for all stores there that are asked alike."""
    login = place.login
    given: Any = login.options if isinstance(login, Login) else None
    if isinstance(login, Keys):
        given = [login.key, login.secret, login.token]
    alike = StorageOptions.of(
        {"config": place.config, "client": place.client, "login": given, "ca": place.authorities}
    )
    name = place.kind, place.root, alike
    with _lock:
        client = _clients.pop(name, None) or ObjectClient(place)
        _clients[name] = client
        while len(_clients) > _MOST_CLIENTS:
            _clients.popitem(last=False)
    return client


_limits: list[tuple[asyncio.AbstractEventLoop, asyncio.Semaphore]] = []


def _limit() -> asyncio.Semaphore:
    """Return the limit on requests of the event loop that is running."""
    loop = asyncio.get_running_loop()
    for known, limit in _limits:
        if known is loop:
            return limit
    limit = asyncio.Semaphore(_IN_FLIGHT)
    _limits[:] = [(loop, limit)]
    return limit
