"""Reads of some shards, carried out dry: with their indexes, and without a chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hfzarr.model.array import ArrayMeta
from hfzarr.model.codecs import CodecChain, ShardIndex
from hfzarr.plan.axis import IntArray
from hfzarr.run.decode import Place, decode_index
from hfzarr.run.job import _ABSENT, Fetch, IndexCache, Job, Plan, Rows, advance
from hfzarr.store.source import ByteRange, Source

__all__ = ["ShardSample", "key_of", "shard_grid"]


def key_of(meta: ArrayMeta, place: Sequence[int]) -> str:
    """Return the key of the file that holds a chunk, or a shard."""
    key = meta.chunk_key(tuple(place))
    return f"{meta.path}/{key}" if meta.path else key


def shard_grid(meta: ArrayMeta) -> tuple[int, ...]:
    """Return how many shards an array has along each axis."""
    return tuple(-(-length // n) for length, n in zip(meta.shape, meta.shard or (), strict=True))


class ShardSample:
    """Some shards, of which the indexes are read, and what reads ask of them.

    Parameters
    ----------
    source, meta, chain, sharding
        The array.
    shards
        Numbers of the shards, with the last axis fastest.

    Attributes
    ----------
    requests, fetched
        Requests that were noted, and the bytes that they would bring.
    reads
        Reads of single shards that were noted.
    """

    def __init__(
        self,
        source: Source,
        meta: ArrayMeta,
        chain: CodecChain,
        sharding: ShardIndex,
        shards: IntArray,
    ) -> None:
        self.requests = self.fetched = self.reads = 0
        self._source, self._meta, self._chain, self._sharding = source, meta, chain, sharding
        places = np.stack(np.unravel_index(shards, shard_grid(meta)), axis=1).tolist()
        self._keys = {tuple(place): key_of(meta, place) for place in places}
        asked: list[tuple[str, ByteRange]] = [
            (key, sharding.byte_range) for key in self._keys.values()
        ]
        self._encoded = dict(zip(self._keys.values(), source.get_many(asked), strict=True))
        self._indexes = [
            None
            if data is None
            else decode_index(sharding, data, place=Place(url=source.url, path=meta.path, key=key))
            for key, data in self._encoded.items()
        ]
        self._sizes: dict[str, int] | None = None
        self._given: Any = _IndexSource(self._index)

    def read(self, plan: Plan, indexes: IndexCache) -> None:
        """Note what a read asks of these shards."""
        for place, inner in plan.units(self._sharding.per_shard):
            if place not in self._keys:
                continue
            self.reads += 1
            job = _DryJob(self._given, self._meta, self._chain, indexes, inner, _Nowhere())
            if self._source.local:
                for fetch in job.local_fetches(inner):
                    self._reply((fetch.key, fetch.byte_range))
                continue
            steps = job.steps(inner)
            requests = advance(steps, None)
            while requests is not None:
                requests = advance(steps, [self._reply(request) for request in requests])

    def _index(self, key: str) -> bytes | None:
        return self._reply((key, self._sharding.byte_range))

    def _reply(self, request: tuple[str, ByteRange]) -> bytes | None:
        """Count a request; return the index of the shard in the place of what was asked for."""
        key, wanted = request
        index = self._encoded[key]
        self.requests += 1
        if wanted is None:
            self.fetched += self._size(key)
        elif wanted == self._sharding.byte_range:
            self.fetched += len(index or b"")
        else:
            self.fetched += (wanted[1] or 0) - wanted[0]
        return index

    def _size(self, key: str) -> int:
        if self._sizes is None:
            keys = list(self._keys.values())
            sizes = self._source.sizes(keys)
            self._sizes = {k: size or 0 for k, size in zip(keys, sizes, strict=True)}
        return self._sizes[key]

    def stored(self, shards: IntArray, chunks: IntArray) -> int:
        """Return the encoded bytes of some chunks.

        Parameters
        ----------
        shards
            Which of these shards each lies in.
        chunks
            Their places: shape (chunks, axes).
        """
        total = 0
        per_shard = self._sharding.per_shard
        position = np.zeros(len(chunks), np.intp)
        for along, n in zip(chunks.T, per_shard, strict=True):
            position = position * n + along % n
        for shard, index in enumerate(self._indexes):
            if index is not None:
                entries = index[position[shards == shard]]
                total += int(entries[(entries != _ABSENT).any(axis=1), 1].sum())
        return total


class _DryJob(Job):
    """Makes the requests that a job makes, and nothing of the replies."""

    def take(self, fetch: Fetch, data: bytes | None) -> None:
        """Learn the index of a shard that is fetched whole."""
        if fetch.shard is not None and self._chain.sharding is not None:
            self._learn(fetch.key, self._chain.sharding, data)


@dataclass(frozen=True, slots=True)
class _IndexSource:
    """Where a job gets the indexes of shards."""

    index: Callable[[str], bytes | None]
    url: str = ""

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        return self.index(key)


class _Nowhere(Rows):
    """What takes the pixels that nobody reads."""

    def __init__(self) -> None:
        super().__init__([])

    def __setitem__(self, index: tuple[Any, ...], values: Any) -> None:
        pass
