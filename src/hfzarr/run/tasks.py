"""The tasks of a patch plan, carried out: one after the other, or on threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.plan.patches import Group, PatchPlan
from hfzarr.plan.tasks import Box, Gather, tasks
from hfzarr.plan.windows import WindowGrid
from hfzarr.run.gather import Layout, gather_grid, gather_list
from hfzarr.run.pool import workers
from hfzarr.run.share import Region, SharedBlocks

__all__ = ["Cut", "PatchJob", "cut_of", "run_serial", "run_threaded", "shared_blocks"]

AnyArray = npt.NDArray[Any]
#: The patches of one group, an array for each of the plan's.
GroupResult = tuple[Group, list[AnyArray]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchJob:
    """A plan, and the arrays that it is about.

    Attributes
    ----------
    plan
        What to read and to cut.
    regions
        Where each of the plan's arrays is read.
    dtypes
        Data type of each array.
    pads
        What lies outside each array.
    """

    plan: PatchPlan
    regions: tuple[Region, ...]
    dtypes: tuple[np.dtype[Any], ...]
    pads: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """One task: cuts the patches of one group out of one array's blocks.

    Attributes
    ----------
    layout
        The array.
    starts
        Where windows start along each axis.
    counts
        For a grid, windows along each axis of it.
    count
        Number of windows.
    group
        Number of the group.
    tile
        What the blocks are told apart by, besides their places.
    blocks
        The blocks that are needed, by their places in the grid of blocks.
    boxes
        The pixels of each.
    uses
        How many tasks need each.
    """

    layout: Layout
    starts: tuple[npt.NDArray[np.intp], ...]
    counts: tuple[int, ...] | None
    count: int
    group: int
    tile: int
    blocks: tuple[tuple[int, ...], ...]
    boxes: tuple[Box, ...]
    uses: tuple[int, ...]

    def __call__(self, source: Region | SharedBlocks) -> AnyArray:
        """Return the patches, reading what they need: shape ``(windows, *patch)``."""
        if isinstance(source, SharedBlocks):
            keys = [(self.tile, *block) for block in self.blocks]
            itemsize = self.layout.dtype.itemsize
            taken = source.take(keys, self.boxes, self.uses, itemsize=itemsize, task=self.group)
            return self.out_of(taken)
        return self.out_of(source.read_boxes(self.boxes))

    def out_of(self, arrays: Sequence[AnyArray]) -> AnyArray:
        """Return the patches, given the blocks: shape ``(windows, *patch)``."""
        blocks = dict(zip(self.blocks, arrays, strict=True))
        if self.counts is None:
            return gather_list(self.layout, self.starts, self.count, blocks)
        return gather_grid(self.layout, self.starts, self.counts, blocks)


def cut_of(job: PatchJob, task: Gather) -> Cut:
    """Return a task as what carries it out."""
    group = task.group
    grid = isinstance(job.plan.windows, WindowGrid)
    return Cut(
        layout=Layout(
            tracks=job.plan.arrays[task.array].tracks,
            cuts=task.cuts,
            dtype=job.dtypes[task.array],
            pad=job.pads[task.array],
        ),
        starts=job.plan.starts(task.array, group),
        counts=tuple(len(places) for places in group.places) if grid else None,
        count=group.stop - group.first,
        group=group.number,
        tile=group.tile,
        blocks=task.blocks,
        boxes=task.boxes,
        uses=task.uses,
    )


def shared_blocks(job: PatchJob) -> list[Region | SharedBlocks]:
    """Return each array as what tasks read it from: shared, unless it is in memory already."""
    plan = job.plan
    return [
        region if array.held else SharedBlocks(region, limit, plan.block_bytes)
        for region, array, limit in zip(job.regions, plan.arrays, plan.shared_bytes, strict=True)
    ]


def run_serial(job: PatchJob) -> Iterator[GroupResult]:
    """Yield each group's patches, each task by itself: what every other way must equal."""
    results: list[AnyArray] = []
    for task in tasks(job.plan):
        results.append(cut_of(job, task)(job.regions[task.array]))
        if len(results) == len(job.regions):
            yield task.group, results
            results = []


def run_threaded(job: PatchJob, *, ahead: int | None = None) -> Iterator[GroupResult]:
    """Yield each group's patches in order, the next ones under way on threads.

    Parameters
    ----------
    job
        What to do.
    ahead
        Groups that may be under way or wait to be taken; by default one more than there are
        threads.

    Raises
    ------
    ReadError
        A chunk could not be fetched or decoded.
    """
    threads = workers()
    limit = threads + 1 if ahead is None else max(ahead, 1)
    sources = shared_blocks(job)
    waiting: deque[tuple[Group, list[Future[AnyArray]]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="hfzarr-patches") as pool:
        try:
            futures: list[Future[AnyArray]] = []
            for task in tasks(job.plan):
                futures.append(pool.submit(cut_of(job, task), sources[task.array]))
                if len(futures) < len(sources):
                    continue
                waiting.append((task.group, futures))
                futures = []
                if len(waiting) >= limit:
                    yield _result(waiting)
            while waiting:
                yield _result(waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _result(waiting: deque[tuple[Group, list[Future[AnyArray]]]]) -> GroupResult:
    group, futures = waiting.popleft()
    return group, [future.result() for future in futures]
