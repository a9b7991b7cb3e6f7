"""Documents of arrays that are written anew: the encoded chunks of the source read the same."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
import zarr.dtype
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

from hfzarr import UnsupportedError
from hfzarr.model.array import ArrayMeta, parse_array
from hfzarr.model.rewrite import array_document, can_be_sharded, carried_fill, kept_codecs
from hfzarr.run.read import ArrayReader
from hfzarr.store.bridge import resolve_types, v3_types
from hfzarr.store.folder import FolderSource
from hfzarr.store.hierarchy import Hierarchy
from realstores import cases, expected, folder
from stores import climate
from test_realdata import is_refused

pytestmark = [
    pytest.mark.filterwarnings("ignore:The data type:Warning"),
    pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec:UserWarning"),
]

SHAPE, CHUNK, SHARD = (7, 5, 3), (3, 2, 3), (6, 4, 3)
RECORD = np.dtype([("a", "<i4"), ("b", "S3"), ("c", "<f8")])
TENSORSTORE_KINDS = "biufc"
# Whether the zarr-python at hand reads shards of records and raw bytes.
SHARDS_OF_ALL = Version(zarr.__version__) >= Version("3.4")


# --- arrays as they are, and as they are written anew --------------------------------------------


def sample(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return values that differ from their neighbours, none of them zero."""
    numbers = np.arange(1, 1 + math.prod(shape)).reshape(shape)
    if dtype is str:
        return np.array([f"é{n}" * (n % 4) for n in numbers.flat], object).reshape(shape)
    if isinstance(dtype, zarr.dtype.VariableLengthBytes):
        return np.array([b"%d\0" % n * (n % 4) for n in numbers.flat], object).reshape(shape)
    dtype = np.dtype(dtype)
    if dtype.fields is not None:
        out = np.zeros(shape, dtype)
        for name in dtype.names or ():
            out[name] = sample(shape, dtype[name])
        return out
    if dtype.kind == "V":
        return numbers.astype(f"S{dtype.itemsize}").view(dtype)
    return numbers % 3 == 0 if dtype.kind == "b" else numbers.astype(dtype)


def write(path: Path, dtype: Any, shape: tuple[int, ...] = SHAPE, **options: Any) -> zarr.Array:
    """Write an array of `sample`, one of its files missing; ``options`` are zarr-python's."""
    options = {"chunks": CHUNK, "fill_value": None, **options}
    array = zarr.create_array(str(path), shape=shape, dtype=dtype, **options)
    array[...] = sample(shape, dtype)
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] not in ".z")
    if len(files) > 1:
        files[1].unlink()
    return array


def meta_of(path: Path) -> ArrayMeta:
    meta = Hierarchy(FolderSource(str(path))).array("")
    assert meta is not None
    return meta


