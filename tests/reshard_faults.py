"""Runs of `hfzarr.reshard` that are killed, and what must be true of their targets afterwards.

As a program it is a server: for each job, a line of JSON, it forks a process that has everything
imported already, so that a test can afford to kill a hundred of them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from google_crc32c import value as crc32c

# Here, not in each process that is forked: the package imports its rooms when they are asked for.
from hfzarr.faces.reshard import reshard
from hfzarr.run.journal import Journal
from hfzarr.run.repack import Repack
from hfzarr.run.transcode import Transcode
from hfzarr.store.sink import WORK

SHAPE = (16, 64, 64)
#: What makes each route of the array ``a`` of `write_source`; the rechunk has four passes.
ROUTES: dict[str, dict[str, Any]] = {
    "repack": {"shard": {"z": 2, "y": 64, "x": 32}},
    "transcode": {
        "inner_chunk": {"z": 4, "y": 16, "x": 32},
        "shard": {"z": 4, "y": 32, "x": 64},
        "codecs": "zstd:1",
    },
    "rechunk": {
        "inner_chunk": {"z": 16, "y": 4, "x": 4},
        "shard": {"z": 16, "y": 16, "x": 16},
        "max_memory": "50 kB",
    },
}
#: Calls of the system after each of which the process may die.
CALLS = ("writev", "write", "replace", "unlink", "rmdir", "mkdir", "fsync", "truncate")


# --- a source, and what it holds -----------------------------------------------------------------


def pixels() -> np.ndarray:
    """Return what the array ``a`` holds; a part of it is the fill value."""
    data = np.random.default_rng(4).integers(0, 500, SHAPE).astype("uint16")
    data[4:6] = 0
    return data


def write_source(folder: Path, route: str = "repack", arrays: str = "ab") -> Path:
    """Write a group of arrays, with a file beside them, chunked for a route."""
    chunks = (1, 64, 64) if route == "rechunk" else (1, 32, 32)
    root = zarr.create_group(folder, attributes={"title": "a test"})
    root.create_array("a", data=pixels(), chunks=chunks, dimension_names=("z", "y", "x"))
    if "b" in arrays:
        root.create_array("b", data=np.arange(40.0), chunks=(4,))
    (folder / "notes.txt").write_text("by hand")
    return folder


def check_complete(target: Any, arrays: str = "ab", **options: Any) -> None:
    """Check that a target holds what `write_source` writes."""
    root = zarr.open_group(target, mode="r", use_consolidated=True, **options)
    assert dict(root.attrs) == {"title": "a test"}
    assert sorted(root.array_keys()) == list(arrays)
    np.testing.assert_array_equal(root["a"][...], pixels())
    if "b" in arrays:
        np.testing.assert_array_equal(root["b"][...], np.arange(40.0))


def check_finished(target: Path) -> None:
    """Check that a target is complete, and nothing of the run is left in it."""
    check_complete(target)
    assert (target / "notes.txt").read_text() == "by hand"
    assert not (target / WORK).exists()
    check_shards(target)


def check_unfinished(target: Path) -> None:
    """Check that a target is no store, or complete; files at their keys are whole anyway."""
    check_shards(target)
    if (target / "zarr.json").exists():
        check_complete(target)
        return
    with pytest.raises(FileNotFoundError):
        zarr.open(target, mode="r")
    # What is no store yet may hold arrays, but only such as are complete.
    for name, data in (("a", pixels()), ("b", np.arange(40.0))):
        if (target / name / "zarr.json").exists():
            np.testing.assert_array_equal(zarr.open_array(target / name, mode="r")[...], data)


def check_shards(target: Path) -> None:
    """Check that the index of every shard is whole, and that no byte lies outside what it says."""
    for file in shards_of(target):
        check_shard(file)


def shards_of(target: Path) -> list[Path]:
    """Return the files of the arrays."""
    return sorted(
        file for name in "ab" for file in (target / name).rglob("c/**/*") if _is_file(file)
    )


def _is_file(path: Path) -> bool:
    # A run that goes on meanwhile may take a file away.
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def check_shard(file: Path) -> None:
    data = file.read_bytes()
    for count in range(1, (len(data) - 4) // 16 + 1):
        size = 16 * count + 4
        tail = data[-size:-4]
        if int(crc32c(tail)).to_bytes(4, "little") == data[-4:]:
            entries = np.frombuffer(tail, "<u8").reshape(-1, 2)
            present = entries[(entries != np.iinfo("u8").max).any(axis=1)]
            assert present[:, 1].sum() + size == len(data), file
            assert sorted(present[:, 0]) == sorted(_ends_before(present)), file
            return
    raise AssertionError(f"no whole index in {file}")


def _ends_before(entries: np.ndarray) -> list[int]:
    """Return where chunks begin that lie end to end, in the order of their offsets."""
    sizes = entries[np.argsort(entries[:, 0]), 1].tolist()
    return [0, *itertools.accumulate(sizes)][:-1]


# --- what a run did ------------------------------------------------------------------------------


def begun_twice(notes: Path) -> list[str]:
    """Return the tasks that were begun although they were recorded as done."""
    done: set[str] = set()
    again = []
    for line in notes.read_text().splitlines():
        what, _, task = line.partition(" ")
        if what == "done":
            done.add(task)
        elif task in done:
            again.append(task)
    return again


def counted(notes: Path, what: str) -> Counter[str]:
    """Return how often each task was begun, or recorded as done."""
    lines = [line.split(" ") for line in notes.read_text().splitlines()]
    return Counter(task for kind, task in lines if kind == what)


@contextlib.contextmanager
def noted(notes: Path, delay: float = 0.0) -> Iterator[None]:
    """Note in a file which tasks begin and which are recorded; each takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Repack, Transcode):
            patch.setattr(kind, "run", _noting_run(kind.run, notes, delay))
        patch.setattr(Journal, "add", _noting_add(Journal.add, notes))
        yield


