"""What patches are labeled with, lengths in world units, and options that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from hfzarr.errors import TargetError
from stores import SHAPE, write_image

PIXELS = np.arange(6 * 8, dtype="f4").reshape(6, 8)


def plane(**coords) -> xr.Dataset:
    return xr.Dataset({"a": (("y", "x"), PIXELS)}, coords=coords)


def line(values, **attrs) -> xr.Dataset:
    """Return a Dataset along x, with a coordinate."""
    values = np.asarray(values)
    return xr.Dataset({"a": ("x", np.arange(len(values)))}, coords={"x": ("x", values, attrs)})


# --- along `patch` -------------------------------------------------------------------------------


def test_an_image():
    """All the coordinates of one, as the brief of the format has them."""
    dataset = xr.open_dataset(write_image(MemoryStore()), engine="hfzarr")
    patches = dataset.hfzarr.patches({"z": 2, "y": 8, "x": 12}, stride={"y": 20})
    assert dict(patches.sizes) == {"patch": 2 * 2 * 4, "c": 2, "z": 2, "y": 8, "x": 12}
    assert patches.image.dims == ("patch", "c", "z", "y", "x")
    xr.testing.assert_identical(patches.c.variable, dataset.c.variable)
    for dim, step, unit in [("z", 2.0, 2), ("y", 0.5, 8), ("x", 0.5, 12)]:
        start, origin, inside = (patches[name] for name in (f"{dim}_start", f"{dim}_origin", dim))
        assert start.dims == origin.dims == ("patch",)
        np.testing.assert_array_equal(origin, dataset[dim].values[start.values])
        np.testing.assert_array_equal(inside, np.arange(unit) * step)
        assert origin.attrs["units"] == inside.attrs["units"] == dataset[dim].attrs["units"]
        assert start.attrs["length"] == dataset.sizes[dim]
        assert start.attrs["size"] == unit
        assert start.attrs["edge"] == "drop"
    assert patches.y_start.attrs["stride"] == 20
    assert np.unique(patches.y_start).tolist() == [0, 20]
    assert patches.image.attrs == dataset.image.attrs
    assert {**dataset.attrs, "left_out": "y: 4 of 32 px"} == patches.attrs


def test_the_last_window_may_begin_anywhere():
    starts = {
        edge: plane(x=np.arange(8) * 10).hfzarr.patches({"x": 3}, edge=edge)[
            ["x_start", "x_origin"]
        ]
        for edge in ("drop", "shift", "pad")
    }
    assert [starts[e].x_start.values.tolist() for e in starts] == [[0, 3], [0, 3, 5], [0, 3, 6]]
    assert starts["shift"].x_origin.values.tolist() == [0, 30, 50]


@pytest.mark.parametrize(
    ("values", "inside"),
    [
        (np.arange(6) * 0.25 + 3, [0, 0.25]),
        (np.arange(6)[::-1] * 2.0, [0, -2]),
        (np.arange(6)[::-1], [0, -1]),
        (np.array([250, 251, 252, 253, 254, 255], "u1"), [0, 1]),
        (np.linspace(0, 1, 6, dtype="f4"), [0, 0.2]),
        (np.array([1, 2, 4, 8, 16, 32.0]), None),
        (np.array([1, 2, np.nan, 8, 16, 32.0]), None),
        (np.full(6, 3.0), None),
    ],
    ids=str,
)
@pytest.mark.parametrize("edge", ["drop", "pad"])
def test_numbers_as_coordinates(values, inside, edge):
    """World origins are the array's own values; distances are there if they are even."""
    patches = line(values, units="km").hfzarr.patches({"x": 2}, stride=5, edge=edge)
    wanted = values[[0, 5]] if edge == "pad" else values[[0]]
    np.testing.assert_array_equal(patches.x_origin, wanted)
    assert patches.x_origin.attrs["units"] == "km"
    assert ("x" in patches.coords) == (inside is not None)
    if inside is not None:
        np.testing.assert_allclose(patches.x, inside, rtol=1e-6)
        assert patches.x.attrs["units"] == "km"


def test_a_descending_coordinate_has_no_negative_zero():
    patches = line([3.0, 2.0, 1.0]).hfzarr.patches({"x": 2})
    assert not np.signbit(patches.x.values[0])


