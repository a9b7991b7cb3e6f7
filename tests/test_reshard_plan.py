"""The plan of a resharding: shards of the right size, few reads, within memory, each task once."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import time
import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import hfzarr
from hfzarr.plan.boxes import (
    Boxes,
    amplification,
    axis_pieces,
    choose_working_box,
    pieces,
)
from hfzarr.plan.reshard import Resharded, ReshardPlan, bundles, in_units
from hfzarr.plan.routes import (
    REPACK_BUFFER,
    ArraySpec,
    TooLittleMemory,
    plan_array,
    routed,
    with_route,
)
from hfzarr.plan.shards import FileLimits, auto_shard, chunk_counts, covering, files_in
from hfzarr.plan.stages import choose_stages
from hfzarr.run.execute import choose_executor, graph_of, narrowed
from reshard_strategies import grids, specs

some = settings(deadline=None, max_examples=150)
few = settings(deadline=None, max_examples=60)


def held(shape, box):
    """Return how many elements of a box lie in the array at most."""
    return math.prod(min(n, max(length, 1)) for n, length in zip(box, shape, strict=True))


def cuts(length, size):
    return {*range(0, length, size), length}


def brute_pieces(shape, one, other):
    """Count the pieces of an array that is cut by two grids, by cutting it."""
    sides = zip(shape, one, other, strict=True)
    return math.prod(len(cuts(n, a) | cuts(n, b)) - 1 if n else 0 for n, a, b in sides)


def is_whole(box, unit):
    return all(n % u == 0 for n, u in zip(box, unit, strict=True))


def fits_files(band, unit):
    """Whether bands do not straddle files: a divisor of the file, or whole files."""
    return all(u % b == 0 or b % u == 0 for b, u in zip(band, unit, strict=True))


# --- shards --------------------------------------------------------------------------------------


@st.composite
def wanted_shards(draw):
    grid = draw(grids(longest=200, empty=True))
    ndim = len(grid["shape"])
    return {
        "shape": grid["shape"],
        "inner": grid["inner"],
        "itemsize": draw(st.sampled_from([1, 2, 8])),
        "target_bytes": draw(st.integers(1, 200_000)),
        "separator": draw(st.sampled_from("/.")),
        "last": draw(st.sets(st.integers(0, ndim - 1))),
        "limits": FileLimits(
            per_folder=draw(st.integers(1, 50)), per_store=draw(st.integers(1, 500))
        ),
    }


def within(counts, separator, limits):
    fits = files_in(counts, separator) <= limits.per_folder
    return fits and math.prod(counts) <= limits.per_store


@some
@given(wanted_shards())
def test_a_shard_is_whole_inner_chunks_and_no_longer_than_needed(wish):
    shard = auto_shard(**wish)
    assert is_whole(shard, wish["inner"])
    whole = covering(wish["shape"], wish["inner"])
    assert all(n <= most for n, most in zip(shard, whole, strict=True))


@some
@given(wanted_shards())
def test_files_stay_within_the_limits(wish):
    counts = chunk_counts(wish["shape"], auto_shard(**wish))
    assert within(counts, wish["separator"], wish["limits"]) or all(n <= 1 for n in counts)


@some
@given(wanted_shards())
def test_a_shard_comes_near_its_size_from_below(wish):
    wish["limits"] = FileLimits(per_folder=10**9, per_store=10**9)
    shape, inner, last = wish["shape"], wish["inner"], wish["last"]
    shard = auto_shard(**wish)
    nbytes = held(shape, shard) * wish["itemsize"]
    if shard != inner and math.prod(shape):
        assert nbytes <= wish["target_bytes"]
    whole = covering(shape, inner)
    others = [axis for axis in range(len(shape)) if axis not in last]
    if any(shard[axis] < whole[axis] for axis in others) and math.prod(shape):
        # One doubling less, and at most a half of each axis to make shards even.
        assert nbytes * 2 ** (len(shape) + 1) > wish["target_bytes"]


@some
@given(wanted_shards())
def test_time_and_channels_grow_last(wish):
    shape, inner, last = wish["shape"], wish["inner"], wish["last"]
    shard = auto_shard(**wish)
    whole = covering(shape, inner)
    if any(shard[axis] > inner[axis] for axis in last):
        assert all(shard[i] == whole[i] for i in range(len(shape)) if i not in last)


@some
@given(wanted_shards())
def test_shards_are_even(wish):
    shape, inner = wish["shape"], wish["inner"]
    shard = auto_shard(**wish)
    for length, size, step in zip(shape, shard, inner, strict=True):
        if length and size > step:
            # One inner chunk less would mean more shards.
            assert -(-length // (size - step)) > -(-length // size)


@pytest.mark.parametrize(
    ("shape", "inner", "shard"),
    [
        ((), (), ()),
        ((0, 5), (4, 5), (4, 5)),
        ((1,), (64,), (64,)),
        ((10**6, 1), (1, 1), (10**6, 1)),
        ((2**20, 2**20), (1024, 1024), (8192, 16384)),
    ],
)
def test_shards_of_odd_arrays(shape, inner, shard):
    assert auto_shard(shape, inner, 1) == shard


@pytest.mark.parametrize("separator", ["/", "."])
def test_the_limits_of_the_hub_hold_for_a_petabyte(separator):
    shape, inner = (1000, 10, 10_000, 100_000, 1000), (1, 1, 64, 64, 64)
    counts = chunk_counts(shape, auto_shard(shape, inner, 2, separator=separator, last=[0, 1]))
    assert math.prod(counts) <= (100_000 if separator == "/" else 10_000)
    assert max(counts) <= 10_000


# --- boxes ---------------------------------------------------------------------------------------


@some
@given(grids(longest=15, empty=True))
def test_boxes_cover_an_array_once(grid):
    boxes = Boxes(shape=grid["shape"], box=grid["unit"])
    seen = np.zeros(grid["shape"], int)
    places = [boxes.place(number) for number in range(len(boxes))]
    assert places == list(np.ndindex(*boxes.counts))
    for place in places:
        bounds = boxes.bounds(place)
        assert all(start < stop for start, stop in bounds)
        seen[tuple(slice(*along) for along in bounds)] += 1
    assert (seen == 1).all()


@some
@given(grids(longest=20), st.data())
def test_the_boxes_that_a_region_touches(grid, data):
    boxes = Boxes(shape=grid["shape"], box=grid["chunk"])
    region = [
        tuple(sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))))
        for n in grid["shape"]
    ]
    wanted = [
        place
        for place in np.ndindex(*boxes.counts)
        if all(
            low < b and a < high
            for (low, high), (a, b) in zip(boxes.bounds(place), region, strict=True)
        )
    ]
    assert list(itertools.product(*boxes.touching(region))) == wanted


@some
@given(st.integers(0, 200), st.integers(1, 60), st.integers(1, 60))
def test_pieces_of_an_axis(length, one, other):
    assert axis_pieces(length, one, other) == brute_pieces((length,), (one,), (other,))


@some
@given(grids(empty=True))
def test_pieces_of_an_array(grid):
    shape, chunk, unit = grid["shape"], grid["chunk"], grid["unit"]
    assert pieces(shape, chunk, unit) == brute_pieces(shape, chunk, unit)
    total = math.prod(chunk_counts(shape, chunk))
    again = amplification(shape, chunk, unit)
    assert again == (brute_pieces(shape, chunk, unit) / total if total else 1)
    assert again >= 1


def bands_of(length, inner, unit):
    """Return every length that a band may have along an axis."""
    divisors = [n * inner for n in range(1, unit // inner) if (unit // inner) % n == 0]
    return [*divisors, *(n * unit for n in range(1, -(-length // unit) + 1))]


@some
@given(grids(longest=24), st.integers(1, 20_000), st.integers(1, 20_000))
def test_a_working_box_reads_no_more_than_any_other_that_fits(grid, elements, comfortable):
    shape, chunk = grid["shape"], grid["chunk"]
    found = choose_working_box(**grid, elements=elements, comfortable=comfortable)
    axes = zip(shape, grid["inner"], grid["unit"], strict=True)
    fitting = [
        band
        for band in itertools.product(*(bands_of(*axis) for axis in axes))
        if held(shape, band) <= elements
    ]
    assert is_whole(found.band, grid["inner"])
    assert fits_files(found.band, grid["unit"])
    assert found.box == tuple(map(max, found.band, grid["unit"]))
    assert is_whole(found.box, grid["unit"])
    assert is_whole(found.box, found.band)
    if fitting:
        assert held(shape, found.band) <= elements
        least = min(brute_pieces(shape, chunk, band) for band in fitting)
        assert brute_pieces(shape, chunk, found.band) == least
    else:
        assert found.band == grid["inner"]


@few
@given(grids())
def test_with_memory_for_all_nothing_is_read_twice(grid):
    found = choose_working_box(**grid, elements=10**9, comfortable=1)
    assert amplification(grid["shape"], grid["chunk"], found.band) == 1


# --- passes --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(grids(longest=80), st.sampled_from([1, 2, 8]), st.integers(1, 4))
def test_stages_stay_within_memory_and_end_where_they_must(grid, itemsize, more):
    shape, chunk, inner, unit = (grid[name] for name in ("shape", "chunk", "inner", "unit"))
    elements = more * max(held(shape, chunk), held(shape, inner))
    stages, last = choose_stages(**grid, itemsize=itemsize, elements=elements)
    assert 1 <= len(stages) <= 4
    assert all(held(shape, box) <= elements for box in (*stages, last.band))
    assert all(side >= 1 for box in stages for side in box)
    assert is_whole(stages[0], chunk)
    assert is_whole(last.band, inner)
    assert fits_files(last.band, unit)
    assert is_whole(last.box, unit)
    assert is_whole(last.box, last.band)


def a_spec(itemsize, **grid):
    return ArraySpec(
        path="",
        dtype=f"uint{8 * itemsize}",
        itemsize=itemsize,
        file=grid["chunk"],
        sharded=True,
        keeps_bytes=False,
        **grid,
    )


# Boxes between two that stick out of the array; a chunk that is larger than what is left for it.
STICKING_OUT = a_spec(
    1, shape=(52, 47), chunk=(70, 3), inner=(2, 17), unit=(2, 34), whole_units=True
)
LARGE_CHUNK = a_spec(8, shape=(30, 54, 50), chunk=(2, 41, 39), inner=(16, 4, 30), unit=(32, 24, 60))


@settings(deadline=None, max_examples=250)
@given(specs(), st.floats(0, 24).map(lambda power: int(2**power)), st.booleans())
@example(spec=STICKING_OUT, task_bytes=1000, spooled=False)
@example(spec=LARGE_CHUNK, task_bytes=100_000, spooled=False)
def test_a_plan_stays_within_memory_or_says_what_it_needs(spec, task_bytes, spooled):
    try:
        plan = plan_array(spec, task_bytes=task_bytes, spooled=spooled)
    except TooLittleMemory as error:
        needed = error.args[0]
        assert needed > task_bytes
        plan = plan_array(spec, task_bytes=needed, spooled=spooled)
        task_bytes = needed
    # A repack is not asked for less than its buffer.
    least = REPACK_BUFFER if plan.route == "repack" else 0
    assert plan.peak_bytes <= max(task_bytes, least)
    if plan.route == "rechunk":
        assert len(plan.passes) > 1
    check_passes(plan)


def check_passes(plan):
    """Check that tasks make whole files, each once, and read what the plan says."""
    spec = plan.spec
    whole = plan.passes[-1].box if plan.passes else spec.unit
    assert is_whole(whole, spec.unit)
    for step, one in enumerate(plan.passes):
        assert one.tasks == len(plan.boxes(step)) == math.prod(chunk_counts(spec.shape, one.box))
        assert is_whole(one.box, one.band)
        cut = spec.chunk if step == 0 else plan.passes[step - 1].box
        assert one.reads == brute_pieces(spec.shape, cut, one.band)
    if plan.passes:
        chunks = math.prod(chunk_counts(spec.shape, spec.chunk))
        assert plan.rereads == plan.passes[0].reads / chunks
        assert fits_files(plan.passes[-1].band, spec.unit)
        assert is_whole(plan.passes[-1].band, spec.least)


@some
@given(specs())
def test_routes(spec):
    plan = plan_array(spec, task_bytes=2**40)
    same = spec.keeps_bytes and (spec.chunk == spec.inner or not spec.nbytes)
    assert plan.route == ("repack" if same else "transcode")
    assert plan.rereads == 1
    assert len(plan.passes) == (1 if spec.nbytes else 0)
    assert plan.scratch_bytes == 0


def test_little_memory_means_an_intermediate():
    spec = transposed(2048)
    plan = plan_array(spec, task_bytes=2**20)
    assert plan.route == "rechunk"
    assert plan.rereads == 1
    assert plan.scratch_bytes == spec.nbytes * min(len(plan.passes) - 1, 2)
    assert plan.peak_bytes <= 2**20
    check_passes(plan)


def transposed(length):
    """Return columns that are to become rows: the worst case."""
    return ArraySpec(
        path="a",
        shape=(length, length),
        dtype="float64",
        itemsize=8,
        chunk=(length, 1),
        file=(length, 1),
        inner=(1, length),
        unit=(1, length),
        sharded=False,
        keeps_bytes=False,
    )


@some
@given(specs(), st.integers(0, 24))
def test_a_route_is_kept_as_json(spec, power):
    try:
        plan = plan_array(spec, task_bytes=2**power)
    except TooLittleMemory:
        assume(False)
    found = json.loads(json.dumps(routed(plan)))
    assert with_route(plan_array(spec, task_bytes=2**40), found) == plan


# --- the whole store -----------------------------------------------------------------------------


@st.composite
def plans(draw):
    task_bytes = 2 ** draw(st.integers(6, 30))
    arrays = []
    for spec in draw(st.lists(specs(), max_size=5)):
        try:
            arrays.append(plan_array(spec, task_bytes=task_bytes))
        except TooLittleMemory:
            continue
    width = draw(st.integers(1, 8))
    return ReshardPlan(
        source="a", target="b", arrays=tuple(arrays), width=width, max_memory=task_bytes * width
    )


@some
@given(plans())
def test_bundles_hold_every_task_once(plan):
    for step in range(plan.passes + 1):
        made = list(bundles(plan, step))
        assert all(made)
        seen = Counter(
            (span.array, number)
            for bundle in made
            for span in bundle
            for number in range(span.start, span.stop)
        )
        wanted = {
            (array, number)
            for array, one in enumerate(plan.arrays)
            if step < len(one.passes)
            for number in range(one.passes[step].tasks)
        }
        assert seen == Counter(wanted)
        assert all(span.step == step for bundle in made for span in bundle)


@some
@given(plans())
def test_bundles_are_few(plan):
    for step in range(plan.passes):
        here = [one for one in plan.arrays if len(one.passes) > step]
        total = sum(one.spec.nbytes for one in here)
        enough = min(16 * 2**20, total // (4 * plan.width) + 1)
        assert len(list(bundles(plan, step))) <= (total + len(here)) // enough + 1


def test_small_shards_share_a_bundle():
    spec = replace(transposed(1), shape=(200_000, 1))
    plan = a_plan(plan_array(spec, task_bytes=2**20))
    assert plan.tasks == 200_000
    assert len(list(bundles(plan, 0))) <= 200_000 / 4096 + 4 * plan.width + 1


@settings(deadline=None, max_examples=40)
@given(plans())
def test_totals(plan):
    assert plan.tasks == sum(one.tasks for one in plan.arrays)
    assert plan.nbytes == sum(math.prod(a.spec.shape) * a.spec.itemsize for a in plan.arrays)
    assert plan.files_after == sum(
        math.prod(chunk_counts(one.spec.shape, one.spec.unit)) for one in plan.arrays
    )
    assert plan.peak_bytes <= plan.width * max((one.peak_bytes for one in plan.arrays), default=0)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert hash(plan) == hash(pickle.loads(pickle.dumps(plan)))


def a_plan(*arrays, **changed):
    return ReshardPlan(
        **{
            "source": "in.zarr",
            "target": "out.zarr",
            "arrays": arrays,
            "width": 2,
            "max_memory": 2**29,
            **changed,
        }
    )


def many_shards(shape=(1000, 6400, 6400)):
    return ArraySpec(
        path="0",
        shape=shape,
        dtype="uint16",
        itemsize=2,
        chunk=(1, 128, 128),
        file=(1, 128, 128),
        inner=(1, 64, 64),
        unit=(10, 640, 640),
        sharded=True,
        keeps_bytes=False,
    )


def build(spec):
    """Plan an array, cut it into bundles, and make the graph of them."""
    plan = a_plan(plan_array(spec, task_bytes=256 * 2**20))
    graph = []
    for step in range(plan.passes):
        graph.append(graph_of(repr, list(bundles(plan, step)), "hfzarr-reshard"))
    return plan, graph


def test_ten_million_inner_chunks_are_planned_at_once():
    spec = many_shards()
    assert math.prod(chunk_counts(spec.shape, spec.inner)) == 10**7
    assert spec.files_after == 10_000
    start = time.process_time()
    plan, graph = build(spec)
    assert time.process_time() - start < 1
    assert plan.tasks <= 10_000
    assert sum(len(keys) for _, keys in graph) <= 10_000
    tracemalloc.start()
    try:
        kept = build(spec)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Measured: 1.7 MB, in 0.01 s.
    assert peak < 10e6
    assert len(pickle.dumps(kept[0])) < 10_000


@pytest.mark.parametrize(
    ("inner", "unit"),
    [((1,), (10**7,)), ((1,), (1000,)), ((7,), (7 * 720_720,))],
    ids=["one shard", "many shards", "many divisors"],
)
@pytest.mark.parametrize("memory", [2**14, 2**30])
def test_ten_million_small_chunks_are_planned_at_once(inner, unit, memory):
    spec = replace(many_shards(), shape=(10**7,), chunk=(10,), file=(10,), inner=inner, unit=unit)
    start = time.process_time()
    plan = plan_array(spec, task_bytes=memory)
    assert time.process_time() - start < 3
    assert plan.peak_bytes <= memory


# --- how it prints -------------------------------------------------------------------------------


def test_a_plan_prints_as_a_table():
    plan = a_plan(
        plan_array(many_shards(), task_bytes=2**28),
        plan_array(replace(transposed(2048), path=""), task_bytes=2**20),
        plan_array(
            replace(transposed(1), shape=(), chunk=(), file=(), inner=(), unit=()), task_bytes=99
        ),
        documents=4,
        extra_files=3,
        notes=("something is odd",),
    )
    lines = str(plan).splitlines()
    assert repr(plan) == str(plan)
    assert lines[0] == "Reshard in.zarr to out.zarr (Zarr v3)"
    head, first, second, third = lines[2:6]
    assert head.split()[:4] == ["array", "shape", "dtype", "route"]
    assert "1000 × 6400 × 6400" in first
    assert "transcode" in first
    assert "10,000" in first
    assert second.startswith("/ ")
    assert "rechunk" in second
    assert "none" in second
    assert "scalar" in third
    text = "\n".join(lines[6:])
    assert "intermediate on disk" in text
    assert "copied as they are: 3" in text
    assert lines[-1] == "note: something is odd"
    assert all(line == line.rstrip() for line in lines)


def test_a_plan_of_nothing_prints():
    assert "up to 0 after" in str(a_plan())
    assert a_plan().peak_bytes == a_plan().passes == a_plan().tasks == 0
    assert list(bundles(a_plan(), 0)) == []


def test_found_files_are_told_exactly():
    plan = a_plan(found_files=1234, found_bytes=3 * 2**20)
    assert "files: 1,234 of 3.0 MiB before" in str(plan)
    assert "up to 1" not in str(plan)


def test_html_is_escaped():
    bad = "<script>alert('&')</script>"
    spec = replace(transposed(8), path=bad, dtype=bad)
    plan = a_plan(plan_array(spec, task_bytes=2**20), source=bad, target=bad, notes=(bad,))
    text = plan._repr_html_()
    assert bad not in text
    assert text.count("&lt;script&gt;") == 5
    assert text.count("<tr>") == 2
    assert text.count("<th>") == text.count("<td>")


def test_what_was_done_prints():
    plan = a_plan(plan_array(transposed(16), task_bytes=2**20), found_files=17, found_bytes=2048)
    done = Resharded(
        plan=plan,
        files=3,
        bytes_stored=999,
        chunks=2,
        tasks=plan.tasks,
        verified="nothing",
        seconds=1.25,
    )
    assert str(done) == repr(done)
    assert "17 files (2.0 KiB) became 3 (999 B) in 1.2 s" in str(done)
    assert "done before" not in str(done)
    assert f"{plan.tasks:,} done before" in str(replace(done, tasks=0))


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536.0, "1.5 KiB"),
        (2**50, "1.0 PiB"),
        (2**70, "1048576.0 PiB"),
    ],
)
def test_bytes_in_words(nbytes, text):
    assert in_units(nbytes) == text


class OneLargeWorker:
    """As much of a client as planning asks."""

    get = None

    def scheduler_info(self, n_workers: int = 5) -> dict[str, Any]:
        return {"workers": {"a": {"nthreads": 32}}}


def test_a_worker_shares_its_memory_among_all_its_threads(tmp_path):
    """It runs a task on each of them, so planning for fewer would exceed the bound."""
    store = str(tmp_path / "a")
    zarr.create_array(store, shape=(4000, 4000), chunks=(500, 500), dtype="u1")
    memory = 32 * 2**20
    plan = hfzarr.plan_reshard(
        store, inner_chunk=(300, 300), max_memory=memory, client=OneLargeWorker()
    )
    assert plan.width == 32
    assert plan.peak_bytes <= memory


@pytest.mark.parametrize("client", [None, "dask"])
def test_fewer_tasks_at_once(client):
    assert narrowed(choose_executor(client, 4), 2).width == 2
    assert narrowed(choose_executor(client, 4), 8).width == 4
