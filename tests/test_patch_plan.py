"""The plan of patches and its tasks: right, each chunk once, within memory, and few."""

from __future__ import annotations

import itertools
import math
import pickle
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hfzarr.plan.cuts import Cuts
from hfzarr.plan.patches import plan_patches
from hfzarr.plan.tasks import tasks
from hfzarr.plan.tracks import Sampled, Track
from hfzarr.plan.windows import AxisWindows, WindowGrid, WindowList
from hfzarr.run.graph import patch_arrays
from hfzarr.run.tasks import PatchJob, run_serial, run_threaded
from patch_strategies import (
    LoggingRegion,
    cases,
    chunks_in,
    origins_of,
    touched,
    values,
    window_grids,
    window_lists,
)

some = settings(deadline=None, max_examples=80)
few = settings(deadline=None, max_examples=40)


def gathers_by_group(plan):
    """Return the tasks of each group, one for each array."""
    listed = list(tasks(plan))
    n = len(plan.arrays)
    return [listed[i : i + n] for i in range(0, len(listed), n)]


def check_patches(case, results):
    """Check that groups' patches, in order, are those of plain slicing."""
    plan = case.plan
    seen = 0
    for group, arrays in results:
        assert group.first == seen
        origins = origins_of(plan, group)
        for number, found in enumerate(arrays):
            wanted = case.expected(number, origins)
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
        seen = group.stop
    assert seen == len(case.windows)


# --- the patches are right -----------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(cases())
def test_serial_equals_slicing(case):
    check_patches(case, run_serial(case.job()))


@few
@given(cases(), st.sampled_from([None, 1, 7]))
def test_threads_equal_slicing(case, ahead):
    check_patches(case, run_threaded(case.job(), ahead=ahead))


@few
@given(cases())
def test_dask_equals_slicing(case):
    plan = case.plan
    assume(len(plan.windows))
    arrays = patch_arrays(case.job(), "patches", {})
    origins = plan.windows.starts(np.arange(len(plan.windows)))
    for number, lazy in enumerate(arrays):
        wanted = case.expected(number, origins)
        assert lazy.shape == wanted.shape
        assert lazy.dtype == wanted.dtype
        assert set(lazy.numblocks[1:]) == {1}
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), wanted)


@some
@given(cases())
def test_a_plan_renumbers_windows_and_loses_none(case):
    numbers = np.arange(len(case.windows))
    wanted = Counter(map(tuple, case.windows.starts(numbers).tolist()))
    planned = case.plan.windows
    assert Counter(map(tuple, planned.starts(numbers).tolist())) == wanted
    assert (planned.lengths, planned.size) == (case.windows.lengths, case.windows.size)


@some
@given(cases())
def test_groups_follow_each_other(case):
    plan = case.plan
    groups = list(plan.groups())
    assert [group.number for group in groups] == list(range(len(groups)))
    stops = [0, *[group.stop for group in groups]]
    assert stops == [*[group.first for group in groups], len(plan.windows)]
    assert all(group.first < group.stop for group in groups)
    tiles = [group.tile for group in groups]
    assert tiles == sorted(tiles)
    for group in groups:
        count = group.stop - group.first
        assert count == 1 or count * plan.patch_bytes <= plan.max_bytes
        if isinstance(plan.windows, WindowGrid):
            places = plan.windows.places(range(group.first, group.stop)).tolist()
            assert [tuple(p) for p in places] == list(itertools.product(*group.places))


# --- each chunk once, and none in vain -----------------------------------------------------------


@some
@given(cases())
def test_a_task_lists_the_blocks_under_its_windows_and_no_others(case):
    plan = case.plan
    for of_group in gathers_by_group(plan):
        for number, task in enumerate(of_group):
            assert task.array == number
            assert len(set(task.blocks)) == len(task.blocks)
            needed = touched(case.arrays[number], origins_of(plan, task.group))
            listed = [set(chunks_in(case.arrays[number], box)) for box in task.boxes]
            assert set().union(*listed) >= needed
            # A block of several chunks has one that is needed, at least.
            assert all(chunks & needed for chunks in listed)
            assert sum(map(len, listed)) == len(set().union(*listed))


