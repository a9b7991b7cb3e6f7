"""`Dataset.hfzarr.patches`: the right pixels under the right coordinates, read lazily and once."""

from __future__ import annotations

from collections import Counter

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from zarr.storage import MemoryStore

from counting import CountingStore
from hfzarr.errors import NodeNotFoundError, TargetError
from hfzarr.faces.regions import StoredRegion, cuts_of, region_of
from hfzarr.run.tasks import run_serial, run_threaded
from patch_strategies import Drawn, check, datasets, sliced
from stores import pixels, write_cf, write_image

PIXELS = np.arange(6 * 8, dtype="f4").reshape(6, 8)


def small(**coords) -> xr.Dataset:
    return xr.Dataset({"a": (("y", "x"), PIXELS)}, coords=coords)


def open_one(store, **options) -> xr.Dataset:
    return xr.open_dataset(store, engine="hfzarr", **options)


# --- pixels --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=120)
@given(datasets())
def test_dask_equals_slicing(drawn: Drawn):
    """Memory, dask, stores of both engines and decoded ones; whole, sliced, and of any shape."""
    lazy = drawn.patches()
    for name, variable in drawn.dataset.data_vars.items():
        if set(variable.dims) & set(drawn.size):
            # Chunked along `patch`, and along nothing else.
            assert set(lazy[name].data.numblocks[1:]) <= {1}
            assert lazy[name].dtype == variable.dtype
    with dask.config.set(scheduler="sync"):
        computed = lazy.compute()
    check(drawn.dataset, computed)


@settings(deadline=None, max_examples=30)
@given(datasets())
def test_serial_and_threads_equal_dask(drawn: Drawn):
    lazy = drawn.patches()
    patches, job = lazy.encoding["hfzarr_patches"]
    whole = lazy.compute()
    for run in (run_serial, run_threaded):
        for group, arrays in run(job):
            part = slice(group.first, group.stop)
            for name, found in zip(patches.arrays.names, arrays, strict=True):
                np.testing.assert_array_equal(whole[name].values[part], found)


@settings(deadline=None, max_examples=30)
@given(datasets())
def test_windows_are_where_they_say(drawn: Drawn):
    """Starts are those of the axis, all combinations of them, each once."""
    patches = drawn.patches()
    wanted = {}
    for dim, size in drawn.size.items():
        n, about = drawn.dataset.sizes[dim], patches[f"{dim}_start"].attrs
        assert (about["length"], about["size"], about["stride"], about["edge"]) == (
            n, size, drawn.stride[dim], drawn.edge,
        )  # fmt: skip
        assert patches[f"{dim}_start"].dtype == np.int64
        starts = patches[f"{dim}_start"].values
        assert starts.min() == 0
        assert starts.max() + (size if drawn.edge != "pad" else 1) <= n
        wanted[dim] = len(np.unique(starts))
    rows = zip(*(patches[f"{dim}_start"].values.tolist() for dim in drawn.size), strict=True)
    assert len(set(rows)) == patches.sizes["patch"] == np.prod(list(wanted.values()))
    assert patches.patch.values.tolist() == list(range(patches.sizes["patch"]))


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("engine", ["hfzarr", "zarr"])
def test_absent_chunks_hold_the_fill_value(tmp_path, missing, zarr_format, engine):
    group = zarr.create_group(tmp_path, zarr_format=zarr_format)
    names = {"dimension_names": ("y", "x")} if zarr_format == 3 else {}
    attrs = {"_ARRAY_DIMENSIONS": ["y", "x"]} if zarr_format == 2 else {}
    array = group.create_array(
        "a", shape=(10, 9), chunks=(4, 3), dtype="i2", fill_value=7, attributes=attrs, **names
    )
    if not missing:
        array[4:8, 3:6] = 1
    dataset = xr.open_dataset(
        tmp_path, engine=engine, consolidated=False, mask_and_scale=False, chunks=None
    )
    patches = dataset.hfzarr.patches({"y": 3, "x": 4}, edge="pad", pad_value=-1).compute()
    wanted = [
        sliced(array[...], start, (3, 4), -1)
        for start in zip(patches.y_start.values, patches.x_start.values, strict=True)
    ]
    np.testing.assert_array_equal(patches.a, wanted)
    assert (patches.a == -1).any()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_decoded_variables(zarr_format):
    """Packed and masked floats, times, durations, text: cut as xarray decodes them."""
    dataset = open_one(write_cf(MemoryStore(), zarr_format=zarr_format))
    patches = dataset.hfzarr.patches({"time": 2, "lat": 3}, stride=1, edge="shift").compute()
    loaded = dataset.load()
    for i, (time, lat) in enumerate(
        zip(patches.time_start.values, patches.lat_start.values, strict=True)
    ):
        part = loaded.isel(time=slice(time, time + 2), lat=slice(lat, lat + 3))
        for name in ("air", "flags", "lag", "site", "code", "lat_bounds"):
            np.testing.assert_array_equal(patches[name][i], part[name])
            assert patches[name].dtype == part[name].dtype
    assert np.isnan(patches.air).any()
    assert patches.crs.dims == ()
    assert patches.air.attrs == loaded.air.attrs


