"""A run from beginning to end: what is missing is done, compared, and made a store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from hfzarr.errors import ChangedSourceError, TargetError
from hfzarr.plan.reshard import Bundle, ReshardPlan, bundles
from hfzarr.plan.routes import routed, with_route
from hfzarr.run.array_job import ArrayJob
from hfzarr.run.execute import Executor, narrowed
from hfzarr.run.journal import WORK, Done, Journal
from hfzarr.run.publish import Documents, publish, root_document
from hfzarr.run.rewrite import Rewrite, remaining
from hfzarr.run.state import ShardCounts, present, refuse_changed, refuse_missing, sound
from hfzarr.run.verify import Checked, Mode, Verify, checks
from hfzarr.store.sink import Sink
from hfzarr.store.source import Source, Usage

__all__ = ["Add", "Outcome", "Teller", "Work", "run"]


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
    usage: Usage | None = None


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
        if _is_done_still(work):
            outcome = Outcome(work=work, done=present(work.jobs, work.sink))
            outcome.checked = compare(work, executor, verify, tell)
        else:
            outcome = _run(work, executor, resume=resume, verify=verify, tell=tell)
        # Of a complete target too: a run may have been killed while it cleaned up.
        Journal(work.sink).finish()
    return outcome


def _is_done_still(work: Work) -> bool:
    """Ask again, now that no other run can end meanwhile."""
    try:
        return is_done(work)
    except TargetError:
        # The lock made a working folder in what is somebody else's.
        Journal(work.sink).finish()
        raise


def _run(
    work: Work, executor: Executor, *, resume: bool, verify: Mode | None, tell: Teller
) -> Outcome:
    found = _begin(work, resume=resume)
    work = _as_begun(_in_session(work), executor)
    executor = narrowed(executor, work.plan.width)
    outcome = Outcome(work=work, done=sound(work.jobs, work.sink, found))
    before = len(outcome.done)
    _rewrite(work, executor, outcome, tell)
    outcome.tasks = len(outcome.done) - before
    _refuse_changed(work, outcome)
    outcome.checked = compare(work, executor, verify, tell)
    refuse_missing(work.jobs, work.sink, outcome.done.values())
    publish(work.documents, work.source, work.sink)
    return outcome


def _in_session(work: Work) -> Work:
    """Return the work for this run alone: what tasks of an earlier one still do is lost."""
    sink = work.sink.session(uuid.uuid4().hex)
    return replace(work, sink=sink, jobs=tuple(replace(job, sink=sink) for job in work.jobs))


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


def _as_begun(work: Work, executor: Executor) -> Work:
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
    if executor.in_process and plan.peak_bytes > max(plan.max_memory, work.plan.peak_bytes):
        narrower = max(1, plan.max_memory // max(one.peak_bytes for one in plans))
        plan = replace(plan, width=min(plan.width, narrower))
    if plan.peak_bytes > max(plan.max_memory, work.plan.peak_bytes):
        raise TargetError(
            f"the run in {work.sink.url!r} was begun with tasks that need {plan.peak_bytes:,} "
            f"bytes, {plan.width} at once, and max_memory is {plan.max_memory:,}. Give as much, "
            "or begin anew with resume=False."
        )
    jobs = tuple(replace(job, plan=one) for job, one in zip(work.jobs, plans, strict=True))
    return replace(work, plan=plan, jobs=jobs)


def _rewrite(work: Work, executor: Executor, outcome: Outcome, tell: Teller) -> None:
    """Carry out the passes, each over all arrays that have it."""
    plan = work.plan
    few = plan.tasks < executor.width and executor.in_process
    threads = max(1, executor.width // max(plan.tasks, 1)) if few else 1
    rewrite = Rewrite(work.jobs, Journal(work.sink), work.witness, threads)
    rewrite.check_in_sight()
    shards = ShardCounts(work.jobs)
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


def _missing(work: Work, step: int, done: Mapping[str, Done]) -> Iterator[Bundle]:
    for bundle in bundles(work.plan, step):
        yield remaining(bundle, done, work.jobs) if done else bundle


def _refuse_changed(work: Work, outcome: Outcome) -> None:
    """Raise where the source is not what it was when the run began to read it."""
    now = None if work.usage is None else work.source.usage(work.prefix)
    if now is not None and now == work.usage:
        return
    refuse_changed(work.jobs, list(outcome.done.values()))
    if now is not None and work.usage is not None:
        raise ChangedSourceError(
            f"the source {work.source.url!r} changed while it was read: it had "
            f"{work.usage.files:,} files of {work.usage.nbytes:,} bytes, and has {now.files:,} of "
            f"{now.nbytes:,}. What was written is no store yet: begin anew with resume=False."
        )
