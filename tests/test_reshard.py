"""Resharding: the same array, whatever it was and whatever it becomes, in as few reads as told."""

from __future__ import annotations

import contextlib
import json
import math
import re
import tempfile
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path
from unittest import mock

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from zarr.core.dtype import VariableLengthBytes
from zarr.storage import LocalStore, MemoryStore

import hfzarr
from counting import CountingStore
from hfzarr.errors import (
    HfzarrError,
    NodeNotFoundError,
    ReadError,
    TargetError,
    UnsupportedError,
    VerificationError,
)
from hfzarr.plan.routes import TooLittleMemory, plan_array
from hfzarr.run.decode import ChunkDecoder
from hfzarr.run.encode import ChunkEncoder
from hfzarr.run.read import ArrayReader
from hfzarr.run.shard_file import ShardFile
from hfzarr.store.sink import WORK
from reshard_strategies import (
    FIXED,
    RECORDS,
    STRINGS,
    TEXTS,
    TIMES,
    Layout,
    bits,
    files_of,
    layouts,
    lengths,
    native,
    present,
    sample,
)
from stores import write_image

try:
    from zarr.testing import strategies as zst
except pytest.fail.Exception:
    # zarr-python 3.1.0 marks with "gpu" when it is imported, and marks are strict here.
    zst = None

tensorstore = pytest.importorskip("tensorstore", reason="compares with tensorstore")

some = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
few = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


