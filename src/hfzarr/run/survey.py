"""What reads of an array would ask of its store, without reading a chunk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hfzarr.errors import UnsupportedError
from hfzarr.model.array import ArrayMeta
from hfzarr.model.codecs import CodecChain, ShardIndex, fast_chain
from hfzarr.plan.axis import IntArray
from hfzarr.plan.grid import ChunksPlan, GridPlan, plan_grid
from hfzarr.plan.tasks import Box
from hfzarr.run.decode import Place, decode_index
from hfzarr.run.job import _ABSENT, _INDEX_CACHE, Fetch, IndexCache, Job, Plan, Rows, advance
from hfzarr.run.read import ArrayReader, _single_chunks
from hfzarr.store.source import ByteRange, Source

__all__ = ["Survey", "plans_of_boxes", "survey"]

#: Of so many chunk files the sizes are asked, and of so many shards the indexes.
_MOST_FILES = 1024
_MOST_SHARDS = 64
#: Chunks in those shards, about, which are gone through one by one.
_MOST_LISTED = 1 << 16
#: A single selection with more chunks is looked at in part.
_MOST_CHUNKS = 1 << 20

_NUMBERS = (
    *("requests", "chunks", "chunk_decodes", "shards"),
    *("bytes_fetched", "bytes_stored", "bytes_decoded"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What some reads ask of a store; see `hfzarr.plan.cost.VariableCost` for the numbers.

    Attributes
    ----------
    requests, chunks, chunk_decodes, shards, bytes_fetched, bytes_stored, bytes_decoded
        As there.
    estimates
        Which of them are estimates.
    notes
        Why.
    """

    requests: int = 0
    chunks: int = 0
    chunk_decodes: int = 0
    shards: int = 0
    bytes_fetched: int = 0
    bytes_stored: int = 0
    bytes_decoded: int = 0
    estimates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def times(self, factor: float) -> Survey:
        """Return an estimate for something so many times as large."""
        if factor == 1:
            return self
        numbers: dict[str, Any] = {name: round(getattr(self, name) * factor) for name in _NUMBERS}
        inexact = tuple(dict.fromkeys([*self.estimates, *_NUMBERS]))
        return replace(self, **numbers, estimates=inexact)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Visits:
    """The chunks of all reads, in numbers.

    Attributes
    ----------
    numbers
        Chunks that are touched, each once, ascending.
    counts
        How often each is.
    grid
        Chunks along each axis of the array.
    """

    numbers: IntArray
    counts: IntArray
    grid: tuple[int, ...]

    def places(self, chosen: IntArray | slice = slice(None)) -> IntArray:
        """Return the place of some of the chunks: shape (chunks, axes)."""
        if not self.grid:
            return np.zeros((len(self.numbers[chosen]), 0), np.intp)
        return np.stack(np.unravel_index(self.numbers[chosen], self.grid), axis=1)


def survey(reader: ArrayReader, plans: Sequence[Plan]) -> Survey:
    """Return what carrying out some plans asks of the store, one after the other.

    Nothing but sizes of files and indexes of shards is asked of the store.

    Parameters
    ----------
    reader
        Whose array is read; as if it had read nothing before.
    plans
        What is read, over the array's inner chunks.
    """
    meta = reader.meta
    inner = meta.inner_chunk
    if inner is None:
        note = f"{meta.path or '/'}: its chunks are uneven; zarr-python reads them"
        return Survey(notes=(note,))
    thinned = [_thinned(plan, meta) for plan in plans if math.prod(plan.shape)]
    factor = sum(n for _, n in thinned) / max(sum(len(plan) for plan, _ in thinned), 1)
    kept = [plan for plan, _ in thinned]
    visits = _visits(kept, meta)
    found = _ask(reader, kept, visits)
    known = replace(
        found,
        chunks=len(visits.numbers),
        chunk_decodes=int(visits.counts.sum()),
        bytes_decoded=int(visits.counts.sum()) * math.prod(inner) * meta.dtype.itemsize,
    )
    return known.times(factor)


