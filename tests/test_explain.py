"""What `explain` promises is what then happens; and it reads no chunk to know it."""

from __future__ import annotations

import gc
import math
import tempfile
import threading
import time
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore

from counting import CountingStore
from hfzarr.errors import TargetError, UnsupportedError
from hfzarr.faces.patches import PLAN_KEY
from hfzarr.faces.selected import plan_of
from hfzarr.plan.tasks import tasks
from hfzarr.run.decode import ChunkDecoder
from hfzarr.run.tasks import cut_of, run_threaded, shared_blocks
from hfzarr.store.folder import FolderSource
from hfzarr.store.source import Source
from hfzarr.store.wrapped import ZarrSource
from hfzarr.store.zipped import ZipSource
from stores import write_image, zip_folder

some = settings(deadline=None, max_examples=60)
DIMS = ("z", "y", "x")
# Stores of examples, which are no tests of their own; it goes when Python does.
FOLDER = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


# --- a source that notes what is asked -----------------------------------------------------------


@dataclass
class NotingSource:
    """Hands requests on, and notes each with the bytes that came."""

    source: Any
    gets: list[tuple[str, Any, int]] = field(default_factory=list)
    absent: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def __getattr__(self, name):
        return getattr(self.source, name)

    def get(self, key, byte_range=None):
        return self.get_many([(key, byte_range)])[0]

    def get_many(self, requests):
        replies = self.source.get_many(requests)
        with self.lock:
            for (key, byte_range), reply in zip(requests, replies, strict=True):
                self.gets.append((key, byte_range, len(reply or b"")))
                self.absent += reply is None
        return replies


def noted(variable: xr.Variable) -> NotingSource:
    """Let a lazy variable read through a source that notes."""
    found = plan_of(variable)
    assert found is not None
    reader = found[0]
    reader.source = NotingSource(reader.source)
    return reader.source


class Decodes:
    """Counts the chunks that are decoded, while it is entered."""

    def __enter__(self):
        self.count, self._lock = 0, threading.Lock()
        self._plain = ChunkDecoder.decode, ChunkDecoder.decode_into

        def counted(call):
            def counting(*args, **kwargs):
                with self._lock:
                    self.count += 1
                    self._depth.value = getattr(self._depth, "value", 0) + 1
                    self.count -= self._depth.value > 1
                try:
                    return call(*args, **kwargs)
                finally:
                    self._depth.value -= 1

            return counting

        self._depth = threading.local()
        ChunkDecoder.decode, ChunkDecoder.decode_into = map(counted, self._plain)
        return self

    def __exit__(self, *_):
        ChunkDecoder.decode, ChunkDecoder.decode_into = self._plain


# --- stores --------------------------------------------------------------------------------------


@dataclass
class Stored:
    """A Dataset over a store of one array, and what is in it."""

    dataset: xr.Dataset
    folder: Path
    full: bool


def write(folder, shape, chunks, shards, zarr_format=3, full=True, dtype="u2") -> None:
    array = zarr.create_array(
        LocalStore(folder),
        name="a",
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=dtype,
        zarr_format=zarr_format,
        fill_value=0,
        dimension_names=DIMS[-len(shape) :] if zarr_format == 3 else None,
        attributes={"_ARRAY_DIMENSIONS": list(DIMS[-len(shape) :])} if zarr_format == 2 else {},
        overwrite=True,
    )
    rng = np.random.default_rng(0)
    values = rng.integers(1, 200, shape).astype(dtype)
    if not full:
        values[tuple(slice(n // 2, None) for n in shape)] = 0
        values[: shape[0] // 3] = 0
    array[...] = values


def opened(folder, kind: str) -> xr.Dataset:
    target: Any = str(folder)
    if kind == "remote":
        # What zarr-python's stores wrap is taken to be far away.
        target = CountingStore(LocalStore(folder))
    elif kind == "zip":
        target = str(zip_folder(Path(folder), Path(folder).with_suffix(".zarr.zip")))
    return xr.open_dataset(target, engine="hfzarr", consolidated=False, chunks=None)


@st.composite
def stores(draw):
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=3)))
    chunks = tuple(draw(st.integers(1, n + 1)) for n in shape)
    zarr_format = draw(st.sampled_from([2, 3, 3]))
    shards = None
    if zarr_format == 3 and draw(st.booleans()):
        shards = tuple(n * draw(st.integers(1, 3)) for n in chunks)
    full = draw(st.booleans())
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name), "s.zarr")
    write(folder, shape, chunks, shards, zarr_format, full)
    kind = draw(st.sampled_from(["folder", "remote", "zip"]))
    return Stored(opened(folder, kind), folder, full)


