"""CF groups: what this engine gives is what xarray's own engine gives."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore, MemoryStore

from stores import climate, write_cf


def open_one(target, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


def open_tree(target, **options) -> xr.DataTree:
    return xr.open_datatree(target, engine="hfzarr", **options)


def both(store, **options) -> tuple[xr.Dataset, xr.Dataset]:
    """Open a store with this engine and with xarray's own."""
    return (
        xr.open_dataset(store, engine="hfzarr", **options),
        xr.open_dataset(store, engine="zarr", **{"decode_coords": "all", **options}),
    )


def check_same(store, **options) -> None:
    ours, theirs = both(store, **options)
    xr.testing.assert_identical(ours.load(), theirs.load())
    for name, variable in theirs.variables.items():
        assert ours[name].dtype == variable.dtype, name
        # Older xarrays leave the fill value of Zarr v3 out.
        assert ours[name].encoding.keys() - {"fill_value"} == variable.encoding.keys() - {
            "fill_value"
        }, name
    assert set(ours.coords) == set(theirs.coords)


FLAGS = [
    {},
    {"decode_cf": False},
    {"mask_and_scale": False},
    {"mask_and_scale": {"air": False}},
    {"decode_times": False},
    {"decode_times": {"time": False}},
    pytest.param(
        {"decode_times": xr.coders.CFDatetimeCoder(time_unit="s")}, id="decode_times in seconds"
    ),
    {"decode_timedelta": True},
    {"decode_timedelta": False},
    {"concat_characters": False},
    {"decode_coords": True},
    {"decode_coords": False},
    {"decode_coords": "coordinates"},
    {"decode_coords": "all"},
    {"drop_variables": "air"},
    {"drop_variables": ["flags", "none"]},
    {"drop_variables": ["time", "lat", "lon"]},
    {"decode_cf": False, "drop_variables": "crs"},
    {"chunks": {}},
    {"create_default_indexes": False},
    {"cache": False},
]


@pytest.mark.parametrize("options", FLAGS, ids=str)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_cf_as_xarrays_engine(zarr_format, options):
    check_same(write_cf(MemoryStore(), zarr_format=zarr_format), **options)


@pytest.mark.parametrize("name", ["lat_bounds", "crs"])
def test_dropping_what_others_refer_to(name):
    """As with xarray's engine: no warning, and the reference stays in the encoding."""
    check_same(write_cf(MemoryStore()), drop_variables=name)


@pytest.mark.parametrize(
    ("zarr_format", "mask", "expected"),
    [
        # xarray writes _FillValue into Zarr v2's fill_value, and into an attribute of v3.
        (2, None, [0, 1, np.nan]),
        (2, True, [0, 1, np.nan]),
        (2, False, [0, 1, -1]),
        (3, None, [0, 1, np.nan]),
        (3, False, [0, 1, np.nan]),
    ],
)
def test_zarr_fill_value_as_mask(zarr_format, mask, expected):
    store = MemoryStore()
    made = xr.Dataset({"a": (("x",), np.array([0, 1, np.nan]), {}, {"_FillValue": -1.0})})
    made.to_zarr(store, zarr_format=zarr_format)
    dataset = open_one(store, use_zarr_fill_value_as_mask=mask)
    np.testing.assert_array_equal(dataset.a, expected)


@pytest.mark.parametrize(("mask", "first"), [(None, 0), (False, 0), (True, np.nan)])
def test_fill_value_of_v3_as_mask(mask, first):
    store = MemoryStore()
    root = zarr.create_group(store)
    root.create_array("a", data=np.arange(3.0), fill_value=0.0, dimension_names=["x"])
    zarr.consolidate_metadata(store)
    dataset = open_one(store, use_zarr_fill_value_as_mask=mask)
    np.testing.assert_array_equal(dataset.a, [first, 1, 2])


@pytest.mark.filterwarnings("ignore:.*use_cftime.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*use_cftime.*:FutureWarning")
@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian", "proleptic_gregorian"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_calendars(zarr_format, calendar):
    pytest.importorskip("cftime", reason="other calendars need cftime")
    store = write_cf(MemoryStore(), zarr_format=zarr_format, calendar=calendar)
    check_same(store)
    check_same(store, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True))
    check_same(store, use_cftime=True)
    ours, _ = both(store, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True))
    assert type(ours.time.values[0]).__name__.startswith("Datetime")


def test_bounds_and_grid_mapping_are_coordinates():
    dataset = open_one(write_cf(MemoryStore()))
    assert {"lat_bounds", "crs"} <= set(dataset.coords)
    assert np.isnan(dataset.air.values[1, 2, 3])
    np.testing.assert_allclose(dataset.air, climate().air, atol=0.006)
    assert dataset.air.encoding["scale_factor"] == 0.01


@pytest.mark.filterwarnings("ignore:Failed to open Zarr store with consolidated:RuntimeWarning")
@pytest.mark.parametrize(
    "path",
    [
        "esmvalcore/example_field_0.zarr2",
        "intake_blank",
        "titiler_multidim/zarr_store_v2.zarr",
        "titiler_multidim/zarr_store_v3.zarr",
        "titiler_multidim/unconsolidated.zarr",
        "titiler_xarray/dataset_3d.zarr",
        "titiler_xarray/zarr_5d.zarr",
    ],
)
@pytest.mark.parametrize("options", [{}, {"decode_cf": False}], ids=str)
def test_real_cf_stores(realdata, path, options):
    ours, theirs = both(realdata / path, **options)
    xr.testing.assert_identical(ours.drop_vars("spatial_ref", errors="ignore"), theirs.drop_vars(
        "spatial_ref", errors="ignore"))  # fmt: skip


@pytest.mark.filterwarnings("ignore:(Failed to decode.*)?In a future version, xarray will not")
@pytest.mark.parametrize("name", ["A1B_north_america.nc", "ostia_monthly.nc"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_converted_netcdf(realdata, tmp_path, name, zarr_format):
    known = set(xr.backends.list_engines()) & {"netcdf4", "h5netcdf", "scipy"}
    try:
        with xr.open_dataset(realdata / "iris_nc" / name, engine=None) as opened:
            made = opened.isel(time=slice(0, 20)).load()
    except (ValueError, TypeError, OSError) as error:
        pytest.skip(f"none of the netCDF readers {sorted(known)} reads it: {error!r:.80}")
    made = made.drop_encoding()
    made.to_zarr(tmp_path / "a", zarr_format=zarr_format, consolidated=True)
    check_same(tmp_path / "a")
    check_same(tmp_path / "a", decode_cf=False)
    xr.testing.assert_allclose(open_one(tmp_path / "a", decode_coords=True), made)


def test_nested_cf_groups_as_xarrays_engine():
    store = MemoryStore()
    tree = xr.DataTree.from_dict(
        {
            "/": climate().drop_vars(["code", "site"]),
            "/a": climate()[["flags"]],
            "/a/b": climate()[["air", "crs"]],
        }
    )
    tree.to_zarr(store)
    ours = open_tree(store)
    theirs = xr.open_datatree(store, engine="zarr", decode_coords="all")
    assert not ours["/a/b/air"].variable._in_memory
    xr.testing.assert_identical(ours, theirs)


def test_local_store_given_as_an_object(tmp_path):
    store = LocalStore(tmp_path / "a")
    write_cf(store)
    xr.testing.assert_identical(open_one(store), open_one(tmp_path / "a"))
