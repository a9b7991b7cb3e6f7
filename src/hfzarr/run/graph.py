"""The tasks of a patch plan as a dask graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hfzarr.plan.tasks import tasks
from hfzarr.run.share import SharedBlocks
from hfzarr.run.tasks import Cut, PatchJob, cut_of, shared_blocks

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["patch_arrays"]


def patch_arrays(job: PatchJob, name: str, chunked: Mapping[int, da.Array]) -> list[da.Array]:
    """Return the patches of each array, lazily: shape ``(windows, *patch)``, a chunk to a group.

    Tasks of one process share what they decode; see `hfzarr.run.share`. That is not told by edges
    of the graph, as dask would then decode far ahead of what it cuts, and hold it all.

    Parameters
    ----------
    job
        What to do.
    name
        What the keys of the graph begin with; the same name must mean the same job.
    chunked
        Those of the arrays that are dask arrays, by number.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    sources = shared_blocks(job)
    graphs: list[dict[Any, Any]] = [{} for _ in sources]
    groups: list[int] = []
    for task in tasks(job.plan):
        number = task.array
        key = (f"{name}-{number}", task.group.number, *[0] * len(task.cuts))
        cut = cut_of(job, task)
        if number in chunked:
            blocks = [(chunked[number].name, *block) for block in task.blocks]
            graphs[number][key] = (_cut_out, cut, blocks)
        else:
            graphs[number][key] = (cut, f"{name}-{number}-source")
        if number == 0:
            groups.append(cut.count)
    results = []
    for number, (graph, source) in enumerate(zip(graphs, sources, strict=True)):
        if isinstance(source, SharedBlocks):
            source.tasks = len(groups)
        if number not in chunked:
            graph[f"{name}-{number}-source"] = source
        dependencies: Any = [chunked[number]] if number in chunked else []
        layers = HighLevelGraph.from_collections(f"{name}-{number}", graph, dependencies)
        shape = [track.size for track in job.plan.arrays[number].tracks]
        chunks = (tuple(groups) or (0,), *[(n,) for n in shape])
        meta = np.empty((0,) * len(chunks), job.dtypes[number])
        make: Any = da.Array  # without type hints
        results.append(make(layers, f"{name}-{number}", chunks=chunks, meta=meta))
    return results


def _cut_out(cut: Cut, blocks: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return cut.out_of(blocks)