def test_times_as_coordinates():
    hours = np.arange(7).astype("m8[h]") * 6
    for values in (np.datetime64("2024-02-28", "ns") + hours, hours.astype("m8[ns]")):
        patches = line(values).hfzarr.patches({"x": 3}, edge="shift")
        assert patches.x_origin.dtype == values.dtype
        np.testing.assert_array_equal(patches.x_origin, values[[0, 3, 4]])
        np.testing.assert_array_equal(patches.x, hours[:3].astype("m8[ns]"))


@pytest.mark.parametrize(
    "values",
    [
        np.array(list("abcdef")),
        np.array([1, 2, 4, 8, 16, 32.0]),
        xr.date_range("2001", periods=6, calendar="noleap", use_cftime=True).values,
    ],
    ids=["text", "uneven", "cftime"],
)
def test_coordinates_that_an_origin_and_distances_do_not_tell(values):
    """Each patch has its own part of them."""
    patches = line(values, units="km").hfzarr.patches({"x": 4}, edge="pad").compute()
    assert patches.x_start.values.tolist() == [0, 4]
    assert patches.x_values.dims == ("patch", "x")
    assert patches.x_values.dtype == values.dtype
    assert patches.x_values.attrs == {"units": "km"}
    assert patches.x_values.values[0].tolist() == values[:4].tolist()
    assert patches.x_values.values[1, :2].tolist() == values[4:].tolist()
    assert patches.x_values.values[1, 2] in ("", 0, None)
    assert "x" not in patches.coords


def test_an_indexed_coordinate_comes_along():
    dataset = plane(row=("y", list("abcdef"))).set_xindex("row")
    patches = dataset.hfzarr.patches({"y": 3}).compute()
    assert patches.row.values.tolist() == [list("abc"), list("def")]


def test_levels_of_an_index_come_along():
    dataset = xr.Dataset(
        {"a": (("t", "y"), np.arange(6).reshape(2, 3))}, coords={"t": [5, 7], "y": list("abc")}
    ).stack(s=("t", "y"))
    patches = dataset.hfzarr.patches({"s": 3}).compute()
    assert patches.a.values.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert patches.t.values.tolist() == [[5] * 3, [7] * 3]
    assert patches.y.values.tolist() == [list("abc")] * 2
    assert "s" not in patches.variables
    assert "s_values" not in patches.variables


def test_without_coordinates():
    patches = plane().hfzarr.patches({"x": 4})
    assert set(patches.coords) == {"patch", "x_start"}


def test_other_coordinates_come_along():
    """Along a windowed dimension they become patches, elsewhere they stay."""
    lat = PIXELS / 10
    dataset = plane(
        y=np.arange(6) * 2.0,
        lat=(("y", "x"), lat, {"units": "degrees_north"}),
        label=("x", list("abcdefgh")),
        row=("y", np.arange(6) + 100),
        day=np.datetime64("2024-01-01", "ns"),
    )
    patches = dataset.hfzarr.patches({"x": 3}, edge="pad").compute()
    assert patches.lat.dims == ("patch", "y", "x")
    assert patches.lat.attrs == {"units": "degrees_north"}
    np.testing.assert_array_equal(patches.lat[1], lat[:, 3:6])
    assert patches.label.values.tolist() == [list("abc"), list("def"), ["g", "h", ""]]
    assert set(patches.data_vars) == {"a"}
    for name in ("y", "row", "day"):
        xr.testing.assert_identical(patches[name].variable, dataset[name].variable)
    assert "y" in patches.indexes


def test_variables_without_windows_come_along():
    dataset = plane().assign(scale=3.5, bands=("b", [1, 2]))
    patches = dataset.hfzarr.patches({"x": 4})
    for name in ("scale", "bands"):
        xr.testing.assert_identical(patches[name].variable, dataset[name].variable)


@pytest.mark.parametrize("name", ["patch", "x_start", "x_origin"])
@pytest.mark.parametrize("kind", ["variable", "coordinate"])
def test_names_that_are_taken(name, kind):
    dataset = plane(x=np.arange(8))
    if kind == "variable":
        dataset[name] = 3
    else:
        dataset.coords[name] = ("x", np.arange(8) + 50)
    with pytest.raises(TargetError, match=rf"\['{name}'\], which the Dataset has: rename it"):
        dataset.hfzarr.patches({"x": 4})


def test_patches_cannot_be_cut_from_patches():
    with pytest.raises(TargetError, match=r"\['patch'.*, which the Dataset has: rename it"):
        plane().hfzarr.patches({"x": 4}).hfzarr.patches({"x": 2})


