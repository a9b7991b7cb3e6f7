"""What was written, compared with what it was made from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hfzarr.errors import VerificationError
from hfzarr.plan.boxes import Boxes
from hfzarr.run.array_job import ArrayJob
from hfzarr.run.pool import limited
from hfzarr.run.read import ArrayReader
from hfzarr.run.repack import Repack
from hfzarr.run.shard_file import MORE

__all__ = ["Check", "Checked", "Verify", "checks"]

#: ``"sample"``: some shards of each array, some chunks of each. ``"full"``: everything.
Mode = Literal["sample", "full"]

_SHARDS = 8
_CHUNKS = 4
_PIECE_BYTES = 16 * 2**20
# Shards that one task compares, where all are.
_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Check:
    """Files of one array that one task compares.

    Attributes
    ----------
    array
        Number of the array.
    units
        Numbers of the files.
    mode
        How much of each.
    """

    array: int
    units: tuple[int, ...]
    mode: Mode


@dataclass(frozen=True, slots=True)
class Checked:
    """What was compared.

    Attributes
    ----------
    units
        Files of the target.
    chunks
        Encoded chunks whose bytes were compared.
    nbytes
        Decoded bytes that were compared.
    """

    units: int = 0
    chunks: int = 0
    nbytes: int = 0


def checks(jobs: Sequence[ArrayJob], mode: Mode, *, seed: int = 0) -> Iterator[Check]:
    """Yield what is to be compared, for each to be one task."""
    for job in jobs:
        count = len(job.units()) if job.plan.passes else 0
        if mode == "full" or count <= _SHARDS:
            chosen = list(range(count))
        else:
            # The first and the last, and some between: edges are where mistakes are.
            drawn = np.random.default_rng([seed, job.number]).choice(count, _SHARDS, replace=False)
            chosen = sorted({0, count - 1, *drawn.tolist()})
        for start in range(0, len(chosen), _TOGETHER):
            yield Check(job.number, tuple(chosen[start : start + _TOGETHER]), mode)


class Verify:
    """Compares files of the target with the source: encoded bytes of a repack, and pixels.

    Parameters
    ----------
    jobs
        The arrays, by number.
    """

    def __init__(self, jobs: Sequence[ArrayJob]) -> None:
        self.jobs = tuple(jobs)

    def __call__(self, check: Check) -> Checked:
        """Compare some files.

        Raises
        ------
        VerificationError
            Something differs; the message names array and shard.
        """
        job = self.jobs[check.array]
        chunks = nbytes = 0
        with limited(1):
            pixels = _Pixels(job)
            encoded = _Encoded(job) if job.plan.route == "repack" else None
            for number in check.units:
                if encoded is not None:
                    chunks += encoded.compare(number)
                nbytes += pixels.compare(number, check.mode)
        return Checked(len(check.units), chunks, nbytes)


class _Encoded:
    """Encoded chunks of a repack, here and there."""

    def __init__(self, job: ArrayJob) -> None:
        self._job = job
        self._before = Repack(job)
        # The target read as if it were to be repacked into itself: the same chunks, in its shards.
        self._after = Repack(job.of_target())

    def compare(self, number: int) -> int:
        units = self._job.units()
        unit = units.place(number)
        count = 0
        left = dict(_checksums(self._after, number))
        for position, checksum in _checksums(self._before, number):
            count += 1
            if left.pop(position, None) != checksum:
                raise _differs(
                    self._job, unit, f"the encoded chunk at place {position} has other bytes"
                )
        if left:
            raise _differs(self._job, unit, f"it has {len(left)} chunks that the source lacks")
        return count


def _checksums(repack: Repack, number: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the position, the size and the crc32c of each encoded chunk of a shard."""
    from google_crc32c import extend

    at, size, checksum = MORE, 0, 0
    for positions, parts in repack.batches(number):
        for position, part in zip(positions, parts, strict=True):
            if position != MORE:
                if at != MORE:
                    yield at, (size, checksum)
                at, size, checksum = position, 0, 0
            size += len(part)
            checksum = int(extend(checksum, np.frombuffer(part, np.uint8)))
    if at != MORE:
        yield at, (size, checksum)


class _Pixels:
    """Decoded pixels, here and there."""

    def __init__(self, job: ArrayJob) -> None:
        self._job = job
        self._before = ArrayReader(job.source, job.meta)
        self._after = ArrayReader(job.sink.source(), job.target)

    def compare(self, number: int, mode: Mode) -> int:
        units = self._job.units()
        unit = units.place(number)
        nbytes = 0
        for bounds in self._pieces(units.bounds(unit), number, mode):
            box = [slice(start, stop) for start, stop in bounds]
            before, after = self._before.read(box), self._after.read(box)
            if not _same(before, after):
                raise _differs(self._job, unit, f"pixels {_shown(bounds)} have other values")
            nbytes += before.nbytes
        return nbytes

    def _pieces(
        self, bounds: Sequence[tuple[int, int]], number: int, mode: Mode
    ) -> Iterator[tuple[tuple[int, int], ...]]:
        """Yield boxes of a file: all of it in parts, or some of its inner chunks."""
        spec = self._job.plan.spec
        inner = Boxes(shape=spec.shape, box=spec.inner)
        touched = inner.touching(bounds)
        if mode == "full":
            boxes = Boxes(shape=spec.shape, box=_slab(spec.inner, spec.unit, spec.itemsize))
            places = itertools.product(*boxes.touching(bounds))
            yield from (boxes.bounds(place) for place in places)
            return
        count = math.prod(len(along) for along in touched)
        drawn = np.random.default_rng([number]).integers(0, count, _CHUNKS)
        for flat in sorted({0, count - 1, *drawn.tolist()}):
            inside = np.unravel_index(flat, [len(along) for along in touched])
            yield inner.bounds([along[int(i)] for along, i in zip(touched, inside, strict=True)])


def _slab(inner: Sequence[int], unit: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Return a part of a file, of whole inner chunks, that is not too large to hold."""
    slab = list(inner)
    for axis in reversed(range(len(slab))):
        rest = math.prod(n for i, n in enumerate(slab) if i != axis) * itemsize
        per_unit = unit[axis] // inner[axis]
        fitting = [
            n
            for n in range(1, per_unit + 1)
            if per_unit % n == 0 and rest * n * inner[axis] <= _PIECE_BYTES
        ]
        slab[axis] = max(fitting, default=1) * inner[axis]
    return tuple(slab)


def _same(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Whether two arrays are equal to the last bit, NaNs among it."""
    if one.shape != other.shape:
        return False
    if one.dtype.hasobject or one.dtype.kind == "T" or one.dtype != other.dtype:
        return bool(one.tolist() == other.tolist())
    # Compared where they lie: tobytes() would copy both.
    return bool(
        np.array_equal(
            np.ascontiguousarray(one).reshape(-1).view(np.uint8),
            np.ascontiguousarray(other).reshape(-1).view(np.uint8),
        )
    )


def _shown(bounds: Sequence[tuple[int, int]]) -> str:
    return "[" + ", ".join(f"{start}:{stop}" for start, stop in bounds) + "]"


def _differs(job: ArrayJob, unit: Sequence[int], what: str) -> VerificationError:
    return VerificationError(
        f"array {job.meta.path or '/'!r}, shard {job.key(unit)!r} of {job.sink.url}: {what} "
        f"than in {job.source.url}. The source changed while it was read, or one of "
        "both is damaged: run again with resume=False."
    )