def plans_of_boxes(reader: ArrayReader, boxes: Sequence[Box]) -> list[Plan]:
    """Return the plans by which a reader reads boxes together; see `ArrayReader.read_boxes`."""
    meta, chain = reader.meta, fast_chain(reader.meta)
    if chain is not None and len(boxes) > 1:
        chunks = _single_chunks(boxes, chain)
        if chunks is not None:
            return [ChunksPlan.of(chain.inner_chunk, chunks)]
    chunk = meta.inner_chunk or meta.shape
    return [plan_grid(meta.shape, chunk, [slice(*side) for side in box]) for box in boxes]


def _ask(reader: ArrayReader, plans: Sequence[Plan], visits: _Visits) -> Survey:
    meta, chain = reader.meta, fast_chain(reader.meta)
    if not len(visits.numbers):
        return Survey()
    try:
        if meta.shard is None:
            return _of_files(reader.source, meta, visits)
        if chain is None or chain.sharding is None:
            return _of_other_shards(reader.source, meta, visits)
        return _of_shards(reader.source, meta, chain, chain.sharding, plans, visits)
    except UnsupportedError as error:
        size = math.prod(meta.inner_chunk or ()) * meta.dtype.itemsize
        return Survey(
            requests=int(visits.counts.sum()),
            bytes_fetched=size * int(visits.counts.sum()),
            bytes_stored=size * len(visits.numbers),
            estimates=("requests", "bytes_fetched", "bytes_stored"),
            notes=(f"{error}: taken to be as many as decoded",),
        )


def _thinned(plan: Plan, meta: ArrayMeta) -> tuple[Plan, int]:
    """Return a plan, or a part of one that has very many chunks; and the chunks of the whole."""
    whole = len(plan)
    if not isinstance(plan, GridPlan) or whole <= _MOST_CHUNKS or not meta.inner_chunk:
        return plan, whole
    unit = meta.shard or meta.inner_chunk
    axes = list(plan.axes)
    while math.prod(len(axis.parts) for axis in axes) > _MOST_CHUNKS:
        longest = max(range(len(axes)), key=lambda i: len(axes[i].parts))
        per = unit[longest] // meta.inner_chunk[longest]
        files = [part.chunk // per for part in axes[longest].parts]
        # Every other shard: half of them, as far apart as may be.
        kept = set(sorted(set(files))[::2])
        parts = [p for p, file in zip(axes[longest].parts, files, strict=True) if file in kept]
        if len(parts) == len(files):
            break
        axes[longest] = replace(axes[longest], parts=tuple(parts))
    return GridPlan(axes=tuple(axes)), whole


def _visits(plans: Sequence[Plan], meta: ArrayMeta) -> _Visits:
    grid = tuple(
        -(-length // chunk)
        for length, chunk in zip(meta.shape, meta.inner_chunk or (), strict=True)
    )
    listed = [_numbers(plan, grid) for plan in plans]
    every = np.concatenate(listed) if listed else np.zeros(0, np.intp)
    numbers, counts = np.unique(every, return_counts=True)
    return _Visits(numbers=numbers, counts=counts, grid=grid)


def _numbers(plan: Plan, grid: tuple[int, ...]) -> IntArray:
    """Return the numbers of the chunks of a plan."""
    number = np.zeros(1, np.intp)
    if not isinstance(plan, GridPlan):
        strides = [math.prod(grid[axis + 1 :]) for axis in range(len(grid))]
        return plan.chunks @ np.array(strides, np.intp)
    for axis, n in zip(plan.axes, grid, strict=True):
        along = np.array([part.chunk for part in axis.parts], np.intp)
        number = (number[:, np.newaxis] * n + along).reshape(-1)
    return number


def _evenly(count: int, most: int) -> IntArray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))


# A file for each chunk


def _of_files(source: Source, meta: ArrayMeta, visits: _Visits) -> Survey:
    chosen = _evenly(len(visits.numbers), _MOST_FILES)
    keys = [_key(meta, place) for place in visits.places(chosen).tolist()]
    sizes = np.array([size or 0 for size in source.sizes(keys)], np.float64)
    counts = visits.counts[chosen]
    requests = int(visits.counts.sum())
    exact = len(chosen) == len(visits.numbers)
    return Survey(
        requests=requests,
        bytes_stored=round(float(sizes.sum()) * len(visits.numbers) / len(chosen)),
        bytes_fetched=round(float((sizes * counts).sum()) * requests / int(counts.sum())),
        estimates=() if exact else ("bytes_fetched", "bytes_stored"),
        notes=() if exact else (f"sizes of {len(chosen):,} chunks were asked for, evenly spaced",),
    )


