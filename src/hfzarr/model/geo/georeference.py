"""One node's georeference: its reference system, and the map from pixels to positions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from hfzarr.model.document import parse_document
from hfzarr.model.geo.conventions import (
    PROJ_KEYS,
    SPATIAL_KEYS,
    Convention,
    crs_code,
    declared,
    numbers,
)
from hfzarr.model.report import Report

__all__ = ["Affine", "Crs", "GeoReference", "combine", "georeference"]

#: ``(a, b, c, d, e, f)``: ``x = a*column + b*row + c`` and ``y = d*column + e*row + f``.
Affine = tuple[float, float, float, float, float, float]
#: ``(xmin, ymin, xmax, ymax)``.
Bbox = tuple[float, float, float, float]
Registration = Literal["pixel", "node"]

_STAC_KEYS = ("proj:epsg", "proj:bbox", "proj:transform", "proj:shape", "proj:geometry")
_X_NAMES = frozenset(["x", "lon", "long", "longitude", "easting", "east", "col", "column"])
_Y_NAMES = frozenset(["y", "lat", "latitude", "northing", "north", "row"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Crs:
    """A coordinate reference system as the store spells it; no spelling is checked against PROJ.

    Attributes
    ----------
    code
        ``authority:code``, such as ``"EPSG:32633"``.
    wkt
        Well-known text: WKT2 by the convention, WKT1 in many stores.
    projjson
        PROJJSON, parsed.
    """

    code: str | None = None
    wkt: str | None = None
    projjson: Mapping[str, Any] | None = field(default=None, hash=False)

    def __str__(self) -> str:
        """Return the spelling that most readers take: WKT, else code, else PROJJSON."""
        return self.wkt or self.code or json.dumps(self.projjson)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoReference:
    """Where the pixels of an array, or of the arrays of a group, lie.

    Attributes
    ----------
    crs
        Reference system of the positions, or None.
    dimensions
        Names of the two spatial dimensions, ``(y, x)``, or None where they are not said.
    transform
        Affine coefficients ``(a, b, c, d, e, f)`` in rasterio's order. Index (0, 0) is the
        corner of the first pixel with pixel registration, its centre with node registration.
    shape
        ``(height, width)`` in pixels, or None.
    bbox
        ``(xmin, ymin, xmax, ymax)``: the outer edges of the outer pixels with pixel
        registration, their centres with node registration.
    registration
        ``"pixel"`` or ``"node"``.
    """

    crs: Crs | None = None
    dimensions: tuple[str, str] | None = None
    transform: Affine | None = None
    shape: tuple[int, int] | None = None
    bbox: Bbox | None = None
    registration: Registration = "pixel"

    @property
    def is_rotated(self) -> bool:
        """Whether x depends on the row or y on the column."""
        return self.transform is not None and bool(self.transform[1] or self.transform[3])

    @property
    def center_transform(self) -> Affine | None:
        """The transform for which whole indices fall on pixel centres.

        Examples
        --------
        >>> GeoReference(transform=(10.0, 0.0, 500.0, 0.0, -10.0, 900.0)).center_transform
        (10.0, 0.0, 505.0, 0.0, -10.0, 895.0)
        """
        by = 0.5 if self.registration == "pixel" else 0.0
        return self.transform and _shifted(self.transform, by)

    @property
    def corner_transform(self) -> Affine | None:
        """The transform for which whole indices fall on pixel corners, as GDAL counts.

        Examples
        --------
        >>> grid = GeoReference(transform=(1.0, 0.0, 0.0, 0.0, -1.0, 90.0), registration="node")
        >>> grid.corner_transform
        (1.0, 0.0, -0.5, 0.0, -1.0, 90.5)
        """
        by = 0.0 if self.registration == "pixel" else -0.5
        return self.transform and _shifted(self.transform, by)

    def sized(self, height: int, width: int) -> GeoReference:
        """Return the reference with a shape, and with the transform that shape and bbox give.

        A transform that is there already stays.

        Examples
        --------
        >>> GeoReference(bbox=(0.0, 0.0, 40.0, 20.0)).sized(2, 4).transform
        (10.0, 0.0, 0.0, 0.0, -10.0, 20.0)
        """
        transform = self.transform
        if transform is None and self.bbox is not None:
            transform = _from_bbox(self.bbox, (height, width), self.registration)
        return dataclasses.replace(self, shape=(height, width), transform=transform)


def _shifted(transform: Affine, by: float) -> Affine:
    """Return the transform that gives index 0 the position of index ``by``."""
    a, b, c, d, e, f = transform
    return (a, b, c + by * (a + b), d, e, f + by * (d + e))


def georeference(
    attrs: Mapping[str, Any],
    *,
    inherited: GeoReference | None = None,
    where: str = "",
    report: Report,
) -> GeoReference | None:
    """Read the ``proj:`` and ``spatial:`` attributes of a group or an array.

    Parameters
    ----------
    attrs
        Attributes of the node.
    inherited
        What the group above says, for an array directly in it; or what the layout says of a
        level. An array's own properties override it one by one (proj v0.1, "Inheritance Model";
        spatial v0.1, "Can I use spatial: at the group level?"). A group's bounding box is not
        handed on: it spans all that is below the group.
    where
        Path of the node, for the report.
    report
        Takes the findings.

    Returns
    -------
    GeoReference or None
        None where the node says nothing and nothing is inherited.

    Examples
    --------
    >>> attrs = {
    ...     "zarr_conventions": [
    ...         {"uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f"},
    ...         {"uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"},
    ...     ],
    ...     "proj:code": "EPSG:32633",
    ...     "spatial:dimensions": ["y", "x"],
    ...     "spatial:transform": [10, 0, 500000, 0, -10, 5000000],
    ... }
    >>> geo = georeference(attrs, report=Report())
    >>> geo.crs.code, geo.dimensions, geo.transform
    ('EPSG:32633', ('y', 'x'), (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0))
    """
    above = inherited and dataclasses.replace(inherited, bbox=None)
    has_proj = any(attrs.get(key) is not None for key in PROJ_KEYS)
    has_spatial = any(attrs.get(key) is not None for key in SPATIAL_KEYS)
    if not has_proj and not has_spatial and "zarr_conventions" not in attrs:
        return above
    known = declared(attrs, where, report)
    # The STAC extension has keys of the same names and declares nothing.
    if has_proj and "proj" not in known and not any(key in attrs for key in _STAC_KEYS):
        _undeclared("proj", where, report)
    if has_spatial and "spatial" not in known:
        _undeclared("spatial", where, report)
    crs = _read_crs(attrs, where, report) if has_proj else None
    if crs is None and above is not None:
        crs = above.crs
    if crs is None and "proj" in known:
        rule = "proj v0.1: at least one of proj:code, proj:wkt2, proj:projjson MUST be provided"
        report.must(where, rule, "none of them is usable", "no reference system")
    geo = _read_spatial(attrs, above, where, report) if has_spatial else above
    geo = dataclasses.replace(geo or GeoReference(), crs=crs)
    return None if geo == GeoReference() else geo


def _undeclared(convention: Convention, where: str, report: Report) -> None:
    rule = "Zarr conventions: a node lists the conventions it uses in 'zarr_conventions'"
    said = f"'{convention}:' attributes, and the convention is not declared on this node"
    report.note(where, rule, f"{said}; they are used all the same")


def _read_crs(attrs: Mapping[str, Any], where: str, report: Report) -> Crs | None:
    given, wkt, projjson = (attrs.get(key) for key in PROJ_KEYS)
    code = crs_code(given)
    if given is not None and code != given:
        rule = "proj v0.1, proj:code: a string 'AUTHORITY:CODE' (e.g., EPSG:4326)"
        report.must(where, rule, given, f"read as {code}" if code else "left out")
    if wkt is not None and not (isinstance(wkt, str) and wkt.strip()):
        report.must(where, "proj v0.1, proj:wkt2: a WKT2 string", wkt, "left out")
        wkt = None
    if isinstance(projjson, str):
        report.must(where, "proj v0.1, proj:projjson: an object", projjson, "parsed")
        projjson = _parsed(projjson)
    if projjson is not None and not (isinstance(projjson, Mapping) and projjson):
        report.must(where, "proj v0.1, proj:projjson: an object", projjson, "left out")
        projjson = None
    if code is None and wkt is None and projjson is None:
        return None
    return Crs(code=code, wkt=wkt, projjson=projjson)


def _parsed(text: str) -> Any:
    try:
        return parse_document(text)
    except ValueError:
        return text


def _read_spatial(
    attrs: Mapping[str, Any], above: GeoReference | None, where: str, report: Report
) -> GeoReference:
    base = above or GeoReference()
    bbox = read_bbox(attrs.get("spatial:bbox"), "spatial:bbox", where, report)
    shape = read_shape(attrs.get("spatial:shape"), "spatial:shape", where, report)
    own = GeoReference(
        dimensions=_dimensions(attrs.get("spatial:dimensions"), where, report) or base.dimensions,
        shape=shape or base.shape,
        bbox=bbox,
        registration=_registration(attrs, base, where, report),
    )
    kind = attrs.get("spatial:transform_type") or "affine"
    if kind != "affine":
        rule = "spatial v0.1, spatial:transform_type: unknown types SHOULD be handled gracefully"
        report.should(where, rule, kind, "no coordinates are computed")
        return own
    transform = read_transform(attrs.get("spatial:transform"), "spatial:transform", where, report)
    if transform is None and bbox is not None and shape is not None:
        transform = _from_bbox(bbox, shape, own.registration)
    if transform is None and base.transform is not None:
        transform = _handed_down(base, shape, where, report)
    return agreed(dataclasses.replace(own, transform=transform), where, report)


def _handed_down(
    base: GeoReference, shape: tuple[int, int] | None, where: str, report: Report
) -> Affine | None:
    """Return the group's transform, unless the array is another grid than the group's."""
    if shape is None or base.shape is None or shape == base.shape:
        return base.transform
    rule = "spatial v0.1: spatial:transform and spatial:shape describe one grid"
    said = f"shape {shape} here, {base.shape} beside the transform of the group"
    report.should(where, rule, said, "the group's transform is not used here")
    return None


def agreed(geo: GeoReference, where: str, report: Report) -> GeoReference:
    """Check a bounding box against transform and shape, which win."""
    if geo.transform is None or geo.shape is None or geo.bbox is None:
        return geo
    extent = _extent(geo.transform, geo.shape, geo.registration)
    a, b, _, d, e, _ = geo.transform
    # A tenth of a pixel is far more than rounding makes and less than any half-pixel mistake.
    slack = (0.1 * (abs(a) + abs(b)), 0.1 * (abs(d) + abs(e))) * 2
    if all(abs(x - y) <= s for x, y, s in zip(extent, geo.bbox, slack, strict=True)):
        return geo
    said = f"bbox {geo.bbox}, where transform and shape give {extent}"
    if geo.registration == "pixel":
        inner = _extent(_shifted(geo.transform, 0.5), geo.shape, "node")
        if all(abs(x - y) <= s for x, y, s in zip(inner, geo.bbox, slack, strict=True)):
            said += " (it spans the pixel centres, not their outer edges)"
    rule = "spatial v0.1, spatial:bbox: the bounding box of the extent that the transform gives"
    report.note(where, rule, f"{said}; transform and shape are used")
    return dataclasses.replace(geo, bbox=extent)


def _extent(transform: Affine, shape: tuple[int, int], registration: Registration) -> Bbox:
    """Return the box around the four corners (spatial v0.1, "Affine arrays")."""
    a, b, c, d, e, f = transform
    less = 1 if registration == "node" else 0
    height, width = shape[0] - less, shape[1] - less
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    xs = [a * column + b * row + c for column, row in corners]
    ys = [d * column + e * row + f for column, row in corners]
    return (min(xs), min(ys), max(xs), max(ys))


def _from_bbox(bbox: Bbox, shape: tuple[int, int], registration: Registration) -> Affine | None:
    """Return the north-up transform of a grid that fills a box."""
    xmin, ymin, xmax, ymax = bbox
    less = 1 if registration == "node" else 0
    rows, columns = shape[0] - less, shape[1] - less
    if rows < 1 or columns < 1 or xmin == xmax or ymin == ymax:
        return None
    return ((xmax - xmin) / columns, 0.0, xmin, 0.0, (ymin - ymax) / rows, ymax)


def _dimensions(value: Any, where: str, report: Report) -> tuple[str, str] | None:
    if value is None:
        return None
    rule = "spatial v0.1, spatial:dimensions: the names of the two spatial dimensions, [y, x]"
    names = value if isinstance(value, (list, tuple)) else ()
    if (
        len(names) not in (2, 3)
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) != len(names)
    ):
        report.must(where, rule, value, "left out")
        return None
    y, x = names[-2:]
    if y.lower() in _X_NAMES and x.lower() in _Y_NAMES:
        report.should(where, rule, value, f"read as y={x!r}, x={y!r}")
        y, x = x, y
    return (y, x)


def _registration(
    attrs: Mapping[str, Any], base: GeoReference, where: str, report: Report
) -> Registration:
    value = attrs.get("spatial:registration")
    if value is None:
        return base.registration
    if value in ("pixel", "node"):
        return cast(Registration, value)
    rule = "spatial v0.1, spatial:registration: 'node' or 'pixel'; MUST assume 'pixel' if omitted"
    report.must(where, rule, value, "read as 'pixel'")
    return "pixel"


def read_transform(value: Any, key: str, where: str, report: Report) -> Affine | None:
    """Return six affine coefficients, from 6 numbers or the 9 of the full matrix."""
    if value is None:
        return None
    rule = f"{key}: 6 numbers [a, b, c, d, e, f] that can be inverted"
    values = numbers(value)
    if values is not None and len(values) == 9 and values[6:] == (0.0, 0.0, 1.0):
        values = values[:6]
    if values is None or len(values) != 6:
        report.must(where, rule, value, "left out")
        return None
    a, b, _, d, e, _ = values
    if a * e == b * d:
        report.must(where, rule, value, "left out: it maps the plane to a line or a point")
        return None
    return values


def read_shape(value: Any, key: str, where: str, report: Report) -> tuple[int, int] | None:
    """Return ``(height, width)``, the last two where three are given."""
    if value is None:
        return None
    values = numbers(value)
    if (
        values is None
        or len(values) not in (2, 3)
        or not all(n >= 1 and n.is_integer() for n in values)
    ):
        report.must(where, f"{key}: [height, width], integers from 1", value, "left out")
        return None
    return (int(values[-2]), int(values[-1]))


def read_bbox(value: Any, key: str, where: str, report: Report) -> Bbox | None:
    """Return ``(xmin, ymin, xmax, ymax)``, without z where six numbers are given."""
    if value is None:
        return None
    rule = f"{key}: [xmin, ymin, xmax, ymax], each minimum no more than its maximum"
    values = numbers(value)
    if values is not None and len(values) == 6:
        values = (*values[0:2], *values[3:5])
    if values is None or len(values) != 4:
        report.must(where, rule, value, "left out")
        return None
    left, bottom, right, top = values
    box = (min(left, right), min(bottom, top), max(left, right), max(bottom, top))
    if box != values:
        report.must(where, rule, value, f"read as {box}")
    return box


def combine(*references: GeoReference | None) -> GeoReference | None:
    """Complete the first reference from the ones after it.

    The grid (transform, shape, bbox and registration) is taken whole from one of them: the first
    that has a transform, else the first that has a bounding box or a shape.

    Examples
    --------
    >>> grid = GeoReference(transform=(1.0, 0.0, 0.0, 0.0, -1.0, 9.0))
    >>> combine(GeoReference(crs=Crs(code="EPSG:4326")), None, grid).transform
    (1.0, 0.0, 0.0, 0.0, -1.0, 9.0)
    """
    given = [geo for geo in references if geo is not None]
    if not given:
        return None
    grid = next(
        (geo for geo in given if geo.transform is not None),
        next((geo for geo in given if geo.bbox is not None or geo.shape is not None), given[0]),
    )
    return dataclasses.replace(
        grid,
        crs=next((geo.crs for geo in given if geo.crs is not None), None),
        dimensions=next((geo.dimensions for geo in given if geo.dimensions is not None), None),
    )
