"""The engine as xarray sees it: found, asked, indexed, chunked, written back, closed."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import xarray as xr
import zarr
from xarray.core.indexing import LazilyIndexedArray
from zarr.storage import LocalStore, MemoryStore

from hfzarr import TargetError
from hfzarr.faces.backend import HfzarrBackend
from stores import (
    CHUNKS,
    DIMS,
    pixels,
    write_cf,
    write_geo,
    write_image,
    write_plate,
    zip_folder,
)

SHARDS = (2, 4, 32, 32)
formats = pytest.mark.parametrize("zarr_format", [2, 3])


def open_one(target, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


def open_tree(target, **options) -> xr.DataTree:
    return xr.open_datatree(target, engine="hfzarr", **options)


@pytest.fixture(scope="module")
def image():
    return write_image(MemoryStore(), shards=SHARDS)


@pytest.fixture(scope="module")
def plate():
    return write_plate(MemoryStore())


# --- the entry point -----------------------------------------------------------------------------


def test_engine_is_listed():
    engine = xr.backends.list_engines()["hfzarr"]
    assert isinstance(engine, HfzarrBackend)
    assert "Zarr" in engine.description
    assert engine.url.startswith("https://")
    assert engine.supports_groups


@pytest.mark.parametrize(
    "target", ["a.ozx", "a.OZX", "b.zarr.zip", "c.ome.zarr", "c.ome.zarr/", "hf://datasets/a/b"]
)
def test_guessed(target):
    assert HfzarrBackend().guess_can_open(target)


@pytest.mark.parametrize(
    "target",
    ["a.zarr", "a.zarr/", "a.nc", "a.zip", "s3://bucket/a.zarr", "ome.zarr.nc", "", b"a.ozx", 3,
     None, {"path": "a.ozx"}],
)  # fmt: skip
def test_not_guessed(target):
    assert not HfzarrBackend().guess_can_open(target)


def test_guessing_opens(tmp_path):
    write_image(LocalStore(tmp_path / "a.ome.zarr"))
    zip_folder(tmp_path / "a.ome.zarr", tmp_path / "a.ozx")
    for name in ("a.ome.zarr", "a.ozx"):
        assert "image" in xr.open_dataset(tmp_path / name)
        assert "labels" in xr.open_datatree(tmp_path / name).children


def test_parameters_are_those_of_the_signature():
    names = [*inspect.signature(HfzarrBackend.open_dataset).parameters][1:]
    assert sorted(HfzarrBackend.open_dataset_parameters) == sorted(names)
    for method in (HfzarrBackend.open_datatree, HfzarrBackend.open_groups_as_dict):
        parameters = inspect.signature(method).parameters
        assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        assert set(parameters) - {"self"} <= set(names)
        for name, parameter in parameters.items():
            if name != "self":
                ours = inspect.signature(HfzarrBackend.open_dataset).parameters[name]
                assert parameter.default == ours.default


def test_engine_as_a_class(image):
    here = xr.open_dataset(image, engine=HfzarrBackend)
    xr.testing.assert_identical(here, open_one(image))
    undecoded = xr.open_dataset(image, engine=HfzarrBackend, decode_cf=False)
    np.testing.assert_array_equal(undecoded.image, pixels())


def test_decode_cf_off():
    store = write_cf(MemoryStore())
    undecoded = xr.open_dataset(store, engine=HfzarrBackend, decode_cf=False)
    assert undecoded.air.dtype == np.int16
    assert "lat_bounds" not in undecoded.coords
    assert undecoded.time.attrs["units"].startswith("days since")


def test_unknown_option(image):
    with pytest.raises(TypeError, match="nonsense"):
        open_one(image, nonsense=1)


def test_groups_as_dict(image):
    groups = HfzarrBackend().open_groups_as_dict(image)
    assert next(iter(groups)) == "/"
    tree = open_tree(image)
    assert {node.path for node in tree.subtree} == {"/" + path.strip("/") for path in groups}
    for path, dataset in xr.open_groups(image, engine="hfzarr").items():
        xr.testing.assert_identical(dataset, tree[path].to_dataset(inherit=False))


# --- laziness and chunks -------------------------------------------------------------------------


def test_stays_lazy(image):
    for chunks in (None, {}):
        variable = open_one(image, chunks=chunks).image.variable
        assert not variable._in_memory
    inner = open_one(image, cache=False).image.variable._data
    assert isinstance(inner, LazilyIndexedArray) or isinstance(inner.array, LazilyIndexedArray)


def test_loading_is_cached(image):
    cached, uncached = open_one(image), open_one(image, cache=False)
    cached.image.values  # noqa: B018
    uncached.image.values  # noqa: B018
    assert cached.image.variable._in_memory
    assert not uncached.image.variable._in_memory


def test_without_default_indexes(image):
    dataset = open_one(image, create_default_indexes=False)
    np.testing.assert_array_equal(dataset.y, np.arange(32) * 0.5)
    np.testing.assert_array_equal(dataset.image, pixels())


def test_encoding(image):
    encoding = open_one(image).image.encoding
    assert encoding["chunks"] == CHUNKS
    assert encoding["shards"] == SHARDS
    assert encoding["preferred_chunks"] == dict(zip(DIMS, CHUNKS, strict=True))


def test_source_is_in_the_encoding(tmp_path):
    write_image(LocalStore(tmp_path / "a"))
    assert open_one(tmp_path / "a").encoding["source"] == str(tmp_path / "a")


def dask_chunks(array: xr.DataArray) -> tuple[int, ...]:
    return tuple(sizes[0] for sizes in array.chunks)


@pytest.mark.parametrize("chunks", [{}, "auto"])
def test_chunks_follow_inner_chunks(image, chunks):
    found = dask_chunks(open_one(image, chunks=chunks).image)
    assert all(n % inner == 0 for n, inner in zip(found, CHUNKS, strict=True))
    if chunks == {}:
        assert found == CHUNKS
    tree = open_tree(image, chunks=chunks)
    assert dask_chunks(tree["0/image"]) == found


def test_chunks_by_accessor(image):
    dataset = open_one(image)
    assert dask_chunks(dataset.hfzarr.chunk().image) == CHUNKS
    assert dask_chunks(dataset.hfzarr.chunk("inner").image) == CHUNKS
    sharded = dataset.hfzarr.chunk("shard")
    assert sharded.image.chunks == ((2,), (4,), (32,), (32, 16))
    np.testing.assert_array_equal(sharded.image, pixels())
    assert sharded.xindexes.keys() == dataset.xindexes.keys()
    assert dataset.image.chunks is None
    with pytest.raises(TargetError, match="'file'"):
        dataset.hfzarr.chunk("file")


def test_tree_chunks_by_accessor(image):
    tree = open_tree(image).hfzarr.chunk("shard")
    assert tree["0/image"].chunks == ((2,), (4,), (32,), (32, 16))
    assert dask_chunks(tree["labels/nuclei/0/labels"]) == CHUNKS[1:]
    np.testing.assert_array_equal(tree["1/image"], pixels(1))


def test_shards_of_what_is_chunked_already(image):
    dataset = open_one(image, chunks={}).hfzarr.chunk("shard")
    assert dataset.image.chunks == ((2,), (4,), (32,), (32, 16))


def test_chunks_after_dims_were_dropped(image):
    dataset = open_one(image).isel(c=0, z=slice(0, 2)).transpose("x", "z", "y")
    assert dask_chunks(dataset.hfzarr.chunk("shard").image) == (32, 2, 32)


@formats
def test_written_by_shards(tmp_path, image, zarr_format):
    """Chunked by shards, a store is written in parallel and nothing is lost."""
    dataset = open_one(image).hfzarr.chunk("shard").drop_vars("c").drop_encoding()
    encoding = {"chunks": CHUNKS}
    if zarr_format == 3:
        encoding["shards"] = SHARDS
    dataset.attrs = {}
    dataset.to_zarr(
        tmp_path / "b", zarr_format=zarr_format, encoding={"image": encoding}, consolidated=False
    )
    again = open_one(tmp_path / "b", consolidated=False, mask_and_scale=False)
    np.testing.assert_array_equal(again.image, pixels())
    np.testing.assert_array_equal(again.y, dataset.y)


# --- written back --------------------------------------------------------------------------------


@formats
def test_round_trip_of_an_image(tmp_path, zarr_format):
    """With its own encoding, as xarray's user would write it without a thought."""
    store = write_image(MemoryStore(), zarr_format=zarr_format)
    dataset = open_one(store)
    dataset.drop_vars("c").to_zarr(tmp_path / "b", zarr_format=zarr_format, consolidated=False)
    again = open_one(tmp_path / "b", consolidated=False, mask_and_scale=False)
    np.testing.assert_array_equal(again.image, dataset.image)
    assert again.image.dtype == dataset.image.dtype
    assert again.image.encoding["chunks"] == CHUNKS
    assert again.image.attrs.keys() == dataset.image.attrs.keys()


