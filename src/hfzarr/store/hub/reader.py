"""Objects of one folder of the Hub, located and read with as few requests as serve."""

from __future__ import annotations

import time
from typing import Any

from hfzarr.errors import HfzarrError, ReadError, StoreNotFoundError
from hfzarr.model.limits import SizeCheck
from hfzarr.model.report import shorten
from hfzarr.store.hub.answers import (
    Address,
    Reply,
    address_of,
    origin,
    range_header,
    shown,
    span_of,
    take,
)
from hfzarr.store.hub.batch import HubBatch
from hfzarr.store.hub.client import Ask, Login, running_client
from hfzarr.store.hub.flights import Flights
from hfzarr.store.hub.index import HubIndex
from hfzarr.store.hub.listing import Entry, Unknown
from hfzarr.store.hub.paths import HubPlace
from hfzarr.store.source import ByteRange

__all__ = ["HubReader"]

# A server that ignores a range is not listened to for longer than this, bytes.
_MOST_IN_VAIN = 64 * 2**20
_RENEWALS = 3
_HOPS = 5
_MOST_ADDRESSES = 4096
_METADATA = frozenset(["zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"])
# Headers that say that an answer is about the object, not about a repo that was renamed.
_TOLD = frozenset(["x-repo-commit", "x-linked-etag", "x-linked-size", "x-xet-hash"])
_IDENTITY = {"Accept-Encoding": "identity"}


