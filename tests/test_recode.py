"""Codecs that a user asks for become those of a v3 document, which zarr-python takes."""

from __future__ import annotations

import warnings
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import MemoryStore

from hfzarr import TargetError
from hfzarr.model.recode import byte_orders, chosen_codecs, default_codecs, serializer

U1, U2, F8 = np.dtype("u1"), np.dtype("u2"), np.dtype("f8")
BYTES = {"name": "bytes"}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
TEXT = {"name": "vlen-utf8"}


def zstd(level: int = 3, checksum: bool = False) -> dict[str, Any]:
    return {"name": "zstd", "configuration": {"level": level, "checksum": checksum}}


def gzip(level: int = 6) -> dict[str, Any]:
    return {"name": "gzip", "configuration": {"level": level}}


def blosc(cname: str = "zstd", clevel: int = 5, shuffle: str = "shuffle", typesize: int = 2,
          blocksize: int = 0) -> dict[str, Any]:  # fmt: skip
    return {
        "name": "blosc",
        "configuration": {
            "typesize": typesize,
            "cname": cname,
            "clevel": clevel,
            "shuffle": shuffle,
            "blocksize": blocksize,
        },
    }


TRANSPOSE = {"name": "transpose", "configuration": {"order": [1, 0]}}
CRC = {"name": "crc32c"}


def document(codecs: tuple[Any, ...], data_type: Any) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4, 4],
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "" if data_type == "string" else 0,
        "codecs": list(codecs),
        "attributes": {},
    }


@pytest.mark.parametrize(
    ("said", "dtype", "wanted"),
    [
        ("none", U2, [LITTLE]),
        ((), U1, [BYTES]),
        ("zstd", U2, [LITTLE, zstd()]),
        ("zstd:-5", F8, [LITTLE, zstd(-5)]),
        ("zstd:22", U1, [BYTES, zstd(22)]),
        ("gzip", U2, [LITTLE, gzip()]),
        ("gzip:0", U2, [LITTLE, gzip(0)]),
        ("crc32c", U2, [LITTLE, CRC]),
        ("blosc", U2, [LITTLE, blosc()]),
        ("blosc", U1, [BYTES, blosc(shuffle="bitshuffle", typesize=1)]),
        ("blosc:lz4", U2, [LITTLE, blosc("lz4")]),
        ("blosc:zstd:9", U2, [LITTLE, blosc(clevel=9)]),
        ("blosc", np.dtype("V300"), [BYTES, blosc(typesize=1)]),
        (["zstd:1", "crc32c"], U2, [LITTLE, zstd(1), CRC]),
        (TRANSPOSE, U2, [TRANSPOSE, LITTLE]),
        ([TRANSPOSE, "gzip:1"], U2, [TRANSPOSE, LITTLE, gzip(1)]),
        ([BIG, "zstd"], U2, [BIG, zstd()]),
        ([BYTES, "zstd"], U2, [LITTLE, zstd()]),
        ({"name": "zstd"}, U2, [LITTLE, zstd()]),
        ({"name": "blosc", "configuration": {"cname": "lz4"}}, U2, [LITTLE, blosc("lz4")]),
        (ZstdCodec(level=7, checksum=True), U2, [LITTLE, zstd(7, True)]),
        (GzipCodec(level=2), U2, [LITTLE, gzip(2)]),
        pytest.param(BloscCodec(cname="lz4hc"), U2, [LITTLE, blosc("lz4hc")], id="Blosc, lz4hc"),
        pytest.param(BloscCodec(shuffle="noshuffle"), U2, [LITTLE, blosc(shuffle="noshuffle")],
              id="Blosc, not shuffled"),
        pytest.param(BloscCodec(typesize=8), U2, [LITTLE, blosc(typesize=8)], id="Blosc, typesize"),
        ([TransposeCodec(order=(1, 0)), BytesCodec(endian="big"), ZstdCodec(level=3),
          Crc32cCodec()], U2, [TRANSPOSE, BIG, zstd(), CRC]),
        (numcodecs.Zstd(4), U2, [LITTLE, zstd(4)]),
        (numcodecs.GZip(4), U2, [LITTLE, gzip(4)]),
        (numcodecs.Blosc("lz4", 3, shuffle=-1), U1, [BYTES, blosc("lz4", 3, "bitshuffle", 1)]),
        ({"id": "zstd", "level": 4}, U2, [LITTLE, zstd(4)]),
    ],
    ids=str,
)  # fmt: skip
def test_chosen(said, dtype, wanted):
    codecs = chosen_codecs(said, dtype)
    assert list(codecs) == wanted
    if dtype.kind != "V":
        assert ArrayV3Metadata.from_dict(document(codecs, dtype.name)).codecs


