"""Arrays that are to be written anew: which codecs can stay, and the v3 document."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hfzarr.model.array import ArrayMeta
from hfzarr.model.recode import Codec, byte_codec, byte_orders, bytes_codec

__all__ = ["TypeDoc", "array_document", "can_be_sharded", "carried_fill", "kept_codecs"]

_TEXT_CODECS = ("vlen-utf8", "vlen-bytes")
_PLAIN_KINDS = frozenset("biufcSUVMm")
# What every xarray that is supported can read back from a `_FillValue` of Zarr v3.
_MASKED_KINDS = frozenset("biuf")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeDoc:
    """The data type of an array in the words of a v3 document.

    Attributes
    ----------
    data_type
        Its ``data_type``, as JSON.
    fill_value
        Its ``fill_value``, as JSON.
    """

    data_type: Any
    fill_value: Any


def can_be_sharded(dtype: np.dtype[Any]) -> bool:
    """Whether every zarr-python that is supported reads shards of a data type.

    zarr-python 3.1 neither reads nor writes shards of records and of raw bytes.

    Examples
    --------
    >>> import numpy as np
    >>> can_be_sharded(np.dtype("U3")), can_be_sharded(np.dtype("V3"))
    (True, False)
    """
    return not (dtype.kind == "V" and dtype.type is np.void)


def kept_codecs(meta: ArrayMeta) -> tuple[Codec, ...] | None:
    """Return the v3 codecs whose bytes of an inner chunk are those of the source.

    Parameters
    ----------
    meta
        The array's metadata.

    Returns
    -------
    tuple or None
        None where there are no such codecs, or where that is in doubt.

    Examples
    --------
    >>> import numpy as np
    >>> from hfzarr.model.array import parse_array
    >>> doc = {"shape": [9], "chunks": [4], "dtype": ">u2", "fill_value": 0, "order": "C",
    ...        "compressor": {"id": "gzip", "level": 1}, "filters": None, "zarr_format": 2}
    >>> for codec in kept_codecs(parse_array("a", doc, {}, resolve=None)):
    ...     print(codec)
    {'name': 'bytes', 'configuration': {'endian': 'big'}}
    {'name': 'gzip', 'configuration': {'level': 1}}
    >>> doc["compressor"] = {"id": "bz2", "level": 1}
    >>> kept_codecs(parse_array("a", doc, {}, resolve=None)) is None
    True
    """
    if meta.inner_chunk is None:
        return None
    if meta.zarr_format == 3:
        return _kept_v3(meta)
    try:
        return _kept_v2(meta.doc, meta.ndim)
    except (KeyError, TypeError, ValueError):
        # Parameters that numcodecs takes, or ignores, and the v3 codec does not have.
        return None


def _kept_v3(meta: ArrayMeta) -> tuple[Codec, ...]:
    codecs = meta.doc["codecs"]
    if meta.shard is not None:
        codecs = codecs[0]["configuration"]["codecs"]
    return tuple({"name": codec} if isinstance(codec, str) else codec for codec in codecs)


def _kept_v2(doc: Mapping[str, Any], ndim: int) -> tuple[Codec, ...] | None:
    first, itemsize = _v2_serializer(doc), 1
    if first is None or doc.get("order", "C") not in ("C", "F"):
        return None
    chain = [first]
    if first["name"] == "bytes":
        itemsize = _v2_dtype(doc["dtype"]).itemsize
    if doc.get("order") == "F" and ndim > 1:
        order = list(reversed(range(ndim)))
        chain.insert(0, {"name": "transpose", "configuration": {"order": order}})
    compressor = doc.get("compressor")
    if compressor is not None:
        config = {key: value for key, value in compressor.items() if key != "id"}
        chain.append(byte_codec(compressor["id"], config, itemsize))
    return tuple(chain)


def _v2_serializer(doc: Mapping[str, Any]) -> Codec | None:
    """Return the v3 codec that makes the bytes of v2's data type, if there is one."""
    filters = doc.get("filters") or []
    if doc["dtype"] == "|O":
        names = [codec["id"] for codec in filters]
        return {"name": names[0]} if names in [[name] for name in _TEXT_CODECS] else None
    dtype = _v2_dtype(doc["dtype"])
    if filters or dtype.kind not in _PLAIN_KINDS:
        return None
    orders = byte_orders(dtype)
    if dtype.fields is not None and "big" in orders:
        # Older zarr-python reads the fields of a v3 record little-endian, whatever `bytes` says.
        return None
    return bytes_codec(dtype, *(orders or ["little"]))


def _v2_dtype(said: Any) -> np.dtype[Any]:
    """Read the ``dtype`` of a v2 document: a string, or a list of fields."""
    if isinstance(said, str):
        return np.dtype(said)
    return np.dtype([(name, _v2_dtype(kind), *map(tuple, shape)) for name, kind, *shape in said])


