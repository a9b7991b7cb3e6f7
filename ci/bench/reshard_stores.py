"""What is resharded to what: the jobs, the stores that they start from, and what must come out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

VARIABLE, DIMS, DTYPE = "a", ("z", "y", "x"), "<u2"
WINDOW = 16  # pixels along each axis of what is compared
SIZES = ("full", "small", "tiny")
Shape = tuple[int, ...]
Window = tuple[slice, ...]


class WrongResultError(Exception):
    """A way wrote other pixels, or another layout, than was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How chunks are encoded: blosc (lz4, bytes shuffled) or zstd."""

    name: str
    level: int

    @property
    def in_memory(self) -> Any:
        """The codec as numcodecs has it, which is also how zarr-python writes Zarr v2."""
        if self.name == "zstd":
            return numcodecs.Zstd(level=self.level)
        return numcodecs.Blosc(cname="lz4", clevel=self.level, shuffle=numcodecs.Blosc.SHUFFLE)

    @property
    def of_v3(self) -> Any:
        """The codec as zarr-python wants it for Zarr v3."""
        if self.name == "zstd":
            return ZstdCodec(level=self.level)
        return BloscCodec(cname="lz4", clevel=self.level, shuffle="shuffle", typesize=2)

    @property
    def document(self) -> dict[str, Any]:
        """The codec as a v3 document has it."""
        found: dict[str, Any] = self.of_v3.to_dict()
        return found

    @property
    def spelled(self) -> str:
        """The codec as hfzarr's ``codecs=`` has it."""
        return f"zstd:{self.level}" if self.name == "zstd" else f"blosc:lz4:{self.level}"


