"""Stores to reshard, written small and odd by zarr-python, and options to reshard them with."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from hypothesis import strategies as st

from hfzarr.plan.routes import ArraySpec
from hfzarr.plan.shards import covering

# Each by its kind: what differs is how it is laid out, compared and filled.
FIXED = ("?", "i1", "u1", "<i2", ">u2", "<u4", ">i8", "<f2", ">f4", "<f8", "<c8", ">c16")
TIMES = ("<M8[s]", "<m8[ms]")
TEXTS = ("<U3", "S3")
RECORDS = "record"
STRINGS = "string"


def record_dtype(order: str = "<") -> np.dtype:
    return np.dtype([("a", f"{order}i4"), ("b", "u1"), ("c", f"{order}f4")])


def sample(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return an array in which neighbours differ, with NaN, -0.0 and NaT where there are such."""
    count = math.prod(shape)
    numbers = np.arange(1, count + 1)
    if dtype == STRINGS:
        texts = np.array([f"é{n}" * (n % 4) for n in numbers], dtype=object)
        return texts.reshape(shape)
    if dtype == RECORDS:
        flat = np.zeros(count, record_dtype())
        flat["a"], flat["b"], flat["c"] = numbers, numbers % 256, numbers / 3
        return flat.reshape(shape)
    kind = np.dtype(dtype).kind
    if kind == "b":
        return (numbers % 3 == 0).reshape(shape)
    if kind in "US":
        return numbers.astype(dtype).reshape(shape)
    flat = (numbers % 120).astype(dtype)
    if kind in "fc":
        flat[1::7], flat[2::5] = np.nan, -0.0
    if kind in "Mm":
        flat[1::7] = "NaT"
    return flat.reshape(shape)


def bits(array: np.ndarray) -> list:
    """Return values such that they are equal only where every bit is, whatever the byte order."""
    if array.dtype.kind in "OTU":
        # A string without axes comes as one of fixed length.
        return [str(one) for one in array.reshape(-1)]
    flat = np.ascontiguousarray(array.astype(native(array.dtype))).reshape(-1)
    return [one.tobytes() for one in flat]


def native(dtype: np.dtype) -> np.dtype:
    """Return a data type without its byte order, which v3 keeps among the codecs."""
    return dtype if dtype.kind in "OT" else dtype.newbyteorder("=")


