"""Handles: small values that name a store, and become what it is at their first use."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import multiprocessing
import os
import pickle
import pprint
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

import ome_reference
import realstores
from hfzarr.errors import HfzarrError, NodeNotFoundError, StoreNotFoundError, TargetError
from hfzarr.rows.cells import cell_text, parse_cell
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.kinds import OmeZarr, ZarrArray, ZarrGroup
from hfzarr.store.options import StorageOptions
from servers import http_server
from stores import CHUNKS, SHAPE, pixels, write_cf, write_image, write_plate, zip_folder

ROW = "row 17 of 'index.parquet'"
SECRET = "wrpx9Qz"
CUBE = np.arange(5 * 6 * 7, dtype=">i4").reshape(5, 6, 7)


def local(folder: Path) -> zarr.storage.LocalStore:
    """Return a store at a folder of any name; zarr takes '#' and '?' in text for parts of a URL."""
    return zarr.storage.LocalStore(folder)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of stores of each kind."""
    folder = tmp_path_factory.mktemp("stores")
    zarr.create_array(
        local(folder / "cube.zarr"), data=CUBE, chunks=(2, 3, 4), dimension_names=("z", "y", "x")
    )
    write_cf(str(folder / "climate.zarr"))
    write_image(str(folder / "cells.ome.zarr"))
    write_plate(str(folder / "plate.zarr"))
    return folder


@pytest.fixture
def cube(places: Path) -> ZarrHandle:
    return ZarrHandle(str(places / "cube.zarr"))


@pytest.fixture
def cells(places: Path) -> ZarrHandle:
    return ZarrHandle(str(places / "cells.ome.zarr"))


@pytest.fixture
def climate(places: Path) -> ZarrHandle:
    return ZarrHandle(str(places / "climate.zarr"))


# --- nothing loads -------------------------------------------------------------------------------

_touched: list[str] = []
_watched: list[str] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _watched and event in ("open", "os.listdir", "os.scandir") and args:
        with contextlib.suppress(TypeError):
            path = os.fsdecode(args[0])
            _touched.extend(path for folder in _watched if path.startswith(folder))