@contextlib.contextmanager
def two_folders():
    """Give a source and a target that are gone afterwards, for each example anew."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "a"), Path(folder, "b")


def reshard(source, target, **options):
    options = {"progress": False, "verify": "full", "client": "serial", **options}
    with warnings.catch_warnings():
        # zarr-python warns of records and fixed-length texts, which have no specification in v3.
        warnings.filterwarnings("ignore", category=_unstable())
        return hfzarr.reshard(source, target, **options)


def _unstable():
    import zarr.errors

    return getattr(zarr.errors, "UnstableSpecificationWarning", UserWarning)


def check(layout, source, target, wanted):
    """Check that a target is the source again, for every library that reads it."""
    found = Layout.read(target)
    values = np.asarray(found[...])
    assert values.shape == wanted.shape
    assert native(values.dtype) == native(wanted.dtype)
    assert bits(values) == bits(wanted)
    check_document(layout, source, target)
    check_engine(target, wanted)
    if layout.dtype in FIXED:
        check_tensorstore(target, wanted)
    assert not (target / WORK).exists()


def check_document(layout, source, target):
    before, after = Layout.read(source), Layout.read(target)
    assert after.metadata.zarr_format == 3
    attrs = {key: value for key, value in after.attrs.items() if key != "_FillValue"}
    assert attrs == {k: v for k, v in before.attrs.items() if k != "_ARRAY_DIMENSIONS"}
    if layout.zarr_format == 3:
        assert "_FillValue" not in after.attrs
    assert (after.metadata.dimension_names or ()) == layout.dims
    fill = before.metadata.fill_value
    if fill is not None:
        dtype = before.dtype
        assert bits(np.asarray(after.fill_value, dtype)) == bits(np.asarray(fill, dtype))


def check_engine(target, wanted):
    with xr.open_dataset(
        target, engine="hfzarr", mask_and_scale=False, decode_times=False
    ) as dataset:
        [name] = dataset.data_vars
        values = dataset[name].values
    assert values.shape == wanted.shape
    if wanted.dtype.kind not in "Mm":
        assert bits(values) == bits(wanted)


def check_tensorstore(target, wanted):
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{target}/"}}
    values = tensorstore.open(spec, read=True).result().read().result()
    assert values.shape == wanted.shape
    assert bits(np.asarray(values)) == bits(wanted)


# --- the same array again ------------------------------------------------------------------------


@some
@given(layouts(), st.data())
def test_any_array_in_any_shape(layout, data):
    wishes = {
        "inner_chunk": data.draw(st.none() | lengths(layout), label="inner_chunk"),
        "shard": data.draw(
            st.sampled_from(["auto", None, "100 B", "1 kB"]) | lengths(layout), label="shard"
        ),
        "codecs": data.draw(
            st.sampled_from([None, None, "zstd:1", "blosc:lz4", "none", ["gzip", "crc32c"]]),
            label="codecs",
        ),
        "client": data.draw(st.sampled_from(["serial", "threads"]), label="client"),
    }
    wishes = {key: value for key, value in wishes.items() if value != {}}
    with two_folders() as (source, target):
        wanted = layout.write(source)
        reshard(source, target, **wishes)
        check(layout, source, target, wanted)


@some
@given(layouts(), st.sampled_from(["auto", None, "50 B"]))
def test_a_repack_takes_chunks_over_as_they_are(layout, shard):
    with two_folders() as (source, target):
        wanted = layout.write(source)
        with no_codecs():
            done = reshard(source, target, shard=shard, verify=False)
        [array] = done.plan.arrays
        assert array.route == "repack"
        check(layout, source, target, wanted)
        if layout.zarr_format == 3:
            assert present(target) == present(source)
        else:
            assert sorted(present(target).values()) == sorted(chunk_files(source))
        assert done.chunks == len(present(target))


def chunk_files(source):
    files = files_of(source)
    return [data for key, data in files.items() if not key.rpartition("/")[2].startswith(".z")]


@contextlib.contextmanager
def no_codecs():
    """Let whatever decodes or encodes raise."""
    wrong = AssertionError("a repack decodes nothing")
    with contextlib.ExitStack() as stack:
        for owner, name in [
            (ArrayReader, "read"),
            (ArrayReader, "read_into"),
            (ChunkDecoder, "decode"),
            (ChunkDecoder, "decode_into"),
            (ChunkEncoder, "encode"),
        ]:
            stack.enter_context(mock.patch.object(owner, name, side_effect=wrong))
        yield


def least_memory(spec):
    """Return the fewest bytes that an array can be rewritten with."""
    low, high = 0, 2**30
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan_array(spec, task_bytes=middle)
        except TooLittleMemory:
            low = middle
        else:
            high = middle
    return high


RECHUNKED = tuple(dtype for dtype in (*FIXED, *TIMES, *TEXTS, RECORDS))


@st.composite
def transposed(draw):
    """Draw columns that are to become rows."""
    shape = (draw(st.integers(8, 32)), draw(st.integers(8, 32)))
    dtype = draw(st.sampled_from(RECHUNKED))
    layout = Layout(
        shape=shape,
        dtype=dtype,
        chunk=(shape[0], draw(st.integers(1, 3))),
        zarr_format=draw(st.sampled_from([2, 3])),
        order=draw(st.sampled_from("CF")),
        compressor=draw(st.sampled_from(["zstd", "none"])),
        written=draw(st.lists(st.booleans(), max_size=3)),
    )
    layout.fill = Layout.zero_of(dtype)
    return layout


@few
@given(transposed(), st.integers(1, 3), st.data())
def test_an_intermediate_changes_nothing(layout, rows, data):
    wishes = {
        "inner_chunk": {"t": rows, "z": layout.shape[1]},
        "shard": data.draw(st.sampled_from([None, "2 kB", {"t": 2 * rows}]), label="shard"),
    }
    with two_folders() as (source, target):
        wanted = layout.write(source)
        spec = hfzarr.plan_reshard(source, **wishes, client="serial").arrays[0].spec
        least = least_memory(spec)
        memory = data.draw(st.integers(least, 2 * least), label="max_memory")
        done = reshard(source, target, **wishes, max_memory=memory)
        [array] = done.plan.arrays
        assert array.peak_bytes <= memory
        assume(array.route == "rechunk")
        check(layout, source, target, wanted)


def test_one_byte_less_than_the_least_is_refused(tmp_path):
    layout = Layout(shape=(60, 50), dtype="<f8", chunk=(60, 1))
    wanted = layout.write(tmp_path / "a")
    wishes = {"inner_chunk": (1, 50), "shard": None, "client": "serial"}
    spec = hfzarr.plan_reshard(tmp_path / "a", **wishes).arrays[0].spec
    least = least_memory(spec)
    # A source chunk and an inner chunk, each as stored and as decoded, and a band.
    assert least < 6 * 60 * 8
    with pytest.raises(TargetError, match=r"array '/'.*max_memory"):
        reshard(tmp_path / "a", tmp_path / "b", **wishes, max_memory=least - 1)
    assert not (tmp_path / "b").exists()
    reshard(tmp_path / "a", tmp_path / "b", **wishes, max_memory=least)
    check(layout, tmp_path / "a", tmp_path / "b", wanted)


def test_strings_with_little_memory(tmp_path):
    layout = Layout(shape=(64, 64), dtype=STRINGS, chunk=(64, 1), fill="")
    wanted = layout.write(tmp_path / "a")
    wishes = {"inner_chunk": (1, 64), "shard": None, "client": "serial"}
    for memory in (45_000, 100_000, 2**20):
        target = tmp_path / str(memory)
        try:
            reshard(tmp_path / "a", target, **wishes, max_memory=memory)
        except TargetError:
            assert memory < 2**20
        else:
            check(layout, tmp_path / "a", target, wanted)


@pytest.mark.parametrize("shard", ["auto", None])
@pytest.mark.parametrize("inner_chunk", [None, (3,)])
@pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification")
def test_bytes_of_any_length(tmp_path, shard, inner_chunk):
    array = zarr.create_array(
        tmp_path / "a", shape=(8,), chunks=(2,), dtype=VariableLengthBytes(), fill_value=b""
    )
    array[...] = np.array([bytes([n]) * n for n in range(8)], dtype=object)
    reshard(tmp_path / "a", tmp_path / "b", shard=shard, inner_chunk=inner_chunk)
    found = zarr.open_array(tmp_path / "b", mode="r")
    assert found[...].tolist() == [bytes([n]) * n for n in range(8)]


@pytest.mark.parametrize("shard", ["auto", None])
@pytest.mark.parametrize("inner_chunk", [None, (3,)])
def test_long_strings_in_shards(tmp_path, shard, inner_chunk):
    array = zarr.create_array(
        tmp_path / "a", shape=(8,), chunks=(2,), shards=(4,), dtype=str, compressors=None
    )
    texts = [chr(97 + n) * 100_000 for n in range(8)]
    array[...] = np.array(texts, dtype=object)
    reshard(tmp_path / "a", tmp_path / "b", shard=shard, inner_chunk=inner_chunk)
    assert zarr.open_array(tmp_path / "b", mode="r")[...].tolist() == texts


@pytest.mark.parametrize("verify", ["sample", "full", False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shard": None},
        {"shard": (4,)},
        {"shard": (8,)},
        {"shard": None, "codecs": "zstd"},
        {"inner_chunk": (2,)},
    ],
    ids=str,
)
def test_shards_in_shards(tmp_path, options, verify):
    """What is encoded as one is a shard itself, and so may be a file of the target."""
    codecs = zarr.codecs
    inner = codecs.ShardingCodec(chunk_shape=(2,), codecs=[codecs.BytesCodec(), codecs.ZstdCodec()])
    outer = codecs.ShardingCodec(chunk_shape=(4,), codecs=[inner])
    array = zarr.create_array(
        tmp_path / "a", shape=(16,), chunks=(8,), dtype="i4", serializer=outer, compressors=None
    )
    array[...] = np.arange(16)
    if "inner_chunk" in options:
        try:
            array[:2]
        except AssertionError:
            pytest.skip("this zarr-python reads no part of a shard in a shard")
    reshard(tmp_path / "a", tmp_path / "b", verify=verify, **options)
    assert zarr.open_array(tmp_path / "b", mode="r")[...].tolist() == list(range(16))


@pytest.mark.skipif(zst is None, reason="this zarr-python's strategies cannot be imported here")
@some
@given(st.data())
def test_arrays_as_zarr_python_draws_them(data):
    array = drawn_array(data)
    with two_folders() as (_, target):
        wanted = np.asarray(array[...])
        try:
            reshard(array, target, codecs=data.draw(st.sampled_from([None, "zstd:1"])))
        except UnsupportedError:
            assume(False)
        found = Layout.read(target)
        values = np.asarray(found[...])
        assert native(values.dtype) == native(wanted.dtype)
        assert values.shape == wanted.shape
        assert bits(values) == bits(wanted)
        attrs = {k: v for k, v in found.attrs.items() if k != "_FillValue"}
        # NaN among them, which equals nothing: compared as text.
        assert json.dumps(attrs, sort_keys=True) == json.dumps(dict(array.attrs), sort_keys=True)


def drawn_array(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = zst.array_shapes.filter(lambda shape: math.prod(shape) < 500)
        try:
            return data.draw(zst.arrays(shapes=shapes, stores=st.builds(MemoryStore)))
        except (ValueError, TypeError, NotImplementedError):
            # What zarr-python draws but does not write is none of our business.
            assume(False)


# --- chunks that are not there, and those that only seem to be ------------------------------------


def with_chunks(folder, fill, chunks, **options):
    """Write an array of chunks of four, each of one value; None leaves one out."""
    options = {"dtype": "f8", "zarr_format": 3, **options}
    array = zarr.create_array(
        folder,
        shape=(4 * len(chunks),),
        chunks=(4,),
        fill_value=fill,
        config={"write_empty_chunks": True},
        **options,
    )
    for number, value in enumerate(chunks):
        if value is not None:
            array[4 * number : 4 * number + 4] = value
    return np.asarray(array[...])


@pytest.mark.parametrize("shard", ["auto", None, (8,)])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, {0, 2, 3, 4}), ({"codecs": "zstd:7"}, {2, 3})],
    ids=["repack", "transcode"],
)
def test_minus_zero_is_not_zero(tmp_path, options, kept, shard, zarr_format):
    chunks = [0.0, None, -0.0, 1.0, 0.0]
    wanted = with_chunks(tmp_path / "a", 0.0, chunks, zarr_format=zarr_format)
    done = reshard(tmp_path / "a", tmp_path / "b", shard=shard, **options)
    assert bits(zarr.open_array(tmp_path / "b", mode="r")[...]) == bits(wanted)
    assert {index for (index,) in present(tmp_path / "b")} == kept
    assert done.chunks == len(kept)


@pytest.mark.parametrize("fill", [0.0, -0.0, math.nan, 7.5, math.inf])
@pytest.mark.parametrize("codecs", [None, "none", "blosc"])
def test_fill_values_stay(tmp_path, fill, codecs):
    wanted = with_chunks(tmp_path / "a", fill, [None, fill, 1.0, None, math.nan, None])
    reshard(tmp_path / "a", tmp_path / "b", codecs=codecs, shard=(8,))
    found = zarr.open_array(tmp_path / "b", mode="r")
    assert bits(found[...]) == bits(wanted)
    assert bits(np.asarray(found.fill_value)) == bits(np.asarray(fill))
    check_tensorstore(tmp_path / "b", wanted)


@pytest.mark.parametrize("shard", ["auto", None])
@pytest.mark.parametrize(("edge", "kept"), [(7, {0, 1}), (5, {0, 1, 2})])
def test_what_sticks_out_of_an_array_is_the_fill_value(tmp_path, edge, kept, shard):
    """Not what the chunk before it left in memory."""
    array = zarr.create_array(tmp_path / "a", shape=(10,), chunks=(5,), dtype="u1", fill_value=7)
    array[...] = [1, 2, 3, 4, 5, 6, 8, 9, edge, edge]
    reshard(tmp_path / "a", tmp_path / "b", inner_chunk=(4,), codecs="none", shard=shard)
    found = present(tmp_path / "b")
    assert set(found) == {(index,) for index in kept}
    assert list(found.get((2,), [5, 5, 7, 7])) == [5, 5, 7, 7]


def test_nan_of_other_bits_is_not_the_fill_value(tmp_path):
    odd = np.frombuffer(b"\x01\x00\x00\x00\x00\x00\xf8\xff", "<f8")[0]
    wanted = with_chunks(tmp_path / "a", math.nan, [odd, math.nan])
    assert len(set(bits(wanted))) == 2
    reshard(tmp_path / "a", tmp_path / "b", codecs="none")
    assert bits(zarr.open_array(tmp_path / "b", mode="r")[...]) == bits(wanted)


def test_an_array_without_chunks_becomes_one_without_files(tmp_path):
    wanted = with_chunks(tmp_path / "a", 3.0, [None] * 5)
    for number, codecs in enumerate([None, "none"]):
        done = reshard(tmp_path / "a", tmp_path / str(number), codecs=codecs)
        assert list(files_of(tmp_path / str(number))) == ["zarr.json"]
        assert (done.files, done.chunks) == (1, 0)
        assert bits(zarr.open_array(tmp_path / str(number), mode="r")[...]) == bits(wanted)


# --- a whole store -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return write_image(tmp_path_factory.mktemp("image") / "image.zarr", zarr_format=2)


def nodes_of(folder, **options):
    group = zarr.open_group(folder, mode="r", **options)
    return {path: node.metadata for path, node in group.members(max_depth=None)}


def arrays_of(folder):
    with zarr.config.set({"async.concurrency": 4}):
        group = zarr.open_group(folder, mode="r", use_consolidated=False)
        return {
            path: node[...] for path, node in group.members(None) if isinstance(node, zarr.Array)
        }


def same_arrays(one, other):
    assert one.keys() == other.keys()
    for path, values in one.items():
        assert bits(values) == bits(other[path]), path


def test_consolidated_metadata_is_that_of_the_nodes(image, tmp_path):
    reshard(image, tmp_path / "b")
    told = nodes_of(tmp_path / "b", use_consolidated=True)
    there = nodes_of(tmp_path / "b", use_consolidated=False)
    assert told.keys() == there.keys() == nodes_of(image).keys()
    for path, metadata in there.items():
        inside, alone = told[path].to_dict(), metadata.to_dict()
        inside.pop("consolidated_metadata", None)
        alone.pop("consolidated_metadata", None)
        # NaN equals nothing, and fill values are scalars of NumPy: compared as text.
        assert str(inside) == str(alone), path
    same_arrays(arrays_of(tmp_path / "b"), arrays_of(image))


@pytest.fixture(scope="module")
def cluster_client():
    distributed = pytest.importorskip("distributed", reason="needs dask's distributed scheduler")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "30s"}),
        distributed.LocalCluster(
            processes=False,
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """A group of columns, and of more columns in a group."""
    folder = tmp_path_factory.mktemp("group") / "group.zarr"
    zarr.create_group(folder, zarr_format=2, attributes={"title": "columns"})
    Layout(shape=(60, 50), dtype="<f8", chunk=(60, 1), zarr_format=2).write(folder, "a")
    zarr.open_group(folder, mode="a").create_group("g")
    other = Layout(shape=(48, 36), dtype=">f8", chunk=(48, 2), zarr_format=2, written=[True, False])
    other.write(folder, "g/b")
    return folder


EVERYWHERE = {
    "repack": {"shard": "2 kB"},
    "transcode": {"inner_chunk": {"t": 5, "z": 7}, "shard": "4 kB"},
    "rechunk": {"inner_chunk": {"t": 1, "z": -1}, "shard": None, "max_memory": 4000},
}


@pytest.mark.parametrize("route", EVERYWHERE)
def test_everywhere_the_same(group, tmp_path, cluster_client, route):
    made = {}
    for name in ("serial", None, "threads", "dask", "cluster"):
        client = cluster_client if name == "cluster" else name
        target = tmp_path / str(name)
        done = reshard(group, target, client=client, **EVERYWHERE[route])
        assert {array.route for array in done.plan.arrays} == {route}
        assert done.tasks == done.plan.tasks
        same_arrays(arrays_of(target), arrays_of(group))
        # What is in the files, but for the order of chunks in them.
        sizes = {key: len(data) for key, data in files_of(target).items()}
        made[name] = (sizes, present(target, "a"), present(target, "g/b"))
    assert all(one == made["serial"] for one in made.values())


def test_a_cluster_of_many_small_tasks(tmp_path, cluster_client):
    wanted = with_chunks(tmp_path / "a", 0.0, list(range(300)))
    done = reshard(tmp_path / "a", tmp_path / "b", shard=None, client=cluster_client)
    assert done.plan.tasks == 300
    assert done.tasks == 300
    assert bits(zarr.open_array(tmp_path / "b", mode="r")[...]) == bits(wanted)


# --- what is read, and what is held --------------------------------------------------------------


@few
@given(layouts(dtypes=("<i2", "u1", ">f4"), empty=False), st.data())
def test_chunks_are_read_as_often_as_the_plan_says(layout, data):
    layout.shard, layout.written, layout.index_location = None, [], "end"
    wishes = {"inner_chunk": data.draw(lengths(layout)), "shard": data.draw(lengths(layout))}
    wishes = {key: value for key, value in wishes.items() if value}
    with two_folders() as (source, target):
        layout.write(source)
        store = CountingStore(LocalStore(source, read_only=True))
        spec = hfzarr.plan_reshard(store, **wishes, client="serial").arrays[0].spec
        memory = data.draw(st.sampled_from([None, least_memory(spec)]), label="memory")
        if memory is not None:
            wishes["max_memory"] = memory
        store.forget()
        done = reshard(store, target, **wishes, verify=False)
        counts = Counter(store.chunks)
        first = done.plan.arrays[0].passes[0]
        assert sum(counts.values()) <= first.reads
        chunks = np.ndindex(*(-(-n // c) for n, c in zip(layout.shape, layout.chunk, strict=True)))
        assert len(counts) == len(list(chunks))
        if memory is None or done.plan.arrays[0].route == "repack":
            assert set(counts.values()) == {1}


@pytest.mark.parametrize("shard", ["auto", (4, 64)])
def test_shards_of_the_source_are_read_once(tmp_path, shard):
    """Their index once a task, their chunks once in all."""
    layout = Layout(shape=(64, 64), dtype="<u2", chunk=(4, 4), shard=(16, 16))
    layout.write(tmp_path / "a")
    store = Ranges(LocalStore(tmp_path / "a", read_only=True))
    done = reshard(store, tmp_path / "b", shard=shard, verify=False)
    assert done.plan.arrays[0].route == "repack"
    whole = sum(len(data) for key, data in files_of(tmp_path / "a").items() if key != "zarr.json")
    index = 16 * (16 * 16 + 4)
    assert store.indexes == 16
    # Over a network, gaps between the wanted chunks are read along.
    most = 1 if shard == "auto" else 4
    assert whole <= store.nbytes <= most * (whole - index) + index


class Ranges(CountingStore):
    """Counts bytes of chunks, too."""

    def forget(self):
        super().forget()
        self.nbytes = self.indexes = 0

    async def get(self, key, prototype, byte_range=None):
        data = await super().get(key, prototype, byte_range)
        if data is not None and key.startswith("c/"):
            self.nbytes += len(data)
            self.indexes += len(data) == 16 * 16 + 4
        return data


MEMORY = [
    pytest.param({"inner_chunk": (64, 2048), "shard": (64, 2048)}, "rechunk", id="rechunk"),
    pytest.param({"codecs": "zstd:1", "shard": (2048, 1024)}, "transcode", id="transcode"),
    pytest.param({"codecs": "zstd:1", "shard": None}, "transcode", id="unsharded"),
    pytest.param({}, "repack", id="repack"),
]


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    """32 MiB in columns of 1 MiB."""
    folder = tmp_path_factory.mktemp("columns")
    array = zarr.create_array(
        folder, shape=(2048, 2048), chunks=(2048, 64), dtype="f8", compressors=None
    )
    array[...] = np.random.default_rng(0).normal(size=(2048, 2048))
    return folder


@pytest.mark.parametrize("max_memory", [10 * 2**20, 20 * 2**20])
@pytest.mark.parametrize("verify", [False, "full"])
@pytest.mark.parametrize(("options", "route"), MEMORY)
def test_memory_is_kept(columns, tmp_path, options, route, verify, max_memory):
    options = {**options, "max_memory": max_memory, "verify": verify}
    done, peak = traced(lambda: reshard(columns, tmp_path / "b", **options))
    assert done.plan.arrays[0].route in (route, "transcode")
    assert done.plan.peak_bytes <= max_memory
    # Two pieces of 16 MiB are compared at once.
    allowed = max_memory if not verify else max(max_memory, 34 * 2**20)
    assert peak <= allowed + 2**20


@pytest.mark.parametrize("client", ["threads", "dask"])
def test_memory_is_kept_by_threads_together(columns, tmp_path, client):
    with mock.patch("hfzarr.run.execute.workers", return_value=2):
        done, peak = traced(
            lambda: reshard(
                columns,
                tmp_path / "b",
                client=client,
                inner_chunk=(64, 2048),
                shard=(64, 2048),
                max_memory=64 * 2**20,
                verify=False,
            )
        )
    assert done.plan.width == 2
    assert done.plan.peak_bytes <= 64 * 2**20
    assert peak <= 64 * 2**20


def test_memory_is_kept_for_large_chunks(tmp_path):
    """Encoded chunks that are larger than what a repack holds before it writes."""
    array = zarr.create_array(
        tmp_path / "a", shape=(2, 32 * 2**20), chunks=(1, 32 * 2**20), dtype="u1", compressors=None
    )
    for row in range(2):
        array[row] = row + 1
    try:
        done, peak = traced(
            lambda: reshard(tmp_path / "a", tmp_path / "b", max_memory="16 MiB", verify=False)
        )
    except TargetError:
        return
    assert peak <= max(16 * 2**20, done.plan.peak_bytes)
    assert done.plan.peak_bytes <= 16 * 2**20


def traced(call):
    """Return what a call returns, and the most bytes that it held."""
    tracemalloc.start()
    try:
        found = call()
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_disk_is_left_as_it_was(columns, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in columns.rglob("*")}
    wishes = {"inner_chunk": (64, 2048), "shard": None, "max_memory": 10 * 2**20}
    done = reshard(columns, tmp_path / "b", **wishes)
    assert done.plan.arrays[0].route == "rechunk"
    assert {file: file.stat().st_mtime_ns for file in columns.rglob("*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["c", "zarr.json"]


# --- what a user may ask for ---------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """An array of two axes, and a target beside it."""
    layout = Layout(shape=(10, 14), dtype="<u2", chunk=(2, 3))
    layout.write(tmp_path / "a")
    return tmp_path / "a", tmp_path / "b"


@pytest.mark.parametrize(
    ("wish", "inner"),
    [
        (None, (2, 3)),
        ({}, (2, 3)),
        ({"t": 4}, (4, 3)),
        ({"z": -1}, (2, 14)),
        ({"t": 99, "z": 99}, (10, 14)),
        ((4, 5), (4, 5)),
        ([4, -1], (4, 14)),
        ((np.int64(4), np.uint8(5)), (4, 5)),
    ],
)
def test_inner_chunks(small, wish, inner):
    done = reshard(*small, inner_chunk=wish)
    assert done.plan.arrays[0].spec.inner == inner
    found = zarr.open_array(small[1], mode="r")
    assert found.chunks == inner
    assert bits(found[...]) == bits(sample((10, 14), "<u2"))


@pytest.mark.parametrize(
    ("wish", "unit"),
    [
        ("auto", (10, 15)),
        (None, (2, 3)),
        ("1 B", (2, 3)),
        ("50 B", (2, 9)),
        ({}, (2, 3)),
        ({"t": 5}, (6, 3)),
        ({"t": -1, "z": 4}, (10, 6)),
        ((1, 1), (2, 3)),
        ((3, -1), (4, 15)),
        ([100, 100], (10, 15)),
    ],
)
def test_shards(small, wish, unit):
    done = reshard(*small, shard=wish)
    spec = done.plan.arrays[0].spec
    if wish == {}:
        assert spec.unit in ((2, 3), (10, 15))
        return
    assert spec.unit == unit
    found = zarr.open_array(small[1], mode="r")
    assert found.shards == (None if unit == (2, 3) else unit)
    assert done.plan.files_after == done.files
    assert bits(found[...]) == bits(sample((10, 14), "<u2"))


@pytest.mark.parametrize("name", ["inner_chunk", "shard"])
@pytest.mark.parametrize(
    "wish",
    [
        (4,),
        (1, 2, 3),
        [],
        (0, 1),
        (-2, 1),
        (1.0, 2),
        ("4", 4),
        (None, 4),
        {"q": 4},
        {"t": 0},
        {"t": "4"},
        {0: 4},
        4,
        4.0,
        b"ab",
        pytest.param(object(), id="object"),
        "gibberish",
        "0 B",
        "-3 MiB",
        "nan",
        "",
    ],
    ids=repr,
)
def test_lengths_that_are_none(small, name, wish):
    with pytest.raises(TargetError, match=name):
        reshard(*small, **{name: wish})
    assert not small[1].exists()


@pytest.mark.parametrize(
    ("codecs", "names"),
    [
        (None, ["bytes", "zstd"]),
        ("zstd", ["bytes", "zstd"]),
        ("zstd:5", ["bytes", "zstd"]),
        ("gzip:1", ["bytes", "gzip"]),
        ("blosc:lz4", ["bytes", "blosc"]),
        ("none", ["bytes"]),
        ([], ["bytes"]),
        ("crc32c", ["bytes", "crc32c"]),
        (["zstd:1", "crc32c"], ["bytes", "zstd", "crc32c"]),
        ({"name": "gzip", "configuration": {"level": 2}}, ["bytes", "gzip"]),
        ([{"name": "transpose", "configuration": {"order": [1, 0]}}, "zstd"], None),
        (zarr.codecs.ZstdCodec(level=4), ["bytes", "zstd"]),
        ([zarr.codecs.BytesCodec(endian="big"), zarr.codecs.GzipCodec()], ["bytes", "gzip"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("shard", ["auto", None])
def test_codecs(small, codecs, names, shard):
    done = reshard(*small, codecs=codecs, shard=shard)
    doc = json.loads((small[1] / "zarr.json").read_text())
    chain = doc["codecs"]
    if shard:
        assert [codec["name"] for codec in chain] == ["sharding_indexed"]
        chain = chain[0]["configuration"]["codecs"]
    assert [codec["name"] for codec in chain] == (names or ["transpose", "bytes", "zstd"])
    assert done.plan.arrays[0].route == ("repack" if codecs is None else "transcode")
    assert bits(zarr.open_array(small[1], mode="r")[...]) == bits(sample((10, 14), "<u2"))


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
def test_codecs_that_only_zarr_python_knows(small):
    try:
        zarr.registry.get_codec_class("numcodecs.bz2")
    except KeyError:
        with pytest.raises(HfzarrError, match=r"numcodecs\.bz2"):
            reshard(*small, codecs="numcodecs.bz2")
        return
    done = reshard(*small, codecs="numcodecs.bz2")
    assert done.plan.arrays[0].route == "transcode"
    assert bits(zarr.open_array(small[1], mode="r")[...]) == bits(sample((10, 14), "<u2"))


def test_codecs_that_are_there_already_are_no_work(small):
    codecs = ["zstd:1"]
    done = reshard(*small, codecs=codecs)
    assert done.plan.arrays[0].route == "repack"


@pytest.mark.parametrize("codecs", ["q", 4, "zstd:99", ["zstd", 3], {"name": "nope"}], ids=str)
def test_codecs_that_are_none(small, codecs):
    with pytest.raises(TargetError, match="codec"):
        reshard(*small, codecs=codecs)
    assert not small[1].exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verify": "some"}, "verify is one of"),
        ({"verify": True}, "verify is one of"),
        ({"verify": None}, "verify is one of"),
        ({"client": "cluster"}, "client is None or"),
        ({"client": 3}, "client is None or"),
        pytest.param({"client": object()}, "client is None or", id="client is an object"),
        ({"max_memory": "much"}, "max_memory"),
        ({"max_memory": 0}, "max_memory"),
        ({"max_memory": -1}, "max_memory"),
        ({"max_memory": None}, "max_memory"),
        ({"max_memory": "10 B", "codecs": "none"}, "array '/'.*max_memory"),
        ({"zarr_format": 2}, "zarr_format=2: wanted 3"),
        ({"zarr_format": "3"}, "wanted 3"),
        ({"group": "nothing"}, "nothing"),
    ],
    ids=str,
)
def test_wishes_that_cannot_be(small, options, message):
    with pytest.raises(HfzarrError, match=message):
        reshard(*small, **options)
    assert not small[1].exists()


def test_kinds_of_those_errors(small):
    with pytest.raises(UnsupportedError):
        reshard(*small, zarr_format=2)
    with pytest.raises(NodeNotFoundError):
        reshard(*small, group="nothing")
    with pytest.raises(TargetError):
        reshard(*small, verify="some")


# --- where it comes from, and where it goes ------------------------------------------------------


def test_a_target_that_is_not_empty(small):
    source, target = small
    target.mkdir()
    (target / "mine.txt").write_text("keep me")
    for resume in (True, False):
        with pytest.raises(TargetError, match=r"not empty.*mine\.txt"):
            reshard(source, target, resume=resume)
    assert files_of(target) == {"mine.txt": b"keep me"}


def test_another_store_is_not_written_over(small, tmp_path):
    source, target = small
    Layout(shape=(3,), dtype="u1", chunk=(1,)).write(target)
    before = files_of(target)
    for resume in (True, False):
        with pytest.raises(TargetError, match="not empty"):
            reshard(source, target, resume=resume)
    assert files_of(target) == before


def test_an_empty_target_is_taken(small):
    small[1].mkdir()
    assert reshard(*small).files == 2


def test_a_target_in_folders_that_are_not_there(small, tmp_path):
    target = tmp_path / "x" / "y" / "b.zarr"
    reshard(small[0], target)
    assert zarr.open_array(target, mode="r").shape == (10, 14)


@pytest.mark.parametrize("inside", [".", "deeper/b", "c", ".."])
def test_a_target_in_the_source(small, inside):
    source, _ = small
    before = files_of(source)
    with pytest.raises(TargetError, match="lie in each other"):
        reshard(source, source / inside)
    assert files_of(source) == before


def test_a_link_to_the_source(small):
    source, target = small
    target.symlink_to(source)
    with pytest.raises(TargetError, match="lie in each other"):
        reshard(source, target)


def test_a_target_that_is_a_file(small):
    source, target = small
    target.write_text("mine")
    with pytest.raises(HfzarrError, match=str(target)):
        reshard(source, target)
    assert target.read_text() == "mine"


@pytest.mark.parametrize("name", ["b.zip", "b.ozx", "b.zarr.zip"])
def test_a_target_that_is_a_zip(small, tmp_path, name):
    with pytest.raises(HfzarrError, match="zip"):
        reshard(small[0], tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(HfzarrError, match="nowhere"):
        reshard(tmp_path / "nowhere", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_source_that_is_a_file(tmp_path):
    (tmp_path / "a").write_text("no store")
    with pytest.raises(HfzarrError, match="a"):
        reshard(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("kind", ["memory", "local", "url", "text"])
def test_kinds_of_targets(small, kind):
    source, target = small
    wanted = {
        "memory": MemoryStore(),
        "local": LocalStore(target),
        "url": target.as_uri(),
        "text": str(target),
    }[kind]
    done = reshard(source, wanted)
    found = zarr.open_array(wanted if kind == "memory" else target, mode="r")
    assert bits(found[...]) == bits(sample((10, 14), "<u2"))
    assert done.files == 2
    assert done.bytes_stored > 0


def test_kinds_of_sources(small, tmp_path):
    source, _ = small
    array = zarr.open_array(source, mode="r")
    for number, one in enumerate([str(source), source.as_uri(), LocalStore(source), array]):
        reshard(one, tmp_path / str(number))
        found = zarr.open_array(tmp_path / str(number), mode="r")
        assert bits(found[...]) == bits(array[...])


def test_a_group_of_the_source(image, tmp_path):
    done = reshard(image, tmp_path / "b", group="labels")
    assert [array.path for array in done.plan.arrays] == ["nuclei/0", "nuclei/1", "nuclei/2"]
    same_arrays(arrays_of(tmp_path / "b"), arrays_of(image / "labels"))


def test_an_array_of_the_source(image, tmp_path):
    reshard(image, tmp_path / "b", group="1")
    found = zarr.open_array(tmp_path / "b", mode="r")
    assert bits(found[...]) == bits(zarr.open_array(image / "1", mode="r")[...])


@pytest.mark.parametrize(
    ("drop", "left"),
    [
        ("labels", {"0", "1", "2"}),
        (["labels/nuclei/1", "labels/nuclei/2"], {"0", "1", "2", "labels/nuclei/0"}),
        ({"2"}, {"0", "1", "labels/nuclei/0", "labels/nuclei/1"}),
        ((), {f"{path}{n}" for path in ("", "labels/nuclei/") for n in range(3)}),
    ],
)
def test_variables_that_are_left_out(image, tmp_path, drop, left):
    done = reshard(image, tmp_path / "b", drop_variables=drop)
    assert {array.path for array in done.plan.arrays} == left
    assert arrays_of(tmp_path / "b").keys() == left
    assert zarr.open_group(tmp_path / "b", mode="r", use_consolidated=True)


# --- again, and how far it is --------------------------------------------------------------------


@pytest.mark.parametrize("target_kind", ["folder", "memory"])
def test_a_complete_target_is_left_as_it_is(image, tmp_path, target_kind):
    target = tmp_path / "b" if target_kind == "folder" else MemoryStore()
    first = reshard(image, target)
    before = times_of(tmp_path)
    again = reshard(image, target)
    assert times_of(tmp_path) == before
    assert (first.tasks, again.tasks) == (first.plan.tasks, 0)
    assert (again.files, again.bytes_stored) == (first.files, first.bytes_stored)
    assert again.verified == first.verified
    assert f"{first.plan.tasks:,} done before" in str(again)


def times_of(folder):
    """Return when each file was written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_other_wishes_for_a_complete_target(small):
    reshard(*small)
    with pytest.raises(TargetError, match="not empty"):
        reshard(*small, codecs="none")
    reshard(*small, max_memory="1 GiB", verify=False, client="threads")


