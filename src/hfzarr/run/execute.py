"""Where tasks run: one after the other, on threads, or as a dask graph anywhere."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from hfzarr.errors import TargetError, WriteError
from hfzarr.run.pool import workers

__all__ = ["Executor", "choose_executor", "graph_of", "narrowed"]

T = TypeVar("T")
R = TypeVar("R")
Each = Callable[[R], None]

# Threads that a worker may have: a cluster that grows with its tasks has none at first.
_UNKNOWN_WORKER = 8
# Seconds: how often a cluster is asked what is finished, and how long it may be without workers.
_SHORT_PAUSE, _LONG_PAUSE = 0.005, 0.5
_PATIENCE = 300.0


class Executor(Protocol):
    """Calls a function on many items."""

    @property
    def width(self) -> int:
        """Calls under way at once in one process."""

    @property
    def in_process(self) -> bool:
        """Whether all calls are made in this process."""

    def run(self, call: Callable[[T], R], items: Sequence[T], each: Each[R], *, name: str) -> None:
        """Call a function on every item, and ``each`` on every result, in any order.

        The first error is raised, after which no further call is begun.
        """


@dataclass(frozen=True, slots=True)
class Serial:
    """One call after the other: what every other way must equal."""

    width: int = 1
    in_process: bool = True

    def run(self, call: Callable[[T], R], items: Sequence[T], each: Each[R], *, name: str) -> None:
        """Call a function on every item."""
        for item in items:
            each(call(item))


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of this process. The calling thread only waits, so that it can be interrupted."""

    width: int
    in_process: bool = True

    def run(self, call: Callable[[T], R], items: Sequence[T], each: Each[R], *, name: str) -> None:
        """Call a function on every item."""
        left = iter(items)
        with ThreadPoolExecutor(self.width, thread_name_prefix=name) as pool:
            running: set[Future[R]] = set()
            try:
                while True:
                    for item in left:
                        running.add(pool.submit(call, item))
                        if len(running) > self.width:
                            break
                    if not running:
                        return
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        each(future.result())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class DaskThreads:
    """dask's threaded scheduler, in this process."""

    width: int
    in_process: bool = True

    def run(self, call: Callable[[T], R], items: Sequence[T], each: Each[R], *, name: str) -> None:
        """Call a function on every item."""
        import dask.threaded

        stopped = threading.Event()

        def and_tell(item: T) -> None:
            if not stopped.is_set():
                each(call(item))

        graph, keys = graph_of(and_tell, items, name)
        # A pool of our own, so that nothing goes on once this returns, whichever way it does.
        with ThreadPoolExecutor(self.width, thread_name_prefix=name) as pool:
            try:
                dask.threaded.get(graph, keys, pool=pool)
            finally:
                stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)


class Distributed:
    """A ``distributed`` cluster.

    Parameters
    ----------
    client
        The user's client.
    """

    in_process = False

    def __init__(self, client: Any) -> None:
        self._client = client
        #: Threads of the worker that has most.
        self.width = max(_worker_threads(client), default=_UNKNOWN_WORKER)

    def run(self, call: Callable[[T], R], items: Sequence[T], each: Each[R], *, name: str) -> None:
        """Call a function on every item, as tasks that the dashboard shows under ``name``."""
        from distributed import as_completed

        graph, keys = graph_of(call, items, name)
        with _translated():
            futures = self._client.get(graph, keys, sync=False)
            try:
                for future in self._finished(as_completed(futures)):  # type: ignore[no-untyped-call]
                    if future.status == "cancelled":
                        raise _gone("its futures were cancelled")
                    each(future.result())
            except BaseException:
                with contextlib.suppress(Exception):
                    self._client.cancel(futures)
                raise

    def _finished(self, waiting: Any) -> Iterator[Any]:
        """Yield futures as they are finished; raise where nobody is left to work on the others."""
        # Where no worker has come yet, jobs may wait in a queue: that is no reason to give up.
        pause, seen = _SHORT_PAUSE, math.inf
        while waiting.count():
            finished = waiting.next_batch(block=False)
            yield from finished
            pause = _SHORT_PAUSE if finished else min(2 * pause, _LONG_PAUSE)
            if finished or (pause == _LONG_PAUSE and _worker_threads(self._client)):
                seen = time.monotonic()
            elif time.monotonic() - seen > _PATIENCE:
                raise _gone(f"it has had no workers for {_PATIENCE:.0f} seconds")
            time.sleep(pause)


def _worker_threads(client: Any) -> list[int]:
    """Return the threads of each worker."""
    try:
        # Newer schedulers tell of five workers only, unless asked for all.
        info = client.scheduler_info(n_workers=-1)
    except TypeError:
        info = client.scheduler_info()
    return [int(worker["nthreads"]) for worker in info["workers"].values()]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Say in our own words that workers died, or that the cluster is gone."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise WriteError(
            f"workers died again and again over the same task ({error}). If they ran out of "
            "memory, give less max_memory= (it counts for each worker). Start the same run again: "
            "it does only what is missing."
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise _gone(str(error) or type(error).__name__) from error
    except Exception as error:
        # distributed has it since 2024.5, in a module of its own.
        if type(error).__name__ in ("ClosedClientError", "FutureCancelledError"):
            raise _gone(str(error)) from error
        raise


def _gone(why: str) -> WriteError:
    return WriteError(
        f"the cluster is gone, or was closed, before all was written ({why}). Start the same run "
        "again: it does only what is missing."
    )


def graph_of(
    call: Callable[[T], R], items: Sequence[T], name: str
) -> tuple[dict[Any, Any], list[Any]]:
    """Return calls of a function as a dask graph, and the keys of the results.

    Each item is a task; the function itself is a node of the graph, so that it is there once.
    """
    token = uuid.uuid4().hex[:12]
    function = f"{name}-plan-{token}"
    keys = [(f"{name}-{token}", number) for number in range(len(items))]
    graph: dict[Any, Any] = {function: _Held(call)}
    graph.update(
        (key, (_call, function, _Held(item))) for key, item in zip(keys, items, strict=True)
    )
    return graph, keys


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """A value that dask must not look into."""

    value: Any


def _call(function: _Held, item: _Held) -> Any:
    return function.value(item.value)


def narrowed(executor: Executor, width: int) -> Executor:
    """Return an executor with no more than some calls at once, where that is ours to say."""
    if isinstance(executor, (Threads, DaskThreads)) and width < executor.width:
        return replace(executor, width=width)
    return executor


def choose_executor(client: Any, width: int | None = None) -> Executor:
    """Return what a user names as ``client=``.

    Parameters
    ----------
    client
        None or ``"threads"`` for threads of this process, ``"serial"``, ``"dask"`` for dask's
        threaded scheduler, or a ``distributed.Client``.
    width
        Calls at once in this process; by default as many as there are processors.

    Raises
    ------
    TargetError
        It is none of these.
    """
    width = workers() if width is None else width
    if client is None or client == "threads":
        return Threads(width)
    if client == "serial":
        return Serial()
    if client == "dask":
        return DaskThreads(width)
    if hasattr(client, "scheduler_info") and hasattr(client, "get"):
        return Distributed(client)
    raise TargetError(
        "client is None or 'threads' (threads of this process), 'serial', 'dask' (dask's threaded "
        f"scheduler) or a distributed.Client, not {client!r}"
    )
