"""The tasks of a patch plan, carried out: one after the other, or on threads."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hfzarr.plan.patches import Group, PatchPlan
from hfzarr.plan.reads import Box, Gather, Read, tasks
from hfzarr.plan.windows import WindowGrid
from hfzarr.run.gather import Layout, gather_grid, gather_list
from hfzarr.run.pool import workers

__all__ = ["Cut", "PatchJob", "Region", "cut_of", "run_serial", "run_threaded"]

AnyArray = npt.NDArray[Any]
#: The patches of one group, an array for each of the plan's.
GroupResult = tuple[Group, list[AnyArray]]


class Region(Protocol):
    """An array of which boxes can be read, from many threads at once."""

    def read_boxes(self, boxes: Sequence[Box]) -> list[AnyArray]:
        """Return the pixels of each box."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchJob:
    """A plan, and the arrays that it is about.

    Attributes
    ----------
    plan
        What to read and to cut.
    regions
        Where each of the plan's arrays is read; what is there already is read in no time.
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
    """Cuts the patches of one group out of one array's blocks: a task without what it depends on.

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
    blocks
        Places of the blocks that the call is given, in the grid of blocks.
    """

    layout: Layout
    starts: tuple[npt.NDArray[np.intp], ...]
    counts: tuple[int, ...] | None
    count: int
    blocks: tuple[tuple[int, ...], ...]

    def __call__(self, parts: Sequence[Sequence[AnyArray]]) -> AnyArray:
        """Return the patches: shape ``(windows, *patch)``.

        Parameters
        ----------
        parts
            Blocks as reads return them.
        """
        blocks = dict(zip(self.blocks, itertools.chain.from_iterable(parts), strict=True))
        if self.counts is None:
            return gather_list(self.layout, self.starts, self.count, blocks)
        return gather_grid(self.layout, self.starts, self.counts, blocks)


def cut_of(job: PatchJob, task: Gather) -> Cut:
    """Return what a gather has to do."""
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
        blocks=task.blocks,
    )


def run_serial(job: PatchJob) -> Iterator[GroupResult]:
    """Yield each group's patches, one task after the other: what every other way must equal."""
    read: dict[tuple[int, int], list[AnyArray]] = {}
    last = _last_uses(job.plan)
    for task in tasks(job.plan):
        if isinstance(task, Read):
            read[task.array, task.number] = job.regions[task.array].read_boxes(task.boxes)
            continue
        if task.array == 0:
            results: list[AnyArray] = []
        parts = [read[task.array, number] for number in task.reads] or _held(job, task)
        results.append(cut_of(job, task)(parts))
        for number in task.reads:
            if last[task.array, number] == task.group.number:
                del read[task.array, number]
        if len(results) == len(job.regions):
            yield task.group, results


def run_threaded(job: PatchJob, *, ahead: int | None = None) -> Iterator[GroupResult]:
    """Yield each group's patches in order, the next ones under way on threads.

    Parameters
    ----------
    job
        What to do.
    ahead
        Groups that may be under way or wait to be taken; by default one more than there are
        threads.
    """
    threads = workers()
    limit = threads + 1 if ahead is None else max(ahead, 1)
    waiting: deque[tuple[Group, list[Future[AnyArray]]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="hfzarr-patches") as pool:
        try:
            for group, futures in _submitted(job, pool):
                waiting.append((group, futures))
                del futures
                if len(waiting) >= limit:
                    yield _result(waiting)
            while waiting:
                yield _result(waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _result(waiting: deque[tuple[Group, list[Future[AnyArray]]]]) -> GroupResult:
    group, futures = waiting.popleft()
    return group, [future.result() for future in futures]


def _submitted(
    job: PatchJob, pool: ThreadPoolExecutor
) -> Iterator[tuple[Group, list[Future[AnyArray]]]]:
    """Submit the tasks of one group after the other; a read is forgotten after its last use."""
    read: dict[tuple[int, int], Future[list[AnyArray]]] = {}
    last = _last_uses(job.plan)
    futures: list[Future[AnyArray]] = []
    for task in tasks(job.plan):
        if isinstance(task, Read):
            region = job.regions[task.array]
            read[task.array, task.number] = pool.submit(region.read_boxes, task.boxes)
            continue
        needed = [read[task.array, number] for number in task.reads]
        held = [] if needed else _held(job, task)
        futures.append(pool.submit(_wait_and_cut, cut_of(job, task), needed, held))
        for number in task.reads:
            if last[task.array, number] == task.group.number:
                del read[task.array, number]
        del needed, held
        if len(futures) == len(job.regions):
            yield task.group, futures
            futures = []


def _wait_and_cut(
    cut: Cut, needed: list[Future[list[AnyArray]]], held: list[list[AnyArray]]
) -> AnyArray:
    # Reads are submitted before what needs them, so the pool has begun them: no deadlock.
    return cut([future.result() for future in needed] or held)


def _held(job: PatchJob, task: Gather) -> list[list[AnyArray]]:
    """Return the blocks of an array that needs no reads."""
    boxes = [
        tuple(cuts.interval(k) for cuts, k in zip(task.cuts, block, strict=True))
        for block in task.blocks
    ]
    return [job.regions[task.array].read_boxes(boxes)]


def _last_uses(plan: PatchPlan) -> dict[tuple[int, int], int]:
    """Return the group that is the last to need each read."""
    last: dict[tuple[int, int], int] = {}
    for task in tasks(plan):
        if isinstance(task, Gather):
            last.update(dict.fromkeys(((task.array, n) for n in task.reads), task.group.number))
    return last
