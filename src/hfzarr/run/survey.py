"""What reads of an array would ask of its store, without reading a chunk."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hfzarr.errors import UnsupportedError
from hfzarr.model.array import ArrayMeta
from hfzarr.model.codecs import CodecChain, ShardIndex
from hfzarr.plan.axis import AxisPlan, IntArray, plan_axis
from hfzarr.plan.grid import ChunksPlan, GridPlan
from hfzarr.plan.tasks import Box
from hfzarr.run.dry import ShardSample, key_of, shard_grid
from hfzarr.run.job import _INDEX_CACHE, IndexCache, Plan
from hfzarr.run.read import ArrayReader, _single_chunks
from hfzarr.store.source import Source

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

    def times(self, factor: float, meta: ArrayMeta | None = None) -> Survey:
        """Return an estimate for something so many times as large, of no more than an array."""
        if factor == 1:
            return self
        numbers: dict[str, Any] = {name: round(getattr(self, name) * factor) for name in _NUMBERS}
        for name, size in (("chunks", meta and meta.inner_chunk), ("shards", meta and meta.shard)):
            if meta is not None and size:
                most = math.prod(-(-a // b) for a, b in zip(meta.shape, size, strict=True))
                if name == "chunks" and numbers[name] > most:
                    numbers["bytes_stored"] = round(numbers["bytes_stored"] * most / numbers[name])
                numbers[name] = min(numbers[name], most)
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
    places_in
        For each visit of a chunk, its place in `numbers`.
    plan
        And the number of the plan that visits it.
    grid
        Chunks along each axis of the array.
    """

    numbers: IntArray
    counts: IntArray
    places_in: IntArray
    plan: IntArray
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
    kept = [plan for plan, _ in thinned]
    factor = sum(n for _, n in thinned) / sum(map(len, kept)) if kept else 1.0
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
    meta, chain = reader.meta, reader._chain
    if chain is not None and len(boxes) > 1:
        chunks = _single_chunks(boxes, chain)
        if chunks is not None:
            return [ChunksPlan.of(chain.inner_chunk, chunks)]
    chunk = meta.inner_chunk or meta.shape
    return [
        GridPlan(
            axes=tuple(
                _side(length, n, start, stop)
                for length, n, (start, stop) in zip(meta.shape, chunk, box, strict=True)
            )
        )
        for box in boxes
    ]


@functools.lru_cache(maxsize=1 << 14)
def _side(length: int, chunk: int, start: int, stop: int) -> AxisPlan:
    # Boxes of a grid have few different sides.
    return plan_axis(length, chunk, slice(start, stop))


def _ask(reader: ArrayReader, plans: Sequence[Plan], visits: _Visits) -> Survey:
    meta, chain = reader.meta, reader._chain
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
    numbers, inverse, counts = np.unique(every, return_inverse=True, return_counts=True)
    return _Visits(
        numbers=numbers,
        counts=counts,
        places_in=inverse.reshape(-1),
        plan=np.repeat(np.arange(len(plans)), [len(one) for one in listed]),
        grid=grid,
    )


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
    keys = [key_of(meta, place) for place in visits.places(chosen).tolist()]
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


# Shards


def _of_other_shards(source: Source, meta: ArrayMeta, visits: _Visits) -> Survey:
    """Return about what zarr-python asks for, with codecs that are not known here."""
    shards, chunks, _ = _shards(meta, visits)
    grid = shard_grid(meta)
    chosen = _evenly(len(shards), _MOST_FILES)
    places = np.stack(np.unravel_index(shards[chosen], grid), axis=1).tolist()
    keys = [key_of(meta, place) for place in places]
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
    sample = ShardSample(source, meta, chain, sharding, shards[chosen])
    indexes = IndexCache(round(_INDEX_CACHE * len(chosen) / len(shards)))
    # A plan's visits of one shard are one read of it.
    reads = np.unique(visits.plan * len(shards) + of_chunk[visits.places_in])
    for number in np.unique(reads[np.isin(reads % len(shards), chosen)] // len(shards)).tolist():
        sample.read(plans[number], indexes)
    ours = np.flatnonzero(np.isin(of_chunk, chosen))
    stored = sample.stored(np.searchsorted(chosen, of_chunk[ours]), visits.places(ours))
    by_chunk = float(visits.counts.sum()) / float(visits.counts[ours].sum())
    return Survey(
        requests=round(sample.requests * len(reads) / sample.reads),
        shards=len(shards),
        bytes_stored=round(stored * len(visits.numbers) / len(ours)),
        bytes_fetched=round(sample.fetched * by_chunk),
        estimates=() if exact else ("requests", "bytes_fetched", "bytes_stored"),
        notes=() if exact else (f"indexes of {len(chosen):,} shards were read, evenly spaced",),
    )


def _shards(meta: ArrayMeta, visits: _Visits) -> tuple[IntArray, IntArray, IntArray]:
    """Return the numbers of shards, how many chunks are touched in each, and each chunk's shard."""
    sides = zip(meta.shard or (), meta.inner_chunk or (), strict=True)
    per_shard = np.array([shard // chunk for shard, chunk in sides], np.intp)
    number = np.zeros(len(visits.numbers), np.intp)
    for along, n in zip((visits.places() // per_shard).T, shard_grid(meta), strict=True):
        number = number * n + along
    shards, of_chunk, counts = np.unique(number, return_inverse=True, return_counts=True)
    return shards, counts, of_chunk.reshape(-1)