@st.composite
def selections(draw, sizes):
    chosen: dict[Any, Any] = {}
    for dim, n in sizes.items():
        how = draw(st.sampled_from(["all", "part", "step", "back", "list", "one"]))
        start = draw(st.integers(0, n - 1))
        if how == "part":
            chosen[dim] = slice(start, draw(st.integers(start + 1, n)))
        elif how == "step":
            chosen[dim] = slice(start, n, draw(st.integers(1, 4)))
        elif how == "back":
            chosen[dim] = slice(None, None, -draw(st.integers(1, 3)))
        elif how == "list":
            chosen[dim] = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=6))
        elif how == "one":
            chosen[dim] = start
    return chosen


def check(cost, name, source, decodes, delivered, full):
    found = cost[name]
    assert found.kind == "store"
    if found.estimated:
        # Of more shards than these the indexes are not read, and not all of its numbers are exact.
        assert found.shards > 64
        return
    assert found.requests == len(source.gets)
    assert found.bytes_fetched == sum(nbytes for _, _, nbytes in source.gets)
    assert found.bytes_delivered == delivered
    if full:
        assert found.chunk_decodes == decodes
    else:
        assert found.chunk_decodes >= decodes


# --- selections ----------------------------------------------------------------------------------


@some
@given(st.data(), stores())
def test_a_selection_costs_what_it_said(data, stored):
    chosen = data.draw(selections(stored.dataset.sizes))
    dataset = stored.dataset.isel(chosen)
    cost = dataset.hfzarr.explain()
    variable = dataset["a"].variable
    meta = plan_of(variable)[0].meta
    places = np.arange(math.prod(meta.shape)).reshape(meta.shape)
    places = xr.DataArray(places, dims=stored.dataset["a"].dims)
    pixels = np.unravel_index(np.ravel(places.isel(chosen)), meta.shape)
    source = noted(variable)
    with Decodes() as decodes:
        values = dataset["a"].variable.values
    check(cost, "a", source, decodes.count, values.nbytes, stored.full)
    touched = {
        tuple(int(i) // n for i, n in zip(place, meta.inner_chunk, strict=True))
        for place in zip(*pixels, strict=True)
    }
    found = cost["a"]
    assert found.chunks == found.chunk_decodes == len(touched)
    assert found.bytes_decoded == len(touched) * math.prod(meta.inner_chunk) * 2
    if meta.shard is None:
        keys = [stored.folder / "a" / meta.chunk_key(chunk) for chunk in touched]
        assert found.bytes_stored == sum(key.stat().st_size for key in keys if key.exists())
        assert found.bytes_fetched == found.bytes_stored
        assert found.shards == 0
    else:
        per = [a // b for a, b in zip(meta.shard, meta.inner_chunk, strict=True)]
        shards = {tuple(i // n for i, n in zip(c, per, strict=True)) for c in touched}
        assert found.shards == len(shards)
        assert found.bytes_stored <= found.bytes_fetched


def test_points_and_turned_arrays(tmp_path):
    write(tmp_path, (8, 8), (2, 3), (4, 6))
    points = {"y": xr.DataArray([0, 7, 7], dims="p"), "x": xr.DataArray([1, 0, 1], dims="p")}
    selections = (
        lambda dataset: dataset.isel(points),
        lambda dataset: dataset.transpose(),
        lambda dataset: dataset.transpose().isel(x=3),
        lambda dataset: dataset.isel(y=[5, 1]),
    )
    for select in selections:
        lazy = select(opened(tmp_path, "folder"))
        cost = lazy.hfzarr.explain()
        source = noted(lazy["a"].variable)
        with Decodes() as decodes:
            values = lazy["a"].variable.values
        check(cost, "a", source, decodes.count, values.nbytes, True)
        assert cost.chunks == decodes.count


def test_what_is_in_memory_or_dask_asks_for_nothing(tmp_path):
    write(tmp_path, (8, 8), (2, 4), None)
    dataset = opened(tmp_path, "folder")
    loaded = dataset.load().hfzarr.explain()
    assert (loaded["a"].kind, loaded.requests, loaded.chunks, loaded.bytes_decoded) == (
        "memory", 0, 0, 0,
    )  # fmt: skip
    chunked = opened(tmp_path, "folder").chunk(y=4, x=8).hfzarr.explain()
    assert (chunked["a"].kind, chunked.requests, chunked.chunks) == ("dask", 0, 2)
    assert chunked.bytes_decoded == chunked.bytes_delivered == 128


def test_decoded_variables_count_stored_bytes(tmp_path):
    dataset = xr.Dataset({"t": (("y", "x"), np.linspace(0, 1, 48).reshape(6, 8))})
    packed = {"dtype": "i2", "scale_factor": 0.001, "_FillValue": -9, "chunks": (3, 4)}
    dataset.to_zarr(tmp_path / "s", encoding={"t": packed}, zarr_format=3, consolidated=False)
    lazy = opened(tmp_path / "s", "folder")
    cost = lazy.isel(x=slice(0, 4)).hfzarr.explain()
    assert (cost.chunks, cost.bytes_decoded) == (2, 2 * 3 * 4 * 2)
    assert cost.bytes_delivered == 6 * 4 * lazy.t.dtype.itemsize
    cost = lazy.hfzarr.explain({"y": 3, "x": 8})
    assert (cost.chunks, cost.chunk_decodes, cost.requests) == (4, 4, 4)
    assert cost.bytes_decoded == 6 * 8 * 2


# --- patches -------------------------------------------------------------------------------------


def run_sharing(job, windows: set[int] | None = None) -> int:
    """Carry out the tasks one after the other, as they share blocks; return how many.

    With windows, only the tasks that make their patches.
    """
    sources, count = shared_blocks(job), 0
    for task in tasks(job.plan):
        if windows is None or windows & set(range(task.group.first, task.group.stop)):
            cut_of(job, task)(sources[task.array])
            count += 1
    return count


@st.composite
def windows(draw, sizes):
    edge = draw(st.sampled_from(["drop", "shift", "pad"]))
    size = {dim: draw(st.integers(1, n)) for dim, n in sizes.items()}
    stride = {dim: draw(st.integers(1, n + 2)) for dim, n in size.items()}
    max_memory = draw(st.sampled_from([1, 500, 5000, 1 << 24]))
    options = {"size": size, "max_memory": max_memory}
    if draw(st.booleans()):
        return options | {"stride": stride, "edge": edge}
    return options | {"n": draw(st.integers(1, 20)), "seed": draw(st.integers(0, 9))}


def patches_of(dataset, options):
    made = dataset.hfzarr.random_patches if "n" in options else dataset.hfzarr.patches
    return made(**options)


@some
@given(st.data(), stores())
def test_patches_cost_what_they_said(data, stored):
    dataset, options = stored.dataset, data.draw(windows(stored.dataset.sizes))
    cost = dataset.hfzarr.explain(**options)
    patches = patches_of(dataset, options)
    assert patches.hfzarr.explain()["a"] == cost["a"]
    job = patches.encoding[PLAN_KEY][1]
    source = noted(dataset["a"].variable)
    with Decodes() as decodes:
        count = run_sharing(job)
    check(cost, "a", source, decodes.count, patches["a"].nbytes, stored.full)
    assert count == cost.groups
    graph = dict(patches["a"].data.__dask_graph__())
    # Besides tasks, a graph holds the source that they read from.
    assert cost.tasks == len(graph) - 1 == cost.groups == patches["a"].data.npartitions
    assert cost.bytes_one_by_one >= cost["a"].chunks * cost.bytes_decoded // cost.chunk_decodes
    left_out = {d: patches[f"{d}_start"].attrs.get("left_out", 0) for d in options["size"]}
    assert dict(cost.left_out) == {d: n for d, n in left_out.items() if n}


@settings(deadline=None, max_examples=25)
@given(st.data(), stores(), st.sampled_from(["threads", "dask"]))
def test_threads_decode_what_was_said(data, stored, how):
    """Where nothing has to go before its time."""
    assume(stored.full)
    options = data.draw(windows(stored.dataset.sizes)) | {"max_memory": 1 << 24}
    cost = stored.dataset.hfzarr.explain(**options)
    patches = patches_of(stored.dataset, options)
    with Decodes() as decodes:
        if how == "dask":
            patches.compute(scheduler="threads")
        else:
            for _ in run_threaded(patches.encoding[PLAN_KEY][1]):
                pass
    assert decodes.count == cost.chunk_decodes


@settings(deadline=None, max_examples=25)
@given(st.data(), stores())
def test_some_patches_cost_less(data, stored):
    assume(stored.full)
    options = data.draw(windows(stored.dataset.sizes))
    patches = patches_of(stored.dataset, options)
    count = patches.sizes["patch"]
    numbers = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=5))
    some_of_them = patches.isel(patch=numbers)
    cost = some_of_them.hfzarr.explain()
    assert cost.groups <= len(set(numbers))
    job = patches.encoding[PLAN_KEY][1]
    with Decodes() as decodes:
        groups = run_sharing(job, set(numbers))
    assert cost.chunk_decodes == decodes.count
    assert cost.groups == cost.tasks == groups
    assert cost.bytes_delivered == math.prod([len(set(numbers)), *patches["a"].shape[1:]]) * (
        patches["a"].dtype.itemsize
    )
    if options["max_memory"] == 1 << 24:
        with Decodes() as decodes:
            some_of_them.compute(scheduler="sync")
        assert cost.chunk_decodes == decodes.count


def test_of_patches_that_lost_their_numbers_nothing_is_told():
    dataset = xr.Dataset({"a": (("x",), np.arange(9))}).chunk(x=3)
    patches = dataset.hfzarr.patches({"x": 3})
    assert patches.hfzarr.explain().groups == 1
    with pytest.raises(TargetError, match="'patch'"):
        patches.drop_vars("patch").hfzarr.explain()
    with pytest.raises(TargetError, match="'patch'"):
        patches.assign_coords(patch=[7, 8, 9]).hfzarr.explain()


def test_several_variables_and_what_comes_along(tmp_path):
    group = zarr.create_group(tmp_path, attributes={})
    for name, dims in (("a", ("y", "x")), ("b", ("y", "x")), ("c", ("t",))):
        array = group.create_array(
            name, shape=(8,) * len(dims), chunks=(4,) * len(dims), dtype="u1", dimension_names=dims
        )
        array[...] = 1
    dataset = opened(tmp_path, "folder")
    cost = dataset.hfzarr.explain({"y": 4, "x": 4}, stride=2)
    assert [one.name for one in cost.variables] == ["a", "b", "c"]
    assert [one.chunks for one in cost.variables] == [4, 4, 2]
    assert cost["c"].tasks == 0
    assert cost.tasks == 2 * cost.groups
    fewer = dataset.hfzarr.patches({"y": 4, "x": 4}, stride=2)[["b"]].hfzarr.explain()
    assert [one.name for one in fewer.variables] == ["b"]
    assert fewer["b"] == cost["b"]


def test_nothing_chosen_costs_nothing(tmp_path):
    write(tmp_path, (8, 8), (4, 4), None)
    patches = opened(tmp_path, "folder").hfzarr.patches({"y": 4, "x": 4})
    cost = patches.isel(patch=[]).hfzarr.explain()
    assert (cost.requests, cost.chunks, cost.groups, cost.tasks) == (0, 0, 0, 0)
    assert (cost.bytes_decoded, cost.bytes_delivered, cost["a"].bytes_distinct) == (0, 0, 0)
    assert not cost.estimated
    loaded = patches.load().hfzarr.explain()
    assert (loaded.requests, loaded.bytes_decoded) == (0, 0)


def test_an_array_without_axes(tmp_path):
    zarr.create_array(tmp_path, name="a", shape=(), dtype="i4")[...] = 5
    cost = opened(tmp_path, "folder").hfzarr.explain()
    assert (cost.requests, cost.chunks, cost.bytes_decoded) == (1, 1, 4)


def test_what_others_read_is_said_to_be_unknown(tmp_path):
    dataset = xr.Dataset({"a": (("x",), np.arange(12))})
    dataset.to_zarr(tmp_path, encoding={"a": {"chunks": (4,)}}, zarr_format=3, consolidated=False)
    lazy = xr.open_dataset(tmp_path, engine="zarr", consolidated=False, chunks=None)
    assert lazy.hfzarr.explain()["a"].kind == "other"
    cost = lazy.hfzarr.explain({"x": 2})
    assert (cost["a"].kind, cost.requests, cost.chunks) == ("other", 0, 3)
    assert "another library" in str(cost)


def test_codecs_that_only_zarr_knows(tmp_path):
    codecs = pytest.importorskip("zarr.codecs.numcodecs", reason="zarr 3.1.3 is the first with it")
    for name, shards in (("a", None), ("b", (8,))):
        array = zarr.create_array(
            tmp_path / name, name="a", shape=(16,), chunks=(4,), shards=shards, dtype="i4",
            filters=[codecs.Delta(dtype="i4")], dimension_names=("x",),
        )  # fmt: skip
        array[...] = np.arange(16)
        lazy = opened(tmp_path / name, "folder")
        for cost in (lazy.hfzarr.explain(), lazy.hfzarr.explain({"x": 4})):
            assert (cost.chunks, cost.bytes_decoded) == (4, 64)
            files = (tmp_path / name / "a" / "c").iterdir()
            size = sum(file.stat().st_size for file in files)
            assert cost.bytes_stored == size
            assert cost.estimated == (shards is not None)


def test_dask_blocks_are_chunks():
    array = np.arange(144, dtype="u2").reshape(12, 12)
    dataset = xr.Dataset({"a": (("y", "x"), array)}).chunk(y=5, x=4)
    cost = dataset.hfzarr.explain({"y": 4, "x": 4}, stride=2, max_memory=200)
    assert (cost["a"].kind, cost.requests, cost.chunks, cost.chunk_decodes) == ("dask", 0, 9, 9)
    assert cost.bytes_decoded == array.nbytes
    patches = dataset.hfzarr.patches({"y": 4, "x": 4}, stride=2, max_memory=200)
    assert cost.tasks == len(dict(patches["a"].data.__dask_graph__()))


# --- batches -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.data(), stores(), st.booleans(), st.integers(0, 2))
def test_batches_cost_what_they_said(data, stored, shuffle, epoch):
    options = data.draw(windows(stored.dataset.sizes))
    options |= {"batch_size": data.draw(st.integers(1, 4)), "shuffle": shuffle, "prefetch": 0}
    options["max_memory"] = data.draw(st.sampled_from([60_000, 1 << 24]))
    options["seed"] = 3
    try:
        batches = stored.dataset.hfzarr.batches(**options)
    except TargetError:
        # Too little memory, and that is what explaining says too.
        with pytest.raises(TargetError):
            stored.dataset.hfzarr.explain(**options)
        return
    cost = stored.dataset.hfzarr.explain(**options, epoch=epoch)
    batches.set_epoch(epoch)
    source = noted(stored.dataset["a"].variable)
    with Decodes() as decodes:
        nbytes = sum(batch["a"].nbytes for batch in batches)
    check(cost, "a", source, decodes.count, nbytes, stored.full)
    assert cost.peak_memory == batches.memory


def test_ranks_share_an_epoch(tmp_path):
    write(tmp_path, (16, 16), (4, 4), None)
    dataset = opened(tmp_path, "folder")
    options = {"size": {"y": 4, "x": 4}, "batch_size": 2, "world_size": 2, "drop_last": True}
    ranks = [dataset.hfzarr.explain(rank=rank, **options) for rank in range(2)]
    assert [one.bytes_delivered for one in ranks] == [8 * 32] * 2
    assert sum(one.chunks for one in ranks) == 16


# --- nothing is read -----------------------------------------------------------------------------

ASKED = (
    {},
    {"size": {"y": 6, "x": 6}, "stride": 3},
    {"size": {"y": 6, "x": 6}, "n": 5, "seed": 0},
    {"size": {"y": 6, "x": 6}, "batch_size": 2},
)


@pytest.mark.parametrize("options", ASKED)
@pytest.mark.parametrize("shards", [None, (8, 8)])
def test_no_chunk_is_read(options, shards):
    memory = MemoryStore()
    array = zarr.create_array(
        memory, name="a", shape=(16, 16), chunks=(4, 4), shards=shards, dtype="u1",
        dimension_names=("y", "x"),
    )  # fmt: skip
    array[...] = 1
    store = CountingStore(memory)
    dataset = xr.open_dataset(store, engine="hfzarr", consolidated=False, chunks=None)
    store.forget()
    source = noted(dataset["a"].variable)
    cost = dataset.hfzarr.explain(**options)
    assert 9 <= cost.chunks <= 16
    if shards is None:
        assert store.requests == 0
    else:
        # The indexes of the shards: 4 entries of 16 bytes, and a checksum.
        assert [(byte_range, n) for _, byte_range, n in source.gets] == [((-68, None), 68)] * 4
        assert len(store.chunks) == 4


def test_no_local_file_of_a_chunk_is_opened(tmp_path, monkeypatch):
    write(tmp_path, (16, 16), (4, 4), None)
    dataset = opened(tmp_path, "folder")
    source = noted(dataset["a"].variable)
    for options in ASKED:
        dataset.hfzarr.explain(**options)
    assert source.gets == []


def test_of_many_chunks_some_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("hfzarr.run.survey._MOST_FILES", 16)
    monkeypatch.setattr("hfzarr.run.survey._MOST_SHARDS", 4)
    for name, shards in (("a", None), ("b", (16, 16))):
        write(tmp_path / name, (128, 128), (4, 4), shards)
        dataset = opened(tmp_path / name, "folder")
        for options in ASKED:
            cost = dataset.hfzarr.explain(**options)
            assert cost["a"].chunk_decodes >= cost.chunks > 0
            if "n" in options:
                continue
            assert {"bytes_stored", "bytes_fetched"} <= set(cost["a"].estimates)
            assert "chunks" not in cost["a"].estimates
            assert cost.notes
            assert "~" in str(cost)
            monkeypatch.undo()
            exact = dataset.hfzarr.explain(**options)
            monkeypatch.setattr("hfzarr.run.survey._MOST_FILES", 16)
            monkeypatch.setattr("hfzarr.run.survey._MOST_SHARDS", 4)
            assert not exact.estimated
            for name in ("requests", "bytes_stored", "bytes_fetched"):
                assert getattr(cost, name) == pytest.approx(getattr(exact, name), rel=0.15)
    source = noted(dataset["a"].variable)
    dataset.hfzarr.explain()
    assert len(source.gets) == 4


def test_of_many_windows_some_are_looked_at(tmp_path, monkeypatch):
    write(tmp_path, (96, 96), (4, 4), (8, 8))
    dataset = opened(tmp_path, "folder")
    asked = [
        {"size": {"y": 6, "x": 6}, "stride": 3, "max_memory": 20_000},
        {"size": {"y": 6, "x": 6}, "n": 900, "seed": 0, "max_memory": 20_000},
        {"size": {"y": 6, "x": 6}, "stride": 3, "batch_size": 2, "max_memory": 20_000},
    ]
    exact = [dataset.hfzarr.explain(**options) for options in asked]
    monkeypatch.setattr("hfzarr.plan.passes._MOST_GROUPS", 40)
    monkeypatch.setattr("hfzarr.plan.passes._MOST_ROWS", 2000)
    monkeypatch.setattr("hfzarr.faces.explain._MOST_WINDOWS", 500)
    for options, wanted in zip(asked, exact, strict=True):
        cost = dataset.hfzarr.explain(**options)
        assert {"chunk_decodes", "requests", "amplification"} <= set(cost["a"].estimates)
        assert "in part" in str(cost)
        assert (cost.bytes_delivered, cost.bytes_one_by_one) == (
            wanted.bytes_delivered,
            wanted.bytes_one_by_one,
        )
        assert cost.chunks <= 24 * 24
        assert cost.shards <= 12 * 12
        # The borders of a part weigh much in something so small.
        for name in ("chunk_decodes", "bytes_decoded", "tasks", "bytes_stored"):
            assert getattr(cost, name) == pytest.approx(getattr(wanted, name), rel=0.4), name
        assert cost.peak_memory == pytest.approx(wanted.peak_memory, rel=0.5)


def test_a_huge_selection_is_looked_at_in_part(tmp_path, monkeypatch):
    write(tmp_path, (64, 64), (2, 2), (8, 8))
    exact = opened(tmp_path, "folder").hfzarr.explain()
    monkeypatch.setattr("hfzarr.run.survey._MOST_CHUNKS", 300)
    found = opened(tmp_path, "folder").hfzarr.explain()
    assert set(found["a"].estimates) >= {"chunks", "requests", "amplification"}
    assert found.chunks == exact.chunks == 1024
    assert found.shards == exact.shards
    assert found.requests == pytest.approx(exact.requests, rel=0.1)


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 32, "max_memory": "24 MiB"},
        {"stride": 64, "max_memory": "64 MiB"},
        {"stride": 16, "max_memory": "12 MiB"},
        {"n": 150, "seed": 0, "max_memory": "24 MiB"},
    ],
)
def test_the_peak_of_memory(options, tmp_path):
    write(tmp_path, (128, 256, 256), (32, 64, 64), (64, 128, 128))
    dataset = opened(tmp_path, "folder")
    options |= {"size": {"z": 32, "y": 64, "x": 64}}
    patches = patches_of(dataset, options)
    cost = dataset.hfzarr.explain(**options)
    assert patches.hfzarr.explain().peak_memory == cost.peak_memory
    job = patches.encoding[PLAN_KEY][1]
    gc.collect()
    tracemalloc.start()
    try:
        for _ in run_threaded(job):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= cost.peak_memory <= 2.2 * peak