LZ4, ZSTD = Codec(name="blosc", level=5), Codec(name="zstd", level=3)  # zarr-python's defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A store of one array, with a file for each chunk."""

    name: str
    zarr_format: int
    shape: Shape
    chunk: Shape
    codec: Codec

    @property
    def files(self) -> int:
        """Chunk files."""
        return math.prod(-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))

    def __str__(self) -> str:
        return (
            f"{self.name}: {' × '.join(map(str, self.shape))} uint16, "
            f"{math.prod(self.shape) * 2 / 2**20:.0f} MiB, Zarr v{self.zarr_format}, "
            f"{self.codec.spelled}, {self.files} files of {self.chunk}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A source, and the sharded Zarr v3 array that it is to become."""

    kind: str
    """``repack``: inner chunks and codec are kept. ``transcode``: they change, within shards.
    ``rechunk``: source chunks may lie in several shards."""
    source: Source
    shard: Shape
    inner: Shape
    codec: Codec
    max_memory: str = "512MiB"
    """What hfzarr may use; rechunker gets as much where this is said for a rechunk."""

    @property
    def shards(self) -> int:
        """Shard files."""
        return len(self.windows)

    @property
    def windows(self) -> list[Window]:
        """The part of the array that each shard holds, in the order of C."""
        counts = [-(-n // s) for n, s in zip(self.source.shape, self.shard, strict=True)]
        return [self.window(place) for place in np.ndindex(*counts)]

    def window(self, place: Shape) -> Window:
        """Return the part of the array that one shard holds."""
        axes = zip(place, self.shard, self.source.shape, strict=True)
        return tuple(slice(i * s, min(i * s + s, n)) for i, s, n in axes)

    def at(self, size: str) -> Job:
        """Return the job at another size: ``small``, an eighth; ``tiny``, to see that it runs."""
        if size == "full":
            return self
        down = 2 if size == "small" else 16
        job = replace(self, source=replace(self.source, shape=_part(self.source.shape, down)))
        if size == "small":
            return job
        source = replace(job.source, chunk=_part(job.source.chunk, 8))
        return replace(job, source=source, shard=_part(job.shard, 8), inner=_part(job.inner, 8))

    def __str__(self) -> str:
        return (
            f"{self.source} → {self.shards} shards of {self.shard}, inner chunks of {self.inner}, "
            f"{self.codec.spelled}"
        )


def _part(sizes: Shape, down: int) -> Shape:
    return tuple(-(-n // down) for n in sizes)


_A = Source(name="A", zarr_format=2, shape=(128, 2048, 2048), chunk=(1, 256, 256), codec=LZ4)
_B = Source(name="B", zarr_format=3, shape=(512, 1024, 1024), chunk=(64, 64, 64), codec=ZSTD)
_C = replace(_A, name="C", chunk=(3, 320, 320))
_SHARD_A, _SHARD_B = (64, 512, 512), (128, 256, 512)
_CUBE, _TILE = (64, 64, 64), (64, 128, 128)
_REACH = "256MiB"

JOBS = {
    "repack-a": Job(kind="repack", source=_A, shard=_SHARD_A, inner=_A.chunk, codec=LZ4),
    "repack-b": Job(kind="repack", source=_B, shard=_SHARD_B, inner=_B.chunk, codec=ZSTD),
    "transcode-a": Job(kind="transcode", source=_A, shard=_SHARD_A, inner=_TILE, codec=ZSTD),
    "transcode-b": Job(kind="transcode", source=_B, shard=_SHARD_B, inner=_TILE, codec=ZSTD),
    "slabs": Job(
        kind="rechunk", source=_A, shard=_SHARD_A, inner=_CUBE, codec=LZ4, max_memory=_REACH
    ),
    "misaligned": Job(
        kind="rechunk", source=_C, shard=_SHARD_A, inner=_CUBE, codec=LZ4, max_memory=_REACH
    ),
}


def slabs(shape: Shape, height: int) -> Iterator[np.ndarray]:
    """Yield a camera's noise on a smooth ground: the same pixels, however high the slabs are."""
    rng = np.random.default_rng(0)
    plane = math.prod(shape[1:])
    for start in range(0, shape[0], height):
        count = min(height, shape[0] - start) * plane
        pixels = np.arange(start * plane, start * plane + count)
        ground = 400 + 200 * np.sin(pixels / 3000)
        ground += 6 * rng.standard_normal(count, dtype=np.float32)
        yield ground.astype(DTYPE).reshape(-1, *shape[1:])


def prepare(folder: Path, source: Source) -> Path:
    """Write a store, unless it is there; an interrupted write leaves nothing at its path."""
    name = f"{source.name}-{'x'.join(map(str, source.shape))}"
    path, unfinished = folder / f"{name}.zarr", folder / f"{name}.unfinished"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    group = zarr.create_group(str(unfinished), zarr_format=source.zarr_format)  # type: ignore[arg-type]
    own: dict[str, Any] = {"compressors": source.codec.of_v3, "dimension_names": DIMS}
    if source.zarr_format == 2:
        dims = {"_ARRAY_DIMENSIONS": list(DIMS)}
        own = {"compressors": source.codec.in_memory, "attributes": dims}
    array = group.create_array(
        VARIABLE, shape=source.shape, chunks=source.chunk, dtype=DTYPE, fill_value=0, **own
    )
    start = 0
    for slab in slabs(source.shape, source.chunk[0] * -(-16 // source.chunk[0])):
        array[start : start + len(slab)] = slab
        start += len(slab)
    unfinished.rename(path)
    return path


def samples(job: Job) -> list[Window]:
    """Return a window drawn in every shard, and one where shards meet."""
    rng = np.random.default_rng(1)
    found = []
    for window in job.windows:
        starts = [
            int(rng.integers(part.start, max(part.start, part.stop - WINDOW) + 1))
            for part in window
        ]
        found.append(tuple(slice(i, i + WINDOW) for i in starts))
    corner = [max(0, s - WINDOW // 2) for s in job.shard]
    return [*found, tuple(slice(i, i + WINDOW) for i in corner)]


def check(job: Job, source: Path, target: Path, *, layout: str) -> None:
    """Compare sampled windows of source and target, and the target's layout with that asked for.

    The layout is ``sharded``, the source's own (``copy``), or ``chunks`` of a shard's size.
    """
    before = zarr.open_array(str(source), path=VARIABLE, mode="r")
    after = zarr.open_array(str(target), path=VARIABLE, mode="r")
    if (after.shape, after.dtype) != (before.shape, before.dtype):
        raise WrongResultError(f"{target} has {after.shape}, {after.dtype}, of {job}")
    for window in samples(job):
        if not np.array_equal(np.asarray(before[window]), np.asarray(after[window])):
            raise WrongResultError(f"{target} has other pixels at {window}, of {job}")
    wanted = {
        "sharded": (job.shards, job.shard, job.inner),
        "copy": (job.source.files, None, job.source.chunk),
        "chunks": (job.shards, None, job.shard),
    }[layout]
    found = (pixel_files(target), after.shards, after.chunks)
    if found != wanted:
        raise WrongResultError(f"{target} has (files, shards, chunks) {found}, wanted {wanted}")
    if layout == "sharded":
        _check_codec(job, json.loads((target / VARIABLE / "zarr.json").read_text("utf-8")))


def _check_codec(job: Job, document: dict[str, Any]) -> None:
    """Refuse a target that is encoded otherwise: it would be quicker or slower for that."""
    found = document["codecs"][0]["configuration"]["codecs"]
    wanted = job.codec.document
    if [codec["name"] for codec in found] == ["bytes", wanted["name"]]:
        # A key that is left out has its default, which is what is wanted.
        told = {**wanted["configuration"], **found[1]["configuration"]}
        if told == wanted["configuration"]:
            return
    raise WrongResultError(f"wanted {wanted}, got {found}")


def pixel_files(path: Path) -> int:
    """Count the files that are no metadata."""
    metadata = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
    return sum(file.is_file() and file.name not in metadata for file in path.rglob("*"))
