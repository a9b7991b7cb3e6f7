"""One read: the requests for the bytes of its chunks, and the array that they fill."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import ReadError
from hfzarr.model.array import ArrayMeta
from hfzarr.model.codecs import CodecChain, ShardIndex
from hfzarr.plan.grid import (
    ChunkPart,
    ChunksPlan,
    GridPlan,
    PointsPlan,
    merge_ranges,
    position_in_unit,
)
from hfzarr.run.decode import ChunkDecoder, Place, decode_index
from hfzarr.run.pool import for_each, workers
from hfzarr.store.source import ByteRange, Source

__all__ = ["LOCAL_RUN", "IndexCache", "Job", "Plan", "Rows", "Target", "advance", "fill_of"]

Plan = GridPlan | PointsPlan | ChunksPlan
Requests = list[tuple[str, ByteRange]]
Replies = list[bytes | None]
Index = npt.NDArray[np.uint64]
# Yields what it needs and is sent what came: the same steps serve a thread and an event loop.
Steps = Generator[Requests, Replies, None]

_GAP = 64 * 2**10  # reading this much in vain is cheaper than a second request
LOCAL_RUN = 2**20  # a run is one thread's work, so that several share one shard
_REMOTE_RUN = 8 * 2**20
_WHOLE_SHARD = 32 * 2**20  # a shard that decodes to more is fetched in runs, many at once
_BATCH_BYTES = 64 * 2**20  # bounds the memory that holds encoded bytes
_BATCH_REQUESTS = 512
_BATCH_SHARDS = 64
_INDEX_CACHE = 8 * 2**20
_WORTH_A_THREAD = 128 * 2**10  # decoded bytes; waking a thread costs some ten microseconds
_ABSENT = 2**64 - 1


def advance(steps: Steps, replies: Replies | None) -> Requests | None:
    """Send replies to the steps of a `Job`; return the next requests, or None at the end."""
    try:
        return next(steps) if replies is None else steps.send(replies)
    except StopIteration:
        return None


class IndexCache:
    """The shard indexes that were used last, up to ``limit`` bytes."""

    def __init__(self, limit: int = _INDEX_CACHE) -> None:
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[str, Index] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Index | None:
        """Return the index of the shard at ``key``, if it is kept."""
        with self._lock:
            index = self._entries.get(key)
            if index is not None:
                self._entries.move_to_end(key)
            return index

    def put(self, key: str, index: Index) -> None:
        """Keep an index, and let go of those not used for longest."""
        with self._lock:
            if key not in self._entries:
                self._size += index.nbytes
            self._entries[key] = index
            while self._size > self._limit:
                self._size -= self._entries.popitem(last=False)[1].nbytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """A chunk's bytes among those that one request brings, and what the chunk gives."""

    part: ChunkPart
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fetch:
    """One request, and what to make of the reply: chunks, or a shard with its index."""

    key: str
    byte_range: tuple[int, int] | None
    size: int
    pieces: Sequence[Piece] = ()
    shard: Plan | None = None


class Rows:
    """Arrays that stand for one: each is a place along its first axis.

    Parameters
    ----------
    rows
        The arrays.
    """

    def __init__(self, rows: Sequence[npt.NDArray[Any]]) -> None:
        self._rows = rows

    def __getitem__(self, index: tuple[Any, ...]) -> npt.NDArray[Any]:
        part: npt.NDArray[Any] = self._rows[index[0]][index[1:]]
        return part

    def __setitem__(self, index: tuple[Any, ...], values: Any) -> None:
        self._rows[index[0]][index[1:]] = values


#: What a read fills.
Target = npt.NDArray[Any] | Rows


