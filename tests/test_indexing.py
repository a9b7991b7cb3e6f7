"""Lazily opened images and plates are indexed as NumPy would index the whole of them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from zarr.storage import MemoryStore

from stores import DIMS, pixels, write_image, write_plate


def open_one(target, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


@pytest.fixture(scope="module")
def image():
    return write_image(MemoryStore(), shards=(2, 4, 32, 32))


@pytest.fixture(scope="module")
def plate():
    return write_plate(MemoryStore())


POINTS = {
    "y": xr.DataArray([3, 0, 31], dims="p"),
    "x": xr.DataArray([47, 1, 1], dims="p"),
}
INDEXERS = {
    "integers": {"z": -1, "y": 5},
    "numpy integers": {"z": np.int32(2), "y": np.uint8(5)},
    "slices": {"y": slice(3, 20), "x": slice(-9, None)},
    "steps": {"y": slice(3, None, 5), "x": slice(1, 40, 13)},
    "backwards": {"y": slice(None, None, -1), "x": slice(40, 2, -3)},
    "empty": {"x": slice(5, 5)},
    "fancy": {"y": [3, 3, 0], "x": np.array([-1, 5])},
    "mask": {"x": np.arange(48) % 5 == 0},
    "nothing": {"y": np.zeros(32, bool)},
    "points": POINTS,
    "points and slice": {**POINTS, "z": slice(None, None, 2)},
    "points in 2-D": {"x": xr.DataArray([[1, 2], [30, 4]], dims=("p", "q")), "y": [1, 2]},
}


@pytest.mark.parametrize("indexers", INDEXERS.values(), ids=INDEXERS)
@pytest.mark.parametrize("kind", ["image", "plate"])
def test_indexing(image, plate, kind, indexers):
    """Lazily indexed, once or twice, it is what NumPy gives of the whole."""
    store = {"image": image, "plate": plate}[kind]
    expected = open_one(store).image.load()
    xr.testing.assert_identical(
        open_one(store).image.isel(indexers).load(), expected.isel(indexers)
    )
    before = {"c": 1, "y": slice(None, None, -1), "x": slice(0, 48)}
    xr.testing.assert_identical(
        open_one(store).image.isel(before).isel(indexers).load(),
        expected.isel(before).isel(indexers),
    )
    xr.testing.assert_identical(
        open_one(store, chunks={}).image.isel(indexers).compute(), expected.isel(indexers)
    )


@pytest.mark.parametrize(
    "indexers",
    [
        {"well": 1},
        {"well": [2, 0], "field": 1},
        {"well": slice(None, None, -1), "field": slice(0, 1)},
        {"well": -1, "field": -1, "c": 0, "z": 0, "y": 0, "x": 0},
        {"well": np.array([True, False, True]), "x": [4, 1]},
        {"well": xr.DataArray([0, 2, 2], dims="p"), "field": xr.DataArray([1, 0, 1], dims="p")},
        {"well": xr.DataArray([0, 2], dims="p"), "x": xr.DataArray([1, 40], dims="p")},
        {"well": slice(3, 3)},
        {"field": []},
    ],
)
def test_indexing_a_plate(plate, indexers):
    expected = open_one(plate).load().isel(indexers)
    xr.testing.assert_identical(open_one(plate).isel(indexers).load(), expected)
    xr.testing.assert_identical(open_one(plate, chunks={}).isel(indexers).compute(), expected)


def test_computing(image):
    lazy = open_one(image, chunks={}).image
    whole = xr.DataArray(pixels(), dims=DIMS)
    np.testing.assert_allclose(lazy.mean(("y", "x")), whole.mean(("y", "x")))
    np.testing.assert_array_equal(lazy.coarsen(y=4).max(), whole.coarsen(y=4).max())
    np.testing.assert_array_equal(lazy.max("z").argmax("x"), whole.max("z").argmax("x"))
