"""What rows look like, what they share, and what of a manifest becomes a coordinate."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import pyarrow as pa

import hfzarr
import realstores
from hfzarr.errors import (
    AmbiguousTargetError,
    ChangedSourceError,
    HfzarrError,
    InvalidMetadataError,
    RepairWarning,
    TargetError,
)
from hfzarr.faces.row_shapes import Even, RowShape, check_alike, shape_of
from rawstores import scaled, write_array, write_group


def stack(target: Any, **options: Any) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


COLOURED: dict[str, Any] = {"shape": (2, 4, 4), "dims": "cyx", "scale": (1.0, 0.5, 0.5)}


def image(
    folder: Path,
    *,
    shape: tuple[int, ...] = (4, 4),
    scale: tuple[float, ...] = (0.5, 0.5),
    translation: tuple[float, ...] | None = None,
    dims: str = "yx",
    channels: list[str] | None = None,
    coarse: tuple[int, ...] | None = None,
    coarse_translation: tuple[float, ...] | None = None,
    unit: str = "micrometer",
    dtype: str = "|u1",
) -> Path:
    """Write an image of zeros, with a second level if its shape is given."""
    axes = [
        {"name": d, "type": "channel"} if d == "c" else {"name": d, "type": "space", "unit": unit}
        for d in dims
    ]
    datasets = [scaled("0", *scale)]
    if coarse is not None:
        datasets.append(scaled("1", *(2 * one for one in scale)))
    for one, moved in zip(datasets, (translation, coarse_translation), strict=False):
        if moved is not None:
            one["coordinateTransformations"].append(
                {"type": "translation", "translation": list(moved)}
            )
    attrs: dict[str, Any] = {"multiscales": [{"version": "0.4", "axes": axes,
                                              "datasets": datasets}]}  # fmt: skip
    if channels is not None:
        window = {"min": 0, "max": 255, "start": 0, "end": 255}
        attrs["omero"] = {
            "channels": [{"label": name, "color": "FF0000", "window": window} for name in channels]
        }
    write_group(folder, attrs, 2)
    for path, some in (("0", shape), ("1", coarse)):
        if some is not None:
            write_array(folder / path, some, 2, dtype=dtype)
    return folder


def manifests(folder: Path) -> dict[str, Any]:
    """Return what a scan says of a folder, and its stores alone."""
    scanned = hfzarr.scan(folder)
    return {"facts": scanned, "bare": scanned.to_arrow().select(["zarr"])}


WAYS = ("facts", "bare")


# -- shapes


def row(**variables: Any) -> RowShape:
    return RowShape(
        variables=tuple((name, dims, shape, dtype) for name, (dims, shape, dtype)
                        in variables.items())
    )  # fmt: skip


def test_alike_rows_pass():
    one = row(a=(("y",), (3,), "int8"))
    check_alike([one, one], ["p", "q"], pad=False)
    check_alike([one, row(a=(("y",), (4,), "int8"))], ["p", "q"], pad=True)


@pytest.mark.parametrize(
    ("other", "padding_helps"),
    [
        (row(a=(("y",), (4,), "int8")), True),
        (row(a=(("x",), (3,), "int8")), False),
        (row(a=(("y",), (3,), "int16")), False),
        (row(b=(("y",), (3,), "int8")), False),
        (row(a=(("y",), (3,), "int8"), b=((), (), "int8")), False),
        (row(), False),
    ],
)
def test_rows_that_differ_are_refused_with_a_table(other, padding_helps):
    one = row(a=(("y",), (3,), "int8"))
    with pytest.raises(AmbiguousTargetError) as error:
        check_alike([one, one, other], ["p", "q", "r"], pad=False)
    said = str(error.value)
    assert "- a {'y': 3} int8: 2 rows, such as p" in said
    assert ": r\n" in said
    assert "open_datatree" in said
    assert ("pad=True" in said) == padding_helps
    if padding_helps:
        check_alike([one, other], ["p", "r"], pad=True)
    else:
        with pytest.raises(AmbiguousTargetError):
            check_alike([one, other], ["p", "r"], pad=True)


def test_a_long_table_is_cut():
    rows = [row(a=(("y",), (n,), "int8")) for n in range(1, 41)]
    with pytest.raises(AmbiguousTargetError) as error:
        check_alike(rows, [f"row {i}" for i in range(40)], pad=False)
    assert str(error.value).count("\n") < 26
    assert "and 20 other shapes" in str(error.value)


@given(
    first=st.floats(-1e6, 1e6),
    step=st.floats(1e-6, 1e4) | st.floats(-1e4, -1e-6),
    n=st.integers(2, 50),
)
def test_even_positions_are_found(first, step, n):
    dataset = xr.Dataset({"a": ("y", np.zeros(n))}, {"y": first + step * np.arange(n)})
    found = shape_of(dataset).positions["y"]
    if isinstance(found, Even):
        assert found.first == pytest.approx(first, rel=1e-11)
        # As exact as doubles at that place are.
        assert found.step == pytest.approx(step, rel=1e-6, abs=4 * np.spacing(abs(first) + 1))
    else:
        assert np.spacing(abs(first) + abs(step) * n) > 1e-7 * abs(step)


@pytest.mark.parametrize("values", [[0.0, 1.0, 3.0], [0.0, np.nan], ["a", "b"], [0, 1]])
def test_other_positions_are_told_apart(values):
    def positions(values):
        dataset = xr.Dataset({"a": ("y", np.zeros(len(values)))}, {"y": values})
        return shape_of(dataset).positions["y"]

    assert not isinstance(positions(values), Even)
    assert positions(values) == positions(list(values))
    assert positions(values) != positions(values[::-1])


# -- rows that differ


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("other", "told", "padding_helps"),
    [
        ({"shape": (4, 5)}, "'x': 5", True),
        ({"dtype": "<u2"}, "uint16", False),
        ({"dims": "zx"}, "'z': 4", False),
        ({"shape": (1, 4, 4), "dims": "cyx", "scale": (1, 0.5, 0.5)}, "'c': 1", False),
    ],
)
def test_rows_of_other_shapes_are_refused(tmp_path, way, other, told, padding_helps):
    image(tmp_path / "0.zarr")
    image(tmp_path / "1.zarr")
    image(tmp_path / "2.zarr", **other)
    with pytest.raises(AmbiguousTargetError) as error:
        stack(manifests(tmp_path)[way])
    said = str(error.value)
    assert "2 rows, such as row 0" in said
    assert told in said
    assert ("pad=True" in said) == padding_helps
    tree = xr.open_datatree(manifests(tmp_path)[way], engine="hfzarr")
    assert list(tree.children) == ["0", "1", "2"]
    if padding_helps:
        assert stack(manifests(tmp_path)[way], pad=True).sizes == {"row": 3, "y": 4, "x": 5}


@pytest.mark.parametrize("way", WAYS)
def test_arrays_whose_axes_differ_are_refused(tmp_path, way):
    for name, dims in (("a", ("y", "x")), ("b", ("x", "y"))):
        (tmp_path / name).mkdir()
        values = np.arange(16).reshape(4, 4)
        zarr.create_array(str(tmp_path / name / "same.zarr"), data=values, dimension_names=dims)
    with pytest.raises(AmbiguousTargetError, match="differ"):
        stack(manifests(tmp_path)[way])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pad", [False, True])
def test_stores_that_are_arrays_stack_whatever_their_names(tmp_path, way, pad):
    for i in range(3):
        values = np.arange(6).reshape(2, 3) + 10 * i
        zarr.create_array(
            str(tmp_path / f"n{i}.zarr"),
            data=values[:, : 3 - i] if pad else values,
            dimension_names=("y", "x"),
        )
    found = stack(manifests(tmp_path)[way], pad=pad)
    (only,) = found.data_vars.values()
    assert only.dims == ("row", "y", "x")
    for i in range(3):
        width = 3 - i if pad else 3
        wanted = (np.arange(6).reshape(2, 3) + 10 * i)[:, :width]
        np.testing.assert_array_equal(only[i, :, :width].values, wanted)


def labels(folder: Path) -> Path:
    image(folder)
    attrs = json.loads((folder / ".zattrs").read_text("utf-8"))
    (folder / ".zattrs").write_text(json.dumps({**attrs, "image-label": {"version": "0.4"}}))
    return folder


def plain(folder: Path) -> Path:
    zarr.create_array(str(folder), data=np.zeros((4, 4), "u1"), dimension_names=("y", "x"))
    return folder


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "writers", [(image, labels), (labels, image), (image, plain), (plain, image)]
)
def test_rows_of_other_kinds_are_refused(tmp_path, way, writers):
    for i, write in enumerate(writers):
        write(tmp_path / f"{i}.zarr")
    # What a scan records does not tell labels from images; reading them does.
    told = labels in writers and way != "bare"
    error = (AmbiguousTargetError, ChangedSourceError) if told else AmbiguousTargetError
    with pytest.raises(error, match=r"differ|was recorded"):
        stack(manifests(tmp_path)[way]).load()


@pytest.mark.parametrize("way", WAYS)
def test_byte_order_is_no_difference(tmp_path, way):
    values = np.arange(4, dtype="i4")
    for name, order in (("a", ">i4"), ("b", "<i4")):
        (tmp_path / name).mkdir()
        zarr.create_array(
            str(tmp_path / name / "same.zarr"), data=values.astype(order), zarr_format=2
        )
    found = stack(manifests(tmp_path)[way])
    np.testing.assert_array_equal(found["array"].values, [values, values])


@pytest.mark.parametrize("way", WAYS)
def test_coarser_levels_that_differ(tmp_path, way):
    for i, n in enumerate((2, 1)):
        image(tmp_path / f"{i}.zarr", coarse=(n, n))
    with pytest.raises(AmbiguousTargetError, match="'y': 2"):
        stack(manifests(tmp_path)[way], level=1)
    assert stack(manifests(tmp_path)[way]).sizes["row"] == 2


# -- coordinates


def wanted_y(found: xr.Dataset, i: int) -> np.ndarray:
    """Return where the pixels of a row lie along y, put together from what a stack tells."""
    length = int(found["y_length"][i]) if "y_length" in found else found.sizes["y"]
    if "y_values" in found.coords:
        # Where doubles are too coarse for the steps, positions do not look evenly spaced.
        return found["y_values"].values[i, :length]
    if "y_step" in found.coords:
        return float(found["y_offset"][i]) + float(found["y_step"][i]) * np.arange(length)
    return found["y"].values[:length] + (float(found["y_offset"][i]) if "y_offset" in found else 0)


LAYOUTS: dict[str, list[dict[str, Any]]] = {
    "alike": [{}, {}],
    "offsets": [{"translation": (0.0, 0.0)}, {"translation": (3.25, 0.0)}],
    "shared offset": [{"translation": (3.25, 0.0)}, {"translation": (3.25, 0.0)}],
    "steps": [{}, {"scale": (0.25, 0.5)}],
    "both": [{"translation": (1.0, 0.0)}, {"scale": (0.25, 0.5), "translation": (2.0, 0.0)}],
    "tenths": [{"scale": (0.1, 0.1), "shape": (7, 4)}, {"scale": (0.1, 0.1), "shape": (7, 4)}],
    "lengths": [{"shape": (3, 4)}, {"shape": (7, 4)}],
    "lengths, tenths": [
        {"scale": (0.1, 0.1), "shape": (6, 4)},
        {"scale": (0.1, 0.1), "shape": (7, 4)},
        {"scale": (0.1, 0.1), "shape": (11, 4)},
    ],
    "lengths and offsets": [
        {"shape": (3, 4), "translation": (5.0, 0.0)},
        {"shape": (7, 4), "translation": (2.0, 0.0)},
    ],
    "lengths, tenth digit": [
        {"scale": (0.1234567895, 0.5), "shape": (16, 4)},
        {"scale": (0.1234567895, 0.5), "shape": (6, 4)},
    ],
    "lengths, one pixel": [{"shape": (8, 4)}, {"shape": (1, 4)}],
    "longer last, one pixel": [{"shape": (1, 4)}, {"shape": (8, 4)}],
    "far away": [
        {"scale": (0.1, 0.5), "shape": (3, 4)},
        {"scale": (0.1, 0.5), "shape": (3, 4), "translation": (5e6, 0.0)},
    ],
    "longer first": [{"shape": (7, 4), "translation": (5.0, 0.0)}, {"shape": (3, 4),
                      "translation": (5.0, 0.0)}],
}  # fmt: skip


@pytest.mark.parametrize("way", [*WAYS, "mixed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_pixel_can_be_placed(tmp_path, layout, way):
    rows = LAYOUTS[layout]
    for i, one in enumerate(rows):
        image(tmp_path / f"{i}.zarr", **one)
    given = manifests(tmp_path)["facts" if way == "mixed" else way]
    if way == "mixed":
        told = given.to_arrow().to_pylist()
        told[1] = {key: told[1][key] if key == "zarr" else None for key in told[1]}
        given = pa.Table.from_pylist(told, schema=given.to_arrow().schema)
    found = stack(given, pad=layout.startswith("l"))
    for i, one in enumerate(rows):
        alone = stack(tmp_path / f"{i}.zarr")
        np.testing.assert_allclose(wanted_y(found, i), alone["y"].values, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(
            found["image"][i, : one.get("shape", (4, 4))[0]].values, alone["image"].values
        )
    steps = {one.get("scale", (0.5,))[0] for one in rows}
    offsets = {one.get("translation", (0.0,))[0] for one in rows}
    # What is the same in all rows is told once.
    assert ("y_step" in found.coords) == (len(steps) > 1)
    assert ("y_offset" in found.coords) == (len(offsets) > 1 or len(steps) > 1)
    assert "x_offset" not in found.coords
    np.testing.assert_allclose(found["x"].values, stack(tmp_path / "0.zarr")["x"].values)
    assert found["x"].attrs == {"units": "micrometer"}


numbers = st.floats(1e-4, 1e4) | st.sampled_from([0.1, 0.65, 0.1234567895, 1 / 3, 1e-3, 10.0])
places = st.floats(-1e5, 1e5) | st.sampled_from([0.0, 5e6, -0.5, 1000.939453125])


@st.composite
def layouts(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return what a few rows look like, which share scales and places more often than not."""
    scales, offsets = (draw(st.lists(one, min_size=1, max_size=2)) for one in (numbers, places))
    return [
        {
            "shape": (draw(st.integers(1, 9)), 2),
            "scale": (draw(st.sampled_from(scales)), 0.5),
            "translation": (draw(st.sampled_from(offsets)), 0.0),
            "unit": draw(st.sampled_from(["micrometer", "micrometer", "nanometer"])),
        }
        for _ in range(draw(st.integers(1, 4)))
    ]