@dataclass
class Layout:
    """How a source is written. Chunks without `written` are left to the fill value."""

    shape: tuple[int, ...]
    dtype: str
    chunk: tuple[int, ...]
    shard: tuple[int, ...] | None = None
    index_location: str = "end"
    zarr_format: int = 3
    order: str = "C"
    separator: str = "/"
    compressor: str = "zstd"
    fill: Any = 0
    written: list[bool] = field(default_factory=list)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple("tzyxw"[: self.ndim])

    def write(self, folder: Path, name: str = "") -> np.ndarray:
        """Write it, and return what is in it as zarr-python sees it."""
        with warnings.catch_warnings():
            # Records and fixed-length texts have no specification in v3 yet.
            warnings.simplefilter("ignore")
            array = zarr.create_array(folder, name=name or None, **self._options())
            values = sample(self.shape, self.dtype)
            for number, place in enumerate(np.ndindex(*self._blocks())):
                if not self.written or self.written[number % len(self.written)]:
                    where = tuple(
                        slice(i * n, (i + 1) * n) for i, n in zip(place, self.block, strict=True)
                    )
                    array[where] = values[where]
            return np.asarray(array[...])

    @property
    def block(self) -> tuple[int, ...]:
        return self.shard or self.chunk

    def _blocks(self) -> tuple[int, ...]:
        return tuple(-(-n // c) for n, c in zip(self.shape, self.block, strict=True))

    def _options(self) -> dict[str, Any]:
        dtype: Any = {STRINGS: str, RECORDS: record_dtype()}.get(self.dtype, self.dtype)
        made: dict[str, Any] = {
            "shape": self.shape,
            "dtype": dtype,
            "chunks": self.chunk,
            "fill_value": self.fill,
            "zarr_format": self.zarr_format,
            "attributes": {"units": "µm", "nested": {"n": [1, 2.5, None]}},
            "config": {"write_empty_chunks": True},
            **self._codecs(),
        }
        if self.zarr_format == 3:
            made["dimension_names"] = self.dims
            made["chunk_key_encoding"] = {"name": "default", "separator": self.separator}
        else:
            made["order"] = self.order
            made["attributes"]["_ARRAY_DIMENSIONS"] = list(self.dims)
            made["chunk_key_encoding"] = {"name": "v2", "separator": self.separator}
        return made

    def _codecs(self) -> dict[str, Any]:
        if self.zarr_format == 2:
            from numcodecs import GZip, Zstd

            return {
                "compressors": {"zstd": Zstd(1), "gzip": GZip(1), "none": None}[self.compressor]
            }
        from zarr.codecs import BytesCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

        bytes_codecs = {"zstd": [ZstdCodec(level=1)], "gzip": [GzipCodec(level=1)], "none": []}
        made: dict[str, Any] = {"compressors": bytes_codecs[self.compressor]}
        if self.order == "F" and self.ndim > 1:
            made["filters"] = [TransposeCodec(order=tuple(reversed(range(self.ndim))))]
        if self.dtype not in (STRINGS, RECORDS) and np.dtype(self.dtype).byteorder == ">":
            made["serializer"] = BytesCodec(endian="big")
        if self.shard is None:
            return made
        if self.index_location == "end":
            return {**made, "shards": self.shard}
        inner = [*made.get("filters", []), made.get("serializer"), *made["compressors"]]
        inner = [BytesCodec() if one is None else one for one in inner]
        sharding = ShardingCodec(
            chunk_shape=self.chunk, codecs=inner, index_location=self.index_location
        )
        return {"chunks": self.shard, "serializer": sharding, "compressors": None, "filters": None}

    @staticmethod
    def zero_of(dtype: str) -> Any:
        """Return a fill value that every zarr-python takes."""
        if dtype == RECORDS:
            return np.zeros((), record_dtype())[()]
        return "" if dtype == STRINGS else np.zeros((), dtype)[()]

    @staticmethod
    def read(folder: Path, name: str = "") -> zarr.Array:
        """Open what lies in a folder, without warnings of what has no specification."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return zarr.open_array(folder, path=name or None, mode="r")


_LENGTHS = st.integers(1, 11)


def fills(dtype: str, zarr_format: int) -> st.SearchStrategy:
    """Return fill values that the data type has."""
    if dtype == STRINGS:
        return st.sampled_from(["", "é"])
    if dtype == RECORDS:
        return st.sampled_from([np.zeros((), record_dtype())[()]])
    kind = np.dtype(dtype).kind
    values: list[Any] = {
        "b": [False, True],
        "i": [0, 7, -1],
        "u": [0, 7],
        "f": [0.0, -0.0, 1.5, math.nan, math.inf],
        "c": [0j, 1.5 - 2j],
        "M": [np.datetime64("NaT", "s"), np.datetime64(0, "s")],
        "m": [np.timedelta64("NaT", "ms"), np.timedelta64(0, "ms")],
        "U": ["", "ab"],
        "S": [b"", b"ab"],
    }[kind]
    return st.sampled_from([*values, *([None] if zarr_format == 2 and kind in "biuf" else [])])


@st.composite
def layouts(
    draw: st.DrawFn,
    *,
    dtypes: tuple[str, ...] = (*FIXED, *TIMES, *TEXTS, RECORDS, STRINGS),
    most: int = 3,
    empty: bool = True,
) -> Layout:
    """Draw a small source of any kind."""
    ndim = draw(st.integers(0, most))
    dtype = draw(st.sampled_from(dtypes))
    shape = tuple(draw(st.integers(0 if empty else 1, 11)) for _ in range(ndim))
    # Longer than the array, too.
    chunk = tuple(draw(st.integers(1, 13)) for _ in range(ndim))
    zarr_format = draw(st.sampled_from([2, 3, 3]))
    layout = Layout(
        shape=shape,
        dtype=dtype,
        chunk=chunk,
        zarr_format=zarr_format,
        order=draw(st.sampled_from("CF")) if dtype != STRINGS else "C",
        separator=draw(st.sampled_from("/.")),
        compressor=draw(st.sampled_from(["zstd", "gzip", "none"])),
        fill=draw(fills(dtype, zarr_format)),
        written=draw(st.lists(st.booleans(), max_size=5)),
    )
    # zarr-python 3.1 has no shards of records.
    if zarr_format == 3 and ndim and dtype != RECORDS and draw(st.booleans()):
        layout.shard = tuple(n * draw(st.integers(1, 3)) for n in chunk)
        layout.index_location = draw(st.sampled_from(["end", "start"]))
        if dtype == STRINGS:
            layout.index_location = "end"
    return layout


@st.composite
def lengths(draw: st.DrawFn, layout: Layout) -> dict[str, int]:
    """Draw lengths for some of a layout's dimensions."""
    dims = draw(st.lists(st.sampled_from(layout.dims), unique=True)) if layout.ndim else []
    return {dim: draw(st.sampled_from([-1, 1, 2, 3, 5, 8, 20])) for dim in dims}


@st.composite
def grids(draw: st.DrawFn, *, most: int = 3, longest: int = 40, empty: bool = False) -> dict:
    """Draw shape, chunk, inner chunk and unit of an array, as a plan sees them."""
    ndim = draw(st.integers(1, most))
    sides = st.integers(0 if empty else 1, longest)
    shape = tuple(draw(sides) for _ in range(ndim))
    chunk = tuple(draw(st.integers(1, longest + 5)) for _ in range(ndim))
    inner = tuple(draw(st.integers(1, 12)) for _ in range(ndim))
    return {"shape": shape, "chunk": chunk, "inner": inner, "unit": _units(draw, shape, inner)}


def _units(draw: st.DrawFn, shape: tuple[int, ...], inner: tuple[int, ...]) -> tuple[int, ...]:
    """Draw a file of whole inner chunks, no longer than the array needs."""
    whole = covering(shape, inner)
    return tuple(min(n * draw(st.integers(1, 8)), m) for n, m in zip(inner, whole, strict=True))


@st.composite
def specs(draw: st.DrawFn, *, empty: bool = True) -> ArraySpec:
    """Draw what an array is and what it is to become."""
    grid = draw(grids(empty=empty))
    keeps = draw(st.booleans())
    if keeps and draw(st.booleans()):
        grid["inner"] = grid["chunk"]
        grid["unit"] = _units(draw, grid["shape"], grid["inner"])
    dtype = draw(st.sampled_from(["uint8", "uint16", "float64"]))
    per_file = [draw(st.integers(1, 3)) for _ in grid["chunk"]]
    return ArraySpec(
        path=draw(st.sampled_from(["", "a", "g/b"])),
        dtype=dtype,
        itemsize=np.dtype(dtype).itemsize,
        file=tuple(n * m for n, m in zip(grid["chunk"], per_file, strict=True)),
        sharded=grid["inner"] != grid["unit"],
        keeps_bytes=keeps,
        whole_units=draw(st.booleans()),
        **grid,
    )


# --- what lies in a store, told without the library that is tested -------------------------------


def present(folder: Path, name: str = "") -> dict[tuple[int, ...], bytes]:
    """Return the encoded bytes of every inner chunk that a v3 array holds, by its index."""
    root = folder / name
    doc = json.loads((root / "zarr.json").read_text())
    shape, block = doc["shape"], doc["chunk_grid"]["configuration"]["chunk_shape"]
    separator = doc["chunk_key_encoding"]["configuration"]["separator"]
    sharding = next((c for c in doc["codecs"] if c["name"] == "sharding_indexed"), None)
    found = {}
    for place in np.ndindex(*(-(-n // size) for n, size in zip(shape, block, strict=True))):
        file = root / separator.join(["c", *map(str, place)])
        if not file.is_file():
            continue
        if sharding is None:
            found[place] = file.read_bytes()
            continue
        per_shard = [
            n // m for n, m in zip(block, sharding["configuration"]["chunk_shape"], strict=True)
        ]
        for within, data in _parts(file.read_bytes(), per_shard, sharding["configuration"]):
            index = tuple(i * n + j for i, n, j in zip(place, per_shard, within, strict=True))
            found[index] = data
    return found


def _parts(data: bytes, per_shard: list[int], config: dict) -> Any:
    """Yield the place and the bytes of each chunk of a shard."""
    nbytes = 16 * math.prod(per_shard)
    at_start = config.get("index_location", "end") == "start"
    raw = data[:nbytes] if at_start else data[-nbytes - 4 : -4]
    index = np.frombuffer(raw, "<u8").reshape(*per_shard, 2)
    for within in np.ndindex(*per_shard):
        offset, size = index[within].tolist()
        if offset != 2**64 - 1:
            yield within, data[offset : offset + size]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
