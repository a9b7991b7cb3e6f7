"""What was pushed before, kept in the repo: which store is made from what."""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import asdict, dataclass

from hfzarr.errors import WriteError
from hfzarr.store.hub.outbox import Outbox

__all__ = ["PushRecord", "Recorded"]

_PATH = ".hfzarr/pushed.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A store that was pushed whole.

    Attributes
    ----------
    path
        Its folder in the repo.
    digest
        Of what it was made from, and how.
    files, nbytes
        What it became.
    """

    path: str
    digest: str
    files: int
    nbytes: int


class PushRecord:
    """The record of a repo. It is sent behind the stores that it tells of.

    Parameters
    ----------
    outbox
        What is on its way to the repo.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._known: dict[str, Recorded] = {}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read what was recorded; what is unsound in it counts as not recorded."""
        if self._outbox.find(_PATH) is None:
            return
        for line in (self._outbox.repo.read(_PATH) or b"").splitlines():
            try:
                one = Recorded(**json.loads(line))
            except (ValueError, TypeError, RecursionError):
                continue
            self._known[one.path] = one

    def stands(self, path: str, digest: str) -> bool:
        """Return whether a store was made from the same, and all of it is there."""
        known = self._known.get(path)
        if known is None or known.digest != digest:
            return False
        return (known.files, known.nbytes) == self._usage(path)

    def _usage(self, path: str) -> tuple[int, int]:
        found = [self._outbox.find(one) for one in self._outbox.paths(path)]
        sizes = [one.size for one in found if one is not None]
        return len(sizes), sum(sizes)

    def add(self, path: str, digest: str) -> None:
        """Record a store, all of whose files were put into the outbox."""
        files, nbytes = self._usage(path)
        one = Recorded(path=path, digest=digest, files=files, nbytes=nbytes)
        with self._lock:
            self._note(one, waits=False)

    def _note(self, one: Recorded, *, waits: bool) -> None:
        """Have a line in the file, behind what was said of the same store before."""
        self._known[one.path] = one
        if self._outbox.extend(_PATH, _line(one)):
            return
        text = b"".join(_line(each) for each in self._known.values())
        file = f"{self._outbox.folder}/{uuid.uuid4().hex}"
        try:
            with open(file, "wb") as out:
                out.write(text)
        except OSError as error:
            raise WriteError(f"cannot write {file!r}: {error}") from error
        self._outbox.put(_PATH, file, len(text), owned=True, waits=waits)

    def drop(self, path: str) -> None:
        """Take back what was said of a store that is about to be written anew.

        It arrives no later than the first file that is another: a push that ends before all are
        there leaves nothing that vouches for a mixture.
        """
        with self._lock:
            if path in self._known:
                self._note(Recorded(path=path, digest="", files=0, nbytes=0), waits=True)


def _line(one: Recorded) -> bytes:
    return json.dumps(asdict(one)).encode() + b"\n"