def grid(shape: tuple[int, ...], unit: tuple[int, ...]) -> itertools.product:
    return itertools.product(*(range(-(-n // c)) for n, c in zip(shape, unit, strict=True)))


def encoded_chunks(path: Path, meta: ArrayMeta) -> dict[tuple[int, ...], bytes]:
    """Return the encoded inner chunks that are there, by their place in the grid."""
    assert meta.inner_chunk is not None
    unit = meta.shard or meta.inner_chunk
    files = {place: path / meta.chunk_key(place) for place in grid(meta.shape, unit)}
    there = {place: file.read_bytes() for place, file in files.items() if file.is_file()}
    if meta.shard is None:
        return there
    config = meta.doc["codecs"][0]["configuration"]
    checked = any("crc32c" in str(codec) for codec in config["index_codecs"])
    per_shard = tuple(s // c for s, c in zip(meta.shard, meta.inner_chunk, strict=True))
    size = 16 * math.prod(per_shard)
    chunks = {}
    for shard, data in there.items():
        start = 0 if config.get("index_location") == "start" else len(data) - size - 4 * checked
        index = np.frombuffer(data, "<u8", 2 * math.prod(per_shard), start).reshape(*per_shard, 2)
        for inner in np.ndindex(*per_shard):
            offset, nbytes = index[inner].tolist()
            if offset != 2**64 - 1:
                place = tuple(s * n + i for s, n, i in zip(shard, per_shard, inner, strict=True))
                chunks[place] = data[offset : offset + nbytes]
    return chunks


def write_anew(
    path: Path,
    meta: ArrayMeta,
    chunks: dict[tuple[int, ...], bytes],
    shard: tuple[int, ...] | None = None,
    attrs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the v3 document of an array, and its encoded chunks as they are."""
    codecs, types = kept_codecs(meta), v3_types(meta)
    assert codecs is not None
    assert meta.inner_chunk is not None
    doc = array_document(
        meta,
        inner_chunk=meta.inner_chunk,
        shard=shard,
        codecs=codecs,
        dims=None,
        attrs=meta.attrs if attrs is None else attrs,
        data_type=types.data_type,
        fill_value=types.fill_value,
    )
    path.mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps(doc))
    key_of = meta_of(path).chunk_key
    files = chunks if shard is None else shards(chunks, meta.inner_chunk, shard)
    for place, data in files.items():
        (path / key_of(place)).parent.mkdir(parents=True, exist_ok=True)
        (path / key_of(place)).write_bytes(data)
    return doc


def shards(
    chunks: dict[tuple[int, ...], bytes], inner: tuple[int, ...], shard: tuple[int, ...]
) -> dict[tuple[int, ...], bytes]:
    per_shard = tuple(s // c for s, c in zip(shard, inner, strict=True))
    indexes: dict[tuple[int, ...], np.ndarray] = {}
    bodies: dict[tuple[int, ...], bytes] = {}
    for place, data in chunks.items():
        unit = tuple(p // n for p, n in zip(place, per_shard, strict=True))
        index = indexes.setdefault(unit, np.full((*per_shard, 2), 2**64 - 1, "<u8"))
        body = bodies.get(unit, b"")
        inside = tuple(p % n for p, n in zip(place, per_shard, strict=True))
        index[inside] = len(body), len(data)
        bodies[unit] = body + data
    tails = {unit: index.tobytes() for unit, index in indexes.items()}
    sums = {u: google_crc32c.value(tail).to_bytes(4, "little") for u, tail in tails.items()}
    return {unit: body + tails[unit] + sums[unit] for unit, body in bodies.items()}


def check_same(path: Path, values: np.ndarray) -> None:
    """Fail where an array does not hold these values, read by zarr-python and by tensorstore."""
    array = zarr.open_array(str(path), mode="r")
    got = array[...]
    if values.dtype.kind == "V":
        assert np.asarray(got).tobytes() == np.asarray(values).tobytes()
        return
    np.testing.assert_array_equal(got, values)
    if values.dtype.kind in TENSORSTORE_KINDS:
        np.testing.assert_array_equal(by_tensorstore(path), values)


def by_tensorstore(path: Path) -> np.ndarray:
    tensorstore = pytest.importorskip("tensorstore")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(spec).result().read().result()


def check_kept(source: Path, target: Path, shard: tuple[int, ...] | None = SHARD) -> None:
    """Write an array anew, as plain chunks and in shards, and compare the contents."""
    meta, values = meta_of(source), zarr.open_array(str(source), mode="r")[...]
    chunks = encoded_chunks(source, meta)
    for place, unit in [("plain", None), ("sharded", shard)]:
        if unit is None or SHARDS_OF_ALL or can_be_sharded(meta.dtype):
            write_anew(target / place, meta, chunks, unit)
            check_same(target / place, np.asarray(values))


# --- every kind of data type, order and compressor -----------------------------------------------

NAMES = (
    "b1 i1 u1 <u2 >u2 <i4 >i8 <f2 >f4 <f8 <c8 >c16 <U3 >U3 S3 V8 V300 <M8[ns] >M8[s] <m8[us] >m8[D]"
)
DTYPES: dict[str, Any] = {name: name for name in NAMES.split()}
DTYPES |= {
    "record": RECORD,
    "record of bytes": np.dtype([("a", "u1"), ("b", "S3")]),
    "text": str,
    "bytes": zarr.dtype.VariableLengthBytes(),
}
COMPRESSORS = {
    "none": None,
    "blosc": numcodecs.Blosc(),
    "blosc auto": numcodecs.Blosc("zstd", 9, shuffle=-1),
    "blosc bits": numcodecs.Blosc("zlib", 1, shuffle=2, blocksize=1024),
    "blosc plain": numcodecs.Blosc("blosclz", 0, shuffle=0),
    "zstd": numcodecs.Zstd(1),
    "zstd checked": numcodecs.Zstd(-5, checksum=True),
    "gzip": numcodecs.GZip(1),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_v2_data_types(tmp_path, dtype, order):
    for i, compressor in enumerate([None, numcodecs.Blosc(shuffle=-1), numcodecs.Zstd()]):
        source = tmp_path / f"source{i}"
        write(source, dtype, zarr_format=2, order=order, compressors=compressor)
        check_kept(source, tmp_path / f"target{i}")


@pytest.mark.parametrize("dtype", ["|u1", ">f4", "<U3", str], ids=str)
@pytest.mark.parametrize("compressor", COMPRESSORS.values(), ids=COMPRESSORS)
def test_v2_compressors(tmp_path, dtype, compressor):
    write(tmp_path / "source", dtype, zarr_format=2, order="F", compressors=compressor)
    check_kept(tmp_path / "source", tmp_path / "target")


V3_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"compressors": None},
    "zstd": {"compressors": ZstdCodec(level=1)},
    "blosc, crc": {"compressors": [BloscCodec(typesize=2), Crc32cCodec()]},
    "big-endian": {"serializer": BytesCodec(endian="big"), "compressors": GzipCodec()},
    "transposed": {"filters": TransposeCodec(order=(1, 2, 0))},
    "sharded": {"shards": SHARD},
    "sharded, transposed": {"shards": SHARD, "filters": TransposeCodec(order=(2, 1, 0))},
    "index first": {
        "serializer": ShardingCodec(chunk_shape=CHUNK, index_location="start"),
        "chunks": SHARD,
    },
    "shards in shards": {
        "serializer": ShardingCodec(
            chunk_shape=CHUNK, codecs=[ShardingCodec(chunk_shape=(1, 1, 3))]
        ),
        "chunks": SHARD,
    },
    "chunks that are shards": {
        "filters": TransposeCodec(order=(0, 1, 2)),
        "serializer": ShardingCodec(chunk_shape=(1, 2, 1)),
    },
    "v2 keys": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
}


# zarr-python 3.1.0 neither reads shards in shards nor writes empty chunks in them.
NESTED = ("shards in shards", "chunks that are shards")
NO_NESTED = Version(zarr.__version__) < Version("3.1.3")


@pytest.mark.parametrize("name", V3_OPTIONS)
def test_v3_codecs(tmp_path, name):
    if name in NESTED and NO_NESTED:
        pytest.skip("this zarr-python does not read shards in shards")
    options = V3_OPTIONS[name]
    write(tmp_path / "source", "uint16", fill_value=7, **{"compressors": None, **options})
    check_kept(tmp_path / "source", tmp_path / "target")


@pytest.mark.parametrize("shards", [None, SHARD], ids=["plain", "sharded"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_v3_data_types(tmp_path, dtype, shards):
    void = isinstance(dtype, str | np.dtype) and not can_be_sharded(np.dtype(dtype))
    if shards and void and not SHARDS_OF_ALL:
        pytest.skip("this zarr-python does not write such shards")
    write(tmp_path / "source", dtype, shards=shards)
    check_kept(tmp_path / "source", tmp_path / "target")


@pytest.mark.skipif(Version(zarr.__version__) < Version("3.1.3"), reason="no numcodecs in v3")
def test_v3_codecs_that_the_fast_route_does_not_know(tmp_path):
    codecs = [{"name": "numcodecs.bz2", "configuration": {"level": 1}}]
    write(tmp_path / "source", "uint16", compressors=codecs)
    assert kept_codecs(meta_of(tmp_path / "source")) is not None
    meta, values = meta_of(tmp_path / "source"), zarr.open_array(str(tmp_path / "source"))[...]
    write_anew(tmp_path / "target", meta, encoded_chunks(tmp_path / "source", meta), SHARD)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "target"))[...], values)


@st.composite
def options(draw: st.DrawFn) -> tuple[Any, dict[str, Any], tuple[int, ...]]:
    """Draw a data type, how it is written, and a shard to write it in anew."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=3)))
    chunks = tuple(draw(st.integers(1, 4)) for _ in shape)
    per_shard = [draw(st.integers(1, 3)) for _ in shape]
    made = {
        "shape": shape,
        "chunks": chunks,
        "zarr_format": 2,
        "order": draw(st.sampled_from("CF")),
        "compressors": draw(st.sampled_from(list(COMPRESSORS.values()))),
        "chunk_key_encoding": {"name": "v2", "separator": draw(st.sampled_from("./"))},
    }
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    return dtype, made, tuple(c * n for c, n in zip(chunks, per_shard, strict=True))


@given(drawn=options())
@settings(max_examples=60)
def test_v2_chunks_of_any_kind(tmp_path_factory, drawn):
    dtype, made, shard = drawn
    path = tmp_path_factory.mktemp("any")
    write(path / "source", dtype, **made)
    check_kept(path / "source", path / "target", shard)


# --- where codecs can't be kept ------------------------------------------------------------------

V2_DOC = {"shape": [4], "chunks": [2], "dtype": "<u2", "fill_value": 0, "order": "C",
          "compressor": None, "filters": None, "zarr_format": 2}  # fmt: skip


def parsed(doc: dict[str, Any], attrs: dict[str, Any] | None = None) -> ArrayMeta:
    return parse_array("a", doc, attrs or {}, resolve=resolve_types)


@pytest.mark.parametrize(
    "changed",
    [
        {"compressor": {"id": "zlib", "level": 1}},
        {"compressor": {"id": "bz2", "level": 1}},
        {"compressor": {"id": "lz4", "acceleration": 1}},
        {"compressor": {"id": "crc32c"}},
        {"compressor": {"id": "zstd", "level": 99}},
        {"compressor": {"id": "gzip", "level": -1}},
        {"compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 7}},
        {"compressor": {"id": "blosc", "cname": "other", "clevel": 5, "shuffle": 1}},
        {"filters": [{"id": "delta", "dtype": "<u2"}]},
        {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "zlib"}]},
        {"dtype": [["a", ">i4"], ["b", "|u1"]], "fill_value": None},
    ],
    ids=str,
)
def test_v2_codecs_that_v3_does_not_have(changed):
    assert kept_codecs(parsed({**V2_DOC, **changed})) is None


def test_a_grid_that_is_not_regular_keeps_no_codecs():
    doc = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4],
        "data_type": "uint8",
        "chunk_grid": {"name": "rectilinear", "configuration": {"kind": "inline"}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
    }
    assert kept_codecs(parsed(doc)) is None


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize != 16, reason="no float128 on this machine")
def test_data_types_that_v3_does_not_have():
    meta = parsed({**V2_DOC, "dtype": "<f16", "fill_value": 0.0})
    with pytest.raises(UnsupportedError, match=r"array 'a': .* no Zarr v3 data type for '<f16'"):
        v3_types(meta)


# --- documents -----------------------------------------------------------------------------------


def document(meta: ArrayMeta, **changed: Any) -> dict[str, Any]:
    types = v3_types(meta)
    said: dict[str, Any] = {
        "inner_chunk": meta.inner_chunk,
        "shard": None,
        "codecs": kept_codecs(meta),
        "dims": None,
        "attrs": meta.attrs,
        "data_type": types.data_type,
        "fill_value": types.fill_value,
    }
    return array_document(meta, **{**said, **changed})


def test_the_document_of_a_v3_source_changes_only_where_it_must():
    doc = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4, 4],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
        "fill_value": "0x7fc00001",
        "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}],
        "dimension_names": [None, "x"],
        "attributes": {"_ARRAY_DIMENSIONS": ["y", "x"], "a": 1},
        "note": {"must_understand": False, "of": "its writer"},
    }
    meta = parsed(doc, doc["attributes"])
    assert document(meta) == doc
    assert document(meta, dims=("y", "x"), attrs={})["dimension_names"] == ["y", "x"]
    sharded = document(meta, shard=(4, 4))
    assert {key for key in doc if sharded[key] != doc[key]} == {"chunk_grid", "codecs"}
    [codec] = sharded["codecs"]
    assert codec["configuration"]["chunk_shape"] == [2, 2]
    assert codec["configuration"]["codecs"] == doc["codecs"]


@pytest.mark.parametrize("separator", [".", "/"])
def test_the_document_of_a_v2_source(separator):
    attrs = {"_ARRAY_DIMENSIONS": ["x"], "units": "m", "_nczarr_attrs": {"types": {}}}
    meta = parsed({**V2_DOC, "dimension_separator": separator, "fill_value": None}, attrs)
    doc = document(meta)
    assert doc["attributes"] == {"units": "m"}
    assert doc["dimension_names"] == ["x"]
    assert doc["fill_value"] == 0
    assert doc["chunk_key_encoding"]["configuration"] == {"separator": separator}
    assert document(meta, dims=("t",))["dimension_names"] == ["t"]
    zarr.core.metadata.ArrayV3Metadata.from_dict(doc)


def test_names_that_are_none_stay_with_the_attributes():
    meta = parsed(V2_DOC, {"_ARRAY_DIMENSIONS": ["x", "y", "z"]})
    doc = document(meta)
    assert "dimension_names" not in doc
    assert doc["attributes"] == {"_ARRAY_DIMENSIONS": ["x", "y", "z"]}


def test_chunks_of_length_0_become_chunks():
    doc = document(parsed({**V2_DOC, "shape": [0], "chunks": [0]}), shard=(0,))
    assert doc["chunk_grid"]["configuration"] == {"chunk_shape": [1]}
    assert doc["codecs"][0]["configuration"]["chunk_shape"] == [1]


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("|b1", False),
        ("<i4", 0),
        ("<f4", 0.0),
        ("<c8", [0.0, 0.0]),
        ("<U3", ""),
        ("|S3", ""),
        ("<M8[s]", -(2**63)),
    ],
)
def test_an_array_without_fill_value_gets_what_it_reads_as(dtype, wanted):
    assert v3_types(parsed({**V2_DOC, "dtype": dtype, "fill_value": None})).fill_value == wanted