def array_document(
    meta: ArrayMeta,
    *,
    inner_chunk: Sequence[int],
    shard: Sequence[int] | None,
    codecs: Sequence[Codec],
    dims: Sequence[str | None] | None,
    attrs: Mapping[str, Any],
    data_type: Any,
    fill_value: Any,
) -> dict[str, Any]:
    """Return the v3 document of an array that is to be written anew.

    Of a v3 source, all stays that is not said here, extensions among it. The keys of chunks keep
    their separator.

    Parameters
    ----------
    meta
        The array as it is.
    inner_chunk
        Shape of what is encoded as one.
    shard
        Shape of the file that holds inner chunks; None for a file for each.
    codecs
        Codecs of an inner chunk.
    dims
        Dimension names; None for those that the array has.
    attrs
        User attributes. Of a v2 source, those that hold names of dimensions, or notes of netCDF
        on v2, are left out.
    data_type, fill_value
        As in `TypeDoc`.

    Examples
    --------
    >>> import numpy as np
    >>> from hfzarr.model.array import parse_array
    >>> from hfzarr.model.recode import default_codecs
    >>> doc = {"shape": [9], "chunks": [4], "dtype": "|u1", "fill_value": 0, "order": "C",
    ...        "compressor": None, "filters": None, "zarr_format": 2}
    >>> meta = parse_array("a", doc, {"_ARRAY_DIMENSIONS": ["x"], "units": "m"}, resolve=None)
    >>> made = array_document(meta, inner_chunk=(4,), shard=(8,), codecs=default_codecs(meta.dtype),
    ...                       dims=None, attrs=meta.attrs, data_type="uint8", fill_value=0)
    >>> made["dimension_names"], made["attributes"], made["codecs"][0]["name"]
    (['x'], {'units': 'm'}, 'sharding_indexed')
    """
    unit = inner_chunk if shard is None else shard
    doc: dict[str, Any] = {
        **(_v3_base(meta) if meta.zarr_format == 3 else _v2_base(meta)),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": _lengths(unit)}},
        "fill_value": fill_value,
        "codecs": list(codecs) if shard is None else [_sharding(inner_chunk, codecs)],
        "attributes": _v2_attrs(meta, attrs) if meta.zarr_format == 2 else dict(attrs),
    }
    if dims is not None:
        doc["dimension_names"] = list(dims)
    elif doc.get("dimension_names", ()) is None:
        # Some writers say so of unnamed dimensions; v3 wants a list, or no such key.
        del doc["dimension_names"]
    return doc


def _v3_base(meta: ArrayMeta) -> dict[str, Any]:
    key: Any = {
        "name": meta.chunk_key.kind,
        "configuration": {"separator": meta.chunk_key.separator},
    }
    kept = {name: value for name, value in meta.doc.items() if name != "consolidated_metadata"}
    return {"zarr_format": 3, "node_type": "array", "chunk_key_encoding": key, **kept}


def _v2_base(meta: ArrayMeta) -> dict[str, Any]:
    separator = meta.chunk_key.separator
    base: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(meta.shape),
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": separator}},
        "storage_transformers": [],
    }
    return base if meta.dims is None else {**base, "dimension_names": list(meta.dims)}


def _v2_attrs(meta: ArrayMeta, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what v2 keeps among the attributes and v3 elsewhere."""
    named = set() if meta.dims is None else {"_ARRAY_DIMENSIONS"}
    # As xarray's engine, which hides the notes of NCZarr in v2 only.
    return {
        key: value
        for key, value in attrs.items()
        if key not in named and not key.lower().startswith("_nc")
    }


def _sharding(inner_chunk: Sequence[int], codecs: Sequence[Codec]) -> Codec:
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    configuration = {
        "chunk_shape": _lengths(inner_chunk),
        "codecs": list(codecs),
        "index_codecs": index,
        "index_location": "end",
    }
    return {"name": "sharding_indexed", "configuration": configuration}


def _lengths(chunk: Sequence[int]) -> list[int]:
    # v2 writers give an axis of length 0 chunks of length 0, which v3 does not allow.
    return [max(int(n), 1) for n in chunk]


def carried_fill(meta: ArrayMeta, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes that make xarray mask a v2 array the same once it is v3.

    xarray takes the fill value of a v2 array for missing data, and comes before its attribute
    ``_FillValue``; of a v3 array, only the attribute counts, in an encoding of its own. Arrays
    without names of dimensions are no CF data, and keep their attributes. So do strings, bytes
    and times, of which xarray does not read a ``_FillValue`` in v3: what the fill value masked
    there is no longer masked.

    Parameters
    ----------
    meta
        The array as it is.
    attrs
        Its attributes.

    Examples
    --------
    >>> import numpy as np
    >>> from hfzarr.model.array import parse_array
    >>> doc = {"shape": [9], "chunks": [4], "dtype": "<i2", "fill_value": -999, "order": "C",
    ...        "compressor": None, "filters": None, "zarr_format": 2}
    >>> meta = parse_array("a", doc, {"_ARRAY_DIMENSIONS": ["x"]}, resolve=None)
    >>> carried_fill(meta, {"units": "K"})
    {'units': 'K', '_FillValue': -999}
    """
    found = dict(attrs)
    if meta.zarr_format == 3 or meta.dims is None or meta.dtype.kind not in _MASKED_KINDS:
        return found
    value = attrs.get("_FillValue") if meta.fill_value is None else meta.fill_value
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        found["_FillValue"] = _encoded_fill(value, meta.dtype.kind)
    return found


def _encoded_fill(value: Any, kind: str) -> Any:
    """Encode a fill value as xarray's zarr engine does in v3."""
    if kind == "b":
        return bool(value)
    if kind in "iu":
        # CF of its own accord takes a fill value out of the integers for none at all.
        return int(value) if math.isfinite(value) else value
    return _encoded_float(float(value))


def _encoded_float(value: float) -> str:
    return base64.standard_b64encode(struct.pack("<d", value)).decode("ascii")