# --- options -------------------------------------------------------------------------------------


def test_unknown_options_are_named():
    dataset = xr.Dataset({"a": (("x",), np.arange(9))})
    with pytest.raises(TargetError, match=r"patches\(\) has no option strides"):
        dataset.hfzarr.explain({"x": 3}, strides=2)
    with pytest.raises(TargetError, match=r"random_patches\(\) has no option stride"):
        dataset.hfzarr.explain({"x": 3}, n=2, stride=2)
    with pytest.raises(TargetError, match=r"batches\(\) has no option foo, bar"):
        dataset.hfzarr.explain({"x": 3}, batch_size=2, foo=2, bar=1)
    with pytest.raises(TargetError, match=r"stride.*size="):
        dataset.hfzarr.explain(stride=2)
    with pytest.raises(TargetError, match="epoch"):
        dataset.hfzarr.explain({"x": 3}, epoch=2)
    with pytest.raises(TargetError, match="epoch"):
        dataset.hfzarr.explain({"x": 3}, batch_size=2, epoch=-1)
    with pytest.raises(TargetError, match="stride"):
        dataset.hfzarr.explain({"x": 3}, stride=0)


def test_options_are_those_of_the_methods():
    dataset = xr.Dataset({"a": (("x",), np.arange(9))})
    drawn = dataset.hfzarr.explain(
        {"x": 3}, n=4, seed=1, where=xr.DataArray([0] * 5 + [1] * 4, dims="x")
    )
    assert drawn.bytes_delivered == 4 * 3 * 8
    padded = dataset.hfzarr.explain({"x": 4}, edge="pad")
    assert (padded.bytes_delivered, padded["a"].bytes_distinct) == (12 * 8, 9 * 8)
    assert dataset.hfzarr.explain({"x": 4}).left_out == (("x", 1),)


