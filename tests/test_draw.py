"""Drawn windows: exactly the places that have enough foreground, each as likely as any other."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfzarr.errors import TargetError
from hfzarr.plan import draw
from hfzarr.plan.draw import candidates, draw_in_mask, draw_windows
from hfzarr.plan.mask import MASK_LIMIT, MaskAxis, MaskGrid

quick = settings(deadline=None, max_examples=200)
HALF = Fraction(1, 2)


def seeded(seed=0):
    return np.random.default_rng(seed)


@st.composite
def arrays(draw, max_ndim=3, longest=9):
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=max_ndim))
    return tuple(lengths), tuple(draw(st.integers(1, length)) for length in lengths)


def pyramid(factor, round_up=False):
    def place(length):
        pixels = -(-length // factor) if round_up else max(1, length // factor)
        return pixels, Fraction(factor - 1, 2), Fraction(factor)

    return place


def finer(factor):
    return lambda length: (length * factor, Fraction(1 - factor, 2 * factor), Fraction(1, factor))


RESOLUTIONS = [pyramid(1), finer(2), finer(4)] + [
    pyramid(factor, round_up) for factor in (2, 3, 4) for round_up in (False, True)
]


@st.composite
def masks(draw, lengths):
    """A mask of its own resolution along each axis, cropped, shifted or reversed along some."""
    axes = draw(st.permutations(range(len(lengths))))
    places, shape = [], []
    for axis in axes[: draw(st.integers(1, len(axes)))]:
        pixels, offset, ratio = draw(st.sampled_from(RESOLUTIONS))(lengths[axis])
        if draw(st.booleans()):
            offset += draw(st.integers(-4, 4)) * HALF
            pixels = draw(st.integers(1, pixels))
        if draw(st.booleans()):
            offset, ratio = offset + ratio * (pixels - 1), -ratio
        places.append(MaskAxis(axis=axis, offset=float(offset), ratio=float(ratio)))
        shape.append(pixels)
    rng = seeded(draw(st.integers(0, 2**32)))
    foreground = rng.random(shape) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    return MaskGrid(foreground=foreground, axes=tuple(places))


@st.composite
def problems(draw):
    lengths, size = draw(arrays())
    least = draw(st.sampled_from([1e-9, 0.1, 1 / 3, 0.5, 2 / 3, 5 / 7, 0.9, 1.0]))
    return lengths, size, draw(masks(lengths)), least


def pixels_along(axis, pixels, length):
    """Return the centre and the number of each mask pixel; None for background around it."""
    offset, ratio = Fraction(axis.offset), Fraction(axis.ratio)
    step = abs(ratio)
    found = sorted((offset + ratio * k, k) for k in range(pixels))
    while found[0][0] - step - step / 2 >= -HALF:
        found.insert(0, (found[0][0] - step, None))
    while found[-1][0] + step + step / 2 <= length - HALF:
        found.append((found[-1][0] + step, None))
    return found


def covered(found, start, size):
    """Return the mask pixels of a window along one axis, by the rule as it is written."""
    inside = [k for centre, k in found if start - HALF <= centre < start + size - HALF]
    middle = start + Fraction(size - 1, 2)
    return inside or [min(found, key=lambda pixel: (abs(pixel[0] - middle), pixel[0]))[1]]


def parts_by_hand(lengths, size, grid):
    """Return the part of foreground at every place of a window, as exact fractions."""
    by_axis = [
        pixels_along(axis, pixels, lengths[axis.axis])
        for axis, pixels in zip(grid.axes, grid.foreground.shape, strict=True)
    ]
    parts = {}
    for origin in itertools.product(
        *(range(n - s + 1) for n, s in zip(lengths, size, strict=True))
    ):
        rows = [
            covered(found, origin[axis.axis], size[axis.axis])
            for axis, found in zip(grid.axes, by_axis, strict=True)
        ]
        pixels = list(itertools.product(*rows))
        inside = sum(bool(grid.foreground[pixel]) for pixel in pixels if None not in pixel)
        parts[origin] = Fraction(inside, len(pixels))
    return parts


def places(found):
    return [tuple(row) for row in found.starts(range(len(found))).tolist()]


# Anywhere


@quick
@given(arrays(longest=10**6), st.integers(1, 50), st.integers(0, 2**32))
def test_drawn_windows_lie_in_the_array(array, n, seed):
    lengths, size = array
    windows = draw_windows(n, lengths, size, rng=seeded(seed))
    assert (len(windows), windows.lengths, windows.size) == (n, lengths, size)
    assert windows.origins.dtype == np.intp
    assert (windows.origins >= 0).all()
    assert (windows.origins + size <= lengths).all()


def test_every_place_is_drawn_as_often():
    counts = Counter(
        map(tuple, draw_windows(24_000, (6, 5), (3, 1), rng=seeded()).origins.tolist())
    )
    assert set(counts) == set(itertools.product(range(4), range(5)))
    check_even(counts, 24_000)


def check_even(counts, n):
    """Chi-square within five standard deviations of its mean."""
    wanted = n / len(counts)
    chi_square = sum((count - wanted) ** 2 / wanted for count in counts.values())
    freedom = len(counts) - 1
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


# In a mask


@quick
@given(problems())
def test_candidates_are_the_places_with_enough_foreground_once_each(problem):
    lengths, size, grid, least = problem
    parts = parts_by_hand(lengths, size, grid)
    wanted = Fraction(least).limit_denominator(10**9)
    expected = sorted(origin for origin, part in parts.items() if part and part >= wanted)
    if not expected:
        with pytest.raises(TargetError, match=r"at best: lower `least`|has none where windows fit"):
            candidates(lengths, size, grid, least=least)
        return
    assert sorted(places(candidates(lengths, size, grid, least=least))) == expected


@settings(quick, max_examples=50)
@given(problems())
def test_what_is_drawn_has_enough_foreground(problem):
    lengths, size, grid, _ = problem
    parts = parts_by_hand(lengths, size, grid)
    best = float(max(parts.values()))
    if best == 0:
        return
    windows = draw_in_mask(30, lengths, size, grid, least=best, rng=seeded())
    assert windows.origins.dtype == np.intp
    assert {float(parts[tuple(origin)]) for origin in windows.origins.tolist()} == {best}


def test_every_candidate_is_drawn_as_often():
    # Coarser by 4 along one axis, so that runs of different lengths must be weighted.
    axes = (MaskAxis(axis=0, offset=1.5, ratio=4.0), MaskAxis(axis=1))
    foreground = np.array([[1, 1, 0, 0, 1], [0, 0, 1, 1, 0], [1, 0, 0, 1, 1]], bool)
    grid = MaskGrid(foreground=foreground, axes=axes)
    parts = parts_by_hand((11, 5), (3, 2), grid)
    counts = Counter(
        map(
            tuple,
            draw_in_mask(30_000, (11, 5), (3, 2), grid, least=0.5, rng=seeded()).origins.tolist(),
        )
    )
    assert set(counts) == {origin for origin, part in parts.items() if part >= HALF}
    assert len(counts) < len(parts)
    check_even(counts, 30_000)


@pytest.mark.parametrize("block", [1, 7])
def test_counting_in_blocks_changes_nothing(monkeypatch, block):
    grid = MaskGrid(
        foreground=seeded(3).random((6, 7, 8)) < 0.4, axes=tuple(MaskAxis(axis=i) for i in range(3))
    )
    whole = candidates((6, 7, 8), (2, 3, 2), grid, least=0.4)
    monkeypatch.setattr(draw, "_BLOCK", block)
    parted = candidates((6, 7, 8), (2, 3, 2), grid, least=0.4)
    assert len(parted) > 10
    assert places(parted) == places(whole)


def test_large_windows_are_counted_right():
    # More than 255 and 65,535 pixels in a window: the running totals overflow their type.
    foreground = np.ones((70, 80, 90), bool)
    foreground[0, 0, 0] = False
    grid = MaskGrid(foreground=foreground, axes=tuple(MaskAxis(axis=i) for i in range(3)))
    found = candidates((70, 80, 90), (69, 79, 89), grid, least=1.0)
    assert sorted(places(found)) == sorted(itertools.product(range(2), repeat=3))[1:]
    assert len(candidates((70, 80, 90), (69, 79, 89), grid, least=0.99999)) == 8


def test_rounded_positions_decide_nothing():
    exact = MaskGrid(
        foreground=seeded().random(25) < 0.5, axes=(MaskAxis(axis=0, offset=1.5, ratio=4.0),)
    )
    wanted = places(candidates((100,), (8,), exact, least=0.5))
    for off in (-1e-9, 1e-9):
        axis = MaskAxis(axis=0, offset=1.5 + off, ratio=4.0 - off)
        near = MaskGrid(foreground=exact.foreground, axes=(axis,))
        assert places(candidates((100,), (8,), near, least=0.5)) == wanted


def test_axes_that_the_mask_lacks_are_drawn_whole():
    grid = MaskGrid(foreground=np.arange(6) == 4, axes=(MaskAxis(axis=1),))
    found = candidates((3, 6, 4), (2, 1, 3), grid, least=1.0)
    assert sorted(places(found)) == [(z, 4, x) for z in range(2) for x in range(2)]


def test_a_part_of_an_array_may_have_a_mask_and_the_rest_is_background():
    grid = MaskGrid(foreground=np.ones(4, bool), axes=(MaskAxis(axis=0, offset=3.0),))
    assert places(candidates((20,), (4,), grid, least=1.0)) == [(3,)]
    assert places(candidates((20,), (4,), grid, least=0.5)) == [(1,), (2,), (3,), (4,), (5,)]


def test_pixels_that_a_pyramid_cut_off_are_no_background():
    # 7 pixels make a level of 3: the seventh has no mask pixel, and no room for one.
    grid = MaskGrid(foreground=np.ones(3, bool), axes=(MaskAxis(axis=0, offset=0.5, ratio=2.0),))
    assert len(candidates((7,), (1,), grid, least=1.0)) == 7


def test_a_huge_array_with_a_coarse_mask_is_cheap():
    axes = tuple(MaskAxis(axis=i, offset=2**12 - 0.5, ratio=2.0**13) for i in range(3))
    grid = MaskGrid(foreground=np.ones((4, 4, 4), bool), axes=axes)
    found = candidates((2**15,) * 3, (64,) * 3, grid, least=0.5)
    assert len(found) == (2**15 - 63) ** 3
    windows = draw_in_mask(100, (2**15,) * 3, (64,) * 3, grid, least=0.5, rng=seeded())
    assert (windows.origins >= 0).all()
    assert (windows.origins <= 2**15 - 64).all()
    assert (windows.origins > 2**14).any(axis=0).all()


# Seeds


def both_kinds(n, seed):
    grid = MaskGrid(foreground=np.arange(40) % 5 > 1, axes=(MaskAxis(axis=1),))
    yield draw_windows(n, (30, 40), (4, 5), rng=seeded(seed)).origins.tolist()
    yield draw_in_mask(n, (30, 40), (4, 5), grid, least=0.5, rng=seeded(seed)).origins.tolist()


def test_the_same_seed_draws_the_same_windows():
    assert list(both_kinds(20, 7)) == list(both_kinds(20, 7))
    for some, others in zip(both_kinds(20, 7), both_kinds(20, 8), strict=True):
        assert some != others


def test_more_windows_begin_with_the_fewer():
    for few, many in zip(both_kinds(9, 7), both_kinds(200, 7), strict=True):
        assert many[:9] == few


FREE = [[2, 27], [17, 15], [11, 30], [2, 25]]
MASKED = [[2, 14], [20, 32], [17, 24], [11, 30]]


def test_a_seed_means_the_same_in_every_version():
    free, masked = both_kinds(4, 42)
    assert free == FREE
    assert masked == MASKED


# Errors


def line(n=10, **place):
    return MaskGrid(foreground=np.arange(n) >= 6, axes=(MaskAxis(axis=0, **place),))


@pytest.mark.parametrize("n", [0, -1, 2.5, True, None])
def test_a_number_of_windows_is_positive(n):
    with pytest.raises(TargetError, match="at least 1, got"):
        draw_windows(n, (10,), (4,), rng=seeded())
    with pytest.raises(TargetError, match="at least 1, got"):
        draw_in_mask(n, (10,), (4,), line(), least=0.5, rng=seeded())


@pytest.mark.parametrize("size", [(4, 11), (4, 0)])
def test_a_window_fits_into_the_array(size):
    grid = line()
    for make in (
        lambda: draw_windows(1, (10, 10), size, rng=seeded()),
        lambda: candidates((10, 10), size, grid, least=0.5),
    ):
        with pytest.raises(TargetError, match=f"1 to 10 pixels along axis 1, got {size[1]}"):
            make()


@pytest.mark.parametrize(("lengths", "size"), [((), ()), ((4,), (2, 2))])
def test_a_window_has_the_axes_of_the_array(lengths, size):
    with pytest.raises(TargetError, match="a size for each of"):
        draw_windows(1, lengths, size, rng=seeded())


@pytest.mark.parametrize("least", [0, -0.1, 1.01, float("nan")])
def test_the_least_foreground_is_a_part(least):
    with pytest.raises(TargetError, match="over 0 and up to 1, got"):
        candidates((10,), (4,), line(), least=least)


def test_too_little_foreground_says_what_there_is_and_that_works():
    grid = MaskGrid(foreground=np.arange(9) % 3 == 0, axes=(MaskAxis(axis=0),))
    with pytest.raises(TargetError, match="7 pixels with at least 0") as error:
        candidates((9,), (7,), grid, least=0.9)
    best = float(re.search(r"got (\S+) at best", str(error.value))[1])
    assert best == 3 / 7
    assert places(candidates((9,), (7,), grid, least=best)) == [(0,)]


def test_the_best_is_that_of_the_whole_mask(monkeypatch):
    monkeypatch.setattr(draw, "_BLOCK", 1)
    foreground = np.zeros((5, 5), bool)
    foreground[1, 1:4] = True
    grid = MaskGrid(foreground=foreground, axes=(MaskAxis(axis=0), MaskAxis(axis=1)))
    with pytest.raises(TargetError, match=r"got 0\.75 at best"):
        candidates((5, 5), (1, 4), grid, least=1.0)


def test_no_foreground_at_all_is_said():
    grid = MaskGrid(foreground=np.zeros(9, bool), axes=(MaskAxis(axis=0),))
    with pytest.raises(TargetError, match="check the mask"):
        candidates((9,), (7,), grid, least=0.1)


def test_masks_that_are_too_large_are_refused(monkeypatch):
    assert MASK_LIMIT == 2**27
    large = np.broadcast_to(np.True_, (2**14, 2**14))
    with pytest.raises(TargetError, match="give a coarser level"):
        MaskGrid(foreground=large, axes=(MaskAxis(axis=0), MaskAxis(axis=1)))
    monkeypatch.setattr(draw, "MASK_LIMIT", 5)
    with pytest.raises(TargetError, match="up to 5 places, got 7: give a coarser level"):
        candidates((10,), (4,), line(), least=0.5)


def test_more_places_than_an_integer_counts_are_refused():
    with pytest.raises(TargetError, match="fewer than"):
        candidates((2**40, 2**40), (1, 1), line(offset=5.0, ratio=2.0**37), least=0.5)


@pytest.mark.parametrize(
    ("foreground", "axes", "words"),
    [
        (np.zeros(3), (MaskAxis(axis=0),), "boolean mask, got float64"),
        (np.zeros(0, bool), (MaskAxis(axis=0),), "1 to"),
        (np.ones(3, bool), (), "one place for each"),
        (np.ones((3, 3), bool), (MaskAxis(axis=1), MaskAxis(axis=1)), r"got axes \[1, 1\]"),
    ],
)
def test_what_is_no_mask(foreground, axes, words):
    with pytest.raises(TargetError, match=words):
        MaskGrid(foreground=foreground, axes=axes)


@pytest.mark.parametrize("place", [{"ratio": 0.0}, {"ratio": np.inf}, {"offset": np.nan}])
def test_what_is_no_place(place):
    with pytest.raises(TargetError, match="a ratio other than 0"):
        MaskAxis(axis=0, **place)


@pytest.mark.parametrize("axis", [-1, 1])
def test_an_axis_that_the_array_has_not(axis):
    grid = MaskGrid(foreground=np.ones(3, bool), axes=(MaskAxis(axis=axis),))
    with pytest.raises(TargetError, match="axes of 0 to 0 for a mask"):
        candidates((10,), (4,), grid, least=0.5)


def test_numbers_of_places_are_checked():
    found = candidates((10,), (4,), line(), least=0.5)
    assert found.starts([]).shape == (0, 1)
    for number in (-1, len(found)):
        with pytest.raises(IndexError, match=f"0 to {len(found) - 1}"):
            found.starts([number])
