"""Windows: pure arithmetic, against counting on fingers."""

from __future__ import annotations

import itertools
import pickle
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hfzarr.errors import TargetError
from hfzarr.plan.cuts import Cuts
from hfzarr.plan.windows import AxisWindows, WindowGrid, WindowList, Windows
from patch_strategies import EDGES, axis_windows, cuts, window_grids, window_lists

many = settings(deadline=None, max_examples=100)


def walked(axis: AxisWindows) -> list[int]:
    """Return the first pixels of all windows, found by walking along the axis."""
    starts, first = [], 0
    while first + axis.size <= axis.length:
        starts.append(first)
        first += axis.stride
    reached = starts[-1] + axis.size if starts else 0
    if axis.edge == "shift" and reached < axis.length:
        starts.append(axis.length - axis.size)
    if axis.edge == "pad":
        # A window with nothing but padding is none.
        while reached < axis.length and first < axis.length:
            starts.append(first)
            reached = first + axis.size
            first += axis.stride
    return starts


def pixels_of(axis: AxisWindows) -> set[int]:
    return {pixel for s in walked(axis) for pixel in range(s, s + axis.size)}


@many
@given(axis_windows(longest=40))
def test_windows_are_those_of_a_walk_along_the_axis(axis):
    starts = axis.starts(range(axis.count)).tolist()
    assert starts == walked(axis)
    assert starts == [axis.start(i) for i in range(axis.count)]
    assert axis.count == len(starts) >= 1
    assert axis.stop == starts[-1] + axis.size


@many
@given(axis_windows(longest=40))
def test_windows_lie_in_bounds_or_stick_out_by_the_stated_padding(axis):
    starts = axis.starts(range(axis.count))
    assert starts.min() == 0
    assert np.all(np.diff(starts) > 0)
    beyond = max(0, int(starts.max()) + axis.size - axis.length)
    assert beyond == axis.padding
    assert axis.edge == "pad" or beyond == 0
    # No window lies wholly outside.
    assert starts.max() < axis.length


@many
@given(axis_windows(longest=40))
def test_the_end_is_covered_or_counted(axis):
    covered = pixels_of(axis)
    beyond_last = axis.length - 1 - max(covered & set(range(axis.length)))
    assert axis.left_out == beyond_last
    if axis.edge == "shift" or (axis.edge == "pad" and axis.stride <= axis.size):
        assert axis.left_out == 0
    if axis.edge != "drop" and axis.stride <= axis.size:
        assert covered >= set(range(axis.length))
    if axis.edge == "drop" and axis.stride <= axis.size:
        assert set(range(axis.length)) - covered == set(
            range(axis.length - axis.left_out, axis.length)
        )


@many
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.sampled_from(EDGES))
def test_the_count_is_the_formula_of_the_documentation(length, size, stride, edge):
    assume(size <= length or edge == "pad")
    axis = AxisWindows(length=length, size=size, stride=stride, edge=edge)
    if edge == "drop":
        assert axis.count == (length - size) // stride + 1
        return
    reaching = max(1, int(np.ceil((length - size) / stride)) + 1)
    # Where windows have gaps between them, the next one may begin past the end.
    inside = int(np.ceil(length / stride))
    assert axis.count == (min(reaching, inside) if edge == "pad" else reaching)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 0}, "length of at least 1 pixel, got 0"),
        ({"size": 0}, "size of at least 1 pixel, got 0"),
        ({"stride": -1}, "stride of at least 1 pixel, got -1"),
        ({"edge": "wrap"}, "'drop', 'shift' or 'pad', not 'wrap'"),
        ({"size": 11}, "windows of 11 pixels do not fit into 10.*edge='pad'"),
        ({"size": 11, "edge": "shift"}, "windows of 11 pixels do not fit into 10"),
    ],
)
def test_what_is_no_window(options, said):
    with pytest.raises(TargetError, match=said):
        AxisWindows(**{"length": 10, "size": 4, "stride": 2, **options})


@pytest.mark.parametrize("tile", [(2,), (2, 2, 2), (0, 1)])
def test_what_is_no_tile(tile):
    axis = AxisWindows(length=4, size=2, stride=2)
    with pytest.raises(TargetError, match=r"along each of 2 axes, got \("):
        WindowGrid(axes=(axis, axis), tile=tile)


@pytest.mark.parametrize("origins", [np.zeros((3, 1)), np.zeros(3), np.zeros((1, 2, 2))])
def test_what_is_no_list_of_windows(origins):
    with pytest.raises(TargetError, match=r"shape \(windows, 2\), got"):
        WindowList(lengths=(4, 4), size=(2, 2), origins=origins.astype(np.intp))


# --- numbering -----------------------------------------------------------------------------------


@many
@given(window_grids())
def test_numbering_is_a_bijection(grid):
    places = grid.places(np.arange(len(grid)))
    everywhere = set(itertools.product(*[range(n) for n in grid.counts]))
    assert {tuple(row) for row in places.tolist()} == everywhere
    assert len(places) == len(everywhere) == len(grid)


