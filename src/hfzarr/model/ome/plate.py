"""High-content screening: plates, their wells and the fields in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report, shorten, unrepairable

__all__ = ["Field", "Plate", "Well", "parse_plate", "parse_well"]

_NAME = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Well:
    """One well of a plate.

    Attributes
    ----------
    path
        Path of the well's group, relative to the plate: ``"A/1"``.
    row, column
        Names of its row and column.
    """

    path: str
    row: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """A plate, as sparse as it is.

    Attributes
    ----------
    where
        Path of the plate's group in its store.
    name
        Its name, or None.
    rows, columns
        Names of all rows and columns, also those without wells.
    wells
        The wells that are there.
    acquisitions
        The acquisitions' metadata, by id.
    """

    where: str
    name: str | None
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    wells: tuple[Well, ...]
    acquisitions: Mapping[int, Mapping[str, Any]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of view in a well.

    Attributes
    ----------
    path
        Path of the image, relative to the well.
    acquisition
        The acquisition it belongs to, or None.
    """

    path: str
    acquisition: int | None = None


def parse_plate(ome: OmeAttrs, report: Report) -> Plate:
    """Read the ``plate`` object of a group.

    Raises
    ------
    InvalidMetadataError
        It names no wells.
    """
    raw = ome.data["plate"]
    if not isinstance(raw, Mapping):
        raise unrepairable(ome.where, ome.rule("plate", "'plate' is an object"), raw)
    for key in ("name", *(("version",) if ome.version == "0.4" else ())):
        if key not in raw:
            report.note(ome.where, ome.rule("plate", f"{key!r} SHOULD be there"), f"no {key}")
    _count(raw.get("field_count", 1), "field_count", 1, ome, report)
    rows, columns = _names(raw, "rows", ome, report), _names(raw, "columns", ome, report)
    return Plate(
        where=ome.where,
        name=raw["name"] if isinstance(raw.get("name"), str) else None,
        rows=rows,
        columns=columns,
        wells=_wells(raw, rows, columns, ome, report),
        acquisitions=_acquisitions(raw, ome, report),
    )


def _names(raw: Mapping[str, Any], key: str, ome: OmeAttrs, report: Report) -> tuple[str, ...]:
    rule = ome.rule("plate", f"{key!r} MUST list objects with unique alphanumeric 'name's")
    items = raw.get(key)
    names = [
        str(item["name"])
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, Mapping) and "name" in item
    ]
    unique = list(dict.fromkeys(names))
    complete = isinstance(items, list) and len(items) == len(unique) > 0
    if not complete or not all(_NAME.fullmatch(name) for name in unique):
        report.must(ome.where, rule, f"{key} {shorten(items)}", f"taken to be {unique}")
    return tuple(unique)


def _wells(
    raw: Mapping[str, Any],
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    ome: OmeAttrs,
    report: Report,
) -> tuple[Well, ...]:
    rule = ome.rule(
        "plate",
        "'wells' MUST list objects with a unique 'path' (row/column), rowIndex, columnIndex",
    )
    items = raw.get("wells")
    if not isinstance(items, list) or not items:
        raise unrepairable(ome.where, rule, f"wells {shorten(items)}")
    wells: dict[str, Well] = {}
    for item in items:
        well = _well(item, rows, columns)
        if well is None:
            report.must(ome.where, rule, f"well {shorten(item)}", "left out")
            continue
        if well.path in wells:
            report.must(ome.where, rule, f"well {well.path!r} twice", "taken once")
        _check_well(item, well, rows, columns, ome, report)
        wells[well.path] = well
    if not wells:
        raise unrepairable(ome.where, rule, f"wells {shorten(items)}")
    return tuple(wells.values())


def _well(item: Any, rows: tuple[str, ...], columns: tuple[str, ...]) -> Well | None:
    if not isinstance(item, Mapping) or not isinstance(item.get("path"), str):
        return None
    path = item["path"].strip("/")
    parts = path.split("/")
    row, column = (parts[0], parts[-1]) if len(parts) > 1 else (path, "")
    if isinstance(i := item.get("rowIndex"), int) and 0 <= i < len(rows):
        row = rows[i]
    if isinstance(j := item.get("columnIndex"), int) and 0 <= j < len(columns):
        column = columns[j]
    return Well(path=path, row=row, column=column)


