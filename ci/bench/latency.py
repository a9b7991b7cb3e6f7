"""A zarr store that answers slowly and counts what it is asked."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, cpu
from zarr.storage import MemoryStore, WrapperStore

DELAY = 0.020


@dataclass(slots=True)
class Tally:
    """What a store has been asked."""

    requests: int = 0
    """How many requests, listings and vain ones included."""

    rounds: int = 0
    """The longest chain of requests of which each was sent after the one before was answered."""

    seconds: float = 0.0
    """How long it all took."""


class LatencyStore(WrapperStore[Store]):
    """A store in memory whose every answer takes `DELAY` seconds.

    Parameters
    ----------
    store
        The store that holds the keys.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._tally = Tally()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, folder: Path) -> LatencyStore:
        """Return a store with every file of a folder."""
        files = (path for path in folder.rglob("*") if path.is_file())
        keys: dict[str, Buffer] = {
            path.relative_to(folder).as_posix(): cpu.Buffer.from_bytes(path.read_bytes())
            for path in files
        }
        return cls(MemoryStore(keys, read_only=True))

    def _with_store(self, store: Store) -> LatencyStore:
        """Return another view of the store that counts into the same tally."""
        other = type(self)(store)
        other.__dict__.update({**self.__dict__, "_store": store})
        return other

    def tally_of(self, work: Callable[[], Any], repeats: int = 3) -> Tally:
        """Do some work a few times and return what it asked of the store, once, and the median."""
        seconds = []
        for _ in range(repeats):
            with self._lock:
                self._tally.requests = self._tally.rounds = 0
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        return replace(self._tally, seconds=statistics.median(seconds))

    async def _wait(self) -> Callable[[], None]:
        """Count a request, wait, and return what is to be called with the answer."""
        tally = self._tally
        with self._lock:
            tally.requests += 1
            # Whatever has been answered by now may be what this request follows from.
            depth = 1 + tally.rounds
        await asyncio.sleep(DELAY)

        def answer() -> None:
            with self._lock:
                tally.rounds = max(tally.rounds, depth)

        return answer

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a value, late."""
        answer = await self._wait()
        value = await self._store.get(key, prototype, byte_range)
        answer()
        return value

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return many values, all asked for at once."""
        gets = (self.get(key, prototype, byte_range) for key, byte_range in key_ranges)
        return list(await asyncio.gather(*gets))

    def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        """Return many values one by one, as a store does that knows no better."""
        return Store._get_many(self, requests)

    async def exists(self, key: str) -> bool:
        """Say, late, whether there is a key."""
        answer = await self._wait()
        found = await self._store.exists(key)
        answer()
        return found

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield names, the first one late: a listing is one request."""
        answer = await self._wait()
        names = [name async for name in self._store.list_dir(prefix)]
        answer()
        for name in names:
            yield name

    @property
    def _supports_sync_io(self) -> bool:
        """Say no, or zarr-python would read past the delay."""
        return False
