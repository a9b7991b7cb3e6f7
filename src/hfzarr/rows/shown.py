"""Manifests as short tables, in terminals and notebooks."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any

from hfzarr.rows.facts import METADATA, THUMBNAIL
from hfzarr.store.location import hide_secrets

if TYPE_CHECKING:
    from hfzarr.rows.manifest import Manifest

__all__ = ["as_html", "as_text"]

_ROWS = 8
_COLUMNS = 8
_WIDTH = 40
_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


def as_text(manifest: Manifest) -> str:
    """Return a manifest's first rows, aligned."""
    names = _shown_columns(manifest, pictures=False)
    rows = [names, *[[_text(row[name]) for name in names] for row in _first_rows(manifest)]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([manifest.title, *[line.rstrip() for line in lines], *_rest(manifest, names)])


def as_html(manifest: Manifest) -> str:
    """Return a manifest's first rows as a table, with their thumbnails; it runs no script."""
    names = _shown_columns(manifest, pictures=True)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{_html(row[name])}</td>" for name in names) + "</tr>"
        for row in _first_rows(manifest)
    )
    rest = "".join(f"<p>{html.escape(line)}</p>" for line in _rest(manifest, names))
    return (
        f"<p>{html.escape(manifest.title)}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"
    )


def _shown_columns(manifest: Manifest, *, pictures: bool) -> list[str]:
    hidden = {METADATA} if pictures else {METADATA, THUMBNAIL}
    names = [name for name in manifest.columns if name not in hidden]
    # The stores are shown in any case, and their pictures.
    first = [manifest.column, *([THUMBNAIL] if THUMBNAIL in names else [])]
    chosen = [*first, *[name for name in names if name not in first]][:_COLUMNS]
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
        lines.append(f"more columns: {', '.join(hidden)}")
    return lines


def _text(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    # The end of a path says more than its beginning.
    return text if len(text) <= _WIDTH else f"…{text[1 - _WIDTH :]}"


def _html(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        data = value["bytes"]
        kind = next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), None)
        if kind is not None:
            encoded = base64.b64encode(data).decode()
            return f'<img alt="" style="max-height:64px" src="data:image/{kind};base64,{encoded}">'
    return html.escape(_text(value))
