"""Many large objects of a repo located with one request."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from hfzarr.errors import HfzarrError
from hfzarr.store.hub.answers import Address, Reply, address_of
from hfzarr.store.hub.client import Ask, Login
from hfzarr.store.hub.index import HubIndex
from hfzarr.store.hub.listing import Entry

__all__ = ["HubBatch"]

# Fewer are asked about one by one: that takes no longer, and no call that may be unknown.
_WORTH_A_CALL = 8
# What git's own client asks for in one call, unless told otherwise (lfs.transfer.batchSize).
_OBJECTS_A_CALL = 100
# Where it was of no use, it is left alone for so long, s.
_REST = 300.0
_TYPE = "application/vnd.git-lfs+json"


class HubBatch:
    """Locates large objects that are wanted in the same turn of the event loop.

    By git's own protocol for large files (git-lfs, "Batch API", operation ``download``): the
    listing tells their checksums, and one call brings the addresses of a hundred. It is worth its
    while only for what it saves, so that whatever goes wrong with it is no error: the objects are
    asked for one by one, as those that are small or of no commit.

    Parameters
    ----------
    index
        What the folder holds.
    login
        Which Hub is asked, and as whom.
    """

    def __init__(self, index: HubIndex, login: Login) -> None:
        self._index = index
        self._login = login
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: dict[str, tuple[Entry, asyncio.Future[Address | None]]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._in_vain = -_REST

    async def find(self, key: str) -> Address | None:
        """Return where an object lies; None where it is to be asked for by itself."""
        entry = self._index.known(key)
        if not isinstance(entry, Entry) or not entry.large or not self._index.place.pinned:
            return None
        if time.monotonic() < self._in_vain + _REST:
            return None
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # The other one is that of the process which this one was forked from.
            self._loop, self._asked = loop, {}
        if not self._asked:
            loop.call_soon(self._flush)
        if key not in self._asked:
            self._asked[key] = entry, loop.create_future()
        return await self._asked[key][1]

    def _flush(self) -> None:
        asked, self._asked = self._asked, {}
        keys = list(asked)
        if len(keys) < _WORTH_A_CALL:
            for _, future in asked.values():
                _tell(future, None)
            return
        for start in range(0, len(keys), _OBJECTS_A_CALL):
            part = {key: asked[key] for key in keys[start : start + _OBJECTS_A_CALL]}
            task = asyncio.ensure_future(self._answer(list(part.values())))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _answer(self, asked: Sequence[tuple[Entry, asyncio.Future[Address | None]]]) -> None:
        found: Mapping[str, Address] = {}
        try:
            found = await self._ask([entry for entry, _ in asked])
        except HfzarrError:
            # Whatever it is, each object's own answer will tell.
            self._in_vain = time.monotonic()
        finally:
            for entry, future in asked:
                _tell(future, found.get(entry.large))

    async def _ask(self, entries: Sequence[Entry]) -> Mapping[str, Address]:
        sizes = {entry.large: entry.size for entry in entries}
        objects = [{"oid": oid, "size": size} for oid, size in sizes.items()]
        reply = await self._index.send(
            Ask(
                method="POST",
                url=self._login.endpoint + self._index.place.batch,
                what=f"store {self._index.place.url!r}: cannot find {len(objects)} objects",
                headers={"Accept": _TYPE, "Content-Type": _TYPE},
                json={"operation": "download", "transfers": ["basic"], "objects": objects},
                once=True,
            )
        )
        found = dict(_addresses(reply, sizes)) if reply.status == 200 else {}
        if not found:
            self._in_vain = time.monotonic()
        return found


def _tell(future: asyncio.Future[Address | None], found: Address | None) -> None:
    if not future.done():
        future.set_result(found)


def _addresses(reply: Reply, sizes: Mapping[str, int]) -> Iterator[tuple[str, Address]]:
    """Yield what an answer says of the objects that were asked for, as far as it can be used."""
    for said in _maps(_loaded(reply), "objects"):
        action = _map(_map(said, "actions"), "download")
        oid, url, header = said.get("oid"), action.get("href"), action.get("header")
        # A header may be a secret, which would have to be kept as the address is.
        if header or sizes.get(str(oid)) != said.get("size") or not _is_address(url):
            continue
        address = address_of(reply, str(url), size=sizes[str(oid)], etag=None)
        lasts = action.get("expires_in")
        if isinstance(lasts, int):
            until = time.monotonic() + 0.9 * lasts
            address = replace(address, until=min(address.until, until))
        yield str(oid), address


def _loaded(reply: Reply) -> Any:
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}


def _map(value: Any, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _maps(value: Any, name: str) -> list[Mapping[str, Any]]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _is_address(url: Any) -> bool:
    return isinstance(url, str) and urlsplit(url).scheme in ("http", "https")
