"""The chain of codecs that the fast route can decode."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from hfzarr.model.array import ArrayMeta

__all__ = [
    "ByteCodec",
    "CodecChain",
    "ShardIndex",
    "fast_chain",
    "outer_codecs",
    "shard_index",
    "without_outer",
]

#: A step from bytes to bytes. Decoding needs its name only, never its configuration.
ByteCodec = Literal["blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma", "crc32c"]

_V2_COMPRESSORS = frozenset(["blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma"])
_V3_BYTE_CODECS = frozenset(["blosc", "zstd", "gzip", "crc32c"])
# Kinds of NumPy dtypes that are laid out in memory as they are in a chunk.
_PLAIN_KINDS = frozenset("biufcSUVMm")
_V3_NUMBERS = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)")
_V3_RAW = re.compile(r"r\d+")
_V3_EXTENSIONS = {
    "null_terminated_bytes": "S",
    "fixed_length_utf32": "U",
    "raw_bytes": "V",
    "numpy.datetime64": "M",
    "numpy.timedelta64": "m",
}
_CRC_SIZE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """Where in a shard its index lies, and how it is encoded.

    Attributes
    ----------
    location
        ``"start"`` or ``"end"`` of the shard.
    dtype
        ``uint64`` in the byte order of the index.
    checksum
        Whether four bytes of crc32c follow.
    per_shard
        Number of inner chunks in a shard along each axis.
    """

    location: Literal["start", "end"]
    dtype: np.dtype[np.uint64]
    checksum: bool
    per_shard: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the encoded index."""
        return 16 * math.prod(self.per_shard) + _CRC_SIZE * self.checksum

    @property
    def byte_range(self) -> tuple[int, int | None]:
        """The part of the shard that holds the index, as a byte range of a source.

        Examples
        --------
        >>> import numpy as np
        >>> ShardIndex(location="end", dtype=np.dtype("<u8"), checksum=True,
        ...            per_shard=(2, 2)).byte_range
        (-68, None)
        """
        return (0, self.nbytes) if self.location == "start" else (-self.nbytes, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecChain:
    """How the bytes of one encoded chunk become an array.

    Attributes
    ----------
    inner_chunk
        Shape of the chunk, as the array sees it.
    dtype
        Data type of the bytes, in their byte order.
    order
        The axes of the array in the order in which they are stored, the slowest first.
    byte_codecs
        Steps from bytes to bytes, in the order of encoding.
    sharding
        The index of the shard around the chunks; None where a file holds one chunk.
    """

    inner_chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]
    byte_codecs: tuple[ByteCodec, ...]
    sharding: ShardIndex | None

    @property
    def nbytes(self) -> int:
        """Size of a decoded chunk."""
        return math.prod(self.inner_chunk) * self.dtype.itemsize

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the chunk with its axes in the order in which they are stored."""
        return tuple(self.inner_chunk[axis] for axis in self.order)

    @property
    def axes(self) -> tuple[int, ...]:
        """The permutation that brings a stored chunk back to the array's order of axes."""
        return tuple(self.order.index(axis) for axis in range(len(self.order)))

    @property
    def decoded_sizes(self) -> tuple[int | None, ...]:
        """What each of `byte_codecs` must decode to, in bytes; None where nothing tells."""
        sizes: list[int | None] = [self.nbytes]
        for name in self.byte_codecs[:-1]:
            known = sizes[-1] if name == "crc32c" else None
            sizes.append(None if known is None else known + _CRC_SIZE)
        return tuple(sizes[: len(self.byte_codecs)])


