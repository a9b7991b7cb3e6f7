"""Python values become Arrow columns; columns of text get back the types that text cannot hold."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hfzarr.errors import TargetError
from hfzarr.model.report import shorten
from hfzarr.rows.cells import SELECTION_FIELDS, cell_text, parse_cell, selection_type
from hfzarr.rows.columns import REGION_TEXT
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.selection import ZarrSelection
from hfzarr.store.options import StorageOptions

__all__ = ["as_cells", "cells_options", "column_of", "record_columns", "with_fact_types"]


def record_columns(records: Iterable[Any], name: str) -> dict[str, list[Any]]:
    """Return the columns of mappings; a key that a mapping lacks is a missing cell.

    Raises
    ------
    TargetError
        A record is no mapping of names.
    """
    rows = list(records)
    names: dict[str, None] = {}
    for number, record in enumerate(rows):
        if not isinstance(record, Mapping) or not all(isinstance(key, str) for key in record):
            raise TargetError(
                f"row {number} of {name!r} is {shorten(record)}, and a row is a mapping of column "
                "names to values"
            )
        names.update(dict.fromkeys(record))
    return {column: [record.get(column) for record in rows] for column in names}


def column_of(values: Sequence[Any], column: str, name: str) -> Any:
    """Return an Arrow array of values, among which may be paths, handles and zarr objects.

    Raises
    ------
    TargetError
        The values have no type in common.
    """
    import pyarrow as pa

    there = [value for value in values if value is not None]
    if there and all(isinstance(value, ZarrSelection) for value in there):
        cells = [None if value is None else dict(value.items()) for value in values]
        return pa.array(cells, selection_type())
    if any(_names_a_store(value) for value in there):
        return _texts(values, name)
    try:
        return pa.array([_plain(value) for value in values])
    except UnicodeEncodeError as error:
        raise TargetError(
            f"column {column!r} of {name!r} holds {shorten(error.object)}, which is no text that "
            f"UTF-8 can write ({error.reason})"
        ) from error
    except (
        pa.ArrowInvalid,
        pa.ArrowTypeError,
        pa.ArrowNotImplementedError,
        OverflowError,
    ) as error:
        raise TargetError(
            f"column {column!r} of {name!r} mixes kinds of values: {error}"
        ) from error


def _texts(values: Sequence[Any], name: str) -> Any:
    import pyarrow as pa

    texts: list[str | None] = []
    for number, value in enumerate(values):
        try:
            texts.append(value if value is None or value == "" else cell_text(value))
        except TargetError as error:
            raise TargetError(f"row {number} of {name!r}: {error}") from error
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError as error:
        raise TargetError(
            f"row {texts.index(error.object)} of {name!r}: the path {shorten(error.object)} is no "
            f"text that UTF-8 can write ({error.reason})"
        ) from error


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _names_a_store(value: Any) -> bool:
    """Return whether a value is a reference to a store, and not text or any other value."""
    if isinstance(value, (os.PathLike, ZarrHandle, ZarrSelection)):
        return True
    if isinstance(value, Mapping):
        return set(value) == {"path"}
    if "zarr" not in sys.modules:
        return False
    import zarr
    from zarr.abc.store import Store
    from zarr.storage import StorePath

    return isinstance(value, (zarr.Array, zarr.Group, Store, StorePath))


def as_cells(values: Sequence[Any], name: str) -> Any:
    """Return an Arrow array of what names one store each: texts, paths, handles, zarr objects."""
    import pyarrow as pa

    if all(value is None or isinstance(value, ZarrSelection) for value in values):
        return column_of(values, "zarr", name) if values else pa.array([], pa.string())
    return _texts(values, name)


def cells_options(values: Iterable[Any]) -> StorageOptions:
    """Return the options that handles bring along.

    Raises
    ------
    TargetError
        They differ, and a manifest has one set of options.
    """
    found = {_options_of(value): None for value in values if _options_of(value)}
    if len(found) > 1:
        raise TargetError(
            "the handles were opened with different storage_options, and a manifest has one: pass "
            "storage_options="
        )
    return next(iter(found), None) or StorageOptions()


def _options_of(value: Any) -> StorageOptions | None:
    if isinstance(value, ZarrSelection):
        value = value.handle
    return value.options if isinstance(value, ZarrHandle) else None


def with_fact_types(table: Any) -> Any:
    """Return a table from a text file with the types that `scan` gave its columns.

    Lists in a CSV are JSON, pictures are base64. A column that does not hold what its name says
    stays as it is.
    """
    from hfzarr.rows.facts import fact_types, option_types

    columns = dict(zip(table.schema.names, table.columns, strict=True))
    if len(columns) < table.num_columns:
        return table  # Two columns of one name are refused by whoever opens it.
    for name, kind in {**fact_types(), **option_types()}.items():
        if name in columns and columns[name].type != kind:
            columns[name] = _retyped(columns[name], kind)
    for name, column in columns.items():
        columns[name] = _as_selections(column)
    import pyarrow as pa

    return pa.table(columns)


def _retyped(column: Any, kind: Any) -> Any:
    import pyarrow as pa
    import pyarrow.types as pt

    errors = (pa.ArrowException, ValueError, TypeError, AttributeError, RecursionError)
    try:
        if pt.is_list(kind) or pt.is_struct(kind):
            # Rows repeat their axes and units: each text is parsed once.
            parsed = {text: _parsed(text) for text in {_key(v) for v in column.to_pylist()}}
            return pa.chunked_array([pa.array([parsed[_key(v)] for v in column.to_pylist()], kind)])
        return column.cast(kind)
    except errors:
        return column


def _key(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _parsed(text: str) -> Any:
    value = json.loads(text)
    if isinstance(value, dict) and isinstance(value.get("bytes"), str):
        return {**value, "bytes": base64.b64decode(value["bytes"], validate=True)}
    return value


def _as_selections(column: Any) -> Any:
    """Return a column of selections, as text or as loose structs, as one of proper structs."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    if pt.is_struct(column.type) and {f.name for f in column.type} == set(SELECTION_FIELDS):
        return pa.chunked_array([pa.array(column.to_pylist(), selection_type())])
    if not pt.is_string(column.type):
        return column
    there = column.drop_null()
    if not len(there) or not pc.all(pc.match_substring_regex(there, REGION_TEXT)).as_py():
        return column
    cells = [None if text is None else _fields(text) for text in column.to_pylist()]
    return column if False in cells else pa.chunked_array([pa.array(cells, selection_type())])


def _fields(text: str) -> Any:
    """Return the fields of a selection's text form, its path as it stands there."""
    found = parse_cell(text, base="memory://")
    if not isinstance(found, ZarrSelection):
        return False
    return {**dict(found.items()), "path": text[: text.rindex("#")]}
