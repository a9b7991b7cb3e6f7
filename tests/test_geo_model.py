"""Georeference: GeoZarr's conventions and what is found beside them, as values."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfzarr.errors import InvalidMetadataError
from hfzarr.model.coords import AxisCoord, PlaneCoord
from hfzarr.model.geo import (
    MULTISCALES_UUID,
    PROJ_UUID,
    SPATIAL_UUID,
    Affine,
    Crs,
    GeoReference,
    combine,
    coord_attrs,
    coords,
    declared,
    dims_for,
    georeference,
    grid_mapping_attrs,
    is_ndpyramid,
    legacy_georeference,
    multiscales,
)
from hfzarr.model.report import Report

UTM33 = "EPSG:32633"
NORTH_UP = [10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0]
ROTATED = [10.0, 2.0, 500000.0, 3.0, -10.0, 5000000.0]
TURNED: Affine = (10.0, 2.0, 500000.0, 3.0, -10.0, 5000000.0)
WKT1_UTM32 = (
    'PROJCS["WGS 84 / UTM zone 32N",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,'
    '298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Transverse_Mercator"],PARAMETER["central_meridian",9],UNIT["metre",1]]'
)


def declaring(*uuids: str, **attrs: Any) -> dict[str, Any]:
    """Attributes that declare conventions; ``spatial_x`` stands for ``spatial:x``."""
    named = {key.replace("_", ":", 1): value for key, value in attrs.items()}
    return {"zarr_conventions": [{"uuid": uuid} for uuid in uuids], **named}


def spatial(**attrs: Any) -> dict[str, Any]:
    return declaring(SPATIAL_UUID, **{f"spatial_{key}": value for key, value in attrs.items()})


def read(attrs: dict[str, Any], **options: Any) -> tuple[GeoReference | None, Report]:
    report = Report()
    return georeference(attrs, report=report, **options), report


def layout(*levels: dict[str, Any], **attrs: Any) -> dict[str, Any]:
    uuids = [SPATIAL_UUID, MULTISCALES_UUID, *([PROJ_UUID] if "proj_code" in attrs else [])]
    return declaring(*uuids, multiscales={"layout": list(levels)}, **attrs)


# --- which conventions a node declares


def test_conventions_are_known_by_uuid_whatever_their_name() -> None:
    report = Report()
    entries = [
        {"uuid": PROJ_UUID, "name": "proj:"},
        {"uuid": SPATIAL_UUID.upper(), "name": "anything"},
        {"uuid": "00000000-0000-0000-0000-000000000000", "name": "multiscales"},
    ]
    assert declared({"zarr_conventions": entries}, "", report) == {"proj", "spatial"}
    assert not report


@pytest.mark.parametrize("repository", ["proj", "geo-proj"])
def test_a_schema_address_stands_in_for_the_uuid(repository: str) -> None:
    url = (
        f"https://raw.githubusercontent.com/zarr-conventions/{repository}/refs/tags/v1/schema.json"
    )
    assert declared({"zarr_conventions": [{"schema_url": url}]}, "", Report()) == {"proj"}


@pytest.mark.parametrize("value", ["proj", 3, [None], [["uuid"]]])
def test_malformed_declarations_are_noted(value: Any) -> None:
    report = Report()
    assert declared({"zarr_conventions": value}, "a", report) == frozenset()
    assert len(report.repairs) == 1


def test_drafts_mapped_uuids_to_descriptions() -> None:
    report = Report()
    assert declared({"zarr_conventions": {PROJ_UUID: {"version": "0.1.0"}}}, "", report) == {"proj"}
    assert len(report.repairs) == 1


def test_keys_without_a_declaration_are_used_and_noted() -> None:
    geo, report = read({"proj:code": UTM33, "spatial:transform": NORTH_UP})
    assert geo is not None
    assert geo.crs == Crs(code=UTM33)
    assert geo.transform == tuple(NORTH_UP)
    assert [finding.severity for finding in report] == ["note", "note"]


def test_a_node_that_says_nothing_has_no_georeference() -> None:
    geo, report = read({"units": "m", "zarr_conventions": []})
    assert geo is None
    assert not report


# --- reference systems


@pytest.mark.parametrize(
    ("attrs", "crs", "repairs"),
    [
        ({"proj:code": UTM33}, Crs(code=UTM33), 0),
        ({"proj:code": "IAU_2015:30100"}, Crs(code="IAU_2015:30100"), 0),
        ({"proj:code": "OGC:CRS84"}, Crs(code="OGC:CRS84"), 0),
        ({"proj:code": None, "proj:wkt2": WKT1_UTM32}, Crs(wkt=WKT1_UTM32), 0),
        ({"proj:projjson": {"type": "x"}}, Crs(projjson={"type": "x"}), 0),
        ({"proj:projjson": '{"type": "x"}'}, Crs(projjson={"type": "x"}), 1),
        ({"proj:code": 32633}, Crs(code=UTM33), 1),
        ({"proj:code": "epsg:32633"}, Crs(code=UTM33), 1),
        ({"proj:code": "UTM 33"}, None, 2),
        ({"proj:code": True, "proj:wkt2": 7, "proj:projjson": "{"}, None, 5),
        ({"proj:wkt2": " "}, None, 2),
        ({}, None, 1),
    ],
)
def test_crs_spellings(attrs: dict[str, Any], crs: Crs | None, repairs: int) -> None:
    geo, report = read({**declaring(PROJ_UUID), **attrs})
    assert (geo and geo.crs) == crs
    assert len(report.repairs) == repairs


def test_strict_mode_refuses_and_quotes_the_rule() -> None:
    with pytest.raises(InvalidMetadataError, match="proj:code"):
        georeference(declaring(PROJ_UUID, proj_code=32633), report=Report(strict=True))


# --- one pixel's position


def test_pixel_registration_is_half_a_pixel_in() -> None:
    geo, report = read(spatial(dimensions=["y", "x"], transform=[10, 0, 500000, 0, -10, 5000000]))
    assert geo is not None
    assert not report
    y, x = coords(geo, {"band": 2, "y": 3, "x": 2})
    assert isinstance(y, AxisCoord)
    assert isinstance(x, AxisCoord)
    assert (y.name, x.name) == ("y", "x")
    assert y.values().tolist() == [4999995.0, 4999985.0, 4999975.0]
    assert x.values().tolist() == [500005.0, 500015.0]


def test_node_registration_is_on_the_grid() -> None:
    geo, _ = read(
        spatial(dimensions=["y", "x"], transform=[0.5, 0, -180, 0, -0.5, 90], registration="node")
    )
    assert geo is not None
    y, x = coords(geo, {"y": 3, "x": 2})
    assert y.values().tolist() == [90.0, 89.5, 89.0]
    assert x.values().tolist() == [-180.0, -179.5]


def test_rotated_grids_have_two_planes() -> None:
    geo = GeoReference(dimensions=("y", "x"), transform=TURNED)
    yc, xc = coords(geo, {"y": 2, "x": 3})
    assert isinstance(yc, PlaneCoord)
    assert isinstance(xc, PlaneCoord)
    assert (yc.name, xc.name, xc.dims) == ("yc", "xc", ("y", "x"))
    # x = 10*(j + 1/2) + 2*(i + 1/2) + 500000 and y = 3*(j + 1/2) - 10*(i + 1/2) + 5000000
    assert xc.values().tolist() == [[500006, 500016, 500026], [500008, 500018, 500028]]
    assert yc.values().tolist() == [
        [4999996.5, 4999999.5, 5000002.5],
        [4999986.5, 4999989.5, 4999992.5],
    ]


def test_dimensions_are_found_by_name_where_the_store_names_none() -> None:
    geo = GeoReference(transform=(1.0, 0.0, 0.0, 0.0, -1.0, 90.0))
    assert [spec.name for spec in coords(geo, {"time": 1, "Lat": 2, "Lon": 3})] == ["Lat", "Lon"]
    assert coords(geo, {"row_": 2, "col_": 3}) == ()


def test_dimensions_that_the_array_lacks_give_no_coordinates() -> None:
    geo = GeoReference(dimensions=("y", "x"), transform=(1.0, 0.0, 0.0, 0.0, -1.0, 90.0))
    assert coords(geo, {"x": 3}) == ()
    assert coords(GeoReference(dimensions=("y", "x")), {"y": 1, "x": 1}) == ()


def test_another_grids_transform_gives_no_coordinates() -> None:
    geo = GeoReference(
        dimensions=("y", "x"), shape=(4, 4), transform=(1.0, 0.0, 0.0, 0.0, -1.0, 90.0)
    )
    report = Report()
    assert coords(geo, {"y": 2, "x": 2}, where="a", report=report) == ()
    assert coords(geo, {"y": 2, "x": 2}) == ()
    assert [finding.where for finding in report.repairs] == ["a"]


@pytest.mark.parametrize(
    ("registration", "step", "first"), [("pixel", 10.0, 505.0), ("node", 12.5, 500.0)]
)
def test_a_bounding_box_and_a_shape_give_the_transform(
    registration: str, step: float, first: float
) -> None:
    box = [500, 800, 550, 900]
    geo, report = read(
        spatial(dimensions=["y", "x"], bbox=box, shape=[11, 5], registration=registration)
    )
    assert geo is not None
    assert not report
    _, x = coords(geo, {"y": 11, "x": 5})
    assert x.values().tolist() == [first + step * i for i in range(5)]
    # A box alone waits for the size of the array.
    geo, _ = read(spatial(dimensions=["y", "x"], bbox=box, registration=registration))
    assert geo is not None
    assert geo.transform is None
    assert coords(geo, {"y": 11, "x": 5})[1] == x


@pytest.mark.parametrize(
    ("crs", "units"),
    [
        (None, (None, None)),
        (Crs(code="EPSG:4326"), ("degrees_north", "degrees_east")),
        (Crs(code=UTM33), ("m", "m")),
        (Crs(code="EPSG:32661"), (None, None)),
        (Crs(code="EPSG:2263"), (None, None)),
        (Crs(wkt=WKT1_UTM32), ("m", "m")),
        (Crs(wkt=WKT1_UTM32.replace('"metre",1', '"US survey foot",0.3048006')), (None, None)),
        (
            Crs(wkt='GEOGCS["a",UNIT["degree",0.0174532925199433]]'),
            ("degrees_north", "degrees_east"),
        ),
        (Crs(wkt='GEOGCS["a",UNIT["grad",0.015707963267949]]'), (None, None)),
        (Crs(wkt='GEOGCS["a",UNIT["x",1e+e]]'), (None, None)),
        (Crs(wkt='COMPD_CS["a",UNIT["metre",1]]'), (None, None)),
        (
            Crs(
                projjson={
                    "type": "ProjectedCRS",
                    "coordinate_system": {"axis": [{"unit": "metre"}, {"unit": "metre"}]},
                }
            ),
            ("m", "m"),
        ),
        (Crs(projjson={"type": "GeographicCRS", "coordinate_system": {"axis": 5}}), (None, None)),
    ],
)
def test_units_only_where_they_are_certain(
    crs: Crs | None, units: tuple[str | None, str | None]
) -> None:
    geo = GeoReference(crs=crs, dimensions=("y", "x"), transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    assert tuple(spec.units for spec in coords(geo, {"y": 1, "x": 1})) == units


def test_coordinate_attributes() -> None:
    geo = GeoReference(
        crs=Crs(code="EPSG:4326"), dimensions=("Y", "X"), transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    )
    attrs = coord_attrs(geo, coords(geo, {"Y": 1, "X": 1}))
    assert attrs["Y"] == {"axis": "Y", "standard_name": "latitude", "units": "degrees_north"}
    assert attrs["X"] == {"axis": "X", "standard_name": "longitude", "units": "degrees_east"}
    rotated = GeoReference(dimensions=("y", "x"), transform=TURNED)
    assert coord_attrs(rotated, coords(rotated, {"y": 1, "x": 1})) == {"yc": {}, "xc": {}}


def test_names_for_arrays_without_dimension_names() -> None:
    geo = GeoReference(dimensions=("y", "x"), shape=(20, 10))
    assert dims_for(geo, (3, 20, 10)) == ("dim_0", "y", "x")
    assert dims_for(geo, (20, 11)) is None
    assert dims_for(geo, (20,)) is None
    assert dims_for(GeoReference(), (20, 10)) is None


SIZES = st.floats(0.001, 1000) | st.floats(-1000, -0.001)
SHEARS = st.just(0.0) | st.floats(-0.4, 0.4)


@given(
    a=SIZES,
    e=SIZES,
    shears=st.tuples(SHEARS, SHEARS),
    origin=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    registration=st.sampled_from(["pixel", "node"]),
)
def test_pixel_centres_map_back_through_the_inverse(
    a: float,
    e: float,
    shears: tuple[float, float],
    origin: tuple[float, float],
    shape: tuple[int, int],
    registration: Any,
) -> None:
    # Each shear is a part of its row's own step, so that the matrix stays well conditioned.
    b, d = shears[0] * a, shears[1] * e
    transform = (a, b, origin[0], d, e, origin[1])
    geo = GeoReference(dimensions=("y", "x"), transform=transform, registration=registration)
    y, x = (spec.values() for spec in coords(geo, {"y": shape[0], "x": shape[1]}))
    if not geo.is_rotated:
        y, x = np.meshgrid(y, x, indexing="ij")
    assert x.shape == shape
    offset = 0.5 if registration == "pixel" else 0.0
    matrix = np.array([[a, b], [d, e]])
    back = np.linalg.solve(matrix, np.stack([x.ravel() - origin[0], y.ravel() - origin[1]]))
    rows, columns = np.indices(shape)
    np.testing.assert_allclose(back[0], columns.ravel() + offset, atol=1e-4)
    np.testing.assert_allclose(back[1], rows.ravel() + offset, atol=1e-4)
    # GDAL's transform puts the same centres half a pixel in.
    corner = geo.corner_transform
    assert corner is not None
    assert math.isclose(
        corner[0] / 2 + corner[1] / 2 + corner[2], float(x[0, 0]), rel_tol=1e-9, abs_tol=1e-6
    )


# --- inheritance


GROUP = GeoReference(
    crs=Crs(code=UTM33),
    dimensions=("y", "x"),
    transform=(10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0),
    shape=(100, 200),
    bbox=(500000.0, 4999000.0, 502000.0, 5000000.0),
    registration="node",
)


def test_an_array_inherits_all_but_the_bounding_box() -> None:
    geo, report = read({"units": "1"}, inherited=GROUP)
    assert geo == GeoReference(
        crs=GROUP.crs,
        dimensions=GROUP.dimensions,
        transform=GROUP.transform,
        shape=GROUP.shape,
        registration="node",
    )
    assert not report


def test_an_array_overrides_property_by_property() -> None:
    geo, _ = read(declaring(PROJ_UUID, proj_code="EPSG:3857"), inherited=GROUP)
    assert geo is not None
    assert geo.crs == Crs(code="EPSG:3857")
    assert geo.transform == GROUP.transform
    geo, _ = read(spatial(transform=[5, 0, 1, 0, -5, 2], shape=[200, 400]), inherited=GROUP)
    assert geo is not None
    assert geo.crs == GROUP.crs
    assert geo.transform == (5.0, 0.0, 1.0, 0.0, -5.0, 2.0)
    assert geo.registration == "node"


def test_another_shape_does_not_take_the_groups_transform() -> None:
    geo, report = read(spatial(shape=[50, 100]), inherited=GROUP)
    assert geo is not None
    assert geo.transform is None
    assert len(report) == 1
    geo, report = read(spatial(shape=[100, 200]), inherited=GROUP)
    assert geo is not None
    assert geo.transform == GROUP.transform
    assert not report


def test_own_box_and_shape_come_before_the_groups_transform() -> None:
    attrs = spatial(shape=[10, 10], bbox=[0, 0, 10, 10], registration="pixel")
    geo, _ = read(attrs, inherited=GROUP)
    assert geo is not None
    assert geo.transform == (1.0, 0.0, 0.0, 0.0, -1.0, 10.0)


# --- malformed values


@pytest.mark.parametrize(
    "attrs",
    [
        {"transform": [1, 2, 3, 4, 5]},
        {"transform": ["1", 0, 0, 0, -1, 0]},
        {"transform": [math.nan, 0, 0, 0, -1, 0]},
        {"transform": [True, 0, 0, 0, -1, 0]},
        {"transform": [10**400, 0, 0, 0, -1, 0]},
        {"transform": [0, 0, 0, 0, 0, 0]},
        {"transform": [1, 2, 0, 2, 4, 0]},
        {"transform": {"a": 1}},
        {"transform": [1, 0, 0, 0, -1, 0, 0, 0, 2]},
        {"shape": [3]},
        {"shape": [0, 4]},
        {"shape": [1.5, 4]},
        {"shape": "3x4"},
        {"bbox": [0, 1]},
        {"bbox": "0,0,1,1"},
        {"dimensions": "yx"},
        {"dimensions": ["y"]},
        {"dimensions": ["y", "y"]},
        {"dimensions": ["y", 3]},
        {"registration": "corner"},
    ],
)
def test_malformed_properties_are_noted_and_left_out(attrs: dict[str, Any]) -> None:
    geo, report = read(spatial(**attrs), where="a/b")
    assert geo is None
    assert [finding.where for finding in report.repairs] == ["a/b"]


@pytest.mark.parametrize(
    ("attrs", "expected", "musts", "shoulds"),
    [
        ({"bbox": [10, 20, 0, 5]}, {"bbox": (0.0, 5.0, 10.0, 20.0)}, 1, 0),
        ({"bbox": [0, 1, -5, 2, 3, 5]}, {"bbox": (0.0, 1.0, 2.0, 3.0)}, 0, 0),
        ({"dimensions": ["z", "y", "x"]}, {"dimensions": ("y", "x")}, 0, 0),
        ({"dimensions": ["lon", "lat"]}, {"dimensions": ("lat", "lon")}, 0, 1),
        ({"dimensions": ["v", "u"]}, {"dimensions": ("v", "u")}, 0, 0),
        ({"shape": [7, 5.0, 4]}, {"shape": (5, 4)}, 0, 0),
        ({"shape": [5, 4], "transform": None}, {"shape": (5, 4)}, 0, 0),
        (
            {"transform": [1, 0, 0, 0, -1, 9, 0, 0, 1]},
            {"transform": (1.0, 0.0, 0.0, 0.0, -1.0, 9.0)},
            0,
            0,
        ),
        (
            {"bbox": [0, 0, 0, 5], "shape": [2, 2]},
            {"bbox": (0.0, 0.0, 0.0, 5.0), "shape": (2, 2)},
            0,
            0,
        ),
    ],
)
def test_odd_properties_are_read(
    attrs: dict[str, Any], expected: dict[str, Any], musts: int, shoulds: int
) -> None:
    geo, report = read(spatial(**attrs))
    assert geo == GeoReference(**expected)
    assert (len(report.repairs), len(report) - len(report.repairs)) == (musts, shoulds)


def test_an_unknown_kind_of_transform_is_skipped() -> None:
    attrs = spatial(transform=NORTH_UP, bbox=[0, 0, 5, 5], shape=[5, 5], transform_type="rpc")
    geo, report = read(attrs, inherited=GROUP)
    assert geo is not None
    assert geo.transform is None
    assert [finding.severity for finding in report] == ["should"]


@pytest.mark.parametrize(
    ("box", "said"),
    [
        # Three columns and two rows of 10 from (500000, 5000000).
        ([500000, 4999980, 500030, 5000000], None),
        ([500000.4, 4999980, 500030, 5000000], None),
        ([500005, 4999985, 500025, 4999995], "pixel centres"),
        ([0, 0, 1, 1], "transform and shape give"),
    ],
)
def test_a_box_that_disagrees_gives_way(box: list[float], said: str | None) -> None:
    geo, report = read(
        spatial(dimensions=["y", "x"], transform=NORTH_UP, shape=[2, 3], bbox=box), where="a"
    )
    assert geo is not None
    assert geo.transform == tuple(NORTH_UP)
    if said is None:
        assert not report
        assert geo.bbox == tuple(box)
    else:
        (finding,) = report
        assert said in finding.found
        assert finding.severity == "note"
        assert geo.bbox == (500000.0, 4999980.0, 500030.0, 5000000.0)


def test_the_box_of_a_rotated_grid_holds_its_four_corners() -> None:
    # Corners of 2 rows and 3 columns: x 0, 30, 34, 4 and y 0, 9, -11, -20 from the origin.
    geo, report = read(
        spatial(transform=ROTATED, shape=[2, 3], bbox=[500000, 4999980, 500034, 5000009])
    )
    assert not report
    assert geo is not None
    assert geo.is_rotated


# --- levels


def test_the_relative_transform_is_composed_along_derived_from() -> None:
    attrs = layout(
        # The order of the layout is free: a level may come before its source.
        {"asset": "2/data", "derived_from": "1/data", "transform": {"scale": [2, 4]}},
        {
            "asset": "1/data",
            "derived_from": "0/data",
            "transform": {"scale": [2, 3], "translation": [1, 5]},
        },
        {"asset": "0/data", "transform": {"scale": [1, 1]}, "spatial:transform": NORTH_UP},
        proj_code=UTM33,
        spatial_dimensions=["y", "x"],
    )
    report = Report()
    pyramid = multiscales(attrs, "g", report)
    assert pyramid is not None
    assert not report
    two, one, zero = pyramid.levels
    assert [level.asset for level in pyramid.levels] == ["2/data", "1/data", "0/data"]
    assert all(level.geo is not None and level.geo.crs == Crs(code=UTM33) for level in (one, two))
    assert zero.geo is not None
    assert zero.geo.transform == tuple(NORTH_UP)
    # Pixel (i, j) of level 1 starts at pixel (2 i + 1, 3 j + 5) of level 0.
    assert one.geo is not None
    assert one.geo.transform == (30.0, 0.0, 500050.0, 0.0, -20.0, 4999990.0)
    assert two.geo is not None
    assert two.geo.transform == (120.0, 0.0, 500050.0, 0.0, -40.0, 4999990.0)


def test_composition_keeps_the_rotation() -> None:
    attrs = layout(
        {"asset": "0", "spatial:transform": ROTATED},
        {
            "asset": "1",
            "derived_from": "0",
            "transform": {"scale": [4, 2], "translation": [1, 1]},
        },
    )
    pyramid = multiscales(attrs, "", Report())
    assert pyramid is not None
    geo = pyramid.levels[1].geo
    assert geo is not None
    # x = 10*(2 j + 1) + 2*(4 i + 1) + 500000, y = 3*(2 j + 1) - 10*(4 i + 1) + 5000000
    assert geo.transform == (20.0, 8.0, 500012.0, 6.0, -40.0, 4999993.0)


def test_an_offset_between_centres_keeps_the_origin_of_pixels() -> None:
    step = {"scale": [2, 2], "translation": [0.5, 0.5]}
    levels: list[dict[str, Any]] = [
        {"asset": "0", "spatial:transform": NORTH_UP},
        {"asset": "1", "derived_from": "0", "transform": step},
    ]
    report = Report()
    pyramid = multiscales(layout(*levels), "", report)
    assert pyramid is not None
    assert pyramid.levels[1].geo is not None
    assert pyramid.levels[1].geo.transform == (20.0, 0.0, 500000.0, 0.0, -20.0, 5000000.0)
    assert [finding.severity for finding in report] == ["should"]
    # With node registration indices are centres, and the offset is what it says.
    report = Report()
    pyramid = multiscales(layout(*levels, spatial_registration="node"), "", report)
    assert pyramid is not None
    assert pyramid.levels[1].geo is not None
    assert pyramid.levels[1].geo.transform == (20.0, 0.0, 500005.0, 0.0, -20.0, 4999995.0)
    assert not report


def test_the_level_made_from_none_takes_what_the_group_says() -> None:
    levels: list[dict[str, Any]] = [
        {"asset": "0", "spatial:shape": [10, 20]},
        {"asset": "1", "derived_from": "0", "transform": {"scale": [2, 2]}},
    ]
    box = [0, 0, 200, 100]
    pyramid = multiscales(layout(*levels, spatial_bbox=box), "", Report())
    assert pyramid is not None
    assert [level.geo and level.geo.transform for level in pyramid.levels] == [
        (10.0, 0.0, 0.0, 0.0, -10.0, 100.0),
        (20.0, 0.0, 0.0, 0.0, -20.0, 100.0),
    ]
    del levels[0]["spatial:shape"]
    pyramid = multiscales(
        layout(*levels, spatial_bbox=box), "", Report(), shapes={"0": (10, 20), "1": (5, 10)}
    )
    assert pyramid is not None
    assert pyramid.levels[1].geo is not None
    assert pyramid.levels[1].geo.transform == (20.0, 0.0, 0.0, 0.0, -20.0, 100.0)
    assert pyramid.levels[1].geo.shape == (5, 10)


def test_a_levels_own_transform_wins() -> None:
    attrs = layout(
        {"asset": "0", "spatial:transform": [120, 0, 699960, 0, -120, 4700040]},
        {
            "asset": "1",
            "derived_from": "0",
            "transform": {"scale": [36, 36], "translation": [175, 175]},
            "spatial:transform": [360, 0, 699960, 0, -360, 4700040],
        },
    )
    report = Report()
    pyramid = multiscales(attrs, "", report)
    assert pyramid is not None
    assert pyramid.levels[1].geo is not None
    assert pyramid.levels[1].geo.transform == (360.0, 0.0, 699960.0, 0.0, -360.0, 4700040.0)
    assert [finding.severity for finding in report] == ["note"]


@pytest.mark.parametrize(
    "entry",
    [
        {"asset": "1", "derived_from": "gone", "transform": {"scale": [2, 2]}},
        {"asset": "1", "derived_from": 7, "transform": {"scale": [2, 2]}},
        {"asset": "1", "derived_from": "1", "transform": {"scale": [2, 2]}},
        {"asset": "1", "derived_from": "0"},
        {"asset": "1", "derived_from": "0", "transform": {"scale": [2]}},
        {"asset": "1", "derived_from": "0", "transform": {"scale": [0, 2]}},
        {"asset": "1", "derived_from": "0", "transform": "scale"},
    ],
)
def test_levels_that_cannot_be_placed_are_noted(entry: dict[str, Any]) -> None:
    report = Report()
    attrs = layout({"asset": "0", "spatial:transform": NORTH_UP}, entry)
    pyramid = multiscales(attrs, "", report)
    assert pyramid is not None
    assert [level.asset for level in pyramid.levels] == ["0", "1"]
    assert pyramid.levels[1].geo is None
    assert report.repairs


def test_a_cycle_ends() -> None:
    names = ["0", "1", "2"]
    attrs = layout(
        *(
            {"asset": name, "derived_from": source, "transform": {"scale": [2, 2]}}
            for name, source in zip(names, [*names[1:], names[0]], strict=True)
        )
    )
    report = Report()
    pyramid = multiscales(attrs, "", report)
    assert pyramid is not None
    assert [level.asset for level in pyramid.levels] == names
    assert all(level.geo is None for level in pyramid.levels)
    assert report.repairs


def test_a_long_chain_is_no_recursion() -> None:
    step = {"transform": {"scale": [1, 1]}}
    levels = [{"asset": str(i), "derived_from": str(i - 1), **step} for i in range(3000, 0, -1)]
    pyramid = multiscales(
        layout(*levels, {"asset": "0", "spatial:transform": NORTH_UP}), "", Report()
    )
    assert pyramid is not None
    assert pyramid.levels[0].geo is not None
    assert pyramid.levels[0].geo.transform == tuple(NORTH_UP)


@pytest.mark.parametrize(
    ("asset", "read_as"),
    [("a/b/", "a/b"), ("/a", "a"), ("../a", None), ("", None), (3, None), (None, None)],
)
def test_asset_paths(asset: Any, read_as: str | None) -> None:
    report = Report()
    pyramid = multiscales(layout({"asset": "0"}, {"asset": asset}), "", report)
    assert pyramid is not None
    assert [level.asset for level in pyramid.levels] == ["0", *([read_as] if read_as else [])]
    assert len(report.repairs) == 1


@pytest.mark.parametrize("value", [{}, {"layout": {}}, {"layout": []}, {"layout": [3]}, 3, "a", []])
def test_what_is_no_layout_is_no_pyramid(value: Any) -> None:
    report = Report()
    assert multiscales({**declaring(MULTISCALES_UUID), "multiscales": value}, "", report) is None
    assert bool(report) == isinstance(value, dict)
    assert multiscales({}, "", report) is None


def test_resampling_method_of_the_group_is_the_default() -> None:
    attrs = layout(
        {"asset": "0"},
        {"asset": "1", "derived_from": "0", "transform": {"scale": [2, 2]}},
        {
            "asset": "2",
            "derived_from": "1",
            "transform": {"scale": [2, 2]},
            "resampling_method": "mode",
        },
    )
    attrs["multiscales"]["resampling_method"] = "average"
    pyramid = multiscales(attrs, "", Report())
    assert pyramid is not None
    methods = [level.resampling_method for level in pyramid.levels]
    assert methods == [None, "average", "mode"]


# --- other spellings


GDAL_GRID = "500000 10 2 5000000 3 -10"


@pytest.mark.parametrize(
    ("grid_mapping", "expected"),
    [
        ({"GeoTransform": GDAL_GRID}, GeoReference(transform=TURNED)),
        ({"GeoTransform": GDAL_GRID.replace(" ", ", ")}, GeoReference(transform=TURNED)),
        (
            {"GeoTransform": [500000, 10, 2, 5000000, 3, -10]},
            GeoReference(transform=TURNED),
        ),
        ({"crs_wkt": WKT1_UTM32, "spatial_ref": "x"}, GeoReference(crs=Crs(wkt=WKT1_UTM32))),
        ({"spatial_ref": "EPSG:32633"}, GeoReference(crs=Crs(code=UTM33))),
        ({"spatial_ref": 32633}, GeoReference(crs=Crs(code=UTM33))),
        ({"spatial_ref": '{"type": "x"}'}, GeoReference(crs=Crs(projjson={"type": "x"}))),
        ({"spatial_ref": "{"}, None),
        ({"grid_mapping_name": "latitude_longitude"}, None),
        ({}, None),
    ],
)
def test_cf_grid_mapping(grid_mapping: dict[str, Any], expected: GeoReference | None) -> None:
    report = Report()
    assert legacy_georeference({}, grid_mapping=grid_mapping, report=report) == expected
    assert not report


@pytest.mark.parametrize("value", ["1 2 3", "a b c d e f", [1, 2], 5, "0 0 0 0 0 0"])
def test_malformed_geotransform(value: Any) -> None:
    report = Report()
    assert legacy_georeference({"GeoTransform": value}, where="a", report=report) is None
    assert len(report) == 1


@pytest.mark.parametrize(
    ("value", "crs"),
    [
        ({"wkt": WKT1_UTM32}, Crs(wkt=WKT1_UTM32)),
        ({"url": "http://www.opengis.net/def/crs/EPSG/0/26711"}, Crs(code="EPSG:26711")),
        ({"projjson": {"type": "x"}, "wkt": 5}, Crs(projjson={"type": "x"})),
        (WKT1_UTM32, Crs(wkt=WKT1_UTM32)),
        ({"wkt": ""}, None),
        ([], None),
    ],
)
def test_gdal_crs(value: Any, crs: Crs | None) -> None:
    report = Report()
    geo = legacy_georeference({"_CRS": value}, report=report)
    assert (geo and geo.crs) == crs
    assert len(report) == (crs is None)


def test_stac_keys() -> None:
    attrs = {"proj:epsg": 32633, "proj:bbox": [0, 0, 20, 10], "proj:shape": [1, 2]}
    geo = legacy_georeference(attrs, report=Report())
    assert geo is not None
    assert geo.crs == Crs(code=UTM33)
    assert geo.transform == (10.0, 0.0, 0.0, 0.0, -10.0, 10.0)
    assert legacy_georeference({"proj:geometry": {}}, report=Report()) is None


def test_rioxarrays_old_attributes_count_only_together() -> None:
    assert legacy_georeference({"transform": NORTH_UP}, report=Report()) is None
    geo = legacy_georeference({"crs": "EPSG:32633", "transform": NORTH_UP}, report=Report())
    assert geo == GeoReference(
        crs=Crs(code=UTM33), transform=(10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
    )


def test_combine_takes_a_grid_whole() -> None:
    first = GeoReference(crs=Crs(code=UTM33), shape=(2, 2), registration="node")
    second = GeoReference(dimensions=("y", "x"), transform=(1.0, 0.0, 0.0, 0.0, -1.0, 9.0))
    assert combine(first, None, second) == GeoReference(
        crs=Crs(code=UTM33), dimensions=("y", "x"), transform=second.transform
    )
    assert combine(None, GeoReference(crs=Crs(code="EPSG:1")), first) == GeoReference(
        crs=Crs(code="EPSG:1"), shape=(2, 2), registration="node"
    )
    assert combine(None) is None


NDPYRAMID = [
    {
        "datasets": [{"path": "0", "crs": "EPSG:3857", "level": 0}, {"path": "1"}, {"path": "."}],
        "type": "reduce",
        "metadata": {"method": "pyramid_reproject", "version": "0.3", "args": [], "kwargs": {}},
    }
]


def test_ndpyramids_list() -> None:
    pyramid = multiscales({"multiscales": NDPYRAMID}, "", Report())
    assert pyramid is not None
    assert [level.asset for level in pyramid.levels] == ["0", "1"]
    assert pyramid.levels[0].geo == GeoReference(crs=Crs(code="EPSG:3857"))
    assert pyramid.levels[1].geo is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NDPYRAMID, True),
        ([{"datasets": [{"path": "0", "pixels_per_tile": 128}]}], True),
        ([{"datasets": [{"path": "0"}], "metadata": {"method": "pyramid_coarsen"}}], True),
        ([{"datasets": [{"path": "0"}], "version": "0.1"}], False),
        ([{"datasets": [{"path": "0"}]}], False),
        ([{"datasets": [{"path": "0", "coordinateTransformations": [], "level": 0}]}], False),
        ([{"datasets": [{"path": "0", "level": 0}], "axes": ["y", "x"]}], False),
        (
            [
                {
                    "datasets": [{"path": "0"}],
                    "metadata": {"method": "skimage.transform.pyramid_gaussian"},
                }
            ],
            False,
        ),
        ({"layout": []}, False),
        ([], False),
        ([{"datasets": 3}], False),
        (None, False),
    ],
)
def test_ndpyramid_is_told_from_ome_zarr(value: Any, expected: bool) -> None:
    assert is_ndpyramid({"multiscales": value}) is expected


# --- values


def test_values_are_hashable_and_pickle_small() -> None:
    pyramid = multiscales(layout({"asset": "0", "spatial:transform": NORTH_UP}), "", Report())
    assert pickle.loads(pickle.dumps(pyramid)) == pyramid
    assert len(pickle.dumps(pyramid)) < 1000
    assert hash(pyramid) == hash(pickle.loads(pickle.dumps(pyramid)))
    assert isinstance(hash(Crs(projjson={"type": "x"})), int)


# --- rioxarray


@pytest.mark.parametrize("registration", ["pixel", "node"])
@pytest.mark.parametrize("transform", [tuple(NORTH_UP), TURNED, (10.0, 0.0, 0.1, 0.0, 10.0, 1 / 3)])
@pytest.mark.parametrize("spelling", ["code", "wkt", "projjson"])
def test_rioxarray_reads_the_grid_mapping(
    spelling: str, transform: Affine, registration: Any
) -> None:
    rioxarray = pytest.importorskip("rioxarray")
    pyproj = pytest.importorskip("pyproj")
    xr = pytest.importorskip("xarray")
    assert rioxarray
    system = pyproj.CRS(UTM33)
    values = {"code": UTM33, "wkt": system.to_wkt(), "projjson": json.loads(system.to_json())}
    geo = GeoReference(
        crs=Crs(**{spelling: values[spelling]}),
        dimensions=("Y", "X"),
        transform=transform,
        registration=registration,
    )
    specs = coords(geo, {"Y": 3, "X": 4})
    attrs = coord_attrs(geo, specs)
    found = {spec.name: (spec.dims, spec.values(), attrs[spec.name]) for spec in specs}
    found["spatial_ref"] = ((), np.int64(0), grid_mapping_attrs(geo))
    image = xr.DataArray(
        np.zeros((3, 4)), dims=("Y", "X"), coords=found, attrs={"grid_mapping": "spatial_ref"}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert image.rio.crs.to_epsg() == 32633
        if geo.is_rotated:
            image.rio.set_spatial_dims("X", "Y", inplace=True)
        affine = image.rio.transform()
        bounds = image.rio.transform(recalc=not geo.is_rotated)
    a, b, c, d, e, f = transform
    if registration == "node":
        c, f = c - (a + b) / 2, f - (d + e) / 2
    assert tuple(affine)[:6] == pytest.approx((a, b, c, d, e, f))
    # The coordinates say the same as GeoTransform.
    assert tuple(bounds)[:6] == pytest.approx((a, b, c, d, e, f))


# --- documents written by others


CONFORMING = [
    "zarr-conventions_examples/multiscales/custom-pyramid-levels.json",
    "zarr-conventions_examples/multiscales/dem-multiresolution.json",
    "zarr-conventions_examples/multiscales/geospatial-pyramid.json",
    "zarr-conventions_examples/multiscales/power-of-2-pyramid.json",
    "zarr-conventions_examples/multiscales/array-based-pyramid.json",
    "zarr-conventions_examples/multiscales/sentinel-2-multiresolution.json",
    "zarr-conventions_examples/spatial/multiscales.json",
    "zarr-conventions_examples/spatial/proj.json",
    "zarr-conventions_examples/geo-proj/epsg26711.json",
    "zarr-conventions_examples/geo-proj/epsg3587.json",
    "zarr-conventions_examples/geo-proj/multiscales.json",
    "zarr-conventions_examples/geo-proj/wkt2.json",
    "geozarr-toolkit/multiscales_examples/basic_pyramid.json",
    "geozarr-toolkit/multiscales_examples/geospatial_pyramid.json",
    "geozarr-toolkit/proj_examples/epsg32633.json",
    "geozarr-toolkit/proj_examples/epsg4326.json",
    "geozarr-toolkit/proj_examples/with_wkt2.json",
    "geozarr-toolkit/spatial_examples/basic_2d.json",
    "geozarr-toolkit/spatial_examples/node_registration.json",
    "geozarr-toolkit/spatial_examples/with_transform.json",
]


def attributes(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text())
    found: dict[str, Any] = document.get("attributes", document)
    return found


@pytest.mark.parametrize("name", CONFORMING)
def test_published_examples_pass_in_strict_mode(realdata: Path, name: str) -> None:
    attrs, report = attributes(realdata / name), Report(strict=True)
    geo = georeference(attrs, report=report)
    pyramid = multiscales(attrs, "", report)
    assert not report.repairs
    assert (geo is not None) == any(key.startswith(("proj:", "spatial:")) for key in attrs)
    assert (pyramid is not None) == ("multiscales" in attrs)
    if geo is not None:
        assert (geo.crs is not None) == any(key.startswith("proj:") for key in attrs)
        assert geo.dimensions is None or geo.dimensions == tuple(attrs["spatial:dimensions"])
    for level, entry in zip(
        pyramid.levels if pyramid else (),
        attrs.get("multiscales", {}).get("layout", ()),
        strict=True,
    ):
        assert level.asset == entry["asset"]
        if "spatial:transform" in entry:
            assert level.geo is not None
            assert level.geo.transform == tuple(entry["spatial:transform"])


@pytest.mark.parametrize(
    "name",
    [
        "zarr-conventions_examples/spatial/multiscales.json",
        "zarr-conventions_examples/geo-proj/multiscales.json",
        "zarr-conventions_examples/multiscales/geospatial-pyramid.json",
        "zarr-conventions_examples/multiscales/sentinel-2-multiresolution.json",
    ],
)
def test_composed_transforms_are_the_ones_that_the_examples_write(
    realdata: Path, name: str
) -> None:
    attrs = attributes(realdata / name)
    entries = attrs["multiscales"]["layout"]
    written = [tuple(entry["spatial:transform"]) for entry in entries]
    for entry in entries[1:]:
        del entry["spatial:transform"]
    pyramid = multiscales(attrs, "", Report(strict=True))
    assert pyramid is not None
    assert [level.geo and level.geo.transform for level in pyramid.levels] == written


def test_a_real_sentinel_2_pyramid(realdata: Path) -> None:
    root = json.loads((realdata / "eopf_S2C_L2A_geozarr/zarr.json").read_text())
    nodes = root["consolidated_metadata"]["metadata"]
    group = "measurements/reflectance"
    report = Report(strict=True)
    pyramid = multiscales(nodes[group]["attributes"], group, report)
    assert pyramid is not None
    assert [level.asset for level in pyramid.levels] == ["r120m", "r360m", "r720m"]
    for level, size, count in zip(
        pyramid.levels, (120.0, 360.0, 720.0), (915, 305, 152), strict=True
    ):
        attrs = nodes[f"{group}/{level.asset}"]["attributes"]
        geo = georeference(attrs, inherited=level.geo, where=level.asset, report=report)
        assert geo is not None
        assert geo.crs == Crs(code="EPSG:32632")
        assert geo.transform == (size, 0.0, 699960.0, 0.0, -size, 4700040.0)
        y, x = coords(geo, {"y": count, "x": count})
        assert (x.offset, y.offset) == (699960.0 + size / 2, 4700040.0 - size / 2)
        assert (x.units, y.units) == ("m", "m")
    # It writes the box around pixel centres on each level, and scales relative to a level of 10 m.
    centres = [finding for finding in report if "pixel centres" in finding.found]
    assert [finding.where for finding in centres] == ["r120m", "r360m", "r720m"]
    reference = nodes[f"{group}/r120m/spatial_ref"]["attributes"]
    legacy = legacy_georeference({}, grid_mapping=reference, report=report)
    assert legacy is not None
    assert legacy.crs is not None
    assert legacy.crs.wkt == reference["crs_wkt"]


def test_a_real_eopf_product_of_the_older_layout(realdata: Path) -> None:
    root = realdata / "eopf_S2A_L2A_metadata"
    attrs = json.loads((root / "measurements/reflectance/r20m/b05/.zattrs").read_text())
    report = Report(strict=True)
    geo = combine(georeference(attrs, report=report), legacy_georeference(attrs, report=report))
    assert geo is not None
    assert geo.transform == (20.0, 0.0, 699960.0, 0.0, -20.0, 4700040.0)
    assert geo.shape == (5490, 5490)
    assert geo.bbox == (699960.0, 4590240.0, 809760.0, 4700040.0)
    assert geo.crs is not None
    assert geo.crs.wkt == attrs["proj:wkt2"]
    y, x = coords(geo, {"y": 5490, "x": 5490})
    assert (x.offset, y.offset, x.units) == (699970.0, 4700030.0, "m")
    assert not report
    product = legacy_georeference(json.loads((root / ".zattrs").read_text()), report=report)
    assert product is not None
    assert product.crs == Crs(code="EPSG:32632")
    assert product.bbox == (699960.0, 4590240.0, 809760.0, 4700040.0)


def test_no_ome_zarr_image_is_taken_for_another_pyramid(realdata: Path) -> None:
    found = 0
    for name in ("ome-zarr-py_v0.1", "ome-zarr-py_v0.2", "ngio_v04", "viv_bioformats"):
        for path in (realdata / name).rglob(".zattrs"):
            attrs = json.loads(path.read_text())
            found += "multiscales" in attrs
            assert not is_ndpyramid(attrs)
            assert multiscales(attrs, "", Report()) is None
    assert found
