"""What opening and reading ask of a store, counted request by request."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
import zarr
from stores import CHUNKS, pixels, write_cf, write_geo, write_image, write_plate
from zarr.storage import LocalStore, MemoryStore, WrapperStore

METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata")


class CountingStore(WrapperStore):
    """Notes each request, how many were under way at once, and in how many rounds they came.

    A round begins when a request finds no other under way.
    """

    def __init__(self, store, delay: float = 0.0) -> None:
        super().__init__(store)
        self.delay = delay
        self.forget()

    def forget(self) -> None:
        self.gets: list[str] = []
        self.listings: list[str] = []
        self.rounds = self.most = self.now = 0

    @property
    def requests(self) -> int:
        return len(self.gets) + len(self.listings)

    @property
    def chunks(self) -> list[str]:
        """Keys asked for that are no metadata."""
        return [key for key in self.gets if key.rpartition("/")[2] not in METADATA]

    async def _wait(self) -> None:
        self.rounds += self.now == 0
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.delay)
        self.now -= 1

    async def get(self, key, prototype, byte_range=None):
        self.gets.append(key)
        await self._wait()
        return await self._store.get(key, prototype, byte_range)

    async def exists(self, key):
        self.gets.append(key)
        return await self._store.exists(key)

    async def list_dir(self, prefix):
        self.listings.append(prefix)
        await self._wait()
        async for name in self._store.list_dir(prefix):
            yield name


def counting(write, *args, delay: float = 0.0, **kwargs) -> CountingStore:
    store = MemoryStore()
    write(store, *args, **kwargs)
    return CountingStore(store, delay)


def open_one(target, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


def open_tree(target, **options) -> xr.DataTree:
    return xr.open_datatree(target, engine="hfzarr", **options)


openers = pytest.mark.parametrize("opener", [open_one, open_tree])
formats = pytest.mark.parametrize("zarr_format", [2, 3])


# --- opening -------------------------------------------------------------------------------------


@openers
@formats
def test_consolidated_pyramid_costs_two_requests(opener, zarr_format):
    store = counting(write_image, zarr_format=zarr_format, labels=("a", "b"))
    opener(store)
    assert store.requests <= 2
    assert store.rounds == 1
    assert not store.chunks


@openers
@formats
def test_consolidated_plate_costs_two_requests(opener, zarr_format):
    store = counting(write_plate, zarr_format=zarr_format, labels=("a",))
    opener(store)
    assert store.requests <= 2
    assert not store.chunks


@openers
@pytest.mark.parametrize("assets", ["groups", "arrays", "paths"])
def test_consolidated_geo_pyramid_costs_two_requests(opener, assets):
    store = counting(write_geo, assets)
    opener(store)
    assert store.requests <= 2
    assert not store.chunks


@formats
def test_part_of_a_consolidated_store(zarr_format):
    """The root is asked too, as its consolidated metadata covers the part."""
    store = counting(write_image, zarr_format=zarr_format)
    open_one(store, group="labels/nuclei")
    assert store.requests <= 4
    assert store.rounds == 1
    assert not store.chunks


@formats
def test_part_that_is_consolidated_by_itself(zarr_format):
    store = MemoryStore()
    zarr.create_group(store, zarr_format=zarr_format)
    write_image(store, "deep/cells", zarr_format=zarr_format)
    store = CountingStore(store)
    open_tree(store, group="deep/cells")
    assert store.requests <= 4
    assert store.rounds == 1


# Rounds of an unconsolidated image: the root, its levels. Only a Zarr v2 store needs one more, to
# find out which format it has. The tree goes on to the labels and to their levels.
@pytest.mark.parametrize(
    ("opener", "zarr_format", "options", "rounds"),
    [
        (open_one, 3, {}, 2),
        (open_one, 3, {"zarr_format": 3}, 2),
        (open_one, 2, {}, 3),
        (open_one, 2, {"consolidated": False}, 2),
        (open_tree, 3, {}, 4),
        (open_tree, 2, {}, 5),
        (open_tree, 2, {"zarr_format": 2, "consolidated": False}, 4),
    ],
)
def test_unconsolidated_pyramid_costs_a_round_a_depth(opener, zarr_format, options, rounds):
    names = ("a", "b", "c", "d")
    store = counting(
        write_image, delay=0.01, zarr_format=zarr_format, labels=names, consolidated=False
    )
    opener(store, **options)
    assert store.rounds == rounds
    assert not store.listings
    assert not store.chunks
    assert len(store.gets) == len(set(store.gets))
    # The levels of all four label images are under way at once.
    assert store.most >= (3 if opener is open_one else 12)


@openers
@formats
def test_unconsolidated_plate_costs_a_round_a_depth(opener, zarr_format):
    store = counting(
        write_plate,
        {f"{row}/{column}": 2 for row in "AB" for column in "123"},
        delay=0.01,
        zarr_format=zarr_format,
        consolidated=False,
    )
    opener(store)
    # The plate, its wells, their fields, the levels; the format of v2 costs one more.
    assert store.rounds == (4 if zarr_format == 3 else 5)
    assert store.most >= 24
    assert not store.listings
    assert not store.chunks
    assert len(store.gets) == len(set(store.gets))


@openers
def test_unconsolidated_group_costs_two_rounds_a_depth(opener):
    """A plain group is listed, and its members read, all at once."""
    store = counting(write_cf, delay=0.01, consolidated=False)
    opener(store, consolidated=False, decode_times=False)
    assert store.rounds <= 3 + 1  # and one for the coordinates of its dimensions
    assert len(store.gets) == len(set(store.gets))


def test_unconsolidated_tree_of_groups():
    """Brothers are visited together: rounds grow with depth, not with breadth."""

    def write(store):
        root = zarr.create_group(store)
        for name in "abcde":
            for below in "fgh":
                root.create_array(f"{name}/{below}/v", shape=(2,), dtype="i4", chunks=(2,))

    store = counting(write, delay=0.01)
    tree = open_tree(store, consolidated=False)
    assert len(tree.leaves) == 15
    # The root, then two rounds (listing, documents) for each of three depths.
    assert store.rounds == 1 + 2 * 3
    assert store.most >= 15
    assert len(store.listings) == len(set(store.listings))


@openers
@formats
def test_opening_reads_only_what_xarray_indexes(opener, zarr_format):
    store = counting(write_cf, zarr_format=zarr_format)
    opener(store)
    # Dimension coordinates become pandas indexes; decoding times looks at their ends.
    assert {key.split("/")[0] for key in store.chunks} <= {"time", "lat", "lon"}


def test_without_indexes_nothing_is_read():
    store = counting(write_cf)
    open_one(store, create_default_indexes=False, decode_times=False)
    assert not store.chunks


def test_dropped_variables_are_not_read():
    store = counting(write_cf, consolidated=False)
    open_one(store, consolidated=False, drop_variables=["time", "lat", "lon"])
    assert not store.chunks


def test_looking_reads_nothing():
    store = counting(write_image)
    tree, dataset = open_tree(store), open_one(store, level=-1)
    store.forget()
    repr(dataset)
    dataset._repr_html_()
    repr(tree)
    tree._repr_html_()
    dataset.hfzarr.diagnose()
    dataset.hfzarr.chunk("shard")
    _ = dataset.isel(y=slice(3, 9)).nbytes, dataset.image.encoding
    dataset.sel(y=slice(1, 5), c="GFP").transpose("x", ...)
    assert store.requests == 0


def test_dask_graphs_are_built_without_reading():
    store = counting(write_image)
    lazy = open_one(store, chunks={}).image.sum()
    assert not store.chunks
    assert int(lazy) == int(pixels().sum())


# --- reading -------------------------------------------------------------------------------------


@formats
def test_one_chunk_is_one_object(zarr_format):
    store = counting(write_image, zarr_format=zarr_format)
    image = open_one(store).image
    store.forget()
    part = image.isel({dim: slice(n, 2 * n) for dim, n in zip("zyx", CHUNKS[1:], strict=True)})
    np.testing.assert_array_equal(part[1], pixels()[1, 2:4, 16:32, 16:32])
    assert store.gets == ["0/1/1/1/1" if zarr_format == 2 else "0/c/1/1/1/1"]


def test_one_pixel_is_one_chunk():
    store = counting(write_image)
    image = open_one(store).image
    store.forget()
    assert int(image[1, 3, 31, 47]) == pixels()[1, 3, 31, 47]
    assert store.gets == ["0/c/1/1/1/2"]


def touched(*parts) -> set[str]:
    return {f"0/c/{c}/{z}/{y}/{x}" for c in parts[0] for z in parts[1] for y in parts[2] for x in
            parts[3]}  # fmt: skip


@pytest.mark.parametrize(
    ("window", "chunks"),
    [
        ({"c": 0, "z": 0, "y": slice(15, 17), "x": slice(40, 48)}, touched("0", "0", "01", "2")),
        ({"c": 1, "z": slice(1, 3), "y": 0, "x": 47}, touched("1", "01", "0", "2")),
        ({"c": [1, 0], "z": 0, "y": 5, "x": [0, 47, 1]}, touched("01", "0", "0", "02")),
        ({"c": 0, "z": 0, "y": 0, "x": slice(None, None, -1)}, touched("0", "0", "0", "012")),
        ({"c": 0, "z": 0, "y": 0, "x": slice(0, 48, 33)}, touched("0", "0", "0", "02")),
        ({"c": 0, "z": 0, "y": slice(4, 4)}, set()),
    ],
)
def test_a_window_reads_its_chunks_once(window, chunks):
    store = counting(write_image)
    image = open_one(store).image
    store.forget()
    expected = xr.DataArray(pixels(), dims=image.dims).isel(window)
    np.testing.assert_array_equal(image.isel(window), expected)
    assert sorted(store.gets) == sorted(chunks)


def test_points_read_their_chunks_once():
    store = counting(write_image)
    image = open_one(store).image
    store.forget()
    y, x = (xr.DataArray(i, dims="point") for i in ([0, 1, 31, 30], [0, 1, 47, 46]))
    found = image.isel(c=0, z=0, y=y, x=x)
    np.testing.assert_array_equal(found, pixels()[0, 0, y, x])
    assert sorted(store.gets) == ["0/c/0/0/0/0", "0/c/0/0/1/2"]


def test_all_chunks_of_a_window_are_under_way_at_once():
    store = counting(write_image, delay=0.01)
    image = open_one(store).image
    store.forget()
    image.load()
    assert len(store.gets) == 2 * 2 * 2 * 3
    assert store.most >= 12


def test_a_shard_is_read_by_parts():
    store = counting(write_image, shards=(2, 4, 32, 48))
    image = open_one(store).image
    store.forget()
    np.testing.assert_array_equal(image[0, 0, 0], pixels()[0, 0, 0])
    assert set(store.gets) == {"0/c/0/0/0/0"}
    first = len(store.gets)
    assert first <= 1 + 3  # the index, and the three inner chunks of a row
    store.forget()
    image[0, 0, 31].load()
    assert len(store.gets) < first or first == 2  # the index is kept


def test_a_window_of_a_plate_reads_one_field():
    store = counting(write_plate)
    image = open_one(store).image
    store.forget()
    part = image.isel(well=2, field=0, c=0, z=0, y=slice(0, 4), x=slice(0, 4))
    assert part[1, 1].item() == pixels()[0, 0, 1, 1]
    assert store.gets == ["B/1/0/0/c/0/0/0/0"]
    store.forget()
    assert not image.isel(well=2, field=1).any()
    assert store.gets == []


# --- threads and event loops ---------------------------------------------------------------------


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
    np.testing.assert_array_equal(loaded, xr.DataArray(pixels(), dims="czyx").isel(indexers))


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


# --- imports -------------------------------------------------------------------------------------

HEAVY = ["zarr", "dask", "distributed", "datasets", "huggingface_hub", "PIL", "numcodecs",
         "aiohttp", "s3fs", "rioxarray", "pyproj", "scipy"]  # fmt: skip


def run(code: str, *args: str) -> str:
    """Run Python code in a fresh process and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light():
    """Only what comes after `import xarray` counts: xarray brings some of them itself."""
    code = f"""
import sys, xarray
before = set(sys.modules)
import hfzarr
new = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(sorted(new & set({[*HEAVY, "fsspec"]!r})))
"""
    assert run(code) == "[]"


