"""A zarr store that counts what is asked of it."""

from __future__ import annotations

import asyncio

from zarr.storage import WrapperStore

METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata")


class CountingStore(WrapperStore):
    """Notes each request, how many were under way at once, and in how many rounds they came.

    A round begins when a request finds no other under way.
    """

    def __init__(self, store, delay: float = 0.0) -> None:
        super().__init__(store)
        self.delay = delay
        self.forget()

    def forget(self) -> None:
        self.gets: list[str] = []
        self.listings: list[str] = []
        self.rounds = self.most = self.now = 0

    @property
    def requests(self) -> int:
        return len(self.gets) + len(self.listings)

    @property
    def chunks(self) -> list[str]:
        """Keys asked for that are no metadata."""
        return [key for key in self.gets if key.rpartition("/")[2] not in METADATA]

    async def _wait(self) -> None:
        self.rounds += self.now == 0
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.delay)
        self.now -= 1

    async def get(self, key, prototype, byte_range=None):
        self.gets.append(key)
        await self._wait()
        return await self._store.get(key, prototype, byte_range)

    async def exists(self, key):
        self.gets.append(key)
        return await self._store.exists(key)

    async def list_dir(self, prefix):
        self.listings.append(prefix)
        await self._wait()
        async for name in self._store.list_dir(prefix):
            yield name