@pytest.mark.parametrize(
    ("dtype", "fill", "wanted"),
    [
        ("<f4", "NaN", "NaN"),
        ("<f8", "-Infinity", "-Infinity"),
        ("<u2", "65535", 65535),
        ("<i2", -5.0, -5),
        ("<f8", 1, 1.0),
        ("<u8", 2**64 - 1, 2**64 - 1),
    ],
)
def test_fill_values_of_v2_as_v3_spells_them(dtype, fill, wanted):
    assert v3_types(parsed({**V2_DOC, "dtype": dtype, "fill_value": fill})).fill_value == wanted


# --- what a fill value masks ---------------------------------------------------------------------


def masked_store(path: Path) -> None:
    """Write a v2 store of CF data, with fill values of each kind that mask something."""
    more: dict[str, tuple[np.ndarray, Any, dict[str, Any]]] = {
        "f4": (np.array([0, 1, 1e20, 3], "f4"), 1e20, {}),
        "nan": (np.array([0, np.nan, 2, 3]), np.nan, {}),
        "zero": (np.arange(4), 0, {}),
        "u1": (np.array([0, 1, 255, 255], "u1"), 255, {"scale_factor": 0.5}),
        "big": (np.array([0, 1, 2**64 - 1, 2**63], "u8"), 2**64 - 1, {}),
        "flag": (np.array([True, False, True, True]), False, {}),
        "other": (np.array([0.0, 1, 2, 3]), 1.0, {"_FillValue": 2.0}),
        "said": (np.array([0.0, 1, 2, 3]), None, {"_FillValue": 2.0}),
        "counted": (np.arange(4), None, {"_FillValue": 2}),
        "missing": (np.arange(4.0), None, {"missing_value": 3.0}),
    }
    climate().to_zarr(path, zarr_format=2, mode="w", consolidated=False)
    for name, (values, fill, attrs) in more.items():
        attrs = {"_ARRAY_DIMENSIONS": ["lat"], **attrs}
        zarr.create_array(
            str(path),
            name=name,
            data=values,
            zarr_format=2,
            fill_value=fill,
            attributes=attrs,
            filters=None,
        )


