"""A selection of an array becomes an `ndarray`: each chunk fetched once and decoded once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import HfzarrError, LimitError, ReadError
from hfzarr.model.array import ArrayMeta
from hfzarr.model.codecs import CodecChain, fast_chain
from hfzarr.model.report import shorten
from hfzarr.plan.axis import AxisRun, Indexer, normalize
from hfzarr.plan.grid import ChunksPlan, plan_grid, plan_points
from hfzarr.plan.tasks import Box
from hfzarr.run.job import IndexCache, Job, Plan, Rows, Target, advance
from hfzarr.run.pool import for_each
from hfzarr.store.source import Source

if TYPE_CHECKING:
    import zarr

__all__ = ["ArrayReader"]


class ArrayReader:
    """Reads selections of one array.

    Chunks whose codecs `fast_chain` knows are decoded here, on threads; zarr-python reads the
    others. A reader holds no handle. It may be used from many threads at once, and pickles to
    its two parameters. It keeps the indexes of the shards that it read last, so it must not
    outlive a change of the array.

    Parameters
    ----------
    source
        The store.
    meta
        The array in it.

    Examples
    --------
    >>> from hfzarr.model.array import parse_array
    >>> from hfzarr.store.folder import FolderSource
    >>> doc = {"shape": [5], "chunks": [2], "dtype": "<i2", "fill_value": 7, "order": "C",
    ...        "compressor": None, "filters": None, "zarr_format": 2}
    >>> meta = parse_array("a", doc, {}, resolve=None)
    >>> ArrayReader(FolderSource("/no/chunk/here"), meta).read((slice(None, None, 2),))
    array([7, 7, 7], dtype=int16)
    """

    def __init__(self, source: Source, meta: ArrayMeta) -> None:
        self.source = source
        self.meta = meta
        self._chain = fast_chain(meta)
        self._indexes = IndexCache()
        self._zarr: zarr.Array[Any] | None = None

    def __reduce__(self) -> tuple[type[ArrayReader], tuple[Source, ArrayMeta]]:
        return ArrayReader, (self.source, self.meta)

    def __repr__(self) -> str:
        route = "zarr-python" if self._chain is None else "fast"
        return f"ArrayReader({self.source.url!r}, {self.meta.path!r}, route={route!r})"

    @property
    def is_fast(self) -> bool:
        """Whether chunks are decoded here, not by zarr-python."""
        return self._chain is not None

    def read(self, selection: Sequence[Indexer] = ()) -> npt.NDArray[Any]:
        """Read an orthogonal selection.

        Parameters
        ----------
        selection
            For each axis a slice with any step, a 1-D integer array (unsorted and repeated
            values too) or an integer, which drops the axis. Axes without one are read whole.

        Returns
        -------
        numpy.ndarray
            A new array of the dtype ``meta.dtype``.

        Raises
        ------
        IndexError
            The selection does not fit the array.
        ReadError
            A chunk could not be fetched or decoded.
        """
        if self._chain is None:
            return self._read_with_zarr(selection)
        return self._whole(
            self._chain, plan_grid(self.meta.shape, self._chain.inner_chunk, selection)
        )

    def read_into(self, selection: Sequence[slice], out: npt.NDArray[Any]) -> None:
        """Read a box of pixels into an array of its shape and of the dtype ``meta.dtype``.

        Raises
        ------
        IndexError
            The selection does not fit the array.
        ReadError
            A chunk could not be fetched or decoded.
        """
        if self._chain is None:
            out[...] = self._read_with_zarr(selection)
            return
        plan = plan_grid(self.meta.shape, self._chain.inner_chunk, selection)
        if out.size:
            self._run(self._chain, plan, out)

    def read_points(self, indexers: Sequence[npt.ArrayLike]) -> npt.NDArray[Any]:
        """Read single elements.

        Parameters
        ----------
        indexers
            Integer arrays, one for each axis, that broadcast together.

        Returns
        -------
        numpy.ndarray
            A new array of the shape that the indexers broadcast to.

        Raises
        ------
        IndexError
            There are not as many indexers as axes, or an element lies outside.
        ReadError
            A chunk could not be fetched or decoded.
        """
        if not self.meta.shape and not indexers:
            return self.read()
        if self._chain is None:
            return self._points_with_zarr(indexers)
        return self._whole(
            self._chain, plan_points(self.meta.shape, self._chain.inner_chunk, indexers)
        )

    def read_boxes(self, boxes: Sequence[Box]) -> list[npt.NDArray[Any]]:
        """Read several boxes of pixels, all requests under way at once where each is of one chunk.

        Parameters
        ----------
        boxes
            A start and a stop for each axis, no box empty.

        Returns
        -------
        list of numpy.ndarray
            The pixels of each box.

        Raises
        ------
        ReadError
            A chunk could not be fetched or decoded.
        """
        chain = self._chain
        chunks = None if chain is None or len(boxes) < 2 else _single_chunks(boxes, chain)
        if chain is None or chunks is None:
            return [self.read([slice(start, stop) for start, stop in box]) for box in boxes]
        plan = ChunksPlan.of(chain.inner_chunk, chunks)
        # One array to a chunk: views of a common one would keep each other in memory.
        rows = [np.empty(plan.chunk, self.meta.dtype) for _ in chunks]
        self._run(chain, plan, Rows(rows))
        return [
            row[
                tuple(slice(a % n, a % n + b - a) for (a, b), n in zip(box, row.shape, strict=True))
            ]
            for row, box in zip(rows, boxes, strict=True)
        ]

    async def read_async(self, selection: Sequence[Indexer] = ()) -> npt.NDArray[Any]:
        """Like `read`, without blocking the event loop."""
        chain = self._chain
        if chain is None or self.source.local:
            return await asyncio.to_thread(self.read, selection)
        return await self._run_async(
            chain, plan_grid(self.meta.shape, chain.inner_chunk, selection)
        )

    async def read_points_async(self, indexers: Sequence[npt.ArrayLike]) -> npt.NDArray[Any]:
        """Like `read_points`, without blocking the event loop."""
        chain = self._chain
        if chain is None or self.source.local or not self.meta.shape:
            return await asyncio.to_thread(self.read_points, indexers)
        return await self._run_async(
            chain, plan_points(self.meta.shape, chain.inner_chunk, indexers)
        )

    def _whole(self, chain: CodecChain, plan: Plan) -> npt.NDArray[Any]:
        out = self._room(plan)
        if out.size:
            self._run(chain, plan, out)
        return out.reshape(plan.result_shape)

    def _room(self, plan: Plan) -> npt.NDArray[Any]:
        try:
            return np.empty(plan.shape, self.meta.dtype)
        # ValueError is what NumPy raises for more than 2**63 bytes.
        except (MemoryError, ValueError) as error:
            nbytes = math.prod(plan.shape) * self.meta.dtype.itemsize
            raise LimitError(
                f"array {self.meta.path or '/'!r} in {self.source.url}: a selection of shape "
                f"{plan.shape} takes {nbytes:,} bytes, which is more memory than there is. Select "
                "less at once, or open it with chunks={}."
            ) from error

    def _run(self, chain: CodecChain, plan: Plan, out: Target) -> None:
        job = Job(self.source, self.meta, chain, self._indexes, plan, out)
        if self.source.local:
            for_each(job.fetch_and_take, job.local_fetches(plan), width=job.width)
            return
        steps = job.steps(plan)
        requests = advance(steps, None)
        while requests is not None:
            requests = advance(steps, self.source.get_many(requests))

    async def _run_async(self, chain: CodecChain, plan: Plan) -> npt.NDArray[Any]:
        out = self._room(plan)
        job = Job(self.source, self.meta, chain, self._indexes, plan, out)
        steps, get = job.steps(plan), self.source.get_async
        requests = await asyncio.to_thread(advance, steps, None) if out.size else None
        while requests is not None:
            replies = await asyncio.gather(*[get(key, part) for key, part in requests])
            requests = await asyncio.to_thread(advance, steps, replies)
        return out.reshape(plan.result_shape)

    def _read_with_zarr(self, selection: Sequence[Indexer]) -> npt.NDArray[Any]:
        meta = self.meta
        # An empty plan over one chunk checks the selection, and knows the result's shape.
        plan = plan_grid(meta.shape, [max(n, 1) for n in meta.shape], selection)
        if not math.prod(plan.shape):
            return np.empty(plan.result_shape, meta.dtype)
        places = [normalize(i, n) for i, n in zip(selection, meta.shape, strict=False)]
        # zarr-python takes positive steps only.
        plain = tuple(p.ascending if isinstance(p, AxisRun) else p for p in places)
        steps = [-1 if isinstance(p, AxisRun) and p.backwards else 1 for p in places]
        turned: tuple[Any, ...] = (*[slice(None, None, step) for step in steps], ...)
        array = self._zarr_array()
        with _translated(self.source, meta):
            result: npt.NDArray[Any] = np.asarray(
                # oindex of zarr 3.1.0 puts a text without axes into an array of arrays.
                array.oindex[plain] if plain else array[...]
            )
        result = result.reshape(plan.shape)[turned].reshape(plan.result_shape)
        return result.astype(meta.dtype, copy=False)

    def _points_with_zarr(self, indexers: Sequence[npt.ArrayLike]) -> npt.NDArray[Any]:
        meta = self.meta
        plan = plan_points(meta.shape, [max(n, 1) for n in meta.shape], indexers)
        if not math.prod(plan.shape):
            return np.empty(plan.result_shape, meta.dtype)
        array = self._zarr_array()
        arrays = np.broadcast_arrays(*[np.asarray(indexer) for indexer in indexers])
        with _translated(self.source, meta):
            result = np.asarray(array.vindex[tuple(arrays)])
        return result.reshape(plan.result_shape).astype(meta.dtype, copy=False)

    def _zarr_array(self) -> zarr.Array[Any]:
        if self._zarr is None:
            from hfzarr.run.unpacked import open_unpacked

            self._zarr = open_unpacked(self.source, self.meta)
        return self._zarr


def _single_chunks(boxes: Sequence[Box], chain: CodecChain) -> list[tuple[int, ...]] | None:
    """Return the chunk that each box lies in, or None if a box lies in several."""
    chunks = []
    for box in boxes:
        sides = list(zip(box, chain.inner_chunk, strict=True))
        if any(start // n != (stop - 1) // n for (start, stop), n in sides):
            return None
        chunks.append(tuple(start // n for (start, _), n in sides))
    return chunks


@contextmanager
def _translated(source: Source, meta: ArrayMeta) -> Iterator[None]:
    """Turn what zarr-python raises into a `ReadError` that names the array."""
    try:
        yield
    except HfzarrError:
        raise
    except MemoryError as error:
        raise LimitError(
            f"array {meta.path or '/'!r} in {source.url}: zarr-python wants more memory than there "
            f"is ({shorten(str(error))}). A chunk may be damaged, or the selection too large."
        ) from error
    except Exception as error:
        raise ReadError(
            f"array {meta.path or '/'!r} in {source.url}: zarr-python could not read it "
            f"({type(error).__name__}: {error}). A chunk may be damaged or cut short."
        ) from error
