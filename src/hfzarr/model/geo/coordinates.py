"""What a georeference becomes in a Dataset: coordinates, their attributes, ``spatial_ref``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hfzarr.model.coords import AxisCoord, CoordSpec, PlaneCoord
from hfzarr.model.geo.georeference import Crs, GeoReference
from hfzarr.model.report import Report

__all__ = ["coord_attrs", "coords", "dims_for", "grid_mapping_attrs", "spatial_dims"]

# Names that rioxarray and CF give the two dimensions, for stores that do not say which they are.
_PAIRS = (("y", "x"), ("lat", "lon"), ("latitude", "longitude"), ("northing", "easting"))
_STANDARD_NAMES = {
    "geographic": ("latitude", "longitude"),
    "projected": ("projection_y_coordinate", "projection_x_coordinate"),
}
_DEGREES = frozenset(["EPSG:4326", "EPSG:4979", "OGC:CRS84"])
# Web Mercator, and the UTM zones of WGS 84, north and south.
_METRES = re.compile(r"EPSG:(3857|32[67](0[1-9]|[1-5][0-9]|60))")
_UNIT = re.compile(r'UNIT\s*\[\s*"[^"]*"\s*,\s*([0-9.eE+-]+)')


def spatial_dims(geo: GeoReference, names: Sequence[str]) -> tuple[str, str] | None:
    """Return which of an array's dimensions are ``(y, x)``.

    Examples
    --------
    >>> spatial_dims(GeoReference(), ["time", "lat", "lon"])
    ('lat', 'lon')
    """
    if geo.dimensions is not None:
        return geo.dimensions if set(geo.dimensions) <= set(names) else None
    known = {str(name).lower(): str(name) for name in names}
    for y, x in _PAIRS:
        if y in known and x in known:
            return (known[y], known[x])
    return None


def dims_for(geo: GeoReference, shape: Sequence[int]) -> tuple[str, ...] | None:
    """Return dimension names for an array that has none, or None where they do not fit.

    The spatial dimensions are the last two; the others stay ``dim_0``, ``dim_1`` …

    Examples
    --------
    >>> dims_for(GeoReference(dimensions=("y", "x")), (3, 20, 10))
    ('dim_0', 'y', 'x')
    """
    if geo.dimensions is None or len(shape) < 2:
        return None
    if geo.shape is not None and tuple(shape[-2:]) != geo.shape:
        return None
    return (*(f"dim_{i}" for i in range(len(shape) - 2)), *geo.dimensions)


def coords(
    geo: GeoReference,
    dims_sizes: Mapping[str, int],
    *,
    where: str = "",
    report: Report | None = None,
) -> tuple[CoordSpec, ...]:
    """Return the coordinates of pixel centres.

    The transform counts from pixel corners with pixel registration and from pixel centres with
    node registration (spatial v0.1, "spatial:registration"), so pixel ``i`` lies at
    ``T(i + 1/2)`` or ``T(i)``.

    Parameters
    ----------
    geo
        Georeference of the array.
    dims_sizes
        Length of each dimension of the array.
    where, report
        Path of the array, and where to note a shape that is not the array's.

    Returns
    -------
    tuple of AxisCoord or PlaneCoord
        First y, then x, named after their dimensions; ``yc`` and ``xc`` (rioxarray's names) where
        the grid is rotated or sheared. Empty where the array has no such dimensions or the
        reference has no transform.

    Examples
    --------
    >>> geo = GeoReference(dimensions=("y", "x"), transform=(10.0, 0.0, 500.0, 0.0, -10.0, 900.0))
    >>> y, x = coords(geo, {"time": 4, "y": 2, "x": 3})
    >>> y.values().tolist(), x.values().tolist()
    ([895.0, 885.0], [505.0, 515.0, 525.0])
    """
    dims = spatial_dims(geo, list(dims_sizes))
    if dims is None:
        return ()
    size = (dims_sizes[dims[0]], dims_sizes[dims[1]])
    if geo.shape is not None and geo.shape != size:
        if report is not None:
            rule = "spatial v0.1, spatial:shape: the size of the spatial axes, [height, width]"
            said = f"{geo.shape}, and the array has {size}"
            report.must(where, rule, said, "no coordinates, they would be another grid's")
        return ()
    transform = geo.sized(*size).center_transform
    if transform is None:
        return ()
    a, b, c, d, e, f = transform
    y_units, x_units = _units(geo.crs)
    if not geo.is_rotated:
        return (
            AxisCoord(name=dims[0], size=size[0], scale=e, offset=f, units=y_units),
            AxisCoord(name=dims[1], size=size[1], scale=a, offset=c, units=x_units),
        )
    return (
        PlaneCoord(name="yc", dims=dims, shape=size, rows=e, columns=d, offset=f, units=y_units),
        PlaneCoord(name="xc", dims=dims, shape=size, rows=b, columns=a, offset=c, units=x_units),
    )


def coord_attrs(geo: GeoReference, specs: Sequence[CoordSpec]) -> dict[str, dict[str, str]]:
    """Return the CF attributes of coordinates that :func:`coords` gave, by name.

    ``axis`` and ``standard_name`` are how rioxarray finds the dimensions where they are not
    called ``x`` and ``y``.

    Examples
    --------
    >>> geo = GeoReference(
    ...     crs=Crs(code="EPSG:32633"),
    ...     dimensions=("N", "E"),
    ...     transform=(10.0, 0.0, 500.0, 0.0, -10.0, 900.0),
    ... )
    >>> coord_attrs(geo, coords(geo, {"N": 2, "E": 3}))["E"]
    {'axis': 'X', 'standard_name': 'projection_x_coordinate', 'units': 'm'}
    """
    names = _STANDARD_NAMES.get(_kind(geo.crs) or "", (None, None))
    found: dict[str, dict[str, str]] = {}
    for spec, axis, name in zip(specs, ("Y", "X"), names, strict=False):
        said = {
            # An axis is 1-D (CF 1.11, section 5).
            "axis": axis if isinstance(spec, AxisCoord) else None,
            "standard_name": name,
            "units": spec.units,
        }
        found[spec.name] = {key: value for key, value in said.items() if value is not None}
    return found


def grid_mapping_attrs(geo: GeoReference) -> dict[str, Any]:
    """Return the attributes of a ``spatial_ref`` coordinate.

    They are the ones by which rioxarray's ``.rio.crs`` and ``.rio.transform()`` know the
    reference system and the grid: ``spatial_ref`` in any spelling that PROJ takes, ``crs_wkt``
    where WKT is known (CF 1.11, section 5.6.1), and ``GeoTransform``, which counts from the pixel
    corner whatever the registration, in GDAL's order ``c a b f d e``.

    Examples
    --------
    >>> grid_mapping_attrs(
    ...     GeoReference(
    ...         crs=Crs(code="EPSG:4326"),
    ...         transform=(1.0, 0.0, 0.0, 0.0, -1.0, 90.0),
    ...         registration="node",
    ...     )
    ... )
    {'spatial_ref': 'EPSG:4326', 'GeoTransform': '-0.5 1.0 0.0 90.5 0.0 -1.0'}
    """
    attrs: dict[str, Any] = {}
    if geo.crs is not None:
        attrs["spatial_ref"] = str(geo.crs)
        if geo.crs.wkt is not None:
            attrs["crs_wkt"] = geo.crs.wkt
    transform = geo.corner_transform
    if transform is not None:
        a, b, c, d, e, f = transform
        attrs["GeoTransform"] = " ".join(repr(value) for value in (c, a, b, f, d, e))
    return attrs


def _kind(crs: Crs | None) -> str | None:
    """Return ``"geographic"`` or ``"projected"`` where that is certain."""
    if crs is None:
        return None
    if crs.code in _DEGREES:
        return "geographic"
    if crs.code is not None and _METRES.fullmatch(crs.code):
        return "projected"
    word = (crs.wkt or "").lstrip().partition("[")[0].rstrip().upper()
    if word in ("GEOGCS", "GEOGCRS", "GEODCRS", "GEOGRAPHICCRS"):
        return "geographic"
    if word in ("PROJCS", "PROJCRS", "PROJECTEDCRS"):
        return "projected"
    kinds = {"GeographicCRS": "geographic", "ProjectedCRS": "projected"}
    return kinds.get(str((crs.projjson or {}).get("type")))


def _units(crs: Crs | None) -> tuple[str | None, str | None]:
    """Return the CF units of y and x, each None unless they are certain."""
    kind = _kind(crs)
    if crs is None or kind is None:
        return (None, None)
    if kind == "geographic":
        certain = crs.code in _DEGREES or _spelled_unit(crs) == "degree"
        return ("degrees_north", "degrees_east") if certain else (None, None)
    certain = bool(crs.code and _METRES.fullmatch(crs.code)) or _spelled_unit(crs) == "metre"
    return ("m", "m") if certain else (None, None)


def _spelled_unit(crs: Crs) -> str | None:
    """Return the unit of the axes, ``"degree"`` or ``"metre"``, where WKT or PROJJSON names it."""
    if crs.wkt is not None:
        factors = _UNIT.findall(crs.wkt)
        # The system's own unit comes last, after those of the base system and the parameters.
        return _unit_of(factors[-1]) if factors else None
    system = (crs.projjson or {}).get("coordinate_system")
    axes = system.get("axis") if isinstance(system, Mapping) else None
    if not isinstance(axes, list):
        return None
    units = [axis.get("unit") for axis in axes if isinstance(axis, Mapping)]
    return next((unit for unit in ("degree", "metre") if set(map(str, units)) == {unit}), None)


def _unit_of(factor: str) -> str | None:
    try:
        value = float(factor)
    except ValueError:
        return None
    if math.isclose(value, math.pi / 180, rel_tol=1e-9):
        return "degree"
    return "metre" if value == 1.0 else None