def write_group_anew(source: Path, target: Path) -> None:
    attrs = json.loads((source / ".zattrs").read_text())
    zarr.create_group(str(target), zarr_format=3, attributes=attrs)
    for path in sorted(file.parent for file in source.glob("*/.zarray")):
        meta = meta_of(path)
        chunks = encoded_chunks(path, meta)
        write_anew(target / path.name, meta, chunks, attrs=carried_fill(meta, meta.attrs))


@pytest.mark.parametrize("engine", ["hfzarr", "zarr"])
@pytest.mark.parametrize("options", [{}, {"mask_and_scale": False}, {"decode_cf": False}], ids=str)
def test_a_cf_store_means_the_same_in_v3(tmp_path, engine, options):
    masked_store(tmp_path / "a")
    write_group_anew(tmp_path / "a", tmp_path / "b")
    for path in ("a", "b"):
        with warnings.catch_warnings():
            # zarr-python 3.1.0 warns where zarr.json's group is consolidated twice.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(str(tmp_path / path))
    was, now = (
        xr.open_dataset(tmp_path / path, engine=engine, **options).load() for path in ("a", "b")
    )
    xr.testing.assert_identical(was, now)
    if not options:
        assert np.isnan(now.f4[2])
        assert np.isnan(now.air[1, 2, 3])
        assert np.isnan(now.zero[0])


