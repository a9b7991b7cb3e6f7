"""Georeference as stores spelled it before, and beside, GeoZarr's conventions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hfzarr.model.document import parse_document
from hfzarr.model.geo.conventions import crs_code, numbers
from hfzarr.model.geo.georeference import (
    Affine,
    Crs,
    GeoReference,
    agreed,
    combine,
    read_bbox,
    read_shape,
    read_transform,
)
from hfzarr.model.report import Report

__all__ = ["is_ndpyramid", "legacy_georeference"]

# The words that open a CRS in WKT1 (OGC 01-009) and WKT2 (ISO 19162).
_WKT = re.compile(
    r"(GEOGCS|PROJCS|GEOCCS|COMPD_CS|LOCAL_CS|GEOGCRS|GEODCRS|GEODETICCRS|GEOGRAPHICCRS|PROJCRS"
    r"|PROJECTEDCRS|COMPOUNDCRS|BOUNDCRS|ENGCRS|DERIVEDPROJCRS)\s*\[",
    re.IGNORECASE,
)
_STAC = ("proj:epsg", "proj:code", "proj:wkt2", "proj:projjson")


def legacy_georeference(
    attrs: Mapping[str, Any],
    *,
    grid_mapping: Mapping[str, Any] | None = None,
    where: str = "",
    report: Report,
) -> GeoReference | None:
    """Read a georeference that is written in another way than by GeoZarr's conventions.

    In this order, the later ones complete the earlier ones:

    1. the grid mapping variable (CF 1.11, section 5.6): ``crs_wkt`` or GDAL's ``spatial_ref``,
       and GDAL's ``GeoTransform``;
    2. GDAL's ``_CRS``, an object with ``wkt``, ``projjson`` or ``url`` (GDAL, Zarr driver);
    3. the keys of the STAC projection extension, ``proj:epsg``, ``proj:transform``,
       ``proj:shape``, ``proj:bbox``, as Sentinel products of EOPF have them on each array and
       under ``stac_discovery`` on the root group;
    4. ``crs_wkt``, ``spatial_ref``, ``GeoTransform`` or rioxarray's old ``crs`` and ``transform``
       on the node itself.

    Parameters
    ----------
    attrs
        Attributes of the array or group.
    grid_mapping
        Attributes of the variable that its ``grid_mapping`` names.
    where, report
        Path of the node, and what takes the findings.

    Returns
    -------
    GeoReference or None
        Always with pixel registration: all of these count from the pixel corner.

    Examples
    --------
    >>> geo = legacy_georeference(
    ...     {}, grid_mapping={"GeoTransform": "500000 10 0 5000000 0 -10"}, report=Report()
    ... )
    >>> geo.transform
    (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
    """
    discovery = attrs.get("stac_discovery")
    properties = discovery.get("properties") if isinstance(discovery, Mapping) else None
    found = combine(
        _from_cf(grid_mapping, where, report) if grid_mapping else None,
        _from_gdal(attrs.get("_CRS"), where, report),
        _from_stac(attrs, where, report),
        _from_stac(properties, where, report) if isinstance(properties, Mapping) else None,
        _from_cf(attrs, where, report),
        _from_rioxarray(attrs),
    )
    return None if found is None or found == GeoReference() else agreed(found, where, report)


def _crs(value: Any) -> Crs | None:
    """Return the reference system for any of its spellings, silently None for other text."""
    if isinstance(value, Mapping):
        return Crs(projjson=value) if "type" in value else None
    code = crs_code(value)
    if code is not None:
        return Crs(code=code)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _WKT.match(text):
        return Crs(wkt=text)
    if text.startswith("{"):
        try:
            parsed = parse_document(text)
        except ValueError:
            return None
        return _crs(parsed) if isinstance(parsed, Mapping) else None
    return None


def _from_cf(attrs: Mapping[str, Any], where: str, report: Report) -> GeoReference | None:
    crs = _crs(attrs.get("crs_wkt")) or _crs(attrs.get("spatial_ref"))
    transform = _geotransform(attrs.get("GeoTransform"), where, report)
    return GeoReference(crs=crs, transform=transform) if crs or transform else None


def _geotransform(value: Any, where: str, report: Report) -> Affine | None:
    """Return GDAL's six numbers ``c a b f d e`` in rasterio's order."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = [float(part) for part in value.replace(",", " ").split()]
        except ValueError:
            value = [value]
    values = numbers(value)
    if values is None or len(values) != 6:
        rule = "GDAL, GeoTransform: 6 numbers 'c a b f d e'"
        report.should(where, rule, value, "left out")
        return None
    c, a, b, f, d, e = values
    return read_transform([a, b, c, d, e, f], "GDAL, GeoTransform", where, report)


def _from_gdal(value: Any, where: str, report: Report) -> GeoReference | None:
    if value is None:
        return None
    spellings = value if isinstance(value, Mapping) else {"wkt": value}
    crs = Crs(
        code=crs_code(spellings.get("url")),
        wkt=getattr(_crs(spellings.get("wkt")), "wkt", None),
        projjson=getattr(_crs(spellings.get("projjson")), "projjson", None),
    )
    if crs == Crs():
        rule = "GDAL, Zarr driver, _CRS: an object with 'wkt', 'projjson' or 'url'"
        report.should(where, rule, value, "left out")
        return None
    return GeoReference(crs=crs)


def _from_stac(attrs: Mapping[str, Any], where: str, report: Report) -> GeoReference | None:
    if not any(key.startswith("proj:") for key in attrs):
        return None
    epsg, code, wkt, projjson = (attrs.get(key) for key in _STAC)
    crs = Crs(
        code=crs_code(code) or crs_code(epsg),
        wkt=getattr(_crs(wkt), "wkt", None),
        projjson=getattr(_crs(projjson), "projjson", None),
    )
    stac = "STAC projection extension"
    transform = read_transform(
        attrs.get("proj:transform"), f"{stac}, proj:transform", where, report
    )
    geo = GeoReference(
        crs=None if crs == Crs() else crs,
        transform=transform,
        shape=read_shape(attrs.get("proj:shape"), f"{stac}, proj:shape", where, report),
        bbox=read_bbox(attrs.get("proj:bbox"), f"{stac}, proj:bbox", where, report),
    )
    return geo if geo.shape is None or geo.transform is not None else geo.sized(*geo.shape)


def _from_rioxarray(attrs: Mapping[str, Any]) -> GeoReference | None:
    """Read what rioxarray wrote before it wrote a grid mapping.

    Both names mean other things elsewhere, so they count only together.
    """
    crs = _crs(attrs.get("crs"))
    values = numbers(attrs.get("transform"))
    if crs is None or values is None or len(values) not in (6, 9):
        return None
    transform = read_transform(list(values[:6]), "transform", "", Report())
    return GeoReference(crs=crs, transform=transform) if transform is not None else None


def is_ndpyramid(attrs: Mapping[str, Any]) -> bool:
    """Return whether ``multiscales`` is ndpyramid's list rather than OME-Zarr's.

    The two look alike: ndpyramid copied the list of OME-Zarr 0.1. Its own are the keys ``level``,
    ``crs`` and ``pixels_per_tile`` of a dataset and the methods called ``pyramid_…``; it has
    neither the ``version`` and ``axes`` of an OME-Zarr list nor its transformations.

    Examples
    --------
    >>> is_ndpyramid({"multiscales": [{"datasets": [{"path": "0", "pixels_per_tile": 128}]}]})
    True
    >>> is_ndpyramid({"multiscales": [{"datasets": [{"path": "0"}], "version": "0.1"}]})
    False
    """
    value = attrs.get("multiscales")
    entry = value[0] if isinstance(value, (list, tuple)) and value else None
    if not isinstance(entry, Mapping) or not isinstance(entry.get("datasets"), (list, tuple)):
        return False
    datasets = [dataset for dataset in entry["datasets"] if isinstance(dataset, Mapping)]
    if not datasets or "omero" in attrs or "axes" in entry or "version" in entry:
        return False
    if any("coordinateTransformations" in part for part in (entry, *datasets)):
        return False
    metadata = entry.get("metadata")
    method = metadata.get("method") if isinstance(metadata, Mapping) else None
    return (isinstance(method, str) and method.startswith("pyramid_")) or any(
        key in dataset for dataset in datasets for key in ("pixels_per_tile", "level", "crs")
    )