# --- trees ---------------------------------------------------------------------------------------


def test_a_tree(tmp_path):
    write_image(tmp_path)
    tree = xr.open_datatree(tmp_path, engine="hfzarr", chunks=None)
    options = {"size": {"y": 8, "x": 8}, "levels": [0, 1], "labels": ["nuclei"]}
    cost = tree.hfzarr.explain(**options)
    patches = tree.hfzarr.patches(**options)
    assert cost.variables == patches.hfzarr.explain().variables
    assert {one.name for one in cost.variables} == {"image", "image_1", "nuclei"}
    assert cost.bytes_delivered == sum(patches[one.name].nbytes for one in cost.variables)
    with Decodes() as decodes:
        patches.compute(scheduler="sync")
    assert decodes.count == cost.chunk_decodes
    batches = tree.hfzarr.explain(**options, batch_size=4)
    assert batches.chunk_decodes == cost.chunk_decodes
    whole = tree.hfzarr.explain()
    names = [one.name for one in whole.variables]
    assert "0/image" in names
    assert any(name.startswith("labels/nuclei/0") for name in names)
    where = tree.hfzarr.explain(size={"z": 2, "y": 8, "x": 8}, n=3, seed=0, where="nuclei")
    assert where["image"].bytes_delivered == 3 * 2 * 2 * 8 * 8 * 2


