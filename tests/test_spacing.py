"""Evenly spaced coordinates are known as such in every precision, and others are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfzarr.model.spacing import Spacing, spacing_of

steps = st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6)
lengths = st.integers(2, 300)


@given(st.floats(-1e6, 1e6), steps, lengths)
def test_a_straight_line_is_found_in_float64(origin, step, n):
    found = spacing_of(origin + step * np.arange(n))
    if np.spacing(abs(origin) + abs(step) * n) * 10 > abs(step):
        return  # The line cannot be told from its rounding.
    assert found is not None
    assert found.origin == origin
    assert found.step == pytest.approx(step, rel=1e-3)


@given(st.integers(-180, 180), st.sampled_from([0.25, 0.1, 1 / 3, 0.0083333]), lengths)
def test_rounding_to_float32_is_forgiven(origin, step, n):
    values = (origin - step * np.arange(n)).astype(np.float32)
    found = spacing_of(values)
    assert found is not None
    assert found.step == pytest.approx(-step, rel=1e-2)
    widened = spacing_of(values.astype(np.float64))
    assert widened is not None


@given(st.integers(-1000, 1000), steps, st.integers(3, 100), st.data())
def test_a_point_out_of_line_is_seen(origin, step, n, data):
    values = origin + step * np.arange(n)
    values[data.draw(st.integers(0, n - 1))] += 0.05 * step
    assert spacing_of(values) is None


def test_rounding_to_a_few_decimals_is_forgiven():
    found = spacing_of(np.round(np.arange(100) / 24, 5))
    assert found.step == pytest.approx(1 / 24, rel=1e-4)


def test_rounding_does_not_excuse_everything():
    # Steps of one and two units in the last place.
    assert spacing_of(np.array([2**24, 2**24 + 2, 2**24 + 6], np.float32)) is None


def test_the_step_is_a_round_number_where_that_is_as_good():
    assert spacing_of(np.array([0.0, 0.1, 0.2, 0.3])) == Spacing(origin=0.0, step=0.1)
    assert spacing_of(np.linspace(-90, 90, 721)[::-1]) == Spacing(origin=90.0, step=-0.25)
    narrow = (np.arange(1440) * 0.1).astype(np.float32)
    assert spacing_of(narrow) == Spacing(origin=0.0, step=0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_that_fits_exactly_is_kept(dtype):
    assert spacing_of((np.arange(100) / 2**20).astype(dtype)).step == 2.0**-20


def test_a_step_knows_whether_it_is_time():
    assert spacing_of(np.array(["2024-01-01", "2024-01-02"], "M8[ns]")).timed
    assert not spacing_of(np.array([0, 1])).timed


def test_a_step_of_many_digits_keeps_them():
    step = 0.123456789012345
    assert spacing_of(step * np.arange(1000)).step == pytest.approx(step, rel=1e-15)
    assert spacing_of(np.arange(3) * 0.10000001).step == pytest.approx(0.10000001, rel=1e-15)


@given(
    st.integers(-(2**62), 2**62),
    st.integers(-(2**40), 2**40).filter(bool),
    st.integers(2, 50),
    st.sampled_from(["<i8", ">i8", "<M8[ns]", ">M8[ms]", "m8[s]"]),
)
def test_integers_and_times_are_exact(origin, step, n, dtype):
    numbers = np.array([origin + step * i for i in range(n)])
    values = numbers.astype(dtype[0] + "i8" if dtype[0] in "<>" else "i8").view(dtype)
    found = spacing_of(values)
    assert found.origin == values[0]
    assert found.step == values[1] - values[0]
    assert found.place(values[-1]) == pytest.approx(n - 1)
    if n > 2:
        numbers[-1] += 1
        moved = numbers.astype(dtype[0] + "i8" if dtype[0] in "<>" else "i8").view(dtype)
        assert spacing_of(moved) is None


def test_unsigned_integers_may_descend():
    assert spacing_of(np.array([30, 20, 10], np.uint8)) == Spacing(origin=30, step=-10)
    assert spacing_of(np.array([0, 255], np.uint8)) == Spacing(origin=0, step=255)


@pytest.mark.parametrize(
    "values",
    [
        np.array([], np.float64),
        np.array([1.0]),
        np.array([1.0, 1.0]),
        np.array([3, 3, 3]),
        np.array([[0, 1], [2, 3]]),
        np.array([0.0, np.nan, 2.0]),
        np.array([0.0, np.inf]),
        np.array([1e308, -1e308]),
        np.array([0, 1, 3]),
        np.array([0, 2**63 - 1, -2]),
        np.array([2**63, 0, 2**63], np.uint64),
        np.array(["a", "b"]),
        np.array([False, True]),
        np.array([0, 1j]),
        np.array([1, 2], dtype=object),
        np.array(["2024-01-01", "NaT", "2024-01-03"], "M8[ns]"),
        np.array(["2024-01-01", "2024-01-01"], "M8[ns]"),
        np.array(["2024-01-31", "2024-02-29", "2024-03-31"], "M8[D]"),
    ],
)
def test_what_has_no_spacing(values):
    assert spacing_of(values) is None
