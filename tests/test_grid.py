"""Every element of a result is written exactly once, and with what NumPy would put there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfzarr.plan.axis import normalize
from hfzarr.plan.grid import (
    GridPlan,
    PointsPlan,
    merge_ranges,
    plan_grid,
    plan_points,
    position_in_unit,
)

quick = settings(deadline=None, max_examples=150)


@st.composite
def grids(draw, min_ndim=0, min_length=0):
    ndim = draw(st.integers(min_ndim, 3))
    shape = tuple(draw(st.integers(min_length, 11)) for _ in range(ndim))
    chunk = tuple(draw(st.integers(1, 14)) for _ in range(ndim))
    return shape, chunk


def indexers(length):
    bound = st.none() | st.integers(-length - 3, length + 3)
    step = st.none() | st.integers(-5, 5).filter(bool)
    kinds = st.builds(slice, bound, bound, step)
    if length:
        place = st.integers(-length, length - 1)
        lists = st.lists(place, max_size=9).map(lambda x: np.array(x, dtype=np.int64))
        kinds = kinds | lists | lists.map(np.sort) | place
    return kinds


@st.composite
def orthogonal(draw):
    shape, chunk = draw(grids())
    return shape, chunk, tuple(draw(indexers(length)) for length in shape)


@st.composite
def pointwise(draw):
    shape, chunk = draw(grids(min_ndim=1, min_length=1))
    n = draw(st.integers(0, 20))
    places = [draw(st.lists(st.integers(-s, s - 1), min_size=n, max_size=n)) for s in shape]
    return shape, chunk, [np.array(p, dtype=np.int32) for p in places]


def image(shape):
    return np.arange(math.prod(shape)).reshape(shape)


def padded_chunk(array, chunk, index):
    """Return the chunk at ``index`` as it is stored: filled up where it sticks out."""
    region = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, chunk, strict=True))
    part = array[region]
    stored = np.full(chunk, -1)
    stored[tuple(map(slice, part.shape))] = part
    return stored


def numpy_orthogonal(array, selection):
    for axis, indexer in reversed(list(enumerate(selection))):
        array = array[(slice(None),) * axis + (indexer,)]
    return array


def follow(plan: GridPlan | PointsPlan, array, chunk, parts=None):
    """Carry a plan out, and check that it keeps its promises on the way."""
    out = np.full(plan.shape, -2)
    written = np.zeros(plan.shape, int)
    seen = []
    for part in plan if parts is None else parts:
        stored = padded_chunk(array, chunk, part.index)
        assert part.whole <= np.array_equal(stored[part.inside], stored)
        out[part.out] = stored[part.inside]
        np.add.at(written, part.out, 1)
        seen.append(part.index)
    assert (written == 1).all()
    assert len(set(seen)) == len(seen) == len(plan)
    return out.reshape(plan.result_shape)


@quick
@given(orthogonal())
def test_orthogonal_is_numpys(case):
    shape, chunk, selection = case
    array = image(shape)
    result = follow(plan_grid(shape, chunk, selection), array, chunk)
    np.testing.assert_array_equal(result, numpy_orthogonal(array, selection))


@quick
@given(pointwise())
def test_pointwise_is_numpys(case):
    shape, chunk, places = case
    array = image(shape)
    plan = plan_points(shape, chunk, places)
    np.testing.assert_array_equal(follow(plan, array, chunk), array[tuple(places)])


@quick
@given(orthogonal() | pointwise(), st.lists(st.integers(1, 3), min_size=3, max_size=3))
def test_units_partition_the_plan(case, per_unit):
    shape, chunk, selection = case
    per_unit = per_unit[: len(shape)]
    make = plan_points if isinstance(selection, list) else plan_grid
    plan = make(shape, chunk, selection)
    units, parts = [], []
    for unit, inner in plan.units(per_unit):
        units.append(unit)
        assert inner.shape == plan.shape
        assert len(inner) == len(list(inner))
        for part in inner:
            assert unit == tuple(i // n for i, n in zip(part.index, per_unit, strict=True))
            parts.append(part)
    assert len(set(units)) == len(units)
    follow(plan, image(shape), chunk, parts)


@quick
@given(grids(min_ndim=1))
def test_position_in_unit_is_numpys(grid):
    index, per_unit = grid
    index = tuple(i % 5 for i in index) + (0,) * (len(per_unit) - len(index))
    inner = tuple(i % n for i, n in zip(index, per_unit, strict=True))
    assert position_in_unit(index, per_unit) == np.ravel_multi_index(inner, per_unit)


@quick
@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 40)), max_size=12),
    st.integers(0, 20),
    st.integers(1, 120),
)
def test_merged_ranges_hold_their_members(pairs, gap, limit):
    ranges = [(start, start + size) for start, size in pairs]
    runs = list(merge_ranges(ranges, gap=gap, limit=limit))
    assert sorted(m for run in runs for m in run.members) == list(range(len(ranges)))
    for run in runs:
        inside = [ranges[m] for m in run.members]
        assert (run.start, run.stop) == (min(r[0] for r in inside), max(r[1] for r in inside))
        assert len(inside) == 1 or run.stop - run.start <= limit
        covered = np.zeros(run.stop - run.start + 1, bool)
        for start, stop in inside:
            covered[start - run.start : stop - run.start] = True
        holes = "".join("x" if c else "." for c in covered[:-1]).split("x")
        assert max(map(len, holes), default=0) <= gap


@quick
@given(st.integers(0, 12).flatmap(lambda n: st.tuples(st.just(n), indexers(n))))
def test_normalized_indexers_mean_the_same(case):
    length, indexer = case
    places = normalize(indexer, length)
    wanted = np.arange(length)[indexer]
    if not isinstance(places, np.ndarray):
        found = np.arange(length)[places.ascending]
        places = found[::-1] if places.backwards else found
    np.testing.assert_array_equal(places, np.atleast_1d(wanted))


def test_a_plan_stays_lazy_over_a_huge_grid():
    plan = plan_grid((10**6, 10**6), (100, 100), ())
    assert len(plan) == 10**8
    assert next(iter(plan)).index == (0, 0)


def test_a_0d_array_has_one_chunk():
    [part] = plan_grid((), (), ())
    assert (part.index, part.inside, part.out, part.whole) == ((), (), (), True)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ((np.array([4]),), "index 4 lies outside 0…3"),
        ((-5,), "index -5 lies outside 0…3"),
        ((np.array([0.5]),), "wanted integers to index with, got float64"),
        ((np.array([True, False]),), "wanted integers to index with, got bool"),
        ((np.zeros((2, 2), int),), "got 2 dimensions"),
        ((slice(None), slice(None)), "at most 1 indexers"),
    ],
)
def test_what_does_not_fit_is_refused(selection, message):
    with pytest.raises(IndexError, match=message):
        plan_grid((4,), (2,), selection)


def test_points_that_do_not_fit_are_refused():
    with pytest.raises(IndexError, match="one indexer for each of 2 axes, got 1"):
        plan_points((4, 4), (2, 2), ([0],))
    with pytest.raises(IndexError, match="index 4 lies outside"):
        plan_points((4, 4), (2, 2), ([0], [4]))
    with pytest.raises(IndexError, match="at least one element, got 0"):
        plan_grid((4,), (0,))


@given(st.lists(st.integers(0, 5), max_size=7), st.lists(st.integers(0, 5), max_size=7))
def test_whole_chunks_go_into_a_view(rows, columns):
    """A chunk that is decoded straight into the result must reach it, and not a copy of it."""
    plan = plan_grid((6, 6), (2, 1), (np.array(rows, int), np.array(columns, int)))
    result = np.zeros(plan.shape)
    for part in plan:
        if part.whole:
            assert np.shares_memory(result[part.out], result)


def test_whole_chunks_among_paired_arrays():
    plan = plan_grid((2, 2), (1, 1), (np.array([0, 0, 1]), np.array([0, 0, 1])))
    assert [part.index for part in plan if part.whole] == [(1, 1)]
