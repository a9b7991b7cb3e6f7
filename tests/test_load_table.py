"""A store as a table: where it is cut, what arrays become, and what `datasets` makes of it."""

from __future__ import annotations

import gc
import itertools
import math
import pickle
import shutil
import threading
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore

from counting import CountingStore
from hfzarr.errors import NodeNotFoundError, StoreNotFoundError, TargetError, UnsupportedError
from servers import http_server
from stores import write_cf, write_image, zip_folder

pa = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")

from hfzarr.faces import table_builder  # noqa: E402
from hfzarr.faces.registration import need_datasets  # noqa: E402
from hfzarr.faces.table import load_table  # noqa: E402
from hfzarr.plan import row_shards  # noqa: E402
from hfzarr.plan.row_shards import Column, RowPlan, plan_rows  # noqa: E402
from hfzarr.rows.columnar import open_row_table  # noqa: E402
from hfzarr.rows.handle import ZarrHandle  # noqa: E402
from hfzarr.run.decode import ChunkDecoder  # noqa: E402
from hfzarr.store.location import locate  # noqa: E402

LENGTH = 60
MiB = 2**20


@pytest.fixture(autouse=True)
def quiet_datasets():
    need_datasets("a test")
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    yield
    if shown:
        datasets.enable_progress_bars()


def arrays(length=LENGTH):
    """Return an array of every kind that can be a column, by name."""
    draw = np.random.default_rng(7)
    return {
        "flag": draw.random((length, 2)) > 0.5,
        "label": np.arange(length, dtype="int64") * 3,
        "half": draw.normal(size=length).astype("float16"),
        "big": draw.normal(size=(length, 3)).astype(">f4"),
        "image": draw.integers(0, 60_000, (length, 4, 5)).astype("uint16"),
        "cube": draw.integers(0, 255, (length, 2, 3, 2)).astype("uint8"),
        "four": draw.normal(size=(length, 2, 1, 3, 2)),
        "five": draw.integers(-9, 9, (length, 1, 2, 1, 2, 2)).astype("int8"),
        "six": draw.integers(-9, 9, (length, 1, 2, 1, 2, 1, 2)).astype("int32"),
        "when": (np.arange(length) * 10**9).astype("datetime64[ns]"),
        "day": np.arange(length).astype("datetime64[D]"),
        "lag": np.arange(length * 2).reshape(length, 2).astype("timedelta64[ms]"),
        "name": np.array([f"é{i}" for i in range(length)]),
        "empty": np.zeros((length, 0), "float32"),
    }


def write_group(store, data=None, *, zarr_format=2, rows=7, consolidated=True):
    """Write arrays whose chunks have 7 or 14 rows; return the store."""
    group = zarr.create_group(store, zarr_format=zarr_format)
    for i, (name, values) in enumerate((data or arrays()).items()):
        chunks = (rows * (1 + i % 2), *(max(n, 1) for n in values.shape[1:]))
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)[...] = (
            values
        )
    if consolidated:
        zarr.consolidate_metadata(store)
    return store


def table_of(store, **options):
    """Return all of a store as an Arrow table, read in row shards."""
    table = open_row_table(locate(store), **options)
    shards = table_builder.row_shards(table)
    features = table_builder.features_of(table.plan.columns)
    parts = [part for _, part in table_builder.arrow_tables(shards, features)]
    return pa.concat_tables([features.arrow_schema.empty_table(), *parts])


def values_of(table, name, like):
    """Return a column as an ndarray, by way of its flat values."""
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if isinstance(column.type, pa.ExtensionType):
        column = column.storage
    while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    flat = column.to_numpy(zero_copy_only=False)
    return flat.reshape(like.shape)


# --- where a table is cut ------------------------------------------------------------------------


def column(name="a", *, chunk=1, file=None, row_bytes=1):
    return Column(
        name=name, value="uint8", cell=(), row_bytes=row_bytes, chunk=chunk, file=file or chunk
    )


@st.composite
def plans(draw):
    length = draw(st.integers(0, 400))
    made = []
    for i in range(draw(st.integers(1, 4))):
        chunk = draw(st.integers(1, 40))
        file = chunk * draw(st.integers(1, 4))
        size = draw(st.sampled_from([1, 100, MiB, 20 * MiB, 400 * MiB]))
        made.append(column(f"c{i}", chunk=chunk, file=file, row_bytes=size))
    return made, length