# --- sizes of objects ----------------------------------------------------------------------------


def sources(tmp_path) -> dict[str, Source]:
    write(tmp_path / "s", (6, 6), (3, 3), None)
    (tmp_path / "s" / "empty").write_bytes(b"")
    folder = tmp_path / "s"
    memory = MemoryStore()
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    for file in folder.rglob("*"):
        if file.is_file():
            key = file.relative_to(folder).as_posix()
            memory._store_dict[key] = buffer.from_bytes(file.read_bytes())
    return {
        "folder": FolderSource(str(folder)),
        "zip": ZipSource(str(zip_folder(folder, tmp_path / "s.zip"))),
        "deflated": ZipSource(
            str(zip_folder(folder, tmp_path / "d.zip", compression=8, root="r/"))
        ),
        "memory": ZarrSource(memory),
        "wrapped": ZarrSource(CountingStore(CountingStore(LocalStore(folder)))),
        "local": ZarrSource(LocalStore(folder)),
    }


def test_sizes_are_those_of_what_is_read(tmp_path):
    common = ["a/c/0/0", "a/c/0/1", "a/zarr.json", "empty", "nothing", "a/c/0/0/x"]
    for name, source in sources(tmp_path).items():
        assert isinstance(source, Source)
        # What zarr-python says of folders is its own affair.
        keys = common if isinstance(source, ZarrSource) else [*common, "a", ""]
        data = [source.get(key) for key in keys]
        assert source.sizes(keys) == [None if one is None else len(one) for one in data], name
        assert source.sizes([]) == []