def test_round_trip_of_shards(tmp_path, image):
    open_one(image).drop_vars("c").to_zarr(tmp_path / "b", consolidated=False)
    again = open_one(tmp_path / "b", consolidated=False)
    assert again.image.encoding["shards"] == SHARDS
    np.testing.assert_array_equal(again.image, pixels())


@formats
def test_round_trip_of_cf(tmp_path, zarr_format):
    dataset = open_one(write_cf(MemoryStore(), zarr_format=zarr_format))
    # Text and bytes of fixed length have no specification in v3 yet.
    dataset = dataset.drop_vars(["code", "site"])
    dataset.to_zarr(tmp_path / "b", zarr_format=zarr_format, consolidated=False)
    xr.testing.assert_identical(open_one(tmp_path / "b", consolidated=False), dataset)


def test_round_trip_of_a_geo_tree(tmp_path):
    tree = open_tree(write_geo(MemoryStore()))
    tree.to_zarr(tmp_path / "b", consolidated=False)
    again = open_tree(tmp_path / "b", consolidated=False)
    for name in ("r10m", "r20m", "r40m"):
        xr.testing.assert_equal(again[name].to_dataset(), tree[name].to_dataset())


def test_round_trip_of_an_image_tree(tmp_path, image):
    tree = open_tree(image)
    tree.map_over_datasets(lambda node: node.drop_vars("c", errors="ignore")).to_zarr(
        tmp_path / "b", consolidated=False
    )
    again = xr.open_datatree(tmp_path / "b", engine="zarr", consolidated=False, chunks={})
    np.testing.assert_array_equal(again["labels/nuclei/1/labels"], tree["labels/nuclei/1/labels"])


