"""What a manifest's own columns say of its rows, so that they need not be opened."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfzarr.faces.opening import Options
from hfzarr.faces.row_shapes import Even, RowShape
from hfzarr.faces.row_variable import ARRAY
from hfzarr.rows.facts import METADATA
from hfzarr.rows.selection import ZarrSelection

if TYPE_CHECKING:
    from hfzarr.rows.manifest import Manifest

__all__ = ["told_shapes"]

_COLUMNS = ("kind", "shape", "dtype", "axes", "scale", "translation", "unit", "channels")


def told_shapes(
    manifest: Manifest,
    cells: Sequence[Any],
    first: RowShape,
    options: Options,
    place: Mapping[str, Any],
) -> list[RowShape | None]:
    """Return what the columns of `hfzarr.scan` say of each row; None where they do not.

    They speak of arrays and of the finest level of images, opened whole. Of another level they
    say something where a row's metadata, which it carries, lists the same levels as the first
    one's.

    Parameters
    ----------
    manifest
        The rows.
    cells
        Their handles and selections.
    first
        What the first row looks like, which was opened.
    options, place
        How rows are opened.
    """
    unknown: list[RowShape | None] = [None] * len(cells)
    told_of = options.image is None and not place.get("group") and len(first.variables) == 1
    if not told_of or not {*_COLUMNS} <= set(manifest.columns):
        return unknown
    told = _keys(manifest, finest=options.level in (None, 0))
    if told is None:
        return unknown
    name = first.variables[0][0]
    shapes: dict[Any, RowShape | None] = {}
    for key, values in told:
        if key not in shapes and options.level in (None, 0):
            shapes[key] = _told(name, dict(zip(_COLUMNS, values, strict=True)))
        elif key not in shapes:
            shapes[key] = first if key == told[0][0] else None
    known = shapes[told[0][0]]
    # What is recorded of the first row is known to be true, or is not what was opened.
    if known is None or known.departs(first):
        return unknown
    return [
        None if isinstance(cell, ZarrSelection) else shapes[key]
        for cell, (key, _) in zip(cells, told, strict=True)
    ]


def _keys(manifest: Manifest, *, finest: bool) -> list[tuple[str, Any]] | None:
    """Return for each row what is told of it, and a key of that; None where it does not reach."""
    table = manifest.to_arrow()
    told = list(zip(*(table.column(column).to_pylist() for column in _COLUMNS), strict=True))
    if finest:
        return [(repr(values), values) for values in told]
    if METADATA not in table.column_names:
        return None
    levels: dict[str | None, str | None] = {}
    out = []
    for number, (values, text) in enumerate(
        zip(told, table.column(METADATA).to_pylist(), strict=True)
    ):
        if text not in levels:
            levels[text] = _levels(text)
        # A row that does not tell its levels is like no other.
        out.append((f"{values!r} {levels[text] or number}", values))
    return out


def _levels(text: str | None) -> str | None:
    """Return what the metadata that a row carries says of its levels, without their names."""
    try:
        document = json.loads(text or "")
        attributes = document.get("attributes") or document["metadata"][".zattrs"]
        below = document.get("consolidated_metadata", document)["metadata"]
        multiscale = attributes.get("ome", attributes)["multiscales"][0]
        arrays = {
            path: [array["shape"], array.get("data_type", array.get("dtype"))]
            for path, array in below.items()
            if "shape" in array
        }
        said = [multiscale.get(key) for key in ("axes", "datasets", "coordinateTransformations")]
        return json.dumps([said, arrays], sort_keys=True)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _told(name: Hashable, told: Mapping[str, Any]) -> RowShape | None:
    """Return what the columns say of one row; None where they make no sense."""
    try:
        shape = tuple(int(n) for n in told["shape"])
        if told["kind"] == "array":
            dims = tuple(told["axes"] or (f"dim_{i}" for i in range(len(shape))))
            name = ARRAY
        elif told["kind"] == "image":
            dims = tuple(told["axes"])
            name = "image" if name == ARRAY else name
        else:
            return None
        sound = len(dims) == len(shape) == len(set(dims)) and min(shape, default=0) >= 0
        if not sound or not isinstance(told["dtype"], str):
            return None
        return RowShape(
            variables=((name, dims, shape, told["dtype"]),), positions=_told_positions(dims, told)
        )
    except (TypeError, ValueError):
        return None


def _told_positions(dims: Sequence[str], told: Mapping[str, Any]) -> dict[Hashable, Any]:
    positions: dict[Hashable, Any] = {}
    scale, translation = told["scale"], told["translation"]
    if scale is not None and translation is not None:
        units = told["unit"] or [None] * len(dims)
        for dim, first, step, unit, n in zip(
            dims, translation, scale, units, told["shape"], strict=True
        ):
            positions[dim] = Even(float(first), float(step), int(n), unit)
    if "c" in dims:
        positions["c"] = tuple(told["channels"] or ())
    return positions