@pytest.mark.parametrize("client", ["serial", "threads", "dask"])
@pytest.mark.parametrize("verify", ["sample", "full", False])
@pytest.mark.parametrize("route", EVERYWHERE)
def test_progress_grows_to_its_total(group, tmp_path, client, verify, route):
    told = []
    options = dict(EVERYWHERE[route], client=client, verify=verify)
    done = reshard(group, tmp_path / "b", progress=told.append, **options)
    stages = ["reshard", "verify"] if verify else ["reshard"]
    assert list(dict.fromkeys(one.stage for one in told)) == stages
    for stage in stages:
        some = [one for one in told if one.stage == stage]
        counts = [one.done for one in some]
        assert counts == sorted(counts)
        assert counts[0] >= 1
        assert {one.total for one in some} == {counts[-1]}
        seconds = [one.seconds for one in some]
        assert seconds == sorted(seconds)
        written = [one.bytes_written for one in some]
        assert written == sorted(written)
        assert {one.bytes_total for one in some} == {done.plan.nbytes}
    assert told[-1].seconds_left == 0
    first = [one for one in told if one.stage == "reshard"][-1]
    shards = sum(array.spec.files_after for array in done.plan.arrays)
    assert first.total > shards if route == "rechunk" else first.total == shards
    assert first.bytes_written > 0