def test_writing_to_netcdf(tmp_path):
    pytest.importorskip("scipy", reason="needs a netCDF writer")
    dataset = open_one(write_geo(MemoryStore()), level=1)
    dataset.attrs = {}
    dataset.astype("int32").to_netcdf(tmp_path / "a.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "a.nc", engine="scipy") as again:
        np.testing.assert_array_equal(again["data"], dataset["data"])


def test_mfdataset(tmp_path):
    whole = open_one(write_cf(MemoryStore())).drop_vars(["code", "site"])
    paths = []
    for i, part in enumerate([slice(0, 3), slice(3, 5)]):
        paths.append(tmp_path / f"{i}.zarr")
        whole.isel(time=part).to_zarr(paths[-1], consolidated=True)
    joined = xr.open_mfdataset(
        paths, engine="hfzarr", combine="by_coords", data_vars="minimal", coords="minimal",
        compat="override", join="outer",
    )  # fmt: skip
    xr.testing.assert_equal(joined.air.compute(), whole.air.compute())
    assert joined.air.chunks is not None


def test_images_joined_along_time(tmp_path):
    paths = [tmp_path / f"{i}.ome.zarr" for i in range(2)]
    for path in paths:
        write_image(LocalStore(path))
    joined = xr.open_mfdataset(paths, engine="hfzarr", combine="nested", concat_dim="t",
                               join="exact")  # fmt: skip
    assert joined.image.dims == ("t", *DIMS)
    np.testing.assert_array_equal(joined.image[1], pixels())


# --- levels, labels, plates ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "index"), [(0, 0), (1, 1), (2, 2), (-1, 2), (-3, 0), ("0", 0), ("2", 2), (None, 0)]
)
def test_levels(image, level, index):
    dataset = open_one(image, level=level)
    np.testing.assert_array_equal(dataset.image, pixels(index))
    np.testing.assert_array_equal(dataset.x, np.arange(48 >> index) * 0.5 * 2**index)
    assert dataset.attrs["level"] == str(index)
    tree = open_tree(image, level=level)
    expected = ["0", "1", "2"] if level is None else [str(index)]
    assert [*tree.children] == [*expected, "labels"]
    assert [*tree["labels/nuclei"].children] == expected


def test_level_as_a_numpy_integer(image):
    assert open_one(image, level=np.int64(1)).sizes["x"] == 24


def test_labels_fit_their_image(image):
    tree = open_tree(image)
    for level in ("0", "1", "2"):
        pixel, label = tree[level].image, tree["labels/nuclei"][level].labels
        xr.align(pixel.isel(c=0, drop=True), label, join="exact")
        masked = pixel.where(label > 100, 0)
        assert masked.dims == pixel.dims
        assert masked.dtype == pixel.dtype


@formats
def test_label_attributes(zarr_format):
    store = write_image(MemoryStore(), zarr_format=zarr_format)
    labels = open_one(store, group="labels/nuclei").labels
    assert labels.dtype == np.int32
    assert labels.attrs["colors"] == {1: [255, 0, 0, 255]}
    assert labels.attrs["source_image"] == "../../"
    assert "_FillValue" not in labels.attrs