@contextlib.contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Fail if a file or folder below is opened or listed."""
    if _audit not in _hooks:
        sys.addaudithook(_audit)
        _hooks.append(_audit)
    _touched.clear()
    _watched[:] = [str(folder)]
    try:
        yield
    finally:
        _watched.clear()
    assert _touched == []


_hooks: list[Any] = []


def _pandas() -> Any:
    return pytest.importorskip("pandas")


def _assigned_column(handle: ZarrHandle) -> str:
    if int(_pandas().__version__.split(".")[0]) < 3:
        pytest.skip("pandas 2 takes whatever has keys() for a mapping")
    return repr(_frame(handle).assign(other=handle))


def _assigned(handle: ZarrHandle) -> str:
    frame = _pandas().DataFrame({"zarr": [None, None]}, dtype=object)
    frame.at[0, "zarr"] = handle
    frame.loc[1, "zarr"] = handle
    return repr(frame)


def _collated(handle: ZarrHandle) -> Any:
    collate = pytest.importorskip("torch.utils.data").default_collate
    with contextlib.suppress(TypeError):
        collate([handle, handle])
    with contextlib.suppress(TypeError):
        collate([{"zarr": handle, "label": 1}, {"zarr": handle, "label": 2}])


def _tensor(handle: ZarrHandle) -> Any:
    torch = pytest.importorskip("torch")
    for make in (torch.tensor, torch.as_tensor):
        for value in (handle, [handle]):
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                make(value)


def _arrow(handle: ZarrHandle) -> Any:
    pa = pytest.importorskip("pyarrow")
    with contextlib.suppress(pa.ArrowInvalid):
        pa.array([handle])
    with contextlib.suppress(pa.ArrowInvalid):
        pa.Table.from_pandas(_pandas().DataFrame({"zarr": [handle]}))


def _frame(handle: ZarrHandle) -> Any:
    return _pandas().DataFrame({"zarr": [handle, handle], "label": [1, 2]})


USES: dict[str, Callable[[ZarrHandle], Any]] = {
    "repr": lambda h: f"{h} {h!r} {pprint.pformat([h])} {pprint.pformat({'a': h})}",
    "bool": bool,
    "hash": hash,
    "eq": lambda h: (h == ZarrHandle(h.url), h != ZarrHandle("x"), h == 1, h == "x", h is None),
    "eq array": lambda h: np.arange(3) == h,
    "in list": lambda h: (h in [1, h], [1, h].index(h), [h].count(h)),
    "set": lambda h: {h, ZarrHandle(h.url)},
    "dict": lambda h: {h: 1}[ZarrHandle(h.url)],
    "copy": lambda h: [copy.copy(h), copy.deepcopy(h), copy.deepcopy({"a": [h]})],
    "pickle": lambda h: pickle.loads(pickle.dumps(h)),
    "replace": lambda h: dataclasses.replace(h, node="x") if dataclasses.is_dataclass(h) else h,
    "asdict": lambda h: dataclasses.asdict(h) if dataclasses.is_dataclass(h) else h,
    "fields": lambda h: (h.url, h.node, h.path, h.name, dict(h.items())),
    "location": lambda h: h.location,
    "cell": cell_text,
    "hasattr": lambda h: [hasattr(h, n) for n in ("__array__", "values", "foo", "__len__", "iloc")],
    "np.asarray": lambda h: (np.asarray(h), np.asanyarray([h, h]), np.array([[h], [h]])),
    "np object": lambda h: (np.empty(2, object).fill(h), np.full(2, h, object), np.ndim([h])),
    "np.unique": lambda h: np.isin(np.array([h], object), [h]),
    "Series": lambda h: _pandas().Series([h, h]),
    "Series repr": lambda h: repr(_pandas().Series([h, h])),
    "Series isin": lambda h: _pandas().Series([h, h]).isin([h]).tolist(),
    "Series map": lambda h: _pandas().Series([h, h]).map(lambda x: x.url).tolist(),
    "value_counts": lambda h: _pandas().Series([h, h]).value_counts().to_dict(),
    "DataFrame repr": lambda h: (repr(_frame(h)), str(_frame(h)), _frame(h).to_string()),
    "DataFrame html": lambda h: (_frame(h)._repr_html_(), _frame(h).to_html()),
    "DataFrame use": lambda h: (
        _frame(h).drop_duplicates("zarr"), _frame(h).isna(), _frame(h)[lambda f: f.label == 1],
        _frame(h).info(buf=io.StringIO()), _frame(h).memory_usage(deep=True), _frame(h).to_csv(),
        _frame(h).merge(_frame(h), on="label"), _frame(h).copy(), _frame(h).set_index("zarr"),
        _frame(h).groupby("zarr", sort=False).label.sum(), _frame(h).explode("zarr"),
    ),
    "DataFrame records": lambda h: (_frame(h).to_dict("records"), _frame(h).to_numpy()),
    "DataFrame of handles": lambda h: repr(_pandas().DataFrame([h, h])),
    "DataFrame assign": lambda h: _assigned_column(h),
    "DataFrame at": _assigned,
    "DataFrame describe": lambda h: repr(_frame(h).describe(include="all")),
    "DataFrame json": lambda h: _frame(h).to_json(default_handler=str),
    "DataArray": lambda h: repr(xr.DataArray([h, h], dims="row")),
    "coords": lambda h: xr.Dataset({"a": ("row", [1, 2])}, {"zarr": ("row", [h, h])}).isel(row=0),
    "dask": lambda h: pytest.importorskip("dask").delayed(repr)(h).compute(scheduler="sync"),
    "tokenize": lambda h: pytest.importorskip("dask.base").tokenize(h, [h], {"a": h}),
    "collate": _collated,
    "tensor": _tensor,
    "arrow": _arrow,
    "json": lambda h: json.dumps({"a": h}, default=str),
}  # fmt: skip


@pytest.mark.parametrize("seen", [False, True], ids=["fresh", "seen"])
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_nothing_is_read(places: Path, use: Callable[[ZarrHandle], Any], seen: bool) -> None:
    names = ["cube.zarr", "climate.zarr", "cells.ome.zarr", "nowhere.zarr"]
    handles = [ZarrHandle(str(places / name)) for name in names]
    if seen:
        handles = [h.resolve() for h in handles[:-1]]
    use(handles[0])  # imports what it needs
    for handle in handles:
        with untouched(places):
            use(handle)


def test_nothing_is_asked_of_a_server(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    write_image(str(tmp_path / "cells.zarr"))
    with http_server(tmp_path) as (url, asked):
        for name, use in USES.items():
            with contextlib.suppress(pytest.skip.Exception):
                use(ZarrHandle(f"{url}/cells.zarr"))
            assert asked == [], name
        assert ZarrHandle(f"{url}/cells.zarr").shape == SHAPE
        assert asked


def test_who_asks_for_a_dtype_gets_metadata_and_no_pixels(tmp_path: Path, places: Path) -> None:
    """``hasattr(x, "dtype")`` is a question that a store alone can answer."""
    pytest.importorskip("aiohttp")
    pd = _pandas()
    with http_server(places) as (url, asked):
        for name in ("cube.zarr", "climate.zarr", "cells.ome.zarr"):
            handle = ZarrHandle(f"{url}/{name}")
            assert (pd.Series([handle, handle]) == handle).tolist() == [True, True]
            dataset = xr.Dataset(coords={"zarr": ("row", [handle, handle])})
            assert "ZarrHandle" in repr(dataset) + dataset._repr_html_()
            assert hasattr(handle, "dtype") == (name != "climate.zarr")
        assert not [path for path in asked if not path.endswith(realstores.DOCUMENTS)]


def test_no_text_of_a_table_holds_secrets() -> None:
    pd = _pandas()
    handle = ZarrHandle("s3://b/a.zarr", options=StorageOptions.of({"secret": SECRET}))
    frame = pd.DataFrame({"zarr": [handle]})
    for text in (repr(frame), frame.to_csv(), frame.to_json(default_handler=str)):
        assert SECRET not in text
    assert SECRET not in repr(dict(handle.items()))
    assert SECRET.encode() not in pickle.dumps(frame)


def test_it_passes_for_no_array() -> None:
    handle = ZarrHandle("/a/b.zarr")
    for name in ("__array__", "__array_interface__", "__array_function__", "__array_ufunc__"):
        assert not hasattr(handle, name)
    with pytest.raises(TypeError):
        len(handle)
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        handle.url = "/other"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="'levelss'"):
        _ = handle.levelss


def test_a_token_of_dask_is_that_of_the_place(cube: ZarrHandle) -> None:
    tokenize = pytest.importorskip("dask.base").tokenize
    before = tokenize(cube)
    assert cube.shape == CUBE.shape
    assert tokenize(cube) == before == tokenize(pickle.loads(pickle.dumps(cube)))
    assert before != tokenize(ZarrHandle(cube.url, "a"))


# --- pickles -------------------------------------------------------------------------------------


def test_children_survive_pickling(
    cells: ZarrHandle, climate: ZarrHandle, cube: ZarrHandle
) -> None:
    children: list[Any] = [
        cells.get_level(0), cells.get_level(-1), *cells.levels, cells["1"], cells["labels/nuclei"],
        cells["labels"]["nuclei"], cells["labels/nuclei"].get_level(1), cells.array("2"),
        *cells.arrays(), climate["air"], climate.array("lat"), cube.array(), cube.resolve(),
        cells.resolve(), climate.resolve(), cells["labels"][".."],
    ]  # fmt: skip
    for child in children:
        text = pickle.dumps(child)
        again = pickle.loads(text)
        assert len(text) < 1000
        assert again == child
        assert type(again) is type(child)
        assert (again.kind, again.attrs) == (child.kind, child.attrs)
        if child.kind != "group":
            np.testing.assert_array_equal(again.read(), child.read())
            assert again.select(0) == child.select(0)
        del again
    level = pickle.loads(pickle.dumps(cells.get_level(-1)))
    del cells
    np.testing.assert_array_equal(level.read(), pixels(2))


def test_a_pickle_is_small_though_much_was_seen(places: Path, cells: ZarrHandle) -> None:
    options = StorageOptions.of({"secret": SECRET, "token": SECRET * 500, "anon": False})
    handle = ZarrHandle(cells.url, "", options, ROW, "x" * 100_000)
    assert len(pickle.dumps(handle)) < 1000
    plate = ZarrHandle(str(places / "plate.zarr"), row=ROW)
    for array in plate.arrays():
        array.read()
    plate.to_xarray()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert len(pickle.dumps(plate, protocol)) < 1000
        assert pickle.loads(pickle.dumps(plate, protocol)).row == ROW
    assert SECRET.encode() not in pickle.dumps(handle)


# --- indices -------------------------------------------------------------------------------------


@st.composite
def keys(draw: st.DrawFn) -> Any:
    """Return what may stand between square brackets: NumPy's basic indices, and one array."""
    key = draw(basic_indices(CUBE.shape, allow_newaxis=True, allow_ellipsis=True))
    if not draw(st.booleans()):
        return key
    parts: list[Any] = list(CUBE.shape)
    for axis, n in enumerate(CUBE.shape):
        ends = st.none() | st.integers(-n - 1, n + 1)
        parts[axis] = draw(
            st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, -1, -3]))
            | st.integers(-n, n - 1)
        )
    axis = draw(st.integers(0, 2))
    n = CUBE.shape[axis]
    places = st.lists(st.integers(-n, n - 1), max_size=n + 2)
    parts[axis] = draw(
        places
        | places.map(lambda at: np.array(at, dtype="int64"))
        | st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)
    )
    return tuple(parts)


