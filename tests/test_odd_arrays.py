"""Arrays, names and layouts that are rare and right: they open and read as anywhere else."""

from __future__ import annotations

import asyncio
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore, MemoryStore

from hfzarr import (
    AmbiguousTargetError,
    InvalidMetadataError,
    RepairWarning,
    StoreNotFoundError,
    TargetError,
    UnnamedDimensionsError,
)
from stores import (
    MULTISCALES,
    ZARR_CONVENTIONS,
    height_map,
    pixels,
    scene,
    write_image,
    write_plate,
    zip_folder,
)

formats = pytest.mark.parametrize("zarr_format", [2, 3])
# Data types without a v3 specification: written here all the same, as they are in the wild.
pytestmark = pytest.mark.filterwarnings("ignore:The data type:Warning")

ARRAYS = {
    "no rows": np.zeros((0, 3), "i4"),
    "no columns": np.zeros((3, 0), "f4"),
    "0-d": np.array(5),
    "0-d float": np.array(2.5),
    "0-d bool": np.array(True),
    "0-d text": np.array("abc"),
    "bool": np.array([[True, False], [False, True]]),
    "complex": np.array([1 + 2j, 3, 5j]),
    "complex64": np.array([1 + 2j, 3], "c8"),
    "big-endian": np.arange(6, dtype=">i4").reshape(2, 3),
    "big-endian float": np.arange(6, dtype=">f8"),
    "float16": np.arange(4, dtype="f2"),
    "uint64": np.array([2**63, 0, 2**64 - 1], "u8"),
    "int8": np.array([-128, 127], "i1"),
    "text": np.array(["a", "bé", "", "日本"]),
    "bytes": np.array([b"a", b"bc", b""]),
    "datetime": np.array(["2001-01-01", "NaT"], "M8[ns]"),
    "datetime s": np.array(["2001-01-01", "2002-01-01"], "M8[s]"),
    "timedelta": np.array([1, 2], "m8[D]"),
    "record": np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")]),
    "long": np.arange(1000).reshape(2, 500),
    "5-D": np.arange(2**5).reshape((2,) * 5),
}


def open_one(target, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


def open_tree(target, **options) -> xr.DataTree:
    return xr.open_datatree(target, engine="hfzarr", **options)


def write_array(data: np.ndarray, zarr_format: int, name: str = "v", **kwargs) -> MemoryStore:
    """Write one array with named dims into a group; two chunks along each axis."""
    store = MemoryStore()
    dims = [f"d{i}" for i in range(data.ndim)]
    root = zarr.create_group(store, zarr_format=zarr_format)
    array = root.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=tuple(max(1, (n + 1) // 2) for n in data.shape),
        dimension_names=dims if zarr_format == 3 else None,
        attributes={"_ARRAY_DIMENSIONS": dims} if zarr_format == 2 else None,
        **kwargs,
    )
    if data.size:
        array[...] = data
    zarr.consolidate_metadata(store)
    return store


# --- data types ----------------------------------------------------------------------------------


@formats
@pytest.mark.parametrize("data", ARRAYS.values(), ids=ARRAYS)
def test_array(zarr_format, data):
    """An array opened by itself holds what was written, however it is indexed."""
    store = write_array(data, zarr_format)

    def lazy(**options) -> xr.DataArray:
        return open_one(store, group="v", decode_cf=False, **options).v

    np.testing.assert_array_equal(lazy(), data)
    assert lazy().dtype == lazy().values.dtype
    assert lazy().dtype == data.dtype.newbyteorder("=")
    np.testing.assert_array_equal(lazy(chunks={}), data)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy())), data)
    if data.ndim and data.shape[0]:
        np.testing.assert_array_equal(lazy().isel(d0=slice(None, None, -1)), data[::-1])
        np.testing.assert_array_equal(lazy().isel(d0=-1), data[-1])
        np.testing.assert_array_equal(lazy().isel(d0=[1, 0, 1]), data[[1, 0, 1]])
        mask = np.arange(len(data)) % 2 == 1
        np.testing.assert_array_equal(lazy().isel(d0=mask), data[mask])


@formats
@pytest.mark.parametrize("name", ARRAYS)
def test_array_loaded_async(zarr_format, name):
    store = write_array(ARRAYS[name], zarr_format)
    loaded = asyncio.run(open_one(store, group="v", decode_cf=False).load_async())
    np.testing.assert_array_equal(loaded.v, ARRAYS[name])


