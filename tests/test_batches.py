"""A stream of batches: every patch once, resumable, within its memory, and no thread left."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import json
import pickle
import subprocess
import sys
import threading
import time
from copy import deepcopy

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from heldpatches import grid_source
from hfzarr.errors import MissingDependencyError, TargetError
from hfzarr.faces.batches import make_batches
from hfzarr.run.ahead import Ahead

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="torch is not installed")
# More workers than this machine has cores are no trouble here.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
quick = settings(deadline=None, max_examples=40)


def batches_of(source, batch_size=5, *, cell=(12, 12), **options):
    return make_batches(source, batch_size, cell=cell, **options)


def numbers(batches):
    return [np.asarray(batch["patch"]).tolist() for batch in batches]


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "hfzarr-ahead"]


def tight(source, batch_size=5, prefetch=2, windows=30_000):
    """Return a memory that lets a shuffle window have about so many bytes."""
    return 2 * windows + (prefetch + 3) * batch_size * source.patch_bytes


# What a batch holds


@pytest.mark.parametrize("prefetch", [0, 1, 4])
@pytest.mark.parametrize("max_memory", [1 << 30, 6_000])
def test_batches_hold_the_patches_of_their_numbers(prefetch, max_memory):
    source = grid_source(stride=3, dtypes={"image": "<u2", "labels": "|i1"})
    seen = []
    for batch in batches_of(source, 5, prefetch=prefetch, max_memory=max_memory):
        expected = source.patches(batch["patch"])
        assert list(batch) == ["image", "labels", "patch", "start"]
        assert batch["patch"].dtype == batch["start"].dtype == np.int64
        for name, patches in expected.items():
            assert batch[name].dtype == patches.dtype
            np.testing.assert_array_equal(batch[name], patches)
        np.testing.assert_array_equal(batch["start"], source.windows.starts(batch["patch"]))
        seen += batch["patch"].tolist()
    assert sorted(seen) == list(range(len(source.windows))) == list(range(49))


def test_prefetch_does_not_change_the_order():
    source = grid_source()
    orders = [numbers(batches_of(source, prefetch=n)) for n in (0, 1, 5)]
    assert orders[0] == orders[1] == orders[2]


def test_transform_is_what_one_gets():
    batches = batches_of(grid_source(), transform=lambda batch: int(batch["patch"].sum()))
    assert sum(batches) == sum(range(36))


def test_batches_of_datasets():
    def label(chosen, arrays):
        dims = ("patch", "y", "x")
        data = {name: (dims, patches) for name, patches in arrays.items()}
        return xr.Dataset(data, coords={"patch": chosen})

    source = grid_source()
    for batch in batches_of(source, to="xarray", label=label):
        assert batch.sizes["patch"] == len(batch["patch"]) <= 5
        expected = source.patches(batch["patch"].values)["image"]
        np.testing.assert_array_equal(batch["image"], expected)


# Order, ranks, epochs


def test_the_epoch_advances_after_each_completed_pass():
    batches = batches_of(grid_source(), seed=4)
    assert len(batches) == 8
    assert batches.epoch == 0
    first, second = numbers(batches), numbers(batches)
    assert batches.epoch == 2
    assert sorted(flat(first)) == sorted(flat(second))
    assert first != second
    batches.set_epoch(0)
    next(iter(batches))
    assert batches.epoch == 0
    assert numbers(batches) == first
    assert batches.epoch == 1
    batches.set_epoch(1)
    assert numbers(batches) == second


def test_the_epoch_is_that_of_the_batch_at_hand():
    batches = batches_of(grid_source())
    assert [batches.epoch for _ in batches] == [0] * 8
    assert [batches.epoch for _ in batches] == [1] * 8


def test_seeds_differ():
    assert numbers(batches_of(grid_source(), seed=0)) != numbers(batches_of(grid_source(), seed=1))


def test_without_shuffling_cell_by_cell():
    source = grid_source()
    order = flat(numbers(batches_of(source, shuffle=False)))
    cells = (source.windows.starts(order) // 12 @ [2, 1]).tolist()
    assert cells == sorted(cells)


@quick
@given(st.integers(1, 4), st.integers(1, 6), st.booleans(), st.sampled_from([3_000, 1 << 20]))
def test_ranks_share_an_epoch(world_size, batch_size, drop_last, max_memory):
    source = grid_source(length=20)
    ranks = [
        batches_of(
            source, batch_size, rank=rank, world_size=world_size, drop_last=drop_last or
            batch_size == 1, max_memory=max_memory + 5 * 64 * batch_size, cell=(8, 8),
        )
        for rank in range(world_size)
    ]  # fmt: skip
    made = [numbers(batches) for batches in ranks]
    assert (
        {len(batches) for batches in made} == {len(batches) for batches in ranks} == {len(ranks[0])}
    )
    everything = flat(flat(made))
    assert len(set(everything)) == len(everything) == 25 - ranks[0].left_out


def test_cells_under_way_are_few():
    source = grid_source(length=96)
    cell = source.held_bytes(np.arange(3)) * 3
    batches = batches_of(source, 4, max_memory=tight(source, 4, windows=2 * cell))
    read = source.windows.starts(flat(numbers(batches))) // 12 @ [8, 1]
    ends = {cell: np.flatnonzero(read == cell) for cell in range(64)}
    under_way = [
        sum(first <= i <= last for first, *_, last in ends.values()) for i in range(len(read))
    ]
    assert 1 < max(under_way) <= 3


def test_each_chunk_is_decoded_once_if_cells_hold_all():
    source = grid_source(length=48, chunk=6, size=6, stride=3)
    # Windows of one pixel stride less than a chunk reach over the edge of a cell.
    batches = batches_of(source, 4)
    numbers(batches)
    assert len(source.count.decoded) == len(set(source.count.decoded)) == 64


# Memory


@pytest.mark.parametrize(("prefetch", "shuffle"), [(0, True), (1, True), (3, True), (3, False)])
def test_memory_stays_under_its_bound(prefetch, shuffle):
    source = grid_source(length=48, stride=2)
    # Cells have up to 1296 bytes of chunks, so two of them nearly fill a shuffle window.
    max_memory = 7_200
    batches = batches_of(source, 5, prefetch=prefetch, shuffle=shuffle, max_memory=max_memory)
    assert batches.memory <= max_memory
    batch_bytes = 5 * source.patch_bytes
    for batch in batches:
        assert batch["image"].nbytes <= batch_bytes
        time.sleep(0.002)  # What is made ahead has time to be.
    assert 2_000 < source.count.most <= batches.memory - (prefetch + 3) * batch_bytes
    assert source.holds >= 8
    gc.collect()
    assert source.count.now == 0


def test_a_cell_that_is_too_big_is_cut():
    source = grid_source(length=48, stride=2)
    max_memory = tight(source, 5, windows=1_500)
    batches = batches_of(source, 5, cell=(48, 48), max_memory=max_memory)
    assert source.held_bytes(np.arange(len(source.windows))) > batches.memory
    assert sorted(flat(numbers(batches))) == list(range(len(source.windows)))
    assert source.count.most <= batches.memory


def test_batches_made_ahead_are_as_many_as_asked_for():
    made = []
    batches = batches_of(grid_source(), 2, prefetch=3, transform=lambda b: made.append(1) or b)
    iterator = iter(batches)
    next(iterator)
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 4


def test_the_next_shuffle_window_is_fetched_meanwhile():
    source = grid_source(length=48)
    batches = batches_of(source, 4, prefetch=1, max_memory=tight(source, 4, windows=4_000))
    iterator = iter(batches)
    next(iterator)
    deadline = time.monotonic() + 5
    while source.holds < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert source.holds == 2


# Resuming


@pytest.mark.parametrize("prefetch", [0, 2])
def test_resuming_at_every_batch(prefetch):
    source = grid_source(length=40)
    options = {"prefetch": prefetch, "seed": 3, "max_memory": tight(source, 5, prefetch, 3_000)}
    first = batches_of(source, 5, **options)
    whole, after = numbers(first), numbers(first)
    first.set_epoch(0)
    states = [first.state_dict()] + [first.state_dict() for _ in first]
    for done, state in enumerate(states):
        again = batches_of(source, 5, **options)
        again.load_state_dict(json.loads(json.dumps(state)))
        left = numbers(again)
        assert left == (whole[done:] or after)
        assert numbers(again) == after if left != after else True


def test_resuming_in_another_process(tmp_path):
    source = grid_source(length=40)
    batches = batches_of(source)
    state = list(itertools.islice((batches.state_dict() for _ in batches), 7))[-1]
    fresh = pickle.dumps(batches_of(source))
    (tmp_path / "batches").write_bytes(fresh)
    (tmp_path / "state").write_text(json.dumps(state))
    code = """
