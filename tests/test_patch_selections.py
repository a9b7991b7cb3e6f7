"""A plan of patches as a manifest of selections: saved, opened again, the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import hfzarr
from hfzarr.errors import TargetError
from stores import write_cf, write_image


@pytest.fixture
def image(tmp_path):
    path = str(tmp_path / "cells.zarr")
    write_image(path, labels=[])
    return path


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_plan_survives_a_file(image, tmp_path, level, suffix):
    ds = xr.open_dataset(image, engine="hfzarr", level=level)
    patches = ds.hfzarr.patches({"y": 5, "x": 6}, overlap={"x": 2}, edge="shift")
    hfzarr.selections(ds, patches).save(tmp_path / f"plan.{suffix}")
    again = xr.open_dataset(str(tmp_path / f"plan.{suffix}"), engine="hfzarr")
    np.testing.assert_array_equal(again.image.values, patches.image.values)
    np.testing.assert_array_equal(again.y_start.values, patches.y_start.values)


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    edge=st.sampled_from(["drop", "shift"]),
)
def test_any_plan(tmp_path_factory, shape, size, stride, edge):
    folder = str(tmp_path_factory.mktemp("plan") / "a.zarr")
    values = np.arange(np.prod(shape)).reshape(shape)
    zarr.create_array(folder, data=values, dimension_names=["y", "x"])
    ds = xr.open_dataset(folder, engine="hfzarr")
    window = {dim: min(n, m) for dim, n, m in zip("yx", size, shape, strict=True)}
    patches = ds.hfzarr.patches(window, stride=dict(zip("yx", stride, strict=True)), edge=edge)
    rows = [row["patch"].read() for row in hfzarr.selections(ds, patches)]
    np.testing.assert_array_equal(rows, patches["a"].values)


def test_drawn_patches_and_some_of_them(image):
    ds = xr.open_dataset(image, engine="hfzarr")
    drawn = ds.hfzarr.random_patches(6, {"y": 4, "x": 4}, seed=0)
    for some in (drawn, drawn.isel(patch=[4, 1])):
        rows = [row["patch"].read() for row in hfzarr.selections(ds, some)]
        np.testing.assert_array_equal(rows, some.image.values)


def test_one_variable_of_a_group(tmp_path):
    path = str(tmp_path / "climate.zarr")
    write_cf(path)
    ds = xr.open_dataset(path, engine="hfzarr")
    patches = ds.hfzarr.patches({"lat": 2, "lon": 3})
    manifest = hfzarr.selections(ds, patches, "air")
    found = np.stack([row["patch"].to_xarray()["air"].values for row in manifest])
    np.testing.assert_array_equal(found, patches["air"].values)
    with pytest.raises(TargetError, match="variable="):
        hfzarr.selections(ds, patches)


def test_what_makes_no_selections(image):
    ds = xr.open_dataset(image, engine="hfzarr")
    patches = ds.hfzarr.patches({"y": 5, "x": 5})
    memory = zarr.storage.MemoryStore()
    zarr.create_array(memory, name="a", data=np.eye(6), dimension_names=["y", "x"])
    held = xr.open_dataset(memory, engine="hfzarr", group="a")
    for dataset, cut, wanted in (
        (ds, ds, "dim 'patch'"),
        (ds.isel(x=slice(0, 9)), patches, "as engine='hfzarr' opened it"),
        (ds, ds.hfzarr.patches({"y": 7}, edge="pad"), "selection lies within"),
        (held, held.hfzarr.patches({"y": 2}), "in memory"),
    ):
        with pytest.raises(TargetError, match=wanted):
            hfzarr.selections(dataset, cut)


def test_nothing_is_read(image, monkeypatch):
    from hfzarr.run.read import ArrayReader

    ds = xr.open_dataset(image, engine="hfzarr")
    monkeypatch.setattr(ArrayReader, "read", lambda *_: pytest.fail("pixels were read"))
    assert len(hfzarr.selections(ds, ds.hfzarr.patches({"y": 4, "x": 4}))) > 3