def _check_well(
    item: Mapping[str, Any],
    well: Well,
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    ome: OmeAttrs,
    report: Report,
) -> None:
    parts = well.path.split("/")
    if len(parts) != 2 or not all(_NAME.fullmatch(part) for part in parts):
        rule = ome.rule("plate", "a well's 'path' MUST be a row name, a slash and a column name")
        report.must(ome.where, rule, f"well path {well.path!r}", "used as it is")
        return
    for key, names, part in (("rowIndex", rows, parts[0]), ("columnIndex", columns, parts[1])):
        index = item.get(key)
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            rule = ome.rule("plate", f"a well MUST have a {key!r}, counted from 0")
            report.must(
                ome.where,
                rule,
                f"{key} {index!r} of {well.path!r}",
                f"taken from the path, {part!r}",
            )
        elif index >= len(names) or names[index] != part:
            rule = ome.rule("plate", f"{key!r} MUST be the place of the path's name in the list")
            found = f"{key} {index} of well {well.path!r} in {list(names)}"
            # The 0.4 suite holds such plates to be valid.
            note = report.must if ome.version not in ("0.1", "0.2", "0.3", "0.4") else report.should
            note(ome.where, rule, found, "the path is used to find the well")


def _acquisitions(
    raw: Mapping[str, Any], ome: OmeAttrs, report: Report
) -> dict[int, Mapping[str, Any]]:
    acquisitions: dict[int, Mapping[str, Any]] = {}
    items = raw.get("acquisitions", [])
    if not isinstance(items, list):
        report.must(
            ome.where,
            ome.rule("plate", "'acquisitions' is a list"),
            f"acquisitions {shorten(items)}",
            "ignored",
        )
        items = []
    for item in items:
        number = item.get("id") if isinstance(item, Mapping) else None
        if not _count(number, "the id of an acquisition", 0, ome, report) or number is None:
            continue
        _count(item.get("maximumfieldcount", 1), "maximumfieldcount", 1, ome, report)
        _count(item.get("starttime", 0), "starttime", 0, ome, report)
        _count(item.get("endtime", 0), "endtime", 0, ome, report)
        for key in ("name", "maximumfieldcount"):
            if key not in item:
                rule = ome.rule("plate", f"an acquisition SHOULD have a {key!r}")
                report.note(ome.where, rule, f"acquisition {number} without a {key}")
        if number in acquisitions:
            rule = ome.rule("plate", "the ids of acquisitions MUST be unique")
            report.must(ome.where, rule, f"id {number} twice", "the last one counts")
        acquisitions[number] = item
    return acquisitions


def _count(value: Any, what: str, least: int, ome: OmeAttrs, report: Report) -> bool:
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return True
    rule = ome.rule("plate", f"{what} MUST be an integer of at least {least}")
    report.must(ome.where, rule, f"{what} is {value!r}", "ignored")
    return False


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def parse_well(ome: OmeAttrs, report: Report) -> tuple[Field, ...]:
    """Read the ``well`` object of a group: its fields of view.

    Raises
    ------
    InvalidMetadataError
        It names no images.
    """
    raw = ome.data.get("well")
    rule = ome.rule("well", "'images' MUST list objects with a unique 'path'")
    items = raw.get("images") if isinstance(raw, Mapping) else None
    if not isinstance(items, list) or not items:
        raise unrepairable(ome.where, rule, f"images {shorten(items)}")
    if ome.version == "0.4" and isinstance(raw, Mapping) and "version" not in raw:
        report.note(ome.where, ome.rule("well", "'version' SHOULD be there"), "no version in well")
    fields: dict[str, Field] = {}
    for item in items:
        path = item.get("path") if isinstance(item, Mapping) else None
        if not isinstance(path, str) or path in fields or not path.strip("/"):
            report.must(ome.where, rule, f"image {shorten(item)}", "left out")
            continue
        if not _NAME.fullmatch(path):
            alphanumeric = ome.rule("well", "an image's 'path' MUST be alphanumeric")
            report.must(ome.where, alphanumeric, f"path {path!r}", "used as it is")
        acquisition = item.get("acquisition")
        if acquisition is not None and not _is_id(acquisition):
            whole = ome.rule("well", "'acquisition' MUST be an integer")
            report.must(
                ome.where, whole, f"acquisition {acquisition!r} of image {path!r}", "ignored"
            )
            acquisition = None
        fields[path] = Field(path=path.strip("/"), acquisition=acquisition)
    if not fields:
        raise unrepairable(ome.where, rule, f"images {shorten(items)}")
    return tuple(fields.values())
