"""The reader against zarr-python, on the same bytes: every codec, layout and kind of selection."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import pickle
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
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

from hfzarr.errors import ReadError
from hfzarr.model.array import parse_array
from hfzarr.model.codecs import fast_chain
from hfzarr.run.pool import for_each
from hfzarr.run.read import ArrayReader
from hfzarr.store.bridge import resolve_types

SHAPE, CHUNKS, SHARDS = (11, 7, 5), (4, 3, 5), (8, 6, 5)


@dataclass
class FolderFake:
    """Reads files of a folder, and keeps a log of what was asked for."""

    root: str
    local: bool = True
    log: list = field(default_factory=list, compare=False)

    @property
    def url(self):
        return f"fake://{self.root}"

    def get(self, key, byte_range=None):
        self.log.append((key, byte_range))
        path = Path(self.root, key)
        if not path.is_file():
            return None
        data = path.read_bytes()
        if byte_range is None:
            return data
        start, stop = byte_range
        return data[max(start, -len(data)) if start < 0 else start : stop]

    def get_many(self, requests):
        assert not self.local
        assert requests
        return [self.get(key, byte_range) for key, byte_range in requests]

    async def get_async(self, key, byte_range=None):
        await asyncio.sleep(0)
        return self.get(key, byte_range)


def quiet(call, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args, **kwargs)


def array_meta(root, path):
    folder = Path(root, path)
    v3 = folder / "zarr.json"
    doc = json.loads((v3 if v3.exists() else folder / ".zarray").read_text())
    return quiet(parse_array, path, doc, {}, resolve=resolve_types)


def make(root, *, shape=SHAPE, chunks=CHUNKS, dtype="<u2", written=None, path="deep/a", **kwargs):
    """Write an array, and return a reader of it and zarr-python's view of it."""
    kwargs.setdefault("zarr_format", 3)
    kwargs.setdefault("fill_value", 3 if np.dtype(dtype).kind in "iufc" else None)
    array = quiet(
        zarr.create_array, str(root), name=path, shape=shape, chunks=chunks, dtype=dtype, **kwargs
    )
    array[...] = sample(shape, dtype) if written is None else written
    return ArrayReader(FolderFake(str(root)), array_meta(root, path)), array


def sample(shape, dtype):
    dtype = np.dtype(dtype)
    numbers = np.arange(10, 10 + math.prod(shape)).reshape(shape)
    if dtype.kind == "V":
        return numbers.astype(f"S{dtype.itemsize}").view(dtype)
    if dtype.kind == "b":
        return numbers % 3 == 0
    return numbers.astype(dtype)


def readers(reader):
    """Return the reader over a local source and over a distant one."""
    return reader, ArrayReader(FolderFake(reader.source.root, local=False), reader.meta)