@pytest.mark.parametrize(
    "data",
    [
        np.array(["a", "bé", "", "ccc", "d"]),
        np.array(["a", "bé", "", "ccc", "d"], dtype=object),
        np.array(["a", "bé", "", "ccc", "d"], dtype=np.dtypes.StringDType())
        if hasattr(np.dtypes, "StringDType")
        else np.zeros(5, "S3"),
        np.array([b"a", b"", b"ccc", b"d", b"e"]),
        np.arange(5) * (1 + 2j),
        np.arange(5).astype("m8[ns]"),
        np.array([(1, 2.0)] * 5, dtype="i4,f4"),
    ],
    ids=lambda data: data.dtype.kind,
)
def test_other_data_types(data):
    dataset = xr.Dataset({"a": ("x", data)})
    found = dataset.hfzarr.patches({"x": 2}, edge="pad").compute().a
    assert found.dtype == data.dtype
    assert found.values.reshape(-1)[:5].tolist() == data.tolist()
    if data.dtype.kind == "m":
        assert np.isnat(found.values[2, 1])
    elif data.dtype.kind in "TUO":
        assert found.values[2, 1] == ""
    else:
        assert found.values[2, 1] == np.zeros((), data.dtype)


@pytest.mark.parametrize(
    ("pad", "wanted"), [(0, 0), (-3, -3), (np.nan, np.nan), ({"a": 5}, 5), ({}, 0)], ids=str
)
def test_what_lies_outside(pad, wanted):
    patches = small().hfzarr.patches({"y": 4, "x": 5}, edge="pad", pad_value=pad).compute()
    assert patches.a.values[-1, -1, -1] == pytest.approx(wanted, nan_ok=True)
    np.testing.assert_array_equal(patches.a[-1, :2, :3], PIXELS[4:, 5:])


def test_a_dimension_of_length_zero_stays():
    dataset = xr.Dataset({"a": (("x", "c"), np.zeros((5, 0)))})
    assert dataset.hfzarr.patches({"x": 2}).compute().a.shape == (2, 2, 0)


def test_names_that_are_no_text():
    dataset = xr.Dataset({7: ((0, 1), PIXELS)})
    patches = dataset.hfzarr.patches({1: 4}).compute()
    np.testing.assert_array_equal(patches[7][1], PIXELS[:, 4:])


def test_a_patch_can_be_cut_again():
    patches = small(y=np.arange(6) / 2).hfzarr.patches({"y": 4, "x": 4})
    again = patches.isel(patch=1).hfzarr.patches({"y": 2}).compute()
    np.testing.assert_array_equal(again.a, PIXELS[:4, 4:].reshape(2, 2, 4))
    assert again.y_origin.values.tolist() == [0, 1]


def test_any_patches_in_any_order():
    dataset = open_one(write_image(MemoryStore()))
    lazy = dataset.hfzarr.patches({"z": 2, "y": 8, "x": 8}, max_memory="20 kB")
    assert lazy.image.data.npartitions > 3
    order = [40, 3, 3, 17]
    xr.testing.assert_identical(lazy.isel(patch=order).compute(), lazy.compute().isel(patch=order))


# --- reading -------------------------------------------------------------------------------------


@pytest.fixture
def counted():
    """A pyramid level of 2 x 2 x 2 x 3 chunks, and its store, which counts."""
    store = CountingStore(write_image(MemoryStore(), levels=1))
    dataset = open_one(store)
    store.forget()
    return dataset, store


def chunks_of(level: str, *ranges) -> set[str]:
    return {"/".join([level, "c", *map(str, index)]) for index in np.ndindex(*ranges)}


def test_nothing_is_read_while_building(counted):
    dataset, store = counted
    patches = dataset.hfzarr.patches({"y": 8, "x": 8}, stride=4, edge="pad")
    repr(patches)
    assert store.requests == 0


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize(("stride", "memory"), [(4, "1 MB"), (8, "100 kB"), (24, "1 MB")])
def test_each_chunk_is_read_once(counted, scheduler, stride, memory):
    dataset, store = counted
    lazy = dataset.hfzarr.patches({"y": 8, "x": 8}, stride=stride, edge="shift", max_memory=memory)
    for _ in range(2):
        with dask.config.set(scheduler=scheduler):
            check(dataset.copy(), lazy.compute())
        store.forget()
        with dask.config.set(scheduler=scheduler):
            lazy.compute()
        assert Counter(store.chunks) == Counter(chunks_of("0", 2, 2, 2, 3))


def test_chunks_between_windows_are_not_read(counted):
    dataset, store = counted
    dataset.hfzarr.patches({"x": 8}, stride=40).compute()
    assert set(store.chunks) == {key for key in chunks_of("0", 2, 2, 2, 3) if key[-1] != "1"}


