"""Threads and event loops that read one store at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from zarr.storage import LocalStore, MemoryStore

from counting import CountingStore
from stores import pixels, write_cf, write_image, write_plate


def open_one(target, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


def open_tree(target, **options) -> xr.DataTree:
    return xr.open_datatree(target, engine="hfzarr", **options)


@pytest.fixture(params=["folder", "counting", "memory"])
def readable(request, tmp_path):
    store = {"folder": LocalStore(tmp_path / "a"), "memory": MemoryStore()}.get(
        request.param, MemoryStore()
    )
    write_image(store, shards=(1, 4, 32, 32))
    return CountingStore(store, 0.001) if request.param == "counting" else store


def test_load_async(readable):
    dataset = open_one(readable)

    async def both():
        parts = [dataset.isel(y=slice(i, i + 9)).load_async() for i in range(0, 20, 5)]
        return await asyncio.gather(dataset.copy().load_async(), *parts)

    whole, *parts = asyncio.run(both())
    xr.testing.assert_identical(whole, open_one(readable).load())
    for i, part in zip(range(0, 20, 5), parts, strict=True):
        np.testing.assert_array_equal(part.image, pixels()[:, :, i : i + 9])


@pytest.mark.parametrize(
    "indexers",
    [
        {"x": [3, 1, 40], "c": 1},
        {"y": slice(None, None, -2)},
        {"y": xr.DataArray([1, 2], dims="p"), "x": xr.DataArray([30, 4], dims="p")},
        {"c": 0, "z": 0, "y": 0, "x": 0},
    ],
)
def test_load_async_of_a_selection(readable, indexers):
    lazy = open_one(readable).image.isel(indexers)
    loaded = asyncio.run(lazy.load_async())
    np.testing.assert_array_equal(loaded, xr.DataArray(pixels(), dims=list("czyx")).isel(indexers))


def test_load_async_of_a_plate():
    store = write_plate(MemoryStore())
    loaded = asyncio.run(open_one(store).load_async())
    xr.testing.assert_identical(loaded, open_one(store).load())


def test_loading_inside_a_running_loop(readable):
    """A notebook has a running event loop: plain loading must work there, too."""

    async def load():
        return open_one(readable).load()

    np.testing.assert_array_equal(asyncio.run(load()).image, pixels())


def test_many_threads(readable):
    dataset = open_one(readable)

    def read(i: int) -> bool:
        y, x = slice(i % 7, i % 7 + 20), slice(i % 11, i % 11 + 30)
        return np.array_equal(dataset.image[:, :, y, x], pixels()[:, :, y, x])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(64)))


def test_many_threads_open_at_once(readable):
    barrier = threading.Barrier(6)

    def read(_: int) -> np.ndarray:
        barrier.wait()
        return open_tree(readable)["1/image"].values

    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(read, range(6)):
            np.testing.assert_array_equal(found, pixels(1))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_load_async_of_decoded_variables(zarr_format):
    store = write_cf(MemoryStore(), zarr_format=zarr_format)
    loaded = asyncio.run(open_one(store).load_async())
    xr.testing.assert_identical(loaded, open_one(store).load())


BEGIN = """
import sys, warnings, hfzarr
warnings.simplefilter("ignore")
found = hfzarr.scan(sys.argv[1], thumbnails=True, progress=False)
print(len(found), found.to_arrow()["thumbnail"].null_count)
"""


def test_threads_that_are_the_first_to_import_anything(realdata):
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    folder = realdata / "ngio_v04" / "images"
    # By chance: where dask was imported by halves, it failed in three of six processes on 3.12.
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", BEGIN, str(folder)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(len(list(folder.iterdir()))), "0"]