def check(reader, array, selections=None):
    """Compare with zarr-python: whole, in parts, in points; local, distant, async."""
    shape = array.shape
    whole = np.asarray(array[...])
    parts = [(), tuple(slice(n // 4, None, -1 if i else 2) for i, n in enumerate(shape))]
    places = [np.arange(7) * 5 % n for n in shape]
    for each in readers(reader):
        for selection in parts:
            found = each.read(selection)
            assert found.dtype == reader.meta.dtype
            np.testing.assert_array_equal(found, whole[selection])
            np.testing.assert_array_equal(asyncio.run(each.read_async(selection)), found)
        np.testing.assert_array_equal(each.read(places), whole[np.ix_(*places)])
        points = each.read_points(places)
        assert points.dtype == reader.meta.dtype
        np.testing.assert_array_equal(points, whole[tuple(places)])
        np.testing.assert_array_equal(asyncio.run(each.read_points_async(places)), points)


V2_COMPRESSORS = [
    None,
    numcodecs.Blosc(cname="lz4", shuffle=2),
    numcodecs.Blosc(cname="zstd", clevel=3),
    numcodecs.Zstd(level=3, checksum=True),
    numcodecs.GZip(),
    numcodecs.Zlib(),
    numcodecs.LZ4(),
    numcodecs.BZ2(),
    numcodecs.LZMA(),
]
DTYPES = [">i4", "<f8", "|u1", "|b1", ">c16", "|S3", "<U4", ">U3", "|V5", "<M8[s]", ">m8[ms]"]
V3_DTYPES = [d for d in DTYPES if not d.startswith(">")] + ["int16", "float16"]
V3_CHAINS = {
    "raw": {"compressors": None},
    "big": {"compressors": None, "serializer": BytesCodec(endian="big")},
    "zstd": {"compressors": ZstdCodec(level=1, checksum=True)},
    "blosc": {"compressors": BloscCodec(cname="zlib", typesize=2, shuffle="shuffle")},
    "gzip": {"compressors": GzipCodec()},
    "crc": {"compressors": Crc32cCodec()},
    "zstd-crc": {"compressors": [ZstdCodec(), Crc32cCodec()]},
    "crc-zstd": {"compressors": [Crc32cCodec(), ZstdCodec()]},
    "crc-gzip": {"compressors": [Crc32cCodec(), GzipCodec(), Crc32cCodec()]},
    "blosc-zstd": {"compressors": [BloscCodec(typesize=2, shuffle="shuffle"), ZstdCodec()]},
    "zstd-gzip": {"compressors": [ZstdCodec(), GzipCodec()]},
    "gzip-blosc": {"compressors": [GzipCodec(), BloscCodec(typesize=1, shuffle="shuffle")]},
    "transposed": {"filters": TransposeCodec(order=(2, 0, 1)), "compressors": ZstdCodec()},
    "twice": {
        "filters": [TransposeCodec(order=(2, 0, 1)), TransposeCodec(order=(0, 2, 1))],
        "serializer": BytesCodec(endian="big"),
    },
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compressor", V2_COMPRESSORS, ids=lambda c: getattr(c, "codec_id", "raw"))
def test_v2_compressors(tmp_path, compressor, order):
    reader, array = make(tmp_path, zarr_format=2, compressors=compressor, order=order)
    assert reader.is_fast
    check(reader, array)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_v2_dtypes(tmp_path, dtype, order):
    reader, array = make(tmp_path, zarr_format=2, dtype=dtype, order=order)
    assert reader.is_fast
    assert reader.meta.dtype == np.dtype(dtype).newbyteorder("=")
    check(reader, array)


@pytest.mark.parametrize("dtype", V3_DTYPES)
def test_v3_dtypes(tmp_path, dtype):
    for name, serializer in {"l": "auto", "b": BytesCodec(endian="big")}.items():
        reader, array = make(tmp_path, dtype=dtype, serializer=serializer, path=name)
        assert reader.is_fast
        check(reader, array)


@pytest.mark.parametrize("chain", V3_CHAINS)
def test_v3_chains(tmp_path, chain):
    reader, array = make(tmp_path, **V3_CHAINS[chain])
    assert reader.is_fast
    check(reader, array)


@pytest.mark.parametrize("chain", V3_CHAINS)
def test_sharded_chains(tmp_path, chain):
    reader, array = make(tmp_path, shards=SHARDS, **V3_CHAINS[chain])
    assert reader.is_fast
    check(reader, array)


INDEXES = list(itertools.product(["start", "end"], [True, False], ["little", "big"]))


@pytest.mark.parametrize(("location", "checksum", "endian"), INDEXES)
def test_shard_indexes(tmp_path, location, checksum, endian):
    codecs = [BytesCodec(endian=endian)] + [Crc32cCodec()] * checksum
    sharding = ShardingCodec(
        chunk_shape=CHUNKS,
        codecs=[BytesCodec(), ZstdCodec()],
        index_codecs=codecs,
        index_location=location,
    )
    reader, array = make(tmp_path, chunks=SHARDS, serializer=sharding, compressors=None)
    assert reader.is_fast
    check(reader, array)


@pytest.mark.parametrize(
    ("kwargs", "key", "region"),
    [
        ({"zarr_format": 2}, "1.1.0", np.s_[4:8, 3:6]),
        ({}, "c/1/1/0", np.s_[4:8, 3:6]),
        ({"shards": SHARDS}, "c/1/0/0", np.s_[8:, :6]),
    ],
    ids=["v2", "v3", "sharded"],
)
@pytest.mark.parametrize("fill", [None, 9])
def test_missing_chunks_are_filled(tmp_path, kwargs, key, region, fill):
    data = sample(SHAPE, "<i4")
    data[:4, :3] = fill or 0  # an inner chunk that is not stored
    reader, array = make(tmp_path, dtype="<i4", written=data, fill_value=fill, **kwargs)
    Path(tmp_path, "deep/a", key).unlink()
    assert (reader.read()[region] == (fill or 0)).all()
    check(reader, array)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["<M8[s]", "<m8[s]", "<U3", "|S2", "|b1", "<f4"])
def test_an_array_without_chunks_reads_as_zarrs_default(tmp_path, dtype, zarr_format):
    array = quiet(
        zarr.create_array,
        str(tmp_path),
        name="a",
        shape=(3,),
        chunks=(2,),
        dtype=dtype,
        zarr_format=zarr_format,
    )
    reader = ArrayReader(FolderFake(str(tmp_path)), array_meta(tmp_path, "a"))
    assert reader.is_fast
    np.testing.assert_array_equal(reader.read(), array[...])


@pytest.mark.parametrize("kwargs", [{"zarr_format": 2}, {}, {"shards": (8,)}], ids=str)
def test_array_at_the_root_and_chunk_beyond_the_array(tmp_path, kwargs):
    reader, array = make(tmp_path, shape=(5,), chunks=(8,), path="", **kwargs)
    check(reader, array)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_no_axes(tmp_path, zarr_format):
    reader, _ = make(tmp_path, shape=(), chunks=(), zarr_format=zarr_format)
    for each in readers(reader):
        for found in (each.read(), each.read_points(()), asyncio.run(each.read_points_async(()))):
            assert (found.shape, found[()], found.dtype) == ((), 10, np.dtype("u2"))


def test_no_elements(tmp_path):
    reader, _ = make(tmp_path, shape=(0, 4), chunks=(1, 2))
    for each in readers(reader):
        assert each.read().shape == (0, 4)
        assert asyncio.run(each.read_async((slice(None), 1))).shape == (0,)
        assert each.source.log == []
    full, _ = make(tmp_path, path="b")
    assert full.read((slice(3, 3), np.array([], int))).shape == (0, 0, 5)
    assert full.read_points([[], [], 0]).shape == (0,)
    assert full.source.log == []


@st.composite
def cases(draw):
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, 5)) for _ in range(ndim))
    shards = tuple(n * draw(st.integers(1, 3)) for n in chunks)
    layout = draw(st.sampled_from([{"zarr_format": 2}, {}, {"shards": shards}]))

    def indexer(n):
        place = st.integers(-n, n - 1)
        bound, step = st.none() | place, st.integers(-3, 3).filter(bool)
        lists = st.lists(place, max_size=6).map(lambda x: np.array(x, int))
        return draw(st.builds(slice, bound, bound, step) | lists | place)

    return shape, chunks, layout, tuple(indexer(n) for n in shape)


