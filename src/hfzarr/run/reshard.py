"""A run from beginning to end: what is missing is done, compared, and made a store."""

from __future__ import annotations

import itertools
import json
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

from hfzarr.errors import ChangedSourceError, TargetError, WriteError
from hfzarr.plan.reshard import Bundle, ReshardPlan, bundles
from hfzarr.plan.routes import routed, with_route
from hfzarr.run.array_job import ArrayJob
from hfzarr.run.execute import Executor
from hfzarr.run.journal import WORK, Done, Journal
from hfzarr.run.publish import Documents, publish, root_document
from hfzarr.run.rewrite import Rewrite, remaining
from hfzarr.run.verify import Checked, Mode, Verify, checks
from hfzarr.store.sink import Sink
from hfzarr.store.source import Source

__all__ = ["Add", "Outcome", "Teller", "Work", "run"]

T = TypeVar("T")

_BATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done, and where.

    Attributes
    ----------
    plan
        How each array is rewritten.
    jobs
        The arrays, by number.
    documents
        What the target holds besides shards.
    source, sink
        Where it is read and written.
    witness
        Key of a document of the source, there as long as the source is.
    fingerprint
        A text that is the same for the same wishes on the same source.
    about
        What was asked for, by name.
    prefix
        Path of the node in the source.
    usage
        Files and bytes of the source when it was looked at, where they could be counted.
    """

    plan: ReshardPlan
    jobs: tuple[ArrayJob, ...]
    documents: Documents
    source: Source
    sink: Sink
    witness: str | None
    fingerprint: str
    about: Mapping[str, str]
    prefix: str = ""
    usage: tuple[int, int] | None = None


@dataclass(slots=True)
class Outcome:
    """What was done.

    Attributes
    ----------
    work
        What was to be done; a run that goes on cuts arrays as the one before did.
    done
        Every task, by name, those of earlier runs among them.
    tasks
        How many tasks this run did.
    checked
        What was compared.
    """

    work: Work
    done: dict[str, Done] = field(default_factory=dict)
    tasks: int = 0
    checked: Checked = field(default_factory=Checked)


class Teller(Protocol):
    """Shows how far a stage is."""

    def __call__(self, stage: Literal["reshard", "verify"], total: int, before: int) -> Add:
        """Begin a stage of so many shards; return what is called as they are done."""


Add = Callable[[int, int], object]


def is_done(work: Work) -> bool:
    """Return whether the target is complete already.

    Raises
    ------
    TargetError
        Something else is there.
    """
    target = work.sink.source()
    if Journal(work.sink).fingerprint() is not None:
        return False
    root = target.get("zarr.json")
    if root is not None and root == root_document(work.documents):
        return True
    there = [name for name in target.list_dir("") if name != WORK]
    if root is None and not there:
        return False
    raise TargetError(
        f"the target {work.sink.url!r} is not empty, and what is there is not what this run would "
        f"write: {there[:5]}. Choose another target, or delete it first."
    )


def run(
    work: Work, executor: Executor, *, resume: bool, verify: Mode | None, tell: Teller
) -> Outcome:
    """Do what is missing, compare, and write the metadata.

    A target that is complete is compared only.

    Raises
    ------
    HfzarrError
        A task failed, or what is there is not what it was; the message names array and shard.
    """
    # Asked twice: first so that nothing is put into a folder of somebody else's, then again as
    # another run may have ended while this one waited for the lock.
    is_done(work)
    with work.sink.lock():
        complete = is_done(work)
        if complete:
            outcome = Outcome(work=work, done=_present(work))
            outcome.checked = compare(work, executor, verify, tell)
        else:
            outcome = _run(work, executor, resume=resume, verify=verify, tell=tell)
        # Of a complete target too: a run may have been killed while it cleaned up.
        Journal(work.sink).finish()
    return outcome


def _run(
    work: Work, executor: Executor, *, resume: bool, verify: Mode | None, tell: Teller
) -> Outcome:
    found = _begin(work, resume=resume)
    work = _as_begun(_in_session(work))
    outcome = Outcome(work=work, done=_sound(work, found))
    before = len(outcome.done)
    _rewrite(work, executor, outcome, tell)
    outcome.tasks = len(outcome.done) - before
    _refuse_changed(work)
    outcome.checked = compare(work, executor, verify, tell)
    _refuse_missing(work, outcome)
    publish(work.documents, work.source, work.sink)
    return outcome


def _in_session(work: Work) -> Work:
    """Return the work for this run alone: what tasks of an earlier one still do is lost."""
    sink = work.sink.session(uuid.uuid4().hex)
    return replace(work, sink=sink, jobs=tuple(replace(job, sink=sink) for job in work.jobs))


def _present(work: Work) -> dict[str, Done]:
    """Return the files of a complete target, by array."""
    found: dict[str, Done] = {}
    for job in work.jobs:
        units = job.units()
        keys = [job.key(units.place(n)) for n in range(len(units) if job.plan.passes else 0)]
        sizes = zip(keys, work.sink.source().sizes(keys), strict=True)
        files = {key: size for key, size in sizes if size is not None}
        found[str(job.number)] = Done(task=str(job.number), stamp="", files=files)
    return found


def compare(work: Work, executor: Executor, verify: Mode | None, tell: Teller) -> Checked:
    """Compare what was written with what it was made from.

    Raises
    ------
    VerificationError
        Something differs.
    """
    if verify is None:
        return Checked()
    items = list(checks(work.jobs, verify))
    found: list[Checked] = []
    add = tell("verify", sum(len(item.units) for item in items), 0)

    def each(one: Checked) -> None:
        found.append(one)
        add(one.units, 0)

    executor.run(Verify(work.jobs), items, each, name="hfzarr-verify")
    return Checked(
        sum(one.units for one in found),
        sum(one.chunks for one in found),
        sum(one.nbytes for one in found),
    )


def _begin(work: Work, *, resume: bool) -> dict[str, Done]:
    """Return the tasks that an earlier run recorded as done."""
    journal = Journal(work.sink)
    if not resume and journal.fingerprint() is not None:
        # Its shards may have another shape, under keys that nobody would write again.
        # The root's document first: without it nothing looks whole while the rest is deleted.
        work.sink.delete("zarr.json")
        work.sink.delete(f"{WORK}/plan.json")
        work.sink.delete("")
    return journal.begin(work.fingerprint, resume=resume, about=work.about)


def _as_begun(work: Work) -> Work:
    """Return the work with its arrays cut into tasks as by the run that began it.

    Tasks are known by number, and another bound of memory or another machine cuts otherwise.
    """
    key = f"{WORK}/tasks.json"
    stored = work.sink.source().get(key)
    if stored is None:
        text = json.dumps([routed(job.plan) for job in work.jobs])
        work.sink.put(key, text.encode())
        return work
    plans = [
        with_route(job.plan, route)
        for job, route in zip(work.jobs, json.loads(stored), strict=True)
    ]
    plan = replace(work.plan, arrays=tuple(plans))
    if plan.peak_bytes > max(plan.max_memory, work.plan.peak_bytes):
        narrower = max(1, plan.max_memory // max(one.peak_bytes for one in plans))
        plan = replace(plan, width=min(plan.width, narrower))
    if plan.peak_bytes > max(plan.max_memory, work.plan.peak_bytes):
        raise TargetError(
            f"the run in {work.sink.url!r} was begun with tasks that need {plan.peak_bytes:,} "
            f"bytes each, and max_memory is {plan.max_memory:,}. Give as much, or begin anew with "
            "resume=False."
        )
    jobs = tuple(replace(job, plan=one) for job, one in zip(work.jobs, plans, strict=True))
    return replace(work, plan=plan, jobs=jobs)


def _sound(work: Work, found: Mapping[str, Done]) -> dict[str, Done]:
    """Return the tasks whose results are there, and whose sources are what they were."""
    named = {
        job.task(step, number): (job, step, number)
        for job in work.jobs
        for step, one in enumerate(job.plan.passes)
        for number in range(one.tasks)
        if found
    }
    known = [(done, *named[task]) for task, done in found.items() if task in named]
    there: dict[str, Done] = {}
    for some in _batched(known, _BATCH):
        keys = [key for done, *_ in some for key in done.files]
        sizes = dict(zip(keys, work.sink.source().sizes(keys), strict=True))
        for done, job, step, number in some:
            if done.stamp != job.stamp(step, number):
                raise _changed(job, step, number)
            if all(sizes[key] == size for key, size in done.files.items()):
                there[done.task] = done
    _skip_needless(work, there)
    return there


def _skip_needless(work: Work, there: dict[str, Done]) -> None:
    """Count passes as done whose intermediate is gone because the next pass is done."""
    for job in work.jobs:
        for step in range(job.last, 0, -1):
            tasks = [job.task(step, number) for number in range(job.plan.passes[step].tasks)]
            if not all(task in there for task in tasks):
                continue
            for number in range(job.plan.passes[step - 1].tasks):
                task = job.task(step - 1, number)
                there.setdefault(task, Done(task=task, stamp=""))


def _changed(job: ArrayJob, step: int, number: int) -> ChangedSourceError:
    boxes = job.plan.boxes(step)
    first = next(itertools.product(*job.units().touching(boxes.bounds(boxes.place(number)))))
    return ChangedSourceError(
        f"array {job.meta.path or '/'!r} in {job.source.url}: chunks that shard {job.key(first)!r} "
        "was made of have changed since an earlier run wrote it. Start anew with resume=False, "
        "which writes all again."
    )


def _rewrite(work: Work, executor: Executor, outcome: Outcome, tell: Teller) -> None:
    """Carry out the passes, each over all arrays that have it."""
    plan = work.plan
    few = plan.tasks < executor.width and executor.in_process
    threads = max(1, executor.width // max(plan.tasks, 1)) if few else 1
    rewrite = Rewrite(work.jobs, Journal(work.sink), work.witness, threads)
    rewrite.check_in_sight()
    shards = _Shards(work.jobs)
    add = tell("reshard", shards.total, shards.of(outcome.done))

    def each(some: Sequence[Done]) -> None:
        outcome.done.update({done.task: done for done in some})
        add(shards.of(done.task for done in some), sum(done.bytes_written for done in some))

    for step in range(plan.passes):
        left = [b for b in _missing(work, step, outcome.done) if b]
        executor.run(rewrite, left, each, name="hfzarr-reshard")
        if step:
            for job in work.jobs:
                work.sink.delete(f"{WORK}/scratch/{job.number}/{step - 1}")


class _Shards:
    """How many shards tasks write; one that writes an intermediate counts as one."""

    def __init__(self, jobs: Sequence[ArrayJob]) -> None:
        self._jobs = jobs
        between = sum(one.tasks for job in jobs for one in job.plan.passes[:-1])
        self.total = between + sum(len(job.units()) for job in jobs if job.plan.passes)

    def of(self, tasks: Iterable[str]) -> int:
        """Return the shards of some tasks, by their names."""
        return sum(self._of(task) for task in tasks)

    def _of(self, task: str) -> int:
        array, step, number = (int(part) for part in task.split("."))
        job = self._jobs[array]
        if step < job.last:
            return 1
        boxes = job.plan.boxes(step)
        return math.prod(len(n) for n in job.units().touching(boxes.bounds(boxes.place(number))))


def _missing(work: Work, step: int, done: Mapping[str, Done]) -> Iterator[Bundle]:
    for bundle in bundles(work.plan, step):
        yield remaining(bundle, done, work.jobs) if done else bundle


def _refuse_changed(work: Work) -> None:
    """Raise where files of the source came or went while it was read."""
    usage = None if work.usage is None else work.source.usage(work.prefix)
    if usage is None or work.usage is None or usage == work.usage:
        return
    raise ChangedSourceError(
        f"the source {work.source.url!r} changed while it was read: it had {work.usage[0]:,} files "
        f"of {work.usage[1]:,} bytes, and has {usage[0]:,} of {usage[1]:,}. What was written is no "
        "store yet: delete it, or start anew with resume=False."
    )


def _refuse_missing(work: Work, outcome: Outcome) -> None:
    """Raise where a shard that was written is no longer there."""
    named = {
        key: (size, done.task)
        for done in outcome.done.values()
        for key, size in done.files.items()
        if not key.startswith(f"{WORK}/")
    }
    for keys in _batched(list(named), _BATCH):
        for key, size in zip(keys, work.sink.source().sizes(keys), strict=True):
            wanted, task = named[key]
            if size != wanted:
                job = work.jobs[int(task.partition(".")[0])]
                raise WriteError(
                    f"array {job.meta.path or '/'!r}, shard {key!r} of {work.sink.url}: it had "
                    f"{wanted:,} bytes when it was written, and has {size or 0:,} now. Who deletes "
                    "or changes files there? Start the same run again: it does what is missing."
                )


def _batched(items: Sequence[T], n: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), n):
        yield items[start : start + n]