@many
@given(window_grids())
def test_windows_are_numbered_tile_by_tile_and_in_c_order_within(grid):
    """The order that the documentation states, written as nested loops."""
    tiles = [range(0, n, t) for n, t in zip(grid.counts, grid.tile, strict=True)]
    listed = [
        place
        for corner in itertools.product(*tiles)
        for place in itertools.product(
            *[
                range(c, min(c + t, n))
                for c, t, n in zip(corner, grid.tile, grid.counts, strict=True)
            ]
        )
    ]
    assert [tuple(row) for row in grid.places(range(len(grid))).tolist()] == listed


@many
@given(window_grids(), st.data())
def test_any_numbers_in_any_order_give_the_same_places(grid, data):
    numbers = data.draw(st.lists(st.integers(0, len(grid) - 1), max_size=12))
    starts = grid.starts(range(len(grid)))
    assert grid.starts(numbers).tolist() == [starts[i].tolist() for i in numbers]
    by_axis = [
        [axis.start(k) for axis, k in zip(grid.axes, place, strict=True)]
        for place in grid.places(range(len(grid))).tolist()
    ]
    assert starts.tolist() == by_axis


@given(window_grids(), st.integers(1, 5))
def test_numbers_outside_are_refused(grid, beyond):
    for number in (-beyond, len(grid) - 1 + beyond):
        with pytest.raises(IndexError, match=f"0 to {len(grid) - 1}"):
            grid.places([0, number])


def test_without_a_tile_the_order_is_that_of_c():
    axes = tuple(AxisWindows(length=n, size=2, stride=2) for n in (4, 6, 10))
    places = WindowGrid(axes=axes).places(range(30))
    assert places.tolist() == np.stack(np.unravel_index(range(30), (2, 3, 5)), axis=1).tolist()


@given(window_lists())
def test_a_list_gives_its_origins_back(windows):
    assert len(windows) == len(windows.origins)
    order = np.arange(len(windows))[::-1]
    assert np.array_equal(windows.starts(order), windows.origins[::-1])
    assert isinstance(windows, Windows)


def test_no_list_of_windows_is_held():
    """A million million windows: numbers become places at once, and take no memory."""
    axis = AxisWindows(length=10_000_064, size=64, stride=1000, edge="shift")
    tracemalloc.start()
    begun = time.perf_counter()
    grid = WindowGrid(axes=(axis,) * 3, tile=(10_001, 16, 16))
    assert len(grid) == 10_001**3
    last = grid.starts([len(grid) - 1])
    took, (_, most) = time.perf_counter() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last.tolist() == [[10_000_000] * 3]
    assert most < 100_000
    assert took < 0.5
    assert len(pickle.dumps(grid)) < 1000
    assert pickle.loads(pickle.dumps(grid)) == grid
    assert isinstance(grid, Windows)


# --- cuts ----------------------------------------------------------------------------------------


@many
@given(st.integers(1, 20).flatmap(cuts))
def test_intervals_follow_each_other_and_hold_their_pixels(axis):
    intervals = [axis.interval(k) for k in range(axis.count)]
    assert intervals[0][0] == axis.start
    assert intervals[-1][1] == axis.stop
    assert all(a[1] == b[0] for a, b in itertools.pairwise(intervals))
    assert all(low < high <= low + axis.largest for low, high in intervals)
    owners = [k for k, (low, high) in enumerate(intervals) for _ in range(low, high)]
    assert axis.numbers(range(axis.stop)).tolist() == owners
    assert [axis.number(pixel) for pixel in range(axis.stop)] == owners


@many
@given(st.integers(1, 20).flatmap(cuts), st.integers(-5, 25), st.integers(0, 12))
def test_covered_intervals_are_those_that_share_pixels(axis, first, size):
    wanted = set(range(first, first + size))
    sharing = [k for k in range(axis.count) if wanted & set(range(*axis.interval(k)))]
    assert list(axis.covered(first, first + size)) == sharing


@many
@given(st.integers(1, 20).flatmap(cuts), st.data())
def test_joined_intervals(axis, data):
    first = data.draw(st.integers(0, axis.count - 1))
    chunks = range(first, data.draw(st.integers(first, axis.count - 1)) + 1)
    n = data.draw(st.integers(1, 5))
    blocks = axis.joined(chunks, n)
    expected = [
        (axis.interval(chunks[i])[0], axis.interval(chunks[min(i + n, len(chunks)) - 1])[1])
        for i in range(0, len(chunks), n)
    ]
    assert [blocks.interval(k) for k in range(blocks.count)] == expected
    places = np.arange(*[expected[0][0], expected[-1][1]])
    owners = [k for k, (low, high) in enumerate(expected) for _ in range(low, high)]
    assert blocks.numbers(places).tolist() == owners


@many
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any))
def test_cuts_of_dask_chunks(chunks):
    axis = Cuts.of(tuple(chunks))
    assert axis.stop == sum(chunks)
    # The numbers must be those of the dask chunks, empty ones included.
    owners = [k for k, n in enumerate(chunks) for _ in range(n)]
    assert axis.numbers(range(axis.stop)).tolist() == owners


@pytest.mark.parametrize("options", [{"stop": 5}, {"stop": 5, "step": 0}, {"stop": 5, "step": -2}])
def test_what_is_no_cut(options):
    with pytest.raises(TargetError, match="at least one pixel"):
        Cuts(**options)
