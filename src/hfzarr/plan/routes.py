"""How one array is rewritten: its route, its passes, and what they read and hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from hfzarr.plan.boxes import Boxes, Shape, amplification, choose_working_box, pieces
from hfzarr.plan.shards import chunk_counts
from hfzarr.plan.stages import choose_stages

__all__ = [
    "ArrayPlan",
    "ArraySpec",
    "Pass",
    "Route",
    "TooLittleMemory",
    "plan_array",
    "repack_buffer",
    "routed",
    "with_route",
]

#: ``"repack"``: encoded chunks are laid end to end, nothing is decoded. ``"transcode"``: chunks are
#: decoded and encoded anew. ``"rechunk"``: the same, through an intermediate on disk.
Route = Literal["repack", "transcode", "rechunk"]

#: A repack holds encoded chunks up to this before it writes them.
REPACK_BUFFER = 8 * 2**20
# Work in steps of this many bytes where nothing asks for more.
_COMFORTABLE = 8 * 2**20
# Reading a chunk this often costs about what an intermediate costs: its bytes once out, once in.
_REREADS_WORTH_IT = 2.0


class TooLittleMemory(ValueError):
    """What must be held at once exceeds the bound; its argument is the bytes needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """What an array is and what it is to become.

    Attributes
    ----------
    path
        Path of the array in its store.
    shape
        Length of each axis, in pixels.
    dtype
        Name of the data type.
    itemsize
        Bytes of an element; an estimate where elements vary in size.
    chunk, file
        Shape of what is encoded as one in the source, and of its files (shards, or chunks again).
    inner, unit
        The same of the target.
    sharded
        Whether the target's files are shards: inner chunks with an index. An inner chunk may be a
        shard too.
    packed
        The same of the source's files.
    keeps_bytes
        Whether encoded chunks can be taken over as they are.
    whole_units
        Whether a file can only be made as a whole, as another library makes it.
    elements_alike
        Whether all elements have one size, so that an intermediate can hold them as they are.
    """

    path: str
    shape: Shape
    dtype: str
    itemsize: int
    chunk: Shape
    file: Shape
    inner: Shape
    unit: Shape
    sharded: bool
    keeps_bytes: bool
    packed: bool = False
    whole_units: bool = False
    elements_alike: bool = True

    @property
    def least(self) -> Shape:
        """Shape of the least that can be written at once."""
        return self.unit if self.whole_units else self.inner

    @property
    def nbytes(self) -> int:
        """Decoded bytes of the array."""
        return math.prod(self.shape) * self.itemsize

    @property
    def files_before(self) -> int:
        """Files that the source has, if none is absent."""
        return math.prod(chunk_counts(self.shape, self.file))

    @property
    def files_after(self) -> int:
        """Files that the target gets, if none is empty."""
        return math.prod(chunk_counts(self.shape, self.unit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over an array: each task reads and writes one box of it.

    Attributes
    ----------
    box
        Pixels that a task makes.
    band
        Pixels that it holds at once.
    tasks
        Number of boxes.
    reads
        How many source chunks are decoded (or, in a later pass, pieces of the intermediate read).
    peak_bytes
        What one task holds at most.
    """

    box: Shape
    band: Shape
    tasks: int
    reads: int
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayPlan:
    """How one array is rewritten.

    Attributes
    ----------
    spec
        What it is and what it is to become.
    route
        How.
    passes
        The passes, in order; all but the last write an intermediate.
    """

    spec: ArraySpec
    route: Route
    passes: tuple[Pass, ...]

    @property
    def path(self) -> str:
        """Path of the array in its store."""
        return self.spec.path

    @property
    def tasks(self) -> int:
        """Tasks of all passes."""
        return sum(one.tasks for one in self.passes)

    @property
    def peak_bytes(self) -> int:
        """What one task holds at most."""
        return max((one.peak_bytes for one in self.passes), default=0)

    @property
    def rereads(self) -> float:
        """How often a source chunk is read, on average; 1 is once each."""
        chunks = math.prod(chunk_counts(self.spec.shape, self.spec.chunk))
        return self.passes[0].reads / chunks if chunks and self.passes else 1.0

    @property
    def scratch_bytes(self) -> int:
        """Bytes of intermediates on disk, at most."""
        between = len(self.passes) - 1
        return self.spec.nbytes * min(between, 2)

    def boxes(self, number: int) -> Boxes:
        """Return the grid of boxes of a pass."""
        return Boxes(shape=self.spec.shape, box=self.passes[number].box)

    def bands(self, number: int) -> Boxes:
        """Return the grid of bands of a pass."""
        return Boxes(shape=self.spec.shape, box=self.passes[number].band)


def plan_array(
    spec: ArraySpec, *, task_bytes: int, spooled: bool = False, fetched: bool = False
) -> ArrayPlan:
    """Choose the route of an array, and its passes.

    Parameters
    ----------
    spec
        What it is and what it is to become.
    task_bytes
        What one task may hold.
    spooled
        Whether a file is held in memory until it is whole, as an object store wants it.
    fetched
        Whether an encoded chunk is held in memory as a whole, as a network brings it.

    Raises
    ------
    TooLittleMemory
        One source chunk, one inner chunk and what is spooled exceed `task_bytes`.

    Examples
    --------
    >>> spec = ArraySpec(path="0", shape=(64, 512), dtype="uint16", itemsize=2, chunk=(1, 512),
    ...                  file=(1, 512), inner=(32, 128), unit=(64, 512), sharded=True,
    ...                  keeps_bytes=False)
    >>> plan = plan_array(spec, task_bytes=2**20)
    >>> plan.route, plan.tasks, plan.rereads
    ('transcode', 1, 1.0)
    """
    if not spec.nbytes:
        return ArrayPlan(spec=spec, route="repack" if spec.keeps_bytes else "transcode", passes=())
    if spec.keeps_bytes and spec.chunk == spec.inner:
        return ArrayPlan(
            spec=spec, route="repack", passes=(_repack(spec, task_bytes, spooled, fetched),)
        )
    fixed, elements = _room(spec, task_bytes, spooled)
    direct = choose_working_box(
        spec.shape,
        spec.chunk,
        spec.least,
        spec.unit,
        elements=elements,
        comfortable=_COMFORTABLE // spec.itemsize,
    )
    again = amplification(spec.shape, spec.chunk, direct.band)
    stages, last = choose_stages(
        spec.shape,
        spec.chunk,
        spec.least,
        spec.unit,
        itemsize=spec.itemsize,
        elements=elements,
    )
    few = again <= _REREADS_WORTH_IT or not _lessens(spec, stages, last.band, again)
    # The first pass holds whole source chunks.
    held = [min(n, length) for n, length in zip(spec.chunk, spec.shape, strict=True)]
    if few or not spec.elements_alike or math.prod(held) > elements:
        decodes = pieces(spec.shape, spec.chunk, direct.band)
        only = _pass(spec, direct.box, direct.band, decodes, fixed)
        return ArrayPlan(spec=spec, route="transcode", passes=(only,))
    boxes = [*stages, last.band]
    reads = [math.prod(chunk_counts(spec.shape, spec.chunk))]
    reads += [pieces(spec.shape, a, b) for a, b in itertools.pairwise(boxes)]
    passes = [_pass(spec, box, box, n, fixed) for box, n in zip(stages, reads, strict=False)]
    passes.append(_pass(spec, last.box, last.band, reads[-1], fixed))
    return ArrayPlan(spec=spec, route="rechunk", passes=tuple(passes))


def _room(spec: ArraySpec, task_bytes: int, spooled: bool) -> tuple[int, int]:
    """Return what a task holds besides its band, in bytes, and the elements of a band."""
    chunk, inner = (math.prod(side) * spec.itemsize for side in (spec.chunk, spec.least))
    # A source chunk as it is stored and as it is decoded; an inner chunk laid out and encoded.
    fixed = 2 * chunk + 2 * inner
    if spooled:
        # As it is put together, and as it is sent.
        fixed += 2 * min(math.prod(spec.unit) * spec.itemsize, spec.nbytes)
    elements = (task_bytes - fixed) // spec.itemsize
    least = min(inner, spec.nbytes)
    if elements * spec.itemsize < least:
        raise TooLittleMemory(fixed + least)
    return fixed, elements


def _lessens(spec: ArraySpec, stages: tuple[Shape, ...], band: Shape, again: float) -> bool:
    """Whether an intermediate means fewer reads than reading chunks ``again`` and again."""
    boxes = [*stages, band]
    parts = sum(pieces(spec.shape, a, b) for a, b in itertools.pairwise(boxes))
    return parts < (again - 1) * math.prod(chunk_counts(spec.shape, spec.chunk))


def _pass(spec: ArraySpec, box: Shape, band: Shape, reads: int, fixed: int) -> Pass:
    sides = [min(n, length) for n, length in zip(band, spec.shape, strict=True)]
    return Pass(
        box=box,
        band=band,
        tasks=math.prod(chunk_counts(spec.shape, box)),
        reads=reads,
        peak_bytes=math.prod(sides) * spec.itemsize + fixed,
    )


def _repack(spec: ArraySpec, task_bytes: int, spooled: bool, fetched: bool) -> Pass:
    held = repack_buffer(spec)
    if fetched:
        held = max(held, math.prod(spec.chunk) * spec.itemsize)
    if spooled:
        held += 2 * min(math.prod(spec.unit) * spec.itemsize, spec.nbytes)
    if held > max(task_bytes, REPACK_BUFFER):
        raise TooLittleMemory(held)
    return Pass(
        box=spec.unit,
        band=spec.unit,
        tasks=spec.files_after,
        reads=math.prod(chunk_counts(spec.shape, spec.chunk)),
        peak_bytes=held,
    )


def repack_buffer(spec: ArraySpec) -> int:
    """Return the encoded bytes that a repack holds before it writes them."""
    unit = min(math.prod(spec.unit) * spec.itemsize, spec.nbytes)
    # Codecs may add to what they cannot compress.
    return min(REPACK_BUFFER, 2 * unit + 2**16)


def routed(plan: ArrayPlan) -> dict[str, Any]:
    """Return the route and the passes of a plan as plain values."""
    return {"route": plan.route, "passes": [asdict(one) for one in plan.passes]}


def with_route(plan: ArrayPlan, found: Mapping[str, Any]) -> ArrayPlan:
    """Return a plan with the route and the passes that `routed` gave of another."""
    passes = tuple(
        Pass(**{**one, "box": tuple(one["box"]), "band": tuple(one["band"])})
        for one in found["passes"]
    )
    return replace(plan, route=found["route"], passes=passes)
