"""Cells: the text or the struct that a table keeps of a handle or a selection, and back."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hfzarr.errors import TargetError
from hfzarr.model.report import shorten
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.places import join
from hfzarr.rows.selection import Span, ZarrSelection, parse_spans
from hfzarr.store.location import locate
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SELECTION_FIELDS", "cell_text", "parse_cell", "selection_type"]

#: The fields of a cell that holds a selection, an Arrow struct.
SELECTION_FIELDS = ("path", "node", "level", "start", "stop", "step")

_ZIPPED = re.compile(r"\.(zip|ozx)$", re.IGNORECASE)
# A path may hold any of these marks, so only the whole form counts.
_SELECTED = re.compile(
    r"(?P<url>.+)#(?P<node>[^#@\[\]]*)(?:@(?P<level>[^#@\[\]]+))?\[(?P<at>[\d:, ]*)\]\Z",
    re.DOTALL,
)
_IN_ZIP = re.compile(r"(?P<url>.+\.(?:zip|ozx))#(?P<node>[^#@\[\]]+)$", re.IGNORECASE)


def selection_type() -> pa.StructType:
    """Return the Arrow type of a cell that holds a selection.

    ``start``, ``stop`` and ``step`` are in pixels, one for each axis of the array; ``stop`` is
    null where a single pixel is taken and the axis dropped.
    """
    import pyarrow as pa

    texts: list[tuple[str, Any]] = [(name, pa.string()) for name in SELECTION_FIELDS[:3]]
    return pa.struct([*texts, *((name, pa.list_(pa.int64())) for name in SELECTION_FIELDS[3:])])


def cell_text(value: Any) -> str:
    """Return what a column of text keeps of something that names a store.

    Parameters
    ----------
    value
        A path or URL, a mapping with a ``"path"``, a handle, a selection, or a zarr array, group
        or store that has an address.

    Raises
    ------
    TargetError
        It names none, or lies in memory.

    Examples
    --------
    >>> cell_text({"path": "s3://bucket/a.zarr"})
    's3://bucket/a.zarr'
    """
    if isinstance(value, ZarrSelection):
        return str(value)
    if isinstance(value, ZarrHandle):
        zipped = value.node and _ZIPPED.search(value.url)
        return f"{value.url}#{value.node}" if zipped else value.path
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        if isinstance(text, str) and text:
            return text
    elif isinstance(value, Mapping) and "path" in value:
        if value.get("start") is not None:
            return str(_selection(value, None, StorageOptions(), ""))
        return cell_text(value["path"])
    elif (text := _address(value)) is not None:
        return text
    raise TargetError(
        "a cell names a store by a path, a URL, a mapping with a 'path', a handle, a selection, or "
        f"a zarr array or group; this is a {type(value).__name__}: {shorten(value)}"
    )


def _address(value: Any) -> str | None:
    """Return where a zarr-python object lies, or None if it is none."""
    if isinstance(value, Mapping) or value is None:
        return None
    try:
        location = locate(value)
    except TargetError:
        return None
    place = _store_place(location.held)
    if place is None:
        raise TargetError(
            f"{location.shown} ({type(location.held).__name__}) has no address that a table could "
            "keep. Write it to a folder or a URL first."
        )
    return f"{place.rstrip('/')}/{location.path}" if location.path else place


def _store_place(store: Any) -> str | None:
    from zarr.storage import FsspecStore, LocalStore, ZipStore

    if isinstance(store, LocalStore):
        return os.path.abspath(store.root)
    if isinstance(store, ZipStore):
        return os.path.abspath(store.path)
    if isinstance(store, FsspecStore):
        return str(store.fs.unstrip_protocol(store.path))
    return None


def parse_cell(
    value: Any,
    *,
    base: str = "",
    options: Mapping[str, Any] | StorageOptions | None = None,
    row: str = "",
    metadata: str | None = None,
) -> ZarrHandle | ZarrSelection:
    """Return the handle or the selection that a cell names; nothing is opened.

    Parameters
    ----------
    value
        Text, or the struct of a selection as a mapping.
    base
        Folder or URL that relative paths count from; by default the current folder.
    options
        Options for fsspec.
    row
        Which row of which table it is, for errors.
    metadata
        JSON of the store's consolidated metadata, where the row carries it.

    Raises
    ------
    TargetError
        The cell names no store.

    Examples
    --------
    >>> parse_cell("cells.ome.zarr#@0[0, 8:24]", base="s3://bucket/data")
    ZarrSelection('s3://bucket/data/cells.ome.zarr', @0[0, 8:24])
    """
    by_reference = StorageOptions.of(options)
    if isinstance(value, (ZarrHandle, ZarrSelection)):
        return value
    if isinstance(value, Mapping) and value.get("start") is not None:
        return _selection(value, base, by_reference, row, metadata)
    text = cell_text(value)
    if found := _SELECTED.match(text):
        node, level = unquote(found["node"]), unquote(found["level"] or "")
        handle = ZarrHandle(join(base, found["url"]), node, by_reference, row, metadata)
        return ZarrSelection(handle, parse_spans(found["at"]), level)
    if found := _IN_ZIP.match(text):
        return ZarrHandle(join(base, found["url"]), found["node"], by_reference, row, metadata)
    return ZarrHandle(join(base, text), "", by_reference, row, metadata)


def _spans(value: Mapping[str, Any]) -> tuple[Span, ...]:
    try:
        starts = [int(start) for start in value["start"]]
        stops = [None if n is None else int(n) for n in value.get("stop") or [None] * len(starts)]
        steps = [int(step) for step in value.get("step") or [1] * len(starts)]
        spans = tuple(Span(*one) for one in zip(starts, stops, steps, strict=True))
    except (TypeError, ValueError):
        spans, starts = (), [-1]
    stops_or_0 = [span.stop or 0 for span in spans]
    if min([*starts, *stops_or_0], default=0) < 0 or any(span.step < 1 for span in spans):
        raise TargetError(
            "a selection has a start, a stop (or null) and a step for each axis, in whole pixels "
            f"from 0 on; this has start={value.get('start')!r}, stop={value.get('stop')!r}, "
            f"step={value.get('step')!r}"
        )
    return spans


def _selection(
    value: Mapping[str, Any],
    base: str | None,
    options: StorageOptions,
    row: str,
    metadata: str | None = None,
) -> ZarrSelection:
    node, level = str(value.get("node") or ""), str(value.get("level") or "")
    spans = _spans(value)
    path = cell_text(value.get("path"))
    # As text, a relative path stays one: it is the table's folder that it counts from.
    handle = ZarrHandle(path if base is None else join(base, path), node, options, row, metadata)
    return ZarrSelection(handle, spans, level)
