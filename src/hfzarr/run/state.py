"""What tasks left behind, and whether it still stands: their shards, and the chunks they read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from hfzarr.errors import ChangedSourceError, WriteError
from hfzarr.run.array_job import ArrayJob, digest_of
from hfzarr.run.journal import WORK, Done
from hfzarr.store.sink import Sink

__all__ = ["ShardCounts", "present", "refuse_changed", "refuse_missing", "sound"]

T = TypeVar("T")
_BATCH = 256
# Tasks whose sources are looked at again, where each look is a request.
_REMOTE_TASKS = 256


def sound(jobs: Sequence[ArrayJob], sink: Sink, found: Mapping[str, Done]) -> dict[str, Done]:
    """Return the tasks of an earlier run whose results are there.

    Raises
    ------
    ChangedSourceError
        A chunk that one of them read is not what it was.
    """
    known = [done for done in found.values() if _is_known(jobs, done.task)]
    refuse_changed(jobs, known)
    there: dict[str, Done] = {}
    for some in _batched(known):
        sizes = _sizes(sink, [key for done in some for key in done.files])
        for done in some:
            if all(sizes[key] == size for key, size in done.files.items()):
                there[done.task] = done
    _add_needless(jobs, there)
    return there


def _is_known(jobs: Sequence[ArrayJob], task: str) -> bool:
    array, step, number = _numbers(task)
    passes = jobs[array].plan.passes if array < len(jobs) else ()
    return step < len(passes) and number < passes[step].tasks


def _numbers(task: str) -> tuple[int, int, int]:
    array, step, number = task.split(".")
    return int(array), int(step), int(number)


def _add_needless(jobs: Sequence[ArrayJob], there: dict[str, Done]) -> None:
    """Count passes as done whose intermediate is gone because the next pass is done."""
    for job in jobs:
        for step in range(job.last, 0, -1):
            tasks = [job.task(step, number) for number in range(job.plan.passes[step].tasks)]
            if not all(task in there for task in tasks):
                continue
            for number in range(job.plan.passes[step - 1].tasks):
                task = job.task(step - 1, number)
                there.setdefault(task, Done(task=task, stamp=""))


def refuse_changed(jobs: Sequence[ArrayJob], done: Sequence[Done]) -> None:
    """Raise where chunks are not what they were when tasks read them.

    Raises
    ------
    ChangedSourceError
        The message names array and shard.
    """
    read = [one for one in done if one.stamp]
    if jobs and not jobs[0].source.local:
        read = read[:: max(len(read) // _REMOTE_TASKS, 1)]
    for some in _batched(read):
        keys = [jobs[n].stamped_keys(step, i) for n, step, i in (_numbers(d.task) for d in some)]
        # All in one go, as over a network each is a request.
        stamps = iter(jobs[0].source.stamps(list(itertools.chain.from_iterable(keys))))
        for one, own in zip(some, keys, strict=True):
            if one.stamp != digest_of([next(stamps) for _ in own]):
                raise _changed(jobs, one.task)


def _changed(jobs: Sequence[ArrayJob], task: str) -> ChangedSourceError:
    array, step, number = _numbers(task)
    job = jobs[array]
    boxes = job.plan.boxes(step)
    first = next(itertools.product(*job.units().touching(boxes.bounds(boxes.place(number)))))
    return ChangedSourceError(
        f"array {job.meta.path or '/'!r} in {job.source.url}: chunks that shard {job.key(first)!r} "
        "was made of have changed since it was written. Begin anew with resume=False, which "
        "writes all again."
    )


def refuse_missing(jobs: Sequence[ArrayJob], sink: Sink, done: Iterable[Done]) -> None:
    """Raise where a shard that was written is no longer there.

    Raises
    ------
    WriteError
        The message names array and shard.
    """
    named = {
        key: (size, one.task)
        for one in done
        for key, size in one.files.items()
        if not key.startswith(f"{WORK}/")
    }
    for keys in _batched(list(named)):
        for key, size in _sizes(sink, keys).items():
            wanted, task = named[key]
            if size != wanted:
                job = jobs[_numbers(task)[0]]
                raise WriteError(
                    f"array {job.meta.path or '/'!r}, shard {key!r} of {sink.url}: it had "
                    f"{wanted:,} bytes when it was written, and has {size or 0:,} now. Who deletes "
                    "or changes files there? Start the same run again: it does what is missing."
                )


def present(jobs: Sequence[ArrayJob], sink: Sink) -> dict[str, Done]:
    """Return the files of a complete target, by array."""
    found: dict[str, Done] = {}
    for job in jobs:
        units = job.units()
        keys = [job.key(units.place(n)) for n in range(len(units) if job.plan.passes else 0)]
        files = {key: size for key, size in _sizes(sink, keys).items() if size is not None}
        found[str(job.number)] = Done(task=str(job.number), stamp="", files=files)
    return found


class ShardCounts:
    """How many shards tasks write; one that writes an intermediate counts as one."""

    def __init__(self, jobs: Sequence[ArrayJob]) -> None:
        self._jobs = jobs
        between = sum(one.tasks for job in jobs for one in job.plan.passes[:-1])
        self.total = between + sum(len(job.units()) for job in jobs if job.plan.passes)

    def of(self, tasks: Iterable[str]) -> int:
        """Return the shards of some tasks, by their names."""
        return sum(self._of(task) for task in tasks)

    def _of(self, task: str) -> int:
        array, step, number = _numbers(task)
        job = self._jobs[array]
        if step < job.last:
            return 1
        boxes = job.plan.boxes(step)
        return math.prod(len(n) for n in job.units().touching(boxes.bounds(boxes.place(number))))


def _sizes(sink: Sink, keys: Sequence[str]) -> dict[str, int | None]:
    return dict(zip(keys, sink.source().sizes(keys), strict=True))


def _batched(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
