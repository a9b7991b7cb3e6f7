"""GeoZarr and CF groups through the engine: where pixels lie, and what xarray's engine gives."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from hfzarr import AmbiguousTargetError, InvalidMetadataError, NodeNotFoundError, RepairWarning
from stores import (
    MULTISCALES,
    ZARR_CONVENTIONS,
    height_map,
    scene,
    write_geo,
)

UTM33_X = 500_000 + 10 * (np.arange(32) + 0.5)
UTM33_Y = 5_000_000 - 10 * (np.arange(24) + 0.5)
LEVEL_ASSETS = pytest.mark.parametrize("assets", ["groups", "arrays", "paths"])


def open_one(target, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


def open_tree(target, **options) -> xr.DataTree:
    return xr.open_datatree(target, engine="hfzarr", **options)


@contextmanager
def rio():
    """Make ``.rio`` available; its import warns of things that are none of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("rioxarray", reason="rioxarray reads the reference system")
        yield


def one_grid(attrs, array_attrs=None, *, dims=("y", "x"), shape=(24, 32), more=None) -> MemoryStore:
    """Write a group with the array ``data``, and others of ``more``: ``{name: (dims, values)}``."""
    store = MemoryStore()
    root = zarr.create_group(store, attributes=attrs)
    data = np.arange(np.prod(shape), dtype="i2").reshape(shape)
    root.create_array("data", data=data, dimension_names=dims, attributes=array_attrs or {})
    for name, (names, values, said) in (more or {}).items():
        root.create_array(name, data=np.asarray(values), dimension_names=names, attributes=said)
    zarr.consolidate_metadata(store)
    return store


# --- where pixels lie ----------------------------------------------------------------------------


def test_pixel_registration():
    dataset = open_one(one_grid(scene(10, 24, 32)))
    np.testing.assert_array_equal(dataset.x, UTM33_X)
    np.testing.assert_array_equal(dataset.y, UTM33_Y)
    assert dataset.x.attrs["axis"] == "X"
    assert dataset.y.attrs["standard_name"] == "projection_y_coordinate"
    assert dataset.x.attrs["units"] == "m"


def test_node_registration():
    dataset = open_one(one_grid({**scene(10, 24, 32), "spatial:registration": "node"}))
    np.testing.assert_array_equal(dataset.x, UTM33_X - 5)
    np.testing.assert_array_equal(dataset.y, UTM33_Y + 5)


def test_crs_and_transform():
    for registration in ("pixel", "node"):
        store = one_grid({**scene(10, 24, 32), "spatial:registration": registration})
        dataset = open_one(store)
        assert "spatial_ref" in dataset.coords
        half = 0 if registration == "pixel" else 5
        with rio():
            assert dataset.rio.crs.to_epsg() == 32633
            assert dataset["data"].rio.crs.to_epsg() == 32633
            assert tuple(dataset.rio.transform())[:6] == (
                10, 0, 500_000 - half, 0, -10, 5_000_000 + half,
            )  # fmt: skip
            assert dataset.rio.bounds() == (
                500_000 - half, 4_999_760 + half, 500_320 - half, 5_000_000 + half,
            )  # fmt: skip


@pytest.mark.parametrize("key", ["proj:wkt2", "proj:projjson"])
def test_other_spellings_of_the_crs(key):
    with rio():
        from pyproj import CRS

        crs = CRS("EPSG:3035")
        attrs = scene(10, 24, 32)
        del attrs["proj:code"]
        attrs[key] = crs.to_wkt() if key == "proj:wkt2" else crs.to_json_dict()
        assert open_one(one_grid(attrs)).rio.crs.to_epsg() == 3035


def test_geographic_coordinates():
    attrs = {
        **scene(1, 24, 32),
        "proj:code": "EPSG:4326",
        "spatial:transform": [0.5, 0, -8, 0, -0.5, 12],
    }
    dataset = open_one(one_grid(attrs))
    np.testing.assert_array_equal(dataset.x, -7.75 + 0.5 * np.arange(32))
    assert dataset.x.attrs["standard_name"] == "longitude"
    assert dataset.y.attrs["units"] == "degrees_north"


