"""Arrays and coordinates as lazy xarray variables."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
from xarray import Variable
from xarray.backends.common import BackendArray
from xarray.core import indexing

from hfzarr.model.array import ArrayMeta
from hfzarr.model.coords import AxisCoord, CoordSpec, PlaneCoord
from hfzarr.run.pool import for_each, for_each_waiting
from hfzarr.run.read import ArrayReader
from hfzarr.store.source import Source
from hfzarr.store.wrapped import ZarrSource

__all__ = ["StackedArray", "StoredArray", "chunk_encoding", "coord_variable", "stored_variable"]


_Coroutine = Callable[[tuple[Any, ...]], Awaitable[Any]]


class StoredArray(BackendArray):
    """An array of a store, read when it is indexed.

    Parameters
    ----------
    reader
        Reads its chunks.
    """

    __slots__ = ("dtype", "reader", "shape")

    def __init__(self, reader: ArrayReader) -> None:
        self.reader = reader
        self.shape = reader.meta.shape
        self.dtype = _xarray_dtype(reader.meta)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        method = self._points if isinstance(key, indexing.VectorizedIndexer) else self._outer
        return self._native(
            indexing.explicit_indexing_adapter(
                key, self.shape, indexing.IndexingSupport.VECTORIZED, method
            )
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Like indexing, without blocking the event loop."""
        vectorized = isinstance(key, indexing.VectorizedIndexer)
        method: _Coroutine = self._points_async if vectorized else self._outer_async
        source = self.reader.source
        if isinstance(source, ZarrSource) and source.held:
            # The caller's store may be bound to the caller's event loop: zarr-python awaits it
            # there, where our own requests would go to zarr's.
            method = _zarr_method(source, self.reader.meta, key) or method
        return self._native(
            await indexing.async_explicit_indexing_adapter(
                key, self.shape, indexing.IndexingSupport.VECTORIZED, method
            )
        )

    def _native(self, value: Any) -> Any:
        # A scalar out of a string array would lose the dtype that the variable promised.
        if self.dtype.kind == "T" and isinstance(value, str):
            return np.asarray(value, dtype=self.dtype)
        return value

    def _outer(self, key: tuple[Any, ...]) -> Any:
        selection, squeeze = _kept_dims(key)
        return squeeze(self.reader.read(selection))

    def _points(self, key: tuple[Any, ...]) -> Any:
        return self.reader.read_points(key)

    async def _outer_async(self, key: tuple[Any, ...]) -> Any:
        selection, squeeze = _kept_dims(key)
        return squeeze(await self.reader.read_async(selection))

    async def _points_async(self, key: tuple[Any, ...]) -> Any:
        return await self.reader.read_points_async(key)


def _zarr_method(
    source: ZarrSource, meta: ArrayMeta, key: indexing.ExplicitIndexer
) -> _Coroutine | None:
    """Return zarr-python's coroutine for a kind of indexing, or None if it is too old for it."""
    from hfzarr.store.bridge import open_async_array

    array = open_async_array(source, meta)
    if isinstance(key, indexing.BasicIndexer):
        return array.getitem
    view = getattr(
        array, "vindex" if isinstance(key, indexing.VectorizedIndexer) else "oindex", None
    )
    method: _Coroutine | None = getattr(view, "getitem", None)
    return method


def _xarray_dtype(meta: ArrayMeta) -> np.dtype[Any]:
    if meta.dtype.kind == "O" and "vlen-utf8" in json.dumps(
        [meta.doc.get("codecs"), meta.doc.get("filters")]
    ):
        # How xarray marks object arrays that hold only strings.
        return np.dtype("O", metadata={"element_type": str})
    return meta.dtype


def _kept_dims(key: tuple[Any, ...]) -> tuple[tuple[Any, ...], Callable[[Any], Any]]:
    """Return the key with integers as slices of one, and what drops those dims again."""
    dropped = tuple(i for i, part in enumerate(key) if isinstance(part, (int, np.integer)))
    selection = tuple(
        slice(int(part), int(part) + 1 or None) if i in dropped else part
        for i, part in enumerate(key)
    )
    if not dropped:
        return selection, lambda value: value
    return selection, lambda value: value.reshape(
        [n for i, n in enumerate(value.shape) if i not in dropped]
    )