def test_a_store_that_tells_no_sizes_is_not_read(tmp_path):
    write(tmp_path / "s", (8, 8), (4, 4), None)
    zip_folder(tmp_path / "s", tmp_path / "s.zip")
    with zarr.storage.ZipStore(tmp_path / "s.zip", mode="r") as store:
        with pytest.raises(UnsupportedError, match="only by reading"):
            ZarrSource(store).sizes(["a/c/0/0"])
        dataset = xr.open_dataset(store, engine="hfzarr", consolidated=False, chunks=None)
        cost = dataset.hfzarr.explain()
    assert cost.bytes_stored == cost.bytes_decoded == 128
    assert "bytes_stored" in cost["a"].estimates
    assert "only by reading" in str(cost)


# --- large plans ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["grid", "drawn", "batches"])
def test_a_million_patches_are_explained_in_seconds(kind, tmp_path):
    zarr.create_array(
        LocalStore(tmp_path),
        name="a",
        shape=(3232,) * 3,
        chunks=(64,) * 3,
        shards=(256,) * 3,
        dtype="u2",
        dimension_names=DIMS,
    )
    dataset = opened(tmp_path, "folder")
    options: dict[str, Any] = {"size": dict.fromkeys(DIMS, 64)}
    options |= {"n": 10**6, "seed": 0} if kind == "drawn" else {"stride": 32}
    if kind == "batches":
        options["batch_size"] = 32
    began = time.perf_counter()
    cost = dataset.hfzarr.explain(**options)
    took = time.perf_counter() - began
    assert cost.bytes_delivered == 10**6 * 64**3 * 2
    assert cost.chunks == pytest.approx(51**3, rel=0.1)
    # Some seconds, on a machine that has little else to do.
    assert took < 60
