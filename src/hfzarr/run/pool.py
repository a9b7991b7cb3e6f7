"""The threads that fetch and decode, one pool for the whole process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Generic, TypeVar

__all__ = ["for_each", "for_each_waiting", "limited", "workers"]

T = TypeVar("T")
_END: Any = object()

_MAX_WORKERS = 32
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()
_limit = threading.local()


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let `for_each` use no more than some threads, where this thread calls it inside the block.

    For tasks of which several run at once already.
    """
    before = getattr(_limit, "threads", None)
    _limit.threads = threads
    try:
        yield
    finally:
        _limit.threads = before


def workers() -> int:
    """Return how many threads the pool may have."""
    # As many as this process may use: of a node of a cluster, or of a container, a part.
    # The package first: of threads that begin with different modules of it, one would find a half.
    import_module("dask")
    from dask.system import CPU_COUNT

    return min(_MAX_WORKERS, CPU_COUNT)


def for_each(work: Callable[[T], None], items: Iterable[T], *, width: int) -> None:
    """Call ``work`` on every item, on up to ``width`` threads, this one among them.

    The calling thread takes items too and waits only for calls that are already under way. So
    it gets done when the pool is busy, or when it is itself a thread of the pool.

    Parameters
    ----------
    work
        Called once for each item.
    items
        Iterated lazily, by one thread at a time.
    width
        Threads worth having; no more than `workers` are used.

    Raises
    ------
    Exception
        The first error of ``work`` or ``items``; no further item is begun after it.

    Examples
    --------
    >>> done = []
    >>> for_each(done.append, range(4), width=2)
    >>> sorted(done)
    [0, 1, 2, 3]
    """
    feed = _Feed(work, items)
    limit = getattr(_limit, "threads", None)
    width = min(width, workers()) if limit is None else min(width, workers(), limit)
    helpers = _start(feed.drain, width - 1)
    try:
        feed.drain()
    finally:
        feed.stopped = True
        running = [helper for helper in helpers if not helper.cancel()]
        wait(running)
    for helper in running:
        helper.result()


def for_each_waiting(work: Callable[[T], Any], items: Iterable[T], *, width: int = 16) -> None:
    """Call ``work`` on every item, many at once, where each call waits for something far away.

    Parameters
    ----------
    work
        Called once for each item.
    items
        All of them are taken at once.
    width
        How many calls are under way.
    """
    todo = list(items)
    if len(todo) < 2:
        for item in todo:
            work(item)
        return
    with ThreadPoolExecutor(min(width, len(todo)), thread_name_prefix="hfzarr-wait") as pool:
        for _ in pool.map(work, todo):
            pass


class _Feed(Generic[T]):
    """An iterator that several threads empty."""

    def __init__(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        self.stopped = False
        self._work = work
        self._items = iter(items)
        self._lock = threading.Lock()

    def drain(self) -> None:
        work, items, lock = self._work, self._items, self._lock
        try:
            while True:
                with lock:
                    if self.stopped:
                        return
                    item = next(items, _END)
                if item is _END:
                    return
                work(item)
        except BaseException:
            self.stopped = True
            raise


def _start(call: Callable[[], None], count: int) -> list[Future[None]]:
    if count < 1:
        return []
    pool, started = _shared_pool(), []
    try:
        for _ in range(count):
            started.append(pool.submit(call))
    except RuntimeError:
        # The interpreter is shutting down: the calling thread does what is left.
        pass
    return started


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(workers(), thread_name_prefix="hfzarr")
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_forget_pool)
        return _pool


def _forget_pool() -> None:
    """Drop the pool in a forked child, which has its threads' queue but not its threads."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()
