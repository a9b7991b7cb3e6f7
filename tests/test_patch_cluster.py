"""Patches on a cluster of two processes: the same pixels, also if one of them is killed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from zarr.storage import LocalStore, WrapperStore

from stores import SHAPE, pixels, write_image

distributed = pytest.importorskip("distributed", reason="needs dask's distributed scheduler")

SIZE = {"z": 2, "y": 8, "x": 8}
COUNT = 2 * 4 * 6


class NotingStore(WrapperStore):
    """Takes its time, and notes in a file of each process which keys were asked for."""

    def __init__(self, store, folder, delay=0.0) -> None:
        super().__init__(store)
        self.folder, self.delay = folder, delay

    async def get(self, key, prototype, byte_range=None):
        if "/c/" in key:
            time.sleep(self.delay)
            with Path(self.folder, str(os.getpid())).open("a") as notes:
                notes.write(f"{key}\n")
        return await self._store.get(key, prototype, byte_range)


def notes_of(folder) -> dict[str, Counter]:
    return {file.name: Counter(file.read_text().split()) for file in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    write_image(LocalStore(folder), labels=(), levels=1)
    return folder


@pytest.fixture(scope="module")
def client():
    # Two threads of one process would share what they decode: one thread shows that tasks do.
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "30s"}),
        distributed.LocalCluster(
            processes=True,
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def check(patches) -> None:
    assert patches.shape == (COUNT, SHAPE[0], 2, 8, 8)
    for i, found in enumerate(patches.values):
        z, y, x = (int(patches[f"{dim}_start"][i]) for dim in "zyx")
        np.testing.assert_array_equal(found, pixels()[:, z : z + 2, y : y + 8, x : x + 8])


def open_one(target) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr")


@pytest.mark.parametrize("max_memory", ["1 MB", "40 kB"])
def test_the_same_result(client, image, max_memory):
    patches = open_one(image).hfzarr.patches(SIZE, max_memory=max_memory)
    check(patches.compute().image)


def test_a_dask_dataset_and_one_in_memory(client, image):
    dataset = open_one(image)
    for source in (dataset.chunk({"y": 12, "x": -1}), dataset.load()):
        check(source.hfzarr.patches(SIZE, max_memory="40 kB").compute().image)


def test_a_process_decodes_a_chunk_once_for_all_its_tasks(client, image, tmp_path):
    dataset = open_one(NotingStore(LocalStore(image), tmp_path))
    patches = dataset.hfzarr.patches({"y": 8, "x": 8}, stride=4, max_memory="300 kB")
    assert patches.image.data.npartitions > 3
    patches.compute()
    notes = notes_of(tmp_path)
    assert str(os.getpid()) not in notes
    assert set().union(*notes.values()) == {
        f"0/c/{'/'.join(map(str, index))}" for index in np.ndindex(2, 2, 2, 3)
    }
    for of_process in notes.values():
        assert set(of_process.values()) == {1}


def test_a_killed_worker_loses_nothing(client, image, tmp_path):
    dataset = open_one(NotingStore(LocalStore(image), tmp_path, delay=0.06))
    patches = dataset.hfzarr.patches(SIZE, max_memory=1)
    assert patches.image.data.npartitions == COUNT
    running = patches.persist()
    futures = distributed.futures_of(running)
    before = client.run(os.getpid)
    deadline = time.monotonic() + 30
    while sum(future.done() for future in futures) < COUNT // 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(next(iter(before.values())), signal.SIGKILL)
    assert not all(future.done() for future in futures)
    check(running.compute().image)
    # One of them is another process now, or gone.
    assert set(client.run(os.getpid).values()) != set(before.values())
