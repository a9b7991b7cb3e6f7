"""The arithmetic of costs: a pass in numbers equals a real one, and prints well."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings

from hfzarr import Cost
from hfzarr.plan.cost import VariableCost
from hfzarr.plan.cuts import Cuts
from hfzarr.plan.overlap import chunks_covered, chunks_one_by_one, pixels_covered
from hfzarr.plan.passes import Pass, needs_of, peak_bytes, shortened, simulate
from hfzarr.plan.patches import plan_patches
from hfzarr.plan.tasks import chunks_under, tasks
from hfzarr.plan.tracks import Sampled, Track
from hfzarr.plan.windows import AxisWindows, WindowGrid, WindowList
from hfzarr.run.tasks import cut_of, shared_blocks
from patch_strategies import cases

some = settings(deadline=None, max_examples=80)


def passes_of(plan):
    return [
        (needs, simulate(needs, itemsize=a.itemsize, limit=limit, per_read=plan.block_bytes))
        for needs, a, limit in zip(needs_of(plan), plan.arrays, plan.shared_bytes, strict=True)
    ]


# --- a pass in numbers ---------------------------------------------------------------------------


@some
@given(cases())
def test_needs_are_those_of_the_tasks(case):
    plan = case.plan
    found = needs_of(plan)
    seen = [0] * len(plan.arrays)
    for task in tasks(plan):
        needs, group = found[task.array], seen[task.array]
        seen[task.array] += 1
        own = needs.blocks[needs.stops[group] : needs.stops[group + 1]]
        boxes = [tuple(map(tuple, box)) for box in needs.boxes[own].tolist()]
        if task.boxes != ((),) and len(task.cuts):
            assert boxes == [tuple(map(tuple, box)) for box in task.boxes]
        assert needs.uses[own].tolist() == list(task.uses)
    assert seen == [len(needs.stops) - 1 for needs in found]


@some
@given(cases())
def test_a_pass_reads_what_tasks_that_share_read(case):
    assume(len(case.windows))
    job = case.job()
    sources = shared_blocks(job)
    for task in tasks(job.plan):
        cut_of(job, task)(sources[task.array])
    for (needs, found), array, region in zip(
        passes_of(job.plan), job.plan.arrays, case.regions, strict=True
    ):
        if array.held:
            continue
        boxes = [tuple(map(tuple, box)) for box in needs.boxes[found.blocks].tolist()]
        assert boxes == region.log
        assert found.nbytes.tolist() == [
            array.itemsize * math.prod(b - a for a, b in box) for box in boxes
        ]
        assert (found.first <= found.last).all()
        assert found.stops[-1] == len(found.blocks)


def test_blocks_that_do_not_fit_are_read_again():
    tracks = (Track(cuts=Cuts(stop=40, step=4), size=20, window=0),)
    windows = WindowGrid(axes=(AxisWindows(length=40, size=20, stride=4),))
    plan = plan_patches(windows, [Sampled(tracks=tracks, itemsize=1)], max_bytes=20)
    ((needs, found),) = passes_of(plan)
    assert len(found.blocks) > len(np.unique(found.blocks)) == len(needs.boxes)


def test_the_peak_is_the_sum_of_what_is_alive_together():
    one = Pass(
        stops=np.array([0, 1, 2]),
        blocks=np.array([0, 1]),
        first=np.array([0, 3]),
        last=np.array([2, 3]),
        nbytes=np.array([100, 10]),
    )
    results = np.array([1, 1, 1, 1])
    # Block 0 waits until group 2; with one thread two groups are under way and one is in use.
    assert peak_bytes([one], results, threads=1) == 100 + 10 + 3
    assert peak_bytes([], results, threads=8) == 4
    assert peak_bytes([], np.zeros(0, int), threads=2) == 0


# --- pixels and chunks under windows -------------------------------------------------------------


@some
@given(cases())
def test_pixels_and_chunks_under_windows(case):
    numbers = np.arange(len(case.windows))
    origins = case.windows.starts(numbers)
    for array in case.arrays:
        canvas = np.zeros([track.cuts.stop for track in array.tracks], bool)
        chunks, distinct = 0, set()
        for origin in origins:
            starts = [
                0 if t.window is None else int(t.starts(origin)[t.window]) for t in array.tracks
            ]
            canvas[
                tuple(
                    slice(max(s, 0), max(s + t.size, 0))
                    for s, t in zip(starts, array.tracks, strict=True)
                )
            ] = True
            single = [np.array([s]) for s in starts]
            under = chunks_under(array.tracks, single, grid=False)
            chunks += len(under)
            distinct |= set(map(tuple, under.tolist()))
        assert pixels_covered(array, case.windows) == (int(canvas.sum()), True)
        assert pixels_covered(array, case.windows, numbers) == (int(canvas.sum()), True)
        assert chunks_one_by_one(array, case.windows) == chunks
        if isinstance(case.windows, WindowGrid):
            assert chunks_covered(array, case.windows) == len(distinct)
        assert chunks_one_by_one(array, case.windows, numbers) == chunks


def test_many_pixels_are_estimated_well():
    lengths, size = (4000, 4000, 400), (96, 96, 96)
    tracks = [Track(cuts=Cuts(stop=n, step=64), size=96, window=i) for i, n in enumerate(lengths)]
    array = Sampled(tracks=tuple(tracks), itemsize=2)
    axes = [AxisWindows(length=n, size=96, stride=48) for n in lengths]
    grid = WindowGrid(axes=tuple(axes))
    starts = grid.starts(np.arange(len(grid)))
    wanted, exact = pixels_covered(array, grid)
    assert exact
    listed = WindowList(lengths=lengths, size=size, origins=starts)
    found, exact = pixels_covered(array, listed)
    assert not exact
    assert abs(found / wanted - 1) < 0.05


# --- large plans ---------------------------------------------------------------------------------


def large(kind: str, n: int):
    tracks = [Track(cuts=Cuts(stop=n, step=64), size=64, window=i) for i in range(3)]
    axes = tuple(AxisWindows(length=n, size=64, stride=32) for _ in range(3))
    windows = WindowGrid(axes=axes)
    if kind == "list":
        rng = np.random.default_rng(0)
        origins = rng.integers(0, n - 64, (len(windows), 3))
        windows = WindowList(lengths=(n,) * 3, size=(64,) * 3, origins=origins)
    return plan_patches(windows, [Sampled(tracks=tuple(tracks), itemsize=2)], max_bytes=1 << 28)


@pytest.mark.parametrize("kind", ["grid", "list"])
def test_a_part_of_a_plan_tells_of_the_whole(kind, monkeypatch):
    plan = large(kind, 1000)
    ((_, wanted),) = passes_of(plan)
    monkeypatch.setattr("hfzarr.plan.passes._MOST_GROUPS", 150)
    monkeypatch.setattr("hfzarr.plan.passes._MOST_ROWS", 100_000)
    part, factor = shortened(plan)
    assert factor > 1.5
    assert len(part.windows) * factor == pytest.approx(len(plan.windows))
    ((_, found),) = passes_of(part)
    if kind == "grid":
        (array,) = plan.arrays
        factor = chunks_covered(array, plan.windows) / chunks_covered(array, part.windows)
    assert found.nbytes.sum() * factor == pytest.approx(wanted.nbytes.sum(), rel=0.15)


def test_a_small_plan_is_taken_whole():
    plan = large("list", 200)
    assert shortened(plan) == (plan, 1.0)
    empty = replace(
        plan, windows=replace(plan.windows, origins=np.zeros((0, 3), int)), tile_stops=()
    )
    assert shortened(empty) == (empty, 1.0)
    (needs,) = needs_of(empty)
    assert len(needs.blocks) == 0


# --- the value -----------------------------------------------------------------------------------


def cost() -> Cost:
    image = VariableCost(
        name="image",
        requests=7,
        chunks=4,
        chunk_decodes=5,
        shards=2,
        bytes_fetched=1500,
        bytes_stored=1200,
        bytes_decoded=4000,
        bytes_one_by_one=16_000,
        bytes_delivered=2000,
        bytes_distinct=1000,
        tasks=3,
        estimates=("requests",),
    )
    labels = VariableCost(name="a<b", kind="memory", bytes_delivered=2000, bytes_distinct=2000)
    return Cost(
        what="10 patches",
        variables=(image, labels),
        groups=3,
        peak_memory=1 << 20,
        left_out=(("y", 3),),
        notes=("a note",),
    )


def test_sums_and_ratios():
    found = cost()
    assert (found.requests, found.chunks, found.bytes_delivered, found.tasks) == (7, 4, 4000, 3)
    assert (found.amplification, found.naive_amplification) == (1.0, 4.0)
    assert found.reuse == pytest.approx(4 / 3)
    assert (found["image"].amplification, found["image"].reuse) == (2.0, 2.0)
    assert found["a<b"].amplification == 0
    assert found.estimated
    assert found["image"].estimated
    assert not found["a<b"].estimated
    with pytest.raises(KeyError):
        found["nothing"]
    with pytest.raises(AttributeError, match="nothing"):
        getattr(found, "nothing")  # noqa: B009
    assert "requests" in dir(found)


def test_it_is_a_value():
    assert pickle.loads(pickle.dumps(cost())) == cost()
    assert hash(cost()) == hash(cost())
    assert replace(cost(), groups=1) != cost()


def test_it_prints_as_an_aligned_table():
    lines = str(cost()).splitlines()
    assert lines[0] == "10 patches"
    assert lines[1].split()[:3] == ["variable", "requests", "chunks"]
    assert lines[2].split()[:3] == ["image", "~7", "4"]
    assert [line.split()[0] for line in lines[3:5]] == ["a<b", "total"]
    assert len({len(line) for line in lines[1:5]}) == 1
    assert lines[5] == (
        "3 tasks, 3 groups; peak memory 1 MiB; window by window, decoded/delivered 4; "
        "left out y: 3 px"
    )
    assert lines[6:] == ["~ estimated", "a note"]
    assert repr(cost()) == str(cost())


def test_it_is_a_table_in_html():
    text = cost()._repr_html_()
    assert text.count("<tr>") == 4
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert "<script" not in text
    assert "color" not in text


def test_it_becomes_plain_values():
    found = json.loads(json.dumps(cost().to_dict()))
    assert found["total"]["bytes_decoded"] == 4000
    assert found["total"]["amplification"] == 1.0
    assert found["variables"][0]["estimates"] == ["requests"]
    assert found["left_out"] == {"y": 3}
    assert found["peak_memory"] == 1 << 20
