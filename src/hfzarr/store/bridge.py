"""The two ways to zarr-python: its data types, and a `Source` seen as a zarr store.

Imported only where zarr-python is needed, as that import costs more than most opens.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.array import AsyncArray
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata
from zarr.storage import MemoryStore, StorePath

from hfzarr.errors import UnsupportedError
from hfzarr.model.array import V3_FIELDS, ArrayMeta
from hfzarr.model.report import shorten
from hfzarr.model.rewrite import TypeDoc
from hfzarr.store.source import ByteRange, Source
from hfzarr.store.wrapped import ZarrSource

__all__ = [
    "SourceStore",
    "array_metadata",
    "as_range",
    "codec_encoding",
    "encode_unit",
    "open_async_array",
    "open_zarr_array",
    "resolve_types",
    "uneven_chunks",
    "v3_types",
]


def resolve_types(doc: Mapping[str, Any]) -> tuple[np.dtype[Any], Any]:
    """Return the in-memory dtype and the fill value that zarr-python gives an array.

    Raises
    ------
    UnsupportedError
        zarr-python does not know a codec, data type or extension in it.
    """
    metadata = array_metadata(doc)
    dtype = metadata.dtype
    return np.dtype(dtype.to_native_dtype()), metadata.fill_value


def array_metadata(doc: Mapping[str, Any]) -> ArrayV2Metadata | ArrayV3Metadata:
    """Return zarr-python's own metadata object for a document."""
    kind: type[ArrayV2Metadata] | type[ArrayV3Metadata] = ArrayV2Metadata
    if doc.get("zarr_format") == 3:
        # Extensions that need not be understood were let through before; not all of zarr-python
        # takes them.
        kind = ArrayV3Metadata
        doc = {key: value for key, value in doc.items() if key in V3_FIELDS}
    with warnings.catch_warnings():
        # Data types without a final specification: the user asked to read, not to write them.
        warnings.simplefilter("ignore")
        try:
            return kind.from_dict({"attributes": {}, **doc})
        except Exception as error:
            raise UnsupportedError(
                f"zarr-python {zarr.__version__} cannot read it "
                f"({type(error).__name__}: {shorten(str(error), 300)}). Install the package that "
                "brings its codec or data type, or leave the array out with drop_variables=."
            ) from error


def open_zarr_array(source: Source, meta: ArrayMeta) -> zarr.Array[Any]:
    """Return a zarr-python array that reads through ``source``, without a request."""
    return zarr.Array(open_async_array(source, meta))


def open_async_array(source: Source, meta: ArrayMeta) -> AsyncArray[Any]:
    """Return zarr-python's asynchronous array over ``source``, without a request."""
    store = source.store if isinstance(source, ZarrSource) else SourceStore(source)
    metadata = array_metadata(meta.doc)
    return _async_array(metadata, StorePath(store, meta.path))


def _async_array(metadata: Any, store_path: StorePath) -> AsyncArray[Any]:
    return AsyncArray(metadata=metadata, store_path=store_path)


def encode_unit(
    meta: ArrayMeta,
    index: tuple[int, ...],
    bounds: Sequence[tuple[int, int]],
    values: npt.NDArray[Any],
) -> bytes | None:
    """Return one file of an array as zarr-python writes it; None if it holds only the fill value.

    Parameters
    ----------
    meta
        The array.
    index
        Which file: its place in the grid of files.
    bounds
        The pixels that it holds: start and stop along each axis, within the array.
    values
        Those pixels.
    """
    store = MemoryStore()
    array: Any = zarr.Array(_async_array(array_metadata(meta.doc), StorePath(store, "")))
    array[tuple(slice(start, stop) for start, stop in bounds)] = values
    data = store._store_dict.get(meta.chunk_key(index))
    return None if data is None else data.to_bytes()


class SourceStore(Store):
    """A `Source` as a read-only zarr store.

    Parameters
    ----------
    source
        Where the bytes lie.
    """

    supports_writes = False
    supports_deletes = False
    supports_partial_writes = False
    supports_listing = True

    def __init__(self, source: Source) -> None:
        super().__init__(read_only=True)
        self.source = source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SourceStore) and self.source == other.source

    def __repr__(self) -> str:
        return f"SourceStore({self.source.url!r})"

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the object at ``key``, or a part of it."""
        data = await self.source.get_async(key, as_range(byte_range))
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return parts of many objects."""
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is an object at ``key``."""
        return await self.source.get_async(key, (0, 1)) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: the store is read-only."""
        self._check_writable()

    async def set_partial_values(self, key_start_values: Iterable[tuple[str, int, Any]]) -> None:
        """Refuse: the store is read-only. The method is abstract in zarr-python until 3.1.2."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse: the store is read-only."""
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield all keys below ``prefix``."""
        base = prefix.strip("/")
        for name in self.source.list_dir(base):
            key = f"{base}/{name}" if base else name
            children = self.source.list_dir(key)
            if not children:
                yield key
            async for child in self.list_prefix(key) if children else _nothing():
                yield child

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names under ``prefix``."""
        for name in self.source.list_dir(prefix.strip("/")):
            yield name