@settings(deadline=None, max_examples=40)
@given(cases())
def test_any_selection(tmp_path_factory, case):
    shape, chunks, layout, selection = case
    reader, _ = make(tmp_path_factory.mktemp("s"), shape=shape, chunks=chunks, **layout)
    wanted = sample(shape, "<u2")
    for axis, indexer in reversed(list(enumerate(selection))):
        wanted = wanted[(slice(None),) * axis + (indexer,)]
    for each in readers(reader):
        found = each.read(selection)
        np.testing.assert_array_equal(found, wanted)
        keys = [entry for entry in each.source.log if entry[0].split("/")[-1] != "zarr.json"]
        assert len(keys) == len(set(keys))


# What zarr-python must read


FOREIGN = {
    "filters": {"zarr_format": 2, "filters": [numcodecs.Delta("<u2")]},
    "shuffle": {"zarr_format": 2, "compressors": numcodecs.Shuffle(2)},
    "nested": {
        "chunks": SHARDS,
        "serializer": ShardingCodec(
            chunk_shape=(4, 6, 5), codecs=[ShardingCodec(chunk_shape=(2, 3, 5))]
        ),
        "compressors": None,
    },
    "index-zstd": {
        "chunks": SHARDS,
        "serializer": ShardingCodec(
            chunk_shape=CHUNKS, index_codecs=[BytesCodec(), Crc32cCodec(), Crc32cCodec()]
        ),
        "compressors": None,
    },
    "around-a-shard": {
        "chunks": SHARDS,
        "serializer": ShardingCodec(chunk_shape=CHUNKS),
        "compressors": Crc32cCodec(),
    },
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FOREIGN)
def test_unknown_chains_go_to_zarr(tmp_path, name):
    try:
        reader, array = make(tmp_path, **FOREIGN[name])
        array[1:3]
    except (NotImplementedError, AssertionError):
        pytest.skip(f"zarr {zarr.__version__} itself cannot write or read this chain")
    assert not reader.is_fast
    check(reader, array)
    assert reader.read((2, slice(None), -1)).shape == (7,)
    assert reader.read((slice(5, 5),)).shape == (0, 7, 5)
    with pytest.raises(IndexError):
        reader.read((99,))


