"""A store of the Hub as it will be when all that is on its way has arrived."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hfzarr.store.folder import FolderSource
from hfzarr.store.hub.outbox import Outbox
from hfzarr.store.hub.repo import Parcel
from hfzarr.store.hub.source import HubSource
from hfzarr.store.hub.store import HubStore
from hfzarr.store.source import ByteRange, Usage, copy_into

__all__ = ["HubView"]


class HubView:
    """Reads keys of a folder of a repo or a bucket that is being written to.

    What lies here still is read here; what was sent but has no name yet gets it by a commit.

    Parameters
    ----------
    outbox
        What is on its way.
    path
        The folder in the repo.
    stage
        The folder here that files are made in.
    """

    def __init__(self, outbox: Outbox, path: str, stage: str) -> None:
        self._outbox = outbox
        self._path = path
        self._stage = FolderSource(stage)
        self._remote: tuple[str | None, HubSource] | None = None

    def __repr__(self) -> str:
        return f"HubView({self.url!r})"

    @property
    def url(self) -> str:
        """The folder as an ``hf://`` URL."""
        return f"{self._outbox.repo.place.url}/{self._path}"

    @property
    def local(self) -> bool:
        """False: most of it is read over a network."""
        return False

    def _there(self, key: str) -> str:
        return "/".join(part for part in (self._path, key.strip("/")) if part)

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the object at ``key``, or a part of it."""
        made = self._stage.get(key, byte_range)
        if made is not None:
            return made
        found = self._outbox.find(self._there(key))
        if isinstance(found, Parcel):
            data = _read(found.file, byte_range)
            if data is not None:
                return data
            self._outbox.flush()
        return None if found is None else self._arrived().get(key, byte_range)

    def _arrived(self) -> HubSource:
        """Return the store as the last commit has it."""
        commit = self._outbox.commit
        if self._remote is None or self._remote[0] != commit or commit is None:
            place = self._outbox.repo.place
            place = place if commit is None else place.at(commit)
            url = f"{place.url}/{self._path}".rstrip("/")
            store = HubStore(url, self._outbox.repo.options)
            self._remote = (commit, HubSource(store))
            if commit is None:
                # A bucket has no commits: what was listed before is of no use.
                store.reader.forget()
        return self._remote[1]

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return the objects of many requests; those that have arrived, all at once."""
        found: list[bytes | None] = [None] * len(requests)
        remote: list[int] = []
        for index, (key, wanted) in enumerate(requests):
            held = self._outbox.find(self._there(key))
            if held is None or isinstance(held, Parcel) or self._stage.sizes([key]) != [None]:
                found[index] = self.get(key, wanted)
            else:
                remote.append(index)
        if remote:
            arrived = self._arrived().get_many([requests[index] for index in remote])
            for index, data in zip(remote, arrived, strict=True):
                found[index] = data
        return found

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many objects that may or may not be there."""
        return list(self.get_many([(key, None) for key in keys]))

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many objects in bytes, without a request."""
        made = self._stage.sizes(keys)
        found = [self._outbox.find(self._there(key)) for key in keys]
        return [
            size if size is not None else None if one is None else one.size
            for size, one in zip(made, found, strict=True)
        ]

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return for each of many objects a text that changes with it, without a request."""
        found = zip(keys, self.sizes(keys), strict=True)
        return [None if size is None else self._stamp(key, size) for key, size in found]

    def _stamp(self, key: str, size: int) -> str:
        one = self._outbox.find(self._there(key))
        sums = "" if one is None or isinstance(one, Parcel) else "-".join(sorted(one.sums))
        return f"{size}-{sums}"

    def read_into(self, key: str, buffer: memoryview, byte_range: ByteRange = None) -> int | None:
        """Read the object at ``key``, or a part of it, to the beginning of a buffer."""
        return copy_into(key, self.get(key, byte_range), buffer)

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self.get, key, byte_range)

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        start = f"{self._there(prefix)}/".lstrip("/")
        below = [path[len(start) :] for path in self._outbox.paths(self._there(prefix))]
        names = {path.partition("/")[0] for path in below if path}
        return sorted(names.union(self._stage.list_dir(prefix)))

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names under many prefixes."""
        return [self.list_dir(prefix) for prefix in prefixes]

    def list_files(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix`` that are objects, not folders."""
        base = prefix.strip("/")
        names = self.list_dir(base)
        found = self.sizes([f"{base}/{name}" if base else name for name in names])
        return [name for name, size in zip(names, found, strict=True) if size is not None]

    def usage(self, prefix: str) -> Usage:
        """Return what lies below ``prefix``."""
        paths = self._outbox.paths(self._there(prefix))
        found = [self._outbox.find(path) for path in paths]
        sizes = [0 if one is None else one.size for one in found]
        text = "\n".join(f"{path} {size}" for path, size in zip(paths, sizes, strict=True))
        mark = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
        return Usage(len(paths), sum(sizes), mark)

    def close(self) -> None:
        """Close nothing."""


def _read(path: str, byte_range: ByteRange) -> bytes | None:
    """Return a file or a part of it; None where it is gone."""
    try:
        with open(path, "rb") as file:
            if byte_range is None:
                return file.read()
            start, stop = byte_range
            if start < 0:
                size = file.seek(0, 2)
                start, stop = max(size + start, 0), size
            file.seek(start)
            return file.read(-1 if stop is None else max(stop - start, 0))
    except FileNotFoundError:
        return None