def _key(meta: ArrayMeta, place: Sequence[int]) -> str:
    key = meta.chunk_key(tuple(place))
    return f"{meta.path}/{key}" if meta.path else key


# Shards


def _of_other_shards(source: Source, meta: ArrayMeta, visits: _Visits) -> Survey:
    """Return about what zarr-python asks for, with codecs that are not known here."""
    shards, chunks, _ = _shards(meta, visits)
    grid = _shard_grid(meta)
    chosen = _evenly(len(shards), _MOST_FILES)
    places = np.stack(np.unravel_index(shards[chosen], grid), axis=1).tolist()
    keys = [_key(meta, place) for place in places]
    sizes = np.array([size or 0 for size in source.sizes(keys)], np.float64)
    per_shard = math.prod(meta.shard or ()) // math.prod(meta.inner_chunk or ())
    stored = float((sizes * chunks[chosen]).sum()) / per_shard
    stored *= len(visits.numbers) / int(chunks[chosen].sum())
    again = int(visits.counts.sum()) / len(visits.numbers)
    return Survey(
        requests=len(shards) + int(visits.counts.sum()),
        shards=len(shards),
        bytes_stored=round(stored),
        bytes_fetched=round(stored * again),
        estimates=("requests", "bytes_fetched", "bytes_stored"),
        notes=(f"{meta.path or '/'}: zarr-python reads its shards, as their codecs ask for it",),
    )


def _of_shards(
    source: Source,
    meta: ArrayMeta,
    chain: CodecChain,
    sharding: ShardIndex,
    plans: Sequence[Plan],
    visits: _Visits,
) -> Survey:
    shards, _, of_chunk = _shards(meta, visits)
    again = float(visits.counts.sum()) / len(shards)
    chosen = _evenly(len(shards), max(1, min(_MOST_SHARDS, int(_MOST_LISTED / again))))
    exact = len(chosen) == len(shards)
    sample = _Sample(source, meta, chain, sharding, shards[chosen])
    indexes = IndexCache(round(_INDEX_CACHE * len(chosen) / len(shards)))
    every = sum([sample.read(plan, indexes) for plan in plans])
    ours = np.flatnonzero(np.isin(of_chunk, chosen))
    stored = sample.stored(np.searchsorted(chosen, of_chunk[ours]), visits.places(ours))
    by_chunk = float(visits.counts.sum()) / float(visits.counts[ours].sum())
    return Survey(
        requests=round(sample.requests * every / sample.reads),
        shards=len(shards),
        bytes_stored=round(stored * len(visits.numbers) / len(ours)),
        bytes_fetched=round(sample.fetched * by_chunk),
        estimates=() if exact else ("requests", "bytes_fetched", "bytes_stored"),
        notes=() if exact else (f"indexes of {len(chosen):,} shards were read, evenly spaced",),
    )


def _shard_grid(meta: ArrayMeta) -> tuple[int, ...]:
    return tuple(-(-length // n) for length, n in zip(meta.shape, meta.shard or (), strict=True))


def _shards(meta: ArrayMeta, visits: _Visits) -> tuple[IntArray, IntArray, IntArray]:
    """Return the numbers of shards, how many chunks are touched in each, and each chunk's shard."""
    sides = zip(meta.shard or (), meta.inner_chunk or (), strict=True)
    per_shard = np.array([shard // chunk for shard, chunk in sides], np.intp)
    number = np.zeros(len(visits.numbers), np.intp)
    for along, n in zip((visits.places() // per_shard).T, _shard_grid(meta), strict=True):
        number = number * n + along
    shards, of_chunk, counts = np.unique(number, return_inverse=True, return_counts=True)
    return shards, counts, of_chunk.reshape(-1)


class _Sample:
    """Some shards, of which the indexes are known, and what reads ask of them."""

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
        places = np.stack(np.unravel_index(shards, _shard_grid(meta)), axis=1).tolist()
        self._keys = {tuple(place): _key(meta, place) for place in places}
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

    def read(self, plan: Plan, indexes: IndexCache) -> int:
        """Note what a read asks of the shards; return how many it touches, others included."""
        count = 0
        for place, inner in plan.units(self._sharding.per_shard):
            count += 1
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
        return count

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