@some
@given(cases())
def test_a_tile_reads_the_chunks_under_its_windows_and_no_others(case):
    plan = case.plan
    for _, of_tile in itertools.groupby(tasks(plan), lambda task: task.group.tile):
        listed = list(of_tile)
        for number, sampled in enumerate(case.arrays):
            own = [task for task in listed if task.array == number]
            boxes = {box for task in own for box in task.boxes}
            chunks = [chunk for box in boxes for chunk in chunks_in(sampled, box)]
            needed = set().union(*(touched(sampled, origins_of(plan, t.group)) for t in own))
            # Blocks of a tile do not overlap, so no chunk is in two of them.
            assert sorted(chunks) == sorted(needed)
            uses = Counter(block for task in own for block in task.blocks)
            for task in own:
                assert task.uses == tuple(uses[block] for block in task.blocks)


@few
@given(cases())
def test_building_reads_nothing(case):
    assume(len(case.windows))
    job = case.job()
    list(tasks(job.plan))
    patch_arrays(job, "patches", {})
    assert [region.log for region in job.regions] == [[] for _ in job.regions]


@some
@given(cases())
def test_no_chunk_is_read_twice_for_a_group(case):
    job = case.job()
    for _ in run_serial(job):
        for sampled, region in zip(case.arrays, case.regions, strict=True):
            chunks = [chunk for box in region.log for chunk in chunks_in(sampled, box)]
            assert len(chunks) == len(set(chunks))
            region.log.clear()