def test_what_is_left_out_is_counted():
    dataset = plane()
    dataset.attrs["title"] = "a test"
    patches = dataset.hfzarr.patches({"y": 4, "x": 4}, stride=3)
    # Windows 0:4 along y, 0:4 and 3:7 along x.
    assert patches.attrs == {"title": "a test", "left_out": "y: 2 of 6 px, x: 1 of 8 px"}
    assert patches.y_start.attrs["left_out"] == 2
    for edge in ("shift", "pad"):
        patches = dataset.hfzarr.patches({"y": 4, "x": 4}, stride=3, edge=edge)
        assert patches.attrs == {"title": "a test"}
        assert "left_out" not in patches.y_start.attrs


def test_patches_can_be_written():
    patches = plane(x=np.arange(8) * 0.5).hfzarr.patches({"y": 4, "x": 4}, stride=3)
    store = MemoryStore()
    patches.to_zarr(store, consolidated=False, zarr_format=3)
    again = xr.open_dataset(store, engine="hfzarr", consolidated=False)
    xr.testing.assert_identical(again.load(), patches.compute())


# --- lengths -------------------------------------------------------------------------------------


def starts(patches, dim="x"):
    return np.unique(patches[f"{dim}_start"]).tolist()


def test_windows_lie_side_by_side_unless_told():
    assert starts(plane().hfzarr.patches({"x": 3})) == [0, 3]


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"stride": {"x": 2, "y": 2}}, {"overlap": {"y": 1, "x": 2}}],
    ids=str,
)
def test_stride_and_overlap_say_the_same(options):
    patches = plane().hfzarr.patches({"y": 3, "x": 4}, **options)
    assert starts(patches, "y") == [0, 2]
    assert starts(patches, "x") == [0, 2, 4]


def test_a_stride_for_one_dimension_leaves_the_others_side_by_side():
    patches = plane().hfzarr.patches({"y": 3, "x": 4}, stride={"x": 1})
    assert starts(patches, "y") == [0, 3]
    assert starts(patches, "x") == [0, 1, 2, 3, 4]


def test_numpy_integers_are_whole_numbers():
    patches = plane().hfzarr.patches({"x": np.int16(4)}, stride=np.uint8(2))
    assert starts(patches) == [0, 2, 4]


def test_dimensions_are_windowed_in_the_order_of_the_array():
    """However `size` names them, the last axis goes fastest."""
    patches = plane().hfzarr.patches({"x": 4, "y": 3})
    assert patches.y_start.values.tolist() == [0, 0, 3, 3]
    assert patches.x_start.values.tolist() == [0, 4, 0, 4]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([0.25, 0.1, -0.5, 3.0, 1e-6, -7.0]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(-0.4, 0.4),
)
def test_world_units_are_rounded_to_pixels(step, size, stride, off):
    """Along descending coordinates, too, lengths are positive."""
    dataset = line(np.arange(10) * step + 100)
    pixel = abs(step)
    found = dataset.hfzarr.patches(
        {"x": (size + off) * pixel}, stride=(stride - off) * pixel, units="world"
    )
    wanted = dataset.hfzarr.patches({"x": size}, stride=stride)
    xr.testing.assert_identical(found.compute(), wanted.compute())


def test_a_world_length_below_a_pixel_is_a_pixel():
    patches = line(np.arange(6) * 10.0).hfzarr.patches({"x": 0.5}, units="world")
    assert patches.sizes["x"] == 1
    assert patches.sizes["patch"] == 6


def test_world_overlap():
    dataset = xr.open_dataset(write_image(MemoryStore()), engine="hfzarr")
    found = dataset.hfzarr.patches({"y": 4.0, "x": 4}, overlap={"x": 1.5}, units="world")
    assert (found.sizes["y"], found.sizes["x"]) == (8, 8)
    assert starts(found) == list(range(0, SHAPE[-1] - 7, 5))
    assert starts(found, "y") == [0, 8, 16, 24]