@given(keys())
def test_indices_are_numpys(places: Path, key: Any) -> None:
    handle = ZarrHandle(str(places / "cube.zarr"))
    try:
        found = handle[key]
    except IndexError:
        # What is refused is what NumPy has for other meanings: new axes, points.
        parts = key if isinstance(key, tuple) else (key,)
        arrays = [i for i, part in enumerate(parts) if isinstance(part, (list, np.ndarray))]
        assert None in [part for part in parts if not isinstance(part, (list, np.ndarray))] or (
            arrays and any(isinstance(part, (int, np.integer)) for part in parts)
        ), key
        return
    wanted = CUBE[key]
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(handle.read(key), wanted)


@pytest.mark.parametrize(
    "key",
    [
        5, -6, (0, 0, 7), (0, 0, 0, 0), 1.0, True, (..., ...), [[0, 1]], np.ones(CUBE.shape, bool),
        [0.5], [5], [-6], np.ones(4, bool), {}, frozenset(), ([0], [1]), slice("a", "b"),
        slice(0.5, 1), slice(None, None, 0),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_index_is_refused(cube: ZarrHandle, key: Any) -> None:
    with pytest.raises((IndexError, TypeError, ValueError)):
        cube[key]


def test_what_is_read_is_the_callers(cube: ZarrHandle) -> None:
    first = cube[0]
    first[:] = -1
    np.testing.assert_array_equal(cube[0], CUBE[0])
    assert first.flags.writeable
    assert cube[1, 2, 3] == CUBE[1, 2, 3]
    assert cube.read().dtype == cube.dtype


def test_it_does_not_iterate(cube: ZarrHandle, climate: ZarrHandle, cells: ZarrHandle) -> None:
    # Libraries that meet an iterable unpack it, and so would read all of it.
    for handle in (cube, climate, cells, climate["crs"]):
        with pytest.raises(TypeError):
            iter(handle)
    assert cells.keys() == ["0", "1", "2", "labels"]


# --- what it turns out to be ---------------------------------------------------------------------


def test_an_array(cube: ZarrHandle) -> None:
    assert cube.kind == "array"
    assert type(cube.resolve()) is ZarrArray
    assert (cube.shape, cube.dims, cube.chunks, cube.shards) == (
        (5, 6, 7), ("z", "y", "x"), (2, 3, 4), None,
    )  # fmt: skip
    assert (cube.dtype.kind, cube.ndim, cube.size, cube.nbytes) == ("i", 3, 210, 840)
    assert (cube.zarr_format, cube.attrs, cube.name) == (3, {}, "cube")
    assert cube.info().arrays == ("",)
    assert [array.node for array in cube.arrays()] == [""]
    assert cube.array() == cube
    assert "x" not in cube
    with pytest.raises(TargetError, match="slices"):
        cube.keys()
    with pytest.raises(AttributeError, match="image"):
        _ = cube.num_levels
    with pytest.raises(TargetError):
        cube.select(level=0)


def test_an_image(cells: ZarrHandle) -> None:
    image = cells.resolve()
    assert type(image) is OmeZarr
    assert isinstance(image, ZarrGroup)
    for handle in (cells, image):
        assert handle.kind == "image"
        assert (handle.shape, handle.chunks, handle.dtype) == (SHAPE, CHUNKS, np.uint16)
        assert handle.num_levels == len(handle.levels) == 3
        assert handle.axis_names == handle.dims == ("c", "z", "y", "x")
        assert handle.axis_types == ("channel", "space", "space", "space")
        assert handle.axes[1] == {"name": "z", "type": "space", "unit": "micrometer"}
        assert handle.units == (None, "micrometer", "micrometer", "micrometer")
        assert handle.scale == (1.0, 2.0, 0.5, 0.5)
        assert handle.channel_names == ("DAPI", "GFP")
        assert handle.labels == ("labels/nuclei",)
        assert handle.get_level("1") == handle.get_level(1) == handle.get_level(-2)
        assert handle.info().arrays[:3] == ("0", "1", "2")
        assert handle.info().zarr_format == 3
        np.testing.assert_array_equal(handle[1, ..., 3], pixels()[1, ..., 3])
        np.testing.assert_array_equal(handle.read((0, 0), level=-1), pixels(2)[0, 0])
    assert cells == image
    assert hash(cells) == hash(image)
    for wrong in (3, -4, "9", 1.0, None, True):
        with pytest.raises(HfzarrError, match="level"):
            image.get_level(wrong)
    with pytest.raises(HfzarrError, match="level"):
        image.read(level=3)


def test_a_group(climate: ZarrHandle) -> None:
    assert type(climate.resolve()) is ZarrGroup
    assert "air" in climate
    for absent in ("nope", "air/x", "", "../x", "../climate.zarr", 3, None):
        assert (absent in climate) is (absent == "")
    assert climate["air"].attrs["standard_name"] == "air_temperature"
    assert climate["air"][".."] == climate
    assert climate.attrs["title"] == "a test"
    assert set(climate.to_xarray().data_vars) >= {"air", "flags"}
    alone = climate["air"].to_xarray()
    assert alone["air"].dims == ("time", "lat", "lon")
    assert set(alone.coords) >= {"time", "lat", "lon"}
    for ask in ("shape", "dtype", "chunks", "ndim", "size", "nbytes"):
        with pytest.raises(TargetError, match="air"):
            getattr(climate, ask)
    for wrong in (lambda: climate["nope"], lambda: climate.array("nope")):
        with pytest.raises(NodeNotFoundError, match="'nope'"):
            wrong()
    with pytest.raises(NodeNotFoundError, match="air"):
        climate.array()


def test_a_plate(places: Path) -> None:
    plate = ZarrHandle(str(places / "plate.zarr"))
    assert (plate.kind, plate.keys()) == ("plate", ["A", "B"])
    assert plate["A/1"].kind == "well"
    assert plate["A"]["1"]["0"].kind == "image"
    assert plate["A/1/0"].scale == (1.0, 2.0, 0.5, 0.5)
    assert len(plate.arrays()) == 10
    assert all(type(array) is ZarrArray for array in plate.arrays())
    assert plate.open_datatree().groups
    for handle in (plate, plate["A/1"], plate["A/1/0"]):
        assert handle.thumbnail(size=20).shape[-1] == 3
        assert "<" in handle._repr_html_()


def test_pictures(cells: ZarrHandle, cube: ZarrHandle, climate: ZarrHandle) -> None:
    assert cells.thumbnail().shape == (8, 12, 3)
    assert cells.thumbnail(level=0, size=24).shape == (16, 24, 3)
    plane = cells.thumbnail(level=0, size=24, project="mean", max_bytes="1 MiB")
    assert plane.shape == (16, 24, 3)
    with pytest.raises(TargetError, match="cmap"):
        cells.thumbnail(cmap="grey")
    assert cube.thumbnail().dtype == np.uint8
    assert climate["flags"].thumbnail().shape == (4, 6, 3)
    for handle in (cells, cube, climate, climate["site"], climate["crs"], climate["time"]):
        assert "<" in handle._repr_html_()
    assert "data:image/" in cells._repr_html_()
    assert "nowhere" in ZarrHandle("/nowhere.zarr")._repr_html_()


def test_odd_arrays(tmp_path: Path) -> None:
    root = zarr.create_group(local(tmp_path / "odd.zarr"))
    data = {
        "scalar": np.array(3.5), "empty": np.zeros((0, 3), "u1"), "big": np.arange(4, dtype=">f8"),
        "bool": np.array([True, False]), "complex": np.arange(3) * 1j, "f2": np.ones(3, "f2"),
        "text": np.array(["a", "bé", ""]), "days": np.array(["2001-01-01"], "M8[ns]"),
        "line": np.arange(9),
    }  # fmt: skip
    for name, values in data.items():
        root.create_array(name, data=values)
    handle = ZarrHandle(str(tmp_path / "odd.zarr"))
    assert handle.keys() == sorted(data)
    for name, values in data.items():
        array = handle[name]
        assert array.shape == values.shape
        assert array.dtype.kind in {values.dtype.kind, *("TOU" if name == "text" else "")}
        assert array.read().shape == values.shape
        np.testing.assert_array_equal(array.read(), values)
        assert array.info().arrays == ("",)
        assert array.to_xarray().sizes == {f"dim_{i}": n for i, n in enumerate(values.shape)}
        assert "<" in array._repr_html_()
    assert [(s, p.tolist()) for s, p in handle["line"].iter_patches(4)] == [
        ((0,), [0, 1, 2, 3]), ((4,), [4, 5, 6, 7]),
    ]  # fmt: skip
    with pytest.raises(TargetError, match="axes"):
        list(handle["scalar"].iter_patches(4))


# --- patches -------------------------------------------------------------------------------------


@given(
    st.integers(1, 8), st.integers(1, 9), st.integers(1, 7),
    st.sampled_from(["drop", "shift", "pad"]), st.integers(1, 3),
)  # fmt: skip
def test_each_patch_comes_once_and_whole(
    places: Path, height: int, width: int, stride: int, edge: Any, axes: int
) -> None:
    handle = ZarrHandle(str(places / "cube.zarr"))
    size = {"z": 2, "y": height, "x": width}
    size = dict(list(size.items())[-axes:])
    lengths = dict(zip("zyx", CUBE.shape, strict=True))
    if edge != "pad" and any(size[dim] > lengths[dim] for dim in size):
        if edge == "drop":
            with contextlib.suppress(HfzarrError):
                assert list(handle.iter_patches(size, stride, edge=edge)) == []
        return
    steps = dict.fromkeys(size, stride)
    found = list(handle.iter_patches(size, steps, edge=edge))
    starts = [start for start, _ in found]
    assert len(set(starts)) == len(starts), "no patch is repeated, whatever leads"
    whole = tuple(size.get(dim, n) for dim, n in lengths.items())
    for start, patch in found:
        assert patch.shape == whole
        begin = dict(zip(size, start, strict=True))
        at = {dim: slice(begin[dim], begin[dim] + size[dim]) for dim in size}
        wanted = CUBE[tuple(at.get(dim, slice(None)) for dim in "zyx")]
        inside = tuple(slice(0, n) for n in wanted.shape)
        np.testing.assert_array_equal(patch[inside], wanted)
    assert np.stack([patch for _, patch in found]).shape == (len(found), *whole)
    if edge == "drop":
        counts = [(lengths[dim] - size[dim]) // stride + 1 for dim in size]
        assert len(found) == np.prod(counts)
    elif all(stride <= n for n in size.values()):
        seen = np.zeros(CUBE.shape, bool)
        for start, _ in found:
            begin = dict(zip(size, start, strict=True))
            seen[tuple(
                slice(begin[dim], begin[dim] + size[dim]) if dim in size else slice(None)
                for dim in "zyx"
            )] = True  # fmt: skip
        assert seen.all()


def test_patches_of_images_and_members(cells: ZarrHandle, climate: ZarrHandle) -> None:
    found = list(cells.iter_patches(16, level=1, edge="shift"))
    assert [start for start, _ in found] == [(0, 0), (0, 8)]
    for (y, x), patch in found:
        np.testing.assert_array_equal(patch, pixels(1)[..., y : y + 16, x : x + 16])
    assert len(list(cells.iter_patches((2, 16, 16)))) == 2 * 2 * 3
    assert len(list(climate["air"].iter_patches(2))) == 2 * 3
    assert climate["air"].iter_patches({"time": 2}).__next__()[1].dtype == np.int16
    assert len(list(climate["lat"].iter_patches(2))) == 2
    assert len(list(climate["time"].iter_patches(2))) == 2
    for wrong in (0, -1, 1.5, True, (1, 2, 3, 4, 5), {"q": 1}, "8", None):
        with pytest.raises((TargetError, TypeError)):
            list(cells.iter_patches(wrong))  # type: ignore[arg-type]


def test_a_chunk_is_read_once_for_all_its_patches(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    zarr.create_array(
        local(tmp_path / "cube.zarr"), data=CUBE, chunks=(5, 3, 7), dimension_names=("z", "y", "x")
    )
    with http_server(tmp_path) as (url, asked):
        handle = ZarrHandle(f"{url}/cube.zarr")
        assert handle.shape == CUBE.shape
        asked.clear()
        assert len(list(handle.iter_patches(2, 1))) == 5 * 6
        chunks = [path for path in asked if "/c/" in path]
        assert sorted(chunks) == sorted(set(chunks))


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 7))
def test_a_drawn_patch_lies_within(places: Path, seed: int, height: int, width: int) -> None:
    handle = ZarrHandle(str(places / "cube.zarr"))
    patch = handle.random_patch((height, width), rng=seed)
    assert patch.shape == (5, height, width)
    y, x = np.unravel_index(patch[0, 0, 0], CUBE.shape)[1:]
    np.testing.assert_array_equal(patch, CUBE[:, y : y + height, x : x + width])
    np.testing.assert_array_equal(patch, handle.random_patch((height, width), rng=seed))


def test_drawn_patches_reach_every_place(cube: ZarrHandle, cells: ZarrHandle) -> None:
    rng = np.random.default_rng(0)
    drawn = {tuple(cube.random_patch(5, rng=rng)[0, 0, :1]) for _ in range(200)}
    assert drawn == {(CUBE[0, y, x],) for y in range(2) for x in range(3)}
    assert cells.random_patch((4, 8, 12), level=-1).shape == (2, 4, 8, 12)
    with pytest.raises(TargetError, match="fit"):
        cells.random_patch(16, level=-1)


# --- places --------------------------------------------------------------------------------------


def test_zips_relative_paths_and_urls(places: Path, monkeypatch: Any, tmp_path: Path) -> None:
    archive = zip_folder(places / "cells.ome.zarr", tmp_path / "cells.ome.zarr.zip")
    monkeypatch.chdir(tmp_path)
    for cell in (archive, archive.name, archive.as_uri(), f"./{archive.name}", f"{archive}"):
        handle = parse_cell(cell)
        assert handle.kind == "image"
        child = pickle.loads(pickle.dumps(handle.get_level(-1)))
        np.testing.assert_array_equal(child.read(), pixels(2))
        assert parse_cell(cell_text(child)).read().shape == pixels(2).shape
        assert parse_cell(cell_text(handle["labels/nuclei"])) == handle["labels/nuclei"]
    monkeypatch.chdir(places)
    handle = parse_cell("cells.ome.zarr")
    monkeypatch.chdir(tmp_path)
    assert handle.shape == SHAPE


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_both_formats_and_no_consolidation(tmp_path: Path, zarr_format: int) -> None:
    write_image(str(tmp_path / "a.zarr"), zarr_format=zarr_format, consolidated=False)
    handle = ZarrHandle(str(tmp_path / "a.zarr"))
    assert handle.zarr_format == handle.info().zarr_format == zarr_format
    assert handle.keys() == ["0", "1", "2", "labels"]
    assert handle.labels == ("labels/nuclei",)
    assert len(handle.arrays()) == 6
    np.testing.assert_array_equal(handle.read(level=-1), pixels(2))


def test_places_with_no_store(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.zarr").write_text("no store")
    for place in ("nowhere", "folder", "file.zarr", "C:\\data\\a.zarr", "nowhere/../x"):
        handle = ZarrHandle(str(tmp_path / place), row=ROW)
        for ask in (
            lambda h: h.kind, lambda h: h.shape, lambda h: h[0], lambda h: h["a"],
            lambda h: h.info(),
            lambda h: h.to_xarray(), lambda h: h.open_datatree(), lambda h: h.select(0),
            lambda h: h.keys(), lambda h: h.random_patch(2), lambda h: h.thumbnail(),
            lambda h: h.levels, lambda h: list(h.iter_patches(2)), lambda h: "a" in h,
            lambda h: h.arrays(),
        ):  # fmt: skip
            with pytest.raises((StoreNotFoundError, TargetError), match=re.escape(ROW)):
                ask(handle)


def test_errors_of_members_and_levels_name_the_row(places: Path) -> None:
    cells = ZarrHandle(str(places / "cells.ome.zarr"), row=ROW)
    for ask in (
        lambda: cells["nope"], lambda: cells.array("nope"), lambda: cells.get_level(9),
        lambda: cells.select(99), lambda: cells.select(typo=1), lambda: cells.random_patch(9999),
        lambda: cells["0"].keys(), lambda: cells["labels"].shape,
        lambda: list(cells.iter_patches({"q": 1})), lambda: cells.to_xarray(level=9),
    ):  # fmt: skip
        with pytest.raises(HfzarrError, match=re.escape(ROW)):
            ask()


def test_a_store_that_vanishes_gives_no_zeros(tmp_path: Path) -> None:
    write_image(str(tmp_path / "a.zarr"))
    handle = ZarrHandle(str(tmp_path / "a.zarr"), row=ROW)
    assert handle.shape == SHAPE
    shutil.move(tmp_path / "a.zarr", tmp_path / "b.zarr")
    with pytest.raises(StoreNotFoundError):
        handle.read()
    shutil.move(tmp_path / "b.zarr", tmp_path / "a.zarr")
    np.testing.assert_array_equal(handle.read(), pixels())


def test_a_store_that_changes_is_seen_by_a_new_handle(tmp_path: Path) -> None:
    zarr.create_array(local(tmp_path / "a.zarr"), data=np.arange(6))
    old = ZarrHandle(str(tmp_path / "a.zarr"))
    assert old.shape == (6,)
    zarr.create_array(local(tmp_path / "a.zarr"), data=np.arange(3), overwrite=True)
    assert ZarrHandle(old.url).read().tolist() == [0, 1, 2]
    assert pickle.loads(pickle.dumps(old)).shape == (3,)


# --- threads and processes -----------------------------------------------------------------------


def test_many_threads_use_one_handle(places: Path) -> None:
    for _ in range(10):
        handle = ZarrHandle(str(places / "cells.ome.zarr"))
        gate, found = threading.Barrier(8), []

        def use(handle: ZarrHandle = handle, gate: Any = gate, found: Any = found) -> None:
            gate.wait()
            try:
                level = handle.get_level(-1)
                found.append((handle.kind, int(handle.read().sum()), level.shape, handle.labels))
            except Exception as error:
                found.append(error)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted = ("image", int(pixels().sum()), pixels(2).shape, ("labels/nuclei",))
        assert found == [wanted] * 8


_PROCESSES = """
import json, multiprocessing, sys
from hfzarr.rows.handle import ZarrHandle

def total(handle):
    return int(handle.read().sum())

def labeled(handle):
    dataset = handle.to_xarray()
    return int(next(iter(dataset.data_vars.values())).sum())

if __name__ == "__main__":
    out = []
    for url in sys.argv[1:]:
        remote = url.startswith("http")
        handle = ZarrHandle(url)
        handles = [handle, handle.resolve(), handle.get_level(0), ZarrHandle(url)]
        first = total(handle)
        for method in ("fork", "spawn") if remote else ("fork",):
            with multiprocessing.get_context(method).Pool(2) as pool:
                found = pool.map_async(total, handles).get(60)
                found += pool.map_async(labeled, handles[:1]).get(60)
            out.append([method, first, found])
        out.append(["after", first, [total(handle)]])
    print(json.dumps(out))
"""

_LOADER = """
import json, sys
import torch
from torch.utils.data import DataLoader, Dataset
from hfzarr.rows.handle import ZarrHandle

class Stores(Dataset):
    def __init__(self, handles):
        self.handles = handles
    def __len__(self):
        return len(self.handles)
    def __getitem__(self, i):
        return torch.from_numpy(self.handles[i].random_patch(8, level=-1, rng=i).astype("int32"))

if __name__ == "__main__":
    out = []
    for url in sys.argv[1:]:
        handles = [ZarrHandle(url) for _ in range(6)]
        handles[0].read()
        want = [int(b.sum()) for b in DataLoader(Stores(handles), batch_size=2)]
        for method in ("fork",) if url.startswith("http") else ("fork", "spawn"):
            loader = DataLoader(
                Stores(handles), batch_size=2, num_workers=2, timeout=60,
                multiprocessing_context=method,
            )
            out.append([method, sum(want), [sum(int(b.sum()) for b in loader)]])
    print(json.dumps(out))
"""


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork"
)
@pytest.mark.parametrize("text", [_PROCESSES, _LOADER], ids=["pool", "loader"])
def test_handles_opened_before_workers_start(places: Path, tmp_path: Path, text: str) -> None:
    pytest.importorskip("aiohttp")
    if text is _LOADER:
        pytest.importorskip("torch")
    script = tmp_path / "script.py"
    script.write_text(text)
    with http_server(places) as (url, _):
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", str(script), str(places / "cells.ome.zarr"),
             f"{url}/cells.ome.zarr"],
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found
    for method, wanted, sums in found:
        assert set(sums) == {wanted}, method


# --- real stores ---------------------------------------------------------------------------------


def _roots() -> list[str]:
    return sorted({realstores.root_of(path) for path in realstores.expected()})


def _corners(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(0, n // 2 - 2), n // 2 + 2) for n in shape)


@realstores.cases("root", _roots())
def test_real_stores_read_as_zarr_python_reads_them(root: str, realdata: Path) -> None:
    handle = ZarrHandle(str(realdata / root))
    below = {
        path[len(root) :].lstrip("/"): facts
        for path, facts in realstores.expected().items()
        if path == root or path.startswith(f"{root}/")
    }
    assert handle.kind in ("array", "image", "group", "plate", "well", "collection")
    arrays = {array.node: array for array in handle.arrays()}
    assert set(handle.info().arrays) == set(arrays)
    assert arrays.keys() >= below.keys()
    if handle.kind != "array":
        assert {name.partition("/")[0] for name in below} <= set(handle.keys())
    for node, facts in below.items():
        array = pickle.loads(pickle.dumps(arrays[node]))
        try:
            theirs = zarr.open_array(local(realdata / root), path=node, mode="r")
            wanted = theirs[_corners(theirs.shape)]
        except Exception:
            continue  # what zarr-python cannot read is in other tests
        if "dtype" not in facts:
            continue
        assert list(array.shape) == facts["shape"]
        assert array.shape == theirs.shape
        assert dict(array.attrs) == dict(theirs.attrs)
        assert array.chunks == theirs.chunks
        assert array.shards == theirs.shards
        mine = array[_corners(array.shape)]
        assert array.dtype.kind == theirs.dtype.kind or "T" in (array.dtype.kind, theirs.dtype.kind)
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(wanted))


def _image_groups() -> list[str]:
    here = realstores.folder()
    if here is None:
        return []
    return sorted(group.relative_to(here).as_posix() for group in ome_reference.image_groups(here))


@realstores.cases("group", _image_groups())
def test_real_images_say_what_their_json_says(group: str, realdata: Path) -> None:
    levels = ome_reference.levels(realdata / group)
    handle = ZarrHandle(str(realdata / group))
    if not levels or handle.kind != "image":
        pytest.skip("no levels are there")
    assert [level.shape for level in handle.levels] == [level.shape for level in levels]
    assert handle.get_level(-1).node == levels[-1].path
    assert handle.dims == levels[0].dims
    assert len(handle.scale) == len(handle.axes) == handle.ndim
    metadata = ome_reference.attributes(realdata / group)
    for number, level in enumerate(levels):
        for axis, dim in enumerate(level.dims):
            dims, values = level.positions.get(dim, ((), None))
            if dims == (dim,) and len(values) > 1 and np.asarray(values).dtype.kind == "f":
                step = float(values[1]) - float(values[0])
                assert handle.get_scale(number)[axis] == pytest.approx(step)
    omero = metadata.get("omero") or {}
    labels = [channel.get("label") for channel in omero.get("channels", [])]
    if labels and all(labels):
        assert handle.channel_names == tuple(str(label) for label in labels)
    with realstores.quietly():
        assert handle.thumbnail(size=32).dtype == np.uint8
        assert handle._repr_html_()


def test_handles_are_written_as_mappings_are(cube: ZarrHandle) -> None:
    pa = pytest.importorskip("pyarrow")
    assert isinstance(cube, Mapping) or hasattr(cube, "items")
    assert pa.array([dict(cube.items())]).to_pylist() == [{"path": cube.url}]
