"""What was written, compared with what it was made from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hfzarr.errors import VerificationError
from hfzarr.plan.boxes import Boxes, choose_common_box
from hfzarr.run.array_job import ArrayJob
from hfzarr.run.pool import limited
from hfzarr.run.read import ArrayReader
from hfzarr.run.repack import Repack
from hfzarr.run.shard_file import MORE

__all__ = ["Check", "Checked", "Verify", "checks"]

#: ``"sample"``: some shards of each array, some chunks of each. ``"full"``: everything.
Mode = Literal["sample", "full"]
Bounds = tuple[tuple[int, int], ...]

_SHARDS = 8
_CHUNKS = 4
_PIECE_BYTES = 16 * 2**20
# Shards that one task compares, where all are.
_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Check:
    """Parts of one array that one task compares.

    Attributes
    ----------
    array
        Number of the array.
    units
        Numbers of its files, or of boxes.
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
        Files of the target, or boxes.
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
        count = len(_parts(job, mode)) if job.plan.passes else 0
        if mode == "full" or count <= _SHARDS:
            chosen = list(range(count))
        else:
            # The first and the last, and some between: edges are where mistakes are.
            drawn = np.random.default_rng([seed, job.number]).choice(count, _SHARDS, replace=False)
            chosen = sorted({0, count - 1, *drawn.tolist()})
        for start in range(0, len(chosen), _TOGETHER):
            yield Check(job.number, tuple(chosen[start : start + _TOGETHER]), mode)


def _parts(job: ArrayJob, mode: Mode) -> Boxes:
    """Return what an array is compared by: its files, or boxes that both sides read well."""
    if mode == "sample" or job.plan.route == "repack":
        return job.units()
    return Boxes(shape=job.plan.spec.shape, box=_common_box(job))


def _common_box(job: ArrayJob) -> tuple[int, ...]:
    """Return a box of which neither side must decode much more than is in it."""
    spec = job.plan.spec
    elements = max(job.plan.peak_bytes // (3 * spec.itemsize), 1)
    return choose_common_box(
        spec.shape,
        spec.chunk,
        spec.inner,
        spec.unit,
        elements=elements,
        comfortable=_PIECE_BYTES // spec.itemsize,
    )


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
            parts = _parts(job, check.mode)
            for number in check.units:
                with job.naming(parts.bounds(parts.place(number))):
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
                raise _differs(self._job, unit, f"the encoded chunk at place {position} differs")
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
        parts = _parts(self._job, mode)
        bounds = parts.bounds(parts.place(number))
        pieces = self._drawn(bounds, number) if mode == "sample" else self._all(bounds)
        return sum(self._compare(piece) for piece in pieces)

    def _compare(self, bounds: Bounds) -> int:
        box = [slice(start, stop) for start, stop in bounds]
        before, after = self._before.read(box), self._after.read(box)
        index = _first_difference(before, after)
        if index is not None:
            pixel = tuple(start + i for (start, _), i in zip(bounds, index, strict=True))
            unit = [i // n for i, n in zip(pixel, self._job.plan.spec.unit, strict=True)]
            raise _differs(self._job, unit, f"pixel {pixel} of box {_shown(bounds)} differs")
        return before.nbytes

    def _all(self, bounds: Bounds) -> Iterator[Bounds]:
        """Yield a box in parts that are not too large to hold."""
        boxes = Boxes(shape=self._job.plan.spec.shape, box=_common_box(self._job))
        for place in itertools.product(*boxes.touching(bounds)):
            inside = zip(boxes.bounds(place), bounds, strict=True)
            yield tuple((max(a, c), min(b, d)) for (a, b), (c, d) in inside)

    def _drawn(self, bounds: Bounds, number: int) -> Iterator[Bounds]:
        """Yield some boxes of a file, each within one chunk of the source and one of the target."""
        spec = self._job.plan.spec
        rng = np.random.default_rng([number])
        low, high = np.array(bounds).reshape(-1, 2).T
        pixels = [low, high - 1, *rng.integers(low, high, (_CHUNKS, len(bounds)))]
        cells = {
            tuple(
                (max(i // a * a, i // b * b, start), min(i // a * a + a, i // b * b + b, stop))
                for i, a, b, (start, stop) in zip(
                    pixel.tolist(), spec.chunk, spec.inner, bounds, strict=True
                )
            )
            for pixel in pixels
        }
        yield from sorted(cells)


def _first_difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[int, ...] | None:
    """Return where two arrays first differ in a bit, NaNs among it; None if nowhere."""
    if one.dtype != other.dtype:
        return (0,) * one.ndim
    if one.dtype.hasobject or one.dtype.kind == "T":
        flat = zip(one.reshape(-1).tolist(), other.reshape(-1).tolist(), strict=True)
        first = next((i for i, (a, b) in enumerate(flat) if a != b), None)
    else:
        # Compared where they lie: tobytes() would copy both.
        here, there = (
            np.ascontiguousarray(side).reshape(-1).view(np.uint8) for side in (one, other)
        )
        if np.array_equal(here, there):
            return None
        first = int((here != there).argmax()) // one.dtype.itemsize
    return None if first is None else tuple(int(i) for i in np.unravel_index(first, one.shape))


def _shown(bounds: Sequence[tuple[int, int]]) -> str:
    return "[" + ", ".join(f"{start}:{stop}" for start, stop in bounds) + "]"


def _differs(job: ArrayJob, unit: Sequence[int], what: str) -> VerificationError:
    return VerificationError(
        f"array {job.meta.path or '/'!r}, shard {job.key(unit)!r} of {job.sink.url}: {what}, "
        f"compared with {job.source.url}. The source changed while it was read, or one of both is "
        "damaged: begin anew with resume=False, or, where the target is complete, delete it first."
    )
