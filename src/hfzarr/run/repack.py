"""Shards made of chunks as they are encoded already: nothing is decoded."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from hfzarr.errors import ReadError
from hfzarr.model.codecs import ShardIndex, fast_chain, shard_index
from hfzarr.plan.axis import IntArray
from hfzarr.plan.boxes import Boxes
from hfzarr.plan.grid import ByteRun, merge_ranges
from hfzarr.plan.routes import REPACK_BUFFER, repack_buffer
from hfzarr.plan.shards import chunk_counts
from hfzarr.run.array_job import ArrayJob
from hfzarr.run.decode import ChunkDecoder, Place, decode_index
from hfzarr.run.job import IndexCache
from hfzarr.run.journal import Done
from hfzarr.run.scratch import Scratch
from hfzarr.run.shard_file import MORE, ShardFile

__all__ = ["Repack"]

Bytes = bytes | memoryview
#: Positions in a shard, and the encoded chunks that belong there.
Batch = tuple[list[int], list[Bytes]]

# A request brings gaps of up to this along, where each request is a matter of the network.
_GAP = 64 * 2**10
_ABSENT = np.iinfo(np.uint64).max
_REQUESTS = 256


class Repack:
    """Lays the encoded chunks of an array end to end, a shard a task.

    Parameters
    ----------
    job
        The array.
    scratch
        Where encoded chunks wait to be written.
    """

    def __init__(self, job: ArrayJob, scratch: Scratch | None = None) -> None:
        self._job = job
        self._indexes = IndexCache()
        self._scratch = Scratch() if scratch is None else scratch
        spec = job.plan.spec
        chain = fast_chain(job.meta)
        # What is taken over may itself be a shard, of which the chain tells what is inside.
        inside = (job.meta.shard is not None) != spec.packed
        known = chain is not None and chain.inner_chunk == spec.chunk and not inside
        self._decoder = ChunkDecoder(chain) if known and chain is not None else None
        self._sharding = shard_index(job.meta) if spec.packed else None
        self._chunks = Boxes(shape=spec.shape, box=spec.inner)
        self._per_unit = chunk_counts(spec.unit, spec.inner)
        self._nbytes = int(np.prod(spec.inner)) * spec.itemsize
        self._buffered = repack_buffer(spec)
        # Codecs add little to what they cannot compress; a larger chunk is damage. Texts have no
        # bound.
        self._largest = 4 * self._nbytes + 2**16 if spec.elements_alike else 2**62
        self._prefix = f"{job.meta.path}/" if job.meta.path else ""

    def run(self, step: int, number: int) -> Done:
        """Write one shard."""
        job = self._job
        stamp = job.stamp(step, number)
        units = job.units()
        unit = units.place(number)
        sharding = shard_index(job.target) if job.plan.spec.sharded else None
        bytes_read = 0
        with ExitStack() as stack:
            file = ShardFile(job.sink, job.key(unit), sharding, stack)
            for positions, parts in self.batches(number):
                bytes_read += sum(len(part) for part in parts)
                file.extend(positions, parts)
            file.finish()
        return Done(
            task=job.task(step, number),
            stamp=stamp,
            files={file.key: file.size} if file.size else {},
            chunks=file.chunks,
            bytes_read=bytes_read,
            bytes_written=file.size,
        )

    def batches(self, number: int) -> Iterator[Batch]:
        """Yield the encoded chunks of one shard, by their positions in it.

        A batch holds until the next is asked for.
        """
        units = self._job.units()
        inside = self._chunks.touching(units.bounds(units.place(number)))
        if self._job.plan.spec.packed:
            return self._from_shards(inside)
        if self._job.source.local:
            return self._from_files(inside)
        return self._from_objects(inside)

    def _wanted(self, inside: Sequence[range]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield the position in the shard and the index in the array of each chunk."""
        places = [self._positions(axis, along) for axis, along in enumerate(inside)]
        for parts in itertools.product(*(zip(p, r, strict=True) for p, r in places)):
            yield sum(part[0] for part in parts), tuple([part[1] for part in parts])

    def _positions(self, axis: int, along: range) -> tuple[list[int], range]:
        """Return what each chunk of an axis adds to the position of a chunk in its shard."""
        stride = int(np.prod(self._per_unit[axis + 1 :], dtype=np.int64))
        return [(i % self._per_unit[axis]) * stride for i in along], along

    def _from_files(self, inside: Sequence[range]) -> Iterator[Batch]:
        """Read chunk files straight into one buffer, and hand it on when it is full."""
        read_into, key_of = self._job.source.read_into, self._job.meta.chunk_key
        buffer = self._scratch.get("encoded", self._buffered).data
        positions: list[int] = []
        parts: list[Bytes] = []
        used = 0
        for position, index in self._wanted(inside):
            key = self._prefix + key_of(index)
            try:
                size = read_into(key, buffer[used:])
            except BufferError:
                yield positions, parts
                positions, parts, used = [], [], 0
                size = yield from self._from_start(key, position, buffer)
            if size is not None:
                part = buffer[used : used + size]
                self._check(part, key)
                positions.append(position)
                parts.append(part)
                used += size
        yield positions, parts

    def _from_start(
        self, key: str, position: int, buffer: memoryview
    ) -> Generator[Batch, None, int | None]:
        """Read a file into the whole buffer; one that is larger is yielded, part by part."""
        try:
            return self._job.source.read_into(key, buffer)
        except BufferError:
            pass
        start = 0
        while size := self._job.source.read_into(key, buffer, (start, start + len(buffer))):
            yield [position if start == 0 else MORE], [buffer[:size]]
            start += size
        return None

    def _from_objects(self, inside: Sequence[range]) -> Iterator[Batch]:
        """Ask for many chunks at once, as many as the buffer would hold."""
        key_of = self._job.meta.chunk_key
        wanted = ((position, self._prefix + key_of(i)) for position, i in self._wanted(inside))
        count = max(1, min(_REQUESTS, REPACK_BUFFER // max(self._nbytes, 1)))
        while some := list(itertools.islice(wanted, count)):
            replies = self._job.source.get_many([(key, None) for _, key in some])
            batch: Batch = ([], [])
            for (position, key), data in zip(some, replies, strict=True):
                if data is not None:
                    self._check(data, key)
                    batch[0].append(position)
                    batch[1].append(data)
            yield batch

    def _from_shards(self, inside: Sequence[range]) -> Iterator[Batch]:
        """Read ranges of the shards that the wanted chunks lie in."""
        meta = self._job.meta
        sharding = self._sharding
        if sharding is None:
            raise ReadError(
                f"array {meta.path or '/'!r} in {self._job.source.url}: its shards have an index "
                "that cannot be read here, so its chunks cannot be taken over as they are"
            )
        touched = [
            range(along.start // n, (along.stop - 1) // n + 1)
            for along, n in zip(inside, sharding.per_shard, strict=True)
        ]
        for shard in itertools.product(*touched):
            key = self._prefix + meta.chunk_key(shard)
            entries = self._entries(key, sharding)
            if entries is not None:
                yield from self._from_shard(key, shard, entries, inside, sharding)

    def _from_shard(
        self,
        key: str,
        shard: tuple[int, ...],
        entries: npt.NDArray[np.uint64],
        inside: Sequence[range],
        sharding: ShardIndex,
    ) -> Iterator[Batch]:
        """Read the wanted chunks of one shard, those that lie together in one request."""
        here, there = self._common(shard, inside, sharding)
        found = entries[there]
        present = ~(found == _ABSENT).all(axis=1)
        positions, found = here[present].tolist(), found[present]
        self._check_entries(key, found)
        ranges = [(start, start + size) for start, size in found.tolist()]
        gap = 0 if self._job.source.local else _GAP
        runs = list(merge_ranges(ranges, gap=gap, limit=REPACK_BUFFER))
        # One run at a time from a disk, as many as the buffer would hold over a network.
        for some in [[run] for run in runs] if self._job.source.local else _batched(runs):
            requests = [(key, (run.start, run.stop)) for run in some]
            batch: Batch = ([], [])
            for run, data in zip(some, self._job.source.get_many(requests), strict=True):
                if len(data or b"") != run.stop - run.start:
                    raise ReadError(
                        f"{self._place(key)}: wanted bytes {run.start} to {run.stop} of the shard, "
                        f"as its index says, got {len(data or b'')} bytes. It may be cut short."
                    )
                view = memoryview(data or b"")
                for member in run.members:
                    start, stop = ranges[member]
                    part = view[start - run.start : stop - run.start]
                    self._check(part, key)
                    batch[0].append(positions[member])
                    batch[1].append(part)
            yield batch

    def _common(
        self, shard: tuple[int, ...], inside: Sequence[range], sharding: ShardIndex
    ) -> tuple[IntArray, IntArray]:
        """Return the chunks that a target and a source shard share, by position in each."""
        here = there = np.zeros((), np.intp)
        for axis, (along, i, n) in enumerate(zip(inside, shard, sharding.per_shard, strict=True)):
            both = np.arange(max(along.start, i * n), min(along.stop, (i + 1) * n))
            m = self._per_unit[axis]
            here = here[..., None] * m + both % m
            there = there[..., None] * n + both % n
        return here.reshape(-1), there.reshape(-1)

    def _entries(self, key: str, sharding: ShardIndex) -> npt.NDArray[np.uint64] | None:
        index = self._indexes.get(key)
        if index is None:
            data = self._job.source.get(key, sharding.byte_range)
            if data is None:
                return None
            index = decode_index(sharding, data, place=self._place(key))
            self._indexes.put(key, index)
        return index

    def _check_entries(self, key: str, found: npt.NDArray[np.uint64]) -> None:
        wrong = (found[:, 1] > self._largest) | (found[:, 0] > 2**62)
        if wrong.any():
            offset, size = found[wrong][0].tolist()
            raise ReadError(
                f"{self._place(key)}: the shard index puts a chunk at byte {offset} with {size} "
                f"bytes, wanted at most {self._largest}. The index is damaged."
            )

    def _check(self, data: Bytes, key: str) -> None:
        if self._decoder is not None:
            self._decoder.check(data, place=self._place(key))

    def _place(self, key: str) -> Place:
        return Place(url=self._job.source.url, path=self._job.meta.path, key=key)


def _batched(runs: Sequence[ByteRun]) -> Iterator[list[ByteRun]]:
    """Cut runs into lists of bounded count and size."""
    some: list[ByteRun] = []
    size = 0
    for run in runs:
        if some and (size + run.stop - run.start > REPACK_BUFFER or len(some) == _REQUESTS):
            yield some
            some, size = [], 0
        some.append(run)
        size += run.stop - run.start
    if some:
        yield some