def test_selecting_by_position():
    dataset = open_one(one_grid(scene(10, 24, 32)))
    part = dataset.sel(x=slice(500_100, 500_150), y=slice(4_999_900, 4_999_850))
    assert part["data"].shape == (5, 5)
    nearest = dataset.sel(x=500_004, y=4_999_991, method="nearest")["data"]
    assert nearest.item() == 0


def test_bands_before_and_after():
    for dims, shape in ((("band", "y", "x"), (3, 24, 32)), (("y", "x", "band"), (24, 32, 3))):
        dataset = open_one(one_grid(scene(10, 24, 32), dims=dims, shape=shape))
        np.testing.assert_array_equal(dataset.x, UTM33_X)
        assert "band" not in dataset.coords


def test_other_dimension_names():
    attrs = {**scene(10, 24, 32), "spatial:dimensions": ["northing", "easting"]}
    dataset = open_one(one_grid(attrs, dims=("northing", "easting")))
    np.testing.assert_array_equal(dataset.easting, UTM33_X)
    with rio():
        assert dataset.rio.crs.to_epsg() == 32633
        assert dataset.rio.x_dim == "easting"


def test_dimensions_without_names():
    """``spatial:dimensions`` serve where the arrays have no ``dimension_names``."""
    dataset = open_one(one_grid(scene(10, 24, 32), dims=None))
    assert dataset["data"].dims == ("y", "x")
    np.testing.assert_array_equal(dataset.y, UTM33_Y)
    tree = open_tree(write_geo(MemoryStore(), named=False))
    assert tree["r20m/data"].dims == ("y", "x")


def test_stored_coordinates_win():
    shifted = UTM33_X + 1
    store = one_grid(scene(10, 24, 32), more={"x": (["x"], shifted, {"units": "m"}),
                                              "y": (["y"], UTM33_Y, {})})  # fmt: skip
    dataset = open_one(store)
    np.testing.assert_array_equal(dataset.x, shifted)
    assert dataset.x.attrs == {"units": "m"}
    assert "spatial_ref" in dataset.coords


def test_stored_grid_mapping_wins():
    mapping = {"grid_mapping_name": "latitude_longitude", "crs_wkt": "given", "spatial_ref": "x"}
    store = one_grid(
        scene(10, 24, 32), {"grid_mapping": "spatial_ref"}, more={"spatial_ref": ([], 7, mapping)}
    )
    dataset = open_one(store)
    assert int(dataset.spatial_ref) == 7
    assert dataset.spatial_ref.attrs == mapping


def test_attributes_of_the_array_win():
    attrs = {"zarr_conventions": ZARR_CONVENTIONS, "proj:code": "EPSG:3857"}
    dataset = open_one(one_grid(scene(10, 24, 32), attrs))
    with rio():
        assert dataset.rio.crs.to_epsg() == 3857
    np.testing.assert_array_equal(dataset.x, UTM33_X)


def test_attributes_are_inherited_from_the_group():
    """An array opened in its group has its reference; opened by itself it has what it says."""
    inside = open_one(one_grid(scene(10, 24, 32)))
    assert "spatial_ref" in inside.coords
    attrs = scene(10, 24, 32)
    alone = open_one(one_grid({}, attrs), group="data")
    np.testing.assert_array_equal(alone.x, UTM33_X)


def test_reference_without_a_transform():
    attrs = {"zarr_conventions": ZARR_CONVENTIONS, "proj:code": "EPSG:32633",
             "spatial:dimensions": ["y", "x"]}  # fmt: skip
    dataset = open_one(one_grid(attrs))
    assert "x" not in dataset.coords
    with rio():
        assert dataset.rio.crs.to_epsg() == 32633


def test_transform_from_the_bounding_box():
    attrs = scene(10, 24, 32)
    del attrs["spatial:transform"]
    attrs["spatial:bbox"] = [500_000, 4_999_760, 500_320, 5_000_000]
    np.testing.assert_array_equal(open_one(one_grid(attrs)).x, UTM33_X)