class Job:
    """One read: where its bytes come from, and the array that they fill.

    Attributes
    ----------
    out
        The result, of the plan's shape.
    width
        Threads worth having.
    """

    def __init__(
        self,
        source: Source,
        meta: ArrayMeta,
        chain: CodecChain,
        indexes: IndexCache,
        plan: Plan,
        out: Target,
    ) -> None:
        self.out = out
        self.width = min(workers(), len(plan), 1 + len(plan) * chain.nbytes // _WORTH_A_THREAD)
        self._source = source
        self._meta = meta
        self._chain = chain
        self._indexes = indexes
        self._decoder = ChunkDecoder(chain)
        self._fill = fill_of(meta)
        self._prefix = f"{meta.path}/" if meta.path else ""

    # What to ask for

    def local_fetches(self, plan: Plan) -> Iterator[Fetch]:
        """Yield requests, for each to be one thread's work."""
        sharding = self._chain.sharding
        if sharding is None:
            yield from self._chunk_fetches(plan)
            return
        for shard, inner in plan.units(sharding.per_shard):
            key = self._key(shard)
            index = self._indexes.get(key)
            if index is None:
                index = self._learn(key, sharding, self._source.get(key, sharding.byte_range))
            yield from self._run_fetches(key, index, inner, limit=LOCAL_RUN)

    def steps(self, plan: Plan) -> Steps:
        """Yield requests, many at once, and decode the replies that are sent back."""
        sharding = self._chain.sharding
        if sharding is None:
            yield from self._in_batches(self._chunk_fetches(plan))
            return
        units: Iterator[tuple[tuple[int, ...], Plan]] = plan.units(sharding.per_shard)
        while shards := list(itertools.islice(units, _BATCH_SHARDS)):
            fetches: list[Fetch] = []
            asked: list[tuple[str, Plan]] = []
            for shard, inner in shards:
                key = self._key(shard)
                index = self._indexes.get(key)
                if index is not None:
                    fetches.extend(self._run_fetches(key, index, inner, limit=_REMOTE_RUN))
                elif (size := self._size_if_whole(shard, inner)) is not None:
                    fetches.append(Fetch(key=key, byte_range=None, size=size, shard=inner))
                else:
                    asked.append((key, inner))
            replies = (yield [(key, sharding.byte_range) for key, _ in asked]) if asked else []
            for (key, inner), reply in zip(asked, replies, strict=True):
                index = self._learn(key, sharding, reply)
                fetches.extend(self._run_fetches(key, index, inner, limit=_REMOTE_RUN))
            yield from self._in_batches(fetches)

    def _in_batches(self, fetches: Iterable[Fetch]) -> Steps:
        for batch in _batches(fetches):
            replies = yield [(fetch.key, fetch.byte_range) for fetch in batch]
            for_each(self._take_pair, zip(batch, replies, strict=True), width=self.width)

    def _chunk_fetches(self, plan: Plan) -> Iterator[Fetch]:
        size = self._chain.nbytes
        for part in plan:
            piece = Piece(part=part)
            yield Fetch(key=self._key(part.index), byte_range=None, size=size, pieces=(piece,))

    def _run_fetches(
        self, key: str, index: Index | None, plan: Plan, *, limit: int
    ) -> Iterator[Fetch]:
        """Yield requests for the inner chunks of a shard; those that are absent become fill."""
        parts, ranges = self._present(key, index, plan)
        for run in merge_ranges(ranges, gap=_GAP, limit=limit):
            pieces = [
                Piece(
                    part=parts[member],
                    start=ranges[member][0] - run.start,
                    stop=ranges[member][1] - run.start,
                )
                for member in run.members
            ]
            byte_range = (run.start, run.stop)
            yield Fetch(key=key, byte_range=byte_range, size=run.stop - run.start, pieces=pieces)

    def _present(
        self, key: str, index: Index | None, plan: Plan
    ) -> tuple[list[ChunkPart], list[tuple[int, int]]]:
        parts: list[ChunkPart] = []
        ranges: list[tuple[int, int]] = []
        per_shard = self._chain.sharding.per_shard if self._chain.sharding else ()
        # Codecs add little to what they cannot compress; a larger entry is damage.
        largest = 4 * self._chain.nbytes + 2**16
        for part in plan:
            entry = _ABSENT, _ABSENT
            if index is not None:
                entry = tuple(index[position_in_unit(part.index, per_shard)].tolist())
            offset, size = entry
            if offset == size == _ABSENT:
                self.out[part.out] = self._fill
                continue
            if size > largest or offset + size >= 2**63:
                raise ReadError(
                    f"{self._place(key, part)}: the shard index puts it at byte {offset} with "
                    f"{size} bytes, wanted at most {largest}. The index is damaged."
                )
            parts.append(part)
            ranges.append((offset, offset + size))
        return parts, ranges

    def _size_if_whole(self, shard: tuple[int, ...], plan: Plan) -> int | None:
        """Return a shard's size if it is best fetched whole, index and all, in one request."""
        chain, sharding = self._chain, self._chain.sharding
        if sharding is None:
            return None
        in_array = [
            min(n, -(-length // size) - place * n)
            for n, length, size, place in zip(
                sharding.per_shard, self._meta.shape, chain.inner_chunk, shard, strict=True
            )
        ]
        count = math.prod(in_array)
        size = count * chain.nbytes
        return size if 2 * len(plan) >= count and size <= _WHOLE_SHARD else None

    def _learn(self, key: str, sharding: ShardIndex, data: bytes | None) -> Index | None:
        if data is None:
            return None
        index = decode_index(sharding, data, place=self._place(key, None))
        self._indexes.put(key, index)
        return index

    # What to make of the replies

    def fetch_and_take(self, fetch: Fetch) -> None:
        """Make a request and decode the reply."""
        self.take(fetch, self._source.get(fetch.key, fetch.byte_range))

    def _take_pair(self, pair: tuple[Fetch, bytes | None]) -> None:
        self.take(*pair)

    def take(self, fetch: Fetch, data: bytes | None) -> None:
        """Decode the reply to a request into the result."""
        wanted = fetch.byte_range
        if wanted is not None and len(data or b"") != wanted[1] - wanted[0]:
            raise ReadError(
                f"{self._place(fetch.key, None)}: wanted bytes {wanted[0]} to {wanted[1]} of the "
                f"shard, as its index says, got {len(data or b'')} bytes. It may be cut short."
            )
        if fetch.shard is not None:
            self._take_shard(fetch.key, fetch.shard, data)
            return
        for piece in fetch.pieces:
            if data is None:
                self.out[piece.part.out] = self._fill
            elif wanted is None:
                self._decode(fetch.key, piece.part, data)
            else:
                self._decode(fetch.key, piece.part, memoryview(data)[piece.start : piece.stop])

    def _take_shard(self, key: str, plan: Plan, data: bytes | None) -> None:
        sharding = self._chain.sharding
        index = None if sharding is None else self._learn(key, sharding, data)
        view = memoryview(data or b"")
        for part, (start, stop) in zip(*self._present(key, index, plan), strict=True):
            self._decode(key, part, view[start:stop])

    def _decode(self, key: str, part: ChunkPart, data: bytes | memoryview) -> None:
        place = self._place(key, part)
        if part.whole:
            self._decoder.decode_into(data, self.out[(*part.out, ...)], place=place)
        else:
            self.out[part.out] = self._decoder.decode(data, place=place)[part.inside]

    def _key(self, index: tuple[int, ...]) -> str:
        return self._prefix + self._meta.chunk_key(index)

    def _place(self, key: str, part: ChunkPart | None) -> Place:
        inner = part.index if part is not None and self._chain.sharding is not None else None
        return Place(url=self._source.url, path=self._meta.path, key=key, inner=inner)


def _batches(fetches: Iterable[Fetch]) -> Iterator[list[Fetch]]:
    """Cut requests into batches of bounded count and size."""
    batch: list[Fetch] = []
    size = 0
    for fetch in fetches:
        if batch and (size + fetch.size > _BATCH_BYTES or len(batch) == _BATCH_REQUESTS):
            yield batch
            batch, size = [], 0
        batch.append(fetch)
        size += fetch.size
    if batch:
        yield batch


def fill_of(meta: ArrayMeta) -> npt.NDArray[Any]:
    """Return what absent chunks are filled with, as an array without axes."""
    value = np.zeros((), meta.dtype)
    if meta.fill_value is not None:
        value[...] = meta.fill_value
    elif meta.dtype.kind in "mM":
        # As zarr-python does: a time without a value is no time, rather than 1970.
        value[...] = "NaT"
    return value
