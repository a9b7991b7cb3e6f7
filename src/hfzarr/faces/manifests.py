"""Manifests as targets of the engine: their rows stacked, or a tree of them."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hfzarr.errors import TargetError
from hfzarr.faces.opening import Options
from hfzarr.faces.row_variable import handle_of
from hfzarr.faces.stacking import named_cells, stacked_dataset
from hfzarr.rows.files import file_format, file_name
from hfzarr.rows.opened import naming_row
from hfzarr.rows.selection import ZarrSelection
from hfzarr.run.pool import for_each_waiting
from hfzarr.store.location import locate

if TYPE_CHECKING:
    from xarray import Dataset

    from hfzarr.rows.manifest import Manifest

__all__ = ["column_values", "dataset", "groups", "names_a_table", "refuse_options"]

# Stores have such files of their own.
_JSON = re.compile(r"\.json(\.\w+)?$", re.IGNORECASE)
# The library that a table comes from must have been imported to make one.
_TABLES = (
    ("hfzarr.rows.manifest", ("Manifest",)),
    ("pyarrow", ("Table", "RecordBatch")),
    ("pandas", ("DataFrame",)),
    ("datasets", ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")),
)
# Columns that describe pixels, which dims and coordinates of the stacked Dataset say better.
_TOLD = frozenset(["shape", "axes", "scale", "translation", "unit", "channels"])


def names_a_table(target: Any, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Return whether a target is a table of stores, or names one.

    A repo of the Hub is looked at, as its name does not tell.
    """
    if isinstance(target, (str, os.PathLike)):
        text = os.fspath(target)
        if isinstance(text, str) and text.startswith("hf://"):
            from hfzarr.store.hub.root import holds_a_table, names_a_repo

            if names_a_repo(text):
                return holds_a_table(locate(text, storage_options))
        named = isinstance(text, str) and file_format(text) and not _JSON.search(file_name(text))
        return bool(named) and not os.path.isdir(text)
    for module, names in _TABLES:
        library = sys.modules.get(module)
        if library is not None and isinstance(target, tuple(getattr(library, n) for n in names)):
            return True
    return isinstance(target, Sequence) and not isinstance(target, (bytes, bytearray))


def dataset(
    target: Any, options: Options, place: Mapping[str, Any], *, pad: bool, **table: Any
) -> Dataset:
    """Return a table of stores as one Dataset, its rows stacked along ``row``."""
    manifest, rows_place = _opened(target, place, table)
    return stacked_dataset(manifest, column_values(manifest), options, rows_place, pad=pad)


def groups(
    target: Any, options: Options, place: Mapping[str, Any], **table: Any
) -> dict[str, Dataset]:
    """Return a table of stores as ``{path: Dataset}``, with a child for each row."""
    manifest, rows_place = _opened(target, place, table)
    return _row_groups(manifest, replace(options, quiet=True), rows_place)


def _opened(
    target: Any, place: Mapping[str, Any], table: Mapping[str, Any]
) -> tuple[Manifest, dict[str, Any]]:
    """Return the manifest, and how its rows are opened: each has its storage options."""
    from hfzarr.rows.opening import open_manifest

    manifest = open_manifest(target, **table, storage_options=place["storage_options"])
    return manifest, {**place, "storage_options": None}


def column_values(manifest: Manifest) -> dict[str, Any]:
    """Return the columns of a manifest as arrays along its rows.

    Pictures and metadata are left out, and what a scan records of axes.
    """
    from hfzarr.rows.facts import METADATA, THUMBNAIL, fact_types

    table, types = manifest.to_arrow(), fact_types()
    out = {}
    for name in table.column_names:
        if name == manifest.column:
            out[name] = np.array([str(text) for text in manifest.stores])
            continue
        kind = table.schema.field(name).type
        if name in (METADATA, THUMBNAIL) or (name in _TOLD and kind == types.get(name)):
            continue
        out[name] = _values(table.column(name))
    return out


def _values(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.types as pt

    if pt.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    elif pt.is_timestamp(column.type) and column.type.tz:
        # As xarray has times: without a zone, in UTC.
        column = column.cast(pa.timestamp(column.type.unit))
    if not (pt.is_nested(column.type) or pt.is_binary(column.type)):
        values = np.asarray(column.to_pandas())
        if values.dtype != object or not pt.is_string(column.type) or column.null_count:
            return values
        return values.astype(str)
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


def _row_groups(
    manifest: Manifest, options: Options, place: Mapping[str, Any]
) -> dict[str, Dataset]:
    """Return a child for each row, with all that its store holds, and the row in its attributes."""
    from xarray import Dataset

    cells = named_cells(manifest)
    rows = manifest.to_arrow().drop_columns([manifest.column]).to_pylist()
    found: dict[int, dict[str, Dataset]] = {}
    for_each_waiting(
        lambda i: found.setdefault(i, _groups(cells[i], options, place)), range(len(cells))
    )
    out: dict[str, Dataset] = {"/": Dataset()}
    for i, name in enumerate(_names(cells)):
        root = found[i]["/"]
        root.attrs = {**root.attrs, "row": _plain(rows[i])}
        out |= {f"/{name}{path}".rstrip("/"): one for path, one in found[i].items()}
    return out


def _groups(cell: Any, options: Options, place: Mapping[str, Any]) -> dict[str, Dataset]:
    from hfzarr.faces import read

    if isinstance(cell, ZarrSelection):
        with naming_row(cell.handle.row):
            return {"/": cell.to_xarray()}
    with naming_row(cell.row):
        return read.groups(cell, options, **place)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without pictures and metadata."""
    from hfzarr.rows.facts import METADATA, THUMBNAIL

    return {key: value for key, value in row.items() if key not in (METADATA, THUMBNAIL)}


def _names(cells: Sequence[Any]) -> list[str]:
    """Return a name for each row: its store's, with a number where several share it."""
    names = [handle_of(cell).name.replace("/", "_") or "row" for cell in cells]
    count = Counter(names)
    taken = {name for name in names if count[name] == 1}
    out = []
    for i, name in enumerate(names):
        free = name
        while count[name] > 1 and (free in taken or free == name):
            free = f"{free}_{i}"
        taken.add(free)
        out.append(free)
    return out


def refuse_options(given: Mapping[str, Any]) -> None:
    """Raise for options of manifests where the target is none."""
    for name in ("column", "split", "pad", "trusted"):
        if given[name]:
            raise TargetError(
                f"{name}= is for a manifest, a table of stores, and the target is none: leave it "
                "out, or give a parquet, CSV or JSONL file, a table, or hfzarr.open_manifest(...)"
            )
