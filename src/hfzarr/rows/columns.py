"""Which column of a table holds stores, and the marker that says so to whoever reads it next."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hfzarr.errors import AmbiguousTargetError, TargetError
from hfzarr.rows.cells import SELECTION_FIELDS

__all__ = ["REGION_TEXT", "find_column", "mark", "marked_columns", "names_a_store"]

_KEY = b"huggingface"
_SURE_NAMES = ("zarr", "store", "zarr_path", "zarr_url", "store_path", "store_url")
_LIKELY_NAMES = (
    "path", "url", "uri", "file_name", "filename", "file", "filepath", "file_path",
    "image", "image_path", "image_url",
)  # fmt: skip
#: What follows a path in the text form of a selection.
REGION_TEXT = r"#[^#@\[\]]*(@[^#@\[\]]+)?\[[0-9:, ]*\]$"
# A store by its suffix, alone, with a path inside or with a selection behind it.
_STORE_TEXT = rf"(?i)\.(zarr|ozx|zarr\.zip)([/\\#@?]|$)|{REGION_TEXT}"
_LOOKED_AT = 1000


def names_a_store(text: str) -> bool:
    """Return whether a text is that of a store rather than the name of a column.

    Examples
    --------
    >>> names_a_store("images/a.zarr"), names_a_store("s3://bucket/a"), names_a_store("zarr")
    (True, True, False)
    """
    return "://" in text or text.startswith("/") or re.search(_STORE_TEXT, text) is not None


def marked_columns(schema: Any) -> list[str]:
    """Return the columns of an Arrow schema that are marked as stores."""
    told = _features(schema)
    return [name for name in schema.names if _is_marked(told.get(name))]


def _features(schema: Any) -> dict[str, Any]:
    """Return what `datasets` wrote of the columns; nothing where it cannot be understood."""
    try:
        told = json.loads((schema.metadata or {}).get(_KEY, b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return dict(told) if isinstance(told, dict) else {}


def _is_marked(feature: Any) -> bool:
    if not isinstance(feature, Mapping):
        return False
    if feature.get("_type") == "Zarr":
        return True
    if "_type" not in feature or isinstance(feature["_type"], Mapping):
        # A selection: the mark is on the path in it.
        path = feature.get("path")
        return "start" in feature and isinstance(path, Mapping) and _is_marked(path)
    return feature.get("_type") == "Value" and feature.get("id") == "zarr"


def mark(table: Any, column: str) -> Any:
    """Return an Arrow table whose column of stores is marked, as `datasets` marks a column.

    Who has `datasets` alone loads the column as text. What was said of the other columns stays.

    Parameters
    ----------
    table
        An Arrow table.
    column
        The column of stores.
    """
    told = {
        name: what for name, what in _features(table.schema).items() if name in table.schema.names
    }
    for name, what in told.items():
        if name != column and _is_marked(what):
            told[name] = _stated(table.schema.field(name).type, "zarr")
    told[column] = _stated(table.schema.field(column).type, "zarr")
    if "thumbnail" in table.schema.names and _is_picture(table.schema.field("thumbnail").type):
        told["thumbnail"] = {"_type": "Image"}
    ordered = {name: told[name] for name in table.schema.names if name in told}
    others = {k: v for k, v in (table.schema.metadata or {}).items() if k not in (_KEY, b"pandas")}
    text = json.dumps({"info": {"features": ordered}})
    return table.replace_schema_metadata({**others, _KEY: text.encode()})


def _stated(kind: Any, mark_as: str = "") -> dict[str, Any]:
    """Return a column's type in the words of `datasets`; the mark is on its text or its path."""
    import pyarrow.types as pt

    if pt.is_struct(kind):
        return {
            field.name: _stated(field.type, mark_as if field.name == "path" else "")
            for field in kind
        }
    if pt.is_list(kind):
        return {"feature": _stated(kind.value_type), "_type": "List"}
    marker = {"id": mark_as} if mark_as else {}
    return {"dtype": str(kind), **marker, "_type": "Value"}


def _is_picture(kind: Any) -> bool:
    import pyarrow.types as pt

    return pt.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


def find_column(table: Any, column: str | None = None, *, name: str = "the table") -> str:
    """Return the column of an Arrow table that holds stores.

    It is the one that is named, else the one that is marked, else the one whose name says so, else
    the one whose values look like stores.

    Parameters
    ----------
    table
        An Arrow table.
    column
        Its name, where the caller knows it.
    name
        What the table is called in errors.

    Raises
    ------
    AmbiguousTargetError
        Several columns may be meant.
    TargetError
        There is none, or the one that is named holds no text and no selections.

    Examples
    --------
    >>> import pyarrow as pa
    >>> find_column(pa.table({"label": ["a"], "image": ["a.ome.zarr"]}))
    'image'
    """
    if column is not None:
        return _checked(table, column, name)
    fitting: list[str] = [
        each for each in table.schema.names if _fits(table.schema.field(each).type)
    ]
    marked = [each for each in marked_columns(table.schema) if each in fitting]
    if marked:
        return _only(marked, name, "are marked as stores")
    sure = [each for each in fitting if each.lower() in _SURE_NAMES]
    if len(sure) == 1:
        return sure[0]
    valued = [each for each in sure or fitting if _looks_like_stores(table.column(each))]
    likely = [each for each in fitting if each.lower() in _LIKELY_NAMES]
    if len(both := [each for each in likely if each in valued]) == 1:
        return both[0]
    if found := valued or sure or likely:
        return _only(found, name, "may hold stores")
    raise TargetError(
        f"no column of {name} holds stores: it has {_typed(table.schema)}. Name the column with "
        "column=, or mark it; its cells are texts such as 'images/a.zarr'."
    )


def _only(found: Sequence[str], name: str, what: str) -> str:
    if len(found) == 1:
        return found[0]
    raise AmbiguousTargetError(
        f"several columns of {name} {what}: {_listed(found)}. Choose with column=."
    )


def _checked(table: Any, column: str, name: str) -> str:
    if column not in table.schema.names:
        raise TargetError(f"{name} has no column {column!r}; it has {_listed(table.schema.names)}")
    kind = table.schema.field(column).type
    if not _fits(kind):
        raise TargetError(
            f"column {column!r} of {name} holds {kind}, and a store is named by text (a path or "
            "URL) or by a selection. Choose another column."
        )
    return column


def _fits(kind: Any) -> bool:
    """Return whether a type can name stores: text, or the fields of a selection."""
    import pyarrow.types as pt

    if pt.is_dictionary(kind):
        kind = kind.value_type
    if pt.is_struct(kind):
        return {field.name for field in kind}.issuperset(SELECTION_FIELDS)
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _looks_like_stores(column: Any) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    if pt.is_struct(column.type):
        return True
    # The first that are there, wherever they stand.
    texts = column.drop_null().slice(0, _LOOKED_AT).cast(pa.string())
    if not len(texts):
        return False
    return bool(pc.all(pc.match_substring_regex(texts, _STORE_TEXT)).as_py())


def _typed(schema: Any) -> str:
    return ", ".join(f"{field.name!r} ({field.type})" for field in schema) or "none"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
