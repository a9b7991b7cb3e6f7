"""Writing a store to the Hub: files are made here, and sent in batches."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NoReturn, Self

from hfzarr.errors import WriteError
from hfzarr.store.folder_sink import FolderFile, FolderSink
from hfzarr.store.hub.outbox import Outbox
from hfzarr.store.hub.view import HubView
from hfzarr.store.sink import WORK, Bytes, check_key, write_error

__all__ = ["HubSink"]

# Intermediates: read again by the same run, and by nobody else.
_STAYS = f"{WORK}/scratch/"


class HubSink:
    """Writes keys of a store that lies in a folder of a repo or a bucket.

    A file is made whole on this machine and put into the outbox, which sends it, and deletes it
    here, whenever a batch is full. The journal of a run goes the same way, behind the files that it
    tells of, so that any machine can go on with the run.

    Parameters
    ----------
    outbox
        What is on its way to the repo.
    path
        The folder in it.
    """

    def __init__(self, outbox: Outbox, path: str) -> None:
        self._outbox = outbox
        self._path = path
        self._stage = FolderSink(f"{outbox.folder}/{uuid.uuid4().hex}", sync=False, direct=False)
        self._grown = ""

    def __repr__(self) -> str:
        return f"HubSink({self.url!r})"

    def __reduce__(self) -> NoReturn:
        raise WriteError(
            f"{self.url}: a push collects files on one machine, and cannot be sent to another"
        )

    @property
    def url(self) -> str:
        """The folder as an ``hf://`` URL."""
        return f"{self._outbox.repo.place.url}/{self._path}"

    @property
    def local(self) -> bool:
        """True: files are made on this machine, and only then sent."""
        return True

    def create(self, key: str) -> HubFile:
        """Return a new file, which is put into the outbox when it is whole."""
        return HubFile(self, check_key(key))

    def put(self, key: str, data: Bytes) -> None:
        """Put a small file into the outbox."""
        with self.create(key) as file:
            file.write(data)

    def append(self, key: str, data: Bytes) -> bool:
        """Add to a file that has not been sent; from then on, another one beside it grows."""
        name = self._grown
        if not name or not self._outbox.extend(self._there(name), data):
            # The rest of its name is that of this machine, which is nobody's business.
            folder, slash, old = key.rpartition("/")
            stem, suffix = os.path.splitext(old)
            new = f"{stem.partition('-')[0]}-{uuid.uuid4().hex}{suffix}"
            self._grown = f"{folder}{slash}{new}"
            self.put(self._grown, data)
        return True

    def session(self, name: str) -> HubSink:
        """Return itself: another run has an outbox of its own."""
        return self

    def delete(self, prefix: str) -> None:
        """Delete a file, or all below a folder."""
        if not prefix:
            names = self.source().list_dir("")
            for name in names:
                if name != WORK:
                    self.delete(name)
            return
        self._stage.delete(prefix)
        for path in self._outbox.paths(self._there(check_key(prefix))):
            self._outbox.delete(path)

    def source(self) -> HubView:
        """Return the same store, for reading: as it will be when all has arrived."""
        return HubView(self._outbox, self._path, self._stage.root)

    def lock(self) -> AbstractContextManager[None]:
        """Lock nothing: the Hub has no locks."""
        return contextlib.nullcontext()

    def _there(self, key: str) -> str:
        return f"{self._path}/{key}" if self._path else key

    def keep(self, key: str, size: int) -> None:
        """Put a file that was made into the outbox."""
        if key.startswith(_STAYS):
            return
        # Under a name of its own, as a file of the same key may be made before this one is sent.
        file = f"{self._outbox.folder}/{uuid.uuid4().hex}"
        try:
            os.replace(f"{self._stage.root}/{key}", file)
        except OSError as error:
            raise write_error(self.url, key, error) from error
        self._outbox.put(self._there(key), file, size, owned=True)


class HubFile:
    """A file that is put into the outbox when it is whole."""

    def __init__(self, sink: HubSink, key: str) -> None:
        self._sink = sink
        self._key = key
        self._file = FolderFile(sink._stage, key, direct=False)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    def write(self, data: Bytes | Sequence[Bytes]) -> None:
        """Add bytes, or the bytes of many buffers one after the other."""
        self._file.write(data)

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)
        if kind is None:
            self._sink.keep(self._key, self._file.size)