async def _nothing() -> AsyncIterator[str]:
    return
    yield


def as_range(request: ByteRequest | None) -> ByteRange:
    """Return what zarr-python asks for of an object, as a `Source` takes it."""
    if isinstance(request, RangeByteRequest):
        return request.start, request.end
    if isinstance(request, OffsetByteRequest):
        return request.offset, None
    if isinstance(request, SuffixByteRequest):
        return -request.suffix, None
    return None


def codec_encoding(meta: ArrayMeta) -> dict[str, Any]:
    """Return the codecs of an array as xarray's zarr engine keeps them in ``encoding``."""
    doc = {key: value for key, value in meta.doc.items() if key not in _INDIVIDUAL}
    doc["shape"] = [1] * meta.ndim
    if meta.zarr_format == 2:
        doc["fill_value"] = None
    return dict(_codecs_of(json.dumps(doc, sort_keys=True)))


# What differs from array to array though the codecs are the same.
_INDIVIDUAL = frozenset(["attributes", "dimension_names", "shape", "consolidated_metadata"])


@functools.lru_cache(maxsize=256)
def _codecs_of(doc: str) -> dict[str, Any]:
    metadata = array_metadata(json.loads(doc))
    array = zarr.Array(_async_array(metadata, StorePath(MemoryStore(), "")))
    codecs = {"compressors": array.compressors, "filters": array.filters}
    # Zarr v2 has no serializer: the order of bytes is part of the data type.
    return codecs if metadata.zarr_format == 2 else {**codecs, "serializer": array.serializer}


def uneven_chunks(source: Source, meta: ArrayMeta) -> tuple[tuple[Any, ...], Any]:
    """Return the inner chunks and the shards of an array whose grid is not regular.

    A dimension that is cut evenly has one number, another has all of them; shards are None where
    there are none.
    """
    array = open_zarr_array(source, meta)
    # zarr-python has had such grids since 3.2; their sizes have names of their own there.
    try:
        chunks: tuple[Any, ...] = tuple(array.chunks)
    except NotImplementedError:
        chunks = _compact(getattr(array, "read_chunk_sizes"))  # noqa: B009
    try:
        shards: Any = array.shards
    except NotImplementedError:
        shards = _compact(getattr(array, "write_chunk_sizes"))  # noqa: B009
    return chunks, shards


def _compact(sizes: tuple[tuple[int, ...], ...]) -> tuple[Any, ...]:
    return tuple(
        along[0]
        if along and set(along[:-1]) <= {along[0]} and along[-1] <= along[0]
        # A dimension of length 0 has no chunks; xarray and dask want one, of length 0.
        else tuple(along) or (0,)
        for along in sizes
    )


def v3_types(meta: ArrayMeta) -> TypeDoc:
    """Return the data type and the fill value of an array as a v3 document has them.

    A v2 array without a fill value gets what zarr-python reads where chunks are absent.

    Raises
    ------
    UnsupportedError
        zarr-python has no v3 data type for what the array holds.
    """
    if meta.zarr_format == 3:
        return TypeDoc(data_type=meta.doc["data_type"], fill_value=meta.doc["fill_value"])
    with warnings.catch_warnings():
        # Data types without a final specification: those of the array are what they are.
        warnings.simplefilter("ignore")
        try:
            # The fill value is known already, and not all that is read is what zarr-python takes.
            dtype = array_metadata({**meta.doc, "fill_value": None}).dtype
            value = dtype.default_scalar() if meta.fill_value is None else meta.fill_value
            scalar = dtype.to_json_scalar(value, zarr_format=3)
            # As a document that is read has them: zarr-python has tuples among its lists.
            data_type, fill = json.loads(json.dumps([dtype.to_json(zarr_format=3), scalar]))
            return TypeDoc(data_type=data_type, fill_value=fill)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise UnsupportedError(
                f"array {meta.path or '/'!r}: zarr-python {zarr.__version__} has no Zarr v3 data "
                f"type for {meta.doc['dtype']!r} with the fill value {meta.fill_value!r} "
                f"({shorten(str(error), 200)}). Leave the array out."
            ) from error