@formats
@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "record"])
def test_array_in_a_group_as_xarrays_engine(zarr_format, name):
    store = write_array(ARRAYS[name], zarr_format)
    ours, theirs = open_one(store), xr.open_dataset(store, engine="zarr")
    xr.testing.assert_identical(ours.load(), theirs.load())
    assert ours.v.dtype == theirs.v.dtype


@formats
def test_records_undecoded(zarr_format):
    store = write_array(ARRAYS["record"], zarr_format)
    found = open_one(store, decode_cf=False).v
    np.testing.assert_array_equal(found, ARRAYS["record"])
    np.testing.assert_array_equal(found.values["b"], [2.5, 4.5])


def test_records_decoded():
    """A fill value of fields masks nothing: xarray's decoders cannot take it."""
    found = open_one(write_array(ARRAYS["record"], 2)).v
    np.testing.assert_array_equal(found, ARRAYS["record"])


def test_variable_length_text():
    store = MemoryStore()
    text = ["a", "long" * 50, "", "é"]
    root = zarr.create_group(store)
    array = root.create_array("v", shape=(4,), dtype=str, chunks=(3,), dimension_names=["x"])
    array[...] = np.array(text, dtype=object)
    found = open_one(store, group="v").v
    assert list(found.values) == text
    assert found.isel(x=1).item() == text[1]


@formats
def test_fortran_order(zarr_format):
    data = np.arange(24).reshape(2, 3, 4)
    order = {"order": "F"} if zarr_format == 2 else {"filters": [zarr.codecs.TransposeCodec(
        order=(2, 0, 1))]}  # fmt: skip
    found = open_one(write_array(data, zarr_format, fill_value=-1, **order), group="v").v
    np.testing.assert_array_equal(found, data)
    np.testing.assert_array_equal(found.isel(d1=[2, 0], d2=slice(None, None, -1)), data[
        :, [2, 0], ::-1])  # fmt: skip


@formats
@pytest.mark.parametrize("fill", [0, 7, -1])
def test_chunks_that_were_never_written(zarr_format, fill):
    store = MemoryStore()
    root = zarr.create_group(store, zarr_format=zarr_format)
    array = root.create_array("v", shape=(6, 4), chunks=(2, 2), dtype="i2", fill_value=fill)
    array[2:4, :2] = 5
    found = open_one(store, group="v").v
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, array[...])


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 1e300])
@formats
def test_fill_values_that_json_has_no_number_for(zarr_format, fill):
    store = MemoryStore()
    root = zarr.create_group(store, zarr_format=zarr_format)
    root.create_array("v", shape=(3,), chunks=(3,), dtype="f8", fill_value=fill)
    np.testing.assert_array_equal(open_one(store, group="v", decode_cf=False).v, [fill] * 3)


# --- names and nesting ---------------------------------------------------------------------------


@formats
@pytest.mark.parametrize("name", ["a b", "größe", "a.b", "日本", "x%20y", "a:b", "c", "0", "A+B'"])
def test_names(tmp_path, zarr_format, name):
    root = zarr.create_group(LocalStore(tmp_path / "s"), zarr_format=zarr_format)
    root.create_group(name).create_array(name, data=np.arange(3))
    zip_folder(tmp_path / "s", tmp_path / "s.zip")
    for place in (tmp_path / "s", tmp_path / "s.zip"):
        alone = open_one(place, group=f"{name}/{name}")
        assert list(alone.data_vars) == [name]
        tree = open_tree(place, consolidated=False)
        np.testing.assert_array_equal(tree[f"{name}/{name}"][name], np.arange(3))


@formats
def test_root_array(tmp_path, zarr_format):
    zarr.create_array(tmp_path / "map.zarr", data=np.arange(4), zarr_format=zarr_format)
    for target in (tmp_path / "map.zarr", LocalStore(tmp_path / "map.zarr")):
        dataset, tree = open_one(target), open_tree(target)
        assert list(dataset.data_vars) == ["map"]
        assert dataset["map"].dims == ("dim_0",)
        np.testing.assert_array_equal(dataset["map"], np.arange(4))
        xr.testing.assert_identical(tree.to_dataset(), dataset)