def test_only_what_is_asked_for_is_read(counted):
    dataset, store = counted
    lazy = dataset.hfzarr.patches({"c": 1, "z": 2, "y": 16, "x": 16}, max_memory=1)
    lazy.isel(patch=[0, -1]).compute()
    assert sorted(store.chunks) == ["0/c/0/0/0/0", "0/c/1/1/1/2"]


def test_drawn_windows_read_their_chunks_and_no_others(counted):
    dataset, store = counted
    lazy = dataset.hfzarr.random_patches(6, {"z": 1, "y": 5, "x": 9}, 3, max_memory="200 kB")
    assert store.requests == 0
    patches = lazy.compute()
    wanted = set()
    starts = (patches[f"{dim}_start"].values for dim in "zyx")
    for z, y, x in zip(*starts, strict=True):
        wanted |= {
            f"0/c/{c}/{z // 2}/{j}/{i}"
            for c in (0, 1)
            for j in range(y // 16, (y + 4) // 16 + 1)
            for i in range(x // 16, (x + 8) // 16 + 1)
        }
    assert len(wanted) < 24
    assert Counter(store.chunks) == Counter(wanted)
    check(dataset, patches)


def test_a_small_variable_in_a_large_chunk_is_read_once():
    """Its patches are a fraction of the others', its chunk is not."""
    store = CountingStore(MemoryStore())
    group = zarr.create_group(store)
    for name, dims, shape, chunks in [
        ("image", "zyx", (128, 64, 64), (16, 16, 16)),
        ("mask", "yx", (64, 64), (64, 64)),
    ]:
        array = group.create_array(
            name, shape=shape, chunks=chunks, dtype="u1", dimension_names=list(dims)
        )
        array[...] = 1
    dataset = open_one(store, consolidated=False)
    lazy = dataset.hfzarr.patches({"z": 64, "y": 16, "x": 16}, max_memory="300 kB")
    assert lazy.image.data.npartitions > 16
    store.forget()
    lazy.compute(scheduler="sync")
    wanted = chunks_of("image", 8, 4, 4) | {"mask/c/0/0"}
    assert Counter(store.chunks) == Counter(wanted)


def test_a_slice_of_a_store_is_read_as_the_store_is_cut():
    dataset = open_one(write_image(MemoryStore()))
    part = dataset.isel(c=1, y=slice(5, None), x=slice(20, 40))
    variable = part.image.variable
    assert isinstance(region_of(variable), StoredRegion)
    _, y, x = cuts_of(variable)
    assert [y.interval(k) for k in range(y.count)] == [(0, 11), (11, 27)]
    assert [x.interval(k) for k in range(x.count)] == [(0, 12), (12, 20)]
    check(part, part.hfzarr.patches({"z": 1, "y": 9, "x": 9}, edge="pad").compute())


def test_shards_are_opened_for_all_patches_at_once():
    """Overlapping windows over two shards: each inner chunk in one request, no more."""
    store = CountingStore(write_image(MemoryStore(), shards=(2, 4, 32, 32), levels=1))
    dataset = open_one(store)
    lazy = dataset.hfzarr.patches({"y": 16, "x": 16}, stride=8)
    store.forget()
    np.testing.assert_array_equal(lazy.compute().image[0], pixels()[:, :, :16, :16])
    assert set(store.chunks) == chunks_of("0", 1, 1, 1, 2)
    inner = 2 * 2 * 2 * 3
    assert len(store.chunks) <= inner + 2 * 2


# --- levels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("level", "number"), [(1, 1), ("2", 2), (-1, 2), (0, 0)])
def test_another_level(zarr_format, level, number):
    dataset = open_one(write_image(MemoryStore(), zarr_format=zarr_format))
    patches = dataset.hfzarr.patches({"y": 8, "x": 8}, level=level).compute()
    assert str(patches.attrs["level"]) == str(number)
    np.testing.assert_array_equal(patches.image[0], pixels(number)[:, :, :8, :8])
    assert patches.y_start.attrs["length"] == 32 // 2**number
    assert patches.y.values.tolist() == (np.arange(8) * 0.5 * 2**number).tolist()


def test_a_level_that_is_not_there():
    dataset = open_one(write_image(MemoryStore()))
    with pytest.raises(NodeNotFoundError, match=r"no level 7; it has 3"):
        dataset.hfzarr.patches({"y": 8}, level=7)
    with pytest.raises(TargetError, match=r"would lose what was selected.*'y': 18"):
        dataset.isel(y=slice(2, 20)).hfzarr.patches({"y": 8}, level=1)
    with pytest.raises(TargetError, match="engine='hfzarr' opens an image"):
        small().hfzarr.patches({"y": 2}, level=1)


def test_a_seed_that_is_none():
    dataset = xr.Dataset({"a": ("x", np.arange(8))})
    with pytest.raises(TargetError, match=r"seed is an integer.* not 'now'"):
        dataset.hfzarr.random_patches(2, {"x": 3}, seed="now")
    for seed in (None, 3, [1, 2], np.random.default_rng(0)):
        assert dataset.hfzarr.random_patches(2, {"x": 3}, seed=seed).sizes["patch"] == 2
