"""What opening and reading ask of a store, counted request by request."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from counting import CountingStore
from stores import CHUNKS, pixels, write_cf, write_geo, write_image, write_plate


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
    store = CountingStore(store, 0.01)
    open_tree(store, group="deep/cells")
    # The root of a Zarr v2 store is looked at once more.
    assert store.requests <= (4 if zarr_format == 3 else 7)
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
        {"A/1": 2, "B/2": 3},
        delay=0.01,
        zarr_format=zarr_format,
        consolidated=False,
    )
    opener(store)
    # The plate, its wells, their fields, the levels; the format of v2 costs one more.
    assert store.rounds == (4 if zarr_format == 3 else 5)
    assert store.most >= 10
    assert not store.listings
    assert not store.chunks
    assert len(store.gets) == len(set(store.gets))


@openers
def test_unconsolidated_group_costs_two_rounds_a_depth(opener):
    """A plain group is listed, and its members read, all at once."""
    store = counting(write_cf, delay=0.01, consolidated=False)
    opener(store, consolidated=False, decode_times=False, drop_variables=["time", "lat", "lon"])
    assert store.rounds == 3
    assert store.most >= 8
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
