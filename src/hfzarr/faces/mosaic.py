"""The dask graph that stitches patches: one task for each block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.plan.axis import IntArray
from hfzarr.plan.stitch import Mosaic
from hfzarr.run.blend import Block, Recipe, assemble

__all__ = ["mosaic_array"]


def mosaic_array(array: Any, mosaic: Mosaic, recipe: Recipe) -> Any:
    """Return the blocks as a dask array; each task takes the chunks that overlap its block.

    Parameters
    ----------
    array
        The patches as a dask array. Its chunks are the parts of the mosaic along the patches'
        axis, and hold whole windows.
    mosaic
        The blocks and the windows.
    recipe
        How a block is made.
    """
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    chunks = [*array.chunks[: recipe.patch_axis], *array.chunks[recipe.patch_axis + 1 :]]
    for axis, lengths in zip(recipe.axes, mosaic.blocks, strict=True):
        chunks[axis] = lengths
    origins = mosaic.windows.origins
    token = tokenize(
        array.name, origins, mosaic.blocks, recipe.blend, recipe.axes, recipe.patch_axis,
        recipe.fill,
    )  # fmt: skip
    name = f"stitch-{token}"
    graph: dict[Any, Any] = {
        (f"{name}-starts", part): _small(origins[begin:end])
        for part, (begin, end) in enumerate(mosaic.bounds)
    }
    graph.update(_tasks(name, array.name, chunks, mosaic, recipe))
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[array])
    meta = np.empty((0,) * len(chunks), dtype=recipe.dtype)
    stitched: Any = da.Array(layers, name, tuple(chunks), meta=meta)  # type: ignore[no-untyped-call]
    return stitched


def _small(starts: IntArray) -> npt.NDArray[Any]:
    fits = not starts.size or np.abs(starts).max() < 2**31
    return starts.astype(np.int32 if fits else np.int64)


def _tasks(
    name: str, source: str, chunks: list[tuple[int, ...]], mosaic: Mosaic, recipe: Recipe
) -> Iterator[tuple[Any, Any]]:
    feeds, edges = mosaic.feeds(), [marks.tolist() for marks in mosaic.edges]
    for place in np.ndindex(*map(len, chunks)):
        along = tuple(place[axis] for axis in recipe.axes)
        parts = feeds.get(along, [])
        block = Block(
            recipe=recipe,
            corner=tuple(marks[i] for marks, i in zip(edges, along, strict=True)),
            shape=tuple(lengths[i] for lengths, i in zip(chunks, place, strict=True)),
        )
        # Windows are whole in the source: along their axes, its chunks have the number 0.
        whole = [0 if axis in recipe.axes else i for axis, i in enumerate(place)]
        head, tail = whole[: recipe.patch_axis], whole[recipe.patch_axis :]
        keys = [(source, *head, part, *tail) for part in parts]
        starts = [(f"{name}-starts", part) for part in parts]
        yield (name, *place), (assemble, block, keys, starts)