@pytest.mark.filterwarnings("ignore")
def test_variable_strings_go_to_zarr(tmp_path):
    reader, _ = make(tmp_path, shape=(3,), chunks=(2,), dtype=str, written=["a", "b", "cc"])
    assert not reader.is_fast
    assert reader.read((slice(None, None, -1),)).tolist() == ["cc", "b", "a"]
    assert reader.read_points(([0, 0],)).tolist() == ["a", "a"]


@pytest.mark.filterwarnings("ignore")
def test_an_error_of_zarr_names_the_array(tmp_path):
    reader, _ = make(tmp_path, **FOREIGN["filters"])
    Path(tmp_path, "deep/a/0.0.0").write_bytes(b"xx")
    with pytest.raises(ReadError, match=r"array 'deep/a' in fake://.*zarr-python could not"):
        reader.read()


@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{"name": "bytes"}]},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "middle"}}]},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "odd"}]},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}, "extra": 1}]},
        {"codecs": [{"name": "transpose", "configuration": {"order": "F"}}, {"name": "bytes"}]},
        {"codecs": []},
        {"codecs": 7},
        {"data_type": "int8"},
        {"data_type": {"name": "struct"}},
        {"data_type": 5},
    ],
    ids=str,
)
def test_doubtful_metadata_is_not_fast(tmp_path, change):
    reader, _ = make(tmp_path)
    doc = {**reader.meta.doc, **change}
    meta = pickle.loads(pickle.dumps(reader.meta))
    object.__setattr__(meta, "doc", doc)
    assert fast_chain(meta) is None


# Damage


def zstd_frame(content, *, last=True):
    """Return a zstd frame that does not state its size (RFC 8878), its one block stored raw."""
    header = int(last) | len(content) << 3
    return b"\x28\xb5\x2f\xfd\x00\x50" + header.to_bytes(3, "little") + content


WANTED = np.arange(8, dtype="<u2")
RAW = WANTED.tobytes()
V3_ZSTD = {"compressors": ZstdCodec()}
V2_BLOSC = {"zarr_format": 2, "compressors": numcodecs.Blosc()}
V2_LZ4 = {"zarr_format": 2, "compressors": numcodecs.LZ4()}
V2_BZ2 = {"zarr_format": 2, "compressors": numcodecs.BZ2()}
V3_GZIP = {"compressors": GzipCodec()}
V2_ZLIB = {"zarr_format": 2, "compressors": numcodecs.Zlib()}


@pytest.mark.parametrize(
    ("codec", "content"),
    [
        (V3_ZSTD, zstd_frame(RAW)),
        (V3_ZSTD, zstd_frame(RAW[:6]) + zstd_frame(RAW[6:])),
        (V3_ZSTD, numcodecs.Zstd().encode(RAW[:6]) + numcodecs.Zstd().encode(RAW[6:])),
        (V3_GZIP, numcodecs.GZip().encode(RAW[:6]) + numcodecs.GZip().encode(RAW[6:]) + b"\0\0"),
        (V2_BLOSC, numcodecs.Blosc(clevel=0).encode(RAW)),
        (V2_BLOSC, numcodecs.Blosc().encode(RAW) + b"tail"),
        (V2_ZLIB, zlib.compress(RAW) + b"tail"),
    ],
    ids=[
        "unsized",
        "two-unsized",
        "two-frames",
        "two-members",
        "stored",
        "blosc-tail",
        "zlib-tail",
    ],
)
def test_streams_of_other_writers(tmp_path, codec, content):
    reader, _ = make(tmp_path, shape=(8,), chunks=(8,), **codec)
    chunk = Path(tmp_path, "deep/a", reader.meta.chunk_key((0,)))
    chunk.write_bytes(content)
    np.testing.assert_array_equal(reader.read(), WANTED)
    np.testing.assert_array_equal(reader.read((slice(None, None, 3),)), WANTED[::3])