def fast_chain(meta: ArrayMeta) -> CodecChain | None:
    """Return the chain of codecs of an array, or None where only zarr-python may know it.

    Parameters
    ----------
    meta
        The array's metadata.

    Examples
    --------
    >>> import numpy as np
    >>> from hfzarr.model.array import parse_array
    >>> doc = {"shape": [9], "chunks": [4], "dtype": "<u2", "fill_value": 0, "order": "C",
    ...        "compressor": {"id": "zstd", "level": 1}, "filters": None, "zarr_format": 2}
    >>> chain = fast_chain(parse_array("a", doc, {}, resolve=None))
    >>> chain.byte_codecs, chain.nbytes
    (('zstd',), 8)
    >>> fast_chain(parse_array("a", doc | {"compressor": {"id": "zfpy"}}, {},
    ...                        resolve=lambda doc: (np.dtype("<u2"), 0))) is None
    True
    """
    if not _is_plain(meta):
        return None
    try:
        return _v3_chain(meta) if meta.zarr_format == 3 else _v2_chain(meta)
    except (KeyError, TypeError, ValueError, AttributeError):
        # Malformed metadata: zarr-python reads what it can, and says what it cannot.
        return None


def outer_codecs(meta: ArrayMeta) -> tuple[ByteCodec, ...]:
    """Return the known codecs at the end of a chain that has unknown ones, in their order.

    Examples
    --------
    >>> import numpy as np
    >>> from hfzarr.model.array import parse_array
    >>> doc = {"shape": [9], "chunks": [4], "dtype": "<u2", "fill_value": 0, "order": "C",
    ...        "compressor": {"id": "zlib"}, "filters": [{"id": "delta"}], "zarr_format": 2}
    >>> meta = parse_array("a", doc, {}, resolve=lambda doc: (np.dtype("<u2"), 0))
    >>> outer_codecs(meta), without_outer(meta, 1).doc["compressor"]
    (('zlib',), None)
    """
    try:
        if meta.zarr_format == 2:
            compressor: Mapping[str, Any] = meta.doc.get("compressor") or {}
            return (compressor["id"],) if compressor and _is_known_v2(compressor) else ()
        names = [_named(codec)[0] for codec in meta.doc["codecs"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()
    known_ones = itertools.takewhile(_V3_BYTE_CODECS.__contains__, reversed(names))
    return cast(tuple[ByteCodec, ...], tuple(known_ones)[::-1])


def without_outer(meta: ArrayMeta, count: int) -> ArrayMeta:
    """Return the metadata of an array whose last ``count`` codecs somebody else undoes."""
    if meta.zarr_format == 2:
        return replace(meta, doc={**meta.doc, "compressor": None})
    return replace(meta, doc={**meta.doc, "codecs": list(meta.doc["codecs"])[:-count]})


def shard_index(meta: ArrayMeta) -> ShardIndex | None:
    """Return where the index of an array's shards lies; None where there is none, or no plain one.

    It can be known where the codecs of the chunks inside are not.
    """
    if meta.shard is None or meta.inner_chunk is None:
        return None
    try:
        [(_, config)] = [_named(codec) for codec in meta.doc["codecs"]]
        return _shard_index(config, meta.shard, meta.inner_chunk)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _is_plain(meta: ArrayMeta) -> bool:
    dtype, chunk = meta.dtype, meta.inner_chunk
    return (
        dtype.kind in _PLAIN_KINDS
        # Extension dtypes such as bfloat16 call themselves "V" or "f" too.
        and dtype.isbuiltin in (0, 1)
        and dtype.type.__module__ == "numpy"
        and dtype.fields is None
        and dtype.subdtype is None
        and dtype.itemsize > 0
        and chunk is not None
        and len(chunk) == meta.ndim
        and min(chunk, default=1) > 0
    )


def _v2_chain(meta: ArrayMeta) -> CodecChain | None:
    doc, chunk = meta.doc, meta.inner_chunk
    typestr, order = doc["dtype"], doc.get("order", "C")
    if chunk is None or doc.get("filters") or not isinstance(typestr, str):
        return None
    dtype = np.dtype(typestr)
    if dtype.newbyteorder("=") != meta.dtype.newbyteorder("=") or order not in ("C", "F"):
        return None
    compressor = doc.get("compressor")
    if compressor is not None and not _is_known_v2(compressor):
        return None
    axes = tuple(range(meta.ndim))
    return CodecChain(
        inner_chunk=chunk,
        dtype=dtype,
        order=axes if order == "C" else axes[::-1],
        byte_codecs=() if compressor is None else (compressor["id"],),
        sharding=None,
    )


def _is_known_v2(compressor: Mapping[str, Any]) -> bool:
    name = compressor["id"]
    if name == "lzma" and (compressor.get("format", 1) != 1 or compressor.get("filters")):
        # Raw LZMA streams can be decoded with their configuration only.
        return False
    return name in _V2_COMPRESSORS


def _v3_chain(meta: ArrayMeta) -> CodecChain | None:
    codecs = [_named(codec) for codec in meta.doc["codecs"]]
    if meta.inner_chunk is None or not _is_v3_dtype(meta):
        return None
    if meta.shard is None:
        return _inner_chain(meta, meta.inner_chunk, codecs, sharding=None)
    [(name, config)] = codecs
    sharding = _shard_index(config, meta.shard, meta.inner_chunk)
    if name != "sharding_indexed" or sharding is None:
        return None
    inner = [_named(codec) for codec in config["codecs"]]
    return _inner_chain(meta, meta.inner_chunk, inner, sharding=sharding)


def _named(codec: Any) -> tuple[str, Mapping[str, Any]]:
    """Split a codec into its name and configuration."""
    if isinstance(codec, str):
        return codec, {}
    if codec.keys() - {"name", "configuration"}:
        raise ValueError(f"codec with unknown fields {sorted(codec)}")
    return codec["name"], codec.get("configuration") or {}


def _is_v3_dtype(meta: ArrayMeta) -> bool:
    data_type = meta.doc["data_type"]
    name = data_type if isinstance(data_type, str) else data_type["name"]
    if _V3_NUMBERS.fullmatch(name):
        return np.dtype(name) == meta.dtype.newbyteorder("=")
    kind = "V" if _V3_RAW.fullmatch(name) else _V3_EXTENSIONS.get(name)
    return kind == meta.dtype.kind


def _inner_chain(
    meta: ArrayMeta,
    chunk: tuple[int, ...],
    codecs: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    sharding: ShardIndex | None,
) -> CodecChain | None:
    """Read ``transpose* bytes (blosc | zstd | gzip | crc32c)*``."""
    order: tuple[int, ...] = tuple(range(meta.ndim))
    names = [name for name, _ in codecs]
    start = names.index("bytes")
    for name, config in codecs[:start]:
        step = tuple(config["order"]) if name == "transpose" else ()
        if sorted(step) != list(range(meta.ndim)):
            return None
        order = tuple(order[axis] for axis in step)
    dtype = _stored_dtype(meta.dtype, codecs[start][1])
    if dtype is None or not _V3_BYTE_CODECS.issuperset(names[start + 1 :]):
        return None
    return CodecChain(
        inner_chunk=chunk,
        dtype=dtype,
        order=order,
        byte_codecs=cast(tuple[ByteCodec, ...], tuple(names[start + 1 :])),
        sharding=sharding,
    )


def _stored_dtype(dtype: np.dtype[Any], config: Mapping[str, Any]) -> np.dtype[Any] | None:
    """Return ``dtype`` in the byte order that a ``bytes`` codec names."""
    endian = config.get("endian")
    if endian not in (None, "little", "big"):
        return None
    if dtype.kind in "SVb" or dtype.itemsize == 1:
        return dtype
    # "endian: Required for data types for which endianness is applicable"
    # (bytes codec 1.0, "Configuration parameters"); without it nobody can tell.
    return None if endian is None else dtype.newbyteorder("<" if endian == "little" else ">")


def _shard_index(
    config: Mapping[str, Any], shard: tuple[int, ...], inner: tuple[int, ...]
) -> ShardIndex | None:
    codecs = [_named(codec) for codec in config["index_codecs"]]
    location = config.get("index_location", "end")
    names = [name for name, _ in codecs]
    if names not in (["bytes"], ["bytes", "crc32c"]) or location not in ("start", "end"):
        return None
    if len(shard) != len(inner) or any(s % i or s == 0 for s, i in zip(shard, inner, strict=True)):
        return None
    dtype = _stored_dtype(np.dtype(np.uint64), codecs[0][1])
    if dtype is None:
        return None
    return ShardIndex(
        location=location,
        dtype=dtype,
        checksum="crc32c" in names,
        per_shard=tuple(s // i for s, i in zip(shard, inner, strict=True)),
    )