def test_a_progress_that_raises_stops_the_run(small):
    def stop(progress):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        reshard(*small, progress=stop, shard=None)
    assert not (small[1] / "zarr.json").exists()
    done = reshard(*small, shard=None)
    assert 0 < done.tasks < done.plan.tasks
    assert bits(zarr.open_array(small[1], mode="r")[...]) == bits(sample((10, 14), "<u2"))


@pytest.mark.parametrize(
    ("verify", "wanted"),
    [("full", "all, 25 encoded chunks, 280 B of pixels"), (False, "nothing")],
)
def test_what_was_compared_is_told(small, verify, wanted):
    done = reshard(*small, shard=None, verify=verify)
    assert done.verified == wanted
    assert f"verified: {wanted}" in str(done)


def test_a_sample_is_some_of_it(small):
    done = reshard(*small, shard=None, verify="sample")
    found = re.fullmatch(r"a sample, (\d+) encoded chunks, (\d+) B of pixels", done.verified)
    assert found
    assert 8 <= int(found[1]) <= 10
    assert 0 < int(found[2]) < 280


@pytest.mark.parametrize("codecs", [None, "gzip"])
def test_a_plan_promises_what_is_done(small, codecs):
    plan = hfzarr.plan_reshard(*small, codecs=codecs)
    assert not small[1].exists()
    done = reshard(*small, codecs=codecs)
    assert done.plan.arrays == plan.arrays
    assert (plan.files_before, plan.files_after) == (26, 2)
    assert (done.files, done.plan.documents) == (2, 1)
    sizes = [len(data) for data in files_of(small[1]).values()]
    assert done.bytes_stored == sum(sizes)