def damaged(codec, *, extra=()):
    """Return contents that must be refused."""
    good = codec.encode(RAW)
    short, long = codec.encode(RAW[:-2]), codec.encode(RAW + b"more")
    return [b"", good[: len(good) // 2], good[:3], b"\xff" * 40, short, long, *extra]


DAMAGE = [
    ({"compressors": None}, [b"", RAW[:-1], RAW + b"x"]),
    (V3_ZSTD, damaged(numcodecs.Zstd(), extra=[zstd_frame(RAW[:-2]), zstd_frame(RAW + b"more")])),
    (V3_ZSTD, [numcodecs.Zstd().encode(RAW) * 2, zstd_frame(RAW, last=False)]),
    (V3_GZIP, damaged(numcodecs.GZip())),
    (V2_BLOSC, damaged(numcodecs.Blosc())),
    (V2_LZ4, damaged(numcodecs.LZ4())),
    (V2_BZ2, damaged(numcodecs.BZ2())),
    (V2_ZLIB, damaged(numcodecs.Zlib())),
    ({"compressors": Crc32cCodec()}, [RAW, RAW + b"abcd", RAW[:2], b""]),
    ({"compressors": [ZstdCodec(), Crc32cCodec()]}, [numcodecs.Zstd().encode(RAW) + b"abcd"]),
    ({"compressors": [BloscCodec(typesize=1), ZstdCodec()]}, [numcodecs.Zstd().encode(RAW)]),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("codec", "content"), [(codec, content) for codec, many in DAMAGE for content in many]
)
def test_damaged_chunks_are_named(tmp_path, codec, content):
    reader, _ = make(tmp_path, shape=(8,), chunks=(8,), **codec)
    key = reader.meta.chunk_key((0,))
    Path(tmp_path, "deep/a", key).write_bytes(content)
    for each in readers(reader):
        for selection in ((), (slice(1, 4),)):
            with pytest.raises(ReadError) as error:
                each.read(selection)
            message = str(error.value)
            assert f"chunk 'deep/a/{key}' of array 'deep/a' in fake://{tmp_path}" in message
            assert "wanted" in message
            assert f"got {len(content)} encoded" in message


def shard_case(tmp_path, **kwargs):
    reader, array = make(
        tmp_path, shape=(40,), chunks=(4,), shards=(40,), compressors=None, **kwargs
    )
    return reader, array, Path(tmp_path, "deep/a/c/0")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data[:20], "wanted 164 bytes at its end, got 20"),
        (lambda data: data[:-1] + b"x", "wanted the crc32c"),
        (lambda data: with_entry(data, (2**60, 8)), "got|wanted"),
        (lambda data: with_entry(data, (0, 2**60)), "wanted at most"),
        (lambda data: with_entry(data, (2**64 - 1, 8)), "damaged"),
        (lambda data: with_entry(data, (0, 7)), r"inner chunk \(0,\) of array"),
    ],
)
def test_damaged_shards_are_named(tmp_path, edit, message):
    reader, _, shard = shard_case(tmp_path)
    shard.write_bytes(edit(shard.read_bytes()))
    for each in readers(reader):
        for selection in ((), (slice(0, 1),)):
            with pytest.raises(ReadError, match=message) as error:
                each.read(selection)
            assert "'deep/a/c/0'" in str(error.value)


def with_entry(data, entry):
    """Replace the first entry of an index of ten inner chunks at the end, checksum and all."""
    index = np.frombuffer(data[-164:-4], "<u8").copy()
    index[:2] = entry
    return (
        data[:-164] + index.tobytes() + google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    )


# What is asked of the source


def test_only_the_chunks_of_the_window_are_fetched(tmp_path):
    reader, _ = make(tmp_path)
    for each in readers(reader):
        each.read((slice(3, 5), [6, 0, 6], 2))
        keys = [f"deep/a/c/{i}/{j}/0" for i in (0, 1) for j in (0, 2)]
        assert sorted(each.source.log) == [(key, None) for key in keys]


def test_an_index_is_fetched_once(tmp_path):
    reader, *_ = shard_case(tmp_path)
    for each in readers(reader):
        each.read((slice(4, 8),))
        assert each.source.log == [("deep/a/c/0", (-164, None)), ("deep/a/c/0", (8, 16))]
        each.source.log.clear()
        each.read((slice(4, 16, 8),))
        assert each.source.log == [("deep/a/c/0", (8, 32))]
        assert pickle.loads(pickle.dumps(each)).read((5,)) == 15


def test_a_distant_shard_is_fetched_whole_when_most_of_it_is_needed(tmp_path):
    reader, array, _ = shard_case(tmp_path)
    distant = readers(reader)[1]
    np.testing.assert_array_equal(distant.read((slice(0, 20),)), array[:20])
    assert distant.source.log == [("deep/a/c/0", None)]


