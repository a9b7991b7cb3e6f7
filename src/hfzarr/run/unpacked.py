"""zarr-python's array over chunks whose known codecs are undone here, within bounds."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import zarr
from zarr.abc.store import ByteRequest
from zarr.core.array import AsyncArray
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import StorePath

from hfzarr.model.array import ArrayMeta
from hfzarr.model.codecs import ByteCodec, outer_codecs, without_outer
from hfzarr.model.limits import get_limits
from hfzarr.run.decode import undo_codecs
from hfzarr.store.bridge import SourceStore, array_metadata, as_range, open_zarr_array
from hfzarr.store.source import Source

__all__ = ["open_unpacked"]


def open_unpacked(source: Source, meta: ArrayMeta) -> zarr.Array[Any]:
    """Return zarr-python's array for one that has codecs, or data types, nobody here knows.

    The codecs around those that are known are undone before: zarr-python decodes a chunk to
    whatever size its bytes ask for.
    """
    outer = outer_codecs(meta)
    if not outer:
        return open_zarr_array(source, meta)
    store = _Unpacked(source, outer, _most(meta))
    metadata: Any = array_metadata(without_outer(meta, len(outer)).doc)
    return zarr.Array(AsyncArray(metadata=metadata, store_path=StorePath(store, meta.path)))


def _most(meta: ArrayMeta) -> int:
    """Return how many bytes the inner codecs of a chunk may have made of it."""
    most = get_limits().max_chunk
    if meta.inner_chunk is None or meta.dtype.hasobject or meta.dtype.kind == "T":
        return most
    return min(most, 4 * math.prod(meta.inner_chunk) * meta.dtype.itemsize + 2**20)


class _Unpacked(SourceStore):
    """Chunks without their outer codecs."""

    def __init__(self, source: Source, codecs: tuple[ByteCodec, ...], most: int) -> None:
        super().__init__(source)
        self._codecs = codecs
        self._most = most

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        data = await self.source.get_async(key)
        if data is None:
            return None
        unpacked = await asyncio.to_thread(undo_codecs, self._codecs, data, self._most)
        wanted = as_range(byte_range)
        part = memoryview(unpacked) if wanted is None else memoryview(unpacked)[slice(*wanted)]
        return prototype.buffer.from_bytes(bytes(part))