@pytest.mark.parametrize("route", EVERYWHERE)
def test_what_is_written_wrong_is_found(group, tmp_path, route):
    """A fault of our own: the last byte of what is compressed, or of what is copied, is another."""

    def wrong(self, positions, parts):
        return extend(self, positions, [bytes(part)[:-1] + b"\x55" for part in parts])

    extend = ShardFile.extend
    with (
        mock.patch.object(ShardFile, "extend", wrong),
        pytest.raises(HfzarrError, match=r"array 'a'.*shard|chunk"),
    ):
        reshard(group, tmp_path / "b", **EVERYWHERE[route], verify="full")
    assert not (tmp_path / "b" / "zarr.json").exists()


@pytest.mark.parametrize("verify", ["sample", "full"])
@pytest.mark.parametrize("route", ["transcode", "rechunk"])
def test_other_pixels_are_found(group, tmp_path, route, verify):
    def wrong(self, part):
        return encode(self, part + 1)

    encode = ChunkEncoder.encode
    with (
        mock.patch.object(ChunkEncoder, "encode", wrong),
        pytest.raises(VerificationError, match=r"array 'a', shard 'a/c/0/0'"),
    ):
        reshard(group, tmp_path / "b", **EVERYWHERE[route], verify=verify)
    assert not (tmp_path / "b" / "zarr.json").exists()


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"codecs": "none"}], ids=["repack", "transcode"])
def test_a_chunk_cut_short_is_named(small, options):
    source, target = small
    layout = Layout(shape=(10, 14), dtype="<u2", chunk=(2, 3), compressor="none")
    for file in files_of(source):
        (source / file).unlink()
    layout.write(source)
    (source / "c/1/2").write_bytes(b"123")
    with pytest.raises(ReadError, match=r"array '/', shard 'c/0/0'.*c/1/2"):
        reshard(source, target, **options)
    assert not (target / "zarr.json").exists()
