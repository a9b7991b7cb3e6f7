"""Plates and wells as OME-Zarr 0.5 writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hfzarr.errors import InvalidMetadataError
from hfzarr.model.ome.plate import parse_plate
from hfzarr.model.ome.restated import (
    InexpressibleError,
    Restated,
    is_alphanumeric,
    is_count,
    is_index,
    is_text,
    keep_sound,
    without_version,
)
from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report, shorten

__all__ = ["restate_plate", "restate_well"]

_ACQUISITION = {
    "name": is_text,
    "description": is_text,
    "maximumfieldcount": is_count,
    "starttime": is_index,
    "endtime": is_index,
}


def restate_plate(raw: Any, ome: OmeAttrs) -> Restated:
    """Return the ``plate`` of a group in 0.5.

    Raises
    ------
    InexpressibleError
        It names no wells, or some that do not lie at row/column.
    """
    try:
        plate = parse_plate(ome, Report())
    except InvalidMetadataError as error:
        raise InexpressibleError(f"a plate without wells, {shorten(raw)}") from error
    part = keep_sound(without_version(raw, ome), {"name": is_text, "field_count": is_count})
    # The path says where a well lies, so it is what the indices are to agree with.
    wells = _by_path(raw["wells"], "well", parts=2)
    places = [path.split("/") for path in wells.value]
    rows = _names(raw.get("rows"), [*plate.rows, *(row for row, _ in places)])
    columns = _names(raw.get("columns"), [*plate.columns, *(column for _, column in places)])
    acquisitions = _acquisitions(raw.get("acquisitions"))
    out = part.value | {"rows": rows, "columns": columns, "acquisitions": acquisitions.value}
    out["wells"] = [
        {
            **item,
            "path": path,
            "rowIndex": _place(row, rows),
            "columnIndex": _place(col, columns),
        }
        for (path, item), (row, col) in zip(wells.value.items(), places, strict=True)
    ]
    if acquisitions.value is None:
        del out["acquisitions"]
    return Restated(value=out, whole=part.whole and wells.whole and acquisitions.whole)


def _names(raw: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows or columns of these names, with what else the store says of them."""
    unique = list(dict.fromkeys(names))
    if strange := [name for name in unique if not is_alphanumeric(name)]:
        raise InexpressibleError(f"rows or columns named {strange}")
    items = raw if isinstance(raw, list) else []
    said: dict[str, Mapping[str, Any]] = {}
    for item in items:
        if isinstance(item, Mapping):
            said.setdefault(str(item.get("name")), item)
    return [{**said.get(name, {}), "name": name} for name in unique]


def _place(name: str, items: Sequence[Mapping[str, Any]]) -> int:
    return [item["name"] for item in items].index(name)


def restate_well(raw: Any, ome: OmeAttrs) -> Restated:
    """Return the ``well`` of a group in 0.5.

    Raises
    ------
    InexpressibleError
        It names no images, or some whose path 0.5 does not allow.
    """
    items = raw.get("images") if isinstance(raw, Mapping) else None
    if not isinstance(items, list):
        raise InexpressibleError(f"well {shorten(raw)}")
    found = _by_path(items, "image", parts=1)
    fields = [
        keep_sound({**item, "path": path}, {"acquisition": _is_integer})
        for path, item in found.value.items()
    ]
    out = {**without_version(raw, ome), "images": [part.value for part in fields]}
    return Restated(value=out, whole=found.whole and all(part.whole for part in fields))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _by_path(raw: Sequence[Any], what: str, *, parts: int) -> Restated:
    """Return the objects of a list by their paths, each once; what has no path is left out."""
    found: dict[str, Mapping[str, Any]] = {}
    left = []
    for item in raw:
        path = item.get("path") if isinstance(item, Mapping) else None
        name = path.strip("/") if isinstance(path, str) else ""
        if name and name not in found:
            found[name] = item
        else:
            left.append(item)
    for path in found:
        names = path.split("/")
        if len(names) != parts or not all(is_alphanumeric(name) for name in names):
            raise InexpressibleError(f"the {what} path {path!r}")
    if not found:
        raise InexpressibleError(f"no {what} with a path in {shorten(raw)}")
    return Restated(value=found, whole=all(item in found.values() for item in left))


def _acquisitions(raw: Any) -> Restated:
    if not isinstance(raw, list):
        return Restated(value=None, whole=raw is None)
    listed = [item for item in raw if isinstance(item, Mapping) and is_index(item.get("id"))]
    # Of two that share an id, the last counts.
    last = {item["id"]: item for item in listed}
    parts = [keep_sound(item, _ACQUISITION) for item in listed if last[item["id"]] is item]
    whole = all(item in last.values() for item in raw) and all(part.whole for part in parts)
    return Restated(value=[part.value for part in parts], whole=whole)
