"""CF and GeoZarr stores are written anew for other readers, and xarray sees no difference.

Sources are written by xarray, from made cubes and from real netCDF files, and read back with this
engine and with xarray's own, before and after.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

import hfzarr
from realstores import cases, quietly
from stores import climate, write_cf, write_geo

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])
STEPS = {
    "air": {
        "chunks": (1, 4, 6),
        "dtype": "int16",
        "scale_factor": 0.01,
        "add_offset": 280.0,
        "_FillValue": -999,
    }
}
#: A pixel's whole history in one chunk, where a store has one step in each.
SERIES = {"time": -1, "lat": 2, "lon": 2}
NARROW = {"inner_chunk": SERIES, "max_memory": 300, "shard": {"time": -1, "lat": 4, "lon": 4}}
WAYS: dict[str, dict[str, Any]] = {
    "copied": {},
    "series": {"inner_chunk": SERIES},
    "little memory": NARROW,
    "unsharded": {"shard": None},
    "other codecs": {"codecs": "zstd:1"},
}
BY_WAY = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)

# xarray's remarks on what it is asked for here; they are the same before and after.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use_cftime.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*use_cftime.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:(Failed to decode.*)?In a future version, xarray will not"),
    pytest.mark.filterwarnings("ignore:.*timedelta.*:FutureWarning"),
]


def reshard(source: Any, target: Path, **options: Any) -> Path:
    with quietly():
        hfzarr.reshard(source, target, verify="full", progress=False, **options)
    return target


def check_same(source: Any, target: Any, **options: Any) -> None:
    """Fail unless both engines see the same before and after, to what they would write back."""
    for engine in ("hfzarr", "zarr"):
        coords = {"decode_coords": "all"} if options.get("decode_cf", True) else {}
        chosen = {"engine": engine, **coords, **options}
        with xr.open_dataset(source, **chosen) as old, xr.open_dataset(target, **chosen) as new:
            xr.testing.assert_identical(new.load(), old.load())
            assert packing(new) == packing(old), engine
            for name, variable in old.variables.items():
                assert kind(new[name]) == kind(variable), (engine, name)


def kind(variable: Any) -> str:
    """Return the data type; all text is alike."""
    dtype = variable.dtype
    return "text" if dtype.kind in "OT" else str(dtype.newbyteorder("="))


PACKING = ("scale_factor", "add_offset", "units", "calendar", "_FillValue", "coordinates",
           "grid_mapping", "bounds", "missing_value", "dtype")  # fmt: skip


def packing(dataset: xr.Dataset) -> dict[Any, dict[str, str]]:
    return {
        name: {key: native(variable.encoding[key]) for key in PACKING if key in variable.encoding}
        for name, variable in dataset.variables.items()
    }


def native(value: Any) -> str:
    """Return a value as text: a number is Python's or NumPy's, a data type of any byte order."""
    if isinstance(value, np.dtype):
        return "text" if value.kind in "OT" else value.newbyteorder("=").str
    return str(np.asarray(value).tolist())


# --- stores that xarray writes -------------------------------------------------------------------


@BY_WAY
@FORMATS
def test_a_cube(zarr_format: int, options: dict[str, Any], tmp_path: Path) -> None:
    """Packing, a mask, bounds, times, intervals, text of both kinds, a grid mapping."""
    source = write_cf(tmp_path / "a", zarr_format=zarr_format, encoding=STEPS)
    target = reshard(source, tmp_path / "b", **options)
    check_same(source, target)
    air = zarr.open_array(target / "air", mode="r")
    assert air.chunks == ((5, 2, 2) if "inner_chunk" in options else (1, 4, 6))


@FORMATS
@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian", "proleptic_gregorian"])
def test_calendars(zarr_format: int, calendar: str, tmp_path: Path) -> None:
    pytest.importorskip("cftime", reason="other calendars need cftime")
    source = write_cf(tmp_path / "a", zarr_format=zarr_format, calendar=calendar)
    target = reshard(source, tmp_path / "b", inner_chunk=SERIES)
    check_same(source, target)
    check_same(source, target, decode_times=False)


FLAGS: list[dict[str, Any]] = [
    {"mask_and_scale": False},
    {"decode_times": False},
    {"decode_timedelta": True},
    {"concat_characters": False},
    {"decode_coords": False},
    {"decode_coords": "coordinates"},
    {"drop_variables": "air"},
    {"chunks": {}},
]


@pytest.fixture(scope="module", params=[2, 3])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("cf")
    source = write_cf(folder / "a", zarr_format=request.param)
    return source, reshard(source, folder / "b", inner_chunk=SERIES)


@pytest.mark.parametrize("options", FLAGS, ids=str)
def test_decoders_see_the_same(pair: Any, options: dict[str, Any]) -> None:
    check_same(*pair, **options)


def test_raw_values_are_the_same(pair: Any) -> None:
    """Undecoded, v2's fill value is no attribute to xarray, and v3's mask is one."""
    source, target = pair
    with (
        xr.open_dataset(source, engine="hfzarr", decode_cf=False) as old,
        xr.open_dataset(target, engine="hfzarr", decode_cf=False) as new,
    ):
        xr.testing.assert_equal(new, old)
        for name in old.variables:
            assert without_fill(new[name].attrs) == without_fill(old[name].attrs)
        assert new.attrs == old.attrs


def without_fill(attrs: Any) -> dict[str, Any]:
    return {key: value for key, value in attrs.items() if key != "_FillValue"}


MASKED = {
    "int16": -999,
    "uint8": 255,
    "int64": 2**53 + 1,
    "uint64": 2**64 - 1,
    "float32": float("nan"),
    "float64": -1e34,
    ">i2": 7,
    ">f4": float("inf"),
}


@pytest.mark.parametrize("dtype", MASKED)
@FORMATS
def test_what_is_masked_stays_masked(zarr_format: int, dtype: str, tmp_path: Path) -> None:
    fill = np.dtype(dtype).type(MASKED[dtype])
    values = np.arange(12, dtype=dtype).reshape(3, 4)
    values[1] = fill
    raw = xr.Dataset({"a": (("t", "x"), values, {"_FillValue": fill})})
    raw.to_zarr(tmp_path / "a", zarr_format=zarr_format, encoding={"a": {"chunks": (1, 2)}})
    target = reshard(tmp_path / "a", tmp_path / "b")
    check_same(tmp_path / "a", target)
    found = zarr.open_array(target / "a")[...]
    np.testing.assert_array_equal(found, values)


def test_absent_chunks_of_v2_stay_masked(tmp_path: Path) -> None:
    """A chunk that was never written is missing data, not the number that stands for it."""
    made = xr.Dataset({"a": (("t", "x"), np.ones((4, 6)), {}, {"_FillValue": -5.0})})
    made.to_zarr(tmp_path / "a", zarr_format=2, encoding={"a": {"chunks": (1, 3)}})
    (tmp_path / "a" / "a" / "2.1").unlink()
    target = reshard(tmp_path / "a", tmp_path / "b")
    check_same(tmp_path / "a", target)
    with xr.open_dataset(target, engine="zarr") as opened:
        assert np.isnan(opened["a"].values).sum() == 3


def test_a_v2_array_without_fill_value(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "a", zarr_format=2)
    array = root.create_array(
        "a", shape=(6,), chunks=(2,), dtype="i4", fill_value=None,
        attributes={"_ARRAY_DIMENSIONS": ["x"], "units": "m"},
    )  # fmt: skip
    array[...] = np.arange(6)
    zarr.consolidate_metadata(tmp_path / "a")
    target = reshard(tmp_path / "a", tmp_path / "b")
    check_same(tmp_path / "a", target)


@FORMATS
def test_appended_steps(zarr_format: int, tmp_path: Path) -> None:
    """A record that grew step by step: 40 files of each variable become one."""
    days = xr.date_range("2001-01-01", periods=40, use_cftime=False)
    values = np.random.default_rng(0).normal(size=(40, 6, 8)).astype("float32")
    whole = xr.Dataset(
        {"t2m": (("time", "y", "x"), values, {"coordinates": "lat lon"})},
        coords={
            "time": days,
            "lat": (("y", "x"), np.ones((6, 8))),
            "lon": (("y", "x"), np.zeros((6, 8))),
        },
    )
    whole["t2m"].attrs.pop("coordinates")
    target = tmp_path / "a"
    encoding = {"time": {"chunks": (1,), "units": "hours since 2001-01-01"}}
    first = whole.isel(time=slice(0, 1))
    first.to_zarr(target, zarr_format=zarr_format, encoding=encoding)
    for step in range(1, 40, 13):
        part = whole.isel(time=slice(step, step + 13)).drop_vars(["lat", "lon"])
        part.chunk(time=1).to_zarr(target, append_dim="time")
    done = reshard(target, tmp_path / "b")
    check_same(target, done)
    series = reshard(target, tmp_path / "c", inner_chunk={"time": -1, "y": 3, "x": 4})
    check_same(target, series)
    for store in (done, series):
        chunks = [p for p in (store / "t2m").rglob("*") if p.is_file() and p.name != "zarr.json"]
        assert len(chunks) == 1


def test_nested_groups(tmp_path: Path) -> None:
    tree = xr.DataTree.from_dict(
        {
            "/": climate().drop_vars(["code", "site"]),
            "/a": climate()[["flags"]],
            "/a/b": climate()[["air", "crs"]],
        }
    )
    tree.to_zarr(tmp_path / "a")
    target = reshard(tmp_path / "a", tmp_path / "b", inner_chunk=SERIES)
    for engine in ("hfzarr", "zarr"):
        options: dict[str, Any] = {"engine": engine, "decode_coords": "all"}
        with (
            xr.open_datatree(tmp_path / "a", **options) as old,
            xr.open_datatree(target, **options) as new,
        ):
            xr.testing.assert_identical(new, old)
    part = reshard(tmp_path / "a", tmp_path / "c", group="a/b")
    with quietly():
        check_same(tmp_path / "a" / "a" / "b", part)


def test_xarray_can_append_to_what_was_written(tmp_path: Path) -> None:
    """The target is a store like any other: it can be written to again."""
    source = write_cf(MemoryStore(), zarr_format=3, encoding=STEPS)
    target = reshard(source, tmp_path / "b", drop_variables=["site", "code", "lag"])
    with xr.open_dataset(target, engine="zarr") as opened:
        more = opened[["air"]].load().drop_vars(["lat", "lon"], errors="ignore")
    more["time"] = more["time"] + np.timedelta64(5, "D")
    for variable in more.variables.values():
        variable.encoding.clear()
    more.to_zarr(target, append_dim="time")
    with xr.open_dataset(target, engine="hfzarr") as grown:
        assert grown.sizes["time"] == 10
        np.testing.assert_allclose(grown["air"].values[5:], grown["air"].values[:5])


# --- real netCDF files, converted ----------------------------------------------------------------


@FORMATS
@cases("name", ["A1B_north_america.nc", "ostia_monthly.nc"])
def test_a_real_record_for_series(
    name: str, zarr_format: int, realdata: Path, tmp_path: Path
) -> None:
    """Written a step to a chunk, as models do; rewritten for the history of a place."""
    with opened_netcdf(realdata / "iris_nc" / name) as found:
        made = found.load().drop_encoding()
    (variable,) = [name for name, data in made.data_vars.items() if data.ndim == 3]
    first, *_ = made[variable].dims
    steps = {variable: {"chunks": (1, *made[variable].shape[1:])}}
    source = tmp_path / "a"
    made.to_zarr(source, zarr_format=zarr_format, encoding=steps)
    sides = {str(first): -1, **{str(dim): 8 for dim in made[variable].dims[1:]}}
    for options in ({}, {"max_memory": "300 KiB"}):
        target = tmp_path / f"b{len(options)}"
        plan = hfzarr.plan_reshard(source, inner_chunk=sides, **options)
        reshard(source, target, inner_chunk=sides, **options)
        check_same(source, target)
        assert plan.files_after < plan.files_before / 2
        routes = {one.spec.path: one.route for one in plan.arrays}
        assert routes[str(variable)] == ("rechunk" if options else "transcode")
        chunks = zarr.open_array(target / str(variable), mode="r").chunks
        assert chunks[0] == made.sizes[first]


@contextlib.contextmanager
def opened_netcdf(path: Path) -> Iterator[xr.Dataset]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(Failed to decode.*)?In a future version, xarray")
        try:
            opened = xr.open_dataset(path, engine=None)
        except (ValueError, TypeError, OSError) as error:
            pytest.skip(f"no netCDF reader is here: {error!r:.80}")
        with opened:
            yield opened


# --- GeoZarr -------------------------------------------------------------------------------------


@contextlib.contextmanager
def rio() -> Iterator[None]:
    """Make ``.rio`` available; its import warns of things that are none of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("rioxarray", reason="rioxarray reads the reference system")
        yield


