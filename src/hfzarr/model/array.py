"""The metadata of one array, v2 or v3, as a value."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hfzarr.errors import InvalidMetadataError, UnsupportedError
from hfzarr.model.report import shorten

__all__ = ["V3_FIELDS", "ArrayMeta", "ChunkKey", "Resolver", "parse_array"]

#: Asks zarr-python for the in-memory dtype and fill value of array metadata that is not plain.
Resolver = Callable[[Mapping[str, Any]], tuple[np.dtype[Any], Any]]

# Data types whose names mean the same in Zarr v3 and NumPy
# (Zarr core 3.0, "Data types": bool, int*, uint*, float*, complex*).
_V3_PLAIN = frozenset(
    ["bool", "float16", "float32", "float64", "complex64", "complex128"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
#: The fields of a v3 array document that are no extension (Zarr core 3.0).
V3_FIELDS = frozenset(
    [
        "zarr_format",
        "node_type",
        "shape",
        "data_type",
        "chunk_grid",
        "chunk_key_encoding",
        "fill_value",
        "codecs",
        "attributes",
        "dimension_names",
        "storage_transformers",
    ]
)
# What zarr-python and this package know without looking into the codec registry.
_V3_CODECS = frozenset(
    ["bytes", "transpose", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed"]
)
# NumPy's own limit, of version 2 and of version 1; it has no public name.
_MAX_DIMS = 64 if int(np.__version__.split(".")[0]) > 1 else 32
_NUMERAL = re.compile(r"-?\d{1,20}")
_V2_CODECS = frozenset(["blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkKey:
    """How a chunk's grid index becomes the key of its file.

    Attributes
    ----------
    kind
        ``"default"`` puts ``c`` before the numbers (v3), ``"v2"`` does not.
    separator
        ``"/"`` or ``"."``.
    """

    kind: Literal["default", "v2"] = "default"
    separator: Literal["/", "."] = "/"

    def __call__(self, index: tuple[int, ...]) -> str:
        """Return the key of the chunk at ``index``, relative to the array.

        Examples
        --------
        >>> ChunkKey()((1, 0))
        'c/1/0'
        >>> ChunkKey(kind="v2", separator=".")((1, 0))
        '1.0'
        """
        parts = [str(i) for i in index]
        if self.kind == "default":
            return self.separator.join(["c", *parts])
        return self.separator.join(parts) if parts else "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayMeta:
    """What an array says of itself.

    Attributes
    ----------
    path
        Path of the array in its store, without a leading slash; ``""`` for a root array.
    zarr_format
        2 or 3.
    shape
        Length of each dimension, in pixels.
    dtype
        The dtype that a read returns: zarr-python's, in this machine's byte order.
    inner_chunk
        Shape of what is encoded as one; None for a grid that is not regular.
    shard
        Shape of the file that holds inner chunks; None where a file holds one chunk.
    fill_value
        Value of the chunks that are absent; None where the store names none (they read as zero).
    dims
        Dimension names from the metadata, or None where it has none.
    attrs
        User attributes, those that only name dimensions left out.
    chunk_key
        How chunk files are named.
    doc
        The metadata document itself (``zarr.json`` or ``.zarray``).
    """

    path: str
    zarr_format: Literal[2, 3]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    inner_chunk: tuple[int, ...] | None
    shard: tuple[int, ...] | None
    fill_value: Any
    dims: tuple[str, ...] | None
    attrs: Mapping[str, Any] = field(hash=False)
    chunk_key: ChunkKey
    doc: Mapping[str, Any] = field(hash=False, repr=False)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def dim_names(self) -> tuple[str, ...]:
        """The dimension names, ``dim_0``, ``dim_1`` … where the store gives none."""
        return self.dims or tuple(f"dim_{i}" for i in range(self.ndim))

    @property
    def write_unit(self) -> tuple[int, ...] | None:
        """Shape of one file: the shard, else the inner chunk."""
        return self.shard or self.inner_chunk


def parse_array(
    path: str, doc: Mapping[str, Any], attrs: Mapping[str, Any], *, resolve: Resolver
) -> ArrayMeta:
    """Read the metadata document of an array.

    Parameters
    ----------
    path
        Path of the array in its store.
    doc
        Parsed ``zarr.json`` or ``.zarray``.
    attrs
        User attributes (``attributes`` of a v3 document, the ``.zattrs`` of v2).
    resolve
        Called for data types and codecs beyond the core ones.

    Raises
    ------
    InvalidMetadataError
        A required field is missing or of the wrong kind.
    UnsupportedError
        The array uses something that must not be ignored: a storage transformer, an unknown
        codec, data type or extension, an old draft of v3, the pickle codec.
    """
    try:
        parse = _parse_v3 if doc.get("zarr_format") == 3 else _parse_v2
        return _checked(parse(path, doc, attrs, resolve))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, (InvalidMetadataError, UnsupportedError)):
            raise
        raise InvalidMetadataError(
            f"array {path or '/'!r}: its metadata is incomplete or malformed "
            f"({type(error).__name__}: {error}); found {shorten(dict(doc), 200)}. "
            "Leave it out with drop_variables=, or ask its writer for a valid copy."
        ) from error


def _checked(meta: ArrayMeta) -> ArrayMeta:
    """Return the metadata if its parts fit each other and NumPy can hold it, or raise."""
    if meta.ndim > _MAX_DIMS or meta.size >= 2**63:
        raise UnsupportedError(
            f"array {meta.path or '/'!r} has {meta.ndim} dimensions and "
            f"{_count(meta.size)} elements; NumPy numbers those of at most {_MAX_DIMS} dimensions "
            "and fewer than 2**63 elements. Leave it out with drop_variables=."
        )
    for what, lengths in (("chunks", meta.inner_chunk), ("shards", meta.shard)):
        if lengths is not None and len(lengths) != meta.ndim:
            raise ValueError(f"{what} {lengths} for an array of shape {meta.shape}")
    if meta.shard and meta.inner_chunk:
        for whole, part in zip(meta.shard, meta.inner_chunk, strict=True):
            if part and whole % part:
                raise ValueError(f"shards {meta.shard} are no multiple of {meta.inner_chunk}")
    return meta


def _count(number: int) -> str:
    return f"{number:,}" if number < 2**63 else f"2**{number.bit_length() - 1} or more"


def _parse_v3(
    path: str, doc: Mapping[str, Any], attrs: Mapping[str, Any], resolve: Resolver
) -> ArrayMeta:
    _refuse_v3(path, doc)
    shape = _shape(doc["shape"])
    codecs = doc["codecs"]
    shard, inner = None, _regular_grid(doc["chunk_grid"])
    sharding = codecs[-1] if len(codecs) == 1 else None
    if inner is not None and sharding and sharding.get("name") == "sharding_indexed":
        shard, inner = inner, _shape(sharding["configuration"]["chunk_shape"])
    data_type, fill = doc["data_type"], doc.get("fill_value")
    plain = data_type in _V3_PLAIN if isinstance(data_type, str) else False
    if plain and _core_codecs(codecs):
        dtype = np.dtype(data_type)
        value = _plain_fill(dtype, fill)
        if value is None:
            dtype, value = resolve(doc)
    else:
        dtype, value = resolve(doc)
    chunk_key = _chunk_key(doc.get("chunk_key_encoding"))
    if chunk_key is None:
        # zarr-python may know how these chunks are named; it then does all of the reading.
        (dtype, value), inner, shard, chunk_key = resolve(doc), None, None, ChunkKey()
    dims = doc.get("dimension_names")
    kept = dict(attrs)
    if not dims:
        dims = kept.get("_ARRAY_DIMENSIONS")
    return ArrayMeta(
        path=path,
        zarr_format=3,
        shape=shape,
        dtype=_native(dtype),
        inner_chunk=inner,
        shard=shard,
        fill_value=value,
        dims=_dims(dims, len(shape)),
        attrs=kept,
        chunk_key=chunk_key,
        doc=doc,
    )


def _core_codecs(codecs: Sequence[Any]) -> bool:
    """Whether a chain has core codecs only, those inside of a shard included, and is complete."""
    names = [codec.get("name") if isinstance(codec, Mapping) else codec for codec in codecs]
    serializers = [name for name in names if name in ("bytes", "sharding_indexed")]
    if not _V3_CODECS.issuperset(names) or len(serializers) != 1:
        return False
    inner = [
        chain
        for codec, name in zip(codecs, names, strict=True)
        if name == "sharding_indexed"
        for chain in (codec["configuration"]["codecs"], codec["configuration"]["index_codecs"])
    ]
    return all(_core_codecs(chain) for chain in inner)


def _chunk_key(encoding: Any) -> ChunkKey | None:
    """Return how chunks are named, or None where that is an extension."""
    if isinstance(encoding, str) or encoding is None:
        encoding = {"name": encoding or "default"}
    kind = encoding["name"]
    if kind not in ("default", "v2"):
        return None
    separator = (encoding.get("configuration") or {}).get(
        "separator", "/" if kind == "default" else "."
    )
    return ChunkKey(kind=kind, separator=_separator(separator))


def _separator(value: Any) -> Any:
    if value not in ("/", "."):
        raise ValueError(f"the separator of chunk keys is '/' or '.', not {value!r}")
    return value


def _refuse_v3(path: str, doc: Mapping[str, Any]) -> None:
    """Raise for what Zarr core 3.0 says a reader must understand or fail on."""
    transformers = doc.get("storage_transformers")
    if transformers:
        raise UnsupportedError(
            f"array {path or '/'!r} needs storage transformers {shorten(transformers)}, which "
            "nobody implements: its chunks are not where its metadata says. Ask its writer for a "
            "copy without them, or leave it out with drop_variables=."
        )
    draft = [key for key in ("chunk_memory_layout", "compressor", "extensions") if key in doc]
    if draft or "codecs" not in doc:
        raise UnsupportedError(
            f"array {path or '/'!r} follows an old draft of Zarr v3 "
            f"(found {draft or 'no codecs'}, wanted the fields of Zarr core 3.0). "
            "Rewrite it with a current library, or leave it out with drop_variables=."
        )
    for key in doc.keys() - V3_FIELDS:
        extension = doc[key]
        if key == "consolidated_metadata" or (
            isinstance(extension, Mapping) and extension.get("must_understand") is False
        ):
            continue
        raise UnsupportedError(
            f"array {path or '/'!r} has the extension {key!r} = {shorten(extension)}, which is "
            "not known here and not marked 'must_understand: false' (Zarr core 3.0). "
            "Leave the array out with drop_variables=."
        )


def _parse_v2(
    path: str, doc: Mapping[str, Any], attrs: Mapping[str, Any], resolve: Resolver
) -> ArrayMeta:
    shape, chunks = _shape(doc["shape"]), _shape(doc["chunks"])
    compressor, filters = doc.get("compressor"), doc.get("filters") or []
    codecs = [codec["id"] for codec in [*filters, compressor] if codec]
    if "pickle" in codecs:
        raise UnsupportedError(
            f"array {path or '/'!r} is stored with the 'pickle' codec, which runs code of its "
            "writer when it is read. It is refused; ask for a copy in another encoding."
        )
    typestr = doc["dtype"]
    plain = isinstance(typestr, str) and np.dtype(typestr).kind in "biufc"
    if plain and not filters and _V2_CODECS.issuperset(codecs):
        dtype = np.dtype(typestr)
        fill = doc.get("fill_value")
        value = _plain_fill(dtype, fill)
        if value is None and fill is not None:
            dtype, value = resolve(doc)
    else:
        dtype, value = resolve(doc)
    dims, kept = attrs.get("_ARRAY_DIMENSIONS"), dict(attrs)
    nczarr = doc.get("_NCZARR_ARRAY") or doc.get("_nczarr_array")
    if dims is None and nczarr:
        # NCZarr names dimensions by their path in the file (netCDF-C, NCZarr appendix).
        dims = [posixpath.basename(ref) for ref in nczarr["dimrefs"]]
    return ArrayMeta(
        path=path,
        zarr_format=2,
        shape=shape,
        dtype=_native(dtype),
        inner_chunk=chunks,
        shard=None,
        fill_value=value,
        dims=_dims(dims, len(shape)),
        attrs=kept,
        chunk_key=ChunkKey(kind="v2", separator=_separator(doc.get("dimension_separator") or ".")),
        doc=doc,
    )


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # What is computed with these arrays, torch first of all, takes no foreign byte order.
    return dtype if dtype.kind in "OT" else dtype.newbyteorder("=")


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, (int, np.integer)):
        value = [value]
    shape = tuple(int(n) for n in value)
    if any(not 0 <= n < 2**63 for n in shape):
        raise ValueError(f"a length out of bounds in {shape}")
    return shape


def _regular_grid(grid: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the chunk shape, or None for a grid that only zarr-python may know."""
    if grid.get("name") != "regular":
        return None
    return _shape(grid["configuration"]["chunk_shape"])


def _dims(names: Any, ndim: int) -> tuple[str, ...] | None:
    if not isinstance(names, (list, tuple)) or len(names) != ndim:
        return None
    return tuple(f"dim_{i}" if name is None else str(name) for i, name in enumerate(names))


def _plain_fill(dtype: np.dtype[Any], fill: Any) -> Any:
    """Return the fill value as a scalar of ``dtype``, or None where it is not plain."""
    kind = dtype.kind
    if kind == "f" and fill in ("NaN", "Infinity", "-Infinity"):
        return dtype.type(fill)
    if kind == "b" and isinstance(fill, (bool, int)):
        return np.bool_(fill)
    if kind in "iuf" and isinstance(fill, str) and _NUMERAL.fullmatch(fill):
        # Java writers of v2 have spelled numbers as text.
        fill = float(fill) if kind == "f" else int(fill)
    number = isinstance(fill, (int, float)) and not isinstance(fill, bool)
    if kind == "f" and number:
        return dtype.type(fill)
    if kind in "iu" and number and float(fill).is_integer():
        info = np.iinfo(dtype)
        if info.min <= int(fill) <= info.max:
            return dtype.type(int(fill))
    return None