def test_arrays_without_names_and_strings_keep_their_attributes():
    assert carried_fill(parsed(V2_DOC), {"a": 1}) == {"a": 1}
    text = parsed({**V2_DOC, "dtype": "<U3", "fill_value": "x"}, {"_ARRAY_DIMENSIONS": ["x"]})
    assert carried_fill(text, {"a": 1}) == {"a": 1}


# --- real stores ---------------------------------------------------------------------------------

ARRAYS = sorted(path for path, facts in expected().items() if not is_refused("", path, facts))


@pytest.mark.filterwarnings("ignore:Found an empty list of filters")
@cases("path", ARRAYS)
def test_real_arrays(path, tmp_path):
    source = Path(str(folder())) / path
    meta = meta_of(source)
    if kept_codecs(meta) is None:
        return
    shard = tuple(2 * n for n in meta.inner_chunk or ()) if can_be_sharded(meta.dtype) else None
    write_anew(tmp_path / "a", meta, encoded_chunks(source, meta), shard)
    # zarr-python does not take all spellings of fill values in v2.
    values = ArrayReader(FolderSource(str(source)), meta).read()
    written = np.asarray(zarr.open_array(str(tmp_path / "a"), mode="r")[...])
    assert written.shape == values.shape
    # By a million: of an array of 360 MB, NumPy would make five more to compare it at once.
    was, now = values.reshape(-1), written.reshape(-1)
    for start in range(0, values.size, 10**6):
        part = slice(start, start + 10**6)
        np.testing.assert_array_equal(now[part], was[part])
