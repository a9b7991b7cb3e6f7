"""The rules of Zarr's own metadata documents, v2 and v3, judged one by one.

`hfzarr.model.array.parse_array` is lenient where what was meant is plain. Here each departure is
told, for those who ask whether a store is valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

from hfzarr.model.array import V3_FIELDS
from hfzarr.model.fill_rules import v2_fill_fault, v3_fill_fault
from hfzarr.model.report import shorten

__all__ = ["Fault", "v2_array_faults", "v2_group_faults", "v3_array_faults", "v3_group_faults"]

#: A broken rule, and what was found instead.
Fault: TypeAlias = tuple[str, str]

_V3 = "Zarr core 3.0, "
_V2 = "Zarr v2, "
_V3_GROUP = frozenset(["zarr_format", "node_type", "attributes"])
_V2_ARRAY = ("zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order")
# Codecs by what they make of what: an array or bytes (Zarr core 3.0, "Codecs", and their pages).
_ARRAY_TO_ARRAY = frozenset(["transpose"])
_ARRAY_TO_BYTES = frozenset(["bytes", "sharding_indexed", "vlen-utf8", "vlen-bytes"])
_BYTES_TO_BYTES = frozenset(["blosc", "gzip", "zstd", "crc32c"])
_TYPESTR = re.compile(r"[<>|][biufcmMSUV]\d*(\[\w+\])?|\|O")


def v3_group_faults(doc: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with the ``zarr.json`` of a group.

    Examples
    --------
    >>> list(v3_group_faults({"zarr_format": 3, "node_type": "group"}))
    []
    """
    yield from _head(doc, "group")
    yield from _extensions(doc, _V3_GROUP, "group metadata")


