"""Files on their way to the Hub: collected here, sent in batches, named by commits."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from hfzarr.errors import WriteError
from hfzarr.store.hub.repo import HubRepo, Parcel, Stored
from hfzarr.store.sink import Bytes

__all__ = ["Outbox"]

#: Bytes that are collected before they are sent; twice that may lie on the disk.
BATCH_BYTES = 2 * 2**30
# The Hub is asked about so many files in one call.
_BATCH_FILES = 256
# A commit of more operations may take longer than the Hub waits.
_COMMIT_FILES = 500
# What lies outside of git is sent at once, the rest within the commit.
_COMMIT_INLINE = 32 * 2**20
# Seconds: work that a kill may undo; what was sent is not sent again even then.
_COMMIT_EVERY = 300.0


class Outbox:
    """Collects files for one repo or bucket and sends them in the order in which they came.

    What is put in later never arrives earlier: each commit holds all that came before some moment,
    and nothing that came after it. Several threads may put files in; the one that makes a batch
    full sends it while the others go on, and wait once the next is full, too.

    Parameters
    ----------
    repo
        Where they go.
    folder
        Where they are collected.
    batch_bytes
        How many bytes are collected before they are sent.

    Attributes
    ----------
    tell
        Called with the bytes of each batch that was sent.
    commit
        The last commit; None where there is none yet, and for buckets.
    commits
        How many commits were made.
    sent_files, sent_bytes
        What was sent or found to be there already.
    """

    def __init__(
        self,
        repo: HubRepo,
        folder: str,
        *,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self.repo = repo
        self.folder = folder
        self.commit: str | None = None
        self.commits = self.sent_files = self.sent_bytes = 0
        self._batch_bytes = batch_bytes
        self.tell: Callable[[int], object] = lambda nbytes: None
        self._lock = threading.Lock()
        self._sending = threading.RLock()
        # None stands for a file that is to be deleted.
        self._queue: dict[str, Parcel | None] = {}
        self._sent: dict[str, Parcel | None] = {}
        self._there: dict[str, Stored] = {}
        self._folders: dict[str, set[str]] = {}
        self._staged = 0
        self._committed_at = time.monotonic()

    def load(self) -> None:
        """Ask what is there already."""
        self.commit = self.repo.head()
        self._there = {}
        for path, stored in self.repo.listing(self.commit).items():
            self._note(path, stored)

    def _note(self, path: str, stored: Stored) -> None:
        self._there[path] = stored
        while path:
            folder, _, name = path.rpartition("/")
            names = self._folders.setdefault(folder, set())
            if name in names:
                break
            names.add(name)
            path = folder

    # What there will be

    def find(self, path: str) -> Parcel | Stored | None:
        """Return a file as it will be when all has arrived; None where there will be none."""
        with self._lock:
            return self._find(path)

    def _find(self, path: str) -> Parcel | Stored | None:
        for some in (self._queue, self._sent):
            if path in some:
                return some[path]
        return self._there.get(path)

    def paths(self, folder: str) -> list[str]:
        """Return every file below a folder, or at its place; sorted."""
        with self._lock:
            found = set(self._below(folder))
            start = f"{folder}/" if folder else ""
            for some in (self._sent, self._queue):
                found.update(path for path in some if path.startswith(start) or path == folder)
            return sorted(path for path in found if self._find(path) is not None)

    def _below(self, folder: str) -> Iterator[str]:
        if folder in self._there:
            yield folder
        for name in self._folders.get(folder, ()):
            yield from self._below(f"{folder}/{name}" if folder else name)

    # Putting in

    def put(self, path: str, file: str, size: int, *, owned: bool, waits: bool = False) -> None:
        """Put a file in; one that is `owned` is deleted here once it was sent.

        One that `waits` sends no batch: it is to arrive with others that come after it.

        Raises
        ------
        WriteError
            The batch that it made full could not be sent.
        """
        with self._lock:
            self._drop(path)
            self._queue[path] = Parcel(path=path, file=file, size=size, owned=owned)
            self._staged += size
        if not waits:
            self.send()

    def extend(self, path: str, data: Bytes) -> bool:
        """Add to a file that was put in and waits still; False where it waits no longer."""
        with self._lock:
            parcel = self._queue.get(path)
            if parcel is None:
                return False
            with open(parcel.file, "ab") as out:
                out.write(data)
            # It says what came before it, so that it goes to the end.
            del self._queue[path]
            parcel.size += len(data)
            self._staged += len(data)
            self._queue[path] = parcel
            return True

    def delete(self, path: str) -> None:
        """Have a file deleted there, or not sent at all."""
        with self._lock:
            self._drop(path)
            if path in self._there or path in self._sent:
                self._queue[path] = None

    def _drop(self, path: str) -> None:
        parcel = self._queue.pop(path, None)
        if parcel is not None:
            self._staged -= parcel.size
        _forget(parcel)

    # Sending

    def send(self, *, everything: bool = False) -> None:
        """Send what was collected, if it is enough for a batch.

        Raises
        ------
        WriteError
            The Hub refused, or could not be reached.
        """
        if not (everything or self._is_full()):
            return
        with self._sending:
            with self._lock:
                if not (everything or self._is_full()):
                    return
                taken, self._queue = self._queue, {}
                self._staged = 0
                before = {path: self._sent[path] for path in taken if path in self._sent}
                self._sent.update(taken)
            parcels = [one for one in taken.values() if one is not None]
            try:
                self.repo.upload(parcels)
            except BaseException:
                self._take_back(taken, before)
                raise
            for old in before.values():
                _forget(old)
            if not self.repo.place.versioned:
                # What was sent to a bucket has its name at once.
                with self._lock:
                    for one in parcels:
                        self._note(one.path, Stored(size=one.size))
            nbytes = sum(one.size for one in parcels)
            self.sent_files += len(parcels)
            self.sent_bytes += nbytes
            self.tell(nbytes)
            if self._is_due():
                self._commit()

    def _is_full(self) -> bool:
        return self._staged >= self._batch_bytes or len(self._queue) >= _BATCH_FILES

    def _is_due(self) -> bool:
        parcels = [one for one in self._sent.values() if one is not None]
        inline = sum(one.size for one in parcels if not self.repo.has_all_of(one))
        waited = time.monotonic() - self._committed_at
        return (
            len(self._sent) >= _COMMIT_FILES
            or inline >= min(_COMMIT_INLINE, self._batch_bytes)
            or waited > _COMMIT_EVERY
        )

    def _take_back(self, taken: dict[str, Parcel | None], before: dict[str, Parcel | None]) -> None:
        with self._lock:
            for path, one in taken.items():
                self._sent.pop(path, None)
                if path in self._queue:
                    _forget(one)
            self._sent.update(before)
            self._queue = {**taken, **self._queue}
            self._staged = sum(one.size for one in self._queue.values() if one is not None)

    def flush(self) -> None:
        """Send all that was put in, and commit it.

        Raises
        ------
        WriteError
            The Hub refused, or could not be reached.
        """
        with self._sending:
            self.send(everything=True)
            self._commit()

    def _commit(self) -> None:
        with self._lock:
            sent = dict(self._sent)
        if sent:
            parcels = [one for one in sent.values() if one is not None]
            gone = [path for path, one in sent.items() if one is None and path in self._there]
            if parcels or gone:
                commit = self.repo.commit(parcels, gone, _message(parcels, gone))
                self.commit = commit or self.commit
                self.commits += 1
            with self._lock:
                self._settle(sent)
        self._committed_at = time.monotonic()

    def _settle(self, sent: dict[str, Parcel | None]) -> None:
        for path, one in sent.items():
            if path in self._sent and self._sent[path] is one:
                del self._sent[path]
            if one is None:
                self._there.pop(path, None)
                folder, _, name = path.rpartition("/")
                self._folders.get(folder, set()).discard(name)
            else:
                self._note(path, Stored(size=one.size))

    def holds(self, folders: Sequence[str], commit: str) -> bool:
        """Return whether a commit has the very files that some folders have now."""
        found = self.repo.listing(commit)
        for folder in folders:
            paths = self.paths(folder)
            start = f"{folder}/"
            if {path for path in found if path == folder or path.startswith(start)} != set(paths):
                return False
            for path in paths:
                wanted, there = self.find(path), found[path]
                if not isinstance(wanted, Stored) or wanted.size != there.size:
                    return False
                if wanted.sums.isdisjoint(there.sums):
                    return False
        return True

    def check(self, folders: Sequence[str], commit: str | None = None) -> None:
        """Raise unless all that was put into some folders is there.

        Parameters
        ----------
        folders
            The folders.
        commit
            In which commit; None for a bucket.

        Raises
        ------
        WriteError
            Something is missing or has another size: somebody else writes there, or a file of the
            repo says that it is to be left out (``.gitignore``).
        """
        found = self.repo.listing(commit)
        for path in (path for folder in folders for path in self.paths(folder)):
            wanted, there = self.find(path), found.get(path)
            if wanted is not None and (there is None or there.size != wanted.size):
                size = "is not there" if there is None else f"has {there.size:,} bytes there"
                raise WriteError(
                    f"{self.repo.place.url}: {path!r} was sent with {wanted.size:,} bytes, and "
                    f"{size}. Does somebody else write to it, or its .gitignore leave it out? "
                    "Push again: what is missing is sent."
                )


def _forget(parcel: Parcel | None) -> None:
    if parcel is not None and parcel.owned:
        with contextlib.suppress(OSError):
            os.unlink(parcel.file)


def _message(parcels: list[Parcel], gone: list[str]) -> str:
    parts = [f"{verb} {len(some):,} files" for verb, some in (("Add", parcels), ("delete", gone))]
    told = [text for text, some in zip(parts, (parcels, gone), strict=True) if some]
    text = " and ".join(told)
    return text[0].upper() + text[1:]