import json, pickle, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
batches = pickle.loads(Path(sys.argv[1], "batches").read_bytes())
batches.load_state_dict(json.loads(Path(sys.argv[1], "state").read_text()))
print(json.dumps([batch["patch"].tolist() for batch in batches]))
"""
    folder = str(next(path for path in sys.path if path.endswith("tests")))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), folder], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == numbers(batches_of(source))[7:]


def test_a_state_is_small_and_pickles_are_too():
    batches = batches_of(grid_source(length=40_000, stride=100), cell=(5000, 5000))
    assert len(json.dumps(batches.state_dict())) < 500
    assert len(pickle.dumps(batches)) < 3_000


def test_a_state_of_one_rank_is_good_for_all():
    source = grid_source()
    options = {"world_size": 2}
    zero = batches_of(source, rank=0, **options)
    state = [zero.state_dict() for _ in zero][1]
    one = batches_of(source, rank=1, **options)
    whole = numbers(one)
    one.load_state_dict(state)
    assert numbers(one) == whole[2:]


def test_done_counts_from_where_the_pass_began():
    source = grid_source()
    batches = batches_of(source)
    batches.load_state_dict({**batches.state_dict(), "done": 3})
    next(iter(batches))
    assert batches.state_dict(done=2)["done"] == 5
    assert batches.state_dict()["done"] == 4
    assert batches.state_dict(done=5) == {**batches.state_dict(), "epoch": 1, "done": 0}
    with pytest.raises(TargetError, match="6 batches cannot be done: epoch 0 has 8"):
        batches.state_dict(done=6)


def test_an_older_iterator_does_not_move_the_state():
    batches = batches_of(grid_source())
    old = iter(batches)
    next(old)
    new = iter(batches)
    next(new)
    next(old)
    assert batches.state_dict()["done"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "seed is 0 in the state and 1 here"),
        ({"batch_size": 4}, "batch_size is 5 in the state and 4 here"),
        ({"shuffle": False}, "shuffle is True"),
        ({"world_size": 2}, "world_size is 1"),
        ({"drop_last": True}, "drop_last is False"),
        ({"max_memory": 9_000}, "shuffle_bytes is"),
        ({"cell": (6, 6)}, "windows is"),
    ],
)
def test_a_state_of_other_batches(options, words):
    state = batches_of(grid_source()).state_dict()
    with pytest.raises(TargetError, match=words):
        batches_of(grid_source(), **options).load_state_dict(state)


def test_a_state_of_other_windows_and_a_torn_one():
    batches = batches_of(grid_source())
    with pytest.raises(TargetError, match="windows is"):
        batches_of(grid_source(stride=3)).load_state_dict(batches.state_dict())
    state = batches.state_dict()
    del state["seed"], state["done"]
    with pytest.raises(TargetError, match="lacks seed, done"):
        batches.load_state_dict(state)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"done": 8}, "an epoch has 8"), ({"done": -1}, "got -1"), ({"epoch": "1"}, "got '1'")],
)
def test_a_state_that_cannot_be(wrong, words):
    batches = batches_of(grid_source())
    with pytest.raises(TargetError, match=words):
        batches.load_state_dict({**batches.state_dict(), **wrong})


def test_a_state_of_workers_is_finished_with_as_many():
    batches = batches_of(grid_source())
    state = {**batches.state_dict(), "done": 3, "workers": 2}
    batches.load_state_dict(state)
    assert batches.state_dict() == state
    with pytest.raises(TargetError, match="with 2 reading processes, and there are 1 now"):
        iter(batches)
    batches.load_state_dict({**state, "done": 0})
    assert len(numbers(batches)) == 8


# Errors, and the end of threads


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_keeps_its_type(prefetch):
    source = grid_source(length=40, fail_at=3)
    batches = batches_of(
        source, prefetch=prefetch, max_memory=tight(source, 5, prefetch, windows=3_000)
    )
    seen = []
    with pytest.raises(OSError, match="the store is gone"):
        seen += (batch["patch"] for batch in batches)
    assert not threads()
    with pytest.raises(ZeroDivisionError):
        list(batches_of(grid_source(), prefetch=prefetch, transform=lambda batch: 1 // 0))
    assert not threads()


def one_batch(batches):
    for batch in batches:
        return batch


def broken(batches):
    try:
        for _ in batches:
            raise InterruptedError
    except InterruptedError:
        pass


def dropped(batches):
    iterator = iter(batches)
    next(iterator)
    del iterator


def in_a_cycle(batches):
    cycle = [iter(batches)]
    next(cycle[0])
    cycle.append(cycle)
    del cycle
    gc.collect()


def closed(batches):
    iterator = iter(batches)
    next(iterator)
    iterator.close()


@pytest.mark.parametrize("leave", [one_batch, broken, dropped, in_a_cycle, closed])
def test_leaving_early_leaves_nothing_behind(leave):
    source = grid_source(length=40, slow=0.01)
    batches = batches_of(source, 3, prefetch=2, max_memory=tight(source, 3, windows=3_000))
    leave(batches)
    assert not threads()
    gc.collect()
    assert source.count.now == 0
    assert sorted(flat(numbers(batches))) == list(range(100))
    assert not threads()
    assert source.count.now == 0


def test_an_iterator_that_is_never_asked_starts_nothing():
    source = grid_source()
    iterator = iter(batches_of(source))
    assert not threads()
    assert source.holds == 0
    del iterator


def test_a_process_ends_with_an_iterator_at_work():
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from heldpatches import grid_source
from hfzarr.faces.batches import make_batches
iterator = iter(make_batches(grid_source(), 2, cell=(6, 6)))
next(iterator)
print("end")
"""
    folder = str(next(path for path in sys.path if path.endswith("tests")))
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_ahead_raises_once_and_ends():
    def items():
        yield 1
        raise LookupError("lost")

    ahead = Ahead(items(), alive=3)
    assert next(ahead) == 1
    with pytest.raises(LookupError, match="lost"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_ahead_closes_what_it_iterates():
    ended = []

    def items():
        try:
            yield from range(5)
        finally:
            ended.append(threading.current_thread().name)

    ahead = Ahead(items(), alive=2)
    next(ahead)
    ahead.close()
    ahead.close()
    assert ended == ["hfzarr-ahead"]
    with pytest.raises(StopIteration):
        next(ahead)


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "jax"}, "not 'jax'"),
        ({"to": "xarray"}, "wants a label"),
        ({"prefetch": -1}, "prefetch to be an integer of at least 0, got -1"),
        ({"prefetch": 1.5}, "got 1.5"),
        ({"max_memory": 1_000}, "leave nothing of a max_memory of 1000"),
        ({"max_memory": 1_700}, "under one window have"),
        ({"batch_size": 0}, "batch_size"),
        ({"cell": (12,)}, "along each of 2 axes"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(TargetError, match=words):
        batches_of(grid_source(), **options)


def test_a_variable_named_like_a_part_of_a_batch():
    with pytest.raises(TargetError, match="'start', which a batch uses itself"):
        batches_of(grid_source(dtypes={"start": "<i4"}))


def test_an_epoch_below_zero():
    with pytest.raises(TargetError, match="got -2"):
        batches_of(grid_source()).set_epoch(-2)


def test_the_text_says_what_it_is():
    assert repr(batches_of(grid_source(), seed=9)) == (
        "Batches(8 batches of 5, rank 0 of 1, seed 9, epoch 0, numpy)"
    )


@pytest.mark.skipif(TORCH, reason="torch is installed")
def test_without_torch_its_name_is_told():
    with pytest.raises(MissingDependencyError, match="needs the package torch"):
        batches_of(grid_source(), to="torch")


# Of a store


@pytest.fixture
def stored(tmp_path):
    """Return a Dataset of two arrays, one sharded, and what they hold."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 2**16, (10, 40, 48)).astype("u2")
    labels = rng.integers(0, 9, (40, 48)).astype("u1")
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    kept = group.create_array(
        "image", shape=image.shape, chunks=(5, 8, 8), shards=(10, 16, 16), dtype="u2",
        dimension_names=("z", "y", "x"),
    )  # fmt: skip
    kept[:] = image
    more = group.create_array(
        "labels", shape=labels.shape, chunks=(10, 16), dtype="u1", dimension_names=("y", "x")
    )
    more[:] = labels
    zarr.consolidate_metadata(group.store)
    dataset = xr.open_dataset(tmp_path / "s.zarr", engine="hfzarr")
    return dataset, {"image": image, "labels": labels}


def check(batch, pixels, size):
    for i, start in enumerate(np.asarray(batch["start"]).tolist()):
        y, x = (slice(first, first + size) for first in start)
        for name, whole in pixels.items():
            np.testing.assert_array_equal(np.asarray(batch[name][i]), whole[..., y, x])


@pytest.mark.parametrize("options", [{}, {"prefetch": 0}, {"max_memory": 90_000}])
def test_batches_of_a_store(stored, options):
    dataset, pixels = stored
    batches = dataset.hfzarr.batches(3, {"y": 8, "x": 8}, stride=4, seed=5, **options)
    orders = []
    for _ in range(2):
        orders.append([])
        for batch in batches:
            check(batch, pixels, 8)
            orders[-1] += batch["patch"].tolist()
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(9 * 11))
    assert orders[0] != orders[1]
    assert len(pickle.dumps(batches)) < 10_000


def test_batches_of_a_store_as_datasets(stored):
    dataset, pixels = stored
    size = {"y": 8, "x": 8}
    lazy = dataset.hfzarr.patches(size)
    for batch in dataset.hfzarr.batches(4, size, to="xarray"):
        xr.testing.assert_identical(batch.compute(), lazy.isel(patch=batch["patch"]).compute())
    assert set(pixels) == set(batch.data_vars)


@needs_torch
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_batches_of_a_store_in_workers(stored, start):
    dataset, pixels = stored
    batches = dataset.hfzarr.batches(4, {"y": 8, "x": 8}, stride=4, to="torch")
    seen = []
    for batch in loader(batches, 2, start):
        check(batch, pixels, 8)
        seen += batch["patch"].tolist()
    assert sorted(seen) == list(range(9 * 11))


# Torch


def loader(batches, workers=0, start="fork", **options):
    from torch.utils.data import DataLoader

    if workers:
        options["multiprocessing_context"] = start
    return DataLoader(batches, batch_size=None, num_workers=workers, **options)


@needs_torch
def test_tensors_hold_what_arrays_do():
    import torch

    kinds = ["|b1", "|u1", "<u2", "<u4", "<u8", ">u2", "|i1", ">i4", "<i8", "<f2", ">f4", "<f8",
             "<c8"]  # fmt: skip
    source = grid_source(dtypes={f"a{i}": kind for i, kind in enumerate(kinds)})
    batches = batches_of(source, to="torch")
    assert isinstance(batches, torch.utils.data.IterableDataset)
    for batch, arrays in zip(batches, batches_of(source), strict=True):
        for name, array in arrays.items():
            assert isinstance(batch[name], torch.Tensor)
            kept = {"uint16": "int32", "uint32": "int64"}.get(array.dtype.name, array.dtype)
            assert batch[name].numpy().dtype == np.dtype(kept).newbyteorder("=")
            np.testing.assert_array_equal(batch[name].numpy(), array)


@needs_torch
def test_unsigned_integers_become_what_torch_computes_with():
    (batch, *_) = batches_of(grid_source(dtypes={"image": "<u2", "labels": "<u4"}), to="torch")
    assert (batch["labels"] > 0).any()
    assert (batch["image"] * 2).max() > 0


@needs_torch
def test_what_torch_has_no_tensor_for():
    batches = batches_of(grid_source(dtypes={"when": "<M8[s]"}), to="torch")
    with pytest.raises(TargetError, match=r"datetime64\[s\], the data type of 'when'"):
        next(iter(batches))


@needs_torch
@pytest.mark.parametrize(
    ("start", "persistent"), [("fork", False), ("fork", True), ("spawn", True)]
)
def test_workers_of_a_dataloader(start, persistent):
    source = grid_source(length=40, dtypes={"image": "<u2"})
    batches = batches_of(source, 3, to="torch", seed=2)
    workers = loader(batches, 2, start, persistent_workers=persistent)
    assert len(workers) == len(batches) == 34
    passes = []
    for _ in range(3):
        passes.append([])
        for batch in workers:
            passes[-1].append(batch["patch"].tolist())
            expected = source.patches(passes[-1][-1])["image"]
            np.testing.assert_array_equal(batch["image"].numpy(), expected)
    for made in passes:
        assert len(made) == 34
        assert sorted(flat(made)) == list(range(100))
    assert passes[0] != passes[1] != passes[2] != passes[0]
    assert batches.epoch == 2
    batches.set_epoch(1)
    assert numbers(workers) == passes[1]
    assert numbers(workers) == passes[2]


@needs_torch
def test_workers_that_are_spawned_for_each_pass():
    plain = batches_of(grid_source(), 3, to="torch")
    spawned = loader(batches_of(grid_source(), 3, to="torch"), 2, "spawn")
    forked = loader(plain, 2)
    for _ in range(2):
        assert numbers(spawned) == numbers(forked)


@needs_torch
def test_no_workers_and_one_worker_are_the_stream_itself():
    source = grid_source()
    plain = batches_of(source)
    expected = [numbers(plain), numbers(plain)]
    for workers in (0, 1):
        same = loader(batches_of(source, to="torch"), workers)
        assert [numbers(same), numbers(same)] == expected


@needs_torch
@pytest.mark.parametrize("taken", [0, 1, 4, 7, 11, 12])
@pytest.mark.parametrize("workers", [0, 2, 3])
def test_resuming_with_workers(taken, workers):
    source = grid_source()
    whole = [numbers(loader(batches_of(source, 3, to="torch"), workers))]
    whole.append(numbers(later(batches_of(source, 3, to="torch"), 1, workers)))
    batches = batches_of(source, 3, to="torch")
    iterator = iter(loader(batches, workers))
    assert [next(iterator)["patch"].tolist() for _ in range(taken)] == whole[0][:taken]
    state = json.loads(json.dumps(batches.state_dict(done=taken)))
    del iterator
    again = batches_of(source, 3, to="torch")
    again.load_state_dict(state)
    resumed = loader(again, workers)
    left = numbers(resumed)
    assert left == (whole[0][taken:] or whole[1])
    if taken < 12:
        assert again.state_dict(done=len(left))["epoch"] == 1
        assert numbers(resumed) == whole[1]


def later(batches, epoch, workers):
    batches.set_epoch(epoch)
    return loader(batches, workers)


@needs_torch
def test_a_resumed_pass_that_is_stopped_again():
    source = grid_source()
    whole = numbers(loader(batches_of(source, 3, to="torch"), 2))
    batches = batches_of(source, 3, to="torch")
    done = 0
    for taken in (3, 4, 2):
        batches.load_state_dict({**batches.state_dict(done=0), "done": done, "workers": 2})
        iterator = iter(loader(batches, 2))
        assert [next(iterator)["patch"].tolist() for _ in range(taken)] == whole[
            done : done + taken
        ]
        done = batches.state_dict(done=taken)["done"]
        batches.set_epoch(0)
    assert done == 9


@needs_torch
def test_as_many_workers_as_before():
    batches = batches_of(grid_source(), 3, to="torch")
    iterator = iter(loader(batches, 2))
    next(iterator)
    with pytest.raises(TargetError, match="say how many were taken"):
        batches.state_dict()
    state = batches.state_dict(done=1)
    assert state["workers"] == 2
    again = batches_of(grid_source(), 3, to="torch")
    again.load_state_dict(state)
    for workers in (1, 0):
        with pytest.raises(TargetError, match="with 2 reading processes, and there are 1 now"):
            next(iter(loader(again, workers)))
    # A pass that was refused is not counted.
    assert again.state_dict(done=0) == state
    again.set_epoch(0)
    assert len(numbers(loader(again, 0))) == 12


@needs_torch
def test_a_pass_broken_off_does_not_mix_epochs():
    batches = batches_of(grid_source(length=40), 3, to="torch")
    workers = loader(batches, 2)
    seen = set()
    for _ in range(4):
        next(iter(workers))
        made = numbers(workers)
        assert sorted(flat(made)) == list(range(100))
        seen.add(tuple(flat(made)))
    assert len(seen) == 4


@needs_torch
def test_workers_and_this_process_take_turns():
    batches = batches_of(grid_source(), 3, to="torch")
    orders = []
    for workers in (2, 0, 2, 0, 0):
        assert sorted(flat(numbers(loader(batches, workers)))) == list(range(36))
        orders.append(batches.state_dict(done=0 if workers == 0 else 12)["epoch"])
    fresh = batches_of(grid_source(), 3, to="torch")
    fresh.set_epoch(5)
    assert numbers(loader(batches, 0)) == numbers(fresh)


@needs_torch
def test_more_workers_than_batches():
    batches = batches_of(grid_source(length=12), 4, to="torch")
    assert len(batches) == 3
    assert sorted(flat(numbers(loader(batches, 4)))) == list(range(9))


@needs_torch
def test_ranks_with_workers():
    ranks = [
        loader(batches_of(grid_source(), 3, to="torch", rank=rank, world_size=2), 2)
        for rank in range(2)
    ]
    made = [numbers(each) for each in ranks]
    assert len(made[0]) == len(made[1])
    assert sorted(flat(flat(made))) == list(range(36))


@needs_torch
def test_a_copy_keeps_its_own_time():
    batches = batches_of(grid_source(), to="torch")
    copies = [pickle.loads(pickle.dumps(batches)), deepcopy(batches)]
    numbers(loader(batches, 2))
    assert batches.state_dict(done=0)["epoch"] == 0
    assert batches.state_dict(done=8)["epoch"] == 1
    for copy in copies:
        assert copy.state_dict()["epoch"] == copy.epoch == 0
        assert numbers(loader(copy, 1)) == numbers(batches_of(grid_source()))
        assert type(copy) is type(batches)


@needs_torch
def test_workers_are_forked_while_a_stream_runs_here():
    here = iter(batches_of(grid_source(), 3))
    begun = [next(here)]
    assert sorted(flat(numbers(loader(batches_of(grid_source(), 3, to="torch"), 2)))) == list(
        range(36)
    )
    assert len(numbers([*begun, *here])) == 12