@pytest.mark.parametrize("length", ["12h", np.timedelta64(12, "h"), np.timedelta64(720, "m")])
def test_world_lengths_of_time(length):
    values = np.datetime64("2024-01-01", "ns") + np.arange(7).astype("m8[h]") * 6
    patches = line(values).hfzarr.patches({"x": length}, overlap="6h", units="world")
    assert starts(patches) == [0, 1, 2, 3, 4, 5]
    assert patches.sizes["x"] == 2


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": {}}, r"mapping from dimensions to lengths, such as \{'y': 6, 'x': 8\}, not \{\}"),
        ({"size": 4}, "mapping from dimensions to lengths.*not 4"),
        ({"size": {"q": 4}}, r"size names \['q'\]; the dimensions are \['y', 'x'\]"),
        ({"size": {"x": 0}}, "size along 'x' is a whole number of pixels, at least 1, not 0"),
        ({"size": {"x": 2.0}}, "whole number of pixels.*not 2.0; .*give units='world'"),
        ({"size": {"x": True}}, "whole number of pixels, at least 1, not True"),
        ({"size": {"x": "4"}}, "whole number of pixels, at least 1, not '4'"),
        ({"size": {"x": 9}}, "dimension 'x': windows of 9 pixels do not fit into 8.*edge='pad'"),
        ({"edge": "wrap"}, "dimension 'x': edge is 'drop', 'shift' or 'pad', not 'wrap'"),
        ({"units": "um"}, "units are 'px' or 'world', not 'um'"),
        ({"stride": 1, "overlap": 1}, r"stride= or overlap=, not both"),
        ({"stride": 0}, "stride along 'x' is a whole number of pixels, at least 1, not 0"),
        ({"stride": {"y": 1}}, r"stride names \['y'\], which size does not: it has \['x'\]"),
        ({"stride": {"q": 1}}, r"stride names \['q'\]; the dimensions are"),
        ({"overlap": 4}, "windows of 4 pixels along 'x' cannot overlap by 4: 3 at most"),
        ({"overlap": -1}, "overlap along 'x' is a whole number of pixels, at least 0, not -1"),
        (
            {"max_memory": "much"},
            "max_memory is a number of bytes or text like '256 MB', not 'much'",
        ),
        ({"max_memory": 0}, "max_memory is a number of bytes or text like '256 MB', not 0"),
        ({"pad_value": "a"}, "pad_value 'a' cannot be a value of 'a', which is float32"),
        ({"pad_value": {"b": 1}}, r"pad_value names \['b'\]; what is cut is \['a'\]"),
        ({"units": "world"}, "size along 'x' cannot be in world units.*coordinate is missing"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(options, said):
    with pytest.raises(TargetError, match=said):
        plane().hfzarr.patches(**{"size": {"x": 4}, **options})


@pytest.mark.parametrize(
    ("coord", "length", "said"),
    [
        ([0, 1, 5, 6.0], 2, "not evenly spaced"),
        (list("abcd"), 2, "not evenly spaced"),
        ([0.0, 1, 2, 3], "6h", "size along 'x' is a number in world units, not '6h'"),
        ([0.0, 1, 2, 3], np.nan, "size along 'x' is a number in world units, not nan"),
        ([0.0, 1, 2, 3], np.inf, "size along 'x' is a number in world units, not inf"),
        ([0.0, 1, 2, 3], -2, "size along 'x' is a length above zero, not -2"),
        ([0.0, 1, 2, 3], 0, "size along 'x' is a length above zero, not 0"),
        (np.arange(4).astype("M8[ns]"), 6, "size along 'x' is a time such as '6h'.*not 6"),
        (np.arange(4).astype("M8[ns]"), "soon", "size along 'x' is a time such as '6h'"),
    ],
)
def test_world_lengths_that_do_not_fit(coord, length, said):
    with pytest.raises(TargetError, match=said):
        line(coord).hfzarr.patches({"x": length}, units="world")


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("u1", -1), ("u1", 300), ("i4", np.nan), ("i4", 0.5), ("M8[ns]", 5), ("U3", 5), ("?", 2)],
)
def test_pad_values_that_do_not_fit(dtype, value):
    dataset = xr.Dataset({"a": ("x", np.zeros(5, dtype))})
    with pytest.raises(TargetError, match=r"pad_value .* cannot be a value of 'a', which is"):
        dataset.hfzarr.patches({"x": 2}, edge="pad", pad_value=value)


@pytest.mark.parametrize("dataset", [xr.Dataset(), xr.Dataset({"b": ((), 1)}, {"x": [1.0, 2]})])
def test_a_dataset_with_nothing_to_cut(dataset):
    with pytest.raises(TargetError):
        dataset.hfzarr.patches({"x": 1})
