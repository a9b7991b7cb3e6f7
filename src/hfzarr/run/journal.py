"""What a run has done, kept where it writes, so that it can be started again."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hfzarr.errors import ChangedSourceError, TargetError
from hfzarr.store.sink import WORK, Sink

__all__ = ["WORK", "Done", "Journal"]

_VERSION = 1
_PREFIX = "journal-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One task that was done."""

    task: str
    """Name of the task, the same in every run of the plan."""
    stamp: str
    """What the task's sources were when they were read; another text where they change."""
    files: Mapping[str, int] = field(default_factory=dict)
    """Keys that the task wrote, and the bytes of each."""
    chunks: int = 0
    """Inner chunks written."""
    bytes_read: int = 0
    """Bytes read from the source, as they lie there."""
    bytes_written: int = 0
    """Bytes written to the target."""


class Journal:
    """The records of a run in its target.

    ``plan.json`` in the working folder says which run it is. Each task that is done adds a record:
    in a folder a line to a file of its process, elsewhere an object of its own. Copies of a journal
    may be used in any thread and process; each process writes a file of its own.

    Parameters
    ----------
    sink
        The target.
    work
        The working folder in it.
    """

    def __init__(self, sink: Sink, work: str = WORK) -> None:
        self.sink = sink
        self.work = work

    def __repr__(self) -> str:
        return f"Journal({self.sink.url!r})"

    def fingerprint(self) -> str | None:
        """Return the fingerprint of the run under way in the target; None if there is none."""
        plan = self._plan()
        return None if plan is None else str(plan.get("fingerprint"))

    def begin(
        self, fingerprint: str, *, resume: bool = True, about: Mapping[str, str] | None = None
    ) -> dict[str, Done]:
        """Begin a run, or go on with the one that was begun with the same plan.

        Files that were never finished are deleted; call it while no task runs, under the sink's
        lock.

        Parameters
        ----------
        fingerprint
            A text that is the same for the same plan on the same source.
        resume
            Whether to go on. If not, what another run left in the working folder is deleted;
            shards in their places stay.
        about
            What was asked for (source, options), by name, to tell a changed source from another
            wish.

        Returns
        -------
        dict
            The tasks that are done, by name; none for a run that is new.

        Raises
        ------
        ChangedSourceError
            A run for the same is under way, and its plan is not this one: the source changed.
        TargetError
            A run for something else is under way.
        """
        plan = self._plan() if resume else None
        if plan is None:
            self._start(fingerprint, about or {})
            return {}
        if plan.get("fingerprint") != fingerprint or plan.get("version") != _VERSION:
            raise self._other_run(plan, about or {})
        self.sink.delete(f"{self.work}/tmp")
        return self._load()

    def add(self, done: Done) -> None:
        """Record that a task is done; its files must be in their places."""
        record = json.dumps({**asdict(done), "files": dict(done.files), "at": time.time()})
        # With a line break on both sides, a record that was cut short spoils none but itself.
        line = f"\n{record}\n".encode()
        if not self.sink.append(f"{self.work}/{_PREFIX}{_process()}.jsonl", line):
            self.sink.put(f"{self.work}/{_PREFIX}{uuid.uuid4().hex}.json", line)

    def finish(self) -> None:
        """End the run: delete the working folder."""
        # First the plan, so that no remainder is taken for a run under way.
        self.sink.delete(f"{self.work}/plan.json")
        self.sink.delete(self.work)

    def _start(self, fingerprint: str, about: Mapping[str, str]) -> None:
        self.sink.delete(f"{self.work}/plan.json")
        for name in self.sink.source().list_dir(self.work):
            if name != "lock":
                self.sink.delete(f"{self.work}/{name}")
        plan = {"version": _VERSION, "fingerprint": fingerprint, "about": dict(about)}
        self.sink.put(f"{self.work}/plan.json", json.dumps(plan, indent=1).encode())

    def _plan(self) -> dict[str, Any] | None:
        data = self.sink.source().get(f"{self.work}/plan.json")
        if data is None:
            return None
        plan = _parse(data)
        # Written whole, so somebody else's hand was in it: a run, but nobody knows which.
        return {} if plan is None else plan

    def _other_run(self, plan: Mapping[str, Any], about: Mapping[str, str]) -> Exception:
        before = plan.get("about") or {}
        differing = [name for name in {**before, **about} if before.get(name) != about.get(name)]
        way_out = "Start anew with resume=False, which writes all again, or choose another target."
        if about and not differing and plan.get("version") == _VERSION:
            return ChangedSourceError(
                f"store {self.sink.url!r} holds a part of what its source was when the run began, "
                f"and the source has changed since. {way_out}"
            )
        told = "; ".join(
            f"{name} was {before.get(name)!r}, and is {about.get(name)!r}" for name in differing
        )
        return TargetError(
            f"store {self.sink.url!r} holds an unfinished run of another plan"
            f"{f' ({told})' if told else ''}. Ask for the same again to go on with that. {way_out}"
        )

    def _load(self) -> dict[str, Done]:
        source = self.sink.source()
        names = [n for n in source.list_dir(self.work) if n.startswith(_PREFIX)]
        texts = source.get_many([(f"{self.work}/{name}", None) for name in names])
        records = [record for text in texts if text for record in _records(text)]
        records.sort(key=lambda record: record[0])
        return {done.task: done for _, done in records}


def _records(text: bytes) -> Iterator[tuple[float, Done]]:
    """Yield the records of a file, with their times; what was cut short is left out."""
    for line in text.split(b"\n"):
        record = _parse(line) if line else None
        if record is not None and record.keys() >= _FIELDS:
            yield float(record["at"]), Done(**{name: record[name] for name in _NAMES})


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        doc = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return doc if isinstance(doc, dict) else None


def _process() -> str:
    """Return a name of this process that no other has, on any machine.

    All copies of a journal in a process share it: a cluster sends a copy with each task.
    """
    # A forked process finds its parent's name here, under another number.
    name = _PROCESSES.get(os.getpid())
    if name is None:
        host = re.sub(r"[^A-Za-z0-9-]+", "_", socket.gethostname())[:60]
        name = f"{host}-{os.getpid()}-{uuid.uuid4().hex}"
    return _PROCESSES.setdefault(os.getpid(), name)


_PROCESSES: dict[int, str] = {}
_NAMES = tuple(one.name for one in fields(Done))
_FIELDS = {*_NAMES, "at"}
