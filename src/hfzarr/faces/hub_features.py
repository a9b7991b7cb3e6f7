"""The columns of an index in the words of `datasets`, which the Hub reads, and without it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfzarr.errors import UnsupportedError
from hfzarr.rows.columns import marked_columns
from hfzarr.rows.facts import THUMBNAIL

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["features_of", "features_yaml", "holds_pictures", "plain_type", "with_features"]

_KEY = b"huggingface"
_MARK = "zarr"
# What Arrow and `datasets` call differently.
_DTYPES = {
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
    "date32[day]": "date32",
    "date64[ms]": "date64",
}
# Features whose cells are the bytes of a file, and its name.
_MEDIA = frozenset(["Image", "Audio", "Video", "Pdf", "Nifti", "Mesh"])
_LISTS = {"List": "list", "LargeList": "large_list"}


def plain_type(kind: pa.DataType, column: str) -> pa.DataType:
    """Return the Arrow type nearest to one, among those that `datasets` and the Hub's viewer take.

    Parameters
    ----------
    kind
        An Arrow type.
    column
        The column that has it, for errors.

    Raises
    ------
    UnsupportedError
        There is none.

    Examples
    --------
    >>> import pyarrow as pa
    >>> plain_type(pa.dictionary(pa.int8(), pa.string()), "label")
    DataType(string)
    """
    import pyarrow as pa
    import pyarrow.types as pt

    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type, column)
    if pt.is_dictionary(kind) or pt.is_run_end_encoded(kind):
        return plain_type(kind.value_type, column)
    if pt.is_string_view(kind):
        return pa.string()
    # Those of one size are known to the latest `datasets` alone.
    if pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind):
        return pa.binary()
    if pt.is_map(kind):
        pair = [("key", kind.key_type), ("value", kind.item_type)]
        return pa.list_(pa.struct([(name, plain_type(each, column)) for name, each in pair]))
    if [field.name for field in _fields(kind)] == ["bytes", "path"]:
        data, path = (plain_type(field.type, column) for field in kind)
        if str(data).endswith("binary") and str(path).endswith("string"):
            return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if pt.is_struct(kind) and kind.num_fields:
        return pa.struct([(field.name, plain_type(field.type, column)) for field in kind])
    if pt.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type, column), kind.list_size)
    if pt.is_list(kind) or pt.is_list_view(kind):
        return pa.list_(plain_type(kind.value_type, column))
    if pt.is_large_list(kind) or pt.is_large_list_view(kind):
        return pa.large_list(plain_type(kind.value_type, column))
    odd = (pt.is_nested, pt.is_interval, pt.is_decimal32, pt.is_decimal64)
    if any(is_odd(kind) for is_odd in odd):
        raise UnsupportedError(
            f"column {column!r} holds {kind}, for which `datasets` has no type. Convert it to "
            "text, numbers or lists of them, or drop the column."
        )
    return kind


def _fields(kind: pa.DataType) -> list[pa.Field]:
    import pyarrow.types as pt

    return list(kind) if pt.is_struct(kind) else []


def features_of(schema: pa.Schema, column: str) -> dict[str, Any]:
    """Return what each column is, as `datasets` writes it in the metadata of a parquet file.

    Columns of stores are text, or the fields of a selection, with the mark on the text: a feature
    that only hfzarr knows would break loading for all who do not have it. What the schema itself
    says of other columns in these words is kept where it fits their types.

    Parameters
    ----------
    schema
        An Arrow schema, of plain types.
    column
        The column of stores.

    Examples
    --------
    >>> import pyarrow as pa
    >>> schema = pa.schema([("zarr", pa.string()), ("shape", pa.list_(pa.int64()))])
    >>> features_of(schema, "zarr")["zarr"]
    {'dtype': 'string', 'id': 'zarr', '_type': 'Value'}
    """
    told = _told(schema)
    stores = {column, *marked_columns(schema)}
    found: dict[str, Any] = {}
    for field in schema:
        if field.name in stores:
            found[field.name] = _stated(field.type, None, _MARK)
        elif field.name == THUMBNAIL and _is_file(field.type):
            found[field.name] = {"_type": "Image"}
        else:
            found[field.name] = _stated(field.type, told.get(field.name))
    return found


def with_features(schema: pa.Schema, features: Mapping[str, Any]) -> pa.Schema:
    """Return a schema that tells its features, and nothing else besides its columns."""
    text = json.dumps({"info": {"features": features}})
    return schema.with_metadata({_KEY: text.encode()})


def holds_pictures(features: Mapping[str, Any]) -> bool:
    """Return whether cells are files, such as pictures, or bytes at all."""
    texts = json.dumps(features)
    return any(f'"_type": "{name}"' in texts for name in _MEDIA) or '"binary"' in texts


def _told(schema: pa.Schema) -> dict[str, Any]:
    """Return what the schema says of its columns; nothing where it cannot be understood."""
    try:
        told = json.loads((schema.metadata or {}).get(_KEY, b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _stated(kind: pa.DataType, told: Any, mark: str = "") -> dict[str, Any]:
    """Return an Arrow type as a feature; the mark is on its text, or on the path of a struct."""
    import pyarrow.types as pt

    word = told.get("_type") if isinstance(told, Mapping) else None
    fits = _is_file(kind) if word in _MEDIA else word == "ClassLabel" and str(kind) == "int64"
    if fits and not mark:
        return dict(told)
    if pt.is_struct(kind):
        fields = told if isinstance(told, Mapping) and not isinstance(word, str) else {}
        marks = {"path": mark}
        return {
            field.name: _stated(field.type, fields.get(field.name), marks.get(field.name, ""))
            for field in kind
        }
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        below = told.get("feature") if word in _LISTS else None
        length = {"length": kind.list_size} if pt.is_fixed_size_list(kind) else {}
        name = "LargeList" if pt.is_large_list(kind) else "List"
        return {"feature": _stated(kind.value_type, below), **length, "_type": name}
    marker = {"id": mark} if mark else {}
    return {"dtype": _DTYPES.get(str(kind), str(kind)), **marker, "_type": "Value"}


def _is_file(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(kind == pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def features_yaml(features: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return features as the YAML of a dataset card has them.

    Parameters
    ----------
    features
        What `features_of` returns.

    Examples
    --------
    >>> features_yaml({"shape": {"feature": {"dtype": "int64", "_type": "Value"}, "_type": "List"}})
    [{'name': 'shape', 'list': 'int64'}]
    """
    return [{"name": name, **_in_yaml(feature)} for name, feature in features.items()]


def _in_yaml(feature: Mapping[str, Any]) -> dict[str, Any]:
    word = feature.get("_type")
    if not isinstance(word, str):
        return {"struct": features_yaml(feature)}
    rest = {key: value for key, value in feature.items() if key not in ("_type", "feature")}
    if word in _LISTS:
        inner: Any = _in_yaml(feature["feature"])
        if list(inner) in (["dtype"], ["struct"]):
            (inner,) = inner.values()
        return {_LISTS[word]: inner, **rest}
    if word == "Value":
        return rest
    if word == "ClassLabel" and isinstance(rest.get("names"), list):
        # The Hub wants keys that are texts.
        rest["names"] = {str(number): name for number, name in enumerate(rest["names"])}
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).lower()
    return {"dtype": {snake: rest} if rest else snake}