def test_selection_by_labels(image):
    dataset = open_one(image)
    part = dataset.image.sel(c="GFP", z=2.0, y=slice(1.0, 3.0)).sel(x=[4.1, 0.2], method="nearest")
    np.testing.assert_array_equal(part, pixels()[1, 1, 2:7][:, [8, 0]])
    with pytest.raises(KeyError):
        dataset.sel(c="RFP")


@formats
def test_plate_equals_its_fields(zarr_format):
    store = write_plate(MemoryStore(), zarr_format=zarr_format)
    whole, tree = open_one(store), open_tree(store)
    assert whole.image.dims == ("well", "field", *DIMS)
    assert list(whole.well.values) == ["A/1", "A/2", "B/1"]
    assert whole.present.values.tolist() == [[True, True], [True, True], [True, False]]
    for well in whole.well.values:
        for field in whole.field.values:
            part = whole.sel(well=well, field=field)
            if not part.present:
                assert not part.image.any()
                continue
            single = open_one(store, group=f"{well}/{field}")
            np.testing.assert_array_equal(part.image, single.image)
            xr.testing.assert_equal(part.image.reset_coords(drop=True), single.image.reset_coords(
                drop=True))  # fmt: skip
            xr.testing.assert_identical(tree[f"{well}/{field}/0"].to_dataset(), single)
            xr.testing.assert_identical(open_one(store, image=f"{well}/{field}"), single)


def test_plate_levels_and_wells(plate):
    assert open_one(plate, level=-1).sizes["x"] == 24
    well = open_one(plate, group="A/2")
    assert well.image.dims == ("field", *DIMS)
    np.testing.assert_array_equal(well.image, open_one(plate).sel(well="A/2").image)
    assert [*open_tree(plate, level=1)["A/1/0"].children] == ["1"]


def test_plate_by_dask(plate):
    lazy = open_one(plate, chunks={})
    assert dask_chunks(lazy.image) == (1, 1, *CHUNKS)
    xr.testing.assert_identical(lazy.compute(), open_one(plate).load())


# --- diagnosis and closing -----------------------------------------------------------------------


def test_diagnosis(image, plate, tmp_path):
    for target, kind in ((image, "image"), (plate, "plate")):
        for opened in (open_one(target), open_tree(target)):
            found = opened.hfzarr.diagnose()
            assert found.ok
            assert found.kind == kind
            assert found.version == "0.5"
            assert kind in str(found)
    write_image(LocalStore(tmp_path / "a"))
    assert open_one(tmp_path / "a").hfzarr.diagnose().store == str(tmp_path / "a")


def test_diagnosis_of_groups_and_arrays(image):
    assert open_one(write_cf(MemoryStore())).hfzarr.diagnose().kind == "group"
    assert open_one(image, group="0").hfzarr.diagnose().kind == "array"
    assert open_one(image, group="0").hfzarr.diagnose().version is None


def test_diagnosis_of_part_of_a_tree(image):
    with pytest.raises(TargetError, match="no diagnosis"):
        xr.Dataset().hfzarr.diagnose()
    with pytest.raises(TargetError, match="no diagnosis"):
        xr.DataTree().hfzarr.diagnose()


def test_diagnosis_stays_out_of_files(tmp_path, image):
    dataset = open_one(image).drop_vars("c")
    dataset.to_zarr(tmp_path / "b", consolidated=False)
    assert "hfzarr_diagnosis" not in zarr.open_group(tmp_path / "b").attrs


def test_diagnosis_outlives_chunks(image):
    assert open_one(image, chunks={}).hfzarr.diagnose().ok
    assert open_tree(image, chunks={}).hfzarr.diagnose().ok


def test_context_managers(tmp_path):
    write_image(LocalStore(tmp_path / "a"))
    path = zip_folder(tmp_path / "a", tmp_path / "a.zip")
    for target in (tmp_path / "a", path):
        with open_one(target) as dataset, open_tree(target) as tree:
            np.testing.assert_array_equal(dataset.image, tree["0/image"])
        dataset.close()
        tree.close()


def test_closed_twice_and_read_again(tmp_path):
    write_image(LocalStore(tmp_path / "a"))
    dataset = open_one(zip_folder(tmp_path / "a", tmp_path / "a.zip"))
    dataset.close()
    dataset.close()
    np.testing.assert_array_equal(dataset.image, pixels())
    dataset.close()
