"""What a folder of the Hub holds: its commit, its listing, and which keys are absent."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from hfzarr.errors import HfzarrError, ReadError
from hfzarr.store.hub.answers import Reply, origin, refusal, shown
from hfzarr.store.hub.client import Ask, Login, running_client
from hfzarr.store.hub.flights import Flights
from hfzarr.store.hub.listing import UNKNOWN, Entry, Listing, Unknown
from hfzarr.store.hub.paths import HubPlace

__all__ = ["HubIndex"]

# The Hub tells of so many paths in one call.
_PATHS_A_CALL = 1000
# Fewer unknown keys are asked for one by one, as what is there is wanted anyway.
_WORTH_A_CALL = 4
_HOPS = 5


class HubIndex:
    """What lies below a folder of the Hub.

    The first key asked for is to be located at once, and the answer says which commit the
    revision is: all that follows is of that commit. For the second, the first page of a recursive
    listing is fetched. If that is all there is, it answers for every key that is absent; if not,
    keys that it does not name are asked about a thousand at a time, and each such question brings
    the listing a page further once something was found to be absent.

    Parameters
    ----------
    place
        The folder.
    login
        Which Hub is asked, and as whom.
    flights
        What is under way: under ``"locate"``, which key is being located.

    Attributes
    ----------
    place
        The folder; in its commit, once that is known.
    """

    def __init__(self, place: HubPlace, login: Login, flights: Flights) -> None:
        self.place = place
        self._login = login
        self._flights = flights
        self._listing = Listing(place.path)
        self._folders: dict[str, list[str]] = {}
        self._first: str | None = None
        self._misses = False
        self._asked: dict[str, asyncio.Future[Entry | Unknown | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    def known(self, key: str) -> Entry | Unknown | None:
        """Return what is known of a key without a request."""
        return self._listing.find(key)

    async def find(self, key: str) -> Entry | Unknown | None:
        """Return what is known of a key; UNKNOWN where it is best located at once."""
        found = self._listing.find(key)
        if found is not UNKNOWN:
            return found
        if self._first is None:
            self._first = key
        if self._first == key and not self._listing.begun:
            return UNKNOWN
        await self._pin()
        await self._begin()
        found = self._listing.find(key)
        if found is not UNKNOWN:
            return found
        return await self._ask_soon(key)

    def _ask_soon(self, key: str) -> asyncio.Future[Entry | Unknown | None]:
        """Ask about a key together with the others of this turn of the loop."""
        loop = asyncio.get_running_loop()
        known = self._asked.get(key)
        # One of another loop is that of the process which this one was forked from.
        if known is not None and known.get_loop() is loop:
            return known
        if not self._asked or known is not None:
            self._asked = {}
            loop.call_soon(self._flush)
        future = self._asked[key] = loop.create_future()
        return future

    def _flush(self) -> None:
        asked, self._asked = self._asked, {}
        self._asking = asyncio.ensure_future(self._answer(asked))

    async def _answer(self, asked: dict[str, asyncio.Future[Entry | Unknown | None]]) -> None:
        try:
            await self._ask_about(list(asked) if len(asked) >= _WORTH_A_CALL else [])
            for key, future in asked.items():
                if not future.done():
                    future.set_result(self._listing.find(key))
        except BaseException as error:
            waiting = [future for future in asked.values() if not future.done()]
            for future in waiting:
                future.set_exception(error) if isinstance(error, Exception) else future.cancel()
            if not isinstance(error, Exception):
                raise

    async def _ask_about(self, keys: Sequence[str]) -> None:
        """Ask which of many keys are there, and bring the listing a page further."""
        work: list[Awaitable[Any]] = [
            self._details(keys[start : start + _PATHS_A_CALL])
            for start in range(0, len(keys), _PATHS_A_CALL)
        ]
        if self._misses and not self._listing.complete:
            work.append(self._flights.once("page", "", self._turn_page))
        await asyncio.gather(*work)

    async def _details(self, keys: Sequence[str]) -> None:
        paths = [self.place.inner(key) for key in keys]
        form = [("paths", path) for path in paths]
        # Buckets take JSON, repos take forms, as huggingface_hub sends them.
        body = {"form": form} if self.place.versioned else {"json": {"paths": paths}}
        items, _ = await self._api("POST", self.place.details, **body)
        self._listing.add(items)
        absent = [key for key in keys if self._listing.find(key) is UNKNOWN]
        self._listing.miss(absent)
        self._misses = self._misses or bool(absent)

    async def entries(self, keys: Sequence[str]) -> list[Entry | None]:
        """Return size and mark of many objects; None where there is none."""
        await self._pin()
        await self._begin()
        unknown = [key for key in dict.fromkeys(keys) if self._listing.find(key) is UNKNOWN]
        await self._ask_about(unknown)
        found = [self._listing.find(key) for key in keys]
        return [None if isinstance(one, Unknown) else one for one in found]

    async def names(self, folder: str) -> list[str]:
        """Return the names directly under a folder, sorted."""
        await self._pin()
        await self._begin()
        if self._listing.complete:
            return self._listing.names(folder)
        return await self.folder(folder)

    async def folder(self, folder: str) -> list[str]:
        """Return the names directly under a folder, of whichever commit is the present one."""
        await self._flights.once("names", folder, lambda: self._list_folder(folder))
        return self._folders[folder]

    async def keys(self, prefix: str) -> list[str]:
        """Return all keys that begin with a text, sorted."""
        await self._pin()
        await self._begin()
        while not self._listing.complete:
            await self._flights.once("page", "", self._turn_page)
        return self._listing.keys(prefix)

    async def listing(self) -> Listing:
        """Return the listing, as far as one request brings it."""
        await self._pin()
        await self._begin()
        return self._listing

    def miss(self, key: str) -> None:
        """Note that there is no such object."""
        self._listing.miss([key])
        self._misses = True

    def forget(self) -> None:
        """Forget what was listed, unless it is of a commit and cannot change."""
        if not self.place.pinned:
            self._listing = Listing(self.place.path)
            self._folders.clear()

    # The commit, and the listing

    async def _pin(self) -> None:
        """Make sure that it is known which commit is read."""
        if self.place.pinned or not self.place.versioned:
            return
        if self._first is not None and (task := self._flights.find("locate", self._first)):
            await asyncio.shield(task)
        if not self.place.pinned:
            await self.ask_head()

    async def ask_head(self) -> None:
        """Ask which commit the revision is."""
        await self._flights.once("head", "", self._ask_head)

    async def _ask_head(self) -> None:
        about, _ = await self._api("GET", f"{self.place.head}?expand=sha")
        self.take_commit(str(about.get("sha", "")) if isinstance(about, dict) else "")
        if not self.place.pinned:
            raise ReadError(
                f"store {self.place.url!r}: the Hub does not say which commit "
                f"{self.place.revision or 'main'!r} is. Name a commit after '@'."
            )

    def take_commit(self, commit: str) -> None:
        """Pin the revision to the commit that an answer names, if it names one."""
        if not self.place.versioned or not re.fullmatch(r"[0-9a-f]{40}", commit):
            return
        if self.place.pinned and commit != self.place.revision:
            raise ReadError(
                f"store {self.place.url!r}: the Hub answered for commit {commit}, which is not the "
                "one that was asked for. Try again later."
            )
        self.place = self.place.at(commit)

    async def _begin(self) -> None:
        if not self._listing.begun:
            await self._flights.once("page", "", self._turn_page)

    async def _turn_page(self) -> None:
        """Take up the next page of the listing."""
        listing = self._listing
        if not listing.complete:
            items, cursor = await self._page("", listing.cursor, recursive=True)
            listing.add(items)
            listing.turn(cursor)

    async def _list_folder(self, folder: str) -> None:
        """List one folder of a store that is too large to be listed whole."""
        if folder in self._folders:
            return
        names: set[str] = set()
        cursor: str | None = None
        root = f"{self.place.inner(folder)}/".lstrip("/")
        while True:
            items, cursor = await self._page(folder, cursor, recursive=False)
            self._listing.add(items)
            paths = [str(item["path"]) for item in items]
            below = [path[len(root) :] for path in paths if path.startswith(root)]
            names.update(path.partition("/")[0] for path in below if path)
            if cursor is None:
                break
        self._folders[folder] = sorted(names)

    async def _page(
        self, folder: str, cursor: str | None, *, recursive: bool
    ) -> tuple[list[dict[str, Any]], str | None]:
        query = {"recursive": str(recursive).lower(), **({"cursor": cursor} if cursor else {})}
        path = f"{self.place.listing(folder)}?{urlencode(query)}"
        items, headers = await self._api("GET", path, absent=[])
        following = re.search(r"<([^>]*)>\s*;\s*rel=\"?next\"?", headers.get("link", ""))
        if following is None:
            return items, None
        # Of the address only the cursor is taken, as the rest may name the branch, and any host.
        after = parse_qs(urlsplit(following[1]).query).get("cursor", [""])[0]
        if not after or after == cursor:
            raise ReadError(f"cannot list {self.place.url!r}: the Hub does not say how it goes on")
        return items, after

    async def _api(
        self, method: str, path: str, *, absent: Any = None, **body: Any
    ) -> tuple[Any, Any]:
        """Return the JSON of a call and the headers of the answer."""
        endpoint = self._login.endpoint
        reply = await self.send(
            Ask(
                method=method,
                url=endpoint + path,
                what=f"cannot list {self.place.url!r}",
                complaint=_no_json,
                **body,
            )
        )
        if reply.status == 200:
            return json.loads(reply.body), reply.headers
        if reply.headers.get("x-error-code") == "EntryNotFound" and absent is not None:
            return absent, {}
        raise self.refused(reply, "")

    async def send(self, ask: Ask, until: Callable[[Reply], bool] = lambda reply: False) -> Reply:
        """Ask the Hub, and ask again where it says that a repo has another name now.

        Parameters
        ----------
        ask
            The request.
        until
            Says of a redirect that it is the answer.
        """
        for _ in range(_HOPS):
            reply = await running_client().send(ask, self._login)
            there = reply.location
            if there is None or origin(there) != origin(self._login.endpoint) or until(reply):
                break
            ask = replace(ask, url=there)
        return reply

    def refused(self, reply: Reply, key: str) -> HfzarrError:
        """Return the error that an answer of the Hub stands for."""
        login, hub = self._login.described, shown(self._login.endpoint)
        if reply.status == 401:
            self._login.forget()
        return refusal(reply, self.place, key=key, endpoint=hub, login=login)


def _no_json(reply: Reply) -> str | None:
    if reply.status != 200:
        return None
    try:
        json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        return f"it sent no JSON ({error})"
    return None