def test_root_array_of_an_object():
    store = MemoryStore()
    zarr.create_array(store, data=np.arange(4))
    names = {*open_one(store), *open_one(dict(store._store_dict))}
    assert names == {"array"}


def test_deeply_nested_groups():
    store = MemoryStore()
    path = "/".join("abcdefgh")
    zarr.create_group(store).create_array(path, data=np.arange(3), dimension_names=["x"])
    zarr.consolidate_metadata(store)
    assert list(open_one(store, group=path.rpartition("/")[0]).data_vars) == ["h"]
    tree = open_tree(store)
    assert tree.depth == 7
    np.testing.assert_array_equal(tree[path], np.arange(3))


def test_unnamed_dimensions():
    store = MemoryStore()
    root = zarr.create_group(store)
    for name, n in (("a", 2), ("b", 3)):
        root.create_array(name, data=np.arange(n))
    zarr.consolidate_metadata(store)
    with pytest.raises(UnnamedDimensionsError, match=r"\['a', 'b'\].*group="):
        open_one(store)
    assert list(open_one(store, drop_variables=["a", "b"]).variables) == []
    tree = open_tree(store)
    assert [*tree.children] == ["a", "b"]
    assert tree["b/b"].sizes == {"dim_0": 3}


def test_clashing_dimensions():
    store = MemoryStore()
    root = zarr.create_group(store)
    for name, n in (("a", 2), ("b", 3)):
        root.create_array(name, data=np.arange(n), dimension_names=["x"])
    zarr.consolidate_metadata(store)
    with pytest.raises(AmbiguousTargetError, match=r"'x' is 2 in .'a'., 3 in .'b'.(.|\n)*group="):
        open_one(store)
    assert [*open_tree(store).children] == ["a", "b"]
    assert list(open_one(store, drop_variables="b")) == ["a"]


def test_dimension_that_occurs_twice():
    store = MemoryStore()
    root = zarr.create_group(store)
    root.create_array("cov", data=np.eye(3), dimension_names=["x", "x"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # xarray says that it can do little with it
        np.testing.assert_array_equal(open_one(store, group="cov").cov, np.eye(3))


def test_some_dimensions_named():
    store = MemoryStore()
    root = zarr.create_group(store)
    root.create_array("a", data=np.zeros((2, 3)), dimension_names=["y", None])
    dims = open_one(store, group="a").a.dims
    assert dims[0] == "y"
    assert len(set(dims)) == 2


def test_empty_group():
    assert not open_one(zarr.create_group(MemoryStore()), consolidated=False).variables


def test_group_added_after_consolidation():
    """Consolidated metadata is taken to be complete, as by zarr-python."""
    store = write_image(MemoryStore())
    zarr.create_group(store, path="late").create_array("a", data=np.arange(3))
    with pytest.raises(KeyError, match="late"):
        open_one(store, group="late")
    assert open_one(store, group="late/a", consolidated=False).a.size == 3


# --- odd layouts ---------------------------------------------------------------------------------


def test_zip_with_folders_around_the_store(tmp_path):
    write_image(LocalStore(tmp_path / "s"))
    deep = zip_folder(tmp_path / "s", tmp_path / "deep.zip", root="a/b/")
    np.testing.assert_array_equal(open_one(deep, group="a/b").image, pixels())
    beside = zip_folder(tmp_path / "s", tmp_path / "beside.zip", root="cells.zarr/")
    with zipfile.ZipFile(beside, "a") as archive:
        archive.writestr("README.txt", "two things at the top")
    with pytest.raises(StoreNotFoundError, match=r"cells\.zarr"):
        open_one(beside)
    np.testing.assert_array_equal(open_one(beside, group="cells.zarr").image, pixels())


def change_ome(store, path: str, change) -> MemoryStore:
    group = zarr.open_group(store, path=path, mode="r+")
    ome = dict(group.attrs["ome"])
    change(ome)
    group.attrs["ome"] = ome
    return store


@pytest.mark.parametrize("path", ["/0", "0/", "./0"])
def test_level_paths_with_slashes(path):
    def change(ome):
        ome["multiscales"][0]["datasets"][0]["path"] = path

    store = change_ome(write_image(MemoryStore(), consolidated=False), "", change)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepairWarning)
        np.testing.assert_array_equal(open_one(store).image, pixels())
        assert "0" in open_tree(store).children


def test_level_path_out_of_the_store():
    def change(ome):
        ome["multiscales"][0]["datasets"][0]["path"] = "../../secret"

    store = change_ome(write_image(MemoryStore(), consolidated=False), "", change)
    with pytest.raises((TargetError, InvalidMetadataError), match=r"secret.*leads out"):
        open_one(store)


@pytest.mark.parametrize("name", ["../x", "", ".", "none", "a/b", " "])
def test_label_that_is_not_there(name):
    def change(ome):
        ome["labels"] = [name, "nuclei"]

    store = change_ome(write_image(MemoryStore(), consolidated=False), "labels", change)
    with pytest.warns(RepairWarning, match="labels"):
        tree = open_tree(store)
    assert [*tree["labels"].children] == ["nuclei"]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("A/1", lambda ome: ome.update(well={"images": []})),
        ("A/1", lambda ome: ome.update(well={})),
        ("A/1/0", lambda ome: ome.update(multiscales=[])),
    ],
)
def test_one_bad_well_of_a_plate(path, change):
    store = write_plate(MemoryStore(), {"A/1": 1, "A/2": 1}, consolidated=False)
    change_ome(store, path, change)
    with pytest.warns(RepairWarning, match="A/1"):
        dataset = open_one(store)
    assert list(dataset.well.values) == ["A/2"]


