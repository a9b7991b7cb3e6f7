"""The codecs that chunks are to be written with, as a Zarr v3 document names them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hfzarr.errors import TargetError
from hfzarr.model.report import shorten

__all__ = [
    "Codec",
    "CodecsLike",
    "byte_codec",
    "byte_orders",
    "bytes_codec",
    "chosen_codecs",
    "default_codecs",
    "serializer",
]

#: A codec of a v3 document: ``{"name": …, "configuration": …}``.
Codec = Mapping[str, Any]
#: A codec by name, as JSON, as an object of zarr-python or numcodecs, or a sequence of such.
CodecsLike = Any

# The step of a chain that each codec is: arrays to arrays, an array to bytes, bytes to bytes.
_ARRAY_STEPS = frozenset(
    ["transpose"]
    + [f"numcodecs.{n}" for n in ("astype", "bitround", "delta", "fixedscaleoffset", "quantize")]
)
_TEXT_STEPS = frozenset(["vlen-utf8", "vlen-bytes"])
_SERIALIZERS = frozenset(["bytes", "numcodecs.pcodec", "numcodecs.zfpy"]) | _TEXT_STEPS
_BYTE_STEPS = frozenset(
    ["blosc", "crc32c", "gzip", "zstd"]
    + [f"numcodecs.{n}" for n in ("blosc", "bz2", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd")]
    + [f"numcodecs.{n}" for n in ("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3")]
)
_BLOSC_NAMES = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
# numcodecs numbers them; its -1 leaves the choice to the size of the items.
_SHUFFLES = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}
_LARGEST_TYPE = 255  # Blosc takes larger items for single bytes


def chosen_codecs(
    codecs: CodecsLike, dtype: np.dtype[Any], *, data_type: Any = None
) -> tuple[Codec, ...]:
    """Return the chain of codecs that a user asks for.

    Parameters
    ----------
    codecs
        ``"zstd"``, ``"zstd:5"``, ``"gzip:6"``, ``"blosc"``, ``"blosc:lz4"``, ``"blosc:zstd:5"``,
        ``"crc32c"`` or ``"none"``; a codec as a v3 document has it; a codec of zarr-python; a
        Blosc, Zstd or GZip of numcodecs; or a sequence of these. A sequence with a serializer of
        its own (``bytes``, ``vlen-utf8`` …) is the whole chain; before others, the data type's
        is put, little-endian.
    dtype
        Data type of the array.
    data_type
        The ``data_type`` of its v3 document, which alone tells strings from bytes where both
        are objects.

    Raises
    ------
    TargetError
        It is no codec, or not one that can be written like this.

    Examples
    --------
    >>> import numpy as np
    >>> for codec in chosen_codecs("blosc:lz4", np.dtype("uint16")):
    ...     print(codec)
    {'name': 'bytes', 'configuration': {'endian': 'little'}}
    {'name': 'blosc', 'configuration': {'typesize': 2, 'cname': 'lz4', 'clevel': 5,
     'shuffle': 'shuffle', 'blocksize': 0}}
    >>> chosen_codecs("none", np.dtype("uint8"))
    ({'name': 'bytes'},)
    >>> chosen_codecs("zstd:40", np.dtype("uint8"))
    Traceback (most recent call last):
        ...
    hfzarr.errors.TargetError: codec 'zstd': wanted a level from -131072 to 22, got 40.
    """
    several = isinstance(codecs, Sequence) and not isinstance(codecs, (str, bytes))
    chain: list[Codec] = []
    for item in codecs if several else [codecs]:
        chain.extend(_as_codecs(item, dtype))
    first = serializer(dtype, data_type=data_type)
    if not any(codec["name"] in _SERIALIZERS for codec in chain):
        _refuse_unknown(chain)
        place = sum(codec["name"] in _ARRAY_STEPS for codec in chain)
        chain.insert(place, first)
    _check_order(chain, first)
    return tuple(first if codec == {"name": "bytes"} else codec for codec in chain)


def default_codecs(dtype: np.dtype[Any], *, data_type: Any = None) -> tuple[Codec, ...]:
    """Return the codecs of arrays whose own cannot be kept: the serializer and Zstd, level 3.

    Examples
    --------
    >>> import numpy as np
    >>> default_codecs(np.dtype("int8"))
    ({'name': 'bytes'}, {'name': 'zstd', 'configuration': {'level': 3, 'checksum': False}})
    """
    return chosen_codecs("zstd:3", dtype, data_type=data_type)


def serializer(dtype: np.dtype[Any], *, data_type: Any = None) -> Codec:
    """Return the codec that makes bytes of arrays of a data type.

    Parameters
    ----------
    dtype
        Data type of the array.
    data_type
        The ``data_type`` of its v3 document; needed for objects only.
    """
    name = data_type.get("name") if isinstance(data_type, Mapping) else data_type
    if dtype.kind == "T" or name == "string":
        return {"name": "vlen-utf8"}
    if dtype.kind != "O":
        return bytes_codec(dtype, "little")
    if name in ("variable_length_bytes", "bytes"):
        return {"name": "vlen-bytes"}
    raise TargetError(
        f"objects of the data type {shorten(data_type)} can't be written; wanted 'string' or "
        "'variable_length_bytes'. Leave the array out, or write it in another data type."
    )


def bytes_codec(dtype: np.dtype[Any], endian: str) -> Codec:
    """Return the ``bytes`` codec, with a byte order where the data type has one.

    Examples
    --------
    >>> import numpy as np
    >>> bytes_codec(np.dtype("S3"), "big"), bytes_codec(np.dtype("M8[s]"), "big")
    ({'name': 'bytes'}, {'name': 'bytes', 'configuration': {'endian': 'big'}})
    """
    # zarr-python asks for the order of records even where no field has one.
    if not byte_orders(dtype) and dtype.fields is None:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": endian}}


def byte_orders(dtype: np.dtype[Any]) -> frozenset[str]:
    """Return the byte orders of the numbers in a data type, ``"little"`` and ``"big"``.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(byte_orders(np.dtype([("a", ">i4"), ("b", "<f8"), ("c", "S3")])))
    ['big', 'little']
    """
    if dtype.fields is not None:
        inside = (byte_orders(field[0]) for field in dtype.fields.values())
        return frozenset(order for orders in inside for order in orders)
    # Extensions of NumPy such as bfloat16 may be of kind "V" too.
    without = dtype.kind in "SVbO" and dtype.type.__module__ == "numpy"
    if without or dtype.itemsize <= 1:
        return frozenset()
    return frozenset([{"<": "little", ">": "big"}.get(dtype.byteorder, sys.byteorder)])


def byte_codec(name: str, config: Mapping[str, Any], itemsize: int) -> Codec:
    """Return ``zstd``, ``gzip`` or ``blosc`` with every field of its v3 configuration.

    Parameters
    ----------
    name
        Its name, the same in Zarr v2 and v3.
    config
        What is said of it, in v2 or v3.
    itemsize
        Size of the items that it is to compress, in bytes.

    Raises
    ------
    TargetError
        A value is out of its range, or of another kind.
    """
    known = {"zstd": _ZSTD, "gzip": _GZIP, "blosc": _BLOSC}[name]
    if unknown := config.keys() - known:
        raise TargetError(f"codec {name!r}: it has no {sorted(unknown)}, only {sorted(known)}.")
    if name == "gzip":
        return _named(name, level=_number(name, config, "level", 6, 0, 9))
    if name == "blosc":
        return _blosc(config, itemsize)
    checksum = config.get("checksum", False)
    if not isinstance(checksum, bool):
        raise TargetError(f"codec 'zstd': wanted checksum True or False, got {checksum!r}.")
    level = _number(name, config, "level", 3, -131072, 22)
    return _named(name, level=level, checksum=checksum)


_ZSTD = frozenset(["level", "checksum"])
_GZIP = frozenset(["level"])
_BLOSC = frozenset(["cname", "clevel", "shuffle", "typesize", "blocksize"])


def _blosc(config: Mapping[str, Any], itemsize: int) -> Codec:
    cname, shuffle = config.get("cname", "zstd"), config.get("shuffle")
    if cname not in _BLOSC_NAMES:
        raise TargetError(f"codec 'blosc': wanted a cname of {_BLOSC_NAMES}, got {cname!r}.")
    if shuffle is None or shuffle == -1:
        shuffle = "bitshuffle" if itemsize == 1 else "shuffle"
    if isinstance(shuffle, int):
        shuffle = _SHUFFLES.get(shuffle, shuffle)
    if shuffle not in _SHUFFLES.values():
        wanted = tuple(_SHUFFLES.values())
        raise TargetError(f"codec 'blosc': wanted a shuffle of {wanted}, got {shuffle!r}.")
    given = config if config.get("typesize") is not None else {}
    typesize = _number("blosc", given, "typesize", max(itemsize, 1), 1, 2**31 - 1)
    return _named(
        "blosc",
        typesize=typesize if typesize <= _LARGEST_TYPE else 1,
        cname=cname,
        clevel=_number("blosc", config, "clevel", 5, 0, 9),
        shuffle=shuffle,
        blocksize=_number("blosc", config, "blocksize", 0, 0, 2**31 - 1),
    )


def _named(name: str, **configuration: Any) -> Codec:
    return {"name": name, "configuration": configuration}


def _number(
    name: str, config: Mapping[str, Any], key: str, default: int, least: int, most: int
) -> int:
    value = config.get(key, default)
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        raise TargetError(f"codec {name!r}: wanted a {key} from {least} to {most}, got {value!r}.")
    return int(value)


def _as_codecs(item: Any, dtype: np.dtype[Any]) -> list[Codec]:
    """Return one entry of what a user passed as codecs of a v3 document; none for "none"."""
    if isinstance(item, str):
        return [] if item == "none" else [_from_text(item, dtype)]
    if type(item).__name__ == "BloscCodec":
        item = {"name": "blosc", "configuration": _settings(item)}
    elif hasattr(item, "to_dict"):
        item = item.to_dict()
    elif hasattr(item, "get_config"):
        item = item.get_config()
    if not isinstance(item, Mapping) or not isinstance(item.get("name", item.get("id")), str):
        raise TargetError(
            f"{shorten(item)} is no codec. Wanted a name such as 'zstd:5', a codec as a Zarr v3 "
            "document has it, or one of zarr-python or numcodecs."
        )
    return [_from_v3(item, dtype) if "name" in item else _from_numcodecs(item, dtype)]


def _settings(codec: Any) -> dict[str, Any]:
    """Return the fields of zarr-python's Blosc; some are not set before it sees an array."""
    unset = getattr(codec, "_tunable_attrs", ())
    found = {key: getattr(codec, key) for key in _BLOSC if key not in unset}
    # zarr-python made enumerations of these names until 3.3.
    plain = {key: getattr(value, "value", value) for key, value in found.items()}
    return {key: value for key, value in plain.items() if value is not None}


