"""A store that is being rewritten: its tasks, carried out bundle by bundle."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hfzarr.errors import ReadError
from hfzarr.plan.reshard import Bundle, Span
from hfzarr.run.array_job import ArrayJob
from hfzarr.run.journal import WORK, Done, Journal
from hfzarr.run.repack import Repack
from hfzarr.run.scratch import Scratch
from hfzarr.run.transcode import Transcode

__all__ = ["Rewrite", "remaining"]


class Rewrite:
    """Carries out tasks, and records each that is done. Pickles to its parameters.

    Parameters
    ----------
    jobs
        The arrays, by number.
    journal
        Where tasks that are done are recorded.
    witness
        Key of a document of the source, which must be there as long as the source is: a store
        that is gone would read as one without chunks.
    threads
        Threads that one task may use.
    """

    def __init__(
        self, jobs: Sequence[ArrayJob], journal: Journal, witness: str | None, threads: int = 1
    ) -> None:
        self.jobs = tuple(jobs)
        self.journal = journal
        self.witness = witness
        self.threads = threads
        self._writers: dict[int, Repack | Transcode] = {}
        self._scratch = Scratch()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Rewrite], tuple[object, ...]]:
        return Rewrite, (self.jobs, self.journal, self.witness, self.threads)

    def __call__(self, bundle: Bundle) -> list[Done]:
        """Carry out the tasks of a bundle, one after the other.

        Raises
        ------
        HfzarrError
            A task failed; the message names its array and shard.
        """
        self.check_in_sight()
        done = []
        for span in bundle:
            job = self.jobs[span.array]
            writer = self._writer(job)
            boxes = job.plan.boxes(span.step)
            for number in range(span.start, span.stop):
                with job.naming(boxes.bounds(boxes.place(number))):
                    one = writer.run(span.step, number)
                    # Chunks that are absent because the source is gone must not pass for empty.
                    self.check_in_sight()
                    self.journal.add(one)
                done.append(one)
        return done

    def check_in_sight(self) -> None:
        """Raise unless source and target are where this process can see them.

        Raises
        ------
        ReadError
            The source is gone, or is not on a disk that this machine shares.
        """
        if not self.jobs:
            return
        source, sink = self.jobs[0].source, self.jobs[0].sink
        if self.witness is not None and source.stamps([self.witness]) == [None]:
            raise ReadError(
                f"the source {source.url!r} is not there, or no longer: {self.witness!r} is gone. "
                "On a cluster, every worker must reach it under the same path. Put it back and "
                "start the same run again: it does only what is missing."
            )
        if sink.local and sink.source().stamps([f"{WORK}/plan.json"]) == [None]:
            raise ReadError(
                f"the target {sink.url!r} has no run under way: was it deleted meanwhile? On a "
                "cluster, every worker must reach it under the same path."
            )

    def _writer(self, job: ArrayJob) -> Repack | Transcode:
        with self._lock:
            writer = self._writers.get(job.number)
            if writer is None:
                if job.plan.route == "repack":
                    writer = Repack(job, self._scratch)
                else:
                    writer = Transcode(job, self._scratch, threads=self.threads)
                self._writers[job.number] = writer
            return writer


def remaining(bundle: Bundle, done: Mapping[str, object], jobs: Sequence[ArrayJob]) -> Bundle:
    """Return a bundle without the tasks that are done."""
    return tuple(part for span in bundle for part in _gaps(span, done, jobs[span.array]))


def _gaps(span: Span, done: Mapping[str, object], job: ArrayJob) -> Iterator[Span]:
    start = span.start
    for number in range(span.start, span.stop):
        if job.task(span.step, number) in done:
            if start < number:
                yield replace(span, start=start, stop=number)
            start = number + 1
    if start < span.stop:
        yield replace(span, start=start)