def counted(plan, one):
    """Return how often chunks of a column are touched, by going through all row shards."""
    return sum(len({row // one.chunk for row in range(start, stop)}) for start, stop in plan.bounds)


@given(plans(), st.none() | st.integers(1, 50))
def test_row_shards_cover_all_rows_and_tell_what_they_decode(made, rows):
    columns, length = made
    plan = plan_rows(columns, length, rows)
    covered = list(itertools.chain.from_iterable(range(*bounds) for bounds in plan.bounds))
    assert covered == list(range(length))
    for one in columns:
        assert plan.decodes(one) == counted(plan, one)
    if rows is not None:
        assert plan.shard_rows == rows


@given(plans())
def test_row_shards_fit_the_memory_and_are_whole_where_they_can(made):
    columns, length = made
    plan = plan_rows(columns, length)
    most = row_shards.MOST_BYTES
    assert plan.shard_bytes <= most or min(plan.shard_rows, length) == 1
    together = math.lcm(*(one.chunk for one in columns))
    if min(together, length) * plan.row_bytes <= most:
        assert plan.cost == 1
    files = math.lcm(*(one.file for one in columns))
    if min(files, length) * plan.row_bytes <= most:
        assert plan.shard_rows % files == 0 or len(plan.bounds) < 2


@given(plans())
def test_no_simple_cut_is_cheaper(made):
    columns, length = made
    plan = plan_rows(columns, length)
    most = max(row_shards.MOST_BYTES // plan.row_bytes, 1)
    for rows in {most, *(most // one.chunk * one.chunk for one in columns)} - {0}:
        assert plan.cost <= replace(plan, shard_rows=rows).cost + 1e-9


def test_row_shards_grow_to_what_is_worth_one_but_stay_many():
    small = column(chunk=10, row_bytes=8)
    assert plan_rows([small], 100).shard_rows == 10
    assert len(plan_rows([small], 100_000).bounds) >= row_shards.GOOD_COUNT
    large = plan_rows([column(chunk=10, row_bytes=MiB)], 100_000)
    assert large.shard_bytes == 30 * MiB


def test_chunks_without_a_common_multiple_are_cut_for_the_heavier_column():
    heavy, light = column("h", chunk=97, row_bytes=MiB), column("l", chunk=101)
    plan = plan_rows([heavy, light], 10_000)
    assert plan.shard_rows == 2 * 97
    assert 1 < plan.cost < 1.001


@pytest.mark.parametrize("rows", [0, -1, 2.5, True, "8"])
def test_rows_must_be_a_number(rows):
    with pytest.raises(TargetError, match=r"rows= is a number of rows, at least 1"):
        plan_rows([column()], 10, rows)


# --- values --------------------------------------------------------------------------------------


@st.composite
def groups(draw):
    """Draw the arrays of a group: one length, and chunks, shards and data types of any kind."""
    length = draw(st.integers(0, 30))
    made = []
    for _ in range(draw(st.integers(1, 3))):
        cell = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
        shape = (length, *cell)
        chunks = tuple(draw(st.integers(1, max(n, 1) + 2)) for n in shape)
        dtype = draw(st.sampled_from(["u1", ">i4", "f2", "?", "f8", "M8[s]", "U3", "i8"]))
        shard = draw(st.sampled_from([None, (2,) * len(shape)]))
        made.append((shape, chunks, dtype, shard, draw(st.integers(0, length))))
    return made, draw(st.sampled_from([2, 3])), draw(st.none() | st.integers(1, 12))


def write_drawn(made, zarr_format):
    """Write a drawn group: some last rows of each array are never written."""
    store = MemoryStore()
    group = zarr.create_group(store, zarr_format=zarr_format)
    for i, (shape, chunks, dtype, shard, written) in enumerate(made):
        shards = None
        if shard and zarr_format == 3:
            shards = tuple(n * k for n, k in zip(chunks, shard, strict=True))
        fill = {"U": "x", "M": np.datetime64(5, "s"), "b": True}.get(np.dtype(dtype).kind, 3)
        array = group.create_array(
            f"a{i}", shape=shape, chunks=chunks, dtype=dtype, shards=shards, fill_value=fill
        )
        count = np.arange(math.prod(shape)).reshape(shape) % 251
        kind = np.dtype(dtype).kind
        data = count.astype("i8").astype(dtype) if kind == "M" else count.astype(dtype)
        array[:written] = data[:written]
    return store


@settings(max_examples=60)
@given(groups())
def test_values_are_those_that_zarr_python_reads(drawn):
    made, zarr_format, rows = drawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = write_drawn(made, zarr_format)
        group = zarr.open_group(store, mode="r")
        wanted = {name: array[...] for name, array in group.arrays()}
    table = table_of(store, rows=rows)
    assert table.column_names == sorted(wanted)
    for name, like in wanted.items():
        assert len(table) == len(like)
        np.testing.assert_array_equal(values_of(table, name, like).astype(like.dtype), like)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_every_kind_of_array_is_a_column(tmp_path, zarr_format):
    data = arrays()
    if zarr_format == 3:
        # zarr-python has no v3 of these in every version.
        data = {k: v for k, v in data.items() if v.dtype.kind not in "Mm"}
    place = write_group(tmp_path / "x.zarr", data, zarr_format=zarr_format)
    table = load_table(place, cache_dir=str(tmp_path / "cache"))
    assert table.num_rows == LENGTH
    assert table.split == "train"
    for name, like in data.items():
        came = values_of(table.data.table, name, like)
        np.testing.assert_array_equal(came.astype(like.dtype), like)
    assert table.with_format("numpy")[3]["image"].tolist() == data["image"][3].tolist()


def test_features_say_shape_and_type(tmp_path):
    place = write_group(tmp_path / "x.zarr")
    value, many = datasets.Value, datasets.List
    lists = value("int32")
    for length in (2, 1, 2, 1, 2, 1):
        lists = many(lists, length=length)
    assert load_table(place, streaming=True).features == {
        "big": many(value("float32"), length=3),
        "cube": datasets.Array3D((2, 3, 2), "uint8"),
        "day": value("timestamp[s]"),
        "empty": many(value("float32")),
        "five": datasets.Array5D((1, 2, 1, 2, 2), "int8"),
        "flag": many(value("bool"), length=2),
        "four": datasets.Array4D((2, 1, 3, 2), "float64"),
        "half": value("float16"),
        "image": datasets.Array2D((4, 5), "uint16"),
        "label": value("int64"),
        "lag": many(value("duration[ms]"), length=2),
        "name": value("string"),
        "six": lists,
        "when": value("timestamp[ns]"),
    }


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_text_of_any_length_is_text(zarr_format):
    store = MemoryStore()
    group = zarr.create_group(store, zarr_format=zarr_format)
    words = np.array([["a", "bé"], ["", "long" * 9], ["x", "y"]], dtype=object)
    group.create_array("words", shape=(3, 2), chunks=(2, 1), dtype=str)[...] = words
    assert table_of(store)["words"].to_pylist() == words.tolist()


def test_times_that_are_none_are_null():
    store = MemoryStore()
    times = np.array(["2001-02-03", "NaT"], "M8[s]")
    group = zarr.create_group(store, zarr_format=2)
    group.create_array("t", shape=(2,), chunks=(1,), dtype="M8[s]")[...] = times
    came = table_of(store)["t"].to_pylist()
    assert came[0].isoformat() == "2001-02-03T00:00:00"
    assert came[1] is None


def test_what_is_stored_is_what_comes():
    store = write_cf(MemoryStore())
    stored = zarr.open_array(store, path="air", mode="r")[...]
    assert stored.dtype == "int16"
    came = table_of(store, columns=["air"])
    np.testing.assert_array_equal(values_of(came, "air", stored), stored)


def test_bytes_are_bytes():
    store = MemoryStore()
    group = zarr.create_group(store, zarr_format=2)
    group.create_array("code", shape=(3,), chunks=(2,), dtype="S3")[...] = [b"ab", b"", b"def"]
    assert table_of(store)["code"].to_pylist() == [b"ab", b"", b"def"]


# --- which arrays --------------------------------------------------------------------------------


def test_lengths_that_differ_are_listed():
    store = MemoryStore()
    group = zarr.create_group(store)
    for name, shape in {"a": (4, 2), "b": (4,), "lon": (6,), "crs": ()}.items():
        group.create_array(name, shape=shape, dtype="i4")
    with pytest.raises(TargetError) as raised:
        load_table(store)
    text = str(raised.value)
    for line in ("  a    4 rows", "  b    4 rows", "  lon  6 rows", "  crs  no axis 0"):
        assert line in text.splitlines()
    assert "columns=['a', 'b']" in text
    assert table_of(store, columns=["b", "a"]).column_names == ["b", "a"]
    with pytest.raises(TargetError, match=r"the arrays in columns= differ"):
        load_table(store, columns=["a", "lon"])


def test_arrays_deeper_down_are_named_by_their_path():
    store = MemoryStore()
    group = zarr.create_group(store)
    group.create_array("a", data=np.arange(3))
    group.create_group("in").create_array("b", data=np.arange(3) * 2)
    assert table_of(store).column_names == ["a"]
    assert table_of(store, columns=["in/b", "a"])["in/b"].to_pylist() == [0, 2, 4]
    assert table_of(store, group="in").column_names == ["b"]
    with pytest.raises(NodeNotFoundError, match=r"no array 'c'.*\['a', 'in'\]"):
        load_table(store, columns=["c"])
    with pytest.raises(NodeNotFoundError, match="no array 'in'"):
        load_table(store, columns=["in"])


def test_a_group_of_groups_says_what_is_there():
    store = MemoryStore()
    zarr.create_group(store).create_group("train").create_array("x", data=np.arange(2))
    with pytest.raises(TargetError, match=r"holds no arrays.*\['train'\].*group="):
        load_table(store)


def test_an_array_alone_is_a_table_of_one_column(tmp_path):
    zarr.create_array(tmp_path / "heights.zarr", data=np.arange(6).reshape(3, 2))
    assert table_of(tmp_path / "heights.zarr").column_names == ["heights"]
    with pytest.raises(TargetError, match="the one column 'heights'"):
        load_table(tmp_path / "heights.zarr", columns="x")
    group = zarr.create_group(MemoryStore())
    array = group.create_array("x", data=np.arange(4))
    assert table_of(array)["x"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["c8", [("a", "i4"), ("b", "f4")]])
def test_what_arrow_cannot_say_is_refused_by_name(dtype):
    store = MemoryStore()
    group = zarr.create_group(store, zarr_format=2)
    group.create_array("fine", data=np.arange(3))
    group.create_array("odd", shape=(3,), dtype=np.dtype(dtype), chunks=(2,))
    with pytest.raises(UnsupportedError, match=r"array 'odd' has the data type.*columns="):
        load_table(store)
    assert table_of(store, columns=["fine"]).column_names == ["fine"]


def test_a_time_beyond_arrow_is_refused(tmp_path):
    group = zarr.create_group(tmp_path / "x.zarr", zarr_format=2)
    group.create_array("t", shape=(2,), chunks=(2,), dtype="M8[D]")[...] = np.array(
        [1, 2**62], "M8[D]"
    )
    # Ours, not the DatasetGenerationError that datasets makes of it.
    with pytest.raises(OSError, match=r"column 't' cannot become 'timestamp\[s\]'.*columns="):
        load_table(tmp_path / "x.zarr", cache_dir=str(tmp_path / "cache"))


def test_no_store_is_an_error(tmp_path):
    with pytest.raises(StoreNotFoundError):
        load_table(tmp_path / "none.zarr")


# --- what is read --------------------------------------------------------------------------------


def test_each_chunk_is_fetched_once():
    store = CountingStore(write_group(MemoryStore()))
    table = load_table(store, streaming=True)
    store.forget()
    assert len(list(table)) == LENGTH
    asked = Counter(store.chunks)
    # Of 9 chunks of 7 rows, or 5 of 14, in turn; an array without pixels has none to fetch.
    assert len(asked) == 7 * 9 + 7 * 5 - 5
    assert set(asked.values()) == {1}


@pytest.fixture
def decoded(monkeypatch):
    """Count how often each chunk is decoded."""
    counts: Counter = Counter()
    lock = threading.Lock()
    real = ChunkDecoder._guarded

    def counting(self, data, out, place):
        with lock:
            counts[str(place)] += 1
        return real(self, data, out, place)

    monkeypatch.setattr(ChunkDecoder, "_guarded", counting)
    return counts


def test_each_inner_chunk_of_a_shard_is_decoded_once(tmp_path, decoded):
    group = zarr.create_group(tmp_path / "x.zarr")
    shapes = {
        "a": ((100, 6), (5, 3), (10, 6)),
        "b": ((100,), (4,), (20,)),
        "c": ((100,), (8,), None),
    }
    for name, (shape, chunks, shards) in shapes.items():
        group.create_array(name, shape=shape, chunks=chunks, shards=shards, dtype="i4")[...] = 1
    table = load_table(tmp_path / "x.zarr", streaming=True)
    assert table.num_shards == 3  # of 40 rows
    assert len(list(table)) == 100
    assert len(decoded) == 40 + 25 + 13
    assert set(decoded.values()) == {1}


def test_a_cost_that_memory_forces_is_stated(tmp_path, decoded, monkeypatch):
    zarr.create_group(tmp_path / "x.zarr").create_array(
        "a", data=np.arange(4000, dtype="i4").reshape(100, 40), chunks=(100, 10)
    )
    monkeypatch.setattr(row_shards, "MOST_BYTES", 25 * 160)
    with pytest.warns(
        RuntimeWarning, match=r"4 row shards of 25 rows \(4000 bytes\).* 4 times"
    ) as said:
        table = load_table(tmp_path / "x.zarr", streaming=True)
    assert said[0].filename == __file__
    assert [row["a"][0] for row in table] == list(range(0, 4000, 40))
    assert set(decoded.values()) == {4}


def test_rows_are_what_the_caller_says(tmp_path):
    place = write_group(tmp_path / "x.zarr", {"a": np.arange(60)}, rows=10)
    assert load_table(place, streaming=True, rows=20).num_shards == 3
    with pytest.warns(RuntimeWarning, match="chunks of 10 rows"):
        assert load_table(place, streaming=True, rows=3).num_shards == 20


def test_a_plan_prints_its_cost(tmp_path):
    place = write_group(tmp_path / "x.zarr", {"a": np.arange(60)}, rows=10)
    text = repr(open_row_table(locate(place), rows=15))
    assert "60 rows of ['a'], 4 row shards of 15 rows and 120 bytes" in text
    assert "decoded 1.33 times" in text


def test_pieces_are_no_larger_than_arrow_counts(tmp_path, monkeypatch):
    place = write_group(tmp_path / "x.zarr", {"a": np.arange(60), "b": np.ones((60, 3))}, rows=60)
    monkeypatch.setattr("hfzarr.rows.columnar._PIECE_BYTES", 320)
    table = open_row_table(locate(place))
    pieces = list(table.arrow(0, 60))
    assert [len(one[0]) for one in pieces] == [10] * 6
    assert table_of(place)["a"].to_pylist() == list(range(60))


# --- with datasets -------------------------------------------------------------------------------


def labels(table):
    return [row["label"] for row in table]


WANTED = arrays()["label"].tolist()


def test_a_stream_is_shuffled_divided_and_resumed(tmp_path):
    place = write_group(tmp_path / "x.zarr", {k: arrays()[k] for k in ("label", "image")})
    from datasets.distributed import split_dataset_by_node

    table = load_table(place, streaming=True)
    assert table.num_shards == 5
    assert labels(table) == WANTED
    shuffled = labels(table.shuffle(seed=3, buffer_size=8))
    assert shuffled != WANTED
    assert sorted(shuffled) == WANTED
    parts = [split_dataset_by_node(table, rank=rank, world_size=5) for rank in range(5)]
    assert sorted(itertools.chain.from_iterable(map(labels, parts))) == WANTED
    assert all(len(labels(part)) in (14, 4) for part in parts)
    stream = load_table(place, streaming=True)
    seen = [row["label"] for row in itertools.islice(stream, 20)]
    state = stream.state_dict()
    again = load_table(place, streaming=True)
    again.load_state_dict(state)
    assert seen + labels(again) == WANTED


def test_workers_of_a_dataloader_share_the_row_shards(tmp_path):
    data = pytest.importorskip("torch.utils.data")
    place = write_group(tmp_path / "x.zarr", {k: arrays()[k] for k in ("label", "image")})
    table = load_table(place, streaming=True).with_format("torch")
    loader = data.DataLoader(table, batch_size=5, num_workers=2, multiprocessing_context="fork")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of fork, with threads
        batches = list(loader)
    assert sorted(np.concatenate([batch["label"] for batch in batches]).tolist()) == WANTED
    assert batches[0]["image"].shape == (5, 4, 5)


def test_a_stream_pickles_small_and_without_secrets(tmp_path):
    place = write_group(tmp_path / "x.zarr", {"label": arrays()["label"]})
    location = replace(locate(place), storage_options={"token": "hf_secret", "anon": False})
    table = open_row_table(location)
    assert b"hf_secret" not in pickle.dumps(table)
    assert "hf_secret" not in repr(table)
    stream = load_table(place, streaming=True)
    state = pickle.dumps(stream)
    assert len(state) < 20_000
    assert labels(pickle.loads(state)) == WANTED


# On Python 3.13, a pipe of `multiprocess` lets go of its buffers in the wrong order.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_processes_write_the_cache_together(tmp_path):
    place = write_group(tmp_path / "x.zarr", {"label": arrays()["label"]})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of fork, with threads
        table = load_table(place, cache_dir=str(tmp_path / "cache"), num_proc=2)
    gc.collect()
    assert labels(table) == WANTED


def test_the_cache_is_used_until_a_chunk_changes(tmp_path):
    cache = str(tmp_path / "cache")
    place = write_group(tmp_path / "x.zarr", {"label": arrays()["label"]})
    first = load_table(place, cache_dir=cache)
    assert load_table(str(place), cache_dir=cache).cache_files == first.cache_files
    assert load_table(place, cache_dir=cache, rows=14).cache_files == first.cache_files
    zarr.open_group(place)["label"][0] = 99
    assert labels(load_table(place, cache_dir=cache)) == [99, *WANTED[1:]]
    shutil.rmtree(place)
    write_group(place, {"other": np.arange(4)})
    assert load_table(place, cache_dir=cache).column_names == ["other"]


def test_nothing_of_a_store_in_memory_is_taken_from_the_cache(tmp_path):
    store = write_group(MemoryStore(), {"label": arrays()["label"]})
    assert labels(load_table(store, cache_dir=str(tmp_path))) == WANTED
    zarr.open_group(store)["label"][0] = 99
    assert labels(load_table(store, cache_dir=str(tmp_path))) == [99, *WANTED[1:]]


def test_any_kind_of_store(tmp_path):
    place = write_group(tmp_path / "x.zarr", {"label": arrays()["label"]})
    targets = [
        place,
        str(place),
        f"file://{place}",
        zip_folder(place, tmp_path / "x.zarr.zip"),
        ZarrHandle(str(place)),
        zarr.open_group(place),
        zarr.open_group(place)["label"],
        LocalStore(place),
        {"path": str(place)},
    ]
    for target in targets:
        assert labels(load_table(target, streaming=True)) == WANTED, target


def test_a_level_of_an_image_over_http(tmp_path):
    write_image(LocalStore(tmp_path / "x.zarr"))
    like = zarr.open_array(tmp_path / "x.zarr", path="0", mode="r")[...]
    pytest.importorskip("aiohttp")
    with http_server(tmp_path) as (url, asked):
        table = load_table(f"{url}/x.zarr", columns="0", streaming=True)
        rows = [np.asarray(row["0"]) for row in table]
    np.testing.assert_array_equal(np.stack(rows), like)
    chunks = Counter(path for path in asked if "/c/" in path)
    assert set(chunks.values()) == {1}


def test_no_rows_are_a_table_of_no_rows(tmp_path):
    zarr.create_group(tmp_path / "x.zarr").create_array("a", shape=(0, 3), dtype="f4")
    assert list(load_table(tmp_path / "x.zarr", streaming=True)) == []
    table = load_table(tmp_path / "x.zarr", cache_dir=str(tmp_path / "cache"))
    assert table.num_rows == 0
    assert table.features == {"a": datasets.List(datasets.Value("float32"), length=3)}


# --- load_dataset("zarr") ------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("how", ["data_files", "data_dir", "zip"])
def test_load_dataset_loads_the_same(tmp_path, how, zarr_format, streaming):
    data = {k: arrays()[k] for k in ("label", "image")}
    place = write_group(tmp_path / "x.zarr", data, zarr_format=zarr_format)
    named = {
        "data_files": {"data_files": f"{place}/{'zarr.json' if zarr_format == 3 else '.zgroup'}"},
        "data_dir": {"data_dir": str(place)},
        "zip": {"data_files": str(zip_folder(place, tmp_path / "x.zarr.zip"))},
    }[how]
    loaded = datasets.load_dataset(
        "zarr", **named, streaming=streaming, cache_dir=str(tmp_path / "cache"), split="train"
    )
    table = load_table(place, streaming=True)
    assert loaded.features == table.features
    assert list(loaded) == list(table)
    if streaming:
        assert loaded.num_shards == table.num_shards


def test_load_dataset_takes_splits_options_and_several_stores(tmp_path):
    label = arrays()["label"]
    for name, part in {"a": label[:20], "b": label[20:50], "c": label[50:]}.items():
        data = {"label": part, "other": np.zeros(3), "deep": part}
        write_group(tmp_path / name / "x.zarr", data, zarr_format=3, rows=5)
    files = {
        "train": [f"{tmp_path}/a/**/zarr.json", f"{tmp_path}/b/x.zarr/zarr.json"],
        "test": f"{tmp_path}/c/x.zarr/zarr.json",
    }
    loaded = datasets.load_dataset(
        "zarr", data_files=files, columns=["label"], rows=10, streaming=True
    )
    assert labels(loaded["train"]) == label[:50].tolist()
    assert labels(loaded["test"]) == label[50:].tolist()
    assert loaded["train"].num_shards == 5
    zarr.open_group(tmp_path / "b/x.zarr").create_array("wide", data=np.ones((30, 2)))
    zarr.open_group(tmp_path / "a/x.zarr").create_array("wide", data=np.ones((20, 3)))
    with pytest.raises(TargetError, match="stores of one table have the same columns"):
        datasets.load_dataset("zarr", data_files=files["train"], columns=["wide"], streaming=True)


def test_load_dataset_sees_that_a_chunk_changed(tmp_path):
    place = write_group(tmp_path / "x.zarr", {"label": arrays()["label"]}, zarr_format=3)
    options = {
        "data_files": f"{place}/zarr.json",
        "cache_dir": str(tmp_path / "cache"),
        "split": "train",
    }
    assert labels(datasets.load_dataset("zarr", **options)) == WANTED
    zarr.open_group(place)["label"][0] = 99
    assert labels(datasets.load_dataset("zarr", **options)) == [99, *WANTED[1:]]


def test_load_dataset_casts_to_features(tmp_path):
    place = write_group(tmp_path / "x.zarr", {"label": arrays()["label"] % 2}, zarr_format=3)
    features = datasets.Features({"label": datasets.ClassLabel(names=["no", "yes"])})
    loaded = datasets.load_dataset(
        "zarr", data_files=f"{place}/zarr.json", features=features, streaming=True, split="train"
    )
    assert loaded.features == features
    assert labels(loaded)[:3] == [0, 1, 0]


def test_load_dataset_of_what_is_no_store_says_what_to_give(tmp_path):
    (tmp_path / "a.txt").write_text("no store")
    with pytest.raises(TargetError, match=r"data_files='…/x.zarr/zarr.json'.*a.txt"):
        datasets.load_dataset("zarr", data_dir=str(tmp_path), streaming=True)


def test_the_plan_of_real_columns_is_the_plan_of_their_chunks():
    table = open_row_table(locate(write_group(MemoryStore(), {"a": np.ones((60, 2), "f4")})))
    assert table.plan == RowPlan(
        columns=(Column(name="a", value="float32", cell=(2,), row_bytes=8, chunk=7, file=7),),
        length=60,
        shard_rows=7,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": []}, "columns= names arrays"),
        ({"columns": [3]}, "columns= names arrays"),
        ({"columns": 3}, "columns= names arrays"),
        ({"group": 3}, "group= is the path"),
        ({"split": ""}, "split= is a name"),
        ({"split": "a b"}, "split= is a name"),
        ({"num_proc": 0}, "num_proc= is a number"),
        ({"num_proc": "two"}, "num_proc= is a number"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(TargetError, match=message):
        load_table("nowhere.zarr", **options)