def _from_text(text: str, dtype: np.dtype[Any]) -> Codec:
    name, *rest = text.split(":")
    keys = {"zstd": ["level"], "gzip": ["level"], "blosc": ["cname", "clevel"]}.get(name, [])
    if len(rest) > len(keys):
        raise TargetError(
            f"codec {text!r}: {name!r} takes {len(keys)} parameters by name, got {len(rest)}. "
            "Wanted 'zstd:LEVEL', 'gzip:LEVEL', 'blosc:CNAME:LEVEL' or 'none'; "
            "pass other parameters as {'name': …, 'configuration': …}."
        )
    config = {
        key: _integer(text, value) if key.endswith("level") else value
        for key, value in zip(keys, rest, strict=False)
    }
    return _from_v3({"name": name, "configuration": config}, dtype)


def _integer(text: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise TargetError(
            f"codec {text!r}: wanted a whole number as its level, got {value!r}."
        ) from None


def _from_numcodecs(item: Mapping[str, Any], dtype: np.dtype[Any]) -> Codec:
    name, config = item["id"], {key: value for key, value in item.items() if key != "id"}
    if name not in ("zstd", "gzip", "blosc"):
        raise TargetError(
            f"the numcodecs codec {name!r} has no Zarr v3 codec of the same bytes. Wanted blosc, "
            "zstd or gzip; zarr-python has others under names such as 'numcodecs.bz2'."
        )
    return byte_codec(name, config, _itemsize(dtype))


def _from_v3(item: Mapping[str, Any], dtype: np.dtype[Any]) -> Codec:
    name, config = item["name"], item.get("configuration") or {}
    if (unknown := item.keys() - {"name", "configuration"}) or not isinstance(config, Mapping):
        raise TargetError(
            f"codec {shorten(dict(item))}: wanted a 'name' and a 'configuration' of fields, got "
            f"{sorted(map(str, unknown)) or shorten(config)}."
        )
    if name == "sharding_indexed":
        raise TargetError("wanted the codecs of inner chunks, got shards; pass those as shard=.")
    if name in ("zstd", "gzip", "blosc"):
        return byte_codec(name, config, _itemsize(dtype))
    # zarr-python wants those of numcodecs to have a configuration, be it empty.
    if not config and not name.startswith("numcodecs."):
        return {"name": name}
    try:
        # With lists for the tuples of zarr-python, as in a document that is read again.
        return {"name": name, "configuration": json.loads(json.dumps(dict(config)))}
    except (TypeError, ValueError) as error:
        raise TargetError(
            f"codec {name!r}: wanted a configuration of what JSON has, got {shorten(dict(config))} "
            f"({error})."
        ) from error


def _itemsize(dtype: np.dtype[Any]) -> int:
    # Objects become bytes of any length.
    return 1 if dtype.kind in "OT" else dtype.itemsize


def _refuse_unknown(chain: Iterable[Codec]) -> None:
    known = _ARRAY_STEPS | _BYTE_STEPS
    if unknown := [codec["name"] for codec in chain if codec["name"] not in known]:
        raise TargetError(
            f"codecs {unknown} are not known here. Wanted some of {sorted(_BYTE_STEPS)}, or the "
            "whole chain with its serializer ('bytes', 'vlen-utf8' …) in it."
        )


def _check_order(chain: Sequence[Codec], first: Codec) -> None:
    """Raise unless a chain is arrays' codecs, one serializer that fits the data type, bytes'."""
    names = [codec["name"] for codec in chain]
    step = {**dict.fromkeys(_ARRAY_STEPS, 0), **dict.fromkeys(_SERIALIZERS, 1)}
    steps = [step.get(name, 2) for name in names if name in step.keys() | _BYTE_STEPS]
    if steps != sorted(steps) or steps.count(1) != 1:
        raise TargetError(
            f"codecs {names}: wanted those of arrays ('transpose'), then one serializer "
            f"({first['name']!r}), then those of bytes ('zstd')."
        )
    [chosen] = [name for name in names if name in _SERIALIZERS]
    if (chosen in _TEXT_STEPS or first["name"] in _TEXT_STEPS) and chosen != first["name"]:
        raise TargetError(
            f"codecs {names}: wanted {first['name']!r} for this data type, got {chosen!r}."
        )