@pytest.mark.parametrize("assets", ["groups", "arrays", "paths"])
@pytest.mark.parametrize("options", [{}, {"inner_chunk": {"y": 5, "x": 16}}], ids=str)
def test_a_pyramid(assets: str, options: dict[str, Any], tmp_path: Path) -> None:
    source = write_geo(tmp_path / "a", assets)
    target = reshard(source, tmp_path / "b", **options)
    with (
        xr.open_datatree(source, engine="hfzarr") as old,
        xr.open_datatree(target, engine="hfzarr", on_invalid="raise") as new,
    ):
        xr.testing.assert_identical(new, old)
    assert attributes(target) == attributes(source)


def attributes(store: Path) -> dict[str, Any]:
    """Return the attributes of every v3 node; of one that is no JSON, those of the root's copy."""
    root = json.loads((store / "zarr.json").read_text("utf-8"))
    held = root.get("consolidated_metadata", {}).get("metadata", {})
    found = {path: doc.get("attributes", {}) for path, doc in held.items()}
    return {"": root["attributes"], **found}


SENTINEL = "eopf_S2C_L2A_geozarr"


@cases("root", [SENTINEL])
@pytest.mark.parametrize("options", [{}, {"inner_chunk": {"y": 64, "x": 64}}], ids=str)
def test_sentinel(root: str, options: dict[str, Any], realdata: Path, tmp_path: Path) -> None:
    """Attributes to the letter, and the reference system and place as rioxarray reads them."""
    source = realdata / root
    target = reshard(source, tmp_path / "t", **options)
    assert attributes(target) == attributes(source)
    with (
        rio(),
        xr.open_datatree(source, engine="hfzarr") as old,
        xr.open_datatree(target, engine="hfzarr") as new,
    ):
        xr.testing.assert_identical(new, old)
        checked = 0
        for node in new.subtree:
            dataset, before = node.to_dataset(), old[node.path].to_dataset()
            if "spatial_ref" not in dataset.coords or not {"x", "y"} <= set(dataset.dims):
                continue
            checked += 1
            assert dataset.rio.crs is not None
            assert dataset.rio.crs == before.rio.crs
            assert dataset.rio.transform() == before.rio.transform()
            assert dataset.rio.bounds() == before.rio.bounds()
        assert checked


@cases("root", [SENTINEL])
def test_a_document_that_is_no_json_is_mended(root: str, realdata: Path, tmp_path: Path) -> None:
    """One group's own zarr.json has a comma too many, which only consolidated metadata hides."""
    target = reshard(realdata / root, tmp_path / "t")
    broken = []
    for document in sorted((realdata / root).rglob("zarr.json")):
        path = document.relative_to(realdata / root)
        try:
            json.loads(document.read_text("utf-8"))
        except ValueError:
            broken.append(path)
        json.loads((target / path).read_text("utf-8"))
    assert broken
    with xr.open_datatree(target, engine="zarr", consolidated=False) as tree:
        assert len(list(tree.subtree)) == 6
