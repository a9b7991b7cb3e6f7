"""A push from beginning to end: stores first, and the index once all that it names is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hfzarr.errors import ChangedSourceError, TargetError, WriteError
from hfzarr.run.copy import copy_files
from hfzarr.run.execute import choose_executor
from hfzarr.run.journal import Journal
from hfzarr.run.reshard import Work, run
from hfzarr.store.files import StoreFile
from hfzarr.store.hub.outbox import Outbox
from hfzarr.store.hub.paths import HubPlace
from hfzarr.store.hub.record import PushRecord
from hfzarr.store.hub.repo import HubRepo, Stored
from hfzarr.store.hub.sink import HubSink
from hfzarr.store.source import Source

__all__ = ["Delivery"]

_PINNED = ".hfzarr/index.json"
_INDEX = re.compile(r"data/[\w.]+-\d{5}-of-\d{5}\.parquet")


class Delivery:
    """Stores and an index on their way to the Hub.

    Parameters
    ----------
    index, data
        Where the index and the stores go; they may be one repo.
    token
        Whose right it is, hidden.
    folder
        Where files are collected.
    batch_bytes
        Bytes that are collected before they are sent.

    Attributes
    ----------
    data, index
        What is on its way to both.
    """

    def __init__(
        self,
        index: HubPlace,
        data: HubPlace,
        *,
        token: Callable[[], str | None],
        folder: str,
        batch_bytes: int,
    ) -> None:
        self.data = Outbox(HubRepo(data, token=token), folder, batch_bytes=batch_bytes)
        self.index = self.data
        if index != data:
            self.index = Outbox(HubRepo(index, token=token), folder, batch_bytes=batch_bytes)
        self._record = PushRecord(self.data)

    @property
    def _outboxes(self) -> list[Outbox]:
        return [self.data] if self.index is self.data else [self.data, self.index]

    def load(self) -> None:
        """Ask what is there already; a repo that is not there holds nothing."""
        for outbox in self._outboxes:
            if outbox.repo.exists():
                outbox.load()
        self._record.load()

    def create(self, private: bool | None) -> None:
        """Make the repos that are not there.

        Raises
        ------
        WriteError
            Nobody is logged in, or without the right to write there.
        """
        for outbox in self._outboxes:
            if not outbox.repo.exists():
                outbox.repo.create(private)
                outbox.load()

    def stands(self, path: str, digest: str) -> bool:
        """Return whether a store was pushed before from the same files, and is there still."""
        return self._record.stands(path, digest)

    def files_beside(self, paths: Sequence[str]) -> int:
        """Return how many files the data repo holds that are of none of these stores."""
        below = set().union(*[self.data.paths(path) for path in paths])
        return len(self.data.paths("")) - len(below)

    # Stores

    def copy(
        self, path: str, digest: str, source: Source, prefix: str, files: Sequence[StoreFile]
    ) -> None:
        """Send a store as it is.

        Raises
        ------
        ReadError
            A file is gone.
        WriteError
            The Hub refused, or could not be reached.
        """
        self._record.drop(path)
        copy_files(source, prefix, files, self.data, path)
        self._record.add(path, digest)

    def reshard(self, path: str, digest: str, work: Work, *, resume: bool) -> None:
        """Write a store anew, and send it while it is written.

        Raises
        ------
        HfzarrError
            A shard could not be made or sent, or is not what it was made from.
        """
        self._record.drop(path)
        sink = HubSink(self.data, path)
        jobs = tuple(replace(job, sink=sink) for job in work.jobs)
        plan = replace(work.plan, target=sink.url)
        # What a run notes of itself is published for a while: nothing of this machine.
        work = replace(work, sink=sink, jobs=jobs, plan=plan, about={})
        resume = self._goes_on(sink, work) and resume
        try:
            self._run(work, resume=resume)
        except ChangedSourceError:
            if not resume:
                raise
            # What an interrupted push wrote was made of other chunks.
            self._run(work, resume=False)
        self._record.add(path, digest)

    def _goes_on(self, sink: HubSink, work: Work) -> bool:
        """Return whether a run for the same was interrupted; else clear what is there."""
        under_way = Journal(sink).fingerprint()
        if under_way == work.fingerprint:
            return True
        if under_way is None:
            # The document that makes it a store is the first to go.
            sink.delete("zarr.json")
            sink.delete("")
        return False

    def _run(self, work: Work, *, resume: bool) -> None:
        executor = choose_executor(None, work.plan.width)
        run(work, executor, resume=resume, verify="sample", tell=lambda *_: lambda *_: None)

    def arrive(self, paths: Sequence[str]) -> HubPlace:
        """Send what is left, and make sure that all of it is there.

        Parameters
        ----------
        paths
            The stores.

        Returns
        -------
        HubPlace
            The data repo, at the commit that holds them all.

        Raises
        ------
        WriteError
            Something is missing.
        """
        self.data.flush()
        place = self.data.repo.place
        if not place.versioned:
            self.data.check(paths)
            return place
        commit = self._pinned_before() if not self.data.commits else None
        if commit is not None:
            with contextlib.suppress(WriteError):
                if self.data.holds(paths, commit):
                    return place.at(commit)
        if self.data.commit is None:
            raise TargetError(f"{place.url!r} has no commit, so that nothing was sent")
        self.data.check(paths, self.data.commit)
        return place.at(self.data.commit)

    def _pinned_before(self) -> str | None:
        """Return the commit that the index names that is there, if it is one of this repo."""
        if self.index.find(_PINNED) is None:
            return None
        try:
            told = json.loads(self.index.repo.read(_PINNED) or b"")
            return str(told["commit"]) if told["data"] == self.data.repo.place.url else None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    # The index

    def read_card(self, name: str) -> str | None:
        """Return a file of text of the index repo; None where there is none."""
        if self.index.find(name) is None:
            return None
        data = self.index.repo.read(name)
        return None if data is None else data.decode("utf-8", "replace")

    def send_index(self, files: Mapping[str, bytes], pinned: HubPlace) -> str | None:
        """Send the files of an index in the place of those that are there, all at once.

        Returns
        -------
        str or None
            The commit; None for a bucket.

        Raises
        ------
        WriteError
            The Hub refused, or could not be reached.
        """
        told = {"data": self.data.repo.place.url, "commit": pinned.revision}
        wanted = {**files, _PINNED: json.dumps(told).encode()}
        for path in self.index.paths("data"):
            if _INDEX.fullmatch(path) and path not in wanted:
                self.index.delete(path)
        for path, data in wanted.items():
            if self._has(path, data):
                continue
            file = f"{self.index.folder}/{uuid.uuid4().hex}"
            with open(file, "wb") as out:
                out.write(data)
            self.index.put(path, file, len(data), owned=True, waits=True)
        self.index.flush()
        self.index.check(list(wanted), self.index.commit)
        return self.index.commit

    def _has(self, path: str, data: bytes) -> bool:
        """Return whether a file of the index is there already, by its checksum."""
        there = self.index.find(path)
        if not isinstance(there, Stored) or there.size != len(data):
            return False
        # That of git for small files, that of git-lfs for others.
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
        return not there.sums.isdisjoint([blob.hexdigest(), hashlib.sha256(data).hexdigest()])
