"""Items of an iterator, made ahead on a thread."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Ahead"]

T = TypeVar("T")

#: Seconds that the garbage collector waits for the thread; it might hold a lock that is needed.
_PATIENCE = 5.0


class Ahead(Iterator[T]):
    """An iterator over the items of another, which a thread of its own runs ahead.

    Asking for an item says that the one before is done with. So at most ``alive`` items exist at
    a time, the one being made and the one in use among them. What the iterator raises is raised
    here, in its place. Closing, or dropping, the object ends the thread.

    Parameters
    ----------
    items
        What is iterated; it is closed on the thread, if it can be.
    alive
        Items that may exist at a time: at least 1.

    Examples
    --------
    >>> list(Ahead(iter("abc"), alive=2))
    ['a', 'b', 'c']
    """

    def __init__(self, items: Iterator[T], *, alive: int) -> None:
        self._line = _Line[T](alive)
        # The thread must not know this object, or it would never be dropped.
        thread = threading.Thread(
            target=_run, args=(items, self._line), name="hfzarr-ahead", daemon=True
        )
        self._process = os.getpid()
        self._dropped = weakref.finalize(self, _shut, self._line, thread, self._process, _PATIENCE)
        self._thread = thread
        self._taken = False
        thread.start()

    def __next__(self) -> T:
        if self._taken:
            self._line.free()
        self._taken = True
        return self._line.take()

    def close(self) -> None:
        """End the thread once the item that it makes is made, and drop all items."""
        if self._dropped.detach():
            _shut(self._line, self._thread, self._process, None)


class _Line(Generic[T]):
    """Where the thread lays items down, and how many more it may make."""

    def __init__(self, alive: int) -> None:
        self._changed = threading.Condition()
        self._ready: deque[T] = deque()
        self._free = alive
        self._ended = False
        self._error: BaseException | None = None

    def may_make(self) -> bool:
        """Wait until another item may be made; return False if none is wanted any more."""
        with self._changed:
            while not (self._free or self._ended):
                self._changed.wait()
            self._free -= 1
            return not self._ended

    def lay(self, item: T) -> None:
        with self._changed:
            if not self._ended:
                self._ready.append(item)
                self._changed.notify_all()

    def free(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def take(self) -> T:
        with self._changed:
            while not (self._ready or self._ended):
                self._changed.wait()
            if self._ready:
                return self._ready.popleft()
            error, self._error = self._error, None
        try:
            raise StopIteration if error is None else error
        finally:
            # The error's traceback holds this frame, which must not hold the error.
            del error

    def end(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def drop(self) -> None:
        with self._changed:
            self._ended = True
            self._ready.clear()
            self._changed.notify_all()


def _run(items: Iterator[T], line: _Line[T]) -> None:
    try:
        while line.may_make():
            line.lay(next(items))
    except StopIteration:
        line.end()
    except BaseException as error:
        line.end(error)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _shut(line: _Line[T], thread: threading.Thread, process: int, patience: float | None) -> None:
    # A forked child has no such thread, and perhaps a lock that nobody will ever release.
    if process != os.getpid():
        return
    line.drop()
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join(patience)