def test_strings_have_a_serializer_of_their_own():
    objects = np.dtype(object)
    assert chosen_codecs("zstd", objects, data_type="string") == (TEXT, zstd())
    assert chosen_codecs([TEXT, "gzip"], objects, data_type="string") == (TEXT, gzip())
    assert serializer(objects, data_type="variable_length_bytes") == {"name": "vlen-bytes"}
    [_, made] = chosen_codecs("blosc", objects, data_type="string")
    assert made["configuration"]["typesize"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ArrayV3Metadata.from_dict(document(default_codecs(objects, data_type="string"), "string"))
    if hasattr(np.dtypes, "StringDType"):
        assert chosen_codecs("none", np.dtypes.StringDType()) == (TEXT,)
    with pytest.raises(TargetError, match="objects of the data type"):
        default_codecs(objects)


def test_records_have_an_order_of_bytes():
    """Without it, zarr-python 3.4 warns; 3.1 takes it all the same."""
    assert default_codecs(np.dtype([("a", "u1"), ("b", "S3")]))[0] == LITTLE
    assert byte_orders(np.dtype([("a", [("b", ">f4")]), ("c", "S3")])) == {"big"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("zstd:23", "level from -131072 to 22, got 23"),
        ("zstd:-131073", "level from -131072 to 22"),
        ("gzip:10", "level from 0 to 9, got 10"),
        ("gzip:-1", "level from 0 to 9, got -1"),
        ("blosc:lz4:10", "clevel from 0 to 9, got 10"),
        ("blosc:snap", "wanted a cname of"),
        ("blosc:lz4:5:6", "takes 2 parameters by name, got 3"),
        ("none:1", "takes 0 parameters"),
        ("zstd:", "a whole number as its level, got ''"),
        ("zstd:fast", "a whole number as its level, got 'fast'"),
        ("lzip", r"codecs \['lzip'\] are not known here"),
        ("", r"codecs \[''\] are not known here"),
        (None, "None is no codec"),
        (5, "5 is no codec"),
        ([["zstd"]], "is no codec"),
        ({"name": "transpose", "configuration": {"order": {0, 1}}}, "wanted .* what JSON has"),
        ({}, "is no codec"),
        ({"name": 3}, "is no codec"),
        ({"name": "zstd", "level": 3}, "wanted a 'name' and a 'configuration'"),
        ({"name": "zstd", "configuration": 3}, "wanted a 'name' and a 'configuration'"),
        ({"name": "zstd", "configuration": {"lvl": 3}}, r"has no \['lvl'\], only"),
        ({"name": "zstd", "configuration": {"level": True}}, "got True"),
        ({"name": "zstd", "configuration": {"level": "3"}}, "got '3'"),
        ({"name": "zstd", "configuration": {"checksum": 1}}, "wanted checksum True or False"),
        ({"name": "blosc", "configuration": {"shuffle": []}}, "wanted a shuffle of"),
        ({"name": "blosc", "configuration": {"shuffle": 3}}, "wanted a shuffle of"),
        ({"name": "blosc", "configuration": {"typesize": 0}}, "wanted a typesize from 1"),
        ({"name": "blosc", "configuration": {"blocksize": -1}}, "wanted a blocksize from 0"),
        (numcodecs.BZ2(), "the numcodecs codec 'bz2' has no Zarr v3 codec"),
        ([numcodecs.Delta("u2"), "zstd"], "the numcodecs codec 'delta'"),
        (ShardingCodec(chunk_shape=(2,)), "pass those as shard="),
        (["zstd", BIG], "wanted those of arrays"),
        (["zstd", TRANSPOSE], "wanted those of arrays"),
        ([BIG, TRANSPOSE], "wanted those of arrays"),
        ([BIG, BIG], "wanted those of arrays"),
        ([TEXT, "zstd"], "wanted 'bytes' for this data type, got 'vlen-utf8'"),
    ],
    ids=str,
)
def test_nonsense_is_refused(said, message):
    with pytest.raises(TargetError, match=message):
        chosen_codecs(said, U2)


def test_bytes_are_no_serializer_of_strings():
    with pytest.raises(TargetError, match="wanted 'vlen-utf8' for this data type, got 'bytes'"):
        chosen_codecs([LITTLE, "zstd"], np.dtype(object), data_type="string")


NAMES = st.one_of(
    st.just("none"),
    st.just("crc32c"),
    st.integers(-131072, 22).map("zstd:{}".format),
    st.integers(0, 9).map("gzip:{}".format),
    st.builds(
        "blosc:{}:{}".format,
        st.sampled_from(["blosclz", "lz4", "lz4hc", "zlib", "zstd"]),
        st.integers(0, 9),
    ),
)


@given(
    said=st.lists(NAMES, max_size=3),
    dtype=st.sampled_from(["bool", "uint8", "int16", "float32", "int64"]),
)
def test_zarr_python_writes_with_what_was_chosen(said, dtype):
    store, values = MemoryStore(), (np.arange(16).reshape(4, 4) % 5).astype(dtype)
    codecs = chosen_codecs(said, np.dtype(dtype))
    assert chosen_codecs(codecs, np.dtype(dtype)) == codecs
    doc = ArrayV3Metadata.from_dict(document(codecs, dtype))
    array = zarr.create_array(
        store,
        shape=(4, 4),
        dtype=dtype,
        chunks=(2, 2),
        serializer=doc.codecs[0],
        compressors=doc.codecs[1:],
    )
    array[...] = values
    np.testing.assert_array_equal(zarr.open_array(store)[...], values)