def v3_array_faults(doc: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with the ``zarr.json`` of an array.

    Examples
    --------
    >>> for rule, found in v3_array_faults({"zarr_format": 3, "node_type": "array"}):
    ...     print(found)
    no shape, data_type, chunk_grid, chunk_key_encoding, fill_value, codecs
    """
    yield from _head(doc, "array")
    wanted = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs")
    absent = [name for name in wanted if name not in doc]
    if absent:
        rule = f"{_V3}array metadata: {', '.join(wanted)} MUST be there"
        yield rule, f"no {', '.join(absent)}"
    checks: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Fault]]] = {
        "shape": _v3_shape,
        "data_type": _v3_data_type,
        "chunk_grid": _v3_grid,
        "chunk_key_encoding": _v3_keys,
        "fill_value": _v3_fill,
        "codecs": _v3_codecs,
        "dimension_names": _v3_names,
        "storage_transformers": _v3_transformers,
    }
    for name, check in checks.items():
        if name in doc:
            yield from check(doc)
    yield from _extensions(doc, V3_FIELDS, "array metadata")


def v2_group_faults(doc: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with a ``.zgroup``."""
    if not _is_int(doc.get("zarr_format")) or doc.get("zarr_format") != 2:
        rule = f"{_V2}groups: 'zarr_format' MUST be 2"
        yield rule, f"zarr_format {shorten(doc.get('zarr_format'))}"


def v2_array_faults(doc: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with a ``.zarray``.

    Examples
    --------
    >>> doc = {"zarr_format": 2, "shape": [4], "chunks": [2, 2], "dtype": "<i2", "order": "C",
    ...        "compressor": None, "fill_value": 0, "filters": None}
    >>> [found for _, found in v2_array_faults(doc)]
    ['chunks [2, 2] for the shape [4]']
    """
    absent = [name for name in (*_V2_ARRAY, "filters") if name not in doc]
    if absent:
        rule = f"{_V2}arrays: {', '.join([*_V2_ARRAY, 'filters'])} MUST be there"
        yield rule, f"no {', '.join(absent)}"
    if doc.get("zarr_format", 2) != 2:
        yield f"{_V2}arrays: 'zarr_format' MUST be 2", f"zarr_format {shorten(doc['zarr_format'])}"
    shape, chunks = doc.get("shape"), doc.get("chunks")
    if "shape" in doc and not _lengths(shape):
        yield f"{_V2}arrays: 'shape' MUST list integers of at least 0", f"shape {shorten(shape)}"
    elif "chunks" in doc:
        rule = f"{_V2}arrays: 'chunks' MUST list an integer of at least 1 for each dimension"
        count = len(shape) if isinstance(shape, Sequence) else None
        if not _lengths(chunks, least=0 if shape and 0 in shape else 1) or len(chunks) != count:
            yield rule, f"chunks {shorten(chunks)} for the shape {shorten(shape)}"
    if "dtype" in doc and not _is_v2_dtype(doc["dtype"]):
        rule = f"{_V2}arrays: 'dtype' MUST be a NumPy typestr, or a list of fields"
        yield rule, f"dtype {shorten(doc['dtype'])}"
    if doc.get("order", "C") not in ("C", "F"):
        yield f'{_V2}arrays: \'order\' MUST be "C" or "F"', f"order {shorten(doc['order'])}"
    yield from _v2_fill(doc)
    yield from _v2_codecs(doc)
    separator = doc.get("dimension_separator", ".")
    if separator not in (".", "/"):
        rule = f'{_V2}arrays: \'dimension_separator\' MUST be "." or "/"'
        yield rule, f"dimension_separator {shorten(separator)}"


def _v2_fill(doc: Mapping[str, Any]) -> Iterator[Fault]:
    dtype, fill = doc.get("dtype"), doc.get("fill_value")
    fault = v2_fill_fault(dtype, fill) if isinstance(dtype, str) else None
    if fault is not None:
        yield (
            f"{_V2}arrays, fill value encoding: for {dtype}, it MUST be {fault}",
            (f"fill_value {shorten(fill)}"),
        )


def _v2_codecs(doc: Mapping[str, Any]) -> Iterator[Fault]:
    compressor, filters = doc.get("compressor"), doc.get("filters")
    if compressor is not None and not _has_id(compressor):
        rule = f"{_V2}arrays: 'compressor' MUST be an object with an 'id', or null"
        yield rule, f"compressor {shorten(compressor)}"
    if filters is not None and not (isinstance(filters, list) and all(map(_has_id, filters))):
        rule = f"{_V2}arrays: 'filters' MUST list objects with an 'id', or be null"
        yield rule, f"filters {shorten(filters)}"


def _has_id(codec: Any) -> bool:
    return isinstance(codec, Mapping) and isinstance(codec.get("id"), str)


def _is_v2_dtype(value: Any) -> bool:
    if isinstance(value, str):
        return _TYPESTR.fullmatch(value) is not None
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(field, list)
            and len(field) in (2, 3)
            and isinstance(field[0], str)
            and _is_v2_dtype(field[1])
            for field in value
        )
    )


# --- v3 -------------------------------------------------------------------------------------------


def _head(doc: Mapping[str, Any], kind: str) -> Iterator[Fault]:
    rule = f"{_V3}{kind} metadata: 'zarr_format' MUST be 3 and 'node_type' \"{kind}\""
    head = {"zarr_format": doc.get("zarr_format"), "node_type": doc.get("node_type")}
    if head != {"zarr_format": 3, "node_type": kind}:
        yield rule, shorten(head)
    if "attributes" in doc and not isinstance(doc["attributes"], Mapping):
        rule = f"{_V3}{kind} metadata: 'attributes' MUST be an object"
        yield rule, f"attributes {shorten(doc['attributes'])}"


def _extensions(doc: Mapping[str, Any], known: frozenset[str], what: str) -> Iterator[Fault]:
    for key in doc.keys() - known:
        value = doc[key]
        if isinstance(value, Mapping) and value.get("must_understand") is False:
            continue
        rule = (
            f"{_V3}{what}: a field beyond the core MUST be an object that names an extension, or "
            "says must_understand false"
        )
        if not (isinstance(value, Mapping) and isinstance(value.get("name"), str)):
            yield rule, f"{key} {shorten(value)}"


def _v3_shape(doc: Mapping[str, Any]) -> Iterator[Fault]:
    if not _lengths(doc["shape"]):
        rule = f"{_V3}array metadata, shape: MUST list integers of at least 0"
        yield rule, f"shape {shorten(doc['shape'])}"


def _v3_data_type(doc: Mapping[str, Any]) -> Iterator[Fault]:
    if _named(doc["data_type"]) is None:
        rule = f"{_V3}array metadata, data_type: MUST be a name, or an object with one"
        yield rule, f"data_type {shorten(doc['data_type'])}"


def _v3_grid(doc: Mapping[str, Any]) -> Iterator[Fault]:
    grid = doc["chunk_grid"]
    name = _named(grid)
    if name is None:
        rule = f"{_V3}array metadata, chunk_grid: MUST be an object with a 'name'"
        yield rule, f"chunk_grid {shorten(grid)}"
    if name != "regular":
        return
    chunks = _configuration(grid).get("chunk_shape")
    shape = doc.get("shape")
    rule = (
        f"{_V3}regular grids: 'chunk_shape' MUST list an integer of at least 1 for each dimension"
    )
    if not _lengths(chunks, least=1) or (_lengths(shape) and len(chunks) != len(shape)):
        yield rule, f"chunk_shape {shorten(chunks)} for the shape {shorten(shape)}"


def _v3_keys(doc: Mapping[str, Any]) -> Iterator[Fault]:
    encoding = doc["chunk_key_encoding"]
    name = _named(encoding)
    if name is None:
        rule = f"{_V3}array metadata, chunk_key_encoding: MUST be an object with a 'name'"
        yield rule, f"chunk_key_encoding {shorten(encoding)}"
    separator = _configuration(encoding).get("separator", "/")
    if name in ("default", "v2") and separator not in ("/", "."):
        rule = f'{_V3}chunk key encoding: \'separator\' MUST be "/" or "."'
        yield rule, f"separator {shorten(separator)}"


def _v3_fill(doc: Mapping[str, Any]) -> Iterator[Fault]:
    data_type = _named(doc.get("data_type"))
    fault = None if data_type is None else v3_fill_fault(data_type, doc["fill_value"])
    if fault is not None:
        rule = f"{_V3}fill value list: for {data_type}, it MUST be {fault}"
        yield rule, f"fill_value {shorten(doc['fill_value'])}"


def _v3_names(doc: Mapping[str, Any]) -> Iterator[Fault]:
    names, shape = doc["dimension_names"], doc.get("shape")
    sound = isinstance(names, list) and all(n is None or isinstance(n, str) for n in names)
    if not sound or (isinstance(shape, list) and len(names) != len(shape)):
        rule = f"{_V3}array metadata, dimension_names: MUST list text or null for each dimension"
        yield rule, f"dimension_names {shorten(names)} for the shape {shorten(shape)}"


def _v3_transformers(doc: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(doc["storage_transformers"], list):
        rule = f"{_V3}array metadata, storage_transformers: MUST be a list"
        yield rule, f"storage_transformers {shorten(doc['storage_transformers'])}"


def _v3_codecs(doc: Mapping[str, Any]) -> Iterator[Fault]:
    chunks = _configuration(doc.get("chunk_grid")).get("chunk_shape")
    yield from _chain(doc["codecs"], chunks)


def _chain(codecs: Any, chunks: Any) -> Iterator[Fault]:
    """Yield what is wrong with a list of codecs for chunks of a shape."""
    rule = f"{_V3}array metadata, codecs: MUST list names, or objects with one"
    if not isinstance(codecs, list) or None in (names := [_named(codec) for codec in codecs]):
        yield rule, f"codecs {shorten(codecs)}"
        return
    kinds = [_codec_kind(str(name)) for name in names]
    # One that is not known here may be of any kind.
    if None not in kinds and (kinds.count(1) != 1 or kinds != sorted(k or 0 for k in kinds)):
        rule = (
            f"{_V3}array metadata, codecs: exactly one MUST make bytes of an array, those of "
            "arrays before it, those of bytes after it"
        )
        yield rule, f"codecs {names}"
    for codec, name in zip(codecs, names, strict=True):
        if name == "sharding_indexed":
            yield from _sharding(_configuration(codec), chunks)


def _sharding(config: Mapping[str, Any], shard: Any) -> Iterator[Fault]:
    inner = config.get("chunk_shape")
    fits = (
        _lengths(inner, least=1)
        and _lengths(shard, least=1)
        and len(inner) == len(shard)
        and all(whole % part == 0 for whole, part in zip(shard, inner, strict=True))
    )
    if not fits:
        rule = "Zarr sharding codec 1.0: 'chunk_shape' MUST divide the shape of the shard evenly"
        yield rule, f"chunk_shape {shorten(inner)} in shards {shorten(shard)}"
    for key in ("codecs", "index_codecs"):
        if key not in config:
            yield f"Zarr sharding codec 1.0: '{key}' MUST be there", f"no {key}"
        else:
            yield from _chain(config[key], inner if key == "codecs" else None)
    location = config.get("index_location", "end")
    if location not in ("start", "end"):
        rule = 'Zarr sharding codec 1.0: \'index_location\' MUST be "start" or "end"'
        yield rule, f"index_location {shorten(location)}"


def _codec_kind(name: str) -> int | None:
    """Return 0 for a codec of arrays, 1 for one that makes bytes of them, 2 for one of bytes."""
    for kind, names in enumerate((_ARRAY_TO_ARRAY, _ARRAY_TO_BYTES, _BYTES_TO_BYTES)):
        if name in names:
            return kind
    return None


# --- parts ----------------------------------------------------------------------------------------


def _named(value: Any) -> str | None:
    """Return the name of an extension point, which may be written short, or None."""
    name = value.get("name") if isinstance(value, Mapping) else value
    return name if isinstance(name, str) and name else None


def _configuration(value: Any) -> Mapping[str, Any]:
    found = value.get("configuration") if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _lengths(value: Any, least: int = 0) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(_is_int(n) and n >= least for n in value)