def window_bytes(sampled) -> int:
    """Return the bytes of the chunks that one window may touch."""
    pixels = [
        min(t.cuts.stop, t.cuts.largest * (-(-t.size // max(t.cuts.largest, 1)) + 1))
        for t in sampled.tracks
    ]
    return sampled.itemsize * math.prod(pixels)


def comfortable(case, times: int):
    """Return the same case with memory for the chunks of a few windows."""
    case.max_bytes = times * max(1, sum(window_bytes(one) for one in case.arrays if not one.held))
    return case


@few
@given(cases(), st.sampled_from(["threads", "dask"]))
def test_no_chunk_is_read_twice_for_a_tile(case, how):
    """Where memory has room for a few windows, what groups share is kept for all of them."""
    assume(len(case.windows))
    job = comfortable(case, 32).job()
    wanted = [Counter() for _ in case.arrays]
    for _, of_tile in itertools.groupby(tasks(job.plan), lambda task: task.group.tile):
        for array, box in {(task.array, box) for task in of_tile for box in task.boxes}:
            wanted[array].update([box])
    if how == "threads":
        list(run_threaded(job))
    else:
        for lazy in patch_arrays(job, "patches", {}):
            lazy.compute(scheduler="sync")
    for sampled, region, boxes in zip(case.arrays, case.regions, wanted, strict=True):
        if not sampled.held:
            assert Counter(region.log) == boxes


# --- memory --------------------------------------------------------------------------------------


def peak_bytes(plan) -> int:
    """Return the most that is held if tasks are done in turn; blocks go after their last use."""
    left: dict[tuple, int] = {}
    held: dict[tuple, int] = {}
    most = 0
    for of_group in gathers_by_group(plan):
        for task in of_group:
            sampled = plan.arrays[task.array]
            if sampled.held:
                continue
            for block, box, uses in zip(task.blocks, task.boxes, task.uses, strict=True):
                key = (task.array, task.group.tile, block)
                left.setdefault(key, uses)
                held[key] = sampled.itemsize * math.prod(b - a for a, b in box)
            patches = (task.group.stop - task.group.first) * plan.patch_bytes
            most = max(most, sum(held.values()) + patches)
            for block in task.blocks:
                key = (task.array, task.group.tile, block)
                left[key] -= 1
                if not left[key]:
                    del held[key]
    assert not held
    return most


@some
@given(st.one_of(cases(window_grids()), cases(window_lists())))
def test_tasks_in_turn_stay_within_memory(case):
    plan = comfortable(case, 16).plan
    assume(plan.patch_bytes <= plan.max_bytes // 16)
    assert peak_bytes(plan) <= plan.max_bytes


def volume(length, chunk, size, stride, *, itemsize=1, max_bytes=256 << 20):
    """Return the plan of windows over a cube; sizes and strides by axis, or for all axes."""
    sizes, strides = (np.broadcast_to(n, 3).tolist() for n in (size, stride))
    axes = tuple(
        AxisWindows(length=length, size=n, stride=t) for n, t in zip(sizes, strides, strict=True)
    )
    array = sampled_cube(length, chunk, sizes, itemsize)
    return plan_patches(WindowGrid(axes=axes), [array], max_bytes=max_bytes)


def sampled_cube(length, chunk, size, itemsize=1):
    cuts = Cuts(stop=length, step=chunk)
    sizes = np.broadcast_to(size, 3).tolist()
    tracks = tuple(Track(cuts=cuts, size=n, window=axis) for axis, n in enumerate(sizes))
    return Sampled(tracks=tracks, itemsize=itemsize)


@pytest.mark.parametrize(
    ("length", "chunk", "size", "stride"),
    [
        (1024, 64, 64, 64),
        (1024, 64, 64, 32),
        (1024, 64, 96, 24),
        (1024, 64, 16, 64),
        (1024, 64, 16, 96),
        (1024, 128, 32, 128),
        (1024, 128, 1, 128),
        (4096, 128, 128, 128),
        (1024, 128, (1, 256, 256), (1, 256, 256)),
        (1024, 128, (256, 256, 1), (256, 256, 1)),
        (1024, 128, (8, 256, 256), (4, 128, 128)),
    ],
)
def test_volumes_stay_within_memory(length, chunk, size, stride):
    """Windows side by side, overlapping, with gaps, and slices: also where patches are much less
    bytes than the chunks that they are cut from.
    """
    plan = volume(length, chunk, size, stride, max_bytes=64 << 20)
    assert peak_bytes(plan) <= plan.max_bytes


@pytest.mark.parametrize(("count", "size"), [(1000, 64), (5000, 64), (5000, 16), (2000, 1)])
def test_drawn_windows_stay_within_memory(count, size):
    origins = np.random.default_rng(count).integers(0, 1024 - size + 1, (count, 3))
    windows = WindowList(lengths=(1024,) * 3, size=(size,) * 3, origins=origins)
    plan = plan_patches(windows, [sampled_cube(1024, 64, size)], max_bytes=128 << 20)
    assert peak_bytes(plan) <= plan.max_bytes


@pytest.mark.parametrize(("axis", "max_bytes"), [(0, 200_000), (1, 600_000), (2, 600_000)])
def test_slices_of_a_volume_decode_each_chunk_once(axis, max_bytes):
    """A slice is thinner than a chunk, so chunks wait for the slices that follow."""
    size = [48, 48, 48]
    size[axis] = 1
    array = values((96, 96, 96), "u1")
    plan = volume(96, 16, size, size, max_bytes=max_bytes)
    region = LoggingRegion(array)
    job = PatchJob(plan=plan, regions=(region,), dtypes=(array.dtype,), pads=(np.uint8(0),))
    for group, (found,) in run_threaded(job):
        start = plan.windows.starts([group.first])[0]
        part = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
        np.testing.assert_array_equal(found[0], array[part])
    chunks = [chunk for box in region.log for chunk in chunks_in(plan.arrays[0], box)]
    assert sorted(chunks) == sorted(np.ndindex(6, 6, 6))


@pytest.mark.parametrize("stride", [8, 16, 48])
def test_threads_keep_to_the_memory(stride):
    """What is decoded and what waits, measured: two groups more than in turn may be under way."""
    array = values((96, 96, 96), "u2")
    axis = AxisWindows(length=96, size=16, stride=stride, edge="shift")
    plan = plan_patches(
        WindowGrid(axes=(axis,) * 3), [sampled_cube(96, 16, 16, itemsize=2)], max_bytes=2_000_000
    )
    region = LoggingRegion(array)
    pad = np.uint16(0)
    job = PatchJob(plan=plan, regions=(region,), dtypes=(array.dtype,), pads=(pad,))
    patches = 0
    for group, (found,) in run_threaded(job, ahead=2):
        np.testing.assert_array_equal(found[0], sliced_at(array, plan, group.first))
        patches = max(patches, found.nbytes)
    assert peak_bytes(plan) <= 2_000_000
    assert region.most_alive + 3 * patches <= 2_000_000


def sliced_at(array, plan, number):
    start = plan.windows.starts([number])[0]
    return array[tuple(slice(s, s + 16) for s in start)]


def test_blocks_go_after_their_last_use():
    """Memory for the whole array is no reason to hold it."""
    array = values((1920, 16, 16), "u2")
    axes = tuple(
        AxisWindows(length=n, size=16, stride=t)
        for n, t in zip(array.shape, (4, 16, 16), strict=True)
    )
    tracks = tuple(
        Track(cuts=Cuts(stop=n, step=16), size=16, window=i) for i, n in enumerate(array.shape)
    )
    sampled = Sampled(tracks=tracks, itemsize=2)
    plan = plan_patches(WindowGrid(axes=axes), [sampled], max_bytes=2 * array.nbytes)
    assert plan.shared_bytes[0] > array.nbytes
    region = LoggingRegion(array)
    job = PatchJob(plan=plan, regions=(region,), dtypes=(array.dtype,), pads=(np.uint16(0),))
    for _ in run_threaded(job, ahead=2):
        pass
    assert len(region.log) == len(set(region.log))
    assert region.most_alive < array.nbytes / 2


@few
@given(cases())
def test_a_read_is_of_one_block_or_of_few_bytes(case):
    """What is read together stays in memory together, so it must not be much."""
    job = case.job()
    calls = []
    for number, region in enumerate(case.regions):
        region.on_read = lambda boxes, i=number: calls.append((i, boxes))
    list(run_threaded(job))
    for number, boxes in calls:
        sampled = case.arrays[number]
        pixels = sum(math.prod(b - a for a, b in box) for box in boxes)
        if not sampled.held and len(boxes) > 1:
            assert pixels * sampled.itemsize <= job.plan.block_bytes


# --- few tasks -----------------------------------------------------------------------------------


@some
@given(cases())
def test_there_are_as_many_tasks_as_groups_and_arrays(case):
    plan = case.plan
    groups = len(list(plan.groups()))
    assert len(list(tasks(plan))) == groups * len(plan.arrays)


def graph_of(plan):
    region = LoggingRegion(np.zeros((1, 1, 1), "u1"))
    job = PatchJob(plan=plan, regions=(region,), dtypes=(np.dtype("u1"),), pads=(0,))
    return patch_arrays(job, "patches", {})[0]


@pytest.mark.parametrize(("stride", "windows"), [(64, 32_768), (20, 1_000_000)])
def test_the_graph_grows_with_groups(stride, windows):
    """A volume of 8 GB: a million overlapping windows, each over up to eight chunks."""
    begun = time.perf_counter()
    plan = volume(2048, 64, 64, stride)
    assert len(plan.windows) == windows
    lazy = graph_of(plan)
    took = time.perf_counter() - begun
    delivered = windows * 64**3
    # A sixteenth of the memory to a group, and no more than twice as many groups as that gives.
    bound = 2 * 16 * delivered / plan.max_bytes + 2 * len({g.tile for g in plan.groups()})
    assert len(dict(lazy.dask)) == lazy.npartitions + 1 <= bound
    assert took < 30


def test_a_graph_pickles_small():
    lazy = graph_of(volume(2048, 64, 64, 32))
    graph = {key: value for key, value in dict(lazy.dask).items() if "source" not in str(key)}
    assert len(graph) == lazy.npartitions
    assert len(pickle.dumps(graph)) < 3000 * lazy.npartitions


def test_a_plan_pickles_small():
    plan = volume(2048, 64, 64, 20)
    again = pickle.loads(pickle.dumps(plan))
    assert len(pickle.dumps(plan)) < 1000
    assert again.windows == plan.windows
