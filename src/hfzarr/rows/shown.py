"""Manifests as short tables, in terminals and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfzarr.model.visible import visible
from hfzarr.rows.facts import METADATA, THUMBNAIL
from hfzarr.rows.html import picture_kind, rows_table
from hfzarr.store.location import hide_secrets

if TYPE_CHECKING:
    from hfzarr.rows.manifest import Manifest

__all__ = ["as_html", "as_text"]

_ROWS = 8
_COLUMNS = 8
_WIDTH = 40


def as_text(manifest: Manifest) -> str:
    """Return a manifest's first rows, aligned."""
    names = _shown_columns(manifest)
    rows = [
        [visible(name) for name in names],
        *[[_text(row[name]) for name in names] for row in _first_rows(manifest)],
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([manifest.title, *[line.rstrip() for line in lines], *_rest(manifest, names)])


def as_html(manifest: Manifest) -> str:
    """Return a manifest's first rows as a table, with their thumbnails; it runs no script."""
    names = _shown_columns(manifest)
    rows = _first_rows(manifest)
    pictures = [_picture(row.get(THUMBNAIL)) for row in rows]
    note = "; ".join(_rest(manifest, [*names, *([THUMBNAIL] if any(pictures) else [])]))
    cells = [[_text(row[name]) for name in names] for row in rows]
    return rows_table(names, cells, title=manifest.title, note=note, pictures=pictures)


def _picture(cell: Any) -> bytes | None:
    """Return the picture in a cell, if it is one that a browser shows."""
    data = cell.get("bytes") if isinstance(cell, dict) else None
    return data if isinstance(data, bytes) and picture_kind(data) else None


def _shown_columns(manifest: Manifest) -> list[str]:
    names = [name for name in manifest.columns if name not in (METADATA, THUMBNAIL)]
    # The stores are shown in any case.
    chosen = [manifest.column, *[name for name in names if name != manifest.column]][:_COLUMNS]
    return [name for name in names if name in chosen]


def _first_rows(manifest: Manifest) -> list[dict[str, Any]]:
    table = manifest.table.slice(0, _ROWS)
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        cell = row[manifest.column]
        if isinstance(cell, dict):
            cell = str(manifest.cell(cell))
        row[manifest.column] = cell and hide_secrets(cell)
    return rows


def _rest(manifest: Manifest, names: list[str]) -> list[str]:
    lines = []
    if len(manifest) > _ROWS:
        lines.append(f"and {len(manifest) - _ROWS:,} more")
    if hidden := [name for name in manifest.columns if name not in names]:
        lines.append(f"more columns: {', '.join(map(visible, hidden))}")
    return lines


def _text(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else str(value)
    text = visible(" ".join(text.split()))
    # The end of a path says more than its beginning.
    return text if len(text) <= _WIDTH else f"…{text[1 - _WIDTH :]}"
