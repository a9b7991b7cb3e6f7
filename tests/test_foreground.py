"""A mask lies where its coordinates say, whatever its resolution; what is unclear is refused."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from hfzarr.errors import TargetError
from hfzarr.faces import foreground
from hfzarr.faces.foreground import resolve_mask
from hfzarr.plan.draw import candidates
from hfzarr.plan.mask import MaskAxis, MaskGrid


def image(coords=None, **sizes):
    data = xr.DataArray(np.zeros(tuple(sizes.values())), dims=tuple(sizes), coords=coords)
    return data.to_dataset(name="image")


def along(values, dim="x", units=None, pixels=None):
    """A mask along one dim, at these coordinates; True in its second half."""
    pixels = np.arange(len(values)) >= len(values) // 2 if pixels is None else pixels
    attrs = {} if units is None else {"units": units}
    return xr.DataArray(pixels, dims=dim, coords={dim: (dim, values, attrs)})


def axis_of(dataset, mask):
    (axis,) = resolve_mask(dataset, mask, ("x",)).axes
    return axis


# Where a mask lies


@given(
    st.floats(-1e4, 1e4),
    st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3),
    st.integers(2, 40),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.sampled_from([np.float64, np.float32]),
    st.booleans(),
)
def test_a_level_of_a_pyramid_lies_on_its_pixels(origin, step, pixels, factor, dtype, backwards):
    full = origin + step * np.arange(pixels * factor)
    coarse = full.reshape(pixels, factor).mean(axis=1)[:: -1 if backwards else 1]
    if np.spacing(dtype(np.abs(full).max())) * 1000 > abs(step):
        return  # Rounding moves the pixels by too much.
    mask = along(coarse.astype(dtype), pixels=np.arange(pixels) % 2 == 0)
    found = resolve_mask(image({"x": full.astype(dtype)}, x=len(full)), mask, ("x",))
    (axis,) = found.axes
    ratio = -factor if backwards else factor
    first = (factor - 1) / 2 + (backwards and factor * (pixels - 1))
    assert (axis.ratio, axis.offset) == pytest.approx((ratio, first), rel=1e-2, abs=2e-2)
    # Rounding has no say in which windows are chosen.
    exact = MaskGrid(
        foreground=mask.values, axes=(MaskAxis(axis=0, offset=float(first), ratio=float(ratio)),)
    )
    for size in {1, factor, min(2 * factor + 1, len(full))}:
        some, others = (
            candidates((len(full),), (size,), grid, least=0.3) for grid in (found, exact)
        )
        assert some.starts(range(len(some))).tolist() == others.starts(range(len(others))).tolist()


def test_the_same_coordinates_are_the_same_pixels_however_they_are_spaced():
    for values in ([1.0, 2.0, 4.0], ["a", "b", "c"], [0.1, 0.2, 0.3]):
        assert axis_of(image({"x": values}, x=3), along(values)) == MaskAxis(axis=0)


def test_a_mask_may_cover_a_part():
    axis = axis_of(image({"x": np.arange(10.0)}, x=10), along([4.0, 5.0, 6.0]))
    assert axis == MaskAxis(axis=0, offset=4.0)


def test_integer_coordinates_place_a_mask():
    axis = axis_of(image({"x": np.arange(100, 0, -10)}, x=10), along([20, 40, 60]))
    assert axis == MaskAxis(axis=0, offset=8.0, ratio=-2.0)


def test_times_place_a_mask():
    hours = np.datetime64("2024-01-01", "ns") + np.arange(48) * np.timedelta64(1, "h")
    days = along(hours[[12, 36]])
    assert axis_of(image({"x": hours}, x=48), days) == MaskAxis(axis=0, offset=12.0, ratio=24.0)


@pytest.mark.parametrize("with_coordinate", ["mask", "dataset", "neither"])
def test_without_coordinates_pixels_are_counted(with_coordinate):
    mask = along([5.0, 6.0, 7.0])
    if with_coordinate != "mask":
        mask = mask.drop_vars("x")
    coords = {"x": [1.0, 2.0, 3.0]} if with_coordinate == "dataset" else None
    assert axis_of(image(coords, x=3), mask) == MaskAxis(axis=0)
    with pytest.raises(TargetError, match=r"4 pixels along 'x', got 3, and .* has no coordinate"):
        axis_of(image(coords and {"x": [1.0, 2.0, 3.0, 4.0]}, x=4), mask)


def test_dims_may_come_in_any_order_and_be_lacking():
    dataset = image(t=2, z=3, y=4, x=5)
    mask = xr.DataArray(np.zeros((5, 3), bool), dims=("x", "z"))
    found = resolve_mask(dataset, mask, ("z", "y", "x"))
    assert found.foreground.shape == (5, 3)
    assert [axis.axis for axis in found.axes] == [2, 0]


def test_a_dim_of_length_1_that_is_not_windowed_is_squeezed():
    mask = xr.DataArray(np.ones((1, 3), bool), dims=("c", "x"), coords={"c": ["dapi"]})
    assert resolve_mask(image(x=3), mask, ("x",)).foreground.tolist() == [True] * 3


# What a mask may be


def test_kinds_of_masks_say_the_same():
    labels = along(np.arange(4.0), pixels=np.array([0, 3, -1, 0], np.int16))
    dataset = image({"x": np.arange(4.0)}, x=4).assign(labels=labels)
    tree = xr.DataTree.from_dict({"/labels": labels.to_dataset(name="nuclei")})
    kinds = [
        labels,
        labels != 0,
        labels.astype(np.uint8),
        labels.chunk({"x": 2}),
        labels.values,
        labels.values != 0,
        labels.to_dataset(name="nuclei"),
        tree["labels"],
        lambda ds: ds["labels"],
        lambda ds: ds["labels"].values != 0,
        lambda ds: ds[["labels"]],
    ]
    for where in kinds:
        found = resolve_mask(dataset, where, ("x",))
        assert found.foreground.dtype == np.bool_
        assert found.foreground.tolist() == [False, True, True, False]
        assert found.axes == (MaskAxis(axis=0),)


def test_the_mask_is_read_once():
    reads = []

    def read(block):
        reads.append(block.shape)
        return block

    data = da.zeros((6, 4), dtype=np.uint8, chunks=(3, 4))
    lazy = data.map_blocks(read, dtype=data.dtype, meta=np.empty((0, 0), data.dtype))
    mask = xr.DataArray(lazy, dims=("y", "x"))
    resolve_mask(image(y=6, x=4), mask, ("y", "x"))
    assert reads == [(3, 4), (3, 4)]


# What is refused, before a pixel is read


def unread(shape, dims, dtype=bool, coords=None):
    def fail(block):
        raise RuntimeError("a pixel was read")

    data = da.zeros(shape, dtype=dtype)
    meta = np.empty((0,) * len(shape), dtype)
    return xr.DataArray(data.map_blocks(fail, dtype=dtype, meta=meta), dims=dims, coords=coords)


def test_reading_an_unread_mask_fails():
    with pytest.raises(RuntimeError, match="a pixel was read"):
        resolve_mask(image(x=3), unread((3,), ("x",)), ("x",))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (
            unread((4,), "x", float),
            "got float64: compare it with something, as in where=image > 500",
        ),
        (unread((4,), "x", "M8[ns]"), "got datetime64"),
        (unread((4, 2, 3), ("x", "c", "t")), r"got 'c', 't' too: reduce it, as in mask.any\('c'\)"),
        (unread((1,), "c"), "got none of them"),
        (unread((), ()), "got none of them"),
        (unread((5,), "x"), "wanted a mask of 4 pixels along 'x', got 5"),
        (np.ones(5, bool), r"shape \(4,\) for the dims 'x', got \(5,\)"),
        (np.ones((4, 1), bool), r"got \(4, 1\)"),
        (np.ones(4), "got float64"),
        ([True] * 4, "got list"),
        (None, "got NoneType"),
        (lambda ds: None, "got a function that returned NoneType"),
        (xr.Dataset(), "got none: choose one"),
        (image(x=4).assign(other=1), "got 'image', 'other': choose one"),
        (xr.DataTree(), "got none: choose one"),
    ],
)
def test_what_is_no_mask(mask, words):
    with pytest.raises(TargetError, match=words):
        resolve_mask(image(x=4), mask, ("x",))


@pytest.mark.parametrize(
    ("values", "of_mask", "words"),
    [
        (np.arange(4.0), [1.0, 2.0, 4.0], "along 'x' of the mask: bring the mask"),
        ([1.0, 2.0, 4.0, 5.0], [1.0, 2.0], "along 'x' of the Dataset: bring the mask"),
        (list("abcd"), list("bcde"), "along 'x' of the Dataset"),
        (np.arange(4.0), [1.0], r"got 1: .* give mask.squeeze\('x', drop=True\)"),
        (np.arange(4.0), [4.0, 5.0], "one over 3.5 to 5.5 by its coordinate: it lies outside"),
        (np.arange(4.0), [-1.0, -2.0], "one over -2.5 to -0.5"),
        (
            np.arange(4.0),
            np.array(["2024-01-01", "2024-01-02"], "M8[ns]"),
            "got float64 in the Dataset and datetime64",
        ),
        (
            np.array(["2024-01-01", "2024-01-02"], "M8[ns]"),
            np.array([0, 1], "m8[ns]"),
            "and timedelta64",
        ),
    ],
)
def test_where_a_mask_lies_must_be_clear(values, of_mask, words):
    mask = unread((len(of_mask),), "x", coords={"x": of_mask})
    with pytest.raises(TargetError, match=words):
        resolve_mask(image({"x": values}, x=len(values)), mask, ("x",))


def test_units_must_agree_where_both_are_known():
    dataset = image({"x": ("x", np.arange(4.0), {"units": "micrometer"})}, x=4)
    for units in (None, "micrometer"):
        assert axis_of(dataset, along([0.5, 2.5], units=units)).ratio == 2
    with pytest.raises(TargetError, match="'x' in 'micrometer', got 'nanometer': convert"):
        axis_of(dataset, along([0.5, 2.5], units="nanometer"))


def test_a_large_mask_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(foreground, "MASK_LIMIT", 3)
    with pytest.raises(TargetError, match="at most 3 pixels, got 4: give a coarser level"):
        resolve_mask(image(x=4), unread((4,), "x"), ("x",))
