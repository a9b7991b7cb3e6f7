"""The tasks of a patch plan as a dask graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hfzarr.plan.reads import Read, tasks
from hfzarr.run.tasks import PatchJob, Region, cut_of

if TYPE_CHECKING:
    import dask.array as da

    from hfzarr.plan.reads import Box

__all__ = ["patch_arrays"]


def patch_arrays(job: PatchJob, name: str, chunked: Mapping[int, da.Array]) -> list[da.Array]:
    """Return the patches of each array, lazily: shape ``(windows, *patch)``, a chunk to a group.

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

    graphs: list[dict[Any, Any]] = [{} for _ in job.regions]
    groups: list[int] = []
    for task in tasks(job.plan):
        number, graph = task.array, graphs[task.array]
        source = f"{name}-{number}-source"
        if isinstance(task, Read):
            graph[f"{name}-{number}-read", task.number] = (_read, source, list(task.boxes))
            continue
        if number == 0:
            groups.append(task.group.stop - task.group.first)
        if number in chunked:
            parts: Any = [[(chunked[number].name, *block) for block in task.blocks]]
        elif task.reads:
            parts = [(f"{name}-{number}-read", read) for read in task.reads]
        else:
            parts = [(_whole, source)] if task.blocks else []
        size = job.plan.arrays[number].tracks
        key = (f"{name}-{number}", task.group.number, *[0] * len(size))
        graph[key] = (cut_of(job, task), parts)
    results = []
    for number, graph in enumerate(graphs):
        if number not in chunked:
            graph[f"{name}-{number}-source"] = job.regions[number]
        dependencies: Any = [chunked[number]] if number in chunked else []
        layers = HighLevelGraph.from_collections(f"{name}-{number}", graph, dependencies)
        shape = [track.size for track in job.plan.arrays[number].tracks]
        chunks = (tuple(groups), *[(n,) for n in shape])
        meta = np.empty((0,) * len(chunks), job.dtypes[number])
        make: Any = da.Array  # without type hints
        results.append(make(layers, f"{name}-{number}", chunks=chunks, meta=meta))
    return results


def _read(region: Region, boxes: Sequence[Sequence[Sequence[int]]]) -> Any:
    return region.read_boxes([_box(box) for box in boxes])


def _box(box: Sequence[Sequence[int]]) -> Box:
    return tuple((start, stop) for start, stop in box)


def _whole(region: Region) -> Any:
    return region.read_boxes([()])
