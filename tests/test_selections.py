"""Selections: regions as values, which read what NumPy and xarray give for the same indices."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from hfzarr.errors import TargetError
from hfzarr.rows.cells import SELECTION_FIELDS, cell_text, parse_cell, selection_type
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.selection import Span, ZarrSelection
from stores import pixels, write_cf, write_image

SHAPE = (5, 6, 7)
VALUES = np.arange(np.prod(SHAPE), dtype=">i4").reshape(SHAPE)
DIMS = ("z", "y", "x")


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> ZarrHandle:
    folder = tmp_path_factory.mktemp("cube") / "cube.zarr"
    zarr.create_array(
        zarr.storage.LocalStore(folder), data=VALUES, chunks=(2, 3, 4), dimension_names=DIMS
    )
    return ZarrHandle(str(folder))


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> ZarrHandle:
    folder = tmp_path_factory.mktemp("cells") / "cells.ome.zarr"
    write_image(str(folder), labels=["nuclei"])
    return ZarrHandle(str(folder))


@pytest.fixture(scope="module")
def air(tmp_path_factory: pytest.TempPathFactory) -> ZarrHandle:
    folder = tmp_path_factory.mktemp("air") / "climate.zarr"
    write_cf(str(folder))
    return ZarrHandle(str(folder))["air"]


@st.composite
def indices(draw: st.DrawFn) -> dict[str, Any]:
    """Return indices by dimension: integers and forward slices, within and beyond the array."""
    out: dict[str, Any] = {}
    for dim, n in zip(DIMS, SHAPE, strict=True):
        ends = st.none() | st.integers(-n - 2, n + 2)
        slices = st.builds(slice, ends, ends, st.none() | st.integers(1, n + 1))
        if draw(st.booleans()):
            out[dim] = draw(slices | st.integers(-n, n - 1))
    return out


def copies(selection: ZarrSelection) -> list[Any]:
    """Return a selection after each way that it may travel."""
    import pyarrow as pa

    struct = pa.array([dict(selection.items())], selection_type())
    return [
        parse_cell(str(selection)),
        parse_cell(cell_text(selection)),
        parse_cell(cell_text(struct[0].as_py())),
        parse_cell(dict(selection.items())),
        parse_cell(struct.to_pylist()[0]),
        pickle.loads(pickle.dumps(selection)),
    ]


# --- pixels --------------------------------------------------------------------------------------


@given(indices())
def test_a_region_reads_what_numpy_and_xarray_give(cube: ZarrHandle, index: dict[str, Any]) -> None:
    key = tuple(index.get(dim, slice(None)) for dim in DIMS)
    wanted = VALUES[key]
    array = xr.DataArray(VALUES, dims=DIMS).isel(index)
    for selection in (cube.select(key), cube.select(index), cube.select(**index)):
        assert selection.shape == wanted.shape
        assert selection.nbytes == wanted.nbytes
        np.testing.assert_array_equal(selection.read(), wanted)
        assert VALUES[selection.index].tolist() == wanted.tolist()
        dataset = selection.to_xarray()
        (name,) = dataset.data_vars
        assert dataset[name].dims == array.dims
        np.testing.assert_array_equal(dataset[name].values, wanted)
    for copy in copies(selection):
        assert copy == selection
        assert hash(copy) == hash(selection)
        np.testing.assert_array_equal(copy.read(), wanted)


@given(basic_indices(SHAPE, allow_newaxis=False, allow_ellipsis=True))
def test_numpys_indices_make_a_region_or_say_why_not(cube: ZarrHandle, index: Any) -> None:
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, slice) and (part.step or 1) < 0 for part in parts):
        with pytest.raises(TargetError, match="forwards"):
            cube.select(index)
        return
    np.testing.assert_array_equal(cube.select(index).read(), VALUES[index])


@given(
    st.integers(-1, 2),
    st.tuples(st.floats(-3, 20), st.floats(-3, 20)),
    st.floats(-5, 40),
)
def test_world_coordinates_are_xarrays_sel(
    cells: ZarrHandle, level: int, y: tuple[float, float], x: float
) -> None:
    dataset = cells.to_xarray(level=level)
    name = next(iter(dataset.data_vars))
    wanted = dataset[name].sel(y=slice(*sorted(y))).sel(x=x, method="nearest").isel(c=1)
    if not wanted.size:
        with pytest.raises(TargetError, match="no pixel along 'y'"):
            cells.select(1, level=level, world={"y": y, "x": x})
        return
    selection = cells.select(1, level=level, world={"y": y, "x": x})
    assert selection.shape == wanted.shape
    lazy = selection.to_xarray()[name]
    xr.testing.assert_identical(lazy.load(), wanted.load())
    np.testing.assert_array_equal(selection.read(), wanted.values)
    for copy in copies(selection):
        assert copy == selection
    slices = cells.select(c=1, level=level, world={"y": slice(*sorted(y)), "x": x})
    assert slices == selection


def test_world_coordinates_of_time_and_text(air: ZarrHandle, cells: ZarrHandle) -> None:
    wanted = xr.open_zarr(air.url)["air"]
    one = air.select(world={"time": "2001-02-27"})
    assert one.shape == (4, 6)
    np.testing.assert_array_equal(one.to_xarray()["air"], wanted.isel(time=1))
    days = air.select(world={"time": ("2001-02-27", "2001-03-01"), "lon": (2.5, 20)})
    assert days.shape == (3, 4, 4)
    np.testing.assert_array_equal(
        days.to_xarray()["air"],
        wanted.sel(time=slice("2001-02-27", "2001-03-01"), lon=slice(2.5, 20)),
    )
    assert air.select(world={"time": np.datetime64("2001-02-27")}) == one
    assert air.select(world={"lat": slice(None, 1.5)}).shape == (5, 2, 6)
    np.testing.assert_array_equal(cells.select(world={"c": "GFP"}).read(), pixels()[1])
    with pytest.raises(TargetError, match="'mCherry'"):
        cells.select(world={"c": "mCherry"})


def test_levels(cells: ZarrHandle) -> None:
    for level in (0, 1, 2, -1, -2, "1"):
        number = int(level) % 3
        selection = cells.select((0, ..., slice(0, None, 3)), level=level)
        assert selection.level == str(number)
        np.testing.assert_array_equal(selection.read(), pixels(number)[0, ..., ::3])
        assert str(selection).endswith(f"#@{number}[0, 0:4, {selection.spans[2]}, "
                                       f"{selection.spans[3]}]")  # fmt: skip
    assert cells.select().level == "0"
    label = cells["labels/nuclei"].select(world={"y": (2, 3)}, level=-1)
    assert (label.handle.node, label.dtype) == ("labels/nuclei", np.int32)
    for copy in copies(label):
        assert copy == label
        np.testing.assert_array_equal(copy.read(), label.read())


def test_scalars_and_empty_regions(tmp_path: Path) -> None:
    root = zarr.create_group(zarr.storage.LocalStore(tmp_path / "g.zarr"))
    root.create_array("one", data=np.array(5.5))
    root.create_array("none", shape=(0, 3), chunks=(1, 3), dtype="u1")
    handle = ZarrHandle(str(tmp_path / "g.zarr"))
    one, none = handle["one"].select(), handle["none"].select()
    assert (one.shape, float(one.read()), str(one)[-6:]) == ((), 5.5, "#one[]")
    assert (none.shape, none.read().shape) == ((0, 3), (0, 3))
    for selection in (one, none, handle["none"].select(dim_1=slice(2, 1))):
        assert selection.to_xarray().sizes == dict(
            zip(selection.to_xarray().dims, selection.shape, strict=True)
        )
        for copy in copies(selection):
            assert copy == selection


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "options", "words"),
    [
        ((0, 0, 0, 0), {}, "4 indices"),
        (5, {}, "5"),
        (-6, {}, "-6"),
        (1.5, {}, "1.5"),
        ("y", {}, "'y'"),
        (True, {}, "True"),
        (slice(None, None, -1), {}, "forwards"),
        ([[0, 1]], {}, "integer"),
        ({"typo": 1}, {}, "'typo'"),
        (None, {"typo": 1}, "'typo'"),
        (0, {"z": 1}, "twice"),
        ({"z": 0}, {"z": 1}, "twice"),
        (None, {"y": slice("a", "b")}, "'y'"),
        (None, {"y": slice(0.5, 2)}, "'y'"),
        (None, {"y": None}, "None"),
        (None, {"y": np.array([1, 2])}, "'y'"),
        (None, {"y": "2"}, "'2'"),
        (None, {"level": 0}, "level"),
        (None, {"world": {"y": 1.0}}, "no coordinates"),
        (None, {"world": {"typo": 1.0}}, "'typo'"),
    ],
)
def test_what_is_no_region_is_refused(
    cube: ZarrHandle, index: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(TargetError, match=words):
        cube.select(index, **options)


@pytest.mark.parametrize(
    "part", [float("nan"), (100, 200), "x", None, {}, slice(0, 1, 2), (1, 2, 3), True]
)
def test_what_is_no_position_is_refused(air: ZarrHandle, part: Any) -> None:
    with pytest.raises(TargetError, match="'lat'"):
        air.select(world={"lat": part})


def test_a_region_of_a_group_is_refused(air: ZarrHandle) -> None:
    with pytest.raises(TargetError, match="air"):
        air[".."].select(0)


@pytest.mark.parametrize(
    "cell",
    [
        {"path": "a.zarr", "start": [0], "stop": [1, 2]},
        {"path": "a.zarr", "start": [-1]},
        {"path": "a.zarr", "start": [0], "stop": [-4], "step": [1]},
        {"path": "a.zarr", "start": [0], "stop": [4], "step": [0]},
        {"path": "a.zarr", "start": ["a"]},
        {"path": "a.zarr", "start": 3},
        {"path": "a.zarr", "start": [None]},
        {"path": "", "start": [0]},
        {"path": None, "start": [0]},
        {"start": [0], "stop": [1]},
    ],
    ids=str,
)
def test_a_struct_that_is_no_selection_is_refused(cell: dict[str, Any]) -> None:
    with pytest.raises(TargetError):
        parse_cell(cell)


def test_an_array_that_changed_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    zarr.create_array(zarr.storage.LocalStore(folder), data=np.arange(12).reshape(3, 4))
    text = str(ZarrHandle(str(folder)).select(slice(1, 3), dim_1=3))
    zarr.create_array(
        zarr.storage.LocalStore(folder), data=np.arange(4).reshape(2, 2), overwrite=True
    )
    for read in ("read", "to_xarray", "read_bytes"):
        with pytest.raises(TargetError, match=r"\(2, 2\)"):
            getattr(parse_cell(text), read)()


# --- text ----------------------------------------------------------------------------------------

ODD = [
    "a b", "a#b", "a@b", "a[0]", "a]b", "100%", "a%23b", "ü", "日本", "x?y", "a:b", "c,d", "~e",
    "@", "[", "a#",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_names_of_nodes_come_back(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "g.zarr"
    group = zarr.create_group(zarr.storage.LocalStore(folder))
    group.create_array(name, data=np.arange(6).reshape(2, 3))
    handle = ZarrHandle(str(folder))[name]
    assert handle[1].tolist() == [3, 4, 5]
    selection = handle.select(1, dim_1=slice(0, 3, 2))
    for copy in copies(selection):
        assert copy == selection
        assert copy.read().tolist() == [3, 5]
    assert parse_cell(cell_text(handle)).read().tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", [*ODD, "a\\b", "s3:x", ".zarr", "'q'", "a.zip", "-a", "C:a"])
@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_odd_names_of_stores_come_back(tmp_path: Path, name: str, suffix: str) -> None:
    folder = tmp_path / (name + suffix)
    zarr.create_array(zarr.storage.LocalStore(folder), data=np.arange(6).reshape(2, 3))
    handle = ZarrHandle(str(folder))
    assert handle.shape == (2, 3)
    assert pickle.loads(pickle.dumps(handle)) == handle
    assert parse_cell(cell_text(handle)) == handle
    assert parse_cell(dict(handle.items())) == handle
    selection = handle.select(1, dim_1=slice(0, 3, 2))
    for copy in copies(selection):
        assert copy == selection
        assert copy.read().tolist() == [3, 5]
    assert selection.to_xarray().sizes == {"dim_1": 2}


names = st.text(st.characters(codec="utf-8", exclude_characters="/\\\x00"), min_size=1, max_size=6)
spans = st.builds(
    Span, st.integers(0, 2**40), st.none(), st.just(1)
) | st.builds(lambda a, n, s: Span(a, a + n, s), st.integers(0, 2**40), st.integers(0, 99),
              st.integers(1, 9))  # fmt: skip


@given(names, names | st.just(""), names | st.just(""), st.lists(spans, max_size=4))
def test_the_text_form_is_read_back(name: str, node: str, level: str, at: list[Span]) -> None:
    handle = ZarrHandle(f"s3://bucket/{name}.zarr", "" if node in (".", "..") else node)
    selection = ZarrSelection(handle, tuple(at), level)
    assert parse_cell(str(selection)) == selection
    assert parse_cell(dict(selection.items())) == selection
    assert not isinstance(parse_cell(handle.url), ZarrSelection)


def test_the_struct_is_the_arrow_type(cube: ZarrHandle) -> None:
    assert tuple(dict(cube.select(0).items())) == SELECTION_FIELDS
    assert [field.name for field in selection_type()] == list(SELECTION_FIELDS)
    fields = dict(cube.select(0, x=slice(0, 7, 2)).items())
    assert (fields["start"], fields["stop"], fields["step"]) == (
        [0, 0, 0], [None, 6, 7], [1, 1, 2],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("s3://bucket/data", "s3://bucket/data/a/cells.zarr"),
        ("hf://datasets/org/name@0123abc", "hf://datasets/org/name@0123abc/a/cells.zarr"),
        ("https://host:80/d", "https://host:80/d/a/cells.zarr"),
        ("/data", "/data/a/cells.zarr"),
    ],
)
def test_relative_cells_count_from_the_base(base: str, url: str) -> None:
    assert parse_cell("a/cells.zarr", base=base) == ZarrHandle(url)
    found = parse_cell("a/cells.zarr#n@1[0, 2:5]", base=base)
    assert found == ZarrSelection(ZarrHandle(url, "n"), (Span(0, None), Span(2, 5)), "1")
    assert parse_cell({"path": "a/cells.zarr", "start": [2], "stop": [5]}, base=base).spans == (
        Span(2, 5),
    )
    assert parse_cell(url, base="/elsewhere") == ZarrHandle(url)


@pytest.mark.parametrize("value", ["", {}, {"path": None}, {"path": ""}, None, 5, b"a.zarr", []])
def test_a_cell_that_names_no_store_is_refused(value: Any) -> None:
    with pytest.raises(TargetError):
        parse_cell(value)
    with pytest.raises(TargetError):
        cell_text(value)


def test_cells_of_zarr_objects(tmp_path: Path) -> None:
    group = zarr.create_group(zarr.storage.LocalStore(tmp_path / "g.zarr"))
    array = group.create_array("a", data=np.arange(3))
    assert parse_cell(cell_text(array)).read().tolist() == [0, 1, 2]
    assert parse_cell(group).keys() == ["a"]
    assert parse_cell(tmp_path / "g.zarr").kind == "group"
    with pytest.raises(TargetError, match="no address"):
        cell_text(zarr.create_array(zarr.storage.MemoryStore(), data=np.arange(3)))


# --- pictures, reprs -----------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "png", ".png", "JPEG", "jpg", "WEBP"])
def test_a_region_is_drawn_pixel_for_pixel(cells: ZarrHandle, format: str) -> None:
    images = pytest.importorskip("PIL.Image")
    drawn = cells.select(0, z=1, y=slice(4, 20), x=slice(0, 48, 2)).read_bytes(format)
    picture = images.open(io.BytesIO(drawn))
    assert picture.size == (24, 16)
    assert picture.format == {"jpg": "JPEG"}.get(format, format.upper().lstrip("."))


def test_what_cannot_be_drawn_is_refused(cells: ZarrHandle) -> None:
    with pytest.raises(TargetError, match="'nope'"):
        cells.select(0, level=-1).read_bytes("nope")
    with pytest.raises(TargetError, match="two dimensions"):
        cells.select((0, 0, 0), level=-1).read_bytes()


def test_a_selection_is_a_small_value(cells: ZarrHandle) -> None:
    selection = cells.select(0, level=1)
    assert len(pickle.dumps(selection)) < 1000
    assert not hasattr(selection, "__array__")
    assert np.asarray(selection).shape == ()
    assert np.array([selection, selection]).shape == (2,)
    assert selection in [selection]
    assert {selection: 1}[pickle.loads(pickle.dumps(selection))] == 1
    assert selection != cells.select(1, level=1)
    assert repr(selection).startswith("ZarrSelection(")
    assert "<" in selection._repr_html_()
