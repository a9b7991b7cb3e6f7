"""Which of GeoZarr's conventions a node declares, and its values brought into shape."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from hfzarr.model.report import Report

__all__ = [
    "MULTISCALES_UUID",
    "PROJ_KEYS",
    "PROJ_UUID",
    "SPATIAL_KEYS",
    "SPATIAL_UUID",
    "Convention",
    "crs_code",
    "declared",
    "numbers",
]

PROJ_UUID = "f17cb550-5864-4468-aeb7-f3180cfb622f"
SPATIAL_UUID = "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"
MULTISCALES_UUID = "d35379db-88df-4056-af3a-620245f8e347"

Convention = Literal["proj", "spatial", "multiscales"]

PROJ_KEYS = ("proj:code", "proj:wkt2", "proj:projjson")
SPATIAL_KEYS = (
    "spatial:dimensions",
    "spatial:bbox",
    "spatial:transform_type",
    "spatial:transform",
    "spatial:shape",
    "spatial:registration",
)

_BY_UUID: dict[str, Convention] = {
    PROJ_UUID: "proj",
    SPATIAL_UUID: "spatial",
    MULTISCALES_UUID: "multiscales",
}
_BY_REPOSITORY: dict[str, Convention] = {
    "geo-proj": "proj",
    "proj": "proj",
    "spatial": "spatial",
    "multiscales": "multiscales",
}
_REPOSITORY = re.compile(r"/zarr-(?:conventions|experimental)/([a-z-]+)/")
_RULE = "Zarr conventions, 'zarr_conventions': a list of objects, each with a uuid"
# The convention's pattern is ^[A-Z]+:[0-9]+$, but its own text names IAU_2015:30100, and
# OGC:CRS84 is in use: an authority and a code, as PROJ takes them.
_CODE = re.compile(r"[A-Z][A-Z0-9_]*:[A-Za-z0-9_.]+")
_OGC_URL = re.compile(r"opengis\.net/def/crs/([A-Za-z0-9_]+)/[0-9.]+/([A-Za-z0-9]+)/?$")


def declared(attrs: Mapping[str, Any], where: str, report: Report) -> frozenset[Convention]:
    """Return the conventions that a node declares.

    The UUID identifies a convention (spatial v0.1, CONTRIBUTING: "The UUID is permanent"); its
    name had a colon in earlier drafts. Where an entry has no UUID, its schema or specification
    address serves, which the schemas allow.

    Examples
    --------
    >>> entry = {"uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f", "name": "proj:"}
    >>> declared({"zarr_conventions": [entry]}, "", Report())
    frozenset({'proj'})
    """
    entries = attrs.get("zarr_conventions")
    if entries is None:
        return frozenset()
    if isinstance(entries, Mapping):
        # The drafts before v0.1 had an object that maps each UUID to its description.
        report.must(where, _RULE, entries, "read as the draft's mapping of UUIDs")
        entries = [{"uuid": uuid} for uuid in entries]
    if not isinstance(entries, (list, tuple)):
        report.must(where, _RULE, entries, "ignored")
        return frozenset()
    found = set()
    for entry in entries:
        if not isinstance(entry, Mapping):
            report.must(where, _RULE, entry, "this entry is ignored")
        elif (convention := _convention(entry)) is not None:
            found.add(convention)
    return frozenset(found)


def _convention(entry: Mapping[str, Any]) -> Convention | None:
    uuid = entry.get("uuid")
    if isinstance(uuid, str):
        return _BY_UUID.get(uuid.lower())
    for key in ("schema_url", "spec_url"):
        match = _REPOSITORY.search(str(entry.get(key)))
        if match:
            return _BY_REPOSITORY.get(match[1])
    return None


def numbers(value: Any) -> tuple[float, ...] | None:
    """Return a list of finite numbers as floats, or None where it is not one.

    Examples
    --------
    >>> numbers([10, 0.5])
    (10.0, 0.5)
    >>> numbers([10, "0.5"]) is None
    True
    """
    if not isinstance(value, (list, tuple)):
        return None
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value):
        return None
    try:
        floats = tuple(float(x) for x in value)
    except OverflowError:
        return None
    return floats if all(math.isfinite(x) for x in floats) else None


def crs_code(value: Any) -> str | None:
    """Return ``authority:code`` for the ways in which a code is written, else None.

    Examples
    --------
    >>> crs_code("epsg:32633"), crs_code(32633), crs_code("OGC:CRS84")
    ('EPSG:32633', 'EPSG:32633', 'OGC:CRS84')
    >>> crs_code("http://www.opengis.net/def/crs/EPSG/0/4326")
    'EPSG:4326'
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return f"EPSG:{value}" if value > 0 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if re.fullmatch("[1-9][0-9]{0,8}", text):
        return f"EPSG:{text}"
    url = _OGC_URL.search(text)
    if url:
        return f"{url[1].upper()}:{url[2]}"
    authority, colon, code = text.partition(":")
    text = authority.upper() + colon + code
    return text if _CODE.fullmatch(text) else None