def test_shape_of_another_grid():
    attrs = {**scene(10, 24, 32), "spatial:shape": [12, 16]}
    with pytest.warns(RepairWarning, match="another grid"):
        dataset = open_one(one_grid(attrs))
    assert "x" not in dataset.coords
    with pytest.raises(InvalidMetadataError, match="spatial:shape"):
        open_one(one_grid(attrs), on_invalid="raise")


def test_findings_name_their_node():
    store = write_geo(MemoryStore(), consolidated=False)
    zarr.open_group(store, path="r20m", mode="r+").attrs["spatial:shape"] = [1, 1]
    with pytest.warns(RepairWarning, match="- r20m"):
        tree = open_tree(store, consolidated=False)
    assert any(repair.where.startswith("r20m") for repair in tree.hfzarr.diagnose().repairs)


def test_nothing_is_guessed():
    dataset = open_one(one_grid({"title": "no place"}))
    assert not dataset.coords


# --- rotated grids -------------------------------------------------------------------------------

ROTATED = [8.0, -6.0, 500_000.0, -6.0, -8.0, 5_000_000.0]


@pytest.fixture
def rotated():
    return one_grid({**scene(10, 24, 32), "spatial:transform": ROTATED})


def test_rotated_transform(rotated):
    dataset = open_one(rotated)
    assert {"xc", "yc"} <= set(dataset.coords)
    assert not {"x", "y"} & set(dataset.coords)
    for name in ("xc", "yc"):
        assert not dataset[name].variable._in_memory
        assert dataset[name].dims == ("y", "x")
    i, j = np.arange(24)[:, None] + 0.5, np.arange(32) + 0.5
    np.testing.assert_allclose(dataset.xc, 8 * j - 6 * i + 500_000)
    np.testing.assert_allclose(dataset.yc, -6 * j - 8 * i + 5_000_000)
    with rio():
        assert dataset.rio.crs.to_epsg() == 32633


@pytest.mark.parametrize(
    "indexers",
    [
        {"y": 3},
        {"x": -1},
        {"y": 3, "x": 4},
        {"y": slice(None, None, -2), "x": [5, 0, 5]},
        {"y": [1, 2], "x": 0},
        {"y": xr.DataArray([1, 2], dims="p"), "x": xr.DataArray([4, 0], dims="p")},
        {"x": slice(4, 4)},
    ],
)
def test_rotated_coordinates_are_indexed_lazily(rotated, indexers):
    expected = open_one(rotated).load().isel(indexers)
    xr.testing.assert_identical(open_one(rotated).isel(indexers).load(), expected)
    xr.testing.assert_identical(open_one(rotated, chunks={}).isel(indexers).compute(), expected)


def test_rotated_coordinates_load_async(rotated):
    import asyncio

    loaded = asyncio.run(open_one(rotated).load_async())
    xr.testing.assert_identical(loaded, open_one(rotated).load())


# --- pyramids ------------------------------------------------------------------------------------