@given(rows=layouts(), recorded=st.lists(st.booleans(), min_size=4, max_size=4))
def test_any_pixel_can_be_placed_whatever_the_manifest_says(rows, recorded):
    with tempfile.TemporaryDirectory() as folder:
        for i, one in enumerate(rows):
            image(Path(folder) / f"{i}.zarr", **one)
        table = hfzarr.scan(folder).to_arrow()
        told = [
            row if kept else {key: row[key] if key == "zarr" else None for key in row}
            for row, kept in zip(table.to_pylist(), recorded, strict=False)
        ]
        found = stack(pa.Table.from_pylist(told, schema=table.schema), pad=True).load()
        for i, one in enumerate(rows):
            length, step, first = one["shape"][0], one["scale"][0], one["translation"][0]
            wanted = first + step * np.arange(length)
            np.testing.assert_allclose(
                wanted_y(found, i), wanted, rtol=1e-9, atol=1e-5 * step, err_msg=str(rows)
            )
            unit = found["y_unit"].values[i] if "y_unit" in found.coords else None
            for name in ("y", "y_offset", "y_step"):
                if name in found.coords and unit is None:
                    assert found[name].attrs["units"] == one["unit"]
            assert unit in (None, one["unit"])


@pytest.mark.parametrize("way", WAYS)
def test_channel_names_are_kept_where_all_rows_share_them(tmp_path, way):
    for i in range(2):
        image(tmp_path / f"{i}.zarr", channels=["A", "B"], **COLOURED)
    assert stack(manifests(tmp_path)[way])["c"].values.tolist() == ["A", "B"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("other", [["A", "C"], ["DAPI", "GFP"], None])
@pytest.mark.parametrize("first", [0, 1])
def test_channel_names_that_differ_are_told_by_row(tmp_path, way, other, first):
    named = [["A", "B"], other][:: 1 if first == 0 else -1]
    for i, names in enumerate(named):
        image(tmp_path / f"{i}.zarr", channels=names, **COLOURED)
    found = stack(manifests(tmp_path)[way]).load()
    assert "c" not in found.coords
    assert found["image"].shape == (2, 2, 4, 4)
    if other is not None:
        assert found["c_values"].values.tolist() == named


@pytest.mark.parametrize("way", WAYS)
def test_units_that_differ_are_not_shared(tmp_path, way):
    image(tmp_path / "0.zarr")
    image(tmp_path / "1.zarr", unit="nanometer")
    found = stack(manifests(tmp_path)[way])
    assert "y" not in found.coords
    assert found["y_unit"].values.tolist() == ["micrometer", "nanometer"]
    assert found["y_step"].values.tolist() == [0.5, 0.5]
    assert "units" not in found["y_step"].attrs


@pytest.mark.parametrize("way", WAYS)
def test_coarser_levels_that_lie_apart(tmp_path, way):
    form = {"translation": (0.0, 0.0), "coarse": (2, 2)}
    image(tmp_path / "0.zarr", coarse_translation=(0.25, 0.0), **form)
    image(tmp_path / "1.zarr", coarse_translation=(1.0, 0.0), **form)
    found = stack(manifests(tmp_path)[way], level=1)
    for i in range(2):
        alone = stack(tmp_path / f"{i}.zarr", level=1)
        np.testing.assert_allclose(wanted_y(found, i), alone["y"].values)


def grid(
    path: Path, *, crs: str = "EPSG:32631", day: str = "2001-01-01", north: float = 0.0
) -> None:
    """Write a group with coordinates of every kind."""
    data = xr.Dataset(
        {"a": (("t", "y", "x"), np.ones((2, 3, 4)), {"grid_mapping": "crs"})},
        {
            "t": np.array([day], "datetime64[ns]") + np.arange(2) * np.timedelta64(1, "D"),
            "y": np.arange(3.0),
            "x": np.arange(4.0),
            "lat": (("y", "x"), np.full((3, 4), north)),
            "month": ("t", [1, 2]),
            "crs": ((), 0, {"crs_wkt": crs}),
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.to_zarr(path)


def test_coordinates_that_rows_share_are_kept(tmp_path):
    for i in range(2):
        grid(tmp_path / f"{i}.zarr")
    found, alone = stack(hfzarr.scan(tmp_path)), stack(tmp_path / "1.zarr")
    for name in ("t", "y", "x", "crs", "lat", "month"):
        assert found[name].dims == alone[name].dims, name
        np.testing.assert_array_equal(found[name].values, alone[name].values)
        assert found[name].attrs == alone[name].attrs


@pytest.mark.parametrize(
    ("name", "other"),
    [("t", {"day": "2002-01-01"}), ("lat", {"north": 1.0}), ("lat", {"north": 1})],
)
def test_coordinates_that_differ_are_not_lost(tmp_path, name, other):
    grid(tmp_path / "0.zarr")
    grid(tmp_path / "1.zarr", **other)
    found = stack(hfzarr.scan(tmp_path))
    kept = [one for key, one in found.coords.items() if name in str(key) and "row" in one.dims]
    for i in range(2):
        wanted = stack(tmp_path / f"{i}.zarr")[name].values
        assert any(np.array_equal(one.isel(row=i).values, wanted) for one in kept)


def test_a_coordinate_that_one_row_lacks(tmp_path):
    for i, names in enumerate((["lat"], [])):
        xr.Dataset(
            {"a": ("y", np.ones(3))}, {name: ("y", np.arange(3.0)) for name in names}
        ).to_zarr(tmp_path / f"{i}.zarr", zarr_format=2)
    manifest = hfzarr.scan(tmp_path)
    for rows in (manifest, manifest[::-1]):
        found = stack(rows).load()
        np.testing.assert_array_equal(found["a"].values, np.ones((2, 3)))


def test_reference_systems_that_differ_are_not_handed_on(tmp_path):
    grid(tmp_path / "0.zarr")
    grid(tmp_path / "1.zarr", crs="EPSG:32632")
    assert "crs" not in stack(hfzarr.scan(tmp_path)).coords


# -- facts that are no facts


LIES: dict[str, dict[str, Any]] = {
    "short scale": {"scale": [0.5]},
    "empty scale": {"scale": []},
    "no numbers": {"scale": [None, None]},
    "short translation": {"translation": [0.0]},
    "missing length": {"shape": [4, None]},
    "negative length": {"shape": [-4, 4]},
    "short shape": {"shape": [4]},
    "short axes": {"axes": ["y"]},
    "other kind": {"kind": "plate"},
    "no kind": {"kind": "sausage"},
    "no dtype": {"dtype": "uint99"},
    "nothing": {"shape": None, "dtype": None, "axes": None},
    "short channels": {"channels": ["q"]},
    "levels": {"levels": -3},
}


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("lie", LIES)
def test_what_a_manifest_says_wrongly_is_an_error_of_ours_or_no_harm(tmp_path, lie, pad):
    for i in range(2):
        image(tmp_path / f"{i}.zarr")
    table = hfzarr.scan(tmp_path).to_arrow()
    rows = table.to_pylist()
    rows[1] |= LIES[lie]
    with contextlib.suppress(HfzarrError):
        found = stack(pa.Table.from_pylist(rows, schema=table.schema), pad=pad)
        assert found["image"].values.shape == (2, 4, 4)
        assert found.sizes == {"row": 2, "y": 4, "x": 4}


def test_columns_of_ones_own_that_are_named_as_facts(tmp_path):
    for i in range(2):
        image(tmp_path / f"{i}.zarr")
    own = {"kind": "image", "dtype": 1, "axes": "yx", "channels": "c", "levels": 1.5}
    for shape, scale in (("round", 0.5), ([4, 4], "half"), ([4, 4], 2)):
        rows = [
            {"zarr": str(tmp_path / f"{i}.zarr"), "shape": shape, "scale": scale,
             "translation": 2, **own}
            for i in range(2)
        ]  # fmt: skip
        found = stack(rows)
        assert found["image"].shape == (2, 4, 4)
        assert found["levels"].values.tolist() == [1.5, 1.5]


def test_many_rows_that_were_repaired_are_one_warning(tmp_path):
    for i in range(5):
        folder = image(tmp_path / f"{i}.zarr", channels=["A", "B"], **COLOURED)
        attrs = json.loads((folder / ".zattrs").read_text("utf-8"))
        del attrs["omero"]["channels"][0]["window"]
        (folder / ".zattrs").write_text(json.dumps(attrs))
    with pytest.warns(RepairWarning, match="5 of the 5 rows") as caught:
        stack(manifests(tmp_path)["bare"])
    assert len(caught) == 1
    with pytest.raises(HfzarrError, match="row 0 of"):
        stack(manifests(tmp_path)["bare"], on_invalid="raise")


def test_a_warning_names_the_line_that_opened(tmp_path):
    xr.Dataset({"a": ("y", np.ones(3))}).to_zarr(
        tmp_path / "0.zarr", zarr_format=2, consolidated=False
    )
    with pytest.warns(RuntimeWarning, match="consolidated") as caught:
        stack(tmp_path / "0.zarr")
    assert caught[0].filename == __file__


def test_many_rows_without_consolidated_metadata_are_no_more_than_one_warning(tmp_path):
    for i in range(5):
        xr.Dataset({"a": ("y", np.ones(3))}).to_zarr(
            tmp_path / f"{i}.zarr", zarr_format=2, consolidated=False
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert stack(manifests(tmp_path)["bare"]).sizes == {"row": 5, "y": 3}
        assert len(caught) <= 1
        tree = xr.open_datatree(manifests(tmp_path)["bare"], engine="hfzarr")
    assert len(tree.children) == 5
    assert len(caught) <= 2


# -- columns


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    return [str(image(folder / f"{i}.zarr")) for i in range(3)]


DAY = datetime.datetime(2001, 2, 3, 4, 5)
COLUMNS: dict[str, tuple[Any, Any, str]] = {
    "ints": ([1, 2, 3], [1, 2, 3], "i"),
    "small ints": (pa.array([1, 2, 3], pa.int8()), [1, 2, 3], "i"),
    "huge ints": (pa.array([2**64 - 1] * 3, pa.uint64()), [2**64 - 1] * 3, "u"),
    "ints, one missing": ([1, None, 3], [1.0, None, 3.0], "f"),
    "floats": ([1.5, None, float("nan")], [1.5, None, None], "f"),
    "bools": ([True, False, True], [True, False, True], "b"),
    "bools, one missing": ([True, None, False], [True, None, False], "O"),
    "texts": (["a", "é", ""], ["a", "é", ""], "U"),
    "texts, one missing": (["a", None, "b"], ["a", None, "b"], "O"),
    "large texts": (pa.array(["a", "b", "c"], pa.large_string()), ["a", "b", "c"], "OU"),
    "categories": (pa.array(["u", "v", "u"]).dictionary_encode(), ["u", "v", "u"], "OU"),
    "times": ([DAY] * 3, [DAY] * 3, "M"),
    "times, one missing": ([DAY, None, DAY], [DAY, None, DAY], "M"),
    "far times": (pa.array([datetime.datetime(9999, 1, 1)] * 3, pa.timestamp("us")),
                  [datetime.datetime(9999, 1, 1)] * 3, "M"),
    "spans": ([datetime.timedelta(days=1)] * 3, [datetime.timedelta(days=1)] * 3, "m"),
    "lists": ([[1, 2], [], None], [[1, 2], [], None], "O"),
    "lists of one length": ([[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]], "O"),
    "structs": ([{"a": 1}, {"a": 2}, None], [{"a": 1}, {"a": 2}, None], "O"),
    "bytes": ([b"x", b"", None], [b"x", b"", None], "O"),
    "decimals": ([decimal.Decimal("1.50")] * 3, [decimal.Decimal("1.50")] * 3, "O"),
    "nothing": (pa.nulls(3), [None, None, None], "O"),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_are_coordinates_along_row(stores, kind):
    given, wanted, kinds = COLUMNS[kind]
    found = stack(pa.table({"zarr": stores, "told": given}))["told"]
    assert found.dims == ("row",)
    assert found.dtype.kind in kinds
    values = found.values.tolist()
    assert [None if one is None or one != one else one for one in values] == wanted
    assert repr(found)
    assert found._repr_html_()


@pytest.mark.parametrize("names", [["image"], ["row"], ["y"], ["image", "row_image"], ["y_length"]])
def test_columns_named_like_variables_keep_their_values(stores, names):
    found = stack(pa.table({"zarr": stores, **{name: [name] * 3 for name in names}}))
    assert found["image"].dims == ("row", "y", "x")
    np.testing.assert_array_equal(found["y"].values, np.arange(4) * 0.5)
    told = [one.values.tolist() for one in found.coords.values() if one.dims == ("row",)]
    for name in names:
        assert [name] * 3 in told


def test_what_only_describes_pixels_is_no_coordinate(stores):
    found = stack(hfzarr.scan(Path(stores[0]).parent, metadata=True))
    assert set(found.coords) == {"zarr", "kind", "format", "ome_version", "dtype", "levels",
                                 "bytes", "y", "x"}  # fmt: skip


def test_rows_without_a_store_are_refused(stores):
    rows = [{"zarr": stores[0]}, {"zarr": None}, {"zarr": stores[1]}, {"zarr": None}]
    with pytest.raises(TargetError, match=r"2 rows .* name no store, the first of them row 1\b"):
        stack(rows)
    manifest = hfzarr.open_manifest(rows)
    assert stack(manifest.filter(lambda row: row["zarr"] is not None)).sizes["row"] == 2


def test_no_rows_and_one_row(stores):
    manifest = hfzarr.open_manifest(stores)
    with pytest.raises(TargetError, match="no rows"):
        stack(manifest[:0])
    with pytest.raises(TargetError, match="empty"):
        stack([])
    assert stack(manifest[:1])["image"].shape == (1, 4, 4)


def test_one_store_in_several_rows(stores):
    table = pa.table({"zarr": [stores[0]] * 3, "fold": [0, 1, 2]})
    with pytest.raises(TargetError, match="row 1"):
        stack(table)
    found = stack(hfzarr.open_manifest(table, duplicates="keep"))
    assert found["fold"].values.tolist() == [0, 1, 2]
    assert found["image"].values.shape == (3, 4, 4)


def test_arrays_of_no_dims_and_of_no_pixels(tmp_path):
    for i in range(2):
        zarr.create_array(str(tmp_path / "points" / f"{i}.zarr"), data=np.array(3.5 + i))
        zarr.create_array(
            str(tmp_path / "none" / f"{i}.zarr"), shape=(2 * i, 3), dtype="i4", chunks=(1, 3)
        )
    for rows in manifests(tmp_path / "points").values():
        assert stack(rows)["array"].values.tolist() == [3.5, 4.5]
    for rows in manifests(tmp_path / "none").values():
        found = stack(rows, pad=True)["array"]
        assert found.shape == (2, 2, 3)
        assert not found.values.any()


# -- trees


@pytest.mark.parametrize("names", [["a", "b"], ["a", "a"], ["a", "a", "a_1"], ["a_0", "a", "a"]])
def test_a_tree_has_a_child_for_every_row(tmp_path, names):
    rows = []
    for i, name in enumerate(names):
        store = image(tmp_path / str(i) / f"{name}.zarr", shape=(i + 1, 2))
        rows.append({"zarr": str(store), "label": i, "tags": ["t"] * i, "when": DAY})
    tree = xr.open_datatree(rows, engine="hfzarr")
    assert len(tree.children) == len(names)
    for i, child in enumerate(tree.children.values()):
        assert child.attrs["row"] == {"label": i, "tags": ["t"] * i, "when": DAY}
        assert child["0"]["image"].shape == (i + 1, 2)


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet"])
def test_files_tell_what_the_scan_told(tmp_path, extension):
    for i in range(3):
        image(tmp_path / f"{i}.zarr", translation=(i / 3, 0.0))
    manifest = hfzarr.scan(tmp_path, metadata=True, thumbnails=False)
    manifest.save(tmp_path / f"index.{extension}")
    xr.testing.assert_identical(
        stack(tmp_path / f"index.{extension}").load(), stack(manifest).load()
    )


@pytest.mark.parametrize("told", [["x", "y", "z"], ["{}", "{}", "{}"], ["[" * 9999] * 3])
def test_metadata_that_is_none(stores, told):
    with pytest.raises(InvalidMetadataError, match="row 0 of"):
        stack(pa.table({"zarr": stores, "zarr_metadata": told}))


def test_a_tree_of_one_level(stores):
    with pytest.raises(HfzarrError, match="row 0 of"):
        xr.open_datatree(stores, engine="hfzarr", level=7)
    groups = xr.open_groups(hfzarr.scan(Path(stores[0]).parent), engine="hfzarr", level=0)
    assert set(groups) == {"/", *(f"/{i}" for i in range(3)), *(f"/{i}/0" for i in range(3))}
    row = groups["/1"].attrs["row"]
    assert row["shape"] == [4, 4]
    assert "zarr_metadata" not in row
    assert json.dumps(row)


# -- real stores


def families() -> list[str]:
    folder = realstores.folder()
    return [] if folder is None else sorted(one.name for one in folder.iterdir() if one.is_dir())


@realstores.cases("family", families())
def test_real_stores_that_are_alike_stack(realdata, family):
    with realstores.quietly():
        try:
            manifest = hfzarr.scan(realdata / family)
        except HfzarrError:
            pytest.skip("no stores that can be scanned")
        alike: dict[Any, list[int]] = {}
        for i, handle in enumerate(manifest.handles()):
            try:
                one = stack(handle)
            except HfzarrError:
                continue
            if one.data_vars and "row" not in one.dims:
                alike.setdefault(shape_of(one).variables, []).append(i)
        several = [places for places in alike.values() if len(places) > 1]
        if not several:
            pytest.skip("no two stores are alike")
        for places in several:
            for given in (manifest[places], manifest[places].to_arrow().select(["zarr"])):
                compare(given, manifest[places].handles())


def compare(given: Any, handles: list[Any]) -> None:
    """Compare a stack with each of its stores, opened by itself."""
    found = stack(given)
    for i, handle in enumerate(handles):
        alone = stack(handle)
        for name, variable in alone.data_vars.items():
            assert found[name].dims == ("row", *variable.dims)
            assert found[name].dtype == variable.dtype
            np.testing.assert_array_equal(found[name][i].values, variable.values)


# -- attributes


def cube(folder: Path, **attrs: Any) -> None:
    xr.Dataset({"t": ("x", np.arange(3.0), attrs)}, attrs={"title": folder.name}).to_zarr(
        folder, zarr_format=2
    )


@pytest.mark.parametrize("way", WAYS)
def test_attributes_are_those_of_all_rows(tmp_path, way):
    for i, note in enumerate("ab"):
        cube(tmp_path / f"{i}.zarr", units="K", note=note, source="model")
    found = stack(manifests(tmp_path)[way])
    assert found["t"].attrs == {"units": "K", "source": "model"}
    assert "title" not in found.attrs


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "attrs",
    [({"units": "K"}, {"units": "degC"}), ({"units": "K"}, {}), ({}, {"scale_factor": 2.0})],
)
def test_values_that_mean_something_else_do_not_stack(tmp_path, way, attrs):
    for i, own in enumerate(attrs):
        cube(tmp_path / f"{i}.zarr", **own)
    with pytest.raises(AmbiguousTargetError, match="in different rows"):
        stack(manifests(tmp_path)[way], mask_and_scale=False)


@pytest.mark.parametrize("way", WAYS)
def test_undecoded_times_of_other_epochs_do_not_stack(tmp_path, way):
    for i, month in enumerate(("01", "02")):
        times = xr.Variable("time", [0, 1], {"units": f"days since 2020-{month}-01"})
        xr.Dataset({"t": ("time", [1.0, 2.0])}, coords={"time": times}).to_zarr(
            tmp_path / f"{i}.zarr", zarr_format=2
        )
    manifest = manifests(tmp_path)[way]
    with pytest.raises(AmbiguousTargetError, match="units"):
        stack(manifest, decode_times=False)
    decoded = stack(manifest)["time_values"].values
    assert decoded[:, 0].tolist() == np.array(["2020-01-01", "2020-02-01"], decoded.dtype).tolist()