@pytest.fixture
def shared_coordinates():
    """A GeoZarr pyramid of arrays in one group, with the finest level's x and y beside them."""
    store = MemoryStore()
    layout = [
        {"asset": "0"},
        {"asset": "1", "derived_from": "0", "transform": {"scale": [2.0, 2.0]}},
    ]
    attrs = {
        **scene(10, 24, 32),
        "zarr_conventions": [*ZARR_CONVENTIONS, MULTISCALES],
        "multiscales": {"layout": layout},
    }
    root = zarr.create_group(store, attributes=attrs)
    for i, step in enumerate((10, 20)):
        root.create_array(str(i), data=height_map(step), dimension_names=["y", "x"])
    root.create_array("x", data=np.arange(32.0), dimension_names=["x"])
    root.create_array("y", data=np.arange(24.0), dimension_names=["y"])
    zarr.consolidate_metadata(store)
    return store


def test_pyramid_of_arrays_with_shared_coordinates(shared_coordinates):
    assert list(open_one(shared_coordinates).data_vars) == ["0"]


def test_stored_coordinates_of_a_pyramid_of_arrays(shared_coordinates):
    np.testing.assert_array_equal(open_one(shared_coordinates, level=0).x, np.arange(32.0))


def test_coarser_levels_of_a_pyramid_with_shared_coordinates(shared_coordinates):
    coarse = open_one(shared_coordinates, level=1)
    np.testing.assert_array_equal(coarse.x, 500_000 + 20 * (np.arange(16) + 0.5))
    tree = open_tree(shared_coordinates)
    np.testing.assert_array_equal(tree["1/1"], height_map(20))


def test_tree_whose_groups_do_not_fit():
    """As in xarray, dims of one name agree along a branch; the error names the way out."""
    store = MemoryStore()
    root = zarr.create_group(store)
    root.create_array("a", data=np.arange(4), dimension_names=["x"])
    root.create_array("b/a", data=np.arange(3), dimension_names=["x"])
    zarr.consolidate_metadata(store)
    with pytest.raises(AmbiguousTargetError, match=r"not aligned(.|\n)*group="):
        open_tree(store)
    assert open_one(store, group="b").a.size == 3


@pytest.mark.parametrize(
    "options", [{"group": 5}, {"storage_options": "anon"}, {"drop_variables": 5}], ids=str
)
def test_options_of_a_wrong_type(options):
    with pytest.raises(TargetError):
        open_one(write_image(MemoryStore()), **options)


def test_options_for_nothing():
    """What cannot apply is refused, not ignored."""
    store = write_array(ARRAYS["bool"], 3)
    for options in ({"level": 0}, {"image": 0}, {"level": "0", "group": "v"}):
        with pytest.raises(TargetError, match="nothing to choose from"):
            open_one(store, **options)


@pytest.mark.parametrize("options", [{"level": 3}, {"image": 3}, {"image": "A/1/0"}], ids=str)
def test_options_for_nothing_in_a_tree(options):
    with pytest.raises(TargetError, match="nothing to choose from"):
        open_tree(write_array(ARRAYS["bool"], 3), **options)