@LEVEL_ASSETS
def test_pyramid_as_a_tree(assets):
    tree = open_tree(write_geo(MemoryStore(), assets))
    assert [*tree.children] == ["r10m", "r20m", "r40m"]
    for step in (10, 20, 40):
        level = tree[f"r{step}m"].to_dataset()
        (name,) = level.data_vars
        np.testing.assert_array_equal(level[name], height_map(step))
        np.testing.assert_array_equal(level.x, 500_000 + step * (np.arange(320 // step) + 0.5))
        np.testing.assert_array_equal(level.y, 5_000_000 - step * (np.arange(240 // step) + 0.5))
        with rio():
            assert level.rio.crs.to_epsg() == 32633
            assert level.rio.resolution() == (step, -step)


@LEVEL_ASSETS
@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize(("level", "step"), [(None, 10), (0, 10), (1, 20), (-1, 40), (-3, 10)])
def test_pyramid_level(assets, consolidated, level, step):
    store = write_geo(MemoryStore(), assets, consolidated=consolidated)
    dataset = open_one(store, level=level, consolidated=consolidated)
    (name,) = dataset.data_vars
    np.testing.assert_array_equal(dataset[name], height_map(step))
    tree = open_tree(store, consolidated=consolidated)
    np.testing.assert_array_equal(dataset.x, tree[f"r{step}m"].x)
    assert "spatial_ref" in dataset.coords


def test_pyramid_level_by_name():
    store = write_geo(MemoryStore())
    by_name, by_group = open_one(store, level="r20m"), open_one(store, group="r20m")
    xr.testing.assert_identical(by_name, by_group)
    with pytest.raises(NodeNotFoundError, match=r"r10m.*r20m.*r40m"):
        open_one(store, level="r80m")
    with pytest.raises(NodeNotFoundError, match="0 to 2"):
        open_one(store, level=3)


def test_pyramid_level_narrows_the_tree():
    assert [*open_tree(write_geo(MemoryStore()), level="r20m").children] == ["r20m"]


def test_pyramid_by_relative_transforms():
    """Where levels have no transform of their own, scales are composed along derived_from."""
    store = MemoryStore()
    layout = [
        {"asset": "0"},
        {"asset": "1", "derived_from": "0", "transform": {"scale": [2.0, 2.0]}},
        {"asset": "2", "derived_from": "1", "transform": {"scale": [2.0, 2.0]}},
    ]
    attrs = {
        **scene(10, 24, 32),
        "zarr_conventions": [*ZARR_CONVENTIONS, MULTISCALES],
        "multiscales": {"layout": layout},
    }
    root = zarr.create_group(store, attributes=attrs)
    for i, step in enumerate((10, 20, 40)):
        root.create_array(str(i), data=height_map(step), dimension_names=["y", "x"])
    zarr.consolidate_metadata(store)
    tree = open_tree(store)
    np.testing.assert_array_equal(tree["0"].x, UTM33_X)
    np.testing.assert_array_equal(tree["2"].x, 500_000 + 40 * (np.arange(8) + 0.5))
    np.testing.assert_array_equal(open_one(store, level=-1).y, tree["2"].y)


def test_missing_level():
    store = write_geo(MemoryStore(), consolidated=False)
    root = zarr.open_group(store)
    del root["r20m"]
    with pytest.raises(NodeNotFoundError, match="r20m"):
        open_one(store, level=1, consolidated=False)
    assert [*open_tree(store, consolidated=False).children] == ["r10m", "r40m"]


# --- other spellings -----------------------------------------------------------------------------


def test_gdal_crs_and_geotransform():
    attrs = {"_CRS": {"url": "http://www.opengis.net/def/crs/EPSG/0/32618"}}
    more = {
        "X": (["X"], 101_985 + 300.0 * np.arange(32), {}),
        "Y": (["Y"], 2_826_915 - 300.0 * np.arange(24), {}),
    }
    dataset = open_one(one_grid({}, attrs, dims=("Y", "X"), more=more))
    with rio():
        assert dataset["data"].rio.crs.to_epsg() == 32618
    np.testing.assert_array_equal(dataset.X, more["X"][1])


def test_geotransform_of_a_grid_mapping():
    with rio():
        from pyproj import CRS

        wkt = CRS("EPSG:32618").to_wkt()
    mapping = {"crs_wkt": wkt, "GeoTransform": "101985 300 0 2826915 0 -300"}
    store = one_grid({}, {"grid_mapping": "crs"}, more={"crs": ([], 0, mapping)})
    dataset = open_one(store)
    np.testing.assert_array_equal(dataset.x, 101_985 + 300 * (np.arange(32) + 0.5))
    np.testing.assert_array_equal(dataset.y, 2_826_915 - 300 * (np.arange(24) + 0.5))
    assert "crs" in dataset.coords
    with rio():
        assert dataset["data"].rio.crs.to_epsg() == 32618


def test_stac_keys():
    attrs = {"proj:epsg": 32633, "proj:transform": [10, 0, 500_000, 0, -10, 5_000_000, 0, 0, 1]}
    dataset = open_one(one_grid({}, attrs))
    np.testing.assert_array_equal(dataset.x, UTM33_X)


def test_written_by_rioxarray(tmp_path):
    """What rioxarray and xarray's own writer leave in a store reads back as it was."""
    with rio():
        import rioxarray  # noqa: F401

        made = xr.Dataset({"a": (("y", "x"), np.ones((24, 32)))}, {"x": UTM33_X, "y": UTM33_Y})
        made = made.rio.write_crs("EPSG:32633").rio.write_transform()
        made.to_zarr(tmp_path / "a", consolidated=True)
        again = open_one(tmp_path / "a")
        assert again.rio.crs.to_epsg() == 32633
        assert again.rio.transform() == made.rio.transform()
        xr.testing.assert_equal(again, made)


# --- the real Sentinel-2 product -----------------------------------------------------------------

REFLECTANCE = "measurements/reflectance"


def test_sentinel_levels(realdata):
    with rio():
        tree = open_tree(realdata / "eopf_S2C_L2A_geozarr")
        below = tree[REFLECTANCE]
        assert [*below.children] == ["r120m", "r360m", "r720m"]
        for name, step, size in (("r120m", 120, 915), ("r360m", 360, 305), ("r720m", 720, 152)):
            level = below[name].to_dataset()
            assert len(level.data_vars) == 11
            assert dict(level.sizes) == {"y": size, "x": size}
            assert level.rio.crs.to_epsg() == 32632
            assert tuple(level.rio.transform())[:6] == (step, 0, 699_960, 0, -step, 4_700_040)
            for band in level.data_vars.values():
                assert band.rio.crs.to_epsg() == 32632
                assert band.dims == ("y", "x")


@pytest.mark.parametrize(("level", "name"), [(0, "r120m"), (1, "r360m"), (-1, "r720m")])
def test_sentinel_level(realdata, level, name):
    path = realdata / "eopf_S2C_L2A_geozarr"
    by_level = open_one(path, group=REFLECTANCE, level=level)
    by_name = open_one(path, group=REFLECTANCE, level=name)
    by_group = open_one(path, group=f"{REFLECTANCE}/{name}")
    xr.testing.assert_identical(by_level, by_name)
    xr.testing.assert_equal(by_level, by_group)
    xr.testing.assert_identical(
        by_group, xr.open_dataset(path, engine="zarr", group=f"{REFLECTANCE}/{name}",
                                  decode_coords="all")
    )  # fmt: skip


def test_sentinel_pixels_are_placed(realdata):
    level = open_one(realdata / "eopf_S2C_L2A_geozarr", group=f"{REFLECTANCE}/r720m")
    assert float(level.x[0]) == 699_960 + 360
    corner = level.sel(x=slice(700_000, 703_000), y=slice(4_700_000, 4_697_000))
    assert corner.b04.shape == (4, 4)
    assert 0 <= float(corner.b04.mean()) < 2


def test_invalid_json_below_consolidated_metadata(realdata):
    """A child's zarr.json has a comma too many, which the consolidated metadata hides."""
    path = realdata / "eopf_S2C_L2A_geozarr"
    with pytest.raises(ValueError, match=r"trailing comma|double quotes"):
        json.loads((path / REFLECTANCE / "zarr.json").read_text())
    assert len(open_tree(path).leaves) == 3
    with pytest.raises(InvalidMetadataError, match=f"{REFLECTANCE}.*not valid JSON"):
        open_tree(path, consolidated=False)
    with pytest.raises(InvalidMetadataError, match=r"not valid JSON.*group="):
        open_one(path / REFLECTANCE)


def test_group_of_groups_is_ambiguous(realdata):
    with pytest.raises(AmbiguousTargetError, match="measurements"):
        open_one(realdata / "eopf_S2C_L2A_geozarr")
