"""The two volumes that patches are cut from, written once as sharded zstd arrays.

``fibsem``: a real FIB-SEM volume of 250³ uint8 pixels, mirrored until it is as large as wanted;
a made one stands in where it is not at hand. ``uint16``: made, with a camera's noise on a smooth
ground, so that it compresses about as well as a micrograph.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

VARIABLE = "a"
DIMS = ("z", "y", "x")
CHUNK = (64, 64, 64)
SHARD = (128, 512, 512)
LEVEL = 1  # of zstd

FULL = {"fibsem": (1000, 1000, 1000), "uint16": (512, 1024, 1024)}
SMALL = {"fibsem": (384, 500, 500), "uint16": (256, 512, 512)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume on disk: a Zarr group with one array in it."""

    name: str
    path: Path
    shape: tuple[int, ...]
    dtype: str
    origin: str
    """Where the pixels come from."""
    stored: int
    """Bytes of all files."""

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        size = "×".join(map(str, self.shape))
        return (
            f"{self.name}: {size} {self.dtype}, {self.nbytes / 2**20:.0f} MiB in "
            f"{self.stored / 2**20:.0f} MiB, {self.origin}"
        )


def real_planes() -> list[Path]:
    """Return the images of the real volume, in order; none when they cannot be had or read."""
    if importlib.util.find_spec("PIL") is None:
        return []
    named = os.environ.get("HFZARR_REALDATA")
    beside = Path(__file__).resolve().parents[3] / "shared" / "realdata"
    folder = (Path(named) if named else beside) / "volumes/fib25_training2/grayscale_maps"
    return sorted(folder.glob("*.png"))


def mirrored(length: int, tile: int) -> np.ndarray:
    """Return where each pixel of a mirrored axis comes from: up, down, up, …"""
    place = np.arange(length) % (2 * tile)
    return np.minimum(place, 2 * tile - 1 - place)


def fibsem_slabs(shape: tuple[int, ...], planes: list[Path]) -> Iterator[np.ndarray]:
    """Yield slabs of one shard's height of the real volume."""
    from PIL import Image

    tile = np.stack([np.asarray(Image.open(path)) for path in planes])
    z, y, x = (mirrored(n, m) for n, m in zip(shape, tile.shape, strict=True))
    for start in range(0, shape[0], SHARD[0]):
        yield tile[np.ix_(z[start : start + SHARD[0]], y, x)]


def made_slabs(shape: tuple[int, ...], *, dtype: str, noise: float) -> Iterator[np.ndarray]:
    """Yield slabs of one shard's height of a smooth image with noise."""
    rng = np.random.default_rng(0)
    plane = shape[1] * shape[2]
    top = np.iinfo(dtype).max
    for start in range(0, shape[0], SHARD[0]):
        count = min(SHARD[0], shape[0] - start)
        pixels = np.arange(start * plane, (start + count) * plane, dtype=np.float32)
        ground = min(400, top / 2) * (1 + 0.5 * np.sin(pixels / 3000))
        ground += noise * rng.standard_normal(len(pixels), dtype=np.float32)
        yield np.clip(ground, 0, top).astype(dtype).reshape(count, *shape[1:])


def write(
    path: Path,
    slabs: Iterator[np.ndarray],
    *,
    shape: tuple[int, ...],
    dtype: str,
    chunk: tuple[int, ...] = CHUNK,
    shard: tuple[int, ...] = SHARD,
) -> None:
    """Write slabs with zarr-python; an interrupted write leaves nothing at ``path``."""
    unfinished = path.with_name(path.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    options: dict[str, Any] = {"chunks": chunk, "shards": shard}
    group = zarr.create_group(str(unfinished), zarr_format=3)
    array = group.create_array(
        VARIABLE,
        shape=shape,
        dtype=dtype,
        compressors=ZstdCodec(level=LEVEL),
        dimension_names=DIMS,
        **options,
    )
    start = 0
    for slab in slabs:
        array[start : start + len(slab)] = slab
        start += len(slab)
    unfinished.rename(path)


def prepare(folder: Path, name: str, shape: tuple[int, ...]) -> Volume:
    """Write a volume into the folder, unless it is there already."""
    planes = real_planes() if name == "fibsem" else []
    dtype = "uint8" if name == "fibsem" else "uint16"
    origin = "a real one, mirrored" if planes else "made"
    if name == "fibsem" and not planes:
        origin = "MADE in place of the real one, which is not at hand or wants Pillow"
    kind = "real" if planes else "made"
    path = folder / f"{name}-{kind}-{'x'.join(map(str, shape))}.zarr"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        slabs = (
            fibsem_slabs(shape, planes)
            if planes
            else made_slabs(shape, dtype=dtype, noise=6 if dtype == "uint16" else 4)
        )
        write(path, slabs, shape=shape, dtype=dtype)
    return Volume(
        name=name, path=path, shape=shape, dtype=dtype, origin=origin, stored=warm_cache(path)
    )


def warm_cache(path: Path) -> int:
    """Read every file once, so that it lies in the page cache, and return their bytes."""
    total = 0
    buffer = bytearray(1 << 22)
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb", buffering=0) as handle:
                while count := handle.readinto(buffer):
                    total += count
    return total