def test_far_ranges_are_fetched_apart(tmp_path):
    shape = (40 * 2**10,)
    reader, array = make(tmp_path, shape=shape, chunks=(2**10,), shards=shape, compressors=None)
    reader.source.log.clear()
    far = np.array([0, 2**10, 39 * 2**10])
    np.testing.assert_array_equal(reader.read((far,)), array.oindex[far])
    assert [part for _, part in reader.source.log[1:]] == [(0, 4096), (39 * 2048, 40 * 2048)]


def test_memory_is_bounded_by_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("hfzarr.run.job._BATCH_REQUESTS", 3)
    sizes = []

    class Counting(FolderFake):
        def get_many(self, requests):
            sizes.append(len(requests))
            return super().get_many(requests)

    reader, array = make(tmp_path, shape=(10,), chunks=(1,))
    np.testing.assert_array_equal(
        ArrayReader(Counting(str(tmp_path), local=False), reader.meta).read(), array[...]
    )
    assert sizes == [3, 3, 3, 1]


# Threads


@pytest.mark.parametrize("kwargs", [{}, {"shards": SHARDS}], ids=["chunks", "shards"])
def test_many_threads_share_a_reader(tmp_path, monkeypatch, kwargs):
    monkeypatch.setattr("hfzarr.run.job._WORTH_A_THREAD", 1)
    reader, array = make(tmp_path, **kwargs)
    whole = np.asarray(array[...])
    for each in readers(reader):
        with ThreadPoolExecutor(8) as threads:
            for found in threads.map(lambda _, each=each: each.read(), range(40)):
                np.testing.assert_array_equal(found, whole)


def test_reading_within_the_pool_does_not_deadlock(tmp_path, monkeypatch):
    monkeypatch.setattr("hfzarr.run.job._WORTH_A_THREAD", 1)
    reader, array = make(tmp_path)
    whole, found = np.asarray(array[...]), []
    for_each(lambda _: found.append(reader.read()), range(64), width=64)
    assert len(found) == 64
    assert all(np.array_equal(one, whole) for one in found)


def test_the_first_error_stops_the_work(tmp_path):
    seen = []

    def work(item):
        seen.append(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match=r"\d"):
        for_each(work, range(1000), width=4)
    assert len(seen) <= 4


SCRIPT = """
import multiprocessing, pickle, sys
import hfzarr.run.read, hfzarr.run.job
assert not {"zarr", "numcodecs", "google_crc32c"} & set(sys.modules), "imported too early"
hfzarr.run.job._WORTH_A_THREAD = 1
reader = pickle.loads(bytes.fromhex(sys.argv[1]))
def total(_=None):
    return int(reader.read().sum())
if __name__ == "__main__":
    here = total()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(total, range(4)) == [here] * 4
    print(here)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_fork_reads_too_and_imports_are_late(tmp_path):
    from hfzarr.store.folder import FolderSource

    reader, array = make(tmp_path)
    text = pickle.dumps(ArrayReader(FolderSource(str(tmp_path)), reader.meta)).hex()
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout.strip()) == (0, str(np.asarray(array[...]).sum())), (
        run.stderr
    )


# Parity with a stranger


@pytest.mark.parametrize(
    "kwargs",
    [
        {"zarr_format": 2, "compressors": numcodecs.Blosc(), "order": "F"},
        {"zarr_format": 2, "compressors": numcodecs.Zlib(), "dtype": ">f4"},
        {"compressors": [ZstdCodec(), Crc32cCodec()]},
        {"filters": TransposeCodec(order=(1, 2, 0)), "compressors": GzipCodec()},
        {"shards": SHARDS},
    ],
    ids=["blosc-F", "zlib-big", "zstd-crc", "transposed", "sharded"],
)
def test_parity_with_tensorstore(tmp_path, kwargs):
    tensorstore = pytest.importorskip("tensorstore")
    reader, _ = make(tmp_path, **kwargs)
    driver = "zarr" if kwargs.get("zarr_format") == 2 else "zarr3"
    store = {"driver": "file", "path": f"{tmp_path}/deep/a"}
    theirs = tensorstore.open({"driver": driver, "kvstore": store}).result()
    places = [np.array([6, 0, 6]), np.array([1, 2]), np.array([4, 0])]
    np.testing.assert_array_equal(reader.read(), theirs.read().result())
    np.testing.assert_array_equal(reader.read(places), theirs.oindex[tuple(places)].read().result())
