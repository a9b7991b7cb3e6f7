"""Rewriting a store on a cluster of processes of which some are killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from hfzarr.errors import HfzarrError, ReadError, WriteError
from hfzarr.faces.reshard import plan_reshard, reshard
from hfzarr.store.sink import WORK
from reshard_faults import (
    ROUTES,
    check_finished,
    check_unfinished,
    pixels,
    shards_of,
    write_source,
)

distributed = pytest.importorskip("distributed", reason="needs dask's distributed scheduler")
routes = pytest.mark.parametrize("route", ROUTES)


class SlowStore(WrapperStore):
    """Takes its time over chunks, and notes in a file of each process which were asked for."""

    def __init__(self, store, folder, delay=0.0) -> None:
        super().__init__(store)
        self.folder, self.delay = folder, delay

    async def get(self, key, prototype, byte_range=None):
        if "/c/" in key:
            time.sleep(self.delay)
            with Path(self.folder, str(os.getpid())).open("a") as notes:
                notes.write(f"{key}\n")
        return await self._store.get(key, prototype, byte_range)


class HereOnly(WrapperStore):
    """A store that only the process that made it can see."""

    def __init__(self, store, home=None) -> None:
        super().__init__(store)
        self.home = os.getpid() if home is None else home

    async def get(self, key, prototype, byte_range=None):
        store = self._store if os.getpid() == self.home else MemoryStore()
        return await store.get(key, prototype, byte_range)

    async def getsize(self, key):
        store = self._store if os.getpid() == self.home else MemoryStore()
        return await store.getsize(key)

    async def exists(self, key):
        return os.getpid() == self.home and await self._store.exists(key)


@contextlib.contextmanager
def cluster(workers: int = 2, **options: Any) -> Iterator[Any]:
    settings = {
        "distributed.comm.timeouts.connect": "30s",
        # After this the cluster looks once more for a worker that was killed. It would take for
        # lost the one that started since, where a second test kills that one meanwhile.
        "distributed.deploy.lost-worker-timeout": "1h",
    }
    with (
        dask.config.set(settings | options.pop("config", {})),
        distributed.LocalCluster(
            processes=True,
            n_workers=workers,
            threads_per_worker=1,
            # Any port that is free: two clusters may be here at once.
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            **options,
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client():
    with cluster() as client:
        yield client


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out.zarr"


def journaled(out: Path) -> int:
    """Return how many tasks are recorded; one whose result was lost may be so twice."""
    lines = [file.read_text().split("\n") for file in out.glob(f"{WORK}/journal-*")]
    return len({json.loads(line)["task"] for some in lines for line in some if line.endswith("}")})


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@routes
def test_the_same_result(client, tmp_path, out, route):
    source = write_source(tmp_path / "in.zarr", route)
    done = reshard(source, out, **ROUTES[route], client=client, progress=False)
    check_finished(out)
    assert done.tasks == done.plan.tasks
    assert reshard(source, out, **ROUTES[route], client=client, progress=False).tasks == 0


def test_names_of_tasks_on_the_dashboard(client, tmp_path, out):
    source = write_source(tmp_path / "in.zarr")
    reshard(source, out, **ROUTES["repack"], client=client, progress=False)

    def prefixes(dask_scheduler) -> list[str]:
        return list(dask_scheduler.task_prefixes)

    assert {"hfzarr-reshard", "hfzarr-verify"} <= set(client.run_on_scheduler(prefixes))


@routes
def test_a_killed_worker(client, tmp_path, out, route):
    source = write_source(tmp_path / "in.zarr", route)
    (tmp_path / "notes").mkdir()
    store = SlowStore(LocalStore(source), tmp_path / "notes", delay=0.02)
    before = client.run(os.getpid)

    def kill() -> None:
        wait_for(lambda: journaled(out) >= 4)
        os.kill(next(iter(before.values())), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    done = reshard(store, out, **ROUTES[route], client=client, progress=False)
    killer.join()
    assert set(client.run(os.getpid).values()) != set(before.values())
    assert done.tasks == done.plan.tasks
    # A store behind zarr-python's interface has no files that could be copied beside the arrays.
    (out / "notes.txt").write_text("by hand")
    check_finished(out)
    client.wait_for_workers(2, timeout=30)


def test_workers_that_are_killed_over_every_task(tmp_path, out):
    source = write_source(tmp_path / "in.zarr")
    config = {"distributed.scheduler.allowed-failures": 0}
    with cluster(1, config=config) as client, _killing_workers(client, out):
        with pytest.raises(WriteError, match="workers died again and again") as caught:
            reshard(
                SlowStore(LocalStore(source), tmp_path, 0.02),
                out,
                **ROUTES["repack"],
                client=client,
                progress=False,
            )
        assert "Start the same run again" in str(caught.value)
    check_unfinished(out)
    assert not (out / "zarr.json").exists()
    before = journaled(out)
    assert before > 0
    done = reshard(SlowStore(LocalStore(source), tmp_path), out, **ROUTES["repack"], progress=False)
    assert done.tasks == done.plan.tasks - before
    np.testing.assert_array_equal(zarr.open_array(out / "a", mode="r")[...], pixels())


@contextlib.contextmanager
def _killing_workers(client, out: Path) -> Iterator[None]:
    """Kill the worker as soon as a task was done."""

    def kill() -> None:
        pids = client.run(os.getpid)
        wait_for(lambda: journaled(out) >= 2)
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


def test_a_cluster_that_is_closed(tmp_path, out):
    source = write_source(tmp_path / "in.zarr")
    with cluster(1) as client:

        def close() -> None:
            wait_for(lambda: journaled(out) >= 2)
            client.cluster.close()

        closer = threading.Thread(target=close)
        closer.start()
        try:
            with pytest.raises(HfzarrError, match="tart the same run again"):
                reshard(
                    SlowStore(LocalStore(source), tmp_path, 0.02),
                    out,
                    **ROUTES["repack"],
                    client=client,
                    progress=False,
                )
        finally:
            closer.join()
    check_unfinished(out)
    assert not (out / "zarr.json").exists()


@routes
def test_workers_that_cannot_see_the_source(client, tmp_path, out, route):
    source = write_source(tmp_path / "in.zarr", route)
    store = HereOnly(LocalStore(source))
    with pytest.raises(ReadError, match="every worker must reach it"):
        reshard(store, out, **ROUTES[route], client=client, progress=False)
    assert shards_of(out) == []
    check_unfinished(out)
    assert not (out / "zarr.json").exists()
    reshard(store, out, **ROUTES[route], progress=False)
    np.testing.assert_array_equal(zarr.open_array(out / "a", mode="r")[...], pixels())


@routes
def test_an_error_of_a_worker(client, tmp_path, out, route):
    source = write_source(tmp_path / "in.zarr", route)
    chunk = sorted((source / "a" / "c" / "2").rglob("*/0"))[-1]
    data = chunk.read_bytes()
    chunk.write_bytes(b"")
    with pytest.raises(ReadError, match="array 'a', shard 'a/c/"):
        reshard(source, out, **ROUTES[route], client=client, progress=False)
    check_unfinished(out)
    assert not (out / "zarr.json").exists()
    chunk.write_bytes(data)
    reshard(source, out, **ROUTES[route], client=client, progress=False, resume=False)
    check_finished(out)


def test_a_run_begun_anew_while_workers_still_carry_out_the_last(client, tmp_path, out):
    """The process that asked is gone, so is its lock; its tasks are not, for a while."""
    source = write_source(tmp_path / "in.zarr")
    store = SlowStore(LocalStore(source), tmp_path, 0.1)
    wishes = {"shard": {"z": 4, "y": 64, "x": 64}}

    def interrupt() -> None:
        wait_for(lambda: journaled(out) >= 2)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        reshard(store, out, **wishes, client=client, progress=False)
    interrupter.join()
    check_unfinished(out)
    other = {"shard": {"z": 16, "y": 64, "x": 64}, "resume": False, "verify": False}
    fast = SlowStore(LocalStore(source), tmp_path)
    done = reshard(fast, out, **other, progress=False)
    assert done.plan.arrays[0].spec.files_after == 1
    # Longer than a task of the first run may take.
    time.sleep(2)
    np.testing.assert_array_equal(zarr.open_array(out / "a", mode="r")[...], pixels())
    assert len([file for file in shards_of(out) if file.is_relative_to(out / "a")]) == 1
    assert not (out / WORK).exists()


def test_plan_of_a_cluster(client, tmp_path, out):
    source = write_source(tmp_path / "in.zarr")
    assert plan_reshard(source, out, client=client).width == 1
    shutil.rmtree(source)