def test_listing_engines_is_light():
    code = f"""
import sys, xarray
xarray.backends.list_engines()
before = set(sys.modules)
assert xarray.backends.list_engines()["hfzarr"].guess_can_open("a.ozx")
print(sorted((set(sys.modules) - before) & set({HEAVY!r})))
"""
    assert run(code) == "[]"


def test_import_changes_no_configuration():
    code = """
import json, os, warnings, logging
import xarray, zarr, numpy
def state():
    return repr((zarr.config.config, dict(os.environ), warnings.filters, numpy.geterr(),
                 dict(xarray.get_options()), logging.getLoggerClass(), logging.root.handlers))
before = state()
import hfzarr
assert state() == before
print("same")
"""
    assert run(code) == "same"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_opening_a_folder_needs_no_zarr(tmp_path, zarr_format):
    """Images and plates in a folder are opened and read without zarr-python and fsspec."""
    write_image(LocalStore(tmp_path / "a"), zarr_format=zarr_format)
    write_plate(LocalStore(tmp_path / "p"), zarr_format=zarr_format)
    code = """
import sys, xarray as xr
before = set(sys.modules)
for folder in sys.argv[1:]:
    xr.open_dataset(folder, engine="hfzarr")
    tree = xr.open_datatree(folder, engine="hfzarr")
new = {name for name in set(sys.modules) - before}
print(sorted(name for name in new if name.startswith("fsspec.implementations")
             or name in ("dask", "aiohttp", "s3fs", "huggingface_hub", "datasets", "PIL")))
"""
    assert run(code, str(tmp_path / "a"), str(tmp_path / "p")) == "[]"