def _noting_run(real: Callable[..., Any], notes: Path, delay: float) -> Callable[..., Any]:
    def run(self: Any, step: int, number: int) -> Any:
        _note(notes, f"begun {self._job.task(step, number)}")
        time.sleep(delay)
        return real(self, step, number)

    return run


def _noting_add(real: Callable[..., Any], notes: Path) -> Callable[..., Any]:
    def add(self: Any, done: Any) -> None:
        real(self, done)
        _note(notes, f"done {done.task}")

    return add


def _note(notes: Path, line: str) -> None:
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        _WRITE(file, f"{line}\n".encode())
    finally:
        os.close(file)


# The real one, also where calls are counted: notes are no part of the run.
_WRITE = os.write


@contextlib.contextmanager
def at_task(number: int, action: Callable[[], object]) -> Iterator[None]:
    """Do something when so many tasks have begun, before the next one reads."""
    counter = itertools.count()

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: Any, step: int, n: int) -> Any:
            if next(counter) == number:
                action()
            return real(self, step, n)

        return run

    with pytest.MonkeyPatch.context() as patch:
        for kind in (Repack, Transcode):
            patch.setattr(kind, "run", wrapped(kind.run))
        yield


class Stop(Exception):
    """What a test ends a run with."""


def stop() -> None:
    raise Stop


def stopped_after(number: int, source: Any, target: Any, **options: Any) -> None:
    """Let a run end after so many tasks, one after the other."""
    with at_task(number, stop), pytest.raises(Stop):
        reshard(source, target, **{"client": "serial", "progress": False, **options})


# --- a server of processes to kill ---------------------------------------------------------------


class Runner:
    """Carries out jobs in processes of their own, of which each can be killed."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, **job: Any) -> dict[str, Any]:
        """Carry out a job.

        ``args`` go to `reshard`. It is killed ``kill_after`` seconds after as many tasks were begun
        as ``kill_begun`` says, by the notes; or ``kill_at`` a call of the system, counted from 0,
        of which it does a part. No file may have more bytes than ``largest``. Return what it did:
        ``tasks``, ``calls``, or ``error``; nothing, if it was killed.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=20)
        self._server.stdout.close()


def _serve() -> None:
    # What a run would import later, so that each that is forked gets on with its work at once.
    import dask.threaded  # noqa: F401

    import hfzarr.store.bridge  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        reply, answer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reply)
            _carry_out(job, answer)
        os.close(answer)
        if job.get("kill_begun") is not None:
            _wait_for_begun(pid, Path(job["notes"]), job["kill_begun"])
            time.sleep(job["kill_after"])
            # Not waited for yet, so its number is still its own.
            os.kill(pid, signal.SIGKILL)
        with os.fdopen(reply) as file:
            text = file.read()
        _, status = os.waitpid(pid, 0)
        if not text and status != signal.SIGKILL:
            text = json.dumps({"error": ["crash", f"status {status}"]})
        print(text or "{}", flush=True)


def _wait_for_begun(pid: int, notes: Path, count: int) -> None:
    while counted(notes, "begun").total() < count:
        # Whether it ended, without taking its number away from it.
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.005)


def _carry_out(job: dict[str, Any], answer: int) -> None:
    calls = _Calls(job.get("kill_at"))
    try:
        calls.watch()
        if job.get("largest") is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"], resource.RLIM_INFINITY))
        with noted(Path(job["notes"]), job.get("delay", 0.0)):
            done = reshard(**job["args"], progress=False)
        reply: dict[str, Any] = {"tasks": done.tasks, "calls": calls.count}
    except BaseException as error:
        reply = {"error": [type(error).__name__, str(error)]}
    _WRITE(answer, json.dumps(reply).encode())
    os._exit(0)


class _Calls:
    """Counts calls that change a disk, and kills the process at one of them."""

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self._last = last
        self._lock = threading.Lock()

    def watch(self) -> None:
        for name in CALLS:
            setattr(os, name, self._counting(getattr(os, name), name))

    def _counting(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                here, self.count = self.count, self.count + 1
                if here == self._last:
                    if name in ("writev", "write"):
                        # A write that was under way: a part of it is there.
                        data = b"".join(args[1]) if name == "writev" else bytes(args[1])
                        _WRITE(args[0], data[: len(data) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call


if __name__ == "__main__":
    _serve()
