"""A remote store of which chunks are kept on this machine between runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

from hfzarr.errors import HfzarrError
from hfzarr.store.cache.disk import disk_cache
from hfzarr.store.cache.marks import Changes, Mark, Marks, is_dated, marks_of
from hfzarr.store.cache.place import CachePlace
from hfzarr.store.hub.paths import parse_hub_url
from hfzarr.store.location import Location
from hfzarr.store.options import StorageOptions
from hfzarr.store.source import ByteRange, Source, Usage, copy_into

__all__ = ["CachedSource", "cached_source"]

Request = tuple[str, ByteRange]
_Waiting = list[tuple[Request, "asyncio.Future[bytes | None]"]]

# fsspec's names of what is no other machine, or keeps what it read by itself.
_NOT_KEPT = frozenset(
    ["memory", "blockcache", "cached", "filecache", "simplecache", "reference", "data"]
)
_METADATA = frozenset(["zarr.json", ".zmetadata", ".zarray", ".zgroup", ".zattrs"])
# Stores that set the time of an object themselves, whatever was there before.
_DATED = frozenset(["s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"])
# Where the environment names a server, an address says only half of the place.
_SERVERS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "STORAGE_EMULATOR_HOST")


def cached_source(inner: Source, location: Location, place: CachePlace) -> Source:
    """Return a source that keeps what it reads, or the same one where that would be of no use.

    Parameters
    ----------
    inner
        The source at the location.
    location
        A URL.
    place
        Where bytes are kept.
    """
    scheme = location.url.partition(":")[0].lower()
    if inner.local or not place or scheme in _NOT_KEPT or "::" in location.url:
        return inner
    if scheme != "hf":
        changes: Changes = "dated" if scheme in _DATED else "any"
        return CachedSource(inner, place, _identity(location), changes=changes)
    # Objects of a bucket may be replaced, and each look whether they were costs calls of the Hub's
    # API, of which there are few.
    hub = parse_hub_url(location.url)
    if not hub.versioned:
        return inner
    # What is the same in two commits has the same mark in both.
    identity = _identity(replace(location, url=f"{hub.kind} {hub.repo} {hub.path}"))
    return CachedSource(inner, place, identity, changes="never")


def _identity(location: Location) -> str:
    """Return a text that is another for a store at another place, without anything secret."""
    plain = StorageOptions.of(location.storage_options).plain
    servers = [os.environ.get(name, "") for name in _SERVERS]
    text = repr((location.shown, plain, servers))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class CachedSource:
    """Reads from another source, and keeps objects and ranges in a folder.

    What is kept is known by the mark that the store gives to an object, asked for once by each
    process that opens the store: an object that is replaced gets another mark, and so is another
    entry. An object without a mark is not kept.

    A commit of the Hub tells the marks of all its objects in its listing. As it may list to all
    what it gives to some, the first object that a process reads comes from the Hub. Of any other
    store a mark is asked for before an object is first read, and again after what was read anew,
    unless the mark has a time that nobody can set back: if it is another by then, the object is
    read once more, and not kept. There metadata is not kept, as asking for its mark costs as much
    as reading it.

    Parameters
    ----------
    inner
        The source of a remote store.
    place
        Where bytes are kept.
    identity
        Which store that is.
    changes
        How its objects may change. Where they never do, one listing tells all marks.
    opened
        A name that all copies of this source have; a new one by default.
    """

    def __init__(
        self,
        inner: Source,
        place: CachePlace,
        identity: str,
        *,
        changes: Changes,
        opened: str | None = None,
    ) -> None:
        self.inner = inner
        self._place = place
        self._identity = identity
        self._changes = changes
        self._opened = opened or secrets.token_hex(8)
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting] = WeakKeyDictionary()
        self._answering: set[asyncio.Task[None]] = set()

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (self.inner, self._place, self._identity, self._changes, self._opened)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CachedSource)
            and self.inner == other.inner
            and self._place == other._place
        )

    def __hash__(self) -> int:
        return hash((type(self), self.inner))

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return type(self).__name__, self.inner, self._place.folder

    def __repr__(self) -> str:
        return f"CachedSource({self.inner!r}, {self._place.folder!r})"

    @property
    def url(self) -> str:
        """Name of the store in messages."""
        return self.inner.url

    @property
    def local(self) -> bool:
        """False: a read may wait for a network."""
        return self.inner.local

    @property
    def _marks(self) -> Marks:
        return marks_of(self._opened, final=self._changes == "never")

    # Reading

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the object at ``key``, or the part of it in ``byte_range``."""
        return self.get_many([(key, byte_range)])[0]

    def get_many(self, requests: Sequence[Request]) -> list[bytes | None]:
        """Return the objects of many requests, those that are not kept all under way at once."""
        marks = self._marks
        wanted = [key for key, _ in requests if marks.final or not _is_metadata(key)]
        if marks.silent or not wanted:
            return self.inner.get_many(requests)
        if marks.proven:
            return self._read(marks, requests, wanted)
        # The first one tells which commit it is, too.
        first = self.inner.get_many(requests[:1])
        marks.proven = first != [None]
        return first + (self._read(marks, requests[1:], wanted[1:]) if requests[1:] else [])

    def _read(
        self, marks: Marks, requests: Sequence[Request], wanted: Sequence[str]
    ) -> list[bytes | None]:
        """Return what is kept, and read the rest."""
        known = marks.of(self.inner, wanted)
        cache = disk_cache(self._place)
        found: list[bytes | None] = [None] * len(requests)
        missing = []
        for member, (key, byte_range) in enumerate(requests):
            mark = known.get(key, "")
            if mark and marks.proven:
                found[member] = cache.get(self._name(key, mark, byte_range))
            if found[member] is None and mark is not None:
                missing.append(member)
        replies = self.inner.get_many([requests[member] for member in missing]) if missing else []
        for member, reply in zip(missing, replies, strict=True):
            found[member] = reply
        marks.proven = marks.proven or any(reply is not None for reply in replies)
        self._keep(marks, requests, known, missing, found)
        return found

    def _keep(
        self,
        marks: Marks,
        requests: Sequence[Request],
        known: dict[str, Mark],
        missing: Sequence[int],
        found: list[bytes | None],
    ) -> None:
        """Keep what was read, as far as it is still what the marks stand for."""
        marked = {member: mark for member in missing if (mark := known.get(requests[member][0]))}
        replaced = self._replaced(marks, {requests[m][0]: mark for m, mark in marked.items()})
        cache = disk_cache(self._place)
        for member, mark in marked.items():
            (key, byte_range), data = requests[member], found[member]
            if key not in replaced and data is not None:
                cache.put(self._name(key, mark, byte_range), data)
        again = [member for member, (key, _) in enumerate(requests) if replaced.get(key)]
        if again:
            replies = self.inner.get_many([requests[member] for member in again])
            for member, reply in zip(again, replies, strict=True):
                found[member] = reply

    def _replaced(self, marks: Marks, known: dict[str, str]) -> dict[str, bool]:
        """Return which objects are not to be kept, and of each whether it was replaced."""
        if self._changes == "dated":
            known = {key: mark for key, mark in known.items() if not is_dated(mark)}
        if marks.final or not known:
            return {}
        try:
            told = marks.ask(self.inner, list(known))
        except HfzarrError:
            return dict.fromkeys(known, False)
        replaced = [key for key, mark in known.items() if told[key] != mark]
        marks.forget(replaced)
        return dict.fromkeys(replaced, True)

    def _name(self, key: str, mark: str, byte_range: ByteRange) -> str:
        """Return the name of an entry, which tells nothing of what is in it."""
        text = repr((self._identity, key, mark, byte_range))
        return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many objects that may or may not be there."""
        marks = self._marks
        if marks.final and marks.proven:
            return list(self.get_many([(key, None) for key in keys]))
        found = self.inner.probe(keys)
        marks.proven = marks.proven or any(isinstance(one, bytes) for one in found)
        return found

    def read_into(self, key: str, buffer: memoryview, byte_range: ByteRange = None) -> int | None:
        """Read the object at ``key``, or a part of it, to the beginning of a buffer."""
        return copy_into(key, self.get(key, byte_range), buffer)

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        # What is asked for in one turn of the loop is one `get_many`.
        waiting = self._waiting.setdefault(loop, [])
        if not waiting:
            loop.call_soon(self._start, loop)
        future: asyncio.Future[bytes | None] = loop.create_future()
        waiting.append(((key, byte_range), future))
        return await future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self._answer(self._waiting.pop(loop, [])))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, waiting: _Waiting) -> None:
        requests = [request for request, _ in waiting]
        try:
            replies = await asyncio.to_thread(self.get_many, requests)
        except BaseException as error:
            for _, future in waiting:
                if not future.done() and isinstance(error, Exception):
                    future.set_exception(error)
                else:
                    future.cancel()
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), reply in zip(waiting, replies, strict=True):
            if not future.done():
                future.set_result(reply)

    # What is told of objects

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many objects in bytes."""
        return self.inner.sizes(keys)

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return what the store tells of many objects."""
        return self.inner.stamps(keys)

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        return self.inner.list_dir(prefix)

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names under each of many prefixes."""
        return self.inner.list_many(prefixes)

    def list_files(self, prefix: str) -> list[str]:
        """Return the names of the objects directly under ``prefix``, sorted."""
        return self.inner.list_files(prefix)

    def usage(self, prefix: str) -> Usage | None:
        """Return how many objects lie below ``prefix``, and their bytes."""
        return self.inner.usage(prefix)

    def close(self) -> None:
        """Release what is open."""
        self.inner.close()


def _again(
    inner: Source, place: CachePlace, identity: str, changes: Changes, opened: str
) -> CachedSource:
    return CachedSource(inner, place, identity, changes=changes, opened=opened)


def _is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] in _METADATA
