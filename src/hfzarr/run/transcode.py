"""Shards made of chunks that are decoded and encoded anew, in one pass or in several."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import ReadError
from hfzarr.model.codecs import fast_chain
from hfzarr.plan.boxes import Boxes
from hfzarr.plan.grid import position_in_unit
from hfzarr.plan.shards import chunk_counts
from hfzarr.run.array_job import ArrayJob
from hfzarr.run.encode import ChunkEncoder
from hfzarr.run.job import fill_of
from hfzarr.run.journal import Done
from hfzarr.run.pool import for_each, limited
from hfzarr.run.read import ArrayReader
from hfzarr.run.scratch import Scratch
from hfzarr.run.shard_file import ShardFile

__all__ = ["Transcode"]

AnyArray = npt.NDArray[Any]
Bounds = tuple[tuple[int, int], ...]


class Transcode:
    """Reads an array box by box, and writes shards of it, or an intermediate.

    Parameters
    ----------
    job
        The array.
    scratch
        Where bands and chunks are laid out.
    threads
        Threads that one task may use.
    """

    def __init__(self, job: ArrayJob, scratch: Scratch | None = None, *, threads: int = 1) -> None:
        self._job = job
        self._scratch = scratch = Scratch() if scratch is None else scratch
        self._threads = threads
        self._reader = ArrayReader(job.source, job.meta)
        chain = fast_chain(job.target)
        self._chain = chain
        self._encoder = (
            None if chain is None else ChunkEncoder(job.target, chain, fill_of(job.target), scratch)
        )
        self._per_unit = chunk_counts(job.plan.spec.unit, job.plan.spec.inner)
        self._inner = Boxes(shape=job.target.shape, box=job.plan.spec.inner)

    def run(self, step: int, number: int) -> Done:
        """Carry out one task of a pass."""
        job = self._job
        stamp = job.stamp(step, number)
        boxes = job.plan.boxes(step)
        bounds = boxes.bounds(boxes.place(number))
        with limited(self._threads):
            if step == job.last:
                files, chunks = self._write_units(step, bounds)
            else:
                files, chunks = self._write_pieces(step, number, bounds), 0
        sides = [stop - start for start, stop in bounds]
        return Done(
            task=job.task(step, number),
            stamp=stamp,
            files=files,
            chunks=chunks,
            bytes_read=int(np.prod(sides, dtype=np.int64)) * job.plan.spec.itemsize,
            bytes_written=sum(files.values()),
        )

    # Reading

    def _read(self, step: int, bounds: Bounds) -> AnyArray:
        """Return the pixels of a band, in memory that the next band of this thread uses again."""
        shape = tuple(stop - start for start, stop in bounds)
        dtype = self._job.meta.dtype
        if step == 0 and dtype.hasobject:
            return self._reader.read([slice(start, stop) for start, stop in bounds])
        out = self._scratch.get("band", int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        region = out.view(dtype).reshape(shape)
        if step == 0:
            self._reader.read_into([slice(start, stop) for start, stop in bounds], region)
        else:
            self._gather(step, bounds, region)
        return region

    def _gather(self, step: int, bounds: Bounds, out: AnyArray) -> None:
        """Fill a band from the pieces that the tasks of the pass before laid down for it."""
        job = self._job
        source = job.sink.source()
        boxes, bands = job.plan.boxes(step - 1), job.plan.bands(step)
        counts = boxes.counts
        for place in itertools.product(*boxes.touching(bounds)):
            number = int(np.ravel_multi_index(place, counts)) if counts else 0
            box = boxes.bounds(place)
            piece, offset = _piece(bands, box, bounds)
            shape = tuple(stop - start for start, stop in piece)
            size = int(np.prod(shape, dtype=np.int64)) * out.itemsize
            key = job.scratch_key(step - 1, number)
            start = offset * out.itemsize
            data = source.get(key, (start, start + size))
            if len(data or b"") != size:
                raise ReadError(
                    f"intermediate {key!r} in {source.url}: wanted bytes {start} to "
                    f"{start + size}, got {len(data or b'')}. Was something deleted while it ran? "
                    "Start the run again."
                )
            where = tuple(
                slice(a - low, b - low) for (a, b), (low, _) in zip(piece, bounds, strict=True)
            )
            out[where] = np.frombuffer(data or b"", out.dtype).reshape(shape)

    # Writing

    def _write_pieces(self, step: int, number: int, bounds: Bounds) -> dict[str, int]:
        """Write a box as the pieces that the tasks of the next pass read, one after the other."""
        job = self._job
        key = job.scratch_key(step, number)
        region = self._read(step, bounds)
        bands = job.plan.bands(step + 1)
        with job.sink.create(key) as file:
            for place in itertools.product(*bands.touching(bounds)):
                inside = _overlap(bands.bounds(place), bounds)
                where = tuple(
                    slice(a - low, b - low) for (a, b), (low, _) in zip(inside, bounds, strict=True)
                )
                file.write(np.ascontiguousarray(region[where]).reshape(-1).view(np.uint8).data)
            return {key: file.size}

    def _write_units(self, step: int, bounds: Bounds) -> tuple[dict[str, int], int]:
        """Write the files of a box, band by band."""
        job = self._job
        units, bands = job.units(), job.plan.bands(step)
        sharding = None if self._chain is None else self._chain.sharding
        with ExitStack() as stack:
            files = {
                unit: ShardFile(job.sink, job.key(unit), sharding, stack)
                for unit in itertools.product(*units.touching(bounds))
            }
            for place in itertools.product(*bands.touching(bounds)):
                band = bands.bounds(place)
                region = self._read(step, band)
                if self._encoder is None:
                    self._encode_with_zarr(region, band, files)
                else:
                    self._encode(self._encoder, region, band, files)
            for file in files.values():
                if self._encoder is not None:
                    file.finish()
        written = {file.key: file.size for file in files.values() if file.size}
        return written, sum(file.chunks for file in files.values())

    def _encode(
        self,
        encoder: ChunkEncoder,
        region: AnyArray,
        band: Bounds,
        files: dict[tuple[int, ...], ShardFile],
    ) -> None:
        def one(index: tuple[int, ...]) -> None:
            data = encoder.encode(region[_within(self._inner.bounds(index), band)])
            if data is not None:
                unit = tuple(i // n for i, n in zip(index, self._per_unit, strict=True))
                files[unit].extend([position_in_unit(index, self._per_unit)], [data])

        wanted = itertools.product(*self._inner.touching(band))
        for_each(one, wanted, width=self._threads)

    def _encode_with_zarr(
        self, region: AnyArray, band: Bounds, files: dict[tuple[int, ...], ShardFile]
    ) -> None:
        """Let zarr-python make whole files, where only it knows the codecs."""
        from hfzarr.store.bridge import encode_unit

        units = self._job.units()
        for unit in itertools.product(*units.touching(band)):
            bounds = units.bounds(unit)
            data = encode_unit(self._job.target, unit, bounds, region[_within(bounds, band)])
            if data is not None:
                files[unit].extend([0], [data])


def _within(inside: Sequence[tuple[int, int]], bounds: Bounds) -> tuple[slice, ...]:
    """Return the index of a box in a region."""
    return tuple(slice(a - low, b - low) for (a, b), (low, _) in zip(inside, bounds, strict=True))


def _overlap(one: Bounds, other: Bounds) -> Bounds:
    return tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))


def _piece(bands: Boxes, box: Bounds, band: Bounds) -> tuple[Bounds, int]:
    """Return the piece of a box that a band needs, and how many elements lie before it.

    The pieces of a box lie in the order of the bands, the last axis fastest.
    """
    piece = _overlap(box, band)
    sides = [stop - start for start, stop in piece]
    offset = 0
    for axis, ((low, _), (start, _)) in enumerate(zip(box, piece, strict=True)):
        # Before it on this axis, where all earlier axes are the piece's own, later ones whole.
        earlier = int(np.prod(sides[:axis], dtype=np.int64))
        later = int(np.prod([b - a for a, b in box[axis + 1 :]], dtype=np.int64))
        offset += earlier * (start - low) * later
    return piece, offset