class StackedArray(BackendArray):
    """Many arrays of one shape, stacked along leading dims; absent ones read as a fill value.

    Parameters
    ----------
    grid
        The arrays, in an object array over the leading dims; None where there is none.
    shape
        Shape of each.
    dtype
        Their dtype.
    fill
        What absent ones read as.
    """

    __slots__ = ("dtype", "fill", "grid", "shape")

    def __init__(self, grid: Any, shape: tuple[int, ...], dtype: np.dtype[Any], fill: Any) -> None:
        self.grid = grid
        self.shape = (*grid.shape, *shape)
        self.dtype = dtype
        self.fill = 0 if fill is None else fill

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        if not isinstance(key, indexing.VectorizedIndexer):
            shape = _result_shape(key.tuple, self.shape)
            if 0 in shape:
                # xarray cannot turn an empty slice that goes backwards.
                return np.empty(shape, self.dtype)
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._outer
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Like indexing, without blocking the event loop."""
        return await asyncio.to_thread(self.__getitem__, key)

    def _outer(self, key: tuple[Any, ...]) -> Any:
        lead = self.grid.ndim
        chosen = [
            np.atleast_1d(np.arange(n)[part]) for n, part in zip(self.grid.shape, key, strict=False)
        ]
        selection, _ = _kept_dims(key[lead:])
        shape = tuple(
            len(range(n)[part]) if isinstance(part, slice) else len(part)
            for n, part in zip(self.shape[lead:], selection, strict=True)
        )
        out = np.full([len(some) for some in chosen] + list(shape), self.fill, dtype=self.dtype)

        def read(place: tuple[int, ...]) -> None:
            reader = self.grid[tuple(some[i] for some, i in zip(chosen, place, strict=True))]
            if reader is not None:
                out[place] = reader.read(selection)

        places, count = np.ndindex(*out.shape[:lead]), math.prod(out.shape[:lead])
        if not out.size:
            pass
        elif any(getattr(self.grid[place], "waits", False) for place in itertools.product(*chosen)):
            for_each_waiting(read, places)
        else:
            for_each(read, places, width=count)
        dropped = [i for i, part in enumerate(key) if isinstance(part, (int, np.integer))]
        return out.reshape([n for i, n in enumerate(out.shape) if i not in dropped])


def _result_shape(key: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an outer selection; integers drop their axes."""
    return tuple(
        len(range(n)[part]) if isinstance(part, slice) else len(part)
        for n, part in zip(shape, key, strict=True)
        if not isinstance(part, (int, np.integer))
    )


class PlaneArray(BackendArray):
    """A 2-D coordinate of a rotated plane, computed when it is indexed.

    Parameters
    ----------
    spec
        The coordinate.
    """

    __slots__ = ("dtype", "shape", "spec")

    def __init__(self, spec: PlaneCoord) -> None:
        self.spec = spec
        self.shape = spec.shape
        self.dtype = np.dtype(np.float64)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, lambda k: self.spec.values(*k)
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Like indexing: there is nothing to wait for."""
        return self[key]


def coord_variable(spec: CoordSpec, attrs: Mapping[str, Any] | None = None) -> Variable:
    """Return a coordinate as a variable; a 2-D one stays lazy."""
    extra = dict(attrs or {})
    if spec.units is not None:
        extra.setdefault("units", spec.units)
    if isinstance(spec, AxisCoord):
        return Variable(spec.dims, spec.values(), extra, fastpath=True)
    return Variable(spec.dims, indexing.LazilyIndexedArray(PlaneArray(spec)), extra)


def chunk_encoding(meta: ArrayMeta, dims: Sequence[str]) -> dict[str, Any]:
    """Return the entries of ``encoding`` that chunk by chunk reading and writing go by."""
    if meta.inner_chunk is None:
        return {}
    # A chunk of length 0 cannot be asked for, and a zero-length axis has no use for one.
    inner = tuple(max(n, 1) for n in meta.inner_chunk)
    return {
        "chunks": inner,
        "preferred_chunks": dict(zip(dims, inner, strict=True)),
        "shards": meta.shard,
    }


def stored_variable(
    source: Source, meta: ArrayMeta, dims: Sequence[str], attrs: Mapping[str, Any]
) -> Variable:
    """Return an array as a lazy variable."""
    data = indexing.LazilyIndexedArray(StoredArray(ArrayReader(source, meta)))
    variable = Variable(tuple(dims), data, dict(attrs), fastpath=True)
    variable.encoding = chunk_encoding(meta, dims)
    return variable