class HubReader:
    """Reads objects below a folder of the Hub, on zarr's event loop.

    The Hub does not send large objects itself: it says at which address they can be had for a
    while. Addresses are kept, and asked for anew when they expire or are refused.

    Parameters
    ----------
    place
        The folder.
    login
        Which Hub is asked, and as whom.

    Attributes
    ----------
    index
        What the folder holds.
    zips
        Sources of zip files in it, by name.
    """

    def __init__(self, place: HubPlace, login: Login) -> None:
        self._login = login
        self._flights = Flights()
        self.index = HubIndex(place, login, self._flights)
        self._batch = HubBatch(self.index, login)
        self._addresses: dict[str, Address] = {}
        self.zips: dict[str, Any] = {}

    @property
    def place(self) -> HubPlace:
        """The folder; in its commit, once that is known."""
        return self.index.place

    def forget(self) -> None:
        """Forget what was listed and located, unless it is of a commit and cannot change."""
        self.index.forget()
        if not self.place.pinned:
            self._addresses.clear()

    async def get(
        self, key: str, byte_range: ByteRange = None, check: SizeCheck | None = None
    ) -> bytes | None:
        """Return an object, or a part of it; None where there is none.

        ``check`` is told how large an object is before all of it is asked for.
        """
        try:
            found = await self._find(key)
            return None if found is None else await self._fetch(key, byte_range, found, check)
        except StoreNotFoundError as error:
            if key.rpartition("/")[2] in _METADATA:
                raise
            # zarr-python takes a chunk that is not found for one that holds the fill value.
            raise ReadError(str(error)) from error

    async def exists(self, key: str) -> bool:
        """Whether there is an object."""
        found = await self._find(key)
        if isinstance(found, Unknown):
            return await self._locate(key) is not None
        return found is not None

    async def size(self, key: str) -> int | None:
        """Return the size of an object in bytes, None where there is none; nothing is listed."""
        found = await self._find(key)
        if isinstance(found, Unknown):
            address = self._addresses.get(key) or await self._locate(key)
            if address is None or address.size is not None:
                return None if address is None else address.size
            (found,) = await self.index.entries([key])
        return None if found is None else found.size

    async def _find(self, key: str) -> Entry | Unknown | None:
        found = self.index.known(key)
        # What was located is there.
        return found if key in self._addresses else await self.index.find(key)

    async def _locate(self, key: str) -> Address | None:
        """Ask where an object's bytes can be had; None where there is no such object."""
        address: Address | None = await self._flights.once(
            "locate", key, lambda: self._look_up(key)
        )
        return address

    async def _look_up(self, key: str) -> Address | None:
        before = self._addresses.get(key)
        refused = before is not None and not before.url
        address = None if refused else await self._batch.find(key)
        if address is None:
            return await self._ask_where(key)
        self._remember(key, address)
        return address

    async def _ask_where(self, key: str) -> Address | None:
        url = self._login.endpoint + self.place.file(key)
        what = f"store {self.place.url!r}: cannot find {key!r}"
        reply = await self.index.send(
            Ask(method="HEAD", url=url, what=what, headers=_IDENTITY),
            until=lambda reply: not _TOLD.isdisjoint(reply.headers),
        )
        headers, url = reply.headers, reply.url
        if reply.status < 400 or headers.get("x-error-code") == "EntryNotFound":
            self.index.take_commit(headers.get("x-repo-commit", ""))
            if self.place.versioned and not self.place.pinned:
                # Not of any commit that is known; the branch may move before the next request.
                await self.index.ask_head()
                return await self._ask_where(key)
        size, etag = headers.get("x-linked-size", ""), headers.get("x-linked-etag")
        if reply.location is not None:
            known = int(size) if size.isdecimal() else None
            address = address_of(reply, reply.location, size=known, etag=etag)
        elif reply.status == 200:
            size = size or headers.get("content-length", "")
            known = int(size) if size.isdecimal() else None
            address = address_of(reply, url, size=known, etag=etag or headers.get("etag"))
        elif headers.get("x-error-code") == "EntryNotFound":
            self.index.miss(key)
            return None
        else:
            raise self.index.refused(reply, key)
        self._remember(key, address)
        return address

    def _remember(self, key: str, address: Address) -> None:
        before = self._addresses.pop(key, None)
        if before is not None and before.etag and address.etag and before.etag != address.etag:
            raise self._changed(key)
        self._addresses[key] = address
        while len(self._addresses) > _MOST_ADDRESSES:
            del self._addresses[next(iter(self._addresses))]

    def _changed(self, key: str) -> ReadError:
        return ReadError(
            f"store {self.place.url!r}: {key!r} was replaced while the store was read. Open the "
            "store again."
        )

    async def _fetch(
        self, key: str, byte_range: ByteRange, found: Entry | Unknown, check: SizeCheck | None
    ) -> bytes | None:
        """Return bytes of an object, from where it was located last if that still serves."""
        refused: Reply | None = None
        for _ in range(_RENEWALS):
            address = self._addresses.get(key)
            if address is None or address.until < time.monotonic():
                address = await self._locate(key)
            if address is None:
                return None
            size = found.size if isinstance(found, Entry) else address.size
            if address.size not in (None, size):
                raise self._changed(key)
            if check is not None and byte_range is None and size is not None:
                check(size, f"store {self.place.url!r}: {shorten(key)}")
            answer = await self._read(key, address, byte_range, size)
            if not isinstance(answer, Reply):
                return answer
            refused = answer
            # The signature may have expired by the clock of the other side.
            if self._addresses.get(key) is address:
                self._expire(key, address)
        raise self._unreadable(refused, key)

    def _unreadable(self, reply: Reply | None, key: str) -> HfzarrError:
        if reply is None:
            return self._changed(key)
        if reply.status in (401, 403) and origin(reply.url) == origin(self._login.endpoint):
            return self.index.refused(reply, key)
        return ReadError(
            f"store {self.place.url!r}: cannot read {key!r}: {shown(reply.url)}, where the Hub "
            f"says that it lies, answered {reply.status} each of {_RENEWALS} times. Try again "
            "later."
        )

    def _expire(self, key: str, address: Address) -> None:
        self._addresses[key] = Address(url="", until=0.0, size=address.size, etag=address.etag)

    async def _read(
        self, key: str, address: Address, byte_range: ByteRange, size: int | None
    ) -> bytes | Reply:
        """Return bytes of an object, or the answer that refuses them."""
        span = span_of(byte_range, size)
        if span is not None and span.empty:
            return b""
        length = size if span is None else span.length
        most = None if length is None else max(length, _MOST_IN_VAIN)

        def complaint(reply: Reply) -> str | None:
            if reply.status // 100 != 2 and reply.status != 416:
                return None
            taken = take(reply, span, size)
            return taken if isinstance(taken, str) else None

        url = address.url
        for _ in range(_HOPS):
            ask = Ask(
                method="GET",
                url=url,
                what=f"store {self.place.url!r}: cannot read {key!r}",
                headers=range_header(span),
                most=most,
                complaint=complaint,
            )
            reply = await running_client().send(ask, self._login)
            if reply.location is None:
                break
            url = reply.location
            moved = address_of(reply, url, size=address.size, etag=address.etag)
            if self._addresses.get(key) is address:
                self._addresses[key] = address = moved
        taken = take(reply, span, size)
        return reply if isinstance(taken, str) else taken
